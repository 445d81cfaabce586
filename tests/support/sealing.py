"""People of a sealed room with keys of their own, and randomness that repeats."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from parlerd.core.envelope import SIGNED, Envelope, Part, TextPart, decode_envelope, root_chain
from parlerd.core.epoch_record import Added, EpochCard
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, History, HomeId, MessageId, Millis, PrincipalId, RoomId
from parlerd.core.statements import NONCE, SealingKey, encode
from parlerd.identity import epochs, sealing
from parlerd.identity.epochs import Before, Made
from parlerd.identity.sealing import Epoch, KeyPair, key_of, open_with_key
from parlerd.identity.signatures import Domain, SigningKey

CARD = EpochCard(b"title", "m_0", b"k" * 32)


class Repeating:
    """Bytes that nobody would call random, and that are the same in each run: SHAKE-256 of a seed and a count."""

    def __init__(self, seed: str = "random") -> None:
        self._seed = seed
        # How often it was asked.
        self._count = 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._seed} {self._count}".encode()).digest(size)


def seed(name: str) -> bytes:
    """32 bytes of this name."""
    return hashlib.sha256(name.encode()).digest()


RELAY = HomeId(SigningKey("relay", seed("relay")).id)
ROOM = RoomId("r_" + "a" * 32)


@dataclass(frozen=True)
class Person:
    """An agent of a person, with all keys that the two have. Everybody of one name has the same keys."""

    name: str

    @property
    def signing(self) -> SigningKey:
        return SigningKey("agent", seed(f"agent {self.name}"))

    @property
    def person(self) -> SigningKey:
        return SigningKey("principal", seed(f"person {self.name}"))

    @property
    def id(self) -> AgentId:
        return AgentId(self.signing.id)

    @property
    def principal(self) -> PrincipalId:
        return PrincipalId(self.person.id)

    def pair(self, counter: int = 1) -> KeyPair:
        """The X25519 key of this number."""
        return sealing.key_pair(seed(f"key {self.name} {counter}"))

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        """What the agent or its person signs."""
        [key] = [key for key in (self.signing, self.person) if key.id == id]
        return key.sign(domain, data)

    def added(self, counter: int = 1, **more: Any) -> Added:
        """This agent with its key of this number, as a record adds it."""
        said = SealingKey(
            home=RELAY,
            agent=self.id,
            key=self.pair(counter).public,
            counter=counter,
            at=Millis(7),
            nonce=bytes(NONCE),
        )
        body = encode(replace(said, **more))
        return Added(self.id, self.principal, self.name, body, self.signing.sign("parler/sealing-key", body))


OLIVE, BEN, CAT, DAN = Person("olive"), Person("ben"), Person("cat"), Person("dan")


def turned(
    before: Made | None,
    added: Iterable[Person | Added] = (),
    removed: Iterable[Person] = (),
    *,
    history: History = "full",
    random: sealing.Random | None = None,
    **more: Any,
) -> Made:
    """The epoch after `before`, with these people more and less; a person comes with the first of their keys."""
    return epochs.make(
        home=RELAY,
        room=ROOM,
        before=None if before is None else Before(before.epoch, before.roster),
        added=[each if isinstance(each, Added) else each.added() for each in added],
        removed=[each.id for each in removed],
        history=history,
        **{"card": CARD, "at": Millis(7), "random": random or Repeating(f"epoch {before and before.epoch}"), **more},
    )


def composed(
    *parts: Part, id: str = "m_1", visibility: Iterable[Person] | None = None, kind: str = "text", **more: Any
) -> Envelope:
    """A message in the room as its author composes it."""
    plain = Envelope(
        v=SIGNED,
        id=MessageId(id),
        room=ROOM,
        key="k_1",
        kind=kind,
        chain=root_chain(MessageId(id)),
        hops=0,
        authored_at=Millis(1_700_000_000_000),
        counter=1,
        previous=b"",
        line=bytes(32),
        nonce=bytes(16),
        host="codex",
        via="mcp",
        parts=parts or (TextPart("hello"),),
        visibility=None if visibility is None else tuple(each.id for each in visibility),
    )
    return replace(plain, **more)


def sealed(
    message: Envelope, author: Person, made: Made, readers: Iterable[Person] | None = None, seed: str = "message"
) -> Envelope:
    """The message sealed under an epoch; a private one for these readers and its author."""
    keys = None if readers is None else {each.id: made.roster[each.id].key for each in (*readers, author)}
    return sealing.seal(
        message, author=author.id, epoch=made.epoch, readers=keys, input=b"i" * 32, random=Repeating(seed)
    )


def open_sealed(
    body: bytes, *, author: AgentId, epoch: Epoch | None = None, me: tuple[AgentId, KeyPair] | None = None
) -> bytes:
    """The words of a sealed message, for somebody who is in the room."""
    try:
        envelope = decode_envelope(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("envelope_refused", what="format") from None
    return open_with_key(body, key_of(envelope, author=author, epoch=epoch, me=me))
