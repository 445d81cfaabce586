"""The daemon itself: how it is, how it stops, what it checks."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from parlerd.operations.entry import Family, Operation, Params, Result, Short


class DaemonStatus(Params, frozen=True, kw_only=True):
    pass


class DaemonInfo(Result, frozen=True, kw_only=True):
    """`http` is where it answers over HTTP, or null; with `http_open` programs are let in there without a token.
    `watched` are the agent hosts whose own records the person lets it watch, by id."""

    running: bool
    pid: int
    socket: str
    version: str
    uptime_ms: int
    rooms: int
    connections: int
    windows: int
    store: str
    home: str
    http: str | None = None
    http_open: bool = False
    watched: list[str] = []


class StopDaemon(Params, frozen=True, kw_only=True):
    """Drain and exit: no new calls, waits answer `draining`, at most 2 s."""

    reason: Short = "stop"


class Stopping(Result, frozen=True, kw_only=True):
    pid: int


class FollowFrames(Params, frozen=True, kw_only=True):
    """Follow the frames of the local socket from now on."""


class FrameInfo(Result, frozen=True, kw_only=True):
    """One frame: its shape, and nothing that anybody wrote. `size` counts its bytes with the length in front; `fields`
    gives the kind and length of each value; `left_out` frames came before it and found no room."""

    at: int
    connection: int
    direction: Literal["in", "out"]
    size: int
    type: str
    id: int | msgspec.UnsetType = msgspec.UNSET
    operation: str | msgspec.UnsetType = msgspec.UNSET
    code: str | msgspec.UnsetType = msgspec.UNSET
    fields: dict[str, str] = {}
    left_out: int = 0


class CheckStore(Params, frozen=True, kw_only=True):
    """The daemon's own checks, for `doctor`: no side effects."""


class Check(Result, frozen=True, kw_only=True):
    name: str
    ok: bool
    detail: str
    fix: str


class CheckList(Result, frozen=True, kw_only=True):
    checks: list[Check]


FAMILY: Final = Family(
    operations=(
        Operation(
            name="daemon.status",
            summary="Show the daemon's status.",
            params=DaemonStatus,
            result=DaemonInfo,
            plane="local",
            effect="read",
            command="parler daemon status",
        ),
        Operation(
            name="daemon.stop",
            summary="Stop the daemon.",
            params=StopDaemon,
            result=Stopping,
            plane="local",
            effect="destructive",
            errors=("needs_person",),
            command="parler daemon stop",
        ),
        Operation(
            name="daemon.frames",
            summary="Follow the frames of the local socket, as shapes without contents.",
            params=FollowFrames,
            result=FrameInfo,
            plane="person",
            effect="read",
            stream=True,
            command="parler daemon logs --frames",
        ),
        Operation(
            name="daemon.check",
            summary="Run the daemon's own checks, without side effects.",
            params=CheckStore,
            result=CheckList,
            plane="local",
            effect="read",
            command="parler doctor",
        ),
    )
)
