"""Files on their way to the home of a room and back, a piece at a time: other calls go between two pieces.

    a file that is open here --> Upload   --> the shelf of a room
    the shelf of a room      --> Download --> a file that is open here

This machine's own home hashes what it stores, and says afterwards which blob that was: an upload to it reads the file
once. Any other home has to be told before, so that an upload which broke off goes on where it stopped.

Not here: which file, who may have it, and the message that brings it. Above: `files` and `sharing`. Below:
`handles.Shelf`, and threads for what may wait for a disk. Invariant: one piece is in memory at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

import trio

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, BlobId, RoomId
from parlerd.engine.handles import Shelf


class Aside(Protocol):
    """Runs what may wait for a disk, away from the loop: see `shelf.BlobDriver.aside`."""

    def __call__(self, work: Callable[[Callable[[], None]], Any]) -> Awaitable[Any]: ...


class Readable(Protocol):
    """A file that is open: see `handed.OpenFile`."""

    def size(self) -> int: ...

    def digest(self, size: int) -> hashlib._Hash: ...

    def read(self, at: int, length: int) -> bytes: ...


class Upload:
    """One file on its way to the home of one room."""

    def __init__(self, room: RoomId, agent: AgentId, file: Readable, aside: Aside) -> None:
        self.room = room
        """The room to whose home it goes."""
        self.size = 0
        """Bytes of the file when it was looked at first: no more of it goes along."""
        self.at = 0
        """How many of them are there."""
        self.blob: BlobId | None = None
        """Which blob it is; None until it is there whole."""
        self._agent = agent
        self._file = file
        self._aside = aside
        # What the upload is called meanwhile; None before the first step.
        self._name: BlobId | None = None
        # Whether the home once had less than it had said. It may say so once.
        self._went_back = False

    async def step(self, shelf: Shelf) -> None:
        """Bring the next piece; with the last one the file is there whole. `shelf` is the room's. Raises `ParlerError`:
        `file_refused`, and what the home refuses. Then it is over."""
        try:
            await self._step(shelf)
        except BaseException:
            if self._name is not None:
                with trio.CancelScope(shield=True), suppress(ParlerError):
                    await shelf.give_up(self._agent, self._name)
            raise

    async def _step(self, shelf: Shelf) -> None:
        if self._name is None:
            self.size = await self._aside(lambda _: self._file.size())
            self._name = await shelf.name(self._digest)
            self.at = await shelf.begin(self._agent, self._name, self.size)
        if self.at < self.size:
            length = min(shelf.piece, self.size - self.at)
            piece = await self._aside(lambda _: self._file.read(self.at, length))
            if not piece:
                raise ParlerError("file_refused", "The file became shorter while it was shared.")
            try:
                self.at = await shelf.write(self._agent, self._name, self.at, piece)
            except Refused as error:
                offset = error.details.get("offset")
                if error.code != "upload_unfinished" or not isinstance(offset, int) or self._went_back:
                    raise
                self.at, self._went_back = offset, True
        if self.at >= self.size:
            self.blob = await shelf.settle(self._agent, self._name, self.size)

    async def whole(self, shelf: Shelf) -> BlobId:
        """Bring all of it; the blob that it is."""
        while self.blob is None:
            await self.step(shelf)
        return self.blob

    async def _digest(self) -> BlobId:
        digest = await self._aside(lambda _: self._file.digest(self.size))
        return BlobId(digest.hexdigest())


class Download:
    """What one message brings on its way to a file, which may hold the beginning already."""

    def __init__(
        self,
        room: RoomId,
        agent: AgentId,
        blob: BlobId,
        size: int,
        write: Callable[[int, bytes], object],
        aside: Aside,
        had: tuple[int, hashlib._Hash] | None = None,
    ) -> None:
        self.room = room
        self.blob = blob
        self.at, self._digest = had or (0, hashlib.sha256())
        """How many bytes the file holds."""
        self._agent = agent
        self._size = size
        self._write = write
        self._aside = aside

    async def step(self, shelf: Shelf) -> bool:
        """Fetch the next piece; whether the file is there whole. Raises `Refused`: `blob_mismatch` where it does not
        have its digest in the end, and what the home refuses."""
        if self.at < self._size:
            data = await shelf.read(self._agent, self.blob, self.at, min(shelf.piece, self._size - self.at))
            if not data:
                raise Refused("blob_mismatch")
            await self._aside(lambda _: self._take(data))
        if self.at < self._size:
            return False
        if self._digest.hexdigest() != self.blob:
            raise Refused("blob_mismatch")
        return True

    async def whole(self, shelf: Shelf) -> None:
        """Fetch all of it."""
        while not await self.step(shelf):
            pass

    def _take(self, data: bytes) -> None:
        self._write(self.at, data)
        self._digest.update(data)
        self.at += len(data)
