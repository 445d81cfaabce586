"""Sharing and fetching as a client does it, for tests that speak to an engine."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.support.engine import Party


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def hand(who: Party, file: IO[bytes]) -> int:
    """Hand a file over, as a client does; its number."""
    return who.caller.handed.add(os.dup(file.fileno()))


@contextmanager
def holding(data: bytes) -> Iterator[IO[bytes]]:
    """A file that holds these bytes."""
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        yield file


async def bring(who: Party, data: bytes, *, room: str | None = None) -> t.BlobPut:
    """Bring bytes to the home of a room, until they are there whole."""
    with holding(data) as file:
        return await put(who, t.PutBlob(file=hand(who, file), room=room))


async def put(who: Party, params: t.PutBlob) -> t.BlobPut:
    """Bring the rest of a file that was handed over."""
    while True:
        at = await who.ask("blob.put", params, t.BlobPut)
        if at.blob:
            return at


async def refused_bytes(who: Party, data: bytes, *, room: str | None = None) -> ParlerError:
    """The error that bringing these bytes is answered with."""
    try:
        await bring(who, data, room=room)
    except ParlerError as error:
        return error
    raise AssertionError("the bytes were taken")


async def share(who: Party, data: bytes, *, room: str | None = None, **rest: Any) -> t.SharedBlob:
    """Bring bytes, and post the message that brings them to the others."""
    brought = await bring(who, data, room=room)
    params = t.ShareBlob(blob=brought.blob, size=len(data), room=brought.room, **rest)
    return await who.ask("blob.share", params, t.SharedBlob)


async def find(who: Party, blob: str, room: str | None = None) -> t.FoundBlob:
    return await who.ask("blob.find", t.FindBlob(blob=blob, room=room), t.FoundBlob)


async def fetch(who: Party, blob: str, *, room: str | None = None, begins: bytes = b"") -> bytes:
    """All bytes of what a message brings, into a file that holds a beginning already."""
    found = await find(who, blob, room)
    brings = found.brings
    with holding(begins) as file:
        params = t.GetBlob(file=hand(who, file), room=found.room, blob=brings.blob, size=brings.size)
        while (await who.ask("blob.get", params, t.BlobAt)).offset < brings.size:
            pass
        file.seek(0)
        return file.read()
