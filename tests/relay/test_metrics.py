"""How a relay is, in numbers, and whether it is ready: true for its store, and without a name or an id."""

from __future__ import annotations

import msgspec
import pytest
import trio

from parlerd.core.errors import StoreError
from parlerd.core.model import Position, RoomId
from parlerd.engine.driver import ThreadDriver
from parlerd.store.port import MoveCursor
from parlerd.store.relays import Tenure
from relay.metrics import CountingDriver, Sample, rendered
from tests.support.facts import ANN, append, opened
from tests.support.faulty_store import FaultyStore


def test_a_relay_is_ready_while_its_store_takes_what_is_written() -> None:
    async def main() -> None:
        store = FaultyStore()
        driver = CountingDriver(ThreadDriver(store))
        try:
            states = [driver.is_sound]
            await driver.commit([MoveCursor(RoomId("r_1"), ANN, Position(0))])
            states.append(driver.is_sound)
            store.fail_next_commit("store_full")
            with pytest.raises(StoreError, match="store_full"):
                await driver.commit([MoveCursor(RoomId("r_2"), ANN, Position(0))])
            states.append(driver.is_sound)
            await driver.commit([MoveCursor(RoomId("r_3"), ANN, Position(0))])
            states.append(driver.is_sound)
            assert states == [True, True, False, True]
            store.refuse_next_appends()
            with pytest.raises(StoreError, match="stale_position"):
                await driver.commit([append(opened())])
            # The log moved on, and the store is as good as before.
            assert driver.is_sound
            assert (driver.commits, driver.failed, driver.stale) == (2, 1, 1)
            store.holds = lambda tenure: False
            late = msgspec.structs.replace(append(opened()), tenure=Tenure(1, "relay", "process", 1))
            with pytest.raises(StoreError, match="room_moved"):
                await driver.commit([late])
            # Nor does a room that is another relay's say anything of the store.
            assert driver.is_sound
            assert (driver.commits, driver.failed, driver.stale) == (2, 1, 2)
            assert driver.seconds > 0
        finally:
            await driver.close()

    trio.run(main)


def test_a_page_says_of_each_number_what_it_is() -> None:
    page = rendered([Sample("links", "gauge", "Links.", 3), Sample("commits_total", "counter", "Jobs.", 12_345_678.0)])
    assert page == (
        "# HELP parler_relay_links Links.\n# TYPE parler_relay_links gauge\nparler_relay_links 3\n"
        "# HELP parler_relay_commits_total Jobs.\n# TYPE parler_relay_commits_total counter\n"
        "parler_relay_commits_total 12345678\n"
    )
