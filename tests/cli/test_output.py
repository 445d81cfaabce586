"""The one place that prints: colour, tables, JSON, and errors."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.cli.output import Output, to_json, wants_colour
from parlerd.core.errors import ParlerError
from tests.support.cli import Terminal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(VALUES)
def test_json_is_one_line_of_printable_ascii_and_reads_back(value: Any) -> None:
    text = to_json(value)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("stream", "env", "colour"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(stream: io.StringIO, env: dict[str, str], colour: bool) -> None:
    assert wants_colour(stream, env) is colour


def written_by(colour: bool, terminal: bool) -> str:
    stdout = Terminal() if terminal else io.StringIO()
    out = Output(stdout, io.StringIO(), colour=colour, width=60)
    out.say(("name", "name"), " plain")
    out.table(("a", "b"), [(("x", "bad"), "y")])
    out.banner("TITLE", [("label", "body")])
    out.text("words " * 30)
    out.flush()
    return stdout.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_without_colour_there_is_not_one_escape(terminal: bool) -> None:
    assert "\x1b" not in written_by(colour=False, terminal=terminal)


def test_with_colour_what_matters_stands_out() -> None:
    assert "\x1b[1;36mname\x1b[0m" in written_by(colour=True, terminal=True)


def test_lines_are_wrapped_for_a_terminal_and_whole_for_a_pipe() -> None:
    assert max(map(len, written_by(colour=False, terminal=True).splitlines())) <= 60
    assert max(map(len, written_by(colour=False, terminal=False).splitlines())) > 60


def test_a_second_document_is_a_bug() -> None:
    out = Output(io.StringIO(), io.StringIO(), json=True)
    out.document({})
    with pytest.raises(AssertionError):
        out.document({})


def test_markup_in_foreign_text_is_text() -> None:
    stdout = Terminal()
    out = Output(stdout, io.StringIO(), colour=True, width=60)
    out.table(("a",), [("[bold]x[/bold] :smile:",)])
    out.banner("t", [("l", "[link=http://x]y[/link]")])
    assert "[bold]x[/bold] :smile:" in stdout.getvalue()
    assert "[link=http://x]y[/link]" in stdout.getvalue()


def test_an_error_keeps_its_details_in_json() -> None:
    stdout = io.StringIO()
    out = Output(stdout, io.StringIO(), json=True)
    assert out.fail(ParlerError("text_too_long", limit=5)) == 1
    assert json.loads(stdout.getvalue())["error"]["details"] == {"limit": 5}


def test_a_bar_is_ascii_where_the_terminal_is() -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    out = Output(stdout, io.StringIO())
    out.text("hello")
    out.flush()
    raw = stdout.buffer
    assert isinstance(raw, io.BytesIO)
    assert raw.getvalue() == b"  | hello\n"
