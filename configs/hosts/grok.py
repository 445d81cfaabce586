"""Grok: a TOML file like that of Codex. It reads the settings of Claude Code too, and starts its servers."""

from __future__ import annotations

from configs.model import MESSAGING, PROMPT, Consent, Host, Start, same_everywhere
from configs.shapes import bare
from parlerd.operations.traits import HostTraits

HOST = Host(
    id="grok",
    name="Grok",
    aliases=("grok-cli",),
    format="toml",
    files=same_everywhere("${GROK_HOME}/config.toml", "~/.grok/config.toml"),
    windows=(r"%USERPROFILE%\.grok\config.toml",),
    key_path=("mcp_servers",),
    entry=bare,
    mode=0o600,
    programs=("grok",),
    markers=("GROK_SESSION_ID",),
    folders=("${GROK_HOME}", "~/.grok"),
    rewrites=True,
    limits="for a call without a known limit",
    after="Start a new session.",
    traits=HostTraits(page=19_500, wait_s=600, clients=("grok-shell*",), conversation_env="GROK_SESSION_ID"),
    consent=Consent(
        default="asks at the first call of each tool, and ends `grok -p` at such a call",
        appended=((("permission", "allow"), tuple(f"MCPTool(parler__{tool})" for tool in MESSAGING)),),
        covers=((("permission", "allow"), "MCPTool(parler__*)"),),
    ),
    start=Start(terminal=(PROMPT,), headless=("-p", PROMPT)),
    quirks=(
        "It reads `~/.claude.json` and `~/.claude/settings.json` too; an entry of its own makes it known as itself.",
        "Its model finds tools by searching for them.",
    ),
)
