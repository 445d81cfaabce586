"""Whoever waits for what time alone changes is woken when it changes: keys that expire, agents that become idle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from parlerd.core import topics
from parlerd.core.errors import StoreError
from parlerd.core.model import Millis, RoomId
from parlerd.core.topics import Topic
from parlerd.engine.deadlines import ACTIVE_MS
from parlerd.engine.rooms import IDLE_SECONDS
from parlerd.engine.scheduler import LOOK_S
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from tests.support.engine import Party, Served, SteppedClock, World, run, settle

HOUR = 3_600.0
ACTIVE_S = ACTIVE_MS / 1000


def world(store: MemoryStore | None = None) -> World:
    """A home whose wall clock goes with the loop's."""
    return World(clock=SteppedClock(), store=store or MemoryStore())


class Wakes:
    """The moments at which a topic was published, by the loop's clock."""

    def __init__(self) -> None:
        self.at: list[float] = []


@contextmanager
def listening(served: Served, nursery: trio.Nursery, topic: Topic) -> Iterator[Wakes]:
    wakes = Wakes()
    scope = trio.CancelScope()

    async def listen() -> None:
        with scope, served.engine._desk.notifier.listen(topic) as waiter:
            while True:
                await waiter.wait()
                waiter.clear()
                wakes.at.append(trio.current_time())

    nursery.start_soon(listen)
    yield wakes
    scope.cancel()


async def key_state(party: Party) -> str:
    found = await party.ask("session.list", t.ListSessions(), t.SessionList)
    return found.sessions[0].keys[0].state


# -- keys --------------------------------------------------------------------------------------------------


def test_a_key_that_expires_wakes_who_looks_at_the_keys_of_its_room_in_that_moment() -> None:
    async def main() -> None:
        async with world().serving() as served, trio.open_nursery() as nursery:
            alice = await served.agent("alice")
            opened = await alice.open(ttl_ms=int(HOUR * 1000))
            with (
                listening(served, nursery, topics.keys(opened.room)) as wakes,
                listening(served, nursery, topics.keys("r_other")) as others,
            ):
                await trio.sleep(HOUR - 1)
                assert (wakes.at, await key_state(alice)) == ([], "live")
                await trio.sleep(1)
                await settle()
                assert (wakes.at, await key_state(alice)) == ([HOUR], "expired")
                await trio.sleep(HOUR)
                assert (wakes.at, others.at) == ([HOUR], [])

    run(main)


def test_a_room_that_nobody_has_open_is_woken_too() -> None:
    async def main() -> None:
        async with world().serving() as served, trio.open_nursery() as nursery:
            alice = await served.agent("alice")
            opened = await alice.open(ttl_ms=int(HOUR * 1000))
            with listening(served, nursery, topics.keys(opened.room)) as wakes:
                await trio.sleep(2 * IDLE_SECONDS)
                assert served.engine._desk.rooms.open_actor(RoomId(opened.room)) is None
                await trio.sleep(HOUR)
                assert wakes.at == [HOUR]

    run(main)


def test_a_restart_forgets_no_deadline_and_what_passed_meanwhile_is_past() -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served:
            soon = await (await served.agent("alice")).open("soon", ttl_ms=60_000)
            late = await (await served.agent("alice")).open("late", ttl_ms=int(HOUR * 1000))
        await trio.sleep(120)
        async with home.serving() as served, trio.open_nursery() as nursery:
            with (
                listening(served, nursery, topics.keys(soon.room)) as first,
                listening(served, nursery, topics.keys(late.room)) as second,
            ):
                await trio.sleep(2 * HOUR)
                assert (first.at, second.at) == ([], [HOUR])

    run(main)


def test_a_key_that_died_before_changes_nothing_when_it_expires() -> None:
    async def main() -> None:
        async with world().serving() as served, trio.open_nursery() as nursery:
            alice, person = await served.agent("alice"), await served.person()
            revoked = await alice.open("revoked", ttl_ms=int(HOUR * 1000))
            over = await alice.open("over", ttl_ms=int(HOUR * 1000))
            used = await alice.open("used", ttl_ms=int(HOUR * 1000), max_uses=1)
            await served.admit(used, await served.agent("bob"))
            with (
                listening(served, nursery, topics.keys(revoked.room)) as first,
                listening(served, nursery, topics.keys(over.room)) as second,
                listening(served, nursery, topics.keys(used.room)) as third,
            ):
                await settle()
                assert revoked.session_key is not None
                await person.ask("session.revoke", t.RevokeSessionKey(session_key=revoked.session_key), t.RevokedKey)
                await alice.close(over.room)
                await settle()
                assert [wakes.at for wakes in (first, second, third)] == [[0], [0], []]
                await trio.sleep(2 * HOUR)
                assert [wakes.at for wakes in (first, second, third)] == [[0], [0], []]

    run(main)


def test_a_key_that_lives_again_because_the_clock_was_set_right_expires_once_more() -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served, trio.open_nursery() as nursery:
            alice = await served.agent("alice")
            opened = await alice.open(ttl_ms=int(HOUR * 1000))
            with listening(served, nursery, topics.keys(opened.room)) as wakes:
                await trio.sleep(10)
                assert isinstance(home.clock, SteppedClock)
                home.clock.step(seconds=2 * HOUR)
                await trio.sleep(LOOK_S)
                assert (len(wakes.at), await key_state(alice)) == (1, "expired")
                home.clock.step(seconds=-2 * HOUR)
                assert await key_state(alice) == "live"
                await trio.sleep(2 * HOUR)
                assert (len(wakes.at), wakes.at[-1]) == (2, HOUR)

    run(main)


def test_deadlines_that_cannot_be_read_keep_no_daemon_from_starting() -> None:
    class Damaged(MemoryStore):
        def deadlines(self, after: Millis) -> dict[RoomId, Millis]:
            raise StoreError("store_corrupt")

    async def main() -> None:
        async with world(store=Damaged()).serving() as served, trio.open_nursery() as nursery:
            alice = await served.agent("alice")
            opened = await alice.open(ttl_ms=int(HOUR * 1000))
            with listening(served, nursery, topics.keys(opened.room)) as wakes:
                await trio.sleep(2 * HOUR)
                assert wakes.at == [HOUR]

    run(main)


# -- presence ----------------------------------------------------------------------------------------------


async def presence_of(party: Party, name: str) -> str:
    return (await party.roster())[name].presence


def test_an_agent_that_stops_acting_becomes_idle_in_that_moment_and_active_when_it_acts_again() -> None:
    async def main() -> None:
        async with world().serving() as served, trio.open_nursery() as nursery:
            alice, bob = await served.room("alice", "bob")
            me = await bob.whoami()
            with listening(served, nursery, topics.presence(me.id)) as wakes:
                await trio.sleep(30)
                await bob.whoami()
                await trio.sleep(ACTIVE_S - 1)
                assert (wakes.at, await presence_of(alice, "bob")) == ([], "active")
                await trio.sleep(2)
                assert (wakes.at, await presence_of(alice, "bob")) == ([30 + ACTIVE_S], "idle")
                await trio.sleep(1_000)
                assert wakes.at == [30 + ACTIVE_S]
                await bob.whoami()
                await settle()
                again = trio.current_time()
                assert (wakes.at[1:], await presence_of(alice, "bob")) == ([again], "active")
                await trio.sleep(ACTIVE_S)
                await settle()
                assert wakes.at[2:] == [again + ACTIVE_S]

    run(main)


def test_an_agent_that_waits_is_not_idle() -> None:
    async def main() -> None:
        async with world().serving() as served, trio.open_nursery() as nursery:
            alice, bob = await served.room("alice", "bob")
            me = await bob.whoami()
            with listening(served, nursery, topics.presence(me.id)) as wakes:
                await bob.recv(wait=5 * ACTIVE_S)
                assert wakes.at == []
                await trio.sleep(2 * ACTIVE_S)
                assert (len(wakes.at), await presence_of(alice, "bob")) == (1, "idle")

    run(main)


def test_an_agent_whose_last_connection_ends_is_offline_at_once_and_never_idle() -> None:
    async def main() -> None:
        async with world().serving() as served, trio.open_nursery() as nursery:
            alice, bob = await served.room("alice", "bob")
            me = await bob.whoami()
            with listening(served, nursery, topics.presence()) as wakes:
                await alice.whoami()
                await trio.sleep(10)
                await served.leave(bob)
                await settle()
                assert wakes.at == [10]
                assert await presence_of(alice, "bob") == "offline"
                with listening(served, nursery, topics.presence(me.id)) as his:
                    await trio.sleep(10 * ACTIVE_S)
                    assert his.at == []

    run(main)


# -- offers of the turn --------------------------------------------------------------------------------------


def test_a_window_that_waits_is_told_when_its_offer_expires_and_told_once() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.window("w"), await served.agent("bob")
            await served.admit(await alice.open("auth"), bob)
            await served.acknowledge(alice)
            given = await alice.handoff("go", to="bob", ttl_ms=60_000)
            await bob.read()
            await served.acknowledge(alice)
            begun = trio.current_time()
            page = await alice.recv(wait=600)
            assert (page.messages, round(trio.current_time() - begun)) == ([], 60)
            notice = await served.engine.call("window.notice", t.AskNotice(), alice.caller)
            assert isinstance(notice, t.Notice)
            assert "the turn that you offered in 'auth' was not taken in time" in notice.line
            page = await alice.recv(wait=600)
            assert round(trio.current_time() - begun) == 660
            error = await bob.refused("handoff.accept", t.AcceptHandoff(id=given.id))
            assert error.code == "handoff_expired"

    run(main)


def test_the_giver_of_an_offer_hears_that_it_expired_in_a_room_that_nobody_has_open() -> None:
    async def main() -> None:
        async with world().serving() as served, trio.open_nursery() as nursery:
            alice = await served.agent("alice")
            opened = await alice.open()
            await alice.handoff("go", ttl_ms=int(4 * HOUR * 1000))
            taken = await alice.handoff("go on", ttl_ms=int(2 * HOUR * 1000))
            await alice.ask("handoff.withdraw", t.WithdrawHandoff(id=taken.id), t.AnsweredHandoff)
            with listening(served, nursery, topics.concerns((await alice.whoami()).id)) as wakes:
                await trio.sleep(2 * IDLE_SECONDS)
                assert served.engine._desk.rooms.open_actor(RoomId(opened.room)) is None
                await trio.sleep(4 * HOUR)
                await settle()
                assert wakes.at == [4 * HOUR]

    run(main)
