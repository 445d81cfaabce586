"""The newest facts in memory: whatever they answer is what the store answers, and what they do not know they leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core import events as e
from parlerd.core.membership import newest_number, view_of
from parlerd.core.model import AgentId, History, Position, Seq
from parlerd.core.room import Room
from parlerd.engine import recent as recent_module
from parlerd.engine.recent import Recent
from parlerd.store.memory import MemoryStore
from parlerd.store.port import NewFact
from tests.support import facts as f

READERS = (f.ANN, f.BEN, f.CAT)
Step = tuple[str, AgentId, tuple[AgentId, ...] | None, int]


def steps() -> st.SearchStrategy[list[list[Step]]]:
    """Commits: messages of several authors, some private, comings and goings between them, and places where a mirror
    leaves messages out."""
    agent = st.sampled_from(READERS)
    readers = st.none() | st.lists(agent, min_size=1, max_size=3, unique=True).map(tuple)
    acts = st.sampled_from(("say", "say", "say", "leave", "join", "jump"))
    step = st.tuples(acts, agent, readers, st.integers(0, 40))
    return st.lists(st.lists(step, min_size=1, max_size=4), min_size=1, max_size=12)


class Played:
    """A room whose commits went to a store and into memory."""

    def __init__(self, history: History = "full") -> None:
        self.store, self.room, self.recent = MemoryStore(), Room(), Recent()
        self.commit([f.opened(history=history), f.joined(2, f.ANN)])

    def commit(self, facts: Sequence[NewFact]) -> None:
        (outcome,) = self.store.transact([[f.append(*facts)]])
        assert outcome.error is None
        for fact in facts:
            self.room.apply(fact.header)
        self.recent.add(facts, outcome.heads[f.ROOM])

    def play(self, commit: Sequence[Step]) -> None:
        facts: list[NewFact] = []
        if any(what == "jump" for what, *_ in commit):
            # A fact of its own: how far the numbers of the room go is known between two commits.
            public = newest_number(self.room.state.membership) + commit[0][3]
            before = tuple(
                (agent, self.room.newest_seq(agent) + commit[0][3])
                for agent, member in self.room.state.members.items()
                if member.present and agent != commit[0][1]
            )
            placed = e.MirrorPlaced(public=public, line=bytes(32), before=before)
            self.commit([f.fact(self.room.position + 1, placed)])
            return
        present = {agent: member.present for agent, member in self.room.state.members.items()}
        for what, agent, readers, size in commit:
            position = self.room.position + len(facts) + 1
            inside = present.get(agent, False)
            if what == "join" and not inside:
                facts.append(f.joined(position, agent))
                present[agent] = True
            elif what == "leave" and inside and agent != f.ANN:
                facts.append(f.left(position, agent))
                present[agent] = False
            elif what == "say" and inside:
                known = readers and tuple(sorted({agent, *(r for r in readers if present.get(r))}))
                role = "dev" * (size % 2)
                facts.append(f.message(position, agent, visible_to=known or None, body=b"x" * size, role=role))
        if facts:
            self.commit(facts)


@given(
    steps(),
    st.integers(0, 40),
    st.sampled_from((1, 2, 5, 100)),
    st.sampled_from((1, 30, 10_000)),
    st.booleans(),
    st.sampled_from((None, "note", "other")),
    st.sampled_from(((), e.names_of(f.BEN, "dev"))),
    st.sampled_from((3, 128)),
    st.sampled_from(get_args(History)),
)
def test_what_memory_answers_is_what_the_store_answers(
    commits: list[list[Step]],
    after: int,
    limit: int,
    max_bytes: int,
    skip_own: bool,
    kind: str | None,
    names: tuple[str, ...],
    kept: int,
    history: History,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recent_module, "MAX_FACTS", kept)
        played = Played(history)
        for commit in commits:
            played.play(commit)
    at = Position(after)
    for member in played.room.state.members.values():
        # Of one who has left as well: what it may see has ended, while the room goes on.
        view = view_of(member)
        how: dict[str, Any] = {
            "limit": limit,
            "max_bytes": max_bytes,
            "skip_own": skip_own,
            "kind": kind,
            "names": names,
        }
        page = played.recent.page(played.room, view, at, **how)
        if page is not None:
            stored = played.store.page(f.ROOM, view, at, **how)
            assert page == stored
        unread = played.recent.unread(played.room, view, at)
        assert unread is None or unread == played.store.unread(f.ROOM, view, at)
        seq = played.recent.seq_at(played.room, view, at)
        assert seq is None or seq == played.store.seq_at(f.ROOM, view, at)


def page_of(played: Played, after: int, limit: int = 100) -> list[int] | None:
    view = played.room.view(f.ANN)
    page = played.recent.page(
        played.room, view, Position(after), limit=limit, max_bytes=10_000, skip_own=False, kind=None
    )
    return None if page is None else [message.header.position for message in page.messages]


def test_the_newest_messages_come_from_memory() -> None:
    played = Played()
    played.commit([f.message(3, body=b"one"), f.message(4, body=b"two")])
    assert page_of(played, 2) == [3, 4]
    assert page_of(played, 3) == [4]
    assert played.recent.unread(played.room, played.room.view(f.ANN), Position(2)) == 0
    assert played.recent.seq_at(played.room, played.room.view(f.ANN), Position(3)) == Seq(1)


def test_what_is_older_than_memory_is_left_to_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_module, "MAX_FACTS", 2)
    played = Played()
    played.commit([f.message(n, body=b"x") for n in range(3, 8)])
    assert page_of(played, 5) == [6, 7]
    assert page_of(played, 4) is None


def test_bodies_are_kept_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_module, "MAX_BYTES", 10)
    played = Played()
    played.commit([f.message(3, body=b"x" * 6), f.message(4, body=b"x" * 6)])
    assert page_of(played, 3) == [4]
    assert page_of(played, 2) is None
    played.commit([f.message(5, body=b"x" * 11)])
    assert page_of(played, 4) is None
    played.commit([f.message(6, body=b"x")])
    assert page_of(played, 5) == [6]


def test_a_page_past_the_limit_is_left_to_the_store() -> None:
    played = Played()
    played.commit([f.message(3, body=b"one"), f.message(4, body=b"two")])
    assert page_of(played, 2, limit=1) is None


def test_of_one_who_left_a_room_without_history_nothing_is_known() -> None:
    played = Played("none")
    played.commit([f.joined(3, f.BEN), f.message(4), f.left(5, f.BEN), f.message(6)])
    view = view_of(played.room.state.members[f.BEN])
    assert played.store.seq_at(f.ROOM, view, Position(6)) == 1
    assert played.recent.seq_at(played.room, view, Position(6)) is None
    assert played.recent.unread(played.room, view, Position(3)) is None


def test_memory_that_runs_ahead_of_what_was_committed_answers_nothing() -> None:
    played = Played()
    played.commit([f.message(3, body=b"one")])
    played.room.apply(f.message(4, body=b"not committed").header)
    assert page_of(played, 2) is None
    assert played.recent.unread(played.room, played.room.view(f.ANN), Position(2)) is None


def test_after_a_gap_only_what_follows_it_is_known() -> None:
    played = Played()
    played.commit([f.message(3, body=b"one")])
    kept, played.recent = played.recent, Recent()
    played.commit([f.message(4, body=b"two")])
    head = played.store.head(f.ROOM)
    played.recent = kept
    played.commit([f.message(5, body=b"three")])
    assert head.position == 4
    assert page_of(played, 4) == [5]
    assert page_of(played, 2) is None


def test_what_was_forgotten_is_not_known() -> None:
    played = Played()
    played.commit([f.message(3, body=b"one")])
    played.recent.clear()
    assert page_of(played, 2) is None
