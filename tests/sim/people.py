"""Who takes part in a simulation: agents that say and read things on their own, over whatever their daemon answers.

An agent says one thing after the other: it goes on when the last was acknowledged, and asks again with the same
idempotency key until then. It reads as a command does: it takes a page, and acknowledges it. What an agent was
acknowledged, and which pages it acknowledged, is what the promises are about (`promises`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol, TypeVar

import trio

from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.support.engine import Party

R = TypeVar("R")

PATIENCE_S: Final = 3_600.0
"""Virtual seconds after which an agent that is never answered is a fault: each wait ends."""
DEAD: Final = frozenset({"store_failed", "draining"})
"""What somebody hears of a daemon that dies meanwhile."""


class Gone(Exception):
    """The daemon died before it answered."""


@dataclass(frozen=True, slots=True)
class Said:
    """Something that an agent was acknowledged."""

    author: str
    text: str
    readers: frozenset[str] | None
    """The only agents that may read it, by name; None for everyone in the room."""
    queued: bool
    """Whether the daemon had it, and not yet the relay."""


@dataclass
class Record:
    """What everyone was told, in the order in which it happened."""

    said: list[Said] = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    """Author, text and code of what was refused for good."""
    shown: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """For each agent the (author, text) of the pages that it acknowledged."""
    codes: set[str] = field(default_factory=set)
    """Every code that anybody heard."""
    repeats: int = 0
    """How often somebody asked again who was not answered."""


class Place(Protocol):
    """The daemon of an agent, while it runs."""

    async def ask(self, name: str, call: Callable[[Party], Awaitable[R]]) -> R:
        """Ask the daemon that runs, or the next one, as this agent. Raises what it answers, and `Gone` when it dies
        meanwhile."""
        ...


class Agent:
    """One agent in one room."""

    def __init__(self, name: str, place: Place, record: Record, random: Random) -> None:
        self.name = name
        self.room = ""
        self.others: list[str] = []
        """The other agents of the room, by name."""
        self._place = place
        self._record = record
        self._random = random
        self._count = 0
        record.shown[name] = []

    async def ask(self, call: Callable[[Party], Awaitable[R]]) -> R:
        """Ask until the daemon answers with anything but that it is not there. Raises what it answers."""
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    return await self._place.ask(self.name, call)
                except Gone:
                    pass
                except ParlerError as error:
                    self._record.codes.add(error.code)
                    if error.code not in DEAD:
                        raise
                self._record.repeats += 1
                await trio.sleep(0.5)

    async def live(self, things: int) -> None:
        """Say and read so many things, with pauses."""
        for _ in range(things):
            await trio.sleep(self._random.expovariate(1.0))
            if self._random.random() < 0.6:
                await self.say()
            else:
                await self.read(wait_s=self._random.choice((0.0, 0.0, 5.0)))

    async def say(self, *, in_public: bool = False) -> None:
        self._count += 1
        text, key = f"{self.name} says {self._count}", f"{self.name}-{self._count}"
        readers: frozenset[str] | None = None
        if self.others and not in_public and self._random.random() < 0.3:
            readers = frozenset({self._random.choice(self.others)})
        params = t.Send(
            text=text, room=self.room, idempotency_key=key, visible_to=tuple(sorted(readers)) if readers else ()
        )
        while True:
            try:
                sent = await self.ask(lambda party: party.ask("message.send", params, t.Sent))
            except ParlerError as error:
                if not error.spec.retryable:
                    self._record.refused.append((self.name, text, error.code))
                    return
                await trio.sleep(1.0)
                continue
            seen_by = None if readers is None else readers | {self.name}
            self._record.said.append(Said(self.name, text, seen_by, sent.queued))
            return

    async def read(self, *, wait_s: float = 0.0) -> bool:
        """Take a page and acknowledge it. Whether there was anything."""

        async def take(party: Party) -> t.Received:
            return await party.recv(room=self.room, wait=wait_s, limit=7)

        try:
            page = await self.ask(take)
        except ParlerError as error:
            if not error.spec.retryable:
                raise
            return False
        if not page.messages:
            return False
        # The page counts once it is acknowledged; who is not answered asks again, because a cursor never moves back.
        await self.ask(lambda party: party.commit(page))
        self._record.shown[self.name] += [(each.author.name, str(each.text)) for each in page.messages]
        return True

    async def read_everything(self) -> None:
        """Read until nothing has come for a while: a daemon that was just started reaches its relay first."""
        while await self.read(wait_s=10.0):
            pass
