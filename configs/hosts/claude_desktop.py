"""Claude Desktop: strict JSON, stdio servers only, and a program that may replace the whole file."""

from __future__ import annotations

from configs.model import Host
from configs.shapes import bare, on_any, under_config

HOST = Host(
    id="claude-desktop",
    name="Claude Desktop",
    format="json",
    files=under_config("Claude/claude_desktop_config.json"),
    windows=(
        r"%LOCALAPPDATA%\Packages\Claude_*\LocalCache\Roaming\Claude\claude_desktop_config.json",
        r"%APPDATA%\Claude\claude_desktop_config.json",
    ),
    key_path=("mcpServers",),
    entry=bare,
    folders=on_any(under_config("Claude")),
    rewrites=True,
    after="Quit it before the edit and start it after.",
    quirks=(
        "It has been seen to drop every server when it saves its preferences.",
        "On Linux there are unofficial builds only.",
    ),
)
