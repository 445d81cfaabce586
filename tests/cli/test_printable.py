"""No text of others can do anything to a terminal but be read."""

from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
import wcwidth
from hypothesis import given
from hypothesis import strategies as st

from parlerd.cli import printable as printing
from parlerd.cli.printable import MAX_COMBINING, clip, columns, is_plain, printable, printable_line, wrap

NASTY = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\x00\x07\x08\t\n\r\x1b\x7f\x9b\x9d\u200b\u200d\u202e\u2066\u2028\ufeff\ufe0f\u0301❤👩"),
    )
)
FORBIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
INVISIBLE = "\u034f\u115f\u1160\u2800\u3164\uffa0\U000e0100\ufe00"


@given(NASTY)
def test_nothing_that_controls_reorders_or_hides_text_survives(text: str) -> None:
    shown = printable(text)
    assert {unicodedata.category(char) for char in shown.replace("\n", "")} & FORBIDDEN == set()
    assert not set(INVISIBLE) & set(shown)


@given(NASTY)
def test_a_line_stays_one_line(text: str) -> None:
    assert "\n" not in printable_line(text)


@given(NASTY)
def test_what_was_made_safe_is_left_alone_the_second_time(text: str) -> None:
    assert printable(printable(text)) == printable(text)


@given(st.text(st.characters(categories=("Lu", "Ll", "Nd", "Po")), max_size=40))
def test_ordinary_words_are_shown_as_they_are(text: str) -> None:
    assert printable(text) == text


@given(NASTY, st.integers(2, 60))
def test_a_clipped_line_is_never_wider_than_it_may_be(text: str, width: int) -> None:
    assert columns(printable_line(text, width)) <= width


@given(st.text(st.characters(categories=("Lu", "Ll", "Zs", "So")), max_size=200), st.integers(8, 60))
def test_wrapping_loses_no_word_and_keeps_within_the_width(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(columns(line) <= width for line in lines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;ZXZpbA==\x07", "\\x1b]52;c;ZXZpbA==\\x07"),
        ("done\x1b[2K\rfake", "done\\x1b[2K\\x0dfake"),
        ("\x9b31mred", "\\x9b31mred"),
        ("abc\u202edef", "abc\\u202edef"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("a\r\nb", "a\nb"),
        ("a\tb", "a   b"),
        ("⚠\ufe0f", "⚠\ufe0f"),
        ("a\ufe0f", "a\\ufe0f"),
    ],
)
def test_escapes_are_visible(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_marks_piled_on_one_letter_are_cut_to_what_a_script_needs() -> None:
    shown = printable("Z" + "\u0301" * 50)
    assert shown.count("\u0301") == MAX_COMBINING
    assert shown.count("\\u0301") == 50 - MAX_COMBINING


def test_wide_characters_count_twice() -> None:
    assert columns("日本") == 4
    assert clip("日本語", 4) == "日…"


def test_an_indented_line_keeps_its_indent_when_it_is_wrapped() -> None:
    assert wrap("    code here", 8)[0].startswith("    ")


@pytest.mark.parametrize("text", ["語" * 20_000, "x" * 20_000, "語x " * 7_000, "a\u0301" * 10_000, " " * 20_000])
def test_wrapping_and_clipping_look_at_each_character_a_few_times(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    real = printing._columns_of

    def counted(char: str) -> int:
        nonlocal looked
        looked += 1
        return real(char)

    monkeypatch.setattr(printing, "_columns_of", counted)
    assert "".join(wrap(text, 80)).replace(" ", "") == text.replace(" ", "")
    clip(text, 40)
    assert looked <= 6 * len(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e\u0301", 1),
        ("\u1100\u1161", 2),
        ("क्षि", 2),
        ("❤\ufe0f", 2),
        ("\U0001f1e9\U0001f1ea", 2),
        ("\u200b", 0),
        ("ｱ①é", 3),
    ],
)
def test_what_a_terminal_draws_as_one_character_counts_once(text: str, expected: int) -> None:
    assert columns(text) == expected


@pytest.mark.parametrize("text", ["a\U0001f1e9\U0001f1eab", "ae\u0301\u0302b", "aक्षिb"])
def test_a_cut_never_goes_through_what_is_drawn_as_one_character(text: str) -> None:
    whole = text[1:-1]
    for width in range(1, columns(text) + 1):
        kept = clip(text, width).removesuffix("…").removeprefix("a").removesuffix("b")
        assert kept in ("", whole)
    lines = wrap(whole * 20, 9)
    assert len(lines) > 1
    assert {line.replace(whole, "") for line in lines} == {""}


def test_plain_text_is_measured_as_the_tables_of_the_library_do() -> None:
    plain = "".join(char for char in map(chr, range(0x3000)) if is_plain(char))
    assert {wcwidth.wcwidth(char) for char in plain} == {1}
    assert list(wcwidth.iter_graphemes(plain)) == list(plain)
    assert columns(plain) == len(plain)


def test_plain_text_is_printed_without_loading_the_tables() -> None:
    script = (
        "import sys; from parlerd.cli.printable import clip, columns, wrap\n"
        "text = 'Zo\u00eb \u2013 caf\u00e9\u2026 ' * 9\n"
        "columns(clip(text, 20)), wrap(text, 30)\n"
        "assert 'wcwidth' not in sys.modules; columns('\u6f22'); assert 'wcwidth' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
