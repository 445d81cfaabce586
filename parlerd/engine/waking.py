"""What an agent host's hook is told: how much waits for the agent beside it, in counts and ids, and whether that may
begin a turn.

    hook --wake.check--> who is it (beside) -> what waits (cursors, requests) -> was it told before -> may a turn begin

Not here: what the host is told in its own words (`mcp_server.stdio.hook`), where hooks are installed (`configs.hooks`).
Invariants: nothing another party chose is in an answer, not even a room's name; no cursor moves, nothing is marked as
delivered, no agent is made; the same news begins a turn once, and none that the agent's attention leaves out
(`core.attention`); where agents have woken each other too often (`core.loops`) no turn begins, and everything can still
be read; a turn that begins is counted on the disk first.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.attention import Loudness
from parlerd.core.claims import QUIET_KINDS
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.loops import WAKES_AN_HOUR, Loops
from parlerd.core.membership import present
from parlerd.core.model import AgentId, Cause, MessageId, Millis, Position, RoomId, View
from parlerd.core.room import Room, RoomState
from parlerd.engine.beside import beside
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.reading import is_for, talk_after
from parlerd.engine.waits import Wait
from parlerd.operations import types as t
from parlerd.store.port import Page

log = logging.getLogger(__name__)

LOOK: Final = 20
"""New messages of a room that are looked at for a handoff; a longer backlog is only counted."""
MAX_IDS: Final = 5
MAX_CAUSES: Final = 64
"""Authors and conversations that one turn counts for. Whoever writes in more at once is bounded by the hour alone."""
GRACE_S: Final = 1.0
"""Between news and the turn that it begins."""


@dataclass(slots=True)
class _Told:
    """What a model was told already: up to where in each room, and which requests."""

    upto: dict[RoomId, Position] = field(default_factory=dict)
    requests: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Backlog:
    """What waits in one room: `count` messages after `after`, of those up to `upto`."""

    room: Room
    view: View
    after: Position
    upto: Position
    count: int
    loudness: Loudness
    """What begins a turn of the agent in this room."""
    page: Page
    """The first of the messages."""


@dataclass(frozen=True, slots=True)
class _News:
    """What of that which waits was not told before."""

    is_any: bool = False
    """Whether there is anything at all to tell or, for a turn, to begin it for."""
    causes: tuple[Cause, ...] = ()
    """The messages that would begin a turn, one for each author and conversation."""
    asked: bool = False
    """Whether somebody knocks, so that a turn begins whoever wrote what."""


@dataclass(slots=True)
class _Found:
    """What waits for one agent."""

    unread: dict[RoomId, _Backlog] = field(default_factory=dict)
    handoffs: int = 0
    requests: set[str] = field(default_factory=set)
    loud_requests: set[str] = field(default_factory=set)
    """Those that may begin a turn."""


class Waking:
    """The handler of `wake.check`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        # What the hooks of each agent were told, for the daemon's life: after a restart the same news may be told once
        # more. An entry is replaced and never changed, so that a hook which awaited an answer sees whether another one
        # was told meanwhile.
        self._told: dict[AgentId, _Told] = {}

    @handles("wake.check")
    async def check(self, caller: Caller, params: t.WakeCheck) -> t.Waiting:
        """What waits for the agent this hook runs beside, waiting for news if asked to."""
        desk = self._desk

        async def look(wait: Wait) -> t.Waiting | None:
            wait.on(topics.wakes())
            me, windows, sure = beside(desk, caller)
            found = _Found()
            if me is None:
                # A window may become the agent this hook belongs to.
                wait.on(topics.seats())
            else:
                wait.on(topics.memberships(me.id), topics.requests(me.principal))
                rooms = await desk.library.my_rooms(me.id)
                wait.on(*map(topics.messages, rooms), *(topics.messages(room, me.id) for room in rooms))
                found = await self._look(me, windows, rooms)
            news = _News() if me is None else await self._news(me, found, turn=params.turn)
            answer = await self._answer(caller, me, found, news=news, turn=params.turn, sure=sure)
            if answer.wake or wait.over or (_something(answer) and not params.turn):
                return answer
            # No topic fires at the moment at which the hour lets turns begin again.
            if pause := self._loops.free_in(desk.clock.now()):
                wait.again_in(pause / 1000)
            return None

        # A window that waits for this very message is about to show it, and then nothing waits.
        grace_s = GRACE_S if params.turn else 0.0
        return await desk.waits.until(caller, look, trio.current_time() + params.wait_ms / 1000, grace_s=grace_s)

    def forget(self, room: RoomId) -> None:
        """What waits in this room is news once more, to every agent."""
        for agent, told in self._told.items():
            upto = {name: position for name, position in told.upto.items() if name != room}
            self._told[agent] = _Told(upto, told.requests)

    @property
    def _loops(self) -> Loops:
        return self._desk.rooms.home.aggregate.loops

    async def _answer(
        self, caller: Caller, me: AgentRecord | None, found: _Found, *, news: _News, turn: bool, sure: bool
    ) -> t.Waiting:
        """What is said, and what is remembered as said: nothing for one that may not be the host's own hook, which
        would take the news away from it. What is news is remembered before anything is awaited, so that two hooks never
        begin a turn for one thing."""
        wakes = False
        if me is not None and news.is_any and sure:
            heads = {room: backlog.upto for room, backlog in found.unread.items()}
            before, told = self._told.get(me.id, _Told()), _Told(heads, found.requests)
            self._told[me.id] = told
            if turn:
                try:
                    wakes = await self._begin(caller, me, news)
                finally:
                    if not wakes and self._told[me.id] is told:
                        self._told[me.id] = before
        return t.Waiting(
            agent="" if me is None else me.id,
            unread=sum(backlog.count for backlog in found.unread.values()),
            rooms=[str(room) for room in list(found.unread)[:MAX_IDS]],
            handoffs=found.handoffs,
            requests=len(found.requests),
            wake=wakes,
            paused=self._loops.free_in(self._desk.clock.now()) > 0,
        )

    async def _begin(self, caller: Caller, me: AgentRecord, news: _News) -> bool:
        """Count a turn that begins now. False where none may begin."""
        desk = self._desk
        now = desk.clock.now()
        if self._loops.free_in(now):
            return False
        command = c.Wake(
            operation="wake.check", agent=me.id, begun=now, causes=news.causes[:MAX_CAUSES], asked=news.asked
        )
        settled = await desk.rooms.home.submit(command, desk.by(caller, me))
        if self._loops.free_in(now):
            log.warning("automatic turns pause: %d began in the last hour", WAKES_AN_HOUR)
        return settled.decision.answer == "woken"

    async def _news(self, me: AgentRecord, found: _Found, *, turn: bool) -> _News:
        """What of this was not told before, and may begin a turn where it would."""
        while True:
            told = self._told.get(me.id)
            news = await self._beyond(me, told or _Told(), found, turn=turn)
            # While the store was asked, another hook of this agent may have been told.
            if self._told.get(me.id) is told:
                return news

    async def _beyond(self, me: AgentRecord, told: _Told, found: _Found, *, turn: bool) -> _News:
        """What of this is beyond what was told; with `turn`, what of that begins a turn."""
        causes: dict[Cause, None] = {}
        for name, backlog in found.unread.items():
            known = max(told.upto.get(name, backlog.after), backlog.after)
            loud = await self._loud(me, backlog, known, backlog.loudness if turn else "all", for_turn=turn)
            if loud and not turn:
                return _News(is_any=True)
            causes |= dict.fromkeys(loud)
        asked = not (found.loud_requests if turn else found.requests) <= told.requests
        return _News(bool(causes) or asked, tuple(causes), asked)

    async def _loud(
        self, me: AgentRecord, backlog: _Backlog, after: Position, loudness: Loudness, *, for_turn: bool
    ) -> list[Cause]:
        """Whose messages after a place are so much for this agent, on the first page that has any. What a room
        remembers is for nobody. For a turn, how a task goes on is left out, and whatever is of two whose turns are used
        up."""
        if loudness == "nothing":
            return []
        state = backlog.room.state
        while after < backlog.upto:
            page = backlog.page
            if after > backlog.after:
                page = await self._desk.library.page(backlog.room, backlog.view, after, limit=LOOK, skip_own=True)
            loud: list[Cause] = []
            for stored in page.messages:
                event, author = stored.header.event, stored.header.by.actor
                assert isinstance(event, e.MessagePosted)
                is_quiet = event.memory is not None or (for_turn and event.kind in QUIET_KINDS)
                if is_quiet or (loudness == "handoffs" and not event.turn):
                    continue
                is_direct = event.visibility is not None or state.kind == "dm" or is_for(state, me.id, event)
                if loudness != "all" and not is_direct:
                    continue
                if for_turn and self._loops.is_spent(state.room, event.chain, me.id, author):
                    continue
                is_here = author in self._desk.rooms.home.aggregate.state.agents
                loud.append(Cause(state.room, event.chain, author, 1 if is_here else 2))
            if loud or not page.messages:
                return loud
            after = page.messages[-1].header.position
        return []

    async def _look(self, me: AgentRecord, windows: list[Caller], rooms: list[RoomId]) -> _Found:
        found = _Found()
        home = self._desk.rooms.home.aggregate
        asks = {ask.request for ask in home.pairs.asks() if ask.agent == me.id and ask.state == "pending"}
        found.requests.update(asks)
        if home.attention.of(me.id) == "open":
            found.loud_requests.update(asks)
        for name in rooms:
            try:
                await self._look_at(me, windows, name, found)
            except Refused:
                continue  # it left meanwhile
        return found

    async def _look_at(self, me: AgentRecord, windows: list[Caller], name: RoomId, found: _Found) -> None:
        rooms, library = self._desk.rooms, self._desk.library
        actor = rooms.open_actor(name) or await rooms.get(name)
        room = actor.aggregate
        state = room.state
        present(state.members, me.id)
        attention = rooms.home.aggregate.attention
        loudness = attention.loudness(me.id, name)
        if state.owner == me.id and not state.closed:
            requests = [request.id for request in room.pending()]
            found.requests.update(requests)
            if loudness == "all":
                found.loud_requests.update(requests)
        view = room.view(me.id)
        after = (await library.cursor(name, me.id)).acknowledged
        # What a window was shown is acknowledged by its next call, and waits for nobody.
        after = max([after, *(window.reader.shown.holds(name) or after for window in windows)])
        talk = await talk_after(library, room, view, after, look=LOOK)
        if talk is None:
            return
        found.unread[name] = _Backlog(room, view, after, talk.upto, talk.number, loudness, talk.page)
        found.handoffs += sum(
            isinstance(stored.header.event, e.MessagePosted)
            and stored.header.event.turn == "offered"
            and is_for(state, me.id, stored.header.event)
            and _is_open(state, stored.header.event.id, self._desk.now_at(state.home))
            for stored in talk.page.messages
        )


def _is_open(room: RoomState, id: MessageId, now: Millis) -> bool:
    """Whether the turn that this message offers can still be taken."""
    offer = room.offers.get(id)
    return offer is not None and room.offers.is_open(offer, now)


def _something(answer: t.Waiting) -> bool:
    """Whether anything waits at all."""
    return bool(answer.unread or answer.requests)
