"""Files on their way to the home of a room and back, a piece at a time: other calls go between two pieces.

    a file that is open here --> Upload   --> the shelf of a room
    the shelf of a room      --> Download --> a file that is open here

What is shared in a sealed room goes as ciphertext (`file_seals`), and is opened here while it comes.

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

from parlerd.core.envelope import BlobSeal
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, BlobId, RoomId
from parlerd.core.sealing import CHUNK, TAG, sealed_size
from parlerd.engine.handles import Shelf
from parlerd.identity.sealed_files import FileOpener


class Aside(Protocol):
    """Runs what may wait for a disk, away from the loop: see `shelf.BlobDriver.aside`."""

    def __call__(self, work: Callable[[Callable[[], None]], Any]) -> Awaitable[Any]: ...


class Readable(Protocol):
    """A file that is open: see `handed.OpenFile`."""

    def size(self) -> int: ...

    def digest(self, size: int) -> hashlib._Hash: ...

    def read(self, at: int, length: int) -> bytes: ...


class Sealing(Protocol):
    """Gives the ciphertext, as if that were a file, of a file that has so many bytes: see `file_seals`."""

    def __call__(self, file: Readable, size: int) -> Awaitable[Readable]: ...


class Upload:
    """One file on its way to the home of one room."""

    def __init__(
        self, room: RoomId, agent: AgentId, file: Readable, aside: Aside, sealing: Sealing | None = None
    ) -> None:
        """`sealing` is there for a sealed room, whose home gets ciphertext."""
        self.room = room
        """The room to whose home it goes."""
        self.size = 0
        """Bytes of the file when it was looked at first: no more of it goes along."""
        self.blob: BlobId | None = None
        """Which blob it is; None until it is there whole."""
        self._agent = agent
        self._file = file
        self._aside = aside
        self._sealing = sealing
        # How many bytes of what goes to the home are there, and how many it has.
        self._at = self._whole = 0
        # What the upload is called meanwhile; None before the first step.
        self._name: BlobId | None = None
        # Whether the home once had less than it had said. It may say so once.
        self._went_back = False

    @property
    def at(self) -> int:
        """How many bytes of the file are there. Of a sealed one the home has a few more, which are not counted."""
        return min(self._at, self.size)

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
            self.size = self._whole = await self._aside(lambda _: self._file.size())
            if self._sealing is not None:
                self._file = await self._sealing(self._file, self.size)
                self._whole = self._file.size()
            self._name = await shelf.name(self._digest)
            self._at = await shelf.begin(self._agent, self._name, self._whole)
        if self._at < self._whole:
            length = min(shelf.piece, self._whole - self._at)
            piece = await self._aside(lambda _: self._file.read(self._at, length))
            if not piece:
                raise ParlerError("file_refused", "The file became shorter while it was shared.")
            try:
                self._at = await shelf.write(self._agent, self._name, self._at, piece)
            except Refused as error:
                offset = error.details.get("offset")
                if error.code != "upload_unfinished" or not isinstance(offset, int) or self._went_back:
                    raise
                if not 0 <= offset <= self._whole:
                    raise
                self._at, self._went_back = offset, True
        if self._at >= self._whole:
            self.blob = await shelf.settle(self._agent, self._name, self._whole)

    async def whole(self, shelf: Shelf) -> BlobId:
        """Bring all of it; the blob that it is."""
        while self.blob is None:
            await self.step(shelf)
        return self.blob

    async def _digest(self) -> BlobId:
        digest = await self._aside(lambda _: self._file.digest(self._whole))
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
        seal: BlobSeal | None = None,
    ) -> None:
        """`size` is how many bytes the file itself has. With a `seal`, which the words of a sealed message bring, the
        home has ciphertext; then `had` holds whole pieces (`sealed_files.whole_pieces`)."""
        self.room = room
        self.blob = blob
        self.at, self._digest = had or (0, hashlib.sha256())
        """How many bytes the file holds."""
        self._agent = agent
        self._write = write
        self._aside = aside
        self._opener: FileOpener | None = None
        # How many bytes of what the home has came here, and how many it has.
        self._come, self._whole = self.at, size
        if seal is not None:
            pieces = self.at // CHUNK
            self._opener = FileOpener(seal, (pieces, self._digest))
            self._come, self._whole = pieces * (CHUNK + TAG), sealed_size(size)

    async def step(self, shelf: Shelf) -> bool:
        """Fetch the next piece; whether the file is there whole. Raises `Refused`: `blob_mismatch` where it is not what
        the message says, and what the home refuses. Then nothing of the file counts."""
        if self._come < self._whole:
            left = self._whole - self._come
            # The last piece of a sealed file is asked for with one byte more: a home that has more of it shows that.
            more = 0 if self._opener is None else 1
            length = min(max(1, shelf.piece - more), left)
            data = await shelf.read(self._agent, self.blob, self._come, length + (more if length == left else 0))
            if not data or len(data) > length:
                raise Refused("blob_mismatch")
            await self._aside(lambda _: self._take(data))
        if self._come < self._whole:
            return False
        if self._opener is None and self._digest.hexdigest() != self.blob:
            raise Refused("blob_mismatch")
        return True

    async def whole(self, shelf: Shelf) -> None:
        """Fetch all of it."""
        while not await self.step(shelf):
            pass

    def _take(self, data: bytes) -> None:
        self._come += len(data)
        found = data if self._opener is None else self._opened(self._opener, data)
        self._write(self.at, found)
        self.at += len(found)
        if self._opener is None:
            self._digest.update(data)

    def _opened(self, opener: FileOpener, data: bytes) -> bytes:
        try:
            found = opener.update(data)
            return found + opener.finish() if self._come >= self._whole else found
        except Refused:
            # What the message says of the ciphertext is not so, whoever made it so.
            raise Refused("blob_mismatch") from None
