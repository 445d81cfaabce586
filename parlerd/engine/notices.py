"""The one line that says what is new for an agent beside what it asked for: counts and names, no word a peer chose.

Each change is said once to each window: that somebody knocks or wants to write to the agent, that the person decided,
that somebody came or left, that wrong keys were tried too often, that messages wait in a room, that an own offer of the
turn was answered or expired, that a relay lost some of the agent's own messages, that no model was shown an own
message, that the agent and another woke each other too often, that an agent host lost its entry. Zero bytes when
nothing changed. What an answer said itself is not said again. Names are labels, so the line may stand outside a fence;
a label can still be worded like a sentence, so each is short here and in quotes.
"""

from __future__ import annotations

from math import inf
from typing import Final

from parlerd.core import events as e
from parlerd.core.approvals import standing_request, waiting
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import present
from parlerd.core.model import Millis, Position, RoomId
from parlerd.core.room import Room
from parlerd.engine.callers import Caller
from parlerd.engine.continuing import spent_in
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.readers import Told
from parlerd.engine.reading import handle_of, is_for, talk_after
from parlerd.engine.rooms import pause_among
from parlerd.operations import types as t
from parlerd.text.sight import sentence_of

LOOK: Final = 20
"""New messages that are looked at for a handoff; a longer backlog is only counted."""
MAX_SHOWN: Final = 32
"""Characters of a name in a notice. No label holds a quote, so none ends the quotes around it."""
FACTS: Final = 500
"""Facts that are read at once."""
MAX_ANSWERS: Final = 2
"""Answers to own offers of the turn that are named for one room."""
OLD_MS: Final = 24 * 3600 * 1000
"""An offer that expired longer ago than this is no news to a window that begins."""
LAPSED: Final = "your request to come in is over, and nobody decided about it: join with the key again if you want to"
_ASKED: Final = ("pending", "unanswered")
MAX_NEWS: Final = 5
"""Pieces of news in one line; the rest is counted."""

_News = tuple[t.News, str]


class Notices:
    """What changed for an agent since its window was told last, derived from rooms, cursors and requests."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("window.notice")
    async def notice(self, caller: Caller, params: t.AskNotice) -> t.Notice:
        """One line without a newline, or ''. A caller that is no agent yet has nothing waiting. What the answer beside
        it said itself is taken as told."""
        if caller.agent is None:
            return t.Notice(line="")
        while True:
            before = caller.reader.told
            found, told = await self._look(caller)
            # While the store was asked, another answer to this window may have said some of it.
            if caller.reader.told is before:
                break
        # At once, or not at all: what could not be looked at to the end is said by the next answer.
        caller.reader.told = told
        lines = [line for kind, room, line in found if kind not in params.said or params.room not in ("", room)]
        more = f"; {len(lines) - MAX_NEWS} more: parler_rooms" if len(lines) > MAX_NEWS else ""
        line = f"Meanwhile: {'; '.join(lines[:MAX_NEWS])}{more}." if lines else ""
        return t.Notice(line=" ".join(part for part in (line, self._of_hosts(caller)) if part))

    async def concerning(self, caller: Caller) -> bool:
        """Whether somebody knocks, came or left, or the person decided, and this window was not told yet: what ends a
        wait for messages. Tells nothing; who is in a room that this window was told nothing of is taken for known."""
        if caller.reader.acknowledges != "next_call" or caller.agent is None:
            return False
        found, told = await self._look(caller, messages=False)
        for room, members in told.members.items():
            caller.reader.told.members.setdefault(room, members)
        return bool(found)

    async def _look(self, caller: Caller, *, messages: bool = True) -> tuple[list[tuple[t.News, str, str]], Told]:
        """What is new for this window (kind, room, words), and what it was told once that was said."""
        assert caller.agent is not None
        home = self._desk.rooms.home.aggregate.state
        me, active = home.agents[caller.agent], home.active.get(caller.agent)
        told = caller.reader.told.copy()
        found: list[tuple[t.News, str, str]] = await self._of_refused(told, me)
        found += [("knock", "", line) for line in self._of_asks(told, me)]
        if messages:
            found += self._of_loops(told, me)
            found += await self._of_unshown(told, me)
        standings = await self._desk.library.standings(me.id)
        standings.sort(key=lambda each: each[0].room != active)
        for number, (membership, stands) in enumerate(standings, 1):
            if told.looked.get(membership.room) == stands and self._desk.clock.now() < told.expires.get(
                membership.room, inf
            ):
                continue  # all news of a room are facts in its log, but that an offer expired
            await pause_among(number)
            try:
                handle = await self._desk.rooms.get(membership.room)
                room = handle.aggregate
                is_active = membership.room == active
                news = await self._at_door(told, me, handle, membership.state, stands, is_active=is_active)
                if membership.state == "member":
                    news += self._of_people(told, me, room)
                    news += await self._of_spent(told, me, handle)
                    news += await self._of_lost(told, me, room)
                    news += self._of_expired(told, me, room)
                    if messages:
                        news += await self._of_messages(caller, told, me, room)
            except Refused:
                continue
            if messages:
                told.looked[membership.room] = stands
            found += [(kind, str(membership.room), line) for kind, line in news]
        told.begun = True
        return found, told

    async def _of_refused(self, told: Told, me: AgentRecord) -> list[tuple[t.News, str, str]]:
        """Which messages of this agent were queued here and then refused by their room's home."""
        found: list[tuple[t.News, str, str]] = []
        for message in self._desk.homes.undelivered(me.id):
            if message.id in told.undelivered:
                continue
            told.undelivered.add(message.id)
            try:
                name = (await self._desk.rooms.get(message.room)).aggregate.state.name
            except Refused:
                continue
            line = f"your queued message {message.id} was refused in {_quoted(name)} ({message.code})"
            found.append(("refused", message.room, line))
        return found

    def _of_loops(self, told: Told, me: AgentRecord) -> list[tuple[t.News, str, str]]:
        """With whom this agent began so many turns that their messages wake neither of the two."""
        found: list[tuple[t.News, str, str]] = []
        held: dict[RoomId, frozenset[str]] = {}
        for room in self._desk.rooms.home.aggregate.loops.rooms():
            handle = self._desk.rooms.open_actor(room)
            if handle is None:
                # Nothing happens there now, and for this line alone no room is opened.
                held[room] = told.held.get(room, frozenset())
                continue
            state = handle.aggregate.state
            with_me = spent_in(self._desk, state, me.id)
            mine = handle_of(state, me.id)
            held[room] = frozenset(pair.other if pair.one == mine else pair.one for pair in with_me)
            for name in sorted(held[room] - told.held.get(room, frozenset())):
                where = _quoted(state.name)
                line = f"messages of you and {_quoted(name)} in a conversation of {where} wake neither of you any more"
                found.append(("loop", room, f"{line} (your user runs `parler room continue {room}`)"))
        told.held = held
        return found

    async def _of_unshown(self, told: Told, me: AgentRecord) -> list[tuple[t.News, str, str]]:
        """Which messages of this agent were read two minutes ago, and shown to no model of those that are watched."""
        found: list[tuple[t.News, str, str]] = []
        for each in self._desk.sightings.unshown(me.id, self._desk.clock.now()):
            if each.id in told.unshown:
                continue
            told.unshown.add(each.id)
            try:
                room = (await self._desk.rooms.get(each.word.room)).aggregate
            except Refused:
                continue
            word, state = each.word, room.state
            seq = await self._desk.library.seq_at(room, room.view(me.id), word.position)
            elsewhere = word.reader not in self._desk.rooms.home.aggregate.state.agents
            said = sentence_of(word.verdict, word.reason, word.host, word.again, elsewhere=elsewhere)
            who = _quoted(handle_of(state, word.reader))
            line = f"no model is known to have been shown your #{seq} in {_quoted(state.name)}, which {who} read"
            found.append(("sight", state.room, f"{line} ({said})"))
        return found

    def _of_asks(self, told: Told, me: AgentRecord) -> list[str]:
        """Who wants to write to this agent, which wants its person to be asked."""
        asks = [ask for ask in self._desk.rooms.home.aggregate.pairs.asks() if ask.agent == me.id]
        new = [ask for ask in asks if ask.state == "pending" and ask.request not in told.requests]
        told.requests.update(ask.request for ask in new)
        others = f" and {len(new) - 1} more" if len(new) > 1 else ""
        verb = "want" if len(new) > 1 else "wants"
        return (
            [f"{_quoted(new[0].name)}{others} {verb} to write to you (your user decides: parler_approve)"]
            if new
            else []
        )

    def _of_hosts(self, caller: Caller) -> str:
        """That a host dropped our entry: the agents of the others can pass it on."""
        line = self._desk.host_files.notice()
        if line == caller.reader.told.hosts:
            return ""
        caller.reader.told.hosts = line
        return line

    async def _at_door(
        self, told: Told, me: AgentRecord, handle: RoomHandle, state: str, stands: Position, *, is_active: bool
    ) -> list[_News]:
        """What became of this agent's own request to come in. `stands` is how far the room's log goes."""
        room = handle.aggregate
        name = room.state.room
        if state == "pending" and room.state.closed:
            state = "closed"
        asked = next((each for each in waiting(room.state.requests) if each.agent == me.id), None)
        if state == "pending" and asked is not None and handle.standing(asked) == "unanswered":
            state = "unanswered"
        before, told.doors[name] = told.doors.get(name, ""), state
        if state == before:
            return []
        if state == "unanswered":
            return [("waits", "your request to come in waits for the machine of the session's owner to answer")]
        if state == "closed":
            return [("answer", "the session that you asked to come into was closed")] if before else []
        if state == "pending":
            request = next((request for request in room.pending() if request.agent == me.id), None)
            if request is None:
                return []
            code = handle.join_code(request.id)
            known = f" (your code is {code})" if code else ""
            return [("waits", f"your request to come in waits for a person{known}")]
        if state == "denied" and before:
            return [("answer", "the person declined your request to come in")]
        if state == "left" and before in _ASKED:
            request = standing_request(room.state.requests, me.id)
            how = "" if request is None else request.state
            if how == "failed":
                return [("answer", "the machine of the session's owner did not let in the key that you knocked with")]
            return [("answer", LAPSED)] if how == "lapsed" else []
        let_in = before in _ASKED or (not told.begun and room.state.owner != me.id)
        if state == "member" and let_in and not (await self._desk.library.cursor(name, me.id)).delivered:
            # What waits to be read there is said with it.
            told.unread[name] = stands
            call = "parler_recv" if is_active else f'parler_recv {{"room":"{room.state.name}"}}'
            return [("answer", f"you were let into {_quoted(room.state.name)} ({call} gives what is there)")]
        return []

    def _of_people(self, told: Told, me: AgentRecord, room: Room) -> list[_News]:
        """Who knocks at a room of this agent, who was declined there, who came in and who left."""
        state = room.state
        present(state.members, me.id)
        if state.owner != me.id or state.closed:
            return []
        found: list[_News] = []
        where = _quoted(state.name)
        here = frozenset(member.agent for member in state.members.values() if member.present)
        before, told.members[state.room] = told.members.get(state.room), here
        if before is not None:
            moved = [(agent, "came into") for agent in sorted(here - before)]
            moved += [(agent, "left") for agent in sorted(before - here)]
            found += [("people", f"{_quoted(handle_of(state, agent))} {verb} {where}") for agent, verb in moved]
        for request in state.requests.values():
            if request.id in told.requests and request.state != "pending":
                told.requests.discard(request.id)
                if request.state == "denied":
                    found.append(("people", f"{_quoted(request.name)} was declined at {where}"))
        knocking = [request for request in room.pending() if request.id not in told.requests]
        told.requests.update(request.id for request in knocking)
        if knocking:
            others = f" and {len(knocking) - 1} more" if len(knocking) > 1 else ""
            verb = "knock" if len(knocking) > 1 else "knocks"
            who = f"{_quoted(knocking[0].name)}{others} {verb} at {where}"
            found.append(("knock", f"{who} (your user decides: parler_approve)"))
        return found

    async def _of_spent(self, told: Told, me: AgentRecord, handle: RoomHandle) -> list[_News]:
        """With which keys of a sealed room of this agent wrong ones were tried too often, while they would be good."""
        state = handle.aggregate.state
        if state.owner != me.id or state.closed or not state.is_sealed:
            return []
        await handle.quiet()
        now, found = self._desk.clock.now(), list[_News]()
        for spent in handle.spent_keys():
            known = (spent.key.id, spent.person)
            if now >= spent.key.expires_at or known in told.spent:
                continue
            told.spent.add(known)
            where = _quoted(state.name)
            line = (
                f"a key of {where} is dead, because a wrong one was tried too often: make another for whoever you want"
            )
            if spent.person:
                who = f"the person of {_quoted(spent.person)}"
                line = f"{who} tried wrong keys too often at {where}, and needs another one"
            found.append(("people", line))
        return found

    async def _of_lost(self, told: Told, me: AgentRecord, room: Room) -> list[_News]:
        """How many messages of this agent the room's relay has lost, unless the agent read on since."""
        name, rewinds = room.state.room, room.state.rewinds
        if rewinds.epoch == told.epochs.get(name, 0):
            return []
        told.epochs[name] = rewinds.epoch
        newest, library = rewinds.rewound[-1], self._desk.library
        if (await library.cursor(name, me.id)).acknowledged >= newest.position:
            return []
        lost, at = 0, newest.upto
        while at < newest.position:
            for header in await library.facts(name, at, FACTS):
                at = header.position
                is_own = isinstance(header.event, e.MessagePosted) and header.by.actor == me.id
                lost += is_own and rewinds.is_lost(at)
        if not lost:
            return []
        what = "a message of yours" if lost == 1 else f"{lost} messages of yours"
        return [("lost", f"the relay of {_quoted(room.state.name)} lost {what}: say again what still matters")]

    def _of_expired(self, told: Told, me: AgentRecord, room: Room) -> list[_News]:
        """Which offers of the turn of this agent nobody took in time."""
        state, now = room.state, self._desk.now_at(room.state.home)
        open, late = [], []
        for offer in state.offers:
            if offer.giver != me.id:
                continue
            status = state.offers.standing(offer, now).status
            if status == "offered":
                open.append(offer.expires_at)
            elif status == "expired" and offer.id not in told.expired and now - offer.expires_at < OLD_MS:
                late.append(offer.id)
        told.expired.update(late)
        told.expires.pop(state.room, None)
        if open:
            # By this machine's clock, which may differ from that of the room's home.
            told.expires[state.room] = Millis(min(open) - now + self._desk.clock.now())
        if not late:
            return []
        what = "the turn that you offered" if len(late) == 1 else f"{len(late)} turns that you offered"
        verb = "was" if len(late) == 1 else "were"
        return [("handoff", f"{what} in {_quoted(state.name)} {verb} not taken in time: you still have it")]

    async def _of_messages(self, caller: Caller, told: Told, me: AgentRecord, room: Room) -> list[_News]:
        # Not `quiet`: a line about what waits is not worth waiting for the batch in flight, which is none of it.
        state = room.state
        name = state.room
        present(state.members, me.id)
        library, view = self._desk.library, room.view(me.id)
        cursor = await library.cursor(name, me.id)
        after = max(cursor.acknowledged, caller.reader.shown.holds(name) or cursor.acknowledged)
        before = told.unread.get(name, after)
        talk = await talk_after(library, room, view, after, look=LOOK)
        if talk is None:
            return []
        told.unread[name] = talk.upto
        if before > after and await talk_after(library, room, view, before, look=LOOK) is None:
            return []
        handed, answers = False, []
        for stored in talk.page.messages:
            event = stored.header.event
            assert isinstance(event, e.MessagePosted)
            if event.turn == "offered" and is_for(state, me.id, event):
                offer = state.offers.get(event.id)
                handed |= offer is not None and state.offers.is_open(offer, self._desk.now_at(state.home))
            elif (verb := _ANSWERED.get(event.turn)) and event.reply_to is not None:
                offer = state.offers.get(event.reply_to)
                if offer is not None and offer.giver == me.id:
                    answers.append(f", {_quoted(handle_of(state, stored.header.by.actor))} {verb}")
        line = f"{talk.number} new in {_quoted(state.name)}" + (", the turn among them" if handed else "")
        return [("unread", line + "".join(answers[:MAX_ANSWERS]))]


_ANSWERED: Final = {"accepted": "took the turn that you offered", "declined": "declined the turn that you offered"}


def _quoted(name: str) -> str:
    """A name that others chose, to be seen as one."""
    return f"'{name}'" if len(name) <= MAX_SHOWN else f"'{name[: MAX_SHOWN - 3]}...'"
