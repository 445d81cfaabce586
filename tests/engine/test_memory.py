"""Remembering, recalling and forgetting, as the engine answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest

from parlerd.core.model import AgentId, Position, RoomId, View
from parlerd.core.recall import Term, parse
from parlerd.core.rewinds import RewindsState
from parlerd.engine import recalling
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import BLOCKS, Remembered, Store
from tests.support.engine import Party, engine_world, run
from tests.support.facts import ROOM, append, opened, remembering


async def remember(who: Party, text: str, key: str | None = None, *, private: bool = False) -> t.Fact:
    kept = await who.ask("memory.remember", t.Remember(text=text, key=key, private=private), t.Remembered)
    return kept.facts[0]


async def recall(who: Party, query: str, *, limit: int = 10, max_bytes: int = 4096) -> t.Recalled:
    params = t.Recall(query=query, limit=limit, max_bytes=max_bytes)
    return await who.ask("memory.recall", params, t.Recalled)


async def found(who: Party, query: str) -> list[str]:
    return [fact.text for fact in (await recall(who, query)).facts]


def test_the_exact_key_comes_first_and_then_what_has_the_words_the_newest_first() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await remember(alice, "rolling", "deploy")
            await remember(alice, "deploy on Friday")
            await remember(bob, "deploy on Monday")
            answer = await recall(alice, "deploy")
            assert [fact.text for fact in answer.facts] == ["rolling", "deploy on Monday", "deploy on Friday"]
            scores = [fact.score for fact in answer.facts]
            assert scores == sorted(scores, reverse=True)
            assert (answer.more, answer.partly, answer.cut, answer.notice) == (0, False, False, "")

    run(main)


def test_where_no_fact_has_every_word_those_with_some_are_found_and_rare_words_count_more() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await remember(alice, "the strategy is blue-green")
            for day in ("Monday", "Tuesday", "Friday"):
                await remember(alice, f"the meeting is on {day}")
            answer = await recall(alice, "the strategy canary")
            assert answer.partly
            assert answer.facts[0].text == "the strategy is blue-green"
            assert await found(alice, "canary") == []

    run(main)


@pytest.mark.parametrize(
    "hostile",
    ['"', "AND", "a OR b", "text:blue", "blue*green*", "(blue", "NEAR(blue green)", "^", "\0", "\0blue", "* ->",
     "'; DROP TABLE facts; --", "%", "_", "\u202e", "x" * 200_000, "w " * 50_000, "\ud7ff", "🦈", "{a b}:c", "-blue"],
)  # fmt: skip
def test_no_query_is_an_error_but_an_empty_one(hostile: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await remember(alice, "blue-green")
            if hostile.strip("\0 "):
                await recall(alice, hostile)
            else:
                assert (await alice.refused("memory.recall", t.Recall(query=hostile))).code == "invalid_param"

    run(main)


def test_signs_alone_are_found_too() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await remember(alice, "map a -> b")
            await remember(alice, "100% sure *")
            assert await found(alice, "->") == ["map a -> b"]
            assert await found(alice, "a -> b") == ["map a -> b"]
            assert await found(alice, "%") == await found(alice, "*") == ["100% sure *"]

    run(main)


def test_an_answer_stays_within_its_bytes_and_says_how_many_more_there_are() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            for n in range(5):
                await remember(alice, f"blue {n} " + "x" * 2000)
            answer = await recall(alice, "blue", max_bytes=4096)
            assert (len(answer.facts), answer.more) == (2, 3)
            answer = await recall(alice, "blue", limit=1)
            assert (len(answer.facts), answer.more) == (1, 4)
            await remember(alice, "green " + "x" * 9000)
            answer = await recall(alice, "green", max_bytes=1024)
            assert (len(answer.facts), answer.more) == (1, 0)

    run(main)


def test_of_very_many_facts_the_newest_are_looked_through_and_the_answer_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recalling, "PAGE", 2)
    monkeypatch.setattr(recalling, "KEPT", 3)
    monkeypatch.setattr(recalling, "MAX_PLAIN", 4)

    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            for n in range(6):
                await remember(alice, f"blue {n}" + (" ->" if n == 0 else ""))
            answer = await recall(alice, "blue")
            assert answer.cut
            assert [fact.text for fact in answer.facts] == ["blue 5", "blue 4", "blue 3"]
            answer = await recall(alice, "->")
            assert (answer.facts, answer.cut) == ([], True)

    run(main)


def test_who_came_later_finds_only_what_the_policy_shows_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("auth redesign", history="from-join")
            await remember(alice, "before he came", "early")
            await served.admit(opened, bob)
            await remember(alice, "since he came", "late")
            assert await found(bob, "came") == ["since he came"]
            assert await found(bob, "early") == []
            assert await found(alice, "came") == ["since he came", "before he came"]
            for what in (t.Forget(key="early"), t.Forget(id="m_none")):
                assert (await bob.refused("memory.forget", what)).code in ("not_your_fact", "no_such_fact")

    run(main)


def test_what_is_hidden_from_a_reader_changes_nothing_of_what_it_is_told() -> None:
    async def told(hidden: int) -> list[object]:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("auth redesign", history="from-join")
            for n in range(hidden):
                await remember(alice, f"blue blue green {n}")
            await served.admit(opened, bob)
            await remember(alice, "green and blue")
            await remember(alice, "blue")
            facts = (await recall(bob, "blue green")).facts + (await recall(bob, "green red")).facts
            return [(fact.key, fact.text, fact.version, fact.score) for fact in facts]

    assert run(lambda: told(0)) == run(lambda: told(30))


def test_an_outsider_and_one_who_left_find_nothing_and_learn_nothing() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            eve = await served.agent("eve")
            fact = await remember(alice, "blue-green", "deploy")
            await bob.close()
            for who in (bob, eve):
                assert await found(who, "blue") == []
                for op, params in (
                    ("memory.recall", t.Recall(query="blue", room=fact.room)),
                    ("memory.remember", t.Remember(text="x", room=fact.room)),
                    ("memory.forget", t.Forget(key="deploy", room=fact.room)),
                ):
                    assert (await who.refused(op, params)).code == "no_such_room"
                assert (await who.refused("memory.forget", t.Forget(id=fact.id))).code == "no_such_fact"

    run(main)


def test_private_memory_is_the_agents_own_and_on_no_list() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            fact = await remember(alice, "my own", "note")
            again = await remember(alice, "my own too", "note")
            assert (fact.version, again.version) == (1, 2)
            assert await alice.rooms() == await bob.rooms() == []
            assert (await bob.refused("memory.forget", t.Forget(id=again.id))).code == "no_such_fact"
            assert await found(bob, "own") == []
            for wrong in (t.Remember(text="x", room="r", private=True), t.Remember(text="x", if_version=0)):
                assert (await alice.refused("memory.remember", wrong)).code == "invalid_param"
            person = await served.person()
            assert await person.requests() == []
            assert (await person.refused("memory.forget", t.Forget(key="none"))).code == "no_such_fact"

    run(main)


@pytest.mark.parametrize(
    "wrong",
    [
        t.Remember(text="x", key="two words"),
        t.Remember(text="x", key=""),
        t.Remember(text="x", key="ключ"),
        t.Remember(text="x", key="k" * 65),
    ],
)
def test_a_key_is_a_label(wrong: t.Remember) -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            error = await alice.refused("memory.remember", wrong)
            assert (error.code, error.details["param"]) == ("invalid_param", "key")

    run(main)


def test_a_fact_that_is_too_long_is_an_error_that_names_the_limit() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            error = await alice.refused("memory.remember", t.Remember(text="x" * (256 * 1024 + 1)))
            assert (error.code, error.details["limit"]) == ("text_too_long", 256 * 1024)

    run(main)


def test_facts_are_lines_among_the_messages_and_wake_nobody() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await bob.commit(await bob.recv())
            await remember(alice, "blue-green", "deploy")
            await alice.ask("memory.forget", t.Forget(key="deploy"), t.Forgotten)
            page = await bob.recv()
            assert [(each.text, each.memory) for each in page.messages] == [
                ("[This was forgotten.]", t.MemoryMark(key="deploy", version=1)),
                ("", t.MemoryMark(key="deploy", version=1, forgets=True)),
            ]
            assert [each.verified for each in page.messages] == ["valid", "valid"]

    run(main)


class _Counted:
    """A store that says how many rows it was asked for, and how many positions lay in the blocks with several terms."""

    def __init__(self, store: Store) -> None:
        self.rows = 0
        self.asked: list[tuple[int, int, int]] = []
        """How many terms, and between which positions."""
        self._store = store

    def remembered(
        self, room: RoomId, terms: Sequence[Term], after: Position, before: Position, limit: int
    ) -> list[Remembered]:
        found = self._store.remembered(room, terms, after, before, limit)
        self.rows += len(found)
        self.asked.append((len(terms), after, before))
        return found

    def newest_unindexed(self, room: RoomId) -> Position:
        return Position(0)


FACTS = 400


def _counted(query: str) -> tuple[_Counted, recalling.Found]:
    """A search through a room of `FACTS` facts, the clock of which stands still."""
    full = MemoryStore()
    made = [remembering(n, f"blue-green {n}{' ~' if n == 2 else ''}") for n in range(2, FACTS + 2)]
    (outcome,) = full.transact([[append(opened(), *made)]])
    assert outcome.error is None
    store = _Counted(full)
    view = View(AgentId("U"), ((Position(0), None),))
    place = recalling.Place(ROOM, Position(FACTS + 1), view, RewindsState(), None)
    return store, recalling.search(cast(Store, store), [place], parse(query), lambda: 0.0)


def test_of_facts_with_a_common_word_so_many_are_read_and_compared_and_no_more() -> None:
    store, answer = _counted("blue-green")
    assert (store.rows, len(answer.hits), answer.cut) == (recalling.KEPT, recalling.KEPT, True)
    assert max(hit.candidate.position for hit in answer.hits) == FACTS + 1
    # Of several terms one row each says that the term occurs at all.
    for query, more in (("gre*", 0), ("blue green", 2), ("blue gree*", 2)):
        store, answer = _counted(query)
        assert (store.rows, len(answer.hits), answer.cut) == (recalling.KEPT + more, recalling.KEPT, True)


def test_facts_that_only_look_alike_are_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalling, "MAX_ROWS", 200)
    monkeypatch.setattr(recalling, "MAX_PLAIN", 300)
    # The index knows no signs: every fact has its terms, and none its words.
    store, answer = _counted("blue+green")
    assert (store.rows, answer.hits, answer.cut) == (200, [], True)
    store, answer = _counted("~")
    assert (store.rows, answer.hits, answer.cut) == (300, [], True)


def test_several_words_are_looked_for_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalling, "BLOCKS", (4, 6))
    store, answer = _counted("blue 2 ~")
    assert [hit.candidate.words.text for hit in answer.hits] == ["blue-green 2 ~"]
    assert not answer.cut
    spans = [(after + 1, before - 1) for terms, after, before in store.asked if terms > 1]
    # Whole and without a gap, and each within one block.
    assert [first - 1 for first, _ in spans] == [last for _, last in spans[1:]] + [0]
    assert all(first >> 6 == last >> 6 for first, last in spans)
    # A narrow one and, because it took no time, wide ones.
    assert spans[:2] == [(FACTS, FACTS + 1), (FACTS - FACTS % 2**6, FACTS - 1)]
    assert len(spans) == 2 + FACTS // 2**6
    # Where a word is nowhere no block is looked through for all of them, and one word needs no blocks.
    store, answer = _counted("blue nowhere")
    assert max(terms for terms, _, _ in store.asked) == 1
    assert len(answer.hits) == recalling.KEPT
    store, _ = _counted("201")
    assert store.asked == [(1, 0, FACTS + 2)]


class _Barren:
    """A store in which many facts have each of the words, and none has all of them: every position costs time."""

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self.windows: list[int] = []
        """How many positions were looked through at once."""
        self._seconds = seconds

    def clock(self) -> float:
        return self.now

    def remembered(
        self, room: RoomId, terms: Sequence[Term], after: Position, before: Position, limit: int
    ) -> list[Remembered]:
        if len(terms) == 1:
            return [cast(Remembered, None)] if limit == 1 else []
        assert any((after + 1) >> bits == (before - 1) >> bits for bits in BLOCKS)
        self.windows.append(before - after - 1)
        self.now += self._seconds * (before - after - 1)
        return []

    def newest_unindexed(self, room: RoomId) -> Position:
        return Position(0)


@pytest.mark.parametrize(("seconds", "whole"), [(1e-7, False), (2e-6, False), (1e-9, True)])
def test_a_search_for_words_that_never_stand_together_ends_in_time_whatever_the_pace(
    seconds: float, whole: bool
) -> None:
    facts = 1_000_000
    store = _Barren(seconds)
    place = recalling.Place(RoomId("r_1"), Position(facts), View(AgentId("U"), ((0, None),)), RewindsState(), None)
    answer = recalling.search(cast(Store, store), [place], parse("blue green"), store.clock)
    assert (answer.hits, answer.cut) == ([], not whole)
    assert store.now <= 1.5 * recalling.SECONDS + 2 ** BLOCKS[0] * seconds
    assert (sum(store.windows) == facts) is whole
    assert sum(store.windows) >= min(facts, 0.9 * recalling.SECONDS / seconds)
    if not whole:
        # As many in a room of ten times the facts.
        larger = _Barren(seconds)
        place = replace(place, head=Position(10 * facts))
        recalling.search(cast(Store, larger), [place], parse("blue green"), larger.clock)
        assert sum(larger.windows) <= sum(store.windows) + 2 * 2 ** BLOCKS[-1]


def test_while_facts_are_in_no_index_yet_the_answer_says_that_only_the_newest_were_looked_through() -> None:
    class Half(_Counted):
        def newest_unindexed(self, room: RoomId) -> Position:
            return Position(9)

    full = MemoryStore()
    (outcome,) = full.transact([[append(opened(), remembering(2, "blue"))]])
    assert outcome.error is None

    def cut(begin: int, query: str) -> bool:
        view = View(AgentId("U"), ((Position(begin), None),))
        place = recalling.Place(ROOM, Position(12), view, RewindsState(), None)
        return recalling.search(cast(Store, Half(full)), [place], parse(query), lambda: 0.0).cut

    assert cut(0, "blue")
    # No index is asked for signs, and what is not for this reader changes nothing for it.
    assert not cut(0, "->")
    assert not cut(9, "blue")
