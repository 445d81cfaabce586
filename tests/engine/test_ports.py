"""One contract for every randomness and clock, the real ones and the counted ones that tests run on."""

from __future__ import annotations

import time

import pytest
import trio

from parlerd.core.model import AgentId
from parlerd.engine.ports import Clock, Keys, Randomness, SystemRandomness, WallClock
from parlerd.identity.keyring import KeyRing
from parlerd.identity.signatures import verify
from tests.support.engine import CountedKeys, CountedRandomness, HandClock, SteppedClock

RANDOM = [SystemRandomness, CountedRandomness]


@pytest.fixture(params=RANDOM)
def random(request: pytest.FixtureRequest) -> Randomness:
    made: Randomness = request.param()
    return made


@pytest.fixture(params=["ring", "counted"])
def keys(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return KeyRing(tmp_path_factory.mktemp("keys")) if request.param == "ring" else CountedKeys()


def test_ids_begin_with_their_prefix_and_are_never_given_twice(random: Randomness) -> None:
    ids = [random.new("m") for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert all(id.startswith("m_") and id.isascii() and 20 < len(id) < 40 for id in ids)


def test_bytes_are_as_many_as_asked_for_and_differ(random: Randomness) -> None:
    assert [len(random.bytes(count)) for count in (0, 1, 16, 1000)] == [0, 1, 16, 1000]
    assert random.bytes(16) != random.bytes(16)


def test_counted_randomness_is_the_same_in_every_run() -> None:
    one, two = CountedRandomness(), CountedRandomness()
    assert [one.new("m"), one.bytes(8), one.new("r")] == [two.new("m"), two.bytes(8), two.new("r")]


def test_an_id_cannot_be_guessed_from_the_ones_before_it() -> None:
    # 7 random bytes behind the time: what two ids of the same millisecond share is the time alone.
    random = SystemRandomness()
    tails = {random.new("m")[-14:] for _ in range(1000)}
    assert len(tails) == 1000


def test_a_clock_gives_epoch_milliseconds() -> None:
    async def main() -> None:
        clocks: list[Clock] = [WallClock(), HandClock(), SteppedClock()]
        for clock in clocks:
            assert 1_600_000_000_000 < clock.now() < 5_000_000_000_000

    trio.run(main)
    assert abs(WallClock().now() - time.time() * 1000) < 60_000


def test_what_keys_sign_their_id_verifies_and_under_no_other_domain(keys: Keys) -> None:
    agent = keys.create_agent()
    for id in (agent, keys.principal):
        signature = keys.sign(id, "parler/message", b"bytes")
        assert verify(id, "parler/message", b"bytes", signature)
        assert not verify(id, "parler/card", b"bytes", signature)
        assert not verify(id, "parler/message", b"other", signature)


def test_agents_are_different_and_the_person_stays_one(keys: Keys) -> None:
    agents = {keys.create_agent() for _ in range(3)}
    assert len(agents) == 3
    assert all(agent.startswith("U") and len(agent) == 56 for agent in agents)
    assert keys.principal == keys.principal
    assert keys.principal.startswith("A")
    assert AgentId(keys.principal) not in agents


def test_a_code_has_one_id_however_it_is_typed_and_the_id_is_not_the_code(keys: Keys) -> None:
    assert keys.key_id("A3KE-7D1R") == keys.key_id("a3ke7dlr ")
    assert keys.key_id("A3KE7DJR") != keys.key_id("A3KE7DJS")
    assert "A3KE7DJR" not in keys.key_id("A3KE7DJR").upper()


def test_the_joiners_code_is_four_characters_and_fixed_by_the_request(keys: Keys) -> None:
    from parlerd.core.model import RequestId

    first = keys.join_code(RequestId("q_1"))
    assert len(first) == 4
    assert keys.join_code(RequestId("q_1")) == first
    assert len({keys.join_code(RequestId(f"q_{n}")) for n in range(20)}) > 15


def test_the_code_of_a_rooms_key_is_fixed_by_the_room_and_has_the_length_asked_for(keys: Keys) -> None:
    from parlerd.core.model import RoomId

    first = keys.session_key(RoomId("r_1"), 8)
    assert len(first) == 8
    assert keys.session_key(RoomId("r_1"), 8) == first
    assert not keys.session_key(RoomId("r_1"), 16).startswith(first)
    assert len({keys.session_key(RoomId(f"r_{n}"), 16) for n in range(50)}) == 50
