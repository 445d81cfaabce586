"""Amp: the key of its table has a dot in its name, and is no path."""

from __future__ import annotations

from configs.model import Host, same_everywhere
from configs.shapes import bare

HOST = Host(
    id="amp",
    name="Amp",
    format="jsonc",
    files=same_everywhere("~/.config/amp/settings.json"),
    windows=(r"%USERPROFILE%\.config\amp\settings.json",),
    key_path=("amp.mcpServers",),
    entry=bare,
    trailing_commas=True,
    bom=False,
    programs=("amp",),
    packages=("@sourcegraph/amp",),
    folders=("~/.config/amp",),
    rewrites=True,
    after="Start a new session.",
    project_files=((".amp/settings.json", ("amp.mcpServers",)),),
    quirks=("`amp mcp doctor` starts a login.",),
)
