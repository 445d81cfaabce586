"""Somebody between the windows and the daemon, who passes everything on and now and then loses an answer.

It listens at a socket of its own and puts that into the home's endpoint file, where shims look for the daemon. An
answer is lost as a crash would lose it: the daemon has done what was asked and said so, and the connection is gone.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

from tests.support.processes import PATIENCE_S, Somebody

ANSWER = b'"content":[{"type":"text"'
"""What every answer to a tool call holds and nothing else does."""


class LossySocket:
    """Use it as a context, after the daemon has started and before the windows do."""

    def __init__(self, somebody: Somebody) -> None:
        self._somebody = somebody
        self._daemon = somebody.home.endpoint.read_text().strip()
        self._listener = socket.socket(socket.AF_UNIX)
        self._losing = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._socks: list[socket.socket] = []

    def lose_answer(self) -> None:
        """Lose the next answer to a tool call, and the connection with it."""
        self._losing.release()

    def __enter__(self) -> LossySocket:
        path = self._somebody.user / "between"
        self._listener.bind(str(path))
        self._listener.listen()
        self._somebody.home.endpoint.write_text(f"{path}\n")
        self._begin(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._somebody.home.endpoint.write_text(f"{self._daemon}\n")
        for sock in (self._listener, *self._socks):
            end(sock)
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _begin(self, run: object, *arguments: object) -> None:
        assert callable(run)
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                shim, _ = self._listener.accept()
                daemon = socket.socket(socket.AF_UNIX)
                daemon.connect(self._daemon)
                self._socks += [shim, daemon]
                self._begin(self._pass, shim, daemon, False)
                self._begin(self._pass, daemon, shim, True)

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if answers and ANSWER in data and self._losing.acquire(blocking=False):
                    break
                target.sendall(data)
        end(source)
        end(target)


def end(sock: socket.socket) -> None:
    """Close it, also under a thread that waits for it."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
