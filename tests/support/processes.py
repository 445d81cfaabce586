"""Somebody's empty HOME with everything real in it: commands, daemons, shims, and whatever they start.

`Somebody` knows every process of its home by the home's own path, which no other test has, and ends all of them when
the test ends. Every wait is for something that happens, with a deadline far beyond it. Not here: the agent hosts' side
of a shim (`mcp_windows`).
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
import pytest

from configs.hosts import recognised
from parlerd import process
from parlerd.client import Client, connect
from parlerd.operations import types as t
from parlerd.paths import Home
from parlerd.wire.messages import HOST_PROTOCOL
from tests.support import other_release

T = TypeVar("T")
Variables = Mapping[str, str]

NONE: Final[Variables] = {}

ROOT: Final = Path(__file__).parents[2]
PARLER: Final = [
    *(sys.executable, "-c"),
    "import sys; sys.argv[0] = 'parler'; from parlerd.cli.main import entry; entry()",
]


def put_program(folder: Path) -> None:
    """Put `parler` into a folder, for whoever has the folder in its PATH."""
    program = folder / "parler"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PARLER)} "$@"\n')
    program.chmod(0o700)


PATIENCE_S: Final = 60.0
"""For anything that is going to happen. A machine that is busy for a moment is not a failure."""
_PAUSE_S: Final = 0.01
_PR_CAPBSET_DROP: Final = 24
CAP_DAC: Final = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what lets root pass over the modes of files."""
CAP_LOOKING: Final = (19, 21, 38)
"""CAP_SYS_PTRACE, CAP_SYS_ADMIN and CAP_PERFMON: what lets root look into a process that wants nobody to."""


def until(look: Callable[[], T], what: str) -> T:
    """The first true thing that `look` gives. Fails when none comes in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"in {PATIENCE_S:.0f} s there was no {what}"
        time.sleep(_PAUSE_S)
    return found


def without(capabilities: Sequence[int]) -> Callable[[], None]:
    """For `preexec_fn`: root, but held to what other users are held to. Nothing to do for anybody else."""

    def drop() -> None:
        if os.geteuid() == 0 and sys.platform == "linux":
            libc = ctypes.CDLL(None, use_errno=True)
            for capability in capabilities:
                if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
                    os._exit(96)

    return drop


def can_drop(capabilities: Sequence[int]) -> bool:
    """Whether `without` works here."""
    if sys.platform != "linux":
        return os.geteuid() != 0
    ran = subprocess.run([sys.executable, "-c", ""], preexec_fn=without(capabilities), check=False)
    return ran.returncode == 0


def decides_alone(words: Sequence[str]) -> bool:
    """Whether a command line is a person's decision without a newcomer's code."""
    lets_in = any({*command} <= set(words) for command in (("serve-http",), ("token", "mint"), ("token", "revoke")))
    return lets_in or ("approve" in words and "--code" not in words) or "--no-approval" in words or "bring" in words[:1]


def skip_where_nobody_may_decide(words: Sequence[str]) -> None:
    """Skip the test when `words` are refused wherever these tests run: below an agent host, or inside an editor."""
    if decides_alone(words):
        facts = process.surroundings_of(os.getpid(), recognised())
        if facts.agent_host or facts.editor:
            pytest.skip(f"these tests run below {facts.agent_host or facts.editor}: use a terminal outside of it")


class Ran:
    """What a command did."""

    def __init__(self, words: Sequence[str], code: int, stdout: str, stderr: str) -> None:
        self.words = words
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    def __repr__(self) -> str:
        return f"{' '.join(self.words)}: {self.code}\n{self.stdout}\n{self.stderr}"

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        assert self.stdout.count("\n") == 1, self
        return json.loads(self.stdout)

    @property
    def error(self) -> dict[str, Any]:
        """The error in the document, with the shape that every error has."""
        error: dict[str, Any] = self.document["error"]
        assert {"code", "message", "action", "retryable"} <= set(error), self
        return error


class Somebody:
    """A person with an empty HOME and a home in it. Nothing of the environment of the tests reaches what they run."""

    def __init__(self, user: Path, home: Home) -> None:
        self.user = user
        self.home = home
        self.children: list[subprocess.Popen[Any]] = []
        self.machine: list[str] = []
        """What stands in front of every command line, where this person has a machine of their own (`machines`)."""
        self.program: Sequence[str] = PARLER
        """The release of `parler` that this person has installed."""

    # -- what a person does ------------------------------------------------------------------------------------

    def environment(self, **more: str) -> dict[str, str]:
        """HOME, PATH, where the code is, and what is given."""
        usual = {"HOME": str(self.user), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
        named = {} if self.home.root == self.user / ".parler" else {"PARLER_HOME": str(self.home.root)}
        return {**usual, **named, **more}

    def starts(
        self,
        *words: str,
        preexec: Callable[[], None] | None = None,
        program: Sequence[str] | None = None,
        variables: Variables = NONE,
    ) -> subprocess.Popen[str]:
        """Begin a command."""
        skip_where_nobody_may_decide([] if variables else words)
        child = subprocess.Popen(
            [*self.machine, *(self.program if program is None else program), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(**variables),
            preexec_fn=preexec,
        )
        self.children.append(child)
        return child

    def ends(self, child: subprocess.Popen[str], expect: int | None = 0) -> Ran:
        """What a command did, when it has."""
        stdout, stderr = child.communicate(timeout=2 * PATIENCE_S)
        assert isinstance(child.args, list)
        ran = Ran(
            [str(word) for word in child.args[len(self.machine) + len(PARLER) :]], child.returncode, stdout, stderr
        )
        assert expect is None or ran.code == expect, ran
        return ran

    def runs(
        self,
        *words: str,
        expect: int | None = 0,
        preexec: Callable[[], None] | None = None,
        program: Sequence[str] | None = None,
        variables: Variables = NONE,
    ) -> Ran:
        """Run `parler` with these words."""
        return self.ends(self.starts(*words, preexec=preexec, program=program, variables=variables), expect)

    def asks(
        self,
        *words: str,
        expect: int | None = 0,
        preexec: Callable[[], None] | None = None,
        variables: Variables = NONE,
    ) -> Any:
        """The same with `--json`: the document."""
        return self.runs(*words, "--json", expect=expect, preexec=preexec, variables=variables).document

    def fails(
        self,
        *words: str,
        code: str,
        expect: int = 1,
        preexec: Callable[[], None] | None = None,
        variables: Variables = NONE,
    ) -> dict[str, Any]:
        """A command that is refused with `code`: the error. The same is said to a person in a plain sentence."""
        ran = self.runs(*words, "--json", expect=expect, preexec=preexec, variables=variables)
        error = ran.error
        assert error["code"] == code, ran
        assert "Traceback" not in ran.stdout + ran.stderr
        assert " " in error["message"], "a sentence"
        return error

    def trusts_everyone(self) -> None:
        """Say in the settings that new sessions ask nobody before they let an agent in. Before the daemon starts."""
        self.home.root.mkdir(mode=0o700, exist_ok=True)
        self.home.settings.write_text("[approval]\ndefault = false\n")
        self.home.settings.chmod(0o600)

    # -- a client in this process --------------------------------------------------------------------------------

    def client(self, name: str = "", *, start: bool = True) -> Client:
        """A connection of the real client library."""
        return connect(self.home, as_name=name, start=start)

    def opens(
        self, name: str = "alice", topic: str = "auth", context: str = "the recap", *, clear: bool = False
    ) -> t.OpenedSession:
        """A session that `name` opens."""
        with self.client(name) as client:
            opened = client.call("session.open", t.OpenSession(topic=topic, context=context, clear=clear))
        assert isinstance(opened, t.OpenedSession)
        return opened

    def enters(self, key: str | None, name: str) -> None:
        """`name` joins a session that asks nobody, and has read what it came up with."""
        assert key is not None
        with self.client(name) as client:
            joined = client.call("session.join", t.JoinSession(session_key=key))
            assert isinstance(joined, t.JoinedSession)
            assert joined.status == "joined"
            client.call("message.commit", t.Commit(room=joined.room, cursor=joined.cursor))

    def sends(self, name: str, text: str, **more: Any) -> t.Sent:
        with self.client(name) as client:
            sent = client.call("message.send", t.Send(text=text, **more))
        assert isinstance(sent, t.Sent)
        return sent

    def reads(self, name: str, room: str | None = None) -> list[t.Message]:
        """All that `name` may see, from the beginning, page by page. It acknowledges nothing."""
        found: list[t.Message] = []
        with self.client(name) as client:
            while True:
                since = found[-1].seq if found else 0
                page = client.call("message.recv", t.Recv(room=room, since=since, limit=200))
                assert isinstance(page, t.Received)
                found += page.messages
                if not page.more:
                    return found

    # -- daemons and other processes -----------------------------------------------------------------------------

    def daemon(
        self,
        *,
        release: tuple[str, int] | tuple[str, int, int] | None = None,
        preexec: Callable[[], None] | None = None,
    ) -> subprocess.Popen[str]:
        """A daemon that is a child of this process, when it answers. `release`: the version and
        protocols it claims."""
        words = ["--home", str(self.home.root)]
        if release is None:
            program = [sys.executable, "-I", "-m", "_parler", "parlerd"]
        else:
            program = [*other(*release), "parlerd"]
        child = self.starts(*words, program=program, preexec=preexec)

        def answers() -> bool:
            assert child.poll() is None, self.ends(child, None)
            return self.listens()

        until(answers, "daemon that listens")
        return child

    def listens(self) -> bool:
        """Whether a daemon accepts connections."""
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PATIENCE_S)
            try:
                probe.connect(self.home.endpoint.read_text().strip())
            except OSError:
                return False
            return True

    def status(self) -> t.DaemonInfo:
        with self.client(start=False) as client:
            info = client.call("daemon.status", t.DaemonStatus())
        assert isinstance(info, t.DaemonInfo)
        return info

    def kills_daemon(self) -> int:
        """SIGKILL for the daemon that serves; its pid, when it is gone."""
        pid = self.status().pid
        kill(pid)
        return pid

    def leaves_one_file(self) -> None:
        """Kill the daemon and move its log of changes into the database: what an orderly end leaves, but sooner."""
        self.kills_daemon()
        with contextlib.closing(sqlite3.connect(self.home.database)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def stops(self) -> None:
        """End the daemon in order, and wait until it has."""
        with self.client(start=False) as client:
            stopping = client.call("daemon.stop", t.StopDaemon())
        assert isinstance(stopping, t.Stopping)
        until(lambda: not process.is_alive(stopping.pid), "end of the daemon")

    def processes(self, word: str = "") -> dict[int, list[str]]:
        """The living processes whose command line names a path in this HOME, and `word`: pid and command line."""
        found = {pid: words for pid, words in command_lines() if any(str(self.user) in one for one in words)}
        return {pid: words for pid, words in found.items() if any(word in one for one in words)}

    def daemons(self) -> list[int]:
        """The pids of the daemons of this home."""
        return [pid for pid, words in self.processes("parlerd").items() if str(self.home.root) in words]

    def shims(self, host: str) -> list[int]:
        """The pids of the shims that were started for `host`."""
        return [pid for pid, words in self.processes("shim.py").items() if host in words]

    def log(self) -> str:
        """What the daemons logged."""
        return self.home.log.read_text(errors="replace") if self.home.log.exists() else ""

    def end(self) -> None:
        """End everything, and wait until it has."""
        for pid in self.processes():
            kill(pid)
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait(PATIENCE_S)
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
        fallback = self.home.socket.parent
        if fallback != self.home.run:
            shutil.rmtree(fallback, ignore_errors=True)


def other(version: str, protocol: int, host_protocol: int = HOST_PROTOCOL) -> list[str]:
    """The start of a command line of another release."""
    return [sys.executable, "-I", str(other_release.__file__), version, str(protocol), str(host_protocol)]


def kill(pid: int) -> None:
    """SIGKILL, and wait for the end. A child of this process is collected."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not process.is_alive(pid), f"end of process {pid}")


@contextlib.contextmanager
def somebody(patch: pytest.MonkeyPatch, where: str = ".parler", base: str = "") -> Iterator[Somebody]:
    """Somebody with an empty HOME whose path is short, as one for a socket has to be. `where` is the home, in it."""
    user = Path(tempfile.mkdtemp(prefix="parler-e2e-", dir=base or None))
    for name in list(os.environ):
        if name.startswith("PARLER_"):
            patch.delenv(name)
    patch.setenv("HOME", str(user))
    one = Somebody(user, Home(user / where, explicit=True))
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(user, ignore_errors=True)


def command_lines() -> Iterator[tuple[int, list[str]]]:
    if sys.platform == "linux":
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                data = Path("/proc", name, "cmdline").read_bytes()
                if process.is_alive(int(name)):
                    yield int(name), [os.fsdecode(word) for word in data.split(b"\0")]
    else:
        listed = subprocess.run(["ps", "-axo", "pid=,args="], capture_output=True, text=True, check=True)
        for line in listed.stdout.splitlines():
            pid, *words = line.split()
            if int(pid) != os.getpid():
                yield int(pid), words


def environment_of(pid: int) -> Mapping[str, str] | None:
    """The environment a process was started with; None when it does not let itself be looked at."""
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        return None
    entries = (entry.partition(b"=") for entry in data.split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in entries}


def listens(pid: int) -> set[tuple[str, int]]:
    """The addresses and ports at which a process can be reached over a network: TCP that listens, and any UDP."""
    if sys.platform != "linux":
        found = psutil.Process(pid).net_connections("inet")
        is_open = (psutil.CONN_LISTEN, psutil.CONN_NONE)
        return {(each.laddr.ip, each.laddr.port) for each in found if each.laddr and each.status in is_open}
    # What psutil says is of the network of this process, and the other one may be in another.
    opened = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            opened.add(os.readlink(each))
    ends = set()
    for table, wanted in (("tcp", "0A"), ("tcp6", "0A"), ("udp", ""), ("udp6", "")):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if f"socket:[{rest[5]}]" in opened and wanted in ("", state):
                address, port = local.split(":")
                words = [address[start : start + 8] for start in range(0, len(address), 8)]
                data = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
                ends.add((str(ipaddress.ip_address(data)), int(port, 16)))
    return ends
