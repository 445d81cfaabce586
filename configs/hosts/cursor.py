"""Cursor: the editor and its agent share one file."""

from __future__ import annotations

from configs.model import Host, same_everywhere
from configs.shapes import bare

HOST = Host(
    id="cursor",
    name="Cursor",
    format="jsonc",
    files=same_everywhere("~/.cursor/mcp.json"),
    windows=(r"%USERPROFILE%\.cursor\mcp.json",),
    key_path=("mcpServers",),
    entry=bare,
    programs=("cursor", "cursor-agent"),
    folders=("~/.cursor",),
    rewrites=True,
    after="Turn it on under Settings, MCP.",
)
