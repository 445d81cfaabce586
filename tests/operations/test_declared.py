"""What operations declare, against what they do.

That no operation gives a code or leaves a fact that it does not declare is checked in every test (tests/support/truth).
Here every code that several operations declare alike is led to at each of them, so that none is declared in vain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import msgspec
import pytest

from mcp_server import resources
from parlerd.core import commands as c
from parlerd.core.errors import ERRORS, ParlerError
from parlerd.core.model import HOME_ROOM, MAX_TEXT, Position, RoomId
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from tests.support import truth
from tests.support.engine import Party, Served, engine_world, gather, run

# -- which room is meant -----------------------------------------------------------------------------------

Where = tuple[Party, str | None]
IN_ROOM: Final[Mapping[str, Callable[[str | None], t.Params]]] = {
    "session.close": lambda room: t.CloseSession(room=room),
    "message.send": lambda room: t.Send(text="x", room=room),
    "message.recv": lambda room: t.Recv(room=room),
    "message.why": lambda room: t.Why(id="#1", room=room),
    "handoff.give": lambda room: t.GiveHandoff(next="x", room=room),
    "rooms.roster": lambda room: t.Roster(room=room),
    "room.verify": lambda room: t.CompareRoom(room=room),
    "room.watch": lambda room: t.WatchRoom(room=room),
}


async def a_room_elsewhere(served: Served) -> Where:
    return await served.agent("alice"), "elsewhere"


async def a_name_of_two_rooms(served: Served) -> Where:
    alice, bob, carol = [await served.agent(name) for name in ("alice", "bob", "carol")]
    for owner in (alice, bob):
        await served.admit(await owner.open("same"), carol)
    return carol, "same"


async def nowhere(served: Served) -> Where:
    return await served.agent("alice"), None


async def at_a_door(served: Served) -> Where:
    alice, bob = await served.agent("alice"), await served.agent("bob")
    await bob.join((await alice.open()).session_key)
    return bob, None


async def declined(served: Served) -> Where:
    bob, room = await at_a_door(served)
    await (await served.person()).deny("bob")
    return bob, room


NO_ROOM: Final[Mapping[str, Callable[[Served], Awaitable[Where]]]] = {
    "no_such_room": a_room_elsewhere,
    "ambiguous_name": a_name_of_two_rooms,
    "no_active_session": nowhere,
    "join_pending": at_a_door,
    "join_denied": declined,
}


async def answer(served: Served, party: Party, op: str, params: t.Params) -> str:
    """The code that an operation is refused with."""
    if not OPERATIONS[op].stream:
        return (await party.refused(op, params)).code
    with pytest.raises(ParlerError) as refused:
        async with served.engine.stream(op, params, party.caller) as items:
            await anext(aiter(items))
    return refused.value.code


@pytest.mark.parametrize("op", IN_ROOM)
@pytest.mark.parametrize("code", NO_ROOM)
def test_what_is_about_a_room_says_why_it_can_mean_none(op: str, code: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            party, room = await NO_ROOM[code](served)
            assert await answer(served, party, op, IN_ROOM[op](room)) == code
            assert code in OPERATIONS[op].errors

    run(main)


@pytest.mark.parametrize("code", ["no_such_room", "ambiguous_name"])
def test_an_acknowledgement_names_its_room(code: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            party, room = await NO_ROOM[code](served)
            assert await answer(served, party, "message.commit", t.Commit(room=str(room), cursor="0")) == code

    run(main)


def test_a_turn_is_not_given_in_a_closed_room() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _ = await served.room("alice", "bob")
            await alice.close()
            refused = await alice.refused("handoff.give", t.GiveHandoff(next="x", room="auth-redesign"))
            assert refused.code == "room_closed"

    run(main)


@pytest.mark.parametrize("op", ["message.send", "handoff.give", "session.open"])
def test_a_key_that_was_used_for_another_request_is_refused(op: str) -> None:
    def params(text: str) -> t.Params:
        match op:
            case "message.send":
                return t.Send(text=text, idempotency_key="k1")
            case "handoff.give":
                return t.GiveHandoff(next=text, idempotency_key="k1")
            case _:
                return t.OpenSession(topic=text, idempotency_key="k1")

    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await alice.call(op, params("one"))
            assert (await alice.refused(op, params("another"))).code == "idempotency_conflict"

    run(main)


# -- who knocks, and who decides ---------------------------------------------------------------------------


class Scene(NamedTuple):
    """Who decides on whom, in which room; `code` is what the newcomer shows."""

    party: Party
    agent: str = "bob"
    room: str | None = None
    code: str | None = None


DECIDING: Final[Mapping[str, Callable[[Scene], t.Params]]] = {
    "session.approve": lambda it: t.DecideJoin(agent=it.agent, room=it.room),
    "session.deny": lambda it: t.DecideJoin(agent=it.agent, room=it.room),
    "window.decide": lambda it: t.DecideByForm(agent=it.agent, room=it.room, join_code=it.code),
    "window.find_request": lambda it: t.FindRequest(agent=it.agent, room=it.room),
}
LISTING: Final[Mapping[str, Callable[[Scene], t.Params]]] = {
    "session.requests": lambda it: t.SessionRequests(room=it.room),
    "rooms.requests": lambda it: t.SessionRequests(room=it.room),
}


async def owner_and_decider(served: Served, op: str) -> tuple[Party, Party]:
    """Who opens a room, and who decides there: a window by its form, or else the person at a shell."""
    if OPERATIONS[op].plane == "window":
        window = await served.window("w")
        return window, window
    return await served.agent("alice"), await served.person()


async def in_another_room(served: Served, op: str) -> Scene:
    _, decider = await owner_and_decider(served, op)
    return Scene(decider, room="elsewhere")


async def as_a_guest(served: Served, op: str) -> Scene:
    alice = await served.agent("alice")
    guest = await (served.window("w") if OPERATIONS[op].plane == "window" else served.agent("carol"))
    await served.admit(await alice.open(), guest)
    return Scene(guest, room="auth-redesign")


async def about_nobody(served: Served, op: str) -> Scene:
    owner, decider = await owner_and_decider(served, op)
    await owner.open()
    return Scene(decider, agent="ghost")


async def about_one_at_two_doors(served: Served, op: str) -> Scene:
    owner, decider = await owner_and_decider(served, op)
    bob = await served.agent("bob")
    for topic in ("one", "two"):
        await bob.join((await owner.open(topic)).session_key)
    return Scene(decider)


async def about_one_that_was_let_in(served: Served, op: str) -> Scene:
    owner, decider = await owner_and_decider(served, op)
    opened, bob = await owner.open(), await served.agent("bob")
    code = (await bob.join(opened.session_key)).join_code
    await (await served.person()).approve("bob")
    return Scene(decider, code=code)


async def in_a_closed_room(served: Served, op: str) -> Scene:
    owner, decider = await owner_and_decider(served, op)
    opened, bob = await owner.open(), await served.agent("bob")
    code = (await bob.join(opened.session_key)).join_code
    await owner.close()
    return Scene(decider, room=opened.room, code=code)


async def under_a_name_of_two_rooms(served: Served, op: str) -> Scene:
    for name in ("alice", "carol"):
        await (await served.agent(name)).open("same")
    return Scene(await served.person(), room="same")


Staged = Callable[[Served, str], Awaitable[Scene]]
UNDECIDED: Final[Mapping[str, Staged]] = {
    "no_such_room": in_another_room,
    "not_owner": as_a_guest,
    "no_such_request": about_nobody,
    "ambiguous_name": about_one_at_two_doors,
    "already_decided": about_one_that_was_let_in,
    "room_closed": in_a_closed_room,
}
UNLISTED: Final[Mapping[str, Staged]] = {
    "no_such_room": in_another_room,
    "not_owner": as_a_guest,
    "ambiguous_name": under_a_name_of_two_rooms,
}


@pytest.mark.parametrize(
    ("op", "code"),
    [
        *((op, code) for op in DECIDING for code in UNDECIDED if code in OPERATIONS[op].errors),
        *((op, code) for op in LISTING for code in UNLISTED),
    ],
)
def test_what_is_about_those_who_knock_says_why_it_cannot_be(op: str, code: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            stage = (UNDECIDED if op in DECIDING else UNLISTED)[code]
            scene = await stage(served, op)
            params = {**DECIDING, **LISTING}[op](scene)
            assert await answer(served, scene.party, op, params) == code

    run(main)


def test_whoever_guesses_at_keys_to_revoke_is_slowed_down() -> None:
    async def main() -> None:
        async with engine_world() as served:
            mallory = await served.window("w")
            guesses = [t.RevokeSessionKey(session_key=f"ZZZZZ{n:X}ZZ") for n in range(11)]
            answers = [await answer(served, mallory, "session.revoke", guess) for guess in guesses]
            assert set(answers) == {"unknown_key", "throttled"}

    run(main)


# -- the check itself --------------------------------------------------------------------------------------


def test_a_code_or_a_fact_that_is_not_declared_is_noticed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await alice.send("x")
            await alice.refused("message.send", t.Send(text=""))

    with pytest.MonkeyPatch.context() as patch, truth.watching(patch) as seen:
        run(main)
        assert seen.lies() == []
        silent = msgspec.structs.replace(OPERATIONS["message.send"], errors=(), facts=())
        patch.setitem(OPERATIONS, "message.send", silent)
        assert seen.lies() == ["message.send left message_posted", "message.send raised invalid_param"]


def test_an_operation_that_lets_somebody_in_leaves_the_facts_that_it_declares() -> None:
    """`session.approve` makes the session the active one of whoever it lets in."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await bob.join(opened.session_key)
            who = (await bob.whoami()).id
            person = await served.person()
            await person.whoami()
            store = served.world.store
            before = store.head(HOME_ROOM).position
            await person.approve(who)
            left = store.facts(HOME_ROOM, Position(before), 10)
            names = {type(header.event).__struct_config__.tag for header in left}
            assert names == {"session_activated"}
            assert names <= set(OPERATIONS["session.approve"].facts)

    run(main)


def test_a_wait_that_ends_with_the_answer_names_the_session_where_the_decision_did_not() -> None:
    """A daemon that dies between the decision and the word that the session is the active one leaves that to a read."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await bob.join(opened.session_key)
            desk = served.engine._desk
            me = await desk.me(alice.caller)
            (request,) = (await desk.rooms.get(RoomId(opened.room))).aggregate.pending()
            admit = c.DecideRequest(
                operation="session.approve", request=request.id, admit=True, proof="cli", principal=me.principal
            )

            async def decide() -> None:
                await (await desk.rooms.get(RoomId(opened.room))).submit(admit, desk.by(alice.caller, me))

            await gather(partial(bob.recv, wait=60), decide)
            (room,) = await bob.rooms()
            assert room.active

    run(main)


def test_what_is_declared_of_a_plane_is_not_declared_again() -> None:
    for operation in OPERATIONS.values():
        assert not set(operation.errors) & set(t.OF_PLANE[operation.plane]), operation.name
        assert operation.plane not in t.ACTING or not set(operation.facts) & set(t.OF_AGENT), operation.name
        assert len(operation.errors) == len(set(operation.errors)), operation.name
        assert operation.every_error <= set(ERRORS)


def test_the_guide_names_the_errors_that_asking_the_person_gives() -> None:
    after = resources.guide().partition("\nparler_approve(")[2]
    assert "no_form" in after
    assert "form_undecided" in after


def test_the_largest_message_that_a_call_may_send_is_within_what_a_call_takes() -> None:
    agents = tuple(f"U{number:055}" for number in range(t.MAX_LIST))
    send = t.Send(
        text="x" * MAX_TEXT,
        data="y" * (MAX_TEXT - 5),
        to=agents,
        visible_to=agents,
        room="r" * 256,
        reply_to="m" * 256,
        idempotency_key="k" * 128,
    )
    assert MAX_TEXT * 2 < len(msgspec.msgpack.encode(send)) <= t.MAX_PARAMS
