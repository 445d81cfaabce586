"""Delegations: what the person's key signed for an agent, and nothing that was changed since."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.model import AgentId, Millis
from parlerd.identity import delegation
from parlerd.identity.keyring import KeyRing

NOW = Millis(1_700_000_000_000)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys")


def test_a_delegation_names_agent_person_and_thirty_days(ring: KeyRing) -> None:
    agent = ring.create_agent()
    found = delegation.read(*delegation.issue(ring, agent, NOW))
    assert found == delegation.Delegation(
        agent=agent,
        principal=ring.principal,
        issued_at=NOW,
        expires_at=Millis(NOW + 30 * 24 * 3_600_000),
    )


def test_one_that_the_person_did_not_sign_is_none(ring: KeyRing) -> None:
    agent = ring.create_agent()
    text, _ = delegation.issue(ring, agent, NOW)
    assert delegation.read(text, ring.sign(agent, "parler/delegation", text)) is None
    assert delegation.read(text, ring.sign(ring.principal, "parler/message", text)) is None


def test_one_that_was_changed_since_is_none(ring: KeyRing) -> None:
    text, signature = delegation.issue(ring, ring.create_agent(), NOW, Millis(1_000))
    longer = msgspec.msgpack.decode(text) | {"expires_at": NOW + 10**12}
    assert delegation.read(msgspec.msgpack.encode(longer), signature) is None


@given(text=st.binary(max_size=80), signature=st.binary(max_size=70))
def test_rubbish_is_none_and_not_an_error(text: bytes, signature: bytes) -> None:
    assert delegation.read(text, signature) is None


def test_an_agent_cannot_delegate_to_itself_as_if_it_were_a_person(ring: KeyRing) -> None:
    """The id that verifies is the one the text names as principal, and its kind is a person's."""
    agent = ring.create_agent()
    text = msgspec.msgpack.encode(
        delegation.Delegation(agent=AgentId(agent), principal=agent, issued_at=NOW, expires_at=NOW)  # type: ignore[arg-type]
    )
    assert delegation.read(text, ring.sign(agent, "parler/delegation", text)) is None
