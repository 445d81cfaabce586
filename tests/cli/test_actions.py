"""action: what its commands ask, print and exit with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parlerd.core.model import PeerText
from parlerd.core.refusals import refusal
from parlerd.operations import types as t
from tests.support.answers import ROOM
from tests.support.cli import Shell

CANARY = "\x1b]52;c;eA==\x07\x1b[2K\u202e\u200b[red]x[/red]"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def action(id: str = "craft", **about: Any) -> dict[str, Any]:
    said = {"id": id, "scope": "_shared", "version": 1, "registered_by": "bob", "registered_at": 0, "available": True}
    return {**said, "writes": [{"key": "wood", "value": -1, "increment": True}], **about}


def listed(*actions: dict[str, Any], more: bool = False) -> t.ActionsListed:
    return t.ActionsListed(actions=[t.ActionShown(**each) for each in actions], more=more, room=ROOM, name="auth")


def entry(**about: Any) -> t.StateEntry:
    said = {"scope": "_shared", "key": "wood", "value": 4, "version": 2, "updated_by": "bob", "updated_at": 0}
    return t.StateEntry(**{**said, **about})


def test_an_action_is_registered_from_a_file_or_stdin(shell: Shell, tmp_path: Path) -> None:
    written = {"id": "craft", "if": "true", "writes": [{"key": "a", "value": 1}], "params": {"x": {"default": None}}}
    answer = t.ActionRegistered(**action(contested=["chop"], dormant=True), room=ROOM, name="auth")
    shell.daemon.answers("action.register", answer, answer)
    file = tmp_path / "craft.json"
    file.write_text(json.dumps(written))
    ran = shell.run("action", "register", "--file", str(file), "--once", "k1", "--room", "team")
    assert (ran.code, ran.stdout) == (0, "The action craft is registered, version 1.\n")
    assert "other actions write too: chop" in ran.stderr
    assert "not there now" in ran.stderr
    assert shell.run("action", "register", stdin=json.dumps(written).encode()).code == 0
    first, second = shell.daemon.params_of("action.register")
    assert isinstance(first, t.RegisterAction)
    assert (first.id, first.gate, first.idempotency_key, first.room) == ("craft", "true", "k1", "team")
    assert first.params["x"].default is None
    assert isinstance(second, t.RegisterAction)
    assert second.writes == first.writes


@pytest.mark.parametrize(
    "given",
    [b"[]", b"{", b"", b'{"writes": []}', b'{"id": "a", "write": []}', b'{"id": "a", "params": {"two words": {}}}',
     b'{"id": "a", "writes": [{"key": 1}]}', b'{"id": "a", "description": "%s"}' % (b"x" * 201)],
)  # fmt: skip
def test_what_is_no_action_is_a_usage_error(shell: Shell, given: bytes) -> None:
    assert shell.run("action", "register", stdin=given).code == 2
    assert shell.daemon.params_of("action.register") == []


def test_a_list_says_of_each_action_whether_it_is_available_and_why_not(shell: Shell) -> None:
    shell.daemon.answers(
        "action.list",
        listed(
            action("a", description=PeerText(CANARY), params={"item": {"type": "string"}}),
            action("b", available=False, reason="precondition_failed", scope="bob"),
            more=True,
        ),
        listed(
            action("c", available=False, reason="action_cooldown", ticks_left=2),
            action("d", available=False, reason="action_cooldown", available_at=60_000),
        ),
    )
    ran = shell.run("action", "list")
    assert ran.code == 0
    lines = ran.stdout.splitlines()
    for row, said in zip(lines[1:], ("yes", "its condition is not true", "after 2 writes", "in"), strict=True):
        assert said in row
    assert "item" in lines[1]
    assert "\x1b" not in ran.stdout
    assert "\u202e" not in ran.stdout
    first, second = shell.daemon.params_of("action.list")
    assert isinstance(first, t.ListActions)
    assert isinstance(second, t.ListActions)
    assert (first.after, second.after) == (None, "b")


def test_one_action_is_shown_whole_with_the_values_of_its_parameters(shell: Shell) -> None:
    values = {"item": {"trap": t.Availability(available=True), "hut": t.Availability(available=False, reason="x_y")}}
    params = {
        "item": {"type": "string", "enum": ["trap", "hut", "cart", "bridge", "the-whole-village", "a-second-village"]}
    }
    about = action(gate="state._shared.wood > 0", availability_by_param=values, params=params)
    shell.daemon.answers("action.list", listed(about), listed(about))
    ran = shell.run("action", "list", "craft", "--expand-params")
    assert "if: state._shared.wood > 0" in ran.stdout
    assert "craft, item: trap: yes; hut: no: x_y" in ran.stdout
    assert '"a-second-village"]}}' in ran.stdout
    assert shell.daemon.params_of("action.list") == [t.ListActions(id="craft", expand_params=True)]
    document = json.loads(shell.run("action", "list", "--json").stdout)
    assert document["more"] is False
    assert document["actions"][0]["if"] == "state._shared.wood > 0"


def test_an_invocation_says_what_was_written_and_when_it_can_be_made_again(shell: Shell) -> None:
    done = t.ActionInvoked(action="craft", writes=[entry()], result={"made": 1}, available_at=60_000, room=ROOM)
    shell.daemon.answers("action.invoke", done, done)
    ran = shell.run("action", "invoke", "craft", "--params", '{"item": "trap"}', "--once", "k1")
    assert (ran.code, ran.stdout) == (0, 'Done: craft, 1 key written.\nwood is 4.\nresult: {"made": 1}\n')
    assert "can be invoked again in" in ran.stderr
    asked = t.InvokeAction(id="craft", params={"item": "trap"}, idempotency_key="k1")
    assert shell.daemon.params_of("action.invoke") == [asked]
    document = json.loads(shell.run("action", "invoke", "craft", "--json").stdout)
    assert (document["invoked"], document["writes"][0]["key"], document["result"]) == (True, "wood", {"made": 1})


def test_parameters_are_an_object(shell: Shell) -> None:
    for given in ("[]", "1", "{", '"x"', "NaN"):
        assert shell.run("action", "invoke", "craft", "--params", given).code == 2
    assert shell.daemon.params_of("action.invoke") == []


def test_what_is_refused_is_said_with_what_to_do_next(shell: Shell) -> None:
    shell.daemon.answers("action.invoke", refusal("no_such_action", {"action": "craf", "near": "craft"}))
    ran = shell.run("action", "invoke", "craf")
    assert ran.code == 1
    assert "There is no action craf; did you mean craft?" in ran.stderr
    assert "parler action list" in ran.stderr


def test_a_refusal_says_until_when_and_what_is_allowed(shell: Shell) -> None:
    cooling = refusal("action_cooldown", {"action": "craft", "available_at": 1_795_860_000_000})
    wrong = refusal("invalid_param", {"param": "item", "problem": "value", "allowed": ["trap", CANARY]})
    shell.daemon.answers("action.invoke", cooling, wrong)
    assert "until 20" in shell.run("action", "invoke", "craft").stderr
    ran = shell.run("action", "invoke", "craft", "--params", '{"item": "boat"}')
    assert "The parameter item has none of the values that it may have." in ran.stderr
    assert "it may be: trap" in ran.stderr
    assert "\x1b" not in ran.stderr


def test_an_action_is_deleted_and_its_timer_begins_again(shell: Shell) -> None:
    shell.daemon.answers("action.delete", t.ActionDeleted(id="craft", version=3, room=ROOM))
    ran = shell.run("action", "delete", "craft", "--yes", "--if-version", "3")
    assert ran.stdout == "Deleted: the action craft, which was at version 3.\n"
    asked = shell.run("action", "delete", "craft", terminal=True, stdin=b"n\n")
    assert (asked.code, "parler action delete craft --yes" in asked.stderr) == (1, True)
    offer = t.StateWritten(
        scope="_action", key="craft", value=None, version=1, updated_by="bob", updated_at=0, room=ROOM, name="auth",
        timer=t.TimerShown(effect="delete", at=60_000, ms=60_000),
    )  # fmt: skip
    shell.daemon.answers("timer.renew", offer)
    ran = shell.run("timer", "renew", "craft", "--action")
    assert ran.stdout == "The timer of the action craft begins again.\n"
    [renewed] = shell.daemon.params_of("timer.renew")
    assert isinstance(renewed, t.RenewTimer)
    assert (renewed.of, renewed.key) == ("action", "craft")


def test_what_may_be_done_is_a_table_and_what_is_next_are_commands(shell: Shell) -> None:
    found = t.Affordances(
        affordances=[
            t.Affordance(operation="message.send", allowed=True),
            t.Affordance(operation="room.kick", allowed=False, reason="not_owner"),
            t.Affordance(operation="x.later", allowed=False, reason="x_y"),
        ],
        actions=[t.ActionAffordance(id="craft", available=False, reason="needs_params")],
        next=[
            t.NextStep(operation="handoff.accept", params={"id": "m_1"}, why="offer"),
            t.NextStep(operation="message.recv", params={"wait_ms": 600_000}, why="wait"),
            t.NextStep(operation="", params={}, why="knock"),
        ],
        you="bob",
        room=ROOM,
        name="auth",
        notice="Somebody could not be asked.",
    )
    shell.daemon.answers("room.affordances", found, found)
    ran = shell.run("affordances")
    lines = [" ".join(line.split()) for line in ran.stdout.splitlines()]
    assert lines[0] == "bob in auth:"
    assert lines[2:] == [
        "parler send yes",
        "parler room kick only the room's owner",
        "x.later no: x_y",
        "parler action invoke craft needs parameters",
        "next: parler handoff accept m_1 (the turn is offered to you)",
        "next: parler recv --wait 600 (nothing waits for you)",
        "next: somebody knocks, and your person decides",
    ]
    assert "Somebody could not be asked." in ran.stderr
    assert json.loads(shell.run("affordances", "--json").stdout)["next"][0]["why"] == "offer"
    shell.daemon.answers("room.affordances", found)
    assert "next: parler handoff accept m_1 --room auth (" in shell.run("affordances", "--room", "auth").stdout
