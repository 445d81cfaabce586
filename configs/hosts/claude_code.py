"""Claude Code: strict JSON that the program itself rewrites, also while it runs."""

from __future__ import annotations

from typing import Any

from configs.events import Hooks, grouped
from configs.model import (
    MESSAGING,
    PROMPT,
    SERVER,
    Consent,
    FormHooks,
    Health,
    Host,
    PerFolder,
    Plugin,
    Plugins,
    Shim,
    Start,
    names_us,
    same_everywhere,
)
from configs.shapes import served, stdio
from parlerd.core.records import Call, Chain, Ending, Kind, Opening, Record, Reply, Result, Test
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    # No `alwaysLoad`: each core tool asks for it itself, and the others may wait for a search.
    return {**stdio(shim), "env": {}}


def _plugin(plugin: Plugin) -> dict[str, dict[str, Any]]:
    about = plugin.about
    offered = {"name": SERVER, "source": "./", "description": about["description"]}
    return {
        ".claude-plugin/plugin.json": {
            **about,
            **served(f"${{CLAUDE_PLUGIN_ROOT}}/{plugin.starts}", "--host", "claude-code"),
        },
        ".claude-plugin/marketplace.json": {
            "name": SERVER,
            "owner": about["author"],
            "metadata": {"description": about["description"], "version": about["version"]},
            "plugins": [offered],
        },
    }


_SETTINGS = ("${CLAUDE_CONFIG_DIR}/settings.json", "~/.claude/settings.json")

_MODEL = (Test("type", ("assistant",)), Test("message.role", ("assistant",)))
_NO_MODEL = (
    Test("isApiErrorMessage"),
    Test("message.model", ("<synthetic>",)),
    # The maker's server left results out of the request, and says so in the reply.
    Test("message.context_management.applied_edits[type=clear_tool_uses_20250919].type"),
)
_INTERRUPTED = ("[Request interrupted by user]", "[Request interrupted by user for tool use]")

_RECORD = Record(
    versions=("2.1.332",),
    folders=("${CLAUDE_CONFIG_DIR}/projects", "~/.claude/projects"),
    # Never `tool-results`, which holds the whole text of what was cut.
    files=("*/*.jsonl", "*/*/subagents/*.jsonl", "*/*/subagents/*/*.jsonl"),
    call_meta="claudecode/toolUseId",
    version="version",
    conversation=("sessionId", "isSidechain", "agentId"),
    chain=Chain(id="uuid", parent="parentUuid", caller="sourceToolAssistantUUID"),
    calls=(Call(name="tool use", has=_MODEL, calls="message.content[type=tool_use].id", id="message.id"),),
    openings=(Opening(name="request", has=(Test("type", ("api-request",)),), id="id"),),
    # `toolUseResult` is the raw result, and `api-request-blob` repeats what was sent before.
    results=(
        Result(
            name="tool result",
            has=(Test("type", ("user",)),),
            each="message.content[type=tool_result]",
            call="tool_use_id",
            text="content",
        ),
    ),
    replies=(
        Reply(name="reply to a later request", has=_MODEL, lacks=_NO_MODEL, opened="requestRef"),
        Reply(name="another reply", has=_MODEL, lacks=_NO_MODEL, differs="message.id"),
    ),
    endings=(
        # The summary is the next entry but one, and what is kept stands behind the summary in the next request.
        Ending(
            name="compaction",
            has=(Test("type", ("system",)), Test("subtype", ("compact_boundary",))),
            verdict="summarised",
            reason="compacted",
            kept="compactMetadata.preservedMessages.uuids[]",
        ),
        Ending(
            name="API error",
            has=(Test("type", ("assistant",)), Test("isApiErrorMessage")),
            verdict="not_shown",
            reason="failed_request",
            then="stays",
        ),
        *(
            Ending(
                name="interruption",
                has=(Test("type", ("user",)), Test(path, _INTERRUPTED)),
                verdict="not_shown",
                reason="cancelled",
                then="stays",
            )
            for path in ("message.content", "message.content[type=text].text")
        ),
    ),
    harmless=(
        Kind(name="user", has=(Test("type", ("user", "attachment", "progress")),)),
        Kind(name="words of the host", has=(Test("type", ("assistant",)), Test("message.model", ("<synthetic>",)))),
        Kind(
            name="notice",
            has=(
                Test("type", ("system",)),
                Test(
                    "subtype",
                    (
                        "api_error", "away_summary", "bridge_status", "hook_progress", "hook_response", "hook_started",
                        "informational", "local_command", "memory_saved", "notification", "post_turn_summary",
                        "scheduled_task_fire", "stop_hook_summary", "task_notification", "turn_duration",
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
                        "agent-color", "agent-name", "agent-setting", "ai-title", "api-request", "api-request-blob",
                        "api-request-resumed", "api-request-shape", "atis-latch", "attribution-snapshot",
                        "bridge-session", "cost-state", "custom-title", "data-flow-records", "file-history-delta",
                        "file-history-snapshot", "frame-link", "isolation-latch", "last-prompt", "memory-mode", "mode",
                        "observer-ref", "permission-mode", "pr-link", "queue-operation", "session-owner", "tag",
                        "tools-used", "worktree-state",
                    ),
                ),
            ),
        ),
    ),
)  # fmt: skip

HOST = Host(
    id="claude-code",
    name="Claude Code",
    aliases=("claude",),
    format="json",
    files=same_everywhere("${CLAUDE_CONFIG_DIR}/.claude.json", "~/.claude.json"),
    windows=(r"%USERPROFILE%\.claude.json",),
    key_path=("mcpServers",),
    entry=_entry,
    mode=0o600,
    left_out=((("disabledMcpServers",), names_us), (("projects", "*", "disabledMcpServers"), names_us)),
    programs=("claude",),
    packages=("@anthropic-ai/claude-code",),
    markers=("CLAUDECODE", "CLAUDE_CODE_SESSION_ID"),
    folders=("${CLAUDE_CONFIG_DIR}", "~/.claude"),
    rewrites=True,
    limits="30 s to start (`MCP_TIMEOUT`); no limit on a call unless the entry sets one",
    after="Start a new session; `/mcp` shows it.",
    traits=HostTraits(
        page=48_000,
        unit="characters",
        error=9_500,
        wait_s=600,
        clients=("claude-code",),
        conversation_env="CLAUDE_CODE_SESSION_ID",
        throwaway_with=(("-p", "--print"), ("-c", "--continue")),
    ),
    consent=Consent(
        default="asks at the first call of each tool, and refuses all of them in `claude -p`",
        files=_SETTINGS,
        appended=((("permissions", "allow"), tuple(f"mcp__parler__{tool}" for tool in MESSAGING)),),
        covers=((("permissions", "allow"), "mcp__parler"), (("permissions", "allow"), "mcp__parler__*")),
    ),
    hooks=Hooks(
        files=_SETTINGS,
        format="json",
        events=(
            grouped("SessionStart", "context", waits=True),
            grouped("UserPromptSubmit", "context"),
            grouped("Stop", "block", waits=True),
        ),
        off=(("disableAllHooks",), True),
        after="Start a new session; `/hooks` shows them.",
    ),
    plugins=Plugins(
        files=_SETTINGS,
        key=("enabledPlugins",),
        manifests=_plugin,
        adds=("claude plugin marketplace add FOLDER", "claude plugin install parler@parler"),
        removes=("claude plugin uninstall parler@parler", "claude plugin marketplace remove parler"),
    ),
    # Several hosts read `.mcp.json`, under either key; what stands in it is said beside Claude Code.
    project_files=((".mcp.json", ("mcpServers",)), (".mcp.json", ("servers",))),
    form_hooks=FormHooks(
        files=_SETTINGS,
        project_files=(".claude/settings.json", ".claude/settings.local.json"),
        events=("Elicitation", "ElicitationResult"),
    ),
    per_folder=PerFolder(table=("projects",), servers=("mcpServers",), remove=f"claude mcp remove -s local {SERVER}"),
    health=Health(words=("mcp", "list"), shows=r"(?m)^parler: .*Connected$"),
    start=Start(terminal=(PROMPT,), headless=("-p", "--", PROMPT)),
    sight=_RECORD,
    quiet={
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
    },
    quirks=(
        "A comment or trailing comma in the file stops the program.",
        "Unknown keys in an entry are dropped when it adds one.",
        "`.mcp.json` in a repository is shared with other hosts and gets committed: Parler never writes it by itself.",
    ),
)
