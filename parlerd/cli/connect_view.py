"""How `parler connect` tells what it found and did: as a JSON document, and as text for a person.

Not here: what is done (`connect`). Invariant: of a host's file only the lines that a diff changes are shown, without
the secrets that are recognised in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from configs.model import Host
from configs.snippet import snippet
from parlerd.cli.context import Context
from parlerd.cli.output import DONE, Cell, Output, Style
from parlerd.core.model import LOCAL_HOME
from parlerd.core.scrub import scrub
from parlerd.paths import relay_home

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from configs.detect import Place
    from configs.outcome import Outcome
    from parlerd.cli.team import Team
    from parlerd.operations import types as t

IN_PLACE: Final = frozenset({"added", "updated", "unchanged"})
"""After connecting: the statuses of a file that holds our entry."""
CONNECTED: Final = IN_PLACE | {"connected", "changed"}
"""After connecting or with `--list`: the statuses of a file that holds our entry."""
VERIFY: Final = "parler connect --verify"
_STYLES: Final[dict[str, Style]] = {
    "added": "good",
    "updated": "good",
    "removed": "good",
    "connected": "good",
    "changed": "warn",
    "not_connected": "warn",
    "skipped": "warn",
    "failed": "bad",
}
_WOULD: Final = {"added": "would add", "updated": "would update", "removed": "would remove"}


@dataclass(slots=True)
class Seen:
    """One host that `--verify` waits for."""

    host: Host
    written: bool
    """Whether its entry was changed now, so that an open window does not count."""
    at: int = 0
    """When it dialled in, in milliseconds since the epoch; 0 while it has not."""
    why: str = ""
    """Why it may not have dialled in."""

    @property
    def seen(self) -> bool:
        return self.at > 0


@dataclass(frozen=True, slots=True)
class Consented:
    """What a host does before its model uses our tools: `standing` is a word of `configs.consent`."""

    standing: str
    sentence: str

    @property
    def asks(self) -> bool:
        return self.standing in ("asks", "by_hand")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What is told beside the entries: hooks, permissions, and sentences on hosts that ask before they use our
    tools."""

    hooks: Sequence[Outcome] = ()
    allowed: Sequence[Outcome] = ()
    consents: Sequence[str] = ()


NOTHING: Final = Extras()


@dataclass(frozen=True, slots=True)
class Sessions:
    """Where new sessions live: the name of the home, and what this command did about it."""

    home: str
    team: Team | None = None
    """The relay that runs here, where the command set it up or found it."""
    added: t.HomeAdded | None = None
    """The relay of somebody else that the command added."""


# -- for a script ----------------------------------------------------------------------------------------------


def document(
    found: Sequence[Outcome],
    hooks: Sequence[Outcome] = (),
    allowed: Sequence[Outcome] = (),
    *,
    dry_run: bool = False,
    seen: Mapping[str, Seen] | None = None,
    consents: Mapping[str, Consented] | None = None,
    watched: Collection[str] = (),
    sessions: Sessions | None = None,
    service: str | None = None,
) -> dict[str, Any]:
    """The JSON document of every form of the command, except `--print`."""
    hosts = []
    for outcome in found:
        about = _object(outcome)
        if consents and outcome.host.id in consents:
            about["consent"] = consents[outcome.host.id].standing
        if outcome.host.id in watched:
            about["sight"] = True
        if seen is not None:
            dialled = seen.get(outcome.host.id)
            about["seen"] = dialled is not None and dialled.seen
            if dialled is not None and dialled.seen:
                about["seen_at"] = dialled.at
            elif dialled is not None:
                about["why"] = dialled.why
        hosts.append(about)
    whole: dict[str, Any] = {"hosts": hosts, "home": LOCAL_HOME if sessions is None else sessions.home}
    if sessions is not None and (relay := _relay_object(sessions)):
        whole["relay"] = relay
    if service is not None:
        whole["service"] = {"kind": service, "status": "unchanged" if dry_run else "removed"}
    if hooks:
        whole["hooks"] = [_object(outcome) for outcome in hooks]
    if allowed:
        whole["allowed"] = [_object(outcome) for outcome in allowed]
    if dry_run:
        whole["dry_run"] = True
    return whole


def _relay_object(sessions: Sessions) -> dict[str, Any]:
    if sessions.team is not None:
        info = sessions.team.info
        return {
            "name": info.name,
            "status": "added" if sessions.team.is_new else "unchanged",
            "url": info.url,
            "fingerprint": info.fingerprint,
            "join_line": info.join_line,
            "join_secret_file": info.join_secret_file,
        }
    if sessions.added is not None:
        home = sessions.added.home
        about = {"name": home.name, "status": sessions.added.status, "url": home.url, "fingerprint": home.fingerprint}
        return dict(about)
    return {}


def _object(outcome: Outcome) -> dict[str, Any]:
    about: dict[str, Any] = {
        "host": outcome.host.id,
        "detected": outcome.detected,
        "path": None if outcome.path is None else str(outcome.path),
        # An entry that differs from what this version writes is connected all the same; `reason` says how it differs.
        "status": "connected" if outcome.status == "changed" else outcome.status,
    }
    optional: dict[str, object] = {
        "reason": outcome.reason,
        "hint": outcome.hint,
        "snippet": outcome.snippet,
        "backup": None if outcome.backup is None else str(outcome.backup),
        "notes": list(outcome.notes),
        "diff": scrub(outcome.diff)[0],
    }
    return about | {name: value for name, value in optional.items() if value}


# -- for a person ----------------------------------------------------------------------------------------------


def connected(
    ctx: Context,
    found: Sequence[Outcome],
    extras: Extras = NOTHING,
    *,
    named: bool = False,
    dry_run: bool = False,
    verifying: bool = False,
) -> None:
    """What connecting did, host by host, and what to do next. With `verifying` the next step follows by itself and is
    not told."""
    out = ctx.out
    if not _results(ctx, found, extras, named=named, dry_run=dry_run):
        return
    every = (*found, *extras.hooks, *extras.allowed)
    if dry_run:
        would = any(each.status in _WOULD for each in every)
        out.say("Nothing was written." if would else "Nothing would change, and nothing was written.")
        return
    failed = any(each.status == "failed" for each in every)
    out.say()
    for host in _hosts(found, {"added", "updated"}):
        out.say((host.name, "name"), f": {host.after}")
    for sentence in extras.consents:
        out.say(sentence)
    if verifying:
        return
    if failed:
        out.say("Mend what is named above, or paste the entry yourself; then run this again:")
        out.paste("parler connect")
    elif _hosts(found, IN_PLACE):
        out.say("Next, see each agent host dial in:")
        out.paste(VERIFY)


def sessions_live(ctx: Context, sessions: Sessions) -> None:
    """Where new sessions live from now on, where this command decided on it; for a team what the others run."""
    out = ctx.out
    if sessions.added is not None:
        home = sessions.added.home
        word = "is added" if sessions.added.status == "added" else "was there already"
        out.say()
        out.say("The relay ", (home.name, "name"), f" {word}, at {home.url}.")
        out.say((f"Its key's fingerprint is {home.fingerprint}.", "dim"))
        out.say("New sessions live there, sealed: whoever runs it sees who is in, not what is said.")
    if sessions.team is not None:
        _team(ctx, sessions.team)


def _team(ctx: Context, team: Team) -> None:
    out, info = ctx.out, team.info
    out.say()
    where = f"at {', '.join(info.addresses)}" if info.addresses else "which has no address in a network now"
    out.say("The relay ", (info.name, "name"), f" runs on this machine, {where}.")
    out.say("New sessions live there.")
    if not team.lingers:
        out.say(("The relay ends when you log out. To let it go on:", "warn"))
        out.paste("loginctl enable-linger")
    if team.is_new and out.terminal:
        out.say(f"This is the join secret. It is shown once, and kept in {short(_path(info), ctx)}:")
        out.paste(_path(info).read_text(encoding="ascii").strip())
    else:
        out.say(f"The join secret is in {short(_path(info), ctx)}.")
    if not info.join_line:
        out.say("Once it has one, `parler relay status` shows the line that each of your team runs.")
        return
    out.say("Give the secret to your team apart from this line, which each of them runs:")
    out.paste(f"parler connect --relay {info.join_line}")


def _path(info: t.RelayInfo) -> Path:
    return Path(info.join_secret_file)


def service_removed(ctx: Context, kind: str | None, *, dry_run: bool) -> None:
    """What became of the relay's service, where there was one."""
    if kind is None:
        return
    words = "would be stopped and its service taken out" if dry_run else "was stopped and its service taken out"
    ctx.out.say(f"The relay {words} ({kind}). Its rooms and keys stay in {short(relay_home(ctx.home).root, ctx)}.")


def removed(ctx: Context, found: Sequence[Outcome], extras: Extras, *, named: bool, dry_run: bool) -> None:
    """What was taken out."""
    touched = [each for each in (*found, *extras.hooks, *extras.allowed) if each.status != "unchanged"]
    if not touched:
        ctx.out.say("Parler is connected to no agent host." if not named else "Parler was not connected there.")
        return
    entries = [each for each in found if each in touched]
    also = Extras(
        hooks=[each for each in extras.hooks if each in touched],
        allowed=[each for each in extras.allowed if each in touched],
    )
    _results(ctx, entries, also, named=True, dry_run=dry_run)
    if dry_run:
        ctx.out.say("Nothing was written.")
    elif any(each.status == "removed" for each in touched):
        ctx.out.say("Windows that are open keep Parler until they are closed.")


def watches(hosts: Sequence[Host]) -> str:
    """Whose records are watched, and the command that ends it."""
    names, ids = ", ".join(host.name for host in hosts), " ".join(host.id for host in hosts)
    return f"Parler watches the records of {names}. To end that: parler connect {ids} --no-sight"


def listing(ctx: Context, found: Sequence[Outcome], consents: Sequence[str] = (), watched: Sequence[Host] = ()) -> None:
    """What is here, what is connected, what connected hosts may use, and whose records are watched."""
    out = ctx.out
    any_here = _results(ctx, found)
    if watched:
        out.say(watches(watched))
    if not any_here:
        return
    for sentence in consents:
        out.say(sentence)
    if _hosts(found, {"not_connected", "changed"}):
        out.say("To connect what is here:")
        out.paste("parler connect")


def to_agree(ctx: Context, hooks: Sequence[Outcome], allowed: Sequence[Outcome]) -> None:
    """What `--wake` and `--allow` would write, before it is written."""
    for planned, sentence in (
        (hooks, "These hooks would be added. Each is run by its host, and tells it only how much waits."),
        (
            allowed,
            "These permissions would be added: Parler's tools that read and talk, and none that decides or ends.",
        ),
    ):
        if any(outcome.diff for outcome in planned):
            ctx.out.say(sentence)
        for outcome in planned:
            _diff(ctx, outcome)
    ctx.out.flush()


def snippets(ctx: Context, place: Place, hosts: Sequence[Host]) -> int:
    """`--print`: each entry, complete, and where it goes."""
    from configs.detect import targets
    from configs.entries import shim_of

    out = ctx.out
    entries = [(host, targets(place, host)[0], snippet(host, shim_of(place, host))) for host in hosts]
    if out.json:
        out.document(
            {
                "hosts": [
                    {"host": host.id, "path": str(path), "format": host.format, "snippet": text}
                    for host, path, text in entries
                ]
            }
        )
        return DONE
    if len(entries) == 1:
        host, path, text = entries[0]
        out.note((host.name, "name"), f": merge this into {path}")
        out.stdout.write(text)
    else:
        for host, path, text in entries:
            out.say((host.name, "name"), f": merge into {path}")
            out.stdout.write(text + "\n")
    if not ctx.home.shim.exists():
        out.note(("Before the first use: ", "warn"), "`parler daemon start` puts the shim where these point.")
    return DONE


def short(path: Path | None, ctx: Context) -> str:
    """A path as a person knows it: with `~` for their home."""
    if path is None:
        return ""
    home = ctx.env.get("HOME")
    if home and path.is_relative_to(home):
        return f"~/{path.relative_to(home)}"
    return str(path)


def _results(
    ctx: Context,
    found: Sequence[Outcome],
    extras: Extras = NOTHING,
    *,
    named: bool = False,
    dry_run: bool = False,
) -> bool:
    """Print a table of outcomes, and below it what does not fit into a table; False when there is no host at all."""
    out = ctx.out
    here = [each for each in found if each.detected or named or each.status == "failed"]
    absent = _names([each for each in found if each not in here])
    # Most hosts have no hooks, so one line names all of these.
    without = _names([each for each in extras.hooks if each.status == "skipped"])
    hooks = [each for each in extras.hooks if each.status != "skipped"]
    allowed = [each for each in extras.allowed if each.status != "skipped"]
    if not here and not hooks and not allowed:
        out.say("No agent host was found here.")
        out.say((f"Parler looked for {absent}.", "dim"))
        out.say("To paste an entry by hand: parler connect --print HOST")
        return False
    rows: list[list[Cell]] = [_row(ctx, each, each.host.name, dry_run=dry_run) for each in here]
    rows += [_row(ctx, each, f"{each.host.name}, hooks", dry_run=dry_run) for each in hooks]
    rows += [_row(ctx, each, f"{each.host.name}, permission", dry_run=dry_run) for each in allowed]
    out.table(["host", "", "file", ""], rows)
    if absent:
        out.say((f"These are not here: {absent}.", "dim"))
    if without:
        sentence = f"Parler has no hooks for these; their tools say what waits (docs/waking.md): {without}."
        out.say((sentence, "dim"))
    for each in extras.allowed:
        if each.status == "skipped":
            out.say((each.host.name, "name"), f": {each.reason} {each.hint}".rstrip())
    _details(ctx, [*here, *hooks, *allowed])
    return True


def _row(ctx: Context, outcome: Outcome, name: str, *, dry_run: bool) -> list[Cell]:
    status = outcome.status
    word = _WOULD.get(status, status) if dry_run else status
    mark: Cell = (word.replace("_", " "), _STYLES.get(status, "dim"))
    # The reason of a failure is told below the table, with what to do about it.
    return [(name, "name"), mark, short(outcome.path, ctx), "" if status == "failed" else outcome.reason]


def _details(ctx: Context, outcomes: Sequence[Outcome]) -> None:
    """Print the diffs, notes and failures, which do not fit into the table."""
    out = ctx.out
    for outcome in outcomes:
        if outcome.diff:
            _diff(ctx, outcome)
        for note in outcome.notes:
            out.say((outcome.host.name, "name"), f": {note}")
    kept = sorted({outcome.backup.parent.parent for outcome in outcomes if outcome.backup is not None})
    for folder in kept:
        out.say(f"The files as they were are kept in {short(folder, ctx)}")
    for outcome in outcomes:
        if outcome.status != "failed":
            continue
        out.say()
        out.say((outcome.host.name, "bad"), f": {outcome.reason}")
        if outcome.hint:
            out.say(outcome.hint)
        if outcome.snippet:
            out.say(f"To paste into {short(outcome.path, ctx)}:")
            out.stdout.write(outcome.snippet)


def _diff(ctx: Context, outcome: Outcome) -> None:
    out: Output = ctx.out
    for line in scrub(outcome.diff)[0].splitlines():
        style: Style = "good" if line.startswith("+") else "bad" if line.startswith("-") else "dim"
        out.line((line, style))


def _hosts(found: Sequence[Outcome], statuses: set[str] | frozenset[str]) -> list[Host]:
    """The hosts with an outcome of these statuses, each once, although a host may have several files."""
    return list({each.host.id: each.host for each in found if each.status in statuses}.values())


def _names(found: Sequence[Outcome]) -> str:
    return ", ".join(dict.fromkeys(each.host.name for each in found))
