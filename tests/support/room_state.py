"""Writing and reading the state of a room as an agent does it, for tests that speak to an engine."""

from __future__ import annotations

from typing import Any

from parlerd.operations import types as t
from tests.support.engine import Party


async def put(who: Party, key: str, value: Any = None, **rest: Any) -> t.StateWritten:
    return await who.ask("state.set", t.SetState(key=key, value=value, **rest), t.StateWritten)


async def value(who: Party, key: str, scope: str = "_shared") -> Any:
    return (await who.ask("state.get", t.GetState(key=key, scope=scope), t.StateRead)).value
