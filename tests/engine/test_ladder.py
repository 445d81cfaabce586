"""Where a message got to."""

from __future__ import annotations

import msgspec

from parlerd.core.model import AgentId, Millis, RoomId
from parlerd.operations import types as t
from parlerd.store.port import MarkDelivery
from tests.support.engine import engine_world, run


def test_the_ladder_climbs_from_stored_to_acted_with_times_and_says_where_it_stopped() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            sent = await alice.send("one")
            began = served.world.clock.ms

            async def ladder() -> t.ReaderLadder:
                found = await alice.ask("message.why", t.Why(id=sent.id), t.WhyResult)
                (reader,) = found.readers
                return reader

            assert [(step.stage, step.at) for step in (await ladder()).stages] == [("stored", began)]
            assert "not read" in str((await ladder()).stopped)
            served.world.clock.move(seconds=1)
            page = await bob.recv()
            assert "not acknowledged" in str((await ladder()).stopped)
            served.world.clock.move(seconds=1)
            await bob.commit(page)
            served.world.clock.move(seconds=1)
            await bob.send("done", reply_to=sent.id)
            assert [(step.stage, step.at - began) for step in (await ladder()).stages] == [
                ("stored", 0),
                ("read", 1000),
                ("acknowledged", 2000),
                ("acted", 3000),
            ]
            assert (await ladder()).stopped is msgspec.UNSET

    run(main)


def test_a_reader_sees_its_own_ladder_alone_and_a_stranger_no_message() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            stranger = await served.agent("dan")
            sent = await alice.send("one")
            await bob.recv()
            assert set(await alice.why(sent.id)) == {"bob", "carol"}
            assert await carol.why(sent.id) == {"carol": ["stored"]}
            bodies = {
                msgspec.json.encode((await stranger.refused("message.why", t.Why(id=id))).body())
                for id in (sent.id, "m_none", "\u202e", "x" * 64)
            }
            assert len(bodies) == 1

    run(main)


def test_a_private_messages_ladder_names_its_readers_alone() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, bob, carol, _ = await served.room("alice", "bob", "carol", "dan")
            sent = await bob.send("x", visible_to=("carol",))
            assert await bob.why(sent.id) == {"carol": ["stored"]}
            assert await carol.why(sent.id) == {"carol": ["stored"]}

    run(main)


def test_a_mark_that_was_made_up_tells_of_nobody_to_whom_nothing_can_have_been_shown() -> None:
    """What is on record as shown is what a reader may see there, whoever wrote into the database."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            stranger = await served.agent("dan")
            room = RoomId((await alice.rooms())[0].room)
            gone = (await carol.whoami()).id
            await carol.call("room.leave", t.LeaveAsMember(room=room))
            hidden, later = await alice.send("for bob", visible_to=("bob",)), await alice.send("for those who are here")
            end = served.world.store.head(room).position
            marked = [
                MarkDelivery(room, AgentId(who), "read", upto=end, at=Millis(served.world.clock.ms))
                for who in (gone, (await stranger.whoami()).id, "UNOBODY")
            ]
            (outcome,) = served.world.store.transact([marked])
            assert outcome.error is None
            await bob.recv()
            told = await alice.ask("message.disclosures", t.ListDisclosures(), t.Disclosures)
            shown = {each.id: [reader.name for reader in each.shown] for each in told.messages}
            assert (shown[hidden.id], shown[later.id]) == (["bob"], ["bob"])
            assert set(await alice.why(later.id)) == {"bob"}

    run(main)
