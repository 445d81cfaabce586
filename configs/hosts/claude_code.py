"""Claude Code: strict JSON that the program itself rewrites, also while it runs."""

from __future__ import annotations

from typing import Any

from configs.model import Host, Shim, same_everywhere
from configs.shapes import stdio


def _entry(shim: Shim) -> dict[str, Any]:
    # Tools are deferred to a search by default; few as they are, ours belong in front of the model.
    return {**stdio(shim), "env": {}, "alwaysLoad": True}


HOST = Host(
    id="claude-code",
    name="Claude Code",
    aliases=("claude",),
    format="json",
    files=same_everywhere("${CLAUDE_CONFIG_DIR}/.claude.json", "~/.claude.json"),
    key_path=("mcpServers",),
    entry=_entry,
    programs=("claude",),
    folders=("${CLAUDE_CONFIG_DIR}", "~/.claude"),
    rewrites=True,
    after="Start a new session; `/mcp` shows it.",
    quirks=(
        "A comment or trailing comma in the file stops the program.",
        "Unknown keys in an entry are dropped when it adds one.",
    ),
)
