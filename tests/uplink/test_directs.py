"""Direct messages between two machines: who is found at a relay, what a relay cannot do, and what waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import commands as c
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import HOME_ROOM, AgentId, By, HomeId, Millis, RoomId
from parlerd.core.statements import (
    MAX_MOMENT,
    NONCE,
    SUITE,
    KeyTerms,
    KnockStatement,
    Opening,
    Title,
    encode,
    room_id_of,
    title_digest,
)
from parlerd.engine.callers import Caller
from parlerd.engine.driver import Job, Settle
from parlerd.engine.engine import Engine
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t
from parlerd.store.port import Append
from parlerd.uplink.homes import Homes
from parlerd.uplink.link import Link
from tests.support.engine import Party, PlugDriver, Served, gather, run, settle, texts
from tests.support.faces import PassingFace
from tests.support.message_streams import MemoryStream
from tests.support.relayed import Home, NamedRandomness, Relay, RelayKeys, Wires, homes_of
from tests.uplink.test_relayed import Meeting, meeting_in


async def carded(served: Served, name: str, **said: Any) -> Party:
    who = await served.agent(name)
    await who.ask("directory.register", t.Register(**{"visibility": "public", **said}), t.Registered)
    return who


async def to(who: Party, name: str, text: str = "got a minute?", **rest: Any) -> t.Sent:
    sent = await who.send(text, to=(name,), **rest)
    await settle()
    return sent


async def not_to(who: Party, name: str) -> ParlerError:
    return await who.refused("message.send", t.Send(text="got a minute?", to=(name,)))


def link_of(home: Any) -> Link:
    [link] = home.uplinks._links.values()
    assert isinstance(link, Link)
    return link


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Meeting, Served, Served]]:
    """A relay and the daemons of two people who know it and no session."""
    meeting = meeting_in(folder)
    async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
        yield meeting, ann, ben


def test_a_name_is_looked_for_here_first_and_a_home_behind_it_picks_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (meeting, ann, ben):
            alice = await carded(ann, "alice")
            await alice.open("notes", home="local")
            here, there = await carded(ann, "planner", home="local"), await carded(ben, "planner")
            home = link_of(meeting.ann).name
            assert (await to(alice, "planner")).room == (await here.rooms())[0].room
            sent = await to(alice, f"planner@{home}")
            assert texts(await there.recv()) == ["got a minute?"]
            (room,) = await there.rooms()
            assert (room.room, room.kind, room.home) == (sent.room, "dm", home)
            # Two of this name are known here from now on.
            error = await not_to(alice, "planner")
            assert error.code == "ambiguous_name"
            assert sorted(error.details["candidates"]) == sorted(["planner@local", f"planner@{home}"])
            assert (await to(alice, "planner@local")).room == (await here.rooms())[0].room

    run(main)


def disk_of(relay: Engine) -> PlugDriver:
    disk = relay.desk.library._driver
    assert isinstance(disk, PlugDriver)
    return disk


def test_who_is_written_to_comes_into_a_room_that_a_relay_with_a_slow_disk_still_stores(tmp_path: Path) -> None:
    """A new link is told of the room as soon as the relay knows whose it is, before the relay has opened it."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.driver = PlugDriver
        async with meeting.relay.serving() as relay, meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob")
            async with trio.open_nursery() as nursery:
                disk_of(relay).lag = 2.0
                nursery.start_soon(to, alice, "bob")
                await trio.sleep(2.5)
                meeting.wires.cut_off("ben")
                await trio.sleep(0.1)
                meeting.wires.bring_back("ben")
                await trio.sleep(25)
                disk_of(relay).lag = 0.0
            assert texts(await bob.recv()) == ["got a minute?"]

    run(main)


class _NoRoom(PlugDriver):
    """While it `is_armed` this disk takes what a home notes of itself, and nothing of a room."""

    is_armed = False

    def hand_over(self, job: Job, settled: Settle) -> None:
        of_rooms = any(isinstance(write, Append) and write.room != HOME_ROOM for write in job)
        self.is_full = self.is_armed and of_rooms
        super().hand_over(job, settled)


def test_a_room_of_two_that_a_relay_could_not_store_gives_way_to_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.driver = _NoRoom
        async with meeting.relay.serving() as relay, meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob")
            disk = disk_of(relay)
            assert isinstance(disk, _NoRoom)
            disk.is_armed = True
            error = await alice.refused("message.send", t.Send(text="one", to=("bob",), idempotency_key="one"))
            assert error.spec.retryable
            disk.is_armed = False
            theirs = await to(bob, "alice", "two")
            ours = await to(alice, "bob", "one", idempotency_key="one")
            assert ours.room == theirs.room
            assert texts(await bob.recv(room=ours.room, all=True)) == ["two", "one"]

    run(main)


def test_two_of_one_name_at_a_relay_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(relay.serving())
            ann, ben, cat = [await stack.enter_async_context(home(name).serving()) for name in ("ann", "ben", "cat")]
            alice = await carded(ann, "alice")
            planners = [await carded(served, "planner") for served in (ben, cat)]
            ids = [(await planner.whoami()).id for planner in planners]
            error = await not_to(alice, "planner")
            assert (error.code, sorted(error.details["candidates"])) == ("ambiguous_name", sorted(ids))
            await to(alice, ids[1])
            assert texts(await planners[1].recv()) == ["got a minute?"]
            assert await planners[0].rooms() == []

    run(main)


def test_who_was_away_comes_into_the_room_when_its_daemon_is_back(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            alice = await carded(ann, "alice")
            async with meeting.ben.serving() as ben:
                await carded(ben, "bob")
            sent = await to(alice, "bob")
            assert (sent.awaits, sent.queued) == ("bob", False)
            async with meeting.ben.serving() as ben:
                bob = await ben.agent("bob")
                await bob.whoami()
                await trio.sleep(30)
                assert texts(await bob.recv()) == ["got a minute?"]
                assert (await to(bob, "alice", "yes")).room == sent.room
                assert texts(await alice.recv(all=True)) == ["got a minute?", "yes"]

    run(main)


def test_a_room_is_not_opened_while_the_relay_is_away_and_later_messages_wait(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            async with meeting.relay.serving():
                alice, bob = await carded(ann, "alice"), await carded(ben, "bob")
                carol = await carded(ann, "carol")
                sent = await to(alice, "bob", "one")
            await trio.sleep(60)
            error = await not_to(carol, "bob")
            assert error.code == "no_such_agent"
            assert link_of(meeting.ann).name in error.hint
            assert await carol.rooms() == []
            late = await to(alice, "bob", "two")
            assert (late.room, late.queued, late.opened is True) == (sent.room, True, False)
            async with meeting.relay.serving():
                await trio.sleep(120)
                assert texts(await bob.recv(room=sent.room, all=True)) == ["one", "two"]
                assert (await to(carol, "bob")).opened is True

    run(main)


def test_where_the_two_share_a_room_that_is_enough_and_a_relay_that_is_away_opens_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            async with meeting.relay.serving():
                await meeting.meet(ann, ben)
                await meeting.alice.open("another", clear=True)
            await trio.sleep(60)
            error = await not_to(meeting.alice, "bob")
            assert error.code == "offline"
            async with meeting.relay.serving():
                await trio.sleep(120)
                sent = await to(meeting.alice, "bob")
                assert texts(await meeting.bob.recv(room=sent.room)) == ["got a minute?"]

    run(main)


def test_the_answer_to_a_request_outlives_the_daemon_and_the_sender_learns_of_no_refusal(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            alice = await carded(ann, "alice")
            async with meeting.ben.serving() as ben:
                await carded(ben, "bob", direct="ask")
                sent = await to(alice, "bob")
                await (await ben.person()).deny("alice")
            async with meeting.ben.serving() as ben:
                bob = await ben.agent("bob")
                assert (await to(alice, "bob", "please")).awaits == "bob"
                await trio.sleep(30)
                assert await bob.rooms() == []
                person = await ben.person()
                assert (await person.ask("approvals.list", t.ListApprovals(), t.RequestList)).requests == []
                await person.approve("alice")
                assert texts(await bob.recv(room=sent.room)) == ["got a minute?", "please"]

    run(main)


# -- on two relays -----------------------------------------------------------------------------------------

OTHER = "wss://192.0.2.8:7777"


class Crossing(Wires):
    """The way to one relay, and behind another address to a second one."""

    def __init__(self, other: Wires) -> None:
        super().__init__()
        self._other = other

    @asynccontextmanager
    async def dial(self, address: str, home: str = "") -> AsyncIterator[MemoryStream]:
        way = self._other.dial(address, home) if address == OTHER else super().dial(address, home)
        async with way as stream:
            yield stream


class _BusyOnce(PassingFace):
    """Cannot take the first knock now."""

    def __init__(self, engine: EngineFace) -> None:
        super().__init__(engine)
        self.is_busy = True

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        if op == "link.knock" and self.is_busy:
            self.is_busy = False
            raise Refused("room_busy")
        return await super().call(op, params, caller)


def test_whom_a_relay_cannot_let_in_now_comes_in_over_the_same_link(tmp_path: Path) -> None:
    meeting = meeting_in(tmp_path)
    meeting.relay.face = _BusyOnce

    async def main() -> None:
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob")
            sent = await to(alice, "bob")
            assert await bob.rooms() == []
            dialled = meeting.wires.dialled
            await trio.sleep(60)
            assert texts(await bob.recv(room=sent.room)) == ["got a minute?"]
            assert meeting.wires.dialled == dialled

    run(main)


def test_whom_a_person_lets_in_while_the_relay_cannot_comes_in_over_the_same_link(tmp_path: Path) -> None:
    meeting = meeting_in(tmp_path)
    meeting.relay.face = _BusyOnce

    async def main() -> None:
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob", direct="ask")
            sent = await to(alice, "bob")
            dialled = meeting.wires.dialled
            assert (await (await ben.person()).approve("alice")).status == "approved"
            assert await bob.rooms() == []
            await trio.sleep(60)
            assert texts(await bob.recv(room=sent.room)) == ["got a minute?"]
            assert meeting.wires.dialled == dialled

    run(main)


def test_what_a_person_answers_while_the_relay_is_away_counts_and_the_agent_comes_in_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (meeting, ann, ben):
            alice, ask = await carded(ann, "alice"), await carded(ben, "bob", direct="ask")
            sent = await to(alice, "bob")
            person = await ben.person()
            meeting.wires.cut()
            await settle()
            assert (await person.approve("alice")).status == "approved"
            assert (await ask.rooms()) == []
            meeting.wires.mend()
            await trio.sleep(90)
            assert texts(await ask.recv(room=sent.room)) == ["got a minute?"]

    run(main)


@asynccontextmanager
async def on_two_relays(folder: Path, *defaults: str) -> AsyncIterator[tuple[list[Party], Wires, Wires]]:
    """Ann's alice and Ben's bob, who know two relays, and the way to each of these; each person's sessions open on the
    one of `defaults`."""
    beside = Relay(Wires(), keys=RelayKeys("other"), random=NamedRandomness("other"))
    relay = Relay(Crossing(beside.wires), clock=beside.clock)
    homes = [Home(name, relay, folder) for name in ("ann", "ben")]
    for home, default in zip(homes, defaults, strict=True):
        beside.book.enrolled.add(home.keys.principal)
        Homes(home.file).add(beside.keys.id, "side", OTHER, beside.keys.id, default=default == "side")
    async with AsyncExitStack() as stack:
        for each in (relay, beside):
            await stack.enter_async_context(each.serving())
        served = [await stack.enter_async_context(home.serving()) for home in homes]
        parties = [await carded(each, name) for each, name in zip(served, ("alice", "bob"), strict=True)]
        yield parties, relay.wires, beside.wires


async def home_of(who: Party, room: str) -> str:
    [home] = [each.home for each in await who.rooms() if each.room == room]
    return home.partition("-")[0]


@pytest.mark.parametrize("default", ["team", "side"])
def test_where_the_two_know_each_other_on_two_relays_the_room_is_where_sessions_open(
    tmp_path: Path, default: str
) -> None:
    async def main() -> None:
        async with on_two_relays(tmp_path, default, default) as ((alice, bob), _, _):
            for who in (alice, bob):
                listed = await who.ask("homes.list", t.ListHomes(), t.HomeList)
                for name in [home.name for home in listed.homes if home.name != "local"]:
                    await who.ask("directory.register", t.Register(home=name), t.Registered)
            sent = await to(alice, "bob")
            assert await home_of(alice, sent.room) == await home_of(bob, sent.room) == default
            assert (await to(bob, "alice")).room == sent.room

    run(main)


def test_two_who_write_to_each_other_on_two_relays_at_once_go_on_in_one_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with on_two_relays(tmp_path, "team", "side") as ((alice, bob), team, side):
            # Each finds the other where the other's card is, and neither hears of the room that the other opens.
            team.cut_off("ann")
            side.cut_off("ben")
            sent: list[t.Sent] = []

            async def write(who: Party, name: str) -> None:
                sent.append(await who.send("first", to=(name,)))

            await gather(partial(write, alice, "bob"), partial(write, bob, "alice"))
            assert len({each.room for each in sent}) == 2
            team.bring_back("ann")
            side.bring_back("ben")
            await trio.sleep(120)
            for who in (alice, bob):
                assert {room.members for room in await who.rooms()} == {2}
            later = [await to(alice, "bob", "later"), await to(bob, "alice", "later")]
            assert later[0].room == later[1].room == min(each.room for each in sent)
            for who in (alice, bob):
                assert texts(await who.recv(room=later[0].room, all=True)) == ["first", "later", "later"]

    run(main)


# -- what is signed and asked by hand ----------------------------------------------------------------------


async def opening(
    served: Served,
    link: Link,
    agent: AgentId,
    other: AgentId,
    *,
    kind: Any = "dm",
    n: int = 0,
    clear: bool = False,
) -> tuple[RoomId, t.OpenRemoteRoom]:
    """What `agent` of this home asks to open a room that names `other`, as a program of its own would: a `clear` one
    that the relay can read, as an earlier version does, or a sealed one."""
    keys = served.world.keys
    title = Title(salt=bytes(NONCE), name="dm", topic="")
    opened = Opening(
        home=link.home,
        kind=kind,
        history="full",
        owner=agent,
        principal=keys.principal,
        handle="alice",
        host="",
        approval=True,
        approver="person",
        title=title_digest(encode(title)),
        sealed=msgspec.UNSET if clear else SUITE,
        nonce=bytes([n] * NONCE),
    )
    body = encode(opened)
    room = room_id_of(body)
    terms = encode(
        KeyTerms(
            home=link.home,
            room=room,
            ref="peer",
            gated=True,
            expires_at=Millis(MAX_MOMENT),
            max_uses=1,
            preapproved=(other,),
            nonce=bytes(NONCE),
        )
    )
    epoch: t.EpochTold | None = None
    if not clear:
        made = link.sealed._turning.first(opened, room, title, await link.sealed._secrets.told_key(link.home, agent))
        epoch = link.sealed._turning.told(made)
    return room, t.OpenRemoteRoom(
        opening=body,
        opening_signature=keys.sign(keys.principal, "parler/opening", body),
        title=encode(title) if clear else b"",
        session_key=keys.session_key(room, 8 if clear else 6),
        terms=terms,
        terms_signature=keys.sign(keys.principal, "parler/key", terms),
        idempotency_key=f"by-hand-{n}",
        epoch=epoch,
    )


async def ids(*parties: Party) -> list[AgentId]:
    return [AgentId((await party.whoami()).id) for party in parties]


def test_a_relay_opens_no_direct_room_to_whom_the_opener_cannot_see_and_none_beside_that_of_the_two(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with two(tmp_path) as (meeting, ann, ben):
            alice, bob, dora = await carded(ann, "alice"), await carded(ben, "bob"), await ben.agent("dora")
            await dora.ask("directory.register", t.Register(), t.Registered)
            me, seen, hidden = await ids(alice, bob, dora)
            link = link_of(meeting.ann)
            for n, (other, code) in enumerate(
                [(hidden, "no_such_agent"), (AgentId("U" + "A" * 55), "no_such_agent"), (me, "statement_refused")]
            ):
                _, params = await opening(ann, link, me, other, n=n)
                with pytest.raises(Refused) as refused:
                    await link.call("link.open", params, by=me)
                assert refused.value.code == code
            sent = await to(alice, "bob")
            _, params = await opening(ann, link, me, seen, n=9)
            with pytest.raises(Refused) as refused:
                await link.call("link.open", params, by=me)
            assert (refused.value.code, refused.value.details["room"]) == ("pair_has_room", sent.room)

    run(main)


def test_nobody_finds_a_direct_room_or_knocks_there_whom_it_does_not_name(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        third = home("cat")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(relay.serving())
            ann, ben, cat = [
                await stack.enter_async_context(each.serving()) for each in (home("ann"), home("ben"), third)
            ]
            alice, _ = await carded(ann, "alice"), await carded(ben, "bob")
            carol = await carded(cat, "carol")
            sent = await to(alice, "bob")
            link, [me] = link_of(third), await ids(carol)
            for room in (sent.room, "r_" + "a" * 32):
                with pytest.raises(Refused) as refused:
                    await link.call("link.find", t.FindKey(room=room, agent=me), by=me)
                assert refused.value.code == "unknown_key"
            keys = cat.world.keys
            knock = encode(
                KnockStatement(
                    home=link.home,
                    room=RoomId(sent.room),
                    ref="peer",
                    agent=me,
                    principal=keys.principal,
                    name="carol",
                    host="",
                    at=cat.world.clock.now(),
                    nonce=bytes(NONCE),
                )
            )
            signature = keys.sign(me, "parler/knock", knock)
            with pytest.raises(Refused) as refused:
                await link.call(
                    "link.knock", t.KnockAtRoom(session_key="", statement=knock, signature=signature), by=me
                )
            assert refused.value.code == "unknown_key"
            assert set(await alice.roster(sent.room)) == {"alice", "bob"}

    run(main)


def test_a_relay_that_calls_another_room_a_direct_one_brings_nobody_in(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving() as relay, meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob")
            me, other = await ids(alice, bob)
            link, home = link_of(meeting.ann), HomeId(link_of(meeting.ann).home)
            # A session whose key names Bob: whoever opened it would have him in it, and a relay may help.
            room, params = await opening(ann, link, me, other, kind="session", clear=True)
            await link.call("link.open", params, by=me)
            pair = c.PairAgents(one=me, other=other, room=room)
            await relay.rooms.home.submit(pair, By(me, ann.world.keys.principal, "", "", "link"))
            with pytest.raises(Refused) as refused:
                await meeting.ben.uplinks.find_direct(home, room, other)
            assert (refused.value.code, refused.value.details["what"]) == ("relay_equivocation", "kind")
            assert await bob.rooms() == []

    run(main)
