"""GitHub Copilot CLI: an entry says which of a server's tools may be used."""

from __future__ import annotations

from typing import Any

from configs.events import Hooks, grouped
from configs.model import MESSAGING, PROMPT, Consent, Health, Host, Plugins, Shim, Start, same_everywhere
from configs.shapes import bare
from parlerd.core.records import Chain, Ending, Kind, Record, Reply, Result, Test
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    return {"tools": ["*"], "type": "local", **bare(shim)}


_COMPACTED = (Test("type", ("session.compaction_complete",)), Test("data.success"))
_RECORD = Record(
    versions=("1.0.102",),
    folders=("~/.copilot/session-state",),
    files=("*/events.jsonl",),
    conversation=("agentId", "data.parentToolCallId"),
    chain=Chain(id="id", parent="parentId"),
    results=(
        Result(
            name="tool execution",
            has=(Test("type", ("tool.execution_complete",)),),
            call="data.toolCallId",
            text="data.result.content",
        ),
    ),
    replies=(Reply(name="reply", has=(Test("type", ("assistant.message",)), Test("data.apiCallId"))),),
    endings=(
        # It makes its summary beside the turn, of what stood there as it began. One that it gives up changes nothing.
        Ending(
            name="compaction by hand",
            has=(*_COMPACTED, Test("data.trigger", ("manual",))),
            verdict="summarised",
            reason="compacted",
            upto="data.compactionAttemptId",
            at="data.compactionAttemptId",
            read=True,
        ),
        # The request that holds the result may have been sent before, and its reply comes afterwards all the same.
        Ending(
            name="compaction",
            has=_COMPACTED,
            verdict="unknown",
            reason="compacting",
            upto="data.compactionAttemptId",
            at="data.compactionAttemptId",
            read=True,
        ),
        Ending(
            name="abort", has=(Test("type", ("abort",)),), verdict="not_shown", reason="cancelled", then="stays"
        ),
        Ending(
            name="error",
            has=(Test("type", ("session.error",)),),
            verdict="not_shown",
            reason="failed_request",
            then="stays",
        ),
        Ending(
            name="rewind", has=(Test("type", ("session.snapshot_rewind",)),), verdict="not_shown", reason="rolled_back"
        ),
    ),
    harmless=(
        Kind(
            name="event",
            has=(
                Test(
                    "type",
                    (
                        "assistant.message", "assistant.turn_end", "assistant.turn_start", "model.message",
                        "model.messages_snapshot", "model.model_call_started", "model.model_call_success",
                        "model.response", "model.turn_ended", "model.turn_started", "session.compaction_complete",
                        "session.compaction_start", "session.info", "session.model_change",
                        "session.resume", "session.shutdown", "session.start",
                        "session.usage_record", "session.warning", "system.message", "tool.execution_complete",
                        "tool.execution_start", "user.message",
                    ),
                ),
            ),
        ),
    ),
)  # fmt: skip


HOST = Host(
    id="copilot",
    name="GitHub Copilot CLI",
    aliases=("copilot-cli",),
    format="jsonc",
    files=same_everywhere("${COPILOT_HOME}/mcp-config.json", "~/.copilot/mcp-config.json"),
    windows=(r"%USERPROFILE%\.copilot\mcp-config.json",),
    key_path=("mcpServers",),
    entry=_entry,
    trailing_commas=True,
    programs=("copilot",),
    packages=("@github/copilot",),
    markers=("COPILOT_AGENT_SESSION_ID",),
    folders=("${COPILOT_HOME}", "~/.copilot"),
    rewrites=True,
    after="Start a new session.",
    traits=HostTraits(
        page=20_000, wait_s=170, progress=True, clients=("copilot-cli",), conversation_env="COPILOT_AGENT_SESSION_ID"
    ),
    consent=Consent(
        default="asks at the first call of each tool that writes, and refuses those in `copilot -p`",
        by_hand="It keeps what it may use folder by folder. For one run: copilot "
        + " ".join(f"--allow-tool 'parler({tool})'" for tool in MESSAGING),
    ),
    # A file of our own. Event names in this spelling get Claude Code's payload, with the session's id in it.
    hooks=Hooks(
        files=("${COPILOT_HOME}/hooks/parler.json", "~/.copilot/hooks/parler.json"),
        format="json",
        events=(grouped("SessionStart", "added"), grouped("UserPromptSubmit", "added"), grouped("Stop", "block")),
        beside=((("version",), 1),),
        after="Start a new session.",
    ),
    # It takes the plugin that Claude Code takes.
    plugins=Plugins(
        files=("${COPILOT_HOME}/settings.json", "~/.copilot/settings.json"),
        key=("enabledPlugins",),
        adds=("copilot plugin marketplace add FOLDER", "copilot plugin install parler@parler"),
        removes=("copilot plugin uninstall parler@parler", "copilot plugin marketplace remove parler"),
    ),
    project_files=((".github/mcp.json", ("mcpServers",)),),
    health=Health(words=("mcp", "get", "parler"), shows=r"Status: +Enabled", starts=False),
    start=Start(
        terminal=("-i", PROMPT),
        headless=("-p", PROMPT),
        allowed=tuple(f"--allow-tool=parler({tool})" for tool in MESSAGING),
    ),
    sight=_RECORD,
)
