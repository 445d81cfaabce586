"""Section B of the security spec: who said something, inside one user."""

from __future__ import annotations

import pytest

from parlerd.core.envelope import Envelope, decode_envelope
from parlerd.core.model import MessageId, Position, RoomId, Via
from parlerd.engine.callers import PeerProcess
from parlerd.identity.signatures import verify
from parlerd.operations import types as t
from tests.support.engine import Served, engine_world, run, texts


def envelope_of(served: Served, message: str) -> tuple[bytes, bytes]:
    store = served.world.store
    found = store.find_message(MessageId(message))
    assert found is not None
    stored = store.body(*found)
    assert stored is not None
    body, signature = stored
    assert signature is not None
    return body, signature


@pytest.mark.parametrize("via", ["mcp", "cli", "hook", "http"])
def test_b5_every_fact_says_through_which_door_it_came_and_readers_see_it(via: Via) -> None:
    """B5: `via` and what the kernel says of the peer are stored with every fact; a reader is shown `via`."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            room = (await alice.rooms())[0].room
            peer = PeerProcess(pid=4711, uid=1000, program="node")
            party = await served.connect(via, as_name="alice", host="shell", peer=peer)
            await party.send("hello", room=room)
            assert (await bob.recv()).messages[0].via == via
            facts = served.world.store.facts(RoomId(room), Position(0), 1000)
            assert all(header.by.session for header in facts)
            assert (facts[-1].by.via, facts[-1].by.pid, facts[-1].by.program) == (via, 4711, "node")

    run(main)


def test_b5_valid_means_that_the_authors_key_signed_exactly_the_stored_bytes() -> None:
    """B5: the signature is over the bytes that are stored, by the author's key, for this purpose and no other."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            sent = await alice.send("hello")
            (message,) = (await bob.recv()).messages
            assert message.verified == "valid"
            body, signature = envelope_of(served, sent.id)
            assert verify(message.author.id, "parler/message", body, signature)
            assert not verify(message.author.id, "parler/message", body + b"\0", signature)
            assert not verify(message.author.id, "parler/auth", body, signature)
            assert not verify((await bob.whoami()).id, "parler/message", body, signature)

    run(main)


def test_b6_a_name_that_a_live_window_holds_reads_without_acknowledging_unless_it_takes() -> None:
    """B6: a command cannot make the window miss a message by accident."""

    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w", as_name="bob")
            await served.admit(await alice.open(), window)
            await served.acknowledge(window)
            await alice.send("for bob")
            command = await served.agent("bob")
            page = await command.recv()
            assert (texts(page), page.acknowledges) == (["for bob"], False)
            assert texts(await window.recv()) == ["for bob"]
            assert (await command.recv(take=True)).acknowledges

    run(main)


def test_b6_a_name_is_held_from_the_hello_on() -> None:
    """B6: a window that was given a name has it before its first call, and windows have theirs in the order in which
    they came."""

    async def main() -> None:
        async with engine_world() as served:
            alice, _ = await served.room("alice", "bob")
            window, second = await served.window("w", as_name="bob"), await served.window("w2", as_name="bob")
            await alice.send("for bob")
            command = await served.agent("bob")
            page = await command.recv()
            assert (texts(page), page.acknowledges) == (["for bob"], False)
            assert [(await party.whoami()).name for party in (second, window)] == ["bob#2", "bob"]
            assert texts(await window.recv()) == ["for bob"]
            for party in (window, second):
                await served.leave(party)
            assert (await command.recv()).acknowledges

    run(main)


def test_b7_the_signed_envelope_carries_the_authors_count_its_last_envelope_and_how_far_it_was_shown_the_room() -> None:
    """B7: so that forks, drops and reordering show later without a new format."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob", context="")
            room = RoomId((await alice.rooms())[0].room)
            store = served.world.store
            envelopes: list[Envelope] = []
            for text in ("one", "two"):
                envelopes.append(decode_envelope(envelope_of(served, (await alice.send(text)).id)[0]))
            await bob.recv()
            shown = store.cursor(room, (await bob.whoami()).id).delivered  # type: ignore[arg-type]
            his = decode_envelope(envelope_of(served, (await bob.send("three")).id)[0])

            assert [envelope.counter for envelope in envelopes] == [1, 2]
            assert envelopes[0].previous == b""
            first = store.facts(room, Position(0), 1000)
            hashes = [header.event.envelope for header in first if hasattr(header.event, "envelope")]
            assert envelopes[1].previous == hashes[0]
            assert his.counter == 1
            assert (his.shown, his.line) == store.shown_at(room, shown)
            assert his.shown == 2
            assert his.room == room
            assert {len(envelope.nonce) for envelope in envelopes} == {16}

    run(main)


def test_b7_a_replayed_envelope_cannot_pass_for_another_room_or_request() -> None:
    """B7: room and idempotency key are inside what is signed."""

    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            other = await alice.open("other")
            one = decode_envelope(
                envelope_of(served, (await alice.send("x", idempotency_key="k1", room="auth-redesign")).id)[0]
            )
            two = decode_envelope(
                envelope_of(served, (await alice.send("x", idempotency_key="k2", room=other.room)).id)[0]
            )
            assert (one.key, two.key) == ("k1", "k2")
            assert one.room != two.room
            assert isinstance(await alice.call("rooms.list", t.ListRooms()), t.RoomList)

    run(main)
