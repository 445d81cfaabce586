"""An act: two agents who write to each other directly, and at once; the person of one of them may be asked first.

The model is plain: the two have one room, from both sides, and every word is in it once and in order; whoever's person
said no is in no room, and is shown nothing. Above: `world`. Below: `acts`.
"""

from __future__ import annotations

from typing import Final

import trio

from parlerd.core.model import MessageId
from parlerd.operations import types as t
from tests.sim import promises
from tests.sim.acts import Act
from tests.sim.broken import Broken
from tests.sim.newcomers import MOOT
from tests.sim.people import KNOCK_S, Agent

LETTERS: Final = 2
"""How often each of them writes."""


class Writer(Agent):
    """An agent that writes to one other, wherever the two have their room."""

    other = ""

    def _saying(self, text: str, key: str, readers: frozenset[str] | None) -> t.Send:
        return t.Send(text=text, to=(self.other,), idempotency_key=key)

    def _was_sent(self, sent: t.Sent) -> None:
        if self.room not in ("", sent.room):
            raise Broken(f"{self.name} writes to {self.other} in two rooms")
        self.room = sent.room


class Writing(Act):
    """A pair of those who met, of two homes where there are two."""

    names = "direct"
    kind = Writer

    async def play(self) -> None:
        first, *others = self.random.sample([agent.name for agent in self.stage.agents], k=len(self.stage.agents))
        home = self.stage.home_of(first)
        second = next((name for name in others if self.stage.home_of(name) is not home), others[0] if others else "")
        if not second:
            return
        self.people = [self.person(first), self.person(second)]
        for who, other in zip(self.people, reversed(self.people), strict=True):
            assert isinstance(who, Writer)
            who.other = other.name
        self.verdict = self.random.choice(("open", "open", "yes", "no"))
        for who in self.people:
            # Somebody in the session that is on would be written to there.
            aside = t.OpenSession(topic="aside", context="Mine.", home="local", idempotency_key=f"{who.name}-aside")
            await who.want("session.open", aside, t.OpenedSession)
        self.count("pairs")
        if self.verdict == "open":
            async with trio.open_nursery() as writing:
                for who in self.people:
                    writing.start_soon(self._write, who)
        else:
            await self._ask(*self.people)

    async def _write(self, who: Agent) -> None:
        for _ in range(LETTERS):
            await who.say(in_public=True)
            await trio.sleep(self.random.expovariate(1.0))

    async def _ask(self, asker: Agent, asked: Agent) -> None:
        """One wants to be asked, and the other writes."""
        card = t.Register(visibility="private", direct="ask", home="local")
        await asked.want("directory.register", card, t.Registered)
        await self._write(asker)
        until = trio.current_time() + KNOCK_S
        while not (waiting := await self._waiting(asked)):
            if trio.current_time() > until:
                raise Broken(f"the person of {asked.name} is never asked about {asker.name}")
            await trio.sleep(1.0)
        [request] = waiting
        op = "session.approve" if self.verdict == "yes" else "session.deny"
        await asked.may(op, t.DecideJoin(agent=request.id), t.Decided, *MOOT)
        self.count(f"askers told {self.verdict}")
        await asker.say(in_public=True)

    async def _waiting(self, asked: Agent) -> list[t.RequestInfo]:
        found = await asked.want("approvals.list", t.ListApprovals(), t.RequestList)
        return [each for each in found.requests if each.direct_to == asked.name]

    def readers(self) -> list[Agent]:
        """Nobody reads before it is known which room is that of the two."""
        return []

    # -- what has to hold ----------------------------------------------------------------------------------

    async def look(self) -> None:
        if not self.people:
            return
        rooms = {who.room for who in self.people if who.room}
        if len(rooms) != 1:
            raise Broken(f"{' and '.join(who.name for who in self.people)} write to each other in {len(rooms)} rooms")
        [self.room] = rooms
        readers = self.people[:1] if self.verdict == "no" else self.people
        async with trio.open_nursery() as reading:
            for who in readers:
                who.room = self.room
                reading.start_soon(self._read, who)
        for who in self.people:
            inside = [each.room for each in await who.insist(lambda party: party.rooms()) if each.kind == "dm"]
            if inside != ([self.room] if who in readers else []):
                raise Broken(f"{who.name} is in the direct rooms {inside}, and {self.room} is the room of the two")

    async def _read(self, who: Agent) -> None:
        until = trio.current_time() + KNOCK_S
        while self.room not in {each.room for each in await who.insist(lambda party: party.rooms())}:
            if trio.current_time() > until:
                raise Broken(f"{who.name} never comes into the room in which it was written to")
            await trio.sleep(1.0)
        await who.read_everything()

    def check(self) -> None:
        if not self.people:
            return
        names = [who.name for who in self.people]
        if self.verdict == "no":
            if self.record.shown[names[1]]:
                raise Broken(f"the person of {names[1]} said no, and it was shown {self.record.shown[names[1]]}")
            self.record.left.add(names[1])
        promises.nothing_is_lost_or_doubled(self.record, names)
        promises.order_is_kept(self.record, names)
        promises.nothing_is_refused_without_a_reason(self.record)
        stores = {self.stage.home_of(name).world.store for name in names} | {self.stage.relay.store}
        for said in self.record.said:
            if all(store.find_message(MessageId(said.id)) is None for store in stores):
                raise Broken(f"{said.text!r} was written directly, and is stored nowhere")
