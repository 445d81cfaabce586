"""register, discover and card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from parlerd.core.errors import ERRORS
from parlerd.operations import types as t
from tests.support.cli import Shell

SOME = {
    "id": "U" + "B" * 55,
    "name": "codex@web",
    "role": "reviewer",
    "tags": ["web", "css"],
    "skills": ["review"],
    "description": "Reviews front ends.",
    "status": "waiting",
    "since": 1_700_000_000_000,
    "verified": "valid",
    "visibility": "public",
    "home": "local",
    "fingerprint": "ABCD-EFGH-IJKL",
}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def agent(**more: Any) -> t.FoundAgent:
    return msgspec.convert({**SOME, **more}, t.FoundAgent)


def test_discover_prints_who_was_found_and_what_is_missing(shell: Shell) -> None:
    found = t.FoundAgents(agents=[agent(), agent(name="zoe", home="team-7f3k2q")], more=True, silent=["other-team"])
    shell.daemon.answers("directory.discover", found)
    assert shell.run("discover", "--json").document == msgspec.to_builtins(found)
    ran = shell.run("discover", "front", "ends", "--tag", "web", "--online")
    for text in ("codex@web", "reviewer", "web css", "waiting since", "zoe", "team-7f3k2q", "Reviews front ends."):
        assert text in ran.stdout, text
    assert str(SOME["id"]) not in ran.stdout
    assert "other-team did not answer" in ran.stderr + ran.stdout
    asked = shell.daemon.asked[-1].params
    assert asked == t.Discover(query="front ends", tag="web", online=True)
    assert str(SOME["id"]) in shell.run("discover", "--wide").stdout


def test_a_long_description_stands_in_its_column_on_a_terminal(shell: Shell) -> None:
    shell.daemon.answers("directory.card", agent(description="one two three four " * 8))
    lines = shell.run("card", "codex@web", terminal=True, width=40, env={"NO_COLOR": "1"}).stdout.splitlines()
    says = [index for index, line in enumerate(lines) if "one" in line or "four" in line]
    assert len(says) > 3
    assert [lines[index][:12].strip() for index in says] == ["says", *[""] * (len(says) - 1)]


def test_discover_says_that_nobody_fits(shell: Shell) -> None:
    shell.daemon.answers("directory.discover", t.FoundAgents(agents=[]))
    assert "Nobody else who has a card fits that." in shell.run("discover", "nobody").stdout


def test_register_changes_what_is_given_and_nothing_else(shell: Shell) -> None:
    done = t.Registered(name="codex@web", agent=agent(), homes=[t.CardAt(home="local", status="published")])
    shell.daemon.answers("directory.register", done)
    ran = shell.run("register", "--public", "--tag", "web", "--tag", "css", "--describe", "Reviews front ends.")
    assert ran.code == 0
    assert "Published on this machine." in ran.stdout
    asked = shell.daemon.asked[-1].params
    assert asked == t.Register(visibility="public", tags=("web", "css"), description="Reviews front ends.")
    shell.run("register", "--tag", "", "--private")
    assert shell.daemon.asked[-1].params == t.Register(visibility="private", tags=())
    shell.run("register", "--direct", "ask")
    assert shell.daemon.asked[-1].params == t.Register(direct="ask")
    assert shell.run("register", "--direct", "never").code == 2
    assert shell.run("register", "--json").document == msgspec.to_builtins(done)


def test_a_card_says_that_its_person_is_asked_first_where_that_is_so(shell: Shell) -> None:
    asks = msgspec.structs.replace(agent(), direct="ask")
    shell.daemon.answers("directory.card", agent(), asks)
    assert "asked" not in shell.run("card", "bob").stdout
    assert "its person is asked first" in shell.run("card", "bob").stdout


def test_register_that_did_not_reach_a_relay_says_so_and_fails(shell: Shell) -> None:
    homes = [
        t.CardAt(home="local", status="published"),
        t.CardAt(home="team-7f3k2q", status="failed", code="too_many_cards"),
    ]
    shell.daemon.answers("directory.register", t.Registered(name="codex@web", agent=agent(), homes=homes))
    ran = shell.run("register", "--public")
    assert ran.code == 1
    assert f"The card is not at team-7f3k2q: {ERRORS['too_many_cards'].message}" in " ".join(
        (ran.stdout + ran.stderr).split()
    )


def test_a_card_that_waits_for_a_relay_is_no_failure_and_is_said_as_long_as_it_waits(shell: Shell) -> None:
    waits = t.CardAt(home="team-7f3k2q", status="pending", code="offline")
    homes = [t.CardAt(home="local", status="published"), waits]
    shell.daemon.answers("directory.register", t.Registered(name="codex@web", agent=agent(), homes=homes))
    ran = shell.run("register", "--public")
    assert ran.code == 0
    said = "team-7f3k2q does not answer; the card goes there by itself as soon as it does."
    assert said in " ".join(ran.stderr.split())
    assert "Published at" not in ran.stdout
    own = msgspec.structs.replace(agent(), pending=[waits])
    shell.daemon.answers("directory.card", own, own)
    assert said in " ".join(shell.run("card").stderr.split())
    pending = [{"home": "team-7f3k2q", "status": "pending", "code": "offline"}]
    assert shell.run("card", "--json").document["pending"] == pending


def test_a_card_is_printed_with_its_hidden_characters_shown(shell: Shell) -> None:
    shell.daemon.answers("directory.card", agent(description="a\x1b[2Jb\u202ec\nd"))
    for terminal in (False, True):
        ran = shell.run("card", "codex@web", terminal=terminal)
        assert "codex@web" in ran.stdout
        for hidden in ("\x1b[2J", "\u202e", "c\nd"):
            assert hidden not in ran.stdout
