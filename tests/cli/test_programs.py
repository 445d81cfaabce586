"""completion and mcp: what they hand to other programs."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from configs.hosts import HOSTS
from parlerd.cli.commands import COMMANDS
from parlerd.cli.main import main
from parlerd.cli.output import Output
from parlerd.cli.program import PACKAGED_SHIM
from parlerd.core.errors import ParlerError
from parlerd.core.model import PeerText
from parlerd.operations import types as t
from tests.support.answers import ROOM, request
from tests.support.cli import Shell
from tests.support.wire_client import short_home


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_its_options(shell: Shell, name: str) -> None:
    pytest.importorskip("shtab")
    ran = shell.run("completion", name)
    assert ran.code == 0
    for command in COMMANDS:
        assert command.path[-1] in ran.stdout
    assert "no-wait" in ran.stdout
    assert "visible-to" in ran.stdout


def test_bash_completes_a_subcommand_and_an_option(shell: Shell) -> None:
    pytest.importorskip("shtab")
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    script = shell.run("completion", "bash").stdout

    def completed(*words: str) -> set[str]:
        ask = (
            f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
            "name=$(complete -p parler | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
            '"$name"; printf "%s\\n" "${COMPREPLY[@]}"\n'
        )
        ran = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
        return {line.strip() for line in ran.stdout.splitlines()}

    assert "session" in completed("parler", "se")
    assert completed("parler", "session", "op") == {"open"}
    assert "--no-approval" in completed("parler", "session", "open", "--no")


@pytest.fixture
def known(shell: Shell) -> Shell:
    """A daemon that knows a room, an agent in it, a key and somebody who knocks."""
    room = t.RoomInfo(
        room=ROOM,
        name="auth-redesign",
        topic=PeerText("x"),
        kind="session",
        home="local",
        owner="UA",
        agents=["sam"],
        members=2,
        unread=0,
        last_at=0,
        active=True,
        state="open",
    )
    over = msgspec.structs.replace(room, name="over", state="closed")
    members = [
        t.RosterMember(id="U", name=name, role="", host="", owner=False, state="member", presence="idle", since=0)
        for name in ("sam", "bob", "$(touch x)", "-rf")
    ]
    keys = [
        t.SessionKey(key_ref=key, session_key=key, approval=gated, expires=0, uses=0, max_uses=1, state=state)
        for key, gated, state in (
            ("A3KE7DJR", True, "live"),
            ("SECRETSECRETSECR", False, "live"),
            ("OLD", True, "expired"),
        )
    ]
    session = t.SessionInfo(
        room=ROOM, name="auth", topic=PeerText("x"), owner="UA", state="open", active=True, keys=keys
    )
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room, over]))
    shell.daemon.answers("rooms.roster", t.RosterResult(room=ROOM, name="auth", members=members, you="sam"))
    shell.daemon.answers("session.list", t.SessionList(sessions=[session]))
    shell.daemon.answers("approvals.list", t.RequestList(room=None, requests=[request("carol"), request("a b`c`")]))
    return shell


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("rooms", "auth-redesign\n"),
        ("agents", "bob\n"),
        ("mine", "sam\n"),
        ("keys", "A3KE7DJR\n"),
        ("knocks", "carol\n"),
    ],
)
def test_the_words_a_shell_asks_for_come_from_the_daemon_and_expand_to_nothing(
    known: Shell, kind: str, words: str
) -> None:
    ran = known.run("completion", "--words", kind)
    assert (ran.code, ran.stdout, ran.stderr) == (0, words, "")
    assert known.run("completion", "--words", kind, "--json").document == {"words": words.split()}
    assert all(not start for _, start in known.daemon.opened)


def test_where_no_daemon_runs_or_refuses_there_are_no_words(known: Shell) -> None:
    known.daemon._answers["rooms.list"].clear()
    known.daemon.answers("rooms.list", ParlerError("room_busy"))
    assert known.run("completion", "--words", "rooms").stdout == ""
    known.daemon.down = True
    ran = known.run("completion", "--words", "keys")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")


def test_a_daemon_that_hangs_holds_no_tab_for_longer_than_half_a_second(known: Shell) -> None:
    for kind in ("rooms", "agents", "mine", "keys", "knocks"):
        known.run("completion", "--words", kind)
    assert len(known.daemon.patience) == 5
    # The hello and the answer share the half second.
    for patience, asked in zip(known.daemon.patience, known.daemon.asked, strict=True):
        assert patience is not None
        assert asked.timeout is not None
        assert 0 <= asked.timeout <= patience <= 0.5


def test_a_daemon_that_accepts_and_says_nothing_gives_no_words_and_no_error(tmp_path: Path) -> None:
    with short_home() as home, socket.socket(socket.AF_UNIX) as silent:
        silent.bind(os.fspath(home.socket))
        silent.listen()
        said, errors = io.StringIO(), io.StringIO()
        out = Output(said, errors)
        words = ["--home", os.fspath(home.root), "completion", "--words", "rooms"]
        assert main(words, out=out, env={"HOME": os.fspath(tmp_path)}) == 0
    assert (said.getvalue(), errors.getvalue()) == ("", "")


def test_bash_completes_rooms_keys_and_who_knocks(shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    script = shell.run("completion", "bash").stdout
    program = tmp_path / "parler"
    program.write_text('#!/bin/sh\ntest "$1 $2" = "completion --words" && echo "one-of-$3 another"\n')
    program.chmod(0o700)

    def completed(*words: str) -> set[str]:
        ask = (
            f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
            "name=$(complete -p parler | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
            '"$name"; printf "%s\\n" "${COMPREPLY[@]}"\n'
        )
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        ran = subprocess.run(
            ["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True, env=environment
        )
        return {line.strip() for line in ran.stdout.splitlines()}

    assert completed("parler", "send", "--room", "one") == {"one-of-rooms"}
    assert completed("parler", "send", "--to", "o") == {"one-of-agents"}
    assert completed("parler", "session", "approve", "o") == {"one-of-knocks"}
    assert completed("parler", "session", "join", "o") == {"one-of-keys"}
    assert completed("parler", "rooms", "--as", "o") == {"one-of-mine"}


def test_bash_completes_agent_hosts_files_and_what_help_explains(shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    script = shell.run("completion", "bash").stdout
    tmp_path.joinpath("token").write_text("")

    def completed(*words: str) -> set[str]:
        ask = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _shtab_parler\n"
        return set(_bash(f'{script}\n{ask}printf "%s\\n" "${{COMPREPLY[@]}}"\n', tmp_path).split())

    assert completed("parler", "connect", "claude") == {"claude-code", "claude-desktop"}
    assert completed("parler", "connect", "codex", "claude") == {"claude-code", "claude-desktop"}
    assert completed("parler", "connect", "--except", "cod") == {"codex"}
    assert completed("parler", "doctor", "--probe", "cod") == {"codex"}
    assert completed("parler", "connect", "--wake-token-file", "tok") == {"token"}
    assert completed("parler", "help", "se") == {"send", "send-file", "serve", "serve-http", "session"}


def _bash(script: str, folder: Path) -> str:
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=folder).stdout


def test_fish_completes_commands_options_rooms_and_agent_hosts(shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    if shutil.which("fish") is None:
        pytest.skip("there is no fish here")
    tmp_path.joinpath("parler.fish").write_text(shell.run("completion", "fish").stdout)
    program = tmp_path / "parler"
    program.write_text('#!/bin/sh\ntest "$1 $2" = "completion --words" && echo "one-of-$3"\n')
    program.chmod(0o700)
    environment = {"HOME": os.fspath(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}", "TERM": "dumb"}

    def completed(line: str) -> set[str]:
        ask = f"source {tmp_path}/parler.fish; complete -C '{line}'"
        ran = subprocess.run(
            ["fish", "--no-config", "-c", ask], capture_output=True, text=True, check=True, env=environment
        )
        assert ran.stderr == ""
        return {each.partition("\t")[0] for each in ran.stdout.splitlines()}

    assert completed("parler se") == {"send", "send-file", "serve", "serve-http", "session"}
    assert completed("parler --as bob session op") == {"open"}
    assert completed("parler session open --no-") == {"--no-approval"}
    assert completed("parler send --room ") == {"one-of-rooms"}
    assert completed("parler connect codex claude") == {"claude-code", "claude-desktop"}


def test_the_script_for_zsh_takes_a_value_behind_an_equals_sign_and_every_host(shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    script = shell.run("completion", "zsh").stdout
    # `--room=[...]` is how zsh is told that `--room=NAME` and `--room NAME` are the same.
    assert '"--room=[' in script
    assert '"--room[' not in script
    assert '"*--to=[' in script
    assert '"--json[' in script
    # An argument that may be repeated is completed each time.
    (hosts,) = [line for line in script.splitlines() if line.startswith('  "*:of')]
    assert hosts.endswith(f':({" ".join(host.id for host in HOSTS)})"')
    if shutil.which("zsh") is not None:
        tmp_path.joinpath("_parler").write_text(script)
        subprocess.run(["zsh", "-n", tmp_path / "_parler"], check=True)


def test_completion_of_another_shell_is_a_usage_error(shell: Shell) -> None:
    assert shell.run("completion", "cmd").code == 2


def test_mcp_becomes_the_shim_of_this_install(tmp_path: Path) -> None:
    probe = (
        "import os, json, sys\n"
        "os.execve = lambda path, argv, env: (print(json.dumps([path, argv, env.get('PARLER_AGENT')])), sys.exit(0))\n"
        "from parlerd.cli.main import entry\n"
        "entry()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe, "mcp", "--host", "codex", "--home", str(tmp_path / "h"), "--as", "bob"],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
    )
    program, argv, agent = json.loads(ran.stdout)
    assert program == sys.executable
    assert argv[1:4] == ["-I", "-S", str(PACKAGED_SHIM)]
    assert argv[4:] == ["--home", str(tmp_path / "h"), "--host", "codex"]
    assert agent == "bob"
