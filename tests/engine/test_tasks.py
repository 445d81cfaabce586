"""Claiming, holding, giving back and ending tasks, as the engine answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from tests.support.engine import Party, Served, SteppedClock, World, engine_world, gather, run, settle, texts

LEASE_S = 300.0


def world() -> World:
    """A home whose wall clock goes with the loop's."""
    return World(clock=SteppedClock(), store=MemoryStore())


async def claim(who: Party, id: str | None = None, **rest: Any) -> t.TaskHeld:
    return await who.ask("task.claim", t.ClaimTask(id=id, **rest), t.TaskHeld)


async def complete(who: Party, id: str, result: str = "", **rest: Any) -> t.TaskHeld:
    return await who.ask("task.complete", t.CompleteTask(id=id, text=result, **rest), t.TaskHeld)


async def task(who: Party, text: str = "review PR #42") -> str:
    return (await who.send(text, kind="task")).id


async def together(served: Served) -> tuple[Party, Party, Party]:
    ann, bob, cat = await served.room("ann", "bob", "cat")
    return ann, bob, cat


def test_a_task_in_any_session_is_claimed_by_its_number_or_its_id_and_ended_with_a_result() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, _ = await together(served)
            id = await task(ann)
            held = await claim(bob)
            assert (held.id, held.status, held.name) == (id, "claimed", "auth-redesign")
            assert held.message is not None
            assert held.message.seq > 0
            again = await claim(bob, str(held.message.seq))
            assert (again.status, again.fence, again.lease_until) == ("already_yours", held.fence, held.lease_until)
            done = await complete(bob, id, "approved", fence=held.fence)
            assert (done.status, done.lease_until, done.fence) == ("done", None, None)
            page = await ann.recv()
            assert [(m.kind, m.text, m.reply_to, m.to) for m in page.messages] == [("result", "approved", id, ["ann"])]
            assert (await claim(bob)).id is None

    run(main)


def test_a_claim_waits_for_a_task_and_gets_it_in_the_moment_in_which_it_is_posted() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, _ = await together(served)

            async def later() -> t.TaskHeld:
                await trio.sleep(5)
                await task(ann)
                return t.TaskHeld(id="", lease_until=0, fence=0, message=None, status="none", room="")

            held, _ = await gather(lambda: claim(bob, wait_ms=60_000), later)
            assert held.status == "claimed"
            assert trio.current_time() < 10

    run(main)


def test_a_claim_that_waits_in_vain_answers_that_there_is_nothing() -> None:
    async def main() -> None:
        async with world().serving() as served:
            _, bob, _ = await together(served)
            held = await claim(bob, wait_ms=5_000)
            assert (held.id, held.fence, held.lease_until, held.message) == (None, None, None, None)
            assert held.status == "none"

    run(main)


def test_fifty_claims_in_the_same_moment_get_fifty_tasks() -> None:
    async def main() -> None:
        async with engine_world() as served:
            names = [f"worker-{n}" for n in range(50)]
            workers = [await served.agent(name) for name in names]
            for who in workers:
                await who.ask("queue.serve", t.Serve(service="build"), t.Served)
            ids = [
                (await workers[0].ask("message.send", t.Send(text=f"{n}", service="build"), t.Sent)).id
                for n in range(50)
            ]
            found = await gather(*(lambda who=who: claim(who, service="build") for who in workers))
            assert sorted(each.id or "" for each in found) == sorted(ids)
            assert len({each.fence for each in found}) == 50

    run(main)


def test_a_claim_is_the_last_rung_of_the_ladder_of_its_task() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, _ = await together(served)
            id = await task(ann)
            await claim(bob)
            assert (await ann.why(id))["bob"][-1] == "acted"
            found = await ann.ask("message.why", t.Why(id=id), t.WhyResult)
            assert isinstance(found.task, t.TaskEntry)
            assert (found.task.state, found.task.holder) == ("claimed", "bob")
            await complete(bob, id)
            found = await ann.ask("message.why", t.Why(id=id), t.WhyResult)
            assert isinstance(found.task, t.TaskEntry)
            assert (found.task.state, found.task.holder, found.task.ended_by) == ("done", None, "bob")

    run(main)


def test_a_repeated_claim_answers_the_same_until_it_is_lost() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, cat = await together(served)
            id = await task(ann)
            first = await claim(bob, idempotency_key="k")
            assert await claim(bob, idempotency_key="k") == first
            await bob.ask("task.release", t.ReleaseTask(id=id), t.TaskHeld)
            await claim(cat)
            error = await bob.refused("task.claim", t.ClaimTask(idempotency_key="k"))
            assert (error.code, error.details["holder"]) == ("claim_lost", "cat")

    run(main)


def test_a_released_task_is_for_the_next() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, cat = await together(served)
            id = await task(ann)
            await claim(bob)
            error = await cat.refused("task.claim", t.ClaimTask(id=id))
            assert (error.code, error.details["holder"]) == ("already_claimed", "bob")
            given = await bob.ask("task.release", t.ReleaseTask(id=id), t.TaskHeld)
            assert (given.status, given.lease_until) == ("open", None)
            assert (await claim(cat)).id == id

    run(main)


def test_a_result_that_comes_too_late_is_refused_says_who_has_the_task_and_stays_readable() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, cat = await together(served)
            id = await task(ann)
            old = await claim(bob, lease_ms=60_000)
            await trio.sleep(61)
            new = await claim(cat)
            late = t.CompleteTask(id=id, fence=old.fence or 0, text="I was slow", idempotency_key="late")
            error = await bob.refused("task.complete", late)
            assert (error.code, error.details["holder"], error.details["fence"]) == ("claim_lost", "cat", new.fence)
            again = await bob.refused("task.complete", late)
            assert (again.code, again.details["result"]) == ("claim_lost", error.details["result"])
            (kept,) = [each for each in (await cat.recv(all=True)).messages if each.kind == "late-result"]
            assert (kept.text, kept.author.name, kept.id) == ("I was slow", "bob", error.details["result"])
            assert (await complete(cat, id, "quick", fence=new.fence)).status == "done"

    run(main)


def test_a_status_is_noted_renews_the_claim_and_wakes_nobody() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, _ = await together(served)
            id = await task(ann)
            first = await claim(bob)
            await trio.sleep(100)
            said = await bob.ask("task.say", t.SayOfTask(status="working", text="reading"), t.TaskHeld)
            assert (said.id, said.status, said.fence) == (id, "working", first.fence)
            assert said.lease_until == (first.lease_until or 0) + 100_000

            woken: list[str] = []

            async def wait() -> None:
                woken.extend(texts(await ann.recv(wait=1000)))

            await ann.read()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                await bob.ask("task.say", t.SayOfTask(status="awaiting", text="a key"), t.TaskHeld)
                await settle()
                assert woken == []
                await bob.ask("task.say", t.SayOfTask(status="failed", text="no access"), t.TaskHeld)
            assert woken == ["a key", "no access"]

    run(main)


def test_who_holds_several_tasks_has_to_name_the_one_that_is_meant() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, _ = await together(served)
            assert (await bob.refused("task.say", t.SayOfTask(status="done"))).code == "no_such_task"
            ids = [await task(ann, text) for text in ("one", "two")]
            await claim(bob), await claim(bob)
            error = await bob.refused("task.say", t.SayOfTask(status="done"))
            assert (error.code, error.details["candidates"]) == ("invalid_param", ids)
            assert error.hint == "Use one of the ids that are listed."
            await bob.ask("task.say", t.SayOfTask(status="done", id=ids[0]), t.TaskHeld)
            assert (await bob.ask("task.say", t.SayOfTask(status="done"), t.TaskHeld)).id == ids[1]

    run(main)


def test_whoever_asked_takes_a_task_back_that_nobody_has() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, _ = await together(served)
            id = await task(ann)
            gone = await ann.ask("task.say", t.SayOfTask(status="cancelled", id=id), t.TaskHeld)
            assert gone.status == "cancelled"
            assert (await claim(bob)).id is None

    run(main)


def test_a_renewal_that_waits_ends_when_the_task_is_over() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, _ = await together(served)
            id = await task(ann)
            await claim(bob)

            async def later() -> t.TaskHeld:
                await trio.sleep(5)
                return await complete(bob, id)

            renew = t.RenewTask(id=id, wait_ms=60_000)
            held, _ = await gather(lambda: bob.ask("task.renew", renew, t.TaskHeld), later)
            assert (held.status, held.lease_until) == ("done", None)
            assert trio.current_time() < 10

    run(main)


def test_a_renewal_is_not_lost_with_the_daemon() -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served:
            ann, bob, _ = await together(served)
            id = await task(ann)
            await claim(bob, lease_ms=60_000)
            held = await bob.ask("task.renew", t.RenewTask(id=id, lease_ms=3_600_000), t.TaskHeld)
        await trio.sleep(600)
        async with home.serving() as served:
            cat = await served.agent("cat")
            await trio.sleep(60)
            error = await cat.refused("task.claim", t.ClaimTask(id=id))
            assert (error.code, error.details["until"]) == ("already_claimed", held.lease_until)
            await trio.sleep(3_000)
            assert (await claim(cat)).id == id

    run(main)


def test_the_open_tasks_are_shown_wherever_the_cursor_stands_and_nothing_moves() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, cat = await together(served)
            ids = [await task(ann, text) for text in ("one", "two", "three")]
            await ann.send("for cat", kind="task", to=("cat",))
            await bob.read()
            await claim(cat, ids[1])
            page = await bob.recv(unclaimed=True)
            assert ([m.id for m in page.messages], page.more, page.acknowledges) == ([ids[0], ids[2]], False, False)
            page = await bob.recv(unclaimed=True, limit=1)
            assert ([m.id for m in page.messages], page.more) == ([ids[0]], True)
            await bob.send("still here")
            assert texts(await ann.recv()) == ["still here"]

    run(main)


@pytest.mark.parametrize(
    ("op", "params", "code"),
    [
        ("task.claim", t.ClaimTask(id="m_none"), "no_such_task"),
        ("task.claim", t.ClaimTask(id="999"), "no_such_message"),
        ("task.claim", t.ClaimTask(service="review", room="auth-redesign"), "invalid_param"),
        ("task.claim", t.ClaimTask(service="\0"), "invalid_name"),
        ("task.renew", t.RenewTask(id="1"), "no_such_task"),
        ("task.release", t.ReleaseTask(id="m_none"), "no_such_task"),
        ("task.complete", t.CompleteTask(id="1"), "no_such_task"),
        ("task.complete", t.CompleteTask(id="1", text="x" * 300_000), "text_too_long"),
        ("task.say", t.SayOfTask(status="working", id="1"), "no_such_task"),
    ],
)
def test_what_makes_no_sense_is_refused(op: str, params: t.Params, code: str) -> None:
    async def main() -> None:
        async with world().serving() as served:
            _, bob, _ = await together(served)
            assert (await bob.refused(op, params)).code == code

    run(main)


@pytest.mark.parametrize("lease_ms", [0, 14_999, 3_600_001, -1])
def test_a_lease_is_fifteen_seconds_to_an_hour(lease_ms: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"lease_ms": lease_ms}, t.ClaimTask)


def test_a_closed_session_gives_no_task() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, _ = await together(served)
            id = await task(ann)
            await ann.close()
            assert (await bob.refused("task.claim", t.ClaimTask(id=id, wait_ms=5_000))).code == "room_closed"

    run(main)
