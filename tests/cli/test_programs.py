"""connect --print, completion and mcp: what they hand to other programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from configs.hosts import HOSTS
from parlerd.cli.commands import COMMANDS
from parlerd.cli.program import PACKAGED_SHIM
from tests.support.cli import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_connect_print_of_one_host_is_the_snippet_alone(shell: Shell, tmp_path: Path) -> None:
    ran = shell.run("connect", "--print", "codex")
    assert ran.code == 0
    entry = tomllib.loads(ran.stdout)["mcp_servers"]["parler"]
    assert entry["command"] == sys.executable
    assert entry["args"][:2] == ["-I", "-S"]
    assert entry["args"][2] == str(tmp_path / ".parler/run/shim.py")
    assert entry["args"][3:] == ["--host", "codex", "--home", str(tmp_path / ".parler")]


def test_connect_print_as_json_has_every_host_and_writes_nothing(shell: Shell, tmp_path: Path) -> None:
    hosts = shell.run("connect", "--print", "--json").document["hosts"]
    assert [host["host"] for host in hosts] == [host.id for host in HOSTS]
    assert all(set(host) == {"host", "path", "format", "snippet"} for host in hosts)
    assert all(Path(host["path"]).is_absolute() for host in hosts)
    assert list(tmp_path.iterdir()) == []
    assert shell.daemon.opened == []


def test_connect_print_names_the_file_that_is_there(shell: Shell, tmp_path: Path) -> None:
    other = tmp_path / ".config/opencode/opencode.json"
    (fresh,) = shell.run("connect", "--print", "opencode", "--json").document["hosts"]
    assert fresh["path"].endswith("opencode.jsonc")
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    (found,) = shell.run("connect", "--print", "opencode", "--json").document["hosts"]
    assert found["path"] == str(other)


def test_connect_of_an_unknown_host_is_a_usage_error_that_lists_the_known(shell: Shell) -> None:
    ran = shell.run("connect", "--print", "emacs")
    assert ran.code == 2
    assert "claude-code" in ran.stderr


def test_connect_without_print_is_a_usage_error(shell: Shell) -> None:
    assert shell.run("connect").code == 2


@pytest.mark.parametrize("name", ["claude", "Claude-Code"])
def test_a_host_answers_to_its_aliases_in_any_case(shell: Shell, name: str) -> None:
    (host,) = shell.run("connect", "--print", name, "--json").document["hosts"]
    assert host["host"] == "claude-code"


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
