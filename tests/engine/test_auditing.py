"""The audit of a whole log, part by part."""

from __future__ import annotations

import msgspec
import pytest

from parlerd.core.model import Position, RoomId
from parlerd.engine import auditing
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from tests.support.engine import Party, engine_world, run


class Damaged(MemoryStore):
    """A store of which one thing or another may not be sound."""

    broken = unlined = 0

    def verify_chain(self, room: RoomId) -> Position | None:
        return Position(self.broken) if self.broken else super().verify_chain(room)

    def first_unlined(self, room: RoomId) -> Position | None:
        return Position(self.unlined) if self.unlined else super().first_unlined(room)


async def audited(who: Party, room: str, after: int = 0) -> t.AuditedRoom:
    return await who.ask("log.audit", t.AuditRoom(room=room, after=after), t.AuditedRoom)


def test_every_log_is_named_and_checked_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "PART", 5)
    monkeypatch.setattr(auditing, "SLICE", 2)

    async def main() -> None:
        async with engine_world() as served:
            alice, _ = await served.room("alice", "bob")
            for n in range(7):
                await alice.send(str(n))
            logs = (await alice.ask("log.list", t.ListLogs(), t.LogList)).rooms
            assert {"home", (await alice.rooms())[0].room} == set(logs)
            for room in logs:
                after = -1
                while True:
                    part = await audited(alice, room, max(0, after))
                    assert (part.fact, part.wrong) == (None, None)
                    assert part.upto - max(0, after) <= 5
                    if part.upto == part.end:
                        break
                    after = part.upto
                assert (await audited(alice, room, 10_000)).upto == part.end
            assert (await alice.refused("log.audit", t.AuditRoom(room="r_none"))).code == "no_such_room"

    run(main)


def test_the_first_fact_that_is_wrong_is_named_with_what_is_wrong() -> None:
    async def main() -> None:
        store = Damaged()
        async with engine_world(store=store) as served:
            (alice,) = await served.room("alice")
            sent = await alice.send("one")
            await alice.send("two")
            room = RoomId(sent.room)
            place = store.find_message(sent.id)  # type: ignore[arg-type]
            assert place is not None
            store.unlined = 7
            assert (await audited(alice, room)).wrong == "own_line"
            store.broken = 3
            found = await audited(alice, room)
            assert (found.fact, found.wrong) == (3, "chain")
            store.broken = store.unlined = 0
            log = store._logs[room]
            body, _ = log.bodies[place[1]]
            log.bodies[place[1]] = (body, bytes(64))
            found = await audited(alice, room)
            assert (found.fact, found.wrong) == (place[1], "signature")

    run(main)


def test_an_own_line_that_does_not_go_on_is_found_where_it_is() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with engine_world(store=store) as served:
            (alice,) = await served.room("alice")
            sent = [await alice.send(text) for text in ("one", "two")]
            room = RoomId(sent[0].room)
            place = store.find_message(sent[1].id)  # type: ignore[arg-type]
            assert place is not None
            lines = store._logs[room].lines
            lines[place[1]] = lines[place[1]]._replace(line=bytes(32))
            found = await audited(alice, room)
            assert (found.fact, found.wrong) == (place[1], "own_line")
            assert msgspec.json.encode(found)

    run(main)
