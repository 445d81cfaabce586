"""Several relays over one store: to people at any of them it is one, also where one of them dies or is drained."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.events import KINDS
from parlerd.core.model import HOME_ROOM, AgentId, Position, PrincipalId, RoomId
from parlerd.core.room import Room
from parlerd.core.shards import shard_of, shares
from parlerd.core.turning import EpochsState
from parlerd.engine import authority, quota
from parlerd.engine.admitting import OPENS_S, TURN_S
from parlerd.engine.callers import Caller, Facts
from parlerd.engine.driver import Job, Settle
from parlerd.engine.join_codes import CODE_PAUSE_S
from parlerd.engine.rooms import fold
from parlerd.engine.throttle import CALLER_BURST
from parlerd.identity.codes import read_key
from parlerd.identity.signatures import SigningKey
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.store.counts import Ask
from parlerd.store.port import Append
from parlerd.store.relays import DEAD_AFTER_S, Row, Seen, SharedOut, Tenure
from parlerd.uplink.lanes import mirror_of
from parlerd.uplink.secrets import FRESH_MS
from parlerd.uplink.turning import USED_MS
from parlerd.wire.messages import Item
from relay import routing
from relay.beats import DECIDES_S
from relay.metrics import Metrics
from relay.newest import LOOK_S
from relay.peers import Away, Lost
from relay.routing import WITHIN_S
from tests.support.engine import Party, Served, run, texts
from tests.support.many_relays import DEAD_S, Cluster, Node, NodeDriver, cluster_in
from tests.support.message_streams import MemoryStream
from tests.support.relayed import Home

LEASE_S = 60.0


class Meeting:
    """Ann's alice is at one relay and Ben's bob at another, and they share a room of the relay `owner`."""

    def __init__(self, cluster: Cluster, ann: Home, ben: Home) -> None:
        self.cluster = cluster
        self.homes = ann, ben
        self.alice: Party
        self.bob: Party
        self.room = RoomId("")
        self.key = ""
        """The session key of the room."""
        self.served: tuple[Served, Served]

    async def meet(
        self, ann: Served, ben: Served, owner: Node, is_good: Callable[[RoomId], bool] = lambda room: True
    ) -> None:
        self.alice, self.bob = await ann.agent("alice"), await ben.agent("bob")
        opened = await self.alice.open("a room", "hello", clear=True)
        while not (owner.holding.has(RoomId(opened.room)) and is_good(RoomId(opened.room))):
            opened = await self.alice.open("another room", "hello", clear=True)
        self.room, self.key, self.served = RoomId(opened.room), opened.session_key or "", (ann, ben)
        waits = await self.bob.join(opened.session_key)
        await (await ann.person()).approve("bob", join_code=waits.join_code)
        await self.bob.come_in(opened.session_key)

    async def heard(self, count: int, *, within: float = 240) -> list[str]:
        """The next messages that bob hears, so many."""
        found: list[str] = []
        with trio.move_on_after(within):
            while len(found) < count:
                found += texts(page := await self.bob.recv(wait=60))
                await self.bob.commit(page)
        return found

    def said(self) -> list[str]:
        """The ids of the messages in the log of the room, in order."""
        facts = self.cluster.store.facts(self.room, Position(0), 10_000)
        return [fact.event.id for fact in facts if isinstance(fact.event, e.MessagePosted)]

    def facts(self, kind: type) -> list[e.Header]:
        facts = self.cluster.store.facts(self.room, Position(0), 10_000)
        return [fact for fact in facts if isinstance(fact.event, kind)]


@asynccontextmanager
async def running(folder: Path, count: int, **settings: int) -> AsyncIterator[tuple[Cluster, list[Node]]]:
    """So many relays that share the rooms, with these settings."""
    async with cluster_in(folder) as cluster:
        cluster.settings = Settings(**settings)  # type: ignore[arg-type]
        nodes = [cluster.relay() for _ in range(count)]
        for node in nodes:
            await cluster.start(node)
        await cluster.settled()
        yield cluster, nodes


@asynccontextmanager
async def met(
    folder: Path, owner: int = 0, at: tuple[int, int] = (0, 1), count: int = 2, **settings: int
) -> AsyncIterator[Meeting]:
    """A meeting, with everything running: Ann's and Ben's daemons at the relays `at`, and the room at `owner`."""
    async with running(folder, count, **settings) as (cluster, nodes):
        meeting = Meeting(cluster, cluster.home("ann", nodes[at[0]]), cluster.home("ben", nodes[at[1]]))
        async with meeting.homes[0].serving() as ann, meeting.homes[1].serving() as ben:
            await meeting.meet(ann, ben, nodes[owner])
            yield meeting


# -- sharing out -------------------------------------------------------------------------------------------


def test_relays_share_the_rooms_out_and_a_relay_that_comes_gets_its_part(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 2) as (cluster, nodes):
            assert sum(node.holding.shards for node in nodes) == 1024
            assert min(node.holding.shards for node in nodes) > 400
            await cluster.start(third := cluster.relay())
            await cluster.settled()
            assert third.holding.shards > 250
            await cluster.stop(third)
            await cluster.settled()
            assert sum(node.holding.shards for node in nodes) == 1024

    run(main)


# -- one relay to everybody --------------------------------------------------------------------------------


@pytest.mark.parametrize(("owner", "at"), [(0, (0, 1)), (1, (0, 1)), (2, (0, 1)), (1, (0, 0))])
def test_words_go_both_ways_whoever_has_the_room(tmp_path: Path, owner: int, at: tuple[int, int]) -> None:
    async def main() -> None:
        async with met(tmp_path, owner, at, count=3) as meeting:
            async with trio.open_nursery() as nursery:
                heard: list[str] = []

                async def wait() -> None:
                    heard.extend(await meeting.bob.read(wait=60))

                nursery.start_soon(wait)
                await trio.sleep(1)
                await meeting.alice.send("take token rotation, please")
            assert heard == ["take token rotation, please"]
            sent = await meeting.bob.send("on it")
            page = await meeting.alice.recv(wait=60)
            assert texts(page) == ["on it"]
            assert (page.messages[0].verified, page.messages[0].id) == ("valid", sent.id)

    run(main)


@pytest.mark.parametrize("owner", [0, 1])
def test_a_sealed_room_goes_on_whichever_relay_has_it(tmp_path: Path, owner: int) -> None:
    """Its records, fresh keys and old records come to the relay of the room, from daemons at another one."""

    async def main() -> None:
        async with running(tmp_path, 2) as (cluster, nodes):
            homes = cluster.home("ann", nodes[0]), cluster.home("ben", nodes[0])
            async with homes[0].serving() as ann, homes[1].serving() as ben:
                alice, bob, person = await ann.agent("alice"), await ben.agent("bob"), await ann.person()
                opened = await alice.open("a room", "hello")
                while not nodes[owner].holding.has(RoomId(opened.room)):
                    opened = await alice.open("another room", "hello")

                async def state_of(home: Home) -> EpochsState:
                    actor = await mirror_of(home.uplinks._desk, RoomId(opened.room))
                    return (await actor.quiet()).state.epochs

                await alice.send("before bob came")
                waits = await bob.join(opened.session_key)
                await person.approve("bob", join_code=waits.join_code)
                await trio.sleep(30)
                page = await bob.come_in(opened.session_key)
                # The words of an epoch that is over are read by what the relay of the room tells of older records.
                assert [message.text for message in page.messages] == ["hello", "before bob came"]
                await bob.send("for alice", visible_to=("alice",))
                assert texts(await alice.recv(wait=60)) == ["for alice"]
                before_a_day = max(told.counter for told in (await state_of(homes[0])).told.values())
                cluster.clock.move(seconds=FRESH_MS / 1000)
                await trio.sleep(60)
                cluster.clock.move(seconds=USED_MS / 1000 - FRESH_MS / 1000)
                await trio.sleep(60)
                state = await state_of(homes[0])
                assert state.number == 3
                assert min(seat.counter for seat in state.roster.values()) > before_a_day
                await person.ask("room.kick", t.KickMember(room=opened.room, agent="bob"), t.MemberGone)
                await trio.sleep(30)
                assert len((await state_of(homes[0])).roster) == 1

    run(main)


def test_what_many_say_at_once_arrives_once_and_in_the_order_of_each(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=1) as meeting:

            async def say(who: Party, name: str) -> None:
                for number in range(40):
                    await who.send(f"{name} {number}")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(say, meeting.alice, "alice")
                nursery.start_soon(say, meeting.bob, "bob")
            heard = await meeting.heard(40)
            assert heard == [f"alice {number}" for number in range(40)]
            assert len(set(meeting.said())) == len(meeting.said()) == 81

    run(main)


def test_whoever_is_there_is_present_to_members_at_another_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=0, at=(0, 1)) as meeting:
            await meeting.bob.send("here")
            await trio.sleep(30)
            roster = await meeting.alice.roster()
            [bob] = [member for member in roster.values() if member.name == "bob"]
            assert bob.presence != "offline"

    run(main)


def test_how_far_somebody_read_is_known_at_the_relay_of_the_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=0, at=(0, 1)) as meeting:
            sent = await meeting.alice.send("look")
            assert await meeting.heard(1) == ["look"]
            await trio.sleep(30)
            assert "read" in (await meeting.alice.why(sent.id))["bob"]

    run(main)


# -- where a relay dies ------------------------------------------------------------------------------------


def test_where_the_relay_of_a_room_dies_another_answers_and_nothing_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=2, at=(0, 1), count=3) as meeting:
            before = await meeting.alice.send("before")
            assert await meeting.heard(1) == ["before"]
            dead = meeting.cluster.nodes[2]
            meeting.cluster.kill(dead)
            began = trio.current_time()
            after = await meeting.alice.send("after")
            assert await meeting.heard(1) == ["after"]
            # An answer may be that a message waits at the daemon's; that it was heard says that the room goes on.
            assert trio.current_time() - began < DEAD_S + 5
            assert meeting.said()[-2:] == [before.id, after.id]

    run(main)


def test_daemons_of_a_relay_that_died_go_to_another_and_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=0, at=(0, 1)) as meeting:
            await meeting.alice.send("before")
            assert await meeting.heard(1) == ["before"]
            meeting.cluster.kill(meeting.cluster.nodes[0])
            await meeting.bob.send("are you there?")
            await trio.sleep(2 * DEAD_S)
            assert texts(await meeting.alice.recv(wait=120)) == ["are you there?"]
            await meeting.alice.send("yes")
            assert await meeting.heard(1) == ["yes"]

    run(main)


def test_every_message_of_a_take_over_arrives_once_and_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=2, at=(0, 1), count=3) as meeting:

            async def say() -> None:
                for number in range(60):
                    await meeting.alice.send(f"{number}")
                    await trio.sleep(0.5)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(say)
                await trio.sleep(5.2)
                meeting.cluster.kill(meeting.cluster.nodes[2])
                heard = await meeting.heard(60)
            assert heard == [f"{number}" for number in range(60)]
            assert len(set(meeting.said())) == len(meeting.said()) == 61

    run(main)


@pytest.mark.parametrize("seed", range(3))
def test_relays_that_are_killed_stopped_and_cut_again_and_again_lose_and_double_nothing(
    tmp_path: Path, seed: int
) -> None:
    async def main() -> None:
        draw = random.Random(seed)
        async with met(tmp_path, owner=2, at=(0, 1), count=3) as meeting:
            cluster, sent = meeting.cluster, 0
            current = dict(enumerate(cluster.nodes))

            async def say() -> None:
                nonlocal sent
                while trio.current_time() < 150:
                    await meeting.alice.send(f"{sent}")
                    sent += 1
                    await trio.sleep(draw.random() * 2)

            async def disturb() -> None:
                while trio.current_time() < 140:
                    await trio.sleep(4 + draw.random() * 20)
                    number = draw.randrange(3)
                    node = current[number]
                    match draw.choice(["kill", "stop", "cut", "mute"]):
                        case "kill":
                            cluster.kill(node)
                            await node.stopped.wait()
                        case "stop":
                            await cluster.stop(node)
                        case "cut":
                            for stream in list(node.streams):
                                stream.cut()
                            continue
                        case "mute":
                            node.is_mute = True
                            await trio.sleep(draw.random() * 20)
                            node.is_mute = False
                            continue
                    current[number] = cluster.again(node)
                    await cluster.start(current[number])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(say)
                nursery.start_soon(disturb)
                heard = await meeting.heard(60, within=600)
            heard += await meeting.heard(sent - len(heard), within=600)
            assert heard == [f"{number}" for number in range(sent)]
            assert len(set(meeting.said())) == len(meeting.said()) == sent + 1

    run(main)


class Behind:
    """What one relay is shown of who has what, which is how it was when `stop` was called."""

    def __init__(self, shared: SharedOut) -> None:
        self._shared = shared
        self._then: Seen | None = None

    def stop(self) -> None:
        self._then = self._shared.look()

    def go_on(self) -> None:
        self._then = None

    def look(self) -> Seen:
        return self._then or self._shared.look()

    def take(self, row: Row, shards: Collection[int]) -> list[Tenure]:
        return [] if self._then else self._shared.take(row, shards)

    def give(self, row: Row, shards: Mapping[int, int], to: str) -> list[Tenure]:
        return [] if self._then else self._shared.give(row, shards, to)

    def begin(self, kinds: int) -> bool:
        return self._shared.begin(kinds)

    def step_back(self, row: Row) -> None:
        self._shared.step_back(row)

    def renew(self, epoch: str) -> None:
        self._shared.renew(epoch)


def test_a_relay_that_decides_after_its_term_is_refused_and_the_next_answers(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with cluster_in(tmp_path) as cluster:
            late, other = cluster.relay(), cluster.relay()
            behind = late.shared = Behind(cluster.relays)
            await cluster.start(late)
            await cluster.start(other)
            await cluster.settled()
            meeting = Meeting(cluster, cluster.home("ann", late), cluster.home("ben", other))
            async with meeting.homes[0].serving() as ann, meeting.homes[1].serving() as ben:
                await meeting.meet(ann, ben, late)
                behind.stop()
                late.is_mute, late.is_sure = True, True
                await trio.sleep(DEAD_S)
                assert late.holding.has(meeting.room)
                assert other.holding.has(meeting.room)
                refused = len(late.refused)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(meeting.alice.send, "from the one that is late")
                    await trio.sleep(2)
                    # It decided, and the store said that the room is not its own.
                    assert "room_moved" in late.refused[refused:]
                    assert len(meeting.said()) == 1
                    behind.go_on()
                    late.is_mute = late.is_sure = False
                assert await meeting.heard(1) == ["from the one that is late"]
                assert len(meeting.said()) == 2

    run(main)


def test_a_relay_that_cannot_say_that_it_lives_stores_nothing_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=0, at=(0, 1)) as meeting:
            mute = meeting.cluster.nodes[0]
            mute.is_mute = True
            await trio.sleep(DEAD_AFTER_S - 2)
            said = meeting.said()
            sent = await meeting.bob.send("for whoever has the room")
            assert await _soon(lambda: sent.id in meeting.said())
            assert [each for each in meeting.said() if each not in said] == [sent.id]
            assert await _soon(lambda: not mute.holding.has(meeting.room))

    run(main)


@pytest.mark.parametrize("count", [1, 2])
def test_whoever_waits_at_a_relay_that_cannot_beat_is_told_and_hears_all_of_it_later(
    tmp_path: Path, count: int
) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=0, at=(0, 0), count=count) as meeting:
            mute = meeting.cluster.nodes[0]
            failed: list[str] = []

            async def wait() -> None:
                """Somebody who waits in the engine itself, as a program over HTTP does."""
                try:
                    with mute.engine.desk.notifier.listen(topics.log(meeting.room)) as waiter:
                        await waiter.wait()
                    await mute.engine.rooms.get(meeting.room)
                except ParlerError as error:
                    failed.append(error.code)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                mute.is_mute = True
                began = trio.current_time()
                assert await _soon(lambda: bool(failed))
            assert failed == ["room_moved"]
            # By its own clock: six seconds after its last beat, whoever else it saw.
            assert trio.current_time() - began < DECIDES_S + 2
            assert not mute.holding.has(meeting.room)
            assert mute.wires.links is not None
            assert mute.wires.links.proven == 0, "daemons were sent away"
            said = len(meeting.said())
            await trio.sleep(3)
            mute.is_mute = False
            await meeting.alice.send("after")
            assert await meeting.heard(1) == ["after"]
            assert len(meeting.said()) == said + 1

    run(main)


async def _soon(is_so: Callable[[], bool]) -> bool:
    for _ in range(600):
        if is_so():
            return True
        await trio.sleep(0.1)
    return False


# -- what time does ----------------------------------------------------------------------------------------


async def _claimed(meeting: Meeting) -> str:
    task = await meeting.alice.send("review PR #42", kind="task")
    assert await meeting.heard(1) == ["review PR #42"]
    held = await meeting.bob.ask("task.claim", t.ClaimTask(id=task.id, lease_ms=int(LEASE_S * 1000)), t.TaskHeld)
    assert held.status == "claimed"
    return task.id


def test_no_claim_ends_in_a_take_over_before_its_worker_could_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=0, at=(1, 0)) as meeting:
            await _claimed(meeting)
            cluster = meeting.cluster
            # The worker's daemon is at the relay that dies, just before its claim would end, and takes its time.
            await trio.sleep(LEASE_S - 8)
            meeting.homes[1].relay.wires.is_cut = True
            cluster.kill(cluster.nodes[0])
            assert await _soon(lambda: cluster.nodes[1].holding.has(meeting.room))
            taken_at = trio.current_time()
            await trio.sleep(29)
            assert meeting.facts(e.TaskLapsed) == []
            assert trio.current_time() - taken_at < 30
            # Whoever does not come back loses it then.
            assert await _soon(lambda: len(meeting.facts(e.TaskLapsed)) == 1)

    run(main)


def test_what_is_due_happens_once_also_where_the_room_changed_hands(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=0, at=(1, 1)) as meeting:
            timer = t.TimerAsked(ms=30_000)
            await meeting.alice.send("urgent", kind="task", timer=timer)
            cluster = meeting.cluster
            await trio.sleep(5)
            cluster.kill(cluster.nodes[0])
            await trio.sleep(60)
            [over] = meeting.facts(e.TaskCompleted)
            posted = meeting.facts(e.MessagePosted)[-1]
            assert over.at - posted.at == 30_000

    run(main)


# -- where a room moves ------------------------------------------------------------------------------------


def test_who_follows_a_room_at_another_relay_goes_on_when_a_third_one_gets_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 2) as (cluster, [door, owner]):
            falls = shares(["relay1", "relay2", "relay3"])
            meeting = Meeting(cluster, cluster.home("ann", door), cluster.home("ben", door))
            async with meeting.homes[0].serving() as ann, meeting.homes[1].serving() as ben:
                await meeting.meet(ann, ben, owner, lambda room: falls[shard_of(room)] == "relay3")
                third = cluster.relay()
                await cluster.start(third)
                await cluster.settled()
                assert third.holding.has(meeting.room)
                await meeting.alice.send("after the move")
                assert await meeting.heard(1) == ["after the move"]

    run(main)


def test_a_relay_is_not_accused_where_a_daemon_comes_while_its_room_is_handed_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=0, at=(1, 0)) as meeting:
            owner = meeting.cluster.nodes[0]
            # Nothing is begun in the room any more, and nobody else has it yet.
            owner.holding._leaving.add(shard_of(meeting.room))
            for ours, _ in list(owner.wires.open):
                ours.cut()
            assert await _soon(lambda: owner.wires.links is not None and bool(owner.wires.links.proven))
            await trio.sleep(1)
            owner.holding._leaving.clear()
            await meeting.alice.send("goes on")
            assert await meeting.heard(1) == ["goes on"]
            mirror, _ = fold(meeting.homes[1].world.store, meeting.room, Room, Room.restore)
            assert not mirror.state.contradicted

    run(main)


def test_a_room_is_watched_again_where_its_relay_lost_the_stream_of_a_daemon(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=1, at=(0, 0)) as meeting:
            routing = meeting.cluster.nodes[0].together.routing
            caller = next(each for each in routing._there if routing._there[each].attached)
            for lane in routing._there[caller].lanes.values():
                lane.close()
            with pytest.raises(ParlerError) as refused:
                await routing.call("link.watch", t.FollowRoom(resume=t.Resume(room=meeting.room)), caller)
            assert refused.value.code == "home_unreachable"

    run(main)


class Scripted:
    """A lane that answers each post once it is told what: an error, or that it is stored."""

    def __init__(self, *script: str) -> None:
        self.sent: list[str] = []
        self.before: list[list[str]] = []
        """What was sent before each answer."""
        self._script = list(script)

    def begin(self, op: str, params: t.PostEnvelope) -> Scripted:
        self.sent.append(params.id)
        return self

    async def result(self) -> t.Result:
        await trio.lowlevel.checkpoint()
        self.before.append(list(self.sent))
        if self._script and (code := self._script.pop(0)):
            raise ParlerError(code)
        return t.Noted()


def test_posts_that_wait_at_a_door_keep_their_order_where_a_room_comes_to_a_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=1, at=(0, 1)) as meeting:
            routing = meeting.cluster.nodes[0].together.routing
            caller = next(iter(routing._there))
            lane = Scripted("", "room_moved", "envelope_refused")

            async def scripted(caller: Caller, row: Row) -> Any:
                await trio.lowlevel.checkpoint()
                return lane

            routing._lane = scripted  # type: ignore[method-assign]
            params = [
                t.PostEnvelope(room=meeting.room, agent="U", id=id, body=b"", signature=b"") for id in ("1", "2", "3")
            ]
            posts = [routing._queue("link.post", each, caller) for each in params]
            for post in posts:
                await post.done.wait()
                post.outcome()
            # The first goes alone, for the relay may have to open the room; the third was refused for want of the
            # second.
            assert lane.before[0] == ["1"]
            assert lane.sent == ["1", "2", "3", "2", "3"]

    run(main)


def test_no_lane_stays_of_a_daemon_that_goes_while_it_is_opened(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=1, at=(0, 1)) as meeting:
            door, owner = meeting.cluster.nodes
            routing = door.together.routing
            caller = next(iter(routing._there))
            for lane in routing._there[caller].lanes.values():
                lane.close()
            await trio.testing.wait_all_tasks_blocked()
            before = owner.together.served.lanes
            call = Away.call

            async def attach_and_go(self: Away, op: str, params: t.Params) -> msgspec.Raw:
                answer = await call(self, op, params)
                await routing.disconnect(caller)
                return answer

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Away, "call", attach_and_go)
                with pytest.raises(ParlerError):
                    await routing._lane(caller, owner.row)
            await trio.testing.wait_all_tasks_blocked()
            assert owner.together.served.lanes == before
            # Its link finds that nothing is left to end.
            await routing.connect(caller)

    run(main)


def test_two_who_write_to_each_other_at_two_relays_have_one_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 2) as (cluster, [one, other]):
            homes = cluster.home("ann", one), cluster.home("ben", other)
            async with homes[0].serving() as ann, homes[1].serving() as ben:
                alice, bob = await ann.agent("alice"), await ben.agent("bob")
                for who in (alice, bob):
                    await who.ask("directory.register", t.Register(visibility="public"), t.Registered)
                await trio.sleep(5)
                for node in cluster.nodes:
                    # Each knows what the other stored of the home once its own write is refused.
                    node.engine.owning.take_in = trio.lowlevel.checkpoint  # type: ignore[method-assign]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(alice.send, "hello", to=("bob",)))
                    nursery.start_soon(partial(bob.send, "hello", to=("alice",)))
                await trio.sleep(60)
                rooms = {room.room for who in (alice, bob) for room in await who.rooms()}
                assert len(rooms) == 1
                opened = [room for room in cluster.store.rooms() if room != HOME_ROOM]
                assert set(opened) == rooms

    run(main)


@pytest.mark.parametrize("late_s", [1.0, 8.0, 30.0])
def test_two_have_one_room_also_where_the_first_opening_of_it_is_long_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late_s: float
) -> None:
    """The relay of the second waits for the first for two seconds."""
    late: list[RoomId] = []
    hand_over = NodeDriver.hand_over

    def slowly(driver: NodeDriver, job: Job, settled: Settle) -> None:
        opens = [write for write in job if isinstance(write, Append) and not write.expected]
        event = opens[0].facts[0].header.event if opens else None
        if late or not isinstance(event, e.RoomOpened) or event.kind != "dm":
            hand_over(driver, job, settled)
            return
        late.append(opens[0].room)

        async def later() -> None:
            await trio.sleep(late_s)
            hand_over(driver, job, settled)

        trio.lowlevel.spawn_system_task(later)

    monkeypatch.setattr(NodeDriver, "hand_over", slowly)

    async def main() -> None:
        async with running(tmp_path, 2) as (cluster, [one, other]):
            homes = cluster.home("ann", one), cluster.home("ben", other)
            async with homes[0].serving() as ann, homes[1].serving() as ben:
                alice, bob = await ann.agent("alice"), await ben.agent("bob")
                for who in (alice, bob):
                    await who.ask("directory.register", t.Register(visibility="public"), t.Registered)
                await trio.sleep(5)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_written_to, alice, "bob")
                    nursery.start_soon(_written_to, bob, "alice")
                await trio.sleep(90)
                rooms = {room.room for who in (alice, bob) for room in await who.rooms()}
                opened = [room for room in cluster.store.rooms() if room != HOME_ROOM]
                assert (len(rooms), set(opened)) == (1, rooms)
                assert (late[0] in rooms) is (late_s < OPENS_S)
                assert texts(await alice.recv(wait=30)) == ["to alice"]
                assert texts(await bob.recv(wait=30)) == ["to bob"]

    run(main)


async def _written_to(who: Party, other: str) -> None:
    """One message, asked for again with its key for as long as a retry may help."""
    while True:
        try:
            await who.send(f"to {other}", to=(other,), idempotency_key=f"to-{other}")
            return
        except ParlerError as error:
            if not error.spec.retryable:
                raise
        await trio.sleep(1)


# -- draining ----------------------------------------------------------------------------------------------


def test_a_relay_that_is_drained_hands_its_rooms_over_and_nothing_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 2) as (cluster, [stays, goes]):
            meeting = Meeting(cluster, cluster.home("ann", stays), cluster.home("ben", stays))
            async with meeting.homes[0].serving() as ann, meeting.homes[1].serving() as ben:
                await meeting.meet(ann, ben, goes)

                async def say() -> None:
                    for number in range(30):
                        await meeting.alice.send(f"{number}")
                        await trio.sleep(0.1)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(say)
                    await trio.sleep(1)
                    began = trio.current_time()
                    await cluster.stop(goes)
                    assert await _soon(lambda: stays.holding.shards == 1024)
                    # Nobody waited until the one that went was dead to the others.
                    assert trio.current_time() - began < DEAD_AFTER_S
                    heard = await meeting.heard(30)
                assert heard == [f"{number}" for number in range(30)]
                assert len(set(meeting.said())) == 31

    run(main)


# -- who does not reach whom -------------------------------------------------------------------------------


def test_a_relay_that_lives_and_is_not_reached_is_said_and_its_rooms_do_not_answer_here(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=1, at=(0, 1)) as meeting:
            here, there = meeting.cluster.nodes
            assert here.together.is_whole
            here.cut_from.add(there.name)
            for stream in list(there.streams):
                stream.cut()
            await trio.sleep(1)
            assert [node.together.is_whole for node in meeting.cluster.nodes] == [False, True]
            assert here.together.peers.unreached == [there.name]
            sent = await meeting.alice.send("waits")
            await trio.sleep(30)
            assert sent.id not in meeting.said()
            here.cut_from.clear()
            assert await meeting.heard(1) == ["waits"]

    run(main)


@pytest.mark.parametrize(
    ("how", "op"), [("not reached", "link.posted"), ("silent", "link.posted"), ("silent", "link.post")]
)
def test_a_call_is_answered_within_fifteen_seconds_where_the_relay_of_its_room_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, op: str
) -> None:
    ask = Away.call

    async def silent(away: Away, op: str, params: t.Params) -> Any:
        if op == "link.attach":
            await trio.sleep_forever()
        return await ask(away, op, params)

    async def main() -> None:
        async with met(tmp_path, owner=1, at=(0, 1)) as meeting:
            here, there = meeting.cluster.nodes
            routing, agent = here.together.routing, (await meeting.alice.whoami()).id
            [caller] = [caller for caller, present in routing._there.items() if agent in present.attached]
            if how == "silent":
                # It is linked, and says no word to a daemon that comes.
                monkeypatch.setattr(Away, "call", silent)
                routing._there[caller].lanes.clear()
            else:
                here.cut_from.add(there.name)
                for stream in list(there.streams):
                    stream.cut()
            params: t.Params = t.PostedAtRoom(room=meeting.room, agent=agent, id="m_none")
            if op == "link.post":
                params = t.PostEnvelope(room=meeting.room, agent=agent, id="m_none", body=b"", signature=bytes(64))
            began = trio.current_time()
            with pytest.raises(ParlerError, match="home_unreachable"):
                await routing.call(op, params, caller)
            assert WITHIN_S <= trio.current_time() - began < 15.0
            monkeypatch.undo()

    run(main)


# -- a daemon that is at two relays ------------------------------------------------------------------------


def _lost(meeting: Meeting, node: Node) -> MemoryStream:
    """Ann's daemon is gone from this relay without a word, and comes to no other link there: the relay's end of the
    link that it had."""
    [(ours, theirs)] = node.wires.open
    node.wires.is_cut = True
    ours.vanish()
    return theirs


def _numbers(node: Node, principal: PrincipalId) -> list[int]:
    """The numbers of the links and lanes of a daemon that a relay has."""
    return [entry.number for entry in node.together.newest._here.get(principal, ())]


@pytest.mark.parametrize("owner", [0, 1, 2])
def test_a_daemon_that_comes_to_another_relay_is_at_the_older_no_more(tmp_path: Path, owner: int) -> None:
    async def main() -> None:
        async with met(tmp_path, owner, at=(0, 1), count=3) as meeting:
            older, principal = meeting.cluster.nodes[0], meeting.homes[0].keys.principal
            theirs = _lost(meeting, older)
            await meeting.alice.send("from where she is now")
            assert await meeting.heard(1) == ["from where she is now"]
            assert theirs.close_code == 1012
            assert older.wires.links is not None
            assert older.wires.links.of(principal) == 0
            # Nobody else has anything of the older link, either.
            await trio.sleep(1)
            assert {number for node in meeting.cluster.nodes for number in _numbers(node, principal)} == {2}

    run(main)


def test_a_daemon_that_comes_again_to_the_same_relay_has_one_link_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=1, at=(0, 1)) as meeting:
            node = meeting.cluster.nodes[0]
            theirs = _lost(meeting, node)
            node.wires.is_cut = False
            for ours, _ in node.wires.open[1:]:
                ours.cut()
            await trio.sleep(60)
            await meeting.alice.send("again")
            assert await meeting.heard(1) == ["again"]
            links = [each for each in meeting.cluster.nodes if each.wires.links is not None]
            assert sum(each.wires.links.of(meeting.homes[0].keys.principal) for each in links if each.wires.links) == 1
            assert theirs.close_code == 1012

    run(main)


def _daemon(session: str, principal: PrincipalId) -> Caller:
    return Caller(Facts(session, "link", authority.of_link(principal), channel=session.encode() * 4))


class Links:
    """Links of one daemon, made by hand at some relays: which of them were ended."""

    def __init__(self, principal: PrincipalId) -> None:
        self.principal = principal
        self.ended: list[str] = []
        self.refused: list[str] = []

    async def begin(self, node: Node, session: str) -> Caller:
        routing, caller = node.together.routing, _daemon(session, self.principal)
        routing._superseded = lambda caller: self.ended.append(caller.facts.session)
        await routing.connect(caller)
        try:
            await routing.call("link.attach", t.Attach(agents=()), caller)
        except ParlerError as error:
            self.refused.append(error.code)
        return caller


@pytest.mark.parametrize("seed", range(6))
def test_of_two_links_that_begin_at_the_same_moment_at_two_relays_one_wins_and_it_is_the_same_for_all(
    tmp_path: Path, seed: int
) -> None:
    async def main() -> None:
        draw = random.Random(seed)
        async with running(tmp_path, 3) as (_, nodes):
            for node in nodes:

                async def late(work: Callable[[], object]) -> object:
                    await trio.sleep(draw.random())
                    answer = work()
                    await trio.sleep(draw.random())
                    return answer

                node.together.newest._numbers._aside = late  # type: ignore[attr-defined]
            links = Links(ANN)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(links.begin, nodes[0], "first")
                nursery.start_soon(links.begin, nodes[1], "second")
            await trio.sleep(10)
            [over] = set(links.ended)
            wins = nodes[1] if over == "first" else nodes[0]
            assert _numbers(wins, ANN) == [2]
            # Whoever has lanes of this daemon has those of the link that won.
            loses = nodes[0] if over == "first" else nodes[1]
            assert {number for node in (loses, nodes[2]) for number in _numbers(node, ANN)} <= {1, 2}
            [ended] = [each for each in loses.together.routing._there if each.facts.session == over]
            await loses.together.routing.disconnect(ended)
            await trio.sleep(1)
            assert {number for node in nodes for number in _numbers(node, ANN)} == {2}

    run(main)


def test_a_relay_that_hears_nothing_of_the_others_ends_an_older_link_by_what_the_database_says(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path, 2) as (_, [older, newer]):
            links = Links(ANN)
            await links.begin(older, "older")
            # What the relays say to each other stays on its way.
            for stream in [*older.streams, *newer.streams]:
                stream.hold()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(links.begin, newer, "newer")
                await trio.sleep(LOOK_S + 0.5)
                assert links.ended == ["older"]
                for stream in [*older.streams, *newer.streams]:
                    stream.release()

    run(main)


def test_a_relay_takes_nothing_of_an_older_link_once_it_has_heard_of_a_newer_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 3) as (_, [older, newer, owner]):
            links = Links(ANN)
            caller = await links.begin(older, "older")
            # The older relay stands still: neither a message nor the database reaches it.
            older.together.newest.hear = lambda principal, number: None  # type: ignore[method-assign]
            await links.begin(newer, "newer")
            assert _numbers(owner, ANN) == [2]
            lane = await older.together.routing._lane(caller, owner.row)
            with pytest.raises(Lost):
                await lane.call("link.detach", t.Detach(agents=()))
            assert _numbers(owner, ANN) == [2]

    run(main)


# -- what is counted once for all relays -------------------------------------------------------------------


async def _asked(node: Node, caller: Caller, key: str) -> str:
    """With which code a guess of a session key is refused."""
    with pytest.raises(ParlerError) as refused:
        await node.together.routing.call("link.find", t.FindKey(session_key=key), caller)
    return refused.value.code


def test_a_person_who_guesses_keys_at_several_relays_has_one_budget_also_after_one_of_them_died(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path, 3) as (cluster, nodes):
            callers = [_daemon(f"at {node.name}", ANN) for node in nodes]
            for node, caller in zip(nodes, callers, strict=True):
                node.together.routing._superseded = lambda caller: None
                await node.together.routing.connect(caller)
            tries = int(CALLER_BURST)
            codes = [await _asked(nodes[n % 2], callers[n % 2], f"WRNG{n:04d}") for n in range(tries)]
            assert codes == ["unknown_key"] * tries
            assert [await _asked(nodes[n], callers[n], "WRNGKEYS") for n in range(3)] == ["throttled"] * 3
            cluster.kill(nodes[1])
            assert await _asked(nodes[2], callers[2], "WRNGKEYS") == "throttled"
            # Nobody else is held back.
            other = _daemon("other", BEN)
            await nodes[0].together.routing.connect(other)
            assert await _asked(nodes[0], other, "WRNGKEYS") == "unknown_key"

    run(main)


def test_guesses_that_are_made_at_the_same_time_at_several_relays_are_counted_one_by_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 2) as (_, nodes):
            codes: list[str] = []

            async def guess(node: Node, caller: Caller, key: str) -> None:
                codes.append(await _asked(node, caller, key))

            async with trio.open_nursery() as nursery:
                for node in nodes:
                    caller = _daemon(node.name, ANN)
                    node.together.routing._superseded = lambda caller: None
                    await node.together.routing.connect(caller)
                    for number in range(30):
                        nursery.start_soon(guess, node, caller, f"{node.name[-1]}WRNG{number:03d}")
            assert codes.count("unknown_key") == CALLER_BURST
            assert codes.count("throttled") == 60 - CALLER_BURST

    run(main)


def test_a_key_that_is_right_takes_nothing_from_the_budget_of_guesses(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=1, at=(0, 1)) as meeting:
            node, caller = meeting.cluster.nodes[0], _daemon("zoe", ANN)
            await node.together.routing.connect(caller)
            # As the relay knows it: what stands behind is for daemons.
            key = read_key(meeting.key).key
            for _ in range(3 * int(CALLER_BURST)):
                await node.together.routing.call("link.find", t.FindKey(session_key=key), caller)
            assert await _asked(node, caller, "WRNGKEYS") == "unknown_key"

    run(main)


def test_the_tries_of_a_code_are_what_they_were_where_the_room_comes_to_another_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=2, at=(0, 1), count=3) as meeting:
            carol, person = await meeting.served[1].agent("carol"), await meeting.served[0].person()
            waits = await carol.join(meeting.key)
            await trio.sleep(5)
            wrong = t.DecideJoin(agent="carol", join_code="0000")
            refused = [(await person.refused("session.approve", wrong)).code for _ in range(3)]
            assert refused == ["code_mismatch"] * 3
            meeting.cluster.kill(meeting.cluster.nodes[2])
            await trio.sleep(DEAD_S)
            refused = [(await person.refused("session.approve", wrong)).code for _ in range(3)]
            assert refused == ["code_mismatch"] * 2 + ["throttled"]
            right = t.DecideJoin(agent="carol", join_code=waits.join_code)
            assert (await person.refused("session.approve", right)).code == "throttled"
            await trio.sleep(CODE_PAUSE_S)
            assert (await person.approve("carol", join_code=waits.join_code)).status == "approved"

    run(main)


async def _stored(node: Node, agent: str, person: PrincipalId, count: int) -> int:
    """How many of so many messages of an agent a relay takes."""
    for number in range(count):
        try:
            await node.engine.desk.quotas.take(AgentId(agent), bytes=1, person=person)
        except Refused:
            return number
    return count


@pytest.mark.parametrize("limit", [10, 1_000])
def test_what_a_person_may_store_in_an_hour_is_one_budget_for_all_relays(tmp_path: Path, limit: int) -> None:
    async def main() -> None:
        async with running(tmp_path, 3, quota_person_messages=limit) as (cluster, nodes):
            taken = await _stored(nodes[0], "UONE", ANN, limit // 2)
            taken += await _stored(nodes[1], "UTWO", ANN, limit)
            cluster.kill(nodes[1])
            await trio.sleep(DEAD_S)
            taken += await _stored(nodes[2], "UTHREE", ANN, limit)
            assert taken <= limit * (1 + DEAD_S / quota.HOUR_S) + 1
            # What lies in purses of the others may be missing.
            assert taken >= limit * (1 - 3 * quota.SLICE)
            assert await _stored(nodes[2], "UOTHER", BEN, 3) == 3

    run(main)


def test_what_a_person_may_share_in_files_in_an_hour_is_one_budget_for_all_relays(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 2, quota_person_blob_bytes=1_000) as (_, nodes):
            shelves = [node.engine.desk.quotas for node in nodes]
            await shelves[0].take_blob(AgentId("UONE"), 600, ANN)
            await shelves[1].take_blob(AgentId("UTWO"), 300, ANN)
            for each in shelves:
                with pytest.raises(Refused) as refused:
                    await each.take_blob(AgentId("UTWO"), 200, ANN)
                assert refused.value.code == "throttled"
                assert "person_blob_bytes" in (refused.value.body().hint or "")
            await shelves[0].take_blob(AgentId("UONE"), 600, BEN)

    run(main)


def test_what_a_person_keeps_is_one_sum_for_all_relays(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=1, at=(0, 1), quota_person_kept_bytes=100_000) as meeting:
            principal = meeting.homes[0].keys.principal
            await meeting.alice.send("x" * 5_000)
            assert await meeting.heard(1) == ["x" * 5_000]
            kept = [node.engine.desk.kept for node in meeting.cluster.nodes]
            await trio.sleep(3)
            size = kept[1].of(principal)
            assert size > 5_000
            assert kept[0].of(principal) == size
            # Those that come later count everything, signed statements of the room too, and the sum is that once.
            for _ in range(2):
                await meeting.cluster.start(third := meeting.cluster.relay())
                await trio.sleep(3)
                kept.append(third.engine.desk.kept)
                found = [each.of(principal) for each in kept]
                assert found == [found[0]] * len(kept)
                assert size <= found[0] < 2 * size
                size = found[0]
            # What two relays store is added.
            kept[0].add(principal, 60_000)
            kept[-1].add(principal, 40_000)
            await trio.sleep(3)
            assert all(each.is_over(principal, 1) for each in kept)
            meeting.cluster.kill(meeting.cluster.nodes[-1])
            await trio.sleep(DEAD_S)
            refused = await meeting.alice.refused("session.open", t.OpenSession(topic="one more", context="x"))
            assert refused.code == "too_many_bytes"
            kept[1].add(principal, -60_000)
            await trio.sleep(3)
            assert not kept[0].is_over(principal, 1)

    run(main)


# -- what concerns the whole home --------------------------------------------------------------------------

ANN, BEN = (PrincipalId(SigningKey("principal", bytes([number] * 32)).id) for number in (7, 8))


def test_what_two_relays_store_of_the_home_at_once_is_all_there_and_known_to_both(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 2) as (_, [first, second]):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first.engine.people.enrol, ANN, "ann")
                nursery.start_soon(second.engine.people.enrol, BEN, "ben")
            await trio.sleep(2)
            for node in (first, second):
                assert {person.principal for person in node.engine.people.all()} >= {ANN, BEN}

    run(main)


def test_before_somebody_is_let_in_it_is_known_what_other_relays_stored(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 2) as (_, [first, second]):
            await first.engine.people.enrol(ANN, "ann")
            assert second.engine.people.find(ANN) is None
            await second.together.take_in()
            assert second.engine.people.find(ANN) is not None

    run(main)


def test_rooms_that_a_person_opens_at_several_relays_at_once_are_no_more_than_one_may_have(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 3, quota_person_rooms=2) as (cluster, nodes):
            counting = set[str]()
            for node in nodes:
                library, owned = node.engine.desk.library, node.engine.desk.library.owned

                async def slowly(
                    principal: PrincipalId, owned: Callable[..., Any] = owned, name: str = node.name
                ) -> list[RoomId]:
                    counting.add(name)
                    found: list[RoomId] = await owned(principal)
                    # So long the opening is under way, and stored by no relay.
                    await trio.sleep(0.1)
                    return found

                library.owned = slowly  # type: ignore[method-assign, assignment]
            ann, codes = cluster.home("ann", nodes[0]), list[str]()
            async with ann.serving() as served:
                alice = await served.agent("alice")

                async def open_one(number: int) -> None:
                    try:
                        await alice.open(f"room {number}", "hello", clear=True)
                    except ParlerError as error:
                        codes.append(error.code)

                async with trio.open_nursery() as opening:
                    for number in range(6):
                        opening.start_soon(open_one, number)
                assert codes == ["too_many_rooms"] * 4
                assert len(counting) > 1, "all rooms fell to one relay"
                assert len(await nodes[0].engine.desk.library.owned(ann.keys.principal)) == 2

    run(main)


def test_the_turn_of_a_relay_that_died_while_it_opened_a_room_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 2) as (cluster, nodes):
            ann = cluster.home("ann", nodes[0])
            turn = Ask(f"opening {ann.keys.principal}", 1 / TURN_S, 1.0)
            assert not cluster.counts.draw([turn]).wait_s
            async with ann.serving() as served:
                alice, began = await served.agent("alice"), trio.current_time()
                await alice.open("a room", "hello", clear=True)
                assert trio.current_time() - began >= TURN_S - 1

    run(main)


def test_that_the_store_is_away_is_logged_when_it_begins_and_when_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(tmp_path, 2) as (_, [first, _]):
            take_in, is_away = first.engine.owning.take_in, True

            async def failing() -> None:
                await trio.lowlevel.checkpoint()
                if is_away:
                    raise StoreError("store_unreachable")
                await take_in()

            first.engine.owning.take_in = failing  # type: ignore[method-assign]
            for _ in range(20):
                # Each daemon that comes asks for it, beside the relay itself.
                await first.together.take_in()
            await trio.sleep(5)
            is_away = False
            await trio.sleep(5)

    with caplog.at_level(logging.INFO, "relay"):
        run(main)
    said = [record.getMessage() for record in caplog.records if "what other relays stored" in record.getMessage()]
    assert said == [
        "what other relays stored of the home is not known now: store_unreachable",
        "what other relays stored of the home is known again",
    ]


def test_a_person_who_is_put_out_at_one_relay_is_out_at_all_and_loses_what_they_had_in_rooms(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=1, at=(0, 1)) as meeting:
            first, second = meeting.cluster.nodes
            ben = meeting.homes[1].keys.principal
            await first.engine.people.enrol(ben, "ben")
            await trio.sleep(2)
            links = second.wires.links
            assert links is not None
            assert links.of(ben) == 1
            meeting.cluster.book.kicked.add(ben)
            await first.engine.people.put_out(ben)
            assert await _soon(lambda: links.of(ben) == 0)
            # The room is the second relay's, which took the place there.
            assert await _soon(lambda: len(meeting.facts(e.MemberLeft)) == 1)

    run(main)


def test_another_epoch_is_known_at_every_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, 2) as (cluster, nodes):
            cluster.relays.renew("second")
            await trio.sleep(3)
            assert [node.epochs[-1] for node in nodes] == ["second", "second"]

    run(main)


# -- a relay that is cut off from the database -------------------------------------------------------------


def test_daemons_of_a_relay_that_is_taken_for_dead_go_to_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=0, at=(0, 1)) as meeting:
            mute = meeting.cluster.nodes[0]
            mute.is_mute = True
            await trio.sleep(3 * DEAD_S)
            await meeting.bob.send("does anybody hear this?")
            assert texts(await meeting.alice.recv(wait=120)) == ["does anybody hear this?"]
            assert mute.wires.links is not None
            assert mute.wires.links.proven == 0

    run(main)


def test_a_post_that_fails_in_an_unforeseen_way_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=0, at=(0, 1)) as meeting:
            engine = meeting.cluster.nodes[0].engine
            call, failed = engine.call, 0

            async def broken(op: str, params: t.Params, caller: Caller) -> t.Result:
                nonlocal failed
                if op == "link.post" and not failed:
                    failed += 1
                    raise RuntimeError
                return await call(op, params, caller)

            monkeypatch.setattr(engine, "begin", lambda op, params, caller: None)
            monkeypatch.setattr(engine, "call", broken)
            async with trio.open_nursery() as nursery:
                # Its daemon tries again what failed at the relay.
                nursery.start_soon(meeting.alice.send, "again")
                assert await meeting.heard(1) == ["again"]
            assert failed == 1
            assert len(meeting.said()) == 2

    run(main)


def test_an_answer_of_another_relay_may_take_its_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, owner=1, at=(0, 1)) as meeting:
            wait = t.WaitUntil(condition="messages.count > 1", room=meeting.room, wait_ms=120_000)
            ended: list[t.WaitEnded] = []

            async def until_then() -> None:
                ended.append(await meeting.alice.ask("state.wait", wait, t.WaitEnded))

            asked = meeting.cluster.nodes[0].together.routing.forwarded
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_then)
                await trio.sleep(60)
                # It is asked once, however long that takes.
                assert meeting.cluster.nodes[0].together.routing.forwarded - asked <= 3
                await meeting.bob.send("now")
            assert [each.triggered for each in ended] == [True]

    run(main)


# -- whether all arrived -----------------------------------------------------------------------------------


class Loses:
    """Loses pages that another relay told, on their way to the daemons that are at this one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_on = False
        self.lost = 0
        take = Away._take

        def some(away: Away, event: object) -> None:
            if self.is_on and isinstance(event, Item) and "page" in msgspec.msgpack.decode(event.item):
                self.lost += 1
            else:
                take(away, event)

        monkeypatch.setattr(Away, "_take", some)


@pytest.mark.parametrize("is_compared", [True, False])
def test_a_page_that_is_lost_between_relays_arrives_within_the_minute_because_heads_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_compared: bool
) -> None:
    async def main() -> None:
        if not is_compared:
            monkeypatch.setattr(routing, "HEADS_S", float("inf"))
        loses = Loses(monkeypatch)
        async with met(tmp_path, owner=0, at=(0, 1)) as meeting:
            await meeting.alice.send("before")
            assert await meeting.heard(1) == ["before"]
            loses.is_on = True
            await meeting.alice.send("lost on its way")
            await trio.sleep(1)
            loses.is_on = False
            assert loses.lost == 1
            began = trio.current_time()
            # Without the comparison the reader would wait for the next words in the room.
            heard = await meeting.heard(1, within=10 * 60)
            assert heard == (["lost on its way"] if is_compared else [])
            if is_compared:
                assert trio.current_time() - began < routing.HEADS_S + 10

    run(main)


def test_relays_whose_rooms_stand_where_they_were_ask_nothing_and_break_nothing_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        asked: list[str] = []
        call = Away.call

        async def noted(away: Away, op: str, params: t.Params) -> msgspec.Raw:
            asked.append(op)
            return await call(away, op, params)

        monkeypatch.setattr(Away, "call", noted)
        async with met(tmp_path, owner=0, at=(0, 1)) as meeting:
            await meeting.alice.send("one")
            assert await meeting.heard(1) == ["one"]
            await trio.sleep(3 * routing.HEADS_S)
            asked.clear()
            await trio.sleep(5 * routing.HEADS_S)
            assert asked.count("link.compare") == asked.count("link.attach") == 0
            await meeting.alice.send("two")
            await trio.sleep(2 * routing.HEADS_S)
            assert asked.count("link.compare") == 1
            # Nobody came again.
            assert asked.count("link.attach") == 0

    run(main)


# -- two versions ------------------------------------------------------------------------------------------


def test_an_older_relay_takes_no_rooms_once_newer_ones_wrote_what_it_does_not_know(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster_in(tmp_path) as cluster:
            older, newer = cluster.relay(), cluster.relay()
            newer.row = newer.first = msgspec.structs.replace(newer.row, kinds=KINDS + 1)
            await cluster.start(older)
            await cluster.start(newer)
            await cluster.settled()
            # A kind of fact that there is not yet: nobody writes it while somebody there does not know it.
            assert not await newer.holding.begin(KINDS + 1)
            assert min(node.holding.shards for node in (older, newer)) > 400
            await cluster.stop(older)
            assert await newer.holding.begin(KINDS + 1)
            again = cluster.again(older)
            await cluster.start(again)
            await trio.sleep(30)
            assert (again.holding.shards, newer.holding.shards) == (0, 1024)
            assert [node.holding.is_older for node in (again, newer)] == [True, False]
            assert [_is_ready(node) for node in (again, newer)] == [False, True]
            assert [newer.holding.knows_less(row) for row in newer.holding.living] == [True, False]
            # What was begun stays so, whoever comes; and the older one leads people to the newer one's rooms.
            assert await newer.holding.begin(KINDS + 1)
            meeting = Meeting(cluster, cluster.home("ann", again), cluster.home("ben", newer))
            async with meeting.homes[0].serving() as ann, meeting.homes[1].serving() as ben:
                await meeting.meet(ann, ben, newer)
                await meeting.alice.send("hello")
                assert await meeting.heard(1) == ["hello"]
            # Nobody else being there does not make it know more.
            cluster.kill(newer)
            await trio.sleep(2 * DEAD_S)
            assert (again.holding.shards, again.holding.unowned) == (0, 1024)

    run(main)


def _is_ready(node: Node) -> bool:
    """What `/readyz` says of a relay whose store and address are as they should be."""
    nothing: Any = SimpleNamespace(is_draining=False, is_sound=True)
    return Metrics(
        driver=nothing,
        links=nothing,
        enrolment=nothing,
        engine=node.engine,
        unproven=int,
        over_http=int,
        has_address=lambda: True,
        started_at=0.0,
        together=node.together,
    ).is_ready()
