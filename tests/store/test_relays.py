"""Which relays serve a PostgreSQL database, by its own clock; whose it is, and which state it is in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import msgspec
import psycopg
import pytest

from parlerd.core.errors import StoreError
from parlerd.store.postgres.relays import Relays
from parlerd.store.relays import DEAD_AFTER_S, Row
from tests.support.postgres import Database, Postgres, with_tables

ONE = Row("one", "i1", "10.0.0.1:7777", "1.0")
OTHER = Row("other", "i2", "10.0.0.2:7777", "1.1")


@pytest.fixture
def made(postgres: Postgres) -> Iterator[Database]:
    """A database with Parler's tables."""
    with postgres.database(with_tables) as database:
        yield database


@pytest.fixture
def relays(made: Database) -> Iterator[Relays]:
    with closing(Relays(made.relay)) as found:
        yield found


def by_hand(database: Database, sql: str) -> None:
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        connection.execute(sql.encode())


def let_pass(database: Database, seconds: float) -> None:
    """What the server's clock shows of rows after so long: they are as old as that."""
    by_hand(database, f"UPDATE relays SET beat = beat - interval '{seconds} s'")


# -- whose it is -------------------------------------------------------------------------------------------


def test_a_new_database_is_the_relays_that_came_first_and_no_others(relays: Relays) -> None:
    relays.claim("KEY", "a" * 32)
    assert relays.mark().log == "a" * 32
    relays.claim("KEY", "b" * 32)
    assert relays.mark().log == "a" * 32
    with pytest.raises(StoreError) as error:
        relays.claim("ANOTHER", "c" * 32)
    assert error.value.code == "store_of_another_relay"


def test_two_relays_that_claim_a_new_database_at_once_do_not_both_have_it(made: Database) -> None:
    together, outcomes = threading.Barrier(2), []

    def claim(home: str) -> None:
        with closing(Relays(made.relay)) as relays:
            relays.mark()
            together.wait(60)
            try:
                relays.claim(home, home * 32)
                outcomes.append("")
            except StoreError as error:
                outcomes.append(error.code)

    threads = [threading.Thread(target=claim, args=(home,)) for home in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == ["", "store_of_another_relay"]


# -- which state it is in ----------------------------------------------------------------------------------


def test_the_state_of_a_database_only_moves_on(relays: Relays, made: Database) -> None:
    relays.claim("KEY", "a" * 32)
    before = relays.mark()
    by_hand(made, "INSERT INTO meta VALUES ('x', 'y')")
    after = relays.mark()
    assert after.position > before.position
    assert msgspec.structs.replace(after, position=0) == msgspec.structs.replace(before, position=0)


def test_a_copy_at_the_same_server_is_another_database(relays: Relays, postgres: Postgres) -> None:
    relays.claim("KEY", "a" * 32)
    before = relays.mark()
    with postgres.database(with_tables) as copy, closing(Relays(copy.relay)) as others:
        others.claim("KEY", "a" * 32)
        mark = others.mark()
    assert mark.system == before.system
    assert mark.database != before.database


def test_the_numbers_of_a_database_are_those_of_this_moment(relays: Relays, made: Database) -> None:
    relays.claim("KEY", "a" * 32)
    with psycopg.connect(made.relay) as other:
        other.execute("SELECT 1")
        found = relays.numbers()
    assert found.connections >= 2
    assert found.oldest_s > 0
    assert found.dead >= 0


# -- who lives ---------------------------------------------------------------------------------------------


def test_relays_live_side_by_side(relays: Relays) -> None:
    relays.join(ONE)
    relays.join(OTHER)
    assert relays.beat(ONE)[0]
    assert relays.beat(OTHER)[0]
    assert relays.look().living == [ONE, OTHER]


def test_the_process_of_a_relay_that_starts_again_takes_the_row_of_the_one_before(relays: Relays) -> None:
    relays.join(ONE)
    again = msgspec.structs.replace(ONE, incarnation="i3")
    relays.join(again)
    assert not relays.beat(ONE)[0]
    assert relays.beat(again)[0]


def test_a_relay_that_was_silent_is_dead_by_the_servers_clock_and_learns_so(relays: Relays, made: Database) -> None:
    relays.join(ONE)
    let_pass(made, DEAD_AFTER_S - 2)
    assert relays.look().living == [ONE]
    let_pass(made, 3)
    assert relays.look().living == []
    relays.join(OTHER)
    assert not relays.beat(ONE)[0]


def test_a_relay_that_nobody_came_after_goes_on_after_a_silence(relays: Relays, made: Database) -> None:
    relays.join(ONE)
    let_pass(made, 10 * DEAD_AFTER_S)
    assert relays.beat(ONE)[0]
    assert relays.look().living == [ONE]


def test_a_relay_that_leaves_is_gone_at_once_and_takes_nobody_with_it(relays: Relays) -> None:
    relays.join(ONE)
    relays.leave(OTHER)
    relays.leave(msgspec.structs.replace(ONE, incarnation="i0"))
    assert relays.look().living == [ONE]
    relays.leave(ONE)
    assert relays.look().living == []


def test_a_beat_says_where_a_relay_listens_now(relays: Relays) -> None:
    relays.join(ONE)
    moved = msgspec.structs.replace(ONE, address="10.0.0.9:7777", inner="10.1.0.9:7778")
    relays.beat(moved)
    assert relays.look().living == [moved]


def test_a_row_is_no_lock_so_a_connection_that_was_cut_leaves_nothing_that_waits(
    relays: Relays, made: Database
) -> None:
    relays.join(ONE)
    by_hand(
        made,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    with suppress(StoreError):
        # The first to use the connection finds that it broke, and the next has another.
        relays.beat(ONE)
    assert relays.beat(ONE)[0]


def test_who_looks_while_shards_change_hands_sees_them_in_their_new_hands(made: Database, relays: Relays) -> None:
    relays.join(ONE)
    relays.join(OTHER)
    relays.take(ONE, [7])
    with psycopg.connect(made.superuser) as taking, closing(Relays(made.relay)) as looking:
        # Another concluded that the relay is dead, and has not committed yet what it takes.
        taking.execute("LOCK TABLE shards IN SHARE ROW EXCLUSIVE MODE")
        taking.execute("UPDATE shards SET relay = 'other', incarnation = 'i2', term = term + 1 WHERE shard = 7")
        seen = []
        thread = threading.Thread(target=lambda: seen.append(looking.look()))
        thread.start()
        with psycopg.connect(made.superuser, autocommit=True) as watching:
            while not watching.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
                assert thread.is_alive(), "it does not wait"
        taking.commit()
        thread.join()
    assert seen[0].shards[7].relay == "other"
