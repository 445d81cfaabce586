"""The links of the stories: in the worst weather a link does to what is sent over it what TCP may do, and no more. A
story in which a link does anything else shows nothing about the programs at its ends."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Final

import trio

from parlerd.connections.stream import StreamEnded
from tests.sim.loop import play
from tests.sim.weather import TimedStream, Way, Weather

LINKS: Final = 200
BURST: Final = 4
"""How many messages are sent in one turn of the loop: as many as the network takes at once."""
PAUSE_S: Final = 60.0
"""Virtual seconds between two bursts: more than the slowest burst is under way."""


def test_what_arrives_over_a_link_is_the_beginning_of_what_was_sent() -> None:
    arrived = play(0, _conversations)
    assert [numbers for numbers in arrived if numbers != list(range(len(numbers)))] == []
    assert {len(numbers) for numbers in arrived} >= set(range(3 * BURST)), "the links broke off at too few places"


async def _conversations() -> list[list[int]]:
    """Both ends of each link send numbers in bad weather. What each end received until its link broke off."""
    weather = Weather(0)
    weather.calm = False
    arrived: list[list[int]] = []
    async with trio.open_nursery() as weather_and_ends:
        weather.clocks = weather_and_ends
        for seed in range(LINKS):
            way = Way(weather, Random(seed), "home")
            for end in (way.ours, way.theirs):
                arrived.append([])
                weather_and_ends.start_soon(_send, end)
                weather_and_ends.start_soon(_hear, end, arrived[-1])
    return arrived


async def _send(end: TimedStream) -> None:
    number = 0
    with suppress(StreamEnded):
        while True:
            for _ in range(BURST):
                end.put(str(number).encode())
                number += 1
            await trio.sleep(PAUSE_S)


async def _hear(end: TimedStream, arrived: list[int]) -> None:
    while (message := await end.receive()) is not None:
        arrived.append(int(message))
