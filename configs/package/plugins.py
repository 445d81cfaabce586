"""The folder that programs take as a plugin, with one file of each kind that they read.

    plugin.json, mcp.json     Agent Plugins 1.0.0: Codex, VS Code, Cursor, Copilot, Kiro, ...
    others                    what one host alone reads, from the host's own file (`configs/hosts`)
    skills/parler/SKILL.md    the skill, which all of them read
    bin/parler-mcp            what each of them starts

Source of the first: the specification and the schemas of agent-plugins.org. Above: `__main__`, `listing`. Below: the
registry of operations, which says what tools are called, and the hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from configs.hosts import HOSTS
from configs.model import SERVER, Host, Plugin
from configs.package.about import About
from configs.package.files import as_json, filled
from configs.shapes import served
from parlerd.operations.tools import TOOLS

STARTER: Final = "bin/parler-mcp"
"""What a program starts, below the plugin's folder."""
_SCHEMAS: Final = "https://agent-plugins.org/schemas/1.0.0"
_MAKER: Final = {"name": "Parler"}
_TOOLS: Final[Mapping[str, str]] = {
    "open": "parler_open_session",
    "join": "parler_join_session",
    "send": "parler_send",
    "recv": "parler_recv",
    "handoff": "parler_handoff",
    "approve": "parler_approve",
}
"""The tools that the skill names, by their places in it."""


def plugin(about: About) -> dict[str, str]:
    """Every file of the folder, by its path."""
    manifest = {
        "name": SERVER,
        "version": about.version,
        "description": about.description,
        "author": _MAKER,
        "license": about.licence,
        "keywords": list(about.keywords),
    }
    files: dict[str, Mapping[str, Any]] = {
        "plugin.json": {"$schema": f"{_SCHEMAS}/plugin.schema.json", **manifest},
        # Without a host it says itself, when it connects, which program it is.
        "mcp.json": {"$schema": f"{_SCHEMAS}/mcp.schema.json", **served(f"./{STARTER}")},
    }
    for host in HOSTS:
        if host.plugins is not None and host.plugins.manifests is not None:
            files |= host.plugins.manifests(Plugin(manifest, STARTER))
    return {
        **{name: as_json(document) for name, document in files.items()},
        "skills/parler/SKILL.md": skill(about),
        "README.md": filled(
            "plugin-readme.md",
            name=about.name,
            version=about.version,
            description=about.description,
            programs="\n".join(f"| {host.name} | {_ways(adds)} |" for host, adds in ways()),
        ),
        STARTER: starter(about),
    }


def ways() -> list[tuple[Host, tuple[str, ...]]]:
    """The hosts that take the folder as a plugin, with the commands that install it."""
    return [(host, host.plugins.adds) for host in HOSTS if host.plugins is not None and host.plugins.adds]


def _ways(commands: tuple[str, ...]) -> str:
    return ", then ".join(f"`{command}`" for command in commands)


def skill(about: About) -> str:
    """The skill. Its tools are those of the registry."""
    known = set(TOOLS)
    assert set(_TOOLS.values()) <= known
    return filled("SKILL.md", name=about.name, version=about.version, licence=about.licence, **_TOOLS)


def starter(about: About) -> str:
    """What a program starts."""
    return filled("parler-mcp", name=about.name, version=about.version)
