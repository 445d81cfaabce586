"""Which leases end, which go on by themselves, and who is woken when one ends."""

from __future__ import annotations

import msgspec
import trio

from parlerd.core import events as e
from parlerd.core.model import Position, RoomId
from parlerd.engine.leases import KEPT_MS
from parlerd.engine.tending import QUIET_MS, SLEPT_MS
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from tests.support.engine import Party, PlugDriver, Served, SteppedClock, World, run

GRACE_S = KEPT_MS / 1000
LEASE_S = 60.0
OPEN_S = 100.0


def world() -> World:
    """A home whose wall clock goes with the loop's."""
    return World(clock=SteppedClock(), store=MemoryStore())


async def serve(who: Party) -> None:
    await who.ask("queue.serve", t.Serve(service="review"), t.Served)


async def ask(who: Party) -> str:
    return (await who.ask("message.send", t.Send(text="review PR #42", service="review"), t.Sent)).id


async def ask_in_time(who: Party, text: str = "urgent") -> str:
    timer = t.TimerAsked(ms=int(OPEN_S * 1000))
    return (await who.ask("message.send", t.Send(text=text, service="review", timer=timer), t.Sent)).id


async def state_of(who: Party, id: str) -> tuple[str, int | msgspec.UnsetType]:
    found = (await who.ask("message.why", t.Why(id=id, room="review"), t.WhyResult)).task
    assert isinstance(found, t.TaskEntry)
    return found.state, found.open_until


async def claim(who: Party, *, wait: float = 0) -> str | None:
    params = t.ClaimTask(service="review", lease_ms=int(LEASE_S * 1000), wait_ms=int(wait * 1000))
    return (await who.ask("task.claim", params, t.TaskHeld)).id


async def queue(served: Served, *names: str) -> list[Party]:
    agents = [await served.agent(name) for name in names]
    for who in agents:
        await serve(who)
    return agents


def test_the_task_of_a_worker_that_went_goes_to_one_that_waits_in_the_moment_in_which_the_lease_ends() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob, cat = await queue(served, "ann", "bob", "cat")
            id = await ask(ann)
            assert await claim(bob) == id
            await served.leave(bob)
            began = trio.current_time()
            assert await claim(cat, wait=600) == id
            assert trio.current_time() - began == LEASE_S

    run(main)


def test_a_task_that_nobody_takes_in_its_time_is_over_in_that_moment() -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served:
            ann, bob = await queue(served, "ann", "bob")
            id = await ask_in_time(ann)
            (state, until), asked_at = await state_of(bob, id), served.engine.desk.clock.now()
            assert (state, until) == ("open", asked_at + OPEN_S * 1000)
            assert [each.id for each in (await bob.recv(room="review", unclaimed=True)).messages] == [id]
            await trio.sleep(OPEN_S - 1)
            assert (await state_of(bob, id))[0] == "open"
            await trio.sleep(1)
            assert await claim(bob, wait=30) is None
            error = await bob.refused("task.claim", t.ClaimTask(id=id, room="review"))
            assert (error.code, error.details) == ("task_over", {"holder": None, "status": "cancelled"})
            assert (await bob.recv(room="review", unclaimed=True)).messages == []
            assert await state_of(ann, id) == ("cancelled", until)
            [over] = [fact for fact in facts_of(home) if isinstance(fact.event, e.TaskCompleted)]
            assert over.at == until

    run(main)


def test_the_time_of_a_task_is_over_also_where_nobody_had_its_room_open_then() -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served:
            ann, bob = await queue(served, "ann", "bob")
            await ask_in_time(ann)
            await ask_in_time(ann, "given back")
            assert await claim(bob) is not None
            assert await claim(bob) is not None
            held = await bob.ask("task.claim", t.ClaimTask(id=await ask(ann), room="review"), t.TaskHeld)
            await bob.ask("task.complete", t.CompleteTask(id=held.id or "", room="review"), t.TaskHeld)
        await trio.sleep(10 * OPEN_S)
        for _ in range(2):
            async with home.serving():
                await trio.sleep(GRACE_S + 1)
        over = [fact.event for fact in facts_of(home) if isinstance(fact.event, e.TaskCompleted)]
        assert [event.outcome for event in over] == ["done", "cancelled", "cancelled"]

    run(main)


def facts_of(home: World) -> list[e.Header]:
    store = home.store
    [room] = [room for room in store.rooms() if room != "home"]
    return store.facts(room, Position(0), 100)


def test_the_time_of_a_task_takes_nothing_from_the_worker_that_has_it() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob = await queue(served, "ann", "bob")
            first, second = await ask_in_time(ann), await ask_in_time(ann, "second")
            for id in (first, second):
                await bob.ask("task.claim", t.ClaimTask(id=id, room="review", lease_ms=600_000), t.TaskHeld)
            await trio.sleep(2 * OPEN_S)
            done = t.CompleteTask(id=first, room="review", text="in the end")
            assert (await bob.ask("task.complete", done, t.TaskHeld)).status == "done"
            assert await state_of(ann, first) == ("done", msgspec.UNSET)
            released = await bob.ask("task.release", t.ReleaseTask(id=second, room="review"), t.TaskHeld)
            assert released.status == "cancelled"
            assert await claim(ann, wait=1) is None
            error = await bob.refused("task.renew", t.RenewTask(id=second, room="review"))
            assert (error.code, error.details["holder"]) == ("claim_lost", None)
            assert "the time was over that its author gave it" in error.message
            assert (await state_of(ann, second))[0] == "cancelled"

    run(main)


def test_the_end_of_a_tasks_time_takes_nothing_from_a_worker_whose_lease_ends_a_moment_later() -> None:
    """The lease ends while the fact waits for the disk. Whether the worker is alive is looked at then."""

    async def main() -> None:
        home = world()
        home.driver = PlugDriver
        async with home.serving() as served:
            ann, window = await served.agent("ann"), await served.window("w1")
            for who in (ann, window):
                await serve(who)
            await trio.sleep(GRACE_S)
            await ask_in_time(ann)
            await trio.sleep(OPEN_S - LEASE_S)
            id = await ask(ann)
            await trio.sleep(0.02)
            lease = t.ClaimTask(id=id, room="review", lease_ms=int(LEASE_S * 1000))
            await window.ask("task.claim", lease, t.TaskHeld)
            await trio.sleep(LEASE_S - 0.1)
            assert isinstance(served.driver, PlugDriver)
            served.driver.lag = 0.2
            await ann.send("chat", room="review")
            await trio.sleep(5)
            served.driver.lag = 0.0
            assert [fact for fact in facts_of(home) if isinstance(fact.event, e.TaskLapsed)] == []
            done = t.CompleteTask(id=id, room="review", text="in the end")
            assert (await window.ask("task.complete", done, t.TaskHeld)).status == "done"

    run(main)


def test_a_late_result_that_is_asked_for_again_is_answered_at_once_although_its_worker_has_the_task_again() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob = await queue(served, "ann", "bob")
            await trio.sleep(GRACE_S)
            id = await ask(ann)
            assert await claim(bob) == id
            await served.leave(bob)
            await trio.sleep(2 * LEASE_S)
            bob = await served.agent("bob")
            done = t.CompleteTask(id=id, room="review", text="late", idempotency_key="late")
            assert (await bob.refused("task.complete", done)).code == "claim_lost"
            assert await claim(bob) == id
            asked_at = trio.current_time()
            assert (await bob.refused("task.complete", done)).code == "claim_lost"
            assert trio.current_time() == asked_at

    run(main)


def test_a_room_that_nobody_has_open_is_looked_at_too() -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served:
            ann, bob = await queue(served, "ann", "bob")
            await ask(ann)
            await claim(bob)
        async with home.serving() as served:
            await trio.sleep(600)
            ann = await served.agent("ann")
            found = await ann.recv(room="review", unclaimed=True)
            assert len(found.messages) == 1

    run(main)


def test_a_window_keeps_its_task_for_an_hour_without_doing_anything_and_not_longer() -> None:
    async def main() -> None:
        async with world().serving() as served:
            window = await served.window("w1")
            await serve(window)
            ann = await served.agent("ann")
            await serve(ann)
            id = await ask(ann)
            assert await claim(window) == id
            await trio.sleep(QUIET_MS / 1000 - 1)
            assert await claim(ann) is None
            assert await claim(ann, wait=120) == id

    run(main)


def test_what_a_worker_does_in_the_room_renews_what_it_holds_there() -> None:
    async def main() -> None:
        async with world().serving() as served:
            ann, bob = await queue(served, "ann", "bob")
            id = await ask(ann)
            assert await claim(bob) == id
            for _ in range(5):
                await trio.sleep(LEASE_S - 10)
                await bob.send("still reading", room="review")
            await served.leave(bob)
            began = trio.current_time()
            assert await claim(ann, wait=600) == id
            assert trio.current_time() - began == LEASE_S

    run(main)


def test_after_a_restart_a_worker_has_time_to_come_back() -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served:
            ann, bob = await queue(served, "ann", "bob")
            id = await ask(ann)
            assert await claim(bob) == id
        await trio.sleep(10 * LEASE_S)
        async with home.serving() as served:
            ann = await served.agent("ann")
            began = trio.current_time()
            assert await claim(ann) is None
            assert await claim(ann, wait=600) == id
            assert trio.current_time() - began == GRACE_S

    run(main)


def test_a_machine_that_slept_takes_no_task_from_a_worker_that_is_still_there() -> None:
    async def main() -> None:
        home = world()
        clock = home.clock
        assert isinstance(clock, SteppedClock)
        async with home.serving() as served:
            ann, bob, cat = await queue(served, "ann", "bob", "cat")
            ids = [await ask(ann), await ask(ann)]
            assert [await claim(bob), await claim(cat)] == ids
            await served.leave(cat)
            await trio.sleep(GRACE_S)
            # The wall clock goes on while the loop's stands still.
            clock.step(seconds=LEASE_S + SLEPT_MS)
            assert await claim(ann) == ids[1]
            assert await claim(ann) is None
            await trio.sleep(LEASE_S)
            assert await claim(ann) == ids[0]

    run(main)


def test_a_lease_that_ended_while_no_daemon_ran_is_looked_at_though_nobody_asks() -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served:
            ann, bob = await queue(served, "ann", "bob")
            room = (await ann.ask("message.send", t.Send(text="x", service="review"), t.Sent)).room
            assert await claim(bob) is not None
        await trio.sleep(10 * LEASE_S)
        async with home.serving():
            await trio.sleep(GRACE_S + 1)
            facts = home.store.facts(RoomId(room), Position(0), 100)
            assert isinstance(facts[-1].event, e.TaskLapsed)

    run(main)
