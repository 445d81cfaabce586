"""Files and code of a room: shared, found and fetched by everyone in it. Told once, played in every home."""

from __future__ import annotations

import msgspec
import pytest

from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.scenario.test_memory import let_in, settled, together
from tests.support.engine import Party, texts
from tests.support.files import bring, digest, fetch, find, hand, holding, put, share
from tests.support.homes import Home, Place

DATA = bytes(range(256)) * 4096
TIP, BASE = "ab" * 20, "cd" * 20


async def refused(who: Party, blob: str, room: str | None = None) -> str:
    return (await who.refused("blob.find", t.FindBlob(blob=blob, room=room))).code


def test_what_one_shares_another_fetches(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob", clear=True)
        shared = await share(alice, DATA, name="report.pdf", text="the report")
        assert (shared.blob, shared.sha256, shared.size, shared.queued) == (
            digest(DATA),
            digest(DATA),
            len(DATA),
            False,
        )
        await settled(alice, bob)
        [message] = [each for each in (await bob.recv(all=True)).messages if each.kind == "file"]
        assert (message.text, message.verified, message.id) == ("the report", "valid", shared.id)
        brings = t.BlobInfo(blob=digest(DATA), size=len(DATA), name="report.pdf")  # type: ignore[arg-type]
        assert message.brings == brings
        found = await find(bob, shared.blob)
        assert (found.brings, found.author.name, found.note, found.id) == (brings, "alice", "the report", shared.id)
        assert await fetch(bob, shared.blob) == DATA
        assert await fetch(bob, str(message.seq)) == DATA
        assert await fetch(bob, shared.id, begins=DATA[:100_000]) == DATA

    home.play(story)


def test_code_says_its_commit_its_base_and_what_was_left_out(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await share(alice, b"bundle", name="main", tip=TIP, base=BASE, left_out=3)
        await settled(alice, bob)
        [message] = (await bob.recv(all=True, kind="code")).messages
        brings = message.brings
        assert not isinstance(brings, msgspec.UnsetType)
        assert (brings.name, brings.tip, brings.base, brings.left_out) == ("main", TIP, BASE, 3)
        assert message.text == ""

    home.play(story)


def test_an_upload_to_another_home_goes_on_where_it_stopped_also_after_a_restart(home: Home) -> None:
    at: list[t.BlobPut] = []

    async def begins(place: Place) -> None:
        alice, _ = await together(place, "alice", "bob")
        with holding(DATA) as file:
            at.append(await alice.ask("blob.put", t.PutBlob(file=hand(alice, file)), t.BlobPut))
        assert at[0].size == len(DATA)

    async def goes_on(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        [begun] = at
        with holding(DATA) as file:
            params = t.PutBlob(file=hand(alice, file), room=begun.room)
            again = await alice.ask("blob.put", params, t.BlobPut)
        # What this machine's own home takes in one piece is there whole.
        assert again.offset > begun.offset or (begun.blob, again.blob) == (digest(DATA), digest(DATA))
        shared = await share(alice, DATA, room=begun.room)
        await settled(alice, bob)
        assert await fetch(bob, shared.blob) == DATA

    home.play(begins, goes_on)


def test_who_is_not_in_the_room_finds_and_reads_nothing(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        stranger = await place.agent("mallory")
        shared = await share(alice, b"secret")
        await settled(alice, bob)
        await stranger.open("another", "context")
        assert await refused(stranger, shared.blob) == "no_such_blob"
        assert await refused(stranger, shared.blob, shared.room) == "no_such_room"
        params = t.GetBlob(file=0, room=shared.room, blob=shared.blob, size=6)
        assert (await stranger.refused("blob.get", params)).code == "no_such_room"
        own = (await stranger.rooms())[0].room
        params = t.GetBlob(file=0, room=own, blob=shared.blob, size=6)
        assert (await stranger.refused("blob.get", params)).code == "no_such_blob"
        claims = t.ShareBlob(blob=shared.blob, size=6, room=own)
        assert (await stranger.refused("blob.share", claims)).code == "upload_unfinished"
        params = t.GetBlob(file=0, room=own, blob=shared.blob, size=6)
        assert (await stranger.refused("blob.get", params)).code == "no_such_blob"

    home.play(story)


def test_a_private_message_brings_its_file_to_its_readers_alone(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = await together(place, "alice", "bob", "carol")
        shared = await share(alice, b"for bob", visible_to=("bob",), name="x")
        await settled(alice, bob, carol)
        assert await fetch(bob, shared.blob) == b"for bob"
        assert await refused(carol, shared.blob) == "no_such_blob"
        params = t.GetBlob(file=0, room=shared.room, blob=shared.blob, size=6)
        assert (await carol.refused("blob.get", params)).code == "no_such_blob"
        assert (await carol.refused("blob.share", t.ShareBlob(blob=shared.blob, size=7))).code == "upload_unfinished"
        again = await share(carol, b"for bob")
        await settled(alice, bob, carol)
        assert await fetch(carol, again.blob) == b"for bob"

    home.play(story)


def test_who_may_read_a_file_may_bring_it_to_the_room_again(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        shared = await share(alice, b"the file")
        await settled(alice, bob)
        again = await bob.ask("blob.share", t.ShareBlob(blob=shared.blob, size=8, text="look again"), t.SharedBlob)
        assert (again.blob, again.id != shared.id) == (shared.blob, True)
        assert (await find(bob, again.id)).note == "look again"

    home.play(story)


def test_a_file_that_changes_on_its_way_is_what_it_was_read_as_or_is_refused(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob", clear=True)
        with holding(DATA) as file:
            params = t.PutBlob(file=hand(alice, file))
            at = await alice.ask("blob.put", params, t.BlobPut)
            file.seek(len(DATA) - 1)
            file.write(b"!")
            if at.blob:
                assert at.blob == digest(DATA)
                return
            with pytest.raises(ParlerError, match="blob_mismatch"):
                await put(alice, params)
        error = await alice.refused("blob.share", t.ShareBlob(blob=digest(DATA), size=len(DATA), room=at.room))
        assert error.code == "upload_unfinished"
        shared = await share(alice, DATA)
        await settled(alice, bob)
        assert await fetch(bob, shared.blob) == DATA

    home.play(story)


def test_the_same_request_again_shares_once(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob", clear=True)
        await bring(alice, b"once")
        params = t.ShareBlob(blob=digest(b"once"), size=4, idempotency_key="k1")
        first = await alice.ask("blob.share", params, t.SharedBlob)
        await settled(alice, bob)
        again = await alice.ask("blob.share", params, t.SharedBlob)
        assert (again.replayed, again.id) == (True, first.id)
        assert len((await bob.recv(all=True, kind="file")).messages) == 1

    home.play(story)


def test_a_newcomer_has_the_files_of_the_past_that_it_is_shown(home: Home) -> None:
    async def story(place: Place) -> None:
        alice = await place.agent("alice")
        opened = await alice.open("auth redesign", "Chose PKCE.")
        shared = await share(alice, DATA, text="the picture")
        late = await place.agent("late")
        landed = await let_in(place, opened, late)
        assert "the picture" in texts(landed)
        await late.commit(landed)
        assert await fetch(late, shared.blob) == DATA

    home.play(story)


def test_a_file_without_a_byte_is_a_file(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        shared = await share(alice, b"", name="empty")
        await settled(alice, bob)
        assert await fetch(bob, shared.blob) == b""

    home.play(story)
