"""Sharing and finding files, as the engine answers: what is refused, and what nobody learns."""

from __future__ import annotations

import pytest

from parlerd.operations import types as t
from tests.support.engine import engine_world, run
from tests.support.files import bring, digest, fetch, find, share

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
            read = t.ReadBlob(room=shared.room, blob=shared.blob, offset=0, length=1)
            assert (await bob.refused("blob.read", read)).code == "no_such_room"
            assert (await bob.refused("blob.find", t.FindBlob(blob=shared.blob))).code == "no_such_blob"

    run(main)


def test_a_closed_room_takes_no_files_and_shows_those_it_has() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            shared = await share(alice, b"file")
            await alice.call("session.close", t.CloseSession(room=shared.room))
            begin = t.BeginBlob(blob="ab" * 32, size=1, room=shared.room)
            assert (await alice.refused("blob.begin", begin)).code == "room_closed"
            write = t.WriteBlob(room=shared.room, blob="ab" * 32, offset=0, data=b"x")
            assert (await alice.refused("blob.write", write)).code == "room_closed"
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
            for data in (b"known to alice", b"known to nobody"):
                blob, room = digest(data), (await bob.rooms())[0].room
                begun = await bob.ask("blob.begin", t.BeginBlob(blob=blob, size=len(data)), t.BlobAt)
                error = await bob.refused("blob.finish", t.FinishBlob(room=room, blob=blob, size=len(data)))
                denied = await bob.refused("blob.share", t.ShareBlob(blob=blob, size=len(data)))
                read = t.ReadBlob(room=room, blob=blob, offset=0, length=1)
                unread = await bob.refused("blob.read", read)
                lost = await bob.refused("blob.find", t.FindBlob(blob=blob))
                answers.append((begun.offset, *[(e.code, e.message, e.details) for e in (error, denied, unread, lost)]))
            assert answers[0] == answers[1]

    run(main)
