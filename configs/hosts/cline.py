"""Cline: the VS Code extension. It watches its file and rewrites it."""

from __future__ import annotations

from configs.model import Host
from configs.shapes import in_family, in_windows_editions, on_any, patient

HOST = Host(
    id="cline",
    name="Cline",
    format="json",
    files=in_family("globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"),
    multiple=True,
    windows=in_windows_editions(r"globalStorage\saoudrizwan.claude-dev\settings\cline_mcp_settings.json"),
    key_path=("mcpServers",),
    entry=patient,
    folders=on_any(in_family("globalStorage/saoudrizwan.claude-dev")),
    rewrites=True,
    limits="60 s for anything by default; we write `timeout` 120 s",
    after="It takes the change at once.",
)
