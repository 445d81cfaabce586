"""What stands in a room's state: the folded entries, and what follows from them for whoever reads them often.

    EntriesState    what a snapshot holds
    Table           the same with what is looked up again and again: values that were read, timers by their moments,
                    programs of expressions

An action lives as an entry does: it has versions, a timer, and something that has to be true for it to be there. So the
actions of a room stand in the same table, beside the scopes of its state (`model.BESIDE`), and so do its modules, and
what has to be true for an agent to be there.

Not here: who may write what and what a write leads to (`state`, `actions`, `modules`), and whether an entry is there
for a reader (`resolver`). Above: these. Below: `json_values`, `templates`, `timers`, `gates`. Invariants: what a table
holds beside its state follows from the state; a version of a key never comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from heapq import heappop, heappush
from typing import Final, NamedTuple

import msgspec

from parlerd.core.expressions import Expression
from parlerd.core.gates import Program
from parlerd.core.json_values import Value, read
from parlerd.core.model import BESIDE, OWN_SCOPES, AgentId, By, MessageId, Millis, Position, TaskOutcome
from parlerd.core.templates import Action
from parlerd.core.timers import Timer

EVERYBODYS: Final = ""
"""Stands for every agent's scope, where it is said who reads scopes."""
MAX_KEYS: Final = 10_000
"""Keys of one room, with those that were deleted and whose versions are remembered. Source: coordination spec,
Quotas."""

_NOTHING: Final[Mapping[str, Entry]] = {}
Name = tuple[str, str]
"""A scope and a key."""


class Gate(msgspec.Struct, frozen=True, array_like=True):
    """What a gated message is beside the expression and the timer of its entry. `by` is its author as it posted the
    message, and `visibility` names those who may be shown it, None for everyone. `readers` were shown it, in the
    messages at `places`, or everybody was (`is_public`); with `is_rewound` somebody may have been shown it under its
    own id, of which the room's home lost the knowledge. Of a task, `tasks` are the messages among those that are not
    over, `open_until` is until when it may be claimed, 0 for ever, and `ended` says how it ended and by whom."""

    kind: str
    by: By
    visibility: tuple[AgentId, ...] | None = None
    readers: tuple[AgentId, ...] = ()
    places: tuple[Position, ...] = ()
    is_public: bool = False
    is_rewound: bool = False
    tasks: tuple[MessageId, ...] = ()
    open_until: Millis = Millis(0)
    ended: tuple[AgentId, TaskOutcome] | None = None


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What stands under a key. `text` is the JSON text of the value, empty for a view, and where the body that has it
    was not read or was erased; `size` is its length. `by` wrote it, at `at`, with the fact at `position`. `ticks` is
    how many ticks the timer has left, where it counts ticks. An action, which stands beside the scopes, has `action` in
    place of a value, a module its `role`, and a gated message `gate` beside what its author signed."""

    version: int
    text: bytes
    size: int
    by: AgentId
    at: Millis
    position: Position
    expr: Expression | None = None
    enabled: Expression | None = None
    timer: Timer | None = None
    ticks: int = 0
    action: Action | None = None
    role: str = ""
    gate: Gate | None = None

    @property
    def expressions(self) -> Iterator[Expression]:
        """Every expression that stands in it."""
        for each in (self.expr, self.enabled):
            if each is not None:
                yield each
        if self.action is not None:
            yield from self.action.expressions

    @property
    def is_dormant(self) -> bool:
        """Whether its timer has to run out before it is there."""
        return self.timer is not None and self.timer.is_dormant

    @property
    def is_plain(self) -> bool:
        """Whether it is there for every reader, whatever else is in the room."""
        return self.enabled is None and not self.is_dormant


class EntriesState(msgspec.Struct):
    """The entries of a room, by scope and key; the last versions of keys that have no entry any more, by scope and key
    in one name, the one that was deleted first before the others; which scopes only their own agents read; and the
    names of modules, also of those that were deleted, each with the handle of its registrar. Versions up to and at
    `floor` may have been of keys that are forgotten. In a mirror, `shown` are the gated messages that its readers were
    shown apart from others, each with those readers, the oldest first."""

    scopes: dict[str, dict[str, Entry]] = {}
    gone: dict[str, int] = {}
    floor: int = 0
    hidden: dict[str, bool] = {}
    modules: dict[str, str] = {}
    shown: dict[MessageId, tuple[AgentId, ...]] = {}


class Due(NamedTuple):
    """When the timer of an entry runs out. `position` is that of the fact that set it."""

    at: Millis
    position: Position
    scope: str
    key: str


class Table:
    """The entries of one room. The facets of the state, the actions and the modules alone change it."""

    def __init__(self, state: EntriesState) -> None:
        self.state: Final = state
        self.keys = 0
        """How many entries there are."""
        self.size = 0
        """The bytes of all values."""
        self._values: dict[Name, tuple[int, Value]] = {}
        """The values that were read, each with its version."""
        self._programs: dict[int, tuple[Expression, Program]] = {}
        """The programs of expressions that were evaluated, by the objects' identity. Each is held with its expression,
        so that no other object gets that identity."""
        self._special: dict[str, set[str]] = {}
        """The keys of each scope that are not there for every reader."""
        self._due: list[Due] = []
        """Timers that run out at a moment, the first one first. Of a timer that was replaced the heap may hold what
        does not count any more; whoever comes to it drops it."""
        self._watching: dict[Name, dict[Name, None]] = {}
        """The entries whose timers count the writes of a key."""
        for scope, entries in state.scopes.items():
            for key, entry in entries.items():
                self._note(scope, key, entry)

    # -- reading -------------------------------------------------------------------------------------------

    def entry(self, scope: str, key: str) -> Entry | None:
        """What stands under a key, whoever may read it and whether it is there now or not."""
        return self.state.scopes.get(scope, _NOTHING).get(key)

    @property
    def scopes(self) -> Set[str]:
        """The names of the scopes that have entries."""
        return self.state.scopes.keys() - BESIDE

    def scope(self, scope: str) -> Mapping[str, Entry]:
        """Every entry of a scope."""
        return self.state.scopes.get(scope, _NOTHING)

    def special(self, scope: str) -> set[str]:
        """The keys of a scope that are not there for every reader. Nobody changes this set."""
        return self._special.get(scope, _NO_KEYS)

    def last_version(self, scope: str, key: str) -> int:
        """The last version of a key that has no entry; 0 where it never had one."""
        return self.state.gone.get(one_name(scope, key), self.state.floor)

    def value(self, scope: str, key: str, entry: Entry) -> Value:
        """The value of an entry, which nobody changes. It is read once for each version."""
        known = self._values.get((scope, key))
        if known is not None and known[0] == entry.version:
            return known[1]
        value = read(entry.text)
        self._values[scope, key] = (entry.version, value)
        return value

    def program(self, expression: Expression) -> Program:
        """What evaluates an expression that stands in the state."""
        known = self._programs.get(id(expression))
        if known is None:
            known = self._programs[id(expression)] = (expression, Program(expression))
        return known[1]

    def is_hidden(self, scope: str, reader: str) -> bool:
        """Whether a scope is one that only its own agent reads, and `reader`, a handle, is another."""
        if self.owns(reader, scope) or scope in OWN_SCOPES:
            return False
        return self.state.hidden.get(scope, self.state.hidden.get(EVERYBODYS, False))

    def owns(self, handle: str, scope: str) -> bool:
        """Whether a scope is an agent's own: that of its handle, or of a module that it registered."""
        return handle in (scope, self.state.modules.get(scope))

    # -- timers --------------------------------------------------------------------------------------------

    def next_due(self) -> Due | None:
        """Which timer runs out first."""
        while self._due:
            if self._counts(self._due[0]):
                return self._due[0]
            heappop(self._due)
        return None

    def _counts(self, due: Due) -> bool:
        entry = self.entry(due.scope, due.key)
        return entry is not None and entry.timer is not None and (entry.timer.due, entry.position) == due[:2]

    def due(self, now: Millis) -> list[tuple[Due, Entry]]:
        """The timers that have run out and of which no fact says so yet, in the order of their moments."""
        found: dict[Due, Entry] = {}
        while (first := self.next_due()) is not None and first.at <= now:
            entry = self.entry(first.scope, first.key)
            assert entry is not None
            # The heap may hold a timer twice: an entry is put again when its body was read, or its timer renewed.
            found[heappop(self._due)] = entry
        for due in found:
            heappush(self._due, due)
        return list(found.items())

    def watching(self, scope: str, key: str) -> Iterator[tuple[Name, Entry]]:
        """The entries whose timers count the writes of this key, in the order of the facts that wrote them."""
        names = self._watching.get((scope, key), ())
        found = [(name, entry) for name in names if (entry := self.entry(*name)) is not None]
        # Not in the order of the table, which differs between a log that was folded and a snapshot that was restored.
        return iter(sorted(found, key=lambda each: each[1].position))

    def timed(self) -> Iterator[Name]:
        """The entries that have a timer."""
        yield from {(due.scope, due.key) for due in self._due if self._counts(due)}
        for names in self._watching.values():
            yield from names

    # -- changing ------------------------------------------------------------------------------------------

    def put(self, scope: str, key: str, entry: Entry) -> None:
        """Let an entry stand under a key."""
        self._forget(scope, key)
        self.state.gone.pop(one_name(scope, key), None)
        self.state.scopes.setdefault(scope, {})[key] = entry
        self._note(scope, key, entry)
        self._trim()

    def drop(self, scope: str, key: str, version: int) -> None:
        """Let nothing stand under a key any more; `version` is the one that it had last."""
        self._forget(scope, key)
        self.state.gone[one_name(scope, key)] = version
        self._trim()

    def remove(self, scope: str, key: str) -> None:
        """Let nothing stand under a key that never comes again."""
        self._forget(scope, key)

    def _trim(self) -> None:
        """Forget the oldest of the remembered versions where there are too many."""
        gone = self.state.gone
        while len(gone) + self.keys > MAX_KEYS and gone:
            # A key that is written again after it was forgotten goes on above every version that it can have had.
            self.state.floor = max(self.state.floor, gone.pop(next(iter(gone))))

    def _forget(self, scope: str, key: str) -> None:
        entries = self.state.scopes.get(scope)
        entry = None if entries is None else entries.pop(key, None)
        if entries is None or entry is None:
            return
        if not entries:
            del self.state.scopes[scope]
        self.keys -= 1
        self.size -= entry.size
        self._values.pop((scope, key), None)
        for expression in entry.expressions:
            self._programs.pop(id(expression), None)
        if (special := self._special.get(scope)) is not None:
            special.discard(key)
            if not special:
                del self._special[scope]
        watch = None if entry.timer is None else entry.timer.watch
        if watch is not None and (watching := self._watching.get(watch)) is not None:
            watching.pop((scope, key), None)
            if not watching:
                del self._watching[watch]

    def _note(self, scope: str, key: str, entry: Entry) -> None:
        self.keys += 1
        self.size += entry.size
        if not entry.is_plain:
            self._special.setdefault(scope, set()).add(key)
        timer = entry.timer
        if timer is not None and timer.watch is not None:
            self._watching.setdefault(timer.watch, {})[scope, key] = None
        elif timer is not None:
            heappush(self._due, Due(timer.due, entry.position, scope, key))


_NO_KEYS: Final[set[str]] = set()


def one_name(scope: str, key: str) -> str:
    """One name for a scope and a key. No scope has a line feed in its name."""
    return f"{scope}\n{key}"
