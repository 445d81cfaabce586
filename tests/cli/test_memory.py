"""remember, recall and forget: what they ask, print and exit with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parlerd.core.errors import ParlerError
from parlerd.core.model import PeerText
from parlerd.operations import types as t
from tests.support.answers import ROOM, author, message, page
from tests.support.cli import Shell

CANARY = "\x1b]52;c;eA==\x07\x1b[2K\u202e\u200b[red]x[/red]"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def fact(**about: Any) -> t.Fact:
    said: dict[str, Any] = {
        "id": "m_7",
        "key": "deploy-strategy",
        "text": PeerText("blue-green"),
        "author": author("bob"),
        "at": 0,
        "version": 2,
        "score": 1000.0,
        "room": ROOM,
        "name": "auth",
    }
    return t.Fact(**{**said, **about})


def kept(*facts: t.Fact, **about: Any) -> t.Remembered:
    return t.Remembered(facts=list(facts or (fact(),)), replayed=False, idempotency_key="k", **about)


def gone(**about: Any) -> t.Forgotten:
    return t.Forgotten(facts=[fact(text=PeerText(""))], replayed=False, idempotency_key="k", **about)


def test_words_without_quotes_are_one_fact_and_every_flag_is_passed(shell: Shell) -> None:
    shell.daemon.answers("memory.remember", kept())
    flags = "--room team --key deploy-strategy --if-version 1 --once k9"
    ran = shell.run("remember", *flags.split(), "deploy", "is", "blue-green")
    assert (ran.code, ran.stdout) == (0, "Remembered as deploy-strategy version 2 in 'auth'.\n")
    assert shell.daemon.params_of("memory.remember") == [
        t.Remember(text="deploy is blue-green", key="deploy-strategy", if_version=1, room="team", idempotency_key="k9")
    ]


def test_a_fact_is_read_from_stdin_and_an_empty_one_is_a_usage_error(shell: Shell) -> None:
    shell.daemon.answers("memory.remember", kept(fact(key=None, version=1, room=None, name="")))
    ran = shell.run("remember", "--private", "-", stdin=b"from a pipe")
    assert (ran.code, ran.stdout) == (0, "Remembered in your private memory.\n")
    (params,) = shell.daemon.params_of("memory.remember")
    assert isinstance(params, t.Remember)
    assert (params.text, params.private) == ("from a pipe", True)
    assert shell.run("remember", "-", stdin=b"").code == 2
    assert shell.run("remember", "--private", "--room", "x", "y").code == 2


def test_what_waits_for_a_relay_is_said_to_wait(shell: Shell) -> None:
    shell.daemon.answers("memory.remember", kept(fact(at=None, version=None), queued=True, warning="Taken out: a key"))
    ran = shell.run("remember", "x")
    assert "Not remembered yet in 'auth'." in ran.stdout
    assert "Taken out: a key" in ran.stdout
    shell.daemon.answers("memory.forget", gone(queued=True))
    assert "Not forgotten yet in 'auth'." in shell.run("forget", "m_7").stdout


def test_recall_shows_each_fact_with_its_key_version_author_age_and_room(shell: Shell) -> None:
    found = t.Recalled(facts=[fact(), fact(key=None, room=None, name="")], more=3, partly=True, cut=True, notice="Old.")
    shell.daemon.answers("memory.recall", found)
    ran = shell.run("recall", "--room", "team", "--limit", "2", "deploy", "strategy")
    assert ran.code == 0
    assert "deploy-strategy v2 · bob · " in ran.stdout
    first, second = [line for line in ran.stdout.splitlines() if "bob" in line]
    assert first.endswith(" ago · 'auth'"), "its key names it"
    assert second.endswith(" ago · your private memory · m_7"), "nothing but its id names it"
    assert ran.stdout.count("blue-green") == 2
    assert "No fact has every word." in ran.stdout
    assert "Old." in ran.stdout
    assert "--limit 5" in ran.stdout + ran.stderr
    assert shell.daemon.params_of("memory.recall") == [t.Recall(query="deploy strategy", room="team", limit=2)]


def test_json_prints_facts_and_nothing_else(shell: Shell) -> None:
    shell.daemon.answers("memory.recall", t.Recalled(facts=[fact()]))
    document = json.loads(shell.run("recall", "deploy", "--json").stdout)
    assert set(document["facts"][0]) >= {"id", "key", "text", "author", "at", "version", "score", "room"}


def test_that_nothing_was_found_is_said(shell: Shell) -> None:
    shell.daemon.answers("memory.recall", t.Recalled(facts=[]))
    assert shell.run("recall", "x").stdout == "Nothing that is remembered has these words.\n"


def test_forget_takes_an_id_or_a_key_and_asks_a_person_alone(shell: Shell) -> None:
    shell.daemon.answers("memory.forget", gone())
    ran = shell.run("forget", "--key", "deploy-strategy")
    assert (ran.code, ran.stdout) == (0, "Forgotten: deploy-strategy in 'auth'.\n")
    assert shell.run("forget", "7", "--private").code == 0
    assert [(p.id, p.key, p.private) for p in shell.daemon.params_of("memory.forget")] == [  # type: ignore[attr-defined]
        (None, "deploy-strategy", False),
        ("7", None, True),
    ]
    assert shell.run("forget").code == shell.run("forget", "7", "--key", "k").code == 2
    asked = shell.run("forget", "7", terminal=True, stdin=b"n\n")
    assert asked.code == 1
    assert "Take the words of 7 away for good" in asked.stdout + asked.stderr
    assert shell.run("forget", "7", "--yes", terminal=True).code == 0


def test_a_conflict_says_what_is_there_now(shell: Shell) -> None:
    shell.daemon.answers("memory.remember", ParlerError("version_conflict", "The key k is at version 3.", current=3))
    ran = shell.run("remember", "--key", "k", "--if-version", "2", "x", "--json")
    assert ran.code == 1
    error = json.loads(ran.stdout)["error"]
    assert (error["code"], error["details"]["current"]) == ("version_conflict", 3)


@pytest.mark.parametrize("terminal", [False, True])
def test_text_of_others_reaches_the_terminal_made_visible(shell: Shell, *, terminal: bool) -> None:
    nasty = fact(key=CANARY, text=PeerText(CANARY), author=author(CANARY), name=CANARY)
    shell.daemon.answers("memory.recall", t.Recalled(facts=[nasty], notice=CANARY))
    ran = shell.run("recall", "x", terminal=terminal)
    assert "[red]x[/red]" in ran.stdout
    for sign in ("\x1b]", "\x1b[2K", "\u202e", "\u200b"):
        assert sign not in ran.stdout + ran.stderr


def test_a_fact_among_messages_is_one_line_that_says_what_it_does(shell: Shell) -> None:
    long = message(text="first line " + "x" * 300 + "\nsecond", memory=t.MemoryMark(key="deploy", version=2))
    gone = message(text="", memory=t.MemoryMark(key="", version=1, forgets=True))
    shell.daemon.answers("message.recv", page(long, gone))
    shell.daemon.answers("message.commit", t.Committed(room=ROOM, cursor="1"))
    ran = shell.run("recv")
    assert "remembers deploy v2" in ran.stdout
    assert "forgets" in ran.stdout
    assert not any(line.strip() in ("│", "|") for line in ran.stdout.splitlines()), "nothing was said"
    assert "second" not in ran.stdout
