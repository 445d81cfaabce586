"""The files of a room that lives elsewhere: with that home, and nowhere here.

What a sealed room has there is ciphertext, which `engine.file_seals` makes.

Not here: who may read one (that home decides, and the handler has looked at the mirror before). Above: `remote_room`.
Below: `link`. Invariant: nothing waits: where the link is down, the answer says so, and an upload goes on from where
the home has it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, BlobId
from parlerd.core.room import Room
from parlerd.engine.actor import RoomActor
from parlerd.operations import types as t
from parlerd.uplink.link import Link


class RemoteShelf:
    """The shelf of one room behind a link."""

    def __init__(self, actor: RoomActor[Room], link: Link) -> None:
        self._room = actor.room
        self._link = link

    @property
    def piece(self) -> int:
        return t.MAX_PIECE

    async def name(self, digest: Callable[[], Awaitable[BlobId]]) -> BlobId:
        return await digest()

    async def begin(self, agent: AgentId, blob: BlobId, size: int) -> int:
        params = t.BeginBlobAtRoom(room=self._room, agent=agent, blob=blob, size=size)
        answer = await self._link.call("link.blob_begin", params, by=agent)
        assert isinstance(answer, t.BlobAt)
        return _place(answer.offset, 0, size)

    async def write(self, agent: AgentId, blob: BlobId, at: int, data: bytes) -> int:
        params = t.WriteBlobAtRoom(room=self._room, agent=agent, blob=blob, offset=at, data=data)
        answer = await self._link.call("link.blob_write", params, by=agent)
        assert isinstance(answer, t.BlobAt)
        # A home that never comes further would be sent the same piece for ever.
        return _place(answer.offset, at + 1, at + len(data))

    async def settle(self, agent: AgentId, blob: BlobId, size: int) -> BlobId:
        params = t.FinishBlobAtRoom(room=self._room, agent=agent, blob=blob, size=size)
        await self._link.call("link.blob_finish", params, by=agent)
        return blob

    async def give_up(self, agent: AgentId, blob: BlobId) -> None:
        """The home keeps it for a day."""

    async def require(self, agent: AgentId, blob: BlobId, *, may_read: bool) -> None:
        """That home looks when the message comes."""

    async def read(self, agent: AgentId, blob: BlobId, at: int, length: int) -> bytes:
        params = t.ReadBlobAtRoom(room=self._room, agent=agent, blob=blob, offset=at, length=length)
        answer = await self._link.call("link.blob_read", params, by=agent)
        assert isinstance(answer, t.BlobPiece)
        return answer.data


def _place(offset: int, first: int, last: int) -> int:
    """How far the home says that a file is there. Raises `Refused(relay_refused)` for what cannot be."""
    if not first <= offset <= last:
        raise Refused("relay_refused", what="offset")
    return offset
