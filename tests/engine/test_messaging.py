"""Posting, reading, acknowledging, handing over, and where a message got to."""

from __future__ import annotations

import datetime
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core.envelope import decode_envelope
from parlerd.core.errors import ParlerError
from parlerd.core.model import MAX_TEXT, AgentId, Prior, RoomId
from parlerd.engine.messaging import input_digest
from parlerd.identity.signatures import verify
from parlerd.operations import types as t
from tests.support.engine import (
    Party,
    SlowDriver,
    engine_world,
    gather,
    run,
    settle,
    texts,
)
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


def test_the_store_is_asked_for_a_key_unless_it_was_made_for_the_call() -> None:
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
            alice.caller.fresh.add("made")
            first = await alice.send("made for this call", idempotency_key="made")
            alice.caller.fresh.clear()
            assert store.keys == []
            # Its own repetition is found by the key all the same.
            again = await alice.send("made for this call", idempotency_key="made")
            await alice.send("chosen", idempotency_key="chosen")
            assert store.keys == ["made", "chosen"]
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
            store = served.driver.store
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
            assert first.seen == store.chain_at(RoomId(first.room), store.cursor(RoomId(first.room), me.id).delivered)  # type: ignore[arg-type]
            assert first.nonce != second.nonce

    run(main)


@pytest.mark.parametrize("field", ["text", "data"])
def test_a_message_over_the_limit_is_refused_whole_and_the_limit_is_named(field: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            error = await refused_send(alice, **{field: "x" * (300 * 1024)})
            assert (error.code, error.details["param"], error.details["limit"]) == ("text_too_long", field, MAX_TEXT)
            assert (await bob.recv()).messages == []
            assert (await alice.send("\u00e9" * (MAX_TEXT // 2))).seq == 2
            assert (await refused_send(alice, text="\u00e9" * (MAX_TEXT // 2) + "x")).code == "text_too_long"

    run(main)


@pytest.mark.parametrize(
    "params",
    [
        {"text": "\ud800"},
        {"data": {"a": "\ud800"}},
        {"data": 2**70},
        {"data": [[[2**70]]]},
        {"data": {"a": b"bytes"}},
        {"data": [msgspec.msgpack.Ext(1, b"x")]},
        {"data": datetime.datetime.fromtimestamp(0, datetime.UTC)},
        {"data": {1: "a number for a name"}},
        {"data": float("nan")},
        {"data": {"\ud800": 1}},
        {"to": ("\ud800",)},
        {"reply_to": "\ud800"},
        {"kind": "\ud800"},
    ],
)
def test_what_cannot_be_written_down_is_the_callers_fault_and_stores_nothing(params: dict[str, Any]) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            assert (await refused_send(alice, **params)).code == "invalid_param"
            assert (await alice.refused("session.open", t.OpenSession(topic="\ud800"))).code == "invalid_param"
            assert (await alice.refused("handoff.give", t.GiveHandoff(next="\ud800"))).code == "invalid_param"
            assert (await bob.recv()).messages == []

    run(main)


@pytest.mark.parametrize("levels", [65, 100_000])
def test_data_nested_too_deeply_is_refused_and_the_room_goes_on(levels: int) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            assert (await refused_send(alice, data=nested(levels))).code == "invalid_param"
            await alice.send("fine", data=nested(64))
            assert (await bob.recv()).messages[0].data == nested(64)

    run(main)


def nested(levels: int) -> Any:
    data: list[Any] = []
    for _ in range(levels - 1):
        data = [data]
    return data


def test_every_kind_of_json_comes_back_as_it_was_sent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            data: dict[str, Any] = {"": [None, True, -(2**63), 2**64 - 1, 1.5, "\u202e\0", {"a": {}}], "\u65e5": []}
            await alice.send("x", data=data)
            message = (await bob.recv()).messages[0]
            assert message.data == data
            assert msgspec.json.decode(msgspec.json.encode(message))["data"] == data

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


def test_a_digest_covers_every_parameter_but_the_key() -> None:
    base = t.Send(text="x")
    assert input_digest(base) == input_digest(t.Send(text="x", idempotency_key="k1"))
    others = [t.Send(text="y"), t.Send(text="x", to=("a",)), t.Send(text="x", data=0), t.Send(text="x", room="r")]
    assert len({input_digest(params) for params in [base, *others]}) == 5
    one = t.Send(text="x", data={"a": 1, "b": 2})
    assert input_digest(one) == input_digest(t.Send(text="x", data={"b": 2, "a": 1}))


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


# -- reading -----------------------------------------------------------------------------------------------


def test_reading_moves_nothing_until_it_is_acknowledged() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("one")
            first = await bob.recv()
            assert texts(await bob.recv()) == texts(first) == ["one"]
            assert (first.unread, first.more, first.acknowledges) == (0, False, True)
            await bob.commit(first)
            await bob.commit(first)
            assert (await bob.recv()).messages == []

    run(main)


def test_pages_follow_each_other_without_gap_or_repeat() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            for n in range(7):
                await alice.send(f"{n}")
                await bob.send("own")
            seen: list[str] = []
            unread: list[int] = []
            while True:
                page = await bob.recv(limit=3)
                seen += texts(page)
                unread.append(page.unread)
                await bob.commit(page)
                if not page.more:
                    break
            assert seen == [str(n) for n in range(7)]
            assert unread == [4, 1, 0]

    run(main)


def test_a_page_is_bounded_in_bytes_but_always_holds_one_message() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            for _ in range(3):
                await alice.send("x" * 5000)
            page = await bob.recv(max_bytes=1024)
            assert len(page.messages) == 1
            assert page.more
            assert len((await bob.recv(max_bytes=12_000)).messages) == 2

    run(main)


def test_looking_back_moves_nothing_and_shows_ones_own_words_too() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("one")
            await bob.send("mine")
            for page in (await bob.recv(all=True), await bob.recv(since=0)):
                assert texts(page) == ["Chose PKCE.", "one", "mine"]
                assert not page.acknowledges
            assert texts(await bob.recv(since=1)) == ["one", "mine"]
            assert (await bob.recv(since=99)).messages == []
            assert texts(await bob.recv(peek=True)) == ["one"]
            assert texts(await bob.recv()) == ["one"]

    run(main)


def test_a_filtered_read_acknowledges_nothing() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("plain")
            await alice.send("for bob", to=("bob",))
            await alice.send("a note", kind="note")
            mentions = await bob.recv(mentions=True)
            assert (texts(mentions), mentions.acknowledges) == (["for bob"], False)
            notes = await bob.recv(kind="note")
            assert (texts(notes), notes.acknowledges) == (["a note"], False)
            assert texts(await bob.recv()) == ["plain", "for bob", "a note"]

    run(main)


def test_a_mention_far_behind_is_found_and_the_middle_is_not_marked_read() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            plain = [await alice.send(f"{n}") for n in range(60)]
            named = await alice.send("for bob", to=("bob",))
            assert texts(await bob.recv(mentions=True, limit=5)) == ["for bob"]
            assert (await alice.why(plain[30].id))["bob"] == ["stored"]
            assert (await alice.why(named.id))["bob"] == ["stored", "read"]

    run(main)


@pytest.mark.parametrize("cursor", ["2", "999999999999999", "3"])
def test_an_acknowledgement_beyond_what_was_delivered_is_refused(cursor: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("one")
            await alice.send("two")
            room = (await bob.rooms())[0].room
            error = await bob.refused("message.commit", t.Commit(room=room, cursor=cursor))
            assert error.code == "cursor_ahead"
            assert texts(await bob.recv()) == ["one", "two"]

    run(main)


@pytest.mark.parametrize("cursor", ["", "-1", "x", "1.0", "\u0661", " 1", "1" * 16, "0x1"])
def test_what_is_no_cursor_is_refused_as_that(cursor: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, bob = await served.room("alice", "bob")
            room = (await bob.rooms())[0].room
            error = await bob.refused("message.commit", t.Commit(room=room, cursor=cursor))
            assert error.code == "invalid_cursor"

    run(main)


def test_acknowledging_an_earlier_message_of_a_page_leaves_the_rest_new_and_never_goes_back() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            for n in range(3):
                await alice.send(f"{n}")
            page = await bob.recv()
            for cursor, left in (("3", ["2"]), ("2", ["2"]), ("4", [])):
                await bob.call("message.commit", t.Commit(room=page.room, cursor=cursor))
                assert texts(await bob.recv()) == left

    run(main)


# -- waiting -----------------------------------------------------------------------------------------------


def test_a_wait_ends_with_the_message_and_not_a_moment_later() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")

            async def later() -> None:
                await trio.sleep(7)
                await alice.send("now")

            began = trio.current_time()
            _, page = await gather(later, partial(bob.recv, wait=3600))
            assert page is not None
            assert texts(page) == ["now"]
            assert trio.current_time() - began == 7

    run(main)


def test_a_wait_for_nothing_ends_at_its_time_with_an_empty_page() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            began = trio.current_time()

            async def own() -> None:
                await bob.send("my own words wake me for nothing")

            page, _ = await gather(partial(bob.recv, wait=30), own)
            assert page is not None
            assert page.messages == []
            assert trio.current_time() - began == 30
            assert alice.caller.waiting == bob.caller.waiting == 0

    run(main)


def test_a_hand_off_says_its_number_and_how_many_could_take_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("auth", approval=False)
            given = await alice.handoff("go")
            assert given.others == 0
            await alice.send("waiting")
            await (await served.agent("bob")).join(opened.session_key)
            again = await alice.handoff("go on")
            assert (again.seq, again.others) == (given.seq + 2, 1)

    run(main)


def test_one_message_wakes_every_reader_who_waits() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, *others = await served.room("alice", *(f"bob{n}" for n in range(8)))
            began = trio.current_time()
            pages = await gather(*(partial(other.recv, wait=60) for other in others), partial(alice.send, "all"))
            assert all(texts(page) == ["all"] for page in pages[:-1])  # type: ignore[arg-type]
            assert trio.current_time() == began

    run(main)


def test_a_wait_in_a_room_that_closes_is_told_to_stop() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")

            async def wait() -> str:
                return (await bob.refused("message.recv", t.Recv(wait_ms=3_600_000))).code

            code, _ = await gather(wait, alice.close)
            assert code == "room_closed"

    run(main)


def test_a_wait_survives_that_its_room_was_closed_for_want_of_use() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")

            async def later() -> None:
                await trio.sleep(1800)
                assert len(served.engine._desk.rooms) == 0
                dan = await served.agent("dan")
                await served.admit(await alice.open("other"), dan)
                await carol.send("now")

            _, page = await gather(later, partial(bob.recv, wait=3600))
            assert page is not None
            assert texts(page) == ["now"]

    run(main)


def test_who_joined_while_a_reader_waited_in_an_idle_room_is_named_by_its_handle() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await served.admit(opened, bob)

            async def later() -> None:
                await trio.sleep(1800)
                carol = await served.agent("carol")
                await served.admit(opened, carol)
                await carol.send("hello")

            _, page = await gather(later, partial(bob.recv, wait=3600))
            assert page is not None
            assert page.messages[0].author.name == "carol"

    run(main)


def test_draining_answers_waits_at_once_and_refuses_new_calls() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, bob, carol = await served.room("alice", "bob", "carol")

            async def wait(party: Party, op: str) -> str:
                return (await party.refused(op, t.Recv(wait_ms=3_600_000))).code

            began = trio.current_time()
            one, all_, _ = await gather(
                partial(wait, bob, "message.recv"), partial(wait, carol, "message.recv_all"), served.engine.drain
            )
            assert (one, all_) == ("draining", "draining")
            assert trio.current_time() == began
            assert (await refused_send(bob)).code == "draining"
            assert (await bob.ask("daemon.status", t.DaemonStatus(), t.DaemonInfo)).running

    run(main)


# -- every room at once ------------------------------------------------------------------------------------


async def recv_all(party: Party, *, wait: float = 0) -> dict[str, list[str]]:
    params = t.Recv(all_rooms=True, wait_ms=int(wait * 1000))
    found = await party.ask("message.recv_all", params, t.ReceivedAll)
    return {page.name: texts(page) for page in found.rooms}


def test_every_room_with_something_new_is_shown_and_a_new_room_counts() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            for topic in ("one", "two", "three"):
                await served.admit(await alice.open(topic, ""), bob)
            await alice.send("a", room="one")
            await alice.send("b", room="three")
            assert await recv_all(bob) == {"one": ["a"], "three": ["b"]}
            for name in ("one", "three"):
                assert await bob.read(room=name)
            assert await recv_all(bob) == {}

            opened = await alice.open("four", "welcome")
            await bob.join(opened.session_key)
            began = trio.current_time()
            found, _ = await gather(partial(recv_all, bob, wait=60), partial(alice.approve, "bob"))
            assert found == {"four": ["welcome"]}
            assert trio.current_time() == began

    run(main)


def test_a_room_that_cannot_be_read_fails_the_whole_and_nothing_counts_as_shown() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice, window = await served.agent("alice"), await served.window("w")
            for topic in ("one", "two"):
                await served.admit(await alice.open(topic, ""), window)
                await served.acknowledge(window)
                await alice.send("news", room=topic)
            store.fail_commit_number(store.commits + 2)
            assert (await window.refused("message.recv_all", t.Recv())).code == "store_full"
            await served.acknowledge(window)
            assert await recv_all(window) == {"one": ["news"], "two": ["news"]}
            await served.acknowledge(window)
            assert await recv_all(window) == {}

    run(main)


def test_a_cancelled_read_of_every_room_counts_nothing_as_shown() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, window = await served.agent("alice"), await served.window("w")
            for topic in ("one", "two"):
                await served.admit(await alice.open(topic, ""), window)
                await served.acknowledge(window)
                await alice.send("news", room=topic)
            with trio.move_on_after(1.5) as scope:
                await recv_all(window)
            assert scope.cancelled_caught
            await served.acknowledge(window)
            assert await recv_all(window) == {"one": ["news"], "two": ["news"]}

    run(main)


# -- windows acknowledge by their next call ----------------------------------------------------------------


def test_a_window_acknowledges_what_its_last_call_showed_and_a_kill_acknowledges_nothing() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w")
            await served.admit(await alice.open(), window)
            await served.acknowledge(window)
            await alice.send("one")
            assert texts(await window.recv()) == ["one"]
            await served.leave(window)

            window = await served.window("w")
            assert texts(await window.recv()) == ["one"]
            await served.acknowledge(window)
            await served.acknowledge(window)
            assert texts(await window.recv()) == []

    run(main)


@pytest.mark.parametrize("how", [{"peek": True}, {"since": 0}, {"all": True}, {"mentions": True}, {"kind": "text"}])
def test_a_look_by_a_window_is_not_acknowledged_by_its_next_call(how: dict[str, Any]) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w")
            await served.admit(await alice.open(), window)
            await served.acknowledge(window)
            await alice.send("one", to=((await window.whoami()).id,))
            assert "one" in texts(await window.recv(**how))
            await served.acknowledge(window)
            assert texts(await window.recv()) == ["one"]

    run(main)


def test_an_acknowledgement_that_could_not_be_stored_shows_the_page_again() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice, window = await served.agent("alice"), await served.window("w")
            await served.admit(await alice.open(), window)
            await served.acknowledge(window)
            await alice.send("one")
            await window.recv()
            store.fail_next_commit("store_locked")
            with pytest.raises(ParlerError, match="store_locked"):
                await served.acknowledge(window)
            assert texts(await window.recv()) == ["one"]

    run(main)


# -- handing over ------------------------------------------------------------------------------------------


async def handed_to(*parties: Party) -> list[bool]:
    """For each, whether the newest message is a handoff to it."""
    answers = []
    for party in parties:
        handoff = (await party.recv(all=True)).messages[-1].handoff
        assert isinstance(handoff, t.Handoff)
        answers.append(handoff.to_you)
    return answers


def test_a_handoff_is_for_a_handle_an_id_a_role_or_anyone() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            given = await alice.handoff("wire the login", to="bob", summary="rotation done")
            assert given.for_ == "bob"
            assert await handed_to(bob, carol) == [True, False]
            message = (await bob.recv(all=True)).messages[-1]
            assert isinstance(message.handoff, t.Handoff)
            assert (message.handoff.next, message.handoff.summary) == ("wire the login", "rotation done")
            assert (message.kind, message.text, message.to) == ("handoff", "", ["bob"])

            await alice.handoff("go", to=(await carol.whoami()).id)
            assert await handed_to(bob, carol) == [False, True]
            assert (await alice.handoff("go")).for_ is None
            assert await handed_to(bob, carol) == [True, True]
            assert (await alice.handoff("go", to="anyone")).for_ is None
            assert await handed_to(bob, carol) == [True, True]
            assert (await bob.handoff("go", to="owner")).for_ == "owner"
            assert await handed_to(alice, carol) == [True, False]

    run(main)


def test_a_handoff_names_its_taker_also_where_an_id_was_given() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            given = await alice.handoff("go", to=(await bob.whoami()).id)
            assert (given.for_, given.name) == ("bob", "auth-redesign")
            handoff = (await bob.recv()).messages[-1].handoff
            assert isinstance(handoff, t.Handoff)
            assert handoff.for_ == "bob"

    run(main)


@pytest.mark.parametrize("wanted", ["dan", "webdev", "member", "bobby", "all", "person"])
def test_a_handoff_to_nobody_who_is_here_is_refused_with_the_names_that_are_and_posts_nothing(wanted: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, _ = await served.room("alice", "bob", "carol")
            # Known to this home, and knocking: neither is in.
            await (await served.agent("dan")).whoami()
            error = await alice.refused("handoff.give", t.GiveHandoff(next="go", for_=wanted))
            assert error.code == "no_such_agent"
            assert sorted(error.details["candidates"]) == ["bob", "carol"]
            assert wanted != "bobby" or error.details["candidates"][0] == "bob"
            assert error.details["key"]
            assert (await bob.recv()).messages == []

    run(main)


def test_a_handoff_to_one_who_left_is_refused_and_a_repeat_of_one_that_was_given_is_not() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            first = await alice.handoff("go", to="bob", idempotency_key="k1")
            await bob.close()
            error = await alice.refused("handoff.give", t.GiveHandoff(next="go on", for_="bob"))
            assert (error.code, error.details["candidates"]) == ("no_such_agent", [])
            again = await alice.handoff("go", to="bob", idempotency_key="k1")
            assert (again.id, again.replayed) == (first.id, True)

    run(main)


@pytest.mark.parametrize("wanted", ["alice", "owner", "the id"])
def test_nobody_hands_the_turn_to_itself(wanted: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            who = (await alice.whoami()).id if wanted == "the id" else wanted
            error = await alice.refused("handoff.give", t.GiveHandoff(next="go", for_=who))
            assert (error.code, error.details["param"]) == ("invalid_param", "for")
            assert (await bob.recv()).messages == []

    run(main)


def test_a_message_to_someone_who_is_not_here_names_who_is() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _ = await served.room("alice", "codex@repo")
            error = await alice.refused("message.send", t.Send(text="x", to=("codex",)))
            assert (error.code, error.details["candidates"][0]) == ("no_such_agent", "codex@repo")

    run(main)


def test_a_handoff_is_done_once_for_its_key_and_refuses_what_is_too_long_or_no_name() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            first = await alice.handoff("go", idempotency_key="k1")
            assert (await alice.handoff("go", idempotency_key="k1")).replayed
            assert [message.id for message in (await bob.recv()).messages] == [first.id]
            for params, code in (
                (t.GiveHandoff(next="x" * (300 * 1024)), "text_too_long"),
                (t.GiveHandoff(next="x", summary="x" * (300 * 1024)), "text_too_long"),
                (t.GiveHandoff(next="x", for_="not a name"), "invalid_name"),
            ):
                assert (await alice.refused("handoff.give", params)).code == code
            await alice.close()
            assert (await alice.refused("handoff.give", t.GiveHandoff(next="x"))).code == "no_active_session"

    run(main)


# -- where it got to ---------------------------------------------------------------------------------------


def test_the_ladder_climbs_from_stored_to_acted_with_times_and_says_where_it_stopped() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            sent = await alice.send("one")
            began = served.world.clock.ms

            async def ladder() -> t.ReaderLadder:
                found = await alice.ask("message.why", t.Why(id=sent.id), t.WhyResult)
                (reader,) = found.readers
                return reader

            assert [(step.stage, step.at) for step in (await ladder()).stages] == [("stored", began)]
            assert "not read" in str((await ladder()).stopped)
            served.world.clock.move(seconds=1)
            page = await bob.recv()
            assert "not acknowledged" in str((await ladder()).stopped)
            served.world.clock.move(seconds=1)
            await bob.commit(page)
            served.world.clock.move(seconds=1)
            await bob.send("done", reply_to=sent.id)
            assert [(step.stage, step.at - began) for step in (await ladder()).stages] == [
                ("stored", 0),
                ("read", 1000),
                ("acknowledged", 2000),
                ("acted", 3000),
            ]
            assert (await ladder()).stopped is msgspec.UNSET

    run(main)


def test_a_reader_sees_its_own_ladder_alone_and_a_stranger_no_message() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            stranger = await served.agent("dan")
            sent = await alice.send("one")
            await bob.recv()
            assert set(await alice.why(sent.id)) == {"bob", "carol"}
            assert await carol.why(sent.id) == {"carol": ["stored"]}
            bodies = {
                msgspec.json.encode((await stranger.refused("message.why", t.Why(id=id))).body())
                for id in (sent.id, "m_none", "\u202e", "x" * 64)
            }
            assert len(bodies) == 1

    run(main)


def test_a_private_messages_ladder_names_its_readers_alone() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, bob, carol, _ = await served.room("alice", "bob", "carol", "dan")
            sent = await bob.send("x", visible_to=("carol",))
            assert await bob.why(sent.id) == {"carol": ["stored"]}
            assert await carol.why(sent.id) == {"carol": ["stored"]}

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
