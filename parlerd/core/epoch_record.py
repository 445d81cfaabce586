"""The record of an epoch: who is in a sealed room from now on, and how each of them gets the secret of it.

    SealingKey ─┐ each member's own, signed by the agent (`statements`)
    Added ──────┴> EpochRecord ──> Roster     roster_after: who is in, with which key
                        └──> Wraps            the secret for each of them, beside the record, told to everybody

In a queue of tasks a record also says who only asks for work. Such a requester gets no secret of the epoch, but two
keys that follow from that: one for what it says itself, and one for the room's card.

Each change of who may read is one record, signed by the person who owns the room (parler/epoch). A record names the
one before by its hash, so the records of a room are a chain, and it names by their hashes the roster that it leads to
and the wraps that belong to it. So a wrap that comes from elsewhere is none, and everybody who reads the records in
order has the same roster or is told that something is wrong.

Not here: signatures, secrets and the encryption (`identity.epochs`), and which record is in force (`epochs`). Above:
those two. Below: `statements`. Invariant: a record is encoded once; the bytes that were signed are the bytes that are
stored and sent, and their SHA-256 is the record's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import msgspec
from msgspec.structs import replace

from parlerd.core.errors import Refused
from parlerd.core.model import (
    AgentId,
    HomeId,
    Millis,
    PrincipalId,
    RoomId,
    RosterEntry,
    is_home_id,
    is_keyed_id,
    is_label,
    is_principal_id,
)
from parlerd.core.sealing import TAG
from parlerd.core.statements import MAX_MOMENT, MAX_STATEMENT, NONCE, SUITE, SealingKey, check

MAX_SEALED_MEMBERS: Final = 1_024
"""How many agents a sealed room may have. Each record brings each of them a wrap."""
MAX_CHANGES: Final = 256
"""How many agents one record may add, and how many it may remove: what waits beyond that is in the next."""
MAX_FIRST: Final = 2
"""How many agents the first record of a room may add: its owner and, in a direct room, whom the owner wrote to."""
MAX_DECISIONS: Final = MAX_CHANGES
MAX_CARD: Final = 2 * 1024
"""Bytes of a sealed card: twice what the longest name and topic take, with a key."""
MAX_RECORD: Final = 256 * 1024
"""Bytes of an encoded record: more than `MAX_CHANGES` additions, removals and decisions take."""
MAX_WRAPS: Final = 160 * 1024
"""Bytes of encoded wraps: `MAX_SEALED_MEMBERS` times the 143 of a requester, and a tenth as much again."""
LINK: Final = 24 + 32 + TAG
"""Bytes of a link: a nonce, the secret before, and a tag."""
WRAP: Final = 32 + TAG
"""Bytes of a wrap: the secret and a tag."""
REQUESTER_WRAP: Final = 2 * 32 + TAG
"""Bytes of the wrap of somebody who only asks a queue for work: two keys and a tag."""
_DIGEST: Final = 32
_KEY: Final = 32
_SIGNATURE: Final = 64
_ROSTER: Final = b"parler/roster\0"
_PUT_OUT: Final = b"parler/put-out\0"

Wraps = tuple[tuple[AgentId, bytes], ...]
"""The secret of an epoch for each member, or of a requester its two keys, by their ids in order."""


class Added(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An agent that the record lets in, or one that is in and has a fresh key."""

    agent: AgentId
    principal: PrincipalId
    """The person for whom the agent acts."""
    handle: str
    statement: bytes
    """The agent's `SealingKey`, as it was signed."""
    signature: bytes
    """The agent's, under `parler/sealing-key`."""


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An epoch of a sealed room begins."""

    TAG: ClassVar[Literal["parler/epoch"]] = "parler/epoch"
    v: int = 1
    """The version of the shape."""
    suite: int = SUITE
    """What the room is sealed with, as its opening says."""
    home: HomeId
    room: RoomId
    number: int
    """Records of a room are counted from 1. The first comes with the opening, and holds the owner alone or, in a direct
    room, also the agent that the room is for."""
    previous: bytes
    """The SHA-256 of the record before; empty in the first."""
    added: tuple[Added, ...]
    """By their ids in order, each once."""
    removed: tuple[AgentId, ...]
    """Who was in and is not any more, in order."""
    roster: bytes
    """The digest of the roster from now on (`roster_digest`)."""
    secret: bytes
    """A digest of the epoch's secret, by which each member sees that its wrap brought the right one. The secret itself
    stands nowhere in the record."""
    ephemeral: bytes
    """The X25519 public key that the wraps are made with."""
    wraps: bytes
    """The SHA-256 of the encoded wraps, which travel beside the record."""
    link: bytes
    """The secret of the epoch before, sealed under this one's; empty in the first record, and in a room whose history
    is not `full`."""
    card: bytes
    """The room's `EpochCard`, sealed under this epoch's secret."""
    decisions: tuple[bytes, ...]
    """The SHA-256 of each decision that the record carries out; of one to put somebody out, `put_out_digest`."""
    successor: PrincipalId | msgspec.UnsetType = msgspec.UNSET
    """The person who may take the room over once its owner's person is gone, and go on with the records. The field is
    left out of the bytes of a record that names nobody; a home of an earlier version refuses a record that has it."""
    requesters: tuple[AgentId, ...] | msgspec.UnsetType = msgspec.UNSET
    """In a queue: who of the roster only asks for work from now on, by their ids in order. The field is left out of the
    bytes where nobody does, and in every room that is no queue."""
    at: Millis
    """When the record was made, by the clock of whoever made it."""
    nonce: bytes


class EpochCard(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What everybody who comes into a sealed room is promised, whatever of its history is shown. Sealed in each record
    anew."""

    title: bytes
    """The encoded `Title`, which the opening names by its hash."""
    recap: str = ""
    """The id of the message that opened the room; empty while there is none."""
    key: bytes = b""
    """The key of that message alone."""


Roster = Mapping[AgentId, RosterEntry]
"""Who is in a sealed room, with which key. It is never changed in place."""

_ENCODER = msgspec.msgpack.Encoder()
_RECORD = msgspec.msgpack.Decoder(EpochRecord)
_CARD = msgspec.msgpack.Decoder(EpochCard)
_WRAPS = msgspec.msgpack.Decoder(Wraps)
_TURNED = msgspec.msgpack.Decoder(tuple[bytes, bytes])


# -- bytes -------------------------------------------------------------------------------------------------


def encode_record(record: EpochRecord) -> bytes:
    """The bytes that are signed, stored and sent. Keep them: nobody encodes the same record a second time."""
    return _ENCODER.encode(record)


def record_digest(body: bytes) -> bytes:
    """The name of the record in these bytes, as messages and the next record give it."""
    return hashlib.sha256(body).digest()


def encode_wraps(wraps: Wraps) -> bytes:
    """The bytes that a record names by their hash."""
    return _ENCODER.encode(wraps)


def encode_card(card: EpochCard) -> bytes:
    """The bytes that are sealed."""
    return _ENCODER.encode(card)


def decode_card(data: bytes) -> EpochCard:
    """The card again. Raises `Refused(statement_refused)`."""
    card: EpochCard = _decoded(data, _CARD, MAX_CARD)
    if len(card.key) not in (0, _KEY):
        raise _refused("card")
    return card


def encode_turned(record: bytes, wraps: bytes) -> bytes:
    """The body of the fact that an epoch began: the encoded record, which is what was signed, and the encoded wraps."""
    return _ENCODER.encode((record, wraps))


def decode_turned(body: bytes) -> tuple[bytes, bytes]:
    """The two again. Raises `Refused(statement_refused)`."""
    found: tuple[bytes, bytes] = _decoded(body, _TURNED, MAX_RECORD + MAX_WRAPS + 16)
    return found


def successor_of(record: EpochRecord) -> PrincipalId:
    """Who may go on with the records after this one; empty where it names nobody."""
    return PrincipalId("") if record.successor is msgspec.UNSET else record.successor


def requesters_of(record: EpochRecord) -> tuple[AgentId, ...]:
    """Who of the roster only asks for work from this record on."""
    return () if record.requesters is msgspec.UNSET else record.requesters


def seated(roster: Roster, requesters: Collection[AgentId]) -> dict[AgentId, RosterEntry]:
    """The same roster, in which these alone only ask for work."""
    return {
        agent: entry if entry.requester is (agent in requesters) else replace(entry, requester=agent in requesters)
        for agent, entry in roster.items()
    }


def changed_seats(before: Roster, roster: Roster) -> dict[AgentId, RosterEntry]:
    """Who is in a roster that was not in the one before, or is there with another key or as something else."""
    return {agent: entry for agent, entry in sorted(roster.items()) if before.get(agent) != entry}


def put_out_digest(agent: AgentId) -> bytes:
    """By what a record says that its owner's person put this agent out, and that the agent did not leave: SHA-256 over
    a tag, a zero byte, and the agent's id. Nobody signs anything else about that."""
    return hashlib.sha256(_PUT_OUT + agent.encode()).digest()


def roster_digest(roster: Roster) -> bytes:
    """What a record says of a roster: SHA-256 over a tag, a zero byte, and the encoded entries by their agents' ids in
    order: (agent, principal, handle, key, counter), and behind these a true of whoever only asks for work."""
    entries = [
        (agent, entry.principal, entry.handle, entry.key, entry.counter, *((True,) if entry.requester else ()))
        for agent, entry in sorted(roster.items())
    ]
    return hashlib.sha256(_ROSTER + _ENCODER.encode(entries)).digest()


# -- the check ---------------------------------------------------------------------------------------------


def check_record(body: bytes) -> EpochRecord:
    """The record in these bytes, checked as far as it can be checked without its room and without signatures.

    Raises `Refused(statement_refused)` with the wrong field as `what`.
    """
    record: EpochRecord = _decoded(body, _RECORD, MAX_RECORD)
    for name, form in _FORMS.items():
        if not form(getattr(record, name)):
            raise _refused(name)
    is_first = record.number == 1
    if is_first is not (record.previous == b""):
        raise _refused("previous")
    if is_first and record.link:
        raise _refused("link")
    if is_first and (not 1 <= len(record.added) <= MAX_FIRST or record.removed):
        raise _refused("added")
    if is_first and requesters_of(record):
        # The one who is in owns the room.
        raise _refused("requesters")
    if not {each.agent for each in record.added}.isdisjoint(record.removed):
        raise _refused("removed")
    for each in record.added:
        _key_of(record, each)
    return record


def roster_after(before: Roster, record: EpochRecord) -> Roster:
    """The roster that a checked record leads to from the one before, which is empty before the first record.

    Raises `Refused(statement_refused)` where the record does not say so itself, removes somebody who is not in, brings
    back an old key, or lets in more than a room takes.
    """
    if not set(record.removed) <= before.keys():
        raise _refused("removed")
    roster = {agent: entry for agent, entry in before.items() if agent not in set(record.removed)}
    for each in record.added:
        key = _key_of(record, each)
        old = before.get(each.agent)
        if old is not None and key.counter <= old.counter:
            raise _refused("counter")
        roster[each.agent] = RosterEntry(each.principal, each.handle, key.key, key.counter)
    requesters = frozenset(requesters_of(record))
    if not requesters <= roster.keys():
        raise _refused("requesters")
    roster = seated(roster, requesters)
    if not 1 <= len(roster) <= MAX_SEALED_MEMBERS:
        raise _refused("added" if roster else "removed")
    if roster_digest(roster) != record.roster:
        raise _refused("roster")
    return roster


def check_wraps(data: bytes, record: EpochRecord, roster: Roster) -> Wraps:
    """The wraps in these bytes, which are those of the record and for exactly the agents of the roster that it leads
    to. Raises `Refused(statement_refused)`."""
    wraps = read_wraps(data, record)
    if [agent for agent, _ in wraps] != sorted(roster):
        raise _refused("wraps")
    return wraps


def read_wraps(data: bytes, record: EpochRecord) -> Wraps:
    """The wraps in these bytes, which are those of the record, for whoever does not have the roster. Raises
    `Refused(statement_refused)`."""
    if hashlib.sha256(data).digest() != record.wraps:
        raise _refused("wraps")
    wraps: Wraps = _decoded(data, _WRAPS, MAX_WRAPS)
    requesters = frozenset(requesters_of(record))
    if any(len(wrap) != (REQUESTER_WRAP if agent in requesters else WRAP) for agent, wrap in wraps):
        raise _refused("wraps")
    return wraps


def _key_of(record: EpochRecord, added: Added) -> SealingKey:
    key = check(added.statement, SealingKey)
    if key.agent != added.agent or key.home != record.home:
        raise _refused("added")
    return key


def _are_in_order(ids: list[AgentId]) -> bool:
    return len(ids) <= MAX_CHANGES and _is_sorted(ids)


def _is_sorted(ids: Sequence[AgentId]) -> bool:
    return list(ids) == sorted(set(ids)) and all(map(is_keyed_id, ids))


def _is_added(added: Added) -> bool:
    return (
        is_principal_id(added.principal)
        and is_label(added.handle)
        and len(added.statement) <= MAX_STATEMENT
        and len(added.signature) == _SIGNATURE
    )


_FORMS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "v": lambda value: value == 1,
    "suite": lambda value: value == SUITE,
    "home": is_home_id,
    "room": lambda value: 1 <= len(value) <= 64 and value.isascii() and value.replace("_", "").isalnum(),
    "number": lambda value: 1 <= value < 2**53,
    "previous": lambda value: len(value) in (0, _DIGEST),
    "added": lambda value: _are_in_order([each.agent for each in value]) and all(map(_is_added, value)),
    "removed": lambda value: _are_in_order(list(value)),
    "roster": lambda value: len(value) == _DIGEST,
    "secret": lambda value: len(value) == _DIGEST,
    "ephemeral": lambda value: len(value) == _KEY,
    "wraps": lambda value: len(value) == _DIGEST,
    "link": lambda value: len(value) in (0, LINK),
    "card": lambda value: len(value) <= MAX_CARD,
    "decisions": lambda value: len(value) <= MAX_DECISIONS and all(len(each) == _DIGEST for each in value),
    "successor": lambda value: value is msgspec.UNSET or is_principal_id(value),
    "requesters": lambda value: value is msgspec.UNSET or (0 < len(value) <= MAX_SEALED_MEMBERS and _is_sorted(value)),
    "at": lambda value: 0 <= value <= MAX_MOMENT,
    "nonce": lambda value: len(value) == NONCE,
}


def _decoded(body: bytes, decoder: msgspec.msgpack.Decoder[Any], most: int) -> Any:
    if len(body) > most:
        raise _refused("size")
    try:
        return decoder.decode(body)
    # msgspec raises UnicodeDecodeError for text that is not UTF-8, and RecursionError for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _refused("format") from None


def _refused(what: str) -> Refused:
    return Refused("statement_refused", what=what)
