"""Our entry for one host as text to paste: complete with its enclosing key or table, and nothing around it.

Pure. What is written here reads back, by the host's own format, to the entry that the host's declaration gives.
"""

from __future__ import annotations

import json
from typing import Any

from configs.model import SERVER, Host, KeyPath, Shim
from configs.render import toml_table, yaml_lines


def snippet(host: Host, shim: Shim) -> str:
    """The snippet for `host`, with a final line break."""
    entry = host.entry(shim)
    if host.format == "toml":
        return toml_table((*host.key_path, SERVER), entry) + "\n"
    whole = _nested(host.key_path, [entry]) if host.listed else _nested((*host.key_path, SERVER), entry)
    if host.format == "yaml":
        return "\n".join(line for key, value in whole.items() for line in yaml_lines(key, value)) + "\n"
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _nested(path: KeyPath, value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    nested: dict[str, Any] = value
    return nested
