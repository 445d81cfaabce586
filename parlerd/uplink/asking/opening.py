"""A room is opened at its home.

Not here: which room is to be opened, and what its opening says (the engine's `opening`). Above: `errands`. Below:
`room_home`. Invariants: the home of a sealed room is told neither its title nor a word of it; the key to which the
first secret is wrapped is on the disk before the room is asked for.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.direct_keys import encode_published
from parlerd.core.envelope import Envelope
from parlerd.core.epoch_record import Added
from parlerd.core.errors import Refused
from parlerd.core.messages import audience_key
from parlerd.core.model import AgentId, By, first_free, is_label
from parlerd.core.sealing import check_composed
from parlerd.core.statements import encode
from parlerd.engine.authors import Attested, Draft, Place
from parlerd.engine.pair_rooms import PEER
from parlerd.engine.rooms import pause_among
from parlerd.engine.submissions import Submission
from parlerd.identity import direct_keys
from parlerd.identity.epochs import Made
from parlerd.identity.sealing import seal
from parlerd.operations import types as t
from parlerd.uplink.asking.room_home import RoomHome
from parlerd.uplink.counters import Signed, Threaded

log = logging.getLogger(__name__)


async def open_room(
    home: RoomHome, submission: Submission, command: c.OpenRoom, decision: Decision, begun: Made | None
) -> Decision:
    """Open the room at its home; a sealed one with the record of the epoch that `begun` made. The answer comes when
    the mirror has begun."""
    by = submission.by
    assert command.terms is not None, "a private room is opened here"
    opening, terms = home.attest(command.opening, by), home.attest(command.terms, by)
    recap = Attested(b"", b"")
    for event in decision.events:
        if isinstance(event, e.MessagePosted):
            assert isinstance(submission.words, Draft)
            threaded = Threaded(home.room, by.actor, audience_key(event.visibility))
            event = msgspec.structs.replace(event, counter=home.counters.after(threaded, 0))
            place = Place(home.room, command.idempotency_key or "", by, b"", home.now())
            draft = submission.words
            if begun is not None:
                request = home.secrets.request_digest(home.room, command.input or b"")
                draft = replace(draft, seal=partial(_sealed_recap, begun, by.actor, request, home.desk.random.bytes))
            written = home.author.sign(draft, event, place)
            signed = Signed(hashlib.sha256(written.body).digest(), written.signature)
            home.counters.note(threaded, event.counter, signed)
            recap = Attested(written.body, written.signature)
    params = t.OpenRemoteRoom(
        opening=opening.body,
        opening_signature=opening.signature,
        title=b"" if command.title is None else encode(command.title),
        session_key=home.spelled(command.terms, is_sealed=begun is not None).key,
        terms=terms.body,
        terms_signature=terms.signature,
        idempotency_key=command.idempotency_key or "",
        recap=recap.body,
        recap_signature=recap.signature,
        epoch=None if begun is None else home.turning.told(begun),
    )
    try:
        answer = await home.link.call("link.open", params, by=by.actor)
    except Refused as error:
        if error.code == "sealed_room" and begun is not None:
            # It knows sealed rooms, and none of this kind.
            raise _carries_none("sealed queue", "serve", "link.open") from error
        raise
    assert isinstance(answer, t.OpenedRemoteRoom)
    await home.link.follow(home.room)
    wants = 1 if recap.body else 0
    await home.shown(
        lambda room: (
            bool(room.state.keys)
            and room.state.shown.number >= wants
            and (begun is None or bool(room.state.epochs.number and room.state.name))
        )
    )
    return Decision(answer="exists") if answer.replayed else decision


async def seal_opening(home: RoomHome, command: c.OpenRoom, by: By) -> tuple[c.OpenRoom, Made]:
    """An opening of a sealed room as its home is to be asked for it: with the first record, which holds the owner
    and, in a direct room, the other one, if it told a key there; and without a title, which the record's card
    holds. The key to which the secret is wrapped is on the disk before: from it and the record this home has the
    secret again, whenever it hears of the room."""
    assert command.title is not None, "whoever opens a room says what it is called"
    calls, is_direct = await home.link.ready(), command.opening.kind == "dm"
    if is_direct and "link.direct_key_of" not in calls.welcome.operations:
        raise Refused(
            "relay_older",
            "The relay runs an older Parler, which carries no sealed direct room.",
            hint="Ask whoever runs the relay to upgrade it.",
            tool_hint="Your user can ask whoever runs the relay to upgrade it.",
            op="link.direct_key_of",
        )
    if "link.epoch" not in calls.welcome.operations:
        raise _carries_none("sealed room", "session open", "link.epoch")
    key = await home.secrets.told_key(home.id, by.actor)
    other = await _other(home, command, by) if is_direct else None
    made = home.turning.first(command.opening, home.room, command.title, key, other)
    await home.secrets.note_made(home.room, made.record.number, made.epoch.record)
    epoch = c.NewEpoch(record=made.record, digest=made.epoch.record, wraps=made.wraps)
    hidden = home.secrets.hidden_key(home.room, command.idempotency_key or "")
    return msgspec.structs.replace(command, title=None, epoch=epoch, idempotency_key=hidden), made


async def _other(home: RoomHome, command: c.OpenRoom, by: By) -> Added | None:
    """The agent that a direct room is opened for, with the key that it told the relay. None where the relay shows
    none that this agent signed: what is said then waits until both machines are there, and that is all that a relay
    can bring about so."""
    if command.terms is None or not command.terms.preapproved:
        return None
    [other] = command.terms.preapproved
    shown = await home.link.call("link.direct_key_of", t.AskDirectKey(agent=by.actor, of=other), by=by.actor)
    assert isinstance(shown, t.DirectKeyOf)
    if not shown.statement:
        return None
    try:
        body = encode_published(shown.statement, shown.delegation, shown.delegation_signature)
        told = direct_keys.read(body, shown.signature)
    except Refused as error:
        log.warning("%s shows a key of %s that is none: %s", home.name, other, error.code)
        return None
    if (told.key.home, told.key.agent) != (home.id, other):
        log.warning("%s shows a key of another agent for %s", home.name, other)
        return None
    if told.key.counter < await _newest_of(home, other, by.actor):
        log.warning("%s shows a key of %s that was followed by another one", home.name, other)
        return None
    # Under which handle it comes in, the room says once it does.
    handle = first_free(command.peer if is_label(command.peer) else PEER, (command.opening.handle,))
    return Added(other, told.principal, handle, told.statement, shown.signature)


async def _newest_of(home: RoomHome, other: AgentId, me: AgentId) -> int:
    """The highest counter of a sealing key of another agent that was told here in a room of this relay which the
    two share."""
    newest = 0
    for number, room in enumerate(await home.desk.library.my_rooms(me), 1):
        await pause_among(number)
        state = (await home.desk.rooms.get(room)).aggregate.state
        if state.home == home.id:
            known = (state.epochs.roster.get(other), state.epochs.told.get(other))
            newest = max([newest, *(each.counter for each in known if each is not None)])
    return newest


def _sealed_recap(
    epoch: Made, author: AgentId, request: bytes, random: Callable[[int], bytes], composed: Envelope
) -> Envelope:
    """The first message of a room, sealed under the record with which the room begins."""
    check_composed(composed)
    return seal(composed, author=author, epoch=epoch.epoch, input=request, random=random)


def _carries_none(what: str, command: str, op: str) -> Refused:
    """That the relay is too old for a sealed room of this kind; `command` opens one that the relay can read."""
    return Refused(
        "relay_older",
        f"The relay runs an older Parler, which carries no {what}.",
        hint="Ask whoever runs the relay to upgrade it; or open a room that it can read, with --clear.",
        tool_hint="Your user can ask whoever runs the relay to upgrade it, or open a room there that the relay can "
        f"read: parler {command} --clear",
        op=op,
    )
