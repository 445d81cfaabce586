"""The agents of one home: their names, the places and conversations that lead to them, and until when each may act for
its person.

Not here: leases, which are no facts (`parlerd.engine.leases`). This module knows which agent a place or a conversation
leads to, and not whether a window holds that agent now. Above: `home`. Invariant: a name, a place and a conversation
each lead to one agent, for good.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.model import RESERVED, AgentId, By, Ids, Millis, PrincipalId, agent_name, first_free


class AgentRecord(msgspec.Struct):
    """An agent whose key this home holds. (`host`, `workspace`, `slot`) is the place that it was made for, and
    `delegated_until` is when the delegation by its person ends."""

    id: AgentId
    principal: PrincipalId
    name: str
    host: str
    workspace: str
    slot: int
    created_at: Millis
    delegated_until: Millis = Millis(0)


class IdentitiesState(msgspec.Struct):
    """`conversations` leads from a `conversation_key` to the agent that has that conversation."""

    agents: dict[AgentId, AgentRecord] = {}
    conversations: dict[str, AgentId] = {}


def conversation_key(host: str, conversation: str, place: int) -> str:
    """The text by which a conversation is found. A host's name holds no blank, so two conversations never share one."""
    return f"{host} {place} {conversation}"


class Identities(Facet[IdentitiesState]):
    """Makes agents, binds conversations to them and renews their delegations."""

    __slots__ = ("_bound", "_names", "_seats")

    def __init__(self, state: IdentitiesState) -> None:
        super().__init__(state)
        # Three indexes over the state. They are made from it, so a snapshot does not hold them: agents by name, agents
        # by (host, workspace, slot), and the agents that some conversation is bound to.
        self._names: dict[str, AgentId] = {}
        self._seats: dict[tuple[str, str, int], AgentId] = {}
        self._bound = set(state.conversations.values())
        for record in state.agents.values():
            self._index(record)

    def by_name(self, name: str) -> AgentRecord | None:
        """The agent of that name; names are unique in a home."""
        return self._record(self._names.get(name))

    def by_seat(self, host: str, workspace: str, slot: int) -> AgentRecord | None:
        """The agent that was made for (host, workspace, slot), if one was."""
        return self._record(self._seats.get((host, workspace, slot)))

    def by_conversation(self, host: str, conversation: str, place: int) -> AgentRecord | None:
        """The agent of a conversation: at place 0 the first window that has the conversation open, from place 1 on the
        windows beside it."""
        return self._record(self.state.conversations.get(conversation_key(host, conversation, place)))

    def is_bound(self, agent: AgentId) -> bool:
        """Whether some conversation leads to this agent."""
        return agent in self._bound

    def free_name(self, wanted: str) -> str:
        """`wanted`, or `wanted-2` and so on when it is taken or a reserved word."""
        taken: Mapping[str, AgentId] | set[str] = self._names
        return first_free(wanted, {*taken, wanted} if wanted.casefold() in RESERVED else taken)

    def _record(self, found: AgentId | None) -> AgentRecord | None:
        return None if found is None else self.state.agents[found]

    def _index(self, record: AgentRecord) -> None:
        self._names[record.name] = record.id
        self._seats[record.host, record.workspace, record.slot] = record.id

    # -- deciding ------------------------------------------------------------------------------------------

    def _create(self, command: c.CreateAgent, by: By, now: Millis, ids: Ids) -> Decision:
        if command.agent in self.state.agents or command.name in self._names:
            raise Refused("ambiguous_name", f"The name {command.name!r} is taken in this home.")
        created = e.AgentCreated(
            agent=command.agent,
            principal=command.principal,
            name=agent_name(command.name),
            host=command.host,
            workspace=command.workspace,
            slot=command.slot,
        )
        return Decision((created,), authority="home")

    def _bind(self, command: c.BindConversation, by: By, now: Millis, ids: Ids) -> Decision:
        if command.agent not in self.state.agents:
            raise Refused("no_such_agent", "This home has no such agent.")
        if self.by_conversation(command.host, command.conversation, command.place) is not None:
            raise Refused("ambiguous_name", "That conversation has an agent.")
        bound = e.ConversationBound(
            agent=command.agent, host=command.host, conversation=command.conversation, place=command.place
        )
        return Decision((bound,), authority="home")

    def _renew(self, command: c.RenewDelegation, by: By, now: Millis, ids: Ids) -> Decision:
        known = self.state.agents.get(command.agent)
        if known is None or known.principal != command.principal:
            raise Refused("no_such_agent", "This home holds no key of that agent for that person.")
        issued = e.DelegationIssued(agent=command.agent, principal=command.principal, expires_at=command.expires_at)
        return Decision((issued,), authority="person")

    # -- becoming ------------------------------------------------------------------------------------------

    def _created(self, event: e.AgentCreated, header: e.Header) -> None:
        record = AgentRecord(
            id=event.agent,
            principal=event.principal,
            name=event.name,
            host=event.host,
            workspace=event.workspace,
            slot=event.slot,
            created_at=header.at,
        )
        self.state.agents[event.agent] = record
        self._index(record)

    def _conversation_bound(self, event: e.ConversationBound, header: e.Header) -> None:
        self.state.conversations[conversation_key(event.host, event.conversation, event.place)] = event.agent
        self._bound.add(event.agent)

    def _renewed(self, event: e.DelegationIssued, header: e.Header) -> None:
        self.state.agents[event.agent].delegated_until = event.expires_at

    DECIDES = (
        decides(c.CreateAgent, _create),
        decides(c.BindConversation, _bind),
        decides(c.RenewDelegation, _renew),
    )
    APPLIES = (
        applies(e.AgentCreated, _created),
        applies(e.ConversationBound, _conversation_bound),
        applies(e.DelegationIssued, _renewed),
    )
    TOUCHES = (
        touches(e.AgentCreated, nobody),
        touches(e.ConversationBound, nobody),
        touches(e.DelegationIssued, nobody),
    )
