"""A database server that is killed again and again while people write: what was answered is there once and in order,
and what failed may be tried again with the same key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from parlerd.core.errors import ParlerError
from tests.scenario.test_memory import together
from tests.support import postgres as pg
from tests.support.engine import Party, texts
from tests.support.homes import Place, database_home
from tests.support.postgres import Postgres
from tests.tools.postgres.server import Version

WRITERS = 4
KILLS = 4
BETWEEN_S = 0.4
T = TypeVar("T")


async def insist(call: Callable[[], Awaitable[T]], failed: list[str]) -> T:
    """Do something again as long as it fails in a way that allows this; `failed` gets the codes."""
    while True:
        try:
            return await call()
        except ParlerError as error:
            if not error.spec.retryable:
                raise
            failed.append(error.code)
            await trio.sleep(0.05)


async def everything(party: Party) -> list[str]:
    found: list[str] = []
    page = await party.recv(all=True, limit=500)
    while True:
        found += texts(page)
        if not page.more:
            return found
        page = await party.recv(since=page.messages[-1].seq, limit=500)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "version", pg.majors(), ids=lambda version: f"postgres-{version.major if version else 'missing'}"
)
def test_a_server_that_is_killed_again_and_again_loses_and_doubles_nothing(
    version: Version | None, tmp_path: Path
) -> None:
    with pg.serving(version) as own, own.database(pg.with_tables) as database:
        answered, read, failed = play(own, database, tmp_path)
    assert sorted(read) == sorted(answered)
    for writer in range(WRITERS):
        mine = [text for text in read if text.startswith(f"{writer}.")]
        assert mine == [text for text in answered if text.startswith(f"{writer}.")]
    # Somebody was in the middle of something.
    assert failed


def play(own: Postgres, database: pg.Database, folder: Path) -> tuple[list[str], list[str], list[str]]:
    """What was answered, what a reader is shown in the end, and the codes of what failed meanwhile."""
    answered: list[str] = []
    read: list[str] = []
    failed: list[str] = []

    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        before = len(await everything(bob))
        done = trio.Event()

        async def write(writer: int) -> None:
            who = alice if writer % 2 else bob
            for n in count():
                if done.is_set():
                    break
                text = f"{writer}.{n}"
                await insist(partial(who.send, text, idempotency_key=f"key {text}"), failed)
                answered.append(text)

        async def kill() -> None:
            for _ in range(KILLS):
                await trio.sleep(BETWEEN_S)
                await trio.to_thread.run_sync(own.server.kill)
                await trio.to_thread.run_sync(own.server.start)
            await trio.sleep(BETWEEN_S)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            for writer in range(WRITERS):
                nursery.start_soon(write, writer)
        read.extend((await insist(partial(everything, bob), failed))[before:])

    database_home(folder, database.relay).play(story)
    return answered, read, failed
