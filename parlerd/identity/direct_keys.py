"""The key that an agent tells a home for the direct rooms that others open for it there, and what shows whose it is.

    told  the agent's home: its `SealingKey`, signed by the agent, and its person's delegation
    read  whoever opens a room for the agent, and the home that keeps the key: both signatures, and a key that is one

Not here: which key counts (`core.direct_keys`), and what is wrapped to it (`epochs`). Above: the engine, and the links
to relays. Below: `delegation`, `sealing`, `signatures`. Invariant: nobody but the agent makes a key that is taken for
the agent's, and nobody but its person says for whom it acts.
"""

from __future__ import annotations

from typing import NamedTuple

from parlerd.core.direct_keys import decode_published
from parlerd.core.errors import Refused
from parlerd.core.model import PrincipalId
from parlerd.core.statements import SealingKey, check
from parlerd.identity import delegation
from parlerd.identity.proofs import signed
from parlerd.identity.sealing import check_key


class Told(NamedTuple):
    """A key that an agent told, whose signatures were checked."""

    key: SealingKey
    statement: bytes
    """The statement as the agent signed it."""
    principal: PrincipalId
    """The person for whom the agent acts."""


def read(body: bytes, signature: bytes) -> Told:
    """What an agent told (`core.direct_keys.encode_published`). That the delegation is over is no hindrance: whom the
    agent acted for does not change. Raises `Refused`: `statement_refused`, and `sealing_key_refused` for a key to which
    nothing can be wrapped."""
    statement, text, by_person = decode_published(body)
    key = check(statement, SealingKey)
    signed(SealingKey, statement, signature, key.agent)
    check_key(key.key)
    acts = delegation.read(text, by_person)
    if acts is None or acts.agent != key.agent:
        raise Refused("statement_refused", what="delegation")
    return Told(key, statement, acts.principal)
