"""`parler homes`: which homes there are, how each is, and taking one out."""

from __future__ import annotations

from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.support.cli import Shell
from tests.support.fake_home_book import entry

LOCAL = t.HomeEntry(name="local", id="A1", url="", fingerprint="", state="local", default=False)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def knows(shell: Shell, *homes: t.HomeEntry) -> None:
    shell.daemon.answers("homes.list", t.HomeList(homes=[LOCAL, *homes]))


def test_homes_are_listed_with_how_each_is_and_what_waits(shell: Shell) -> None:
    knows(
        shell,
        entry(default=True, waiting=3, state="unreachable"),
        entry("crew-aaaaaa", state="refused", reason="kicked", url="wss://10.0.0.7:7777"),
    )
    for width in (80, 120):
        ran = shell.run("homes", terminal=True, width=width)
        assert ran.code == 0
        assert max(map(len, ran.stdout.splitlines())) <= width
        lines = ran.stdout.splitlines()
        assert [line.split()[:2] for line in lines[1:4]] == [
            ["local", "this"],
            ["*", "team-7f3k2q"],
            ["crew-aaaaaa", "refused"],
        ]
        assert "not reached" in lines[2]
        assert lines[2].split()[-1] == "wss://192.168.1.20:7777"
        assert " 3 " in lines[2]
        told = ran.stdout.replace("\n", " ")
        assert "team-7f3k2q does not answer. What is sent there waits here" in told
        assert "ended your membership" in told
        assert "parler homes remove crew-aaaaaa" in told


def test_cards_that_wait_for_a_relay_are_counted(shell: Shell) -> None:
    knows(shell, entry(cards=2), entry("crew-aaaaaa", cards=1))
    told = " ".join(shell.run("homes").stdout.split())
    assert "team-7f3k2q: 2 cards of your agents wait to go there." in told
    assert "crew-aaaaaa: 1 card of your agents waits to go there." in told
    assert told.count("of your agents") == 2


def test_a_script_gets_each_home_whole(shell: Shell) -> None:
    knows(shell, entry(default=True))
    document = shell.run("homes", "--json").document
    assert [home["name"] for home in document["homes"]] == ["local", "team-7f3k2q"]
    assert {"name", "url", "fingerprint", "state", "default"} <= set(document["homes"][1])


def test_a_person_with_one_home_is_told_where_to_look(shell: Shell) -> None:
    knows(shell)
    assert "parler help connect" in shell.run("homes").stdout


def test_taking_out_a_home_for_which_nothing_waits_asks_nothing(shell: Shell) -> None:
    knows(shell, entry())
    shell.daemon.answers("homes.remove", t.HomeRemoved(name="team-7f3k2q", rooms=2, dropped=0, default="local"))
    ran = shell.run("homes", "remove", "team-7f3k2q")
    assert ran.code == 0
    assert "Its 2 rooms can still be read here" in ran.stdout
    assert "New sessions open on this machine." in ran.stdout
    assert shell.daemon.params_of("homes.remove") == [t.RemoveHome(name="team-7f3k2q", drop=False)]


def test_messages_that_wait_are_given_up_only_after_a_yes(shell: Shell) -> None:
    knows(shell, entry(waiting=3))
    shell.daemon.answers("homes.remove", t.HomeRemoved(name="team-7f3k2q", rooms=0, dropped=3, default="local"))
    ran = shell.run("homes", "remove", "team-7f3k2q", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "needs_yes")
    assert "parler homes remove team-7f3k2q --json --yes" in ran.document["error"]["hint"]
    assert ran.document["error"]["message"].startswith("3 messages for team-7f3k2q could not be sent yet"), (
        "what is lost"
    )
    ran = shell.run("homes", "remove", "team-7f3k2q", terminal=True, stdin=b"n\n")
    assert ran.code == 1
    assert "3 messages for team-7f3k2q could not be sent yet" in ran.stderr
    assert shell.daemon.params_of("homes.remove") == []
    ran = shell.run("homes", "remove", "team-7f3k2q", terminal=True, stdin=b"y\n")
    assert ran.code == 0
    assert "3 messages that waited will not be sent" in ran.stdout
    assert shell.run("homes", "remove", "team-7f3k2q", "--yes").code == 0
    assert shell.daemon.params_of("homes.remove") == [t.RemoveHome(name="team-7f3k2q", drop=True)] * 2


def test_a_home_that_is_not_there_is_said(shell: Shell) -> None:
    knows(shell)
    shell.daemon.answers("homes.remove", ParlerError("no_such_home"))
    ran = shell.run("homes", "remove", "crew-aaaaaa")
    assert ran.code == 1
    assert "parler homes" in ran.stderr


def test_the_names_of_relays_complete(shell: Shell) -> None:
    knows(shell, entry(), entry("crew-aaaaaa"))
    assert shell.run("completion", "--words", "homes").stdout == "crew-aaaaaa\nteam-7f3k2q\n"
    script = shell.run("completion", "bash").stdout
    assert "_parler_homes" in script


@pytest.mark.parametrize(("ahead", "said"), [(3_600_000, "60 minutes ahead of"), (-120_000, "2 minutes behind")])
def test_a_relay_whose_clock_differs_is_said_to(shell: Shell, ahead: int, said: str) -> None:
    knows(shell, entry(clock_ahead_ms=ahead), entry("crew-aaaaaa", clock_ahead_ms=59_000))
    told = " ".join(shell.run("homes").stdout.split())
    assert f"team-7f3k2q: its clock is {said} this machine's." in told
    assert "crew-aaaaaa: " not in told
