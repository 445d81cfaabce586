"""state, view, timer, eval and wait: what they ask, print and exit with."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest

from parlerd.core.errors import Refused
from parlerd.core.expressions import invalid
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.uplink.asking.questions import STATE_IS_SEEN, STATE_WRITES
from tests.support.answers import ROOM
from tests.support.cli import Shell

CANARY = "\x1b]52;c;eA==\x07\x1b[2K\u202e\u200b[red]x[/red]"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def entry(**about: Any) -> dict[str, Any]:
    said = {"scope": "_shared", "key": "turn", "value": 2, "version": 3, "updated_by": "bob", "updated_at": 0}
    return {**said, **about}


def written(**about: Any) -> t.StateWritten:
    return t.StateWritten(**entry(**about), room=ROOM, name="auth")


def listed(*entries: dict[str, Any], more: bool = False) -> t.StateListed:
    return t.StateListed(entries=[t.StateEntry(**each) for each in entries], more=more, room=ROOM, name="auth")


def ended(**about: Any) -> t.WaitEnded:
    said: dict[str, Any] = {"triggered": True, "condition": "c", "value": True, "elapsed_ms": 1, "room": ROOM}
    return t.WaitEnded(**{**said, **about}, name="auth")


def test_every_flag_of_a_write_is_passed_on(shell: Shell) -> None:
    shell.daemon.answers("state.set", written())
    flags = ["--scope", "bob", "--if", "a == 1", "--if-version", "2", "--increment", "--room", "team", "--once", "k9"]
    timer = '{"ticks": 3, "tick_on": "state._shared.turn", "effect": "enable"}'
    ran = shell.run("state", "set", "turn", "-1", *flags, "--enabled", "b", "--timer", timer)
    assert (ran.code, ran.stdout) == (0, "turn is 2 now, version 3.\n")
    asked = t.TimerAsked(effect="enable", ticks=3, tick_on="state._shared.turn")
    assert shell.daemon.params_of("state.set") == [
        t.SetState(
            key="turn",
            value=-1,
            scope="bob",
            increment=True,
            gate="a == 1",
            if_version=2,
            enabled="b",
            timer=asked,
            room="team",
            idempotency_key="k9",
        )
    ]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["12345678"], 12345678),
        (["12345678", "--string"], "12345678"),
        (["1.0"], 1.0),
        (["true"], True),
        (["null"], None),
        (['{"a": [1, "b"]}'], {"a": [1, "b"]}),
        (["all", "is", "well"], "all is well"),
        (["NaN"], "NaN"),
        (["Infinity"], "Infinity"),
        (["{broken"], "{broken"),
        (["-"], "from a pipe"),
    ],
)
def test_a_value_is_json_or_else_a_text(shell: Shell, words: list[str], value: object) -> None:
    shell.daemon.answers("state.set", written())
    assert shell.run("state", "set", "k", *words, stdin=b"from a pipe").code == 0
    (params,) = shell.daemon.params_of("state.set")
    assert isinstance(params, t.SetState)
    assert params.value == value
    assert type(params.value) is type(value)


@pytest.mark.parametrize(
    "words",
    [
        ["18446744073709551616"],
        ["[99999999999999999999]"],
        ["1e999"],
        ['"\\ud800"'],
        ['{"\\udfff": 1}'],
        ["[" * 65 + "]" * 65],
        ["x", "--timer", '{"ms": "a"}'],
        ["x", "--timer", "{"],
    ],
)
def test_what_no_value_and_no_timer_can_be_is_a_usage_error(shell: Shell, words: list[str]) -> None:
    assert shell.run("state", "set", "k", *words).code == 2
    assert shell.daemon.params_of("state.set") == []


def test_a_list_asks_page_after_page_and_shows_json_on_one_line(shell: Shell) -> None:
    pages = [listed(entry(key="a", value=CANARY), more=True), listed(entry(key="b", scope="bob"))]
    shell.daemon.answers("state.list", *pages)
    ran = shell.run("state", "list", "--at-seq", "7")
    assert ran.code == 0
    first, second = shell.daemon.params_of("state.list")
    assert isinstance(first, t.ListState)
    assert isinstance(second, t.ListState)
    assert (first.after, second.after, second.at_seq) == (None, ("_shared", "a"), 7)
    assert "\x1b" not in ran.stdout
    assert "\u202e" not in ran.stdout


def test_json_has_the_fields_of_an_entry_and_a_list_says_whether_more_follows(shell: Shell) -> None:
    shell.daemon.answers("state.get", t.StateRead(**entry(), room=ROOM, name="auth"))
    found = json.loads(shell.run("state", "get", "turn", "--json").stdout)
    assert entry().items() <= found.items()
    assert "timer" not in found
    shell.daemon.answers("state.list", listed(entry()))
    document = json.loads(shell.run("state", "list", "--json").stdout)
    assert (document["more"], len(document["entries"])) == (False, 1)


def test_a_batch_is_read_from_a_file_or_stdin_and_may_be_an_object_or_a_list(shell: Shell, tmp_path: Path) -> None:
    answer = t.BatchWritten(writes=[t.StateEntry(**entry())], room=ROOM, name="auth")
    shell.daemon.answers("state.batch", answer, answer)
    writes = [{"key": "turn", "value": 1, "increment": True}, {"key": "old", "delete": True}]
    file = tmp_path / "writes.json"
    file.write_text(json.dumps({"if": "a == 1", "writes": writes}))
    assert "1 key written." in shell.run("state", "batch", "--file", str(file)).stdout
    assert shell.run("state", "batch", stdin=json.dumps(writes).encode()).code == 0
    guarded, plain = shell.daemon.params_of("state.batch")
    assert isinstance(guarded, t.BatchState)
    assert isinstance(plain, t.BatchState)
    assert (
        guarded.writes
        == plain.writes
        == (
            t.BatchedWrite(key="turn", value=1, increment=True),
            t.BatchedWrite(key="old", delete=True),
        )
    )
    assert (guarded.gate, plain.gate) == ("a == 1", None)
    for wrong in (b"", b"{", b"[1]", b'{"writes": []}', b'[{"key": "a", "vlaue": 1}]'):
        assert shell.run("state", "batch", stdin=wrong).code == 2


@pytest.mark.parametrize("command", [("state", "batch"), ("action", "register")])
def test_a_file_that_cannot_be_read_is_a_usage_error(shell: Shell, tmp_path: Path, command: tuple[str, str]) -> None:
    for file in (tmp_path / "none.json", tmp_path):
        ran = shell.run(*command, "--file", str(file))
        assert ran.code == 2
        assert f"{file} cannot be read" in ran.stderr


def test_what_is_not_there_yet_is_not_said_to_be_something_now(shell: Shell) -> None:
    timer = t.TimerShown(effect="enable", ticks_left=3, tick_on="state._shared.turn")
    shell.daemon.answers("state.set", written(value=True, timer=timer, dormant=True))
    ran = shell.run("state", "set", "turn", "true")
    assert ran.stdout == "turn is kept as true, version 3.\n"
    assert "It will be there after 3 writes of state._shared.turn." in ran.stderr


COMMANDS = {
    "state.set": [["state", "set", "turn", "true"], ["view", "set", "turn", "1 + 1"]],
    "state.batch": [["state", "batch"]],
    "action.register": [["action", "register"]],
    "action.invoke": [["action", "invoke", "stoke"]],
    "agent.enable": [["enabled", "1 == 1"], ["enabled", "--always"]],
    "module.register": [["module", "register", "path"]],
}
STDIN = {"state.batch": b'{"writes": [{"key": "turn", "value": 1}]}', "action.register": b'{"id": "stoke"}'}


def test_who_sees_what_is_written_in_a_sealed_room_is_said(shell: Shell) -> None:
    assert set(COMMANDS) == STATE_WRITES
    for name, commands in COMMANDS.items():
        answer = msgspec.convert(OPERATIONS[name].answers[0], OPERATIONS[name].result)
        warned = msgspec.structs.replace(answer, warning=STATE_IS_SEEN)
        shell.daemon.answers(name, *(answer, warned) * len(commands))
        for words in commands:
            quiet, told = (shell.run(*words, stdin=STDIN.get(name, b"")) for _ in range(2))
            assert (quiet.code, told.code) == (0, 0), words
            assert STATE_IS_SEEN not in quiet.stdout
            assert STATE_IS_SEEN in told.stdout, words


def test_what_is_deleted_is_said_with_its_last_version(shell: Shell) -> None:
    shell.daemon.answers("state.delete", written(value=None, deleted=True))
    ran = shell.run("state", "delete", "turn", "--if-version", "3", "--yes")
    assert (ran.code, ran.stdout) == (0, "Deleted: turn, which was at version 3.\n")


def test_who_does_not_agree_is_told_the_command_that_deletes_without_asking(shell: Shell) -> None:
    for words in (["state", "delete", "my turn", "--room", "team", "--if-version", "3"], ["view", "delete", "ready"]):
        asked = shell.run(*words, terminal=True, stdin=b"n\n")
        assert asked.code == 1
        assert shlex.join(["parler", *words, "--yes"]) in asked.stderr
    assert shell.daemon.params_of("state.delete") == []


def test_a_list_of_views_asks_page_after_page(shell: Shell) -> None:
    shell.daemon.answers("state.list", listed(entry(key="a", expr="1"), more=True), listed(entry(key="b", expr="2")))
    document = json.loads(shell.run("view", "list", "--json").stdout)
    assert [each["key"] for each in document["views"]] == ["a", "b"]
    assert document["more"] is False


def test_a_history_names_what_was_deleted_and_what_ran_out(shell: Shell) -> None:
    about: dict[str, Any] = {"updated_by": "bob", "updated_at": 0, "via": "cli", "request": "k"}
    versions = [
        t.StateVersion(version=2, value=None, deleted=True, expired=True, **about),
        t.StateVersion(version=1, value="x", **about),
    ]
    answer = t.StateHistory(scope="_shared", key="k", versions=versions, more=True, first=1, room=ROOM, name="auth")
    shell.daemon.answers("state.history", answer, answer)
    ran = shell.run("state", "history", "k")
    assert "deleted" in ran.stdout
    assert '"x"' in ran.stdout
    assert "There are older versions." in ran.stderr
    document = json.loads(shell.run("state", "history", "k", "--json").stdout)
    assert (document["from"], document["versions"][1]["request"]) == (1, "k")


def test_a_view_says_what_it_is_worth_or_why_it_is_worth_nothing(shell: Shell) -> None:
    shell.daemon.answers("state.set", written(scope="_view", key="ready", value=True, expr="a"))
    assert shell.run("view", "set", "ready", "a", "==", "b").stdout == "The view ready is worth true now, version 3.\n"
    (params,) = shell.daemon.params_of("state.set")
    assert isinstance(params, t.SetState)
    assert (params.scope, params.expr, params.value) == ("_view", "a == b", None)
    broken = entry(scope="_view", key="ready", value=None, expr="a", error=CANARY)
    shell.daemon.answers("state.list", listed(broken), listed(broken), listed())
    shown = shell.run("view", "list").stdout
    assert "no value: " in shown
    assert "\x1b" not in shown
    assert json.loads(shell.run("view", "list", "--json").stdout)["views"][0]["key"] == "ready"
    assert shell.run("view", "list").stdout == "There is no view in 'auth'.\n"
    shell.daemon.answers("state.delete", written(scope="_view", key="ready", value=None, deleted=True))
    assert shell.run("view", "delete", "ready", "--yes").code == 0


def test_an_expression_is_worth_json_and_one_that_is_none_is_shown_with_its_place(shell: Shell) -> None:
    wrong = invalid("agent.x == 1", "there is no `agent`", 0, suggest="agents")
    shell.daemon.answers("state.evaluate", t.Evaluated(value={"a": CANARY}, room=ROOM, name="auth"), wrong)
    ran = shell.run("eval", "state", "==", "1")
    assert ran.code == 0
    assert "\x1b" not in ran.stdout
    (params,) = shell.daemon.params_of("state.evaluate")
    assert params == t.Evaluate(expr="state == 1")
    ran = shell.run("eval", "agent.x == 1")
    assert ran.code == 1
    assert "  there is no `agent`\n  agent.x == 1\n  ^\n  did you mean agents\n" in ran.stderr


def test_a_wait_ends_when_it_is_true_when_its_time_is_over_or_when_everybody_waits(shell: Shell) -> None:
    late = ended(triggered=False, value=None, condition_error={"reason": CANARY})
    caught = ended(triggered=False, value=False, deadlock_suspected={"bob": [CANARY]})
    shell.daemon.answers("state.wait", ended(state={"_shared": {"turn": 1}}), late, caught, ended())
    ran = shell.run("wait", "a", "==", "1", "--include", "state,agents")
    assert (ran.code, ran.stdout.splitlines()[0]) == (0, "It is true.")
    (params,) = shell.daemon.params_of("state.wait")
    assert isinstance(params, t.WaitUntil)
    assert (params.condition, params.include) == ("a == 1", ("state", "agents"))
    ran = shell.run("wait", "a", "--timeout", "0")
    assert ran.code == 0
    assert "It did not become true in time: null." in ran.stdout
    assert "\x1b" not in ran.stderr
    ran = shell.run("wait", "a")
    assert "Everybody waits, and nothing is due" in ran.stdout
    assert "\x1b" not in ran.stdout
    document = json.loads(shell.run("wait", "a", "--json").stdout)
    assert {"triggered", "condition", "value", "elapsed_ms"} <= document.keys()
    assert "deadlock_suspected" not in document


def test_a_timer_begins_again_and_a_scope_is_hidden(shell: Shell) -> None:
    timer = t.TimerShown(effect="delete", ticks_left=2, tick_on="state._shared.turn")
    shell.daemon.answers("timer.renew", written(timer=timer))
    ran = shell.run("timer", "renew", "turn")
    assert ran.stdout == "The timer of turn begins again.\n"
    assert "It will be gone after 2 writes of state._shared.turn." in ran.stderr
    mine = t.ScopeShown(scope="bob", hidden=True, room=ROOM, name="auth")
    shell.daemon.answers("state.hide", mine, t.ScopeShown(scope="", hidden=False, room=ROOM, name="auth"))
    assert shell.run("state", "private", "on").stdout == "The scope bob is read by that agent alone.\n"
    assert "everybody in the room" in shell.run("state", "private", "off", "--everybodys").stdout
    hidden, everybodys = shell.daemon.params_of("state.hide")
    assert isinstance(hidden, t.HideScope)
    assert isinstance(everybodys, t.HideScope)
    assert (hidden.hidden, everybodys.hidden, everybodys.everybodys) == (True, False, True)


def test_a_conflict_shows_what_is_there_to_a_script(shell: Shell) -> None:
    current = {"version": 3, "value": "x", "updated_by": "bob", "updated_at": 0}
    shell.daemon.answers("state.set", Refused("version_conflict", key="turn", current=current))
    ran = shell.run("state", "set", "turn", "1", "--if-version", "2", "--json")
    assert ran.code == 1
    assert json.loads(ran.stdout)["error"]["details"]["current"] == msgspec.to_builtins(current)
