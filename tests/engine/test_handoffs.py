"""Handing the turn over."""

from __future__ import annotations

import msgspec
import pytest

from parlerd.engine.handoffs import MAX_SHOWN
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


SAM = "/".join(["", "home", "sam"])
"""A folder that only somebody's machine has."""


# -- the capsule ---------------------------------------------------------------------------------------------


def test_everything_of_a_capsule_reaches_its_reader_and_empty_fields_are_left_out() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            said = {
                "goal": "a new login",
                "state": "rotation done",
                "decisions": ("PKCE",),
                "failed": ("cookies",),
                "questions": ("which scopes?",),
                "files": ("src/auth.rs",),
                "refs": ("main", "a1b2c3"),
            }
            await alice.handoff("wire the UI", to="bob", summary="done", **said)
            handoff = (await bob.recv()).messages[-1].handoff
            assert isinstance(handoff, t.Handoff)
            for name, words in said.items():
                assert getattr(handoff, name) == (list(words) if isinstance(words, tuple) else words)
            await alice.handoff("go")
            handoff = (await bob.recv(all=True)).messages[-1].handoff
            assert isinstance(handoff, t.Handoff)
            assert {getattr(handoff, name) for name in said} == {msgspec.UNSET}

    run(main)


def test_a_capsule_is_scrubbed_in_a_room_of_this_machine_too_and_its_giver_hears_of_what() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            given = await alice.handoff(
                f"look at {SAM}/src/a.py",
                to="bob",
                state="export API_TOKEN=abc",
                files=(f"{SAM}/src/a.py",),
                decisions=("use " + "glpat-" + "x" * 20,),
            )
            assert given.warning == (
                "Taken out of the hand-off: home path (2), environment value (1), GitLab token (1). Only what is "
                "recognised is; look through the rest."
            )
            handoff = (await bob.recv()).messages[-1].handoff
            assert isinstance(handoff, t.Handoff)
            assert (handoff.next, handoff.files) == ("look at [home]/src/a.py", ["[home]/src/a.py"])
            assert handoff.state == "export API_TOKEN=[removed: environment value]"
            assert handoff.decisions == ["use [removed: GitLab token]"]
            answered = await bob.ask(
                "handoff.decline", t.DeclineHandoff(id=given.id, reason="not /home/ben"), t.AnsweredHandoff
            )
            assert isinstance(answered.warning, str)
            answer = (await alice.recv()).messages[-1].handoff_answer
            assert isinstance(answer, t.HandoffAnswer)
            assert answer.reason == "not [home]"
            # Other messages of this machine stay as they are.
            assert (await alice.send(SAM)).warning is msgspec.UNSET
            assert (await bob.recv(all=True)).messages[-1].text == SAM

    run(main)


def test_what_is_no_offer_is_not_answered_and_a_number_or_an_id_means_one() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            words = await alice.send("hello", kind="handoff")
            given = await alice.handoff("go", to="bob")
            for wrong, code in (
                (words.id, "no_such_handoff"),
                ("m_none", "no_such_message"),
                ("99", "no_such_message"),
            ):
                assert (await bob.refused("handoff.accept", t.AcceptHandoff(id=wrong))).code == code
            assert (await bob.refused("handoff.show", t.ShowHandoffs(id=words.id))).code == "no_such_handoff"
            number = (await bob.recv()).messages[-1].seq
            taken = await bob.ask("handoff.accept", t.AcceptHandoff(id=f"#{number}"), t.AnsweredHandoff)
            assert (taken.handoff, taken.offer_seq, taken.replayed) == (given.id, number, False)
            again = await bob.ask("handoff.accept", t.AcceptHandoff(id=given.id), t.AnsweredHandoff)
            assert (again.id, again.replayed) == (taken.id, True)

    run(main)


def test_an_offer_that_is_named_by_its_id_is_answered_in_its_own_room() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            for topic in ("one", "two"):
                await served.admit(await alice.open(topic), bob)
            given = [await alice.handoff("go", room=room) for room in ("one", "two")]
            taken = await bob.ask("handoff.accept", t.AcceptHandoff(id=given[0].id), t.AnsweredHandoff)
            assert (taken.name, taken.handoff) == ("one", given[0].id), "Bob's active session is the other one"
            carol = await served.agent("carol")
            await carol.open("three")
            missing = t.AcceptHandoff(id=given[1].id)
            assert (await carol.refused("handoff.accept", missing)).code == "no_such_message"

    run(main)


def test_who_goes_on_without_taking_the_turn_does_not_have_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            given = await alice.handoff("go", to="bob")
            await bob.send("on it", reply_to=given.id)
            found = await alice.ask("handoff.show", t.ShowHandoffs(), t.HandoffList)
            assert [(each.status, each.holder) for each in found.handoffs] == [("offered", "alice")]

    run(main)


def test_the_list_has_open_offers_first_and_is_bounded() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            first = await alice.handoff("go", to="bob")
            over = [await alice.handoff("go", to="bob") for _ in range(MAX_SHOWN)]
            for given in over:
                await alice.ask("handoff.withdraw", t.WithdrawHandoff(id=given.id), t.AnsweredHandoff)
            found = await bob.ask("handoff.show", t.ShowHandoffs(), t.HandoffList)
            assert [each.id for each in found.handoffs] == [first.id, *(each.id for each in reversed(over[1:]))]
            assert (found.more, found.messages) == (1, [])
            assert (found.handoffs[0].to_you, found.handoffs[0].yours) == (True, False)

    run(main)
