"""GitHub Copilot CLI: an entry says which of a server's tools may be used."""

from __future__ import annotations

from typing import Any

from configs.model import MESSAGING, Consent, Host, Shim, same_everywhere
from configs.shapes import bare
from parlerd.operations.traits import HostTraits


def _entry(shim: Shim) -> dict[str, Any]:
    return {"tools": ["*"], "type": "local", **bare(shim)}


HOST = Host(
    id="copilot",
    name="GitHub Copilot CLI",
    aliases=("copilot-cli",),
    format="jsonc",
    files=same_everywhere("${COPILOT_HOME}/mcp-config.json", "~/.copilot/mcp-config.json"),
    windows=(r"%USERPROFILE%\.copilot\mcp-config.json",),
    key_path=("mcpServers",),
    entry=_entry,
    trailing_commas=True,
    programs=("copilot",),
    packages=("@github/copilot",),
    markers=("COPILOT_AGENT_SESSION_ID",),
    folders=("${COPILOT_HOME}", "~/.copilot"),
    rewrites=True,
    after="Start a new session.",
    traits=HostTraits(
        page=20_000, wait_s=170, progress=True, clients=("copilot-cli",), conversation_env="COPILOT_AGENT_SESSION_ID"
    ),
    consent=Consent(
        default="asks at the first call of each tool that writes, and refuses those in `copilot -p`",
        by_hand="It keeps what it may use folder by folder. For one run: copilot "
        + " ".join(f"--allow-tool 'parler({tool})'" for tool in MESSAGING),
    ),
)
