"""A room that goes on after its home lost a part of it: who may say so, where it goes on, and what is lost."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from msgspec.structs import replace

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.lifecycle import NEW_LOG, OLDER_COPY
from parlerd.core.membership import NO_END, last_at_home, number_at_home, number_here, shift_after, told_seq
from parlerd.core.model import HomeId, Millis, Position, PrincipalId, RoomId, Shown
from parlerd.core.public_line import MAX_EPOCH, epoch_of, first_number, line_after_rewind
from parlerd.core.rewinds import Fallen, RewindsState, Rewound
from parlerd.core.statements import NONCE, Rewind, encode
from tests.core.test_mirror import LINE, joined, mirrored, placed, said
from tests.support.core import BEN, CAT, HOME, OWNER, ROOM, STRANGER, RoomDriver, opened, refused


def statement(driver: RoomDriver, **fields: Any) -> Rewind:
    """What the owner's person signs to let this room go on from where it stands."""
    shown = driver.aggregate.state.shown
    rewind = Rewind(
        home=HOME, room=ROOM, epoch=1, public=shown.number, line=shown.line, at=Millis(7), nonce=bytes(NONCE)
    )
    return replace(rewind, **fields)


def rewind(driver: RoomDriver, *, principal: PrincipalId = OWNER.principal, **fields: Any) -> e.RoomRewound | None:
    """Let a room go on; gives the fact that it leads to."""
    signed = statement(driver, **fields)
    command = c.RewindRoom(principal=principal, statement=signed)
    decision = driver.aggregate.decide(command, by=OWNER.by, now=Millis(driver.now), ids=driver.ids)
    assert decision.answer == "rewound"
    for event in decision.events:
        assert isinstance(event, e.RoomRewound)
        assert decision.statements == (signed,)
        driver.commit(event, OWNER, authority="person", body=encode(signed))
        return event
    return None


# -- at the room's home ------------------------------------------------------------------------------------


def test_the_owners_person_lets_a_room_go_on_from_where_it_stands_in_an_epoch_of_its_own() -> None:
    room = opened()
    room.post(OWNER)
    room.post(OWNER)
    before, seq = room.aggregate.state.shown, room.aggregate.newest_seq(OWNER.id)
    assert rewind(room) == e.RoomRewound(epoch=1, public=before.number, line=before.line)
    body = hashlib.sha256(room.bodies[Position(room.aggregate.position)]).digest()
    state = room.aggregate.state
    assert state.shown == (first_number(1), line_after_rewind(before.line, body))
    assert (state.epoch, room.aggregate.newest_seq(OWNER.id)) == (1, seq)
    room.post(OWNER)
    assert (state.shown.number, room.aggregate.newest_seq(OWNER.id)) == (first_number(1) + 1, seq + 1)
    assert rewind(room, epoch=4) is not None
    assert (state.epoch, state.shown.number) == (4, first_number(4))
    assert not any(state.rewinds.is_lost(header.position) for header in room.log)
    room.verify()


def test_a_rewind_that_is_asked_for_again_is_answered_and_changes_nothing() -> None:
    room = opened()
    room.post(OWNER)
    signed = statement(room)
    rewind(room)
    room.post(OWNER)
    assert rewind(room, public=signed.public, line=signed.line) is None
    assert room.aggregate.state.shown.number == first_number(1) + 1


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"home": HomeId("A" + "B" * 55)}, "home"),
        ({"room": RoomId("r_other")}, "room"),
        ({"epoch": 1}, "epoch"),
        ({"public": first_number(1)}, "line"),
        ({"line": LINE}, "line"),
    ],
)
def test_a_rewind_of_another_room_or_of_before_or_to_another_place_is_refused(fields: Any, what: str) -> None:
    room = opened()
    room.post(OWNER)
    rewind(room)
    room.post(OWNER)
    with refused("statement_refused") as caught:
        rewind(room, **{"epoch": 2, **fields})
    assert caught.value.details == {"what": what}


def test_nobody_but_the_owners_person_rewinds_and_no_closed_room_is_rewound() -> None:
    room = opened()
    with refused("not_owner"):
        rewind(room, principal=STRANGER.principal)
    room.close()
    with refused("room_closed"):
        rewind(room)


# -- in a mirror -------------------------------------------------------------------------------------------


def told() -> RoomDriver:
    """A mirror of a room in which five messages were said: public, private to olive and ben, public, private, public;
    the home has the first three. Of the facts of its log those at 4, 5 and 6 are of the home."""
    mirror = mirrored()
    mirror.arrive(joined(BEN), who=BEN)
    for message in (said(1), said(2, BEN), said(3), said(4, BEN), said(5)):
        mirror.arrive(message)
    return mirror


def rewound(upto: int, public: int, epoch: int = 1, holds: tuple[int, ...] = (), **numbers: int) -> e.RoomRewound:
    agents = {who.name: who.id for who in (OWNER, BEN, CAT)}
    return e.RoomRewound(
        epoch=epoch,
        public=public,
        line=LINE,
        holds=holds,
        upto=Position(upto),
        numbers=tuple((agents[name], number) for name, number in numbers.items()),
    )


def test_a_mirror_keeps_what_was_lost_and_numbers_go_on() -> None:
    mirror = told()
    third = next(header.position for header, event in mirror.posted() if event.counter == 3)
    mirror.arrive(rewound(third, 2, olive=3, ben=3))
    state = mirror.aggregate.state
    lost = [event.counter for header, event in mirror.posted() if state.rewinds.is_lost(header.position)]
    assert lost == [4, 5]
    assert state.shown.number == first_number(1)
    assert (mirror.aggregate.newest_seq(BEN.id), told_seq(state.membership, BEN.id)) == (5, 3)
    mirror.arrive(said(6))
    assert (mirror.aggregate.newest_seq(BEN.id), told_seq(state.membership, BEN.id)) == (6, 4)
    assert state.shown.number == first_number(1) + 1
    mirror.verify()


def test_a_room_that_waited_for_the_rewind_goes_on_and_one_whose_home_lied_does_not() -> None:
    for what, alarm in ((OLDER_COPY, None), (NEW_LOG, "room_archived"), ("line", "relay_equivocation")):
        mirror = told()
        mirror.arrive(e.HomeContradicted(what=what, number=2, before=((BEN.id, 3),)))
        assert mirror.aggregate.state.rewinds.fallen == (Fallen(2, ((BEN.id, 3),)) if what == OLDER_COPY else None)
        mirror.arrive(rewound(6, 2))
        assert mirror.aggregate.state.alarm == alarm
        assert mirror.aggregate.state.rewinds.fallen is None


def test_what_an_author_may_say_that_it_was_shown_is_what_the_home_still_has() -> None:
    state = RewindsState(
        [
            Rewound(Position(9), 1, 4, b"four", Position(6), 7),
            Rewound(Position(20), 3, first_number(1) + 2, b"two", Position(12), 9),
        ],
        [1, 3],
    )
    assert state.still_shown(Shown(3, b"three")) == (3, b"three")
    assert state.still_shown(Shown(4, b"four")) == (4, b"four")
    assert state.still_shown(Shown(5, b"lost")) == (4, b"four")
    assert state.still_shown(Shown(first_number(1) + 2, b"two")) == (first_number(1) + 2, b"two")
    assert state.still_shown(Shown(first_number(1) + 3, b"lost")) == (first_number(1) + 2, b"two")
    assert state.still_shown(Shown(first_number(3), b"new")) == (first_number(3), b"new")
    assert [position for position in range(1, 25) if state.is_lost(Position(position))] == [7, 8, *range(13, 20)]
    assert [state.count_at(number) for number in (3, first_number(1) + 1, first_number(3) + 5)] == [3, 8, 14]


def test_a_home_that_went_back_to_before_a_rewind_has_what_that_one_lost_as_far_as_it_went() -> None:
    mirror = told()
    mirror.arrive(rewound(6, 1))
    mirror.arrive(said(6))
    assert [n for n in range(1, 12) if mirror.aggregate.state.rewinds.is_lost(Position(n))] == [7, 8, 9]
    mirror.arrive(rewound(8, 2, epoch=2))
    assert [n for n in range(1, 13) if mirror.aggregate.state.rewinds.is_lost(Position(n))] == [9, 10, 11]
    assert mirror.aggregate.state.epoch == 2
    # Then to after the first rewind again, which holds once more.
    mirror.arrive(rewound(11, first_number(1) + 1, epoch=3, holds=(1,)))
    assert [n for n in range(1, 14) if mirror.aggregate.state.rewinds.is_lost(Position(n))] == [7, 8, 9, 12]
    mirror.verify()


def test_threads_end_where_they_ended_before_what_was_lost() -> None:
    mirror = told()
    ended = e.RoomRewound(
        epoch=1, public=2, line=LINE, upto=Position(7), threads=((OWNER.id, "", 3, b"e" * 32), (BEN.id, "", 0, b""))
    )
    mirror.arrive(ended)
    threads = mirror.aggregate.state.messages.threads
    assert (threads[OWNER.id][""].counter, threads[OWNER.id][""].envelope) == (3, b"e" * 32)
    assert BEN.id not in threads


def test_a_mirror_that_was_not_told_all_that_is_left_leaves_it_out() -> None:
    mirror = mirrored()
    mirror.arrive(joined(BEN), who=BEN)
    mirror.arrive(said(1))
    mirror.arrive(rewound(5, 4, olive=1))
    state = mirror.aggregate.state
    assert (state.shown.number, state.membership.jumps) == (first_number(1), [(6, 3)])
    # Of ben the home has not said its number; olive's follows from the next page.
    assert (mirror.aggregate.newest_seq(BEN.id), mirror.aggregate.newest_seq(OWNER.id)) == (4, 1)
    mirror.arrive(placed(first_number(1), olive=4))
    assert mirror.aggregate.newest_seq(OWNER.id) == 4
    mirror.verify()


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (rewound(5, 2, epoch=0), "epoch"),
        (rewound(5, 2, epoch=2), "epoch"),
        (rewound(5, 2, epoch=MAX_EPOCH + 1), "epoch"),
        (rewound(5, 2, epoch=3, holds=(1,)), "epoch"),
        (rewound(5, first_number(3), epoch=3), "public"),
        (rewound(5, -1, epoch=3), "public"),
        (rewound(5, 2, epoch=3, cat=1), "before"),
        (rewound(5, 2, epoch=3, ben=-1), "before"),
    ],
)
def test_a_mirror_takes_in_no_rewind_that_could_not_be_folded(event: e.RoomRewound, what: str) -> None:
    mirror = told()
    mirror.arrive(rewound(6, 2, epoch=2))
    with refused("relay_equivocation") as caught:
        mirror.arrive(event)
    assert caught.value.details == {"what": what}


# -- numbers -----------------------------------------------------------------------------------------------


def test_numbers_of_each_epoch_are_beyond_those_of_the_one_before() -> None:
    assert [epoch_of(number) for number in (0, 2**32 - 1, first_number(1), first_number(2) + 5)] == [0, 0, 1, 2]
    assert first_number(MAX_EPOCH + 1) <= 2**53


def test_a_number_here_is_what_the_home_calls_it_and_a_lost_one_is_the_last_before_it() -> None:
    # Messages 4 and 5 were lost; then the home went back to before that, to its message 2.
    shifts = [(5, 2), (8, 6)]
    assert [number_at_home(shifts[:1], n) for n in range(1, 8)] == [1, 2, 3, 3, 3, 4, 5]
    assert [number_at_home(shifts, n) for n in range(1, 11)] == [1, 2, 2, 2, 2, 2, 2, 2, 3, 4]
    assert [number_here(shifts[:1], n) for n in range(1, 6)] == [1, 2, 3, 6, 7]
    assert [number_here(shifts, n) for n in range(1, 5)] == [1, 2, 9, 10]
    assert number_here([], 7) == 7
    assert [shift_after(shifts, n) for n in (4, 5, 7, 8)] == [0, 2, 2, 6]
    assert [last_at_home(shifts, n) for n in (4, 5, 7, 8)] == [2, 2, 2, NO_END]
