"""Which era of MCP a connection speaks, the one of handshakes or the one of envelopes: its first request decides.

    state      a whole `initialize`     a request with an envelope   any other request          a notification
    UNDECIDED  -> HANDSHAKE             -> ENVELOPES                 refused                    dropped
    HANDSHAKE  answered again           as without an envelope       answered                   taken
    ENVELOPES  refused by the library   answered                     refused by the library     taken

`server/discover` and `ping` are answered in every state and decide nothing. Not here: what an envelope holds
(`envelope`), which era a host is offered (`session`, by the setting). Above: `session`. Invariant: a decided connection
never changes its era.
"""

from __future__ import annotations

from enum import Enum, auto


class Era(Enum):
    """The state of one connection. The library calls the envelope era by its revision; the setting `[mcp] era` calls it
    modern."""

    UNDECIDED = auto()
    HANDSHAKE = auto()
    ENVELOPES = auto()
