"""How much of the rooms of this home is kept: the words that are too much go, a few at a time and the oldest first.

    facts are stored --> `note` --> after every 256 messages, and every hour: what does each room hold?
                                --> the oldest words that are too much --> the room's line --> `BodiesErased`

Each step is a command in the line of its room, so the words go in one commit with the fact that says so. What waits for
the writer waits for one step and never for a room. A daemon that is killed leaves rooms that hold too much; the next
one counts and goes on.

A room may have a limit of its own, below what the home keeps of any (`core.limits`).

Where all rooms together hold too much, the largest gives first: whoever floods a room takes nothing from the others.

Not here: which words are too much, and which a room needs (`core.retention`); rooms elsewhere (`uplink.bounds`); files,
which go with the last message that brings them (`shelf`). Above: `engine` runs it. Below: the rooms, the library.
Invariant: nobody waits for this, and at any time at most one step is at the writer.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Final

import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.memory import MAX_VERSIONS
from parlerd.core.model import HomeId, Millis, Position, PrincipalId, RoomId, RoomLimit
from parlerd.core.retention import UNREAD, Limit, Span, going
from parlerd.engine.deciding import home_itself
from parlerd.engine.library import Library
from parlerd.engine.ports import Clock
from parlerd.engine.rooms import Rooms
from parlerd.settings import Settings
from parlerd.store.port import ForgetMarks, Held

log = logging.getLogger(__name__)

EVERY: Final = 256
"""Messages that come in before it is looked again what is too much."""
STEP: Final = 128
"""Messages of which the words go in one step."""
MARKS: Final = 1_000
"""Delivery marks that go in one step."""
AT_ONCE: Final = 500
"""Rooms of which it is asked together what they hold."""
PAUSE_S: Final = 0.05
"""Between two steps, each of which takes some 8 ms of a processor: most of what is sent meanwhile comes between
them."""
AGAIN_S: Final = 3600.0
"""Between two looks at every room: time passes for words that are kept for some days, members read on, and what a room
needed it may need no longer."""
DAY_MS: Final = 24 * 3600 * 1000


class Retaining:
    """One for a home."""

    def __init__(
        self,
        *,
        library: Library,
        rooms: Rooms,
        clock: Clock,
        settings: Settings,
        own: HomeId,
        freed: Callable[[PrincipalId, int], None],
    ) -> None:
        self._library = library
        self._rooms = rooms
        self._clock = clock
        self._settings = settings
        self._freed = freed
        """Is told whose words went, and how many bytes."""
        self._own = own
        self._by = home_itself(own)
        """The home itself: no agent acts when words go."""
        self._held: dict[RoomId, Held] = {}
        """What each room of this home holds, of those that were counted."""
        self._counted: dict[RoomId, Position] = {}
        """Up to where the log of each of them was counted."""
        self._passed: dict[RoomId, Position] = {}
        """Up to where a room holds nothing more that can go now."""
        self._changed: set[RoomId] = set()
        """Rooms in which something was said since the last look."""
        self._noted = 0
        """How many messages that were."""
        self._due = trio.Event()
        """Set when there is something to look at, or when the engine stops. Made anew each time."""
        self._closing = False

    @property
    def total(self) -> Held:
        """What all rooms of this home hold, as far as they were counted."""
        return Held(sum(held.messages for held in self._held.values()), sum(held.bytes for held in self._held.values()))

    def note(self, room: RoomId, facts: Sequence[e.Header]) -> None:
        """Facts of a room of this home were stored."""
        posted = [fact.event for fact in facts if isinstance(fact.event, e.MessagePosted)]
        if not posted:
            return
        self._changed.add(room)
        is_guarded = any(isinstance(fact.event, e.BodiesErased) for fact in facts)
        if is_guarded or any(
            each.memory and (each.memory.forgets or each.memory.version > MAX_VERSIONS) for each in posted
        ):
            # Other words went with these, so what the room holds is counted anew.
            self._forget(room)
        self._noted += len(posted)
        if self._noted >= EVERY:
            self._due.set()

    def limit_of(self, room: RoomId) -> RoomLimit:
        """How much a room of this home may hold: of each number the smaller of what the person set for the room and
        what the home keeps of any."""
        return self._rooms.home.aggregate.limits.of(room).within(self.of_any)

    @property
    def of_any(self) -> RoomLimit:
        """How much the home keeps of any room."""
        settings = self._settings
        return RoomLimit(settings.retention_room_messages, settings.retention_room_bytes, settings.retention_days)

    def limited(self, room: RoomId) -> None:
        """The person set another limit for a room."""
        self._changed.add(room)
        self._passed.pop(room, None)
        self._due.set()

    def close(self) -> None:
        """End the task after the step that it is at."""
        self._closing = True
        self._due.set()

    async def run(self) -> None:
        """Keep the limits, of all rooms now and of each from now on, until `close`."""
        await self._guarded(self._look_at_all)
        while not self._closing:
            with trio.move_on_after(AGAIN_S) as hour:
                await self._due.wait()
            if not self._closing:
                self._due, self._noted = trio.Event(), 0
                await self._guarded(self._look_at_all if hour.cancelled_caught else self._look_at_changed)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do a part of the work. Where the store cannot be written, whoever writes to it hears so; this is tried again
        when more came in, or after an hour."""
        try:
            await work()
        except ParlerError as error:
            log.warning("what rooms keep is not looked after now: %s", error.code)

    # -- counting ------------------------------------------------------------------------------------------

    async def _look_at_all(self) -> None:
        elsewhere = set(await self._library.rooms_elsewhere(self._own))
        here = [room for room in await self._library.all_rooms() if room not in elsewhere]
        for gone in self._held.keys() - set(here):
            self._forget(gone)
        self._passed.clear()
        await self._look_at(here)
        held, most = self.total.bytes, self._settings.retention_total_bytes
        if most and held > most:
            log.warning("the rooms of this home hold %d bytes of words, more than the %d that they may", held, most)

    async def _look_at_changed(self) -> None:
        await self._look_at(sorted(self._changed))

    async def _look_at(self, rooms: Sequence[RoomId]) -> None:
        changed, self._changed = self._changed, set()
        read: dict[RoomId, Position] = {}
        for at in range(0, len(rooms), AT_ONCE):
            some = rooms[at : at + AT_ONCE]
            await self._count([room for room in some if room in changed or room not in self._held])
            for room in some:
                while not self._closing and await self._erase(room, *self._limits(room), read):
                    pass
        most, givers = self._settings.retention_total_bytes, set(self._held)
        while most and givers and not self._closing and self.total.bytes > most:
            largest = max(sorted(givers), key=lambda room: self._held[room].bytes)
            beside = self.total.bytes - self._held[largest].bytes
            limit, utmost = Limit(bytes=most - beside), Limit(bytes=UNREAD * most - beside)
            if not await self._erase(largest, limit, utmost, read):
                givers.remove(largest)
            givers &= self._held.keys()

    async def _count(self, rooms: Sequence[RoomId]) -> None:
        """Count what rooms hold that came since they were counted last: together, because over a network each question
        is a way to the store and back."""
        if not rooms:
            return
        grown = await self._library.grown({room: self._counted.get(room, Position(0)) for room in rooms})
        for room, (came, upto) in grown.items():
            known = self._held.get(room, Held())
            self._held[room] = Held(known.messages + came.messages, known.bytes + came.bytes)
            self._counted[room] = upto

    def _forget(self, room: RoomId) -> None:
        for known in (self._held, self._counted, self._passed):
            known.pop(room, None)

    def _limits(self, room: RoomId) -> tuple[Limit, Limit]:
        """How much a room may hold, and how much for the sake of who has not read it."""
        most = self.limit_of(room)
        messages, bytes = most.messages or inf, most.bytes or inf
        now, kept_ms = self._clock.now(), most.days * DAY_MS
        return (
            Limit(messages, bytes, Millis(now - kept_ms if kept_ms else 0)),
            Limit(UNREAD * messages, UNREAD * bytes, Millis(now - UNREAD * kept_ms if kept_ms else 0)),
        )

    # -- one step ------------------------------------------------------------------------------------------

    async def _erase(self, room: RoomId, limit: Limit, utmost: Limit, read: dict[RoomId, Position]) -> bool:
        """Let the oldest words of a room go that are too much and that it does not need, as many as one step may; and
        whether there may be more. `read` remembers how far all members of a room have read."""
        held = self._held.get(room)
        if held is None or not (limit.since or limit.is_exceeded(held.messages, held.bytes, limit.since)):
            return False
        after = self._passed.get(room, Position(0))
        old = await self._library.oldest_words(room, after, STEP)
        if not old or not limit.is_exceeded(held.messages, held.bytes, old[0].at):
            return False
        try:
            handle = await self._rooms.get(room)
            if room not in read:
                read[room] = await self._library.read_by_all(await handle.quiet())
            gone = going(old, held.messages, held.bytes, limit=limit, utmost=utmost, read=read[room])
            if not gone:
                return False
            settled = await handle.submit(c.PruneBodies(old=tuple(gone), after=after), self._by)
        except Refused:
            # It was deleted meanwhile, or a newer Parler wrote it.
            self._forget(room)
            return False
        erased = set(settled.decision.erases)
        self._passed[room] = gone[-1].position
        freed: Counter[PrincipalId] = Counter()
        for each in gone:
            if each.position in erased:
                freed[each.principal] += each.size
        if room in self._held:
            held = self._held[room]
            self._held[room] = Held(held.messages - len(erased), held.bytes - sum(freed.values()))
        for person, size in freed.items():
            self._freed(person, size)
        if erased:
            log.info("erased the words of %d old messages of room %s, which held too much", len(erased), room)
            await self._forget_marks(room, handle.aggregate.state.retention.spans, erased)
        await trio.sleep(PAUSE_S)
        return True

    async def _forget_marks(self, room: RoomId, spans: Sequence[Span], erased: set[Position]) -> None:
        """Let what readers were told of these messages go as well, a little at a time. A mark may reach back to what
        went before, so whole spans are looked through."""
        for span in spans:
            if not any(span.first <= position <= span.last for position in erased):
                continue
            while not self._closing and await self._library.has_marks(room, *span):
                await self._library.record([ForgetMarks(room, *span, MARKS)])
                await trio.sleep(PAUSE_S)
