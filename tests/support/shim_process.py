"""A shim as a real process, with a host's hands at its stdin and stdout and a hand-driven daemon behind its socket.

Every wait here is for something that happens and has a deadline far beyond it, so a broken shim fails and does not
hang.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from mcp_server import static
from parlerd.core.errors import ParlerError
from parlerd.wire import codec
from parlerd.wire.frames import PREFIX, frame
from parlerd.wire.messages import Goodbye, Hello, Note, Welcome

Json = dict[str, Any]

SHIM = Path(static.__file__).with_name("shim.py")
PATIENCE = 60.0
CLIENT = {"capabilities": {}, "clientInfo": {"name": "test-host", "version": "1"}}


def bare_python() -> str:
    """An interpreter that has no `parlerd`: what it starts as a daemon ends at once."""
    base: str = getattr(sys, "_base_executable", sys.executable)
    return base


class DaemonEnd:
    """The daemon's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.settimeout(PATIENCE)
        hello = codec.HELLO.decode(self._payload() or b"")
        self.hello: Hello = hello

    def welcome(self) -> DaemonEnd:
        """Accept the hello."""
        self._sock.sendall(frame(codec.encode(Welcome(protocol=1, version="0", pid=1))))
        return self

    def hear(self) -> Json | Note | None:
        """The next line as JSON, the note, or None at the end."""
        payload = self._payload()
        if payload is None:
            return None
        heard = codec.FROM_SHIM.decode(payload)
        if isinstance(heard, Note):
            return heard
        message: Json = json.loads(heard)
        return message

    def line(self) -> Json:
        """The next line as JSON."""
        heard = self.hear()
        assert isinstance(heard, dict), heard
        return heard

    def say(self, message: Json | bytes) -> None:
        """Send a line."""
        line = message if isinstance(message, bytes) else json.dumps(message).encode()
        self._sock.sendall(frame(codec.encode(line)))

    def answer(self, request: Json, result: Json | None = None) -> None:
        """Answer a request."""
        self.say({"jsonrpc": "2.0", "id": request["id"], "result": result or {}})

    def goodbye(self, error: ParlerError) -> None:
        """End the conversation, saying why."""
        self._sock.sendall(frame(codec.encode(Goodbye(error=error.body()))))
        self.close()

    def send_raw(self, data: bytes) -> None:
        """Send bytes that need be no frame."""
        self._sock.sendall(data)

    def close(self) -> None:
        self._sock.close()

    def _payload(self) -> bytes | None:
        head = self._exactly(PREFIX)
        return None if head is None else self._exactly(int.from_bytes(head, "big"))

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            piece = self._sock.recv(size - len(data))
            if not piece:
                return None
            data += piece
        return data


class DaemonByHand:
    """A listening socket of a home, accepted by hand."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._directory = Path(tempfile.mkdtemp(prefix="parler-test-"))
        self.path = self._directory / "s"
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(str(self.path))
        self._sock.listen()
        self._sock.settimeout(PATIENCE)
        (home / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "run" / "endpoint").write_text(f"{self.path}\n")
        self._connections: list[DaemonEnd] = []

    def accept(self) -> DaemonEnd:
        """The next shim that connects, its hello read."""
        sock, _ = self._sock.accept()
        self._connections.append(DaemonEnd(sock))
        return self._connections[-1]

    def __enter__(self) -> DaemonByHand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Die: every connection is closed and nobody listens any more."""
        self._sock.close()
        for connection in self._connections:
            connection.close()
        shutil.rmtree(self._directory, ignore_errors=True)


class HostSide:
    """The host's side of a shim process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._read = b""
        self._id = 0

    def write(self, data: bytes) -> None:
        """Bytes to the shim's stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def say(self, message: Json) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def ask(self, method: str, params: Json | None = None) -> int:
        """Send a request; gives its id."""
        self._id += 1
        self.say({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params or {}})
        return self._id

    def call(self, tool: str, **arguments: Any) -> int:
        """Send a tool call; gives its id."""
        return self.ask("tools/call", {"name": tool, "arguments": arguments})

    def tell(self, method: str, params: Json | None = None) -> None:
        self.say({"jsonrpc": "2.0", "method": method, "params": params or {}})

    def initialize(self, version: str = "2025-11-25") -> int:
        return self.ask("initialize", {"protocolVersion": version, **CLIENT})

    def line(self) -> bytes:
        """The next line of stdout; empty at its end."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self._read:
            ready, _, _ = select.select([descriptor], [], [], PATIENCE)
            assert ready, "the shim says nothing"
            data = os.read(descriptor, 65536)
            if not data:
                break
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line

    def hear(self) -> Json:
        """The next line of stdout, which is one JSON-RPC message."""
        message: Json = msgspec.json.decode(self.line())
        assert message["jsonrpc"] == "2.0"
        return message

    def close(self) -> None:
        """Close stdin."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> int:
        """The exit status, when it ends."""
        return self.process.wait(PATIENCE)


@contextmanager
def shim(
    home: Path, *more: str, python: str | None = None, program: str = str(SHIM), **environment: str
) -> Iterator[HostSide]:
    """A running shim of `home`. Its environment is HOME, PATH and what is given."""
    env = {"HOME": str(home.parent), "PATH": os.environ["PATH"], **environment}
    arguments = more or ("--host", "test", "--home", str(home))
    process = subprocess.Popen(
        [python or bare_python(), "-I", "-S", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=home.parent,
    )
    side = HostSide(process)
    try:
        yield side
        assert process.stderr is not None
    finally:
        process.kill()
        process.wait(PATIENCE)
        said = process.stderr.read() if process.stderr is not None else b""
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None and not stream.closed:
                # What was not written any more goes nowhere.
                with suppress(BrokenPipeError):
                    stream.close()
    assert said == b""
