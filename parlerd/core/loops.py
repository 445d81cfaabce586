"""How many turns of agents began without a person: the brake on agents that keep waking each other.

    the hour    All agents of this home together begin at most `WAKES_AN_HOUR` turns an hour by themselves. A home has
                one person, so no agent, no room and no person elsewhere causes more than that either.
    a pair      The messages that two agents write to each other in one conversation begin at most `WAKES_OF_PAIR` turns
                of the two, or as many as the person set for the room. After that such a message still arrives, and
                wakes neither of them until their person lets them go on or sets a higher number.

This home sees the turns of its own agents alone. A turn that an agent of another home causes therefore counts for two:
the other turn is the one in which that agent wrote. So two agents at two homes stop where two at one home would.

Not here: which messages begin a turn (`attention`, `parlerd.engine.waking`); what an agent asks for itself is always
answered and is never counted. Above: `home`. Invariants: everything follows from this home's log, so that a restart
gives no turn back; whoever begins a new conversation with each message, to be counted anew, still meets the hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.decision import Decision
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.model import AgentId, By, Ids, Millis, RoomId
from parlerd.core.topics import Topic

WAKES_AN_HOUR: Final = 60
"""Source: security spec E20."""
HOUR_MS: Final = Millis(3_600_000)
WAKES_OF_PAIR: Final = 20
"""Turns of two agents in one conversation, where the person set no number for the room. Source: rooms spec, Loops."""
MAX_CONVERSATIONS: Final = 64
"""Conversations of a room whose counts are kept; the one in which no turn began for the longest time is forgotten
first. To have one forgotten takes more turns than an hour has."""


class Spent(NamedTuple):
    """Two agents whose messages in one conversation began so many turns."""

    chain: str
    agents: tuple[AgentId, AgentId]
    turns: int


class LoopsState(msgspec.Struct):
    """What the log says of turns. Old ones are dropped as newer ones begin."""

    begun: list[Millis] = []
    """When turns began in the last hour, by the wall clock."""
    rooms: dict[RoomId, dict[str, dict[AgentId, dict[AgentId, int]]]] = {}
    """Turns that began, by room, by conversation, and by the lesser and the greater id of the two agents. Of the
    conversations of a room the one stands last in which a turn began last."""
    most: dict[RoomId, int] = {}
    """How many turns two agents may begin in each conversation of a room, where the person set a number."""


class Loops(Facet[LoopsState]):
    """Counts turns, and says when no more begin."""

    __slots__ = ()

    def free_in(self, now: Millis) -> Millis:
        """How long until the hour has room for one more turn; 0 when it has now. The wall clock may have been set back,
        so a turn counts within an hour in either direction."""
        recent = [at for at in self.state.begun if abs(now - at) < HOUR_MS]
        return Millis(0) if len(recent) < WAKES_AN_HOUR else Millis(min(recent) + HOUR_MS - now)

    def turns(self, room: RoomId, chain: str, one: AgentId, other: AgentId) -> int:
        """How many turns of the two began in this conversation, since their person last let them go on."""
        lesser, greater = sorted((one, other))
        return self.state.rooms.get(room, {}).get(chain, {}).get(lesser, {}).get(greater, 0)

    def of_room(self, room: RoomId) -> Iterator[Spent]:
        """Every count in a room."""
        for chain, pairs in self.state.rooms.get(room, {}).items():
            for lesser, others in pairs.items():
                for greater, turns in others.items():
                    yield Spent(chain, (lesser, greater), turns)

    def most(self, room: RoomId) -> int:
        """How many turns of two agents may begin in each conversation of a room; 0 where their messages begin none."""
        return self.state.most.get(room, WAKES_OF_PAIR)

    def is_set(self, room: RoomId) -> bool:
        """Whether the person set that number."""
        return room in self.state.most

    def is_spent(self, room: RoomId, chain: str, one: AgentId, other: AgentId) -> bool:
        """Whether a message of one of the two in this conversation wakes the other no more."""
        return self.turns(room, chain, one, other) >= self.most(room)

    def rooms(self) -> list[RoomId]:
        """The rooms in which turns began."""
        return list(self.state.rooms)

    # -- deciding ------------------------------------------------------------------------------------------

    def _wake(self, command: c.Wake, by: By, now: Millis, ids: Ids) -> Decision:
        if self.free_in(command.begun):
            return Decision(answer="paused")
        # Another turn of the same two may have been decided since the caller looked.
        causes = tuple(
            cause for cause in command.causes if not self.is_spent(cause.room, cause.chain, cause.author, command.agent)
        )
        if not causes and not command.asked:
            return Decision(answer="held")
        woken = e.AgentWoken(agent=command.agent, begun=command.begun, causes=causes)
        return Decision((woken,), authority="home", answer="woken")

    def _continue(self, command: c.ContinueWakes, by: By, now: Millis, ids: Ids) -> Decision:
        here = self.state.rooms.get(command.room, {})
        if command.chain not in here if command.chain else not here and not self.state.begun:
            return Decision(answer="nothing")
        continued = e.WakesContinued(room=command.room, chain=command.chain)
        return Decision((continued,), authority="person", answer="continued")

    def _bound(self, command: c.BoundWakes, by: By, now: Millis, ids: Ids) -> Decision:
        if command.most == self.state.most.get(command.room):
            return Decision()
        return Decision((e.WakesBounded(room=command.room, most=command.most),), authority="person")

    # -- becoming ------------------------------------------------------------------------------------------

    def _woken(self, event: e.AgentWoken, header: e.Header) -> None:
        state = self.state
        recent = [at for at in state.begun if abs(event.begun - at) < HOUR_MS]
        state.begun = [*recent, event.begun][-WAKES_AN_HOUR:]
        for cause in event.causes:
            conversations = state.rooms.setdefault(cause.room, {})
            pairs = conversations.pop(cause.chain, {})
            conversations[cause.chain] = pairs
            lesser, greater = sorted((cause.author, event.agent))
            others = pairs.setdefault(lesser, {})
            others[greater] = others.get(greater, 0) + cause.turns
            if len(conversations) > MAX_CONVERSATIONS:
                del conversations[next(iter(conversations))]

    def _continued(self, event: e.WakesContinued, header: e.Header) -> None:
        if event.chain:
            self.state.rooms.get(event.room, {}).pop(event.chain, None)
        else:
            self.state.begun = []
            self.state.rooms.pop(event.room, None)

    def _bounded(self, event: e.WakesBounded, header: e.Header) -> None:
        if event.most is None:
            self.state.most.pop(event.room, None)
        else:
            self.state.most[event.room] = event.most

    def _deleted(self, event: e.RoomDeleted, header: e.Header) -> None:
        self.state.rooms.pop(event.room, None)
        self.state.most.pop(event.room, None)

    def _goes_on(self, event: e.WakesContinued | e.WakesBounded, header: e.Header) -> tuple[Topic, ...]:
        return (topics.wakes(),)

    DECIDES = (decides(c.Wake, _wake), decides(c.ContinueWakes, _continue), decides(c.BoundWakes, _bound))
    APPLIES = (
        applies(e.AgentWoken, _woken),
        applies(e.WakesContinued, _continued),
        applies(e.WakesBounded, _bounded),
        applies(e.RoomDeleted, _deleted),
    )
    TOUCHES = (
        touches(e.AgentWoken, nobody),
        touches(e.WakesContinued, _goes_on),
        touches(e.WakesBounded, _goes_on),
    )
