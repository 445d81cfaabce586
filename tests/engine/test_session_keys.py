"""The keys of sessions: what a typed one leads to, who sees, lists and revokes them, and what a guesser learns."""

from __future__ import annotations

import pytest
import trio

from parlerd.engine.callers import PeerProcess
from parlerd.identity.delegation import DELEGATION_TTL_MS
from parlerd.operations import types as t
from tests.support.engine import (
    Party,
    Served,
    engine_world,
    run,
)
from tests.support.sessions import (
    answer_in_full,
    in_agent_host,
    keys_of,
    wrong_join,
)


def test_a_key_is_not_dead_for_good_after_the_clock_stood_ahead() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            ten_years = 10 * 365 * 86_400
            served.world.clock.move(seconds=ten_years)
            await alice.send("dated ahead")
            assert (await wrong_join(bob, str(opened.session_key))).code == "unknown_key"
            served.world.clock.move(seconds=-ten_years)
            assert (await bob.join(opened.session_key)).status == "pending"
            # What was renewed then lasts no longer than anything else.
            assert (await bob.whoami()).name == "bob"
            agents = served.engine._desk.rooms.home.aggregate.state.agents.values()
            await alice.whoami()
            assert {agent.delegated_until for agent in agents} == {served.world.clock.ms + DELEGATION_TTL_MS}

    run(main)


def test_unknown_expired_used_up_and_revoked_keys_give_the_same_answer_byte_for_byte() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = [await served.agent(name) for name in ("alice", "bob", "carol")]
            expired = await alice.open("a", ttl_ms=60_000)
            revoked = await alice.open("b")
            closed = await alice.open("c")
            used_up = await alice.open("d", max_uses=1)
            assert revoked.session_key is not None
            assert used_up.session_key is not None
            await alice.call("session.revoke", t.RevokeSessionKey(session_key=revoked.session_key))
            await alice.close(closed.room)
            await served.admit(used_up, carol)
            served.world.clock.move(seconds=61)
            keys = [
                expired.session_key,
                revoked.session_key,
                closed.session_key,
                used_up.session_key,
                "ZZZZZZZZ",
                "not a key!",
                "@",
                "9" * 64,
                "A" * 200,
            ]
            bodies = {answer_in_full(await wrong_join(bob, str(key))) for key in keys}
            assert len(bodies) == 1
            assert b"unknown_key" in min(bodies)
            # The other operation that takes a key says no more to a stranger.
            mallory = await served.agent("mallory")
            bodies |= {
                answer_in_full(await mallory.refused("session.revoke", t.RevokeSessionKey(session_key=str(key))))
                for key in keys
            }
            assert len(bodies) == 1

    run(main)


def test_a_key_is_read_forgivingly() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            assert opened.session_key is not None
            typed = opened.session_key.replace("1", "l").replace("0", "o").lower()
            assert (await bob.join(f" {typed[:4]}-{typed[4:]} ")).status == "pending"

    run(main)


def test_a_wrong_key_in_another_home_says_which_home_this_is() -> None:
    async def main() -> None:
        async with engine_world(default_home=False) as served:
            error = await wrong_join(await served.agent("bob"), "ZZZZZZZZ")
            assert error.code == "unknown_key"
            assert "/home/sam/other" in error.hint
            assert "--as" in error.hint
            # A model has no use for any of that.
            assert "--as" not in (await wrong_join(await served.window("w"), "ZZZZZZZZ")).hint

    run(main)


def test_a_key_of_another_home_is_refused_before_anything_is_looked_up() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            looked_up: list[str] = []
            store = served.world.store
            found = store.room_of_key
            store.room_of_key = lambda key: (looked_up.append(key), found(key))[1]  # type: ignore[method-assign, func-returns-value]
            for op, params in (
                ("session.join", t.JoinSession(session_key=f"{opened.session_key}@relay.example:8443")),
                ("session.revoke", t.RevokeSessionKey(session_key=f"{opened.session_key}@{'h' * 150}")),
            ):
                error = await bob.refused(op, params)
                assert error.code == "home_not_trusted"
                assert error.hint
                assert len(error.details["host"]) <= 64
            assert looked_up == []
            assert not await alice.requests()

    run(main)


def test_who_guesses_keys_is_throttled_and_who_knows_one_is_not() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = [await served.agent(name) for name in ("alice", "bob")]
            mallory = await served.connect(as_name="mallory", peer=PeerProcess(pid=71, group=70))
            opened = await alice.open()
            answers = [(await wrong_join(mallory, f"ZZZZZZZ{n}")).code for n in range(10)]
            assert answers == ["unknown_key"] * 10
            error = await mallory.refused("session.join", t.JoinSession(session_key=str(opened.session_key)))
            assert error.code == "throttled"
            assert error.retry_after_ms
            # Another name and another command of the same shell do not help it; others are not held back.
            again = await served.connect(as_name="other", peer=PeerProcess(pid=72, group=70))
            assert (await wrong_join(again, "ZZZZZZZZ")).code == "throttled"
            assert (await bob.join(opened.session_key)).status == "pending"
            await trio.sleep(error.retry_after_ms / 1000)
            assert (await mallory.join(opened.session_key)).status == "pending"

    run(main)


def test_the_person_sees_their_keys_whole_and_an_agent_of_its_own_the_beginning() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, alice, bob = await served.person(), await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("one")
            await served.admit(opened, bob)
            code = str(opened.session_key)
            (shown,) = await keys_of(person)
            assert (shown.session_key, shown.begins) == (code, code[:4])
            (hers,) = await keys_of(alice)
            assert (hers.session_key, hers.begins, hers.key_ref) == ("", code[:4], shown.key_ref)
            assert await keys_of(bob) == []

    run(main)


def test_a_command_of_an_agent_host_is_shown_no_whole_key() -> None:
    async def main() -> None:
        async with engine_world(inspect=in_agent_host) as served:
            person, alice = await served.person(), await served.agent("alice")
            opened = await alice.open("one")
            (shown,) = await keys_of(person)
            assert (shown.session_key, shown.begins) == ("", str(opened.session_key)[:4])

    run(main)


async def open_later(served: Served, party: Party, topic: str) -> t.OpenedSession:
    """A session a second later than what is there: a list shows sessions in the order in which they were opened."""
    served.world.clock.move(seconds=1)
    return await party.open(topic)


def test_who_lost_a_key_revokes_that_one_by_what_the_list_shows_of_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, alice = await served.person(), await served.agent("alice")
            one, two, three = [await open_later(served, alice, topic) for topic in ("one", "two", "three")]
            by_name = dict(zip(("one", "two", "three"), await keys_of(person), strict=True))
            for party, typed, name in (
                (person, by_name["one"].begins.lower(), "one"),
                (alice, by_name["two"].session_key, "two"),
                (person, by_name["three"].session_key, "three"),
            ):
                revoked = await party.ask("session.revoke", t.RevokeSessionKey(session_key=typed), t.RevokedKey)
                assert (revoked.name, revoked.status) == (name, "revoked")
                assert revoked.begins == by_name[name].begins
            bob = await served.agent("bob")
            for opened in (one, two, three):
                assert (await wrong_join(bob, str(opened.session_key))).code == "unknown_key"

    run(main)


def test_a_beginning_that_two_keys_share_is_answered_with_both_and_a_revoked_one_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            session_key = served.world.keys.session_key
            monkeypatch.setattr(
                served.world.keys,
                "session_key",
                lambda room, length, invite="": "A3KE" + session_key(room, length, invite)[4:],
            )
            await open_later(served, alice, "one")
            await open_later(served, alice, "two")
            error = await alice.refused("session.revoke", t.RevokeSessionKey(session_key="A3KE"))
            first, second = await keys_of(alice)
            assert error.code == "ambiguous_name"
            assert error.details["candidates"] == [f"{first.key_ref} of one", f"{second.key_ref} of two"]
            await alice.call("session.revoke", t.RevokeSessionKey(session_key=first.key_ref))
            revoked = await alice.ask("session.revoke", t.RevokeSessionKey(session_key="A3KE"), t.RevokedKey)
            assert revoked.name == "two"

    run(main)


def test_the_beginning_of_another_agents_key_is_a_wrong_guess() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("one")
            await served.admit(opened, bob)
            (key,) = await keys_of(alice)
            for typed in (key.begins, key.key_ref, "AAA", "zzzz"):
                assert (
                    await bob.refused("session.revoke", t.RevokeSessionKey(session_key=typed))
                ).code == "unknown_key"
            assert (await keys_of(alice))[0].state == "live"

    run(main)


def test_an_owner_revokes_while_somebody_guesses_keys() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("one")
            for n in range(10):
                await wrong_join(alice, f"ZZZZZZZ{n}")
            assert (await wrong_join(alice, "ZZZZZZZZ")).code == "throttled"
            await alice.call("session.revoke", t.RevokeSessionKey(session_key=str(opened.session_key)))
            assert (await keys_of(alice))[0].state == "revoked"

    run(main)


def test_the_list_shows_keys_to_the_owner_alone_and_never_the_code() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open(max_uses=7)
            await served.admit(opened, bob)
            assert opened.session_key is not None
            (mine,) = (await alice.ask("session.list", t.ListSessions(), t.SessionList)).sessions
            assert [(key.uses, key.max_uses, key.state) for key in mine.keys] == [(1, 7, "live")]
            assert opened.session_key not in mine.keys[0].session_key.upper()
            (his,) = (await bob.ask("session.list", t.ListSessions(), t.SessionList)).sessions
            assert his.keys == []
            assert his.active

    run(main)


def test_a_key_is_revoked_by_its_owner_or_person_and_by_nobody_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = [await served.agent(name) for name in ("alice", "bob", "carol")]
            opened = await alice.open()
            assert opened.session_key is not None
            await served.admit(opened, bob)
            revoke = t.RevokeSessionKey(session_key=opened.session_key)
            assert (await bob.refused("session.revoke", revoke)).code == "not_owner"
            assert (await carol.refused("session.revoke", revoke)).code == "unknown_key"
            person = await served.person()
            revoked = await person.ask("session.revoke", revoke, t.RevokedKey)
            assert (revoked.status, len(revoked.key_ref)) == ("revoked", 8)
            again = await alice.ask("session.revoke", revoke, t.RevokedKey)
            assert again == revoked
            assert (await wrong_join(carol, opened.session_key)).code == "unknown_key"

    run(main)
