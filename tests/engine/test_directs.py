"""Direct messages on one machine: who is meant by a name."""

from __future__ import annotations

from typing import Any

import trio

from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.support.engine import Party, PlugDriver, Served, World, run, texts


async def carded(served: Served, name: str, **said: Any) -> Party:
    """An agent with a card, which is public unless `said` says otherwise."""
    who = await served.agent(name)
    card = t.Register(**{"visibility": "public", **said})
    await who.ask("directory.register", card, t.Registered)
    return who


async def to(who: Party, name: str, text: str = "got a minute?", **rest: Any) -> t.Sent:
    return await who.send(text, to=(name,), **rest)


async def not_to(who: Party, name: str, **rest: Any) -> ParlerError:
    return await who.refused("message.send", t.Send(text="got a minute?", to=(name,), **rest))


async def asks(person: Party) -> list[tuple[str, str]]:
    found = await person.ask("approvals.list", t.ListApprovals(), t.RequestList)
    return [(request.name, request.direct_to) for request in found.requests]


def test_somebody_in_the_active_session_is_addressed_there_and_everybody_else_directly() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, _ = await served.room("ann", "ben")
            await carded(served, "cat")
            there = await to(ann, "ben")
            assert there.opened is not True
            assert (await ann.rooms())[0].kind == "session"
            direct = await to(ann, "cat")
            assert (direct.opened, direct.room == there.room) == (True, False)
            # Whoever was in a session goes on in it.
            assert (await ann.send("to all")).room == there.room
            named = await to(ann, "ben", room="auth-redesign")
            assert named.room == there.room
            assert (await not_to(ann, "cat", room="auth-redesign")).code == "no_such_agent"
            both = await ann.send("hi", to=("ben", "ann"))
            assert both.room == there.room
            error = await ann.refused("message.send", t.Send(text="hi", to=("ben", "cat")))
            assert (error.code, error.details["param"]) == ("invalid_param", "to")

    run(main)


def test_a_session_that_took_a_name_and_was_never_opened_stops_no_direct_message() -> None:
    async def main() -> None:
        world, killed = World(), trio.CancelScope()
        world.driver = lambda store: PlugDriver(store, killed.cancel)
        with killed:
            async with world.serving() as served:
                ann, _ = await carded(served, "ann"), await carded(served, "ben")
                driver = served.driver
                assert isinstance(driver, PlugDriver)
                # A session is opened in two commits, and the second is lost.
                driver.cut = (driver.commits + 1, False)
                await ann.open("notes", idempotency_key="k1")
        assert killed.cancelled_caught
        world.driver = PlugDriver
        async with world.serving() as served:
            ann, ben = await served.agent("ann"), await served.agent("ben")
            assert await ann.rooms() == []
            assert (await to(ann, "ben")).opened is True
            assert texts(await ben.recv()) == ["got a minute?"]
            # Whoever asks for the session again is in it.
            opened = await ann.open("notes", idempotency_key="k1")
            assert (await ann.whoami()).active == opened.room

    run(main)


def test_nobody_writes_to_itself() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, _ = await carded(served, "ann"), await carded(served, "ben")
            await to(ann, "ben")
            for name in ("ann", "ann@local", (await ann.whoami()).id):
                error = await not_to(ann, name)
                assert (error.code, error.details["param"]) == ("invalid_param", "to")
            assert len(await ann.rooms()) == 1
            # Also through the door of clients that do not wait for an answer before they ask again.
            assert served.engine.begin("message.send", t.Send(text="x", to=("ann",)), ann.caller) is None

    run(main)


def test_an_agent_without_a_card_and_a_shared_room_is_like_one_that_is_not_there() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben, cat = await served.agent("ann"), await served.agent("ben"), await carded(served, "cat")
            await ben.whoami()
            unknown, hidden = await not_to(ann, "nobody"), await not_to(ann, "ben")
            assert unknown.code == hidden.code == "no_such_agent"
            assert unknown.message.replace("nobody", "ben") == hidden.message
            assert "parler discover" in hidden.hint
            await ben.ask("directory.register", t.Register(), t.Registered)
            assert (await not_to(ann, "ben")).code == "no_such_agent"
            assert not await ben.rooms()
            # The person sees all of their agents, and whoever has no card may write first.
            assert (await to(await served.person(), "ben")).opened is True
            assert (await to(ben, "cat")).opened is True
            assert (await to(cat, "ben")).opened is not True

    run(main)


def test_who_shares_a_room_is_found_without_a_card_and_has_a_room_when_both_left() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, _ = await served.room("ann", "ben")
            await ann.open("another")
            direct = await to(ann, "ben")
            assert direct.opened is True
            for session in ("auth-redesign", "another"):
                await ann.close(session)
            again = await to(ann, "ben")
            assert (again.room, again.opened is True) == (direct.room, False)

    run(main)


def test_a_card_that_was_taken_back_is_found_no_longer_and_the_room_stays() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben, cat = [await carded(served, name) for name in ("ann", "ben", "cat")]
            sent = await to(ann, "ben")
            await ben.ask("directory.register", t.Register(visibility="withdrawn"), t.Registered)
            assert (await not_to(cat, "ben")).code == "no_such_agent"
            assert (await to(ann, "ben")).room == sent.room

    run(main)


def test_a_message_that_is_refused_opens_no_room() -> None:
    async def main() -> None:
        async with World().serving() as served:
            ann, ben = await carded(served, "ann"), await carded(served, "ben")
            for params in (
                t.Send(text="", to=("ben",)),
                t.Send(text="x", to=("ben",), visible_to=("ben",)),
                t.Send(text="x", to=("ben",), reply_to="3"),
                t.Send(text="x" * 300_000, to=("ben",)),
            ):
                assert (await ann.refused("message.send", params)).code in (
                    "invalid_param",
                    "no_such_message",
                    "text_too_long",
                )
            assert not await ann.rooms()
            assert not await ben.rooms()
            sent = await to(ann, "ben")
            answer = await to(ben, "ann", reply_to=sent.id)
            assert (await ann.recv(all=True)).messages[-1].reply_to == sent.id
            assert answer.room == sent.room

    run(main)
