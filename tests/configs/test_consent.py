"""What lets a host use our tools: exactly those that read and talk, only when asked for, and every byte back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import pytest

from configs.connect import connect
from configs.consent import Standing, allow, disallow, sentence, standing
from configs.drift import drift, watched
from configs.hooks import unwake, wake
from configs.hosts import HOSTS, find_host
from configs.ledger import Ledger
from configs.model import MESSAGING, Host
from configs.outcome import Outcome
from configs.remove import remove
from parlerd.operations.registry import OPERATIONS
from tests.support.person import Person

SETTABLE: Final = [host for host in HOSTS if host.consent is not None and (host.consent.put or host.consent.appended)]
ASKING: Final = [host for host in SETTABLE if host.consent is not None and host.consent.asks]
TALKING: Final = {operation.tool.tool for operation in OPERATIONS.values() if operation.tool}
APPROVE: Final = "parler_approve"
"""The tool beside those of the registry: it asks the person."""
EVERY_ASKING: Final = pytest.mark.parametrize("host", ASKING, ids=lambda host: host.id)
PERSONS: Final = {
    # What each of those files may hold already, written as nobody writes it by program.
    "claude-code": (
        ".claude/settings.json",
        '{\n\t"permissions": {"allow": ["Bash(ls)"], "deny": []},\n\t"model": "x"\n}',
    ),
    "codex": (
        ".codex/config.toml",
        '# mine\nmodel = "x"   # why\n\n[mcp_servers.other]\ncommand = "x"\n\n[tui]\na = 1\n',
    ),
    "gemini": (".gemini/policies/mine.toml", '[[rule]]\ntoolName = "x"\n'),
    "qwen": (".qwen/settings.json", '{\n  // mine\n  "permissions": {\n    "allow": ["a", "b"] // two\n  }\n}\n'),
    "droid": (".factory/settings.json", '{\n  "model": "x", // mine\n  "mcpAutonomyOverrides": {"other": {}}\n}\n'),
    "grok": (".grok/config.toml", '[permission] # mine\nallow = ["Bash(ls)"]\ndeny = []\n'),
}
FILES: Final = {
    "claude-code": ".claude/settings.json",
    "codex": ".codex/config.toml",
    "gemini": ".gemini/policies/parler.toml",
    "qwen": ".qwen/settings.json",
    "droid": ".factory/settings.json",
    "grok": ".grok/config.toml",
}


def joined(ann: Person, host: Host) -> None:
    (outcome,) = connect(ann.place, [host], chosen=True)
    assert outcome.status in ("added", "unchanged")


def one(ann: Person, host: Host, **how: Any) -> Outcome:
    (outcome,) = allow(ann.place, [host], **how)
    return outcome


def here(ann: Person, host: Host) -> None:
    """The host as somebody has it."""
    name, text = PERSONS[host.id]
    ann.write(name, text)
    ann.install(host.on_path[0])


def said(ann: Person, host: Host) -> Any:
    path = ann.path(FILES[host.id])
    return tomllib.loads(path.read_text()) if path.suffix == ".toml" else json.loads(path.read_text())


def test_every_host_of_its_kind_and_no_other_has_its_row_in_these_tables() -> None:
    assert set(PERSONS) == set(FILES) == {host.id for host in ASKING}
    assert set(READERS) == {host.id for host in SETTABLE}


# -- what is allowed -----------------------------------------------------------------------------------------------


def test_what_may_be_allowed_reads_or_talks_and_is_never_about_a_persons_decision() -> None:
    assert set(MESSAGING) <= TALKING
    text = " ".join(repr(host.consent) for host in HOSTS)
    assert APPROVE not in text
    assert "parler_leave" not in text
    for host in SETTABLE:
        assert host.consent is not None
        assert "*" not in repr((host.consent.put, host.consent.appended)), host.id


@EVERY_ASKING
def test_connecting_allows_nothing(host: Host, ann: Person) -> None:
    here(ann, host)
    joined(ann, host)
    assert standing(ann.place, host) == "asks"
    assert sentence(ann.place, host).endswith(f"parler connect {host.id} --allow")
    assert Ledger(ann.parler).entries("consent") == []


@pytest.mark.parametrize(
    ("id", "wanted"),
    [
        ("claude-code", ("permissions", "allow", ["Bash(ls)", *(f"mcp__parler__{tool}" for tool in MESSAGING)])),
        ("codex", ("mcp_servers", "parler", "tools", {tool: {"approval_mode": "approve"} for tool in MESSAGING})),
        (
            "gemini",
            ("rule", [{"mcpName": "parler", "toolName": list(MESSAGING), "decision": "allow", "priority": 100}]),
        ),
        ("droid", ("mcpAutonomyOverrides", "parler", "tools", dict.fromkeys(MESSAGING, "low"))),
        ("grok", ("permission", "allow", ["Bash(ls)", *(f"MCPTool(parler__{tool})" for tool in MESSAGING)])),
    ],
)
def test_each_host_is_told_in_its_own_words(id: str, wanted: tuple[Any, ...], ann: Person) -> None:
    host = find_host(id)
    here(ann, host)
    joined(ann, host)
    assert one(ann, host).status == "added"
    found = said(ann, host) if id != "droid" else json.loads(ann.path(FILES[id]).read_text().replace(" // mine", ""))
    for key in wanted[:-1]:
        found = found[key]
    assert found == wanted[-1]


def _claude(settings: Any, tool: str) -> bool:
    rules = settings["permissions"]["allow"]
    return any(rule == "mcp__parler" or fnmatchcase(f"mcp__parler__{tool}", rule) for rule in rules)


def _codex(settings: Any, tool: str) -> bool:
    ours = settings["mcp_servers"]["parler"]
    answer = ours.get("tools", {}).get(tool, {}).get("approval_mode", ours.get("default_tools_approval_mode"))
    return bool(answer == "approve" or settings.get("approval_policy") == "never")


def _gemini(settings: Any, tool: str) -> bool:
    return any(
        rule["decision"] == "allow"
        and rule.get("mcpName", "parler") == "parler"
        and tool in rule.get("toolName", [tool])
        for rule in settings["rule"]
    )


def _opencode(settings: Any, tool: str) -> bool:
    answers = [said for rule, said in settings["permission"].items() if fnmatchcase(f"parler_{tool}", rule)]
    return answers[-1:] == ["allow"]  # the last one that fits


def _droid(settings: Any, tool: str) -> bool:
    ours = settings["mcpAutonomyOverrides"]["parler"]
    # Whatever else is said of a server may be about all of its tools.
    return tool in ours.get("tools", {}) or bool(ours.keys() - {"tools"})


def _grok(settings: Any, tool: str) -> bool:
    rules = settings["permission"]["allow"]
    return any(rule == "MCPTool" or fnmatchcase(f"MCPTool(parler__{tool})", rule) for rule in rules)


READERS: Final[dict[str, Callable[[Any, str], bool]]] = {
    "claude-code": _claude,
    "codex": _codex,
    "gemini": _gemini,
    "opencode": _opencode,
    "qwen": _claude,
    "droid": _droid,
    "kilo": _opencode,
    "grok": _grok,
}
"""How each host reads what it may use without asking, wide rules included. Source: each host's file."""


@pytest.mark.parametrize("host", SETTABLE, ids=lambda host: host.id)
def test_what_is_written_allows_each_tool_that_reads_or_talks_and_never_the_persons_decision(
    host: Host, ann: Person
) -> None:
    assert host.consent is not None
    ann.install(host.on_path[0])
    joined(ann, host)
    if not host.consent.asks:
        # It asks, and has something to be allowed, once the person's own rules say so.
        own = next(path for path, text in ann.tree().items() if b"mcp" in text)
        file = ann.path(str(own))
        file.write_text(json.dumps(json.loads(file.read_text()) | {"permission": {"*": "ask"}}))
    done = one(ann, host)
    assert done.status == "added"
    assert done.path is not None
    text = done.path.read_text()
    settings = tomllib.loads(text) if done.path.suffix == ".toml" else json.loads(text)
    assert {tool for tool in (*TALKING, APPROVE) if READERS[host.id](settings, tool)} == set(MESSAGING)


@EVERY_ASKING
def test_what_was_allowed_is_known_said_once_and_taken_out_to_the_byte(host: Host, ann: Person) -> None:
    here(ann, host)
    before = ann.tree()
    joined(ann, host)
    connected = ann.tree()
    assert one(ann, host, dry_run=True).diff
    assert ann.tree() == connected
    assert one(ann, host).status == "added"
    assert standing(ann.place, host) == "allowed"
    assert "without asking" in sentence(ann.place, host)
    allowed = ann.tree()
    assert one(ann, host).status == "unchanged"
    joined(ann, host)
    assert ann.tree() == allowed
    assert drift(ann.place) == []
    (gone,) = disallow(ann.place, [host])
    assert gone.status == "removed"
    assert ann.tree() == connected
    assert list(disallow(ann.place, [host])) == []
    list(remove(ann.place, [host]))
    assert ann.tree() == before


@EVERY_ASKING
def test_a_host_that_has_nothing_yet_gets_its_files_and_loses_them_again(host: Host, ann: Person) -> None:
    ann.install(host.on_path[0])
    joined(ann, host)
    connected = ann.tree()
    assert one(ann, host).status == "added"
    assert standing(ann.place, host) == "allowed"
    list(disallow(ann.place, [host]))
    assert ann.tree() == connected
    list(remove(ann.place, [host]))
    assert ann.tree() == {}


@pytest.mark.parametrize("id", ["claude-code", "codex"])
def test_hooks_and_permissions_in_one_file_go_in_any_order(id: str, ann: Person) -> None:
    host = find_host(id)
    here(ann, host)
    before = ann.tree()
    joined(ann, host)
    assert [each.status for each in wake(ann.place, [host])] == ["added"]
    assert one(ann, host).status == "added"
    list(unwake(ann.place, [host]))
    list(disallow(ann.place, [host]))
    list(remove(ann.place, [host]))
    assert ann.tree() == before


# -- what is the person's ------------------------------------------------------------------------------------------


def test_an_element_that_was_there_already_is_not_ours_to_take_out(ann: Person) -> None:
    host = find_host("claude-code")
    theirs = '{"permissions": {"allow": ["mcp__parler__parler_recv"]}}'
    ann.write(".claude/settings.json", theirs)
    joined(ann, host)
    assert one(ann, host).status == "added"
    list(disallow(ann.place, [host]))
    assert ann.path(".claude/settings.json").read_text() == theirs


def test_an_answer_of_the_persons_stays_and_is_named(ann: Person) -> None:
    host = find_host("codex")
    ann.install("codex")
    joined(ann, host)
    with ann.path(".codex/config.toml").open("a") as file:
        file.write('\n[mcp_servers.parler.tools.parler_send]\napproval_mode = "prompt"\n')
    done = one(ann, host)
    assert done.notes == ("Your own answer stays for: parler_send.",)
    assert said(ann, host)["mcp_servers"]["parler"]["tools"]["parler_send"] == {"approval_mode": "prompt"}
    list(disallow(ann.place, [host]))
    assert said(ann, host)["mcp_servers"]["parler"]["tools"] == {"parler_send": {"approval_mode": "prompt"}}


def test_what_a_person_changed_since_stays(ann: Person) -> None:
    host = find_host("droid")
    ann.install("droid")
    joined(ann, host)
    one(ann, host)
    path = ann.path(".factory/settings.json")
    path.write_text(path.read_text().replace('"parler_send": "low"', '"parler_send": "high"'))
    list(disallow(ann.place, [host]))
    assert json.loads(path.read_text()) == {"mcpAutonomyOverrides": {"parler": {"tools": {"parler_send": "high"}}}}


def test_a_person_who_takes_a_permission_back_is_not_told_that_it_is_lost(ann: Person) -> None:
    host = find_host("claude-code")
    ann.write(".claude/settings.json", "{}")
    joined(ann, host)
    one(ann, host)
    ann.path(".claude/settings.json").write_text("{}")
    assert drift(ann.place) == []
    assert ann.path(".claude/settings.json") not in watched(ann.place)
    assert standing(ann.place, host) == "asks"


@pytest.mark.parametrize(
    ("id", "name", "text"),
    [
        ("claude-code", ".claude/settings.json", '{"permissions": {"allow": ["mcp__parler__*"]}}'),
        ("qwen", ".qwen/settings.json", '{"permissions": {"allow": ["mcp__parler"]}}'),
        ("grok", ".grok/config.toml", '[permission]\nallow = ["MCPTool(parler__*)"]\n'),
        ("codex", ".codex/config.toml", '[mcp_servers.parler]\ndefault_tools_approval_mode = "approve"\n'),
    ],
)
def test_a_wider_permission_of_the_persons_counts(id: str, name: str, text: str, ann: Person) -> None:
    ann.write(name, text)
    assert standing(ann.place, find_host(id)) == "allowed"


# -- hosts that need none, and those that have none ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "text", "now"),
    [
        ("opencode", None, "runs"),
        ("opencode", '{"permission": {"bash": "ask"}}', "runs"),
        ("opencode", '{"permission": {"*": "ask"}}', "asks"),
        ("opencode", '{"permission": {"*": "ask", "parler_*": "allow"}}', "runs"),
        ("opencode", '{"permission": {"parler_parler_send": "deny"}}', "asks"),
        ("opencode", '{"permission": "ask"}', "asks"),
        ("kilo", '{"permission": {"parler_*": "ask"}}', "asks"),
        ("kimi", None, "runs"),
        ("cline-cli", None, "runs"),
        ("copilot", None, "by_hand"),
        ("zed", None, "unknown"),
    ],
)
def test_where_nothing_is_to_be_set_is_known(id: str, text: str | None, now: Standing, ann: Person) -> None:
    if text is not None:
        ann.write({"opencode": ".config/opencode/opencode.jsonc", "kilo": ".config/kilo/kilo.jsonc"}[id], text)
    assert standing(ann.place, find_host(id)) == now


def test_a_host_that_asks_by_the_persons_own_rules_is_allowed_beside_them(ann: Person) -> None:
    host = find_host("opencode")
    mine = '{\n  "permission": {"*": "ask"} // careful\n}\n'
    ann.write(".config/opencode/opencode.jsonc", mine)
    joined(ann, host)
    assert one(ann, host).status == "added"
    assert standing(ann.place, host) == "allowed"
    assert one(ann, host).status == "unchanged"
    list(disallow(ann.place, [host]))
    list(remove(ann.place, [host]))
    assert ann.path(".config/opencode/opencode.jsonc").read_text() == mine


@pytest.mark.parametrize("id", ["opencode", "kimi", "copilot", "zed"])
def test_a_host_in_which_nothing_is_set_is_skipped_with_the_reason(id: str, ann: Person) -> None:
    host = find_host(id)
    ann.install(host.on_path[0])
    joined(ann, host)
    before = ann.tree()
    done = one(ann, host)
    assert (done.status, bool(done.reason)) == ("skipped", True)
    assert ann.tree() == before
    assert ("--allow-tool 'parler(parler_send)'" in done.hint) is (id == "copilot")


def test_a_host_that_is_not_connected_gets_no_permission(ann: Person) -> None:
    # In Codex a table of tools without a command would be an entry that stops every command of it.
    host = find_host("codex")
    ann.write(".codex/config.toml", "a = 1\n")
    done = one(ann, host)
    assert (done.status, done.hint) == ("skipped", "parler connect codex --allow")
    assert ann.path(".codex/config.toml").read_text() == "a = 1\n"


def test_a_host_that_has_us_as_a_plugin_is_left_to_the_person(ann: Person) -> None:
    ann.write(".claude/settings.json", '{"enabledPlugins": {"parler@x": true}}')
    done = one(ann, find_host("claude-code"))
    assert done.status == "skipped"
    assert "plugin" in done.reason


def test_a_file_that_its_host_cannot_read_is_left_alone(ann: Person) -> None:
    host = find_host("claude-code")
    joined_text = "{,}"
    ann.write(".claude/settings.json", joined_text)
    joined(ann, host)
    done = one(ann, host)
    assert (done.status, "line 1" in done.reason) == ("failed", True)
    assert ann.path(".claude/settings.json").read_text() == joined_text


def test_the_page_on_waking_says_of_every_host_that_was_looked_at_what_it_does() -> None:
    page = (Path(__file__).parents[2] / "docs" / "waking.md").read_text()
    table = page.partition("## Woken, and then refused")[2].partition("\n## ")[0]
    rows = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    assert [host.name for host in HOSTS if host.consent is not None and host.name not in rows] == []
    assert all(tool in table for tool in MESSAGING)
