"""The owner's home of a sealed room after an older copy of it was put in place, and what it does and does not sign: one
record for each number, and none on what it held then. And which keys and secrets are kept how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from parlerd.core.epoch_record import record_digest
from parlerd.core.errors import Refused
from parlerd.core.lifecycle import owners_of
from parlerd.core.model import AgentId, HomeId, Millis, Position, RoomId
from parlerd.core.statements import NONCE, SealingKey, encode
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import EraseBodies
from parlerd.uplink.arriving import records
from parlerd.uplink.secrets import FOLLOWED_MS, FRESH_MS
from parlerd.uplink.turning import USED_MS
from tests.support.engine import Party, run, settle
from tests.support.relayed import Home, copied, homes_of
from tests.uplink.test_sealed import Meeting, met
from tests.uplink.test_sealed_lies import entry, next_record
from tests.uplink.test_sealed_succeeding import newest, tell_alice, wait

DAY_S = 86_400


def restore(home: Home, store: MemoryStore) -> None:
    """Put an older copy of a home's store in place."""
    home.world.store = store


def made(home: Home, room: str) -> list[int]:
    """The numbers of the records that a home signed, one for each."""
    return [row.number for row in home.world.store.made_records(RoomId(room))]


def test_that_a_record_was_made_is_on_the_disk_before_it_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = meeting.opened.room
            assert made(meeting.ann, room) == [1, 2]
            state = (await meeting.room_of(meeting.ann)).state.epochs
            assert meeting.ann.world.store.made_records(RoomId(room))[-1].record == state.record
            assert made(meeting.ben, room) == []

    run(main)


@pytest.mark.parametrize("history", ["full", "from-join"])
def test_an_owner_whose_home_lost_its_newest_key_goes_on_with_a_new_one(tmp_path: Path, history: str) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with relay.serving(), meeting.ben.serving() as ben, cat.serving() as third:
            async with meeting.ann.serving() as ann:
                await meeting.open(ann, ben, history)
                await meeting.admit(meeting.bob, "bob")
                await meeting.alice.send("before the copy")
                assert await meeting.bob.read() == ["before the copy"]
                copy = copied(meeting.ann.world.store)
                # A fresh key, which the next record uses, and words under that.
                relay.clock.move(seconds=FRESH_MS / 1000)
                await wait()
                relay.clock.move(seconds=USED_MS / 1000)
                await wait()
                await meeting.alice.send("after the copy")
                assert await meeting.bob.read() == ["after the copy"]
            restore(meeting.ann, copy)
            async with meeting.ann.serving() as ann:
                meeting.ann_served, meeting.alice = ann, await ann.agent("alice")
                await meeting.alice.recv()
                await wait(60)
                number = (await meeting.room_of(meeting.ann)).state.epochs.number
                assert number == 4
                await meeting.alice.send("we go on")
                assert await meeting.bob.read() == ["we go on"]
                await meeting.bob.send("so do we")
                assert (await meeting.alice.read())[-1] == "so do we"
                # Nothing more is made for it.
                await wait(120)
                assert (await meeting.room_of(meeting.ann)).state.epochs.number == number
                carol, person = await third.agent("carol"), await ann.person()
                key = (await person.ask("room.invite", t.Invite(room=meeting.opened.room), t.Invited)).code
                waits = await carol.join(key)
                await person.approve("carol", join_code=waits.join_code)
                await wait()
                assert (await meeting.room_of(cat)).state.name == "auth-redesign"
                await meeting.alice.send("hello carol")
                assert (await carol.read())[-1] == "hello carol"
                assert (await meeting.room_of(meeting.ann)).state.contradicted == ""
                # What no link leads back to is looked for once.
                (link,) = cat.uplinks._links.values()
                pulls: list[t.PullEpochs] = []

                async def pull(wanted: t.PullEpochs) -> t.PulledEpochs:
                    pulls.append(wanted)
                    return await link.pull_epochs(wanted)

                state, me = (await meeting.room_of(cat)).state, AgentId((await carol.whoami()).id)
                for _ in range(2):
                    await link.mirrors.look_back(state.room, [bytes(32)], me, owners_of(state.lifecycle), pull)
                    assert len([wanted for wanted in pulls if wanted.wraps]) == 1

    run(main)


def test_a_restored_owner_hears_all_that_is_there_before_it_signs_a_record(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting = Meeting(wires, relay, home("ann"), home("ben"))
        async with relay.serving(), meeting.ben.serving() as ben:
            async with meeting.ann.serving() as ann:
                await meeting.open(ann, ben)
                await meeting.admit(meeting.bob, "bob")
                await meeting.alice.send("one")
                assert await meeting.bob.read() == ["one"]
                copy = copied(meeting.ann.world.store)
                relay.clock.move(seconds=USED_MS / 1000)
                await wait()
                (third,) = await meeting.ann.uplinks._turning.since(await meeting.room_of(meeting.ann), 2)
            restore(meeting.ann, copy)
            async with meeting.ann.serving() as ann:
                person = await ann.person()
                kick = t.KickMember(room=meeting.opened.room, agent="bob")
                # The very first that it does is to sign a record.
                await person.ask("room.kick", kick, t.MemberGone)
                await settle()
                mirror = await meeting.room_of(meeting.ann)
                assert mirror.state.epochs.number == 4
                assert made(meeting.ann, meeting.opened.room) == [1, 2, 4]
                assert mirror.state.contradicted == ""
                fourth = (await newest(meeting)).record
                assert fourth != third.record

    run(main)


def test_with_the_relay_out_of_reach_no_record_is_signed(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            meeting.wires.cut_off("ann")
            await settle()
            person = await meeting.ann_served.person()
            kick = t.KickMember(room=meeting.opened.room, agent="bob")
            assert (await person.refused("room.kick", kick)).code in ("offline", "home_unreachable")
            assert made(meeting.ann, meeting.opened.room) == [1, 2]

    run(main)


def test_nobody_is_put_out_whom_no_record_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a record says that an agent was put out, and did not leave: it would come back by any open key."""

    async def main() -> None:
        async with met(tmp_path) as meeting:

            async def none(*args: object, **changes: object) -> None:
                raise Refused("not_sealed_in")

            monkeypatch.setattr(meeting.ann.uplinks._turning, "following", none)
            person = await meeting.ann_served.person()
            kick = t.KickMember(room=meeting.opened.room, agent="bob")
            assert (await person.refused("room.kick", kick)).code == "not_sealed_in"
            await settle()
            assert "bob" in await meeting.alice.roster()

    run(main)


# -- the same key elsewhere --------------------------------------------------------------------------------


def test_a_record_with_the_owner_s_signature_that_its_home_did_not_make_is_found(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            foreign = await next_record(meeting)
            assert record_digest(foreign.record) not in {
                row.record for row in meeting.ann.world.store.made_records(RoomId(meeting.opened.room))
            }
            (link,) = meeting.ann.uplinks._links.values()
            await link.mirrors.take(t.LinkItem(room=meeting.opened.room, epoch=entry(foreign)))
            room = await meeting.room_of(meeting.ann)
            assert (room.state.contradicted, room.state.alarm) == ("key", "key_used_elsewhere")
            shown = await meeting.alice.ask("room.verify", t.CompareRoom(), t.RoomCompared)
            assert shown.alarm == "key_used_elsewhere"

    run(main)


def test_of_two_records_with_one_number_the_owner_says_who_signed_the_other(tmp_path: Path) -> None:
    """One that this home signed and that the relay refused may not be shown later: then the relay lied."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            foreign, own = await next_record(meeting), await next_record(meeting)
            turning, room = meeting.ann.uplinks._turning, await meeting.room_of(meeting.ann)
            refused = await turning.following(
                room, names=room.state.members[AgentId(await id_of(meeting.bob))].principal
            )
            assert refused is not None
            person = await meeting.ann_served.person()
            await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
            await settle()
            assert (await meeting.room_of(meeting.ann)).state.epochs.number == 3
            (link,) = meeting.ann.uplinks._links.values()
            for told, what in ((refused, "epoch"), (foreign, "key"), (own, "key")):
                mirror = await meeting.room_of(meeting.ann)
                mirror.state.lifecycle.contradicted = ""
                await link.mirrors.take(t.LinkItem(room=meeting.opened.room, epoch=entry(told)))
                assert (await meeting.room_of(meeting.ann)).state.contradicted == what

    run(main)


async def id_of(who: Party) -> str:
    return (await who.whoami()).id


# -- what is kept how long ---------------------------------------------------------------------------------


def keys(home: Home, agent: str) -> list[int]:
    """The counters of an agent's sealing keys at the relay."""
    rows = home.world.store.sealing_keys(HomeId(home.relay.keys.id))
    return [row.counter for row in rows if row.agent == agent]


@pytest.mark.parametrize(("history", "goes"), [("from-join", True), ("full", False)])
def test_an_old_sealing_key_goes_with_the_secrets_that_were_wrapped_to_it(
    tmp_path: Path, history: str, goes: bool
) -> None:
    async def main() -> None:
        async with met(tmp_path, history) as meeting:
            bob, room = await id_of(meeting.bob), RoomId(meeting.opened.room)
            await meeting.alice.send("one")
            assert await meeting.bob.read() == ["one"]
            first = keys(meeting.ben, bob)
            assert len(first) == 1
            meeting.relay.clock.move(seconds=FRESH_MS / 1000)
            await wait()
            meeting.relay.clock.move(seconds=USED_MS / 1000)
            await wait()
            # Words of the older epoch are here, so what opens them is too.
            assert keys(meeting.ben, bob)[:1] == first
            store = meeting.ben.world.store
            words = store.oldest_bodies(room, Position(0), 10)
            (outcome,) = store.transact([[EraseBodies(room, [position for position, _ in words])]])
            assert outcome.error is None
            await meeting.alice.send("two")
            assert await meeting.bob.read() == ["two"]
            meeting.relay.clock.move(seconds=USED_MS / 1000)
            await wait()
            secrets = [row.number for row in store.epoch_secrets(room)]
            assert (min(secrets) > 2) is goes
            # Somebody may have opened a direct room with it, and the relay may not have told of that yet.
            assert keys(meeting.ben, bob)[:1] == first
            for _ in range(4):
                # What lets an agent speak for its person lasts no month.
                meeting.relay.clock.move(seconds=FOLLOWED_MS / 4000)
                await wait()
            await meeting.alice.send("a month later")
            assert await meeting.bob.read() == ["a month later"]
            meeting.relay.clock.move(seconds=USED_MS / 1000)
            await wait()
            assert (keys(meeting.ben, bob)[:1] != first) is goes
            # What is left opens what is said.
            await meeting.alice.send("three")
            await meeting.alice.send("for bob", visible_to=("bob",))
            assert await meeting.bob.read() == ["three", "for bob"]

    run(main)


def test_while_an_agent_waits_to_be_let_in_none_of_its_keys_goes(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, "from-join") as meeting:
            bob = await id_of(meeting.bob)
            other = await meeting.alice.open("another", history="from-join")
            assert (await meeting.bob.join(other.session_key)).status == "pending"
            first = keys(meeting.ben, bob)
            (link,) = meeting.ben.uplinks._links.values()
            await link.mirrors._secrets._key(meeting.relay.keys.id, AgentId(bob), after=first[-1])
            assert await link.mirrors._oldest_key_needed(AgentId(bob)) == 0

    run(main)


# -- what a relay may tell of keys -------------------------------------------------------------------------


def drawn_key(meeting: Meeting) -> t.SealingKeyEntry:
    """The key of an agent that nobody heard of."""
    agent = AgentId(meeting.ben.keys.create_agent())
    key = SealingKey(
        home=meeting.relay.keys.id, agent=agent, key=b"k" * 32, counter=1, at=Millis(5), nonce=bytes(NONCE)
    )
    body = encode(key)
    return t.SealingKeyEntry(statement=body, signature=meeting.ben.keys.sign(agent, "parler/sealing-key", body))


def test_a_relay_that_draws_agents_with_keys_makes_a_mirror_grow_by_so_many_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            monkeypatch.setattr(records, "MAX_STRANGERS", 3)
            before = len((await meeting.room_of(meeting.ann)).state.epochs.told)
            drawn = [drawn_key(meeting) for _ in range(6)]
            room = await tell_alice(meeting, sealing_keys=drawn[:2])
            assert len(room.state.epochs.told) == before + 2
            room = await tell_alice(meeting, sealing_keys=drawn)
            assert len(room.state.epochs.told) == before + 3
            # Whoever knocks is let in as ever.
            carol = await meeting.bob_served.agent("carol")
            await meeting.admit(carol, "carol")
            assert len((await meeting.room_of(meeting.ann)).state.epochs.told) == before + 4

    run(main)
