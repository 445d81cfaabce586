"""What a user would pick instead of Parler, run in the same minutes on the same machine, so that a ratio can be quoted.

    a server process per window   what the MCP library makes of `@server.tool()`: the usual way to write a local server
    synapse-channel               a hub and a shim per window (WebSocket, SQLite at synchronous=NORMAL)
    mcp-agent-mail                one HTTP server (SQLite, and a git commit per message)
    hcom                          no service: each command opens a SQLite file

Each is installed from PyPI, at the version named here, into an environment of its own, has an empty HOME, and is ended
by its own pid. A peer that cannot be installed or driven is left out of the figures, and the report says why. Each does
what comes nearest to the figure, and a note says where this is less than what Parler does. Not here: Parler's figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import common

SYNAPSE: Final = "synapse-channel[mcp]==0.99.38"
AGENT_MAIL: Final = "mcp-agent-mail==0.1.0"
HCOM: Final = "hcom==0.7.31"
HERE: Final = Path(__file__).parent
SDK: Final = "MCP library, a server per window"
INSTALL_S: Final = 600
START_S: Final = 60.0
MAIL_MESSAGES: Final = 20
"""How many messages mcp-agent-mail is given; each takes it some 70 ms."""
COMMANDS: Final = 10
QUOTED_WAKE_MS: Final = 5.0
QUOTED_PUSH_MS: Final = 0.8
QUOTED_SENDS: Final = 1_200.0
"""What synapse-channel took on the machine for which the floors were set: for a send and an inbox call through its
shims, for a push, and the lower end of its sends a second."""

Spawn = Callable[[], common.RawWindow]
PROBLEMS = (OSError, RuntimeError, subprocess.SubprocessError, ValueError, KeyError, AssertionError)
"""The errors after which a peer is left out, because they are no fault of the benchmark."""


# -- installing and starting -------------------------------------------------------------------------------------


@contextmanager
def installed(name: str, requirement: str, place: Path | None) -> Iterator[Path]:
    """The `bin` of an environment with a peer in it. The environment is in `place`, where it is found again, or else is
    thrown away."""
    with ExitStack() as stack:
        if place is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parler-peers-")))
        environment = place.resolve() / name
        binaries = environment / "bin"
        if not (environment / "installed").exists():
            print(f"{name}: installing {requirement}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=INSTALL_S)
            pip = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, requirement], check=True, timeout=INSTALL_S, stdout=subprocess.DEVNULL)
            (environment / "installed").touch()
        yield binaries


@contextmanager
def process(command: list[str], environment: dict[str, str], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server, ended with the block."""
    started = subprocess.Popen(
        command, env=environment, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(5)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def empty_home() -> Iterator[tuple[Path, dict[str, str]]]:
    """A new directory, and an environment in which it is HOME."""
    with tempfile.TemporaryDirectory(prefix="parler-peer-") as directory:
        yield Path(directory), {"HOME": directory, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server listens. Raises `RuntimeError` when it ends, or does not listen in time."""
    deadline = time.perf_counter() + START_S
    while time.perf_counter() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"its server ended with {server.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.002)
    raise RuntimeError("its server did not come up")


# -- the peers -------------------------------------------------------------------------------------------------


@contextmanager
def sdk_windows() -> Iterator[Spawn]:
    """Windows that are each a server of the MCP library."""
    with empty_home() as (directory, environment):
        # The server is started as its author would start it, by its path and without -I.
        yield lambda: common.RawWindow([sys.executable, str(HERE / "peer_sdk_server.py")], directory, environment)


class Hub(NamedTuple):
    """A running synapse hub. `started_ms` is from its spawn to its open port."""

    port: int
    pid: int
    started_ms: float
    binaries: Path
    directory: Path
    environment: dict[str, str]

    def window(self, name: str) -> common.RawWindow:
        """A shim of this hub."""
        uri = f"ws://127.0.0.1:{self.port}"
        command = [str(self.binaries / "synapse"), "mcp", "--uri", uri, "--name", f"bench/{name}"]
        return common.RawWindow(command, self.directory, self.environment)


@contextmanager
def synapse_hub(place: Path | None) -> Iterator[Hub]:
    """A hub with its quotas off, which a measurement needs, and with the feed from which its shims read their inbox."""
    with installed("synapse", SYNAPSE, place) as binaries, empty_home() as (directory, environment):
        state = directory / "syn"
        state.mkdir()
        environment["SYN_HOME"] = str(state)
        port = free_port()
        command = [str(binaries / "synapse"), "hub", "--port", str(port), "--db", str(directory / "hub.db")]
        command += ["--rate", "0", "--host-rate", "0", "--no-durable-ingress-quota", "--log-level", "ERROR"]
        command += ["--relay-log", str(state / "feed.ndjson"), "--max-clients", "200"]
        command += ["--max-connections-per-host", "0"]
        begun = time.perf_counter()
        with process(command, environment, directory) as server:
            wait_for_port(port, server)
            started = (time.perf_counter() - begun) * 1000
            yield Hub(port, server.pid, started, binaries, directory, environment)


@contextmanager
def synapse_windows(place: Path | None) -> Iterator[Spawn]:
    """Windows that are each a synapse shim, on one hub."""
    with synapse_hub(place) as hub:
        numbers = iter(range(1_000_000))
        yield lambda: hub.window(f"w{next(numbers)}")


class Mail:
    """A running mcp-agent-mail server with one project, called over HTTP as its documents say."""

    def __init__(self, port: int, pid: int, started_ms: float, project: str) -> None:
        self.pid = pid
        self.started_ms = started_ms
        self._url = f"http://127.0.0.1:{port}/mcp/"
        self._project = project

    def call(self, tool: str, **given: Any) -> Any:
        """Make one tool call and give its structured content. Raises `RuntimeError` when the tool failed."""
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": given},
        }
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=common.PATIENCE_S) as answer:
            text = answer.read().decode()
        data = next((line[5:] for line in text.splitlines() if line.startswith("data:")), text)
        result = json.loads(data)["result"]
        if result.get("isError"):
            raise RuntimeError(str(result["content"])[:300])
        return result.get("structuredContent", {})

    def register(self) -> str:
        """Make a new agent. Gives the name that it got."""
        found = self.call("register_agent", project_key=self._project, program="benchmark", model="none")
        name: str = found.get("name") or found["result"]["name"]
        return name

    def send(self, sender: str, to: str) -> None:
        """Send one message."""
        words = {"subject": "bench", "body_md": common.TEXT}
        self.call("send_message", project_key=self._project, sender_name=sender, to=[to], **words)

    def send_and_fetch(self, sender: str, to: str) -> None:
        """Send one message, and fetch the newest message of the inbox that it went to."""
        self.send(sender, to)
        self.call("fetch_inbox", project_key=self._project, agent_name=to, limit=1, include_bodies=True)


@contextmanager
def agent_mail(place: Path | None) -> Iterator[Mail]:
    """The server of mcp-agent-mail, with everything off that would use the internet."""
    with installed("agent-mail", AGENT_MAIL, place) as binaries, empty_home() as (directory, environment):
        environment |= {
            "DATABASE_URL": f"sqlite+aiosqlite:///{directory}/mail.db",
            "STORAGE_ROOT": str(directory / "store"),
            "LLM_ENABLED": "false",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "CONTACT_ENFORCEMENT_ENABLED": "false",
            "HTTP_RATE_LIMIT_ENABLED": "false",
            "HTTP_RBAC_ENABLED": "false",
            "TOOLS_LOG_ENABLED": "false",
            "LOG_RICH_ENABLED": "false",
        }
        port = free_port()
        command = [str(binaries / "python"), "-m", "mcp_agent_mail.cli", "serve-http"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        begun = time.perf_counter()
        with process(command, environment, directory) as server:
            wait_for_port(port, server)
            started = (time.perf_counter() - begun) * 1000
            project = directory / "project"
            project.mkdir()
            mail = Mail(port, server.pid, started, str(project))
            mail.call("ensure_project", human_key=str(project))
            yield mail


class Hcom(NamedTuple):
    """hcom, which has no server: every call is a command."""

    command: str
    directory: Path
    environment: dict[str, str]

    def run(self, *words: str) -> str:
        """What a command printed."""
        return subprocess.run(
            [self.command, *words],
            check=True,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=common.PATIENCE_S,
        ).stdout

    def start(self) -> str:
        """A new agent; the name it was given."""
        return self.run("start").split("]", 1)[0].removeprefix("[hcom:")

    def listen(self, name: str, seconds: int) -> subprocess.Popen[bytes]:
        """A command that waits for a message."""
        return subprocess.Popen(
            [self.command, "listen", str(seconds), "--name", name, "--json"],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def hcom(place: Path | None) -> Iterator[Hcom]:
    """The command of hcom, in an empty HOME."""
    with installed("hcom", HCOM, place) as binaries, empty_home() as (directory, environment):
        environment["HCOM_DIR"] = str(directory / "hcom")
        yield Hcom(str(binaries / "hcom"), directory, environment)


# -- the comparisons -------------------------------------------------------------------------------------------


@contextmanager
def tried(report: common.Report, who: str) -> Iterator[None]:
    """Leave a peer out that fails inside the block, with the reason, and go on with the benchmark."""
    try:
        yield
    except PROBLEMS as problem:
        report.leave_out(who, f"{type(problem).__name__}: {problem}"[:300])


def windows(report: common.Report, place: Path | None, measure: Callable[[Spawn, str], None]) -> None:
    """Measure, with `measure`, every peer that has a process per window."""
    with tried(report, SDK), sdk_windows() as spawn:
        measure(spawn, SDK)
    with tried(report, SYNAPSE), synapse_windows(place) as spawn:
        measure(spawn, SYNAPSE)
    report.leave_out(AGENT_MAIL, "it has no process per window: hosts talk HTTP to its server")
    report.leave_out(HCOM, "it has no MCP server: agents run its commands")


def daemons(report: common.Report, place: Path | None, up: str, resident: str, count: int) -> None:
    """Measure start and memory. Where there is a process per window, the memory is of all processes together."""
    with tried(report, SYNAPSE), synapse_hub(place) as hub, ExitStack() as stack:
        report.add(common.Figure(up, "ms", hub.started_ms, 1, who=SYNAPSE, note="to its open port"))
        shims = [stack.enter_context(hub.window(f"w{number}")) for number in range(count)]
        for shim in shims:
            shim.handshake()
            shim.tools()
        total = sum(common.memory(pid)["resident"] for pid in (hub.pid, *(shim.process.pid for shim in shims)))
        report.add(common.Figure(resident, "MB", total, 1, who=SYNAPSE, note="the hub and a process per window"))
    with tried(report, SDK), sdk_windows() as spawn, ExitStack() as stack:
        servers = [stack.enter_context(spawn()) for _ in range(count)]
        for server in servers:
            server.handshake()
            server.tools()
        total = sum(common.memory(server.process.pid)["resident"] for server in servers)
        report.add(common.Figure(resident, "MB", total, 1, who=SDK, note="a process per window, no daemon"))
    with tried(report, AGENT_MAIL), agent_mail(place) as mail:
        report.add(common.Figure(up, "ms", mail.started_ms, 1, who=AGENT_MAIL, note="to its open port"))
        size = common.memory(mail.pid)["resident"]
        report.add(common.Figure(resident, "MB", size, 1, who=AGENT_MAIL, note="the server; hosts talk HTTP to it"))
    report.leave_out(HCOM, "it has no daemon")


def wakes(report: common.Report, place: Path | None, shims: str, pushes: Mapping[str, float], rounds: int) -> None:
    """Measure how long a message from one agent to another takes until the peer can tell that it is there. `pushes`
    has, for each figure, the pause before each message in seconds."""
    with tried(report, SYNAPSE), synapse_hub(place) as hub:
        with hub.window("a") as sender, hub.window("b") as reader:
            for window in (sender, reader):
                window.handshake()
            found = [_synapse_round(sender, reader, number) for number in range(rounds // 3)]
        note = "it has no waiting read: the inbox is asked again and again without a pause"
        report.add(common.spread(shims, "ms", found[5:], quoted=QUOTED_WAKE_MS, who=SYNAPSE, note=note))
        note = "its own client library, stored at synchronous=NORMAL"
        for push, pause_s in pushes.items():
            measured = _synapse_load(hub, senders=1, seconds=0, rounds=rounds, pause_s=pause_s)
            quoted = None if pause_s else QUOTED_PUSH_MS
            report.add(common.spread(push, "ms", measured["latencies_ms"], quoted=quoted, who=SYNAPSE, note=note))
    with tried(report, AGENT_MAIL), agent_mail(place) as mail:
        ann, ben = mail.register(), mail.register()
        times = [common.milliseconds(lambda: mail.send_and_fetch(ann, ben)) for _ in range(MAIL_MESSAGES + 2)]
        note = "pull only: a send and one fetch of the inbox right after it"
        report.add(common.spread(shims, "ms", times[2:], who=AGENT_MAIL, note=note))
    with tried(report, HCOM), hcom(place) as commands:
        ann, ben = commands.start(), commands.start()
        found = [_hcom_round(commands, ann, ben) for _ in range(COMMANDS)]
        note = "a command that waits and a command that sends, each a process"
        report.add(common.spread(shims, "ms", found, who=HCOM, note=note))


def sends(report: common.Report, place: Path | None, names: dict[int, str], seconds: int) -> None:
    """Measure messages a second, by the number of senders."""
    with tried(report, SYNAPSE), synapse_hub(place) as hub:
        for senders, name in names.items():
            measured = _synapse_load(hub, senders=senders, seconds=seconds, rounds=0)
            note = "its own client library, stored at synchronous=NORMAL; counted until the last has arrived"
            rate = round(measured["rate"], 1)
            report.add(common.Figure(name, "/s", rate, 1, quoted=QUOTED_SENDS, who=SYNAPSE, note=note))
    with tried(report, AGENT_MAIL), agent_mail(place) as mail:
        to = mail.register()
        for senders, name in names.items():
            if senders > 10:
                continue  # mcp-agent-mail stalls at ten senders
            froms = [mail.register() for _ in range(senders)]
            begun = time.perf_counter()
            with ThreadPoolExecutor(senders) as pool:
                list(pool.map(lambda sender: mail.send(sender, to), froms * (MAIL_MESSAGES // senders)))
            rate = MAIL_MESSAGES / (time.perf_counter() - begun)
            note = "a git commit for each message"
            report.add(common.Figure(name, "/s", round(rate, 2), 1, who=AGENT_MAIL, note=note))
    with tried(report, HCOM), hcom(place) as commands:
        ann, ben = commands.start(), commands.start()
        begun = time.perf_counter()
        for _ in range(COMMANDS * 5):
            commands.run("send", "--name", ann, f"@{ben}", "--quiet", "--", common.TEXT)
        rate = COMMANDS * 5 / (time.perf_counter() - begun)
        note = "a process for each message"
        report.add(common.Figure(names[min(names)], "/s", round(rate, 1), 1, who=HCOM, note=note))


def commands(report: common.Report, place: Path | None, version: str, send: str, recv: str, runs: int) -> None:
    """Measure one-shot commands."""
    with tried(report, HCOM), hcom(place) as tool:
        ann, ben = tool.start(), tool.start()
        report.add(common.spread(version, "ms", _each(runs, lambda: tool.run("--version")), who=HCOM))
        words = ("send", "--name", ann, f"@{ben}", "--quiet", "--", common.TEXT)
        report.add(common.spread(send, "ms", _each(runs, lambda: tool.run(*words)), who=HCOM))
        read = _each(runs, lambda: tool.run("list", "--json"))
        report.add(common.spread(recv, "ms", read, who=HCOM, note="hcom list: a read that waits for nothing"))
    with tried(report, SYNAPSE), synapse_hub(place) as hub:
        command = str(hub.binaries / "synapse")

        def run(*words: str) -> None:
            subprocess.run(
                [command, *words], check=True, env=hub.environment, cwd=hub.directory, stdout=subprocess.DEVNULL
            )

        few = max(3, runs // 5)
        report.add(common.spread(version, "ms", _each(few, lambda: run("--version")), who=SYNAPSE))
        uri = f"ws://127.0.0.1:{hub.port}"
        who = _each(few, lambda: run("who", "--uri", uri))
        report.add(common.spread(recv, "ms", who, who=SYNAPSE, note="synapse who: a read that waits for nothing"))


def _each(runs: int, act: Callable[[], object]) -> list[float]:
    act()
    return [common.milliseconds(act) for _ in range(runs)]


def _synapse_round(sender: common.RawWindow, reader: common.RawWindow, number: int) -> float:
    text = f"{number} {common.TEXT}"
    begun = time.perf_counter()
    sender.call("synapse_send", target="bench/b", message=text)
    while text not in reader.call("synapse_inbox"):
        if time.perf_counter() - begun > START_S:
            raise RuntimeError("its message did not arrive")
    return (time.perf_counter() - begun) * 1000


def _synapse_load(hub: Hub, *, senders: int, seconds: int, rounds: int, pause_s: float = 0.0) -> Any:
    """What the load with synapse-channel's own client library measured: latencies of one message at a time, or a
    rate."""
    command = [str(hub.binaries / "python"), str(HERE / "peer_synapse_load.py"), str(hub.port)]
    command += [str(senders), str(seconds), str(rounds), str(pause_s), common.TEXT]
    ran = subprocess.run(
        command,
        check=True,
        env=hub.environment,
        cwd=hub.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=common.PATIENCE_S,
    )
    return json.loads(ran.stdout)


def _hcom_round(tool: Hcom, sender: str, reader: str) -> float:
    """How many milliseconds pass from the start of a send to the first word of the command that waits."""
    # Earlier messages are taken first, and the listener gets time to begin its wait.
    tool.run("listen", "1", "--name", reader, "--json")
    with tool.listen(reader, 10) as listener:
        assert listener.stdout is not None
        time.sleep(0.25)
        begun = time.perf_counter()
        tool.run("send", "--name", sender, f"@{reader}", "--quiet", "--", common.TEXT)
        ready, _, _ = select.select([listener.stdout], [], [], START_S)
        woken = (time.perf_counter() - begun) * 1000
        listener.kill()
    if not ready:
        raise RuntimeError("the one who waited was not woken")
    return woken
