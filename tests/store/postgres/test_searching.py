"""The index of what rooms remember: by whole terms, by how they begin, and by no term of another room."""

from __future__ import annotations

import pytest

from parlerd.core.model import Millis, Position
from parlerd.core.recall import MAX_BEGINNING, Term, asked, parse
from parlerd.store.port import BuryRoom, EraseBodies
from parlerd.store.postgres import PostgresStore, searching
from parlerd.store.postgres.searching import asked_for
from tests.support.facts import OTHER, ROOM, append, forgetting, opened, remembering


@pytest.fixture(params=[2, 1_000], autouse=True)
def _looked_through(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the index, and without it where a room remembers little."""
    monkeypatch.setattr(searching, "LOOKED_THROUGH", request.param)


def found(store: PostgresStore, query: str, *, after: int = 0, before: int = 99, limit: int = 9) -> list[int]:
    terms = asked(parse(query).words)
    assert terms
    remembered = store.remembered(ROOM, terms, Position(after), Position(before), limit)
    return [each.header.position for each in remembered]


def fill(store: PostgresStore) -> None:
    texts = ["blue-green deployment", "the green door", "a blue door", "Bluebell", "später 東京"]
    store.transact(
        [
            [append(opened(), *(remembering(place, text) for place, text in enumerate(texts, 2)))],
            [append(opened(OTHER), remembering(2, "the green door elsewhere", room=OTHER), room=OTHER)],
        ]
    )


def test_texts_are_found_by_terms_pairs_and_beginnings_between_two_places(store: PostgresStore) -> None:
    fill(store)
    assert found(store, "green") == [3, 2]
    assert found(store, "blue-green") == [2]
    assert found(store, "blue*") == [5, 4, 2]
    assert found(store, "blueb*") == [5, 4, 2], "a beginning has four letters for an index"
    assert found(store, "door green") == [3]
    assert found(store, "東") == [6]
    assert found(store, "blue*", after=2, before=5) == [4]
    assert found(store, "blue*", limit=1) == [5]
    assert found(store, "elsewhere") == []


def test_a_beginning_is_no_term_and_a_term_no_beginning() -> None:
    assert asked_for([Term("blue"), Term("blue", is_beginning=True)])[0] == "blue"
    assert len(set(asked_for([Term("blue"), Term("blue", is_beginning=True)]))) == 2


def test_a_row_has_its_terms_and_how_they_begin_each_once(store: PostgresStore) -> None:
    store.transact([[append(opened(), remembering(2, "blue blue bluebells"))]])
    ((terms,),) = store._server.rows("SELECT terms FROM remembered")
    whole = [term for term in terms if term[0].isalnum()]
    assert sorted(whole) == ["blue", "bluebells"]
    assert sorted(term[1:] for term in terms if not term[0].isalnum()) == ["bl", "blu", "blue"]
    assert len(max((term[1:] for term in terms if not term[0].isalnum()), key=len)) == MAX_BEGINNING


def test_nothing_leads_to_what_was_replaced_forgotten_erased_or_deleted(store: PostgresStore) -> None:
    def rows() -> list[tuple[str, int]]:
        return store._server.rows("SELECT room, position FROM remembered ORDER BY room, position")

    fill(store)
    one = remembering(7, "green again", version=2, drops=(3,))
    (outcome,) = store.transact([[append(one, forgetting(8, (2,)), remembering(9, "red"), forgetting(10, (9,)))]])
    assert outcome.error is None
    assert found(store, "green") == [7]
    store.transact([[EraseBodies(ROOM, [Position(7), Position(4)])]])
    assert found(store, "green") == []
    assert [place for room, place in rows() if room == ROOM] == [5, 6]
    store.transact([[BuryRoom(ROOM, Millis(9))]])
    assert found(store, "blue*") == []


def test_the_index_made_anew_is_the_one_that_was(store: PostgresStore) -> None:
    fill(store)
    query = "SELECT room, position, terms FROM remembered ORDER BY room, position"
    before = store._server.rows(query)
    assert len(before) == 6
    store.rebuild_index()
    assert store._server.rows(query) == before
