"""The directory of one home: the newest card of each agent that has one, and who is found by what somebody looks for.

The person of a relay's member and the person of this very home are treated alike; what differs is how many agents of a
person may have a card (`PublishCard.most`).

Not here: who may see a card that is private, which depends on rooms (`parlerd.engine.directory`), and whether its agent
is present. Above: `home`. Below: `statements`. Invariant: of each agent the card with the highest revision counts, and
a person who was sent away has no agent here.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, nobody, reads, touches
from parlerd.core.model import AgentId, By, CardVisibility, DirectRule, Ids, Millis, Position, PrincipalId
from parlerd.core.statements import AgentCard, check


class Listed(msgspec.Struct):
    """The newest card of an agent. `position` is where its signed bytes stand, and `at` when they came."""

    agent: AgentId
    principal: PrincipalId
    visibility: CardVisibility
    revision: int
    position: Position
    at: Millis
    name: str = ""
    role: str = ""
    tags: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    description: str = ""
    direct: DirectRule = "open"


class DirectoryState(msgspec.Struct):
    cards: dict[AgentId, Listed] = {}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody looks for. Every part that is not empty has to fit; capitals make no difference."""

    query: str = ""
    """Literal text that stands in the name, the role, the description, a tag or a skill; or the agent's id."""
    tag: str = ""
    skill: str = ""
    role: str = ""
    public: bool = False
    """Only public cards."""

    def fits(self, card: Listed) -> bool:
        """Whether this card is one of those."""
        if self.public and card.visibility != "public":
            return False
        if self.role and self.role.casefold() != card.role.casefold():
            return False
        if self.tag and self.tag.casefold() not in map(str.casefold, card.tags):
            return False
        if self.skill and self.skill.casefold() not in map(str.casefold, card.skills):
            return False
        query = self.query.casefold()
        texts = (card.name, card.role, card.description, *card.tags, *card.skills)
        return not query or self.query == card.agent or any(query in text.casefold() for text in texts)


class Directory(Facet[DirectoryState]):
    """Keeps cards."""

    __slots__ = ()

    def of(self, agent: AgentId) -> Listed | None:
        """The card of an agent that has one."""
        found = self.state.cards.get(agent)
        return None if found is None or found.visibility == "withdrawn" or not found.name else found

    def all(self) -> Iterator[Listed]:
        """Every card."""
        return (card for agent in self.state.cards if (card := self.of(agent)) is not None)

    def _publish(self, command: c.PublishCard, by: By, now: Millis, ids: Ids) -> Decision:
        card = command.card
        known = self.state.cards.get(card.agent)
        if known is not None and known.revision >= card.revision:
            return Decision(answer="stale")
        if command.most and card.visibility != "withdrawn":
            others = sum(each.principal == card.principal and each.agent != card.agent for each in self.all())
            if others >= command.most:
                raise Refused("too_many_cards", limit=command.most)
        published = e.CardPublished(
            agent=card.agent, principal=card.principal, visibility=card.visibility, revision=card.revision
        )
        return Decision((published,), authority="member", answer="published", statements=(card,))

    def _published(self, event: e.CardPublished, header: e.Header) -> None:
        self.state.cards[event.agent] = Listed(
            agent=event.agent,
            principal=event.principal,
            visibility=event.visibility,
            revision=event.revision,
            position=header.position,
            at=header.at,
        )

    def _read(self, event: e.CardPublished, body: bytes) -> None:
        known = self.state.cards.get(event.agent)
        if known is None or known.revision != event.revision:
            return
        try:
            card = check(body, AgentCard)
        except Refused:
            return
        known.name, known.role, known.description = card.name, card.role, card.description
        known.tags, known.skills = card.tags, card.skills
        known.direct = "open" if card.direct is msgspec.UNSET else card.direct

    def _sent_away(self, event: e.PersonKicked, header: e.Header) -> None:
        for card in [card for card in self.state.cards.values() if card.principal == event.principal]:
            card.visibility = "withdrawn"

    DECIDES = (decides(c.PublishCard, _publish),)
    APPLIES = (applies(e.CardPublished, _published), applies(e.PersonKicked, _sent_away))
    READS = (reads(e.CardPublished, _read),)
    TOUCHES = (touches(e.CardPublished, nobody),)
