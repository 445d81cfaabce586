"""A room's line: batches, replays, and what a failed commit leaves behind."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec
import pytest
import trio
import trio.testing

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.events import Header
from parlerd.core.model import AgentId, By, KeyId, Position, RoomId
from parlerd.core.room import Room
from parlerd.engine import actor as actor_module
from parlerd.engine.actor import KNOWN_WITHIN_S, LATE_S, ActorParts, RoomActor
from parlerd.engine.authors import Admission, LocalAuthor
from parlerd.engine.rooms import fold
from parlerd.identity.signatures import Domain
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Append, JobOutcome, Past, Store, Write
from tests.support.core import Agent, open_room
from tests.support.engine import (
    CountedKeys,
    CountedRandomness,
    FarDriver,
    HandClock,
    Party,
    Served,
    SlowDriver,
    World,
    draft,
    engine_world,
    gather,
    run,
    settle,
    texts,
)
from tests.support.faulty_store import FaultyStore

CODES = ["store_full", "store_locked", "store_readonly", "store_corrupt", "store_failed"]


class CountingStore(MemoryStore):
    """Counts transactions and the facts in them."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        outcomes = super().transact(jobs)
        self.batches.append(sum(len(write.facts) for job in jobs for write in job if isinstance(write, Append)))
        return outcomes


async def errors(*calls: Callable[[], Awaitable[object]]) -> list[str]:
    """What each of some calls at the same time was answered: a code, or '' for success."""

    async def one(call: Callable[[], Awaitable[object]]) -> str:
        try:
            await call()
        except ParlerError as error:
            return error.code
        return ""

    return list(await gather(*(partial(one, call) for call in calls), overtaking=True))


async def everything(party: Party) -> list[str]:
    return texts(await party.recv(all=True))


# -- batches -----------------------------------------------------------------------------------------------


def test_commands_that_wait_together_are_one_transaction_in_the_order_they_came() -> None:
    async def main() -> None:
        store = CountingStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            store.batches.clear()
            sends = [partial(alice.send if n % 2 else bob.send, f"message {n}") for n in range(20)]
            await gather(*sends)
            # The first found the room idle; the rest waited for that commit and went together.
            assert store.batches == [1, 19]
            page = await bob.recv(all=True)
            assert texts(page)[1:] == [f"message {n}" for n in range(20)]
            assert [message.seq for message in page.messages] == list(range(1, 22))

    run(main)


def test_a_batch_is_bounded_so_the_rest_waits_for_the_next() -> None:
    async def main() -> None:
        store = CountingStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            (alice,) = await served.room("alice")
            store.batches.clear()
            await gather(*(partial(alice.send, f"{n}") for n in range(200)))
            # Each waited for the one before it to be committed.
            most = actor_module.MAX_BATCH
            assert store.batches == [1, most, 199 - most]

    run(main)


def test_a_reader_gets_its_turn_in_a_room_that_is_never_idle() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")

            async def talk() -> None:
                while True:
                    await alice.send("x")

            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    for _ in range(2 * actor_module.MAX_BATCH):
                        nursery.start_soon(talk)
                    await settle()
                    assert (await bob.roster()).keys() == {"alice", "bob"}
                    nursery.cancel_scope.cancel()

    run(main)


def test_a_room_with_too_much_waiting_refuses_more_and_says_when_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actor_module, "MAX_WAITING", 3)

    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            (alice,) = await served.room("alice")
            answers = await errors(*(partial(alice.send, f"{n}") for n in range(10)))
            # One is at the writer and three wait.
            assert answers == [""] * 4 + ["room_busy"] * 6
            assert ParlerError("room_busy").spec.retryable
            assert (await everything(alice))[1:] == ["0", "1", "2", "3"]

    run(main)


def test_a_refusal_does_not_stop_what_waits_behind_it() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            answers = await errors(
                partial(alice.send, "one"),
                partial(alice.send, "to nobody", to=("ghost",)),
                partial(bob.send, "two"),
                partial(bob.send, "to a message that is not there", reply_to="m_none"),
                partial(alice.send, "three"),
            )
            assert answers == ["", "no_such_agent", "", "no_such_message", ""]
            assert (await everything(alice))[-3:] == ["one", "two", "three"]

    run(main)


def test_a_reply_may_go_to_a_message_that_is_decided_in_the_same_batch() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            # Ids are counted, so the id of the message that is only now being written is known.
            coming = f"m_{served.world.random.ids + 2:020d}"
            _, first, reply = await gather(
                partial(alice.send, "at the writer", idempotency_key="k0"),
                partial(alice.send, "first", idempotency_key="k1"),
                partial(bob.send, "reply", idempotency_key="k2", reply_to=coming),
            )
            assert first.id == coming
            page = await alice.recv(all=True)
            assert page.messages[-1].id == reply.id
            assert page.messages[-1].reply_to == first.id

    run(main)


# -- one batch after the other -----------------------------------------------------------------------------


@pytest.fixture
def singly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command is a batch of its own."""
    monkeypatch.setattr(actor_module, "MAX_BATCH", 1)


@pytest.mark.usefixtures("singly")
def test_what_the_batch_before_stored_can_be_replied_to_and_replayed() -> None:
    async def main() -> None:
        store = CountingStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            store.batches.clear()
            coming = f"m_{served.world.random.ids + 1:020d}"
            first, reply = await gather(
                partial(alice.send, "first", idempotency_key="k1"),
                partial(bob.send, "reply", idempotency_key="k2", reply_to=coming),
            )
            assert (first.id, first.seq, reply.seq) == (coming, 2, 3)
            assert (await alice.recv(all=True)).messages[-1].reply_to == first.id
            once, again = await gather(
                partial(alice.send, "once", idempotency_key="k3"), partial(alice.send, "once", idempotency_key="k3")
            )
            assert (once.id, once.replayed, again.id, again.replayed) == (once.id, False, once.id, True)
            assert await errors(
                partial(bob.send, "a", idempotency_key="k4"), partial(bob.send, "b", idempotency_key="k4")
            ) == [
                "",
                "idempotency_conflict",
            ]
            assert (await everything(bob))[1:] == ["first", "reply", "once", "a"]
            assert await memory_equals_store(served)

    run(main)


@pytest.mark.usefixtures("singly")
@pytest.mark.parametrize("code", CODES)
def test_a_batch_that_failed_costs_those_that_wait_behind_it_nothing(code: str) -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)
            store.fail_next_commit(code)
            answers = await errors(
                partial(alice.send, "one", idempotency_key="k1"),
                partial(bob.send, "two", idempotency_key="k1"),
                partial(alice.send, "one after all", idempotency_key="k1"),
            )
            # The last is no conflict: when it was decided, nobody had used its key.
            assert answers == [code, "", ""]
            assert await everything(bob) == [*before, "two", "one after all"]
            assert await memory_equals_store(served)

    run(main)


@pytest.mark.usefixtures("singly")
def test_a_commit_that_fails_behind_a_good_one_leaves_that_one_alone() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)
            store.fail_commit_number(store.commits + 2)
            answers = await errors(*(partial(alice.send, text) for text in ("one", "two", "three")))
            assert answers == ["", "store_full", ""]
            assert await everything(bob) == [*before, "one", "three"]
            assert await memory_equals_store(served)
            assert (await bob.send("four")).seq == 4

    run(main)


@pytest.mark.usefixtures("singly")
def test_a_fault_of_ours_behind_a_batch_at_the_writer_costs_that_one_nothing() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)

            def broken(count: int) -> bytes:
                raise KeyError(count)

            async def fault() -> None:
                served.world.random.bytes = broken  # type: ignore[method-assign]
                with pytest.raises(ParlerError, check=lambda error: error.code == "internal"):
                    await bob.send("two")

            working = served.world.random.bytes
            await gather(partial(alice.send, "one"), fault)
            served.world.random.bytes = working  # type: ignore[method-assign]
            assert await everything(bob) == [*before, "one"]
            assert await memory_equals_store(served)
            assert (await bob.send("three")).seq == 3

    run(main)


@pytest.mark.usefixtures("singly")
def test_a_snapshot_is_of_what_is_stored_in_a_room_that_is_never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_module, "SNAPSHOT_EVERY", 10)

    async def main() -> None:
        store = FaultyStore()
        async with trio.open_nursery() as nursery:
            actor, owner = await one_actor(nursery, store, CountedKeys())
            commands = [
                c.PostMessage(kind="text", operation="message.send", idempotency_key=f"k{n}", input=b"i")
                for n in range(45)
            ]
            await gather(*(partial(actor.submit, command, by(owner), draft()) for command in commands))
            snapshot = store.snapshot(RoomId("r_1"))
            assert snapshot is not None
            assert snapshot.position >= 40
            restored, _ = fold(store, RoomId("r_1"), Room, Room.restore)
            assert restored.state == actor.aggregate.state
            actor.close()

    run(main)


# -- idempotency -------------------------------------------------------------------------------------------


def test_the_same_request_twice_in_one_batch_is_done_once() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            _, first, second = await gather(
                partial(alice.send, "at the writer"),
                partial(alice.send, "once", idempotency_key="k1"),
                partial(alice.send, "once", idempotency_key="k1"),
            )
            assert (first.id, first.seq, first.at) == (second.id, second.seq, second.at)
            assert (first.replayed, second.replayed) == (False, True)
            assert (await everything(bob)).count("once") == 1

    run(main)


def test_the_same_key_with_another_input_is_a_conflict_in_one_batch_and_later() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            (alice,) = await served.room("alice")
            assert await errors(
                partial(alice.send, "at the writer"),
                partial(alice.send, "a", idempotency_key="k1"),
                partial(alice.send, "b", idempotency_key="k1"),
            ) == ["", "", "idempotency_conflict"]
            assert (
                await alice.refused("message.send", t.Send(text="c", idempotency_key="k1"))
            ).code == "idempotency_conflict"
            assert await everything(alice) == ["Chose PKCE.", "at the writer", "a"]

    run(main)


def test_a_key_belongs_to_its_author_and_operation() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            assert not (await alice.send("hers", idempotency_key="k1")).replayed
            assert not (await bob.send("his", idempotency_key="k1")).replayed
            assert not (await alice.handoff("go on", idempotency_key="k1")).replayed

    run(main)


# -- cancelled callers -------------------------------------------------------------------------------------


def test_a_caller_that_gives_up_while_it_waits_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")

            async def give_up() -> None:
                with trio.move_on_after(0.5) as scope:
                    await alice.send("never")
                assert scope.cancelled_caught

            async with trio.open_nursery() as nursery:
                nursery.start_soon(bob.send, "at the writer")
                await settle()
                nursery.start_soon(give_up)
            assert await everything(bob) == ["Chose PKCE.", "at the writer"]
            assert (await alice.send("later")).seq == 3

    run(main)


def test_a_caller_that_gives_up_during_the_commit_finds_its_message_with_the_same_key() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            with trio.move_on_after(0.5) as scope:
                await alice.send("kept", idempotency_key="k1")
            assert scope.cancelled_caught
            again = await alice.send("kept", idempotency_key="k1")
            assert again.replayed
            assert (await everything(bob)).count("kept") == 1

    run(main)


# -- a failed commit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_every_caller_of_a_batch_that_could_not_be_committed_gets_the_code_and_a_retry_succeeds_once(code: str) -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)

            async def at_the_writer() -> None:
                await bob.send("went well")
                store.fail_next_commit(code)

            answers = await errors(
                at_the_writer,
                partial(alice.send, "one", idempotency_key="k1"),
                partial(bob.send, "two", idempotency_key="k2"),
                partial(alice.send, "to nobody", to=("ghost",), idempotency_key="k3"),
            )
            # Also the refused one: it was decided over facts that never happened.
            assert answers == ["", code, code, code]
            before = [*before, "went well"]
            assert await everything(bob) == before
            assert await memory_equals_store(served)

            again = await gather(
                partial(alice.send, "one", idempotency_key="k1"), partial(bob.send, "two", idempotency_key="k2")
            )
            assert not any(sent.replayed for sent in again)
            assert (await alice.send("one", idempotency_key="k1")).replayed
            assert await everything(bob) == [*before, "one", "two"]
            assert await memory_equals_store(served)

    run(main)


def test_reads_go_on_while_nothing_can_be_written() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            store.fail_next_commit("store_full", times=3)
            for _ in range(3):
                assert (await alice.refused("message.send", t.Send(text="x"))).code == "store_full"
                assert (await bob.recv()).messages == []
                assert [room.name for room in await bob.rooms()] == ["auth-redesign"]
                assert set(await bob.roster()) == {"alice", "bob"}
            assert (await alice.send("x")).seq == 2

    run(main)


def test_a_refusal_that_rested_on_facts_that_were_lost_is_not_given() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(driver=SlowDriver, store=store) as served:
            (alice,) = await served.room("alice")

            async def at_the_writer() -> None:
                await alice.send("went well")
                store.fail_next_commit("store_locked")

            answers = await errors(
                at_the_writer,
                partial(alice.send, "one", idempotency_key="k1"),
                partial(alice.send, "two", idempotency_key="k1"),
            )
            # `idempotency_conflict` would be untrue: nobody had used the key.
            assert answers == ["", "store_locked", "store_locked"]
            assert not (await alice.send("two", idempotency_key="k1")).replayed

    run(main)


def test_a_room_that_cannot_even_be_read_again_answers_with_the_fault_and_recovers_with_the_store() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)
            store.fail_next_commit("store_full")
            store.unreadable = "store_corrupt"
            error = await alice.refused("message.send", t.Send(text="one", idempotency_key="k1"))
            assert (error.code, error.details["key"]) == ("store_full", "k1")
            # What memory holds now never happened: nobody may be shown it.
            assert (await bob.refused("rooms.roster", t.Roster())).code == "store_corrupt"
            store.unreadable = None
            assert await everything(bob) == before
            assert not (await alice.send("one", idempotency_key="k1")).replayed
            assert await memory_equals_store(served)

    run(main)


def test_a_home_room_that_cannot_be_read_again_recovers_with_the_store() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            await alice.whoami()
            store.fail_next_commit("store_full")
            store.unreadable = "store_corrupt"
            assert (await bob.refused("agent.whoami", t.WhoAmI())).code == "store_full"
            store.unreadable = None
            await trio.sleep(5)
            assert (await bob.whoami()).name == "bob"
            opened = await alice.open()
            await served.admit(opened, bob)

    run(main)


def test_a_fault_of_ours_in_one_batch_is_answered_and_logged_without_what_was_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            canary = "canary-" + "text"

            def broken(count: int) -> bytes:
                raise KeyError(canary)

            # A nonce is drawn when a message is signed, in its batch.
            working, served.world.random.bytes = served.world.random.bytes, broken  # type: ignore[method-assign]
            error = await alice.refused("message.send", t.Send(text=canary, idempotency_key="k1"))
            assert error.code == "internal"
            served.world.random.bytes = working  # type: ignore[method-assign]
            assert (await alice.send("fine", idempotency_key="k1")).seq == 2
            assert await memory_equals_store(served)

    with caplog.at_level(logging.DEBUG):
        run(main)
    assert "could not be decided" in caplog.text
    assert "canary-text" not in caplog.text


def test_a_message_that_cannot_be_signed_fails_alone() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            served.world.keys.forget((await alice.whoami()).id)
            assert (await alice.refused("message.send", t.Send(text="w"))).code == "no_such_agent"
            answers = await errors(*(partial(who.send, "x") for who in (bob, bob, alice, bob)))
            assert answers == ["", "", "no_such_agent", ""]
            assert (await bob.send("y")).seq == 5
            assert await memory_equals_store(served)

    run(main)


class Mistaken(CountedKeys):
    """Signs something else than it is asked to."""

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        return super().sign(id, domain, data + b"!" if domain == "parler/message" else data)


@pytest.mark.parametrize(("keys", "verified"), [(CountedKeys, "valid"), (Mistaken, "invalid")])
def test_a_message_is_valid_only_where_its_signature_is(keys: type[CountedKeys], verified: str) -> None:
    async def main() -> None:
        async with engine_world(keys=keys()) as served:
            alice, bob = await served.room("alice", "bob")
            for text in ("x", "y"):
                await alice.send(text)
            page = await bob.recv()
            assert [(str(message.text), message.verified) for message in page.messages] == [
                ("x", verified),
                ("y", verified),
            ]

    run(main)


async def memory_equals_store(served: Served) -> bool:
    """Whether each open room is in memory what its log folds to."""
    desk, store = served.engine._desk, served.world.store
    for room in store.rooms():
        actor = desk.rooms.open_actor(room)
        if actor is not None:
            folded, _ = fold(store, room, Room, Room.restore)
            if (await actor.quiet()).state != folded.state:
                return False
    return True


# -- what a batch needs of the past ------------------------------------------------------------------------


def test_a_store_over_a_network_is_asked_once_for_a_batch_and_not_at_all_for_words_that_need_no_past() -> None:
    async def main() -> None:
        async with engine_world(driver=FarDriver) as served:
            alice, bob = await served.room("alice", "bob")
            driver = served.driver
            assert isinstance(driver, FarDriver)
            first = await alice.send("first", idempotency_key="k1")
            driver.looks = 0
            await alice.send("no key and no reply")
            assert driver.looks == 0
            # Ids are counted: each request draws one for its message, and the first draws one for its thread too.
            coming = f"m_{served.world.random.ids + 4:020d}"
            answers = await errors(
                partial(bob.send, "asks on its own", idempotency_key="k0"),
                partial(alice.send, "first", idempotency_key="k1"),
                partial(alice.send, "another", idempotency_key="k1"),
                partial(bob.send, "reply", idempotency_key="k2", reply_to=first.id),
                partial(bob.send, "reply to one that is on its way", idempotency_key="k3", reply_to=coming),
                partial(bob.send, "reply to nothing", idempotency_key="k4", reply_to="m_none"),
            )
            assert answers == ["", "", "idempotency_conflict", "", "", "no_such_message"]
            assert driver.looks == 3, "one for the first, one for all that waited meanwhile, one for what k1 led to"
            page = await alice.recv(all=True)
            assert [message.reply_to for message in page.messages[-2:]] == [first.id, coming]
            assert await memory_equals_store(served)

    run(main)


def test_a_past_that_cannot_be_read_is_the_error_of_that_batch_alone() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            working = store.past

            def unreadable(*_: object) -> Past:
                store.past = working  # type: ignore[method-assign]
                raise StoreError("store_failed")

            store.past = unreadable  # type: ignore[method-assign, assignment]
            error = await alice.refused("message.send", t.Send(text="one", idempotency_key="k1"))
            assert error.code == "store_failed"
            assert not (await alice.send("one", idempotency_key="k1")).replayed
            assert await everything(bob) == ["Chose PKCE.", "one"]
            assert await memory_equals_store(served)

    run(main)


# -- a batch whose log moved on, or whose answer was lost ----------------------------------------------------


def test_a_batch_that_finds_the_log_moved_on_is_decided_again_and_its_callers_hear_nothing_of_it() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)
            store.refuse_next_appends()
            answers = await errors(
                partial(alice.send, "one", idempotency_key="k1"),
                partial(bob.send, "to nobody", to=("ghost",)),
                partial(bob.send, "two"),
                partial(alice.send, "another one", idempotency_key="k1"),
            )
            assert answers == ["", "no_such_agent", "", "idempotency_conflict"]
            assert (await alice.send("one", idempotency_key="k1")).replayed
            assert await everything(bob) == [*before, "one", "two"]
            assert await memory_equals_store(served)
            assert (await bob.send("three")).seq == 4

    run(main)


def test_a_batch_that_finds_the_log_moved_on_twice_gives_up_with_an_error_that_may_be_retried() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)
            store.refuse_next_appends(2)
            error = await alice.refused("message.send", t.Send(text="one", idempotency_key="k1"))
            assert (error.code, error.spec.retryable) == ("stale_position", True)
            assert not (await alice.send("one", idempotency_key="k1")).replayed
            assert await everything(bob) == [*before, "one"]
            assert await memory_equals_store(served)

    run(main)


def test_a_room_that_another_writer_moved_on_is_decided_over_what_that_one_wrote() -> None:
    async def main() -> None:
        store = MemoryStore()
        told: list[Position] = []
        async with trio.open_nursery() as nursery:
            keys = CountedKeys()
            actor, owner = await one_actor(nursery, store, keys, told=told)
            other = second_actor(nursery, store, keys)
            message = c.PostMessage(kind="text", operation="message.send", idempotency_key="k1", input=b"i")
            theirs = await other.submit(message, by(owner), draft())
            told.clear()
            # The same request, sent to both: the one that came late is a replay of the other's.
            late = actor.place(message, by(owner), draft())
            new = actor.place(msgspec.structs.replace(message, idempotency_key="k2"), by(owner), draft())
            async with trio.open_nursery() as callers:
                callers.start_soon(late.result)
                callers.start_soon(new.result)
                callers.start_soon(actor.quiet)
            assert late.outcome().decision.replay == theirs.facts[0].position
            (fact,) = new.outcome().facts
            assert isinstance(fact.event, e.MessagePosted)
            assert (fact.position, fact.event.counter) == (theirs.facts[0].position + 1, 2)
            # Who waits here hears of the other's fact as well.
            assert told == [theirs.facts[0].position, fact.position]
            assert actor.aggregate.state == fold(store, RoomId("r_1"), Room, Room.restore)[0].state
            actor.close()
            other.close()

    run(main)


def test_a_room_hears_of_what_happened_behind_it_by_the_replay_of_that_alone() -> None:
    """A commit whose answer was lost may happen after the log was looked at. Whoever asked asks again, which appends
    nothing: all the same those who wait in this room hear of the fact, and memory holds it."""

    async def main() -> None:
        store = MemoryStore()
        told: list[Position] = []
        async with trio.open_nursery() as nursery:
            keys = CountedKeys()
            actor, owner = await one_actor(nursery, store, keys, told=told)
            other = second_actor(nursery, store, keys)
            message = c.PostMessage(kind="text", operation="message.send", idempotency_key="k1", input=b"i")
            (late,) = (await other.submit(message, by(owner), draft())).facts
            told.clear()
            again = await actor.submit(message, by(owner), draft())
            assert (again.decision.replay, told) == (late.position, [late.position])
            assert actor.aggregate.state == fold(store, RoomId("r_1"), Room, Room.restore)[0].state
            # Behind it there is nothing more to hear of.
            await actor.submit(message, by(owner), draft())
            assert told == [late.position]
            actor.close()
            other.close()

    run(main)


def test_a_batch_of_which_nothing_is_left_when_it_is_decided_again_lets_the_next_one_begin() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with trio.open_nursery() as nursery:
            keys = CountedKeys()
            actor, owner = await one_actor(nursery, store, keys)
            other = second_actor(nursery, store, keys)
            await other.submit(c.CloseRoom(operation="session.close"), by(owner))
            answers = await errors(
                *(
                    partial(actor.submit, c.PostMessage(kind="text", operation="message.send"), by(owner), draft())
                    for _ in range(3)
                )
            )
            # The first meets the log that moved on; the others waited for it.
            assert answers == ["room_closed"] * 3
            actor.close()
            other.close()

    run(main)


@pytest.mark.parametrize("happened", [True, False])
def test_when_a_commits_answer_is_lost_the_log_tells_and_nothing_is_done_twice(happened: bool) -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)
            store.lose_next_answer(happened=happened)
            page: list[str] = []

            async def wait() -> None:
                page.extend(texts(await bob.recv(wait=20)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                answers = await errors(partial(alice.send, "one", idempotency_key="k1"))
                assert answers == ([""] if happened else ["store_failed"])
                assert await memory_equals_store(served)
                again = await alice.send("one", idempotency_key="k1")
                assert again.replayed is happened
            assert page == ["one"]
            assert await everything(bob) == [*before, "one"]
            assert await memory_equals_store(served)

    run(main)


@pytest.mark.parametrize("looks", [True, False])
def test_a_commit_that_happens_after_the_log_was_asked_is_found_by_who_looks_and_else_by_the_room(
    looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)
            page: list[str] = []
            came: list[float] = []

            async def wait() -> None:
                page.extend(texts(await bob.recv(wait=3 * LATE_S)))
                came.append(trio.current_time())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                store.lose_next_answer(happened=False)
                assert await errors(partial(alice.send, "one", idempotency_key="k1")) == ["store_failed"]
                asked_at = trio.current_time()
                await trio.sleep(5)
                store.happen_late()
                if looks:
                    # Nobody asks about that message, and nobody writes anything.
                    await alice.whoami()
                    await alice.roster()
            assert page == ["one"]
            assert came[0] - asked_at < (10 if looks else LATE_S + 5)
            assert await memory_equals_store(served)
            assert await everything(bob) == [*before, "one"]
            # Behind the last look nothing is looked for any more.
            await trio.sleep(2 * LATE_S)
            looked, facts = list[Position](), store.facts

            def counted(room: RoomId, after: Position, limit: int) -> list[Header]:
                looked.append(after)
                return facts(room, after, limit)

            monkeypatch.setattr(store, "facts", counted)
            await alice.roster()
            await trio.sleep(2 * LATE_S)
            assert looked == []

    run(main)


def test_while_nobody_can_tell_whether_a_commit_happened_its_callers_are_told_just_that() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)
            store.lose_next_answer(happened=True)
            store.unreadable = "store_failed"
            error = await alice.refused("message.send", t.Send(text="one", idempotency_key="k1"))
            assert (error.code, error.spec.retryable) == ("store_unknown", True)
            store.unreadable = None
            assert (await alice.send("one", idempotency_key="k1")).replayed
            assert await everything(bob) == [*before, "one"]

    run(main)


@pytest.mark.parametrize("happened", [True, False])
def test_nobody_is_answered_before_a_store_that_was_lost_is_reached_again_and_tells(happened: bool) -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)
            store.lose_next_answer(happened=happened)
            store.unreadable = "store_unreachable"
            answers: list[str] = []

            async def send(text: str) -> None:
                answers.extend(await errors(partial(alice.send, text, idempotency_key=text)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, "one")
                await trio.sleep(2)
                # The batch with "one" is lost; this comes behind it.
                nursery.start_soon(send, "two")
                await trio.sleep(KNOWN_WITHIN_S / 2)
                assert answers == []
                store.unreadable = None
            assert answers == (["", ""] if happened else ["store_failed", ""])
            expected = ["one", "two"] if happened else ["two"]
            assert await everything(bob) == [*before, *expected]
            assert await memory_equals_store(served)

    run(main)


def test_while_the_log_stays_out_of_reach_who_was_in_no_batch_hears_that_nothing_was_stored() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            alice, bob = await served.room("alice", "bob")
            before = await everything(bob)
            store.lose_next_answer(happened=True)
            store.unreadable = "store_unreachable"
            answers: dict[str, str] = {}
            began = trio.current_time()

            async def send(text: str, after: float) -> None:
                await trio.sleep(after)
                [answers[text]] = await errors(partial(alice.send, text, idempotency_key=text))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, "one", 0)
                nursery.start_soon(send, "two", 2)
            assert answers == {"one": "store_unknown", "two": "store_unreachable"}
            assert trio.current_time() - began < KNOWN_WITHIN_S + 3
            store.unreadable = None
            assert [(await alice.send(text, idempotency_key=text)).replayed for text in ("one", "two")] == [True, False]
            assert await everything(bob) == [*before, "one", "two"]
            assert await memory_equals_store(served)

    run(main)


# -- a single actor ----------------------------------------------------------------------------------------


PERSON = CountedKeys().principal
"""Whom every ring of counted keys belongs to."""


def by(name: str) -> By:
    return By(AgentId(name), PERSON, session="s", host="h", via="cli")


def opening(room: str, owner: str) -> c.OpenRoom:
    who = Agent(AgentId(owner), PERSON, "olive")
    return open_room(who, room=RoomId(room), key=KeyId("key"), name="n", topic="t", expires_at=2**52, max_uses=5)


def context_of(store: Store, keys: CountedKeys, told: list[Position]) -> ActorParts:
    random = CountedRandomness()
    return ActorParts(
        driver=SlowDriver(store),
        clock=HandClock(),
        random=random,
        author=LocalAuthor(keys, random),
        admission=Admission(),
        publish=lambda room, facts: told.extend(header.position for header in facts),
        holds=lambda token: True,
    )


async def one_actor(
    nursery: trio.Nursery, store: Store, keys: CountedKeys, *, told: list[Position] | None = None
) -> tuple[RoomActor[Room], str]:
    """A room and its owner; `told` gathers the positions of the facts that it publishes."""
    owner = keys.create_agent()
    context = context_of(store, keys, [] if told is None else told)
    room = RoomId("r_1")
    actor = RoomActor(room, Room(), context, lambda store: fold(store, room, Room, Room.restore))
    nursery.start_soon(actor.run)
    await actor.submit(opening("r_1", owner), by(owner), draft())
    return actor, owner


def second_actor(nursery: trio.Nursery, store: Store, keys: CountedKeys) -> RoomActor[Room]:
    """Another writer of the same room, as it stands in the store now."""
    room = RoomId("r_1")
    folded, _ = fold(store, room, Room, Room.restore)
    context = context_of(store, keys, [])
    for _ in range(50):
        context.random.new("m")  # its ids are others than the first writer's
    actor = RoomActor(room, folded, context, lambda store: fold(store, room, Room, Room.restore))
    nursery.start_soon(actor.run)
    return actor


def test_closing_finishes_what_waits_keeps_a_snapshot_and_refuses_more() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with trio.open_nursery() as nursery:
            actor, owner = await one_actor(nursery, store, CountedKeys())
            done: list[Position] = []

            async def post(n: int) -> None:
                settled = await actor.submit(
                    c.PostMessage(kind="text", operation="message.send", idempotency_key=f"k{n}", input=b"i"),
                    by(owner),
                    draft(),
                )
                done.append(settled.facts[0].position)

            async def close() -> None:
                actor.close()
                await trio.lowlevel.checkpoint()

            await gather(*(partial(post, n) for n in range(5)), close)
            assert sorted(done) == [4, 5, 6, 7, 8]
            with pytest.raises(ParlerError, match="draining"):
                await actor.submit(c.PostMessage(kind="text"), by(owner), draft())
        snapshot = store.snapshot(RoomId("r_1"))
        assert snapshot is not None
        assert snapshot.position == store.head(RoomId("r_1")).position

    run(main)


def test_a_room_that_closes_finishes_also_what_nobody_asked_about() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            actor, owner = await one_actor(nursery, MemoryStore(), CountedKeys())
            placed = actor.place(c.PostMessage(kind="text"), by(owner), draft())
            actor.close()
        assert placed.outcome().facts

    run(main)


def test_a_room_that_closes_ends_also_when_the_last_command_in_its_line_is_given_up() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            actor, owner = await one_actor(nursery, MemoryStore(), CountedKeys())

            async def give_up(scope: trio.CancelScope) -> None:
                with scope:
                    await actor.submit(c.PostMessage(kind="text"), by(owner), draft())

            scope = trio.CancelScope()
            async with trio.open_nursery() as callers:
                first = actor.place(c.PostMessage(kind="text"), by(owner), draft())
                first.when_done(scope.cancel)
                callers.start_soon(give_up, scope)
                # Nothing more begins while somebody is about to look at the room.
                callers.start_soon(actor.quiet)
                await trio.testing.wait_all_tasks_blocked()
                actor.close()
            assert first.done
            assert scope.cancelled_caught

    run(main)


def test_a_long_room_keeps_a_snapshot_as_it_goes_and_a_failed_one_costs_nobody_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actor_module, "SNAPSHOT_EVERY", 10)

    async def main() -> None:
        store = FaultyStore()
        async with trio.open_nursery() as nursery:
            actor, owner = await one_actor(nursery, store, CountedKeys())

            async def post(n: int) -> None:
                command = c.PostMessage(kind="text", operation="message.send", idempotency_key=f"k{n}", input=b"i")
                await actor.submit(command, by(owner), draft())

            for n in range(12):
                await post(n)
            await settle()
            first = store.snapshot(RoomId("r_1"))
            assert first is not None
            assert first.position == 10
            for n in range(12, 16):
                await post(n)
            # Position 20 comes next: its batch is committed, the snapshot right after it is not.
            commits = store.commits
            store.fail_commit_number(commits + 2)
            await post(16)
            await post(17)
            await settle()
            assert store.snapshot(RoomId("r_1")) == first
            for n in range(18, 30):
                await post(n)
            await settle()
            latest = store.snapshot(RoomId("r_1"))
            assert latest is not None
            assert latest.position > first.position
            restored, _ = fold(store, RoomId("r_1"), Room, Room.restore)
            assert restored.state == actor.aggregate.state
            actor.close()

    run(main)


def test_who_waited_to_look_at_a_room_that_is_beyond_reading_is_shown_nothing_that_never_happened() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with trio.open_nursery() as nursery:
            actor, owner = await one_actor(nursery, store, CountedKeys())
            store.fail_next_commit("store_full")
            store.unreadable = "store_corrupt"
            looked: list[str] = []
            never_stored = c.PostMessage(kind="text", operation="message.send")

            async def look() -> None:
                try:
                    looked.append(f"shown up to {(await actor.quiet()).position}")
                except StoreError as error:
                    looked.append(error.code)

            async with trio.open_nursery() as looking:
                looking.start_soon(errors, partial(actor.submit, never_stored, by(owner), draft()))
                await settle()
                looking.start_soon(look)
            assert looked == ["store_failed"]

    run(main)


def test_a_room_with_facts_of_a_newer_parler_is_read_only() -> None:
    async def main() -> None:
        keys = CountedKeys()
        owner = keys.create_agent()
        context = context_of(MemoryStore(), keys, [])
        actor = RoomActor(RoomId("r_1"), Room(), context, lambda store: (Room(), True), frozen=True)
        with pytest.raises(ParlerError, match="newer_log"):
            await actor.submit(opening("r_1", owner), by(owner), draft())
        assert (await actor.quiet()).position == 0

    run(main)


def test_time_in_a_room_goes_on_while_the_clock_stands_behind_it() -> None:
    async def main() -> None:
        async with World().serving() as served:
            (alice,) = await served.room("alice")
            first = (await alice.send("one")).at
            assert first is not None
            served.world.clock.move(seconds=-3600)
            await trio.sleep(5)
            assert (await alice.send("two")).at == first + 5_000
            await trio.sleep(7)
            assert (await alice.send("three")).at == first + 12_000

    run(main)


def test_time_in_a_room_never_goes_back() -> None:
    async def main() -> None:
        async with World().serving() as served:
            (alice,) = await served.room("alice")
            first = (await alice.send("one")).at
            assert first is not None
            served.world.clock.move(seconds=-3600)
            assert (await alice.send("two")).at == first
            served.world.clock.move(seconds=7200)
            assert (await alice.send("three")).at == first + 3600_000
            await settle()

    run(main)


def test_what_came_by_a_token_that_ended_while_it_was_in_line_is_refused_alone() -> None:
    async def main() -> None:
        held = {"tk_1"}
        keys, store = CountedKeys(), MemoryStore()
        owner = keys.create_agent()
        context = dataclasses.replace(context_of(store, keys, []), holds=held.__contains__)
        room = RoomId("r_1")
        actor = RoomActor(room, Room(), context, lambda store: fold(store, room, Room, Room.restore))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(actor.run)
            await actor.submit(opening("r_1", owner), by(owner), draft())
            with_token = msgspec.structs.replace(by(owner), session="tk_1", via="http")
            post = c.PostMessage(kind="text", operation="message.send")
            assert (await actor.submit(post, with_token, draft())).facts
            late, without = actor.place(post, with_token, draft()), actor.place(post, by(owner), draft())
            held.clear()
            with pytest.raises(Refused, match="token_invalid"):
                await late.result()
            assert (await without.result()).facts
            actor.close()

    run(main)
