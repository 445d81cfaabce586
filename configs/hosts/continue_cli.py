"""Continue: YAML, in which the servers are a list, each with its name inside. The extension and `cn` share the file."""

from __future__ import annotations

from typing import Any

from configs.model import SERVER, Host, Shim, same_everywhere
from configs.shapes import bare
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    return {"name": SERVER, **bare(shim)}


HOST = Host(
    id="continue-cli",
    name="Continue",
    aliases=("continue", "cn"),
    format="yaml",
    files=same_everywhere("${CONTINUE_GLOBAL_DIR}/config.yaml", "~/.continue/config.yaml"),
    windows=(r"%USERPROFILE%\.continue\config.yaml",),
    key_path=("mcpServers",),
    listed=True,
    entry=_entry,
    # What it writes itself at the first start; it refuses a file without them.
    beside={"name": "Main Config", "version": "1.0.0", "schema": "v1"},
    programs=("cn",),
    packages=("@continuedev/cli",),
    folders=("${CONTINUE_GLOBAL_DIR}", "~/.continue"),
    rewrites=True,
    limits="60 s for a call, by the library that it uses",
    after="Start a new session.",
    traits=HostTraits(clients=("continue-cli-client",)),
)
