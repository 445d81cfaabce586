"""Factory's droid."""

from __future__ import annotations

from typing import Any

from configs.events import Hooks, grouped
from configs.model import MESSAGING, PROMPT, SERVER, Consent, Health, Host, Shim, Start, same_everywhere
from configs.shapes import stdio
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    return {**stdio(shim), "disabled": False}


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
)
