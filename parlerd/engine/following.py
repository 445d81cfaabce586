"""What happens in rooms, as a link follows it: the handlers of `link.follow`, `link.watch`, `link.unwatch` and
`link.compare`.

    a room is stored to  -->  all links that have everything before are told at once, in one walk (`fanout`)
    anything else        -->  the stream wakes, walks over the facts that came, and says what these eyes may know
    slow or far behind   -->  the newest messages, with a whole card; the middle is left to `link.pull`

A link has one stream for all of its rooms. It reads each room at its own pace from where it stands there, says at most
a page of one room before it turns to the next, and takes no step while its reader has no credit: whoever reads slowly
is behind, and nobody else is.

Where the bytes end that a link is sent, how messages fall into pages, and where a stream begins again follows from what
its agents may see and from nothing else. What they may not see only costs time.

Not here: what is on a card (`cards`), as whom a link looks (`reachable`). Above: the engine. Below: the library.
Invariant: everything of a room is told in the order of its log, and a page never leaves out a public message between
two others.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Final

import msgspec
import trio

from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.claims import Task
from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import AgentId, MessageId, Millis, Position, RoomId, Seq, Shown, View
from parlerd.core.public_line import epoch_of, next_line
from parlerd.core.rewinds import Rewound
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.engine.callers import Caller
from parlerd.engine.cards import PIECE, Cards, Entry, KeyTold, Stood
from parlerd.engine.desk import Desk
from parlerd.engine.epochs import entry_of
from parlerd.engine.face import Outlet
from parlerd.engine.fanout import PAGE, PAGE_BYTES, Followed, LinkStream, News, Pushed, message_of
from parlerd.engine.handling import handles
from parlerd.engine.library import PUBLIC, Signed
from parlerd.engine.pair_rooms import awaited
from parlerd.engine.reachable import Eyes, eyes, room_within
from parlerd.engine.rooms import pause_among
from parlerd.engine.sightings import said_of
from parlerd.operations import types as t
from parlerd.store.port import MarkDelivery, NewFact, Write

log = logging.getLogger(__name__)

CATCH_UP: Final = 2_000
"""A link that has not been told as many messages of a room begins there anew, with the newest of them."""
NEWEST: Final = 200
"""How many it then begins with."""
FACTS: Final = 500
"""Facts that are read at once."""
PRESENCE_S: Final = 10.0
"""Seconds after which a link is told again how present members are."""
MARKS_S: Final = 1.0
"""Seconds for which it may stay unrecorded that messages were sent: one record for all of them."""


class Following:
    """The handlers of a link's stream."""

    def __init__(self, desk: Desk, cards: Cards) -> None:
        self._desk = desk
        self._cards = cards
        self._streams: dict[Caller, LinkStream] = {}
        # Who follows each room, and what stops the news of the room.
        self._followers: dict[RoomId, dict[Followed, LinkStream]] = {}
        self._stop_news: dict[RoomId, Callable[[], None]] = {}
        # What all links were sent and is not on record yet, and whose task sees to that it will be.
        self._pushed = Pushed()
        self._recorder: LinkStream | None = None
        self._recorded_at = -inf

    @handles("link.follow")
    async def follow(
        self, caller: Caller, params: t.FollowRooms, outlet: Outlet | None = None
    ) -> AsyncGenerator[t.LinkItem, None]:
        if caller in self._streams:
            raise Refused("busy", "This link follows its rooms already.")
        desk = self._desk
        with desk.notifier.listen(topics.link(caller.facts.session), topics.presence()) as waiter:
            stream = self._streams[caller] = LinkStream({}, desk.links.of(caller), waiter, outlet)
            try:
                for resume in params.rooms:
                    self._add(stream, Followed(RoomId(resume.room), resume))
                while not desk.draining:
                    waiter.clear()
                    went_on = False
                    for followed in self._to_look_at(stream):
                        for item in await self._step(caller, stream, followed):
                            went_on = True
                            yield item
                            # Whoever takes the next one has sent this one.
                            stream.told += 1
                    for item in [*await self._awaits(stream), *self._presence(stream), *self._sights(stream)]:
                        yield item
                        stream.told += 1
                    if not went_on and not desk.draining:
                        if self._recorder is stream:
                            await self._record()
                        stream.is_waiting = True
                        with trio.move_on_at(self._look_again_at(stream)):
                            await waiter.wait()
                        stream.is_waiting = False
            finally:
                stream.is_waiting = False
                stream.speaking = ()
                self._hear_of_pairs(stream)
                del self._streams[caller]
                for followed in list(stream.rooms.values()):
                    self._drop(stream, followed)
                if self._recorder is stream:
                    with trio.CancelScope(shield=True):
                        await self._record(at_once=True)

    @handles("link.watch")
    async def watch(self, caller: Caller, params: t.FollowRoom) -> t.Noted:
        stream = self._stream(caller)
        room = RoomId(params.resume.room)
        if room not in stream.rooms and len(stream.rooms) >= t.MAX_FOLLOWED:
            raise Refused("busy", f"One link follows {t.MAX_FOLLOWED} rooms at most.")
        if room in stream.rooms:
            self._drop(stream, stream.rooms[room])
        self._add(stream, Followed(room, params.resume))
        stream.waiter.wake()
        return t.Noted()

    @handles("link.unwatch")
    async def unwatch(self, caller: Caller, params: t.UnfollowRoom) -> t.Noted:
        stream = self._stream(caller)
        followed = stream.rooms.get(RoomId(params.room))
        if followed is not None:
            self._drop(stream, followed)
        return t.Noted()

    @handles("link.compare")
    async def compare(self, caller: Caller, params: t.CompareHeads) -> t.HeadsCompared:
        await trio.lowlevel.checkpoint()
        stream, behind = self._stream(caller), dict[str, int]()
        for room, head in params.heads.items():
            followed = stream.rooms.get(RoomId(room))
            if followed is not None and followed.at < head:
                behind[room] = followed.at
                # Nobody said that there is more, or the reader is slow: the stream's task looks, as after a gap.
                followed.is_level = False
                stream.waiter.wake()
        return t.HeadsCompared(items=stream.told, behind=behind)

    def _stream(self, caller: Caller) -> LinkStream:
        stream = self._streams.get(caller)
        if stream is None:
            raise Refused("invalid_param", "This link follows no rooms: begin with link.follow.", param="room")
        return stream

    def _add(self, stream: LinkStream, followed: Followed) -> None:
        room = followed.room
        stream.rooms[room] = followed
        if room not in self._followers:
            self._followers[room] = {}
            self._stop_news[room] = self._desk.notifier.hear(topics.log(room), partial(self._stored, room))
        self._followers[room][followed] = stream

    def _drop(self, stream: LinkStream, followed: Followed) -> None:
        room = followed.room
        del stream.rooms[room]
        del self._followers[room][followed]
        if not self._followers[room]:
            del self._followers[room]
            self._stop_news.pop(room)()

    # -- what is stored while links wait ---------------------------------------------------------------------

    def _stored(self, room: RoomId) -> None:
        """Facts of a room were stored: tell all links at once that have everything before, and wake the tasks of the
        others. Raises nothing: whoever stored the facts calls this."""
        news: News | None = None
        now = self._desk.clock.now()
        # Whoever stores a fact has the room open, so this one was deleted: each link looks at it anew.
        is_gone = self._desk.rooms.open_actor(room) is None
        for followed, stream in self._followers[room].items():
            followed.is_level = followed.is_level and not is_gone
            try:
                if self._has_all_before(stream, followed, now):
                    news = news or self._news(room, followed)
                    if (
                        news is not None
                        and news.after == followed.at
                        and news.is_for_all(followed)
                        and not news.shows_card(stream, followed)
                    ):
                        self._push(stream, news.tell(followed, stream))
                        continue
            except Exception as error:
                log.error("a link could not be told of a room: %s", type(error).__name__)
                followed.is_level = False
            stream.waiter.wake()

    @staticmethod
    def _has_all_before(stream: LinkStream, followed: Followed, now: Millis) -> bool:
        """Whether a link has everything of a room that it may know, but for what was just stored, and takes more."""
        return (
            stream.is_waiting
            and followed.is_level
            and followed.eyes is not None
            and bool(followed.eyes.members)
            and stream.outlet is not None
            and stream.outlet.is_ready
            and tuple(stream.link.speaking(now)) == stream.speaking
        )

    def _news(self, room: RoomId, followed: Followed) -> News | None:
        """What was stored after a link's place, if it can be told to all links in one walk."""
        actor = self._desk.rooms.open_actor(room)
        if actor is None:
            return None
        facts = self._desk.library.newest_facts(actor.aggregate, followed.at)
        if not facts or not News.fit(facts):
            return None
        return News(actor.aggregate, followed, facts, self._desk.clock.now())

    def _push(self, stream: LinkStream, marks: Sequence[MarkDelivery]) -> None:
        """Note what a link was sent. One task puts on record what all links were sent."""
        self._pushed.add(marks)
        recorder = self._recorder
        # One whose reader is slow keeps nobody's waiting.
        is_late = trio.current_time() > self._recorded_at + 2 * MARKS_S
        if marks and (recorder is None or (is_late and not recorder.is_waiting)):
            self._recorder = stream
            stream.waiter.wake()

    # -- which rooms, and when -------------------------------------------------------------------------------

    def _to_look_at(self, stream: LinkStream) -> list[Followed]:
        """The rooms of which there may be something to tell. All of them, when other agents speak than before."""
        speaking = tuple(stream.link.speaking(self._desk.clock.now()))
        others, stream.speaking = speaking != stream.speaking, speaking
        if others:
            self._hear_of_pairs(stream)
            stream.sights_at = 0
        return [followed for followed in stream.rooms.values() if others or self._may_have_more(followed)]

    def _may_have_more(self, followed: Followed) -> bool:
        if not followed.is_level or not self._desk.rooms.has(followed.room):
            return True
        # A room that is not open has had no fact since it was looked at.
        actor = self._desk.rooms.open_actor(followed.room)
        return actor is not None and actor.aggregate.position > followed.at

    def _look_again_at(self, stream: LinkStream) -> float:
        """When to look again although nothing happened: presence, marks, a delegation that ends."""
        moments = [stream.presence_at + PRESENCE_S if stream.rooms else inf]
        if self._recorder is stream:
            moments.append(self._recorded_at + MARKS_S)
        now = self._desk.clock.now()
        until = stream.link.until(now)
        if until is not None:
            moments.append(trio.current_time() + (until - now) / 1000)
        return min(moments)

    # -- one room --------------------------------------------------------------------------------------------

    async def _step(self, caller: Caller, stream: LinkStream, followed: Followed) -> list[t.LinkItem]:
        """What there is to tell of a room next: a page at most."""
        try:
            if followed.eyes is None:
                actor = await room_within(self._desk, caller, followed.room)
            else:
                actor = await self._desk.rooms.get(followed.room)
            room = await actor.quiet()
            looking = eyes(self._desk, caller, room)
        except Refused as error:
            if error.code == "room_moved":
                raise  # the stream breaks off, and goes on at the relay that has the room now
            return self._gone(stream, followed, deleted=error.code == "room_deleted")
        if looking.is_shut:
            return self._gone(stream, followed)
        walk = _Walk(self._desk, self._cards, room, looking, followed)
        is_far_behind = walk.is_far_behind()
        if followed.eyes is None or (looking.members and not followed.eyes.members) or is_far_behind:
            await walk.begin(anew=is_far_behind)
        elif looking.members != followed.eyes.members:
            await walk.look_as_others()
        followed.eyes = looking
        await walk.go_on()
        self._push(stream, walk.marks)
        return walk.items

    def _gone(self, stream: LinkStream, followed: Followed, *, deleted: bool = False) -> list[t.LinkItem]:
        if stream.rooms.get(followed.room) is followed:
            self._drop(stream, followed)
        return [t.LinkItem(room=followed.room, gone=True, deleted=deleted)]

    def _hear_of_pairs(self, stream: LinkStream) -> None:
        """Let the stream be woken when a direct room begins to wait for one of the agents that speak on its link."""
        for agent in [agent for agent in stream.pair_ears if agent not in stream.speaking]:
            stream.pair_ears.pop(agent)()
        for agent in stream.speaking:
            if agent not in stream.pair_ears:
                stream.pair_ears[agent] = self._desk.notifier.hear(topics.pairs(agent), stream.note_pairs)
                stream.has_pair_news = True

    async def _awaits(self, stream: LinkStream) -> list[t.LinkItem]:
        """The direct rooms that wait for agents of this link, each said once for each time that it does; and the rooms
        that were opened for them and are not followed, each said once."""
        if not stream.has_pair_news:
            return []
        stream.has_pair_news = False
        items = []
        pairs = self._desk.rooms.home.aggregate.pairs
        for agent in stream.speaking:
            for number, name in enumerate(pairs.rooms_of(agent).values(), 1):
                await pause_among(number)
                try:
                    room = (await self._desk.rooms.get(name)).aggregate
                except Refused:
                    continue  # it is about to be opened
                said = name, agent, room.state.membership.moves
                if agent in awaited(room) and said not in stream.awaits:
                    stream.awaits.add(said)
                    items.append(t.LinkItem(room=name, awaits=[agent]))
            for number, standing in enumerate(await self._desk.library.memberships(agent), 1):
                await pause_among(number)
                name = standing.room
                if standing.state != "member" or name in stream.rooms or name in stream.opened:
                    continue
                try:
                    state = (await self._desk.rooms.get(name)).aggregate.state
                except Refused:
                    continue  # a room that nobody can be told of ends no stream
                if state.owner == agent and not state.closed:
                    stream.opened.add(name)
                    items.append(t.LinkItem(room=name, opened=[agent]))
        return items

    # -- beside the log --------------------------------------------------------------------------------------

    def _presence(self, stream: LinkStream) -> list[t.LinkItem]:
        """How present members are, where that changed since it was last told."""
        now = trio.current_time()
        if now < stream.presence_at + PRESENCE_S:
            return []
        stream.presence_at = now
        known: dict[AgentId, t.Present] = {}
        items = []
        for followed in stream.rooms.values():
            actor = self._desk.rooms.open_actor(followed.room)
            if actor is None or followed.eyes is None or not (followed.eyes.members or followed.eyes.owns):
                continue
            changed = []
            for member in actor.aggregate.state.members.values():
                if not member.present or followed.eyes.has(member.agent):
                    continue
                if member.agent not in known:
                    presence, since = self._desk.presence.of(member.agent)
                    stated = self._desk.presence.stated(member.agent) or msgspec.UNSET
                    known[member.agent] = t.Present(agent=member.agent, presence=presence, since=since, stated=stated)
                told = known[member.agent].presence, known[member.agent].stated
                if followed.presence.get(member.agent) != told:
                    followed.presence[member.agent] = told
                    changed.append(known[member.agent])
            if changed:
                items.append(t.LinkItem(room=followed.room, presence=changed))
        return items

    def _sights(self, stream: LinkStream) -> list[t.LinkItem]:
        """What is known since the last look of whether models were shown what attached agents wrote."""
        items = []
        for each in self._desk.sightings.sent_after(stream.sights_at):
            stream.sights_at = each.number
            followed = stream.rooms.get(each.word.room)
            if followed is None or followed.eyes is None or not followed.eyes.has(each.author):
                continue
            said = t.SightOnMessage(id=each.id, agent=each.word.reader, sight=said_of(each.word))
            items.append(t.LinkItem(room=each.word.room, sights=[said]))
        return items

    async def _record(self, *, at_once: bool = False) -> None:
        """Put on record what was sent over all links. It is no promise to anybody, so a store that cannot be written
        stops nothing."""
        now = trio.current_time()
        if now < self._recorded_at + MARKS_S and not at_once:
            return
        self._recorded_at = now
        self._recorder = None
        marks: list[Write] = [*self._pushed.take()]
        with suppress(StoreError):
            await self._desk.library.record(marks)


class _Walk:
    """One step in one room: from where a link was told of it, over what came since."""

    def __init__(self, desk: Desk, cards: Cards, room: Room, eyes: Eyes, followed: Followed) -> None:
        self._library = desk.library
        self._now = desk.clock.now()
        self._cards = cards
        self._room = room
        self._name = room.state.room
        self._eyes = eyes
        self._followed = followed
        # Where the room stands is taken now: it may go on while this reads. What came since is told at a later step,
        # which counts it.
        self._upto = room.position
        self._moves, self._asks = room.state.membership.moves, room.state.approvals.asks
        self._views: Mapping[AgentId, View] = {agent: room.view(agent) for agent in eyes.members}
        self._newest: Mapping[AgentId, Seq] = {agent: room.newest_seq(agent) for agent in eyes.members}
        self.items: list[t.LinkItem] = []
        self.marks: list[MarkDelivery] = []
        self._entries: list[Entry] = []
        """Changes of the card that are not said yet."""
        self._page: t.LinkPage | None = None
        """The page that messages are put into."""
        self._came = False
        """Whether one of these agents came in, and no page said yet which number it goes on from."""
        self._left_out = False
        """Whether a private message was left out, and no page said yet which number its readers go on from."""
        self._told = self._size = 0
        """How many messages were told in this step, and their bytes."""

    def is_far_behind(self) -> bool:
        """Whether more was posted than is worth telling one by one."""
        told = self._followed.seqs
        return any(newest - told.get(agent, newest) > CATCH_UP for agent, newest in self._newest.items())

    # -- beginning -------------------------------------------------------------------------------------------

    async def begin(self, *, anew: bool) -> None:
        """Find where to begin, and say how the room stood there: where the asker was, or `anew` with the newest."""
        followed, resume = self._followed, self._followed.resume
        has_something = bool(resume.public or resume.before or resume.moves or resume.asks)
        epoch = epoch_of(resume.public)
        missed = [each for each in self._room.state.rewinds.rewound if each.epoch > epoch]
        goes_on = has_something and not anew
        if goes_on:
            followed.at = await self._resumed(resume)
            if missed:
                # Its numbers beyond the rewind mean messages that this home lost.
                followed.at = min(followed.at, Position(missed[0].position - 1))
            goes_on = not await self._is_beyond(followed.at)
        if not goes_on:
            followed.at = await self._among_newest(resume, had=has_something or anew)
        passed = [await self._rewind(each) for each in missed if self._views and each.position <= followed.at]
        facts = await self._headers(followed.at) if self._eyes.are_inside else []
        moves = self._moves - sum(map(_is_move, facts))
        if goes_on:
            # The newest that was told may be that somebody came or went, which no number of a message says.
            for header in list(facts):
                if missed or moves >= resume.moves:
                    # Before a rewind the count is of what was lost, too.
                    break
                facts.remove(header)
                moves, followed.at = moves + _is_move(header), header.position
        followed.moves = moves
        followed.asks, followed.asked = self._asks, self._upto
        followed.shown = await self._library.shown_at(self._name, followed.at)
        followed.seqs = {}
        await self._number()
        # The asker may have been told of nothing in between but that somebody came or went, because none of its agents
        # could see what was said meanwhile.
        followed.jumped = not goes_on or followed.shown.number != resume.public
        followed.is_level = followed.knows_rest = False
        if resume.public:
            # One that waits for a rewind hears nothing else before it.
            self.items += passed
            passed = []
        if goes_on and moves == resume.moves:
            await self._tell_asks(resume)
            if self._eyes.are_inside:
                await self._tell_line(followed.at, after=resume.heard)
        else:
            stood = _stood(self._room, facts, self._upto)
            closed = self._room.state.closed and not any(isinstance(fact.event, e.RoomClosed) for fact in facts)
            whole = self._cards.whole(
                self._room,
                self._eyes,
                stood,
                moves=moves,
                asks=followed.asks,
                closed=closed,
                at=followed.at,
                epoch=resume.epoch,
            )
            for card in await whole:
                self.items.append(t.LinkItem(room=self._name, card=card))
        self.items += passed
        self._open_page()

    async def _is_beyond(self, position: Position) -> bool:
        """Whether so much follows a place that the asker begins anew. It is counted here, whatever numbers the asker
        names: all facts after the place where it goes on are read."""
        for agent, view in self._views.items():
            if self._newest[agent] - await self._library.seq_at(self._room, view, position) > CATCH_UP:
                return True
        return False

    async def _resumed(self, resume: t.Resume) -> Position:
        """Up to where the asker has everything: what it has came in the order of the log."""
        if not self._views:
            return self._upto
        known = [(PUBLIC, Seq(self._room.state.rewinds.count_at(resume.public)))]
        known += [(view, Seq(resume.before[agent])) for agent, view in self._views.items() if agent in resume.before]
        return max([await self._library.position_of(self._name, view, seq) for view, seq in known])

    async def _among_newest(self, resume: t.Resume, *, had: bool) -> Position:
        """Before so many of the newest messages that every member who sees as many is told as many, or before all that
        they see. Found by the index of numbers, without reading a message."""
        newest = resume.newest or (NEWEST if had else 0)
        if not newest:
            return self._upto
        seen = {agent: number for agent, number in self._newest.items() if number}
        many = {agent: Seq(number - newest + 1) for agent, number in seen.items() if number > newest}
        firsts = many or dict.fromkeys(seen, Seq(1))
        found = [
            Position(await self._library.position_of(self._name, self._views[agent], first) - 1)
            for agent, first in firsts.items()
        ]
        return (max if many else min)(found, default=self._upto)

    async def _headers(self, after: Position) -> list[e.Header]:
        found: list[e.Header] = []
        while after < self._upto:
            page = await self._library.facts(self._name, after, min(FACTS, self._upto - after))
            found += page
            after = page[-1].position
        return found

    async def _tell_asks(self, resume: t.Resume) -> None:
        """What became of keys and requests while the asker was away, all of it; the rest of the card it has."""
        asks = self._followed.asks
        if (self._eyes.owns and asks == resume.asks) or not (self._eyes.owns or self._eyes.knocking):
            return
        for card in await self._cards.asked(self._room, self._eyes, moves=self._followed.moves, asks=asks):
            self.items.append(t.LinkItem(room=self._name, card=card))

    async def _tell_line(self, upto: Position, *, after: int = 0) -> None:
        """What the home of a sealed room's owner said of itself up to this place, if that is news."""
        line = await self._cards.owner_line(self._room, upto, after=after)
        if line is not None:
            moves, asks = self._followed.moves, self._followed.asks
            card = await self._cards.part(self._room, self._eyes, [], moves=moves, asks=asks)
            self.items.append(t.LinkItem(room=self._name, card=msgspec.structs.replace(card, owner_line=line)))

    async def look_as_others(self) -> None:
        """Other agents look than at the last step. Each of them goes on from here, by its own number."""
        followed = self._followed
        followed.seqs = {agent: seq for agent, seq in followed.seqs.items() if agent in self._views}
        await self._number()
        self._open_page()

    async def _number(self) -> None:
        seqs = self._followed.seqs
        for agent, view in self._views.items():
            if agent not in seqs:
                seqs[agent] = await self._library.seq_at(self._room, view, self._followed.at)

    # -- going on --------------------------------------------------------------------------------------------

    async def go_on(self) -> None:
        """Tell what came, a page at most."""
        followed, begun_at = self._followed, self._followed.at
        is_full = False
        while followed.at < self._upto and not is_full:
            # Where the log ends before the room does, whoever follows comes again, when the room is what its log says.
            for fact in await self._library.whole_facts(self._room, followed.at, self._upto, FACTS):
                is_full = not await self._take(fact)
                if is_full:
                    break
        if self._came or self._left_out:
            await self._say()
            self._open_page()
        await self._say()
        if self._views and followed.at > begun_at and any(item.page is not None for item in self.items):
            self.marks = [
                MarkDelivery(self._name, agent, "pushed", upto=followed.at, at=self._now, after=begun_at)
                for agent in self._views
            ]
        if followed.at == self._upto and not is_full:
            await self._tell_rest()
            self._tell_waiting()
            if not followed.is_level and not self._ends_with_place():
                # Where the room ends shows the asker whether this home has all that it told before.
                self._open_page()
                await self._say()
            if self.items:
                self.items[-1] = msgspec.structs.replace(self.items[-1], level=True)
            elif not followed.is_level:
                self.items.append(t.LinkItem(room=self._name, level=True))
            followed.is_level = True
        else:
            followed.is_level = False

    def _ends_with_place(self) -> bool:
        """Whether the newest item is a page without messages, which says where the room stands."""
        page = self.items[-1].page if self.items else None
        return page is not None and not page.messages

    async def _take(self, fact: NewFact) -> bool:
        """Tell one fact, as far as these eyes may know it. False, and nothing is told, where the page is full."""
        followed, header, event = self._followed, fact.header, fact.header.event
        match event:
            case e.MessagePosted():
                if not await self._take_message(fact, event):
                    return False
            case e.MemberJoined(agent=agent) | e.MemberLeft(agent=agent):
                followed.moves += 1
                if self._eyes.are_inside or agent in self._eyes.own:
                    await self._change(Stood(self._room.state.members[agent], isinstance(event, e.MemberJoined)))
                    self._came = self._came or agent in self._views
            case e.RoleGiven(agent=agent):
                followed.moves += 1
                if self._eyes.are_inside:
                    await self._change(Stood(self._room.state.members[agent], present=True))
            case (
                e.JoinRequested(request=id)
                | e.KeyExchanged(request=id)
                | e.KnockEnded(request=id)
                | e.JoinApproved(request=id)
                | e.JoinDenied(request=id)
            ):
                request = self._room.state.requests[id]
                is_new = header.position > followed.asked
                await self._ask(header, request, may_know=self._eyes.owns or self._eyes.has(request.agent))
                key = self._room.state.epochs.told.get(request.agent)
                is_again = isinstance(event, e.JoinRequested) and key is not None and key.position < header.position
                if key is not None and is_again and is_new and self._eyes.owns:
                    # It told this key with an earlier knock, which may have been over before its owner could be told.
                    await self._change(KeyTold(request.agent, key.position))
            case e.KeyMinted(key=key) | e.KeyRevoked(key=key):
                await self._ask(header, self._room.state.keys[key], may_know=self._eyes.owns)
            case e.SealingKeyTold(agent=agent):
                await self._ask(header, KeyTold(agent, header.position), may_know=self._eyes.owns)
            case e.EpochTurned() if self._eyes.are_inside:
                await self._take_epoch(fact, event)
            case e.OwnerLineTold() if self._eyes.are_inside and header.position == self._room.state.epochs.lined:
                # Of several that came meanwhile, the newest says all.
                await self._say()
                await self._tell_line(header.position)
            case (
                e.TaskClaimed(task=id)
                | e.TaskReleased(task=id)
                | e.TaskLapsed(task=id)
                | e.TaskCompleted(task=id)
                | e.TaskOffered(task=id)
            ):
                if (task := self._task(id)) is not None:
                    await self._say()
                    self.items.append(t.LinkItem(room=self._name, tasks=[task]))
            case e.BodiesErased(spans=spans) if self._views:
                await self._say()
                await self._tell_erased(spans)
            case e.RoomRewound() if self._views:
                await self._take_rewind(header)
            case e.OwnerChanged():
                await self._say()
                card = await self._cards.part(self._room, self._eyes, [], moves=followed.moves, asks=followed.asks)
                told = msgspec.structs.replace(card, transfers=await self._cards.transfers(self._room, header.position))
                self.items.append(t.LinkItem(room=self._name, card=told))
                if self._eyes.owns:
                    # Whose it is now was told little of keys and requests before.
                    followed.asks, followed.asked = self._asks, self._upto
                    moves, asks = followed.moves, followed.asks
                    for card in await self._cards.asked(self._room, self._eyes, moves=moves, asks=asks):
                        self.items.append(t.LinkItem(room=self._name, card=card))
            case e.RoomClosed():
                await self._say()
                card = await self._cards.part(self._room, self._eyes, [], moves=followed.moves, asks=followed.asks)
                self.items.append(t.LinkItem(room=self._name, card=msgspec.structs.replace(card, closed=True)))
        followed.at = header.position
        return True

    def _task(self, id: MessageId) -> t.TaskAtRoom | None:
        """How a task stands now, if one of these agents may see it. What became of it later is told once more."""
        task = self._room.claims.get(id)
        if task is None or not self._sees(task):
            return None
        claims = self._room.claims
        return t.TaskAtRoom(
            task=task.id,
            state=task.state,
            worker=task.worker,
            until=task.open_until if task.id in claims.state.over else claims.until(task),
            lease_ms=task.lease_ms,
            fence=task.fence,
            among=None if task.among is None else [agent for agent in self._views if agent in task.among],
        )

    def _sees(self, task: Task) -> bool:
        views = self._views.values()
        return any(can_see(view, position=task.position, visibility=task.visibility) for view in views)

    async def _tell_rest(self) -> None:
        """How every task stands that is not simply open, and which words are gone: once for each time that a link
        begins, because the asker may have missed what became of them."""
        if self._followed.knows_rest or not self._views:
            return
        self._followed.knows_rest = True
        state = self._room.state.claims
        moved = [
            task.id for task in (*state.tasks.values(), *state.over.values()) if task.worker or task.among is not None
        ]
        told = [task for id in moved if (task := self._task(id)) is not None]
        for begin in range(0, len(told), PIECE):
            self.items.append(t.LinkItem(room=self._name, tasks=told[begin : begin + PIECE]))
        await self._tell_erased(self._room.state.retention.spans)

    def _tell_waiting(self) -> None:
        """How old a secret these agents still need, where secrets go: a message that waits is in no mirror."""
        state = self._room.state
        if not self._views or not state.is_sealed or state.history == "full":
            return
        number = self._room.gated.waits_from(self._views)
        if number != self._followed.waits_from:
            self._followed.waits_from = number
            self.items.append(t.LinkItem(room=self._name, waits_from=number))

    async def _tell_erased(self, spans: Sequence[tuple[Position, Position]]) -> None:
        """Which messages of these agents have no words any more: those within these spans of the log."""
        told: list[t.ErasedAtRoom] = []
        for agent, view in self._views.items():
            for first, last in spans:
                before = await self._library.seq_at(self._room, view, Position(first - 1))
                upto = await self._library.seq_at(self._room, view, last)
                if upto > before:
                    told.append(t.ErasedAtRoom(agent=agent, first=before + 1, last=upto))
        for begin in range(0, len(told), PIECE):
            self.items.append(t.LinkItem(room=self._name, erased=told[begin : begin + PIECE]))

    async def _take_epoch(self, fact: NewFact, event: e.EpochTurned) -> None:
        """Tell an epoch, between what was sealed before it and what follows. Whoever can read from here on goes on from
        a number that nothing told before says."""
        if event.number > self._followed.resume.epoch:
            await self._say()
            kept = Signed(fact.body or b"", fact.signature or b"")
            self.items.append(t.LinkItem(room=self._name, epoch=entry_of(kept)))
        for agent, _ in event.added:
            if agent in self._views:
                seqs, at = self._followed.seqs, fact.header.position
                seqs[agent] = await self._library.seq_at(self._room, self._views[agent], at)
                self._came = True

    async def _take_rewind(self, header: e.Header) -> None:
        """Tell a rewind. Whoever held more than this home waited for it and heard of nothing else, so it is told anew
        how the room stands."""
        followed, room = self._followed, self._room
        await self._say()
        [rewound] = [each for each in room.state.rewinds.rewound if each.position == header.position]
        self.items.append(await self._rewind(rewound))
        since = await self._headers(header.position)
        closed = room.state.closed and not any(isinstance(fact.event, e.RoomClosed) for fact in since)
        stood = _stood(room, since, self._upto)
        whole = self._cards.whole(
            room,
            self._eyes,
            stood,
            moves=followed.moves,
            asks=followed.asks,
            closed=closed,
            at=header.position,
        )
        for card in await whole:
            self.items.append(t.LinkItem(room=self._name, card=card))
        followed.shown = await self._library.shown_at(self._name, header.position)
        self._open_page()

    async def _rewind(self, rewound: Rewound) -> t.LinkItem:
        """A rewind, and which number each of these agents had there."""
        at = rewound.position
        signed = (await self._library.bodies(self._name, [at]))[at]
        before = {
            str(agent): int(await self._library.seq_at(self._room, view, at)) for agent, view in self._views.items()
        }
        return t.LinkItem(
            room=self._name, rewound=t.RewindEntry(statement=signed.body, signature=signed.signature, before=before)
        )

    async def _take_message(self, fact: NewFact, event: e.MessagePosted) -> bool:
        followed, header = self._followed, fact.header
        position, size = header.position, len(fact.body or b"")
        seers = [
            agent
            for agent, view in self._views.items()
            if can_see(view, position=position, visibility=event.visibility)
        ]
        if seers and fact.body is None and event.visibility is not None:
            # Without its words nobody can be shown who may see it: only its number is told, with the next page.
            await self._say()
            self._left_out = True
            for agent in seers:
                followed.seqs[agent] += 1
        elif seers:
            if self._told >= PAGE or (self._told and self._size + size > PAGE_BYTES):
                return False
            if self._entries:
                await self._say()
            if self._page is None:
                self._open_page()
            assert self._page is not None
            self._page.messages.append(message_of(fact))
            self._told, self._size = self._told + 1, self._size + size
            for agent in seers:
                followed.seqs[agent] += 1
        if event.visibility is None:
            number, line = followed.shown
            followed.shown = Shown(number + 1, next_line(line, event.envelope))
            if not seers:
                # None of these agents may see it: what follows does not go on from what came before.
                await self._say()
                followed.jumped = True
        return True

    async def _ask(self, header: e.Header, entry: Entry, *, may_know: bool) -> None:
        """That something became of a key or a request, unless a card said it before."""
        if header.position > self._followed.asked:
            self._followed.asks += 1
            if may_know:
                await self._change(entry)

    async def _change(self, entry: Entry) -> None:
        if self._page is not None or len(self._entries) >= PIECE:
            await self._say()
        self._entries.append(entry)

    def _open_page(self) -> None:
        if self._views:
            followed = self._followed
            self._page = t.LinkPage(
                public=followed.shown.number,
                line=followed.shown.line,
                before={str(agent): seq for agent, seq in followed.seqs.items()},
                jumped=followed.jumped,
                messages=[],
            )
            followed.jumped = self._came = self._left_out = False

    async def _say(self) -> None:
        """Give out what was put together: the changes of the card, or the page."""
        if self._entries:
            entries, self._entries = self._entries, []
            moves, asks = self._followed.moves, self._followed.asks
            card = await self._cards.part(self._room, self._eyes, entries, moves=moves, asks=asks)
            self.items.append(t.LinkItem(room=self._name, card=card))
        if self._page is not None:
            self.items.append(t.LinkItem(room=self._name, page=self._page))
            self._page = None


def _is_move(header: e.Header) -> bool:
    return isinstance(header.event, e.MemberJoined | e.MemberLeft | e.RoleGiven)


def _stood(room: Room, since: Sequence[e.Header], upto: Position) -> list[Stood]:
    """The members as they were before these facts, which are the newest of the room up to there."""
    was_in: dict[AgentId, bool] = {}
    for header in since:
        event = header.event
        if isinstance(event, e.MemberJoined | e.MemberLeft):
            was_in.setdefault(event.agent, isinstance(event, e.MemberLeft))
    begun = since[0].position if since else upto + 1
    return [
        Stood(member, was_in.get(member.agent, member.present))
        for member in room.state.members.values()
        if member.first < begun
    ]
