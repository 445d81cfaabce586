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
    programs=("cursor-agent",),
    packages=("cursor-agent",),
    markers=("CURSOR_AGENT",),
    editors=("cursor",),
    editor_packages=(".cursor-server", "Cursor.app"),
    editor_markers=("CURSOR_TRACE_ID",),
    folders=("~/.cursor",),
    rewrites=True,
    after="Turn it on under Settings, MCP.",
)
