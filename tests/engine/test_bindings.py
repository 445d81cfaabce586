"""What binds keys to rooms is computed once, one at a time, and kept without the keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from parlerd.core.model import RoomId
from parlerd.engine import bindings
from parlerd.engine.bindings import Bindings
from tests.support.engine import CountedKeys, run

ROOM = RoomId("r_one")


class Aside:
    """Counts what runs aside, and how many do at the same time."""

    def __init__(self) -> None:
        self.runs = self.now = self.most = 0

    async def __call__(self, work: Callable[[], str]) -> str:
        self.runs, self.now = self.runs + 1, self.now + 1
        self.most = max(self.most, self.now)
        await trio.sleep(1)
        self.now -= 1
        return work()


def test_a_binding_is_computed_aside_once_and_one_at_a_time() -> None:
    async def main() -> None:
        keys, aside = CountedKeys(), Aside()
        found = Bindings(keys, aside)
        told: list[str] = []

        async def ask(key: str) -> None:
            told.append(await found.of(ROOM, key))

        async with trio.open_nursery() as nursery:
            for key in ("K7M29QXD", "K7M29QXD", "K7M29QXE"):
                nursery.start_soon(ask, key)
        expected = [keys.binding(ROOM, key) for key in ("K7M29QXD", "K7M29QXD", "K7M29QXE")]
        assert sorted(told) == sorted(expected)
        assert (aside.runs, aside.most) == (2, 1)
        assert await found.of(RoomId("r_two"), "K7M29QXD") not in expected
        # A key as it is typed is not kept.
        assert "K7M29QXD" not in repr(vars(found))

    run(main)


def test_the_newest_bindings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bindings, "MAX_KEPT", 2)

    async def main() -> None:
        aside = Aside()
        found = Bindings(CountedKeys(), aside)
        for key in ("K7M29QXA", "K7M29QXB", "K7M29QXC", "K7M29QXC", "K7M29QXB", "K7M29QXA"):
            await found.of(ROOM, key)
        assert aside.runs == 4

    run(main)
