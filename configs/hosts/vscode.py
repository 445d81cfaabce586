"""VS Code with Copilot: its key is `servers`; `inputs` and `sandbox` beside it are not ours."""

from __future__ import annotations

from configs.model import Host
from configs.shapes import stdio

HOST = Host(
    id="vscode",
    name="VS Code",
    aliases=("vs-code", "code"),
    format="jsonc",
    files={
        "linux": (
            "${XDG_CONFIG_HOME:-~/.config}/Code/User/mcp.json",
            "${XDG_CONFIG_HOME:-~/.config}/Code - Insiders/User/mcp.json",
            "${XDG_CONFIG_HOME:-~/.config}/VSCodium/User/mcp.json",
        ),
        "macos": (
            "~/Library/Application Support/Code/User/mcp.json",
            "~/Library/Application Support/Code - Insiders/User/mcp.json",
            "~/Library/Application Support/VSCodium/User/mcp.json",
        ),
    },
    key_path=("servers",),
    entry=stdio,
    programs=("code", "code-insiders", "codium"),
    folders=("${XDG_CONFIG_HOME:-~/.config}/Code/User", "~/Library/Application Support/Code/User"),
    rewrites=True,
    after="Start it from the MCP view, and trust it when asked.",
)
