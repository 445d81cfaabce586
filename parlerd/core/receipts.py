"""What a receipt says: that the home of a room took in one fact, and what that fact was, for whoever was not there.

    parler/receipt v1
    home A...                                      the home that says so
    room r_...
    fact m_... message_posted <digest>             which fact; its digest is over the salted header
    number 12 <line before>                        its place in the actor's own line
    content <digest>                               of a salt and what was said, which the opening opens
    ...

A fact is told by a message's id, or by `fact_id`. The text is what the home signs, byte for byte, so it has one
spelling: `read` takes what `text` writes and nothing else. No text that a person or an agent wrote is in it.

Each actor has an *own line* for each audience in each room: one digest that stands for all its facts there up to one of
them, in their order.

    R0 = SHA-256(tag, room, actor, audience)        Rn = SHA-256(Rn-1, digest of fact n)

There is a line of its own for each audience because a number counts what came before it: by the number of a fact that
everybody sees, nobody learns how many there are that they do not see. What is no message has the actor alone for its
audience, and so its receipt is given to the actor and the actor's person.

Not here: signatures (`identity.notes`), where lines are kept (`store`), who is given a receipt (the engine). Invariant:
the same fact gives the same text, whenever it is asked for, but for what became of a hand-off. Source: contract spec,
Receipts.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from parlerd.core import events as e
from parlerd.core.expressions import Failed, Moment
from parlerd.core.model import AgentId, Millis, RoomId
from parlerd.core.moments import MILLISECOND, moment_text, parse_moment

TITLE: Final = "parler/receipt v1"
"""The first line, which says what a signature over the text is for."""
MAX_BYTES: Final = 64 * 1024
"""Bytes of a receipt at most. One of a hand-off that everybody declined has some 100 for each."""
EVERYBODY: Final = ""
"""The audience of a message for everyone in the room."""
MYSELF: Final = "self"
"""The audience of what is no message."""

_LINE_TAG: Final = b"parler/own-line"
_CONTENT_TAG: Final = b"parler/receipt-content"
_FACT_BYTES: Final = 15


# -- own lines ---------------------------------------------------------------------------------------------


def has_number(header: e.Header) -> bool:
    """Whether a fact has a place in its actor's own line: it is the first of what an agent asked for, or a message."""
    return bool(header.operation) or isinstance(header.event, e.MessagePosted)


def audience_of(header: e.Header) -> str:
    """Who may see a fact, as far as own lines tell audiences apart."""
    match header.event:
        case e.MessagePosted(visibility=None):
            return EVERYBODY
        case e.MessagePosted(visibility=readers):
            assert readers is not None
            return ",".join(sorted(readers))
        case _:
            return MYSELF


def first_line(room: RoomId, actor: AgentId, audience: str) -> bytes:
    """The own line before an actor's first fact for an audience."""
    return hashlib.sha256(b"\0".join((_LINE_TAG, room.encode(), actor.encode(), audience.encode()))).digest()


def next_line(line: bytes, digest: bytes) -> bytes:
    """The own line with one fact more."""
    return hashlib.sha256(line + digest).digest()


class Numbered(NamedTuple):
    """The place of a fact in its actor's own line: its number, from 1, and the line before it."""

    number: int
    before: bytes


class FactRef(NamedTuple):
    """What a fact is called, and its number in its actor's own line; 0 where only its home knows the number."""

    fact: str
    number: int = 0


def name_of(header: e.Header, thread: bytes, number: int) -> str:
    """What a fact is called: a message by its id."""
    return header.event.id if isinstance(header.event, e.MessagePosted) else fact_id(thread, number)


def fact_id(line: bytes, number: int) -> str:
    """The id of a fact that is no message, from the `first_line` that it belongs to."""
    return f"f_{base64.b32encode(line[:_FACT_BYTES]).decode().lower()}_{number}"


_FACT: Final = re.compile(r"f_([a-z2-7]{24})_([1-9][0-9]{0,14})")


def number_in(id: str, line: bytes) -> int | None:
    """The number of the fact with this id, if it belongs to the line that begins with `line`."""
    found = _FACT.fullmatch(id)
    if found is None or fact_id(line, int(found[2])) != id:
        return None
    return int(found[2])


# -- content -----------------------------------------------------------------------------------------------


class Opening(NamedTuple):
    """What opens the `content` of a receipt: whoever has it can see that the content is this one. `event` is the fact
    itself as it is stored, in msgpack; `body` what it bears, or None."""

    salt: bytes
    event: bytes
    body: bytes | None = None


def content_salt(salt: bytes) -> bytes:
    """The salt of a fact's content, from the salt of its header. The latter follows from nothing that a receipt or an
    opening holds: whoever had it could guess the position in the header."""
    return hashlib.sha256(_CONTENT_TAG + salt).digest()[:16]


def content_of(salt: bytes, event: bytes, body: bytes | None) -> bytes:
    """The digest of a content. `salt` is the `content_salt`, and `body` the SHA-256 of the body, or None."""
    return hashlib.sha256(salt + hashlib.sha256(event).digest() + (body or b"")).digest()


def opens(opening: Opening, content: bytes) -> bool:
    """Whether this is what a receipt's content is the digest of."""
    body = None if opening.body is None else hashlib.sha256(opening.body).digest()
    return content_of(opening.salt, opening.event, body) == content


# -- the text ----------------------------------------------------------------------------------------------


class Also(NamedTuple):
    """Another fact of the same request, such as the second of two writes."""

    kind: str
    digest: bytes
    content: bytes


class Step(NamedTuple):
    """A step of a hand-off: what was asked for, in which message, by whom."""

    operation: str
    fact: str
    digest: bytes
    at: Millis
    actor: AgentId


class Receipt(NamedTuple):
    """What a receipt says. Digests have 32 bytes, and moments are those of the room."""

    home: str
    """The home that says so: its id, which is its public key."""
    room: RoomId
    fact: str
    kind: str
    """The type of the fact."""
    digest: bytes
    """Of the fact: SHA-256(salt, header)."""
    content: bytes
    operation: str
    """What the actor asked for; empty for a message that came of something else, as the recap of a session does."""
    at: Millis
    actor: AgentId
    handle: str
    """What the actor is called in the room."""
    via: str
    """The door that the request came through."""
    principal: str
    """The person for whom the actor acts."""
    authority: str
    """By what right."""
    token: str = ""
    """The id of the token that was shown, if one was."""
    verified: str = ""
    """Of a message: whether its author signed it."""
    numbered: Numbered | None = None
    """None for a fact from before homes kept own lines."""
    key: bytes = b""
    """The SHA-256 of the idempotency key of the request; empty for a request without one."""
    line: tuple[int, bytes] | None = None
    """Of a message for everyone: its number among those of the room, and the room's public line there."""
    also: tuple[Also, ...] = ()
    steps: tuple[Step, ...] = ()
    stage: str = "stored"
    """How far what is receipted got: `stored`, or where a hand-off stands."""


def key_digest(key: str) -> bytes:
    """What a receipt says of an idempotency key."""
    return hashlib.sha256(key.encode()).digest()


def text(receipt: Receipt) -> str:
    """The text that a home signs. It ends with a newline."""
    return "".join(f"{line}\n" for line in _lines(receipt))


def _lines(said: Receipt) -> Iterator[str]:
    yield TITLE
    yield f"home {said.home}"
    yield f"room {said.room}"
    yield f"fact {said.fact} {said.kind} {_b64(said.digest)}"
    if said.numbered is not None:
        yield f"number {said.numbered.number} {_b64(said.numbered.before)}"
    yield f"content {_b64(said.content)}"
    if said.operation:
        yield f"operation {said.operation}"
    yield f"at {_moment(said.at)}"
    yield f"actor {said.actor} {said.handle}"
    yield f"via {said.via}"
    yield f"principal {said.principal}"
    yield f"authority {said.authority}"
    if said.token:
        yield f"token {said.token}"
    if said.verified:
        yield f"verified {said.verified}"
    if said.key:
        yield f"key {_b64(said.key)}"
    if said.line is not None:
        yield f"line {said.line[0]} {_b64(said.line[1])}"
    for also in said.also:
        yield f"also {also.kind} {_b64(also.digest)} {_b64(also.content)}"
    for number, step in enumerate(said.steps, 1):
        yield f"step {number} {step.operation} {step.fact} {_b64(step.digest)} {_moment(step.at)} {step.actor}"
    yield f"stage {said.stage}"


class NotAReceipt(Exception):
    """A text is no receipt, or is spelled otherwise than one."""


def read(given: str) -> Receipt:
    """What a text says. Raises `NotAReceipt` for any that `text` would not write."""
    try:
        receipt = _read(given)
    except (ValueError, IndexError, Failed):
        raise NotAReceipt from None
    if text(receipt) != given:
        raise NotAReceipt
    return receipt


_WORD: Final = re.compile(r"[!-~]+")


class _Rows:
    """The lines of a text, taken one after the other."""

    def __init__(self, given: str) -> None:
        if len(given) > MAX_BYTES or not given.isascii():
            raise ValueError("too long, or no ASCII")
        self._left = [line.split(" ") for line in given.split("\n")[:-1]]
        if not all(_WORD.fullmatch(word) for line in self._left for word in line):
            raise ValueError("a character that no receipt has")

    def take(self, name: str, words: int) -> list[str]:
        """The next line, which begins with this name and has so many words more."""
        line = self._left.pop(0)
        if line[0] != name or len(line) != 1 + words:
            raise ValueError(name)
        return line[1:]

    def may(self, name: str, words: int) -> list[str] | None:
        """The next line, if it begins with this name."""
        return self.take(name, words) if self._left and self._left[0][0] == name else None

    def each(self, name: str, words: int) -> Iterator[list[str]]:
        """The lines that follow and begin with this name."""
        while (line := self.may(name, words)) is not None:
            yield line


def _read(given: str) -> Receipt:
    rows = _Rows(given)
    if rows.take("parler/receipt", 1) != ["v1"]:
        raise ValueError("another version")
    home, room = rows.take("home", 1)[0], rows.take("room", 1)[0]
    fact, kind, digest = rows.take("fact", 3)
    numbered = rows.may("number", 2)
    content = _digest(rows.take("content", 1)[0])
    operation = rows.may("operation", 1)
    at = _millis(rows.take("at", 1)[0])
    actor, handle = rows.take("actor", 2)
    via, principal, authority = (rows.take(name, 1)[0] for name in ("via", "principal", "authority"))
    token, verified, key = rows.may("token", 1), rows.may("verified", 1), rows.may("key", 1)
    line = rows.may("line", 2)
    also = tuple(Also(each[0], _digest(each[1]), _digest(each[2])) for each in rows.each("also", 3))
    steps = tuple(
        Step(each[1], each[2], _digest(each[3]), _millis(each[4]), AgentId(each[5])) for each in rows.each("step", 6)
    )
    return Receipt(
        home=home,
        room=RoomId(room),
        fact=fact,
        kind=kind,
        digest=_digest(digest),
        content=content,
        operation="" if operation is None else operation[0],
        at=at,
        actor=AgentId(actor),
        handle=handle,
        via=via,
        principal=principal,
        authority=authority,
        token="" if token is None else token[0],
        verified="" if verified is None else verified[0],
        numbered=None if numbered is None else Numbered(int(numbered[0]), _digest(numbered[1])),
        key=b"" if key is None else _digest(key[0]),
        line=None if line is None else (int(line[0]), _digest(line[1])),
        also=also,
        steps=steps,
        stage=rows.take("stage", 1)[0],
    )


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _digest(word: str) -> bytes:
    found = base64.b64decode(word, validate=True)
    if len(found) != 32:
        raise ValueError("no digest")
    return found


def _moment(at: Millis) -> str:
    return moment_text(Moment(at * MILLISECOND))


def _millis(word: str) -> Millis:
    return Millis(parse_moment(word, 0).ns // MILLISECOND)
