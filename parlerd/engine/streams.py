"""Live views for a person: what waits for them, and a room as it goes on.

A stream reads from the store at its own pace and is woken by the notifier; it buffers one item, so a slow watcher
slows only itself and never the room.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import msgspec

from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, MessageId, PeerText, Position, RoomId, Seq
from parlerd.core.room import Room, RoomState
from parlerd.core.visibility import can_see
from parlerd.engine.absent import refill
from parlerd.engine.approving import Approving
from parlerd.engine.armed import Armed
from parlerd.engine.callers import Caller
from parlerd.engine.cursors import PART, cursor_of, place_of
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.library import PAGE_BYTES
from parlerd.engine.observers import observed_room, observers
from parlerd.engine.person import is_person
from parlerd.engine.reading import Reading, handle_of, render_message
from parlerd.engine.waits import Wait
from parlerd.operations import types as t
from parlerd.store.port import Page, StoredMessage

WATCH_PAGE: Final = 100
LIFE_PAGE: Final = 500
"""Facts that are looked through at a time for who came and went."""


@dataclass(slots=True)
class _Following:
    """How far a stream of one room has come.

    `at` is the position up to which it looked, one for all the agents whose eyes it has: with one for each, a message
    that one of them sees before another could come twice or be left out. `armed` is how the next commit was asked to
    record what it brings as shown.
    """

    room: RoomId
    at: Position
    armed: Armed | None = None


class Streams:
    """The handlers of `approvals.watch` and `room.watch`, of what pages ask of a room, and of MCP's resource
    subscriptions."""

    def __init__(self, desk: Desk, reading: Reading, approving: Approving) -> None:
        self._desk = desk
        self._reading = reading
        self._approving = approving

    @handles("approvals.watch")
    async def approvals(self, caller: Caller, params: t.WatchApprovals) -> AsyncGenerator[t.RequestList, None]:
        """What waits now, and again at every change."""
        me = await self._desk.me(caller)
        shown: t.RequestList | None = None

        async def look(wait: Wait) -> list[t.RequestList]:
            nonlocal shown
            wait.on(topics.requests(me.principal))
            # The topic is the person's: it also fires for rooms of which this caller is told nothing.
            before, shown = shown, await self._approving.approvals(caller, params)
            return [] if shown == before else [shown]

        async with aclosing(self._desk.waits.follow(look)) as lists:
            async for each in lists:
                yield each

    @handles("room.watch")
    async def room(self, caller: Caller, params: t.WatchRoom) -> AsyncGenerator[t.WatchItem, None]:
        """The newest messages that any of this person's agents may see there, and each new one; who comes, goes and
        knocks meanwhile."""
        me = await self._desk.me(caller)
        actor, room, inside = await observed_room(self._desk, caller, me, params.room)
        following = _Following(actor.room, room.position)
        first: dict[Position, StoredMessage] = {}
        for agent in inside if params.tail else ():
            if _is_in(room, agent):
                view = room.view(agent.id)
                tail = await self._desk.library.tail(room.state.room, view, limit=params.tail, max_bytes=PAGE_BYTES)
                first.update(await self._upto(actor, room, agent.id, tail, following.at))
        items = await self._items(me, room, first, params.tail, following)
        number = 0
        for item in items:
            number += 1
            yield _numbered(item, number)
        look = functools.partial(self._more, caller, me, following)
        async with aclosing(self._desk.waits.follow(look)) as more:
            async for item in more:
                number += 1
                yield _numbered(item, number)

    @handles("page.look_back")
    async def look_back(self, caller: Caller, params: t.LookBack) -> t.LookedBack:
        """A page of messages that any of this caller's agents may see there, by the id of the message before which it
        ends: whoever looks on has no numbers of their own."""
        desk = self._desk
        me = await desk.me(caller)
        actor, room, inside = await observed_room(desk, caller, me, params.room)
        end, limit = room.position, params.limit
        if params.before:
            end = Position(await self._place(room, inside, params.before) - 1)
        elif params.only:
            end, limit = await self._place(room, inside, params.only), 1
        found, more = await self._before(actor, room, inside, end, limit)
        following = _Following(actor.room, room.position)
        items = await self._items(me, room, found, limit, following)
        state = room.state
        return t.LookedBack(
            room=state.room,
            name=state.name,
            topic=PeerText(state.topic),
            kind=state.kind,
            home=actor.home_name,
            owner=handle_of(state, state.owner),
            is_closed=state.closed,
            messages=[item.message for item in items if isinstance(item.message, t.Message)],
            more=more,
            cursor=self._cursor(following, me),
        )

    async def _place(self, room: Room, inside: list[AgentRecord], id: str) -> Position:
        """Where a message stands that one of these may see. Raises `Refused(no_such_message)`."""
        traced = await self._desk.library.trace(MessageId(id))
        if traced is None or traced.room != room.state.room or not isinstance(traced.header.event, e.MessagePosted):
            raise Refused("no_such_message")
        at, visibility = traced.header.position, traced.header.event.visibility
        if not any(
            can_see(room.view(agent.id), position=at, visibility=visibility) for agent in inside if _is_in(room, agent)
        ):
            raise Refused("no_such_message")
        return at

    async def _before(
        self, actor: RoomHandle, room: Room, inside: list[AgentRecord], end: Position, limit: int
    ) -> tuple[dict[Position, StoredMessage], bool]:
        """The newest `limit` messages up to a position that any of these may see, and whether there are older ones."""
        library, found = self._desk.library, dict[Position, StoredMessage]()
        # Below this somebody may see what was not fetched.
        begin, is_more = Position(0), False
        for agent in inside:
            if not _is_in(room, agent):
                continue
            view = room.view(agent.id)
            last = await library.seq_at(room, view, end)
            after = Position(0)
            if last > limit:
                after, is_more = await library.position_of(room.state.room, view, Seq(last - limit)), True
                begin = max(begin, after)
            while after < end:
                page = await library.page(room, view, after, limit=limit, skip_own=False)
                found |= await self._upto(actor, room, agent.id, page, end)
                after = page.end if page.more else end
        kept = {at: message for at, message in found.items() if at > begin}
        newest = sorted(kept)[-limit:]
        return {at: kept[at] for at in newest}, is_more or len(newest) < len(found)

    @handles("page.follow")
    async def follow(self, caller: Caller, params: t.LookOn) -> AsyncGenerator[t.Happened, None]:
        """What happens after a page of a room, as `room.watch` tells it."""
        me = await self._desk.me(caller)
        actor, room, _ = await observed_room(self._desk, caller, me, params.room)
        at = place_of(self._desk.keys.cursor_key(), actor.room, me.id, params.after)
        if at is None or at > room.position:
            raise Refused("invalid_cursor")
        following = _Following(actor.room, at)

        async def look(wait: Wait) -> list[t.Happened]:
            items = await self._more(caller, me, following, wait)
            found = [
                t.Happened(
                    event=item.event,
                    at=item.at,
                    message=item.message if isinstance(item.message, t.Message) else None,
                    agent=item.agent or "",
                    role=item.role or "",
                )
                for item in items
            ]
            # A place is told for all of them: whoever ends in the middle is told of them again.
            return [
                *found[:-1],
                *(msgspec.structs.replace(each, cursor=self._cursor(following, me)) for each in found[-1:]),
            ]

        async with aclosing(self._desk.waits.follow(look)) as more:
            async for each in more:
                yield each

    def _cursor(self, following: _Following, me: AgentRecord) -> str:
        key, nonce = self._desk.keys.cursor_key(), self._desk.random.bytes(PART)
        return cursor_of(key, following.room, me.id, following.at, nonce)

    async def _more(self, caller: Caller, me: AgentRecord, following: _Following, wait: Wait) -> list[t.WatchItem]:
        """What came since the last look."""
        desk = self._desk
        # A room nobody uses is closed, and the wait before this look may have been long.
        actor = await desk.rooms.get(following.room)
        room = await actor.quiet()
        inside = [agent for agent in observers(desk, caller, me) if _is_in(room, agent)]
        if not inside:
            raise Refused("no_such_room")
        owns = room.state.owner == me.id or (is_person(caller) and room.state.owner_principal == me.principal)
        # Agents of this person come into the room and leave it while it is followed. Nothing is awaited between this
        # and `room.position`, so no change can fall between the two.
        wait.on(*_topics(room, inside, owns=owns))
        # Where the room stands is taken now: it may go on while pages are read and items are given out.
        upto = end = room.position
        closed = room.state.closed
        pages: dict[AgentId, Page] = {}
        for agent in inside:
            if _is_in(room, agent):
                view = room.view(agent.id)
                pages[agent.id] = await desk.library.page(room, view, following.at, limit=WATCH_PAGE, skip_own=False)
        for page in pages.values():
            if page.more:
                upto = min(upto, page.end)
                wait.again()
        found: dict[Position, StoredMessage] = {}
        for reader, page in pages.items():
            found.update(await self._upto(actor, room, reader, page, upto))
        life = await self._life(room, following.at, upto, owns=owns)
        following.at = upto
        items = await self._items(me, room, found, len(found), following, life)
        if closed and upto == end:
            if not any(item.event == "closed" for item in items):
                # It was closed before this stream began.
                items.append(t.WatchItem(room=actor.room, name=room.state.name, event="closed", at=room.last_at))
            wait.finish()
        following.armed = self._armed(me, inside, upto)
        wait.meanwhile(actor.arm(following.armed))
        return items

    async def _upto(
        self, handle: RoomHandle, room: Room, reader: AgentId, page: Page, end: Position
    ) -> dict[Position, StoredMessage]:
        """A page's messages by position, without those past `end`."""
        within = [stored for stored in page.messages if stored.header.position <= end]
        refilled = await refill(handle, room.state, reader, within)
        return {stored.header.position: stored for stored in refilled.messages}

    async def _life(self, room: Room, after: Position, upto: Position, *, owns: bool) -> dict[Position, t.WatchItem]:
        """What happened to a room in (after, upto], beside its messages: who came, went and is what, which every
        member may know, and for whoever `owns` it who knocks."""
        state = room.state
        found: dict[Position, t.WatchItem] = {}
        while after < upto:
            limit = min(upto - after, LIFE_PAGE)
            facts = await self._desk.library.facts(state.room, after, limit)
            for header in facts:
                if (item := happened(state, header, owns=owns)) is not None:
                    found[header.position] = item
            after = Position(after + limit)
        return found

    def _armed(self, me: AgentRecord, inside: list[AgentRecord], after: Position) -> Armed:
        """This observer, with everything seen up to `after`: it sees what any of its agents may."""
        readers = {agent.id for agent in inside}

        def sees(header: e.Header) -> bool:
            event = header.event
            assert isinstance(event, e.MessagePosted)
            return event.visibility is None or not readers.isdisjoint(event.visibility)

        return Armed(me.id, "pushed", after, WATCH_PAGE, PAGE_BYTES, sees)

    async def _items(
        self,
        me: AgentRecord,
        room: Room,
        found: dict[Position, StoredMessage],
        newest: int,
        following: _Following,
        life: Mapping[Position, t.WatchItem] = MappingProxyType({}),
    ) -> list[t.WatchItem]:
        """The newest of the messages that were found and what else happened, in order, once it is on record that they
        are shown."""
        positions = sorted(found)[-newest:] if newest else []
        armed = following.armed
        if positions and (armed is None or not armed.covers(positions)):
            # Observing is recorded before it is shown, and is not reading: the observer is in no roster.
            span = (Position(positions[0] - 1), positions[-1])
            await self._reading.mark(following.room, me.id, [span], stage="pushed", needed=False)
        items = dict(life)
        for position in positions:
            items[position] = t.WatchItem(
                room=following.room,
                name=room.state.name,
                event="message",
                message=render_message(room.state, me.id, found[position], self._reading.now_in(room.state)),
                at=found[position].header.at,
            )
        return [items[position] for position in sorted(items)]

    @handles("window.changes")
    async def changes(self, caller: Caller, params: t.WatchChanges) -> AsyncGenerator[t.RoomChanged, None]:
        """Rooms of this caller's agent in which something it may see is posted after the first item: content-free, for
        resource updates. A room it comes into later begins with what is there then."""
        me = await self._desk.me(caller)
        told = await self._heads(me.id, await self._desk.library.my_rooms(me.id))
        yield t.RoomChanged()

        async def look(wait: Wait) -> list[t.RoomChanged]:
            wait.on(topics.memberships(me.id))
            rooms = await self._desk.library.my_rooms(me.id)
            wait.on(*map(topics.messages, rooms), *(topics.messages(room, me.id) for room in rooms))
            found = await self._heads(me.id, rooms)
            news = [t.RoomChanged(room=room) for room, head in found.items() if head > told.get(room, head)]
            told.update(found)
            return news

        async with aclosing(self._desk.waits.follow(look)) as changes:
            async for change in changes:
                yield change

    async def _heads(self, agent: AgentId, rooms: list[RoomId]) -> dict[RoomId, Seq]:
        found: dict[RoomId, Seq] = {}
        for name in rooms:
            room = await (await self._desk.rooms.get(name)).quiet()
            if room.state.members[agent].present:
                found[name] = room.newest_seq(agent)
        return found


def _topics(room: Room, inside: list[AgentRecord], *, owns: bool) -> list[topics.Topic]:
    """What changes what these observers see of a room."""
    name = room.state.room
    wanted = [topics.messages(name), topics.quiet(name), topics.life(name)]
    wanted += [topic(name, agent.id) for agent in inside for topic in (topics.messages, topics.quiet)]
    return [*wanted, topics.requests(room.state.owner_principal)] if owns else wanted


def happened(state: RoomState, header: e.Header, *, owns: bool) -> t.WatchItem | None:
    """What a fact says of who came, went and is what, which every member may know, and for whoever `owns` the room of
    who knocks; None for any other."""
    role: str | msgspec.UnsetType = msgspec.UNSET
    match header.event:
        case e.MemberJoined(handle=handle):
            event, who = "joined", handle
        case e.MemberLeft(agent=agent):
            event, who = "left", handle_of(state, agent)
        case e.RoleGiven(agent=agent, role=role):
            event, who = "role", handle_of(state, agent)
        case e.JoinRequested(request=request, name=name) if owns and state.requests[request].exchange is None:
            event, who = "knocked", name
        case e.KeyExchanged(request=request, step="confirmed") if owns:
            event, who = "knocked", state.requests[request].name
        case e.JoinDenied(request=request) if owns:
            event, who = "denied", state.requests[request].name
        case e.RoomClosed():
            event, who = "closed", ""
        case _:
            return None
    return t.WatchItem(
        room=state.room, name=state.name, event=event, agent=who or msgspec.UNSET, role=role, at=header.at
    )


def _is_in(room: Room, agent: AgentRecord) -> bool:
    member = room.state.members.get(agent.id)
    return member is not None and member.present


def _numbered(item: t.WatchItem, number: int) -> t.WatchItem:
    if isinstance(item.message, t.Message):
        item = msgspec.structs.replace(item, message=msgspec.structs.replace(item.message, seq=number))
    return msgspec.structs.replace(item, number=number)
