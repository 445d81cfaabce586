"""What pages show, as rows: bounded, and in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given

from parlerd.core.model import PeerText
from parlerd.operations import types as t
from parlerd.web.pages import showing
from parlerd.web.pages.foreign import Piece, foreign
from parlerd.web.pages.showing import HUES, MAX_LINE, MAX_MORE, MAX_WORDS, ago, line, message_row, size_of, when
from tests.web.pages.test_foreign import ANY

NOON = int(datetime(2026, 11, 30, 12, 0).timestamp() * 1000)
DAY = 86_400_000


def message(text: str = "hello", **more: Any) -> t.Message:
    said: dict[str, Any] = {
        "id": "m_1",
        "seq": 1,
        "at": NOON,
        "author": t.Author(id="U1", name="bob", role="member", host="codex"),
        "verified": "valid",
        "via": "mcp",
        "kind": "text",
        "text": PeerText(text),
    }
    return t.Message(**{**said, **more})


def said(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_a_message_says_who_when_and_how_it_is_known() -> None:
    row = message_row(message(to=["ann", "dave"], private=True, kind="task"), NOON)
    assert {name: said(found) for name, found in row.fields.items()} == {
        "author": "bob",
        "host": "codex",
        "when": "12:00",
        "verified": "signed",
        "kind": "task",
        "to": "to ann, dave",
        "private": "private",
        "words": "hello",
    }
    assert (row.id, row.marks, row.long) == ("m_1", ["is-valid"], False)


@pytest.mark.parametrize("verified", ["valid", "home", "unsigned", "invalid"])
def test_each_word_on_a_signature_has_its_meaning(verified: Any) -> None:
    shown = message(verified=verified)
    assert message_row(shown, NOON).marks == [f"is-{verified}"]
    assert showing.meaning_of(shown).endswith(".")


def test_what_a_message_has_beside_its_words_stands_on_lines() -> None:
    offer = t.Handoff(
        next=PeerText("wire the form"),
        summary=PeerText("rotation is done"),
        for_="bob",
        goal=PeerText("log in"),
        decisions=[PeerText("PKCE")],
        status="accepted",
        taken_by="bob",
    )
    row = message_row(message("", handoff=offer, data={"a": 1}, kind="handoff"), NOON)
    assert "words" not in row.fields
    assert said(row.fields["more"]).splitlines() == [
        "Next: wire the form",
        "So far: rotation is done",
        "Goal: log in",
        "Decided: PKCE",
        "For: bob. The offer is accepted by bob",
        '{"a":1}',
    ]
    answer = t.HandoffAnswer(answer="declined", reason=PeerText("no time"))
    assert (
        said(message_row(message("", handoff_answer=answer), NOON).fields["more"]) == "The turn was declined: no time"
    )
    mark = t.MemoryMark(key="port", version=3, forgets=True)
    assert said(message_row(message("", memory=mark), NOON).fields["more"]) == "Forgets port, version 3"
    brings = t.BlobInfo(blob="a" * 64, size=2_500, name=PeerText("a/b\u202e"))
    assert said(message_row(message("", brings=brings), NOON).fields["file"]) == "a/bU+202E (2.5 KB)"


@given(ANY, ANY)
def test_whatever_a_message_says_its_row_is_bounded(text: str, name: str) -> None:
    # Data came over a wire, so they are Unicode.
    data = {name.encode(errors="replace").decode(): text.encode(errors="replace").decode()}
    author = t.Author(id=name, name=name * 30, role=name, host=name)
    shown = message(text * 40, author=author, data=data, kind=name or "x")
    row = message_row(shown, NOON)
    most = {"words": MAX_WORDS, "more": MAX_MORE}
    for field, found in row.fields.items():
        # What is cut says so, and pieces are wrapped.
        assert len(str(foreign(found)).encode()) <= most.get(field, MAX_LINE) + 150, field
    assert 0 <= row.hue < HUES
    msgspec.json.encode(row)
    assert (
        len(said(message_row(shown, NOON, whole=True).fields.get("words", [])))
        >= len(said(row.fields.get("words", []))) - 40
    )


def test_a_long_text_is_cut_with_how_much_is_left_out() -> None:
    assert said(line("x" * 1_000)) == "x" * MAX_LINE + f"… {1_000 - MAX_LINE} more characters"
    assert said(line("x\ny")) == "x y"


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (0, ""),
        (NOON - 3_600_000, "11:00"),
        (NOON - DAY, "29 Nov 12:00"),
        (NOON - 400 * DAY, datetime.fromtimestamp((NOON - 400 * DAY) / 1000).strftime("%Y-%m-%d %H:%M")),
    ],
)
def test_a_time_has_its_day_where_that_is_another(at: int, shown: str) -> None:
    assert when(at, NOON) == shown


@pytest.mark.parametrize(
    ("span", "shown"),
    [(0, "just now"), (-5_000, "just now"), (61_000, "1 min ago"), (7_200_000, "2 h ago"), (3 * DAY, "3 d ago")],
)
def test_a_span_is_said_in_words(span: int, shown: str) -> None:
    assert ago(NOON - span, NOON) == shown
    assert ago(0, NOON) == ""


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 KB"), (2_000_000, "2.0 MB"), (3_200_000_000, "3.2 GB")],
)
def test_a_size_is_said_for_people(count: int, shown: str) -> None:
    assert size_of(count) == shown


@pytest.mark.parametrize(
    ("happened", "shown"),
    [
        (t.Happened(event="joined", at=NOON, agent="bob"), "bob came in"),
        (t.Happened(event="role", at=NOON, agent="bob", role="tester"), "bob is tester now"),
        (t.Happened(event="role", at=NOON, agent="bob"), "bob has no role any more"),
        (t.Happened(event="closed", at=NOON), "The room was closed"),
        (t.Happened(event="something new", at=NOON, agent="bob"), "bob something new"),
    ],
)
def test_what_happens_is_said_of_somebody(happened: t.Happened, shown: str) -> None:
    row = showing.happened_row(happened, "The room", NOON)
    assert f"{said(row.fields['who'])} {said(row.fields['did'])}" == shown
