"""Who may delete a room, and what becomes of those who were about to do something in it."""

from __future__ import annotations

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import PrincipalId
from parlerd.engine.callers import PeerProcess
from parlerd.operations import types as t
from tests.engine.test_letting_in import olga_and_ann
from tests.support.engine import SlowDriver, World, engine_world, run, settle


def deleting(room: str, *, confirmed: bool = True) -> t.DeleteRoom:
    return t.DeleteRoom(room=room, confirmed=confirmed)


def test_an_agents_window_cannot_delete_its_own_room() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w1")
            opened = await window.open()
            error = await window.refused("room.delete", deleting(opened.room))
            assert error.code == "person_only"
            assert "parler room delete" in error.hint
            assert len(await window.rooms()) == 1

    run(main)


def test_a_command_that_an_agent_host_started_cannot_delete_a_room_nor_one_in_an_editors_terminal() -> None:
    async def main() -> None:
        for peer in (PeerProcess(agent_host="codex"), PeerProcess(editor="zed")):
            async with World(inspect=lambda _, peer=peer: peer).serving() as served:  # type: ignore[misc]
                alice = await served.agent("alice")
                opened = await alice.open()
                for confirmed in (False, True):
                    error = await alice.refused("room.delete", deleting(opened.room, confirmed=confirmed))
                    assert error.code == "needs_person"
                assert len(await alice.rooms()) == 1

    run(main)


def test_what_is_under_way_is_answered_before_the_room_is_gone() -> None:
    async def main() -> None:
        async with World(driver=SlowDriver).serving() as served, trio.open_nursery() as nursery:
            alice, person = await served.agent("alice"), await served.person()
            opened = await alice.open()
            answers: list[str] = []

            async def send(number: int) -> None:
                try:
                    sent = await alice.send(f"message {number}", room=opened.room)
                    answers.append(f"seq {sent.seq}")
                except ParlerError as error:
                    answers.append(error.code)

            for number in range(3):
                nursery.start_soon(send, number)
                await settle()
            done = await person.ask("room.delete", deleting(opened.room), t.DeletedRoom)
            assert done.status == "deleted"
            assert sorted(answers) == ["seq 2", "seq 3", "seq 4"]
            await send(9)
            assert answers[-1] == "room_deleted"

    run(main)


def test_a_deletion_that_cannot_be_stored_leaves_the_room_as_it_was() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, person = await served.agent("alice"), await served.person()
            opened = await alice.open()
            served.driver.is_full = True  # type: ignore[attr-defined]
            assert (await person.refused("room.delete", deleting(opened.room))).code == "store_failed"
            served.driver.is_full = False  # type: ignore[attr-defined]
            assert (await alice.send("still here")).seq == 2
            assert (await person.ask("room.delete", deleting(opened.room), t.DeletedRoom)).status == "deleted"

    run(main)


def test_who_waits_at_the_door_hears_that_the_room_is_gone() -> None:
    async def main() -> None:
        async with engine_world() as served, trio.open_nursery() as nursery:
            alice, bob, person = await served.agent("alice"), await served.agent("bob"), await served.person()
            opened = await alice.open()
            heard: list[str] = []

            async def waits() -> None:
                params = t.JoinSession(session_key=opened.session_key or "", wait_ms=60_000)
                heard.append((await bob.refused("session.join", params)).code)

            nursery.start_soon(waits)
            await settle()
            await person.call("room.delete", deleting(opened.room))
            await settle()
            assert heard == ["room_deleted"]
            assert (await bob.ask("rooms.list", t.ListRooms(), t.RoomList)).waits == []

    run(main)


def test_what_a_person_kept_at_a_relay_is_free_again_once_its_room_is_deleted() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann, opened = await olga_and_ann(served)
            kept = served.engine.desk.kept
            await olga.post("olive", opened.room, "x" * 1_000)
            mine = PrincipalId(olga.person.principal)
            assert kept.of(mine) > 1_000
            await ann.knock("ann", opened)
            assert (await ann.refused("link.delete", t.DeleteAtRoom(room=opened.room))).code == "no_such_room"
            await olga.call("link.delete", t.DeleteAtRoom(room=opened.room))
            assert kept.of(mine) <= 0
            assert (await olga.refused("link.delete", t.DeleteAtRoom(room=opened.room))).code == "room_deleted"

    run(main)


def test_whoever_follows_a_deleted_room_over_a_link_is_told_so() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, _, opened = await olga_and_ann(served)
            async with olga.following(opened.room) as told:
                told.items.clear()
                await olga.call("link.delete", t.DeleteAtRoom(room=opened.room))
                await settle()
                assert [(item.gone, item.deleted) for item in told.of(opened.room)] == [(True, True)]

    run(main)
