"""By which message a reader may have a blob.

Not here: the bytes (`handles.Shelf`). Above: `files` and `shelving`. Below: the library, whose index of names finds
messages by what they bring. Invariant: a message counts only for a reader who may see it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from parlerd.bounded import Bounded
from parlerd.core import events as e
from parlerd.core.envelope import SEALED, BlobPart, decode_envelope
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, BlobId, Position, RoomId
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.engine.library import Library
from parlerd.store.port import StoredMessage

_LOOKED_AT: Final = 16
"""Messages that are looked at for the words with which one of them says how a blob is read."""
MAX_REMEMBERED: Final = 1024
"""Blobs and readers of which is remembered where the message stands, so that not every piece of a file is a search."""


class _Place(NamedTuple):
    """Where a message stands, and who may see it."""

    position: Position
    visibility: tuple[AgentId, ...] | None


class BlobFinder:
    """Finds the messages that bring a blob."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._known: Bounded[tuple[AgentId, RoomId, BlobId], _Place] = Bounded(MAX_REMEMBERED)

    async def message(self, room: Room, reader: AgentId, blob: BlobId) -> StoredMessage | None:
        """The first message of a room that brings a blob and that this reader may see."""
        view, names = room.view(reader), (e.brought(blob),)
        page = await self._library.page(room, view, Position(0), limit=1, skip_own=False, names=names)
        return page.messages[0] if page.messages else None

    async def part(self, room: Room, reader: AgentId, blob: BlobId) -> BlobPart | None:
        """What the first message says of a blob that brings it, that this reader may see, and whose words are here."""
        view, names = room.view(reader), (e.brought(blob),)
        page = await self._library.page(room, view, Position(0), limit=_LOOKED_AT, skip_own=False, names=names)
        found = (brought_by(message) for message in page.messages)
        return next((part for part in found if part is not None and part.blob == blob), None)

    async def require(self, room: Room, reader: AgentId, blob: BlobId) -> None:
        """Raise `Refused(no_such_blob)` unless there is one."""
        place = (reader, room.state.room, blob)
        known = self._known.get(place)
        if known is not None and can_see(room.view(reader), position=known.position, visibility=known.visibility):
            return
        message = await self.message(room, reader, blob)
        if message is None:
            raise Refused("no_such_blob")
        event = message.header.event
        assert isinstance(event, e.MessagePosted)
        self._known[place] = _Place(message.header.position, event.visibility)


def brought_by(message: StoredMessage) -> BlobPart | None:
    """What the author of a message says of the file that it brings; None where the message brings none, or where its
    words are not here as they were written."""
    if message.body is None or not message.unaltered:
        return None
    try:
        envelope = decode_envelope(message.body)
    # msgspec lets text that is not UTF-8 and nesting without end through as they are.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Refused):
        return None
    # Of a message that could not be opened its home sees more than the reader does.
    parts = () if envelope.v == SEALED else envelope.parts
    return next((part for part in parts if isinstance(part, BlobPart)), None)
