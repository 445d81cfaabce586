"""Whether a host lets its model call our tools: what it does by default, and the setting that allows exactly those that
read and talk, put in and taken out again.

    Host.consent -> which file -> additions -> Outcome

Not here: our entry (`configs.connect`), hooks (`configs.hooks`), the person's yes before anything is written (the
command line). Above: the command line, tests. Invariants: nothing is added that was not asked for; what the person set
already stays, an answer of theirs for one of our tools among it, and is never taken out; `parler_approve` is never
among what is allowed, and no pattern is, which would take it in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal

from configs.additions import Added, Additions, add, failed, outcome, take_out, to_make
from configs.detect import Place, detected, plugin, read, targets
from configs.document import Document, EditRefused, Glance, Readable, Rules
from configs.guard import Untouched
from configs.ledger import Entry, Kind, Ledger
from configs.model import Consent, Host, KeyPath, first
from configs.outcome import Outcome
from configs.survey import survey

KIND: Final[Kind] = "consent"
"""The kind of our entries in the ledger. The value of an entry is the list of elements that we appended, or the value
that we put."""

Standing = Literal["allowed", "asks", "runs", "by_hand", "unknown"]
"""`asks`: the host asks or refuses. `runs`: it needs no setting. `by_hand`: it asks, and has no setting for every
folder. `unknown`: nobody has looked."""


def standing(place: Place, host: Host) -> Standing:
    """How things are in one host; reads its files and writes nothing."""
    consent = host.consent
    if consent is None:
        return "unknown"
    if not _settable(consent):
        return "runs" if not consent.asks else "by_hand"
    file = Glance(read(file_of(place, host, consent)) or b"", _rules(host, consent))
    if not consent.asks and not _own_rules_ask(file, consent):
        return "runs"
    return "allowed" if _is_covered(file, consent) else "asks"


def sentence(place: Place, host: Host) -> str:
    """What a person should know of a connected host; empty when nobody has looked at it."""
    consent = host.consent
    now = standing(place, host)
    if consent is None or now == "unknown":
        return ""
    if now == "allowed":
        return f"{host.name} may use the tools that read and talk without asking."
    if now == "by_hand":
        return f"{host.name} {consent.default}. {consent.by_hand}"
    if now == "runs":
        return f"{host.name} {consent.default}."
    default = consent.default if consent.asks else "asks before it uses Parler's tools, by your own rules"
    return f"{host.name} {default}. To allow those that read and talk: parler connect {host.id} --allow"


def allow(place: Place, hosts: Sequence[Host], *, dry_run: bool = False) -> Iterator[Outcome]:
    """Let each host that is here use `MESSAGING` without asking; one outcome a host.

    Statuses: added, updated (some were there), unchanged, skipped (there is nothing to set, or no setting), failed.
    """
    for host in hosts:
        if not detected(place, host):
            continue
        consent = host.consent
        name = plugin(place, host)
        if consent is None:
            yield _skipped(host, f"Nobody has looked at what {host.name} does before it uses a tool.")
        elif name is not None:
            yield _skipped(host, f"As the plugin {name} its tools have other names: allow them in {host.name}.")
        elif not _settable(consent):
            yield _skipped(host, f"{host.name} {consent.default}.", consent.by_hand)
        elif standing(place, host) == "runs":
            yield _skipped(host, f"{host.name} {consent.default}.")
        elif not dry_run and not _is_connected(place, host):
            # In some hosts the setting stands inside our entry, and a host does not start with an entry that has
            # nothing but a setting.
            yield _skipped(host, f"{host.name} is not connected.", f"parler connect {host.id} --allow")
        else:
            path = file_of(place, host, consent)
            try:
                yield _put(place, host, consent, path, dry_run=dry_run)
            except (Untouched, EditRefused) as error:
                yield _failed(host, path, error)


def disallow(place: Place, hosts: Sequence[Host], *, dry_run: bool = False) -> Iterator[Outcome]:
    """Take out what `allow` put in; one outcome for each file that held something of ours.

    Statuses: removed, unchanged (it was gone already), failed.
    """
    ledger = Ledger(place.home)
    for host in hosts:
        for path, mine in ledger.by_file(KIND, host.id).items():
            try:
                yield _take(place, host, path, mine, dry_run=dry_run)
            except (Untouched, EditRefused) as error:
                yield _failed(host, path, error)


def file_of(place: Place, host: Host, consent: Consent) -> Path:
    """The settings file that the host itself would read."""
    return first(consent.files, place.env) or targets(place, host)[0]


def _is_connected(place: Place, host: Host) -> bool:
    return any(outcome.status in ("connected", "changed") for outcome in survey(place, [host]))


def _settable(consent: Consent) -> bool:
    return bool(consent.put or consent.appended)


def _rules(host: Host, consent: Consent) -> Rules:
    if consent.format is None:
        return Rules.of(host)
    return Rules(format=consent.format, comments=consent.format != "json", trailing_commas=False, bom=True)


# -- how things are ------------------------------------------------------------------------------------------------


def _at(file: Readable, path: KeyPath) -> Any:
    """The value at a path; None when it is not there, or the file cannot be read by its host."""
    if not file.data.strip():
        return None
    try:
        return file.at(path)
    except EditRefused:
        return None


def _is_covered(file: Readable, consent: Consent) -> bool:
    """Whether the file allows every one of the tools, by our setting or by one of the person's."""
    for path, value in consent.covers:
        found = _at(file, path)
        if found == value or (isinstance(found, list) and value in found):
            return True
    for path, values in consent.appended:
        found = _at(file, path)
        if not isinstance(found, list) or any(value not in found for value in values):
            return False
    return all(_at(file, path) == value for path, value in consent.put)


def _own_rules_ask(file: Readable, consent: Consent) -> bool:
    """Whether the person's own rules make a host ask that runs tools by default, or did before ours were added.

    They are one word for everything, or patterns with a word each, of which the last that fits counts.
    """
    ours = dict(consent.put)
    table = {path[:-1] for path in ours}
    for parent in table:
        found = _at(file, parent)
        if isinstance(found, str):
            return found != "allow"
        if not isinstance(found, dict):
            continue
        theirs = {name: word for name, word in found.items() if (*parent, name) not in ours or word != "allow"}
        if any(_decided(theirs, path[-1]) not in ("", "allow") for path in ours):
            return True
    return False


def _decided(rules: Mapping[str, Any], tool: str) -> str:
    word = ""
    for pattern, value in rules.items():
        if fnmatchcase(tool, pattern):
            word = value if isinstance(value, str) else "ask"
    return word


# -- putting in, and taking out ------------------------------------------------------------------------------------


def _put(place: Place, host: Host, consent: Consent, path: Path, *, dry_run: bool) -> Outcome:
    known = {entry.path: entry for entry in Ledger(place.home).by_file(KIND, host.id).get(path, ())}

    def edit(file: Document) -> tuple[Document, Additions]:
        added, stays = [], []
        for at, value in consent.put:
            found = file.at(at)
            if found is None:
                added.append(Added(at, value, file.missing(at)))
                file = file.put(at, value)
            elif found != value:
                stays.append(at[-1])
        for at, values in consent.appended:
            found, made = file.at(at), to_make(file, at)
            missing = [value for value in values if not (isinstance(found, list) and value in found)]
            for value in missing:
                file = file.append(at, value)
            if missing:
                # One entry of the ledger has all elements of a list that are ours, those of an earlier run first.
                old = known.get(at)
                ours = [*old.value, *missing] if old is not None and isinstance(old.value, list) else missing
                added.append(Added(at, ours, made))
        return file, Additions(tuple(added), tuple(stays))

    written = add(place, host, path, edit, kind=KIND, rules=_rules(host, consent), dry_run=dry_run)
    status = "unchanged" if not written.changed else "updated" if known else "added"
    notes = written.notes
    if written.about.stays:
        notes = (*notes, f"Your own answer stays for: {', '.join(written.about.stays)}.")
    return outcome(host, written, status, notes, dry_run=dry_run)


def _take(place: Place, host: Host, path: Path, mine: Sequence[Entry], *, dry_run: bool) -> Outcome:
    def undo(file: Document, entry: Entry) -> Document:
        if isinstance(entry.value, list):
            for value in reversed(entry.value):
                file = file.discard(entry.path, value, prune=entry.prune)
        elif file.at(entry.path) == entry.value:
            file = file.take(entry.path, prune=entry.prune)
        return file

    consent = host.consent
    assert consent is not None, "the ledger has only what a host's own file said"
    return take_out(place, host, path, mine, undo, rules=_rules(host, consent), dry_run=dry_run)


# -- telling -------------------------------------------------------------------------------------------------------


def _skipped(host: Host, reason: str, hint: str = "") -> Outcome:
    return Outcome(host=host, detected=True, path=None, status="skipped", reason=reason, hint=hint)


def _failed(host: Host, path: Path, error: Untouched | EditRefused) -> Outcome:
    return failed(host, path, error, option="--allow", kept=f"What {host.name} may use is as it was.")
