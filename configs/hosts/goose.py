"""Goose: YAML, in which a server is one of the extensions and names itself again inside its entry."""

from __future__ import annotations

from typing import Any

from configs.model import SERVER, Host, Shim, same_everywhere


def _entry(shim: Shim) -> dict[str, Any]:
    return {
        "name": SERVER,
        "description": "Conversations with the other agents on this machine",
        "cmd": shim.python,
        "args": shim.arguments,
        "enabled": True,
        "envs": {},
        "type": "stdio",
        "timeout": 300,
    }


HOST = Host(
    id="goose",
    name="Goose",
    format="yaml",
    files=same_everywhere("${XDG_CONFIG_HOME:-~/.config}/goose/config.yaml"),
    windows=(r"%APPDATA%\Block\goose\config\config.yaml",),
    key_path=("extensions",),
    entry=_entry,
    programs=("goose",),
    folders=("${XDG_CONFIG_HOME:-~/.config}/goose",),
    rewrites=True,
    limits="300 s for anything by default; we write the same",
    after="Start a new session.",
    quirks=("`goose configure` writes the whole file again.",),
)
