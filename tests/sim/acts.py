"""What else happens in a story: acts beside what everybody says and reads, each with a model of its own.

    play      in the storm, and on into the calm until its people know what became of what they did
    readers   who reads what there is, once everything has come to rest
    look      in the calm, after that: the last things that its people ask for
    check     at the end: what the homes and the relay hold is what the model says

An act has people of its own in a room of its own, or some of those that met. Above: `world`. Below: one module for each
act, and `people`. Invariant: an act breaks no promise to whoever has no part in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tests.sim import promises
from tests.sim.people import Agent, Place, Record
from tests.support.relayed import Home, Relay


@dataclass
class Stage:
    """Where acts are played."""

    relay: Relay
    homes: Sequence[Home]
    places: Mapping[str, Place]
    """The daemon of each home, by the home's name."""
    agents: Sequence[Agent]
    """Those who met, and stay."""
    room: str
    """Where they met."""
    record: Record
    """What they were told there."""
    counts: Counter[str]

    def home_of(self, name: str) -> Home:
        """The home of the agent of this name."""
        return next(home for home in self.homes if name.startswith(f"{home.name}-"))


class Act:
    """One act. `random` is its own, so that what it draws changes nothing in the rest of the story."""

    names: ClassVar[str] = ""
    """What the reports call it."""
    kind: ClassVar[type[Agent]] = Agent
    """What its people are."""
    in_clear: ClassVar[bool] = False
    """Whether the act is about what the room in which everybody met has only where that is not sealed."""

    def __init__(self, stage: Stage, random: Random) -> None:
        self.stage = stage
        self.random = random
        self.record = Record(codes=stage.record.codes)
        """What its people were told in a room of its own."""
        self.people: list[Agent] = []
        """Who is in that room, by the model."""

    async def play(self) -> None:
        raise NotImplementedError

    def readers(self) -> Iterable[Agent]:
        """Who is to read everything there is."""
        return [each for each in self.people if each.name not in self.record.left]

    async def look(self) -> None:
        """What else its people do in the calm."""

    def check(self) -> None:
        """What has to hold of its room at the end. Raises `Broken`."""
        names = [each.name for each in self.people]
        promises.nothing_is_lost_or_doubled(self.record, names)
        promises.nothing_is_refused_without_a_reason(self.record)
        promises.order_is_kept(self.record, names)
        promises.what_was_acknowledged_is_stored(self.record, self.stage.relay.store)

    # -- what acts share -----------------------------------------------------------------------------------

    def person(self, name: str, room: str = "") -> Agent:
        """The agent of this name, known or new, as it is in the room of this act."""
        place = self.stage.places[self.stage.home_of(name).name]
        agent = self.kind(name, place, self.record, Random(self.random.random()))
        agent.has_window = False
        agent.mark = f"{self.names}-"
        agent.room = room
        return agent

    def count(self, what: str, many: int = 1) -> None:
        self.stage.counts[what] += many
