"""One table says what hides; the fence and the terminal both go by it."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.fence import Fencer, reveal
from parlerd.cli.printable import printable
from parlerd.text.codepoints import HIDDEN, JOINERS, LOOSE, kinds
from tests.support.hidden import kind_of

EVERY = [chr(code) for code in range(0x110000)]
IGNORABLE = re.compile(
    "[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Source: Default_Ignorable_Code_Point of DerivedCoreProperties.txt."""


def test_every_format_control_separator_and_ignorable_character_is_in_the_table() -> None:
    missing = [
        f"{ord(char):x}"
        for char in EVERY
        if (unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") or IGNORABLE.match(char))
        and char not in "\t\n"
        and char not in kinds()
    ]
    assert missing == []


def test_nothing_that_can_be_seen_is_in_the_table() -> None:
    blank = set("\u2800")
    seen = [
        f"{ord(char):x}"
        for char in EVERY
        if unicodedata.category(char)[0] in "LNPSZ"
        and unicodedata.category(char) not in ("Zl", "Zp")
        and not IGNORABLE.match(char)
        and char not in blank
        and char in kinds()
    ]
    assert seen == []


def test_each_character_is_of_the_kind_whose_class_it_is_in() -> None:
    assert kinds() == {char: kind for char in EVERY if (kind := kind_of(char)) is not None}


def test_the_fence_and_the_terminal_show_every_character_of_the_table() -> None:
    pattern = re.compile(f"[{HIDDEN}]")
    for char in EVERY:
        if pattern.match(char):
            assert char not in reveal(f"a{char}b").text
            assert char not in printable(f"a{char}b")


@pytest.mark.parametrize("char", JOINERS)
@pytest.mark.parametrize("base", ["語", "a", "é", "Ж", " ", "\u0301"])
def test_a_joiner_where_it_shapes_nothing_is_counted_and_shown(base: str, char: str) -> None:
    revealed = reveal(base + char * 400)
    assert char not in revealed.text
    assert revealed.facts == "400 invisible characters shown as \\u{...}"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("❤" + "\ufe0f" * 400, 399),
        ("👩" + "\u200d" * 400, 399),
        ("❤" + "\ufe0f\u200d" * 200, 398),
        ("\u0645" + "\u200c" * 400, 399),
        ("語\U000e0100", 1),
        ("\u1820\u180b", 1),
        ("語\ufe00", 1),
        ("\u0645\ufe0f", 1),
    ],
)
def test_a_run_of_joiners_is_counted_but_for_what_shapes(text: str, hidden: int) -> None:
    facts = reveal(text).facts
    assert facts.startswith(f"{hidden} invisible character")
    assert len(re.findall(r"\\u\{", reveal(text).text)) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d💻",
        "❤\ufe0f\u200d🔥",
        "👩🏽\u200d🚀",
        "⚠\ufe0f",
        "☎\ufe0e",
        "\u0645\u06cc\u200c\u062e",
        "क्\u200dष",
        "\u1820\u200d",
    ],
)
def test_what_shapes_emoji_and_scripts_is_left_as_it_is(text: str) -> None:
    assert reveal(text) == (text, "", len(text))
    assert text in Fencer().wrap(text)


@given(st.text(st.sampled_from("a語👩❤\u0645क\u180b\u061c" + JOINERS), max_size=12))
def test_a_joiner_is_loose_where_it_is_hidden(text: str) -> None:
    """For whoever renders a whole text at once: the pattern says what the rule says character by character."""
    loose = {match.start() for match in LOOSE.finditer(text)}
    hidden = {at for at, char in enumerate(text) if char in JOINERS and kind_of(char, text[:at]) is not None}
    assert loose == hidden
