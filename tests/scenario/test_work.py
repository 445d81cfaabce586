"""Queues and tasks: asked for, claimed, ended and lost. Told once, played in every home."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import trio

from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.scenario.test_memory import settled, together
from tests.support.engine import Party
from tests.support.files import fetch, share
from tests.support.homes import Home, Place


async def serve(who: Party) -> t.Served:
    return await who.ask("queue.serve", t.Serve(service="review"), t.Served)


async def ask(who: Party, text: str) -> t.Sent:
    return await who.ask("message.send", t.Send(text=text, service="review"), t.Sent)


async def claim(who: Party, id: str | None = None, **rest: object) -> t.TaskHeld:
    return await who.ask("task.claim", t.ClaimTask(id=id, **rest), t.TaskHeld)  # type: ignore[arg-type]


async def refusal(call: Callable[[], Awaitable[object]]) -> ParlerError:
    try:
        await call()
    except ParlerError as error:
        return error
    raise AssertionError("it was not refused")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(600):
        if await holds():
            return
        await trio.sleep(0.1)
    raise AssertionError("it never came to hold")


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
        error = await refusal(lambda: claim(cat, task.id))
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
        assert (await refusal(lambda: claim(cat, task.id))).code == "task_over"

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
        second: list[t.TaskHeld] = []

        async def is_claimed() -> bool:
            second.append(await claim(cat))
            return second[-1].id is not None

        await until(is_claimed)
        assert second[-1].id == task.id
        assert (second[-1].fence or 0) > (first.fence or 0)
        await settled(alice, bob, cat)
        late = t.CompleteTask(id=task.id, fence=first.fence or 0, text="I was slow")
        error = await refusal(lambda: bob.ask("task.complete", late, t.TaskHeld))
        assert (error.code, error.details["holder"]) == ("claim_lost", "cat")
        await settled(alice, bob, cat)
        assert "I was slow" in [each.text for each in (await cat.recv(all=True)).messages]
        assert (await cat.ask("task.complete", t.CompleteTask(id=task.id, text="quick"), t.TaskHeld)).status == "done"

    home.play(story)


def test_a_queue_is_served_by_the_agents_of_its_person_and_a_requester_reads_its_results_alone(home: Home) -> None:
    async def story(place: Place) -> None:
        worker, dev, other = [await place.agent(name) for name in ("worker", "dev", "other")]
        if (await worker.whoami()).principal != (await dev.whoami()).principal:
            # Two people: a queue of one is none of the other's.
            await serve(worker)
            error = await refusal(lambda: dev.ask("task.claim", t.ClaimTask(service="review"), t.TaskHeld))
            assert error.code == "no_such_room"
            return
        assert (await serve(worker)).opened
        mine, its = await ask(dev, "for dev"), await ask(other, "for other")
        assert (mine.seq, its.seq) == (None, None)
        error = await refusal(lambda: claim(dev, service="review"))
        assert error.code == "not_a_worker"
        for _ in range(2):
            held: list[t.TaskHeld] = []

            async def is_claimed(held: list[t.TaskHeld] = held) -> bool:
                held.append(await claim(worker, service="review"))
                return held[-1].id is not None

            await until(is_claimed)
            said = held[-1].message.text if held[-1].message else ""
            done = t.CompleteTask(id=held[-1].id or "", text=f"done: {said}")
            await worker.ask("task.complete", done, t.TaskHeld)

        async def has_result() -> bool:
            return bool((await dev.recv(room="review", all=True)).messages)

        await until(has_result)
        page = await dev.recv(room="review", all=True)
        assert [(each.text, each.reply_to) for each in page.messages] == [("done: for dev", mine.id)]
        assert (await serve(dev)).status == "serving"
        assert (await serve(dev)).status == "already_serving"

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
        await until(lambda: _is_open(bob))
        assert (await claim(bob, service="review")).status == "claimed"

    home.play(story)


async def _is_open(who: Party) -> bool:
    return (await serve(who)).open == 1


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


def test_a_requester_fetches_the_file_of_its_result_and_no_other_file_of_the_queue(home: Home) -> None:
    async def story(place: Place) -> None:
        worker, dev = [await place.agent(name) for name in ("worker", "dev")]
        await serve(worker)
        if (await worker.whoami()).principal != (await dev.whoami()).principal:
            return
        await ask(dev, "write the report")
        held: list[t.TaskHeld] = []

        async def is_claimed() -> bool:
            held.append(await claim(worker, service="review"))
            return held[-1].id is not None

        await until(is_claimed)
        file = await share(worker, b"the report", room=held[-1].room, name="report.pdf")
        other = await share(worker, b"another", room=held[-1].room, name="other.pdf")
        done = t.CompleteTask(id=held[-1].id or "", text="see the report", blob=str(file.seq))
        await worker.ask("task.complete", done, t.TaskHeld)

        async def has_result() -> bool:
            return bool((await dev.recv(room="review", all=True)).messages)

        await until(has_result)
        assert await fetch(dev, file.blob, room="review") == b"the report"
        assert (await dev.refused("blob.find", t.FindBlob(blob=other.blob))).code == "no_such_blob"

    home.play(story)
