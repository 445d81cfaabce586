"""A room that was deleted leaves nothing in any table, and takes nothing of another room along."""

from __future__ import annotations

from parlerd.core import events as e
from parlerd.core.model import HomeId, MessageId, Millis, Position
from parlerd.store.port import (
    BuryRoom,
    ClearRoom,
    EraseBodies,
    MarkDelivery,
    MoveCursor,
    OutboxRow,
    PutOutbox,
    PutRenewal,
    PutSight,
    PutSnapshot,
    Write,
)
from parlerd.store.postgres import PostgresStore
from tests.support.facts import ANN, BEN, OTHER, ROOM, append, fact, joined, message, minted, opened, remembering

KEPT = {"tombstones"}
"""The tables in which a deleted room stays."""


def fill(store: PostgresStore) -> None:
    for room in (ROOM, OTHER):
        stated = e.StateWritten(scope="_shared", key="k", version=1, text=b"1")
        facts = [
            opened(room),
            joined(2, ANN),
            minted(3, f"key-{room}"),
            message(4, room=room, key="k", input=b"i"),
            message(5, BEN, room=room, visible_to=(ANN,)),
            remembering(6, "words", room=room),
            fact(7, stated),
        ]
        row = OutboxRow(MessageId(f"m_{room}"), HomeId("N"), room, ANN, "k", Millis(1), b"request")
        writes: list[Write] = [
            append(*facts, room=room, own_lines=True),
            EraseBodies(room, [Position(4)]),
            MoveCursor(room, BEN, Position(3)),
            MarkDelivery(room, BEN, "read", Position(4), Millis(1)),
            PutOutbox(row),
            PutRenewal(room, MessageId("m_t"), Position(1), Millis(9)),
            PutSight(room, BEN, Position(4), "cut", "too_long", "claude", Millis(9)),
            PutSnapshot(room, 1, Position(7), b"data"),
        ]
        (outcome,) = store.transact([writes])
        assert outcome.error is None


def rows(store: PostgresStore) -> dict[str, dict[str, int]]:
    """How many rows each table has of each of the two rooms."""
    tables = store._server.rows(
        "SELECT table_name FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND column_name = 'room'"
    )
    return {
        room: {
            table: count
            for (table,) in tables
            if (count := store._server.row(f"SELECT count(*) FROM {table} WHERE room = %s", (room,))[0])
        }
        for room in (ROOM, OTHER)
    }


def test_nothing_is_left_of_a_deleted_room_and_everything_of_the_other(store: PostgresStore) -> None:
    fill(store)
    before = rows(store)
    # Each table that names a room has a row of both, so none is forgotten below.
    assert (
        before[ROOM].keys()
        == before[OTHER].keys()
        >= {"facts", "bodies", "own_lines", "erased_bodies", "renewals", "sights"}
    )
    store.transact([[BuryRoom(ROOM, Millis(7))]])
    steps = 0
    while store.uncleared():
        assert store.uncleared() == [ROOM]
        (outcome,) = store.transact([[ClearRoom(ROOM, 2)]])
        assert outcome.error is None
        assert store.check() == []
        steps += 1
    assert steps > 3
    after = rows(store)
    assert after[ROOM].keys() == KEPT
    assert after[OTHER] == before[OTHER]
    store.transact([[ClearRoom(ROOM, 2)]])
    store.transact([[ClearRoom(OTHER, 2)]])
    assert rows(store)[OTHER] == before[OTHER], "a room that is there is not cleared"


def test_a_step_takes_no_more_than_it_was_told(store: PostgresStore) -> None:
    fill(store)
    store.transact([[BuryRoom(ROOM, Millis(7))]])
    left = [7]
    while left[-1] > 1:
        store.transact([[ClearRoom(ROOM, 2)]])
        left.append(rows(store)[ROOM]["facts"])
    assert left == [7, 5, 3, 1]
    # The first fact stays until the marks of readers and all else is gone.
    assert rows(store)[ROOM].keys() > {"facts", "cursors", "deliveries", "outbox", "renewals", "sights"}


def test_what_a_relay_may_not_take_away_holds_up_no_step(store: PostgresStore) -> None:
    """Tokens stand in the home's own room, which nobody can delete. Were such facts in another, they would stay."""
    minting = e.TokenMinted(
        token="tk_a",
        digest=bytes(32),
        agent=ANN,
        room=ROOM,
        access=("read",),
        expires_at=Millis(9),
    )
    facts = [opened(), fact(2, minting), fact(3, e.TokenRevoked(token="tk_a"))]
    store.transact([[append(*facts)], [BuryRoom(ROOM, Millis(7))]])
    while store.uncleared():
        (outcome,) = store.transact([[ClearRoom(ROOM, 2)]])
        assert outcome.error is None
    assert store._server.rows("SELECT token FROM revoked_tokens JOIN tokens USING (token)") == [("tk_a",)]
