"""Pages: what is recorded before one leaves, what an acknowledgement moves, and how a message is rendered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
import pytest
from msgspec.structs import replace

from parlerd.core import events as e
from parlerd.core import invocations
from parlerd.core.envelope import TextPart, decode_envelope, encode_envelope
from parlerd.core.errors import Refused, StoreError
from parlerd.core.invocations import Invoked
from parlerd.core.model import AgentId, By, MessageId, Millis, Position, PrincipalId, RoomId, Seq
from parlerd.core.room import RoomState
from parlerd.engine import reading as reading_module
from parlerd.engine.reading import UNREADABLE, handle_of, is_for, parse_cursor, render_message
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import JobOutcome, MarkDelivery, StoredMessage, Write
from tests.support.core import CountedIds
from tests.support.engine import World, engine_world, run, texts
from tests.support.faulty_store import FaultyStore


class Recorder(MemoryStore):
    """Remembers the delivery marks in the order they became durable."""

    def __init__(self) -> None:
        super().__init__()
        self.marked: list[MarkDelivery] = []

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        outcomes = super().transact(jobs)
        self.marked += [write for job in jobs for write in job if isinstance(write, MarkDelivery)]
        return outcomes


def test_a_page_is_on_record_before_it_is_shown() -> None:
    async def main() -> None:
        store = Recorder()
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("one")
            store.marked.clear()
            page = await bob.recv()
            (mark,) = store.marked
            assert (mark.reader, mark.stage) == ((await bob.whoami()).id, "read")
            assert mark.upto == store.head(RoomId(page.room)).position

    run(main)


def test_a_page_that_cannot_be_put_on_record_is_not_shown() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            sent = await alice.send("one")
            store.fail_next_commit("store_full")
            assert (await bob.refused("message.recv", t.Recv())).code == "store_full"
            assert (await alice.why(sent.id))["bob"] == ["stored"]
            assert texts(await bob.recv()) == ["one"]

    run(main)


@pytest.mark.parametrize("code", ["store_full", "store_readonly", "store_locked", "store_failed", "store_corrupt"])
def test_looking_needs_no_write(code: str) -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            sent = await alice.send("one", kind="decision")
            store.fail_next_commit(code, times=99)
            for look in ({"all": True}, {"since": 1}, {"peek": True}, {"kind": "decision"}):
                assert texts(await bob.recv(**look))[-1] == "one", look
            everywhere = await bob.ask("message.recv_all", t.Recv(peek=True), t.ReceivedAll)
            assert [texts(page) for page in everywhere.rooms] == [["one"]]
            # A command of an agent that exists is a new connection each time.
            again = await served.agent("bob")
            assert [room.unread for room in await again.rooms()] == [1]
            assert set(await again.roster()) == {"alice", "bob"}
            assert await again.why(sent.id) == {"bob": ["stored"]}
            assert (await again.whoami()).name == "bob"
            watched = served.engine.stream("room.watch", t.WatchRoom(tail=1), again.caller)
            async with watched as items:
                async for item in items:
                    assert isinstance(item, t.WatchItem)
                    assert item.message is not msgspec.UNSET
                    assert item.message.text == "one"
                    break
            # Neither is there anything to acknowledge by mistake, nor is what is acknowledged shown unrecorded.
            looked = await bob.recv(peek=True)
            ahead = t.Commit(room=looked.room, cursor=looked.cursor)
            assert (await bob.refused("message.commit", ahead)).code == "cursor_ahead"
            assert (await bob.refused("message.recv", t.Recv())).code == code

    run(main)


def test_an_acknowledgement_moves_to_what_was_delivered_and_never_back() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            reading, me = served.engine._reading, (await bob.whoami()).id
            room = RoomId((await bob.rooms())[0].room)
            await alice.send("one")
            head = served.world.store.head(room).position
            with pytest.raises(Refused) as refused:
                await reading.acknowledge(room, AgentId(me), head)
            assert refused.value.code == "cursor_ahead"
            await bob.recv()
            await reading.acknowledge(room, AgentId(me), head)
            await reading.acknowledge(room, AgentId(me), Position(1))
            assert served.world.store.cursor(room, AgentId(me)).acknowledged == head

    run(main)


def test_an_author_signs_the_newest_chain_head_it_was_shown_also_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading_module, "MAX_REMEMBERED", 1)

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            store = served.world.store
            room = RoomId((await bob.rooms())[0].room)

            async def seen_by_bob() -> tuple[int, bytes]:
                sent = await bob.send("x")
                found = store.find_message(MessageId(sent.id))
                assert found is not None
                stored = store.body(*found)
                assert stored is not None
                said = decode_envelope(stored[0])
                return said.shown, said.line

            await alice.send("one")
            before = await seen_by_bob()
            await bob.recv()
            shown = store.cursor(room, AgentId((await bob.whoami()).id)).delivered
            after = await seen_by_bob()
            assert after == store.shown_at(room, shown)
            assert after != before
            # Only one reader is kept at hand here; the other's head is looked up, and is the same.
            await alice.send("two")
            assert len(served.engine._reading._seen) == 1
            assert await seen_by_bob() == after
            # Looking back never lowers it.
            await bob.recv(since=0, limit=1)
            assert await seen_by_bob() == after

    run(main)


def test_a_join_of_much_text_is_bounded_in_bytes_and_says_what_it_left_out() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            for n in range(8):
                await alice.send(f"{n}" * 200_000)
            await bob.join(opened.session_key)
            await alice.approve("bob")
            landed = await bob.join(opened.session_key)
            assert landed.truncated
            assert texts(landed)[0] == "recap"
            assert [text[0] for text in texts(landed)[1:]] == ["3", "4", "5", "6", "7"]
            assert (landed.first_unshown, landed.last_unshown) == (2, 4)

    run(main)


def test_a_room_without_a_recap_says_what_it_left_out_too() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "")
            for n in range(10):
                await alice.send(f"{n}")
            await bob.join(opened.session_key)
            await alice.approve("bob")
            landed = await bob.join(opened.session_key, limit=3)
            assert texts(landed) == ["7", "8", "9"]
            assert (landed.first_unshown, landed.last_unshown) == (1, 7)
            assert "1 to 7" in landed.hint
            await bob.commit(landed)
            assert await bob.read() == []

    run(main)


# -- rendering ---------------------------------------------------------------------------------------------

ANN, BEN, NOW = AgentId("UANN"), AgentId("UBEN"), Millis(5)


def stored(**event: object) -> StoredMessage:
    posted = e.MessagePosted(**{"id": MessageId("m_1"), "kind": "text", "chain": "c", "counter": 1, **event})  # type: ignore[arg-type]
    by = By(actor=ANN, principal="A", session="s", host="codex", via="mcp")  # type: ignore[arg-type]
    header = e.Header(position=Position(1), at=Millis(5), by=by, authority="member", event=posted)
    return StoredMessage(RoomId("r_1"), Seq(3), header, None, None)


def test_an_erased_body_leaves_a_message_with_its_facts_and_no_words() -> None:
    message = render_message(RoomState(), BEN, stored(), NOW)
    assert (message.seq, message.at, message.text, message.via) == (3, 5, "", "mcp")
    assert message.data is msgspec.UNSET
    assert message.handoff is msgspec.UNSET


def test_an_invocation_reads_as_this_side_says_it_and_a_damaged_one_is_damaged() -> None:
    ben = By(BEN, PrincipalId("A"), "", "", "cli")
    posted, body = invocations.told(RoomId("r_1"), ben, NOW, CountedIds(), Invoked("craft", {"item": "trap"}))
    header = e.Header(
        position=Position(1), at=NOW, by=ben, authority="member", event=posted, body=hashlib.sha256(body).digest()
    )
    told = StoredMessage(RoomId("r_1"), Seq(1), header, body, None)
    message = render_message(RoomState(), BEN, told, NOW)
    assert (message.text, message.verified) == (f'{BEN} invoked craft {{"item":"trap"}}', "unsigned")
    assert message.data == {"action": "craft", "params": {"item": "trap"}}
    words = encode_envelope(replace(decode_envelope(body), parts=(TextPart("all clear"),)))
    with pytest.raises(StoreError) as caught:
        render_message(RoomState(), BEN, replace(told, body=words), NOW)
    assert caught.value.code == "store_corrupt"
    altered = render_message(RoomState(), BEN, replace(told, body=words, unaltered=False), NOW)
    assert (altered.text, altered.verified) == ("", "invalid")


def test_a_part_of_a_later_type_is_one_unreadable_part_and_the_rest_of_the_message_is_shown() -> None:
    parts = [{"type": "text", "text": "before"}, {"type": "hologram", "of": "ben"}, {"type": "text", "text": "after"}]
    said = {
        "v": 2, "id": "m_1", "room": "r_1", "key": "k", "kind": "text", "chain": "c_1", "hops": 0, "authored_at": 5,
        "counter": 1, "previous": b"", "line": bytes(32), "nonce": bytes(16), "via": "cli", "parts": parts,
    }  # fmt: skip
    message = render_message(
        RoomState(), BEN, replace(stored(verified="valid"), body=msgspec.msgpack.encode(said)), NOW
    )
    assert message.text == f"before\n{UNREADABLE}\nafter"


@pytest.mark.parametrize("body", [b"\xc1 no envelope", None])
def test_words_that_were_changed_or_taken_away_are_invalid_and_stop_no_reader(body: bytes | None) -> None:
    good = stored(verified="valid")
    assert render_message(RoomState(), BEN, good, NOW).verified == "valid"
    header = msgspec.structs.replace(good.header, body=bytes(32))
    message = render_message(RoomState(), BEN, replace(good, header=header, body=body, unaltered=body is None), NOW)
    assert (message.verified, message.text) == ("invalid", "")


def test_words_that_were_changed_in_the_store_are_shown_and_marked_invalid_to_every_reader() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            for text in ("pay ben", "bye"):
                await alice.send(text)
            room = RoomId((await bob.rooms())[0].room)
            bodies = store._logs[room].bodies
            position = Position(max(bodies) - 1)
            body, signature = bodies[position]
            bodies[position] = body.replace(b"pay ben", b"pay eve"), signature
        async with World(store=store, keys=served.world.keys, random=served.world.random).serving() as again:
            bob = await again.agent("bob")
            for page in (await bob.recv(room=room, since=1), await bob.recv(room=room)):
                assert [(str(message.text), message.verified) for message in page.messages] == [
                    ("pay eve", "invalid"),
                    ("bye", "valid"),
                ]

    run(main)


def test_an_author_or_addressee_the_room_does_not_know_is_named_by_its_id() -> None:
    message = render_message(RoomState(), BEN, stored(to=(BEN,)), NOW)
    assert (message.author.name, message.author.role, message.author.host) == (ANN, "", "codex")
    assert message.to == [BEN]
    assert handle_of(RoomState(), BEN) == BEN


def test_a_role_is_for_nobody_who_is_not_in_the_room() -> None:
    header = stored(kind="handoff", role="webdev").header
    assert isinstance(header.event, e.MessagePosted)
    assert not is_for(RoomState(), BEN, header.event)


@pytest.mark.parametrize(("text", "seq"), [("0", 0), ("12", 12), ("9" * 15, 10**15 - 1)])
def test_a_cursor_is_a_plain_number(text: str, seq: int) -> None:
    assert parse_cursor(text) == seq


@pytest.mark.parametrize("text", ["", "-1", "+1", "1e3", "\u0663", "\u00b2", "1_0", " 1", "1\n", "9" * 16])
def test_anything_else_is_no_cursor(text: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_cursor(text)
    assert refused.value.code == "invalid_cursor"
