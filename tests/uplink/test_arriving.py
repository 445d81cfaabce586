"""What a home elsewhere told, judged: an honest home is never accused, and a lie shows or does nothing."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core import events as e
from parlerd.core import messages
from parlerd.core.envelope import (
    RELEASED,
    UNSIGNED,
    DataPart,
    TextPart,
    decode_envelope,
    encode_envelope,
    gated_part,
    root_chain,
)
from parlerd.core.errors import Refused
from parlerd.core.grants import agent_of, digest_of
from parlerd.core.membership import newest_seq
from parlerd.core.model import (
    INVOCATION,
    AgentId,
    By,
    KeyId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    RequestId,
    RoomId,
)
from parlerd.core.public_line import next_line
from parlerd.core.room import Room
from parlerd.core.statements import KeyTerms, MayOpen, Opening, Transfer, check, encode, room_id_of
from parlerd.engine.audit import Audited, is_signed
from parlerd.identity.signatures import Domain, SigningKey
from parlerd.operations import types as t
from parlerd.store.port import NewFact
from parlerd.uplink.arriving.hearing import Began, Grounds, Past
from parlerd.uplink.arriving.items import hear, wanted
from parlerd.uplink.counters import Signed
from tests.support.core import CountedIds
from tests.support.honest_home import (
    ANN,
    BEN,
    CAT,
    DAN,
    RELAY,
    RELAY_KEY,
    START,
    Asked,
    Granted,
    HonestHome,
    Moved,
    Party,
    Within,
)
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
                found.append(_text(body))
        return found

    @property
    def roles(self) -> dict[str, tuple[str, bool]]:
        return {member.handle: (member.role, member.locked) for member in self.room.state.members.values()}

    @property
    def handles(self) -> dict[str, bool]:
        return {member.handle: member.present for member in self.room.state.members.values()}


def _key_of(terms: KeyTerms, principal: PrincipalId, is_sealed: bool) -> KeyId:
    return KeyId(hashlib.sha256(terms.ref.encode()).hexdigest())


def _text(body: bytes) -> str:
    envelope = decode_envelope(body)
    if envelope.v == UNSIGNED:
        [part] = envelope.parts
        assert isinstance(part, DataPart)
        return f"{part.data} {envelope.id}"
    [part] = envelope.parts
    assert isinstance(part, TextPart)
    return part.text


def _told(home: HonestHome, party: Party, upto: int | None = None) -> list[str]:
    return [_text(each.message.body) for each in home.visible(party, upto) if each.message.body]


def _busy() -> HonestHome:
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


# -- an honest home ----------------------------------------------------------------------------------------


def test_a_mirror_holds_who_is_in_the_room_and_what_its_agents_may_read() -> None:
    home = _busy()
    daemon = Daemon(home, (BEN, CAT)).hear(home.items([BEN, CAT]))
    assert daemon.contradicted == ""
    assert daemon.room.state.name == "plan"
    assert daemon.room.state.topic == "what next"
    assert daemon.room.state.home == RELAY
    assert daemon.room.state.owner == ANN.agent
    assert daemon.handles == {"ann": True, "ben": True, "cat": True, "dan": False}
    for party in (BEN, CAT):
        assert daemon.texts(party) == _told(home, party)
        assert daemon.room.newest_seq(party.agent) == len(home.visible(party))
    assert daemon.room.state.shown == (5, home.line[5])


def test_a_request_and_its_decision_arrive_with_what_was_signed() -> None:
    home = HonestHome()
    request = home.request(BEN)
    owner = Daemon(home, (ANN,)).hear(home.items([ANN]))
    assert [each.name for each in owner.room.pending()] == ["ben"]
    knocker = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert knocker.room.state.requests[RequestId(request.request)].state == "pending"
    assert knocker.room.state.name == ""
    assert knocker.handles == {}
    before = len(home.log)
    home.decide(BEN, request)
    for daemon, party in ((owner, ANN), (knocker, BEN)):
        daemon.hear(home.items([party], before))
        assert daemon.room.state.requests[RequestId(request.request)].state == "approved"
        assert daemon.handles == {"ann": True, "ben": True}
        about = Audited.of(daemon.room.state, daemon.facts[0].body)
        assert all(is_signed(fact, about) for fact in daemon.facts)
    [titled] = [fact for fact in knocker.facts if isinstance(fact.header.event, e.RoomTitled)]
    about = Audited.of(knocker.room.state, knocker.facts[0].body)
    assert not is_signed(replace(titled, body=(titled.body or b"").replace(b"plan", b"plot")), about)
    assert knocker.room.state.name == "plan"


def test_what_arrived_passes_the_check_of_what_is_stored_and_a_member_that_was_made_up_later_does_not() -> None:
    home = _busy()
    request = home.request(DAN)
    for agents in ((ANN,), (BEN, CAT), (DAN,)):
        daemon = Daemon(home, agents).hear(home.items(list(agents)))
        about = Audited.of(daemon.room.state, daemon.facts[0].body)
        assert about.is_mirror
        assert all(is_signed(fact, about) for fact in daemon.facts)
        joined = [fact for fact in daemon.facts if isinstance(fact.header.event, e.MemberJoined)]
        assert (len(joined) == 0) is (agents == (DAN,) and not daemon.handles)
        for fact in joined:
            came = fact.header.event
            assert isinstance(came, e.MemberJoined)
            made_up = replace(came, agent=AgentId("U" + "X" * 55))
            assert not is_signed(replace(fact, header=replace(fact.header, event=made_up)), about)
            bare = replace(fact, header=replace(fact.header, body=None), body=None, signature=None)
            # The opening shows the owner, and a decision that arrived whom it admits; nothing else shows the others.
            assert is_signed(bare, about) is (came.agent == ANN.agent or came.request is not None)
    assert request.state == "pending"


def test_a_denial_counts_only_as_the_owners_side_signed_it() -> None:
    home = HonestHome()
    request = home.request(BEN)
    home.decide(BEN, request, admit=False)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.room.state.requests[RequestId(request.request)].state == "denied"
    forged = HonestHome()
    asked = forged.request(BEN)
    body, signature = forged.decision(BEN, asked.request, admit=False, by=CAT)
    forged.log.append(
        Asked(msgspec.structs.replace(asked, state="denied", decision=body, decision_signature=signature))
    )
    deceived = Daemon(forged, (BEN,)).hear(forged.items([BEN]))
    assert deceived.room.state.requests[RequestId(asked.request)].state == "pending"


def test_a_closed_room_is_closed_in_the_mirror_once() -> None:
    home = _busy()
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    home.closed = True
    daemon.hear(home.items([BEN], len(home.log))).hear(home.items([BEN], len(home.log)))
    assert daemon.room.state.closed


def test_what_was_left_out_counts_in_each_readers_numbers() -> None:
    home = _busy()
    daemon = Daemon(home, (BEN, CAT)).hear(home.items([BEN, CAT], after=9, jumped=True))
    assert daemon.contradicted == ""
    for party in (BEN, CAT):
        missed = len(home.visible(party, 9))
        assert daemon.texts(party) == _told(home, party)[missed:]
        assert daemon.room.newest_seq(party.agent) == len(home.visible(party))


def test_erased_words_leave_their_number_and_accuse_nobody() -> None:
    home = _busy()
    erased = next(each for each in home.visible(BEN) if each.visibility is None and b"four" in each.message.body)
    home.erase(erased)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    home.post(DAN, "nine")
    home.post(BEN, "ten")
    daemon.hear(home.items([BEN], len(home.log) - 2))
    assert daemon.contradicted == ""
    assert daemon.texts(BEN) == _told(home, BEN)
    assert daemon.room.newest_seq(BEN.agent) == len(home.visible(BEN))


def test_of_a_message_that_is_known_it_is_said_that_its_words_were_erased_and_no_number_changes() -> None:
    home = _busy()
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.erased == []
    public = [each for each in home.visible(BEN) if each.visibility is None]
    number = next(n for n, each in enumerate(public, 1) if b"four" in each.message.body)
    texts = daemon.texts(BEN)
    home.erase(public[number - 1])
    daemon.hear(home.items([BEN]))
    assert (daemon.erased, daemon.contradicted) == ([number], "")
    assert daemon.texts(BEN) == texts
    assert daemon.room.newest_seq(BEN.agent) == len(home.visible(BEN))


def test_a_home_that_says_of_other_words_that_they_were_erased_lies_and_nothing_is_erased() -> None:
    home = _busy()
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    said = next(each for each in home.visible(BEN) if each.visibility is None and b"four" in each.message.body)
    said.message = msgspec.structs.replace(said.message, body=b"", signature=b"", digest=bytes(32))
    daemon.hear(home.items([BEN]))
    assert (daemon.erased, daemon.contradicted) == ([], "line")


def test_private_words_that_were_erased_before_they_were_told_accuse_nobody() -> None:
    """Nothing is told of them but that the reader's number goes on: nothing public is missing by that."""
    home = _busy()
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    after = len(home.log)
    home.erase(home.post(ANN, "for ben alone", [BEN]))
    daemon.hear(home.items([BEN], after))
    after = len(home.log)
    home.post(ANN, "for all")
    home.post(ANN, "for ben again", [BEN])
    home.post(CAT, "for all too")
    daemon.hear(home.items([BEN], after))
    assert daemon.contradicted == ""
    assert daemon.texts(BEN)[-3:] == ["for all", "for ben again", "for all too"]
    assert newest_seq(daemon.room.state.membership, BEN.agent) == len(home.visible(BEN))


def test_a_mirror_that_lacks_private_words_still_finds_out_what_is_withheld_of_the_public_ones() -> None:
    home = _busy()
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    after = len(home.log)
    home.erase(home.post(ANN, "for ben alone", [BEN]))
    daemon.hear(home.items([BEN], after))
    after, line = len(home.log), list(home.line)
    withheld = home.post(ANN, "withheld")
    home.post(ANN, "told")
    home.log.remove(withheld)
    home.line = [*line, next_line(line[-1], home.log[-1].digest)]  # type: ignore[union-attr]
    daemon.hear(home.items([BEN], after))
    assert daemon.contradicted in ("thread", "fork", "shown")


def test_what_a_home_says_of_an_invocation_is_taken_in_as_unsigned_and_in_no_thread() -> None:
    home = _busy()
    home.tell(BEN, "craft")
    home.post(BEN, "and now", back=1)
    home.tell(ANN, "go")
    daemon = Daemon(home, (BEN, CAT)).hear(home.items([BEN, CAT]))
    assert daemon.contradicted == ""
    assert daemon.texts(CAT) == _told(home, CAT)
    assert daemon.room.state.shown == (len(home.line) - 1, home.line[-1])
    posted = [(header, header.event) for header, _ in daemon.messages if isinstance(header.event, e.MessagePosted)]
    said = [(header, event) for header, event in posted if event.envelope_v == UNSIGNED]
    assert [(header.by.actor, header.key, header.operation) for header, _ in said] == [
        (BEN.agent, None, ""), (ANN.agent, None, ""),
    ]  # fmt: skip
    assert all(event.verified == "unsigned" for _, event in said)
    about = Audited.of(daemon.room.state, daemon.facts[0].body)
    assert all(is_signed(fact, about) for fact in daemon.facts)


def test_what_a_home_releases_is_taken_in_as_signed_and_in_no_thread() -> None:
    home = _busy()
    home.release(BEN, "for all")
    home.release(BEN, "for those two", [CAT, DAN], readers=[CAT])
    home.release(ANN, "for cat", readers=[CAT])
    home.post(BEN, "and now", back=1)
    daemon = Daemon(home, (BEN, CAT)).hear(home.items([BEN, CAT]))
    assert daemon.contradicted == ""
    assert daemon.texts(CAT) == _told(home, CAT)
    assert daemon.texts(CAT)[-4:] == ["for all", "for those two", "for cat", "and now"]
    posted = [header.event for header, _ in daemon.messages if isinstance(header.event, e.MessagePosted)]
    assert {event.verified for event in posted if event.envelope_v == RELEASED} == {"valid"}
    about = Audited.of(daemon.room.state, daemon.facts[0].body)
    assert all(is_signed(fact, about) for fact in daemon.facts)


def test_a_member_who_signed_that_it_invoked_something_speaks_for_itself() -> None:
    """An older home admits such a message. It is no lie, and shown as what its author signed."""
    home = _busy()
    home.admit(BEN, home.envelope(BEN, "ben invoked craft", kind=INVOCATION))
    daemon = Daemon(home, (CAT,)).hear(home.items([CAT]))
    assert daemon.contradicted == ""
    header, _ = daemon.messages[-1]
    assert isinstance(header.event, e.MessagePosted)
    assert (header.event.kind, header.event.verified) == (INVOCATION, "valid")


def test_an_envelope_of_version_1_is_left_out_and_is_no_lie() -> None:
    home = _busy()
    old = home.envelope(BEN, "old", v=1, shown=0, line=b"", seen=bytes(32), host="", via="", id=MessageId(""))
    home.admit(BEN, old)
    home.threads.pop((BEN.agent, ""))
    home.post(ANN, "new")
    daemon = Daemon(home, (CAT,)).hear(home.items([CAT]))
    assert daemon.contradicted == ""
    assert "old" not in daemon.texts(CAT)
    assert daemon.texts(CAT)[-1] == "new"


def test_an_id_that_a_message_of_another_room_has_here_is_its_authors_fault_and_no_lie_of_the_home() -> None:
    home = _busy()
    taken = home.post(CAT, "taken")
    home.post(CAT, "after")
    daemon = Daemon(home, (BEN,), elsewhere={decode_envelope(taken.message.body).id}).hear(home.items([BEN]))
    assert daemon.contradicted == ""
    assert daemon.texts(BEN) == [text for text in _told(home, BEN) if text != "taken"]
    assert daemon.room.newest_seq(BEN.agent) == len(home.visible(BEN))


def test_a_member_whose_coming_nothing_shows_is_left_out_with_its_words() -> None:
    home = HonestHome()
    home.post(ANN, "recap")
    home.join(BEN)
    home.join(CAT)
    home.members[CAT.agent] = home._entry(CAT)
    home.log[-1] = Moved(home._entry(CAT))
    home.post(CAT, "who am I")
    home.post(ANN, "hello")
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.contradicted == ""
    assert daemon.handles == {"ann": True, "ben": True}
    assert daemon.texts(BEN) == ["recap", "hello"]


def test_a_role_that_the_owner_gave_is_told_and_what_is_told_again_changes_nothing() -> None:
    home = HonestHome()
    home.join(BEN)
    home.join(CAT)
    before = len(home.log)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    home.give_role(CAT, "reviewer")
    home.give_role(BEN, "tester", lock=True)
    daemon.hear(home.items([BEN], before))
    assert daemon.roles == {"ann": ("", False), "ben": ("tester", True), "cat": ("reviewer", False)}
    position = daemon.room.position
    daemon.hear(home.items([BEN], len(home.log)))
    assert daemon.room.position == position
    # What no agent can be given is none, whoever says it.
    home.give_role(CAT, "owner")
    home.give_role(BEN, "")
    daemon.hear(home.items([BEN], len(home.log) - 2))
    assert daemon.roles == {"ann": ("", False), "ben": ("", False), "cat": ("", False)}
    assert daemon.contradicted == ""


def test_a_newcomer_is_told_which_roles_are_locked_and_who_left_has_the_one_it_had() -> None:
    home = HonestHome()
    home.join(BEN)
    home.give_role(BEN, "lead", lock=True)
    home.leave(BEN)
    home.join(CAT)
    daemon = Daemon(home, (CAT,)).hear(home.items([CAT]))
    assert daemon.roles == home.roles == {"ann": ("", False), "ben": ("lead", True), "cat": ("", False)}
    assert daemon.handles == {"ann": True, "ben": False, "cat": True}


_PARTIES = (ANN, BEN, CAT, DAN)
_ACTS = st.lists(
    st.tuples(
        st.sampled_from(["post", "post", "private", "join", "leave", "erase", "role", "invoke", "release", "apart"]),
        st.integers(0, 3),
        st.integers(1, 15),
        st.integers(0, 3),
    ),
    max_size=40,
)


def _acted(acts: Sequence[tuple[str, int, int, int]]) -> HonestHome:
    home = HonestHome()
    home.post(ANN, "recap")
    for number, (act, who, readers, back) in enumerate(acts):
        party = _PARTIES[who]
        inside = party.agent in home.members and home.members[party.agent].present
        if act == "join" and not inside:
            home.join(party)
        elif act == "leave" and inside and party is not ANN:
            home.leave(party)
        elif act == "role" and inside:
            home.give_role(party, ("", "reviewer", "tester")[readers % 3], lock=back > 1)
        elif act == "post" and inside:
            home.post(party, f"t{number}", back=back)
        elif act == "invoke" and inside:
            home.tell(party, f"a{number}")
        elif act == "release" and inside:
            home.release(party, f"r{number}")
        elif act == "apart" and inside:
            to = [each for bit, each in enumerate(_PARTIES) if readers >> bit & 1 and each.agent in home.members]
            home.release(party, f"r{number}", readers=to)
        elif act == "private" and inside:
            to = [each for bit, each in enumerate(_PARTIES) if readers >> bit & 1 and each.agent in home.members]
            home.post(party, f"t{number}", to, back=back)
        elif act == "erase":
            said = [each for each in home.visible(ANN) if each.visibility is None and each.message.body]
            if said[1:]:
                home.erase(said[1:][readers % len(said[1:])])
    return home


@settings(max_examples=150, deadline=None)
@given(acts=_ACTS, cuts=st.lists(st.integers(0, 45), max_size=4), page=st.integers(1, 5), repeat=st.integers(0, 5))
def test_an_honest_home_is_never_accused(
    acts: list[tuple[str, int, int, int]], cuts: list[int], page: int, repeat: int
) -> None:
    """Whatever happens in the room, wherever the link breaks, and however much is told again after it."""
    home = _acted(acts)
    for eyes in ((ANN,), (BEN,), (BEN, CAT), (DAN, ANN)):
        daemon = Daemon(home, eyes)
        joined = [place for place, entry in enumerate(home.log, 1) if any(home._is_in(each, place) for each in eyes)]
        if not joined:
            continue
        places = sorted({0, *(cut for cut in cuts if joined[0] <= cut < len(home.log)), len(home.log)})
        for after, upto in pairwise(places):
            daemon.hear(home.items(eyes, max(0, after - repeat), upto, page=page))
        assert daemon.contradicted == ""
        for party in eyes:
            if home._is_in(party, len(home.log)):
                assert daemon.texts(party) == _told(home, party)
                assert daemon.room.state.shown == (len(home.line) - 1, home.line[-1])
                assert daemon.roles == home.roles
        _check_threads(home, daemon)


def _check_threads(home: HonestHome, daemon: Daemon) -> None:
    told = {MessageId(decode_envelope(each.message.body).id) for each in home.visible(ANN) if each.message.body}
    assert len(daemon.ids) == len(daemon.messages)
    assert {id for id in daemon.ids if id in told} <= told


@settings(max_examples=60, deadline=None)
@given(acts=_ACTS, start=st.integers(1, 40), page=st.integers(1, 5))
def test_an_honest_home_that_leaves_out_a_stretch_is_never_accused(
    acts: list[tuple[str, int, int, int]], start: int, page: int
) -> None:
    home = _acted(acts)
    start = min(start, len(home.log))
    for eyes in ((ANN,), (ANN, BEN)):
        daemon = Daemon(home, eyes)
        daemon.hear(home.items(eyes, 0, min(2, start), page=page))
        daemon.hear(home.items(eyes, start, page=page, jumped=True))
        assert daemon.contradicted == ""
        missed = len(home.visible(ANN, start))
        assert daemon.texts(ANN)[-1:] == _told(home, ANN)[missed:][-1:] or not _told(home, ANN)[missed:]
        assert daemon.room.newest_seq(ANN.agent) >= len(_told(home, ANN))


@settings(max_examples=80, deadline=None)
@given(acts=_ACTS, cuts=st.lists(st.integers(0, 45), max_size=4), kept=st.integers(1, 3))
def test_an_honest_home_that_keeps_more_threads_than_the_mirror_is_never_accused(
    acts: list[tuple[str, int, int, int]], cuts: list[int], kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "KEPT_AUDIENCES", kept)
        test_an_honest_home_is_never_accused.hypothesis.inner_test(acts, cuts, 3, 1)  # type: ignore[attr-defined]


def test_a_mirror_that_forgot_a_thread_still_finds_out_what_is_withheld_in_those_that_it_keeps() -> None:
    home = HonestHome()
    for party in (BEN, CAT, DAN):
        home.join(party)
    home.post(BEN, "first", [CAT])
    home.post(BEN, "first", [DAN])
    withheld = home.post(BEN, "second", [DAN])
    home.post(BEN, "third", [DAN])
    items = home.items([CAT, DAN], 0)
    _page_of(items).messages.remove(withheld.message)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "KEPT_AUDIENCES", 1)
        daemon = Daemon(home, (CAT, DAN)).hear(items)
    assert daemon.contradicted == "thread"
    assert len(daemon.room.state.messages.threads[BEN.agent]) == 1


# -- lies --------------------------------------------------------------------------------------------------


def _page_of(items: list[t.LinkItem]) -> t.LinkPage:
    """The last page that has a message."""
    return [item.page for item in items if item.page is not None and item.page.messages][-1]


def _drop(number: int) -> Callable[[HonestHome, list[t.LinkItem]], None]:
    """Withhold one public message."""

    def lie(home: HonestHome, items: list[t.LinkItem]) -> None:
        for item in items:
            if item.page is not None:
                item.page.messages[:] = [m for m in item.page.messages if m.body != _public(home)[number]]

    return lie


def _public(home: HonestHome) -> list[bytes]:
    return [each.message.body for each in home.visible(ANN) if each.visibility is None]


def _swap(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Show two messages in the other order."""
    page = _page_of(items)
    page.messages[0], page.messages[1] = page.messages[1], page.messages[0]


def _alter(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Put other words into a message."""
    page = _page_of(items)
    page.messages[-1] = msgspec.structs.replace(page.messages[-1], body=home.envelope(CAT, "forged"))


def _attribute(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Say that a message is somebody else's."""
    page = _page_of(items)
    page.messages[-1] = msgspec.structs.replace(page.messages[-1], agent=ANN.agent)


def _garble(home: HonestHome, items: list[t.LinkItem]) -> None:
    page = _page_of(items)
    page.messages[-1] = msgspec.structs.replace(page.messages[-1], body=b"\xc1")


def _unsigned(what: str) -> Callable[[HonestHome, list[t.LinkItem]], None]:
    """Say that a member said something that it did not sign, as if the home could say it itself."""

    def tamper(home: HonestHome, items: list[t.LinkItem]) -> None:
        changes: dict[str, dict[str, object]] = {
            "words": {"kind": "text", "parts": (TextPart("I agree."),)},
            "another kind": {"kind": "task"},
            "words under its kind": {"parts": (TextPart("I agree."),)},
            "a reply": {"reply_to": MessageId("m_1"), "chain": "c_1", "hops": 1},
            "to one alone": {"visibility": (BEN.agent,)},
            "of another room": {"room": RoomId("r_other")},
            "with a signature": {},
        }
        after = len(home.log)
        home.tell(CAT, "craft", by=CAT if what == "with a signature" else None, **changes[what])
        items += home.items([BEN], after)

    return tamper


def _released(what: str) -> Callable[[HonestHome, list[t.LinkItem]], None]:
    """Show something else than what its author signed to be shown later."""

    def tamper(home: HonestHome, items: list[t.LinkItem]) -> None:
        after = len(home.log)
        match what:
            case "signed by another":
                home.release(CAT, "four", by=ANN)
            case "in another room":
                home.release(CAT, "four", signed={"room": RoomId("r_other")})
            case "that is no gated message":
                home.release(CAT, "four", signed={"parts": (TextPart("four"),)})
            case "to somebody else":
                home.release(CAT, "four", [ANN], readers=[BEN])
            case "to everyone":
                home.release(CAT, "four", [ANN], visibility=None)
            case "as a task":
                home.release(CAT, "four", kind="task")
            case "as a reply":
                home.release(CAT, "four", reply_to=MessageId("m_1"), hops=1)
            case _:
                said = home.release(CAT, "four")
                said.message = msgspec.structs.replace(said.message, signature=bytes(64))
        items += home.items([BEN], after)

    return tamper


def _release_twice(home: HonestHome, items: list[t.LinkItem], readers: list[Party] | None = None) -> None:
    """Show a reader the same words as two messages."""
    after = len(home.log)
    said = home.release(CAT, "four", readers=readers)
    envelope = decode_envelope(said.message.body)
    body = encode_envelope(
        msgspec.structs.replace(
            envelope, id=MessageId("m_other"), parts=(gated_part(said.message.body),), nonce=bytes(range(16))
        )
    )
    again = home.admit(CAT, body, envelope.visibility)
    again.message = msgspec.structs.replace(again.message, signature=b"")
    items += home.items([BEN], after)


def _tell_of_another(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Say that another agent invoked an action than what others are told."""
    after = len(home.log)
    home.tell(CAT, "craft")
    items += home.items([BEN], after)
    page = _page_of(items)
    page.messages[-1] = msgspec.structs.replace(page.messages[-1], agent=ANN.agent)


def _tell_twice(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Say of an invocation that it is a message that there is already."""
    after = len(home.log)
    said = home.tell(CAT, "craft")
    id = decode_envelope(said.message.body).id
    home.tell(CAT, "craft", id=id, chain=root_chain(id))
    items += home.items([BEN], after)


def _swap_for_digest(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Say that the words were erased, and name the digest of other words."""
    page = _page_of(items)
    page.messages[1] = msgspec.structs.replace(page.messages[1], body=b"", signature=b"", digest=bytes(32))


def _rename(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Give a member another handle."""
    card = home.card([BEN], len(home.log))
    at = next(n for n, entry in enumerate(card.members) if entry.agent == CAT.agent)
    card.members[at] = msgspec.structs.replace(card.members[at], handle="cat-2")
    items.append(t.LinkItem(room=home.room, card=card))


def _restart(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Tell of a line that was never there."""
    items.append(
        t.LinkItem(room=home.room, page=t.LinkPage(public=1, line=bytes(32), before={}, jumped=False, messages=[]))
    )


def _skip(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Go on further along, without a word."""
    items.append(
        t.LinkItem(room=home.room, page=t.LinkPage(public=50, line=bytes(32), before={}, jumped=False, messages=[]))
    )


def _other_opening(home: HonestHome, items: list[t.LinkItem]) -> None:
    items.append(t.LinkItem(room=home.room, card=msgspec.structs.replace(home.card([BEN], 3), opening=b"other")))


LIES: dict[str, tuple[Callable[[HonestHome, list[t.LinkItem]], None], str]] = {
    "a message withheld in the middle": (_drop(1), "thread"),
    "the first message withheld": (_drop(0), "line"),
    "two messages swapped": (_swap, "thread"),
    "words that nobody signed": (_alter, "signature"),
    "another author": (_attribute, "signature"),
    "bytes that are no envelope": (_garble, "form"),
    "a body swapped for the digest of another": (_swap_for_digest, "fork"),
    "a handle that moves": (_rename, "handle"),
    "another line": (_restart, "line"),
    "a stretch skipped without a word": (_skip, "line"),
    "another opening": (_other_opening, "opening"),
    "words as if nobody had to sign them": (_unsigned("words"), "unsigned"),
    "a task as if nobody had to sign it": (_unsigned("another kind"), "unsigned"),
    "words under the kind of an invocation": (_unsigned("words under its kind"), "unsigned"),
    "an invocation that answers something": (_unsigned("a reply"), "unsigned"),
    "an invocation that is told to one": (_unsigned("to one alone"), "unsigned"),
    "an invocation in another room": (_unsigned("of another room"), "unsigned"),
    "an invocation that somebody signed": (_unsigned("with a signature"), "unsigned"),
    "an invocation with the id of another": (_tell_twice, "id"),
    **{
        f"a message released {what}": (_released(what), "unsigned")
        for what in (
            "signed by another",
            "in another room",
            "that is no gated message",
            "to somebody else",
            "to everyone",
            "as a task",
            "as a reply",
            "with a signature",
        )
    },
    "the same words released to everyone twice": (_release_twice, "id"),
    "the same words released to somebody twice": (partial(_release_twice, readers=[BEN]), "id"),
    "an invocation that others are told of another agent": (_tell_of_another, "unsigned"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_shows(lie: str) -> None:
    tamper, what = LIES[lie]
    home = HonestHome()
    home.post(ANN, "recap")
    home.join(BEN)
    home.join(CAT)
    for text in ("one", "two", "three"):
        home.post(CAT, text)
    items = home.items([BEN])
    tamper(home, items)
    daemon = Daemon(home, (BEN,)).hear(items)
    assert daemon.contradicted == what


@pytest.mark.parametrize("to", [None, [BEN]], ids=["public", "private"])
def test_a_home_that_holds_less_than_it_told_is_found_out_once_it_told_all(to: list[Party] | None) -> None:
    """An older copy of it was put in place. A link that breaks before everything was told says nothing of that."""
    home = HonestHome()
    home.join(BEN)
    home.post(ANN, "kept")
    items = home.items([BEN])
    home.post(ANN, "lost", to)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.hear(items[:-1]).contradicted == ""
    assert daemon.hear(items[-1:]).contradicted == "behind"
    assert daemon.texts(BEN) == ["kept", "lost"]


def test_a_signature_that_this_daemon_made_itself_is_not_checked_again() -> None:
    home = HonestHome()
    home.join(BEN)
    home.post(BEN, "mine")
    items = home.items([BEN])
    [message] = [message for item in items if item.page is not None for message in item.page.messages]
    # No key made this signature, so a check would fail.
    told = msgspec.structs.replace(message, signature=bytes(64))
    for item in items:
        if item.page is not None and item.page.messages:
            item.page.messages[:] = [told]
    assert Daemon(home, (BEN,)).hear(items).contradicted == "signature"
    daemon = Daemon(home, (BEN,))
    daemon.signed.add(Signed(hashlib.sha256(told.body).digest(), told.signature))
    assert daemon.hear(items).contradicted == ""
    assert daemon.texts(BEN) == ["mine"]


# -- agents that have no key -------------------------------------------------------------------------------


def _verdicts(daemon: Daemon) -> dict[str, str]:
    """What is said of each message that arrived, by its words."""
    found: dict[str, str] = {}
    for header, body in daemon.messages:
        assert isinstance(header.event, e.MessagePosted)
        found[_text(body)] = header.event.verified
    return found


def test_what_a_relay_says_within_a_grant_is_shown_as_its_word_and_as_nothing_more() -> None:
    home = _busy()
    ci = home.grant("ci")
    home.post(ci, "built")
    home.post(BEN, "thanks")
    home.post(ci, "for ben", [BEN])
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.contradicted == ""
    verdicts = _verdicts(daemon)
    assert (verdicts["built"], verdicts["thanks"], verdicts["for ben"]) == ("home", "valid", "home")
    assert {verdict for text, verdict in verdicts.items() if text not in ("built", "for ben")} == {"valid"}
    member = daemon.room.state.members[ci.agent]
    assert (member.handle, member.principal, member.present) == ("ci", ANN.principal, True)
    about = Audited.of(daemon.room.state, daemon.facts[0].body)
    assert all(is_signed(fact, about) for fact in daemon.facts)


@settings(max_examples=40)
@given(st.integers(0, 12), st.booleans())
def test_two_homes_that_read_the_same_messages_agree_on_what_bears_them(begins: int, leaves: bool) -> None:
    home = _busy()
    ci = home.grant("ci", count=2)
    cd = home.grant("cd", count=2)
    for number in range(3):
        home.post(ci, f"ci {number}")
        home.post(BEN, f"ben {number}")
        home.post(cd, f"cd {number}")
    if leaves:
        home.leave(ci)
        home.post(CAT, "ci is gone")
    one = Daemon(home, (BEN,)).hear(home.items([BEN]))
    other = Daemon(home, (CAT,)).hear(home.items([CAT], begins, jumped=begins > 0))
    assert (one.contradicted, other.contradicted) == ("", "")
    ours, theirs = _verdicts(one), _verdicts(other)
    shared = ours.keys() & theirs.keys()
    assert {text for text in shared if text.startswith(("ci ", "cd ")) and not text.endswith("gone")}
    assert all(ours[text] == theirs[text] for text in shared)


def _another_room() -> RoomId:
    return RoomId("r_" + "a" * 32)


NOT_LET_IN: dict[str, Callable[[HonestHome], Party]] = {
    "for another room": lambda home: home.grant("ci", rooms=(_another_room(),)),
    "for another relay": lambda home: home.grant("ci", home="N" + "A" * 55),
    "for another name": lambda home: home.grant("ci", names=("cd",)),
    "with a person's yes beside it": lambda home: home.grant("ci", approval=True),
    "signed by another person": lambda home: home.grant("ci", by=BEN),
    "in the name of the owner, signed by another": lambda home: home.grant("ci", by=BEN, principal=ANN.principal),
    "whose id does not name it": lambda home: home.grant("ci", agent=AgentId("T" + "A" * 52)),
    "that names a key": lambda home: home.grant("ci", agent=AgentId("U" + "A" * 55)),
    "of another version": lambda home: home.grant("ci", v=2),
}


@pytest.mark.parametrize("grant", NOT_LET_IN)
def test_by_a_grant_that_is_not_good_nobody_is_a_member_and_nothing_is_shown(grant: str) -> None:
    home = _busy()
    ci = NOT_LET_IN[grant](home)
    home.post(ci, "built")
    home.post(BEN, "after")
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert ci.agent not in daemon.room.state.members
    assert "built" not in _verdicts(daemon)
    assert daemon.texts(BEN)[-1] == "after"


def test_by_a_grant_that_asks_and_the_persons_decision_an_agent_comes_in() -> None:
    home = _busy()
    ci = home.grant_asking("ci")
    home.post(ci, "built")
    for eyes in ([ANN], [BEN], [CAT]):
        daemon = Daemon(home, tuple(eyes)).hear(home.items(eyes))
        assert daemon.contradicted == ""
        assert _verdicts(daemon)["built"] == "home"
        assert daemon.room.state.members[ci.agent].given is not None
        about = Audited.of(daemon.room.state, daemon.facts[0].body)
        assert all(is_signed(fact, about) for fact in daemon.facts)


def _of_another(home: HonestHome) -> Party:
    other = home.grant_asking("cd")
    return home.grant_asking("ci", decision=lambda party, request: home.decision(other, request))


def _by_the_relay(home: HonestHome, party: Party, request: str) -> tuple[bytes, bytes]:
    body, _ = home.decision(party, request)
    return body, RELAY_KEY.sign("parler/decision", body)


UNDECIDED: dict[str, Callable[[HonestHome], Party]] = {
    "without one": lambda home: home.grant_asking("ci", decision=lambda party, request: (b"", b"")),
    "about another agent": _of_another,
    "by another person": lambda home: home.grant_asking(
        "ci", decision=lambda party, request: home.decision(party, request, by=BEN)
    ),
    "by the relay": lambda home: home.grant_asking(
        "ci", decision=lambda party, request: _by_the_relay(home, party, request)
    ),
    "that denies": lambda home: home.grant_asking(
        "ci", decision=lambda party, request: home.decision(party, request, admit=False)
    ),
    "on a grant of another person": lambda home: home.grant_asking("ci", by=BEN),
}


@pytest.mark.parametrize("decision", UNDECIDED)
def test_by_a_grant_that_asks_nobody_comes_in_but_by_the_persons_decision(decision: str) -> None:
    home = _busy()
    ci = UNDECIDED[decision](home)
    home.post(ci, "built")
    home.post(BEN, "after")
    for eyes in ([ANN], [BEN]):
        daemon = Daemon(home, tuple(eyes)).hear(home.items(eyes))
        assert ci.agent not in daemon.room.state.members
        assert "built" not in _verdicts(daemon)
        assert daemon.texts(eyes[0])[-1] == "after"


@pytest.mark.parametrize("lie", ["name", "agent", "principal", "host", "ref", "no approval", "no signature"])
def test_who_asks_by_a_grant_that_is_not_good_is_asked_about_nobody(lie: str) -> None:
    home = _busy()
    before = len(home.log)
    home.grant_asking("ci")
    asked = next(each for each in home.log[before:] if isinstance(each, Asked)).entry
    del home.log[before:]
    if lie == "no approval":
        plain = home.members[home.grant("ci", count=2).agent]
        home.log.pop()
        asked = replace(asked, agent=plain.agent, grant=plain.grant, grant_signature=plain.grant_signature)
    elif lie == "no signature":
        asked = replace(asked, grant_signature=bytes(64))
    else:
        value = {"name": "cd", "agent": "T" + "A" * 52, "principal": BEN.principal, "host": "codex", "ref": "k_gated"}
        asked = replace(asked, **{lie: value[lie]})
    home.log.append(Asked(asked))
    home.post(BEN, "after")
    daemon = Daemon(home, (ANN,)).hear(home.items([ANN]))
    assert asked.request not in daemon.room.state.requests
    assert daemon.texts(ANN)[-1] == "after"


@pytest.mark.parametrize("field", ["grant", "grant_signature", "granted_as"])
def test_a_grant_that_was_changed_lets_nobody_in(field: str) -> None:
    home = _busy()
    ci = home.grant("ci")
    entry = home.members[ci.agent]
    for change in (b"", bytes(64), entry.grant + b"x") if field != "granted_as" else ("", "cd", "ci-2"):
        home.log[-1] = Moved(replace(entry, **{field: change}))
        daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
        assert ci.agent not in daemon.room.state.members


def test_an_agent_without_a_key_comes_in_by_nothing_but_a_grant() -> None:
    home = _busy()
    ci = home.grant("ci")
    body, signature = home.decision(ci, "q_1")
    terms, terms_signature = home.open
    knock, _ = home.knock(ci, "k_open")
    shown = {"proof": body, "proof_signature": signature, "terms": terms, "terms_signature": terms_signature}
    shown |= {"knock": knock, "knock_signature": home.owner.key.sign("parler/knock", knock)}
    entry = replace(home.members[ci.agent], grant=b"", grant_signature=b"", granted_as="", **shown)
    home.log[-1] = Moved(entry)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert ci.agent not in daemon.room.state.members


def _signed_by(party: Party, key: SigningKey, domain: Domain) -> Party:
    """The same agent, whose words another key signs, or for another purpose."""
    found = copy.copy(party)
    found.key, found.domain = key, domain
    return found


OTHER_RELAY = SigningKey("relay", bytes([8]) * 32)
BEYOND: dict[str, tuple[Callable[[HonestHome], object], str]] = {
    "after its end": (lambda home: home.post(home.grant("ci", not_after=Millis(home.now)), "x"), "grant"),
    "by one that only reads": (lambda home: home.post(home.grant("ci", scopes=("read", "state")), "x"), "grant"),
    "by more than it counts": (
        lambda home: [home.post(home.grant(name, count=1), name) for name in ("ci", "cd")],
        "grant",
    ),
    "signed by another relay": (
        lambda home: home.post(_signed_by(home.grant("ci"), OTHER_RELAY, "parler/admitted"), "x"),
        "signature",
    ),
    "signed as an author signs, by the relay": (
        lambda home: home.post(_signed_by(home.grant("ci"), RELAY_KEY, "parler/message"), "x"),
        "signature",
    ),
    "signed as an author signs, by an agent": (
        lambda home: home.post(_signed_by(home.grant("ci"), ANN.key, "parler/message"), "x"),
        "signature",
    ),
    "admitted for a member that has a key": (
        lambda home: home.post(_signed_by(BEN, RELAY_KEY, "parler/admitted"), "x"),
        "signature",
    ),
    "signed as to be shown later": (lambda home: home.release(home.grant("ci"), "x"), "unsigned"),
}


@pytest.mark.parametrize("lie", BEYOND)
def test_a_relay_that_speaks_beyond_a_grant_shows(lie: str) -> None:
    home = _busy()
    tells, what = BEYOND[lie]
    tells(home)
    for eyes in ([BEN], [BEN, CAT]):
        daemon = Daemon(home, tuple(eyes)).hear(home.items(eyes))
        assert daemon.contradicted == what
        assert "x" not in _verdicts(daemon)


def test_after_a_lie_nothing_more_is_taken_in() -> None:
    home = _busy()
    items = home.items([BEN])
    _restart(home, items)
    daemon = Daemon(home, (BEN,)).hear(items)
    position = daemon.room.position
    home.post(ANN, "more")
    daemon.hear(home.items([BEN], len(home.log) - 1))
    assert daemon.room.position == position


def test_a_private_message_that_is_withheld_shows_at_the_next_one_of_its_thread() -> None:
    home = HonestHome()
    home.join(BEN)
    home.post(ANN, "first", [BEN])
    withheld = home.post(ANN, "second", [BEN])
    home.post(ANN, "third", [BEN])
    items = home.items([BEN])
    _page_of(items).messages.remove(withheld.message)
    daemon = Daemon(home, (BEN,)).hear(items)
    assert daemon.contradicted == "thread"
    assert daemon.texts(BEN) == ["first"]


def test_a_fork_shows_at_the_first_message_that_crosses() -> None:
    """Two sides of a room are told different messages. The envelope of one side names a line that the other never
    had."""
    home = HonestHome()
    home.join(BEN)
    home.join(CAT)
    home.post(ANN, "for all")
    other_line = home.line[:]
    home.post(ANN, "for one side")
    forked = home.envelope(CAT, "seen the other side", shown=2, line=hashlib.sha256(other_line[-1]).digest())
    home.admit(CAT, forked)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.contradicted == "fork"


def test_an_author_that_was_shown_more_than_there_is_shows_what_is_withheld() -> None:
    home = HonestHome()
    home.join(BEN)
    home.join(CAT)
    home.post(ANN, "one")
    home.admit(CAT, home.envelope(CAT, "answer", shown=7))
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.contradicted == "shown"


def test_a_message_of_another_room_and_a_message_twice_are_no_messages_of_this_room() -> None:
    home = HonestHome()
    home.join(BEN)
    home.admit(ANN, home.envelope(ANN, "elsewhere", room="r_other"))
    assert Daemon(home, (BEN,)).hear(home.items([BEN])).contradicted == "room"
    again = HonestHome()
    again.join(BEN)
    said = again.post(ANN, "once")
    again.admit(ANN, said.message.body)
    assert Daemon(again, (BEN,)).hear(again.items([BEN])).contradicted == "id"


def test_a_decision_that_is_for_somebody_else_or_by_somebody_else_makes_nobody_a_member() -> None:
    for by, whose in ((CAT, BEN), (ANN, DAN)):
        home = HonestHome()
        home.join(CAT)
        body, signature = home.decision(whose, "q_1", by=by)
        home._move(BEN, home._entry(BEN, proof=body, proof_signature=signature))
        daemon = Daemon(home, (CAT,)).hear(home.items([CAT]))
        assert daemon.handles == {"ann": True, "cat": True}
        assert daemon.contradicted == ""


def test_an_agent_of_this_home_is_in_no_room_at_which_it_did_not_knock() -> None:
    """Whoever opened a room can sign that anybody is let in. Others may believe that, and the agent itself knows."""
    for knock, knock_signature in ((b"", b""), HonestHome(owner=CAT).knock(BEN)):
        home = HonestHome()
        proof, signature = home.decision(BEN, "q_1")
        proofs = {"proof": proof, "proof_signature": signature, "knock": knock, "knock_signature": knock_signature}
        home._move(BEN, home._entry(BEN, **proofs))
        home.post(ANN, "do as I say")
        daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
        assert daemon.handles == {"ann": True}
        assert daemon.contradicted == ""


@pytest.mark.parametrize(("role", "shown"), [("planner", "planner"), ("owner", ""), ("Person", ""), ("no role", "")])
def test_nobody_has_a_role_that_stands_for_somebody_else_whatever_a_relay_says(role: str, shown: str) -> None:
    home = HonestHome()
    home.join(BEN)
    home.members[BEN.agent] = replace(home.members[BEN.agent], role=role)
    home.log[-1] = Moved(home.members[BEN.agent])
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.room.state.members[BEN.agent].role == shown


def test_only_words_that_their_author_gave_as_context_are_a_recap() -> None:
    for kind, is_recap in (("context", True), ("text", False)):
        home = HonestHome()
        said = home.admit(ANN, home.envelope(ANN, "first", kind=kind))
        said.message = replace(said.message, opening=True)
        home.join(BEN)
        daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
        [(header, _)] = daemon.messages
        assert isinstance(header.event, e.MessagePosted)
        assert header.event.opening is is_recap


def test_a_knock_with_a_gated_key_makes_nobody_a_member() -> None:
    home = HonestHome()
    home.join(CAT)
    knock, signature = home.knock(BEN, "k_gated")
    terms, terms_signature = home.gated
    home._move(
        BEN, home._entry(BEN, knock=knock, knock_signature=signature, terms=terms, terms_signature=terms_signature)
    )
    assert Daemon(home, (CAT,)).hear(home.items([CAT])).handles == {"ann": True, "cat": True}


def test_a_mirror_does_not_begin_with_an_opening_that_is_not_the_rooms() -> None:
    home = HonestHome()
    other = HonestHome(owner=BEN)
    card = home.card([ANN], 1)
    wrong = [
        msgspec.structs.replace(card, opening=other.opening, opening_signature=other.opening_signature),
        msgspec.structs.replace(card, opening_signature=other.opening_signature),
        msgspec.structs.replace(card, title=b"other"),
        msgspec.structs.replace(card, opening=b""),
    ]
    for each in wrong:
        daemon = Daemon(home, (ANN,))
        with pytest.raises(Refused) as refused:
            daemon.hear([t.LinkItem(room=home.room, card=each)])
        assert refused.value.code == "relay_equivocation"
        assert daemon.room.position == 0


def test_what_a_home_says_of_tasks_is_taken_in_once_and_nothing_of_what_the_mirror_does_not_know() -> None:
    home = HonestHome()
    home.join(BEN)
    body = home.envelope(ANN, "review PR #42", kind="task")
    home.admit(ANN, body)
    id = decode_envelope(body).id
    daemon = Daemon(home, (ANN, BEN)).hear(home.items((ANN, BEN)))

    def told(state: t.TaskStatus, worker: str = "", fence: int = 0, task: str = id) -> None:
        entry = t.TaskAtRoom(task=task, state=state, worker=worker, until=9, lease_ms=5, fence=fence)
        daemon.hear([t.LinkItem(room=home.room, tasks=[entry])])

    def stands() -> tuple[str, str, int]:
        task = daemon.room.claims.get(id)
        assert task is not None
        return task.state, task.worker, task.fence

    told("claimed", BEN.agent, 7)
    assert stands() == ("claimed", BEN.agent, 7)
    before = daemon.room.position
    told("claimed", BEN.agent, 7)
    told("claimed", CAT.agent, 8)
    told("claimed", BEN.agent, 3, "m_nowhere")
    assert (stands(), daemon.room.position) == (("claimed", BEN.agent, 7), before)
    told("open")
    assert stands() == ("open", "", 7)
    told("done", BEN.agent, 7)
    told("claimed", BEN.agent, 11)
    assert stands() == ("done", BEN.agent, 7)
    assert daemon.contradicted == ""


# -- another owner -----------------------------------------------------------------------------------------


def transferred(told: HonestHome, to: Party, *, by: Party, **more: object) -> t.LinkItem:
    """A card that tells of a transfer of the room, signed by the person of `by`."""
    fields: dict[str, object] = {
        "home": RELAY,
        "room": told.room,
        "number": 1,
        "owner": to.agent,
        "principal": to.principal,
        "taken": False,
        "at": Millis(told.now),
        "nonce": bytes(16),
    }
    body = encode(Transfer(**{**fields, **more}))  # type: ignore[arg-type]
    entry = t.TransferEntry(statement=body, signature=by.person.sign("parler/transfer", body))
    return t.LinkItem(room=told.room, card=t.Card(whole=False, home=RELAY, transfers=[entry]))


def of_three() -> tuple[HonestHome, Daemon]:
    """A room of Ann's with Ben and Cat in it, as Ben's daemon knows it."""
    home = HonestHome()
    home.join(BEN)
    home.join(CAT)
    return home, Daemon(home, (BEN,)).hear(home.items([BEN]))


def test_who_was_let_in_by_the_next_owners_person_is_a_member_and_nobody_before() -> None:
    home, daemon = of_three()
    proof, signature = home.decision(DAN, "q_9", by=CAT)
    entry = home._entry(DAN, proof=proof, proof_signature=signature)
    came = t.LinkItem(room=home.room, card=t.Card(whole=False, home=RELAY, members=[entry]))
    assert "dan" not in daemon.hear([came]).handles
    daemon.hear([transferred(home, CAT, by=ANN), came])
    assert daemon.contradicted == ""
    assert daemon.handles == {"ann": True, "ben": True, "cat": True, "dan": True}
    assert daemon.room.state.owner == CAT.agent
    assert daemon.room.state.owner_principal == CAT.principal


def test_a_transfer_that_is_told_again_changes_nothing() -> None:
    home, daemon = of_three()
    item = transferred(home, CAT, by=ANN)
    stood = daemon.hear([item]).room.position
    daemon.hear([item])
    assert (daemon.room.position, daemon.contradicted) == (stood, "")


@pytest.mark.parametrize(
    ("to", "by", "more"),
    [
        (CAT, CAT, {}),
        (CAT, ANN, {"number": 2}),
        (CAT, ANN, {"room": "r_other"}),
        (CAT, ANN, {"home": ANN.principal}),
        (CAT, DAN, {"taken": True}),
        (CAT, DAN, {"taken": True, "principal": DAN.principal}),
    ],
)
def test_a_transfer_that_nobody_could_sign_shows(to: Party, by: Party, more: dict[str, object]) -> None:
    home, daemon = of_three()
    daemon.hear([transferred(home, to, by=by, **more)])
    assert daemon.contradicted == "transfer"
    assert daemon.room.state.owner == ANN.agent


def test_whoever_is_no_member_took_nothing_over_on_a_card_of_the_members() -> None:
    home, daemon = of_three()
    item = transferred(home, DAN, by=DAN, taken=True)
    assert item.card is not None
    card = replace(item.card, members=list(home.members.values()))
    daemon.hear([replace(item, card=card)])
    assert daemon.contradicted == "transfer"


def test_a_room_that_a_member_took_over_is_that_members_and_the_log_says_so() -> None:
    home, daemon = of_three()
    daemon.hear([transferred(home, CAT, by=CAT, taken=True)])
    assert daemon.contradicted == ""
    assert daemon.room.state.lifecycle.owners[-1].taken
    assert daemon.room.state.owner == CAT.agent


# -- rooms that a relay opens within a grant -----------------------------------------------------------------


def _opened(within: Within) -> HonestHome:
    home = HonestHome(within=within)
    home.join(BEN)
    home.post(home.opener, "begun")
    home.post(ANN, "seen")
    return home


def test_a_room_that_was_opened_within_a_grant_is_the_persons_and_every_reader_finds_so() -> None:
    home = _opened(Within())
    for eyes in ([ANN], [BEN]):
        daemon = Daemon(home, tuple(eyes), opened=1).hear(home.items(eyes))
        assert daemon.contradicted == ""
        assert _verdicts(daemon) == {"begun": "home", "seen": "valid"}
        state = daemon.room.state
        assert (state.owner, state.owner_principal) == (ANN.agent, ANN.principal)
        assert [member.handle for member in state.members.values()] == ["ann", "ci", "ben"]
        about = Audited.of(state, daemon.facts[0].body)
        assert all(is_signed(fact, about) for fact in daemon.facts)
        late = about._replace(room=replace(about.room, opened_at=Millis(home.now + 10**9)))
        assert not is_signed(daemon.facts[0], late)


MAY_OPEN = MayOpen(rooms=2, owner=ANN.agent, handle="ann")
NOT_OPENED: dict[str, Within] = {
    "without the scope": Within(grant={"scopes": ("read", "post"), "opens": msgspec.UNSET}),
    "with the scope and no rooms": Within(grant={"opens": msgspec.UNSET}),
    "for another relay": Within(grant={"home": "N" + "A" * 55}),
    "of another person": Within(grant={"principal": BEN.principal}),
    "signed by another person": Within(granted_by=BEN.person),
    "signed by the relay": Within(granted_by=RELAY_KEY),
    "for another owner": Within(grant={"opens": replace(MAY_OPEN, owner=BEN.agent)}),
    "for an owner of another name": Within(grant={"opens": replace(MAY_OPEN, handle="ben")}),
    "that is over": Within(grant={"not_after": Millis(START)}),
    "for several agents": Within(grant={"names": ("ci", "cd")}),
    "that asks": Within(grant={"approval": True}),
    "in the name of another person": Within(opening={"principal": BEN.principal, "owner": BEN.agent}),
    "where newcomers are not asked about": Within(opening={"approval": False}),
    "where an agent decides": Within(opening={"approver": "agent"}),
    "as another kind of room": Within(opening={"kind": "channel"}),
    "with a host": Within(opening={"host": "codex"}),
    "at another relay": Within(opening={"home": "N" + "A" * 55}),
    "opened by another relay": Within(opened_by=SigningKey("relay", bytes([8]) * 32)),
    "signed as words are": Within(domain="parler/admitted"),
    "signed as a person signs, by the relay": Within(domain="parler/opening"),
    "signed by the owner": Within(opened_by=ANN.key),
    "bearing no grant": Within(opening={"granted": msgspec.UNSET}),
    "bearing no grant, and signed as a person signs": Within(
        opening={"granted": msgspec.UNSET}, domain="parler/opening"
    ),
}


@pytest.mark.parametrize("lie", NOT_OPENED)
def test_a_relay_opens_no_room_in_a_persons_name_but_within_what_the_person_signed(lie: str) -> None:
    home = _opened(NOT_OPENED[lie])
    for eyes in ([ANN], [BEN]):
        daemon = Daemon(home, tuple(eyes))
        with pytest.raises(Refused) as refused:
            daemon.hear(home.items(eyes))
        assert refused.value.code == "relay_equivocation"
        assert (daemon.facts, daemon.room.position) == ([], 0)


def test_a_reader_takes_in_as_many_rooms_of_a_grant_as_it_says_and_no_more() -> None:
    home = _opened(Within())
    for opened in (0, 1):
        assert Daemon(home, (BEN,), opened=opened).hear(home.items([BEN])).contradicted == ""
    for opened in (2, 3):
        with pytest.raises(Refused) as refused:
            Daemon(home, (BEN,), opened=opened).hear(home.items([BEN]))
        assert refused.value.details["what"] == "grant"


def test_in_a_room_of_a_grant_nobody_else_comes_in_by_it() -> None:
    home = _opened(Within())
    entry = home.members[home.opener.agent]
    other = Granted("cd", agent_of(digest_of(entry.grant), "cd"), ANN)
    home.members[other.agent] = replace(entry, agent=other.agent, handle="cd", granted_as="cd")
    home.log.append(Moved(home.members[other.agent]))
    home.post(other, "x")
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert other.agent not in daemon.room.state.members
    assert "x" not in _verdicts(daemon)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_every_byte_of_such_an_opening_and_of_its_grant_counts(at: int, flip: int) -> None:
    home = _opened(Within())
    body = bytearray(home.opening)
    body[at % len(body)] ^= flip
    home.opening = bytes(body)
    # Under the id of the changed bytes, too: only the signatures are wrong then.
    home.room = RoomId(room_id_of(home.opening))
    with pytest.raises(Refused):
        Daemon(home, (BEN,)).hear(home.items([BEN]))
