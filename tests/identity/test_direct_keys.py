"""What shows whose a key for direct rooms is: the agent's signature, and its person's delegation."""

from __future__ import annotations

from typing import Any

import pytest

from parlerd.core.direct_keys import encode_published
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, HomeId, Millis, PrincipalId
from parlerd.core.statements import NONCE, SealingKey, encode
from parlerd.identity.delegation import issue
from parlerd.identity.direct_keys import read
from parlerd.identity.sealing import key_pair
from parlerd.identity.signatures import Domain, SigningKey

PERSON, ANOTHER = (SigningKey("principal", bytes([n]) * 32) for n in (1, 9))
BEN, CAT = (SigningKey("agent", bytes([n]) * 32) for n in (3, 4))
HOME = HomeId(SigningKey("relay", b"\x14" * 32).id)


class Signs:
    """A person, and the agents of that person."""

    def __init__(self, person: SigningKey) -> None:
        self.person = person

    @property
    def principal(self) -> PrincipalId:
        return PrincipalId(self.person.id)

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        assert id == self.person.id
        return self.person.sign(domain, data)


def published(*, by: SigningKey = BEN, of: SigningKey = BEN, to: SigningKey = BEN, **said: Any) -> tuple[bytes, bytes]:
    """The key of the agent `of`, signed `by` an agent, with the delegation `to` one."""
    fields: dict[str, Any] = {
        "home": HOME,
        "agent": AgentId(of.id),
        "key": key_pair(b"k" * 32).public,
        "counter": 7,
        "at": Millis(1),
        "nonce": bytes(NONCE),
    }
    statement = encode(SealingKey(**(fields | said)))
    text, signature = issue(Signs(PERSON), AgentId(to.id), Millis(0))
    return encode_published(statement, text, signature), by.sign("parler/sealing-key", statement)


def test_a_key_is_its_agents_and_the_agent_its_persons_also_when_the_delegation_is_long_over() -> None:
    told = read(*published())
    assert (told.key.agent, told.key.counter, told.principal) == (BEN.id, 7, PERSON.id)


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ({"by": CAT}, "statement_refused"),
        ({"to": CAT}, "statement_refused"),
        ({"of": CAT}, "statement_refused"),
        ({"key": bytes(32)}, "sealing_key_refused"),
        ({"key": b"\x01" + bytes(31)}, "sealing_key_refused"),
    ],
    ids=["signed by another", "delegated to another", "of another", "of zeros", "of low order"],
)
def test_no_other_key_is(lie: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as refused:
        read(*published(**lie))
    assert refused.value.code == code


def test_a_delegation_that_the_person_did_not_sign_says_nothing() -> None:
    statement = encode(
        SealingKey(
            home=HOME,
            agent=AgentId(BEN.id),
            key=key_pair(b"k" * 32).public,
            counter=7,
            at=Millis(1),
            nonce=bytes(NONCE),
        )
    )
    text, _ = issue(Signs(PERSON), AgentId(BEN.id), Millis(0))
    _, others = issue(Signs(ANOTHER), AgentId(BEN.id), Millis(0))
    with pytest.raises(Refused) as refused:
        read(encode_published(statement, text, others), BEN.sign("parler/sealing-key", statement))
    assert refused.value.details["what"] == "delegation"
