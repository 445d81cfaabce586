"""Factory's droid."""

from __future__ import annotations

from typing import Any

from configs.events import Hooks, grouped
from configs.model import MESSAGING, PROMPT, SERVER, Consent, Health, Host, Shim, Start, same_everywhere
from configs.shapes import stdio
from parlerd.core.records import Chain, Ending, Kind, Record, Reply, Result, Test
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    return {**stdio(shim), "disabled": False}


_MESSAGE = Test("type", ("message",))

_RECORD = Record(
    versions=("0.225.2",),
    folders=("~/.factory/sessions",),
    # Never `artifacts`, which holds the whole text of what was cut.
    files=("*.jsonl", "*/*.jsonl"),
    chain=Chain(id="id", parent="parentId"),
    results=(
        Result(
            name="tool result",
            has=(_MESSAGE, Test("message.role", ("user",))),
            each="message.content[type=tool_result]",
            call="tool_use_id",
            text="content",
        ),
    ),
    replies=(
        Reply(
            name="reply",
            has=(_MESSAGE, Test("message.role", ("assistant",)), Test("message.modelId")),
            lacks=(Test("message.visibility"),),
        ),
    ),
    endings=(
        Ending(
            name="outcome of a cancelled turn",
            has=(Test("type", ("agent_turn_outcome",)), Test("reason", ("aborted", "cancelled", "interrupted"))),
            verdict="not_shown",
            reason="cancelled",
        ),
        Ending(
            name="outcome of a failed turn",
            has=(Test("type", ("agent_turn_outcome",)),),
            lacks=(Test("reason", ("completed",)),),
            verdict="not_shown",
            reason="failed_request",
            then="stays",
        ),
        # It says which message is the last one that the summary is made of.
        Ending(
            name="compaction",
            has=(Test("type", ("compaction_state",)),),
            verdict="summarised",
            reason="compacted",
            upto="anchorMessage.id",
            at="id",
        ),
    ),
    harmless=(
        Kind(name="message", has=(_MESSAGE,)),
        Kind(
            name="state",
            has=(Test("type", ("agent_turn_outcome", "session_start", "session_title_updated", "todo_state")),),
        ),
    ),
)


HOST = Host(
    id="droid",
    name="Factory droid",
    aliases=("factory",),
    format="jsonc",
    files=same_everywhere("~/.factory/mcp.json"),
    windows=(r"%USERPROFILE%\.factory\mcp.json",),
    key_path=("mcpServers",),
    entry=_entry,
    bom=False,
    programs=("droid",),
    folders=("~/.factory",),
    rewrites=True,
    after=(
        "Start a new session. `droid exec` begins before its servers are up: "
        'set "blockOnMcpLoad": true in ~/.factory/settings.json.'
    ),
    traits=HostTraits(
        page=39_000, unit="characters", wait_s=170, clients=("factory-cli",), conversation_meta="assemblySessionId"
    ),
    consent=Consent(
        default="asks at each call of a tool that writes, and ends `droid exec` at such a call",
        files=("~/.factory/settings.json",),
        format="jsonc",
        put=tuple((("mcpAutonomyOverrides", SERVER, "tools", tool), "low") for tool in MESSAGING),
    ),
    hooks=Hooks(
        files=("~/.factory/settings.json",),
        rather=("~/.factory/hooks.json", "~/.factory/hooks/hooks.json"),
        format="jsonc",
        events=(grouped("SessionStart", "context"), grouped("Stop", "block")),
        off=(("hooks", "hooksDisabled"), True),
        after="Start a new session; `/hooks` shows them.",
    ),
    project_files=((".factory/mcp.json", ("mcpServers",)),),
    health=Health(words=("mcp", "list"), shows=r"(?m)parler\s+stdio\s+connected"),
    start=Start(headless=("exec", PROMPT)),
    sight=_RECORD,
)
