"""A home that holds no key of anybody takes openings, knocks and decisions that were signed elsewhere, or refuses them.

The model is the home of whoever signs: what is opened, asked and decided there, in any order, is admitted by another
home into the same facts with the same bodies, and every member is proved by them. Whatever was signed for another place
or by somebody else, or says anything but what the room itself would say, is refused and leaves nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.approvals import standing_request
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, Approver, By, HomeId, KeyId, Millis, Position, Proof, RoomId
from parlerd.core.room import Room
from parlerd.core.statements import (
    NONCE,
    Claim,
    DecisionStatement,
    KeyTerms,
    KnockStatement,
    Statement,
    decode_opened,
    encode,
    room_id_of,
)
from parlerd.engine.actor import ActorParts, RoomActor
from parlerd.engine.audit import Audited, is_signed
from parlerd.engine.authors import Admission, Attested, LocalAuthor
from parlerd.engine.driver import InlineDriver
from parlerd.engine.ports import NoSigners, Signers
from parlerd.engine.rooms import fold
from parlerd.engine.submissions import Settled
from parlerd.identity.proofs import Evidence, read_opening, unproven
from parlerd.store.memory import MemoryStore
from parlerd.store.port import NewFact
from tests.support.core import Agent, open_room
from tests.support.engine import START_MS, CountedKeys, CountedRandomness, HandClock, run

PERSON = CountedKeys().principal
"""Whom every ring of counted keys belongs to."""
RELAY, ELSEWHERE = HomeId("N" + "A" * 55), HomeId("N" + "B" * 55)
KEY = KeyId("key")
NAMES = ("ann", "ben", "cat", "dan")
HOUR = 3_600_000


@dataclass(frozen=True)
class How:
    """How the room is opened, by ann."""

    approval: bool = True
    approver: Approver = "person"
    preapproved: bool = False
    """Whether the key lets dan in unasked."""
    handle: str = "ann"
    home: HomeId = RELAY


USUAL = How()


class Home:
    """One home of the room, with its own store and its own clock."""

    def __init__(self, nursery: trio.Nursery, signers: Signers, people: dict[str, AgentId], how: How) -> None:
        self.store, self.people, self.clock = MemoryStore(), people, HandClock()
        self.opening = self._opening(how)
        self.room = self.opening.room
        random = CountedRandomness()
        self.actor = RoomActor(
            self.room,
            Room(),
            ActorParts(
                driver=InlineDriver(self.store),
                clock=self.clock,
                random=random,
                author=LocalAuthor(signers, random),
                admission=Admission(),
                publish=lambda room, facts: None,
                holds=lambda token: True,
            ),
            lambda store: fold(store, self.room, Room, Room.restore),
        )
        nursery.start_soon(self.actor.run)

    def _opening(self, how: How) -> c.OpenRoom:
        def command(room: RoomId) -> c.OpenRoom:
            return open_room(
                Agent(self.people["ann"], PERSON, how.handle),
                room=room,
                home=how.home,
                key=KEY,
                approval=how.approval,
                approver=how.approver,
                expires_at=START_MS + HOUR,
                max_uses=3,
                preapproved=(self.people["dan"],) if how.preapproved else (),
            )

        return command(room_id_of(encode(command(RoomId("r")).opening)))

    def by(self, name: str) -> By:
        return By(self.people[name], PERSON, "s", "h", "cli")

    # -- as authors whose keys are here ------------------------------------------------------------------------

    async def open(self) -> None:
        await self.actor.submit(self.opening, self.by("ann"))

    async def knock(self, name: str) -> str:
        knock = c.Knock(operation="session.join", key_id=KEY, name=name, host="h", wall=self.clock.now())
        return (await self.actor.submit(knock, self.by(name))).decision.answer

    async def decide(self, name: str, *, admit: bool = True, proof: Proof = "cli") -> Settled:
        request = standing_request(self.actor.aggregate.state.requests, self.people[name])
        if request is None:
            raise Refused("no_such_request")
        command = c.DecideRequest(request=request.id, admit=admit, proof=proof, principal=PERSON)
        return await self.actor.submit(command, self.by("ann"))

    async def leave(self, name: str) -> None:
        await self.actor.submit(c.CloseRoom(operation="session.close"), self.by(name))

    # -- as they were signed elsewhere -------------------------------------------------------------------------

    async def admit_opening(self, opened: NewFact, minted: NewFact, *, home: HomeId = RELAY) -> Settled:
        opening, title = decode_opened(opened.body or b"")
        command, words = Admission().open(
            self.by("ann"),
            Attested(opening, opened.signature or b""),
            title,
            attested(minted),
            home=home,
            mint=KEY,
            idempotency_key="open",
        )
        return await self.actor.submit(command, self.by("ann"), words)

    async def admit_knock(self, name: str, knock: Attested) -> Settled:
        command, words = Admission().knock(self.by(name), knock, key_id=KEY, wall=self.clock.now())
        return await self.actor.submit(command, self.by(name), words)

    async def admit_decision(self, decision: Attested, *, by: str = "ann") -> Settled:
        command, words = Admission().decide(self.by(by), decision)
        return await self.actor.submit(command, self.by(by), words)

    async def admit(self, other: Home) -> None:
        """Everything that happened at another home, in its order."""
        names = {agent: name for name, agent in self.people.items()}
        facts = other.facts()
        for fact in facts:
            match fact.header.event:
                case e.RoomOpened():
                    await self.admit_opening(fact, facts[2])
                case e.JoinRequested(agent=agent):
                    await self.admit_knock(names[agent], attested(fact))
                case e.MemberJoined(agent=agent) if fact.body is not None:
                    await self.admit_knock(names[agent], attested(fact))
                case e.JoinApproved() | e.JoinDenied():
                    await self.admit_decision(attested(fact))
                case e.MemberLeft(agent=agent):
                    await self.leave(names[agent])
                case _:
                    pass

    # -- looking -----------------------------------------------------------------------------------------------

    def facts(self) -> list[NewFact]:
        return self.store.whole_facts(self.room, Position(0), 1_000)

    def newest(self, kind: type[e.Event]) -> NewFact:
        return next(fact for fact in reversed(self.facts()) if isinstance(fact.header.event, kind))

    def folded(self) -> Room:
        return fold(self.store, self.room, Room, Room.restore)[0]

    def members(self) -> list[str]:
        state = self.actor.aggregate.state
        return sorted(member.handle for member in state.members.values() if member.present)


def attested(fact: NewFact) -> Attested:
    """The statement that a fact bears."""
    assert fact.body is not None
    assert fact.signature is not None
    return Attested(fact.body, fact.signature)


Scenario = Callable[[Home, Home, CountedKeys], Awaitable[None]]


def in_two_homes(scenario: Scenario, how: How = USUAL, there: How | None = None) -> None:
    """A home with everybody's keys, in which the room was opened, and one with none, in which nothing happened yet."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            keys = CountedKeys()
            people = {name: keys.create_agent() for name in NAMES}
            ours, theirs = Home(nursery, keys, people, how), Home(nursery, NoSigners(), people, there or how)
            await ours.open()
            await scenario(ours, theirs, keys)
            ours.actor.close()
            theirs.actor.close()

    run(main)


# -- what is honest ----------------------------------------------------------------------------------------

names = st.sampled_from(NAMES[1:])
acts = st.one_of(
    st.tuples(st.just("knock"), names),
    st.tuples(st.just("admit"), names),
    st.tuples(st.just("deny"), names),
    st.tuples(st.just("let"), names),
    st.tuples(st.just("leave"), names),
    st.tuples(st.just("wait"), st.just("")),
)
hows = st.builds(
    How,
    approval=st.booleans(),
    approver=st.sampled_from(("person", "agent")),
    preapproved=st.booleans(),
    handle=st.sampled_from(("ann", "ben")),
)


async def play(home: Home, script: list[tuple[str, str]]) -> None:
    for act, name in script:
        with suppress(Refused):
            match act:
                case "knock":
                    await home.knock(name)
                case "admit" | "deny":
                    await home.decide(name, admit=act == "admit")
                case "let":
                    await home.decide(name, proof="none")
                case "leave":
                    await home.leave(name)
                case "wait":
                    home.clock.move(seconds=1_000)


@settings(max_examples=60, deadline=None)
@given(hows, st.lists(acts, max_size=14))
def test_whatever_is_signed_at_one_home_another_admits_into_the_same_facts(
    how: How, script: list[tuple[str, str]]
) -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        await play(ours, script)
        await theirs.admit(ours)
        here, there = ours.facts(), theirs.facts()
        assert [fact.header.event for fact in there] == [fact.header.event for fact in here]
        assert [(fact.body, fact.signature) for fact in there] == [(fact.body, fact.signature) for fact in here]
        assert theirs.actor.aggregate.state == theirs.folded().state
        about = Audited.of(theirs.folded().state, there[0].body)
        assert all(is_signed(fact, about) for fact in there)
        proved(theirs)

    in_two_homes(scenario, how)


def proved(home: Home) -> None:
    """Whoever is or was in the room is so by what was signed."""
    facts = home.facts()
    opening = read_opening(home.room, RELAY, decode_opened(facts[0].body or b"")[0], facts[0].signature or b"")
    terms = attested(facts[2])
    for before, fact in pairwise(facts):
        event = fact.header.event
        if isinstance(event, e.MemberJoined):
            evidence = Evidence()
            if event.request is not None:
                evidence = Evidence(decision=before.body or b"", decision_signature=before.signature or b"")
            elif fact.body is not None:
                knock = attested(fact)
                evidence = Evidence(b"", b"", knock.body, knock.signature, terms.body, terms.signature)
            claim = Claim(event.agent, event.principal, event.handle)
            assert unproven(home.room, opening, claim, evidence) is None
            other = Claim(home.people["ben"], event.principal, "another")
            assert unproven(home.room, opening, other, evidence) is not None


# -- what is not -------------------------------------------------------------------------------------------


def resigned(keys: CountedKeys, by: str, statement: Statement, **fields: Any) -> Attested:
    """The statement with some fields changed, signed anew."""
    body = encode(msgspec.structs.replace(statement, **fields))
    return Attested(body, keys.sign(by, statement.TAG, body))


async def refusal(act: Awaitable[object]) -> tuple[str, object]:
    with pytest.raises(Refused) as caught:
        await act
    return caught.value.code, caught.value.details.get("what")


def said(home: Home, kind: type[e.Event], of: type[Any]) -> Any:
    """The statement of the newest fact of this type."""
    return msgspec.msgpack.decode(home.newest(kind).body or b"", type=of)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"home": ELSEWHERE}, "home"),
        ({"room": RoomId("r_other")}, "room"),
        ({"ref": "k_other"}, "ref"),
        ({"principal": "A" + "B" * 55}, "principal"),
        ({"host": "h", "nonce": b"x"}, "nonce"),
        ({"v": 2}, "v"),
    ],
)
@pytest.mark.parametrize("approval", [True, False])
def test_a_knock_that_says_anything_but_what_the_room_would_is_refused_and_leaves_nothing(
    approval: bool, change: dict[str, Any], what: str
) -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        await theirs.admit(ours)
        before = theirs.actor.aggregate.snapshot()
        await ours.knock("ben")
        knock = said(ours, e.JoinRequested if approval else e.MemberJoined, KnockStatement)
        wrong = resigned(keys, ours.people["ben"], knock, **change)
        assert await refusal(theirs.admit_knock("ben", wrong)) == ("statement_refused", what)
        assert theirs.actor.aggregate.snapshot() == before
        right = resigned(keys, ours.people["ben"], knock)
        assert (await theirs.admit_knock("ben", right)).facts

    in_two_homes(scenario, How(approval=approval))


def test_a_knock_counts_only_for_the_agent_that_signed_it() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        await theirs.admit(ours)
        await ours.knock("ben")
        good = attested(ours.newest(e.JoinRequested))
        knock = said(ours, e.JoinRequested, KnockStatement)
        ben, cat = ours.people["ben"], ours.people["cat"]
        refused = ("statement_refused", "signature")
        assert await refusal(theirs.admit_knock("cat", good)) == refused
        assert await refusal(theirs.admit_knock("ben", resigned(keys, cat, knock))) == refused
        assert await refusal(theirs.admit_knock("ben", Attested(good.body, b""))) == refused
        other_tag = Attested(good.body, keys.sign(ben, "parler/decision", good.body))
        assert await refusal(theirs.admit_knock("ben", other_tag)) == refused
        # Cat signs that ben knocks, and brings it herself.
        assert await refusal(theirs.admit_knock("cat", resigned(keys, cat, knock))) == ("statement_refused", "agent")
        assert theirs.actor.aggregate.pending() == []

    in_two_homes(scenario)


def test_a_knock_that_would_show_nobody_why_its_agent_was_let_in_is_refused() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        await theirs.admit(ours)
        await ours.knock("ben")
        knock = said(ours, e.MemberJoined, KnockStatement)
        ben = ours.people["ben"]
        late = resigned(keys, ben, knock, at=Millis(START_MS + HOUR))
        assert await refusal(theirs.admit_knock("ben", late)) == ("statement_refused", "at")
        just_in_time = resigned(keys, ben, knock, at=Millis(START_MS + HOUR - 1))
        assert (await theirs.admit_knock("ben", just_in_time)).decision.answer == "joined"
        await theirs.leave("ben")
        renamed = resigned(keys, ben, knock, name="bert")
        assert await refusal(theirs.admit_knock("ben", renamed)) == ("statement_refused", "handle")
        assert (await theirs.admit_knock("ben", just_in_time)).decision.answer == "joined"
        assert theirs.members() == ["ann", "ben"]

    in_two_homes(scenario, How(approval=False))


def test_a_home_asks_its_own_clock_whether_a_key_expired() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        await theirs.admit(ours)
        await ours.knock("ben")
        theirs.clock.move(seconds=3_600)
        assert (await refusal(theirs.admit_knock("ben", attested(ours.newest(e.MemberJoined)))))[0] == "unknown_key"

    in_two_homes(scenario, How(approval=False))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"home": ELSEWHERE}, "home"),
        ({"room": RoomId("r_other")}, "room"),
        ({"agent": "U" + "B" * 55}, "agent"),
        ({"principal": "A" + "B" * 55}, "principal"),
        ({"handle": "ben-2"}, "handle"),
        ({"handle": ""}, "handle"),
        ({"nonce": b""}, "nonce"),
    ],
)
def test_a_decision_that_says_anything_but_what_the_room_would_is_refused_and_leaves_nothing(
    change: dict[str, Any], what: str
) -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        await ours.knock("ben")
        await theirs.admit(ours)
        before = theirs.actor.aggregate.snapshot()
        await ours.decide("ben")
        decision = said(ours, e.JoinApproved, DecisionStatement)
        wrong = resigned(keys, PERSON, decision, **change)
        assert await refusal(theirs.admit_decision(wrong)) == ("statement_refused", what)
        assert theirs.actor.aggregate.snapshot() == before
        await theirs.admit_decision(resigned(keys, PERSON, decision))
        assert theirs.members() == ["ann", "ben"]

    in_two_homes(scenario)


def test_a_decision_counts_only_with_the_signature_of_who_may_decide() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        await ours.knock("ben")
        await theirs.admit(ours)
        await ours.decide("ben")
        decision, good = said(ours, e.JoinApproved, DecisionStatement), attested(ours.newest(e.JoinApproved))
        refused = ("statement_refused", "signature")
        for by in (ours.people["ann"], ours.people["ben"]):
            assert await refusal(theirs.admit_decision(resigned(keys, by, decision))) == refused
        assert await refusal(theirs.admit_decision(Attested(good.body, bytes(64)))) == refused
        other_tag = Attested(good.body, keys.sign(PERSON, "parler/delegation", good.body))
        assert await refusal(theirs.admit_decision(other_tag)) == refused
        # Without a proof the owner signs, and here the person decides.
        by_owner = resigned(keys, ours.people["ann"], decision, proof="none")
        assert (await refusal(theirs.admit_decision(by_owner)))[0] == "not_owner"
        by_ben = resigned(keys, ours.people["ben"], decision, proof="none")
        assert (await refusal(theirs.admit_decision(by_ben, by="ben")))[0] == "no_such_room"
        assert theirs.members() == ["ann"]

    in_two_homes(scenario)


def test_where_the_owner_decides_its_signature_counts_and_that_of_another_member_does_not() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        for name in ("ben", "cat"):
            await ours.knock(name)
        await ours.decide("cat")
        await theirs.admit(ours)
        await ours.decide("ben", proof="none")
        decision, good = said(ours, e.JoinApproved, DecisionStatement), attested(ours.newest(e.JoinApproved))
        by_cat = resigned(keys, ours.people["cat"], decision)
        assert (await refusal(theirs.admit_decision(by_cat, by="cat")))[0] == "not_owner"
        await theirs.admit_decision(good)
        assert theirs.members() == ["ann", "ben", "cat"]

    in_two_homes(scenario, How(approver="agent"))


def test_a_decision_whose_handle_another_agent_took_meanwhile_is_refused_until_it_is_signed_again() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        for name in ("ben", "cat"):
            await ours.knock(name)
        await theirs.admit(ours)
        # At their home cat calls itself ben, and comes in first.
        await ours.decide("ben")
        decision = said(ours, e.JoinApproved, DecisionStatement)
        state = theirs.actor.aggregate.state
        request = standing_request(state.requests, ours.people["cat"])
        assert request is not None
        request.name = "ben"
        cat_first = resigned(keys, PERSON, decision, request=request.id, agent=ours.people["cat"], nonce=b"n" * NONCE)
        await theirs.admit_decision(cat_first)
        refused = ("statement_refused", "handle")
        assert await refusal(theirs.admit_decision(attested(ours.newest(e.JoinApproved)))) == refused
        await theirs.admit_decision(resigned(keys, PERSON, decision, handle="ben-2"))
        assert theirs.members() == ["ann", "ben", "ben-2"]

    in_two_homes(scenario)


def test_a_decision_is_of_one_request_and_of_no_later_one() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        await ours.knock("ben")
        await ours.decide("ben")
        await theirs.admit(ours)
        old = attested(ours.newest(e.JoinApproved))
        assert (await refusal(theirs.admit_decision(old)))[0] == "already_decided"
        await ours.leave("ben")
        await ours.knock("ben")
        await theirs.leave("ben")
        await theirs.admit_knock("ben", attested(ours.newest(e.JoinRequested)))
        assert (await refusal(theirs.admit_decision(old)))[0] == "already_decided"
        assert theirs.members() == ["ann"]

    in_two_homes(scenario)


def test_a_denial_is_never_an_admission() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        await ours.knock("ben")
        await theirs.admit(ours)
        await ours.decide("ben", admit=False)
        denial = attested(ours.newest(e.JoinDenied))
        turned = denial.body.replace(b"\xa5admit\xc2", b"\xa5admit\xc3")
        assert turned != denial.body
        assert await refusal(theirs.admit_decision(Attested(turned, denial.signature))) in (
            ("statement_refused", "signature"),
            ("statement_refused", "handle"),
        )
        await theirs.admit_decision(denial)
        assert theirs.members() == ["ann"]

    in_two_homes(scenario)


def test_an_opening_counts_only_at_its_home_for_its_owner_and_with_its_own_title_and_key() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        opened, _, minted = ours.facts()
        opening, title = decode_opened(opened.body or b"")
        signed, terms = Attested(opening, opened.signature or b""), attested(minted)
        what = msgspec.msgpack.decode(minted.body or b"", type=KeyTerms)

        async def opens(
            name: str = "ann",
            *,
            opening: Attested = signed,
            title: bytes = title,
            terms: Attested = terms,
            home: HomeId = RELAY,
        ) -> Settled:
            by = ours.by(name)
            command, words = Admission().open(by, opening, title, terms, home=home, mint=KEY, idempotency_key="open")
            assert command.room == ours.room
            return await theirs.actor.submit(command, by, words)

        refused = "statement_refused"
        assert await refusal(opens(home=ELSEWHERE)) == (refused, "home")
        assert await refusal(opens(title=title + b"x")) == (refused, "format")
        assert await refusal(opens(title=title.replace(b"Auth", b"Sour"))) == (refused, "title")
        assert await refusal(opens(opening=Attested(opening, bytes(64)))) == (refused, "signature")
        assert await refusal(opens(terms=Attested(terms.body, bytes(64)))) == (refused, "signature")
        assert await refusal(opens(terms=signed)) == (refused, "format")
        # Another agent of the same person brings it.
        assert await refusal(opens("ben")) == (refused, "owner")
        for change, wrong in (
            ({"room": RoomId("r_other")}, "room"),
            ({"home": ELSEWHERE}, "home"),
            ({"gated": False}, "gated"),
        ):
            assert await refusal(opens(terms=resigned(keys, PERSON, what, **change))) == (refused, wrong)
        assert theirs.facts() == []
        assert len((await opens()).facts) == 3
        # The same request again is the same room, and leaves nothing.
        assert (await opens()).decision.replay == 1
        again = resigned(keys, PERSON, what, nonce=b"n" * NONCE)
        assert (await opens(terms=again)).decision.replay == 1
        assert len(theirs.facts()) == 3

    in_two_homes(scenario)


def test_what_was_signed_for_one_room_opens_no_door_of_another_of_the_same_home() -> None:
    async def scenario(ours: Home, theirs: Home, keys: CountedKeys) -> None:
        other_opening = [fact for fact in ours.facts() if fact.body is not None]
        assert theirs.room != ours.room
        # The other room is opened at their home with what was signed for it.
        body = encode(theirs.opening.opening)
        assert theirs.opening.title is not None
        title = encode(theirs.opening.title)
        opening = Attested(body, keys.sign(PERSON, "parler/opening", body))
        assert theirs.opening.terms is not None
        terms = resigned(keys, PERSON, theirs.opening.terms, nonce=bytes(NONCE))
        command, words = Admission().open(
            theirs.by("ann"), opening, title, terms, home=RELAY, mint=KEY, idempotency_key="k"
        )
        await theirs.actor.submit(command, theirs.by("ann"), words)
        await ours.knock("ben")
        knock = attested(ours.newest(e.JoinRequested))
        assert await refusal(theirs.admit_knock("ben", knock)) == ("statement_refused", "room")
        there = resigned(keys, ours.people["ben"], said(ours, e.JoinRequested, KnockStatement), room=theirs.room)
        await theirs.admit_knock("ben", there)
        await ours.decide("ben")
        decision = attested(ours.newest(e.JoinApproved))
        assert await refusal(theirs.admit_decision(decision)) == ("statement_refused", "room")
        assert theirs.members() == ["ben"]
        assert len(other_opening) == 2

    in_two_homes(scenario, How(), How(handle="ben"))
