"""Old messages of a room elsewhere that its mirror leaves out, as its home told them to one reader, judged.

    a page of link.pull, and what the mirror holds  ->  judge  ->  messages to show, each with the reader's own number

The same is believed as of what arrives (`arriving`): words bear their author's signature for this room, and nothing
contradicts the public line, an author's thread, or what this home was told before. A page that comes to a place whose
line is known has to come there by that line; between two such places a page is as good as its home's word that nothing
is missing. What is told here is shown and never stored, because a log grows at its end alone.

Not here: asking for pages (`asking.earlier`). Above: `asking.earlier`. Below: `arriving`, the core's words and public
line. Pure. Invariant: of an honest home nothing is called a contradiction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from parlerd.core import events as e
from parlerd.core.envelope import SEALED, SIGNED, UNSIGNED, Envelope
from parlerd.core.errors import Refused
from parlerd.core.grants import may_say
from parlerd.core.messages import audience_key
from parlerd.core.model import AgentId, By, Millis, Position, Seq, Shown, is_granted_id
from parlerd.core.public_line import first_line, next_line
from parlerd.core.room import RoomState
from parlerd.core.sealing import check_sealed, sealed_part
from parlerd.core.turning import are_wrapped_to
from parlerd.core.words import check_envelope
from parlerd.engine.handles import Earlier
from parlerd.identity.proofs import bears
from parlerd.operations import types as t
from parlerd.store.port import StoredMessage
from parlerd.uplink.arriving.messages import (
    KNOWN,
    decoded,
    door_of,
    is_told,
    posted_of,
    read_sealed,
    sealed_of,
    verified_as,
)
from parlerd.uplink.arriving.opener import Opener
from parlerd.uplink.rosters import Inside


class Contradicted(Exception):
    """The other home lied about the room."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Judged(NamedTuple):
    """What can be shown, and where the page ends: the number of public messages there, and the public line."""

    earlier: Earlier
    end: Shown
    epoch: int
    """The number of the last record of a sealed room that a message of the page was found to be sealed under, or of the
    one that was in force where the page begins."""


def judge(
    page: t.LinkPage,
    mirror: RoomState,
    reader: AgentId,
    after: Seq,
    known: Mapping[int, bytes],
    opener: Opener,
    rosters: Inside,
    epoch: int = 0,
) -> Judged:
    """The messages of a page that follows this reader's number `after`. `known` are the lines at numbers of the room
    that this home knows of, `opener` opens what is sealed, and `rosters` say who was in a sealed room under the records
    that its messages name. No message of the page may name a record before the one of the number `epoch`. Raises
    `Contradicted`, and `Refused(relay_refused)` for a page that answers something else than was asked."""
    # Private messages that follow that number are left out, where their words were erased.
    begins = page.before.get(reader, -1) if page.messages else after
    if begins < after:
        raise Refused("relay_refused", what="before")
    lines = {**known, 0: first_line(mirror.room, mirror.home)}
    place = Shown(page.public, page.line)
    _require_line(lines, place)
    threads: dict[tuple[AgentId, str], bytes] = {}
    ids: set[str] = set()
    found: list[StoredMessage] = []
    number = Seq(begins)
    for message in page.messages:
        number = Seq(number + 1)
        agent = AgentId(message.agent)
        if not message.body:
            # Its words were erased, and with them whose thread went on.
            place = Shown(place.number + 1, next_line(place.line, message.digest))
            _require_line(lines, place)
            threads.clear()
            continue
        envelope = decoded(message.body)
        if envelope is None:
            raise Contradicted("form")
        digest, before = hashlib.sha256(message.body).digest(), place
        if envelope.visibility is None:
            place = Shown(place.number + 1, next_line(place.line, digest))
            _require_line(lines, place)
        author = mirror.members.get(agent)
        if envelope.v not in KNOWN or author is None:
            # A version that this program does not check, or somebody whom nothing shows to have been a member.
            continue
        is_signed, is_shown, asks = envelope.v in (SIGNED, SEALED), True, False
        sealed = sealed_of(message.body, envelope)
        if envelope.v != UNSIGNED and (sealed is not None) is not bool(mirror.lifecycle.sealed):
            raise Contradicted("form")
        if not is_signed and not is_told(message, envelope, mirror.room):
            raise Contradicted("unsigned")
        thread = agent, audience_key(envelope.visibility)
        if is_signed:
            _require_sound(message, envelope, mirror, before, lines, threads.get(thread))
            if is_granted_id(agent) and not may_say(author.given, Millis(message.at)):
                raise Contradicted("grant")
        if sealed is not None:
            # Of a gated message too, which was sealed earlier: its author and its readers were in then.
            part = sealed_part(sealed[0])
            if is_signed and part.epoch < epoch:
                # It was sealed under a record that was in force no more: whoever wrote it may have been put out.
                raise Contradicted("epoch")
            seats = rosters.get(part.record)
            if seats is not None:
                if seats.number != part.epoch or not seats.inside.keys() >= {agent, *(sealed[0].visibility or ())}:
                    raise Contradicted("epoch")
                epoch, asks = part.epoch if is_signed else epoch, seats.inside.get(agent, False)
            if not are_wrapped_to(sealed[0], agent):
                raise Contradicted("form")
            is_shown = seats is not None
        if envelope.id in ids:
            raise Contradicted("id")
        if envelope.visibility is not None and reader not in envelope.visibility:
            raise Contradicted("reader")
        ids.add(envelope.id)
        body = message.body
        if is_signed:
            threads[thread] = digest
        if not is_shown:
            # Nothing shows that its author was in then: it may have been put out before.
            continue
        if sealed is not None:
            envelope, body = read_sealed(message, envelope, opener, asks=asks)
        by = By(agent, author.principal, "", envelope.host, door_of(envelope))
        header = _header(message, envelope, digest, by, is_opening=place.number == 1 and agent == mirror.owner)
        found.append(StoredMessage(mirror.room, number, header, body, message.signature))
    return Judged(Earlier(tuple(found), number), place, epoch)


def _require_line(lines: dict[int, bytes], place: Shown) -> None:
    """Raise a contradiction where another line is known at this place; keep the line otherwise."""
    if lines.setdefault(place.number, place.line) != place.line:
        raise Contradicted("line")


def _require_sound(
    message: t.LinkMessage,
    envelope: Envelope,
    mirror: RoomState,
    place: Shown,
    lines: Mapping[int, bytes],
    previous: bytes | None,
) -> None:
    """Raise a contradiction for what an honest home would not have admitted. `place` is where the message stands, and
    `previous` the envelope before it in its thread, as far as the page holds that."""
    try:
        if envelope.v == SEALED:
            check_sealed(envelope)
        else:
            check_envelope(envelope)
    except Refused:
        raise Contradicted("form") from None
    if envelope.room != mirror.room:
        raise Contradicted("room")
    if bears(AgentId(message.agent), mirror.home, message.body, message.signature) is None:
        raise Contradicted("signature")
    if previous is not None and envelope.previous != previous:
        raise Contradicted("thread")
    if envelope.shown > place.number:
        raise Contradicted("shown")
    if lines.get(envelope.shown, envelope.line) != envelope.line:
        raise Contradicted("fork")


def _header(message: t.LinkMessage, envelope: Envelope, digest: bytes, by: By, *, is_opening: bool) -> e.Header:
    """The fact that the mirror would hold of the message. Position 0 is no fact's: the message is in no log here."""
    is_opening = message.opening and envelope.visibility is None and is_opening
    event = posted_of(envelope, digest, message, is_opening=is_opening, verified=verified_as(envelope, by.actor))
    return e.Header(position=Position(0), at=Millis(message.at), by=by, authority="arrived", event=event, body=digest)
