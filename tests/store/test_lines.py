"""Own lines from facts. What stores keep of them is in `tests/contract/test_store.py`."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.events import encode_header
from parlerd.core.model import AgentId, Millis, Position
from parlerd.core.receipts import next_line
from parlerd.store.lines import Ends, LineRow, Stored, first_broken, lined, receipted
from parlerd.store.peeking import event_in
from parlerd.store.port import Append, NewFact
from parlerd.store.staging import EMPTY, SALT_LENGTH, Staged, stage
from tests.support.facts import ANN, BEN, ROOM, append, message

AUTHORS = st.lists(st.tuples(st.sampled_from([ANN, BEN]), st.booleans()), min_size=1, max_size=12)


def _staged(authors: list[tuple[AgentId, bool]]) -> Staged:
    facts = [
        message(number, author, visible_to=(ANN, BEN) if hidden else None)
        for number, (author, hidden) in enumerate(authors, 1)
    ]
    return stage(append(*facts, own_lines=True), EMPTY, bytes(SALT_LENGTH * len(facts)))


def _broken(whole: Staged, rows: list[LineRow]) -> Position | None:
    placed = {row.position: row for row in rows}
    facts = whole.facts
    return first_broken(
        ROOM, (Stored(each.position, each.header, each.digest, placed.get(each.position)) for each in facts)
    )


@given(AUTHORS, st.data())
def test_lines_do_not_depend_on_how_facts_come(authors: list[tuple[AgentId, bool]], data: st.DataObject) -> None:
    whole = _staged(authors)
    rows, names = lined(whole, {}, lambda thread: None)
    assert [row.position for row in rows] == list(range(1, len(authors) + 1)) == [place for _, place in names]
    cut = data.draw(st.integers(0, len(authors)))
    ends: Ends = {}
    parts = [
        Staged(whole.room, whole.headers[at], whole.facts[at], [], whole.head, True, whole.wall)
        for at in (slice(0, cut), slice(cut, None))
    ]
    first, _ = lined(parts[0], ends, lambda thread: None)
    # The second part goes on from what was read, and not from what is at hand.
    second, _ = lined(parts[1], {}, ends.get)
    assert first + second == rows
    assert _broken(whole, rows) is None


@given(AUTHORS, st.data())
def test_a_row_that_was_changed_is_found(authors: list[tuple[AgentId, bool]], data: st.DataObject) -> None:
    whole = _staged(authors)
    rows, _ = lined(whole, {}, lambda thread: None)
    place = data.draw(st.integers(0, len(rows) - 1))
    row = rows[place]
    wrong = data.draw(
        st.sampled_from(
            [
                row._replace(line=next_line(row.line, b"x")),
                row._replace(number=99),
                # Whoever moves a fact into another line can compute that one as well.
                row._replace(thread=bytes(32), number=1, line=next_line(bytes(32), whole.facts[place].digest)),
            ]
        )
    )
    assert _broken(whole, [*rows[:place], wrong, *rows[place + 1 :]]) == row.position


@given(AUTHORS, st.data())
def test_a_row_that_is_not_there_is_found(authors: list[tuple[AgentId, bool]], data: st.DataObject) -> None:
    whole = _staged(authors)
    rows, _ = lined(whole, {}, lambda thread: None)
    place = data.draw(st.integers(0, len(rows) - 1))
    # Before the first row nobody knows whether own lines were kept; a line that begins later says it.
    at = _broken(whole, rows[:place] + rows[place + 1 :])
    assert at == rows[place].position if place else at is None or at > 1


def test_a_fact_of_a_newer_parler_goes_on_from_the_line_that_it_is_in() -> None:
    whole = _staged([(ANN, False), (ANN, False), (ANN, False)])
    rows, _ = lined(whole, {}, lambda thread: None)
    newer = whole.facts[1]._replace(header=whole.facts[1].header.replace(b"message_posted", b"message_p05ted"))
    changed = replace(whole, facts=[whole.facts[0], newer, whole.facts[2]])
    assert _broken(changed, rows) is None
    assert _broken(changed, [rows[0], rows[1]._replace(number=7), rows[2]]) == 2


def test_an_append_that_wants_no_lines_gets_none() -> None:
    facts = [message(1)]
    part = stage(append(*facts), EMPTY, bytes(SALT_LENGTH))
    ends: Ends = {}
    assert (lined(part, ends, lambda thread: None), ends) == (([], {}), {})


def test_a_fact_in_its_own_line_has_the_line_before() -> None:
    header = encode_header(message(1).header)
    thread = bytes(32)
    digest = bytes(32)
    first = receipted(header, bytes(16), digest, None, (thread, 1), None)
    later = receipted(header, bytes(16), digest, None, (thread, 2), b"b" * 32)
    none = receipted(header, bytes(16), digest, None, None, None)
    assert first.numbered is not None
    assert later.numbered is not None
    assert (first.numbered.before, later.numbered.before, none.numbered) == (thread, b"b" * 32, None)
    # The digest is another's, so somebody changed the file.
    assert not first.unaltered
    assert event_in(header) == first.event


def test_a_row_says_by_which_token_its_fact_came() -> None:
    def by(session: str, authority: str = "member") -> NewFact:
        fact = message(1)
        said = msgspec.structs.replace(fact.header.by, session=session, via="http")
        return msgspec.structs.replace(
            fact, header=msgspec.structs.replace(fact.header, by=said, authority=authority, position=Position(1))
        )

    def row(fact: NewFact) -> LineRow:
        ((row,), _) = lined(
            stage(Append(ROOM, Position(0), [fact], True, Millis(7)), EMPTY, bytes(16)), {}, lambda thread: None
        )
        return row

    for fact, said in (
        (by("tk_1"), ("tk_1", ANN, 7)),
        (by("s_1"), ("", "", 0)),
        # What follows by itself from what was done comes by none.
        (by("tk_1", "home"), ("", "", 0)),
    ):
        whole = stage(Append(ROOM, Position(0), [fact], True, Millis(7)), EMPTY, bytes(16))
        assert row(fact)[4:] == said
        assert _broken(whole, [row(fact)]) is None
        for wrong in (("tk_2", ANN), ("tk_1", BEN), ("", "")):
            changed = row(fact)._replace(token=wrong[0], agent=wrong[1])
            assert _broken(whole, [changed]) == (None if wrong == said[:2] else 1)
        # A row of a time before that was noted says nothing.
        assert _broken(whole, [row(fact)._replace(token=None, agent=None, wall=None)]) is None


def test_a_header_that_is_none_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        event_in(b"\xff")
    with pytest.raises((Refused, msgspec.DecodeError, Exception)):
        receipted(b"\x80", bytes(16), bytes(32), None, None, None)
