"""Everything that is asked of a room's home but a message: which command leads to what.

Not here: each of the ways (`opening`, `knocking`, `deciding`, `tasks`, `gating`). Above: `line`. Below: those.
Invariants: what the mirror refuses is asked of no other home; what leads to no event there is not asked either, but
where the room's home alone knows.
"""

from __future__ import annotations

from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, Position
from parlerd.engine.deciding import reply_target
from parlerd.engine.submissions import Settled, Submission
from parlerd.identity.epochs import Made
from parlerd.operations import types as t
from parlerd.uplink.asking import deciding, knocking, tasks
from parlerd.uplink.asking.gating import gate
from parlerd.uplink.asking.opening import open_room, seal_opening
from parlerd.uplink.asking.room_home import SHOWN_S, RoomHome, is_in

_FIRST_FACTS: Final = 8
"""How many facts of a mirror hold everything that opening a room leads to."""


async def run(home: RoomHome, submission: Submission) -> None:
    """Do what a command asks for, and say what became of it. Raises `ParlerError`."""
    command, by = submission.command, submission.by
    if isinstance(command, c.GateMessage) and command.envelope.reply_to is not None:
        traced = await home.desk.library.trace(command.envelope.reply_to)
        target = None if traced is None or traced.room != home.room else reply_target(traced.header)
        command = msgspec.structs.replace(command, reply=target)
    if isinstance(command, c.Knock) and home.is_sealed:
        # Whoever waits for the owner's home knocks again and again, also while the mirror is about to be told that an
        # agent left and came again.
        await home.link.catch_up(home.room)
    begun: Made | None = None
    if isinstance(command, c.OpenRoom) and command.opening.sealed is not msgspec.UNSET:
        command, begun = await seal_opening(home, command, by)
    decision = home.decide(command, by)
    if isinstance(command, c.RenewTask):
        await tasks.renew(home, command, by.actor)
    elif isinstance(command, c.NameSuccessor) and decision.answer == "names":
        await deciding.name_successor(home, command, by.actor)
    elif isinstance(command, c.ClaimTask) and (
        decision.events or (decision.answer == "none" and command.idempotency_key is not None)
    ):
        # Where nothing is open, the same request may have been taken before: then its task is held, and only the
        # room's home knows by which request.
        submission.settled = await tasks.claim(home, command, by)
        submission.finish()
        return
    elif isinstance(command, c.GateMessage):
        submission.settled = await gate(home, command, by)
        submission.finish()
        return
    elif decision.events:
        match command:
            case c.OpenRoom():
                decision = await open_room(home, submission, command, decision, begun)
            case c.Knock():
                decision = await knocking.knock(home, command, decision, by)
            case c.WithdrawKnock():
                await knocking.withdraw(home, command, by.actor)
            case c.DecideRequest():
                await deciding.decide(home, command, by)
            case c.RevokeKey():
                await deciding.revoke(home, command, by.actor)
            case c.MintKey():
                await deciding.mint(home, command, decision, by)
            case c.ChangeOwner():
                await deciding.change_owner(home, command, decision, by)
            case c.Kick():
                await deciding.kick(home, AgentId(decision.answer), by.actor)
            case c.GiveRole():
                await deciding.give_role(home, AgentId(decision.answer), command, by.actor)
            case c.ReleaseTask():
                await tasks.release(home, command, by.actor)
            case c.CloseRoom() | c.Leave():
                await _close(home, by.actor, only_leaves=isinstance(command, c.Leave))
            case _:
                raise Refused("unknown_operation")
    facts: tuple[e.Header, ...] = ()
    if isinstance(command, c.OpenRoom) and decision.events:
        facts = tuple(await home.desk.library.few_facts(home.room, Position(0), _FIRST_FACTS))
    submission.settled = Settled(decision, facts, decision.seq)
    submission.finish()


async def _close(home: RoomHome, agent: AgentId, *, only_leaves: bool) -> None:
    """End the room, or leave it. What the agent said before goes first: afterwards the room takes nothing of it."""
    await home.link.ready()
    if not await home.link.lane(home.room, agent).emptied(SHOWN_S):
        raise Refused("home_unreachable", home=home.name)
    params = t.LeaveRoom(room=home.room, agent=agent, only_leaves=only_leaves)
    await home.link.call("link.close", params, by=agent)
    await home.shown(lambda room: room.state.closed or not is_in(room, agent))
