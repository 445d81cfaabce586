"""The one line that says what waits for an agent: counts and room names, never a word a peer chose.

Zero bytes when nothing waits. To each window once, it also says that an agent host lost its entry. Room names are
labels, so the line may stand outside a fence.
"""

from __future__ import annotations

from typing import Final

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.home import AgentRecord
from parlerd.core.membership import present
from parlerd.core.model import RoomId
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.reading import Reading, is_for

LOOK: Final = 20
"""New messages that are looked at for a handoff; a longer backlog is only counted."""
MAX_ROOMS: Final = 5


class Notices:
    """What waits, derived on the spot from cursors and requests."""

    def __init__(self, desk: Desk, reading: Reading) -> None:
        self._desk = desk
        self._reading = reading

    async def line(self, caller: Caller) -> str:
        """One line without a newline, or ''. A caller that is no agent yet has nothing waiting."""
        if caller.agent is None:
            return ""
        me = self._desk.rooms.home.aggregate.state.agents[caller.agent]
        found: list[str] = []
        for membership in self._desk.driver.store.memberships(me.id):
            if membership.state != "member":
                continue
            try:
                found += await self._of_room(caller, me, membership.room)
            except Refused:
                continue
        more = f"; {len(found) - MAX_ROOMS} more" if len(found) > MAX_ROOMS else ""
        waiting = f"Waiting for you: {'; '.join(found[:MAX_ROOMS])}{more}." if found else ""
        return " ".join(line for line in (waiting, self._of_hosts(caller)) if line)

    def _of_hosts(self, caller: Caller) -> str:
        """That a host dropped our entry: the agents of the others can pass it on. Each window is told once."""
        line = self._desk.host_files.notice()
        if line == caller.told:
            return ""
        caller.told = line
        return line

    async def _of_room(self, caller: Caller, me: AgentRecord, name: RoomId) -> list[str]:
        # Not `quiet`: a line about what waits is not worth waiting for the batch in flight.
        actor = self._desk.rooms.open_actor(name) or await self._desk.rooms.get(name)
        room = actor.aggregate
        state = room.state
        present(state.members, me.id)
        found = []
        knocking = len(room.pending())
        if knocking and state.owner == me.id and not state.closed:
            found.append(f"{knocking} at the door of {state.name} (a person decides: parler_approve)")
        cursor = self._desk.driver.store.cursor(name, me.id)
        after = max(cursor.acknowledged, caller.shown.get(name, cursor.acknowledged))
        view = room.view(me.id)
        unread = self._reading.unread(room, view, after)
        if not unread:
            return found
        if not cursor.delivered and state.owner != me.id:
            found.append(f"you were let into {state.name} ({unread} to read)")
            return found
        page = await self._reading.page(room, view, after, limit=LOOK, skip_own=True)
        handed = any(
            isinstance(stored.header.event, e.MessagePosted)
            and stored.header.event.kind == "handoff"
            and is_for(state, me.id, stored.header.event)
            for stored in page.messages
        )
        found.append(f"{unread} new in {state.name}" + (", a handoff to you among them" if handed else ""))
        return found
