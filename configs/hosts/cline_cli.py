"""Cline's command line: a file of its own, in which an entry has its transport as a table inside."""

from __future__ import annotations

from typing import Any

from configs.model import PROMPT, Consent, Host, Shim, Start, same_everywhere
from configs.shapes import stdio
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    return {"transport": stdio(shim)}


HOST = Host(
    id="cline-cli",
    name="Cline CLI",
    format="json",
    files=same_everywhere(
        "${CLINE_DIR}/data/settings/cline_mcp_settings.json", "~/.cline/data/settings/cline_mcp_settings.json"
    ),
    windows=(r"%USERPROFILE%\.cline\data\settings\cline_mcp_settings.json",),
    key_path=("mcpServers",),
    entry=_entry,
    programs=("cline",),
    folders=("${CLINE_DIR}", "~/.cline"),
    rewrites=True,
    after="Start a new session.",
    traits=HostTraits(page=7_500, unit="json", wait_s=55, clients=("@cline/core",), shares_servers=True),
    consent=Consent(default="runs Parler's tools without asking", asks=False),
    start=Start(terminal=("-i", PROMPT), headless=("--json", PROMPT)),
    quirks=(
        "Its windows in a terminal share the servers of the first one. A second window that `parler bring` starts "
        "beside an open one has to join with a key.",
    ),
)
