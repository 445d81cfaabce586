"""Whether stored facts are what their authors signed: the check that no digest of the file itself can replace.

A page compares digests, which is cheap and finds facts that were changed by hand. A fact that was changed together with
its digests and the chain is found here only, because the authors' keys are not in the database. A member that was made
up is found as well: each came in by the opening, by a signed decision, or by a signed knock with a key that lets agents
in.

Above: `checks`, for `doctor`. Below: `identity` for the signatures, the room's rules for what must have been signed.
Nothing here reads a store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from parlerd.core import events as e
from parlerd.core import invocations
from parlerd.core.approvals import KeyState, Request, decision_of, knock_of, opened_for, terms_of
from parlerd.core.envelope import OPENED, RELEASED, Envelope, decode_envelope, opened_part, sealed_in, travelled
from parlerd.core.epoch_record import decode_turned, record_digest, requesters_of, roster_digest, successor_of
from parlerd.core.errors import Refused
from parlerd.core.gated import decode_signed
from parlerd.core.grants import opened_beyond
from parlerd.core.lifecycle import LifecycleState, owners_of
from parlerd.core.model import HOME_ROOM, AgentId, By, KeyId, Millis, Position, PrincipalId, RequestId, RosterEntry
from parlerd.core.retention import RetentionState
from parlerd.core.room import RoomState
from parlerd.core.sealing import joined
from parlerd.core.statements import (
    AgentCard,
    Claim,
    DecisionStatement,
    Grant,
    JoinCard,
    KeyTerms,
    KnockStatement,
    Opening,
    Owner,
    OwnerLine,
    Rewind,
    SealingKey,
    Transfer,
    check,
    check_title,
    contradiction,
    deciders,
    decode_opened,
    is_opening_hash,
    lets_in,
    opens,
    sealed_with,
    signer_at,
)
from parlerd.core.words import contradiction as contradicts_words
from parlerd.identity import delegation, direct_keys, epochs
from parlerd.identity.proofs import (
    Evidence,
    bears,
    check_released,
    decode_evidence,
    given_by,
    is_asked,
    owner_after,
    read_opening,
    signed,
    signed_by,
    succeeds,
    unproven,
)
from parlerd.identity.signatures import verify
from parlerd.store.port import NewFact

WithStatement = (
    e.RoomOpened
    | e.RoomTitled
    | e.KeyMinted
    | e.JoinRequested
    | e.MemberJoined
    | e.JoinApproved
    | e.JoinDenied
    | e.SealingKeyTold
    | e.EpochTurned
    | e.OwnerLineTold
    | e.RoomRewound
    | e.OwnerChanged
)
"""The facts that bear a statement, in a room that began with one."""


class Audited(NamedTuple):
    """What a room says of itself: its facts must agree with what was signed, and with each other. A thread reads this
    while the room goes on, so it holds copies."""

    room: LifecycleState
    keys: Mapping[KeyId, KeyState]
    requests: Mapping[RequestId, Request]
    handles: Mapping[AgentId, str]
    opening: Opening | None
    """What the room was opened with; None for a room of a version that signed no opening."""
    is_mirror: bool
    retention: RetentionState
    """Which words went because there were too many."""
    records: Mapping[int, tuple[bytes, bytes]]
    """By their numbers, the records that were in force where somebody took a sealed room over, each with its signature:
    those that the log holds."""

    @classmethod
    def of(
        cls, state: RoomState, opened: bytes | None, records: Mapping[int, tuple[bytes, bytes]] | None = None
    ) -> Audited:
        """What to hold a room's facts against. `opened` is the body of its first fact, and `records` are the facts of
        the records that `named_at` gives, by their numbers."""
        opening = None
        if opened is not None:
            try:
                opening = check(decode_opened(opened)[0], Opening)
            except Refused:
                opening = None  # then the first fact does not pass either
        return cls(
            room=msgspec.structs.replace(state.lifecycle),
            keys=dict(state.keys),
            requests=dict(state.requests),
            handles={agent: member.handle for agent, member in state.members.items()},
            opening=opening,
            is_mirror=state.mirror.is_mirror,
            retention=msgspec.structs.replace(state.retention),
            records={number: (decode_turned(body)[0], signature) for number, (body, signature) in records.items()}
            if records
            else {},
        )


def named_at(state: RoomState) -> dict[int, Position]:
    """Where the facts of the records stand, by their numbers, that were in force where somebody took the room over. In
    a mirror that is the record which the transfer names: it may have come behind the transfer."""
    found: dict[int, Position] = {}
    for owner in state.lifecycle.owners:
        for number, position in state.epochs.turned if owner.taken else ():
            if number == owner.record if state.mirror.is_mirror else position < owner.position:
                found[owner.record] = position
    return found


def is_signed(fact: NewFact, about: Audited | None, *, is_erased: bool = False) -> bool:
    """Whether a fact that says it is signed bears its signer's signature, and its header repeats what was signed.
    `about` is the fact's room, or None for the home room. `is_erased` says that the store erased the fact's body.

    A fact that need not be signed passes, and so does a message of a mirror whose words were erased, because its home
    may have them. A message need not be signed that says of an invocation what its home says (`core.invocations`), and
    no other one. In a room of this home only those words are ever erased that the room remembered, and those that a
    fact of the room says were too many: any other body that is missing was taken away by somebody, and the fact does
    not pass. Nor does one that was done by no right, or for no person where it was not the home itself that acted. This
    takes 0.12 ms (measured).
    """
    event, body, signature = fact.header.event, fact.body, fact.signature or b""
    if not fact.header.authority or not _is_by_somebody(fact.header.by):
        return False
    if about is not None and isinstance(event, WithStatement):
        try:
            return _is_unsigned(fact, event, about) if body is None else _agrees(event, body, signature, about)
        except Refused:
            return False
    if body is None:
        may_be_erased = about is not None and (
            about.is_mirror or e.is_remembered(event) or about.retention.covers(fact.header.position)
        )
        return fact.header.body is None or (is_erased and may_be_erased)
    if isinstance(event, e.MessagePosted) and about is not None:
        if event.verified == "invalid":
            return True
        envelope = _envelope(body)
        if envelope is None or contradicts_words(about.room.room, fact.header.key, fact.header.by, event, envelope):
            return False
        if envelope.v == RELEASED:
            return not signature and _is_released(fact.header.by.actor, event, body)
        if envelope.v == OPENED:
            return _is_opened(fact.header.by.actor, event, body, signature, about)
        if event.verified == "unsigned":
            return not signature and _is_told(envelope, fact.header.by.actor)
        return bears(fact.header.by.actor, about.room.home, body, signature) == event.verified
    if isinstance(event, e.MessageGated):
        return _is_gated(fact.header.by.actor, event, body)
    if isinstance(event, e.CardPublished):
        return verify(event.agent, "parler/card", body, signature) and _is_card(event, body)
    if isinstance(event, e.DirectKeyTold):
        return _is_direct_key(event, body, signature)
    if isinstance(event, e.DelegationIssued):
        text = delegation.read(body, signature)
        return text is not None and (text.agent, text.principal, text.expires_at) == (
            event.agent,
            event.principal,
            event.expires_at,
        )
    return True


def _is_opened(author: AgentId, event: e.MessagePosted, body: bytes, signature: bytes, about: Audited) -> bool:
    """Whether an author signed the sealed message that was read here, and the words that are kept are what its outline
    says. That they are the words within, only who has the secret of the epoch could tell."""
    try:
        kept = opened_part(body)
        joined(decode_envelope(kept.body), kept.words)
    except (Refused, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    is_same = hashlib.sha256(kept.body).digest() == event.envelope and kept.signature == signature
    return is_same and bears(author, about.room.home, kept.body, signature) == event.verified


def _is_by_somebody(by: By) -> bool:
    """Whether an agent acted for a person, the person did without one, or the home did by itself."""
    return bool(by.principal) or (not by.actor and by.session == HOME_ROOM)


def _is_gated(author: AgentId, event: e.MessageGated, body: bytes) -> bool:
    """Whether an author signed what is to be shown later, as the header says it."""
    try:
        signed = decode_signed(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    envelope = _envelope(signed.body)
    said = None if envelope is None else (envelope.id, envelope.kind, envelope.visibility)
    is_same = said == (event.id, event.kind, event.visibility)
    return is_same and verify(author, "parler/gated", signed.body, signed.signature)


def _is_released(author: AgentId, event: e.MessagePosted, body: bytes) -> bool:
    """Whether a home released what its author signed; and of what was sealed and read here, whether the words that are
    kept are what its outline says."""
    try:
        told = travelled(body)
        check_released(author, told)
        if told == body:
            return True
        sealed = sealed_in(told)
        joined(sealed[0] if sealed is not None else decode_envelope(told), opened_part(body).words)
    except (Refused, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return hashlib.sha256(told).digest() == event.envelope


def _is_card(event: e.CardPublished, body: bytes) -> bool:
    try:
        card = check(body, AgentCard)
    except Refused:
        return False
    said = card.agent, card.principal, card.visibility, card.revision
    return said == (event.agent, event.principal, event.visibility, event.revision)


def _is_direct_key(event: e.DirectKeyTold, body: bytes, signature: bytes) -> bool:
    try:
        told = direct_keys.read(body, signature)
    except Refused:
        return False
    return (told.key.agent, told.principal, told.key.counter) == (event.agent, event.principal, event.counter)


def _envelope(body: bytes) -> Envelope | None:
    try:
        return decode_envelope(body)
    # msgspec raises the latter two itself, for text that is not UTF-8 and for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_told(envelope: Envelope, invoker: AgentId) -> bool:
    """Whether this is what a room's home says of an invocation by this agent."""
    try:
        invocations.read(envelope, invoker)
    except Refused:
        return False
    return True


def _is_unsigned(fact: NewFact, event: WithStatement, about: Audited) -> bool:
    """Whether a fact without a body may have none. Until rooms began with a signed opening, none had."""
    if fact.header.body is not None:
        return False
    if isinstance(event, e.MemberJoined):
        return not is_opening_hash(about.room.room) or _came_in(event, about)
    return not is_opening_hash(about.room.room)


def _came_in(joined: e.MemberJoined, about: Audited) -> bool:
    """Whether an agent came in by what another fact bears: the opening, or a decision about its request."""
    if joined.request is None:
        return about.opening is not None and opens(about.opening, _claim(joined))
    request = about.requests.get(joined.request)
    return request is not None and (request.agent, request.principal, request.given, request.state) == (
        joined.agent,
        joined.principal,
        joined.given,
        "approved",
    )


def _claim(joined: e.MemberJoined) -> Claim:
    return Claim(joined.agent, joined.principal, joined.handle)


def _agrees(event: WithStatement, body: bytes, signature: bytes, about: Audited) -> bool:
    """Whether a fact repeats the statement that it bears. Raises `Refused` for one that its signer did not sign."""
    room = about.room
    match event:
        case e.RoomOpened():
            return _opened(event, body, signature, room.opened_at)
        case e.RoomTitled():
            bytes_of_opening, title = decode_opened(body)
            return bool(check_title(title, read_opening(room.room, room.home, bytes_of_opening, signature).title).name)
        case e.KeyMinted():
            terms, _ = signed_by(KeyTerms, body, signature, _persons(room))
            return contradiction(terms_of(room, event), terms) is None
        case e.JoinRequested():
            return _knocked(event, body, signature, about)
        case e.MemberJoined() if about.is_mirror:
            return _is_proved(event, decode_evidence(body), about)
        case e.MemberJoined():
            return _let_in(event, body, signature, about)
        case e.JoinApproved() | e.JoinDenied():
            return _decided(event, body, signature, about)
        case e.SealingKeyTold():
            key = signed(SealingKey, body, signature, event.agent)
            return (key.home, key.agent, key.key, key.counter) == (room.home, event.agent, event.key, event.counter)
        case e.EpochTurned():
            return _turned(event, body, signature, room)
        case e.OwnerLineTold():
            told, _ = signed_by(OwnerLine, body, signature, _persons(room))
            shows = told.home, told.room, told.record, told.public, told.at
            return shows == (room.home, room.room, event.record, event.public, event.made_at)
        case e.RoomRewound():
            rewind, _ = signed_by(Rewind, body, signature, _persons(room))
            said = (rewind.home, rewind.room, rewind.epoch, rewind.public, rewind.line)
            return said == (room.home, room.room, event.epoch, event.public, event.line)
        case e.OwnerChanged():
            number = check(body, Transfer).number
            before = owners_of(room)[:number]
            transfer = succeeds(
                room.room,
                room.home,
                before,
                body,
                signature,
                is_sealed=room.sealed > 0,
                successor=_successor(event, before, about),
            )
            signs = transfer.owner, transfer.principal, transfer.taken, owner_after(transfer).record
            return signs == (event.owner, event.principal, event.taken, event.record)


def _successor(event: e.OwnerChanged, before: Sequence[Owner], about: Audited) -> PrincipalId | None:
    """Whom the record named that was in force where a room was taken over, as the owner before signed it."""
    found = about.records.get(event.record)
    if found is None:
        # A mirror was shown the record beside the transfer, and may hold a later one alone.
        return event.principal if about.is_mirror else None
    body, signature = found
    room = about.room
    return epochs.successor_in(
        body, signature, home=room.home, room=room.room, number=event.record, owner=before[-1].principal
    )


def _is_proved(event: e.MemberJoined, evidence: Evidence, about: Audited) -> bool:
    """Whether this evidence shows how an agent came in, and the fact repeats what a grant gives."""
    opening, room = about.opening, about.room
    if opening is None or unproven(room.room, opening, _claim(event), evidence, owners_of(room)) is not None:
        return False
    return event.given == given_by(evidence)


def _persons(room: LifecycleState) -> list[PrincipalId]:
    """The persons who owned the room, in order."""
    return [owner.principal for owner in owners_of(room)]


def _opened(event: e.RoomOpened, body: bytes, signature: bytes, at: Millis) -> bool:
    bytes_of_opening, title = decode_opened(body)
    opening = read_opening(event.room, event.home, bytes_of_opening, signature)
    if opening.granted is not msgspec.UNSET and opened_beyond(check(opening.granted.grant, Grant), at, 0) is not None:
        return False
    if title:
        # A mirror has none while this home's agents only knock, and the home of a sealed room never has one.
        check_title(title, opening.title)
    return event == msgspec.structs.replace(
        event,
        kind=opening.kind,
        owner=opening.owner,
        owner_principal=opening.principal,
        history=opening.history,
        approval=opening.approval,
        approver=opening.approver,
        sealed=sealed_with(opening),
    )


def _turned(event: e.EpochTurned, body: bytes, signature: bytes, room: LifecycleState) -> bool:
    """Whether a fact repeats the record of an epoch that a person signed who owned the room."""
    told, wraps = decode_turned(body)
    record = epochs.read(told, signature, owners=[signer_at(owners_of(room), event.number).principal])
    said = (record.home, record.room, record.suite, record.number, record_digest(told), successor_of(record))
    if said != (room.home, room.room, room.sealed, event.number, event.record, event.successor):
        return False
    if hashlib.sha256(wraps).digest() != record.wraps:
        return False
    if event.anew:
        return not event.removed and roster_digest(dict(event.added)) == record.roster
    keys = {each.agent: (each, check(each.statement, SealingKey)) for each in record.added}
    requesters, seats = requesters_of(record), dict(event.added)
    # Who only asks for work now, or does no longer, may have its key from an earlier record.
    new = {
        agent: RosterEntry(each.principal, each.handle, key.key, key.counter, agent in requesters)
        for agent, (each, key) in keys.items()
    }
    is_so = all(seat.requester is (agent in requesters) for agent, seat in seats.items())
    added = {agent: seat for agent, seat in seats.items() if agent in new}
    return is_so and list(seats) == sorted(seats) and (added, record.removed) == (new, event.removed)


def _knocked(event: e.JoinRequested, body: bytes, signature: bytes, about: Audited) -> bool:
    if event.given is not None:
        return _asked_by_grant(event, body, signature, about)
    if about.room.sealed:
        card = signed(JoinCard, body, signature, event.agent)
        said = (card.home, card.agent, card.principal, card.name, "")
        return said == (about.room.home, event.agent, event.principal, event.name, event.host)
    key, knock = about.keys.get(event.key), signed(KnockStatement, body, signature, event.agent)
    return key is not None and event.name == knock.name and _same_knock(event, key, knock, about)


def _asked_by_grant(event: e.JoinRequested, body: bytes, signature: bytes, about: Audited) -> bool:
    if about.opening is None:
        return False
    evidence = Evidence(grant=body, grant_signature=signature, granted_as=event.name)
    claim = Claim(event.agent, event.principal, event.name)
    return event.given == is_asked(about.room.room, about.opening, claim, evidence, owners_of(about.room))


def _same_knock(event: e.JoinRequested | e.MemberJoined, key: KeyState, knock: KnockStatement, about: Audited) -> bool:
    expected = knock_of(
        about.room,
        key,
        agent=event.agent,
        principal=event.principal,
        name=knock.name,
        host=event.host,
        at=knock.at,
    )
    return contradiction(expected, knock) is None


def _let_in(event: e.MemberJoined, body: bytes, signature: bytes, about: Audited) -> bool:
    """Whether an agent came in by a knock with a key that let it in, or by a grant."""
    if event.given is not None:
        evidence = Evidence(grant=body, grant_signature=signature, granted_as=event.given.name)
        return _is_proved(event, evidence, about)
    key = None if event.key is None else about.keys.get(event.key)
    if key is None:
        return False
    knock = signed(KnockStatement, body, signature, event.agent)
    is_own = about.room.kind == "service" and event.principal in {owner.principal for owner in owners_of(about.room)}
    is_brought = is_own and event.request is None
    if about.room.sealed and not is_brought and event.agent not in opened_for(about.room, (key,)):
        # It came in by a decision: its knock is told once it is in. Into a queue the agents of its own person come by
        # their knock, and by the record behind it.
        return _came_in(event, about) and _same_knock(event, key, knock, about)
    terms = terms_of(about.room, key)
    return (
        _same_knock(event, key, knock, about)
        and lets_in(about.room.home, about.room.room, terms, knock, _claim(event)) is None
    )


def _decided(event: e.JoinApproved | e.JoinDenied, body: bytes, signature: bytes, about: Audited) -> bool:
    room, request = about.room, about.requests.get(event.request)
    by = deciders(owners_of(room), room.approver, check(body, DecisionStatement))
    if request is None or request.agent != event.agent:
        return False
    decision, _ = signed_by(DecisionStatement, body, signature, by)
    # In a mirror the decision may have arrived, and not yet that the agent came in.
    handle = about.handles.get(event.agent, decision.handle)
    expected = decision_of(room, request, handle, event, decision.at, decision.by_key)
    return contradiction(expected, decision) is None
