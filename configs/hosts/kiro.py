"""Kiro: the editor and the command line share one file."""

from __future__ import annotations

from typing import Any

from configs.model import Host, Shim, same_everywhere
from configs.shapes import bare


def _entry(shim: Shim) -> dict[str, Any]:
    return {**bare(shim), "disabled": False}


HOST = Host(
    id="kiro",
    name="Kiro",
    aliases=("kiro-cli",),
    format="json",
    files=same_everywhere("~/.kiro/settings/mcp.json"),
    windows=(r"%USERPROFILE%\.kiro\settings\mcp.json",),
    key_path=("mcpServers",),
    entry=_entry,
    programs=("kiro-cli",),
    editors=("kiro",),
    editor_packages=(".kiro-server", "Kiro.app"),
    folders=("~/.kiro",),
    rewrites=True,
    after="It takes the change at once.",
    project_files=((".kiro/settings/mcp.json", ("mcpServers",)),),
)
