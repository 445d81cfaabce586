"""What signed statements prove: that somebody said this, and that an agent is a member of a room.

Whoever is told who is in a room need not trust the home that tells it. It asks for the signed opening, and for each
member how the member came in: by a decision of the owner's side, or by a knock with a key that lets agents in. Homes
elsewhere check this before they show a member; `audit` checks it of what is stored here.

An agent without a key comes in by a grant, and its words bear the signature of the room's home (`bears`).

What no statement proves: that the agent may act for the person that it names (its delegation does, which the home
checks), that it was not put out again, and that a key was not used up or revoked before.

Not here: the statements (`core.statements`). Above: the engine, and whoever follows rooms of other homes. Below:
`signatures`. Invariant: nothing is proven by bytes whose signature was not checked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from parlerd.core.envelope import decode_envelope, gated_part
from parlerd.core.errors import Refused
from parlerd.core.gated import require_released
from parlerd.core.grants import Given, given, opens_wrongly, wrong_with
from parlerd.core.model import AgentId, HomeId, PrincipalId, RoomId, Verified, is_granted_id
from parlerd.core.statements import (
    Claim,
    DecisionStatement,
    Grant,
    KeyTerms,
    KnockStatement,
    Opening,
    Owner,
    S,
    Transfer,
    check,
    deciders,
    decides,
    first_owner,
    lets_in,
    opens,
    room_id_of,
    sealed_with,
)
from parlerd.identity import epochs
from parlerd.identity.signatures import verify


def signed(kind: type[S], body: bytes, signature: bytes, by: str) -> S:
    """The statement of this kind that `by` signed. Raises `Refused(statement_refused)` with the wrong field as `what`,
    or `signature`."""
    statement = check(body, kind)
    if not verify(by, kind.TAG, body, signature):
        raise Refused("statement_refused", what="signature")
    return statement


def read_opening(room: RoomId, home: HomeId, body: bytes, signature: bytes) -> Opening:
    """The opening of this room at this home, signed by the person that it names, or by the home within a grant of that
    person's, which it bears. Raises as `signed` does."""
    if room_id_of(body) != room:
        raise Refused("statement_refused", what="room")
    opening = check(body, Opening)
    if opening.home != home:
        raise Refused("statement_refused", what="home")
    if opening.granted is msgspec.UNSET:
        return signed(Opening, body, signature, opening.principal)
    grant = signed(Grant, opening.granted.grant, opening.granted.signature, opening.principal)
    if (what := opens_wrongly(opening, grant)) is not None:
        raise Refused("statement_refused", what=what)
    if not verify(home, "parler/opened", body, signature):
        raise Refused("statement_refused", what="signature")
    return opening


def signed_by(kind: type[S], body: bytes, signature: bytes, any_of: Iterable[str]) -> tuple[S, str]:
    """The statement of this kind that one of these signed, and which of them did; the last of them is tried first.
    Raises as `signed` does."""
    for by in dict.fromkeys(reversed([*any_of])):
        with suppress(Refused):
            return signed(kind, body, signature, by), by
    check(body, kind)
    raise Refused("statement_refused", what="signature")


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """How a member came in, as bytes and signatures: by a decision, by a knock and the terms of its key, or by a grant.
    The owner needs none, for the opening names it. In the mirror of a room the evidence is the body of the fact that
    the agent joined."""

    decision: bytes = b""
    decision_signature: bytes = b""
    knock: bytes = b""
    knock_signature: bytes = b""
    terms: bytes = b""
    terms_signature: bytes = b""
    grant: bytes = b""
    grant_signature: bytes = b""
    granted_as: str = ""
    """The name under which the grant was used."""


_EVIDENCE: Final = msgspec.msgpack.Decoder(Evidence)


def encode_evidence(evidence: Evidence) -> bytes:
    """The evidence as it is stored."""
    return msgspec.msgpack.encode(evidence)


def decode_evidence(body: bytes) -> Evidence:
    """The evidence again. Raises `Refused(statement_refused)`."""
    try:
        return _EVIDENCE.decode(body)
    except msgspec.DecodeError:
        raise Refused("statement_refused", what="format") from None


def unproven(
    room: RoomId, opening: Opening, claim: Claim, evidence: Evidence, owners: Sequence[Owner] = ()
) -> str | None:
    """What keeps this evidence from proving that the claim is true of the room, as a word for a log; None when the
    evidence proves it. `opening` is what `read_opening` gave for this room, and `owners` are all that the room had, of
    one that changed hands (`succeeds`)."""
    if opens(opening, claim):
        return None
    owners = owners or (first_owner(opening),)
    try:
        if is_granted_id(claim.agent):
            # Nobody signs for such an agent, so nothing else lets it in.
            return _by_grant(room, opening, claim, evidence, owners)
        if evidence.decision:
            return _by_decision(room, opening, claim, evidence, owners)
        if evidence.knock and evidence.terms:
            return _by_key(room, opening, claim, evidence, owners)
    except Refused as error:
        return str(error.details["what"])
    return "evidence"


def _by_decision(
    room: RoomId, opening: Opening, claim: Claim, evidence: Evidence, owners: Sequence[Owner]
) -> str | None:
    decision = check(evidence.decision, DecisionStatement)
    by = deciders(owners, opening.approver, decision)
    if not by:
        return "proof"
    signed_by(DecisionStatement, evidence.decision, evidence.decision_signature, by)
    return decides(opening, room, decision, claim)


def _by_key(room: RoomId, opening: Opening, claim: Claim, evidence: Evidence, owners: Sequence[Owner]) -> str | None:
    persons = [owner.principal for owner in owners]
    terms, _ = signed_by(KeyTerms, evidence.terms, evidence.terms_signature, persons)
    # Into a sealed room nobody comes by a key alone: that an agent has it is the word of the room's home. But of a
    # direct room the owner's person signed which agent it is for. And into a queue the owner's machine brings its own
    # agents, and the record by which they read shows that.
    is_named = opening.kind == "dm" and claim.agent in terms.preapproved
    is_own = opening.kind == "service" and claim.principal in persons
    if sealed_with(opening) and not (is_named or is_own):
        return "evidence"
    knock = signed(KnockStatement, evidence.knock, evidence.knock_signature, claim.agent)
    return lets_in(opening.home, room, terms, knock, claim)


def _by_grant(room: RoomId, opening: Opening, claim: Claim, evidence: Evidence, owners: Sequence[Owner]) -> str | None:
    persons = [owner.principal for owner in owners]
    grant, person = signed_by(Grant, evidence.grant, evidence.grant_signature, persons)
    if grant.principal != person:
        return "principal"
    if grant.approval:
        if not evidence.decision:
            return "approval"
        # It names the agent, whose id names the grant: what was decided of one is nothing of another.
        if (wrong := _by_decision(room, opening, claim, evidence, owners)) is not None:
            return wrong
    return wrong_with(opening, room, evidence.grant, grant, evidence.granted_as, claim, is_decided=grant.approval)


def is_asked(
    room: RoomId, opening: Opening, claim: Claim, evidence: Evidence, owners: Sequence[Owner] = ()
) -> Given | None:
    """What a grant would give to an agent that waits for a decision; None where it gives nothing, or where it lets the
    agent in without one. The handle of the claim is the name that the agent says."""
    persons = [owner.principal for owner in owners or (first_owner(opening),)]
    try:
        grant, person = signed_by(Grant, evidence.grant, evidence.grant_signature, persons)
    except Refused:
        return None
    wrong = wrong_with(opening, room, evidence.grant, grant, evidence.granted_as, claim, is_decided=True)
    if wrong is not None or not grant.approval or grant.principal != person:
        return None
    return given(evidence.grant, grant, evidence.granted_as)


def given_by(evidence: Evidence) -> Given | None:
    """What a grant gives that `unproven` found good; None for whoever came in otherwise."""
    if not evidence.grant:
        return None
    return given(evidence.grant, check(evidence.grant, Grant), evidence.granted_as)


def bears(author: AgentId, home: HomeId, body: bytes, signature: bytes) -> Verified | None:
    """What is said of a message of this author with this signature: `valid` where the author signed it, `home` where
    the author has no key and the room's home signed it; None where neither is so. Whether the home may speak for that
    author, its grant says (`grants.may_say`)."""
    if is_granted_id(author):
        return "home" if verify(home, "parler/admitted", body, signature) else None
    return "valid" if verify(author, "parler/message", body, signature) else None


def succeeds(
    room: RoomId,
    home: HomeId,
    owners: Sequence[Owner],
    body: bytes,
    signature: bytes,
    *,
    is_sealed: bool,
    successor: PrincipalId | None = None,
) -> Transfer:
    """The statement by which a room that had these owners has another. Whether whoever took it over was a member, and
    the owner away, is for the caller to find out. A sealed room is taken over by `successor` alone, whom the owner's
    record of that number names (`epochs.successor_in`): the room's home could invent that the owner is away, and the
    new owner decides who reads. Raises as `signed` does."""
    transfer = check(body, Transfer)
    begins = 0 if transfer.record is msgspec.UNSET else transfer.record
    is_named = begins > owners[-1].record and transfer.principal == successor
    wrong = {
        "home": transfer.home != home,
        "room": transfer.room != room,
        "number": transfer.number != len(owners),
        "record": (begins > 0) is not is_sealed or begins < owners[-1].record,
        "taken": transfer.taken and is_sealed and not is_named,
    }
    if (what := next((what for what, is_wrong in wrong.items() if is_wrong), None)) is not None:
        raise Refused("statement_refused", what=what)
    return signed(Transfer, body, signature, transfer.principal if transfer.taken else owners[-1].principal)


def named_in(
    room: RoomId, home: HomeId, owners: Sequence[Owner], transfer: bytes, record: bytes, signature: bytes
) -> PrincipalId | None:
    """Whom the record that comes beside a transfer names as successor of the last of these owners: the record is that
    owner's, and has the number that the transfer names. None where no such record comes."""
    if not record:
        return None
    number = check(transfer, Transfer).record
    if number is msgspec.UNSET:
        return None
    return epochs.successor_in(record, signature, home=home, room=room, number=number, owner=owners[-1].principal)


def owner_after(transfer: Transfer) -> Owner:
    """The owner that a transfer makes which was found good."""
    begins = 0 if transfer.record is msgspec.UNSET else transfer.record
    return Owner(transfer.principal, transfer.owner, begins)


def check_released(author: str, data: bytes) -> None:
    """Check a message that a room's home released, as it travelled: it holds what `author` signed, and says nothing
    else. Raises `Refused(envelope_refused)`."""
    try:
        part, envelope = gated_part(data), decode_envelope(data)
        within = decode_envelope(part.body)
    # msgspec raises UnicodeDecodeError for text that is not UTF-8, and RecursionError for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("envelope_refused", what="parts") from None
    if not verify(author, "parler/gated", part.body, part.signature):
        raise Refused("envelope_refused", what="signature")
    require_released(envelope, within)
