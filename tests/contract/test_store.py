"""What every store does. One suite over all of them; a model test compares reading with a slow, obvious answer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core import events as e
from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.events import brought, names_of
from parlerd.core.model import (
    AgentId,
    BlobId,
    HomeId,
    KeyId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    Prior,
    RoomId,
    Seq,
    Sighted,
    Stage,
    View,
    drawn_key,
)
from parlerd.core.public_line import first_number, line_after_rewind, next_line
from parlerd.core.recall import asked, parse, words_of
from parlerd.core.receipts import EVERYBODY, MYSELF, FactRef, Numbered, fact_id, first_line
from parlerd.core.receipts import next_line as next_line_of_own
from parlerd.store.memory import MemoryStore
from parlerd.store.port import (
    Append,
    BuryRoom,
    ClearRoom,
    Cursor,
    Delivery,
    DropEpochSecrets,
    DropFileSeals,
    DropKeyExchange,
    DropLease,
    DropOutbox,
    DropRenewal,
    DropSealingKeys,
    EpochSecretRow,
    EraseBodies,
    FileSealRow,
    ForgetMarks,
    Held,
    KeyExchangeRow,
    KeyTriesRow,
    Lease,
    MadeRecordRow,
    MarkDelivery,
    Membership,
    MoveCursor,
    NewFact,
    OutboxRow,
    Page,
    Past,
    PutEpochSecret,
    PutFileSeal,
    PutKeyExchange,
    PutKeyTries,
    PutLease,
    PutMadeRecord,
    PutOutbox,
    PutRenewal,
    PutSealingKey,
    PutSight,
    PutSnapshot,
    SealingKeyRow,
    Snapshot,
    Store,
    Write,
    has_happened,
)
from parlerd.store.sqlite import SqliteStore
from tests.support.facts import (
    ANN,
    BEN,
    CAT,
    OTHER,
    OWNER,
    ROOM,
    SIGNATURE,
    append,
    by,
    denied,
    everything,
    fact,
    forgetting,
    joined,
    knocked,
    left,
    message,
    minted,
    opened,
    remembering,
    revoked,
)
from tests.support.faulty_store import FaultyStore
from tests.support.golden import BODY, LOGS, SAMPLES, folds, recorded, sample_header

Maker = Callable[[], contextlib.AbstractContextManager[Store]]


@contextlib.contextmanager
def _memory() -> Iterator[Store]:
    yield MemoryStore()


@contextlib.contextmanager
def _faulty() -> Iterator[Store]:
    yield FaultyStore()


@contextlib.contextmanager
def _sqlite() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "parler.db", backups=Path(folder) / "backups")
        try:
            yield store
        finally:
            store.close()


@contextlib.contextmanager
def _postgres() -> Iterator[Store]:
    # The driver takes a tenth of a second.
    from parlerd.store.postgres import PostgresStore
    from tests.support.postgres import shared, with_tables

    with shared().database(with_tables) as database:
        store = PostgresStore(database.relay)
        try:
            yield store
        finally:
            store.close()


MAKERS: list[Maker] = [_memory, _faulty, _sqlite, _postgres]


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__.strip("_"))
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with request.param() as made:
        yield made


def _do(store: Store, *writes: Write) -> None:
    """One job that must succeed."""
    (outcome,) = store.transact([writes])
    assert outcome.error is None


def _code(error: Exception | None) -> str:
    assert isinstance(error, ParlerError)
    return error.code


def _read(store: Store, view: View, after: int = 0, *, limit: int = 50, skip_own: bool = False) -> Page:
    return store.page(ROOM, view, Position(after), limit=limit, max_bytes=1_000_000, skip_own=skip_own)


def _positions(page: Page) -> list[int]:
    return [found.header.position for found in page.messages]


# -- appending -------------------------------------------------------------------------------------------------


def test_a_room_that_is_not_there_has_an_empty_head(store: Store) -> None:
    head = store.head(ROOM)
    assert (head.position, head.at, head.chain) == (0, 0, bytes(32))
    assert store.facts(ROOM, Position(0), 10) == []
    assert store.rooms() == []


def test_appended_facts_are_read_back_in_order_with_bodies_and_signatures(store: Store) -> None:
    facts = [opened(), joined(2, ANN), message(3, body=b"hello")]
    _do(store, append(*facts))
    assert store.facts(ROOM, Position(0), 10) == [new.header for new in facts]
    assert store.facts(ROOM, Position(1), 1) == [facts[1].header]
    assert store.body(ROOM, Position(3)) == (b"hello", SIGNATURE)
    assert store.body(ROOM, Position(2)) is None
    assert store.body(OTHER, Position(3)) is None


@pytest.mark.parametrize("log", LOGS)
def test_a_log_that_was_once_written_is_kept_and_folds_to_its_room_from_every_store(store: Store, log: str) -> None:
    facts = [NewFact(saved.header, saved.body, saved.body and SIGNATURE) for saved in recorded(log)]
    for start in range(0, len(facts), 5):
        _do(store, Append(ROOM, Position(start), facts[start : start + 5]))
    assert store.whole_facts(ROOM, Position(0), 1_000) == facts
    assert store.facts(ROOM, Position(0), 1_000) == [fact.header for fact in facts]
    assert store.verify_chain(ROOM) is None
    aggregate = LOGS[log]()
    for kept in store.whole_facts(ROOM, Position(0), 1_000):
        aggregate.apply(kept.header, kept.body)
    assert aggregate.snapshot() == folds()[log, aggregate.fold_version]


def test_every_field_of_every_type_of_fact_comes_back_from_every_store(store: Store) -> None:
    headers = [sample_header(event) for event in SAMPLES]
    headers = [msgspec.structs.replace(header, position=Position(n)) for n, header in enumerate(headers, 1)]
    if isinstance(store, SqliteStore):
        # A sample is made of a token that there never was.
        store._database.writer.execute("DROP TRIGGER tokens_are_no_wider")
        store._database.writer.execute("DROP TRIGGER token_access_is_no_wider")
        store._database.writer.execute("DROP TRIGGER token_rooms_are_no_more")
    _in_postgres(store, "tokens")
    _do(store, Append(ROOM, Position(0), [NewFact(header, BODY, SIGNATURE) for header in headers]))
    assert store.facts(ROOM, Position(0), 1_000) == headers


def test_the_head_follows_the_log_and_is_told_with_the_outcome(store: Store) -> None:
    (outcome,) = store.transact([[append(opened(at=7), message(2, at=9))]])
    head = store.head(ROOM)
    assert (head.position, head.at) == (2, 9)
    assert len(head.chain) == 32
    assert outcome.heads == {ROOM: head}


def test_an_append_that_expects_another_head_is_refused_and_adds_nothing(store: Store) -> None:
    _do(store, append(opened()))
    for expected in (0, 2):
        (outcome,) = store.transact([[append(message(expected + 1), expected=expected)]])
        assert _code(outcome.error) == "stale_position"
    assert store.head(ROOM).position == 1


def test_a_stale_job_fails_alone_in_its_transaction(store: Store) -> None:
    _do(store, append(opened()))
    outcomes = store.transact(
        [
            [append(message(2)), MoveCursor(ROOM, ANN, Position(2))],
            [append(message(2, BEN, id="m_stale")), MoveCursor(ROOM, BEN, Position(2))],
            [append(opened(OTHER), room=OTHER)],
        ]
    )
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert store.head(ROOM).position == 2
    assert store.head(OTHER).position == 1
    assert store.find_message(MessageId("m_stale")) is None
    assert store.cursor(ROOM, BEN) == Cursor()
    assert store.cursor(ROOM, ANN).acknowledged == 2


def test_a_job_over_two_rooms_is_refused_whole_when_one_of_them_is_stale(store: Store) -> None:
    (outcome,) = store.transact([[append(opened()), append(message(5, room=OTHER), room=OTHER)]])
    assert _code(outcome.error) == "stale_position"
    assert store.rooms() == []


def test_a_job_sees_what_earlier_jobs_and_its_own_earlier_writes_did(store: Store) -> None:
    outcomes = store.transact([[append(opened()), append(message(2))], [append(message(3))]])
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert outcomes[0].heads[ROOM].position == 2
    assert outcomes[1].heads[ROOM].position == 3
    assert store.verify_chain(ROOM) is None


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([message(2)], id="a gap before the first"),
        pytest.param([opened(), message(3)], id="a gap between two"),
        pytest.param([opened(at=9), message(2, at=8)], id="time going back"),
        pytest.param([NewFact(message(1).header, b"other words", SIGNATURE)], id="a body that is not the header's"),
        pytest.param([NewFact(message(1).header)], id="a missing body"),
        pytest.param([NewFact(message(1).header, message(1).body, b"")], id="a signature that is none"),
        pytest.param([NewFact(opened().header, b"words")], id="a body the header does not know"),
    ],
)
def test_facts_that_contradict_themselves_are_refused_alone(store: Store, wrong: list[NewFact]) -> None:
    bad, good = store.transact([[Append(ROOM, Position(0), wrong)], [append(opened(OTHER), room=OTHER)]])
    assert _code(bad.error) == "internal"
    assert good.error is None
    assert store.rooms() == [OTHER]


def test_a_message_id_or_a_key_that_is_taken_refuses_its_job_alone(store: Store) -> None:
    _do(store, append(opened(), message(2, id="m_1"), minted(3, "key")))
    outcomes = store.transact(
        [
            [append(message(4))],
            [append(message(5, id="m_1")), MoveCursor(ROOM, BEN, Position(1))],
            [append(minted(5, "key"))],
            [append(message(5, id="m_2"), message(6, id="m_2"))],
            [append(message(5, BEN, id="m_3"))],
            [append(message(6, id="m_3"))],
            [append(message(6, room=OTHER), room=OTHER)],
        ]
    )
    assert [outcome.error is None for outcome in outcomes] == [True, False, False, False, True, False, False]
    assert store.head(ROOM).position == 5
    assert store.cursor(ROOM, BEN) == Cursor()
    assert store.seq_at(ROOM, everything(ANN), Position(5)) == 3
    assert store.unread(ROOM, everything(BEN), Position(0)) == 2
    assert store.verify_chain(ROOM) is None


def test_an_append_of_nothing_opens_no_room(store: Store) -> None:
    _do(store, Append(ROOM, Position(0), []))
    assert store.rooms() == []
    assert store.head(ROOM).position == 0


def test_rooms_are_listed_in_the_order_they_were_opened(store: Store) -> None:
    rooms = [RoomId("r_z"), RoomId("r_a"), RoomId("home")]
    for at, room in enumerate(rooms, start=1):
        _do(store, append(opened(room, at=at), room=room))
    assert store.rooms() == rooms


# -- reading as a reader ---------------------------------------------------------------------------------------


def test_a_reader_numbers_messages_and_not_other_facts(store: Store) -> None:
    _do(store, append(opened(), message(2), joined(3, BEN), message(4), message(5, BEN)))
    page = _read(store, everything(BEN))
    assert [(found.seq, found.header.position) for found in page.messages] == [(1, 2), (2, 4), (3, 5)]
    assert (page.end, page.end_seq, page.more) == (5, 3, False)
    assert page.messages[0].body == b"r_one:2"
    assert page.messages[0].signature == SIGNATURE
    assert page.messages[0].room == ROOM


def test_a_page_that_was_cut_says_so_and_the_next_goes_on_where_it_stopped(store: Store) -> None:
    _do(store, append(opened(), *[message(position) for position in range(2, 8)]))
    first = _read(store, everything(BEN), limit=4)
    assert (_positions(first), first.more, first.end, first.end_seq) == ([2, 3, 4, 5], True, 5, 4)
    second = _read(store, everything(BEN), first.end, limit=4)
    assert (_positions(second), second.more, second.messages[0].seq) == ([6, 7], False, 5)
    third = _read(store, everything(BEN), second.end)
    assert (_positions(third), third.more, third.end, third.end_seq) == ([], False, 7, 6)


def test_a_page_that_ends_exactly_at_its_limit_promises_nothing_more(store: Store) -> None:
    _do(store, append(opened(), message(2), message(3)))
    assert not _read(store, everything(BEN), limit=2).more


def test_a_page_is_bounded_in_bytes_but_always_holds_one_message(store: Store) -> None:
    _do(store, append(*[message(position, body=bytes(100)) for position in range(1, 6)]))
    for size, shown in ((1, 1), (100, 1), (199, 1), (200, 2), (500, 5)):
        page = store.page(ROOM, everything(BEN), Position(0), limit=50, max_bytes=size, skip_own=False)
        assert (len(page.messages), page.more) == (shown, shown < 5)
        newest = store.tail(ROOM, everything(BEN), limit=50, max_bytes=size)
        assert (len(newest.messages), newest.more) == (shown, shown < 5)


def _lines(*messages: NewFact) -> list[bytes]:
    """The public line of the room before and at each of these messages."""
    lines = [hashlib.sha256(f"{ROOM}{OWNER}".encode()).digest()]
    for each in messages:
        event = each.header.event
        assert isinstance(event, e.MessagePosted)
        lines.append(hashlib.sha256(lines[-1] + event.envelope).digest())
    return lines


def test_a_page_carries_the_public_line_of_where_it_ends(store: Store) -> None:
    first, second, third = message(2), message(4), message(6)
    lines = _lines(first, second, third)
    _do(store, append(opened(), first, joined(3, BEN)))
    _do(store, append(second, message(5, visible_to=(BEN,)), third, joined(7, CAT)))
    assert _read(store, everything(BEN), limit=1).shown == (1, lines[1])
    assert _read(store, everything(BEN), limit=3).shown == (2, lines[2])
    assert _read(store, everything(BEN), skip_own=True).shown == (3, lines[3])
    assert _read(store, everything(BEN), after=7, skip_own=True).shown == (3, lines[3])
    assert store.tail(ROOM, everything(CAT), limit=1, max_bytes=99).shown == (3, lines[3])


def test_the_public_line_of_every_place_and_of_every_number_can_be_asked_for(store: Store) -> None:
    first, second = message(3, key="k"), message(6)
    lines = _lines(first, second)
    assert store.line_at(ROOM, 0) is None
    _do(store, append(opened()))
    assert (store.shown_at(ROOM, Position(0)), store.line_at(ROOM, 0)) == ((0, lines[0]), lines[0])
    _do(store, append(joined(2, BEN), first, message(4, visible_to=(BEN,)), joined(5, CAT), second, left(7, CAT)))
    numbers = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [store.shown_at(ROOM, Position(place)) for place in range(9)] == [(n, lines[n]) for n in numbers]
    assert [store.line_at(ROOM, number) for number in range(-1, 4)] == [None, *lines, None]
    assert [store.public_position(ROOM, number) for number in range(-1, 4)] == [None, None, 3, 6, None]
    assert store.public_position(OTHER, 1) is None


def test_a_public_message_that_a_mirror_leaves_out_stands_nowhere(store: Store) -> None:
    placed = e.MirrorPlaced(public=5, line=bytes(32))
    _do(
        store,
        append(opened(), fact(2, placed), message(3), fact(4, e.MirrorPlaced(public=9, line=b"l" * 32)), message(5)),
    )
    assert [store.public_position(ROOM, number) for number in range(4, 12)] == [
        None, None, 3, None, None, None, 5, None,
    ]  # fmt: skip


def test_after_a_rewind_public_messages_have_the_numbers_of_their_epoch(store: Store) -> None:
    """Those that the home lost keep theirs, in the log of a mirror."""
    first, lost, after = message(2), message(3), message(5)
    lines, epoch = _lines(first, lost), first_number(1)
    rewound = fact(4, e.RoomRewound(epoch=1, public=1, line=lines[1], upto=Position(2)), body=b"the signed rewind")
    begins = line_after_rewind(lines[1], hashlib.sha256(b"the signed rewind").digest())
    _do(store, append(opened(), first, lost, rewound))
    _do(store, append(after))
    assert isinstance(after.header.event, e.MessagePosted)
    shown = [(0, lines[0]), (1, lines[1]), (2, lines[2]), (epoch, begins)]
    shown.append((epoch + 1, next_line(begins, after.header.event.envelope)))
    for _ in range(2):
        assert [store.shown_at(ROOM, Position(place)) for place in range(1, 6)] == shown
        assert [store.line_at(ROOM, number) for number, _ in shown] == [line for _, line in shown]
        assert [store.line_at(ROOM, number) for number in (3, epoch - 1, epoch + 2)] == [None, None, None]
        assert [store.public_position(ROOM, number) for number in (1, 2, 3, epoch, epoch + 1)] == [2, 3, None, None, 5]
        store.rebuild_index()


def test_the_past_holds_the_public_lines_that_were_asked_for_as_far_as_there_are_any(store: Store) -> None:
    _do(store, append(opened(), message(2), message(3)))
    found = store.past(ROOM, (), (), (0, 2, 2, 3, 9))
    assert found.lines == {number: store.line_at(ROOM, number) for number in (0, 2)}
    assert store.past(ROOM, (), ()).lines == {}


def test_the_public_line_goes_on_after_the_index_was_made_anew(store: Store) -> None:
    first, second = message(2), message(3)
    _do(store, append(opened(), first))
    store.rebuild_index()
    _do(store, append(second))
    assert store.shown_at(ROOM, Position(3)) == (2, _lines(first, second)[2])
    store.rebuild_index()
    assert store.shown_at(ROOM, Position(3)) == (2, _lines(first, second)[2])


def test_the_chain_digest_of_every_place_can_be_asked_for(store: Store) -> None:
    chains = [store.transact([[append(message(position))]])[0].heads[ROOM].chain for position in (1, 2, 3)]
    assert [store.chain_at(ROOM, Position(position)) for position in range(5)] == [bytes(32), *chains, bytes(32)]
    assert store.chain_at(OTHER, Position(1)) == bytes(32)


def test_own_messages_are_left_out_but_keep_their_numbers_and_are_passed_over(store: Store) -> None:
    _do(store, append(opened(), message(2), message(3, BEN), message(4), message(5, BEN), joined(6, CAT)))
    page = _read(store, everything(BEN), skip_own=True)
    assert [(found.seq, found.header.position) for found in page.messages] == [(1, 2), (3, 4)]
    assert (page.end, page.end_seq, page.more) == (6, 4, False)
    cut = _read(store, everything(BEN), skip_own=True, limit=1)
    assert (cut.end, cut.end_seq, cut.more) == (2, 1, True)
    assert store.unread(ROOM, everything(BEN), Position(0)) == 2
    assert store.unread(ROOM, everything(BEN), Position(2)) == 1
    assert store.unread(ROOM, everything(BEN), Position(6)) == 0


def test_a_poll_with_nothing_new_leaves_the_reader_at_the_head(store: Store) -> None:
    _do(store, append(opened(), message(2, BEN), private := message(3, BEN, visible_to=(BEN,))))
    assert private.header.position == 3
    page = _read(store, everything(BEN), skip_own=True)
    assert (page.messages, page.end, page.end_seq, page.more) == ([], 3, 2, False)


def test_a_page_of_one_kind_leaves_out_the_others_and_never_passes_the_last_one_shown(store: Store) -> None:
    _do(store, append(message(1, kind="task"), message(2), message(3, kind="task", visible_to=(BEN,)), message(4)))
    page = store.page(ROOM, everything(BEN), Position(0), limit=9, max_bytes=9_999, skip_own=True, kind="task")
    assert [(found.seq, found.header.position) for found in page.messages] == [(1, 1), (3, 3)]
    assert (page.end, page.end_seq, page.more) == (3, 3, False)
    none = store.page(ROOM, everything(BEN), Position(3), limit=9, max_bytes=9_999, skip_own=True, kind="task")
    assert (none.messages, none.end) == ([], 3)


def test_a_page_of_what_is_for_a_reader_finds_it_by_each_of_its_names_and_each_message_once(store: Store) -> None:
    _do(
        store,
        append(
            opened(),
            message(2, to=(BEN,)),
            message(3, to=(CAT,)),
            message(4, role="dev"),
            message(5, to=(BEN,), role="dev", visible_to=(BEN, CAT)),
            message(6, kind="handoff"),
            message(7, kind="handoff", to=(CAT,)),
            message(8),
            message(9, BEN, role="ben"),
            message(10, role="dev", visible_to=(CAT,)),
        ),
    )

    def found(*names: str, after: int = 0, limit: int = 9, **how: Any) -> tuple[list[int], Position, bool]:
        page = store.page(
            ROOM,
            everything(BEN),
            Position(after),
            limit=limit,
            max_bytes=9_999,
            names=names,
            **{"skip_own": True, **how},
        )
        return _positions(page), page.end, page.more

    names = names_of(BEN, "ben", "dev")
    assert found(*names) == ([2, 4, 5, 6], 6, False)
    assert found(*names, skip_own=False) == ([2, 4, 5, 6, 9], 9, False)
    assert found(*names, limit=2) == ([2, 4], 4, True)
    assert found(*names, after=4) == ([5, 6], 6, False)
    assert found(*names, kind="handoff") == ([6], 6, False)
    assert found(BEN) == ([2, 5], 5, False)
    assert found("@dev") == ([4, 5], 5, False)
    assert found("@op", after=3) == ([], 3, False)
    # By somebody else's name nothing is found that this reader may not see.
    assert found(CAT) == ([3, 7], 7, False)


def test_the_tail_is_the_newest_messages_oldest_first(store: Store) -> None:
    _do(store, append(opened(), *[message(position) for position in range(2, 8)], joined(8, BEN)))
    tail = store.tail(ROOM, everything(BEN), limit=2, max_bytes=1_000)
    assert [(found.seq, found.header.position) for found in tail.messages] == [(5, 6), (6, 7)]
    assert (tail.end, tail.end_seq, tail.more) == (7, 6, True)
    assert not store.tail(ROOM, everything(BEN), limit=6, max_bytes=1_000).more


def test_an_empty_tail_ends_at_the_head(store: Store) -> None:
    _do(store, append(opened(), joined(2, BEN)))
    tail = store.tail(ROOM, everything(BEN), limit=5, max_bytes=1_000)
    assert (tail.messages, tail.end, tail.end_seq, tail.more) == ([], 2, 0, False)
    assert store.tail(OTHER, everything(BEN), limit=5, max_bytes=1_000).messages == []


def test_a_late_joiner_sees_only_its_span_and_numbers_it_from_one(store: Store) -> None:
    _do(store, append(opened(), *[message(position) for position in range(2, 6)]))
    from_join = View(reader=BEN, spans=((3, None),))
    assert [(found.seq, found.header.position) for found in _read(store, from_join).messages] == [(1, 4), (2, 5)]
    with_recap = View(reader=BEN, spans=((1, 2), (3, 4)))
    assert [(found.seq, found.header.position) for found in _read(store, with_recap).messages] == [(1, 2), (2, 4)]
    assert _positions(store.tail(ROOM, with_recap, limit=1, max_bytes=9)) == [4]
    nothing = View(reader=BEN, spans=())
    assert _read(store, nothing).messages == []
    assert store.unread(ROOM, nothing, Position(0)) == 0


def test_what_a_message_brings_is_found_by_who_may_see_it_and_known_until_it_is_erased(store: Store) -> None:
    blob, private, other = (BlobId(pair * 32) for pair in ("ab", "cd", "ef"))
    hidden = message(2, visible_to=(BEN,), blob=private)
    _do(store, append(message(1, blob=blob), hidden, message(3)))
    _do(store, append(message(1, room=OTHER, blob=private), room=OTHER))

    def found(reader: AgentId, wanted: BlobId) -> list[Position]:
        names = (brought(wanted),)
        page = store.page(ROOM, everything(reader), Position(0), limit=9, max_bytes=9999, skip_own=False, names=names)
        return [each.header.position for each in page.messages]

    assert [found(reader, blob) for reader in (ANN, BEN, CAT)] == [[1], [1], [1]]
    assert [found(reader, private) for reader in (ANN, BEN, CAT)] == [[2], [2], []]
    assert found(ANN, other) == []
    assert [store.is_brought(each) for each in (blob, private, other)] == [True, True, False]
    assert [store.brought(room) for room in (ROOM, OTHER, RoomId("r_none"))] == [[blob, private], [private], []]
    _do(store, append(message(4, blob=blob), expected=3), EraseBodies(ROOM, [Position(1)]))
    assert store.is_brought(blob)
    _do(store, EraseBodies(ROOM, [Position(4)]))
    assert not store.is_brought(blob)
    assert store.brought(ROOM) == [private]
    assert found(ANN, blob) == [1, 4], "a message of which the words are gone is still found"
    _do(store, BuryRoom(ROOM, Millis(7)))
    assert store.brought(ROOM) == []
    assert [store.is_brought(each) for each in (blob, private, other)] == [False, True, False]


def test_a_message_with_a_visibility_reaches_those_it_names_and_its_author_and_nobody_else(store: Store) -> None:
    _do(store, append(opened(), message(2), message(3, visible_to=(BEN,)), message(4)))
    assert _positions(_read(store, everything(BEN))) == [2, 3, 4]
    assert _positions(_read(store, everything(ANN))) == [2, 3, 4]
    outsider = _read(store, everything(CAT))
    assert [(found.seq, found.header.position) for found in outsider.messages] == [(1, 2), (2, 4)]
    assert store.unread(ROOM, everything(CAT), Position(0)) == 2
    assert _positions(_read(store, View(reader=BEN, spans=()))) == [3]


def test_numbers_and_positions_are_each_others_inverse(store: Store) -> None:
    _do(store, append(opened(), message(2), joined(3, BEN), message(4, visible_to=(CAT,)), message(5), left(6, BEN)))
    ben, cat = everything(BEN), everything(CAT)
    assert [store.position_of(ROOM, ben, Seq(seq)) for seq in range(4)] == [0, 2, 5, 6]
    assert [store.position_of(ROOM, cat, Seq(seq)) for seq in range(5)] == [0, 2, 4, 5, 6]
    assert [store.seq_at(ROOM, cat, Position(position)) for position in range(8)] == [0, 0, 1, 1, 2, 3, 3, 3]


def test_what_a_mirror_leaves_out_has_numbers_and_is_counted_by_nothing_else(store: Store) -> None:
    _do(store, append(opened(), message(2), fact(3, e.MirrorPlaced(public=9, line=bytes(32))), message(4)))
    view = msgspec.structs.replace(everything(BEN), gaps=((3, 5),))
    assert [(found.seq, found.header.position) for found in _read(store, view).messages] == [(1, 2), (7, 4)]
    assert [store.seq_at(ROOM, view, Position(position)) for position in range(6)] == [0, 0, 1, 6, 7, 7]
    # A number that is left out stands where the log leaves it out: what follows it follows that place.
    assert [store.position_of(ROOM, view, Seq(seq)) for seq in range(9)] == [0, 2, 3, 3, 3, 3, 3, 4, 4]
    assert (store.unread(ROOM, view, Position(0)), store.unread(ROOM, view, Position(2))) == (2, 1)
    tail = store.tail(ROOM, view, limit=1, max_bytes=9)
    assert ([found.seq for found in tail.messages], tail.end_seq, tail.more) == ([7], 7, True)
    at_the_end = msgspec.structs.replace(view, gaps=((3, 5), (4, 2)))
    assert (store.seq_at(ROOM, at_the_end, Position(4)), store.position_of(ROOM, at_the_end, Seq(9))) == (9, 4)


def test_an_erased_body_leaves_its_place_and_number_and_a_mark_that_it_was_meant(store: Store) -> None:
    _do(store, append(opened(), message(2), message(3)))
    _do(store, EraseBodies(ROOM, [Position(2)]))
    pages = [_read(store, everything(BEN)), store.tail(ROOM, everything(BEN), limit=9, max_bytes=999)]
    for page in pages:
        assert [(found.seq, found.body, found.signature, found.is_erased) for found in page.messages] == [
            (1, None, None, True),
            (2, b"r_one:3", SIGNATURE, False),
        ]
        assert all(found.unaltered for found in page.messages)
    assert store.body(ROOM, Position(2)) is None
    assert store.verify_chain(ROOM) is None
    assert store.check() == []


def test_a_body_that_somebody_took_out_of_the_store_is_not_one_that_was_erased(store: Store) -> None:
    _do(store, append(opened(), message(2), message(3)), EraseBodies(ROOM, [Position(3)]))
    _take_out(store, 2)
    page = _read(store, everything(BEN))
    assert [(found.body, found.is_erased) for found in page.messages] == [(None, False), (None, True)]
    assert store.erased(ROOM, Position(0), Position(9)) == {3}


def test_only_messages_are_erased_and_each_once(store: Store) -> None:
    _do(store, append(opened(), message(2), joined(3, BEN), message(4)), append(message(1, room=OTHER), room=OTHER))
    everywhere = [Position(position) for position in range(1, 9)]
    _do(store, EraseBodies(ROOM, everywhere), EraseBodies(RoomId("r_none"), everywhere))
    _do(store, EraseBodies(ROOM, everywhere))
    assert store.erased(ROOM, Position(0), Position(9)) == {2, 4}
    assert store.body(ROOM, Position(1)) is not None
    assert store.body(OTHER, Position(1)) is not None
    assert store.erased(OTHER, Position(0), Position(9)) == set()
    assert store.whole_facts(ROOM, Position(1), 1)[0].body is None


def test_which_bodies_were_erased_can_be_asked_of_a_range(store: Store) -> None:
    _do(store, append(*(message(position) for position in range(1, 8))))
    _do(store, EraseBodies(ROOM, [Position(2), Position(4), Position(6)]))
    assert store.erased(ROOM, Position(2), Position(6)) == {4, 6}
    assert store.erased(ROOM, Position(6), Position(9)) == set()
    assert store.erased(OTHER, Position(0), Position(9)) == set()


def test_a_message_may_be_erased_by_the_job_that_appends_it(store: Store) -> None:
    _do(store, append(message(1)), EraseBodies(ROOM, [Position(1)]))
    assert store.erased(ROOM, Position(0), Position(9)) == {1}
    assert store.held(ROOM) == Held()


def test_a_message_that_is_erased_twice_in_one_transaction_is_erased(store: Store) -> None:
    _do(store, append(opened(), message(2), message(3)))
    twice = [[EraseBodies(ROOM, [Position(2), Position(2)])], [EraseBodies(ROOM, [Position(2), Position(3)])]]
    assert [outcome.error for outcome in store.transact(twice)] == [None, None]
    assert store.erased(ROOM, Position(0), Position(9)) == {2, 3}
    assert store.check() == []


def test_a_refused_job_erases_nothing(store: Store) -> None:
    _do(store, append(message(1)))
    (outcome,) = store.transact([[EraseBodies(ROOM, [Position(1)]), append(message(5), expected=4)]])
    assert _code(outcome.error) == "stale_position"
    assert store.held(ROOM) == Held(1, len(b"r_one:1"))


def test_what_a_room_holds_is_counted_in_messages_and_bytes_and_the_oldest_come_first(store: Store) -> None:
    _do(store, append(opened(), message(2, body=b"12345"), joined(3, BEN), message(4, body=b"1"), message(5, body=b"")))
    assert store.held(ROOM) == Held(3, 6)
    assert store.held(ROOM, Position(2)) == Held(2, 1)
    assert store.held(ROOM, Position(1), Position(4)) == Held(2, 6)
    assert store.held(ROOM, Position(5)) == store.held(ROOM, Position(2), Position(2)) == Held()
    assert store.oldest_bodies(ROOM, Position(0), 2) == [(2, 5), (4, 1)]
    assert store.oldest_bodies(ROOM, Position(2), 2) == [(4, 1), (5, 0)]
    _do(store, EraseBodies(ROOM, [Position(2)]))
    assert store.held(ROOM) == Held(2, 1)
    assert store.oldest_bodies(ROOM, Position(0), 9) == [(4, 1), (5, 0)]
    assert store.held(OTHER) == Held()
    assert store.oldest_bodies(OTHER, Position(0), 9) == []


def test_several_rooms_are_asked_about_together(store: Store) -> None:
    third = RoomId("r_three")
    _do(store, append(opened(), message(2, body=b"abc"), minted(3, "key"), message(4, body=b"de")))
    _do(store, append(opened(OTHER), *(message(n, room=OTHER, body=b"x" * n) for n in range(2, 40)), room=OTHER))
    _do(store, append(opened(third), message(2, room=third), room=third), BuryRoom(third, Millis(7)))
    asked = [ROOM, OTHER, third, RoomId("r_none"), RoomId("r_\0")]
    assert store.heads(asked) == {room: store.head(room) for room in (ROOM, OTHER)}
    assert {room: found.event for room, found in store.openings(asked).items()} == {
        room: store.facts(room, Position(0), 1)[0].event for room in (ROOM, OTHER)
    }
    after = {ROOM: Position(2), OTHER: Position(0), third: Position(0), RoomId("r_none"): Position(0)}
    assert store.grown(after) == {
        ROOM: (Held(1, 2), 4),
        OTHER: (Held(38, sum(range(2, 40))), 39),
        third: (Held(), 0),
        RoomId("r_none"): (Held(), 0),
    }
    assert store.grown({ROOM: Position(4)}) == {ROOM: (Held(), 4)}
    assert (store.grown({}), store.heads([]), store.openings([])) == ({}, {}, {})


def test_what_each_person_wrote_is_summed_over_a_range(store: Store) -> None:
    other = msgspec.structs.replace(message(4, body=b"1234567"))
    header = msgspec.structs.replace(other.header, by=msgspec.structs.replace(by(BEN), principal=PrincipalId("AOTHER")))
    _do(store, append(opened(), message(2, body=b"123"), joined(3, BEN), msgspec.structs.replace(other, header=header)))
    first = len(opened().body or b"")
    assert store.written(ROOM, Position(0), Position(9)) == {OWNER: first + 3, "AOTHER": 7}
    assert store.written(ROOM, Position(1), Position(2)) == {OWNER: 3}
    assert store.written(ROOM, Position(2), Position(3)) == {}
    assert store.written(OTHER, Position(0), Position(9)) == {}


@pytest.mark.parametrize("log", LOGS)
def test_who_wrote_a_log_of_any_version_can_be_said(store: Store, log: str) -> None:
    facts = [NewFact(saved.header, saved.body, saved.body and SIGNATURE) for saved in recorded(log)]
    _do(store, Append(ROOM, Position(0), facts))
    sizes = sum(len(each.body or b"") for each in facts)
    assert sum(store.written(ROOM, Position(0), Position(999)).values()) == sizes


def test_the_index_is_made_anew_over_messages_that_were_erased(store: Store) -> None:
    _do(store, append(opened(), message(2), message(3, visible_to=(BEN,)), message(4)))
    _do(store, EraseBodies(ROOM, [Position(2), Position(3)]))
    before = _read(store, everything(BEN))
    store.rebuild_index()
    assert _read(store, everything(BEN)) == before
    _do(store, append(message(5), expected=4))
    assert [found.is_erased for found in _read(store, everything(BEN)).messages] == [True, True, False, False]


def _filled(store: Store, room: RoomId, first: int = 0) -> None:
    """A room with a row of every kind that a store keeps of one."""
    facts = [
        opened(room),
        joined(2, BEN),
        minted(3, f"key-{room}"),
        message(4, key="k", room=room),
        message(5, visible_to=(BEN,), room=room),
        remembering(6, "swordfish") if room == ROOM else message(6, room=room),
        *(message(position, room=room) for position in range(7, 20)),
    ]
    _do(store, append(*facts, room=room), PutSnapshot(room, 1, Position(19), b"snapshot"))
    row = OutboxRow(MessageId(f"m_out_{room}"), HomeId("home"), room, BEN, "k", Millis(1), b"request")
    mark = MarkDelivery(room, BEN, "read", upto=Position(9), at=Millis(5))
    sight = _sight("cut", room=room, position=Position(4))
    _do(store, MoveCursor(room, BEN, Position(4)), mark, PutOutbox(row), sight)


def _seen_of(store: Store, room: RoomId) -> list[object]:
    """All that can be read of a room."""
    return [
        store.head(room),
        store.facts(room, Position(0), 99),
        store.whole_facts(room, Position(0), 99),
        store.body(room, Position(4)),
        store.held(room),
        store.oldest_bodies(room, Position(0), 9),
        store.written(room, Position(0), Position(99)),
        store.snapshot(room),
        [
            found.header
            for found in store.page(
                room, everything(BEN), Position(0), limit=99, max_bytes=9_999, skip_own=False
            ).messages
        ],
        store.tail(room, everything(BEN), limit=9, max_bytes=999).messages,
        store.unread(room, everything(BEN), Position(0)),
        store.find_message(MessageId(f"m_{room}_4")),
        store.message(room, Position(4)),
        store.remembered(room, (), Position(0), Position(99), 9),
        store.chain_at(room, Position(4)),
        store.prior(room, ANN, "", "k"),
        store.past(room, (), (), (1, 2)).lines,
        store.public_position(room, 1),
        store.room_of_key(KeyId(f"key-{room}")),
        [each for each in store.memberships(BEN) if each.room == room],
        room in store.owned(OWNER),
        room in store.rooms(),
        store.deadlines(Millis(0)).get(room),
        store.cursor(room, BEN),
        store.deliveries(room, Position(4)),
        store.sights(room, Position(4)),
        store.sights_to_show_again(room, BEN, 2),
        [row for row in store.sights_of_nobody(Millis(0), Millis(99), 9) if row.room == room],
        [row for row in store.outbox(HomeId("home")) if row.room == room],
        store.verify_chain(room),
    ]


def test_a_room_that_was_deleted_is_a_room_that_never_was_for_every_reader(store: Store) -> None:
    nothing = _seen_of(store, ROOM)
    _filled(store, ROOM)
    _filled(store, OTHER)
    assert all(found != none for found, none in zip(_seen_of(store, ROOM)[:6], nothing[:6], strict=True))
    others = _seen_of(store, OTHER)
    assert not store.is_deleted(ROOM)
    _do(store, BuryRoom(ROOM, Millis(7)))
    assert store.is_deleted(ROOM)
    assert not store.is_deleted(OTHER)
    assert store.uncleared() == [ROOM]
    assert _seen_of(store, ROOM) == nothing
    assert _seen_of(store, OTHER) == others
    assert store.check() == []
    store.rebuild_index()
    assert _seen_of(store, ROOM) == nothing
    assert _seen_of(store, OTHER) == others
    assert store.check() == []


def _clear(store: Store, room: RoomId, limit: int) -> int:
    """Take away all that is left of a deleted room; in how many steps."""
    for step in range(1, 100):
        _do(store, ClearRoom(room, limit))
        assert store.check() == []
        if room not in store.uncleared():
            return step
    raise AssertionError("it never ends")


def test_what_is_left_of_a_deleted_room_goes_in_steps_and_nothing_of_another_room(store: Store) -> None:
    _filled(store, OTHER)
    others = _seen_of(store, OTHER)
    _filled(store, ROOM)
    _do(store, ClearRoom(ROOM, 99))
    assert store.head(ROOM).position == 19  # it was not deleted
    _do(store, BuryRoom(ROOM, Millis(7)))
    assert _clear(store, ROOM, 5) > 19 // 5
    assert store.is_deleted(ROOM)
    _do(store, ClearRoom(ROOM, 5))
    assert _seen_of(store, OTHER) == others
    store.rebuild_index()
    assert _seen_of(store, OTHER) == others
    assert store.verify_chain(OTHER) is None


def test_a_room_that_nobody_opened_can_be_one_that_nobody_opens(store: Store) -> None:
    # The second job is of the same transaction.
    outcomes = store.transact([[BuryRoom(ROOM, Millis(7), unopened=True)], [append(opened())]])
    assert [outcome.error and _code(outcome.error) for outcome in outcomes] == [None, "room_deleted"]
    (outcome,) = store.transact([[append(opened())]])
    assert _code(outcome.error) == "room_deleted"
    assert (store.is_deleted(ROOM), store.uncleared(), store.check()) == (True, [], [])
    _do(store, BuryRoom(ROOM, Millis(8), unopened=True))


def test_a_room_that_was_opened_is_not_shut_and_nothing_else_of_that_job_happens(store: Store) -> None:
    shut = BuryRoom(ROOM, Millis(7), unopened=True)
    jobs: list[list[Write]] = [[append(opened())], [append(opened(OTHER), room=OTHER), shut]]
    assert [outcome.error and _code(outcome.error) for outcome in store.transact(jobs)] == [None, "stale_position"]
    (outcome,) = store.transact([[append(opened(OTHER), room=OTHER), shut]])
    assert _code(outcome.error) == "stale_position"
    assert (store.head(OTHER).position, store.head(ROOM).position, store.is_deleted(ROOM)) == (0, 1, False)
    _do(store, BuryRoom(ROOM, Millis(8)))
    _do(store, append(opened(OTHER), room=OTHER), shut)


@pytest.mark.parametrize("remakes", [False, True], ids=["as it is", "index remade"])
def test_a_deleted_room_holds_the_ids_of_its_messages_and_keys_until_it_is_cleared(store: Store, remakes: bool) -> None:
    _do(store, append(opened(), message(2, id="m_x"), minted(3, "key")), append(opened(OTHER), room=OTHER))
    _do(store, BuryRoom(ROOM, Millis(7)))
    if remakes:
        store.rebuild_index()
    for taken in (message(2, room=OTHER, id="m_x"), minted(2, "key")):
        (outcome,) = store.transact([[append(taken, room=OTHER, expected=1)]])
        assert _code(outcome.error) == "internal"
    _clear(store, ROOM, 2)
    _do(store, append(message(2, room=OTHER, id="m_x"), minted(3, "key"), room=OTHER, expected=1))
    assert store.find_message(MessageId("m_x")) == (OTHER, Position(2))
    assert store.room_of_key(KeyId("key")) == OTHER


def test_nothing_is_stored_in_a_room_that_was_deleted(store: Store) -> None:
    nothing = _seen_of(store, ROOM)
    _filled(store, ROOM)
    late: list[Write] = [
        MoveCursor(ROOM, BEN, Position(6)),
        MarkDelivery(ROOM, BEN, "read", upto=Position(12), at=Millis(5)),
        PutSnapshot(ROOM, 1, Position(19), b"snapshot"),
        EraseBodies(ROOM, [Position(4)]),
    ]
    # The second job is of the same transaction as the deletion.
    outcomes = store.transact([[BuryRoom(ROOM, Millis(7))], [append(message(20), expected=19)], late])
    assert [outcome.error and _code(outcome.error) for outcome in outcomes] == [None, "room_deleted", None]
    (outcome,) = store.transact([[append(message(1))]])
    assert _code(outcome.error) == "room_deleted"
    _do(store, *late)
    _do(store, BuryRoom(ROOM, Millis(9)))
    _clear(store, ROOM, 99)
    _do(store, *late)
    assert (_seen_of(store, ROOM), store.uncleared()) == (nothing, [])


def test_nothing_is_stored_in_a_deleted_room_where_another_job_is_refused_either(store: Store) -> None:
    _do(store, append(opened(), message(2, id="m_x")), append(opened(OTHER), room=OTHER))
    late: list[Write] = [PutSnapshot(ROOM, 1, Position(2), b"snapshot"), MoveCursor(ROOM, BEN, Position(1))]
    jobs: list[list[Write]] = [
        [BuryRoom(ROOM, Millis(7))],
        [append(message(2, room=OTHER, id="m_x"), room=OTHER)],
        late,
    ]
    assert [outcome.error and _code(outcome.error) for outcome in store.transact(jobs)] == [None, "internal", None]
    assert (store.snapshot(ROOM), store.cursor(ROOM, BEN)) == (None, Cursor())


def test_a_private_memory_is_on_no_list_of_rooms(store: Store) -> None:
    private = fact(1, e.RoomOpened(
        room=OTHER, home=HomeId(OWNER), kind="private", owner=ANN, owner_principal=OWNER, history="full",
        approval=True, approver="person",
    ))  # fmt: skip
    _do(store, append(opened(), joined(2, ANN)), append(private, joined(2, ANN), room=OTHER))
    assert [each.room for each in store.memberships(ANN)] == store.owned(OWNER) == [ROOM]
    assert store.rooms() == [ROOM, OTHER]
    store.rebuild_index()
    assert [each.room for each in store.memberships(ANN)] == [ROOM]


# -- what rooms remember -----------------------------------------------------------------------------------------


def _found(
    store: Store, *words: str, room: RoomId = ROOM, after: int = 0, before: int = 2**32 - 1, limit: int = 99
) -> list[int]:
    """Where the messages stand that an index finds by these words, as it gives them."""
    terms = asked([word for text in words for word in parse(text).words])
    return [each.header.position for each in store.remembered(room, terms, Position(after), Position(before), limit)]


def test_what_is_remembered_is_found_by_its_words_and_its_key_the_newest_first(store: Store) -> None:
    _do(
        store,
        append(
            opened(),
            remembering(2, "deploy is blue-green"),
            message(3, body=b"deploy"),
            remembering(4, "Blue or green?", "colour"),
        ),
        append(remembering(1, "blue-green", room=OTHER), room=OTHER),
    )
    assert _found(store) == [4, 2]
    assert _found(store, "blue") == _found(store, "BLUE", "green") == [4, 2]
    assert _found(store, "blue-green") == [2]
    assert _found(store, "colour") == [4]
    assert _found(store, "depl") == []
    assert _found(store, "depl*") == _found(store, "deploym*") == _found(store, "de*", "blue-gr*") == [2]
    assert _found(store, "dx*") == []
    assert _found(store, "blue", room=OTHER) == [1]
    assert _found(store, "blue", room=RoomId("r_none")) == []
    assert _found(store, "blue", before=4) == [2]
    assert _found(store, "blue", after=2) == _found(store, after=3) == [4]
    assert _found(store, "blue", limit=1) == [4]
    (newest, _) = store.remembered(ROOM, (), Position(0), Position(99), 9)
    assert words_of(newest.body) == ("colour", "Blue or green?")
    assert newest.unaltered
    assert store.check() == []


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("ship on 2026-11-28", "2026-11-28"),
        ("see src/auth.rs:42", "src/auth.rs:42"),
        ('it\'s "quoted"', '"quoted"'),
        ("数据库迁移在周五", "数据库"),
        ("สวัสดีครับ", "สวัส"),
        ("デプロイ戦略", "戦略"),
        ("\uff26\uff35\uff2c\uff2c width", "full"),
        ("Straße", "STRASSE"),
        ("naïve café", "café"),
        ("a\0b", "b"),
    ],
)
def test_text_of_any_script_is_found_literally(store: Store, text: str, query: str) -> None:
    _do(store, append(opened(), remembering(2, text), remembering(3, "something else")))
    assert _found(store, query) == [2]


def test_a_version_that_another_followed_is_found_no_more(store: Store) -> None:
    _do(store, append(opened(), remembering(2, "rolling", "deploy"), remembering(3, "same room")))
    _do(store, append(remembering(4, "blue-green", "deploy", version=2, drops=(2,)), expected=3))
    assert _found(store, "rolling") == []
    assert _found(store, "deploy") == [4]
    assert _found(store) == [4, 3]
    assert store.body(ROOM, Position(2)) is not None
    store.rebuild_index()
    assert (_found(store, "rolling"), _found(store)) == ([], [4, 3])


def test_what_was_forgotten_is_found_no_more_also_after_the_index_was_made_anew(store: Store) -> None:
    _do(store, append(opened(), remembering(2, "swordfish", "secret"), remembering(3, "marlin")))
    _do(store, append(forgetting(4, (2,), "secret"), expected=3), EraseBodies(ROOM, [Position(2)]))
    _do(store, append(forgetting(5, (3,)), expected=4), EraseBodies(ROOM, [Position(3)]))
    assert (_found(store, "swordfish"), _found(store, "marlin"), _found(store)) == ([], [], [])
    assert store.check() == []
    store.rebuild_index()
    assert _found(store) == []
    _do(store, append(remembering(6, "swordfish again", "secret", version=2), expected=5))
    assert _found(store, "swordfish") == [6]


def test_a_fact_may_be_forgotten_by_the_job_that_appends_it(store: Store) -> None:
    _do(store, append(opened(), remembering(2, "x"), forgetting(3, (2,))), EraseBodies(ROOM, [Position(2)]))
    assert _found(store) == []


def test_a_body_that_is_no_envelope_is_in_no_index(store: Store) -> None:
    made = remembering(2, "x")
    other = msgspec.structs.replace(made.header, body=hashlib.sha256(b"bytes").digest())
    _do(store, append(opened(), NewFact(other, b"bytes", SIGNATURE)))
    assert _found(store) == []


@given(st.text(max_size=40), st.text(max_size=12))
def test_no_query_is_an_error_of_the_index(text: str, query: str) -> None:
    store = MemoryStore()
    _do(store, append(opened(), remembering(2, text)))
    with suppress(Refused):
        terms = asked(parse(query).words)
        found, all_of_them = (store.remembered(ROOM, each, Position(0), Position(99), 9) for each in (terms, ()))
        assert {each.header for each in found} <= {each.header for each in all_of_them}


def test_words_that_were_changed_behind_its_back_are_marked(store: Store) -> None:
    _do(store, append(opened(), message(2), message(3)))
    _overwrite(store, 2, b"other words")
    pages = _read(store, everything(BEN)), store.tail(ROOM, everything(BEN), limit=9, max_bytes=999)
    for page in pages:
        assert [(found.body, found.unaltered) for found in page.messages] == [
            (b"other words", False),
            (b"r_one:3", True),
        ]
    assert store.verify_chain(ROOM) == 2


def test_whole_facts_are_what_was_appended(store: Store) -> None:
    facts = [opened(), message(2), joined(3, BEN), message(4)]
    _do(store, append(*facts))
    assert store.whole_facts(ROOM, Position(0), 9) == facts
    assert store.whole_facts(ROOM, Position(1), 2) == facts[1:3]
    assert store.whole_facts(OTHER, Position(0), 9) == []


def _in_postgres(store: Store, table: str, statement: str = "SELECT", *parameters: object) -> bool:
    """Change a table as its owner, without its triggers from now on, where the store is over PostgreSQL; whether it
    is."""
    server = getattr(store, "_server", None)
    if server is None:
        return False
    import psycopg
    from psycopg.conninfo import make_conninfo

    from tests.support.postgres import OWNER

    with psycopg.connect(make_conninfo(server._conninfo, user=OWNER)) as owner:
        owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
        owner.execute(statement.encode(), parameters)
    return True


def _overwrite(store: Store, position: int, body: bytes) -> None:
    if isinstance(store, SqliteStore):
        store._database.writer.execute("DROP TRIGGER bodies_never_change")
        store._database.writer.execute("UPDATE bodies SET body = ? WHERE position = ?", (body, position))
    elif not _in_postgres(store, "bodies", "UPDATE bodies SET body = %s WHERE position = %s", body, position):
        assert isinstance(store, MemoryStore)
        store._logs[ROOM].bodies[Position(position)] = body, SIGNATURE


def _take_out(store: Store, position: int) -> None:
    if isinstance(store, SqliteStore):
        store._database.writer.execute("DROP TRIGGER bodies_go_with_a_mark")
        store._database.writer.execute("DELETE FROM bodies WHERE position = ?", (position,))
    elif not _in_postgres(store, "bodies", "DELETE FROM bodies WHERE position = %s", position):
        assert isinstance(store, MemoryStore)
        del store._logs[ROOM].bodies[Position(position)]


# -- against a slow, obvious model -------------------------------------------------------------------------------

AGENTS = (ANN, BEN, CAT)


@dataclass(frozen=True)
class _Said:
    """One entry of a script: a message, or another fact when `author` is None."""

    author: AgentId | None
    visible_to: tuple[AgentId, ...] | None = None
    kind: str = "note"
    to: tuple[AgentId, ...] = ()
    role: str = ""

    def passes(self, reader: AgentId, kind: str | None, *, mentions: bool) -> bool:
        """Whether a filter lets this through, for a reader whose role is its own name or `dev`."""
        is_for = reader in self.to or self.role in ("dev", reader)
        is_for |= self.kind == "handoff" and not (self.to or self.role)
        return (kind is None or kind == self.kind) and (is_for or not mentions)

    def visible(self, position: int, view: View) -> bool:
        if self.author is None:
            return False
        if self.visible_to is not None:
            return view.reader in self.visible_to or view.reader == self.author
        return any(after < position and (upto is None or position <= upto) for after, upto in view.spans)


_agents = st.sampled_from(AGENTS)
_readers = st.lists(_agents, unique=True, max_size=3).map(tuple)
_said = st.one_of(
    st.builds(_Said, _agents),
    st.builds(_Said, _agents, _readers),
    st.builds(
        _Said,
        _agents,
        st.none() | _readers,
        st.sampled_from(("note", "task", "handoff")),
        _readers,
        st.sampled_from(("", "dev", "op", *AGENTS)),
    ),
    st.just(_Said(None)),
)


@st.composite
def _views(draw: st.DrawFn, length: int) -> View:
    edges = sorted(draw(st.lists(st.integers(0, length + 2), unique=True, max_size=5)))
    spans: list[tuple[int, int | None]] = list(zip(edges[::2], edges[1::2], strict=False))
    if len(edges) % 2:
        spans.append((edges[-1], None))
    places = sorted(draw(st.lists(st.integers(1, length + 1), unique=True, max_size=3)))
    gaps = tuple((place, draw(st.integers(1, 40))) for place in places)
    return View(reader=draw(_agents), spans=tuple(spans), gaps=gaps)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__.strip("_"))
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_what_a_reader_sees_is_what_a_plain_filter_would_show(maker: Maker, data: st.DataObject) -> None:
    script = data.draw(st.lists(_said, max_size=25))
    cuts = data.draw(st.lists(st.integers(0, len(script)), max_size=4).map(sorted))
    with maker() as store:
        facts = [
            joined(position, ANN)
            if said.author is None
            else message(
                position,
                said.author,
                visible_to=said.visible_to,
                kind=said.kind,
                to=said.to,
                role=said.role,
            )
            for position, said in enumerate(script, start=1)
        ]
        # In several transactions, so that counts that are kept between them are tried too.
        for low, high in zip([0, *cuts], [*cuts, len(facts)], strict=True):
            _do(store, Append(ROOM, Position(low), facts[low:high]))
        for _ in range(3):
            view = data.draw(_views(len(script)))
            after = data.draw(st.integers(0, len(script)))
            limit = data.draw(st.integers(1, 6))
            skip_own = data.draw(st.booleans())
            _compare(store, script, view, after, limit, skip_own=skip_own)
            kind = data.draw(st.sampled_from((None, "note", "task", "handoff", "other")))
            mentions = data.draw(st.booleans())
            if mentions or kind is not None:
                page = store.page(
                    ROOM,
                    view,
                    Position(after),
                    limit=limit,
                    max_bytes=1_000_000,
                    skip_own=skip_own,
                    kind=kind,
                    names=names_of(view.reader, "dev", view.reader) if mentions else (),
                )
                wanted = [
                    position
                    for position, said in enumerate(script, start=1)
                    if position > after
                    and said.visible(position, view)
                    and said.passes(view.reader, kind, mentions=mentions)
                    and not (skip_own and said.author == view.reader)
                ]
                assert _positions(page) == wanted[:limit]
                assert page.more == (len(wanted) > limit)
                assert page.end == (wanted[:limit][-1] if wanted else after)
                assert [found.seq for found in page.messages] == [
                    store.seq_at(ROOM, view, found.header.position) for found in page.messages
                ]


def _compare(store: Store, script: list[_Said], view: View, after: int, limit: int, *, skip_own: bool) -> None:
    head = len(script)
    visible = [position for position, said in enumerate(script, start=1) if said.visible(position, view)]
    # What a mirror leaves out at a position comes before a message there could. So each number stands at a position:
    # first those left out, then the message.
    numbered: list[int] = []
    number: dict[int, int] = {}
    for position in range(1, head + 1):
        numbered += [position for place, count in view.gaps if place == position for _ in range(count)]
        if position in visible:
            numbered.append(position)
            number[position] = len(numbered)
    own = {position for position in visible if script[position - 1].author == view.reader}

    for position in range(head + 1):
        assert store.seq_at(ROOM, view, Position(position)) == sum(1 for at in numbered if at <= position)
    assert [store.position_of(ROOM, view, Seq(seq)) for seq in range(len(numbered) + 2)] == [0, *numbered, head]
    assert store.unread(ROOM, view, Position(after)) == sum(1 for seen in visible if seen > after and seen not in own)

    wanted = [seen for seen in visible if seen > after and not (skip_own and seen in own)]
    page = _read(store, view, after, limit=limit, skip_own=skip_own)
    shown = [(found.seq, found.header.position) for found in page.messages]
    assert shown == [(number[seen], seen) for seen in wanted[:limit]]
    assert page.more == (len(wanted) > limit)
    assert [found.body for found in page.messages] == [f"r_one:{seen}".encode() for seen in wanted[:limit]]
    if skip_own and not page.more:
        assert page.end == head
    else:
        assert page.end == (shown[-1][1] if shown else after)
    assert page.end_seq == sum(1 for at in numbered if at <= page.end)

    tail = store.tail(ROOM, view, limit=limit, max_bytes=1_000_000)
    assert [(found.seq, found.header.position) for found in tail.messages] == [
        (number[seen], seen) for seen in visible[-limit:]
    ]
    assert tail.more == (len(visible) > limit)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__.strip("_"))
@settings(deadline=None, max_examples=40)
@given(script=st.lists(_said, max_size=20), hidden=st.lists(st.tuples(st.integers(0, 20), _agents), max_size=8))
def test_messages_hidden_from_a_reader_change_nothing_it_can_see(
    maker: Maker, script: list[_Said], hidden: list[tuple[int, AgentId]]
) -> None:
    outsider = AgentId("UOUT")
    with_hidden = list(script)
    for place, author in hidden:
        with_hidden.insert(min(place, len(with_hidden)), _Said(author, (ANN,)))

    def seen(said: list[_Said]) -> list[tuple[int, str]]:
        with maker() as store:
            words = iter(range(len(said)))
            facts = [
                joined(position, ANN)
                if one.author is None
                else message(
                    position,
                    one.author,
                    visible_to=one.visible_to,
                    body=str(next(words)).encode() if one.visible(position, everything(outsider)) else b"hidden",
                )
                for position, one in enumerate(said, start=1)
            ]
            _do(store, Append(ROOM, Position(0), facts))
            page = _read(store, everything(outsider))
            tail = store.tail(ROOM, everything(outsider), limit=50, max_bytes=1_000_000)
            assert [found.seq for found in tail.messages] == [found.seq for found in page.messages]
            unread = store.unread(ROOM, everything(outsider), Position(0))
            assert (page.end_seq, unread) == (len(page.messages), len(page.messages))
            return [(found.seq, (found.body or b"").decode()) for found in page.messages]

    assert seen(with_hidden) == seen(script)


# -- looking things up -------------------------------------------------------------------------------------------


def test_a_message_is_found_by_its_id_and_read_by_its_place(store: Store) -> None:
    new = message(2, id="m_x")
    _do(store, append(opened(), new))
    assert store.find_message(MessageId("m_x")) == (ROOM, 2)
    assert store.find_message(MessageId("m_y")) is None
    assert store.message(ROOM, Position(2)) == new.header
    assert store.message(ROOM, Position(1)) is None
    assert store.message(ROOM, Position(3)) is None
    assert store.message(OTHER, Position(1)) is None


def test_an_idempotency_key_is_remembered_for_its_room_agent_and_operation_alone(store: Store) -> None:
    new = message(2, key="k", operation="message.send", input=b"digest")
    _do(store, append(opened(), new))
    prior = store.prior(ROOM, ANN, "message.send", "k")
    assert prior is not None
    assert (prior.position, prior.input) == (2, b"digest")
    assert store.prior(OTHER, ANN, "message.send", "k") is None
    assert store.prior(ROOM, BEN, "message.send", "k") is None
    assert store.prior(ROOM, ANN, "session.open", "k") is None
    assert store.prior(ROOM, ANN, "message.send", "K") is None


def test_everything_that_a_batch_needs_of_the_past_is_one_question(store: Store) -> None:
    drawn = drawn_key(MessageId("m_3"))
    _do(
        store,
        append(
            opened(),
            message(2, id="m_2", key="k", operation="message.send", input=b"digest"),
            message(3, BEN, id="m_3", key=drawn, operation="message.send", input=b"drawn"),
        ),
        append(opened(OTHER), message(2, room=OTHER, id="m_far"), room=OTHER),
    )
    keys = [
        (ANN, "message.send", "k"),
        (BEN, "message.send", drawn),
        (BEN, "message.send", "k"),
        (ANN, "session.open", "k"),
    ]
    ids = [MessageId(id) for id in ("m_2", "m_far", "m_none")]
    past = store.past(ROOM, keys, ids)
    assert past.priors == {keys[0]: Prior(Position(2), b"digest"), keys[1]: Prior(Position(3), b"drawn")}
    # A message of another room is there, and no more is said of it.
    assert set(past.messages) == {"m_2", "m_far"}
    assert past.messages[ids[0]] == store.message(ROOM, Position(2))
    assert past.messages[ids[1]] is None
    assert store.past(ROOM, [], []) == Past()


def test_a_key_that_was_drawn_for_a_message_is_known_by_the_messages_id(store: Store) -> None:
    key = drawn_key(MessageId("m_x"))
    new = message(3, id="m_x", key=key, operation="message.send", input=b"digest")
    _do(store, append(opened(), message(2, id="m_y"), new))
    for _ in range(2):
        prior = store.prior(ROOM, ANN, "message.send", key)
        assert prior is not None
        assert (prior.position, prior.input) == (3, b"digest")
        assert store.prior(OTHER, ANN, "message.send", key) is None
        assert store.prior(ROOM, BEN, "message.send", key) is None
        assert store.prior(ROOM, ANN, "handoff.give", key) is None
        # The id of a message that had another key, or none.
        assert store.prior(ROOM, ANN, "", drawn_key(MessageId("m_y"))) is None
        assert store.prior(ROOM, ANN, "message.send", "m_x") is None
        store.rebuild_index()


def test_what_no_text_can_be_is_not_found(store: Store) -> None:
    _do(store, append(opened(), message(2, id="m_x", key="k")))
    nothing = "m_x\0"
    assert store.find_message(MessageId(nothing)) is None
    assert store.room_of_key(KeyId(nothing)) is None
    assert store.head(RoomId(nothing)).position == 0
    assert store.prior(ROOM, AgentId(nothing), "", "k") is None
    assert store.prior(ROOM, ANN, "", nothing) is None
    assert store.past(ROOM, [(ANN, "", nothing)], [MessageId(nothing)]) == Past()
    assert store.memberships(AgentId(nothing)) == []
    assert store.owned(nothing) == []
    assert store.state_versions(ROOM, nothing, nothing, Position(9), 9) == []
    assert not store.is_brought(BlobId(nothing))


def test_a_key_that_only_looks_drawn_is_remembered_like_any_other(store: Store) -> None:
    _do(store, append(opened(), message(2, id="m_x", key="k_z"), message(3, id="m_z", author=BEN)))
    prior = store.prior(ROOM, ANN, "", "k_z")
    assert prior is not None
    assert prior.position == 2
    assert store.prior(ROOM, BEN, "", "k_z") is None


def test_the_first_fact_of_a_request_stands_for_its_key(store: Store) -> None:
    _do(store, append(opened(), message(2, key="k", input=b"i"), message(3, key="k", input=b"i")))
    _do(store, append(message(4, key="k", input=b"other")))
    prior = store.prior(ROOM, ANN, "", "k")
    assert prior is not None
    assert (prior.position, prior.input) == (2, b"i")


def test_a_key_leads_to_its_room(store: Store) -> None:
    _do(store, append(opened(), minted(2, "abc")))
    assert store.room_of_key(KeyId("abc")) == ROOM
    assert store.room_of_key(KeyId("abd")) is None


def test_the_next_deadline_of_each_room_is_its_first_after_a_moment(store: Store) -> None:
    _do(store, append(opened(), minted(2, "one", at=30), minted(3, "two", at=20), minted(4, "three", at=10)))
    _do(store, append(opened(OTHER), minted(2, "four", at=25), room=OTHER))
    assert store.deadlines(Millis(0)) == {ROOM: 10, OTHER: 25}
    assert store.deadlines(Millis(10)) == {ROOM: 20, OTHER: 25}
    assert store.deadlines(Millis(25)) == {ROOM: 30}
    assert store.deadlines(Millis(30)) == {}
    _do(store, append(revoked(5, "two")))
    assert store.deadlines(Millis(10)) == {ROOM: 30, OTHER: 25}


def test_the_lease_of_a_task_that_ended_before_counts_until_a_fact_says_that_it_ended(store: Store) -> None:
    id, lease = MessageId("m_1"), Millis(10)
    claimed = fact(2, e.TaskClaimed(task=id, worker=ANN, until=Millis(20), lease_ms=lease))
    _do(store, append(opened(), claimed))
    assert store.deadlines(Millis(10)) == store.deadlines(Millis(99)) == {ROOM: 20}
    _do(store, append(fact(3, e.TaskLapsed(task=id, worker=ANN, fence=Position(2)))))
    assert store.deadlines(Millis(10)) == store.deadlines(Millis(99)) == {}


def test_memberships_follow_knocks_joins_refusals_and_leaving(store: Store) -> None:
    def state() -> str:
        (found,) = store.memberships(BEN)
        assert found == Membership(ROOM, BEN, found.state)
        return found.state

    _do(store, append(opened()))
    assert store.memberships(BEN) == []
    steps = [(knocked, "pending"), (denied, "denied"), (knocked, "pending"), (joined, "member"), (left, "left")]
    for position, (made, expected) in enumerate(steps, start=2):
        _do(store, append(made(position, BEN)))
        assert state() == expected


def test_memberships_and_owned_rooms_come_in_the_order_the_rooms_were_opened(store: Store) -> None:
    for at, room in enumerate((RoomId("r_b"), RoomId("r_a")), start=1):
        _do(store, append(opened(room, at=at), joined(2, ANN), room=room))
    assert [found.room for found in store.memberships(ANN)] == ["r_b", "r_a"]
    assert store.owned(OWNER) == ["r_b", "r_a"]
    assert store.owned("ANOBODY") == []


def test_a_room_that_nobody_opened_is_nobodys(store: Store) -> None:
    _do(store, append(joined(1, ANN)))
    assert store.rooms() == [ROOM]
    assert store.owned("") == []


# -- positions, marks, leases, snapshots ---------------------------------------------------------------------------


def test_a_cursor_never_moves_back_and_repeating_a_move_is_harmless(store: Store) -> None:
    for acknowledged, expected in ((3, 3), (2, 3), (3, 3), (5, 5)):
        _do(store, MoveCursor(ROOM, BEN, Position(acknowledged)))
        assert store.cursor(ROOM, BEN) == Cursor(Position(expected), Position(expected))
    assert store.cursor(ROOM, ANN) == Cursor()
    assert store.cursor(OTHER, BEN) == Cursor()


def test_being_given_messages_moves_what_was_delivered_and_not_what_was_acknowledged(store: Store) -> None:
    _do(store, MarkDelivery(ROOM, BEN, "read", Position(4), Millis(1)))
    assert store.cursor(ROOM, BEN) == Cursor(Position(4), Position(0))
    _do(store, MarkDelivery(ROOM, BEN, "pushed", Position(9), Millis(1)))
    _do(store, MarkDelivery(ROOM, BEN, "read", Position(3), Millis(2)))
    _do(store, MoveCursor(ROOM, BEN, Position(2)))
    assert store.cursor(ROOM, BEN) == Cursor(Position(4), Position(2))


def test_the_ladder_gives_the_earliest_mark_that_covers_a_message(store: Store) -> None:
    marks: list[tuple[AgentId, Stage, int, int, int]] = [
        (BEN, "read", 0, 4, 10),
        (BEN, "read", 4, 8, 20),
        (BEN, "read", 2, 6, 30),
        (BEN, "acknowledged", 0, 4, 40),
        (ANN, "pushed", 0, 8, 5),
    ]
    for reader, stage, after, upto, at in marks:
        _do(store, MarkDelivery(ROOM, reader, stage, Position(upto), Millis(at), Position(after)))
    assert store.deliveries(ROOM, Position(3)) == [
        Delivery(ANN, "pushed", Position(8), Millis(5)),
        Delivery(BEN, "read", Position(4), Millis(10)),
        Delivery(BEN, "acknowledged", Position(4), Millis(40)),
    ]
    assert store.deliveries(ROOM, Position(5)) == [
        Delivery(ANN, "pushed", Position(8), Millis(5)),
        Delivery(BEN, "read", Position(8), Millis(20)),
    ]
    assert store.deliveries(ROOM, Position(9)) == []
    assert store.deliveries(OTHER, Position(3)) == []


def _marked(store: Store, *marks: tuple[AgentId, Stage, int, int]) -> None:
    for reader, stage, after, upto in marks:
        _do(store, MarkDelivery(ROOM, reader, stage, Position(upto), Millis(1), Position(after)))


def _covered(store: Store, reader: AgentId) -> dict[int, list[Stage]]:
    """The stages that a reader reached at each of the first positions."""
    found = {n: [m.stage for m in store.deliveries(ROOM, Position(n)) if m.reader == reader] for n in range(1, 10)}
    return {position: stages for position, stages in found.items() if stages}


def test_marks_go_with_the_words_of_all_messages_that_they_cover(store: Store) -> None:
    _do(store, append(opened(), *(message(number) for number in range(2, 9))))
    _marked(store, (BEN, "pushed", 0, 3), (BEN, "read", 1, 3), (BEN, "acknowledged", 1, 5), (ANN, "read", 2, 4))
    before = {reader: _covered(store, reader) for reader in (ANN, BEN)}
    for first, last in ((1, 9), (1, 3)):
        assert not store.has_marks(ROOM, Position(first), Position(last))
        _do(store, ForgetMarks(ROOM, Position(first), Position(last), 9))
    assert {reader: _covered(store, reader) for reader in (ANN, BEN)} == before
    _do(store, EraseBodies(ROOM, [Position(2), Position(3)]))
    assert not store.has_marks(ROOM, Position(4), Position(9))
    assert not store.has_marks(OTHER, Position(1), Position(9))
    assert store.has_marks(ROOM, Position(1), Position(3))
    _do(store, ForgetMarks(ROOM, Position(2), Position(3), 9))
    # The first one began before that, two cover a message that has words.
    assert _covered(store, BEN) == {
        1: ["pushed"],
        2: ["pushed", "acknowledged"],
        3: ["pushed", "acknowledged"],
        4: ["acknowledged"],
        5: ["acknowledged"],
    }
    _do(store, ForgetMarks(ROOM, Position(1), Position(3), 9))
    assert _covered(store, BEN) == {number: ["acknowledged"] for number in (2, 3, 4, 5)}
    assert _covered(store, ANN) == {3: ["read"], 4: ["read"]}
    assert not store.has_marks(ROOM, Position(1), Position(9))
    assert store.cursor(ROOM, BEN) == Cursor(Position(3), Position(0))


def test_what_hosts_records_say_goes_with_the_words_of_its_message(store: Store) -> None:
    _do(store, append(opened(), *(message(number) for number in range(2, 6))))
    for number in range(2, 6):
        for reader in (ANN, BEN):
            _do(store, _sight("shown", reader=reader, position=Position(number)))
    _do(store, ForgetMarks(ROOM, Position(1), Position(9), 9))
    assert not store.has_marks(ROOM, Position(1), Position(9))
    _do(store, EraseBodies(ROOM, [Position(2), Position(4)]))
    assert not store.has_marks(ROOM, Position(3), Position(3))
    assert not store.has_marks(OTHER, Position(1), Position(9))
    steps = 0
    while store.has_marks(ROOM, Position(1), Position(3)):
        _do(store, ForgetMarks(ROOM, Position(1), Position(3), 1))
        steps += 1
    assert steps == 2
    assert [len(store.sights(ROOM, Position(number))) for number in range(2, 6)] == [0, 2, 2, 2]
    _do(store, ForgetMarks(ROOM, Position(1), Position(9), 9))
    assert [len(store.sights(ROOM, Position(number))) for number in range(2, 6)] == [0, 2, 0, 2]
    assert not store.has_marks(ROOM, Position(1), Position(9))


def test_so_many_marks_go_in_one_step(store: Store) -> None:
    _do(store, append(opened(), *(message(number) for number in range(2, 9))))
    _do(store, EraseBodies(ROOM, [Position(number) for number in range(2, 9)]))
    for number in range(2, 9):
        _marked(store, (BEN, "read", number - 1, number), (ANN, "pushed", number - 1, number))
    steps = 0
    while store.has_marks(ROOM, Position(1), Position(8)):
        _do(store, ForgetMarks(ROOM, Position(1), Position(8), 4))
        steps += 1
    assert steps == 4
    assert _covered(store, BEN) == _covered(store, ANN) == {}
    # What is read again is noted again.
    _marked(store, (BEN, "read", 0, 8))
    assert store.deliveries(ROOM, Position(3)) == [Delivery(BEN, "read", Position(8), Millis(1))]


def test_a_mark_leaves_the_middle_that_was_not_shown_unmarked(store: Store) -> None:
    _do(store, MarkDelivery(ROOM, BEN, "read", Position(2), Millis(1), Position(1)))
    _do(store, MarkDelivery(ROOM, BEN, "read", Position(9), Millis(1), Position(7)))
    covered = [position for position in range(1, 11) if store.deliveries(ROOM, Position(position))]
    assert covered == [2, 8, 9]


def test_a_mark_that_says_nothing_new_is_left_out(store: Store) -> None:
    _do(store, MarkDelivery(ROOM, BEN, "read", Position(8), Millis(1)))
    _do(store, MarkDelivery(ROOM, BEN, "read", Position(8), Millis(2)))
    _do(store, MarkDelivery(ROOM, BEN, "read", Position(5), Millis(3), Position(3)))
    _do(store, MarkDelivery(ROOM, BEN, "read", Position(9), Millis(4), Position(9)))
    assert [found.at for found in store.deliveries(ROOM, Position(4))] == [1]
    assert store.deliveries(ROOM, Position(9)) == []


def test_an_earlier_mark_wins_over_a_narrower_later_one(store: Store) -> None:
    _do(store, MarkDelivery(ROOM, BEN, "read", Position(60), Millis(1), Position(20)))
    _do(store, MarkDelivery(ROOM, BEN, "read", Position(50), Millis(2)))
    assert store.deliveries(ROOM, Position(30)) == [Delivery(BEN, "read", Position(60), Millis(1))]
    assert store.deliveries(ROOM, Position(10)) == [Delivery(BEN, "read", Position(50), Millis(2))]


def test_leases_are_kept_replaced_and_dropped_in_the_order_written(store: Store) -> None:
    first = Lease("w1", ANN, "host", "/repo", 0, Millis(2))
    second = Lease("w2", BEN, "host", "/repo", 1, Millis(1))
    _do(store, PutLease(first), PutLease(second))
    assert store.leases() == [second, first]
    moved = Lease("w1", CAT, "host", "/repo", 2, Millis(3))
    _do(store, DropLease("w2"), PutLease(second), DropLease("w2"), PutLease(moved), DropLease("unknown"))
    assert store.leases() == [moved]


# -- requests for other homes ------------------------------------------------------------------------------------

TEAM, FIRM = HomeId("N" + "A" * 55), HomeId("N" + "B" * 55)


def _waiting(message: str, home: HomeId = TEAM, refused: str = "") -> OutboxRow:
    return OutboxRow(MessageId(message), home, ROOM, ANN, f"key-{message}", Millis(7), b"\0request", refused)


def test_requests_for_a_home_are_kept_in_the_order_in_which_they_came(store: Store) -> None:
    assert store.outbox(TEAM) == []
    rows = [_waiting("m_9"), _waiting("m_1"), _waiting("m_5")]
    _do(store, PutOutbox(rows[0]), PutOutbox(_waiting("m_3", FIRM)), PutOutbox(rows[1]))
    _do(store, PutOutbox(rows[2]))
    assert store.outbox(TEAM) == rows
    assert store.outbox(FIRM) == [_waiting("m_3", FIRM)]


def test_a_request_that_changed_keeps_its_place_and_one_that_left_is_gone(store: Store) -> None:
    _do(store, *(PutOutbox(_waiting(id)) for id in ("m_1", "m_2", "m_3")))
    refused = _waiting("m_2", refused="room_closed")
    _do(store, PutOutbox(refused), DropOutbox(MessageId("m_1")), DropOutbox(MessageId("m_8")))
    assert store.outbox(TEAM) == [refused, _waiting("m_3")]
    _do(store, PutOutbox(_waiting("m_1")))
    assert store.outbox(TEAM) == [refused, _waiting("m_3"), _waiting("m_1")]
    _do(store, *(DropOutbox(row.message) for row in store.outbox(TEAM)))
    assert store.outbox(TEAM) == []


def test_a_refused_job_leaves_the_requests_as_they_were(store: Store) -> None:
    _do(store, PutOutbox(_waiting("m_1")))
    (outcome,) = store.transact([[append(message(5)), DropOutbox(MessageId("m_1")), PutOutbox(_waiting("m_2"))]])
    assert _code(outcome.error) == "stale_position"
    assert store.outbox(TEAM) == [_waiting("m_1")]


def test_a_snapshot_replaces_the_one_before_it(store: Store) -> None:
    assert store.snapshot(ROOM) is None
    _do(store, PutSnapshot(ROOM, 1, Position(5), b"five"))
    _do(store, PutSnapshot(ROOM, 2, Position(9), b"nine"))
    assert store.snapshot(ROOM) == Snapshot(2, Position(9), b"nine")
    assert store.snapshot(OTHER) is None


# -- care ----------------------------------------------------------------------------------------------------------


def _furnish(store: Store) -> None:
    """Some of everything that has an index row."""
    facts = [
        opened(),
        joined(2, ANN),
        minted(3, "abc"),
        message(4, key="k", input=b"i"),
        knocked(5, BEN),
        joined(6, BEN),
        message(7, BEN, visible_to=(ANN,)),
        message(8, BEN),
        knocked(9, CAT),
        denied(10, CAT),
        message(11, visible_to=(BEN, CAT), kind="task"),
    ]
    _do(store, append(*facts))
    _do(store, append(opened(OTHER, at=1), message(2, BEN, room=OTHER), room=OTHER))


def _answers(store: Store) -> list[object]:
    """Everything that is read through the index."""
    found: list[object] = [store.rooms(), store.owned(OWNER), store.room_of_key(KeyId("abc"))]
    found.append(store.deadlines(Millis(0)))
    found += [store.prior(ROOM, ANN, "", "k"), store.find_message(MessageId("m_r_one_7"))]
    for agent in AGENTS:
        found.append(store.memberships(agent))
        for room in (ROOM, OTHER):
            view = everything(agent)
            found.append(store.page(room, view, Position(0), limit=99, max_bytes=99_999, skip_own=False))
            found.append([store.seq_at(room, view, Position(position)) for position in range(12)])
            found.append([store.unread(room, view, Position(position)) for position in range(12)])
    return found


def test_remaking_the_index_changes_nothing_and_writing_goes_on(store: Store) -> None:
    _furnish(store)
    before = _answers(store)
    store.rebuild_index()
    assert _answers(store) == before
    _do(store, append(message(12, BEN)))
    assert _read(store, everything(ANN), 11).messages[0].seq == 5
    assert store.check() == []


def test_an_untouched_log_verifies(store: Store) -> None:
    _furnish(store)
    assert [store.verify_chain(room) for room in (ROOM, OTHER, RoomId("r_none"))] == [None, None, None]
    assert store.check() == []


@pytest.mark.parametrize("column", ["header", "salt", "digest", "chain"])
def test_a_fact_that_was_changed_afterwards_is_found(store: Store, column: str) -> None:
    _furnish(store)
    _tamper(store, 4, column)
    assert store.verify_chain(ROOM) == 4
    assert store.verify_chain(OTHER) is None


def test_a_body_that_was_changed_afterwards_is_found(store: Store) -> None:
    _furnish(store)
    _overwrite(store, 7, b"\0")
    assert store.verify_chain(ROOM) == 7


def _tamper(store: Store, position: int, column: str) -> None:
    if isinstance(store, SqliteStore):
        writer = store._database.writer
        writer.execute("DROP TRIGGER facts_never_change")
        size = writer.execute(f"SELECT length({column}) FROM facts WHERE position = ?", (position,)).fetchone()[0]
        of_room = "log = (SELECT number FROM logs WHERE room = ?)"
        sql = f"UPDATE facts SET {column} = zeroblob(?) WHERE position = ? AND {of_room}"
        writer.execute(sql, (size, position, ROOM))
        return
    changed = (
        f"UPDATE facts SET {column} = decode(repeat('00', length({column})), 'hex') WHERE (room, position) = (%s, %s)"
    )
    if not _in_postgres(store, "facts", changed, ROOM, position):
        assert isinstance(store, MemoryStore)
        facts = store._logs[ROOM].facts
        row = facts[position - 1]
        facts[position - 1] = row._replace(**{column: bytes(len(getattr(row, column)))})  # type: ignore[arg-type]


def test_two_equal_facts_have_different_chains_because_each_has_a_salt(store: Store) -> None:
    (one,) = store.transact([[append(opened())]])
    (two,) = store.transact([[append(opened(), room=OTHER)]])
    assert one.heads[ROOM].chain != two.heads[OTHER].chain


def test_readers_in_other_threads_see_whole_transactions(store: Store) -> None:
    """A job of three facts is never seen in part, and what was acknowledged is there at once."""
    rounds, wrong, done = 30, [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            head = store.head(ROOM).position
            if head % 3 or len(store.facts(ROOM, Position(0), 1_000)) < head:
                wrong.append(head)

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for count in range(rounds):
            _do(store, append(*[message(3 * count + step) for step in (1, 2, 3)]))
            assert store.head(ROOM).position == 3 * count + 3
            assert store.unread(ROOM, everything(BEN), Position(0)) == 3 * count + 3
    finally:
        done.set()
        reader.join()
    assert wrong == []


def test_a_failed_commit_raises_its_code_and_no_job_happened() -> None:
    store = FaultyStore()
    _do(store, append(opened()))
    store.fail_next_commit("store_locked")
    with pytest.raises(StoreError) as caught:
        store.transact([[append(message(2)), MoveCursor(ROOM, ANN, Position(1))], [PutLease(_LEASE)]])
    assert caught.value.code == "store_locked"
    assert (store.head(ROOM).position, store.cursor(ROOM, ANN), store.leases()) == (1, Cursor(), [])
    _do(store, append(message(2)))
    assert store.seq_at(ROOM, everything(ANN), Position(2)) == 1


@pytest.mark.parametrize("happened", [True, False])
def test_an_answer_that_was_lost_says_so_and_the_chain_tells_whether_it_happened(happened: bool) -> None:
    store = FaultyStore()
    _do(store, append(opened()))
    store.lose_next_answer(happened=happened)
    lost, refused = store.transact([[append(message(2))], [append(message(9))]])
    assert (_code(lost.error), _code(refused.error)) == ("store_unknown", "stale_position")
    assert has_happened(store, lost) is happened
    assert store.head(ROOM).position == (2 if happened else 1)
    # Facts of another writer at the same place, equal ones even, are not taken for ours.
    if not happened:
        _do(store, append(message(2)))
        assert not has_happened(store, lost)


_LEASE = Lease("w", ANN, "host", "/repo", 0, Millis(1))


def test_salts_come_from_the_source_of_randomness_and_are_not_shared_between_facts() -> None:
    drawn: list[int] = []

    def random_bytes(size: int) -> bytes:
        drawn.append(size)
        return os.urandom(size)

    store = MemoryStore(random_bytes=random_bytes)
    _do(store, append(opened(), message(2)))
    assert drawn == [32]
    assert len({row.salt for row in store._logs[ROOM].facts}) == 2
    assert fact(1, opened().header.event, body=opened().body).header == opened().header


# -- renewals of claims ------------------------------------------------------------------------------------------


def test_the_newest_renewal_of_each_task_of_a_room_is_kept_until_it_is_dropped(store: Store) -> None:
    assert store.renewals(ROOM) == []
    first = PutRenewal(ROOM, MessageId("m_2"), Position(7), Millis(100))
    other = PutRenewal(ROOM, MessageId("m_1"), Position(9), Millis(50))
    _do(store, first, other, PutRenewal(RoomId("r_elsewhere"), MessageId("m_2"), Position(1), Millis(1)))
    assert store.renewals(ROOM) == [other, first]
    later = PutRenewal(ROOM, MessageId("m_2"), Position(11), Millis(200))
    _do(store, later)
    assert store.renewals(ROOM) == [other, later]
    _do(store, DropRenewal(ROOM, MessageId("m_1")), DropRenewal(ROOM, MessageId("m_9")))
    assert store.renewals(ROOM) == [later]


def _sight(verdict: Sighted, at: int = 1, **rest: Any) -> PutSight:
    row = PutSight(ROOM, BEN, Position(2), verdict, "reply", "claude", Millis(at), evidence="claude 2: result")
    return msgspec.structs.replace(row, **rest)


def test_the_newest_word_on_a_message_and_a_reader_is_kept_until_one_proves_that_it_was_shown(store: Store) -> None:
    assert store.sights(ROOM, Position(2)) == []
    cut, other = _sight("cut"), _sight("pending", reader=ANN)
    _do(store, _sight("pending"), cut, other, _sight("shown", position=Position(3)))
    assert store.sights(ROOM, Position(2)) == sorted([cut, other], key=lambda row: row.reader)
    _do(store, _sight("shown", at=2), _sight("not_shown", at=3))
    assert _sight("shown", at=2) in store.sights(ROOM, Position(2))
    _do(store, _sight("cut", at=4))
    assert _sight("shown", at=2) in store.sights(ROOM, Position(2)), "what was shown stays shown"
    assert store.sights(OTHER, Position(2)) == []


def test_what_a_host_cut_or_did_not_show_is_to_be_shown_again_so_often_and_no_more(store: Store) -> None:
    cut, not_shown = _sight("cut", position=Position(4)), _sight("not_shown", again=1)
    _do(store, cut, not_shown, _sight("unknown", position=Position(5)), _sight("summarised", position=Position(6)))
    _do(store, _sight("cut", reader=ANN), _sight("cut", room=OTHER))
    assert store.sights_to_show_again(ROOM, BEN, 2) == [not_shown, cut]
    assert store.sights_to_show_again(ROOM, BEN, 1) == [cut]
    assert store.sights_to_show_again(ROOM, CAT, 2) == []


def test_a_message_is_of_nobody_while_no_reader_is_known_to_have_been_shown_it(store: Store) -> None:
    def at(position: int, verdict: Sighted, moment: int, reader: AgentId = BEN) -> PutSight:
        return _sight(verdict, at=moment, position=Position(position), reader=reader)

    _do(store, at(1, "cut", 5), at(1, "pending", 4, ANN), at(2, "cut", 5), at(2, "quoted", 5, ANN))
    _do(store, at(3, "unknown", 5), at(4, "summarised", 3), at(4, "unknown", 9, ANN), at(5, "pending", 9))
    assert store.sights_of_nobody(Millis(0), Millis(5), 9) == [at(4, "summarised", 3), at(1, "cut", 5)]
    assert store.sights_of_nobody(Millis(3), Millis(5), 9) == [at(1, "cut", 5)]
    assert store.sights_of_nobody(Millis(0), Millis(9), 1) == [at(4, "summarised", 3)]


def test_a_refused_job_leaves_the_renewals_as_they_were(store: Store) -> None:
    kept = PutRenewal(ROOM, MessageId("m_1"), Position(7), Millis(100))
    _do(store, kept)
    (outcome,) = store.transact([[append(message(5)), DropRenewal(ROOM, MessageId("m_1"))]])
    assert _code(outcome.error) == "stale_position"
    assert store.renewals(ROOM) == [kept]


# -- the secrets of sealed rooms ---------------------------------------------------------------------------------


@pytest.fixture(params=[_memory, _faulty, _sqlite], ids=lambda maker: maker.__name__.strip("_"))
def own_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store that a daemon may have. One that relays share keeps no secrets."""
    with request.param() as made:
        yield made


def _sealing_key(counter: int, agent: AgentId = BEN, home: str = "relay") -> SealingKeyRow:
    return SealingKeyRow(HomeId(home), agent, counter, Millis(counter * 10), bytes([counter]) * 32)


def _epoch(number: int, room: RoomId = ROOM) -> EpochSecretRow:
    return EpochSecretRow(room, number, bytes([number]) * 32, bytes([100 + number]) * 32)


def test_an_agent_s_keys_for_a_home_are_kept_until_older_ones_are_dropped(own_store: Store) -> None:
    assert own_store.sealing_keys(HomeId("relay")) == []
    keys = [_sealing_key(1), _sealing_key(2), _sealing_key(1, ANN), _sealing_key(1, BEN, "another")]
    _do(own_store, *map(PutSealingKey, keys))
    assert own_store.sealing_keys(HomeId("relay")) == sorted(keys[:3], key=lambda row: (row.agent, row.counter))
    _do(own_store, DropSealingKeys(HomeId("relay"), BEN, below=2))
    assert own_store.sealing_keys(HomeId("relay")) == sorted(keys[1:3], key=lambda row: (row.agent, row.counter))
    assert own_store.sealing_keys(HomeId("another")) == [keys[3]]


def test_the_secrets_of_a_room_s_epochs_are_kept_until_older_ones_are_dropped(own_store: Store) -> None:
    other = _epoch(1, RoomId("r_elsewhere"))
    _do(own_store, *(PutEpochSecret(row) for row in (_epoch(2), _epoch(1), _epoch(3), other)))
    assert own_store.epoch_secrets(ROOM) == [_epoch(1), _epoch(2), _epoch(3)]
    _do(own_store, DropEpochSecrets(ROOM, below=3))
    assert own_store.epoch_secrets(ROOM) == [_epoch(3)]
    assert own_store.epoch_secrets(other.room) == [other]


def test_what_requesters_have_of_an_epoch_is_kept_beside_its_secret(own_store: Store) -> None:
    asked = [
        EpochSecretRow(ROOM, 1, bytes([1]) * 32, bytes([n]) * 64, agent) for n, agent in enumerate(sorted((ANN, BEN)))
    ]
    _do(own_store, *map(PutEpochSecret, (asked[1], _epoch(1), asked[0], _epoch(2))))
    assert own_store.epoch_secrets(ROOM) == [_epoch(1), *asked, _epoch(2)]
    _do(own_store, DropEpochSecrets(ROOM, below=2))
    assert own_store.epoch_secrets(ROOM) == [_epoch(2)]


def test_what_is_kept_of_a_key_or_an_epoch_stays_as_it_is(own_store: Store) -> None:
    _do(own_store, PutSealingKey(_sealing_key(1)), PutEpochSecret(_epoch(1)))
    _do(
        own_store,
        PutSealingKey(msgspec.structs.replace(_sealing_key(1), private=bytes(32))),
        PutEpochSecret(msgspec.structs.replace(_epoch(1), secret=bytes(32))),
    )
    assert own_store.sealing_keys(HomeId("relay")) == [_sealing_key(1)]
    assert own_store.epoch_secrets(ROOM) == [_epoch(1)]


def test_which_records_this_home_signed_is_kept_also_where_several_have_one_number(own_store: Store) -> None:
    made = [MadeRecordRow(ROOM, 1, b"a" * 32), MadeRecordRow(ROOM, 2, b"a" * 32), MadeRecordRow(ROOM, 2, b"b" * 32)]
    other = MadeRecordRow(RoomId("r_elsewhere"), 1, b"a" * 32)
    _do(own_store, *map(PutMadeRecord, (made[2], made[0], made[1], made[1], other)))
    assert own_store.made_records(ROOM) == made
    assert own_store.made_records(other.room) == [other]


def _file_seal(number: int, *, agent: AgentId = BEN, room: RoomId = ROOM, used_at: int = 5) -> FileSealRow:
    blob = BlobId(f"{number:064x}")
    return FileSealRow(
        room, agent, bytes([number]) * 32, number, blob, bytes([100 + number]) * 32, bytes(19), Millis(used_at)
    )


def test_how_files_are_sealed_is_kept_for_each_agent_of_a_room_until_it_is_old(own_store: Store) -> None:
    mine = [_file_seal(1), _file_seal(2, used_at=9), _file_seal(3)]
    others = [_file_seal(1, agent=ANN), _file_seal(1, room=RoomId("r_elsewhere"))]
    _do(own_store, *map(PutFileSeal, (mine[2], mine[0], mine[1], *others)))
    assert own_store.file_seals(ROOM, BEN) == mine
    assert own_store.file_seals(ROOM, ANN) == others[:1]
    _do(own_store, DropFileSeals(Millis(9)))
    assert own_store.file_seals(ROOM, BEN) == mine[1:2]
    assert own_store.file_seals(others[1].room, BEN) == []


def test_how_a_file_is_sealed_stays_as_it_is_while_it_is_used(own_store: Store) -> None:
    _do(own_store, PutFileSeal(_file_seal(1)))
    again = msgspec.structs.replace(_file_seal(1, used_at=8), key=bytes(32), blob=BlobId("f" * 64))
    _do(own_store, PutFileSeal(again))
    assert own_store.file_seals(ROOM, BEN) == [_file_seal(1, used_at=8)]


def _exchange(number: int, *, role: Any = "owner", room: RoomId = ROOM, **more: Any) -> KeyExchangeRow:
    share = bytes([number]) * 33
    row = KeyExchangeRow(room, share, role, BEN, "q_1", "agreed", bytes([100 + number]) * 40, b"said", Millis(5))
    return msgspec.structs.replace(row, **more)


def test_how_far_a_key_exchange_is_is_kept_for_each_end_until_it_is_over(own_store: Store) -> None:
    mine = [_exchange(1, role="joiner", request=""), _exchange(1), _exchange(2)]
    other = _exchange(1, room=RoomId("r_elsewhere"))
    _do(own_store, *map(PutKeyExchange, (mine[2], mine[1], mine[0], other)))
    assert own_store.key_exchanges(ROOM) == mine
    further = _exchange(2, stage="confirmed", state=b"further", idle_ms=7)
    _do(own_store, PutKeyExchange(further), DropKeyExchange(ROOM, mine[0].share, "joiner"))
    assert own_store.key_exchanges(ROOM) == [mine[1], further]
    assert own_store.key_exchanges(other.room) == [other]


def test_the_exchanges_that_nobody_answered_are_found_in_all_rooms_by_when_they_began(own_store: Store) -> None:
    begun = _exchange(1, role="joiner", request="", stage="begun")
    elsewhere = msgspec.structs.replace(begun, room=RoomId("r_elsewhere"), at=Millis(4))
    others = [_exchange(2, role="joiner"), _exchange(3), msgspec.structs.replace(begun, share=b"y" * 33, at=Millis(6))]
    _do(own_store, *map(PutKeyExchange, (*others, begun, elsewhere)))
    assert own_store.unanswered_exchanges(Millis(6)) == sorted([begun, elsewhere], key=lambda row: row.room)
    assert own_store.unanswered_exchanges(Millis(4)) == []


def test_tries_at_a_key_are_kept_for_each_person_and_never_taken_back(own_store: Store) -> None:
    ann, ben = PrincipalId("A" + "N" * 55), PrincipalId("A" + "B" * 55)
    rows = [KeyTriesRow(ROOM, "k_1", ben, 2), KeyTriesRow(ROOM, "k_1", ann, 3), KeyTriesRow(ROOM, "k_2", ben, 1)]
    _do(own_store, *map(PutKeyTries, reversed(rows)))
    assert own_store.key_tries(ROOM) == rows
    _do(own_store, PutKeyTries(KeyTriesRow(ROOM, "k_1", ben, 1)), PutKeyTries(KeyTriesRow(ROOM, "k_1", ann, 4)))
    assert [row.tries for row in own_store.key_tries(ROOM)] == [2, 4, 1]
    assert own_store.key_tries(RoomId("r_elsewhere")) == []


def test_the_secrets_of_a_deleted_room_are_found_no_more(own_store: Store) -> None:
    tries = PutKeyTries(KeyTriesRow(ROOM, "k_1", PrincipalId("A"), 1))
    made = PutMadeRecord(MadeRecordRow(ROOM, 1, b"a" * 32))
    _do(own_store, append(opened()), PutEpochSecret(_epoch(1)), PutFileSeal(_file_seal(1)))
    _do(own_store, PutKeyExchange(_exchange(1)), tries, made)
    _do(own_store, BuryRoom(ROOM, Millis(9)), PutEpochSecret(_epoch(2)), PutFileSeal(_file_seal(2)), made)
    assert own_store.epoch_secrets(ROOM) == []
    assert own_store.made_records(ROOM) == []
    assert own_store.file_seals(ROOM, BEN) == []
    assert own_store.key_exchanges(ROOM) == []
    assert own_store.key_tries(ROOM) == []


def test_no_secret_is_in_what_is_printed_of_a_row() -> None:
    assert "x07" not in repr(PutSealingKey(_sealing_key(7)))
    assert "kkk" not in repr(PutEpochSecret(_epoch(7))), "107 is the letter k"
    assert "kkk" not in repr(PutFileSeal(_file_seal(7)))
    assert "kkk" not in repr(PutKeyExchange(_exchange(7)))


# -- the state of rooms ------------------------------------------------------------------------------------------


def _stated(position: int, key: str, *, scope: str = "_shared", body: bytes | None = None) -> NewFact:
    made = fact(position, e.StateWritten(scope=scope, key=key, version=1, text=b"" if body else b"1"), body=body)
    return msgspec.structs.replace(made, signature=None)


def _unstated(position: int, key: str, *, effect: Literal["delete", "enable", ""] = "") -> NewFact:
    """A key was deleted, or its timer ran out."""
    if effect:
        return fact(position, e.TimerFired(scope="_shared", key=key, effect=effect, version=1))
    return fact(position, e.StateDeleted(scope="_shared", key=key, version=1))


def _with_state(store: Store) -> None:
    _do(
        store,
        append(
            opened(),
            _stated(2, "turn"),
            _stated(3, "turn", scope="ann"),
            _stated(4, "lamp"),
            message(5),
            _stated(6, "turn", body=b"v" * 5_000),
            _unstated(7, "lamp", effect="enable"),
            _unstated(8, "lamp", effect="delete"),
            _unstated(9, "turn"),
            _stated(10, "turn"),
        ),
        append(opened(OTHER), _stated(2, "turn"), room=OTHER),
    )


def test_the_versions_of_a_key_are_found_the_newest_first_and_of_no_other_key_scope_or_room(store: Store) -> None:
    _with_state(store)

    def versions(key: str, scope: str = "_shared", before: int = 99, limit: int = 99, room: RoomId = ROOM) -> list[int]:
        return list(store.state_versions(room, scope, key, Position(before), limit))

    for _ in range(2):
        assert versions("turn") == [10, 9, 6, 2]
        assert versions("turn", limit=2) == [10, 9]
        assert versions("turn", before=9) == [6, 2]
        assert versions("turn", "ann") == [3]
        assert versions("lamp") == [8, 4], "that a key was let be there is no version"
        assert versions("turn", room=OTHER) == [2]
        assert versions("tur") == versions("turn", "ben") == versions("turn", room=RoomId("r_none")) == []
        store.rebuild_index()
        assert store.check() == []


def test_what_stood_last_under_each_key_at_a_place_is_found_in_the_order_of_the_keys(store: Store) -> None:
    _with_state(store)
    for _ in range(2):
        assert store.state_at(ROOM, Position(1)) == []
        assert store.state_at(ROOM, Position(5)) == [4, 2, 3]
        assert store.state_at(ROOM, Position(8)) == [8, 6, 3]
        assert store.state_at(ROOM, Position(99)) == [8, 10, 3]
        assert store.state_at(OTHER, Position(99)) == [2]
        assert store.state_at(RoomId("r_none"), Position(99)) == []
        store.rebuild_index()


def test_a_large_value_is_read_with_its_fact_and_nothing_of_a_deleted_rooms_state_is_left(store: Store) -> None:
    _with_state(store)
    found = store.body(ROOM, Position(6))
    assert found is not None
    assert found[0] == b"v" * 5_000
    assert (store.verify_chain(ROOM), store.check()) == (None, [])
    _do(store, BuryRoom(ROOM, Millis(7)))
    assert store.state_versions(ROOM, "_shared", "turn", Position(99), 9) == store.state_at(ROOM, Position(99)) == []
    assert store.state_at(OTHER, Position(99)) == [2]
    _clear(store, ROOM, 3)
    assert store.check() == []


# -- own lines ---------------------------------------------------------------------------------------------


def _with_lines(store: Store) -> dict[Position, FactRef]:
    """Facts of two agents for three audiences, in two appends."""
    closed = fact(5, e.RoomClosed(), operation="session.close")
    first = append(opened(), message(2), message(3, BEN), message(4, visible_to=(ANN, BEN)), closed, own_lines=True)
    second = append(message(6), message(7, BEN), message(8, visible_to=(ANN, BEN)), own_lines=True)
    named: dict[Position, FactRef] = {}
    for write in (first, second):
        (outcome,) = store.transact([[write]])
        assert outcome.error is None
        named |= {position: ref for (room, position), ref in outcome.numbers.items() if room == ROOM}
    return named


def test_each_fact_has_the_next_number_of_its_actor_and_audience(store: Store) -> None:
    named = _with_lines(store)
    mine = first_line(ROOM, ANN, MYSELF)
    # What follows from a request, as that the room was opened does here, has none.
    assert named == {
        2: FactRef("m_r_one_2", 1),
        3: FactRef("m_r_one_3", 1),
        4: FactRef("m_r_one_4", 1),
        5: FactRef(fact_id(mine, 1), 1),
        6: FactRef("m_r_one_6", 2),
        7: FactRef("m_r_one_7", 2),
        8: FactRef("m_r_one_8", 2),
    }
    line = first_line(ROOM, ANN, EVERYBODY)
    for position, number in ((2, 1), (6, 2)):
        found = store.receipted(ROOM, Position(position))
        assert found is not None
        assert (found.numbered, found.unaltered) == (Numbered(number, line), True)
        line = next_line_of_own(line, found.digest)
    assert store.place_in_line(ROOM, first_line(ROOM, ANN, EVERYBODY), 2) == 6
    assert store.place_in_line(ROOM, first_line(ROOM, ANN, EVERYBODY), 3) is None
    assert store.place_in_line(OTHER, first_line(ROOM, ANN, EVERYBODY), 2) is None
    assert store.first_unlined(ROOM) is None
    assert store.check() == []


def test_a_fact_is_given_for_its_receipt_with_what_opens_it(store: Store) -> None:
    _with_lines(store)
    found = store.receipted(ROOM, Position(4))
    assert found is not None
    assert (found.body, found.signature) == (b"r_one:4", SIGNATURE)
    assert msgspec.msgpack.decode(found.event)["id"] == "m_r_one_4"
    assert store.receipted(ROOM, Position(9)) is None
    assert store.receipted(ROOM, Position(0)) is None
    assert store.receipted(OTHER, Position(1)) is None
    _do(store, EraseBodies(ROOM, [Position(4)]))
    erased = store.receipted(ROOM, Position(4))
    assert erased is not None
    assert (erased.body, erased.digest, erased.numbered) == (None, found.digest, found.numbered)


def test_an_append_that_is_refused_takes_no_number(store: Store) -> None:
    _with_lines(store)
    refused = append(message(9), expected=3, own_lines=True)
    outcomes = store.transact([[refused], [append(message(9), own_lines=True)]])
    assert [each.error is None for each in outcomes] == [False, True]
    assert outcomes[0].numbers == {}
    assert outcomes[1].numbers == {(ROOM, Position(9)): FactRef("m_r_one_9", 3)}


def test_a_log_without_own_lines_has_no_numbers(store: Store) -> None:
    (outcome,) = store.transact([[append(opened(), message(2))]])
    assert outcome.numbers == {}
    found = store.receipted(ROOM, Position(2))
    assert found is not None
    assert found.numbered is None
    # A file from before own lines goes on with them.
    (later,) = store.transact([[append(message(3), own_lines=True)]])
    assert later.numbers == {(ROOM, Position(3)): FactRef("m_r_one_3", 1)}
    store.rebuild_index()
    assert store.receipted(ROOM, Position(3)) is not None
    assert store.first_unlined(ROOM) is None


def test_nothing_of_a_deleted_rooms_lines_is_left(store: Store) -> None:
    _with_lines(store)
    _do(store, BuryRoom(ROOM, Millis(9_000)))
    assert store.receipted(ROOM, Position(2)) is None
    assert store.place_in_line(ROOM, first_line(ROOM, ANN, EVERYBODY), 1) is None
    _clear(store, ROOM, 3)
    assert store.check() == []
