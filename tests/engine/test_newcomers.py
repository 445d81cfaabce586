"""How agents come to be that come over HTTP: one at a time in a room, each with a key and a seat of its own."""

from __future__ import annotations

import pytest
import trio

from parlerd.core.errors import Refused
from parlerd.core.model import RoomId
from parlerd.engine.newcomers import HOST, Newcomers, name_of, require_free
from tests.support.engine import SlowDriver, World, engine_world, run

ROOM = RoomId("r_one")


@pytest.mark.parametrize("text", [".", "..", "", "owner", "a b", "x" * 65])
def test_a_name_that_leads_elsewhere_in_a_path_or_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        name_of(text)
    assert refused.value.code == "invalid_name"


def test_a_name_of_a_member_and_of_whoever_waits_is_taken_and_that_of_whoever_was_denied_is_not() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = [await served.agent(name) for name in ("alice", "bob", "carol")]
            opened = await alice.open()
            await bob.join(opened.session_key)
            state = (await served.engine.rooms.get(RoomId(opened.room))).aggregate.state
            for name in ("alice", "bob"):
                with pytest.raises(Refused) as refused:
                    require_free(state, name)
                assert refused.value.code == "agent_exists"
            require_free(state, "carol")
            await carol.join(opened.session_key)
            await alice.deny("carol")
            require_free(state, "carol")

    run(main)


def test_two_who_are_made_at_once_have_two_names_two_keys_and_two_seats() -> None:
    async def main() -> None:
        async with World(driver=SlowDriver).serving() as served:
            newcomers, made = Newcomers(served.engine.desk), list[tuple[str, str, str, int]]()

            async def make() -> None:
                record = await newcomers.create("bot", ROOM)
                made.append((record.id, record.name, record.host, record.slot))

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(make)
            assert [each[1:] for each in made] == [("bot", HOST, 0), ("bot-2", HOST, 1), ("bot-3", HOST, 2)]
            assert len({each[0] for each in made}) == 3
            assert {each[0] for each in made} <= set(served.world.keys.ids)

    run(main)


def test_one_comes_into_a_room_at_a_time_and_nobody_waits_for_another_room() -> None:
    async def main() -> None:
        async with engine_world() as served:
            newcomers, inside, most = Newcomers(served.engine.desk), list[str](), list[int]()

            async def come(room: str) -> None:
                async with newcomers.one_at_a_time(RoomId(room)):
                    inside.append(room)
                    most.append(inside.count(room))
                    await trio.sleep(1)
                    inside.remove(room)

            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for room in ("r_a", "r_b", "r_a", "r_b"):
                    nursery.start_soon(come, room)
            assert max(most) == 1
            assert trio.current_time() - began == pytest.approx(2)

    run(main)
