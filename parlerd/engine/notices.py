"""The one line that says what is new for an agent beside what it asked for: counts and names, no word a peer chose.

Each change is said once to each window: that somebody knocks, that the person decided, that somebody came in, that
messages wait in a room, that an agent host lost its entry. Zero bytes when nothing changed. What an answer said itself
is not said again. Names are labels, so the line may stand outside a fence; a label can still be worded like a sentence,
so each is short here and in quotes.
"""

from __future__ import annotations

from typing import Final

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.home import AgentRecord
from parlerd.core.membership import present
from parlerd.core.room import Room
from parlerd.engine.callers import Caller, Told
from parlerd.engine.desk import Desk
from parlerd.engine.reading import Reading, handle_of, is_for

LOOK: Final = 20
"""New messages that are looked at for a handoff; a longer backlog is only counted."""
MAX_SHOWN: Final = 32
"""Characters of a name in a notice. No label holds a quote, so none ends the quotes around it."""
MAX_NEWS: Final = 5
"""Pieces of news in one line; the rest is counted."""


class Notices:
    """What changed for an agent since its window was told last, derived from rooms, cursors and requests."""

    def __init__(self, desk: Desk, reading: Reading) -> None:
        self._desk = desk
        self._reading = reading

    async def line(self, caller: Caller, about: str = "") -> str:
        """One line without a newline, or ''. A caller that is no agent yet has nothing waiting. The answer beside it is
        `about` a room: what waits there, and what became of a request to come in, the answer said itself."""
        if caller.agent is None:
            return ""
        me = self._desk.rooms.home.aggregate.state.agents[caller.agent]
        found: list[str] = []
        active = self._desk.rooms.home.aggregate.state.active.get(me.id)
        memberships = self._desk.driver.store.memberships(me.id)
        for membership in sorted(memberships, key=lambda each: each.room != active):
            try:
                room = (await self._desk.rooms.get(membership.room)).aggregate
                found += self._at_door(caller.told, me, room, membership.state, said=membership.room == about)
                if membership.state == "member":
                    found += self._of_people(caller.told, me, room)
                    found += await self._of_messages(caller, me, room, said=membership.room == about)
            except Refused:
                continue
        caller.told.begun = True
        more = f"; {len(found) - MAX_NEWS} more: parler_rooms" if len(found) > MAX_NEWS else ""
        news = f"Meanwhile: {'; '.join(found[:MAX_NEWS])}{more}." if found else ""
        return " ".join(line for line in (news, self._of_hosts(caller)) if line)

    async def concerning(self, caller: Caller) -> bool:
        """Whether somebody knocks, came in, or the person decided, and this window was not told yet: what ends a wait
        for messages. Tells nothing."""
        if caller.via != "mcp" or caller.agent is None or not caller.told.begun:
            return False
        me = self._desk.rooms.home.aggregate.state.agents[caller.agent]
        copy = caller.told.copy()
        for membership in self._desk.driver.store.memberships(me.id):
            try:
                room = (await self._desk.rooms.get(membership.room)).aggregate
                if self._at_door(copy, me, room, membership.state, said=False):
                    return True
                if membership.state == "member" and self._of_people(copy, me, room):
                    return True
            except Refused:
                continue
        return False

    def _of_hosts(self, caller: Caller) -> str:
        """That a host dropped our entry: the agents of the others can pass it on."""
        line = self._desk.host_files.notice()
        if line == caller.told.hosts:
            return ""
        caller.told.hosts = line
        return line

    def _at_door(self, told: Told, me: AgentRecord, room: Room, state: str, *, said: bool) -> list[str]:
        """What became of this agent's own request to come in."""
        name = room.state.room
        before, told.doors[name] = told.doors.get(name, ""), state
        if said or state == before:
            return []
        if state == "pending":
            request = next((request for request in room.pending() if request.agent == me.id), None)
            if request is None:
                return []
            code = self._desk.keys.join_code(request.id)
            return [f"your request to come in waits for a person (your code is {code})"]
        if state == "denied" and before:
            return ["the person declined your request to come in"]
        let_in = before == "pending" or (not told.begun and room.state.owner != me.id)
        if state == "member" and let_in and not self._desk.driver.store.cursor(name, me.id).delivered:
            # What waits to be read there is said with it.
            told.unread[name] = room.position
            return [f"you were let into {_quoted(room.state.name)} (parler_recv gives what is there)"]
        return []

    def _of_people(self, told: Told, me: AgentRecord, room: Room) -> list[str]:
        """Who knocks at a room of this agent, and who came in."""
        state = room.state
        present(state.members, me.id)
        if state.owner != me.id or state.closed:
            return []
        found: list[str] = []
        here = frozenset(member.agent for member in state.members.values() if member.present)
        before, told.members[state.room] = told.members.get(state.room), here
        if before is not None:
            found += [
                f"{_quoted(handle_of(state, agent))} came into {_quoted(state.name)}"
                for agent in sorted(here - before - {me.id})
            ]
        knocking = [request for request in room.pending() if request.id not in told.requests]
        told.requests.update(request.id for request in knocking)
        if knocking:
            others = f" and {len(knocking) - 1} more" if len(knocking) > 1 else ""
            verb = "knock" if len(knocking) > 1 else "knocks"
            who, where = _quoted(knocking[0].name), _quoted(state.name)
            found.append(f"{who}{others} {verb} at {where} (your user decides: parler_approve)")
        return found

    async def _of_messages(self, caller: Caller, me: AgentRecord, room: Room, *, said: bool) -> list[str]:
        # Not `quiet`: a line about what waits is not worth waiting for the batch in flight.
        state = room.state
        name = state.room
        present(state.members, me.id)
        cursor = self._desk.driver.store.cursor(name, me.id)
        after = max(cursor.acknowledged, caller.shown.get(name, cursor.acknowledged))
        told = caller.told.unread.get(name, after)
        view = room.view(me.id)
        unread = self._reading.unread(room, view, after)
        if not unread:
            return []
        caller.told.unread[name] = room.position
        if said or (told > after and not self._reading.unread(room, view, told)):
            return []
        page = await self._reading.page(room, view, after, limit=LOOK, skip_own=True)
        handed = any(
            isinstance(stored.header.event, e.MessagePosted)
            and stored.header.event.kind == "handoff"
            and is_for(state, me.id, stored.header.event)
            for stored in page.messages
        )
        return [f"{unread} new in {_quoted(state.name)}" + (", the turn among them" if handed else "")]


def _quoted(name: str) -> str:
    """A name that others chose, to be seen as one."""
    return f"'{name}'" if len(name) <= MAX_SHOWN else f"'{name[: MAX_SHOWN - 3]}...'"
