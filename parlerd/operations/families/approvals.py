"""Everything that waits for a person, in all their rooms."""

from __future__ import annotations

from typing import Final

from parlerd.operations.entry import Family, Operation, Params, Route
from parlerd.operations.shared import RequestList


class ListApprovals(Params, frozen=True, kw_only=True):
    pass


class WatchApprovals(Params, frozen=True, kw_only=True):
    """A stream: one `RequestList` now, and one at every change."""


FAMILY: Final = Family(
    operations=(
        Operation(
            name="approvals.list",
            summary="Review the join requests of all your rooms.",
            params=ListApprovals,
            result=RequestList,
            plane="agent",
            http=Route("GET /approvals", "read"),
            effect="read",
            command="parler approvals --once",
        ),
        Operation(
            name="approvals.watch",
            summary="Follow the join requests of all your rooms, live.",
            params=WatchApprovals,
            result=RequestList,
            plane="agent",
            http=Route("GET /approvals/events", "read"),
            effect="read",
            stream=True,
            command="parler approvals",
        ),
    )
)
