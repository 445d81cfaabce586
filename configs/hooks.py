"""The wake hooks: what is written into a host's settings so that it runs `parler hook` at its events, and taken out
again.

Each host with hooks is one row of `HOOKS`; a host that is not there has none that Parler knows to work, and is told of
what waits by its tools alone. Not here: servers (`configs.connect`), what a hook says (`mcp_server.stdio`). Files are
edited by `configs.patch` under the same rules as every other config: whole or not at all, everything else as it was.
Invariant: what is taken out is what the ledger says was put in; a hook of somebody else is never touched.

The command is one line for a shell, absolute in every part. It starts the copy in Parler's home in isolated mode and
without site packages, which takes a fifth of what `parler` takes. It looks first whether the two files are there: an
interpreter that cannot open its program ends with status 2, and that is how a hook tells a host to stop a prompt. With
the files gone it prints `{}`, which says nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from configs import document
from configs.connect import Outcome, Place
from configs.detect import detected, glance, read
from configs.document import Refused, Rules
from configs.ledger import Entry, Kind, Ledger
from configs.model import Format, Host, expand
from configs.patch import Untouched, Written, difference, remove_folders, rewrite

KIND: Final[Kind] = "hook"
"""Of our entries in the ledger."""
MODE: Final = 0o600
"""Of a settings file that we create: hosts keep keys in theirs."""
PROMPT_S: Final = 5
"""Seconds that a host gives a hook which answers at once; ours ends itself within two."""
WAIT_S: Final = 8 * 3600 + 60
"""For the waiter: a little more than it takes itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The hooks of one host: its file, and where in it stands what. `beside` is what the file must also say.

    `rather` are files that hold nothing but hooks, without the first key of each path: where one of them is there, its
    events hide those of `files`, so it is used. `off` is what the first of `files` says when no hook is to run.
    """

    files: tuple[str, ...]
    rather: tuple[str, ...] = ()
    format: Format
    entries: tuple[tuple[tuple[str, ...], Any], ...]
    beside: tuple[tuple[tuple[str, ...], Any], ...] = ()
    off: tuple[tuple[str, ...], Any] | None = None
    after: str = ""

    @property
    def rules(self) -> Rules:
        loose = self.format != "json"
        # Of TOML it means 1.1, which Codex reads.
        newer = self.format == "toml"
        return Rules(format=self.format, comments=loose, trailing_commas=newer, bom=newer or not loose)


@dataclass(frozen=True, slots=True)
class Run:
    """Stands in a row for the command that is run at an event."""

    event: str


def _claude(event: str, *, waits: bool) -> dict[str, Any]:
    hooks: list[dict[str, Any]] = [{"type": "command", "command": Run(event), "timeout": PROMPT_S}]
    if waits:
        hooks.append({"type": "command", "command": Run("Wait"), "asyncRewake": True, "timeout": WAIT_S})
    return {"hooks": hooks}


def _codex(event: str) -> dict[str, Any]:
    return {"hooks": [{"type": "command", "command": Run(event), "timeout": PROMPT_S}]}


def _events(event_of: Callable[[str], dict[str, Any]], *events: str) -> tuple[tuple[tuple[str, ...], Any], ...]:
    return tuple((("hooks", event), event_of(event)) for event in events)


def _gemini(event: str) -> dict[str, Any]:
    return {"hooks": [{"name": "parler", "type": "command", "command": Run(event), "timeout": PROMPT_S * 1000}]}


HOOKS: Final[Mapping[str, Hooks]] = {
    "claude-code": Hooks(
        files=("${CLAUDE_CONFIG_DIR}/settings.json", "~/.claude/settings.json"),
        format="json",
        entries=(
            (("hooks", "SessionStart"), _claude("SessionStart", waits=True)),
            (("hooks", "UserPromptSubmit"), _claude("UserPromptSubmit", waits=False)),
            (("hooks", "Stop"), _claude("Stop", waits=True)),
        ),
        off=(("disableAllHooks",), True),
        after="Start a new session; `/hooks` shows them.",
    ),
    "codex": Hooks(
        files=("${CODEX_HOME}/config.toml", "~/.codex/config.toml"),
        format="toml",
        entries=_events(_codex, "SessionStart", "UserPromptSubmit", "Stop"),
        off=(("features", "hooks"), False),
        after="Codex runs them only after you trusted them: start it and answer, or use `/hooks`.",
    ),
    "gemini": Hooks(
        files=("~/.gemini/settings.json",),
        format="jsonc",
        entries=_events(_gemini, "SessionStart", "BeforeAgent", "AfterAgent"),
        off=(("hooksConfig", "enabled"), False),
    ),
    "qwen": Hooks(
        # After Claude Code's, with seconds; its events of Gemini's names do not fire.
        files=("${QWEN_HOME}/settings.json", "~/.qwen/settings.json"),
        format="jsonc",
        entries=_events(_codex, "SessionStart", "UserPromptSubmit", "Stop"),
        off=(("disableAllHooks",), True),
        after="Start a new session; `/hooks` shows them.",
    ),
    "copilot": Hooks(
        # A file of our own. Event names in this spelling get Claude Code's payload, with the session's id in it.
        files=("${COPILOT_HOME}/hooks/parler.json", "~/.copilot/hooks/parler.json"),
        format="json",
        entries=_events(_codex, "SessionStart", "UserPromptSubmit", "Stop"),
        beside=((("version",), 1),),
        after="Start a new session.",
    ),
    "droid": Hooks(
        files=("~/.factory/settings.json",),
        rather=("~/.factory/hooks.json", "~/.factory/hooks/hooks.json"),
        format="jsonc",
        entries=_events(_codex, "SessionStart", "Stop"),
        off=(("hooks", "hooksDisabled"), True),
        after="Start a new session; `/hooks` shows them.",
    ),
    "cursor": Hooks(
        files=("~/.cursor/hooks.json",),
        format="jsonc",
        entries=((("hooks", "stop"), {"command": Run("stop")}),),
        beside=((("version",), 1),),
        after="Written after Cursor's documentation and not tried with the program.",
    ),
}


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
        hooks = HOOKS.get(host.id)
        if hooks is None:
            reason = f"Parler has no hooks for {host.name}; its tools say what waits."
            yield Outcome(host=host, detected=True, path=None, status="skipped", reason=reason)
            continue
        path = file_of(place, hooks)
        try:
            yield _put(place, host, hooks, path, dry_run=dry_run)
        except (Untouched, Refused) as error:
            yield _failed(host, path, error)


def switched_off(place: Place, host: Host) -> str:
    """A sentence when the host runs no hooks at all by the person's own choice; else nothing."""
    hooks = HOOKS.get(host.id)
    if hooks is None or hooks.off is None:
        return ""
    path = next(path for template in hooks.files if (path := expand(template, place.env)) is not None)
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
            yield _put(place, host, HOOKS[host.id], path, dry_run=dry_run, only=_outdated(place, host)[path])
        except (Untouched, Refused) as error:
            yield _failed(host, path, error)


def _outdated(place: Place, host: Host) -> dict[Path, dict[tuple[str, ...], tuple[Any, Any]]]:
    """By file and place in it, what the ledger says that we wrote and what would be written now, where they differ."""
    hooks = HOOKS.get(host.id)
    found: dict[Path, dict[tuple[str, ...], tuple[Any, Any]]] = {}
    if hooks is None:
        return found
    for entry in Ledger(place.home).entries(KIND, host.id):
        wanted = dict(_wanted(place, host, hooks, entry.named))
        if entry.path in wanted and wanted[entry.path] != entry.value:
            found.setdefault(entry.named, {})[entry.path] = (entry.value, wanted[entry.path])
    return found


def _stands(path: Path, at: tuple[str, ...], value: Any) -> bool:
    found = _at(path, at)
    return isinstance(found, list) and value in found


def _at(path: Path, at: tuple[str, ...]) -> Any:
    """The value at a place in a file; None when it is not there, or the file cannot be read."""
    data = read(path)
    if not data:
        return None
    language: Format = "toml" if path.suffix == ".toml" else "jsonc"
    try:
        return glance(data, Rules(format=language, comments=True, trailing_commas=True, bom=True), at)
    except Refused:
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
            except (Untouched, Refused) as error:
                yield _failed(host, path, error)


def file_of(place: Place, hooks: Hooks) -> Path:
    """The settings file that the host itself would read."""
    alone = [path for template in hooks.rather if (path := expand(template, place.env)) is not None and path.exists()]
    found = [path for template in hooks.files if (path := expand(template, place.env)) is not None]
    return [*alone, *found][0]


def _wanted(place: Place, host: Host, hooks: Hooks, path: Path) -> list[tuple[tuple[str, ...], Any]]:
    """What is to stand where in this file."""
    is_alone = path in [expand(template, place.env) for template in hooks.rather]
    return [(at[1:] if is_alone else at, _filled(value, place, host.id)) for at, value in hooks.entries]


def _put(
    place: Place,
    host: Host,
    hooks: Hooks,
    path: Path,
    *,
    dry_run: bool,
    only: Mapping[tuple[str, ...], tuple[Any, Any]] | None = None,
) -> Outcome:
    ledger, rules = Ledger(place.home), hooks.rules
    before = {entry.path: entry for entry in ledger.by_file(KIND, host.id).get(path, ())}
    all_wanted = _wanted(place, host, hooks, path)
    wanted = all_wanted
    made: dict[tuple[str, ...], int] = {}

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
    hooks = HOOKS[host.id]
    rules, beside = hooks.rules, dict(hooks.beside)

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


def _holds(data: bytes, rules: Rules, at: tuple[str, ...], value: Any) -> bool:
    found = document.entry_at(data, rules, at) if data.strip() else None
    return isinstance(found, list) and value in found


def _to_make(data: bytes, rules: Rules, at: tuple[str, ...]) -> int:
    """How many containers a value in the list `at` needs that are not there: the list, and those around it."""
    if data.strip() and document.entry_at(data, rules, at) is not None:
        return 0
    return 1 + document.created_depth(data, rules, at)


def _holds_only(data: bytes, rules: Rules, beside: Mapping[tuple[str, ...], Any]) -> bool:
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


def _failed(host: Host, path: Path, error: Untouched | Refused) -> Outcome:
    where = f" (line {error.line})" if isinstance(error, Refused) and error.line else ""
    hint = error.hint if isinstance(error, Untouched) else f"Mend it, then run: parler connect {host.id} --wake"
    reason = f"{error}{where} The hooks in it are as they were."
    return Outcome(host=host, detected=True, path=path, status="failed", reason=reason, hint=hint)


def _filled(value: Any, place: Place, host: str) -> Any:
    """A row's value with its commands written out."""
    if isinstance(value, Run):
        return command(place, host, value.event)
    if isinstance(value, dict):
        return {key: _filled(item, place, host) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, place, host) for item in value]
    return value
