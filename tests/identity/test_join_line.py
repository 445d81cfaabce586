"""The line of a relay: one spelling of an address, a pin that is long enough, and a name that no other relay has."""

from __future__ import annotations

import base64
import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.model import MAX_LABEL, HomeId
from parlerd.identity import codes
from parlerd.identity.join_line import (
    JoinLine,
    fingerprint,
    fits,
    home_name,
    is_loopback,
    parse,
    parse_address,
    write,
)

RELAY = HomeId("N" + "A" * 55)
OTHER = HomeId("N" + "B" * 55)


def _fingerprint(home: HomeId) -> str:
    return base64.b32encode(hashlib.sha256(home.encode()).digest()).decode().rstrip("=")


def test_a_line_that_was_written_is_read_as_its_address_and_the_fingerprint_of_its_key() -> None:
    line = write("wss://192.168.1.20:7777", RELAY)
    assert line == f"wss://192.168.1.20:7777/#{fingerprint(RELAY)}"
    assert parse(f"  {line}\n") == JoinLine("wss://192.168.1.20:7777", _fingerprint(RELAY)[:32])
    assert parse(f"wss://192.168.1.20:7777/#{RELAY}") == JoinLine("wss://192.168.1.20:7777", RELAY)


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("wss://Relay.Example.org", "wss://relay.example.org:7777"),
        ("wss://relay.example.org:443/", "wss://relay.example.org:443"),
        ("wss://[fe80::1]:7777/", "wss://[fe80::1]:7777"),
        ("ws://127.0.0.1:9000/", "ws://127.0.0.1:9000"),
        ("ws://localhost:9000", "ws://localhost:9000"),
    ],
)
def test_an_address_has_one_spelling(typed: str, address: str) -> None:
    assert parse_address(typed) == address


@pytest.mark.parametrize(
    "typed",
    [
        "https://relay:7777",
        "relay:7777",
        "wss://",
        "wss://relay:99999",
        "wss://relay:0",
        "wss://relay:7777/path",
        "wss://relay:7777/?a=b",
        "wss://me@relay:7777",
        "wss://me:secret@relay:7777",
        "wss://re lay:7777",
        "ws://relay:7777",
        "ws://192.168.1.20:7777",
        "wss://[fe80::1:7777",
    ],
)
def test_what_is_no_address_of_a_relay_is_refused(typed: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(f"{typed}#{RELAY}")
    assert refused.value.code == "invalid_param"


LINE = write("wss://192.168.1.20:7777", RELAY)


@pytest.mark.parametrize(
    "pasted",
    [
        f'"{LINE}"',
        f"\u2018{LINE}\u2019",
        f"<{LINE}>",
        f"`parler connect --relay {LINE}`",
        f"parler connect --relay '{LINE}'",
        f"parler connect --relay={LINE}",
        f"{LINE[:40]}\n{LINE[40:]}",
        f"  {LINE[:40]}  \r\n    {LINE[40:]}\n",
        f"parler connect --relay\n {LINE}",
    ],
)
def test_what_is_copied_together_with_a_line_is_left_out(pasted: str) -> None:
    assert parse(pasted) == parse(LINE)


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_line_whose_end_is_missing_is_said_to_be_one(length: int) -> None:
    address, _, pin = LINE.partition("#")
    with pytest.raises(Refused, match="Its end is missing"):
        parse(f"{address}#{pin[:length]}")


def test_a_line_needs_a_pin_that_is_long_enough() -> None:
    whole = _fingerprint(RELAY)
    assert parse(f"wss://relay/#{whole[:32].lower()}").pin == whole[:32]
    for pin in ("", whole[:31], RELAY[:55], "N" + "1" * 55, whole + "A"):
        with pytest.raises(Refused):
            parse(f"wss://relay/#{pin}")
    with pytest.raises(Refused):
        parse("wss://relay/")
    with pytest.raises(Refused):
        parse(f"wss://{'r' * 600}#{RELAY}")


def test_a_pin_fits_the_relay_whose_key_or_fingerprint_it_is_and_no_other() -> None:
    for pin in (RELAY, _fingerprint(RELAY), _fingerprint(RELAY)[:32]):
        assert fits(pin, RELAY)
        assert not fits(pin, OTHER)
    assert not fits("", RELAY)
    assert not fits(_fingerprint(RELAY)[:12], RELAY)


def test_the_name_of_a_relay_ends_with_the_beginning_of_its_fingerprint() -> None:
    shown = codes.fingerprint(RELAY).replace("-", "").lower()
    assert home_name("team", RELAY) == f"team-{shown[:6]}"
    assert home_name("team", RELAY, 8) == f"team-{shown[:8]}"
    assert len(home_name("t" * 80, RELAY)) == MAX_LABEL
    with pytest.raises(Refused):
        home_name("te am", RELAY)


@given(st.text(max_size=80))
def test_any_text_is_a_line_or_refused(text: str) -> None:
    for line in (text, f"wss://{text}#{RELAY}", f"wss://relay:7777/#{text}"):
        parsed = None
        with contextlib.suppress(Refused):
            parsed = parse(line)
        assert parsed is None or parse(f"{parsed.address}/#{parsed.pin}") == parsed


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("wss://127.0.0.1:7777", True),
        ("wss://[::1]:7777", True),
        ("ws://localhost:7777", True),
        ("wss://192.168.1.20:7777", False),
        ("wss://relay.example.org:7777", False),
    ],
)
def test_an_address_that_leads_to_the_machine_itself_is_known(address: str, expected: bool) -> None:
    assert is_loopback(parse_address(address)) is expected
