"""The relay's certificate: made once, made anew in time, and never with a key that others may know."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Final

import pytest
import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import Millis
from relay.certificate import AUTHORITY_DAYS, DAYS, RENEWED_AT, Certificate, keep
from relay.door import Secured
from tests.support.doors import Handed, digest_of, open_door, run_over_the_network

NOW: Final = Millis(1_790_000_000_000)
DAY: Final = 24 * 3600 * 1000
NAMES: Final = ("192.168.1.20", "relay.example")


def after(days: float) -> Millis:
    return Millis(int(NOW + days * DAY))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tls"


def test_a_certificate_is_made_once_and_kept(folder: Path) -> None:
    made = keep(folder, NAMES, NOW)
    assert made.names == set(NAMES)
    assert len(made.digest) == 32
    assert keep(folder, reversed(NAMES), after(1)) == made


def test_its_files_are_for_this_user_alone(folder: Path) -> None:
    keep(folder, NAMES, NOW)
    assert folder.stat().st_mode & 0o777 == 0o700
    files = sorted(folder.iterdir())
    assert [path.name for path in files] == ["authority.pem", "certificate.pem"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_it_is_made_anew_a_month_before_its_end_under_the_same_authority(folder: Path) -> None:
    made = keep(folder, NAMES, NOW)
    assert made.renew_at == after(DAYS - RENEWED_AT)
    assert keep(folder, NAMES, Millis(made.renew_at - 1000)) == made
    renewed = keep(folder, NAMES, made.renew_at)
    assert renewed.digest != made.digest
    assert renewed.authority == made.authority
    assert renewed.renew_at == Millis(made.renew_at + (DAYS - RENEWED_AT) * DAY)


def test_it_is_made_anew_when_the_addresses_change(folder: Path) -> None:
    made = keep(folder, NAMES, NOW)
    moved = keep(folder, ("192.168.1.21", "2001:db8::1"), NOW)
    assert moved.digest != made.digest
    assert moved.names == {"192.168.1.21", "2001:db8::1"}
    assert moved.authority == made.authority


def test_it_is_made_anew_when_the_clock_was_set_back_before_its_beginning(folder: Path) -> None:
    made = keep(folder, NAMES, NOW)
    assert keep(folder, NAMES, after(-2)).digest != made.digest


def test_an_authority_that_would_end_before_its_certificate_is_made_anew_and_so_is_the_certificate(
    folder: Path,
) -> None:
    made = keep(folder, NAMES, NOW)
    late = after(AUTHORITY_DAYS - DAYS + 1)
    renewed = keep(folder, NAMES, late)
    assert renewed.authority != made.authority
    assert renewed.digest != made.digest


def test_a_certificate_of_another_authority_is_not_served(folder: Path) -> None:
    made = keep(folder, NAMES, NOW)
    (folder / "authority.pem").unlink()
    renewed = keep(folder, NAMES, NOW)
    assert renewed.authority != made.authority
    assert renewed.digest != made.digest


@pytest.mark.parametrize("name", ["authority.pem", "certificate.pem"])
def test_a_key_that_others_can_read_is_refused(folder: Path, name: str) -> None:
    keep(folder, NAMES, NOW)
    (folder / name).chmod(0o640)
    with pytest.raises(ParlerError, match="home_unsafe"):
        keep(folder, NAMES, NOW)


@pytest.mark.parametrize("name", ["authority.pem", "certificate.pem"])
def test_a_link_in_the_place_of_a_file_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    keep(folder, NAMES, NOW)
    elsewhere = tmp_path / "elsewhere"
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(ParlerError, match="home_unsafe"):
        keep(folder, NAMES, NOW)


@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
@pytest.mark.parametrize("name", ["authority.pem", "certificate.pem"])
def test_a_damaged_file_is_named_and_not_replaced(folder: Path, name: str, content: bytes) -> None:
    keep(folder, NAMES, NOW)
    (folder / name).write_bytes(content)
    with pytest.raises(ParlerError) as caught:
        keep(folder, NAMES, NOW)
    assert caught.value.code == "home_unsafe"
    assert name in caught.value.message
    assert (folder / name).read_bytes() == content


def test_a_key_beside_another_certificate_is_refused(folder: Path, tmp_path: Path) -> None:
    keep(folder, NAMES, NOW)
    keep(tmp_path / "other", NAMES, NOW)
    mine, theirs = (where / "certificate.pem" for where in (folder, tmp_path / "other"))
    key = mine.read_bytes().partition(b"-----BEGIN CERT")[0]
    certificate = theirs.read_bytes().partition(b"-----BEGIN CERT")
    mine.write_bytes(key + certificate[1] + certificate[2])
    with pytest.raises(ParlerError, match="home_unsafe"):
        keep(folder, NAMES, NOW)


def test_a_folder_that_cannot_be_written_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "tls").write_bytes(b"a file where the folder should be")
    with pytest.raises(ParlerError) as caught:
        keep(tmp_path / "tls", NAMES, NOW)
    assert caught.value.code in ("home_not_writable", "home_unsafe")


def test_what_was_interrupted_leaves_the_old_certificate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = keep(folder, NAMES, NOW)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ParlerError, match="home_not_writable"):
            keep(folder, ("192.168.1.21",), NOW)
    assert sorted(path.name for path in folder.iterdir()) == ["authority.pem", "certificate.pem"]
    assert keep(folder, NAMES, NOW) == made


def test_no_key_is_in_a_repr() -> None:
    certificate = Certificate(Path("/x"), b"d", frozenset(), NOW, b"")
    assert "PRIVATE" not in repr(certificate)


def test_a_certificate_for_nothing_is_a_mistake(folder: Path) -> None:
    with pytest.raises(ValueError, match="address"):
        keep(folder, (), NOW)


def test_whoever_trusts_the_authority_can_check_the_address(tmp_path: Path) -> None:
    """By the wall clock of this machine, which the TLS library reads for itself."""
    import time

    made = keep(tmp_path / "tls", ("127.0.0.1",), Millis(int(time.time() * 1000)))

    async def main() -> None:
        async with open_door(Handed(), served=Secured(made.context(), made.digest)) as door:
            context = ssl.create_default_context(cadata=made.authority.decode())
            transport = await trio.open_tcp_stream("127.0.0.1", door.port)
            stream = trio.SSLStream(transport, context, server_hostname="127.0.0.1", https_compatible=True)
            await stream.do_handshake()
            assert digest_of(stream) == made.digest
            assert stream.version() == "TLSv1.3"
            await stream.aclose()
            transport = await trio.open_tcp_stream("127.0.0.1", door.port)
            stream = trio.SSLStream(transport, context, server_hostname="relay.example", https_compatible=True)
            with pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()
            await transport.aclose()

    run_over_the_network(main)
