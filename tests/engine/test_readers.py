"""What a reader was shown: acknowledged by its next call when the host had the answer, shown again when it had not."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.model import Position, RoomId
from parlerd.engine.readers import MAX_WRITTEN, AnswerId, ReaderSession, Shown

ROOM, OTHER = RoomId("r_1"), RoomId("r_2")


class Talk:
    """A surface that keeps answers: it counts what was taken back."""

    def __init__(self) -> None:
        self.shown = Shown()
        self.taken_back: list[AnswerId] = []

    def page(self, request: AnswerId, upto: int, room: RoomId = ROOM) -> None:
        """A call whose answer shows a page; it is not on its way yet."""
        showing = self.shown.begin(request, lambda: self.taken_back.append(request))
        self.shown.showed(room, Position(upto))
        showing.shows(room, self.shown.laid_out(room))

    def told(self, request: AnswerId, upto: int, room: RoomId = ROOM) -> None:
        """The same, and the host has the answer."""
        self.page(request, upto, room)
        self.shown.ended(request)
        self.shown.written(request)


def test_a_reader_acknowledges_by_saying_so_unless_its_surface_says_otherwise() -> None:
    assert ReaderSession().acknowledges == "commit"
    assert ReaderSession().shown.take() == {}


def test_the_next_call_acknowledges_what_the_answers_showed_that_the_host_has() -> None:
    talk = Talk()
    talk.told(1, 3)
    talk.told(2, 5, OTHER)
    assert (talk.shown.holds(ROOM), talk.shown.holds(OTHER)) == (3, 5)
    assert talk.shown.take() == {ROOM: 3, OTHER: 5}
    assert talk.shown.take() == {}
    assert talk.shown.holds(ROOM) is None


def test_of_two_answers_that_overlapped_the_one_that_shows_more_counts_whichever_call_began_first() -> None:
    talk = Talk()
    talk.told(1, 9)
    talk.told(2, 4)
    assert talk.shown.take() == {ROOM: 9}


def test_a_page_whose_answer_is_not_out_yet_waits_for_a_later_call() -> None:
    talk = Talk()
    talk.page(1, 3)
    assert talk.shown.take() == {}
    assert talk.shown.holds(ROOM) == 3
    talk.shown.written(1)
    assert talk.shown.take() == {ROOM: 3}


def test_an_earlier_page_is_acknowledged_while_a_later_one_of_the_same_room_is_on_its_way() -> None:
    talk = Talk()
    talk.told(1, 3)
    talk.page(2, 7)
    assert talk.shown.take() == {ROOM: 3}
    talk.shown.withdrawn(2, even_written=True)
    assert talk.shown.take() == {}


@pytest.mark.parametrize("even_written", [True, False])
def test_a_withdrawn_page_was_never_seen_and_one_that_was_written_only_where_the_host_means_that(
    *, even_written: bool
) -> None:
    talk = Talk()
    talk.page(1, 3)
    talk.shown.withdrawn(1, even_written=even_written)
    talk.told(2, 4, OTHER)
    talk.shown.withdrawn(2, even_written=even_written)
    assert talk.taken_back == ([1, 2] if even_written else [1])
    assert talk.shown.take() == ({} if even_written else {OTHER: 4})


def test_what_a_call_shows_after_its_host_withdrew_it_was_never_seen() -> None:
    talk = Talk()
    showing = talk.shown.begin(1, lambda: talk.taken_back.append(1))
    talk.shown.withdrawn(1, even_written=True)
    talk.shown.showed(ROOM, Position(3))
    showing.shows(ROOM, talk.shown.laid_out(ROOM))
    assert talk.shown.holds(ROOM) is None
    talk.shown.written(1)
    # What it says besides is taken back when it can say no more.
    assert talk.taken_back == []
    talk.shown.ended(1)
    assert talk.taken_back == [1]
    assert talk.shown.take() == {}


def test_an_answer_that_was_followed_by_a_call_is_not_withdrawn_any_more() -> None:
    talk = Talk()
    talk.told(1, 3)
    assert talk.shown.take() == {ROOM: 3}
    talk.shown.withdrawn(1, even_written=True)
    assert talk.taken_back == []


def test_a_call_that_fails_has_shown_nothing_and_says_again_what_it_said() -> None:
    talk = Talk()
    talk.page(1, 3)
    talk.shown.showed(OTHER, Position(9))
    talk.shown.failed(1)
    assert talk.taken_back == [1]
    assert talk.shown.take() == {}


def test_a_part_of_a_message_moves_nothing_and_is_taken_back_like_a_page() -> None:
    talk = Talk()
    talk.shown.begin(1, lambda: talk.taken_back.append(1)).shows(ROOM, None)
    talk.shown.withdrawn(1, even_written=True)
    assert talk.taken_back == [1]
    talk.shown.begin(2, lambda: None).shows(ROOM, None)
    talk.shown.written(2)
    assert talk.shown.take() == {}


def test_where_no_answers_are_kept_the_next_call_acknowledges_every_page() -> None:
    shown = Shown()
    shown.showed(ROOM, Position(5))
    shown.showed(ROOM, Position(3))
    assert shown.holds(ROOM) == 5
    assert shown.take() == {ROOM: 5}


def test_a_host_that_uses_an_id_again_loses_no_page_that_it_has() -> None:
    talk = Talk()
    talk.told(1, 3)
    talk.page(1, 9)
    assert talk.shown.take() == {ROOM: 3}


def test_of_very_many_written_answers_the_oldest_stand_and_none_is_lost() -> None:
    talk = Talk()
    for n in range(1, MAX_WRITTEN + 3):
        talk.told(n, n)
    for n in range(1, MAX_WRITTEN + 3):
        talk.shown.withdrawn(n, even_written=True)
    assert talk.taken_back == list(range(3, MAX_WRITTEN + 3))
    assert talk.shown.take() == {ROOM: 2}


# -- against a small model ---------------------------------------------------------------------------------


@dataclass
class Model:
    """The rule, said plainly: a page counts when its host has the answer, did not withdraw it, and calls again."""

    pages: dict[int, tuple[RoomId, int]] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)
    unseen: set[int] = field(default_factory=set)
    followed: set[int] = field(default_factory=set)

    def acknowledged_now(self) -> dict[RoomId, int]:
        ends: dict[RoomId, int] = {}
        for request in self.written - self.unseen - self.followed:
            if request in self.pages:
                room, upto = self.pages[request]
                ends[room] = max(upto, ends.get(room, 0))
        self.followed |= self.written
        return ends

    def holds(self, room: RoomId) -> int | None:
        live = set(self.pages) - self.unseen - self.followed
        return max((upto for at, upto in (self.pages[each] for each in live) if at == room), default=None)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "show", "end", "write", "withdraw", "fail", "call"]),
        st.integers(0, 3),
        st.sampled_from([ROOM, OTHER]),
        st.integers(1, 9),
    ),
    max_size=30,
)


@given(ACTS, st.booleans())
def test_whatever_happens_in_whatever_order_a_page_counts_by_the_plain_rule(
    acts: list[tuple[str, int, RoomId, int]], even_written: bool
) -> None:
    shown, model = Shown(), Model()
    taken_back: list[int] = []
    latest: dict[int, int] = {}
    showings = {}
    for number, (act, slot, room, upto) in enumerate(acts):
        if act == "call":
            assert shown.take() == model.acknowledged_now()
        elif act == "begin":
            if slot in latest and latest[slot] not in model.followed | (model.unseen - model.running):
                continue  # this host repeats no id that is under way
            latest[slot] = number
            model.running.add(number)
            showings[number] = shown.begin(slot, lambda each=number: taken_back.append(each))  # type: ignore[misc]
        elif slot in latest:
            request = latest[slot]
            if (
                act == "show"
                and request in model.running
                and request not in model.written
                and request not in model.pages
            ):
                showings[request].shows(room, Position(upto))
                model.pages[request] = (room, upto)
            elif act == "end":
                shown.ended(slot)
                model.running.discard(request)
            elif act == "write" and request not in model.running:
                shown.written(slot)
                if request not in model.unseen:
                    model.written.add(request)
            elif act == "withdraw":
                shown.withdrawn(slot, even_written=even_written)
                if request not in model.followed and (even_written or request not in model.written):
                    model.unseen.add(request)
            elif act == "fail" and request in model.running:
                shown.failed(slot)
                model.running.discard(request)
                model.unseen.add(request)
        for each in (ROOM, OTHER):
            assert shown.holds(each) == model.holds(each)
    for slot in latest:
        shown.ended(slot)
    # What an answer said besides is said again exactly for those that nobody saw.
    assert sorted(taken_back) == sorted(model.unseen)
