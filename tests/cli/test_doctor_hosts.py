"""What `doctor` says of agent hosts: each thing that can be wrong, with its fix, and without a daemon."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from configs.drift import Drift
from configs.hooks import refresh, wake
from configs.hosts import find_host
from configs.ledger import Ledger
from configs.outcome import Outcome
from parlerd.cli.connect import place_of
from parlerd.cli.doctor_hosts import host_checks
from parlerd.operations import types as t
from tests.support.bench import Bench
from tests.support.settings_files import record


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    outcomes: list[Outcome] = []
    monkeypatch.setattr("configs.survey.survey", lambda _place, _hosts: outcomes)
    return outcomes


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: list[Outcome], drifts: list[Drift]) -> Bench:
    folder = tmp_path / "code"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return Bench(tmp_path)


def outcome(id: str, status: str) -> Outcome:
    return Outcome(host=find_host(id), detected=status != "not_detected", path=Path(f"/h/{id}"), status=status)


def checks(bench: Bench) -> list[t.Check]:
    checks = list(host_checks(bench.ctx))
    assert bench.daemon.opened == []
    assert all(check.fix for check in checks if not check.ok)
    return checks


def test_with_nothing_connected_all_is_well_and_the_command_is_named(bench: Bench, found: list[Outcome]) -> None:
    found.append(outcome("codex", "not_connected"))
    (check,) = checks(bench)
    assert check.ok
    assert "`parler connect`" in check.detail


def test_what_is_connected_is_listed_and_one_that_came_later_is_named_with_its_command(
    bench: Bench, found: list[Outcome]
) -> None:
    found += [outcome("codex", "connected"), outcome("gemini", "not_connected"), outcome("cursor", "not_detected")]
    connected, later, consent = checks(bench)
    assert (connected.ok, connected.detail) == (True, "connected: Codex")
    assert (later.name, later.ok) == ("Gemini CLI", True)
    assert later.detail.endswith("parler connect gemini")
    assert (consent.name, consent.ok) == ("Codex", True)
    assert consent.detail.endswith("parler connect codex --allow")


def test_a_host_that_needs_no_permission_is_not_spoken_of(bench: Bench, found: list[Outcome]) -> None:
    found += [outcome("opencode", "connected"), outcome("zed", "connected"), outcome("copilot", "connected")]
    _, copilot = checks(bench)
    assert "--allow-tool 'parler(parler_send)'" in copilot.detail


def test_a_plugin_is_named_with_what_takes_it_out(bench: Bench, found: list[Outcome]) -> None:
    settings = Path(bench.ctx.env["HOME"]) / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text('{"enabledPlugins": {"parler@parler": true}}')
    found.append(dataclasses.replace(outcome("claude-code", "connected"), path=None))
    named = next(check for check in checks(bench) if "plugin" in check.detail)
    assert (named.name, named.ok) == ("Claude Code", True)
    assert named.detail.startswith("has Parler as the plugin parler@parler; to take it out: claude plugin uninstall")
    found.append(outcome("claude-code", "changed"))
    twice = next(check for check in checks(bench) if "plugin" in check.detail)
    assert not twice.ok
    assert "twice: as the plugin parler@parler, and as an entry in /h/claude-code" in twice.detail
    assert twice.fix.startswith("parler connect --remove claude-code; or ")


@pytest.mark.parametrize("kind", ["lost", "changed", "missing_file"])
def test_an_entry_that_is_not_as_written_is_wrong(
    bench: Bench, found: list[Outcome], drifts: list[Drift], kind: str
) -> None:
    found += [outcome("codex", "not_connected"), outcome("gemini", "not_connected")]
    codex = find_host("codex")
    drifts.append(
        Drift(host=codex, path=Path("/h/codex"), kind=kind, sentence="It is gone.", fix="run: parler connect codex")  # type: ignore[arg-type]
    )
    first, connected, other = checks(bench)
    assert first == t.Check(name="Codex", ok=False, detail="It is gone.", fix="run: parler connect codex")
    assert (connected.ok, connected.detail) == (True, "none is connected as it was")
    assert other.name == "Gemini CLI"


def test_an_entry_that_the_person_switched_off_is_said_and_not_wrong(
    bench: Bench, found: list[Outcome], drifts: list[Drift]
) -> None:
    found.append(outcome("codex", "connected"))
    codex = find_host("codex")
    drifts.append(Drift(host=codex, path=Path("/h"), kind="disabled", sentence="It is off.", fix="Switch it on."))
    first, *_ = checks(bench)
    assert first == t.Check(name="Codex", ok=True, detail="It is off. Switch it on.", fix="")


def test_an_entry_whose_python_or_shim_is_gone_is_wrong(bench: Bench, found: list[Outcome], tmp_path: Path) -> None:
    found.append(outcome("codex", "connected"))
    python, shim = tmp_path / "python", tmp_path / "shim.py"
    python.touch()
    value = {"command": str(python), "args": ["-I", str(shim), "--host", "codex"], "env": {}}
    record(Ledger(bench.ctx.home), "entry", "codex", tmp_path / "config.toml", ("mcp_servers", "parler"), value)
    _, wrong, _ = checks(bench)
    assert (wrong.name, wrong.ok) == ("Codex", False)
    assert str(shim) in wrong.detail
    assert wrong.fix.endswith("parler connect codex")
    shim.touch()
    assert all(check.ok for check in checks(bench))


def test_a_repository_with_an_entry_of_our_name_or_a_hook_on_forms_is_wrong(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    (folder / ".mcp.json").write_text(json.dumps({"mcpServers": {"parler": {"command": "x"}}}))
    (folder / ".claude").mkdir()
    hook = {"hooks": {"Elicitation": [{"hooks": [{"type": "command", "command": "yes"}]}]}}
    (folder / ".claude/settings.json").write_text(json.dumps(hook))
    _, entry, answering = checks(bench)
    assert not entry.ok
    assert "~/code/.mcp.json" in entry.detail
    assert not answering.ok
    assert "~/code/.claude/settings.json" in answering.detail


def test_a_folder_that_is_gone_is_no_repository(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "code/.git").rmdir()
    (tmp_path / "code").rmdir()
    assert [check.ok for check in checks(bench)] == [True]


def test_hooks_that_run_another_python_are_wrong_and_plain_connect_mends_them(
    bench: Bench, found: list[Outcome], tmp_path: Path
) -> None:
    (tmp_path / ".codex").mkdir()
    codex = find_host("codex")
    place = place_of(bench.ctx)
    list(wake(dataclasses.replace(place, python="/old/python"), [codex]))
    (_, stale) = checks(bench)
    assert (stale.name, stale.ok, stale.fix) == ("Codex, hooks", False, "parler connect codex")
    assert [each.status for each in refresh(place, [codex])] == ["updated"]
    assert all(check.ok for check in checks(bench))


def test_an_entry_for_one_folder_that_starts_parler_is_named_and_wrong_only_if_it_starts_another(
    bench: Bench, tmp_path: Path
) -> None:
    def written(**entry: object) -> None:
        local = {"command": "parler", "args": ["mcp"], **entry}
        projects = {str(tmp_path / "code"): {"mcpServers": {"parler": local}}}
        (tmp_path / ".claude.json").write_text(json.dumps({"projects": projects}))

    written(env={"PARLER_SESSION_KEY": "A3KE7DJR"})
    (_, named) = checks(bench)
    assert (named.name, named.ok) == ("Claude Code", True)
    assert "claude mcp remove -s local parler" in named.detail
    written(env={"PARLER_HOME": "/another"})
    (_, wrong) = checks(bench)
    assert (wrong.ok, "another home" in wrong.detail) == (False, True)


def test_hooks_that_are_switched_off_in_their_host_are_said_and_not_wrong(
    bench: Bench, found: list[Outcome], tmp_path: Path
) -> None:
    (tmp_path / ".claude").mkdir()
    settings = tmp_path / ".claude" / "settings.json"
    settings.write_text('{"disableAllHooks": true}')
    assert len(checks(bench)) == 1
    list(wake(place_of(bench.ctx), [find_host("claude-code")]))
    (_, off) = checks(bench)
    assert (off.name, off.ok) == ("Claude Code, hooks", True)
    assert "`disableAllHooks`" in off.detail
