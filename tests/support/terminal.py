"""A terminal for programs that want one: a pty with somebody at its keys and nobody at its screen.

It answers what programs ask a terminal before they draw, and keeps all that they print. Not here: reading a screen;
whoever tests says what a program shows by words that it prints.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ENTER: Final = "\r"
ESCAPE: Final = "\x1b"
INTERRUPT: Final = "\x03"

_ROWS: Final = 50
_COLUMNS: Final = 160
_LOOK_S: Final = 0.05
_DRAWS_S: Final = 0.7
"""For a line to be drawn, on a busy machine."""
_ASKED: Final[Mapping[bytes, bytes]] = {
    b"\x1b[6n": b"\x1b[1;1R",
    b"\x1b[?6n": b"\x1b[?1;1R",
    b"\x1b[c": b"\x1b[?62;22c",
    b"\x1b[0c": b"\x1b[?62;22c",
    b"\x1b[5n": b"\x1b[0n",
    b"\x1b[?u": b"\x1b[?0u",
    b"\x1b]10;?\x07": b"\x1b]10;rgb:ffff/ffff/ffff\x07",
    b"\x1b]10;?\x1b\\": b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
    b"\x1b]11;?\x07": b"\x1b]11;rgb:0000/0000/0000\x07",
    b"\x1b]11;?\x1b\\": b"\x1b]11;rgb:0000/0000/0000\x1b\\",
}
"""Questions of a program to its terminal, and what an ordinary one answers."""
_CONTROLS: Final = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[\[?][0-9;?<>=]*[ -/]*[@-~]|\x1b[=>()78][0-9AB]?")


class Terminal:
    """A program at a terminal, while it runs. Whoever reads the screen meanwhile is a thread of this process."""

    def __init__(self, words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self.child = subprocess.Popen(
            list(words),
            cwd=cwd,
            env={**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._printed = bytearray()
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def types(self, keys: str) -> None:
        """Press these keys. Does nothing when the program is gone."""
        with contextlib.suppress(OSError):
            os.write(self._master, keys.encode())

    def enters(self, words: str) -> None:
        """Type a line, and press Enter when the program had the time to draw the line: some take keys that come at once
        for a paste."""
        self.types(words)
        time.sleep(_DRAWS_S)
        self.types(ENTER)

    def shows(self, words: str, limit_s: float) -> bool:
        """Whether the program prints that in time. Words that a program draws one by one are no use here."""
        deadline = time.monotonic() + limit_s
        while words not in self.printed:
            if time.monotonic() > deadline or self.child.poll() is not None:
                return False
            time.sleep(_LOOK_S)
        return True

    @property
    def printed(self) -> str:
        """All that was printed so far, without what moves the cursor or colours."""
        return _CONTROLS.sub("", bytes(self._printed).decode(errors="replace"))

    def forgets(self) -> None:
        """From here on, `printed` is what comes next."""
        self._printed.clear()

    def ends(self) -> None:
        """End the program and all of its group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        self._over.set()
        self._reader.join()
        os.close(self._master)

    def _read(self) -> None:
        while not self._over.is_set():
            ready, _, _ = select.select([self._master], [], [], _LOOK_S)
            if not ready:
                continue
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            self._printed += data
            for question, answer in _ASKED.items():
                for _ in range(data.count(question)):
                    with contextlib.suppress(OSError):
                        os.write(self._master, answer)


@contextmanager
def at_a_terminal(words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Iterator[Terminal]:
    """A program at a terminal; what is left of it at the end is killed."""
    terminal = Terminal(words, cwd, environment)
    try:
        yield terminal
    finally:
        terminal.ends()
