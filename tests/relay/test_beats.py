"""A relay's beats: it decides while it beats, stops before it is dead to the others, and ends where another took its
place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from parlerd.core.errors import StoreError
from parlerd.groups import unwrapped
from parlerd.paths import Home, prepare
from parlerd.store.relays import DEAD_AFTER_S, Mark, Numbers, Row
from relay import seen as seen_file
from relay.beats import BEAT_S, DECIDES_S, Beats
from relay.seen import Seen

MARK = Mark(system="7", database=16_384, log="a" * 32, position=1_000)
ROW = Row("r1", "i1", "", "1.0")


class Rows:
    """The row of one relay, at a server that can be told to fail, and that moves on with each beat."""

    def __init__(self) -> None:
        self.fails = ""
        self.is_there = True
        self.mark = MARK
        self.addresses: list[str] = []
        self.left = 0
        self.counted = 0

    def beat(self, row: Row) -> tuple[bool, Mark]:
        if self.fails:
            raise StoreError(self.fails)
        self.addresses.append(row.address)
        self.mark = msgspec.structs.replace(self.mark, position=self.mark.position + 1)
        return self.is_there, self.mark

    def numbers(self) -> Numbers:
        if self.fails:
            raise StoreError(self.fails)
        self.counted += 1
        return Numbers(6, 0.5, self.counted)

    def leave(self, row: Row) -> None:
        if self.fails:
            raise StoreError(self.fails)
        self.left += 1


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "relay", explicit=True)
    prepare(found)
    return found


@pytest.fixture(autouse=True)
def _without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread does takes no virtual time, and virtual time does not wait for it."""

    async def here(work: Callable[..., object], *args: object, abandon_on_cancel: bool = False) -> object:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", here)


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


@asynccontextmanager
async def beating(home: Home, rows: Rows) -> AsyncIterator[Beats]:
    beats = Beats(rows, ROW, home, Seen(relay="r1", mark=MARK), began=trio.current_time(), now=trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beats.run)
        yield beats
        nursery.cancel_scope.cancel()


def test_a_relay_stops_deciding_before_it_is_dead_to_the_others() -> None:
    # It beats again and again before that, and what it handed over last has some seconds to end.
    assert 2 * BEAT_S < DECIDES_S < DEAD_AFTER_S - BEAT_S


def test_a_relay_that_beats_decides_and_keeps_the_newest_state_that_it_saw(home: Home) -> None:
    async def main() -> None:
        rows = Rows()
        async with beating(home, rows) as beats:
            beats.address = lambda: "10.0.0.7:7777"
            await trio.sleep(10 * BEAT_S + 1)
            assert beats.may_decide()
            assert (beats.sent, beats.missed) == (10, 0)
            # How the database is, is asked with the first beat and now and then.
            assert (rows.counted, beats.numbers) == (2, Numbers(6, 0.5, 2))
            assert rows.addresses == ["10.0.0.7:7777"] * 10
            assert seen_file.load(home) == Seen(relay="r1", mark=rows.mark)
            assert rows.mark.position == MARK.position + 10

    run(main)


def test_without_beats_it_decides_for_six_seconds_more_and_goes_on_by_itself(home: Home) -> None:
    async def main() -> None:
        rows = Rows()
        async with beating(home, rows) as beats:
            await trio.sleep(BEAT_S + 0.5)
            rows.fails = "store_unreachable"
            await trio.sleep(DECIDES_S - 0.6)
            assert beats.may_decide()
            await trio.sleep(0.2)
            assert not beats.may_decide()
            await trio.sleep(60)
            assert not beats.may_decide()
            assert beats.missed > 20
            rows.fails = ""
            await trio.sleep(BEAT_S)
            assert beats.may_decide()

    run(main)


def test_a_beat_counts_from_when_it_was_sent(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    async def late(work: Callable[..., object], *args: object, abandon_on_cancel: bool = False) -> object:
        answer = work(*args)
        await trio.sleep(5)
        return answer

    async def main() -> None:
        async with beating(home, Rows()) as beats:
            monkeypatch.setattr(trio.to_thread, "run_sync", late)
            await trio.sleep(BEAT_S + 5.5)
            assert beats.sent == 1
            assert beats.seconds_since == pytest.approx(5.5)

    run(main)


@pytest.mark.parametrize("code", ["store_in_use", "store_went_back"])
def test_where_another_took_its_place_or_the_database_went_back_it_ends(home: Home, code: str) -> None:
    async def main() -> None:
        rows = Rows()
        made: list[Beats] = []
        try:
            async with beating(home, rows) as beats:
                made.append(beats)
                await trio.sleep(BEAT_S + 0.5)
                if code == "store_in_use":
                    rows.is_there = False
                else:
                    rows.mark = msgspec.structs.replace(rows.mark, position=5)
                await trio.sleep(BEAT_S)
        except ExceptionGroup as group:
            error = unwrapped(group)
            assert isinstance(error, StoreError)
            assert error.code == code
        else:
            raise AssertionError("it went on")
        assert not made[0].may_decide()
        kept = seen_file.load(home)
        assert kept is not None
        assert kept.mark is not None
        assert kept.mark.position == MARK.position + 1

    run(main)


def test_a_relay_that_ends_takes_its_row_away_and_decides_no_more(home: Home) -> None:
    async def main() -> None:
        rows = Rows()
        async with beating(home, rows) as beats:
            beats.end()
            assert rows.left == 1
            assert not beats.may_decide()
            rows.fails = "store_unreachable"
            beats.end()

    run(main)
