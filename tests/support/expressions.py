"""Expressions under test: a room as an agent sees it, and one step from a text to its value.

The room has the names of the examples that agents are shown, and a scope whose values are looked up one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from parlerd.core.expressions import ABSENT, Absent, Branch, Failed, Moment, Value
from parlerd.core.gates import Context, PlainContext, Program
from parlerd.core.values import Meter
from parlerd.expr import Place, parse

NOW: Final = Moment(1_772_323_200 * 10**9)
"""2026-03-01T00:00:00Z."""
STATE: Final[dict[str, Value]] = {
    "_shared": {
        "phase": "executing",
        "turn": 3,
        "currentPlayer": "agent-a",
        "wood": 5,
        "population": 6,
        "ratio": 2.5,
        "costs": {"trap": 3, "hut": 9},
        "votes": [1, 2, 3],
        "nothing": None,
    },
    "_view": {"ready": True},
    "agent-a": {"score": 42},
    "agent-b": {},
    "narrator": {},
}
AGENTS: Final[dict[str, Value]] = {
    "agent-a": {"status": "active", "role": "admin", "waiting_on": None, "last_seen": NOW},
    "agent-b": {"status": "waiting", "role": "worker", "waiting_on": "state._view.ready", "last_seen": NOW},
}
ROOM: Final = PlainContext(
    {
        "state": STATE,
        "agents": AGENTS,
        "messages": {"count": 42, "unclaimed": 3, "unclaimed_by_kind": {"task": 3}},
        "actions": {"stoke_fire": {"enabled": True, "available": False}},
        "self": "agent-a",
        "params": {"item": "trap"},
        "now": NOW,
    }
)


def evaluated(text: str, context: Context = ROOM, meter: Meter | None = None, place: Place = "action") -> Value:
    """The value of a text."""
    return Program(parse(text, place)).evaluate(context, meter)


def steps(text: str, context: Context = ROOM) -> int:
    """The steps that an evaluation takes."""
    meter = Meter()
    before = meter.left
    evaluated(text, context, meter)
    return before - meter.left


def reads(text: str, place: Place = "action") -> list[tuple[str | None, ...]]:
    """What a text reads, the root before its path."""
    return [(read.root, *read.path) for read in parse(text, place).reads]


def with_value(value: Value) -> PlainContext:
    """A room whose one shared key `x` has this value."""
    return PlainContext({"state": {"_shared": {"x": value}}})


class Shelf(Branch):
    """A branch over a map, which remembers what was asked of it. A value that is an exception is raised."""

    __slots__ = ("_values", "asked")

    def __init__(self, values: Mapping[str, Value | Failed]) -> None:
        self._values = values
        self.asked: list[str] = []

    def find(self, name: str) -> Value | Absent:
        self.asked.append(name)
        found = self._values.get(name, ABSENT)
        if isinstance(found, Failed):
            raise found
        return found

    def names(self) -> Sequence[str]:
        self.asked.append("*")
        return sorted(self._values)

    def __len__(self) -> int:
        return len(self._values)
