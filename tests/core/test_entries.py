"""The table of entries: what follows from them is the same after any history, and versions never come twice."""

from __future__ import annotations

import pytest

from parlerd.core import entries
from parlerd.core.entries import EVERYBODYS, EntriesState, Entry, Table
from parlerd.core.model import SHARED, Millis, Position
from parlerd.core.timers import Timer
from tests.support.core import BEN


def entry(version: int = 1, *, position: int = 1, due: int = 0, watch: tuple[str, str] | None = None) -> Entry:
    timer = Timer("delete", due=Millis(due), ticks=2 if watch else 0, watch=watch) if due or watch else None
    return Entry(version, b"1", 1, BEN.id, Millis(0), Position(position), timer=timer)


def names_due(table: Table, now: int) -> list[str]:
    return [due.key for due, _ in table.due(Millis(now))]


def test_what_runs_out_comes_by_its_moment_and_then_by_its_fact() -> None:
    table = Table(EntriesState())
    table.put(SHARED, "c", entry(position=3, due=50))
    table.put(SHARED, "b", entry(position=2, due=70))
    table.put("ben", "a", entry(position=4, due=50))
    assert names_due(table, 49) == []
    assert names_due(table, 50) == ["c", "a"]
    assert names_due(table, 70) == ["c", "a", "b"] == names_due(table, 99)
    first = table.next_due()
    assert first is not None
    assert (first.at, first.scope, first.key) == (50, SHARED, "c")


def test_a_timer_that_was_replaced_or_taken_away_does_not_run_out() -> None:
    table = Table(EntriesState())
    table.put(SHARED, "later", entry(position=1, due=50))
    table.put(SHARED, "later", entry(2, position=2, due=90))
    table.put(SHARED, "never", entry(position=3, due=50))
    table.put(SHARED, "never", entry(2, position=4))
    table.put(SHARED, "gone", entry(position=5, due=50))
    table.drop(SHARED, "gone", 1)
    assert names_due(table, 60) == []
    assert names_due(table, 90) == ["later"]


def test_an_entry_that_is_put_again_as_it_is_runs_out_once() -> None:
    table = Table(EntriesState())
    for _ in range(3):
        table.put(SHARED, "a", entry(due=50))
    assert names_due(table, 50) == ["a"] == names_due(table, 50)
    table.drop(SHARED, "a", 1)
    assert table.next_due() is None


def test_a_key_is_watched_by_the_entries_whose_timers_count_it_in_the_order_of_their_facts() -> None:
    turn = (SHARED, "turn")
    table = Table(EntriesState())
    for key, position in (("b", 1), ("a", 3), ("c", 2)):
        table.put("ben" if key == "c" else SHARED, key, entry(position=position, watch=turn))
    watching = [name for name, _ in table.watching(*turn)]
    assert watching == [(SHARED, "b"), ("ben", "c"), (SHARED, "a")]
    assert [name for name, _ in Table(table.state).watching(*turn)] == watching
    table.drop(SHARED, "b", 1)
    table.put(SHARED, "a", entry(2, position=4))
    assert [name for name, _ in table.watching(*turn)] == [("ben", "c")]
    assert list(table.watching(SHARED, "other")) == []


def test_counts_and_sizes_are_those_of_the_entries() -> None:
    table = Table(EntriesState())
    table.put(SHARED, "a", entry())
    table.put("ben", "a", entry())
    table.put("ben", "a", Entry(2, b"12", 2, BEN.id, Millis(0), Position(1)))
    assert (table.keys, table.size) == (2, 3)
    table.drop("ben", "a", 2)
    table.drop("ben", "a", 2)
    assert (table.keys, table.size, list(table.state.scopes)) == (1, 1, [SHARED])
    again = Table(table.state)
    assert (again.keys, again.size) == (1, 1)


def test_a_value_is_read_once_for_each_version() -> None:
    table = Table(EntriesState())
    first = Entry(1, b"[1]", 3, BEN.id, Millis(0), Position(1))
    table.put(SHARED, "a", first)
    value = table.value(SHARED, "a", first)
    assert value == [1]
    assert table.value(SHARED, "a", first) is value
    second = Entry(2, b"[2]", 3, BEN.id, Millis(0), Position(2))
    table.put(SHARED, "a", second)
    assert table.value(SHARED, "a", second) == [2]
    # Deleted and written anew at once, as a snapshot in between would show it.
    table.drop(SHARED, "a", 2)
    table.put(SHARED, "a", Entry(2, b"[3]", 3, BEN.id, Millis(0), Position(3)))
    current = table.entry(SHARED, "a")
    assert current is not None
    assert table.value(SHARED, "a", current) == [3]


def test_whose_scope_is_hidden_is_said_by_its_agent_and_else_by_the_owner() -> None:
    table = Table(EntriesState())
    assert not table.is_hidden("ben", "cat")
    table.state.hidden[EVERYBODYS] = True
    assert table.is_hidden("ben", "cat")
    assert not table.is_hidden("ben", "ben")
    assert not table.is_hidden(SHARED, "cat")
    assert not table.is_hidden("_view", "cat")
    table.state.hidden["ben"] = False
    assert not table.is_hidden("ben", "cat")
    table.state.hidden.update({EVERYBODYS: False, "dan": True})
    assert table.is_hidden("dan", "cat")
    assert not table.is_hidden("eve", "cat")


def test_versions_of_forgotten_keys_are_never_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MAX_KEYS", 3)
    table = Table(EntriesState())
    for key, version in (("a", 7), ("b", 2), ("c", 1)):
        table.put(SHARED, key, entry(version))
        table.drop(SHARED, key, version)
    assert [table.last_version(SHARED, key) for key in ("a", "b", "c", "new")] == [7, 2, 1, 0]
    # With four of them the one that was deleted first is forgotten, and everything that nobody knows begins above it.
    table.put(SHARED, "d", entry())
    table.drop(SHARED, "d", 1)
    assert [table.last_version(SHARED, key) for key in ("a", "b", "c", "d", "new")] == [7, 2, 1, 1, 7]
    assert list(table.state.gone) == ["_shared\nb", "_shared\nc", "_shared\nd"]


def test_keys_and_remembered_versions_together_are_bounded_also_while_keys_are_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entries, "MAX_KEYS", 3)
    table = Table(EntriesState())
    for key in ("a", "b", "c"):
        table.put(SHARED, key, entry(4))
        table.drop(SHARED, key, 4)
    for key in ("d", "e"):
        table.put(SHARED, key, entry())
    assert (table.keys, len(table.state.gone), table.state.floor) == (2, 1, 4)
    assert [table.last_version(SHARED, key) for key in ("a", "b", "c", "new")] == [4, 4, 4, 4]
