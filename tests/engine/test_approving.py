"""Deciding who comes in: whose decision it is, by which proof, and what both sides are answered."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.model import Position, RoomId
from parlerd.operations import types as t
from parlerd.settings import Settings
from tests.support.engine import (
    SlowDriver,
    engine_world,
    gather,
    run,
    texts,
)
from tests.support.sessions import (
    TERMINAL,
    decide_by_form,
    events,
    in_agent_host,
    knocking,
)


def test_approving_nobody_and_approving_twice_are_told_apart() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _, _ = await knocking(served, "bob")
            for who in ("carol", "U" + "A" * 55, "q_none", "\u202e", "x" * 128):
                error = await alice.refused("session.approve", t.DecideJoin(agent=who))
                assert error.code == "no_such_request"
            assert (await alice.approve("bob")).proof == "cli"
            error = await alice.refused("session.approve", t.DecideJoin(agent="bob"))
            assert error.code == "already_decided"
            error = await alice.refused("session.deny", t.DecideJoin(agent="bob"))
            assert error.code == "already_decided"

    run(main)


def test_two_who_decide_at_the_same_moment_make_one_decision() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, opened, _ = await knocking(served, "bob")

            async def decide(op: str) -> str:
                try:
                    await alice.call(op, t.DecideJoin(agent="bob"))
                except Refused as error:
                    return error.code
                return "done"

            answers = await gather(
                partial(decide, "session.approve"), partial(decide, "session.deny"), partial(decide, "session.approve")
            )
            assert answers == ["done", "already_decided", "already_decided"]
            decisions = [x for x in events(served, opened.room) if isinstance(x, e.JoinApproved | e.JoinDenied)]
            assert len(decisions) == 1

    run(main)


def test_an_ambiguous_name_decides_nothing_and_lists_who_it_could_be() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            one, two = await alice.open("one"), await alice.open("two")
            await bob.join(one.session_key)
            await bob.join(two.session_key)
            person = await served.person()
            error = await person.refused("session.approve", t.DecideJoin(agent="bob"))
            assert error.code == "ambiguous_name"
            assert {candidate["room"] for candidate in error.details["candidates"]} == {one.room, two.room}
            assert len(await alice.requests()) == 2
            await person.approve("bob", room=two.room)
            assert [request.room for request in await alice.requests()] == [one.room]

    run(main)


def test_a_decision_is_answered_with_names() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, opened, (bob, carol) = await knocking(served, "bob", "carol")
            approved = await alice.approve((await bob.whoami()).id)
            assert (approved.name, approved.room_name) == ("bob", opened.name)
            denied = await alice.deny("carol")
            assert (denied.name, denied.room_name) == ("carol", opened.name)
            assert carol.caller.agent == denied.agent

    run(main)


def test_a_denial_is_final_for_the_requester_until_the_owner_lifts_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, opened, (bob,) = await knocking(served, "bob", context="recap")
            await alice.deny("bob")
            for _ in range(3):
                denied = await bob.join(opened.session_key)
                assert denied.status == "denied"
                assert denied.messages == []
            assert await alice.requests() == []
            # Another connection, or another window under its name, is the same requester.
            assert (await (await served.agent("bob")).join(opened.session_key)).status == "denied"
            assert (await alice.approve("bob")).status == "approved"
            assert texts(await bob.join(opened.session_key)) == ["recap"]

    run(main)


def test_a_denial_wakes_who_waits_and_says_so() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()

            async def deny() -> None:
                await alice.deny("bob")

            joined, _ = await gather(partial(bob.join, opened.session_key, wait=600), deny)
            assert joined is not None
            assert joined.status == "denied"
            assert "declined" in joined.hint

    run(main)


def test_decisions_belong_to_the_person_for_all_their_agents_rooms_and_to_an_agent_for_its_own() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, opened, _ = await knocking(served, "bob")
            carol, person = await served.agent("carol"), await served.person()
            assert [request.name for request in await person.requests()] == ["bob"]
            assert await carol.requests() == []
            error = await carol.refused("session.approve", t.DecideJoin(agent="bob"))
            assert error.code == "no_such_request"
            error = await carol.refused("session.approve", t.DecideJoin(agent="bob", room=opened.room))
            assert error.code == "no_such_room"
            await person.approve("bob")
            bob = await served.agent("bob")
            error = await bob.refused("session.approve", t.DecideJoin(agent="carol", room=opened.room))
            assert error.code == "not_owner"
            assert await alice.requests() == []

    run(main)


def test_a_decision_by_an_agent_over_mcp_is_refused() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w")
            opened = await window.open()
            bob = await served.agent("bob")
            await bob.join(opened.session_key)
            for op in ("session.approve", "session.deny"):
                error = await window.refused(op, t.DecideJoin(agent="bob"))
                assert error.code == "person_only"
                assert "parler session" in error.hint
            assert (await bob.join(opened.session_key)).status == "pending"

    run(main)


def test_a_decision_from_under_an_agent_host_needs_the_person() -> None:
    async def main() -> None:
        async with engine_world(inspect=in_agent_host) as served:
            alice, opened, (bob,) = await knocking(served, "bob")
            for party in (alice, await served.person()):
                for op in ("session.approve", "session.deny"):
                    error = await party.refused(op, t.DecideJoin(agent="bob"))
                    assert error.code == "needs_person"
                    assert "claude-code" in error.message
            assert (await bob.join(opened.session_key)).status == "pending"

    run(main)


def test_the_code_at_a_terminal_is_the_stronger_proof_and_is_recorded() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(approval_minimum="terminal")) as served:
            _, opened, (bob,) = await knocking(served, "bob")
            code = (await bob.join(opened.session_key)).join_code
            plain = await served.person()
            at_terminal = await served.connect(peer=TERMINAL)
            for party, how in (
                (plain, {}),
                (plain, {"join_code": code}),
                (plain, {"join_code": code, "terminal": True}),
                (at_terminal, {}),
                (at_terminal, {"join_code": code}),
            ):
                error = await party.refused("session.approve", t.DecideJoin(agent="bob", **how))
                assert error.code == "needs_proof"
            decided = await at_terminal.approve("bob", join_code=str(code).lower(), terminal=True)
            assert decided.proof == "terminal"
            (approved,) = [x for x in events(served, opened.room) if isinstance(x, e.JoinApproved)]
            assert approved.proof == "terminal"

    run(main)


def test_denying_needs_no_proof() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(approval_minimum="sealed")) as served:
            alice, _, _ = await knocking(served, "bob")
            assert (await alice.refused("session.approve", t.DecideJoin(agent="bob"))).code == "needs_proof"
            assert (await alice.deny("bob")).status == "denied"

    run(main)


def test_a_form_counts_with_the_joiners_code_alone() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window, bob = await served.window("w"), await served.agent("bob")
            opened = await window.open()
            code = (await bob.join(opened.session_key)).join_code
            assert code is not None
            found = await served.find_request(window, "bob")
            assert (found.request.name, found.owner_decides) == ("bob", False)
            assert code not in msgspec.json.encode(found).decode()
            for typed, expected in ((None, "form_undecided"), ("", "code_mismatch"), ("0000", "code_mismatch")):
                with pytest.raises(Refused) as refused:
                    await decide_by_form(served, window, join_code=typed)
                assert refused.value.code == expected
            assert (await decide_by_form(served, window, join_code=code)).proof == "form"
            assert (await bob.join(opened.session_key)).status == "joined"

    run(main)


def test_a_form_is_for_the_rooms_own_agent_and_may_be_too_weak() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(approval_minimum="terminal")) as served:
            window, other, bob = await served.window("w"), await served.window("v"), await served.agent("bob")
            opened = await window.open()
            code = (await bob.join(opened.session_key)).join_code
            for party, expected in ((other, "no_such_request"), (window, "needs_proof")):
                with pytest.raises(Refused) as refused:
                    await decide_by_form(served, party, join_code=code)
                assert refused.value.code == expected
            assert (await decide_by_form(served, window, admit=False, join_code=code)).status == "denied"

    run(main)


def test_in_a_room_whose_person_chose_so_the_owner_decides_and_the_record_says_that_no_person_did() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, bob = await served.person(), await served.agent("bob")
            opened = await person.open(approver="agent")
            await bob.join(opened.session_key)
            window = await served.window("w", as_name="sam")
            assert (await served.find_request(window, "bob")).owner_decides
            assert (await decide_by_form(served, window)).proof == "none"
            facts = served.world.store.facts(RoomId(opened.room), Position(0), 1000)
            (approved,) = [header for header in facts if isinstance(header.event, e.JoinApproved)]
            assert approved.authority == "owner"

    run(main)
