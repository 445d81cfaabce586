"""An owner's rooms by name, and which one an agent means when it names none."""

from __future__ import annotations

from parlerd.core import commands as c
from parlerd.core.decision import Decision
from parlerd.core.events import RoomDeleted, RoomNamed, SessionActivated
from parlerd.core.model import HOME_ROOM, HomeId, RoomId
from tests.support.core import BEN, OWNER, HomeDriver, refused

# -- rooms by name -----------------------------------------------------------------------------------------


def test_a_second_room_of_one_name_gets_a_number_and_each_owner_has_names_of_its_own(home: HomeDriver) -> None:
    rooms = [
        home.name_room(OWNER, "auth"),
        home.name_room(OWNER, "auth"),
        home.name_room(OWNER, "auth"),
        home.name_room(BEN, "auth"),
    ]
    assert len(set(rooms)) == 4
    assert home.aggregate.state.room_names == {
        OWNER.id: {"auth": rooms[0], "auth-2": rooms[1], "auth-3": rooms[2]},
        BEN.id: {"auth": rooms[3]},
    }


def test_a_name_that_is_taken_names_nothing_and_leaves_the_first_room_its_name(home: HomeDriver) -> None:
    first = home.name_room(BEN, "auth")
    taken = home.run(c.NameRoom(owner=BEN.id, room=RoomId("r_other"), name="auth"), BEN)
    assert taken == Decision(answer="taken")
    assert home.aggregate.state.room_names == {BEN.id: {"auth": first}}
    assert home.aggregate.state.active == {BEN.id: first}


def test_a_room_that_lives_elsewhere_is_named_with_its_home_and_is_not_active_before_it_is_there(
    home: HomeDriver,
) -> None:
    far = HomeId("N" + "A" * 55)
    (named,) = home.run(c.NameRoom(owner=BEN.id, room=RoomId("r_far"), name="auth", home=far), BEN).events
    assert named == RoomNamed(owner=BEN.id, room=RoomId("r_far"), name="auth", home=far)


def test_naming_a_room_makes_it_the_active_session_in_the_same_decision(home: HomeDriver) -> None:
    decision = home.run(c.NameRoom(owner=BEN.id, room=RoomId("r_auth"), name="auth"), BEN)
    named, activated = decision.events
    assert isinstance(named, RoomNamed)
    assert activated == SessionActivated(agent=BEN.id, room=named.room)
    assert home.aggregate.state.active == {BEN.id: named.room}


def test_the_same_request_names_one_room_and_another_input_is_a_conflict(home: HomeDriver) -> None:
    first = home.name_room(BEN, "auth", key="k")
    assert home.name_room(BEN, "auth", key="k") == first
    assert home.name_room(OWNER, "auth", key="k") != first  # a key is its agent's own
    with refused("idempotency_conflict"):
        home.name_room(BEN, "auth", key="k", input=b"other")


# -- active sessions ---------------------------------------------------------------------------------------


def test_the_active_session_changes_and_ends(home: HomeDriver) -> None:
    one, two = RoomId("r_one"), RoomId("r_two")
    for room in (one, two):
        home.activate(BEN, room)
        assert home.aggregate.state.active[BEN.id] == room
    home.activate(BEN, None)
    assert BEN.id not in home.aggregate.state.active


def test_making_active_what_is_active_commits_nothing(home: HomeDriver) -> None:
    assert home.activate(BEN, None) == Decision()
    home.activate(BEN, RoomId("r_one"))
    assert home.activate(BEN, RoomId("r_one")) == Decision()


# -- deleting ------------------------------------------------------------------------------------------------


def test_a_deleted_room_gives_its_name_back_and_is_nobodys_active_session(home: HomeDriver) -> None:
    gone, stays = home.name_room(BEN, "auth"), home.name_room(BEN, "notes")
    home.activate(OWNER, gone)
    home.activate(BEN, stays)
    decision = home.delete(gone, BEN)
    assert (decision.events, decision.buries) == ((RoomDeleted(room=gone),), (gone,))
    assert home.aggregate.state.room_names == {BEN.id: {"notes": stays}}
    assert home.aggregate.state.active == {BEN.id: stays}
    again = home.name_room(BEN, "auth")
    assert home.aggregate.state.room_names[BEN.id] == {"notes": stays, "auth": again}


def test_the_home_room_is_no_room_to_delete(home: HomeDriver) -> None:
    with refused("no_such_room"):
        home.delete(HOME_ROOM, OWNER)
