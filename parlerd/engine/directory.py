"""The directory: the handlers of `directory.register`, `directory.discover` and `directory.card`, and of `link.publish`
and `link.discover`, by which the agents of other homes stand in this one's directory.

A card that is private is shown to whoever shares a room with its agent. To a caller that there are only certain rooms
for, every card is shown like that, by those rooms alone, and such a caller publishes none. The person at their own
shell sees the cards of all their agents. A relay's word on who has a card is checked by the card's signature, and what
a relay leaves out nobody can see: an answer names the homes that did not answer.

Not here: what a card says and which one counts (`core.directory`), how another home is asked (the port `Homes`). Above:
the engine. Below: the desk. Invariants: a card is shown only to who may see it, and only as its agent signed it; no
look into the directory waits longer for another home than `Homes.discover` does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Final, cast

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core.directory import Listed, Wanted
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.home import HomeRoom
from parlerd.core.identities import AgentRecord
from parlerd.core.model import HOME_ROOM, MAX_LABEL, AgentId, HomeId, PeerText, RoomId
from parlerd.core.statements import AgentCard, check, encode
from parlerd.engine.authors import Admission, Attested, LocalAuthor
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import LOCAL
from parlerd.engine.handling import handles
from parlerd.engine.person import is_person
from parlerd.engine.publishing import Publishing, Said, said_by
from parlerd.engine.reachable import require_attached, stamp
from parlerd.engine.rooms import pause_among
from parlerd.identity.codes import fingerprint
from parlerd.identity.signatures import verify
from parlerd.operations import types as t

MOST_OF_PERSON: Final = 200
"""How many agents of one person of another home may have a card here."""
_OFFLINE: Final = "offline"


class DirectoryHandlers:
    """The handlers about cards. `author` signs for this home's agents."""

    def __init__(self, desk: Desk, author: LocalAuthor) -> None:
        self._desk = desk
        self._publishing = Publishing(desk, author)
        self._admission = Admission()

    @property
    def _home(self) -> HomeRoom:
        return self._desk.rooms.home.aggregate

    # -- one's own card ------------------------------------------------------------------------------------

    @handles("directory.register")
    async def register(self, caller: Caller, params: t.Register) -> t.Registered:
        desk = self._desk
        if _is_within(caller):
            raise Refused("not_permitted", "A card is about an agent in all its rooms.")
        me = await desk.me(caller)
        elsewhere = self._elsewhere(params.home)
        said = _merged(params, self._home.card_of(me.id))
        homes = [await self._keep(caller, me, said)]
        if elsewhere is not None:
            homes.append(await self._publishing.send(me, said, elsewhere))
        card = self._home.card_of(me.id)
        shown = None if card is None else self._shown(card)
        return t.Registered(name=me.name, agent=shown, homes=homes)

    def _elsewhere(self, wanted: str | None) -> HomeId | None:
        """The relay in whose directory a card is to stand besides. Raises `Refused(home_not_trusted)`."""
        if wanted is None:
            return self._desk.homes.default
        return None if wanted == LOCAL else self._desk.homes.named(wanted)

    async def _keep(self, caller: Caller, me: AgentRecord, said: Said) -> t.CardAt:
        """Put a card into this home's directory."""
        desk = self._desk
        while True:
            known = self._home.card_of(me.id)
            if (known is None and said.visibility == "withdrawn") or (known is not None and said_by(known) == said):
                return t.CardAt(home=LOCAL, status="unchanged")
            newest = self._home.state.directory.cards.get(me.id)
            revision = 0 if newest is None else newest.revision
            card = self._publishing.card(me, said, HomeId(desk.keys.id), revision)
            await desk.quotas.take(me.id, bytes=len(encode(card)))
            command = c.PublishCard(operation="directory.register", card=card)
            settled = await desk.rooms.home.submit(command, desk.by(caller, me))
            if settled.decision.answer == "published":
                return t.CardAt(home=LOCAL, status="published")

    # -- looking -------------------------------------------------------------------------------------------

    @handles("directory.discover")
    async def discover(self, caller: Caller, params: t.Discover) -> t.FoundAgents:
        desk = self._desk
        me = await desk.me(caller)
        only = None if params.home is None or params.home == LOCAL else desk.homes.named(params.home)
        found: dict[str, t.FoundAgent] = {}
        more = False
        if only is None:
            mine = self._seen(caller, me, _wanted(params))
            cards, more = self._best([card async for card in mine if card.agent != me.id], params)
            found = {card.agent: self._shown(card) for card in cards}
        silent: list[str] = []
        if params.home != LOCAL and not _is_within(caller):
            async with trio.open_nursery() as nursery:
                for home in desk.homes.all() if only is None else [only]:
                    nursery.start_soon(self._ask, home, me, params, found, silent)
        agents = sorted(found.values(), key=_first)
        more = more or len(agents) > params.limit
        return t.FoundAgents(agents=agents[: params.limit], more=more, silent=sorted(silent))

    async def _ask(
        self, home: HomeId, me: AgentRecord, params: t.Discover, found: dict[str, t.FoundAgent], silent: list[str]
    ) -> None:
        """Add whom another home knows."""
        desk = self._desk
        name = desk.homes.name_of(home)
        wanted = t.FindCards(agent=me.id, **{field: getattr(params, field) for field in _ASKED})
        try:
            page = await desk.homes.discover(home, wanted)
        except ParlerError:
            silent.append(name)
            return
        for entry in page.cards:
            card = _proved(entry, home)
            if card is None or card.agent == me.id or card.agent in found:
                continue
            found[card.agent] = _found(
                card, status=entry.presence, since=entry.since, home=name, stated=entry.stated or None
            )

    @handles("directory.card")
    async def card(self, caller: Caller, params: t.ShowCard) -> t.FoundAgent:
        desk = self._desk
        me = await desk.me(caller)
        if params.agent is None or params.agent in (me.id, me.name):
            own = self._home.card_of(me.id)
            if own is None:
                raise Refused("no_card", "You have no card yet.", hint="To make one: parler register --tag TAG")
            pending = self._publishing.pending(me.id)
            return msgspec.structs.replace(self._shown(own), pending=pending or msgspec.UNSET)
        wanted = params.agent
        mine = await self.seen_here(caller, me, wanted)
        found: dict[str, t.FoundAgent] = {card.agent: self._shown(card) for card in mine}
        silent: list[str] = []
        if wanted not in found and not _is_within(caller):
            # The same name may mean somebody else at another home.
            elsewhere, silent = await self.seen_elsewhere(me, wanted)
            found = {**{agent.id: agent for agent in elsewhere}, **found}
        if not found:
            raise Refused("no_card", hint=_UNHEARD if silent else None)
        if len(found) > 1:
            candidates = [f"{agent.id} ({agent.name}, {agent.home})" for agent in found.values()]
            raise Refused("ambiguous_name", candidates=candidates)
        return next(iter(found.values()))

    # -- for other homes -----------------------------------------------------------------------------------

    @handles("link.publish")
    async def publish(self, caller: Caller, params: t.PublishCard) -> t.CardKept:
        desk = self._desk
        agent = require_attached(desk, caller, params.agent)
        by = stamp(caller, agent)
        signed = Attested(params.card, params.signature)
        command, words = self._admission.publish(by, signed, home=HomeId(desk.keys.id), most=MOST_OF_PERSON)
        await desk.quotas.take(agent, bytes=len(params.card), person=by.principal)
        settled = await desk.rooms.home.submit(command, by, words)
        newest = self._home.state.directory.cards[agent]
        is_published = settled.decision.answer == "published"
        return t.CardKept(status="published" if is_published else "stale", revision=newest.revision)

    @handles("link.discover")
    async def find(self, caller: Caller, params: t.FindCards) -> t.CardPage:
        desk = self._desk
        agent = require_attached(desk, caller, params.agent)
        fitting = list(filter(_wanted(params).fits, self._home.cards()))
        hidden = {card.agent for card in fitting if card.visibility == "private" and card.agent != agent}
        cards, more = self._best([card async for card in self._visible(fitting, hidden, agent)], params)
        bodies = await desk.library.bodies(RoomId(HOME_ROOM), [card.position for card in cards])
        entries = []
        for card in cards:
            signed = bodies.get(card.position)
            if signed is None:
                continue
            presence, since = desk.presence.of(card.agent)
            entries.append(
                t.CardEntry(
                    card=signed.body,
                    signature=signed.signature,
                    presence=cast(Any, presence),
                    since=since,
                    stated=desk.presence.stated(card.agent) or msgspec.UNSET,
                )
            )
        return t.CardPage(cards=entries, more=more)

    async def seen_here(self, caller: Caller, me: AgentRecord, who: str) -> list[Listed]:
        """The cards of this home that the caller may see and whose agent has this name or id."""
        return [card async for card in self._seen(caller, me, Wanted(query=who)) if who in (card.agent, card.name)]

    async def seen_elsewhere(self, me: AgentRecord, who: str) -> tuple[list[t.FoundAgent], list[str]]:
        """The agents of this name or id whose cards the agent sees at relays, each as often as relays show it, and
        which relays did not answer."""
        found: dict[HomeId, dict[str, t.FoundAgent]] = {home: {} for home in self._desk.homes.all()}
        silent: list[str] = []
        everywhere = t.Discover(query=who[:MAX_LABEL], limit=t.MAX_FOUND)
        async with trio.open_nursery() as nursery:
            for home, there in found.items():
                nursery.start_soon(self._ask, home, me, everywhere, there, silent)
        agents = [agent for there in found.values() for agent in there.values() if who in (agent.id, agent.name)]
        return agents, silent

    # -- what may be seen ----------------------------------------------------------------------------------

    def _seen(self, caller: Caller, me: AgentRecord, wanted: Wanted) -> AsyncIterator[Listed]:
        """The cards that fit and that a caller of this home may see."""
        fitting = list(filter(wanted.fits, self._home.cards()))
        hidden = {card.agent for card in fitting if card.visibility == "private" or _is_within(caller)}
        if is_person(caller):
            hidden -= {card.agent for card in fitting if card.principal == me.principal}
        return self._visible(fitting, hidden - {me.id}, me.id)

    async def _visible(
        self, fitting: Sequence[Listed], hidden: Collection[AgentId], eyes: AgentId
    ) -> AsyncIterator[Listed]:
        """These cards, without those of the `hidden` agents that share no room with `eyes`."""
        if hidden:
            rooms = await self._desk.library.rooms_of([eyes, *hidden])
            own = set(rooms[eyes])
            hidden = {agent for agent in hidden if own.isdisjoint(rooms[agent])}
        for number, card in enumerate(fitting, 1):
            await pause_among(number)
            if card.agent not in hidden:
                yield card

    def _best(self, cards: Sequence[Listed], params: t.Discover | t.FindCards) -> tuple[list[Listed], bool]:
        """As many of these as are asked for, whoever is present first, and whether there are others."""
        presence = {card.agent: self._desk.presence.of(card.agent)[0] for card in cards}
        chosen = [card for card in cards if not params.online or presence[card.agent] != _OFFLINE]
        chosen.sort(key=lambda card: (presence[card.agent] == _OFFLINE, card.name, card.agent))
        return chosen[: params.limit], len(chosen) > params.limit

    def _shown(self, card: Listed) -> t.FoundAgent:
        """A card of this home's own directory: its signature was checked when it came in, and the audit checks it
        again."""
        status, since = self._desk.presence.of(card.agent)
        stated = self._desk.presence.stated(card.agent)
        return _found(card, status=status, since=since, home=LOCAL, stated=stated)


def _found(
    card: Listed | AgentCard, *, status: str, since: int, home: str, stated: t.StatedStatus | None
) -> t.FoundAgent:
    """An agent by its card, whose signature was checked."""
    return t.FoundAgent(
        id=card.agent,
        name=card.name,
        role=card.role,
        tags=list(card.tags),
        skills=list(card.skills),
        description=PeerText(card.description),
        status=status,
        since=since,
        verified="valid",
        visibility=card.visibility,
        home=home,
        fingerprint=fingerprint(card.agent),
        direct="ask" if card.direct == "ask" else "open",
        stated=stated or msgspec.UNSET,
    )


_ASKED: Final = ("query", "tag", "skill", "role", "online", "public", "limit")
"""What a search asks of another home as it asks this one."""
_UNHEARD: Final = "Not every relay answered; try again when all are reached. `parler homes` shows how each is."


def _is_within(caller: Caller) -> bool:
    """Whether there are only certain rooms for this caller."""
    return caller.facts.authority.rooms is not None


def _merged(params: t.Register, known: Listed | None) -> Said:
    """What a card is to say: what is given now, and else what it said. A card begins private."""
    before = Said("", (), (), "", "private") if known is None else said_by(known)
    return Said(
        role=before.role if params.role is None else params.role,
        tags=before.tags if params.tags is None else params.tags,
        skills=before.skills if params.skills is None else params.skills,
        description=before.description if params.description is None else params.description,
        visibility=before.visibility if params.visibility is None else params.visibility,
        direct=before.direct if params.direct is None else params.direct,
    )


def _wanted(params: t.Discover | t.FindCards) -> Wanted:
    return Wanted(query=params.query, tag=params.tag, skill=params.skill, role=params.role, public=params.public)


def _proved(entry: t.CardEntry, home: HomeId) -> AgentCard | None:
    """A card that another home told, if its agent signed it for that home's directory."""
    try:
        card = check(entry.card, AgentCard)
    except Refused:
        return None
    is_signed = verify(card.agent, AgentCard.TAG, entry.card, entry.signature)
    return card if is_signed and card.home == home and card.visibility != "withdrawn" else None


def _first(agent: t.FoundAgent) -> tuple[bool, str, str]:
    return agent.status == _OFFLINE, agent.name, agent.id
