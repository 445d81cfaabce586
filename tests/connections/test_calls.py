"""What a client asks for without waiting for answers: messages keep their order, also where each takes its time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar

import msgspec
import pytest
import trio

from parlerd.connections.calls import Calls
from parlerd.core.events import MessagePosted
from parlerd.core.model import Position, RoomId
from parlerd.engine.callers import Caller
from parlerd.engine.driver import InlineDriver
from parlerd.engine.worker import Told
from parlerd.operations import types as t
from parlerd.store.port import Store
from parlerd.wire import codec
from parlerd.wire.calls import Answering
from parlerd.wire.messages import Call, Cancel
from tests.support.engine import PlugDriver, Served, World, run, settle

T = TypeVar("T")
SAID = [f"m{number}" for number in range(8)]


class UnevenDriver(PlugDriver):
    """A store over a network of which each question takes another time, up to a second of virtual time."""

    is_slow = False

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._random = Random(7)

    @property
    def is_at_hand(self) -> bool:
        return False

    def ask(self, query: Callable[[Store], T], told: Told) -> None:
        async def travel() -> None:
            await self._travel()
            InlineDriver.ask(self, query, told)

        trio.lowlevel.spawn_system_task(travel)

    async def look(self, query: Callable[[Store], T]) -> T:
        await self._travel()
        return await super().look(query)

    async def read(self, query: Callable[[Store], T]) -> T:
        await self._travel()
        return await super().read(query)

    async def _travel(self) -> None:
        await trio.sleep(self._random.random() if self.is_slow else 0)


class Out:
    """What is sent, and dropped."""

    pending = 0

    def send(self, data: bytes, *, soon: bool = False) -> None:
        pass

    async def drained(self) -> None:
        await trio.lowlevel.checkpoint()


class Conversation:
    """A client that says everything at once and hears no answer."""

    def __init__(self, served: Served, caller: Caller) -> None:
        self._peer = Answering()
        self.calls = Calls(self._peer, Out(), served.engine)
        self._caller = caller
        self._number = 0

    def send(self, text: str, **rest: str | None) -> Call:
        """One message, as a call."""
        self._number += 1
        params = codec.encode(t.Send(text=text, **rest))  # type: ignore[arg-type] # names of its fields
        call = Call(id=self._number, op="message.send", params=msgspec.Raw(params))
        assert self._peer._begin(call) is call
        return call

    async def say(self, *chunks: Sequence[object]) -> None:
        """All of these, a second and a half after each other, until all are answered."""
        left = list(chunks)

        async def more() -> Sequence[object]:
            if left:
                await trio.sleep(1.5)
                return left.pop(0)
            await self.calls.idle()
            return ()

        assert await self.calls.answer(self._caller, (), more) is None


async def _in_a_closed_room(act: Callable[[Conversation, str], Awaitable[None]]) -> list[str]:
    """What is in the log of a room that was not open when somebody acted."""
    world = World(driver=UnevenDriver)
    async with world.serving() as served:
        alice = await served.agent("alice")
        room = (await alice.open()).room
    async with world.serving() as served:
        alice = await served.agent("alice")
        await alice.whoami()
        await settle()
        assert served.open_rooms == 0
        assert isinstance(served.driver, UnevenDriver)
        served.driver.is_slow = True
        await act(Conversation(served, alice.caller), room)
    found = world.store.whole_facts(RoomId(room), Position(0), 99)
    bodies = [each.body or b"" for each in found if isinstance(each.header.event, MessagePosted)]
    return [said for body in bodies for said in SAID if said.encode() in body]


@pytest.mark.parametrize("named", [True, False], ids=["by its id", "as the active session"])
@pytest.mark.parametrize("chunks", [1, 4])
def test_messages_to_a_room_that_is_not_open_are_decided_in_the_order_in_which_they_came(
    chunks: int, named: bool
) -> None:
    async def act(client: Conversation, room: str) -> None:
        said = [client.send(text, room=room if named else None) for text in SAID]
        size = len(said) // chunks
        await client.say(*(said[at : at + size] for at in range(0, len(said), size)))

    async def main() -> None:
        assert await _in_a_closed_room(act) == SAID

    run(main)


def test_a_message_that_is_withdrawn_holds_up_nobody_and_lets_nobody_overtake() -> None:
    async def act(client: Conversation, room: str) -> None:
        said = [client.send(text, room=room) for text in SAID]
        await client.say([*said, Cancel(id=said[1].id), Cancel(id=said[4].id)])

    async def main() -> None:
        assert await _in_a_closed_room(act) == [text for text in SAID if text not in (SAID[1], SAID[4])]

    run(main)


def test_a_message_that_fails_holds_up_nobody() -> None:
    async def act(client: Conversation, room: str) -> None:
        await client.say(
            [client.send(SAID[0], room=room, reply_to="999"), *(client.send(text, room=room) for text in SAID)]
        )

    async def main() -> None:
        assert await _in_a_closed_room(act) == SAID

    run(main)
