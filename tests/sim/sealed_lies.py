"""What a relay could tell of a sealed room beside its messages: its records. And a message that a record overtakes.

The owner's home makes a record that changes nobody, as after seven days of use, and one home is told something else of
it. It is `impossible` where the home goes on as if nothing were, and `detected` where its mirror says that the relay
contradicted itself. What a relay can do unnoticed is on the list in docs/sealed.md. Above: `faults_of_sealing`, the
tests. Below: `lies`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, ClassVar, Final, Literal

import msgspec
import trio

from parlerd.core.epoch_record import check_record, encode_record, encode_wraps, read_wraps
from parlerd.core.model import RoomId
from parlerd.operations import types as t
from parlerd.uplink.lanes import mirror_of
from tests.sim import lies
from tests.sim.broken import Broken
from tests.sim.people import Agent
from tests.sim.programs import Program
from tests.sim.stored import state_of
from tests.sim.tales import GHOSTS_PERSON
from tests.sim.world import Simulation

STORY: Final = replace(lies.STORY, sealed=1.0)
LATE_S: Final = 0.5
BACK_S: Final = 120.0
"""Virtual seconds in which every home is linked again."""


async def turn(story: Simulation, room: str) -> None:
    """Let the owner's home make a record, as after seven days of use."""
    uplinks = story.homes[0].uplinks
    (link,) = uplinks._links.values()
    actor = await mirror_of(uplinks._desk, RoomId(room))
    turning = uplinks._turning
    used_up = turning._is_used_up
    turning._is_used_up = lambda room, now: True  # type: ignore[method-assign]
    try:
        told = await turning.following(await actor.quiet())
    finally:
        turning._is_used_up = used_up  # type: ignore[method-assign]
    assert told is not None
    await link.call("link.epoch", t.EpochAtRoom(room=room, epoch=told))


class Overtaken(Simulation):
    """Somebody says something while their home has not heard yet of a record that the room's home took."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, replace(STORY, things=2))

    async def _afterwards(self, agents: list[Agent]) -> None:
        author = agents[-1]
        await agents[0].say(in_public=True)
        await self._settle(agents)
        (link,) = self.homes[-1].uplinks._links.values()
        take = link.mirrors.take

        async def late(item: t.LinkItem, pull: Any = None) -> bool:
            await trio.sleep(LATE_S)
            return await take(item, pull)

        link.mirrors.take = late  # type: ignore[method-assign]
        await turn(self, author.room)
        await author.say(in_public=True)
        await self._settle(agents)


class Lost(Simulation):
    """The relay goes on from a copy of its store in which the newest record is not: the owner's home sends that again,
    and nobody is accused."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, replace(STORY, things=2))

    async def _afterwards(self, agents: list[Agent]) -> None:
        older = self.relay.copied()
        await turn(self, agents[0].room)
        await self._settle(agents)
        newest, lost = (state_of(store, agents[0].room).epochs.number for store in (self.relay.store, older))
        assert lost == newest - 1
        relay = self.programs["relay"]
        relay.end()
        self.relay.store = older
        await relay.up.wait()
        await trio.sleep(BACK_S)
        for agent in agents:
            await agent.say(in_public=True)
        await self._settle(agents)
        if state_of(self.relay.store, agents[0].room).epochs.number != newest:
            raise Broken("a relay that lost a record is not sent it again")


class RecordLiar(lies.Liar):
    """Tells one home something else of a record. Once."""

    fate: ClassVar[Literal["detected", "impossible", "unnoticed"]] = "detected"
    listed: ClassVar[str] = ""
    """The words for it on the list of what cannot be found out (docs/sealed.md)."""

    story: LiedOfRecords

    def items(self, item: t.LinkItem) -> list[t.LinkItem]:
        if item.epoch is None or self.has_lied:
            return super().items(item)
        self.has_lied = True
        return self.told(item, item.epoch)

    def told(self, item: t.LinkItem, record: t.EpochEntry) -> list[t.LinkItem]:
        raise NotImplementedError


class Dropped(RecordLiar):
    """A record is left out, and what follows is told."""

    def told(self, item: t.LinkItem, record: t.EpochEntry) -> list[t.LinkItem]:
        return []


class Frozen(RecordLiar):
    """Nothing is told any more from a record on."""

    fate = "unnoticed"
    listed = "keep one member in the past until a message crosses"

    def items(self, item: t.LinkItem) -> list[t.LinkItem]:
        return [] if self.has_lied else super().items(item)

    def told(self, item: t.LinkItem, record: t.EpochEntry) -> list[t.LinkItem]:
        return []


class Forked(RecordLiar):
    """Behind a record another one of the same number is told, which the owner's person signed too."""

    def told(self, item: t.LinkItem, record: t.EpochEntry) -> list[t.LinkItem]:
        other = signed_anew(record, self.story, nonce=bytes(16))
        return [item, msgspec.structs.replace(item, epoch=other)]


class Foreign(RecordLiar):
    """In the place of a record one of another room is told, which the owner's person signed too."""

    def told(self, item: t.LinkItem, record: t.EpochEntry) -> list[t.LinkItem]:
        return [msgspec.structs.replace(item, epoch=signed_anew(record, self.story, room=RoomId("r_another")))]


class MixedWraps(RecordLiar):
    """Two members are told each other's wraps."""

    def told(self, item: t.LinkItem, record: t.EpochEntry) -> list[t.LinkItem]:
        (one, first), (other, second), *rest = read_wraps(record.wraps, check_record(record.record))
        mixed = encode_wraps(((one, second), (other, first), *rest))
        return [msgspec.structs.replace(item, epoch=msgspec.structs.replace(record, wraps=mixed))]


class Substituted(RecordLiar):
    """A record leads to another roster, with a key of the relay's own say, and somebody else signed it."""

    def told(self, item: t.LinkItem, record: t.EpochEntry) -> list[t.LinkItem]:
        other = encode_record(msgspec.structs.replace(check_record(record.record), roster=bytes(32)))
        signature = GHOSTS_PERSON.sign("parler/epoch", other)
        return [msgspec.structs.replace(item, epoch=msgspec.structs.replace(record, record=other, signature=signature))]


class Retold(RecordLiar):
    """A record is told twice."""

    fate = "impossible"

    def told(self, item: t.LinkItem, record: t.EpochEntry) -> list[t.LinkItem]:
        return [item, item]


LIES: Final[tuple[type[RecordLiar], ...]] = (Dropped, Frozen, Forked, Foreign, MixedWraps, Substituted, Retold)


def signed_anew(record: t.EpochEntry, story: Simulation, **fields: object) -> t.EpochEntry:
    """A record that is otherwise, signed by the owner's person all the same: that person's machine colludes."""
    body = encode_record(msgspec.structs.replace(check_record(record.record), **fields))
    keys = story.homes[0].world.keys
    signature = keys.sign(keys.principal, "parler/epoch", body)
    return msgspec.structs.replace(record, record=body, signature=signature)


class LiedOfRecords(lies.Lied):
    """A story in a sealed room, in which a relay lies to the last home about a record."""

    def __init__(self, seed: int, liar: RecordLiar) -> None:
        super().__init__(seed, liar, STORY)
        liar.story = self
        self.room = ""

    def _left(self, programs: Collection[Program]) -> dict[str, int]:
        left = super()._left(programs)
        if isinstance(self.liar, Frozen):
            # What is said there waits for a record that is never told.
            del left["messages in outboxes"]
        return left

    async def _afterwards(self, agents: list[Agent]) -> None:
        self.room = agents[0].room
        await turn(self, agents[0].room)
        await self._settle(agents)


def lie(seed: int, make: type[RecordLiar]) -> tuple[str, bool]:
    """Let a relay lie about a record once: what became of it, and whether it had an occasion. Raises `Broken` where
    somebody was shown what nobody said."""
    liar = make()
    story = LiedOfRecords(seed, liar)
    story.run()
    if story.contradicted:
        return "detected", liar.has_lied
    newest = {state_of(home.world.store, story.room).epochs.number for home in story.homes}
    return ("impossible" if len(newest) == 1 else "unnoticed"), liar.has_lied
