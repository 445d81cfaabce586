"""Every host that Parler knows, in the order in which they are shown. To add one: its file, a line here, its test."""

from __future__ import annotations

from collections.abc import Callable
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
from parlerd.process import Hosts

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
_OTHERS: Final = Hosts(
    programs={"auggie": "auggie", "crush": "crush"},
    packages={"@augmentcode/auggie": "auggie"},
)
"""Agent hosts that have no file here: a command that one of them started is its agent's all the same."""
_BY_NAME: Final = {name: host for host in HOSTS for name in (host.id, *host.aliases)}


def recognised() -> Hosts:
    """How the daemon recognises the hosts of `HOSTS`, and a few more, among the ancestors of a process."""

    def by(names: Callable[[Host], tuple[str, ...]]) -> dict[str, str]:
        return {name: host.id for host in HOSTS for name in names(host)}

    return Hosts(
        programs={**by(lambda host: host.programs), **_OTHERS.programs},
        packages={**by(lambda host: host.packages), **_OTHERS.packages},
        markers=by(lambda host: host.markers),
        editors=by(lambda host: host.editors),
        editor_packages=by(lambda host: host.editor_packages),
        editor_markers=by(lambda host: host.editor_markers),
    )


def quiet() -> dict[str, str]:
    """Variables with which no host updates itself or reports when Parler runs its program.

    Every program gets those of all hosts, because a host that came from another one may listen to its variables.
    """
    return {name: value for host in HOSTS for name, value in host.quiet.items()}


def find_host(name: str) -> Host:
    """The host of that id or alias, in any case. Raises `UnknownHost`, which lists the ids."""
    host = _BY_NAME.get(name.lower())
    if host is None:
        raise UnknownHost(f"no agent host is called {name!r}; there are: {', '.join(each.id for each in HOSTS)}")
    return host
