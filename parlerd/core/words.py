"""What may be said: the one check of a message's words, and of the envelope that carries them.

The author's part runs this check where words are composed, a home runs it where it admits a finished envelope, and a
reader of another home's envelope runs it again where the envelope arrives: no home trusts another home's check.

Not here: whether a message fits into its room (who is in, what it replies to, its counter), which the room decides, and
whether its author signed it, which `identity` tells. Above: the engine. Below: `envelope`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec

from parlerd.core.envelope import (
    OPENED,
    SIGNED,
    BlobPart,
    BlobSeal,
    DataPart,
    Envelope,
    GatedPart,
    GatePart,
    GuardPart,
    HandoffAnswerPart,
    HandoffPart,
    MemoryPart,
    OpenedPart,
    SealedPart,
    TaskPart,
    TextPart,
    Transcript,
    UnknownPart,
    blob_of,
    decode_envelope,
    due_of,
    is_guarded,
    is_unread,
    memory_of,
    root_chain,
    turn_of,
)
from parlerd.core.errors import Refused
from parlerd.core.model import (
    INVOCATION,
    MAX_LABEL,
    MAX_TEXT,
    By,
    RoomId,
    Via,
    blob_id,
    idempotency_key,
    is_agent_id,
    key_label,
    label,
)
from parlerd.core.timers import MAX_SPAN_MS

if TYPE_CHECKING:
    # Not while a program runs: each command reads the bounds of words, and none of them reads a fact.
    from parlerd.core.events import MessagePosted

MAX_DEPTH: Final = 64
"""How many levels `data` may have. How deep a decoder can go depends on who calls it; 64 is far below all of them."""
MAX_ADDRESSEES: Final = 64
"""How many agents one message may name as those whose attention it asks for, and how many as its only readers."""
MEMORY: Final = "memory"
"""The kind of the messages that belong to a room's memory."""
FILE: Final = "file"
CODE: Final = "code"
"""The kinds of the messages that bring a file, and commits, and do nothing else."""
TASK: Final = "task"
"""The kind of a message that is work."""
HANDOFF: Final = "handoff"
"""The kind of the messages that offer the turn."""
Said = Literal["accepted", "working", "awaiting", "done", "failed", "cancelled"]
KIND_OF: Final[Mapping[Said, str]] = {
    "accepted": "task-accepted",
    "working": "task-working",
    "awaiting": "task-awaiting",
    "done": "result",
    "failed": "task-failed",
    "cancelled": "task-cancelled",
}
"""The kind of the message by which a worker says how a task is."""
LATE: Final = "late-result"
"""The kind of what a worker says of a task that it does not hold any more: kept to be read, and without effect."""
SAID_OF_TASK: Final = frozenset({*KIND_OF.values(), LATE})
UNGATED: Final = frozenset({*SAID_OF_TASK, MEMORY, HANDOFF, INVOCATION})
"""Kinds of messages that do something in their room, at once: none of these waits for anything."""
MAX_ERASED: Final = 64
"""Messages whose words go with one that forgets: as many as there are versions of a key whose words are kept."""
MAX_NAME: Final = 255
"""Bytes of the name that an author gives to what it shares: as many as a file system takes."""
MAX_PARTS: Final = 16
CAPSULE_TEXTS: Final = ("next", "summary", "goal", "state")
CAPSULE_LISTS: Final = ("decisions", "failed", "questions", "files", "refs")
"""The fields of a hand-off that are texts, and those that are lists of texts."""
MAX_POINTS: Final = 64
"""Entries of each of these lists."""
MAX_CAPSULE: Final = 64 * 1024
"""Bytes of all that goes along with a hand-off beside `next` and `summary`. Source: rooms spec, Handoff; what a model
reads in one go is less than that in every host."""
MAX_TRANSCRIPT: Final = 100
"""Messages that go along with an offer of the turn."""
MAX_QUOTED_BYTES: Final = 32 * 1024
"""Bytes of those that are quoted: half of what else a hand-off may hold."""
MIN_OFFER_MS: Final = 60 * 1000
MAX_OFFER_MS: Final = 30 * 24 * 3600 * 1000
"""How long an offer may stand."""
MAX_BYTES: Final = 3 * MAX_TEXT
"""How many bytes an encoded envelope may have: room for the largest text, the largest data, and the same again for
everything else."""
_KIND: Final = re.compile(r"[A-Za-z0-9._/-]{1,64}\Z")
_ID: Final = re.compile(r"[A-Za-z0-9_]{1,64}\Z")
_MESSAGE_ID: Final = re.compile(r"m_[A-Za-z0-9_]{1,62}\Z")
_COMMIT: Final = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_HASH: Final = 32
_NONCE: Final = 16
_PREFIX: Final = 19
_REPEATED: Final = ("kind", "to", "role", "visibility", "reply_to", "chain", "hops", "counter")
"""The fields of its envelope that a message's header repeats, for the rules and the indexes."""
_SIGNED_LATER: Final = ("host", "via")
"""The fields of `By` that an envelope repeats from version 2 on."""
_DOORS: Final[Mapping[str, Via]] = {door: door for door in get_args(Via) if door != "link"}
"""The doors of an author. A link is how a home elsewhere hears of a message."""


def check_text(text: str, param: str) -> int:
    """The size of a text in bytes. Raises `Refused`: `text_too_long` for more than 256 KiB, because no text is ever cut
    short, and `invalid_param` for half characters."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT:
        raise Refused(
            "text_too_long", f"`{param}` has {size} bytes; a message holds {MAX_TEXT}.", param=param, limit=MAX_TEXT
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused("invalid_param", f"`{param}` is not valid text.", param=param) from error
    return size


def check_handoff(part: HandoffPart) -> int:
    """The size of an offer's words in bytes. Raises `Refused`: `text_too_long` for more than they may have, and
    `invalid_param` for half characters, too many points or a time that no offer stands."""
    size = check_text(part.next, "next") + check_text(part.summary, "summary")
    rest = check_text(part.goal, "goal") + check_text(part.state, "state")
    lists = {name: getattr(part, name) for name in CAPSULE_LISTS}
    for name, points in lists.items():
        if len(points) > MAX_POINTS:
            raise Refused("invalid_param", f"`{name}` has more than {MAX_POINTS} entries.", param=name)
        rest += sum(check_text(point, name) for point in points)
    quoted = () if part.transcript is None else part.transcript.quoted
    quotes = sum(check_text(each.author, "transcript") + check_text(each.text, "transcript") for each in quoted)
    if quotes > MAX_QUOTED_BYTES:
        raise Refused("text_too_long", param="transcript", limit=MAX_QUOTED_BYTES)
    if rest > MAX_CAPSULE:
        raise Refused(
            "text_too_long",
            f"What goes along with a hand-off has {rest} bytes; it holds {MAX_CAPSULE}.",
            param=max(lists, key=lambda name: sum(map(len, lists[name]))),
            limit=MAX_CAPSULE,
        )
    if part.ttl_ms and not MIN_OFFER_MS <= part.ttl_ms <= MAX_OFFER_MS:
        raise Refused("invalid_param", "An offer stands for a minute to 30 days.", param="ttl_ms")
    return size + rest + quotes


def answer_kind(answer: str) -> str:
    """The kind of the message that answers an offer. A Parler that knows no answers shows the kind, and so what became
    of the offer."""
    return f"handoff-{answer}"


_JSON: Final = frozenset({dict, list, tuple, str, int, float, bool, type(None)})


def check_data(data: Any) -> int:
    """The size of `data` in bytes. Raises `Refused`: `invalid_param` for anything but JSON of at most 64 levels,
    `text_too_long` past 256 KiB.

    Every reader of the room must be able to decode `data`: a message that one surface cannot show would stop a reader
    at that message for good. The event loop waits during this check, so the check first looks at the size, and then
    goes through the data one whole level at a time.
    """
    try:
        size = len(msgspec.msgpack.encode(data))
    except UnicodeEncodeError as error:
        raise Refused("invalid_param", "`data` holds text that is not valid.", param="data") from error
    except (TypeError, OverflowError, RecursionError, ValueError) as error:
        raise _no_json() from error
    if size > MAX_TEXT:
        raise Refused("text_too_long", f"`data` is larger than {MAX_TEXT} bytes.", param="data", limit=MAX_TEXT)
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        kinds = set(map(type, level))
        if not kinds <= _JSON:
            raise _no_json()
        if float in kinds and not all(map(math.isfinite, [value for value in level if type(value) is float])):
            raise _no_json()
        maps = level if kinds == {dict} else [value for value in level if type(value) is dict] if dict in kinds else []
        if not set(map(type, chain.from_iterable(maps))) <= {str}:
            raise _no_json()
        nested = kinds & {list, tuple}
        lists = level if kinds == nested else [value for value in level if type(value) in nested] if nested else []
        level = list(chain(chain.from_iterable(map(dict.values, maps)), chain.from_iterable(lists)))
        if not level:
            return size
    raise _no_json()


def _no_json() -> Refused:
    return Refused("invalid_param", f"`data` is not JSON of at most {MAX_DEPTH} levels.", param="data")


def check_body(body: bytes) -> Envelope:
    """The envelope in these bytes, checked as far as an envelope can be checked without its room.

    Raises `Refused`: `text_too_long` for words past the limits, `invalid_param` for data that is no JSON, and
    `envelope_refused` for anything else, with the wrong field as `what`.
    """
    envelope = read_body(body)
    check_envelope(envelope)
    return envelope


def read_body(body: bytes) -> Envelope:
    """The envelope in these bytes, with nothing checked but their number. Raises `Refused` as `check_body` does."""
    if len(body) > MAX_BYTES:
        raise Refused("text_too_long", f"The envelope has {len(body)} bytes; it holds {MAX_BYTES}.", limit=MAX_BYTES)
    try:
        return decode_envelope(body)
    # msgspec raises UnicodeDecodeError for text that is not UTF-8, and RecursionError for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _refused("format") from None


def check_envelope(envelope: Envelope) -> None:
    """Check sizes, depth, numbers, and the forms of names, ids and parts. Raises what `check_body` raises.

    Only version 2 passes: version 1 is read where it is stored, and nobody admits one any more. What nobody signs has a
    check of its own (`invocations.read`), and so has what a home releases (`gated.read`).
    """
    _check_head(envelope)
    check_thread(envelope)
    if not _says_something(envelope):
        raise _refused("parts")


def check_opened(envelope: Envelope) -> None:
    """The same for a message of a sealed room, once its words are in it (`envelope.with_inside`)."""
    _check_head(envelope, OPENED)
    check_thread(envelope)
    if not _says_something(envelope):
        raise _refused("parts")


def check_gated(envelope: Envelope, version: int = SIGNED) -> GatePart:
    """The same for what the author of a gated message signs, which stands in no thread; gives its gate. It has words or
    data, and nothing that does something in the room beside. In a sealed room the `version` is that of a message whose
    words are in it."""
    _check_head(envelope, version)
    check_no_thread(envelope)
    gates = [part for part in envelope.parts if isinstance(part, GatePart)]
    words = [part for part in envelope.parts if isinstance(part, TextPart | DataPart)]
    plain = msgspec.structs.replace(envelope, parts=tuple(words))
    is_sound = len(gates) == 1 and len(gates) + len(words) == len(envelope.parts) and bool(words)
    if not is_sound or envelope.kind in UNGATED or envelope.role or not _says_something(plain):
        raise _refused("parts")
    return gates[0]


def check_no_thread(envelope: Envelope) -> None:
    """Check that a message stands in no thread of its author. Raises `Refused(envelope_refused)`."""
    _require({"counter": envelope.counter == 0, "previous": envelope.previous == b""})


def check_thread(envelope: Envelope) -> None:
    """Check where a message stands in its author's thread. Raises `Refused(envelope_refused)`."""
    _require({"counter": 1 <= envelope.counter < 2**53, "previous": len(envelope.previous) in (0, _HASH)})


def _check_head(envelope: Envelope, version: int = SIGNED) -> None:
    _require({"v": envelope.v == version, "via": _holds(author_door, envelope.via)})
    check_head(envelope)


def check_head(envelope: Envelope) -> None:
    """Check what holds of everything that an author signs from version 2 on, whether its words are sealed or not.
    Raises `Refused(envelope_refused)`."""
    _require(
        {
            "key": _holds(idempotency_key, envelope.key),
            "kind": _KIND.match(envelope.kind) is not None,
            "shown": 0 <= envelope.shown < 2**53,
            "line": len(envelope.line) == _HASH,
            "to": _are_agents(envelope.to),
            "role": envelope.role == "" or _holds(label, envelope.role),
            "visibility": envelope.visibility is None or _are_agents(envelope.visibility),
            "reply_to": envelope.reply_to is None or _ID.match(envelope.reply_to) is not None,
            "parts": 1 <= len(envelope.parts) <= MAX_PARTS,
        }
    )
    check_frame(envelope)


def _says_something(envelope: Envelope) -> bool:
    """Whether a message with these parts says anything. Raises `Refused` for parts that it cannot have."""
    if sum(isinstance(part, HandoffPart | HandoffAnswerPart) for part in envelope.parts) > 1:
        raise _refused("parts")
    says_something = False
    for part in envelope.parts:
        match part:
            case TextPart(text=text):
                says_something |= check_text(text, "text") > 0
            case DataPart(data=data):
                check_data(data)
                says_something = True
            case HandoffPart():
                says_something |= check_handoff(part) > 0
                if len(part.target) > MAX_LABEL or envelope.kind != HANDOFF:
                    raise _refused("parts")
                if part.transcript is not None and not _is_transcript(part.transcript):
                    raise _refused("parts")
            case HandoffAnswerPart(answer=answer, reason=reason):
                check_text(reason, "reason")
                says_something = True
                if envelope.kind != answer_kind(answer) or envelope.reply_to is None:
                    raise _refused("parts")
            case MemoryPart():
                if not _is_memory(part, envelope):
                    raise _refused("parts")
                says_something |= part.forgets
            case GuardPart():
                # In a clear room its home compares.
                if envelope.v != OPENED or memory_of(envelope.parts) is None or not is_guard(part):
                    raise _refused("parts")
            case BlobPart():
                if not _is_blob(part, envelope):
                    raise _refused("parts")
                says_something = True
            case TaskPart(ttl_ms=ttl_ms, at=at):
                is_one = (0 < ttl_ms <= MAX_SPAN_MS and not at) or (not ttl_ms and 0 < at < 2**53)
                if envelope.kind != TASK or not is_one:
                    raise _refused("parts")
            case GatePart() | GatedPart() | SealedPart() | OpenedPart():
                # None of them is a message's own.
                raise _refused("parts")
            case UnknownPart():
                # A later version knows how to check it and a reader how to show it; its size is bounded here.
                says_something = True
    return says_something


def check_frame(envelope: Envelope) -> None:
    """Check what holds of the envelopes of every version from 2 on, and of those that nobody signs: the forms of ids
    and times, and the name of the conversation. Raises `Refused(envelope_refused)`."""
    is_root = envelope.reply_to is None
    _require(
        {
            "id": _MESSAGE_ID.match(envelope.id) is not None,
            "room": _ID.match(envelope.room) is not None,
            "chain": envelope.chain == root_chain(envelope.id) if is_root else _ID.match(envelope.chain) is not None,
            "hops": (envelope.hops == 0) is is_root and 0 <= envelope.hops < 2**53,
            "authored_at": 0 <= envelope.authored_at < 2**53,
            "seen": envelope.seen == b"",
            "nonce": len(envelope.nonce) == _NONCE,
            "host": envelope.host == "" or _holds(label, envelope.host),
        }
    )


def _require(sound: Mapping[str, bool]) -> None:
    for what, is_sound in sound.items():
        if not is_sound:
            raise _refused(what)


def _is_transcript(said: Transcript) -> bool:
    """Whether a transcript names messages, and quotes all of them or none."""
    return (
        _MESSAGE_ID.match(said.first) is not None
        and _MESSAGE_ID.match(said.last) is not None
        and 1 <= said.count <= MAX_TRANSCRIPT
        and 0 <= said.left_out < MAX_TRANSCRIPT
        and len(said.quoted) in (0, said.count)
        and (not said.quoted or (said.quoted[0].id, said.quoted[-1].id) == (said.first, said.last))
        and all(
            _MESSAGE_ID.match(each.id) is not None
            and len(each.author) <= MAX_LABEL
            and 0 <= each.at < 2**53
            and _KIND.match(each.kind) is not None
            for each in said.quoted
        )
    )


def _is_memory(part: MemoryPart, envelope: Envelope) -> bool:
    """Whether this part, in this envelope, says what it does in the room's memory, and nothing beside. A memory is the
    whole room's, so a message of it is hidden from nobody and addressed to nobody."""
    is_for_all = envelope.visibility is None and not envelope.to and not envelope.role
    is_alone = sum(isinstance(each, MemoryPart) for each in envelope.parts) == 1
    is_named = part.key == "" or _holds(key_label, part.key)
    if not (envelope.kind == MEMORY and is_for_all and is_alone and is_named):
        return False
    is_for_version = part.if_version is not None
    if is_for_version and (part.forgets or part.key == "" or not 0 <= (part.if_version or 0) < 2**53):
        return False
    if envelope.v == OPENED and not _is_guarded_so(part, envelope):
        return False
    beside = [each for each in envelope.parts if not isinstance(each, MemoryPart | GuardPart)]
    if part.forgets:
        return not beside and (part.key == "") is not (envelope.reply_to is None)
    return envelope.reply_to is None and all(isinstance(each, TextPart) for each in beside)


def _is_guarded_so(part: MemoryPart, envelope: Envelope) -> bool:
    """Whether a message of a sealed room's memory has a guard where it needs one, and nowhere else; and whether the
    guard names words that go exactly where the message forgets some."""
    guards = [each for each in envelope.parts if isinstance(each, GuardPart)]
    if not is_guarded(part):
        return not guards
    return len(guards) == 1 and bool(guards[0].erases) is part.forgets


def is_guard(part: GuardPart) -> bool:
    """Whether a guard has the form of one."""
    named = part.erases
    return len(named) <= MAX_ERASED and len(set(named)) == len(named) and all(map(_MESSAGE_ID.match, named))


def _is_blob(part: BlobPart, envelope: Envelope) -> bool:
    """Whether this part, in this envelope, names one file or one bundle, and nothing beside that a rule would read. A
    hand-off brings code, and what is said of a task brings either."""
    beside = HandoffPart if envelope.kind == HANDOFF else TextPart
    is_alone = all(each is part or isinstance(each, beside) for each in envelope.parts)
    is_code = part.tip != ""
    kinds = {CODE, HANDOFF} if is_code else {FILE}
    ids = [each for each in (part.tip, part.base) if each]
    return (
        is_alone
        and envelope.kind in kinds.union(SAID_OF_TASK)
        and _holds(blob_id, part.blob)
        and 0 <= part.size < 2**53
        and 0 <= part.left_out < 2**53
        and len(part.name.encode("utf-8", "surrogatepass")) <= MAX_NAME
        and _is_text(part.name)
        and all(_COMMIT.match(each) is not None for each in ids)
        and (is_code or not (part.base or part.left_out))
        # In a sealed room nobody shares a file that its home could read.
        and (part.seal is not None) is (envelope.v == OPENED)
        and (part.seal is None or _is_seal(part.seal))
    )


def _is_seal(seal: BlobSeal) -> bool:
    return (len(seal.key), len(seal.prefix), len(seal.digest)) == (_HASH, _PREFIX, _HASH)


def contradiction(room: RoomId, key: str | None, by: By, event: MessagePosted, envelope: Envelope) -> str | None:
    """The first field in which a message's header differs from its envelope, or None when the two agree.

    `key` is the idempotency key in the header. Only the first fact of a request bears the request's key, so a header
    without a key (None) agrees with any. Of version 1 the envelope says nothing of the id, the host and the door.
    """
    if envelope.room != room:
        return "room"
    if key not in (None, envelope.key):
        return "key"
    if envelope.v != event.envelope_v:
        return "v"
    turn, ttl_ms = turn_of(envelope.parts)
    # Until a moment it is as long as follows from when the message was posted, which is not looked at here.
    is_so_long = event.ttl_ms > 0 if due_of(envelope.parts) else event.ttl_ms == ttl_ms
    if turn != event.turn or not is_so_long:
        return "parts"
    if envelope.v != 1:
        if envelope.id != event.id:
            return "id"
        # A sealed message names no host and no door to the home of its room.
        wrong = (
            None
            if is_unread(envelope)
            else next((name for name in _SIGNED_LATER if getattr(by, name) != getattr(envelope, name)), None)
        )
        if wrong is not None:
            return wrong
    if event.blob and event.blob != blob_of(envelope.parts):
        return "blob"
    note, part = event.memory, memory_of(envelope.parts)
    # The other way round it may be: an older Parler stored messages without knowing what they do in the memory.
    if note is not None and (part is None or (note.key, note.forgets) != (part.key, part.forgets)):
        return "memory"
    return next((name for name in _REPEATED if getattr(event, name) != getattr(envelope, name)), None)


def _are_agents(ids: tuple[str, ...]) -> bool:
    return len(ids) <= MAX_ADDRESSEES and len(set(ids)) == len(ids) and all(map(is_agent_id, ids))


def author_door(text: str) -> Via:
    """`text` as a door that an author can name. Raises `Refused(envelope_refused)`."""
    if text not in _DOORS:
        raise _refused("via")
    return _DOORS[text]


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _holds(check: Any, value: Any) -> bool:
    try:
        check(value)
    except Refused:
        return False
    return True


def _refused(what: str) -> Refused:
    return Refused("envelope_refused", what=what)
