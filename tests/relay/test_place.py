"""Where a relay listens: what a person may ask for, what is kept, and what it means on the day the relay starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError, Refused
from parlerd.paths import Home, prepare, relay_home
from relay import place as places
from relay.place import Place
from tests.support.fake_network import FakeNetwork


@pytest.fixture
def home(tmp_path: Path) -> Home:
    outer = Home(tmp_path / "home", explicit=True)
    prepare(outer)
    prepare(relay_home(outer))
    return relay_home(outer)


def test_without_a_word_a_relay_takes_the_interface_of_the_default_route() -> None:
    assert places.choose(FakeNetwork(), None) == Place(name="team", interface="eth0", port=7777)


def test_a_machine_without_a_way_to_others_needs_an_address_that_is_named() -> None:
    alone = FakeNetwork(usual=None)
    with pytest.raises(Refused) as refused:
        places.choose(alone, None)
    assert refused.value.code == "no_address"
    assert places.choose(alone, None, bind="127.0.0.1", port=9000) == Place(address="127.0.0.1", port=9000)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "eth0", "203.0.113.9", "192.168.1.20:80", ""])
def test_an_address_that_is_none_is_everywhere_or_is_another_machines_is_refused(bind: str) -> None:
    with pytest.raises(Refused) as refused:
        places.choose(FakeNetwork(), None, bind=bind)
    assert refused.value.code == "invalid_param"


def test_what_is_not_named_again_stays_as_it_was() -> None:
    known = Place(name="crew", address="10.0.0.7", port=9000)
    network = FakeNetwork()
    assert places.choose(network, known) == known
    assert places.choose(network, known, port=9001) == Place(name="crew", address="10.0.0.7", port=9001)
    assert places.choose(network, known, name="band") == Place(name="band", address="10.0.0.7", port=9000)
    on_interface = Place(interface="wlan0")
    assert places.choose(network, on_interface) == on_interface
    assert places.choose(network, on_interface, bind="10.0.0.7") == Place(address="10.0.0.7")


@pytest.mark.parametrize("name", ["", "local", "Owner", "a@b", "a#b", "a/b", "two words", "x" * 33, "cr\u00e9w"])
def test_a_name_that_would_be_taken_for_something_else_is_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        places.choose(FakeNetwork(), None, name=name)
    assert refused.value.code == "invalid_name"
    assert ("1 to 32" in refused.value.hint) is (name not in ("local", "Owner"))


def test_an_interface_means_the_address_that_it_has_now() -> None:
    network = FakeNetwork()
    place = Place(interface="eth0")
    assert places.resolve(network, place) == "192.168.1.20"
    network.addresses["eth0"] = ["192.168.1.77"]
    network.usual = "192.168.1.77"
    assert places.resolve(network, place) == "192.168.1.77"


def test_of_several_addresses_the_one_on_the_default_route_is_taken() -> None:
    network = FakeNetwork(usual="10.0.0.8", addresses={"eth0": ["10.0.0.7", "10.0.0.8"]})
    assert places.resolve(network, Place(interface="eth0")) == "10.0.0.8"
    network.usual = "172.16.0.1"
    assert places.resolve(network, Place(interface="eth0")) == "10.0.0.7"


@pytest.mark.parametrize("place", [Place(address="192.168.1.99"), Place(interface="eth1"), Place(interface="down0")])
def test_an_address_that_is_gone_is_said_and_nothing_else_is_taken(place: Place) -> None:
    network = FakeNetwork()
    network.addresses["down0"] = []
    with pytest.raises(Refused) as refused:
        places.resolve(network, place)
    assert refused.value.code == "no_address"


@pytest.mark.parametrize("place", [Place(interface="eth0"), Place(name="crew", address="fd00::7", port=65_535)])
def test_a_place_is_kept_in_a_private_file(home: Home, place: Place) -> None:
    assert places.load(home) is None
    places.store(home, place)
    assert places.load(home) == place
    assert places.file_of(home).stat().st_mode & 0o777 == 0o600
    places.store(home, Place(interface="wlan0"))
    assert places.load(home) == Place(interface="wlan0")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"v":2,"address":"10.0.0.7"}', '{"v":1}', '{"v":1,"address":"10.0.0.7","port":0}', "\xff"]
)
def test_a_file_that_parler_did_not_write_is_named(home: Home, text: str) -> None:
    places.file_of(home).write_bytes(text.encode("latin-1"))
    places.file_of(home).chmod(0o600)
    with pytest.raises(ParlerError) as failed:
        places.load(home)
    assert failed.value.code == "invalid_settings"
    assert str(places.file_of(home)) in failed.value.message


def test_a_file_that_others_may_write_is_not_believed(home: Home) -> None:
    places.store(home, Place(interface="eth0"))
    places.file_of(home).chmod(0o622)
    with pytest.raises(ParlerError, match="others can write"):
        places.load(home)
    places.file_of(home).unlink()
    os.symlink("/dev/null", places.file_of(home))
    with pytest.raises(ParlerError):
        places.load(home)


def test_a_place_with_a_database_is_one_that_an_older_relay_does_not_take(home: Home) -> None:
    place = Place(name="crew", address="10.0.0.7")
    kept = places.in_database(home, place)
    assert (kept.v, kept.store, kept.name) == (2, "postgresql", "crew")
    places.store(home, kept)
    assert places.load(home) == kept
    # What is asked for later keeps the database.
    assert places.choose(FakeNetwork(), kept, port=9001).store == "postgresql"
    assert places.in_database(home, kept) == kept


def test_a_relay_with_rooms_in_a_file_takes_no_database(home: Home) -> None:
    home.database.write_bytes(b"rooms")
    with pytest.raises(Refused) as refused:
        places.in_database(home, Place(address="10.0.0.7"))
    assert (refused.value.code, refused.value.details["param"]) == ("invalid_param", "store")


def test_the_word_that_a_database_is_to_be_served_is_kept_until_it_was_heard(home: Home) -> None:
    assert not places.accepted_file(home).exists()
    for _ in range(2):
        places.accept_restore(home)
        assert places.accepted_file(home).exists()
    places.accepted_file(home).unlink()
    places.accepted_file(home).symlink_to(home.root / "elsewhere")
    with pytest.raises(ParlerError, match="home_not_writable"):
        places.accept_restore(home)
