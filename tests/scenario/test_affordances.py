"""What an agent may do in a room now, and what is best done next. Told once, played in every home."""

from __future__ import annotations

from parlerd.operations import types as t
from tests.scenario.test_actions import register
from tests.scenario.test_memory import heard, together
from tests.support.engine import Party
from tests.support.homes import Home, Place
from tests.support.room_state import put


async def may(who: Party) -> t.Affordances:
    return await who.ask("room.affordances", t.ListAffordances(), t.Affordances)


def allowed(found: t.Affordances) -> dict[str, object]:
    return {each.operation: each.allowed or each.reason for each in found.affordances}


def test_a_member_may_speak_and_work_and_the_owner_decides_about_members(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        mine, his = allowed(await may(alice)), allowed(await may(bob))
        assert set(mine.values()) == {True}
        assert {operation for operation, answer in his.items() if answer is not True} == {"room.kick", "room.role"}
        assert his["room.kick"] == "not_owner"

    home.play(story)


def test_actions_are_listed_with_why_they_cannot_be_invoked(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await register(alice, id="go", **{"if": "has(state._shared.ready)"})
        await register(alice, id="fill", writes=[{"key": "cup", "scope": "alice", "value": 1}])
        found = (await may(bob)).actions
        assert isinstance(found, list)
        assert {each.id: each.available or each.reason for each in found} == {
            "go": "precondition_failed",
            "fill": "scope_denied",
        }
        await put(alice, "ready", True)
        found = (await may(alice)).actions
        assert isinstance(found, list)
        assert {each.id: each.available for each in found} == {"go": True, "fill": True}

    home.play(story)


def test_the_next_steps_are_what_waits_for_the_agent_in_the_order_of_its_weight(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await bob.read(limit=500)
        assert [step.why for step in (await may(bob)).next] == ["wait"]
        await alice.send("look at this", kind="task")
        await bob.recv(wait=20, peek=True)
        assert [step.why for step in (await may(bob)).next] == ["unread", "open_work"]
        offer = await alice.handoff("yours", to="bob")
        await heard(bob, offer.id)
        steps = (await may(bob)).next
        assert [step.why for step in steps] == ["offer", "unread", "open_work"]
        assert steps[0] == t.NextStep(operation="handoff.accept", params={"id": offer.id}, why="offer")
        answered = await bob.ask("handoff.accept", t.AcceptHandoff(id=offer.id), t.AnsweredHandoff)
        assert answered.status == "accepted"

    home.play(story)
