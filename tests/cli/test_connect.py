"""`parler connect`: every status and option as a person and a script see them, with a library that answers from a list;
and the same with the real one in a home of its own.
"""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from configs import consent
from configs.detect import Place
from configs.hosts import HOSTS, find_host
from configs.keep import kept
from configs.model import Host
from configs.outcome import Outcome
from configs.sight import watched
from mcp_server.stdio import COPIES
from parlerd.controller import Controller, load
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import Home
from tests.support.cli import Shell

SECRET = "ghp_" + "a1B2" * 9
CONTROLLER = "qpc_" + "12ef" * 16


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    found = Shell(tmp_path)
    found.daemon.answers("hosts.seen", t.SeenHostList(hosts=[]))
    run = tmp_path / ".parler" / "run"
    run.mkdir(parents=True, mode=0o700)
    (run / "stdio").mkdir(mode=0o700)
    for name in COPIES:
        (run / name).write_text("")
    return found


class Library:
    """Stands in for `configs.connect` and `configs.hooks`: says what it was told, and remembers what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outcomes: list[Outcome] = []
        self.hooks: list[Outcome] = []
        self.allowed: list[Outcome] = []
        self.asked: list[tuple[str, list[str], dict[str, Any]]] = []
        monkeypatch.setattr("configs.survey.survey", self._named("survey", lambda: list(self.outcomes)))
        monkeypatch.setattr("configs.connect.connect", self._named("connect", lambda: iter(self.outcomes)))
        monkeypatch.setattr("configs.remove.remove", self._named("remove", lambda: iter(self.outcomes)))
        monkeypatch.setattr("configs.hooks.wake", self._named("wake", lambda: iter(self.hooks)))
        monkeypatch.setattr("configs.hooks.unwake", self._named("unwake", lambda: iter(self.hooks)))
        monkeypatch.setattr(consent, "allow", self._named("allow", lambda: iter(self.allowed)))
        monkeypatch.setattr(consent, "disallow", self._named("disallow", lambda: iter(self.allowed)))

    def _named(self, name: str, answer: Callable[[], Any]) -> Callable[..., Any]:
        def called(place: Place, hosts: Sequence[Host], **how: Any) -> Any:
            self.asked.append((name, [host.id for host in hosts], how))
            return answer()

        return called

    def says(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)

    def calls(self) -> list[str]:
        return [name for name, _hosts, _how in self.asked]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    return Library(monkeypatch)


def outcome(id: str, status: str, **about: Any) -> Outcome:
    detected = about.pop("detected", status not in ("skipped", "not_detected"))
    return Outcome(host=find_host(id), detected=detected, path=Path(f"/h/{id}"), status=status, **about)


# -- the document ----------------------------------------------------------------------------------------------


def test_the_document_has_a_row_for_each_file_with_the_fields_of_the_specification(
    shell: Shell, library: Library
) -> None:
    library.says(
        outcome("claude-code", "added", backup=Path("/b/codex/1")),
        outcome("codex", "unchanged"),
        outcome("gemini", "failed", reason="line 3: a comma", hint="Mend it.", snippet="{}"),
        dataclasses.replace(outcome("cursor", "skipped"), path=None),
    )
    ran = shell.run("connect", "--json")
    assert ran.code == 1
    document = ran.document
    assert document["home"] == "local"
    assert set(document) == {"hosts", "home"}
    first, second, third, fourth = document["hosts"]
    assert first == {
        "host": "claude-code",
        "detected": True,
        "path": "/h/claude-code",
        "status": "added",
        "backup": "/b/codex/1",
        "consent": "asks",
    }
    assert second == {
        "host": "codex",
        "detected": True,
        "path": "/h/codex",
        "status": "unchanged",
        "consent": "asks",
    }
    assert (third["reason"], third["hint"], third["snippet"]) == (
        "line 3: a comma",
        "Mend it.",
        "{}",
    )
    assert (fourth["detected"], fourth["path"], fourth["status"]) == (False, None, "skipped")


def test_finding_no_host_is_no_failure(shell: Shell, library: Library) -> None:
    library.says(*(outcome(host.id, "skipped") for host in HOSTS))
    ran = shell.run("connect")
    assert ran.code == 0
    assert "No agent host was found" in ran.stdout
    assert all(host.name in ran.stdout for host in HOSTS)


def test_without_names_every_host_is_asked_for_and_none_is_insisted_on(shell: Shell, library: Library) -> None:
    library.says(outcome("codex", "added"))
    shell.run("connect", "--local")
    shell.run("connect", "Codex", "codex", "claude", "--replace")
    (_, every, first), (_, two, second) = library.asked
    assert every == [host.id for host in HOSTS]
    assert first == {"chosen": False, "dry_run": False, "replace": False}
    assert two == ["codex", "claude-code"]
    assert second == {"chosen": True, "dry_run": False, "replace": True}


@pytest.mark.parametrize("words", [("connect",), ("connect", "--list"), ("connect", "--remove")])
def test_an_unknown_host_is_a_usage_error_with_the_nearest_name_or_else_the_list(
    shell: Shell, library: Library, words: tuple[str, ...]
) -> None:
    ran = shell.run(*words, "curser")
    assert ran.code == 2
    assert "no agent host is called 'curser'; did you mean cursor?\n" in ran.stderr
    assert "opencode" not in ran.stderr
    assert all(host.id in shell.run(*words, "zzzz").stderr for host in HOSTS)
    assert library.asked == []


@pytest.mark.parametrize(
    "words",
    [
        ("--list", "--print"),
        ("--list", "--remove"),
        ("--list", "--dry-run"),
        ("--list", "--keep"),
        ("--print", "--replace"),
        ("--remove", "--replace"),
        ("--remove", "--wake"),
        ("--verify", "--dry-run"),
        ("--timeout", "5"),
        ("--keep", "--no-keep"),
        ("--keep", "--dry-run"),
        ("--wake", "--no-wake"),
        ("--remove", "--allow"),
        ("--list", "--no-allow"),
        ("--print", "--allow"),
        ("--allow", "--no-allow"),
        ("--yes",),
    ],
)
def test_options_that_make_no_sense_together_are_a_usage_error(
    shell: Shell, library: Library, words: tuple[str, ...]
) -> None:
    assert shell.run("connect", *words).code == 2
    assert library.asked == []


# -- for a person ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [False, True])
def test_a_person_is_told_what_was_done_what_to_restart_and_one_line_to_type(
    shell: Shell, library: Library, terminal: bool
) -> None:
    library.says(
        outcome("claude-code", "added", backup=Path("/b/codex/1"), notes=("The file is a symlink.",)),
        outcome("codex", "unchanged", reason="disabled there"),
        outcome("cursor", "skipped"),
    )
    ran = shell.run("connect", terminal=terminal)
    assert ran.code == 0
    for told in (
        "added",
        "/h/claude-code",
        "kept in /b\n",
        "The file is a symlink.",
        "disabled there",
        "These are not here: Cursor",
    ):
        assert told in ran.stdout
    assert f"Claude Code: {find_host('claude-code').after}" in ran.stdout
    assert f"Codex: {find_host('codex').after}" not in ran.stdout
    assert "sealed" not in ran.stdout
    assert ran.stdout.splitlines()[-1] == "parler connect --verify"


def test_a_host_that_failed_is_told_with_the_snippet_and_the_others_go_on(shell: Shell, library: Library) -> None:
    library.says(
        outcome("gemini", "failed", reason="Line 3: a comma.", hint="Mend it.", snippet='{"a": 1}\n'),
        outcome("codex", "added"),
    )
    ran = shell.run("connect")
    assert ran.code == 1
    assert "Gemini CLI: Line 3: a comma." in ran.stdout
    assert "Mend it." in ran.stdout
    assert '\n{"a": 1}\n' in ran.stdout
    assert "added" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "parler connect"


def test_the_persons_home_is_shown_as_a_tilde(shell: Shell, library: Library, tmp_path: Path) -> None:
    library.says(dataclasses.replace(outcome("codex", "added"), path=tmp_path / ".codex" / "config.toml"))
    assert "~/.codex/config.toml" in shell.run("connect").stdout


@pytest.mark.parametrize("words", [(), ("--remove",)])
def test_a_dry_run_shows_each_change_without_secrets_and_changes_nothing(
    shell: Shell, library: Library, tmp_path: Path, words: tuple[str, ...]
) -> None:
    diff = f"--- a\n+++ b\n@@ -1 +1 @@\n-  x\n+  y\n   TOKEN = {SECRET}\n"
    library.says(outcome("codex", "removed" if words else "added", diff=diff))
    before = sorted(tmp_path.rglob("*"))
    ran = shell.run("connect", "--dry-run", *words)
    assert ran.code == 0
    assert "+  y" in ran.stdout
    assert "would" in ran.stdout
    assert "Nothing was written." in ran.stdout
    assert SECRET not in ran.stdout
    assert "[removed: GitHub token]" in ran.stdout
    assert all(how["dry_run"] for _name, _hosts, how in library.asked)
    assert sorted(tmp_path.rglob("*")) == before
    assert shell.daemon.opened == []
    (host,) = shell.run("connect", "--dry-run", "--json", *words).document["hosts"]
    assert SECRET not in host["diff"]


def test_control_characters_in_what_a_file_says_reach_no_terminal(shell: Shell, library: Library) -> None:
    library.says(outcome("codex", "added", diff="+\x1b]52;c;x\x07\n"))
    assert "\x1b" not in shell.run("connect", "--dry-run", terminal=True).stdout.replace("\x1b[", "")


# -- looking ---------------------------------------------------------------------------------------------------


def test_the_list_says_what_is_connected_and_touches_no_daemon(shell: Shell, library: Library) -> None:
    library.says(
        outcome("claude-code", "connected"), outcome("codex", "not_connected"), outcome("cursor", "not_detected")
    )
    ran = shell.run("connect", "--list")
    assert ran.code == 0
    assert "connected" in ran.stdout
    assert "not connected" in ran.stdout
    assert "These are not here: Cursor" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "parler connect"
    assert [host["status"] for host in shell.run("connect", "--list", "--json").document["hosts"]] == [
        "connected",
        "not_connected",
        "not_detected",
    ]
    assert shell.daemon.opened == []


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
    assert list(tmp_path.iterdir()) == [tmp_path / ".parler"]
    assert shell.daemon.opened == []


def test_connect_print_names_the_file_that_is_there(shell: Shell, tmp_path: Path) -> None:
    other = tmp_path / ".config/opencode/opencode.json"
    (fresh,) = shell.run("connect", "--print", "opencode", "--json").document["hosts"]
    assert fresh["path"].endswith("opencode.jsonc")
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    (found,) = shell.run("connect", "--print", "opencode", "--json").document["hosts"]
    assert found["path"] == str(other)


@pytest.mark.parametrize("name", ["claude", "Claude-Code"])
def test_a_host_answers_to_its_aliases_in_any_case(shell: Shell, name: str) -> None:
    (host,) = shell.run("connect", "--print", name, "--json").document["hosts"]
    assert host["host"] == "claude-code"


# -- taking out ------------------------------------------------------------------------------------------------


def test_removing_takes_out_entries_and_hooks_and_asks_nothing(shell: Shell, library: Library) -> None:
    library.says(outcome("codex", "removed"), outcome("gemini", "unchanged"))
    library.hooks = [outcome("codex", "removed")]
    ran = shell.run("connect", "--remove", "--json")
    assert ran.code == 0
    assert [host["status"] for host in ran.document["hosts"]] == ["removed", "unchanged"]
    assert [host["status"] for host in ran.document["hooks"]] == ["removed"]
    assert library.calls() == ["disallow", "unwake", "remove"]
    told = shell.run("connect", "--remove").stdout
    assert "Codex" in told
    assert "Gemini" not in told


def test_removing_what_was_never_connected_is_no_failure(shell: Shell, library: Library) -> None:
    library.says(outcome("codex", "unchanged"))
    assert shell.run("connect", "--remove").stdout == "Parler is connected to no agent host.\n"
    assert shell.run("connect", "--remove", "codex").code == 0


def test_a_removal_that_fails_exits_1(shell: Shell, library: Library) -> None:
    library.says(outcome("codex", "failed", reason="It was changed since."), outcome("gemini", "removed"))
    ran = shell.run("connect", "--remove")
    assert ran.code == 1
    assert "It was changed since." in ran.stdout


# -- the daemon ------------------------------------------------------------------------------------------------


def test_a_running_daemon_is_told_to_look_and_none_is_started(shell: Shell, library: Library) -> None:
    library.says(outcome("codex", "added"))
    shell.run("connect")
    shell.run("connect", "--remove")
    assert shell.daemon.params_of("hosts.seen") == [t.SeenHosts(look=True)] * 2
    assert {start for _name, start in shell.daemon.opened} == {False}
    shell.daemon.down = True
    assert shell.run("connect").code == 0


def test_where_no_daemon_ever_ran_one_is_started_before_an_entry_points_to_its_shim(
    shell: Shell, library: Library, tmp_path: Path
) -> None:
    (tmp_path / ".parler" / "run" / "shim.py").unlink()
    library.says(outcome("codex", "added"))
    assert shell.run("connect").code == 0
    assert shell.daemon.opened[0] == ("", True)


def test_nothing_is_written_when_no_daemon_can_be_started(
    shell: Shell, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".parler" / "run" / "shim.py").unlink()

    def broken(*_given: Any, **_how: Any) -> Any:
        raise ParlerError("unreachable")

    def on_iteration(place: Place, hosts: Sequence[Host], **how: Any) -> Iterator[Outcome]:
        return iter(lambda: pytest.fail("a file was touched"), None)

    monkeypatch.setattr(shell.daemon, "connect", broken)
    monkeypatch.setattr("configs.connect.connect", on_iteration)
    assert shell.run("connect").code == 3
    assert library.asked == []


def test_another_users_home_is_refused_before_a_daemon_is_started_in_it(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".parler" / "run" / "shim.py").unlink()
    monkeypatch.setattr("configs.disk.Disk.uid", lambda self: 54321)

    def started(*_given: Any, **_how: Any) -> Any:
        pytest.fail("a daemon was started")

    monkeypatch.setattr(shell.daemon, "connect", started)
    result = shell.run("connect")
    assert result.code == 1
    assert "belongs to" in result.stderr


# -- keep ------------------------------------------------------------------------------------------------------


def test_keep_is_remembered_for_the_hosts_that_are_connected_and_forgotten_when_taken_out(
    shell: Shell, library: Library, tmp_path: Path
) -> None:
    home = Home(tmp_path / ".parler")
    library.says(outcome("codex", "unchanged"), outcome("gemini", "failed", reason="x"), outcome("cursor", "skipped"))
    shell.run("connect")
    assert kept(home) == set()
    shell.run("connect", "--keep")
    assert kept(home) == {"codex"}
    shell.run("connect", "--no-keep")
    assert kept(home) == set()
    shell.run("connect", "--keep")
    shell.run("connect", "--remove", "gemini")
    assert kept(home) == {"codex"}
    shell.run("connect", "--remove")
    assert kept(home) == set()


# -- wake ------------------------------------------------------------------------------------------------------


def wakes(library: Library) -> list[bool]:
    return [how["dry_run"] for name, _hosts, how in library.asked if name == "wake"]


def test_hooks_are_shown_first_and_written_only_after_a_yes(shell: Shell, library: Library) -> None:
    library.says(outcome("codex", "unchanged"))
    library.hooks = [outcome("codex", "added", diff="+hook\n")]
    refused = shell.run("connect", "--wake", terminal=True, stdin=b"\n")
    assert refused.code == 1
    assert "+hook" in refused.stdout
    assert "[y/N]" in refused.stderr
    assert (wakes(library), library.calls()) == ([True], ["wake"])
    agreed = shell.run("connect", "--wake", terminal=True, stdin=b"yes\n")
    assert agreed.code == 0
    assert wakes(library) == [True, True, False]
    assert "Codex, hooks" in agreed.stdout


def test_off_a_terminal_hooks_are_refused_with_the_command_to_run(shell: Shell, library: Library) -> None:
    library.hooks = [outcome("codex", "added", diff="+hook\n")]
    ran = shell.run("connect", "codex", "--wake", "--json")
    assert ran.code == 1
    assert ran.document["error"]["code"] == "needs_yes"
    assert "parler connect codex --wake --yes" in ran.document["error"]["hint"]
    assert shell.run("connect", "--wake").code == 1
    assert library.asked == []


def test_with_yes_hooks_are_written_without_asking(shell: Shell, library: Library) -> None:
    library.hooks = [outcome("codex", "added", diff="+hook\n")]
    ran = shell.run("connect", "--wake", "--yes", "--json")
    assert ran.code == 0
    assert wakes(library) == [False]
    assert ran.document["hooks"][0]["host"] == "codex"


def test_hooks_that_are_there_already_are_not_asked_about(shell: Shell, library: Library) -> None:
    library.hooks = [outcome("codex", "unchanged")]
    ran = shell.run("connect", "--wake", terminal=True)
    assert ran.code == 0
    assert "[y/N]" not in ran.stderr


def test_a_dry_run_of_hooks_asks_nothing_and_no_wake_takes_them_out(shell: Shell, library: Library) -> None:
    library.hooks = [outcome("codex", "added", diff="+hook\n")]
    assert "+hook" in shell.run("connect", "--wake", "--dry-run").stdout
    assert wakes(library) == [True]
    library.asked.clear()
    shell.run("connect", "--no-wake")
    assert library.calls() == ["connect", "unwake"]


def test_without_a_word_about_hooks_they_are_left_alone(shell: Shell, library: Library) -> None:
    library.says(outcome("codex", "added"))
    shell.run("connect")
    assert library.calls() == ["connect"]


# -- allow -----------------------------------------------------------------------------------------------------


def test_permissions_are_shown_first_and_written_only_after_a_yes(shell: Shell, library: Library) -> None:
    library.says(outcome("codex", "unchanged"))
    skipped = outcome("copilot", "skipped", detected=True, reason="R.", hint="H")
    library.allowed = [outcome("codex", "added", diff="+approve\n"), skipped]
    refused = shell.run("connect", "--allow", terminal=True, stdin=b"\n")
    assert refused.code == 1
    assert "+approve" in refused.stdout
    assert library.calls() == ["allow"]
    agreed = shell.run("connect", "--allow", terminal=True, stdin=b"y\n")
    assert agreed.code == 0
    assert library.calls() == ["allow", "allow", "connect", "allow"]
    assert [how["dry_run"] for name, _hosts, how in library.asked if name == "allow"] == [True, True, False]
    assert "Codex, permission" in agreed.stdout
    assert "R. H" in agreed.stdout


def test_hooks_and_permissions_are_agreed_to_together(shell: Shell, library: Library) -> None:
    library.hooks = [outcome("codex", "added", diff="+hook\n")]
    library.allowed = [outcome("codex", "added", diff="+approve\n")]
    ran = shell.run("connect", "--wake", "--allow", terminal=True, stdin=b"y\n")
    assert ran.stderr.count("[y/N]") == 1
    assert "+hook" in ran.stdout
    assert "+approve" in ran.stdout
    refused = shell.run("connect", "codex", "--wake", "--allow", "--json")
    assert "parler connect codex --wake --allow --yes" in refused.document["error"]["hint"]


def test_with_yes_permissions_are_written_without_asking_and_no_allow_takes_them_out(
    shell: Shell, library: Library
) -> None:
    library.allowed = [outcome("codex", "added", diff="+approve\n")]
    ran = shell.run("connect", "--allow", "--yes", "--json")
    assert (ran.code, ran.document["allowed"][0]["host"]) == (0, "codex")
    assert library.calls() == ["connect", "allow"]
    library.asked.clear()
    shell.run("connect", "--no-allow")
    assert library.calls() == ["connect", "disallow"]


def test_plain_connect_allows_nothing_and_says_of_each_host_that_asks_how_to(shell: Shell, library: Library) -> None:
    library.says(outcome("codex", "added"), outcome("opencode", "added"), outcome("copilot", "unchanged"))
    ran = shell.run("connect")
    assert library.calls() == ["connect"]
    lines = [line for line in ran.stdout.splitlines() if "--allow" in line]
    assert [line.partition(" asks")[0] for line in lines] == ["Codex", "GitHub Copilot CLI"]
    assert lines[0].endswith("parler connect codex --allow")
    listed = shell.run("connect", "--list")
    assert "parler connect codex --allow" in listed.stdout
    assert "OpenCode runs Parler's tools without asking." in listed.stdout


def test_with_real_files_allow_goes_in_and_remove_gives_every_byte_back(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".gemini").mkdir()
    file = tmp_path / ".codex" / "config.toml"
    file.write_text('# mine\nmodel = "x"\n')
    assert shell.run("connect", "codex", "gemini", "--allow", "--yes").code == 0
    tools = tomllib.loads(file.read_text())["mcp_servers"]["parler"]["tools"]
    assert tools["parler_send"] == {"approval_mode": "approve"}
    assert "parler_approve" not in tools
    assert (tmp_path / ".gemini/policies/parler.toml").exists()
    rows = {row["host"]: row for row in shell.run("connect", "codex", "gemini", "--list", "--json").document["hosts"]}
    assert {rows["codex"]["consent"], rows["gemini"]["consent"]} == {"allowed"}
    assert shell.run("connect", "--remove").code == 0
    assert file.read_text() == '# mine\nmodel = "x"\n'
    assert sorted(path.name for path in (tmp_path / ".gemini").iterdir()) == []


# -- the token for Qwen's inbox --------------------------------------------------------------------------------


def test_a_token_is_kept_privately_and_shown_nowhere(shell: Shell, library: Library, tmp_path: Path) -> None:
    library.says(outcome("qwen", "unchanged"))
    file = tmp_path / "token"
    file.write_text(f"Controller added.\n{CONTROLLER}\n")
    ran = shell.run("connect", "qwen", "--wake-token-file", str(file))
    assert ran.code == 0
    home = Home(tmp_path / ".parler")
    assert load(home) == Controller(tmp_path / ".qwen" / "sessions", CONTROLLER)
    assert "parler daemon restart" in ran.stderr
    piped = shell.run("connect", "qwen", "--wake-token-file", "-", "--json", stdin=CONTROLLER.encode())
    assert piped.code == 0
    assert "qpc_" not in ran.stdout + ran.stderr + piped.stdout + piped.stderr
    assert shell.run("connect", "--remove").code == 0
    assert load(home) is None


def test_a_token_goes_with_the_other_ways_of_waking(shell: Shell, library: Library, tmp_path: Path) -> None:
    home = Home(tmp_path / ".parler")
    (tmp_path / "token").write_text(CONTROLLER)
    shell.run("connect", "qwen", "--wake-token-file", str(tmp_path / "token"))
    shell.run("connect", "codex", "--no-wake")
    assert load(home) is not None
    shell.run("connect", "--no-wake")
    assert load(home) is None


@pytest.mark.parametrize(
    ("words", "content"),
    [
        (("qwen", "--wake-token-file"), "qpc_short"),
        (("codex", "--wake-token-file"), CONTROLLER),
        (("--wake-token-file",), CONTROLLER),
        (("qwen", "--list", "--wake-token-file"), CONTROLLER),
    ],
)
def test_what_is_no_token_or_for_no_qwen_is_a_usage_error(
    shell: Shell, library: Library, tmp_path: Path, words: tuple[str, ...], content: str
) -> None:
    (tmp_path / "token").write_text(content)
    ran = shell.run("connect", *words, str(tmp_path / "token"))
    assert ran.code == 2
    assert library.asked == []
    assert load(Home(tmp_path / ".parler")) is None
    assert shell.run("connect", "qwen", "--wake-token-file", str(tmp_path / "absent")).code == 2


# -- one host left out -----------------------------------------------------------------------------------------


def test_a_host_can_be_left_out_of_every_form_of_the_command(shell: Shell, library: Library) -> None:
    shell.run("connect", "--except", "claude", "--except", "codex")
    shell.run("connect", "codex", "gemini", "--except", "Codex", "--list")
    (_, added, _), (_, listed, _) = library.asked
    assert added == [host.id for host in HOSTS if host.id not in ("claude-code", "codex")]
    assert listed == ["gemini"]
    assert shell.run("connect", "codex", "--except", "codex").code == 2
    assert shell.run("connect", "--except", "emacs").code == 2
    assert len(library.asked) == 2


# -- hooks of an installation that moved -----------------------------------------------------------------------


def test_plain_connect_brings_hooks_up_to_date_and_says_so(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".codex").mkdir()
    file = tmp_path / ".codex" / "config.toml"
    assert shell.run("connect", "codex", "--wake", "--yes").code == 0
    elsewhere = tmp_path / "bin" / "python3"
    elsewhere.parent.mkdir()
    elsewhere.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(elsewhere))
    assert file.read_text().count(str(elsewhere)) == 0
    ran = shell.run("connect", "codex")
    assert ran.code == 0
    assert "Codex, hooks" in ran.stdout
    hooks = tomllib.loads(file.read_text())["hooks"]
    assert {each["hooks"][0]["command"].split()[2] for group in hooks.values() for each in group} == {str(elsewhere)}
    again = shell.run("connect", "codex", "--json")
    assert "hooks" not in again.document
    assert shell.run("connect", "--remove", "codex").code == 0
    assert not file.exists()


# -- the records of hosts --------------------------------------------------------------------------------------


@pytest.fixture
def _nobody_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parlerd.cli.team.agent_host_above", lambda: "")


@pytest.mark.usefixtures("_nobody_above")
def test_records_are_watched_only_after_a_person_read_what_that_means_and_said_yes(
    shell: Shell, library: Library
) -> None:
    ran = shell.run("connect", "codex", "--sight", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "needs_yes")
    assert "parler connect codex --sight --yes" in ran.document["error"]["hint"]
    ran = shell.run("connect", "codex", "--sight", terminal=True, stdin=b"n\n")
    assert ran.code == 1
    assert "your prompts" in ran.stderr
    assert "keeps no text and no path" in " ".join(ran.stderr.split())
    assert watched(Home(shell.home / ".parler")) == frozenset()
    assert library.calls() == [], "nothing was written for who said no"
    ran = shell.run("connect", "codex", "--sight", terminal=True, stdin=b"y\n")
    assert ran.code == 0
    assert "parler connect codex --no-sight" in ran.stderr
    assert watched(Home(shell.home / ".parler")) == {"codex"}
    assert shell.daemon.params_of("hosts.seen")[-1] == t.SeenHosts(look=True), "the daemon goes by it at once"


@pytest.mark.usefixtures("_nobody_above")
@pytest.mark.parametrize("ends", [("connect", "codex", "--no-sight"), ("connect", "--remove", "codex")])
def test_records_are_watched_no_more_once_the_person_says_so(
    shell: Shell, library: Library, ends: tuple[str, ...]
) -> None:
    ran = shell.run("connect", "codex", "claude-code", "--sight", "--yes")
    assert ran.code == 0
    assert "your prompts" in ran.stderr, "what it means is said also where nobody is asked"
    assert watched(Home(shell.home / ".parler")) == {"codex", "claude-code"}
    shell.run("connect")
    assert watched(Home(shell.home / ".parler")) == {"codex", "claude-code"}, (
        "without a word about records nothing changes"
    )
    ran = shell.run(*ends)
    assert ran.code == 0
    assert "Parler watches the records of Codex no more." in ran.stderr
    assert watched(Home(shell.home / ".parler")) == {"claude-code"}
    ran = shell.run("connect", "codex", "--no-sight")
    assert (ran.code, "Parler did not watch the records of Codex." in ran.stderr) == (0, True)


@pytest.mark.usefixtures("_nobody_above")
def test_the_list_says_whose_records_are_watched_and_what_ends_it(shell: Shell) -> None:
    said = "Parler watches the records of Codex. To end that: parler connect codex --no-sight"
    assert said not in shell.run("connect", "--list").stdout
    shell.run("connect", "codex", "--sight", "--yes")
    assert said in shell.run("connect", "--list").stdout
    rows = shell.run("connect", "--list", "--json").document["hosts"]
    assert {row["host"] for row in rows if row.get("sight")} == {"codex"}


@pytest.mark.usefixtures("_nobody_above")
def test_records_are_watched_of_hosts_that_are_named_and_were_measured(shell: Shell, library: Library) -> None:
    assert shell.run("connect", "--sight", "--yes").code == 2
    ran = shell.run("connect", "zed", "--sight", "--yes")
    assert ran.code == 2
    assert "nobody measured what zed records" in ran.stderr
    assert watched(Home(shell.home / ".parler")) == frozenset()


@pytest.mark.usefixtures("_nobody_above")
def test_a_person_is_told_that_a_host_which_tells_nobody_its_release_proves_nothing(
    shell: Shell, library: Library
) -> None:
    ran = shell.run("connect", "kimi", "codex", "--sight", "--yes")
    said = " ".join(ran.stderr.split())
    assert "Kimi Code tells nobody which release it is, so what it records proves nothing yet." in said
    assert "Codex tells nobody" not in said


def test_an_agent_host_turns_no_watching_on(shell: Shell, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parlerd.cli.team.agent_host_above", lambda: "codex")
    ran = shell.run("connect", "codex", "--sight", "--yes", "--json")
    assert ran.document["error"]["code"] == "needs_person"
    assert watched(Home(shell.home / ".parler")) == frozenset()
