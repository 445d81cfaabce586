"""OpenCode: the command is one list, and a server that needs longer than `timeout` is given up."""

from __future__ import annotations

from typing import Any

from configs.model import Host, Shim, same_everywhere


def _entry(shim: Shim) -> dict[str, Any]:
    # Its default of 30 s is less than a wait for a message may take.
    return {"type": "local", "command": [shim.python, *shim.arguments], "enabled": True, "timeout": 120_000}


HOST = Host(
    id="opencode",
    name="OpenCode",
    format="jsonc",
    files=same_everywhere(
        "${XDG_CONFIG_HOME:-~/.config}/opencode/opencode.jsonc", "${XDG_CONFIG_HOME:-~/.config}/opencode/opencode.json"
    ),
    key_path=("mcp",),
    entry=_entry,
    programs=("opencode",),
    folders=("${XDG_CONFIG_HOME:-~/.config}/opencode",),
    quirks=("`opencode mcp add` re-indents the whole block.",),
)
