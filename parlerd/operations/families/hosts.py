"""The agent hosts of this machine, as the daemon saw them."""

from __future__ import annotations

from typing import Final

from parlerd.operations.entry import Family, Operation, Params, Result


class SeenHosts(Params, frozen=True, kw_only=True):
    """`look`: what is connected was changed, so the daemon reads anew which files it keeps an eye on."""

    look: bool = False


class SeenHost(Result, frozen=True, kw_only=True):
    """When a window of this agent host last reached the daemon, since the daemon started, and how many are open."""

    host: str
    at: int
    windows: int


class SeenHostList(Result, frozen=True, kw_only=True):
    hosts: list[SeenHost]


FAMILY: Final = Family(
    operations=(
        Operation(
            name="hosts.seen",
            summary="Show which agent hosts have reached the daemon since it started, and when.",
            params=SeenHosts,
            result=SeenHostList,
            plane="local",
            effect="read",
            example={"look": True},
            command="parler connect --verify",
        ),
    )
)
