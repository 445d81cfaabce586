"""`server.json`, with which the MCP registry lists Parler, and the bundle for Claude Desktop.

A client of the registry starts the package with `uvx NAME mcp`. The registry takes an entry only when the package's
description, which is the README, names it: `mcp-name: ...`. Source: the registry's schema of 2025-12-11 and its rules
for packages; the manifest of MCPB 0.3. Above: `__main__`. Below: `plugins`, which has what a bundle starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from configs.model import SERVER
from configs.package.about import About
from configs.package.files import as_json
from configs.package.plugins import STARTER, starter
from parlerd.operations.tools import TOOLS, description

_SCHEMA: Final = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
_MOST: Final = 100
"""Characters of a description in the registry."""


def name_of(about: About) -> str:
    """The server's name in the registry."""
    return f"{about.namespace}/{SERVER}"


def marker(about: About) -> str:
    """What the README has to say, so that the registry believes that the package is the server's."""
    return f"mcp-name: {name_of(about)}"


def server(about: About) -> dict[str, Any]:
    """`server.json`."""
    assert len(about.short) <= _MOST
    return {
        "$schema": _SCHEMA,
        "name": name_of(about),
        "title": "Parler",
        "description": about.short,
        "version": about.version,
        "packages": [
            {
                "registryType": "pypi",
                "identifier": about.name,
                "version": about.version,
                "runtimeHint": "uvx",
                "transport": {"type": "stdio"},
                "packageArguments": [{"type": "positional", "value": "mcp"}],
            }
        ],
    }


def bundle(about: About) -> Mapping[str, str]:
    """The files of the bundle. It starts what is installed, as the plugin does: Claude Desktop brings no Python."""
    manifest = {
        "manifest_version": "0.3",
        "name": SERVER,
        "display_name": "Parler",
        "version": about.version,
        "description": about.short,
        "long_description": about.description,
        "author": {"name": "Parler"},
        "license": about.licence,
        "keywords": list(about.keywords),
        "server": {
            "type": "binary",
            "entry_point": STARTER,
            "mcp_config": {"command": f"${{__dirname}}/{STARTER}", "args": [], "env": {}},
        },
        "tools": [{"name": tool.name, "description": description(tool)} for tool in TOOLS.values()],
        "tools_generated": False,
        "compatibility": {"platforms": ["darwin", "linux"]},
    }
    return {"manifest.json": as_json(manifest), STARTER: starter(about)}
