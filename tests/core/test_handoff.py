"""Who may take, decline or withdraw the turn that was offered, when, and what a mirror makes of it."""

from __future__ import annotations

import pytest

from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.envelope import DEFAULT_OFFER_MS, root_chain
from parlerd.core.errors import Refused
from parlerd.core.handoff import KEPT, MAX_OPEN_OF_GIVER, Offer
from parlerd.core.membership import REQUESTER
from parlerd.core.model import MessageId, Millis, Position, Turn
from tests.support.core import OWNER, Agent, RoomDriver, agent, opened, refused

BEN, CAT, DAN = agent("ben"), agent("cat"), agent("dan")
TTL = 60_000


def room() -> RoomDriver:
    made = opened()
    made.admit(BEN, CAT, DAN)
    return made


def offer(at: RoomDriver, who: Agent = OWNER, taker: str = "", ttl_ms: int = TTL) -> MessageId:
    return at.offer(who, taker=taker, ttl_ms=ttl_ms)


def answer(at: RoomDriver, who: Agent, turn: Turn, to: MessageId) -> e.MessagePosted:
    return at.answer(who, turn, to)


def status(at: RoomDriver, id: MessageId) -> str:
    offers = at.aggregate.state.offers
    found = offers.get(id)
    assert found is not None
    return offers.standing(found, Millis(max(at.now, at.aggregate.last_at))).status


def takes(at: RoomDriver, who: Agent, id: MessageId) -> str:
    """The code that taking the turn is refused with, empty where it is not."""
    try:
        answer(at, who, "accepted", id)
    except Refused as error:
        return error.code
    return ""


def test_the_one_addressed_takes_the_turn_and_nobody_else_does() -> None:
    made = room()
    first = offer(made, taker="ben")
    assert (takes(made, CAT, first), takes(made, OWNER, first)) == ("handoff_not_yours", "handoff_not_yours")
    assert status(made, first) == "offered"
    said = answer(made, BEN, "accepted", first)
    assert (said.to, said.reply_to, said.turn) == ((OWNER.id,), first, "accepted")
    assert status(made, first) == "accepted"
    made.verify()


def test_anyone_but_the_giver_takes_a_turn_that_names_nobody_and_the_second_hears_who_has_it() -> None:
    made = room()
    first = offer(made)
    assert takes(made, OWNER, first) == "handoff_not_yours"
    answer(made, CAT, "accepted", first)
    with refused("handoff_taken") as caught:
        answer(made, BEN, "accepted", first)
    assert caught.value.details["agent"] == "cat"
    with refused("handoff_taken"):
        answer(made, OWNER, "withdrawn", first)


def test_a_turn_for_a_role_is_for_those_who_have_it() -> None:
    made = room()
    eve = agent("eve")
    joined = e.MemberJoined(agent=eve.id, principal=eve.by.principal, handle="eve", host="codex", role="webdev")
    made.commit(joined, eve)
    first = offer(made, taker="webdev")
    assert takes(made, BEN, first) == "handoff_not_yours"
    assert takes(made, eve, first) == ""


def test_the_one_addressed_ends_an_offer_by_declining_and_another_leaves_it_to_the_others() -> None:
    made = room()
    named, open = offer(made, taker="ben"), offer(made)
    answer(made, BEN, "declined", named)
    assert status(made, named) == "declined"
    assert takes(made, BEN, named) == "handoff_over"
    answer(made, BEN, "declined", open)
    assert status(made, open) == "offered"
    assert takes(made, CAT, open) == ""
    # Who declined before another took the turn said so once.
    before = len(made.log)
    answer(made, BEN, "declined", open)
    assert len(made.log) == before


def test_who_declined_an_open_offer_may_take_it_after_all() -> None:
    made = room()
    first = offer(made)
    answer(made, BEN, "declined", first)
    assert takes(made, BEN, first) == ""
    with refused("handoff_taken") as caught:
        answer(made, BEN, "declined", first)
    assert caught.value.details["agent"] == "ben"


def test_the_giver_alone_withdraws_an_offer_and_tells_whom_it_was_for() -> None:
    made = room()
    first = offer(made, taker="ben")
    with refused("handoff_not_yours"):
        answer(made, BEN, "withdrawn", first)
    assert answer(made, OWNER, "withdrawn", first).to == (BEN.id,)
    assert (status(made, first), takes(made, BEN, first)) == ("withdrawn", "handoff_over")


@pytest.mark.parametrize(("who", "turn"), [(BEN, "accepted"), (BEN, "declined"), (OWNER, "withdrawn")])
def test_who_says_the_same_again_is_shown_what_it_said(who: Agent, turn: Turn) -> None:
    made = room()
    first = offer(made, taker="ben")
    said = answer(made, who, turn, first)
    before = len(made.log)
    assert answer(made, who, turn, first) == said
    made.now += 10 * TTL
    assert answer(made, who, turn, first) == said
    assert len(made.log) == before


def test_an_offer_expires_by_the_time_of_the_room_and_without_a_fact() -> None:
    made = room()
    first = offer(made, taker="ben")
    facts, begun = len(made.log), made.now
    made.now = begun + TTL - 1
    assert status(made, first) == "offered"
    made.now = begun + TTL
    assert (status(made, first), takes(made, BEN, first)) == ("expired", "handoff_expired")
    with refused("handoff_expired"):
        answer(made, OWNER, "withdrawn", first)
    assert len(made.log) == facts


def test_an_expired_offer_wakes_its_giver_and_one_that_was_taken_wakes_nobody() -> None:
    made = room()
    taken, late = offer(made, taker="ben", ttl_ms=TTL), offer(made, taker="ben", ttl_ms=2 * TTL)
    begun = Millis(made.now)
    assert made.aggregate.next_deadline(begun) == begun + TTL
    answer(made, BEN, "accepted", taken)
    assert made.aggregate.next_deadline(begun) == begun + 2 * TTL
    assert made.aggregate.expire(begun, Millis(begun + 2 * TTL - 1)) == []
    assert made.aggregate.expire(begun, Millis(begun + 2 * TTL)) == [topics.concerns(OWNER.id)]
    assert status(made, late) == "offered"


def test_a_message_that_merely_replies_to_an_offer_takes_nothing() -> None:
    made = room()
    first = offer(made, taker="ben")
    made.post(BEN, reply_to=first)
    assert status(made, first) == "offered"


def test_only_an_offer_is_answered_and_only_by_who_sees_it() -> None:
    made = room()
    words = made.post(OWNER).id
    with refused("no_such_handoff"):
        answer(made, BEN, "accepted", words)
    hidden = made.offer(OWNER, taker="ben", visible_to=("ben",))
    with refused("no_such_message"):
        answer(made, CAT, "accepted", hidden)
    said = answer(made, BEN, "accepted", hidden)
    assert set(said.visibility or ()) == {OWNER.id, BEN.id}


def test_nobody_answers_in_a_room_that_is_closed_or_that_it_left() -> None:
    made = room()
    first = offer(made)
    made.leave(CAT)
    with refused("no_such_room"):
        answer(made, CAT, "accepted", first)
    made.close()
    with refused("room_closed"):
        answer(made, BEN, "accepted", first)


def test_the_turn_of_a_giver_who_left_can_still_be_taken() -> None:
    made = room()
    first = offer(made, CAT, taker="ben")
    made.leave(CAT)
    assert answer(made, BEN, "accepted", first).to == (CAT.id,)


def test_an_agent_has_so_many_offers_open_and_may_make_more_once_some_are_over() -> None:
    made = room()
    made_offers = [offer(made) for _ in range(MAX_OPEN_OF_GIVER)]
    with refused("too_many_handoffs"):
        offer(made)
    offer(made, BEN)
    answer(made, BEN, "accepted", made_offers[0])
    offer(made)
    with refused("too_many_handoffs"):
        offer(made)
    made.now += TTL
    offer(made)


def test_a_room_forgets_the_oldest_offers_that_are_over_first() -> None:
    made = room()
    open = offer(made, ttl_ms=10 * KEPT * TTL)
    first, second = offer(made, BEN), offer(made, BEN)
    for _ in range(KEPT - 2):
        made.now += TTL
        offer(made, BEN)
    offers = made.aggregate.state.offers
    assert len(list(offers)) == KEPT
    assert (offers.get(open) is not None, offers.get(first), offers.get(second) is not None) == (True, None, True)
    with refused("no_such_handoff"):
        answer(made, CAT, "accepted", first)


# -- mirrors -----------------------------------------------------------------------------------------------


def told(at: RoomDriver, who: Agent, turn: Turn, to: MessageId) -> None:
    """A fact that a home tells, whatever the rules say of it."""
    event = e.MessagePosted(
        id=MessageId(f"m_{len(at.log)}"), kind="x", chain="c", counter=99, reply_to=to, hops=1, turn=turn
    )
    at.commit(event, who)


def test_a_mirror_shows_no_answer_that_breaks_the_rules_whatever_its_home_says() -> None:
    made = room()
    first = offer(made, taker="ben")
    told(made, CAT, "accepted", first)
    told(made, BEN, "withdrawn", first)
    told(made, CAT, "accepted", MessageId("m_unknown"))
    assert status(made, first) == "offered"
    told(made, BEN, "accepted", first)
    told(made, OWNER, "withdrawn", first)
    assert status(made, first) == "accepted"
    made.verify()


def test_what_a_home_lost_does_not_count_and_can_be_said_again() -> None:
    made = room()
    first = offer(made, taker="ben")
    answer(made, BEN, "accepted", first)
    made.go_back(OWNER, BEN)
    assert status(made, first) == "offered"
    assert made.aggregate.next_deadline(Millis(made.now)) == made.now + TTL
    answer(made, BEN, "declined", first)
    assert status(made, first) == "declined"

    lost = offer(made, taker="ben")
    made.go_back(OWNER, BEN)
    assert made.aggregate.state.offers.get(lost) is None
    with refused("no_such_handoff"):
        answer(made, BEN, "accepted", lost)
    made.verify()


def test_an_offer_from_before_answers_were_known_is_a_message_that_nobody_answers() -> None:
    made = room()
    made.commit(e.MessagePosted(id=MessageId("m_old"), kind="handoff", to=(BEN.id,), chain="c", counter=1), OWNER)
    with refused("no_such_handoff"):
        answer(made, BEN, "accepted", MessageId("m_old"))


def test_an_offer_says_when_it_expires_and_whom_an_answer_is_for() -> None:
    made = room()
    id = offer(made, taker="ben", ttl_ms=DEFAULT_OFFER_MS)
    found = made.aggregate.state.offers.get(id)
    assert isinstance(found, Offer)
    assert found.expires_at == made.now + DEFAULT_OFFER_MS
    assert (found.concerned(BEN.id), found.concerned(OWNER.id)) == ((OWNER.id,), (BEN.id,))
    assert found.position == Position(len(made.log))


# -- a turn that is given on -------------------------------------------------------------------------------


def goes_on(at: RoomDriver, id: MessageId) -> tuple[MessageId | None, str, int]:
    """What an offer replies to, and where in which conversation it stands."""
    event = next(event for _, event in at.posted() if event.id == id)
    return event.reply_to, event.chain, event.hops


def begins(id: MessageId) -> tuple[MessageId | None, str, int]:
    return None, root_chain(id), 0


def test_a_turn_that_goes_to_and_fro_stays_in_one_conversation_with_one_hop_more_each_time() -> None:
    made = room()
    first = last = offer(made, taker="ben")
    assert goes_on(made, first) == begins(first)
    for hop in range(1, 6):
        taker, other = (BEN, OWNER) if hop % 2 else (OWNER, BEN)
        answer(made, taker, "accepted", last)
        made.post(taker)
        given = offer(made, taker, taker=other.name)
        assert goes_on(made, given) == (last, root_chain(first), hop)
        last = given
    made.verify()


def test_who_gave_its_turn_on_begins_a_conversation_once_another_took_it() -> None:
    made = room()
    first = offer(made, taker="ben")
    answer(made, BEN, "accepted", first)
    second = offer(made, BEN, taker="cat")
    # Until another takes the turn it is Ben's, whatever becomes of the offer.
    answer(made, CAT, "declined", second)
    third = offer(made, BEN, taker="cat")
    answer(made, BEN, "withdrawn", third)
    fourth = offer(made, BEN, taker="cat", ttl_ms=TTL)
    made.now += TTL
    fifth = offer(made, BEN, taker="cat")
    assert [goes_on(made, each)[0] for each in (second, third, fourth, fifth)] == [first] * 4
    answer(made, CAT, "accepted", fifth)
    anew = offer(made, BEN, taker="dan")
    assert goes_on(made, anew) == begins(anew)
    assert goes_on(made, offer(made, CAT, taker="ben")) == (fifth, root_chain(first), 2)


def test_of_several_turns_the_one_that_was_taken_last_is_given_on_first_and_none_is_forgotten() -> None:
    made = room()
    one, two = offer(made, taker="ben"), offer(made, CAT, taker="ben")
    answer(made, BEN, "accepted", two)
    answer(made, BEN, "accepted", one)
    given = []
    for _ in range(2):
        given.append(offer(made, BEN, taker="dan"))
        answer(made, DAN, "accepted", given[-1])
    assert [goes_on(made, each)[0] for each in given] == [one, two]
    anew = offer(made, BEN, taker="dan")
    assert goes_on(made, anew) == begins(anew)


def test_an_offer_that_replies_to_a_message_goes_on_there() -> None:
    made = room()
    first = offer(made, taker="ben")
    answer(made, BEN, "accepted", first)
    said = made.post(CAT)
    replied = made.offer(BEN, taker="cat", reply_to=said.id)
    assert goes_on(made, replied) == (said.id, said.chain, 1)
    # The turn is given on by a reply to its own offer alone.
    answer(made, CAT, "accepted", replied)
    assert goes_on(made, offer(made, BEN, taker="dan"))[0] == first


def test_a_turn_that_was_offered_in_private_is_given_on_to_everybody() -> None:
    made = room()
    first = offer(made, taker="ben")
    answer(made, BEN, "accepted", first)
    private = made.offer(OWNER, taker="cat", visible_to=(CAT.id,))
    answer(made, CAT, "accepted", private)
    given = offer(made, CAT, taker="dan")
    assert goes_on(made, given) == begins(given)
    hidden = made.offer(BEN, taker="cat", visible_to=(CAT.id,))
    assert goes_on(made, hidden) == (first, root_chain(first), 1)


def test_a_worker_gives_on_what_somebody_offered_who_only_asks_for_work() -> None:
    made = opened(kind="service", approval=False)
    made.knock(BEN, role=REQUESTER)
    made.knock(CAT)
    first = made.offer(BEN)
    answer(made, OWNER, "accepted", first)
    given = offer(made, OWNER, taker="cat")
    assert goes_on(made, given) == begins(given)


def test_a_turn_whose_taking_the_home_lost_is_held_by_nobody() -> None:
    made = room()
    first = offer(made, taker="ben")
    answer(made, BEN, "accepted", first)
    offers = made.aggregate.state.offers
    held = offers.held_by(BEN.id)
    assert held is not None
    assert (held.id, offers.held_by(OWNER.id)) == (first, None)
    made.go_back(OWNER, BEN)
    assert offers.held_by(BEN.id) is None
    given = offer(made, BEN, taker="cat")
    assert goes_on(made, given) == begins(given)
