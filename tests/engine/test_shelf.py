"""The files of a home: bounds on what comes in, and what is taken away."""

from __future__ import annotations

import trio

from parlerd.engine.shelf import KEPT_MS
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.store.blobs import SHELVES
from tests.support.engine import Party, Served, engine_world, run
from tests.support.files import bring, digest, fetch, refused_bytes, share
from tests.support.memory_blobs import MemoryBlobs


async def sweep(served: Served) -> list[str]:
    desk = served.engine.desk
    return [blob for shelf in SHELVES for blob in await desk.shelf.sweep(desk.library, shelf)]


def whole(served: Served) -> set[str]:
    """The blobs that are there, by their ids."""
    blobs = served.world.blobs
    assert isinstance(blobs, MemoryBlobs)
    return set(blobs.whole)


async def refused_write(who: Party, size: int) -> str:
    return (await refused_bytes(who, b"x" * size)).code


def test_a_file_that_is_larger_than_a_home_takes_is_refused_before_a_byte_came() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(blob_max_bytes=1000)) as served:
            (alice,) = await served.room("alice")
            error = await refused_bytes(alice, b"x" * 1001)
            assert (error.code, error.details["limit"]) == ("blob_too_large", 1000)
            assert served.world.blobs.used() == 0
            await share(alice, b"x" * 1000)

    run(main)


def test_a_home_that_is_full_of_files_takes_no_more_and_a_message_still() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(blob_total_bytes=1500)) as served:
            (alice,) = await served.room("alice")
            await share(alice, b"x" * 1000)
            assert await refused_write(alice, 501) == "too_many_blobs"
            await share(alice, b"y" * 500)
            await alice.send("still here")

    run(main)


def test_an_agent_shares_so_much_in_an_hour_and_can_still_talk() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(quota_agent_blob_bytes=1000)) as served:
            alice, bob = await served.room("alice", "bob")
            await share(alice, b"x" * 900)
            assert await refused_write(alice, 200) == "throttled"
            await alice.send("still here")
            await share(bob, b"y" * 900)

    run(main)


def test_a_file_stays_as_long_as_a_message_brings_it_and_an_upload_for_a_day() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            shared = await share(alice, b"shared")
            private = await share(alice, b"private", visible_to=("bob",))
            await bring(alice, b"forgotten")
            served.world.clock.move(seconds=KEPT_MS / 1000)
            assert await sweep(served) == []
            served.world.clock.move(seconds=1)
            assert await sweep(served) == [digest(b"forgotten")]
            assert whole(served) == {shared.blob, private.blob}
            assert await fetch(bob, shared.blob) == b"shared"
            assert await fetch(bob, private.blob) == b"private"

    run(main)


def test_an_upload_that_was_taken_away_cannot_be_shared_any_more() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await bring(alice, b"late")
            served.world.clock.move(seconds=KEPT_MS / 1000 + 1)
            await sweep(served)
            error = await alice.refused("blob.share", t.ShareBlob(blob=digest(b"late"), size=4))
            assert error.code == "upload_unfinished"
            await share(alice, b"late")

    run(main)


def test_the_sweep_goes_through_all_files_within_a_day_and_a_bit() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await bring(alice, b"forgotten")
            served.world.clock.move(seconds=KEPT_MS / 1000 + 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(served.engine.keep_shelf)
                await trio.sleep(86_400 + 1)
                nursery.cancel_scope.cancel()
            assert whole(served) == set()

    run(main)
