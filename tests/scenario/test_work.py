"""Queues and tasks: asked for, claimed, ended and lost. Told once, played in every home."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from parlerd.operations import types as t
from tests.scenario.test_memory import settled, together
from tests.support.engine import Party
from tests.support.files import fetch, share
from tests.support.homes import Home, Place, until


async def serve(who: Party) -> t.Served:
    return await who.ask("queue.serve", t.Serve(service="review"), t.Served)


async def ask(who: Party, text: str) -> t.Sent:
    return await who.ask("message.send", t.Send(text=text, service="review"), t.Sent)


async def claim(who: Party, id: str | None = None, **rest: Any) -> t.TaskHeld:
    return await who.ask("task.claim", t.ClaimTask(id=id, **rest), t.TaskHeld)


async def claimed(who: Party, service: str | None = None) -> t.TaskHeld:
    """The next task, once there is one."""

    async def is_there() -> t.TaskHeld | None:
        held = await claim(who, service=service)
        return held if held.id is not None else None

    return await until(is_there)


async def result(who: Party) -> t.Received:
    """What a requester is shown of the queue, once there is something."""

    async def is_there() -> t.Received | None:
        page = await who.recv(room="review", all=True)
        return page if page.messages else None

    return await until(is_there)


def test_a_task_of_a_session_is_claimed_by_one_and_its_result_reaches_who_asked(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, cat = await together(place, "alice", "bob", "cat")
        task = await alice.send("review PR #42", kind="task")
        await settled(alice, bob, cat)
        held = await claim(bob)
        assert (held.id, held.status) == (task.id, "claimed")
        assert held.message is not None
        assert held.message.text == "review PR #42"
        assert (await claim(bob, task.id)).status == "already_yours"
        await settled(alice, bob, cat)
        error = await cat.refused("task.claim", t.ClaimTask(id=task.id))
        assert (error.code, error.details["holder"]) == ("already_claimed", "bob")
        assert (await claim(cat)).id is None
        renewed = await bob.ask("task.renew", t.RenewTask(id=task.id, lease_ms=3_600_000), t.TaskHeld)
        assert (renewed.lease_until or 0) > (held.lease_until or 0)
        working = await bob.ask("task.say", t.SayOfTask(status="working", text="reading"), t.TaskHeld)
        assert working.id == task.id
        done = t.CompleteTask(id=task.id, fence=held.fence or 0, text="approved")
        assert (await bob.ask("task.complete", done, t.TaskHeld)).status == "done"
        await settled(alice, bob, cat)
        results = [each for each in (await alice.recv(all=True)).messages if each.kind == "result"]
        assert [(each.text, each.reply_to, each.author.name) for each in results] == [("approved", task.id, "bob")]
        why = await alice.ask("message.why", t.Why(id=task.id), t.WhyResult)
        assert isinstance(why.task, t.TaskEntry)
        assert (why.task.state, why.task.ended_by) == ("done", "bob")
        assert (await cat.refused("task.claim", t.ClaimTask(id=task.id))).code == "task_over"

    home.play(story)


def test_a_claim_that_is_asked_for_again_is_the_same_claim_and_not_a_next_one(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await alice.send("review PR #42", kind="task")
        await settled(alice, bob)
        first = await claim(bob, idempotency_key="once")
        await settled(alice, bob)
        again = await claim(bob, idempotency_key="once")
        assert (again.id, again.fence) == (first.id, first.fence)
        assert again.id is not None
        assert (await claim(bob, idempotency_key="another")).id is None

    home.play(story)


def test_a_task_that_is_given_back_is_for_the_next_and_a_late_result_stays_readable(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, cat = await together(place, "alice", "bob", "cat")
        task = await alice.send("review PR #42", kind="task")
        await settled(alice, bob, cat)
        first = await claim(bob)
        given = await bob.ask("task.release", t.ReleaseTask(id=task.id), t.TaskHeld)
        assert given.status == "open"
        second = await claimed(cat)
        assert second.id == task.id
        assert (second.fence or 0) > (first.fence or 0)
        await settled(alice, bob, cat)
        late = t.CompleteTask(id=task.id, fence=first.fence or 0, text="I was slow")
        error = await bob.refused("task.complete", late)
        assert (error.code, error.details["holder"]) == ("claim_lost", "cat")
        await settled(alice, bob, cat)
        assert "I was slow" in [each.text for each in (await cat.recv(all=True)).messages]
        assert (await cat.ask("task.complete", t.CompleteTask(id=task.id, text="quick"), t.TaskHeld)).status == "done"

    home.play(story)


def test_a_timer_that_no_task_can_have_is_refused(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, _ = await together(place, "alice", "bob")
        for timer, kind, what in (
            (t.TimerAsked(ticks=3), "task", "tick_on"),
            (t.TimerAsked(ticks=3, tick_on="turn"), "task", "tick_on"),
            (t.TimerAsked(ms=0), "task", "ms"),
            (t.TimerAsked(), "task", "clock"),
            (t.TimerAsked(ms=1, at=1), "task", "clock"),
            (t.TimerAsked(at="2020-01-01T00:00:00Z"), "task", "at"),
            (t.TimerAsked(at="soon"), "task", "at"),
        ):
            error = await alice.refused("message.send", t.Send(text="x", kind=kind, timer=timer))
            assert (error.code, error.details["what"]) == ("invalid_timer", what)
        for timer in (t.TimerAsked(ms=0), t.TimerAsked(at=1), t.TimerAsked(ms=1, effect="enable")):
            error = await alice.refused("message.send", t.Send(text="x", service="new", timer=timer))
            assert error.code == "invalid_timer"
        error = await alice.refused("message.send", t.Send(text="x", service="new", enabled="true"))
        assert (error.code, error.details["param"]) == ("invalid_param", "enabled")
        # No queue was opened for it.
        assert [each.kind for each in await alice.rooms() if each.kind == "service"] == []

    home.play(story)


def test_a_queue_is_served_by_the_agents_of_its_person_and_a_requester_reads_its_results_alone(home: Home) -> None:
    async def story(place: Place) -> None:
        worker, dev, other = [await place.agent(name) for name in ("worker", "dev", "other")]
        if (await worker.whoami()).principal != (await dev.whoami()).principal:
            # Two people: a queue of one is none of the other's.
            await serve(worker)
            error = await dev.refused("task.claim", t.ClaimTask(service="review"))
            assert error.code == "no_such_room"
            return
        assert (await serve(worker)).opened
        mine, its = await ask(dev, "for dev"), await ask(other, "for other")
        assert (mine.seq, its.seq) == (None, None)
        error = await dev.refused("task.claim", t.ClaimTask(service="review"))
        assert error.code == "not_a_worker"
        for _ in range(2):
            held = await claimed(worker, "review")
            said = held.message.text if held.message else ""
            done = t.CompleteTask(id=held.id or "", text=f"done: {said}")
            await worker.ask("task.complete", done, t.TaskHeld)
        page = await result(dev)
        assert [(each.text, each.reply_to) for each in page.messages] == [("done: for dev", mine.id)]
        assert (await serve(dev)).status == "serving"
        assert (await serve(dev)).status == "already_serving"

    home.play(story)


def test_a_worker_has_the_role_of_its_card(home: Home) -> None:
    async def story(place: Place) -> None:
        bob = await place.agent("bob")
        await serve(await place.agent("worker"))
        await bob.ask("directory.register", t.Register(role="reviewer", home="local"), t.Registered)
        if (await bob.whoami()).principal != (await (await place.agent("worker")).whoami()).principal:
            return
        room = (await serve(bob)).room
        assert (await bob.roster(room))["bob"].role == "reviewer"

    home.play(story)


def test_another_persons_agent_becomes_a_worker_with_a_code(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, cat = [await place.agent(name) for name in ("alice", "bob", "cat")]
        room = (await serve(alice)).room
        invited = await alice.ask("room.invite", t.Invite(service="review"), t.Invited)
        assert (invited.room, invited.kind, invited.approval) == (room, "service", True)
        (session,) = (await alice.ask("session.list", t.ListSessions(), t.SessionList)).sessions
        assert [key.approval for key in session.keys] == [True]
        knock, person = await bob.join(invited.code), await place.person()
        if knock.status == "pending":
            await person.approve((await bob.whoami()).id, room=room, join_code=knock.join_code)
            assert (await bob.join(invited.code)).status == "joined"
        assert (await serve(bob)).room == room
        for who in (bob, cat):
            error = await who.refused("room.invite", t.Invite(service="review"))
            assert error.code in ("not_owner", "no_such_room")
        await alice.send("review PR #42", room=room, kind="task")

        async def is_open() -> bool:
            return (await serve(bob)).open == 1

        await until(is_open)
        assert (await claim(bob, service="review")).status == "claimed"

    home.play(story)


def test_a_result_brings_a_file_of_the_room_to_who_asked(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        task = await alice.send("write the report", kind="task")
        await settled(alice, bob)
        await claim(bob, task.id)
        file = await share(bob, b"the report", name="report.pdf")
        said = t.SayOfTask(status="working", text="half of it", blob=file.id)
        await bob.ask("task.say", said, t.TaskHeld)
        done = t.CompleteTask(id=task.id, text="see the report", blob=file.blob)
        await bob.ask("task.complete", done, t.TaskHeld)
        await settled(alice, bob)
        told = {each.kind: each for each in (await alice.recv(all=True)).messages if each.reply_to == task.id}
        assert sorted(told) == ["result", "task-working"]
        for message in told.values():
            assert not isinstance(message.brings, msgspec.UnsetType)
            assert (message.brings.name, message.brings.size, message.verified) == ("report.pdf", 10, "valid")
        assert (told["result"].text, told["result"].to) == ("see the report", ["alice"])
        assert await fetch(alice, str(told["result"].seq)) == b"the report"

    home.play(story)


def test_what_is_no_file_of_the_room_ends_no_task(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        task = await alice.send("write the report", kind="task")
        await settled(alice, bob)
        await claim(bob, task.id)
        for blob, code in (("ab" * 32, "no_such_blob"), (task.id, "no_such_blob"), ("999", "no_such_message")):
            done = t.CompleteTask(id=task.id, text="see the report", blob=blob)
            assert (await bob.refused("task.complete", done)).code == code
        assert (await claim(bob, task.id)).status == "already_yours"

    home.play(story)


# Of two people, a queue of one is none of the other's, as the story of the queue shows in the other homes.
@pytest.mark.parametrize("home", ["memory", "sqlite", "far"], indirect=True)
def test_a_requester_fetches_the_file_of_its_result_and_no_other_file_of_the_queue(home: Home) -> None:
    async def story(place: Place) -> None:
        worker, dev = [await place.agent(name) for name in ("worker", "dev")]
        await serve(worker)
        await ask(dev, "write the report")
        held = await claimed(worker, "review")
        file = await share(worker, b"the report", room=held.room, name="report.pdf")
        other = await share(worker, b"another", room=held.room, name="other.pdf")
        done = t.CompleteTask(id=held.id or "", text="see the report", blob=str(file.seq))
        await worker.ask("task.complete", done, t.TaskHeld)
        await result(dev)
        assert await fetch(dev, file.blob, room="review") == b"the report"
        assert (await dev.refused("blob.find", t.FindBlob(blob=other.blob))).code == "no_such_blob"

    home.play(story)
