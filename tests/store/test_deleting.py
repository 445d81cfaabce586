"""A deleted room in its file: what is left of it after each step, and what nobody finds in the end."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from parlerd.core.model import BlobId, HomeId, MessageId, Millis, Position, PrincipalId, RoomId
from parlerd.core.recall import asked, parse
from parlerd.store.port import (
    BuryRoom,
    ClearRoom,
    EpochSecretRow,
    FileSealRow,
    KeyExchangeRow,
    KeyTriesRow,
    MadeRecordRow,
    MarkDelivery,
    OutboxRow,
    PutEpochSecret,
    PutFileSeal,
    PutKeyExchange,
    PutKeyTries,
    PutMadeRecord,
    PutOutbox,
    PutRenewal,
    PutSight,
    PutSnapshot,
    Write,
)
from parlerd.store.sqlite import SqliteStore
from tests.store.conftest import Raw
from tests.support.facts import BEN, OTHER, ROOM, append, joined, knocked, message, minted, opened, remembering

CANARY = b"words-that-nobody-is-to-find-again"


def _do(store: SqliteStore, *writes: Write) -> None:
    (outcome,) = store.transact([list(writes)])
    assert outcome.error is None


def _fill(store: SqliteStore, room: RoomId, word: str, *, facts: int = 60) -> None:
    """A room with rows in every table, one commit each, so that every index has older parts."""
    _do(store, append(opened(room), joined(2, BEN), minted(3, f"key-{room}"), knocked(4, BEN), room=room))
    for position in range(5, facts + 1):
        match position % 4:
            case 0:
                fact = remembering(position, f"{word} {position}", room=room)
            case 1:
                fact = message(position, body=word.encode() * 300, room=room, key=f"{word}-{position}")
            case 2:
                fact = message(position, body=word.encode(), room=room, to=(BEN,), kind=word)
            case _:
                fact = message(position, body=word.encode(), room=room, visible_to=(BEN,))
        mark = MarkDelivery(room, BEN, "pushed", upto=Position(position), at=Millis(5), after=Position(position - 1))
        _do(store, append(fact, room=room), mark)
    row = OutboxRow(MessageId(f"m_{word}"), HomeId("home"), room, BEN, word, Millis(1), word.encode())
    renewal = PutRenewal(room, MessageId(f"m_{word}_task"), Position(1), Millis(9))
    secret = PutEpochSecret(
        EpochSecretRow(room, 1, hashlib.sha256(word.encode()).digest(), word.encode().ljust(32)[:32])
    )
    sight = PutSight(room, BEN, Position(1), "cut", "too_long", "claude", Millis(9))
    key = word.encode().ljust(32)[:32]
    seal = PutFileSeal(FileSealRow(room, BEN, key, 1, BlobId("a" * 64), key, bytes(19), Millis(9)))
    _do(store, PutOutbox(row), PutSnapshot(room, 1, Position(facts), word.encode()), renewal, secret, seal, sight)
    made = PutMadeRecord(MadeRecordRow(room, 1, hashlib.sha256(word.encode()).digest()))
    exchange = KeyExchangeRow(
        room, word.encode().ljust(33)[:33], "owner", BEN, "q_1", "agreed", key, word.encode(), Millis(9)
    )
    tries = KeyTriesRow(room, word.replace("-", ""), PrincipalId("A"), 1)
    _do(store, PutKeyExchange(exchange), PutKeyTries(tries), made)


def _clear(store: SqliteStore, limit: int = 7) -> int:
    steps = 0
    while store.uncleared():
        _do(store, ClearRoom(ROOM, limit))
        steps += 1
        assert store.check() == []
    return steps


def _held(path: Path) -> bytes:
    log = path.with_name(f"{path.name}-wal")
    return path.read_bytes() + (log.read_bytes() if log.exists() else b"")


def test_no_word_of_a_deleted_room_is_left_in_the_file_or_its_log(path: Path, store: SqliteStore) -> None:
    word = CANARY.decode().replace("-", "")
    _fill(store, ROOM, word)
    _fill(store, OTHER, "swordfish")
    store.checkpoint()
    assert _held(path).count(word.encode()) > 60
    _do(store, BuryRoom(ROOM, Millis(9)))
    _clear(store)
    assert store.checkpoint_due
    store.checkpoint()
    assert word.encode() not in _held(path)
    assert b"swordfish" in _held(path)
    found = store.remembered(OTHER, asked(parse("swordfish").words), Position(0), Position(99), 99)
    assert len(found) == 14


def test_no_row_of_a_deleted_room_is_left_but_that_there_was_one(store: SqliteStore, raw: Raw) -> None:
    _fill(store, OTHER, "swordfish")
    # The tables of the search index say what they hold only to a search, and the words are looked for above.
    named = raw("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'remembered_words%'")
    tables = [str(name) for (name,) in named]
    before = {table: raw(f"SELECT count(*) FROM {table}") for table in tables}
    _fill(store, ROOM, "marlin")
    full = {table: raw(f"SELECT count(*) FROM {table}") for table in tables}
    _do(store, BuryRoom(ROOM, Millis(9)))
    _clear(store)
    after = {table: raw(f"SELECT count(*) FROM {table}") for table in tables}
    for table in tables:
        if table in ("tombstones", "logs"):
            assert after[table][0][0] == int(str(before[table][0][0])) + 1
        else:
            assert after[table] == before[table], table
    grown = {table for table in tables if full[table] != before[table]}
    assert grown >= {"facts", "bodies", "messages", "public_messages", "private_messages", "filtered_messages"}
    assert grown >= {
        "idempotency",
        "room_keys",
        "memberships",
        "deadlines",
        "cursors",
        "marks",
        "marked",
        "outbox",
        "renewals",
        "sights",
        "epoch_secrets",
        "made_records",
        "file_seals",
    }
    assert grown >= {"rooms", "snapshots", "remembered"}


def test_a_step_takes_no_more_facts_than_it_is_told(store: SqliteStore, raw: Raw) -> None:
    _fill(store, ROOM, "marlin", facts=100)
    _do(store, BuryRoom(ROOM, Millis(9)))
    left = [100]
    while store.uncleared():
        _do(store, ClearRoom(ROOM, 10))
        left.append(int(str(raw("SELECT count(*) FROM facts")[0][0])))
    assert all(before - after <= 10 for before, after in pairwise(left))
    assert left[-1] == 0


def test_whoever_stops_after_any_step_goes_on_where_the_file_stands(path: Path, backups: Path) -> None:
    left = [ROOM]
    for stop in range(25):
        file = path.with_name(f"stopped-{stop}.db")
        store = SqliteStore(file, backups=backups)
        _fill(store, ROOM, "marlin", facts=20)
        _do(store, BuryRoom(ROOM, Millis(9)))
        for _ in range(stop):
            _do(store, ClearRoom(ROOM, 3))
        left = store.uncleared()
        store.close()
        again = SqliteStore(file, backups=backups)
        assert again.check() == []
        again.rebuild_index()
        _clear(again)
        again.close()
        assert b"marlin" not in file.read_bytes()
    assert left == []


_CHILD = """
import os, signal, sys
from pathlib import Path
from parlerd.core.model import Millis
from parlerd.store.port import BuryRoom, ClearRoom
from parlerd.store.sqlite import SqliteStore
from tests.store.test_deleting import _fill
from tests.support.facts import ROOM

path = Path(sys.argv[1])
store = SqliteStore(path, backups=path.parent / "backups")
_fill(store, ROOM, "marlin", facts=40)
store.transact([[BuryRoom(ROOM, Millis(9))]])
store.transact([[ClearRoom(ROOM, 9)]])

def watch(statement):
    if statement.startswith("DELETE FROM facts"):
        os.kill(os.getpid(), signal.SIGKILL)

store._database.writer.set_trace_callback(watch)
store.transact([[ClearRoom(ROOM, 9)]])
"""


def test_a_kill_within_a_step_takes_all_of_the_step_or_nothing(path: Path, backups: Path) -> None:
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", _CHILD, str(path)], cwd=root, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    store = SqliteStore(path, backups=backups)
    assert (store.uncleared(), store.check()) == ([ROOM], [])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM facts").fetchone() == (31,)
    _clear(store)
    store.close()
    assert b"marlin" not in path.read_bytes()


def test_the_log_is_emptied_once_nobody_reads_who_needs_it(path: Path, store: SqliteStore) -> None:
    _fill(store, ROOM, "marlin")
    _do(store, BuryRoom(ROOM, Millis(9)))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM facts").fetchone()
        _clear(store)
        store.checkpoint()
        due = [store.checkpoint_due]
        assert b"marlin" in _held(path)
        reader.execute("COMMIT")
    store.checkpoint()
    due.append(store.checkpoint_due)
    assert due == [True, False]
    assert b"marlin" not in _held(path)
