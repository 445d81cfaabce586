"""Reading what is new, waiting for it, and acknowledging it.

Not here: how a page is read, recorded and rendered (`reading`), live views for a person (`streams`). Above: the
engine's face. Invariant: reading moves no cursor; a cursor is moved by `commit`, and for a window by its next call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.claims import QUIET_KINDS
from parlerd.core.errors import ERRORS, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, Position, RoomId, Seq, View
from parlerd.core.room import Room
from parlerd.engine.absent import refill
from parlerd.engine.armed import Armed
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.knocks import waits_at
from parlerd.engine.look_back import LookedBack, cut, look_back
from parlerd.engine.lookup import is_active, member_room, room_of
from parlerd.engine.notices import Notices
from parlerd.engine.reading import (
    Reading,
    alarm_of,
    handle_of,
    key_change_of,
    lost_of,
    names_in,
    parse_cursor,
    silence_of,
)
from parlerd.engine.sightings import to_show_again
from parlerd.engine.waits import Wait
from parlerd.operations import types as t
from parlerd.store.port import Page, StoredMessage

LONG_BACKLOG: Final = 100
"""More new messages than this are not paged through where a model reads: the recap and the newest are shown, with the
gap stated."""
TAIL: Final = 30
"""The newest messages of a long backlog that are looked at; what fits of them is shown."""
KEY_CHANGE_MS: Final = 5_000
"""For so long a reader of a sealed room is not told that a key change is pending: the record follows whoever comes or
goes within two seconds, and their coming may have ended the wait. Whoever sends or looks at the roster is told at
once."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at a room found.

    `shown` is up to where the page goes that may be acknowledged, once it is the answer; None for a page that moves no
    cursor. `end` is the position up to which this reader was looked after. `over` is the code
    of the error that says why nothing will ever come, and empty where something may.
    """

    received: t.Received
    shown: Position | None
    end: Position
    actor: RoomHandle
    over: str


_At = tuple[RoomHandle, Room]
"""Where a look looks: a room's actor, and the room when nothing of it was ahead of the store."""


class Receiving:
    """The handlers of `message.recv`, `message.recv_all` and `message.commit`."""

    def __init__(self, desk: Desk, reading: Reading, notices: Notices) -> None:
        self._desk = desk
        self._reading = reading
        self._notices = notices

    @handles("message.recv")
    async def recv(self, caller: Caller, params: t.Recv) -> t.Received:
        me = await self._desk.me(caller)
        if params.unclaimed:
            return await self._unclaimed(caller, me, params)
        lookback = params.since is not None or params.all
        deadline = trio.current_time() + params.wait_ms / 1000
        if params.room is None:
            await self._admission(caller, me, deadline)
        found_at = await room_of(self._desk, me, params.room)
        name = found_at[0].room
        if await found_at[0].catch_up():
            found_at = await member_room(self._desk, me, name)
        # Where the first look looks, for no other task runs until then.
        at: _At | None = found_at
        wanted = [topics.messages(name), topics.messages(name, me.id), topics.life(name)]
        if params.kind in QUIET_KINDS:
            # Who asks for these alone waits for them.
            wanted += [topics.quiet(name), topics.quiet(name, me.id)]
        if caller.reader.acknowledges == "next_call":
            wanted.append(topics.concerns(me.id))
        armed: Armed | None = None
        is_first = True

        async def look(wait: Wait) -> _Look | None:
            nonlocal armed, at, is_first
            wait.on(*wanted)
            # Looked up again each time: a room that nobody uses is closed up, and the wait before may have been long.
            at = at or await member_room(self._desk, me, name)
            found = await self._recv_now(caller, me, at, params, lookback=lookback, armed=armed)
            at = armed = None
            # What the room remembers is shown when there is something to show anyway, and ends no wait.
            is_enough = found.received.messages if is_first else _is_talk(found.received.messages)
            is_first = False
            over = found.over
            if caller.reader.fits is not None and over and not found.received.messages and not lookback:
                # A model that is told of nothing new would go on asking.
                raise Refused(over)
            if is_enough or wait.over or await self._notices.concerning(caller):
                return found
            if over:
                # Nothing will ever come: an agent that keeps asking must be told to stop.
                raise Refused(over)
            if not (lookback or wait.woken or params.kind is not None or params.mentions):
                armed = _armed(me.id, found.end, params, bounded=caller.reader.fits is not None)
                wait.meanwhile(found.actor.arm(armed))
            return None

        found = await self._desk.waits.until(caller, look, deadline)
        self._shown(caller, found)
        return found.received

    async def _unclaimed(self, caller: Caller, me: AgentRecord, params: t.Recv) -> t.Received:
        """The open tasks of a room that the agent could claim, the oldest first. Waits for one, if asked to."""
        desk = self._desk
        name = (await room_of(desk, me, params.room))[0].room
        deadline = trio.current_time() + params.wait_ms / 1000

        async def look(wait: Wait) -> t.Received | None:
            wait.on(topics.claims(name), topics.life(name))
            handle = await desk.rooms.get(name)
            await handle.catch_up()
            await desk.tending.look(handle)
            handle, room = await member_room(desk, me, name)
            open = room.claims.open_to(me.id, self._reading.now_in(room.state))
            if not open and not wait.over and not room.state.closed:
                return None
            limit = min(params.limit, t.MAX_PAGE)
            stored: list[StoredMessage] = []
            for task in open[:limit]:
                if (found := await desk.library.message_at(room, room.view(me.id), task.position)) is not None:
                    stored.append(found)
            messages = await self._reading.render(room.state, room.view(me.id), stored)
            you = handle_of(room.state, me.id)
            if caller.reader.fits is not None and messages:
                messages = messages[: caller.reader.fits.front(messages, you)]
            spans = [(Position(each.header.position - 1), each.header.position) for each in stored[: len(messages)]]
            await self._reading.mark(name, me.id, spans, needed=False)
            return t.Received(
                room=name,
                name=room.state.name,
                messages=messages,
                cursor="",
                more=len(open) > len(messages),
                unread=0,
                acknowledges=False,
                notice=self._said_of(handle, room),
                you=you,
            )

        return await desk.waits.until(caller, look, deadline)

    def _shown(self, caller: Caller, found: _Look) -> None:
        """This is the answer: a reader that acknowledges by its next call has been shown the page."""
        if found.shown is not None and caller.reader.acknowledges == "next_call":
            caller.reader.shown.showed(found.actor.room, found.shown)

    async def _admission(self, caller: Caller, me: AgentRecord, deadline: float) -> None:
        """For an agent without a session that waits at a door: wait for the answer, which may make the session its
        active one. Returns at the first answer from any door, and at the end of the time. An agent that waits at none
        may be written to."""
        desk = self._desk
        if await is_active(desk, me):
            return
        if not await desk.library.doors(me.id):
            await self._first_message(caller, me, deadline)
            return
        asked: set[RoomId] | None = None

        async def look(wait: Wait) -> set[RoomId] | None:
            nonlocal asked
            wait.on(topics.concerns(me.id))
            unanswered = await waits_at(desk, me)
            if asked is None:
                asked = unanswered
            return asked if wait.over or await is_active(desk, me) or not asked or asked - unanswered else None

        waited_at = await desk.waits.until(caller, look, deadline)
        inside = [room for room in await desk.library.my_rooms(me.id) if room in waited_at]
        if inside and not await is_active(desk, me):
            # Whoever decided is about to say so too; the first of the two is enough.
            await desk.rooms.home.submit(c.Activate(agent=me.id, room=inside[0]), desk.by(caller, me))

    async def _first_message(self, caller: Caller, me: AgentRecord, deadline: float) -> None:
        """For an agent without a session that others find by its card: wait until one of them writes to it directly,
        and go on in that room. Returns at the end of the time, too."""
        desk = self._desk
        if desk.rooms.home.aggregate.card_of(me.id) is None:
            return
        known: set[RoomId] | None = None

        async def look(wait: Wait) -> set[RoomId] | None:
            nonlocal known
            wait.on(topics.memberships(me.id))
            rooms = set(await desk.library.my_rooms(me.id))
            known = rooms if known is None else known
            return rooms - known if wait.over or await is_active(desk, me) or rooms - known else None

        new = await desk.waits.until(caller, look, deadline)
        if new and not await is_active(desk, me):
            # Whoever let it in is about to say so too; the first of the two is enough.
            await desk.rooms.home.submit(c.Activate(agent=me.id, room=min(new)), desk.by(caller, me))

    @handles("message.recv_all")
    async def recv_all(self, caller: Caller, params: t.Recv) -> t.ReceivedAll:
        """Every room with something new; waits for the first of them when none has."""
        me = await self._desk.me(caller)
        deadline = trio.current_time() + params.wait_ms / 1000
        if params.unclaimed:
            open = [
                await self._unclaimed(caller, me, msgspec.structs.replace(params, room=room, wait_ms=0))
                for room in await self._desk.library.my_rooms(me.id)
            ]
            return t.ReceivedAll(rooms=[each for each in open if each.messages])
        for name in await self._desk.library.my_rooms(me.id):
            # One after the other, as all rooms of a home elsewhere wait for the same link.
            await (await self._desk.rooms.get(name)).catch_up()

        is_first = True

        async def look(wait: Wait) -> list[_Look] | None:
            wait.on(topics.memberships(me.id))
            rooms = await self._desk.library.my_rooms(me.id)
            wait.on(*map(topics.messages, rooms), *(topics.messages(room, me.id) for room in rooms))
            nonlocal is_first
            found: list[_Look] = []
            for name in await self._desk.library.going_on(me.id):
                try:
                    at = await member_room(self._desk, me, name)
                    if not await self._has_news(me, at):
                        continue
                    one = await self._recv_now(caller, me, at, params, lookback=False)
                except Refused as error:
                    if error.code not in ("no_such_room", "room_deleted"):
                        raise
                    continue  # it left meanwhile, or the room was deleted
                if one.received.messages:
                    found.append(one)
            talk = is_first or any(_is_talk(one.received.messages) for one in found)
            is_first = False
            return found if (found and talk) or wait.over else None

        found = await self._desk.waits.until(caller, look, deadline)
        for one in found:
            self._shown(caller, one)
        return t.ReceivedAll(rooms=[one.received for one in found])

    async def _has_news(self, me: AgentRecord, at: _At) -> bool:
        """Whether others posted what this agent may see and did not acknowledge: much less work than an empty page."""
        (actor, room), library = at, self._desk.library
        after = (await library.cursor(actor.room, me.id)).acknowledged
        return (await library.unread(room, room.view(me.id), after)).number > 0

    async def _recv_now(
        self,
        caller: Caller,
        me: AgentRecord,
        at: _At,
        params: t.Recv,
        *,
        lookback: bool,
        armed: Armed | None = None,
    ) -> _Look:
        """A page as it is now, of a room in which nothing is ahead of the store."""
        actor, room = at
        name, library = actor.room, self._desk.library
        # What is decided from here on is not stored yet, and is none of this read.
        stood, newest, view, over = room.position, room.newest_seq(me.id), room.view(me.id), over_of(room)
        cursor = await library.cursor(name, me.id)
        after = cursor.acknowledged
        # A filtered read shows a part of what is new, so acknowledging it would lose the rest.
        filtered = params.kind is not None or params.mentions
        fits = caller.reader.fits
        held = self._reading.is_beside_window(caller, me)
        acknowledges = not (lookback or params.peek or filtered or (held and not params.take))
        looked: LookedBack | None = None
        if acknowledges and fits is not None and caller.facts.host in self._desk.sightings.hosts:
            again = await self._again(caller, me, actor, room, after, params.limit)
            if again is not None:
                return again
        if lookback:
            looked = await self._look_back(actor, room, view, params, newest)
            page, after = looked.page, cursor.acknowledged if looked.after is None else looked.after
        else:
            page = await self._page(room, view, after, params, skip_own=True)
        is_told = looked is not None and looked.after is None
        page, absent = await self._refilled(actor, room, view, page, params.max_bytes)
        you = handle_of(room.state, me.id)
        messages = await self._reading.render(room.state, view, page.messages)
        if fits is not None and messages:
            if page.more and acknowledges and (await library.unread(room, view, after)).number > LONG_BACKLOG:
                return await self._caught_up(caller, me, actor, room, params, after, stood)
            count = fits.front(messages, you)
            if is_told:
                page = msgspec.structs.replace(
                    page,
                    messages=page.messages[:count],
                    end_seq=page.messages[count - 1].seq,
                    more=page.more or count < len(messages),
                )
                messages = messages[:count]
            elif count < len(messages):
                # Read again, and not cut: where a page ends and what it acknowledges is the store's to say.
                fewer = msgspec.structs.replace(params, limit=count)
                page = await self._page(room, view, after, fewer, skip_own=not lookback)
                messages = messages[:count]
        if room.view(me.id) != view:
            # It left the room or came back while the page was read, which may hold too much or too little now.
            at = await member_room(self._desk, me, name)
            return await self._recv_now(caller, me, at, params, lookback=lookback, armed=armed)
        if page.messages and not is_told:
            # A page ends behind its last message where facts follow that show this reader nothing, and a later commit
            # than the one that ended the wait may have written them: what will be acknowledged is up to there.
            if armed is None or not armed.covers([*(stored.header.position for stored in page.messages), page.end]):
                # (after, end] joins what was delivered before; a look at something farther on is marked as just that.
                spans = _shown(page, after, filtered=filtered)
                await self._reading.mark(actor.room, me.id, spans, needed=acknowledges)
            self._reading.note_seen(actor.room, me.id, page)
        shown = page.end if page.messages and acknowledges else None
        end, end_seq = page.end, page.end_seq
        if not page.messages:
            end, end_seq = after, await library.seq_at(room, view, after)
        unread = 0
        if page.more or lookback or filtered:
            # Else the page is everything that is left; asking would cost as much as the page.
            unread = (await library.unread(room, view, max(end, cursor.acknowledged))).number
        notice = f"{self._said_of(actor, room)} {lost_of(room.state, cursor.acknowledged)}".strip()
        if looked is not None and looked.said:
            notice = f"{notice} {looked.said}".lstrip()
        if absent:
            notice = f"{notice} {absent}".lstrip()
        if over == "room_closed" and not messages:
            notice = f"{notice} {ERRORS[over].message}".lstrip()
        if held and not params.take and not lookback and not params.peek:
            said = "A live window holds this agent, so this read acknowledged nothing. Use --take to move its cursor."
            notice = f"{notice} {said}".lstrip()
        received = t.Received(
            room=actor.room,
            name=room.state.name,
            messages=messages,
            cursor=str(end_seq),
            more=page.more,
            unread=unread,
            acknowledges=acknowledges,
            notice=notice,
            you=you,
            following=max(0, newest - end_seq) if lookback else 0,
        )
        return _Look(received, shown, page.end, actor, over)

    async def _again(
        self, caller: Caller, me: AgentRecord, actor: RoomHandle, room: Room, after: Position, limit: int
    ) -> _Look | None:
        """A page of what the reader's host cut or did not show: it stands before what is new, and moves no cursor. None
        where there is nothing of that."""
        library, name, view, fits = self._desk.library, actor.room, room.view(me.id), caller.reader.fits
        # What follows the cursor is shown again anyway, as what is new.
        due = {row.position: row for row in await to_show_again(library, name, me.id) if row.position <= after}
        stored: list[StoredMessage] = []
        for position in list(due)[: min(limit, t.MAX_PAGE)]:
            if (message := await library.message_at(room, view, position)) is not None:
                stored.append(message)
        if not stored or fits is None:
            return None
        found = await refill(actor, room.state, me.id, stored)
        you = handle_of(room.state, me.id)
        messages = [
            msgspec.structs.replace(message, again=cast(Any, due[each.header.position].verdict))
            for message, each in zip(
                await self._reading.render(room.state, view, found.messages), found.messages, strict=True
            )
        ]
        count = fits.front(messages, you)
        new = (await library.unread(room, view, after)).number
        left = len(due) - count + new
        received = t.Received(
            room=name,
            name=room.state.name,
            messages=messages[:count],
            cursor=str(await library.seq_at(room, view, after)),
            more=left > 0,
            unread=left,
            notice=self._said_of(actor, room),
            you=you,
        )
        return _Look(received, None, after, actor, over_of(room))

    async def _caught_up(
        self,
        caller: Caller,
        me: AgentRecord,
        actor: RoomHandle,
        room: Room,
        params: t.Recv,
        after: Position,
        stood: Position,
    ) -> _Look:
        """Of a long backlog the recap, if it is new, and the newest, with what stands between left out and said so."""
        view = room.view(me.id)
        found = await self._reading.context(
            actor, room, me.id, after, stood=stood, limit=TAIL, fits=caller.reader.fits, skip_own=True
        )
        if room.view(me.id) != view:
            at = await member_room(self._desk, me, actor.room)
            return await self._recv_now(caller, me, at, params, lookback=False)
        await self._reading.mark(actor.room, me.id, found.spans)
        self._reading.note_seen(actor.room, me.id, found.newest)
        unread = (await self._desk.library.unread(room, view, found.end)).number
        received = t.Received(
            room=actor.room,
            name=room.state.name,
            messages=found.messages,
            cursor=str(found.end_seq),
            more=unread > 0,
            unread=unread,
            notice=" ".join(filter(None, (self._said_of(actor, room), lost_of(room.state, after), found.said))),
            you=handle_of(room.state, me.id),
            truncated=found.truncated,
            first_unshown=found.first_unshown,
            last_unshown=found.last_unshown,
        )
        return _Look(received, found.end, found.end, actor, over_of(room))

    def _said_of(self, handle: RoomHandle, room: Room) -> str:
        """What a reader is told of the home that the room lives in, when there is something to tell."""
        lacking = "newer messages of this session may be missing here."
        if alarm := alarm_of(room.state):
            return alarm
        is_late = self._desk.now_at(room.state.home) >= room.epochs.pending_since() + KEY_CHANGE_MS
        change = key_change_of(room) if is_late else ""
        return " ".join(filter(None, (change, silence_of(handle, self._desk.clock.now(), lacking))))

    async def _look_back(self, handle: RoomHandle, room: Room, view: View, params: t.Recv, newest: Seq) -> LookedBack:
        async def read(after: Position) -> Page:
            return await self._page(room, view, after, params, skip_own=False)

        names = names_in(room.state, view.reader) if params.mentions else ()
        return await look_back(self._desk.library, handle, room, view, params, newest=newest, names=names, read=read)

    async def _refilled(
        self, handle: RoomHandle, room: Room, view: View, page: Page, max_bytes: int
    ) -> tuple[Page, str]:
        """A page with the words that were erased here, and what is said of those that the room's home does not tell."""
        refilled = await refill(handle, room.state, view.reader, page.messages, max_bytes=max_bytes)
        if len(refilled.messages) < len(page.messages):
            page = await cut(self._desk.library, handle.room, page, refilled.messages)
        return msgspec.structs.replace(page, messages=refilled.messages), refilled.said

    async def _page(self, room: Room, view: View, after: Position, params: t.Recv, *, skip_own: bool) -> Page:
        page = await self._desk.library.page(
            room,
            view,
            after,
            limit=min(params.limit, t.MAX_PAGE),
            max_bytes=params.max_bytes,
            skip_own=skip_own,
            kind=params.kind,
            names=names_in(room.state, view.reader) if params.mentions else (),
        )
        settled = max(after, room.shown_upto(view.reader))
        if page.end <= settled:
            return page
        shown = await self._desk.library.shown_at(room.state.room, settled)
        return msgspec.structs.replace(page, end=settled, shown=shown)

    @handles("message.commit")
    async def commit(self, caller: Caller, params: t.Commit) -> t.Committed:
        me = await self._desk.me(caller)
        actor, room = await room_of(self._desk, me, params.room)
        seq = parse_cursor(params.cursor)
        upto = await self._desk.library.read_up_to(actor.room, room.view(me.id), seq)
        if upto is None:
            raise Refused("cursor_ahead")
        await self._reading.acknowledge(actor.room, me.id, upto)
        return t.Committed(room=actor.room, cursor=params.cursor)

    @handles("window.acknowledge")
    async def acknowledge(self, caller: Caller, params: t.AcknowledgeShown) -> t.Noted:
        """The reader made its next call: acknowledge the pages that it was shown before. Source: decision 14."""
        shown = caller.reader.shown.take()
        if caller.agent is not None:
            for room, upto in shown.items():
                await self._reading.acknowledge(room, caller.agent, upto)
        return t.Noted()


def _is_talk(messages: Sequence[t.Message]) -> bool:
    """Whether anything among these is more than what the room remembers or forgets."""
    return any(message.memory is msgspec.UNSET for message in messages)


def _armed(reader: AgentId, after: Position, params: t.Recv, *, bounded: bool) -> Armed:
    """This reader, with nothing unread up to `after`, about to wait for others' messages."""

    def sees(header: e.Header) -> bool:
        event = header.event
        assert isinstance(event, e.MessagePosted)
        # A wait goes on over what is quiet, so its page does not leave with this commit.
        return (
            event.memory is None
            and event.kind not in QUIET_KINDS
            and header.by.actor != reader
            and (event.visibility is None or reader in event.visibility)
        )

    # Where a surface shows as much as fits, one message is shown for certain; more are marked when they were laid out.
    limit = 1 if bounded else min(params.limit, t.MAX_PAGE)
    return Armed(reader, "read", after, limit, params.max_bytes, sees)


def _shown(page: Page, after: Position, *, filtered: bool) -> list[tuple[Position, Position]]:
    if not filtered:
        return [(after, page.end)]
    return [(Position(m.header.position - 1), m.header.position) for m in page.messages]


def over_of(room: Room) -> str:
    """The code of the error that says why nothing will ever come in this room; empty where something may."""
    if room.state.closed:
        return "room_closed"
    return "room_deleted" if room.state.alarm == "room_deleted" else ""
