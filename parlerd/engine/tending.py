"""Looks after claims while time passes: which leases have ended, and which go on although their worker said nothing.

    a lease ended --> its worker's window is connected, and acted within an hour   --> renewed
                  --> this machine slept meanwhile, and the worker is connected    --> renewed
                  --> this daemon began to run a moment ago                        --> the worker has time to come back
                  --> else                                                         --> the task is open again

A renewal is a row and no fact, because a worker renews its claim several times in each lease.

Not here: who may claim what (`core.claims`). Above: `deadlines`, which calls `look` when a lease ends, and `tasks`,
which calls it before it decides on a claim. Below: the library, who is connected. Invariant: what a worker is told of
its lease is on the disk, and only the home of a room ends a lease there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.claims import Renewal, Task
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, HomeId, MessageId, Millis, RoomId
from parlerd.core.room import Room
from parlerd.engine.callers import Caller
from parlerd.engine.connected import Connected
from parlerd.engine.deciding import home_itself
from parlerd.engine.handles import RoomHandle
from parlerd.engine.leases import KEPT_MS
from parlerd.engine.library import Library
from parlerd.engine.links import Links
from parlerd.engine.ports import Clock
from parlerd.engine.rooms import Rooms
from parlerd.engine.scheduler import Scheduler
from parlerd.engine.seats import Seats
from parlerd.store.port import PutRenewal

QUIET_MS: Final = 3_600_000
"""For how long a window that does nothing keeps its claims. Source: coordination spec, Messages as work."""
SLEPT_MS: Final = 10_000
"""Time that the wall clock has more than the loop's, from which on the machine counts as having slept."""
MAX_SLEEPS: Final = 64


class Tending:
    """The leases of the tasks of every room that lives here."""

    def __init__(
        self,
        *,
        library: Library,
        rooms: Rooms,
        clock: Clock,
        scheduler: Scheduler,
        connected: Connected,
        links: Links,
        seats: Seats,
        own: HomeId,
        changed: Callable[[RoomId, Room], None],
    ) -> None:
        self._library = library
        self._rooms = rooms
        self._clock = clock
        self._scheduler = scheduler
        self._connected = connected
        self._links = links
        self._seats = seats
        self._changed = changed
        """Called when the next moment of a room may be another, and no fact says so."""
        self._by = home_itself(own)
        """The home itself: no agent acts when a lease ends."""
        self._grace_until = Millis(0)
        """Until when the windows of the last run may come back, before a lease of theirs ends."""
        self.begin_grace()
        self._ahead = self._wall_ahead()
        """How far the wall clock is ahead of the loop's, as it was last looked at."""
        self._sleeps: deque[tuple[Millis, int]] = deque(maxlen=MAX_SLEEPS)
        """When it was noticed that the machine had slept, and how long, in milliseconds."""

    def begin_grace(self) -> None:
        """Let no lease end for a while, because workers may be on their way here: at the start, and where another
        process had rooms until now."""
        self._grace_until = Millis(self._clock.now() + KEPT_MS)

    async def look(self, handle: RoomHandle) -> None:
        """See to the leases of a room that have ended, and to the tasks that nobody took in their time. Raises
        `ParlerError` where the room cannot be written."""
        room = handle.aggregate
        now = self._now(room)
        self._notice_sleep()
        if not self._rooms.is_here(room):
            return
        ended = False
        for task in room.claims.due(now):
            if self._goes_on(room, task, now):
                await self.renew(handle, task, task.lease_ms)
            elif now < self._grace_until:
                room.claims.renew(task.id, Renewal(task.fence, self._grace_until))
                self._changed(handle.room, room)
            else:
                ended = True
        if ended or room.claims.run_out(now):
            await handle.submit(c.LapseTasks(upto=now), self._by)

    async def renew(self, handle: RoomHandle, task: Task, lease_ms: Millis) -> Millis:
        """Let a claim hold for so long from now, and give until when. It never ends earlier than it would have."""
        room = handle.aggregate
        until = max(room.claims.until(task), Millis(self._now(room) + lease_ms))
        # In memory first, so that nobody is given the task while the row is on its way to the disk.
        room.claims.renew(task.id, Renewal(task.fence, until))
        await self._library.record([PutRenewal(handle.room, task.id, task.fence, until)])
        self._changed(handle.room, room)
        return until

    def acted(self, name: RoomId, room: Room, fact: e.Header) -> None:
        """Somebody acts in a room: what it holds there is renewed, once a third of the lease is over."""
        agent, now = fact.by.actor, self._now(room)
        if isinstance(fact.event, e.TaskClaimed) or not self._rooms.is_here(room):
            return
        for task in room.claims.held_by(agent, now):
            if room.claims.until(task) - now < task.lease_ms * 2 // 3:
                renew = partial(self._renew_for_act, name, task.id)
                self._scheduler.put(("renew", name, task.id), self._clock.now(), renew)

    async def _renew_for_act(self, name: RoomId, id: MessageId) -> None:
        with suppress(Refused):
            handle = await self._rooms.get(name)
            task = handle.aggregate.claims.get(id)
            if task is not None and handle.aggregate.claims.holder(task, self._now(handle.aggregate)):
                await self.renew(handle, task, task.lease_ms)

    def _goes_on(self, room: Room, task: Task, now: Millis) -> bool:
        """Whether a worker that said nothing in time keeps its task."""
        began = room.claims.until(task) - task.lease_ms
        if sum(slept for at, slept in self._sleeps if at > began) > SLEPT_MS:
            return any(True for _ in self._callers(task.worker))
        windows = [caller for caller in self._callers(task.worker) if caller.facts.window]
        if any(now - caller.last_act < QUIET_MS for caller in windows):
            return True
        # Of an agent of another home its own daemon says how present it is, and since when.
        presence, since = self._links.presence_of(task.worker, now) or ("offline", now)
        return presence != "offline" and now - since < QUIET_MS

    def _callers(self, agent: AgentId) -> Iterator[Caller]:
        return (caller for caller in self._connected.actors() if self._seats.acts_as(caller) == agent)

    def _now(self, room: Room) -> Millis:
        return max(self._clock.now(), room.last_at)

    def _wall_ahead(self) -> int:
        return self._clock.now() - int(trio.current_time() * 1000)

    def _notice_sleep(self) -> None:
        """The loop's clock stands still while the machine sleeps, and the wall's does not."""
        ahead = self._wall_ahead()
        if ahead - self._ahead > SLEPT_MS:
            self._sleeps.append((self._clock.now(), ahead - self._ahead))
        self._ahead = ahead
