"""The files of a room elsewhere, where its home says what cannot be."""

from __future__ import annotations

import hashlib
from typing import Any, cast

import pytest

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, BlobId, RoomId
from parlerd.engine.actor import RoomActor
from parlerd.engine.carrying import Upload
from parlerd.operations import types as t
from parlerd.uplink.link import Link
from parlerd.uplink.remote_shelf import RemoteShelf
from tests.support.engine import run

ROOM = RoomId("r_1")
ALICE = AgentId("alice")
DATA = bytes(range(100))


class Said:
    """A home that answers with these places, one after the other; and it is the room, too."""

    room = ROOM

    def __init__(self, *offsets: int | Refused) -> None:
        self.offsets = list(offsets)

    async def call(self, operation: str, params: t.Params, *, by: AgentId) -> t.Result:
        said = self.offsets.pop(0)
        if isinstance(said, Refused):
            raise said
        return t.BlobAt(room=ROOM, offset=said)


class File:
    def size(self) -> int:
        return len(DATA)

    def digest(self, size: int) -> hashlib._Hash:
        return hashlib.sha256(DATA[:size])

    def read(self, at: int, length: int) -> bytes:
        assert 0 <= at <= len(DATA), "what a home says is no place in the file"
        return DATA[at : at + length]


async def aside(work: Any) -> Any:
    return work(lambda: None)


@pytest.mark.parametrize(
    "offsets",
    [(-1,), (101,), (0, 0), (0, -7), (50, 50), (50, 101), (0, Refused("upload_unfinished", offset=-3))],
)
def test_a_place_that_a_file_cannot_have_come_to_ends_its_upload(offsets: tuple[int | Refused, ...]) -> None:
    async def main() -> None:
        home = Said(*offsets)
        shelf = RemoteShelf(cast(RoomActor[Any], home), cast(Link, home))
        upload = Upload(ROOM, ALICE, File(), aside)
        with pytest.raises(Refused) as refused:
            await upload.whole(shelf)
        assert refused.value.code in ("relay_refused", "upload_unfinished")
        assert home.offsets == []

    run(main)


def test_an_upload_goes_on_from_where_its_home_has_it() -> None:
    async def main() -> None:
        home = Said(30, 70, Refused("upload_unfinished", offset=60), 100, 0)
        upload = Upload(ROOM, ALICE, File(), aside)
        blob = await upload.whole(RemoteShelf(cast(RoomActor[Any], home), cast(Link, home)))
        assert blob == BlobId(hashlib.sha256(DATA).hexdigest())

    run(main)
