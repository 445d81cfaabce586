"""Who is given a receipt by a home, and what another home may pass off as one. The stories are in
`tests/scenario/test_receipts.py`."""

from __future__ import annotations

import msgspec
import pytest
import trio

from parlerd.core.model import Position, RoomId
from parlerd.core.receipts import read
from parlerd.engine.callers import Caller
from parlerd.identity.notes import split
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Receipted
from parlerd.web.app import RECEIPT_S
from tests.support.engine import Party, engine_world, run
from tests.support.http import minted, over_http


async def _text(who: Party, id: str) -> str:
    return (await who.ask("receipt.get", t.GetReceipt(id=id), t.ReceiptGiven)).receipt


def test_a_message_is_named_by_its_number_too() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            sent = await alice.send("one")
            page = await bob.recv()
            assert await _text(bob, str(page.messages[-1].seq)) == await _text(alice, sent.id)
            assert (await alice.refused("receipt.get", t.GetReceipt(id="99"))).code == "no_such_receipt"

    run(main)


def test_another_agent_of_the_same_person_is_given_no_more_than_it_may_see_and_the_person_all() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _, carol = await served.room("alice", "bob", "carol")
            hidden = await alice.send("for bob", visible_to=("bob",))
            wrote = await alice.ask("state.set", t.SetState(key="k", value=1), t.StateWritten)
            assert isinstance(wrote.receipt, t.ReceiptRef)
            person = await served.person()
            for id in (hidden.id, wrote.receipt.fact):
                assert (await carol.refused("receipt.get", t.GetReceipt(id=id))).code == "no_such_receipt"
                found = await person.ask("receipt.get", t.GetReceipt(id=id, room=hidden.room), t.ReceiptGiven)
                assert found.receipt == await _text(alice, id)

    run(main)


def test_what_came_before_a_newcomer_is_not_receipted_to_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open(history="from-join", approval=False)
            early = await alice.send("early")
            bob = await served.agent("bob")
            await bob.join(opened.session_key)
            late = await alice.send("late")
            assert (await bob.refused("receipt.get", t.GetReceipt(id=early.id))).code == "no_such_receipt"
            assert "m_" in await _text(bob, late.id)

    run(main)


def test_the_token_that_was_shown_is_named() -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home) as web:
            _, bob = await home.room("alice", "bob")
            token = await minted(bob)
            room = token.info.room
            sent = await web.ask(f"POST /v1/rooms/{room}/messages", {"text": "hello"}, token=token.token)
            fact = sent.document["receipt"]["fact"]
            assert fact == sent.document["id"]
            found = await web.ask(f"GET /v1/rooms/{room}/receipts/{fact}", token=token.token)
            assert found.status == 200
            said = read(split(found.document["receipt"])[0])
            assert (said.token, said.via, said.handle) == (token.info.id, "http", "bob")
            assert token.token not in str(found.document)
            body = {"text": "again", "receipt": "text"}
            brought = await web.ask(f"POST /v1/rooms/{room}/messages", body, token=token.token)
            told = brought.document["receipt"]
            assert (brought.status, read(split(told["text"])[0]).fact) == (201, brought.document["id"])
            wrong = await web.ask(f"POST /v1/rooms/{room}/messages", {**body, "receipt": "no"}, token=token.token)
            assert (wrong.status, wrong.code) == (400, "invalid_param")
            key = {"Idempotency-Key": "k-1"}
            one = await web.ask(f"PUT /v1/rooms/{room}/state", {"key": "a", "value": 1}, token=token.token, headers=key)
            same = {"key": "a", "value": 1, "receipt": "text"}
            two = await web.ask(f"PUT /v1/rooms/{room}/state", same, token=token.token, headers=key)
            assert (one.status, two.status, two.document["replayed"]) == (201, 200, True)
            assert two.document["receipt"]["fact"] == one.document["receipt"]["fact"]
            assert two.document["receipt"]["text"].startswith("parler/receipt v1")
            left = await web.ask(f"DELETE /v1/rooms/{room}/state?key=a&receipt=text", token=token.token)
            assert left.document["receipt"]["text"]
            missing = await web.ask(f"GET /v1/rooms/{room}/receipts/m_none", token=token.token)
            assert (missing.status, missing.code) == (404, "no_such_receipt")

    run(main)


def test_the_homes_whose_receipts_are_believed_are_named() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            keys = (await alice.ask("receipt.keys", t.ListReceiptKeys(), t.ReceiptKeys)).keys
            sent = await alice.send("x")
            assert [each.name for each in keys] == ["local"]
            assert read(split(await _text(alice, sent.id))[0]).home == keys[0].id
            assert msgspec.json.encode(keys)

    run(main)


@pytest.mark.parametrize("ends", [True, False])
def test_what_was_done_is_answered_where_its_receipt_does_not_come(
    monkeypatch: pytest.MonkeyPatch, *, ends: bool
) -> None:
    async def main() -> None:
        async with engine_world() as home, over_http(home) as web:
            _, bob = await home.room("alice", "bob")
            token = await minted(bob)
            call = home.engine.call

            async def slow(op: str, params: t.Params, caller: Caller) -> t.Result:
                if op == "receipt.get":
                    if ends:
                        await bob.ask("token.revoke", t.RevokeToken(id=token.info.id), t.RevokedToken)
                    await trio.sleep(600)
                return await call(op, params, caller)

            monkeypatch.setattr(home.engine, "call", slow)
            began, body = trio.current_time(), {"text": "hello", "receipt": "text"}
            sent = await web.ask(f"POST /v1/rooms/{token.info.room}/messages", body, token=token.token)
            assert (sent.status, sent.document["receipt"]["fact"]) == (201, sent.document["id"])
            assert trio.current_time() - began <= RECEIPT_S

    run(main)


def test_of_what_follows_nothing_is_read_that_is_none_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            writes = tuple(t.BatchedWrite(key=f"k{n}", value=n) for n in range(3))
            wrote = await alice.ask("state.batch", t.BatchState(writes=writes), t.BatchWritten)
            assert isinstance(wrote.receipt, t.ReceiptRef)
            for n in range(5):
                await bob.send(str(n))
            read_of, looked = MemoryStore.receipted, list[Position]()

            def receipted(self: MemoryStore, room: RoomId, position: Position) -> Receipted | None:
                looked.append(position)
                return read_of(self, room, position)

            monkeypatch.setattr(MemoryStore, "receipted", receipted)
            assert len(read(split(await _text(alice, wrote.receipt.fact))[0]).also) == 2
            assert len(looked) == 3

    run(main)
