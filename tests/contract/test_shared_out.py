"""Who has which shard, by every store that relays may share: one change at a time, each with a higher term."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import msgspec
import pytest

from parlerd.core.shards import SHARDS
from parlerd.store.memory_relays import MemoryRelays
from parlerd.store.relays import DEAD_AFTER_S, Row, SharedOut, Tenure

ONE = Row("one", "i1", "10.0.0.1:7777", "1.0", "10.1.0.1:7778")
OTHER = Row("other", "i2", "10.0.0.2:7777", "1.0", "10.1.0.2:7778")


@dataclass
class Shared:
    """A store under test: a relay's way to it, how one begins, and what makes its clock go on."""

    connect: Callable[[], SharedOut]
    join: Callable[[Row], None]
    leave: Callable[[Row], None]
    let_pass: Callable[[float], None]

    def __post_init__(self) -> None:
        self.table = self.connect()

    def of(self, shard: int) -> Tenure:
        return self.table.look().shards[shard]


@pytest.fixture
def memory() -> Shared:
    clock = [0.0]
    relays = MemoryRelays(lambda: clock[0])

    def let_pass(seconds: float) -> None:
        clock[0] += seconds

    return Shared(lambda: relays, relays.join, relays.leave, let_pass)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Shared]:
    import psycopg

    from parlerd.store.postgres.relays import Relays
    from tests.support.postgres import shared, with_tables

    with ExitStack() as stack:
        database = stack.enter_context(shared().database(with_tables))

        def connect() -> Relays:
            return stack.enter_context(closing(Relays(database.owner)))

        relays = connect()

        def let_pass(seconds: float) -> None:
            with psycopg.connect(database.superuser, autocommit=True) as connection:
                connection.execute("UPDATE relays SET beat = beat - make_interval(secs => %s)", (seconds,))

        yield Shared(connect, relays.join, relays.leave, let_pass)


@pytest.fixture(params=["memory", "server"])
def made(request: pytest.FixtureRequest) -> Shared:
    found: Shared = request.getfixturevalue(request.param)
    return found


def test_at_first_nobody_has_a_shard(made: Shared) -> None:
    seen = made.table.look()
    assert list(seen.living) == []
    assert list(seen.shards) == [Tenure(shard, "", "", 0) for shard in range(SHARDS)]


def test_a_relay_takes_what_nobody_has(made: Shared) -> None:
    made.join(ONE)
    assert made.table.take(ONE, [3, 5]) == [Tenure(3, "one", "i1", 1), Tenure(5, "one", "i1", 1)]
    assert made.of(3) == Tenure(3, "one", "i1", 1)
    assert made.of(4) == Tenure(4, "", "", 0)


def test_what_a_living_relay_has_is_not_taken(made: Shared) -> None:
    made.join(ONE)
    made.join(OTHER)
    made.table.take(ONE, [3])
    assert made.table.take(OTHER, [3]) == []
    assert made.table.take(ONE, [3]) == []
    assert made.of(3) == Tenure(3, "one", "i1", 1)


def test_what_a_dead_relay_had_is_taken_with_a_higher_term(made: Shared) -> None:
    made.join(ONE)
    made.table.take(ONE, [3])
    made.let_pass(DEAD_AFTER_S - 1)
    made.join(OTHER)
    assert made.table.take(OTHER, [3]) == []
    made.let_pass(2)
    assert made.table.take(OTHER, [3]) == [Tenure(3, "other", "i2", 2)]


def test_what_an_earlier_process_of_a_relay_had_is_taken(made: Shared) -> None:
    made.join(ONE)
    made.table.take(ONE, [3])
    again = Row("one", "i9", "", "1.0")
    made.join(again)
    assert made.table.take(ONE, [4]) == []
    assert made.table.take(again, [3]) == [Tenure(3, "one", "i9", 2)]


def test_who_is_dead_takes_nothing(made: Shared) -> None:
    made.join(ONE)
    made.let_pass(DEAD_AFTER_S + 1)
    assert made.table.take(ONE, [3]) == []
    made.leave(ONE)
    assert made.table.take(ONE, [3]) == []


def test_a_relay_hands_over_what_it_has_and_nothing_else(made: Shared) -> None:
    made.join(ONE)
    made.join(OTHER)
    made.table.take(ONE, [3, 4])
    made.table.take(OTHER, [7])
    assert made.table.give(ONE, {3: 1, 7: 1, 9: 0}, "other") == [Tenure(3, "other", "i2", 2)]
    assert made.table.give(ONE, {4: 2}, "other") == []
    assert made.of(4) == Tenure(4, "one", "i1", 1)


def test_nothing_is_handed_to_a_relay_that_does_not_live(made: Shared) -> None:
    made.join(ONE)
    made.table.take(ONE, [3])
    assert made.table.give(ONE, {3: 1}, "other") == []
    assert made.of(3) == Tenure(3, "one", "i1", 1)


def test_what_is_given_up_is_nobodys_and_taken_by_whoever_asks(made: Shared) -> None:
    made.join(ONE)
    made.join(OTHER)
    made.table.take(ONE, [3])
    assert made.table.give(ONE, {3: 1}, "") == [Tenure(3, "", "", 2)]
    assert made.table.take(OTHER, [3]) == [Tenure(3, "other", "i2", 3)]


def test_of_two_that_take_the_same_at_once_each_shard_goes_to_one(made: Shared) -> None:
    made.join(ONE)
    made.join(OTHER)
    together = threading.Barrier(2)
    taken: dict[str, list[Tenure]] = {}

    def take(row: Row, table: SharedOut) -> None:
        together.wait(60)
        taken[row.relay] = table.take(row, range(SHARDS))

    threads = [threading.Thread(target=take, args=(row, made.connect())) for row in (ONE, OTHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = sorted(taken["one"] + taken["other"], key=lambda tenure: tenure.shard)
    assert found == list(made.table.look().shards)
    assert {tenure.term for tenure in found} == {1}


# -- relays of two versions ------------------------------------------------------------------------------------

NEWER = msgspec.structs.replace(OTHER, kinds=7)
"""A relay that knows a kind of fact which there is not yet."""


def test_a_new_kind_of_fact_is_begun_once_every_relay_that_lives_knows_it(made: Shared) -> None:
    made.join(ONE)
    made.join(NEWER)
    assert made.table.look().living == [ONE, NEWER]
    assert made.table.begin(7) is False
    assert made.table.look().written == 1
    made.let_pass(DEAD_AFTER_S + 1)
    made.join(NEWER)
    assert made.table.begin(7) is True
    assert made.table.look().written == 7
    # What was written is never written less.
    assert made.table.begin(3) is True
    assert made.table.look().written == 7


def test_a_relay_that_does_not_know_what_was_written_gets_no_shard(made: Shared) -> None:
    made.join(NEWER)
    assert made.table.begin(7) is True
    made.table.take(NEWER, [3])
    made.join(ONE)
    assert made.table.take(ONE, [4]) == []
    assert made.table.give(NEWER, {3: 1}, "one") == []
    assert (made.of(3).relay, made.of(4).relay) == ("other", "")
    # It keeps nobody from writing what was begun before it came.
    assert made.table.begin(7) is False
    assert made.table.look().written == 7
