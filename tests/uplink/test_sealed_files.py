"""Files and code in sealed rooms, from two homes: who opens them, what the relay has of them, and what it may do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import BlobId, Millis, RoomId
from parlerd.core.sealing import CHUNK, TAG, sealed_size
from parlerd.engine.file_seals import KEPT_MS, LOOK_EVERY_S
from parlerd.operations import types as t
from tests.support.engine import Party, run, settle
from tests.support.files import bring, digest, fetch, find, hand, holding, put, share
from tests.support.git import work_in
from tests.support.relayed import homes_of
from tests.uplink.test_sealed import Meeting, everything, meeting_in, met, spelled

DATA = bytes(range(256)) * (9 * CHUNK // 256) + b"and a rest"
PIECE = CHUNK + TAG


async def refused(who: Party, blob: str) -> str:
    with pytest.raises(ParlerError) as raised:
        await fetch(who, blob)
    return raised.value.code


def kept(meeting: Meeting, blob: str) -> bytes:
    return meeting.relay.blobs.whole[BlobId(blob)]


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK - 4 * TAG, t.MAX_PIECE, 8 * CHUNK, len(DATA)]
)
def test_a_file_is_fetched_as_it_was_shared_whatever_its_length(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            data = DATA[:size]
            shared = await share(meeting.alice, data, name="report.pdf", text="the report")
            assert (shared.size, shared.sha256) == (size, digest(data))
            assert len(kept(meeting, shared.blob)) == sealed_size(size)
            assert digest(kept(meeting, shared.blob)) == shared.blob
            [message] = (await meeting.bob.recv(all=True, kind="file")).messages
            assert isinstance(message.brings, t.BlobInfo)
            assert (message.text, message.brings.name, message.brings.size) == ("the report", "report.pdf", size)
            assert await fetch(meeting.bob, str(message.seq)) == data
            assert await fetch(meeting.alice, shared.blob) == data
            # What is here already is opened no more, and is compared all the same.
            assert await fetch(meeting.bob, shared.blob, begins=data[: 2 * CHUNK + 5]) == data
            assert await fetch(meeting.bob, shared.blob, begins=data) == data

    run(main)


def test_the_relay_has_nothing_of_a_file_or_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            data = b"marlin-inside " * 20_000
            shared = await share(meeting.alice, data, name="swordfish.pdf", text="barracuda")
            assert await fetch(meeting.bob, shared.blob) == data
            await settle()
            sent = b"".join(message for both in meeting.wires.open for end in both for message in end.sent)
            assert len(sent) > len(data)
            held = everything(meeting.relay.store) + b"".join(meeting.relay.blobs.whole.values())
            for word in ("marlin-inside", "swordfish", "barracuda", digest(data)):
                for form in spelled(word):
                    assert form not in held, word
                    assert form not in sent, word
            assert shared.blob.encode() in held

    run(main)


def test_a_file_that_is_shared_privately_opens_for_its_readers_alone(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben, cat.serving() as third:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            carol = await third.agent("carol")
            await meeting.admit(carol, "carol")
            shared = await share(meeting.alice, DATA, visible_to=("bob",))
            assert await fetch(meeting.bob, shared.blob) == DATA
            assert await refused(carol, shared.blob) == "no_such_blob"
            # Who cannot read it cannot bring it to others either, though the relay has its ciphertext.
            params = t.ShareBlob(blob=shared.blob, size=len(DATA))
            assert (await carol.refused("blob.share", params)).code == "upload_unfinished"

    run(main)


def first_swapped(sealed: bytes) -> bytes:
    return sealed[PIECE : 2 * PIECE] + sealed[:PIECE] + sealed[2 * PIECE :]


LIES: dict[str, Callable[[bytes], bytes]] = {
    "cut in a piece": lambda sealed: sealed[:-1],
    "cut between pieces": lambda sealed: sealed[: 5 * PIECE],
    "cut to nothing": lambda sealed: b"",
    "pieces swapped": first_swapped,
    "a bit turned in the last piece": lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1]),
    "extended": lambda sealed: sealed + b"\0",
    "extended by a piece": lambda sealed: sealed + sealed[-PIECE:],
    "another file": lambda sealed: bytes(len(sealed)),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("size", [len(DATA), 3 * t.MAX_PIECE])
def test_a_file_that_the_relay_changed_is_an_error_and_reaches_no_workspace(
    tmp_path: Path, lie: str, size: int
) -> None:
    async def main() -> None:
        meeting, folder = meeting_in(tmp_path), tmp_path / "work"
        folder.mkdir()
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben)
            meeting.bob = await ben.window("b" * 32, workspace=str(folder), as_name="bob")
            await meeting.admit(meeting.bob, "bob")
            data = (DATA * 2)[:size]
            shared = await share(meeting.alice, data)
            assert await fetch(meeting.bob, shared.blob) == data
            changed = LIES[lie](kept(meeting, shared.blob))
            meeting.relay.blobs.whole[BlobId(shared.blob)] = changed
            assert await refused(meeting.bob, shared.blob) == "blob_mismatch"
            taken = await meeting.bob.refused("share.fetch", t.FetchFile(blob=shared.blob))
            assert taken.code == "blob_mismatch"
            assert list(folder.iterdir()) == []

    run(main)


def test_an_upload_goes_on_with_the_same_ciphertext_after_a_restart_of_the_author_s_daemon(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben:
            async with meeting.ann.serving() as ann:
                await meeting.open(ann, ben)
                await meeting.admit(meeting.bob, "bob")
                with holding(DATA) as file:
                    begun = await meeting.alice.ask("blob.put", t.PutBlob(file=hand(meeting.alice, file)), t.BlobPut)
                assert 0 < begun.offset < len(DATA)
                assert begun.blob == ""
            [(name, there)] = [(key, data) for key, (data, _) in meeting.relay.blobs._uploads.items()]
            async with meeting.ann.serving() as ann:
                alice = await ann.agent("alice")
                with holding(DATA) as file:
                    params = t.PutBlob(file=hand(alice, file), room=begun.room)
                    again = await alice.ask("blob.put", params, t.BlobPut)
                    assert again.offset > begun.offset
                    whole = again if again.blob else await put(alice, params)
                assert whole.blob == name[1]
                assert kept(meeting, whole.blob).startswith(there)
            # The key is there for the message also after one more restart.
            async with meeting.ann.serving() as ann:
                alice = await ann.agent("alice")
                message = t.ShareBlob(blob=whole.blob, size=len(DATA), room=begun.room)
                await alice.ask("blob.share", message, t.SharedBlob)
                assert await fetch(meeting.bob, whole.blob) == DATA

    run(main)


def test_another_file_another_author_and_a_later_day_have_other_keys(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            first, again = [await bring(meeting.alice, DATA) for _ in range(2)]
            assert first.blob == again.blob
            room = RoomId(meeting.opened.room)
            roster = (await meeting.room_of(meeting.ann)).state.epochs.roster
            [alice] = [agent for agent, seat in roster.items() if seat.handle == "alice"]
            [row] = meeting.ann.world.store.file_seals(room, alice)
            assert (row.digest.hex(), row.size, row.blob) == (digest(DATA), len(DATA), first.blob)
            other = await bring(meeting.alice, DATA[:-1])
            assert not set(pieces(kept(meeting, first.blob))) & set(pieces(kept(meeting, other.blob)))
            assert (await bring(meeting.bob, DATA)).blob != first.blob
            meeting.ann.world.clock.move(seconds=KEPT_MS / 1000 + 1)
            last = await bring(meeting.alice, b"x")
            rows = meeting.ann.world.store.file_seals(room, alice)
            assert [row.blob for row in rows] == [last.blob]
            assert (await bring(meeting.alice, DATA)).blob != first.blob

    run(main)


def test_the_key_of_a_file_goes_after_two_days_though_nothing_else_is_shared(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            brought = await share(meeting.alice, DATA)
            alice = (await meeting.room_of(meeting.ann)).state.owner
            store, room = meeting.ann.world.store, RoomId(meeting.opened.room)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(meeting.ann_served.engine.keep_file_seals)
                await trio.sleep(LOOK_EVERY_S + 1)
                assert [row.blob for row in store.file_seals(room, alice)] == [brought.blob]
                meeting.ann.world.clock.move(seconds=KEPT_MS / 1000)
                await trio.sleep(LOOK_EVERY_S)
                assert store.file_seals(room, alice) == []
                nursery.cancel_scope.cancel()
            # Who may read the file reads it by the words of the message.
            assert await fetch(meeting.bob, brought.blob) == DATA

    run(main)


def pieces(sealed: bytes) -> list[bytes]:
    return [sealed[at : at + PIECE] for at in range(0, len(sealed), PIECE)]


def test_a_file_is_shared_under_its_own_size_and_where_its_key_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            brought = await bring(meeting.alice, DATA)
            wrong = t.ShareBlob(blob=brought.blob, size=len(DATA) + 1)
            assert (await meeting.alice.refused("blob.share", wrong)).code == "invalid_param"
            unknown = t.ShareBlob(blob="ab" * 32, size=1)
            assert (await meeting.alice.refused("blob.share", unknown)).code == "upload_unfinished"
            await share(meeting.alice, DATA)
            # Bob did not upload it, and can read it: he may bring it once more, as it is.
            assert await fetch(meeting.bob, brought.blob) == DATA
            params = t.ShareBlob(blob=brought.blob, size=len(DATA), room=meeting.opened.room, text="again")
            again = await meeting.bob.ask("blob.share", params, t.SharedBlob)
            assert again.sha256 == digest(DATA)
            # In a room that the relay reads, the ciphertext would open for nobody.
            clear = await meeting.bob.open("in clear", "", clear=True)
            params = t.ShareBlob(blob=brought.blob, size=len(DATA), room=clear.room)
            assert (await meeting.bob.refused("blob.share", params)).code == "upload_unfinished"

    run(main)


def test_commits_are_taken_in_at_the_other_side_from_a_push_a_hand_off_and_a_result(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        mine, other = work_in(tmp_path / "mine"), work_in(tmp_path / "other")
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            meeting.ann_served, meeting.bob_served = ann, ben
            meeting.alice = await ann.window("a" * 32, workspace=str(mine.folder), as_name="alice")
            meeting.bob = await ben.window("b" * 32, workspace=str(other.folder), as_name="bob")
            meeting.opened = await meeting.alice.open("code")
            await meeting.admit(meeting.bob, "bob")
            tip = mine.commit(f="2")
            pushed = await meeting.alice.ask("share.push", t.PushCode(), t.SharedCode)
            assert (pushed.tip, pushed.sha256 != pushed.blob) == (tip, True)
            applied = await meeting.bob.ask("share.apply", t.ApplyCode(blob=pushed.blob), t.AppliedCode)
            assert applied.tip == tip
            assert other.git("rev-parse", applied.ref) == tip
            offer = t.GiveHandoff(next="review", bundle=pushed.blob)
            given = await meeting.alice.ask("handoff.give", offer, t.GivenHandoff)
            found = await find(meeting.bob, given.id)
            assert found.brings.tip == tip
            again = await meeting.bob.ask("share.apply", t.ApplyCode(blob=given.id), t.AppliedCode)
            assert (again.ref, again.new) == (applied.ref, False)
            task = await meeting.alice.send("the report, please", kind="task")
            held = await meeting.bob.ask("task.claim", t.ClaimTask(), t.TaskHeld)
            assert held.id == task.id
            report = await share(meeting.bob, DATA, name="report.pdf")
            done = t.CompleteTask(id=task.id, text="here", blob=report.blob)
            await meeting.bob.ask("task.complete", done, t.TaskHeld)
            [result] = (await meeting.alice.recv(all=True, kind="result")).messages
            assert await fetch(meeting.alice, result.id) == DATA

    run(main)


def test_the_store_of_files_sweeps_at_the_relay_what_no_message_brings(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            shared, alone = await share(meeting.alice, DATA), await bring(meeting.alice, b"alone")
            meeting.relay.clock.move(seconds=3 * 24 * 3600)
            engine, gone = meeting.relay_served, []
            for shelf in (shared.blob[:2], alone.blob[:2]):
                gone += await engine.desk.shelf.sweep(engine.desk.library, shelf)
            assert gone == [alone.blob]
            assert await fetch(meeting.bob, shared.blob) == DATA

    assert Millis(KEPT_MS) > 24 * 3600 * 1000
    run(main)
