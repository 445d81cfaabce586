"""What begins a turn of an agent, in general and in single rooms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.model import RoomId
from tests.support.core import HomeDriver, agent

ANN, BEN = agent("ann"), agent("ben")
ROOMS = [RoomId("r_a"), RoomId("r_b")]
LOUDNESS = {
    ("open", "inherit"): "all",
    ("open", "quiet"): "directed",
    ("open", "muted"): "nothing",
    ("dnd", "inherit"): "directed",
    ("dnd", "quiet"): "directed",
    ("dnd", "muted"): "nothing",
    ("focus", "inherit"): "handoffs",
    ("focus", "quiet"): "handoffs",
    ("focus", "muted"): "nothing",
}


def home() -> HomeDriver:
    driver = HomeDriver()
    driver.create(ANN)
    driver.create(BEN)
    return driver


@pytest.mark.parametrize(("mode", "here"), sorted(LOUDNESS))
def test_a_room_may_be_quieter_than_the_agent_and_never_louder(mode: str, here: str) -> None:
    driver = home()
    driver.attend(ANN, mode=mode)
    driver.attend(ANN, room=ROOMS[0], here=here)
    attention = driver.aggregate.attention
    assert attention.loudness(ANN.id, ROOMS[0]) == LOUDNESS[mode, here]
    assert attention.loudness(ANN.id, ROOMS[1]) == LOUDNESS[mode, "inherit"]
    assert attention.loudness(BEN.id, ROOMS[0]) == "all"
    driver.verify()


def test_what_holds_already_is_no_fact_and_a_stranger_has_no_attention() -> None:
    driver = home()
    for said in ({"mode": "open"}, {"room": ROOMS[0], "here": "inherit"}):
        assert driver.attend(ANN, **said).events == ()
    assert len(driver.attend(ANN, mode="dnd").events) == 1
    assert driver.attend(ANN, mode="dnd").events == ()
    with pytest.raises(Refused) as refused:
        driver.attend(agent("nobody"), mode="dnd")
    assert refused.value.code == "no_such_agent"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ANN, BEN]),
            st.one_of(
                st.tuples(st.none(), st.sampled_from(["open", "dnd", "focus"])),
                st.tuples(st.sampled_from(ROOMS), st.sampled_from(["inherit", "quiet", "muted"])),
            ),
        ),
        max_size=15,
    )
)
def test_the_last_word_holds(acts: list[tuple[object, tuple[RoomId | None, str]]]) -> None:
    driver, said = home(), {}
    for who, (room, word) in acts:
        driver.attend(who, **({"mode": word} if room is None else {"room": room, "here": word}))  # type: ignore[arg-type]
        said[who, room] = word
    attention = driver.aggregate.attention
    for who in (ANN, BEN):
        for room in ROOMS:
            mode, here = said.get((who, None), "open"), said.get((who, room), "inherit")
            assert attention.loudness(who.id, room) == LOUDNESS[mode, here]
    driver.verify()


def test_of_a_deleted_room_nothing_holds_any_more() -> None:
    driver = home()
    for who in (ANN, BEN):
        driver.attend(who, room=ROOMS[0], here="muted")
    driver.attend(BEN, room=ROOMS[1], here="quiet")
    driver.delete(ROOMS[0], ANN)
    assert driver.aggregate.state.attention.rooms == {BEN.id: {ROOMS[1]: "quiet"}}
    driver.verify()
