"""An agent that the person starts themselves, in their own session. Told once, played in every home."""

from __future__ import annotations

from typing import Any

from parlerd.operations import types as t
from tests.scenario.test_memory import settled
from tests.support.engine import Party
from tests.support.homes import Home, Place

COMMAND = 7
"""The process of `parler bring`."""


async def bring(who: Party, **how: Any) -> t.Bringing:
    return await who.ask("session.bring", t.BringAgent(host="claude-code", **how), t.Bringing)


async def arrive(who: Party) -> None:
    await who.ask("window.arrive", t.Arrive(), t.Noted)


def test_whoever_the_person_starts_is_in_the_conversation_with_all_others(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        opened = await alice.open("auth redesign", "Chose PKCE.")
        knock, person = await bob.join(opened.session_key), await place.person(COMMAND)
        await person.approve((await bob.whoami()).id, room=opened.room, join_code=knock.join_code)
        await bob.come_in(opened.session_key)
        assert (await bring(person, room="auth-redesign")).room == opened.room
        carol = await place.started("carol", COMMAND)
        await arrive(carol)
        assert [str(each.text) for each in (await carol.recv()).messages] == ["Chose PKCE."]
        assert (await carol.whoami()).active == opened.room
        await settled(alice, bob)
        await carol.send("I am here.")
        assert await bob.read() == ["settled", "I am here."]
        brought = await person.ask("session.brought", t.AskBrought(), t.Brought)
        assert (brought.status, brought.agent) == ("joined", (await carol.whoami()).id)
        assert await person.requests() == []

    home.play(story)


def test_a_session_whose_keys_are_all_dead_gets_one_for_the_start(home: Home) -> None:
    async def story(place: Place) -> None:
        alice = await place.agent("alice")
        opened = await alice.open("auth redesign", "Chose PKCE.")
        await alice.call("session.revoke", t.RevokeSessionKey(session_key=str(opened.session_key)))
        person = await place.person(COMMAND)
        await bring(person)
        carol = await place.started("carol", COMMAND)
        await arrive(carol)
        assert [str(each.text) for each in (await carol.recv()).messages] == ["Chose PKCE."]
        error = await (await place.agent("bob")).refused("session.join", t.JoinSession(session_key="A3KE7DJR"))
        assert error.code == "unknown_key"

    home.play(story)


def test_a_start_is_forgotten_where_the_daemon_starts_anew(home: Home) -> None:
    async def before(place: Place) -> None:
        alice = await place.agent("alice")
        await alice.open("auth redesign", "Chose PKCE.")
        await bring(await place.person(COMMAND))

    async def after(place: Place) -> None:
        await place.agent("alice")
        carol = await place.started("carol", COMMAND)
        await arrive(carol)
        assert await carol.rooms() == []

    home.play(before, after)
