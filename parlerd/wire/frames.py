"""A byte stream cut into frames: four bytes of length, big-endian, then that many bytes.

Not here: what the bytes mean (`codec`). Invariant: how the stream was chunked on its way never shows, and a frame that
is longer than the limit is refused when its length is known, before any of its body is kept.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from parlerd.core.errors import ParlerError

FIRST_FRAME_LIMIT: Final = 64 * 1024
"""Bytes in the hello and its answer at most: nobody is trusted with more before that."""
FRAME_LIMIT: Final = 8 * 1024 * 1024
"""Bytes in any later frame at most. A page is capped at 8 MiB of text by its parameters, a message at 256 KiB."""

_LENGTH: Final = Struct(">I")
PREFIX: Final = _LENGTH.size


def frame(payload: bytes) -> bytes:
    """`payload` with its length in front. Raises `frame_too_large` beyond `FRAME_LIMIT`."""
    size = len(payload)
    if size > FRAME_LIMIT:
        raise ParlerError("frame_too_large", size=size, limit=FRAME_LIMIT)
    return _LENGTH.pack(size) + payload


class FrameReader:
    """Puts frames together from whatever chunks arrive. `limit` applies from the next frame on."""

    __slots__ = ("_buffer", "_start", "limit")

    def __init__(self, limit: int = FIRST_FRAME_LIMIT) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._start = 0

    def feed(self, data: bytes) -> None:
        """Take a chunk. Call `next` until it gives None before feeding more: that is where limits are checked."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole frame's payload, or None until more arrives.

        Raises `frame_too_large`, and drops what it held.
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
        # Once per chunk and not once per frame: a chunk with many small frames is cut in one pass.
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
