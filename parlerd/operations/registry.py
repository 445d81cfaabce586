"""Every operation there is, and every tool that is declared, composed from the families.

Not here: what an operation is made of (`entry`), or the operations themselves (`families`). Above: every surface, which
is made from this. Invariant: a name means one operation, one shape and one tool.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from parlerd.operations.entry import Family, Operation, ToolEntry
from parlerd.operations.families import (
    actions,
    affordances,
    agents,
    approvals,
    board,
    bringing,
    daemon,
    directory,
    files,
    handoff,
    homes,
    hosts,
    joins,
    link,
    membership,
    memory,
    messages,
    modules,
    pages,
    receipts,
    relay,
    rooms,
    sessions,
    sharing,
    state,
    tokens,
    visitors,
    wake,
    window,
    work,
)

N = TypeVar("N", Operation, ToolEntry)

FAMILIES: Final = (
    sessions.FAMILY,
    bringing.FAMILY,
    messages.FAMILY,
    handoff.FAMILY,
    memory.FAMILY,
    files.FAMILY,
    sharing.FAMILY,
    work.FAMILY,
    state.FAMILY,
    actions.FAMILY,
    affordances.FAMILY,
    modules.FAMILY,
    board.FAMILY,
    rooms.FAMILY,
    membership.FAMILY,
    directory.FAMILY,
    agents.FAMILY,
    tokens.FAMILY,
    joins.FAMILY,
    visitors.FAMILY,
    pages.FAMILY,
    approvals.FAMILY,
    wake.FAMILY,
    hosts.FAMILY,
    homes.FAMILY,
    receipts.FAMILY,
    relay.FAMILY,
    daemon.FAMILY,
    window.FAMILY,
    link.FAMILY,
)


def by_name(entries: Iterable[N]) -> dict[str, N]:
    """Entries by their names. Raises `ValueError` when two have the same name."""
    found: dict[str, N] = {}
    for entry in entries:
        if entry.name in found:
            raise ValueError(f"two entries are named {entry.name}")
        found[entry.name] = entry
    return found


def operations_of(families: Iterable[Family]) -> dict[str, Operation]:
    """The operations of families, by name. Raises `ValueError` when two have the same name."""
    return by_name(operation for family in families for operation in family.operations)


OPERATIONS: Final = operations_of(FAMILIES)
"""By name."""
