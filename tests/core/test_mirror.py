"""The mirror of a room that lives elsewhere: what may arrive in it, what it leaves out, and when its home is not to be
believed any more."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.lifecycle import NEW_LOG, OLDER_COPY
from parlerd.core.membership import REQUESTER, is_requester
from parlerd.core.model import AgentId, History, HomeId, KeyId, MessageId, Millis, RequestId, RosterEntry
from parlerd.core.statements import encode_opened
from tests.support.core import BEN, CAT, DAY, KEY, OWNER, ROOM, Agent, RoomDriver, opened, refused
from tests.support.scripts import TITLE

LINE = bytes(range(32))


def opening() -> e.RoomOpened:
    return e.RoomOpened(
        room=ROOM,
        home=HomeId(OWNER.principal),
        kind="session",
        name="auth-redesign",
        topic="Auth redesign",
        owner=OWNER.id,
        owner_principal=OWNER.principal,
        history="full",
        approval=True,
        approver="person",
    )


def joined(who: Agent, key: KeyId | None = None) -> e.MemberJoined:
    return e.MemberJoined(agent=who.id, principal=who.principal, handle=who.name, host="codex", key=key)


def said(number: int, *readers: Agent, author: Agent = OWNER) -> e.MessagePosted:
    visible = tuple(sorted({author.id, *(who.id for who in readers)})) if readers else None
    return e.MessagePosted(id=MessageId(f"m_{number}"), kind="note", chain="c", counter=number, visibility=visible)


def placed(public: int, **before: int) -> e.MirrorPlaced:
    agents = {who.name: who.id for who in (OWNER, BEN, CAT)}
    return e.MirrorPlaced(public=public, line=LINE, before=tuple((agents[name], n) for name, n in before.items()))


def mirrored(public: int = 0) -> RoomDriver:
    """A mirror that begins after so many public messages, with its owner in it."""
    mirror = RoomDriver()
    mirror.arrive(opening(), placed(public))
    mirror.arrive(joined(OWNER))
    return mirror


# -- what may arrive ---------------------------------------------------------------------------------------


def test_a_mirror_begins_with_its_opening_and_where_it_is_placed() -> None:
    mirror = RoomDriver()
    for events in ((opening(),), (placed(0), opening()), (joined(OWNER),), (opening(), joined(OWNER), placed(0))):
        with refused("relay_equivocation"):
            mirror.arrive(*events)
    mirror.arrive(opening(), placed(0))
    assert (mirror.aggregate.state.owner, mirror.aggregate.state.mirror.is_mirror) == (OWNER.id, True)


def test_a_room_that_lives_here_takes_no_arrival() -> None:
    room = opened()
    with refused("no_such_room"):
        room.arrive(said(1))
    assert not room.aggregate.state.mirror.is_mirror


def test_what_arrives_is_folded_as_what_is_decided_here() -> None:
    mirror = mirrored()
    mirror.arrive(e.KeyMinted(key=KEY, ref="k_1", gated=True, expires_at=Millis(mirror.now + DAY), max_uses=5))
    request = RequestId("q_1")
    knock = e.JoinRequested(request=request, key=KEY, agent=BEN.id, principal=BEN.principal, name="ben", host="codex")
    mirror.arrive(knock, who=BEN)
    assert mirror.waiting() == [BEN.id]
    mirror.arrive(e.JoinApproved(request=request, agent=BEN.id, proof="cli"), joined(BEN, KEY))
    mirror.arrive(said(1))
    mirror.arrive(said(2, BEN, author=CAT), who=CAT)
    assert (mirror.waiting(), len(mirror.seen_by(BEN)), len(mirror.seen_by(OWNER))) == ([], 2, 1)
    mirror.arrive(e.RoomClosed())
    assert mirror.aggregate.state.closed
    mirror.verify()


def test_words_that_the_home_let_go_go_with_the_fact_that_says_so() -> None:
    room = mirrored()
    room.arrive(said(1))
    room.arrive(said(2))
    first = room.log[-2].position
    erased = e.BodiesErased(spans=((first, first),), messages=1, bytes=9)
    decision = room.run(c.Arrive(events=(erased,), at=Millis(room.now), erases=(first,)), OWNER)
    assert decision.erases == (first,)
    state = room.aggregate.state.retention
    assert [state.covers(header.position) for header in room.log[-3:-1]] == [True, False]
    assert (state.messages, state.bytes) == (1, 9)
    room.verify()


def test_the_time_of_what_arrives_is_that_of_its_home() -> None:
    decision = mirrored().arrive(said(1), at=7)
    assert (decision.at, decision.authority) == (7, "arrived")


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (opening(), "opening"),
        (joined(BEN, KeyId("unknown")), "key"),
        (e.MemberLeft(agent=BEN.id), "member"),
        (e.RoleGiven(agent=BEN.id, role="reviewer"), "member"),
        (e.KeyRevoked(key=KeyId("unknown")), "key"),
        (
            e.JoinRequested(
                request=RequestId("q_1"),
                key=KeyId("unknown"),
                agent=BEN.id,
                principal=BEN.principal,
                name="ben",
                host="codex",
            ),
            "key",
        ),
        (e.JoinApproved(request=RequestId("q_1"), agent=BEN.id, proof="cli"), "request"),
        (e.JoinDenied(request=RequestId("q_1"), agent=BEN.id, proof="cli"), "request"),
        (placed(4), "public"),
        (placed(5, olive=0), "before"),
        (placed(5, ben=9), "before"),
    ],
)
def test_what_cannot_be_folded_is_refused_and_named(event: e.RoomEvent, what: str) -> None:
    mirror = mirrored(5)
    with refused("relay_equivocation") as refusal:
        mirror.arrive(event)
    assert refusal.value.details == {"what": what}


def test_a_message_whose_id_is_taken_is_refused() -> None:
    mirror = mirrored()
    with refused("relay_equivocation") as refusal:
        mirror.arrive(said(1), taken="m_1")
    assert refusal.value.details == {"what": "id"}


def test_where_a_mirror_goes_on_is_not_told_after_a_message_of_the_same_arrival() -> None:
    mirror = mirrored()
    with refused("relay_equivocation"):
        mirror.arrive(said(1), placed(5))


def test_the_title_may_come_when_an_agent_is_in() -> None:
    mirror = mirrored()
    assert mirror.aggregate.state.name != "told-later"
    mirror.commit(e.RoomTitled(), OWNER, body=encode_opened(b"", TITLE))
    assert (mirror.aggregate.state.name, mirror.aggregate.state.topic) == ("told-later", "Told later")
    mirror.verify()


# -- what is left out --------------------------------------------------------------------------------------


def test_a_reader_goes_on_after_its_own_number_and_not_after_the_rooms() -> None:
    mirror = mirrored(50)
    mirror.arrive(joined(BEN))
    mirror.arrive(placed(50, olive=57, ben=50))
    mirror.arrive(said(1))
    numbers = [mirror.aggregate.newest_seq(who.id) for who in (OWNER, BEN)]
    assert numbers == [58, 51]
    mirror.verify()


def test_what_a_jump_leaves_out_counts_in_the_numbers_of_all_who_may_see_it() -> None:
    mirror = mirrored()
    mirror.arrive(joined(BEN))
    mirror.arrive(said(1))
    mirror.arrive(placed(11, olive=14))
    mirror.arrive(said(2))
    assert [mirror.aggregate.newest_seq(who.id) for who in (OWNER, BEN)] == [15, 12]
    at = mirror.log[-2].position
    assert mirror.aggregate.view(OWNER.id).gaps == ((at, 13),)
    assert mirror.aggregate.view(BEN.id).gaps == ((at, 10),)


def test_who_comes_in_later_counts_what_was_left_out_before_if_it_may_read_everything() -> None:
    mirror = mirrored(50)
    mirror.arrive(said(1))
    mirror.arrive(joined(BEN))
    assert mirror.aggregate.newest_seq(BEN.id) == 51
    assert mirror.aggregate.view(BEN.id).gaps == mirror.aggregate.view(OWNER.id).gaps


def test_a_member_that_is_away_and_sees_nothing_of_it_counts_nothing_of_it() -> None:
    mirror = RoomDriver()
    opening_none = e.RoomOpened(
        **{name: getattr(opening(), name) for name in opening().__struct_fields__} | {"history": "none"}
    )
    mirror.arrive(opening_none, placed(0))
    mirror.arrive(joined(OWNER))
    mirror.arrive(joined(BEN), who=BEN)
    mirror.arrive(e.MemberLeft(agent=BEN.id), who=BEN)
    mirror.arrive(placed(9, olive=9))
    mirror.arrive(joined(BEN), who=BEN)
    mirror.arrive(said(1))
    assert [mirror.aggregate.newest_seq(who.id) for who in (OWNER, BEN)] == [10, 1]


def test_after_a_jump_the_threads_of_those_who_write_elsewhere_are_not_known() -> None:
    mirror = mirrored()
    mirror.arrive(said(1))
    mirror.arrive(said(1, author=BEN), who=BEN)
    mirror.arrive(placed(8, olive=8))
    assert set(mirror.aggregate.state.messages.threads) == {OWNER.id}
    assert mirror.aggregate.state.shown == (8, LINE)


# -- a home that contradicts itself ------------------------------------------------------------------------


def test_where_the_home_contradicted_itself_nothing_more_is_said_or_decided() -> None:
    mirror = mirrored()
    mirror.arrive(e.KeyMinted(key=KEY, ref="k_1", gated=True, expires_at=Millis(mirror.now + DAY), max_uses=5))
    knock = e.JoinRequested(
        request=RequestId("q_1"), key=KEY, agent=BEN.id, principal=BEN.principal, name="ben", host="codex"
    )
    mirror.arrive(knock, who=BEN)
    mirror.arrive(e.HomeContradicted(what="line", number=3, agent=AgentId("U1")))
    mirror.arrive(e.HomeContradicted(what="thread"))
    assert mirror.aggregate.state.contradicted == "line"
    with refused("relay_equivocation"):
        mirror.post(OWNER)
    with refused("relay_equivocation"):
        mirror.approve(BEN)
    mirror.leave(OWNER)
    mirror.verify()


def test_a_room_of_which_less_is_there_than_was_told_takes_nothing_more_and_accuses_nobody() -> None:
    mirror = mirrored()
    mirror.arrive(e.HomeContradicted(what=OLDER_COPY))
    assert mirror.aggregate.state.alarm == "relay_rolled_back"
    with refused("relay_rolled_back"):
        mirror.post(OWNER)
    mirror.verify()


def test_a_room_whose_home_began_anew_is_an_archive_and_accuses_nobody() -> None:
    mirror = mirrored()
    alarms = [mirror.aggregate.state.alarm]
    mirror.arrive(e.HomeContradicted(what=NEW_LOG))
    alarms.append(mirror.aggregate.state.alarm)
    assert alarms == [None, "room_archived"]
    with refused("room_archived"):
        mirror.post(OWNER)
    mirror.verify()


# -- sealed rooms ------------------------------------------------------------------------------------------


def turned(number: int, *added: Agent, removed: tuple[Agent, ...] = (), anew: bool = False) -> e.EpochTurned:
    return e.EpochTurned(
        number=number,
        record=number.to_bytes(32),
        added=tuple((who.id, RosterEntry(who.principal, who.name, b"k" * 32, 1)) for who in added),
        removed=tuple(who.id for who in removed),
        anew=anew,
    )


def sealed_mirror(*others: Agent, history: History = "full") -> RoomDriver:
    """A mirror of a sealed room that begins with its third record, and its members with it."""
    mirror = RoomDriver()
    mirror.arrive(replace(opening(), sealed=1, history=history, name="", topic=""), placed(4))
    mirror.arrive(*map(joined, (OWNER, *others)), turned(3, OWNER, *others, anew=True))
    return mirror


def test_who_only_asks_in_a_queue_says_the_record_also_where_the_member_is_told_later() -> None:
    mirror = RoomDriver()
    mirror.arrive(replace(opening(), sealed=1, kind="service", name="", topic=""), placed(4))
    begins = turned(3, OWNER, BEN, CAT, anew=True)
    asks = tuple((agent, replace(seat, requester=agent == BEN.id)) for agent, seat in begins.added)
    mirror.arrive(joined(OWNER), replace(begins, added=asks))
    # The home tells the role, and nobody signs that.
    mirror.arrive(replace(joined(BEN), role=""), replace(joined(CAT), role=REQUESTER))
    members = mirror.aggregate.state.members
    assert [agent for agent, member in members.items() if is_requester(member)] == [BEN.id]
    mirror.verify()


def test_a_mirror_begins_with_the_record_in_force_and_goes_on_from_there() -> None:
    mirror = sealed_mirror()
    mirror.arrive(joined(BEN))
    assert mirror.aggregate.state.members[BEN.id].waits
    mirror.arrive(turned(4, BEN))
    state = mirror.aggregate.state
    assert (state.epochs.number, set(state.epochs.roster)) == (4, {OWNER.id, BEN.id})
    assert not state.members[BEN.id].waits
    mirror.arrive(turned(9, OWNER, anew=True))
    assert set(state.epochs.roster) == {OWNER.id}
    assert mirror.aggregate.epochs.waiting() is None
    assert set(state.epochs.entering) == {BEN.id}
    assert state.members[BEN.id].waits
    mirror.verify()


@pytest.mark.parametrize(
    "event",
    [turned(3), turned(2), turned(5), turned(3, OWNER, anew=True), turned(4, removed=(CAT,))],
    ids=["the same number", "an older one", "a gap", "an older one told whole", "without one who was never in"],
)
def test_a_mirror_takes_no_record_that_does_not_follow(event: e.EpochTurned) -> None:
    with refused("relay_equivocation") as refusal:
        sealed_mirror().arrive(event)
    assert refusal.value.details["what"] == "record"


def test_several_records_may_arrive_at_once_and_each_follows_the_one_before() -> None:
    mirror = sealed_mirror(BEN)
    mirror.arrive(turned(4), turned(5, removed=(BEN,)))
    assert mirror.aggregate.state.epochs.number == 5
    with refused("relay_equivocation"):
        mirror.arrive(turned(6), turned(7, removed=(BEN,)))


@pytest.mark.parametrize(
    "event", [turned(1, OWNER), e.SealingKeyTold(agent=OWNER.id, key=b"k" * 32, counter=1)], ids=["record", "key"]
)
def test_nothing_of_epochs_arrives_in_a_room_that_is_not_sealed(event: e.RoomEvent) -> None:
    with refused("relay_equivocation") as refusal:
        mirrored().arrive(event)
    assert refusal.value.details["what"] == "sealed"


@pytest.mark.parametrize("taken", [False, True])
def test_a_sealed_room_changes_hands_behind_a_record_and_never_before_an_earlier_one(taken: bool) -> None:
    changed = e.OwnerChanged(owner=BEN.id, principal=BEN.principal, taken=taken)
    clear = mirrored()
    clear.arrive(joined(BEN))
    for wrong, mirror in ((changed, sealed_mirror(BEN)), (replace(changed, record=3), clear)):
        with refused("relay_equivocation") as refusal:
            mirror.arrive(wrong)
        assert refusal.value.details["what"] == "record"
    mirror = sealed_mirror(BEN)
    mirror.arrive(replace(changed, record=3))
    with refused("relay_equivocation") as refusal:
        mirror.arrive(replace(changed, owner=OWNER.id, record=2))
    assert refusal.value.details["what"] == "record"


@pytest.mark.parametrize(("history", "number"), [("full", 5), ("from-join", 0)])
def test_one_whom_a_record_lets_read_counts_what_was_left_out_if_it_may_read_that(
    history: History, number: int
) -> None:
    mirror = sealed_mirror(history=history)
    mirror.arrive(joined(BEN))
    assert mirror.aggregate.newest_seq(BEN.id) == 0
    mirror.arrive(said(1))
    mirror.arrive(turned(4, BEN))
    assert mirror.aggregate.newest_seq(BEN.id) == number
