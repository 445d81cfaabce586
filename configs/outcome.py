"""What is told of one settings file of one host: how it is, what was done, or why it was left as it was.

Not here: what is done (`connect`, `remove`, `additions`) and how an outcome is shown (the command line). Above: those,
`survey`. Invariant: no sentence has anything in it of what stands beside ours in a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.detect import Place
from configs.document import EditRefused
from configs.entries import shim_of
from configs.guard import Untouched, refuse_foreign_home, refuse_unsafe
from configs.ledger import Ledger
from configs.model import Host
from configs.snippet import snippet
from parlerd.core.errors import ParlerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is so, or was done, in one file of one host. `path` is the file as its host names it.

    Statuses: of `survey` connected, not_connected, not_detected, changed; of what puts in added, updated, unchanged,
    skipped, failed; of what takes out removed, unchanged, failed. `snippet` is there when the person has to do it by
    hand.
    """

    host: Host
    detected: bool
    path: Path | None
    status: str
    reason: str = ""
    hint: str = ""
    snippet: str = ""
    backup: Path | None = None
    diff: str = ""
    notes: tuple[str, ...] = ()


def paste(place: Place, host: Host) -> str:
    """The entry for a person to paste."""
    return snippet(host, shim_of(place, host))


def refuse(place: Place, *, programs: bool) -> None:
    """Raise `ParlerError(foreign_home)` when HOME is somebody else's, and with `programs` `unsafe_program` when other
    users could change what the entries start."""
    try:
        refuse_foreign_home(place)
    except Untouched as error:
        raise ParlerError("foreign_home", str(error), hint=f"{error.hint}.", path=str(error.path)) from error
    if programs:
        try:
            refuse_unsafe(Path(place.python))
            refuse_unsafe(place.home.shim)
        except Untouched as error:
            sentence = f"{error} Every agent host would start it."
            raise ParlerError("unsafe_program", sentence, hint=f"{error.hint}", path=str(error.path)) from error


def failed(place: Place, host: Host, path: Path, error: Untouched | EditRefused | ParlerError) -> Outcome:
    """The outcome for a file that our entry could not be put into, with the snippet where pasting it would help."""
    if isinstance(error, ParlerError):
        return Outcome(host=host, detected=True, path=path, status="failed", reason=error.message, hint=error.hint)
    if isinstance(error, Untouched):
        reason, hint = str(error), f"{error.hint}." if error.hint else ""
    else:
        reason, hint = f"{path} was left as it is. {where(error)}", "Correct it, then run this again."
    return Outcome(
        host=host,
        detected=True,
        path=path,
        status="failed",
        reason=reason,
        hint=hint,
        snippet=paste(place, host),
    )


def where(error: EditRefused) -> str:
    """The sentence of a refusal with its place in the file."""
    sentence = f"{str(error).rstrip('.')}."
    if error.line is None or f"line {error.line}" in sentence.lower():
        return sentence
    column = "" if error.column is None else f", column {error.column}"
    return f"{sentence} Line {error.line}{column}."


def with_a_word_on_the_ledger(place: Place, outcomes: Iterator[Outcome], *, dry_run: bool) -> Iterator[Outcome]:
    """The same outcomes; the first of a host that is here also says when the ledger cannot be read."""
    ledger = Ledger(place.home)
    note: tuple[str, ...] = ()
    if ledger.damaged():
        then = "it is left as it is" if dry_run else "it is put aside beside its place, and a new one begun"
        note = (f"{ledger.file}, which says what was written where, cannot be read; {then}.",)
    for outcome in outcomes:
        yield dataclasses.replace(outcome, notes=(*note, *outcome.notes)) if note and outcome.detected else outcome
        note = () if outcome.detected else note
