"""A wire between a daemon and a relay on one machine: passes bytes on until a test cuts it, stalls it or slows it.

It listens at an address of its own and connects on to the relay's. A cut breaks every connection and refuses new ones,
as a machine does that went down; a stall keeps connections and passes nothing on, as a network does that loses every
packet; what was stalled goes on, or is lost with its connection. Not here: cables of machines of their own
(`machines`). Invariant: bytes keep their order, and none comes twice.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Final

from tests.support.lossy_socket import end

_CHUNK: Final = 1 << 16
_CONNECT_S: Final = 5.0


class Wire:
    """A wire from `address` to a relay. Use it as a context."""

    def __init__(self, address: str, relay: tuple[str, int]) -> None:
        self._relay = relay
        self._listener = socket.create_server((address, 0))
        self._socks: list[socket.socket] = []
        self._passes = threading.Event()
        """Set while bytes are passed on."""
        self._passes.set()
        self._is_cut = False
        self._delay_s = 0.0
        self._lock = threading.Lock()
        self.passed = 0
        """How many bytes were passed on."""
        self.dialled = 0
        """How many connections were made through the wire, or tried while it was cut."""

    @property
    def url(self) -> str:
        """Where daemons dial."""
        address, port = self._listener.getsockname()
        return f"wss://{address}:{port}/"

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        with self._lock:
            self._is_cut = True
        self._break()

    def stall(self) -> None:
        """Pass nothing on, and say nothing about it."""
        self._passes.clear()

    def slow(self, seconds: float) -> None:
        """Keep each piece of bytes for so long."""
        self._delay_s = seconds

    def mend(self, *, lost: bool = False) -> None:
        """Pass everything on again. `lost`: what was kept meanwhile is lost, with the connections that it came on."""
        self._delay_s = 0.0
        if lost:
            self._break()
        with self._lock:
            self._is_cut = False
        self._passes.set()

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._listener)
        self._break()
        self._passes.set()

    def _break(self) -> None:
        with self._lock:
            broken, self._socks = self._socks, []
        for sock in broken:
            end(sock)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                daemon, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(daemon,), daemon=True).start()

    def _connect(self, daemon: socket.socket) -> None:
        self.dialled += 1
        try:
            relay = socket.create_connection(self._relay, timeout=_CONNECT_S)
        except OSError:
            end(daemon)
            return
        relay.settimeout(None)
        with self._lock:
            if not self._is_cut:
                self._socks += [daemon, relay]
                for source, target in ((daemon, relay), (relay, daemon)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()
                return
        end(daemon)
        end(relay)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if self._delay_s:
                    time.sleep(self._delay_s)
                self._passes.wait()
                target.sendall(data)
                self.passed += len(data)
        end(source)
        end(target)
