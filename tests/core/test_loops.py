"""How many turns begin without a person: so many an hour for all, and so many of a pair in one conversation."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.loops import HOUR_MS, MAX_CONVERSATIONS, WAKES_AN_HOUR, WAKES_OF_PAIR
from parlerd.core.model import Millis, RoomId
from tests.support.core import Agent, HomeDriver, agent

ANN, BEN, CAT = agent("ann"), agent("ben"), agent("cat")
A, B = RoomId("r_a"), RoomId("r_b")


def home() -> HomeDriver:
    driver = HomeDriver()
    for who in (ANN, BEN, CAT):
        driver.create(who)
    return driver


def pass_an_hour(driver: HomeDriver) -> None:
    driver.now += HOUR_MS


def test_two_agents_that_answer_each_other_stop_and_go_on_after_their_persons_word() -> None:
    driver, answers = home(), []
    for n in range(2 * WAKES_OF_PAIR):
        woken, author = (ANN, BEN) if n % 2 else (BEN, ANN)
        answers.append(driver.wake(woken, author).answer)
    assert answers == ["woken"] * WAKES_OF_PAIR + ["held"] * WAKES_OF_PAIR
    assert driver.let_go_on(ANN).answer == "continued"
    assert driver.wake(ANN, BEN).answer == "woken"
    assert driver.aggregate.loops.turns(A, "c1", BEN.id, ANN.id) == 1
    driver.verify()


def test_a_pair_that_stopped_keeps_nobody_else_from_waking_either_of_them_nor_the_two_elsewhere() -> None:
    driver = home()
    for _ in range(WAKES_OF_PAIR):
        driver.wake(ANN, BEN)
    assert driver.wake(ANN, BEN).answer == "held"
    assert driver.wake(BEN, ANN).answer == "held"
    assert driver.wake(ANN, CAT).answer == "woken"
    assert driver.wake(ANN, BEN, chain="c2").answer == "woken"
    assert driver.wake(ANN, BEN, room=B).answer == "woken"
    # A turn that begins for another reason as well counts for that reason alone.
    assert driver.wake(ANN, BEN, CAT).answer == "woken"
    assert driver.aggregate.loops.turns(A, "c1", ANN.id, BEN.id) == WAKES_OF_PAIR
    assert driver.aggregate.loops.turns(A, "c1", ANN.id, CAT.id) == 2
    assert driver.wake(ANN, BEN, asked=True).answer == "woken"


def test_a_room_takes_as_many_turns_of_two_as_the_person_set_and_another_room_the_default() -> None:
    driver = home()
    driver.bound(ANN, 3)
    assert [driver.wake(ANN, BEN).answer for _ in range(4)] == ["woken"] * 3 + ["held"]
    assert driver.wake(ANN, BEN, chain="c2").answer == "woken"
    assert [driver.wake(ANN, BEN, room=B).answer for _ in range(4)] == ["woken"] * 4
    driver.bound(ANN, 5)
    assert [driver.wake(BEN, ANN).answer for _ in range(3)] == ["woken", "woken", "held"]
    driver.bound(ANN, None)
    assert driver.wake(ANN, BEN).answer == "woken"
    driver.verify()


def test_where_the_person_set_none_no_message_begins_a_turn_and_who_knocks_still_does() -> None:
    driver = home()
    driver.bound(ANN, 0)
    assert driver.wake(ANN, BEN).answer == "held"
    driver.let_go_on(ANN)
    assert driver.wake(ANN, BEN).answer == "held"
    assert driver.wake(ANN, BEN, asked=True).answer == "woken"


def test_setting_what_holds_already_leaves_no_fact_and_of_a_deleted_room_the_number_is_gone() -> None:
    driver = home()
    loops = driver.aggregate.loops
    assert driver.bound(ANN, None).events == ()
    assert len(driver.bound(ANN, WAKES_OF_PAIR).events) == 1
    assert loops.is_set(A)
    assert driver.bound(ANN, WAKES_OF_PAIR).events == ()
    assert len(driver.bound(ANN, None).events) == 1
    assert (loops.is_set(A), loops.most(A)) == (False, WAKES_OF_PAIR)
    driver.bound(ANN, 3)
    driver.delete(A, ANN)
    assert (loops.is_set(A), loops.most(A)) == (False, WAKES_OF_PAIR)
    driver.verify()


def test_the_turn_of_an_agent_of_another_home_is_counted_with_the_one_that_it_causes() -> None:
    driver = home()
    woken = [driver.wake(ANN, BEN, turns=2).answer for _ in range(WAKES_OF_PAIR)]
    assert woken == ["woken"] * (WAKES_OF_PAIR // 2) + ["held"] * (WAKES_OF_PAIR // 2)


def test_of_an_hour_so_many_begin_whoever_writes_and_a_new_conversation_each_time_gains_nothing() -> None:
    driver = home()
    for n in range(WAKES_AN_HOUR):
        assert driver.wake((ANN, BEN)[n % 2], CAT, room=f"r_{n}", chain=f"c{n}").answer == "woken"
        driver.now += 1_000
    assert driver.aggregate.loops.free_in(Millis(driver.now)) == HOUR_MS - WAKES_AN_HOUR * 1_000
    assert driver.wake(ANN, CAT, chain="new").answer == "paused"
    assert driver.wake(BEN, asked=True).answer == "paused"
    driver.now += HOUR_MS - WAKES_AN_HOUR * 1_000
    assert driver.wake(ANN, CAT, chain="new").answer == "woken"
    assert driver.wake(ANN, CAT, chain="new").answer == "paused"
    driver.let_go_on(ANN)
    assert driver.wake(ANN, CAT, chain="new").answer == "woken"
    driver.verify()


def test_an_hour_is_counted_in_either_direction_of_a_clock_that_was_set_back() -> None:
    driver = home()
    for _ in range(WAKES_AN_HOUR):
        driver.wake(ANN, asked=True)
    loops = driver.aggregate.loops
    assert loops.free_in(Millis(driver.now - 1_000)) == HOUR_MS + 1_000
    assert loops.free_in(Millis(driver.now - HOUR_MS)) == 0


def test_letting_one_conversation_go_on_leaves_the_others_and_the_hour() -> None:
    driver = home()
    for chain in ("c1", "c2"):
        for _ in range(WAKES_OF_PAIR):
            driver.wake(ANN, BEN, chain=chain)
    assert driver.let_go_on(ANN, chain="c9").events == ()
    assert driver.let_go_on(ANN, chain="c1").answer == "continued"
    assert driver.wake(ANN, BEN, chain="c1").answer == "woken"
    assert driver.wake(ANN, BEN, chain="c2").answer == "held"
    assert len(driver.aggregate.state.loops.begun) == 2 * WAKES_OF_PAIR + 1


def test_where_nothing_was_counted_nothing_goes_on_and_of_a_deleted_room_nothing_is_kept() -> None:
    driver = home()
    assert driver.let_go_on(ANN).events == ()
    driver.wake(ANN, BEN)
    assert driver.let_go_on(ANN, room=B).answer == "continued"  # the hour
    assert driver.let_go_on(ANN, room=B).events == ()
    driver.delete(A, ANN)
    assert driver.aggregate.loops.rooms() == []
    driver.verify()


def test_of_a_room_the_conversations_are_kept_in_which_turns_began_last() -> None:
    driver = home()
    for n in range(MAX_CONVERSATIONS):
        driver.wake(ANN, BEN, chain=f"c{n}")
        pass_an_hour(driver)
    driver.wake(ANN, BEN, chain="c0")
    driver.wake(ANN, BEN, chain="new")
    turns = driver.aggregate.loops.turns
    assert [turns(A, chain, ANN.id, BEN.id) for chain in ("c0", "c1", "c2", "new")] == [2, 0, 1, 1]
    driver.verify()


ACTS = st.one_of(
    st.tuples(
        st.just("wake"),
        st.sampled_from([(ANN, BEN), (BEN, ANN), (ANN, CAT)]),
        st.sampled_from([A, B]),
        st.sampled_from(["c1", "c2"]),
        st.integers(1, 2),
    ),
    st.tuples(st.just("on"), st.just((ANN, ANN)), st.sampled_from([A, B]), st.sampled_from(["", "c1"]), st.just(0)),
    st.tuples(st.just("bound"), st.just((ANN, ANN)), st.sampled_from([A, B]), st.just(""), st.integers(-1, 4)),
    st.tuples(st.just("time"), st.just((ANN, ANN)), st.just(A), st.just(""), st.integers(1, 2 * HOUR_MS)),
)


@given(st.lists(ACTS, max_size=60))
def test_it_is_as_a_list_of_all_turns_says(acts: list[tuple[str, tuple[Agent, Agent], RoomId, str, int]]) -> None:
    driver = home()
    # What the person set last, where that is not the default.
    most: dict[RoomId, int] = {}
    # Every turn that began and was not let go on since: when, and of whom it is counted.
    hour: list[int] = []
    counts: Counter[tuple[RoomId, str, frozenset[Agent]]] = Counter()
    for what, (woken, author), room, chain, number in acts:
        pair = (room, chain, frozenset((woken, author)))
        if what == "time":
            driver.now += number
        elif what == "bound":
            driver.bound(ANN, None if number < 0 else number, room=room)
            most = {name: set_ for name, set_ in {**most, room: number}.items() if set_ >= 0}
        elif what == "on":
            driver.let_go_on(ANN, room=room, chain=chain)
            hour = hour if chain else []
            for key in [key for key in counts if key[0] == room and chain in ("", key[1])]:
                del counts[key]
        else:
            recent = [at for at in hour if driver.now - at < HOUR_MS]
            answer = driver.wake(woken, author, room=room, chain=chain, turns=number).answer
            if len(recent) >= WAKES_AN_HOUR:
                assert answer == "paused"
            elif counts[pair] >= most.get(room, WAKES_OF_PAIR):
                assert answer == "held"
            else:
                assert answer == "woken"
                hour.append(driver.now)
                counts[pair] += number
    for (room, chain, pair_), turns in counts.items():
        one, other = pair_
        assert driver.aggregate.loops.turns(room, chain, one.id, other.id) == turns
    driver.verify()
