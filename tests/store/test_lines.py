"""Own lines from facts. What stores keep of them is in `tests/contract/test_store.py`."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.events import encode_header
from parlerd.core.model import AgentId, Position
from parlerd.core.receipts import next_line
from parlerd.store.lines import Ends, LineRow, event_in, first_broken, lined, receipted
from parlerd.store.staging import EMPTY, SALT_LENGTH, Staged, stage
from tests.support.facts import ANN, BEN, append, message

AUTHORS = st.lists(st.tuples(st.sampled_from([ANN, BEN]), st.booleans()), min_size=1, max_size=12)


def _staged(authors: list[tuple[AgentId, bool]]) -> Staged:
    facts = [
        message(number, author, visible_to=(ANN, BEN) if hidden else None)
        for number, (author, hidden) in enumerate(authors, 1)
    ]
    return stage(append(*facts, own_lines=True), EMPTY, bytes(SALT_LENGTH * len(facts)))


@given(AUTHORS, st.data())
def test_lines_do_not_depend_on_how_facts_come(authors: list[tuple[AgentId, bool]], data: st.DataObject) -> None:
    whole = _staged(authors)
    rows, names = lined(whole, {}, lambda thread: None)
    assert [row.position for row in rows] == list(range(1, len(authors) + 1)) == [place for _, place in names]
    cut = data.draw(st.integers(0, len(authors)))
    ends: Ends = {}
    parts = [
        Staged(whole.room, whole.headers[at], whole.facts[at], [], whole.head, True)
        for at in (slice(0, cut), slice(cut, None))
    ]
    first, _ = lined(parts[0], ends, lambda thread: None)
    # The second part goes on from what was read, and not from what is at hand.
    second, _ = lined(parts[1], {}, ends.get)
    assert first + second == rows
    digests = {fact.position: fact.digest for fact in whole.facts}
    assert first_broken((row, digests[row.position]) for row in rows) is None


@given(AUTHORS, st.data())
def test_a_row_that_was_changed_is_found(authors: list[tuple[AgentId, bool]], data: st.DataObject) -> None:
    whole = _staged(authors)
    rows, _ = lined(whole, {}, lambda thread: None)
    digests = {fact.position: fact.digest for fact in whole.facts}
    place = data.draw(st.integers(0, len(rows) - 1))
    row = rows[place]
    changed = row._replace(line=next_line(row.line, b"x")) if data.draw(st.booleans()) else row._replace(number=99)
    wrong = [*rows[:place], changed, *rows[place + 1 :]]
    assert first_broken((each, digests[each.position]) for each in wrong) == row.position
    without = [(each, None if each is row else digests[each.position]) for each in rows]
    assert first_broken(without) == row.position


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
    assert LineRow(Position(1), thread, 1, digest).thread == thread


def test_a_header_that_is_none_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        event_in(b"\xff")
    with pytest.raises((Refused, msgspec.DecodeError, Exception)):
        receipted(b"\x80", bytes(16), bytes(32), None, None, None)
