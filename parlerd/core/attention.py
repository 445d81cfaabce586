"""How much may begin a turn of each agent, as it or its person says: in general, and in single rooms.

Not here: beginning turns (`parlerd.engine.waking`). Nothing here keeps a message from anybody: who asks for what is new
is always answered. Above: `home`. Invariant: an agent of whom nothing was said is `open`, in every room.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.identities import IdentitiesState
from parlerd.core.model import AgentId, Attention, By, Ids, Millis, RoomAttention, RoomId

Loudness = Literal["all", "directed", "handoffs", "nothing"]
"""What begins a turn: every message, what is for the agent, hand-offs to it, or nothing."""


class AttentionState(msgspec.Struct):
    """What was said and is not the default."""

    agents: dict[AgentId, Attention] = {}
    rooms: dict[AgentId, dict[RoomId, RoomAttention]] = {}


class AttentionRules(Facet[AttentionState]):
    """Keeps what was said."""

    __slots__ = ("_identities",)

    def __init__(self, state: AttentionState, identities: IdentitiesState) -> None:
        super().__init__(state)
        self._identities = identities

    def of(self, agent: AgentId) -> Attention:
        return self.state.agents.get(agent, "open")

    def rooms_of(self, agent: AgentId) -> dict[RoomId, RoomAttention]:
        """The rooms in which something else holds than elsewhere."""
        return dict(self.state.rooms.get(agent, {}))

    def loudness(self, agent: AgentId, room: RoomId) -> Loudness:
        """What begins a turn of an agent in a room."""
        here, mode = self.state.rooms.get(agent, {}).get(room, "inherit"), self.of(agent)
        if here == "muted":
            return "nothing"
        if mode == "focus":
            return "handoffs"
        return "directed" if mode == "dnd" or here == "quiet" else "all"

    def _set(self, command: c.SetAttention, by: By, now: Millis, ids: Ids) -> Decision:
        if command.agent not in self._identities.agents:
            raise Refused("no_such_agent", "This home has no such agent.")
        if command.room is None:
            is_so = self.of(command.agent) == command.mode
            said = e.AttentionSet(agent=command.agent, mode=command.mode)
        else:
            is_so = self.rooms_of(command.agent).get(command.room, "inherit") == command.here
            said = e.AttentionSet(agent=command.agent, room=command.room, here=command.here)
        return Decision() if is_so else Decision((said,), authority="home")

    def _was_set(self, event: e.AttentionSet, header: e.Header) -> None:
        if event.room is None:
            self.state.agents.pop(event.agent, None)
            if event.mode != "open":
                self.state.agents[event.agent] = event.mode
            return
        rooms = self.state.rooms.setdefault(event.agent, {})
        rooms.pop(event.room, None)
        if event.here != "inherit":
            rooms[event.room] = event.here
        if not rooms:
            del self.state.rooms[event.agent]

    def _deleted(self, event: e.RoomDeleted, header: e.Header) -> None:
        for agent in [agent for agent, rooms in self.state.rooms.items() if event.room in rooms]:
            del self.state.rooms[agent][event.room]
            if not self.state.rooms[agent]:
                del self.state.rooms[agent]

    DECIDES = (decides(c.SetAttention, _set),)
    APPLIES = (applies(e.AttentionSet, _was_set), applies(e.RoomDeleted, _deleted))
    TOUCHES = (touches(e.AttentionSet, nobody),)
