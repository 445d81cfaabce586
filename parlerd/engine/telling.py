"""What happens in a room, told to one of its agents as the reads say it.

    hello      the room
    message    a message                                                  message.recv
    state      a change of the state of a room of this home               state.changes
    claim      a task that was taken, given back, ran out or is over      room.board
    roster     who came, went, has another role; that the room is closed  room.watch
    request    who knocks, for whom the room is                           rooms.requests
    presence   a member that is as present as before no more              rooms.roster
    resync     more than `BEHIND` events were not told: where the reads go on

Whoever follows is woken by one flag and looks once: at the log after the place where it stands, through the rules of
the reads, and at which members changed, which is found out once for all who follow the room. So one place is enough to
go on from, and nothing is kept for a reader that is slow: it is told what there is when it comes, or that it is too
much.

Not here: how an event is written (`parlerd.web.events`); the state of a room of another home, which that home alone
tells (`state.changes`). Above: the engine. Below: the parts of the handlers whose answers these are. Invariants: an
event says nothing that its read would not say to the same agent at that moment; what shows the agent nothing gives no
event, and counts for none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import msgspec

from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.errors import Refused
from parlerd.core.membership import is_requester, present
from parlerd.core.model import AgentId, MessageId, Position, RoomId
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.engine.absent import refill
from parlerd.engine.approving import request_shown
from parlerd.engine.armed import Armed
from parlerd.engine.board import Boards
from parlerd.engine.callers import Caller
from parlerd.engine.changes import change_shown
from parlerd.engine.cursors import PART, cursor_of, told_place
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.library import PAGE_BYTES
from parlerd.engine.lookup import member_room, room_of
from parlerd.engine.overview import member_shown, presence_of
from parlerd.engine.reading import Reading
from parlerd.engine.receiving import over_of
from parlerd.engine.sight import Sight
from parlerd.engine.streams import happened
from parlerd.engine.waits import Wait
from parlerd.operations import types as t

BEHIND: Final = 64
"""Events that a reader may be behind. Source: contract spec, Waiting."""
STEP: Final = 128
"""Facts that are read at a time, with their bodies."""
_OF_TASKS: Final = (e.TaskClaimed, e.TaskReleased, e.TaskLapsed, e.TaskCompleted)


class Told(NamedTuple):
    """One event: its name, what is said, and a place behind it."""

    name: str
    said: object
    place: str


@dataclass(slots=True, eq=False)
class _Reader:
    """How far somebody who follows has come. `messages` and `rest` are the positions up to which the log was told: two,
    because whoever begins is told what it did not acknowledge, and beside that what happens from then on."""

    me: AgentId
    messages: Position
    rest: Position
    moves: int
    """How many changes of presence had been when it was last told of them."""
    wait: Wait | None = None
    armed: Armed | None = None
    """How the next commit was asked to record what it brings as shown."""
    over: str = ""
    """The code of the error that says why nothing follows."""


_Found = tuple[Position, str, object]
"""Something to tell: where it stands, the name of the event, and what is said."""


class Telling:
    """Tells agents what happens in their rooms."""

    def __init__(self, desk: Desk, reading: Reading, sight: Sight) -> None:
        self._desk = desk
        self._reading = reading
        self._sight = sight
        self._boards = Boards(desk, sight)
        self._rolls: dict[RoomId, _Roll] = {}
        """The rolls of the rooms that somebody follows."""

    async def follow(self, caller: Caller, wanted: str, after: str) -> AsyncGenerator[Told, None]:
        """What happens in a room after a place that this agent was told there; without one, first what it has not
        acknowledged. It ends with an error, and not otherwise. Raises `Refused`: `room_closed` once all was told,
        `draining`."""
        roll, reader, *first = await self._begun(caller, wanted, after)
        try:
            yield first.pop()
            async with aclosing(self._desk.waits.follow(partial(self._look, roll, reader))) as told:
                async for each in told:
                    yield each
        finally:
            roll.readers.discard(reader)
            if not roll.readers:
                roll.stop()
                self._rolls.pop(roll.room, None)
        raise Refused(reader.over or "draining")

    async def _begun(self, caller: Caller, wanted: str, after: str) -> tuple[_Roll, _Reader, Told]:
        """Whoever begins to follow, and the first that it is told."""
        desk = self._desk
        me = await desk.me(caller)
        handle, room = await room_of(desk, me, wanted)
        if await handle.catch_up():
            handle, room = await member_room(desk, me, handle.room)
        name = handle.room
        _require_worker(room, me.id)
        if after:
            key = desk.keys.cursor_key()
            place = told_place(key, name, me.id, after, room.position, param="Last-Event-ID")
        else:
            place = (await desk.library.cursor(name, me.id)).acknowledged
        roll = self._rolls.get(name) or self._rolls.setdefault(name, _Roll(desk, name))
        roll.look(handle, room)
        reader = _Reader(me.id, place, place if after else room.position, roll.moves)
        roll.readers.add(reader)
        said_of = {"room": name, "name": room.state.name, "home": handle.home_name}
        return roll, reader, Told("hello", said_of, self._at(name, me.id, place))

    def _at(self, room: RoomId, me: AgentId, position: Position) -> str:
        """A position as it is told."""
        return cursor_of(self._desk.keys.cursor_key(), room, me, position, self._desk.random.bytes(PART))

    # -- one look ------------------------------------------------------------------------------------------

    async def _look(self, roll: _Roll, reader: _Reader, wait: Wait) -> Sequence[Told]:
        """What came since the last look."""
        desk, me, reader.wait = self._desk, reader.me, wait
        # A room nobody uses is closed, and the wait before this look may have been long.
        handle = await desk.rooms.get(roll.room)
        wait.on(topics.messages(roll.room, me), topics.quiet(roll.room, me))
        room = await (self._sight.room(handle) if desk.rooms.is_here(handle.aggregate) else handle.quiet())
        _require_worker(room, me)
        view, end, over = room.view(me), room.position, over_of(room)
        if _owns(room, me):
            wait.on(topics.requests(room.state.owner_principal))
        page = await desk.library.page(room, view, reader.messages, limit=BEHIND + 1, skip_own=False)
        upto = min(end, page.end) if page.more else end
        beside = await self._beside(handle, room, reader, upto)
        # What was said while this was read is told by the next look, with what happened beside it.
        within = [message for message in page.messages if message.header.position <= upto]
        refilled = await refill(handle, room.state, me, within)
        shown = await self._reading.render(room.state, view, refilled.messages)
        # After the store was asked, so that nothing is shown that is not stored yet.
        room = await handle.quiet()
        roll.look(handle, room)
        moved, moves = roll.since(reader.moves), roll.moves
        if room.view(me) != view:
            # It left the room or came back meanwhile: what was read may be too much or too little now.
            wait.again()
            return ()
        if len(shown) + len(beside) + len(moved) > BEHIND:
            wait.again()
            return [await self._resync(room, roll, reader, end)]
        positions = [message.header.position for message in refilled.messages]
        if positions and (reader.armed is None or not reader.armed.covers(positions)):
            await self._reading.mark(roll.room, me, [(reader.messages, upto)], needed=False)
        if len(within) == len(page.messages):
            self._reading.note_seen(roll.room, me, page)
        found: list[_Found] = [*beside, *((at, "message", said) for at, said in zip(positions, shown, strict=True))]
        found.sort(key=lambda each: each[0])
        found += [(upto, "presence", said) for said in roll.shown(handle, room, moved)]
        reader.messages, reader.rest, reader.moves = upto, max(upto, reader.rest), moves
        if upto < end:
            wait.again()
        elif over:
            reader.over = over
            wait.finish()
        else:
            reader.armed = Armed(me, "read", upto, BEHIND, PAGE_BYTES, partial(_sees, me))
            wait.meanwhile(handle.arm(reader.armed))
        return [Told(name, said, self._at(roll.room, me, at)) for at, name, said in found]

    async def _beside(self, handle: RoomHandle, room: Room, reader: _Reader, upto: Position) -> list[_Found]:
        """What happened beside messages up to a position, as far as this agent may know it; not all of it where it is
        more than `BEHIND`."""
        desk, me, owns = self._desk, reader.me, _owns(room, reader.me)
        view = room.view(me)
        resolver = self._sight.resolver(room, me) if desk.rooms.is_here(room) else None
        found: list[_Found] = []
        tasks: dict[MessageId, Position] = {}
        at = reader.rest
        while at < upto and len(found) + len(tasks) <= BEHIND:
            for fact in await desk.library.whole_facts(room, at, upto, STEP):
                at, event = fact.header.position, fact.header.event
                if isinstance(event, _OF_TASKS):
                    if _sees_task(room, me, event.task):
                        tasks[event.task] = at
                elif isinstance(event, e.JoinRequested):
                    request = room.state.requests.get(event.request)
                    if owns and request is not None and request.exchange is None and request.state == "pending":
                        found.append((at, "request", request_shown(handle, request)))
                elif isinstance(event, e.KeyExchanged):
                    request = room.state.requests.get(event.request)
                    if owns and event.step == "confirmed" and request is not None and request.state == "pending":
                        found.append((at, "request", request_shown(handle, request)))
                elif (item := happened(room.state, fact.header, owns=owns)) is not None:
                    # Who came and went while it was in the room no more is no news of the room that it is in.
                    if can_see(view, position=at, visibility=None):
                        found.append((at, "roster", item))
                elif resolver is not None and (change := change_shown(room, resolver, fact)) is not None:
                    found.append((at, "state", change))
        for id, at in tasks.items():
            if len(found) <= BEHIND and (task := room.claims.get(id)) is not None:
                found.append((at, "claim", await self._boards.task(room, me, task)))
        return found

    async def _resync(self, room: Room, roll: _Roll, reader: _Reader, end: Position) -> Told:
        """Where the reads go on that say what is left out here."""
        is_here, me = self._desk.rooms.is_here(room), reader.me
        said = t.Resync(
            room=roll.room,
            name=room.state.name,
            since=await self._desk.library.seq_at(room, room.view(me), reader.messages),
            after=self._at(roll.room, me, reader.rest) if is_here else msgspec.UNSET,
        )
        reader.messages = reader.rest = end
        reader.moves, reader.armed = roll.moves, None
        return Told("resync", said, self._at(roll.room, me, end))


class _Roll:
    """What wakes everybody who follows a room, and how present its members are. No topic tells that an agent begins or
    ends to wait (`topics.presence`), so to wait and to act is one and the same here."""

    def __init__(self, desk: Desk, room: RoomId) -> None:
        self._desk = desk
        self.room: Final = room
        self.readers: Final[set[_Reader]] = set()
        self.moves = 0
        """How many changes there were."""
        self._moved: dict[AgentId, int] = {}
        """Which of them was each member's newest, for those who changed."""
        self._known: dict[AgentId, tuple[str, t.StatedStatus | None]] = {}
        """How present each member is, and what it states."""
        self._stop: dict[AgentId, Callable[[], None]] = {}
        """What stops hearing of each member."""
        self._is_stale = True
        # What everybody in the room may know of is heard of once, and not once for each reader.
        public = (topics.messages, topics.quiet, topics.life, topics.state, topics.claims)
        self._deaf = [desk.notifier.hear(topic(room), self._wake) for topic in public]
        """What stops that."""

    def look(self, handle: RoomHandle, room: Room) -> None:
        """Find out who changed."""
        members = {member.agent for member in room.state.members.values() if member.present}
        if not self._is_stale and members == self._known.keys():
            return
        self._is_stale = False
        for gone in self._known.keys() - members:
            del self._known[gone]
            self._moved.pop(gone, None)
            self._stop.pop(gone)()
        for agent in members:
            if agent not in self._stop:
                self._stop[agent] = self._desk.notifier.hear(topics.presence(agent), self._heard)
            there = presence_of(self._desk, handle, agent)
            now = "here" if there.presence in ("active", "waiting") else there.presence, there.stated
            if self._known.setdefault(agent, now) != now:
                self.moves += 1
                self._known[agent], self._moved[agent] = now, self.moves

    def since(self, moves: int) -> list[AgentId]:
        """Who changed after so many changes, the one that did first before the others."""
        found = [(number, agent) for agent, number in self._moved.items() if number > moves]
        return [agent for _, agent in sorted(found)]

    def shown(self, handle: RoomHandle, room: Room, agents: Sequence[AgentId]) -> list[t.RosterMember]:
        """These members as a roster shows them now."""
        members = [room.state.members[agent] for agent in agents]
        return [
            member_shown(room.state, member, presence_of(self._desk, handle, member.agent))
            for member in members
            if member.present
        ]

    def stop(self) -> None:
        """Nobody follows the room any more."""
        for stop in (*self._stop.values(), *self._deaf):
            stop()

    def _heard(self) -> None:
        self._is_stale = True
        self._wake()

    def _wake(self) -> None:
        for reader in self.readers:
            if reader.wait is not None:
                reader.wait.again()


def _require_worker(room: Room, agent: AgentId) -> None:
    """Raise `Refused` for whoever is not in the room, or sees of it what names them alone."""
    if is_requester(present(room.state.members, agent)):
        raise Refused("not_a_worker")


def _owns(room: Room, me: AgentId) -> bool:
    """Whether this agent is told who knocks."""
    return room.state.owner == me


def _sees_task(room: Room, me: AgentId, id: MessageId) -> bool:
    task = room.claims.get(id)
    return task is not None and can_see(room.view(me), position=task.position, visibility=task.visibility)


def _sees(me: AgentId, header: e.Header) -> bool:
    event = header.event
    assert isinstance(event, e.MessagePosted)
    return event.visibility is None or me in event.visibility
