"""The files of the rooms that live in this home: how much of them is taken in, and how long they stay.

    files, shelving --> HomeShelf --> a thread --> store.blobs --> the disk

A file stays as long as some message brings it. An upload that no message brings stays for a day, so that one which
broke off can go on, and so does one whose message was taken away. A sweep goes through the folders one after the other,
a day for all of them.

Not here: who may see a message that brings a file (`files`), and homes elsewhere. Above: the handlers, and the daemon,
which runs the sweep. Below: `store.blobs`. Invariant: what an agent is answered about an upload depends on this agent's
own uploads alone, and not on what others brought.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

import trio

from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import AgentId, BlobId, Millis, PrincipalId
from parlerd.engine.library import Library
from parlerd.engine.ports import Clock, Randomness
from parlerd.engine.quota import Quotas
from parlerd.settings import Settings
from parlerd.store.blobs import SHELVES, Blobs

log = logging.getLogger(__name__)

T = TypeVar("T")

KEPT_MS: Final = 24 * 3600 * 1000
"""How long an upload stays that no message brings."""
MAX_ASIDE: Final = 4
"""How many windows' git and files are worked on at once; others wait."""
PIECE: Final = 4 * 1024 * 1024
"""Bytes that go to the disk or come from it at once: the way to a thread and back is little beside so many."""
STEP_S: Final = 24 * 3600 / len(SHELVES)
"""Between two folders of the sweep."""


class BlobDriver(Protocol):
    """Runs what is asked of the blobs, one after the other and away from the loop."""

    async def do(self, work: Callable[[Blobs], T]) -> T: ...

    async def aside(self, work: Callable[[Callable[[], None]], T]) -> T:
        """Run other work that waits for a disk or for a program, beside what is done to the blobs. `work` is given a
        function that it calls now and then, and that raises where nobody waits for it any more."""
        ...


class ThreadBlobs:
    """In a thread: a disk may take its time."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._one = trio.CapacityLimiter(1)
        self._others = trio.CapacityLimiter(MAX_ASIDE)

    async def do(self, work: Callable[[Blobs], T]) -> T:
        return await trio.to_thread.run_sync(work, self._blobs, limiter=self._one)

    async def aside(self, work: Callable[[Callable[[], None]], T]) -> T:
        return await trio.to_thread.run_sync(work, trio.from_thread.check_cancelled, limiter=self._others)


class InlineBlobs:
    """On the loop, one checkpoint each: virtual time does not see threads."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def do(self, work: Callable[[Blobs], T]) -> T:
        await trio.lowlevel.checkpoint()
        return work(self._blobs)

    async def aside(self, work: Callable[[Callable[[], None]], T]) -> T:
        await trio.lowlevel.checkpoint()
        return work(lambda: None)


class HomeShelf:
    """One per home."""

    piece: Final = PIECE

    def __init__(
        self, driver: BlobDriver, settings: Settings, quotas: Quotas, clock: Clock, random: Randomness
    ) -> None:
        self._driver = driver
        self._settings = settings
        self._quotas = quotas
        self._clock = clock
        self._random = random

    async def name(self, digest: Callable[[], Awaitable[BlobId]]) -> BlobId:
        """As `handles.Shelf`. Any name that nobody else has: this home finds the digest while it stores the bytes."""
        await trio.lowlevel.checkpoint()
        return BlobId(self._random.bytes(32).hex())

    async def begin(self, agent: AgentId, blob: BlobId, size: int) -> int:
        self._require_small(size)
        return await self._driver.do(lambda blobs: blobs.begin(agent, blob, size))

    async def write(self, agent: AgentId, blob: BlobId, at: int, data: bytes, person: PrincipalId | None = None) -> int:
        """As `handles.Shelf`; `person` is who the agent is of, for one of another home."""
        self._require_small(at + len(data))
        await self._quotas.take_blob(agent, len(data), person)
        limit, now = self._settings.blob_total_bytes, self._clock.now()

        def write(blobs: Blobs) -> int:
            if limit and blobs.used() + len(data) > limit:
                raise Refused("too_many_blobs", limit=limit)
            return blobs.write(agent, blob, at, data, now)

        return await self._driver.do(write)

    async def finish(self, agent: AgentId, blob: BlobId, size: int) -> None:
        now = self._clock.now()
        await self._driver.do(lambda blobs: blobs.finish(agent, blob, size, now))

    async def settle(self, agent: AgentId, blob: BlobId, size: int) -> BlobId:
        now = self._clock.now()
        return await self._driver.do(lambda blobs: blobs.settle(agent, blob, size, now))

    async def give_up(self, agent: AgentId, blob: BlobId) -> None:
        # Under the name that it has nobody finds it again.
        await self._driver.do(lambda blobs: blobs.forget(agent, blob))

    async def require(self, agent: AgentId, blob: BlobId, *, may_read: bool) -> None:
        now = self._clock.now()

        def hold(blobs: Blobs) -> None:
            if not (may_read or blobs.holds(agent, blob)):
                raise Refused("upload_unfinished", offset=0)
            # From now on for a day, so that no sweep takes the file away before the message is stored.
            blobs.hold(agent, blob, now)

        await self._driver.do(hold)

    async def read(self, agent: AgentId, blob: BlobId, at: int, length: int) -> bytes:
        return await self._driver.do(lambda blobs: blobs.read(blob, at, length))

    async def sizes(self, blobs: Sequence[BlobId]) -> int:
        """How many bytes these files take together, as far as they are here."""
        return await self._driver.do(lambda here: sum(map(here.size, blobs)))

    async def used(self) -> int:
        """How many bytes all files and uploads take."""
        return await self._driver.do(lambda blobs: blobs.used())

    async def aside(self, work: Callable[[Callable[[], None]], T]) -> T:
        """As `BlobDriver.aside`."""
        return await self._driver.aside(work)

    def _require_small(self, size: int) -> None:
        limit = self._settings.blob_max_bytes
        if limit and size > limit:
            raise Refused("blob_too_large", limit=limit, size=size)

    # -- taking away ---------------------------------------------------------------------------------------

    async def run(self, library: Library) -> None:
        """Sweep for ever."""
        while True:
            for shelf in SHELVES:
                await trio.sleep(STEP_S)
                try:
                    await self.sweep(library, shelf)
                except StoreError as error:
                    # Whoever shares something next is told. The files stay until the next day.
                    log.warning("the files of this home could not be looked through: %s", error.code)

    async def sweep(self, library: Library, shelf: str) -> list[BlobId]:
        """Take away what no message brings and nobody uploaded within a day, in one of `SHELVES`; what was taken."""
        before = Millis(self._clock.now() - KEPT_MS)
        gone: list[BlobId] = []
        for blob in await self._driver.do(lambda blobs: blobs.idle(shelf, before)):
            if not await library.is_brought(blob) and await self._drop(blob, before):
                gone.append(blob)
        return gone

    async def _drop(self, blob: BlobId, before: Millis) -> bool:
        return await self._driver.do(lambda blobs: blobs.drop(blob, before))
