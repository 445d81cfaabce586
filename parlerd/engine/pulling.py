"""What a link asks about a room beside the stream: messages from before, and how far each agent has read.

Here are the handlers of `link.pull`, `link.why`, `link.posted` and `link.cursors`. Not here: what goes on in a room
(`following`). Above: the engine. Below: `reachable`, the library. Invariant: an agent's reading place never moves back,
and never past the newest message that it may see.
"""

from __future__ import annotations

from itertools import dropwhile, takewhile

import msgspec

from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, MessageId, Millis, Position, Seq, View
from parlerd.core.visibility import can_see
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.fanout import PAGE_BYTES, message_of
from parlerd.engine.handling import handles
from parlerd.engine.ladder import is_gone, readers_of, shown_to, stages_of, standing_of
from parlerd.engine.reachable import came_under, require_member, require_speaker, room_within
from parlerd.engine.sightings import newest, said_of
from parlerd.operations import types as t
from parlerd.store.port import MarkDelivery, MoveCursor, NewFact, StoredMessage, Write


class Pulling:
    """The handlers of a link's questions about the past."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("link.pull")
    async def pull(self, caller: Caller, params: t.PullHistory) -> t.LinkPage:
        library = self._desk.library
        agent = require_speaker(self._desk, caller, params.agent)
        room = await (await room_within(self._desk, caller, params.room)).quiet()
        require_member(room, agent, caller.facts.authority.principal)
        name, view = room.state.room, room.view(agent)
        if params.after is None:
            page = await library.tail(name, view, limit=params.limit, max_bytes=PAGE_BYTES)
        else:
            after = await library.position_of(name, view, Seq(params.after))
            page = await library.page(room, view, after, limit=params.limit, max_bytes=PAGE_BYTES, skip_own=False)
        found = _without_hidden(page.messages, newest=params.after is None)
        found = _without_a_gap(view, found, newest=params.after is None)
        begins = Position(found[0].header.position - 1) if found else page.end
        shown = await library.shown_at(name, begins)
        return t.LinkPage(
            public=shown.number,
            line=shown.line,
            before={agent: found[0].seq - 1 if found else page.end_seq},
            jumped=True,
            messages=[message_of(NewFact(each.header, each.body, each.signature)) for each in found],
        )

    @handles("link.why")
    async def why(self, caller: Caller, params: t.WhyAtRoom) -> t.LaddersAtRoom:
        agent, principal = require_speaker(self._desk, caller, params.agent), caller.facts.authority.principal
        room = await (await room_within(self._desk, caller, params.room)).quiet()
        require_member(room, agent, principal)
        found = await self._desk.library.trace(MessageId(params.id))
        if found is None or found.room != room.state.room:
            raise Refused("no_such_message")
        header = found.header
        assert isinstance(header.event, e.MessagePosted)
        # Who only asks a queue for work is not shown what it asked for.
        is_own = (header.by.actor, header.by.principal) == (agent, principal)
        if not is_own and not can_see(room.view(agent), position=header.position, visibility=header.event.visibility):
            raise Refused("no_such_message")
        ladders = []
        gone = is_gone(room, header)
        marks = [] if gone else found.marks
        readers = readers_of(room, header, {agent})
        if agent == header.by.actor:
            # Its author is also told of those who left since it was shown to them.
            readers += [each for each in shown_to(room, header, marks, {}) if each not in readers]
        for reader in readers:
            presence, since = self._desk.presence.of(reader)
            reached = stages_of(reader, header, marks)
            stages = [t.StageReached(stage=stage, at=at) for stage, at in reached.items()]
            row = newest(found.sights, reader, self._desk.sightings)
            sight = msgspec.UNSET if row is None else said_of(row)
            ladders.append(t.LadderAtRoom(agent=reader, stages=stages, presence=presence, since=since, sight=sight))
        if not is_own:
            return t.LaddersAtRoom(readers=ladders)
        task = room.claims.get(header.event.id)
        now = Millis(max(self._desk.now_at(room.state.home), room.last_at))
        standing = None if task is None else standing_of(room, task, now)
        return t.LaddersAtRoom(readers=ladders, own=t.OwnAtRoom(at=header.at, erased=gone, task=standing))

    @handles("link.posted")
    async def posted(self, caller: Caller, params: t.PostedAtRoom) -> t.Noted:
        agent, principal = require_speaker(self._desk, caller, params.agent), caller.facts.authority.principal
        room = await (await room_within(self._desk, caller, params.room)).quiet()
        if not came_under(room, agent, principal):
            raise Refused("no_such_room")
        found = await self._desk.library.trace(MessageId(params.id))
        if found is None or found.room != room.state.room:
            raise Refused("no_such_message")
        by = found.header.by
        if (by.actor, by.principal) != (agent, principal):
            raise Refused("no_such_message")
        return t.Noted()

    @handles("link.cursors")
    async def cursors(self, caller: Caller, params: t.TellCursors) -> t.Noted:
        desk, now = self._desk, self._desk.clock.now()
        writes: list[Write] = []
        for told in params.cursors:
            try:
                agent = require_speaker(desk, caller, told.agent)
                room = await (await room_within(desk, caller, told.room)).quiet()
                require_member(room, agent, caller.facts.authority.principal)
            except Refused:
                continue  # it left meanwhile: nobody asks how far it read
            name, view = room.state.room, room.view(agent)
            newest = room.newest_seq(agent)
            read = await desk.library.position_of(name, view, Seq(min(told.read, newest)))
            acknowledged = await desk.library.position_of(name, view, Seq(min(told.acknowledged, told.read, newest)))
            known = await desk.library.cursor(name, agent)
            if read > known.delivered:
                writes.append(MarkDelivery(name, agent, "read", upto=read, at=now, after=known.delivered))
            if acknowledged > known.acknowledged:
                writes.append(MoveCursor(name, agent, acknowledged))
                mark = MarkDelivery(name, agent, "acknowledged", upto=acknowledged, at=now, after=known.acknowledged)
                writes.append(mark)
        if writes:
            await desk.library.record(writes)
        self._note_presence(caller, params)
        return t.Noted()

    def _note_presence(self, caller: Caller, params: t.TellCursors) -> None:
        desk, now = self._desk, self._desk.clock.now()
        link = desk.links.of(caller)
        changed: list[AgentId] = []
        for told in params.presence:
            attached = link.agents.get(AgentId(told.agent))
            if attached is not None:
                stated = told.stated or None
                if (attached.presence, attached.stated) != (told.presence, stated):
                    changed.append(AgentId(told.agent))
                if attached.presence != told.presence:
                    attached.since = now
                attached.presence, attached.stated = told.presence, stated
        desk.notifier.publish(map(topics.presence, changed))


def _without_hidden(messages: list[StoredMessage], *, newest: bool) -> list[StoredMessage]:
    """The messages that follow the private ones without words that these begin with, up to the next of those; or the
    last of the messages after all of those (`newest`). Without its words nobody can be shown who may see a message, so
    only its number is told: the page says which number it goes on from."""

    def is_told(stored: StoredMessage) -> bool:
        event = stored.header.event
        assert isinstance(event, e.MessagePosted)
        return stored.body is not None or event.visibility is None

    if newest:
        return list(takewhile(is_told, reversed(messages)))[::-1]
    return list(takewhile(is_told, dropwhile(lambda each: not is_told(each), messages)))


def _without_a_gap(view: View, messages: list[StoredMessage], *, newest: bool) -> list[StoredMessage]:
    """The first of these messages, or the last (`newest`), as far as no public message between them is hidden from the
    reader: its public messages lie within one of its spans."""

    def span(stored: StoredMessage) -> int | None:
        event, position = stored.header.event, stored.header.position
        assert isinstance(event, e.MessagePosted)
        if event.visibility is not None:
            return None
        inside = (
            n for n, (after, upto) in enumerate(view.spans) if after < position and (upto is None or position <= upto)
        )
        return next(inside)

    ordered = messages[::-1] if newest else messages
    first = next((n for each in ordered if (n := span(each)) is not None), None)
    kept = list(takewhile(lambda each: span(each) in (None, first), ordered))
    return kept[::-1] if newest else kept
