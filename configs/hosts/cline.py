"""Cline: the VS Code extension. It watches its file and rewrites it."""

from __future__ import annotations

from typing import Any

from configs.model import Host, Shim
from configs.shapes import bare

_SETTINGS = "User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"


def _entry(shim: Shim) -> dict[str, Any]:
    # Seconds. Its default of 60 is close to the longest wait of a tool.
    return {**bare(shim), "timeout": 120, "disabled": False}


HOST = Host(
    id="cline",
    name="Cline",
    format="json",
    files={
        "linux": (f"${{XDG_CONFIG_HOME:-~/.config}}/Code/{_SETTINGS}",),
        "macos": (f"~/Library/Application Support/Code/{_SETTINGS}",),
    },
    key_path=("mcpServers",),
    entry=_entry,
    folders=(
        "${XDG_CONFIG_HOME:-~/.config}/Code/User/globalStorage/saoudrizwan.claude-dev",
        "~/Library/Application Support/Code/User/globalStorage/saoudrizwan.claude-dev",
    ),
    rewrites=True,
    after="It takes the change at once.",
)
