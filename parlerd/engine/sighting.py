"""Takes in what windows, and the daemons of other readers, tell of whether models were shown messages.

The handlers of `window.sighted` and `link.sighted`. Not here: what follows from a word (`sightings`). Above: the
engine. Below: the desk. Invariant: a word of a reader's is taken from that reader's own window, or from the daemon that
the reader is attached by.
"""

from __future__ import annotations

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, MessageId, Position, RoomId
from parlerd.core.visibility import can_see
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.library import Traced
from parlerd.engine.reachable import require_member, require_speaker, room_within
from parlerd.engine.sightings import is_shown, newest, next_word, wakes, word_from_elsewhere
from parlerd.operations import types as t
from parlerd.store.port import PutSight

_Known = dict[tuple[RoomId, Position, AgentId], PutSight]
"""What is known of messages and their readers."""


class Sighting:
    """The handlers of what is told."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("window.sighted")
    async def sighted(self, caller: Caller, params: t.TellSights) -> t.Noted:
        """What became of messages that this window's agent was given. The agent may have left meanwhile, and the window
        may have ended: what is known of the past stays true."""
        desk, reader = self._desk, caller.agent
        if reader is None:
            return t.Noted()
        words: list[tuple[str, PutSight]] = []
        over = []
        # What this call itself tells counts before it is stored.
        known: _Known = {}
        for told in params.sights:
            found = await desk.library.trace(MessageId(told.id))
            if found is None:
                continue  # its room was deleted
            place = found.room, found.header.position, reader
            before = known.get(place) or newest(found.sights, reader, desk.sightings)
            row = known[place] = next_word(found, before, reader, told, caller.facts.host, desk.clock.now())
            if told.verdict == "pending":
                desk.sightings.begun(place)
            else:
                over.append(desk.sightings.watched(place))
            words.append((told.id, row))
            self._note(found, MessageId(told.id), row, known)
        rows = [row for _, row in words]
        if rows:
            try:
                await desk.library.record(rows)
            finally:
                # Not before: a row that says `pending` and is not watched looks as if the daemon had been restarted.
                for place, number in over:
                    desk.sightings.ended(place, number)
            desk.notifier.publish(wakes(rows))
        await self._tell_homes([(id, row) for id, row in words if row.verdict != "pending"])
        return t.Noted()

    async def _tell_homes(self, words: list[tuple[str, PutSight]]) -> None:
        """Tell the home of each room that is elsewhere what became of its messages."""
        for room in {row.room for _, row in words}:
            try:
                handle = await self._desk.rooms.get(room)
            except Refused:
                continue
            handle.tell_sights(
                [
                    t.SightAtRoom(
                        room=room,
                        agent=row.reader,
                        id=id,
                        verdict=row.verdict,
                        reason=row.reason,
                        host=row.host,
                        again=row.again,
                        evidence=row.evidence,
                    )
                    for id, row in words
                    if row.room == room
                ]
            )

    @handles("link.sighted")
    async def sighted_there(self, caller: Caller, params: t.TellSightsAtRoom) -> t.Noted:
        """The same of agents that are attached by this link, as their own daemon says."""
        desk, known = self._desk, _Known()
        for told in params.sights:
            try:
                reader = require_speaker(desk, caller, told.agent)
                room = await (await room_within(desk, caller, told.room)).quiet()
                require_member(room, reader, caller.facts.authority.principal)
            except Refused:
                continue  # it left meanwhile
            found = await desk.library.trace(MessageId(told.id))
            if found is None or found.room != room.state.room or found.header.by.actor == reader:
                continue
            event = found.header.event
            assert isinstance(event, e.MessagePosted)
            if not can_see(room.view(reader), position=found.header.position, visibility=event.visibility):
                continue
            place = found.room, found.header.position, reader
            before = known.get(place) or newest(found.sights, reader, desk.sightings)
            row = word_from_elsewhere(found, before, reader, told, desk.clock.now())
            if row is None or row is before:
                continue
            known[place] = row
            self._note(found, MessageId(told.id), row, known)
        if known:
            await desk.library.record(list(known.values()))
        return t.Noted()

    def _note(self, found: Traced, id: MessageId, row: PutSight, known: _Known) -> None:
        """Remember the newest word for the author's notice, or have it told to the author's home. `known` is what the
        same call told before."""
        author, sightings = found.header.by.actor, self._desk.sightings
        place = found.room, found.header.position
        others = [*found.sights, *(each for key, each in known.items() if key[:2] == place and each is not row)]
        if author in self._desk.rooms.home.aggregate.state.agents:
            sightings.note(id, author, row, others)
        elif row.verdict != "pending" and not is_shown(*others):
            # Of what one model was shown no author is told that another was not. Nobody follows a room that is
            # elsewhere here, so that a word on a message there goes nowhere.
            sightings.send(id, author, row)
