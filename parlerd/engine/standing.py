"""Who is there in rooms of this home only while something is true: agents that say so, and modules.

Not here: the rules (`core.modules`), and where a question comes from (`crossing`). Above: `crossing`. Below: a room's
line, `sight`. Invariant: whoever sees a module that is not there registered it or owns the room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from parlerd.core import commands as c
from parlerd.core.entries import Entry
from parlerd.core.resolver import Resolver
from parlerd.core.room import Room
from parlerd.engine.crossing import Answer, Request
from parlerd.engine.handles import RoomHandle
from parlerd.engine.inputs import input_digest
from parlerd.engine.sight import Sight
from parlerd.engine.state_inputs import require_readable
from parlerd.operations import types as t


class Standing:
    """Answers what is asked of modules, and takes what agents say of themselves."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self.answers: Final[Mapping[str, Answer]] = {
            "agent.enable": self._enable,
            "module.register": self._register,
            "module.list": self._list,
            "module.delete": self._delete,
        }

    async def _enable(self, handle: RoomHandle, request: Request, params: t.EnableAgent) -> t.AgentEnabled:
        room = await handle.quiet()
        enabled = None if params.enabled is None else self._sight.parse(params.enabled, "enabled")
        require_readable(room, request.by.actor, enabled)
        command = c.EnableAgent(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            enabled=enabled,
        )
        settled = await handle.submit(command, request.by)
        resolver = self._sight.resolver(handle.aggregate, request.by.actor)
        entry = handle.aggregate.modules.entry(resolver.asker.handle)
        said = None if entry is None else entry.enabled
        return t.AgentEnabled(
            agent=resolver.asker.handle,
            enabled=msgspec.UNSET if said is None else said.source,
            disabled=not resolver.is_enabled(),
            replayed=settled.decision.replay is not None,
            idempotency_key=params.idempotency_key or "",
            room=handle.room,
        )

    async def _register(self, handle: RoomHandle, request: Request, params: t.RegisterModule) -> t.ModuleRegistered:
        room = await handle.quiet()
        enabled = None if params.enabled is None else self._sight.parse(params.enabled, "enabled")
        require_readable(room, request.by.actor, enabled)
        command = c.RegisterModule(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            name=params.id,
            role=params.role,
            enabled=enabled,
            presence=self._sight.presence(handle.room),
        )
        settled = await handle.submit(command, request.by)
        room = handle.aggregate
        entry = room.modules.module(params.id)
        if entry is None:
            # It was registered before, by the same request, and has gone since.
            raise room.modules.missing(params.id)
        return t.ModuleRegistered(
            **_fields(room, self._sight.resolver(room, request.by.actor), params.id, entry),
            replayed=settled.decision.replay is not None,
            idempotency_key=params.idempotency_key or "",
            room=handle.room,
        )

    async def _list(self, handle: RoomHandle, request: Request, params: t.ListModules) -> t.ModulesListed:
        room, _ = await self._sight.of(handle, request.by.actor)
        shown = []
        for name in sorted(room.entries.state.modules):
            # What one module costs takes nothing from what the next one may cost.
            resolver, entry = self._sight.resolver(room, request.by.actor), room.modules.module(name)
            if entry is None:
                continue
            is_own = room.entries.table.owns(resolver.asker.handle, name) or request.by.actor == room.state.owner
            if is_own or resolver.stands(name):
                shown.append(t.ModuleShown(**_fields(room, resolver, name, entry)))
        return t.ModulesListed(modules=shown, room=handle.room)

    async def _delete(self, handle: RoomHandle, request: Request, params: t.DeleteModule) -> t.ModuleDeleted:
        command = c.DeleteModule(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            name=params.id,
            presence=self._sight.presence(handle.room),
        )
        settled = await handle.submit(command, request.by)
        return t.ModuleDeleted(
            id=params.id,
            replayed=settled.decision.replay is not None,
            idempotency_key=params.idempotency_key or "",
            room=handle.room,
        )


def _fields(room: Room, resolver: Resolver, name: str, entry: Entry) -> dict[str, Any]:
    """What is shown of a module, by the names of the fields."""
    return {
        "id": name,
        "role": entry.role,
        "version": entry.version,
        "registered_by": room.entries.state.modules[name],
        "registered_at": entry.at,
        "enabled": msgspec.UNSET if entry.enabled is None else resolver.source(entry.enabled),
        "dormant": msgspec.UNSET if resolver.stands(name) else True,
    }
