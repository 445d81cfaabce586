"""What the ledger says that we wrote, and is not so any more: lost, changed, switched off, or gone with its file.

Not here: who puts a lost entry back (`watch`), how that is done (`connect`). Above: `watch`, the command line.
Invariant: nothing is written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.detect import Place, detected, read, server_path
from configs.document import EditRefused, Glance, Rules
from configs.entries import command_of, entry_of, merged, off_where, starts_shim_of
from configs.hosts import find_host
from configs.ledger import Entry, Ledger
from configs.model import Host, UnknownHost
from configs.outcome import where

Kind = Literal["lost", "changed", "disabled", "missing_file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One thing that is no longer as it was written. `path` is the real file; `hook` says that it is a wake hook."""

    host: Host
    path: Path
    kind: Kind
    sentence: str
    fix: str
    hook: bool = False


def drift(place: Place) -> list[Drift]:
    """What the ledger says was written and is not so now.

    What a host was allowed is left out: a person who takes a permission back has decided so.
    """
    entries = [entry for entry in Ledger(place.home).entries() if entry.kind != "consent"]
    return [found for entry in entries if (found := _drifted(place, entry)) is not None]


def watched(place: Place) -> list[Path]:
    """The real files with something of ours in them, by the ledger."""
    return sorted({entry.file for entry in Ledger(place.home).entries() if entry.kind != "consent"})


def _drifted(place: Place, entry: Entry) -> Drift | None:
    try:
        host = find_host(entry.host)
    except UnknownHost:
        return None
    path = Path(os.path.realpath(entry.named))
    is_hook = entry.kind == "hook"

    def found(kind: Kind, sentence: str, fix: str = "") -> Drift:
        again = f"parler connect {host.id}" + (" --wake" if is_hook else "")
        return Drift(host=host, path=path, kind=kind, sentence=sentence, fix=fix or again, hook=is_hook)

    data = read(path)
    if data is None:
        gone = "" if detected(place, host) else f"parler connect --remove {host.id}"
        return found("missing_file", f"{entry.named}, in which {host.name} was connected, is gone.", gone)
    file = Glance(data, Rules.loose(path) if is_hook else Rules.of(host))
    try:
        if is_hook:
            values = file.at(entry.path)
            is_there = isinstance(values, list) and entry.value in values
            return None if is_there else found("lost", f"{entry.named} has lost Parler's hook.")
        keys = entry.path
        value = file.at(keys)
        if value is None:
            # A host that moves its servers into another table takes ours along.
            keys = server_path(file, host)
            value = file.at(keys)
    except EditRefused as error:
        return found(
            "changed",
            f"{entry.named} cannot be read: {where(error)}",
            f"correct it, then run: parler connect {host.id}",
        )
    if value is None:
        return found("lost", f"{entry.named} has lost Parler's entry.")
    if not starts_shim_of(value, place):
        return found(
            "changed",
            f"The entry named parler in {entry.named} no longer starts this Parler.",
            f"parler connect {host.id} --replace",
        )
    if merged(value, entry.value, entry_of(place, host, keys), command_of(place, host)) != value:
        return found("changed", f"Parler's entry in {entry.named} is not what this version would write.")
    if (off := off_where(host, file, value)) is not None:
        return found(
            "disabled", f"Parler is switched off in {host.name}{off}.", f"To use it there, switch it on in {host.name}."
        )
    return None
