"""Qwen Code: a fork of Gemini CLI, with nearly the same rules for its file."""

from __future__ import annotations

from configs.model import Host, same_everywhere
from configs.shapes import bare

HOST = Host(
    id="qwen",
    name="Qwen Code",
    aliases=("qwen-code",),
    format="jsonc",
    files=same_everywhere("~/.qwen/settings.json"),
    windows=(r"%USERPROFILE%\.qwen\settings.json",),
    key_path=("mcpServers",),
    entry=bare,
    programs=("qwen",),
    folders=("~/.qwen",),
    rewrites=True,
    limits="10 min for anything by default",
    after="Start a new session.",
    quirks=(
        "It adds `$version` to the file, and writes the whole file again with two spaces.",
        "A trailing comma stops it; a byte order mark does not.",
    ),
)
