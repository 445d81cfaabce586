"""The part of `parler doctor` that looks at agent hosts: what was connected is still there, works, and is ours.

These checks only look, and need no daemon. Not here: the other checks (`doctor`), and a message sent through a host
(`parler doctor --probe`). Below: `configs.survey` and `configs.drift` for what was written, `configs.project` for what
a repository brings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from configs.hosts import HOSTS
from parlerd.cli.connect import place_of
from parlerd.cli.connect_view import short
from parlerd.cli.context import Context
from parlerd.operations import types as t

if TYPE_CHECKING:
    from configs.detect import Place
    from configs.drift import Drift
    from configs.model import Host
    from configs.outcome import Outcome

HARMLESS = frozenset({"disabled"})
"""The kinds of drift that are the person's own choice. They are told, and do not count as wrong."""


def host_checks(ctx: Context) -> Iterator[t.Check]:
    """Every check of agent hosts. Each is cheap: files are read, nothing is started."""
    from configs.survey import survey

    place = place_of(ctx)
    found = survey(place, HOSTS)
    yield from _connected(place, found)
    yield from _plugins(place, found)
    yield from _startable(place)
    yield from _hooks(place)
    yield from _consents(place, found)
    yield from _left_over(ctx, place)
    yield from _of_the_repository(ctx)


def _connected(place: Place, found: Sequence[Outcome]) -> Iterator[t.Check]:
    from configs.drift import drift

    wrong = drift(place)
    for each in wrong:
        yield _drifted(each)
    names = dict.fromkeys(each.host.name for each in found if each.status in ("connected", "changed"))
    amiss = {each.host.id: each.host.name for each in wrong}
    names |= dict.fromkeys(amiss.values())
    fine = [name for name in names if name not in amiss.values()]
    if names:
        yield _ok("agent hosts", f"connected: {', '.join(fine)}" if fine else "none is connected as it was")
    else:
        yield _ok("agent hosts", "none is connected; `parler connect` connects every one that is here")
    if names:
        later = {each.host.id: each.host for each in found if each.status == "not_connected"}
        for host in [host for id, host in later.items() if id not in amiss]:
            yield _ok(host.name, f"is here and not connected; to connect it: parler connect {host.id}")


def _plugins(place: Place, found: Sequence[Outcome]) -> Iterator[t.Check]:
    """Hosts that have Parler as a plugin, and those that have an entry beside it."""
    from configs.detect import plugin

    for host in [each.host for each in found if each.status == "connected" and each.path is None]:
        name = plugin(place, host)
        beside = [each for each in found if each.host.id == host.id and each.path is not None]
        if beside:
            yield t.Check(
                name=host.name,
                ok=False,
                detail=f"has Parler twice: as the plugin {name}, and as an entry in {beside[0].path}",
                fix=f"parler connect --remove {host.id}; or take the plugin out: {'; '.join(_removes(host))}",
            )
        else:
            yield _ok(host.name, f"has Parler as the plugin {name}; to take it out: {'; '.join(_removes(host))}")


def _removes(host: Host) -> tuple[str, ...]:
    return host.plugins.removes if host.plugins is not None else ()


def _consents(place: Place, found: Sequence[Outcome]) -> Iterator[t.Check]:
    """What connected hosts do before they use our tools. The person decides this, so it is never wrong."""
    from configs.consent import sentence, standing

    hosts = {each.host.id: each.host for each in found if each.status in ("connected", "changed")}
    for host in hosts.values():
        if standing(place, host) in ("asks", "by_hand", "allowed"):
            yield _ok(host.name, sentence(place, host))


def _startable(place: Place) -> Iterator[t.Check]:
    """Find entries that nobody changed, but that start a Python or a shim which is no longer there."""
    from configs.ledger import Ledger

    for entry in Ledger(place.home).entries("entry"):
        gone = [path for path in _paths(entry.value) if not path.exists()]
        if gone:
            host = next((host for host in HOSTS if host.id == entry.host), None)
            yield t.Check(
                name=entry.host if host is None else host.name,
                ok=False,
                detail=f"its entry starts {gone[0]}, which is not there",
                fix=f"parler daemon restart, then parler connect {entry.host}",
            )


def _hooks(place: Place) -> Iterator[t.Check]:
    from configs.hooks import KIND, stale, switched_off
    from configs.ledger import Ledger

    hooked = {entry.host for entry in Ledger(place.home).entries(KIND)}
    for host in HOSTS:
        if host.id in hooked and (sentence := switched_off(place, host)):
            yield _ok(f"{host.name}, hooks", sentence)
    for host, path in stale(place, HOSTS):
        yield t.Check(
            name=f"{host.name}, hooks",
            ok=False,
            detail=f"Parler's hook in {path} runs another command than this Parler would write",
            fix=f"parler connect {host.id}",
        )


def _paths(value: object) -> Iterator[Path]:
    """The absolute paths in an entry."""
    if isinstance(value, str) and value.startswith("/"):
        yield Path(value)
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _paths(each)


def _drifted(drift: Drift) -> t.Check:
    if drift.kind in HARMLESS:
        return _ok(drift.host.name, f"{drift.sentence} {drift.fix}".strip())
    return t.Check(name=drift.host.name, ok=False, detail=drift.sentence, fix=drift.fix)


def _left_over(ctx: Context, place: Place) -> Iterator[t.Check]:
    """Entries that somebody added for one folder alone. One that starts this Parler as well does no harm."""
    from configs.leftovers import leftovers

    for each in leftovers(place):
        detail = f"{short(each.file, ctx)} has an entry for {each.folder} alone, which is used there instead of ours"
        if each.problem:
            yield t.Check(name=each.host.name, ok=False, detail=f"{detail}: {each.problem}", fix=each.fix)
        else:
            yield _ok(each.host.name, f"{detail}; to take it out: {each.fix}")


def _of_the_repository(ctx: Context) -> Iterator[t.Check]:
    from configs import project

    try:
        here = Path(os.getcwd())
    except OSError:
        return  # the current directory was removed, so no host starts anything in it either
    for _, path in project.entries(here, ctx.env):
        yield t.Check(
            name="repository",
            ok=False,
            detail=f"{short(path, ctx)} has an entry named parler of its own, which hosts may start in place of ours",
            fix="look at what it starts; if you did not put it there, take it out",
        )
    for _, path in project.hooks(here, ctx.env):
        yield t.Check(
            name="repository",
            ok=False,
            detail=f"{short(path, ctx)} has a hook that may answer Parler's forms in your place",
            fix="take it out, or decide in a terminal: `parler approvals` (see docs/settings.md, approval minimum)",
        )


def _ok(name: str, detail: str) -> t.Check:
    return t.Check(name=name, ok=True, detail=detail, fix="")
