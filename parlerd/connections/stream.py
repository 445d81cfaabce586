"""What a link needs of its transport: a stream of binary messages between two homes, in order, without loss.

`websocket` is the real one, and tests use pairs in memory; one contract suite holds both to what is said
here. Above: `outgoing`, `relay.link`, `parlerd.uplink`. Not here: what a message holds, which is one whole
frame or a run of whole frames (`frames`).
"""

from __future__ import annotations

from typing import Final, Protocol

RUN_LIMIT: Final = 256 * 1024
"""The most bytes in a message that holds more than one frame."""


class StreamEnded(Exception):
    """The stream has ended, so the message was not sent. An earlier message may not have arrived either."""


class MessageStream(Protocol):
    """One end of a stream of messages. One task receives, and any task sends."""

    certificate: bytes
    """SHA-256 of the certificate in DER that this end serves, or that it was shown; empty without TLS."""
    limit: int
    """The most bytes of a message that comes in. A longer message ends the stream. A new value applies from the next
    message on; it is small until the other side has proved who it is."""

    @property
    def close_code(self) -> int | None:
        """The code with which the other side closed the stream; 1006 where it broke off without one, and None while it
        is open."""
        ...

    def put(self, message: bytes) -> bool:
        """Send one message without waiting. False where the network did not take all of it yet: wait until it is
        `flushed` before the next. Raises `StreamEnded`."""
        ...

    async def flushed(self) -> None:
        """Wait until the network took what was put, while the other side is slow. Raises `StreamEnded`."""
        ...

    async def receive(self) -> bytes | None:
        """The next message; None once the stream has ended, for whatever reason."""
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the stream in both directions. What was sent arrives first where the other side reads on. Takes a few
        seconds at most, and does nothing when the stream has ended."""
        ...
