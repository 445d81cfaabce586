"""Posting, reading, acknowledging, handing over, and where a message got to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Final

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.envelope import DataPart, HandoffPart, Part, TextPart
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, MessageId, Position, RoomId, Seq, View, drawn_key, label
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.core.words import check_data, check_text
from parlerd.engine.actor import RoomActor
from parlerd.engine.armed import Armed
from parlerd.engine.authors import Draft
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.knocks import doors_of, knocks_of
from parlerd.engine.lookup import is_active, member_room, room_of
from parlerd.engine.notices import Notices
from parlerd.engine.observers import observers
from parlerd.engine.reading import Reading, handle_of, names_in, parse_cursor
from parlerd.engine.submissions import Settled, Submission
from parlerd.operations import types as t
from parlerd.store.port import Delivery, Page

ANYONE: Final = "anyone"
"""Said instead of naming nobody; a reserved word, so no agent has this name."""
LONG_BACKLOG: Final = 100
"""More new messages than this are not paged through where a model reads: the recap and the newest are shown, with the
gap stated."""
TAIL: Final = 30
"""The newest messages of a long backlog that are looked at; what fits of them is shown."""
_STAGES: Final = ("stored", "pushed", "read", "acknowledged", "acted")


def input_digest(params: t.Params) -> bytes:
    """The digest of a request's decoded parameters, its idempotency key left out.

    Raises `Refused(invalid_param)` for text that is no UTF-8.
    """
    fields = {
        name: value
        for name in params.__struct_fields__
        if name != "idempotency_key" and (value := getattr(params, name)) is not None
    }
    try:
        return hashlib.sha256(msgspec.msgpack.encode(fields, order="sorted")).digest()
    except UnicodeEncodeError as error:
        raise Refused("invalid_param", "A parameter is not valid text.") from error


@dataclass(frozen=True, slots=True)
class Posting:
    """A message in its room's line."""

    messaging: Messaging
    me: AgentRecord
    actor: RoomActor[Room]
    submission: Submission

    def when_done(self, then: Callable[[], None]) -> None:
        """Let the room's line move, and call `then` (which must not raise) once `outcome` is known."""
        self.submission.when_done(then)

    def outcome(self) -> t.Sent:
        """As `message.send` answers, once it is known. Raises `ParlerError`."""
        return self.messaging.sent(self)

    async def result(self) -> t.Sent:
        """The same, waiting for it."""
        with suppress(ParlerError):
            await self.submission.result()
        return self.outcome()


class Messaging:
    """The handlers of `message.*` and `handoff.*`."""

    def __init__(self, desk: Desk, reading: Reading, notices: Notices) -> None:
        self._desk = desk
        self._reading = reading
        self._notices = notices

    # -- writing -------------------------------------------------------------------------------------------

    async def send(self, caller: Caller, params: t.Send) -> t.Sent:
        me = await self._desk.me(caller)
        actor = await self._writable(me, params.room)
        return await self._post_text(caller, me, actor, params).result()

    def begin_send(self, caller: Caller, params: t.Send) -> Posting | None:
        """`send`, as far as its place in the room's line: for pipelined clients, which need no task each for that.

        None when it takes more than that (the agent is not leased yet, the room is closed up or named by its name).
        """
        me = self._desk.seats.known(caller)
        actor = None if me is None else self._open_room(me, params.room)
        if me is None or actor is None:
            return None
        return self._post_text(caller, me, actor, params)

    def _post_text(self, caller: Caller, me: AgentRecord, actor: RoomActor[Room], params: t.Send) -> Posting:
        size = check_text(params.text, "text")
        if not params.text and params.data is None:
            raise Refused("invalid_param", "The text is empty.", param="text")
        parts: list[Part] = [TextPart(params.text)]
        if params.data is not None:
            size += check_data(params.data)
            parts.append(DataPart(params.data))
        command = c.PostMessage(
            operation="message.send",
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            kind=params.kind,
            to=params.to,
            visibility=params.visible_to or None,
            reply_to=None if params.reply_to is None else self._message_id(actor.aggregate, me.id, params.reply_to),
        )
        return self._post(caller, me, actor, command, tuple(parts), size)

    def _message_id(self, room: Room, reader: AgentId, meant: str) -> MessageId:
        """The message that is meant by its id, or by this reader's own number of it. Raises
        `Refused(no_such_message)`."""
        number = meant.removeprefix("#")
        if not (number.isascii() and number.isdigit() and len(number) <= 15):
            return MessageId(meant)
        store, view, seq = self._desk.driver.store, room.view(reader), Seq(int(number))
        position = store.position_of(room.state.room, view, seq)
        header = store.message(room.state.room, position)
        if header is None or not isinstance(header.event, e.MessagePosted) or seq < 1:
            raise Refused("no_such_message", id=meant)
        if store.seq_at(room.state.room, view, position) != seq:
            raise Refused("no_such_message", id=meant)
        return header.event.id

    async def give_handoff(self, caller: Caller, params: t.GiveHandoff) -> t.GivenHandoff:
        me = await self._desk.me(caller)
        size = check_text(params.next, "next") + check_text(params.summary, "summary")
        target = "" if params.for_ in ("", ANYONE) else str(label(params.for_))
        actor, room = await room_of(self._desk, me, params.room)
        command = c.PostMessage(
            operation="handoff.give",
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            kind="handoff",
            taker=target,
        )
        # Readers are told a name, also where an id was given.
        named = handle_of(room.state, AgentId(target))
        part = HandoffPart(next=params.next, summary=params.summary, target=named)
        sent = await self._post(caller, me, actor, command, (part,), size).result()
        return t.GivenHandoff(
            id=sent.id,
            room=sent.room,
            name=room.state.name,
            for_=named or None,
            replayed=sent.replayed,
            idempotency_key=sent.idempotency_key,
            seq=sent.seq,
            others=sum(member.present and member.agent != me.id for member in room.state.members.values()),
        )

    def _post(
        self,
        caller: Caller,
        me: AgentRecord,
        actor: RoomActor[Room],
        command: c.PostMessage,
        parts: tuple[Part, ...],
        size: int,
    ) -> Posting:
        """Put a message of so many bytes in the room's line. The key travels with a failure too, so that a retry can be
        the same request: its author's, or else one that is drawn here."""
        if command.idempotency_key is None:
            id = MessageId(self._desk.random.new("m"))
            command = msgspec.structs.replace(command, id=id, idempotency_key=drawn_key(id), fresh=True)
        elif command.idempotency_key in caller.fresh:
            command = msgspec.structs.replace(command, fresh=True)
        try:
            self._desk.quotas.take(me.id, bytes=size)
            draft = Draft(parts=parts, seen=self._reading.seen(actor.room, me.id))
            submission = actor.place(command, self._desk.by(caller, me), draft)
        except ParlerError as error:
            error.details.setdefault("key", command.idempotency_key)
            raise
        return Posting(self, me, actor, submission)

    def sent(self, posting: Posting) -> t.Sent:
        """What became of a message that was in line."""
        actor, command = posting.actor, posting.submission.command
        try:
            settled = posting.submission.outcome()
            header = self._committed(actor, settled)
        except ParlerError as error:
            error.details.setdefault("key", command.idempotency_key)
            raise
        event = header.event
        assert isinstance(event, e.MessagePosted)
        seq = settled.seq
        if not seq:
            seq = self._reading.seq_at(actor.aggregate, actor.aggregate.view(posting.me.id), header.position)
        return t.Sent(
            room=actor.room,
            id=event.id,
            seq=seq,
            at=header.at,
            replayed=settled.decision.replay is not None,
            idempotency_key=command.idempotency_key or "",
            name=actor.aggregate.state.name,
            readers=None
            if event.visibility is None
            else [handle_of(actor.aggregate.state, who) for who in event.visibility if who != posting.me.id],
        )

    async def _writable(self, me: AgentRecord, wanted: str | None) -> RoomActor[Room]:
        """The room to write to. Unlike a read it does not wait for the batch in flight: the room's task orders
        writes."""
        actor = self._open_room(me, wanted)
        if actor is None:
            actor, _ = await room_of(self._desk, me, wanted)
        return actor

    def _open_room(self, me: AgentRecord, wanted: str | None) -> RoomActor[Room] | None:
        """The room a member means by an id or by nothing, if it is open now."""
        if wanted is None:
            wanted = self._desk.rooms.home.aggregate.state.active.get(me.id)
        actor = None if wanted is None else self._desk.rooms.open_actor(RoomId(wanted))
        if actor is None:
            return None
        member = actor.aggregate.state.members.get(me.id)
        return actor if member is not None and member.present else None

    def _committed(self, actor: RoomActor[Room], settled: Settled) -> e.Header:
        """The fact a request led to: the new one, or on a replay the one that was committed then."""
        if settled.facts:
            return settled.facts[0]
        assert settled.decision.replay is not None
        header = self._desk.driver.store.message(actor.room, settled.decision.replay)
        if header is None:
            raise Refused("idempotency_expired")
        return header

    # -- reading -------------------------------------------------------------------------------------------

    async def recv(self, caller: Caller, params: t.Recv) -> t.Received:
        me = await self._desk.me(caller)
        lookback = params.since is not None or params.all
        deadline = trio.current_time() + params.wait_ms / 1000
        if params.room is None:
            await self._admission(caller, me, deadline)
        actor, room = await room_of(self._desk, me, params.room)
        wanted = [topics.messages(actor.room), topics.messages(actor.room, me.id), topics.life(actor.room)]
        if caller.via == "mcp":
            wanted.append(topics.concerns(me.id))
        armed: Armed | None = None
        with self._desk.notifier.listen(*wanted) as waiter:
            while True:
                waiter.clear()
                received, shown, end = await self._recv_now(caller, me, actor, params, lookback=lookback, armed=armed)
                left = deadline - trio.current_time()
                if caller.fits is not None and room.state.closed and not received.messages and not lookback:
                    # A model that is told of nothing new would go on asking.
                    raise Refused("room_closed")
                if received.messages or left <= 0 or await self._notices.concerning(caller):
                    caller.shown.update(shown)
                    return received
                if room.state.closed:
                    # Nothing will ever come: an agent that keeps asking must be told to stop.
                    raise Refused("room_closed")
                plain = not (lookback or waiter.woken or params.kind is not None or params.mentions)
                armed = _armed(me.id, end, params, bounded=caller.fits is not None) if plain else None
                with actor.arm(armed) if armed is not None else nullcontext():
                    await self._desk.wait(caller, waiter, left)
                # Each time anew: a room nobody uses is closed, and this may wait for long.
                actor, room = await member_room(self._desk, me, actor.room)

    async def _admission(self, caller: Caller, me: AgentRecord, deadline: float) -> None:
        """For an agent without a session that waits at a door: wait for the answer, which may make the session its
        active one. Returns at the first answer from any door, and at the end of the time."""
        desk = self._desk
        if is_active(desk, me) or not doors_of(desk, me):
            return
        wanted = [topics.decision(room, me.id) for room in doors_of(desk, me)]
        with desk.notifier.listen(*wanted) as waiter:
            waits_at = [knock.room for knock in await knocks_of(desk, me)]
            left = deadline - trio.current_time()
            if waits_at and left > 0 and not is_active(desk, me):
                await desk.wait(caller, waiter, left)
        if desk.draining:
            raise Refused("draining")
        inside = [m.room for m in desk.driver.store.memberships(me.id) if m.state == "member" and m.room in waits_at]
        if inside and not is_active(desk, me):
            # Whoever decided is about to say so too; the first of the two is enough.
            await desk.rooms.home.submit(c.Activate(agent=me.id, room=inside[0]), desk.by(caller, me))

    async def recv_all(self, caller: Caller, params: t.Recv) -> t.ReceivedAll:
        """Every room with something new; waits for the first of them when none has."""
        me = await self._desk.me(caller)
        deadline = trio.current_time() + params.wait_ms / 1000
        while True:
            rooms = [m.room for m in self._desk.driver.store.memberships(me.id) if m.state == "member"]
            wanted = [topics.messages(room) for room in rooms]
            wanted += [topics.messages(room, me.id) for room in rooms]
            with self._desk.notifier.listen(*wanted, topics.memberships(me.id)) as waiter:
                received: list[t.Received] = []
                shown: dict[RoomId, Position] = {}
                for name in rooms:
                    try:
                        actor, _ = await member_room(self._desk, me, name)
                        one, page_shown, _ = await self._recv_now(caller, me, actor, params, lookback=False)
                    except Refused as error:
                        if error.code != "no_such_room":
                            raise
                        continue  # it left meanwhile
                    if one.messages:
                        received.append(one)
                        shown |= page_shown
                left = deadline - trio.current_time()
                if received or left <= 0:
                    caller.shown.update(shown)
                    return t.ReceivedAll(rooms=received)
                await self._desk.wait(caller, waiter, left)

    async def _recv_now(
        self,
        caller: Caller,
        me: AgentRecord,
        actor: RoomActor[Room],
        params: t.Recv,
        *,
        lookback: bool,
        armed: Armed | None = None,
    ) -> tuple[t.Received, dict[RoomId, Position], Position]:
        """A page as it is now, what the next MCP call acknowledges of it (the caller's only once it is the answer),
        and the position up to which this reader was looked after."""
        room = await actor.quiet()
        # What is decided from here on is not stored yet, and is none of this read.
        stood = room.position
        view = room.view(me.id)
        store = self._desk.driver.store
        cursor = store.cursor(actor.room, me.id)
        after = cursor.acknowledged
        if params.all:
            after = Position(0)
        elif params.since is not None:
            after = store.position_of(actor.room, view, Seq(params.since))
        # A filtered read shows a part of what is new, so acknowledging it would lose the rest.
        filtered = params.kind is not None or params.mentions
        fits = caller.fits
        held = caller.via == "cli" and bool(caller.as_name) and self._desk.presence.is_held_by_window(me.id)
        acknowledges = not (lookback or params.peek or filtered or (held and not params.take))
        page = await self._page(room, view, after, params, me.id, skip_own=not lookback)
        you = handle_of(room.state, me.id)
        messages = self._reading.render(room.state, me.id, page.messages)
        if fits is not None and messages:
            if page.more and acknowledges and self._reading.unread(room, view, after) > LONG_BACKLOG:
                return await self._caught_up(caller, me, actor, room, after, stood)
            count = fits.front(messages, you)
            if count < len(messages):
                # Read again, and not cut: where a page ends and what it acknowledges is the store's to say.
                params = msgspec.structs.replace(params, limit=count)
                page = await self._page(room, view, after, params, me.id, skip_own=not lookback)
                messages = messages[:count]
        if page.messages:
            if armed is None or not armed.covers([stored.header.position for stored in page.messages]):
                # (after, end] joins what was delivered before; a look at something farther on is marked as just that.
                spans = _shown(page, after, filtered=filtered)
                await self._reading.mark(actor.room, me.id, spans, needed=acknowledges)
            self._reading.note_seen(actor.room, me.id, page)
        shown = {actor.room: page.end} if page.messages and acknowledges and caller.via == "mcp" else {}
        end, end_seq = page.end, page.end_seq
        if not page.messages:
            end, end_seq = after, self._reading.seq_at(room, view, after)
        notice = ""
        if held and not params.take and not lookback and not params.peek:
            notice = "A live window holds this agent, so this read acknowledged nothing. Use --take to move its cursor."
        received = t.Received(
            room=actor.room,
            name=room.state.name,
            messages=messages,
            cursor=str(end_seq),
            more=page.more,
            # A page of everything that is left leaves nothing unread; asking would cost as much as the page.
            unread=0
            if not (page.more or lookback or filtered)
            else self._reading.unread(room, view, max(end, cursor.acknowledged)),
            acknowledges=acknowledges,
            notice=notice,
            you=you,
            following=max(0, room.newest_seq(me.id) - end_seq) if lookback else 0,
        )
        return received, shown, page.end

    async def _caught_up(
        self,
        caller: Caller,
        me: AgentRecord,
        actor: RoomActor[Room],
        room: Room,
        after: Position,
        stood: Position,
    ) -> tuple[t.Received, dict[RoomId, Position], Position]:
        """Of a long backlog the recap, if it is new, and the newest, with what stands between left out and said so."""
        view = room.view(me.id)
        found = await self._reading.context(
            room, me.id, after, stood=stood, limit=TAIL, fits=caller.fits, skip_own=True
        )
        await self._reading.mark(actor.room, me.id, found.spans)
        self._reading.note_seen(actor.room, me.id, found.newest)
        unread = self._reading.unread(room, view, found.end)
        received = t.Received(
            room=actor.room,
            name=room.state.name,
            messages=found.messages,
            cursor=str(found.end_seq),
            more=unread > 0,
            unread=unread,
            you=handle_of(room.state, me.id),
            truncated=found.truncated,
            first_unshown=found.first_unshown,
            last_unshown=found.last_unshown,
        )
        return received, {actor.room: found.end}, found.end

    async def _page(
        self, room: Room, view: View, after: Position, params: t.Recv, reader: AgentId, *, skip_own: bool
    ) -> Page:
        return await self._reading.page(
            room,
            view,
            after,
            limit=min(params.limit, t.MAX_PAGE),
            max_bytes=params.max_bytes,
            skip_own=skip_own,
            kind=params.kind,
            names=names_in(room.state, reader) if params.mentions else (),
        )

    async def commit(self, caller: Caller, params: t.Commit) -> t.Committed:
        me = await self._desk.me(caller)
        actor, room = await room_of(self._desk, me, params.room)
        view = room.view(me.id)
        seq = parse_cursor(params.cursor)
        store = self._desk.driver.store
        upto = store.cursor(actor.room, me.id).delivered
        if self._reading.seq_at(room, view, upto) != seq:
            # Not the newest page: the message itself is the mark.
            upto = store.position_of(actor.room, view, seq)
            if store.seq_at(actor.room, view, upto) != seq:
                raise Refused("cursor_ahead")
        await self._reading.acknowledge(actor.room, me.id, upto)
        return t.Committed(room=actor.room, cursor=params.cursor)

    async def acknowledge(self, caller: Caller, params: t.AcknowledgeShown) -> t.Noted:
        """Acknowledge the pages the last MCP call showed. Source: decision 14."""
        shown, caller.shown = caller.shown, {}
        if caller.agent is not None:
            for room, upto in shown.items():
                await self._reading.acknowledge(room, caller.agent, upto)
        return t.Noted()

    # -- where it got to -----------------------------------------------------------------------------------

    async def why(self, caller: Caller, params: t.Why) -> t.WhyResult:
        """For the author: every other member's ladder. For a reader: its own. For the person: what their agents may
        know of it. For anyone else there is no such message."""
        me = await self._desk.me(caller)
        id = MessageId(params.id)
        if params.id.removeprefix("#").isdigit():
            _, here = await room_of(self._desk, me, params.room)
            id = self._message_id(here, me.id, params.id)
        found = self._desk.driver.store.find_message(id)
        if found is None:
            raise Refused("no_such_message")
        room_id, position = found
        room = await (await self._desk.rooms.get(room_id)).quiet()
        header = self._desk.driver.store.message(room_id, position)
        assert header is not None
        assert isinstance(header.event, e.MessagePosted)
        visibility = header.event.visibility
        mine = {
            record.id
            for record in observers(self._desk, caller, me)
            if (member := room.state.members.get(record.id)) is not None
            and member.present
            and can_see(room.view(record.id), position=position, visibility=visibility)
        }
        if not mine:
            raise Refused("no_such_message")
        marks = self._desk.driver.store.deliveries(room_id, position)
        readers = []
        for member in room.state.members.values():
            if member.agent == header.by.actor or not member.present:
                continue
            if mine.isdisjoint((header.by.actor, member.agent)):
                continue
            if not can_see(room.view(member.agent), position=position, visibility=visibility):
                continue
            readers.append(self._ladder(room, member.agent, header, marks))
        return t.WhyResult(id=id, room=room_id, readers=readers)

    def _ladder(self, room: Room, reader: AgentId, header: e.Header, marks: list[Delivery]) -> t.ReaderLadder:
        reached = {"stored": int(header.at)}
        for mark in marks:
            if mark.reader == reader:
                reached[mark.stage] = min(reached.get(mark.stage, mark.at), mark.at)
        if "acknowledged" in reached and "read" not in reached:
            del reached["acknowledged"]
        stopped: str | msgspec.UnsetType = msgspec.UNSET
        stopped_since = 0
        if "acknowledged" not in reached and "acted" not in reached:
            state, since = self._desk.presence.of(reader)
            where = "read, not acknowledged" if "read" in reached else "not read"
            stopped, stopped_since = f"{where}; the agent is {state}", int(since)
        return t.ReaderLadder(
            agent=reader,
            name=handle_of(room.state, reader),
            stages=[t.StageReached(stage=stage, at=reached[stage]) for stage in _STAGES if stage in reached],
            stopped=stopped,
            stopped_since=stopped_since,
        )


def _armed(reader: AgentId, after: Position, params: t.Recv, *, bounded: bool) -> Armed:
    """This reader, with nothing unread up to `after`, about to wait for others' messages."""

    def sees(header: e.Header) -> bool:
        event = header.event
        assert isinstance(event, e.MessagePosted)
        return header.by.actor != reader and (event.visibility is None or reader in event.visibility)

    # Where a surface shows as much as fits, one message is shown for certain; more are marked when they were laid out.
    limit = 1 if bounded else min(params.limit, t.MAX_PAGE)
    return Armed(reader, "read", after, limit, params.max_bytes, sees)


def _shown(page: Page, after: Position, *, filtered: bool) -> list[tuple[Position, Position]]:
    if not filtered:
        return [(after, page.end)]
    return [(Position(m.header.position - 1), m.header.position) for m in page.messages]
