"""What a relay could tell of a room beside its messages, and what becomes of it: members, names, keys, knocks,
decisions, the opening, numbers, other rooms.

Two newcomers knock: Nora is let in and says something, Dan is turned away. The relay's engine is honest, and somebody
tells one home something else. There are three classes, and no fourth:

    impossible   the home does not take it in, and goes on
    detected     the home's mirror says that the relay contradicted itself, by the named step
    unnoticed    the home takes it in: it is on the list of what cannot be found out (docs/relay.md), by the named words

Whatever is told, the home knows nothing wrong of a room but what its class allows: each member, handle, person, key,
knock and decision in the mirror is one that the room has. Above: the tests. Below: `lies`, `hostile`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import ClassVar, Final, Literal, TypeVar

import msgspec
import trio

from parlerd.core.errors import Refused
from parlerd.core.lifecycle import OLDER_COPY
from parlerd.core.model import AgentId, Position, PrincipalId, RequestId, RoomId
from parlerd.core.public_line import next_line
from parlerd.core.room import Room, RoomState
from parlerd.core.statements import DecisionStatement, KeyTerms, KnockStatement, Opening, check, encode
from parlerd.engine.face import EngineFace
from parlerd.engine.rooms import fold
from parlerd.identity.signatures import SigningKey
from parlerd.operations import types as t
from parlerd.store.port import Store
from tests.sim import promises
from tests.sim.broken import Broken
from tests.sim.hostile import Hostile
from tests.sim.lies import Between, Liar
from tests.sim.meeting import meeting
from tests.sim.people import Agent
from tests.support.engine import Party
from tests.support.relayed import Home

S = TypeVar("S", bound=msgspec.Struct)

Fate = Literal["impossible", "detected", "unnoticed"]
STEPS_S: Final = 5.0
"""Virtual seconds between two things that happen."""
GHOST: Final = SigningKey("agent", sha256(b"a ghost").digest())
GHOSTS_PERSON: Final = SigningKey("principal", sha256(b"the person of a ghost").digest())


class Tale(Liar):
    """Tells one home something else. Once, unless a subclass says otherwise."""

    fate: ClassVar[Fate]
    steps: ClassVar[frozenset[str]] = frozenset()
    """What the mirror says of a tale that is detected."""
    excused: ClassVar[frozenset[str]] = frozenset()
    """What of the room the home may have wrong, as `untruths` calls it, or not have."""
    listed: ClassVar[str] = ""
    """The words for it on the list of what cannot be found out."""
    to_owner: ClassVar[bool] = False
    """Whether the home of the room's owner is told, which hears of keys and knocks."""
    silences: ClassVar[bool] = False
    """Whether the home's agents can do nothing in the room any more."""

    story: Told

    def items(self, item: t.LinkItem) -> list[t.LinkItem]:
        if self.has_lied or (found := self.told(item)) is None:
            return [item]
        self.has_lied = True
        return found

    def told(self, item: t.LinkItem) -> list[t.LinkItem] | None:
        """What is told in place of an item; None for one that gives no occasion."""
        if item.card is None or (card := self.of_card(item.card)) is None:
            return None
        return [msgspec.structs.replace(item, card=card)]

    def of_card(self, card: t.Card) -> t.Card | None:
        return None


def _with(of: S, **fields: object) -> S:
    return msgspec.structs.replace(of, **fields)


# -- members -----------------------------------------------------------------------------------------------


def _ghost(**fields: object) -> t.MemberEntry:
    """An agent that the relay made up."""
    entry = t.MemberEntry(
        agent=GHOST.id,
        principal=GHOSTS_PERSON.id,
        handle="ghost",
        host="",
        role="",
        present=True,
        joined_at=1,
    )
    return _with(entry, **fields)


class OfMembers(Tale):
    """On the card that says that Nora came in."""

    def of_card(self, card: t.Card) -> t.Card | None:
        nora = [entry for entry in card.members if entry.agent == self.story.nora]
        if not nora:
            return None
        others = [entry for entry in card.members if entry.agent != self.story.nora]
        return _with(card, members=[*others, *self.of_nora(nora[0])])

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        """Nora's entry as it is told, with others."""
        raise NotImplementedError

    def _known(self, **fields: object) -> t.MemberEntry:
        """A member of another home, as it would be told again, but for these fields."""
        state = self.story.truth
        member = next(m for m in state.members.values() if m.principal not in (self.victim, self.story.noras_person))
        entry = t.MemberEntry(
            agent=member.agent,
            principal=member.principal,
            handle=member.handle,
            host=member.host,
            role=member.role,
            present=True,
            joined_at=member.joined_at,
        )
        return _with(entry, **fields)


class Ghost(OfMembers):
    """A member that never came in."""

    fate: ClassVar[Fate] = "impossible"

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        return [nora, _ghost()]


class GhostWithNorasPapers(OfMembers):
    """A member that never came in, with what shows how Nora did."""

    fate: ClassVar[Fate] = "impossible"

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        papers = {name: getattr(nora, name) for name in ("knock", "knock_signature", "proof", "proof_signature")}
        return [nora, _ghost(**papers)]


class GhostWithAKey(OfMembers):
    """A member that never came in, with a knock of its own and terms that nobody signed."""

    fate: ClassVar[Fate] = "impossible"

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        said = check(nora.knock, KnockStatement)
        knock = encode(_with(said, agent=AgentId(GHOST.id), principal=PrincipalId(GHOSTS_PERSON.id), name="ghost"))
        terms = encode(
            KeyTerms(
                home=said.home,
                room=said.room,
                ref=said.ref,
                gated=False,
                expires_at=said.at + 10_000_000,  # type: ignore[arg-type]
                max_uses=50,
                preapproved=(),
                nonce=bytes(16),
            )
        )
        signed = {"knock_signature": GHOST.sign("parler/knock", knock), "terms_signature": bytes(64)}
        return [nora, _ghost(knock=knock, terms=terms, **signed)]


class ForgedProof(OfMembers):
    """Nora, let in by a decision that somebody else signed."""

    fate: ClassVar[Fate] = "impossible"
    excused = frozenset({"withheld"})

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        return [_with(nora, proof_signature=GHOSTS_PERSON.sign("parler/decision", nora.proof))]


class OtherHandle(OfMembers):
    """Nora, under the name of another member."""

    fate: ClassVar[Fate] = "impossible"
    excused = frozenset({"withheld"})

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        return [_with(nora, handle=self._known().handle)]


class MovedHandle(OfMembers):
    """A member gets another name."""

    fate: ClassVar[Fate] = "detected"
    steps = frozenset({"handle"})

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        return [nora, self._known(handle="moved")]


class OtherPerson(OfMembers):
    """A member acts for another person than before."""

    fate: ClassVar[Fate] = "detected"
    steps = frozenset({"member"})

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        return [nora, self._known(principal=GHOSTS_PERSON.id)]


class Withheld(OfMembers):
    """Nobody came in."""

    fate: ClassVar[Fate] = "unnoticed"
    excused = frozenset({"withheld"})
    listed = "hold back that somebody came in"

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        return []


class PutOut(OfMembers):
    """A member left that is still there."""

    fate: ClassVar[Fate] = "unnoticed"
    excused = frozenset({"present"})
    listed = "say that somebody left"

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        return [nora, self._known(present=False)]


# -- the room ----------------------------------------------------------------------------------------------


class OtherOpening(OfMembers):
    """The room has another policy than the one that its person signed."""

    fate: ClassVar[Fate] = "detected"
    steps = frozenset({"opening"})
    excused = frozenset({"withheld"})

    def of_card(self, card: t.Card) -> t.Card | None:
        if super().of_card(card) is None:
            return None
        opening = check(self.story.opening, Opening)
        other = encode(_with(opening, approval=False))
        return _with(card, opening=other, opening_signature=GHOSTS_PERSON.sign("parler/opening", other))

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        return [nora]


class OtherOwner(OtherOpening):
    """The room has another owner."""

    def of_card(self, card: t.Card) -> t.Card | None:
        if OfMembers.of_card(self, card) is None:
            return None
        opening = check(self.story.opening, Opening)
        other = encode(_with(opening, owner=AgentId(GHOST.id), principal=PrincipalId(GHOSTS_PERSON.id)))
        return _with(card, opening=other, opening_signature=GHOSTS_PERSON.sign("parler/opening", other))


class OtherTitle(OtherOpening):
    """The room has another name."""

    fate: ClassVar[Fate] = "impossible"
    steps = frozenset()
    excused = frozenset()

    def of_card(self, card: t.Card) -> t.Card | None:
        if OfMembers.of_card(self, card) is None:
            return None
        return _with(card, title=msgspec.msgpack.encode({"salt": bytes(16), "name": "other", "topic": "other"}))


class Closed(OtherOpening):
    """The room is closed."""

    fate: ClassVar[Fate] = "unnoticed"
    steps = frozenset()
    excused = frozenset({"closed", "key revoked"})
    listed = "that a session is over"
    silences = True

    def of_card(self, card: t.Card) -> t.Card | None:
        return None if OfMembers.of_card(self, card) is None else _with(card, closed=True)


class AnotherRoom(OfMembers):
    """What is said of this room is said of a room of the home's own machine."""

    fate: ClassVar[Fate] = "impossible"

    def told(self, item: t.LinkItem) -> list[t.LinkItem] | None:
        if item.page is None or not item.page.messages:
            return None
        return [_with(item, room=room) for room in (*self.story.own_rooms, "home")] + [item]

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        return [nora]


class ForgedRewind(OfMembers):
    """The room goes on from before: nobody signed that."""

    fate: ClassVar[Fate] = "detected"
    steps = frozenset({"rewind"})

    def told(self, item: t.LinkItem) -> list[t.LinkItem] | None:
        if item.page is None or not item.page.messages:
            return None
        rewound = t.RewindEntry(statement=b"go back", signature=bytes(64), before=dict(item.page.before))
        return [t.LinkItem(room=item.room, rewound=rewound), item]

    def of_nora(self, nora: t.MemberEntry) -> list[t.MemberEntry]:
        return [nora]


# -- keys, knocks and decisions ----------------------------------------------------------------------------


class OfDan(Tale):
    """On the card that says what the owner's person decided of Dan."""

    fate: ClassVar[Fate] = "impossible"
    to_owner = True

    def of_card(self, card: t.Card) -> t.Card | None:
        dan = [entry for entry in card.requests if entry.agent == self.story.dan and entry.state == "denied"]
        if not dan:
            return None
        others = [entry for entry in card.requests if entry is not dan[0]]
        return _with(card, requests=[*others, *self.of_dan(dan[0])])

    def of_dan(self, dan: t.RequestEntry) -> list[t.RequestEntry]:
        raise NotImplementedError

    @staticmethod
    def _admission(dan: t.RequestEntry, **fields: object) -> bytes:
        """A decision that lets Dan in, but for these fields."""
        denied = check(dan.decision, DecisionStatement)
        return encode(_with(denied, **{"admit": True, "handle": dan.name, **fields}))


class ForgedDecision(OfDan):
    """Somebody else signed that Dan comes in."""

    excused = frozenset({"undecided"})

    def of_dan(self, dan: t.RequestEntry) -> list[t.RequestEntry]:
        decision = self._admission(dan)
        signature = GHOSTS_PERSON.sign("parler/decision", decision)
        return [_with(dan, state="approved", decision=decision, decision_signature=signature)]


class ForeignDecision(OfDan):
    """The person did let Dan in, into another room."""

    excused = frozenset({"undecided"})

    def of_dan(self, dan: t.RequestEntry) -> list[t.RequestEntry]:
        decision = self._admission(dan, room="r_another")
        signature = self.story.sign_as_owner(decision)
        return [_with(dan, state="approved", decision=decision, decision_signature=signature)]


class ReplayedDecision(OfDan):
    """The person did let Dan in, when Dan knocked another time."""

    excused = frozenset({"undecided"})

    def of_dan(self, dan: t.RequestEntry) -> list[t.RequestEntry]:
        decision = self._admission(dan, request="q_before")
        signature = self.story.sign_as_owner(decision)
        return [_with(dan, state="approved", decision=decision, decision_signature=signature)]


class SwappedDecision(OfDan):
    """Dan was let in, by what turned Dan away."""

    excused = frozenset({"undecided"})

    def of_dan(self, dan: t.RequestEntry) -> list[t.RequestEntry]:
        return [_with(dan, state="approved")]


class ForgedKnock(OfDan):
    """A member's agent knocks, which it never did."""

    def of_dan(self, dan: t.RequestEntry) -> list[t.RequestEntry]:
        return [dan, _with(dan, request="q_forged", agent=self.story.nora, state="pending", decision=b"")]


class SwappedKnock(OfDan):
    """Somebody of the relay's own knocks, under Dan's name."""

    fate: ClassVar[Fate] = "unnoticed"
    excused = frozenset({"request"})
    listed = "put an accomplice's knock in the place of a newcomer's"

    def of_dan(self, dan: t.RequestEntry) -> list[t.RequestEntry]:
        said = check(dan.knock, KnockStatement)
        knock = encode(_with(said, agent=AgentId(GHOST.id), principal=PrincipalId(GHOSTS_PERSON.id)))
        other = _with(
            dan,
            request="q_swapped",
            agent=GHOST.id,
            principal=GHOSTS_PERSON.id,
            state="pending",
            knock=knock,
            knock_signature=GHOST.sign("parler/knock", knock),
            decision=b"",
            decision_signature=b"",
        )
        return [dan, other]


class ForgedKey(OfDan):
    """The room has a key that asks nobody."""

    def of_card(self, card: t.Card) -> t.Card | None:
        if super().of_card(card) is None:
            return None
        said = check(self.story.knock, KnockStatement)
        terms = encode(
            KeyTerms(
                home=said.home,
                room=said.room,
                ref="k_forged",
                gated=False,
                expires_at=said.at + 10_000_000,  # type: ignore[arg-type]
                max_uses=50,
                preapproved=(),
                nonce=bytes(16),
            )
        )
        signature = GHOSTS_PERSON.sign("parler/key", terms)
        key = t.KeyEntry(ref="k_forged", terms=terms, terms_signature=signature, revoked=False, users=[GHOST.id])
        return _with(card, keys=[*card.keys, key])

    def of_dan(self, dan: t.RequestEntry) -> list[t.RequestEntry]:
        return [dan]


class RevokedKey(ForgedKey):
    """The room's key is no good any more."""

    fate: ClassVar[Fate] = "unnoticed"
    excused = frozenset({"key revoked"})
    listed = "that a key was revoked"

    def of_card(self, card: t.Card) -> t.Card | None:
        if OfDan.of_card(self, card) is None:
            return None
        [key] = self.story.truth.keys.values()
        told = t.KeyEntry(ref=key.ref, terms=b"", terms_signature=b"", revoked=True, users=[])
        return _with(card, keys=[told])


# -- numbers -----------------------------------------------------------------------------------------------


class OfNumbers(Tale):
    def told(self, item: t.LinkItem) -> list[t.LinkItem] | None:
        page = item.page
        if page is None or not page.messages or not page.before:
            return None
        return self.of_page(item, page)

    def of_page(self, item: t.LinkItem, page: t.LinkPage) -> list[t.LinkItem] | None:
        raise NotImplementedError


class NumbersAhead(OfNumbers):
    """The reader may see messages that do not exist."""

    fate: ClassVar[Fate] = "unnoticed"
    listed = "count messages that it does not tell"

    def items(self, item: t.LinkItem) -> list[t.LinkItem]:
        if item.page is None:
            return [item]
        self.has_lied = True
        before = {agent: number + 3 for agent, number in item.page.before.items()}
        return [_with(item, page=_with(item.page, before=before))]


class NumbersBehind(OfNumbers):
    """The reader may see fewer messages than it was told of."""

    fate: ClassVar[Fate] = "detected"
    steps = frozenset({OLDER_COPY})

    def of_page(self, item: t.LinkItem, page: t.LinkPage) -> list[t.LinkItem]:
        before = {agent: number - 1 for agent, number in page.before.items()}
        end = _with(page, before=before, messages=[])
        return [t.LinkItem(room=item.room, page=end, level=True), item]


class Jumped(OfNumbers):
    """Public messages were left out that do not exist."""

    fate: ClassVar[Fate] = "detected"
    steps = frozenset({"line", "fork", "shown"})

    def of_page(self, item: t.LinkItem, page: t.LinkPage) -> list[t.LinkItem]:
        line = page.line
        for _ in range(5):
            line = next_line(line, bytes(32))
        return [_with(item, page=_with(page, public=page.public + 5, line=line, jumped=True))]


TALES: Final[tuple[type[Tale], ...]] = (
    Ghost,
    GhostWithNorasPapers,
    GhostWithAKey,
    ForgedProof,
    OtherHandle,
    MovedHandle,
    OtherPerson,
    Withheld,
    PutOut,
    OtherOpening,
    OtherOwner,
    OtherTitle,
    Closed,
    AnotherRoom,
    ForgedRewind,
    ForgedDecision,
    ForeignDecision,
    ReplayedDecision,
    SwappedDecision,
    ForgedKnock,
    SwappedKnock,
    ForgedKey,
    RevokedKey,
    NumbersAhead,
    NumbersBehind,
    Jumped,
)


class Told(Hostile):
    """The story in which a tale is told."""

    def __init__(self, seed: int, tale: Tale) -> None:
        super().__init__(seed)
        self.tale = tale
        tale.story = self
        self.nora = self.dan = ""
        """The agents that knock."""
        self.noras_person = ""
        self.opening = self.knock = b""
        """What opened the room, and Nora's knock."""
        self.own_rooms: list[RoomId] = []
        """Rooms of the machine of the home that is lied to."""

    def _before(self, face: EngineFace) -> EngineFace:
        return Between(face, self.tale)

    @property
    def room(self) -> RoomId:
        return RoomId(meeting(self.crowd).room)

    @property
    def truth(self) -> RoomState:
        """The room as it is."""
        return _state(self.relay.store, self.room)

    @property
    def mirror(self) -> RoomState:
        """The room as the home has it that is lied to."""
        return _state(self.victim.world.store, self.room)

    @property
    def victim(self) -> Home:
        return self.homes[0 if self.tale.to_owner else -1]

    def sign_as_owner(self, decision: bytes) -> bytes:
        """What the owner's person signed at another time."""
        keys = self.homes[0].world.keys
        return keys.sign(keys.principal, "parler/decision", decision)

    async def intrude(self, agents: list[Agent]) -> None:
        theirs = [agent for agent in agents if agent.name.startswith(self.victim.name)]
        for agent in theirs:
            await agent.stay_here()
        self.own_rooms = [room for room in self.victim.world.store.rooms() if room not in ("home", self.room)]
        own = {room: self.victim.world.store.head(room) for room in self.own_rooms}
        nora, dan = await self.newcomer("nora", 86_400.0), await self.newcomer("dan", 86_400.0)
        self.nora, self.dan = nora.person.agent("nora"), dan.person.agent("dan")
        self.noras_person = nora.person.principal
        self.opening = (await nora.find(self.key)).opening
        self.tale.victim = self.victim.world.keys.principal

        async def decide(owner: Party) -> None:
            await owner.approve(self.nora, room=self.room)
            await owner.deny(self.dan, room=self.room)

        [asked] = [each for each in self.truth.requests.values() if each.agent == self.nora]
        stored = self.relay.store.body(self.room, Position(asked.position))
        assert stored is not None
        self.knock = stored[0]
        try:
            await agents[0].ask(decide)
        except Refused as error:
            # The owner's own home would not have what it was told.
            if error.code not in ("home_unreachable", "relay_equivocation"):
                raise
        for _ in range(2):
            await trio.sleep(STEPS_S)
            if self.tale.silences and self.tale.has_lied:
                self.record.left |= {agent.name for agent in theirs}
            await nora.post("nora", self.room, "glad to be here")
            for agent in agents:
                if agent.name not in self.record.left:
                    await agent.say(in_public=True)
            await self._settle(agents)
        if any(self.victim.world.store.head(room) != head for room, head in own.items()):
            raise Broken("a relay wrote into a room that is none of its own")

    def _check(self, agents: list[Agent], contradicted: list[RoomId]) -> None:
        tale, mirror = self.tale, self.mirror
        if not tale.has_lied:
            return
        found = untruths(mirror, self.truth)
        fate: Fate = "detected" if mirror.contradicted else "unnoticed" if found else "impossible"
        if tale.fate == "unnoticed" and fate == "impossible" and not tale.excused:
            fate = "unnoticed"  # what the home has wrong is no part of the room
        if fate != tale.fate and not (tale.fate == "impossible" and not mirror.contradicted):
            raise Broken(f"{_name(tale)} is {fate} ({mirror.contradicted or sorted(found)})")
        if wrong := found - tale.excused:
            raise Broken(f"a home was made to believe in {sorted(wrong)} by {_name(tale)}")
        if fate == "detected" and mirror.contradicted not in tale.steps:
            raise Broken(f"{_name(tale)} was found out by {mirror.contradicted!r}")
        if fate != "detected":
            names = [agent.name for agent in agents]
            promises.nothing_is_lost_or_doubled(self.record, names)
            promises.order_is_kept(self.record, names)


def _name(tale: Tale) -> str:
    return type(tale).__name__


def _state(store: Store, room: RoomId) -> RoomState:
    return fold(store, room, Room, Room.restore)[0].state


def untruths(mirror: RoomState, truth: RoomState) -> set[str]:
    """What a mirror has otherwise than the room is, in a word each."""
    found = set()
    for agent, member in mirror.members.items():
        real = truth.members.get(agent)
        if real is None or (real.principal, real.handle) != (member.principal, member.handle):
            found.add("member")
        elif real.present != member.present:
            found.add("present")
    if truth.members.keys() - mirror.members.keys():
        found.add("withheld")
    for id, request in mirror.requests.items():
        asked = truth.requests.get(RequestId(id))
        if asked is None or (asked.agent, asked.principal, asked.name) != (
            request.agent,
            request.principal,
            request.name,
        ):
            found.add("request")
        elif request.state != asked.state:
            found.add("undecided" if request.state == "pending" else "decision")
    keys = {key.ref: key for key in truth.keys.values()}
    for key in mirror.keys.values():
        known = keys.get(key.ref)
        if known is None or (known.gated, known.max_uses, known.preapproved) != (
            key.gated,
            key.max_uses,
            key.preapproved,
        ):
            found.add("key")
        elif known.revoked != key.revoked:
            found.add("key revoked")
    for what in ("owner", "owner_principal", "name", "topic", "home", "closed"):
        if getattr(mirror, what) != getattr(truth, what):
            found.add(what)
    return found
