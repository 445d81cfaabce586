"""completion and mcp: what they hand to other programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parlerd.cli.commands import COMMANDS
from parlerd.cli.program import PACKAGED_SHIM
from tests.support.cli import Shell


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
