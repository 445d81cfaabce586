"""The picture in the README is of the real screen, the same wherever it is made, and loads nothing from elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from docs.picture import PICTURE, WAITING, picture
from tests.support.pages import ROOT, links


def shown() -> str:
    """The words of the picture."""
    texts = ElementTree.fromstring(picture()).iter("{http://www.w3.org/2000/svg}text")
    return " ".join("".join(text.itertext()).replace("\xa0", " ") for text in texts)


def test_the_picture_is_what_the_screen_looks_like_now() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(), "run: python docs/render.py"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A terminal and a time zone that nobody here has."""
    with monkeypatch.context() as changed:
        for name, value in {"TZ": "PLR-9", "COLUMNS": "40", "LINES": "5", "TERM": "dumb", "NO_COLOR": "1"}.items():
            changed.setenv(name, value)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
def test_the_picture_is_the_same_in_another_terminal_and_time_zone() -> None:
    assert picture() == PICTURE.read_text(encoding="utf-8")
    assert time.tzname[0] == "PLR"


def test_the_picture_shows_who_waits_and_where_the_code_is_typed() -> None:
    words = shown()
    for request in WAITING:
        assert request.name in words
    assert WAITING[0].fingerprint in words
    assert "code" in words
    assert "K 7 Q M" in words


def test_the_picture_loads_nothing_from_elsewhere() -> None:
    text = picture().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert re.findall(r"https?:|@import|@font-face|<script|url\((?!#)|href", text) == []


def test_the_readme_shows_the_picture() -> None:
    assert f"docs/{PICTURE.name}" in links(ROOT / "README.md")
