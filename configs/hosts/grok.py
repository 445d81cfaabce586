"""Grok: a TOML file like that of Codex. It reads the settings of Claude Code too, and starts its servers."""

from __future__ import annotations

from configs.model import MESSAGING, PROMPT, Consent, Host, Start, same_everywhere
from configs.shapes import bare
from parlerd.core.records import Kind, Record, Reply, Result, Test
from parlerd.operations.traits import HostTraits

_RECORD = Record(
    versions=("1.0.41",),
    folders=("~/.grok/sessions",),
    # Never `mcp`, which holds the whole text of what was cut, nor `updates.jsonl`, which holds raw results.
    files=("*/*/chat_history.jsonl",),
    results=(Result(name="tool result", has=(Test("type", ("tool_result",)),), call="tool_call_id", text="content"),),
    # Nothing is written for a request that failed, and the next request holds the result again.
    replies=(Reply(name="reply", has=(Test("type", ("assistant",)), Test("model_id"))),),
    harmless=(Kind(name="other", has=(Test("type", ("user", "tool_result", "reasoning", "system")),)),),
)


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
    sight=_RECORD,
    quirks=(
        "It reads `~/.claude.json` and `~/.claude/settings.json` too; an entry of its own makes it known as itself.",
        "Its model finds tools by searching for them.",
    ),
)
