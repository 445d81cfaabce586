"""Live views for a person: what waits for them, and a room as it goes on.

A stream reads from the store at its own pace and is woken by the notifier; it buffers one item, so a slow watcher
slows only itself and never the room.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import nullcontext
from typing import Final

from parlerd.core import events as e
from parlerd.core.home import AgentRecord
from parlerd.core.model import AgentId, Position, RoomId, Seq
from parlerd.core.room import Room
from parlerd.engine import notifier
from parlerd.engine.actor import RoomActor
from parlerd.engine.armed import Armed
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.reading import JOIN_BYTES, Reading, render_message
from parlerd.engine.sessions import Sessions
from parlerd.operations import types as t
from parlerd.store.port import Page, StoredMessage

WATCH_PAGE: Final = 100


class Streams:
    """The handlers of `approvals.watch` and `room.watch`, and of MCP's resource subscriptions."""

    def __init__(self, desk: Desk, reading: Reading, sessions: Sessions) -> None:
        self._desk = desk
        self._reading = reading
        self._sessions = sessions

    async def approvals(self, caller: Caller, params: t.WatchApprovals) -> AsyncGenerator[t.RequestList, None]:
        """What waits now, and again at every change."""
        me = await self._desk.me(caller)
        with self._desk.notifier.listen(notifier.requests(me.principal)) as waiter:
            while not self._desk.draining:
                waiter.clear()
                yield await self._sessions.approvals(caller, params)
                await waiter.wait()

    async def room(self, caller: Caller, params: t.WatchRoom) -> AsyncGenerator[t.WatchItem, None]:
        """The newest messages that any of this person's agents may see there, and each new one."""
        me = await self._desk.me(caller)
        actor, observers = await self._observed(me, params.room, person=self._sessions.as_person(caller))
        room = await actor.quiet()
        # One mark for everyone: what one of them sees already and another not yet must neither come twice nor be left
        # out.
        at = room.position
        first: dict[Position, StoredMessage] = {}
        for agent in observers if params.tail else ():
            tail = await self._reading.tail(room, room.view(agent.id), limit=params.tail)
            first.update(_upto(tail, at))
        topics = [notifier.messages(actor.room), notifier.life(actor.room)]
        topics += [notifier.messages(actor.room, agent.id) for agent in observers]
        readers = {agent.id for agent in observers}
        armed = self._armed(me, readers, at)
        with self._desk.notifier.listen(*topics) as waiter:
            for item in await self._items(actor, me, room, first, params.tail, armed):
                yield item
            while not self._desk.draining:
                waiter.clear()
                # Each time anew: a room nobody uses is closed, and this may wait for long.
                actor = await self._desk.rooms.get(actor.room)
                room = await actor.quiet()
                upto = room.position
                pages: list[Page] = []
                for agent in observers:
                    if room.state.members[agent.id].present:
                        view = room.view(agent.id)
                        pages.append(await self._reading.page(room, view, at, limit=WATCH_PAGE, skip_own=False))
                for page in pages:
                    if page.more:
                        upto = min(upto, page.end)
                        waiter.wake()
                found: dict[Position, StoredMessage] = {}
                for page in pages:
                    found.update(_upto(page, upto))
                at = upto
                for item in await self._items(actor, me, room, found, len(found), armed):
                    yield item
                if room.state.closed:
                    yield t.WatchItem(room=actor.room, name=room.state.name, event="closed", at=room.state.last_at)
                    return
                armed = self._armed(me, readers, at)
                with nullcontext() if waiter.woken else actor.arm(armed):
                    await waiter.wait()

    def _armed(self, me: AgentRecord, readers: set[AgentId], after: Position) -> Armed:
        """This observer, with everything seen up to `after`: it sees what any of its agents may."""

        def sees(header: e.Header) -> bool:
            event = header.event
            assert isinstance(event, e.MessagePosted)
            return event.visibility is None or not readers.isdisjoint(event.visibility)

        return Armed(me.id, "pushed", after, WATCH_PAGE, JOIN_BYTES, sees)

    async def _items(
        self,
        actor: RoomActor[Room],
        me: AgentRecord,
        room: Room,
        found: dict[Position, StoredMessage],
        newest: int,
        armed: Armed,
    ) -> list[t.WatchItem]:
        positions = sorted(found)[-newest:] if newest else []
        if positions and not armed.covers(positions):
            # Observing is recorded before it is shown, and is not reading: the observer is in no roster.
            span = (Position(positions[0] - 1), positions[-1])
            await self._reading.mark(actor.room, me.id, [span], stage="pushed", needed=False)
        return [
            t.WatchItem(
                room=actor.room,
                name=room.state.name,
                event="message",
                message=render_message(room.state, me.id, found[position]),
                at=found[position].header.at,
            )
            for position in positions
        ]

    async def _observed(
        self, me: AgentRecord, wanted: str | None, *, person: bool
    ) -> tuple[RoomActor[Room], list[AgentRecord]]:
        """The room, and as whom this caller looks: the person as each of their agents in it, an agent as itself.
        Someone with none there may not look."""
        desk = self._desk
        known = desk.rooms.home.aggregate.state.agents.values() if person else ()
        mine = [record for record in known if record.principal == me.principal]
        rooms: dict[RoomId, list[AgentRecord]] = {}
        for record in [me, *(record for record in mine if record.id != me.id)]:
            for membership in desk.driver.store.memberships(record.id):
                if membership.state == "member":
                    rooms.setdefault(membership.room, []).append(record)
        if wanted is None:
            wanted = desk.rooms.home.aggregate.state.active.get(me.id)
        if wanted is None and rooms:
            # A person who opened nothing themself means the room their agents talk in: the newest.
            wanted = list(rooms)[-1] if len(rooms) == 1 else None
        if wanted is None:
            await desk.room_of(me, None)
        assert wanted is not None
        if RoomId(wanted) in rooms:
            room = RoomId(wanted)
        else:
            room = desk.only([room for room in rooms if desk.name_of(room) == wanted], wanted)
        return await desk.rooms.get(room), rooms[room]

    async def heads(self, caller: Caller) -> dict[RoomId, Seq]:
        """How far each room of this caller's agent goes for it now: where its `changes` begin."""
        me = await self._desk.me(caller)
        return await self._heads(me.id, self._rooms_of(me.id))

    async def changes(self, caller: Caller, heads: Mapping[RoomId, Seq]) -> AsyncGenerator[RoomId, None]:
        """Rooms of this caller's agent in which something it may see was posted since `heads`: content-free, for
        resource updates. A room it comes into later begins with what is there then."""
        me = await self._desk.me(caller)
        told = dict(heads)
        while not self._desk.draining:
            rooms = self._rooms_of(me.id)
            topics = [notifier.messages(room) for room in rooms]
            topics += [notifier.messages(room, me.id) for room in rooms]
            with self._desk.notifier.listen(*topics, notifier.memberships(me.id)) as waiter:
                for room, head in (await self._heads(me.id, rooms)).items():
                    if head > told.get(room, head):
                        yield room
                    told[room] = head
                await waiter.wait()

    def _rooms_of(self, agent: AgentId) -> list[RoomId]:
        return [m.room for m in self._desk.driver.store.memberships(agent) if m.state == "member"]

    async def _heads(self, agent: AgentId, rooms: list[RoomId]) -> dict[RoomId, Seq]:
        found: dict[RoomId, Seq] = {}
        for name in rooms:
            room = await (await self._desk.rooms.get(name)).quiet()
            if room.state.members[agent].present:
                found[name] = room.newest_seq(agent)
        return found


def _upto(page: Page, end: Position) -> dict[Position, StoredMessage]:
    """A page's messages by position, without those past `end`."""
    return {stored.header.position: stored for stored in page.messages if stored.header.position <= end}
