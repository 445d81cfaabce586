"""The check of a home: quiet when all is well, and naming what is not and the way back."""

from __future__ import annotations

import pytest

from parlerd.core.model import MessageId, Position, RoomId, Sighted
from parlerd.engine import checks
from parlerd.engine.sightings import LATE_MS
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from tests.support.engine import (
    engine_world,
    run,
)

YEAR_S = 365 * 86_400


class Damaged(MemoryStore):
    """A store whose own check or whose chains may not be sound."""

    problems: tuple[str, ...] = ()
    broken: RoomId | None = None

    def check(self) -> list[str]:
        return list(self.problems)

    def verify_chain(self, room: RoomId) -> Position | None:
        return Position(3) if room == self.broken else super().verify_chain(room)


def test_a_check_is_quiet_when_all_is_well_and_names_what_is_not_and_the_fix() -> None:
    async def main() -> None:
        store = Damaged()
        async with engine_world(store=store) as served:
            (alice,) = await served.room("alice")
            room = (await alice.rooms())[0].room

            async def checks() -> dict[str, t.Check]:
                found = await alice.ask("daemon.check", t.CheckStore(), t.CheckList)
                return {check.name: check for check in found.checks}

            assert all(check.ok and not check.fix for check in (await checks()).values())
            store.problems = ("row 7 is missing",)
            store.broken = RoomId(room)
            found = await checks()
            assert not found["store"].ok
            assert "row 7" in found["store"].detail
            assert room in found["chain"].detail
            assert "backup" in found["store"].fix
            assert "backup" in found["chain"].fix

    run(main)


def test_a_check_finds_a_signature_that_is_none_and_names_the_fact() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with engine_world(store=store) as served:
            (alice,) = await served.room("alice")
            sent = await alice.send("one")
            found = store.find_message(MessageId(sent.id))
            assert found is not None
            room, position = found
            body, _ = store._logs[room].bodies[position]
            store._logs[room].bodies[position] = body, bytes(64)
            checks = (await alice.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            (wrong,) = [check for check in checks if not check.ok]
            assert wrong.name == "signatures"
            assert f"room {room}: fact {position}" in wrong.detail
            assert "backup" in wrong.fix

    run(main)


def test_a_check_says_how_many_signatures_it_had_no_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SIGNATURES_S", 0.0)

    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            checks = (await alice.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            (signatures,) = [check for check in checks if check.name == "signatures"]
            assert signatures.ok
            assert signatures.detail.startswith("0 facts")
            assert "older ones were not looked at" in signatures.detail

    run(main)


def test_a_check_names_rooms_whose_messages_are_dated_ahead_and_the_way_back() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await alice.open("fine")
            served.world.clock.move(seconds=10 * YEAR_S)
            room = (await alice.send("from the future", room="auth-redesign")).room
            served.world.clock.move(seconds=-10 * YEAR_S)

            async def named() -> list[t.Check]:
                checks = (await alice.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
                return [check for check in checks if not check.ok]

            (check,) = await named()
            assert check.name == "clock"
            assert room in check.detail
            assert check.fix.endswith(f"parler session close --room {room}")
            await alice.close(room)
            assert await named() == []

    run(main)


def test_a_check_names_what_was_read_and_shown_to_no_model_where_records_are_watched() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            lost, shown = await alice.send("one"), await alice.send("two")
            await bob.recv()

            async def tell(id: str, verdict: Sighted, reason: str) -> None:
                told = t.TellSights(sights=(t.SightTold(id=id, verdict=verdict, reason=reason),))
                await served.engine.handlers["window.sighted"](bob.caller, told)

            async def said() -> list[t.Check]:
                found = await alice.ask("daemon.check", t.CheckStore(), t.CheckList)
                return [check for check in found.checks if check.name == "sight"]

            await tell(lost.id, "not_shown", "failed_request")
            await tell(shown.id, "shown", "reply")
            assert await said() == [], "nothing is watched, so nothing is said"
            served.engine.desk.sightings.hosts = frozenset({"codex"})
            (line,) = await said()
            assert line.ok
            assert "codex" in line.detail
            served.world.clock.move(seconds=LATE_MS / 1000)
            _, named = await said()
            assert not named.ok
            assert lost.id in named.detail
            assert "failed" in named.detail
            assert f"parler why {lost.id}" in named.fix
            served.world.clock.move(seconds=checks.DAY_MS / 1000)
            assert len(await said()) == 1, "what is older than a day is no news"

    run(main)
