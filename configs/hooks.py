"""The wake hooks: what is written into a host's settings so that it runs `parler hook` at its events, and taken out
again.

The file of a host says what its hooks are (`Host.hooks`); a host without any is told of what waits by its tools alone.
Not here: servers (`configs.connect`), what a hook says (`mcp_server.hook`). Files are edited by `configs.patch` under
the same rules as every other config: whole or not at all, everything else as it was. Invariant: what is taken out is
what the ledger says was put in; a hook of somebody else is never touched.

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

from configs import document
from configs.connect import Outcome, Place
from configs.detect import detected, glance, read
from configs.document import EditRefused, Rules
from configs.events import Hooks, Run
from configs.ledger import Entry, Kind, Ledger
from configs.model import Format, Host, KeyPath, expand, first
from configs.patch import Untouched, Written, difference, remove_folders, rewrite

KIND: Final[Kind] = "hook"
"""Of our entries in the ledger."""
MODE: Final = 0o600
"""Of a settings file that we create: hosts keep keys in theirs."""


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
    language: Format = "toml" if path.suffix == ".toml" else "jsonc"
    try:
        return glance(data, Rules(format=language, comments=True, trailing_commas=True, bom=True), at)
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
    hooks = _hooks_of(host)
    ledger, rules = Ledger(place.home), _rules(hooks)
    before = {entry.path: entry for entry in ledger.by_file(KIND, host.id).get(path, ())}
    all_wanted = _wanted(place, host, hooks, path)
    wanted = all_wanted
    made: dict[KeyPath, int] = {}

    def edit(data: bytes) -> bytes:
        nonlocal wanted
        made.clear()
        if only is not None:
            # What the person took out since stays out.
            wanted = [(at, value) for at, value in all_wanted if at in only and _holds(data, rules, at, only[at][0])]
        elif not data.strip():
            for at, value in hooks.beside:
                data = document.put(data, rules, at, value)
        for at, value in wanted:
            old = before.get(at)
            if old is not None and old.value != value:
                data = document.discard(data, rules, at, old.value, prune=old.prune)
            made[at] = _to_make(data, rules, at)
            data = document.append(data, rules, at, value)
        return data

    def remember(written: Written) -> None:
        # Before the file changes: a value that we wrote and do not know of could never be taken out again.
        for at, value in wanted:
            ledger.record(
                KIND,
                host.id,
                written.path,
                at,
                value,
                created=written.created,
                prune=made[at],
                named=path,
                folders=written.folders,
            )

    written = rewrite(
        path, edit, place=place, host_id=host.id, mode=MODE, dry_run=dry_run, about_to=None if dry_run else remember
    )
    status = "unchanged" if not written.changed else "updated" if before else "added"
    after = " ".join(each for each in (switched_off(place, host), hooks.after if written.changed else "") if each)
    return _outcome(host, written, status, after, dry_run=dry_run)


def _take(place: Place, host: Host, path: Path, mine: Sequence[Entry], *, dry_run: bool) -> Outcome:
    hooks = _hooks_of(host)
    rules, beside = _rules(hooks), dict(hooks.beside)

    def edit(data: bytes) -> bytes | None:
        for entry in reversed(mine):
            data = document.discard(data, rules, entry.path, entry.value, prune=entry.prune)
        if mine[0].created and _holds_only(data, rules, beside):
            return None
        return data

    written = rewrite(path, edit, place=place, host_id=host.id, mode=MODE, dry_run=dry_run)
    if not dry_run:
        ledger = Ledger(place.home)
        for entry in mine:
            ledger.forget(entry)
        if written.erased:
            remove_folders(mine[0].folders)
    return _outcome(host, written, "removed" if written.changed else "unchanged", "", dry_run=dry_run)


def _holds(data: bytes, rules: Rules, at: KeyPath, value: Any) -> bool:
    found = document.entry_at(data, rules, at) if data.strip() else None
    return isinstance(found, list) and value in found


def _to_make(data: bytes, rules: Rules, at: KeyPath) -> int:
    """How many containers a value in the list `at` needs that are not there: the list, and those around it."""
    if data.strip() and document.entry_at(data, rules, at) is not None:
        return 0
    return 1 + document.created_depth(data, rules, at)


def _holds_only(data: bytes, rules: Rules, beside: Mapping[KeyPath, Any]) -> bool:
    """Whether a file that we created says nothing any more but what we put beside our hooks."""
    for at in beside:
        data = document.take(data, rules, at)
    return document.entry_at(data, rules, ()) == {}


def _outcome(host: Host, written: Written, status: str, after: str, *, dry_run: bool) -> Outcome:
    return Outcome(
        host=host,
        detected=True,
        path=written.path,
        status=status,
        backup=written.backup,
        diff=difference(written) if dry_run else "",
        notes=(*written.notes, after) if after else written.notes,
    )


def _failed(host: Host, path: Path, error: Untouched | EditRefused) -> Outcome:
    where = f" (line {error.line})" if isinstance(error, EditRefused) and error.line else ""
    hint = error.hint if isinstance(error, Untouched) else f"Mend it, then run: parler connect {host.id} --wake"
    reason = f"{error}{where} The hooks in it are as they were."
    return Outcome(host=host, detected=True, path=path, status="failed", reason=reason, hint=hint)


def _filled(value: Any, place: Place, host: str) -> Any:
    """A value of an entry with its commands written out."""
    if isinstance(value, Run):
        return command(place, host, value.event)
    if isinstance(value, dict):
        return {key: _filled(item, place, host) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, place, host) for item in value]
    return value
