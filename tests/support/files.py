"""Sharing and fetching as a client does it, for tests that speak to an engine."""

from __future__ import annotations

import hashlib

from parlerd.operations import types as t
from tests.support.engine import Party


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def bring(who: Party, data: bytes, *, room: str | None = None, piece: int = t.MAX_PIECE) -> t.BlobAt:
    """Bring bytes to the home of a room, and say that they are there whole."""
    blob, size = digest(data), len(data)
    begun = await who.ask("blob.begin", t.BeginBlob(blob=blob, size=size, room=room), t.BlobAt)
    at = begun.offset
    while at < size:
        params = t.WriteBlob(room=begun.room, blob=blob, offset=at, data=data[at : at + piece])
        at = (await who.ask("blob.write", params, t.BlobAt)).offset
    return await who.ask("blob.finish", t.FinishBlob(room=begun.room, blob=blob, size=size), t.BlobAt)


async def share(
    who: Party, data: bytes, *, room: str | None = None, piece: int = t.MAX_PIECE, **rest: object
) -> t.SharedBlob:
    """Bring bytes, and post the message that brings them to the others."""
    brought = await bring(who, data, room=room, piece=piece)
    params = t.ShareBlob(blob=digest(data), size=len(data), room=brought.room, **rest)  # type: ignore[arg-type]
    return await who.ask("blob.share", params, t.SharedBlob)


async def find(who: Party, blob: str, room: str | None = None) -> t.FoundBlob:
    return await who.ask("blob.find", t.FindBlob(blob=blob, room=room), t.FoundBlob)


async def fetch(who: Party, blob: str, *, room: str | None = None, piece: int = t.MAX_PIECE) -> bytes:
    """All bytes of what a message brings."""
    found = await find(who, blob, room)
    data = b""
    while len(data) < found.brings.size:
        params = t.ReadBlob(room=found.room, blob=found.brings.blob, offset=len(data), length=piece)
        data += (await who.ask("blob.read", params, t.BlobPiece)).data
    return data
