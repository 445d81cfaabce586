"""How the answer of a write comes to name its fact: every write of agents does."""

from __future__ import annotations

import trio

from parlerd.core import commands as c
from parlerd.core.model import RoomId
from parlerd.engine.deciding import ITSELF
from parlerd.engine.trail import awaits_receipt, trail, with_receipt
from parlerd.operations import types as t
from tests.support.engine import engine_world, run
from tests.support.files import share


def test_every_write_in_a_room_names_its_fact() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            gave = await alice.ask("handoff.give", t.GiveHandoff(next="x"), t.GivenHandoff)
            task = await alice.send("do it", kind="task")
            held = await bob.ask("task.claim", t.ClaimTask(id=task.id), t.TaskHeld)
            action = t.RegisterAction(id="go", writes=(t.ActionWriteAsked(key="n", value=1),))
            answers: list[t.Result] = [
                gave,
                task,
                held,
                await bob.ask("handoff.accept", t.AcceptHandoff(id=gave.id), t.AnsweredHandoff),
                await bob.ask("task.complete", t.CompleteTask(id=task.id), t.TaskHeld),
                await alice.ask("state.set", t.SetState(key="a", value=1), t.StateWritten),
                await alice.ask("state.delete", t.DeleteState(key="a"), t.StateWritten),
                await alice.ask("action.register", action, t.ActionRegistered),
                await alice.ask("action.invoke", t.InvokeAction(id="go"), t.ActionInvoked),
                await alice.ask("memory.remember", t.Remember(text="x", key="k"), t.Remembered),
                await alice.ask("memory.forget", t.Forget(key="k"), t.Forgotten),
                await alice.ask("message.send", t.Send(text="x", enabled="false"), t.Sent),
                await share(alice, b"bytes"),
                await bob.ask("room.leave", t.LeaveAsMember(room=gave.room), t.MemberGone),
            ]
            facts = []
            for answer in answers:
                receipt = getattr(answer, "receipt", None)
                assert isinstance(receipt, t.ReceiptRef), answer
                assert isinstance(receipt.number, int)
                facts.append(receipt.fact)
            assert len(set(facts)) == len(facts)

    run(main)


def test_a_read_names_none_and_what_happens_beside_a_call_is_not_its_own() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            assert not awaits_receipt(await alice.recv())
            with trail() as steps:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(bob.send, "beside")
                assert awaits_receipt(await with_receipt(t.Noted(), steps, served.engine.desk.library)) is False
                answer = t.Withdrawn(id="m_1", replayed=False, idempotency_key="k")
                assert awaits_receipt(answer)
                assert await with_receipt(answer, [], served.engine.desk.library) == answer
            with trail() as steps:
                assert steps == []

    run(main)


def test_a_task_that_outlives_the_call_that_began_it_leaves_no_steps_there() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _ = await served.room("alice", "bob")
            desk = served.engine.desk
            room = await desk.rooms.get(RoomId((await alice.rooms())[0].room))
            due, done = trio.Event(), trio.Event()

            async def beside() -> None:
                await due.wait()
                await room.submit(c.RunDue(), ITSELF)
                done.set()

            async with trio.open_nursery() as nursery:
                with trail() as steps:
                    nursery.start_soon(beside)
                    await room.submit(c.RunDue(), ITSELF)
                    assert len(steps) == 1
                    due.set()
                    await done.wait()
                assert len(steps) == 1

    run(main)
