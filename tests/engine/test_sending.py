"""Posting: who a message reaches, who may see it, and what a retry gets."""

from __future__ import annotations

from typing import Any

import msgspec
import trio

from parlerd.core.envelope import decode_envelope
from parlerd.core.errors import ParlerError
from parlerd.core.model import AgentId, Prior, RoomId
from parlerd.identity.signatures import verify
from parlerd.operations import types as t
from tests.support.engine import Party, engine_world, run, settle, texts
from tests.support.faulty_store import FaultyStore


async def refused_send(party: Party, **params: Any) -> ParlerError:
    return await party.refused("message.send", t.Send(**{"text": "x", **params}))


# -- posting -----------------------------------------------------------------------------------------------


def test_a_message_reaches_everyone_else_with_its_author_and_the_door_it_came_through() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            sent = await alice.send("hello", kind="note", data={"n": [1, None, "x"]}, to=("bob",))
            (message,) = (await bob.recv()).messages
            assert (message.id, message.seq, message.at) == (sent.id, sent.seq, sent.at)
            assert (message.author.name, message.author.role, message.author.host) == ("alice", "owner", "shell")
            assert (message.via, message.verified, message.kind) == ("cli", "valid", "note")
            assert message.to == ["bob"]
            assert message.data == {"n": [1, None, "x"]}
            assert message.private is msgspec.UNSET
            assert (await alice.recv()).messages == []

    run(main)


def test_the_store_is_asked_for_a_key_that_came_with_the_call_and_for_none_that_was_drawn() -> None:
    class Asked(FaultyStore):
        def __init__(self) -> None:
            super().__init__()
            self.keys: list[str] = []

        def prior(self, room: RoomId, actor: AgentId, operation: str, key: str) -> Prior | None:
            self.keys.append(key)
            return super().prior(room, actor, operation, key)

    async def main() -> None:
        store = Asked()
        async with engine_world(store=store) as served:
            (alice,) = await served.room("alice")
            store.keys.clear()
            await alice.send("drawn")
            assert store.keys == []
            first = await alice.send("chosen", idempotency_key="chosen")
            again = await alice.send("chosen", idempotency_key="chosen")
            assert store.keys == ["chosen", "chosen"]
            assert (again.id, again.replayed) == (first.id, True)

    run(main)


def test_what_is_stored_of_a_message_is_signed_and_threaded_to_its_authors_last() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            me = await alice.whoami()
            await bob.send("seen by alice")
            await alice.read()
            ids = [(await alice.send(f"m{n}", idempotency_key=f"k{n}")).id for n in range(2)]
            store = served.world.store
            envelopes = []
            for id in ids:
                found = store.find_message(id)  # type: ignore[arg-type]
                assert found is not None
                header, stored = store.message(*found), store.body(*found)
                assert header is not None
                assert stored is not None
                body, signature = stored
                assert signature is not None
                assert verify(me.id, "parler/message", body, signature)
                envelopes.append((header, decode_envelope(body)))
            (first_header, first), (_, second) = envelopes
            # Counter 1 is the opening recap.
            assert (first.counter, second.counter) == (2, 3)
            assert second.previous == first_header.event.envelope  # type: ignore[union-attr]
            assert first.key == "k0"
            shown = store.cursor(RoomId(first.room), me.id).delivered  # type: ignore[arg-type]
            assert (first.shown, first.line) == store.shown_at(RoomId(first.room), shown)
            assert (first.id, first.via, first.host) == (first_header.event.id, "cli", "shell")  # type: ignore[union-attr]
            assert first.nonce != second.nonce

    run(main)


def test_the_key_comes_back_with_the_answer_and_with_a_failure() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            sent = await alice.send("x")
            again = await alice.send("x", idempotency_key=sent.idempotency_key)
            assert (again.id, again.seq, again.at, again.replayed) == (sent.id, sent.seq, sent.at, True)
            assert (await refused_send(alice, to=("ghost",), idempotency_key="k7")).details["key"] == "k7"
            generated = (await refused_send(alice, to=("ghost",))).details["key"]
            assert generated.startswith("k_")

    run(main)


def test_a_replay_is_authorised_first() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            room = (await bob.rooms())[0].room
            await bob.send("x", idempotency_key="k1")
            await bob.close()
            error = await refused_send(bob, room=room, idempotency_key="k1")
            assert error.code == "no_such_room"
            await alice.close()
            assert (await refused_send(alice, room=room, idempotency_key="k2")).code == "room_closed"

    run(main)


def test_a_replay_in_a_closed_room_still_answers_what_was_stored() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            room = (await alice.rooms())[0].room
            sent = await alice.send("x", idempotency_key="k1", room=room)
            await alice.close()
            again = await alice.send("x", idempotency_key="k1", room=room)
            assert (again.id, again.replayed) == (sent.id, True)

    run(main)


def test_a_message_is_addressed_by_handle_or_id_and_a_stranger_is_no_address() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            stranger = await served.agent("carol")
            bobs = (await bob.whoami()).id
            await alice.send("x", to=("bob", bobs))
            assert (await bob.recv()).messages[0].to == ["bob"]
            for who in ("carol", (await stranger.whoami()).id, "nobody", ""):
                assert (await refused_send(alice, to=(who,))).code == "no_such_agent"

    run(main)


def test_a_message_to_someone_who_is_not_here_names_who_is() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _ = await served.room("alice", "codex@repo")
            error = await alice.refused("message.send", t.Send(text="x", to=("codex",)))
            assert (error.code, error.details["candidates"][0]) == ("no_such_agent", "codex@repo")

    run(main)


# -- private messages --------------------------------------------------------------------------------------


def test_a_private_message_exists_for_those_it_names_and_for_nobody_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            secret = await bob.send("between us", visible_to=("carol",))
            assert texts(await carol.recv()) == ["between us"]
            assert (await carol.recv(all=True)).messages[-1].private is True
            # The owner is no exception, and sees no gap.
            assert (await alice.recv()).messages == []
            assert (await alice.recv()).unread == 0
            assert (await alice.send("public")).seq == 2
            assert (await bob.recv(all=True)).messages[-1].seq == 3
            assert (await alice.refused("message.why", t.Why(id=secret.id))).code == "no_such_message"
            error, unknown = [await refused_send(alice, reply_to=id) for id in (secret.id, "m_none")]
            assert (error.code, error.message) == (unknown.code, unknown.message)

    run(main)


def test_a_reply_to_a_private_message_stays_among_its_readers() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            secret = await bob.send("between us", visible_to=("carol",))
            await carol.send("answer", reply_to=secret.id)
            assert texts(await bob.recv()) == ["answer"]
            assert (await alice.recv()).messages == []
            error = await refused_send(carol, reply_to=secret.id, visible_to=("alice",))
            assert error.code == "invalid_param"
            assert (await refused_send(bob, to=("alice",), visible_to=("carol",))).code == "invalid_param"

    run(main)


def test_a_private_message_wakes_those_it_is_for_and_nobody_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            looks: list[str] = []
            desk = served.engine._desk
            quiet = desk.rooms.get

            async def counted(room: RoomId) -> Any:
                looks.append(room)
                return await quiet(room)

            waits: dict[str, float] = {}

            async def wait(party: Party, name: str) -> None:
                began = trio.current_time()
                await party.recv(wait=60)
                waits[name] = trio.current_time() - began

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, alice, "alice")
                nursery.start_soon(wait, carol, "carol")
                await settle()
                desk.rooms.get = counted  # type: ignore[method-assign]
                await bob.send("between us", visible_to=("carol",))
            assert waits == {"alice": 60, "carol": 0}

    run(main)


# -- where a call goes -------------------------------------------------------------------------------------


def test_a_call_that_names_no_room_means_the_active_session() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            assert (await refused_send(alice)).code == "no_active_session"
            assert (await alice.refused("message.recv", t.Recv())).code == "no_active_session"
            one, two = await alice.open("one"), await alice.open("two")
            assert (await alice.send("x")).room == two.room
            assert (await alice.send("x", room="one")).room == one.room
            assert (await alice.send("x", room=one.room)).room == one.room
            await alice.close()
            assert (await refused_send(alice)).code == "no_active_session"

    run(main)


def test_a_name_of_two_rooms_is_refused_with_both_and_an_id_is_not() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = [await served.agent(name) for name in ("alice", "bob", "carol")]
            rooms = []
            for owner in (alice, bob):
                opened = await owner.open("same")
                rooms.append(opened.room)
                await served.admit(opened, carol)
            error = await refused_send(carol, room="same")
            assert (error.code, sorted(error.details["candidates"])) == ("ambiguous_name", sorted(rooms))
            assert (await carol.send("x", room=rooms[0])).room == rooms[0]
            # Whoever is in one of them alone sees no ambiguity, and nothing of the other.
            assert (await alice.send("x", room="same")).room == rooms[0]

    run(main)
