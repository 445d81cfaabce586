"""OpenCode: the command is one list, and a server that needs longer than `timeout` is given up.

Its second layout keeps servers one level deeper, in a stricter shape: `disabled` instead of `enabled`, two timeouts.
"""

from __future__ import annotations

from typing import Any

from configs.model import MESSAGING, PROMPT, Consent, Health, Host, Shim, Start, denies_tools, same_everywhere
from configs.shapes import local
from parlerd.core.records import Call, Ending, Kind, Opening, Record, Reply, Result, Rows, Test
from parlerd.operations.traits import HostTraits


def _second(shim: Shim) -> dict[str, Any]:
    timeout = {"startup": 30_000, "request": 120_000}
    return {"type": "local", "command": [shim.python, *shim.arguments], "timeout": timeout}


_RECORD = Record(
    versions=("1.18.34",),
    folders=("${XDG_DATA_HOME}/opencode", "~/.local/share/opencode"),
    files=("opencode.db",),
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
    id="opencode",
    name="OpenCode",
    format="jsonc",
    files=same_everywhere(
        "${XDG_CONFIG_HOME:-~/.config}/opencode/opencode.jsonc", "${XDG_CONFIG_HOME:-~/.config}/opencode/opencode.json"
    ),
    windows=(r"%USERPROFILE%\.config\opencode\opencode.jsonc",),
    key_path=("mcp",),
    layouts={("mcp", "servers"): _second},
    entry=local,
    trailing_commas=True,
    left_out=((("tools",), denies_tools),),
    programs=("opencode",),
    packages=("opencode-ai",),
    markers=("OPENCODE", "OPENCODE_PID"),
    folders=("${XDG_CONFIG_HOME:-~/.config}/opencode",),
    limits="30 s for anything by default; we write 120 s",
    after="Start it again.",
    traits=HostTraits(page=50_000, lines=1_900, wait_s=55, progress=True, cancels_answered=True, clients=("opencode",)),
    consent=Consent(
        default="runs Parler's tools without asking",
        asks=False,
        put=tuple((("permission", f"parler_{tool}"), "allow") for tool in MESSAGING),
    ),
    project_files=tuple(
        (name, ("mcp",))
        for name in ("opencode.json", "opencode.jsonc", ".opencode/opencode.json", ".opencode/opencode.jsonc")
    ),
    health=Health(words=("mcp", "list"), shows=r"✓ +parler +.*connected"),
    start=Start(terminal=("--prompt", PROMPT), headless=("run", PROMPT)),
    sight=_RECORD,
    quiet={"OPENCODE_DISABLE_AUTOUPDATE": "1"},
    quirks=(
        "`opencode mcp add` re-indents the whole block.",
        "Under `mcp.servers` an entry has two timeouts and no `enabled`; Parler writes it so there.",
    ),
)
