"""handoff, its answers and what became of an offer: what they ask, print and exit with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from parlerd.cli.render import offer_line
from parlerd.core.errors import Refused
from parlerd.core.model import PeerText
from parlerd.operations import types as t
from tests.support.answers import ROOM, message, page
from tests.support.cli import Shell

COMMITTED = t.Committed(room=ROOM, cursor="1")
AT = 1_795_860_000_000


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def entry(**about: Any) -> t.HandoffEntry:
    fields: dict[str, Any] = {
        "id": "m_7",
        "seq": 7,
        "giver": "alice",
        "for_": "bob",
        "status": "offered",
        "holder": "alice",
        "at": AT,
        "expires": AT + 86_400_000,
    }
    return t.HandoffEntry(**{**fields, **about})


def answered(status: Any, **about: Any) -> t.AnsweredHandoff:
    fields: dict[str, Any] = {"id": "m_8", "seq": 8, "handoff": "m_7", "room": ROOM, "name": "auth", "giver": "alice"}
    return t.AnsweredHandoff(status=status, **{**fields, **about})


# -- the offer ---------------------------------------------------------------------------------------------


def test_handoff_offers_the_turn(shell: Shell) -> None:
    shell.daemon.answers(
        "handoff.give",
        t.GivenHandoff(id="m_1", room=ROOM, name="auth", for_="webdev", idempotency_key="k", seq=8, others=1),
    )
    ran = shell.run("handoff", "--for", "webdev", "--summary", "done", "--next", "go", "--json")
    assert ran.code == 0
    given = {
        "id": "m_1",
        "room": ROOM,
        "name": "auth",
        "for": "webdev",
        "replayed": False,
        "key": "k",
        "seq": 8,
        "others": 1,
        "queued": False,
        "expires": 0,
    }
    assert ran.document == given
    ran = shell.run("handoff", "--for", "webdev", "--next", "go")
    assert ran.stdout == "The turn is offered to webdev in 'auth', as #8.\n"
    assert "stays yours until somebody takes it" in ran.stderr
    params = shell.daemon.params_of("handoff.give")[0]
    assert isinstance(params, t.GiveHandoff)
    assert (params.next, params.summary, params.for_) == ("go", "done", "webdev")
    assert params.idempotency_key


def test_handoff_takes_everything_that_the_next_agent_has_to_know(shell: Shell) -> None:
    shell.daemon.answers("handoff.give", t.GivenHandoff(id="m_1", room=ROOM, name="auth", for_=None, seq=8, others=1))
    words = (
        "handoff", "--next", "go", "--goal", "g", "--state", "s", "--decision", "d1", "--decision", "d2",
        "--failed", "f", "--question", "q", "--file", "src/a.py", "--ref", "main", "--ttl", "600", "--bundle", "12",
        "--transcript", "20",
    )  # fmt: skip
    assert shell.run(*words).code == 0
    [params] = shell.daemon.params_of("handoff.give")
    assert isinstance(params, t.GiveHandoff)
    assert (params.goal, params.state, params.decisions, params.failed) == ("g", "s", ("d1", "d2"), ("f",))
    assert (params.questions, params.files, params.refs, params.ttl_ms) == (("q",), ("src/a.py",), ("main",), 600_000)
    assert (params.bundle, params.transcript) == ("12", 20)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (t.SentTranscript(count=0, quoted=False), "Nothing of the conversation goes along"),
        (
            t.SentTranscript(count=1, quoted=False),
            "1 message of the conversation belongs to it, to be read in the room.",
        ),
        (
            t.SentTranscript(count=7, quoted=True, left_out=13),
            "7 messages of the conversation are quoted in it. 13 older messages did not fit.",
        ),
    ],
)
def test_handoff_says_how_much_of_the_conversation_goes_along(shell: Shell, told: t.SentTranscript, said: str) -> None:
    given = t.GivenHandoff(id="m_1", room=ROOM, name="auth", for_="bob", seq=8, others=1, transcript=told)
    shell.daemon.answers("handoff.give", given, given)
    assert said in shell.run("handoff", "--next", "go", "--transcript", "20").stderr
    document = shell.run("handoff", "--next", "go", "--transcript", "20", "--json").document
    assert document["transcript"] == msgspec.to_builtins(told)


def test_more_of_the_conversation_than_may_go_along_is_a_usage_error(shell: Shell) -> None:
    assert shell.run("handoff", "--next", "go", "--transcript", "101").code == 2


def conversation(**about: Any) -> t.Handoff:
    told = t.HandoffTranscript(first="m_2", last="m_5", **{"count": 4, **about})
    return t.Handoff(next=PeerText("go"), summary=PeerText(""), to_you=True, status="offered", transcript=told)


def test_the_conversation_of_an_offer_is_named_or_shown_as_its_giver_quotes_it(shell: Shell) -> None:
    quoted = [
        t.QuotedMessage(id="m_4", author=PeerText("early\x1b[2J"), at=1, kind="text", text=PeerText("one\x1b[2J")),
        t.QuotedMessage(id="m_5", author=PeerText("bob"), at=2, kind="result", text=PeerText("two")),
    ]
    shell.daemon.answers(
        "message.recv",
        page(
            message("", kind="handoff", handoff=conversation(first_seq=3, last_seq=6)),
            message("", kind="handoff", handoff=conversation()),
            message("", kind="handoff", handoff=conversation(count=2, left_out=3, quoted=quoted)),
        ),
    )
    shell.daemon.answers("message.commit", t.Committed(room=ROOM, cursor="1"))
    said = shell.run("recv").stdout
    assert "\x1b" not in said
    assert "4 messages: #3 to #6" in said
    assert "4 messages that you cannot read here" in said
    assert "quotes it, 3 older messages left out" in said
    assert "bob (result), as alice" in said


def test_handoff_where_nobody_else_is_says_so_and_what_to_do(shell: Shell) -> None:
    shell.daemon.answers("handoff.give", t.GivenHandoff(id="m_1", room=ROOM, name="auth", for_=None))
    said = shell.run("handoff", "--next", "go").stdout
    assert "Nobody else is in it yet" in said
    assert "parler session list" in said


def test_handoff_needs_a_next_step(shell: Shell) -> None:
    assert shell.run("handoff", "--summary", "done").code == 2


# -- the answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "status", "said"),
    [
        ("accept", "accepted", "You have the turn in 'auth'. alice was told."),
        ("decline", "declined", "Declined in 'auth': the turn stays with alice."),
        ("withdraw", "withdrawn", "Withdrawn in 'auth': the turn stays with you."),
    ],
)
def test_an_offer_is_answered_by_its_number(shell: Shell, verb: str, status: str, said: str) -> None:
    done = answered(status)
    shell.daemon.answers(f"handoff.{verb}", done, done)
    ran = shell.run("handoff", verb, "7", "--room", "auth")
    assert (ran.code, ran.stdout) == (0, said + "\n")
    params = shell.daemon.params_of(f"handoff.{verb}")[0]
    assert isinstance(params, t.AcceptHandoff | t.DeclineHandoff | t.WithdrawHandoff)
    assert (params.id, params.room) == ("7", "auth")
    assert params.idempotency_key
    assert shell.run("handoff", verb, "7", "--json").document == msgspec.to_builtins(done)


def test_a_reason_goes_along_with_a_decline(shell: Shell) -> None:
    shell.daemon.answers("handoff.decline", answered("declined"))
    shell.run("handoff", "decline", "7", "--reason", "no access")
    [params] = shell.daemon.params_of("handoff.decline")
    assert isinstance(params, t.DeclineHandoff)
    assert params.reason == "no access"


def test_who_comes_second_hears_who_has_the_turn_and_exits_1(shell: Shell) -> None:
    shell.daemon.answers("handoff.accept", Refused("handoff_taken", handoff="m_7", agent="carol"))
    ran = shell.run("handoff", "accept", "7", "--json")
    error = ran.document["error"]
    assert (ran.code, error["code"], error["details"]["agent"]) == (1, "handoff_taken", "carol")


# -- what became of it -------------------------------------------------------------------------------------


def test_show_says_of_each_offer_what_became_of_it(shell: Shell) -> None:
    found = [
        entry(),
        entry(id="m_6", seq=6, status="accepted", holder="bob", ended=AT + 1),
        entry(id="m_5", seq=5, status="expired", for_=None, declined=["bob", "carol"]),
    ]
    listed = t.HandoffList(room=ROOM, name="auth", you="bob", handoffs=found, more=2)
    shell.daemon.answers("handoff.show", listed, listed)
    ran = shell.run("handoff", "show")
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("#7 alice offers the turn to bob: open for ")
    assert lines[0].endswith("; alice has the turn")
    assert lines[1].startswith("#6 alice offers the turn to bob: taken by bob, ")
    assert lines[2] == "#5 alice offers the turn to anyone: expired; declined by bob, carol; alice has the turn"
    assert "2 older offers are not shown" in ran.stderr
    assert shell.run("handoff", "show", "--json").document == msgspec.to_builtins(listed)


def test_an_offer_that_was_just_made_is_open_for_the_whole_day() -> None:
    for later, left in ((2, "1 day"), (120, "23 hours")):
        said = "".join(span if isinstance(span, str) else span[0] for span in offer_line(entry(), AT / 1000 + later))
        assert f"open for {left};" in said


def test_show_of_one_offer_prints_its_trail(shell: Shell) -> None:
    capsule = t.Handoff(
        next=PeerText("wire it"), summary=PeerText(""), for_="bob", status="declined", decisions=[PeerText("PKCE")]
    )
    trail = [
        message("", kind="handoff", handoff=capsule),
        message("", kind="handoff-declined", handoff_answer=t.HandoffAnswer(answer="declined", reason=PeerText("no"))),
    ]
    listed = t.HandoffList(
        room=ROOM, name="auth", you="bob", handoffs=[entry(status="declined", ended=AT)], messages=trail
    )
    shell.daemon.answers("handoff.show", listed)
    said = shell.run("handoff", "show", "7").stdout
    for words in ("handoff to bob", "declined", "wire it", "- PKCE", "handoff-declined", "no"):
        assert words in said
    [params] = shell.daemon.params_of("handoff.show")
    assert params == t.ShowHandoffs(id="7")


def test_an_offer_to_this_reader_says_how_to_take_it_and_an_old_one_does_not(shell: Shell) -> None:
    capsule = t.Handoff(next=PeerText("go"), summary=PeerText(""), for_="webdev", to_you=True, status="offered")
    over = msgspec.structs.replace(capsule, status="expired")
    shell.daemon.answers("message.recv", *(page(message("", kind="handoff", handoff=each)) for each in (capsule, over)))
    shell.daemon.answers("message.commit", COMMITTED, COMMITTED)
    ran = shell.run("recv")
    assert "HANDOFF TO YOU" in ran.stdout
    assert "parler handoff accept" in ran.stderr
    ran = shell.run("recv")
    assert "HANDOFF TO YOU" not in ran.stdout
    assert "parler handoff accept" not in ran.stderr
    assert "expired" in ran.stdout


def test_a_command_about_a_room_that_was_named_names_the_room(shell: Shell) -> None:
    """A number counts in one room. In another it is another message, and another offer perhaps."""
    capsule = t.Handoff(next=PeerText("go"), summary=PeerText(""), for_="webdev", to_you=True, status="offered")
    offer = page(message("", kind="handoff", handoff=capsule))
    shell.daemon.answers("message.recv", offer, offer)
    shell.daemon.answers("message.recv_all", t.ReceivedAll(rooms=[offer]))
    shell.daemon.answers("message.commit", *[COMMITTED] * 3)
    take = "parler handoff accept 1 --room auth-redesign (or: decline 1 --room auth-redesign --reason WHY)"
    assert take in shell.run("recv", "--room", "auth-redesign").stderr
    assert take in shell.run("recv", "--all-rooms").stderr
    assert "--room" not in shell.run("recv").stderr, "the active session needs no name"
    given = t.GivenHandoff(id="m_1", room=ROOM, name="auth", for_="webdev", idempotency_key="k", seq=8, others=1)
    shell.daemon.answers("handoff.give", given)
    assert "parler handoff show 8 --room auth\n" in shell.run("handoff", "--room", "auth", "--next", "go").stderr


def test_why_of_an_offer_says_what_became_of_it(shell: Shell) -> None:
    shell.daemon.answers("message.why", t.WhyResult(id="m_7", room=ROOM, readers=[], handoff=entry()))
    assert "#7 alice offers the turn to bob: open for " in shell.run("why", "7").stdout
