"""Kimi Code: strict JSON. It gives a call a minute unless the entry says otherwise."""

from __future__ import annotations

from typing import Any

from configs.model import PROMPT, Consent, Host, Shim, Start, same_everywhere
from configs.shapes import bare
from parlerd.core.records import Ending, Kind, Opening, Record, Reply, Result, Test
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    # In milliseconds: the default of a minute leaves little beside the longest wait of a tool.
    return {**bare(shim), "toolTimeoutMs": 120_000}


def _step(*kinds: str) -> tuple[Test, ...]:
    """What a step of the model's turn writes: its beginning, parts of the reply, calls and their results, its end."""
    return (Test("type", ("context.append_loop_event",)), Test("event.type", kinds))


_RECORD = Record(
    versions=("2.1.0",),
    # It says 0.0.0 of every release in its handshake, and names none in its record or the environment of its servers.
    anonymous=True,
    folders=("${KIMI_CODE_HOME}/sessions", "~/.kimi-code/sessions"),
    # A subagent has a folder of its own below `agents`. Never `tool-results`, which holds the whole text of what was
    # cut.
    files=("*/*/agents/*/wire.jsonl",),
    # A step begins after the results of the step before are written, and before its request is sent.
    openings=(Opening(name="step", has=_step("step.begin"), id="event.uuid"),),
    # `agent.message.appended` repeats a result when the turn has ended.
    results=(
        Result(
            name="tool result", has=_step("tool.result"), each="event", call="toolCallId", text="result.output"
        ),
    ),
    replies=(
        Reply(name="part of a later reply", has=_step("content.part", "tool.call"), opened="event.stepUuid"),
        Reply(
            name="end of a later step",
            has=(*_step("step.end"), Test("event.messageId")),
            lacks=(Test("event.finishReason", ("error",)),),
            opened="event.uuid",
        ),
    ),
    endings=(
        Ending(
            name="compaction",
            has=(Test("type", ("context.apply_compaction", "full_compaction.complete")),),
            verdict="summarised",
            reason="compacted",
        ),
        Ending(
            name="undoing",
            has=(Test("type", ("context.clear", "context.undo", "context.undone")),),
            verdict="not_shown",
            reason="rolled_back",
        ),
        Ending(
            name="cancelled turn",
            has=(Test("type", ("turn.ended",)), Test("reason", ("cancelled",))),
            verdict="not_shown",
            reason="cancelled",
            then="stays",
        ),
        Ending(
            name="failed step",
            has=(*_step("step.end"), Test("event.finishReason", ("error",))),
            verdict="not_shown",
            reason="failed_request",
            then="stays",
        ),
        Ending(
            name="failed turn",
            has=(Test("type", ("turn.ended",)), Test("reason", ("failed",))),
            verdict="not_shown",
            reason="failed_request",
            then="stays",
        ),
        # The maker's server refused the conversation, and it is sent again with something left out.
        Ending(
            name="request that was changed",
            has=(Test("type", ("llm.request",)), Test("projection")),
            verdict="unknown",
            reason="unrecognised",
        ),
    ),
    harmless=(
        Kind(name="step", has=_step("content.part", "step.begin", "step.end", "tool.call", "tool.result")),
        Kind(name="request", has=(Test("type", ("llm.request",)),), lacks=(Test("projection"),)),
        Kind(
            name="turn",
            has=(
                Test(
                    "type",
                    (
                        "agent.message.appended", "agent.turn.ended", "agent.turn.started", "context.append_message",
                        "prompt.aborted", "prompt.completed", "prompt.steered", "turn.cancel", "turn.ended",
                        "turn.prompt", "turn.steer", "turn.step.interrupted", "turn.step.retrying",
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
                        "config.update", "cron.add", "cron.cursor", "cron.delete", "file_history.checkpoint",
                        "file_history.tracked", "full_compaction.begin", "full_compaction.cancel", "goal.clear",
                        "goal.create", "goal.update", "interaction.request", "interaction.resolved",
                        "llm.tools_snapshot", "mcp.tools_discovered", "metadata", "permission.record_approval_result",
                        "permission.set_mode", "plan.revision", "plan_mode.cancel", "plan_mode.enter",
                        "plan_mode.exit", "plugin.session_start", "profile.bind", "runtime.set_binding",
                        "subagent.cancelled", "subagent.completed", "subagent.failed", "subagent.spawned",
                        "subagent.started", "swarm_mode.enter", "swarm_mode.exit", "task.started", "task.terminated",
                        "token_counting.measured", "token_counting.rebased", "token_counting.truncated",
                        "token_counting.turn_recorded", "tools.register_user_tool", "tools.reset_active_tools",
                        "tools.set_active_tools", "tools.unregister_user_tool", "tools.update_store",
                        "tower_mode.enter", "tower_mode.exit", "usage.record",
                    ),
                ),
            ),
        ),
    ),
)  # fmt: skip

HOST = Host(
    id="kimi",
    name="Kimi Code",
    aliases=("kimi-code",),
    format="json",
    files=same_everywhere("${KIMI_CODE_HOME}/mcp.json", "~/.kimi-code/mcp.json"),
    windows=(r"%USERPROFILE%\.kimi-code\mcp.json",),
    key_path=("mcpServers",),
    entry=_entry,
    programs=("kimi",),
    packages=("@moonshot-ai/kimi-code",),
    folders=("${KIMI_CODE_HOME}", "~/.kimi-code"),
    rewrites=True,
    limits="60 s for a call by default; we write 120 s",
    after="Start a new session.",
    traits=HostTraits(page=49_000, unit="characters", wait_s=55, cancels_answered=True, clients=("kimi-code",)),
    consent=Consent(default="runs Parler's tools without asking", asks=False),
    project_files=((".kimi-code/mcp.json", ("mcpServers",)),),
    start=Start(headless=("-p", PROMPT)),
    sight=_RECORD,
)
