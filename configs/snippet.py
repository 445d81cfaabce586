"""Our entry for one host as text to paste: complete with its enclosing key or table, and nothing around it.

Pure. What is written here reads back, by the host's own format, to the entry that the host's declaration gives.
"""

from __future__ import annotations

import json
from typing import Any

from configs.model import SERVER, Host, Shim


def snippet(host: Host, shim: Shim) -> str:
    """The snippet for `host`, with a final line break."""
    entry = host.entry(shim)
    if host.format == "toml":
        return _toml((*host.key_path, SERVER), entry)
    whole = _nested((*host.key_path, SERVER), entry)
    if host.format == "yaml":
        return _yaml(whole, 0)
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _nested(path: tuple[str, ...], value: dict[str, Any]) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return value


def _toml(path: tuple[str, ...], entry: dict[str, Any]) -> str:
    # A JSON string, list or number is the same in TOML; keys and tables are ours and need no quotes.
    lines = [f"[{'.'.join(path)}]", *(f"{key} = {_scalar(value)}" for key, value in entry.items())]
    return "\n".join(lines) + "\n"


def _yaml(value: dict[str, Any], depth: int) -> str:
    # YAML reads JSON scalars and lists as they are, so only mappings need its own form.
    text = ""
    for key, each in value.items():
        if isinstance(each, dict) and each:
            text += f"{'  ' * depth}{key}:\n{_yaml(each, depth + 1)}"
        else:
            text += f"{'  ' * depth}{key}: {_scalar(each)}\n"
    return text


def _scalar(value: Any) -> str:
    # Escapes above U+FFFF would be surrogate pairs, which TOML refuses; DEL is the one control that JSON leaves bare.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
