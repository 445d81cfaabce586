"""Who was in a sealed room when something was said that a mirror leaves out (`uplink.rosters`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from parlerd.core.errors import Refused
from parlerd.core.model import RoomId
from parlerd.operations import types as t
from parlerd.uplink.remote_room import RemoteRoom
from parlerd.uplink.rosters import Rosters
from tests.support.engine import Party, run
from tests.support.relayed import Home, homes_of
from tests.uplink.test_sealed import Meeting
from tests.uplink.test_sealed_succeeding import wait

Change = Callable[[t.EpochEntry], t.EpochEntry]


async def longer_than_a_mirror(meeting: Meeting, third: Home, carol: Party) -> None:
    """Words under several records, of which Carol's mirror holds the newest alone: Bob is put out before the last."""
    for number in range(3):
        await meeting.bob.send(f"bob {number}")
        await meeting.alice.send(f"alice {number}")
    person = await meeting.ann_served.person()
    await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
    for number in range(3, 6):
        await meeting.alice.send(f"alice {number}")
    await meeting.admit(carol, "carol")
    await wait()
    state = (await meeting.room_of(third)).state
    assert state.epochs.turned[0][0] == 3


@pytest.fixture(autouse=True)
def short_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parlerd.engine.following.NEWEST", 2)
    monkeypatch.setattr("parlerd.uplink.mirrors.NEWEST", 2)


async def past_of(third: Home, carol: Party, room: str) -> tuple[RemoteRoom, list[str]]:
    """The room as Carol's home has it, and what she reads of its past."""
    handle = await third.uplinks._desk.rooms.get(RoomId(room))
    assert isinstance(handle, RemoteRoom)
    page = await carol.recv(since=0, limit=50)
    return handle, [message.text for message in page.messages]


def test_who_comes_in_reads_the_past_of_which_the_home_shows_who_was_in(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben, cat.serving() as third:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            carol = await third.agent("carol")
            await longer_than_a_mirror(meeting, cat, carol)
            _, texts = await past_of(cat, carol, meeting.opened.room)
            assert [text for text in texts if text.startswith("bob")] == ["bob 0", "bob 1", "bob 2"]
            assert texts[-1] == "alice 3"
            assert (await meeting.room_of(cat)).state.contradicted == ""

    run(main)


def _without_roster(told: t.EpochEntry) -> t.EpochEntry:
    return msgspec.structs.replace(told, roster=[])


def _without_one(told: t.EpochEntry) -> t.EpochEntry:
    return msgspec.structs.replace(told, roster=told.roster[1:])


def _unsigned(told: t.EpochEntry) -> t.EpochEntry:
    return msgspec.structs.replace(told, signature=bytes(64))


@pytest.mark.parametrize("change", [_without_roster, _without_one, _unsigned])
def test_a_roster_that_the_record_does_not_name_or_nobody_signed_is_none(tmp_path: Path, change: Change) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben, cat.serving() as third:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            carol = await third.agent("carol")
            await longer_than_a_mirror(meeting, cat, carol)
            (link,) = cat.uplinks._links.values()
            mirror, me = await meeting.room_of(cat), (await carol.whoami()).id
            owner = await meeting.room_of(meeting.ann)
            records = {row.record: row.number for row in meeting.ann.world.store.made_records(owner.state.room)}
            asked: list[t.PullEpochs] = []

            async def pull(wanted: t.PullEpochs) -> t.PulledEpochs:
                asked.append(wanted)
                pulled = await link.pull_epochs(wanted)
                return t.PulledEpochs(epochs=[change(each) for each in pulled.epochs])

            async def silent(wanted: t.PullEpochs) -> t.PulledEpochs:
                raise Refused("no_such_room")

            def rosters() -> Rosters:
                return Rosters(cat.uplinks._desk.library)

            found = await rosters().of(mirror, records, agent=me, pull=link.pull_epochs)  # type: ignore[arg-type]
            sizes = [len(found[record].inside) for record in sorted(records, key=lambda record: records[record])]
            assert sizes == [1, 2, 1, 2]
            lied = await rosters().of(mirror, records, agent=me, pull=pull)  # type: ignore[arg-type]
            own = {record for record, number in records.items() if number >= 3}
            assert lied.keys() == own
            assert len(asked) == 1
            assert (await rosters().of(mirror, records, agent=me, pull=silent)).keys() == own  # type: ignore[arg-type]

    run(main)


def test_the_rosters_of_records_that_the_mirror_holds_are_asked_of_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting = Meeting(wires, relay, home("ann"), home("ben"))
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            person = await ann.person()
            await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
            await wait()
            mirror = await meeting.room_of(meeting.ann)
            records = {row.record: row.number for row in meeting.ann.world.store.made_records(mirror.state.room)}

            async def never(wanted: t.PullEpochs) -> t.PulledEpochs:
                raise AssertionError(wanted)

            rosters = Rosters(meeting.ann.uplinks._desk.library)
            found = await rosters.of(mirror, records, agent=mirror.state.owner, pull=never)
            by_number = {
                seats.number: seats.inside for record, seats in found.items() if records[record] == seats.number
            }
            assert [len(by_number[number]) for number in (1, 2, 3)] == [1, 2, 1]

    run(main)
