"""Gemini CLI: JSON with comments, but neither trailing commas nor a byte order mark."""

from __future__ import annotations

from configs.model import Host, same_everywhere
from configs.shapes import bare

HOST = Host(
    id="gemini",
    name="Gemini CLI",
    aliases=("gemini-cli",),
    format="jsonc",
    files=same_everywhere("~/.gemini/settings.json"),
    key_path=("mcpServers",),
    entry=bare,
    programs=("gemini",),
    folders=("~/.gemini",),
    rewrites=True,
    quirks=(
        "Servers are off in a folder that it was not told to trust.",
        "A trailing comma or byte order mark stops it.",
    ),
)
