"""What else befalls rooms of two: two of them for one pair, and machines that go on from an older copy of their store.

    TwoRooms          the relay lets each of two open a room for both, and tells neither of the other's
    ReaderWentBack    whoever is written to lost the key that its relay shows
    ReaderCameRound   the same, and a day goes by before anybody writes
    WriterWentBack    whoever writes lost the key that it told last, before its first letter
    OpenerWentBack    whoever wrote lost the room that it had opened, with all that it kept of that

Nothing is lost or shown twice, nobody is accused, and what each room says opens for its two agents alone. Above:
`faults_of_sealing`, the tests. Below: `direct_lies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import pytest
import trio

from parlerd.core.model import AgentId, PrincipalId, RoomId
from parlerd.core.pairs import Pairs
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from tests.sim import promises
from tests.sim.broken import Broken
from tests.sim.direct_lies import Correspondent, Two
from tests.sim.people import Agent
from tests.sim.sealed_lies import BACK_S, LATE_S
from tests.support.relayed import copied


class WentBack(Two):
    """The machine of one goes on from an older copy of its store."""

    tells = False
    whose: ClassVar[str]
    """Whose machine that is."""
    older: MemoryStore

    async def go_back(self) -> None:
        """Put the older copy in place, and start the daemon again."""
        program = self.programs[self.whose]
        program.end()
        while program.up.is_set():
            await trio.lowlevel.checkpoint()
        self.home(self.whose).world.store = self.older
        self.watched.mirrors[self.person_of(self.whose)] = self.older
        await program.up.wait()

    def copy(self) -> None:
        self.older = copied(self.home(self.whose).world.store)


class ReaderWentBack(WentBack):
    """What the relay shows is the newest key that the agent told, and its private half is lost. Both letters are read
    once their authors' machines made a record with another one."""

    fate = "late"
    others_fate = "late"
    whose = "home1"

    async def prepare(self) -> None:
        await self.uses_key("home1-reader", "home2-friend")
        self.copy()
        await self.gets_fresh_key("home1-reader")

    async def write(self) -> None:
        await super().write()
        await self.go_back()


class ReaderCameRound(WentBack):
    """After a day whoever lost its key has told another, which comes behind the lost one."""

    fate = "read"
    whose = "home1"

    async def prepare(self) -> None:
        await self.uses_key("home1-reader", "home2-friend")
        self.copy()
        await self.gets_fresh_key("home1-reader")
        await self.go_back()
        await self.gets_fresh_key("home1-reader", known=2)


class WriterWentBack(WentBack):
    """The writer's machine lost the key that it told the relay last."""

    fate = "read"
    whose = "home0"

    async def prepare(self) -> None:
        await self.uses_key("home0-pen", "home2-friend")
        self.copy()
        await self.gets_fresh_key("home0-pen")
        await self.go_back()
        await trio.sleep(BACK_S)


class OpenerWentBack(WentBack):
    """The writer's machine lost the room, its record and the letter; and then its agent writes as if for the first
    time."""

    fate = "read"
    whose = "home0"

    async def write(self) -> None:
        self.copy()
        await super().write()
        await self.go_back()
        await self.pairs[0].writer.say(in_public=True)


class Either(Correspondent):
    """Somebody whose letters to the other go to more rooms than one."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.sent: list[t.Sent] = []

    def _was_sent(self, sent: t.Sent) -> None:
        self.sent.append(sent)


class TwoRooms(Two):
    """The relay lets each of two open a room of both, and says nothing of the other's before both wrote."""

    fate = "read"
    tells = False
    kind = Either
    is_over = False
    """Whether the relay tells of everything."""

    async def prepare(self) -> None:
        patch = self._until_the_end.enter_context(pytest.MonkeyPatch.context())
        room_of, rooms_of = Pairs.room_of, Pairs.rooms_of

        def is_relays(pairs: Pairs) -> bool:
            return pairs is self.programs["relay"].now.rooms.home.aggregate.pairs

        def no_room(pairs: Pairs, one: AgentId, other: AgentId) -> RoomId | None:
            return None if is_relays(pairs) and not self.is_over else room_of(pairs, one, other)

        def both_rooms(pairs: Pairs, agent: AgentId) -> Mapping[AgentId, RoomId]:
            if not (is_relays(pairs) and agent in self.ids.values()):
                return rooms_of(pairs, agent)
            sent = [each for who in (self.pairs[0].writer, self.pairs[0].reader) for each in self.letters(who)]
            return {AgentId(each.room): RoomId(each.room) for each in sent}

        patch.setattr(Pairs, "room_of", no_room)
        patch.setattr(Pairs, "rooms_of", both_rooms)

    def told_to(self, principal: PrincipalId, item: t.LinkItem) -> list[t.LinkItem]:
        return [item] if self.is_over or not item.awaits else []

    async def _afterwards(self, agents: list[Agent]) -> None:
        self.places = {agent.name.partition("-")[0]: agent._place for agent in agents}
        self.pairs = [await self.pair("home0-pen", "home1-reader")]
        await self.prepare()
        self.step = "the letters of both"
        [pair] = self.pairs
        both = pair.writer, pair.reader
        for who in both:
            await who.say(in_public=True)
        self.is_over = True
        # Every home hears on its next link who is waited for.
        self.weather.cut()
        self.weather.mend()
        await trio.sleep(BACK_S)
        self.step = "what both say once they hear of both rooms"
        for who in (*both, *both):
            await who.say(in_public=True)
            await trio.sleep(LATE_S)
        self.rooms = sorted({each.room for who in both for each in self.letters(who)})
        for who in both:
            for room in self.rooms:
                who.room = room
                await self.comes_in(who)
                await who.read_everything()

    def letters(self, who: Correspondent) -> list[t.Sent]:
        assert isinstance(who, Either)
        return who.sent

    def _check_pairs(self) -> None:
        [pair] = self.pairs
        first, last = ([self.letters(who)[place].room for who in (pair.writer, pair.reader)] for place in (0, -1))
        if len(set(first)) < 2:
            raise Broken("the relay had no occasion to let both open a room")
        if len(set(last)) > 1:
            raise Broken(f"two who have the rooms {first} go on in {last}")
        for room in self.rooms:
            pair.writer.room = room
            self.check_room(pair, opens=False)
        # Of the two rooms nothing tells which is to be read first.
        names = [pair.writer.name, pair.reader.name]
        promises.nothing_is_lost_or_doubled(pair.record, names)
        promises.nothing_is_refused_without_a_reason(pair.record)
        promises.what_was_acknowledged_is_stored(pair.record, self.relay.store)


STORIES: Final[tuple[type[Two], ...]] = (TwoRooms, ReaderWentBack, ReaderCameRound, WriterWentBack, OpenerWentBack)
