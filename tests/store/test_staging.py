"""What is stored of a fact: its bytes, a digest over them, and the chain over the digests of its log."""

from __future__ import annotations

import hashlib

import pytest

from parlerd.core.events import CURRENT_V, encode_header
from parlerd.core.model import Position
from parlerd.store.port import Append, NewFact
from parlerd.store.staging import EMPTY, SALT_LENGTH, stage
from tests.support.facts import ROOM, SIGNATURE
from tests.support.golden import LOGS, recorded


@pytest.mark.parametrize("log", LOGS)
def test_the_chain_of_a_log_is_over_its_salted_bytes_and_the_same_for_ever(log: str) -> None:
    saved = recorded(log)
    salts = hashlib.shake_256(b"salts").digest(SALT_LENGTH * len(saved))
    facts = [NewFact(fact.header, fact.body, fact.body and SIGNATURE) for fact in saved]
    staged = stage(Append(ROOM, Position(0), facts), EMPTY, salts)
    chain = bytes(32)
    for n, (fact, row) in enumerate(zip(saved, staged.facts, strict=True)):
        data = encode_header(fact.header)
        assert fact.v != CURRENT_V[fact.type] or data == fact.data
        digest = hashlib.sha256(salts[n * SALT_LENGTH : (n + 1) * SALT_LENGTH] + data).digest()
        chain = hashlib.sha256(chain + digest).digest()
        assert (row.header, row.digest, row.chain) == (data, digest, chain)
    assert (staged.head.position, staged.head.chain) == (len(saved), chain)
