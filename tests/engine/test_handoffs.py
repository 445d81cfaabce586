"""Handing the turn over."""

from __future__ import annotations

import pytest

from parlerd.operations import types as t
from tests.support.engine import Party, engine_world, run


async def handed_to(*parties: Party) -> list[bool]:
    """For each, whether the newest message is a handoff to it."""
    answers = []
    for party in parties:
        handoff = (await party.recv(all=True)).messages[-1].handoff
        assert isinstance(handoff, t.Handoff)
        answers.append(handoff.to_you)
    return answers


def test_a_handoff_is_for_a_handle_an_id_a_role_or_anyone() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            given = await alice.handoff("wire the login", to="bob", summary="rotation done")
            assert given.for_ == "bob"
            assert await handed_to(bob, carol) == [True, False]
            message = (await bob.recv(all=True)).messages[-1]
            assert isinstance(message.handoff, t.Handoff)
            assert (message.handoff.next, message.handoff.summary) == ("wire the login", "rotation done")
            assert (message.kind, message.text, message.to) == ("handoff", "", ["bob"])

            await alice.handoff("go", to=(await carol.whoami()).id)
            assert await handed_to(bob, carol) == [False, True]
            assert (await alice.handoff("go")).for_ is None
            assert await handed_to(bob, carol) == [True, True]
            assert (await alice.handoff("go", to="anyone")).for_ is None
            assert await handed_to(bob, carol) == [True, True]
            assert (await bob.handoff("go", to="owner")).for_ == "owner"
            assert await handed_to(alice, carol) == [True, False]

    run(main)


def test_a_handoff_names_its_taker_also_where_an_id_was_given() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            given = await alice.handoff("go", to=(await bob.whoami()).id)
            assert (given.for_, given.name) == ("bob", "auth-redesign")
            handoff = (await bob.recv()).messages[-1].handoff
            assert isinstance(handoff, t.Handoff)
            assert handoff.for_ == "bob"

    run(main)


@pytest.mark.parametrize("wanted", ["dan", "webdev", "member", "bobby", "all", "person"])
def test_a_handoff_to_nobody_who_is_here_is_refused_with_the_names_that_are_and_posts_nothing(wanted: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, _ = await served.room("alice", "bob", "carol")
            # Known to this home, and knocking: neither is in.
            await (await served.agent("dan")).whoami()
            error = await alice.refused("handoff.give", t.GiveHandoff(next="go", for_=wanted))
            assert error.code == "no_such_agent"
            assert sorted(error.details["candidates"]) == ["bob", "carol"]
            assert wanted != "bobby" or error.details["candidates"][0] == "bob"
            assert error.details["key"]
            assert (await bob.recv()).messages == []

    run(main)


def test_a_handoff_to_one_who_left_is_refused_and_a_repeat_of_one_that_was_given_is_not() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            first = await alice.handoff("go", to="bob", idempotency_key="k1")
            await bob.close()
            error = await alice.refused("handoff.give", t.GiveHandoff(next="go on", for_="bob"))
            assert (error.code, error.details["candidates"]) == ("no_such_agent", [])
            again = await alice.handoff("go", to="bob", idempotency_key="k1")
            assert (again.id, again.replayed) == (first.id, True)

    run(main)


@pytest.mark.parametrize("wanted", ["alice", "owner", "the id"])
def test_nobody_hands_the_turn_to_itself(wanted: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            who = (await alice.whoami()).id if wanted == "the id" else wanted
            error = await alice.refused("handoff.give", t.GiveHandoff(next="go", for_=who))
            assert (error.code, error.details["param"]) == ("invalid_param", "for")
            assert (await bob.recv()).messages == []

    run(main)


def test_a_handoff_is_done_once_for_its_key_and_refuses_what_is_too_long_or_no_name() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            first = await alice.handoff("go", idempotency_key="k1")
            assert (await alice.handoff("go", idempotency_key="k1")).replayed
            assert [message.id for message in (await bob.recv()).messages] == [first.id]
            for params, code in (
                (t.GiveHandoff(next="x" * (300 * 1024)), "text_too_long"),
                (t.GiveHandoff(next="x", summary="x" * (300 * 1024)), "text_too_long"),
                (t.GiveHandoff(next="x", for_="not a name"), "invalid_name"),
            ):
                assert (await alice.refused("handoff.give", params)).code == code
            await alice.close()
            assert (await alice.refused("handoff.give", t.GiveHandoff(next="x"))).code == "no_active_session"

    run(main)
