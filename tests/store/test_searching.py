"""The index of what rooms remember, in its file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parlerd.core.model import Position, RoomId
from parlerd.core.recall import asked, parse
from parlerd.store import searching
from parlerd.store.memory import MemoryStore
from parlerd.store.port import BLOCKS, EraseBodies, IndexMemory, Store, Write
from parlerd.store.sqlite import SqliteStore
from parlerd.store.upgrade import Schema, shipped_schema
from tests.store.conftest import Raw
from tests.support.facts import OTHER, ROOM, append, forgetting, message, opened, remembering


def _do(store: Store, *writes: Write) -> None:
    (outcome,) = store.transact([list(writes)])
    assert outcome.error is None


def _found(store: Store, query: str, after: int = 0, before: int = 999, room: RoomId = ROOM) -> list[int]:
    terms = asked(parse(query).words)
    return [each.header.position for each in store.remembered(room, terms, Position(after), Position(before), 999)]


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


def test_of_a_large_index_the_words_of_what_was_forgotten_go_in_steps_and_a_restart_goes_on(
    path: Path, backups: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MERGED_PAGES", 1)
    words = " ".join(f"{n:x}word{n * 7919:x}" for n in range(300))
    _do(store, append(opened(), remembering(2, "ladyfinger", "dish")))
    for n in range(3, 40):
        _do(store, append(remembering(n, f"{words} {n}"), expected=n - 1))
    _do(store, append(forgetting(40, (2,), "dish"), expected=39), EraseBodies(ROOM, [Position(2)]))
    # Nothing leads to it any more, though its words are there.
    assert (_found(store, "ladyfinger"), _found(store, "dish"), _found(store, "39")) == ([], [], [39])
    assert not store.is_memory_indexed()
    store.close()
    store = SqliteStore(path, backups=backups)
    steps = 0
    while not store.is_memory_indexed():
        _do(store, IndexMemory(9))
        steps += 1
        assert steps < 10_000
    assert steps > 3
    assert store.check() == []
    _do(store, IndexMemory(9))
    assert (_found(store, "ladyfinger"), _found(store, "39"), store.is_memory_indexed()) == ([], [39], True)
    store.checkpoint()
    store.close()
    assert b"ladyfinger" not in path.read_bytes()


def test_a_damaged_index_is_made_anew_from_the_facts(path: Path, backups: Path, store: SqliteStore) -> None:
    _do(store, append(opened(), remembering(2, "blue-green"), message(3)))
    writer = store._database.writer
    writer.execute("INSERT INTO remembered (id, current, indexed) VALUES (4294967299, 1, 1)")
    writer.execute("DROP TRIGGER bodies_go_with_a_mark")
    writer.execute("DELETE FROM bodies WHERE position = 3")
    assert any("remembers a message at 3" in sentence for sentence in store.check())
    store.close()
    again = SqliteStore(path, backups=backups)
    assert _found(again, "blue") == [2]
    assert not any("remembers" in sentence for sentence in again.check())
    again.close()


def test_within_a_block_the_index_is_asked_for_nothing_outside_of_it() -> None:
    """FTS5 itself ends where no row has the term of the block, and nowhere before it has a row with every term."""
    narrow, wide = BLOCKS
    terms = asked(parse("blue green").words)
    log = 7 << 32

    def blocks(after: int, before: int) -> set[str]:
        said = searching.matching(terms, log + after, log + before).split(" AND ")
        assert said[:2] == ['"blue"', '"green"']
        return set(said[2:])

    inside = blocks(2**narrow - 1, 2 ** (narrow + 1))
    assert len(inside) == 1
    assert inside == blocks(2**narrow + 5, 2**narrow + 9)
    assert inside != blocks(2 ** (narrow + 1), 2 ** (narrow + 1) + 9)
    around = blocks(0, 2**wide)
    assert len(around) == 1
    assert around == blocks(5, 2**narrow + 9) != inside
    assert blocks(0, 2**wide + 2) == set()
    # One term alone ends at the oldest row of the range by itself.
    assert searching.matching(terms[:1], log, log + 5) == '"blue"'


def test_the_index_finds_in_any_range_what_the_plain_list_has(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "BLOCKS", (2, 4))
    plain = MemoryStore()
    for each in (store, plain):
        for room in (OTHER, ROOM):
            facts = [remembering(n, _text(n), room=room) for n in range(2, 41)]
            _do(each, append(opened(room), *facts, room=room))
    for query in (
        "even",
        "third even",
        "third fifth even",
        "blue-green",
        "thi* ev*",
        "number-7",
        "number-1*",
        "none even",
    ):
        for after in range(0, 40, 3):
            for before in range(after + 1, 44, 5):
                assert _found(store, query, after, before) == _found(plain, query, after, before), (
                    query,
                    after,
                    before,
                )
        assert bool(_found(plain, query)) is (query != "none even")


def _text(number: int) -> str:
    said = [f"number-{number}", "blue-green" if number % 4 else "green-blue"]
    return " ".join([*said, *(word for word, step in (("even", 2), ("third", 3), ("fifth", 5)) if number % step == 0)])


def _made_older(path: Path, backups: Path, raw: Raw, facts: int) -> None:
    """A file of schema 10, whose index of these facts is of no use any more."""
    store = SqliteStore(path, backups=backups)
    _do(store, append(opened(), *(remembering(n, f"blue {n}", f"k{n}") for n in range(2, facts + 2))))
    store.close()
    raw("DROP TABLE remembered_words")
    raw("DROP INDEX remembered_to_index")
    raw("ALTER TABLE remembered DROP COLUMN indexed")
    raw("CREATE VIRTUAL TABLE remembered_words USING fts5 (words, content = '', columnsize = 0)")
    raw("INSERT INTO remembered_words (rowid, words) SELECT id, 'blue' FROM remembered")
    later = "".join(script for version, script in sorted(shipped_schema().scripts.items()) if version > 11)
    for kind, name in re.findall(r"(?m)^CREATE (TABLE|VIEW|TRIGGER) (\w+)", later):
        raw(f"DROP {kind} IF EXISTS {name}")
    for made in re.findall(
        r"(?ms)^CREATE (?:TABLE|TRIGGER) deliveries.*?(?:WITHOUT ROWID|^END);$", shipped_schema().scripts[1]
    ):
        raw(made)
    raw("UPDATE meta SET value = '10' WHERE key = 'schema'")


def test_a_file_with_an_older_index_gets_its_facts_into_the_new_one_the_newest_first(
    path: Path, backups: Path, raw: Raw
) -> None:
    _made_older(path, backups, raw, 9)
    store = SqliteStore(path, backups=backups, schema=Schema(shipped_schema().scripts))
    assert (store.is_memory_indexed(), store.newest_unindexed(ROOM), _found(store, "blue")) == (False, 10, [])
    _do(store, IndexMemory(4))
    assert (store.is_memory_indexed(), store.newest_unindexed(ROOM), _found(store, "blue")) == (False, 6, [10, 9, 8, 7])
    # What comes in meanwhile, what another version follows, and what is forgotten.
    _do(store, append(remembering(11, "blue again"), remembering(12, "red", "k4", version=2, drops=(4,)), expected=10))
    _do(store, append(forgetting(13, (3,), "k3"), expected=12), EraseBodies(ROOM, [Position(3)]))
    assert store.newest_unindexed(ROOM) == 6
    assert store.newest_unindexed(OTHER) == 0
    _do(store, IndexMemory(99))
    assert (store.is_memory_indexed(), store.newest_unindexed(ROOM)) == (True, 0)
    assert _found(store, "blue") == [11, 10, 9, 8, 7, 6, 5, 2]
    assert store.check() == []
    _do(store, IndexMemory(99))
    store.close()
    again = SqliteStore(path, backups=backups)
    assert _found(again, "blue") == [11, 10, 9, 8, 7, 6, 5, 2]
    again.rebuild_index()
    assert _found(again, "blue") == [11, 10, 9, 8, 7, 6, 5, 2]
    assert again.is_memory_indexed()
    again.close()


def test_an_upgrade_itself_puts_in_what_most_homes_have(path: Path, backups: Path, raw: Raw) -> None:
    _made_older(path, backups, raw, 3)
    store = SqliteStore(path, backups=backups)
    assert (store.is_memory_indexed(), _found(store, "blue")) == (True, [4, 3, 2])
    store.close()
