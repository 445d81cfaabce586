"""The key files of one user: private, whole or absent, refused when others could have read them, never shown."""

from __future__ import annotations

import os
import re
import stat
import traceback
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, RequestId, RoomId
from parlerd.identity import nkeys
from parlerd.identity.keyring import KeyRing
from parlerd.identity.signatures import verify


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def _files(keys: Path) -> list[Path]:
    return sorted(keys.iterdir())


def test_a_new_ring_is_empty_and_writes_nothing_until_it_must(keys: Path) -> None:
    assert KeyRing(keys).agents() == []
    assert _files(keys) == []


def test_the_person_has_one_key_made_at_the_first_use(keys: Path) -> None:
    ring = KeyRing(keys)
    principal = ring.principal
    assert nkeys.is_public(principal, "principal")
    assert ring.principal == principal
    assert KeyRing(keys).principal == principal
    assert [path.name for path in _files(keys)] == ["principal.seed"]


def test_agents_are_there_again_after_a_restart_and_sign_as_themselves(keys: Path) -> None:
    ring = KeyRing(keys)
    made = [ring.create_agent() for _ in range(3)]
    again = KeyRing(keys)
    assert again.agents() == ring.agents() == sorted(made)
    for agent in made:
        assert nkeys.is_public(agent, "agent")
        assert verify(agent, "parler/message", b"x", again.sign(agent, "parler/message", b"x"))
    assert verify(again.principal, "parler/delegation", b"x", ring.sign(ring.principal, "parler/delegation", b"x"))


def test_everything_is_private_whatever_the_umask(keys: Path) -> None:
    before = os.umask(0)
    try:
        ring = KeyRing(keys)
        ring.create_agent()
        ring.principal  # noqa: B018 - the first use makes the file
        ring.key_id("ABCD")
    finally:
        os.umask(before)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in _files(keys)} == {0o600}
    assert len(_files(keys)) == 3


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_could_read_is_refused_with_what_to_do(keys: Path, mode: int) -> None:
    KeyRing(keys).create_agent()
    (path,) = _files(keys)
    path.chmod(mode)
    with pytest.raises(ParlerError) as caught:
        KeyRing(keys)
    assert caught.value.code == "home_unsafe"
    assert f"chmod 600 {path}" in caught.value.hint


def test_the_secret_of_codes_is_refused_too_when_others_could_read_it(keys: Path) -> None:
    KeyRing(keys).key_id("ABCD")
    (keys / "codes.secret").chmod(0o644)
    with pytest.raises(ParlerError) as caught:
        KeyRing(keys).key_id("ABCD")
    assert caught.value.code == "home_unsafe"


def test_a_pipe_in_the_place_of_a_key_is_refused_and_not_waited_for(keys: Path) -> None:
    keys.mkdir()
    os.mkfifo(keys / "principal.seed", 0o600)
    with pytest.raises(ParlerError) as caught:
        KeyRing(keys)
    assert caught.value.code == "home_unsafe"


def test_a_symlink_in_the_place_of_a_key_is_refused(keys: Path, tmp_path: Path) -> None:
    ring = KeyRing(keys)
    ring.create_agent()
    (path,) = _files(keys)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ParlerError) as caught:
        KeyRing(keys)
    assert caught.value.code == "home_unsafe"


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 58, b"SUAAAA", None])
def test_a_damaged_or_swapped_key_file_is_refused_without_being_shown(keys: Path, content: bytes | None) -> None:
    ring = KeyRing(keys)
    ring.create_agent()
    ring.create_agent()
    first, second = _files(keys)
    first.write_bytes(second.read_bytes() if content is None else content)
    with pytest.raises(ParlerError) as caught:
        KeyRing(keys)
    assert caught.value.code == "home_unsafe"
    text = "".join(traceback.format_exception(caught.value)) + str(caught.value.body())
    assert second.read_text().strip() not in text


def test_a_truncated_secret_is_refused(keys: Path) -> None:
    KeyRing(keys).key_id("ABCD")
    (keys / "codes.secret").write_bytes(b"short")
    with pytest.raises(ParlerError) as caught:
        KeyRing(keys).key_id("ABCD")
    assert caught.value.code == "home_unsafe"


def test_two_rings_over_one_folder_agree_on_the_person_and_the_secret(keys: Path) -> None:
    first, second = KeyRing(keys), KeyRing(keys)
    assert first.principal == second.principal
    assert verify(first.principal, "parler/auth", b"x", second.sign(first.principal, "parler/auth", b"x"))
    assert first.key_id("ABCD") == second.key_id("ABCD")


def test_a_secret_made_by_another_process_at_the_same_moment_is_the_one_that_counts(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = KeyRing(keys), KeyRing(keys)
    made: list[str] = []
    link = os.link

    def other_first(source: Path, target: Path, *, follow_symlinks: bool) -> None:
        monkeypatch.undo()
        made.append(first.key_id("ABCD"))
        link(source, target, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", other_first)
    assert [second.key_id("ABCD")] == made


def test_a_write_that_is_cut_off_leaves_no_key(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(keys)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ParlerError) as caught:
        ring.create_agent()
    assert caught.value.code == "home_not_writable"
    assert _files(keys) == []
    assert ring.agents() == []


def test_what_a_killed_write_left_behind_is_not_taken_for_a_key(keys: Path) -> None:
    ring = KeyRing(keys)
    agent = ring.create_agent()
    (keys / f".{agent}.seed.0123456789abcdef").write_bytes(b"SUA")
    assert KeyRing(keys).agents() == [agent]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ParlerError) as caught:
        KeyRing(tmp_path / "file" / "keys")
    assert caught.value.code == "home_not_writable"


def test_an_unknown_id_cannot_sign(keys: Path) -> None:
    ring = KeyRing(keys)
    stranger = KeyRing(keys.with_name("other")).create_agent()
    with pytest.raises(Refused) as caught:
        ring.sign(stranger, "parler/message", b"x")
    assert caught.value.code == "no_such_agent"


def test_no_seed_and_no_secret_is_ever_shown(keys: Path) -> None:
    ring = KeyRing(keys)
    ring.create_agent()
    ring.key_id("ABCD")
    shown = repr(ring) + str(ring)
    for path in _files(keys):
        for secret in (path.read_bytes().strip().decode("latin-1"), path.read_bytes().hex(), repr(path.read_bytes())):
            assert secret not in shown


def test_a_code_is_kept_as_an_hmac_that_differs_between_homes_and_forgives_typing(keys: Path) -> None:
    ring = KeyRing(keys)
    id = ring.key_id("K7M2-90XD")
    assert re.fullmatch(r"[0-9a-f]{64}", id)
    assert ring.key_id("k7m2 9oxd") == id == KeyRing(keys).key_id("K7M290XD")
    assert ring.key_id("K7M290XE") != id
    assert KeyRing(keys.with_name("other")).key_id("K7M290XD") != id
    with pytest.raises(Refused):
        ring.key_id("***")


def test_the_code_of_a_request_is_four_letters_and_the_same_after_a_restart(keys: Path) -> None:
    ring = KeyRing(keys)
    code = ring.join_code(RequestId("q_1"))
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}", code)
    assert KeyRing(keys).join_code(RequestId("q_1")) == code
    assert len({ring.join_code(RequestId(f"q_{count}")) for count in range(50)}) > 45
    assert KeyRing(keys.with_name("other")).join_code(RequestId("q_1")) != code


@pytest.mark.parametrize("length", [8, 16])
def test_the_code_of_a_rooms_key_is_the_same_after_a_restart_and_another_in_every_home(keys: Path, length: int) -> None:
    ring = KeyRing(keys)
    code = ring.session_key(RoomId("r_1"), length)
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]+", code)
    assert len(code) == length
    assert KeyRing(keys).session_key(RoomId("r_1"), length) == code
    assert ring.session_key(RoomId("r_2"), length) != code
    assert KeyRing(keys.with_name("other")).session_key(RoomId("r_1"), length) != code


def test_the_secret_of_an_opening_is_the_same_after_a_restart_and_another_for_all_else(keys: Path) -> None:
    agents = [AgentId("U1"), AgentId("U2")]
    secret = KeyRing(keys).opening_secret(agents[0], "k")
    assert len(secret) == 32
    assert KeyRing(keys).opening_secret(agents[0], "k") == secret
    others = [KeyRing(keys).opening_secret(*about) for about in ((agents[0], "l"), (agents[1], "k"))]
    others.append(KeyRing(keys.parent / "other").opening_secret(agents[0], "k"))
    assert len({secret, *others}) == 4


def test_a_home_is_named_by_its_person(keys: Path) -> None:
    ring = KeyRing(keys)
    assert ring.id == str(ring.principal)


def test_a_request_id_and_a_key_never_share_an_hmac(keys: Path) -> None:
    """Else a code shown to a joiner could say something of a stored key."""
    drawn = iter([bytes(32)])
    ring = KeyRing(keys, random_bytes=lambda _: next(drawn))
    key = bytes.fromhex(ring.key_id("ABCD"))
    as_request = "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[byte & 31] for byte in key[:4])
    assert ring.join_code(RequestId("ABCD")) != as_request


def test_agents_made_at_once_in_many_threads_are_all_kept(keys: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    ring = KeyRing(keys)
    with ThreadPoolExecutor(4) as pool:
        made: list[AgentId] = list(pool.map(lambda _: ring.create_agent(), range(12)))
    assert ring.agents() == sorted(made) == KeyRing(keys).agents()
