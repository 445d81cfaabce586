"""How a relay is, in numbers: the page `/metrics` for Prometheus, and whether the relay is ready.

The page holds counts and no name, no id and nothing that anybody wrote; it is served on this machine alone. A relay is
ready while its store takes what is written and it has an address that it listens at. Not here: HTTP (`door`). Above:
the relay's program. Below: the driver of the store, the links, the engine. Invariant: asking changes nothing, and costs
the same however much the relay holds, but for the list of its rooms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import trio

from parlerd.core.errors import ParlerError, StoreError
from parlerd.engine.driver import Job, Settle, ThreadDriver
from parlerd.engine.engine import Engine
from parlerd.store.port import FileStore, JobOutcome
from relay.enrolment import Enrolment
from relay.link import Links


class CountingDriver(ThreadDriver):
    """Drives the store, and counts what became of what was written."""

    def __init__(self, store: FileStore) -> None:
        super().__init__(store)
        self.commits = 0
        """Jobs that are on the disk."""
        self.failed = 0
        """Jobs that the store could not write."""
        self.is_sound = True
        """Whether the newest job that the store could write or not was written. A job that is refused for what it says
        is neither."""

    def hand_over(self, job: Job, settled: Settle) -> None:
        def count(outcome: JobOutcome | None, error: BaseException | None) -> None:
            found = error if outcome is None or error is not None else outcome.error
            if found is None:
                self.commits += 1
                self.is_sound = True
            elif isinstance(found, StoreError) or not isinstance(found, ParlerError):
                self.failed += 1
                self.is_sound = False
            settled(outcome, error)

        super().hand_over(job, count)


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

    def is_ready(self) -> bool:
        """Whether somebody who comes now can be served."""
        return self.driver.is_sound and self.has_address() and not self.links.is_draining

    async def page(self) -> str:
        """The page, in the text format of Prometheus."""
        links, driver = self.links, self.driver
        rooms = len(await self.engine.desk.library.all_rooms())
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
                Sample("rooms", "gauge", "Rooms, closed ones too.", rooms),
                Sample("commits_total", "counter", "Jobs that the store wrote.", driver.commits),
                Sample("commits_failed_total", "counter", "Jobs that the store could not write.", driver.failed),
            ]
        )


def rendered(samples: list[Sample]) -> str:
    lines = []
    for sample in samples:
        name = f"parler_relay_{sample.name}"
        lines += [f"# HELP {name} {sample.help}", f"# TYPE {name} {sample.kind}", f"{name} {sample.value:.15g}"]
    return "\n".join(lines) + "\n"
