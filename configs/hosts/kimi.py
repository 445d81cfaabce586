"""Kimi Code: strict JSON. It gives a call a minute unless the entry says otherwise."""

from __future__ import annotations

from typing import Any

from configs.model import PROMPT, Consent, Host, Shim, Start, same_everywhere
from configs.shapes import bare
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    # In milliseconds: the default of a minute leaves little beside the longest wait of a tool.
    return {**bare(shim), "toolTimeoutMs": 120_000}


HOST = Host(
    id="kimi",
    name="Kimi Code",
    aliases=("kimi-code",),
    format="json",
    files=same_everywhere("${KIMI_CODE_HOME}/mcp.json", "~/.kimi-code/mcp.json"),
    windows=(r"%USERPROFILE%\.kimi-code\mcp.json",),
    key_path=("mcpServers",),
    entry=_entry,
    programs=("kimi",),
    packages=("@moonshot-ai/kimi-code",),
    folders=("${KIMI_CODE_HOME}", "~/.kimi-code"),
    rewrites=True,
    limits="60 s for a call by default; we write 120 s",
    after="Start a new session.",
    traits=HostTraits(page=49_000, unit="characters", wait_s=55, cancels_answered=True, clients=("kimi-code",)),
    consent=Consent(default="runs Parler's tools without asking", asks=False),
    project_files=((".kimi-code/mcp.json", ("mcpServers",)),),
    start=Start(headless=("-p", PROMPT)),
)
