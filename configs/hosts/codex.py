"""Codex: TOML 1.1 with comments. It passes a short list of variables to servers and drops one that is slow to start."""

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
    Plugin,
    Plugins,
    Shim,
    Start,
    same_everywhere,
)
from configs.shapes import bare
from parlerd.core.records import Ending, Kind, Record, Reply, Result, Test
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    # The start-up limit leaves room for a daemon that has to start; the tool limit for waits of 50 s.
    # Codex hands servers no variable that the entry does not name, and this one says where Codex keeps its records.
    return {**bare(shim), "env_vars": ["CODEX_HOME"], "startup_timeout_sec": 20, "tool_timeout_sec": 120}


def _plugin(_plugin: Plugin) -> dict[str, dict[str, Any]]:
    # The rest is as every program reads it; this is the catalogue that it adds first.
    offered = {
        "name": SERVER,
        "source": {"source": "local", "path": "./"},
        "policy": {"installation": "AVAILABLE", "authentication": "ON_USE"},
        "category": "Productivity",
    }
    return {".agents/plugins/marketplace.json": {"name": SERVER, "plugins": [offered]}}


_CONFIG = ("${CODEX_HOME}/config.toml", "~/.codex/config.toml")

_ITEM = Test("type", ("response_item",))
_EVENT = Test("type", ("event_msg",))
_MADE = (
    "custom_tool_call", "function_call", "image_generation_call", "local_shell_call", "reasoning", "tool_search_call",
    "web_search_call",
)  # fmt: skip
"""Items that a model makes, beside what it says."""

_RECORD = Record(
    versions=("0.171.0",),
    folders=("${CODEX_HOME}/sessions", "~/.codex/sessions"),
    files=("*/*/*/rollout-*.jsonl",),
    call_meta="callId",
    # `event_msg/item_completed` holds the raw result, from which the middle was not cut.
    results=(
        Result(
            name="call output",
            has=(_ITEM, Test("payload.type", ("function_call_output",))),
            call="payload.call_id",
            text="payload.output",
        ),
        # In code mode the model calls tools by code, and is given what the code says.
        Result(
            name="output of code",
            has=(_ITEM, Test("payload.type", ("custom_tool_call_output",))),
            call="payload.call_id",
            text="payload.output",
            wraps=True,
        ),
    ),
    result_at="metadata.history_sequence",
    replies=(
        Reply(
            name="answer",
            has=(_ITEM, Test("payload.type", ("message",)), Test("payload.role", ("assistant",))),
            at_least="metadata.sampled_through_sequence",
        ),
        Reply(
            name="model item",
            has=(_ITEM, Test("payload.type", _MADE)),
            at_least="metadata.sampled_through_sequence",
        ),
    ),
    endings=(
        Ending(name="compaction", has=(Test("type", ("compacted",)),), verdict="summarised", reason="compacted"),
        Ending(
            name="compaction event",
            has=(_EVENT, Test("payload.type", ("context_compacted",))),
            verdict="summarised",
            reason="compacted",
        ),
        Ending(
            name="rollback",
            has=(_EVENT, Test("payload.type", ("thread_rolled_back",))),
            verdict="not_shown",
            reason="rolled_back",
        ),
        Ending(
            name="aborted turn",
            has=(_EVENT, Test("payload.type", ("turn_aborted",))),
            verdict="not_shown",
            reason="cancelled",
            then="stays",
        ),
        Ending(
            name="failed turn",
            has=(_EVENT, Test("payload.type", ("task_complete",)), Test("payload.error")),
            verdict="not_shown",
            reason="failed_request",
            then="stays",
        ),
        Ending(
            name="error",
            has=(_EVENT, Test("payload.type", ("error",))),
            verdict="not_shown",
            reason="failed_request",
            then="stays",
        ),
    ),
    harmless=(
        Kind(name="item", has=(_ITEM, Test("payload.type", ("message",)), Test("payload.role", ("developer", "user")))),
        Kind(
            name="output",
            has=(
                _ITEM,
                Test("payload.type", ("function_call_output", "custom_tool_call_output", "tool_search_output")),
            ),
        ),
        Kind(
            name="event",
            has=(
                _EVENT,
                Test(
                    "payload.type",
                    (
                        "agent_message", "agent_reasoning", "agent_reasoning_raw_content",
                        "agent_reasoning_section_break", "exec_command_end", "item_completed", "item_started",
                        "mcp_tool_call_end", "patch_apply_end", "stream_error", "task_complete", "task_started",
                        "thread_goal_updated", "thread_name_updated", "thread_settings_applied", "token_count",
                        "user_message", "view_image_tool_call", "warning", "web_search_end",
                    ),
                ),
            ),
        ),
        Kind(
            name="state",
            has=(
                Test(
                    "type",
                    (
                        "dynamic_tools_updated", "inter_agent_communication", "inter_agent_communication_metadata",
                        "security_risk_score", "session_meta", "token_usage_record", "turn_context", "world_state",
                    ),
                ),
            ),
        ),
    ),
)  # fmt: skip

HOST = Host(
    id="codex",
    name="Codex",
    aliases=("codex-cli",),
    format="toml",
    files=same_everywhere(*_CONFIG),
    windows=(r"%USERPROFILE%\.codex\config.toml",),
    key_path=("mcp_servers",),
    entry=_entry,
    trailing_commas=True,
    mode=0o600,
    programs=("codex",),
    packages=("@openai/codex",),
    markers=("CODEX_THREAD_ID", "CODEX_SANDBOX*"),
    folders=("${CODEX_HOME}", "~/.codex"),
    rewrites=True,
    limits="about 1 s before the first turn of `codex exec`; we write 20 s to start and 120 s for a call",
    after="Start a new session.",
    traits=HostTraits(
        page=11_500, wait_s=25, clients=("codex-mcp-client",), conversation_meta="threadId", shares_servers=True
    ),
    consent=Consent(
        default="asks at the first call of each tool that writes, and refuses those in `codex exec`",
        put=tuple((("mcp_servers", SERVER, "tools", tool), {"approval_mode": "approve"}) for tool in MESSAGING),
        covers=((("mcp_servers", SERVER, "default_tools_approval_mode"), "approve"),),
    ),
    hooks=Hooks(
        files=_CONFIG,
        format="toml",
        events=(
            grouped("SessionStart", "context"),
            grouped("UserPromptSubmit", "context"),
            grouped("Stop", "block"),
        ),
        off=(("features", "hooks"), False),
        after="Codex runs them only after you trusted them: start it and answer, or use `/hooks`.",
    ),
    plugins=Plugins(
        files=_CONFIG,
        key=("plugins",),
        manifests=_plugin,
        adds=("codex plugin marketplace add FOLDER", "codex plugin add parler@parler"),
        removes=("codex plugin remove parler@parler", "codex plugin marketplace remove parler"),
    ),
    project_files=((".codex/config.toml", ("mcp_servers",)),),
    health=Health(words=("mcp", "list", "--json"), shows=r'"name"\s*:\s*"parler"', starts=False),
    # Without `--no-daemon` the servers of a second window are started by the first one's daemon.
    start=Start(terminal=("--no-daemon", PROMPT), headless=("exec", "--skip-git-repo-check", PROMPT)),
    sight=_RECORD,
    quirks=(
        "`codex mcp add` drops comments inside every entry.",
        "Its shell sandbox cannot reach a socket; its servers can.",
    ),
)
