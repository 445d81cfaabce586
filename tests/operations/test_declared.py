"""What operations declare, against what they do: the errors that they give and the facts that they leave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from mcp_server import resources
from parlerd.core.errors import ParlerError
from parlerd.core.model import HOME_ROOM, MAX_TEXT, Position
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from tests.support.engine import Served, engine_world, run


async def recv_in_a_closed_room(served: Served) -> tuple[str, ParlerError]:
    alice, bob = await served.room("alice", "bob")
    await alice.close()
    return "message.recv", await bob.refused("message.recv", t.Recv(wait_ms=1000))


async def why_without_a_session(served: Served) -> tuple[str, ParlerError]:
    alice = await served.agent("alice")
    return "message.why", await alice.refused("message.why", t.Why(id="#1"))


async def an_empty_text(served: Served) -> tuple[str, ParlerError]:
    alice, _ = await served.room("alice", "bob")
    return "message.send", await alice.refused("message.send", t.Send(text=""))


async def approve_in_a_closed_room(served: Served) -> tuple[str, ParlerError]:
    alice, bob = await served.agent("alice"), await served.agent("bob")
    opened = await alice.open()
    await bob.join(opened.session_key)
    await alice.close()
    person = await served.person()
    me = (await bob.whoami()).id
    return "session.approve", await person.refused("session.approve", t.DecideJoin(agent=me))


async def approve_elsewhere(served: Served) -> tuple[str, ParlerError]:
    _, bob = await served.room("alice", "bob")
    params = t.DecideJoin(agent="carol", room="auth-redesign")
    return "session.approve", await bob.refused("session.approve", params)


async def open_weaker(served: Served) -> tuple[str, ParlerError]:
    window = await served.window("w1")
    return "session.open", await window.refused("session.open", t.OpenSession(approval=False))


@pytest.mark.parametrize(
    "way",
    [
        recv_in_a_closed_room,
        why_without_a_session,
        an_empty_text,
        approve_in_a_closed_room,
        approve_elsewhere,
        open_weaker,
    ],
)
def test_an_operation_declares_the_errors_that_it_gives(
    way: Callable[[Served], Awaitable[tuple[str, ParlerError]]],
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            name, error = await way(served)
            assert error.code in OPERATIONS[name].errors, f"{name} gives {error.code}"

    run(main)


def test_an_operation_declares_the_facts_that_it_leaves() -> None:
    """`session.approve` makes the session the active one of whoever it lets in."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await bob.join(opened.session_key)
            who = (await bob.whoami()).id
            person = await served.person()
            await person.whoami()
            store = served.world.store
            before = store.head(HOME_ROOM).position
            await person.approve(who)
            left = store.facts(HOME_ROOM, Position(before), 10)
            names = {type(header.event).__struct_config__.tag for header in left}
            assert names <= set(OPERATIONS["session.approve"].facts), names

    run(main)


def test_the_guide_names_the_errors_that_asking_the_person_gives() -> None:
    after = resources.guide().partition("\nparler_approve(")[2]
    assert "no_form" in after
    assert "form_undecided" in after


def test_the_largest_message_that_a_call_may_send_is_within_what_a_call_takes() -> None:
    agents = tuple(f"U{number:055}" for number in range(t.MAX_LIST))
    send = t.Send(
        text="x" * MAX_TEXT,
        data="y" * (MAX_TEXT - 5),
        to=agents,
        visible_to=agents,
        room="r" * 256,
        reply_to="m" * 256,
        idempotency_key="k" * 128,
    )
    assert MAX_TEXT * 2 < len(msgspec.msgpack.encode(send)) <= t.MAX_PARAMS
