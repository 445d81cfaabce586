"""A session key as it is typed: the same again from the home's secret, and nowhere in the store."""

from __future__ import annotations

import msgspec
import pytest

from parlerd.core import events as e
from tests.support.engine import (
    engine_world,
    run,
)
from tests.support.sessions import (
    events,
)


def test_rooms_have_keys_of_their_own_of_which_the_store_holds_only_the_id() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = [await alice.open(f"t{n}") for n in range(20)]
            keys = [each.session_key for each in opened]
            assert len(set(keys)) == 20
            (minted,) = [event for event in events(served, opened[0].room) if isinstance(event, e.KeyMinted)]
            assert minted.key == served.world.keys.key_id(str(keys[0]))
            assert str(keys[0]) not in msgspec.json.encode(minted).decode().upper()

    run(main)


def test_a_key_that_was_drawn_at_random_before_cannot_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            monkeypatch.setattr(served.world.keys, "session_key", lambda room, length, invite="": "A3KE7DJR")
            await alice.open("x", idempotency_key="k1")
            monkeypatch.undo()
            again = await alice.open("x", idempotency_key="k1")
            assert again.replayed
            assert (again.session_key, again.line, again.join_command, again.mcp_command) == (None, None, None, None)

    run(main)
