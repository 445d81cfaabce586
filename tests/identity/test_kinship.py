"""What relays of one home prove to each other is for one link, one part and two processes, and worth nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parlerd.core.model import HomeId, PrincipalId
from parlerd.identity.kinship import Kinship, Part
from parlerd.identity.signatures import Domain, SigningKey
from parlerd.identity.transcript import Transcript

HOME = SigningKey("relay", bytes(32))
OTHER = SigningKey("relay", b"\1" * 32)


class Keys:
    """The keys of two homes."""

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        (key,) = (key for key in (HOME, OTHER) if key.id == id)
        return key.sign(domain, data)


HERE = Kinship(HomeId(HOME.id), ("a", "1"), ("b", "2"), b"d" * 32, b"e" * 32, b"c" * 32)
OTHERS = {
    "another home": replace(HERE, home=HomeId(OTHER.id)),
    "another relay that dials": replace(HERE, dialling=("x", "1")),
    "another process of it": replace(HERE, dialling=("a", "9")),
    "another relay that is dialled": replace(HERE, answering=("x", "2")),
    "another process of that": replace(HERE, answering=("b", "9")),
    "another nonce of who dials": replace(HERE, dialling_nonce=b"x" * 32),
    "another nonce of who answers": replace(HERE, answering_nonce=b"x" * 32),
    "another certificate": replace(HERE, certificate=b"x" * 32),
    "the same two the other way round": replace(HERE, dialling=("b", "2"), answering=("a", "1")),
}
PARTS: tuple[Part, Part] = ("dials", "answers")


@pytest.mark.parametrize("part", PARTS)
def test_each_end_proves_the_key(part: Part) -> None:
    assert HERE.is_signed(part, HERE.sign(part, Keys()))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", OTHERS)
def test_a_proof_counts_nowhere_else(part: Part, name: str) -> None:
    proof = HERE.sign(part, Keys())
    assert not OTHERS[name].is_signed(part, proof)


def test_what_one_end_gave_is_worth_nothing_to_the_other() -> None:
    # Both have the same key, so whoever dials could show what it was shown.
    assert not HERE.is_signed("dials", HERE.sign("answers", Keys()))
    assert not HERE.is_signed("answers", HERE.sign("dials", Keys()))


@pytest.mark.parametrize("part", PARTS)
def test_no_proof_of_a_link_to_a_daemon_counts_between_relays_and_none_the_other_way(part: Part) -> None:
    link = Transcript(HomeId(HOME.id), PrincipalId(HOME.id), b"d" * 32, b"e" * 32, b"c" * 32)
    assert not HERE.is_signed(part, link.sign("relay", Keys()))
    assert not link.is_signed("relay", HERE.sign(part, Keys()))
