"""What time alone changes, and whom it wakes: rooms in which something runs out, and agents that become idle.

No reader needs this to see what is right: whether a key lives or an agent is idle follows from a stored moment and the
time of whoever asks, in each decision and each read. But nobody who waits would ask again, because no fact says that
time has passed. Here they are woken. Where what ran out is a fact (`Aggregate.ran_out`), that fact is made here in its
moment, and wakes whoever waits for it.

Above: `engine`, which puts it together. Below: `scheduler` for the moments, the rooms (`Aggregate.next_deadline`,
`expire`). Invariant: a room that nobody has open has its next moment in the store, so that it is opened and looked at
all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from parlerd.core import commands as c
from parlerd.core import topics
from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import AgentId, Millis, RoomId
from parlerd.core.room import Room
from parlerd.engine.deciding import ITSELF
from parlerd.engine.driver import Driver
from parlerd.engine.handles import RoomHandle
from parlerd.engine.ports import Clock, Notifier, Ownership
from parlerd.engine.rooms import Rooms
from parlerd.engine.scheduler import Scheduler

log = logging.getLogger(__name__)

ACTIVE_MS: Final = 60_000
"""An agent that acted this recently counts as active."""


class RoomDeadlines:
    """The next moment of each room at which time changes something in it."""

    def __init__(
        self,
        *,
        driver: Driver,
        rooms: Rooms,
        clock: Clock,
        scheduler: Scheduler,
        notifier: Notifier,
        look: Callable[[RoomHandle], Awaitable[None]],
        owns: Ownership,
    ) -> None:
        self._owns = owns
        self._driver = driver
        self._look = look
        self._rooms = rooms
        self._clock = clock
        self._scheduler = scheduler
        self._notifier = notifier

    async def load(self) -> None:
        """Take the moments of all rooms of this process from the store: at the start, when rooms became this process's,
        and after the clock was set back."""
        now = self._clock.now()
        try:
            moments = await self._driver.read(lambda store: store.deadlines(now))
        except StoreError as error:
            # Nobody is woken then; what is read is right all the same.
            log.warning("the deadlines of rooms could not be read: %s", error.code)
            return
        for room, moment in moments.items():
            if self._owns.has(room):
                self._put(room, moment)

    def changed(self, name: RoomId, room: Room) -> None:
        """Facts of a room were stored: its next moment may be another."""
        moment = room.next_deadline(self._clock.now())
        if moment is None:
            self._scheduler.drop(_of_room(name))
        elif moment != self._scheduler.moment(_of_room(name)):
            self._put(name, moment)

    def _put(self, room: RoomId, moment: Millis) -> None:
        self._scheduler.put(_of_room(room), moment, partial(self._due, room, moment))

    async def _due(self, name: RoomId, moment: Millis) -> None:
        try:
            handle = await self._rooms.get(name)
            await self._look(handle)
            if handle.aggregate.has_due(max(self._clock.now(), handle.aggregate.last_at)):
                await handle.submit(c.RunDue(), ITSELF)
        except Refused:
            return  # the room is gone, or takes no more commands
        room = handle.aggregate
        self._notifier.publish(room.expire(Millis(moment - 1), self._clock.now()))
        self.changed(name, room)


class IdleAgents:
    """Notices that an agent has not acted for `ACTIVE_MS`. `presence` says what an agent is and since when."""

    def __init__(
        self,
        *,
        clock: Clock,
        scheduler: Scheduler,
        notifier: Notifier,
        presence: Callable[[AgentId], tuple[str, Millis]],
    ) -> None:
        self._clock = clock
        self._scheduler = scheduler
        self._notifier = notifier
        self._presence = presence

    def acted(self, agent: AgentId) -> None:
        """The agent acts now. Called with every call, so it does something only for one that was not active."""
        if self._scheduler.moment(_of_agent(agent)) is None:
            self._look_later(agent, Millis(self._clock.now() + ACTIVE_MS))
            self._notifier.publish([topics.presence(agent)])

    def left(self, agent: AgentId) -> None:
        """A connection of the agent's ended."""
        if self._presence(agent)[0] == "offline":
            self._scheduler.drop(_of_agent(agent))
        self._notifier.publish([topics.presence(agent)])

    def _look_later(self, agent: AgentId, moment: Millis) -> None:
        self._scheduler.put(_of_agent(agent), moment, partial(self._due, agent))

    async def _due(self, agent: AgentId) -> None:
        presence, last = self._presence(agent)
        now = self._clock.now()
        if presence == "active":
            # It acted meanwhile, or while the clock stood ahead.
            self._look_later(agent, Millis(max(now + 1, last + ACTIVE_MS)))
        elif presence == "waiting":
            self._look_later(agent, Millis(now + ACTIVE_MS))
        else:
            self._notifier.publish([topics.presence(agent)])


def _of_room(room: RoomId) -> tuple[str, str]:
    return ("room", room)


def _of_agent(agent: AgentId) -> tuple[str, str]:
    return ("agent", agent)
