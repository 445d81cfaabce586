"""Mirrors within their bounds: old words go, nobody loses any, and nobody is accused of it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core.errors import StoreError
from parlerd.core.events import Header, MessagePosted
from parlerd.core.model import AgentId, Position, RoomId
from parlerd.core.retention import Span
from parlerd.engine import retaining
from parlerd.engine.absent import ASKING_S, refill
from parlerd.engine.reading import ABSENT
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.store.memory import MemoryStore
from parlerd.store.port import EraseBodies, Held, Store
from parlerd.uplink.bounds import CHUNK, EVERY
from tests.support.engine import Party, Served, run, texts
from tests.support.relayed import Home, Relay, homes_of
from tests.uplink.test_relayed import Meeting, look_back, meeting_in

FEW = 7
"""Of so many messages the bounded home keeps the words."""


def bound(home: Home, *, room_messages: int = 0, room_bytes: int = 0, total_bytes: int = 0) -> None:
    """From its next start on, the home keeps these bounds."""
    home.world.settings = Settings(
        mirror_room_messages=room_messages, mirror_room_bytes=room_bytes, mirror_total_bytes=total_bytes
    )


def held(home: Home, room: str) -> Held:
    return home.world.store.held(RoomId(room))


async def settled() -> None:
    """Whatever a daemon does in the background at its start is done."""
    await trio.sleep(30)


async def chat(meeting: Meeting, count: int) -> None:
    """Alice says some things, the third part of them to Bob alone."""
    for number in range(count):
        visible_to = ("bob",) if number % 3 == 0 else None
        await meeting.alice.send(f"n{number}", visible_to=visible_to, to=("bob",) if number % 5 == 0 else ())


@asynccontextmanager
async def bounded(folder: Path, count: int, **bounds: int) -> AsyncIterator[tuple[Meeting, Served, Served]]:
    """A meeting after so many messages that Bob has not read, Ann's home, and Bob's, which keeps bounds now."""
    meeting = meeting_in(folder)
    async with meeting.relay.serving(), meeting.ann.serving() as ann:
        async with meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await chat(meeting, count)
            await meeting.bob.recv(peek=True)
        bound(meeting.ben, **bounds)
        async with meeting.ben.serving() as ben:
            meeting.bob = await ben.agent("bob")
            await meeting.bob.whoami()
            await settled()
            yield meeting, ann, ben


def test_at_its_start_a_daemon_keeps_the_words_of_the_newest_messages_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 30, room_messages=FEW) as (meeting, _, _):
            room = RoomId(meeting.opened.room)
            assert held(meeting.ben, room).messages == FEW
            store = meeting.ben.world.store
            kept = [position for position, _ in store.oldest_bodies(room, Position(0), 99)]
            assert kept == list(range(store.head(room).position - FEW + 1, store.head(room).position + 1))
            assert held(meeting.ann, room).messages == 31, "another home keeps its own bounds"

    run(main)


def test_nobody_here_limits_a_room_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 1, room_messages=FEW) as (meeting, ann, ben):
            for served in (ann, ben):
                person = await served.person()
                for asked in ({}, {"messages": 5}):
                    params = msgspec.convert({"room": meeting.opened.room, **asked}, t.KeepOfRoom)
                    error = await person.refused("room.retention", params)
                    assert error.code == "room_elsewhere"
                    assert "lives on a relay" in error.message
                listed = await person.ask("rooms.list", t.ListRooms(size=True), t.RoomList)
                assert [each.kept.has_own for each in listed.rooms if isinstance(each.kept, t.KeptSize)] == [False]

    run(main)


def test_the_words_that_are_kept_are_bounded_in_bytes_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 30, room_bytes=3_000) as (meeting, _, _):
            kept = held(meeting.ben, meeting.opened.room)
            assert 2_000 < kept.bytes <= 3_000

    run(main)


def test_without_a_bound_everything_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 30) as (meeting, _, _):
            assert held(meeting.ben, meeting.opened.room).messages == 31

    run(main)


def test_what_comes_in_is_bounded_while_the_daemon_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 3, room_messages=FEW) as (meeting, _, _):
            most = 0
            for number in range(2 * EVERY + 10):
                await meeting.alice.send(f"more {number}")
                most = max(most, held(meeting.ben, meeting.opened.room).messages)
            await settled()
            assert EVERY < most <= FEW + EVERY
            assert held(meeting.ben, meeting.opened.room).messages < FEW + EVERY
            found, said = await look_back(meeting.bob)
            assert said == ""
            assert texts_of(found)[-2 * EVERY :] == [f"more {n}" for n in range(10, 2 * EVERY + 10)]

    run(main)


def test_one_write_erases_a_bounded_number_of_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    erased: list[int] = []
    transact = MemoryStore.transact

    def watched(store: MemoryStore, jobs: object) -> object:
        for job in jobs:  # type: ignore[attr-defined]
            erased.extend(len(write.positions) for write in job if isinstance(write, EraseBodies))
        return transact(store, jobs)  # type: ignore[arg-type]

    async def main() -> None:
        async with bounded(tmp_path, 2 * CHUNK + 20, room_messages=FEW) as (meeting, _, _):
            assert held(meeting.ben, meeting.opened.room).messages == FEW

    monkeypatch.setattr(MemoryStore, "transact", watched)
    run(main)
    assert erased == [CHUNK, CHUNK, 21 - FEW]


def test_where_all_rooms_together_are_too_large_the_largest_gives(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                await meeting.meet(ann, ben)
                small = meeting.opened.room
                await chat(meeting, 5)
                await meeting.meet(ann, ben)
                large = meeting.opened.room
                await chat(meeting, 40)
                await meeting.bob.recv(peek=True)
            was = held(meeting.ben, small)
            bound(meeting.ben, total_bytes=was.bytes + 4_000)
            async with meeting.ben.serving() as ben:
                await settled()
                assert held(meeting.ben, small) == was
                assert held(meeting.ben, large).bytes <= 4_000
                assert held(meeting.ben, large).messages > 1

    run(main)


def test_a_disk_that_takes_nothing_ends_no_link_and_the_bounds_are_kept_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = MemoryStore.transact
    is_full = True

    def full(store: MemoryStore, jobs: object) -> object:
        if is_full and any(isinstance(write, EraseBodies) for job in jobs for write in job):  # type: ignore[attr-defined]
            raise StoreError("store_full")
        return record(store, jobs)  # type: ignore[arg-type]

    async def main() -> None:
        nonlocal is_full
        async with bounded(tmp_path, 20, room_messages=FEW) as (meeting, _, _):
            assert held(meeting.ben, meeting.opened.room).messages == 21
            is_full = False
            for number in range(EVERY + 1):
                await meeting.alice.send(f"more {number}")
            await settled()
            assert held(meeting.ben, meeting.opened.room).messages <= FEW + 1

    monkeypatch.setattr(MemoryStore, "transact", full)
    run(main)


async def lost(meeting: Meeting, keep: int) -> Relay:
    """Everybody's mirror holds some messages that the relay has, and 20 newer ones that it has lost."""
    relay = meeting.relay
    async with meeting.ann.serving() as ann, meeting.ben.serving() as ben, relay.serving():
        await meeting.meet(ann, ben)
        await chat(meeting, 10)
        await trio.sleep(30)
        copy = relay.copied()
        for number in range(20):
            await meeting.alice.send(f"lost {number}")
        assert len((await meeting.bob.recv(peek=True, limit=500)).messages) == 30
    relay.store = copy
    bound(meeting.ben, room_messages=keep)
    return relay


def test_what_is_nowhere_else_stays_although_it_is_too_much(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        relay = await lost(meeting, 5)
        relay.begin_anew()
        async with relay.serving(), meeting.ben.serving() as ben:
            bob = await ben.agent("bob")
            await bob.whoami()
            await settled()
            was = held(meeting.ben, meeting.opened.room).messages
        async with relay.serving(), meeting.ben.serving() as ben:
            # It is an archive by now.
            await settled()
            assert held(meeting.ben, meeting.opened.room).messages == was > 0
            await ben.engine.desk.home_book.remove(ben.engine.desk.home_book.listed()[0].name)
        async with meeting.ben.serving():
            await settled()
            assert held(meeting.ben, meeting.opened.room).messages == was

    run(main)


def test_of_a_room_that_was_rewound_the_words_that_its_home_has_go_and_those_that_it_lost_stay(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        relay = await lost(meeting, 0)
        async with relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                bob = await ben.agent("bob")
                await bob.whoami()
                alice = await ann.agent("alice")
                await alice.whoami()
                await settled()
                person = await ann.person()
                asked = t.RewindRoom(room=meeting.opened.room, confirmed=True)
                await person.ask("room.rewind", asked, t.RewoundRoom)
                await settled()
                await alice.send("after")
                await settled()
                whole = await bob.recv(since=0, limit=500)
                assert texts(whole)[-1] == "after"
            bound(meeting.ben, room_messages=2)
            async with meeting.ben.serving() as ben:
                bob = await ben.agent("bob")
                await bob.whoami()
                await settled()
                assert held(meeting.ben, meeting.opened.room).messages == 20 + 1
                assert await bob.recv(since=0, limit=500) == whole

    run(main)


def test_a_store_that_cannot_be_counted_ends_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(store: MemoryStore, room: RoomId) -> Held:
        raise StoreError("store_corrupt")

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                await meeting.meet(ann, ben)
            monkeypatch.setattr(MemoryStore, "held", damaged)
            async with meeting.ben.serving() as ben:
                bob = await ben.agent("bob")
                await bob.whoami()
                await settled()
                await meeting.alice.send("still heard")
                assert await bob.read(wait=60) == ["still heard"]

    run(main)


# -- what a reader sees ------------------------------------------------------------------------------------------


def texts_of(messages: list[t.Message]) -> list[str]:
    return [message.text for message in messages]


async def read_up(reader: Party, **how: int) -> list[str]:
    """Everything that is new, page after page, each acknowledged as a command acknowledges what it printed."""
    found: list[str] = []
    while page := await reader.read(**how):
        found += page
    return found


def test_a_reader_that_is_further_behind_than_the_bound_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 40, room_messages=FEW) as (meeting, _, _):
            [room] = [room for room in await meeting.bob.rooms() if room.room == meeting.opened.room]
            assert room.unread == 40
            assert await read_up(meeting.bob, limit=6) == [f"n{number}" for number in range(40)]
            why = await meeting.alice.why((await meeting.alice.recv(since=3, limit=1)).messages[0].id)
            assert why["bob"][-1] in ("pushed", "read", "acknowledged")

    run(main)


def test_a_model_that_is_further_behind_is_shown_the_recap_and_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr("parlerd.engine.receiving.LONG_BACKLOG", 20)
        async with bounded(tmp_path, 40, room_messages=2) as (meeting, _, _):
            meeting.bob.caller.reader.fits = Ten()
            page = await meeting.bob.recv(limit=10)
            assert texts(page) == [f"n{number}" for number in range(30, 40)]
            assert page.notice == ""
            assert (page.first_unshown, page.last_unshown) == (2, 31)

    run(main)


def test_a_newcomer_is_shown_the_recap_although_its_words_are_gone_here(tmp_path: Path) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 40, room_messages=2) as (meeting, ann, ben):
            beth = await ben.agent("beth")
            waits = await beth.join(meeting.opened.session_key)
            assert waits.status == "pending"
            await (await ann.person()).approve("beth", join_code=waits.join_code)
            landed = await beth.join(meeting.opened.session_key, limit=12)
            public = [number for number in range(40) if number % 3]
            assert texts(landed) == ["Chose PKCE.", *(f"n{number}" for number in public[-12:])]

    run(main)


class Ten:
    """A surface that shows ten messages at once."""

    def front(self, messages: Sequence[t.Message], you: str) -> int:
        return min(10, len(messages))

    def newest(self, recap: Sequence[t.Message], tail: Sequence[t.Message], you: str, *, whole: bool) -> int:
        return min(10, len(tail))


def test_what_a_home_out_of_reach_cannot_tell_is_named_and_the_page_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 12, room_messages=FEW) as (meeting, _, _):
            name = meeting.opened.session_key.partition("@")[2] if meeting.opened.session_key else ""
            meeting.wires.cut()
            page = await meeting.bob.recv()
            assert texts(page) == [ABSENT] * 5 + [f"n{number}" for number in range(5, 12)]
            assert [message.seq for message in page.messages] == list(range(2, 14))
            assert {message.verified for message in page.messages} == {"valid"}
            assert {message.author.name for message in page.messages} == {"alice"}
            said = f"Messages 2 to 6 are not on this machine, and {name} does not answer now."
            assert said in page.notice
            assert "read what follows message 1 again later" in page.notice
            await meeting.bob.commit(page)
            assert texts(await meeting.bob.recv()) == []
            meeting.wires.mend()
            await settled()
            found, said = await look_back(meeting.bob, since=1)
            assert (texts_of(found), said) == ([f"n{number}" for number in range(12)], "")

    run(main)


def test_a_home_that_is_silent_costs_a_page_a_few_seconds_and_only_one_that_needs_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 12, room_messages=FEW) as (meeting, _, _):
            assert texts(await meeting.bob.recv(since=9)) == ["n8", "n9", "n10", "n11"]
            for _, theirs in meeting.wires.open:
                theirs.hold()
            begun = trio.current_time()
            assert texts(await meeting.bob.recv(since=9)) == ["n8", "n9", "n10", "n11"]
            assert trio.current_time() == begun, "what is here is shown at once"
            page = await meeting.bob.recv(since=1)
            assert texts(page) == [ABSENT] * 5 + [f"n{number}" for number in range(5, 12)]
            assert "Messages 2 to 6 are not on this machine" in page.notice
            assert 0 < trio.current_time() - begun <= ASKING_S
            for _, theirs in meeting.wires.open:
                theirs.release()

    run(main)


def test_a_person_who_watches_is_shown_the_words_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 12, room_messages=2) as (meeting, _, ben):
            person = await ben.person()
            watch = t.WatchRoom(room=meeting.opened.room, tail=6)
            shown: list[str] = []
            async with ben.engine.stream("room.watch", watch, person.caller) as items:
                async for item in items:
                    assert isinstance(item, t.WatchItem)
                    assert isinstance(item.message, t.Message)
                    shown.append(item.message.text)
                    if len(shown) == 6:
                        break
            assert shown == [f"n{number}" for number in range(6, 12)]

    run(main)


def test_the_doctor_accuses_nobody_of_words_that_were_erased_and_names_those_that_were_taken_out(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 12, room_messages=FEW) as (meeting, _, ben):
            person = await ben.person()
            checks = await person.ask("daemon.check", t.CheckStore(), t.CheckList)
            assert [check.name for check in checks.checks if not check.ok] == []
            store = ben.world.store
            assert isinstance(store, MemoryStore)
            [(position, _)] = store.oldest_bodies(RoomId(meeting.opened.room), Position(0), 1)
            del store._logs[RoomId(meeting.opened.room)].bodies[position]
            checks = await person.ask("daemon.check", t.CheckStore(), t.CheckList)
            assert [check.name for check in checks.checks if not check.ok] == ["signatures"]
            page = await meeting.bob.recv(since=6, limit=1)
            assert [(message.text, message.verified) for message in page.messages] == [("", "invalid")]

    run(main)


def test_in_a_room_of_this_home_a_mark_explains_no_words_that_are_gone(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ann.serving() as ann:
            alice, andy = await ann.room("alice", "andy", home="local")
            sent = await alice.send("hello")
            store = ann.world.store
            place = store.find_message(sent.id)  # type: ignore[arg-type]
            assert place is not None
            store.transact([[EraseBodies(place[0], [place[1]])]])
        async with meeting.ann.serving() as ann:
            andy = await ann.agent("andy")
            [message] = (await andy.recv()).messages
            assert (message.text, message.verified) == ("", "invalid")
            checks = await (await ann.person()).ask("daemon.check", t.CheckStore(), t.CheckList)
            assert [check.name for check in checks.checks if not check.ok] == ["signatures"]

    run(main)


def test_words_that_their_home_erased_are_erased_here(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            for number in range(4):
                await meeting.alice.send(f"n{number}")
            assert len((await meeting.bob.recv(peek=True)).messages) == 4
            room, me = RoomId(meeting.opened.room), (await meeting.bob.whoami()).id
            [link] = meeting.ben.uplinks._links.values()
            resume = await link.mirrors.resume(room)
            page = await link.call("link.pull", t.PullHistory(room=room, agent=me, limit=9))
            erased = page.messages[2]
            gone = msgspec.structs.replace(erased, body=b"", digest=hashlib.sha256(erased.body).digest())
            told = [gone if message is erased else message for message in page.messages]
            await link.mirrors.take(t.LinkItem(room=room, page=msgspec.structs.replace(page, messages=told)))
            assert held(meeting.ben, room).messages == 4
            assert await link.mirrors.resume(room) == resume
            for _, theirs in meeting.wires.open:
                theirs.hold()
            assert texts(await meeting.bob.recv(since=1)) == ["n0", ABSENT, "n2", "n3"]
            for _, theirs in meeting.wires.open:
                theirs.release()
            meeting.wires.cut()
            await settled()
            assert texts(await meeting.bob.recv(since=1)) == ["n0", ABSENT, "n2", "n3"]
            assert [room.alarm for room in await meeting.bob.rooms()] == [""]

    run(main)


def prune(relay: Relay, *, to: int) -> None:
    """From its next start on, the relay keeps the words of so many messages of a room that all have read."""
    relay.settings = Settings(retention_room_messages=to)


def test_a_relay_that_erased_words_while_nobody_listened_is_accused_of_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                await meeting.meet(ann, ben)
            await chat(meeting, 30)
        prune(meeting.relay, to=FEW)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            await settled()
            assert meeting.relay.store.held(RoomId(meeting.opened.room)).messages == 2 * FEW
            async with meeting.ben.serving() as ben:
                await meeting.again(ann, ben)
                found, _ = await look_back(meeting.bob)
                assert [(each.seq, each.text) for each in found[1 - 2 * FEW :]] == [
                    (n + 2, f"n{n}") for n in range(30 - 2 * FEW + 1, 30)
                ]
                await meeting.alice.send("new", visible_to=("bob",))
                await settled()
                assert texts(await meeting.bob.recv(since=31)) == ["new"]
                assert [room.alarm for room in await meeting.bob.rooms()] == [""]

    run(main)


def test_what_readers_here_were_told_of_words_that_their_home_erased_goes_too(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            for number in range(30):
                await meeting.alice.send(f"n{number}")
                page = await meeting.bob.recv(wait=60)
                assert texts(page) == [f"n{number}"]
                await meeting.bob.commit(page)
        room = RoomId(meeting.opened.room)
        stores = (meeting.relay.store, meeting.ben.world.store)

        def ends(store: Store) -> list[Position]:
            """Where marks end."""
            return [mark.upto for position, _ in words(store) for mark in store.deliveries(room, position)]

        def marked(store: Store) -> list[Position]:
            return [position for position, _ in words(store) if store.deliveries(room, position)]

        def words(store: Store) -> list[tuple[Position, int]]:
            return [
                (fact.header.position, len(fact.body or b""))
                for fact in store.whole_facts(room, Position(0), 500)
                if isinstance(fact.header.event, MessagePosted)
            ]

        assert [len(marked(store)) for store in stores] == [31, 31]
        prune(meeting.relay, to=FEW)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.again(ann, ben)
            # What is said next brings the link up, which tells what is gone.
            await meeting.alice.send("new")
            assert texts(await meeting.bob.recv(wait=60))[-1:] == ["new"]
            await trio.sleep(120)
            for store in stores:
                gone = [position for position, size in words(store) if not size]
                assert len(gone) >= 31 - 2 * FEW
                # A link that begins anew notes once more what it told, which covers words that are there.
                assert [upto for upto in ends(store) if gone[0] <= upto <= gone[-1]] == []
                assert set(marked(store)) >= {position for position, size in words(store)[-FEW:] if size}

    run(main)


def test_words_that_neither_a_mirror_nor_its_home_has_are_asked_for_in_vain_and_nobody_is_accused(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await chat(meeting, 30)
            await meeting.bob.read()
            await settled()
        prune(meeting.relay, to=FEW)
        bound(meeting.ben, room_messages=2)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await settled()
            assert meeting.relay.store.held(RoomId(meeting.opened.room)).messages == FEW
            await meeting.again(ann, ben)
            for limit in (4, 100):
                found, said = await look_back(meeting.bob, limit=limit)
                assert [each.seq for each in found] == list(range(1, 32))
                assert [each.text for each in found[1 - FEW :]] == [f"n{n}" for n in range(30 - FEW + 1, 30)]
                assert "home_unreachable" not in said
                assert "relay_" not in said
            assert [room.alarm for room in await meeting.bob.rooms()] == [""]

    run(main)


async def spans(served: Served, room: str) -> list[Span]:
    return (await served.engine.rooms.get(RoomId(room))).aggregate.state.retention.spans


def test_what_the_relay_lets_go_while_a_mirror_listens_goes_there_too(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        prune(meeting.relay, to=FEW)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await chat(meeting, 30)
            await meeting.bob.read()
            await settled()
            room = meeting.opened.room
            assert held(meeting.ben, room).messages == 31
            await trio.sleep(retaining.AGAIN_S)
            await settled()
            assert meeting.relay.store.held(RoomId(room)).messages == FEW
            assert held(meeting.ben, room) == held(meeting.ann, room) == meeting.relay.store.held(RoomId(room))
            found, said = await look_back(meeting.bob)
            assert said == f"Words erased by retention or a timer ({31 - FEW} messages)."
            assert [each.seq for each in found] == list(range(1, 32))
            checks = (await (await ben.person()).ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            assert [check.detail for check in checks if not check.ok] == []

    run(main)


def test_what_the_relay_let_go_meanwhile_is_told_once_to_who_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await chat(meeting, 30)
            await meeting.bob.read()
            await settled()
        prune(meeting.relay, to=FEW)
        room = meeting.opened.room
        async with meeting.relay.serving():
            await settled()
            heads = []
            for _ in range(2):
                async with meeting.ben.serving() as ben:
                    meeting.bob = await ben.agent("bob")
                    await meeting.bob.recv()
                    await settled()
                    heads.append(meeting.ben.world.store.head(RoomId(room)))
                    assert held(meeting.ben, room).messages == FEW
                    assert len(await spans(ben, room)) == 1
            assert heads[0] == heads[1]

    run(main)


@pytest.mark.parametrize(
    ("agent", "first", "last"), [("bob", 9, 2), ("bob", 500, 2**53), ("alice", 1, 9), ("nobody", 1, 9)]
)
def test_a_home_that_says_nonsense_of_what_it_let_go_changes_nothing(
    tmp_path: Path, agent: str, first: int, last: int
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await chat(meeting, 5)
            await meeting.bob.read()
            room = RoomId(meeting.opened.room)
            [link] = meeting.ben.uplinks._links.values()
            ids = {"alice": (await meeting.alice.whoami()).id, "bob": (await meeting.bob.whoami()).id}
            said = t.ErasedAtRoom(agent=ids.get(agent, "U" + "A" * 55), first=first, last=last)
            assert await link.mirrors.take(t.LinkItem(room=room, erased=[said]))
            assert held(meeting.ben, room).messages == 6
            await meeting.alice.send("new")
            assert texts(await meeting.bob.recv()) == ["new"]

    run(main)


def signed_otherwise(header: Header) -> Header:
    assert isinstance(header.event, MessagePosted)
    return msgspec.structs.replace(header, event=msgspec.structs.replace(header.event, envelope=bytes(32)))


def test_words_that_are_not_those_that_were_here_are_not_shown(tmp_path: Path) -> None:
    async def main() -> None:
        async with bounded(tmp_path, 9, room_messages=2) as (meeting, _, ben):
            bob = meeting.bob
            handle = await ben.engine.rooms.get(RoomId(meeting.opened.room))
            me = AgentId((await bob.whoami()).id)
            view = handle.aggregate.view(me)
            page = await ben.engine.desk.library.page(handle.aggregate, view, Position(0), limit=9, skip_own=False)
            erased = [message for message in page.messages if message.is_erased]
            others = [msgspec.structs.replace(message, header=signed_otherwise(message.header)) for message in erased]
            refilled = await refill(handle, handle.aggregate.state, me, [erased[0], *others[1:3], erased[3]])
            assert [message.body is None for message in refilled.messages] == [False, True, True, False]
            assert "Messages 2 to 3 cannot be shown" in refilled.said

    run(main)


# -- the same as without a bound ---------------------------------------------------------------------------------

READS = st.fixed_dictionaries(
    {"since": st.integers(0, 45), "limit": st.integers(1, 50)},
    optional={
        "kind": st.sampled_from(["text", "context", "status"]),
        "mentions": st.just(True),
        "max_bytes": st.sampled_from([1, 2_000, 1_000_000]),
    },
)


@settings(max_examples=6, deadline=None)
@given(
    keep=st.integers(1, 40),
    said=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from(["text", "status"])), min_size=5, max_size=40
    ),
    reads=st.lists(READS, min_size=1, max_size=8),
)
def test_a_bounded_mirror_shows_the_same_as_one_without_bounds(
    keep: int, said: list[tuple[bool, bool, str]], reads: list[dict[str, int]]
) -> None:
    async def main(folder: Path) -> None:
        wires, relay, home = homes_of(folder)
        meeting = Meeting(wires, relay, home("ann"), home("ben"))
        bound(meeting.ann)
        async with relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                await meeting.meet(ann, ben)
                for number, (private, named, kind) in enumerate(said):
                    visible_to = ("bob",) if private else None
                    await meeting.alice.send(
                        f"n{number}", visible_to=visible_to, to=("bob",) if named else (), kind=kind
                    )
                await meeting.bob.recv(peek=True)
                unbounded = [await meeting.bob.recv(**read) for read in reads]
                new = await meeting.bob.recv(peek=True)
            bound(meeting.ben, room_messages=keep)
            async with meeting.ben.serving() as ben:
                bob = await ben.agent("bob")
                await settled()
                assert held(meeting.ben, meeting.opened.room).messages <= keep
                assert [await bob.recv(**read) for read in reads] == unbounded
                assert await bob.recv(peek=True) == new

    with TemporaryDirectory() as folder:
        run(lambda: main(Path(folder)))
