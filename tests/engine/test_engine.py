"""The engine's face: every operation has a handler, every door the same checks, and an end leaves nothing behind."""

from __future__ import annotations

import msgspec
import pytest
import trio

from parlerd.core.errors import ERRORS, ParlerError, Refused
from parlerd.core.model import HOME_ROOM, RoomId, Via
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.store.memory import MemoryStore
from tests.support.engine import (
    CountedRandomness,
    PlugDriver,
    World,
    engine_world,
    run,
    settle,
    texts,
)
from tests.support.faulty_store import FaultyStore


def test_every_operation_of_the_registry_has_one_handler_and_there_are_no_others() -> None:
    async def main() -> None:
        async with engine_world() as served:
            engine = served.engine
            here = {name for name, entry in OPERATIONS.items() if entry.plane not in t.ELSEWHERE}
            assert set(engine.handlers) | set(engine.stream_handlers) == here
            assert set(engine.stream_handlers) == {name for name, entry in OPERATIONS.items() if entry.stream}
            assert not set(engine.handlers) & set(engine.stream_handlers)
            await trio.lowlevel.checkpoint()

    run(main)


def test_an_operation_nobody_knows_is_refused_and_not_echoed_at_length() -> None:
    async def main() -> None:
        async with engine_world() as served:
            party = await served.person()
            for op in ("nothing", "room.watch", "approvals.watch", "x" * 10_000):
                error = await party.refused(op, t.WhoAmI())
                assert error.code == "unknown_operation"
                assert len(str(error.details)) < 200

    run(main)


@pytest.mark.parametrize("name", sorted(name for name, entry in OPERATIONS.items() if entry.plane == "person"))
def test_the_persons_plane_is_closed_to_every_door_but_the_command_line(name: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            for via in ("mcp", "hook", "http"):
                party = await served.connect(via)
                if OPERATIONS[name].stream:
                    with pytest.raises(Refused, match="person_only"):
                        served.engine.stream(name, t.FollowFrames(), party.caller)
                else:
                    error = await party.refused(name, t.DecideJoin(agent="x"))
                    assert error.code == "person_only"
                # The answer comes before anything is looked at: no agent was made for it.
                assert party.caller.agent is None

    run(main)


def test_a_drained_engine_answers_only_about_itself() -> None:
    async def main() -> None:
        async with engine_world() as served:
            party = await served.person()
            await served.engine.drain()
            for name, entry in OPERATIONS.items():
                if entry.stream:
                    continue
                params = entry.params(**entry.example) if name == "session.list" else None
                if entry.plane in ("local", "window", *t.ELSEWHERE):
                    continue
                error = await party.refused(name, params or t.WhoAmI())
                assert error.code == "draining", name
            assert isinstance(await party.call("daemon.status", t.DaemonStatus()), t.DaemonInfo)

    run(main)


@pytest.mark.parametrize("via", ["cli", "hook", "http"])
def test_what_a_windows_door_asks_is_refused_to_every_other(via: Via) -> None:
    async def main() -> None:
        async with engine_world() as served:
            party = await served.connect(via)
            for name, entry in OPERATIONS.items():
                if entry.plane != "window":
                    continue
                params = msgspec.convert(entry.example, entry.params)
                if entry.stream:
                    with pytest.raises(Refused) as refused:
                        served.engine.stream(name, params, party.caller)
                    assert refused.value.code == "window_only"
                else:
                    assert (await party.refused(name, params)).code == "window_only"
            assert party.caller.agent is None

    run(main)


def test_a_window_that_was_shown_a_page_acknowledges_it_also_while_the_daemon_drains() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w")
            await served.admit(await alice.open(), window)
            await served.acknowledge(window)
            sent = await alice.send("the last")
            await window.recv()
            await served.engine.drain()
            await served.acknowledge(window)
            room, store = RoomId(sent.room), served.world.store
            marks = store.deliveries(room, store.head(room).position)
            assert "acknowledged" in [mark.stage for mark in marks]

    run(main)


def test_asked_to_stop_it_drains_says_its_pid_and_tells_the_program() -> None:
    async def main() -> None:
        async with engine_world() as served:
            party = await served.person()
            stopping = await party.ask("daemon.stop", t.StopDaemon(), t.Stopping)
            assert stopping.pid > 0
            assert served.world.stopped
            assert (await party.refused("agent.whoami", t.WhoAmI())).code == "draining"

    run(main)


def test_everything_is_there_again_after_an_orderly_end_and_after_a_kill() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("before the end")

        killed = trio.CancelScope()
        with killed:
            async with world.serving() as served:
                alice, bob = await served.agent("alice"), await served.agent("bob")
                assert isinstance(served.driver, PlugDriver)
                assert await bob.read() == ["before the end"]
                await alice.send("before the kill")
                served.driver.dead = True
                killed.cancel()
                await trio.lowlevel.checkpoint()

        async with world.serving() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            assert texts(await bob.recv()) == ["before the kill"]
            assert set(await alice.roster()) == {"alice", "bob"}
            assert (await alice.send("and on")).seq == 4

    run(main)


def test_the_end_of_the_engine_ends_every_wait_and_closes_the_store() -> None:
    class Closing(FaultyStore):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    async def main() -> None:
        store = Closing()
        cancelled: list[str] = []
        async with engine_world(store=store) as served:
            (alice,) = await served.room("alice")

            async def wait() -> None:
                try:
                    await alice.recv(wait=3600)
                except trio.Cancelled:
                    cancelled.append("recv")
                    raise

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                nursery.cancel_scope.cancel()
        assert cancelled == ["recv"]
        assert store.closed == 1

    run(main)


def test_a_connection_that_ends_when_nothing_can_be_stored_ends_quietly() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            window = await served.window("w")
            await window.whoami()
            store.fail_next_commit("store_full")
            await served.leave(window)
            with trio.CancelScope() as scope:
                # A cancelled connection's slot is freed all the same.
                other = await served.window("w3")
                await other.whoami()
                scope.cancel()
                await served.leave(other)
            assert [lease.window for lease in store.leases()] == ["w"]

    run(main)


def test_a_home_that_cannot_be_read_at_start_is_not_served() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            await served.room("alice")
        store.unreadable = "store_corrupt"
        with pytest.raises((ParlerError, BaseExceptionGroup)) as refused:
            async with engine_world(store=store):
                raise AssertionError("it was served")
        error: BaseException = refused.value
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, ParlerError)
        assert error.code == "store_corrupt"

    run(main)


def test_two_engines_over_the_same_inputs_make_the_same_facts() -> None:
    def facts() -> list[object]:
        world = World(store=MemoryStore(random_bytes=CountedRandomness().bytes))

        async def main() -> None:
            async with world.serving() as served:
                alice, bob = await served.room("alice", "bob")
                await alice.send("one", idempotency_key="k1")
                world.clock.move(seconds=3)
                await bob.handoff("go", idempotency_key="k2")
                await alice.close()

        run(main)
        return [header for room in world.store.rooms() for header in world.store.facts(room, 0, 1000)]  # type: ignore[arg-type]

    first = facts()
    assert first == facts()
    assert len(first) > 10


def test_every_refusal_is_a_known_code() -> None:
    assert {code for entry in OPERATIONS.values() for code in entry.errors} <= set(ERRORS)


def test_the_home_room_is_made_by_the_first_agent_and_not_before() -> None:
    async def main() -> None:
        async with engine_world() as served:
            assert served.world.store.rooms() == []
            await (await served.person()).whoami()
            assert served.world.store.rooms() == [HOME_ROOM]

    run(main)
