"""The envelope of the modern era: seen, and never believed further than a name."""

from __future__ import annotations

import mcp_types as types
import pytest
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcp_server import envelope
from mcp_server.stdio import table
from tests.support.mcp_lines import ENVELOPE


def test_our_revision_and_names_are_those_of_the_library_and_of_the_shim() -> None:
    assert tuple(MODERN_PROTOCOL_VERSIONS) == (envelope.VERSION,)
    assert envelope.SERVER_INFO == types.SERVER_INFO_META_KEY
    assert set(ENVELOPE) == {
        types.PROTOCOL_VERSION_META_KEY,
        types.CLIENT_INFO_META_KEY,
        types.CLIENT_CAPABILITIES_META_KEY,
    }
    assert envelope.VERSION == table.MODERN
    assert types.SERVER_INFO_META_KEY.startswith(table.META)


def test_a_whole_envelope_says_the_version_and_who_asks() -> None:
    params = {"_meta": ENVELOPE}
    assert envelope.is_claimed(params)
    assert envelope.is_whole(params)
    assert table.is_modern(params)
    assert envelope.version(params) == "2026-07-28"
    assert envelope.client_info(params) == {"name": "test-host", "version": "1"}


@pytest.mark.parametrize("name", [types.PROTOCOL_VERSION_META_KEY, types.CLIENT_CAPABILITIES_META_KEY])
@pytest.mark.parametrize("value", [None, 5, "2031-01-01", []])
def test_an_envelope_with_something_wrong_is_claimed_and_not_whole(name: str, value: object) -> None:
    params = {"_meta": {**ENVELOPE, name: value}}
    assert envelope.is_claimed(params)
    assert not envelope.is_whole(params)


@pytest.mark.parametrize("params", [None, 5, [], {}, {"_meta": None}, {"_meta": 5}, {"_meta": {"progressToken": 1}}])
def test_what_has_no_envelope_claims_nothing(params: object) -> None:
    assert not envelope.is_claimed(params)
    assert not envelope.is_whole(params)
    assert not table.is_modern(params)
    assert envelope.version(params) is None
    assert envelope.client_info(params) is None
