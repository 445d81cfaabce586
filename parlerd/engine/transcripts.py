"""Which messages of a room go along with an offer of the turn.

    the newest messages --> those that everyone in the room may read --> can whoever may take the turn see them all?
                                                                             yes: the two ends are named
                                                                             no:  the words are quoted, within bounds

A reference is worth more than a copy, because its reader sees the words as their authors signed them. So nothing is
copied that every taker can read. A quotation is the giver's word alone. Private messages are in neither: the offer is
read by more agents than they are for.

Not here: what may be said (`core.words`), taking secrets out (`sending`). Above: `handoffs`. Below: the library.
Invariant: what is quoted stands in one piece, and is the newest that fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from parlerd.core import events as e
from parlerd.core.envelope import Quoted, Transcript
from parlerd.core.errors import Refused
from parlerd.core.membership import Member, resolve_taker
from parlerd.core.model import AgentId, MessageId
from parlerd.core.room import Room
from parlerd.core.scrub import scrub_capsule
from parlerd.core.visibility import can_see
from parlerd.core.words import MAX_QUOTED_BYTES, MAX_TRANSCRIPT
from parlerd.engine.library import Library
from parlerd.engine.reading import render_message
from parlerd.operations import types as t
from parlerd.store.port import StoredMessage

_LOOKED_AT: Final = 4 * MAX_TRANSCRIPT
"""Messages among which the public ones are looked for: a room may hold private ones between them."""
_MAX_BYTES: Final = 1024 * 1024
"""The same in bytes of what is read for it."""


async def transcript(library: Library, room: Room, giver: AgentId, taker: str, count: int) -> Transcript | None:
    """The newest `count` messages for whoever may take a turn that is for `taker`; None where there is none."""
    state = room.state
    taking = list(_takers(room, giver, taker))
    page = await library.tail(state.room, room.view(giver), limit=_LOOKED_AT, max_bytes=_MAX_BYTES)
    found = [stored for stored in page.messages if _is_for_all(stored)][-count:]
    if not found:
        return None
    views = [room.view(member.agent) for member in taking]
    if all(can_see(view, position=stored.header.position, visibility=None) for view in views for stored in found):
        return Transcript(first=_id(found[0]), last=_id(found[-1]), count=len(found))
    quoted: list[Quoted] = []
    size = 0
    for stored in reversed(found):
        each = _quoted(room, giver, stored)
        size += 0 if each is None else _size(each)
        if each is None or size > MAX_QUOTED_BYTES:
            break
        quoted.insert(0, each)
    if not quoted:
        return None
    return Transcript(
        first=quoted[0].id,
        last=quoted[-1].id,
        count=len(quoted),
        left_out=len(found) - len(quoted),
        quoted=tuple(quoted),
    )


def _takers(room: Room, giver: AgentId, taker: str) -> Iterable[Member]:
    """Who may take a turn that is for this agent, for this role, or for anyone."""
    members = room.state.members
    to: tuple[AgentId, ...] = ()
    role = ""
    if taker:
        try:
            to, role = resolve_taker(members, room.state.owner, taker, giver=giver)
        except Refused:
            return  # the room refuses the offer itself, unless it is one that was made before
    for member in members.values():
        is_meant = member.agent in to if to else not role or member.role == role
        if member.present and member.agent != giver and is_meant:
            yield member


def _is_for_all(stored: StoredMessage) -> bool:
    event = stored.header.event
    return isinstance(event, e.MessagePosted) and event.visibility is None and event.memory is None


def _id(stored: StoredMessage) -> MessageId:
    assert isinstance(stored.header.event, e.MessagePosted)
    return stored.header.event.id


def _quoted(room: Room, giver: AgentId, stored: StoredMessage) -> Quoted | None:
    """A message as its reader quotes it; None where its words are not here any more."""
    if stored.body is None:
        return None
    message = render_message(room.state, giver, stored, stored.header.at)
    return Quoted(
        id=_id(stored), author=message.author.name, at=stored.header.at, text=_words(message), kind=message.kind
    )


def _words(message: t.Message) -> str:
    """What a message says, as text."""
    said: list[str] = []
    if message.handoff is not msgspec.UNSET:
        said += [message.handoff.summary, message.handoff.next]
    if message.handoff_answer is not msgspec.UNSET:
        said.append(message.handoff_answer.reason)
    said.append(message.text)
    if message.brings is not msgspec.UNSET:
        said.append(message.brings.name)
    if message.data is not msgspec.UNSET and message.data is not None:
        said.append(msgspec.json.encode(message.data).decode())
    return "\n".join(each for each in said if each)


def _size(quoted: Quoted) -> int:
    """Bytes of a quotation as it is, or as it is once secrets were taken out, whichever is more."""
    return len(quoted.author.encode()) + max(
        len(text.encode()) for text in (quoted.text, scrub_capsule(quoted.text)[0])
    )
