"""A proof is for one link, one role, one certificate and one pair of keys, and is worth nothing for any other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.model import AgentId, HomeId, PrincipalId
from parlerd.identity.signatures import Domain, SigningKey, verify
from parlerd.identity.transcript import Role, Transcript, attach_bytes

RELAY = SigningKey("relay", bytes(32))
OTHER_RELAY = SigningKey("relay", b"\1" * 32)
PERSON = SigningKey("principal", b"\2" * 32)
OTHER_PERSON = SigningKey("principal", b"\3" * 32)
AGENT = SigningKey("agent", b"\4" * 32)
SECRET: Final = b"sixteen bytes ok"
ROLES: Final[tuple[Role, Role]] = ("relay", "daemon")


class Keys:
    """Every key above."""

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        (key,) = (key for key in (RELAY, OTHER_RELAY, PERSON, OTHER_PERSON, AGENT) if key.id == id)
        return key.sign(domain, data)


KEYS = Keys()
HERE = Transcript(HomeId(RELAY.id), PrincipalId(PERSON.id), b"d" * 32, b"r" * 32, b"c" * 32)
OTHERS: dict[str, Transcript] = {
    "another relay": replace(HERE, home=HomeId(OTHER_RELAY.id)),
    "another person": replace(HERE, principal=PrincipalId(OTHER_PERSON.id)),
    "another nonce of the daemon": replace(HERE, daemon_nonce=b"e" * 32),
    "another nonce of the relay": replace(HERE, relay_nonce=b"e" * 32),
    "another certificate": replace(HERE, certificate=b"e" * 32),
    "no certificate": replace(HERE, certificate=b""),
    "nonces that changed places": replace(HERE, daemon_nonce=HERE.relay_nonce, relay_nonce=HERE.daemon_nonce),
}

nonces = st.binary(min_size=32, max_size=32)
transcripts = st.builds(
    Transcript,
    st.sampled_from([HomeId(RELAY.id), HomeId(OTHER_RELAY.id)]),
    st.sampled_from([PrincipalId(PERSON.id), PrincipalId(OTHER_PERSON.id)]),
    nonces,
    nonces,
    st.just(b"") | nonces,
)


@given(transcripts, st.sampled_from(ROLES), st.binary(min_size=16, max_size=40))
def test_both_ends_accept_each_others_proofs(here: Transcript, role: Role, secret: bytes) -> None:
    assert here.is_signed(role, here.sign(role, KEYS))
    assert here.knows(role, secret, here.mac(role, secret))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("what", OTHERS)
def test_a_proof_that_was_given_here_is_worth_nothing_with(what: str, role: Role) -> None:
    other = OTHERS[what]
    assert not other.is_signed(role, HERE.sign(role, KEYS))
    assert not other.knows(role, SECRET, HERE.mac(role, SECRET))
    assert other.channel != HERE.channel


@given(transcripts, transcripts, st.sampled_from(ROLES), st.sampled_from(ROLES))
def test_a_proof_fits_its_own_transcript_and_role_alone(a: Transcript, b: Transcript, ra: Role, rb: Role) -> None:
    same = (a, ra) == (b, rb)
    assert b.is_signed(rb, a.sign(ra, KEYS)) is same
    assert b.knows(rb, SECRET, a.mac(ra, SECRET)) is same
    assert (a.channel == b.channel) is (a == b)


@pytest.mark.parametrize("role", ROLES)
def test_a_proof_of_one_end_cannot_be_sent_back_as_the_others(role: Role) -> None:
    """Also where both ends have one key, as a relay that dials itself would."""
    other: Role = "daemon" if role == "relay" else "relay"
    looped = replace(HERE, principal=PrincipalId(HERE.home))
    assert looped.is_signed(role, looped.sign(role, KEYS))
    assert not looped.is_signed(other, looped.sign(role, KEYS))
    assert not HERE.knows(other, SECRET, HERE.mac(role, SECRET))


@given(st.binary(max_size=64))
def test_another_secret_or_a_mac_that_was_made_up_shows_no_knowledge(guess: bytes) -> None:
    for role in ROLES:
        assert HERE.knows(role, SECRET, guess) is (guess == HERE.mac(role, SECRET))
        assert HERE.knows(role, guess, HERE.mac(role, SECRET)) is (guess == SECRET)


def test_a_proof_needs_the_key_that_the_transcript_names() -> None:
    class Impostor:
        def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
            return OTHER_PERSON.sign(domain, data)

    for role in ROLES:
        assert not HERE.is_signed(role, HERE.sign(role, Impostor()))


@pytest.mark.parametrize("domain", ["parler/auth", "parler/message", "parler/delegation"])
def test_a_proof_counts_under_its_own_tag_alone(domain: Any) -> None:
    class Mistaken:
        def sign(self, id: str, _domain: Domain, data: bytes) -> bytes:
            return RELAY.sign(domain, data)

    assert not HERE.is_signed("relay", HERE.sign("relay", Mistaken()))


def test_an_agent_attaches_to_one_link_for_one_person() -> None:
    agent, person = AgentId(AGENT.id), PrincipalId(PERSON.id)
    signature = AGENT.sign("parler/link", attach_bytes(HERE.channel, agent, person))
    assert verify(AGENT.id, "parler/link", attach_bytes(HERE.channel, agent, person), signature)
    for other in (
        attach_bytes(OTHERS["another relay"].channel, agent, person),
        attach_bytes(HERE.channel, agent, PrincipalId(OTHER_PERSON.id)),
        attach_bytes(HERE.channel, AgentId(PERSON.id), person),
    ):
        assert not verify(AGENT.id, "parler/link", other, signature)


def test_a_secret_is_in_no_repr() -> None:
    assert "sixteen" not in repr(HERE)
    assert HERE.mac("relay", SECRET) != SECRET
