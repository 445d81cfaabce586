"""What a room remembers: written, found and forgotten by everyone in it. Told once, played in every home."""

from __future__ import annotations

from functools import partial
from typing import Any

from parlerd.operations import types as t
from tests.support.engine import Party, gather, texts
from tests.support.homes import Home, Place, until


async def together(place: Place, *names: str, clear: bool = False) -> tuple[Party, ...]:
    """These agents in one session; the first opened it. With `clear` a relay that the session is on can read it, which
    the person of the first asked for."""
    first, *others = [await place.agent(name) for name in names]
    opened = await first.open("auth redesign", "Chose PKCE.", clear=clear)
    for other in others:
        await other.commit(await let_in(place, opened, other))
    return (first, *others)


async def let_in(place: Place, opened: t.OpenedSession, who: Party, **said: Any) -> t.JoinedSession:
    """What an agent lands with whom the person let in."""
    knock, person = await who.join(opened.session_key, **said), await place.person()
    await person.approve((await who.whoami()).id, room=opened.room, join_code=knock.join_code)
    return await who.come_in(opened.session_key)


async def remember(who: Party, text: str, **rest: Any) -> t.Fact:
    kept = await who.ask("memory.remember", t.Remember(text=text, **rest), t.Remembered)
    (fact,) = kept.facts
    return fact


async def recall(who: Party, query: str, **rest: Any) -> list[t.Fact]:
    found = await who.ask("memory.recall", t.Recall(query=query, **rest), t.Recalled)
    return found.facts


async def forget(who: Party, **what: Any) -> t.Fact:
    gone = await who.ask("memory.forget", t.Forget(**what), t.Forgotten)
    (fact,) = gone.facts
    return fact


async def settled(*parties: Party) -> None:
    """Each of them was told all that was said before: a message that another waits for has come."""
    for party in parties:
        sent = await party.send("settled")
        for other in parties:
            await heard(other, sent.id)


async def heard(who: Party, message: str, room: str | None = None) -> None:
    async def has_come() -> bool:
        return message in {each.id for each in (await who.recv(all=True, limit=500, room=room)).messages}

    await until(has_come)


def test_what_one_remembers_another_finds(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        fact = await remember(alice, "deploy strategy is blue-green")
        assert (fact.key, fact.version, fact.author.name, fact.name) == (None, 1, "alice", "auth-redesign")
        await settled(alice, bob)
        (found,) = await recall(bob, "deploy")
        assert (found.id, found.text, found.author.name, found.verified) == (fact.id, fact.text, "alice", "valid")
        assert found.room == fact.room
        assert [each.id for each in await recall(bob, "blue-green", room="auth-redesign")] == [fact.id]
        assert await recall(bob, "canary") == []

    home.play(story)


def test_a_key_has_versions_and_only_the_newest_is_found(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        first = await remember(alice, "rolling", key="deploy-strategy")
        await settled(alice, bob)
        second = await remember(bob, "blue-green", key="deploy-strategy", if_version=1)
        assert (first.version, second.version) == (1, 2)
        await settled(alice, bob)
        for who in (alice, bob):
            (found,) = await recall(who, "deploy-strategy")
            assert (found.text, found.version, found.author.name) == ("blue-green", 2, "bob")
            assert await recall(who, "rolling") == []
        for who in (alice, bob):
            error = await who.refused("memory.remember", t.Remember(text="x", key="deploy-strategy", if_version=1))
            assert (error.code, error.details["current"]) == ("version_conflict", 2)

    home.play(story)


def test_of_two_who_create_the_same_key_one_is_refused(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await settled(alice, bob)
        codes: list[str] = []

        async def create(who: Party) -> None:
            try:
                await remember(who, "mine", key="leader", if_version=0)
                codes.append("")
            except Exception as error:
                codes.append(getattr(error, "code", "?"))

        await gather(partial(create, alice), partial(create, bob))
        assert sorted(codes) == ["", "version_conflict"]

    home.play(story)


def test_what_is_forgotten_is_found_by_nobody_and_its_words_are_gone(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await remember(bob, "the password is swordfish", key="secret")
        await remember(bob, "the password is marlin", key="secret")
        other = await remember(bob, "the password rotates")
        await settled(alice, bob)
        gone = await forget(bob, key="secret")
        assert (gone.key, gone.version, gone.text) == ("secret", 2, "")
        await forget(alice, id=other.id)
        await settled(alice, bob)
        for who in (alice, bob):
            assert await recall(who, "password") == []
            shown = await who.recv(all=True, limit=500)
            assert not any("password" in text for text in texts(shown))
        assert (await bob.refused("memory.forget", t.Forget(key="secret"))).code == "no_such_fact"
        again = await remember(alice, "nothing secret", key="secret", if_version=0)
        assert again.version == 3

    home.play(story)


def test_somebody_elses_fact_is_forgotten_by_the_owner_alone(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = await together(place, "alice", "bob", "carol")
        fact = await remember(bob, "tabs")
        await remember(bob, "four spaces", key="indent")
        await settled(alice, bob, carol)
        for what in (t.Forget(id=fact.id), t.Forget(key="indent")):
            assert (await carol.refused("memory.forget", what)).code == "not_your_fact"
        await forget(alice, id=fact.id)
        await forget(alice, key="indent")
        await settled(alice, bob, carol)
        assert await recall(carol, "tabs") == []
        assert await recall(carol, "indent") == []

    home.play(story)


def test_who_is_in_no_session_remembers_for_itself_alone(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        fact = await remember(alice, "I like short commits", key="style")
        assert (fact.room, fact.name, fact.version) == (None, "", 1)
        assert [(each.text, each.room) for each in await recall(alice, "short commits")] == [(fact.text, None)]
        assert await recall(bob, "short") == []
        assert await alice.rooms() == []
        alice, bob = await together(place, "alice", "bob")
        shared = await remember(alice, "commits are signed")
        await remember(alice, "my own", private=True)
        assert shared.room is not None
        await settled(alice, bob)
        assert {each.room for each in await recall(alice, "commits")} == {None, shared.room}
        assert [each.room for each in await recall(bob, "commits")] == [shared.room]
        assert len(await alice.rooms()) == 1
        gone = await forget(alice, key="style", private=True)
        assert gone.room is None
        assert [each.text for each in await recall(alice, "commits")] == ["commits are signed"]

    home.play(story)


def test_a_fact_ends_no_wait_and_is_shown_with_what_does(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await settled(alice, bob)
        await bob.commit(await bob.recv())

        async def talk() -> None:
            await remember(alice, "blue-green", key="deploy")
            await alice.send("look it up")

        page, _ = await gather(partial(bob.recv, wait=60), talk)
        assert isinstance(page, t.Received)
        marks = [(message.text, message.memory != message.handoff) for message in page.messages]
        assert marks == [("blue-green", True), ("look it up", False)]

    home.play(story)


def test_the_same_request_again_remembers_once(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        asked = t.Remember(text="blue-green", key="deploy", if_version=0, idempotency_key="once")
        first = await alice.ask("memory.remember", asked, t.Remembered)
        await settled(alice, bob)
        again = await alice.ask("memory.remember", asked, t.Remembered)
        assert (first.replayed, again.replayed) == (False, True)
        assert [(fact.id, fact.version) for fact in again.facts] == [(fact.id, 1) for fact in first.facts]

    home.play(story)


def test_who_joins_is_told_the_keys_that_the_room_has(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        opened = await alice.open("auth redesign", "Chose PKCE.")
        await bob.commit(await let_in(place, opened, bob))
        await remember(alice, "blue-green", key="deploy")
        await settled(alice, bob)
        await remember(bob, "PKCE", key="login")
        await remember(bob, "gone", key="old")
        await forget(bob, key="old")
        await remember(bob, "without a key")
        await settled(alice, bob)
        landed = await let_in(place, opened, carol)
        assert (landed.remembers, landed.more_keys) == (["login", "deploy"], 0)
        assert [fact.text for fact in await recall(carol, "login")] == ["PKCE"]

    home.play(story)
