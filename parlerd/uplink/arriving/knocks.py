"""The session keys of a room, who knocked with them, and what the owner's side decided.

Not here: who is in the room by that (`members`); the exchange of a sealed room's secrets, of which the steps alone are
told here (`exchanging`). Above: `cards`. Below: `hearing`, `statements`. Pure. Invariants: a key counts by terms that a
person signed who owned the room, a knock by the agent's signature or a grant, a decision by that of the owner's side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from parlerd.core import events as e
from parlerd.core.approvals import NO_KEY, Request
from parlerd.core.errors import Refused
from parlerd.core.exchange import STEPS, Exchange, is_form, is_next
from parlerd.core.grants import Given
from parlerd.core.model import AgentId, By, KeyId, Millis, PrincipalId, RequestId, is_role
from parlerd.core.statements import Claim, DecisionStatement, JoinCard, KeyTerms, KnockStatement, deciders
from parlerd.identity.proofs import Evidence, is_asked, signed_by
from parlerd.operations import types as t
from parlerd.uplink.arriving.hearing import Hearing
from parlerd.uplink.arriving.statements import label_or_none, signed_statement, statement_in

_REQUEST: Final = re.compile(r"[A-Za-z0-9_]{1,64}\Z")


class CameBy(NamedTuple):
    """By what an agent came into the room, as far as its home shows that."""

    request: RequestId | None = None
    key: KeyId | None = None


def hear_knocks(hearing: Hearing, card: t.Card) -> dict[AgentId, CameBy]:
    """Take in the session keys, who knocked with them, and what was decided; gives by what agents came in."""
    keys = _keys(hearing, card)
    came_by = _requests(hearing, card, keys)
    for entry in card.keys:
        key = keys.get(entry.ref)
        if key is not None:
            for user in entry.users:
                agent = AgentId(user)
                came_by[agent] = CameBy(came_by.get(agent, CameBy()).request, key)
    return came_by


def _keys(hearing: Hearing, card: t.Card) -> dict[str, KeyId]:
    """Take in the session keys; gives the room's keys by their names in statements."""
    known = {key.ref: key for key in hearing.state.keys.values()}
    found = {ref: key.id for ref, key in known.items()}
    for entry in card.keys:
        if entry.ref not in found:
            known_terms = _terms(hearing, entry.terms, entry.terms_signature)
            if known_terms is None or known_terms[0].ref != entry.ref:
                continue
            terms, person = known_terms
            found[terms.ref] = key = hearing.grounds.key_of(terms, person, hearing.is_sealed)
            minted = e.KeyMinted(
                key=key,
                ref=terms.ref,
                gated=terms.gated,
                expires_at=terms.expires_at,
                max_uses=terms.max_uses,
                preapproved=terms.preapproved,
                requester=terms.requester is True,
            )
            hearing.add((minted,), hearing.owner, hearing.now, ((entry.terms, entry.terms_signature),))
            if hearing.opening.kind == "dm":
                hearing.named.update(terms.preapproved)
        if entry.revoked and not (entry.ref in known and known[entry.ref].revoked):
            hearing.add((e.KeyRevoked(key=found[entry.ref]),), hearing.owner, hearing.now)
    return found


def _terms(hearing: Hearing, body: bytes, signature: bytes) -> tuple[KeyTerms, PrincipalId] | None:
    """The terms of a key of this room, and which of its owners' persons signed them."""
    try:
        terms, person = signed_by(KeyTerms, body, signature, [owner.principal for owner in hearing.owners])
    except Refused:
        return None
    is_ours = (terms.home, terms.room) == (hearing.home, hearing.room)
    return (terms, PrincipalId(person)) if is_ours else None


def _requests(hearing: Hearing, card: t.Card, keys: Mapping[str, KeyId]) -> dict[AgentId, CameBy]:
    """Take in who knocked and what was decided; gives those that were let in so, each with the request and the
    key."""
    let_in: dict[AgentId, CameBy] = {}
    known = hearing.state.requests
    for entry in card.requests:
        request, agent = RequestId(entry.request), AgentId(entry.agent)
        before = known.get(request)
        key, gives = keys.get(entry.ref), _asks_by_grant(hearing, entry)
        says = _is_card if hearing.is_sealed else _is_knock
        is_knock = key is not None and says(hearing, entry)
        if _REQUEST.match(request) is None or not (is_knock or gives):
            continue
        if before is None and entry.state == "approved" and _is_in(hearing, agent):
            # It came in before this was told. Facts of its knock would stand behind its coming, as if it had gone
            # and knocked again.
            continue
        by = By(agent, PrincipalId(entry.principal), "", entry.host, "link")
        if before is None:
            asked = e.JoinRequested(
                request=request,
                key=NO_KEY if key is None else key,
                agent=agent,
                principal=by.principal,
                name=entry.name,
                host=entry.host,
                role=label_or_none(entry.role, is_role),
                given=gives,
            )
            body = (entry.knock, entry.knock_signature) if gives is None else (entry.grant, entry.grant_signature)
            hearing.add((asked,), by, Millis(entry.at), (body,))
            hearing.asking.add(agent)
        state = "pending" if before is None else before.state
        if state in ("pending", "denied"):
            _exchanged(hearing, entry, request, before)
        if state == "pending" and entry.state in ("lapsed", "withdrawn"):
            # Nobody signs this: a home that says so untruly keeps the agent out, as it can anyway.
            how: Literal["lapsed", "withdrawn"] = "lapsed" if entry.state == "lapsed" else "withdrawn"
            hearing.add((e.KnockEnded(request=request, agent=agent, how=how),), by, hearing.now)
        decision = _decision(hearing, entry)
        if decision is None:
            continue
        if entry.state != state:
            decided: e.RoomEvent
            if decision.admit:
                decided = e.JoinApproved(request=request, agent=agent, proof=decision.proof)
            else:
                decided = e.JoinDenied(request=request, agent=agent, proof=decision.proof)
            hearing.add((decided,), hearing.owner, hearing.now, ((entry.decision, entry.decision_signature),))
        if decision.admit:
            let_in[agent] = CameBy(request, key)
    return let_in


def _exchanged(hearing: Hearing, entry: t.RequestEntry, request: RequestId, before: Request | None) -> None:
    """Take in how far the key exchange of whoever knocks is. Nobody signs its steps: the ends find out what they
    are worth. So a step that is none, and one that is not the one told before, change nothing."""
    if entry.exchange is None:
        return
    stood = None if before is None else before.exchange
    known = Exchange() if stood is None else msgspec.structs.replace(stood)
    said = entry.exchange
    told = Exchange(said.share, said.answered, said.shown, said.confirmed, said.granted)
    for step in STEPS:
        text = told.said(step)
        is_said = bool(text) and not known.said(step)
        if step == "failed":
            # What was decided on is not undone so.
            is_said = entry.state == "failed" and (before is None or before.state == "pending")
        if is_said and is_form(step, text) and is_next(known, step):
            known.take(step, text)
            event = e.KeyExchanged(request=request, agent=AgentId(entry.agent), step=step, text=text)
            hearing.add((event,), hearing.owner, hearing.now)


def _asks_by_grant(hearing: Hearing, entry: t.RequestEntry) -> Given | None:
    """What a grant would give to an agent without a key that waits for the person; None for any other."""
    if not entry.grant or entry.host or entry.ref:
        return None
    evidence = Evidence(grant=entry.grant, grant_signature=entry.grant_signature, granted_as=entry.name)
    claim = Claim(AgentId(entry.agent), PrincipalId(entry.principal), entry.name)
    return is_asked(hearing.room, hearing.opening, claim, evidence, hearing.owners)


def _is_in(hearing: Hearing, agent: AgentId) -> bool:
    member = hearing.state.members.get(agent)
    return member is not None and member.present


def _is_knock(hearing: Hearing, entry: t.RequestEntry) -> bool:
    """Whether an agent signed that it knocked at this room, as the entry says."""
    knock = signed_statement(KnockStatement, entry.knock, entry.knock_signature, entry.agent)
    if knock is None:
        return False
    said = (knock.home, knock.room, knock.ref, knock.agent, knock.principal, knock.name, knock.host)
    told = (entry.ref, entry.agent, entry.principal, entry.name, entry.host)
    return said == (hearing.home, hearing.room, *told)


def _is_card(hearing: Hearing, entry: t.RequestEntry) -> bool:
    """Whether an agent began to come into this sealed room by what it signed. The room is in no card: the owner's
    home finds out that the agent meant this one, by the key that both have."""
    card = signed_statement(JoinCard, entry.knock, entry.knock_signature, entry.agent)
    if card is None or entry.exchange is None or entry.host:
        return False
    said = (card.home, card.agent, card.principal, card.name)
    return said == (hearing.home, entry.agent, entry.principal, entry.name)


def _decision(hearing: Hearing, entry: t.RequestEntry) -> DecisionStatement | None:
    """What the owner's side signed about a request, where it says how the request stands."""
    if entry.state not in ("approved", "denied"):
        return None
    decision = _signed_decision(hearing, entry.decision, entry.decision_signature)
    if decision is None or decision.admit is not (entry.state == "approved"):
        return None
    said = (decision.home, decision.room, decision.request, decision.agent, decision.principal)
    is_same = said == (hearing.home, hearing.room, entry.request, entry.agent, entry.principal)
    return decision if is_same else None


def _signed_decision(hearing: Hearing, body: bytes, signature: bytes) -> DecisionStatement | None:
    decision = statement_in(body, DecisionStatement)
    if decision is None:
        return None
    try:
        signers = deciders(hearing.owners, hearing.opening.approver, decision)
        return signed_by(DecisionStatement, body, signature, signers)[0]
    except Refused:
        return None
