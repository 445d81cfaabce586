"""Inviting into a room: the handler of `room.invite`, which opens a channel at its first invite, and for a code that
names no room a direct room with whoever comes with it.

An invite is one key more of a room. Its `ref`, and so the key itself, follows from the request: a retry is given the
same key, also where the answer to the first try was lost.

Not here: what a key lets its holder do (`core.approvals`), opening (`opening`). Above: the engine. Below: the room's
own line. Invariant: a room that asks a person about newcomers gets no key that does not.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core.approvals import KeyState
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import MAX_LABEL, AgentId, Label, Millis, RoomId, RoomKind, label
from parlerd.core.statements import KeyTerms
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.key_text import INVITE, handed_on, spelled, typed_key_of
from parlerd.engine.lookup import only, owned_rooms, rooms_named
from parlerd.engine.opening import Wanted, home_for, open_room, opening_token, require_clear
from parlerd.engine.person import is_person, require_person
from parlerd.engine.quota import OPENING
from parlerd.identity.codes import LINK
from parlerd.operations import types as t

_REF_CHARACTERS = 24


class Inviting:
    """The handler of `room.invite`."""

    def __init__(self, desk: Desk, everywhere: Desk) -> None:
        self._desk = desk
        self._everywhere = everywhere
        """Also where the desk knows certain rooms alone: a new room is none of them."""
        self._opening: dict[tuple[AgentId, str], trio.Lock] = {}
        """Held while an agent's channel of a name is looked for and opened, so that two requests open one channel."""

    @handles("room.invite")
    async def invite(self, caller: Caller, params: t.Invite) -> t.Invited:
        desk = self._desk
        if sum((bool(params.group), bool(params.service), params.room is not None)) > 1:
            raise Refused("invalid_param", "Name one of them: a channel, a queue, or a room.", param="room")
        if params.requester and not params.service:
            raise Refused("invalid_param", "Only a queue is asked for work.", param="requester")
        me = await desk.me(caller)
        idempotency_key = params.idempotency_key or desk.random.new("k")
        secret = desk.keys.opening_secret(me.id, f"{idempotency_key} invite")
        drawn = hashlib.sha256(secret + input_digest(params)).digest()
        ref = INVITE + base64.b32encode(drawn).decode().lower()[:_REF_CHARACTERS]
        try:
            if params.room is not None:
                [room] = await owned_rooms(desk, me, params.room, person=is_person(caller))
                return await self._mint(caller, me, params, room, ref, idempotency_key)
            if params.service:
                queue = await self._queue(caller, me, params.service, params.home)
                return await self._mint(caller, me, params, queue, ref, idempotency_key)
            if not params.group:
                return await self._invite_one(caller, me, params, ref, idempotency_key)
            async with self._one_at_a_time(me.id, params.group):
                return await self._invite_to_channel(caller, me, params, ref, idempotency_key)
        except ParlerError as error:
            error.details.setdefault("key", idempotency_key)
            raise

    async def _invite_to_channel(
        self, caller: Caller, me: AgentRecord, params: t.Invite, ref: str, idempotency_key: str
    ) -> t.Invited:
        name = label(params.group)
        room = await self._owned(caller, me, name, params.home, kind="channel")
        if room is not None:
            return await self._mint(caller, me, params, room, ref, idempotency_key)
        most = params.max_uses or self._desk.settings.key_max_uses
        return await self._open(caller, me, params, ref, idempotency_key, kind="channel", name=name, max_uses=most)

    async def _invite_one(
        self, caller: Caller, me: AgentRecord, params: t.Invite, ref: str, idempotency_key: str
    ) -> t.Invited:
        """A code for one agent, who then has a direct room with the caller."""
        if params.max_uses not in (None, 1):
            raise Refused("invalid_param", "A room of two has a place for one more.", param="max_uses")
        if params.clear and home_for(self._desk, params.home) != self._desk.keys.id:
            raise Refused("invalid_param", "A relay never reads a room of two.", param="clear")
        name = Label(f"dm/{me.name}"[:MAX_LABEL])
        return await self._open(caller, me, params, ref, idempotency_key, kind="dm", name=name, max_uses=1)

    async def _open(
        self,
        caller: Caller,
        me: AgentRecord,
        params: t.Invite,
        ref: str,
        idempotency_key: str,
        *,
        kind: RoomKind,
        name: Label,
        max_uses: int,
    ) -> t.Invited:
        desk = self._desk
        token = opening_token(desk, caller)
        await desk.quotas.take(me.id, bytes=0, messages=OPENING)
        approval = bool(params.approval)
        if desk.settings.approval_default and not approval:
            # Source: security spec A1.
            require_person(desk, caller)
        home = home_for(desk, params.home)
        if params.clear:
            require_clear(desk, caller, home)
        opened = await open_room(
            self._everywhere,
            caller,
            me,
            Wanted(
                operation="room.invite",
                idempotency_key=idempotency_key,
                digest=input_digest(params),
                kind=kind,
                name=name,
                home=home,
                clear=params.clear,
                approval=approval,
                ref=ref,
                ttl_ms=Millis(params.ttl_ms or desk.settings.key_ttl_ms),
                max_uses=max_uses,
                token=token,
            ),
        )
        return await self._invited(
            opened.handle, opened.key, idempotency_key, opened=not opened.replayed, replayed=opened.replayed
        )

    async def _queue(self, caller: Caller, me: AgentRecord, service: str, home: str) -> RoomId:
        """The queue of this name that the caller may invite workers to."""
        room = await self._owned(caller, me, label(service), home, kind="service")
        if room is None:
            said = f"You own no queue of the name {service}."
            raise Refused("no_such_room", said, hint=f"To open it as its first worker: parler serve {service}")
        return room

    async def _owned(self, caller: Caller, me: AgentRecord, name: str, home: str, *, kind: RoomKind) -> RoomId | None:
        """The room of this kind and name that the caller may invite to; None where there is none. Raises `Refused`:
        `not_owner` where the agent is in one that another owns, or `ambiguous_name`."""
        desk = self._desk
        where = f"{name}@{home}" if home else name
        owned = await owned_rooms(desk, me, None, person=is_person(caller))
        found = [room for room in await rooms_named(desk, where, owned) if await self._is_live(room, kind)]
        if found:
            return await only(desk, found, name)
        inside = await rooms_named(desk, where, await desk.library.my_rooms(me.id))
        if any([await self._is_live(room, kind) for room in inside]):
            raise Refused("not_owner", "Another agent owns this room, and only its owner invites to it.")
        return None

    async def _is_live(self, room: RoomId, kind: RoomKind) -> bool:
        state = (await self._desk.rooms.get(room)).aggregate.state
        return state.kind == kind and not state.closed

    async def _mint(
        self, caller: Caller, me: AgentRecord, params: t.Invite, room: RoomId, ref: str, idempotency_key: str
    ) -> t.Invited:
        desk = self._desk
        handle = await desk.rooms.get(room)
        state = (await handle.quiet()).state
        if state.kind not in ("session", "channel", "service"):
            raise Refused("invalid_param", "Nobody is invited to this room.", param="room")
        if params.clear and state.lifecycle.sealed:
            raise Refused("invalid_param", "This room is sealed, and stays sealed.", param="clear")
        known = next((key for key in state.keys.values() if key.ref == ref), None)
        if known is not None:
            return await self._invited(handle, known, idempotency_key, opened=False, replayed=True)
        # Agents of a queue's own person need no code, so whoever comes with one is somebody else's.
        gated = state.lifecycle.approval or state.kind == "service" if params.approval is None else params.approval
        if state.kind == "service" and desk.settings.approval_default and not gated:
            require_person(desk, caller)
        if state.lifecycle.approval and not gated:
            raise Refused(
                "invalid_param", "A person decides who comes into this room, with every key of it.", param="approval"
            )
        if state.home != desk.keys.id:
            await desk.homes.meet(state.home)
        key_id = desk.keys.key_id(spelled(desk, room, ref, gated=gated, is_sealed=state.is_sealed).key)
        command = c.MintKey(
            operation="room.invite",
            idempotency_key=idempotency_key,
            input=input_digest(params),
            mint=key_id,
            terms=KeyTerms(
                home=state.home,
                room=room,
                ref=ref,
                gated=gated,
                expires_at=Millis(desk.now_at(state.home) + (params.ttl_ms or desk.settings.key_ttl_ms)),
                max_uses=params.max_uses or desk.settings.key_max_uses,
                preapproved=(),
                requester=params.requester or msgspec.UNSET,
                nonce=b"",
            ),
            principal=me.principal if is_person(caller) else None,
        )
        await handle.submit(command, desk.by(caller, me))
        key = (await handle.quiet()).state.keys[key_id]
        return await self._invited(handle, key, idempotency_key, opened=False, replayed=False)

    async def _invited(
        self, handle: RoomHandle, key: KeyState, idempotency_key: str, *, opened: bool, replayed: bool
    ) -> t.Invited:
        desk, state = self._desk, handle.aggregate.state
        typed = typed_key_of(desk, state, key)
        assert typed is not None, "every key with such a ref follows from it"
        code = await handed_on(desk, handle, typed)
        return t.Invited(
            code=code,
            link=LINK + code,
            room=handle.room,
            name=state.name,
            kind=state.kind,
            expires=key.expires_at,
            max_uses=key.max_uses,
            approval=key.gated,
            sealed=bool(state.lifecycle.sealed),
            connect_command=None if desk.rooms.is_here(handle.aggregate) else desk.homes.join_line(state.home),
            opened=opened,
            replayed=replayed,
            idempotency_key=idempotency_key,
            warning=msgspec.UNSET
            if key.gated
            else "Whoever has this code comes in without being asked about. Do not paste it in public.",
        )

    @asynccontextmanager
    async def _one_at_a_time(self, agent: AgentId, name: str) -> AsyncIterator[None]:
        lock = self._opening.setdefault((agent, name), trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._opening.pop((agent, name), None)
