"""Watch codes: minted by the person alone, used once, and with no more rights than to look on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from parlerd.core.errors import Refused
from parlerd.core.model import MessageId
from parlerd.core.watch_codes import HOLDS_MS, HOME_USE_MS, WHOLE_HOME
from parlerd.engine.authority import of_visitor
from parlerd.engine.callers import Caller, Facts, PeerProcess
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from tests.support.browsing import pages_world
from tests.support.engine import Party, Served, engine_world, run, settle

ASKED: dict[str, t.Params] = {
    "page.open": t.OpenPages(room="auth-redesign"),
    "page.codes": t.ListWatchCodes(),
    "page.revoke": t.RevokeWatchCode(id="wc_none"),
}
"""The operations of watch codes."""


async def opened(party: Party, room: str | None = None) -> t.OpenedPages:
    return await party.ask("page.open", t.OpenPages(room=room), t.OpenedPages)


async def viewer(served: Served, code: str, *, is_own: bool = True) -> Party:
    """Whoever used this code."""
    stranger = Caller(Facts("http", "http", of_visitor(served.world.keys.principal, is_let_in=False, is_own=is_own)))
    used = await served.engine.viewers.open(code, stranger, is_own=is_own)
    caller = served.engine.viewers.caller_of(used.id)

    async def call(op: str, params: t.Params) -> t.Result:
        return await served.engine.call(op, params, caller)

    return Party(call, caller)


async def refusal(served: Served, code: str, **how: Any) -> str:
    with pytest.raises(Refused) as refused:
        await viewer(served, code, **how)
    return refused.value.code


def test_a_code_says_with_whose_eyes_it_looks_and_is_kept_as_a_digest() -> None:
    async def main() -> None:
        async with pages_world().serving() as served:
            alice, bob = await served.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            person = await served.person()
            one, two, three = await opened(person, room), await opened(bob, "auth-redesign"), await opened(person)
            now = served.world.clock.now()
            assert [(each.info.agent, each.info.as_person, each.info.room) for each in (one, two, three)] == [
                ("sam", True, room),
                ("bob", False, room),
                ("sam", True, WHOLE_HOME),
            ]
            assert [each.info.use_by - now for each in (one, two, three)] == [HOLDS_MS, HOLDS_MS, HOME_USE_MS]
            assert {each.info.expires_at - now for each in (one, two, three)} == {HOLDS_MS}
            assert len({each.watch_code for each in (one, two, three)}) == 3
            listed = await person.ask("page.codes", t.ListWatchCodes(), t.WatchCodeList)
            assert listed.codes == [one.info, two.info, three.info]
            kept = repr(served.engine.desk.rooms.home.aggregate.snapshot())
            for each in (one, two, three):
                assert each.watch_code not in kept
                assert each.watch_code.replace("-", "") not in kept

    run(main)


@pytest.mark.parametrize("op", sorted(ASKED))
def test_an_agent_neither_mints_nor_sees_nor_revokes(op: str) -> None:
    async def main() -> None:
        async with pages_world().serving() as served:
            await served.room("alice", "bob", topic="auth redesign")
            window = await served.window("w1")
            assert (await window.refused(op, ASKED[op])).code == "person_only"
            person = await served.person()
            used = await viewer(served, (await opened(person, "auth-redesign")).watch_code)
            assert (await used.refused(op, ASKED[op])).code == "person_only"

    run(main)


def test_a_command_below_an_agent_host_opens_nothing_and_one_in_an_editor_no_home() -> None:
    async def main() -> None:
        world = pages_world()
        async with world.serving() as served:
            await served.room("alice", "bob", topic="auth redesign")
            person = await served.person()
            world.inspect = lambda peer: peer
            served.engine.desk.inspect = lambda peer: PeerProcess(agent_host="claude-code")
            for room in ("auth-redesign", None):
                assert (await person.refused("page.open", t.OpenPages(room=room))).code == "needs_person"
            served.engine.desk.inspect = lambda peer: PeerProcess(editor="cursor")
            assert (await person.refused("page.open", t.OpenPages())).code == "needs_person"
            await opened(person, "auth-redesign")

    run(main)


def test_the_whole_home_is_opened_by_the_person_and_as_no_agent() -> None:
    async def main() -> None:
        async with pages_world().serving() as served:
            _, bob = await served.room("alice", "bob", topic="auth redesign")
            assert (await bob.refused("page.open", t.OpenPages())).code == "not_permitted"
            assert (await bob.refused("page.open", t.OpenPages(room="elsewhere"))).code == "no_such_room"

    run(main)


def test_where_no_door_can_be_opened_no_code_is_minted() -> None:
    async def main() -> None:
        async with engine_world() as served:
            await served.room("alice", "bob", topic="auth redesign")
            person = await served.person()
            assert (await person.refused("page.open", t.OpenPages(room="auth-redesign"))).code == "unknown_operation"
            assert (await person.ask("page.codes", t.ListWatchCodes(), t.WatchCodeList)).codes == []

    run(main)


def test_a_code_is_used_once_also_by_two_at_once() -> None:
    async def main() -> None:
        async with pages_world().serving() as served:
            await served.room("alice", "bob", topic="auth redesign")
            code = (await opened(await served.person(), "auth-redesign")).watch_code
            said: list[str] = []

            async def use() -> None:
                try:
                    await viewer(served, code)
                    said.append("ok")
                except Refused as error:
                    said.append(error.code)

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(use)
            assert sorted(said) == ["ok", "watch_code_invalid", "watch_code_invalid"]

    run(main)


def test_a_code_of_the_home_is_of_no_use_to_another_user_and_still_good_after_that() -> None:
    async def main() -> None:
        async with pages_world().serving() as served:
            await served.room("alice", "bob", topic="auth redesign")
            person = await served.person()
            mine, room = await opened(person), await opened(person, "auth-redesign")
            assert await refusal(served, mine.watch_code, is_own=False) == "watch_code_invalid"
            await viewer(served, room.watch_code, is_own=False)
            await viewer(served, mine.watch_code)

    run(main)


def test_whoever_looks_on_may_call_what_reads_that_room_and_nothing_else() -> None:
    """Each operation that the registry has: what changes something is refused before it is looked at."""

    async def main() -> None:
        async with pages_world().serving() as served:
            alice, _ = await served.room("alice", "bob", topic="auth redesign")
            other = await alice.open("another", "hidden")
            room = next(each.room for each in await alice.rooms() if each.room != other.room)
            used = await viewer(served, (await opened(await served.person(), room)).watch_code)
            for operation in OPERATIONS.values():
                if operation.stream or operation.plane in ("page", "relay"):
                    continue
                if operation.plane == "agent" and operation.effect == "read":
                    continue
                params = msgspec.convert(operation.example, operation.params)
                code = (await used.refused(operation.name, params)).code
                assert code in ("not_permitted", "person_only", "hook_only", "window_only", "unknown_operation"), (
                    operation.name,
                    code,
                )
            for op, params in (
                ("page.look_back", t.LookBack(room=other.room)),
                ("rooms.roster", t.Roster(room=other.room)),
                ("room.board", t.LookAtBoard(room=other.room, wait_ms=0)),
                ("blob.find", t.FindBlob(blob="m_1", room=other.room)),
            ):
                assert (await used.refused(op, params)).code == "no_such_room", op
            assert [each.room for each in await used.rooms()] == [room]

    run(main)


def test_a_page_asks_nothing_for_whoever_did_not_come_with_a_code() -> None:
    async def main() -> None:
        async with pages_world().serving() as served:
            alice, _ = await served.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            for party in (alice, await served.person(), await served.window("w1")):
                assert (await party.refused("page.look_back", t.LookBack(room=room))).code == "unknown_operation"

    run(main)


def test_what_a_daemon_before_this_one_had_open_is_gone_and_codes_that_nobody_used_hold() -> None:
    async def main() -> None:
        world = pages_world()
        async with world.serving() as served:
            await served.room("alice", "bob", topic="auth redesign")
            person = await served.person()
            used, unused = await opened(person, "auth-redesign"), await opened(person, "auth-redesign")
            await viewer(served, used.watch_code)
        async with world.serving() as served:
            person = await served.person()
            listed = await person.ask("page.codes", t.ListWatchCodes(), t.WatchCodeList)
            assert [each.id for each in listed.codes] == [unused.info.id]
            assert await refusal(served, used.watch_code) == "watch_code_invalid"
            with pytest.raises(Refused):
                served.engine.viewers.caller_of(used.info.id)
            await viewer(served, unused.watch_code)

    run(main)


def test_looking_on_is_on_record_and_makes_nobody_look_present() -> None:
    async def main() -> None:
        async with pages_world().serving() as served:
            alice, bob = await served.room("alice", "bob", topic="auth redesign")
            sent = await alice.send("who sees this?")
            room = (await alice.rooms())[0].room
            await served.leave(bob)
            code = (await opened(await served.person(), room)).watch_code
            used = await viewer(served, code)
            await used.ask("page.look_back", t.LookBack(room=room), t.LookedBack)
            await settle()
            assert (await alice.roster())["bob"].presence == "offline"
            traced = await served.engine.desk.library.trace(MessageId(sent.id))
            assert traced is not None
            assert {mark.stage for mark in traced.marks} >= {"pushed"}

    run(main)


def test_a_code_whose_agent_leaves_shows_nothing_any_more() -> None:
    async def main() -> None:
        async with pages_world().serving() as served:
            alice, bob = await served.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            used = await viewer(served, (await opened(bob, room)).watch_code)
            await bob.close()
            await alice.send("after that")
            assert (await used.refused("page.look_back", t.LookBack(room=room))).code == "no_such_room"

    run(main)
