"""Every declared host is complete, and its snippet reads back to its entry by its own format."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from configs.hosts import HOSTS, find_host, recognised
from configs.model import SERVER, Host, Shim, System, UnknownHost, candidates, expand
from configs.snippet import snippet
from parlerd.operations.traits import UNMEASURED, HostTraits

SHIM = Shim(python="/opt/py thon/bin/python3", shim="/h/run/shim.py", host="x", home="/h")
SYSTEMS: tuple[System, ...] = ("linux", "macos")
EVERY_HOST = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)


def parsed(host: Host, shim: Shim = SHIM) -> Any:
    text = snippet(host, shim)
    if host.format == "yaml":
        return YAML(typ="safe", pure=True).load(text)
    return tomllib.loads(text) if host.format == "toml" else json.loads(text)


def entry_in(host: Host, document: Any) -> Any:
    for key in (*host.key_path, SERVER):
        assert list(document) == [key]
        document = document[key]
        if host.listed and isinstance(document, list):
            (element,) = document
            document = {element["name"]: element}
    return document


def command_of(entry: dict[str, Any]) -> list[str]:
    entry = entry.get("transport", entry)
    command = entry["cmd"] if "cmd" in entry else entry["command"]
    return command if isinstance(command, list) else [command, *entry["args"]]


@EVERY_HOST
def test_a_snippet_is_complete_with_its_enclosing_key_and_reads_back_to_the_entry(host: Host) -> None:
    assert entry_in(host, parsed(host)) == host.entry(SHIM)
    assert snippet(host, SHIM).endswith("\n")


@EVERY_HOST
def test_an_entry_starts_the_shim_by_absolute_paths_and_carries_no_environment(host: Host) -> None:
    entry = host.entry(SHIM)
    assert command_of(entry) == [SHIM.python, "-I", "-S", SHIM.shim, "--host", SHIM.host, "--home", SHIM.home]
    assert not entry.get("env")
    assert not entry.get("envs")


@EVERY_HOST
@given(path=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1))
def test_any_path_survives_the_format(host: Host, path: str) -> None:
    shim = Shim(python="/p/" + path, shim="/s/" + path, host=host.id, home="/h/" + path)
    assert command_of(entry_in(host, parsed(host, shim)))[0] == shim.python


@EVERY_HOST
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_host_has_a_file_on_every_system_without_any_variable_set(host: Host, system: System) -> None:
    found = candidates(host, system, {"HOME": "/home/a"})
    assert found
    assert all(path.is_absolute() and "$" not in str(path) and "~" not in str(path) for path in found)


@EVERY_HOST
def test_a_host_can_be_detected_and_named(host: Host) -> None:
    assert host.on_path or host.folders
    assert re.fullmatch(r"[a-z][a-z-]*", host.id)
    assert find_host(host.id.upper()) is host


def test_names_are_unique() -> None:
    names = [name for host in HOSTS for name in (host.id, *host.aliases)]
    assert len(names) == len(set(names))


def test_an_unknown_host_lists_the_known() -> None:
    with pytest.raises(UnknownHost, match="claude-code, claude-desktop, codex"):
        find_host("emacs")


@pytest.mark.parametrize(
    ("entry", "off"),
    [({"disabled": True}, True), ({"enabled": False}, True), ({"disabled": False}, False), ({"enabled": "no"}, False)],
)
def test_an_entry_that_the_person_switched_off_is_known_by_the_words_of_the_hosts(
    entry: dict[str, Any], off: bool
) -> None:
    assert all(host.disabled(entry) is off for host in HOSTS)


def test_the_other_layout_of_a_host_gets_an_entry_of_its_own_shape() -> None:
    opencode = find_host("opencode")
    (layout,) = opencode.layouts
    usual, other = (opencode.entry_for(path, SHIM) for path in (opencode.key_path, layout))
    assert usual == opencode.entry(SHIM)
    assert command_of(other) == command_of(usual)
    # A number there, or `enabled`, fails that layout's own check.
    assert other["timeout"] == {"startup": 30_000, "request": 120_000}
    assert "enabled" not in other


def test_places_of_profiles_are_left_out_of_what_can_be_named_without_looking() -> None:
    vscode = find_host("vscode")
    found = candidates(vscode, "linux", {"HOME": "/a"})
    assert found[0] == Path("/a/.config/Code/User/mcp.json")
    assert len(vscode.files["linux"]) == 2 * len(found)


def test_each_host_has_its_own_file() -> None:
    folder = Path(__file__).parents[2] / "configs" / "hosts"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files == {host.id.replace("-", "_") for host in HOSTS}


def test_a_variable_moves_a_hosts_file_and_an_unset_one_is_passed_over() -> None:
    codex = find_host("codex")
    assert candidates(codex, "linux", {"HOME": "/a"}) == [Path("/a/.codex/config.toml")]
    moved = candidates(codex, "linux", {"HOME": "/a", "CODEX_HOME": "/c"})
    assert moved[0] == Path("/c/config.toml")


@pytest.mark.parametrize(
    ("template", "env", "path"),
    [
        ("~/x", {"HOME": "/a"}, Path("/a/x")),
        ("${X:-~/.config}/y", {"HOME": "/a"}, Path("/a/.config/y")),
        ("${X:-~/.config}/y", {"HOME": "/a", "X": "/z"}, Path("/z/y")),
        ("${X:-~/.config}/y", {"HOME": "/a", "X": ""}, Path("/a/.config/y")),
        ("${X}/y", {"HOME": "/a"}, None),
    ],
)
def test_templates(template: str, env: dict[str, str], path: Path | None) -> None:
    assert expand(template, env) == path


@pytest.mark.parametrize(
    ("id", "shape"),
    [
        ("claude-code", {"type": "stdio", "env": {}}),
        ("opencode", {"type": "local", "enabled": True, "timeout": 120_000}),
        ("vscode", {"type": "stdio"}),
        ("codex", {"env_vars": ["CODEX_HOME"], "startup_timeout_sec": 20, "tool_timeout_sec": 120}),
        ("gemini", {}),
        ("cline", {"timeout": 120, "disabled": False}),
        ("copilot", {"tools": ["*"], "type": "local"}),
        ("zed", {"source": "custom", "env": {}}),
        ("qwen", {"alwaysLoadTools": True}),
        ("kimi", {"toolTimeoutMs": 120_000}),
        ("grok", {}),
        ("continue-cli", {"name": "parler"}),
    ],
)
def test_what_each_host_needs_beside_the_command_is_written(id: str, shape: dict[str, Any]) -> None:
    entry = find_host(id).entry(SHIM)
    assert {key: value for key, value in entry.items() if key not in ("command", "args")} == shape


# Measured with the real programs on 28 November 2026, with a scripted model and a small server: how much of a result
# the model's server got, when a call was given up, and what a call and the server's environment said of the
# conversation. Each figure is a little less than the first that was cut. The names are what each program said in
# `clientInfo`; Kimi's and Continue's were read in their packages.
MEASURED: dict[str, HostTraits] = {
    "claude-code": HostTraits(  # 2.1.332: cut at 50,000; errors at 10,000; 1,500 s went through
        page=48_000,
        unit="characters",
        error=9_500,
        wait_s=600,
        clients=("claude-code",),
        conversation_env="CLAUDE_CODE_SESSION_ID",
        throwaway_with=(("-p", "--print"), ("-c", "--continue")),  # a server of these gets an id that is nobody's
    ),
    "codex": HostTraits(  # 0.171.0: cut at 11,970; in code mode a call yields at 31 s
        page=11_500,
        wait_s=25,
        clients=("codex-mcp-client",),
        conversation_meta="threadId",
        shares_servers=True,
    ),
    "gemini": HostTraits(  # 0.61.0: cut at 39,962; 600 s
        page=39_000, unit="characters", wait_s=590, clients=("gemini-cli-mcp-client*",)
    ),
    "opencode": HostTraits(  # 1.18.34: cut at 51,203 or 2,000 lines; 60 s, longer with progress
        page=50_000, lines=1_900, wait_s=55, progress=True, cancels_answered=True, clients=("opencode",)
    ),
    "kilo": HostTraits(  # 7.7.9: as OpenCode
        page=50_000, lines=1_900, wait_s=55, progress=True, cancels_answered=True, clients=("kilo",)
    ),
    "qwen": HostTraits(  # 0.24.4: cut at 28,003; errors are doubled; 300 s
        page=27_000,
        unit="characters",
        error=12_000,
        wait_s=290,
        clients=("qwen-cli-mcp-client*",),
        conversation_env="QWEN_CODE_SESSION_ID",
    ),
    "copilot": HostTraits(  # 1.0.102: cut at 20,482; 180 s, longer with progress
        page=20_000,
        wait_s=170,
        progress=True,
        clients=("copilot-cli",),
        conversation_env="COPILOT_AGENT_SESSION_ID",
    ),
    "cline-cli": HostTraits(  # 3.0.65: cut at 7,865 of the JSON form; 60 s; its hub serves every window
        page=7_500, unit="json", wait_s=55, clients=("@cline/core",), shares_servers=True
    ),
    "droid": HostTraits(  # 0.225.2: cut at 40,005; 180 s
        page=39_000,
        unit="characters",
        wait_s=170,
        clients=("factory-cli",),
        conversation_meta="assemblySessionId",
    ),
    "grok": HostTraits(  # 1.0.41: cut at 20,001; 1,500 s went through
        page=19_500, wait_s=600, clients=("grok-shell*",), conversation_env="GROK_SESSION_ID"
    ),
    "kimi": HostTraits(  # 2.1.0: cut at 50,004; 60 s
        page=49_000, unit="characters", wait_s=55, cancels_answered=True, clients=("kimi-code",)
    ),
    "continue-cli": HostTraits(clients=("continue-cli-client",)),  # 1.5.47: nothing but its name was looked at
}


@EVERY_HOST
def test_what_a_host_does_with_our_answers_is_what_was_measured(host: Host) -> None:
    assert host.traits == MEASURED.get(host.id, UNMEASURED)


def test_no_two_hosts_say_the_same_of_themselves() -> None:
    names = [(name, host.id) for host in HOSTS for name in host.traits.clients]
    for name, id in names:
        stem = name.removesuffix("*")
        same = {other for each, other in names if each == name or (each.endswith("*") and stem.startswith(each[:-1]))}
        assert same == {id}, name
    # What Gemini and Qwen both say when they only try their servers.
    assert "mcp-test-client" not in dict(names)


def test_what_connect_looks_for_is_what_a_persons_decision_is_refused_under() -> None:
    """One table: a host with a program is recognised among the ancestors of a command, as an agent or as an editor."""
    known = recognised()
    for host in HOSTS:
        assert {known.programs[name] for name in host.programs} <= {host.id}
        assert {known.editors[name] for name in host.editors} <= {host.id}
        assert host.traits.conversation_env in ("", *known.markers)
    assert not set(known.programs) & set(known.editors)
    assert {"vscode", "cursor", "windsurf", "zed", "kiro", "antigravity"} == set(known.editors.values())
    assert all(set(each) for each in (known.packages, known.markers, known.editor_packages, known.editor_markers))


def test_no_name_of_a_program_or_variable_belongs_to_two_hosts() -> None:
    fields = ("programs", "packages", "markers", "editors", "editor_packages", "editor_markers")
    for field in fields:
        names = [name for host in HOSTS for name in getattr(host, field)]
        assert len(names) == len(set(names)), field
