"""The keys of agents that others write to directly: the newest of each counts, and nobody's change often."""

from __future__ import annotations

import pytest

from parlerd.core.direct_keys import FRESH_MS, decode_published, encode_published
from parlerd.core.errors import Refused
from parlerd.core.model import PrincipalId
from tests.support.core import Agent, HomeDriver, agent

ANN, BEN = (agent(name, of=name) for name in ("ann", "ben"))


def counter(home: HomeDriver, who: Agent) -> int:
    known = home.aggregate.direct_keys.of(who.id)
    return 0 if known is None else known.counter


def test_the_key_with_the_highest_counter_counts_and_none_of_before_comes_back() -> None:
    home = HomeDriver()
    assert home.tell_direct_key(ANN, 5).answer == "told"
    home.now += FRESH_MS
    for late in (5, 4):
        decision = home.tell_direct_key(ANN, late)
        assert (decision.answer, decision.events) == ("stale", ())
    assert home.tell_direct_key(ANN, 6).answer == "told"
    assert (counter(home, ANN), counter(home, BEN)) == (6, 0)
    home.verify()


def test_a_key_follows_another_once_a_day() -> None:
    home = HomeDriver()
    home.tell_direct_key(ANN, 1)
    home.now += FRESH_MS - 10
    decision = home.tell_direct_key(ANN, 2)
    assert (decision.answer, decision.events) == ("early", ())
    home.now += 10
    assert home.tell_direct_key(ANN, 3).answer == "told"
    home.verify()


def test_an_agent_that_acts_for_another_person_now_tells_its_key_at_once() -> None:
    home = HomeDriver()
    home.tell_direct_key(ANN, 5)
    moved = Agent(ANN.id, PrincipalId(BEN.principal), ANN.name)
    assert home.tell_direct_key(moved, 1).answer == "told"
    known = home.aggregate.direct_keys.of(ANN.id)
    assert known is not None
    assert (known.principal, known.counter) == (BEN.principal, 1)


def test_the_keys_of_a_person_who_is_sent_away_are_gone() -> None:
    home = HomeDriver()
    home.enrol(ANN)
    home.tell_direct_key(ANN)
    home.tell_direct_key(BEN)
    home.kick(ANN)
    assert (counter(home, ANN), counter(home, BEN)) == (0, 1)
    home.verify()


def test_what_was_published_is_read_again_and_nothing_else_is() -> None:
    assert decode_published(encode_published(b"key", b"delegation", b"signature")) == (
        b"key",
        b"delegation",
        b"signature",
    )
    for body in (b"", b"\x93", b"text", encode_published(b"key", b"", b"")[:-1]):
        with pytest.raises(Refused):
            decode_published(body)
