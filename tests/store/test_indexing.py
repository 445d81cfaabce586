"""Every index is one declaration: the tables, the writing and the rebuilding of every store follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from parlerd.core.events import Header, MirrorPlaced
from parlerd.core.model import HOME_ROOM, Position, RoomId, Shown
from parlerd.core.room import Room
from parlerd.store.indexing import KEYS, MEMBERSHIPS, PRIORS, PROJECTIONS, Counts, Projection, Rows, derive
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Append, NewFact, Store
from parlerd.store.sqlite import SqliteStore
from tests.store.conftest import Raw
from tests.support.core import HomeDriver, RoomDriver
from tests.support.facts import ANN, ROOM, SIGNATURE, append, joined, left, message, minted, opened
from tests.support.scripts import scripted_home, scripted_room

ALL = pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.table)
SCRIPTS: dict[RoomId, RoomDriver | HomeDriver] = {ROOM: scripted_room(3, 300), HOME_ROOM: scripted_home(3, 100)}
LOGS: dict[RoomId, list[Header]] = {room: script.log for room, script in SCRIPTS.items()}


def fill(store: Store) -> None:
    """Whole logs, a few facts to a transaction."""
    for room, script in SCRIPTS.items():
        facts = [NewFact(header, body, body and SIGNATURE) for header, body in script.whole_facts()]
        for start in range(0, len(facts), 7):
            (outcome,) = store.transact([[Append(room, Position(start), facts[start : start + 7])]])
            assert outcome.error is None


def expected(projection: Projection[Any]) -> list[tuple[Any, ...]]:
    """The rows that an index has after those logs, by its own rule for keys that are there."""
    found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for room, log in LOGS.items():
        rows, counts = Rows(), Counts()
        for header in log:
            derive(rows, room, header, counts)
        for row in rows.of(projection):
            key = projection.key_of(row)
            assert projection.on_conflict != "refuse" or key not in found
            if projection.on_conflict == "replace" or key not in found:
                found[key] = row
    return sorted(found.values())


def in_file(raw: Raw, projection: Projection[Any]) -> list[tuple[Any, ...]]:
    columns = ["l.room" if name == "log" else f"t.{name}" for name in projection.columns]
    join = "JOIN logs l ON l.number = t.log" if projection.by_log else ""
    return sorted(raw(f"SELECT {', '.join(columns)} FROM {projection.table} t {join}"))


@ALL
def test_the_logs_of_these_tests_reach_every_index(projection: Projection[Any]) -> None:
    assert expected(projection) != []


@ALL
def test_an_index_holds_what_its_declaration_derives_also_when_it_is_remade(
    projection: Projection[Any], store: SqliteStore, raw: Raw
) -> None:
    fill(store)
    assert in_file(raw, projection) == expected(projection)
    raw(f"DELETE FROM {projection.table}")
    store.rebuild_index()
    assert in_file(raw, projection) == expected(projection)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_index_and_the_room_in_memory_come_to_the_same_public_line_at_every_place(
    kind: str, store: SqliteStore
) -> None:
    script, room, shown = scripted_room(3, 300), Room(), Shown(0, b"")
    served: Store = store if kind == "sqlite" else MemoryStore()
    id = script.aggregate.state.room
    facts = [NewFact(header, body, body and SIGNATURE) for header, body in script.whole_facts()]
    for start in range(0, len(facts), 7):
        (outcome,) = served.transact([[Append(id, Position(start), facts[start : start + 7])]])
        assert outcome.error is None
    for fact in facts:
        room.apply(fact.header, fact.body)
        shown = room.state.shown
        assert served.shown_at(id, fact.header.position) == shown
        assert served.line_at(id, shown.number) == shown.line
    assert any(isinstance(fact.header.event, MirrorPlaced) for fact in facts)
    assert shown.number > 9
    assert served.line_at(id, shown.number + 1) is None
    assert served.check() == []


@ALL
def test_the_store_in_memory_holds_the_same_rows(projection: Projection[Any]) -> None:
    store = MemoryStore()
    fill(store)
    assert sorted(store.index.of(projection).rows.values()) == expected(projection)
    store.rebuild_index()
    assert sorted(store.index.of(projection).rows.values()) == expected(projection)


@ALL
def test_a_table_has_the_columns_the_key_and_the_indexes_of_its_declaration(
    projection: Projection[Any], store: SqliteStore, raw: Raw
) -> None:
    def named(columns: Sequence[str]) -> list[str]:
        return ["log" if projection.by_log and name == "room" else name for name in columns]

    about = raw(f"PRAGMA table_info({projection.table})")
    assert [name for _, name, *_ in about] == list(projection.columns)
    keyed = sorted((place, name) for _, name, _, _, _, place in about if place)
    assert [name for _, name in keyed] == named(projection.key)
    indexes = [name for _, name, *_ in raw(f"PRAGMA index_list({projection.table})")]
    covered = [[name for _, _, name in raw(f"PRAGMA index_info({index})")] for index in indexes]
    for columns in projection.found_by:
        assert any(index[: len(columns)] == named(columns) for index in covered), columns


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_key_that_is_there_is_refused_kept_or_replaced_as_its_index_says(kind: str, store: SqliteStore) -> None:
    served: Store = store if kind == "sqlite" else MemoryStore()
    (outcome,) = served.transact([[append(opened(), minted(2, "k"), joined(3, ANN), message(4, key="same"))]])
    assert outcome.error is None
    assert (KEYS.on_conflict, PRIORS.on_conflict, MEMBERSHIPS.on_conflict) == ("refuse", "keep", "replace")
    (refused,) = served.transact([[append(minted(5, "k"))]])
    assert refused.error is not None
    (taken,) = served.transact([[append(message(5, key="same"), left(6, ANN))]])
    assert taken.error is None
    prior = served.prior(ROOM, ANN, "", "same")
    assert prior is not None
    assert prior.position == 4
    assert [membership.state for membership in served.memberships(ANN)] == ["left"]
