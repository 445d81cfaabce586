"""Whatever is typed, a command does its work or says in one of the documented ways that it did not."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parlerd.cli import main as program
from parlerd.cli.commands import COMMANDS, Command
from parlerd.cli.handlers import Handler
from parlerd.core.errors import ParlerError
from parlerd.operations.registry import OPERATIONS
from parlerd.operations.types import Params, Result
from parlerd.wire import codec
from tests.support.cli import Shell
from tests.support.fake_client import FakeDaemon

EXITS: Final = {0, 1, 2, 3, 4}
"""Source: the head of `parlerd.cli.main`; 130 takes a signal."""
PROGRAMS: Final = {"connect", "demo", "doctor", "hook", "mcp", "relay", "start", "stop", "restart"}
"""Commands that start programs or write files: of these the arguments alone are read."""
ODD: Final = (
    "",
    "-",
    "--",
    "---",
    "-1",
    "0",
    "1",
    "nan",
    "inf",
    "1e400",
    "9" * 30,
    "9" * 5000,
    "18446744073709551616",
    "\u0661",
    "[" * 3000 + "]" * 3000,
    "[" * 70 + "]" * 70,
    '{"a":' * 3000 + "1" + "}" * 3000,
    '{"a": "\\ud800"}',
    '{"\\udfff": 1}',
    "NaN",
    "1" + "0" * 5000,
    "-9223372036854775809",
    "\udcff",
    "caf\udce9",
    "a\0b",
    "\x1b[2J",
    "\u202e",
    "x" * 5000,
    "a b",
    "KEY@relay.example",
    "--json=1",
    "--as",
    "--home",
    "--as=",
    "@file",
    "%s%n",
    "{}",
)
# The half characters are those that Python has for bytes of an argument that are not UTF-8; no other can come.
WORD: Final = st.sampled_from(ODD) | st.text(max_size=12) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)


class Refusing(FakeDaemon):
    """A daemon that checks parameters as the real one does, and then knows no such room."""

    def answer(self, op: str, params: Params, connection: int, timeout: float | None = None) -> Result:
        codec.Shape[Params](OPERATIONS[op].params, "invalid_param").decode(codec.encode(params))
        raise ParlerError("no_such_room")

    def stream(self, op: str, params: Params, connection: int) -> Iterator[Result]:
        self.answer(op, params, connection)
        yield from ()


def options_of(command: Command) -> list[str]:
    parser = program.parser_of(command, program.handler_of(command))
    return [name for action in parser.actions for name in action.option_strings]


OPTIONS: Final = {command.path: options_of(command) for command in COMMANDS}


def test_every_command_whose_arguments_alone_are_read_is_there() -> None:
    assert {command.path[-1] for command in COMMANDS} >= PROGRAMS


@pytest.fixture
def _only_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Nowhere in a repository: a command that shares commits would bundle this project's own, over and over.
    monkeypatch.chdir(tmp_path)
    real = program.handler_of

    def handler_of(command: Command) -> Handler:
        handler = real(command)
        if command.path[-1] in PROGRAMS:
            return handler._replace(run=lambda _ctx, _args: 0)
        return handler

    monkeypatch.setattr(program, "handler_of", handler_of)


def run(words: list[str]) -> None:
    with tempfile.TemporaryDirectory() as home:
        ran = Shell(Path(home), Refusing()).run(*words, stdin=b"from stdin", env={"PARLER_HOME": home + "/home"})
        assert ran.code in EXITS
        assert ran.code == 0 or ran.stdout or ran.stderr
        if ran.code and "--json" in words and "--" not in words:
            assert json.loads(ran.stdout)["error"]["code"]
        assert "Traceback" not in ran.stderr


@pytest.mark.usefixtures("_only_read")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.path))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_no_argument_of_a_command_ends_it_in_another_way(command: Command, data: st.DataObject) -> None:
    options = st.sampled_from(OPTIONS[command.path])
    words = data.draw(
        st.lists(
            WORD.map(lambda word: [word])
            | options.map(lambda option: [option])
            | st.tuples(options, WORD).map(list)
            | st.tuples(options, WORD).map(lambda pair: [f"{pair[0]}={pair[1]}"]),
            max_size=6,
        )
    )
    run([*command.path, *(word for each in words for word in each)])


@pytest.mark.usefixtures("_only_read")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORD | st.sampled_from(sorted({word for each in COMMANDS for word in each.path})), max_size=5))
def test_no_words_at_all_end_it_in_another_way(words: list[str]) -> None:
    run(words)


@pytest.mark.usefixtures("_only_read")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.path))
def test_every_option_takes_or_refuses_every_odd_word(command: Command) -> None:
    parser = program.parser_of(command, program.handler_of(command))
    taking = [action for action in parser.actions if action.nargs != 0 and "--home" not in action.option_strings]
    for word in ODD:
        for action in taking:
            run([*command.path, f"{action.option_strings[0]}={word}" if action.option_strings else word])


@pytest.mark.usefixtures("_only_read")
@pytest.mark.parametrize("word", ["\udcff", "a\0b", "x" * 5000, "\x1b[2J"])
def test_an_odd_environment_ends_no_command_in_another_way(word: str, tmp_path: Path) -> None:
    for name in ("HOME", "PARLER_HOME", "PARLER_AGENT"):
        for command in COMMANDS:
            if command.path[-1] not in {"logs"}:
                given = {"HOME": str(tmp_path), name: word if name == "PARLER_AGENT" else f"{tmp_path}/{word}"}
                ran = Shell(tmp_path, Refusing()).run(*command.path, env=given)
                assert ran.code in EXITS


DEEP: Final = {
    "json": '{"mcpServers": ' + '{"a": ' * 5000 + "1" + "}" * 5000 + "}",
    "open": "[\n" * 20_000,  # in one line, the YAML library takes seconds to come to the same end
    "toml": "a = " + "[" * 5000 + "]" * 5000,
    "dotted": "a" + ".a" * 30_000 + " = 1",
    "yaml": "a: " + "{a: " * 2000 + "1" + "}" * 2000,
    "bytes": "\udcff\udcfe",
    "zero": "\0" * 100,
}
SETTINGS: Final = (
    ".claude.json", ".claude/settings.json", ".codex/config.toml", ".cursor/mcp.json", ".gemini/settings.json",
    ".config/goose/config.yaml", ".config/opencode/opencode.json", ".config/zed/settings.json", ".qwen/settings.json",
    ".home/settings.toml", ".home/connect/ledger.json", ".home/run/endpoint", ".home/run/shim.py",
)  # fmt: skip


@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
def test_settings_of_hosts_that_no_parser_takes_end_no_look_in_another_way(content: str, tmp_path: Path) -> None:
    for name in SETTINGS:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", errors="surrogateescape")
    for folder in (tmp_path / ".home").rglob("*/"):
        folder.chmod(0o700)
    (tmp_path / ".home").chmod(0o700)
    (tmp_path / ".git").mkdir()
    env = {"HOME": str(tmp_path), "PARLER_HOME": str(tmp_path / ".home")}
    daemon = Refusing(down=True)
    for words in (["doctor"], ["doctor", "--json"], ["connect", "--list"], ["connect", "--dry-run"]):
        ran = Shell(tmp_path, daemon).run(*words, env=env)
        assert ran.code in EXITS
        assert ran.stdout or ran.stderr


@pytest.mark.parametrize("kind", ["a file", "a link to nowhere", "a folder for each file", "not UTF-8"])
def test_a_home_of_another_shape_ends_no_look_in_another_way(kind: str, tmp_path: Path) -> None:
    home = tmp_path / ("home\udcff" if kind == "not UTF-8" else "home")
    if kind == "a file":
        home.write_text("x")
    elif kind == "a link to nowhere":
        home.symlink_to(tmp_path / "nowhere")
    elif kind == "a folder for each file":
        for name in SETTINGS:
            (home / name.removeprefix(".home/")).mkdir(parents=True, exist_ok=True)
        for path in (home, *home.rglob("*/")):
            path.chmod(0o700)
    daemon = Refusing(down=True)
    for words in (["doctor"], ["doctor", "--json"], ["connect", "--list"], ["daemon", "status"], ["daemon", "logs"]):
        ran = Shell(tmp_path, daemon).run(*words, env={"HOME": str(tmp_path), "PARLER_HOME": str(home)})
        assert ran.code in EXITS
    if kind == "not UTF-8":
        assert (
            "Set PARLER_HOME to a folder whose path is plain text."
            in Shell(tmp_path, daemon).run("doctor", env={"HOME": str(tmp_path), "PARLER_HOME": str(home)}).stdout
        )
