"""Deleted rooms go out of the store in steps, and nobody who writes waits for more than one."""

from __future__ import annotations

from collections.abc import Callable

import trio

from parlerd.engine import clearing
from parlerd.engine.driver import Job, Settle
from parlerd.operations import types as t
from parlerd.store.port import Append, ClearRoom, Store
from tests.support.engine import Party, PlugDriver, Served, World, run, settle


class Watched(PlugDriver):
    """What was handed to the writer, one letter a job: `c` for a step that clears, `w` for facts, `-` for the rest."""

    jobs = ""
    meanwhile: Callable[[], None] | None = None

    def hand_over(self, job: Job, settled: Settle) -> None:
        clears = sum(isinstance(write, ClearRoom) for write in job)
        assert clears <= 1
        Watched.jobs += "c" if clears else "w" if any(isinstance(write, Append) for write in job) else "-"
        if clears and Watched.meanwhile is not None:
            Watched.meanwhile()
        super().hand_over(job, settled)


async def somebody(served: Served) -> Party:
    """The person, whom this home knows already."""
    person = await served.person()
    await person.whoami()
    return person


async def delete(person: Party, room: str) -> t.DeletedRoom:
    return await person.ask("room.delete", t.DeleteRoom(room=room, confirmed=True), t.DeletedRoom)


async def talked(served: Served, name: str, topic: str, messages: int) -> tuple[Party, str]:
    party = await served.agent(name)
    opened = await party.open(topic)
    for number in range(messages):
        await party.send(f"message {number}")
    return party, opened.room


def watched(store: Store) -> Watched:
    Watched.jobs, Watched.meanwhile = "", None
    return Watched(store)


def test_a_message_in_another_room_is_stored_between_two_steps() -> None:
    async def main() -> None:
        async with World(driver=watched).serving() as served, trio.open_nursery() as nursery:
            long = 3 * clearing.STEP
            _, room = await talked(served, "alice", "long", long)
            bob, _ = await talked(served, "bob", "other", 1)
            person = await somebody(served)

            async def speak() -> None:
                for _ in range(3):
                    await bob.send("meanwhile")

            def once() -> None:
                Watched.meanwhile = None
                nursery.start_soon(speak)

            Watched.jobs, Watched.meanwhile = "", once
            assert (await delete(person, room)).status == "deleted"
            steps = Watched.jobs.strip("-")
            assert steps.count("c") > 3
            # The deletion, and then what was said while it went on.
            assert steps.replace("-", "").count("w") == 1 + 3
            assert "cw" in steps.replace("-", "")

    run(main)


def test_what_a_daemon_did_not_get_to_is_done_by_the_next_one() -> None:
    world = World(driver=watched)

    async def main() -> None:
        async with world.serving() as served:
            _, room = await talked(served, "alice", "long", 2 * clearing.STEP)
            person = await somebody(served)
            assert isinstance(served.driver, Watched)
            # The deletion is stored and one step after it; then the process is dead.
            served.driver.cut = (served.driver.commits + 2, True)
            assert (await delete(person, room)).status == "clearing"
            assert world.store.uncleared() == [room]
        async with world.serving() as served:
            await settle()
            assert world.store.uncleared() == []
            alice = await served.agent("alice")
            assert await alice.rooms() == []

    run(main)


def test_a_full_disk_is_tried_again_later() -> None:
    async def main() -> None:
        async with World(driver=watched).serving() as served:
            _, room = await talked(served, "alice", "long", 4)
            person = await somebody(served)
            driver = served.driver
            assert isinstance(driver, Watched)

            def fills_up() -> None:
                Watched.meanwhile = None
                driver.is_full = True

            Watched.meanwhile = fills_up
            assert (await delete(person, room)).status == "clearing"
            driver.is_full = False
            await trio.sleep(clearing.RETRY_S)
            await settle()
            assert served.world.store.uncleared() == []

    run(main)
