"""What a link is told of a room, against what its agents may see there: a reader that is cut off at any moment, loses
what was on its way, and comes back, has every message once, in order, under its own number.

The reader here believes nothing: it folds cards and pages as a daemon would, and compares what it was told with the
public line and with its own numbers at each step.
"""

from __future__ import annotations

import hashlib
import random
from contextlib import AsyncExitStack
from typing import Final

import pytest

from parlerd.core.envelope import decode_envelope
from parlerd.core.model import AgentId, History, Position, RoomId
from parlerd.core.public_line import next_line
from parlerd.engine import following
from parlerd.operations import types as t
from tests.support.engine import Served, engine_world, run, settle
from tests.support.linked import Elsewhere, Told

OURS: Final = ("ann", "bea")
"""The agents of the link."""


ACTS: Final = [*["post"] * 6, *["private"] * 3, *["ours"] * 3, "move", "theirs", "cut", "hear", "hear"]


class Reader:
    """A room as a link was told of it."""

    def __init__(self, room: str, agents: dict[AgentId, str]) -> None:
        self.room = room
        self.agents = agents
        self.public = 0
        self.line = b""
        self.moves = self.asks = 0
        self.inside: set[str] = set()
        self.before: dict[str, int] = {}
        self.told: dict[str, list[tuple[int, str]]] = {agent: [] for agent in agents}
        """What each agent may read of what it was told: its numbers, and ids of messages."""
        self.ids: list[str] = []
        """Every message, in the order in which it was told."""
        self.is_level = False
        self.is_gone = False

    def resume(self) -> t.Resume:
        return t.Resume(
            room=self.room,
            public=self.public,
            line=self.line,
            moves=self.moves,
            asks=self.asks,
            before=dict(self.before),
            newest=50,
        )

    def hear(self, item: t.LinkItem) -> None:
        self.is_level = item.level
        if item.gone:
            self.is_gone = True
        if item.card is not None:
            self._card(item.card)
        if item.page is not None:
            self._page(item.page)

    def _card(self, card: t.Card) -> None:
        if card.whole:
            self.inside = set()
        assert card.whole or card.moves >= self.moves
        self.moves, self.asks = card.moves, max(self.asks, card.asks)
        for member in card.members:
            (self.inside.add if member.present else self.inside.discard)(member.agent)
        self.before = {agent: number for agent, number in self.before.items() if agent in self.inside}

    def _page(self, page: t.LinkPage) -> None:
        if not page.jumped:
            assert (page.public, page.line) == (self.public, self.line)
            for agent, number in page.before.items():
                if agent in self.before:
                    assert self.before[agent] == number, "a number goes on where it was"
        assert page.public >= self.public
        self.public, self.line = page.public, page.line
        self.before = {agent: number for agent, number in page.before.items() if agent in self.inside}
        for message in page.messages:
            envelope = decode_envelope(message.body)
            self.ids.append(envelope.id)
            for agent in self.before:
                if envelope.visibility is None or agent in envelope.visibility:
                    self.before[agent] += 1
                    self.told[agent].append((self.before[agent], envelope.id))
            if envelope.visibility is None:
                self.public += 1
                self.line = next_line(self.line, hashlib.sha256(message.body).digest())


class Script:
    """Random acts in one room, with one link that comes and goes."""

    def __init__(self, served: Served, seed: int, history: History) -> None:
        self.served = served
        self.draw = random.Random(seed)
        self.history = history
        self.mia = Elsewhere("mia")
        self.stack = AsyncExitStack()
        self.told = Told()
        self.heard = 0
        self.guests: set[str] = set()
        self.private: set[str] = set()

    async def begin(self) -> None:
        self.alice = await self.served.agent("alice")
        self.bob = await self.served.agent("bob")
        self.opened = await self.alice.open(context="", history=self.history)
        await self.served.admit(self.opened, self.bob)
        self.link = await self.mia.link(self.served, *OURS)
        self.reader = Reader(self.opened.room, {self.mia.agent(name): name for name in OURS})
        await self.link.enter("ann", self.opened)
        self.inside = {"ann"}
        await self.connect()

    async def connect(self) -> None:
        resume = self.reader.resume()
        self.reader.is_gone = False
        self.told = await self.stack.enter_async_context(self.link.resuming(resume))
        self.heard = 0

    def hear(self) -> None:
        for item in self.told.items[self.heard :]:
            if item.presence == []:
                self.reader.hear(item)
        self.heard = len(self.told.items)

    async def cut(self) -> None:
        """The link is lost, and some of what was on its way with it."""
        arrived = self.draw.randint(self.heard, len(self.told.items))
        del self.told.items[arrived:]
        self.hear()
        await self.stack.aclose()
        await self.connect()

    async def step(self) -> None:
        match self.draw.choice(ACTS):
            case "post":
                await self.alice.send("public")
            case "private":
                names = self.draw.sample([*sorted(self.inside), "bob"], k=1)
                sent = await self.alice.send("private", visible_to=tuple(map(self._id, names)))
                self.private.add(sent.id)
            case "ours" if self.inside:
                name = self.draw.choice(sorted(self.inside))
                readers = (self.mia.agent(name),) if self.draw.random() < 0.3 else ()
                posted = await self.link.post(name, self.opened.room, "ours", visible_to=readers)
                self.private |= {posted.id} if readers else set()
            case "move":
                await self._move(self.draw.choice(OURS))
            case "theirs":
                name = f"guest{self.draw.randrange(3)}"
                guest = await self.served.agent(name)
                if name in self.guests:
                    await guest.close()
                else:
                    await self.served.admit(self.opened, guest)
                self.guests ^= {name}
            case "cut":
                await self.cut()
            case "hear":
                await settle()
                self.hear()
            case _:
                pass
        if self.reader.is_gone and self.inside:
            await self.stack.aclose()
            await self.connect()

    def _id(self, name: str) -> str:
        return "bob" if name == "bob" else self.mia.agent(name)

    async def _move(self, name: str) -> None:
        if name in self.inside:
            await self.link.leave(name, self.opened.room)
            self.inside.discard(name)
        else:
            await self.link.enter(name, self.opened)
            self.inside.add(name)

    async def end(self) -> None:
        """Everything was told: compare it with what the store says of each agent."""
        for name in OURS:
            if name not in self.inside:
                await self._move(name)
        await settle()
        self.hear()
        await self.stack.aclose()
        await self.connect()
        await settle()
        self.hear()
        assert self.reader.is_level
        room = await (await self.served.engine.desk.rooms.get(RoomId(self.opened.room))).quiet()
        visible: dict[str, Position] = {}
        for name in OURS:
            agent = self.mia.agent(name)
            page = self.served.world.store.page(
                room.state.room, room.view(agent), Position(0), limit=10_000, max_bytes=10**9, skip_own=False
            )
            stored = {int(each.seq): each.header.event.id for each in page.messages}  # type: ignore[union-attr]
            visible |= {each.header.event.id: each.header.position for each in page.messages}  # type: ignore[union-attr]
            told = self.reader.told[agent]
            assert all(stored[number] == id for number, id in told), "under its own number"
            assert len({number for number, _ in told}) == len(told), "once"
            assert [number for number, _ in told] == sorted(number for number, _ in told), "in order"
            assert self.reader.before[agent] == room.newest_seq(agent)
        told_ids = self.reader.ids
        assert told_ids == sorted(told_ids, key=lambda id: visible[id]), "in the order of the log"
        assert len(set(told_ids)) == len(told_ids), "once"
        if self.history == "full":
            # Whoever left before it was told what was for it alone, and came back, finds that in the room's history.
            # Elsewhere that goes for whatever the others of the link may not see.
            assert {id for id in visible if id not in told_ids} <= self.private, "all of it"
        assert self.reader.moves == room.state.membership.moves
        assert {a for a in self.reader.inside if a in self.reader.agents} == set(self.reader.agents)


@pytest.mark.parametrize("history", ["full", "from-join", "none"])
@pytest.mark.parametrize("seed", range(20))
def test_a_reader_that_is_cut_off_at_any_moment_has_everything_once_and_in_order(
    seed: int, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PAGE", 4)
    monkeypatch.setattr(following, "FACTS", 3)

    async def main() -> None:
        async with engine_world() as served:
            script = Script(served, seed, history)
            async with script.stack:
                await script.begin()
                for _ in range(80):
                    await script.step()
                await script.end()

    run(main)
