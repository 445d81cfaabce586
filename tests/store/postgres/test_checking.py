"""What is wrong with the tables is said, and a damaged index is made anew when the store is opened next."""

from __future__ import annotations

import logging
from contextlib import closing

import psycopg
import pytest

from parlerd.core.errors import StoreError
from parlerd.core.model import Position
from parlerd.store.port import EraseBodies, PutSnapshot
from parlerd.store.postgres import PostgresStore
from tests.support.facts import ANN, BEN, ROOM, append, everything, message, opened, remembering
from tests.support.postgres import Database


@pytest.fixture(autouse=True)
def _filled(store: PostgresStore) -> None:
    facts = [opened(), message(2), message(3, BEN), message(4, visible_to=(ANN, BEN)), remembering(5, "words")]
    store.transact([[append(*facts), PutSnapshot(ROOM, 1, Position(5), b"data"), EraseBodies(ROOM, [Position(3)])]])


def change(database: Database, statement: str) -> None:
    """Change a table as nobody may."""
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("DELETE FROM heads", "Room r_one has facts, and neither a head nor a tombstone."),
        ("UPDATE heads SET position = 4", "Room r_one has a head that is not its last fact."),
        ("UPDATE heads SET chain = sha256('')", "Room r_one has a head that is not its last fact."),
        ("DELETE FROM facts WHERE position = 2", "Room r_one has 4 facts and its last is number 5: some are missing."),
        ("UPDATE facts SET v = 99 WHERE position = 2", "Room r_one holds facts of type message_posted, version 99, "),
        ("INSERT INTO bodies VALUES ('r_one', 9, 'b', NULL)", "Room r_one has a body at 9 without its fact."),
        ("INSERT INTO erased_bodies VALUES ('r_one', 4)", "Room r_one has a body at 4 that was erased."),
        ("UPDATE snapshots SET data = 'other'", "The snapshot of room r_one is not what was stored"),
    ],
)
def test_what_is_wrong_with_the_record_is_said(
    store: PostgresStore, prepared: Database, statement: str, sentence: str
) -> None:
    assert store.check() == []
    change(prepared, statement)
    assert [found for found in store.check() if found.startswith(sentence)]


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("DELETE FROM bodies WHERE position = 5", "Room r_one remembers a message at 5 that has no words."),
        (
            "UPDATE public_messages SET number = 9 WHERE position = 3",
            "Room r_one counts its public messages wrongly at 3.",
        ),
        (
            "UPDATE public_messages SET own = 9 WHERE position = 3",
            "Room r_one counts its public messages wrongly at 3.",
        ),
        ("UPDATE private_messages SET own = 9", "Room r_one counts its private messages wrongly at 4."),
        ("DELETE FROM filtered_messages WHERE position = 2", "Room r_one has 3 public messages and 2 by kind."),
        ("DELETE FROM messages WHERE position = 2", "Room r_one has 4 messages and 3 in the index."),
        ("UPDATE public_messages SET line = sha256('') WHERE position = 3", "Room r_one has a wrong public line at 3."),
    ],
)
def test_what_is_wrong_with_the_index_is_said_and_put_right_when_the_store_is_opened_next(
    store: PostgresStore, prepared: Database, statement: str, sentence: str
) -> None:
    change(prepared, statement)
    assert sentence in store.check()
    with closing(PostgresStore(prepared.relay)) as again:
        assert again.check() == []
        assert again._server.rows("SELECT 1 FROM meta WHERE key = 'remake_index'") == []


def test_a_page_that_would_leave_a_message_out_is_an_error_and_nothing_more_is_written(
    store: PostgresStore, prepared: Database
) -> None:
    change(prepared, "DELETE FROM public_messages WHERE position = 2")
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            store.page(ROOM, everything(BEN), Position(0), limit=9, max_bytes=9_999, skip_own=False)
        assert caught.value.code == "store_corrupt"
    with pytest.raises(StoreError) as caught:
        store.transact([[append(message(6))]])
    assert caught.value.code == "store_corrupt"
    with closing(PostgresStore(prepared.relay)) as again:
        page = again.page(ROOM, everything(BEN), Position(0), limit=9, max_bytes=9_999, skip_own=False)
        assert [found.header.position for found in page.messages] == [2, 3, 4, 5]
        (outcome,) = again.transact([[append(message(6))]])
        assert outcome.error is None


@pytest.mark.parametrize(
    "statement", ["UPDATE facts SET salt = digest WHERE false", "DELETE FROM facts WHERE position = 2"]
)
def test_an_index_is_not_made_anew_from_facts_that_are_damaged(
    store: PostgresStore, prepared: Database, caplog: pytest.LogCaptureFixture, statement: str
) -> None:
    change(prepared, "UPDATE public_messages SET number = 9 WHERE position = 3")
    change(prepared, statement)
    store.check()
    caplog.set_level(logging.INFO)
    with closing(PostgresStore(prepared.relay)) as again:
        is_whole = "false" in statement
        assert (again.check() == []) is is_whole
        assert ("has been remade" in caplog.text) is is_whole
        assert ("so are the facts" in caplog.text) is not is_whole
