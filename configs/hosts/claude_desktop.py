"""Claude Desktop: strict JSON, stdio servers only, and a program that may replace the whole file."""

from __future__ import annotations

from configs.model import Host
from configs.shapes import bare

HOST = Host(
    id="claude-desktop",
    name="Claude Desktop",
    format="json",
    files={
        "linux": ("${XDG_CONFIG_HOME:-~/.config}/Claude/claude_desktop_config.json",),
        "macos": ("~/Library/Application Support/Claude/claude_desktop_config.json",),
    },
    key_path=("mcpServers",),
    entry=bare,
    folders=("${XDG_CONFIG_HOME:-~/.config}/Claude", "~/Library/Application Support/Claude"),
    rewrites=True,
    after="Quit it before the edit and start it after.",
    quirks=("It has been seen to drop every server when it saves its preferences.",),
)
