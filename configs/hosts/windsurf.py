"""Windsurf: takes at most a hundred tools over all its servers. Its plugin for JetBrains reads another file."""

from __future__ import annotations

from configs.model import Host, same_everywhere
from configs.shapes import bare

HOST = Host(
    id="windsurf",
    name="Windsurf",
    format="jsonc",
    files=same_everywhere("~/.codeium/windsurf/mcp_config.json"),
    windows=(r"%USERPROFILE%\.codeium\windsurf\mcp_config.json",),
    also=("~/.codeium/mcp_config.json",),
    key_path=("mcpServers",),
    entry=bare,
    editors=("windsurf",),
    editor_packages=(".windsurf-server", "Windsurf.app"),
    folders=("~/.codeium/windsurf",),
    rewrites=True,
    after="Press refresh in its MCP panel.",
    quirks=(
        "It takes at most 100 tools over all servers.",
        "The plugin for JetBrains reads `~/.codeium/mcp_config.json`, which gets our entry too if it exists.",
    ),
)
