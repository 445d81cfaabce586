"""Where a window is seated, in words: its place, the slots of one, and the names that both give an agent.

A place is a pair: `("as", name)` for a window that was given a name, else its host and its workspace. Slots number what
is in one place at the same time. Pure: nothing is looked up or kept here. Not here: who sits where (`seats`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

from parlerd.core.model import Label, label, slug
from parlerd.engine.callers import Caller
from parlerd.store.port import Lease

NAMED: Final = -1
"""The slot of an agent that is found by its name and not by its place."""


def place_of(caller: Caller) -> tuple[str, str]:
    """Where a window is seated: by the name it was given, else by its host and workspace."""
    if caller.facts.as_name:
        return "as", str(label(caller.facts.as_name))
    return host_of(caller), caller.facts.workspace


def host_of(caller: Caller) -> Label:
    """The caller's host as a label; `agent` where it names none."""
    return slug(caller.facts.host, fallback="agent")


def place_name(host: str, workspace: str) -> Label:
    """`claude-code@repo`, or the host alone where there is no workspace."""
    if not workspace:
        return label(host)
    return label(f"{host}@{slug(PurePath(workspace).name, fallback='workspace')}"[:56])


def numbered(name: str, slot: int) -> str:
    """The name that an agent of this slot has: the name itself for the first, `name#2` for the second."""
    return f"{name}#{slot + 1}" if slot else name


def slots_of(place: tuple[str, str], leases: Iterable[Lease]) -> set[int]:
    """The slots of a place that the leases have."""
    return {lease.slot for lease in leases if (lease.host, lease.workspace) == place}


def first_free(place: tuple[str, str], leases: Iterable[Lease]) -> int:
    """The first slot of a place that none of the leases has."""
    taken = slots_of(place, leases)
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)
