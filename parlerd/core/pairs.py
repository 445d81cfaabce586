"""Which room two agents have for the two of them, and who asked to write to an agent that wants to be asked first.

    rooms   Of each pair one room counts, whoever of the two opened it: the one that this log was told of first, until
            that room is over. On the home where the room lives this decides which of two openings is the pair's; the
            home of an agent keeps here what it knows of pairs elsewhere.
    asks    An agent whose card says so is in no direct room before its person agreed. An answer holds for the asking
            agent, and a refusal also for the other agents of that agent's person, if that is somebody else.

Not here: the rooms themselves, which are ordinary rooms of the kind `dm` with two members, and whether an agent wants
to be asked, which its card says (`directory`). Above: `home`. Below: `identities`. Invariants: a pair has one room at a
time, the same seen from both agents; of each ask at most one answer stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.identities import IdentitiesState
from parlerd.core.model import AgentId, By, Ids, Millis, PrincipalId, RequestId, RoomId, agent_name
from parlerd.core.topics import Topic

MAX_ASKS: Final = 32
"""How many may wait to write to one agent. Each is one person's, so nobody fills the list alone; a person who does not
look at it for long would otherwise find it endless."""

AskState = Literal["pending", "approved", "denied"]


class Ask(msgspec.Struct):
    """Somebody asked to write to an agent of this home. The first message waits in the room of the two. `name` and
    `host` are what the asking agent says of itself."""

    request: RequestId
    agent: AgentId
    """The agent of this home that wants to be asked."""
    asker: AgentId
    principal: PrincipalId
    """The person for whom the asking agent acts."""
    name: str
    host: str
    at: Millis
    state: AskState = "pending"


class PairsState(msgspec.Struct):
    """`rooms` leads from either agent by way of the other to their room. `asks` has them by the agent that is asked and
    the agent that asks."""

    rooms: dict[AgentId, dict[AgentId, RoomId]] = {}
    asks: dict[AgentId, dict[AgentId, Ask]] = {}


class Pairs(Facet[PairsState]):
    """Keeps the rooms of pairs, and who asked."""

    __slots__ = ("_identities",)

    def __init__(self, state: PairsState, identities: IdentitiesState) -> None:
        super().__init__(state)
        self._identities = identities

    def room_of(self, one: AgentId, other: AgentId) -> RoomId | None:
        """The room of two agents, which may be over by now."""
        return self.state.rooms.get(one, {}).get(other)

    def rooms_of(self, agent: AgentId) -> Mapping[AgentId, RoomId]:
        """The agent's rooms with others, by the other agent."""
        return self.state.rooms.get(agent, {})

    def asks(self) -> Iterator[Ask]:
        """Everybody who asked, whatever was answered."""
        return (ask for asks in self.state.asks.values() for ask in asks.values())

    def answer(self, agent: AgentId, asker: AgentId, principal: PrincipalId) -> AskState | None:
        """What the agent's person said to this asker, or `pending`; None for one that never asked."""
        asked = self.state.asks.get(agent, {})
        if asker in asked:
            return asked[asker].state
        own = self._identities.agents[agent].principal if agent in self._identities.agents else None
        others = (ask for ask in asked.values() if ask.principal == principal != own)
        return "denied" if any(ask.state == "denied" for ask in others) else None

    # -- deciding ------------------------------------------------------------------------------------------

    def _pair(self, command: c.PairAgents, by: By, now: Millis, ids: Ids) -> Decision:
        one, other = sorted((command.one, command.other))
        if one == other:
            raise Refused("invalid_param", "A direct message goes to another agent.", param="to")
        known = self.room_of(one, other)
        if known == command.room:
            return Decision(answer="paired")
        if known is not None and known != command.instead:
            return Decision(answer="taken")
        paired = e.AgentsPaired(agents=(one, other), room=command.room)
        shuts = (known,) if known is not None and command.unopened else ()
        return Decision((paired,), authority="home", answer="paired", shuts=shuts)

    def _ask(self, command: c.AskDirect, by: By, now: Millis, ids: Ids) -> Decision:
        if command.agent not in self._identities.agents:
            raise Refused("no_such_agent", "This home has no such agent.")
        known = self.answer(command.agent, command.asker, command.principal)
        if known is not None:
            return Decision(answer=known)
        own = self._identities.agents[command.agent].principal
        waiting = [ask for ask in self.state.asks.get(command.agent, {}).values() if ask.state == "pending"]
        if len(waiting) >= MAX_ASKS:
            raise Refused("too_many_pending", limit=MAX_ASKS)
        if command.principal != own and any(ask.principal == command.principal for ask in waiting):
            raise Refused("too_many_pending", "Another agent of this person waits already.", limit=1)
        asked = e.DirectAsked(
            request=RequestId(ids.new("q")),
            agent=command.agent,
            asker=command.asker,
            principal=command.principal,
            name=agent_name(command.name),
            host=command.host,
        )
        return Decision((asked,), authority="home", answer="pending")

    def _decide(self, command: c.DecideDirect, by: By, now: Millis, ids: Ids) -> Decision:
        ask = next((ask for ask in self.asks() if ask.request == command.request), None)
        if ask is None or self._identities.agents[ask.agent].principal != by.principal:
            raise Refused("no_such_request")
        lifts = ask.state == "denied" and command.admit
        if ask.state != "pending" and not lifts:
            raise Refused("already_decided", f"That request was {ask.state} before.", agent=ask.asker)
        decided = e.DirectDecided(agent=ask.agent, asker=ask.asker, admit=command.admit, proof=command.proof)
        return Decision((decided,), authority="person", answer="approved" if command.admit else "denied")

    # -- becoming ------------------------------------------------------------------------------------------

    def _paired(self, event: e.AgentsPaired, header: e.Header) -> None:
        one, other = event.agents
        self.state.rooms.setdefault(one, {})[other] = event.room
        self.state.rooms.setdefault(other, {})[one] = event.room

    def _asked(self, event: e.DirectAsked, header: e.Header) -> None:
        self.state.asks.setdefault(event.agent, {})[event.asker] = Ask(
            request=event.request,
            agent=event.agent,
            asker=event.asker,
            principal=event.principal,
            name=event.name,
            host=event.host,
            at=header.at,
        )

    def _decided(self, event: e.DirectDecided, header: e.Header) -> None:
        self.state.asks[event.agent][event.asker].state = "approved" if event.admit else "denied"

    def _waits(self, event: e.DirectAsked | e.DirectDecided, header: e.Header) -> tuple[Topic, ...]:
        return (topics.requests(self._identities.agents[event.agent].principal),)

    DECIDES = (decides(c.PairAgents, _pair), decides(c.AskDirect, _ask), decides(c.DecideDirect, _decide))
    APPLIES = (
        applies(e.AgentsPaired, _paired),
        applies(e.DirectAsked, _asked),
        applies(e.DirectDecided, _decided),
    )
    TOUCHES = (touches(e.AgentsPaired, nobody), touches(e.DirectAsked, _waits), touches(e.DirectDecided, _waits))
