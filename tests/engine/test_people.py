"""People who may open links: what is left of one who is sent away."""

from __future__ import annotations

import pytest

from parlerd.core.errors import Refused
from tests.support.engine import World, engine_world, run
from tests.support.linked import Elsewhere


def test_whoever_is_enrolled_is_so_after_a_restart_and_one_who_was_sent_away_too() -> None:
    async def main() -> None:
        world, mia, zoe = World(), Elsewhere("mia"), Elsewhere("zoe")
        async with world.serving() as served:
            people = served.engine.people
            assert people.find(mia.principal) is None
            for person in (mia, zoe, mia):
                await people.enrol(person.principal, person.name)
            await people.put_out(zoe.principal)
        async with world.serving() as served:
            people = served.engine.people
            assert [(person.name, person.kicked) for person in people.all()] == [("mia", False), ("zoe", True)]
            assert people.find(zoe.principal) == people.all()[1]

    run(main)


def test_one_who_is_sent_away_is_in_no_room_and_their_keys_let_nobody_in() -> None:
    async def main() -> None:
        async with engine_world() as served:
            people = served.engine.people
            alice = await served.agent("alice")
            opened, other = await alice.open("one", context=""), await alice.open("two", context="")
            mia, zoe = Elsewhere("mia"), Elsewhere("zoe")
            for person in (mia, zoe):
                await people.enrol(person.principal, person.name)
            link, other_link = await mia.link(served, "ann", "bea"), await zoe.link(served, "zed")
            for name, room in (("ann", opened), ("bea", opened), ("ann", other)):
                await link.enter(name, room)
            await other_link.enter("zed", opened)
            await people.put_out(mia.principal)
            assert await people.take_away(mia.principal) == (3, 0)
            assert (await link.refused("link.post", mia.envelope("ann", opened.room, "x"))).code == "no_such_room"
            await other_link.post("zed", opened.room, "still here")
            assert await people.take_away(mia.principal) == (0, 0)
            # The person whose rooms these are: the key of each, and an agent that owns neither.
            bob = await served.agent("bob")
            await served.admit(opened, bob)
            assert await people.take_away(served.world.keys.principal) == (1, 2)
            await other_link.post("zed", opened.room, "alone")
            roster = await alice.roster(opened.room)
            assert {name for name, member in roster.items() if member.state == "member"} == {"alice", "zed"}

    run(main)


def test_nobody_is_sent_away_who_was_never_here() -> None:
    async def main() -> None:
        async with engine_world() as served:
            with pytest.raises(Refused, match="Nobody with this key"):
                await served.engine.people.put_out(Elsewhere("mia").principal)

    run(main)
