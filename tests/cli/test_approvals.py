"""The approvals command: what it lists, how keys are read, how a decision is made, and how it looks."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from parlerd.cli.approvals import Verdict, decide, keys_of, row_of
from parlerd.cli.approvals_model import QUIET_MS, Approve, Deny, Screen, pressed, shown
from parlerd.cli.approvals_view import keys_that_act, view
from parlerd.cli.context import Context
from parlerd.cli.output import Output
from parlerd.core.errors import ParlerError
from parlerd.core.model import PeerText
from parlerd.operations import types as t
from parlerd.paths import Home
from tests.support.answers import BOB, ROOM, request
from tests.support.cli import Shell
from tests.support.fake_client import FakeDaemon


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize("flags", [["--once", "--json"], ["--json"]])
def test_json_lists_what_waits(shell: Shell, flags: list[str]) -> None:
    shell.daemon.answers("approvals.list", t.RequestList(room=None, requests=[request()]))
    ran = shell.run("approvals", *flags)
    assert ran.code == 0
    assert ran.document["requests"][0]["agent"] == BOB
    assert ran.document["requests"][0]["room"] == ROOM


def test_off_a_terminal_it_lists_and_returns(shell: Shell) -> None:
    shell.daemon.answers("approvals.list", t.RequestList(room=None, requests=[]))
    ran = shell.run("approvals")
    assert ran.code == 0
    assert ran.stdout == "Nobody is waiting.\n"


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"a", ["a"]),
        (b"\x1b[A\x1b[B", ["up", "down"]),
        (b"\x1bOA", ["up"]),
        (b"\x1b[5~\x1b[6~j", ["pageup", "pagedown", "j"]),
        (b"\x1b[H\x1b[F\x1b[1~\x1b[4~", ["home", "end", "home", "end"]),
        (b"\x1b", ["escape"]),
        (b"\r\n\x7f\x08", ["enter", "enter", "backspace", "backspace"]),
        (b"K7QM\r", ["K", "7", "Q", "M", "enter"]),
        (b"\x1b[200~y\r", []),
        (b"\x1bd", []),
        ("ü\x00".encode(), []),
        (b" ", []),
    ],
)
def test_terminal_bytes_become_keys_and_unknown_sequences_become_none(data: bytes, keys: list[str]) -> None:
    assert list(keys_of(data)) == keys


def context(tmp_path: Path, daemon: FakeDaemon) -> Context:
    out = Output(io.StringIO(), io.StringIO())
    return Context(out, Home(tmp_path), {}, daemon.connect, stdin=io.BytesIO())


def test_approving_acts_on_the_agent_of_the_shown_request_with_its_code(tmp_path: Path) -> None:
    daemon = FakeDaemon().answers(
        "session.approve", t.Decided(room=ROOM, agent=BOB, status="approved", proof="terminal")
    )
    done = decide(context(tmp_path, daemon), Approve(row_of(request()), "K7QM"))
    assert done.good
    assert done.note == "Approved ABCD-EFGH-IJKL: codex@repo is now in 'auth-redesign'."
    assert daemon.params_of("session.approve") == [t.DecideJoin(agent=BOB, room=ROOM, join_code="K7QM", terminal=True)]


def test_letting_somebody_write_directly_sends_no_code_and_says_to_whom(tmp_path: Path) -> None:
    decided = t.Decided(room=ROOM, agent=BOB, status="approved", proof="cli", direct_to="ben")
    daemon = FakeDaemon().answers("session.approve", decided)
    done = decide(context(tmp_path, daemon), Approve(row_of(request("ann", direct_to="ben")), ""))
    assert (done.good, done.note) == (True, "Approved ABCD-EFGH-IJKL: ann may write to ben.")
    assert daemon.params_of("session.approve") == [t.DecideJoin(agent=BOB, room=ROOM, terminal=True)]
    screen, _ = pressed(shown(Screen(), (row_of(request("ann", direct_to="ben")),), 0), "a", QUIET_MS)
    text = drawn(screen)
    assert "Let this agent write to ben?" in text
    assert "y lets it write" in text
    assert "code:" not in text


def test_a_refused_decision_becomes_a_note_and_not_a_crash(tmp_path: Path) -> None:
    daemon = FakeDaemon().answers("session.approve", ParlerError("code_mismatch"))
    done = decide(context(tmp_path, daemon), Approve(row_of(request()), "AAAA"))
    assert not done.good
    assert done.again
    assert "not the code" in done.note


def test_denying_a_queue_denies_each(tmp_path: Path) -> None:
    daemon = FakeDaemon().answers("session.deny", t.Decided(room=ROOM, agent=BOB, status="denied", proof="cli"))
    rows = (row_of(request("a", agent="U1")), row_of(request("b", agent="U2")))
    assert decide(context(tmp_path, daemon), Deny(rows)) == Verdict("Denied 2.", True)
    assert [params.agent for params in daemon.params_of("session.deny") if isinstance(params, t.DecideJoin)] == [
        "U1",
        "U2",
    ]


def drawn(screen: Screen, *, lost: bool = False, width: int = 80, height: int = 24) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=True, color_system="truecolor", legacy_windows=False
    )
    console.print(view(screen, 1_700_000_060.0, height, width, lost=lost))
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def test_the_screen_shows_who_knocks_as_a_claim() -> None:
    text = drawn(shown(Screen(), (row_of(request("admin")),), 0))
    for part in ("says it is", "admin", "codex", "ABCD-EFGH-IJKL", BOB, "auth-redesign", "1 minute"):
        assert part in text


def test_the_screen_and_the_list_show_what_a_room_is_about_where_its_name_cannot(shell: Shell) -> None:
    named = request(room_name="session", topic=PeerText("авторизация"))
    text = drawn(pressed(shown(Screen(), (row_of(named),), 0), "j", QUIET_MS)[0])
    assert "session авт" in text
    assert "авторизация" in text.partition("who knocks")[2]
    shell.daemon.answers("approvals.list", t.RequestList(room=None, requests=[named]))
    assert "about авторизация" in shell.run("approvals").stdout
    plain = request(room_name="auth-redesign", topic=PeerText("auth redesign"))
    assert "auth-redesign auth redesign" not in drawn(shown(Screen(), (row_of(plain),), 0))


def test_the_screen_that_asks_for_a_code_says_where_to_read_it() -> None:
    asked, _ = pressed(shown(Screen(), (row_of(request()),), 0), "a", QUIET_MS)
    text = drawn(asked)
    assert "Read them there yourself" in text
    assert "sealed" not in text


def test_the_screen_draws_nothing_that_a_name_brings_along() -> None:
    nasty = "\x1b]52;c;x\x07\x1b[2K\u202e[blink]"
    waiting = request(nasty, host=nasty, room_name=nasty, fingerprint=nasty, home=nasty, agent=nasty, room=nasty)
    screen = shown(Screen(), (row_of(waiting),), 0)
    for key in ("", "a", "d", "D"):
        opened = pressed(screen, key, QUIET_MS)[0] if key else screen
        text = drawn(opened)
        assert "\x1b]" not in text
        assert "\x1b[2K" not in text
        assert "\u202e" not in text
        assert "\x1b[5m" not in text


@pytest.mark.parametrize(("width", "height"), [(60, 15), (60, 12), (80, 10), (80, 18)])
@pytest.mark.parametrize(("keys", "act"), [("", "q quit"), ("a", "Esc goes back"), ("d", "y denies")])
def test_a_pane_of_a_few_lines_shows_who_knocks_and_the_keys_that_decide(
    width: int, height: int, keys: str, act: str
) -> None:
    screen = shown(Screen(), tuple(row_of(request(f"agent-{n}", agent=f"UB{n}")) for n in range(9)), 0)
    for key in keys:
        screen, _ = pressed(screen, key, QUIET_MS)
    lines = plain(drawn(screen, width=width, height=height))
    assert len(lines) <= height
    assert any(act in line for line in lines)
    assert any("says it is" in line and "agent-0" in line for line in lines)


def test_no_colour_of_the_screen_is_both_light_and_bold() -> None:
    screen = shown(Screen(), (row_of(request()), row_of(request("carol", agent="UB"))), 0)
    coloured = set()
    for keys in ("a7", "/c", "d"):
        opened = screen
        for key in keys:
            opened, _ = pressed(opened, key, QUIET_MS)
        for codes in re.findall(r"\x1b\[([0-9;]+)m", drawn(opened)):
            each = set(codes.split(";"))
            coloured |= each & {"31", "32"}
            assert not ("1" in each and each & {"32", "33", "36"})
    assert coloured == {"31", "32"}


def test_a_lost_connection_shows() -> None:
    assert "went away" in drawn(Screen(), lost=True)


LONG = "claude-code@the-checkout-of-the-web-shop-on-the-laptop-of-a-friend"
"""As long as a name can be."""


def plain(text: str) -> list[str]:
    """The lines of a drawing, without its colours."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]


def crowd(count: int, **more: Any) -> Screen:
    return shown(Screen(), tuple(row_of(request(f"agent-{n:03}", agent=f"U{n}", **more)) for n in range(count)), 0)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (100, 30)])
@pytest.mark.parametrize("keys", ["", "a", "ak7", "d", "D", "/", "/agent"])
def test_hundreds_of_requests_fit_every_screen_in_every_mode(width: int, height: int, keys: str) -> None:
    screen = crowd(300, room_name=LONG[:64])
    for key in keys:
        screen, _ = pressed(screen, key, QUIET_MS)
    lines = plain(drawn(screen, width=width, height=height))
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert len(lines) > height - 5


@pytest.mark.parametrize("keys", ["", "a", "d"])
def test_nothing_that_a_decision_needs_is_cut_at_80_columns(keys: str) -> None:
    screen = shown(Screen(), tuple(row_of(request(name, room_name=LONG[:64])) for name in (LONG[:64], "b")), 0)
    for key in keys:
        screen, _ = pressed(screen, key, QUIET_MS)
    lines = plain(drawn(screen))
    inside = "".join(line.strip("│┃ ") for line in lines if line[:1] in "│┃")
    facts = "".join(inside.split())
    for fact in (LONG[:64], "ABCD-EFGH-IJKL", ROOM, BOB):
        assert fact in facts
    listed = next(line for line in lines if line.startswith("▶"))
    assert "ABCD-EFGH-IJKL" in listed
    assert listed.endswith("1 minute")
    assert len([line for line in lines if "ABCD-EFGH-IJKL" in line]) == 3


def test_the_bar_over_the_selected_request_has_no_gap() -> None:
    lines = drawn(crowd(3)).splitlines()
    (bar,) = [line for line in lines if "▶" in line]
    found = re.fullmatch(r"\x1b\[1;7m([^\x1b]*)\x1b\[0m", bar)
    assert found is not None
    assert len(found[1]) == 80


def test_the_footer_offers_the_keys_that_act_now_and_no_other() -> None:
    screen = shown(Screen(), (row_of(request("a")),), 0)
    assert keys_that_act(Screen()) == ["q quit"]
    assert keys_that_act(screen) == ["a approve", "d deny", "q quit"]
    asked, _ = pressed(screen, "a", QUIET_MS)
    assert keys_that_act(asked) == ["Esc goes back"]
    for key in "k7qm":
        asked, _ = pressed(asked, key, QUIET_MS)
    assert keys_that_act(asked) == ["Enter lets it in", "Backspace", "Esc goes back"]
    asked, _ = pressed(asked, "enter", QUIET_MS)
    assert keys_that_act(asked) == ["asking the daemon"]
    many = crowd(3)
    assert {"D deny all 3 with its key", "/ filter"} <= set(keys_that_act(many))
    none = many
    for key in ("/", "z", "enter"):
        none, _ = pressed(none, key, QUIET_MS)
    assert keys_that_act(none) == ["/ filter", "Esc shows all", "q quit"]
    assert "None of those who wait has that" in drawn(none)


def test_a_long_list_says_which_part_of_it_is_shown() -> None:
    screen = crowd(200)
    for _ in range(5):
        screen, _decision = pressed(screen, "pagedown", QUIET_MS)
    lines = plain(drawn(screen))
    assert any(re.fullmatch(r"  \d+ to \d+ of 200", line) for line in lines)
    assert any(line.startswith("▶ agent-050") for line in lines)


def test_a_terminal_that_cannot_draw_gets_the_plain_list(shell: Shell) -> None:
    shell.daemon.answers("approvals.list", t.RequestList(room=None, requests=[request("bob")]))
    ran = shell.run("approvals", terminal=True, env={"TERM": "dumb"})
    assert ran.code == 0
    assert ran.stdout.startswith("bob (says: codex) wants to join")
    assert "\x1b" not in ran.stdout


PROGRAM = """
    import io, sys
    from parlerd.cli.main import main
    from parlerd.cli.output import Output
    from parlerd.operations import types as t
    from tests.support.answers import request, BOB, ROOM
    from tests.support.fake_client import FakeDaemon
    daemon = FakeDaemon()
    for _ in range(100):
        daemon.streams("approvals.watch", t.RequestList(room=None, requests=[request("knocker")]))
    def approve(params):
        print("APPROVED", params.agent, params.join_code, params.terminal, file=open(sys.argv[1], "w"))
        return t.Decided(room=ROOM, agent=BOB, status="approved", proof="terminal")
    daemon.answers("session.approve", approve)
    out = Output(sys.stdout, sys.stderr)
    sys.exit(main(["approvals"], out=out, env={"HOME": "/nowhere"}, open_client=daemon.connect))
"""


class RealTerminal:
    """The screen in a process of its own, on a pseudo terminal."""

    def __init__(self, tmp_path: Path) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "made")],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={"HOME": str(tmp_path), "TERM": "xterm", "PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
        )

    def __enter__(self) -> RealTerminal:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def shows(self, wanted: str, *, within_s: float = 60.0) -> bool:
        """Whether `wanted` comes up from here on."""
        limit, fresh = time.monotonic() + within_s, ""
        while wanted not in fresh and (left := limit - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                fresh += os.read(self.master, 65536).decode(errors="replace")
        self.seen += fresh
        return wanted in fresh

    def press_until(self, keys: bytes, wanted: str) -> None:
        """Press keys again until they are heard: for half a second after the list changed they are not."""
        for _ in range(100):
            self.press(keys)
            if self.shows(wanted, within_s=0.2):
                return
        raise AssertionError(self.seen)

    def ends(self) -> int:
        """Wait for the process; its exit code. The terminal has to be as it was."""
        assert self.shows("\x1b[?1049l"), self.seen
        code = self.process.wait(60)
        assert termios.tcgetattr(self.slave) == self.before
        return code


@pytest.mark.e2e
def test_a_person_approves_with_the_code_on_a_real_terminal_and_gets_it_back(tmp_path: Path) -> None:
    with RealTerminal(tmp_path) as terminal:
        assert terminal.shows("knocker")
        terminal.press_until(b"a", "Type the 4 characters")
        terminal.press(b"\x7f\x7f\x7f\x7fk7qm\r")
        assert terminal.shows("Approved ABCD")
        terminal.press(b"q")
        assert terminal.ends() == 0
    assert (tmp_path / "made").read_text() == f"APPROVED {BOB} K7QM True\n"


@pytest.mark.e2e
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_signal_ends_the_screen_and_the_terminal_is_put_back(tmp_path: Path, number: int, code: int) -> None:
    with RealTerminal(tmp_path) as terminal:
        assert terminal.shows("knocker")
        terminal.process.send_signal(number)
        assert terminal.ends() == code
