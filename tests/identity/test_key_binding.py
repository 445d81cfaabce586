"""What binds a key to a room: the same in every version, another for every other room, key and length of key."""

from __future__ import annotations

from pathlib import Path

import nacl.bindings
import pytest

from parlerd.core.model import RoomId
from parlerd.identity import codes, key_binding
from parlerd.identity.home_secret import HomeSecret
from parlerd.identity.key_binding import key_binding as binding_of

ROOM, KEY = RoomId("r_" + "a" * 32), "K7M29QXD"
BOUND = "EFX0Y4Q1"


def test_a_binding_never_changes_because_keys_are_handed_on() -> None:
    assert binding_of(ROOM, KEY) == BOUND
    assert len(BOUND) == codes.BINDING_LENGTH


@pytest.mark.parametrize(("room", "key"), [(RoomId("r_" + "b" * 32), KEY), (ROOM, "K7M29QXE"), (ROOM, KEY + KEY)])
def test_another_room_or_another_key_is_another_binding(room: RoomId, key: str) -> None:
    assert binding_of(room, key) != BOUND


def test_each_try_takes_memory_and_two_passes_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a try is what keeps 40 bits from being too few."""
    asked: list[tuple[object, ...]] = []

    def derive(*args: object) -> bytes:
        asked.append(args)
        return bytes(16)

    monkeypatch.setattr(key_binding, "crypto_pwhash_alg", derive)
    binding_of(ROOM, KEY)
    [(_, _, _, passes, memory, algorithm)] = asked
    assert (passes, memory) == (2, 64 * 1024 * 1024)
    assert algorithm == nacl.bindings.crypto_pwhash_ALG_ARGON2ID13


def test_a_home_binds_a_key_however_it_was_typed(tmp_path: Path) -> None:
    assert HomeSecret(tmp_path).binding(ROOM, "k7m2-9qxd") == BOUND
