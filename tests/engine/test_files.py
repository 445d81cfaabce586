"""Sharing and finding files, as the engine answers: what is refused, and what nobody learns."""

from __future__ import annotations

import os
import tempfile

import pytest

from parlerd.core.errors import ParlerError
from parlerd.engine.handed import MAX_OPEN
from parlerd.operations import types as t
from parlerd.settings import Settings
from tests.support.engine import engine_world, run
from tests.support.files import bring, digest, fetch, find, hand, holding, refused_bytes, share

TIP = "ab" * 20


@pytest.mark.parametrize(
    "about",
    [
        {"name": "é" * 200},
        {"name": "\ud800"},
        {"base": TIP},
        {"left_out": 1},
    ],
)
def test_what_no_message_can_say_of_a_file_is_refused(about: dict[str, object]) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await bring(alice, b"x")
            params = t.ShareBlob(blob=digest(b"x"), size=1, **about)  # type: ignore[arg-type]
            assert (await alice.refused("blob.share", params)).code == "invalid_param"

    run(main)


def test_a_name_is_any_text_of_255_bytes() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            name = "../../.ssh/authorized_keys\n\u202e" + "x" * 200
            shared = await share(alice, b"x", name=name)
            assert (await find(alice, shared.blob)).brings.name == name

    run(main)


@pytest.mark.parametrize(
    "meant", ["", "x", "../" * 22, "AB" * 32, "ab" * 31, "ab" * 33, "0" * 64, "m_7", "#", "\0" * 64]
)
def test_what_is_no_blob_is_not_found_and_is_no_path(meant: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            error = await alice.refused("blob.find", t.FindBlob(blob=meant))
            assert error.code in ("no_such_blob", "no_such_message")

    run(main)


def test_a_message_that_brings_nothing_and_one_that_is_hidden_are_told_apart_from_nothing() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            said = await alice.send("no file")
            hidden = await share(alice, b"hidden", visible_to=("bob",))
            assert (await bob.refused("blob.find", t.FindBlob(blob=said.id))).code == "no_such_blob"
            assert (await carol.refused("blob.find", t.FindBlob(blob=hidden.id))).code == "no_such_message"
            assert (await carol.refused("blob.find", t.FindBlob(blob="m_nothing"))).code == "no_such_message"
            assert (await find(bob, hidden.id)).brings.blob == hidden.blob

    run(main)


def test_who_left_the_room_reads_no_file_of_it_any_more() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            shared = await share(alice, b"file")
            assert await fetch(bob, shared.blob) == b"file"
            await bob.call("session.close", t.CloseSession(room=shared.room))
            get = t.GetBlob(file=0, room=shared.room, blob=shared.blob, size=4)
            assert (await bob.refused("blob.get", get)).code == "no_such_room"
            assert (await bob.refused("blob.find", t.FindBlob(blob=shared.blob))).code == "no_such_blob"

    run(main)


def test_a_closed_room_takes_no_files_and_shows_those_it_has() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            shared = await share(alice, b"file")
            await alice.call("session.close", t.CloseSession(room=shared.room))
            assert (await refused_bytes(alice, b"x", room=shared.room)).code == "room_closed"
            assert await fetch(bob, shared.blob, room=shared.room) == b"file"

    run(main)


def test_a_file_of_one_room_may_be_brought_to_another_by_who_may_read_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            shared = await share(alice, b"file")
            opened = await bob.open("another", "context")
            params = t.ShareBlob(blob=shared.blob, size=4, room=opened.room)
            again = await bob.ask("blob.share", params, t.SharedBlob)
            assert again.room == opened.room != shared.room
            assert (await find(bob, shared.blob, opened.room)).id == again.id
            assert (
                await alice.refused("blob.find", t.FindBlob(blob=shared.blob, room=opened.room))
            ).code == "no_such_room"

    run(main)


def test_no_answer_about_an_upload_depends_on_what_others_have() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, _ = await served.room("alice", "bob", "carol")
            await share(alice, b"known to alice", visible_to=("carol",))
            answers = []
            for data in (b"known to alice", b"known to none!"):
                blob, room = digest(data), (await bob.rooms())[0].room
                denied = await bob.refused("blob.share", t.ShareBlob(blob=blob, size=len(data)))
                unread = await bob.refused("blob.get", t.GetBlob(file=0, room=room, blob=blob, size=len(data)))
                lost = await bob.refused("blob.find", t.FindBlob(blob=blob))
                brought = await bring(bob, data)
                errors = [(e.code, e.message, e.details) for e in (denied, unread, lost)]
                answers.append((brought.offset, brought.size, *errors))
            assert answers[0] == answers[1]

    run(main)


PIECE = 4 * 1024 * 1024
LARGE = bytes(range(251)) * 40_000


def test_a_large_file_goes_in_pieces_and_other_calls_go_between_them() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            with holding(LARGE) as file:
                params = t.PutBlob(file=hand(alice, file))
                offsets = []
                while True:
                    at = await alice.ask("blob.put", params, t.BlobPut)
                    offsets.append((at.offset, at.blob))
                    if at.blob:
                        break
                    await alice.send("meanwhile")
            assert offsets == [(PIECE, ""), (2 * PIECE, ""), (len(LARGE), digest(LARGE))]
            post = t.ShareBlob(blob=digest(LARGE), size=len(LARGE))
            shared = await alice.ask("blob.share", post, t.SharedBlob)
            assert await fetch(bob, shared.blob) == LARGE

    run(main)


def test_a_file_that_is_there_whole_is_closed_and_its_number_means_nothing_more() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            for _ in range(MAX_OPEN + 1):
                await share(alice, b"x")
            error = await alice.refused("blob.put", t.PutBlob(file=0))
            assert (error.code, error.details["param"]) == ("invalid_param", "file")

    run(main)


def test_what_was_brought_of_a_file_that_is_refused_does_not_stay() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(quota_agent_blob_bytes=PIECE + 1)) as served:
            (alice,) = await served.room("alice")
            assert (await refused_bytes(alice, LARGE)).code == "throttled"
            assert served.world.blobs.used() == 0

    run(main)


def test_a_file_that_became_shorter_is_refused_and_nothing_of_it_stays() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            with holding(LARGE) as file:
                params = t.PutBlob(file=hand(alice, file))
                await alice.ask("blob.put", params, t.BlobPut)
                file.truncate(PIECE)
                assert (await alice.refused("blob.put", params)).code == "file_refused"
            assert served.world.blobs.used() == 0

    run(main)


def test_only_a_regular_file_that_is_open_for_it_is_read_or_written() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            shared = await share(alice, b"data")
            with tempfile.NamedTemporaryFile() as file:
                reading, writing = os.open(file.name, os.O_RDONLY), os.open(file.name, os.O_WRONLY)
                folder, (read, write) = os.open("/", os.O_RDONLY), os.pipe()
                os.close(write)
                file.write(b"x")
                file.flush()
                for descriptor in (writing, folder, read):
                    params = t.PutBlob(file=alice.caller.handed.add(descriptor))
                    assert (await alice.refused("blob.put", params)).code == "file_refused"
                file.truncate(0)
                number = alice.caller.handed.add(reading)
                get = t.GetBlob(file=number, room=shared.room, blob=shared.blob, size=4)
                assert (await alice.refused("blob.get", get)).code == "file_refused"

    run(main)


def test_a_file_that_begins_otherwise_does_not_become_what_was_shared() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            shared = await share(alice, b"0123456789")
            with pytest.raises(ParlerError, match="blob_mismatch"):
                await fetch(alice, shared.blob, begins=b"x")
            assert await fetch(alice, shared.blob, begins=b"0123456789") == b"0123456789"
            assert await fetch(alice, shared.blob, begins=b"01") == b"0123456789"

    run(main)


def test_who_leaves_between_two_pieces_gets_no_more_of_a_file() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            shared = await share(alice, LARGE)
            with holding(b"") as file:
                get = t.GetBlob(file=hand(bob, file), room=shared.room, blob=shared.blob, size=len(LARGE))
                assert (await bob.ask("blob.get", get, t.BlobAt)).offset == PIECE
                await bob.call("session.close", t.CloseSession(room=shared.room))
                assert (await bob.refused("blob.get", get)).code == "no_such_room"

    run(main)
