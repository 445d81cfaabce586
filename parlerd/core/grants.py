"""Grants: what lets a relay speak for an agent that has no key, because its program has only a token.

    parler token mint --room team@relay --> Grant, signed by the person of the room's owner (parler/grant)
                                        --> agent T..., whose id is made of the grant and of the agent's name
    T... says something --> the relay composes the envelope and signs it with its own key (parler/admitted)
    a reader's machine  --> the grant and that signature are good: `verified: home`

A grant with the scope `open` is for rooms as well: T... opens so many at the relay, each is the person's, and its
opening bears the grant and the relay's signature (parler/opened) in the place of the person's.

So a relay speaks as such an agent within its grant and as nobody else, and what it says so is never taken for something
that an author signed: an id that begins with `T` is no key, and no key makes one.

Not here: signatures (`identity.proofs`), the statement's shape (`statements.Grant`), tokens (`tokens`). Above: the
facets, `identity.proofs`, and whoever judges what arrives. Below: `statements`. Invariant: what follows from a grant is
decided here alone, by the same functions at the relay and at each reader.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from parlerd.core.model import AgentId, Millis, RoomId, is_label
from parlerd.core.statements import OPEN, Claim, Grant, Opening, is_handle_of

SCOPES: Final = frozenset({"read", "post", "state", "work", "files", OPEN})
"""What a grant may be for, as tokens name it. Nobody mints or joins by a grant."""
_SPEAKING: Final = frozenset({"post", "work", "files"})
"""The scopes of which each lets an agent say something in an envelope."""
KINDS: Final = frozenset({"session", "channel", "service"})
"""The kinds of rooms that somebody can be let in to by a grant: no room of two agents, and nobody's private memory."""


class Given(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a grant gives to one agent, as the fact that the agent came in repeats it."""

    grant: bytes
    """The SHA-256 of the grant."""
    name: str
    """The name under which the grant was used: with the grant it makes the agent's id."""
    until: Millis
    """The agent may do nothing from then on, by the time of the room."""
    speaks: bool
    """Whether the agent may say something; else it reads, and perhaps writes the state."""
    count: int = 0
    """How many agents of this grant there may be in the room; 0 for a grant that names them."""


def digest_of(grant: bytes) -> bytes:
    """By what a grant is known."""
    return hashlib.sha256(grant).digest()


def agent_of(grant: bytes, name: str) -> AgentId:
    """The id of the agent of this name that a grant is for. `grant` is the digest of its bytes."""
    # A digest has one length, so no name can be taken for a part of it.
    digest = hashlib.sha256(grant + name.encode()).digest()
    return AgentId("T" + base64.b32encode(digest).decode().rstrip("="))


def joiner_of(grant: bytes) -> AgentId:
    """The id that stands for those who may still come by a grant which counts them. It is no agent's: no agent is
    without a name. `grant` is the digest of its bytes."""
    return agent_of(grant, "")


def given(body: bytes, grant: Grant, name: str) -> Given:
    """What the grant in these bytes gives to the agent of this name."""
    speaks = not _SPEAKING.isdisjoint(grant.scopes)
    return Given(grant=digest_of(body), name=name, until=grant.not_after, speaks=speaks, count=grant.count)


def wrong_with(
    opening: Opening, room: RoomId, body: bytes, grant: Grant, name: str, claim: Claim, *, is_decided: bool = False
) -> str | None:
    """What keeps the claim from following from a grant, as the name of a field, or None when it follows. The caller has
    checked who signed the grant: the person of an owner of the room; and, where `is_decided`, that the owner's side let
    this agent in by a decision as well. How many came in by the grant before is counted by
    whoever knows the members (`is_one_too_many`)."""
    wrong = {
        "kind": opening.kind not in KINDS,
        "home": grant.home != opening.home,
        "room": room not in grant.rooms and not is_opened_by(opening, body),
        "principal": grant.principal != claim.principal,
        "approval": grant.approval and not is_decided,
        "names": not is_named(grant, name),
        "agent": claim.agent != agent_of(digest_of(body), name),
        "handle": not is_handle_of(claim.handle, name),
    }
    return next((what for what, is_wrong in wrong.items() if is_wrong), None)


def opens_wrongly(opening: Opening, grant: Grant) -> str | None:
    """What keeps a room's opening from following from the grant that it bears, as the name of a field, or None when it
    follows. The caller has checked that the person of the opening signed the grant, and the home the opening. Nobody
    comes into such a room unasked before the person says so. When the room was opened, and how many there are, is
    for whoever knows that (`MayOpen`, `not_after`)."""
    may = grant.opens
    if may is msgspec.UNSET:
        return "scopes"
    wrong = {
        "home": grant.home != opening.home,
        "principal": grant.principal != opening.principal,
        "owner": may.owner != opening.owner,
        "handle": may.handle != opening.handle,
        "host": bool(opening.host),
        "kind": opening.kind != "session",
        "approval": not opening.approval,
        "approver": opening.approver != "person",
    }
    return next((what for what, is_wrong in wrong.items() if is_wrong), None)


def opened_beyond(grant: Grant, at: Millis, others: int) -> str | None:
    """What keeps a room from being one of those that its grant is for, beside so many `others` that were opened by it,
    or None when nothing does. `at` is when it was opened, as its home says."""
    if at >= grant.not_after:
        return "not_after"
    return "rooms" if grant.opens is msgspec.UNSET or others >= grant.opens.rooms else None


def is_opened_by(opening: Opening, body: bytes) -> bool:
    """Whether a room was opened by the grant in these bytes."""
    return opening.granted is not msgspec.UNSET and opening.granted.grant == body


def is_named(grant: Grant, name: str) -> bool:
    """Whether a grant is for an agent of this name."""
    return name in grant.names if grant.names else bool(name) and is_label(name)


def is_one_too_many(gives: Given, among: Iterable[Given | None]) -> bool:
    """Whether there are as many agents of a grant as it allows, without the one that it is now used for."""
    others = sum(each is not None and each.grant == gives.grant and each.name != gives.name for each in among)
    return bool(gives.count) and others >= gives.count


def may_say(gives: Given | None, at: Millis) -> bool:
    """Whether an agent without a key may have said something at this moment, by the time of the room."""
    return gives is not None and gives.speaks and at < gives.until
