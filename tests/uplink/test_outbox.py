"""What waits for a home elsewhere: kept as it was asked for, within bounds, and there after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from parlerd.core import commands as c
from parlerd.core.envelope import DEFAULT_OFFER_MS, DataPart, HandoffPart, TextPart
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, By, HomeId, MessageId, Millis, PrincipalId, RoomId, Shown
from parlerd.engine.authors import Draft
from parlerd.uplink import outbox as module
from parlerd.uplink.outbox import Outbox, request_of, row_of
from tests.support.engine import World, run

TEAM, ROOM = HomeId("N" + "A" * 55), RoomId("r_far")
ANN = By(AgentId("U" + "A" * 55), PrincipalId("A" + "P" * 55), "w1", "codex", "mcp", pid=7, program="node")


def _command(id: str = "m_1") -> c.PostMessage:
    return c.PostMessage(
        operation="handoff.give",
        idempotency_key=f"k-{id}",
        input=b"digest",
        kind="handoff",
        id=MessageId(id),
        to=("ben",),
        taker="cat",
        visibility=("ben", "cat"),
        reply_to=MessageId("m_0"),
        turn="offered",
        ttl_ms=DEFAULT_OFFER_MS,
    )


def _draft(text: str = "hello") -> Draft:
    return Draft((TextPart(text), DataPart({"a": [1, None]}), HandoffPart("next", target="cat")), Shown(4, bytes(32)))


def test_a_request_comes_back_as_it_was_asked_for_without_the_process_behind_it() -> None:
    row = row_of(TEAM, ROOM, _command(), ANN, _draft(), Millis(9))
    command, by, draft = request_of(row)
    assert (command, draft) == (_command(), _draft())
    assert by == By(ANN.actor, ANN.principal, "w1", "codex", "mcp")
    assert (row.message, row.home, row.room, row.agent, row.key, row.at) == ("m_1", TEAM, ROOM, ANN.actor, "k-m_1", 9)


@asynccontextmanager
async def _outbox(world: World) -> AsyncIterator[Outbox]:
    async with world.serving() as served:
        outbox = Outbox(TEAM, served.engine.desk.library)
        await outbox.load()
        yield outbox


def test_what_was_put_is_there_after_a_restart_in_its_order() -> None:
    async def main() -> None:
        world = World()
        async with _outbox(world) as outbox:
            for id in ("m_3", "m_1", "m_2"):
                await outbox.put(row_of(TEAM, ROOM, _command(id), ANN, _draft(), Millis(1)))
            await outbox.refuse(MessageId("m_1"), "room_closed")
            await outbox.refuse(MessageId("m_9"), "room_closed")
            await outbox.drop(MessageId("m_3"))
            await outbox.drop(MessageId("m_3"))
            assert outbox.waiting == 1
        async with _outbox(world) as outbox:
            assert [(row.message, row.refused) for row in outbox] == [("m_1", "room_closed"), ("m_2", "")]
            assert outbox.waiting == 1
            assert outbox.get(MessageId("m_3")) is None

    run(main)


def test_an_outbox_is_bounded_in_messages_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(module, "MAX_MESSAGES", 2)
        async with _outbox(World()) as outbox:
            rows = [row_of(TEAM, ROOM, _command(id), ANN, _draft(), Millis(1)) for id in ("m_1", "m_2", "m_3")]
            await outbox.put(rows[0])
            await outbox.put(rows[1])
            with pytest.raises(Refused) as full:
                await outbox.put(rows[2])
            assert full.value.code == "outbox_full"
            await outbox.put(rows[1])
            await outbox.drop(MessageId("m_1"))
            await outbox.put(rows[2])
            monkeypatch.setattr(module, "MAX_MESSAGES", 10)
            monkeypatch.setattr(module, "MAX_BYTES", sum(len(row.request) for row in rows[1:]) + 100)
            with pytest.raises(Refused):
                await outbox.put(row_of(TEAM, ROOM, _command("m_4"), ANN, _draft("x" * 200), Millis(1)))
            assert [row.message for row in outbox] == ["m_2", "m_3"]

    run(main)


def test_the_bounds_hold_for_what_is_put_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(module, "MAX_MESSAGES", 2)
        async with _outbox(World()) as outbox:
            refused: list[str] = []

            async def put(id: str) -> None:
                try:
                    await outbox.put(row_of(TEAM, ROOM, _command(id), ANN, _draft(), Millis(1)))
                except Refused as error:
                    refused.append(error.code)

            async with trio.open_nursery() as nursery:
                for id in ("m_1", "m_2", "m_3"):
                    nursery.start_soon(put, id)
            assert refused == ["outbox_full"]
            kept = list(outbox)
            assert outbox._bytes == sum(len(row.request) for row in kept)
            for row in kept:
                await outbox.drop(row.message)
            assert outbox._bytes == 0

    run(main)
