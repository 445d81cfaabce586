"""How much of a room's words is kept: which go, which stay, and what the room knows of those that went."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.model import KeyId, MessageId, Millis, Position, PrincipalId, WordsOf
from parlerd.core.retention import Limit, Span, going, merged
from tests.support.core import BEN, HOUR, OWNER, RoomDriver, opened


@pytest.fixture
def talk() -> RoomDriver:
    """A room with Ben in it, whose log ends with a recap and nothing else that was said."""
    room = opened(approval=False)
    room.admit(BEN)
    return room


def erased(room: RoomDriver, count: int | None = None, *, after: int = 0) -> list[int]:
    """Where the messages stood of which the words went."""
    decision = room.prune(count, after=after)
    for event in decision.events:
        assert isinstance(event, e.BodiesErased)
        assert event.messages == len(decision.erases)
    return list(decision.erases)


def words(position: int, size: int = 10, at: int = 0) -> WordsOf:
    return WordsOf(Position(position), MessageId(f"m{position}"), Millis(at), PrincipalId("A"), size)


# -- which are too much --------------------------------------------------------------------------------------


def test_the_oldest_go_until_a_limit_holds() -> None:
    old = [words(n) for n in range(1, 6)]
    anybody = Position(99)
    for limit, count in [(Limit(messages=3), 2), (Limit(bytes=35), 2), (Limit(messages=5, bytes=50), 0)]:
        assert len(going(old, 5, 50, limit=limit, utmost=limit, read=anybody)) == count


def test_what_is_older_than_it_may_be_goes_however_little_there_is() -> None:
    old = [words(n, at=n) for n in range(1, 6)]
    limit = Limit(since=Millis(4))
    assert [each.position for each in going(old, 5, 50, limit=limit, utmost=limit, read=Position(99))] == [1, 2, 3]


def test_what_somebody_has_not_read_goes_above_the_utmost_alone() -> None:
    old = [words(n) for n in range(1, 8)]
    limit, utmost = Limit(messages=2), Limit(messages=4)
    assert len(going(old, 7, 70, limit=limit, utmost=utmost, read=Position(2))) == 3
    assert len(going(old, 7, 70, limit=limit, utmost=utmost, read=Position(4))) == 4
    assert len(going(old, 7, 70, limit=limit, utmost=utmost, read=Position(9))) == 5


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), max_size=12),
    limit=st.tuples(st.integers(0, 12), st.integers(0, 60), st.integers(0, 20)),
    read=st.integers(0, 13),
)
def test_what_goes_is_what_a_plain_list_says(
    sizes: list[tuple[int, int]], limit: tuple[int, int, int], read: int
) -> None:
    at, old = 0, []
    for number, (size, later) in enumerate(sizes, 1):
        at += later
        old.append(words(number, size, at))
    low = Limit(limit[0], limit[1], Millis(limit[2]))
    high = Limit(2 * limit[0], 2 * limit[1], Millis(limit[2] // 2))
    left = list(old)
    while left:
        bound = low if left[0].position <= read else high
        total = sum(each.size for each in left)
        if len(left) <= bound.messages and total <= bound.bytes and left[0].at >= bound.since:
            break
        del left[0]
    found = going(old, len(old), sum(each.size for each in old), limit=low, utmost=high, read=Position(read))
    assert [*found, *left] == old


# -- which stay ----------------------------------------------------------------------------------------------


def test_the_recap_of_an_open_room_stays(talk: RoomDriver) -> None:
    opening = talk.aggregate.state.opening
    talk.post(BEN)
    assert erased(talk) == [talk.log[-2].position]
    assert opening in [each.position for each in talk.words()]
    talk.run(c.CloseRoom(), OWNER)
    assert erased(talk) == [opening]


def test_what_the_room_remembers_stays_and_an_older_version_goes(talk: RoomDriver) -> None:
    talk.remember(BEN, "deploy")
    first = talk.log[-1].position
    talk.remember(BEN, "deploy")
    talk.remember(BEN)
    assert erased(talk) == [first]


def test_what_says_that_something_is_forgotten_goes(talk: RoomDriver) -> None:
    talk.remember(BEN, "deploy")
    talk.forget(BEN, "deploy")
    assert erased(talk) == [talk.log[-2].position]


def test_an_offer_that_can_be_taken_stays(talk: RoomDriver) -> None:
    offer = talk.offer(OWNER)
    at = talk.log[-1].position
    assert erased(talk) == []
    talk.answer(BEN, "accepted", offer)
    answered = talk.log[-1].position
    assert erased(talk) == [at, answered]


def test_an_offer_goes_once_it_has_expired(talk: RoomDriver) -> None:
    talk.offer(OWNER)
    at = talk.log[-1].position
    talk.now += 1000 * HOUR
    assert erased(talk) == [at]


def test_a_task_stays_until_it_is_over(talk: RoomDriver) -> None:
    task = talk.task(OWNER)
    at = talk.log[-1].position
    assert erased(talk) == []
    talk.claim(BEN, task)
    assert erased(talk) == []
    talk.say(BEN, "done", task)
    assert at in erased(talk)


def test_where_all_stay_there_is_no_fact(talk: RoomDriver) -> None:
    length = len(talk.log)
    decision = talk.prune()
    assert (decision.answer, decision.events, decision.erases) == ("needed", (), ())
    assert len(talk.log) == length


# -- what the room knows -------------------------------------------------------------------------------------


def test_the_room_counts_what_went(talk: RoomDriver) -> None:
    for _ in range(3):
        talk.post(BEN)
    sizes = [each.size for each in talk.words()]
    erased(talk, 3)
    erased(talk)
    state = talk.aggregate.state.retention
    assert (state.messages, state.bytes) == (3, sum(sizes[1:]))
    talk.verify()


def test_old_words_that_all_went_are_one_span_whatever_stands_between(talk: RoomDriver) -> None:
    talk.run(c.CloseRoom(), OWNER)
    erased(talk)
    assert talk.aggregate.state.retention.spans == [Span(Position(1), talk.aggregate.state.opening)]


def test_a_message_that_stays_is_in_no_span(talk: RoomDriver) -> None:
    for _ in range(2):
        talk.post(BEN)
        talk.mint(KeyId(f"k{talk.now}{len(talk.log)}"))
        talk.task(OWNER)
        erased(talk)
    state = talk.aggregate.state.retention
    words = {each.position for each in talk.words()}
    assert len(words) == 3
    assert not any(state.covers(position) for position in words)
    assert all(state.covers(position) for position in talk.erased)


ACTS = st.one_of(
    st.sampled_from(["post", "task", "done", "mint", "remember"]), st.tuples(st.integers(1, 4), st.booleans())
)


@settings(max_examples=200)
@given(st.lists(ACTS, max_size=25))
def test_a_room_knows_exactly_which_words_went(acts: list[str | tuple[int, bool]]) -> None:
    room = opened(approval=False)
    room.admit(BEN)
    tasks: list[MessageId] = []
    passed = 0
    for number, act in enumerate(acts):
        match act:
            case "post":
                room.post(BEN)
            case "task":
                tasks.append(room.task(OWNER))
            case "done" if tasks:
                room.claim(BEN, task := tasks.pop())
                room.say(BEN, "done", task)
            case "mint":
                room.mint(KeyId(f"key {number}"))
            case "remember":
                room.remember(BEN, "deploy")
            case (int() as count, bool() as anew):
                # As whoever looks does: behind what was looked at before, or from the beginning.
                passed = 0 if anew else passed
                old = [each.position for each in room.words() if each.position > passed][:count]
                room.prune(count, after=passed)
                passed = max(old, default=passed)
            case _:
                pass
    state = room.aggregate.state.retention
    assert {header.position for header, _ in room.posted() if state.covers(header.position)} == room.erased
    assert state.messages == len(room.erased)
    assert all(one.last + 1 < other.first for one, other in pairwise(state.spans))
    room.verify()


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 4))))
def test_merged_spans_hold_the_same_positions(given_spans: list[tuple[int, int]]) -> None:
    spans = [Span(Position(first), Position(first + more)) for first, more in given_spans]
    found = merged(spans)
    assert {n for span in found for n in range(span.first, span.last + 1)} == {
        n for span in spans for n in range(span.first, span.last + 1)
    }
    assert all(one.last + 1 < other.first for one, other in pairwise(found))
