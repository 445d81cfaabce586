"""A room's memory: keys, versions, guards, and who may take words away."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import MemoryPart
from parlerd.core.errors import Refused
from parlerd.core.memory import MAX_KEYS, MAX_VERSIONS, Entry
from parlerd.core.model import AgentId, MemoryNote, MessageId, Position
from tests.support.core import BEN, CAT, DAN, OWNER, STRANGER, Agent, RoomDriver, opened, refused


@pytest.fixture
def talk() -> RoomDriver:
    """A room with Ben, Cat and Dan in it."""
    room = opened(approval=False)
    room.admit(BEN, CAT, DAN)
    return room


def note_of(event: e.MessagePosted) -> MemoryNote:
    assert event.memory is not None
    return event.memory


def test_a_key_is_the_rooms_and_writing_it_again_makes_the_next_version(talk: RoomDriver) -> None:
    assert [note_of(talk.remember(who, "deploy")).version for who in (BEN, CAT, BEN)] == [1, 2, 3]
    assert note_of(talk.remember(CAT, "login")).version == 1
    entry = talk.aggregate.state.memory.keys["deploy"]
    assert (entry.version, entry.authors) == (3, (BEN.id, CAT.id))
    assert entry.id == talk.posted()[-2][1].id


def test_a_new_version_takes_the_one_before_out_of_every_search_and_leaves_its_words(talk: RoomDriver) -> None:
    talk.remember(BEN, "deploy")
    first = talk.log[-1].position
    decision = talk.run(c.PostMessage(kind="memory", memory=MemoryPart(key="deploy")), BEN)
    (event,) = decision.events
    assert isinstance(event, e.MessagePosted)
    assert note_of(event).drops == (first,)
    assert decision.erases == ()


def test_what_has_no_key_has_no_version_and_changes_nothing_of_the_room(talk: RoomDriver) -> None:
    assert [note_of(talk.remember(BEN)) for _ in range(2)] == [MemoryNote(), MemoryNote()]
    assert talk.aggregate.state.memory.keys == {}


@pytest.mark.parametrize(("guard", "written"), [(0, 0), (2, 2)])
def test_a_guard_lets_the_version_that_it_names_through(talk: RoomDriver, guard: int, written: int) -> None:
    for _ in range(written):
        talk.remember(BEN, "deploy")
    assert note_of(talk.remember(CAT, "deploy", if_version=guard)).version == written + 1


@pytest.mark.parametrize(("guard", "written"), [(0, 1), (1, 0), (1, 2), (3, 2)])
def test_a_guard_refuses_any_other_with_the_version_that_is_there(talk: RoomDriver, guard: int, written: int) -> None:
    for _ in range(written):
        talk.remember(BEN, "deploy")
    with pytest.raises(Refused) as conflict:
        talk.remember(CAT, "deploy", if_version=guard)
    assert (conflict.value.code, conflict.value.details["current"]) == ("version_conflict", written)


def test_forgetting_a_key_takes_the_words_of_every_version_and_lets_nobody_write_an_old_one(talk: RoomDriver) -> None:
    talk.remember(BEN, "deploy")
    talk.remember(BEN, "deploy")
    places = tuple(header.position for header, _ in talk.posted()[-2:])
    decision = talk.run(c.PostMessage(kind="memory", memory=MemoryPart(key="deploy", forgets=True)), BEN)
    assert decision.erases == places
    with refused("no_such_fact"):
        talk.forget(BEN, "deploy")
    # A guard from before the forgetting never fits again, and nothing is under the key.
    with refused("version_conflict"):
        talk.remember(CAT, "deploy", if_version=2)
    assert note_of(talk.remember(CAT, "deploy", if_version=0)).version == 3


def test_only_who_wrote_every_version_or_the_owner_makes_the_room_forget(talk: RoomDriver) -> None:
    talk.remember(BEN, "deploy")
    talk.remember(CAT, "deploy")
    for who in (BEN, CAT, DAN):
        with refused("not_your_fact"):
            talk.forget(who, "deploy")
    with refused("no_such_room"):
        talk.forget(STRANGER, "deploy")
    assert note_of(talk.forget(OWNER, "deploy")).forgets


def test_what_has_no_key_is_forgotten_by_its_author_or_the_owner_and_nothing_else_is(talk: RoomDriver) -> None:
    fact, other, said = talk.remember(BEN), talk.remember(CAT), talk.post(BEN)
    with refused("not_your_fact"):
        talk.forget(DAN, id=fact.id)
    place = next(header.position for header, event in talk.posted() if event.id == fact.id)
    assert note_of(talk.forget(BEN, id=fact.id)).drops == (place,)
    assert note_of(talk.forget(OWNER, id=other.id)).forgets
    keyed = talk.remember(BEN, "deploy")
    for id in (said.id, keyed.id, talk.posted()[-2][1].id):
        with refused("no_such_fact"):
            talk.forget(BEN, id=id)
    with refused("no_such_message"):
        talk.forget(BEN, id=MessageId("m_none"))


def test_what_a_room_remembers_is_hidden_from_nobody(talk: RoomDriver) -> None:
    secret = talk.post(BEN, visible_to=("cat",))
    with refused("invalid_param"):
        talk.post(BEN, visible_to=("cat",), memory=MemoryPart(key="deploy"))
    with refused("invalid_param"):
        talk.forget(CAT, id=secret.id)


def test_a_closed_room_remembers_nothing_more(talk: RoomDriver) -> None:
    talk.close(OWNER)
    with refused("room_closed"):
        talk.remember(BEN, "deploy")


def test_the_words_of_the_oldest_version_go_when_there_are_too_many(talk: RoomDriver) -> None:
    for _ in range(MAX_VERSIONS):
        talk.remember(BEN, "deploy")
    oldest = talk.aggregate.state.memory.keys["deploy"].positions[0]
    decision = talk.run(c.PostMessage(kind="memory", memory=MemoryPart(key="deploy")), BEN)
    assert decision.erases == (oldest,)
    entry = talk.aggregate.state.memory.keys["deploy"]
    assert (entry.version, len(entry.positions)) == (MAX_VERSIONS + 1, MAX_VERSIONS)
    assert oldest not in entry.positions


def test_a_room_has_a_bounded_number_of_keys_and_any_number_of_facts_without_one(talk: RoomDriver) -> None:
    keys = talk.aggregate.state.memory.keys
    keys.update({f"k{n}": Entry(1, MessageId("m_x"), (Position(1),), (BEN.id,)) for n in range(MAX_KEYS)})
    with refused("memory_full"):
        talk.remember(BEN, "one-more")
    assert note_of(talk.remember(BEN, "k7")).version == 2
    talk.remember(BEN)


# -- against a small model ---------------------------------------------------------------------------------


@dataclass
class Slow:
    """A room's memory as one would write it down: for each key its living versions, and how often it was written."""

    written: dict[str, int] = field(default_factory=dict)
    living: dict[str, list[tuple[AgentId, Position]]] = field(default_factory=dict)

    def remember(self, who: Agent, key: str, guard: int | None) -> int | str:
        current = self.written.get(key, 0) if self.living.get(key) else 0
        if guard is not None and guard != current:
            return "version_conflict"
        self.written[key] = self.written.get(key, 0) + 1
        return self.written[key]

    def forget(self, who: Agent, key: str) -> list[Position] | str:
        living = self.living.get(key, [])
        if not living:
            return "no_such_fact"
        if who != OWNER and any(author != who.id for author, _ in living):
            return "not_your_fact"
        self.living[key] = []
        return [place for _, place in living]


AGENTS = st.sampled_from([OWNER, BEN, CAT])
KEYS = st.sampled_from(["deploy", "login"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("remember"), AGENTS, KEYS, st.none() | st.integers(0, 4)),
        st.tuples(st.just("forget"), AGENTS, KEYS, st.none()),
        st.tuples(st.just("say"), AGENTS, KEYS, st.none()),
    ),
    max_size=24,
)


@given(STEPS)
def test_keys_versions_and_rights_are_those_of_a_plain_list(steps: list[tuple[str, Agent, str, int | None]]) -> None:
    room, slow = opened(approval=False), Slow()
    room.admit(BEN, CAT)
    for what, who, key, guard in steps:
        if what == "say":
            room.post(who)
            continue
        expected = slow.remember(who, key, guard) if what == "remember" else slow.forget(who, key)
        part = MemoryPart(key=key, if_version=guard, forgets=what == "forget")
        if isinstance(expected, str):
            with refused(expected):
                room.run(c.PostMessage(kind="memory", memory=part), who)
            continue
        decision = room.run(c.PostMessage(kind="memory", memory=part), who)
        (event,) = decision.events
        assert isinstance(event, e.MessagePosted)
        if what == "remember":
            assert note_of(event).version == expected
            slow.living.setdefault(key, []).append((who.id, room.log[-1].position))
        else:
            assert list(decision.erases) == expected
    state = room.aggregate.state.memory
    assert {key: entry.version for key, entry in state.keys.items()} == slow.written
    for key, entry in state.keys.items():
        assert list(entry.positions) == [place for _, place in slow.living.get(key, [])]
    again = type(room.aggregate).restore(room.aggregate.snapshot())
    assert again.state.memory == state
