"""Messages that wait for a condition or a timer, or go with one. Told once, played in every home."""

from __future__ import annotations

import msgspec

from parlerd.operations import types as t
from tests.scenario.test_memory import settled, together
from tests.scenario.test_roles import give
from tests.scenario.test_work import claim
from tests.support.engine import Party
from tests.support.homes import Home, Place
from tests.support.room_state import put


async def withdraw(who: Party, id: str, **rest: str) -> t.Withdrawn:
    return await who.ask("message.withdraw", t.WithdrawMessage(id=id, **rest), t.Withdrawn)


async def words(who: Party, *all: Party) -> list[str]:
    """What a reader sees of the room."""
    await settled(who, *all)
    page = await who.recv(all=True, limit=500)
    return [str(each.text) for each in page.messages if each.kind != "context" and each.text != "settled"]


def test_a_message_is_read_once_its_condition_is_true(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        sent = await bob.send("the door is open", enabled="has(state._shared.compass)", idempotency_key="once")
        assert (sent.gated, sent.seq, sent.queued) == (True, None, False)
        again = await bob.send("the door is open", enabled="has(state._shared.compass)", idempotency_key="once")
        assert (again.id, again.replayed, again.at) == (sent.id, True, sent.at)
        assert await words(alice, bob) == []
        await put(alice, "compass", True)
        assert await words(alice, bob) == ["the door is open"]
        assert await words(bob, alice) == ["the door is open"]
        [message] = [each for each in (await alice.recv(all=True)).messages if each.id == sent.id]
        assert (message.id, message.author.name, message.verified) == (sent.id, "bob", "valid")
        # It is answered as any message is.
        reply = await alice.send("seen", reply_to=sent.id)
        assert (await words(bob, alice))[-1] == "seen"
        assert reply.seq

    home.play(story)


def test_who_becomes_what_it_is_for_is_shown_it(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, cat = await together(place, "alice", "bob", "cat")
        await alice.send("debug info", enabled='agents[self].role == "admin"')
        await give(alice, "bob", "admin")
        assert [await words(who, alice, bob, cat) for who in (alice, bob, cat)] == [["debug info"], ["debug info"], []]
        await give(alice, "cat", "admin")
        assert await words(cat, alice, bob) == ["debug info"]
        await alice.send("to all")
        assert await words(bob, alice, cat) == ["debug info", "to all"]

    home.play(story)


def test_what_is_true_already_is_shown_at_once(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        sent = await alice.send("for an hour", timer=t.TimerAsked(ms=3_600_000))
        assert (sent.gated, bool(sent.seq)) == (False, True)
        assert await words(bob, alice) == ["for an hour"]
        why = await alice.ask("message.why", t.Why(id=sent.id), t.WhyResult)
        assert isinstance(why.gated, t.GatedEntry)
        assert isinstance(why.gated.timer, t.TimerShown)
        assert (why.gated.timer.effect, why.gated.timer.ms) == ("delete", 3_600_000)

    home.play(story)


def test_its_author_alone_is_told_what_a_message_waits_for(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        sent = await alice.send("debug", enabled='agents[self].role == "admin"')
        why = await alice.ask("message.why", t.Why(id=sent.id), t.WhyResult)
        assert isinstance(why.gated, t.GatedEntry)
        assert (why.readers, why.gated.enabled, why.gated.shown_to) == ([], 'agents[self].role == "admin"', [])
        assert (await bob.refused("message.why", t.Why(id=sent.id))).code == "no_such_message"
        await give(alice, "bob", "admin")
        await settled(alice, bob)
        why = await alice.ask("message.why", t.Why(id=sent.id), t.WhyResult)
        assert isinstance(why.gated, t.GatedEntry)
        assert ([each.name for each in why.readers], why.gated.shown_to) == (["bob"], ["bob"])

    home.play(story)


def test_a_turn_of_the_room_lets_a_message_through(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        timer = t.TimerAsked(ticks=2, tick_on="state._shared.turn", effect="enable")
        await bob.send("after two turns", timer=timer)
        await put(alice, "turn", 1)
        assert await words(alice, bob) == []
        await put(alice, "turn", 2)
        assert await words(alice, bob) == ["after two turns"]

    home.play(story)


def test_a_task_is_offered_while_its_condition_is_true(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, cat = await together(place, "alice", "bob", "cat")
        task = await alice.send("mine the ore", kind="task", enabled="state._shared.day == true")
        assert (await claim(bob)).id is None
        await put(alice, "day", True)
        await settled(alice, bob, cat)
        unclaimed = await bob.recv(unclaimed=True)
        assert [each.id for each in unclaimed.messages] == [task.id]
        await put(alice, "day", False)
        await settled(alice, bob, cat)
        assert (await bob.recv(unclaimed=True)).messages == []
        error = await bob.refused("task.claim", t.ClaimTask(id=task.id))
        assert (error.code, error.spec.retryable) == ("task_not_offered", True)
        await put(alice, "day", True)
        await settled(alice, bob, cat)
        assert (await claim(bob)).id == task.id
        await put(alice, "day", False)
        await settled(alice, bob, cat)
        assert (await claim(bob, task.id)).status == "already_yours"
        done = await bob.ask("task.complete", t.CompleteTask(id=task.id, text="ore"), t.TaskHeld)
        assert done.status == "done"

    home.play(story)


def test_one_task_for_those_who_become_workers_is_done_once(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, cat = await together(place, "alice", "bob", "cat")
        await alice.send("review", kind="task", enabled='agents[self].role == "reviewer"')
        await give(alice, "bob", "reviewer")
        await give(alice, "cat", "reviewer")
        await settled(alice, bob, cat)
        mine = await claim(bob)
        assert mine.message is not None
        assert mine.id is not None
        assert mine.message.text == "review"
        await settled(alice, bob, cat)
        assert (await claim(cat)).id is None
        await bob.ask("task.release", t.ReleaseTask(id=mine.id), t.TaskHeld)
        await settled(alice, bob, cat)
        hers = await claim(cat)
        assert hers.message is not None
        assert hers.id is not None
        assert (hers.message.text, hers.id != mine.id) == ("review", True)
        await cat.ask("task.complete", t.CompleteTask(id=hers.id, text="fine"), t.TaskHeld)
        await settled(alice, bob, cat)
        assert (await claim(bob)).id is None

    home.play(story)


def test_what_waits_is_taken_back_by_its_author(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        sent = await bob.send("never mind", enabled="state._shared.go == true")
        error = await alice.refused("message.withdraw", t.WithdrawMessage(id="m_0123456789"))
        assert error.code == "no_such_gated"
        taken = await withdraw(bob, sent.id, idempotency_key="back")
        assert (taken.id, taken.replayed) == (sent.id, False)
        assert (await withdraw(bob, sent.id, idempotency_key="back")).replayed
        await put(alice, "go", True)
        assert await words(alice, bob) == []

    home.play(story)


def test_what_cannot_be_posted_is_refused_where_it_is_asked(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        for rest, code in (
            ({"enabled": "messages.count > 1"}, "expression_invalid"),
            ({"enabled": "state._shared.x ="}, "expression_invalid"),
            ({"enabled": "true", "kind": "result"}, "invalid_param"),
            ({"timer": t.TimerAsked(ms=1, ticks=1)}, "invalid_timer"),
            ({"enabled": "true", "to": ("nobody",)}, "no_such_agent"),
            ({"enabled": "true", "reply_to": "m_nothing"}, "no_such_message"),
            ({"enabled": "state[self].x", "text": ""}, "invalid_param"),
        ):
            params = msgspec.structs.replace(t.Send(text="hello"), **rest)
            error = await bob.refused("message.send", params)
            assert error.code == code, rest
        await put(alice, "hidden", 1, scope="alice")
        await alice.call("state.hide", t.HideScope(hidden=True))
        error = await bob.refused("message.send", t.Send(text="peek", enabled="state.alice.hidden == 1"))
        assert (error.code, error.details["read_scope"]) == ("scope_denied", "alice")

    home.play(story)
