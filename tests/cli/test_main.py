"""The frame around every command: finding it, its options, its exit code, and what it may import."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from parlerd import __version__
from parlerd.cli.commands import BY_PATH, COMMANDS, GROUP_SUMMARY, GROUPS, SECTIONS, Command, examples, summary
from parlerd.cli.main import find_command, handler_of, parser_of, wants_json
from parlerd.cli.parsing import UsageError, split_globals
from parlerd.core.errors import ERRORS, ParlerError
from parlerd.operations.registry import OPERATIONS
from tests.support.answers import daemon_info, sent
from tests.support.cli import Shell

HEAVY = {"rich", "trio", "msgspec", "msgpack", "nacl", "mcp", "anyio", "argparse", "sqlite3", "shtab"}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def imported_by(*argv: str, home: Path) -> set[str]:
    """The top-level modules that a run of `parler` imports in a process of its own."""
    code = "import sys; sys.argv[0] = 'parler'; from parlerd.cli.main import entry; entry()"
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *argv],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
    )
    lines = [line for line in ran.stderr.splitlines() if line.startswith("import time:")]
    assert lines
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


# -- what it costs -----------------------------------------------------------------------------------------


def test_asking_for_the_version_imports_nothing_heavy(tmp_path: Path) -> None:
    assert imported_by("--version", home=tmp_path) & HEAVY == set()


@pytest.mark.parametrize(
    "words", [["rooms", "--help"], ["daemon", "status", "--json"], ["connect", "--print", "codex"]]
)
def test_a_one_shot_command_imports_neither_trio_nor_rich_nor_the_mcp_library(tmp_path: Path, words: list[str]) -> None:
    assert imported_by(*words, home=tmp_path) & {"rich", "trio", "anyio", "mcp", "nacl", "sqlite3", "shtab"} == set()


def test_a_one_shot_command_imports_nothing_that_msgspec_alone_would_want(tmp_path: Path) -> None:
    imported = imported_by("daemon", "status", "--json", home=tmp_path)
    assert "msgspec" in imported
    assert imported & {"uuid", "platform", "decimal"} == set()


def test_what_msgspec_was_not_shown_is_there_for_everyone_else() -> None:
    code = (
        "import parlerd.lean, typing_extensions, uuid, decimal; print(uuid.UUID(int=1).hex, decimal.Decimal('1.5') * 2)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [f"{1:032x}", "3.0"]


def test_the_version_is_one_line(tmp_path: Path) -> None:
    code = "import sys; from parlerd.cli.main import entry; entry()"
    ran = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"parler {__version__}\n"
    assert ran.stderr == ""


def test_a_closed_stdout_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    code = "import sys; from parlerd.cli.main import entry; entry()"
    ran = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -c '{code}' recv >&-"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
    )
    assert ran.returncode == 1
    assert "stdout is closed" in ran.stderr
    assert list(tmp_path.iterdir()) == []


# -- finding a command -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command.path))
def test_every_command_has_a_handler_a_parser_and_a_summary(command: Command) -> None:
    text = parser_of(command, handler_of(command)).format_help()
    assert text.startswith(f"usage: parler {' '.join(command.path)} ")
    assert summary(command) in " ".join(text.split())
    assert "--json" in text


def test_commands_describe_operations_in_the_words_of_the_registry() -> None:
    for command in COMMANDS:
        assert bool(command.operation) != bool(command.summary)
        if command.operation:
            assert command.operation in OPERATIONS


VERBS = {
    *(
        "acknowledge",
        "add",
        "admit",
        "answer",
        "ask",
        "begin",
        "bring",
        "check",
        "choose",
        "compare",
        "count",
        "delete",
        "end",
    ),
    *(
        "enter",
        "evaluate",
        "explain",
        "fetch",
        "find",
        "follow",
        "give",
        "join",
        "keep",
        "knock",
        "learn",
        "leave",
        "let",
        "list",
    ),
    *(
        "make",
        "mint",
        "move",
        "name",
        "open",
        "post",
        "print",
        "put",
        "read",
        "refuse",
        "review",
        "revoke",
        "run",
        "say",
        "share",
        "show",
        "start",
    ),
    *("stop", "take", "tell", "wait", "write"),
}


def test_every_summary_begins_with_what_the_command_does_and_every_group_with_its_name() -> None:
    said = [*map(summary, COMMANDS), *(entry.summary for entry in OPERATIONS.values())]
    assert [text for text in said if text.split()[0].lower() not in VERBS] == []
    for group, text in GROUP_SUMMARY.items():
        assert f" {group} is " in text


def test_every_operation_that_names_a_command_has_it() -> None:
    named = {entry.command for entry in OPERATIONS.values() if entry.command}
    for line in named:
        words = [word for word in line.split()[1:] if not word.startswith("--")]
        command, rest = find_command(words)
        assert rest == []
        options = [word for word in line.split() if word.startswith("--")]
        text = parser_of(command, handler_of(command)).format_help()
        assert all(option in text for option in options)


def test_every_group_says_what_it_is() -> None:
    assert set(GROUP_SUMMARY) == GROUPS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sesion"], "did you mean `session`"),
        (["session", "opn"], "did you mean `open`"),
        (["frobnicate"], "there is no command `frobnicate`"),
        (["leave"], "there is no command `leave`; did you mean `room leave`?"),
        (["list"], "there is no command `list`; did you mean `session list` or"),
    ],
)
def test_a_command_that_is_not_there_is_a_usage_error_with_a_guess(shell: Shell, words: list[str], said: str) -> None:
    ran = shell.run(*words)
    assert ran.code == 2
    assert said in ran.stderr
    assert ran.stdout == ""
    error = shell.run(*words, "--json").document["error"]
    assert error["code"] == "invalid_param"
    assert said in error["message"]


@pytest.mark.parametrize("group", sorted(group for group in GROUPS if (group,) not in BY_PATH))
def test_a_group_alone_teaches_its_commands_as_parler_alone_does(shell: Shell, group: str) -> None:
    ran = shell.run(group, terminal=True, width=80)
    assert (ran.code, ran.stderr) == (0, "")
    assert ran.stdout == shell.run("help", group, terminal=True, width=80).stdout
    assert f"  parler {group} " in ran.stdout


@pytest.mark.parametrize("words", [["--json", "session"], ["session", "--json"], ["--json"]])
def test_a_script_that_names_no_command_is_told_so(shell: Shell, words: list[str]) -> None:
    ran = shell.run(*words)
    assert ran.code == 2
    assert ran.document["error"]["code"] == "invalid_param"


def test_parler_alone_teaches_what_there_is_how_it_is_typed_and_what_to_type_next(shell: Shell) -> None:
    ran = shell.run(terminal=True, width=80)
    assert (ran.code, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    for command in COMMANDS:
        assert any(line.startswith(f"  {' '.join(command.path)} ") for line in lines)
    assert [title for title, _ in SECTIONS] == [line for line in lines if line in dict(SECTIONS)]
    assert "  parler --as bob session join A3KE7DJR" in lines
    assert lines[-1] == "parler connect"
    shell.home.joinpath(".parler").mkdir()
    assert shell.run().stdout.splitlines()[-1] == "parler rooms"


@pytest.mark.parametrize("words", [[], ["help", "session"], ["help", "session", "open"]])
@pytest.mark.parametrize("width", [60, 80])
def test_help_is_broken_between_words_alone(
    shell: Shell, words: list[str], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    wide = shell.run(*words, terminal=True, width=400).stdout
    ran = shell.run(*words, terminal=True, width=width).stdout
    assert ran.split() == wide.split() if not words else set(ran.split()) <= set(wide.split())
    # Lines to type are whole.
    assert all(len(line) <= width for line in ran.splitlines() if "parler " not in line and "[-" not in line)


def test_every_command_is_in_one_section() -> None:
    named = [name for _, names in SECTIONS for name in names]
    assert sorted(named) == sorted(" ".join(command.path) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command.path))
def test_the_help_of_every_command_has_an_example_that_its_parser_takes(command: Command) -> None:
    text = parser_of(command, handler_of(command)).format_help()
    assert examples(command)
    for line in examples(command):
        assert len(line) <= 78
        assert f"\n  {line}\n" in text
        words = shlex.split(line)
        begin = words.index("parler")
        end = words.index(">") if ">" in words else len(words)
        early, rest = split_globals(words[begin + 1 : end])
        found, arguments = find_command(rest)
        assert found == command
        parser_of(found, handler_of(found)).parse_args([*early, *arguments])


def test_options_are_never_abbreviated(shell: Shell) -> None:
    assert shell.run("send", "hi", "--reply", "m_1").code == 2


# -- options that every command takes ----------------------------------------------------------------------


def test_common_options_may_stand_before_the_command(shell: Shell) -> None:
    shell.daemon.answers("message.send", sent())
    ran = shell.run("--json", "--as", "bob", "send", "hi")
    assert ran.code == 0
    assert ran.document["id"]
    assert shell.daemon.opened == [("bob", True)]


def test_the_acting_agent_comes_from_as_then_from_the_environment(shell: Shell) -> None:
    shell.daemon.answers("message.send", sent())
    shell.run("send", "hi", env={"PARLER_AGENT": "carol"})
    shell.run("send", "hi", "--as", "bob", env={"PARLER_AGENT": "carol"})
    shell.run("send", "hi")
    assert [name for name, _start in shell.daemon.opened] == ["carol", "bob", ""]


def test_the_home_comes_from_the_option_then_from_the_environment(shell: Shell, tmp_path: Path) -> None:
    given = shell.run("connect", "--print", "codex", "--home", str(tmp_path / "a"), env={"PARLER_HOME": "/b"})
    assert f"{tmp_path}/a/run/shim.py" in given.stdout
    assert "/b/run/shim.py" in shell.run("connect", "--print", "codex", env={"PARLER_HOME": "/b"}).stdout


@pytest.mark.parametrize("words", [["rooms", "--as", ""], ["rooms", "--home", ""], ["--as"], ["--json", "--home"]])
def test_an_option_without_its_value_is_a_usage_error(shell: Shell, words: list[str]) -> None:
    assert shell.run(*words).code == 2


def test_a_text_after_a_double_dash_is_no_option() -> None:
    assert not wants_json(["send", "--", "--json"])
    assert wants_json(["send", "--json", "--", "x"])


def test_split_globals_stops_at_the_command() -> None:
    assert split_globals(["--as=bob", "--json", "send", "--json"]) == (["--as=bob", "--json"], ["send", "--json"])


# -- how it ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("unreachable", 3),
        ("connection_lost", 3),
        ("draining", 3),
        ("no_such_room", 1),
        ("needs_person", 1),
        ("internal", 1),
    ],
)
def test_an_error_is_one_document_or_one_sentence_and_a_hint(shell: Shell, code: str, exit_code: int) -> None:
    shell.daemon.answers("rooms.list", ParlerError(code))
    ran = shell.run("rooms", "--json")
    assert ran.code == exit_code
    error = ran.document["error"]
    assert error["code"] == code
    assert error["retryable"] is ERRORS[code].retryable
    assert set(error) >= {"code", "message", "action", "retryable", "hint"}
    plain = shell.run("rooms")
    assert plain.code == exit_code
    assert plain.stdout == ""
    assert plain.stderr == f"error: {ERRORS[code].message}\nhint: {ERRORS[code].hint}\n"


def test_an_error_from_the_daemon_cannot_draw_on_the_terminal(shell: Shell) -> None:
    shell.daemon.answers(
        "rooms.list", ParlerError("ambiguous_name", "\x1b[2Kx", hint="\u202ey", candidates=["\x1b]0;z\x07"])
    )
    ran = shell.run("rooms")
    assert "\x1b" not in ran.stderr
    assert "\u202e" not in ran.stderr


def test_connections_are_closed_however_a_command_ends(shell: Shell) -> None:
    shell.daemon.answers("rooms.list", ParlerError("internal"))
    shell.run("rooms")
    assert shell.daemon.closed == len(shell.daemon.opened) == 1


def test_help_lists_every_command_and_exits_0(shell: Shell) -> None:
    for words in (["help"], ["--help"], ["-h"]):
        ran = shell.run(*words)
        assert ran.code == 0
        for command in COMMANDS:
            assert " ".join(command.path) in ran.stdout


@pytest.mark.parametrize(
    "words", [["help", "session", "join"], ["session", "join", "--help"], ["session", "join", "-h"]]
)
def test_help_of_one_command_shows_its_options(shell: Shell, words: list[str]) -> None:
    ran = shell.run(*words)
    assert ran.code == 0
    assert "--no-wait" in ran.stdout


def test_help_of_a_group_lists_its_commands(shell: Shell) -> None:
    for words in (["help", "daemon"], ["daemon", "--help"]):
        ran = shell.run(*words)
        assert ran.code == 0
        assert "daemon logs" in ran.stdout
        assert "whoami" not in ran.stdout


def test_help_explains_an_error_code(shell: Shell) -> None:
    ran = shell.run("help", "store_full")
    assert ran.code == 0
    assert ERRORS["store_full"].message in ran.stdout


def test_help_of_nothing_known_is_a_usage_error(shell: Shell) -> None:
    assert shell.run("help", "nonsense").code == 2
    assert shell.run("help", "nonsense", "--json").code == 2


def test_help_as_json_is_one_document(shell: Shell) -> None:
    commands = shell.run("help", "--json").document["commands"]
    assert {entry["command"] for entry in commands} == {" ".join(command.path) for command in COMMANDS}
    assert all(entry["summary"] for entry in commands)


def test_an_unknown_command_word_raises_for_callers() -> None:
    with pytest.raises(UsageError):
        find_command(["nothing"])


# -- version -----------------------------------------------------------------------------------------------


def test_version_asks_a_running_daemon_and_starts_none(shell: Shell) -> None:
    shell.daemon.answers("daemon.status", daemon_info(version="9.9"))
    document = shell.run("version", "--json").document
    assert document["version"] == __version__
    assert document["daemon"] == {"running": True, "version": "9.9"}
    shell.daemon.down = True
    assert shell.run("version", "--json").document["daemon"] == {"running": False, "version": None}
    assert {start for _name, start in shell.daemon.opened} == {False}


def test_a_mistake_of_the_program_is_a_coded_error_and_no_traceback(tmp_path: Path) -> None:
    program = tmp_path / "breaks.py"
    program.write_text(
        "import parlerd.cli.main as program\n"
        "def breaks(*args, **options):\n"
        "    raise RuntimeError('what somebody wrote')\n"
        "program.main = breaks\n"
        "program.entry()\n"
    )
    for words in (["rooms"], ["rooms", "--json"]):
        ran = subprocess.run(
            [sys.executable, program, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
        )
        assert ran.returncode == 1
        assert "RuntimeError at breaks.py:3." in ran.stdout
        assert "what somebody wrote" not in ran.stdout
        assert "Traceback" not in ran.stdout


def test_what_was_printed_arrives_whole_though_the_process_ends_at_once(tmp_path: Path) -> None:
    code = "import sys; from parlerd.cli.main import entry; entry()"
    ran = subprocess.run(
        [sys.executable, "-c", code, "help", "session", "open"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("usage: parler session open ")
    assert ran.stdout.rstrip().endswith("parler session open --topic auth-redesign --context-file recap.md")


def test_a_command_imports_no_translations_no_schemas_and_no_second_half_of_dates(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import parlerd.lean, parlerd.client, parlerd.cli.main, parlerd.cli.rooms\n"
        "from parlerd.cli.parsing import Parser\n"
        "Parser('parler', str).add_argument('--room')\n"
        "unwanted = {'gettext', 'locale', 'datetime', 'pathlib', 'shutil', 'textwrap', 'socket', 'msgspec.inspect'}\n"
        "print(sorted(unwanted & set(sys.modules) - before), file=sys.stderr)\n"
        "import argparse, datetime, gettext, msgspec.inspect\n"
        "print(msgspec.inspect.type_info(int), datetime.date(2026, 11, 28), gettext.gettext('a'), file=sys.stderr)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
    )
    first, second = ran.stderr.splitlines()
    assert first == "[]"
    assert second.startswith("IntType(")
    assert second.endswith(" 2026-11-28 a")


@pytest.mark.parametrize("words", [["rooms", "--as=a\udcff"], ["send", "caf\udce9"], ["\udcff"], ["rooms", "a\0b"]])
def test_words_that_are_no_text_are_a_usage_error_in_json_too(shell: Shell, words: list[str]) -> None:
    assert shell.run(*words).code == 2
    assert shell.run(*words, "--json").document["error"]["code"] == "invalid_param"


def test_a_name_from_the_environment_that_is_no_text_is_refused_by_its_variable(shell: Shell) -> None:
    ran = shell.run("rooms", env={"PARLER_AGENT": "a\udcff"})
    assert ran.code == 1
    assert "PARLER_AGENT" in ran.stderr
