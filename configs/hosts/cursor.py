"""Cursor: the editor and its agent share one file."""

from __future__ import annotations

from configs.events import Hook, Hooks, Run
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
    hooks=Hooks(
        files=("~/.cursor/hooks.json",),
        format="jsonc",
        events=(Hook("stop", "follow up", {"command": Run("stop")}),),
        beside=((("version",), 1),),
        after="Written after Cursor's documentation and not tried with the program.",
    ),
    project_files=((".cursor/mcp.json", ("mcpServers",)),),
)
