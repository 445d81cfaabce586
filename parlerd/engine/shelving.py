"""What a link asks of the files of this home's rooms: the handlers of `link.blob_*`.

Not here: the bytes (`shelf`), and what an agent of this machine asks (`files`). Above: the engine. Below: `reachable`
for the room that a caller means. Invariant: an agent brings files to rooms that it is in, and reads those that a
message brings which it may see there.
"""

from __future__ import annotations

from parlerd.core.lifecycle import require_open
from parlerd.core.model import AgentId, blob_id
from parlerd.core.room import Room
from parlerd.engine.brought import BlobFinder
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.reachable import require_member, require_speaker, room_within
from parlerd.operations import types as t


class Shelving:
    """The handlers of a link's questions about files."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._finder = BlobFinder(desk.library)

    @handles("link.blob_begin")
    async def begin(self, caller: Caller, params: t.BeginBlobAtRoom) -> t.BlobAt:
        agent = await self._writer(caller, params.room, params.agent)
        principal = caller.facts.authority.principal
        if self._desk.kept.is_over(principal, params.size):
            raise self._desk.kept.refusal()
        offset = await self._desk.shelf.begin(agent, blob_id(params.blob), params.size)
        return t.BlobAt(room=params.room, offset=offset)

    @handles("link.blob_write")
    async def write(self, caller: Caller, params: t.WriteBlobAtRoom) -> t.BlobAt:
        agent = await self._writer(caller, params.room, params.agent)
        person = caller.facts.authority.principal
        offset = await self._desk.shelf.write(agent, blob_id(params.blob), params.offset, params.data, person)
        return t.BlobAt(room=params.room, offset=offset)

    @handles("link.blob_finish")
    async def finish(self, caller: Caller, params: t.FinishBlobAtRoom) -> t.BlobAt:
        agent = await self._writer(caller, params.room, params.agent)
        await self._desk.shelf.finish(agent, blob_id(params.blob), params.size)
        return t.BlobAt(room=params.room, offset=params.size)

    @handles("link.blob_read")
    async def read(self, caller: Caller, params: t.ReadBlobAtRoom) -> t.BlobPiece:
        agent, room = await self._member(caller, params.room, params.agent)
        blob = blob_id(params.blob)
        await self._finder.require(room, agent, blob)
        return t.BlobPiece(data=await self._desk.shelf.read(agent, blob, params.offset, params.length))

    async def _writer(self, caller: Caller, room: str, agent: str) -> AgentId:
        speaker, found = await self._member(caller, room, agent)
        require_open(found.state.lifecycle)
        return speaker

    async def _member(self, caller: Caller, room: str, agent: str) -> tuple[AgentId, Room]:
        speaker = require_speaker(self._desk, caller, agent)
        found = await (await room_within(self._desk, caller, room)).quiet()
        require_member(found, speaker, caller.facts.authority.principal)
        return speaker, found
