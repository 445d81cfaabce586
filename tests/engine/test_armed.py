"""Readers that wait with everything read: their delivery range is written with the message, never wider than a page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
import trio

from parlerd.core.model import Millis, Position
from parlerd.engine.armed import Armed
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Append, JobOutcome, MarkDelivery, NewFact, Write
from tests.support.engine import Party, Served, SlowDriver, engine_world, gather, run, settle, texts
from tests.support.facts import ANN, BEN, ROOM, left, message
from tests.support.faulty_store import FaultyStore


class Jobs(MemoryStore):
    """Remembers every job that was committed."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Sequence[Write]] = []

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        self.jobs += jobs
        return super().transact(jobs)

    def appends(self) -> list[Sequence[Write]]:
        return [job for job in self.jobs if isinstance(job[0], Append)]


def reads(jobs: Sequence[Sequence[Write]]) -> list[MarkDelivery]:
    return [write for job in jobs for write in job if isinstance(write, MarkDelivery) and write.stage == "read"]


async def waiting(served: Served, nursery: trio.Nursery, reader: Party, into: list[t.Received], **how: object) -> None:
    async def wait() -> None:
        into.append(await reader.recv(wait=50, **how))

    nursery.start_soon(wait)
    await settle()


def test_the_range_of_a_waiting_reader_is_written_in_the_commit_of_the_message_and_not_again() -> None:
    async def main() -> None:
        store = Jobs()
        got: list[t.Received] = []
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            async with trio.open_nursery() as nursery:
                await waiting(served, nursery, bob, got)
                store.jobs.clear()
                sent = await alice.send("wake up")
            (append,) = store.appends()
            (mark,) = reads([append])
            assert mark.reader == (await bob.whoami()).id
            assert reads(store.jobs) == [mark]
            assert texts(got[0]) == ["wake up"]
            assert (await alice.why(sent.id))["bob"] == ["stored", "read"]

    run(main)


def test_a_page_that_ends_behind_the_range_of_the_commit_can_be_acknowledged() -> None:
    async def main() -> None:
        got: list[t.Received] = []
        async with engine_world(driver=SlowDriver) as served:
            alice, window = await served.agent("alice"), await served.window("w")
            opened = await alice.open()
            await window.join(opened.session_key)
            await alice.approve((await window.whoami()).id)
            await window.join(opened.session_key)
            await served.acknowledge(window)
            async with trio.open_nursery() as nursery:
                await waiting(served, nursery, window, got)
                # The commit that ends the wait is followed at once by the one of what the reader itself says.
                await gather(partial(alice.send, "wake up"), partial(window.send, "meanwhile"))
            assert texts(got[0]) == ["wake up"]
            await served.acknowledge(window)
            assert texts(await window.recv()) == []

    run(main)


def test_what_a_waiting_reader_may_not_see_is_not_on_its_record() -> None:
    async def main() -> None:
        store = Jobs()
        got: list[t.Received] = []
        async with engine_world(store=store) as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            async with trio.open_nursery() as nursery:
                await waiting(served, nursery, bob, got)
                store.jobs.clear()
                await alice.send("for carol", visible_to=("carol",))
                await settle()
                assert reads(store.jobs) == []
                assert got == []
                await alice.send("for all")
            assert texts(got[0]) == ["for all"]
            assert await carol.read() == ["for carol", "for all"]

    run(main)


def test_what_ends_no_wait_is_not_on_the_record_of_a_waiting_reader() -> None:
    async def main() -> None:
        store = Jobs()
        got: list[t.Received] = []
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            await alice.call("action.register", t.RegisterAction(id="go"))
            async with trio.open_nursery() as nursery:
                await waiting(served, nursery, bob, got)
                store.jobs.clear()
                await alice.call("action.invoke", t.InvokeAction(id="go"))
                await settle()
                assert reads(store.jobs) == []
                assert got == []
                await alice.send("for all")
            assert texts(got[0]) == ["alice invoked go", "for all"]

    run(main)


def test_a_batch_of_more_than_the_reader_asked_for_is_recorded_only_as_far_as_it_is_shown() -> None:
    async def main() -> None:
        got: list[t.Received] = []
        async with engine_world(store=Jobs()) as served:
            alice, bob = await served.room("alice", "bob")
            ids: list[str] = []
            async with trio.open_nursery() as nursery:
                await waiting(served, nursery, bob, got, limit=1)

                async def send(text: str) -> None:
                    ids.append((await alice.send(text)).id)

                async with trio.open_nursery() as sending:
                    for n in range(3):
                        sending.start_soon(send, f"m{n}")
            assert len(texts(got[0])) == 1
            shown = got[0].messages[0].id
            for id in ids:
                expected = ["stored", "read"] if id == shown else ["stored"]
                assert (await alice.why(id))["bob"] == expected

    run(main)


@pytest.mark.parametrize("batches", [["m0 m1 m2"], ["m0", "m1"]], ids=["in one commit", "in the next commit"])
def test_what_comes_beyond_a_page_before_its_reader_wakes_is_not_on_the_record(batches: list[str]) -> None:
    async def main() -> None:
        got: list[t.Received] = []
        sent: list[t.Result] = []
        async with engine_world(store=Jobs()) as served:
            alice, bob = await served.room("alice", "bob")
            async with trio.open_nursery() as nursery:
                await waiting(served, nursery, bob, got, limit=1)
                pending = []
                # What is begun before anybody asks for an outcome is one batch; what is begun then is the next.
                for batch in batches:
                    begun = [served.engine.begin("message.send", t.Send(text=x), alice.caller) for x in batch.split()]
                    for one in begun:
                        assert one is not None
                        one.when_done(lambda: None)
                        pending.append(one)
                await settle()
                sent = [one.outcome() for one in pending]
            assert texts(got[0]) == ["m0"]
            stages = [(await alice.why(one.id))["bob"] for one in sent if isinstance(one, t.Sent)]
            assert stages == [["stored", "read"], *[["stored"]] * (len(pending) - 1)]

    run(main)


def test_a_commit_that_fails_records_nothing_and_the_reader_goes_on_waiting() -> None:
    async def main() -> None:
        store = FaultyStore()
        got: list[t.Received] = []
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            async with trio.open_nursery() as nursery:
                await waiting(served, nursery, bob, got)
                store.fail_next_commit("store_full")
                refused = await alice.refused("message.send", t.Send(text="lost", idempotency_key="k1"))
                assert refused.code == "store_full"
                await settle()
                assert got == []
                sent = await alice.send("lost", idempotency_key="k1")
            assert texts(got[0]) == ["lost"]
            assert (await alice.why(sent.id))["bob"] == ["stored", "read"]

    run(main)


def test_a_read_of_one_kind_is_recorded_for_what_it_showed_alone() -> None:
    async def main() -> None:
        got: list[t.Received] = []
        async with engine_world(store=Jobs()) as served:
            alice, bob = await served.room("alice", "bob")
            async with trio.open_nursery() as nursery:
                await waiting(served, nursery, bob, got, kind="task")
                other = await alice.send("chat")
                await settle()
                task = await alice.send("do it", kind="task")
            assert texts(got[0]) == ["do it"]
            assert (await alice.why(other.id))["bob"] == ["stored"]
            assert (await alice.why(task.id))["bob"] == ["stored", "read"]

    run(main)


def test_a_reader_that_is_put_out_with_the_same_commit_is_on_record_for_nothing_behind_that() -> None:
    gone = left(3, BEN)

    def marked(*facts: NewFact) -> int:
        mark = Armed(BEN, "read", Position(1), 50, 1_000, lambda header: True).mark(ROOM, facts, Millis(9))
        return 0 if mark is None else mark.upto

    assert marked(message(2), gone, message(4)) == 2
    assert marked(gone, message(4)) == 0
    # Whoever else leaves keeps nothing from this reader.
    assert marked(message(2), left(3, ANN), message(4)) == 4
