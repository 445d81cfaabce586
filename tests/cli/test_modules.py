"""enabled, module: what these commands ask, print and exit with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parlerd.operations import types as t
from tests.support.answers import ROOM
from tests.support.cli import Shell

CANARY = "\x1b]52;c;eA==\x07\x1b[2K\u202e\u200b[red]x[/red]"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def a_module(id: str = "path", **about: Any) -> dict[str, Any]:
    return {"id": id, "role": "module", "version": 1, "registered_by": "bob", "registered_at": 0, **about}


def test_an_agent_says_what_has_to_be_true_or_that_it_is_there_always(shell: Shell) -> None:
    place: dict[str, Any] = {"agent": "bob", "room": ROOM, "name": "auth"}
    shell.daemon.answers(
        "agent.enable", t.AgentEnabled(**place, enabled="1 == 2", disabled=True), t.AgentEnabled(**place)
    )
    ran = shell.run("enabled", "1 == 2", "--once", "k1", "--room", "team")
    assert (ran.code, ran.stdout) == (0, "bob is in 'auth' while this is true: 1 == 2\n")
    assert "reads and waits, and nothing else" in ran.stderr
    ran = shell.run("enabled", "--always")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "bob is in 'auth' always.\n", "")
    first, second = shell.daemon.params_of("agent.enable")
    assert first == t.EnableAgent(enabled="1 == 2", room="team", idempotency_key="k1")
    assert isinstance(second, t.EnableAgent)
    assert (second.enabled, second.room) == (None, None)


@pytest.mark.parametrize("args", [(), ("true", "--always")])
def test_one_of_the_two_is_said(shell: Shell, args: tuple[str, ...]) -> None:
    assert shell.run("enabled", *args).code == 2
    assert shell.daemon.params_of("agent.enable") == []


def test_a_module_is_registered_and_deleted(shell: Shell) -> None:
    place: dict[str, Any] = {"room": ROOM, "name": "auth"}
    shell.daemon.answers("module.register", t.ModuleRegistered(**a_module(dormant=True), **place))
    shell.daemon.answers("module.delete", t.ModuleDeleted(id="path", **place))
    ran = shell.run("module", "register", "path", "--enabled", "1 == 2", "--once", "k1")
    assert (ran.code, ran.stdout) == (0, "The module path is registered, version 1.\n")
    assert "not true now" in ran.stderr
    [asked] = shell.daemon.params_of("module.register")
    assert asked == t.RegisterModule(id="path", role="module", enabled="1 == 2", idempotency_key="k1")
    ran = shell.run("module", "delete", "path", "--yes", "--once", "k2")
    assert (ran.code, ran.stdout) == (0, "Deleted: the module path.\n")
    assert shell.daemon.params_of("module.delete") == [t.DeleteModule(id="path", idempotency_key="k2")]


def test_a_list_says_of_each_module_whose_it_is_and_whether_it_is_there(shell: Shell) -> None:
    found = t.ModulesListed(
        modules=[
            t.ModuleShown(**a_module(enabled=CANARY)),
            t.ModuleShown(**a_module("tide", role="clock", dormant=True)),
        ],
        room=ROOM,
        name="auth",
    )
    shell.daemon.answers("module.list", found, found, t.ModulesListed(modules=[], room=ROOM, name="auth"))
    ran = shell.run("module", "list", "--room", "team")
    assert ran.code == 0
    assert [line.split()[:4] for line in ran.stdout.splitlines()[1:]] == [
        ["path", "module", "bob", "yes"], ["tide", "clock", "bob", "no"],
    ]  # fmt: skip
    assert not {"\x1b", "\u202e", "\u200b"} & set(ran.stdout)
    told = json.loads(shell.run("module", "list", "--json").stdout)
    assert [(each["id"], each.get("dormant")) for each in told["modules"]] == [("path", None), ("tide", True)]
    assert shell.run("module", "list").stdout == "There is no module in 'auth'.\n"
    assert shell.daemon.params_of("module.list")[0] == t.ListModules(room="team")
