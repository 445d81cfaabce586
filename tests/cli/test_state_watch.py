"""`parler state watch`: what it asks, prints, and goes on after."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from parlerd.core.errors import ParlerError, Refused
from parlerd.operations import types as t
from tests.support.answers import ROOM
from tests.support.cli import Shell

CANARY = "\x1b]52;c;eA==\x07\x1b[2K\u202e\u200b[red]x[/red]"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def change(key: str = "phase", **about: Any) -> t.StateChange:
    said: dict[str, Any] = {"scope": "_shared", "change": "written", "value": 1, "version": 2, "updated_by": "bob"}
    return t.StateChange(**{"key": key, "updated_at": 0, **said, **about})


def page(cursor: str, *changes: t.StateChange, more: bool = False) -> t.StateChanges:
    return t.StateChanges(changes=[*changes], cursor=cursor, more=more, room=ROOM, name="auth")


def stop(_params: t.Params) -> NoReturn:
    raise KeyboardInterrupt


def asked(shell: Shell) -> list[str | None]:
    """From which cursor each call went on."""
    return [params.after for params in shell.daemon.params_of("state.changes") if isinstance(params, t.FollowState)]


def test_each_change_is_a_line_and_the_next_call_goes_on_from_the_cursor(shell: Shell) -> None:
    shell.daemon.answers(
        "state.changes",
        page("c1"),
        page("c2", change(value="planning"), change("plan", scope="bob", change="deleted", value=None), more=True),
        page("c3"),
        page("c4", change("fire", change="expired", value=None, updated_by="")),
        stop,
    )
    ran = shell.run("state", "watch", "--scope", "_shared", "--key", "phase", "--room", "team")
    assert ran.code == 130
    assert [line.split(" ", 2)[2] for line in ran.stdout.splitlines()] == [
        'phase is "planning", version 2, by bob.',
        "bob.plan is deleted, by bob.",
        "fire ran out.",
    ]
    assert ran.stderr == "This command follows the state of 'auth'. Ctrl-C ends the command.\n"
    assert asked(shell) == [None, "c1", "c2", "c3", "c4"]
    first = shell.daemon.params_of("state.changes")[0]
    assert first == t.FollowState(scope="_shared", key="phase", room="team", wait_ms=50_000)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"change": "enabled", "value": [1], "updated_by": ""}, "phase is there now: [1]."),
        ({"change": "enabled", "value": None, "updated_by": ""}, "phase is there now."),
        ({"value": 1, "dormant": True}, "phase is 1 once its timer has run out, version 2, by bob."),
        ({"value": 1, "enabled": "a > 1"}, "phase is 1 while a > 1, version 2, by bob."),
        ({"value": None, "expr": "1 + 1", "scope": "_view"}, "_view.phase is the view 1 + 1, version 2, by bob."),
        ({"value": None, "erased": True}, "phase had a value that is kept no more, version 2, by bob."),
    ],
)
def test_a_line_says_what_is_there_and_when(shell: Shell, about: dict[str, Any], said: str) -> None:
    shell.daemon.answers("state.changes", page("c1"), page("c2", change(**about)), stop)
    assert shell.run("state", "watch").stdout.split(" ", 2)[2] == f"{said}\n"


def test_json_is_one_change_a_line_and_nothing_else(shell: Shell) -> None:
    shell.daemon.answers("state.changes", page("c1"), page("c2", change(), change("plan", value={"a": 1})), stop)
    ran = shell.run("state", "watch", "--json")
    assert [(each["key"], each["value"], each["change"]) for each in ran.items] == [
        ("phase", 1, "written"),
        ("plan", {"a": 1}, "written"),
    ]
    assert "cursor" not in ran.stdout
    assert "follows" not in ran.stderr


def test_a_restart_of_the_daemon_loses_no_change_and_shows_none_twice(shell: Shell) -> None:
    shell.daemon.answers(
        "state.changes",
        page("c1"),
        page("c2", change(value=1)),
        ParlerError("connection_lost"),
        page("c3", change(value=2)),
        Refused("draining"),
        page("c4", change(value=3)),
        stop,
    )
    ran = shell.run("state", "watch", "--json")
    assert [each["value"] for each in ran.items] == [1, 2, 3]
    assert asked(shell) == [None, "c1", "c2", "c2", "c3", "c3", "c4"]


def test_a_home_that_cannot_be_reached_is_said_once_and_waited_for(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _s: None)
    away = Refused("home_unreachable", home="team")
    shell.daemon.answers("state.changes", page("c1"), away, away, page("c2", change()), stop)
    ran = shell.run("state", "watch")
    assert ran.stderr.count("The room's home cannot be reached. The command goes on when it can.") == 1
    assert "phase is 1" in ran.stdout
    assert asked(shell) == [None, "c1", "c1", "c1", "c2"]


def test_a_home_that_cannot_be_reached_at_first_is_an_error(shell: Shell) -> None:
    shell.daemon.answers("state.changes", Refused("home_unreachable", home="team"))
    ran = shell.run("state", "watch")
    assert ran.code not in (0, 130)
    assert asked(shell) == [None]


def test_a_log_that_was_cut_is_followed_from_its_end_and_that_is_said(shell: Shell) -> None:
    shell.daemon.answers(
        "state.changes",
        page("c1"),
        Refused("invalid_param", param="after"),
        page("d1"),
        page("d2", change()),
        stop,
    )
    ran = shell.run("state", "watch")
    assert "The room's home lost a part of its log." in ran.stderr
    assert "phase is 1" in ran.stdout
    assert asked(shell) == [None, "c1", None, "d1", "d2"]


def test_no_word_of_others_moves_the_cursor_of_the_terminal(shell: Shell) -> None:
    hostile = change(CANARY, scope=CANARY, value=CANARY, updated_by=CANARY, enabled=CANARY)
    shell.daemon.answers("state.changes", page("c1"), page("c2", hostile, change(expr=CANARY)), stop)
    ran = shell.run("state", "watch", terminal=True, env={"NO_COLOR": "1"})
    assert not {"\x1b", "\x07", "\u202e", "\u200b"} & {*ran.stdout}
    assert "[red]x[/red]" in ran.stdout


def test_json_escapes_what_a_terminal_would_obey_and_reads_back_as_it_was(shell: Shell) -> None:
    shell.daemon.answers("state.changes", page("c1"), page("c2", change(CANARY, value=[CANARY], expr=CANARY)), stop)
    ran = shell.run("state", "watch", "--json")
    assert ran.stdout.isascii()
    assert ran.stdout.replace("\n", "").isprintable()
    assert [(each["key"], each["value"], each["expr"]) for each in ran.items] == [(CANARY, [CANARY], CANARY)]
