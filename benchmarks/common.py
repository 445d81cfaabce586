"""What the benchmarks share: a home to measure in, both ways into the daemon, and how figures are reported.

Not here: any figure. A benchmark only makes the load: the daemon and the shims are processes of their own, and the
clock of this process measures both ends. Above: the scripts. Below: `parlerd`, used as any client uses it. Invariant: a
benchmark ends what it started, in a home that it removes.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
import platform
import select
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import msgspec

import parlerd
from parlerd.cli.demo_home import DemoHome
from parlerd.identity.signatures import SigningKey, verify
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.wire import codec
from parlerd.wire.frames import FRAME_LIMIT, FrameReader, frame
from parlerd.wire.messages import PROTOCOL, Call, Credit, Failure, Goodbye, Hello, Item, Reply

PATIENCE_S: Final = 120.0
"""How long an answer may take before the benchmark gives up."""
TEXT: Final = (
    "A message of about a hundred bytes, as agents send them: the tests pass, rotation is next, see you there."
)
_CHUNK: Final = 256 * 1024
_SYNCS: Final = 50

Json = dict[str, Any]
R = TypeVar("R", bound=t.Result)


# -- reporting -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One measured number and what it was made of."""

    figure: str
    """What was measured; figures of several programs with the same words are compared."""
    unit: str
    median: float
    runs: int
    p10: float | None = None
    p90: float | None = None
    p99: float | None = None
    floor: float | None = None
    """The worst that is acceptable for Parler. Source: performance spec."""
    quoted: float | None = None
    """What another program took on the machine for which the floors were set."""
    who: str = "parler"
    """The program that was measured."""
    note: str = ""
    """Where another program does less than Parler, or what a figure depends on."""


def spread(figure: str, unit: str, values: Sequence[float], **more: Any) -> Figure:
    """A figure from single measurements: the median, and the tail where there are enough measurements."""
    return Figure(
        figure,
        unit,
        _rounded(statistics.median(values)),
        len(values),
        p10=_rounded(percentile(values, 0.10)) if len(values) >= 10 else None,
        p90=_rounded(percentile(values, 0.90)) if len(values) >= 10 else None,
        p99=_rounded(percentile(values, 0.99)) if len(values) >= 100 else None,
        **more,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least a `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass
class Report:
    """What a benchmark prints, in one JSON document. The document also has `ratios`: how many times Parler's figure
    another program takes and, where that program's figure is quoted for the machine of the floors, how many times the
    floor."""

    benchmark: str
    place: Path | None = None
    """The folder whose disk is measured."""
    figures: list[Figure] = field(default_factory=list)
    growth: list[Json] = field(default_factory=list)
    """How figures grow with the work."""
    left_out: list[Json] = field(default_factory=list)
    """Other programs that could not be measured, and why."""

    def add(self, figure: Figure) -> Figure:
        """Add a figure, and print it on stderr while the others are measured."""
        self.figures.append(figure)
        tail = f", p99 {figure.p99:g}" if figure.p99 is not None else ""
        floor = f" (floor {figure.floor:g})" if figure.floor is not None else ""
        print(f"{figure.who}: {figure.figure}: {figure.median:g} {figure.unit}{tail}{floor}", file=sys.stderr)
        return figure

    def leave_out(self, who: str, why: str) -> None:
        """Note that another program could not be installed or driven, and why."""
        self.left_out.append({"who": who, "why": why})
        print(f"{who}: left out: {why}", file=sys.stderr)

    def print(self) -> None:
        """Print the JSON document on stdout."""
        ours = {figure.figure: figure for figure in self.figures if figure.who == "parler"}
        ratios: list[Json] = []
        for other in self.figures:
            our = ours.get(other.figure)
            if other.who == "parler" or our is None or not our.median:
                continue
            ratios.append(
                {"who": other.who, "figure": other.figure, "times_parler": _rounded(other.median / our.median)}
            )
            if other.quoted is not None and our.floor is not None:
                ratios[-1]["times_floor_as_quoted"] = _rounded(other.quoted / our.floor)
        document: Json = {
            "benchmark": self.benchmark,
            "figures": [
                {
                    name: _rounded(value) if isinstance(value, float) else value
                    for name, value in vars(figure).items()
                    if value not in (None, "")
                }
                for figure in self.figures
            ],
            "growth": self.growth,
            "ratios": ratios,
            "left_out": self.left_out,
            "conditions": conditions(self.place),
        }
        print(json.dumps({name: value for name, value in document.items() if value != []}, indent=2))


def conditions(place: Path | None) -> Json:
    """What a figure depends on beside the code. The last three say how fast this machine is at this moment: how long
    one write to the disk of `place` takes, one hop to another process and back, and a thousand steps of the
    interpreter."""
    with tempfile.NamedTemporaryFile(prefix="parler-bench-", dir=place) as file:
        syncs = [milliseconds(lambda: _write_and_sync(file.fileno())) for _ in range(_SYNCS)]
    return {
        "parler": parlerd.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "fdatasync_ms": _rounded(statistics.median(syncs)),
        "hop_ms": _rounded(statistics.median(_hops())),
        "thousand_steps_ms": _rounded(statistics.median(milliseconds(lambda: sum(range(1000))) for _ in range(_SYNCS))),
    }


def _hops() -> list[float]:
    """How long round trips of a byte to another process take, in milliseconds."""
    echo = "import os\nwhile os.write(1, os.read(0, 1) or os._exit(0)): pass"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", echo], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        to, back = other.stdin, other.stdout

        def hop() -> None:
            to.write(b".")
            back.read(1)

        hop()
        found = [milliseconds(hop) for _ in range(_SYNCS)]
        to.close()
    return found


def _write_and_sync(descriptor: int) -> None:
    os.write(descriptor, bytes(4096))
    os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)


def milliseconds(act: Callable[[], object]) -> float:
    """How many milliseconds `act` takes."""
    begun = time.perf_counter()
    act()
    return (time.perf_counter() - begun) * 1000


def cpu_milliseconds(act: Callable[[], object]) -> float:
    """How many milliseconds of this process's own processor time `act` takes: what others do meanwhile is not in it."""
    begun = time.process_time()
    act()
    return (time.process_time() - begun) * 1000


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def arguments(description: str, **numbers: int) -> argparse.Namespace:
    """The command line of a benchmark: `--compare`, `--in`, and one option for each of `numbers` with its default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--compare", action="store_true", help="run what a user would pick instead beside it")
    parser.add_argument(
        "--in", dest="place", type=Path, help="where the throw-away homes go: the disk that is measured"
    )
    parser.add_argument("--peers", type=Path, help="keep what --compare installs here and use it again")
    for name, default in numbers.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=default, metavar="N", help=f"default: {default}")
    return parser.parse_args()


def verification_ms(rounds: int = 200, taken: Callable[[Callable[[], object]], float] = milliseconds) -> float:
    """How long one check of an Ed25519 signature takes here: the yardstick V of what cryptography costs."""
    key = SigningKey("agent", bytes(32))
    body = bytes(400)
    signature = key.sign("parler/message", body)
    return statistics.median(taken(lambda: verify(key.id, "parler/message", body, signature)) for _ in range(rounds))


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time that a process has used; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the daemon --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def home(place: Path | None = None) -> Iterator[DemoHome]:
    """A throw-away home with its daemon running. A key alone admits in it, because no person sits beside a
    benchmark."""
    with empty_home(place) as made:
        start(made)
        yield made


SETTINGS: Final = """\
[approval]
default = false

[retention]
room_messages = 0
room_bytes = 0
total_bytes = 0
"""
"""Of the homes of benchmarks: a key alone admits, because no person sits beside a benchmark, and no words go, which
would be measured with what is measured."""


@contextlib.contextmanager
def empty_home(place: Path | None = None) -> Iterator[DemoHome]:
    """A throw-away home in which a key alone admits, without a daemon."""
    made = DemoHome(place)
    try:
        made.home.root.mkdir(mode=0o700)
        made.home.settings.write_text(SETTINGS)
        yield made
    finally:
        made.end(keep=False)


def start(made: DemoHome) -> None:
    """Start the daemon and wait until it has the windows' face: it answers before, but imports beside its answers."""
    made.start()
    with shim(made, "settling") as window:
        window.handshake()
        window.call("parler_rooms")


def memory(pid: int) -> dict[str, float]:
    """The memory of a process in MB: `resident`, the part of it that one more such process would cost (`private`), and
    `pss`, which divides each page among the processes that share it."""
    if sys.platform != "linux":
        shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
        return {"resident": _rounded(int(shown) / 1024)}
    status = _kilobytes(Path(f"/proc/{pid}/status"))
    found = {"resident": status["VmRSS"] / 1024, "private": status["RssAnon"] / 1024}
    # The kernel hides this file of a process that is not dumpable, as the daemon is.
    with contextlib.suppress(OSError):
        rollup = _kilobytes(Path(f"/proc/{pid}/smaps_rollup"))
        found["private"] = (rollup["Private_Clean"] + rollup["Private_Dirty"]) / 1024
        found["pss"] = rollup["Pss"] / 1024
    return {name: _rounded(value) for name, value in found.items()}


def _kilobytes(path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value.split()[0])
    return found


class RawConnection:
    """One client connection, close to the wire: frames can be made before they are sent, and sent while calls are under
    way."""

    def __init__(self, made: DemoHome, *, as_name: str = "") -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(made.home.endpoint.read_text().strip())
        self._reader = FrameReader()
        self._heard: deque[Reply | Failure | Item] = deque()
        self._id = 0
        hello = Hello(protocol=PROTOCOL, version=parlerd.__version__, role="client", pid=os.getpid(), as_name=as_name)
        self.sock.sendall(frame(codec.encode(hello)))
        while (welcome := self._reader.next()) is None:
            self._reader.feed(self._receive())
        answer = codec.WELCOME.decode(welcome)
        if isinstance(answer, Goodbye):
            raise RuntimeError(f"the daemon said {answer.error.code}")
        self._reader.limit = FRAME_LIMIT

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def fileno(self) -> int:
        """For `select`."""
        return self.sock.fileno()

    def pack(self, op: str, params: t.Params) -> bytes:
        """The frame of a call, not sent yet."""
        self._id += 1
        return frame(codec.encode(Call(id=self._id, op=op, params=msgspec.Raw(codec.encode(params)))))

    def send(self, data: bytes) -> None:
        """Send frames."""
        self.sock.sendall(data)

    def hear(self) -> Reply | Item:
        """The next answer. Raises `RuntimeError` when it is a failure."""
        while not self._heard:
            self.take()
        answer = self._heard.popleft()
        if isinstance(answer, Failure):
            raise RuntimeError(f"{answer.error.code}: {answer.error.message}")
        return answer

    def take(self) -> int:
        """Take in what has arrived, and wait if nothing has. Gives how many answers can then be heard."""
        self._reader.feed(self._receive())
        while (payload := self._reader.next()) is not None:
            answer = codec.FROM_DAEMON.decode(payload)
            if isinstance(answer, Goodbye):
                raise RuntimeError(f"the daemon said {answer.error.code}")
            self._heard.append(answer)
        return len(self._heard)

    def call(self, op: str, params: t.Params) -> Any:
        """Run an operation and give its typed result."""
        self.send(self.pack(op, params))
        return self.result(OPERATIONS[op].result)

    def result(self, shape: type[R]) -> R:
        """The next answer as the result of an operation."""
        answer = self.hear()
        assert isinstance(answer, Reply)
        return msgspec.msgpack.decode(answer.result, type=shape)

    def give_credit(self, more: int) -> None:
        """Let the stream that was called last send this many items more."""
        self.send(frame(codec.encode(Credit(id=self._id, more=more))))

    def _receive(self) -> bytes:
        data = self.sock.recv(_CHUNK)
        if not data:
            raise RuntimeError("the daemon closed the connection")
        return data


def room_of(made: DemoHome, *members: str) -> str:
    """Open a new session as the first of `members`, with the others in it. Gives the room's id."""
    with RawConnection(made, as_name=members[0]) as owner:
        opened = owner.call("session.open", t.OpenSession(context="benchmark", topic="bench", max_uses=10_000))
        room: str = opened.room
    for member in members[1:]:
        with RawConnection(made, as_name=member) as joiner:
            joined = joiner.call("session.join", t.JoinSession(session_key=opened.session_key))
            assert joined.status == "joined", joined.status
            joiner.call("message.commit", t.Commit(room=room, cursor=joined.cursor))
    return room


# -- agent windows -----------------------------------------------------------------------------------------


class RawWindow:
    """The host's side of a stdio MCP server. The lines of JSON-RPC are written by hand, so that the client costs
    little."""

    def __init__(self, command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None) -> None:
        env = {"PATH": os.environ["PATH"], "HOME": str(directory), **(environment or {})}
        self.spawned = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=directory,
            env=env,
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        self._buffer = b""
        self._id = 0
        self.answered_bytes = 0
        """The length of the line that answered the last request."""

    def __enter__(self) -> RawWindow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close stdin as a host does, and see to it that the process ends."""
        self._stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._stdout.close()

    def fileno(self) -> int:
        """For `select`."""
        return self._stdout.fileno()

    def ask(self, method: str, params: Json | None = None) -> int:
        """Send a request. Gives its id."""
        self._id += 1
        self._say({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params or {}})
        return self._id

    def hear(self, id: int) -> Json:
        """The result of request `id`. Other lines are passed over."""
        while True:
            line = self._line()
            message: Json = json.loads(line)
            if message.get("id") == id and "method" not in message:
                self.answered_bytes = len(line)
                if "error" in message:
                    raise RuntimeError(str(message["error"]))
                result: Json = message["result"]
                return result

    def call(self, tool: str, **given: Any) -> str:
        """Call a tool. Gives the text that a model is shown."""
        return self.result(self.ask("tools/call", {"name": tool, "arguments": given}))

    def result(self, id: int) -> str:
        """The text of the tool call `id`. Raises `RuntimeError` when the tool failed."""
        result = self.hear(id)
        if result.get("isError"):
            raise RuntimeError(str(result["content"]))
        return "".join(block["text"] for block in result["content"] if block["type"] == "text")

    def handshake(self) -> None:
        """Shake hands as hosts do."""
        client = {"capabilities": {}, "clientInfo": {"name": "benchmark", "version": "1"}}
        self.hear(self.ask("initialize", {"protocolVersion": "2025-06-18", **client}))
        self._say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def tools(self) -> int:
        """How many tools it lists."""
        return len(self.hear(self.ask("tools/list"))["tools"])

    def _say(self, message: Json) -> None:
        self._stdin.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._stdout], [], [], PATIENCE_S)
            if not ready:
                raise RuntimeError("the server says nothing")
            data = os.read(self._stdout.fileno(), _CHUNK)
            if not data:
                raise RuntimeError("the server ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def shim(made: DemoHome, name: str) -> RawWindow:
    """A window of Parler in a workspace of its own, which makes it an agent of its own."""
    directory = made.directory / name
    (directory / ".git").mkdir(parents=True, exist_ok=True)
    return RawWindow(made.shim_command("benchmark"), directory)


def ready_ms(window: RawWindow) -> float:
    """Milliseconds from its spawn to its answered `tools/list`."""
    window.handshake()
    window.tools()
    return (time.perf_counter() - window.spawned) * 1000
