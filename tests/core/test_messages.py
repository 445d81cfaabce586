"""Who may say what to whom, and what a retry hears."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import messages
from parlerd.core.envelope import root_chain
from parlerd.core.messages import Thread, thread_of
from parlerd.core.model import AgentId, History, MessageId
from tests.support.core import (
    BEN,
    CAT,
    DAN,
    EVE,
    OWNER,
    STRANGER,
    RoomDriver,
    agent,
    opened,
    refused,
)

HISTORIES: tuple[History, ...] = ("full", "from-join", "none")


# -- posting -----------------------------------------------------------------------------------------------


@pytest.fixture
def talk() -> RoomDriver:
    """A room with Ben, Cat and Dan in it."""
    room = opened(approval=False)
    room.admit(BEN, CAT, DAN)
    return room


def test_only_members_post(talk: RoomDriver) -> None:
    assert talk.post(BEN).counter == 1
    assert talk.log[-1].authority == "member"
    talk.post(OWNER)
    assert talk.log[-1].authority == "owner"
    for who in (EVE, STRANGER):
        with refused("no_such_room"):
            talk.post(who)


def test_an_author_counts_its_own_messages_and_chains_them(talk: RoomDriver) -> None:
    assert [talk.post(who).counter for who in (BEN, CAT, BEN, BEN, OWNER)] == [1, 1, 2, 3, 2]
    last = talk.posted()[-2]
    assert thread_of(talk.aggregate.state.messages, BEN.id, None) == Thread(3, last[1].envelope)
    assert thread_of(talk.aggregate.state.messages, DAN.id, None) == Thread(0, b"")


def test_an_author_has_a_thread_for_each_set_of_readers_so_that_none_tells_of_a_hidden_message(
    talk: RoomDriver,
) -> None:
    talk.post(BEN)
    secret = talk.post(BEN, visible_to=("cat", "dan"))
    assert secret.counter == 1
    assert talk.run(c.PostMessage(kind="note"), BEN).previous == talk.posted()[-3][1].envelope
    again = talk.run(c.PostMessage(kind="note", visibility=("dan", "ben", "cat")), BEN)
    assert again.previous == talk.log[-3].event.envelope  # type: ignore[union-attr]
    assert talk.posted()[-1][1].counter == 2
    assert talk.post(BEN, visible_to=("cat",)).counter == 1
    assert talk.post(CAT, visible_to=("ben", "dan")).counter == 1
    assert talk.post(BEN).counter == 3


def test_a_log_of_envelopes_of_version_1_is_in_no_thread_and_the_first_of_version_2_begins_one(
    talk: RoomDriver,
) -> None:
    old = e.MessagePosted(id=MessageId("m_old"), kind="note", chain="c_old", counter=7, envelope_v=1)
    talk.commit(old, BEN)
    assert talk.aggregate.state.messages.last_message_at == talk.log[-1].at
    new = talk.run(c.PostMessage(kind="note"), BEN)
    assert (new.previous, talk.posted()[-1][1].counter) == (b"", 1)


def test_the_public_line_covers_every_public_message_in_order_and_no_private_one(talk: RoomDriver) -> None:
    line = hashlib.sha256(f"{talk.aggregate.state.room}{OWNER.principal}".encode()).digest()
    assert opened(recap=False).aggregate.state.shown == (0, line)
    talk.post(BEN, visible_to=("cat",))
    old = e.MessagePosted(id=MessageId("m_old"), kind="note", chain="c_old", counter=7, envelope_v=1)
    talk.commit(old, BEN)
    talk.post(DAN)
    public = [event for _, event in talk.posted() if event.visibility is None]
    for event in public:
        line = hashlib.sha256(line + event.envelope).digest()
    assert talk.aggregate.state.shown == (len(public), line)


def test_addresses_become_ids_once_each(talk: RoomDriver) -> None:
    assert talk.post(OWNER, to=("ben", BEN.id, "cat", "ben")).to == (BEN.id, CAT.id)
    for gone in ("nobody", EVE.id):
        with refused("no_such_agent"):
            talk.post(OWNER, to=("ben", gone))
    talk.leave(CAT)
    with refused("no_such_agent"):
        talk.post(OWNER, visible_to=("cat",))


def test_an_address_hides_nothing(talk: RoomDriver) -> None:
    message = talk.post(OWNER, to=("ben",))
    assert message.visibility is None
    assert message.id in talk.seen_by(DAN)


def test_a_private_message_leaves_no_trace_for_the_others_the_owner_among_them(talk: RoomDriver) -> None:
    before = {who: talk.seen_by(who) for who in (OWNER, BEN, CAT, DAN)}
    message = talk.post(BEN, visible_to=("cat",))
    assert message.visibility == tuple(sorted((BEN.id, CAT.id)))
    for who in (OWNER, DAN):
        assert talk.seen_by(who) == before[who]
    for who in (BEN, CAT):
        assert talk.seen_by(who) == [*before[who], message.id]


def test_a_note_to_oneself_is_seen_by_no_one_else(talk: RoomDriver) -> None:
    message = talk.post(BEN, visible_to=("ben",))
    assert message.visibility == (BEN.id,)
    assert [who.name for who in (OWNER, BEN, CAT, DAN) if message.id in talk.seen_by(who)] == ["ben"]


@pytest.mark.parametrize("history", HISTORIES)
def test_who_joins_or_returns_later_never_gains_a_message_that_names_others(history: History) -> None:
    room = opened(approval=False, history=history)
    room.admit(BEN, CAT)
    room.leave(CAT)
    secret = room.post(BEN, visible_to=(OWNER.id,))
    room.admit(CAT, DAN)
    for who in (CAT, DAN):
        assert secret.id not in room.seen_by(who)


def test_one_named_in_a_message_sees_it_still_after_leaving_and_returning() -> None:
    room = opened(approval=False, history="none")
    room.admit(BEN, CAT)
    message = room.post(BEN, visible_to=("cat",))
    room.leave(CAT)
    room.admit(CAT)
    assert message.id in room.seen_by(CAT)


def test_a_message_cannot_be_addressed_to_one_it_is_hidden_from(talk: RoomDriver) -> None:
    with refused("invalid_param") as caught:
        talk.post(OWNER, to=("dan",), visible_to=("ben",))
    assert caught.value.details == {"param": "to"}
    assert talk.post(OWNER, to=("ben", "olive"), visible_to=("ben",)).to == (BEN.id, OWNER.id)


def test_a_reply_carries_on_the_chain_and_counts_its_hops(talk: RoomDriver) -> None:
    first = talk.post(OWNER)
    second = talk.post(BEN, reply_to=first.id)
    third = talk.post(CAT, reply_to=second.id)
    assert {message.chain for message in (first, second, third)} == {first.chain}
    assert [message.hops for message in (first, second, third)] == [0, 1, 2]
    assert third.reply_to == second.id
    assert first.chain == root_chain(first.id)
    assert talk.post(DAN).chain != first.chain


def test_a_reply_to_what_one_cannot_see_is_the_reply_to_what_does_not_exist(talk: RoomDriver) -> None:
    hidden = talk.post(BEN, visible_to=("cat",))
    bodies = []
    for target in (hidden.id, MessageId("m_never")):
        for who in (OWNER, DAN):
            with refused("no_such_message") as caught:
                talk.post(who, reply_to=target)
            body = caught.value.body()
            bodies.append(msgspec.structs.replace(body, details={**body.details, "id": ""}))
    assert all(body == bodies[0] for body in bodies)


def test_a_reply_to_the_past_that_history_withholds_is_refused() -> None:
    room = opened(approval=False, history="from-join")
    recap, early = room.posted()[0][1], room.post(OWNER)
    room.admit(BEN)
    with refused("no_such_message"):
        room.post(BEN, reply_to=early.id)
    assert room.post(BEN, reply_to=recap.id).hops == 1


def test_a_reply_to_a_private_message_is_private_to_the_same_readers(talk: RoomDriver) -> None:
    secret = talk.post(BEN, visible_to=("cat", "dan"))
    reply = talk.post(CAT, reply_to=secret.id)
    assert reply.visibility == secret.visibility
    assert reply.id not in talk.seen_by(OWNER)
    narrower = talk.post(CAT, reply_to=secret.id, visible_to=("ben",))
    assert narrower.visibility == (BEN.id, CAT.id)
    with refused("invalid_param"):
        talk.post(CAT, reply_to=secret.id, visible_to=("olive",))
    with refused("invalid_param"):
        talk.post(CAT, reply_to=secret.id, to=("olive",))


def test_a_looked_up_message_counts_only_where_the_request_replies_to_one(talk: RoomDriver) -> None:
    secret = talk.post(BEN, visible_to=("cat",))
    decision = talk.run(c.PostMessage(kind="note", reply=talk.target(secret.id)), OWNER)
    event = decision.events[0]
    assert isinstance(event, e.MessagePosted)
    assert (event.visibility, event.hops, event.reply_to) == (None, 0, None)


def test_a_reply_keeps_in_sight_those_who_left(talk: RoomDriver) -> None:
    secret = talk.post(BEN, visible_to=("cat",))
    talk.leave(CAT)
    reply = talk.post(BEN, reply_to=secret.id)
    assert reply.visibility == (BEN.id, CAT.id)
    talk.admit(CAT)
    assert reply.id in talk.seen_by(CAT)


# -- retries -----------------------------------------------------------------------------------------------


def test_the_same_request_is_posted_once_and_another_under_its_key_is_a_conflict(talk: RoomDriver) -> None:
    first = talk.post(BEN, key="k")
    assert talk.post(BEN, key="k") == first
    assert len(talk.posted()) == 2
    with refused("idempotency_conflict"):
        talk.post(BEN, key="k", input=b"other")
    assert talk.post(CAT, key="k").id != first.id
    assert talk.post(BEN, key="k2").id != first.id


def test_a_retry_is_authorised_before_it_is_looked_up(talk: RoomDriver) -> None:
    talk.post(BEN, key="k")
    talk.leave(BEN)
    for body in (b"input", b"other"):
        with refused("no_such_room"):
            talk.post(BEN, key="k", input=body)


def test_a_retry_is_answered_though_what_it_named_is_gone(talk: RoomDriver) -> None:
    first = talk.post(BEN, key="k", to=("cat",))
    talk.leave(CAT)
    assert talk.post(BEN, key="k", to=("cat",)) == first


def test_a_refused_request_does_not_consume_its_key(talk: RoomDriver) -> None:
    with refused("no_such_agent"):
        talk.post(BEN, key="k", to=("nobody",))
    assert talk.post(BEN, key="k", input=b"corrected").counter == 1


# -- how many threads an author may have ---------------------------------------------------------------------

ZOE, ZED = agent("zoe", of="zoe"), agent("zed", of="zoe")
SPEAKERS = (OWNER, BEN, CAT, ZOE, ZED)
POSTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 31), st.booleans()), max_size=60)


@given(posts=POSTS)
def test_threads_are_bounded_for_each_author_and_each_person_and_none_that_may_go_on_is_forgotten(
    posts: list[tuple[int, int, bool]],
) -> None:
    room = opened(approval=False)
    room.admit(BEN, CAT, ZOE, ZED)
    recap = room.posted()[0][1]
    ends: dict[tuple[str, frozenset[AgentId] | None], Thread] = {(OWNER.id, None): Thread(1, recap.envelope)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "MAX_AUDIENCES", 3)
        patch.setattr(messages, "MAX_AUDIENCES_OF_PERSON", 5)
        patch.setattr(messages, "KEPT_AUDIENCES", 4)
        for number, bits, is_public in posts:
            who = SPEAKERS[number]
            named = tuple(each.id for bit, each in enumerate(SPEAKERS) if bits >> bit & 1)
            readers = None if is_public else frozenset((*named, who.id))
            thread = who.id, readers
            own = [each for each in ends if each[0] == who.id and each[1] is not None]
            others = {each.id for each in SPEAKERS if each.principal == who.principal}
            of_person = [each for each in ends if each[0] in others and each[1] is not None]
            is_new = readers is not None and thread not in ends
            head = room.aggregate.position
            if is_new and (len(own) >= 3 or len(of_person) >= 5):
                with refused("too_many_audiences") as error:
                    room.post(who, visible_to=named)
                assert error.value.details["limit"] == (3 if len(own) >= 3 else 5)
                assert room.aggregate.position == head
                continue
            posted = room.post(who, visible_to=None if is_public else named)
            # The author goes on where this thread of its own ended, however many others there are.
            assert posted.counter == ends.get(thread, Thread()).counter + 1
            ends[thread] = Thread(posted.counter, posted.envelope)
    state = room.aggregate.state.messages
    for (author, readers), end in ends.items():
        assert thread_of(state, AgentId(author), None if readers is None else tuple(map(AgentId, readers))) == end
    assert sum(map(len, state.threads.values())) == len(ends)


def test_an_author_at_its_bound_still_answers_those_who_wrote_to_it(
    talk: RoomDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_AUDIENCES", 1)
    talk.post(BEN, visible_to=(CAT.id,))
    asked = talk.post(CAT, visible_to=(BEN.id,))
    talk.post(BEN, reply_to=asked.id)
    talk.post(BEN)
    with refused("too_many_audiences"):
        talk.post(BEN, visible_to=(DAN.id,))
    # A bound on one author is none on another of another person, nor on its own earlier requests.
    assert talk.post(DAN, visible_to=(BEN.id,)).counter == 1


def test_a_request_that_was_made_before_is_answered_at_the_bound_too(
    talk: RoomDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = talk.post(BEN, visible_to=(CAT.id,), key="k1")
    monkeypatch.setattr(messages, "MAX_AUDIENCES", 0)
    assert talk.post(BEN, visible_to=(CAT.id,), key="k1").id == first.id
    assert talk.post(BEN, visible_to=(CAT.id,)).counter == 2


def test_a_mirror_of_a_room_whose_home_allows_more_keeps_the_newest_threads_of_an_author_and_its_public_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(messages, "KEPT_AUDIENCES", 3)
    room = opened(approval=False)
    room.admit(BEN, CAT, DAN, EVE)
    others = [CAT.id, DAN.id, EVE.id, OWNER.id]
    room.post(BEN)
    for other in others:
        room.post(BEN, visible_to=(other,))
    state = room.aggregate.state.messages
    ends = [thread_of(state, BEN.id, (BEN.id, other)).counter for other in others]
    assert ends == [0, 0, 1, 1]
    assert thread_of(state, BEN.id, None).counter == 1
    room.verify()
