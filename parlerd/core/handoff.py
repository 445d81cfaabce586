"""Who has the turn: offers of it, and what became of each.

    offered --> accepted    by the one addressed, by one with the role, or by anyone but the giver; the first wins
       |`----> declined     by the one addressed; who declines an offer to a role or to anyone leaves it to the others
       |`----> withdrawn    by its giver
       `-----> expired      by time alone: no fact says so

Until an offer is accepted its giver has the turn. Offers and answers are messages (`HandoffPart`, `HandoffAnswerPart`):
`messages` decides them like any other and asks `Offers` whether an answer may be given. A message that merely replies
to an offer answers nothing. An offer of a turn that its giver took itself replies to the offer by which it took that
turn, so a turn that goes to and fro stays in one conversation, which `loops` counts.

Not here: the words (`envelope`), who a name means (`membership`). Above: `messages`, `room`, and whoever shows an
offer. Below: the states of other facets. Invariants: an offer has one final answer at most, and the same rule decides
an answer and folds it, so a mirror whose home lies does not show one that breaks the rule; what is kept is bounded.

An offer expires by the time of its room, which each decision and each read compares with the moment that the offer
states. A mirror that leaves a part of its room out may not know an answer that stands there; the room's home, which
decides, does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, nobody, touches
from parlerd.core.membership import MembershipState
from parlerd.core.model import AgentId, MessageId, Millis, Position, Turn
from parlerd.core.topics import Topic

MAX_OPEN_OF_GIVER: Final = 32
"""Open offers of one agent in one room: an agent has one turn to give, and may split its work."""
MAX_OPEN: Final = 256
"""Open offers in one room."""
KEPT: Final = 2 * MAX_OPEN
"""Offers that a room remembers, those among them that are over: 150 KiB of a snapshot at most."""
MAX_DECLINED: Final = 256
"""Agents of whom it is remembered that they declined one offer."""

Status = Literal["offered", "accepted", "declined", "withdrawn", "expired"]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What one agent said to an offer, in which message, and where that message stands."""

    by: AgentId
    turn: Turn
    message: MessageId
    position: Position
    at: Millis


class Offer(msgspec.Struct, frozen=True, array_like=True):
    """One offer, by the message that made it. `to` is whom it names, `role` the role it names; both are empty where
    anyone may take the turn. `answers` are in the order of the log."""

    id: MessageId
    position: Position
    giver: AgentId
    to: AgentId
    role: str
    visibility: tuple[AgentId, ...] | None
    at: Millis
    expires_at: Millis
    answers: tuple[Answer, ...] = ()
    chain: str = ""
    hops: int = 0
    """The conversation that the offer is in, and its distance from the first message there."""
    reply_to: MessageId | None = None
    """The message that it replies to: where its giver gives a turn on that it took, the offer of that turn."""

    def concerned(self, by: AgentId) -> tuple[AgentId, ...]:
        """Whom an answer of this agent is addressed to: the giver, and where the giver withdraws whom it offered the
        turn to."""
        if by != self.giver:
            return (self.giver,)
        return (self.to,) if self.to else ()


class Standing(NamedTuple):
    """How an offer stands at some moment. `final` is the answer that ended it."""

    status: Status
    final: Answer | None


class HandoffState(msgspec.Struct):
    """The offers of a room, the oldest first."""

    offers: dict[MessageId, Offer] = {}


class Lost(Protocol):
    """What a room's home lost of its log (`rewinds`)."""

    def is_lost(self, position: Position) -> bool:
        """Whether the home has lost the fact at this position."""
        ...


class Offers:
    """What follows from the offers of a room. Reads the state and changes nothing."""

    __slots__ = ("_lost", "_membership", "_state")

    def __init__(self, state: HandoffState, membership: MembershipState, lost: Lost) -> None:
        self._state = state
        self._membership = membership
        self._lost = lost

    def __iter__(self) -> Iterator[Offer]:
        """The offers that the room's home still has, the oldest first."""
        return (offer for offer in self._state.offers.values() if not self._lost.is_lost(offer.position))

    def get(self, id: MessageId) -> Offer | None:
        """The offer that this message made, unless the room forgot it or its home lost it."""
        offer = self._state.offers.get(id)
        return None if offer is None or self._lost.is_lost(offer.position) else offer

    def standing(self, offer: Offer, now: Millis) -> Standing:
        """How an offer stands at `now`, by the time of its room."""
        for answer in self.answers(offer):
            if answer.turn != "declined":
                return Standing("accepted" if answer.turn == "accepted" else "withdrawn", answer)
            if offer.to:
                return Standing("declined", answer)
        return Standing("offered" if now < offer.expires_at else "expired", None)

    def answers(self, offer: Offer) -> list[Answer]:
        """The answers to an offer that the room's home still has."""
        return [answer for answer in offer.answers if not self._lost.is_lost(answer.position)]

    def is_open(self, offer: Offer, now: Millis) -> bool:
        """Whether the turn can still be taken."""
        return self.standing(offer, now).status == "offered"

    def held_by(self, agent: AgentId) -> Offer | None:
        """The offer of the turn that this agent took last, of those that it did not give on. One gave a turn on when
        another took an offer that replies to the offer of that turn."""
        given, taken = set(), list[tuple[Position, Offer]]()
        for offer in self:
            # Who took a turn has it for good, so the time of the question changes nothing.
            status, final = self.standing(offer, offer.at)
            if final is None or status != "accepted":
                continue
            if offer.giver == agent and offer.reply_to is not None:
                given.add(offer.reply_to)
            if final.by == agent:
                taken.append((final.position, offer))
        held = [each for each in taken if each[1].id not in given]
        return max(held, key=lambda each: each[0], default=(Position(0), None))[1]

    def is_for(self, offer: Offer, agent: AgentId) -> bool:
        """Whether this agent may take the turn, or decline it."""
        if agent == offer.giver:
            return False
        if offer.to:
            return agent == offer.to
        member = self._membership.members.get(agent)
        return member is not None and (not offer.role or member.role == offer.role)

    def require_room_for_offer(self, giver: AgentId, now: Millis) -> None:
        """Raise `Refused(too_many_handoffs)` where this agent, or the whole room, has as many open offers as may be."""
        open = [offer.giver for offer in self if self.is_open(offer, now)]
        if open.count(giver) >= MAX_OPEN_OF_GIVER:
            raise Refused("too_many_handoffs", limit=MAX_OPEN_OF_GIVER)
        if len(open) >= MAX_OPEN:
            raise Refused("too_many_handoffs", limit=MAX_OPEN)

    def to_answer(self, id: MessageId | None, turn: Turn, by: AgentId, now: Millis) -> Offer | Answer:
        """The offer that this agent may answer so; or the answer where it said the same before.

        Raises `Refused`: `no_such_handoff`, `handoff_not_yours` for one that is none of this agent's business,
        `handoff_taken` (with the name of who took it), `handoff_over` (with how it ended) or `handoff_expired`.
        """
        offer = None if id is None else self.get(id)
        if offer is None:
            raise Refused("no_such_handoff", id=id or "")
        if not (by == offer.giver if turn == "withdrawn" else self.is_for(offer, by)):
            raise Refused("handoff_not_yours", handoff=offer.id)
        status, final = self.standing(offer, now)
        if final is not None and final.by == by and final.turn == turn:
            return final
        if final is None or final.by != by:
            said = next((each for each in self.answers(offer) if each.by == by and each.turn == turn), None)
            if said is not None:
                return said
        if final is not None and status == "accepted":
            member = self._membership.members.get(final.by)
            who = final.by if member is None else member.handle
            raise Refused("handoff_taken", handoff=offer.id, agent=who)
        if final is not None:
            raise Refused("handoff_over", handoff=offer.id, status=status)
        if status == "expired":
            raise Refused("handoff_expired", handoff=offer.id)
        return offer


class Handoffs(Facet[HandoffState]):
    """Keeps the offers. It decides nothing: an offer and an answer are messages, which `messages` decides."""

    __slots__ = ("offers",)

    def __init__(self, state: HandoffState, offers: Offers) -> None:
        super().__init__(state)
        self.offers = offers

    def _posted(self, event: e.MessagePosted, header: e.Header) -> None:
        if event.turn == "offered":
            self._offered(event, header)
        elif event.turn and event.reply_to is not None:
            self._answered(event, event.reply_to, header)

    def _offered(self, event: e.MessagePosted, header: e.Header) -> None:
        offers = self.state.offers
        offers[event.id] = Offer(
            id=event.id,
            position=header.position,
            giver=header.by.actor,
            to=event.to[0] if event.to else AgentId(""),
            role=event.role,
            visibility=event.visibility,
            at=header.at,
            expires_at=Millis(header.at + event.ttl_ms),
            chain=event.chain,
            hops=event.hops,
            reply_to=event.reply_to,
        )
        if len(offers) > KEPT:
            over = (id for id, offer in offers.items() if not self.offers.is_open(offer, header.at))
            del offers[next(over, next(iter(offers)))]

    def _answered(self, event: e.MessagePosted, to: MessageId, header: e.Header) -> None:
        by = header.by.actor
        try:
            offer = self.offers.to_answer(to, event.turn, by, header.at)
        except Refused:
            return
        if isinstance(offer, Answer) or (len(offer.answers) > MAX_DECLINED and event.turn == "declined"):
            return
        answer = Answer(by, event.turn, event.id, header.position, header.at)
        self.state.offers[to] = msgspec.structs.replace(offer, answers=(*offer.answers, answer))

    # -- what time changes ---------------------------------------------------------------------------------

    def next_deadline(self, after: Millis) -> Millis | None:
        """When the next open offer expires."""
        return min((offer.expires_at for offer in self._open(after)), default=None)

    def expire(self, after: Millis, now: Millis) -> Iterable[Topic]:
        """The givers of the offers that expired in (after, now]."""
        return (topics.concerns(offer.giver) for offer in self._open(after) if offer.expires_at <= now)

    def _open(self, at: Millis) -> Iterator[Offer]:
        return (offer for offer in self.offers if self.offers.is_open(offer, at))

    APPLIES = (applies(e.MessagePosted, _posted),)
    # Who waits for messages is woken by the message.
    TOUCHES = (touches(e.MessagePosted, nobody),)
