"""Old messages that another home told, judged: an honest home's have the reader's numbers, and a lie shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from parlerd.core import events as e
from parlerd.core.envelope import UNSIGNED, TextPart, decode_envelope
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, Seq
from parlerd.core.room import Room
from parlerd.operations import types as t
from parlerd.uplink.history import Contradicted, Judged, judge
from tests.support.honest_home import ANN, BEN, CAT, HonestHome, Party
from tests.support.openers import NoOpener
from tests.support.told import Daemon


class Past:
    """A room in which ann, ben and cat spoke before the mirror of cat's home began, and that mirror."""

    def __init__(self) -> None:
        self.home = HonestHome()
        self.home.join(BEN)
        self.home.join(CAT)
        self.said = [
            self.home.post(ANN, "the recap"),
            self.home.post(BEN, "one"),
            self.home.post(ANN, "for ben", [BEN]),
            self.home.post(ANN, "for cat", [CAT]),
            self.home.post(BEN, "two"),
            self.home.post(ANN, "for cat again", [CAT]),
            self.home.post(BEN, "three", back=2),
        ]
        self.begins = len(self.home.log)
        self.home.post(ANN, "the first that the mirror holds")
        items = self.home.items([CAT], self.begins, jumped=True)
        self.daemon = Daemon(self.home, (CAT,)).hear(items)
        assert not self.daemon.contradicted

    @property
    def mirror(self) -> Room:
        return self.daemon.room

    def page(self, after: int = 0, limit: int = 100, reader: Party = CAT) -> t.LinkPage:
        """What an honest home answers to `link.pull`."""
        seen = [said for said in self.said if said.visibility is None or reader.agent in said.visibility]
        told = seen[after : after + limit]
        first = self.said.index(told[0])
        public = sum(1 for said in self.said[:first] if said.visibility is None)
        return t.LinkPage(
            public=public,
            line=self.home.line[public],
            before={reader.agent: after},
            jumped=True,
            messages=[said.message for said in told],
        )

    def judge(
        self, page: t.LinkPage, after: int = 0, reader: Party = CAT, known: Mapping[int, bytes] | None = None
    ) -> Judged:
        lines = self.daemon.lines if known is None else known
        return judge(page, self.mirror.state, AgentId(reader.agent), Seq(after), lines, NoOpener(), {})


def words(judged: Judged) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for stored in judged.earlier.messages:
        assert stored.body is not None
        [part] = decode_envelope(stored.body).parts
        assert isinstance(part, TextPart)
        found.append((stored.seq, part.text))
    return found


def test_an_honest_page_is_shown_with_the_readers_own_numbers_and_as_its_authors_words() -> None:
    past = Past()
    judged = past.judge(past.page())
    assert words(judged) == [
        (1, "the recap"), (2, "one"), (3, "for cat"), (4, "two"), (5, "for cat again"), (6, "three"),
    ]  # fmt: skip
    assert judged.earlier.upto == 6
    assert judged.end == (4, past.home.line[4])
    events = [stored.header.event for stored in judged.earlier.messages]
    assert all(isinstance(event, e.MessagePosted) and event.verified == "valid" for event in events)
    assert [stored.header.by.actor for stored in judged.earlier.messages][:3] == [ANN.agent, BEN.agent, ANN.agent]
    assert [stored.unaltered for stored in judged.earlier.messages] == [True] * 6


@pytest.mark.parametrize(("after", "limit"), [(0, 1), (1, 2), (2, 1), (2, 4), (4, 2), (5, 1)])
def test_an_honest_page_may_begin_and_end_anywhere(after: int, limit: int) -> None:
    past = Past()
    judged = past.judge(past.page(after, limit), after)
    assert [number for number, _ in words(judged)] == list(range(after + 1, after + limit + 1))
    assert judged.earlier.upto == after + limit


def test_erased_words_take_a_number_and_nothing_else() -> None:
    past = Past()
    # Its author spoke before it and after it, and what follows names it.
    past.home.erase(past.said[4])
    judged = past.judge(past.page())
    assert [number for number, _ in words(judged)] == [1, 2, 3, 5, 6]
    assert judged.earlier.upto == 6


def test_a_message_of_a_version_that_is_not_checked_here_is_neither_shown_nor_a_lie() -> None:
    past = Past()
    judged = past.judge(_replaced(past.page(), 4, _signed(past, ANN, [CAT], v=9)))
    assert [number for number, _ in words(judged)] == [1, 2, 3, 4, 6]
    assert judged.earlier.upto == 6


def test_what_a_home_says_of_an_invocation_is_shown_as_unsigned_and_is_in_no_thread() -> None:
    past = Past()
    past.home = HonestHome()
    past.home.join(BEN)
    past.home.join(CAT)
    past.said = [past.home.post(ANN, "the recap"), past.home.tell(ANN, "craft"), past.home.post(ANN, "one")]
    past.daemon = Daemon(past.home, (CAT,)).hear(past.home.items([CAT], len(past.home.log), jumped=True))
    judged = past.judge(past.page())
    events = [stored.header.event for stored in judged.earlier.messages]
    assert [event.verified for event in events if isinstance(event, e.MessagePosted)] == ["valid", "unsigned", "valid"]


def test_words_of_somebody_whom_nothing_proves_to_have_been_a_member_are_not_shown() -> None:
    past = Past()
    past.mirror.state.membership.members.pop(BEN.agent)
    judged = past.judge(past.page())
    assert [text for _, text in words(judged)] == ["the recap", "for cat", "for cat again"]
    assert judged.earlier.upto == 6


def test_a_page_that_answers_something_else_than_was_asked_is_refused() -> None:
    past = Past()
    with pytest.raises(Refused, match="relay_refused"):
        past.judge(past.page(1), 2)
    with pytest.raises(Refused, match="relay_refused"):
        past.judge(replace(past.page(), before={}))


def test_a_page_that_does_not_come_to_the_line_where_the_mirror_begins_is_a_contradiction() -> None:
    past = Past()
    shown_nothing = [past.home.post(party, "x", back=100) for party in (ANN, BEN, CAT)]
    end = len(past.home.line) - 1
    pinned = {end: past.home.line[end]}
    told = replace(
        past.page(), public=end - 3, line=past.home.line[end - 3], messages=[said.message for said in shown_nothing]
    )
    assert len(words(past.judge(told, known=pinned))) == 3
    # One is dropped, and the page is told as if it began one later, by a line that nobody here knows.
    kept = replace(told, public=end - 2, line=bytes(32), messages=told.messages[1:])
    assert len(words(past.judge(kept, known={}))) == 2
    with pytest.raises(Contradicted, match="line"):
        past.judge(kept, known=pinned)


def test_a_page_goes_on_by_the_line_where_the_one_before_it_ended() -> None:
    past = Past()
    first = past.judge(past.page(0, 2))
    known = {first.end.number: first.end.line}
    assert words(past.judge(past.page(2), 2, known=known))
    with pytest.raises(Contradicted, match="line"):
        past.judge(replace(past.page(2), line=bytes(32)), 2, known=known)


def _replaced(page: t.LinkPage, index: int, message: t.LinkMessage) -> t.LinkPage:
    return replace(page, messages=[*page.messages[:index], message, *page.messages[index + 1 :]])


def _signed(past: Past, party: Party, visibility: Sequence[Party] | None = None, **over: object) -> t.LinkMessage:
    """A message that its author did sign, and that an honest home had not admitted where the liar puts it."""
    body = past.home.envelope(party, "x", visibility, **{"shown": 0, "line": past.home.line[0], **over})  # type: ignore[arg-type]
    return t.LinkMessage(
        at=1, agent=party.agent, principal=party.principal, body=body, signature=party.key.sign("parler/message", body)
    )


def _again(past: Past) -> t.LinkMessage:
    """Another message of the same id, behind the first in its author's thread."""
    first = decode_envelope(past.said[3].message.body)
    return _signed(past, ANN, [CAT], id=first.id, chain=first.chain, previous=past.said[3].digest)


LIES: dict[str, Callable[[Past], t.LinkPage]] = {
    "signature": lambda past: _replaced(past.page(), 2, replace(past.said[3].message, signature=bytes(64))),
    "form": lambda past: _replaced(past.page(), 2, replace(past.said[3].message, body=b"\xc1")),
    "room": lambda past: _replaced(past.page(), 2, _signed(past, ANN, [CAT], room=HonestHome(owner=BEN).room)),
    "thread": lambda past: _replaced(past.page(), 4, _signed(past, ANN, [CAT], previous=bytes(32))),
    "id": lambda past: _replaced(past.page(), 4, _again(past)),
    "shown": lambda past: _replaced(past.page(), 2, _signed(past, ANN, [CAT], shown=4, line=past.home.line[4])),
    "fork": lambda past: _replaced(past.page(), 2, _signed(past, ANN, [CAT], shown=1, line=bytes(32))),
    "reader": lambda past: _replaced(past.page(), 2, past.said[2].message),
    "line": lambda past: replace(past.page(), line=bytes(32)),
    "unsigned": lambda past: _replaced(
        past.page(), 2, replace(_signed(past, ANN, [CAT], v=UNSIGNED, counter=0), signature=b"")
    ),
}


@pytest.mark.parametrize("what", sorted(LIES))
def test_a_lie_about_the_past_is_found_out(what: str) -> None:
    past = Past()
    with pytest.raises(Contradicted) as caught:
        past.judge(LIES[what](past))
    assert caught.value.what == what


# -- agents that have no key -------------------------------------------------------------------------------


class TokenPast(Past):
    """The same, and an agent that has only a token spoke among them."""

    def __init__(self, **grant: Any) -> None:
        self.home = HonestHome()
        self.home.join(CAT)
        ci = self.home.grant("ci", **grant)
        self.said = [self.home.post(ANN, "the recap"), self.home.post(ci, "built"), self.home.post(ANN, "thanks")]
        self.begins = len(self.home.log)
        self.home.post(ANN, "the first that the mirror holds")
        self.daemon = Daemon(self.home, (CAT,)).hear(self.home.items([CAT], self.begins, jumped=True))
        assert not self.daemon.contradicted


def test_what_a_relay_said_for_an_agent_is_shown_later_as_its_word_too() -> None:
    past = TokenPast()
    judged = past.judge(past.page())
    events = [stored.header.event for stored in judged.earlier.messages]
    assert [event.verified for event in events if isinstance(event, e.MessagePosted)] == ["valid", "home", "valid"]


@pytest.mark.parametrize(
    ("grant", "change", "what"),
    [
        ({}, {"signature": bytes(64)}, "signature"),
        ({}, {"at": 2**52}, "grant"),
        ({"scopes": ("read",)}, {}, "grant"),
        ({"count": 0, "names": ("cd",)}, {}, ""),
    ],
)
def test_a_relay_that_spoke_beyond_a_grant_is_found_out_later_too(
    grant: dict[str, object], change: dict[str, object], what: str
) -> None:
    past = TokenPast(**grant)
    page = past.page()
    page.messages[1] = replace(page.messages[1], **change)
    if not what:
        # Nothing shows that it was ever let in, so there is nothing of it to be shown.
        assert [text for _, text in words(past.judge(page))] == ["the recap", "thanks"]
        return
    with pytest.raises(Contradicted, match=what):
        past.judge(page)
