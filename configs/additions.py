"""Values that we add to a settings file beside our entry: put in, remembered one by one, and taken out again.

    hooks, consent -> add(edit) -> patch.rewrite -> ledger      and back again: take_out(undo)

Hooks and permissions are both such values, and differ in what is written and where. Not here: our entry (`connect`,
`remove`). Below: `patch`, `ledger`. Invariant: a value is in the ledger before it is in the file, because a value that
we wrote and do not know of could never be taken out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from configs.detect import Place
from configs.document import Document, EditRefused, Rules
from configs.guard import Untouched
from configs.ledger import Entry, Kind, Ledger
from configs.model import Host, KeyPath
from configs.outcome import Outcome
from configs.patch import Edited, Written, difference, remove_folders, rewrite

MODE: Final = 0o600
"""Of a settings file that we create: hosts keep keys in theirs."""


@dataclass(frozen=True, slots=True)
class Added:
    """One value that an edit added. `made` is how many tables and lists the edit made for it."""

    path: KeyPath
    value: Any
    made: int


@dataclass(frozen=True, slots=True)
class Additions:
    """What one edit added, and the keys at which an answer of the person `stays`."""

    added: tuple[Added, ...]
    stays: tuple[str, ...] = ()


def add(
    place: Place,
    host: Host,
    path: Path,
    edit: Callable[[Document], tuple[Document, Additions]],
    *,
    kind: Kind,
    rules: Rules,
    dry_run: bool,
) -> Written[Additions]:
    """Change a file by `edit`, and remember each value that it added. Raises `Untouched` and `EditRefused`."""
    ledger = Ledger(place.home)

    def edited(data: bytes) -> Edited[Additions]:
        file, additions = edit(Document.read(data, rules))
        return Edited(file.data, additions)

    def remember(written: Written[Additions]) -> None:
        entries = [
            Entry(
                kind=kind,
                host=host.id,
                file=written.path,
                named=path,
                path=each.path,
                value=each.value,
                created=written.created,
                folders=written.folders,
                prune=each.made,
            )
            for each in written.about.added
        ]
        ledger.put(*(entry.after(ledger.find(*entry.key)) for entry in entries))

    return rewrite(path, edited, place=place, host_id=host.id, mode=MODE, dry_run=dry_run, about_to=remember)


def take_out(
    place: Place,
    host: Host,
    path: Path,
    mine: Sequence[Entry],
    undo: Callable[[Document, Entry], Document],
    *,
    rules: Rules,
    beside: Iterable[KeyPath] = (),
    dry_run: bool,
) -> Outcome:
    """Take these values out of a file by `undo`, the last one first, and forget them.

    A file that we created goes as a whole when nothing is left in it but what we wrote `beside`. Raises `Untouched` and
    `EditRefused`.
    """

    def edited(data: bytes) -> Edited[None]:
        file = Document.read(data, rules)
        for entry in reversed(mine):
            file = undo(file, entry)
        if mine[0].created and _holds_only(file, beside):
            return Edited(None, None)
        return Edited(file.data, None)

    written = rewrite(path, edited, place=place, host_id=host.id, mode=MODE, dry_run=dry_run)
    if not dry_run:
        Ledger(place.home).forget(*mine)
        if written.erased:
            remove_folders(mine[0].folders)
    return outcome(host, written, "removed" if written.changed else "unchanged", written.notes, dry_run=dry_run)


def to_make(file: Document, path: KeyPath) -> int:
    """How many tables and lists an element of the list at `path` needs that are not there: the list, and those around
    it."""
    return 0 if file.at(path) is not None else 1 + file.missing(path)


def outcome(host: Host, written: Written[Any], status: str, notes: tuple[str, ...], *, dry_run: bool) -> Outcome:
    """What became of one file."""
    return Outcome(
        host=host,
        detected=True,
        path=written.path,
        status=status,
        backup=written.backup,
        diff=difference(written) if dry_run else "",
        notes=notes,
    )


def failed(host: Host, path: Path, error: Untouched | EditRefused, *, option: str, kept: str) -> Outcome:
    """The outcome for a file that was left alone. `option` of `parler connect` is what was asked for, and the sentence
    `kept` says what did not change."""
    where = f" (line {error.line})" if isinstance(error, EditRefused) and error.line else ""
    hint = error.hint if isinstance(error, Untouched) else f"Mend it, then run: parler connect {host.id} {option}"
    return Outcome(host=host, detected=True, path=path, status="failed", reason=f"{error}{where} {kept}", hint=hint)


def _holds_only(file: Document, beside: Iterable[KeyPath]) -> bool:
    for path in beside:
        file = file.take(path)
    return file.at(()) == {}
