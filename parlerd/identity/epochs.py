"""Making the record of an epoch, reading it, and getting the epoch's secret out of it.

    make          the owner's home: a fresh secret, wrapped to everybody who is in from now on
    read          everybody: the person who owns the room signed it, and each added agent its own key
    secret_of     a member: the secret, out of the wrap that is for it
    asking_of     who only asks a queue for work: the two keys, out of the wrap that is for it
    secret_before where the history is for everyone who comes in: the secret of the epoch before, and so on to the first
    card          what everybody is told who comes in

A fresh secret follows from nothing: whoever has the one before cannot compute it, and under `from-join` and `none`
whoever has it cannot compute the one before. With a record for each who joins and each who goes, both see exactly what
was said while they were in.

Not here: the shapes and what follows for the roster (`core.epoch_record`), and when a record is made (the engine).
Above: the engine. Below: `sealing`, `signatures`. Invariants: a wrap opens only for its room, record number and member;
a secret that does not fit the record's digest is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

import msgspec
from nacl.bindings import sodium_memcmp

from parlerd.core.epoch_record import (
    Added,
    EpochCard,
    EpochRecord,
    Roster,
    Wraps,
    check_record,
    decode_card,
    encode_card,
    encode_record,
    encode_wraps,
    record_digest,
    roster_after,
    roster_digest,
    seated,
    successor_of,
)
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, History, HomeId, Millis, PrincipalId, RoomId, RosterEntry
from parlerd.core.sealing import unreadable
from parlerd.core.statements import NONCE, SealingKey, check
from parlerd.identity import codes
from parlerd.identity.sealing import (
    KEY,
    Epoch,
    KeyPair,
    Random,
    check_key,
    decrypt,
    derive,
    encrypt,
    epoch_secret,
    new_key,
    secret_digest,
    unwrap,
    wrap,
)
from parlerd.identity.signatures import verify

VERIFY_LENGTH: Final = 20
"""Characters that members compare: 100 bits. Source: sealed spec, At home."""
_VERIFY: Final = b"parler/verify\0"


class Before(NamedTuple):
    """The epoch that another one follows, as the owner's home knows it."""

    epoch: Epoch
    """Its secret is empty where the home lost it: then no link leads back to it."""
    roster: Roster


class Asking(NamedTuple):
    """What somebody has of an epoch who only asks a queue for work. Its `repr` shows nothing of it."""

    secret: bytes
    """What the keys of its own messages follow from, in the place of the epoch's secret (`asking_secret`)."""
    card: bytes
    """The key of the room's card."""

    def __repr__(self) -> str:
        return "Asking()"


class Made(NamedTuple):
    """A new record, before the owner's person signs it."""

    record: EpochRecord
    body: bytes
    """The encoded record: what is signed under `parler/epoch`."""
    wraps: bytes
    """The encoded wraps, which travel beside it."""
    roster: Roster
    epoch: Epoch
    """With the secret, which the owner's home keeps."""


def make(
    *,
    home: HomeId,
    room: RoomId,
    before: Before | None,
    added: Iterable[Added],
    removed: Iterable[AgentId],
    history: History,
    card: EpochCard,
    decisions: Iterable[bytes] = (),
    successor: PrincipalId | None = None,
    requesters: Collection[AgentId] = (),
    at: Millis,
    random: Random,
) -> Made:
    """The record that follows `before`, or a room's first. `decisions` are the SHA-256 of the decisions that it carries
    out, `successor` may go on once the owner's person is gone, `requesters` are those in the roster that only ask a
    queue for work, and `at` is the time of this home's clock.

    Raises `Refused`: `sealing_key_refused`, with the agent, for a key to which nothing can be wrapped; and
    `statement_refused` for a record that nobody would take, such as one that removes an agent that is not in.
    """
    secret, ephemeral = epoch_secret(random), new_key(random)
    number = 1 if before is None else before.epoch.number + 1
    new, gone = sorted(added, key=lambda each: each.agent), frozenset(removed)
    old: Roster = {} if before is None else before.roster
    roster = {agent: entry for agent, entry in old.items() if agent not in gone}
    for each in new:
        key = check(each.statement, SealingKey)
        roster[each.agent] = RosterEntry(each.principal, each.handle, key.key, key.counter)
    asking = tuple(sorted(roster.keys() & requesters))
    roster = seated(roster, asking)
    wraps = encode_wraps(_wraps(secret, roster, ephemeral, room, number))
    is_linked = history == "full" and before is not None and before.epoch.secret != b""
    record = EpochRecord(
        home=home,
        room=room,
        number=number,
        previous=b"" if before is None else before.epoch.record,
        added=tuple(new),
        removed=tuple(sorted(gone)),
        roster=roster_digest(roster),
        secret=secret_digest(secret),
        ephemeral=ephemeral.public,
        wraps=hashlib.sha256(wraps).digest(),
        link=encrypt(before.epoch.secret, _link_key(secret, room, number), random) if is_linked and before else b"",
        card=encrypt(encode_card(card), card_key(secret, room, number), random),
        decisions=tuple(decisions),
        successor=successor or msgspec.UNSET,
        requesters=asking or msgspec.UNSET,
        at=at,
        nonce=random(NONCE),
    )
    body = encode_record(record)
    roster_after(old, check_record(body))
    return Made(record, body, wraps, roster, Epoch(number, record_digest(body), secret))


def read(body: bytes, signature: bytes, *, owners: Collection[PrincipalId]) -> EpochRecord:
    """The record in these bytes, which one of these people signed, and whose added agents signed their keys. Of a new
    record the caller names the one who owns the room where it stands: who owned it before begins no epoch any more.
    Raises `Refused`: `statement_refused`, and `sealing_key_refused` for a key that is none.

    Whether it follows the newest record, and which roster it leads to, is for the caller to find out.
    """
    record = check_record(body)
    signer_of(body, signature, owners=owners)
    for each in record.added:
        if not is_own_key(each.agent, each.statement, each.signature):
            raise Refused("statement_refused", what="added")
        check_key(check(each.statement, SealingKey).key)
    return record


def signer_of(body: bytes, signature: bytes, *, owners: Iterable[PrincipalId]) -> PrincipalId:
    """Which of these people signed a record. Raises `Refused(statement_refused)` where none did."""
    signer = next((owner for owner in owners if verify(owner, EpochRecord.TAG, body, signature)), None)
    if signer is None:
        raise Refused("statement_refused", what="signature")
    return signer


def successor_in(
    body: bytes, signature: bytes, *, home: HomeId, room: RoomId, number: int, owner: PrincipalId
) -> PrincipalId | None:
    """Whom the record of this number, signed by the person who owned the room, names to go on once that person is gone;
    None where it names nobody, or is no such record."""
    try:
        record = check_record(body)
        signer_of(body, signature, owners=[owner])
    except Refused:
        return None
    is_that = (record.home, record.room, record.number) == (home, room, number)
    return (successor_of(record) or None) if is_that else None


def is_own_key(agent: AgentId, statement: bytes, signature: bytes) -> bool:
    """Whether the agent signed this `SealingKey`."""
    return verify(agent, SealingKey.TAG, statement, signature)


def secret_of(record: EpochRecord, wraps: Wraps, me: AgentId, mine: KeyPair) -> bytes:
    """The secret of a record's epoch, out of checked wraps. Raises `Refused(sealed_unreadable)`, with `what`: `member`
    where nothing was wrapped to me, `wrap` where it was not for this key, `secret` where it is not the one that the
    record names."""
    return _fitting(_unwrapped(record, wraps, me, mine), record)


def asking_of(record: EpochRecord, wraps: Wraps, me: AgentId, mine: KeyPair) -> Asking:
    """What somebody who only asks for work has of a record's epoch, out of checked wraps. Raises
    `Refused(sealed_unreadable)`, with `what`: `member` where nothing was wrapped to me, `wrap` where it was not for
    this key, or is not two keys."""
    keys = _unwrapped(record, wraps, me, mine)
    if len(keys) != 2 * KEY:
        raise unreadable("wrap")
    return Asking(keys[:KEY], keys[KEY:])


def _unwrapped(record: EpochRecord, wraps: Wraps, me: AgentId, mine: KeyPair) -> bytes:
    wrapped = next((each for agent, each in wraps if agent == me), None)
    if wrapped is None:
        raise unreadable("member")
    try:
        return unwrap(wrapped, mine, record.ephemeral, *_wrap_context(record.room, record.number, me))
    except Refused:
        raise unreadable("wrap") from None


def asking_secret(secret: bytes, room: RoomId, number: int, agent: AgentId) -> bytes:
    """What the keys of a requester's messages in an epoch follow from: every worker has it from the epoch's secret, and
    of the requesters this one alone."""
    return derive(secret, b"sealed/requester", room.encode(), number.to_bytes(8, "big"), agent.encode())


def secret_before(record: EpochRecord, secret: bytes, previous: EpochRecord) -> bytes:
    """The secret of the epoch before, out of a record's link. Raises `Refused(sealed_unreadable)`: `link` where there
    is none or it is damaged, `secret` where it is not the one that the record before names."""
    if not record.link:
        raise unreadable("link")
    return _fitting(decrypt(record.link, _link_key(secret, record.room, record.number), "link"), previous)


def card(record: EpochRecord, secret: bytes) -> EpochCard:
    """What a record tells everybody who is in. Raises `Refused`: `sealed_unreadable` and `statement_refused`."""
    return card_by_key(record, card_key(secret, record.room, record.number))


def card_by_key(record: EpochRecord, key: bytes) -> EpochCard:
    """The same for somebody who has the card's key alone."""
    return decode_card(decrypt(record.card, key, "card"))


def verify_words(room: RoomId, record: bytes, roster: Roster) -> str:
    """Five groups of four characters that are the same for everybody who has the same newest record (by its SHA-256)
    and the same roster."""
    told = b"".join([_VERIFY, room.encode(), b"\0", record, roster_digest(roster)])
    text = codes.spell(hashlib.sha256(told).digest(), VERIFY_LENGTH)
    return "-".join(text[place : place + 4] for place in range(0, VERIFY_LENGTH, 4))


def _wraps(secret: bytes, roster: Roster, ephemeral: KeyPair, room: RoomId, number: int) -> Wraps:
    wrapped: list[tuple[AgentId, bytes]] = []
    for agent, entry in sorted(roster.items()):
        given = secret
        if entry.requester:
            given = asking_secret(secret, room, number, agent) + card_key(secret, room, number)
        try:
            wrapped.append((agent, wrap(given, entry.key, ephemeral, *_wrap_context(room, number, agent))))
        except Refused:
            raise Refused("sealing_key_refused", agent=agent) from None
    return tuple(wrapped)


def _fitting(secret: bytes, record: EpochRecord) -> bytes:
    if len(secret) != KEY or not sodium_memcmp(secret_digest(secret), record.secret):
        raise unreadable("secret")
    return secret


def _wrap_context(room: RoomId, number: int, agent: AgentId) -> tuple[bytes, ...]:
    return (b"epoch", room.encode(), number.to_bytes(8, "big"), agent.encode())


def _link_key(secret: bytes, room: RoomId, number: int) -> bytes:
    return derive(secret, b"sealed/link", room.encode(), number.to_bytes(8, "big"))


def card_key(secret: bytes, room: RoomId, number: int) -> bytes:
    """The key of the card in an epoch's record."""
    return derive(secret, b"sealed/card", room.encode(), number.to_bytes(8, "big"))
