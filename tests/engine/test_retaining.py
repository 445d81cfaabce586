"""Rooms of this home within their limits: old words go in steps, readers are told, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.model import Position, PrincipalId, RoomId
from parlerd.engine import retaining
from parlerd.engine.audit import Audited
from parlerd.engine.callers import PeerProcess
from parlerd.engine.driver import Driver, Job, Settle
from parlerd.engine.reading import ERASED
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Append, EraseBodies, ForgetMarks, MarkDelivery, Store
from tests.support.engine import FarDriver, Party, PlugDriver, Served, World, run, texts

FEW = 10
"""Of so many messages a room keeps the words."""


class Watched(PlugDriver):
    """What was handed to the writer: for each job, how many bodies it erases (0 for one that stores facts alone)."""

    jobs: ClassVar[list[int]] = []
    meanwhile: Callable[[], None] | None = None

    def hand_over(self, job: Job, settled: Settle) -> None:
        erased = sum(len(write.positions) for write in job if isinstance(write, EraseBodies))
        if erased or any(isinstance(write, Append) for write in job):
            Watched.jobs.append(erased)
        if erased and Watched.meanwhile is not None:
            Watched.meanwhile()
        super().hand_over(job, settled)


def watched(store: Store) -> Watched:
    Watched.jobs, Watched.meanwhile = [], None
    return Watched(store)


def limited(**limits: int) -> World:
    """A home that keeps so much; what is not named has no limit."""
    none = Settings(retention_room_messages=0, retention_room_bytes=0, retention_total_bytes=0)
    named = {f"retention_{name}": value for name, value in limits.items()}
    return World(settings=msgspec.structs.replace(none, **named))


async def talk(served: Served, name: str, count: int, *, topic: str = "long") -> tuple[Party, RoomId]:
    """An agent that opened a session and said so much there, alone."""
    party = await served.agent(name)
    opened = await party.open(topic)
    for number in range(count):
        await party.send(f"n{number}")
    return party, RoomId(opened.room)


async def looked() -> None:
    """The home has looked at every room once more."""
    await trio.sleep(retaining.AGAIN_S + 60)


def kept(world: World, room: RoomId) -> list[int]:
    """Where the messages stand whose words are here."""
    return [position for position, _ in world.store.oldest_bodies(room, Position(0), 100_000)]


async def looking_back(party: Party) -> t.Received:
    return await party.recv(since=0, limit=500)


# -- what goes -----------------------------------------------------------------------------------------------


def test_a_room_keeps_the_words_of_its_newest_messages_and_its_recap() -> None:
    world = limited(room_messages=FEW)

    async def main() -> None:
        async with world.serving() as served:
            _, room = await talk(served, "alice", 30)
            before = kept(world, room)
            await looked()
            # The recap is one of the few.
            assert kept(world, room) == [before[0], *before[-FEW + 1 :]]
            opening = world.store.message(room, Position(kept(world, room)[0]))
            assert opening is not None
            assert isinstance(opening.event, e.MessagePosted)
            assert opening.event.opening

    run(main)


def test_what_comes_in_is_limited_while_the_daemon_runs() -> None:
    world = limited(room_messages=FEW)

    async def main() -> None:
        async with world.serving() as served:
            party, room = await talk(served, "alice", 1)
            most = 0
            for number in range(2 * retaining.EVERY):
                await party.send(f"more {number}")
                await trio.sleep(0.1)
                most = max(most, world.store.held(room).messages)
            await trio.sleep(60)
            assert retaining.EVERY < most <= FEW + retaining.EVERY + retaining.STEP
            assert world.store.held(room).messages < FEW + retaining.EVERY

    run(main)


def test_bytes_are_limited_too() -> None:
    world = limited(room_bytes=6_000)

    async def main() -> None:
        async with world.serving() as served:
            _, room = await talk(served, "alice", 30)
            assert world.store.held(room).bytes > 6_000
            await looked()
            assert 5_000 < world.store.held(room).bytes <= 6_000

    run(main)


def test_words_go_when_they_are_older_than_some_days() -> None:
    world = limited(days=2)

    async def main() -> None:
        async with world.serving() as served:
            party, room = await talk(served, "alice", 5)
            world.clock.ms += 3 * retaining.DAY_MS
            await party.send("new")
            await looked()
            assert world.store.held(room).messages == 2, "the recap and the new one"

    run(main)


def test_where_all_rooms_hold_too_much_the_largest_gives() -> None:
    world = limited(total_bytes=12_000)

    async def main() -> None:
        async with world.serving() as served:
            _, long = await talk(served, "alice", 40)
            _, short = await talk(served, "bob", 5, topic="short")
            before = world.store.held(short)
            await looked()
            assert world.store.held(short) == before
            total = before.bytes + world.store.held(long).bytes
            assert 11_000 < total <= 12_000

    run(main)


def test_without_limits_everything_is_kept() -> None:
    world = limited()

    async def main() -> None:
        async with world.serving() as served:
            _, room = await talk(served, "alice", 30)
            await looked()
            assert world.store.held(room).messages == 31

    run(main)


def test_what_a_member_has_not_read_is_kept_up_to_twice_as_much() -> None:
    world = limited(room_messages=FEW)

    async def main() -> None:
        async with world.serving() as served:
            alice, bob = await served.room("alice", "bob")
            room = RoomId((await alice.rooms())[0].room)
            await bob.read()
            for number in range(15):
                await alice.send(f"n{number}")
            await looked()
            # The recap, and what Bob has not read.
            assert world.store.held(room).messages == 16
            for number in range(15, 30):
                await alice.send(f"n{number}")
            await looked()
            assert world.store.held(room).messages == 2 * FEW
            await bob.read()
            await looked()
            assert world.store.held(room).messages == FEW

    run(main)


# -- how it goes ---------------------------------------------------------------------------------------------


def test_one_step_erases_few_and_others_write_between_two_steps() -> None:
    world = limited(room_messages=FEW)
    world.driver = watched

    async def main() -> None:
        async with world.serving() as served, trio.open_nursery() as nursery:
            await talk(served, "alice", retaining.EVERY - 30)
            bob, _ = await talk(served, "bob", 1, topic="other")

            async def speak() -> None:
                for _ in range(2):
                    await bob.send("meanwhile")

            def once() -> None:
                Watched.meanwhile = None
                nursery.start_soon(speak)

            Watched.jobs, Watched.meanwhile = [], once
            await looked()
            steps = [erased for erased in Watched.jobs if erased]
            assert sum(steps) == retaining.EVERY - 30 + 1 - FEW
            assert len(steps) == 2
            assert max(steps) <= retaining.STEP
            first, second = (number for number, erased in enumerate(Watched.jobs) if erased)
            assert second > first + 1, "nobody wrote between the two"

    run(main)


def test_what_a_daemon_did_not_get_to_is_done_by_the_next_one() -> None:
    world = limited(room_messages=FEW)
    world.driver = watched

    async def main() -> None:
        async with world.serving() as served:
            _, room = await talk(served, "alice", 2 * retaining.STEP - 10)
            assert isinstance(served.driver, Watched)
            # One step is stored; then the process is dead.
            served.driver.cut = (served.driver.commits + 1, True)
            await looked()
            assert world.store.held(room).messages == 2 * retaining.STEP - 10 + 1 - (retaining.STEP - 1)
        async with world.serving() as served:
            await trio.sleep(60)
            assert world.store.held(room).messages == FEW
            state = (await served.engine.rooms.get(room)).aggregate.state.retention
            assert state.messages == 2 * retaining.STEP - 10 + 1 - FEW
            assert len(state.spans) == 1

    run(main)


def test_a_full_disk_is_tried_again_later() -> None:
    world = limited(room_messages=FEW)

    async def main() -> None:
        async with world.serving() as served:
            _, room = await talk(served, "alice", 30)
            driver = served.driver
            assert isinstance(driver, PlugDriver)
            driver.is_full = True
            await looked()
            assert world.store.held(room).messages == 31
            driver.is_full = False
            await looked()
            assert world.store.held(room).messages == FEW

    run(main)


# -- what is said --------------------------------------------------------------------------------------------


def test_a_reader_is_told_once_a_page_how_many_messages_lost_their_words() -> None:
    world = limited(room_messages=FEW)

    async def main() -> None:
        async with world.serving() as served:
            alice, _ = await talk(served, "alice", 30)
            await looked()
            page = await looking_back(alice)
            assert [each.seq for each in page.messages] == list(range(1, 32))
            gone = [each for each in page.messages if each.erased is True]
            assert len(gone) == 31 - FEW
            assert {each.text for each in gone} == {ERASED}
            assert {each.verified for each in gone} == {"valid"}
            assert page.notice == f"Words erased by retention or a timer ({31 - FEW} messages)."
            assert texts(page)[-FEW + 1 :] == [f"n{number}" for number in range(31 - FEW, 30)]

    run(main)


def test_who_comes_to_unread_words_that_went_is_told_so_and_reads_on() -> None:
    world = limited(room_messages=FEW)

    async def main() -> None:
        async with world.serving() as served:
            alice, bob = await served.room("alice", "bob")
            await bob.read()
            for number in range(30):
                await alice.send(f"n{number}")
            await looked()
            page = await bob.recv(limit=500)
            assert page.notice == f"Words erased by retention or a timer ({31 - 2 * FEW} messages)."
            assert texts(page).count(ERASED) == 31 - 2 * FEW
            await bob.commit(page)
            await alice.send("new")
            page = await bob.recv()
            assert (texts(page), page.notice) == (["new"], "")

    run(main)


def test_why_says_that_the_words_went() -> None:
    world = limited(room_messages=FEW)

    async def main() -> None:
        async with world.serving() as served:
            alice, _ = await talk(served, "alice", 1)
            sent = await alice.send("first")
            for number in range(30):
                await alice.send(f"n{number}")
            ask = t.Why(id=sent.id)
            assert (await alice.ask("message.why", ask, t.WhyResult)).erased is not True
            await looked()
            assert (await alice.ask("message.why", ask, t.WhyResult)).erased is True

    run(main)


def test_what_readers_were_told_of_words_goes_with_them() -> None:
    world = limited(room_messages=FEW)

    async def main() -> None:
        async with world.serving() as served:
            alice, bob = await served.room("alice", "bob")
            sent = []
            for number in range(30):
                sent.append(await alice.send(f"n{number}"))
                await bob.read()
            everything = await alice.ask("message.disclosures", t.ListDisclosures(after=0, limit=200), t.Disclosures)
            seen = {each.id for each in everything.messages if each.shown}
            assert {each.id for each in sent} <= seen

            async def ladder(id: str) -> t.ReaderLadder:
                [found] = (await alice.ask("message.why", t.Why(id=id), t.WhyResult)).readers
                return found

            assert {each.stage for each in (await ladder(sent[0].id)).stages} == {"stored", "read", "acknowledged"}
            before = len(marks(world))
            await looked()
            first, last = await ladder(sent[0].id), await ladder(sent[-1].id)
            assert [each.stage for each in first.stages] == ["stored"]
            assert first.stopped == "not known any more: this went with the words"
            assert {each.stage for each in last.stages} == {"stored", "read", "acknowledged"}
            assert before - len(marks(world)) >= 2 * (30 - FEW)
            # Nobody is told that nobody saw them.
            left = await alice.ask("message.disclosures", t.ListDisclosures(after=0, limit=200), t.Disclosures)
            assert {each.id for each in left.messages} & {each.id for each in sent} == {
                each.id for each in sent[-FEW + 1 :]
            }
            assert all(each.shown for each in left.messages if each.id in {one.id for one in sent})
            # How far a reader is, is not forgotten.
            assert await bob.read() == []

    run(main)


def marks(world: World) -> list[MarkDelivery]:
    assert isinstance(world.store, MemoryStore)
    return [mark for found in world.store._marks.values() for mark in found]


def test_marks_go_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retaining, "MARKS", 7)
    world = limited(room_messages=FEW)

    async def main() -> None:
        async with world.serving() as served:
            alice, bob = await served.room("alice", "bob")
            for number in range(30):
                await alice.send(f"n{number}")
                await bob.read()
            steps = 0
            forget = world.store._forget_marks  # type: ignore[attr-defined]

            def counted(write: ForgetMarks) -> None:
                nonlocal steps
                before = len(marks(world))
                forget(write)
                assert before - len(marks(world)) <= 7
                steps += 1

            monkeypatch.setattr(world.store, "_forget_marks", counted)
            await looked()
            assert steps >= 2 * (30 - FEW) // 7

    run(main)


def test_the_list_of_rooms_says_what_was_erased_and_the_limits() -> None:
    world = limited(room_messages=FEW, total_bytes=1_000_000)

    async def main() -> None:
        async with world.serving() as served:
            alice, room = await talk(served, "alice", 30)
            await looked()
            [listed] = (await alice.ask("rooms.list", t.ListRooms(size=True), t.RoomList)).rooms
            assert isinstance(listed.kept, t.KeptSize)
            assert (listed.kept.messages, listed.kept.erased) == (FEW, 31 - FEW)
            assert listed.kept.bytes == world.store.held(room).bytes
            assert isinstance(listed.kept.limits, t.KeptLimits)
            assert listed.kept.limits == t.KeptLimits(messages=FEW, bytes=0, days=0)

    run(main)


def test_the_checkup_says_when_the_home_holds_more_than_it_may() -> None:
    world = limited(total_bytes=5_000)

    async def main() -> None:
        async with world.serving() as served:
            alice, bob = await served.room("alice", "bob")
            await bob.read()
            assert await failing(served) == []
            for number in range(20):
                await alice.send(f"n{number}")
            await looked()
            [check] = await failing(served)
            assert check.name == "retention"
            assert "more than the 5000 that they may" in check.detail
            await bob.read()
            await looked()
            assert await failing(served) == []

    run(main)


async def failing(served: Served) -> list[t.Check]:
    person = await served.person()
    found = await person.ask("daemon.check", t.CheckStore(), t.CheckList)
    return [check for check in found.checks if not check.ok]


# -- whether it holds ----------------------------------------------------------------------------------------


def test_a_room_of_which_words_went_still_verifies() -> None:
    world = limited(room_messages=FEW)

    async def main() -> None:
        async with world.serving() as served:
            _, room = await talk(served, "alice", 30)
            await looked()
            assert await broken(served, room) == []
            # A body that somebody took out of the file beside that is still found.
            position = Position(kept(world, room)[-1])
            taken_out(world, room, position)
            assert await broken(served, room) == [position]

    run(main)


async def broken(served: Served, room: RoomId) -> Sequence[Position]:
    """The facts of a room that are not what their authors signed."""
    library = served.engine._desk.library
    handle = await served.engine.rooms.get(room)
    about = Audited.of(handle.aggregate.state, await library.body(room, Position(1)))
    return await library.unsigned(room, Position(0), handle.aggregate.position, about)


def taken_out(world: World, room: RoomId, position: Position) -> None:
    store = world.store
    assert isinstance(store, MemoryStore)
    del store._logs[room].bodies[position]


@pytest.mark.parametrize("driver", [PlugDriver, FarDriver])
def test_a_deleted_room_is_forgotten(driver: Callable[[Store], Driver]) -> None:
    world = limited(room_messages=FEW)
    world.driver = driver

    async def main() -> None:
        async with world.serving() as served:
            _, room = await talk(served, "alice", 30)
            await looked()
            person = await served.person()
            await person.ask("room.delete", t.DeleteRoom(room=room, confirmed=True), t.DeletedRoom)
            assert served.engine._desk.retaining.total.messages > 0
            await looked()
            assert served.engine._desk.retaining.total.messages == 0

    run(main)


# -- the limit of one room -----------------------------------------------------------------------------------


async def keep(who: Party, room: str, **numbers: int | str) -> t.KeptOfRoom:
    params = msgspec.convert({"room": room, **numbers}, t.KeepOfRoom)
    return await who.ask("room.retention", params, t.KeptOfRoom)


def test_a_room_keeps_as_little_as_its_person_says_and_others_what_the_home_does() -> None:
    world = limited(room_messages=30)

    async def main() -> None:
        async with world.serving() as served:
            _, room = await talk(served, "alice", 25)
            _, other = await talk(served, "bob", 25, topic="other")
            person = await served.person()
            before, beside = kept(world, room), kept(world, other)
            answer = await keep(person, room, messages=FEW)
            assert answer.own == answer.limits == t.KeptLimits(messages=FEW)
            # It is looked at now, and not after the hour.
            await trio.sleep(1)
            assert kept(world, room) == [before[0], *before[-FEW + 1 :]]
            assert kept(world, other) == beside
            listed = await person.ask("rooms.list", t.ListRooms(size=True), t.RoomList)
            sizes = {each.room: each.kept for each in listed.rooms}
            shown = [sizes[each] for each in (room, other)]
            assert [each.limits for each in shown if isinstance(each, t.KeptSize)] == [
                t.KeptLimits(messages=FEW),
                t.KeptLimits(messages=30),
            ]
            assert [each.has_own for each in shown if isinstance(each, t.KeptSize)] == [True, False]

    run(main)


def test_a_limit_of_a_room_outlives_the_daemon_and_is_taken_away_again() -> None:
    world = limited(room_messages=30)

    async def main() -> None:
        async with world.serving() as served:
            alice, room = await talk(served, "alice", 5)
            person = await served.person()
            await keep(person, room, messages=FEW, days=3)
        async with world.serving() as served:
            person, alice = await served.person(), await served.agent("alice")
            # One number is changed and the other stays; without any this only looks.
            assert (await keep(person, room, days="default")).own == t.KeptLimits(messages=FEW)
            assert (await keep(alice, room)).own == t.KeptLimits(messages=FEW)
            answer = await keep(person, room, messages="default")
            assert (answer.own, answer.limits) == (t.KeptLimits(), t.KeptLimits(messages=30))
            for number in range(20):
                await alice.send(f"more {number}")
            await looked()
            assert world.store.held(room).messages == 26

    run(main)


def test_words_of_one_room_are_kept_for_as_many_days_as_its_person_says() -> None:
    world = limited()

    async def main() -> None:
        async with world.serving() as served:
            alice, room = await talk(served, "alice", 3)
            await keep(await served.person(), room, days=1)
            world.clock.ms += 2 * retaining.DAY_MS
            await alice.send("new")
            await looked()
            assert world.store.held(room).messages == 2, "the recap and the new one"

    run(main)


@pytest.mark.parametrize(
    ("home", "asked", "param"),
    [
        ({"room_messages": 30}, {"messages": 31}, "messages"),
        ({"room_bytes": 5000}, {"bytes": 5001}, "bytes"),
        ({"days": 7}, {"messages": 5, "days": 8}, "days"),
    ],
)
def test_no_room_keeps_more_than_the_home(home: dict[str, int], asked: dict[str, int], param: str) -> None:
    async def main() -> None:
        async with limited(**home).serving() as served:
            _, room = await talk(served, "alice", 1)
            person = await served.person()
            error = await person.refused("room.retention", t.KeepOfRoom(room=room, **asked))
            assert (error.code, error.details["param"]) == ("invalid_param", param)
            assert error.details["limit"] == next(iter(home.values()))
            # Not even a part of it was set.
            assert (await keep(person, room)).own == t.KeptLimits()

    run(main)


def test_where_the_home_keeps_less_later_that_holds() -> None:
    world = limited(room_messages=30)

    async def main() -> None:
        async with world.serving() as served:
            _, room = await talk(served, "alice", 1)
            await keep(await served.person(), room, messages=20, days=9)
        world.settings = msgspec.structs.replace(world.settings, retention_room_messages=FEW)
        async with world.serving() as served:
            answer = await keep(await served.person(), room)
            assert answer.own == t.KeptLimits(messages=20, days=9)
            assert answer.limits == t.KeptLimits(messages=FEW, days=9)

    run(main)


def test_only_the_person_limits_a_room_and_only_one_that_they_own() -> None:
    async def main() -> None:
        async with limited().serving() as served:
            _, room = await talk(served, "alice", 1)
            few = t.KeepOfRoom(room=room, messages=5)
            window = await served.window("ann")
            assert (await window.refused("room.retention", few)).code == "person_only"
            child = await served.connect(peer=PeerProcess(pid=1, agent_host="codex"))
            assert (await child.refused("room.retention", few)).code == "needs_person"
            # To look is no decision.
            assert (await keep(child, room)).own == t.KeptLimits()
            person = await served.person()
            for wrong in (0, -1, 2**54):
                with pytest.raises(msgspec.ValidationError):
                    msgspec.convert({"room": room, "messages": wrong}, t.KeepOfRoom)
            assert (await person.refused("room.retention", t.KeepOfRoom(room="none", days=1))).code == "no_such_room"
            actor = served.engine.rooms.open_actor(room)
            assert actor is not None
            actor.aggregate.state.lifecycle.owner_principal = PrincipalId("A" + "Z" * 55)
            assert (await person.refused("room.retention", few)).code == "not_owner"

    run(main)
