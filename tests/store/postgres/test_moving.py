"""A store that is carried from a file into a database and back: every log, body, line and position is there as it was,
and people go on where they were."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from parlerd.core.errors import StoreError
from parlerd.core.model import Position, RoomId
from parlerd.operations import types as t
from parlerd.store.port import START, Store
from parlerd.store.postgres import PostgresStore, moving
from parlerd.store.sqlite import SqliteStore
from tests.scenario.test_memory import remember, together
from tests.support.engine import texts
from tests.support.homes import Place, database_home, file_home
from tests.support.postgres import Database, Postgres, with_tables


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """A database with the tables of a store."""
    with postgres.database(with_tables) as made:
        yield made


async def first_act(place: Place) -> None:
    alice, bob = await together(place, "alice", "bob")
    for n in range(20):
        await alice.send(f"message {n}")
    await alice.send("psst", visible_to=("bob",))
    await remember(alice, "blue-green deploys", key="deploy")
    await bob.commit(await bob.recv(limit=10))
    carol, dan = await place.agent("carol"), await place.agent("dan")
    gone = await carol.open("gone", "to be deleted")
    await carol.send("nobody reads this")
    await (await place.person()).ask("room.delete", t.DeleteRoom(room=gone.room, confirmed=True), t.DeletedRoom)
    await dan.open("quiet", "")


async def next_act(place: Place) -> None:
    alice, bob = await place.agent("alice"), await place.agent("bob")
    page = await bob.recv(limit=500)
    # He goes on after what he had acknowledged, and sees what was for him alone.
    assert [text for text in texts(page) if text.startswith("message")] == [f"message {n}" for n in range(10, 20)]
    assert "psst" in texts(page)
    sent = await alice.send("after the move")
    assert (await bob.recv(wait=5)).messages[-1].id == sent.id


def noted(into: list[str]) -> moving.Note:
    return lambda table, rows: into.append(f"{table} {rows}")


def moved(folder: Path, database: Database) -> list[str]:
    """Carry the file of a home into a database."""
    said: list[str] = []
    with closing(SqliteStore(folder / "parler.db", backups=folder / "backups")) as source:
        heads = moving.heads_of(source)
    moving.into_database(folder / "parler.db", database.owner, {"home": "KEY"}, noted(said))
    with closing(PostgresStore(database.relay)) as target:
        target.rebuild_index()
        moving.check(target, heads, noted(said))
    return said


def rows_of(store: Store) -> dict[str, object]:
    """Whatever can be asked of every room, in one store."""
    found: dict[str, object] = {"rooms": store.rooms(), "leases": store.leases()}
    for room in store.rooms():
        head = store.head(room)
        found[f"{room} facts"] = store.whole_facts(room, START, 10_000)
        found[f"{room} head"] = head
        found[f"{room} receipts"] = [store.receipted(room, Position(n + 1)) for n in range(head.position)]
        found[f"{room} erased"] = store.erased(room, START, head.position)
        found[f"{room} shown"] = store.shown_at(room, head.position)
        found[f"{room} deliveries"] = [
            sorted(store.deliveries(room, Position(n + 1)), key=repr) for n in range(head.position)
        ]
    return found


def test_people_go_on_over_a_database_where_they_were_over_a_file_and_back_again(
    tmp_path: Path, database: Database
) -> None:
    file_home(tmp_path).play(first_act)
    with closing(SqliteStore(tmp_path / "parler.db", backups=tmp_path / "backups")) as store:
        before = rows_of(store)
    with closing(sqlite3.connect(tmp_path / "parler.db")) as connection:
        deleted = [RoomId(room) for (room,) in connection.execute("SELECT room FROM tombstones")]
    said = moved(tmp_path, database)
    assert any(each.startswith("facts ") for each in said)
    assert any(each.startswith("checked ") for each in said)
    with closing(PostgresStore(database.relay)) as there:
        assert rows_of(there) == before
        assert deleted
        assert all(there.is_deleted(room) for room in deleted)
    database_home(tmp_path, database.relay).play(next_act)

    back = tmp_path / "back"
    back.mkdir()
    with closing(PostgresStore(database.relay)) as there:
        after, heads = rows_of(there), moving.heads_of(there)
    SqliteStore(back / "parler.db", backups=back / "backups").close()
    moving.into_file(database.relay, back / "parler.db", noted([]))
    with closing(SqliteStore(back / "parler.db", backups=back / "backups")) as store:
        store.rebuild_index()
        moving.check(store, heads, noted([]))
        assert rows_of(store) == after
    (tmp_path / "keys").rename(back / "keys")

    async def last_act(place: Place) -> None:
        bob = await place.agent("bob")
        assert texts(await bob.recv(all=True, limit=500))[-1] == "after the move"
        await bob.send("home again")

    file_home(back).play(last_act)


def test_rules_are_in_force_again_after_a_move(tmp_path: Path, database: Database) -> None:
    file_home(tmp_path).play(first_act)
    moved(tmp_path, database)
    with closing(psycopg.connect(database.owner)) as connection, pytest.raises(psycopg.IntegrityError):
        connection.execute("DELETE FROM facts")
    SqliteStore(tmp_path / "back.db", backups=tmp_path / "backups").close()
    with closing(sqlite3.connect(tmp_path / "back.db")) as connection:
        rules = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name").fetchall()
    moving.into_file(database.relay, tmp_path / "back.db", noted([]))
    with closing(sqlite3.connect(tmp_path / "back.db")) as connection:
        again = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name").fetchall()
        assert again == rules
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("DELETE FROM facts")


def test_a_database_with_rooms_is_left_as_it_is(tmp_path: Path, database: Database) -> None:
    file_home(tmp_path).play(first_act)
    moved(tmp_path, database)
    with closing(PostgresStore(database.relay)) as store:
        before = rows_of(store)
    with pytest.raises(StoreError, match="holds rooms already"):
        moving.into_database(tmp_path / "parler.db", database.owner, {"home": "KEY"}, noted([]))
    with closing(PostgresStore(database.relay)) as store:
        assert rows_of(store) == before


def test_a_copy_that_breaks_off_leaves_nothing(tmp_path: Path, database: Database) -> None:
    file_home(tmp_path).play(first_act)

    def break_off(table: str, rows: int) -> None:
        if table == "own_lines":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moving.into_database(tmp_path / "parler.db", database.owner, {"home": "KEY"}, break_off)
    with closing(PostgresStore(database.relay)) as store:
        assert store.rooms() == []
    moved(tmp_path, database)


def test_a_copy_in_which_something_changed_is_noticed(tmp_path: Path, database: Database) -> None:
    file_home(tmp_path).play(first_act)
    with closing(SqliteStore(tmp_path / "parler.db", backups=tmp_path / "backups")) as source:
        heads = moving.heads_of(source)
    moved(tmp_path, database)
    with closing(psycopg.connect(database.owner, autocommit=True)) as connection:
        connection.execute("ALTER TABLE bodies DISABLE TRIGGER USER")
        connection.execute("UPDATE bodies SET body = 'x' WHERE position = (SELECT max(position) FROM bodies)")
    with closing(PostgresStore(database.relay)) as store, pytest.raises(StoreError, match="store_corrupt"):
        moving.check(store, heads, noted([]))
