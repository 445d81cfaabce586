"""Cline's command line: a file of its own, in which an entry has its transport as a table inside."""

from __future__ import annotations

from typing import Any

from configs.model import PROMPT, Consent, Host, Shim, Start, same_everywhere
from configs.shapes import stdio
from parlerd.core.records import Ending, Kind, Record, Reply, Result, Summary, Test
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    return {"transport": stdio(shim)}


_RECORD = Record(
    versions=("3.0.65",),
    folders=("~/.cline/data/sessions",),
    files=("*/*.messages.json",),
    form="document",
    list="messages",
    # A compaction takes nothing out of the messages.
    summary=Summary(of=".messages.json", file=".compaction.json", last="source_last_message_key", mark="id:", id="id"),
    version="origin.version",
    clients=("0.0.0",),
    blinded_by=("CLINE_MESSAGE_BUILDER_MAX_TOOL_RESULT_CHARS",),
    # It writes the raw result and cuts the middle out of the JSON form of a long one as it sends a request.
    results=(
        Result(
            name="tool result",
            has=(Test("role", ("user",)),),
            each="content[type=tool_result]",
            call="tool_use_id",
            text="content",
            nested=True,
            whole_below=7_500,
        ),
        Result(
            name="tool result that a compaction kept",
            has=(Test("source_last_message_key"),),
            each="messages[].content[type=tool_result]",
            call="tool_use_id",
            text="content",
            nested=True,
            whole_below=7_500,
        ),
    ),
    replies=(
        Reply(name="reply", has=(Test("role", ("assistant",)), Test("metrics")), lacks=(Test("metadata.displayOnly"),)),
    ),
    endings=(
        Ending(name="compaction", has=(Test("source_last_message_key"),), verdict="unknown", reason="compacting"),
        Ending(
            name="error",
            has=(Test("role", ("assistant",)), Test("metadata.displayRole", ("error",))),
            verdict="not_shown",
            reason="failed_request",
            then="stays",
        ),
    ),
    harmless=(
        Kind(name="user", has=(Test("role", ("user",)),), lacks=(Test("metadata"),)),
        Kind(name="reply without metrics", has=(Test("role", ("assistant",)),), lacks=(Test("metadata"),)),
    ),
)


HOST = Host(
    id="cline-cli",
    name="Cline CLI",
    format="json",
    files=same_everywhere(
        "${CLINE_DIR}/data/settings/cline_mcp_settings.json", "~/.cline/data/settings/cline_mcp_settings.json"
    ),
    windows=(r"%USERPROFILE%\.cline\data\settings\cline_mcp_settings.json",),
    key_path=("mcpServers",),
    entry=_entry,
    programs=("cline",),
    folders=("${CLINE_DIR}", "~/.cline"),
    rewrites=True,
    after="Start a new session.",
    traits=HostTraits(page=7_500, unit="json", wait_s=55, clients=("@cline/core",), shares_servers=True),
    consent=Consent(default="runs Parler's tools without asking", asks=False),
    start=Start(terminal=("-i", PROMPT), headless=("--json", PROMPT)),
    sight=_RECORD,
    quirks=(
        "Its windows in a terminal share the servers of the first one. A second window that `parler bring` starts "
        "beside an open one has to join with a key.",
    ),
)
