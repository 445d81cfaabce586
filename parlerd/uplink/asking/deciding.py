"""What the person decides who owns a room that lives elsewhere: who comes in and who goes, by which keys, in which
role, and who owns the room.

In a sealed room most of that goes along with a record, which says who can read what follows. Where somebody wrote there
meanwhile, the record no longer follows the newest one: what was decided is then decided and signed again, a few times.

Not here: making records (`turning`), agents without a key (`granting`). Above: `errands`. Below: `room_home`.
Invariant: nothing is signed that the mirror's rules refuse.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core.decision import Decision
from parlerd.core.epoch_record import record_digest
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, By
from parlerd.core.room import Room
from parlerd.core.statements import Claim, DecisionStatement, Statement
from parlerd.engine.authors import Attested
from parlerd.operations import types as t
from parlerd.uplink.asking.room_home import DECIDE_PAUSE_S, DECIDE_TRIES, RoomHome, is_in, state_of
from parlerd.uplink.exchanging import Admitted
from parlerd.uplink.turning import asks_by, decision_digest

log = logging.getLogger(__name__)


async def decide(home: RoomHome, command: c.DecideRequest, by: By) -> None:
    """Decide at the room's home. Another newcomer may have taken the name meanwhile, of which the mirror hears in a
    moment: the decision then names another handle, and is signed again."""
    admitted: Admitted | None = None
    if home.is_sealed and command.admit:
        await home.exchanges.prepare(home.room)
        admitted = home.exchanges.admitted(home.mirror, home.mirror.state.requests[command.request])
    for left in reversed(range(DECIDE_TRIES)):
        room = home.mirror
        decision = home.decide(command, by)
        signed = home.attest(decision.statements[0], by)
        epoch = await _epoch_for(home, room, decision.statements[0], signed)
        params = t.DecideAtRoom(room=home.room, statement=signed.body, signature=signed.signature, epoch=epoch)
        if admitted is not None:
            params = msgspec.structs.replace(
                params,
                knock=admitted.knock.body,
                knock_signature=admitted.knock.signature,
                granted=admitted.seal(*_in_force(room, epoch)),
            )
        try:
            await home.link.call("link.decide", params, by=by.actor)
            break
        except Refused as error:
            if error.code not in ("statement_refused", "stale_epoch") or not left:
                raise
        await trio.sleep(DECIDE_PAUSE_S)
    wanted = "approved" if command.admit else "denied"
    await home.shown(
        lambda room: (
            state_of(room, command.request) == wanted
            and (epoch is None or room.state.requests[command.request].agent in room.state.epochs.roster)
        )
    )


async def _epoch_for(home: RoomHome, room: Room, decision: Statement | None, signed: Attested) -> t.EpochTold | None:
    """The record that goes along with a decision to admit to a sealed room."""
    if not isinstance(decision, DecisionStatement) or not decision.admit:
        return None
    newcomer = Claim(decision.agent, decision.principal, decision.handle)
    asks = asks_by(room.state, room.state.requests[decision.request])
    return await _record(home, room, admits=newcomer, asks=asks, decisions=[decision_digest(signed)])


async def _record(home: RoomHome, room: Room, **changes: Any) -> t.EpochTold | None:
    """The record that goes along with what the room's person decides. Where this home cannot make one, the decision
    counts all the same, and what it changes waits."""
    if not home.is_sealed:
        return None
    await home.heard_all()
    try:
        return await home.turning.following(room, **changes)
    except Refused as error:
        log.warning("no epoch of room %s begins with what was decided: %s", home.room, error.code)
        return None


async def revoke(home: RoomHome, command: c.RevokeKey, agent: AgentId) -> None:
    """End a session key."""
    ref = home.mirror.state.keys[command.revoke].ref
    await home.link.call("link.revoke", t.RevokeKeyOfRoom(room=home.room, ref=ref), by=agent)
    await home.shown(lambda room: room.state.keys[command.revoke].revoked)


async def mint(home: RoomHome, command: c.MintKey, decision: Decision, by: By) -> None:
    """Make a session key."""
    signed = home.attest(decision.statements[0], by)
    terms = command.terms
    await home.link.call(
        "link.mint",
        t.MintAtRoom(
            room=home.room,
            session_key=home.spelled(terms, is_sealed=home.is_sealed).key,
            terms=signed.body,
            terms_signature=signed.signature,
        ),
        by=by.actor,
    )
    await home.shown(lambda room: command.mint in room.state.keys)


async def change_owner(home: RoomHome, command: c.ChangeOwner, decision: Decision, by: By) -> None:
    """Hand the room over, as `decision` says."""
    for left in reversed(range(DECIDE_TRIES)):
        signed = home.attest(decision.statements[0], by)
        params = t.TransferRoomThere(room=home.room, statement=signed.body, signature=signed.signature)
        try:
            await home.link.call("link.transfer", params, by=by.actor)
            break
        except Refused as error:
            # A record came in meanwhile, of which the mirror hears in a moment.
            if error.code != "stale_epoch" or not left:
                raise
        await trio.sleep(DECIDE_PAUSE_S)
        decision = home.decide(command, by)
    await home.shown(lambda room: room.state.owner == decision.answer)


async def name_successor(home: RoomHome, command: c.NameSuccessor, agent: AgentId) -> None:
    """Make the record that says who may go on without the owner."""
    for left in reversed(range(DECIDE_TRIES)):
        await home.heard_all()
        epoch = await home.turning.following(home.mirror, names=command.person)
        if epoch is None:
            break
        try:
            await home.link.call("link.epoch", t.EpochAtRoom(room=home.room, epoch=epoch), by=agent)
            break
        except Refused as error:
            if error.code != "stale_epoch" or not left:
                raise
        await trio.sleep(DECIDE_PAUSE_S)
    await home.shown(lambda room: room.state.epochs.successor == command.person)


async def kick(home: RoomHome, who: AgentId, agent: AgentId) -> None:
    """Put an agent out."""
    for left in reversed(range(DECIDE_TRIES)):
        room = home.mirror
        epoch = await _record(home, room, puts_out=who)
        if epoch is None and home.is_sealed:
            # Only a record says that it was put out, and did not leave: it would come back by any open key.
            raise Refused("not_sealed_in")
        try:
            await home.link.call("link.kick", t.KickFromRoom(room=home.room, agent=who, epoch=epoch), by=agent)
            break
        except Refused as error:
            if error.code != "stale_epoch" or not left:
                raise
        await trio.sleep(DECIDE_PAUSE_S)
    await home.shown(lambda room: not is_in(room, who) and (epoch is None or who not in room.state.epochs.roster))


async def give_role(home: RoomHome, who: AgentId, command: c.GiveRole, agent: AgentId) -> None:
    """Say what an agent is in the room."""
    params = t.RoleInRoom(room=home.room, agent=who, role=command.role, lock=command.locks)
    await home.link.call("link.role", params, by=agent)
    wanted = command.role, command.locks

    def holds(room: Room) -> bool:
        member = room.state.members.get(who)
        return member is not None and (member.role, member.locked) == wanted

    await home.shown(holds)


def _in_force(room: Room, told: t.EpochTold | None) -> tuple[int, bytes]:
    """The number and the hash of the record that is in force once a decision counts."""
    state = room.state.epochs
    return (state.number, state.record) if told is None else (state.number + 1, record_digest(told.record))
