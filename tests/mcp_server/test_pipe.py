"""The pipe between a host's lines and the daemon's socket, in this process: its limits, and when it ends and waits."""

from __future__ import annotations

import _socket
from pathlib import Path

import pytest

from mcp_server import static
from mcp_server.stdio import lines, link, pipe
from mcp_server.stdio.launch import Starter
from mcp_server.stdio.table import Table
from parlerd.client import link as client_link
from parlerd.core.errors import ERRORS
from parlerd.wire import codec
from parlerd.wire.frames import FIRST_FRAME_LIMIT, FRAME_LIMIT
from parlerd.wire.messages import HOST_PROTOCOL
from tests.support.shim_process import DaemonByHand

STATIC = Path(static.__file__).with_name("static.json")


def test_its_limits_fit_those_of_the_wire() -> None:
    assert pipe.PROTOCOL == HOST_PROTOCOL
    assert len(codec.encode(b"x" * lines.MAX_LINE)) <= FRAME_LIMIT
    assert pipe.HELLO_LIMIT < FIRST_FRAME_LIMIT
    assert link.MAX_FRAME == FRAME_LIMIT


# -- who started it --------------------------------------------------------------------------------------------


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who the shim's parent is, last."""
    parents = [500]
    monkeypatch.setattr("posix.getppid", lambda: parents[-1])
    return parents


def a_shim() -> pipe.Shim:
    made = pipe.Shim("/nowhere", "test", Table(str(STATIC)))
    made._lines = lines.Lines(1_000.0)
    return made


def look(shim: pipe.Shim, now: float) -> bool:
    """Whether it is done at a moment, after it did what is due then."""
    shim._lines.look_for_parent(now)
    return shim._done(now)


def test_it_ends_when_its_parent_is_gone(parent: list[int]) -> None:
    shim = a_shim()
    assert not look(shim, 1_000.0 + lines.LAUNCH_S)
    parent.append(1)
    assert look(shim, 1_000.0 + lines.LAUNCH_S + lines.PARENT_S)


def test_a_launcher_that_goes_at_once_is_no_host_that_is_gone(parent: list[int]) -> None:
    shim = a_shim()
    parent.append(77)
    assert not look(shim, 1_000.0 + lines.PARENT_S)
    assert not look(shim, 2_000.0)
    # Whoever adopted it may be the host, which can go as well.
    parent.append(1)
    assert look(shim, 2_000.0 + lines.PARENT_S)


def test_who_was_never_anybodys_child_stays(parent: list[int]) -> None:
    parent.append(1)
    shim = a_shim()
    assert not look(shim, 1_000_000.0)


def test_an_idle_shim_looks_for_its_parent_every_few_seconds_and_does_nothing_in_between(parent: list[int]) -> None:
    shim = a_shim()
    shim._link.next_try = float("inf")
    shim._tick(3_000.0)
    assert shim._timeout(3_000.0) == int(lines.PARENT_S * 1000) + 1


def test_a_socket_that_may_not_be_reached_is_not_said_to_be_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox answers EPERM, and every program of Parler says the same sentence then."""
    assert link.FORBIDDEN == client_link.FORBIDDEN

    class Caged:
        def __init__(self, *_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "endpoint").write_text("/nowhere")
    monkeypatch.setattr(_socket, "socket", Caged)
    carrier = pipe.Shim(str(tmp_path), "claude-code", Table(str(tmp_path / "none")))
    carrier._connect(0.0)
    assert carrier._link.reason == client_link.FORBIDDEN


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


class Window:
    """A shim in this process whose host calls a tool again and again, and which starts nothing."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shim = pipe.Shim(str(home), "claude-code", Table(str(STATIC)))
        self.shim._link.next_try = float("inf")
        self.starts = 0
        self._calls = 0
        monkeypatch.setattr(self.shim._starter, "start", self._start)

    def calls(self) -> None:
        """A tool is called, and what is due then happens."""
        self._calls += 1
        call = f'{{"jsonrpc":"2.0","id":{self._calls},"method":"tools/call","params":{{"name":"parler_rooms"}}}}'
        self.shim._take(call.encode())
        self.shim._tick(self.shim._clock())

    def _start(self, now: float) -> str:
        self.starts += 1
        return ""


def test_a_daemon_that_came_during_a_pause_serves_the_next_call_and_no_other_is_started(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = Window(home, monkeypatch)
    window.calls()
    assert window.starts == 1, "where nobody listens, a call starts the daemon"
    window.shim._link.next_try = float("inf")
    with DaemonByHand(home) as daemon:
        window.calls()
        assert window.shim._link.state == link.GREETING
        assert daemon.accept().hello.reconnect is False
        window.shim._lose("")
    assert window.starts == 1


def test_a_call_that_met_a_daemon_in_its_last_moment_starts_another(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = Window(home, monkeypatch)
    with DaemonByHand(home):
        window.calls()
        assert (window.shim._link.state, window.starts) == (link.GREETING, 0)
    window.shim._lose("")
    window.shim._tick(window.shim._link.next_try)
    assert window.starts == 1
    window.shim._tick(window.shim._link.next_try)
    assert window.starts == 1, "one start for a call"


LOGGED = "2026-11-28 09:00:00,123"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (f"{LOGGED} INFO parlerd.daemon: serving\n", ""),
        (f"{LOGGED} WARNING parlerd.daemon: slow disk: 9 ms\n{LOGGED} DEBUG parlerd: x\n", ""),
        ("", ""),
        ("parlerd: internal: 3 of 4 ERROR things: broke\n", "internal: 3 of 4 ERROR things: broke"),
        (
            f"parlerd: store_corrupt: The database is damaged. Run `cp a b`.\n{LOGGED} INFO parlerd: stopped\n\n",
            "store_corrupt: The database is damaged. Run `cp a b`.",
        ),
        (
            f"{LOGGED} ERROR parlerd.daemon: store_full: The disk is full.\n{LOGGED} INFO parlerd.daemon: serving\n",
            "store_full: The disk is full.",
        ),
        (
            f"{LOGGED} INFO parlerd: x\n/usr/bin/python: No module named parlerd\n",
            "/usr/bin/python: No module named parlerd",
        ),
        (
            'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nImportError: no \x1b[31mlibrary\n',
            "ImportError: no ?[31mlibrary",
        ),
    ],
    ids=[
        "information",
        "warnings",
        "nothing",
        "other words",
        "last words",
        "a logged error",
        "the interpreter",
        "a traceback",
    ],
)
def test_why_a_daemon_did_not_start_is_its_last_line_that_says_an_error(log: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "parlerd.log").write_text(log)
    assert Starter(str(tmp_path)).last_words() == reason


def test_a_lost_connection_is_said_in_the_words_of_the_table_of_errors() -> None:
    assert ERRORS["connection_lost"].message == pipe.LOST
