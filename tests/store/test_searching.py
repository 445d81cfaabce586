"""The index of what rooms remember, in its file."""

from __future__ import annotations

from pathlib import Path

from parlerd.core.model import Position
from parlerd.core.recall import parse
from parlerd.store.port import EraseBodies, Write
from parlerd.store.sqlite import SqliteStore
from tests.support.facts import ROOM, append, forgetting, message, opened, remembering


def _do(store: SqliteStore, *writes: Write) -> None:
    (outcome,) = store.transact([list(writes)])
    assert outcome.error is None


def test_no_word_of_what_was_forgotten_is_left_in_the_file(path: Path, store: SqliteStore) -> None:
    # One commit each, so that the index has segments that were written before.
    _do(store, append(opened()))
    for n in range(2, 60):
        fact = remembering(n, "ladyfinger", "dish") if n == 9 else remembering(n, f"fact {n} about swordfish")
        _do(store, append(fact, expected=n - 1))
    _do(store, append(remembering(60, "marlin instead", "dish", version=2, drops=(9,)), expected=59))
    store.checkpoint()
    held = path.read_bytes()
    # In the body and in the index.
    assert held.count(b"ladyfinger") > 1
    assert held.count(b"marlin") > 1
    _do(store, append(forgetting(61, (9, 60), "dish"), expected=60), EraseBodies(ROOM, [Position(9), Position(60)]))
    store.checkpoint()
    store.close()
    held = path.read_bytes()
    assert b"ladyfinger" not in held
    assert b"marlin" not in held
    assert b"swordfish" in held


def test_a_damaged_index_is_made_anew_from_the_facts(path: Path, backups: Path, store: SqliteStore) -> None:
    _do(store, append(opened(), remembering(2, "blue-green"), message(3)))
    writer = store._database.writer
    writer.execute("INSERT INTO remembered (id, current) VALUES (4294967299, 1)")
    writer.execute("DELETE FROM bodies WHERE position = 3")
    assert any("remembers a message at 3" in sentence for sentence in store.check())
    store.close()
    again = SqliteStore(path, backups=backups)
    assert [each.header.position for each in again.remembered(ROOM, parse("blue").words, Position(9), 9)] == [2]
    assert not any("remembers" in sentence for sentence in again.check())
    again.close()
