"""view: a room, or the whole home, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from parlerd.core.errors import ERRORS, ParlerError
from parlerd.operations import types as t
from tests.support.cli import Shell

CODE = "0123-4567-89AB-CDEF"
URL = "http://127.0.0.1:8756/view"
PLAIN = {"NO_COLOR": "1"}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def info(**more: Any) -> t.WatchCodeInfo:
    said: dict[str, Any] = {
        "id": "wc_1",
        "agent": "sam",
        "as_person": True,
        "room": "r_team",
        "minted_at": 1_700_000_000_000,
        "use_by": 1_700_086_400_000,
        "expires_at": 1_700_086_400_000,
        "name": "team",
    }
    return t.WatchCodeInfo(**{**said, **more})


def opened(**more: Any) -> t.OpenedPages:
    return t.OpenedPages(url=URL, watch_code=CODE, info=info(**more))


def test_the_address_of_a_room_stands_alone_on_its_line_with_what_it_shows(shell: Shell) -> None:
    shell.daemon.answers("page.open", opened())
    for terminal in (False, True):
        ran = shell.run("view", "--room", "team", terminal=terminal, width=40, env=PLAIN)
        assert ran.code == 0
        assert f"{URL}#{CODE}" in ran.stdout.splitlines()
        said = " ".join((ran.stdout + ran.stderr).split())
        assert "A view of 'team'" in said
        assert "sees what your agents there may see, and changes nothing" in said
        assert "parler view --revoke wc_1" in said
    assert shell.daemon.params_of("page.open")[-1] == t.OpenPages(room="team")


def test_a_view_as_one_agent_says_whose_eyes_it_has(shell: Shell) -> None:
    shell.daemon.answers("page.open", opened(agent="bob", as_person=False, name=""))
    ran = shell.run("--as", "bob", "view", "--room", "team", "--port", "9000")
    assert "what bob may see there" in " ".join(ran.stderr.split())
    assert "'r_team'" in ran.stdout
    assert shell.daemon.params_of("page.open") == [t.OpenPages(room="team", port=9000)]


@pytest.mark.parametrize("json", [False, True])
def test_the_address_of_the_whole_home_is_printed_on_a_terminal_alone(shell: Shell, json: bool) -> None:
    shell.daemon.answers("page.open", opened(room="", name=""))
    ran = shell.run(*(["--json"] if json else []), "view")
    assert ran.code == 2
    assert CODE not in ran.stdout + ran.stderr
    assert shell.daemon.ops() == []
    if json:
        return
    ran = shell.run("view", terminal=True, env=PLAIN)
    assert ran.code == 0
    assert f"{URL}#{CODE}" in ran.stdout.splitlines()
    assert "Tell nobody." in " ".join((ran.stdout + ran.stderr).split())


def test_json_is_one_document(shell: Shell) -> None:
    shell.daemon.answers("page.open", opened())
    assert shell.run("--json", "view", "--room", "team").document == msgspec.to_builtins(opened())
    shell.daemon.answers("page.codes", t.WatchCodeList(codes=[info()]))
    assert shell.run("--json", "view", "--list").document == {"codes": [msgspec.to_builtins(info())]}
    shell.daemon.answers("page.revoke", t.RevokedWatchCode(id="wc_1"))
    assert shell.run("--json", "view", "--revoke", "wc_1").document == {"id": "wc_1"}


def test_codes_are_listed_by_their_ids_with_what_is_open(shell: Shell) -> None:
    codes = [info(used_at=1_700_000_060_000, streams=2), info(id="wc_2", room="", name="")]
    shell.daemon.answers("page.codes", t.WatchCodeList(codes=codes), t.WatchCodeList(codes=[]))
    ran = shell.run("view", "--list")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.stdout.splitlines()[1:]] == ["wc_1", "wc_2"]
    assert "your home" in ran.stdout
    assert shell.run("view", "--list").stdout == "No watch code holds.\n"


def test_revoking_names_the_code(shell: Shell) -> None:
    shell.daemon.answers("page.revoke", t.RevokedWatchCode(id="wc_1"))
    ran = shell.run("view", "--revoke", "wc_1")
    assert (ran.code, ran.stdout) == (0, "Revoked: what was opened with wc_1 is closed.\n")
    assert shell.daemon.params_of("page.revoke") == [t.RevokeWatchCode(id="wc_1")]


@pytest.mark.parametrize(
    "words",
    [
        ("--list", "--revoke", "wc_1"),
        ("--list", "--room", "team"),
        ("--revoke", "wc_1", "--port", "1"),
        ("--port", "x"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.run("view", *words).code == 2
    assert shell.daemon.ops() == []


@pytest.mark.parametrize("code", ["needs_person", "no_such_room", "port_taken", "too_many_watch_codes"])
def test_a_refusal_prints_no_code(shell: Shell, code: str) -> None:
    shell.daemon.answers("page.open", ParlerError(code))
    ran = shell.run("view", "--room", "team")
    assert ran.code == 1
    assert ERRORS[code].message in " ".join(ran.stderr.split())


def test_opening_a_view_is_never_asked_twice(shell: Shell) -> None:
    shell.daemon.answers("page.open", ParlerError("connection_lost"), opened())
    assert shell.run("view", "--room", "team").code == 3
    assert shell.daemon.ops() == ["page.open"]
