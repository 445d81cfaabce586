"""Our entry in the settings of agent hosts: put in, and brought up to date.

    detect -> which file -> patch.rewrite(edit by document) -> ledger -> Outcome

Not here: which hosts are here (`detect`), what bytes an edit gives (`document`), how a file is changed (`patch`), how
the entry is taken out (`remove`), hooks and permissions (`hooks`, `consent`). Above: the command line, `watch`.
Invariants: one host that fails does not stop the others; an entry that is not ours is replaced only when that was asked
for; what the person set in our entry stays, also that it is switched off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from configs import leftovers, project
from configs.detect import Place, detected, files, plugin, server_path, targets
from configs.document import Document, EditRefused, Rules
from configs.entries import command_of, entry_of, merged, off_where, starts_parler
from configs.guard import Untouched
from configs.ledger import Entry, Ledger
from configs.model import Host, KeyPath
from configs.outcome import Outcome, failed, paste, refuse, with_a_word_on_the_ledger
from configs.patch import Edited, Written, difference, digest, rewrite
from parlerd.core.errors import ParlerError

_CHOICES: Final = ("disabled", "enabled")
"""Keys of an entry with which a person switches a server off: they stay also where the entry is replaced."""


def connect(
    place: Place, hosts: Sequence[Host], *, chosen: bool, dry_run: bool = False, replace: bool = False
) -> Iterator[Outcome]:
    """Put our entry into the settings of each host that is here, one outcome a file, as it happens.

    `chosen`: the person named these hosts, so one that is not here is a failure. `replace`: also put our entry in the
    place of an entry named parler that is not ours. Raises `ParlerError` `foreign_home` or `unsafe_program` before
    anything is written.
    """
    refuse(place, programs=True)
    outcomes = _connecting(place, hosts, chosen, dry_run, replace)
    return with_a_word_on_the_ledger(place, outcomes, dry_run=dry_run)


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
        snippet=paste(place, host),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What one edit found in a file, and what it does about our entry.

    `keys` leads to the entry, and `ours` is the entry that we write there for this host. `was_ours` says that the file
    had an entry that starts a Parler. `made` is how many tables the edit makes around the entry. `off` says where the
    person switched our server off, `None` when it is on.
    """

    keys: KeyPath
    ours: dict[str, Any]
    status: str
    was_ours: bool
    made: int
    off: str | None


class _Wiring:
    """Our entry into one file.

    `rewrite` calls `_edit` for each content that it meets in the file, and `_record` just before it writes one.
    """

    def __init__(self, place: Place, host: Host, path: Path, *, dry_run: bool, replace: bool) -> None:
        self._place = place
        self._host = host
        self._path = path
        self._dry_run = dry_run
        self._replace = replace
        self._ledger = Ledger(place.home)
        self._known: Entry | None = None
        """What the ledger said of this file before this run."""
        self._is_known = False
        """Whether `_known` was read. The first edit reads it, because `rewrite` holds the lock on the file by then: no
        other run of ours changes the file or what the ledger says of it from there on."""
        self._recorded: Entry | None = None
        """What this run put into the ledger, and takes back when nothing is written after all."""

    def run(self) -> Outcome:
        host = self._host
        try:
            written = rewrite(
                self._path,
                self._edit,
                place=self._place,
                host_id=host.id,
                mode=host.mode,
                dry_run=self._dry_run,
                about_to=self._record,
            )
            if not written.changed and not self._dry_run:
                self._adopt(written)
        except (Untouched, EditRefused, ParlerError) as error:
            self._take_back()
            return failed(self._place, host, self._path, error)
        found, notes = written.about, written.notes
        if found.off is not None:
            notes = (*notes, f"Connected, and switched off in {host.name}{found.off}: that was left as it is.")
        return Outcome(
            host=host,
            detected=True,
            path=self._path,
            status=found.status,
            backup=written.backup,
            diff=difference(written) if self._dry_run else "",
            notes=notes,
        )

    def _edit(self, data: bytes) -> Edited[_Found]:
        host, place = self._host, self._place
        if not self._is_known:
            self._known, self._is_known = self._ledger.entry_in(host.id, self._path), True
        file = Document.read(data, Rules.of(host))
        if not data.strip():
            for key, text in host.beside.items():
                file = file.put((key,), text)
        keys = server_path(file, host)
        there, ours = file.at(keys), entry_of(place, host, keys)
        was_ours = there is not None and starts_parler(there)
        if there is None:
            value, status = ours, "added"
        elif was_ours and not self._replace:
            base = self._known.value if self._known is not None else None
            value, status = merged(there, base, ours, command_of(place, host)), "updated"
        elif self._replace:
            kept = {key: there[key] for key in _CHOICES if key in there} if isinstance(there, dict) else {}
            value, status = {**ours, **kept}, "updated"
        else:
            raise Untouched(
                "not_ours",
                self._path,
                f"{self._path} has an entry named parler that starts something else.",
                f"To put ours in its place: parler connect {host.id} --replace",
            )
        found = _Found(
            keys=keys,
            ours=ours,
            status="unchanged" if there == value else status,
            was_ours=was_ours,
            made=file.missing(keys) if there is None else 0,
            off=off_where(host, file, value),
        )
        return Edited(file.data if there == value else file.put(keys, value).data, found)

    def _record(self, written: Written[_Found]) -> None:
        known = self._known
        entry = self._entry_for(written)
        if known is not None and known.written and known.written == digest(written.before or b""):
            # Nobody changed the file since we wrote it: what leads back from there leads back from here too.
            entry = dataclasses.replace(entry, backup=known.backup, original=known.original)
        elif written.about.was_ours:
            # The bytes before this edit have an entry of ours in them, or changes that others made since we wrote
            # ours. Such bytes are no original to go back to, so the entry names none.
            entry = dataclasses.replace(entry, backup=(known and known.backup) or entry.backup, original="", written="")
        self._recorded = entry
        self._ledger.put(entry)

    def _entry_for(self, written: Written[_Found]) -> Entry:
        entry = Entry(
            kind="entry",
            host=self._host.id,
            file=written.path,
            named=self._path,
            path=written.about.keys,
            # The entry that we write, and not the one that then stands in the file: that one also has what the person
            # set. `merged` takes what is recorded for ours, and would write over the person's values the next time.
            value=written.about.ours,
            created=written.created,
            folders=written.folders,
            prune=written.about.made,
            backup=written.backup,
            original="" if written.before is None else digest(written.before),
            written=digest(written.after),
        )
        return entry.after(self._known)

    def _adopt(self, written: Written[_Found]) -> None:
        """Record an entry that stood there already, so that `remove` takes it out too."""
        self._take_back()
        entry = dataclasses.replace(self._entry_for(written), created=False, original="", written="")
        self._ledger.put(entry, only_new=True)

    def _take_back(self) -> None:
        """Make the ledger say what it said before this run, because nothing was written after all."""
        if self._recorded is None:
            return
        if self._known is not None:
            self._ledger.put(self._known)
        else:
            self._ledger.forget(self._recorded)


def _of_the_project(place: Place, hosts: Sequence[Host]) -> dict[str, tuple[str, ...]]:
    """What a repository around the working directory says in our name, by the host that reads it."""
    try:
        here = Path.cwd()
    except OSError:
        return {}  # the directory was removed while this runs in it
    said: dict[str, tuple[str, ...]] = {}
    found = [host for host in hosts if detected(place, host)]
    ids = [host.id for host in found]

    def say(owner: Host, sentence: str) -> None:
        id = owner.id if owner.id in ids else next(iter(ids), "")
        said[id] = (*said.get(id, ()), sentence)

    for owner, path in project.entries(here, place.env):
        say(owner, f"{path} has an entry named parler of its own, which may be started in place of this one.")
    for each in leftovers.leftovers(place, found):
        wrong = f", and {each.problem}" if each.problem else ""
        say(each.host, f"{each.file} has an entry for {each.folder} alone, used there instead{wrong}. {each.fix}.")
    for owner, path in project.hooks(here, place.env):
        say(owner, f"{path} has a hook that may answer Parler's forms in your place.")
    return said
