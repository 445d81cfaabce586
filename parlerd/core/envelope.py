"""What an author signs: the words of a message and where they belong.

The signature covers exactly these bytes under the domain tag `parler/message`. The position of a message and the time
at which it was stored come from the room's home and are not in the envelope. From `counter`, `previous`, `shown` and
`line` a reader can find out whether a home that stores the messages forked the room, dropped a message or changed the
order. A room compares the other fields of an envelope that was finished elsewhere with what the room decides itself,
and never looks at the parts.

Version 2 is the one that authors write in a room that is not sealed, and version 4 in a sealed one (`sealing`): its
words are within, encrypted for the room's members, and beside them stands the outline that the room's home goes by. A
member's own copy of such a message is an envelope of version 5, which nobody sends. In one of version 3 a home shows
what an author signed to be shown later, in version 2 or 4. Version 1 is still read: it signed
neither the message's id nor the door, it counted an author's messages once for all audiences, and in place of `shown`
and `line` it had `seen`. Version 0 has no author who signs: the room's home says in it that a member invoked an action
(`invocations`).

Above: `words` and `sealing`, which check an envelope. Below: `public_line`, which says what a line is. Invariant: an
envelope is encoded once; the bytes that were signed are the bytes that are stored and sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, TypeGuard, TypeVar, get_args

import msgspec

from parlerd.core.model import NO_BLOB, AgentId, BlobId, MessageId, Millis, RoomId, Turn
from parlerd.core.timers import Effect

UNSIGNED: Final = 0
"""The version of the envelopes that nobody signs."""
SIGNED: Final = 2
"""The version of the envelopes that authors sign as messages."""
RELEASED: Final = 3
"""The version of the envelopes in which a home shows a gated message, whose author signed what is within."""
SEALED: Final = 4
"""The version of the envelopes whose words are encrypted for the members of a room. Authors sign them as messages."""
OPENED: Final = 5
"""The version of the envelopes in which a member's home keeps such a message once it has read the words."""
DEFAULT_OFFER_MS: Final = Millis(24 * 3600 * 1000)
"""How long the offer of a turn stands: as long as a session key is good for, so that a giver who comes back the next
day finds the turn taken or free."""


class TextPart(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    text: str


class DataPart(msgspec.Struct, frozen=True, tag_field="type", tag="data"):
    """Any JSON value."""

    data: Any


class Quoted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message of the room as whoever offers the turn quotes it, by the words of that agent alone."""

    id: MessageId
    author: str
    """The author's handle."""
    at: Millis
    text: str
    kind: str = "text"


class Transcript(msgspec.Struct, frozen=True, omit_defaults=True):
    """The conversation that goes along with an offer of the turn: `count` public messages of the room, from `first` to
    `last`. They are `quoted` where somebody who may take the turn cannot see all of them. `left_out` counts those
    before `first` that were asked for and could not be quoted."""

    first: MessageId
    last: MessageId
    count: int
    left_out: int = 0
    quoted: tuple[Quoted, ...] = ()


class HandoffPart(msgspec.Struct, frozen=True, tag_field="type", tag="handoff", omit_defaults=True):
    """The offer of a turn, with what the next agent has to know. A Parler from before the fields after `target` shows
    the first three, and says nothing of the others."""

    next: str
    """What to do next."""
    summary: str = ""
    """What was done, in short."""
    target: str = ""
    """For whom the turn is: an id, a handle or a role as the giver wrote it; an empty one means anyone."""
    goal: str = ""
    """What all of it is for."""
    state: str = ""
    """Where things stand."""
    decisions: tuple[str, ...] = ()
    """What was decided, and why."""
    failed: tuple[str, ...] = ()
    """What was tried and did not work."""
    questions: tuple[str, ...] = ()
    """What is open."""
    files: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()
    """Branches, commits, addresses: where to look beside the files."""
    ttl_ms: Millis = Millis(0)
    """How long the offer stands, counted from when its room took it in; 0 means `DEFAULT_OFFER_MS`."""
    transcript: Transcript | None = None


class HandoffAnswerPart(msgspec.Struct, frozen=True, tag_field="type", tag="handoff_answer", omit_defaults=True):
    """What became of the offer that the message replies to."""

    answer: Literal["accepted", "declined", "withdrawn"]
    reason: str = ""


class MemoryPart(msgspec.Struct, frozen=True, tag_field="type", tag="memory", omit_defaults=True):
    """The message belongs to the room's memory. Beside the text that is remembered it names the `key`, if there is one.
    With `forgets` the message brings no words: it takes away those under the key, or those of the message that it
    replies to. `if_version` is the version that the key must have: 0 for a key under which nothing is remembered."""

    key: str = ""
    if_version: int | None = None
    forgets: bool = False


class GuardPart(msgspec.Struct, frozen=True, tag_field="type", tag="guard", omit_defaults=True):
    """In a sealed room alone, whose home cannot compare the keys of what is remembered: the author compared, over the
    room as it stood at the message's `shown`. The home takes such a message in only where nothing has come since that
    may belong to the memory. `erases` are the messages whose words the home lets go with it."""

    erases: tuple[MessageId, ...] = ()


class BlobSeal(msgspec.Struct, frozen=True, array_like=True):
    """How the members of a sealed room read a file that its home keeps encrypted."""

    key: bytes
    """The key of this file alone, 32 bytes."""
    prefix: bytes
    """What the nonce of each chunk begins with, 19 bytes."""
    digest: bytes
    """The SHA-256 of the file's own bytes."""


class BlobPart(msgspec.Struct, frozen=True, tag_field="type", tag="blob", omit_defaults=True):
    """The message brings a file, or code. The bytes are not in the message: the room's home keeps them, under the
    digest that is named here. What brings code names its `tip`."""

    blob: BlobId
    size: int
    """Bytes of the file itself."""
    name: str = ""
    """What the author calls it: the file's name, or the branch. Nobody takes it for a path or a ref."""
    tip: str = ""
    """The id of the commit that a bundle brings."""
    base: str = ""
    """The id of the commit that whoever applies the bundle has to have; empty where the bundle holds all."""
    left_out: int = 0
    """How many files the author had that are not in the bundle."""
    seal: BlobSeal | None = None
    """In the words of a sealed message, how the file is read that is kept encrypted. No other message has one."""


class TaskPart(msgspec.Struct, frozen=True, tag_field="type", tag="task", omit_defaults=True):
    """The message is a task that nobody can claim any more after a span or a moment, unless somebody has it then. A
    Parler from before this part takes the task for one that stays open."""

    ttl_ms: Millis = Millis(0)
    """The span, counted from when the task's room took it in; 0 for a moment."""
    at: Millis = Millis(0)
    """The moment, by the wall clock; 0 for a span."""


class GateTimer(msgspec.Struct, frozen=True, array_like=True):
    """A timer as its author asked for it: exactly one of `ms`, `at`, and `ticks` with `watch`. `at` is a moment of the
    wall clock. See `timers.TimerSpec`."""

    effect: Effect
    ms: Millis = Millis(0)
    at: Millis = Millis(0)
    ticks: int = 0
    watch: tuple[str, str] | None = None


class GatePart(msgspec.Struct, frozen=True, tag_field="type", tag="gate", omit_defaults=True):
    """The message is shown to a reader once `enabled` is true for it and the timer lets it, and its words go when a
    timer says so. Such an envelope is no message by itself: its author signs it as `parler/gated`."""

    enabled: str = ""
    """An expression; an empty one is true for everyone."""
    timer: GateTimer | None = None


class GatedPart(msgspec.Struct, frozen=True, tag_field="type", tag="gated"):
    """What the author of a gated message signed: the bytes of an envelope that has a `GatePart`, and the signature."""

    body: bytes
    signature: bytes


class SealedPart(msgspec.Struct, frozen=True, tag_field="type", tag="sealed", omit_defaults=True):
    """The words of a message in a sealed room (`Inside`), encrypted. A message for everyone is read with a key that
    follows from the epoch's secret. A private one has a key of its own, which is wrapped to each reader; its last three
    fields are empty in every other message."""

    epoch: int
    """The number of the epoch record under which the message was sealed."""
    record: bytes
    """The SHA-256 of that record, 32 bytes."""
    input: bytes
    """By what a repeated request is known, 32 bytes: the digest of what was asked for, hidden by a secret of the
    author's home (`identity.sealing.hidden_digest`). The ciphertext is another for each attempt."""
    nonce: bytes
    """24 random bytes."""
    text: bytes
    """The ciphertext with its tag. All other bytes of the encoded envelope are the associated data."""
    ephemeral: bytes = b""
    """The X25519 public key that the wraps are made with, 32 bytes."""
    digest: bytes = b""
    """What shows each reader that all of them were given the same key, 32 bytes."""
    wraps: tuple[tuple[AgentId, bytes], ...] = ()
    """The message's key for each reader and for the author, by their ids in order: 48 bytes each."""


class OpenedPart(msgspec.Struct, frozen=True, tag_field="type", tag="opened"):
    """What a member's home keeps of a sealed message that it could read: the message as it travelled, and the words."""

    body: bytes
    """The bytes of the envelope of version 4; of a gated message those of version 3, which hold it."""
    signature: bytes
    """The author's; empty where the envelope of version 4, within another one, has it beside."""
    words: bytes
    """The encoded `Inside`, in clear and without the padding."""


class UnknownPart(msgspec.Struct, frozen=True, tag_field="type", tag="unknown"):
    """A part of a type that came after this version of Parler. Nobody composes one: `decode_envelope` puts it in the
    place of what it cannot read. `packed` is the whole part, so that two such parts can be told apart."""

    packed: bytes


Part = (
    TextPart
    | DataPart
    | HandoffPart
    | HandoffAnswerPart
    | MemoryPart
    | GuardPart
    | BlobPart
    | TaskPart
    | GatePart
    | GatedPart
    | SealedPart
    | OpenedPart
    | UnknownPart
)


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The signed body of a message."""

    v: int
    """The version of this shape: `SIGNED`, `SEALED`, 1 for an envelope that an older Parler wrote, `UNSIGNED`,
    `RELEASED`, or `OPENED`."""
    id: MessageId = MessageId("")
    """The message's id, drawn by the author; empty in version 1, whose ids the room's home drew."""
    room: RoomId
    key: str
    """The idempotency key of the request that posts the message."""
    kind: str
    chain: str
    """The name of the conversation: that of the message which is replied to, or `root_chain` of this message."""
    hops: int
    """How far the message is from the first of its conversation: 0 for that one."""
    authored_at: Millis
    """When the author composed the message, by the author's clock."""
    counter: int
    """Grows with each message of the author's thread. The author has a thread for everyone in the room, and one more
    for each set of readers of its private messages, so that each reader sees whole threads and none of hidden ones.
    Numbers may be left out. In version 1 it counts all of the author's messages in the room, from 1."""
    previous: bytes
    """The SHA-256 of the author's envelope before this one in the same thread; empty in the first."""
    shown: int = 0
    """How many public messages of the room there were up to the end of the page that the author was last shown."""
    line: bytes = b""
    """The room's public line there, 32 bytes; empty in version 1."""
    nonce: bytes
    """16 random bytes, so that nobody can guess the words and confirm the guess by the envelope's hash."""
    host: str = ""
    """The agent host of the author's connection, by its id; empty at a command line, and in version 1."""
    via: str = ""
    """The door through which the author asked for the message; empty in version 1."""
    parts: tuple[Part, ...]
    """The words."""
    to: tuple[AgentId, ...] = ()
    """Whose attention the message asks for."""
    role: str = ""
    """The role that a hand-off is for, where it names a role and not an agent."""
    visibility: tuple[AgentId, ...] | None = None
    """The only readers of the message; None for everyone in the room."""
    reply_to: MessageId | None = None
    seen: bytes = b""
    """In version 1 the chain digest of the room's log at the end of the page that the author was last shown."""


class Inside(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What only the members of a sealed room read of a message. It is padded before it is sealed (`sealing`)."""

    v: int = 1
    """The version of this shape."""
    kind: str
    """The message's kind; outside stands only a kind that Parler itself gives a meaning."""
    authored_at: Millis
    host: str = ""
    via: str = ""
    parts: tuple[Part, ...]
    """These fields mean what they mean in an envelope."""


def memory_of(parts: Iterable[Part]) -> MemoryPart | None:
    """What a message does in its room's memory; None for a message that does nothing there."""
    for part in parts:
        if isinstance(part, MemoryPart):
            return part
    return None


def guard_of(parts: Iterable[Part]) -> GuardPart | None:
    """Under which condition the home of a sealed room takes a message in; None for one that it always takes in."""
    return next((part for part in parts if isinstance(part, GuardPart)), None)


def is_guarded(part: MemoryPart) -> bool:
    """Whether what a message does in the room's memory depends on what is remembered when it is taken in."""
    return part.forgets or part.if_version is not None


def blob_of(parts: Iterable[Part]) -> BlobId:
    """The blob that a message brings, as its header repeats it; empty for a message that brings none."""
    for part in parts:
        if isinstance(part, BlobPart):
            return part.blob
    return NO_BLOB


def asked(parts: Iterable[Part]) -> list[Part]:
    """These parts as far as their author asked for them. Which messages go along with an offer depends on when it is
    made, and which words go depends on when something is forgotten, so a request that is repeated later leads to
    others."""
    return [
        msgspec.structs.replace(each, transcript=None) if isinstance(each, HandoffPart) else each
        for each in parts
        if not isinstance(each, GuardPart)
    ]


def operation_of(parts: Iterable[Part]) -> str:
    """The operation that an author was asked for when it composed these parts."""
    for part in parts:
        match part:
            case HandoffPart():
                return "handoff.give"
            case HandoffAnswerPart(answer=answer):
                return {"accepted": "handoff.accept", "declined": "handoff.decline"}.get(answer, "handoff.withdraw")
            case MemoryPart(forgets=forgets):
                return "memory.forget" if forgets else "memory.remember"
            case BlobPart():
                return "blob.share"
    return "message.send"


def gate_of(parts: Iterable[Part]) -> GatePart | None:
    """Under what a message is shown; None for one that is shown at once and for good."""
    return next((part for part in parts if isinstance(part, GatePart)), None)


def root_chain(id: MessageId) -> str:
    """The name of the conversation that begins with this message. It follows from the id, so that nobody can put a new
    message into a conversation that is not its own."""
    return f"c{id.removeprefix('m')}"


def turn_of(parts: Iterable[Part]) -> tuple[Turn, Millis]:
    """What a message with these words does with a turn, and for how long an offer stands or a task is open, as its
    header repeats it."""
    for part in parts:
        match part:
            case TaskPart(ttl_ms=ttl_ms):
                return "", ttl_ms
            case HandoffPart(ttl_ms=ttl_ms):
                return "offered", ttl_ms or DEFAULT_OFFER_MS
            case HandoffAnswerPart(answer=answer):
                return answer, Millis(0)
            case _:
                pass
    return "", Millis(0)


def due_of(parts: Iterable[Part]) -> Millis:
    """Until which moment a task with these words may be claimed; 0 for any other message."""
    return next((part.at for part in parts if isinstance(part, TaskPart)), Millis(0))


def span_until(due: Millis, at: Millis) -> Millis:
    """For how long a task may be claimed that was posted at `at`, until the moment `due`: its header holds that. A task
    that comes after its moment is over at once."""
    return Millis(max(1, due - at))


_KNOWN: Final = frozenset(str(part.__struct_config__.tag) for part in get_args(Part))
T = TypeVar("T", Envelope, Inside)
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Envelope)
_INSIDE = msgspec.msgpack.Decoder(Inside)
_LOOSE = msgspec.msgpack.Decoder(dict[str, Any])


def encode_envelope(envelope: Envelope) -> bytes:
    """The bytes that are signed, stored and sent. Keep them: nobody encodes the same envelope a second time."""
    return _ENCODER.encode(envelope)


def decode_envelope(data: bytes) -> Envelope:
    """The envelope again, of any version. A part of a type that is not known reads as an `UnknownPart`, and one that a
    home released has the words that its author signed (`gated_part` gives the signature), or the `SealedPart` in their
    place. One that a member's home opened is otherwise as its author composed it (`opened_part` gives what travelled),
    and of version 5 unless a home released it.

    Raises `msgspec.DecodeError` for bytes that are no envelope, and what msgspec does not wrap: `UnicodeDecodeError`
    for text that is not UTF-8, and `RecursionError` for nesting without end.
    """
    envelope = _decode(data)
    inside: Inside | None = None
    if envelope.v == OPENED:
        kept = opened_part(data)
        envelope, inside = _decode(kept.body), decode_inside(kept.words)
    if envelope.v == RELEASED:
        words: list[Part] = []
        for part in envelope.parts:
            said = (_decode(part.body) if inside is None else inside).parts if _is_gated(part) else (part,)
            words += [each for each in said if not _is_gate(each)]
        read = envelope if inside is None else with_inside(envelope, inside)
        return msgspec.structs.replace(read, v=RELEASED, parts=tuple(words))
    return envelope if inside is None else with_inside(envelope, inside)


def travelled(data: bytes) -> bytes:
    """The bytes of a message as they travelled, from what a member's home keeps of it. Raises like `decode_envelope`,
    and `msgspec.ValidationError` where a home says that it opened something, and keeps nothing of that."""
    return opened_part(data).body if _decode(data).v == OPENED else data


def gated_part(data: bytes) -> GatedPart:
    """What the author signed of the message that a home released in this envelope. Raises like `decode_envelope`, and
    `msgspec.ValidationError` where there is no such thing."""
    match _decode(data).parts:
        case (GatedPart() as part,) | (GatedPart() as part, TaskPart()):
            return part
        case _:
            raise msgspec.ValidationError("a released message holds what its author signed")


def sealed_in(data: bytes) -> tuple[Envelope, bytes] | None:
    """What an author sealed in a message that travelled as these bytes: the envelope of version 4 and its bytes. It is
    the message itself, or what a home released in it; None where nothing is sealed. Raises like `gated_part`."""
    envelope = _decode(data)
    if envelope.v == RELEASED:
        data = gated_part(data).body
        envelope = _decode(data)
    return (envelope, data) if envelope.v == SEALED else None


def is_unread(envelope: Envelope) -> bool:
    """Whether the words of a message are sealed, and were not opened: nothing but its outline is known."""
    return any(isinstance(part, SealedPart) for part in envelope.parts)


def opened(body: bytes, signature: bytes, words: bytes) -> bytes:
    """The bytes that a member's home keeps of the sealed message that travelled as `body`, with the encoded `Inside`.
    The caller has checked that the two fit together (`sealing.joined`). Raises like `decode_envelope`."""
    sealed = _decode(body)
    return encode_envelope(
        Envelope(
            v=OPENED,
            id=sealed.id,
            room=sealed.room,
            key=sealed.key,
            kind=sealed.kind,
            chain=sealed.chain,
            hops=sealed.hops,
            authored_at=sealed.authored_at,
            counter=sealed.counter,
            previous=sealed.previous,
            nonce=sealed.nonce,
            parts=(OpenedPart(body, signature, words),),
        )
    )


def opened_part(data: bytes) -> OpenedPart:
    """What a member's home keeps of the sealed message in this envelope of version 5: the sealed bytes, what was signed
    of them, and the words. Raises like `decode_envelope`, and `msgspec.ValidationError` where there is no such
    thing."""
    match _decode(data):
        case Envelope(v=v, parts=(OpenedPart() as part,)) if v == OPENED:
            return part
        case _:
            raise msgspec.ValidationError("an opened message holds what travelled of it")


def with_inside(outside: Envelope, inside: Inside) -> Envelope:
    """The message that a sealed envelope and its words are together. `sealing.joined` checks that they fit."""
    return msgspec.structs.replace(
        outside,
        v=OPENED,
        kind=inside.kind,
        authored_at=inside.authored_at,
        host=inside.host,
        via=inside.via,
        parts=inside.parts,
    )


def encode_inside(inside: Inside) -> bytes:
    """The bytes that are padded and sealed."""
    return _ENCODER.encode(inside)


def decode_inside(data: bytes) -> Inside:
    """The same again. A part of a type that is not known reads as an `UnknownPart`. Raises like `decode_envelope`."""
    return _decoded(data, _INSIDE)


def _is_gate(part: Part) -> bool:
    return isinstance(part, GatePart)


def _is_gated(part: Part) -> TypeGuard[GatedPart]:
    return isinstance(part, GatedPart)


def _decode(data: bytes) -> Envelope:
    return _decoded(data, _DECODER)


def _decoded(data: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        loose = _LOOSE.decode(data)
        parts = loose.get("parts")
        if not isinstance(parts, list) or not any(map(_is_unknown, parts)):
            raise
    known = [{"type": "unknown", "packed": _ENCODER.encode(each)} if _is_unknown(each) else each for each in parts]
    return msgspec.convert({**loose, "parts": known}, decoder.type)


def _is_unknown(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(kind := part.get("type"), str) and kind not in _KNOWN
