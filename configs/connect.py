"""Our entry in the settings of agent hosts: put in, looked at, taken out.

    detect -> which file -> patch.rewrite(edit by document) -> ledger -> Outcome

Not here: which hosts are here (`detect`), what bytes an edit gives (`document`), how a file is changed (`patch`), hooks
(`hooks`). Above: the command line, `hooks`, `watch`. Invariants: one host that fails does not stop the others; an entry
that is not ours is replaced only when that was asked for; what the person set in our entry stays, off among it; what
is taken out is ours, and a file that nobody else changed since is then byte for byte what it was.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from configs import document, leftovers, project
from configs.detect import Place, detected, files, glance, plugin, read, server_path, targets
from configs.disk import DISK
from configs.document import MAX_BYTES, EditRefused, Rules
from configs.entries import command_of, entry_of, merged, off_where, shim_of, starts_parler, starts_shim_of
from configs.guard import Untouched, refuse_foreign_home, refuse_unsafe
from configs.hosts import find_host
from configs.ledger import Entry, Ledger
from configs.model import SERVER, Host, UnknownHost
from configs.patch import Written, difference, digest, remove_folders, rewrite
from configs.snippet import snippet
from parlerd.core.errors import ParlerError

__all__ = ["Drift", "Outcome", "Place", "connect", "drift", "remove", "survey", "watched"]

DriftKind = Literal["lost", "changed", "disabled", "missing_file"]

_CHOICES: Final = ("disabled", "enabled")
_EMPTY: Final = frozenset({b"", b"{}"})
"""What is left of a file that held nothing but ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is so, or was done, in one file of one host. `path` is the file as its host names it.

    Statuses: of `survey` connected, not_connected, not_detected, changed; of `connect` added, updated, unchanged,
    skipped, failed; of `remove` removed, unchanged, failed. `snippet` is there when the person has to do it by hand.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One thing that is no longer as it was written. `path` is the real file; `hook` says that it is a wake hook."""

    host: Host
    path: Path
    kind: DriftKind
    sentence: str
    fix: str
    hook: bool = False


# -- looking -------------------------------------------------------------------------------------------------------


def survey(place: Place, hosts: Sequence[Host]) -> list[Outcome]:
    """What is here and what is connected; writes nothing and starts nothing."""
    known = _Known(place)
    return [outcome for host in hosts for outcome in _look(place, host, known)]


def drift(place: Place) -> list[Drift]:
    """What the ledger says was written and is not so now; writes nothing.

    What a host was allowed is left out: a person who takes that back has decided so.
    """
    entries = [entry for entry in Ledger(place.home).entries() if entry.kind != "consent"]
    return [found for entry in entries if (found := _drifted(place, entry)) is not None]


def watched(place: Place) -> list[Path]:
    """The real files with something of ours in them, by the ledger."""
    return sorted({entry.file for entry in Ledger(place.home).entries() if entry.kind != "consent"})


def _look(place: Place, host: Host, known: _Known) -> Iterator[Outcome]:
    if not detected(place, host):
        yield Outcome(host=host, detected=False, path=files(place, host)[0], status="not_detected")
        return
    if (name := plugin(place, host)) is not None:
        yield Outcome(host=host, detected=True, path=None, status="connected", reason=f"As the plugin {name}.")
        return
    for path in targets(place, host):
        status, reason, notes = _state(place, host, path, known)
        yield Outcome(host=host, detected=True, path=path, status=status, reason=reason, notes=notes)


def _state(place: Place, host: Host, path: Path, known: _Known) -> tuple[str, str, tuple[str, ...]]:
    data = read(path)
    if data is None:
        return "not_connected", "", ()
    try:
        keys = server_path(data, host)
        entry = glance(data, Rules.of(host), keys)
    except EditRefused as error:
        return "not_connected", _where(error), ()
    if entry is None:
        return "not_connected", "", ()
    if not starts_parler(entry):
        return "not_connected", "The entry named parler there starts something else.", ()
    if not starts_shim_of(entry, place):
        return "changed", "The entry starts the Parler of another home.", ()
    base = known.value(host, path)
    if merged(entry, base, entry_of(place, host, keys), command_of(place, host)) != entry:
        return "changed", "The entry is not what this Parler would write.", ()
    off = off_where(host, data, entry)
    return "connected", "", (f"Connected, and switched off in {host.name}{off}.",) if off is not None else ()


# -- connecting ----------------------------------------------------------------------------------------------------


def connect(
    place: Place, hosts: Sequence[Host], *, chosen: bool, dry_run: bool = False, replace: bool = False
) -> Iterator[Outcome]:
    """Put our entry into the settings of each host that is here, one outcome a file, as it happens.

    `chosen`: the person named these hosts, so one that is not here is a failure. `replace`: also put it in the place of
    an entry named parler that is not ours. Raises `ParlerError` `foreign_home` or `unsafe_program` before anything is
    written.
    """
    _refuse(place, programs=True)
    return _with_notes(place, _connecting(place, hosts, chosen, dry_run, replace), dry_run=dry_run)


def _connecting(place: Place, hosts: Sequence[Host], chosen: bool, dry_run: bool, replace: bool) -> Iterator[Outcome]:
    said = _of_the_project(place, hosts)
    for host in hosts:
        if not detected(place, host):
            yield _absent(place, host, chosen)
        elif (name := plugin(place, host)) is not None:
            reason = f"{host.name} has Parler as the plugin {name}; an entry beside it would start it twice."
            yield Outcome(
                host=host, detected=True, path=None, status="skipped", reason=reason, notes=said.pop(host.id, ())
            )
        else:
            for path in targets(place, host):
                outcome = _Wiring(place, host, path, dry_run=dry_run, replace=replace).run()
                yield dataclasses.replace(outcome, notes=(*outcome.notes, *said.pop(host.id, ())))


def _absent(place: Place, host: Host, chosen: bool) -> Outcome:
    path = files(place, host)[0]
    about = Outcome(host=host, detected=False, path=path, status="skipped", reason=f"{host.name} was not found here.")
    if not chosen:
        return about
    return dataclasses.replace(
        about,
        status="failed",
        hint=f"Install it or start it once; or paste the entry into {path} yourself.",
        snippet=_snippet(place, host),
    )


class _Wiring:
    """Our entry into one file. `_edit` may be called several times, on what is in the file then."""

    def __init__(self, place: Place, host: Host, path: Path, *, dry_run: bool, replace: bool) -> None:
        self._place = place
        self._host = host
        self._path = path
        self._dry_run = dry_run
        self._replace = replace
        self._ledger = Ledger(place.home)
        self._known: Entry | None = None
        self._is_recorded = False
        self._status = self._done = "unchanged"
        self._keys: tuple[str, ...] = ()
        self._ours: dict[str, Any] = {}
        self._prune = 0
        self._was_ours = False
        self._off: str | None = None

    def run(self) -> Outcome:
        try:
            written = rewrite(
                self._path,
                self._edit,
                place=self._place,
                host_id=self._host.id,
                mode=self._host.mode,
                dry_run=self._dry_run,
                about_to=self._record,
            )
            if not written.changed and not self._dry_run:
                self._adopt(written)
        except (Untouched, EditRefused, ParlerError) as error:
            if self._is_recorded:
                self._take_back()
            return _failed(self._place, self._host, self._path, error)
        notes = written.notes
        if self._off is not None:
            notes = (*notes, f"Connected, and switched off in {self._host.name}{self._off}: that was left as it is.")
        return Outcome(
            host=self._host,
            detected=True,
            path=self._path,
            # Not the last edit's word alone: that may have looked at what was written.
            status=self._done if written.changed and not self._dry_run else self._status,
            backup=written.backup,
            diff=difference(written) if self._dry_run else "",
            notes=notes,
        )

    def _edit(self, data: bytes) -> bytes:
        host, place = self._host, self._place
        if not self._is_recorded:
            # Here and not before: now nobody else is at work on this file.
            self._known = _recorded(self._ledger, host, self._path)
        rules = Rules.of(host)
        if not data.strip():
            for key, text in host.beside.items():
                data = document.put(data, rules, (key,), text)
        self._keys = server_path(data, host)
        found = document.entry_at(data, rules, self._keys)
        ours = self._ours = entry_of(place, host, self._keys)
        self._was_ours = found is not None and starts_parler(found)
        if found is None:
            value, self._status = ours, "added"
        elif self._was_ours and not self._replace:
            base = self._known.value if self._known is not None else None
            value, self._status = merged(found, base, ours, command_of(place, host)), "updated"
        elif self._replace:
            kept = {key: found[key] for key in _CHOICES if key in found} if isinstance(found, dict) else {}
            value, self._status = {**ours, **kept}, "updated"
        else:
            raise Untouched(
                "not_ours",
                self._path,
                f"{self._path} has an entry named parler that starts something else.",
                f"To put ours in its place: parler connect {host.id} --replace",
            )
        self._off = off_where(host, data, value)
        if found == value:
            self._status = "unchanged"
            return data
        self._prune = document.created_depth(data, rules, self._keys) if found is None else 0
        return document.put(data, rules, self._keys, value)

    def _record(self, written: Written) -> None:
        known = self._known
        before = digest(written.before or b"")
        as_we_left_it = known is not None and known.written != "" and known.written == before
        entry = self._new_entry(written)
        if as_we_left_it and known is not None:
            entry = dataclasses.replace(entry, backup=known.backup, original=known.original)
        elif self._was_ours:
            # The bytes before this had an entry of ours in them, or changes of others since: not what to go back to.
            entry = dataclasses.replace(entry, backup=(known and known.backup) or entry.backup, original="", written="")
        self._is_recorded = True
        self._done = self._status
        self._ledger.put(entry)

    def _new_entry(self, written: Written) -> Entry:
        known = self._known
        return Entry(
            kind="entry",
            host=self._host.id,
            file=written.path,
            named=self._path,
            path=self._keys,
            # Not what stands there: what of it is the person's must not be taken for ours the next time.
            value=self._ours,
            created=written.created or (known is not None and known.created),
            folders=(known.folders if known is not None else ()) or written.folders,
            prune=max(self._prune, known.prune if known is not None else 0),
            backup=written.backup,
            original="" if written.before is None else digest(written.before),
            written=digest(written.after),
        )

    def _adopt(self, written: Written) -> None:
        """An entry that stood there already is ours to take out, too."""
        if self._is_recorded:
            self._take_back()
        self._ledger.adopt(dataclasses.replace(self._new_entry(written), created=False, original="", written=""))

    def _take_back(self) -> None:
        """Nothing was written after all."""
        entry = Entry(
            kind="entry",
            host=self._host.id,
            file=_real(self._path),
            named=self._path,
            path=self._keys,
            value=None,
        )
        if self._known is not None:
            self._ledger.put(self._known)
        else:
            self._ledger.forget(entry)


# -- taking out ----------------------------------------------------------------------------------------------------


def remove(place: Place, hosts: Sequence[Host], *, dry_run: bool = False) -> Iterator[Outcome]:
    """Take out what `connect` put in, one outcome a file; `unchanged` where there is nothing of ours.

    Raises `ParlerError(foreign_home)` before anything is written.
    """
    _refuse(place, programs=False)
    return _with_notes(place, _removing(place, hosts, dry_run), dry_run=dry_run)


def _removing(place: Place, hosts: Sequence[Host], dry_run: bool) -> Iterator[Outcome]:
    for host in hosts:
        known = {entry.file: entry for entry in Ledger(place.home).entries("entry", host.id)}
        # A link that leads elsewhere now did not take the file along.
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
        try:
            written = rewrite(
                path,
                partial(leftovers.without, place=place, host=host, file=path),
                place=place,
                host_id=host.id,
                mode=host.mode,
                dry_run=dry_run,
            )
        except (Untouched, EditRefused) as error:
            yield dataclasses.replace(_failed(place, host, path, error), snippet="")
            continue
        yield Outcome(
            host=host,
            detected=True,
            path=path,
            status="removed" if written.changed else "unchanged",
            reason=f"The entry for {folders} alone.",
            backup=written.backup,
            diff=difference(written) if dry_run else "",
            notes=written.notes if written.changed else (),
        )


class _Unwiring:
    """Our entry out of one file. `_edit` may be called several times, on what is in the file then."""

    def __init__(self, place: Place, host: Host, path: Path, *, dry_run: bool) -> None:
        self._place = place
        self._host = host
        self._path = path
        self._ledger = Ledger(place.home)
        self._known: Entry | None = None
        self._dry_run = dry_run
        self._reason = ""

    def run(self) -> Outcome:
        try:
            written = rewrite(
                self._path,
                self._edit,
                place=self._place,
                host_id=self._host.id,
                mode=self._host.mode,
                dry_run=self._dry_run,
            )
            if self._known is not None and not self._dry_run:
                if written.erased or written.before is None:
                    remove_folders(self._known.folders)
                # After the file: a program that dies in between leaves too much in the ledger, which does no harm.
                self._ledger.forget(self._known)
        except (Untouched, EditRefused, ParlerError) as error:
            return dataclasses.replace(_failed(self._place, self._host, self._path, error), snippet="")
        return Outcome(
            host=self._host,
            detected=True,
            path=self._path,
            status="removed" if written.changed else "unchanged",
            reason=self._reason,
            backup=written.backup,
            diff=difference(written) if self._dry_run else "",
            notes=written.notes if written.changed else (),
        )

    def _edit(self, data: bytes) -> bytes | None:
        known = self._known = _recorded(self._ledger, self._host, self._path)
        self._reason = ""
        if known is not None and known.written and known.written == digest(data):
            if known.created and not known.original:
                return None
            if (original := _original(known)) is not None:
                return original
        if known is None and SERVER.encode() not in data:
            return data  # nothing of ours, whether its host could read it or not
        rules = Rules.of(self._host)
        keys = server_path(data, self._host) if known is None else known.path
        found = document.entry_at(data, rules, keys)
        if found is None and known is not None:
            # A host that moves its servers into another table takes ours along.
            keys = server_path(data, self._host)
            found = document.entry_at(data, rules, keys)
        if found is None:
            return data
        if not starts_shim_of(found, self._place) and (known is None or found != known.value):
            if known is None:
                if starts_parler(found):
                    self._reason = "The entry there starts the Parler of another home; --home says which is meant."
                return data
            raise Untouched(
                "not_ours",
                self._path,
                f"The entry named parler in {self._path} was changed and no longer starts this Parler.",
                "Take it out by hand if it is not wanted",
            )
        after = document.take(data, rules, keys, prune=known.prune if known is not None else 0)
        return None if known is not None and known.created and after.strip() in _EMPTY else after


def _original(known: Entry) -> bytes | None:
    """The bytes before us, when the backup still has them."""
    if known.backup is None or not known.original:
        return None
    try:
        found = DISK.read(known.backup, MAX_BYTES)
    except OSError:
        return None
    return found.data if found is not None and digest(found.data) == known.original else None


# -- what is no longer so ------------------------------------------------------------------------------------------


def _drifted(place: Place, entry: Entry) -> Drift | None:
    try:
        host = find_host(entry.host)
    except UnknownHost:
        return None
    path = _real(entry.named)
    what = "hook" if entry.kind == "hook" else "entry"

    def found(kind: DriftKind, sentence: str, fix: str = "") -> Drift:
        again = f"parler connect {host.id}" + (" --wake" if entry.kind == "hook" else "")
        return Drift(host=host, path=path, kind=kind, sentence=sentence, fix=fix or again, hook=entry.kind == "hook")

    data = read(path)
    if data is None:
        gone = "" if detected(place, host) else f"parler connect --remove {host.id}"
        return found("missing_file", f"{entry.named}, in which {host.name} was connected, is gone.", gone)
    try:
        if entry.kind == "hook":
            values = glance(data, _loose_rules(path), entry.path)
            is_there = isinstance(values, list) and entry.value in values
            return None if is_there else found("lost", f"{entry.named} has lost Parler's hook.")
        keys = entry.path
        value = glance(data, Rules.of(host), keys)
        if value is None:
            # A host that moves its servers into another table takes ours along.
            keys = server_path(data, host)
            value = glance(data, Rules.of(host), keys)
    except EditRefused as error:
        return found(
            "changed",
            f"{entry.named} cannot be read: {_where(error)}",
            f"correct it, then run: parler connect {host.id}",
        )
    if value is None:
        return found("lost", f"{entry.named} has lost Parler's {what}.")
    if not starts_shim_of(value, place):
        return found(
            "changed",
            f"The entry named parler in {entry.named} no longer starts this Parler.",
            f"parler connect {host.id} --replace",
        )
    if merged(value, entry.value, entry_of(place, host, keys), command_of(place, host)) != value:
        return found("changed", f"Parler's entry in {entry.named} is not what this version would write.")
    if (off := off_where(host, data, value)) is not None:
        return found(
            "disabled", f"Parler is switched off in {host.name}{off}.", f"To use it there, switch it on in {host.name}."
        )
    return None


def _loose_rules(path: Path) -> Rules:
    """For reading alone: whatever its host makes of the file, the hooks are where they are."""
    format_: Literal["toml", "yaml", "jsonc"] = (
        "toml" if path.suffix == ".toml" else "yaml" if path.suffix in (".yaml", ".yml") else "jsonc"
    )
    return Rules(format=format_, comments=True, trailing_commas=True, bom=True)


# -- entries -------------------------------------------------------------------------------------------------------


class _Known:
    """The ledger, read once."""

    def __init__(self, place: Place) -> None:
        entries = Ledger(place.home).entries("entry")
        self._values = {(entry.host, entry.file): entry.value for entry in entries}

    def value(self, host: Host, path: Path) -> Any:
        return self._values.get((host.id, _real(path)))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _recorded(ledger: Ledger, host: Host, path: Path) -> Entry | None:
    real = _real(path)
    return next((entry for entry in ledger.entries("entry", host.id) if entry.file == real), None)


def _snippet(place: Place, host: Host) -> str:
    return snippet(host, shim_of(place, host))


# -- telling -------------------------------------------------------------------------------------------------------


def _refuse(place: Place, *, programs: bool) -> None:
    try:
        refuse_foreign_home(place)
    except Untouched as error:
        raise ParlerError("foreign_home", str(error), hint=f"{error.hint}.", path=str(error.path)) from error
    if programs:
        try:
            refuse_unsafe(place, Path(place.python))
            refuse_unsafe(place, place.home.shim)
        except Untouched as error:
            sentence = f"{error} Every agent host would start it."
            raise ParlerError("unsafe_program", sentence, hint=f"{error.hint}", path=str(error.path)) from error


def _failed(place: Place, host: Host, path: Path, error: Untouched | EditRefused | ParlerError) -> Outcome:
    if isinstance(error, ParlerError):
        return Outcome(host=host, detected=True, path=path, status="failed", reason=error.message, hint=error.hint)
    if isinstance(error, Untouched):
        reason, hint = str(error), f"{error.hint}." if error.hint else ""
    else:
        reason, hint = f"{path} was left as it is. {_where(error)}", "Correct it, then run this again."
    return Outcome(
        host=host,
        detected=True,
        path=path,
        status="failed",
        reason=reason,
        hint=hint,
        snippet=_snippet(place, host),
    )


def _where(error: EditRefused) -> str:
    """The sentence of a refusal with its place in the file."""
    sentence = f"{str(error).rstrip('.')}."
    if error.line is None or f"line {error.line}" in sentence.lower():
        return sentence
    column = "" if error.column is None else f", column {error.column}"
    return f"{sentence} Line {error.line}{column}."


def _of_the_project(place: Place, hosts: Sequence[Host]) -> dict[str, tuple[str, ...]]:
    """What a repository around the working directory says in our name, by the host that reads it."""
    try:
        here = Path.cwd()
    except OSError:
        return {}  # removed under us
    said: dict[str, tuple[str, ...]] = {}
    here_now = [host for host in hosts if detected(place, host)]
    ids = [host.id for host in here_now]

    def say(owner: Host, sentence: str) -> None:
        id = owner.id if owner.id in ids else next(iter(ids), "")
        said[id] = (*said.get(id, ()), sentence)

    for owner, path in project.entries(here, place.env):
        say(owner, f"{path} has an entry named parler of its own, which may be started in place of this one.")
    for each in leftovers.leftovers(place, here_now):
        wrong = f", and {each.problem}" if each.problem else ""
        say(each.host, f"{each.file} has an entry for {each.folder} alone, used there instead{wrong}. {each.fix}.")
    for owner, path in project.hooks(here, place.env):
        say(owner, f"{path} has a hook that may answer Parler's forms in your place.")
    return said


def _with_notes(place: Place, outcomes: Iterator[Outcome], *, dry_run: bool) -> Iterator[Outcome]:
    """The same outcomes; the first also says that the ledger could not be read."""
    ledger = Ledger(place.home)
    note: tuple[str, ...] = ()
    if ledger.damaged():
        then = "it is left as it is" if dry_run else "it is put aside beside its place, and a new one begun"
        note = (f"{ledger.file}, which says what was written where, cannot be read; {then}.",)
    for outcome in outcomes:
        yield dataclasses.replace(outcome, notes=(*note, *outcome.notes)) if note and outcome.detected else outcome
        note = () if outcome.detected else note
