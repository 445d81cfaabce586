"""How facets are put together: nothing is forgotten, nothing is decided twice, and nobody changes another's state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.decision import Decision
from parlerd.core.facets import Aggregate, Facet, Folded, applies, compose, decides, nobody, touches
from parlerd.core.home import HomeRoom
from parlerd.core.model import AgentId, By, Ids, KeyId, Millis, Position
from parlerd.core.room import Room
from parlerd.core.topics import Topic
from tests.support.core import BEN, OWNER, CountedIds, parts, refused


class Seen(msgspec.Struct):
    """What a facet of these tests took in, in order."""

    events: list[str] = []


class Doors(Facet[Seen]):
    """Closes."""

    def _close(self, command: c.CloseRoom, by: By, now: Millis, ids: Ids) -> Decision:
        return Decision((e.RoomClosed(),), answer=f"{by.actor} at {now}")

    def _closed(self, event: e.RoomClosed, header: e.Header) -> None:
        self.state.events.append(f"closed at {header.at}")

    def _over(self, event: e.RoomClosed, header: e.Header) -> list[Topic]:
        return [topics.life("r"), topics.presence("UBEN")]

    def next_deadline(self, after: Millis) -> Millis | None:
        return Millis(10) if after < 10 else None

    def expire(self, after: Millis, now: Millis) -> list[Topic]:
        return [topics.life("r")] if after < 10 <= now else []

    DECIDES = (decides(c.CloseRoom, _close),)
    APPLIES = (applies(e.RoomClosed, _closed),)
    TOUCHES = (touches(e.RoomClosed, _over),)


class Guests(Facet[Seen]):
    """Hears of what closes."""

    def _closed(self, event: e.RoomClosed, header: e.Header) -> None:
        self.state.events.append("sent home")

    def _left(self, event: e.MemberLeft, header: e.Header) -> None:
        self.state.events.append(f"{event.agent} left")

    def _gone(self, event: e.RoomClosed, header: e.Header) -> list[Topic]:
        return [topics.memberships(f"guest {header.position}")]

    def next_deadline(self, after: Millis) -> Millis | None:
        return Millis(20) if after < 20 else None

    def expire(self, after: Millis, now: Millis) -> list[Topic]:
        return [topics.presence("UBEN")] if after < 20 <= now else []

    APPLIES = (applies(e.RoomClosed, _closed), applies(e.MemberLeft, _left))
    TOUCHES = (touches(e.RoomClosed, _gone), touches(e.MemberLeft, nobody))


class Deaf(Facet[Seen]):
    """Applies what it says nothing of."""

    APPLIES = Guests.APPLIES
    TOUCHES = (touches(e.RoomClosed, Guests._gone),)


class Place(Folded):
    doors: Seen = msgspec.field(default_factory=Seen)
    guests: Seen = msgspec.field(default_factory=Seen)


class House(Aggregate[Place]):
    RULES = compose((Doors, Guests), commands=[c.CloseRoom], events=[e.RoomClosed, e.MemberLeft])


def house() -> House:
    place = Place()
    return House(place, Doors(place.doors), Guests(place.guests))


def fact(position: int, event: e.Event) -> e.Header:
    return e.Header(position=Position(position), at=Millis(7), by=OWNER.by, authority="owner", event=event)


def test_a_command_is_decided_by_its_facet_with_who_asks_and_when() -> None:
    decision = house().decide(c.CloseRoom(), by=BEN.by, now=Millis(5), ids=CountedIds())
    assert decision == Decision((e.RoomClosed(),), answer=f"{BEN.id} at 5")


def test_a_command_of_no_facet_is_refused() -> None:
    with refused("unknown_operation"):
        house().decide(c.RevokeKey(revoke=KeyId("k")), by=BEN.by, now=Millis(5), ids=CountedIds())


def test_a_fact_goes_to_each_facet_that_applies_it_and_moves_the_position() -> None:
    place = house()
    place.apply(fact(1, e.RoomClosed()))
    place.apply(fact(2, e.MemberLeft(agent=AgentId("UBEN"))))
    assert place.state.doors.events == ["closed at 7"]
    assert place.state.guests.events == ["sent home", "UBEN left"]
    assert (place.position, place.last_at) == (2, 7)


def test_a_fact_wakes_whom_each_facet_says() -> None:
    place = house()
    assert place.topics(fact(3, e.RoomClosed())) == [
        topics.life("r"),
        topics.presence("UBEN"),
        topics.memberships("guest 3"),
    ]
    assert place.topics(fact(3, e.MemberLeft(agent=AgentId("UBEN")))) == []
    assert place.topics(fact(3, e.SessionActivated(agent=BEN.id, room=None))) == []


def test_time_changes_what_any_facet_says_and_the_next_moment_is_the_first_of_all() -> None:
    place = house()
    moments = [place.next_deadline(Millis(after)) for after in (0, 9, 10, 19, 20)]
    assert moments == [10, 10, 20, 20, None]
    assert place.expire(Millis(0), Millis(9)) == []
    assert place.expire(Millis(9), Millis(10)) == [topics.life("r")]
    assert place.expire(Millis(0), Millis(20)) == [topics.life("r"), topics.presence("UBEN")]
    assert Room().next_deadline(Millis(0)) is None
    assert HomeRoom().expire(Millis(0), Millis(1)) == []


def test_a_fact_of_no_facet_moves_the_position_alone() -> None:
    place = house()
    place.apply(fact(1, e.SessionActivated(agent=BEN.id, room=None)))
    assert (place.position, place.last_at) == (1, 7)
    assert parts(place) == parts(house())


@pytest.mark.parametrize(
    ("facets", "commands", "events", "named"),
    [
        ([Doors, Guests], [c.CloseRoom, c.OpenRoom], [e.RoomClosed, e.MemberLeft], "OpenRoom"),
        ([Doors, Guests], [c.CloseRoom], [e.RoomClosed, e.MemberLeft, e.KeyRevoked], "KeyRevoked"),
        ([Doors, Guests], [], [e.RoomClosed, e.MemberLeft], "CloseRoom"),
        ([Doors, Guests], [c.CloseRoom], [e.RoomClosed], "MemberLeft"),
        ([Doors, Doors], [c.CloseRoom], [e.RoomClosed], "CloseRoom"),
        ([Doors, Deaf], [c.CloseRoom], [e.RoomClosed, e.MemberLeft], "MemberLeft: said whom to wake"),
    ],
    ids=["no decider", "no applier", "a foreign command", "a foreign event", "two deciders", "nobody is told"],
)
def test_what_is_forgotten_foreign_or_decided_twice_is_named_when_facets_are_composed(
    facets: Sequence[type[Facet[Any]]], commands: list[type[c.Command]], events: list[type[e.Event]], named: str
) -> None:
    with pytest.raises(TypeError, match=named):
        compose(facets, commands=commands, events=events)


def test_facets_are_handed_over_in_the_order_of_the_rules() -> None:
    place = Place()
    with pytest.raises(AssertionError):
        House(place, Guests(place.guests), Doors(place.doors))


@pytest.mark.parametrize("cls", [Room, HomeRoom])
def test_each_field_of_a_real_aggregates_state_has_its_facet_and_every_facet_has_one(
    cls: type[Room | HomeRoom],
) -> None:
    aggregate = cls()
    fields = [getattr(aggregate.state, name) for name in aggregate.state.__struct_fields__]
    assert fields[:2] == [aggregate.position, aggregate.last_at]
    owned = dict.fromkeys(id(facet.state) for facet in aggregate.facets)
    assert [id(part) for part in fields[2:]] == list(owned)
