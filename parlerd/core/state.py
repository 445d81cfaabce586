"""A room's state: who may write what, what a write leads to, and what happens when timers run out.

    _shared      any member writes
    _view        any member registers an expression, whose value is read like that of a key
    a handle     only the agent that has this handle here writes, and everybody reads, unless the scope is hidden; a
                 module's is written by the agent that registered the module

An entry is (scope, key) with a JSON value and a version from 1, which grows by one with each write. A key that was
deleted, or whose timer ran out, keeps its last version, so that a guard from before never fits what is written later. A
command brings 1 to `MAX_WRITES` writes, which happen together or not at all. Each is decided over what those before it
left; every expression is evaluated over what there was before the first.

Not here: JSON values and what is done to one (`json_values`), what the entries are (`entries`), and which of them are
there for whom (`resolver`). Above: `actions`, `room`. Below: those, and the states of other facets. Invariants: what is
kept is bounded by `MAX_KEYS` and `MAX_BYTES`; what runs out is decided once, when somebody looks, and is a fact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.decision import Decision, replayed
from parlerd.core.entries import MAX_KEYS, EntriesState, Entry, Table
from parlerd.core.errors import Refused
from parlerd.core.expressions import Expression, Failed, Spent
from parlerd.core.expressions import refusal as came_to_nothing
from parlerd.core.facets import Facet, applies, decides, nobody, reads, touches
from parlerd.core.json_values import added, appended, merged, read, text_of
from parlerd.core.lifecycle import LifecycleState, require_open, require_sound
from parlerd.core.membership import MAX_COMPARED, Member, MembershipState, handle_named, is_requester, present
from parlerd.core.model import AGENTS, BESIDE, MESSAGES, OWN_SCOPES, VIEWS, AgentId, By, Ids, Millis, key_label
from parlerd.core.refusals import refusal
from parlerd.core.resolver import Resolver
from parlerd.core.seen import Presences
from parlerd.core.timers import Timer, renewed, started
from parlerd.core.topics import Topic

MAX_BYTES: Final = 16 * 1024 * 1024
"""Bytes of all values of one room. Source: coordination spec, Quotas."""
MAX_VIEWS: Final = 200
"""Views that one agent may have registered in one room. Source: coordination spec, Quotas."""
MAX_TIMERS: Final = 1_000
"""Timers of one agent in one room. Source: coordination spec, Quotas."""
IN_HEADER: Final = 1024
"""A text of at most so many bytes stands in the header of its fact. Source: decision 1."""

Look = Callable[[AgentId, Millis, Presences], Resolver]
"""The room as one agent sees it at a moment."""


class Entries(Facet[EntriesState]):
    """Takes writes to the state."""

    __slots__ = ("_lifecycle", "_look", "_membership", "table")

    def __init__(self, state: EntriesState, lifecycle: LifecycleState, membership: MembershipState, look: Look) -> None:
        super().__init__(state)
        self._lifecycle = lifecycle
        self._membership = membership
        self._look = look
        """How an agent sees the room: it sees what other facets have, too."""
        self.table: Final = Table(state)
        """The entries."""

    # -- asking --------------------------------------------------------------------------------------------

    def scope(self, named: str) -> str:
        """The scope that is meant by a handle, by an agent's id, or by the name of a module or of a room's
        own scope. Raises `Refused(no_such_agent)`."""
        is_known = named in OWN_SCOPES or named in self.state.modules
        return named if is_known else handle_named(self._membership.members, named)

    def member(self, handle: str) -> AgentId | None:
        """Who has this handle here."""
        members = self._membership.members.values()
        return next((member.agent for member in members if member.handle == handle), None)

    def handle(self, agent: AgentId) -> str:
        """What an agent is called here."""
        member = self._membership.members.get(agent)
        return str(agent) if member is None else member.handle

    # -- deciding ------------------------------------------------------------------------------------------

    def _write(self, command: c.WriteState, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        resolver = self._look(by.actor, now, command.presence)
        self.require_writable(author, resolver)
        if command.gate is not None:
            require_true(command.gate, resolver)
        draft = Draft(self, author, now, resolver, self.require_own)
        for number, write in enumerate(command.writes):
            try:
                draft.write(write)
            except Refused as refused:
                if len(command.writes) > 1:
                    refused.details["index"] = number
                raise
        events, bodies = draft.finish(ids)
        return Decision(events, bodies=bodies, authority="member")

    def _renew(self, command: c.RenewTimer, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        self.require_writable(author, self._look(by.actor, now, command.presence))
        scope, key = self.scope(command.scope), key_label(command.key)
        self.require_own(scope, author)
        entry = self.table.entry(scope, key)
        if entry is None:
            raise self.missing(scope, key)
        return self.renewal(scope, key, entry, now)

    def renewal(self, scope: str, key: str, entry: Entry, now: Millis) -> Decision:
        """The decision that the timer of an entry begins again. Raises `Refused(invalid_timer)`."""
        if entry.timer is None:
            raise Refused("invalid_timer", "There is no timer.", what="timer")
        due = renewed(entry.timer, now).due
        return Decision((e.TimerRenewed(scope=scope, key=key, due=due),), authority="member")

    def _hide(self, command: c.HideScope, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        self.require_writable(author, self._look(by.actor, now, command.presence))
        if not command.scope and by.actor != self._lifecycle.owner:
            raise Refused("not_owner")
        scope = command.scope and self.scope(command.scope)
        if scope and not self.table.owns(author.handle, scope):
            raise refusal("scope_denied", {"write_scope": scope, "invoker": author.handle})
        if self.state.hidden.get(scope) == command.hidden:
            return Decision(answer="unchanged")
        return Decision((e.ScopeHidden(scope=scope, hidden=command.hidden),), authority="member")

    def _run_due(self, command: c.RunDue, by: By, now: Millis, ids: Ids) -> Decision:
        return Decision(authority="home")

    def require_writable(self, author: Member, resolver: Resolver) -> None:
        """Raise `Refused` unless this member may write something in this room now, in whose eyes the resolver sees."""
        self.require_open(author)
        require_enabled(resolver)

    def require_open(self, author: Member) -> None:
        """Raise `Refused` unless this member may write something in this room while it is there."""
        require_open(self._lifecycle)
        require_sound(self._lifecycle)
        if is_requester(author):
            raise Refused("not_a_worker")

    def require_own(self, scope: str, author: Member) -> None:
        """Raise `Refused(scope_denied)` for a scope that this member may not write."""
        if scope not in OWN_SCOPES and not self.table.owns(author.handle, scope):
            raise refusal("scope_denied", {"write_scope": scope, "invoker": author.handle})

    def missing(self, scope: str, key: str, among: Iterable[str] | None = None) -> Refused:
        """What is said of a key under which nothing stands, with the nearest key: of `among`, those that whoever asks
        may see, or else of the whole scope, which is its own or everybody's."""
        near = nearest(key, self.table.scope(scope) if among is None else among)
        return refusal("no_such_key", {"key": key, "scope": scope, "near": near})

    # -- what time changes ---------------------------------------------------------------------------------

    def ran_out(self, now: Millis) -> list[e.RoomEvent]:
        """What has run out, the earliest first."""
        return [fired(due.scope, due.key, entry, Millis(now - due.at)) for due, entry in self.table.due(now)]

    def next_deadline(self, after: Millis) -> Millis | None:
        first = self.table.next_due()
        # What has run out already is looked at at once.
        return None if first is None else Millis(max(first.at, after + 1))

    # -- folding -------------------------------------------------------------------------------------------

    def _written(self, event: e.StateWritten, header: e.Header) -> None:
        enabled, timer, ticks = event.enabled, event.timer, 0 if event.timer is None else event.timer.ticks
        before = self.table.entry(event.scope, event.key) if event.keeps else None
        if before is not None:
            enabled, timer, ticks = before.enabled, before.timer, before.ticks
        entry = Entry(
            event.version,
            event.text,
            event.size,
            header.by.actor,
            header.at,
            header.position,
            event.expr,
            enabled,
            timer,
            ticks,
        )
        self.table.put(event.scope, event.key, entry)

    def _brought(self, event: e.StateWritten, body: bytes) -> None:
        """A value whose text is in the body of its fact."""
        entry = self.table.entry(event.scope, event.key)
        if entry is not None and entry.version == event.version:
            self.table.put(event.scope, event.key, msgspec.structs.replace(entry, text=decode_text(body)))

    def _deleted(self, event: e.StateDeleted, header: e.Header) -> None:
        self.table.drop(event.scope, event.key, event.version)

    def _renewed(self, event: e.TimerRenewed, header: e.Header) -> None:
        entry = self.table.entry(event.scope, event.key)
        if entry is not None and entry.timer is not None:
            timer = msgspec.structs.replace(entry.timer, due=event.due)
            self.table.put(event.scope, event.key, msgspec.structs.replace(entry, timer=timer))

    def _ticked(self, event: e.TimersTicked, header: e.Header) -> None:
        for scope, key, left in event.left:
            entry = self.table.entry(scope, key)
            if entry is not None:
                self.table.put(scope, key, msgspec.structs.replace(entry, ticks=left))

    def _fired(self, event: e.TimerFired, header: e.Header) -> None:
        if event.scope == MESSAGES:
            # What becomes of a gated message, another facet says.
            return
        if event.effect == "delete":
            self.table.drop(event.scope, event.key, event.version)
        elif (entry := self.table.entry(event.scope, event.key)) is not None:
            self.table.put(event.scope, event.key, msgspec.structs.replace(entry, timer=None, ticks=0))

    def _hidden(self, event: e.ScopeHidden, header: e.Header) -> None:
        self.state.hidden[event.scope] = event.hidden

    def _changed(self, event: e.StateWritten | e.StateDeleted | e.TimerFired, header: e.Header) -> tuple[Topic, ...]:
        room = self._lifecycle.room
        return (
            topics.actions(room, event.key) if event.scope in BESIDE else topics.state(room, event.scope, event.key),
        )

    def _seen_by_others(self, event: e.ScopeHidden, header: e.Header) -> tuple[Topic, ...]:
        return (topics.scopes(self._lifecycle.room),)

    DECIDES = (
        decides(c.WriteState, _write),
        decides(c.RenewTimer, _renew),
        decides(c.HideScope, _hide),
        decides(c.RunDue, _run_due),
    )
    APPLIES = (
        applies(e.StateWritten, _written),
        applies(e.StateDeleted, _deleted),
        applies(e.TimerRenewed, _renewed),
        applies(e.TimersTicked, _ticked),
        applies(e.TimerFired, _fired),
        applies(e.ScopeHidden, _hidden),
    )
    READS = (reads(e.StateWritten, _brought),)
    TOUCHES = (
        touches(e.StateWritten, _changed),
        touches(e.StateDeleted, _changed),
        touches(e.TimerFired, _changed),
        touches(e.TimerRenewed, nobody),
        touches(e.TimersTicked, nobody),
        touches(e.ScopeHidden, _seen_by_others),
    )


def fired(scope: str, key: str, entry: Entry, late_ms: Millis = Millis(0)) -> e.TimerFired:
    """The fact that the timer of an entry ran out."""
    assert entry.timer is not None
    return e.TimerFired(scope=scope, key=key, effect=entry.timer.effect, version=entry.version, late_ms=late_ms)


def require_enabled(resolver: Resolver) -> None:
    """Raise `Refused(agent_disabled)` for an agent that is not there by its own word: it reads and waits alone. Raises
    `Spent` where an expression around it takes too long with it."""
    if not resolver.is_enabled():
        entry = resolver.table.entry(AGENTS, resolver.asker.handle)
        assert entry is not None
        assert entry.enabled is not None
        raise refusal("agent_disabled", {"agent": resolver.asker.handle, "enabled": entry.enabled.source})


def require_true(gate: Expression, resolver: Resolver) -> None:
    """Raise `Refused` unless a gate is exactly true: `precondition_failed`, or `expression_failed` or
    `expression_budget` where it comes to no value."""
    try:
        if not resolver.holds(gate):
            raise refusal("precondition_failed", {"expression": gate.source, "evaluated": False})
    except (Failed, Spent) as error:
        raise came_to_nothing(gate.source, error) from None


class _Kept(msgspec.Struct, frozen=True):
    """A key as the writes of a command left it so far. `text` is None where nothing stands there. `is_view` is whether
    a view stands there, `timer` the timer that it has, and `is_new` whether this command set that timer."""

    version: int
    text: bytes | None
    is_view: bool = False
    timer: Timer | None = None
    is_new: bool = False


class Draft:
    """The state as the writes of one command leave it, while nothing is stored yet."""

    def __init__(
        self, entries: Entries, author: Member, now: Millis, resolver: Resolver, require: Callable[[str, Member], None]
    ) -> None:
        self._entries = entries
        self._table = entries.table
        self._author = author
        self._now = now
        self._require = require
        """Raises `Refused` for a scope that the author may not write."""
        self._resolver = resolver
        """The room as the author sees it, before the first write."""
        self._changed: dict[tuple[str, str], _Kept] = {}
        """The keys that were written."""
        self._writes: dict[tuple[str, str], int] = {}
        """How often each key was written that has a value now."""
        self._keys, self._size = self._table.keys, self._table.size
        self._events: list[e.RoomEvent] = []
        self._texts: list[bytes] = []
        """The text of each of the events whose text goes to the body, else nothing."""

    def write(self, write: c.StateWrite) -> None:
        """Take one write in. Raises `Refused`."""
        scope, key = self._entries.scope(write.scope), key_label(write.key)
        self._require(scope, self._author)
        if (scope == VIEWS and write.act != "delete") is not (write.expr is not None):
            said = "A view is an expression, and stands in the scope _view: give expr there, and nowhere else."
            raise Refused("invalid_param", said, param="expr")
        if write.gate is not None:
            require_true(write.gate, self._resolver)
        kept = self._kept(scope, key)
        current = 0 if kept.text is None else kept.version
        if write.if_version is not None and write.if_version != current:
            raise self._conflict(scope, key, kept)
        if write.act == "delete":
            if kept.text is None:
                raise self._entries.missing(scope, key)
            self._put(scope, key, kept, _Kept(kept.version, None))
            self._add(e.StateDeleted(scope=scope, key=key, version=kept.version))
            return
        try:
            text = b"" if write.expr is not None else _text_after(write, kept.text)
        except Refused as refused:
            raise _of_key(refused, key) from None
        keeps = write.act != "set" and kept.text is not None and write.timer is None and write.enabled is None
        timer = kept.timer if keeps else None if write.timer is None else started(write.timer, self._now)
        version = kept.version + 1
        is_new = kept.is_new if keeps else timer is not None
        self._put(scope, key, kept, _Kept(version, text, write.expr is not None, timer, is_new))
        self._writes[scope, key] = self._writes.get((scope, key), 0) + 1
        short = text if len(text) <= IN_HEADER else b""
        event = e.StateWritten(
            scope=scope,
            key=key,
            version=version,
            text=short,
            size=len(text),
            expr=write.expr,
            enabled=None if keeps else write.enabled,
            timer=None if keeps else timer,
            keeps=keeps,
        )
        self._add(event, b"" if short else text)

    def finish(self, ids: Ids) -> tuple[tuple[e.RoomEvent, ...], tuple[bytes | None, ...]]:
        """Count the ticks, and give the events with the body of each. Raises `Refused`."""
        self._require_within()
        left: dict[tuple[str, str], int] = {}
        over: list[e.RoomEvent] = []
        for (scope, key), writes in self._writes.items():
            for name, entry in self._table.watching(scope, key):
                kept = self._changed.get(name)
                if kept is not None and (kept.is_new or kept.text is None or kept.timer is None):
                    # Its timer was set, or taken away, by this very command.
                    continue
                ticks = left.get(name, entry.ticks) - writes
                left[name] = max(0, ticks)
        for (scope, key), ticks in left.items():
            ended = self._table.entry(scope, key)
            if not ticks and ended is not None:
                kept = self._changed.get((scope, key))
                version = ended.version if kept is None else kept.version
                over.append(fired(scope, key, msgspec.structs.replace(ended, version=version)))
        if left:
            counted = tuple((scope, key, ticks) for (scope, key), ticks in left.items())
            self._add(e.TimersTicked(left=counted))
        for event in over:
            self._add(event)
        bodies = tuple(encode_text(text, ids) if text else None for text in self._texts)
        return tuple(self._events), bodies

    def _kept(self, scope: str, key: str) -> _Kept:
        changed = self._changed.get((scope, key))
        if changed is not None:
            return changed
        entry = self._table.entry(scope, key)
        if entry is None:
            return _Kept(self._table.last_version(scope, key), None)
        return _Kept(entry.version, entry.text, entry.expr is not None, entry.timer)

    def _put(self, scope: str, key: str, before: _Kept, after: _Kept) -> None:
        self._changed[scope, key] = after
        self._keys += (after.text is not None) - (before.text is not None)
        self._size += len(after.text or b"") - len(before.text or b"")

    def _require_within(self) -> None:
        """Raise `Refused(state_full)` where the room, or its author, would have more than it may have."""
        table, mine = self._table, self._author.agent
        grows = any(kept.text is not None for kept in self._changed.values())
        if grows and self._keys > max(MAX_KEYS, table.keys):
            raise Refused("state_full", limit=MAX_KEYS, what="keys")
        if self._size > max(MAX_BYTES, table.size):
            raise Refused("state_full", limit=MAX_BYTES, what="bytes")
        new = [kept for kept in self._changed.values() if kept.text is not None]
        if any(kept.is_view for kept in new):
            stored = ((VIEWS, key) for key, entry in table.scope(VIEWS).items() if entry.by == mine)
            views = sum(name not in self._changed for name in stored) + sum(kept.is_view for kept in new)
            if views > MAX_VIEWS:
                raise Refused("state_full", limit=MAX_VIEWS, what="views")
        if any(kept.is_new for kept in new):
            stored = (name for name in table.timed() if (entry := table.entry(*name)) is not None and entry.by == mine)
            timers = len(set(stored) - self._changed.keys()) + sum(kept.timer is not None for kept in new)
            if timers > MAX_TIMERS:
                raise Refused("state_full", limit=MAX_TIMERS, what="timers")

    def _add(self, event: e.RoomEvent, text: bytes = b"") -> None:
        self._events.append(event)
        self._texts.append(text)

    def _conflict(self, scope: str, key: str, kept: _Kept) -> Refused:
        """What is said to a writer whose guard does not fit: what is there now."""
        current: dict[str, Any] | None = None
        if kept.text is not None:
            entry = self._table.entry(scope, key)
            is_stored = entry is not None and entry.version == kept.version
            there = self._resolver.there(scope, key) if is_stored else None
            current = {"version": kept.version}
            if there is not None:
                current = shown(self._entries, self._resolver, scope, key, there)
            elif is_stored:
                current["dormant"] = True
        return refusal("version_conflict", {"key": key, "scope": scope, "current": current})


def _text_after(write: c.StateWrite, before: bytes | None) -> bytes:
    """The text of a value after a write that found `before`. Raises `Refused`."""
    match write.act:
        case "increment":
            return text_of(added(0 if before is None else read(before), write.value))
        case "merge":
            return text_of(merged({} if before is None else read(before), write.value))
        case "append":
            return text_of(appended([] if before is None else read(before), write.value))
        case _:
            return text_of(write.value)


def _of_key(refused: Refused, key: str) -> Refused:
    """A refusal of what a key holds, which names the key."""
    if refused.code != "wrong_type":
        return refused
    return refusal(refused.code, {**refused.details, "key": key})


def shown(entries: Entries, resolver: Resolver, scope: str, key: str, entry: Entry) -> dict[str, Any]:
    """An entry as a refusal shows it."""
    fields: dict[str, Any] = {
        "version": entry.version,
        "updated_by": entries.handle(entry.by),
        "updated_at": entry.at,
    }
    return fields if entry.expr is not None else {"value": resolver.table.value(scope, key, entry), **fields}


def nearest(key: str, among: Iterable[str]) -> str:
    """The key that is nearest to one that was named; empty where none is near."""
    found = get_close_matches(key, list(among)[:MAX_COMPARED], n=1)
    return found[0] if found else ""


def encode_text(text: bytes, ids: Ids) -> bytes:
    """The body of a fact whose value is too long for its header. The body begins with a random id, so that its digest
    in the header says nothing of a value that was erased."""
    return msgspec.msgpack.encode((ids.new("v"), text))


def decode_text(body: bytes) -> bytes:
    """The text in a body; empty for other bytes."""
    try:
        return msgspec.msgpack.decode(body, type=tuple[str, bytes])[1]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""
