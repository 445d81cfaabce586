"""Sealing the words of a message for the members of a room, and reading them again. Suite 1.

    epoch secret ──derive──> a message's key ──> the words of a message for everyone
    a key of its own, wrapped to each reader ──> the words of a private message

Every primitive is libsodium's, through PyNaCl, but for BLAKE2b, which is Python's own. The function is the same; a call
of PyNaCl's took 4.5 us where Python's took 0.6, and sealing a message may cost little. This module only says what goes
into each of them:

    derive      BLAKE2b with key and personalisation, as libsodium's own key derivation uses it
    wrap        X25519 with an ephemeral key, hashed with both public keys, as libsodium's page on scalar multiplication
                asks for, then XChaCha20-Poly1305
    seal        XChaCha20-Poly1305 with a random nonce, and as associated data all bytes of the envelope but these

`docs/sealed.md` gives the bytes of each, so that somebody else can implement them.

A symmetric key proves nothing about who wrote: every member has it. The signature over the sealed envelope alone does,
and it is made and checked elsewhere (`signatures`). An AEAD does not show that a ciphertext has only one meaning, so
who reads with a key that another agent handed over checks a digest of that key first.

Not here: who is in a room (`core.epoch_record`), how an epoch's secret reaches its members (`epochs`), and files
(`sealed_files`). Above: the engine. Below: `core.sealing`, PyNaCl. Invariants: a key is used for one purpose, of which
its derivation says the name; no secret is in a `repr`, an error or a log.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec
import nacl.exceptions
from msgspec.structs import replace
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
    sodium_memcmp,
)

from parlerd.core.envelope import Envelope, SealedPart, decode_envelope, encode_envelope, encode_inside
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, MessageId, RoomId
from parlerd.core.sealing import TAG, inside, outside, pad, sealed_part, unpad, unreadable

KEY: Final = 32
"""Bytes of every key and secret here, and of every digest of one."""
NONCE: Final = 24
_ONCE: Final = bytes(NONCE)
"""The nonce under a key that encrypts one text only."""
_BLANK: Final = b"\xc1"
_PROBE: Final = bytes(range(KEY))
"""Any private key: multiplied with any of them, a point of low order gives zero."""

Random = Callable[[int], bytes]
"""Where random bytes come from: `os.urandom`, and in tests something that repeats."""


class KeyPair(NamedTuple):
    """An X25519 key of an agent or of one record or message. Its `repr` shows the public half alone."""

    private: bytes
    public: bytes

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"


class Epoch(NamedTuple):
    """An epoch of a room as one who is in it knows it. Its `repr` does not show the secret."""

    number: int
    record: bytes
    """The SHA-256 of the epoch's record."""
    secret: bytes

    def __repr__(self) -> str:
        return f"Epoch(number={self.number}, record={self.record.hex()})"


# -- keys --------------------------------------------------------------------------------------------------


def derive(key: bytes, purpose: bytes, *fields: bytes) -> bytes:
    """32 bytes that follow from a secret key, for one purpose (at most 16 bytes) and these fields.

    Source: libsodium, Generic hashing and Key derivation: BLAKE2b with a key, and the context in its personalisation.
    """
    return hashlib.blake2b(joined_fields(*fields), digest_size=KEY, key=key, person=purpose).digest()


def joined_fields(*fields: bytes) -> bytes:
    """Each field with its length before it, in four bytes, so that no two lists of fields are the same bytes."""
    return b"".join([len(field).to_bytes(4, "big") + field for field in fields])


def new_key(random: Random) -> KeyPair:
    """A fresh X25519 key."""
    return key_pair(random(KEY))


def key_pair(private: bytes) -> KeyPair:
    """The key again from its private half, 32 bytes."""
    assert len(private) == KEY
    return KeyPair(private, crypto_scalarmult_base(private))


def check_key(public: bytes) -> None:
    """Check a public key that another party chose. Raises `Refused(sealing_key_refused)` for a length that no key has,
    and for a point of low order, with which everybody could compute what is wrapped to it."""
    _shared(_PROBE, public)


def epoch_secret(random: Random) -> bytes:
    """The secret of a new epoch."""
    return random(KEY)


def secret_digest(secret: bytes) -> bytes:
    """By what a record shows each member that it got the right secret."""
    return derive(secret, b"sealed/secret")


def key_digest(key: bytes) -> bytes:
    """By what a private message shows each reader that all of them got the same key."""
    return derive(key, b"sealed/key")


def message_key(secret: bytes, room: RoomId, record: bytes, author: AgentId, id: MessageId, counter: int) -> bytes:
    """The key of one message for everyone in a room. It opens no other message, so it may be handed out."""
    return derive(
        secret,
        b"sealed/message",
        room.encode(),
        record,
        author.encode(),
        id.encode(),
        counter.to_bytes(8, "big"),
    )


# -- wraps -------------------------------------------------------------------------------------------------


def wrap(payload: bytes, to: bytes, ephemeral: KeyPair, *context: bytes) -> bytes:
    """A secret for the holder of one public key, who needs the same ephemeral public key and the same context to read
    it. The same ephemeral key and context are used for one payload only.

    Raises `Refused(sealing_key_refused)`. Source: libsodium, Point*scalar multiplication: the shared secret is the hash
    of the product and both public keys.
    """
    key = derive(_shared(ephemeral.private, to), b"sealed/wrap", ephemeral.public, to, *context)
    return crypto_aead_xchacha20poly1305_ietf_encrypt(payload, None, _ONCE, key)


def unwrap(wrapped: bytes, mine: KeyPair, ephemeral: bytes, *context: bytes) -> bytes:
    """What was wrapped to this key. Raises `Refused`: `sealed_unreadable` for what was wrapped to another key or in
    another context, and `sealing_key_refused` for an ephemeral key that is none."""
    key = derive(_shared(mine.private, ephemeral), b"sealed/wrap", ephemeral, mine.public, *context)
    return _decrypted(wrapped, None, _ONCE, key, "wrap")


def _shared(private: bytes, public: bytes) -> bytes:
    # PyNaCl hands bytes of any length on, and libsodium would read past their end.
    if len(public) != KEY:
        raise Refused("sealing_key_refused")
    try:
        return crypto_scalarmult(private, public)
    except nacl.exceptions.RuntimeError:
        # libsodium refuses a product of zeros.
        raise Refused("sealing_key_refused") from None


# -- messages ----------------------------------------------------------------------------------------------


def seal(
    composed: Envelope,
    *,
    author: AgentId,
    epoch: Epoch,
    readers: Mapping[AgentId, bytes] | None = None,
    input: bytes,
    random: Random,
) -> Envelope:
    """The envelope of version 4 in which this message travels, for the author to sign. `input` is the hidden digest of
    what was asked for, and the composed envelope has a hidden key already (`hidden_digest`, `hidden_key`).

    A private message names its readers: the X25519 key of each, as the epoch's roster has them, and of the author.
    Raises `ValueError` where these are not exactly those whom the message is for, and
    `Refused(sealing_key_refused)`.
    """
    private = composed.visibility
    if (None if private is None else {*private, author}) != (None if readers is None else readers.keys()):
        raise ValueError("a private message is wrapped to its readers and its author, and no other is wrapped")
    part = SealedPart(epoch=epoch.number, record=epoch.record, input=input, nonce=random(NONCE), text=b"")
    if readers is None:
        key = message_key(epoch.secret, composed.room, epoch.record, author, composed.id, composed.counter)
    else:
        key = random(KEY)
        ephemeral = new_key(random)
        context = _private_context(composed, epoch.record, author)
        part = replace(
            part,
            ephemeral=ephemeral.public,
            digest=key_digest(key),
            wraps=tuple(
                (agent, wrap(key, public, ephemeral, *context, agent.encode()))
                for agent, public in sorted(readers.items())
            ),
        )
    words = pad(encode_inside(inside(composed)))
    # The ciphertext is as long as what stands in its place here, and nowhere else in an envelope are so many of this
    # byte, which msgpack never writes.
    blank = _BLANK * (len(words) + TAG)
    blind = outside(composed, replace(part, text=blank))
    clear = _without(blank, encode_envelope(blind))
    text = crypto_aead_xchacha20poly1305_ietf_encrypt(words, clear, part.nonce, key)
    return replace(blind, parts=(replace(part, text=text), *blind.parts[1:]))


def key_of(
    envelope: Envelope, *, author: AgentId, epoch: Epoch | None = None, me: tuple[AgentId, KeyPair] | None = None
) -> bytes:
    """The key of one sealed message: from the secret of its epoch or, of a private one, from what was wrapped to me.

    Raises `Refused(sealed_unreadable)`, with `what`: `epoch` where the secret is that of another epoch, `counter` for a
    negative one, which no check of an envelope lets through, `reader` where nothing was wrapped to me, `wrap` and `key`
    where that is damaged or not the key that the others got.
    """
    part = sealed_part(envelope)
    if envelope.visibility is None:
        if epoch is None or (part.epoch, part.record) != (epoch.number, epoch.record):
            raise unreadable("epoch")
        if envelope.counter < 0:
            raise unreadable("counter")
        return message_key(epoch.secret, envelope.room, part.record, author, envelope.id, envelope.counter)
    if me is None:
        raise unreadable("reader")
    agent, mine = me
    wrapped = next((each for reader, each in part.wraps if reader == agent), None)
    if wrapped is None:
        raise unreadable("reader")
    context = _private_context(envelope, part.record, author)
    try:
        key = unwrap(wrapped, mine, part.ephemeral, *context, agent.encode())
    except Refused:
        raise unreadable("wrap") from None
    if len(key) != KEY or not sodium_memcmp(key_digest(key), part.digest):
        raise unreadable("key")
    return key


def open_with_key(body: bytes, key: bytes) -> bytes:
    """The words of a sealed message, of which these are the bytes as they travelled: an encoded `Inside`, to be joined
    with the envelope (`core.sealing.joined`).

    Raises `Refused`: `sealed_unreadable` for another key, a change anywhere in the envelope, and wrong padding;
    `envelope_refused` for bytes that are no sealed envelope.
    """
    part = sealed_part(_decoded(body))
    if len(key) != KEY or len(part.nonce) != NONCE:
        raise unreadable("words")
    return unpad(_decrypted(part.text, _without(part.text, body), part.nonce, key, "words"))


def _without(text: bytes, body: bytes) -> bytes:
    """The bytes of an envelope without the ciphertext in it: what is bound. They are the bytes that travelled, since no
    two encoders need to write one envelope alike. Raises `Refused(sealed_unreadable)`, with `text` as `what`, where the
    ciphertext is there twice: its author, who has the key, can compute a tag that is sound where one reader cuts and
    not where another does."""
    if len(text) < TAG:
        raise unreadable("words")
    before, found, after = body.partition(text)
    if not found or text in after:
        raise unreadable("text")
    return before + after


def _decoded(body: bytes) -> Envelope:
    try:
        return decode_envelope(body)
    # msgspec raises UnicodeDecodeError for text that is not UTF-8, and RecursionError for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("envelope_refused", what="format") from None


def _private_context(envelope: Envelope, record: bytes, author: AgentId) -> tuple[bytes, ...]:
    return (b"message", envelope.room.encode(), record, author.encode(), envelope.id.encode())


def encrypt(text: bytes, key: bytes, random: Random) -> bytes:
    """A text under a key that is for it alone: a random nonce, then the ciphertext."""
    nonce = random(NONCE)
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(text, None, nonce, key)


def decrypt(sealed: bytes, key: bytes, what: str) -> bytes:
    """The same again. Raises `Refused(sealed_unreadable)` with this `what`."""
    if len(sealed) < NONCE:
        raise unreadable(what)
    return _decrypted(sealed[NONCE:], None, sealed[:NONCE], key, what)


def _decrypted(text: bytes, clear: bytes | None, nonce: bytes, key: bytes, what: str) -> bytes:
    if len(text) < TAG:
        raise unreadable(what)
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(text, clear, nonce, key)
    except nacl.exceptions.CryptoError:
        raise unreadable(what) from None


# -- what stands in headers --------------------------------------------------------------------------------


def hidden_key(hiding: bytes, room: RoomId, key: str) -> str:
    """What the header of a sealed message has in place of the idempotency key that an agent gave: 34 characters which
    follow from it and from `hiding`, a secret of the author's home (`HomeSecret.hiding_key`), and tell nobody else
    which key it was."""
    hidden = derive(hiding, b"sealed/request", room.encode(), key.encode())
    return f"h.{base64.urlsafe_b64encode(hidden[:24]).decode()}"


def hidden_digest(hiding: bytes, room: RoomId, digest: bytes) -> bytes:
    """In place of the digest of what was asked for, by which anybody could confirm a guess: 32 bytes which follow from
    it and from the same secret."""
    return derive(hiding, b"sealed/input", room.encode(), digest)
