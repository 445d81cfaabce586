"""Who is on the other end of a connection, as the engine sees it. Doors build one per connection; the MCP face builds
one more for each further conversation that a host keeps in one window.

A caller is not an identity: the agent is leased at the first call that needs one, because a host that only checks
health must never appear as an agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol

from parlerd.core.model import AgentId, Position, RequestId, RoomId, Via
from parlerd.engine.authority import Authority
from parlerd.operations import types as t


@dataclass(frozen=True, slots=True)
class PeerProcess:
    """What the kernel says of the process on the other side. `agent_host` names the agent host found among its
    ancestors or in its environment, or is empty; `terminal` says whether it has a controlling terminal; `editor` names
    an editor with an agent of its own, in whose terminal it may have been typed. `group` is the session of processes
    that it runs in, which the commands of one shell share; 0 when it cannot be seen."""

    pid: int = 0
    uid: int = -1
    program: str = ""
    agent_host: str = ""
    terminal: bool = False
    group: int = 0
    editor: str = ""


class Fitting(Protocol):
    """How much of a page a surface can show. The engine asks before it counts anything as shown."""

    def front(self, messages: Sequence[t.Message], you: str) -> int:
        """How many messages from the front are shown together; at least one of those there are."""
        ...

    def newest(self, recap: Sequence[t.Message], tail: Sequence[t.Message], you: str, *, whole: bool) -> int:
        """How many of the newest, from the end of `tail`, are shown beside the recap; 0: the recap stands alone.
        `whole` says that nothing is missing between the two."""
        ...


News = Literal["unread", "knock", "people", "waits", "answer"]
"""Messages that wait; somebody knocks; somebody came, went or was declined; one's own knock waits; its answer."""


class Said(NamedTuple):
    """What an answer says by itself, so that no notice says it again: these kinds of news, of one room or of all."""

    kinds: frozenset[News] = frozenset()
    room: str = ""

    def covers(self, kind: News, room: str) -> bool:
        """Whether the answer said such news of this room."""
        return kind in self.kinds and self.room in ("", room)


NOTHING: Final = Said()


@dataclass(slots=True)
class Told:
    """What the notices of one window said already. `unread` holds up to where in each room; `members` and `requests`
    who was in and who knocked then; `doors` what was said of each room that the agent asked to come into; `hosts` the
    last word about agent hosts' files. `looked` is how far each room had come when it was looked at last. `begun` is
    false until the first notice took stock."""

    begun: bool = False
    unread: dict[RoomId, Position] = field(default_factory=dict)
    members: dict[RoomId, frozenset[AgentId]] = field(default_factory=dict)
    requests: set[RequestId] = field(default_factory=set)
    doors: dict[RoomId, str] = field(default_factory=dict)
    hosts: str = ""
    looked: dict[RoomId, Position] = field(default_factory=dict)

    def copy(self) -> Told:
        """What was said up to now, for a look ahead or a way back."""
        return Told(
            begun=self.begun,
            unread=dict(self.unread),
            members=dict(self.members),
            requests=set(self.requests),
            doors=dict(self.doors),
            hosts=self.hosts,
            looked=dict(self.looked),
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """What a caller is said to be. A part of it becomes known only in the course of a conversation, as a window's host
    does; then the caller gets other facts. Those that say who it is (host, workspace,
    name, conversation) change only before its first call that needs an agent."""

    session: str
    """Random, one for each connection."""
    via: Via
    """The door that it came through: recorded with what it does, and no reason for anything."""
    authority: Authority
    """What it may do."""
    host: str = ""
    """The agent host that it is of, as it says."""
    window: str = ""
    """The shim's id, which survives reconnects; empty for what is no window."""
    workspace: str = ""
    """The directory that it stands in."""
    as_name: str = ""
    """The agent's name that it was given."""
    conversation: str = ""
    """The host's own id of what goes on in it, where the host gives one that can be relied on."""
    is_exact: bool = False
    """Whether each call names its conversation."""
    continues: bool = False
    """Whether the host goes on with its newest conversation and gives no id of it."""
    parents: frozenset[int] = frozenset()
    """The processes that it descends from, as the kernel says where that can be seen. They only tell which window a
    hook belongs to."""
    below: str = ""
    """The agent host above it, as the kernel says; for hooks."""
    peer: PeerProcess = field(default_factory=PeerProcess)
    """The process on the other side."""


@dataclass(slots=True, eq=False)
class Caller:
    """One connection, or one conversation of it: its facts, and what changes while it is there.

    `agent` is who this acts as, once that was asked for; from the beginning where the authority names one.

    `shown` holds, for each room, up to where the last page went: the next call of this window acknowledges it (decision
    14). `fits` says how much of a page can be shown; without one everything can. `waiting` counts the calls that wait
    now, `last_act` is when it last called, in epoch milliseconds. `told` is what its notices said. `fresh` holds
    idempotency keys that were made for its calls under way and that nobody has used: no store is asked whether it knows
    them. `siblings` are the callers of the further conversations of the same window.
    """

    facts: Facts
    agent: AgentId | None = None
    shown: dict[RoomId, Position] = field(default_factory=dict)
    fits: Fitting | None = None
    waiting: int = 0
    last_act: int = 0
    told: Told = field(default_factory=Told)
    fresh: set[str] = field(default_factory=set)
    siblings: list[Caller] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.agent = self.agent or self.facts.authority.agent
