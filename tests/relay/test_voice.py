"""What a relay has for agents without a key: its signature, and where it answers them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import get_args

import pytest
import trio

from parlerd.core.errors import Refused
from parlerd.core.model import Millis
from parlerd.identity.relay_keys import RelayKeys
from parlerd.identity.signatures import Domain, verify
from parlerd.paths import Home, prepare
from relay.place import Place
from relay.standing import Standing
from relay.voice import Voice
from tests.support.doors import NOW
from tests.support.fake_network import FakeNetwork


@pytest.mark.parametrize("domain", get_args(Domain))
def test_the_relays_key_signs_an_envelope_and_an_opening_for_one_purpose_each(domain: Domain, tmp_path: Path) -> None:
    keys = RelayKeys(tmp_path / "keys")
    voice = Voice(keys)
    assert verify(keys.id, domain, b"bytes", voice.admit(b"bytes")) is (domain == "parler/admitted")
    assert verify(keys.id, domain, b"bytes", voice.admit_room(b"bytes")) is (domain == "parler/opened")


def test_a_relay_that_stands_nowhere_answers_nowhere_and_then_where_it_stands(tmp_path: Path) -> None:
    async def main() -> None:
        voice = Voice(RelayKeys(tmp_path / "keys"))
        assert (voice.address, voice.authority, voice.url, voice.lets_in) == ("", "", None, False)
        home = Home(tmp_path / "home")
        prepare(home)
        voice.standing = Standing(home, Place(address="127.0.0.2", port=7777), FakeNetwork(), lambda: Millis(NOW))
        assert (voice.address, voice.authority, voice.url) == ("", "", None)
        voice.standing._address = "127.0.0.2"
        voice.standing._certify("127.0.0.2")
        assert (voice.address, voice.url) == ("127.0.0.2:7777", "https://127.0.0.2:7777")
        ssl.create_default_context(cadata=voice.authority)
        assert "PRIVATE" not in voice.authority

    trio.run(main)


def test_nobody_opens_another_door_over_http_at_a_relay(tmp_path: Path) -> None:
    async def main() -> None:
        voice = Voice(RelayKeys(tmp_path / "keys"))
        with pytest.raises(Refused, match="operation"):
            await voice.open(0, lets_in=True)
        await voice.close()

    trio.run(main)
