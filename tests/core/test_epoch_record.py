"""The record of an epoch: its bytes, its check, and the roster that it leads to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core.epoch_record import (
    MAX_CARD,
    MAX_CHANGES,
    MAX_RECORD,
    MAX_SEALED_MEMBERS,
    MAX_WRAPS,
    Added,
    EpochCard,
    EpochRecord,
    Roster,
    check_record,
    check_wraps,
    decode_card,
    decode_turned,
    encode_card,
    encode_record,
    encode_turned,
    encode_wraps,
    record_digest,
    roster_after,
    roster_digest,
)
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, HomeId, Millis, RoomId, RosterEntry
from parlerd.core.statements import MAX_MOMENT, NONCE, SealingKey, encode
from tests.support.core import BEN, CAT, HOME, OWNER, STRANGER, Agent, outcome


def added(agent: Agent, counter: int = 1, **more: Any) -> Added:
    statement = SealingKey(
        home=HOME, agent=agent.id, key=counter.to_bytes(32), counter=counter, at=Millis(7), nonce=bytes(NONCE)
    )
    return Added(agent.id, agent.principal, agent.name, encode(replace(statement, **more)), bytes(64))


def entries(*all: Added) -> dict[AgentId, RosterEntry]:
    keys = [msgspec.msgpack.decode(each.statement, type=SealingKey) for each in all]
    return {
        each.agent: RosterEntry(each.principal, each.handle, key.key, key.counter)
        for each, key in zip(all, keys, strict=True)
    }


def wraps_of(agents: Iterable[AgentId]) -> bytes:
    return encode_wraps(tuple((agent, b"w" * 48) for agent in sorted(agents)))


def record(number: int, roster: Roster, **more: Any) -> EpochRecord:
    return EpochRecord(
        **{
            "home": HOME,
            "room": RoomId("r_1"),
            "number": number,
            "previous": b"p" * 32 if number > 1 else b"",
            "added": (),
            "removed": (),
            "roster": roster_digest(roster),
            "secret": b"s" * 32,
            "ephemeral": b"e" * 32,
            "wraps": hashlib.sha256(wraps_of(roster)).digest(),
            "link": b"",
            "card": b"c" * 80,
            "decisions": (),
            "at": Millis(7),
            "nonce": bytes(NONCE),
            **more,
        }
    )


ALONE = entries(added(OWNER))
BOTH = entries(added(OWNER), added(BEN))
FIRST = record(1, ALONE, added=(added(OWNER),))
JOIN = record(2, BOTH, added=(added(BEN),), link=b"l" * 72, decisions=(b"d" * 32,))
LEAVE = record(3, ALONE, removed=(BEN.id,))
ALL = (FIRST, JOIN, LEAVE)


def refusal(said: EpochRecord) -> object:
    """The field for which a record is refused, or None."""
    try:
        assert check_record(encode_record(said)) == said
    except Refused as error:
        return error.details["what"] if error.code == "statement_refused" else error.code
    return None


def why_not(before: Roster, said: EpochRecord) -> object:
    """The field for which no roster follows, or None."""
    try:
        roster_after(before, said)
    except Refused as error:
        return error.details["what"]
    return None


@pytest.mark.parametrize("said", ALL)
def test_a_record_reads_back_as_it_was_written(said: EpochRecord) -> None:
    body = encode_record(said)
    assert refusal(said) is None
    assert encode_record(check_record(body)) == body
    assert record_digest(body) == hashlib.sha256(body).digest()
    assert decode_turned(encode_turned(body, b"wraps")) == (body, b"wraps")


@pytest.mark.parametrize(
    ("said", "change", "what"),
    [
        *((each, {"v": 2}, "v") for each in ALL),
        *((each, {"suite": 2}, "suite") for each in ALL),
        *((each, {"nonce": b""}, "nonce") for each in ALL),
        *((each, {"home": "home"}, "home") for each in ALL),
        *((each, {"room": "a room"}, "room") for each in ALL),
        (FIRST, {"number": 0}, "number"),
        (FIRST, {"number": 2}, "previous"),
        (FIRST, {"previous": b"p" * 32}, "previous"),
        (FIRST, {"link": b"l" * 72}, "link"),
        (FIRST, {"added": ()}, "added"),
        (FIRST, {"removed": (BEN.id,)}, "added"),
        (JOIN, {"number": 1}, "previous"),
        (JOIN, {"previous": b""}, "previous"),
        (JOIN, {"previous": b"p"}, "previous"),
        (JOIN, {"added": (added(BEN), added(BEN))}, "added"),
        (JOIN, {"added": (replace(added(BEN), handle="two words"),)}, "added"),
        (JOIN, {"added": (replace(added(BEN), principal=BEN.id),)}, "added"),
        (JOIN, {"added": (replace(added(BEN), signature=b""),)}, "added"),
        (JOIN, {"added": (added(BEN, home=HomeId("N" + "A" * 55)),)}, "added"),
        (JOIN, {"added": (replace(added(BEN), agent=CAT.id),)}, "added"),
        (JOIN, {"added": (added(BEN, key=b"short"),)}, "key"),
        (JOIN, {"removed": (BEN.id,)}, "removed"),
        (LEAVE, {"removed": ("ben",)}, "removed"),
        (LEAVE, {"removed": (BEN.id, BEN.id)}, "removed"),
        (JOIN, {"roster": b""}, "roster"),
        (JOIN, {"secret": b""}, "secret"),
        (JOIN, {"ephemeral": b"e" * 31}, "ephemeral"),
        (JOIN, {"wraps": b""}, "wraps"),
        (JOIN, {"link": b"l" * 71}, "link"),
        (JOIN, {"card": b"c" * 3_000}, "card"),
        (JOIN, {"decisions": (b"d",)}, "decisions"),
        (JOIN, {"at": Millis(-1)}, "at"),
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_named(said: EpochRecord, change: dict[str, Any], what: str) -> None:
    assert refusal(replace(said, **change)) == what


def test_a_record_that_this_version_does_not_know_or_that_is_too_long_is_refused() -> None:
    more = msgspec.msgpack.encode({**msgspec.msgpack.decode(encode_record(FIRST)), "also": 1})
    for body, what in ((more, "format"), (encode_record(FIRST) + bytes(MAX_RECORD), "size"), (b"", "format")):
        with pytest.raises(Refused) as caught:
            check_record(body)
        assert caught.value.details == {"what": what}
    with pytest.raises(Refused):
        decode_turned(bytes(MAX_RECORD + MAX_WRAPS + 17))


def many(count: int) -> list[Agent]:
    """So many agents, with the longest names, in the order of their ids."""
    spelled = (f"{n:055b}".replace("0", "A").replace("1", "B") for n in range(count))
    return [Agent(AgentId(f"U{text}"), OWNER.principal, "n" * 64) for text in spelled]


def test_as_many_changes_as_one_record_takes_fit_into_it() -> None:
    agents = many(2 * MAX_CHANGES + 1)
    joined = tuple(added(each, 2**53 - 1, key=b"k" * 32, at=MAX_MOMENT) for each in agents[:MAX_CHANGES])
    left = tuple(each.id for each in agents[MAX_CHANGES : 2 * MAX_CHANGES])
    full = replace(JOIN, added=joined, removed=left, decisions=(b"d" * 32,) * MAX_CHANGES, card=bytes(MAX_CARD))
    assert refusal(full) is None
    assert refusal(replace(full, added=(*joined, added(agents[-1])))) == "added"
    assert refusal(replace(full, removed=(*left, agents[-1].id))) == "removed"
    assert len(wraps_of(each.id for each in many(MAX_SEALED_MEMBERS))) < MAX_WRAPS


# -- the roster --------------------------------------------------------------------------------------------


def test_the_records_of_a_room_lead_from_roster_to_roster() -> None:
    assert roster_after({}, FIRST) == ALONE
    assert roster_after(ALONE, JOIN) == BOTH
    assert roster_after(BOTH, LEAVE) == ALONE


def test_a_fresh_key_takes_the_place_of_the_old_one_and_no_old_one_comes_back() -> None:
    fresh = entries(added(OWNER), added(BEN, 5))
    renewed = record(3, fresh, added=(added(BEN, 5),))
    assert roster_after(BOTH, renewed) == fresh
    for counter in (1, 4, 5):
        again = record(4, entries(added(OWNER), added(BEN, counter)), added=(added(BEN, counter),))
        assert why_not(fresh, again) == "counter"


def test_a_record_that_does_not_say_what_it_leads_to_is_refused() -> None:
    assert why_not(BOTH, JOIN) == "counter"
    assert why_not(ALONE, LEAVE) == "removed"
    assert why_not(BOTH, record(3, {}, removed=tuple(sorted((OWNER.id, BEN.id))))) == "removed"
    for lie in (ALONE, entries(added(OWNER), added(CAT)), {**BOTH, BEN.id: replace(BOTH[BEN.id], handle="other")}):
        assert why_not(ALONE, replace(JOIN, roster=roster_digest(lie))) == "roster"


def test_a_sealed_room_has_no_more_members_than_it_takes() -> None:
    agents = many(MAX_SEALED_MEMBERS + 1)
    full = entries(*(added(each) for each in agents[:-1]))
    more = entries(*(added(each) for each in agents))
    assert why_not(entries(*(added(each) for each in agents[:-2])), record(2, full, added=(added(agents[-2]),))) is None
    assert why_not(full, record(3, more, added=(added(agents[-1]),))) == "added"


def test_a_digest_of_a_roster_says_who_is_in_for_whom_under_which_name_and_key() -> None:
    seat = BOTH[BEN.id]
    others = [
        replace(seat, principal=STRANGER.principal),
        replace(seat, handle="other"),
        replace(seat, key=b"o" * 32),
        replace(seat, counter=seat.counter + 1),
    ]
    digests = {roster_digest({**BOTH, BEN.id: each}) for each in (seat, *others)} | {roster_digest(ALONE)}
    assert len(digests) == 6
    assert roster_digest(BOTH) == roster_digest(dict(reversed(list(BOTH.items()))))


def test_wraps_count_only_with_their_record_and_for_exactly_its_members() -> None:
    data = wraps_of(BOTH)
    assert [agent for agent, _ in check_wraps(data, JOIN, BOTH)] == sorted(BOTH)
    for other in (wraps_of(ALONE), wraps_of([*BOTH, CAT.id]), b"", encode_wraps(((BEN.id, b"w"),))):
        with pytest.raises(Refused, match="statement_refused"):
            check_wraps(other, JOIN, BOTH)
        with pytest.raises(Refused, match="statement_refused"):
            check_wraps(other, replace(JOIN, wraps=hashlib.sha256(other).digest()), BOTH)


def test_a_card_is_the_same_again() -> None:
    for card in (EpochCard(b"title"), EpochCard(b"title", "m_1", b"k" * 32)):
        assert decode_card(encode_card(card)) == card
    with pytest.raises(Refused):
        decode_card(encode_card(EpochCard(b"title", "m_1", b"short")))


# -- any bytes ---------------------------------------------------------------------------------------------


@given(st.sampled_from(ALL), st.data())
def test_damage_anywhere_gives_a_record_or_a_refusal(said: EpochRecord, data: st.DataObject) -> None:
    body = bytearray(encode_record(said))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(lambda: check_record(bytes(body))) in ("ok", "statement_refused")


@given(st.binary(max_size=300))
def test_no_bytes_at_all_raise_anything_else(body: bytes) -> None:
    for read in (check_record, decode_turned, decode_card, lambda data: check_wraps(data, FIRST, ALONE)):
        with pytest.raises(Refused, match="statement_refused"):
            read(body)
