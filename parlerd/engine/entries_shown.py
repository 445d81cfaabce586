"""How entries of a room's state look in answers: as they are now, as a fact told of them, and as a wait includes them.

Not here: which of them are shown to whom (`core.resolver`). Above: `coordination`. Below: the resolver. Invariant: a
page is bounded in bytes, and one entry always comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

from parlerd.core import events as e
from parlerd.core.entries import Entry
from parlerd.core.expressions import Failed, Moment, Spent, Value, below
from parlerd.core.json_values import read
from parlerd.core.resolver import MILLI, Resolver
from parlerd.core.room import Room
from parlerd.core.state import decode_text
from parlerd.core.timers import Timer
from parlerd.core.values import Meter, plain
from parlerd.operations import types as t

PAGE_BYTES: Final = 512 * 1024
"""Bytes of the values in one answer."""

S = TypeVar("S", bound=msgspec.Struct)


def within(found: Iterable[S], limit: int) -> list[S]:
    """As many of these as one answer takes."""
    page: list[S] = []
    size = 0
    for each in found:
        size += len(msgspec.json.encode(each))
        if len(page) == limit or (page and size > PAGE_BYTES):
            break
        page.append(each)
    return page


def fields(room: Room, resolver: Resolver, scope: str, key: str, entry: Entry) -> dict[str, Any]:
    """An entry that is there, for whoever the resolver sees for."""
    value: Value = None
    error: str | msgspec.UnsetType = msgspec.UNSET
    try:
        value = resolver.value(scope, key, entry)
        value = value if entry.expr is None else plain(value, Meter())
    except Failed as failed:
        error = failed.reason
    except Spent:
        error = "the view takes too many steps"
    return {**about(room, resolver, scope, key, entry), "value": value, "error": error}


def of_writer(room: Room, resolver: Resolver, scope: str, key: str, entry: Entry) -> dict[str, Any]:
    """An entry for who wrote it, also where it is not there now."""
    if resolver.there(scope, key) is not None:
        return fields(room, resolver, scope, key, entry)
    value = None if entry.expr is not None else resolver.table.value(scope, key, entry)
    return {**about(room, resolver, scope, key, entry), "value": value, "dormant": True}


def entry(room: Room, resolver: Resolver, scope: str, key: str) -> t.StateEntry:
    found = room.entries.table.entry(scope, key)
    assert found is not None
    return t.StateEntry(**fields(room, resolver, scope, key, found))


def about(room: Room, resolver: Resolver, scope: str, key: str, entry: Entry) -> dict[str, Any]:
    """What is shown of an entry beside its value, by the names of the fields."""
    return {
        "scope": scope,
        "key": key,
        "version": entry.version,
        "updated_by": room.entries.handle(entry.by),
        "updated_at": entry.at,
        "expr": msgspec.UNSET if entry.expr is None else resolver.source(entry.expr),
        "enabled": msgspec.UNSET if entry.enabled is None else resolver.source(entry.enabled),
        "timer": msgspec.UNSET if entry.timer is None else timer(entry.timer, entry.ticks),
    }


def timer(timer: Timer, ticks: int) -> t.TimerShown:
    """A timer that runs, of which so many ticks are left."""
    if timer.watch is not None:
        scope, key = timer.watch
        return t.TimerShown(effect=timer.effect, ticks_left=ticks, tick_on=below(below("state", scope), key))
    return t.TimerShown(effect=timer.effect, at=timer.due, ms=timer.span or msgspec.UNSET)


def told(room: Room, resolver: Resolver, header: e.Header, body: bytes | None) -> t.StateEntry:
    """What a fact says of a key."""
    event = header.event
    assert isinstance(event, e.StateWritten | e.StateDeleted | e.TimerFired)
    written = event if isinstance(event, e.StateWritten) else None
    text = b"" if written is None else written.text or decode_text(body or b"")
    expression = None if written is None else written.expr
    return t.StateEntry(
        scope=event.scope,
        key=event.key,
        value=read(text),
        version=event.version,
        updated_by=room.entries.handle(header.by.actor),
        updated_at=header.at,
        deleted=True if written is None else msgspec.UNSET,
        expr=msgspec.UNSET if expression is None else resolver.source(expression),
    )


def after_write(room: Room, resolver: Resolver, header: e.Header, body: bytes | None) -> t.StateEntry:
    """What stands under a key after the write of this fact; where somebody wrote it again since, what the fact says."""
    event = header.event
    assert isinstance(event, e.StateWritten | e.StateDeleted)
    found = room.entries.table.entry(event.scope, event.key)
    if found is None or found.version != event.version or isinstance(event, e.StateDeleted):
        return told(room, resolver, header, body)
    return t.StateEntry(**of_writer(room, resolver, event.scope, event.key, found))


def version(room: Room, resolver: Resolver, header: e.Header, body: bytes | None) -> t.StateVersion:
    """A version of a key, from its fact."""
    found, event = told(room, resolver, header, body), header.event
    is_erased = isinstance(event, e.StateWritten) and not event.text and event.expr is None and not body
    return t.StateVersion(
        version=found.version,
        value=found.value,
        updated_by=found.updated_by,
        updated_at=found.updated_at,
        via=header.by.via,
        request=header.key,
        deleted=not isinstance(event, e.StateWritten),
        expired=isinstance(event, e.TimerFired),
        erased=is_erased,
        expr=found.expr,
    )


def change(room: Room, resolver: Resolver, header: e.Header, body: bytes | None) -> t.StateChange:
    """A change of a key, from its fact."""
    found, event = version(room, resolver, header, body), header.event
    assert isinstance(event, e.StateWritten | e.StateDeleted | e.TimerFired)
    written = event if isinstance(event, e.StateWritten) else None
    what: Literal["written", "deleted", "expired", "enabled"] = "written" if written is not None else "deleted"
    value = found.value
    if isinstance(event, e.TimerFired):
        what = "expired" if event.effect == "delete" else "enabled"
        now = resolver.there(event.scope, event.key) if what == "enabled" else None
        if now is not None and now.version == event.version and now.expr is None:
            value = resolver.table.value(event.scope, event.key, now)
    enabled = None if written is None else written.enabled
    is_dormant = written is not None and written.timer is not None and written.timer.is_dormant
    return t.StateChange(
        scope=event.scope,
        key=event.key,
        change=what,
        value=value,
        version=found.version,
        updated_by=found.updated_by,
        updated_at=found.updated_at,
        expr=found.expr,
        enabled=msgspec.UNSET if enabled is None else resolver.source(enabled),
        dormant=True if is_dormant else msgspec.UNSET,
        erased=True if found.erased else msgspec.UNSET,
    )


def included(room: Room, resolver: Resolver, include: Sequence[str], ended: t.WaitEnded) -> t.WaitEnded:
    """The answer of a wait with what it was to show besides, as far as one answer takes it."""
    left = PAGE_BYTES
    cut: list[str] = []
    state: dict[str, dict[str, Any]] = {}
    more: dict[str, Any] = {}
    for name in dict.fromkeys(include):
        shown = _included(room, resolver, name)
        left -= len(msgspec.json.encode(shown))
        if left < 0:
            cut.append(name)
        elif name.startswith("state"):
            state |= shown
        else:
            more[name] = shown
    if state or any(name == "state" for name in include):
        more["state"] = state
    return msgspec.structs.replace(ended, **more, cut=cut or msgspec.UNSET)


def _included(room: Room, resolver: Resolver, name: str) -> dict[str, Any]:
    match name:
        case "agents":
            return {handle: _agent(resolver, handle) for handle in resolver.agents()}
        case "messages" | "actions":
            found = plain(resolver.root(name), Meter())
            assert isinstance(found, dict)
            return found
        case "state":
            scopes = resolver.scopes()
        case _:
            scopes = [room.entries.scope(name.removeprefix("state."))]
    return {scope: _values(resolver, scope) for scope in scopes}


def _values(resolver: Resolver, scope: str) -> dict[str, Any]:
    """What a scope holds; a view that is worth nothing is left out."""
    found: dict[str, Any] = {}
    for key in resolver.keys(scope):
        each = resolver.there(scope, key)
        if each is None:
            continue
        try:
            value = resolver.value(scope, key, each)
            found[key] = value if each.expr is None else plain(value, Meter())
        except (Failed, Spent):
            continue
    return found


def _agent(resolver: Resolver, handle: str) -> dict[str, Any]:
    seen = resolver.agent(handle)
    assert seen is not None
    found = {name: seen.find(name) for name in seen.names()}
    return {name: value.ns // MILLI if isinstance(value, Moment) else value for name, value in found.items()}
