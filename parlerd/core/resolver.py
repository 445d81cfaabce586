"""The room as one agent may see it at one moment: the context of every expression, and what readers are shown.

    state.<scope>.<key>     the entries that are there: not dormant, `enabled` true, in a scope that the asker reads
    state._view.<name>      the value of a view, evaluated when it is read
    agents.<handle>         status, role, waiting_on, last_seen, of those who are there
    messages                count, unclaimed, unclaimed_by_kind, as the asker may know them
    actions.<id>            enabled, available, of those that are there
    self, now, params       the asker's handle, the room's time, the parameters of an action

Whether an entry is there, and what a view is worth, may depend on other entries and views. Each is found out when it is
first asked for, once for each resolver. Every entry on a cycle, of all cycles that meet, is off (a strongly connected
part, found as Tarjan does): whoever asks for one of them meanwhile finds it off already, so the answer does not depend
on who asks first.

An agent may be there only while something is true, and so may a module, which is somebody without a key. Of one that is
not there neither scope nor actions are there either. Whoever asks is there in its own eyes: it sees what it has.

Not here: what stands in the state (`entries`), how an expression is evaluated (`gates`). Above: `state`, and the
engine, for everything that reads. Below: `entries`, the states of other facets. Invariants: what the asker may not see
changes no answer; a resolver is used for one moment and then thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from parlerd.core.entries import Entry, Table
from parlerd.core.expressions import ABSENT, Absent, Branch, Expression, Failed, Moment, Spent, Value
from parlerd.core.gates import Program
from parlerd.core.membership import Member
from parlerd.core.model import ACTIONS, AGENTS, MESSAGES, OWN_SCOPES, VIEWS, AgentId, Millis
from parlerd.core.seen import Presences
from parlerd.core.topics import ANY
from parlerd.core.values import STEPS, Meter

PRIVATE: Final = "(private)"
"""In place of a condition that names a scope which the asker does not read."""
NOBODY: Final = ""
"""In place of a handle: whoever is not the one that a scope belongs to."""
MODULE: Final = "module"
"""The status of a module, which no agent states: it tells the two apart."""
MILLI: Final = 1_000_000
"""Nanoseconds in a millisecond."""


class Counted(NamedTuple):
    """What an agent may know of how many messages there are: those that it may see, and the tasks that it could
    claim, by their kinds."""

    visible: int
    unclaimed: Mapping[str, int]


class Asker(NamedTuple):
    """As whom the room is looked at: the agent, its handle, what counts the messages for it when that is asked, and
    what says whether it may invoke an action."""

    agent: AgentId
    handle: str
    messages: Callable[[], Counted]
    may_invoke: Callable[[Resolver, str], bool]


class Resolver:
    """One agent's view of one room at one moment."""

    def __init__(
        self,
        table: Table,
        members: Mapping[AgentId, Member],
        asker: Asker,
        *,
        now: Millis,
        presence: Presences,
        steps: int | None = None,
    ) -> None:
        self.table = table
        self.asker = asker
        self._members = members
        self._now = now
        self._presence = presence
        self._most = self._left = MAX_STEPS if steps is None else min(steps, MAX_STEPS)
        """The steps that everything together may still take."""
        self._running: Meter | None = None
        """The steps of what is being evaluated, with all that this leads to."""
        self._by_handle: dict[str, Member] | None = None
        """The members by their handles, from when they are first asked for."""
        self._is_there: dict[tuple[str, str], bool] = {}
        """Which entries are there, as far as it was found out."""
        self._available: dict[str, bool] = {}
        """Which actions the asker may invoke, as far as it was found out."""
        self._views: dict[str, Value | Failed] = {}
        """What views are worth, or why they are worth nothing, as far as it was found out."""
        self._way: list[tuple[str, str]] = []
        """The entries and views that are being found out, each because of the one before."""
        self._back: list[int] = []
        """Beside each of them, the first place on the way that it was seen to lead back to; its own where to none."""
        self._open: dict[tuple[str, str], int] = {}
        """What was found out and leads back to a place on the way, with that place: whatever comes to depend on one of
        these is on a cycle with it."""
        self._cyclic: set[tuple[str, str]] = set()
        """Those that came to depend on themselves."""
        self.looked: dict[tuple[str, str, str], None] = {}
        """What was looked at, as (root, scope, key): what an answer depends on, whichever way it came to be. A part is
        `ANY` where all of them were looked at, and where there is none. Time is ("now", ANY, ANY), who reads which
        scope ("scopes", ANY, ANY), and as whom the room is looked at ("self", ANY, ANY)."""

    # -- for expressions -----------------------------------------------------------------------------------

    def evaluate(self, program: Program, params: Mapping[str, Value] | None = None) -> Value:
        """The value of an expression, of an action's with its parameters. Raises `Failed` and `Spent`."""
        context = self if params is None else _WithParams(self, params)
        if self._running is not None:
            return program.evaluate(context, self._running)
        meter = self._running = Meter(min(STEPS, self._left))
        before = meter.left
        try:
            return program.evaluate(context, meter)
        finally:
            self._left -= before - max(0, meter.left)
            self._running = None

    @property
    def is_running(self) -> bool:
        """Whether an expression is being evaluated, so that whatever takes too long takes that too long."""
        return self._running is not None

    def holds(self, expression: Expression) -> bool:
        """Whether an expression that stands in no entry is exactly true. Raises `Failed` and `Spent`."""
        return self.evaluate(Program(expression)) is True

    def root(self, name: str) -> Value:
        """A root of the context. Raises `Failed`."""
        match name:
            case "state":
                return _Scopes(self)
            case "agents":
                return _Agents(self)
            case "messages":
                self.note("messages")
                counted = self.asker.messages()
                by_kind: dict[str, Value] = dict(counted.unclaimed)
                unclaimed = sum(counted.unclaimed.values())
                return {"count": counted.visible, "unclaimed": unclaimed, "unclaimed_by_kind": by_kind}
            case "actions":
                return _Actions(self)
            case "self":
                self.note("self")
                return self.asker.handle
            case "now":
                self.note("now")
                return Moment(self._now * MILLI)
            case _:
                raise Failed(f"there is no `{name}` here")

    # -- for readers ---------------------------------------------------------------------------------------

    def there(self, scope: str, key: str) -> Entry | None:
        """The entry under a key, if it is there for the asker. Raises `Spent`."""
        if self._is_hidden(scope):
            return None
        self.note("state", scope, key)
        if not self.stands(scope):
            return None
        entry = self.table.entry(scope, key)
        return entry if entry is not None and self._enabled(scope, key, entry) else None

    def keys(self, scope: str) -> list[str]:
        """The keys of a scope that are there for the asker, in order. Raises `Spent`."""
        if self._is_hidden(scope):
            return []
        self.note("state", scope)
        if not self.stands(scope):
            return []
        entries, special = self.table.scope(scope), self.table.special(scope)
        return [key for key in sorted(entries) if key not in special or self._enabled(scope, key, entries[key])]

    def value(self, scope: str, key: str, entry: Entry) -> Value:
        """The value of an entry that is there. Raises `Failed` for a view that is worth nothing, and `Spent`."""
        return self._view(key, entry) if entry.expr is not None else self.table.value(scope, key, entry)

    @property
    def _handles(self) -> Mapping[str, Member]:
        if self._by_handle is None:
            self._by_handle = {member.handle: member for member in self._members.values()}
        return self._by_handle

    def scopes(self) -> list[str]:
        """The names of all scopes, in order: the room's own, and one for each agent that is or was in and for
        each module."""
        self.note("agents")
        self.note("state")
        return sorted({*OWN_SCOPES, *self._handles, *self._modules, *self.table.scopes})

    def has_scope(self, name: str) -> bool:
        if name in OWN_SCOPES or name in self._handles or name in self._modules or name in self.table.scopes:
            return True
        self.note("agents")
        return False

    def agents(self) -> list[str]:
        """The handles of those who are in and there, and the names of the modules that are there, in order. Raises
        `Spent`."""
        self.note("agents")
        present = [handle for handle, member in self._handles.items() if member.present]
        return sorted(handle for handle in (*present, *self._modules) if self.stands(handle))

    def agent(self, handle: str) -> Branch | None:
        """What an expression sees of somebody who is in and there, and of a module that is there. Raises `Spent`."""
        self.note("agents", handle)
        member = self._handles.get(handle)
        if not (handle in self._modules if member is None else member.present) or not self.stands(handle):
            return None
        return _Module(self, handle) if member is None else _Agent(self, member)

    @property
    def _modules(self) -> list[str]:
        """The names of the modules that there are, whether they are there for the asker or not."""
        return [name for name in self.table.state.modules if self.table.entry(AGENTS, name) is not None]

    def role(self, module: str) -> str:
        """What a module is called to do."""
        entry = self.table.entry(AGENTS, module)
        return "" if entry is None else entry.role

    def stands(self, scope: str) -> bool:
        """Whether whoever has this scope is there for the asker: an agent that is or was in, or a module. The room's
        own scopes always are, and so is the asker. Raises `Spent`."""
        if scope in OWN_SCOPES:
            return True
        entry = self.table.entry(AGENTS, scope)
        if scope == self.asker.handle:
            if entry is not None:
                self.note("self")
            return True
        if entry is None:
            return scope not in self.table.state.modules
        return self._enabled(AGENTS, scope, entry)

    def shows(self, message: str, entry: Entry) -> bool:
        """Whether a gated message is there for the asker, as far as its own expression says."""
        return self._enabled(MESSAGES, message, entry)

    @property
    def is_alike_for_all(self) -> bool:
        """Whether nothing that was looked at is another thing for another asker."""
        is_hidden = any(self.table.state.hidden.values())
        return not any(root == "self" or (root == "scopes" and is_hidden) for root, _, _ in self.looked)

    @property
    def steps(self) -> int:
        """The steps that everything took."""
        return self._most - self._left

    def is_enabled(self) -> bool:
        """Whether the asker is there by its own word. Raises `Spent`."""
        entry = self.table.entry(AGENTS, self.asker.handle)
        return entry is None or self._enabled(AGENTS, self.asker.handle, entry)

    def actions(self) -> list[str]:
        """The actions that are there for the asker, in order. Raises `Spent`."""
        self.note("actions")
        entries = self.table.scope(ACTIONS)
        return [id for id in sorted(entries) if self._is_offered(id, entries[id])]

    def action(self, id: str) -> Entry | None:
        """An action, if it is there for the asker. Raises `Spent`."""
        self.note("actions", id)
        entry = self.table.entry(ACTIONS, id)
        return entry if entry is not None and self._is_offered(id, entry) else None

    def _is_offered(self, id: str, entry: Entry) -> bool:
        """Whether an action is there, and who has it."""
        return entry.action is not None and self.stands(entry.action.owner) and self._enabled(ACTIONS, id, entry)

    def available(self, id: str) -> bool:
        """Whether the asker may invoke an action that is there. One that depends on itself may not be. Raises
        `Spent`."""
        name = (_AVAILABLE, id)
        self.note("self")
        known = self._available.get(id)
        if known is not None:
            self._came_to(name)
            return known
        if not self._enter(name):
            return False
        try:
            found = self.asker.may_invoke(self, id)
        finally:
            self._leave()
        found = found and name not in self._cyclic
        self._available[id] = found
        return found

    def _is_hidden(self, scope: str) -> bool:
        if scope in OWN_SCOPES:
            return False
        if self.table.owns(self.asker.handle, scope):
            if self.table.is_hidden(scope, NOBODY):
                self.note("self")
            return False
        self.note("scopes")
        return self.table.is_hidden(scope, self.asker.handle)

    def note(self, root: str, scope: str = ANY, key: str = ANY) -> None:
        """Something of the room was looked at."""
        self.looked[root, scope, key] = None

    # -- finding out ---------------------------------------------------------------------------------------

    def _enabled(self, scope: str, key: str, entry: Entry) -> bool:
        if entry.is_plain:
            return True
        if entry.is_dormant or entry.enabled is None:
            return False
        name = (scope, key)
        known = self._is_there.get(name)
        if known is not None:
            self._came_to(name)
            return known
        if not self._enter(name):
            return False
        try:
            found = self.evaluate(self.table.program(entry.enabled)) is True
        except Failed:
            # What cannot be found out is not there.
            found = False
        except Spent:
            # Nor is what takes too long; but where it is a part of something else, that took too long.
            if self._running is not None:
                raise
            found = False
        finally:
            self._leave()
        found = found and name not in self._cyclic
        self._is_there[name] = found
        return found

    def _view(self, key: str, entry: Entry) -> Value:
        assert entry.expr is not None
        name = (_VALUE, key)
        known = self._views.get(key, ABSENT)
        if not isinstance(known, Absent):
            self._came_to(name)
            if isinstance(known, Failed):
                raise known
            return known
        if not self._enter(name):
            raise _cycle(key)
        try:
            found: Value | Failed = self.evaluate(self.table.program(entry.expr))
        except Failed as failed:
            reason = PRIVATE if self.source(entry.expr) == PRIVATE else failed.reason
            found = Failed(f"the view {key} came to no value: {reason}")
        finally:
            self._leave()
        if name in self._cyclic:
            found = _cycle(key)
        self._views[key] = found
        if isinstance(found, Failed):
            raise found
        return found

    def _enter(self, name: tuple[str, str]) -> bool:
        """Begin to find something out; whether that was not begun before."""
        if name in self._way:
            self._leads_back(self._way.index(name))
            return False
        if len(self._way) >= MAX_WAY:
            raise Spent("depth")
        self._back.append(len(self._way))
        self._way.append(name)
        return True

    def _leave(self) -> None:
        """The last on the way is found out."""
        name, back = self._way.pop(), self._back.pop()
        if back < len(self._way):
            self._open[name] = back
            self._back[-1] = min(self._back[-1], back)
        elif self._open:
            # The cycles that lead back to it are complete: nothing later can become a part of one.
            self._open = {each: place for each, place in self._open.items() if place < back}

    def _came_to(self, name: tuple[str, str]) -> None:
        """The last on the way depends on something that was found out before."""
        if self._open and self._way and (place := self._open.get(name)) is not None:
            self._leads_back(place)

    def _leads_back(self, place: int) -> None:
        self._cyclic.update(self._way[place:])
        self._back[-1] = min(self._back[-1], place)

    def seen(self, member: Member) -> Mapping[str, Value]:
        """What an expression sees of an agent."""
        seen = self._presence.of(member.agent)
        last: Value = None if not seen.last_seen else Moment(seen.last_seen * MILLI)
        waiting_on = None if seen.waiting_on is None else self.told(seen.waiting_on, seen.scopes)
        return {"status": seen.status, "role": member.role, "waiting_on": waiting_on, "last_seen": last}

    def told(self, condition: str, scopes: Iterable[str]) -> str:
        """The text of a condition that another waits for, as the asker may know it: not where it names a scope that the
        asker does not read."""
        return PRIVATE if any(self._is_hidden(scope) for scope in scopes) else condition

    def source(self, expression: Expression) -> str:
        """The text of an expression that stands in the room, as the asker may know it."""
        return self.told(expression.source, expression.scopes)

    def last_seen(self, member: Member) -> Value:
        """When an agent last acted, which moves with the time."""
        self.note("now")
        return self.seen(member)["last_seen"]


MAX_STEPS: Final = 200_000
"""Steps of everything that one resolver evaluates. Source: coordination spec, Quotas."""
MAX_WAY: Final = 32
"""How many entries and views may depend on one another in a row. Source: recipes, CEL 3, the depth of values."""
_VALUE: Final = "\n"
"""In place of a scope: what a view is worth, and not whether it is there."""
_AVAILABLE: Final = "\n\n"
"""In place of a scope: whether an action may be invoked, and not whether it is there."""


def _cycle(key: str) -> Failed:
    return Failed(f"the view {key} depends on itself")


class _Scopes(Branch):
    __slots__ = ("_resolver",)

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def find(self, name: str) -> Value | Absent:
        return _Keys(self._resolver, name) if self._resolver.has_scope(name) else ABSENT

    def names(self) -> Sequence[str]:
        return self._resolver.scopes()


class _Keys(Branch):
    __slots__ = ("_resolver", "_scope")

    def __init__(self, resolver: Resolver, scope: str) -> None:
        self._resolver = resolver
        self._scope = scope

    def find(self, name: str) -> Value | Absent:
        entry = self._resolver.there(self._scope, name)
        return ABSENT if entry is None else self._resolver.value(self._scope, name, entry)

    def names(self) -> Sequence[str]:
        return self._resolver.keys(self._scope)


class _Agents(Branch):
    __slots__ = ("_resolver",)

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def find(self, name: str) -> Value | Absent:
        return self._resolver.agent(name) or ABSENT

    def names(self) -> Sequence[str]:
        return self._resolver.agents()


class _Agent(Branch):
    __slots__ = ("_member", "_resolver")

    def __init__(self, resolver: Resolver, member: Member) -> None:
        self._resolver = resolver
        self._member = member

    def find(self, name: str) -> Value | Absent:
        if name == "role":
            return self._member.role
        if name == "last_seen":
            return self._resolver.last_seen(self._member)
        return self._resolver.seen(self._member).get(name, ABSENT)

    def names(self) -> Sequence[str]:
        return _OF_AGENT


class _Module(Branch):
    """A module: somebody who is neither present nor waits."""

    __slots__ = ("_name", "_resolver")

    def __init__(self, resolver: Resolver, name: str) -> None:
        self._resolver = resolver
        self._name = name

    def find(self, name: str) -> Value | Absent:
        match name:
            case "role":
                return self._resolver.role(self._name)
            case "status":
                return MODULE
            case "waiting_on" | "last_seen":
                return None
            case _:
                return ABSENT

    def names(self) -> Sequence[str]:
        return _OF_AGENT


class _Actions(Branch):
    __slots__ = ("_resolver",)

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def find(self, name: str) -> Value | Absent:
        return ABSENT if self._resolver.action(name) is None else _Action(self._resolver, name)

    def names(self) -> Sequence[str]:
        return self._resolver.actions()


class _Action(Branch):
    __slots__ = ("_id", "_resolver")

    def __init__(self, resolver: Resolver, id: str) -> None:
        self._resolver = resolver
        self._id = id

    def find(self, name: str) -> Value | Absent:
        match name:
            case "available":
                return self._resolver.available(self._id)
            case "enabled":
                # One that is not enabled is not there.
                return True
            case _:
                return ABSENT

    def names(self) -> Sequence[str]:
        return _OF_ACTION


class _WithParams:
    """The room as the asker sees it, with the parameters of an action for one expression of that action alone."""

    __slots__ = ("_params", "_resolver")

    def __init__(self, resolver: Resolver, params: Mapping[str, Value]) -> None:
        self._resolver = resolver
        self._params = params

    def root(self, name: str) -> Value:
        return dict(self._params) if name == "params" else self._resolver.root(name)


_OF_ACTION: Final = ("available", "enabled")
_OF_AGENT: Final = ("last_seen", "role", "status", "waiting_on")


def reads_presence(expressions: Iterable[Expression | None]) -> bool:
    """Whether evaluating one of these may look at how present somebody is. A view may, whatever reads it."""
    return any(
        read.root == "agents" or (read.root == "state" and (not read.path or read.path[0] in (VIEWS, None)))
        for expression in expressions
        if expression is not None
        for read in expression.reads
    )
