"""The wake hooks: what is written into a host's settings so that it runs `parler hook` at its events, and taken out
again.

The file of a host says what its hooks are (`Host.hooks`); a host without any is told of what waits by its tools alone.
Not here: servers (`configs.connect`), what a hook says (`mcp_server.stdio.hook`). `configs.additions` edits the
files and remembers what was added. Invariant: what is taken out is what the ledger says was put in; a hook of somebody
else is never touched.

The command is one line for a shell, absolute in every part. The command starts the copy in Parler's home in isolated
mode and without site packages, which takes a fifth of the time that `parler` takes. Before that the command looks
whether the interpreter and the program are there: an interpreter that cannot open its program ends with status 2, and
with that status a hook tells a host to stop a prompt. Where one of the two files is gone, the command prints `{}`,
which tells the host nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from configs.additions import Added, Additions, add, failed, outcome, take_out, to_make
from configs.detect import Place, detected, read
from configs.document import Document, EditRefused, Glance, Readable, Rules
from configs.events import Hooks, Run
from configs.guard import Untouched
from configs.ledger import Entry, Kind, Ledger
from configs.model import Host, KeyPath, expand, first
from configs.outcome import Outcome

KIND: Final[Kind] = "hook"
"""The kind of our entries in the ledger."""


def command(place: Place, host: str, event: str) -> str:
    """The shell line that runs one event's hook. It works in sh, bash, zsh and fish."""
    python, shim, home = (shlex.quote(str(part)) for part in (place.python, place.home.shim, place.home.root))
    run = f"{python} -I -S {shim} hook {host} {event} --home {home}"
    return f"test -x {python} && test -f {shim} && exec {run}; echo '{{}}'"


def wake(place: Place, hosts: Sequence[Host], dry_run: bool = False) -> Iterator[Outcome]:
    """Put our hooks in, host by host; an outcome for each host that is here.

    Statuses: added, updated (they ran another command before), unchanged, skipped (the host has none), failed.
    """
    for host in hosts:
        if not detected(place, host):
            continue
        hooks = host.hooks
        if hooks is None:
            reason = f"Parler has no hooks for {host.name}; its tools say what waits."
            yield Outcome(host=host, detected=True, path=None, status="skipped", reason=reason)
            continue
        path = file_of(place, hooks)
        try:
            yield _put(place, host, path, dry_run=dry_run)
        except (Untouched, EditRefused) as error:
            yield _failed(host, path, error)


def switched_off(place: Place, host: Host) -> str:
    """A sentence when the host runs no hooks at all by the person's own choice; else nothing."""
    hooks = host.hooks
    if hooks is None or hooks.off is None:
        return ""
    path = first(hooks.files, place.env)
    assert path is not None, "the last of these templates needs no variable"
    at, value = hooks.off
    if _at(path, at) != value:
        return ""
    return f"{host.name} runs no hooks: `{'.'.join(at)}` in {path} says so, and was left as it is."


def stale(place: Place, hosts: Sequence[Host]) -> list[tuple[Host, Path]]:
    """The hosts in whose file a hook of ours runs another command than this Parler would write, each with the file.

    Another Python, another home, another release: such a hook may run nothing any more, and says nothing of it.
    """
    found = []
    for host in hosts:
        for path, wanted in _outdated(place, host).items():
            if any(_stands(path, at, old) for at, (old, _) in wanted.items()):
                found.append((host, path))
    return found


def refresh(place: Place, hosts: Sequence[Host], dry_run: bool = False) -> Iterator[Outcome]:
    """Bring our hooks up to date where they run another command than this Parler would write; an outcome for each file
    that needed it. What the person took out stays out, and no event is added.

    Statuses: updated, unchanged, failed.
    """
    for host, path in stale(place, hosts):
        try:
            yield _put(place, host, path, dry_run=dry_run, only=_outdated(place, host)[path])
        except (Untouched, EditRefused) as error:
            yield _failed(host, path, error)


def _outdated(place: Place, host: Host) -> dict[Path, dict[KeyPath, tuple[Any, Any]]]:
    """By file and place in it, what the ledger says that we wrote and what would be written now, where they differ."""
    hooks = host.hooks
    found: dict[Path, dict[KeyPath, tuple[Any, Any]]] = {}
    if hooks is None:
        return found
    for entry in Ledger(place.home).entries(KIND, host.id):
        wanted = dict(_wanted(place, host, hooks, entry.named))
        if entry.path in wanted and wanted[entry.path] != entry.value:
            found.setdefault(entry.named, {})[entry.path] = (entry.value, wanted[entry.path])
    return found


def _stands(path: Path, at: KeyPath, value: Any) -> bool:
    found = _at(path, at)
    return isinstance(found, list) and value in found


def _at(path: Path, at: KeyPath) -> Any:
    """The value at a place in a file; None when it is not there, or the file cannot be read."""
    data = read(path)
    if not data:
        return None
    try:
        return Glance(data, Rules.loose(path)).at(at)
    except EditRefused:
        return None


def unwake(place: Place, hosts: Sequence[Host], dry_run: bool = False) -> Iterator[Outcome]:
    """Take out what `wake` put in, host by host; an outcome for each file that held something of ours.

    Statuses: removed, unchanged (it was gone already), failed.
    """
    ledger = Ledger(place.home)
    for host in hosts:
        for path, mine in ledger.by_file(KIND, host.id).items():
            try:
                yield _take(place, host, path, mine, dry_run=dry_run)
            except (Untouched, EditRefused) as error:
                yield _failed(host, path, error)


def file_of(place: Place, hooks: Hooks) -> Path:
    """The settings file that the host itself would read."""
    alone = [path for template in hooks.rather if (path := expand(template, place.env)) is not None and path.exists()]
    found = [path for template in hooks.files if (path := expand(template, place.env)) is not None]
    return [*alone, *found][0]


def _wanted(place: Place, host: Host, hooks: Hooks, path: Path) -> list[tuple[KeyPath, Any]]:
    """What is to stand where in this file."""
    is_alone = path in [expand(template, place.env) for template in hooks.rather]
    above = () if is_alone else ("hooks",)
    return [((*above, each.event), _filled(each.entry, place, host.id)) for each in hooks.events]


def _hooks_of(host: Host) -> Hooks:
    assert host.hooks is not None, "a host without hooks is passed over, and the ledger has none of it"
    return host.hooks


def _rules(hooks: Hooks) -> Rules:
    loose = hooks.format != "json"
    # Of TOML, trailing commas mean release 1.1, which Codex reads.
    newer = hooks.format == "toml"
    return Rules(format=hooks.format, comments=loose, trailing_commas=newer, bom=newer or not loose)


def _put(
    place: Place,
    host: Host,
    path: Path,
    *,
    dry_run: bool,
    only: Mapping[KeyPath, tuple[Any, Any]] | None = None,
) -> Outcome:
    """Bring our hooks into a file; with `only`, those alone that stand there with the first of the two values."""
    hooks = _hooks_of(host)
    before = {entry.path: entry for entry in Ledger(place.home).by_file(KIND, host.id).get(path, ())}
    all_wanted = _wanted(place, host, hooks, path)

    def edit(file: Document) -> tuple[Document, Additions]:
        wanted = all_wanted
        if only is not None:
            # What the person took out since stays out.
            wanted = [(at, value) for at, value in all_wanted if at in only and _holds(file, at, only[at][0])]
        elif not file.data.strip():
            for at, value in hooks.beside:
                file = file.put(at, value)
        added = []
        for at, value in wanted:
            old = before.get(at)
            if old is not None and old.value != value:
                file = file.discard(at, old.value, prune=old.prune)
            added.append(Added(at, value, to_make(file, at)))
            file = file.append(at, value)
        return file, Additions(tuple(added))

    written = add(place, host, path, edit, kind=KIND, rules=_rules(hooks), dry_run=dry_run)
    status = "unchanged" if not written.changed else "updated" if before else "added"
    after = " ".join(each for each in (switched_off(place, host), hooks.after if written.changed else "") if each)
    notes = (*written.notes, after) if after else written.notes
    return outcome(host, written, status, notes, dry_run=dry_run)


def _take(place: Place, host: Host, path: Path, mine: Sequence[Entry], *, dry_run: bool) -> Outcome:
    def undo(file: Document, entry: Entry) -> Document:
        return file.discard(entry.path, entry.value, prune=entry.prune)

    hooks = _hooks_of(host)
    beside = [at for at, _ in hooks.beside]
    return take_out(place, host, path, mine, undo, rules=_rules(hooks), beside=beside, dry_run=dry_run)


def _holds(file: Readable, at: KeyPath, value: Any) -> bool:
    found = file.at(at)
    return isinstance(found, list) and value in found


def _failed(host: Host, path: Path, error: Untouched | EditRefused) -> Outcome:
    return failed(host, path, error, option="--wake", kept="The hooks in it are as they were.")


def _filled(value: Any, place: Place, host: str) -> Any:
    """A value of an entry with its commands written out."""
    if isinstance(value, Run):
        return command(place, host, value.event)
    if isinstance(value, dict):
        return {key: _filled(item, place, host) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, place, host) for item in value]
    return value
