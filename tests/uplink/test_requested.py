"""What becomes of a request: who asked a queue elsewhere asks after it, and nobody else does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, MessageId, RoomId
from parlerd.engine.authority import Authority
from parlerd.engine.callers import Caller
from parlerd.engine.engine import Engine
from parlerd.engine.face import EngineFace, Pending
from parlerd.identity.receipt_checks import Checked, check
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.uplink.remote_room import RemoteRoom
from tests.support.engine import Party, run, settle
from tests.support.faces import PassingFace
from tests.uplink.test_sealed_queues import Queue, queue_in, serving, work

ASKED = "review the marlin"
both = pytest.mark.parametrize("clear", [False, True], ids=["sealed", "clear"])


async def why(who: Party, id: str, room: str | None = None) -> t.WhyResult:
    return await who.ask("message.why", t.Why(id=id, room=room), t.WhyResult)


async def receipt(who: Party, id: str) -> t.ReceiptGiven:
    return await who.ask("receipt.get", t.GetReceipt(id=id, proof=True), t.ReceiptGiven)


def stages(found: t.WhyResult) -> dict[str, list[str]]:
    return {reader.name: [step.stage for step in reader.stages] for reader in found.readers}


def task(found: t.WhyResult) -> t.TaskEntry:
    assert isinstance(found.task, t.TaskEntry)
    return found.task


def checked(queue: Queue, given: t.ReceiptGiven) -> Checked:
    return check(msgspec.json.encode(given), {queue.relay.keys.id})


async def asking(queue: Queue, *names: str) -> list[Party]:
    """Agents of Ben's home that only ask."""
    asked = []
    for name in names:
        who = await queue.ben_served.agent(name)
        await queue.bring_in(who, name, requester=True)
        asked.append(who)
    return asked


@both
def test_who_asked_from_another_home_sees_how_far_its_request_got(tmp_path: Path, clear: bool) -> None:
    async def main() -> None:
        async with serving(tmp_path, clear=clear) as queue:
            [bob] = await asking(queue, "bob")
            room = queue.served.room
            at = queue.relay.clock.now()
            sent = await bob.send(ASKED, service="review")
            assert sent.seq is None
            await trio.sleep(5)
            found = await why(bob, sent.id)
            assert (found.id, found.room, found.away, found.erased) == (sent.id, room, msgspec.UNSET, msgspec.UNSET)
            assert stages(found) == {"alice": ["stored", "pushed"]}
            assert found.readers[0].stages[0].at >= at
            assert str(found.readers[0].stopped).startswith("not read; the agent is ")
            assert task(found) == t.TaskEntry(state="open", holder=None, lease_until=None)

            held = await queue.alice.ask("task.claim", t.ClaimTask(room=room), t.TaskHeld)
            await trio.sleep(15)
            found = await why(bob, sent.id)
            assert (task(found).state, task(found).holder) == ("claimed", "alice")
            assert task(found).lease_until == held.lease_until
            assert stages(found)["alice"][-1] == "acted"
            assert found.readers[0].stopped is msgspec.UNSET

            says = t.SayOfTask(id=sent.id, status="working", text="half way", room=room)
            await queue.alice.ask("task.say", says, t.TaskHeld)
            await settle()
            assert task(await why(bob, sent.id)).state == "working"
            done = t.CompleteTask(id=sent.id, fence=held.fence or 0, text="a swordfish", room=room)
            await queue.alice.ask("task.complete", done, t.TaskHeld)
            await settle()
            found = await why(bob, sent.id, "review")
            assert task(found) == t.TaskEntry(state="done", holder=None, lease_until=None, ended_by="alice")
            # The person sees what an agent of theirs may.
            person = await queue.ben_served.person()
            assert await why(person, sent.id) == found

    run(main)


@both
def test_who_asked_from_another_home_is_given_the_receipt_of_its_request(tmp_path: Path, clear: bool) -> None:
    async def main() -> None:
        async with serving(tmp_path, clear=clear) as queue:
            [bob] = await asking(queue, "bob")
            sent, other = await bob.send(ASKED, service="review"), await bob.send("and the eel", service="review")
            given = await receipt(bob, sent.id)
            assert (given.room, given.fact) == (queue.served.room, sent.id)
            found = checked(queue, given)
            assert (found.verdict, found.text, found.is_authored, found.is_proved) == ("valid", ASKED, True, True)
            assert given.opening is not None
            assert (given.opening.key is msgspec.UNSET) == clear
            second = await receipt(bob, other.id)
            assert second.opening is not None
            if not clear:
                # The key opens this request, and not the next one.
                opening = msgspec.structs.replace(given.opening, key=second.opening.key)
                assert checked(queue, msgspec.structs.replace(given, opening=opening)).verdict == "key_mismatch"
            # The worker has the same key, and whoever asked has it also after a later record began.
            await asking(queue, "carol")
            assert await receipt(bob, sent.id) == given
            theirs = await receipt(queue.alice, sent.id)
            assert theirs.opening == given.opening
            # How much is public there, and so how much others ask for, the worker alone is told.
            lines = [each.receipt and each.receipt.line for each in map(partial(checked, queue), (given, theirs))]
            assert lines[0] is None
            assert lines[1] is not None

    run(main)


@both
def test_who_asked_from_the_home_of_a_worker_sees_how_far_its_request_got(tmp_path: Path, clear: bool) -> None:
    async def main() -> None:
        async with serving(tmp_path, clear=clear) as queue:
            erin, carol = await queue.ben_served.agent("erin"), await queue.ann_served.agent("carol")
            await queue.bring_in(erin, "erin")
            sent = await carol.send(ASKED, service="review")
            held = await erin.ask("task.claim", t.ClaimTask(room=queue.served.room, wait_ms=60_000), t.TaskHeld)
            assert held.id == sent.id
            await trio.sleep(15)
            found = await why(carol, sent.id)
            assert sorted(stages(found)) == ["alice", "erin"]
            # Of the worker of another home the queue's home knows it.
            assert stages(found)["erin"][-1] == "acted"
            assert (task(found).state, task(found).holder) == ("claimed", "erin")
            assert checked(queue, await receipt(carol, sent.id)).text == ASKED

    run(main)


@both
def test_nobody_learns_of_what_another_asked_for(tmp_path: Path, clear: bool) -> None:
    async def main() -> None:
        async with serving(tmp_path, clear=clear) as queue:
            bob, dora = await asking(queue, "bob", "dora")
            frank, outsider = await queue.cat_served.agent("frank"), await queue.cat_served.agent("grace")
            await queue.bring_in(frank, "frank", requester=True)
            carol = await queue.ann_served.agent("carol")
            await carol.send("mine", service="review")
            sent = await bob.send(ASKED, service="review")
            public = await queue.alice.send("for the workers", room=queue.served.room)
            await settle()
            for id in (sent.id, public.id, "m_none", "f_none.1", "x" * 64, "7"):
                for who in (dora, frank, carol, outsider):
                    for room in (None, queue.served.room, "review", "nowhere"):
                        refused = await who.refused("message.why", t.Why(id=id, room=room))
                        given = await who.refused("receipt.get", t.GetReceipt(id=id, room=room))
                        nowhere = {"no_such_room", "no_active_session"}
                        if id == "7" or (id.startswith("f_") and given.code in nowhere):
                            continue
                        assert refused.code == "no_such_message", (id, room)
                        assert given.code == "no_such_receipt", (id, room)
            # Whoever speaks with the relay itself is told no more.
            handle = await queue.ben.uplinks._desk.rooms.get(queue.room)
            with pytest.raises(Refused, match="no such message"):
                await handle.ladders(await queue.id_of(dora), MessageId(sent.id))
            theirs = await (await queue.ben_served.person()).ask("message.why", t.Why(id=sent.id), t.WhyResult)
            assert theirs.id == sent.id

    run(main)


def test_a_token_asks_after_what_its_agent_asked_for_in_its_own_rooms_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            [bob] = await asking(queue, "bob")
            sent, own = await bob.send(ASKED, service="review"), await bob.open("mine", home="local")
            served = queue.ben_served

            async def token(room: str) -> Party:
                agent = await queue.id_of(bob)
                rights = Authority(
                    served.world.keys.principal, frozenset({"agent"}), agent=agent, rooms=frozenset({RoomId(room)})
                )
                return await served.connect("http", authority=rights)

            here, other = await token(queue.served.room), await token(own.room)
            assert await why(here, sent.id) == await why(here, sent.id, queue.served.room) == await why(bob, sent.id)
            assert await receipt(here, sent.id) == await receipt(bob, sent.id)
            for who, id in ((other, sent.id), (here, "m_none"), (other, "m_none")):
                for room in (None, queue.served.room, own.room):
                    assert (await who.refused("message.why", t.Why(id=id, room=room))).code == "no_such_message"
                    assert (await who.refused("receipt.get", t.GetReceipt(id=id, room=room))).code == "no_such_receipt"

    run(main)


@both
def test_while_the_relay_is_away_what_was_said_in_reply_is_shown_and_else_a_sentence(
    tmp_path: Path, clear: bool
) -> None:
    async def main() -> None:
        async with serving(tmp_path, clear=clear) as queue:
            [bob] = await asking(queue, "bob")
            dora, grace = await queue.cat_served.agent("dora"), await queue.cat_served.agent("grace")
            opened = await queue.alice.open("swimming", clear=True)
            waits = await dora.join(opened.session_key)
            await (await queue.ann_served.person()).approve("dora", join_code=waits.join_code)
            await settle()
            assert (await dora.join(opened.session_key)).status == "joined"
            assert (await grace.join(await queue.invite(requester=True))).status == "pending"
            await settle()
            answered, open_one = await bob.send(ASKED, service="review"), await bob.send("the eel", service="review")
            await work(queue.alice, "a swordfish", queue.served.room)
            await settle()
            home = next(each.home for each in await bob.rooms() if each.room == queue.served.room)
            queue.wires.cut()
            found = await why(bob, answered.id)
            assert (found.away, found.task, stages(found)) == (True, msgspec.UNSET, {"alice": ["acted"]})
            refused = await bob.refused("message.why", t.Why(id=open_one.id))
            assert (refused.code, refused.details["home"]) == ("home_unreachable", home)
            assert f"What you asked for at {home}, {home} alone knows" in str(refused)
            for id in (answered.id, open_one.id):
                assert (await bob.refused("receipt.get", t.GetReceipt(id=id))).code == "home_unreachable"
            # Who asked nothing of a queue there waits for no relay: who waits at its door, or is in a session alone.
            for who in (grace, dora):
                assert (await who.refused("message.why", t.Why(id=open_one.id))).code == "no_such_message"
            # Where the message is here, this home says what it knows.
            here = await why(queue.alice, open_one.id)
            assert (here.away, list(stages(here))) == (True, ["alice"])
            queue.wires.mend()
            await trio.sleep(120)
            found = await why(bob, answered.id)
            assert (found.away, task(found).state) == (msgspec.UNSET, "done")

    run(main)


def test_a_relay_that_is_away_is_asked_once_for_all_agents_and_queues_of_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with serving(tmp_path) as queue:
            bob, _ = await asking(queue, "bob", "dora")
            other = await queue.alice.ask("queue.serve", t.Serve(service="test"), t.Served)
            code = (await queue.alice.ask("room.invite", t.Invite(service="test", requester=True), t.Invited)).code
            waits = await bob.join(code)
            await (await queue.ann_served.person()).approve("bob", join_code=waits.join_code)
            await settle()
            assert (await bob.join(code)).status == "joined"
            person = await queue.ben_served.person()
            sent = await bob.send(ASKED, room=other.room)
            assert (await why(person, sent.id)).room == other.room
            queue.wires.cut()
            asked: list[RoomId] = []
            honest = RemoteRoom.ladders

            async def counted(room: RemoteRoom, agent: AgentId, message: MessageId) -> t.LaddersAtRoom:
                asked.append(room.room)
                return await honest(room, agent, message)

            monkeypatch.setattr(RemoteRoom, "ladders", counted)
            assert (await person.refused("message.why", t.Why(id=sent.id))).code == "home_unreachable"
            assert len(asked) == 1

    run(main)


class OlderFace(PassingFace):
    """Stands before the relay's engine, and tells nobody of what it is not shown, as an older relay."""

    def begin(self, op: str, params: t.Params, caller: Caller) -> Pending | None:
        return None if op == "link.why" else super().begin(op, params, caller)

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        if op == "link.why":
            raise Refused("no_such_message")
        return await self._engine.call(op, params, caller)


def test_of_an_older_relay_is_said_that_it_is_older_and_its_receipts_are_given(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, face=OlderFace) as queue:
            bob, dora = await asking(queue, "bob", "dora")
            sent = await bob.send(ASKED, service="review")
            refused = await bob.refused("message.why", t.Why(id=sent.id))
            assert refused.code == "relay_older"
            assert "does not tell who asked for something how far that got" in str(refused)
            # What is not its own is unknown, whatever the relay can do.
            for who, id in ((dora, sent.id), (bob, "m_none")):
                assert (await who.refused("message.why", t.Why(id=id))).code == "no_such_message"
            assert checked(queue, await receipt(bob, sent.id)).text == ASKED

    run(main)


@both
def test_of_a_request_whose_words_went_its_author_is_told_so(tmp_path: Path, clear: bool) -> None:
    async def main() -> None:
        queue = queue_in(tmp_path)
        queue.clear = clear
        async with queue.ann.serving() as ann, queue.ben.serving() as ben, queue.cat.serving() as cat:
            async with queue.relay.serving():
                await queue.begin(ann, ben, cat)
                [bob] = await asking(queue, "bob")
                sent = await bob.send(ASKED, service="review")
                await work(queue.alice, "a swordfish", queue.served.room)
                for n in range(3):
                    await queue.alice.send(f"later {n}", room=queue.served.room)
            queue.relay.settings = Settings(retention_room_messages=2)
            async with queue.relay.serving():
                await trio.sleep(120)
                found = await why(bob, sent.id)
                assert found.erased is True
                assert stages(found) == {"alice": ["stored"]}
                assert found.readers[0].stopped == "not known any more: this went with the words"
                assert task(found).state == "done"
                given = await receipt(bob, sent.id)
                assert given.opening is None
                assert (checked(queue, given).verdict, checked(queue, given).text) == ("valid", None)

    run(main)


def test_who_asked_asks_after_it_also_after_a_restart_and_not_once_it_is_put_out(tmp_path: Path) -> None:
    async def main() -> None:
        queue = queue_in(tmp_path)
        async with queue.relay.serving(), queue.ann.serving() as ann, queue.cat.serving() as cat:
            async with queue.ben.serving() as ben:
                await queue.begin(ann, ben, cat)
                [bob] = await asking(queue, "bob")
                sent = await bob.send(ASKED, service="review")
            async with queue.ben.serving() as ben:
                bob = await ben.agent("bob")
                assert list(stages(await why(bob, sent.id))) == ["alice"]
                assert checked(queue, await receipt(bob, sent.id)).text == ASKED
                queue.wires.cut()
                waits = await bob.send("while the relay is away", service="review")
                assert isinstance((await why(bob, waits.id)).queued, t.QueuedHere)
                queue.wires.mend()
                await trio.sleep(120)
                assert task(await why(bob, waits.id)).state == "open"
                kick = t.KickMember(agent="bob", room=queue.served.room)
                await (await ann.person()).ask("room.kick", kick, t.MemberGone)
                await trio.sleep(60)
                assert (await bob.refused("message.why", t.Why(id=sent.id))).code == "no_such_message"
                assert (await bob.refused("receipt.get", t.GetReceipt(id=sent.id))).code == "no_such_receipt"

    run(main)


class LyingFace(PassingFace):
    """Stands before the relay's engine, and changes what it tells of a request."""

    lie: Callable[[t.Result], t.Result] | None = None

    def begin(self, op: str, params: t.Params, caller: Caller) -> Pending | None:
        return None if op in ("link.why", "link.ask") else super().begin(op, params, caller)

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        answer = await self._engine.call(op, params, caller)
        is_receipt = isinstance(params, t.AskAtRoom) and params.operation == "receipt.get"
        return self.lie(answer) if self.lie is not None and (op == "link.why" or is_receipt) else answer


@asynccontextmanager
async def lied_to(folder: Path) -> AsyncIterator[tuple[Queue, Party, Callable[[Callable[[Any], t.Result]], None]]]:
    """A queue, who asked there, and a way to let the relay lie."""
    faces: list[LyingFace] = []

    def stand(engine: Engine) -> EngineFace:
        faces.append(LyingFace(engine))
        return faces[-1]

    def lie(how: Callable[[Any], t.Result]) -> None:
        faces[-1].lie = how

    async with serving(folder, face=stand) as queue:
        [bob] = await asking(queue, "bob")
        yield queue, bob, lie


def test_a_relay_names_no_reader_who_is_not_in_the_queue(tmp_path: Path) -> None:
    async def main() -> None:
        async with lied_to(tmp_path) as (queue, bob, lie):
            sent = await bob.send(ASKED, service="review")
            me = await queue.id_of(bob)

            def more(answer: t.LaddersAtRoom) -> t.Result:
                [one] = answer.readers
                others = [msgspec.structs.replace(one, agent=agent) for agent in ("\x1b[31mmallory", "U", me)]
                presence = msgspec.structs.replace(one, presence="\x1b[31mthere")
                return msgspec.structs.replace(answer, readers=[*others, presence])

            lie(more)
            found = await why(bob, sent.id)
            assert list(stages(found)) == ["alice"]
            assert "\x1b" not in str(found.readers[0].stopped)
            lie(lambda answer: msgspec.structs.replace(answer, own=None))
            assert (await bob.refused("message.why", t.Why(id=sent.id))).code == "no_such_message"

    run(main)


def test_a_receipt_of_a_request_that_its_author_did_not_sign_is_not_believed(tmp_path: Path) -> None:
    async def main() -> None:
        async with lied_to(tmp_path) as (_, bob, lie):
            sent, other = await bob.send(ASKED, service="review"), await bob.send("the eel", service="review")
            honest, second = await receipt(bob, sent.id), await receipt(bob, other.id)
            assert honest.opening is not None
            assert second.opening is not None

            def given(told: t.ReceiptGiven) -> None:
                lie(lambda _: t.AnsweredAtRoom(answer=msgspec.msgpack.encode(told)))

            for signature in (None, b"", bytes(64), second.opening.signature):
                opening = msgspec.structs.replace(honest.opening, signature=signature)
                given(msgspec.structs.replace(honest, opening=opening))
                assert (await bob.refused("receipt.get", t.GetReceipt(id=sent.id))).code == "relay_failed"
            for body in (b"", b"\xc1", second.opening.body):
                opening = msgspec.structs.replace(honest.opening, body=body)
                given(msgspec.structs.replace(honest, opening=opening))
                assert (await bob.refused("receipt.get", t.GetReceipt(id=sent.id))).code == "relay_failed"
            for told in (second, msgspec.structs.replace(honest, receipt="x")):
                given(told)
                assert (await bob.refused("receipt.get", t.GetReceipt(id=sent.id))).code == "relay_failed"
            given(honest)
            assert await receipt(bob, sent.id) == honest

    run(main)
