"""Text of others on a page: escaped, its hidden characters in boxes, whatever it is."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parlerd.text.codepoints import JOINERS, kinds
from parlerd.web.pages.foreign import MAX_BOXES, MAX_MARKS, Piece, fitting, foreign, pieces

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg/onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}{# no #}",
    "&lt;b&gt; &amp; &#x202e;",
    "\x1b]52;c;aGk=\x07\x1b[2K",
    "safe\u202egnp.exe\u2066\u2069",
    "a\u200bb\u200d\ufeffc\U000e0041",
    "Z" + "\u0301" * 40,
    "\U0001f469\u200d\U0001f4bb \u0915\u094d\u200d\u0937",
    "\r\nplain\rend\t.",
    "\ud800 half",
    "]]><!-- --><![CDATA[",
)
ANY = st.text(st.characters() | st.sampled_from(sorted(kinds())) | st.sampled_from("<>&\"'{}%\u0301\u0302"))


class Read(HTMLParser):
    """What a browser makes of a piece of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.other: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def handle_decl(self, decl: str) -> None:
        self.other.append(decl)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)


@given(ANY)
@example("".join(HOSTILE))
@example("\u200d\u0301\u0301\u0301\u0301\u0301\u0301")
def test_no_text_is_markup_and_no_hidden_character_reaches_a_page(text: str) -> None:
    page = str(foreign(text))
    read = Read(page)
    assert {tag for tag, _ in read.tags} == {"bdi"}
    assert all(set(about) <= {"class", "dir", "title"} for _, about in read.tags)
    assert read.other == []
    assert read.text == "".join(piece.text for piece in pieces(text))
    assert [char for char in page if char in kinds() and char not in JOINERS] == []
    page.encode()


@given(ANY)
@example("".join(HOSTILE))
def test_everything_that_can_be_read_is_there_in_its_order(text: str) -> None:
    shown = "".join(piece.text for piece in pieces(text) if not piece.kind)
    seen = iter(text.replace("\r\n", "\n"))
    assert all(char in seen for char in shown)
    hidden = [char for char in text.replace("\r\n", "\n") if char in kinds() and char not in JOINERS]
    assert not set(hidden) & set(shown)
    readable = [char for char in text.replace("\r\n", "\n") if char not in kinds()]
    marks = sum(piece.kind in ("mark", "more") for piece in pieces(text))
    assert marks or "".join(readable) == "".join(char for char in shown if char not in JOINERS)


def test_every_hidden_character_is_named_in_a_box() -> None:
    for char, kind in kinds().items():
        if char not in JOINERS:
            assert pieces(f"a{char}b") == [Piece("a"), Piece(f"U+{ord(char):04X}", kind), Piece("b")], hex(ord(char))


@pytest.mark.parametrize("text", ["\U0001f469\u200d\U0001f4bb", "\u0915\u094d\u200d\u0937", "\u2764\ufe0f", "न\u200dम"])
def test_what_shapes_the_characters_beside_it_stays(text: str) -> None:
    assert pieces(text) == [Piece(text)]


def test_a_joiner_that_shapes_nothing_is_boxed() -> None:
    assert pieces("a\u200db") == [Piece("a"), Piece("U+200D", "invisible"), Piece("b")]


def test_a_run_of_hidden_characters_is_counted_and_marks_that_pile_up_are_cut() -> None:
    found = pieces("a" + "\u200b" * 5_000 + "b")
    assert found[-2:] == [Piece(f"+{5_000 - MAX_BOXES} hidden", "more"), Piece("b")]
    assert len(found) == MAX_BOXES + 3
    found = pieces("z" + "\u0301" * 500 + "!")
    assert found[0] == Piece("z" + "\u0301" * MAX_MARKS)
    assert {piece.kind for piece in found[1:-1]} == {"mark", "more"}


def test_a_text_has_its_own_direction_and_a_box_gives_none() -> None:
    page = str(foreign("\u202eabc"))
    assert page.startswith('<bdi class="peer" dir="auto"><bdi class="box" title="bidirectional">U+202E</bdi>')


@given(ANY, st.integers(0, 400))
@example("<" * 50, 100)
@example("\u200b" * 50, 100)
def test_what_is_cut_fits_and_begins_as_the_whole(text: str, most: int) -> None:
    kept, left = fitting(text, most)
    assert len("".join(str(foreign([piece])) for piece in kept).encode()) <= most + len(kept) * len(str(foreign([])))
    whole = pieces(text)
    said = "".join(piece.text for piece in kept)
    assert "".join(piece.text for piece in whole).startswith(said) or "hidden" in said
    assert (left == 0) is (kept == whole)
    assert 0 <= left <= len(text)


def test_a_readable_text_is_cut_where_no_more_fits() -> None:
    assert fitting("x" * 500, 100) == ([Piece("x" * 100)], 400)
    assert fitting("é<" * 50, 60) == ([Piece("é<" * 10)], 80)
    assert fitting("", 0) == ([], 0)
