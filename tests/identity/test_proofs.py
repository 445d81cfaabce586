"""Who is a member: what an honest home can show is believed, and nothing that a lying one can put together.

The world of these tests is one room with every kind of member. A forger has all that was ever signed, here and in
another room and at another home, and keys of its own.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, Approver, HomeId, Millis, PrincipalId, RequestId, RoomId
from parlerd.core.statements import (
    NONCE,
    SUITE,
    Claim,
    DecisionStatement,
    KeyTerms,
    KnockStatement,
    Opening,
    Owner,
    Statement,
    Transfer,
    encode,
    first_owner,
    room_id_of,
)
from parlerd.identity.proofs import (
    Evidence,
    bears,
    decode_evidence,
    encode_evidence,
    read_opening,
    signed,
    succeeds,
    unproven,
)
from parlerd.identity.signatures import Domain, SigningKey

PERSON = SigningKey("principal", b"\x01" * 32)
OWNER, BEN, MALLORY = (SigningKey("agent", bytes([n]) * 32) for n in (2, 3, 4))
STRANGER = SigningKey("principal", b"\x09" * 32)
MALLORY_S_PERSON = SigningKey("principal", b"\x0a" * 32)
HOME, ELSEWHERE = (HomeId(SigningKey("relay", bytes([n]) * 32).id) for n in (20, 21))
EXPIRES = Millis(10_000)


def sign(key: SigningKey, statement: Statement) -> tuple[bytes, bytes]:
    body = encode(statement)
    return body, key.sign(statement.TAG, body)


class Place:
    """A room at a home, with what its person signed there."""

    def __init__(
        self, *, home: HomeId = HOME, approver: Approver = "person", nonce: bytes = bytes(NONCE), **more: Any
    ) -> None:
        said: dict[str, Any] = {"kind": "session", **more}
        self.opening = Opening(
            home=home,
            history="full",
            owner=AgentId(OWNER.id),
            principal=PrincipalId(PERSON.id),
            handle="olive",
            host="",
            approval=True,
            approver=approver,
            title=bytes(32),
            nonce=nonce,
            **said,
        )
        self.body, self.signature = sign(PERSON, self.opening)
        self.room = room_id_of(self.body)

    def terms(self, by: SigningKey = PERSON, **about: Any) -> tuple[bytes, bytes]:
        fields: dict[str, Any] = {
            "home": self.opening.home,
            "room": self.room,
            "ref": "k_1",
            "gated": False,
            "expires_at": EXPIRES,
            "max_uses": 5,
            "preapproved": (),
            "nonce": bytes(NONCE),
        }
        return sign(by, KeyTerms(**fields | about))

    def knock(self, by: SigningKey = BEN, **about: Any) -> tuple[bytes, bytes]:
        fields: dict[str, Any] = {
            "home": self.opening.home,
            "room": self.room,
            "ref": "k_1",
            "agent": by.id,
            "principal": STRANGER.id,
            "name": "ben",
            "host": "codex",
            "at": Millis(EXPIRES - 1),
            "nonce": bytes(NONCE),
        }
        return sign(by, KnockStatement(**fields | about))

    def decision(self, by: SigningKey = PERSON, **about: Any) -> tuple[bytes, bytes]:
        fields: dict[str, Any] = {
            "home": self.opening.home,
            "room": self.room,
            "request": RequestId("q_1"),
            "agent": BEN.id,
            "principal": STRANGER.id,
            "handle": "ben",
            "admit": True,
            "proof": "cli",
            "at": Millis(5),
            "nonce": bytes(NONCE),
        }
        return sign(by, DecisionStatement(**fields | about))

    def why_not(self, claim: Claim, **evidence: tuple[bytes, bytes]) -> str | None:
        """What keeps the claim from being believed."""
        fields: dict[str, Any] = {}
        for name, (body, signature) in evidence.items():
            fields |= {name: body, f"{name}_signature": signature}
        return unproven(self.room, self.opening, claim, Evidence(**fields))


HERE = Place()
BEN_IS_IN = Claim(AgentId(BEN.id), PrincipalId(STRANGER.id), "ben")
MALLORY_IS_IN = Claim(AgentId(MALLORY.id), PrincipalId(STRANGER.id), "mallory")


# -- what an honest home shows -----------------------------------------------------------------------------


def test_the_owner_is_a_member_by_the_opening() -> None:
    assert HERE.why_not(Claim(AgentId(OWNER.id), PrincipalId(PERSON.id), "olive")) is None


def test_an_agent_is_a_member_by_a_decision_of_the_person() -> None:
    assert HERE.why_not(BEN_IS_IN, decision=HERE.decision()) is None


def test_an_agent_is_a_member_by_a_decision_of_the_owner_where_the_owner_decides() -> None:
    place = Place(approver="agent")
    assert place.why_not(BEN_IS_IN, decision=place.decision(OWNER, proof="none")) is None
    assert place.why_not(BEN_IS_IN, decision=place.decision(PERSON, proof="form")) is None


def test_an_agent_is_a_member_by_a_knock_with_an_open_key() -> None:
    assert HERE.why_not(BEN_IS_IN, knock=HERE.knock(), terms=HERE.terms()) is None
    assert (
        HERE.why_not(msgspec.structs.replace(BEN_IS_IN, handle="ben-3"), knock=HERE.knock(), terms=HERE.terms()) is None
    )


def test_an_agent_whom_the_person_named_is_a_member_by_a_knock_with_a_gated_key() -> None:
    terms = HERE.terms(gated=True, preapproved=(AgentId(BEN.id),))
    assert HERE.why_not(BEN_IS_IN, knock=HERE.knock(), terms=terms) is None


def test_into_a_sealed_room_a_knock_lets_in_whom_a_direct_room_is_for_and_nobody_else() -> None:
    direct, session = Place(kind="dm", sealed=SUITE), Place(sealed=SUITE)
    for place, is_let_in in ((direct, True), (session, False)):
        named = place.terms(gated=True, preapproved=(AgentId(BEN.id),))
        assert (place.why_not(BEN_IS_IN, knock=place.knock(), terms=named) is None) is is_let_in
    # Nobody but the owner's person names it, and nobody but the agent knocks.
    mine = direct.terms(MALLORY_S_PERSON, gated=True, preapproved=(AgentId(MALLORY.id),))
    assert direct.why_not(MALLORY_IS_IN, knock=direct.knock(MALLORY, name="mallory"), terms=mine) == "signature"
    named = direct.terms(gated=True, preapproved=(AgentId(BEN.id),))
    assert direct.why_not(MALLORY_IS_IN, knock=direct.knock(MALLORY, name="mallory"), terms=named) == "evidence"
    assert direct.why_not(BEN_IS_IN, knock=direct.knock(MALLORY, agent=BEN.id), terms=named) == "signature"
    # A key that lets in without asking is no name.
    assert direct.why_not(BEN_IS_IN, knock=direct.knock(), terms=direct.terms()) == "evidence"


def test_a_decision_counts_before_a_knock_that_is_shown_with_it() -> None:
    gated = HERE.terms(gated=True)
    assert HERE.why_not(BEN_IS_IN, decision=HERE.decision(), knock=HERE.knock(), terms=gated) is None


# -- what a lying home puts together -----------------------------------------------------------------------

OTHER_ROOM = Place(nonce=b"another room....")
OTHER_HOME = Place(home=ELSEWHERE)
Shown = dict[str, tuple[bytes, bytes]]
LIES: dict[str, tuple[Claim, Shown, str]] = {
    "nothing at all": (BEN_IS_IN, {}, "evidence"),
    "a knock alone": (BEN_IS_IN, {"knock": HERE.knock()}, "evidence"),
    "terms alone": (BEN_IS_IN, {"terms": HERE.terms()}, "evidence"),
    "the owner under another handle": (
        Claim(AgentId(OWNER.id), PrincipalId(PERSON.id), "ben"),
        {},
        "evidence",
    ),
    "the owner for another person": (Claim(AgentId(OWNER.id), PrincipalId(STRANGER.id), "olive"), {}, "evidence"),
    "a decision that nobody signed": (BEN_IS_IN, {"decision": (HERE.decision()[0], bytes(64))}, "signature"),
    "a decision with half a signature": (BEN_IS_IN, {"decision": (HERE.decision()[0], b"")}, "signature"),
    "a decision of a stranger": (BEN_IS_IN, {"decision": HERE.decision(STRANGER)}, "signature"),
    "a decision of the newcomer itself": (BEN_IS_IN, {"decision": HERE.decision(BEN)}, "signature"),
    "a decision of the owner where the person decides": (
        BEN_IS_IN,
        {"decision": HERE.decision(OWNER, proof="none")},
        "proof",
    ),
    "a decision of the owner in the person's name": (BEN_IS_IN, {"decision": HERE.decision(OWNER)}, "signature"),
    "a decision without a proof that the person signed": (
        BEN_IS_IN,
        {"decision": HERE.decision(PERSON, proof="none")},
        "proof",
    ),
    "a denial": (BEN_IS_IN, {"decision": HERE.decision(admit=False, handle="")}, "admit"),
    "a denial of the same handle": (
        msgspec.structs.replace(BEN_IS_IN, handle=""),
        {"decision": HERE.decision(admit=False, handle="")},
        "admit",
    ),
    "a decision about another agent": (MALLORY_IS_IN, {"decision": HERE.decision()}, "agent"),
    "a decision about an agent for another person": (
        msgspec.structs.replace(BEN_IS_IN, principal=PrincipalId(PERSON.id)),
        {"decision": HERE.decision()},
        "principal",
    ),
    "another handle": (
        msgspec.structs.replace(BEN_IS_IN, handle="olive-2"),
        {"decision": HERE.decision()},
        "handle",
    ),
    "a decision of another room": (BEN_IS_IN, {"decision": OTHER_ROOM.decision()}, "room"),
    "a decision of another home": (BEN_IS_IN, {"decision": OTHER_HOME.decision()}, "home"),
    "a decision under another tag": (
        BEN_IS_IN,
        {"decision": (HERE.decision()[0], PERSON.sign("parler/key", HERE.decision()[0]))},
        "signature",
    ),
    "terms as a decision": (BEN_IS_IN, {"decision": HERE.terms()}, "format"),
    "an opening as a decision": (BEN_IS_IN, {"decision": (HERE.body, HERE.signature)}, "format"),
    "a gated key": (BEN_IS_IN, {"knock": HERE.knock(), "terms": HERE.terms(gated=True)}, "gated"),
    "a gated key that names another agent": (
        BEN_IS_IN,
        {"knock": HERE.knock(), "terms": HERE.terms(gated=True, preapproved=(AgentId(MALLORY.id),))},
        "gated",
    ),
    "another key that names the agent": (
        BEN_IS_IN,
        {"knock": HERE.knock(), "terms": HERE.terms(ref="k_2", gated=True, preapproved=(AgentId(BEN.id),))},
        "ref",
    ),
    "an open key that expired before the knock": (
        BEN_IS_IN,
        {"knock": HERE.knock(at=EXPIRES), "terms": HERE.terms()},
        "expires_at",
    ),
    "terms that nobody signed": (
        BEN_IS_IN,
        {"knock": HERE.knock(), "terms": (HERE.terms()[0], bytes(64))},
        "signature",
    ),
    "terms of a stranger": (BEN_IS_IN, {"knock": HERE.knock(), "terms": HERE.terms(STRANGER)}, "signature"),
    "terms of the owner's agent": (BEN_IS_IN, {"knock": HERE.knock(), "terms": HERE.terms(OWNER)}, "signature"),
    "terms under another tag": (
        BEN_IS_IN,
        {"knock": HERE.knock(), "terms": (HERE.terms()[0], PERSON.sign("parler/decision", HERE.terms()[0]))},
        "signature",
    ),
    "terms of another room": (BEN_IS_IN, {"knock": HERE.knock(), "terms": OTHER_ROOM.terms()}, "room"),
    "terms of another home": (BEN_IS_IN, {"knock": HERE.knock(), "terms": OTHER_HOME.terms()}, "home"),
    "a knock that nobody signed": (
        BEN_IS_IN,
        {"knock": (HERE.knock()[0], bytes(64)), "terms": HERE.terms()},
        "signature",
    ),
    "a knock that another agent signed": (
        BEN_IS_IN,
        {"knock": HERE.knock(MALLORY, agent=BEN.id), "terms": HERE.terms()},
        "signature",
    ),
    "a knock of another agent": (
        BEN_IS_IN,
        {"knock": HERE.knock(MALLORY), "terms": HERE.terms()},
        "signature",
    ),
    "a knock in another agent's name": (
        BEN_IS_IN,
        {"knock": HERE.knock(agent=MALLORY.id), "terms": HERE.terms()},
        "agent",
    ),
    "a knock at another room": (BEN_IS_IN, {"knock": OTHER_ROOM.knock(), "terms": HERE.terms()}, "room"),
    "a knock at another home": (BEN_IS_IN, {"knock": OTHER_HOME.knock(), "terms": HERE.terms()}, "home"),
    "a knock under another tag": (
        BEN_IS_IN,
        {"knock": (HERE.knock()[0], BEN.sign("parler/message", HERE.knock()[0])), "terms": HERE.terms()},
        "signature",
    ),
    "a knock for another person": (
        msgspec.structs.replace(BEN_IS_IN, principal=PrincipalId(PERSON.id)),
        {"knock": HERE.knock(), "terms": HERE.terms()},
        "principal",
    ),
    "a knock under another name": (
        msgspec.structs.replace(BEN_IS_IN, handle="olive-2"),
        {"knock": HERE.knock(), "terms": HERE.terms()},
        "handle",
    ),
    "a bad decision beside a good knock": (
        BEN_IS_IN,
        {"decision": HERE.decision(STRANGER), "knock": HERE.knock(), "terms": HERE.terms()},
        "signature",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_not_believed(lie: str) -> None:
    claim, shown, what = LIES[lie]
    assert HERE.why_not(claim, **shown) == what


def test_evidence_reads_back_as_it_was_stored() -> None:
    evidence = Evidence(*HERE.decision(), *HERE.knock(), *HERE.terms())
    assert decode_evidence(encode_evidence(evidence)) == evidence
    assert decode_evidence(encode_evidence(Evidence())) == Evidence()
    for body in (b"", b"\xc1", b"\xc0", b"\x91\x01"):
        with pytest.raises(Refused) as caught:
            decode_evidence(body)
        assert caught.value.details == {"what": "format"}


def test_each_byte_of_a_decision_counts() -> None:
    body, signature = HERE.decision()
    for place in range(len(body)):
        changed = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        assert HERE.why_not(BEN_IS_IN, decision=(changed, signature)) is not None


# -- the opening -------------------------------------------------------------------------------------------


def refusal(room: RoomId, home: HomeId, body: bytes, signature: bytes) -> object:
    with pytest.raises(Refused) as caught:
        read_opening(room, home, body, signature)
    assert caught.value.code == "statement_refused"
    return caught.value.details["what"]


def test_the_opening_of_a_room_is_the_one_that_its_id_is_the_hash_of() -> None:
    assert read_opening(HERE.room, HOME, HERE.body, HERE.signature) == HERE.opening
    assert refusal(HERE.room, HOME, OTHER_ROOM.body, OTHER_ROOM.signature) == "room"
    assert refusal(OTHER_ROOM.room, HOME, HERE.body, HERE.signature) == "room"
    changed, body = sign(PERSON, msgspec.structs.replace(HERE.opening, approver="agent"))
    assert refusal(HERE.room, HOME, changed, body) == "room"


def test_an_opening_is_of_one_home_and_signed_by_the_person_that_it_names() -> None:
    assert refusal(OTHER_HOME.room, HOME, OTHER_HOME.body, OTHER_HOME.signature) == "home"
    assert refusal(HERE.room, ELSEWHERE, HERE.body, HERE.signature) == "home"
    assert refusal(HERE.room, HOME, HERE.body, bytes(64)) == "signature"
    assert refusal(HERE.room, HOME, HERE.body, STRANGER.sign("parler/opening", HERE.body)) == "signature"
    assert refusal(HERE.room, HOME, HERE.body, PERSON.sign("parler/key", HERE.body)) == "signature"
    forged = encode(msgspec.structs.replace(HERE.opening, home=HomeId("x")))
    assert refusal(room_id_of(forged), HomeId("x"), forged, PERSON.sign("parler/opening", forged)) == "home"


def test_a_statement_is_read_only_with_the_signature_of_whoever_must_have_signed_it() -> None:
    body, signature = HERE.knock()
    assert signed(KnockStatement, body, signature, BEN.id).name == "ben"
    for by, said in ((MALLORY.id, signature), (BEN.id, bytes(64)), ("nobody", signature)):
        with pytest.raises(Refused) as caught:
            signed(KnockStatement, body, said, by)
        assert caught.value.details == {"what": "signature"}


# -- what bears a message ----------------------------------------------------------------------------------

RELAY = SigningKey("relay", bytes([200]) * 32)
GRANTED = AgentId("T" + "A" * 52)


@pytest.mark.parametrize("signer", [BEN, RELAY, PERSON])
@pytest.mark.parametrize("domain", get_args(Domain))
@pytest.mark.parametrize("author", [AgentId(BEN.id), GRANTED])
def test_an_author_bears_its_words_and_a_home_those_of_agents_without_a_key_and_nothing_else_does(
    author: AgentId, domain: Domain, signer: SigningKey
) -> None:
    expected = {
        (BEN.id, "parler/message", BEN.id): "valid",
        (GRANTED, "parler/admitted", RELAY.id): "home",
    }.get((author, domain, signer.id))
    signature = signer.sign(domain, b"an envelope")
    assert bears(author, HomeId(RELAY.id), b"an envelope", signature) == expected
    assert bears(author, HomeId(RELAY.id), b"another", signature) is None
    # Another home's word is no word of this one.
    assert bears(author, ELSEWHERE, b"an envelope", signature) == ("valid" if expected == "valid" else None)


@given(st.binary(max_size=70))
def test_whatever_stands_in_the_place_of_a_signature_bears_nothing(signature: bytes) -> None:
    for author in (AgentId(BEN.id), GRANTED):
        assert bears(author, HomeId(RELAY.id), b"an envelope", signature) is None


# -- other owners ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_sealed", [False, True], ids=["in clear", "sealed"])
def test_nobody_takes_a_sealed_room_over_but_whom_the_owner_named(is_sealed: bool) -> None:
    owners = [first_owner(HERE.opening)]
    named: dict[str, Any] = {"is_sealed": is_sealed, "successor": STRANGER.id}
    fields: dict[str, Any] = {
        "home": HERE.opening.home,
        "room": HERE.room,
        "number": 1,
        "owner": BEN.id,
        "principal": STRANGER.id,
        "at": Millis(5),
        "nonce": bytes(NONCE),
    }
    place = HERE.room, HERE.opening.home, owners
    if is_sealed:
        bare = sign(PERSON, Transfer(**fields, taken=False))
        with pytest.raises(Refused) as caught:
            succeeds(*place, *bare, **named)
        assert caught.value.details["what"] == "record"
        fields["record"] = 3
    taken = sign(STRANGER, Transfer(**fields, taken=True))
    handed = sign(PERSON, Transfer(**fields, taken=False))
    assert succeeds(*place, *handed, is_sealed=is_sealed).owner == BEN.id
    assert succeeds(*place, *taken, **named).taken
    if not is_sealed:
        assert succeeds(*place, *taken, is_sealed=False).taken
        return
    for successor in (None, PrincipalId(PERSON.id)):
        with pytest.raises(Refused) as caught:
            succeeds(*place, *taken, is_sealed=True, successor=successor)
        assert caught.value.details["what"] == "taken"
    # The record that names somebody has to be one of the owner's who is gone.
    later = [*owners, Owner(PrincipalId(PERSON.id), AgentId(BEN.id), 3)]
    again = sign(STRANGER, Transfer(**fields | {"number": 2}, taken=True))
    with pytest.raises(Refused) as caught:
        succeeds(HERE.room, HERE.opening.home, later, *again, **named)
    assert caught.value.details["what"] == "taken"
