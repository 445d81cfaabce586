"""Who is on the other end of a connection, as the engine sees it. Doors build one per connection; the MCP face builds
one more for each further conversation that a host keeps in one window.

A caller is not an identity: the agent is leased at the first call that needs one, because a host that only checks
health must never appear as an agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from parlerd.core.model import AgentId, Position, RequestId, RoomId, Via
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


@dataclass(slots=True, eq=False)
class Caller:
    """One connection, or one conversation of it.

    `session` is random per connection; `window` is the shim's id and survives reconnects. `conversation` is the host's
    own id of what goes on in it, where the host gives one that can be relied on; `is_exact` says that each call names
    it. `continues` says that the host goes on with its newest conversation and gives no id of it. `parents` are the
    processes it descends from, as the kernel says where that can be seen, and `below` the agent host above it: they
    only tell which window a hook belongs to. `agent` is who this acts as, once that was asked for.

    `shown` holds, for each room, up to where the last page went: the next call of this window acknowledges it (decision
    14). `fits` says how much of a page can be shown; without one everything can. `waiting` counts the calls that wait
    now, `last_act` is when it last called, in epoch milliseconds. `told` is what its notices said. `fresh` holds
    idempotency keys that were made for its calls under way and that nobody has used: no store is asked whether it knows
    them. `siblings` are the callers of the further conversations of the same window.
    """

    session: str
    via: Via
    host: str = ""
    window: str = ""
    workspace: str = ""
    as_name: str = ""
    conversation: str = ""
    is_exact: bool = False
    continues: bool = False
    parents: frozenset[int] = frozenset()
    below: str = ""
    peer: PeerProcess = field(default_factory=PeerProcess)
    agent: AgentId | None = None
    shown: dict[RoomId, Position] = field(default_factory=dict)
    fits: Fitting | None = None
    waiting: int = 0
    last_act: int = 0
    told: Told = field(default_factory=Told)
    fresh: set[str] = field(default_factory=set)
    siblings: list[Caller] = field(default_factory=list)
