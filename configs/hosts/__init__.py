"""Every host that Parler knows, in the order in which they are shown. To add one: its file, a line here, its test."""

from __future__ import annotations

from typing import Final

from configs.hosts import (
    amp,
    antigravity,
    claude_code,
    claude_desktop,
    cline,
    cline_cli,
    codex,
    continue_cli,
    copilot,
    cursor,
    droid,
    gemini,
    goose,
    grok,
    kilo,
    kimi,
    kiro,
    opencode,
    qwen,
    roo,
    vscode,
    windsurf,
    zed,
)
from configs.model import Host, UnknownHost

HOSTS: Final[tuple[Host, ...]] = (
    claude_code.HOST,
    claude_desktop.HOST,
    codex.HOST,
    cursor.HOST,
    windsurf.HOST,
    gemini.HOST,
    opencode.HOST,
    vscode.HOST,
    cline.HOST,
    cline_cli.HOST,
    zed.HOST,
    qwen.HOST,
    copilot.HOST,
    droid.HOST,
    amp.HOST,
    goose.HOST,
    kilo.HOST,
    roo.HOST,
    kiro.HOST,
    antigravity.HOST,
    grok.HOST,
    kimi.HOST,
    continue_cli.HOST,
)
_BY_NAME: Final = {name: host for host in HOSTS for name in (host.id, *host.aliases)}


def find_host(name: str) -> Host:
    """The host of that id or alias, in any case. Raises `UnknownHost`, which lists the ids."""
    host = _BY_NAME.get(name.lower())
    if host is None:
        raise UnknownHost(f"no agent host is called {name!r}; there are: {', '.join(each.id for each in HOSTS)}")
    return host
