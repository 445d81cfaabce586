"""Who is in a room, and who left it.

Not here: who knocked and was let in (`knocks`), who can read (`records`). Above: `cards`. Below: those, `hearing`,
`statements`. Pure. Invariants: a member came in by what somebody signed who might let it in, and an agent of this home
by its own knock too; a handle means one agent for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from parlerd.core import events as e
from parlerd.core.grants import Given, is_one_too_many
from parlerd.core.model import AgentId, By, Millis, PrincipalId, is_label, is_role
from parlerd.core.statements import Claim, KnockStatement, opens
from parlerd.identity.proofs import encode_evidence, given_by, unproven
from parlerd.operations import types as t
from parlerd.uplink.arriving.hearing import Contradiction, Hearing, Member
from parlerd.uplink.arriving.knocks import CameBy
from parlerd.uplink.arriving.records import came_with_another_key
from parlerd.uplink.arriving.statements import evidence_of, label_or_none, signed_statement

_MAX_MEMBERS: Final = 10_000
"""How many agents of one room are taken in."""


def hear_members(hearing: Hearing, card: t.Card, came_by: Mapping[AgentId, CameBy]) -> None:
    """Take in who is in the room and who left it. A member whose coming nothing shows is left out, until something
    does. Whoever is on no card has not come yet, where the card says how the room stood earlier."""
    if not card.members:
        return
    handles = {member.handle: agent for agent, member in hearing.state.members.items()}
    for entry in card.members[:_MAX_MEMBERS]:
        agent = AgentId(entry.agent)
        claim = Claim(agent, PrincipalId(entry.principal), entry.handle)
        known = hearing.member(agent)
        if known is None:
            if not _is_proved(hearing, entry, claim):
                continue
            entered = hearing.epoch.roster.get(agent)
            is_another_s = hearing.named and entered is not None and entered.principal != claim.principal
            if is_another_s or any(
                owner.agent == agent and owner.principal != claim.principal for owner in hearing.owners
            ):
                raise Contradiction("member", agent=agent)
            _require_room(hearing, agent, given_by(evidence_of(entry)))
            if handles.setdefault(entry.handle, agent) != agent:
                raise Contradiction("handle", agent=agent)
        elif known.handle != claim.handle:
            raise Contradiction("handle", agent=agent)
        elif known.principal != claim.principal:
            raise Contradiction("member", agent=agent)
        _move(hearing, entry, claim, known, came_by, waits=came_with_another_key(hearing, card, agent))


def _move(
    hearing: Hearing,
    entry: t.MemberEntry,
    claim: Claim,
    known: Member | None,
    came_by: Mapping[AgentId, CameBy],
    *,
    waits: bool,
) -> None:
    agent, role = claim.agent, label_or_none(entry.role, is_role)
    gives = given_by(evidence_of(entry)) if known is None else known.given
    now = Member(claim.principal, claim.handle, entry.present, role, entry.locked, gives)
    if known is None or (entry.present and not known.present):
        request, key = came_by.get(agent, CameBy())
        joined = e.MemberJoined(
            agent=agent,
            principal=claim.principal,
            handle=claim.handle,
            host=label_or_none(entry.host, is_label),
            role=role,
            request=request,
            key=key,
            given=gives,
            waits=waits,
        )
        by = By(agent, claim.principal, "", joined.host, "link")
        body = encode_evidence(evidence_of(entry)), None
        hearing.add((joined,), by, Millis(entry.joined_at) if known is None else hearing.now, (body,))
    if (role, entry.locked) != ((role, False) if known is None else (known.role, known.locked)):
        # What a newcomer says that it is, its coming says already.
        hearing.add((e.RoleGiven(agent=agent, role=role, locked=entry.locked),), hearing.owner, hearing.now)
    hearing.joined[agent] = now
    if not entry.present and (known is None or known.present):
        hearing.add((e.MemberLeft(agent=agent),), By(agent, claim.principal, "", "", "link"), hearing.now)
        hearing.numbers.pop(agent, None)


def _require_room(hearing: Hearing, agent: AgentId, gives: Given | None) -> None:
    """Raise a contradiction where a newcomer is one more than its grant allows: an honest home counts them."""
    among = {id: member.given for id, member in hearing.state.members.items()}
    among |= {id: known.given for id, known in hearing.joined.items()}
    if gives is not None and is_one_too_many(gives, among.values()):
        raise Contradiction("grant", agent=agent)


def _is_proved(hearing: Hearing, entry: t.MemberEntry, claim: Claim) -> bool:
    """Whether what was signed shows that this agent was let in under this handle, and of an agent of this home also
    that it asked to come in: whoever opened a room could let in anybody, who would then read it as one of its own.
    """
    if unproven(hearing.room, hearing.opening, claim, evidence_of(entry), hearing.owners) is not None:
        return False
    return not hearing.grounds.ours(claim.agent) or opens(hearing.opening, claim) or _has_asked(hearing, entry, claim)


def _has_asked(hearing: Hearing, entry: t.MemberEntry, claim: Claim) -> bool:
    """Whether the agent itself signed that it knocked at this room, for the person of the claim."""
    knock = signed_statement(KnockStatement, entry.knock, entry.knock_signature, claim.agent)
    if knock is None:
        return False
    said = (knock.home, knock.room, knock.agent, knock.principal)
    return said == (hearing.home, hearing.room, claim.agent, claim.principal)
