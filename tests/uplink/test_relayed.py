"""People on different machines in one room: what the relay is for, from the first key to the last message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, Position, RoomId
from parlerd.engine.callers import Caller, PeerProcess
from parlerd.engine.engine import Engine
from parlerd.engine.face import EngineFace, Outlet, Pending
from parlerd.engine.handles import RoomHandle
from parlerd.engine.tending import Tending
from parlerd.operations import types as t
from parlerd.uplink.lanes import ANSWER_S, mirror_of
from tests.support.engine import HandClock, Party, PlugDriver, Served, run, settle, texts
from tests.support.faces import PassingFace
from tests.support.relayed import Home, Relay, Wires, homes_of


class Meeting:
    """Alice, of Ann's home, has a session on the relay, and Bob, of Ben's home, is in it."""

    def __init__(self, wires: Wires, relay: Relay, ann: Home, ben: Home) -> None:
        self.wires, self.relay, self.ann, self.ben = wires, relay, ann, ben
        self.alice: Party
        self.bob: Party
        self.opened: t.OpenedSession
        self.ann_served: Served

    async def meet(self, ann: Served, ben: Served) -> None:
        self.ann_served = ann
        self.alice, self.bob = await ann.agent("alice"), await ben.agent("bob")
        self.opened = await self.alice.open("auth redesign", "Chose PKCE.", clear=True)
        waits = await self.bob.join(self.opened.session_key)
        assert waits.status == "pending"
        await (await ann.person()).approve("bob", join_code=waits.join_code)
        await self.bob.come_in(self.opened.session_key)

    async def again(self, ann: Served, ben: Served) -> None:
        """Both are connected anew, after a restart."""
        self.alice, self.bob = await ann.agent("alice"), await ben.agent("bob")


def meeting_in(folder: Path) -> Meeting:
    wires, relay, home = homes_of(folder)
    return Meeting(wires, relay, home("ann"), home("ben"))


@asynccontextmanager
async def met(folder: Path) -> AsyncIterator[Meeting]:
    """The meeting, with everything running."""
    meeting = meeting_in(folder)
    async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
        await meeting.meet(ann, ben)
        yield meeting


@asynccontextmanager
async def met_before(folder: Path) -> AsyncIterator[tuple[Meeting, Served, Served]]:
    """A meeting in which "before" was said, on a relay that does not run."""
    meeting = meeting_in(folder)
    async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
        async with meeting.relay.serving():
            await meeting.meet(ann, ben)
            await meeting.alice.send("before")
            assert await meeting.bob.read() == ["before"]
        yield meeting, ann, ben


def test_a_session_is_opened_on_a_relay_and_a_person_lets_somebody_in_from_another_machine(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            opened = await alice.open("auth redesign", "Chose PKCE.", clear=True)
            assert opened.session_key is not None
            key, _, name = opened.session_key.partition("@")
            assert name.startswith("team-")
            assert (await bob.refused("session.join", t.JoinSession(session_key=key))).code == "unknown_key"
            waits = await bob.join(opened.session_key)
            assert (waits.status, waits.room) == ("pending", opened.room)
            person = await ann.person()
            [request] = await person.requests()
            assert (request.name, request.home, request.room) == ("bob", name, opened.room)
            refused = await person.refused("session.approve", t.DecideJoin(agent="bob", join_code="0000"))
            assert refused.code == "code_mismatch"
            decided = await person.approve("bob", join_code=waits.join_code)
            assert (decided.status, decided.name) == ("approved", "bob")
            landed = await bob.join(opened.session_key)
            assert (landed.status, landed.name, texts(landed)) == ("joined", "auth-redesign", ["Chose PKCE."])
            assert [member.name for member in (await alice.roster()).values()] == ["alice", "bob"]
            assert [member.name for member in (await bob.roster()).values()] == ["alice", "bob"]

    run(main)


def test_words_go_both_ways_and_whoever_waits_is_woken(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            async with trio.open_nursery() as nursery:
                heard: list[str] = []

                async def wait() -> None:
                    heard.extend(await bob.read(wait=60))

                nursery.start_soon(wait)
                await trio.sleep(1)
                sent = await alice.send("take token rotation, please")
            assert heard == ["take token rotation, please"]
            assert (sent.seq, sent.replayed) == (2, False)
            answer = await bob.send("on it", reply_to=sent.id)
            [message] = (await alice.recv()).messages
            assert (message.text, message.author.name, message.verified, message.seq) == ("on it", "bob", "valid", 3)
            assert message.reply_to == sent.id
            assert (answer.seq, answer.room) == (3, meeting.opened.room)

    run(main)


def test_a_turn_is_handed_over_to_another_machine(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            given = await meeting.alice.handoff("rotate the tokens", to="bob")
            [message] = (await meeting.bob.recv()).messages
            assert (message.id, message.kind) == (given.id, "handoff")

    run(main)


def test_while_the_cable_is_cut_an_offer_waits_and_an_answer_is_refused_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            first = await alice.handoff("rotate the tokens", to="bob")
            await bob.read(wait=20)
            meeting.wires.cut()
            await alice.send("so that the cut is noticed")
            for party, op, params in (
                (bob, "handoff.accept", t.AcceptHandoff(id=first.id)),
                (bob, "handoff.decline", t.DeclineHandoff(id=first.id)),
                (alice, "handoff.withdraw", t.WithdrawHandoff(id=first.id)),
            ):
                error = await party.refused(op, params)
                assert error.code in ("offline", "home_unreachable")
                assert error.spec.retryable
            second = await alice.handoff("and then the UI", to="bob")
            assert (second.queued, second.seq, second.expires) == (True, None, 0)
            meeting.wires.mend()
            heard: list[str] = []
            while second.id not in heard:
                page = await bob.recv(wait=60)
                heard += [each.id for each in page.messages]
                await bob.commit(page)
            # Nothing of what was refused went out meanwhile.
            found = await bob.ask("handoff.show", t.ShowHandoffs(), t.HandoffList)
            assert {each.id: each.status for each in found.handoffs} == {first.id: "offered", second.id: "offered"}
            for given in (first, second):
                done = await bob.ask("handoff.accept", t.AcceptHandoff(id=given.id), t.AnsweredHandoff)
                assert (done.status, done.replayed, done.holder) == ("accepted", False, "bob")

    run(main)


def test_while_the_cable_is_cut_nothing_is_claimed_or_said_of_a_task_and_nothing_goes_out_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            first = await alice.send("review PR #42", kind="task")
            second = await alice.send("review PR #43", kind="task")
            await bob.read(wait=20)
            await bob.ask("task.claim", t.ClaimTask(id=first.id), t.TaskHeld)
            meeting.wires.cut()
            await alice.send("so that the cut is noticed")
            calls: list[tuple[str, t.Params]] = [
                ("task.claim", t.ClaimTask(id=second.id)),
                ("task.renew", t.RenewTask(id=first.id)),
                ("task.release", t.ReleaseTask(id=first.id)),
                ("task.complete", t.CompleteTask(id=first.id, text="approved")),
                ("task.say", t.SayOfTask(status="working", id=first.id)),
            ]
            for op, params in calls:
                error = await bob.refused(op, params)
                assert error.code in ("offline", "home_unreachable"), op
                assert error.spec.retryable
            third = await alice.send("review PR #44", kind="task")
            assert third.queued
            meeting.wires.mend()
            heard: list[str] = []
            while third.id not in heard:
                page = await bob.recv(wait=60)
                heard += [each.id for each in page.messages]
                await bob.commit(page)
            # Nothing of what was refused went out meanwhile.
            why = await alice.ask("message.why", t.Why(id=first.id), t.WhyResult)
            assert isinstance(why.task, t.TaskEntry)
            assert (why.task.state, why.task.holder) == ("claimed", "bob")
            held = await bob.ask("task.claim", t.ClaimTask(), t.TaskHeld)
            assert held.id == second.id
            done = await bob.ask("task.complete", t.CompleteTask(id=first.id, text="approved"), t.TaskHeld)
            assert done.status == "done"

    run(main)


def test_a_result_that_the_relay_finds_late_is_refused_although_the_mirror_held_the_task(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            task = await alice.send("review PR #42", kind="task")
            await bob.read(wait=20)
            held = await bob.ask("task.claim", t.ClaimTask(lease_ms=15_000), t.TaskHeld)
            again = t.CompleteTask(id=task.id, fence=(held.fence or 0) + 1, text="with another number")
            error = await bob.refused("task.complete", again)
            assert (error.code, error.details["holder"]) == ("claim_lost", "bob")
            await alice.read(wait=20)
            assert "with another number" in [each.text for each in (await alice.recv(all=True)).messages]

    run(main)


def test_a_private_message_is_seen_by_those_it_names_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            await alice.send("for bob", visible_to=("bob",))
            await alice.send("for me", visible_to=("alice",))
            await alice.send("for all")
            assert await bob.read() == ["for bob", "for all"]
            await bob.send("back", visible_to=("alice",))
            assert await alice.read() == ["back"]

    run(main)


def test_the_same_request_twice_is_one_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            first = await alice.send("once", idempotency_key="k1")
            again = await alice.send("once", idempotency_key="k1")
            assert (again.id, again.seq, again.replayed) == (first.id, first.seq, True)
            other = await alice.refused("message.send", t.Send(text="twice", idempotency_key="k1"))
            assert other.code == "idempotency_conflict"
            assert await bob.read() == ["once"]

    run(main)


def test_what_is_said_at_once_by_many_stands_in_each_authors_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob

            async def say(party: Party, name: str) -> None:
                for number in range(20):
                    await party.send(f"{name}{number}")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(say, alice, "a")
                nursery.start_soon(say, bob, "b")
            assert await alice.read(limit=100) == [f"b{number}" for number in range(20)]
            assert await bob.read(limit=100) == [f"a{number}" for number in range(20)]

    run(main)


def test_while_the_cable_is_cut_messages_wait_and_go_out_in_order_after(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob, wires = meeting.alice, meeting.bob, meeting.wires
            await alice.send("before")
            wires.cut()
            queued = [await alice.send(f"offline {number}") for number in range(3)]
            assert all(sent.queued for sent in queued)
            assert await bob.read() == ["before"]
            wires.mend()
            async with trio.open_nursery() as nursery:

                async def hear() -> None:
                    heard: list[str] = []
                    while len(heard) < 3:
                        heard += await bob.read(wait=120)
                    assert heard == ["offline 0", "offline 1", "offline 2"]

                nursery.start_soon(hear)
            after = await alice.send("after")
            assert not after.queued
            assert await bob.read() == ["after"]

    run(main)


def test_a_message_whose_answer_was_lost_is_there_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob, wires = meeting.alice, meeting.bob, meeting.wires
            for _, theirs in wires.open:
                theirs.hold()
            sent = await alice.send("did this arrive?")
            assert sent.queued
            wires.cut()
            wires.mend()
            heard = await bob.read(wait=120)
            assert heard == ["did this arrive?"]
            await trio.sleep(200)
            assert await bob.read() == []
            assert not (await alice.send("yes")).queued
            assert await bob.read() == ["yes"]

    run(main)


def test_a_queue_that_was_opened_as_the_daemon_died_is_the_one_that_is_asked_for_through_another_door(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving():
            async with meeting.ann.serving() as ann:
                alice = await ann.agent("alice")
                await alice.open("", "the link is up", clear=True)
                for _, theirs in meeting.wires.open:
                    theirs.hold()
                with trio.move_on_after(1):
                    await alice.ask("queue.serve", t.Serve(service="review"), t.Served)
            meeting.wires.cut()
            meeting.wires.mend()
            async with meeting.ann.serving() as ann:
                alice = await ann.window("w1", host="codex", as_name="alice")
                await alice.ask("queue.serve", t.Serve(service="review"), t.Served)
        store = meeting.relay.store
        opened = [fact.event for room in store.rooms() for fact in store.facts(room, Position(0), 1)]
        assert [event.kind for event in opened if isinstance(event, e.RoomOpened)].count("service") == 1

    run(main)


@pytest.mark.parametrize("fenced", [False, True], ids=["by any claim", "by its claim"])
@pytest.mark.parametrize("again", [False, True], ids=["nobody has it", "it has the task again"])
def test_a_result_after_the_lease_is_no_result_to_who_asked_also_where_the_worker_is_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool, fenced: bool
) -> None:
    """The lease ended a moment ago, and the room's home did not see to that yet. The worker's home takes the task for
    held, and signs what the worker says as a result."""

    async def not_yet(tending: Tending, handle: RoomHandle) -> None:
        """The moment at which the home looks lies ahead."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            alice, bob = meeting.alice, meeting.bob
            task = await alice.send("review PR #42", kind="task")
            await told(meeting)
            claim = t.ClaimTask(id=task.id, lease_ms=15_000)
            held = await bob.ask("task.claim", claim, t.TaskHeld)
            fence = (held.fence or 0) if fenced else 0
            done = t.CompleteTask(id=task.id, fence=fence, text="approved", idempotency_key="late")
            # Its window is closed, so nobody renews the lease.
            await ben.leave(bob)
            with monkeypatch.context() as patch:
                patch.setattr(Tending, "look", not_yet)
                await trio.sleep(15.01)
                bob = await ben.agent("bob")
                error = await bob.refused("task.complete", done)
            assert (error.code, error.details["holder"]) == ("claim_lost", None)
            held = await bob.ask("task.claim", claim, t.TaskHeld) if again else held
            error = await bob.refused("task.complete", done)
            assert (error.code, error.details.get("holder")) == ("claim_lost", "bob" if again else None)
            await trio.sleep(1)
            said = [each for each in (await alice.recv(all=True)).messages if each.reply_to == task.id]
            assert [(each.id, each.kind, each.text) for each in said] == [
                (error.details["result"], "late-result", "approved")
            ]
            why = await alice.ask("message.why", t.Why(id=task.id), t.WhyResult)
            assert isinstance(why.task, t.TaskEntry)
            assert why.task.state == ("claimed" if again else "open")

    run(main)


def test_a_task_of_a_relay_is_over_when_nobody_took_it_in_its_time_counted_from_when_the_relay_had_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            hour = t.TimerAsked(ms=3_600_000)
            meeting.wires.cut()
            urgent = await alice.send("urgent", kind="task", timer=hour, idempotency_key="urgent")
            assert urgent.queued
            again = await alice.send("urgent", kind="task", timer=hour, idempotency_key="urgent")
            assert (again.id, again.replayed) == (urgent.id, True)
            await trio.sleep(1_800)
            meeting.wires.mend()
            await trio.sleep(120)
            moment = t.TimerAsked(at="2099-01-01T00:00:00Z")
            error = await alice.refused("message.send", t.Send(text="far ahead", kind="task", timer=moment))
            assert (error.code, error.details["what"]) == ("invalid_timer", "at")
            await trio.sleep(2_400)
            assert (await bob.ask("task.claim", t.ClaimTask(id=urgent.id, lease_ms=15_000), t.TaskHeld)).id == urgent.id
            await bob.ask("task.release", t.ReleaseTask(id=urgent.id), t.TaskHeld)
            await trio.sleep(1_800)
            for who in (alice, bob):
                found = (await who.ask("message.why", t.Why(id=urgent.id), t.WhyResult)).task
                assert isinstance(found, t.TaskEntry)
                assert (found.state, found.ended_by) == ("cancelled", msgspec.UNSET)
                assert isinstance(found.open_until, int)
            error = await bob.refused("task.claim", t.ClaimTask(id=urgent.id))
            assert (error.code, error.details["status"]) == ("task_over", "cancelled")

    run(main)


def test_a_page_whose_link_goes_while_it_waits_for_its_mirror_leaves_nothing_of_its_end_without_its_beginning(
    tmp_path: Path,
) -> None:
    """The mirror would hold another line than the relay, and accuse it."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            await told(meeting)
            actor = await mirror_of(meeting.ben.uplinks._desk, RoomId(meeting.opened.room))
            meeting.wires.cut_off("ben")
            for text in ("one", "two"):
                await alice.send(text)
            # Whoever waits to look at the mirror goes first, so the page waits in its line.
            actor._readers += 1
            meeting.wires.bring_back("ben")
            await trio.sleep(60)
            assert len(actor._waiting) == 2
            meeting.wires.cut_off("ben")
            await settle()
            actor._readers -= 1
            actor.move()
            meeting.wires.bring_back("ben")
            await trio.sleep(120)
            assert actor.aggregate.state.contradicted == ""
            assert (await bob.read())[-2:] == ["one", "two"]

    run(main)


def test_a_moment_stays_what_it_is_while_a_task_waits_for_its_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            at = meeting.ann_served.engine.desk.clock.now() + 600_000
            meeting.wires.cut()
            urgent = await alice.send("urgent", kind="task", timer=t.TimerAsked(at=at))
            assert urgent.queued
            await trio.sleep(1_800)
            meeting.wires.mend()
            await trio.sleep(120)
            assert (await bob.ask("task.claim", t.ClaimTask(), t.TaskHeld)).id is None
            for who in (alice, bob):
                found = (await who.ask("message.why", t.Why(id=urgent.id), t.WhyResult)).task
                assert isinstance(found, t.TaskEntry)
                # Its time was over in the moment in which the relay had it.
                assert (found.state, isinstance(found.open_until, int)) == ("cancelled", True)

    run(main)


def test_a_task_until_a_moment_that_is_asked_for_again_is_the_same_task(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            at = meeting.ann_served.engine.desk.clock.now() + 3_600_000
            send = partial(meeting.alice.send, "urgent", kind="task", timer=t.TimerAsked(at=at), idempotency_key="once")
            first = await send()
            # In the time, and after it.
            for seconds in (100, 7_200):
                await trio.sleep(seconds)
                again = await send()
                assert (again.id, again.replayed) == (first.id, True)
            for timer in (t.TimerAsked(at=at + 1), t.TimerAsked(ms=60_000), None):
                other = t.Send(text="urgent", kind="task", timer=timer, idempotency_key="once")
                assert (await meeting.alice.refused("message.send", other)).code == "idempotency_conflict"
            past = t.Send(text="urgent", kind="task", timer=t.TimerAsked(at=at), idempotency_key="another")
            error = await meeting.alice.refused("message.send", past)
            assert (error.code, error.details["what"]) == ("invalid_timer", "at")

    run(main)


def test_a_message_has_one_id_however_often_it_was_asked_for(tmp_path: Path) -> None:
    """Also when the daemon that first asked the relay is gone, and the next one does not know of it."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben:
            async with meeting.ann.serving() as ann:
                await meeting.meet(ann, ben)
                for _, theirs in meeting.wires.open:
                    theirs.hold()
                with trio.move_on_after(1):
                    await meeting.alice.send("did this arrive?", idempotency_key="once")
            meeting.wires.cut()
            async with meeting.ann.serving() as ann:
                alice = await ann.agent("alice")
                sent = await alice.send("did this arrive?", idempotency_key="once")
                assert sent.queued
                meeting.wires.mend()
                await trio.sleep(120)
                [message] = (await meeting.bob.recv()).messages
                assert (message.text, message.id) == ("did this arrive?", sent.id)
                assert await alice.why(sent.id)

    run(main)


def test_each_of_the_three_may_be_restarted(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving():
            async with meeting.ann.serving() as ann:
                async with meeting.ben.serving() as ben:
                    await meeting.meet(ann, ben)
                    await meeting.alice.send("while ben is here")
                await meeting.alice.send("while ben is away")
            async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
                await meeting.again(ann, ben)
                await meeting.alice.send("after both came back")
                heard = await meeting.bob.read(wait=60)
                if len(heard) < 3:
                    heard += await meeting.bob.read(wait=60)
                assert heard == ["while ben is here", "while ben is away", "after both came back"]
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.again(ann, ben)
            assert (await meeting.alice.send("while the relay is away")).queued
        async with meeting.relay.serving(), meeting.ann.serving(), meeting.ben.serving() as ben:
            bob = await ben.agent("bob")
            assert await bob.read(wait=120) == ["while the relay is away"]

    run(main)


def test_lists_of_a_home_that_was_not_heard_from_say_as_of_when_and_wait_for_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, person = meeting.alice, await meeting.ann_served.person()
            await alice.open("here", home="local")
            name = meeting.opened.session_key.partition("@")[2] if meeting.opened.session_key else ""
            rooms = await alice.ask("rooms.list", t.ListRooms(), t.RoomList)
            assert (rooms.notice, [room.silent_since for room in rooms.rooms]) == ("", [msgspec.UNSET] * 2)
            meeting.wires.cut()
            heard = meeting.ann.world.clock.now()
            await trio.sleep(1)
            meeting.ann.world.clock.move(seconds=120)
            begun = trio.current_time()
            rooms = await alice.ask("rooms.list", t.ListRooms(), t.RoomList)
            assert rooms.notice == f"Nothing was heard from {name} for 2 min: its sessions may look different by now."
            since = {room.home: room.silent_since for room in rooms.rooms}
            assert since == {name: heard, "local": msgspec.UNSET}
            roster = await alice.ask("rooms.roster", t.Roster(room=meeting.opened.room), t.RosterResult)
            assert roster.silent_since == heard
            assert roster.notice == f"Nothing was heard from {name} for 2 min: others may have come or gone meanwhile."
            roster = await alice.ask("rooms.roster", t.Roster(room="here"), t.RosterResult)
            assert (roster.silent_since, roster.notice) == (msgspec.UNSET, "")
            said = f"Nothing was heard from {name} for 2 min: newer requests there may be missing here."
            assert (await person.ask("approvals.list", t.ListApprovals(), t.RequestList)).notice == said
            asked = t.SessionRequests(room=meeting.opened.room)
            assert (await alice.ask("session.requests", asked, t.RequestList)).notice == said
            assert trio.current_time() == begun

    run(main)


@pytest.mark.parametrize("op", ["rooms.list", "rooms.roster", "approvals.list"])
def test_a_look_after_a_start_answers_at_once_and_begins_the_link_for_the_next_one(op: str, tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben:
            async with meeting.ann.serving() as ann:
                await meeting.meet(ann, ben)
            bert = await ben.agent("bert")
            assert (await bert.join(meeting.opened.session_key)).status == "pending"
            await meeting.bob.send("meanwhile")
            async with meeting.ann.serving() as ann:
                person = await ann.person()
                params: dict[str, t.Params] = {
                    "rooms.list": t.ListRooms(),
                    "rooms.roster": t.Roster(room=meeting.opened.room),
                    "approvals.list": t.ListApprovals(),
                }
                begun = trio.current_time()
                first = await person.call(op, params[op])
                assert trio.current_time() == begun
                assert "Nothing was heard from" in first.notice  # type: ignore[attr-defined]
                assert " yet: " in first.notice  # type: ignore[attr-defined]
                await trio.sleep(2)
                assert (await person.call(op, params[op])).notice == ""  # type: ignore[attr-defined]
                [room] = await person.rooms()
                assert (room.unread, room.pending) == (1, 1)
                assert [request.name for request in await person.requests()] == ["bert"]

    run(main)


@pytest.mark.parametrize("op", ["rooms.list", "approvals.list"])
def test_a_relay_that_accepts_and_is_silent_makes_no_list_slower(op: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            meeting.wires.cut()
            meeting.wires.is_silent = True
            meeting.wires.mend()
            person = await meeting.ann_served.person()
            for _ in range(5):
                begun = trio.current_time()
                await person.call(op, t.ListRooms() if op == "rooms.list" else t.ListApprovals())
                assert trio.current_time() == begun
                await trio.sleep(7)

    run(main)


def test_a_message_that_waits_here_is_the_first_rung_for_its_author_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice = meeting.alice
            meeting.wires.cut()
            await trio.sleep(60)
            sent = await alice.send("while the relay is away")
            assert sent.queued
            at = meeting.ann.world.clock.now()
            found = await alice.ask("message.why", t.Why(id=sent.id), t.WhyResult)
            name = (await alice.rooms())[0].home
            assert (found.room, found.readers) == (meeting.opened.room, [])
            assert found.queued == t.QueuedHere(home=name, since=at)
            person = await meeting.ann_served.person()
            assert (await person.ask("message.why", t.Why(id=sent.id), t.WhyResult)).queued == found.queued
            andy = await meeting.ann_served.agent("andy")
            for nobody in (andy, meeting.bob):
                assert (await nobody.refused("message.why", t.Why(id=sent.id))).code == "no_such_message"
            meeting.wires.mend()
            await trio.sleep(120)
            found = await alice.ask("message.why", t.Why(id=sent.id), t.WhyResult)
            assert found.queued is msgspec.UNSET
            assert [reader.name for reader in found.readers] == ["bob"]

    run(main)


def test_of_a_message_that_was_refused_after_it_waited_its_author_can_ask_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            meeting.wires.cut_off("ben")
            await trio.sleep(60)
            sent = await meeting.bob.send("too late")
            assert sent.queued
            assert await meeting.alice.close(meeting.opened.room) == "closed"
            meeting.wires.bring_back("ben")
            await trio.sleep(120)
            found = await meeting.bob.ask("message.why", t.Why(id=sent.id), t.WhyResult)
            assert isinstance(found.queued, t.QueuedHere)
            assert found.queued.refused == "room_closed"

    run(main)


def test_a_member_leaves_a_session_on_another_machine(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            assert await bob.close(meeting.opened.room) == "left"
            await trio.sleep(1)
            assert list(await alice.roster()) == ["alice"]
            await alice.send("nobody hears this")
            refused = await bob.refused("message.recv", t.Recv(room=meeting.opened.room))
            assert refused.code == "no_such_room"

    run(main)


class _Slow(PassingFace):
    """Tells one thing a second, and loses the answer to whoever leaves."""

    def __init__(self, engine: EngineFace, wires: Wires) -> None:
        super().__init__(engine)
        self._wires = wires

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        answer = await super().call(op, params, caller)
        if op == "link.close":
            self._wires.cut_off("ben")
        return answer

    @asynccontextmanager
    async def stream(
        self, op: str, params: t.Params, caller: Caller, outlet: Outlet | None = None
    ) -> AsyncIterator[AsyncIterator[t.Result]]:
        async def slowly() -> AsyncIterator[t.Result]:
            async for item in items:
                await trio.sleep(1)
                yield item

        async with super().stream(op, params, caller) as items:
            yield slowly()


def test_who_left_and_comes_again_is_in_from_the_answer_on(tmp_path: Path) -> None:
    """The mirror is told first that the agent was in before, and then that it left."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.face = lambda engine: _Slow(engine, meeting.wires)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            invite = t.Invite(group="corner", max_uses=5, clear=True, idempotency_key="corner")
            invited = await alice.ask("room.invite", invite, t.Invited)
            await bob.come_in(invited.code)
            await trio.sleep(60)
            await alice.send("not told in time", room=invited.room)
            leave = t.LeaveAsMember(room=invited.room)
            assert (await bob.refused("room.leave", leave)).code == "home_unreachable"
            await alice.send("nobody hears this", room=invited.room)
            meeting.wires.bring_back("ben")
            await trio.sleep(60)
            assert await bob.rooms() == []
            assert (await bob.join(invited.code)).status == "joined"
            for _ in range(10):
                assert [each.room for each in await bob.rooms()] == [invited.room]
                await trio.sleep(0.5)

    run(main)


@pytest.mark.parametrize("who", ["bob", "alice"])
def test_what_an_agent_said_before_it_left_or_ended_a_session_is_there(tmp_path: Path, who: str) -> None:
    """Also what still waited: its author was told that it is queued."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            leaver, reader = getattr(meeting, who), meeting.alice if who == "bob" else meeting.bob
            meeting.wires.cut()
            said = [f"before I go {number}" for number in range(40)]
            for text in said:
                assert (await leaver.send(text)).queued
            meeting.wires.mend()
            assert await leaver.close(meeting.opened.room) == ("left" if who == "bob" else "closed")
            await trio.sleep(60)
            assert await reader.read() == said
            assert meeting.ann.uplinks.undelivered(AgentId((await meeting.alice.whoami()).id)) == []
            assert meeting.ben.uplinks.undelivered(AgentId((await meeting.bob.whoami()).id)) == []

    run(main)


def test_nobody_leaves_before_it_is_on_the_disk_that_what_was_queued_is_in_the_room(tmp_path: Path) -> None:
    """A daemon that died in between would ask the relay again, for somebody who is not in the room any more, and tell
    the author that the message is in no room."""
    rows_left: list[int] = []

    class Leaving(PassingFace):
        async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
            if op == "link.close":
                rows_left.append(len(meeting.ben.world.store.outbox(meeting.relay.keys.id)))
            return await super().call(op, params, caller)

    meeting = meeting_in(tmp_path)
    meeting.relay.face = Leaving
    meeting.ben.world.driver = PlugDriver

    async def main() -> None:
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            meeting.wires.cut()
            assert (await meeting.bob.send("before I go")).queued
            disk = ben.engine.desk.library._driver
            assert isinstance(disk, PlugDriver)
            disk.lag = 0.5
            meeting.wires.mend()
            assert await meeting.bob.close(meeting.opened.room) == "left"
            assert rows_left == [0]
            assert await meeting.alice.read() == ["before I go"]

    run(main)


def test_while_something_waits_that_a_relay_does_not_take_its_author_does_not_leave(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.driver = PlugDriver
        async with meeting.relay.serving() as relay, meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            disk = relay.desk.library._driver
            assert isinstance(disk, PlugDriver)
            disk.dead = True
            assert (await meeting.bob.send("before I go")).queued
            refused = await meeting.bob.refused("session.close", t.CloseSession(room=meeting.opened.room))
            assert refused.code == "home_unreachable"
            disk.dead = False
            assert await meeting.bob.close(meeting.opened.room) == "left"
            assert await meeting.alice.read() == ["before I go"]

    run(main)


def test_an_owner_ends_a_session_for_everybody(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            await alice.send("the last word")
            assert await alice.close(meeting.opened.room) == "closed"
            await trio.sleep(1)
            refused = await bob.refused("message.send", t.Send(text="late", room=meeting.opened.room))
            assert refused.code == "room_closed"
            assert await bob.read() == ["the last word"]

    run(main)


def test_a_key_that_its_owner_ended_lets_nobody_knock(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            opened = await alice.open(clear=True)
            assert opened.session_key is not None
            await alice.ask("session.revoke", t.RevokeSessionKey(session_key=opened.session_key), t.RevokedKey)
            refused = await bob.refused("session.join", t.JoinSession(session_key=opened.session_key))
            assert refused.code == "unknown_key"

    run(main)


def test_a_denial_reaches_the_one_who_knocked_and_lifting_it_does_too(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            opened = await alice.open(clear=True)
            person = await ann.person()
            waits = await bob.join(opened.session_key)
            await person.deny("bob")
            assert (await bob.join(opened.session_key)).status == "denied"
            await person.approve("bob", join_code=waits.join_code)
            assert (await bob.join(opened.session_key)).status == "joined"

    run(main)


def test_what_only_a_relay_can_do_is_refused_while_it_cannot_be_reached(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob, opened = meeting.alice, meeting.bob, meeting.opened
            meeting.wires.cut()
            for party, op, params in (
                (alice, "session.open", t.OpenSession(topic="another", clear=True)),
                (alice, "session.close", t.CloseSession(room=opened.room)),
                (bob, "session.join", t.JoinSession(session_key="ABCDEFGH" + (opened.session_key or "")[8:])),
            ):
                refused = await party.refused(op, params)
                assert refused.code in ("offline", "home_unreachable"), (op, refused)
            assert await bob.read(room=opened.room) == []
            assert list(await bob.roster(opened.room)) == ["alice", "bob"]

    run(main)


def test_nobody_is_brought_to_a_relay_that_cannot_be_reached_and_who_was_started_comes_in_once_it_can(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            person = await ann.connect(peer=PeerProcess(pid=7))
            bring = t.BringAgent(host="codex", room=meeting.opened.room)
            meeting.wires.cut()
            for params in (bring, msgspec.structs.replace(bring, check=True)):
                assert (await person.refused("session.bring", params)).code in ("offline", "home_unreachable")
            meeting.wires.mend()
            await person.ask("session.bring", bring, t.Bringing)
            meeting.wires.cut()
            codex = await ann.connect("mcp", window="w", host="codex", peer=PeerProcess(pid=7_001))
            refused = await codex.refused("window.arrive", t.Arrive())
            assert refused.spec.retryable
            meeting.wires.mend()
            await codex.ask("window.arrive", t.Arrive(), t.Noted)
            assert (await person.ask("session.brought", t.AskBrought(), t.Brought)).status == "joined"
            assert (await codex.whoami()).active == meeting.opened.room

    run(main)


def test_a_session_that_could_not_be_opened_leaves_its_owner_in_the_one_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice = meeting.alice
            meeting.wires.cut()
            another = t.OpenSession(topic="another", clear=True, idempotency_key="k")
            assert (await alice.refused("session.open", another)).code in ("offline", "home_unreachable")
            assert (await alice.ask("message.send", t.Send(text="still here"), t.Sent)).room == meeting.opened.room
            meeting.wires.mend()
            opened = await alice.ask("session.open", another, t.OpenedSession)
            assert opened.name == "another"
            assert (await alice.ask("message.send", t.Send(text="there"), t.Sent)).room == opened.room

    run(main)


def test_an_outsider_on_the_same_relay_sees_nothing_of_a_room(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting = Meeting(wires, relay, home("ann"), home("ben"))
        async with (
            relay.serving(),
            meeting.ann.serving() as ann,
            meeting.ben.serving() as ben,
            home("eve").serving() as eve,
        ):
            await meeting.meet(ann, ben)
            mallory = await eve.agent("mallory")
            await mallory.open("of her own", clear=True)
            await meeting.alice.send("between us")
            await trio.sleep(5)
            assert [room.name for room in await mallory.rooms()] == ["of-her-own"]
            refused = await mallory.refused("message.recv", t.Recv(room=meeting.opened.room))
            assert refused.code == "no_such_room"

    run(main)


def test_three_people_of_whom_one_comes_late_have_one_room(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting = Meeting(wires, relay, home("ann"), home("ben"))
        async with (
            relay.serving(),
            meeting.ann.serving() as ann,
            meeting.ben.serving() as ben,
            home("cat").serving() as cat,
        ):
            await meeting.meet(ann, ben)
            await meeting.alice.send("one")
            await meeting.bob.send("two")
            await meeting.bob.send("not for cara", visible_to=("alice",))
            cara = await cat.agent("cara")
            waits = await cara.join(meeting.opened.session_key)
            await (await ann.person()).approve("cara", join_code=waits.join_code)
            landed = await cara.come_in(meeting.opened.session_key)
            assert texts(landed) == ["Chose PKCE.", "one", "two"]
            await cara.send("three")
            assert await meeting.alice.read() == ["two", "not for cara", "three"]
            assert await meeting.bob.read() == ["one", "three"]
            [room] = await cara.rooms()
            assert (room.name, room.room) == ("auth-redesign", meeting.opened.room)

    run(main)


def test_each_side_is_told_how_present_the_other_is(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            await trio.sleep(30)
            assert (await meeting.alice.roster())["bob"].presence == "active"
            await ben.engine.disconnect(meeting.bob.caller)
            await trio.sleep(30)
            assert (await meeting.alice.roster())["bob"].presence == "offline"
            assert (await meeting.alice.roster())["alice"].presence == "active"

    run(main)


def test_a_newcomer_sees_of_the_past_what_the_session_shows_newcomers(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting = Meeting(wires, relay, home("ann"), home("ben"))
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            opened = await alice.open("auth redesign", "Chose PKCE.", history="from-join", clear=True)
            await alice.send("before bob")
            waits = await bob.join(opened.session_key)
            await (await ann.person()).approve("bob", join_code=waits.join_code)
            landed = await bob.come_in(opened.session_key)
            assert texts(landed) == ["Chose PKCE."]
            sent = await alice.send("after bob came")
            [message] = (await bob.recv()).messages
            assert (message.text, message.seq) == ("after bob came", 2)
            assert (await bob.send("hello", reply_to=sent.id)).seq == 3

    run(main)


def test_a_daemon_that_was_away_for_long_goes_on_with_the_newest_and_counts_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr("parlerd.engine.following.CATCH_UP", 20)
        monkeypatch.setattr("parlerd.engine.following.NEWEST", 5)
        monkeypatch.setattr("parlerd.uplink.mirrors.NEWEST", 5)
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                await meeting.meet(ann, ben)
                await meeting.bob.send("before")
            for number in range(40):
                await meeting.alice.send(f"n{number}")
            async with meeting.ben.serving() as ben:
                bob = await ben.agent("bob")
                await trio.sleep(60)
                page = await bob.recv(wait=60)
                assert texts(page) == [f"n{number}" for number in range(35, 40)]
                assert page.messages[-1].seq == 42
                assert (await bob.send("after")).seq == 43
                assert (await bob.send("for alice", visible_to=("alice",))).seq == 44
                assert (await meeting.alice.read())[-2:] == ["after", "for alice"]

    run(main)


async def look_back(reader: Party, *, since: int = 0, limit: int = 100, **more: bool) -> tuple[list[t.Message], str]:
    """Everything after a number, page after page as a command line asks for it, and what was said beside the pages."""
    found: list[t.Message] = []
    said: list[str] = []
    while True:
        page = await reader.recv(wait=0, since=since, limit=limit, **more)
        found += page.messages
        said += [page.notice] if page.notice else []
        if not page.more:
            return found, " ".join(said)
        assert page.messages
        assert page.cursor == str(page.messages[-1].seq)
        since = page.messages[-1].seq


def test_a_late_joiner_reads_everything_from_the_first_message(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting = Meeting(wires, relay, home("ann"), home("ben"))
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            opened = await alice.open("auth redesign", "Chose PKCE.", clear=True)
            second = await alice.send("n2")
            await alice.send("n3", reply_to=second.id)
            for number in range(4, 1_001):
                await alice.send(f"n{number}")
            waits = await bob.join(opened.session_key)
            await (await ann.person()).approve("bob", join_code=waits.join_code)
            landed = await bob.come_in(opened.session_key)
            assert [message.seq for message in landed.messages] == [1, *range(1_002 - len(landed.messages), 1_001)]
            assert (landed.messages[0].text, landed.messages[0].opening) == ("Chose PKCE.", True)
            assert (landed.first_unshown, landed.last_unshown) == (2, landed.messages[1].seq - 1)
            assert texts(await bob.recv()) == []
            stored = (await ben.engine.rooms.get(RoomId(opened.room))).aggregate.position
            assert stored < 300
            found, said = await look_back(bob)
            assert said == ""
            assert [message.seq for message in found] == list(range(1, 1_001))
            assert [message.text for message in found] == ["Chose PKCE.", *(f"n{n}" for n in range(2, 1_001))]
            assert {message.verified for message in found} == {"valid"}
            assert {message.author.name for message in found} == {"alice"}
            assert [message.seq for message in found if message.opening is True] == [1]
            assert found[2].reply_seq == 2
            some, _ = await look_back(bob, since=640, limit=7)
            assert [message.text for message in some] == [f"n{n}" for n in range(641, 1_001)]
            assert (await ben.engine.rooms.get(RoomId(opened.room))).aggregate.position == stored

    run(main)


def test_a_newcomer_whose_window_has_space_for_the_recap_alone_is_shown_the_newest(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting = Meeting(wires, relay, home("ann"), home("ben"))
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            opened = await alice.open("auth redesign", "Chose PKCE.", clear=True)
            for number in range(2, 301):
                await alice.send(f"n{number}")
            waits = await bob.join(opened.session_key)
            await (await ann.person()).approve("bob", join_code=waits.join_code)
            bob.caller.reader.fits = Either()
            landed = await bob.come_in(opened.session_key)
            assert [message.seq for message in landed.messages] == [299, 300]
            assert (landed.first_unshown, landed.last_unshown, landed.unread) == (1, 298, 0)

    run(main)


def test_a_look_back_names_what_it_cannot_show_while_the_relay_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ben.serving() as ben:
            async with meeting.relay.serving(), meeting.ann.serving() as ann:
                await jumped(meeting, ann, ben, monkeypatch)
                everything, said = await look_back(meeting.bob)
                assert said == ""
                assert [message.seq for message in everything] == list(range(1, 43))
            bob = meeting.bob
            found, said = await look_back(bob)
            assert [message.seq for message in found] == [1, 2, *range(38, 43)]
            relay = (await ben.engine.rooms.get(RoomId(meeting.opened.room))).home_name
            assert f"Messages 3 to 37 are not on this machine, and {relay} does not answer now." in said
            assert "read what follows message 2 again later" in said
            found, said = await look_back(bob, since=20)
            assert [message.seq for message in found] == list(range(38, 43))
            assert "Messages 21 to 37 are not on this machine" in said
            assert (await look_back(bob, since=40))[0] == everything[40:]
            assert "not on this machine" not in (await look_back(bob, since=40))[1]

    run(main)


def test_a_filtered_look_back_finds_what_a_mirror_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ben.serving() as ben, meeting.relay.serving(), meeting.ann.serving() as ann:
            await jumped(meeting, ann, ben, monkeypatch)
            found, said = await look_back(meeting.bob, limit=3, mentions=True)
            assert [message.text for message in found] == [f"n{n}" for n in range(0, 40, 10)]
            assert "cannot be shown" not in said

    run(main)


class Three:
    """A surface that shows three messages at once."""

    def front(self, messages: Sequence[t.Message], you: str) -> int:
        return min(3, len(messages))

    def newest(self, recap: Sequence[t.Message], tail: Sequence[t.Message], you: str, *, whole: bool) -> int:
        return min(3, len(tail))


class Either(Three):
    """A surface that shows the recap alone, or two messages without it."""

    def newest(self, recap: Sequence[t.Message], tail: Sequence[t.Message], you: str, *, whole: bool) -> int:
        return 0 if recap else 2


def test_a_window_looks_back_through_what_a_mirror_leaves_out_in_pages_that_it_can_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ben.serving() as ben, meeting.relay.serving(), meeting.ann.serving() as ann:
            await jumped(meeting, ann, ben, monkeypatch)
            meeting.bob.caller.reader.fits = Three()
            page = await meeting.bob.recv(since=0)
            assert ([message.seq for message in page.messages], page.more, page.following) == ([1, 2], True, 40)
            page = await meeting.bob.recv(since=2)
            assert ([message.seq for message in page.messages], page.more, page.following) == ([3, 4, 5], True, 37)
            found, said = await look_back(meeting.bob)
            assert ([message.seq for message in found], said) == (list(range(1, 43)), "")

    run(main)


class Forger(PassingFace):
    """Stands before a relay's engine, and tells of the past what was not said."""

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        result = await self._engine.call(op, params, caller)
        if isinstance(result, t.LinkPage):
            forged = [msgspec.structs.replace(each, signature=bytes(64)) for each in result.messages]
            return msgspec.structs.replace(result, messages=forged)
        return result


def test_a_relay_that_forges_the_past_is_found_out_and_nothing_of_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.face = Forger
        async with meeting.ben.serving() as ben, meeting.relay.serving(), meeting.ann.serving() as ann:
            await jumped(meeting, ann, ben, monkeypatch)
            found, said = await look_back(meeting.bob)
            assert [message.seq for message in found] == [1, 2, *range(38, 43)]
            assert "Messages 3 to 37 are not on this machine" in said
            assert "relay_equivocation" in said
            room = await ben.engine.rooms.get(RoomId(meeting.opened.room))
            assert room.aggregate.state.contradicted == "signature"

    run(main)


async def jumped(meeting: Meeting, ann: Served, ben: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bob's mirror holds messages 1, 2 and 38 to 42 of the session; every tenth was for bob."""
    monkeypatch.setattr("parlerd.engine.following.CATCH_UP", 20)
    monkeypatch.setattr("parlerd.engine.following.NEWEST", 5)
    monkeypatch.setattr("parlerd.uplink.mirrors.NEWEST", 5)
    await meeting.meet(ann, ben)
    await meeting.bob.send("before")
    meeting.wires.cut_off("ben")
    for number in range(40):
        await meeting.alice.send(f"n{number}", to=("bob",) if number % 10 == 0 else ())
    meeting.wires.bring_back("ben")
    await trio.sleep(120)
    await meeting.bob.recv(wait=60)


def test_an_author_learns_how_far_its_message_got_on_another_machine(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            sent = await alice.send("did you see this?")
            await trio.sleep(5)
            assert await alice.why(sent.id) == {"bob": ["stored", "pushed"]}
            page = await bob.recv()
            await trio.sleep(15)
            assert await alice.why(sent.id) == {"bob": ["stored", "pushed", "read"]}
            await bob.commit(page)
            await trio.sleep(15)
            assert await alice.why(sent.id) == {"bob": ["stored", "pushed", "read", "acknowledged"]}
            assert list(await bob.why(sent.id)) == ["bob"]
            meeting.wires.cut()
            assert await alice.why(sent.id) == {"bob": ["stored"]}

    run(main)


def test_a_message_that_was_answered_and_is_not_told_of_in_time_waits_in_no_outbox(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            [link] = meeting.ann.uplinks._links.values()
            await link.call("link.unwatch", t.UnfollowRoom(room=meeting.opened.room))
            for _, theirs in meeting.wires.open:
                theirs.hold()
            sent: list[t.Sent] = []
            async with trio.open_nursery() as nursery:

                async def say() -> None:
                    sent.append(await meeting.alice.send("answered, and not told of"))

                nursery.start_soon(say)
                await trio.sleep(1)
                for _, theirs in meeting.wires.open:
                    theirs.release()
            await trio.sleep(60)
            assert [(each.queued, each.seq) for each in sent] == [(False, 2)]
            [entry] = meeting.ann.uplinks.listed()
            assert entry.waiting == 0
            assert await meeting.bob.read() == ["answered, and not told of"]

    run(main)


def test_who_waits_at_the_door_of_another_machine_is_shown_the_session_when_let_in(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            opened = await alice.open("auth redesign", "Chose PKCE.", clear=True)
            waits = await bob.join(opened.session_key)
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    assert texts(await bob.recv(wait=60)) == ["Chose PKCE."]

                nursery.start_soon(wait)
                await trio.sleep(1)
                await (await ann.person()).approve("bob", join_code=waits.join_code)

    run(main)


def test_a_key_that_was_typed_still_opens_when_its_home_answers_late_after_a_restart(tmp_path: Path) -> None:
    """The daemon keeps the text of a key in memory alone, and is told of it anew with each join."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                await meeting.meet(ann, ben)
                assert await meeting.bob.close(meeting.opened.room) == "left"
            async with meeting.ben.serving() as ben, trio.open_nursery() as nursery:
                bob = await ben.agent("bob")
                meeting.wires.cut()

                async def come_back() -> None:
                    assert (await bob.join(meeting.opened.session_key, wait=1)).status == "pending"

                nursery.start_soon(come_back)
                # The question what the key opens fails now; the knock is still to come.
                await trio.sleep(4.99)
                meeting.wires.mend()

    run(main)


class CutBeforeAnswer(PassingFace):
    """Stands before the relay's engine. Once it `waits`, the cable is cut between the next call of one operation and
    its answer."""

    def __init__(self, engine: Engine, wires: Wires, op: str) -> None:
        super().__init__(engine)
        self._wires = wires
        self._op = op
        self.waits = False

    def begin(self, op: str, params: t.Params, caller: Caller) -> Pending | None:
        return None if self.waits and op == self._op else super().begin(op, params, caller)

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        answer = await self._engine.call(op, params, caller)
        if op == self._op and self.waits:
            self.waits = False
            self._wires.cut()
            self._wires.mend()
        return answer


def test_a_turn_is_taken_once_also_where_the_answer_of_the_relay_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        between: list[CutBeforeAnswer] = []

        def stand(engine: Engine) -> EngineFace:
            between.append(CutBeforeAnswer(engine, meeting.wires, "link.post"))
            return between[-1]

        meeting.relay.face = stand
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            alice, bob = meeting.alice, meeting.bob
            given = await alice.handoff("rotate the tokens")
            await bob.read(wait=20)
            between[0].waits = True
            asked = t.AcceptHandoff(id=given.id, idempotency_key="k1")
            error = await bob.refused("handoff.accept", asked)
            assert (error.code, error.spec.retryable, between[0].waits) == ("home_unreachable", True, False)
            done = await bob.ask("handoff.accept", asked, t.AnsweredHandoff)
            again = await bob.ask("handoff.accept", t.AcceptHandoff(id=given.id), t.AnsweredHandoff)
            assert (done.status, again.id, again.replayed) == ("accepted", done.id, True)
            page = await alice.recv(wait=20)
            assert [each.kind for each in page.messages] == ["handoff-accepted"]
            # What bob says next follows it.
            await bob.send("on it")
            assert await alice.read(wait=20) == ["", "on it"]

    run(main)


def test_a_machine_whose_clock_went_days_ahead_takes_a_turn_that_is_open_by_the_clock_of_the_relay(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.ben.world.clock = clock = HandClock()
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            given = await meeting.alice.handoff("rotate the tokens", to="bob")
            await meeting.bob.read(wait=20)
            meeting.wires.cut()
            clock.move(seconds=3 * 86_400)
            meeting.wires.mend()
            await meeting.bob.recv(wait=20)
            [offer] = (await meeting.bob.ask("handoff.show", t.ShowHandoffs(), t.HandoffList)).handoffs
            assert offer.status == "offered"
            done = await meeting.bob.ask("handoff.accept", t.AcceptHandoff(id=given.id), t.AnsweredHandoff)
            assert done.status == "accepted"

    run(main)


class OddAboutAnswers(PassingFace):
    """Stands before the relay's engine, and is slow to say what became of the answer to an offer, or does not know such
    a thing at all, as an older relay."""

    def __init__(self, engine: Engine, seconds: float | None) -> None:
        super().__init__(engine)
        self._seconds = seconds

    def begin(self, op: str, params: t.Params, caller: Caller) -> Pending | None:
        return None if _answers(params) else super().begin(op, params, caller)

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        if not _answers(params):
            return await self._engine.call(op, params, caller)
        if self._seconds is None:
            raise Refused("invalid_param")
        answer = await self._engine.call(op, params, caller)
        await trio.sleep(self._seconds)
        return answer


def _answers(params: t.Params) -> bool:
    return isinstance(params, t.PostEnvelope) and params.operation == "handoff.accept"


def test_an_answer_that_a_relay_is_slow_about_is_not_taken_for_done_and_is_done_once(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.face = lambda engine: OddAboutAnswers(engine, ANSWER_S + 20)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            given = await meeting.alice.handoff("rotate the tokens")
            await meeting.bob.read(wait=20)
            asked = t.AcceptHandoff(id=given.id, idempotency_key="k1")
            begun = trio.current_time()
            error = await meeting.bob.refused("handoff.accept", asked)
            assert (error.code, trio.current_time() - begun) == ("home_unreachable", ANSWER_S)
            await trio.sleep(60)
            done = await meeting.bob.ask("handoff.accept", asked, t.AnsweredHandoff)
            assert (done.status, done.replayed) == ("accepted", True)
            await meeting.bob.send("on it")
            assert await meeting.alice.read(wait=20) == ["", "on it"]

    run(main)


def test_a_relay_that_knows_no_answers_is_said_to_be_older(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.face = lambda engine: OddAboutAnswers(engine, None)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
            given = await meeting.alice.handoff("rotate the tokens")
            await meeting.bob.read(wait=20)
            assert (await meeting.bob.refused("handoff.accept", t.AcceptHandoff(id=given.id))).code == "relay_older"

    run(main)


@asynccontextmanager
async def unanswered_knock(folder: Path) -> AsyncIterator[tuple[Meeting, Party, Party]]:
    """A meeting with Carol, at the second home, whose knock came to the relay and was not answered, and with the person
    who decides."""
    meeting = meeting_in(folder)
    between: list[CutBeforeAnswer] = []

    def stand(engine: Engine) -> EngineFace:
        between.append(CutBeforeAnswer(engine, meeting.wires, "link.knock"))
        return between[-1]

    meeting.relay.face = stand
    async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
        await meeting.meet(ann, ben)
        between[0].waits = True
        carol = await ben.agent("carol")
        params = t.JoinSession(session_key=meeting.opened.session_key or "")
        assert (await carol.refused("session.join", params)).code == "home_unreachable"
        # The next link is made for Bob, who reads.
        await meeting.bob.recv(wait=30)
        assert not between[0].waits
        person = await ann.person()
        await person.requests()
        await trio.sleep(10)
        yield meeting, carol, person


def test_somebody_who_was_let_in_while_the_link_was_made_anew_can_speak_at_once(tmp_path: Path) -> None:
    """The new link attaches whoever is known to knock, and the answer to this knock was lost."""

    async def main() -> None:
        async with unanswered_knock(tmp_path) as (meeting, carol, person):
            await person.approve("carol")
            landed = await carol.join(meeting.opened.session_key, wait=30)
            assert landed.status == "joined"
            await carol.send("here I am")
            assert await meeting.alice.read(wait=30) == ["here I am"]
            # The next link tells of her knock, which her machine never heard of: she is in all the same.
            meeting.wires.cut()
            meeting.wires.mend()
            await carol.recv(room=meeting.opened.room)
            await trio.sleep(5)
            assert [each.room for each in await carol.rooms()] == [meeting.opened.room]
            await carol.recv(room=meeting.opened.room)

    run(main)


def test_a_denial_of_a_knock_that_was_not_answered_reaches_the_one_who_knocked(tmp_path: Path) -> None:
    """The link that follows the room was made when nobody here knew of the knock."""

    async def main() -> None:
        async with unanswered_knock(tmp_path) as (meeting, carol, person):
            await person.deny("carol")
            assert (await carol.join(meeting.opened.session_key, wait=30)).status == "denied"

    run(main)


# -- memory ------------------------------------------------------------------------------------------------------


async def remember(who: Party, text: str, **rest: Any) -> t.Remembered:
    return await who.ask("memory.remember", t.Remember(text=text, **rest), t.Remembered)


async def recalled(who: Party, query: str) -> list[tuple[str, int | None]]:
    found = await who.ask("memory.recall", t.Recall(query=query), t.Recalled)
    return [(fact.text, fact.version) for fact in found.facts]


async def told(meeting: Meeting) -> None:
    """Bob's home heard what alice's side said before."""
    sent = await meeting.alice.send("told")
    for _ in range(600):
        if sent.id in {message.id for message in (await meeting.bob.recv(all=True, limit=500)).messages}:
            return
        await trio.sleep(1)
    raise AssertionError("it was never heard")


def test_a_fact_waits_for_the_relay_and_its_home_counts_the_version(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob, wires = meeting.alice, meeting.bob, meeting.wires
            first = await remember(alice, "rolling", key="deploy")
            assert (first.queued, first.facts[0].version) == (False, 1)
            wires.cut()
            waits = await remember(alice, "blue-green", key="deploy")
            assert (waits.queued, waits.facts[0].version, waits.facts[0].at) == (True, None, None)
            assert await recalled(alice, "deploy") == [("rolling", 1)]
            wires.mend()
            await told(meeting)
            assert await recalled(alice, "deploy") == await recalled(bob, "deploy") == [("blue-green", 2)]

    run(main)


def test_a_guarded_fact_never_waits_and_the_same_request_again_writes_it_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob, wires = meeting.alice, meeting.bob, meeting.wires
            asked = t.Remember(text="mine", key="leader", if_version=0, idempotency_key="once")
            wires.cut()
            # It was on its way when the link broke.
            error = await alice.refused("memory.remember", asked)
            assert (error.code, error.spec.retryable) == ("home_unreachable", True)
            assert (await alice.refused("memory.remember", asked)).code == "offline"
            assert meeting.ann.world.store.outbox(meeting.relay.keys.id) == []
            wires.mend()
            await told(meeting)
            assert (await remember(bob, "his", key="other", if_version=0)).facts[0].version == 1
            # The answer is lost: the relay has the fact, and nobody here knows.
            for _, theirs in wires.open:
                theirs.hold()
            assert (await alice.refused("memory.remember", asked)).code == "home_unreachable"
            wires.cut()
            wires.mend()
            await told(meeting)
            again = await alice.ask("memory.remember", asked, t.Remembered)
            assert (again.replayed, again.facts[0].version) == (True, 1)
            assert (await bob.refused("memory.remember", t.Remember(text="no", key="leader", if_version=0))).details[
                "current"
            ] == 1

    run(main)


def test_every_home_forgets_the_words_when_it_hears_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alice, bob = meeting.alice, meeting.bob
            for text in ("swordfish", "marlin"):
                await remember(alice, text, key="secret")
            loose = (await remember(alice, "anchovy")).facts[0].id
            await told(meeting)
            room = RoomId(meeting.opened.room)
            stores = [meeting.relay.store, meeting.ann.world.store, meeting.ben.world.store]

            def held(word: bytes) -> list[bool]:
                bodies = [
                    [store.body(room, Position(n)) for n in range(1, store.head(room).position + 1)] for store in stores
                ]
                return [any(body is not None and word in body[0] for body in found) for found in bodies]

            assert held(b"swordfish") == held(b"marlin") == held(b"anchovy") == [True, True, True]
            await alice.ask("memory.forget", t.Forget(key="secret"), t.Forgotten)
            await alice.ask("memory.forget", t.Forget(id=loose), t.Forgotten)
            await told(meeting)
            assert held(b"swordfish") == held(b"marlin") == held(b"anchovy") == [False, False, False]
            for query in ("swordfish", "secret", "anchovy"):
                assert await recalled(bob, query) == []
            assert all(store.check() == [] for store in stores)
            assert all(store.verify_chain(room) is None for store in stores)

    run(main)


def test_private_memory_never_leaves_its_machine(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            rooms = set(meeting.relay.store.rooms())
            await remember(meeting.bob, "only mine", private=True)
            assert await recalled(meeting.bob, "mine") == [("only mine", 1)]
            assert set(meeting.relay.store.rooms()) == rooms

    run(main)
