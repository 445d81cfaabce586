"""The programs of agent hosts that a person started with `parler bring`, each with the room that it may bring one agent
into.

    parler bring -> add(its own process)      the command then becomes the host's program, or starts it
    its window   -> take(its lineage, host)   the first window of that host that descends from the process, once

The process is what proves the start: the kernel says from which processes a window descends, so no key and no secret
is handed to the program, in its command line, its environment or a file. Not here: whether the person may (`person`)
and letting the agent in (`bringing`). Above: `bringing`. Invariants: a start lets in one agent, of one host, into one
room, for a few minutes; and it lives in memory alone, so a daemon that starts anew knows of none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from parlerd.bounded import Bounded
from parlerd.core.model import AgentId, By, KeyId, RoomId
from parlerd.engine.callers import ProcessId

START_S: Final = 600.0
"""How long after the start its window may come. A host may first ask its person to log in and to trust the folder."""
MAX_STARTS: Final = 256
"""Starts that are remembered at once; the oldest is forgotten for one more. A person makes a few."""


@dataclass(slots=True, eq=False)
class Start:
    """One program that the person started. `taken` says that its window came, `agent` who was let in, and `code` with
    which error the window was turned away."""

    process: ProcessId
    """The process of `parler bring`, from which everything descends that it started."""
    host: str
    room: RoomId
    key: KeyId
    """The key of the room with which the agent knocks."""
    by: By
    """The person's stamp, for the decision to let the agent in."""
    until: float
    """When the start lapses, on trio's clock."""
    taken: bool = False
    agent: AgentId | None = None
    code: str = ""


class Starts:
    """The starts of one daemon."""

    def __init__(self) -> None:
        self._starts: Bounded[ProcessId, Start] = Bounded(MAX_STARTS)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._starts)

    def add(self, process: ProcessId, *, host: str, room: RoomId, key: KeyId, by: By) -> None:
        """Remember a start. A process that starts again means its last start."""
        until = trio.current_time() + START_S
        self._starts[process] = Start(process=process, host=host, room=room, key=key, by=by, until=until)

    def of(self, process: ProcessId) -> Start | None:
        """The start that this very process made."""
        return self._starts.get(process)

    def take(self, lineage: Sequence[ProcessId], host: str) -> Start | None:
        """The start that a window of `host` with this lineage comes from, if no other window took it. Of several the
        nearest. Whoever could not be let in for now gives it back: `taken = False`."""
        now = trio.current_time()
        for process in lineage:
            start = self._starts.get(process)
            if start is not None and not start.taken and start.host == host and now < start.until:
                start.taken = True
                return start
        return None
