"""What a request of the modern era (revision 2026-07-28) carries in its `_meta`: the version it speaks, and who asks.

That era has no handshake: each request brings its own envelope. Not here: what the library makes of it (`modern`,
`sdk`), and which era a host is offered (`session`, by the setting). Above: `session`, `static`. Invariant: an envelope
is believed for naming things only; who a window is hangs on its connection.
"""

from __future__ import annotations

from typing import Any, Final

VERSION: Final = "2026-07-28"
"""The one revision of that era. A test compares the SDK's."""
_PREFIX: Final = "io.modelcontextprotocol/"
SERVER_INFO: Final = _PREFIX + "serverInfo"


def _of(params: object) -> dict[str, Any]:
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}


def is_claimed(params: object) -> bool:
    """Whether a request says that it is of the modern era, well-formed or not."""
    return _PREFIX + "protocolVersion" in _of(params)


def version(params: object) -> object:
    """The version that a request names, whatever it is; None when it names none."""
    return _of(params).get(_PREFIX + "protocolVersion")


def is_whole(params: object) -> bool:
    """Whether the envelope is one that can be answered without asking the library what is wrong with it."""
    return version(params) == VERSION and isinstance(_of(params).get(_PREFIX + "clientCapabilities"), dict)


def capabilities(params: object) -> object:
    """What the client says it can do, unchecked."""
    return _of(params).get(_PREFIX + "clientCapabilities")


def client_info(params: object) -> object:
    """What the client says it is, unchecked."""
    return _of(params).get(_PREFIX + "clientInfo")
