"""Gemini CLI: JSON with comments, but neither trailing commas nor a byte order mark."""

from __future__ import annotations

from typing import Any

from configs.events import PROMPT_S, Hook, HookAnswer, Hooks, Run
from configs.model import (
    MESSAGING,
    PROMPT,
    SERVER,
    Consent,
    Health,
    Host,
    Plugin,
    Plugins,
    Start,
    names_others,
    names_us,
    same_everywhere,
)
from configs.shapes import bare, served
from parlerd.core.records import Call, Ending, Kind, Record, Reply, Result, Test
from parlerd.operations.traits import HostTraits


def _hook(event: str, answer: HookAnswer) -> Hook:
    # It counts milliseconds where the hosts that took over its events count seconds.
    command = {"name": SERVER, "type": "command", "command": Run(event), "timeout": PROMPT_S * 1000}
    return Hook(event, answer, {"hooks": [command]})


def _plugin(plugin: Plugin) -> dict[str, dict[str, Any]]:
    about = {key: plugin.about[key] for key in ("name", "version", "description")}
    return {"gemini-extension.json": {**about, **served(f"${{extensionPath}}/{plugin.starts}", typed=False)}}


def _is_off(state: Any, home: str) -> bool:
    """Whether the extension is off for the person. The last rule that fits counts; one for everything in HOME is the
    person's, and others are of single folders."""
    about = state.get(SERVER) if isinstance(state, dict) else None
    rules = about.get("overrides") if isinstance(about, dict) else None
    said = [rule for rule in rules if rule in (f"{home}/*", f"!{home}/*")] if isinstance(rules, list) else []
    return bool(said) and said[-1].startswith("!")


_RECORD = Record(
    versions=("0.61.0",),
    folders=("~/.gemini/tmp",),
    files=("*/chats/session-*.jsonl",),
    # A reply is written twice, the second time with its calls and their raw results, before what the model gets.
    calls=(Call(name="tool calls", has=(Test("type", ("gemini",)),), calls="toolCalls[].id", id="id"),),
    results=(
        Result(
            name="function response",
            has=(Test("type", ("user",)),),
            each="content[]",
            call="functionResponse.id",
            text="functionResponse.response",
        ),
        Result(
            name="function response of a history",
            has=(Test("$set.messages"),),
            each="$set.messages[].content[]",
            call="functionResponse.id",
            text="functionResponse.response",
        ),
    ),
    replies=(Reply(name="reply", has=(Test("type", ("gemini",)), Test("tokens")), differs="id"),),
    endings=(
        Ending(
            name="cancellation",
            has=(Test("type", ("info",)), Test("content", ("Request cancelled.",))),
            verdict="not_shown",
            reason="cancelled",
        ),
        # What a conversation is after somebody stopped a turn, and when it is resumed: written as a whole.
        Ending(name="history", has=(Test("$set.messages"),), verdict="not_shown", reason="rolled_back", then="returns"),
        # What it writes of a compaction, and of whatever else has no words of its own.
        Ending(
            name="notice without words",
            has=(Test("type", ("info",)), Test("content", ("",))),
            verdict="unknown",
            reason="unrecognised",
        ),
        Ending(name="rewind", has=(Test("$rewindTo"),), verdict="not_shown", reason="rolled_back"),
        Ending(
            name="error", has=(Test("type", ("error",)),), verdict="not_shown", reason="failed_request", then="stays"
        ),
    ),
    harmless=(
        Kind(name="user", has=(Test("type", ("user",)),)),
        Kind(name="reply without tokens", has=(Test("type", ("gemini",)),)),
        Kind(name="notice", has=(Test("type", ("info", "warning")),)),
        Kind(name="header", has=(Test("projectHash"), Test("startTime"))),
        Kind(name="state", has=(Test("$set"),)),
    ),
)


HOST = Host(
    id="gemini",
    name="Gemini CLI",
    aliases=("gemini-cli",),
    format="jsonc",
    files=same_everywhere("~/.gemini/settings.json"),
    windows=(r"%USERPROFILE%\.gemini\settings.json",),
    key_path=("mcpServers",),
    entry=bare,
    bom=False,
    left_out=((("mcp", "excluded"), names_us), (("mcp", "allowed"), names_others)),
    programs=("gemini",),
    packages=("@google/gemini-cli",),
    markers=("GEMINI_CLI",),
    folders=("~/.gemini",),
    rewrites=True,
    limits="10 min for anything by default",
    after="Start a new session, in a folder that you told it to trust.",
    traits=HostTraits(page=39_000, unit="characters", wait_s=590, clients=("gemini-cli-mcp-client*",)),
    consent=Consent(
        default="asks at the first call of each tool, and does not offer them in `gemini -p`",
        files=("~/.gemini/policies/parler.toml",),
        format="toml",
        appended=(
            (
                ("rule",),
                ({"mcpName": SERVER, "toolName": list(MESSAGING), "decision": "allow", "priority": 100},),
            ),
        ),
    ),
    hooks=Hooks(
        files=("~/.gemini/settings.json",),
        format="jsonc",
        events=(_hook("SessionStart", "context"), _hook("BeforeAgent", "context"), _hook("AfterAgent", "block")),
        off=(("hooksConfig", "enabled"), False),
    ),
    plugins=Plugins(
        kept="~/.gemini/extensions/parler/gemini-extension.json",
        state="~/.gemini/extensions/extension-enablement.json",
        off=_is_off,
        manifests=_plugin,
        adds=("gemini extensions install FOLDER",),
        removes=("gemini extensions uninstall parler",),
    ),
    project_files=((".gemini/settings.json", ("mcpServers",)),),
    health=Health(
        words=("mcp", "list"),
        shows=r"(?m)✓ parler: .*Connected",
        variables={"GEMINI_CLI_TRUST_WORKSPACE": "true"},
        beside=", in a folder that it trusts",
    ),
    start=Start(terminal=("-i", PROMPT), headless=("-p", PROMPT)),
    sight=_RECORD,
    quiet={"GEMINI_TELEMETRY_ENABLED": "false"},
    silent=(
        "Gemini CLI starts no servers in a folder that it was not told to trust. Trust the folder in Gemini CLI, or "
        "set GEMINI_CLI_TRUST_WORKSPACE=true for a run. ~/.gemini/trustedFolders.json lists the trusted folders."
    ),
    quirks=(
        "Servers are off in a folder that you did not tell it to trust.",
        "A trailing comma or byte order mark stops it.",
        "It writes the whole file again with two spaces when it saves a setting.",
    ),
)
