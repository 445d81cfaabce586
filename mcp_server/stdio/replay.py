"""What the host told the daemon once and the next daemon must hear again: the handshake, subscriptions, streams.

Not here: sending it (`pipe`). Invariant: only what the host itself said is kept, and no more of it than the bounds here
allow.
"""

from mcp_server.stdio.requests import Request
from mcp_server.stdio.table import is_modern

MYPY = False
if MYPY:
    from typing import Any
else:
    Any = object

LISTEN = "subscriptions/listen"
MAX_STREAMS = 16
"""Streams that are kept. Source: `mcp_server.modern`, which serves no more."""
MAX_SUBSCRIPTIONS = 256
"""Resources that are kept. Source: the same."""


class Replay:
    """The conversation's lasting part."""

    def __init__(self) -> None:
        # The message of the host's last handshake; None before one, and always in the era without handshakes.
        self._handshake: Any = None
        # Whether that handshake left this shim, to the daemon or with an answer of the table. One that is held is
        # sent by itself and needs no replay.
        self.is_begun = False
        # Whether the host said that it has taken in the answer (`notifications/initialized`).
        self.is_initialized = False
        # What the host subscribed to in the handshake era: the parameters of each subscription, by URI.
        self._subscribed: dict[str, Any] = {}
        # The streams of the other era that the host opened and did not close, each by the id of its request.
        self._streams: dict[str, Request] = {}
        # Those of them that were opened again and whose acknowledgement the host would hear for a second time.
        self._resumed: set[str] = set()

    # -- the handshake era -------------------------------------------------------------------------------------

    def handshake(self, message: Any) -> None:
        """The host shakes hands, for the first time or anew."""
        self._handshake = message
        self.is_begun = self.is_initialized = False
        self._subscribed.clear()

    def subscription(self, params: Any, *, wanted: bool) -> None:
        """The host subscribes to a resource, or wants to hear of it no more."""
        uri = params.get("uri") if isinstance(params, dict) else None
        if isinstance(uri, str):
            self._subscribed.pop(uri, None)
            if wanted and len(self._subscribed) < MAX_SUBSCRIPTIONS:
                self._subscribed[uri] = params

    @property
    def greeting(self) -> Any:
        """The parameters of the handshake that the next daemon must be given; of no interest before `is_begun`."""
        return self._handshake.get("params")

    @property
    def subscriptions(self) -> list[Any]:
        """The parameters of each subscription that stands."""
        return list(self._subscribed.values())

    @property
    def must_greet(self) -> bool:
        """Whether the next daemon is to be given the handshake."""
        return self.is_begun and self._handshake is not None

    # -- the era without handshakes ----------------------------------------------------------------------------

    def sent(self, request: Request) -> None:
        """A request goes to the daemon: a handshake is begun with it, a stream opened."""
        if request.method == "initialize":
            self.is_begun = True
        elif request.method == LISTEN and is_modern(request.params) and len(self._streams) < MAX_STREAMS:
            self._streams[request.id] = request

    def is_stream(self, id: str) -> bool:
        """Whether a stream is open that this request opened."""
        return id in self._streams

    def close(self, id: str) -> None:
        """The stream ended, if the request opened one."""
        self._streams.pop(id, None)

    def close_all(self) -> list[str]:
        """Nobody listens any more. Gives the ids of what was open."""
        closed = list(self._streams)
        self._streams.clear()
        return closed

    def resume(self) -> list[Request]:
        """The requests that open the streams again at the next daemon."""
        self._resumed.update(self._streams)
        return list(self._streams.values())

    def lost(self) -> None:
        """The daemon is gone: it acknowledges nothing more."""
        self._resumed.clear()

    def is_resuming(self) -> bool:
        """Whether an acknowledgement is expected that the host must not hear again."""
        return bool(self._resumed)

    def acknowledged(self, id: str) -> "tuple[bool, Request | None]":
        """Whether this acknowledges a stream that was opened again, and its request if the host still listens."""
        known = id in self._resumed
        self._resumed.discard(id)
        return known, self._streams.get(id) if known else None
