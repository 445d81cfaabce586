"""What is stored of a fact: its bytes, a digest over them, and the chain over the digests of its log."""

from __future__ import annotations

import hashlib

import pytest

from parlerd.core.events import CURRENT_V, encode_header
from parlerd.core.model import Position
from parlerd.store.port import Append, NewFact
from parlerd.store.staging import EMPTY, SALT_LENGTH, stage
from tests.support.facts import ROOM
from tests.support.golden import LOGS, recorded


@pytest.mark.parametrize("log", LOGS)
def test_the_chain_of_a_log_is_over_its_salted_bytes_and_the_same_for_ever(log: str) -> None:
    saved = recorded(log)
    salts = hashlib.shake_256(b"salts").digest(SALT_LENGTH * len(saved))
    staged = stage(Append(ROOM, Position(0), [NewFact(fact.header) for fact in saved]), EMPTY, salts)
    chain = bytes(32)
    for n, (fact, row) in enumerate(zip(saved, staged.facts, strict=True)):
        # A fact of an older version is never written again; staged, it has today's bytes.
        data = fact.data if fact.v == CURRENT_V[fact.type] else encode_header(fact.header)
        digest = hashlib.sha256(salts[n * SALT_LENGTH : (n + 1) * SALT_LENGTH] + data).digest()
        chain = hashlib.sha256(chain + digest).digest()
        assert (row.header, row.digest, row.chain) == (data, digest, chain)
    assert (staged.head.position, staged.head.chain) == (len(saved), chain)
