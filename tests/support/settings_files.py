"""Settings files and the ledger in one step each: what tests of single edits and of what was written need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.document import Document, Rules
from configs.ledger import Entry, Kind, Ledger
from configs.model import KeyPath


def entry_at(data: bytes, rules: Rules, path: KeyPath) -> Any | None:
    return Document.read(data, rules).at(path)


def created_depth(data: bytes, rules: Rules, path: KeyPath) -> int:
    return Document.read(data, rules).missing(path)


def put(data: bytes, rules: Rules, path: KeyPath, value: Any) -> bytes:
    return Document.read(data, rules).put(path, value).data


def take(data: bytes, rules: Rules, path: KeyPath, *, prune: int = 0) -> bytes:
    return Document.read(data, rules).take(path, prune=prune).data


def append(data: bytes, rules: Rules, path: KeyPath, value: Any) -> bytes:
    return Document.read(data, rules).append(path, value).data


def discard(data: bytes, rules: Rules, path: KeyPath, value: Any, *, prune: int = 0) -> bytes:
    return Document.read(data, rules).discard(path, value, prune=prune).data


def record(ledger: Ledger, kind: Kind, host: str, file: Path, path: KeyPath, value: Any, **more: Any) -> Entry:
    """Put an entry after what the ledger says of the same value, as whatever writes settings does; gives the entry."""
    entry = Entry(**{"named": file, **more}, kind=kind, host=host, file=file, path=path, value=value)
    entry = entry.after(ledger.find(*entry.key))
    ledger.put(entry)
    return entry
