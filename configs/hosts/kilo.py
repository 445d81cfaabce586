"""Kilo Code: a relative of OpenCode, with its shape. Its older releases kept servers in other files, in another."""

from __future__ import annotations

from configs.model import MESSAGING, PROMPT, Consent, Host, Start, denies_tools, same_everywhere
from configs.shapes import local
from parlerd.core.records import Call, Ending, Kind, Opening, Record, Reply, Result, Rows, Test
from parlerd.operations.traits import HostTraits

_RECORD = Record(
    versions=("7.7.9",),
    folders=("${XDG_DATA_HOME}/kilo", "~/.local/share/kilo"),
    files=("kilo.db",),
    form="rows",
    rows=Rows(messages="message", parts="part"),
    conversation=("session",),
    # The message with the call goes on after the result: with parallel calls, and the end of its step.
    calls=(Call(name="tool", has=(Test("part.type", ("tool",)),), calls="part.callID", id="of"),),
    results=(
        Result(
            name="completed tool",
            has=(Test("part.type", ("tool",)), Test("part.state.status", ("completed",))),
            lacks=(Test("part.state.time.compacted"),),
            call="part.callID",
            text="part.state.output",
        ),
    ),
    # A step starts before the model says anything, so its start proves nothing. A tool proves something in a message in
    # which a step started: what a person runs with `!`, or by a command, is written as a tool of an assistant as well.
    openings=(Opening(name="step", has=(Test("part.type", ("step-start",)),), id="of"),),
    replies=(
        Reply(
            name="part of another message",
            has=(Test("message.role", ("assistant",)), Test("part.type", ("text", "reasoning", "step-finish"))),
            lacks=(Test("message.error"), Test("message.summary", (True,))),
            differs="of",
        ),
        Reply(
            name="tool of another message",
            has=(Test("message.role", ("assistant",)), Test("part.type", ("tool",))),
            lacks=(Test("message.error"), Test("message.summary", (True,))),
            differs="of",
            opened="of",
        ),
    ),
    endings=(
        Ending(
            name="summary",
            has=(Test("message.role", ("assistant",)), Test("message.summary", (True,))),
            verdict="summarised",
            reason="compacted",
        ),
        Ending(name="compaction", has=(Test("part.type", ("compaction",)),), verdict="summarised", reason="compacted"),
        Ending(
            name="aborted message",
            has=(Test("message.error.name", ("MessageAbortedError",)),),
            verdict="not_shown",
            reason="cancelled",
        ),
        Ending(name="failed message", has=(Test("message.error"),), verdict="not_shown", reason="failed_request"),
    ),
    harmless=(
        Kind(name="user", has=(Test("message.role", ("user",)),)),
        Kind(
            name="assistant",
            has=(Test("message.role", ("assistant",)),),
            lacks=(Test("part"),),
        ),
        Kind(
            name="part",
            has=(
                Test("message.role", ("assistant",)),
                Test("part.type", ("text", "reasoning", "tool", "step-start", "step-finish", "patch", "snapshot")),
            ),
        ),
    ),
)


HOST = Host(
    id="kilo",
    name="Kilo Code",
    aliases=("kilo-code",),
    format="jsonc",
    files=same_everywhere(
        "${XDG_CONFIG_HOME:-~/.config}/kilo/kilo.jsonc", "${XDG_CONFIG_HOME:-~/.config}/kilo/kilo.json"
    ),
    windows=(r"%USERPROFILE%\.config\kilo\kilo.jsonc",),
    key_path=("mcp",),
    entry=local,
    trailing_commas=True,
    left_out=((("tools",), denies_tools),),
    programs=("kilo",),
    packages=("@kilocode/cli",),
    folders=("${XDG_CONFIG_HOME:-~/.config}/kilo",),
    rewrites=True,
    limits="30 s for anything by default; we write 120 s",
    traits=HostTraits(page=50_000, lines=1_900, wait_s=55, progress=True, cancels_answered=True, clients=("kilo",)),
    consent=Consent(
        default="runs Parler's tools without asking",
        asks=False,
        put=tuple((("permission", f"parler_{tool}"), "allow") for tool in MESSAGING),
    ),
    project_files=(
        ("kilo.jsonc", ("mcp",)),
        (".kilo/kilo.jsonc", ("mcp",)),
        (".kilocode/mcp.json", ("mcpServers",)),
    ),
    start=Start(terminal=("--prompt", PROMPT), headless=("run", PROMPT)),
    sight=_RECORD,
    quirks=("Releases before Kilo moved to OpenCode's code read `~/.kilocode` or VS Code's storage, not these files.",),
)
