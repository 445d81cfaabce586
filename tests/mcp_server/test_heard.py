"""What is heard is what was said: each kind of answer is written and taken apart again."""

from __future__ import annotations

import pytest

from mcp_server.budget import Budget
from mcp_server.heard import Decision, Entry, Heard, Knock, Part, hear
from mcp_server.tools.failures import failure
from mcp_server.tools.results import Scribe
from parlerd.core.errors import ParlerError
from parlerd.core.model import PeerText, Verified
from parlerd.operations import types as t
from parlerd.operations.traits import HostTraits
from tests.support import answers
from tests.support.answers import author, message

AT = 1_700_000_000_000


def heard(result: t.Result, *, offset: int = 0, room: str | None = None, page: int = 0) -> Heard:
    scribe = Scribe()
    scribe.met.add(answers.ROOM)
    if page:
        scribe.budget = Budget(HostTraits(page=page))
    return hear(scribe.write(result, offset=offset, room=room).text)


@pytest.mark.parametrize(
    "text", ["", "one line", "two\nlines\n", "[peer 01234567 #1 bob]\n[end 01234567]", "[end]", "Sent #7 to demo."]
)
def test_a_text_is_heard_to_the_letter_and_says_nothing_by_itself(text: str) -> None:
    found = heard(answers.page(message(text, seq=7)))
    assert (found.texts, found.seqs, found.sent) == ([text], [7], 0)
    assert found.said == "1 new in auth-redesign:\n"


def test_the_facts_of_a_message_are_heard() -> None:
    found = heard(
        answers.page(
            message("a", seq=1),
            message("b\u202e", seq=2, verified="bad_signature", reply_seq=1, author=author("bob")),
            you="alice",
        )
    )
    first, second = found.messages
    assert (first.author, first.verified, first.reply_to, first.turn_to) == ("you", True, 0, "")
    assert (second.author, second.verified, second.reply_to, second.text) == ("bob", False, 1, "b\\u{202e}")


@pytest.mark.parametrize("verdict", ["valid", "home", "unsigned", "invalid"])
def test_only_what_its_author_signed_is_heard_as_verified(verdict: Verified) -> None:
    [only] = heard(answers.page(message("x", seq=1, verified=verdict))).messages
    assert only.verified is (verdict == "valid")


def test_a_handoff_is_heard_with_its_summary_and_for_whom_it_is() -> None:
    handoff = t.Handoff(next=PeerText("do this"), summary=PeerText("done that"), for_="alice", to_you=True)
    found = heard(answers.page(message("", seq=4, kind="handoff", handoff=handoff, data={"a": 1})))
    assert [(part.turn_to, part.text) for part in found.messages] == [("you", "do this")]
    assert found.further(4, "summary") == "done that"
    assert found.further(4, "data") == '{"a":1}'
    assert found.further(4, "text") == found.further(3, "summary") == ""


def test_what_follows_and_what_was_left_out_are_heard_with_the_calls_that_bring_them() -> None:
    following = answers.page(message("a", seq=5), unread=3, truncated=True, first_unshown=2, last_unshown=4)
    found = heard(following, room="auth-redesign")
    assert (found.more, found.more_call) == (3, {"room": "auth-redesign"})
    assert (found.left_out, found.left_out_call) == ((2, 4), {"room": "auth-redesign", "since": 1})
    assert found.rest_call is None
    looked_back = heard(answers.page(message("a", seq=5), following=2, acknowledges=False))
    assert (looked_back.more, looked_back.more_call) == (2, {"since": 5})
    whole = heard(answers.page(message("a", seq=5)))
    assert (whole.more, whole.more_call, whole.left_out, whole.left_out_call) == (0, None, None, None)


@pytest.mark.parametrize("letter", ["x", "\u202e"])
def test_a_long_text_is_heard_part_by_part_with_the_call_that_goes_on(letter: str) -> None:
    page = answers.page(message(letter * 3_000, seq=9))
    parts: list[Part] = []
    calls, offset = [], 0
    while not parts or parts[-1].end < parts[-1].whole:
        found = heard(page, page=2_000, offset=offset)
        parts += found.messages
        calls.append(found.rest_call)
        offset = parts[-1].end
    assert len(parts) > 2
    assert "".join(part.text for part in parts) == ("x" if letter == "x" else "\\u{202e}") * 3_000
    assert calls == [*({"since": 8, "offset": part.end} for part in parts[:-1]), None]
    assert {part.whole for part in parts} == {3_000}


def test_an_opened_session_is_heard_with_its_key_and_who_decides() -> None:
    found = heard(answers.opened(line="Join the Parler session A3KE7DJR.", you="codex@repo", name="auth"))
    assert (found.session_key, found.you, found.room, found.status) == ("A3KE7DJR", "codex@repo", "auth", "joined")
    assert found.asks_person
    assert not heard(answers.opened(approval=False)).asks_person
    assert found.calls == [("parler_recv", {"wait_secs": 600})]


def test_the_door_is_heard_in_each_of_its_states() -> None:
    pending = heard(answers.joined("pending"))
    assert (pending.status, pending.join_code, pending.you, pending.texts) == ("pending", "K7QM", "", [])
    assert heard(answers.joined("denied")).status == "denied"
    inside = heard(answers.joined(name="auth", you="bob", messages=[message("recap", opening=True)]))
    assert (inside.status, inside.room, inside.you, inside.texts) == ("joined", "auth", "bob", ["recap"])
    assert heard(answers.page(message("a"))).status == ""


def test_a_write_is_heard_with_where_it_went_and_whether_it_was_done_before() -> None:
    sent = heard(answers.sent(name="v1.2"))
    assert (sent.sent, sent.room, sent.is_replay) == (7, "v1.2", False)
    again = heard(answers.sent(name="v1.2", replayed=True))
    assert (again.sent, again.room, again.is_replay) == (7, "v1.2", True)
    waits = heard(answers.sent(name="v1.2", queued=True))
    assert (waits.sent, waits.is_queued, sent.is_queued) == (0, True, False)
    for replayed in (False, True):
        given = heard(t.GivenHandoff(id="m", room="r", for_="bob", replayed=replayed, name="auth"))
        assert given.said.startswith("The turn is offered to bob in ")
        assert (given.room, given.is_replay) == ("auth", replayed)


def test_lists_are_heard_line_by_line() -> None:
    rooms = heard(t.RoomList(rooms=[_room("auth", active=True), _room("shop", unread=2)], you="bob"))
    assert rooms.you == "bob"
    assert [(entry.name, entry.facts[0], "active" in entry.facts) for entry in rooms.entries] == [
        ("auth", "you own it", True),
        ("shop", "you own it", False),
    ]
    assert rooms.entry("shop") == Entry("shop", ("you own it", "2 members", "2 unread", "last 2023-11-14 22:13Z"))
    assert rooms.entry("nowhere") is None

    roster = heard(t.RosterResult(room="r", name="auth", you="bob", members=[_member("bob"), _member("ann")]))
    assert roster.room == "auth"
    assert [(entry.name, entry.is_you, "waiting" in entry.facts) for entry in roster.entries] == [
        ("bob", True, True),
        ("ann", False, True),
    ]

    reached = [t.StageReached(stage="stored", at=AT), t.StageReached(stage="acknowledged", at=AT)]
    why = heard(t.WhyResult(id="m", room="r", readers=[t.ReaderLadder(agent="U", name="ann", stages=reached)]))
    assert [(entry.name, entry.facts[0].split()[:2]) for entry in why.entries] == [("ann", ["stored", "acknowledged"])]
    assert [entry.words for entry in why.entries] == [("stored", "acknowledged")]


def test_who_knocks_and_what_was_decided_are_heard() -> None:
    found = heard(t.RequestList(room=None, requests=[answers.request("bob", host="codex")]))
    assert found.knocks == [Knock("auth-redesign", "bob", "codex", "ABCD-EFGH-IJKL")]
    decided = t.Decided(room="r", agent="U", status="approved", proof="form", name="bob", room_name="auth")
    assert heard(decided).decision == Decision(True, True, "bob", "auth")
    declined = t.Decided(room="r", agent="U", status="denied", proof="none", name="bob", room_name="auth")
    assert heard(declined).decision == Decision(False, False, "bob", "auth")
    waiting = heard(t.RoomList(rooms=[], waits=[t.Knocking(room="r", join_code="K7QM")]))
    assert (waiting.join_code, waiting.entries) == ("K7QM", [])


def test_an_error_is_heard_with_its_key_and_whether_the_call_can_be_made_again() -> None:
    lost = hear(failure(ParlerError("connection_lost"), Scribe(), "k1") + "\n")
    assert (lost.error, lost.is_retryable, lost.retry_key) == ("connection_lost", True, "k1")
    refused = hear(failure(ParlerError("no_such_room"), Scribe()))
    assert (refused.error, refused.is_retryable, refused.retry_key, refused.entries) == ("no_such_room", False, "", [])


def test_a_notice_is_heard_and_is_no_line_of_a_list() -> None:
    found = hear("Nothing new.\nMeanwhile: bob knocks at auth (your user decides: parler_approve).\n")
    assert found.news == "Meanwhile: bob knocks at auth (your user decides: parler_approve)."
    assert found.entries == []
    arrived = hear("Sent #3 to auth.\nMeanwhile 1 in auth:\n[peer 01234567 #2 bob]\nhello\n[end 01234567]\n")
    assert (arrived.sent, arrived.room, arrived.texts, arrived.news) == (3, "auth", ["hello"], "")


def _room(name: str, *, active: bool = False, unread: int = 0) -> t.RoomInfo:
    return t.RoomInfo(
        room="r",
        name=name,
        topic=PeerText("a topic: with a colon"),
        kind="session",
        home="local",
        owner="U",
        owner_name="bob",
        members=2,
        unread=unread,
        last_at=AT,
        active=active,
        state="open",
    )


def _member(name: str) -> t.RosterMember:
    return t.RosterMember(
        id="U", name=name, role="guest", host="codex", owner=False, state="member", presence="waiting", since=AT
    )
