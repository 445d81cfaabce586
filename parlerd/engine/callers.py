"""Who is on the other end of a connection, as the engine sees it. Doors build one per connection; the MCP face builds
one more for each further conversation that a host keeps in one window.

A caller is not an identity: the agent is leased at the first call that needs one, because a host that only checks
health must never appear as an agent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from parlerd.core.model import AgentId, Via
from parlerd.engine.authority import Authority
from parlerd.engine.handed import Handed
from parlerd.engine.readers import ReaderSession

ProcessId = tuple[int, int]
"""A process for good: its number, and when it began, in whatever unit the system counts. A number alone is given to
another process later."""


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


@dataclass(frozen=True, slots=True)
class Facts:
    """What a caller is said to be. A part of it becomes known only in the course of a conversation, as a window's host
    does; then the caller gets other facts. Those that say who it is (host, workspace, name, conversation) change only
    before its first call that needs an agent."""

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
    channel: bytes = b""
    """The name of the link, which each agent that is attached there signed; empty for what is no link."""
    peer: PeerProcess = field(default_factory=PeerProcess)
    """The process on the other side."""


@dataclass(slots=True, eq=False)
class Caller:
    """One connection, or one conversation of it: its facts, and what changes while it is there."""

    facts: Facts
    agent: AgentId | None = None
    """Who it acts as, once that was asked for; from the beginning where the authority names an agent."""
    reader: ReaderSession = field(default_factory=ReaderSession)
    """Its session as a reader: what it was shown, and what acknowledges that."""
    waiting: int = 0
    """How many of its calls wait now."""
    last_act: int = 0
    """When it last called, in epoch milliseconds."""
    handed: Handed = field(default_factory=Handed)
    """The files that it opened and handed over, at a door that takes files."""
    siblings: list[Caller] = field(default_factory=list)
    """The callers of the further conversations of the same window."""

    def __post_init__(self) -> None:
        self.agent = self.agent or self.facts.authority.agent
