"""The pages of the project as a reader meets them: blocks to copy, names in passing, links to follow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = sorted(page for folder in (".", "docs", "examples") for page in (ROOT / folder).glob("*.md"))

_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN: Final = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block and the language it says it is in."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """What stands in backticks in a page's prose, each on one line."""
    return [" ".join(found.split()) for found in _SPAN.findall(prose(page))]


def links(page: Path) -> list[str]:
    """Where a page's links lead, as they are written."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """What `#...` may name in a page, as GitHub makes it of headings."""
    headings = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose(page)))
    return {heading.replace(" ", "-") for heading in headings}


def rows(page: Path) -> Iterator[list[str]]:
    """The cells of every row of every table, heads and rules left out."""
    for line in prose(page).splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not set("".join(cells)) <= set("-: "):
                yield cells


def shell_lines(page: Path) -> list[list[str]]:
    """The commands of a page's `sh` blocks as words, in order; comments are dropped and continued lines joined."""
    text = "\n".join(block.text for block in blocks(page) if block.language == "sh")
    lines = (shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines())
    return [words for words in lines if words]
