"""VS Code with Copilot: its key is `servers`; `inputs` and `sandbox` beside it are not ours.

Every edition and every profile reads a file of its own, so each that is there is a place.
"""

from __future__ import annotations

from configs.model import Host
from configs.shapes import in_editions, in_windows_editions, on_any, stdio

HOST = Host(
    id="vscode",
    name="VS Code",
    aliases=("vs-code", "code"),
    format="jsonc",
    files=in_editions("mcp.json", "profiles/*/mcp.json"),
    multiple=True,
    windows=in_windows_editions("mcp.json"),
    key_path=("servers",),
    entry=stdio,
    trailing_commas=True,
    editors=("code", "code-insiders", "codium", "code-oss", "code-server", "code-tunnel"),
    editor_packages=(
        ".vscode-server",
        ".vscode-server-insiders",
        ".vscodium-server",
        "Visual Studio Code.app",
        "Visual Studio Code - Insiders.app",
        "VSCodium.app",
    ),
    editor_markers=("TERM_PROGRAM=vscode", "VSCODE_*"),
    folders=on_any(in_editions(".")),
    rewrites=True,
    after="Start it from the MCP view, and trust it when asked.",
    project_files=((".vscode/mcp.json", ("servers",)),),
    quirks=("A request to a model carries 128 tools at most.",),
)
