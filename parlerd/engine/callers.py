"""Who is on the other end of a connection, as the engine sees it. Doors build one per connection.

A caller is not an identity: the agent is leased at the first call that needs one, because a host that only checks
health must never appear as an agent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from parlerd.core.model import AgentId, Position, RoomId, Via


@dataclass(frozen=True, slots=True)
class PeerProcess:
    """What the kernel says of the process on the other side. `agent_host` names the agent host found among its
    ancestors or in its environment, or is empty; `terminal` says whether it has a controlling terminal."""

    pid: int = 0
    uid: int = -1
    program: str = ""
    agent_host: str = ""
    terminal: bool = False


@dataclass(slots=True, eq=False)
class Caller:
    """One connection. `session` is random per connection; `window` is the shim's id and survives reconnects.

    `shown` is the MCP page that the next call of this window acknowledges (decision 14). `conversation` is the host's
    own id of what goes on in it, and `parents` the processes it says it descends from: both only tell which window a
    hook belongs to. `told` is the last word about hosts' files that this window had. `fresh` holds idempotency keys
    that were made for this window's calls under way and that nobody has used: no store is asked whether it knows them.
    """

    session: str
    via: Via
    host: str = ""
    window: str = ""
    workspace: str = ""
    as_name: str = ""
    conversation: str = ""
    parents: frozenset[int] = frozenset()
    peer: PeerProcess = field(default_factory=PeerProcess)
    agent: AgentId | None = None
    shown: dict[RoomId, Position] = field(default_factory=dict)
    waiting: int = 0
    last_act: int = 0
    told: str = ""
    fresh: set[str] = field(default_factory=set)
