"""A home elsewhere that tells the truth about one room, step by step, and keeps what a liar would need.

It is a small model of a relay: a list of what happened in a room, every part of it signed as its authors sign, and the
items by which a link would bring it to a daemon, from any place on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from parlerd.core import invocations
from parlerd.core.envelope import Envelope, GatedPart, GatePart, TextPart, decode_envelope, encode_envelope, root_chain
from parlerd.core.gated import released
from parlerd.core.grants import agent_of, digest_of
from parlerd.core.invocations import Invoked
from parlerd.core.messages import audience_key
from parlerd.core.model import AgentId, By, HomeId, MessageId, Millis, PrincipalId, RequestId, RoomId
from parlerd.core.public_line import first_line, next_line
from parlerd.core.statements import (
    ByGrant,
    DecisionStatement,
    Grant,
    KeyTerms,
    KnockStatement,
    MayOpen,
    Opening,
    Title,
    encode,
    room_id_of,
    title_digest,
)
from parlerd.identity.signatures import Domain, SigningKey
from parlerd.operations import types as t

RELAY_KEY: Final = SigningKey("relay", bytes([9]) * 32)
RELAY: Final = HomeId(RELAY_KEY.id)
START: Final = 1_700_000_000_000
S = TypeVar("S", t.MemberEntry, t.RequestEntry, t.LinkMessage, Envelope, Opening)


class Party:
    """An agent and its person, with their keys. Two parties of one `person` have the same."""

    domain: Domain = "parler/message"
    """For what its words are signed."""

    def __init__(self, name: str, number: int, person: int) -> None:
        self.name = name
        self.key = SigningKey("agent", bytes([number]) * 32)
        self.person = SigningKey("principal", bytes([100 + person]) * 32)
        self.agent = AgentId(self.key.id)
        self.principal = PrincipalId(self.person.id)


class Granted(Party):
    """An agent that has no key, of somebody's person: the relay's key signs its words."""

    domain = "parler/admitted"

    def __init__(self, name: str, agent: AgentId, owner: Party) -> None:
        self.name = name
        self.key = RELAY_KEY
        self.person = owner.person
        self.agent = agent
        self.principal = owner.principal


ANN, BEN, CAT, DAN = Party("ann", 1, 1), Party("ben", 2, 2), Party("cat", 3, 2), Party("dan", 4, 3)


@dataclass(slots=True)
class Said:
    """A message as the home has it."""

    message: t.LinkMessage
    visibility: tuple[AgentId, ...] | None
    digest: bytes
    present: frozenset[AgentId]
    """Who was in the room."""


@dataclass(slots=True)
class Moved:
    """Somebody came or went; the entry is how the member stands then."""

    entry: t.MemberEntry


@dataclass(slots=True)
class Asked:
    """A request, or what became of it."""

    entry: t.RequestEntry


@dataclass(frozen=True)
class Within:
    """A room that an agent without a key opens within a grant of the owner's person; an honest home has no other fields
    in the `grant` and the `opening`, and has nobody else sign either, for anything else."""

    name: str = "ci"
    grant: Mapping[str, object] = field(default_factory=dict)
    opening: Mapping[str, object] = field(default_factory=dict)
    granted_by: SigningKey | None = None
    opened_by: SigningKey = RELAY_KEY
    domain: Domain = "parler/opened"


@dataclass
class HonestHome:
    """One room of a relay, opened by `owner` with a gated key and one that lets in, or `within` a grant."""

    owner: Party = field(default_factory=lambda: ANN)
    history: str = "full"
    within: Within | None = None
    log: list[Said | Moved | Asked] = field(default_factory=list)
    threads: dict[tuple[AgentId, str], tuple[int, bytes]] = field(default_factory=dict)
    members: dict[AgentId, t.MemberEntry] = field(default_factory=dict)
    closed: bool = False
    drawn: int = 0

    def __post_init__(self) -> None:
        title = encode(Title(salt=bytes(16), name="plan", topic="what next"))
        opening = Opening(
            home=RELAY,
            kind="session",
            history=self.history,  # type: ignore[arg-type]
            owner=self.owner.agent,
            principal=self.owner.principal,
            handle=self.owner.name,
            host="claude",
            approval=True,
            approver="person",
            title=title_digest(title),
            nonce=bytes(16),
        )
        self.title = title
        granted = {}
        if self.within is None:
            self.opening = encode(opening)
            self.opening_signature = self.owner.person.sign("parler/opening", self.opening)
        else:
            grant = self._grant_to_open(self.within)
            signer = self.within.granted_by or self.owner.person
            by_grant = ByGrant(grant=grant, signature=signer.sign("parler/grant", grant))
            granted = {"grant": grant, "grant_signature": by_grant.signature}
            self.opener = Granted(self.within.name, agent_of(digest_of(grant), self.within.name), self.owner)
            opening = msgspec.structs.replace(opening, host="", granted=by_grant)
            self.opening = encode(_replace(opening, **self.within.opening))
            self.opening_signature = self.within.opened_by.sign(self.within.domain, self.opening)
        self.room = RoomId(room_id_of(self.opening))
        self.line = [first_line(self.room, RELAY)]
        """The public line at each number."""
        self.gated = self._terms("k_gated", gated=True)
        self.open = self._terms("k_open", gated=False)
        self._move(self.owner, self._entry(self.owner))
        if self.within is not None:
            self._move(self.opener, _replace(self._entry(self.opener, **granted), granted_as=self.within.name))

    def _grant_to_open(self, within: Within) -> bytes:
        fields: dict[str, object] = {
            "home": RELAY,
            "rooms": ("r_team",),
            "principal": self.owner.principal,
            "names": (within.name,),
            "scopes": ("read", "post", "open"),
            "not_after": Millis(START + 10**9),
            "opens": MayOpen(rooms=2, owner=self.owner.agent, handle=self.owner.name),
            "nonce": bytes(16),
        }
        return encode(Grant(**{**fields, **within.grant}))  # type: ignore[arg-type]

    # -- what happens --------------------------------------------------------------------------------------

    def _draw(self) -> int:
        self.drawn += 1
        return self.drawn

    @property
    def now(self) -> int:
        return START + self.drawn

    def _terms(self, ref: str, *, gated: bool) -> tuple[bytes, bytes]:
        terms = KeyTerms(
            home=RELAY,
            room=self.room,
            ref=ref,
            gated=gated,
            expires_at=Millis(START + 10**9),
            max_uses=50,
            preapproved=(),
            nonce=bytes(16),
        )
        body = encode(terms)
        return body, self.owner.person.sign("parler/key", body)

    def _entry(self, party: Party, **proofs: bytes) -> t.MemberEntry:
        entry = t.MemberEntry(
            agent=party.agent,
            principal=party.principal,
            handle=party.name,
            host="codex",
            role="",
            present=True,
            joined_at=self.now,
        )
        return msgspec.structs.replace(entry, **proofs)

    @property
    def roles(self) -> dict[str, tuple[str, bool]]:
        """What everybody is who is or was in, and whether that is locked."""
        return {entry.handle: (entry.role, entry.locked) for entry in self.members.values()}

    def give_role(self, party: Party, role: str, *, lock: bool = False) -> None:
        """The owner says what a member is."""
        self._move(party, msgspec.structs.replace(self.members[party.agent], role=role, locked=lock))

    def _move(self, party: Party, entry: t.MemberEntry) -> None:
        self.members[party.agent] = entry
        self.log.append(Moved(entry))

    def knock(self, party: Party, ref: str = "k_gated") -> tuple[bytes, bytes]:
        """A signed knock."""
        statement = KnockStatement(
            home=RELAY,
            room=self.room,
            ref=ref,
            agent=party.agent,
            principal=party.principal,
            name=party.name,
            host="codex",
            at=Millis(self.now),
            nonce=self._draw().to_bytes(16, "big"),
        )
        body = encode(statement)
        return body, party.key.sign("parler/knock", body)

    def decision(
        self, party: Party, request: str, *, admit: bool = True, by: Party | None = None
    ) -> tuple[bytes, bytes]:
        """A signed decision, by default by the owner's person."""
        statement = DecisionStatement(
            home=RELAY,
            room=self.room,
            request=RequestId(request),
            agent=party.agent,
            principal=party.principal,
            handle=party.name if admit else "",
            admit=admit,
            proof="cli",
            at=Millis(self.now),
            nonce=self._draw().to_bytes(16, "big"),
        )
        body = encode(statement)
        return body, (by or self.owner).person.sign("parler/decision", body)

    def request(self, party: Party) -> t.RequestEntry:
        """Somebody knocks with the gated key."""
        knock, signature = self.knock(party)
        entry = t.RequestEntry(
            request=f"q_{self._draw()}",
            ref="k_gated",
            agent=party.agent,
            principal=party.principal,
            name=party.name,
            host="codex",
            at=self.now,
            state="pending",
            knock=knock,
            knock_signature=signature,
        )
        self.log.append(Asked(entry))
        return entry

    def decide(self, party: Party, request: t.RequestEntry, *, admit: bool = True) -> None:
        """The owner's person decides."""
        body, signature = self.decision(party, request.request, admit=admit)
        state = "approved" if admit else "denied"
        decided = _replace(request, state=state, decision=body, decision_signature=signature)
        self.log.append(Asked(decided))
        if admit:
            proofs = {"knock": request.knock, "knock_signature": request.knock_signature}
            self._move(party, self._entry(party, proof=body, proof_signature=signature, **proofs))

    def join(self, party: Party) -> None:
        """Somebody comes in with the key that asks nobody, or comes back."""
        known = self.members.get(party.agent)
        if known is not None:
            self._move(party, _replace(known, present=True))
            return
        knock, signature = self.knock(party, "k_open")
        terms, terms_signature = self.open
        proofs = {"knock": knock, "knock_signature": signature, "terms": terms, "terms_signature": terms_signature}
        self._move(party, self._entry(party, **proofs))

    def grant(self, name: str, *, by: Party | None = None, agent: AgentId | None = None, **said: object) -> Granted:
        """An agent that has no key comes in by a grant that the owner's person signed. An honest home lets in nobody by
        a grant that another person signed (`by`), nor another `agent` than the grant and the name make."""
        owner = by or self.owner
        fields: dict[str, object] = {
            "home": RELAY,
            "rooms": (self.room,),
            "principal": owner.principal,
            "scopes": ("read", "post"),
            "not_after": Millis(START + 10**9),
            "nonce": bytes(16),
        }
        if "count" not in said:
            fields["names"] = (name,)
        body = encode(Grant(**{**fields, **said}))  # type: ignore[arg-type]
        party = Granted(name, agent or agent_of(digest_of(body), name), owner)
        signature = owner.person.sign("parler/grant", body)
        self._move(party, self._entry(party, grant=body, grant_signature=signature))
        self.members[party.agent] = entry = _replace(self.members[party.agent], granted_as=name)
        self.log[-1] = Moved(entry)
        return party

    def grant_asking(
        self,
        name: str,
        *,
        decision: Callable[[Party, str], tuple[bytes, bytes]] | None = None,
        by: Party | None = None,
    ) -> Granted:
        """An agent that has no key comes in by a grant for which the owner's person decides about each, and by that
        person's decision, or another one."""
        party = self.grant(name, by=by, count=2, approval=True)
        moved = self.log.pop()
        assert isinstance(moved, Moved)
        entry = self.members.pop(party.agent)
        asked = t.RequestEntry(
            request=f"q_{self._draw()}",
            ref="",
            agent=party.agent,
            principal=party.principal,
            name=name,
            host="",
            at=self.now,
            state="pending",
            knock=b"",
            knock_signature=b"",
            grant=entry.grant,
            grant_signature=entry.grant_signature,
        )
        self.log.append(Asked(asked))
        body, signature = (decision or self.decision)(party, asked.request)
        self.log.append(Asked(_replace(asked, state="approved", decision=body, decision_signature=signature)))
        self._move(party, _replace(entry, proof=body, proof_signature=signature))
        return party

    def leave(self, party: Party) -> None:
        self._move(party, _replace(self.members[party.agent], present=False))

    def envelope(
        self, party: Party, text: str, to: Iterable[Party] | None = None, *, back: int = 0, **over: object
    ) -> bytes:
        """What `party` signs next: for everyone, or for `to` and itself alone. `back` is how many public messages of
        the room it was not shown yet."""
        visibility = None if to is None else tuple(sorted({party.agent, *(each.agent for each in to)}))
        counter, previous = self.threads.get((party.agent, audience_key(visibility)), (0, b""))
        shown = max(0, len(self.line) - 1 - back)
        id = MessageId(f"m_{self._draw()}")
        fields: dict[str, object] = {
            "v": 2,
            "id": id,
            "room": self.room,
            "key": f"k-{id}",
            "kind": "text",
            "chain": root_chain(id),
            "hops": 0,
            "authored_at": Millis(self.now),
            "counter": counter + 1 + self.drawn % 3,
            "previous": previous,
            "shown": shown,
            "line": self.line[shown],
            "nonce": self._draw().to_bytes(16, "big"),
            "host": "codex",
            "via": "cli",
            "parts": (TextPart(text),),
            "visibility": visibility,
        }
        return encode_envelope(Envelope(**{**fields, **over}))  # type: ignore[arg-type]

    def post(self, party: Party, text: str, to: Iterable[Party] | None = None, *, back: int = 0) -> Said:
        """A message."""
        body = self.envelope(party, text, to, back=back)
        visibility = None if to is None else tuple(sorted({party.agent, *(each.agent for each in to)}))
        return self.admit(party, body, visibility)

    def admit(self, party: Party, body: bytes, visibility: tuple[AgentId, ...] | None = None) -> Said:
        """Put these bytes into the room, whatever they say."""
        digest = hashlib.sha256(body).digest()
        message = t.LinkMessage(
            at=self.now,
            agent=party.agent,
            principal=party.principal,
            body=body,
            signature=party.key.sign(party.domain, body),
        )
        here = frozenset(AgentId(entry.agent) for entry in self.members.values() if entry.present)
        said = Said(message, visibility, digest, here)
        counter, _ = self.threads.get((party.agent, audience_key(visibility)), (0, b""))
        self.threads[party.agent, audience_key(visibility)] = (counter + 3, digest)
        self.log.append(said)
        if visibility is None:
            self.line.append(next_line(self.line[-1], digest))
        return said

    def new(self, prefix: str) -> str:
        """An id that was never given."""
        return f"{prefix}_{self._draw()}"

    def tell(self, party: Party, action: str, *, by: Party | None = None, **change: object) -> Said:
        """The home says itself that `party` invoked an action; `by` signs it too, which an honest home has nobody do.
        `change` are fields of the envelope that an honest home fills in otherwise."""
        door = By(party.agent, party.principal, "", "", "link")
        said = Invoked(action, {"item": "trap"})
        _, body = invocations.told(self.room, door, Millis(self.now), self, said)
        if change:
            body = encode_envelope(_replace(decode_envelope(body), **change))
        threads = dict(self.threads)
        told = self.admit(party, body)
        self.threads = threads
        signature = b"" if by is None else by.key.sign("parler/message", body)
        told.message = _replace(told.message, signature=signature)
        return told

    def release(
        self,
        party: Party,
        text: str,
        to: Iterable[Party] | None = None,
        *,
        readers: Iterable[Party] | None = None,
        by: Party | None = None,
        signed: Mapping[str, object] | None = None,
        **change: object,
    ) -> Said:
        """The home shows what `party` signed to be shown later, to everyone of `to` or to `readers` alone. An honest
        home shows nothing that `by`, another, signed, nor anything with `change`; `signed` are fields that the author
        fills in otherwise."""
        gate = {"counter": 0, "previous": b"", "parts": (TextPart(text), GatePart("self != ''"))}
        within = self.envelope(party, text, to, **{**gate, **(signed or {})})  # type: ignore[arg-type]
        part = GatedPart(within, (by or party).key.sign("parler/gated", within))
        alone = None if readers is None else tuple(sorted({party.agent, *(each.agent for each in readers)}))
        visibility = decode_envelope(within).visibility if alone is None else alone
        id = MessageId(f"m_{self._draw()}") if readers is not None else decode_envelope(within).id
        envelope = _replace(released(part, id, visibility), **change)
        threads = dict(self.threads)
        told = self.admit(party, encode_envelope(envelope), envelope.visibility)
        self.threads = threads
        told.message = _replace(told.message, signature=b"")
        return told

    def erase(self, said: Said) -> None:
        """The words of a message are taken out."""
        said.message = _replace(said.message, body=b"", signature=b"", digest=said.digest)

    # -- what is told --------------------------------------------------------------------------------------

    def card(self, eyes: Iterable[Party], upto: int, *, owner: bool = False) -> t.Card:
        """How the room stood after `upto` entries of the log, for the agents of one daemon, as they are now."""
        members: dict[str, t.MemberEntry] = {}
        requests: dict[str, t.RequestEntry] = {}
        for entry in self.log[:upto]:
            if isinstance(entry, Moved):
                members[entry.entry.agent] = entry.entry
            elif isinstance(entry, Asked):
                requests[entry.entry.request] = entry.entry
        mine = {party.agent for party in eyes}
        inside = bool(mine & set(self.members))
        keys = [(ref, body) for ref, body in (("k_gated", self.gated), ("k_open", self.open))]
        return t.Card(
            whole=True,
            home=RELAY,
            opening=self.opening,
            opening_signature=self.opening_signature,
            title=self.title if inside else b"",
            opened_at=START,
            closed=self.closed,
            moves=sum(1 for entry in self.log[:upto] if isinstance(entry, Moved)),
            members=list(members.values()) if inside else [],
            keys=[
                t.KeyEntry(ref=ref, terms=body[0], terms_signature=body[1], revoked=False, users=[])
                for ref, body in keys
                if owner or ref == "k_gated"
            ],
            requests=[entry for entry in requests.values() if owner or entry.agent in mine],
        )

    def numbers(self, eyes: Iterable[Party], upto: int) -> dict[str, int]:
        """The own number of each of these agents that is a member there."""
        return {party.agent: len(self.visible(party, upto)) for party in eyes if self._is_in(party, upto)}

    def _is_in(self, party: Party, upto: int) -> bool:
        moves = [entry.entry for entry in self.log[:upto] if isinstance(entry, Moved)]
        return any(entry.present for entry in moves if entry.agent == party.agent) and next(
            entry.present for entry in reversed(moves) if entry.agent == party.agent
        )

    def visible(self, party: Party, upto: int | None = None) -> list[Said]:
        """What the agent may see of everything that was said: history is `full`."""
        said = [entry for entry in self.log[:upto] if isinstance(entry, Said)]
        return [each for each in said if each.visibility is None or party.agent in each.visibility]

    def items(
        self, eyes: Sequence[Party], after: int = 0, upto: int | None = None, *, page: int = 100, jumped: bool = False
    ) -> list[t.LinkItem]:
        """What a link brings that goes on after `after` entries of the log: a whole card, pages, and a card for each
        change. Where the erased stand that are private, nothing is told."""
        upto = len(self.log) if upto is None else upto
        public = sum(1 for entry in self.log[:after] if isinstance(entry, Said) and entry.visibility is None)
        owner = any(party.principal == self.owner.principal for party in eyes)
        found = [t.LinkItem(room=self.room, card=self.card(eyes, after or 1, owner=owner))]
        pending: list[t.LinkMessage] = []
        start = (public, self.numbers(eyes, after or 1))
        is_jump = jumped

        def flush(number: int, upto: int) -> None:
            nonlocal pending, start, is_jump
            if pending or is_jump:
                found.append(
                    t.LinkItem(
                        room=self.room,
                        page=t.LinkPage(
                            public=start[0],
                            line=self.line[start[0]],
                            before=start[1],
                            jumped=is_jump,
                            messages=pending,
                        ),
                    )
                )
            pending, is_jump = [], False
            start = (number, self.numbers(eyes, upto))

        for place in range(after, upto):
            entry = self.log[place]
            if isinstance(entry, Said):
                may_see = entry.visibility is None or {party.agent for party in eyes} & set(entry.visibility)
                if may_see and (entry.message.body or entry.visibility is None):
                    pending.append(entry.message)
                public += entry.visibility is None
                if len(pending) >= page:
                    flush(public, place + 1)
            else:
                flush(public, place + 1)
                found.append(t.LinkItem(room=self.room, card=self.card(eyes, place + 1, owner=owner)))
                start = (public, self.numbers(eyes, place + 1))
        flush(public, upto)
        if upto == len(self.log) and any(self._is_in(party, upto) for party in eyes):
            end = t.LinkPage(
                public=public, line=self.line[public], before=self.numbers(eyes, upto), jumped=False, messages=[]
            )
            found.append(t.LinkItem(room=self.room, page=end, level=True))
        return found


def _replace(struct: S, **changes: object) -> S:
    return msgspec.structs.replace(struct, **changes)
