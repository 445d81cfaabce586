"""Reading and writing the state of rooms of this home.

Not here: the rules (`core.state`), who sees what (`core.resolver`), where a question comes from (`crossing`), and how
an answer looks (`entries_shown`). Above: `crossing`. Below: a room's line, the library, `sight`. Invariant: an answer
rests on what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.expressions import Expression
from parlerd.core.model import ACTIONS, Position, Seq, key_label
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.engine import entries_shown as shown
from parlerd.engine.crossing import Answer, Request
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.inputs import input_digest
from parlerd.engine.sight import Sight
from parlerd.engine.state_inputs import deletion_of, require_readable, write_of
from parlerd.operations import types as t

HISTORY_STEP: Final = 64
"""Versions of a key that are read at a time."""


class Coordination:
    """Answers what is asked of the entries of a room's state."""

    def __init__(self, desk: Desk, sight: Sight) -> None:
        self._desk = desk
        self._sight = sight
        self.answers: Final[Mapping[str, Answer]] = {
            "state.get": self._get,
            "state.list": self._list,
            "state.set": self._set,
            "state.delete": self._delete,
            "state.batch": self._batch,
            "state.history": self._history,
            "state.hide": self._hide,
            "timer.renew": self._renew,
        }

    # -- reading -------------------------------------------------------------------------------------------

    async def _get(self, handle: RoomHandle, request: Request, params: t.GetState) -> t.StateRead:
        room, resolver = await self._sight.of(handle, request.by.actor)
        scope, key = room.entries.scope(params.scope), key_label(params.key)
        entry = resolver.there(scope, key)
        if entry is None:
            raise room.entries.missing(scope, key, resolver.keys(scope))
        return t.StateRead(**shown.fields(room, resolver, scope, key, entry), room=handle.room)

    async def _list(self, handle: RoomHandle, request: Request, params: t.ListState) -> t.StateListed:
        room, resolver = await self._sight.of(handle, request.by.actor)
        scope = None if params.scope is None else room.entries.scope(params.scope)
        limit = min(params.limit, t.MAX_ENTRIES)
        if params.at is None and params.at_seq is None:
            scopes = resolver.scopes() if scope is None else [scope]
            names = [(each, key) for each in scopes for key in resolver.keys(each)]
            if params.after is not None:
                names = [name for name in names if name > params.after]
            page = shown.within((shown.entry(room, resolver, *name) for name in names), limit)
            return t.StateListed(entries=page, more=len(page) < len(names), room=handle.room)
        found = await self._at(handle, request, room, params)
        found = [each for each in found if scope in (None, each.scope)]
        if params.after is not None:
            found = [each for each in found if (each.scope, each.key) > params.after]
        page = shown.within(found, limit)
        return t.StateListed(entries=page, more=len(page) < len(found), room=handle.room)

    async def _at(self, handle: RoomHandle, request: Request, room: Room, params: t.ListState) -> list[t.StateEntry]:
        """What stood in the state at a moment, or when the reader's message of a number came."""
        if params.at is not None and params.at_seq is not None:
            raise Refused("invalid_param", "Name a moment or a message, not both.", param="at")
        reader, library = request.by.actor, self._desk.library
        view = room.view(reader)
        if params.at_seq is not None:
            place = await library.position_of(handle.room, view, Seq(params.at_seq))
        else:
            place = await self._position_at(handle, params.at or 0)
        if place < room.position and not can_see(view, position=place + 1, visibility=None):
            raise Refused("invalid_param", "You were not in the room then.", param="at")
        facts = await library.state_at(handle.room, place)
        resolver = self._sight.resolver(room, reader)
        handle_of = room.state.members[reader].handle
        return [
            shown.told(room, resolver, header, body)
            for header, body in facts
            if isinstance(header.event, e.StateWritten)
            and not room.entries.table.is_hidden(header.event.scope, handle_of)
        ]

    async def _position_at(self, handle: RoomHandle, at: int) -> Position:
        """Where a room's log stood at a moment."""
        low, high = 0, int(handle.aggregate.position)
        while low < high:
            middle = (low + high + 1) // 2
            [header] = await self._desk.library.few_facts(handle.room, Position(middle - 1), 1)
            low, high = (middle, high) if header.at <= at else (low, middle - 1)
        return Position(low)

    async def _history(self, handle: RoomHandle, request: Request, params: t.HistoryOfState) -> t.StateHistory:
        room, resolver = await self._sight.of(handle, request.by.actor)
        scope, key = room.entries.scope(params.scope), key_label(params.key)
        limit, view = min(params.limit, t.MAX_ENTRIES), room.view(request.by.actor)
        before = Position(room.position + 1)
        versions: list[t.StateVersion] = []
        more = not room.entries.table.is_hidden(scope, resolver.asker.handle)
        while more and len(versions) <= limit:
            facts = await self._desk.library.state_history(handle.room, scope, key, before, HISTORY_STEP)
            more = len(facts) == HISTORY_STEP
            for header, body in facts:
                before = header.position
                is_current = not versions and params.before is None
                # What was written before the reader came in is not its to see; what stands there now is.
                if not is_current and not can_see(view, position=header.position, visibility=None):
                    more = False
                    break
                told = shown.version(room, resolver, header, body)
                if params.before is None or told.version < params.before:
                    versions.append(told)
        if not versions:
            raise room.entries.missing(scope, key, resolver.keys(scope))
        page = shown.within(versions, limit)
        return t.StateHistory(
            scope=scope,
            key=key,
            versions=page,
            more=len(page) < len(versions),
            first=versions[-1].version,
            room=handle.room,
        )

    # -- writing -------------------------------------------------------------------------------------------

    async def _set(self, handle: RoomHandle, request: Request, params: t.SetState) -> t.StateWritten:
        return await self._write_one(handle, request, params, write_of(self._sight, params))

    async def _delete(self, handle: RoomHandle, request: Request, params: t.DeleteState) -> t.StateWritten:
        return await self._write_one(handle, request, params, deletion_of(self._sight, params))

    async def _batch(self, handle: RoomHandle, request: Request, params: t.BatchState) -> t.BatchWritten:
        writes = []
        for number, each in enumerate(params.writes):
            try:
                writes.append(deletion_of(self._sight, each) if each.delete else write_of(self._sight, each))
            except Refused as refused:
                refused.details["index"] = number
                raise
        gate = None if params.gate is None else self._sight.parse(params.gate, "gate")
        entries, replayed = await self._written(handle, request, params, writes, gate)
        key = params.idempotency_key or ""
        return t.BatchWritten(writes=entries, replayed=replayed, idempotency_key=key, room=handle.room)

    async def _write_one(
        self, handle: RoomHandle, request: Request, params: t.SetState | t.DeleteState, write: c.StateWrite
    ) -> t.StateWritten:
        [entry], replayed = await self._written(handle, request, params, [write], None)
        return _as_written(entry, handle, params.idempotency_key, replayed=replayed)

    async def _written(
        self,
        handle: RoomHandle,
        request: Request,
        params: t.SetState | t.DeleteState | t.BatchState,
        writes: Sequence[c.StateWrite],
        gate: Expression | None,
    ) -> tuple[list[t.StateEntry], bool]:
        """Write, and give what stands there afterwards; the flag says that the same request was carried out before."""
        room = await handle.quiet()
        for write in writes:
            for expression in (write.gate, write.expr, write.enabled):
                require_readable(room, request.by.actor, expression)
        require_readable(room, request.by.actor, gate)
        command = c.WriteState(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            writes=tuple(writes),
            gate=gate,
            presence=self._sight.presence(handle.room),
        )
        settled = await handle.submit(command, request.by)
        room = handle.aggregate
        facts = await self._desk.library.facts_of(handle.room, settled, len(writes))
        resolver = self._sight.resolver(room, request.by.actor)
        told = []
        for header in facts[: len(writes)]:
            body = None if header.body is None else await self._desk.library.body(handle.room, header.position)
            told.append(shown.after_write(room, resolver, header, body))
        return told, settled.decision.replay is not None

    async def _renew(self, handle: RoomHandle, request: Request, params: t.RenewTimer) -> t.StateWritten:
        if params.of == "action":
            return await self._renew_action(handle, request, params)
        command = c.RenewTimer(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            scope=params.scope,
            key=params.key,
            presence=self._sight.presence(handle.room),
        )
        settled = await handle.submit(command, request.by)
        room = handle.aggregate
        scope, key = room.entries.scope(params.scope), key_label(params.key)
        entry = room.entries.table.entry(scope, key)
        if entry is None:
            raise room.entries.missing(scope, key)
        resolver = self._sight.resolver(room, request.by.actor)
        fields = shown.of_writer(room, resolver, scope, key, entry)
        replayed = settled.decision.replay is not None
        return _as_written(t.StateEntry(**fields), handle, params.idempotency_key, replayed=replayed)

    async def _renew_action(self, handle: RoomHandle, request: Request, params: t.RenewTimer) -> t.StateWritten:
        command = c.RenewAction(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            id=params.key,
            presence=self._sight.presence(handle.room),
        )
        settled = await handle.submit(command, request.by)
        room, id = handle.aggregate, key_label(params.key)
        entry = room.actions.entry(id)
        if entry is None:
            raise room.actions.missing(id)
        about = t.StateEntry(
            **shown.about(room, self._sight.resolver(room, request.by.actor), ACTIONS, id, entry), value=None
        )
        replayed = settled.decision.replay is not None
        return _as_written(about, handle, params.idempotency_key, replayed=replayed)

    async def _hide(self, handle: RoomHandle, request: Request, params: t.HideScope) -> t.ScopeShown:
        scope = "" if params.everybodys else request.by.actor
        command = c.HideScope(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            scope=scope,
            hidden=params.hidden,
            presence=self._sight.presence(handle.room),
        )
        await handle.submit(command, request.by)
        named = scope and handle.aggregate.entries.scope(scope)
        return t.ScopeShown(scope=named, hidden=params.hidden, room=handle.room)


def _as_written(entry: t.StateEntry, handle: RoomHandle, key: str | None, *, replayed: bool) -> t.StateWritten:
    fields = msgspec.structs.asdict(entry)
    return t.StateWritten(**fields, replayed=replayed, idempotency_key=key or "", room=handle.room)
