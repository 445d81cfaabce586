"""What an agent host does with our answers, as data: how much of one its model sees, how long it waits for one, and how
its conversations and windows are told apart.

Not here: where a host keeps its settings (`configs.hosts`, whose files give these values, each measured with the real
program or marked as read there), and what follows from them (`mcp_server`, `parlerd.engine.seats`). Plain data without
imports, because the command line, the daemon and the MCP face all read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Unit = Literal["bytes", "characters", "json"]
"""What a host counts of a text block: its UTF-8 bytes, its characters, or the characters of its JSON form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTraits:
    """How one agent host behaves beside an MCP server. The defaults are those of a host that nobody has measured.

    `page` is how much of a result arrives whole, in `unit`; `error` the same for an error result, 0 when it is no less.
    `lines` is the most lines of a result, 0 when they are not counted. `wait_s` is the longest wait, in seconds, that
    the host is sure to sit out without hearing of progress; where `progress` is true, a progress notification makes it
    wait on. `cancels_answered` says that the host also cancels calls that succeeded, so that a cancellation after an
    answer says nothing. `clients` are the names that the host gives in `clientInfo`; one that ends in `*` is a prefix.
    `conversation_env` is the environment variable, and `conversation_meta` the field of a call's `_meta`, that names
    the conversation; a host has at most one of them. `throwaway_with` are groups of options: of a program that was
    started with one option of each group, the variable names no conversation. `shares_servers` says that a second
    window may be served by a process with the first one's environment and directory.
    """

    page: int = 7_500
    unit: Unit = "bytes"
    error: int = 0
    lines: int = 0
    wait_s: int = 50
    progress: bool = False
    cancels_answered: bool = False
    clients: tuple[str, ...] = ()
    conversation_env: str = ""
    conversation_meta: str = ""
    throwaway_with: tuple[tuple[str, ...], ...] = ()
    shares_servers: bool = False


UNMEASURED: Final = HostTraits()
"""A host that Parler does not know."""
