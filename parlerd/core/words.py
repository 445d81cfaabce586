"""What may be said: the one check of a message's words, and of the envelope that carries them.

The author's part runs it where words are composed, the home runs it where a finished envelope is admitted, and whoever
reads an envelope of another home runs it again where that arrives: neither home takes the other's word for it. Pure:
no key, no clock, no room. Whether a message fits into its room (who is in, what it replies to, its counter) is the
room's to say, and whether its author signed it is `identity`'s.
"""

from __future__ import annotations

import math
import re
from itertools import chain
from typing import Any, Final

import msgspec

from parlerd.core.envelope import DataPart, Envelope, HandoffPart, TextPart, decode_envelope
from parlerd.core.errors import Refused
from parlerd.core.events import MessagePosted
from parlerd.core.model import MAX_LABEL, MAX_TEXT, RoomId, idempotency_key, is_agent_id, label

MAX_DEPTH: Final = 64
"""Levels of `data`. Decoders stop at a depth that depends on who calls them; this is far below all of them."""
MAX_ADDRESSEES: Final = 64
"""Agents that one message names, as those whose attention it asks for or as its only readers."""
MAX_PARTS: Final = 16
MAX_BYTES: Final = 3 * MAX_TEXT
"""Bytes of an encoded envelope: the largest text and the largest data beside each other, and the rest."""
_KIND: Final = re.compile(r"[A-Za-z0-9._/-]{1,64}\Z")
_ID: Final = re.compile(r"[A-Za-z0-9_]{1,64}\Z")
_HASH: Final = 32
_NONCE: Final = 16
_REPEATED: Final = ("kind", "to", "role", "visibility", "reply_to", "chain", "hops", "counter")
"""What the header of a message repeats of its envelope, for rules and indexes."""


def check_text(text: str, param: str) -> int:
    """The size of a text in bytes. Raises `Refused(text_too_long)` for more than 256 KiB: never a cut."""
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


_JSON: Final = frozenset({dict, list, tuple, str, int, float, bool, type(None)})


def check_data(data: Any) -> int:
    """The size of `data` in bytes. Raises `Refused`: `invalid_param` for anything but JSON of at most 64 levels,
    `text_too_long` past 256 KiB.

    Every reader of the room must be able to take it apart again: what one surface cannot show would stop a reader there
    for good. The loop waits meanwhile, so the size is looked at first, and then whole levels at a time.
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
    """The envelope in these bytes, once all that can be said of it by itself was found in order.

    Raises `Refused`: `text_too_long` for words past the limits, `invalid_param` for data that is no JSON,
    `envelope_refused`, with `what` is wrong, for the rest.
    """
    if len(body) > MAX_BYTES:
        raise Refused("text_too_long", f"The envelope has {len(body)} bytes; it holds {MAX_BYTES}.", limit=MAX_BYTES)
    try:
        envelope = decode_envelope(body)
    # msgspec raises the latter two itself, for text that is not UTF-8 and for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _refused("format") from None
    check_envelope(envelope)
    return envelope


def check_envelope(envelope: Envelope) -> None:
    """Sizes, depth, numbers, and the forms of names, ids and parts. Raises as `check_body` does."""
    first = envelope.counter == 1
    sound = {
        "v": envelope.v == 1,
        "room": _ID.match(envelope.room) is not None,
        "key": _holds(idempotency_key, envelope.key),
        "kind": _KIND.match(envelope.kind) is not None,
        "chain": _ID.match(envelope.chain) is not None,
        "hops": (envelope.hops == 0) is (envelope.reply_to is None) and 0 <= envelope.hops < 2**53,
        "authored_at": 0 <= envelope.authored_at < 2**53,
        "counter": 1 <= envelope.counter < 2**53,
        "previous": len(envelope.previous) == (0 if first else _HASH),
        "seen": len(envelope.seen) in (0, _HASH),
        "nonce": len(envelope.nonce) == _NONCE,
        "to": _are_agents(envelope.to),
        "role": envelope.role == "" or _holds(label, envelope.role),
        "visibility": envelope.visibility is None or _are_agents(envelope.visibility),
        "reply_to": envelope.reply_to is None or _ID.match(envelope.reply_to) is not None,
        "parts": 1 <= len(envelope.parts) <= MAX_PARTS,
    }
    for what, is_sound in sound.items():
        if not is_sound:
            raise _refused(what)
    says_something = False
    for part in envelope.parts:
        match part:
            case TextPart(text=text):
                says_something |= check_text(text, "text") > 0
            case DataPart(data=data):
                check_data(data)
                says_something = True
            case HandoffPart(next=next, summary=summary, target=target):
                says_something |= check_text(next, "next") + check_text(summary, "summary") > 0
                if len(target) > MAX_LABEL or envelope.kind != "handoff":
                    raise _refused("parts")
    if not says_something:
        raise _refused("parts")


def contradiction(room: RoomId, key: str | None, event: MessagePosted, envelope: Envelope) -> str | None:
    """The first thing in which a message's header does not repeat its envelope, or None when it repeats all.

    Of the facts of one request only the first bears the request's key, so a header without one contradicts none.
    """
    if envelope.room != room:
        return "room"
    if key not in (None, envelope.key):
        return "key"
    return next((name for name in _REPEATED if getattr(event, name) != getattr(envelope, name)), None)


def _are_agents(ids: tuple[str, ...]) -> bool:
    return len(ids) <= MAX_ADDRESSEES and len(set(ids)) == len(ids) and all(map(is_agent_id, ids))


def _holds(check: Any, text: str) -> bool:
    try:
        check(text)
    except Refused:
        return False
    return True


def _refused(what: str) -> Refused:
    return Refused("envelope_refused", what=what)
