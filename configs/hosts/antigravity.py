"""Antigravity: the app, the editor and `agy` share one file; older releases had one each.

Which release is there does not show, and one that moved its servers reads the old file no more: each that can be read
gets our entry.
"""

from __future__ import annotations

from configs.model import Host, same_everywhere
from configs.shapes import bare

HOST = Host(
    id="antigravity",
    name="Antigravity",
    aliases=("agy",),
    format="json",
    files=same_everywhere("~/.gemini/config/mcp_config.json", "~/.gemini/antigravity/mcp_config.json"),
    windows=(r"%USERPROFILE%\.gemini\config\mcp_config.json",),
    multiple=True,
    key_path=("mcpServers",),
    entry=bare,
    programs=("agy",),
    editors=("antigravity",),
    editor_packages=(".antigravity-server", "Antigravity.app"),
    folders=("~/.gemini/config", "~/.gemini/antigravity"),
    rewrites=True,
    after="Press refresh in its MCP view, or start a new session.",
    project_files=((".agents/mcp_config.json", ("mcpServers",)),),
    quirks=("A file that is not JSON stops `agy`; an entry of the wrong shape is dropped without a word.",),
)
