"""Where a message got to: for each reader the stages it reached, and where it stands still.

A message for a room elsewhere that waits here to leave has reached nobody, and this is said in place of a ladder. Of
what an agent asked of a queue elsewhere, and of which this home has no copy, the queue's home tells all of it.

Not here: who records the stages (`reading`, and the actor for replies), which homes are asked (`requested`).
Invariant: whoever may not see a message is told that there is none; a reader sees its own ladder, the author
everyone's, the person what their agents may know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final, NamedTuple

import msgspec

from parlerd.core import events as e
from parlerd.core.claims import Task
from parlerd.core.envelope import RELEASED
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import view_of
from parlerd.core.model import AgentId, MessageId, Millis, Seq, Stage
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.engine.absent import is_pruned
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.gating import Gating
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.handoffs import entry_of
from parlerd.engine.lookup import room_of
from parlerd.engine.observers import observed_room, observers
from parlerd.engine.pair_rooms import awaited, needs_both
from parlerd.engine.reading import Reading, handle_of, number_of
from parlerd.engine.requested import AWAY, Ask, ask_queues
from parlerd.engine.sightings import as_told, newest, said_of
from parlerd.operations import types as t
from parlerd.store.port import Delivery, Page, PutSight, StoredMessage

_SHOWN: Final[tuple[Stage, ...]] = ("pushed", "read")
"""The stages at which the words are with a reader."""
_LOOKED_AT_BYTES: Final = 1024 * 1024
"""Bytes of messages that are looked through at once for those of one author."""
_STAGES: Final[tuple[Stage, ...]] = ("stored", "pushed", "read", "acknowledged", "acted")


class Ladder:
    """The handlers of `message.why` and `message.disclosures`."""

    def __init__(self, desk: Desk, reading: Reading, gating: Gating) -> None:
        self._desk = desk
        self._gating = gating
        self._reading = reading

    @handles("message.why")
    async def why(self, caller: Caller, params: t.Why) -> t.WhyResult:
        """For the author: every other member's ladder. For a reader: its own. For the person: what their agents may
        know of it. For anyone else there is no such message."""
        me = await self._desk.me(caller)
        id = MessageId(params.id)
        if number_of(params.id) is not None:
            _, here = await room_of(self._desk, me, params.room)
            id = await self._reading.message_id(here, me.id, params.id)
        found = await self._desk.library.trace(id)
        if found is None:
            found_elsewhere = self._queued(caller, me, id) or await self._gated(caller, me, params, id)
            return found_elsewhere or await self._requested(caller, me, params, id)
        room_id, header, marks, sights = found
        position = header.position
        handle = await self._desk.rooms.get(room_id)
        room = await handle.quiet()
        assert isinstance(header.event, e.MessagePosted)
        gone = is_gone(room, header)
        marks = [] if gone else marks
        visibility = header.event.visibility
        mine = {
            record.id
            for record in observers(self._desk, caller, me)
            if (member := room.state.members.get(record.id)) is not None
            and member.present
            and (
                record.id == header.by.actor or can_see(room.view(record.id), position=position, visibility=visibility)
            )
        }
        if not mine:
            raise Refused("no_such_message")
        told, away = await self._told(handle, header, mine)
        room = await handle.quiet()
        readers = [
            self._ladder(room, reader, header, marks, sights, told.get(reader), gone=gone)
            for reader in readers_of(room, header, mine)
        ]
        readers += [_absent(room, agent) for agent in awaited(room) if agent not in room.state.members]
        handoff: t.HandoffEntry | msgspec.UnsetType = msgspec.UNSET
        if (offer := room.state.offers.get(id)) is not None:
            reader = me.id if me.id in mine else min(mine)
            seq = (await self._desk.library.replied_to(room_id, room.view(reader), {id})).get(id, 0)
            handoff = entry_of(room.state, reader, offer, self._reading.now_in(room.state), seq)
        task = room.claims.get(id)
        entry = msgspec.UNSET if task is None else task_entry(room, task, self._reading.now_in(room.state))
        erased = True if gone else msgspec.UNSET
        gated: t.GatedEntry | None = None
        if header.event.envelope_v == RELEASED and header.by.actor == me.id:
            gated = await self._gating.about(self._desk.by(caller, me), caller, handle, id)
        return t.WhyResult(
            id=id,
            room=room_id,
            readers=readers,
            handoff=handoff,
            task=entry,
            gated=gated or msgspec.UNSET,
            erased=erased,
            away=away or msgspec.UNSET,
        )

    @handles("message.disclosures")
    async def disclosures(self, caller: Caller, params: t.ListDisclosures) -> t.Disclosures:
        """To whom what the caller wrote was shown: a mark is stored before a page leaves, so nobody is left out who saw
        a message. Of agents of other homes the room's home tells."""
        me = await self._desk.me(caller)
        handle, room, inside = await observed_room(self._desk, caller, me, params.room)
        pages = await self._pages(room, [record.id for record in inside], params)
        more = params.after is not None and any(page.more for page in pages.values())
        # Up to here all of them were looked through.
        upto = min(page.end for page in pages.values() if page.more) if more else room.position
        messages = [
            await self._disclosed(handle, found)
            for found in sorted(
                (
                    found
                    for author, page in pages.items()
                    for found in page.messages
                    # With the words went what readers were told of them.
                    if _is_by(found, author) and not is_pruned(room.state, found)
                ),
                key=lambda found: found.header.position,
            )
            if found.header.position <= upto
        ]
        return t.Disclosures(
            room=handle.room,
            name=room.state.name,
            messages=messages,
            upto=await self._desk.library.seq_at(room, room.view(inside[0].id), upto),
            more=more,
            away=handle.silent_since() is not None,
        )

    async def _pages(self, room: Room, authors: Sequence[AgentId], params: t.ListDisclosures) -> dict[AgentId, Page]:
        """What each of these agents may see from one place on, which is told in the numbers of the first; or the
        newest."""
        library, name, limit = self._desk.library, room.state.room, params.limit
        pages: dict[AgentId, Page] = {}
        if params.after is None:
            for author in authors:
                tail = await library.tail(name, room.view(author), limit=limit, max_bytes=_LOOKED_AT_BYTES)
                pages[author] = tail
            return pages
        after = await library.position_of(name, room.view(authors[0]), Seq(params.after))
        for author in authors:
            pages[author] = await library.page(
                room, room.view(author), after, limit=limit, max_bytes=_LOOKED_AT_BYTES, skip_own=False
            )
        return pages

    async def _disclosed(self, handle: RoomHandle, found: StoredMessage) -> t.DisclosedMessage:
        """To whom a message was shown."""
        header = found.header
        assert isinstance(header.event, e.MessagePosted)
        traced = await self._desk.library.trace(header.event.id)
        marks, sights = (traced.marks, traced.sights) if traced else ([], [])
        told, _ = await self._told(handle, header, {header.by.actor})
        room = await handle.quiet()
        shown = [
            t.Disclosure(
                agent=reader,
                name=handle_of(room.state, reader),
                at=at,
                sight=self._sight(reader, sights, told.get(reader)),
            )
            for reader in shown_to(room, header, marks, told)
            if (at := first_shown(reader, header, marks, told.get(reader)))
        ]
        return t.DisclosedMessage(
            id=header.event.id,
            seq=found.seq,
            at=header.at,
            author=handle_of(room.state, header.by.actor),
            shown=sorted(shown, key=lambda each: (each.at, each.name)),
        )

    async def _gated(self, caller: Caller, me: AgentRecord, params: t.Why, id: MessageId) -> t.WhyResult | None:
        """The first rung of a message that nobody was shown yet. Nobody but its author knows of it."""
        try:
            handle, _ = await room_of(self._desk, me, params.room)
        except Refused:
            return None
        gated = await self._gating.about(self._desk.by(caller, me), caller, handle, id)
        return None if gated is None else t.WhyResult(id=id, room=handle.room, readers=[], gated=gated)

    async def _requested(self, caller: Caller, me: AgentRecord, params: t.Why, id: MessageId) -> t.WhyResult:
        """What a queue's home tells an agent of its own request. Where that home does not answer, what was said here in
        reply. Raises `Refused`: `no_such_message`, or why no home could be asked."""
        asked: Ask[t.WhyResult] = partial(self._told_of_request, id)
        return await ask_queues(self._desk, caller, me, params.room, asked, partial(self._replies_here, id))

    async def _told_of_request(self, id: MessageId, handle: RoomHandle, agent: AgentRecord) -> t.WhyResult:
        told = await handle.ladders(agent.id, id)
        room, own = await handle.quiet(), told.own
        if own is None:
            raise Refused("no_such_message")
        readers = [
            self._ladder_told(room, each, gone=own.erased)
            for each in told.readers
            if each.agent in room.state.members and each.agent != agent.id
        ]
        task: t.TaskEntry | msgspec.UnsetType = msgspec.UNSET
        if own.task is not None:
            task = _entry_of(room, own.task)
        return t.WhyResult(
            id=id, room=handle.room, readers=readers, task=task, erased=True if own.erased else msgspec.UNSET
        )

    async def _replies_here(self, id: MessageId, handle: RoomHandle, agent: AgentRecord) -> t.WhyResult | None:
        """Who replied to a request, as far as the newest messages say that this agent may see in the queue."""
        room = await handle.quiet()
        page = await self._desk.library.tail(
            handle.room, room.view(agent.id), limit=t.MAX_PAGE, max_bytes=_LOOKED_AT_BYTES
        )
        acted: dict[AgentId, Millis] = {}
        for found in page.messages:
            header = found.header
            is_reply = isinstance(header.event, e.MessagePosted) and header.event.reply_to == id
            if is_reply and header.by.actor != agent.id:
                acted[header.by.actor] = min(acted.get(header.by.actor, header.at), header.at)
        if not acted:
            return None
        readers = [
            t.ReaderLadder(
                agent=who, name=handle_of(room.state, who), stages=[t.StageReached(stage="acted", at=acted[who])]
            )
            for who in sorted(acted)
        ]
        return t.WhyResult(id=id, room=handle.room, readers=readers, away=True)

    def _queued(self, caller: Caller, me: AgentRecord, id: MessageId) -> t.WhyResult | None:
        """The first rung of a message for a room elsewhere: it waits here to leave. Nobody but its author knows of it,
        and the person whose agent that is."""
        queued = self._desk.homes.queued(id)
        if queued is None or all(record.id != queued.agent for record in observers(self._desk, caller, me)):
            return None
        rung = t.QueuedHere(home=queued.home, since=queued.at, refused=queued.code)
        return t.WhyResult(id=id, room=queued.room, readers=[], queued=rung)

    async def _told(
        self, handle: RoomHandle, header: e.Header, mine: AbstractSet[AgentId]
    ) -> tuple[Mapping[AgentId, t.LadderAtRoom], bool]:
        """How far the message got with those of other homes, asked by one of these agents: its author if it is one. And
        whether the room's home did not answer: then what is known here is said."""
        asking = header.by.actor if header.by.actor in mine else min(mine)
        assert isinstance(header.event, e.MessagePosted)
        try:
            told = await handle.ladders(asking, header.event.id)
        except Refused as error:
            return {}, error.code in AWAY
        here = self._desk.rooms.home.aggregate.state.agents
        return {AgentId(each.agent): each for each in told.readers if each.agent not in here}, False

    def _ladder(
        self,
        room: Room,
        reader: AgentId,
        header: e.Header,
        marks: list[Delivery],
        sights: list[PutSight],
        told: t.LadderAtRoom | None,
        *,
        gone: bool,
    ) -> t.ReaderLadder:
        """`told` is what the room's home says of a reader of another home. `gone` says that the message's words went
        because there were too many, and with them what readers were told of it."""
        reached = reached_by(reader, header, marks, told)
        sight = self._sight(reader, sights, told)
        presence = self._desk.presence.of(reader) if told is None else (told.presence, Millis(told.since))
        stop = _stop(reached, sight, *presence, gone=gone)
        is_here = reader in self._desk.rooms.home.aggregate.state.agents
        if _is_on_its_way(reached) and room.state.rewinds.is_lost(header.position) and not is_here and not gone:
            # What the relay knew of the reader is lost as well, and nobody is told the message any more.
            stop = _Stop("lost by the relay")
        held: int | msgspec.UnsetType = msgspec.UNSET
        if not gone and "read" not in reached and reader in self._desk.rooms.home.aggregate.state.agents:
            # Of an agent of another home, that home alone knows how many turns began.
            assert isinstance(header.event, e.MessagePosted)
            loops = self._desk.rooms.home.aggregate.loops
            pair = (room.state.room, header.event.chain, header.by.actor, reader)
            if loops.is_spent(*pair):
                held = loops.turns(*pair) if loops.most(room.state.room) else 0
        return t.ReaderLadder(
            agent=reader,
            name=handle_of(room.state, reader),
            stages=[t.StageReached(stage=stage, at=at) for stage, at in reached.items()],
            stopped=stop.where or msgspec.UNSET,
            stopped_since=stop.since,
            held=held,
            sight=sight,
        )

    def _ladder_told(self, room: Room, told: t.LadderAtRoom, *, gone: bool) -> t.ReaderLadder:
        """The ladder of a reader of a message of which this home has no copy, as the room's home tells it."""
        reader = AgentId(told.agent)
        reached = {each.stage: Millis(each.at) for each in told.stages}
        sight = self._sight(reader, [], told)
        stop = _stop(reached, sight, told.presence, Millis(told.since), gone=gone)
        return t.ReaderLadder(
            agent=reader,
            name=handle_of(room.state, reader),
            stages=told.stages,
            stopped=stop.where or msgspec.UNSET,
            stopped_since=stop.since,
            sight=sight,
        )

    def _sight(
        self, reader: AgentId, sights: list[PutSight], told: t.LadderAtRoom | None
    ) -> t.SightSaid | msgspec.UnsetType:
        """What is known of whether a reader's model was shown the message, and whether another machine says so."""
        if told is not None:
            said = told.sight
            if said is not msgspec.UNSET:
                verdict, reason = as_told(said.verdict, said.reason)
                said = msgspec.structs.replace(said, verdict=verdict, reason=reason)
        else:
            row = newest(sights, reader, self._desk.sightings)
            said = msgspec.UNSET if row is None else said_of(row)
        if said is msgspec.UNSET:
            return said
        is_here = reader in self._desk.rooms.home.aggregate.state.agents
        return msgspec.structs.replace(said, elsewhere=not is_here)


def _absent(room: Room, agent: AgentId) -> t.ReaderLadder:
    """What is said of the agent that a direct room waits for."""
    entry = room.state.epochs.roster.get(agent)
    stopped = "not in the room yet"
    if needs_both(room, agent):
        stopped += "; it reads this once both machines were connected"
    return t.ReaderLadder(agent=agent, name=agent if entry is None else entry.handle, stages=[], stopped=stopped)


class _Stop(NamedTuple):
    """Where a message stands still on its way to a reader, and since when; both are empty where it does not."""

    where: str = ""
    since: int = 0


def _is_on_its_way(reached: Mapping[Stage, Millis]) -> bool:
    return "acknowledged" not in reached and "acted" not in reached


def _stop(
    reached: Mapping[Stage, Millis],
    sight: t.SightSaid | msgspec.UnsetType,
    presence: str,
    since: Millis,
    *,
    gone: bool,
) -> _Stop:
    """Where a message stands still that reached these stages. `presence` is how the reader is, and since when."""
    if gone and not reached.keys() - {"stored"}:
        return _Stop("not known any more: this went with the words")
    if not _is_on_its_way(reached):
        return _Stop()
    where = "read, not acknowledged" if "read" in reached else "not read"
    if sight is not msgspec.UNSET and sight.verdict in ("cut", "not_shown", "summarised"):
        where = "read, not shown to the model"
    return _Stop(f"{where}; the agent is {presence}", int(since))


def standing_of(room: Room, task: Task, now: Millis) -> t.StandingAtRoom:
    """How a task of a room stands."""
    holder = room.claims.holder(task, now)
    is_over = task.id in room.state.claims.over
    return t.StandingAtRoom(
        state=task.state if holder is not None or is_over else "open",
        holder=holder,
        lease_until=0 if holder is None else room.claims.until(task),
        ended_by=task.worker if is_over and not task.open_until else None,
        open_until=task.open_until,
    )


def task_entry(room: Room, task: Task, now: Millis) -> t.TaskEntry:
    """How a task stands, for somebody who is told names."""
    return _entry_of(room, standing_of(room, task, now))


def _entry_of(room: Room, standing: t.StandingAtRoom) -> t.TaskEntry:
    holder, ended_by = standing.holder, standing.ended_by
    return t.TaskEntry(
        state=standing.state,
        holder=None if holder is None else handle_of(room.state, AgentId(holder)),
        lease_until=None if holder is None else standing.lease_until,
        ended_by=msgspec.UNSET if ended_by is None else handle_of(room.state, AgentId(ended_by)),
        open_until=standing.open_until or msgspec.UNSET,
    )


def _is_by(found: StoredMessage, author: AgentId) -> bool:
    return found.header.by.actor == author and isinstance(found.header.event, e.MessagePosted)


def is_gone(room: Room, header: e.Header) -> bool:
    """Whether the words of a message went because there were too many. What readers were told of it went with them; a
    mark that covers it still may be a later one, so no mark says when the message reached anybody."""
    return room.state.retention.covers(header.position) and not e.is_remembered(header.event)


def shown_to(
    room: Room, header: e.Header, marks: Sequence[Delivery], told: Mapping[AgentId, t.LadderAtRoom]
) -> list[AgentId]:
    """Those of whom it is known how far they read where a message stands, and who may see it, whether they are in the
    room still or not. A mark is a range, and covers what its reader does not see as well: what is hidden, and what came
    after it left."""
    event, members = header.event, room.state.members
    assert isinstance(event, e.MessagePosted)
    known = {mark.reader for mark in marks} | told.keys()
    return sorted(
        reader
        for reader in known
        if reader != header.by.actor
        and reader in members
        and (members[reader].present or header.position < members[reader].left)
        and can_see(view_of(members[reader]), position=header.position, visibility=event.visibility)
    )


def first_shown(
    reader: AgentId, header: e.Header, marks: Sequence[Delivery], told: t.LadderAtRoom | None
) -> Millis | None:
    """When a message was first shown to a reader; None for not yet."""
    reached = reached_by(reader, header, marks, told)
    return min((reached[stage] for stage in _SHOWN if stage in reached), default=None)


def readers_of(room: Room, header: e.Header, asking: AbstractSet[AgentId]) -> list[AgentId]:
    """The members of whom these agents may know where a message got to with them: for its author all who may see it but
    itself, for a reader the reader alone."""
    event = header.event
    assert isinstance(event, e.MessagePosted)
    return [
        member.agent
        for member in room.state.members.values()
        if member.present
        and member.agent != header.by.actor
        and not asking.isdisjoint((header.by.actor, member.agent))
        and can_see(room.view(member.agent), position=header.position, visibility=event.visibility)
    ]


def reached_by(
    reader: AgentId, header: e.Header, marks: Sequence[Delivery], told: t.LadderAtRoom | None
) -> dict[Stage, Millis]:
    """When a message reached each stage for a reader. `told` is what the room's home says of a reader of another
    home."""
    if told is not None:
        return {each.stage: Millis(each.at) for each in told.stages}
    return stages_of(reader, header, marks)


def stages_of(reader: AgentId, header: e.Header, marks: Sequence[Delivery]) -> dict[Stage, Millis]:
    """When a message reached each stage for a reader, in the order of the stages."""
    reached: dict[Stage, Millis] = {"stored": header.at}
    for mark in marks:
        if mark.reader == reader:
            reached[mark.stage] = min(reached.get(mark.stage, mark.at), mark.at)
    if "acknowledged" in reached and "read" not in reached:
        del reached["acknowledged"]
    return {stage: reached[stage] for stage in _STAGES if stage in reached}
