"""The table of errors, and how an error travels."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from parlerd.core.errors import ERRORS, ErrorBody, ParlerError, Refused, StoreError


def test_every_code_is_filed_under_its_own_name_and_says_what_to_do() -> None:
    for code, spec in ERRORS.items():
        assert spec.code == code
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert spec.message.endswith(".")
        assert len(spec.hint) > 10


def test_what_a_caller_should_retry_is_marked_as_worth_retrying() -> None:
    wrong = [spec.code for spec in ERRORS.values() if spec.action in ("retry", "back_off") and not spec.retryable]
    assert wrong == []


def test_an_error_says_its_code_and_sentence() -> None:
    assert str(Refused("room_closed")) == "room_closed: This session is closed."
    assert str(Refused("room_closed", "Gone.")) == "room_closed: Gone."


def test_a_code_that_is_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        ParlerError("made_up")


@pytest.mark.parametrize("kind", [Refused, StoreError])
def test_every_error_can_be_caught_as_one(kind: type[ParlerError]) -> None:
    with pytest.raises(ParlerError):
        raise kind("store_full")


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_an_error_is_the_same_on_the_other_side(code: str) -> None:
    error = ParlerError(
        code, "Said so.", hint="Do this.", example="parler recv", retry_after_ms=7, limit=5, names=["a"]
    )
    body = msgspec.msgpack.decode(msgspec.msgpack.encode(error.body()), type=ErrorBody)
    assert body == error.body()
    assert ParlerError.from_body(body).body() == body


def test_an_error_without_words_of_its_own_has_those_of_the_table() -> None:
    body = ParlerError("unknown_key").body()
    assert (body.message, body.hint) == (ERRORS["unknown_key"].message, ERRORS["unknown_key"].hint)


def test_a_code_of_a_newer_parler_keeps_its_name_and_words() -> None:
    body = ErrorBody(code="too_loud", message="Too loud.", action="stop", scope="room", hint="Hush.")
    error = ParlerError.from_body(body)
    assert (error.code, error.message, error.hint) == ("too_loud", "Too loud.", "Hush.")
    assert error.spec is ERRORS["internal"]


@pytest.mark.parametrize("name", ["code", "message", "hint", "self", "details", "retry_after_ms"])
def test_the_other_side_may_call_a_detail_anything(name: str) -> None:
    details: dict[str, Any] = {name: 1}
    body = ErrorBody(code="internal", message="No.", action="stop", scope="home", details=details)
    assert ParlerError.from_body(body).details == details
