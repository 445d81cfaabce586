"""A room as a whole: replay, snapshots, and what no hash order may change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.model import By, MessageId, Millis, Position
from parlerd.core.room import Room
from parlerd.core.topics import Topic
from tests.support.core import (
    BEN,
    CAT,
    KEY,
    OWNER,
    ROOM,
    CountedIds,
    RoomDriver,
    agent,
    opened,
)
from tests.support.scripts import MIRROR_SCENES, ROOM_SCENES, script_digest, scripted_room

REPOSITORY = Path(__file__).parents[2]


# -- folding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_replay_and_snapshot_give_the_room_that_memory_holds(seed: int) -> None:
    room = scripted_room(seed, 300)
    assert len(room.log) > 50
    room.verify()


def test_every_type_of_fact_of_a_room_has_its_scene_in_the_scripts() -> None:
    assert {e.RoomOpened, *ROOM_SCENES, *MIRROR_SCENES, e.RoomClosed} == set(get_args(e.RoomEvent))


@pytest.mark.parametrize("steps", [0, 300])
def test_a_script_reaches_every_fact_of_a_room_however_long_it_is(steps: int) -> None:
    assert {type(header.event) for header in scripted_room(0, steps).log} == set(get_args(e.RoomEvent))


def test_two_processes_that_hash_differently_write_the_same_bytes() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", "from tests.support.scripts import script_digest; print(script_digest(7))"],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": hashing, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hashing in ("1", "2")
    ]
    answers = [process.communicate()[0].strip() for process in processes]
    assert answers == [script_digest(7)] * 2
    assert answers[0] != script_digest(8)


def test_a_snapshot_that_is_none_is_refused() -> None:
    for data in (b"", b"\xc1", b"\x01", opened().aggregate.snapshot()[:-1]):
        with pytest.raises(msgspec.DecodeError):
            Room.restore(data)


def test_facts_of_the_home_room_change_nothing_in_a_room() -> None:
    room = opened()
    before = msgspec.structs.asdict(room.aggregate.state)
    room.commit(e.SessionActivated(agent=BEN.id, room=ROOM), BEN)
    after = {**msgspec.structs.asdict(room.aggregate.state), "position": before["position"]}
    assert after == before


def test_a_hundred_thousand_facts_fold_to_counts_and_not_to_messages() -> None:
    room = opened(approval=False).aggregate
    crowd = [agent(f"member-{chr(97 + n // 26)}{chr(97 + n % 26)}") for n in range(40)]
    ids = CountedIds()
    for who in crowd:
        knock = c.Knock(key_id=KEY, name=who.name, host="codex")
        for event in room.decide(knock, by=who.by, now=Millis(0), ids=ids).events:
            room.apply(fact(room, event, who.by))
    start = room.position
    for n in range(start, 100_000):
        who = crowd[n % len(crowd)]
        named = tuple(sorted({who.id, crowd[0].id})) if n % 10 == 0 else None
        message = e.MessagePosted(
            id=MessageId(f"m_{n}"), kind="note", chain="c", counter=n, visibility=named, envelope=bytes(32)
        )
        room.apply(fact(room, message, who.by))
    assert room.position == 100_000
    posted = range(start, 100_000)
    public = sum(1 for n in posted if n % 10) + 1  # and the recap
    private = len(posted) + 1 - public
    assert room.newest_seq(OWNER.id) == public
    assert room.newest_seq(crowd[0].id) == public + private
    assert len(room.snapshot()) < 25_000


def fact(room: Room, event: e.Event, by: By) -> e.Header:
    return e.Header(position=Position(room.position + 1), at=Millis(0), by=by, authority="member", event=event)


# -- whom facts wake ---------------------------------------------------------------------------------------


def woken(room: RoomDriver, kind: type[e.Event]) -> set[Topic]:
    """The topics of the newest fact of this kind."""
    header = next(header for header in reversed(room.log) if isinstance(header.event, kind))
    return set(room.aggregate.topics(header))


def test_each_fact_wakes_whom_it_concerns_and_nobody_else() -> None:
    room = opened()
    assert woken(room, e.RoomOpened) == set()
    assert woken(room, e.KeyMinted) == {topics.keys(ROOM, KEY)}
    assert woken(room, e.MessagePosted) == {topics.messages(ROOM)}
    room.knock(BEN)
    owner, person = topics.concerns(OWNER.id), topics.requests(OWNER.principal)
    assert woken(room, e.JoinRequested) == {person, owner}
    room.approve(BEN)
    assert woken(room, e.JoinApproved) == {person, owner, topics.decision(ROOM, BEN.id), topics.concerns(BEN.id)}
    assert woken(room, e.MemberJoined) == {topics.life(ROOM), owner, topics.memberships(BEN.id)}
    room.give_role(BEN, "reviewer")
    assert woken(room, e.RoleGiven) == {topics.life(ROOM)}
    room.post(BEN, visible_to=(OWNER.id,))
    assert woken(room, e.MessagePosted) == {topics.messages(ROOM, BEN.id), topics.messages(ROOM, OWNER.id)}
    room.knock(CAT)
    room.deny(CAT)
    assert woken(room, e.JoinDenied) == {person, owner, topics.decision(ROOM, CAT.id), topics.concerns(CAT.id)}
    room.leave(BEN)
    assert woken(room, e.MemberLeft) == {topics.life(ROOM), owner}
    room.revoke()
    assert woken(room, e.KeyRevoked) == {topics.keys(ROOM, KEY)}
    room.close()
    assert woken(room, e.RoomClosed) == {
        topics.life(ROOM),
        person,
        topics.keys(ROOM, KEY),
        *(topics.decision(ROOM, who.id) for who in (BEN, CAT)),
        *(topics.concerns(who.id) for who in (BEN, CAT)),
    }
