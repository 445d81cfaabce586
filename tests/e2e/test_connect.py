"""Connecting with everything real: settings of three hosts, an entry started as its host would, a daemon that looks."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import processes
from tests.support.processes import Somebody, until

pytestmark = pytest.mark.e2e

HOSTS: Final = ("claude-code", "codex", "gemini")
CLAUDE: Final = '{\n  "numStartups": 7,\n  "mcpServers": {\n    "other": {"command": "x"}\n  }\n}'
CODEX: Final = '# mine\nmodel = "o"  # the best\r\n\r\n[mcp_servers.other]\r\ncommand = "x"\r\n'
GEMINI: Final = '// a comment\n{\n\t"mcpServers": {\n\t\t"other": {"command": "x"} // another\n\t}\n}\n'


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Somebody]:
    with processes.somebody(monkeypatch) as one:
        for name, text in files(one).items():
            name.parent.mkdir(exist_ok=True)
            name.write_bytes(text.encode())
        yield one


def files(somebody: Somebody) -> dict[Path, str]:
    home = somebody.user
    return {home / ".claude.json": CLAUDE, home / ".codex/config.toml": CODEX, home / ".gemini/settings.json": GEMINI}


def statuses(document: Any) -> dict[str, str]:
    return {host["host"]: host["status"] for host in document["hosts"]}


def entry(somebody: Somebody) -> list[str]:
    """What Codex starts: the command line that its settings name."""
    settings = tomllib.loads((somebody.user / ".codex/config.toml").read_text())
    ours = settings["mcp_servers"]["parler"]
    return [ours["command"], *ours["args"]]


def test_hosts_are_connected_listed_and_given_back_to_the_byte(somebody: Somebody) -> None:
    added = somebody.asks("connect", *HOSTS)
    assert statuses(added) == dict.fromkeys(HOSTS, "added")
    assert all(Path(host["backup"]).read_bytes() for host in added["hosts"])
    assert statuses(somebody.asks("connect", "--list", *HOSTS)) == dict.fromkeys(HOSTS, "connected")
    connected = {path: path.read_bytes() for path in files(somebody)}
    assert statuses(somebody.asks("connect", *HOSTS)) == dict.fromkeys(HOSTS, "unchanged")
    assert {path: path.read_bytes() for path in files(somebody)} == connected
    assert statuses(somebody.asks("connect", "--remove", *HOSTS)) == dict.fromkeys(HOSTS, "removed")
    assert {path: path.read_bytes().decode() for path in files(somebody)} == files(somebody)


def test_a_dry_run_leaves_every_byte_and_makes_no_home(somebody: Somebody) -> None:
    ran = somebody.runs("connect", "--dry-run", *HOSTS)
    assert "+" in ran.stdout
    assert {path: path.read_bytes().decode() for path in files(somebody)} == files(somebody)
    assert not somebody.home.root.exists()


def test_verify_sees_the_host_that_starts_the_entry_and_names_the_one_that_does_not(somebody: Somebody) -> None:
    somebody.asks("connect", "codex", "gemini")
    verifying = somebody.starts("connect", "codex", "gemini", "--verify", "--timeout", "8", "--json")
    # Bare, as Codex starts its servers: the entry leans on nothing of the environment.
    environment = {"HOME": str(somebody.user)}
    with subprocess.Popen(entry(somebody), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment):
        document = somebody.ends(verifying, expect=1).document
    seen = {host["host"]: host for host in document["hosts"]}
    assert seen["codex"]["seen"] is True
    assert seen["codex"]["seen_at"] > 0
    assert seen["gemini"]["seen"] is False
    assert "GEMINI_CLI_TRUST_WORKSPACE" in seen["gemini"]["why"]


def test_the_daemon_notices_an_entry_that_its_host_dropped_and_doctor_names_the_fix(somebody: Somebody) -> None:
    somebody.asks("connect", "codex")
    settings = somebody.user / ".codex/config.toml"
    rewrite(settings, CODEX)
    until(lambda: "the entry of codex: lost" in somebody.log(), "word of the lost entry in the log")
    assert "parler" not in settings.read_text()
    (check,) = [each for each in somebody.asks("doctor", expect=1)["checks"] if not each["ok"]]
    assert check["name"] == "Codex"
    assert "parler connect" in check["fix"]
    somebody.asks("connect", "codex")
    assert somebody.asks("doctor")["ok"] is True


def test_with_keep_the_daemon_puts_a_dropped_entry_back_and_after_remove_it_does_not(somebody: Somebody) -> None:
    somebody.asks("connect", "codex", "--keep")
    settings = somebody.user / ".codex/config.toml"
    connected = settings.read_bytes()
    rewrite(settings, CODEX)
    until(lambda: settings.read_bytes() == connected, "entry that was put back")
    somebody.asks("connect", "--remove", "codex")
    assert settings.read_bytes().decode() == CODEX
    looked = somebody.log().count("the entry of codex")
    rewrite(settings, CODEX + "# changed\r\n")
    somebody.asks("connect", "--list")
    assert somebody.log().count("the entry of codex") == looked


def test_two_that_connect_at_once_both_find_it_done_and_the_file_whole(somebody: Somebody) -> None:
    somebody.runs("daemon", "start")
    running = [somebody.starts("connect", *HOSTS, "--json") for _ in range(2)]
    found = [statuses(somebody.ends(child).document) for child in running]
    for host in HOSTS:
        assert sorted(each[host] for each in found) == ["added", "unchanged"]
    assert json.loads((somebody.user / ".claude.json").read_text())["mcpServers"].keys() == {"other", "parler"}
    somebody.asks("connect", "--remove", *HOSTS)
    assert {path: path.read_bytes().decode() for path in files(somebody)} == files(somebody)


def rewrite(path: Path, text: str) -> None:
    """Replace a file as a host does that forgot what it did not write."""
    temporary = path.with_name("new")
    temporary.write_bytes(text.encode())
    os.replace(temporary, path)
