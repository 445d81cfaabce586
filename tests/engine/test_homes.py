"""The homes of a person: this machine is always one, and only the person adds, removes and chooses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from parlerd.core.errors import Refused
from parlerd.engine.callers import PeerProcess
from parlerd.operations import types as t
from tests.support.engine import Party, Served, engine_world, run
from tests.support.fake_home_book import LINE, SECRET, FakeHomeBook, entry


async def homes(party: Party) -> list[tuple[str, bool]]:
    listed = await party.ask("homes.list", t.ListHomes(), t.HomeList)
    return [(home.name, home.default) for home in listed.homes]


def by_agent(peer: PeerProcess) -> PeerProcess:
    return replace(peer, agent_host="codex")


def test_this_machine_is_the_only_home_until_one_is_added() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person = await served.person()
            listed = await person.ask("homes.list", t.ListHomes(), t.HomeList)
            (local,) = listed.homes
            assert (local.name, local.state, local.default, local.url) == ("local", "local", True, "")
            assert local.id == served.world.keys.principal

    run(main)


def test_a_relay_that_was_added_is_where_sessions_open_until_another_home_is_chosen() -> None:
    async def main() -> None:
        async with engine_world(home_book=FakeHomeBook()) as served:
            person = await served.person()
            added = await person.ask("homes.add", t.AddHome(line=LINE, secret=SECRET), t.HomeAdded)
            assert (added.status, added.home.name) == ("added", "team-7f3k2q")
            assert await homes(person) == [("local", False), ("team-7f3k2q", True)]
            chosen = await person.ask("homes.default", t.ChooseHome(name="local"), t.HomeEntry)
            assert (chosen.name, chosen.default) == ("local", True)
            assert await homes(person) == [("local", True), ("team-7f3k2q", False)]
            chosen = await person.ask("homes.default", t.ChooseHome(name="team-7f3k2q"), t.HomeEntry)
            assert (chosen.name, chosen.default) == ("team-7f3k2q", True)
            removed = await person.ask("homes.remove", t.RemoveHome(name="team-7f3k2q"), t.HomeRemoved)
            assert (removed.name, removed.default) == ("team-7f3k2q", "local")
            assert await homes(person) == [("local", True)]

    run(main)


@pytest.mark.parametrize(
    ("line", "secret", "answer", "code"),
    [
        ("wss://nowhere", SECRET, None, "invalid_param"),
        (LINE, "", None, "not_enrolled"),
        (LINE, "another", None, "wrong_secret"),
        (LINE, SECRET, "wrong_relay", "wrong_relay"),
        (LINE, SECRET, "kicked", "kicked"),
    ],
)
def test_what_a_relay_refuses_is_told_and_nothing_is_kept(
    line: str, secret: str, answer: str | None, code: str
) -> None:
    async def main() -> None:
        book = FakeHomeBook({LINE: answer} if answer else {LINE: entry()})
        async with engine_world(home_book=book) as served:
            person = await served.person()
            assert (await person.refused("homes.add", t.AddHome(line=line, secret=secret))).code == code
            assert await homes(person) == [("local", True)]

    run(main)


def test_an_engine_that_reaches_no_home_says_so() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person = await served.person()
            assert (await person.refused("homes.add", t.AddHome(line=LINE))).code == "home_not_trusted"
            assert (await person.refused("homes.default", t.ChooseHome(name="team"))).code == "no_such_home"
            assert (await person.refused("homes.remove", t.RemoveHome(name="team"))).code == "no_such_home"

    run(main)


def test_messages_that_wait_are_not_given_up_without_a_word_and_this_machine_stays() -> None:
    async def main() -> None:
        book = FakeHomeBook(homes=[entry(waiting=3)])
        async with engine_world(home_book=book) as served:
            person = await served.person()
            refused = await person.refused("homes.remove", t.RemoveHome(name="team-7f3k2q"))
            assert (refused.code, len(book.homes)) == ("outbox_not_empty", 1)
            assert (await person.refused("homes.remove", t.RemoveHome(name="local", drop=True))).code == "invalid_param"
            removed = await person.ask("homes.remove", t.RemoveHome(name="team-7f3k2q", drop=True), t.HomeRemoved)
            assert (removed.dropped, book.homes) == (3, [])

    run(main)


DECIDING = {
    "homes.add": t.AddHome(line=LINE, secret=SECRET),
    "homes.remove": t.RemoveHome(name="team-7f3k2q", drop=True),
    "homes.default": t.ChooseHome(name="local"),
}


@pytest.mark.parametrize("op", DECIDING)
def test_no_agent_adds_removes_or_chooses_a_home(op: str) -> None:
    async def main() -> None:
        book = FakeHomeBook(homes=[entry(default=True)])

        async def refused_by(served: Served) -> tuple[str, str]:
            window, person = await served.window("w"), await served.person()
            return (await window.refused(op, DECIDING[op])).code, (await person.refused(op, DECIDING[op])).code

        async with engine_world(home_book=book, inspect=by_agent) as served:
            assert await refused_by(served) == ("person_only", "needs_person")
        assert (book.secrets, [home.default for home in book.homes]) == ([], [True])

    run(main)


def test_only_the_person_is_told_how_much_waits() -> None:
    async def main() -> None:
        book = FakeHomeBook(homes=[entry(waiting=3)])
        async with engine_world(home_book=book) as served:

            async def told(party: Party) -> int:
                return (await party.ask("homes.list", t.ListHomes(), t.HomeList)).homes[1].waiting

            assert [await told(await served.person()), await told(await served.window("w"))] == [3, 0]
        async with engine_world(home_book=book, inspect=by_agent) as served:
            person = await served.person()
            assert (await person.ask("homes.list", t.ListHomes(), t.HomeList)).homes[1].waiting == 0

    run(main)


@pytest.mark.parametrize(
    ("about", "ok", "words"),
    [
        ({"state": "connected"}, True, "connected: wss://192.168.1.20:7777"),
        ({"state": "idle"}, True, "idle"),
        ({"state": "connecting", "waiting": 2}, True, "2 messages wait"),
        ({"state": "connecting", "waiting": 1}, True, "1 message waits"),
        ({"state": "unreachable", "waiting": 7}, False, "does not answer; 7 messages wait"),
        ({"state": "refused", "reason": "kicked"}, False, "kicked"),
        ({"state": "refused", "reason": "wrong_relay"}, False, "wrong_relay"),
        ({"state": "refused", "reason": "proof_of_something"}, False, "proof_of_something"),
    ],
)
def test_the_checkup_says_how_each_relay_is_and_what_to_do(about: dict[str, Any], ok: bool, words: str) -> None:
    async def main() -> None:
        async with engine_world(home_book=FakeHomeBook(homes=[entry(**about)])) as served:
            person = await served.person()
            checks = (await person.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            (check,) = [check for check in checks if check.name == "home team-7f3k2q"]
            assert (check.ok, bool(check.fix)) == (ok, not ok)
            assert words in check.detail
            assert "NAME" not in check.fix

    run(main)


def test_a_refusal_holds_no_secret() -> None:
    async def main() -> None:
        async with engine_world(home_book=FakeHomeBook()) as served:
            person = await served.person()
            with pytest.raises(Refused) as refused:
                await person.call("homes.add", t.AddHome(line=LINE, secret="SECRETSECRET"))
            assert "SECRETSECRET" not in repr(refused.value) + repr(refused.value.body())

    run(main)
