"""Files on their way: pieces, where an upload goes on, and what is left of one that broke off."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, BlobId, Millis, RoomId
from parlerd.engine.carrying import Download, Upload
from tests.support.engine import run
from tests.support.files import digest
from tests.support.memory_blobs import MemoryBlobs

ANN, ROOM, NOW = AgentId("U" + "A" * 55), RoomId("r_1"), Millis(1)
DATA = b"0123456789"


class Bytes:
    """A file in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read_at: list[int] = []

    def size(self) -> int:
        return len(self.data)

    def digest(self, size: int) -> Any:
        return hashlib.sha256(self.data[:size])

    def read(self, at: int, length: int) -> bytes:
        self.read_at.append(at)
        return self.data[at : at + length]


class FarShelf:
    """A home elsewhere that takes three bytes at once, and that may lose what it has."""

    piece = 3

    def __init__(self) -> None:
        self.blobs = MemoryBlobs()
        self.loses = 0
        """How many times it forgets an upload before it writes the next piece."""
        self.given_up = 0

    async def name(self, digest: Callable[[], Awaitable[BlobId]]) -> BlobId:
        return await digest()

    async def begin(self, agent: AgentId, blob: BlobId, size: int) -> int:
        return self.blobs.begin(agent, blob, size)

    async def write(self, agent: AgentId, blob: BlobId, at: int, data: bytes) -> int:
        if at and self.loses:
            self.loses -= 1
            self.blobs.forget(agent, blob)
        return self.blobs.write(agent, blob, at, data, NOW)

    async def settle(self, agent: AgentId, blob: BlobId, size: int) -> BlobId:
        self.blobs.finish(agent, blob, size, NOW)
        return blob

    async def give_up(self, agent: AgentId, blob: BlobId) -> None:
        self.given_up += 1

    async def require(self, agent: AgentId, blob: BlobId, *, may_read: bool) -> None:
        raise AssertionError("nobody asks that here")

    async def read(self, agent: AgentId, blob: BlobId, at: int, length: int) -> bytes:
        return self.blobs.read(blob, at, length)


async def aside(work: Callable[[Callable[[], None]], Any]) -> Any:
    return work(lambda: None)


def upload(data: bytes) -> tuple[Upload, Bytes]:
    file = Bytes(data)
    return Upload(ROOM, ANN, file, aside), file


def test_an_upload_goes_on_where_the_home_has_it() -> None:
    async def main() -> None:
        shelf = FarShelf()
        first, _ = upload(DATA)
        await first.step(shelf)
        assert (first.at, first.size, first.blob) == (3, 10, None)
        second, file = upload(DATA)
        assert await second.whole(shelf) == digest(DATA)
        assert file.read_at == [3, 6, 9]

    run(main)


def test_a_home_may_lose_what_it_had_once() -> None:
    async def main() -> None:
        shelf = FarShelf()
        shelf.loses = 1
        once, file = upload(DATA)
        assert await once.whole(shelf) == digest(DATA)
        assert file.read_at == [0, 3, 0, 3, 6, 9]
        shelf = FarShelf()
        shelf.loses = 2
        twice, _ = upload(DATA)
        with pytest.raises(Refused, match="upload_unfinished"):
            await twice.whole(shelf)
        assert shelf.given_up == 1

    run(main)


def test_no_more_goes_along_than_the_file_had_at_first() -> None:
    async def main() -> None:
        growing, file = upload(DATA)
        shelf = FarShelf()
        await growing.step(shelf)
        file.data += b"more"
        assert await growing.whole(shelf) == digest(DATA)

    run(main)


def test_a_file_that_became_shorter_or_another_is_refused() -> None:
    async def main() -> None:
        for then, code in ((b"012", "file_refused"), (b"012345678!", "blob_mismatch")):
            changing, file = upload(DATA)
            shelf = FarShelf()
            await changing.step(shelf)
            file.data = then
            with pytest.raises(ParlerError, match=code):
                await changing.whole(shelf)

    run(main)


def test_a_download_asks_for_what_is_missing_and_compares_all_of_it() -> None:
    async def main() -> None:
        shelf = FarShelf()
        made, _ = upload(DATA)
        blob = await made.whole(shelf)
        for begins, ends in ((b"", None), (b"0123", None), (DATA, None), (b"x", "blob_mismatch")):
            held = bytearray(begins)

            def write(at: int, data: bytes, held: bytearray = held) -> None:
                held[at : at + len(data)] = data

            had = (len(begins), hashlib.sha256(begins))
            download = Download(ROOM, ANN, blob, len(DATA), write, aside, had)
            if ends is None:
                await download.whole(shelf)
                assert held == DATA
            else:
                with pytest.raises(Refused, match=ends):
                    await download.whole(shelf)

    run(main)


def test_a_blob_that_is_shorter_than_its_message_says_is_refused() -> None:
    async def main() -> None:
        shelf = FarShelf()
        made, _ = upload(DATA)
        blob = await made.whole(shelf)
        download = Download(ROOM, ANN, blob, len(DATA) + 1, lambda at, data: None, aside)
        with pytest.raises(Refused, match="blob_mismatch"):
            await download.whole(shelf)

    run(main)
