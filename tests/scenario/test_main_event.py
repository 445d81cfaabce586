"""The main event and its variants: open, knock, approve, land caught up, talk. Told once, played in every home."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from parlerd.core.errors import Refused
from parlerd.operations import types as t
from tests.support.engine import Party, gather, texts
from tests.support.homes import Home, Place

RECAP = "Chose PKCE and refresh tokens. Left: rotation."


async def let_in(place: Place, opened: t.OpenedSession, *parties: Party) -> None:
    """Each knocks, is approved by the person with the code it shows, and comes in."""
    person = await place.person()
    for party in parties:
        knock = await party.join(opened.session_key)
        assert knock.status == "pending"
        await person.approve((await party.whoami()).id, room=opened.room, join_code=knock.join_code)
        await party.come_in(opened.session_key)


def test_whoever_came_in_with_a_role_is_meant_by_it(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        person = await place.person()
        opened = await alice.open("auth redesign", RECAP)
        assert opened.session_key is not None
        owner = t.JoinSession(session_key=opened.session_key, role="Owner")
        assert (await bob.refused("session.join", owner)).code == "invalid_name"
        knock = await bob.join(opened.session_key, role="reviewer")
        [request] = await person.requests()
        assert (request.name, request.role) == ("bob", "reviewer")
        await person.approve((await bob.whoami()).id, room=opened.room, join_code=knock.join_code)
        await bob.come_in(opened.session_key, role="another")
        await let_in(place, opened, carol)
        for each in (alice, bob, carol):
            assert {name: member.role for name, member in (await each.roster()).items()} == {
                "alice": "owner",
                "bob": "reviewer",
                "carol": "member",
            }
        given = await alice.handoff("read the diff", to="reviewer")
        for reader, is_meant in ((carol, False), (bob, True)):
            [message] = (await reader.recv(wait=20)).messages
            assert isinstance(message.handoff, t.Handoff)
            assert (message.id, message.handoff.to_you) == (given.id, is_meant)
        await accept(bob, given.id)
        await bob.send("it is fine")
        *_, said = (await carol.recv(wait=20)).messages
        assert (said.text, said.author.role) == ("it is fine", "reviewer")

    home.play(story)


def test_two_agents_share_a_session_from_one_key_with_a_persons_approval(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, person = await place.agent("alice"), await place.agent("bob"), await place.person()
        opened = await alice.open("auth redesign", RECAP)

        knock = await bob.join(opened.session_key)
        assert (knock.status, knock.messages) == ("pending", [])
        for op, params in (
            ("message.recv", t.Recv(room=opened.room)),
            ("message.send", t.Send(room=opened.room, text="let me in")),
            ("rooms.roster", t.Roster(room=opened.room)),
        ):
            assert (await bob.refused(op, params)).code == "no_such_room"

        (request,) = await person.requests()
        assert (request.name, request.room_name) == ("bob", "auth-redesign")

        # The decision wakes the joiner, who comes up with the whole context.
        landed, decided = await gather(
            partial(bob.join, opened.session_key, wait=20), partial(person.approve, "bob", join_code=knock.join_code)
        )
        assert isinstance(decided, t.Decided)
        assert isinstance(landed, t.JoinedSession)
        assert (decided.status, landed.status) == ("approved", "joined")
        assert texts(landed) == [RECAP]
        await bob.commit(landed)

        # Each message wakes the other, who was waiting.
        page, sent = await gather(partial(alice.recv, wait=20), partial(bob.send, "on it, taking token rotation"))
        assert isinstance(page, t.Received)
        assert isinstance(sent, t.Sent)
        assert texts(page) == ["on it, taking token rotation"]
        assert page.messages[0].verified == "valid"
        await alice.commit(page)
        page, answer = await gather(partial(bob.recv, wait=20), partial(alice.send, "good", reply_to=sent.id))
        assert isinstance(page, t.Received)
        assert isinstance(answer, t.Sent)
        assert texts(page) == ["good"]
        await bob.commit(page)
        # That it was pushed is said of a message that left for another machine, and of no other.
        reached = [stage for stage in (await bob.why(sent.id))["alice"] if stage != "pushed"]
        assert reached == ["stored", "read", "acknowledged", "acted"]

        await bob.handoff("wire the login UI", to="alice", summary="rotation done")
        (message,) = (await alice.recv()).messages
        assert isinstance(message.handoff, t.Handoff)
        assert message.handoff.to_you

        assert await alice.close() == "closed"
        assert (await bob.refused("message.send", t.Send(text="still there?"))).code == "room_closed"
        everything = await bob.recv(all=True)
        assert texts(everything)[:3] == [RECAP, "on it, taking token rotation", "good"]
        assert [message.seq for message in everything.messages] == [1, 2, 3, 4]

    home.play(story)


def test_the_same_between_the_windows_of_two_agent_hosts(home: Home) -> None:
    async def story(place: Place) -> None:
        one, two = await place.window("one", "/home/sam/api"), await place.window("two", "/home/sam/web")
        opened = await one.open("auth redesign", RECAP)
        person = await place.person()
        assert (await two.join(opened.session_key)).status == "pending"
        assert (await one.refused("session.approve", t.DecideJoin(agent="claude-code@web"))).code == "person_only"
        landed, _ = await gather(
            partial(two.join, opened.session_key, wait=20), partial(person.approve, "claude-code@web")
        )
        assert isinstance(landed, t.JoinedSession)
        assert texts(landed) == [RECAP]
        page, _ = await gather(partial(two.recv, wait=20), partial(one.send, "go on"))
        assert isinstance(page, t.Received)
        assert texts(page) == ["go on"]
        # The next call of the window says that the page was seen.
        assert (await two.recv()).messages == []

    home.play(story)


def test_a_denial_is_final_until_it_is_lifted(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, person = await place.agent("alice"), await place.agent("bob"), await place.person()
        opened = await alice.open("auth redesign", RECAP)
        await bob.join(opened.session_key)
        denied, _ = await gather(partial(bob.join, opened.session_key, wait=20), partial(person.deny, "bob"))
        assert isinstance(denied, t.JoinedSession)
        assert (denied.status, denied.messages) == ("denied", [])
        assert (await bob.join(opened.session_key)).status == "denied"
        assert (await bob.refused("message.recv", t.Recv(room=opened.room))).code == "no_such_room"
        await person.approve("bob")
        assert texts(await bob.come_in(opened.session_key)) == [RECAP]

    home.play(story)


def test_keys_that_do_not_work_are_told_apart_by_nobody(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        revoked, closed = await alice.open("one"), await alice.open("two")
        used_up = await alice.open("three", max_uses=1)
        await alice.call("session.revoke", t.RevokeSessionKey(session_key=str(revoked.session_key)))
        await alice.close(closed.room)
        await let_in(place, used_up, carol)
        errors = [
            await bob.refused("session.join", t.JoinSession(session_key=str(key)))
            for key in (revoked.session_key, closed.session_key, used_up.session_key, "ZZZZZZZZ", "?")
        ]
        assert {(error.code, error.message, error.hint, str(error.details)) for error in errors} == {
            ("unknown_key", errors[0].message, errors[0].hint, "{}")
        }

    home.play(story)


def test_a_private_message_is_there_for_its_readers_alone(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        opened = await alice.open("auth redesign", RECAP)
        await let_in(place, opened, bob, carol)
        hidden = await bob.send("between us", visible_to=("carol",))
        await alice.send("for all")
        assert await carol.read() == ["between us", "for all"]
        assert await alice.read() == []
        seqs = {
            name: [message.seq for message in (await party.recv(all=True)).messages]
            for name, party in (("alice", alice), ("bob", bob))
        }
        assert seqs == {"alice": [1, 2], "bob": [1, 2, 3]}
        assert (await alice.refused("message.why", t.Why(id=hidden.id))).code == "no_such_message"

    home.play(story)


def test_who_joins_a_long_session_gets_the_recap_and_the_newest_and_may_page_the_rest(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, person = await place.agent("alice"), await place.agent("bob"), await place.person()
        opened = await alice.open("auth redesign", RECAP)
        for n in range(120):
            await alice.send(f"{n}")
        await bob.join(opened.session_key)
        await person.approve("bob")
        landed = await bob.come_in(opened.session_key, limit=10)
        assert texts(landed) == [RECAP, *(str(n) for n in range(110, 120))]
        assert (landed.first_unshown, landed.last_unshown) == (2, 111)
        await alice.send("after")
        assert await bob.read() == ["after"]
        middle: list[str] = []
        while len(middle) < 110:
            middle += texts(await bob.recv(since=1 + len(middle), limit=50))
        assert middle[:110] == [str(n) for n in range(110)]

    home.play(story)


def test_who_joins_where_history_begins_with_joining_sees_the_recap_and_what_is_said_from_then_on(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        opened = await alice.open("auth redesign", RECAP, history="from-join")
        await alice.send("before bob")
        await let_in(place, opened, bob)
        await bob.send("before carol")
        await let_in(place, opened, carol)
        hidden = await alice.send("not for carol", visible_to=("bob",))
        await alice.send("for all")
        seen = {
            party: [(message.seq, str(message.text)) for message in (await party.recv(all=True)).messages]
            for party in (bob, carol)
        }
        assert seen[bob] == [(1, RECAP), (2, "before carol"), (3, "not for carol"), (4, "for all")]
        assert seen[carol] == [(1, RECAP), (2, "for all")]
        assert (await carol.refused("message.why", t.Why(id=hidden.id))).code == "no_such_message"

    home.play(story)


def test_who_leaves_hears_no_more_until_a_person_lets_them_in_again(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        opened = await alice.open("auth redesign", RECAP)
        await let_in(place, opened, bob)
        assert await bob.close(opened.room) == "left"
        await alice.send("while bob is away")
        assert list(await alice.roster()) == ["alice"]
        assert (await bob.refused("message.recv", t.Recv(room=opened.room))).code == "no_such_room"
        await let_in(place, opened, bob)
        await alice.send("bob is back")
        assert await bob.read() == ["bob is back"]
        assert set(await alice.roster()) == {"alice", "bob"}

    home.play(story)


def test_a_turn_goes_from_one_to_the_next_and_each_sees_whose_it_is(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        opened = await alice.open("auth redesign", RECAP)
        await let_in(place, opened, bob, carol)
        await alice.handoff("wire the login UI", to="bob", summary="PKCE is done")
        await bob.handoff("review it", to="carol", summary="the UI is wired")
        for party, mine in ((bob, ["wire the login UI"]), (carol, ["review it"])):
            found = (await party.recv(all=True)).messages
            offers = [message.handoff for message in found if isinstance(message.handoff, t.Handoff)]
            assert [offer.next for offer in offers] == ["wire the login UI", "review it"]
            assert [offer.next for offer in offers if offer.to_you] == mine

    home.play(story)


async def accept(party: Party, id: str, **more: Any) -> t.AnsweredHandoff:
    return await party.ask("handoff.accept", t.AcceptHandoff(id=id, **more), t.AnsweredHandoff)


async def offers_of(party: Party) -> dict[str, tuple[str, str]]:
    """Each offer that this agent sees: how it stands, and who has the turn."""
    found = await party.ask("handoff.show", t.ShowHandoffs(), t.HandoffList)
    return {each.id: (each.status, each.holder) for each in found.handoffs}


def test_an_offer_wakes_whom_it_is_for_and_taking_it_wakes_its_giver(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        opened = await alice.open("auth redesign", RECAP)
        await let_in(place, opened, bob)

        page, given = await gather(
            partial(bob.recv, wait=20), partial(alice.handoff, "wire the UI", to="bob", goal="login", files=("a.py",))
        )
        assert isinstance(page, t.Received)
        assert isinstance(given, t.GivenHandoff)
        [message] = page.messages
        assert isinstance(message.handoff, t.Handoff)
        assert (message.handoff.to_you, message.handoff.status, message.handoff.goal) == (True, "offered", "login")
        assert message.handoff.files == ["a.py"]
        await bob.commit(page)
        assert await offers_of(alice) == {given.id: ("offered", "alice")}

        page, taken = await gather(partial(alice.recv, wait=20), partial(accept, bob, str(message.seq)))
        assert isinstance(page, t.Received)
        assert isinstance(taken, t.AnsweredHandoff)
        assert (taken.status, taken.giver, taken.holder, taken.handoff) == ("accepted", "alice", "bob", given.id)
        assert taken.offer_seq == message.seq
        [answer] = page.messages
        assert isinstance(answer.handoff_answer, t.HandoffAnswer)
        assert (answer.handoff_answer.answer, answer.author.name, answer.to) == ("accepted", "bob", ["alice"])
        assert answer.reply_to == given.id
        for party in (alice, bob):
            assert await offers_of(party) == {given.id: ("accepted", "bob")}
        trail = await alice.ask("handoff.show", t.ShowHandoffs(id=given.id), t.HandoffList)
        assert [each.id for each in trail.messages] == [given.id, taken.id]
        why = await alice.ask("message.why", t.Why(id=given.id), t.WhyResult)
        assert isinstance(why.handoff, t.HandoffEntry)
        assert (why.handoff.status, why.handoff.holder) == ("accepted", "bob")

    home.play(story)


def test_of_two_who_take_a_turn_at_once_one_gets_it_and_the_other_hears_who_has_it(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        opened = await alice.open("auth redesign", RECAP)
        await let_in(place, opened, bob, carol)
        given = await alice.handoff("wire the UI")
        for party in (bob, carol):
            await party.read(wait=20)
        heard: dict[str, t.AnsweredHandoff | Refused] = {}

        async def take(name: str, party: Party) -> None:
            try:
                heard[name] = await accept(party, given.id)
            except Refused as error:
                heard[name] = error

        await gather(partial(take, "bob", bob), partial(take, "carol", carol))
        [winner] = [name for name, answer in heard.items() if isinstance(answer, t.AnsweredHandoff)]
        [error] = [answer for answer in heard.values() if isinstance(answer, Refused)]
        assert (error.code, error.details["agent"]) == ("handoff_taken", winner)
        assert error.message == f"{winner} has this turn."
        # Asked again, each hears the same.
        again = await accept({"bob": bob, "carol": carol}[winner], given.id)
        assert again.replayed
        await alice.read(wait=20)
        assert await offers_of(alice) == {given.id: ("accepted", winner)}

    home.play(story)


def test_a_turn_that_is_declined_or_withdrawn_stays_with_its_giver_who_hears_why(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        opened = await alice.open("auth redesign", RECAP)
        await let_in(place, opened, bob)
        first = await alice.handoff("wire the UI", to="bob")
        await bob.read(wait=20)
        await bob.ask("handoff.decline", t.DeclineHandoff(id=first.id, reason="no access"), t.AnsweredHandoff)
        [answer] = (await alice.recv(wait=20)).messages
        assert isinstance(answer.handoff_answer, t.HandoffAnswer)
        assert (answer.handoff_answer.answer, answer.handoff_answer.reason) == ("declined", "no access")
        second = await alice.handoff("wire the UI", to="bob")
        await alice.ask("handoff.withdraw", t.WithdrawHandoff(id=second.id), t.AnsweredHandoff)
        # The offer and the withdrawal may still be under way to bob: his answer is refused all the same.
        error = await bob.refused("handoff.accept", t.AcceptHandoff(id=second.id))
        assert error.code in ("handoff_over", "no_such_message")
        assert await offers_of(alice) == {first.id: ("declined", "alice"), second.id: ("withdrawn", "alice")}

    home.play(story)


def test_nothing_is_lost_or_doubled_when_the_daemon_is_restarted_in_the_middle(home: Home) -> None:
    kept: dict[str, str] = {}

    async def before(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        opened = await alice.open("auth redesign", RECAP)
        await let_in(place, opened, bob)
        assert opened.session_key is not None
        kept.update(key=opened.session_key, room=opened.room, sent=(await alice.send("one", idempotency_key="k1")).id)
        assert texts(await bob.recv()) == ["one"]
        await (await place.agent("carol")).join(opened.session_key)

    async def after(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        # Not acknowledged, so shown again; retried, so there once.
        again = await alice.send("one", idempotency_key="k1")
        assert (again.id, again.replayed) == (kept["sent"], True)
        assert await bob.read() == ["one"]
        await alice.send("two", idempotency_key="k2")
        # Who was waiting at the door still is.
        (request,) = await alice.requests()
        assert request.name == "carol"
        await alice.approve("carol")
        assert texts(await carol.come_in(kept["key"])) == [RECAP, "one", "two"]

    async def later(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        assert await bob.read() == ["two"]
        assert await bob.read() == []
        assert set(await alice.roster()) == {"alice", "bob", "carol"}
        assert (
            await alice.refused("message.send", t.Send(text="other", idempotency_key="k2"))
        ).code == "idempotency_conflict"
        assert (await alice.send("three")).seq == 4

    home.play(before, after, later)


def test_a_window_is_the_same_agent_after_a_restart_and_two_of_one_workspace_are_two(home: Home) -> None:
    names: list[str] = []

    async def before(place: Place) -> None:
        for window in ("one", "two"):
            names.append((await (await place.window(window, "/home/sam/web")).whoami()).id)
        assert len(set(names)) == 2

    async def after(place: Place) -> None:
        # In the other order: what counts is which window it is.
        two, one = await place.window("two", "/home/sam/web"), await place.window("one", "/home/sam/web")
        assert [(await two.whoami()).id, (await one.whoami()).id] == [names[1], names[0]]

    home.play(before, after)


@pytest.mark.parametrize("many", [8])
def test_many_who_speak_at_once_are_all_heard_in_one_order(home: Home, many: int) -> None:
    async def story(place: Place) -> None:
        parties = [await place.agent(f"agent{n}") for n in range(many)]
        opened = await parties[0].open("auth redesign", RECAP)
        await let_in(place, opened, *parties[1:])

        async def speak(n: int) -> None:
            for k in range(5):
                await parties[n].send(f"{n}.{k}", idempotency_key=f"k{k}")

        await gather(*(partial(speak, n) for n in range(many)))
        logs = [await party.recv(all=True) for party in parties]
        first = texts(logs[0])
        assert sorted(first) == sorted([RECAP, *(f"{n}.{k}" for n in range(many) for k in range(5))])
        for log in logs:
            assert texts(log) == first
            assert [message.seq for message in log.messages] == list(range(1, len(first) + 1))
        for n in range(many):
            assert [text for text in first if text.startswith(f"{n}.")] == [f"{n}.{k}" for k in range(5)]

    home.play(story)
