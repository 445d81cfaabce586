"""What must hold at the end of a story in a sealed room, of what the relay holds and of what each home could open.

    nobody_else_can_read     each home is handed all that the relay has of the room, and tries with all of its secrets
    opens_nothing            somebody who has other keys tries the same
    everybody_has_the_words  what the homes opened is one thing to all of them, and is what the relay holds sealed
    nothing_can_be_guessed   no digest of what was asked for is there
    nothing_stands_in_clear  no word of the room is in what the relay has, however that is spelled

An attempt goes by the derivations of docs/sealed.md, and by no rule of the product about who is told what: so it finds
a secret that reached somebody whom no roster names. Above: `world`, the act `sealing`. Below: `stored`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from parlerd.core.envelope import SEALED, Envelope, decode_envelope, is_unread, opened_part, sealed_in
from parlerd.core.epoch_record import (
    EpochRecord,
    Wraps,
    check_record,
    decode_turned,
    read_wraps,
    record_digest,
    requesters_of,
)
from parlerd.core.errors import Refused
from parlerd.core.events import EpochTurned, MessageGated, MessagePosted
from parlerd.core.gated import decode_signed
from parlerd.core.model import AgentId, HomeId, MessageId, RoomId
from parlerd.core.sealing import TAG, sealed_part
from parlerd.engine.inputs import input_digest
from parlerd.identity import epochs, sealing
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Store
from tests.sim.broken import Broken
from tests.sim.people import Record
from tests.sim.stored import facts_of, state_of
from tests.support.sealing import open_sealed

BLOCK: Final = 64
SMALL: Final = 1_024
"""The blocks to which what is short is padded, and up to where. Source: docs/sealed.md, Padding."""
SAID: Final = (
    " says ",
    " whispers ",
    "auth redesign",
    "auth-redesign",
    "Chose PKCE.",
    "the vault",
    "Behind the door.",
    "chore",
    " did m_",
)
"""What stands in the messages of these stories, and the topics, names and recaps of their sealed rooms."""
CHOSEN: Final = re.compile(rb"home\d-[a-z0-9]+-(?:vault-|whispers-)?\d+\b")
"""The idempotency keys that agents choose in these stories."""


@dataclass
class Begun:
    """An epoch, by what a relay holds of it."""

    record: EpochRecord
    wraps: Wraps
    roster: frozenset[AgentId]

    @property
    def workers(self) -> frozenset[AgentId]:
        """Who has its secret: all of its roster but those who only ask a queue for work."""
        return self.roster.difference(requesters_of(self.record))


@dataclass(frozen=True, slots=True)
class Sealed:
    """What an author sealed, by what a relay holds of it."""

    author: AgentId
    envelope: Envelope
    body: bytes
    id: MessageId
    """As what members were shown it."""
    told: bytes
    """The bytes in which they were told it; empty where it waits, and nobody was."""
    opens: bool = False
    """Whether it is the recap with which the room began, which everybody is told who comes in."""


@dataclass
class Held:
    """What a relay holds of a sealed room."""

    epochs: dict[bytes, Begun] = field(default_factory=dict)
    """By the hashes of their records, in order."""
    messages: list[Sealed] = field(default_factory=list)


def held_by(relay: Store, room: RoomId) -> Held:
    """What this store has of a sealed room. Raises `Broken` for a message in clear, and for one that is not under the
    record in force where it was taken in."""
    held, roster, in_force = Held(), set[AgentId](), b""
    for header in facts_of(relay, room):
        stored = relay.body(room, header.position)
        if stored is None:
            continue
        if isinstance(header.event, EpochTurned):
            body, wraps = decode_turned(stored[0])
            record = check_record(body)
            roster = (roster - set(record.removed)) | {each.agent for each in record.added}
            in_force = record_digest(body)
            held.epochs[in_force] = Begun(record, read_wraps(wraps, record), frozenset(roster))
        if isinstance(header.event, MessageGated):
            within = decode_signed(stored[0]).body
            message = Sealed(header.by.actor, decode_envelope(within), within, header.event.id, told=b"")
        elif isinstance(header.event, MessagePosted):
            found = sealed_in(stored[0])
            if found is None:
                raise Broken("a message in clear is in a sealed room")
            event = header.event
            message = Sealed(header.by.actor, *found, event.id, told=stored[0], opens=event.opening)
        else:
            continue
        if message.envelope.v != SEALED:
            raise Broken(f"a message of version {message.envelope.v} is in a sealed room")
        named, is_later = sealed_part(message.envelope).record, message.told not in (b"", message.body)
        if named != in_force and not (is_later and named in held.epochs):
            raise Broken("a message is in a room under another record than is in force there")
        if is_later and header.by.actor not in roster:
            raise Broken("a message that waited is shown though its author is in no roster any more")
        held.messages.append(message)
    return held


@dataclass
class Outfit:
    """What a home could open with: the sealing keys of its agents, and the secrets that it keeps or can get."""

    keys: dict[AgentId, list[sealing.KeyPair]]
    secrets: list[bytes]

    @classmethod
    def of(cls, home: Store, relay: HomeId, room: RoomId, held: Held) -> Outfit:
        """What this home has, and what it gets out of all wraps and links that the relay holds."""
        keys: dict[AgentId, list[sealing.KeyPair]] = {}
        for row in home.sealing_keys(relay):
            keys.setdefault(row.agent, []).append(sealing.key_pair(row.private))
        rows = home.epoch_secrets(room)
        secrets = {row.record: row.secret for row in rows if not row.requester}
        own = [
            piece for row in rows if row.requester for piece in (row.secret[: sealing.KEY], row.secret[sealing.KEY :])
        ]
        return cls.by(keys, secrets, own, held)

    @classmethod
    def by(
        cls,
        keys: dict[AgentId, list[sealing.KeyPair]],
        secrets: dict[bytes, bytes],
        own: Collection[bytes],
        held: Held,
    ) -> Outfit:
        """What somebody gets who has these sealing keys of agents, these secrets of epochs, by the hashes of their
        records, and these `own` secrets of those who only ask for work."""
        secrets, digests = dict(secrets), list(held.epochs)
        for number, digest in reversed(list(enumerate(digests))):
            begun = held.epochs[digest]
            for secret in cls._unwrapped(begun, keys):
                secrets.setdefault(digest, secret)
            if digest in secrets and number:
                try:
                    before = epochs.secret_before(
                        begun.record, secrets[digest], held.epochs[digests[number - 1]].record
                    )
                except Refused:
                    continue
                secrets.setdefault(digests[number - 1], before)
        return cls(keys, [*secrets.values(), *own])

    @staticmethod
    def _unwrapped(begun: Begun, keys: dict[AgentId, list[sealing.KeyPair]]) -> Iterator[bytes]:
        for agent, pairs in keys.items():
            for pair in pairs:
                try:
                    yield epochs.secret_of(begun.record, begun.wraps, agent, pair)
                except Refused:
                    continue

    @staticmethod
    def _secrets_of(secret: bytes, message: Sealed) -> tuple[bytes, ...]:
        """What a message may be sealed with by somebody who has this secret: the epoch's, or a requester's."""
        asking = epochs.asking_secret(
            secret, message.envelope.room, sealed_part(message.envelope).epoch, message.author
        )
        return secret, asking

    def words_of(self, message: Sealed) -> bytes | None:
        """What it makes of a message; None where nothing that it has opens it."""
        envelope, part = message.envelope, sealed_part(message.envelope)
        for secret in (each for kept in self.secrets for each in self._secrets_of(kept, message)):
            key = sealing.message_key(secret, envelope.room, part.record, message.author, envelope.id, envelope.counter)
            try:
                return sealing.open_with_key(message.body, key)
            except Refused:
                continue
        for agent, pairs in self.keys.items() if part.wraps else ():
            for pair in pairs:
                try:
                    return open_sealed(message.body, author=message.author, me=(agent, pair))
                except Refused:
                    continue
        return None


def nobody_else_can_read(
    relay: Store, room: RoomId, of: HomeId, homes: Collection[Store], *, spoilt: Collection[MessageId] = ()
) -> None:
    """Each of these homes, with all that the relay `of` has of the room, opens what is sealed for its agents, and
    nothing else. Of what is `spoilt`, somebody whom it concerns was given another key."""
    held = held_by(relay, room)
    is_full = state_of(relay, room).history == "full"
    digests = list(held.epochs)
    for home in homes:
        outfit = Outfit.of(home, of, room, held)
        mine = outfit.keys.keys()
        inside = [bool(held.epochs[digest].workers & mine) for digest in digests]
        for message in held.messages:
            part, readers = sealed_part(message.envelope), message.envelope.visibility
            place = digests.index(part.record)
            if readers is not None:
                may = bool(mine & {*readers, message.author})
            else:
                # What was said before is for whoever comes in later, where the history is for everyone.
                may = inside[place] or (is_full and any(inside[place:]))
                # Who only asks reads what it says itself.
                may = may or (message.author in mine and message.author not in held.epochs[part.record].workers)
            words = outfit.words_of(message)
            if words is not None and not may:
                raise Broken(f"{message.id} of epoch {part.epoch} opens for a home that is not in its roster")
            due = inside[place] and may and not message.opens and message.id not in spoilt
            if words is None and due and not _is_gone(home, room, part.epoch):
                raise Broken(f"{message.id} of epoch {part.epoch} does not open for a home in its roster")
            if not may and not message.opens and _kept(home, message) is not None:
                raise Broken(f"a home that is not in the roster of epoch {part.epoch} keeps words of it")


def opens_nothing(relay: Store, room: RoomId, whose: str, keys: Mapping[AgentId, sealing.KeyPair]) -> None:
    """Somebody with these keys, as those of these agents, and with all that the relay has of the room opens nothing
    there."""
    held = held_by(relay, room)
    outfit = Outfit.by({agent: [pair] for agent, pair in keys.items()}, {}, (), held)
    for message in held.messages:
        if outfit.words_of(message) is not None:
            raise Broken(f"{message.id} opens with {whose}")


def _is_gone(home: Store, room: RoomId, number: int) -> bool:
    """Whether a home let the secret of an epoch go, of which it holds no words."""
    kept = {row.number for row in home.epoch_secrets(room)}
    return number not in kept


def _kept(home: Store, message: Sealed) -> bytes | None:
    """What a home keeps of a message whose words it read."""
    found = home.find_message(message.id) if message.told else None
    stored = None if found is None else home.body(*found)
    return None if stored is None or is_unread(decode_envelope(stored[0])) else stored[0]


def everybody_has_the_words(relay: Store, room: RoomId, homes: Collection[Store]) -> None:
    """Every home that opened a message has what its author signed, and the same words."""
    for message in held_by(relay, room).messages:
        read = set[bytes]()
        for home in homes:
            kept = _kept(home, message)
            if kept is None:
                continue
            opened = opened_part(kept)
            if opened.body != message.told:
                raise Broken(f"a home keeps of {message.envelope.id} what the relay does not hold")
            read.add(opened.words)
        if len(read) > 1:
            raise Broken(f"{message.envelope.id} reads differently to two homes")


def nothing_can_be_guessed(relay: Store, room: RoomId, record: Record) -> None:
    """Nobody who guesses what an agent asked for finds the guess confirmed by a digest that the relay holds."""
    told = {message.envelope.id: sealed_part(message.envelope).input for message in held_by(relay, room).messages}
    for said in record.said:
        to = tuple(sorted((said.readers or {said.author}) - {said.author}))
        if told.get(MessageId(said.id)) == input_digest(t.Send(text=said.text, room=room, visible_to=to)):
            raise Broken(f"the digest of {said.text!r} is at the relay, so it can be guessed")


def nothing_stands_in_clear(relay: Store, room: RoomId, *, alone: bool) -> None:
    """No word of a sealed room is in what the relay holds of it, nor anywhere in its store where the room is `alone`
    there; and what is sealed is as long as padding makes it."""
    assert isinstance(relay, MemoryStore)
    tables = [table.rows for table in relay.index._tables.values()]
    searched = repr((relay._logs, tables, relay._snapshots) if alone else relay._logs[room]).encode()
    for word in SAID:
        for form in spelled(word):
            if form in searched:
                raise Broken(f"{word!r} is in what the relay holds")
    if found := CHOSEN.search(searched):
        raise Broken(f"the idempotency key {found[0]!r} is in what the relay holds")
    for message in held_by(relay, room).messages:
        length = len(sealed_part(message.envelope).text) - TAG
        if length <= SMALL and length % BLOCK:
            raise Broken(f"{message.envelope.id} is {length} bytes long, which tells how long its words are")


def spelled(word: str) -> Iterator[bytes]:
    """How a word may stand somewhere: as it is, in hex, and in base64 wherever it begins there."""
    raw = word.encode()
    yield raw
    yield raw.hex().encode()
    for before in range(3):
        coded = base64.b64encode(bytes(before) + raw)
        # The characters that what stands beside the word does not change.
        yield coded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
