"""`parler board`: what it asks, prints and draws."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from parlerd.core.errors import ParlerError, Refused
from parlerd.operations import types as t
from tests.cli.test_board_view import CANARY, agent, board, entry
from tests.support.answers import ROOM
from tests.support.cli import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def stop(_params: t.Params) -> NoReturn:
    raise KeyboardInterrupt


def asked(shell: Shell) -> list[tuple[str, str | None]]:
    """After which board, and of which room, each call asked."""
    calls = shell.daemon.params_of("room.board")
    return [(each.after, each.room) for each in calls if isinstance(each, t.LookAtBoard)]


@pytest.mark.parametrize("words", [["auth"], ["--room", "auth"], ["auth", "--once"]])
def test_off_a_terminal_the_board_is_printed_once(shell: Shell, words: list[str]) -> None:
    shell.daemon.answers("room.board", board(agents=[agent()], entries=[entry()]))
    ran = shell.run("board", *words)
    assert (ran.code, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[0] == "auth  1 here · 1 message"
    assert "  turn  2  v3  bob" in ran.stdout.splitlines()
    assert shell.daemon.params_of("room.board") == [t.LookAtBoard(wait_ms=0, room="auth")]


@pytest.mark.parametrize("how", [{"env": {"TERM": "dumb"}}, {"env": {"TERM": "xterm"}}])
def test_on_a_terminal_once_is_cut_to_its_width(shell: Shell, how: dict[str, Any]) -> None:
    shell.daemon.answers("room.board", board(entries=[entry(value="x" * 300)]))
    ran = shell.run("board", "--once", terminal=True, width=60, **how)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout).splitlines()
    assert max(map(len, plain)) == 60


def test_a_room_that_is_named_twice_is_a_usage_error(shell: Shell) -> None:
    assert shell.run("board", "auth", "--room", "other").code == 2
    assert asked(shell) == []


def test_json_once_is_one_document(shell: Shell) -> None:
    shell.daemon.answers("room.board", board(entries=[entry(CANARY)]))
    found = shell.run("board", "--once", "--json").document
    assert [each["key"] for each in found["entries"]] == [CANARY]


def test_json_is_an_object_a_line_whenever_the_board_looks_otherwise(shell: Shell) -> None:
    shell.daemon.answers(
        "room.board",
        board(mark="a"),
        board(mark="a"),
        board(mark="b", entries=[entry()]),
        ParlerError("connection_lost"),
        Refused("home_unreachable", home="team"),
        board(mark="c"),
        stop,
    )
    ran = shell.run("board", "auth", "--json")
    assert ran.code == 130
    assert [each["mark"] for each in map(json.loads, ran.stdout.splitlines())] == ["a", "b", "c"]
    assert asked(shell) == [("", "auth"), ("a", ROOM), ("a", ROOM), *[("b", ROOM)] * 3, ("c", ROOM)]


def test_who_is_in_no_such_room_is_told_so(shell: Shell) -> None:
    shell.daemon.answers("room.board", Refused("no_such_room"))
    for words in ([], ["--once"], ["--json"]):
        assert shell.run("board", "auth", *words).code == 1


PROGRAM = """
    import os, sys
    from parlerd.cli.main import main
    from parlerd.cli.output import Output, wants_colour
    from parlerd.core.errors import ParlerError
    from tests.cli.test_board_view import agent, board, entry
    from tests.support.fake_client import FakeDaemon
    daemon = FakeDaemon()
    def held(params):
        os.read(GO, 1)
    def later(entry):
        def answer(params):
            os.read(GO, 1)
            return board(mark="b", agents=[agent()], entries=[entry])
        return answer
    daemon.answers("room.board", board(mark="a", agents=[agent("first-sight")]), later(entry("second-sight")))
    daemon.answers("room.board", ParlerError("connection_lost"), later(entry("third-sight")), held)
    out = Output(sys.stdout, sys.stderr, colour=wants_colour(sys.stdout, ENV))
    sys.exit(main(["board"], out=out, env=ENV, open_client=daemon.connect))
"""


@pytest.mark.e2e
@pytest.mark.parametrize("colour", [True, False])
def test_the_screen_follows_goes_on_after_a_restart_and_puts_the_terminal_back(tmp_path: Path, colour: bool) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    env = {"HOME": str(tmp_path), "TERM": "xterm", **({} if colour else {"NO_COLOR": "1"})}
    goes, go = os.pipe()
    program = textwrap.dedent(PROGRAM).replace("ENV", repr(env)).replace("GO", str(goes))
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        pass_fds=[goes],
        env={**env, "PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
    ) as process:
        try:
            seen = ""

            def shows(wanted: str) -> bool:
                nonlocal seen
                limit = time.monotonic() + 60
                while wanted not in seen and (left := limit - time.monotonic()) > 0:
                    if select.select([master], [], [], left)[0]:
                        seen += os.read(master, 65536).decode(errors="replace")
                return wanted in seen

            assert shows("first-sight"), seen
            os.write(go, b".")
            assert shows("second-sight"), seen
            assert shows("The daemon went away"), seen
            os.write(go, b".")
            assert shows("third-sight"), seen
            assert shows("q quits"), seen
            os.write(master, b"xq")
            assert shows("\x1b[?1049l"), seen
            assert process.wait(60) == 0
            assert termios.tcgetattr(slave) == before
            assert ("\x1b[36m" in seen) is colour
        finally:
            process.kill()
            for opened in (master, slave, goes, go):
                os.close(opened)
