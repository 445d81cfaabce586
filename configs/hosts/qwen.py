"""Qwen Code: a fork of Gemini CLI, with nearly the same rules for its file."""

from __future__ import annotations

from typing import Any

from configs.events import Hooks, grouped
from configs.model import (
    MESSAGING,
    PROMPT,
    SERVER,
    Consent,
    Health,
    Host,
    Inbox,
    Plugins,
    Shim,
    Start,
    names_others,
    names_us,
    same_everywhere,
)
from configs.shapes import bare
from parlerd.core.records import Chain, Ending, Kind, Record, Reply, Result, Test
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    # Without it the model sees names alone, with the beginnings of their descriptions.
    return {**bare(shim), "alwaysLoadTools": True}


def _is_off(state: Any, home: str) -> bool:
    """Whether the extension is off for the person. The last rule that fits counts; one for everything in HOME is the
    person's, and others are of single folders."""
    known = state.get("extensions") if isinstance(state, dict) else None
    for about in known.values() if isinstance(known, dict) else ():
        if isinstance(about, dict) and about.get("name") == SERVER:
            rules = about.get("legacyPathRules")
            said = [rule for rule in rules if rule in (f"{home}/*", f"!{home}/*")] if isinstance(rules, list) else []
            return said[-1].startswith("!") if said else about.get("defaultActivation") == "disabled"
    return False


_SETTINGS = ("${QWEN_HOME}/settings.json", "~/.qwen/settings.json")

_RECORD = Record(
    versions=("0.24.4",),
    folders=("~/.qwen/projects",),
    files=("*/chats/*.jsonl",),
    version="version",
    clients=("0.0.1",),
    conversation=("sessionId", "agentId"),
    chain=Chain(id="uuid", parent="parentUuid"),
    # `toolCallResult.resultDisplay` is the raw result.
    results=(
        Result(
            name="tool result",
            has=(Test("type", ("tool_result",)),),
            each="message.parts[]",
            call="functionResponse.id",
            text="functionResponse.response",
        ),
    ),
    replies=(
        Reply(
            name="reply",
            has=(Test("type", ("assistant",)), Test("provenance", ("assistant_output",)), Test("usageMetadata")),
        ),
    ),
    endings=(
        Ending(
            name="compression",
            has=(Test("type", ("system",)), Test("subtype", ("chat_compression",))),
            verdict="summarised",
            reason="compacted",
        ),
        Ending(
            name="rewind",
            has=(Test("type", ("system",)), Test("subtype", ("rewind",))),
            verdict="not_shown",
            reason="rolled_back",
        ),
        Ending(
            name="API error",
            has=(
                Test("type", ("system",)),
                Test("subtype", ("ui_telemetry",)),
                Test("systemPayload.uiEvent.error_type"),
            ),
            verdict="not_shown",
            reason="failed_request",
            then="stays",
        ),
    ),
    harmless=(
        Kind(name="user", has=(Test("type", ("user", "tool_result")),)),
        Kind(name="reply without usage", has=(Test("type", ("assistant",)),)),
        Kind(
            name="state",
            has=(
                Test("type", ("system",)),
                Test(
                    "subtype",
                    (
                        "at_command", "attribution_snapshot", "custom_title", "file_history_snapshot",
                        "mcp_server_status", "mid_turn_user_message", "parent_session", "session_artifact_event",
                        "session_artifact_snapshot", "session_model", "session_source", "session_sources_snapshot",
                        "slash_command", "turn_result", "ui_telemetry", "user_text_elements",
                    ),
                ),
            ),
        ),
    ),
)  # fmt: skip


HOST = Host(
    id="qwen",
    name="Qwen Code",
    aliases=("qwen-code",),
    format="jsonc",
    files=same_everywhere(*_SETTINGS),
    windows=(r"%USERPROFILE%\.qwen\settings.json",),
    key_path=("mcpServers",),
    entry=_entry,
    left_out=((("mcp", "excluded"), names_us), (("mcp", "allowed"), names_others)),
    programs=("qwen",),
    packages=("@qwen-code/qwen-code",),
    markers=("QWEN_CODE", "QWEN_CODE_SESSION_ID"),
    folders=("${QWEN_HOME}", "~/.qwen"),
    rewrites=True,
    limits="5 min for a call, 10 min with progress, by default",
    after="Start a new session.",
    traits=HostTraits(
        page=27_000,
        unit="characters",
        error=12_000,
        wait_s=290,
        clients=("qwen-cli-mcp-client*",),
        conversation_env="QWEN_CODE_SESSION_ID",
    ),
    consent=Consent(
        default="asks at the first call of each tool, and refuses all of them in `qwen -p`",
        appended=((("permissions", "allow"), tuple(f"mcp__parler__{tool}" for tool in MESSAGING)),),
        covers=((("permissions", "allow"), "mcp__parler"), (("permissions", "allow"), "mcp__parler__*")),
    ),
    # Its hooks are Claude Code's, with seconds; its events of Gemini's names do not fire.
    hooks=Hooks(
        files=_SETTINGS,
        format="jsonc",
        events=(
            grouped("SessionStart", "context"),
            grouped("UserPromptSubmit", "context"),
            grouped("Stop", "block"),
        ),
        off=(("disableAllHooks",), True),
        after="Start a new session; `/hooks` shows them.",
    ),
    # It takes the plugin that Claude Code takes.
    plugins=Plugins(
        kept="~/.qwen/extensions/parler/qwen-extension.json",
        state="~/.qwen/extension-store/state.json",
        off=_is_off,
        adds=("qwen extensions install FOLDER:parler",),
        removes=("qwen extensions uninstall parler",),
    ),
    project_files=((".qwen/settings.json", ("mcpServers",)),),
    inbox=Inbox(
        sessions=("${QWEN_HOME}/sessions", "~/.qwen/sessions"),
        mint="qwen sessions controllers add",
        revoke="qwen sessions controllers remove",
    ),
    health=Health(words=("mcp", "list"), shows=r"(?m)✓ parler: .*Connected"),
    start=Start(terminal=("-i", PROMPT), headless=("-p", PROMPT)),
    sight=_RECORD,
    quirks=(
        "It adds `$version` to the file, and writes the whole file again with two spaces.",
        "A trailing comma stops it; a byte order mark does not.",
    ),
)
