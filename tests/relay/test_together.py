"""Several relays over one store: to people at any of them it is one, also where one of them dies or is drained."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from parlerd.core.model import RoomId
from tests.support.engine import Party, run, texts
from tests.support.many_relays import Cluster, Node


class Meeting:
    """Ann's alice is at the first relay and Ben's bob at the second. They share a room of the relay `owner`."""

    def __init__(self, cluster: Cluster, first: Node, second: Node, alice: Party, bob: Party) -> None:
        self.cluster, self.first, self.second = cluster, first, second
        self.alice, self.bob = alice, bob

    async def share(self, owner: Node, ann: Party) -> str:
        """A room of this relay's with both in it."""
        opened = await self.alice.open("a room", "hello")
        while not owner.holding.has(RoomId(opened.room)):
            opened = await self.alice.open("another room", "hello")
        waits = await self.bob.join(opened.session_key)
        await ann.approve("bob", join_code=waits.join_code)
        await self.bob.come_in(opened.session_key)
        return opened.room


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Cluster, Node, Node]]:
    """Two relays that share the rooms."""
    cluster = Cluster(folder)
    first, second = cluster.relay(), cluster.relay()
    async with cluster.running(first), cluster.running(second):
        await cluster.settled()
        yield cluster, first, second


def test_two_relays_share_the_rooms_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (_, first, second):
            assert first.holding.shards + second.holding.shards == 1024
            assert min(first.holding.shards, second.holding.shards) > 400

    run(main)


def test_words_go_both_ways_between_daemons_at_different_relays(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (cluster, first, second):
            async with cluster.home("ann", first).serving() as ann, cluster.home("ben", second).serving() as ben:
                meeting = Meeting(cluster, first, second, await ann.agent("alice"), await ben.agent("bob"))
                for owner in (first, second):
                    await meeting.share(owner, await ann.person())
                    async with trio.open_nursery() as nursery:
                        heard: list[str] = []

                        async def wait() -> None:
                            heard.extend(await meeting.bob.read(wait=60))

                        nursery.start_soon(wait)
                        await trio.sleep(1)
                        await meeting.alice.send("take token rotation, please")
                    assert heard == ["take token rotation, please"]
                    await meeting.bob.send("on it")
                    assert texts(await meeting.alice.recv(wait=60)) == ["on it"]

    run(main)
