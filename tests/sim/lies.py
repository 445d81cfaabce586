"""A relay that lies to one of the homes, and what becomes of it.

The relay's engine is honest, and somebody stands between it and the links of one home: they change what that home is
told of the room. They know everything that the relay knows, hold no key of a person or an agent, and where they leave
something out or tell it in another order they make lines and numbers agree with what that home was told before.

A lie is `impossible` where the home never takes it in as somebody's word and goes on, and `detected` where a mirror
says that its home contradicted itself: at once, or with the first message that crosses between those who were told
different things. Every lie that is not listed among what cannot be detected (docs/relay.md) is one of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from parlerd.core.envelope import Envelope, TextPart, decode_envelope, encode_envelope
from parlerd.core.model import PrincipalId, RoomId, Shown
from parlerd.core.public_line import next_line
from parlerd.engine.face import EngineFace
from parlerd.identity.signatures import SigningKey
from parlerd.operations import types as t
from tests.sim.broken import Broken
from tests.sim.people import Agent
from tests.sim.world import Plan, Simulation
from tests.support.faces import RetellingFace
from tests.support.relayed import Home

# Nobody comes: a home that found out a lie hears nothing more of the room, so whoever knocks there waits for ever.
STORY = Plan(acts=(), newcomers=0, homes=(3,), things=6, kills=0, storm=False, spells=0, reunions=0, partings=0)


class Liar:
    """Changes what one home is told. A subclass changes the messages of a page, or a card; the lines and numbers of
    what is told after that agree with what was told."""

    def __init__(self) -> None:
        self.victim = PrincipalId("")
        """The person whose home is lied to; nobody before the story begins."""
        self.has_lied = False
        self.agents: set[str] = set()
        """Who is in the room, as far as anybody was told."""
        self._told: Shown | None = None
        """Where the public line is that the victim can compute."""
        self._hidden = 0
        """How many messages the victim was not told of."""

    def messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        """The messages that are told in place of these."""
        return messages

    def card(self, card: t.Card) -> t.Card:
        return card

    def items(self, item: t.LinkItem) -> list[t.LinkItem]:
        """What is told in place of an item."""
        return [self.item(item)]

    def item(self, item: t.LinkItem) -> t.LinkItem:
        if item.card is not None:
            item = msgspec.structs.replace(item, card=self.card(item.card))
        page = item.page
        if page is None:
            return item
        told = self.messages(list(page.messages))
        if self._told is None and told == page.messages:
            return item
        if self._told is None:
            self._told = Shown(page.public, page.line)
        start, at = self._told, self._told
        for message in told:
            if _is_public(message):
                at = Shown(at.number + 1, next_line(at.line, sha256(message.body).digest()))
        self._told = at
        before = {agent: number - self._hidden for agent, number in page.before.items()}
        self._hidden += len(page.messages) - len(told)
        return msgspec.structs.replace(
            item,
            page=msgspec.structs.replace(page, public=start.number, line=start.line, before=before, messages=told),
        )


def _is_public(message: t.LinkMessage) -> bool:
    return decode_envelope(message.body).visibility is None


def _public(messages: list[t.LinkMessage]) -> list[int]:
    return [n for n, message in enumerate(messages) if _is_public(message)]


class Dropping(Liar):
    """Leaves out one public message."""

    def messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        if self.has_lied or not (at := _public(messages)):
            return messages
        self.has_lied = True
        return messages[: at[0]] + messages[at[0] + 1 :]


class Withholding(Liar):
    """Leaves out everything that one author says from now on."""

    author = ""

    def messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        if not self.author and (at := _public(messages)):
            self.author = messages[at[0]].agent
        kept = [message for message in messages if message.agent != self.author]
        self.has_lied |= len(kept) < len(messages)
        return kept


class Reordering(Liar):
    """Tells a public message after the next one of another author."""

    held: t.LinkMessage | None = None

    def messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        if self.held is not None:
            held, others = self.held, [n for n in _public(messages) if messages[n].agent != self.held.agent]
            if not others:
                return messages
            self.held, self.has_lied = None, True
            self._hidden += 1
            return [*messages[: others[0] + 1], held, *messages[others[0] + 1 :]]
        if self.has_lied or not (at := _public(messages)):
            return messages
        self.held = messages[at[-1]]
        return messages[: at[-1]] + messages[at[-1] + 1 :]


class Repeating(Liar):
    """Tells an old message again as a new one."""

    old: t.LinkMessage | None = None

    def messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        if self.old is None:
            self.old = messages[_public(messages)[0]] if _public(messages) else None
            return messages
        if self.has_lied or not messages:
            return messages
        self.has_lied = True
        return [*messages, self.old]


class Altering(Liar):
    """Puts other words into a message under its author's signature."""

    def messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        if self.has_lied or not messages:
            return messages
        self.has_lied = True
        envelope = decode_envelope(messages[0].body)
        other = msgspec.structs.replace(envelope, parts=(TextPart("something else"),))
        return [msgspec.structs.replace(messages[0], body=encode_envelope(other)), *messages[1:]]


class Swapping(Liar):
    """Tells the words and signature of one message as those of another author."""

    def messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        if self.has_lied or not messages:
            return messages
        self.has_lied = True
        other = min(self.agents - {messages[0].agent})
        return [msgspec.structs.replace(messages[0], agent=other), *messages[1:]]


class Inventing(Liar):
    """Tells a message that a key of the relay's own signed, of an agent that nobody let in."""

    key = SigningKey("agent", sha256(b"nobody").digest())

    def messages(self, messages: list[t.LinkMessage]) -> list[t.LinkMessage]:
        if self.has_lied or not messages:
            return messages
        self.has_lied = True
        real = decode_envelope(messages[-1].body)
        id = real.id + "x"
        fields = {name: getattr(real, name) for name in Envelope.__struct_fields__}
        fields |= {
            "id": id,
            "key": "k1",
            "parts": (TextPart("an order"),),
            "previous": b"",
            "reply_to": None,
            "hops": 0,
        }
        fields |= {"chain": f"c{id.removeprefix('m')}", "visibility": None, "to": ()}
        body = encode_envelope(Envelope(**fields))
        return [
            *messages,
            msgspec.structs.replace(
                messages[-1], agent=self.key.id, body=body, signature=self.key.sign("parler/message", body)
            ),
        ]


@dataclass
class Outcome:
    """What became of a lie."""

    has_lied: bool
    contradicted: list[RoomId] = field(default_factory=list)


class Between(RetellingFace):
    """Stands before the relay's engine."""

    def __init__(self, engine: EngineFace, liar: Liar) -> None:
        super().__init__(engine, self.lied)
        self._liar = liar

    def lied(self, principal: PrincipalId, item: t.LinkItem) -> list[t.LinkItem]:
        """What is told to the home of a person in the place of an item."""
        if item.card is not None:
            self._liar.agents.update(member.agent for member in item.card.members)
        return self._liar.items(item) if principal == self._liar.victim else [item]


class Lied(Simulation):
    """A story in calm weather, with a relay that lies to the last home."""

    def __init__(self, seed: int, liar: Liar, plan: Plan = STORY) -> None:
        super().__init__(seed, plan)
        self.liar = liar
        self.contradicted: list[RoomId] = []

    def _before(self, face: EngineFace) -> EngineFace:
        return Between(face, self.liar)

    def _met(self, homes: list[Home]) -> None:
        self.liar.victim = homes[-1].world.keys.principal

    async def _settle(self, agents: list[Agent]) -> None:
        """What was told apart crosses: everybody has read what there is, and says something to everybody."""
        await super()._settle(agents)
        for _ in range(2):
            for agent in agents:
                await agent.say(in_public=True)
            await super()._settle(agents)

    def _check(self, agents: list[Agent], contradicted: list[RoomId]) -> None:
        self.contradicted = contradicted
        # Whatever it told: nobody was shown words that their author did not say.
        said = {(said.author, said.text) for said in self.record.said}
        for reader, shown in self.record.shown.items():
            if invented := {each for each in shown if " says " in each[1] or each[1] in _INVENTED} - said:
                raise Broken(f"{reader} was shown {sorted(invented)}, which nobody said")
            mine = [each for each in shown if " says " in each[1]]
            if len(set(mine)) < len(mine):
                raise Broken(f"{reader} was shown something twice")


_INVENTED = ("something else", "an order")


def lie(seed: int, make: Callable[[], Liar], plan: Plan = STORY) -> Outcome:
    """Let a relay lie once, and see what becomes of it. Raises `Broken` where somebody was shown what nobody
    said."""
    story = Lied(seed, make(), plan)
    story.run()
    return Outcome(story.liar.has_lied, story.contradicted)
