"""Which method answers which operation: a handler says so where it is defined, and the table is made from that.

    class Overview:
        @handles("rooms.list")
        async def rooms(self, caller, params): ...

    table_of(Overview(desk), ...) --> the calls and the streams, by the names of their operations

Not here: what an operation is (`parlerd.operations`), or calling a handler (`engine`). Above: every module with
handlers, and the engine. Invariant: a table answers every operation of the registry once and nothing else, streams as
streams, or it is not made. Left out are the operations that another program answers (`ELSEWHERE`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from inspect import isasyncgenfunction
from typing import Any, Final, NamedTuple, TypeVar

from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS

Handler = Callable[[Caller, Any], Awaitable[t.Result]]
StreamHandler = Callable[[Caller, Any], AsyncGenerator[t.Result, None]]

M = TypeVar("M", bound=Callable[[Any, Caller, Any], Awaitable[t.Result] | AsyncGenerator[t.Result, None]])

_MARK: Final = "answers_operations"


class Table(NamedTuple):
    """What answers each operation."""

    calls: Mapping[str, Handler]
    streams: Mapping[str, StreamHandler]


def handles(*operations: str) -> Callable[[M], M]:
    """Marks a method as what answers these operations. The method itself stays as it is."""

    def mark(method: M) -> M:
        setattr(method, _MARK, operations)
        return method

    return mark


def table_of(*owners: object) -> Table:
    """The marked methods of these objects. Raises `ValueError` where they are not the operations of the registry."""
    calls: dict[str, Handler] = {}
    streams: dict[str, StreamHandler] = {}
    for owner in owners:
        for operation, method, is_stream in _marked(type(owner)):
            if operation in calls or operation in streams:
                raise ValueError(f"two handlers answer {operation}")
            (streams if is_stream else calls)[operation] = getattr(owner, method)
    known = {name for name, entry in OPERATIONS.items() if entry.plane not in t.ELSEWHERE}
    if missing := known - calls.keys() - streams.keys():
        raise ValueError(f"nothing answers {sorted(missing)}")
    if unknown := (calls.keys() | streams.keys()) - known:
        raise ValueError(f"no operation is named {sorted(unknown)}")
    if other := sorted(name for name in known if OPERATIONS[name].stream is not (name in streams)):
        raise ValueError(f"a stream is answered as a call, or a call as a stream: {other}")
    return Table(calls, streams)


def _marked(kind: type) -> tuple[tuple[str, str, bool], ...]:
    """The operation, the name of the method, and whether it is a stream, for each mark in a class."""
    return tuple(
        (operation, name, isasyncgenfunction(method))
        for name, method in vars(kind).items()
        for operation in getattr(method, _MARK, ())
    )
