"""What happens between a question to the store and its answer: who asked takes nothing for granted afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import pytest
import trio

from parlerd.core.model import AgentId, Position, RoomId, View
from parlerd.engine.library import Library
from parlerd.engine.rooms import RoomDoor
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Head, Store
from tests.support.engine import FarDriver, PlugDriver, Served, engine_world, run, texts

T = TypeVar("T")


class MeanwhileDriver(PlugDriver):
    """Does `then` once, right after the store answered a point read and before whoever asked hears of it: the next one,
    or after `earlier` more."""

    then: Callable[[], Awaitable[object]] | None = None
    earlier = 0

    async def look(self, query: Callable[[Store], T]) -> T:
        answer = await super().look(query)
        if self.then is None or self.earlier:
            self.earlier -= self.then is not None
            return answer
        then, self.then = self.then, None
        await then()
        return answer


class NoRooms:
    """No room is open, so that memory knows nothing."""

    def open_actor(self, room: RoomId) -> None:
        return None


def meanwhile(served: Served, then: Callable[[], Awaitable[object]], *, earlier: int = 0) -> None:
    driver = cast(MeanwhileDriver, served.driver)
    driver.then, driver.earlier = then, earlier


def test_who_leaves_while_its_page_is_read_is_shown_nothing_that_was_said_afterwards() -> None:
    async def main() -> None:
        async with engine_world(driver=MeanwhileDriver) as served:
            alice, bob = await served.room("alice", "bob")
            elsewhere = await served.agent("bob")
            await alice.send("before")

            async def leave() -> None:
                await elsewhere.close()
                await alice.send("after")

            meanwhile(served, leave)
            assert (await bob.refused("message.recv", t.Recv())).code in ("no_such_room", "no_active_session")

    run(main)


def test_who_leaves_and_comes_back_while_its_page_is_read_is_shown_what_it_may_see_now() -> None:
    async def main() -> None:
        async with engine_world(driver=MeanwhileDriver) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open(approval=False, history="none")
            await served.admit(opened, bob)
            elsewhere = await served.agent("bob")

            async def leave_and_come_back() -> None:
                await elsewhere.close()
                await alice.send("among others")
                await elsewhere.join(opened.session_key)

            # The first question is which rooms it is in, the second where it stands in this one.
            meanwhile(served, leave_and_come_back, earlier=1)
            assert "among others" not in texts(await bob.recv(room=opened.room, all=True))
            await alice.send("among all")
            assert texts(await bob.recv(room=opened.room))[-1] == "among all"

    run(main)


@pytest.mark.parametrize(("approval", "status"), [(True, "pending"), (False, "joined")])
def test_who_leaves_while_it_comes_up_in_a_room_knocks_anew(*, approval: bool, status: str) -> None:
    async def main() -> None:
        async with engine_world(driver=MeanwhileDriver) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open(approval=approval)
            await served.admit(opened, bob)
            elsewhere = await served.agent("bob")
            reads = 0
            library = served.engine._desk.library
            tail = library.tail

            async def leaves_first(*args: object, **more: object) -> object:
                nonlocal reads
                reads += 1
                if reads == 1:
                    await elsewhere.close()
                    await alice.send("after")
                return await tail(*args, **more)  # type: ignore[arg-type]

            library.tail = leaves_first  # type: ignore[method-assign, assignment]
            again = await bob.join(opened.session_key)
            assert again.status == status
            # A person decides first, where one has to; else it is as if it had left and then joined.
            assert bool(again.messages) is not approval

    run(main)


def test_what_is_stored_while_the_unread_are_counted_is_counted_or_said_to_come_later() -> None:
    class Busy(MemoryStore):
        """Another process stores something between any two questions of one look: the log's head moves with each."""

        asked: list[str]

        def head(self, room: RoomId) -> Head:
            self.asked.append("head")
            return super().head(room)

        def unread(self, room: RoomId, view: View, after: Position) -> int:
            self.asked.append("unread")
            return super().unread(room, view, after)

    async def main() -> None:
        store = Busy()
        store.asked = []
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("one")
            room = (await served.engine._desk.rooms.get(RoomId((await bob.rooms())[0].room))).aggregate
            view = room.view(AgentId((await bob.whoami()).id))
            store.asked.clear()
            # From before anything that memory still holds.
            library = Library(served.driver, cast(RoomDoor, NoRooms()))
            assert await library.unread(room, view, Position(0)) == (2, room.position)
            assert store.asked[:2] == ["head", "unread"]

    run(main)


def test_two_hooks_that_ask_at_the_same_time_begin_one_turn_for_one_thing() -> None:
    async def main() -> None:
        async with engine_world(driver=FarDriver) as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            ours = await served.window("w", workspace="/home/sam/shop")
            await served.admit(opened, ours)
            await served.acknowledge(ours)
            # Memory knows nothing, so that each question is one to the store.
            served.engine._desk.library._rooms = cast(RoomDoor, NoRooms())

            async def is_woken() -> bool:
                hook = await served.connect("hook", host="claude-code", workspace="/home/sam/shop")
                return (await hook.ask("wake.check", t.WakeCheck(turn=True), t.Waiting)).wake

            await alice.send("one")
            assert await is_woken()
            # Whether there is more than was told is a question of its own.
            await alice.send("two")
            woken: list[bool] = []

            async def one() -> None:
                woken.append(await is_woken())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(one)
                nursery.start_soon(one)
            assert sorted(woken) == [False, True]

    run(main)


def test_a_rooms_list_holds_no_room_that_was_left_while_it_was_made() -> None:
    async def main() -> None:
        async with engine_world(driver=MeanwhileDriver) as served:
            _, bob = await served.room("alice", "bob")
            elsewhere = await served.agent("bob")
            # The first question is which rooms there are, the second what this one holds.
            meanwhile(served, elsewhere.close, earlier=1)
            assert await bob.rooms() == []

    run(main)


def test_a_repetition_whose_message_cannot_be_looked_up_fails_with_its_key() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await alice.send("x", idempotency_key="k1")
            served.world.store.message = lambda *_: None  # type: ignore[method-assign]
            error = await alice.refused("message.send", t.Send(text="x", idempotency_key="k1"))
            assert (error.code, error.details["key"]) == ("idempotency_expired", "k1")

    run(main)
