"""Coordination: who is there only while something is true, and modules, somebody without a key."""

from __future__ import annotations

from typing import Final

import msgspec

from parlerd.operations import samples
from parlerd.operations.entry import (
    Argument,
    Family,
    IdempotencyKey,
    Offer,
    Operation,
    Params,
    ReceiptRef,
    Result,
    Route,
    Short,
)
from parlerd.operations.shared import STATE_READING, STATE_WRITING, Source


class EnableAgent(Params, frozen=True, kw_only=True):
    """The agent is there while `enabled` is true, and without one always."""

    enabled: Source | None = None
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class RegisterModule(Params, frozen=True, kw_only=True):
    """A module is there while `enabled` is true. Its registrar alone writes its scope, the actions in that scope, and
    the module."""

    id: Short
    role: Short = "module"
    enabled: Source | None = None
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class ListModules(Params, frozen=True, kw_only=True):
    room: Short | None = None


class DeleteModule(Params, frozen=True, kw_only=True):
    """Its registrar deletes a module, or the owner of the room does. The name stays the registrar's."""

    id: Short
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class AgentEnabled(Result, frozen=True, kw_only=True):
    """`disabled` is that what the agent said is not true now, so that it can read and wait, and nothing else.
    `warning` is as in `StateWritten`."""

    agent: str
    enabled: str | msgspec.UnsetType = msgspec.UNSET
    disabled: bool = False
    room: str
    name: str = ""
    replayed: bool = False
    idempotency_key: str = ""
    warning: str | msgspec.UnsetType = msgspec.UNSET
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class ModuleShown(Result, frozen=True, kw_only=True):
    """`dormant` is that the module is not there for whoever asks, who registered it, or owns the room."""

    id: str
    role: str
    version: int
    registered_by: str
    registered_at: int
    enabled: str | msgspec.UnsetType = msgspec.UNSET
    dormant: bool | msgspec.UnsetType = msgspec.UNSET


class ModuleRegistered(ModuleShown, frozen=True, kw_only=True):
    """`warning` is as in `StateWritten`."""

    room: str
    name: str = ""
    replayed: bool = False
    idempotency_key: str = ""
    warning: str | msgspec.UnsetType = msgspec.UNSET
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class ModulesListed(Result, frozen=True, kw_only=True):
    modules: list[ModuleShown]
    room: str
    name: str = ""


class ModuleDeleted(Result, frozen=True, kw_only=True):
    id: str
    room: str
    name: str = ""
    replayed: bool = False
    idempotency_key: str = ""
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


_SHOWN: Final = {
    "id": "path",
    "role": "module",
    "version": 1,
    "registered_by": samples.ANN,
    "registered_at": samples.AT,
    "enabled": "has(state._shared.compass)",
}

FAMILY: Final = Family(
    operations=(
        Operation(
            name="agent.enable",
            summary="Say what has to be true in a room for this agent to be there.",
            params=EnableAgent,
            result=AgentEnabled,
            plane="agent",
            http=Route("PUT /rooms/{room}/enabled", "state"),
            effect="write",
            needs_idempotency_key=True,
            errors=STATE_WRITING,
            facts=("agent_enabled", "timer_fired"),
            example={"enabled": 'state._shared.phase == "review"'},
            answers=({"agent": samples.ANN, "enabled": 'state._shared.phase == "review"', **samples.DONE},),
            tool=Offer(tool="parler_state", verb="enable", arguments=(Argument(name="enabled"),)),
            command="parler enabled",
        ),
        Operation(
            name="module.register",
            summary="Make a module: a name with a scope and actions, which is there while something is true.",
            params=RegisterModule,
            result=ModuleRegistered,
            plane="agent",
            http=Route("PUT /rooms/{room}/modules/{id}", "state"),
            effect="write",
            needs_idempotency_key=True,
            errors=STATE_WRITING,
            facts=("module_registered", "timer_fired"),
            example={"id": "path", "enabled": "has(state._shared.compass)"},
            answers=({**_SHOWN, **samples.DONE},),
            tool=Offer(
                tool="parler_state",
                verb="module",
                arguments=(Argument(name="key", field="id"), Argument(name="enabled")),
            ),
            command="parler module register",
        ),
        Operation(
            name="module.list",
            summary="Show the modules of a room.",
            params=ListModules,
            result=ModulesListed,
            plane="agent",
            http=Route("GET /rooms/{room}/modules", "read"),
            effect="read",
            errors=STATE_READING,
            facts=("timer_fired",),
            example={},
            answers=({"modules": [_SHOWN], **samples.PLACED},),
            tool=Offer(tool="parler_state", verb="modules"),
            command="parler module list",
        ),
        Operation(
            name="module.delete",
            summary="Delete a module.",
            params=DeleteModule,
            result=ModuleDeleted,
            plane="agent",
            http=Route("DELETE /rooms/{room}/modules/{id}", "state"),
            effect="destructive",
            needs_idempotency_key=True,
            errors=STATE_WRITING,
            facts=("module_deleted", "timer_fired"),
            example={"id": "path"},
            answers=({"id": "path", **samples.DONE},),
            tool=Offer(tool="parler_state", verb="delete_module", arguments=(Argument(name="key", field="id"),)),
            command="parler module delete",
        ),
    )
)
