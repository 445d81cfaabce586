"""What changed in the state of a room of this home, told to whoever asks for what comes after a place in its log.

    cursor -> the facts after it -> those that the asker may see -> a page, and the cursor behind it
                                `-> none: wait until the state changes, and look at what came meanwhile

Not here: how an entry stands now (`coordination`), what a condition is worth (`conditions`). Above: `crossing`. Below:
`sight`, `entries_shown`, `cursors`, the library. Invariants: what the asker may not see is in no answer and ends no
wait; a change that is not told in one page is told in the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import trio

from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.model import BESIDE, AgentId, Position, key_label
from parlerd.core.resolver import Resolver
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.engine import entries_shown as shown
from parlerd.engine.crossing import Answer, Request
from parlerd.engine.cursors import PART, cursor_of, no_such_place, place_of
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.sight import Sight
from parlerd.engine.waits import Wait
from parlerd.operations import types as t
from parlerd.store.port import NewFact

STEP: Final = 128
"""Facts that are read at a time, with their bodies."""
CHANGES: Final = (e.StateWritten, e.StateDeleted, e.TimerFired)
"""The facts that change the state."""


class _Wanted(NamedTuple):
    """Which entries somebody follows; None where it follows all."""

    scope: str | None
    key: str | None

    def has(self, scope: str, key: str) -> bool:
        return self.scope in (None, scope) and self.key in (None, key)


class _Page(NamedTuple):
    """Changes, up to which place they were looked for, and whether one more was found there."""

    changes: list[t.StateChange]
    upto: Position
    more: bool


class Changes:
    """Tells what changes in the state of rooms of this home."""

    def __init__(self, desk: Desk, sight: Sight) -> None:
        self._desk = desk
        self._sight = sight
        self.answers: Final[Mapping[str, Answer]] = {"state.changes": self._follow}

    async def _follow(self, handle: RoomHandle, request: Request, params: t.FollowState) -> t.StateChanges:
        name, agent = handle.room, request.by.actor
        key = None if params.key is None else key_label(params.key)
        limit = min(params.limit, t.MAX_ENTRIES)
        place = None if params.after is None else self._place(handle, agent, params.after)

        async def look(wait: Wait) -> t.StateChanges | None:
            nonlocal place
            wait.on(topics.life(name), topics.state(name))
            room, resolver = await self._sight.of(await self._desk.rooms.get(name), agent)
            scope = None if params.scope is None else room.entries.scope(params.scope)
            if place is None:
                return self._answer(room, agent, _Page([], room.position, more=False))
            if place > room.position:
                raise no_such_place("after")
            page = await self._page(room, resolver, _Wanted(scope, key), place, limit)
            place = page.upto
            return self._answer(room, agent, page) if page.changes or wait.over else None

        deadline = trio.current_time() + params.wait_ms / 1000
        return await self._desk.waits.until(request.caller, look, deadline)

    async def _page(self, room: Room, resolver: Resolver, wanted: _Wanted, place: Position, limit: int) -> _Page:
        """The changes after a place, at most `limit` of them and as many as one answer takes."""
        upto = room.position
        changes: list[t.StateChange] = []
        size = 0
        while place < upto:
            for fact in await self._desk.library.whole_facts(room, place, upto, STEP):
                event = fact.header.event
                if (
                    isinstance(event, CHANGES)
                    and wanted.has(event.scope, event.key)
                    and (change := change_shown(room, resolver, fact)) is not None
                ):
                    size += len(msgspec.json.encode(change))
                    if len(changes) == limit or (changes and size > shown.PAGE_BYTES):
                        return _Page(changes, place, more=True)
                    changes.append(change)
                place = fact.header.position
        return _Page(changes, upto, more=False)

    def _answer(self, room: Room, agent: AgentId, page: _Page) -> t.StateChanges:
        nonce = self._desk.random.bytes(PART)
        cursor = cursor_of(self._desk.keys.cursor_key(), room.state.room, agent, page.upto, nonce)
        return t.StateChanges(changes=page.changes, cursor=cursor, more=page.more, room=room.state.room)

    def _place(self, handle: RoomHandle, agent: AgentId, cursor: str) -> Position:
        place = place_of(self._desk.keys.cursor_key(), handle.room, agent, cursor)
        if place is None:
            raise no_such_place("after")
        return place


def change_shown(room: Room, resolver: Resolver, fact: NewFact) -> t.StateChange | None:
    """The change of the state that a fact is to whoever asks; None for any other fact, and for what is hidden from
    them."""
    event = fact.header.event
    if (
        isinstance(event, CHANGES)
        and event.scope not in BESIDE
        and not room.entries.table.is_hidden(event.scope, resolver.asker.handle)
        and can_see(room.view(resolver.asker.agent), position=fact.header.position, visibility=None)
    ):
        return shown.change(room, resolver, fact.header, fact.body)
    return None
