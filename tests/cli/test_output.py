"""The one place that prints: colour, tables, JSON, and errors."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.cli.output import _SGR, RICH, Output, Style, _Spinner, to_json, wants_colour
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
    assert "\x1b[36mname\x1b[0m" in written_by(colour=True, terminal=True)


@pytest.mark.parametrize("style", _SGR)
def test_no_colour_vanishes_on_a_white_ground_or_a_black_one(style: Style) -> None:
    codes = set(_SGR[style].split(";"))
    # White, black, and what is bright; a light colour that is bold is drawn bright by many terminals.
    assert not codes & {"30", "37", *map(str, range(90, 98))}
    assert not ("1" in codes and codes & {"32", "33", "36"})
    assert ("1" in codes) == ("bold" in RICH[style])


def test_lines_are_wrapped_for_a_terminal_and_whole_for_a_pipe() -> None:
    assert max(map(len, written_by(colour=False, terminal=True).splitlines())) <= 60
    assert max(map(len, written_by(colour=False, terminal=False).splitlines())) > 60


LONG = "The key lets an agent knock for one day, and a person decides on each one who does so; it is safe to pass on."


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_sentences_are_broken_between_words_alone(width: int) -> None:
    stdout, stderr = Terminal(), Terminal()
    out = Output(stdout, stderr, width=width)
    out.say(("lead: ", "bold"), LONG)
    out.note(LONG)
    out.fail(ParlerError("internal", LONG, hint=LONG + " Yes."))
    said, noted = stdout.getvalue(), stderr.getvalue()
    assert said.split() == f"lead: {LONG}".split()
    assert noted.split() == f"{LONG} error: {LONG} hint: {LONG} Yes.".split()
    assert max(map(len, [*said.splitlines(), *noted.splitlines()])) <= width


def test_a_sentence_that_goes_on_keeps_its_styles_and_its_margin() -> None:
    stdout = Terminal()
    out = Output(stdout, io.StringIO(), colour=True, width=24)
    out.say("  ", ("one two three", "bad"), " four five six", hang=3)
    assert stdout.getvalue() == "  \x1b[1;31mone two three\x1b[0m four\n     five six\n"


def test_what_is_to_be_copied_is_never_broken() -> None:
    stdout = Terminal()
    out = Output(stdout, io.StringIO(), width=20)
    out.paste("parler session join A3KE7DJR --wait 60")
    out.line("2026-11-28 a line of a log as it is")
    assert stdout.getvalue().count("\n") == 2


def test_a_list_has_one_line_a_row_and_cuts_the_widest_column_that_gives_way() -> None:
    stdout = Terminal()
    out = Output(stdout, io.StringIO(), width=40)
    out.listing(("room", "unread", "none", "last"), [("r" * 60, "3", "", "12:00"), ("short", "", "", "2026-11-28")])
    lines = stdout.getvalue().splitlines()
    assert lines[0].split() == ["room", "unread", "last"]
    assert len(lines) == 3
    assert max(map(len, lines)) == 40
    assert lines[1].index("12:00") == lines[0].index("last") == lines[2].index("2026")


def test_a_list_leaves_out_a_spare_column_before_it_cuts_a_name() -> None:
    stdout = Terminal()
    out = Output(stdout, io.StringIO(), width=40)
    rows = [("auth-redesign-of-the-web-shop", "3", "claude-code"), ("b", "12", "codex")]
    out.listing(("room", "unread", "agents"), rows, spare=(2,))
    assert stdout.getvalue().splitlines() == [
        "room                           unread",
        "auth-redesign-of-the-web-shop  3",
        "b                              12",
    ]


def test_a_list_that_no_cut_makes_fit_has_each_row_below_its_first_cell() -> None:
    stdout = Terminal()
    out = Output(stdout, io.StringIO(), width=30)
    headers = ("room", "unread", "who knocks", "last", "kind", "gone")
    out.listing(headers, [("* auth-redesign", "3", "mallory", "12:00", "sealed", ""), ("b", "", "", "", "", "")])
    assert stdout.getvalue().splitlines() == [
        "* auth-redesign",
        "  unread: 3; who knocks:",
        "  mallory; last: 12:00; kind:",
        "  sealed",
        "b",
    ]


def test_a_list_in_a_pipe_is_whole() -> None:
    stdout = io.StringIO()
    Output(stdout, io.StringIO(), width=40).listing(("room", "last"), [("r" * 60, "12:00")])
    assert "r" * 60 + "  12:00\n" in stdout.getvalue()


def test_a_terminal_that_cannot_draw_is_told_once_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stderr = Terminal()
    spinner = _Spinner(stderr, "Waiting for the daemon", colour=False)
    spinner.start()
    spinner.stop()
    assert stderr.getvalue() == "Waiting for the daemon\n"


def test_work_inside_work_shows_one_spinner() -> None:
    out = Output(Terminal(), Terminal())
    with out.progress("outer", after_s=60.0) as outer, out.progress("inner", after_s=60.0) as inner:
        assert type(outer) is not type(inner)
    with out.progress("next", after_s=60.0) as after:
        assert type(after) is type(outer)


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


def test_an_error_about_a_parameter_lists_what_it_may_be() -> None:
    stderr = io.StringIO()
    error = ParlerError("invalid_param", allowed=["trap", "\x1b[31mhut", *range(20)])
    Output(io.StringIO(), stderr, colour=False).fail(error)
    (line,) = [line for line in stderr.getvalue().splitlines() if "it may be" in line]
    assert line.startswith("  it may be: trap, ")
    assert "\x1b" not in line
    assert "15" not in line


def test_a_note_follows_what_was_said_before_it_where_both_go_into_one_pipe() -> None:
    pipe = io.BytesIO()
    stdout, stderr = (io.TextIOWrapper(io.BufferedWriter(Pipe(pipe)), encoding="utf-8") for _ in range(2))
    out = Output(stdout, stderr, colour=False)
    out.say("said first")
    out.note("noted then")
    out.say("said last")
    out.flush()
    assert pipe.getvalue().decode().splitlines() == ["said first", "noted then", "said last"]


class Pipe(io.RawIOBase):
    """One of two ends that write into the same pipe."""

    def __init__(self, pipe: io.BytesIO) -> None:
        self._pipe = pipe

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._pipe.write(data)


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
