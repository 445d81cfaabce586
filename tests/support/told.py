"""The mirror of one room, kept by what a home told, and a home with something of everything to tell."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from parlerd.core import events as e
from parlerd.core.envelope import UNSIGNED, DataPart, TextPart, decode_envelope
from parlerd.core.model import By, KeyId, MessageId, Millis, Position, PrincipalId
from parlerd.core.room import Room
from parlerd.core.statements import KeyTerms, Opening, check
from parlerd.operations import types as t
from parlerd.store.port import NewFact
from parlerd.uplink.arriving.hearing import Began, Grounds, Past
from parlerd.uplink.arriving.items import hear, wanted
from parlerd.uplink.counters import Signed
from tests.support.core import CountedIds
from tests.support.honest_home import ANN, BEN, CAT, DAN, RELAY, HonestHome, Party
from tests.support.openers import NoOpener


@dataclass
class Daemon:
    """The mirror of one room, kept by what arrives; `agents` are those of this home."""

    home: HonestHome
    agents: tuple[Party, ...]
    opened: int = 0
    """How many other rooms this home knows that were opened by the same grant."""
    room: Room = field(default_factory=Room)
    lines: dict[int, bytes] = field(default_factory=dict)
    messages: list[tuple[e.Header, bytes]] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)
    """The public messages that were known and whose words were then told to be erased."""
    facts: list[NewFact] = field(default_factory=list)
    signed: set[Signed] = field(default_factory=set)
    """What this daemon signed itself."""
    elsewhere: set[MessageId] = field(default_factory=set)
    """The ids of messages of other rooms that this home has."""

    @property
    def contradicted(self) -> str:
        return self.room.state.contradicted

    def hear(self, items: Sequence[t.LinkItem]) -> Daemon:
        for item in items:
            self._take(item)
        return self

    def _take(self, item: t.LinkItem) -> None:
        asked = wanted(item, self.room.state.shown)
        past = Past(
            {number: self.lines[number] for number in asked.numbers if number in self.lines},
            {id: id in self.ids for id in asked.ids if id in self.ids or id in self.elsewhere},
            self.opened,
        )
        mine = {party.agent for party in self.agents}
        opening = check(self.home.opening, Opening)
        began = Began(opening, self.home.opening, self.home.opening_signature) if self.room.position else None
        grounds = Grounds(
            self.home.room,
            RELAY,
            self.room,
            began=began,
            opener=NoOpener(),
            key_of=_key_of,
            ours=lambda agent: agent in mine,
            own=lambda thread, counter, signed: signed in self.signed,
        )
        arrivals, erased = hear(item, past, grounds)
        for arrival in arrivals:
            decision = self.room.decide(arrival.command, by=arrival.by, now=arrival.command.at, ids=CountedIds())
            for event, body in zip(decision.events, arrival.words.bodies, strict=True):
                if isinstance(event, e.MessagePosted):
                    event = msgspec.structs.replace(event, verified=arrival.words.verified)
                self._apply(event, arrival.by, arrival.command.at, body)
        self.erased += erased

    def _apply(self, event: e.Event, by: By, at: int, body: tuple[bytes, bytes | None] | None) -> None:
        assert body is not None or not isinstance(event, e.MessagePosted)
        header = e.Header(
            position=Position(self.room.position + 1),
            at=Millis(at),
            by=by,
            authority="arrived",
            event=event,
            body=None if body is None else hashlib.sha256(body[0]).digest(),
        )
        fact = NewFact(header) if body is None else NewFact(header, *body)
        self.room.apply(header, fact.body)
        self.facts.append(fact)
        if isinstance(event, e.MessagePosted):
            self.messages.append((header, body[0] if body else b""))
            if event.visibility is None:
                self.lines[self.room.state.shown.number] = self.room.state.shown.line
        if isinstance(event, e.MirrorPlaced):
            self.lines[event.public] = event.line

    @property
    def ids(self) -> set[MessageId]:
        return {header.event.id for header, _ in self.messages if isinstance(header.event, e.MessagePosted)}

    def texts(self, party: Party) -> list[str]:
        """What this agent can read in the mirror, in order."""
        view = self.room.view(party.agent)
        found = []
        for header, body in self.messages:
            event = header.event
            assert isinstance(event, e.MessagePosted)
            inside = any(
                after < header.position and (upto is None or header.position <= upto) for after, upto in view.spans
            )
            if party.agent in event.visibility if event.visibility is not None else inside:
                found.append(text_of(body))
        return found

    @property
    def roles(self) -> dict[str, tuple[str, bool]]:
        return {member.handle: (member.role, member.locked) for member in self.room.state.members.values()}

    @property
    def handles(self) -> dict[str, bool]:
        return {member.handle: member.present for member in self.room.state.members.values()}


def _key_of(terms: KeyTerms, principal: PrincipalId, is_sealed: bool) -> KeyId:
    return KeyId(hashlib.sha256(terms.ref.encode()).hexdigest())


def text_of(body: bytes) -> str:
    """What an envelope says."""
    envelope = decode_envelope(body)
    if envelope.v == UNSIGNED:
        [part] = envelope.parts
        assert isinstance(part, DataPart)
        return f"{part.data} {envelope.id}"
    [part] = envelope.parts
    assert isinstance(part, TextPart)
    return part.text


def texts_told(home: HonestHome, party: Party, upto: int | None = None) -> list[str]:
    """The texts that a home told this agent, in order, without those that were erased."""
    return [text_of(each.message.body) for each in home.visible(party, upto) if each.message.body]


def busy() -> HonestHome:
    """A room with everything in it: Ann opened it, Ben was let in by a person, Cat by a key; Dan comes and goes."""
    home = HonestHome()
    home.post(ANN, "recap")
    request = home.request(BEN)
    home.decide(BEN, request)
    home.join(CAT)
    home.post(BEN, "one")
    home.post(ANN, "two", [BEN])
    home.post(CAT, "three", back=1)
    home.join(DAN)
    home.post(DAN, "four")
    home.post(BEN, "five", [ANN])
    home.post(BEN, "six", [CAT, DAN])
    home.leave(DAN)
    home.post(CAT, "seven")
    home.post(ANN, "eight", [BEN], back=2)
    return home


def verdicts_of(daemon: Daemon) -> dict[str, str]:
    """What is said of each message that arrived, by its words."""
    found: dict[str, str] = {}
    for header, body in daemon.messages:
        assert isinstance(header.event, e.MessagePosted)
        found[text_of(body)] = header.event.verified
    return found


def page_of(items: list[t.LinkItem]) -> t.LinkPage:
    """The last page that has a message."""
    return [item.page for item in items if item.page is not None and item.page.messages][-1]
