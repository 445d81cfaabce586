"""Files over HTTP: the bytes of a request become a file that was handed over, and the other way round.

    PUT /v1/rooms/{room}/blobs          the body, piece by piece --> a file of no name --> `blob.put` until it is whole
    GET /v1/rooms/{room}/blobs/{blob}   `blob.find`, then `blob.get` until it is whole --> a file of no name --> pieces

A file is no page: it is answered as an attachment of unknown kind, under a name of ours, in a sandbox.

Not here: what a file is, and who may have it (the engine). Above: `app`. Below: `ports`. Invariant: whatever is opened
here is closed when the request ends, and no file of the system has a name.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import blob_id
from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from parlerd.web.ports import Asker, Serving

_PIECE: Final = 256 * 1024
_AS_FILE: Final = {"Content-Security-Policy": "default-src 'none'; sandbox"}


async def upload(engine: Serving, asker: Asker, room: str, request: Request, folder: Path | None) -> t.BlobPut:
    """Bring the body of a request to the home of a room. Raises `ParlerError`."""
    with _opened(asker.caller, folder) as (file, caller, number):
        try:
            async for piece in _pieces(request):
                await engine.aside(partial(_write, file, piece))
        except ClientDisconnect:
            raise Refused("upload_unfinished", tool_hint="Send the whole file again.") from None
        while True:
            put = await engine.call("blob.put", t.PutBlob(file=number, room=room), caller)
            assert isinstance(put, t.BlobPut)
            if put.blob:
                return put


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of a good size for a disk."""
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) >= _PIECE:
            yield bytes(held)
            held.clear()
    yield bytes(held)


class Download(Response):
    """The bytes of a file that a message brings. The answer begins once all of them are here; `refused` makes it where
    they do not come."""

    def __init__(
        self,
        engine: Serving,
        asker: Caller,
        using: Callable[[], AbstractContextManager[object]],
        found: t.FoundBlob,
        refused: Callable[[ParlerError], Response],
        headers: dict[str, str],
        folder: Path | None,
        *,
        over: str = "token_invalid",
    ) -> None:
        """`using` is entered while the bytes come and go, and left when whoever asks may have no more of them, which
        the code `over` says."""
        super().__init__(None, 200, {**headers, **_AS_FILE}, "application/octet-stream")
        self.headers["content-length"] = str(found.brings.size)
        self.headers["content-disposition"] = f'attachment; filename="{blob_id(found.brings.blob)}"'
        self._engine = engine
        self._asker = asker
        self._using = using
        self._over = over
        self._found = found
        self._refused = refused
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun, error = False, ParlerError(self._over)
        try:
            with self._using(), _opened(self._asker, self._folder) as (file, caller, number):
                await self._fetch(caller, number)
                has_begun = True
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                at = 0
                while piece := await self._engine.aside(partial(_read, file, at)):
                    at += len(piece)
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ParlerError as refused:
            error = refused
        if not has_begun:
            await self._refused(error)(scope, receive, send)

    async def _fetch(self, caller: Caller, number: int) -> None:
        """Have the whole file here. Raises `ParlerError`."""
        blob, size = self._found.brings.blob, self._found.brings.size
        params = t.GetBlob(file=number, room=self._found.room, blob=blob, size=size)
        while True:
            at = await self._engine.call("blob.get", params, caller)
            assert isinstance(at, t.BlobAt)
            if at.offset >= size:
                return


def _write(file: IO[bytes], piece: bytes, still_wanted: object) -> None:
    left = memoryview(piece)
    while left:
        left = left[file.write(left) :]


def _read(file: IO[bytes], at: int, still_wanted: object) -> bytes:
    return os.pread(file.fileno(), _PIECE, at)


@contextmanager
def _opened(asker: Caller, folder: Path | None) -> Iterator[tuple[IO[bytes], Caller, int]]:
    """A file without a name, and a caller that handed it over under a number. Raises `ParlerError`: `store_full`,
    `file_refused`."""
    caller = Caller(asker.facts)
    try:
        with tempfile.TemporaryFile(buffering=0, dir=folder) as file:
            try:
                yield file, caller, caller.handed.add(os.dup(file.fileno()))
            finally:
                caller.handed.close()
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ParlerError("store_full" if is_full else "file_refused") from None
