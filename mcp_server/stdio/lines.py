"""The host's side of a window: whole lines from stdin, lines to stdout, and whether the host is still there.

Not here: what a line means (`pipe`). Invariants: a line beyond `MAX_LINE` is never held in memory as a whole; writing
never blocks, so a host that does not read cannot keep the shim from seeing its end.
"""

import posix
import select

from mcp_server.stdio.system import CHUNK

MAX_LINE = 8 * 1024 * 1024 - 16
"""Bytes of one line: a frame of the socket holds 8 MiB, its own five bytes of head included."""
PIPE_CHUNK = 4096
"""What a pipe that is ready for writing takes without blocking (PIPE_BUF)."""
PARENT_S = 2.0
"""How often an idle shim looks whether its parent is still there. A killed host may have left its ends of the pipes to
other processes that it started, and then neither pipe tells of its end."""
LAUNCH_S = 5.0
"""A parent that goes within this time may be a launcher that has done its part; the host itself is at the pipes."""


class Lines:
    """stdin and stdout of one window. Moments are seconds of the caller's clock."""

    def __init__(self, now: float) -> None:
        # What was read of a line that has not ended yet.
        self._unfinished = bytearray()
        # Whether that line is longer than MAX_LINE: what comes is thrown away up to its end.
        self._is_skipping = False
        # What the host has not taken yet.
        self.unwritten = bytearray()
        # Tells, without waiting, whether stdout takes PIPE_CHUNK bytes.
        self._stdout = select.poll()
        self._stdout.register(1, select.POLLOUT)
        # When stdin ended; None before. The answers that are under way may still be written then.
        self.ended_at: float | None = None
        # Whether the host is gone: it reads stdout no more, or the parent process has ended.
        self.is_gone = False
        # The parent process, until when it may be a mere launcher, and when to look for it again.
        self._parent = posix.getppid()
        self._launched_until = now + LAUNCH_S
        self.next_look = 0.0

    def read(self, now: float) -> list[bytes | None]:
        """The lines that came, without their line ends and without blank ones; None for a line that is too long. At
        the end of stdin `ended_at` is set."""
        try:
            data = posix.read(0, CHUNK)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        found: list[bytes | None] = []
        buffer = self._unfinished
        start, looked = 0, len(buffer)
        buffer += data
        if not data:
            self.ended_at = now
            if buffer and not self._is_skipping:
                buffer += b"\n"
        while (end := buffer.find(b"\n", max(start, looked))) >= 0:
            line = bytes(buffer[start:end])
            start = end + 1
            if self._is_skipping:
                self._is_skipping = False
            elif len(line) > MAX_LINE:
                found.append(None)
            elif line.strip():
                found.append(line)
        del buffer[:start]
        if len(buffer) > MAX_LINE:
            if not self._is_skipping:
                found.append(None)
            self._is_skipping = True
            buffer.clear()
        return found

    def say(self, line: bytes) -> None:
        """Have `write` write a line."""
        self.unwritten += line + b"\n"

    def write(self) -> None:
        """Write as much as the host takes now."""
        buffer = self.unwritten
        while buffer:
            if not self._stdout.poll(0):
                return
            try:
                written = posix.write(1, buffer[:PIPE_CHUNK])
            except BlockingIOError:
                return
            except OSError:
                # Nobody reads any more, which is as good as a closed stdin.
                self.is_gone = True
                return
            del buffer[:written]

    def look_for_parent(self, now: float) -> None:
        """See whether the parent has ended. A shim that was started by process 1, which is the parent of all orphans,
        has no parent that could end."""
        self.next_look = now + PARENT_S
        parent = posix.getppid()
        if parent != self._parent:
            if now < self._launched_until:
                self._parent = parent
            else:
                self.is_gone = True
