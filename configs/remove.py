"""Our entry out of the settings of agent hosts again.

Not here: how it got in (`connect`), hooks and permissions, which are taken out before it (`hooks`, `consent`). Above:
the command line. Invariants: what is taken out is ours; a file that nobody else changed since is then byte for byte
what it was; one host that fails does not stop the others.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from configs import leftovers
from configs.detect import Place, detected, files, server_path
from configs.disk import DISK
from configs.document import MAX_BYTES, Document, EditRefused, Rules
from configs.entries import starts_parler, starts_shim_of
from configs.guard import Untouched
from configs.ledger import Entry, Ledger
from configs.model import SERVER, Host
from configs.outcome import Outcome, failed, refuse, with_a_word_on_the_ledger
from configs.patch import Edited, Written, difference, digest, remove_folders, rewrite
from parlerd.core.errors import ParlerError

_EMPTY: Final = frozenset({b"", b"{}"})
"""What is left of a file that held nothing but ours."""


def remove(place: Place, hosts: Sequence[Host], *, dry_run: bool = False) -> Iterator[Outcome]:
    """Take out what `connect` put in, one outcome a file; `unchanged` where there is nothing of ours.

    Raises `ParlerError(foreign_home)` before anything is written.
    """
    refuse(place, programs=False)
    return with_a_word_on_the_ledger(place, _removing(place, hosts, dry_run), dry_run=dry_run)


def _removing(place: Place, hosts: Sequence[Host], dry_run: bool) -> Iterator[Outcome]:
    for host in hosts:
        known = {entry.file: entry for entry in Ledger(place.home).entries("entry", host.id)}
        # Where a link leads elsewhere now, our entry is still in the file that it led to.
        named = {file: each.named if _real(each.named) == file else file for file, each in known.items()}
        for path in files(place, host):
            if os.path.lexists(path):
                named.setdefault(_real(path), path)
        is_here = detected(place, host)
        outcomes = [_Unwiring(place, host, path, dry_run=dry_run).run() for path in named.values()]
        if not outcomes:
            yield Outcome(host=host, detected=is_here, path=files(place, host)[0], status="unchanged")
        # Of several files only those that had something to say; one line when there was nothing in any.
        told = [each for each in outcomes if each.status != "unchanged" or each.reason] or outcomes[:1]
        yield from (dataclasses.replace(each, detected=is_here) for each in told)
        yield from _left_over(place, host, dry_run=dry_run)


def _left_over(place: Place, host: Host, *, dry_run: bool) -> Iterator[Outcome]:
    """Take out the entries for one folder alone that start this Parler; an outcome for the file if there are any."""
    ours = [each for each in leftovers.leftovers(place, [host]) if not each.problem]
    for path in dict.fromkeys(each.file for each in ours):
        folders = ", ".join(each.folder for each in ours if each.file == path)

        def edit(data: bytes, path: Path = path) -> Edited[None]:
            return Edited(leftovers.without(data, place, host, path), None)

        try:
            written = rewrite(path, edit, place=place, host_id=host.id, mode=host.mode, dry_run=dry_run)
        except (Untouched, EditRefused) as error:
            yield dataclasses.replace(failed(place, host, path, error), snippet="")
            continue
        yield _outcome(host, path, written, f"The entry for {folders} alone.", dry_run=dry_run)


@dataclass(frozen=True, slots=True)
class _Found:
    """What one edit found. `known` is what the ledger says of the file; `reason` says why an entry stays."""

    known: Entry | None
    reason: str = ""


class _Unwiring:
    """Our entry out of one file. `rewrite` calls `_edit` for each content that it meets in the file."""

    def __init__(self, place: Place, host: Host, path: Path, *, dry_run: bool) -> None:
        self._place = place
        self._host = host
        self._path = path
        self._ledger = Ledger(place.home)
        self._dry_run = dry_run

    def run(self) -> Outcome:
        host = self._host
        try:
            written = rewrite(
                self._path, self._edit, place=self._place, host_id=host.id, mode=host.mode, dry_run=self._dry_run
            )
            known = written.about.known
            if known is not None and not self._dry_run:
                if written.erased or written.before is None:
                    remove_folders(known.folders)
                # The ledger comes after the file: a program that dies in between leaves an entry too much in the
                # ledger, which does no harm.
                self._ledger.forget(known)
        except (Untouched, EditRefused, ParlerError) as error:
            return dataclasses.replace(failed(self._place, host, self._path, error), snippet="")
        return _outcome(host, self._path, written, written.about.reason, dry_run=self._dry_run)

    def _edit(self, data: bytes) -> Edited[_Found]:
        known = self._ledger.entry_in(self._host.id, self._path)
        if known is not None and known.written and known.written == digest(data):
            if known.created and not known.original:
                return Edited(None, _Found(known))
            if (original := _original(known)) is not None:
                return Edited(original, _Found(known))
        if known is None and SERVER.encode() not in data:
            # There is nothing of ours, whether the host could read the file or not.
            return Edited(data, _Found(known))
        file = Document.read(data, Rules.of(self._host))
        keys = server_path(file, self._host) if known is None else known.path
        entry = file.at(keys)
        if entry is None and known is not None:
            # A host that moves its servers into another table takes ours along.
            keys = server_path(file, self._host)
            entry = file.at(keys)
        if entry is None:
            return Edited(data, _Found(known))
        if not starts_shim_of(entry, self._place) and (known is None or entry != known.value):
            if known is not None:
                raise Untouched(
                    "not_ours",
                    self._path,
                    f"The entry named parler in {self._path} was changed and no longer starts this Parler.",
                    "Take it out by hand if it is not wanted",
                )
            other = "The entry there starts the Parler of another home; --home says which is meant."
            return Edited(data, _Found(known, other if starts_parler(entry) else ""))
        after = file.take(keys, prune=known.prune if known is not None else 0).data
        is_left = known is None or not known.created or after.strip() not in _EMPTY
        return Edited(after if is_left else None, _Found(known))


def _original(known: Entry) -> bytes | None:
    """The bytes that the file had before us, when the backup still has them."""
    if known.backup is None or not known.original:
        return None
    try:
        found = DISK.read(known.backup, MAX_BYTES)
    except OSError:
        return None
    return found.data if found is not None and digest(found.data) == known.original else None


def _outcome(host: Host, path: Path, written: Written[Any], reason: str, *, dry_run: bool) -> Outcome:
    return Outcome(
        host=host,
        detected=True,
        path=path,
        status="removed" if written.changed else "unchanged",
        reason=reason,
        backup=written.backup,
        diff=difference(written) if dry_run else "",
        notes=written.notes if written.changed else (),
    )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
