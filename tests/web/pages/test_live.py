"""What happens while somebody looks on, as events of a stream."""

from __future__ import annotations

import json
import re
from typing import Any

import trio
import trio.testing

from parlerd.operations import types as t
from parlerd.web.pages.live import BOARD_WAIT_MS
from parlerd.web.streaming import BREATH_S
from tests.support.browsing import Browser, looking
from tests.support.engine import run
from tests.support.http import Client


async def begun(browser: Browser, room: str) -> Client:
    found = re.search(r'data-after="([^"]+)"', await browser.see(f"GET rooms/{room}"))
    assert found is not None
    return await browser.follow(f"GET rooms/{room}/live?after={found[1]}")


async def until(client: Client, wanted: str) -> tuple[dict[str, Any], bytes]:
    """The data of the next event with rows of this list, and everything that came before it."""
    before = b""
    while True:
        piece = await client.piece()
        assert piece, before
        before += piece
        if piece.startswith(b"event: rows"):
            found: dict[str, Any] = json.loads(piece.partition(b"data: ")[2])
            if found["list"] == wanted:
                return found, before


def words(rows: list[dict[str, Any]], field: str) -> list[str]:
    return ["".join(text for text, _ in row["fields"][field]) for row in rows if field in row["fields"]]


def test_messages_and_who_comes_are_rows_behind_those_that_are_there() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice = await looked.home.agent("alice")
            opened = await alice.open("auth redesign", "ctx", approval=False)
            browser, _ = await looked.opened(opened.room)
            client = await begun(browser, opened.room)
            bob = await looked.home.agent("bob")
            await bob.join(opened.session_key)
            found, _ = await until(client, "log")
            assert found["add"] is True
            assert words(found["rows"], "did") == ["came in"]
            await bob.send("hello")
            found, _ = await until(client, "log")
            assert words(found["rows"], "words") == ["hello"]

    run(main)


def test_the_lists_beside_the_messages_come_whole_when_they_change() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, bob = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            browser, _ = await looked.opened(room)
            client = await begun(browser, room)
            found, _ = await until(client, "members")
            assert "add" not in found
            assert words(found["rows"], "name") == ["alice", "bob"]
            write = t.SetState(key="phase", value="two", idempotency_key="k")
            await bob.ask("state.set", write, t.StateWritten)
            while True:
                found, _ = await until(client, "state")
                if found["rows"]:
                    break
            assert (words(found["rows"], "name"), words(found["rows"], "value")) == (["phase"], ['"two"'])
            await bob.send("rename the flag", kind="task")
            while True:
                found, _ = await until(client, "tasks")
                if found["rows"]:
                    break
            assert words(found["rows"], "name") == ["rename the flag"]

    run(main)


def test_a_stream_in_which_nothing_happens_breathes() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            browser, _ = await looked.opened(room)
            client = await begun(browser, room)
            await until(client, "actions")
            began = trio.current_time()
            pieces = [await client.piece() for _ in range(8)]
            assert b":\n\n" in pieces
            assert trio.current_time() - began <= 8 * max(BREATH_S, BOARD_WAIT_MS / 1000)

    run(main)


def test_whoever_goes_away_leaves_nothing_under_way() -> None:
    async def main() -> None:
        async with looking() as looked:
            alice, _ = await looked.home.room("alice", "bob", topic="auth redesign")
            room = (await alice.rooms())[0].room
            browser, opened = await looked.opened(room)
            client = await begun(browser, room)
            assert looked.home.engine.viewers.count(opened.info.id) == 1
            await client.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert looked.home.engine.viewers.count(opened.info.id) == 0

    run(main)
