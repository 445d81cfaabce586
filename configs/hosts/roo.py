"""Roo Code: a relative of Cline, with its shape and a file of its own."""

from __future__ import annotations

from configs.model import Host
from configs.shapes import in_family, in_windows_editions, on_any, patient

HOST = Host(
    id="roo",
    name="Roo Code",
    aliases=("roo-code",),
    format="json",
    files=in_family("globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json"),
    multiple=True,
    windows=in_windows_editions(r"globalStorage\rooveterinaryinc.roo-cline\settings\mcp_settings.json"),
    key_path=("mcpServers",),
    entry=patient,
    folders=on_any(in_family("globalStorage/rooveterinaryinc.roo-cline")),
    rewrites=True,
    limits="60 s for anything by default; we write `timeout` 120 s",
    after="It takes the change at once.",
    project_files=((".roo/mcp.json", ("mcpServers",)),),
)
