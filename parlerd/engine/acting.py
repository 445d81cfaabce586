"""Registering and invoking the actions of rooms of this home.

Not here: the rules (`core.actions`), where a question comes from (`crossing`), and how an action looks
(`actions_shown`). Above: `crossing`. Below: a room's line, the library, `sight`. Invariant: an answer rests on what is
stored; a repeated invocation is answered from its facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.actions import Invocation
from parlerd.core.model import ACTIONS, MAX_WRITES, SHARED, AgentId, key_label
from parlerd.core.room import Room
from parlerd.core.state import decode_text
from parlerd.core.templates import Action
from parlerd.engine import actions_shown, entries_shown
from parlerd.engine.actions_asked import action_of
from parlerd.engine.crossing import Answer, Request
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.inputs import input_digest
from parlerd.engine.sight import Sight
from parlerd.engine.state_inputs import require_readable, timer_of
from parlerd.operations import types as t

PAGE: Final = 100
"""Actions in one answer at most."""


class Acting:
    """Answers what is asked of a room's actions."""

    def __init__(self, desk: Desk, sight: Sight) -> None:
        self._desk = desk
        self._sight = sight
        self.answers: Final[Mapping[str, Answer]] = {
            "action.register": self._register,
            "action.list": self._list,
            "action.invoke": self._invoke,
            "action.delete": self._delete,
        }

    async def _register(self, handle: RoomHandle, request: Request, params: t.RegisterAction) -> t.ActionRegistered:
        room = await handle.quiet()
        scope = params.scope if params.scope == SHARED else room.entries.scope(params.scope)
        action = action_of(self._sight, params, scope)
        enabled = None if params.enabled is None else self._sight.parse(params.enabled, "enabled")
        for expression in (*action.expressions, *(() if enabled is None else (enabled,))):
            require_readable(room, request.by.actor, expression)
        command = c.RegisterAction(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            id=params.id,
            action=action,
            enabled=enabled,
            timer=None if params.timer is None else timer_of(params.timer),
            if_version=params.if_version,
            reset_cooldown=params.reset_cooldown,
            presence=self._sight.presence(handle.room),
        )
        settled = await handle.submit(command, request.by)
        room, id = handle.aggregate, key_label(params.id)
        entry = room.actions.entry(id)
        if entry is None:
            # It was registered before, by the same request, and has gone since.
            raise room.actions.missing(id)
        resolver = self._sight.resolver(room, request.by.actor)
        found = actions_shown.fields(room, resolver, id, entry)
        return t.ActionRegistered(
            **found,
            dormant=msgspec.UNSET if resolver.action(id) is not None else True,
            contested=_contested(room, id, action) or msgspec.UNSET,
            replayed=settled.decision.replay is not None,
            idempotency_key=params.idempotency_key or "",
            room=handle.room,
        )

    async def _list(self, handle: RoomHandle, request: Request, params: t.ListActions) -> t.ActionsListed:
        room, resolver = await self._sight.of(handle, request.by.actor)
        ids = resolver.actions()
        if params.id is not None:
            if params.id not in ids:
                raise room.actions.missing(key_label(params.id))
            ids = [params.id]
        ids = [id for id in ids if params.after is None or id > params.after]
        found = (
            self._shown(room, request.by.actor, id, expand=params.expand_params or params.id is not None) for id in ids
        )
        page = entries_shown.within(found, PAGE)
        return t.ActionsListed(actions=page, more=len(page) < len(ids), room=handle.room)

    def _shown(self, room: Room, agent: AgentId, id: str, *, expand: bool) -> t.ActionShown:
        # What one action costs takes nothing from what the next one may cost.
        resolver, entry = self._sight.resolver(room, agent), room.actions.entry(id)
        assert entry is not None
        return actions_shown.shown(room, resolver, id, entry, expand=expand)

    async def _invoke(self, handle: RoomHandle, request: Request, params: t.InvokeAction) -> t.ActionInvoked:
        command = c.InvokeAction(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            id=params.id,
            params=params.params,
            presence=self._sight.presence(handle.room),
        )
        settled = await handle.submit(command, request.by)
        room = handle.aggregate
        [first, *rest] = await self._desk.library.facts_of(handle.room, settled, 1 + MAX_WRITES)
        event = first.event
        assert isinstance(event, e.ActionInvoked)
        resolver = self._sight.resolver(room, request.by.actor)
        writes = []
        for header in rest[: event.writes]:
            body = None if header.body is None else await self._desk.library.body(handle.room, header.position)
            writes.append(entries_shown.after_write(room, resolver, header, body))
        text = event.text
        if first.body is not None:
            text = decode_text(await self._desk.library.body(handle.room, first.position) or b"")
        kept = msgspec.json.decode(text, type=Invocation) if text else Invocation({})
        return t.ActionInvoked(
            action=event.id,
            writes=writes,
            result=kept.result,
            **actions_shown.cooldown(room, event.id),
            replayed=settled.decision.replay is not None,
            idempotency_key=params.idempotency_key or "",
            room=handle.room,
        )

    async def _delete(self, handle: RoomHandle, request: Request, params: t.DeleteAction) -> t.ActionDeleted:
        command = c.DeleteAction(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            id=params.id,
            if_version=params.if_version,
            presence=self._sight.presence(handle.room),
        )
        settled = await handle.submit(command, request.by)
        event = (await self._desk.library.facts_of(handle.room, settled, 1))[0].event
        assert isinstance(event, e.ActionDeleted)
        return t.ActionDeleted(
            id=event.id,
            version=event.version,
            replayed=settled.decision.replay is not None,
            idempotency_key=params.idempotency_key or "",
            room=handle.room,
        )


def _contested(room: Room, id: str, action: Action) -> list[str]:
    """The other actions that write one of the same keys, by their names."""
    mine = {(write.scope, write.key) for write in action.writes if write.act in ("set", "delete")}
    others = room.entries.table.scope(ACTIONS).items()
    return sorted(
        other
        for other, entry in others
        if other != id and entry.action is not None
        if mine & {(write.scope, write.key) for write in entry.action.writes}
    )
