"""Which relay a shard belongs to: everybody agrees, each has its part, and little moves where relays come and go."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core.model import HOME_ROOM, RoomId
from parlerd.core.shards import SHARDS, shard_of, shares

NAMES = st.sets(st.text(alphabet="0123456789abcdef", min_size=1, max_size=32), min_size=1, max_size=6)


def test_the_shard_of_a_room_never_changes() -> None:
    # The rows of databases say these numbers.
    assert shard_of(HOME_ROOM) == 673
    assert [shard_of(RoomId(room)) for room in ("a", "b", "room_00000001")] == [663, 547, 26]


def test_rooms_are_spread_over_all_shards() -> None:
    counted = Counter(shard_of(RoomId(f"room {number}")) for number in range(40 * SHARDS))
    assert set(counted) == set(range(SHARDS))
    assert max(counted.values()) < 80


def test_without_a_relay_nobody_has_a_shard() -> None:
    assert shares([]) == {}


@settings(deadline=None, max_examples=25)
@given(NAMES)
def test_every_shard_belongs_to_one_of_the_relays_however_these_are_listed(relays: set[str]) -> None:
    found = shares(sorted(relays))
    assert found == shares(sorted(relays, reverse=True))
    assert set(found) == set(range(SHARDS))
    assert set(found.values()) <= relays


@settings(deadline=None, max_examples=25)
@given(NAMES)
def test_each_relay_has_about_its_part(relays: set[str]) -> None:
    counted = Counter(shares(relays).values())
    part = SHARDS / len(relays)
    # Six deviations of a draw with replacement: no set of names comes near.
    spread = 6 * (part * (1 - 1 / len(relays))) ** 0.5
    assert all(abs(counted[relay] - part) <= spread for relay in relays)


@settings(deadline=None, max_examples=25)
@given(NAMES, st.text(alphabet="xyz", min_size=1, max_size=8))
def test_a_relay_that_comes_takes_shards_and_none_moves_between_the_others(relays: set[str], new: str) -> None:
    before, after = shares(relays), shares(relays | {new})
    assert all(after[shard] in (before[shard], new) for shard in range(SHARDS))


@settings(deadline=None, max_examples=25)
@given(NAMES, st.data())
def test_where_a_relay_goes_only_its_shards_move(relays: set[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(relays)))
    before, after = shares(relays), shares(relays - {gone})
    assert all(after.get(shard) == before[shard] for shard in range(SHARDS) if before[shard] != gone and after)
