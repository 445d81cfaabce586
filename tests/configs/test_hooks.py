"""The wake hooks in hosts' settings: the exact bytes, nothing of anybody else's, and every byte back."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from configs.additions import MODE
from configs.detect import Place
from configs.hooks import command, refresh, stale, unwake, wake
from configs.hosts import HOSTS, find_host
from configs.ledger import Ledger
from parlerd.paths import Home

HOOKED: Final = [host.id for host in HOSTS if host.hooks is not None]
COMMENTED: Final = """\
{
    // ours to keep
    "hooks": {
        /* a hook of the person's own */
        "AfterAgent": [
            {"hooks": [{"type": "command", "command": "say done"}]}
        ],
        "BeforeAgent": []
    },
    "theme": "dark" // last
}
"""
CLAUDE: Final = """\
{
\t"env": {
\t\t"SECRET": "CANARY"
\t},
\t"hooks": {
\t\t"Stop": [
\t\t\t{
\t\t\t\t"hooks": [
\t\t\t\t\t{
\t\t\t\t\t\t"type": "command",
\t\t\t\t\t\t"command": "say done"
\t\t\t\t\t}
\t\t\t\t]
\t\t\t}
\t\t],
\t\t"PreToolUse": []
\t},
\t"model": "opus"
}"""
CODEX: Final = """\
# mine
model = "gpt" # the good one

[[hooks.Stop]]
[[hooks.Stop.hooks]]
type = "command" # say it
command = "say done"

[mcp_servers.other]
command = "other" # keep
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A person with every host that has hooks, and a home."""
    person = tmp_path / "person"
    for folder in (".claude", ".codex", ".gemini", ".cursor", ".qwen", ".copilot", ".factory", ".codeium/windsurf"):
        (person / folder).mkdir(parents=True)
    home = Home(person / ".parler", explicit=True)
    home.root.mkdir(mode=0o700)
    return Place(env={"HOME": str(person), "PATH": ""}, system="linux", python="/opt/py 3/bin/python", home=home)


def file(place: Place, host: str) -> Path:
    name = {"claude-code": ".claude/settings.json", "codex": ".codex/config.toml"}
    name |= {"gemini": ".gemini/settings.json", "cursor": ".cursor/hooks.json", "qwen": ".qwen/settings.json"}
    name |= {"copilot": ".copilot/hooks/parler.json", "droid": ".factory/settings.json"}
    return Path(place.env["HOME"]) / name[host]


def statuses(outcomes: Any) -> dict[str, str]:
    return {outcome.host.id: outcome.status for outcome in outcomes}


def parsed(path: Path) -> Any:
    text = path.read_text()
    return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)


def hooks_of(place: Place, host: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = parsed(file(place, host))["hooks"]
    return found


def ours(place: Place, host: str, event: str, *, milliseconds: bool = False) -> dict[str, Any]:
    return {"type": "command", "command": command(place, host, event), "timeout": 5000 if milliseconds else 5}


# -- what is written -----------------------------------------------------------------------------------------


def test_claude_code_gets_a_hook_at_each_of_three_events_and_a_waiter_at_two(place: Place) -> None:
    assert statuses(wake(place, [find_host("claude-code")])) == {"claude-code": "added"}
    waiter = {
        "type": "command",
        "command": command(place, "claude-code", "Wait"),
        "asyncRewake": True,
        "timeout": 28860,
    }
    hook = {event: ours(place, "claude-code", event) for event in ("SessionStart", "UserPromptSubmit", "Stop")}
    assert parsed(file(place, "claude-code")) == {
        "hooks": {
            "SessionStart": [{"hooks": [hook["SessionStart"], waiter]}],
            "UserPromptSubmit": [{"hooks": [hook["UserPromptSubmit"]]}],
            "Stop": [{"hooks": [hook["Stop"], waiter]}],
        }
    }


def test_codex_and_gemini_and_cursor_get_theirs(place: Place) -> None:
    hosts = [find_host(name) for name in ("codex", "gemini", "cursor")]
    assert set(statuses(wake(place, hosts)).values()) == {"added"}
    assert hooks_of(place, "codex") == {
        event: [{"hooks": [ours(place, "codex", event)]}] for event in ("SessionStart", "UserPromptSubmit", "Stop")
    }
    assert hooks_of(place, "gemini") == {
        event: [{"hooks": [{"name": "parler", **ours(place, "gemini", event, milliseconds=True)}]}]
        for event in ("SessionStart", "BeforeAgent", "AfterAgent")
    }
    assert parsed(file(place, "cursor")) == {
        "version": 1,
        "hooks": {"stop": [{"command": command(place, "cursor", "stop")}]},
    }


def answers(host: str) -> Mapping[str, str]:
    """What the host makes of our answers, by event."""
    hooks = find_host(host).hooks
    assert hooks is not None
    return hooks.answers


@pytest.mark.parametrize("host", HOOKED)
def test_every_event_that_is_written_is_one_that_the_hook_answers(place: Place, host: str) -> None:
    list(wake(place, [find_host(host)]))
    text = file(place, host).read_text()
    for event in answers(host):
        assert f" hook {host} {event} --home " in text
    assert text.count(f" hook {host} ") == len(answers(host)) + (1 if host == "claude-code" else 0)


def test_the_command_is_one_line_for_a_shell_and_absolute_in_every_part(place: Place) -> None:
    home = place.home.root
    assert command(place, "codex", "Stop") == (
        f"test -x '/opt/py 3/bin/python' && test -f {home}/run/shim.py && exec '/opt/py 3/bin/python' -I -S"
        f" {home}/run/shim.py hook codex Stop --home {home}; echo '{{}}'"
    )


@pytest.mark.parametrize("name", ["plain", "with space", "quote'd", "dollar$HOME", "semi;colon", "r\u00e4um"])
def test_a_path_of_any_name_stays_one_word(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / name, explicit=True)
    home.run.mkdir(parents=True)
    home.shim.write_text("")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    python.chmod(0o755)
    line = command(Place(env={}, system="linux", python=str(python), home=home), "codex", "Stop")
    ran = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, env={"HOME": "/x"}, check=True)
    assert ran.stdout.splitlines() == ["-I", "-S", str(home.shim), "hook", "codex", "Stop", "--home", str(home.root)]


def test_a_file_that_is_made_is_private(place: Place) -> None:
    list(wake(place, list(HOSTS)))
    for host in HOOKED:
        assert file(place, host).stat().st_mode & 0o777 == MODE


# -- what stays as it was ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "content"),
    [
        ("claude-code", CLAUDE),
        ("claude-code", "{}"),
        ("claude-code", '{"hooks":{}}\n'),
        ("claude-code", '{\r\n  "model": "opus"\r\n}\r\n'),
        ("codex", CODEX),
        ("codex", 'model = "gpt"'),
        ("codex", CODEX.replace("\n", "\r\n")),
        ("gemini", COMMENTED),
        ("gemini", "{}\n"),
        ("cursor", '{\n  "version": 1,\n  "hooks": {}\n}\n'),
        ("cursor", '{"version": 1, "hooks": {"stop": [{"command": "mine"}], "afterFileEdit": []}}'),
        ("cursor", "{}"),
        ("qwen", COMMENTED),
        ("qwen", '{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say done"}]}]}}'),
        ("droid", COMMENTED),
        ("copilot", '{"version": 1, "hooks": {"agentStop": [{"type": "command", "command": "mine"}]}}'),
    ],
)
def test_what_was_there_stays_and_every_byte_comes_back(place: Place, host: str, content: str) -> None:
    path = file(place, host)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode())
    known = find_host(host)
    assert statuses(wake(place, [known])) == {host: "added"}
    woken = path.read_bytes()
    assert woken != content.encode()
    for theirs in (
        b"say done",
        b"mine",
        b"// ours to keep",
        b"/* a hook of",
        b"// last",
        b"# the good one",
        b"# say it",
    ):
        assert (theirs in woken) is (theirs in content.encode())
    assert statuses(wake(place, [known])) == {host: "unchanged"}
    assert path.read_bytes() == woken
    assert statuses(unwake(place, [known])) == {host: "removed"}
    assert path.read_bytes() == content.encode()
    assert Ledger(place.home).entries("hook") == []
    assert statuses(unwake(place, [known])) == {}


@pytest.mark.parametrize("host", HOOKED)
def test_a_file_that_was_made_goes_with_its_hooks(place: Place, host: str) -> None:
    list(wake(place, [find_host(host)]))
    assert statuses(unwake(place, [find_host(host)])) == {host: "removed"}
    assert not file(place, host).exists()


def test_a_hook_that_somebody_added_meanwhile_stays_when_ours_go(place: Place) -> None:
    list(wake(place, [find_host("claude-code")]))
    path = file(place, "claude-code")
    found = parsed(path)
    found["hooks"]["Stop"].append({"hooks": [{"type": "command", "command": "say done"}]})
    path.write_text(json.dumps(found, indent=2))
    assert statuses(unwake(place, [find_host("claude-code")])) == {"claude-code": "removed"}
    assert parsed(path)["hooks"]["Stop"] == [{"hooks": [{"type": "command", "command": "say done"}]}]
    assert "parler" not in path.read_text()


def test_hooks_that_run_another_python_are_replaced_and_not_doubled(place: Place) -> None:
    for host in HOOKED:
        list(wake(place, [find_host(host)]))
    moved = Place(env=place.env, system=place.system, python="/new/python", home=place.home)
    for host in HOOKED:
        assert statuses(wake(moved, [find_host(host)])) == {host: "updated"}
        text = file(place, host).read_text()
        assert "/opt/py 3" not in text
        assert text.count(" hook ") == len(answers(host)) + (1 if host == "claude-code" else 0)
        assert statuses(unwake(moved, [find_host(host)])) == {host: "removed"}
        assert not file(place, host).exists()


def moved(place: Place) -> Place:
    """The same person, with Parler installed anew elsewhere."""
    return Place(env=place.env, system=place.system, python="/new/python", home=place.home)


def test_hooks_of_an_installation_that_moved_are_stale_and_are_brought_up_to_date(place: Place) -> None:
    for host in HOOKED:
        list(wake(place, [find_host(host)]))
    assert stale(place, HOSTS) == []
    assert list(refresh(place, HOSTS)) == []
    now = moved(place)
    assert {host.id: path for host, path in stale(now, HOSTS)} == {host: file(place, host) for host in HOOKED}
    shown = list(refresh(now, HOSTS, dry_run=True))
    assert all("+" in outcome.diff for outcome in shown)
    assert statuses(refresh(now, HOSTS)) == dict.fromkeys(HOOKED, "updated")
    assert stale(now, HOSTS) == []
    for host in HOOKED:
        text = file(place, host).read_text()
        assert "/opt/py 3" not in text
        assert text.count(" hook ") == len(answers(host)) + (1 if host == "claude-code" else 0)
        assert statuses(unwake(now, [find_host(host)])) == {host: "removed"}
        assert not file(place, host).exists()


def test_a_hook_that_the_person_took_out_is_neither_stale_nor_put_back(place: Place) -> None:
    codex = find_host("codex")
    list(wake(place, [codex]))
    path = file(place, "codex")
    text = path.read_text()
    path.write_text(text[: text.index("[[hooks.UserPromptSubmit]]")] + text[text.index("[[hooks.Stop]]") :])
    now = moved(place)
    assert statuses(refresh(now, [codex])) == {"codex": "updated"}
    assert set(hooks_of(place, "codex")) == {"SessionStart", "Stop"}
    path.write_text('model = "x"\n')
    assert stale(place, [codex]) == []
    assert list(refresh(place, [codex])) == []
    assert path.read_text() == 'model = "x"\n'


def test_hooks_that_were_never_agreed_to_are_not_added_by_bringing_them_up_to_date(place: Place) -> None:
    file(place, "codex").write_text(CODEX)
    assert list(refresh(moved(place), HOSTS)) == []
    assert file(place, "codex").read_text() == CODEX


@pytest.mark.parametrize("name", ["hooks.json", "hooks/hooks.json"])
def test_a_file_of_droid_that_hides_the_hooks_of_its_settings_gets_ours(place: Place, name: str) -> None:
    droid = find_host("droid")
    path = Path(place.env["HOME"]) / ".factory" / name
    path.parent.mkdir(exist_ok=True)
    theirs = '{"Stop": [{"hooks": [{"type": "command", "command": "say done"}]}]}'
    path.write_text(theirs)
    assert statuses(wake(place, [droid])) == {"droid": "added"}
    assert set(parsed(path)) == {"Stop", "SessionStart"}
    assert len(parsed(path)["Stop"]) == 2
    assert not file(place, "droid").exists()
    assert statuses(refresh(moved(place), [droid])) == {"droid": "updated"}
    assert statuses(unwake(place, [droid])) == {"droid": "removed"}
    assert path.read_text() == theirs


@pytest.mark.parametrize(
    ("host", "content", "key"),
    [
        ("claude-code", '{"disableAllHooks": true}', "disableAllHooks"),
        ("codex", "[features]\nhooks = false\n", "features.hooks"),
        ("gemini", '{"hooksConfig": {"enabled": false}}', "hooksConfig.enabled"),
        ("qwen", '{"disableAllHooks": true}', "disableAllHooks"),
        ("droid", '{"hooks": {"hooksDisabled": true}}', "hooks.hooksDisabled"),
    ],
)
def test_hooks_that_the_person_switched_off_in_the_host_are_said_to_run_nothing_and_stay_off(
    place: Place, host: str, content: str, key: str
) -> None:
    known = find_host(host)
    (on,) = wake(place, [known], dry_run=True)
    assert not any(key in note for note in on.notes)
    file(place, host).write_text(content)
    (off,) = wake(place, [known])
    assert off.status == "added"
    assert any(f"`{key}`" in note and "runs no hooks" in note for note in off.notes)
    (again,) = wake(place, [known])
    assert any(f"`{key}`" in note for note in again.notes)
    list(unwake(place, [known]))
    assert file(place, host).read_text() == content


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "content"),
    [
        ("claude-code", '{"hooks": []}'),
        ("claude-code", '{"hooks": {"Stop": {}}}'),
        ("claude-code", '{"a": 1, // CANARY\n}'),
        ("claude-code", "[]"),
        ("claude-code", '{"hooks": {}, "hooks": {}}'),
        ("codex", "hooks = 3\n"),
        ("codex", "x = CANARY\n"),
        ("gemini", '{"hooks": {"AfterAgent": "CANARY"}}'),
        ("gemini", '{"a": 1,}'),
    ],
)
def test_a_file_that_is_not_as_its_host_wants_it_is_left_alone(place: Place, host: str, content: str) -> None:
    path = file(place, host)
    path.write_text(content)
    (outcome,) = wake(place, [find_host(host)])
    assert outcome.status == "failed"
    assert path.read_text() == content
    assert "CANARY" not in outcome.reason + outcome.hint
    assert Ledger(place.home).entries("hook") == []


def test_a_host_without_hooks_is_told_so_and_one_that_is_not_here_is_passed_over(place: Place) -> None:
    (windsurf,) = wake(place, [find_host("windsurf"), find_host("opencode")])
    assert (windsurf.host.id, windsurf.status, windsurf.path) == ("windsurf", "skipped", None)
    assert "tools" in windsurf.reason


def test_a_dry_run_shows_what_would_be_and_writes_nothing(place: Place) -> None:
    file(place, "codex").write_text(CODEX)
    outcomes = list(wake(place, list(HOSTS), dry_run=True))
    shown = {outcome.host.id: outcome.diff for outcome in outcomes if outcome.status == "added"}
    assert set(shown) == set(HOOKED)
    assert all("+" in diff and " hook " in diff for diff in shown.values())
    assert file(place, "codex").read_text() == CODEX
    assert not file(place, "gemini").exists()
    assert Ledger(place.home).entries() == []
    list(wake(place, list(HOSTS)))
    before = file(place, "codex").read_bytes()
    assert {outcome.status for outcome in unwake(place, list(HOSTS), dry_run=True)} == {"removed"}
    assert file(place, "codex").read_bytes() == before
    assert len(Ledger(place.home).entries("hook")) == 18


def test_codex_users_are_told_to_trust_the_hooks(place: Place) -> None:
    (outcome,) = wake(place, [find_host("codex")])
    assert any("trust" in note for note in outcome.notes)
