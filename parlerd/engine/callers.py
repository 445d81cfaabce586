"""Who is on the other end of a connection, as the engine sees it. Doors build one per connection; the MCP face builds
one more for each further conversation that a host keeps in one window.

A caller is not an identity: the agent is leased at the first call that needs one, because a host that only checks
health must never appear as an agent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from parlerd.core.model import AgentId, Via
from parlerd.engine.readers import ReaderSession


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


@dataclass(slots=True, eq=False)
class Caller:
    """One connection, or one conversation of it.

    `session` is random per connection; `window` is the shim's id and survives reconnects. `conversation` is the host's
    own id of what goes on in it, where the host gives one that can be relied on; `is_exact` says that each call names
    it. `continues` says that the host goes on with its newest conversation and gives no id of it. `parents` are the
    processes it descends from, as the kernel says where that can be seen, and `below` the agent host above it: they
    only tell which window a hook belongs to. `agent` is who this acts as, once that was asked for.

    `reader` is its session as a reader: what it was shown, and what acknowledges that. `waiting` counts the calls that
    wait now, `last_act` is when it last called, in epoch milliseconds. `siblings` are the callers of the further
    conversations of the same window.
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
    reader: ReaderSession = field(default_factory=ReaderSession)
    waiting: int = 0
    last_act: int = 0
    siblings: list[Caller] = field(default_factory=list)
