"""What ends in rooms when a person is put out: their agents leave, their keys admit nobody, and the rooms stay."""

from __future__ import annotations

import pytest

from parlerd.core.model import PrincipalId, RoomId
from relay.expulsion import Ended, end_in_rooms
from tests.support.engine import engine_world, run


def test_agents_leave_the_rooms_that_they_do_not_own_and_keys_end() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await served.admit(opened, bob)
            desk = served.engine.desk
            room = RoomId(opened.room)
            principal = served.world.keys.principal
            assert await end_in_rooms(desk.rooms, [room], principal) == Ended(memberships=1, keys=1)
            state = (await (await desk.rooms.get(room)).quiet()).state
            assert {member.handle: member.present for member in state.members.values()} == {"alice": True, "bob": False}
            assert not state.closed
            assert all(key.revoked for key in state.keys.values())
            assert await end_in_rooms(desk.rooms, [room], principal) == Ended(memberships=0, keys=0)

    run(main)


@pytest.mark.parametrize("closed", [True, False])
def test_the_rooms_of_others_and_rooms_that_are_over_stay_as_they_are(closed: bool) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await served.admit(opened, bob)
            if closed:
                await alice.close()
            desk = served.engine.desk
            principal = served.world.keys.principal if closed else PrincipalId("ASOMEBODYELSE")
            before = served.world.store.head(RoomId(opened.room))
            assert await end_in_rooms(desk.rooms, [RoomId(opened.room)], principal) == Ended(0, 0)
            assert served.world.store.head(RoomId(opened.room)) == before

    run(main)
