"""What a caller may hand in: text and data within bounds, and the digest of a request."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest

from parlerd.core.errors import ParlerError
from parlerd.core.model import MAX_TEXT
from parlerd.engine.inputs import input_digest
from parlerd.operations import types as t
from tests.support.engine import Party, engine_world, run


async def refused_send(party: Party, **params: Any) -> ParlerError:
    return await party.refused("message.send", t.Send(**{"text": "x", **params}))


@pytest.mark.parametrize("field", ["text", "data"])
def test_a_message_over_the_limit_is_refused_whole_and_the_limit_is_named(field: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            error = await refused_send(alice, **{field: "x" * (300 * 1024)})
            assert (error.code, error.details["param"], error.details["limit"]) == ("text_too_long", field, MAX_TEXT)
            assert (await bob.recv()).messages == []
            assert (await alice.send("\u00e9" * (MAX_TEXT // 2))).seq == 2
            assert (await refused_send(alice, text="\u00e9" * (MAX_TEXT // 2) + "x")).code == "text_too_long"

    run(main)


@pytest.mark.parametrize(
    "params",
    [
        {"text": "\ud800"},
        {"data": {"a": "\ud800"}},
        {"data": 2**70},
        {"data": [[[2**70]]]},
        {"data": {"a": b"bytes"}},
        {"data": [msgspec.msgpack.Ext(1, b"x")]},
        {"data": datetime.datetime.fromtimestamp(0, datetime.UTC)},
        {"data": {1: "a number for a name"}},
        {"data": float("nan")},
        {"data": {"\ud800": 1}},
        {"to": ("\ud800",)},
        {"reply_to": "\ud800"},
        {"kind": "\ud800"},
    ],
)
def test_what_cannot_be_written_down_is_the_callers_fault_and_stores_nothing(params: dict[str, Any]) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            assert (await refused_send(alice, **params)).code == "invalid_param"
            assert (await alice.refused("session.open", t.OpenSession(topic="\ud800"))).code == "invalid_param"
            assert (await alice.refused("handoff.give", t.GiveHandoff(next="\ud800"))).code == "invalid_param"
            assert (await bob.recv()).messages == []

    run(main)


@pytest.mark.parametrize("levels", [65, 100_000])
def test_data_nested_too_deeply_is_refused_and_the_room_goes_on(levels: int) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            assert (await refused_send(alice, data=nested(levels))).code == "invalid_param"
            await alice.send("fine", data=nested(64))
            assert (await bob.recv()).messages[0].data == nested(64)

    run(main)


def nested(levels: int) -> Any:
    data: list[Any] = []
    for _ in range(levels - 1):
        data = [data]
    return data


def test_every_kind_of_json_comes_back_as_it_was_sent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            data: dict[str, Any] = {"": [None, True, -(2**63), 2**64 - 1, 1.5, "\u202e\0", {"a": {}}], "\u65e5": []}
            await alice.send("x", data=data)
            message = (await bob.recv()).messages[0]
            assert message.data == data
            assert msgspec.json.decode(msgspec.json.encode(message))["data"] == data

    run(main)


def test_a_digest_covers_every_parameter_but_the_key() -> None:
    base = t.Send(text="x")
    assert input_digest(base) == input_digest(t.Send(text="x", idempotency_key="k1"))
    others = [t.Send(text="y"), t.Send(text="x", to=("a",)), t.Send(text="x", data=0), t.Send(text="x", room="r")]
    assert len({input_digest(params) for params in [base, *others]}) == 5
    one = t.Send(text="x", data={"a": 1, "b": 2})
    assert input_digest(one) == input_digest(t.Send(text="x", data={"b": 2, "a": 1}))
