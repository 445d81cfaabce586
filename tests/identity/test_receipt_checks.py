"""What a check finds in a file, without a daemon. What real homes give is in `tests/scenario/test_receipts.py`."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.receipts import Numbered, content_of, next_line, text
from parlerd.identity.notes import signed_note
from parlerd.identity.receipt_checks import MAX_BYTES, check, gaps
from tests.identity.test_notes import HOME, NOTE, receipt


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _file(kind: str, body: bytes | None = None, verified: str = "") -> bytes:
    digest = content_of(b"salt", b"event", None if body is None else hashlib.sha256(body).digest())
    said = receipt()._replace(kind=kind, content=digest, verified=verified)
    opening = {"salt": _b64(b"salt"), "event": _b64(b"event"), "body": None if body is None else _b64(body)}
    return json.dumps({"receipt": signed_note(HOME, text(said)), "opening": opening}).encode()


def test_a_note_alone_is_valid_without_its_content() -> None:
    found = check(NOTE.encode(), {HOME.id})
    assert (found.verdict, found.is_opened, found.is_authored) == ("valid", False, False)


def test_a_content_is_compared_where_it_is_there() -> None:
    found = check(_file("state_written"), {HOME.id})
    assert (found.verdict, found.is_opened, found.is_authored) == ("valid", True, False)
    changed = _file("state_written").replace(_b64(b"event").encode(), _b64(b"other").encode())
    assert check(changed, {HOME.id}).verdict == "digest_mismatch"


@pytest.mark.parametrize("body", [b"", b"\xff", b"x" * 99])
def test_a_message_that_nobody_signed_is_not_its_authors(body: bytes) -> None:
    assert check(_file("message_posted", body, "valid"), {HOME.id}).verdict == "author_mismatch"
    # What the home says itself of an invocation, nobody else signed, and it says so.
    assert check(_file("message_posted", body, "unsigned"), {HOME.id}).verdict == "valid"


@given(st.binary(max_size=300) | st.text().map(str.encode))
def test_any_file_gets_a_verdict(data: bytes) -> None:
    for each in (data, b"{" + data, NOTE.encode()[: len(data)] + data):
        assert check(each, {HOME.id}).verdict in ("not_a_receipt", "unknown_key", "bad_signature")


def test_a_file_without_end_is_no_receipt() -> None:
    assert check(b" " * (MAX_BYTES + 1), {HOME.id}).verdict == "not_a_receipt"


def test_lines_of_different_agents_and_audiences_are_not_compared() -> None:
    line = (1, bytes(32))
    one = receipt()._replace(numbered=Numbered(1, bytes(32)), line=line)
    two = receipt()._replace(numbered=Numbered(2, next_line(bytes(32), one.digest)), line=line, fact="m_2")
    assert gaps([two, one]) == []
    assert gaps([one, one]) == []
    # The receipt of a hand-off tells more later, and is of the same fact.
    assert gaps([one._replace(stage="offered"), one._replace(stage="complete"), two]) == []
    # Two facts with one number: the home took one of them back.
    assert [each.missing for each in gaps([one, one._replace(fact="m_3", digest=b"3" * 32)])] == [0]
    assert [each.missing for each in gaps([one, two._replace(numbered=Numbered(3, bytes(32)))])] == [1]
    assert gaps([one, two._replace(numbered=Numbered(5, bytes(32)), handle="x", room=one.room, line=None)]) == []
    assert gaps([one, two._replace(numbered=Numbered(5, bytes(32)), kind="state_written")]) == []
    assert gaps([one._replace(numbered=None), two]) == []
