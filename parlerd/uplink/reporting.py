"""What a relay is told from time to time: how far agents of this home have read, how present they are, and what agent
hosts' records say of messages that they were given.

Not here: when that is told (`link`). Above: `link`. Below: the engine's presence, the library. Invariants: only what
the relay does not know yet is told; of an agent in a sealed room, its own words on what it does are told to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import msgspec

from parlerd.bounded import Bounded
from parlerd.core.errors import ParlerError
from parlerd.core.membership import number_at_home, shifts_of
from parlerd.core.model import AgentId, RoomId
from parlerd.engine.desk import Desk
from parlerd.operations import types as t
from parlerd.uplink.connection import CALL_S, LinkConnection

MAX_SIGHTS: Final = 1024
"""Words on messages that wait to be told to the relay."""


class Reports:
    """What one relay was told, and what it is to be told."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._told: dict[tuple[RoomId, AgentId], tuple[int, int, int]] = {}
        """How far agents have read, as the relay was last told on this link: the room's epoch, and the relay's own
        numbers of what was read and acknowledged."""
        self._told_presence: dict[AgentId, tuple[str, t.StatedStatus | msgspec.UnsetType]] = {}
        """How present this home's agents are, as the relay was last told on this link."""
        self._untold_sights: Bounded[tuple[str, str], t.SightAtRoom] = Bounded(MAX_SIGHTS)
        """What the relay is not told yet of messages that agents of this home were given: the newest word on each, by
        message and agent."""

    def end(self) -> None:
        """The link ended: another one tells all anew, but what was said of messages."""
        self._told.clear()
        self._told_presence.clear()

    def note_sights(self, words: Sequence[t.SightAtRoom]) -> None:
        """Keep these words on messages, to be told."""
        for word in words:
            self._untold_sights[word.id, word.agent] = word

    async def tell_sights(self, connection: LinkConnection) -> None:
        """Tell what waits, as much as one call takes."""
        told = list(self._untold_sights.items())[: t.MAX_PAGE]
        if not told:
            return
        try:
            await connection.call("link.sighted", t.TellSightsAtRoom(sights=tuple(word for _, word in told)), CALL_S)
        except ParlerError as error:
            if error.code != "unknown_operation":
                raise
            # A relay of an older version, to which nobody can tell it.
        for key, word in told:
            if self._untold_sights.get(key) is word:
                del self._untold_sights[key]

    async def tell_cursors(self, connection: LinkConnection, standings: Iterable[tuple[AgentId, RoomId]]) -> None:
        """How far agents have read, and how present they are: what the relay does not know yet. `standings` are the
        rooms there that agents of this home are in, or knock at."""
        news: list[t.LinkCursor] = []
        news_to: dict[tuple[RoomId, AgentId], tuple[int, int, int]] = {}
        present: dict[AgentId, tuple[str, t.StatedStatus | msgspec.UnsetType]] = {}
        within_sealed: set[AgentId] = set()
        for agent, room in standings:
            handle = self._desk.rooms.open_actor(room)
            member = None if handle is None else handle.aggregate.state.members.get(agent)
            if handle is None or member is None or not member.present:
                continue
            present[agent] = self._desk.presence.of(agent)[0], self._desk.presence.stated(agent) or msgspec.UNSET
            if handle.aggregate.state.lifecycle.sealed:
                within_sealed.add(agent)
            here = await self._desk.library.numbers_read(room, handle.aggregate.view(agent))
            shifts = shifts_of(handle.aggregate.state.membership, agent)
            read, acknowledged = (number_at_home(shifts, number) for number in here)
            upto = handle.aggregate.state.epoch, read, acknowledged
            if self._told.get((room, agent), (0, 0, 0)) < upto and len(news) < t.MAX_FOLLOWED:
                news.append(t.LinkCursor(room=room, agent=agent, read=read, acknowledged=acknowledged))
                news_to[room, agent] = upto
        # What an agent says that it does is its own words, and one word is told for all of its rooms.
        present |= {agent: (present[agent][0], msgspec.UNSET) for agent in within_sealed}
        moved = {agent: said for agent, said in present.items() if self._told_presence.get(agent) != said}
        told = tuple(
            t.TellPresence(agent=agent, presence=cast(Any, word), stated=stated)
            for agent, (word, stated) in moved.items()
        )
        if news or told:
            told = told[: t.MAX_ATTACHED]
            await connection.call("link.cursors", t.TellCursors(cursors=tuple(news), presence=told), CALL_S)
            self._told |= news_to
            self._told_presence |= {AgentId(each.agent): (each.presence, each.stated) for each in told}
