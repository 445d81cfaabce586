"""A byte stream cut into frames: four bytes of length, big-endian, then that many bytes.

Not here: what the bytes mean (`codec`). Above: `peer`. Invariant: the same bytes give the same frames, however the
stream was split on its way, and a frame that is longer than the limit is refused as soon as its length is known.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from parlerd.core.errors import ParlerError

FIRST_FRAME_LIMIT: Final = 64 * 1024
"""The most bytes in the hello and in its answer: before the hello the other side may be anybody."""
FRAME_LIMIT: Final = 8 * 1024 * 1024
"""The most bytes in any later frame. A message has at most 256 KiB of text, and a page is bounded by its parameters."""

_LENGTH: Final = Struct(">I")
PREFIX: Final = _LENGTH.size


def frame(payload: bytes) -> bytes:
    """`payload` with its length in front. Raises `frame_too_large` beyond `FRAME_LIMIT`."""
    size = len(payload)
    if size > FRAME_LIMIT:
        raise ParlerError("frame_too_large", size=size, limit=FRAME_LIMIT)
    return _LENGTH.pack(size) + payload


class FrameReader:
    """Puts frames together from the chunks that arrive."""

    __slots__ = ("_buffer", "_start", "limit")

    def __init__(self, limit: int = FIRST_FRAME_LIMIT) -> None:
        self.limit = limit
        """The most bytes in one frame. A new value applies from the next frame on."""
        # What arrived; the bytes before `_start` belong to frames that were given out already.
        self._buffer = bytearray()
        self._start = 0

    def feed(self, data: bytes) -> None:
        """Take a chunk. Call `next` until it gives None before you feed more, because only `next` checks the limit."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole frame's payload, or None until more arrives.

        Raises `frame_too_large`, and then drops everything that arrived.
        """
        buffer, start = self._buffer, self._start
        body = start + PREFIX
        if len(buffer) < body:
            self._compact()
            return None
        (size,) = _LENGTH.unpack_from(buffer, start)
        if size > self.limit:
            self._buffer = bytearray()
            self._start = 0
            raise ParlerError("frame_too_large", size=size, limit=self.limit)
        end = body + size
        if len(buffer) < end:
            self._compact()
            return None
        payload = bytes(buffer[body:end])
        if len(buffer) == end:
            buffer.clear()
            self._start = 0
        else:
            self._start = end
        return payload

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer) - self._start

    def _compact(self) -> None:
        # This runs once for each chunk and not for each frame, because moving the bytes costs as much as copying them.
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
