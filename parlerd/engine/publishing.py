"""Cards on their way to the directories of relays: sent at once, and where a relay is away, sent when it answers.

    register --> the card of this home's own directory --> signed for the relay --> sent
                                       ^                                         `--> owed: kept with the relay
                                       `-------------- the link is there again <-----'

What is owed is that the card there is to be the one here, and not any certain card. So the newest wins by itself: what
leaves is always made of what this home's directory says at that moment.

Not here: what a card says (`directory`), where it is kept what is owed (the port `Homes`). Above: `directory`, and the
link to each relay. Below: the desk. Invariant: a card is sent again only where the relay did not answer; what it
refused waits for the agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from parlerd.core.directory import Listed
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import HOME_ROOM, AgentId, By, CardVisibility, DirectRule, HomeId
from parlerd.core.statements import NONCE, AgentCard, check_fields
from parlerd.engine.authors import LocalAuthor
from parlerd.engine.desk import Desk
from parlerd.operations import types as t

AWAY: Final = ("offline", "home_unreachable")
"""Why a card is sent again by itself."""


@dataclass(frozen=True, slots=True)
class Said:
    """What an agent wants its card to say."""

    role: str
    tags: tuple[str, ...]
    skills: tuple[str, ...]
    description: str
    visibility: CardVisibility
    direct: DirectRule = "open"


def said_by(card: Listed) -> Said:
    """What a card says."""
    return Said(card.role, card.tags, card.skills, card.description, card.visibility, card.direct)


class Publishing:
    """Sends the cards of this home's agents. `author` signs for them."""

    def __init__(self, desk: Desk, author: LocalAuthor) -> None:
        self._desk = desk
        self._author = author

    def card(self, me: AgentRecord, said: Said, home: HomeId, revision: int) -> AgentCard:
        """A card for the directory of a home, later than the one with this revision, without its nonce. Raises
        `Refused(invalid_param)` for what cannot stand on a card."""
        now = self._desk.clock.now()
        card = AgentCard(
            home=home,
            agent=me.id,
            principal=me.principal,
            name=me.name,
            role=said.role,
            tags=said.tags,
            skills=said.skills,
            description=said.description,
            visibility=said.visibility,
            direct=msgspec.UNSET if said.direct == "open" else said.direct,
            # By the clock, so that a home which was restored from an older copy goes on above its later cards.
            revision=max(revision + 1, now),
            at=now,
            nonce=b"",
        )
        try:
            check_fields(msgspec.structs.replace(card, nonce=bytes(NONCE)))
        except Refused as error:
            what = str(error.details.get("what", ""))
            raise Refused("invalid_param", _RULES.get(what), param=what) from None
        return card

    async def send(self, me: AgentRecord, said: Said, home: HomeId) -> t.CardAt:
        """Put the card of an agent into the directory of a relay, or keep that it is owed. What keeps it from there is
        no error of the whole: the card stands in this home's directory by then."""
        homes = self._desk.homes
        code = await self._sent(me, said, home)
        if not code:
            homes.card_sent(home, me.id)
            return t.CardAt(home=homes.name_of(home), status="published")
        is_owed = code in AWAY
        try:
            homes.owe_card(home, me.id, "" if is_owed else code)
        except ParlerError as error:
            # Nothing would send it again.
            is_owed, code = False, error.code
        return t.CardAt(home=homes.name_of(home), status="pending" if is_owed else "failed", code=code)

    async def send_owed(self, home: HomeId) -> None:
        """Send every card that a relay is owed, now that it answers."""
        homes, state = self._desk.homes, self._desk.rooms.home.aggregate.state
        for agent, refusal in list(homes.owed_cards(home).items()):
            known, card = state.agents.get(agent), state.directory.cards.get(agent)
            if refusal:
                continue
            if known is None or card is None:
                homes.card_sent(home, agent)
                continue
            if (await self.send(known, said_by(card), home)).status == "pending":
                return

    def pending(self, agent: AgentId) -> list[t.CardAt]:
        """The relays at which the card of an agent is not yet as it is here, and why."""
        homes = self._desk.homes
        owed = [(homes.name_of(home), homes.owed_cards(home).get(agent)) for home in homes.all()]
        return [
            t.CardAt(home=name, status="failed" if code else "pending", code=code)
            for name, code in owed
            if code is not None
        ]

    async def _sent(self, me: AgentRecord, said: Said, home: HomeId) -> str:
        """Send the card that this home's directory has by then; the code of what keeps it from there, or nothing."""
        by = By(me.id, me.principal, HOME_ROOM, HOME_ROOM, "cli")
        revision = 0
        try:
            while True:
                newest = self._desk.rooms.home.aggregate.state.directory.cards.get(me.id)
                card = self.card(me, said if newest is None else said_by(newest), home, revision)
                signed = self._author.attest(card, by)
                kept = await self._desk.homes.publish(home, me.id, signed.body, signed.signature)
                if kept.status == "published":
                    return ""
                if kept.revision < card.revision:
                    # A relay that names no later card than this one would have us try for ever.
                    return "relay_refused"
                revision = kept.revision
        except ParlerError as error:
            return error.code


_RULES: Final = {
    "tags": "Tags are labels of letters, digits and . _ @ # / -, each once.",
    "skills": "Skills are labels of letters, digits and . _ @ # / -, each once.",
    "role": "A role is a label of letters, digits and . _ @ # / -, and no word such as owner or person.",
}
