"""Agents: as whom a call acts."""

from __future__ import annotations

from typing import Final

from parlerd.operations.entry import Family, Operation, Params, Result


class WhoAmI(Params, frozen=True, kw_only=True):
    pass


class Me(Result, frozen=True, kw_only=True):
    """`fingerprint` is a short form of the id, which others are shown when this agent knocks."""

    id: str
    name: str
    host: str
    home: str
    principal: str
    workspace: str = ""
    active: str | None = None
    fingerprint: str = ""


FAMILY: Final = Family(
    operations=(
        Operation(
            name="agent.whoami",
            summary="Show which agent this call acts as.",
            params=WhoAmI,
            result=Me,
            plane="agent",
            effect="read",
            command="parler whoami",
        ),
    )
)
