"""Whom the machine of a sealed room's owner lets read, where a relay and somebody who owned the room agree on more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from parlerd.core.epoch_record import EpochRecord, record_digest
from parlerd.core.errors import Refused
from parlerd.core.lifecycle import owners_of
from parlerd.core.model import AgentId, Millis, Position, RequestId, RoomId
from parlerd.core.statements import NONCE, DecisionStatement, SealingKey, encode
from parlerd.identity import sealing
from parlerd.operations import types as t
from tests.support.engine import run, settle
from tests.support.relayed import Home
from tests.uplink.test_sealed import Meeting, met
from tests.uplink.test_sealed_lies import entry, next_record, tell


def let_in(meeting: Meeting, by: Home, handle: str) -> tuple[AgentId, t.Card]:
    """An agent that nobody of the room knows, and the card by which the relay says that it is in, by a decision that
    the person of this home signed."""
    keys, home, room = by.keys, meeting.relay.keys.id, RoomId(meeting.opened.room)
    agent, principal = AgentId(keys.create_agent()), keys.principal
    decision = encode(
        DecisionStatement(
            home=home,
            room=room,
            request=RequestId("q_invented"),
            agent=agent,
            principal=principal,
            handle=handle,
            admit=True,
            proof="cli",
            at=Millis(5),
            nonce=bytes(NONCE),
        )
    )
    key = encode(
        SealingKey(
            home=home,
            agent=agent,
            key=sealing.new_key(meeting.ann.world.random.bytes).public,
            counter=1,
            at=Millis(5),
            nonce=bytes(NONCE),
        )
    )
    member = t.MemberEntry(
        agent=agent,
        principal=principal,
        handle=handle,
        host="",
        role="",
        present=True,
        joined_at=5,
        proof=decision,
        proof_signature=keys.sign(principal, "parler/decision", decision),
    )
    told = t.SealingKeyEntry(statement=key, signature=keys.sign(agent, "parler/sealing-key", key))
    return agent, t.Card(whole=False, home=home, members=[member], sealing_keys=[told], moves=99)


async def held_by_next(meeting: Meeting, home: Home, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Under which handles agents are in the roster that the next record of this home leads to; it is made though nobody
    waits for it."""
    turning, room = home.uplinks._turning, await meeting.room_of(home)
    with monkeypatch.context() as patched:
        patched.setattr(turning, "_is_used_up", lambda room, now: True)
        told = await turning.following(room)
    assert told is not None
    record = msgspec.msgpack.decode(told.record, type=EpochRecord)
    handles = {agent: entry.handle for agent, entry in room.state.epochs.roster.items() if agent not in record.removed}
    return sorted({**handles, **{each.agent: each.handle for each in record.added}}.values())


def test_who_owned_the_room_once_lets_nobody_read_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            person = await meeting.ann_served.person()
            await person.ask("room.transfer", t.TransferRoom(room=meeting.opened.room, agent="bob"), t.OwnedRoom)
            await settle()
            mallory, card = let_in(meeting, meeting.ann, "mallory")
            (link,) = meeting.ben.uplinks._links.values()
            link.sealed._turned.add(RoomId(meeting.opened.room))
            room = await tell(meeting, card=card)
            assert room.state.members[mallory].present
            assert room.state.contradicted == ""
            assert await held_by_next(meeting, meeting.ben, monkeypatch) == ["alice", "bob"]
            # Whom the person decides on who owns it now, reads.
            _, card = let_in(meeting, meeting.ben, "trent")
            await tell(meeting, card=card)
            assert await held_by_next(meeting, meeting.ben, monkeypatch) == ["alice", "bob", "trent"]

    run(main)


def test_who_owned_the_room_once_brings_nobody_a_secret_of_its_own(tmp_path: Path) -> None:
    """As the newest record, from which whoever looks back walks to those before."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = RoomId(meeting.opened.room)
            person = await meeting.ann_served.person()
            await person.ask("room.transfer", t.TransferRoom(room=room, agent="bob"), t.OwnedRoom)
            await settle()
            mirror = await meeting.room_of(meeting.ben)
            state, bob = mirror.state, mirror.state.owner
            signed = entry(await next_record(meeting))
            record = msgspec.msgpack.decode(signed.record, type=EpochRecord)
            assert (record.number, bob in state.epochs.roster) == (state.epochs.number + 1, True)

            async def pull(wanted: t.PullEpochs) -> t.PulledEpochs:
                if wanted.upto > record.number:
                    raise Refused("stale_epoch", number=record.number, what="upto")
                return t.PulledEpochs(epochs=[signed])

            (link,) = meeting.ben.uplinks._links.values()
            owners = owners_of(state.lifecycle)
            assert [owner.record for owner in owners] == [0, 2]
            await link.mirrors.look_back(room, [bytes(32)], bob, owners, pull)
            assert link.mirrors._secrets.epoch(room, record_digest(signed.record)) is None

    run(main)


def test_more_than_a_room_takes_wait_and_keep_nobody_from_being_put_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("core.epoch_record", "uplink.turning"):
        monkeypatch.setattr(f"parlerd.{module}.MAX_SEALED_MEMBERS", 2)

    async def main() -> None:
        async with met(tmp_path) as meeting:
            for name in ("carol", "dave"):
                _, card = let_in(meeting, meeting.ann, name)
                (link,) = meeting.ann.uplinks._links.values()
                await link.mirrors.take(t.LinkItem(room=meeting.opened.room, card=card))
            room = await meeting.room_of(meeting.ann)
            waiting = room.epochs.waiting()
            assert waiting is not None
            assert len(waiting.entering) == 2
            turning = meeting.ann.uplinks._turning
            assert await turning.following(room) is None
            bob = next(agent for agent in room.state.epochs.roster if agent != room.state.owner)
            told = await turning.following(room, puts_out=bob)
            assert told is not None
            record = msgspec.msgpack.decode(told.record, type=EpochRecord)
            assert (record.removed, [each.agent for each in record.added]) == ((bob,), list(waiting.entering[:1]))

    run(main)


def test_of_many_records_a_few_are_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parlerd.uplink.turning.AT_ONCE", 2)

    async def main() -> None:
        async with met(tmp_path) as meeting:
            person, key = await meeting.ann_served.person(), meeting.opened.session_key
            bob = AgentId((await meeting.bob.whoami()).id)
            for _ in range(2):
                await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
                await settle()
                waits = await meeting.bob.join(key)
                await person.approve("bob", join_code=waits.join_code)
                await settle()
            await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
            await settle()
            room = await meeting.room_of(meeting.ann)
            turning, library = meeting.ann.uplinks._turning, meeting.ann.uplinks._desk.library
            turning._marks.clear()
            bodies, asked = library.bodies, list[int]()

            async def few(name: RoomId, positions: Iterable[Position]) -> Any:
                places = list(positions)
                asked.append(len(places))
                return await bodies(name, places)

            monkeypatch.setattr(library, "bodies", few)
            assert await turning.was_put_out(room, bob, room.state.members[bob].principal)
            assert sum(asked) == len(room.state.epochs.turned) == 7
            assert max(asked) == 2

    run(main)
