"""Who may ever see a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.model import AgentId, View
from parlerd.core.visibility import audience, can_see
from tests.support.core import refused

ANN, BEN, CAT, DAN = (AgentId(name) for name in ("U1", "U2", "U3", "U4"))
IDS = st.lists(st.sampled_from([ANN, BEN, CAT, DAN]), max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("position", "seen"), [(1, False), (2, True), (3, False), (5, False), (6, True), (7, True), (8, False), (99, True)]
)
def test_a_public_message_is_seen_inside_a_span_its_end_included(position: int, seen: bool) -> None:
    view = View(reader=ANN, spans=((1, 2), (5, 7), (10, None)))
    assert can_see(view, position=position, visibility=None) is seen


@given(st.integers(1, 50), IDS, st.lists(st.tuples(st.integers(0, 50), st.none() | st.integers(0, 50)), max_size=3))
def test_a_private_message_is_seen_by_those_it_names_wherever_it_stands(
    position: int, named: tuple[AgentId, ...], spans: list[tuple[int, int | None]]
) -> None:
    view = View(reader=ANN, spans=tuple(spans))
    assert can_see(view, position=position, visibility=named) is (ANN in named)


def test_a_reader_without_spans_sees_nothing_public() -> None:
    assert not can_see(View(reader=ANN, spans=()), position=1, visibility=None)


def test_a_message_is_for_the_room_unless_it_names_readers() -> None:
    assert audience(ANN, None, None) is None


def test_the_author_always_reads_what_it_wrote() -> None:
    assert audience(ANN, (), None) == (ANN,)
    assert audience(CAT, (BEN,), None) == (BEN, CAT)


@given(st.permutations([ANN, BEN, CAT]))
def test_readers_are_listed_in_one_order_however_they_were_named(asked: list[AgentId]) -> None:
    assert audience(ANN, (*asked, asked[0]), None) == (ANN, BEN, CAT)


def test_a_reply_to_a_private_message_stays_with_its_readers() -> None:
    assert audience(ANN, None, (ANN, BEN)) == (ANN, BEN)
    assert audience(ANN, (), (ANN, BEN, CAT)) == (ANN,)
    assert audience(ANN, (CAT,), (ANN, BEN, CAT)) == (ANN, CAT)


def test_a_reply_to_a_private_message_may_not_name_anyone_else() -> None:
    with refused("invalid_param") as caught:
        audience(ANN, (BEN, DAN), (ANN, BEN))
    assert caught.value.details == {"param": "visible_to"}


@given(st.sampled_from([ANN, BEN, CAT, DAN]), st.none() | IDS, IDS)
def test_no_reply_is_ever_seen_by_more_than_what_it_replies_to(
    author: AgentId, asked: tuple[AgentId, ...] | None, others: tuple[AgentId, ...]
) -> None:
    replied = tuple(sorted({author, *others}))
    if asked is not None and not set(asked) <= set(replied):
        with refused("invalid_param"):
            audience(author, asked, replied)
        return
    readers = audience(author, asked, replied)
    assert readers is not None
    assert author in readers
    assert set(readers) <= set(replied)
