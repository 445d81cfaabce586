"""How a relay is, in numbers: the page `/metrics` for Prometheus, and whether the relay is ready.

The page holds counts and no name, no id and nothing that anybody wrote; it is served on this machine alone. A relay is
ready while its store takes what is written and it has an address that it listens at. Not here: HTTP (`door`). Above:
the relay's program. Below: the driver of the store, the links, the engine. Invariant: asking changes nothing, and costs
the same however much the relay holds, but for the list of its rooms. While the store cannot be read, the page is
without their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final, Literal, NamedTuple, TypeVar

import trio

from parlerd.core.errors import ParlerError, StoreError
from parlerd.engine.driver import Driver, Job, Settle
from parlerd.engine.engine import Engine
from parlerd.engine.worker import Awaited, Told
from parlerd.store.port import JobOutcome, Store
from relay.beats import Beats
from relay.enrolment import Enrolment
from relay.link import Links
from relay.together import Together

T = TypeVar("T")


class CountingDriver:
    """A driver of the store that counts what became of what was written."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.commits = 0
        """Jobs that are on the disk."""
        self.failed = 0
        """Jobs that the store could not write."""
        self.stale = 0
        """Jobs that met a log which had moved on, or a room which another relay has."""
        self.seconds = 0.0
        """How long the jobs that are on the disk took, from when they were handed over, added up."""
        self.is_sound = True
        """Whether the newest job that the store could write or not was written. A job that is refused for what it says
        is neither."""
        self.failed_at = -inf
        """When a job was not written last, on the loop's clock."""

    @property
    def kind(self) -> str:
        return self._driver.kind

    @property
    def is_at_hand(self) -> bool:
        return self._driver.is_at_hand

    async def commit(self, job: Job) -> JobOutcome:
        awaited = Awaited()
        self.hand_over(job, awaited.hear)
        outcome: JobOutcome = await awaited.get()
        return outcome

    def hand_over(self, job: Job, settled: Settle) -> None:
        begun = trio.current_time()

        def count(outcome: JobOutcome | None, error: BaseException | None) -> None:
            found = error if outcome is None or error is not None else outcome.error
            if found is None:
                self.commits += 1
                self.seconds += trio.current_time() - begun
                self.is_sound = True
            elif isinstance(found, StoreError) and found.code in ("stale_position", "room_moved"):
                self.stale += 1
            elif isinstance(found, StoreError) or not isinstance(found, ParlerError):
                self.failed += 1
                self.is_sound, self.failed_at = False, trio.current_time()
            settled(outcome, error)

        self._driver.hand_over(job, count)

    def ask(self, query: Callable[[Store], T], told: Told) -> None:
        self._driver.ask(query, told)

    async def look(self, query: Callable[[Store], T]) -> T:
        return await self._driver.look(query)

    async def read(self, query: Callable[[Store], T]) -> T:
        return await self._driver.read(query)

    async def close(self) -> None:
        await self._driver.close()


_ROOMS: Final = "Rooms, closed ones too."


class Sample(NamedTuple):
    """One number of the page."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    value: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the page is made of."""

    driver: CountingDriver
    links: Links
    enrolment: Enrolment
    engine: Engine
    unproven: Callable[[], int]
    """How many connections are not proven yet."""
    over_http: Callable[[], int]
    """How many connections over HTTP there are."""
    has_address: Callable[[], bool]
    """Whether the relay listens at an address now."""
    started_at: float
    """When the relay began, by the event loop's clock."""
    beats: Beats | None = None
    """How the relay says that it lives, where its rooms are in a database."""
    together: Together | None = None
    """What makes it one of several relays then."""

    def is_sound(self) -> bool:
        """Whether the store takes what is written. Of a database that failed this is so again once it was reached
        later than that: somebody who asks only whether the relay is ready writes nothing."""
        if self.beats is None:
            return self.driver.is_sound
        if not self.beats.may_decide():
            return False
        return self.driver.is_sound or trio.current_time() - self.driver.failed_at > self.beats.seconds_since

    def is_ready(self) -> bool:
        """Whether somebody who comes now can be served."""
        is_whole = self.together is None or (self.together.is_whole and not self.together.holding.is_older)
        return self.is_sound() and self.has_address() and is_whole and not self.links.is_draining

    async def page(self) -> str:
        """The page, in the text format of Prometheus."""
        links, driver, beats = self.links, self.driver, self.beats
        samples = [] if (rooms := await self._rooms()) is None else [Sample("rooms", "gauge", _ROOMS, rooms)]
        if beats is not None:
            samples += [
                Sample("beats_total", "counter", "Beats that the database took.", beats.sent),
                Sample("beats_missed_total", "counter", "Beats that it did not.", beats.missed),
                Sample("beat_seconds", "gauge", "Since the last beat that the database took.", beats.seconds_since),
                Sample("decides", "gauge", "Whether the relay may write.", float(beats.may_decide())),
            ]
        if (together := self.together) is not None:
            holding, routing = together.holding, together.routing
            asked = routing.here + routing.forwarded
            share = routing.forwarded / asked if asked else 0.0
            samples += [
                Sample("relays", "gauge", "Relays that live, this one among them.", len(holding.living)),
                Sample("relays_unreached", "gauge", "Those that it does not reach.", len(together.peers.unreached)),
                Sample("older", "gauge", "Whether newer relays wrote what it does not know.", float(holding.is_older)),
                Sample("shards", "gauge", "Shards of rooms that this relay has.", holding.shards),
                Sample("shards_unowned", "gauge", "Shards that no relay has that lives.", holding.unowned),
                Sample("shards_taken_total", "counter", "Shards that this relay took.", holding.taken),
                Sample("shards_given_total", "counter", "Shards that it handed over.", holding.given),
                Sample("shards_lost_total", "counter", "Shards that others took from it.", holding.lost),
                Sample("term", "gauge", "The highest term of any shard.", holding.newest_term),
                Sample("lanes", "gauge", "Daemons at other relays that are served here.", together.served.lanes),
                Sample("calls_forwarded_total", "counter", "Calls that another relay was asked.", routing.forwarded),
                Sample("calls_forwarded_share", "gauge", "Of all calls over links.", share),
            ]
        if beats is not None and (found := beats.numbers) is not None:
            samples += [
                Sample("store_connections", "gauge", "Connections of the relay's role.", found.connections),
                Sample("store_oldest_seconds", "gauge", "Of the oldest transaction that is seen.", found.oldest_s),
                Sample("store_dead_rows", "gauge", "Rows that the server is to clear away.", found.dead),
            ]
        return rendered(
            [
                Sample("ready", "gauge", "Whether the relay can serve who comes now.", float(self.is_ready())),
                Sample("uptime_seconds", "gauge", "Since the relay began.", trio.current_time() - self.started_at),
                Sample("links", "gauge", "Links whose proof was accepted.", links.proven),
                Sample("links_total", "counter", "Links that were ever accepted.", links.accepted),
                Sample("refused_total", "counter", "Proofs and hellos that were refused.", links.refused),
                Sample("connections_unproven", "gauge", "Connections without a proof.", self.unproven()),
                Sample("connections_http", "gauge", "Connections over HTTP.", self.over_http()),
                Sample("calls_under_way", "gauge", "Calls and streams without an answer.", links.calls_under_way),
                Sample("bytes_under_way", "gauge", "Bytes of the parameters of these.", links.bytes_under_way),
                Sample("people", "gauge", "People who are enrolled.", len(self.enrolment.members())),
                *samples,
                Sample("commits_total", "counter", "Jobs that the store wrote.", driver.commits),
                Sample("commits_failed_total", "counter", "Jobs that the store could not write.", driver.failed),
                Sample(
                    "commits_stale_total", "counter", "Jobs that met a log or a room that had moved on.", driver.stale
                ),
                Sample("commit_seconds_total", "counter", "What the written jobs took, added up.", driver.seconds),
            ]
        )

    async def _rooms(self) -> int | None:
        """How many rooms there are; None while the store cannot be read."""
        try:
            return len(await self.engine.desk.library.all_rooms())
        except StoreError:
            return None


def rendered(samples: list[Sample]) -> str:
    lines = []
    for sample in samples:
        name = f"parler_relay_{sample.name}"
        lines += [f"# HELP {name} {sample.help}", f"# TYPE {name} {sample.kind}", f"{name} {sample.value:.15g}"]
    return "\n".join(lines) + "\n"
