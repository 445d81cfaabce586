"""An agent of this home comes into a room that lives elsewhere.

    the room is not sealed           a knock, with the session key that was typed
    the agent is named by a direct   a knock, with the agent's sealing key: nothing has to be shown to anybody
      room that is sealed
    the room is a sealed queue of    a knock, with the record by which the agent reads
      this home's person
    the room is sealed               a key exchange with the owner's home

The answer comes once the mirror shows how the agent stands.

Not here: the exchange (`exchanging`), who lets somebody in (`deciding`). Above: `errands`. Below: `room_home`.
Invariant: the secret part of a key leaves this machine in no form but the exchange.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.approvals import UNDECIDED, opened_for, standing_request
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.lifecycle import require_sound
from parlerd.core.membership import REQUESTER
from parlerd.core.model import AgentId, By, KeyId, Millis, RequestId, agent_name
from parlerd.core.room import Room
from parlerd.core.statements import Claim
from parlerd.engine.joining import knock_over, not_let_in
from parlerd.engine.key_text import Spelled
from parlerd.identity import codes
from parlerd.identity.codes import TypedKey
from parlerd.operations import types as t
from parlerd.uplink.asking.room_home import DECIDE_PAUSE_S, DECIDE_TRIES, SHOWN_S, RoomHome, is_in, state_of

TOLD_S: Final = 2.0
"""How long a mirror may take to show a knock that a link was told of as it came."""
CONFIRM_S: Final = 5.0
"""How long a knock at a sealed room waits for the owner's home, which takes some steps with this one."""
OWNER_MS: Final = 60_000
"""How lately the owner's person has to have been heard of for a knock to wait for that."""
MAX_CODE: Final = 8
"""Characters of a code at most, whatever a relay says: the code is shown as it is."""


async def knock(home: RoomHome, command: c.Knock, decision: Decision, by: By) -> Decision:
    """Knock at the room's home. The answer comes when the mirror shows how the agent stands there."""
    state = home.mirror.state
    known = state.keys.get(command.key_id)
    is_named = known is not None and by.actor in opened_for(state.lifecycle, (known,))
    if home.is_sealed and is_named:
        return await _come_in(home, command, by, decision)
    if home.is_sealed and decision.answer == "joined":
        async with home.bringing:
            return await _bring_in_own(home, command, by)
    if home.is_sealed:
        return await _begin_exchange(home, command, by)
    session_key = _session_key(home, command.key_id)
    if session_key is None and not is_named:
        raise Refused("unknown_key")
    knock = home.attest(decision.statements[0], by)
    params = t.KnockAtRoom(
        # The key of a direct room is typed by nobody: its terms name the agent.
        session_key="" if session_key is None else session_key.key,
        statement=knock.body,
        signature=knock.signature,
        role=command.role,
    )
    answer = await home.link.call("link.knock", params, by=by.actor)
    assert isinstance(answer, t.Knocked)
    if answer.request and answer.join_code:
        with suppress(Refused):
            # What is no code is not shown.
            home.doors.note_code(RequestId(answer.request), codes.normalise(answer.join_code)[:MAX_CODE])
    await _told_of_knock(home, command, by, answer)
    return Decision(answer=answer.status)


async def withdraw(home: RoomHome, command: c.WithdrawKnock, agent: AgentId) -> None:
    """Knock no more."""
    params = t.WithdrawAtRoom(room=home.room, agent=agent, request=command.request)
    await home.link.call("link.withdraw", params, by=agent)
    await home.shown(lambda room: state_of(room, command.request) != "pending")


async def _told_of_knock(home: RoomHome, command: c.Knock, by: By, answer: t.Knocked) -> None:
    """Wait until the mirror shows how an agent stands that knocked."""
    comes_in, id = answer.status in ("joined", "member"), RequestId(answer.request)

    def holds(room: Room) -> bool:
        if home.is_sealed and id:
            # An earlier exchange of the agent with this key may have failed.
            return id in room.state.requests
        return is_in(room, by.actor) if comes_in else _has_knocked(room, by.actor, command.key_id)

    if not (home.link.is_following(home.room) and await home.link.mirrors.until(home.room, holds, TOLD_S)):
        # An older knock is told when a link begins to follow a room, to a link over which its agent speaks then.
        await home.link.follow(home.room)
    # Of an agent that left and comes again, the mirror may be told first that it was in before.
    await home.link.told_all(home.room, SHOWN_S)
    await home.shown(holds)


async def _come_in(home: RoomHome, command: c.Knock, by: By, decision: Decision) -> Decision:
    """Come into a sealed direct room that was opened for this agent. Nobody has to find out whether it has a
    secret, because the room's terms name it. It comes with the key by which the record in force holds it, where
    that is here: then it reads at once. With another one it waits for the owner's machine."""
    try:
        answer = await _knock_as_named(home, command, by, decision)
    except Refused as error:
        if (error.code, error.details.get("what")) != ("statement_refused", "counter"):
            raise
        await home.secrets.renew(home.id, by.actor)
        answer = await _knock_as_named(home, command, by, decision)
    await _told_of_knock(home, command, by, answer)
    return Decision(answer=answer.status)


async def _knock_as_named(home: RoomHome, command: c.Knock, by: By, decision: Decision) -> t.Knocked:
    """Knock with the sealing key by which the record in force holds the agent, where that key is here."""
    find = t.FindKey(room=home.room, agent=by.actor, unseals=True)
    found = await home.link.call("link.find", find, by=by.actor)
    assert isinstance(found, t.FoundKey)
    key = await home.secrets.told_key(home.id, by.actor, found.counter)
    knock = home.attest(decision.statements[0], by)
    params = t.KnockAtRoom(
        session_key="",
        statement=knock.body,
        signature=knock.signature,
        role=command.role,
        sealing_key=key.body,
        sealing_key_signature=key.signature,
    )
    answer = await home.link.call("link.knock", params, by=by.actor)
    assert isinstance(answer, t.Knocked)
    return answer


async def _bring_in_own(home: RoomHome, command: c.Knock, by: By) -> Decision:
    """Bring an agent of this home into a sealed queue of its person. This home makes the record by which the agent
    reads, so nothing has to be shown to anybody. The answer comes when the mirror holds that record. Whom a record
    put out, the person decides about, as about everybody else."""
    await home.heard_all()
    if await home.turning.was_put_out(home.mirror, by.actor, by.principal):
        return await _begin_exchange(home, command, by)
    for left in reversed(range(DECIDE_TRIES)):
        room = home.mirror
        decision = home.decide(command, by)
        joined = decision.events[0] if decision.events else None
        session_key = home.own_key(command.key_id)
        if not isinstance(joined, e.MemberJoined) or session_key is None:
            return decision
        knock = home.attest(decision.statements[0], by)
        key = await home.secrets.told_key(home.id, by.actor)
        claim, asks = Claim(by.actor, by.principal, joined.handle), joined.role == REQUESTER
        params = t.KnockAtRoom(
            session_key=session_key.key,
            statement=knock.body,
            signature=knock.signature,
            role=command.role,
            sealing_key=key.body,
            sealing_key_signature=key.signature,
            epoch=await home.turning.following(room, admits=claim, asks=asks, own=key),
        )
        try:
            await home.link.call("link.knock", params, by=by.actor)
            break
        except Refused as error:
            what = error.details.get("what")
            if not left or error.code not in ("statement_refused", "stale_epoch"):
                raise
            if (error.code, what) == ("statement_refused", "counter"):
                await home.secrets.renew(home.id, by.actor)
        await trio.sleep(DECIDE_PAUSE_S)
    await home.link.follow(home.room)
    await home.link.told_all(home.room, SHOWN_S)
    await home.shown(lambda room: is_in(room, by.actor) and not room.state.members[by.actor].waits)
    return Decision(answer="joined")


async def _begin_exchange(home: RoomHome, command: c.Knock, by: By) -> Decision:
    """Begin to come into a sealed room. The answer comes once the owner's home knows that the agent has the key or,
    where it does not answer soon, without that."""
    session_key = _session_key(home, command.key_id)
    if session_key is None or not session_key.secret:
        raise Refused("unknown_key")
    calls = await home.link.ready()
    if "link.exchange" not in calls.welcome.operations:
        raise Refused("relay_older", op="link.exchange")
    try:
        answer = await _ask_in(home, command, by, session_key)
    except Refused as error:
        if (error.code, error.details.get("what")) != ("statement_refused", "counter"):
            raise
        await home.secrets.renew(home.id, by.actor)
        answer = await _ask_in(home, command, by, session_key)
    await _told_of_knock(home, command, by, answer)
    if answer.status == "pending":
        home.doors.note_heard(home.room, by.actor, Millis(answer.heard_at))
        is_owner_there = abs(answer.heard_at - home.desk.now_at(home.id)) < OWNER_MS
        await _exchanged(home, by.actor, CONFIRM_S if is_owner_there else 0.0)
        key = home.mirror.state.keys[command.key_id]
        lets_in = not key.gated or by.actor in key.preapproved
        # The owner's home lets in by itself whom the key admits without asking.
        if lets_in and is_owner_there and await _comes_in(home, by.actor):
            return Decision(answer="joined")
    return Decision(answer=answer.status)


async def _ask_in(home: RoomHome, command: c.Knock, by: By, session_key: TypedKey | Spelled) -> t.Knocked:
    """Knock with the first step of a key exchange."""
    key = await home.secrets.told_key(home.id, by.actor)
    name = agent_name(command.name)
    card, share = await home.exchanges.begin(
        home.id, home.room, by, route=session_key.key, secret=session_key.secret, name=name, key=key
    )
    params = t.KnockAtRoom(
        session_key=session_key.key,
        statement=card.body,
        signature=card.signature,
        role=command.role,
        sealing_key=key.body,
        sealing_key_signature=key.signature,
        share=share,
    )
    try:
        answer = await home.link.call("link.knock", params, by=by.actor)
    except Refused as error:
        if not error.spec.retryable:
            await home.exchanges.give_up(home.room, share)
        raise
    assert isinstance(answer, t.Knocked)
    return answer


async def _exchanged(home: RoomHome, agent: AgentId, seconds: float) -> None:
    """Wait until both ends of an agent's exchange know that the other has the key, for so many seconds at most.
    Raises `Refused(unknown_key)` where the owner's home found that it has not."""
    listen = home.desk.notifier.listen(topics.decision(home.room, agent))
    with listen as waiter, trio.move_on_after(seconds):
        while True:
            waiter.clear()
            state = (await home.quiet()).state
            request = standing_request(state.requests, agent)
            is_over = request is None or not home.exchanges.is_under_way(home.room, request)
            if is_over or state.alarm is not None:
                break
            await waiter.wait()
    require_sound((await home.quiet()).state.lifecycle)
    request = standing_request((await home.quiet()).state.requests, agent)
    if request is not None and home.exchanges.has_failed(home.room, request):
        raise not_let_in()
    if request is not None and request.state in UNDECIDED:
        raise knock_over(request.state)


async def _comes_in(home: RoomHome, agent: AgentId) -> bool:
    """Whether an agent that the owner's home need not ask anybody about is let in, now or soon."""
    listen = home.desk.notifier.listen(topics.decision(home.room, agent), topics.life(home.room))
    with listen as waiter, trio.move_on_after(CONFIRM_S):
        while True:
            waiter.clear()
            room = await home.quiet()
            request = standing_request(room.state.requests, agent)
            if request is None or home.exchanges.is_under_way(home.room, request):
                return False
            if home.exchanges.is_over(home.room, request) and is_in(room, agent):
                break
            await waiter.wait()
    # Of an agent that left and comes again, the mirror may be told first that it was in before.
    await home.link.told_all(home.room, SHOWN_S)
    return is_in(await home.quiet(), agent)


def _session_key(home: RoomHome, id: KeyId) -> TypedKey | Spelled | None:
    """The session key with which an agent knocks: the one that was typed or, at a room of this home's person, the one
    that this home spells."""
    typed = home.doors.typed(home.id, id)
    return home.own_key(id) if typed is None else typed


def _has_knocked(room: Room, agent: AgentId, key: KeyId) -> bool:
    request = standing_request(room.state.requests, agent)
    return request is not None and request.key_id == key
