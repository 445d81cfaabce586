"""Values as TOML and YAML text: what an edit inserts, and what a person is given to paste.

Pure, and light enough for a one-shot command. Not here: where the text goes (`toml`, `yaml`, `snippet`). Invariant:
what is written here reads back, by the rules of the language, to the value that was given.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from configs.model import KeyPath

_BARE_ONLY: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON leaves bare in a string, and TOML or YAML does not take there or takes for the end of a line."""
_TOML_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_YAML_KEY: Final = re.compile(r"(?!(?i:null|true|false|y|n|yes|no|on|off)\Z)[A-Za-z][A-Za-z0-9_-]*")


def scalar(value: Any) -> str:
    """A string, number, truth or list as JSON that TOML and YAML read as the same."""
    # Escapes above U+FFFF would be surrogate pairs, which TOML and YAML refuse.
    return _BARE_ONLY.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


def toml_key(path: KeyPath) -> str:
    """A dotted key."""
    return ".".join(key if _TOML_KEY.fullmatch(key) else scalar(key) for key in path)


def toml_inline(value: Any) -> str:
    """Any value on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(toml_pair((key,), each) for key, each in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_inline, value)) + "]"
    return scalar(value)


def toml_pair(path: KeyPath, value: Any) -> str:
    """A key and its value on one line."""
    return f"{toml_key(path)} = {toml_inline(value)}"


def toml_table(path: KeyPath, value: dict[str, Any], end: str = "\n") -> str:
    """A table and, after it, those in it, as Codex writes them itself; no line break at the end."""
    own = [toml_pair((key,), each) for key, each in value.items() if not isinstance(each, dict)]
    inner = [toml_table((*path, key), each, end) for key, each in value.items() if isinstance(each, dict)]
    return (end * 2).join([end.join([f"[{toml_key(path)}]", *own]), *inner])


def yaml_key(key: str) -> str:
    """A key, quoted where YAML of any age could take it for something else than text."""
    return key if _YAML_KEY.fullmatch(key) else scalar(key)


def yaml_lines(key: str, value: Any, column: int = 0, unit: int = 2) -> list[str]:
    """A key and its value as lines: tables, and lists of them, on their own; all else as JSON, which YAML reads as it
    is."""
    if isinstance(value, dict) and value:
        lines = [line for name, each in value.items() for line in yaml_lines(name, each, column + unit, unit)]
        return [f"{' ' * column}{yaml_key(key)}:", *lines]
    if isinstance(value, list) and value and all(isinstance(each, dict) and each for each in value):
        items = [line for each in value for line in yaml_item(each, column + unit, unit)]
        return [f"{' ' * column}{yaml_key(key)}:", *items]
    return [f"{' ' * column}{yaml_key(key)}: {scalar(value)}"]


def yaml_item(value: dict[str, Any], column: int, unit: int = 2) -> list[str]:
    """A table, not empty, as one element of a list whose dashes stand in `column`."""
    first, *others = [line for name, each in value.items() for line in yaml_lines(name, each, column + 2, unit)]
    return [f"{' ' * column}- {first[column + 2 :]}", *others]
