"""Sealed queues on a relay: workers and requesters of two homes, what each can read, and what the relay has of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.approvals import pending
from parlerd.core.envelope import TextPart, decode_envelope, decode_inside
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.membership import is_requester
from parlerd.core.model import AgentId, By, HomeId, Position, RequestId, RoomId
from parlerd.core.room import Room
from parlerd.core.sealing import sealed_part
from parlerd.core.statements import SealingKey, check
from parlerd.engine import cards, letting_in, plans, queues, reachable
from parlerd.engine import epochs as engine_epochs
from parlerd.engine.audit import Audited, is_signed
from parlerd.engine.authors import Arrived
from parlerd.engine.callers import Caller
from parlerd.engine.engine import Engine
from parlerd.engine.face import EngineFace
from parlerd.engine.key_text import spelled_of
from parlerd.identity.epochs import asking_secret
from parlerd.identity.sealing import Epoch, key_pair
from parlerd.operations import types as t
from parlerd.store.port import EraseBodies
from parlerd.uplink.exchanging import TRIES_EACH, Exchanges
from parlerd.uplink.lanes import mirror_of
from parlerd.uplink.secrets import Secrets
from tests.support.engine import Party, Served, gather, run, settle, texts
from tests.support.relayed import Home, Relay, Wires, homes_of
from tests.support.room_state import put
from tests.support.sealing import open_sealed
from tests.uplink.test_sealed import everything, spelled
from tests.uplink.test_sealed_gated import OPEN


class Queue:
    """Alice, of Ann's home, serves a sealed queue on the relay. Others of Ann's home and of Ben's come in."""

    def __init__(self, wires: Wires, relay: Relay, ann: Home, ben: Home, cat: Home) -> None:
        self.wires, self.relay, self.ann, self.ben, self.cat = wires, relay, ann, ben, cat
        self.clear = False
        """Whether the relay can read it."""
        self.relay_engine: Engine | None = None
        """What runs at the relay."""
        self.ann_served: Served
        self.ben_served: Served
        self.cat_served: Served
        self.alice: Party
        self.served: t.Served

    @property
    def room(self) -> RoomId:
        return RoomId(self.served.room)

    async def begin(self, ann: Served, ben: Served, cat: Served) -> None:
        self.ann_served, self.ben_served, self.cat_served = ann, ben, cat
        self.alice = await ann.agent("alice")
        self.served = await self.alice.ask("queue.serve", t.Serve(service="review", clear=self.clear), t.Served)

    async def invite(self, **more: Any) -> str:
        invited = await self.alice.ask("room.invite", t.Invite(service="review", **more), t.Invited)
        assert invited.sealed is not self.clear
        return invited.code

    async def bring_in(self, who: Party, name: str, *, role: str = "", **more: Any) -> None:
        """Let an agent of another home in, by an invitation."""
        code = await self.invite(**more)
        waits = await who.join(code, role=role)
        assert waits.status == "pending"
        await (await self.ann_served.person()).approve(name, join_code=waits.join_code)
        await settle()
        assert (await who.join(code, role=role)).status == "joined"

    async def room_of(self, home: Home) -> Room:
        return await (await mirror_of(home.uplinks._desk, self.room)).quiet()

    async def id_of(self, who: Party) -> AgentId:
        return AgentId((await who.whoami()).id)

    async def asks(self, home: Home, who: Party) -> bool:
        return (await self.room_of(home)).state.epochs.roster[await self.id_of(who)].requester


def queue_in(folder: Path) -> Queue:
    """A queue of three homes and a relay, of which nothing runs yet."""
    wires, relay, home = homes_of(folder)
    return Queue(wires, relay, home("ann"), home("ben"), home("cat"))


@asynccontextmanager
async def serving(
    folder: Path, *, clear: bool = False, face: Callable[[Engine], EngineFace] | None = None
) -> AsyncIterator[Queue]:
    """A queue that has begun; `face` stands before the relay's engine."""
    queue = queue_in(folder)
    queue.clear, queue.relay.face = clear, face or queue.relay.face
    async with (
        queue.relay.serving() as queue.relay_engine,
        queue.ann.serving() as ann,
        queue.ben.serving() as ben,
        queue.cat.serving() as cat,
    ):
        await queue.begin(ann, ben, cat)
        yield queue


async def work(worker: Party, said: str, room: str) -> t.TaskHeld:
    """Take the oldest task and end it, with these words."""
    held = await worker.ask("task.claim", t.ClaimTask(room=room, wait_ms=60_000), t.TaskHeld)
    assert held.id is not None
    assert held.fence is not None
    assert held.message is not None
    done = t.CompleteTask(id=held.id, fence=held.fence, text=said, room=room)
    await worker.ask("task.complete", done, t.TaskHeld)
    return held


def test_a_requester_of_another_home_asks_and_reads_the_result(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            assert queue.served.sealed
            bob = await queue.ben_served.agent("bob")
            await queue.bring_in(bob, "bob", requester=True)
            assert await queue.asks(queue.ann, bob)
            assert await queue.asks(queue.ben, bob)
            sent = await bob.send("review the marlin", service="review")
            assert not sent.queued
            held = await work(queue.alice, "the marlin is a swordfish", queue.served.room)
            assert held.message is not None
            assert held.message.text == "review the marlin"
            await settle()
            assert await bob.read(room=queue.served.room) == ["the marlin is a swordfish"]
            # The relay has nothing of the words.
            stored = everything(queue.relay.store)
            sent_bytes = b"".join(each for both in queue.wires.open for end in both for each in end.sent)
            for word in ("marlin", "swordfish"):
                for form in spelled(word):
                    assert form not in stored, word
                    assert form not in sent_bytes, word
            assert (await queue.room_of(queue.ann)).state.alarm is None
            assert (await queue.room_of(queue.ben)).state.alarm is None

    run(main)


def test_agents_of_the_owners_person_come_in_unasked(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            carol, dora = await queue.ann_served.agent("carol"), await queue.ann_served.agent("dora")
            await carol.send("review the marlin", service="review")
            assert await queue.asks(queue.ann, carol)
            served = await dora.ask("queue.serve", t.Serve(service="review"), t.Served)
            assert (served.status, served.opened, served.open, served.sealed) == ("serving", False, 1, True)
            assert not await queue.asks(queue.ann, dora)
            await work(dora, "it swims", queue.served.room)
            await settle()
            assert await carol.read(room=queue.served.room) == ["it swims"]
            # Who asked works from now on, and reads what was asked before.
            served = await carol.ask("queue.serve", t.Serve(service="review"), t.Served)
            assert (served.status, served.open) == ("serving", 0)
            assert not await queue.asks(queue.ann, carol)
            page = await carol.recv(room=queue.served.room, all=True)
            assert "review the marlin" in texts(page)
            await trio.sleep(60)
            assert (await queue.room_of(queue.ann)).state.alarm is None

    run(main)


async def played(folder: Path, *, clear: bool) -> list[object]:
    """What happens in a queue to which workers and requesters of three homes come, as each of them is told."""
    said: list[object] = []
    async with serving(folder, clear=clear) as queue:
        room = queue.served.room
        carol, dan = await queue.ann_served.agent("carol"), await queue.cat_served.agent("dan")
        bob = await queue.ben_served.agent("bob")
        await queue.bring_in(bob, "bob")
        await queue.bring_in(dan, "dan", requester=True)
        said.append((await dan.refused("task.claim", t.ClaimTask(room=room))).code)

        async def claim(who: Party, **more: Any) -> t.TaskHeld:
            await settle()
            return await who.ask("task.claim", t.ClaimTask(room=room, **more), t.TaskHeld)

        async def words(who: Party) -> list[str]:
            await settle()
            return await who.read(room=room)

        async def ends(who: Party, held: t.TaskHeld, text: str) -> str:
            done = t.CompleteTask(id=held.id or "", fence=held.fence or 0, text=text, room=room)
            try:
                return str((await who.ask("task.complete", done, t.TaskHeld)).status)
            except ParlerError as error:
                return error.code

        # Asked, claimed, renewed, spoken of, and done.
        await dan.send("one", service="review")
        first = await claim(bob)
        said.append(first.message and first.message.text)
        await bob.ask("task.renew", t.RenewTask(id=first.id or "", room=room, lease_ms=60_000), t.TaskHeld)
        await bob.ask("task.say", t.SayOfTask(id=first.id, status="working", text="half", room=room), t.TaskHeld)
        said += [await ends(bob, first, "one is done"), await words(dan)]
        why = await queue.alice.ask("message.why", t.Why(id=first.id or ""), t.WhyResult)
        said.append(isinstance(why.task, t.TaskEntry) and (why.task.state, why.task.ended_by))
        # Given back, and taken by another.
        await carol.send("two", service="review")
        second = await claim(alice := queue.alice)
        await alice.ask("task.release", t.ReleaseTask(id=second.id or "", room=room), t.TaskHeld)
        again = await claim(bob)
        said += [again.id == second.id, await ends(bob, again, "two is done"), await words(carol), await words(dan)]
        # A worker goes silent, another takes over, and the first comes too late.
        await dan.send("three", service="review")
        dead = await claim(bob, lease_ms=20_000)
        await trio.sleep(60)
        taken = await claim(alice)
        said += [
            taken.id == dead.id,
            await ends(bob, dead, "three, too late"),
            await ends(alice, taken, "three is done"),
        ]
        said += [await words(dan), sorted(await words(bob))[-1:], sorted(await words(alice))[-2:]]
        # Two at once.
        await carol.send("four", service="review")
        won: list[t.TaskHeld] = []
        async with trio.open_nursery() as both:
            for who in (alice, bob):
                both.start_soon(_try, who, room, won)
        held = [each for each in won if each.id is not None]
        said.append((len(won), len(held)))
        # Taken back by whoever asked, while nobody has it, and open for a time.
        timer = t.TimerAsked(effect="delete", ms=30_000)
        sent = await dan.send("five", service="review", timer=timer)
        await settle()
        board = await alice.ask("room.board", t.LookAtBoard(room=room), t.Board)
        said.append(sorted(task.text for task in board.tasks))
        await trio.sleep(60)
        said.append((await claim(bob)).id)
        gone = t.SayOfTask(status="cancelled", id=sent.id, room=room)
        said.append((await dan.refused("task.say", gone)).code)
        for home in (queue.ann, queue.ben, queue.cat):
            said.append((await queue.room_of(home)).state.alarm)
    return said


async def _try(who: Party, room: str, won: list[t.TaskHeld]) -> None:
    won.append(await who.ask("task.claim", t.ClaimTask(room=room), t.TaskHeld))


def test_everything_of_a_queue_goes_as_in_a_clear_one(tmp_path: Path) -> None:
    for name in ("sealed", "clear"):
        (tmp_path / name).mkdir()

    async def main() -> None:
        sealed, clear = await played(tmp_path / "sealed", clear=False), await played(tmp_path / "clear", clear=True)
        assert sealed == clear
        assert sealed[1:5] == ["one", "done", ["half", "one is done"], ("done", "bob")]

    run(main)


def sealed_in(relay: Relay, room: RoomId) -> list[tuple[AgentId, bytes]]:
    """Every message that the relay has of the room: who wrote it, and its bytes."""
    found = []
    for fact in relay.store.whole_facts(room, Position(0), 1_000):
        if isinstance(fact.header.event, e.MessagePosted) and fact.body is not None:
            found.append((fact.header.by.actor, fact.body))
    return found


def opened_by(home: Home, relay: Relay, room: RoomId) -> set[str]:
    """The words that a home can read of all that the relay has, with everything that its own store holds: each secret
    as any secret, each key as any reader's."""
    rows = home.world.store.epoch_secrets(room)
    secrets = [piece for row in rows for piece in (row.secret[:32], row.secret[32:]) if piece]
    keys = [(row.agent, key_pair(row.private)) for row in home.world.store.sealing_keys(relay.keys.id)]
    found: set[str] = set()
    for author, body in sealed_in(relay, room):
        part = sealed_part(decode_envelope(body))
        for secret in secrets:
            for each in (secret, asking_secret(secret, room, part.epoch, author)):
                with suppress(Refused):
                    words = open_sealed(body, author=author, epoch=Epoch(part.epoch, part.record, each))
                    found |= {each.text for each in decode_inside(words).parts if isinstance(each, TextPart)}
        for agent, pair in keys:
            with suppress(Refused):
                words = open_sealed(body, author=author, me=(agent, pair))
                found |= {each.text for each in decode_inside(words).parts if isinstance(each, TextPart)}
    return found


def test_a_requester_and_the_relay_together_read_nothing_that_another_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            bob, dan = await queue.ben_served.agent("bob"), await queue.cat_served.agent("dan")
            await queue.bring_in(bob, "bob", requester=True)
            await queue.bring_in(dan, "dan", requester=True)
            await bob.send("the marlin, please", service="review")
            await dan.send("the halibut, please", service="review")
            for said in ("the marlin is here", "the halibut is here"):
                await work(queue.alice, said, queue.served.room)
            await queue.alice.send("for workers: both are fish", room=queue.served.room)
            await settle()
            assert await dan.read(room=queue.served.room) == ["the halibut is here"]
            own = {"the halibut, please", "the halibut is here"}
            assert opened_by(queue.cat, queue.relay, queue.room) == own
            # The same look through the store of a worker's home finds all of it, so it would find more here.
            everything = own | {"the marlin, please", "the marlin is here", "for workers: both are fish"}
            assert opened_by(queue.ann, queue.relay, queue.room) == everything
            assert all(row.requester for row in queue.cat.world.store.epoch_secrets(queue.room))

    run(main)


def test_who_asked_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        queue = queue_in(tmp_path)
        async with queue.relay.serving(), queue.ann.serving() as ann, queue.cat.serving() as cat:
            async with queue.ben.serving() as ben:
                await queue.begin(ann, ben, cat)
                await queue.bring_in(await ben.agent("bob"), "bob", requester=True)
            async with queue.ben.serving() as ben:
                bob = await ben.agent("bob")
                assert not (await bob.send("review the marlin", service="review")).queued
                held = await work(queue.alice, "it swims", queue.served.room)
                assert held.message is not None
                assert held.message.text == "review the marlin"
                await settle()
                assert await bob.read(room=queue.served.room) == ["it swims"]

    run(main)


def test_what_an_agent_may_read_changes_with_the_key_by_which_it_comes(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            bob, carol = await queue.ben_served.agent("bob"), await queue.ann_served.agent("carol")
            person = await queue.ann_served.person()
            await queue.bring_in(bob, "bob", requester=True)
            await carol.send("before bob works", service="review")

            async def leave() -> None:
                await bob.call("room.leave", t.LeaveAsMember(room=queue.served.room))
                await trio.sleep(30)

            await leave()
            assert await queue.id_of(bob) not in (await queue.room_of(queue.ann)).state.epochs.roster
            await queue.bring_in(bob, "bob")
            assert not await queue.asks(queue.ben, bob)
            held = await work(bob, "bob did it", queue.served.room)
            assert held.message is not None
            assert held.message.text == "before bob works"
            # The other way: what was said while it worked, it has, and nothing that follows.
            await person.ask("room.kick", t.KickMember(room=queue.served.room, agent="bob"), t.MemberGone)
            await settle()
            await queue.bring_in(bob, "bob", requester=True)
            assert await queue.asks(queue.ben, bob)
            await carol.send("after bob worked", service="review")
            await bob.send("bob asks again", service="review")
            await settle()
            assert (await bob.refused("task.claim", t.ClaimTask(room=queue.served.room))).code == "not_a_worker"
            for said in ("for carol", "for bob"):
                await work(queue.alice, said, queue.served.room)
            await settle()
            assert (await bob.read(room=queue.served.room))[-1:] == ["for bob"]
            read = opened_by(queue.ben, queue.relay, queue.room)
            assert {"before bob works", "bob asks again", "for bob"} <= read
            assert not {"after bob worked", "for carol"} & read
            for home in (queue.ann, queue.ben):
                assert (await queue.room_of(home)).state.alarm is None

    run(main)


def test_the_role_that_a_relay_tells_gives_nobody_more_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay calls a requester a worker, and a worker a requester: the record says what each is."""

    async def main() -> None:
        async with serving(tmp_path) as queue:
            bob, dan = await queue.ben_served.agent("bob"), await queue.cat_served.agent("dan")
            await queue.bring_in(dan, "dan")
            honest = cards._member_entry

            def lying(room: Room, stood: Any, bodies: Any) -> t.MemberEntry:
                entry = honest(room, stood, bodies)
                role = {"requester": ""}.get(entry.role, "requester")
                return msgspec.structs.replace(entry, role=role)

            with monkeypatch.context() as patched:
                patched.setattr(cards, "_member_entry", lying)
                asked = letting_in._role
                patched.setattr(letting_in, "_role", lambda role: "" if role else asked(role))
                knocked = cards._request_entry
                patched.setattr(cards, "_request_entry", lambda *told: msgspec.structs.replace(knocked(*told), role=""))
                await queue.bring_in(bob, "bob", role="requester", requester=True)
                await bob.send("review the marlin", service="review")
                await settle()
            for home in (queue.ann, queue.ben, queue.cat):
                room = await queue.room_of(home)
                assert room.state.alarm is None
                asks = {seat.handle: seat.requester for seat in room.state.epochs.roster.values()}
                assert asks == {"alice": False, "bob": True, "dan": False}
                for member in room.state.members.values():
                    assert is_requester(member) is asks[member.handle]
            assert (await bob.refused("task.claim", t.ClaimTask(room=queue.served.room))).code == "not_a_worker"
            held = await work(dan, "it swims", queue.served.room)
            assert held.message is not None
            assert held.message.text == "review the marlin"
            assert opened_by(queue.ben, queue.relay, queue.room) == {"review the marlin", "it swims"}

    run(main)


def test_a_roster_that_says_otherwise_who_only_asks_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            bob = await queue.ben_served.agent("bob")
            entries = engine_epochs._entries

            def lying(roster: Any) -> list[t.RosterEntry]:
                return [msgspec.structs.replace(each, requester=not each.requester) for each in entries(roster)]

            with monkeypatch.context() as patched:
                patched.setattr(engine_epochs, "_entries", lying)
                code = await queue.invite(requester=True)
                waits = await bob.join(code)
                await (await queue.ann_served.person()).approve("bob", join_code=waits.join_code)
                await settle()
            room = await queue.room_of(queue.ben)
            assert room.state.alarm == "relay_equivocation"
            assert room.state.contradicted == "epoch"

    run(main)


def test_what_a_requester_sealed_with_another_key_is_one_sentence_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            bob = await queue.ben_served.agent("bob")
            await queue.bring_in(bob, "bob", requester=True)
            seal = Secrets._sealing_epoch

            def wrongly(secrets: Secrets, room: Any, author: AgentId) -> Epoch | None:
                found = seal(secrets, room, author)
                return None if found is None else found._replace(secret=bytes(32))

            with monkeypatch.context() as patched:
                patched.setattr(Secrets, "_sealing_epoch", wrongly)
                await bob.send("review the marlin", service="review")
            await bob.send("review the halibut", service="review")
            await settle()
            [first, second] = await queue.alice.read(room=queue.served.room)
            assert second == "review the halibut"
            assert "marlin" not in first
            assert (await queue.room_of(queue.ann)).state.alarm is None

    run(main)


def test_nobody_spends_the_key_by_which_the_owner_brings_in_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            [key] = (await queue.room_of(queue.ann)).state.keys.values()
            made = spelled_of(queue.ann.uplinks._desk, (await queue.room_of(queue.ann)).state, key)
            assert made is not None
            bob = await queue.ben_served.agent("bob")
            home, heard = (await queue.invite()).partition("@")[2], set[str]()
            for guess in range(TRIES_EACH + 2):
                wrong = t.JoinSession(session_key=f"{made.key}U{guess:016d}@{home}")
                heard.add((await bob.refused("session.join", wrong)).code)
            assert heard == {"unknown_key"}
            assert queue.ann.world.store.key_tries(queue.room) == []
            assert not (await queue.room_of(queue.ann)).state.keys[key.id].revoked
            carol = await queue.ann_served.agent("carol")
            assert not (await carol.send("one", service="review")).queued

    run(main)


def test_an_agent_of_the_owner_that_was_put_out_comes_back_by_its_person_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            carol, person = await queue.ann_served.agent("carol"), await queue.ann_served.person()
            await carol.ask("queue.serve", t.Serve(service="review"), t.Served)
            await person.ask("room.kick", t.KickMember(room=queue.served.room, agent="carol"), t.MemberGone)
            await settle()
            assert (await carol.refused("queue.serve", t.Serve(service="review"))).code == "join_pending"
            await settle()
            assert await queue.id_of(carol) not in (await queue.room_of(queue.ann)).state.epochs.roster
            actor = await mirror_of(queue.ann.uplinks._desk, queue.room)
            [request] = pending((await actor.quiet()).state.requests)
            code = queue.ann.uplinks.handle(actor, queue.relay.keys.id).join_code(request.id)
            await person.approve("carol", join_code=code)
            await settle()
            assert not await queue.asks(queue.ann, carol)

    run(main)


def test_only_the_person_opens_a_queue_that_a_relay_can_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            agent = await queue.ann_served.window("w1", host="codex", as_name="erin")
            clear = t.Serve(service="other", clear=True)
            assert (await agent.refused("queue.serve", clear)).code == "person_only"
            served = await queue.alice.ask("queue.serve", clear, t.Served)
            assert (served.opened, served.sealed) == (True, False)
            refused = await queue.alice.refused("queue.serve", t.Serve(service="review", clear=True))
            assert (refused.code, refused.details["param"]) == ("invalid_param", "clear")

    run(main)


def test_a_queue_goes_on_as_another_one_where_its_owner_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            bob, dan = await queue.ben_served.agent("bob"), await queue.cat_served.agent("dan")
            await queue.bring_in(bob, "bob")
            await queue.bring_in(dan, "dan")
            person = await queue.ben_served.person()
            again = t.ContinueRoom(room=queue.served.room, without_owner=True)
            opened = await person.ask("room.continue", again, t.ContinuedRoom)
            assert opened.status == "reopened"
            await settle()
            assert any("goes on as" in text for text in await dan.read(room=queue.served.room))
            key = str(opened.session_key)
            waits = await dan.join(key)
            assert waits.status == "pending"
            await person.approve("dan", join_code=waits.join_code)
            await settle()
            assert (await dan.join(key)).status == "joined"
            await dan.call("message.send", t.Send(text="one", kind="task", room=opened.room))
            held = await work(bob, "done", opened.room)
            assert held.message is not None
            assert held.message.text == "one"

    run(main)


@pytest.mark.parametrize("clear", [False, True], ids=["sealed", "clear"])
@pytest.mark.parametrize("times", [1, 2], ids=["handed over", "and back"])
def test_agents_of_whoever_owns_a_queue_now_come_in_unasked(tmp_path: Path, times: int, clear: bool) -> None:
    async def main() -> None:
        async with serving(tmp_path, clear=clear) as queue:
            assert queue.relay_engine is not None
            engine, room = queue.relay_engine, queue.served.room
            bob = await queue.ben_served.agent("bob")
            await queue.bring_in(bob, "bob")
            owners = [(queue.ann_served, "alice"), (queue.ben_served, "bob")]
            for n in range(times):
                person = await owners[n % 2][0].person()
                transfer = t.TransferRoom(room=room, agent=owners[(n + 1) % 2][1])
                await person.ask("room.transfer", transfer, t.OwnedRoom)
                await trio.sleep(60)
            (owns, _), (other, _) = owners[times % 2], owners[(times + 1) % 2]
            asks, works, late = [await owns.agent(name) for name in ("asks", "works", "late")]
            stranger = await other.agent("stranger")
            first, second = await gather(
                partial(asks.send, "review the marlin", service="review"),
                partial(works.ask, "queue.serve", t.Serve(service="review"), t.Served),
            )
            assert isinstance(first, t.Sent)
            assert isinstance(second, t.Served)
            assert (first.room, second.room, second.status) == (room, room, "serving")
            await work(works, "a swordfish", room)
            await settle()
            assert await asks.read(room=room) == ["a swordfish"]
            assert (await late.ask("queue.serve", t.Serve(service="review"), t.Served)).room == room
            # The queue has one key of its own for each home that needed one.
            stored = await (await engine.rooms.get(queue.room)).quiet()
            own = [key for key in stored.state.keys.values() if not key.gated]
            assert len(own) == (2 if times == 1 else 1)
            # The person who owned it before brings in nobody any more: that name opens another queue there.
            assert (await stranger.send("x", service="review")).room != room
            for home in (queue.ann, queue.ben):
                assert (await queue.room_of(home)).state.contradicted == ""

    run(main)


def test_agents_of_whoever_went_on_with_a_queue_come_in_unasked(tmp_path: Path) -> None:
    async def main() -> None:
        queue = queue_in(tmp_path)
        async with queue.relay.serving(), queue.ben.serving() as ben, queue.cat.serving() as cat:
            async with queue.ann.serving() as ann:
                await queue.begin(ann, ben, cat)
                room = queue.served.room
                bob = await ben.agent("bob")
                await queue.bring_in(bob, "bob")
                names = t.NameSuccessor(room=room, person="bob")
                await (await ann.person()).ask("room.successor", names, t.SuccessorNamed)
                await trio.sleep(60)
            queue.relay.clock.move(seconds=31 * 86_400)
            person = await ben.person()
            taken = await person.ask("room.continue", t.ContinueRoom(room=room, without_owner=True), t.ContinuedRoom)
            assert taken.status == "taken_over"
            await trio.sleep(60)
            late = await ben.agent("late")
            sent = await late.send("review the marlin", service="review")
            assert sent.room == room
            held = await work(bob, "a swordfish", room)
            assert held.id == sent.id
            await settle()
            assert await late.read(room=room) == ["a swordfish"]

    run(main)


def test_many_agents_of_the_owner_come_in_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            agents = [await queue.ann_served.agent(f"agent{number}") for number in range(12)]
            async with trio.open_nursery() as coming:
                for number, each in enumerate(agents):
                    if number % 2:
                        coming.start_soon(each.call, "queue.serve", t.Serve(service="review"))
                    else:
                        coming.start_soon(each.call, "message.send", t.Send(text="one", service="review"))
            for number, each in enumerate(agents):
                assert await queue.asks(queue.ann, each) is (number % 2 == 0)

    run(main)


def test_what_each_home_keeps_of_a_queue_is_what_was_signed(tmp_path: Path) -> None:
    async def main() -> None:
        queue = queue_in(tmp_path)
        async with queue.relay.serving() as at_relay, queue.ann.serving() as ann, queue.ben.serving() as ben:
            await queue.begin(ann, ben, ben)
            bob, carol = await ben.agent("bob"), await ann.agent("carol")
            await queue.bring_in(bob, "bob", requester=True)
            await bob.send("review the marlin", service="review")
            await carol.send("review the halibut", service="review")
            # A requester works now: its seat changes, and its key may not.
            await carol.ask("queue.serve", t.Serve(service="review"), t.Served)
            await work(queue.alice, "it swims", queue.served.room)
            await settle()
            there = await (await at_relay.desk.rooms.get(queue.room)).quiet()
            for store, found in (
                (queue.ann.world.store, await queue.room_of(queue.ann)),
                (queue.ben.world.store, await queue.room_of(queue.ben)),
                (queue.relay.store, there),
            ):
                facts = store.whole_facts(queue.room, Position(0), 500)
                about = Audited.of(found.state, facts[0].body)
                assert [fact.header.event for fact in facts if not is_signed(fact, about)] == []
                for fact in facts:
                    turned = fact.header.event
                    if isinstance(turned, e.EpochTurned) and turned.number > 1:
                        lies = tuple(
                            (agent, msgspec.structs.replace(seat, requester=not seat.requester))
                            for agent, seat in turned.added
                        )
                        lie = msgspec.structs.replace(turned, added=lies)
                        header = msgspec.structs.replace(fact.header, event=lie)
                        if lies:
                            assert not is_signed(msgspec.structs.replace(fact, header=header), about)

    run(main)


def test_a_stranger_whom_the_relay_calls_an_agent_of_the_owner_is_given_no_key(tmp_path: Path) -> None:
    """A key that asks nobody lets the agents of the owner's person in. That somebody is one, the relay alone says."""

    async def main() -> None:
        async with serving(tmp_path) as queue:
            bob = await queue.ben_served.agent("bob")
            stranger, home = await queue.id_of(bob), queue.relay.keys.id
            actor = await mirror_of(queue.ann.uplinks._desk, queue.room)
            state = (await actor.quiet()).state
            [key] = state.keys
            joined = e.MemberJoined(
                agent=stranger, principal=state.owner_principal, handle="bob", host="", role="", key=key
            )
            told = await queue.ben.uplinks._secrets.told_key(home, stranger)
            said = check(told.body, SealingKey)
            events = joined, e.SealingKeyTold(agent=stranger, key=said.key, counter=said.counter)
            bodies = Arrived((None, (told.body, told.signature)), "valid")
            by = By(stranger, state.owner_principal, "", "", "link")
            await actor.submit(c.Arrive(events=events, at=(await actor.quiet()).last_at), by, bodies)
            await trio.sleep(120)
            # Another record follows, and does not hold it.
            carol = await queue.ann_served.agent("carol")
            await carol.send("one", service="review")
            state = (await queue.room_of(queue.ann)).state
            assert stranger in state.epochs.entering
            assert stranger not in state.epochs.roster
            assert await queue.id_of(carol) in state.epochs.roster

    run(main)


def test_who_was_let_in_to_ask_is_given_no_more_whatever_it_asks_for_with_the_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record waits for a key that the relay holds back; meanwhile there is a newer knock, with a worker's key."""

    async def main() -> None:
        async with serving(tmp_path) as queue:
            bob = await queue.ben_served.agent("bob")
            await queue.invite()
            [key] = [each for each in (await queue.room_of(queue.ann)).state.keys.values() if each.gated]

            async def nothing(*args: Any, **more: Any) -> None:
                return None

            with monkeypatch.context() as patched:
                patched.setattr(queue.ann.uplinks._turning, "following", nothing)
                code = await queue.invite(requester=True)
                waits = await bob.join(code)
                await (await queue.ann_served.person()).approve("bob", join_code=waits.join_code)
                await settle()
                stranger = await queue.id_of(bob)
                actor = await mirror_of(queue.ann.uplinks._desk, queue.room)
                room = await actor.quiet()
                assert stranger in room.state.epochs.entering
                principal = room.state.members[stranger].principal
                asked = e.JoinRequested(
                    request=RequestId("q_again"), key=key.id, agent=stranger, principal=principal, name="bob", host=""
                )
                by = By(stranger, principal, "", "", "link")
                await actor.submit(c.Arrive(events=(asked,), at=room.last_at), by, Arrived((None,), "valid"))
            await trio.sleep(120)
            assert await queue.asks(queue.ann, bob)
            # Nor is it, where this home never heard by which request it came, and the relay says no role of it.
            room = await queue.room_of(queue.ann)
            with monkeypatch.context() as patched:
                patched.setattr(room.state.approvals, "requests", {})
                patched.setattr(room.state.members[stranger], "role", "")
                assert queue.ann.uplinks._turning._asks(room, stranger)
                assert not queue.ann.uplinks._turning._asks(room, room.state.owner)

    run(main)


def test_what_waited_is_read_though_its_author_only_asks_for_work_by_then(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            bob, dan = await queue.ben_served.agent("bob"), await queue.cat_served.agent("dan")
            room = queue.served.room
            await queue.bring_in(bob, "bob")
            await queue.bring_in(dan, "dan")
            bold = 'agents[self].role == "bold"'
            sent = await bob.send("review the marlin", room=room, kind="task", enabled=bold)
            assert sent.gated
            await queue.alice.ask("room.role", t.GiveRole(room=room, agent="dan", role="bold"), t.RoleOfMember)
            await settle()
            assert await dan.read(room=room) == ["review the marlin"]
            await bob.call("room.leave", t.LeaveAsMember(room=room))
            await trio.sleep(30)
            await queue.bring_in(bob, "bob", requester=True)
            assert await queue.asks(queue.ann, bob)
            # Another one is shown it now.
            await queue.alice.ask("room.role", t.GiveRole(room=room, agent="alice", role="bold"), t.RoleOfMember)
            await settle()
            assert "review the marlin" in await queue.alice.read(room=room)

    run(main)


@pytest.mark.parametrize("clear", [False, True])
def test_what_waits_for_somebody_who_only_asks_is_shown_to_that_one(tmp_path: Path, clear: bool) -> None:
    async def main() -> None:
        async with serving(tmp_path, clear=clear) as queue:
            bob, room = await queue.ben_served.agent("bob"), queue.served.room
            await queue.bring_in(bob, "bob", requester=True)
            await queue.alice.send("later, bob", room=room, visible_to=("bob",), enabled=OPEN)
            await queue.alice.send("for workers", room=room, enabled=OPEN)
            asked = await bob.send("review the marlin", service="review")
            await settle()
            # A reply to what it asked for is for it, as any reply is.
            waits = await queue.alice.send("soon", room=room, reply_to=asked.id, enabled=OPEN)
            assert waits.readers == ["bob"]
            assert await bob.read(room=room) == []
            await put(queue.alice, "open", True, room=room)
            await settle()
            assert await bob.read(room=room) == ["later, bob", "soon"]
            for home in (queue.ann, queue.ben):
                assert (await queue.room_of(home)).state.alarm is None

    run(main)


@pytest.mark.parametrize("clear", [False, True])
def test_words_that_went_before_they_were_told_count_for_nobody_who_only_asks(tmp_path: Path, clear: bool) -> None:
    """A worker and a requester of one machine, which was off meanwhile: the relay is accused of nothing."""

    async def main() -> None:
        queue = queue_in(tmp_path)
        queue.clear = clear
        async with queue.ann.serving() as ann, queue.ben.serving() as ben:
            async with queue.relay.serving():
                async with queue.cat.serving() as cat:
                    await queue.begin(ann, ben, cat)
                    room = queue.served.room
                    await queue.bring_in(await cat.agent("dan"), "dan", requester=True)
                    await queue.bring_in(await cat.agent("eve"), "eve")
                gone = await queue.alice.send("gone soon", room=room)
                await queue.alice.send("still here", room=room)
                await settle()
                facts = queue.relay.store.whole_facts(queue.room, Position(0), 1_000)
                places = [
                    fact.header.position
                    for fact in facts
                    if isinstance(fact.header.event, e.MessagePosted) and fact.header.event.id == gone.id
                ]
                (outcome,) = queue.relay.store.transact([[EraseBodies(queue.room, places)]])
                assert outcome.error is None
            async with queue.relay.serving(), queue.cat.serving() as cat:
                dan, eve = await cat.agent("dan"), await cat.agent("eve")
                assert "still here" in await eve.read(room=room, wait=60)
                await dan.send("one", service="review")
                await work(queue.alice, "done", room)
                await settle()
                assert await dan.read(room=room) == ["done"]
            async with queue.relay.serving(), queue.cat.serving() as cat:
                eve = await cat.agent("eve")
                await eve.read(room=room, wait=60)
                await trio.sleep(60)
                assert (await queue.room_of(queue.cat)).state.contradicted == ""

    run(main)


def test_what_waited_for_the_workers_of_a_machine_is_none_of_its_requesters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a queue of another history, which no Parler opens by itself."""

    async def main() -> None:
        planned = partial(plans.planned, history="from-join")
        monkeypatch.setattr(queues, "planned", planned)
        async with serving(tmp_path) as queue:
            dan, eve, room = await queue.cat_served.agent("dan"), await queue.cat_served.agent("eve"), queue.served.room
            assert (await queue.room_of(queue.ann)).state.history == "from-join"
            await queue.bring_in(eve, "eve")
            await queue.bring_in(dan, "dan", requester=True)
            await queue.alice.send("for workers", room=room, enabled=OPEN)
            carol = await queue.ann_served.agent("carol")
            await carol.send("one", service="review")
            await put(queue.alice, "open", True, room=room)
            await settle()
            assert "for workers" in await eve.read(room=room)
            assert (await queue.room_of(queue.cat)).state.contradicted == ""

    run(main)


def test_nobody_comes_in_as_an_agent_of_the_owner_s_person_that_is_none_of_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay says for whom bob acts, and bob's machine signs the same."""

    async def main() -> None:
        async with serving(tmp_path) as queue:
            bob = await queue.ben_served.agent("bob")
            stranger, person = await queue.id_of(bob), (await queue.room_of(queue.ann)).state.owner_principal
            honest, begin = reachable.stamp, Exchanges.begin

            def lying(caller: Caller, agent: AgentId, host: str = "") -> By:
                return msgspec.structs.replace(honest(caller, agent, host), principal=person)

            async def pretending(exchanges: Exchanges, home: HomeId, room: RoomId, by: By, **more: Any) -> Any:
                return await begin(exchanges, home, room, msgspec.structs.replace(by, principal=person), **more)

            monkeypatch.setattr(letting_in, "stamp", lying)
            monkeypatch.setattr(Exchanges, "begin", pretending)
            code = await queue.invite()
            with suppress(ParlerError):
                await bob.join(code)
            await trio.sleep(120)
            requests = (await queue.room_of(queue.ann)).state.requests.values()
            assert [(each.agent, each.principal, each.state) for each in requests] == [(stranger, person, "failed")]
            assert queue.ann.world.store.key_tries(queue.room) == []

    run(main)
