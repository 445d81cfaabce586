"""Somebody who stands before a relay's engine and watches what goes through, and what is wrong with it.

    A home that comes back is told nothing that it holds already.
    Only what an agent lets it do for its person, and for as long, is done over a link and told to it.

What is seen here is noted and said at the end (`wrong`): an error in the middle of a link would be taken for one of the
link's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

import msgspec

from parlerd.core.model import Millis, PrincipalId, RoomId
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace, Outlet, Pending
from parlerd.identity.delegation import read
from parlerd.operations import types as t
from parlerd.store.port import Store
from parlerd.uplink.arriving.messages import decoded
from tests.sim.stored import is_inside
from tests.support.faces import PassingFace, retold

_ITEM: Final = msgspec.msgpack.Decoder(t.LinkItem)


@dataclass
class Watched:
    """What was seen of one relay, over all of its lives."""

    mirrors: dict[PrincipalId, Store] = field(default_factory=dict)
    """The store of each home, by its person."""
    attached: list[tuple[PrincipalId, t.Attach]] = field(default_factory=list)
    """What attached agents to links, with whose link it was."""
    wrong: list[str] = field(default_factory=list)
    """What should not have happened, in one sentence each."""


class Watching(PassingFace):
    """Passes everything on."""

    def __init__(self, engine: EngineFace, watched: Watched, now: Callable[[], Millis]) -> None:
        super().__init__(engine)
        self._watched = watched
        self._now = now
        self._held: dict[tuple[Caller, RoomId], int] = {}
        """How far the mirror of a room went when its home asked to follow the room."""
        self._until: dict[Caller, int] = {}
        """Until when the last of a link's agents may speak for its person."""

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        answer = await self._engine.call(op, params, caller)
        if isinstance(params, t.PostEnvelope):
            self._require_agents(caller, "said something")
        if isinstance(params, t.Attach):
            self._watched.attached.append((caller.facts.authority.principal, params))
            self._note_attached(caller, params)
        if isinstance(params, t.FollowRoom):
            self._note_held(caller, params.resume)
        return answer

    def begin(self, op: str, params: t.Params, caller: Caller) -> Pending | None:
        pending = self._engine.begin(op, params, caller)
        if isinstance(params, t.PostEnvelope) and pending is not None:
            self._require_agents(caller, "said something")
        return pending

    def stream(
        self, op: str, params: t.Params, caller: Caller, outlet: Outlet | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[t.Result]]:
        if isinstance(params, t.FollowRooms) and outlet is not None:
            outlet = _Watched(outlet, lambda item: self._look_at(item, caller))
        items = self._engine.stream(op, params, caller, outlet)
        if isinstance(params, t.FollowRooms):
            for resume in params.rooms:
                self._note_held(caller, resume)
            return retold(items, partial(self._looked_at, caller))
        return items

    def _looked_at(self, caller: Caller, item: t.Result) -> list[t.Result]:
        # What another relay told is passed on as it came.
        raw: object = item
        self._look_at(_ITEM.decode(raw) if isinstance(raw, msgspec.Raw) else cast(t.LinkItem, item), caller)
        return [item]

    # -- what is seen --------------------------------------------------------------------------------------

    def _store(self, caller: Caller) -> Store | None:
        return self._watched.mirrors.get(caller.facts.authority.principal)

    def _note_held(self, caller: Caller, resume: t.Resume) -> None:
        store, room = self._store(caller), RoomId(resume.room)
        if store is None:
            return
        if resume.newest and not is_inside(store, room, caller.facts.authority.principal):
            # A home none of whose agents is inside is told nothing, and begins anew for whoever comes in.
            self._held[caller, room] = 0
        else:
            # Where a home asks again over the same link, it did not have yet what was under way when it asked.
            self._held.setdefault((caller, room), store.head(room).position)

    def _note_attached(self, caller: Caller, params: t.Attach) -> None:
        for attachment in params.agents:
            delegation = read(attachment.delegation, attachment.delegation_signature)
            if delegation is not None:
                self._until[caller] = max(self._until.get(caller, 0), delegation.expires_at)

    def _require_agents(self, caller: Caller, what: str) -> None:
        if self._now() >= self._until.get(caller, 0):
            self._watched.wrong.append(f"a link {what} after what lets its agents speak had ended")

    def _look_at(self, item: t.LinkItem, caller: Caller) -> None:
        store, room = self._store(caller), RoomId(item.room)
        if item.page is None:
            return
        if item.page.messages:
            self._require_agents(caller, "was told what is said")
        if store is None:
            return
        for message in item.page.messages:
            envelope = decoded(message.body)
            place = None if envelope is None else store.find_message(envelope.id)
            if place is not None and place[0] == room and place[1] <= self._held.get((caller, room), 0):
                self._watched.wrong.append(f"a home was told {place[1]} of its mirror again, which it held before")


class _Watched(Outlet):
    """Looks at what goes past the task of a stream, and passes it on."""

    def __init__(self, outlet: Outlet, look: Callable[[t.LinkItem], None]) -> None:
        self._outlet = outlet
        self._look = look

    @property
    def is_ready(self) -> bool:
        return self._outlet.is_ready

    def give(self, item: bytes) -> None:
        self._look(msgspec.msgpack.decode(item, type=t.LinkItem))
        self._outlet.give(item)
