"""What the home of a sealed room sees of a message, what only members read, and how the two are one message.

    composed     as an author writes it (version 2), before anybody seals it
    outside      version 4: the header, the encrypted words (`SealedPart`), and the outline of the other parts
    inside       the true kind, time, host, door and parts, padded and encrypted
    joined       both together (version 5), as members read it

The outline is what the home goes by where it takes part in the work of a room: that a turn is offered and for how long,
what became of an offer, until when a task is open, which file is kept. All of it is signed by the author, so the inside
must say the same: `joined` refuses a message that tells the home one thing and the members another. A gated message has
its gate outside, and nothing else (`check_gate`); it is sealed as any message, and signed as something else.

Not here: the encryption (`identity.sealing`), and the records of who has which secret (`epoch_record`). Above: `room`,
`identity.sealing`. Below: `words`, `envelope`. Invariant: nothing of an author's own words, nor the time and host of
writing, is outside; the length that is outside is rounded up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from parlerd.core.envelope import (
    OPENED,
    SEALED,
    SIGNED,
    BlobPart,
    Envelope,
    GatePart,
    GuardPart,
    HandoffAnswerPart,
    HandoffPart,
    Inside,
    Part,
    SealedPart,
    TaskPart,
    decode_inside,
    gate_of,
    with_inside,
)
from parlerd.core.errors import Refused
from parlerd.core.model import INVOCATION, Millis, blob_id, is_keyed_id
from parlerd.core.timers import MAX_SPAN_MS
from parlerd.core.words import (
    CODE,
    FILE,
    HANDOFF,
    MAX_ADDRESSEES,
    MAX_OFFER_MS,
    MIN_OFFER_MS,
    SAID_OF_TASK,
    TASK,
    UNGATED,
    answer_kind,
    check_gated,
    check_head,
    check_no_thread,
    check_opened,
    check_thread,
    is_guard,
)

OTHER: Final = "other"
"""As what every kind travels to which Parler gives no meaning at a home, memories too: their keys are words."""
FIXED_KINDS: Final = frozenset(
    {
        "text",
        TASK,
        HANDOFF,
        FILE,
        CODE,
        OTHER,
        *SAID_OF_TASK,
        *(answer_kind(each) for each in ("accepted", "declined", "withdrawn")),
    }
)
"""The kinds that are told to the home of a sealed room."""
_HIDDEN: Final[Mapping[str, Any]] = {"authored_at": Millis(0), "host": "", "via": ""}
"""What stands outside in place of what only members read."""
TAG: Final = 16
"""Bytes by which a ciphertext is longer than what was sealed."""
CHUNK: Final = 64 * 1024
"""Bytes of a file that are sealed in one piece."""
_BLOCK: Final = 64
_SMALL: Final = 1024
"""Up to so many bytes a length is rounded to blocks; what is longer, by Padmé. Source: sealed spec, What the relay
sees."""
_END: Final = b"\x80"
_DIGEST: Final = 32
_KEY: Final = 32
_NONCE: Final = 24
_WRAP: Final = _KEY + TAG


# -- lengths -----------------------------------------------------------------------------------------------


def padded_length(length: int) -> int:
    """How long what has `length` bytes is once it is padded: at least one byte longer.

    Source: Padmé, in "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs" (Nikitin et al.,
    2019), section 4: it tells less about a length than rounding to blocks does, for at most 12 percent more bytes.
    """
    length += 1
    if length <= _SMALL:
        return -(-length // _BLOCK) * _BLOCK
    exponent = length.bit_length() - 1
    mask = (1 << exponent - exponent.bit_length()) - 1
    return (length + mask) & ~mask


def pad(data: bytes) -> bytes:
    """The data, a byte 0x80, and zero bytes up to `padded_length`. Source: ISO/IEC 7816-4, as `sodium_pad` does it."""
    return (data + _END).ljust(padded_length(len(data)), b"\0")


def unpad(padded: bytes) -> bytes:
    """The data again. Raises `Refused(sealed_unreadable)` for what is not padded exactly so."""
    data = padded.rstrip(b"\0")
    if not data.endswith(_END) or len(padded) != padded_length(len(data) - 1):
        raise unreadable("padding")
    return data[:-1]


def sealed_size(size: int) -> int:
    """How many bytes are kept of a file of `size` bytes once it is sealed; an empty file is one empty chunk."""
    return size + TAG * max(1, -(-size // CHUNK))


# -- inside and outside ------------------------------------------------------------------------------------


def outside_kind(kind: str) -> str:
    """What the home is told of a message's kind."""
    return kind if kind in FIXED_KINDS else OTHER


def outline(parts: Iterable[Part]) -> tuple[Part, ...]:
    """What the home is told of these parts: no words of the author's, and nothing at all of most of them."""
    told: list[Part] = []
    for part in parts:
        match part:
            case HandoffPart(ttl_ms=ttl_ms):
                told.append(HandoffPart(next="", ttl_ms=ttl_ms))
            case HandoffAnswerPart(answer=answer):
                told.append(HandoffAnswerPart(answer=answer))
            case BlobPart(blob=blob, size=size):
                told.append(BlobPart(blob=blob, size=sealed_size(size)))
            case TaskPart() | GatePart() | GuardPart():
                told.append(part)
            case _:
                pass
    return tuple(told)


def check_composed(composed: Envelope) -> None:
    """Check a message for a sealed room before it is sealed, as its readers will. Raises what `words.check_opened`
    raises."""
    _check_read(msgspec.structs.replace(composed, v=OPENED))


def _check_read(message: Envelope) -> None:
    """Check a message of version 5, as it is or with its gate. Raises what `words.check_opened` raises."""
    if gate_of(message.parts) is None:
        check_opened(message)
    else:
        check_gated(message, OPENED)


def inside(composed: Envelope) -> Inside:
    """What is sealed of a message as its author composed it."""
    return Inside(
        kind=composed.kind,
        authored_at=composed.authored_at,
        host=composed.host,
        via=composed.via,
        parts=composed.parts,
    )


def outside(composed: Envelope, sealed: SealedPart) -> Envelope:
    """The envelope in which this message travels, with this part for its words. The message's idempotency key is to be
    hidden before (`identity.sealing.hidden_key`), because it stays outside."""
    assert composed.v == SIGNED
    return msgspec.structs.replace(
        composed,
        v=SEALED,
        kind=outside_kind(composed.kind),
        parts=(sealed, *outline(composed.parts)),
        **_HIDDEN,
    )


def sealed_part(envelope: Envelope) -> SealedPart:
    """The encrypted words of an envelope of version 4. Raises `Refused(envelope_refused)` where there are none."""
    if envelope.v != SEALED:
        raise _refused("v")
    match envelope.parts:
        case (SealedPart() as part, *_):
            return part
        case _:
            raise _refused("parts")


def joined(outside: Envelope, words: bytes) -> Envelope:
    """The message of version 5 that a sealed envelope and its unsealed words are together, checked as a message is
    checked that travels in clear. A gated one has its gate.

    Raises `Refused`: `sealed_unreadable` for words that cannot be read or do not fit to the outside, and what
    `words.check_opened` raises.
    """
    try:
        within = decode_inside(words)
    # msgspec raises UnicodeDecodeError for text that is not UTF-8, and RecursionError for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise unreadable("format") from None
    if within.v != 1:
        raise unreadable("version")
    sealed = sealed_part(outside)
    if within.kind == INVOCATION:
        # What the room's home says is said in no member's name.
        raise unreadable("kind")
    if outside.kind != outside_kind(within.kind) or outside.parts != (sealed, *outline(within.parts)):
        raise unreadable("outline")
    message = with_inside(outside, within)
    _check_read(message)
    return message


def unreadable(what: str) -> Refused:
    """The refusal of a sealed message, or of what belongs to one, that cannot be read: `what` says why."""
    return Refused("sealed_unreadable", what=what)


# -- the check of the outside ------------------------------------------------------------------------------


def check_sealed(envelope: Envelope) -> SealedPart:
    """Check an envelope of version 4 as far as it can be checked without its room and without its words; gives its
    encrypted words. It runs where the message is admitted and where it arrives.

    Not looked at: whether the record is the one in force, and whether the wraps are for exactly the readers and the
    author, whom the envelope does not name. Raises `Refused(envelope_refused)`, with the wrong field as `what`.
    """
    part = _check_outside(envelope)
    check_thread(envelope)
    if not _is_outline(envelope):
        raise _refused("parts")
    return part


def check_gate(envelope: Envelope) -> GatePart:
    """Check what the author of a gated message signs, sealed or not, as far as that can be checked without its room and
    without its words; gives its gate. A sealed one has the gate outside, and nothing else but its words. Raises what
    `check_sealed` and `words.check_gated` raise."""
    if envelope.v != SEALED:
        return check_gated(envelope)
    _check_outside(envelope)
    check_no_thread(envelope)
    match envelope.parts[1:]:
        case (GatePart() as gate,) if envelope.kind not in UNGATED and not envelope.role:
            return gate
        case _:
            raise _refused("parts")


def _check_outside(envelope: Envelope) -> SealedPart:
    """Check what holds of all that an author seals."""
    part = sealed_part(envelope)
    check_head(envelope)
    is_private = envelope.visibility is not None
    readers = [agent for agent, _ in part.wraps]
    sound = {
        "kind": envelope.kind in FIXED_KINDS,
        **{name: getattr(envelope, name) == nothing for name, nothing in _HIDDEN.items()},
        "epoch": 1 <= part.epoch < 2**53,
        "record": len(part.record) == _DIGEST,
        "input": len(part.input) == _DIGEST,
        "nonce": len(part.nonce) == _NONCE,
        "text": _is_padded(len(part.text) - TAG),
        "ephemeral": len(part.ephemeral) == (_KEY if is_private else 0),
        "digest": len(part.digest) == (_DIGEST if is_private else 0),
        "wraps": is_private is bool(readers)
        and len(readers) <= MAX_ADDRESSEES + 1
        and readers == sorted(set(readers))
        and all(map(is_keyed_id, readers))
        and set(envelope.visibility or ()) <= set(readers)
        and all(len(wrap) == _WRAP for _, wrap in part.wraps),
    }
    for what, is_sound in sound.items():
        if not is_sound:
            raise _refused(what)
    return part


def _is_padded(length: int) -> bool:
    return length > 0 and length == padded_length(length - 1)


def _is_outline(envelope: Envelope) -> bool:
    """Whether the parts behind the words are an outline, and one that goes with the kind."""
    told = envelope.parts[1:]
    if told != outline_again(told) or len({type(part) for part in told}) != len(told):
        return False
    for part in told:
        match part:
            case HandoffPart(ttl_ms=ttl_ms):
                is_sound = envelope.kind == HANDOFF and (ttl_ms == 0 or MIN_OFFER_MS <= ttl_ms <= MAX_OFFER_MS)
            case HandoffAnswerPart(answer=answer):
                is_sound = envelope.kind == answer_kind(answer) and envelope.reply_to is not None
            case BlobPart(blob=blob, size=size):
                is_sound = envelope.kind in _BRINGS and _is_blob_id(blob) and TAG <= size < 2**53
            case TaskPart(ttl_ms=ttl_ms, at=at):
                is_span = 0 < ttl_ms <= MAX_SPAN_MS and not at
                is_sound = envelope.kind == TASK and (is_span or (not ttl_ms and 0 < at < 2**53))
            case GuardPart():
                is_sound = envelope.kind == OTHER and envelope.visibility is None and is_guard(part)
            case _:
                # A gate is no message's own: its author signs it as something else (`check_gate`).
                return False
        if not is_sound:
            return False
    return True


_BRINGS: Final = frozenset({FILE, CODE, HANDOFF, *SAID_OF_TASK})
"""The kinds of the messages that may bring a file."""


def outline_again(told: Iterable[Part]) -> tuple[Part, ...]:
    """The outline of an outline, which is itself: a blob's size is already that of what is kept."""
    return tuple(
        BlobPart(blob=part.blob, size=part.size) if isinstance(part, BlobPart) else again
        for part in told
        for again in outline((part,))
    )


def _is_blob_id(text: str) -> bool:
    try:
        blob_id(text)
    except Refused:
        return False
    return True


def _refused(what: str) -> Refused:
    return Refused("envelope_refused", what=what)
