"""What is said where two agents woke each other too often, and who lets them go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
import pytest
import trio

from parlerd.core.loops import WAKES_AN_HOUR, WAKES_OF_PAIR
from parlerd.core.model import MAX_WAKES_OF_PAIR
from parlerd.engine.callers import PeerProcess
from parlerd.operations import types as t
from tests.support.engine import Party, Served, engine_world, run, settle

AGENTS = ("ann", "bob")


async def both(served: Served) -> tuple[list[Party], list[Party]]:
    """The windows of the two, and the hooks beside them."""
    of = {"host": "claude-code"}
    windows = [await served.connect("mcp", window=f"w{name}", conversation=name, as_name=name, **of) for name in AGENTS]
    return windows, [await served.connect("hook", conversation=name, **of) for name in AGENTS]


async def stopped(served: Served) -> tuple[list[Party], list[Party], str, str]:
    """Ann and Bob, windows that answered each other until neither was woken, with a message of Ann's that Bob was not
    woken for; their hooks, that message, and the room."""
    windows, hooks = await both(served)
    opened = await windows[0].open("talk", "")
    await served.admit(opened, windows[1])
    await served.acknowledge(windows[1])
    last, me = (await windows[0].send("shall we?")).id, 1
    while await wakes(hooks[me]):
        await windows[me].recv()
        await served.acknowledge(windows[me])
        last, me = (await windows[me].send("and you?", reply_to=last)).id, 1 - me
    assert me == 1
    return windows, hooks, last, str(opened.room)


async def wakes(hook: Party, *, wait: float = 0) -> bool:
    return (await hook.ask("wake.check", t.WakeCheck(turn=True, wait_ms=int(wait * 1000)), t.Waiting)).wake


async def let_go_on(who: Party, room: str | None = None, message: str = "") -> t.ContinuedRoom:
    return await who.ask("room.continue", t.ContinueRoom(room=room, message=message), t.ContinuedRoom)


async def refuses_agents(served: Served, ann: Party, hook: Party, op: str, params: t.Params) -> None:
    """Nobody but the person at a terminal of their own may do this."""
    assert (await ann.refused(op, params)).code == "person_only"
    assert (await hook.refused(op, params)).code == "person_only"
    for peer in (PeerProcess(pid=1, agent_host="codex"), PeerProcess(pid=1, terminal=True, editor="vscode")):
        assert (await (await served.connect(peer=peer)).refused(op, params)).code == "needs_person"


async def wakes_when(hook: Party, act: Callable[[], Awaitable[object]]) -> None:
    """Who waits is woken by what the person does ten seconds later, and not before."""

    async def later() -> None:
        await settle()
        await trio.sleep(10)
        await act()

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        assert await wakes(hook, wait=50)
    assert 10 <= trio.current_time() - start < 20


async def bound(who: Party, room: str | None, turns: int | Literal["default"] | None) -> t.RoomTurns:
    return await who.ask("room.turns", t.TurnsInRoom(room=room, turns=turns), t.RoomTurns)


def test_where_a_message_got_to_says_that_it_wakes_nobody_until_it_is_read() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (ann, bob), _, last, _ = await stopped(served)
            why = await ann.ask("message.why", t.Why(id=last), t.WhyResult)
            assert [(each.name, each.held) for each in why.readers] == [("bob", WAKES_OF_PAIR)]
            fresh = await ann.send("another matter")
            why = await ann.ask("message.why", t.Why(id=fresh.id), t.WhyResult)
            assert [isinstance(each.held, int) for each in why.readers] == [False]
            await bob.recv()
            why = await ann.ask("message.why", t.Why(id=last), t.WhyResult)
            assert [isinstance(each.held, int) for each in why.readers] == [False]

    run(main)


def test_both_windows_are_told_once_with_their_next_answer_and_nobody_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            cat = await served.window("wcat", as_name="cat")
            await cat.whoami()
            windows, _, _, room = await stopped(served)
            for window, other in zip(windows, reversed(AGENTS), strict=True):
                line = await served.notice(window)
                assert f"messages of you and '{other}' in a conversation of 'talk' wake neither of you" in line
                assert f"`parler room continue {room}`" in line
                assert "wake neither" not in await served.notice(window)
            assert await served.notice(cat) == ""

    run(main)


def test_doctor_names_the_room_and_what_the_person_does() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (ann, _), _, _, room = await stopped(served)
            found = await ann.ask("daemon.check", t.CheckStore(), t.CheckList)
            (check,) = [one for one in found.checks if one.name == "wakes"]
            assert not check.ok
            assert f"{room}: " in check.detail
            assert str(WAKES_OF_PAIR) in check.detail
            assert check.fix.endswith(f"parler room continue {room}")
            await let_go_on(await served.person(), room)
            found = await ann.ask("daemon.check", t.CheckStore(), t.CheckList)
            assert [one for one in found.checks if one.name == "wakes"] == []

    run(main)


def test_only_the_person_lets_them_go_on() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (ann, _), hooks, _, room = await stopped(served)
            await refuses_agents(served, ann, hooks[1], "room.continue", t.ContinueRoom(room=room))
            assert not await wakes(hooks[1])
            done = await let_go_on(await served.person(), room)
            assert (done.status, done.name, done.was_paused) == ("continued", "talk", False)
            assert [({pair.one, pair.other}, pair.turns) for pair in done.pairs] == [({"ann", "bob"}, WAKES_OF_PAIR)]
            assert await wakes(hooks[1])

    run(main)


def test_the_person_lets_one_conversation_go_on_by_any_message_of_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (ann, _), hooks, last, room = await stopped(served)
            other = await ann.send("another matter")
            person = await served.person()
            assert (await let_go_on(person, room, other.id)).status == "nothing"
            assert (await let_go_on(person, room, last)).pairs[0].turns == WAKES_OF_PAIR
            assert (await let_go_on(person, room, last)).status == "nothing"
            assert await wakes(hooks[1])
            cat = await served.agent("cat")
            elsewhere = await cat.open("elsewhere", "")
            for unknown in ("m_0", "99", (await cat.send("not here", room=elsewhere.room)).id):
                asked = t.ContinueRoom(room=room, message=unknown)
                assert (await person.refused("room.continue", asked)).code == "no_such_message"

    run(main)


def test_a_higher_number_for_the_room_wakes_at_once_who_was_held_back_and_a_lower_one_holds_back_sooner() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (ann, bob), hooks, last, room = await stopped(served)
            person = await served.person()
            assert (await bound(person, room, None)).turns == WAKES_OF_PAIR
            await wakes_when(hooks[1], lambda: bound(person, room, WAKES_OF_PAIR + 1))
            await bob.recv()
            await served.acknowledge(bob)
            await bob.send("yes", reply_to=last)
            assert not await wakes(hooks[0])
            # Another conversation begins, and takes as many as the room says now.
            await bound(person, room, 1)
            fresh = await bob.send("another matter")
            assert await wakes(hooks[0])
            await ann.recv()
            await served.acknowledge(ann)
            await ann.send("go on", reply_to=fresh.id)
            assert not await wakes(hooks[1])
            assert await bound(person, room, "default") == await bound(person, room, None)
            assert await wakes(hooks[1])

    run(main)


def test_where_the_person_set_none_it_is_said_of_each_message_and_nobody_is_asked_to_let_them_go_on() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (ann, bob), hooks, last, room = await stopped(served)
            person = await served.person()
            assert await bound(person, room, 0) == t.RoomTurns(room=room, name="talk", turns=0, is_default=False)
            await bob.recv()
            await served.acknowledge(bob)
            fresh = await ann.send("another matter")
            assert not await wakes(hooks[1])
            for id in (last, fresh.id):
                why = await ann.ask("message.why", t.Why(id=id), t.WhyResult)
                assert [each.held for each in why.readers if each.held == 0] == ([] if id == last else [0])
            found = await ann.ask("daemon.check", t.CheckStore(), t.CheckList)
            assert [one for one in found.checks if one.name == "wakes"] == []
            assert "wake neither" not in await served.notice(ann)
            assert (await let_go_on(person, room)).turns == 0
            assert not await wakes(hooks[1])
            roster = await ann.ask("rooms.roster", t.Roster(room=room), t.RosterResult)
            assert roster.turns == 0
            await bound(person, room, "default")
            roster = await ann.ask("rooms.roster", t.Roster(room=room), t.RosterResult)
            assert not isinstance(roster.turns, int)

    run(main)


def test_only_the_person_sets_a_number_of_turns_and_only_one_that_makes_sense() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (ann, _), hooks, _, room = await stopped(served)
            await refuses_agents(served, ann, hooks[1], "room.turns", t.TurnsInRoom(room=room, turns=100))
            person = await served.person()
            for number in (-1, MAX_WAKES_OF_PAIR + 1, "many"):
                with pytest.raises(msgspec.ValidationError):
                    msgspec.convert({"room": room, "turns": number}, t.TurnsInRoom)
            assert (await person.refused("room.turns", t.TurnsInRoom(room="nowhere", turns=1))).code == "no_such_room"
            # To look is no decision.
            child = await served.connect(peer=PeerProcess(pid=1, agent_host="codex"))
            assert await bound(child, room, None) == await bound(person, room, None)
            assert (await bound(person, room, None)).is_default

    run(main)


def test_where_nothing_was_held_back_nothing_goes_on_and_a_room_of_others_is_none() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ann = await served.agent("ann")
            opened = await ann.open()
            person = await served.person()
            done = await let_go_on(person)
            assert (done.room, done.status, done.pairs) == (opened.room, "nothing", [])
            assert (await person.refused("room.continue", t.ContinueRoom(room="nowhere"))).code == "no_such_room"

    run(main)


def test_a_waiter_that_was_held_back_begins_its_turn_when_the_person_says_so() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, hooks, _, room = await stopped(served)
            person = await served.person()
            await wakes_when(hooks[1], lambda: let_go_on(person, room))

    run(main)


def test_a_wait_that_an_agent_asked_for_itself_returns_whatever_was_counted() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (ann, bob), _, last, _ = await stopped(served)
            await bob.recv()
            await served.acknowledge(bob)
            got: list[str] = []

            async def waits() -> None:
                got.extend(message.text for message in (await bob.recv(wait=50)).messages)

            start = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(waits)
                await settle()
                await ann.send("still there?", reply_to=last)
            assert got == ["still there?"]
            assert trio.current_time() - start < 50

    run(main)


def test_the_hour_counts_every_agent_every_room_and_every_author_of_the_home_together() -> None:
    async def main() -> None:
        async with engine_world() as served:
            writers = [await served.agent(f"a{n}") for n in range(3)]
            windows, hooks = await both(served)
            rooms = []
            for n, writer in enumerate(writers):
                opened = await writer.open(f"room {n}", "")
                await served.admit(opened, *windows)
                for window in windows:
                    await served.acknowledge(window)
                rooms.append(opened.room)
            woken = [0, 0]
            for n in range(WAKES_AN_HOUR):
                await writers[n % 3].send("x", room=rooms[n % 3])
                for me, hook in enumerate(hooks):
                    woken[me] += await wakes(hook)
            assert woken == [WAKES_AN_HOUR // 2] * 2

    run(main)
