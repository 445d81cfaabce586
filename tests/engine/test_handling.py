"""The table of handlers is complete, or there is none."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import pytest

from parlerd.engine.callers import Caller
from parlerd.engine.handling import handles, table_of
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS

HERE = {name for name, operation in OPERATIONS.items() if operation.plane not in t.ELSEWHERE}
"""What an engine answers."""
STREAMS = {name for name in HERE if OPERATIONS[name].stream}


async def call(owner: object, caller: Caller, params: t.Params) -> t.Result:
    return t.Noted()


async def stream(owner: object, caller: Caller, params: t.Params) -> AsyncGenerator[t.Result, None]:
    yield t.Noted()


def owner(calls: set[str], streams: set[str]) -> object:
    """An object with one method for these calls and one for these streams."""

    async def one(self: object, caller: Caller, params: t.Params) -> t.Result:
        return await call(self, caller, params)

    async def many(self: object, caller: Caller, params: t.Params) -> AsyncGenerator[t.Result, None]:
        async for each in stream(self, caller, params):
            yield each

    methods: Mapping[str, Callable[..., Any]] = {"one": handles(*calls)(one), "many": handles(*streams)(many)}
    found: object = type("Owner", (), dict(methods))()
    return found


def test_a_table_has_the_marked_methods_of_all_objects_under_the_names_of_their_operations() -> None:
    calls = HERE - STREAMS
    some = {"rooms.list", "session.open"}
    first, second = owner(some, set()), owner(calls - some, STREAMS)
    table = table_of(first, second)
    assert (set(table.calls), set(table.streams)) == (calls, STREAMS)
    assert table.calls["rooms.list"] == getattr(first, "one")  # noqa: B009
    assert table.calls["message.send"] == getattr(second, "one")  # noqa: B009
    assert table.streams["room.watch"] == getattr(second, "many")  # noqa: B009


@pytest.mark.parametrize(
    ("calls", "streams", "said"),
    [
        (HERE - STREAMS - {"rooms.list"}, STREAMS, r"nothing answers \['rooms\.list'\]"),
        (HERE - STREAMS | {"rooms.paint"}, STREAMS, r"no operation is named \['rooms\.paint'\]"),
        (HERE - STREAMS | {"room.watch"}, STREAMS, r"two handlers answer room\.watch"),
        (
            HERE - STREAMS | {"room.watch"},
            STREAMS - {"room.watch"},
            r"as a call.*room\.watch",
        ),
        (HERE - STREAMS - {"rooms.list"}, STREAMS | {"rooms.list"}, r"a call as a stream.*rooms\.list"),
    ],
)
def test_a_table_that_is_not_the_registry_is_refused_by_name(calls: set[str], streams: set[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        table_of(owner(calls, streams))
