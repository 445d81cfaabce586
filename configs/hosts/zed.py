"""Zed: a settings file full of comments, in which servers are called context servers."""

from __future__ import annotations

from typing import Any

from configs.model import Host, Shim
from configs.shapes import bare


def _entry(shim: Shim) -> dict[str, Any]:
    # Releases of 2025 read an entry only when it names its source; later ones know no such key and pass over it.
    return {"source": "custom", **bare(shim), "env": {}}


_LINUX = "${XDG_CONFIG_HOME:-~/.config}/zed/settings.json"

HOST = Host(
    id="zed",
    name="Zed",
    format="jsonc",
    files={
        "linux": (_LINUX,),
        "macos": ("~/.config/zed/settings.json", "~/Library/Application Support/Zed/settings.json"),
    },
    windows=(r"%APPDATA%\Zed\settings.json",),
    key_path=("context_servers",),
    entry=_entry,
    trailing_commas=True,
    editors=("zed", "zeditor", "zed-editor"),
    editor_packages=("Zed.app",),
    editor_markers=("ZED_TERM",),
    folders=("${XDG_CONFIG_HOME:-~/.config}/zed", "~/Library/Application Support/Zed"),
    rewrites=True,
    limits="60 s for a call by default",
    after="It takes the change at once; the agent panel's settings show it.",
    project_files=((".zed/settings.json", ("context_servers",)),),
    quirks=("Sources differ about the folder on macOS, so Parler uses the one that exists.",),
)
