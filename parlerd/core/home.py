"""The home room: the log of one home's own facts, by the same decide / apply as any room.

The state holds the home's agents and their names, which agent a conversation of a host or a (host, workspace, slot)
leases, what rooms an owner has named, and each agent's active session. Nothing here is ever shown as a room. Leases
themselves are not facts (`parlerd.engine.seats`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision, replayed
from parlerd.core.errors import Refused
from parlerd.core.model import (
    RESERVED,
    AgentId,
    By,
    Ids,
    Millis,
    Position,
    PrincipalId,
    RoomId,
    agent_name,
    first_free,
)

FOLD_VERSION: Final = 2


class AgentRecord(msgspec.Struct):
    """An agent whose key this home holds. `delegated_until` is when its person's delegation ends."""

    id: AgentId
    principal: PrincipalId
    name: str
    host: str
    workspace: str
    slot: int
    created_at: Millis
    delegated_until: Millis = Millis(0)


class HomeState(msgspec.Struct):
    """Everything folded from the home room's log."""

    position: Position = Position(0)
    last_at: Millis = Millis(0)
    agents: dict[AgentId, AgentRecord] = {}
    active: dict[AgentId, RoomId] = {}
    room_names: dict[AgentId, dict[str, RoomId]] = {}
    conversations: dict[str, AgentId] = {}
    """`conversation_key` to the agent that has it."""


def conversation_key(host: str, conversation: str, place: int) -> str:
    """What a conversation is found by. A host's name has no blank."""
    return f"{host} {place} {conversation}"


class HomeRoom:
    """The home room's rules over its folded state."""

    fold_version: int = FOLD_VERSION

    def __init__(self, state: HomeState | None = None) -> None:
        self.state = state or HomeState()
        self._names: dict[str, AgentId] = {}
        self._seats: dict[tuple[str, str, int], AgentId] = {}
        self._bound = set(self.state.conversations.values())
        for record in self.state.agents.values():
            self._index(record)

    @property
    def position(self) -> Position:
        return self.state.position

    @property
    def last_at(self) -> Millis:
        return self.state.last_at

    def by_name(self, name: str) -> AgentRecord | None:
        """The agent of that name; names are unique in a home."""
        found = self._names.get(name)
        return None if found is None else self.state.agents[found]

    def by_seat(self, host: str, workspace: str, slot: int) -> AgentRecord | None:
        """The agent that (host, workspace, slot) leases, if one was made."""
        found = self._seats.get((host, workspace, slot))
        return None if found is None else self.state.agents[found]

    def by_conversation(self, host: str, conversation: str, place: int) -> AgentRecord | None:
        """The agent that has a conversation, or (from place 1 on) that has it open beside another."""
        found = self.state.conversations.get(conversation_key(host, conversation, place))
        return None if found is None else self.state.agents[found]

    def is_bound(self, agent: AgentId) -> bool:
        """Whether a conversation has this agent."""
        return agent in self._bound

    def free_name(self, wanted: str) -> str:
        """`wanted`, or `wanted-2` and so on when it is taken or a reserved word."""
        return first_free(wanted, {*self._names, wanted} if wanted.casefold() in RESERVED else self._names)

    def snapshot(self) -> bytes:
        """The folded state, to be kept with `fold_version` and `position`."""
        return msgspec.msgpack.encode(self.state)

    @classmethod
    def restore(cls, data: bytes) -> HomeRoom:
        """The home that `snapshot` kept. Raises `msgspec.DecodeError` for anything else."""
        return cls(msgspec.msgpack.decode(data, type=HomeState))

    def decide(self, command: c.Command, *, by: By, now: Millis, ids: Ids) -> Decision:
        """The events that carry out `command`. Raises `Refused` and changes nothing."""
        match command:
            case c.CreateAgent():
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
            case c.BindConversation():
                if command.agent not in self.state.agents:
                    raise Refused("no_such_agent", "This home has no such agent.")
                if self.by_conversation(command.host, command.conversation, command.place) is not None:
                    raise Refused("ambiguous_name", "That conversation has an agent.")
                bound = e.ConversationBound(
                    agent=command.agent, host=command.host, conversation=command.conversation, place=command.place
                )
                return Decision((bound,), authority="home")
            case c.RenewDelegation():
                known = self.state.agents.get(command.agent)
                if known is None or known.principal != command.principal:
                    raise Refused("no_such_agent", "This home holds no key of that agent for that person.")
                issued = e.DelegationIssued(
                    agent=command.agent, principal=command.principal, expires_at=command.expires_at
                )
                return Decision((issued,), authority="person")
            case c.NameRoom():
                return replayed(command) or self._name_room(command, ids)
            case c.Activate():
                if self.state.active.get(command.agent) == command.room:
                    return Decision()
                return Decision((e.SessionActivated(agent=command.agent, room=command.room),), authority="home")
        raise Refused("unknown_operation")

    def _name_room(self, command: c.NameRoom, ids: Ids) -> Decision:
        name = first_free(command.wanted, self.state.room_names.get(command.owner, {}))
        room = RoomId(ids.new("r"))
        return Decision(
            (
                e.RoomNamed(owner=command.owner, room=room, name=name),
                e.SessionActivated(agent=command.owner, room=room),
            ),
            authority="home",
        )

    def apply(self, header: e.Header) -> None:
        """Take a committed fact in, in order."""
        state = self.state
        state.position, state.last_at = header.position, header.at
        match header.event:
            case e.AgentCreated() as event:
                record = AgentRecord(
                    id=event.agent,
                    principal=event.principal,
                    name=event.name,
                    host=event.host,
                    workspace=event.workspace,
                    slot=event.slot,
                    created_at=header.at,
                )
                state.agents[event.agent] = record
                self._index(record)
            case e.ConversationBound() as event:
                key = conversation_key(event.host, event.conversation, event.place)
                state.conversations[key] = event.agent
                self._bound.add(event.agent)
            case e.DelegationIssued() as event:
                state.agents[event.agent].delegated_until = event.expires_at
            case e.RoomNamed() as event:
                state.room_names.setdefault(event.owner, {})[event.name] = event.room
            case e.SessionActivated() as event:
                if event.room is None:
                    state.active.pop(event.agent, None)
                else:
                    state.active[event.agent] = event.room

    def _index(self, record: AgentRecord) -> None:
        self._names[record.name] = record.id
        self._seats[record.host, record.workspace, record.slot] = record.id
