"""The addresses of a machine: those of a fake keep to what the real ones do."""

from __future__ import annotations

import ipaddress

import pytest

from relay.network import (
    Network,
    Reached,
    SystemNetwork,
    default_route,
    holder,
    is_everywhere,
    is_literal,
    spelled,
)
from tests.support.fake_network import FakeNetwork


@pytest.mark.parametrize("network", [SystemNetwork(), FakeNetwork()], ids=["real", "fake"])
def test_every_interface_has_plain_addresses_and_the_loopback_is_one(network: Network) -> None:
    interfaces = network.interfaces()
    for addresses in interfaces.values():
        kinds = [ipaddress.ip_address(address).version for address in addresses]
        assert kinds == sorted(kinds)
    assert holder(network, "127.0.0.1") is not None


@pytest.mark.parametrize("network", [SystemNetwork(), FakeNetwork()], ids=["real", "fake"])
def test_the_address_on_the_default_route_belongs_to_an_interface(network: Network) -> None:
    usual = network.default()
    assert usual is None or holder(network, usual) is not None


def test_the_default_route_names_an_interface_and_its_address() -> None:
    assert default_route(FakeNetwork()) == Reached("eth0", "192.168.1.20")


@pytest.mark.parametrize("usual", [None, "127.0.0.1", "192.168.1.99"])
def test_a_machine_that_others_cannot_reach_has_no_default_route(usual: str | None) -> None:
    assert default_route(FakeNetwork(usual=usual)) is None


def test_an_address_that_no_interface_has_is_held_by_none() -> None:
    assert holder(FakeNetwork(), "203.0.113.9") is None


def test_what_stands_for_every_address_is_known_as_such() -> None:
    assert [is_everywhere(text) for text in ("0.0.0.0", "::", "192.168.1.20", "eth0")] == [True, True, False, False]
    assert [is_literal(text) for text in ("10.0.0.7", "fd00::7", "eth0", "")] == [True, True, False, False]


def test_an_address_of_six_stands_in_brackets_before_its_port() -> None:
    assert (spelled("10.0.0.7", 7777), spelled("fd00::7", 7777)) == ("10.0.0.7:7777", "[fd00::7]:7777")
