"""Queues by their names: who opens one, who comes in without being invited, and what a requester sees."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from parlerd.engine.rooms import IDLE_SECONDS
from parlerd.operations import types as t
from tests.support.engine import Party, World, engine_world, gather, run, texts


async def serve(who: Party, service: str = "review") -> t.Served:
    return await who.ask("queue.serve", t.Serve(service=service), t.Served)


async def ask(who: Party, text: str, service: str = "review", **rest: Any) -> t.Sent:
    return await who.ask("message.send", t.Send(text=text, service=service, **rest), t.Sent)


async def claim(who: Party, service: str = "review") -> t.TaskHeld:
    return await who.ask("task.claim", t.ClaimTask(service=service), t.TaskHeld)


def test_the_first_who_serves_opens_the_queue_and_the_next_come_in_without_being_invited() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ann, bob = await served.agent("ann"), await served.agent("bob")
            first = await serve(ann)
            assert (first.name, first.status, first.opened) == ("review", "serving", True)
            second = await serve(bob)
            assert (second.room, second.status, second.opened) == (first.room, "serving", False)
            assert (await serve(bob)).status == (await serve(ann)).status == "already_serving"

    run(main)


def test_the_first_who_sends_opens_the_queue_too_and_the_task_waits_for_its_first_worker() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ann, bob = await served.agent("ann"), await served.agent("bob")
            sent = await ask(ann, "review PR #42")
            assert sent.opened_queue is True
            assert (await serve(bob)).open == 1
            assert (await ask(ann, "review PR #43")).opened_queue is msgspec.UNSET
            held = await claim(bob)
            assert (held.id, held.room) == (sent.id, sent.room)
            assert held.message is not None
            assert (held.message.text, held.message.kind, held.message.author.name) == ("review PR #42", "task", "ann")

    run(main)


def test_two_who_need_a_queue_in_the_same_moment_open_one() -> None:
    async def main() -> None:
        async with engine_world() as served:
            agents = [await served.agent(name) for name in ("ann", "bob", "cat")]
            found = await gather(*(lambda who=who: serve(who) for who in agents))
            assert len({each.room for each in found}) == 1
            assert sorted(each.opened for each in found) == [False, False, True]

    run(main)


def test_a_queue_is_found_again_after_a_restart() -> None:
    async def main() -> None:
        home = World()
        async with home.serving() as served:
            first = await serve(await served.agent("ann"))
        async with home.serving() as served:
            assert (await serve(await served.agent("ann"))).room == first.room
            assert (await serve(await served.agent("bob"))).room == first.room

    run(main)


def test_a_requester_reads_its_results_and_nothing_that_others_asked() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ann, bob, cat = [await served.agent(name) for name in ("ann", "bob", "cat")]
            await serve(bob)
            mine = await ask(ann, "for ann")
            assert (mine.seq, mine.at is None) == (None, False)
            other = await ask(cat, "for cat")
            for task in (mine, other):
                held = await claim(bob)
                assert held.id == task.id
                done = t.CompleteTask(id=task.id, text=f"done: {held.message.text if held.message else ''}")
                await bob.ask("task.complete", done, t.TaskHeld)
            page = await ann.recv(room="review")
            assert texts(page) == ["done: for ann"]
            (result,) = page.messages
            assert (result.kind, result.reply_to, result.author.name) == ("result", mine.id, "bob")
            assert texts(await cat.recv(room="review", all=True)) == ["done: for cat"]
            assert texts(await ann.recv(room="review", all=True)) == ["done: for ann"]
            assert (await ann.refused("message.why", t.Why(id=other.id))).code == "no_such_message"
            why = await ann.ask("message.why", t.Why(id=mine.id), t.WhyResult)
            assert isinstance(why.task, t.TaskEntry)
            assert (why.task.state, why.task.ended_by) == ("done", "bob")

    run(main)


def test_a_requester_that_serves_becomes_a_worker_and_sees_what_waits() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ann, bob, cat = [await served.agent(name) for name in ("ann", "bob", "cat")]
            await serve(bob)
            await ask(ann, "older")
            await ask(cat, "from cat")
            assert (await cat.refused("task.claim", t.ClaimTask(service="review"))).code == "not_a_worker"
            assert (await serve(cat)).status == "serving"
            held = await claim(cat)
            assert held.message is not None
            assert held.message.text == "older"

    run(main)


def test_who_is_in_no_queue_of_that_name_is_told_how_to_open_one_and_whoever_did_not_serve_how_to() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ann, bob = await served.agent("ann"), await served.agent("bob")
            error = await ann.refused("task.claim", t.ClaimTask(service="review"))
            assert (error.code, "parler serve review" in error.hint) == ("no_such_room", True)
            await serve(ann)
            assert (await bob.refused("task.claim", t.ClaimTask(service="review"))).code == "not_a_worker"

    run(main)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (t.Send(text="x", service="review", room="auth-redesign"), "invalid_param"),
        (t.Send(text="x", service="review", kind="note"), "invalid_param"),
        (t.Send(text="", service="review"), "invalid_param"),
        (t.Send(text="x", service="no blanks"), "invalid_name"),
        (t.Send(text="x", service="review@nowhere"), "home_not_trusted"),
    ],
)
def test_what_is_no_task_or_no_name_is_refused_and_opens_nothing(params: t.Send, code: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (ann,) = await served.room("ann")
            before = len(await ann.rooms())
            assert (await ann.refused("message.send", params)).code == code
            assert len(await ann.rooms()) == before

    run(main)


def test_the_same_request_twice_is_one_task() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ann, bob = await served.agent("ann"), await served.agent("bob")
            await serve(bob)
            first = await ask(ann, "once", idempotency_key="k")
            again = await ask(ann, "once", idempotency_key="k")
            assert (again.id, again.replayed, first.replayed) == (first.id, True, False)
            assert (await claim(bob)).id == first.id
            assert (await claim(bob)).id is None

    run(main)


def test_the_name_of_this_machine_may_stand_behind_the_name_of_a_queue() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ann, bob = await served.agent("ann"), await served.agent("bob")
            first = await serve(ann, "review@local")
            assert (await serve(bob)).room == first.room
            assert (await serve(bob, "review@local")).status == "already_serving"

    run(main)


def test_a_queue_is_found_without_opening_the_agents_other_rooms_again() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ann = await served.agent("ann")
            for number in range(5):
                await ann.open(f"session {number}")
            await serve(ann)
            await trio.sleep(2 * IDLE_SECONDS)
            assert served.open_rooms == 0
            await claim(ann)
            assert served.open_rooms == 1

    run(main)


def test_a_queue_that_was_closed_is_opened_anew_by_the_next_who_needs_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ann, bob = await served.agent("ann"), await served.agent("bob")
            first = await serve(ann)
            await ann.close(first.room)
            second = await serve(bob)
            assert second.opened
            assert second.room != first.room
            await bob.close(second.room)
            third = await serve(ann)
            assert third.opened
            assert third.room not in (first.room, second.room)
            assert (await ask(bob, "again")).room == third.room

    run(main)
