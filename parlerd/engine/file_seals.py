"""How files are sealed that agents of this home share in sealed rooms.

    a file --> its own digest --> the key and prefix kept for it, or new ones --> durable --> its ciphertext goes
    the message that brings it: the key, the prefix and the file's own digest are in its words

An upload that breaks off goes on only with the same ciphertext, also after a restart. So the key and the prefix of a
file are kept, for the same bytes of the same agent in the same room, until no home keeps the upload any more.

Not here: the encryption (`identity.sealed_files`), and the way of the bytes (`carrying`). Above: `files`, `sharing`.
Below: the library's rows. Invariants: nothing is uploaded whose key is not on the disk; one key is for the bytes of one
file alone; no key is in a log, an error or a `repr`.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from parlerd.core.envelope import BlobSeal
from parlerd.core.errors import StoreError
from parlerd.core.model import AgentId, BlobId, Millis, RoomId
from parlerd.engine.carrying import Readable
from parlerd.engine.desk import Desk
from parlerd.identity.sealed_files import PREFIX, SealedView, changed
from parlerd.identity.sealing import KEY
from parlerd.store.port import DropFileSeals, FileSealRow, PutFileSeal

KEPT_MS: Final = 2 * 24 * 3600 * 1000
"""How long a key is kept that no upload used. A home keeps an upload for a day after its last piece (`shelf.KEPT_MS`),
and the message may follow."""
LOOK_EVERY_S: Final = 6 * 3600
"""Between two looks at which keys are older."""

log = logging.getLogger(__name__)


async def forget_old(desk: Desk) -> None:
    """Let the keys go that were kept for so long, for as long as the engine serves."""
    while True:
        try:
            await desk.library.record([DropFileSeals(Millis(desk.clock.now() - KEPT_MS))])
        except StoreError as error:
            # The next look finds them too.
            log.warning("the keys of files that were shared could not be looked through: %s", error.code)
        await trio.sleep(LOOK_EVERY_S)


class FileSeals:
    """The keys of files that are on their way."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def sealed(self, room: RoomId, agent: AgentId, file: Readable, size: int) -> SealedView:
        """The ciphertext of a file that has `size` bytes, for this room. The same bytes again give the same ciphertext,
        within `KEPT_MS`. Raises `ParlerError`: `file_refused` for a file that changes meanwhile, and `StoreError`."""
        aside = self._desk.shelf.aside
        digest = (await aside(lambda _: file.digest(size))).digest()
        while True:
            kept = next((row for row in await self._rows(room, agent) if row.digest == digest), None)
            key = self._desk.random.bytes(KEY) if kept is None else kept.key
            prefix = self._desk.random.bytes(PREFIX) if kept is None else kept.prefix
            view = SealedView(file.read, size, key, prefix)
            found, blob = await aside(view.survey)
            if found != digest or (kept is not None and kept.blob != blob):
                raise changed()
            now = self._desk.clock.now()
            row = FileSealRow(room, agent, digest, size, blob, key, prefix, now)
            await self._desk.library.record([PutFileSeal(row), DropFileSeals(Millis(now - KEPT_MS))])
            # Another call may have shared the same file meanwhile. The key that was stored first is the file's.
            if any(each.key == key for each in await self._rows(room, agent)):
                return view

    async def of(self, room: RoomId, agent: AgentId, blob: BlobId) -> tuple[int, BlobSeal] | None:
        """The size of the file that the agent brought there as this ciphertext, and how it is read; None where the
        agent brought none lately."""
        for row in await self._rows(room, agent):
            if row.blob == blob:
                return row.size, BlobSeal(row.key, row.prefix, row.digest)
        return None

    async def _rows(self, room: RoomId, agent: AgentId) -> list[FileSealRow]:
        return await self._desk.library.file_seals(room, agent)
