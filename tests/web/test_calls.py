"""Hints that were written for models with tools, as whoever has HTTP reads them."""

from __future__ import annotations

import re

import pytest

from parlerd.core.errors import ERRORS
from parlerd.operations.registry import OPERATIONS
from parlerd.web.calls import over_http


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Ask your user.", "Ask your user."),
        ("Read with parler_recv.", "Read with GET /v1/rooms/{room}/messages."),
        ('Read: parler_recv {"since":0}', "Read: GET /v1/rooms/{room}/messages?limit=100&since=0"),
        ('parler_recv {"unclaimed":true} lists', "GET /v1/rooms/{room}/messages?limit=100&unclaimed=true lists"),
        ("parler_rooms with action roster says", "GET /v1/rooms/{room}/agents says"),
        ("parler_rooms lists them", "GET /v1/rooms lists them"),
        ('parler_rooms {"action":"why","id":"m_1"}', "GET /v1/rooms/{room}/messages/m_1/why"),
        ('parler_act {"action":"serve","service":"print"}', 'POST /v1/queues {"service":"print"}'),
        ('parler_recv {"wait_secs":600}', "GET /v1/rooms/{room}/messages?limit=100&wait_ms=55000"),
        # What names no tool, or no call that a tool takes, stays.
        ("parler_nothing is not there", "parler_nothing is not there"),
        ('parler_recv {"nothing":1}', 'parler_recv {"nothing":1}'),
        ('parler_recv {"since"}', 'parler_recv {"since"}'),
    ],
)
def test_a_tool_is_named_as_a_call(said: str, told: str) -> None:
    assert over_http(said) == told


def test_no_hint_of_the_table_names_a_tool_to_whoever_has_none() -> None:
    hints = {code: over_http(spec.tool_hint or spec.hint) for code, spec in ERRORS.items()}
    assert {code: hint for code, hint in hints.items() if "parler_" in hint} == {}
    routes = {(each.http.method, f"/v1{each.http.path}") for each in OPERATIONS.values() if each.http is not None}
    shapes = [(method, re.sub(r"\{\w+\}", "[^/ ]+", path)) for method, path in routes]
    for hint in hints.values():
        for method, path in re.findall(r"\b(GET|POST|PUT|DELETE) (/v1[^ ?,]*[^ ?,.:])", hint):
            assert any(method == each and re.fullmatch(shape, path) for each, shape in shapes), hint
