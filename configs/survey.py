"""Which hosts are here, and which have our entry: what `parler connect --list` and `parler doctor` say of each file.

Not here: what the ledger says and is not so any more (`drift`). Above: the command line, `consent`. Invariant: nothing
is written and no program is started.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.detect import Place, detected, files, plugin, read, server_path, targets
from configs.document import EditRefused, Glance, Rules
from configs.entries import command_of, entry_of, merged, off_where, starts_parler, starts_shim_of
from configs.ledger import Ledger
from configs.model import Host
from configs.outcome import Outcome, where

_Recorded = Mapping[tuple[str, Path], Any]
"""What the ledger says that we wrote, by the id of the host and the real file."""


def survey(place: Place, hosts: Sequence[Host]) -> list[Outcome]:
    """What is here and what is connected, one outcome a file."""
    recorded = {(each.host, each.file): each.value for each in Ledger(place.home).entries("entry")}
    return [outcome for host in hosts for outcome in _look(place, host, recorded)]


def hindrance(place: Place, host: Host) -> str | None:
    """What keeps the program of this host from starting the Parler of this home, as one or two sentences; None where
    nothing that its settings say does."""
    if plugin(place, host) is not None:
        return None
    found = f"{host.name} is not connected to this home's Parler."
    for path in targets(place, host):
        file = Glance(read(path) or b"", Rules.of(host))
        try:
            entry = file.at(server_path(file, host)) if file.data.strip() else None
        except EditRefused as error:
            found = f"{host.name} cannot read its own settings: {where(error)}"
            continue
        if entry is None or not starts_parler(entry):
            continue
        if not starts_shim_of(entry, place):
            found = f"{host.name} is connected to the Parler of another home."
        elif (off := off_where(host, file, entry)) is not None:
            found = f"Parler is switched off in {host.name}{off}."
        else:
            return None
    return found


def _look(place: Place, host: Host, recorded: _Recorded) -> Iterator[Outcome]:
    if not detected(place, host):
        yield Outcome(host=host, detected=False, path=files(place, host)[0], status="not_detected")
        return
    if (name := plugin(place, host)) is not None:
        yield Outcome(host=host, detected=True, path=None, status="connected", reason=f"As the plugin {name}.")
        for path in targets(place, host):
            if _state(place, host, path, recorded)[0] in ("connected", "changed"):
                reason = f"Beside the plugin {name}, which starts the same: {host.name} then has Parler twice."
                yield Outcome(host=host, detected=True, path=path, status="changed", reason=reason)
        return
    for path in targets(place, host):
        status, reason, notes = _state(place, host, path, recorded)
        yield Outcome(host=host, detected=True, path=path, status=status, reason=reason, notes=notes)


def _state(place: Place, host: Host, path: Path, recorded: _Recorded) -> tuple[str, str, tuple[str, ...]]:
    data = read(path)
    if data is None:
        return "not_connected", "", ()
    file = Glance(data, Rules.of(host))
    try:
        keys = server_path(file, host)
        entry = file.at(keys)
    except EditRefused as error:
        return "not_connected", where(error), ()
    if entry is None:
        return "not_connected", "", ()
    if not starts_parler(entry):
        return "not_connected", "The entry named parler there starts something else.", ()
    if not starts_shim_of(entry, place):
        return "changed", "The entry starts the Parler of another home.", ()
    base = recorded.get((host.id, Path(os.path.realpath(path))))
    if merged(entry, base, entry_of(place, host, keys), command_of(place, host)) != entry:
        return "changed", "The entry is not what this Parler would write.", ()
    off = off_where(host, file, entry)
    return "connected", "", (f"Connected, and switched off in {host.name}{off}.",) if off is not None else ()
