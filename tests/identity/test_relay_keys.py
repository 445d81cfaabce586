"""A relay's key: made once, the same after every start, of its own kind, and never shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError
from parlerd.core.model import AgentId, RequestId, RoomId
from parlerd.identity import nkeys
from parlerd.identity.keyring import KeyRing
from parlerd.identity.relay_keys import RelayKeys
from parlerd.identity.signatures import verify


def test_a_relay_is_the_same_relay_after_a_restart_and_signs_as_itself(tmp_path: Path) -> None:
    keys = RelayKeys(tmp_path / "keys")
    again = RelayKeys(tmp_path / "keys")
    assert nkeys.is_public(keys.id, "relay")
    assert again.id == keys.id
    assert verify(keys.id, "parler/link", b"x", again.sign("parler/link", b"x"))
    assert RelayKeys(tmp_path / "other").id != keys.id


def test_a_relays_codes_are_the_same_after_a_restart(tmp_path: Path) -> None:
    def codes() -> list[object]:
        keys = RelayKeys(tmp_path)
        return [
            keys.key_id("ABCD"),
            keys.session_key(RoomId("r"), 8),
            keys.join_code(RequestId("q")),
            keys.opening_secret(AgentId("U"), "k"),
            keys.cursor_key(),
        ]

    assert codes() == codes()


def test_a_relays_files_are_private_and_one_that_others_could_read_is_refused(tmp_path: Path) -> None:
    RelayKeys(tmp_path / "keys").key_id("ABCD")
    files = sorted((tmp_path / "keys").iterdir())
    assert [path.name for path in files] == ["codes.secret", "relay.seed"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    files[1].chmod(0o644)
    with pytest.raises(ParlerError) as caught:
        RelayKeys(tmp_path / "keys")
    assert caught.value.code == "home_unsafe"


@pytest.mark.parametrize("content", [b"", b"nonsense\n", nkeys.encode_seed("principal", bytes(32)).encode()])
def test_a_file_that_holds_no_relays_key_is_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "relay.seed").write_bytes(content)
    (tmp_path / "relay.seed").chmod(0o600)
    with pytest.raises(ParlerError) as caught:
        RelayKeys(tmp_path)
    assert caught.value.code == "home_unsafe"


def test_a_persons_ring_takes_no_relays_key(tmp_path: Path) -> None:
    relay = RelayKeys(tmp_path / "relay")
    ring = tmp_path / "ring"
    ring.mkdir(mode=0o700)
    (ring / f"{relay.id}.seed").write_bytes((tmp_path / "relay" / "relay.seed").read_bytes())
    (ring / f"{relay.id}.seed").chmod(0o600)
    with pytest.raises(ParlerError) as caught:
        KeyRing(ring)
    assert caught.value.code == "home_unsafe"


def test_a_relays_seed_and_secret_are_never_shown(tmp_path: Path) -> None:
    keys = RelayKeys(tmp_path, random_bytes=lambda size: b"\x07" * size)
    keys.key_id("ABCD")
    assert repr(keys) == f"RelayKeys({keys.id})"
    assert nkeys.encode_seed("relay", b"\x07" * 32) in (tmp_path / "relay.seed").read_text()
