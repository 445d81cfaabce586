"""JSON with and without comments: where keys and values stand, and the splices that change one of them.

A scan with one expression blanks comments and, where the host takes them, commas before a closing bracket; what is left
is strict JSON with every character in its place, which the standard library reads and measures at its own speed.

An insertion follows the file: its indentation, line breaks and commas. It comes last in its table, behind comments that
stand there. What is taken out leaves the comments around it. Not here: checks of the result. Above: `document`.
Invariant: `unset` of what `set` wrote, and `drop` of what `add` wrote, gives the same text again.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any, Final

from configs.edit import (
    MAX_DEPTH,
    Rules,
    Splice,
    indentation,
    line_break,
    refuse,
    refuse_twice,
)
from configs.model import KeyPath

_STRING: Final = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN: Final = re.compile(_STRING + r'|//[^\n\r]*|/\*.*?\*/|[\[\]{}]|["/]', re.DOTALL)
_COMMA: Final = re.compile(_STRING + r"|,(?=[ \t\r\n]*[}\]])", re.DOTALL)
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_FILLED: Final = re.compile(r"[^ \t\r\n]")
_INDENTED: Final = re.compile(r'[{\[][ \t]*(?:\r\n|\r|\n)([ \t]+)"')
_BREAKS: Final = re.compile(r"\r\n|\r|\n")
_BREAKS_AT_END: Final = re.compile(r"(?:\r\n|\r|\n)\Z")
_MOST_DIGITS: Final = 4000
"""A whole number with more digits is kept as text: Python refuses to read it, and no host reads it exactly."""


def parse(text: str, rules: Rules) -> Text:
    """A text without byte order mark, read by a host's rules. Raises `EditRefused`."""
    comments = _scan(text, rules)
    bare = _blanked(text, comments)
    commas: list[int] = []
    if not _FILLED.search(bare):
        return Text(text, bare, {}, comments, commas, has_root=False)
    try:
        value = _loads(bare)
    except json.JSONDecodeError as error:
        commas = _trailing_commas(bare)
        if not commas:
            refuse("unreadable", "The file is not valid JSON at {where}.", text, error.pos)
        bare = _blanked(bare, [(at, at + 1) for at in commas])
        try:
            value = _loads(bare)
        except json.JSONDecodeError as other:
            refuse("unreadable", "The file is not valid JSON at {where}.", text, other.pos)
        if not rules.trailing_commas:
            refuse(
                "host_cannot_read",
                "The host cannot read this file: there is a comma before a closing bracket at {where}. Remove it.",
                text,
                commas[0],
            )
    if not isinstance(value, dict):
        at = _space(bare, 0)
        refuse("not_an_object", "The file should hold an object, and holds something else at {where}.", text, at)
    return Text(text, bare, value, comments, commas, has_root=True)


def _scan(text: str, rules: Rules) -> list[tuple[int, int]]:
    """Where comments stand. Raises `EditRefused` for those that the host does not take, and for too many levels."""
    comments = []
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        first = token[0]
        if first == '"' and len(token) > 1:
            continue
        if first in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                refuse(
                    "too_deep",
                    f"The file has more than {MAX_DEPTH} levels of brackets at {{where}}.",
                    text,
                    match.start(),
                )
        elif first in "}]":
            depth -= 1
        elif first == "/" and len(token) > 1:
            if not rules.comments:
                refuse(
                    "host_cannot_read",
                    "The host cannot read this file: there is a comment at {where}. Remove it.",
                    text,
                    match.start(),
                )
            comments.append(match.span())
        else:
            refuse("unreadable", "The file is not valid JSON at {where}.", text, match.start())
    return comments


def _blanked(text: str, spans: list[tuple[int, int]]) -> str:
    parts = []
    at = 0
    for start, end in spans:
        parts += [text[at:start], " " * (end - start)]
        at = end
    return "".join([*parts, text[at:]])


def _trailing_commas(bare: str) -> list[int]:
    found = []
    for match in _COMMA.finditer(bare):
        if match[0] == ",":
            at = match.start() - 1
            while at >= 0 and bare[at] in " \t\r\n":
                at -= 1
            if at >= 0 and bare[at] not in "[{,:":
                found.append(match.start())
    return found


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MOST_DIGITS else digits


def _constant(_: str) -> None:
    raise ValueError("not JSON")


_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_constant=_constant)


def _loads(bare: str) -> Any:
    start = _space(bare, 0)
    try:
        value, end = _DECODER.raw_decode(bare, start)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # The library would read NaN and Infinity, and does not say where they are.
        found = re.search(r"NaN|-?Infinity", re.sub(_STRING, lambda match: " " * len(match[0]), bare, flags=re.DOTALL))
        raise json.JSONDecodeError("", bare, found.start() if found else start) from None
    end = _space(bare, end)
    if end < len(bare):
        raise json.JSONDecodeError("", bare, end)
    return value


def _space(bare: str, at: int) -> int:
    match = _SPACE.match(bare, at)
    return match.end() if match else at


@dataclass(frozen=True, slots=True)
class _Item:
    """A member of an object or an element of a list: from its key, or else its value, to the end of its value."""

    start: int
    key: str | None
    value: int
    end: int
    comma: int | None
    """Where the comma after it stands."""


@dataclass(frozen=True, slots=True)
class _Box:
    """An object or a list: where its brackets stand, and what is in it."""

    open: int
    close: int
    items: list[_Item]


@dataclass(frozen=True)
class Text:
    """See `configs.edit.Parsed`. `bare` is the text without comments and needless commas, each place as in `text`."""

    text: str
    bare: str
    value: Any
    _comments: list[tuple[int, int]]
    _commas: list[int]
    has_root: bool
    _boxes: dict[int, _Box] = field(default_factory=dict)

    def comments(self) -> list[tuple[int, int]]:
        return self._comments

    def place(self, path: KeyPath) -> None:
        if not self.has_root:
            return
        box: _Box | None = self._box(_space(self.bare, 0))
        for key in path:
            if box is None:
                return
            found = [item for item in box.items if item.key == key]
            if len(found) > 1:
                refuse_twice(self.text, found[0].start, found[1].start)
            box = self._box(found[0].value) if found and self.bare[found[0].value] == "{" else None

    def set(self, path: KeyPath, value: Any) -> list[Splice]:
        if not self.has_root:
            return self._begin(path, value)
        boxes, items = self._way(path)
        if len(items) == len(path):
            item = items[-1]
            indent, _ = indentation(self.text, item.start)
            rendered = self._render(value, indent, self._unit(boxes[-1]), self._ends_with_comma(boxes[-1]))
            return [Splice(item.value, item.end, rendered)]
        return self._insert(boxes[-1], path[len(items)], _nested(path[len(items) + 1 :], value))

    def unset(self, path: KeyPath, levels: int) -> list[Splice]:
        boxes, items = self._way(path)
        return self._remove(boxes, items, levels)

    def add(self, path: KeyPath, value: Any) -> list[Splice]:
        if not self.has_root:
            return self._begin(path, [value])
        _, items = self._way(path)
        if len(items) < len(path):
            return self.set(path, [value])
        return self._insert(self._box(items[-1].value), None, value)

    def drop(self, path: KeyPath, index: int, levels: int) -> list[Splice]:
        boxes, items = self._way(path)
        elements = self._box(items[-1].value)
        return self._remove([*boxes, elements], [*items, elements.items[index]], levels)

    # -- where things stand ----------------------------------------------------------------------------------------

    def _way(self, path: KeyPath) -> tuple[list[_Box], list[_Item]]:
        """The objects that lead to a path and the members in them, as far as they are there."""
        boxes = [self._box(_space(self.bare, 0))]
        items: list[_Item] = []
        for key in path:
            item = next((each for each in boxes[-1].items if each.key == key), None)
            if item is None:
                break
            items.append(item)
            if len(items) < len(path):
                boxes.append(self._box(item.value))
        return boxes, items

    def _box(self, open: int) -> _Box:
        if open not in self._boxes:
            self._boxes[open] = self._measured(open)
        return self._boxes[open]

    def _measured(self, open: int) -> _Box:
        bare = self.bare
        is_object = bare[open] == "{"
        items: list[_Item] = []
        at = _space(bare, open + 1)
        while bare[at] not in "}]":
            start, key = at, None
            if is_object:
                key, at = _DECODER.raw_decode(bare, at)
                at = _space(bare, _space(bare, at) + 1)
            value = at
            _, end = _DECODER.raw_decode(bare, at)
            at = _space(bare, end)
            comma = at if bare[at] == "," else None
            if comma is None and self._commas:
                # A comma before the closing bracket was blanked, as comments were.
                comma = next((each for each in self._commas_between(end, at)), None)
            items.append(_Item(start, key, value, end, comma))
            if bare[at] == ",":
                at = _space(bare, at + 1)
        return _Box(open, at, items)

    def _commas_between(self, start: int, end: int) -> list[int]:
        return self._commas[bisect_left(self._commas, start) : bisect_left(self._commas, end)]

    def _before(self, at: int, floor: int) -> int:
        """The end of the last thing before a place, comments and commas counted, not before `floor`."""
        end = at
        while end > floor and self.text[end - 1] in " \t\r\n":
            end -= 1
        # Blanks at the end of a line comment belong to the comment.
        index = bisect_right(self._comments, (at, -1)) - 1
        if index >= 0:
            end = max(end, min(self._comments[index][1], at))
        return end

    def _is_line_comment(self, end: int) -> bool:
        index = bisect_left(self._comments, (end, -1)) - 1
        return index >= 0 and self._comments[index][1] == end and self.text.startswith("//", self._comments[index][0])

    # -- how the file looks ----------------------------------------------------------------------------------------

    def _ends_with_comma(self, box: _Box) -> bool:
        return box.items[-1].comma is not None if box.items else bool(self._commas)

    def _unit(self, box: _Box | None) -> str:
        """What one level is indented by: in this object, else in the first one of the file that has lines."""
        if box is not None and box.items:
            outer, _ = indentation(self.text, box.open)
            inner, is_first = indentation(self.text, box.items[-1].start)
            if is_first and len(inner) > len(outer) and inner.startswith(outer):
                return inner[len(outer) :]
        found = _INDENTED.search(self.bare)
        if found:
            outer, _ = indentation(self.text, found.start())
            if len(found[1]) > len(outer) and found[1].startswith(outer):
                return found[1][len(outer) :]
        return "  "

    def _render(self, value: Any, indent: str, unit: str, commas: bool) -> str:
        """A value with its lines; what has only scalars in it and is a list stands on one."""
        if isinstance(value, dict) and value:
            parts = [f"{_text(key)}: {self._render(each, indent + unit, unit, commas)}" for key, each in value.items()]
        elif isinstance(value, list) and any(isinstance(each, (dict, list)) and each for each in value):
            parts = [self._render(each, indent + unit, unit, commas) for each in value]
        else:
            return _text(value)
        open, close = "{}" if isinstance(value, dict) else "[]"
        end = line_break(self.text)
        lines = f",{end}".join(indent + unit + part for part in parts)
        return f"{open}{end}{lines}{',' if commas else ''}{end}{indent}{close}"

    # -- the splices -----------------------------------------------------------------------------------------------

    def _begin(self, path: KeyPath, value: Any) -> list[Splice]:
        """A first object, behind whatever comments there are."""
        text, end = self.text, line_break(self.text)
        rendered = self._render(_nested(path, value), "", self._unit(None), commas=False)
        # Behind a comment that no line break ends, the object gets a break before it instead of behind it; `_end`
        # takes out either.
        is_open = bool(self._comments) and not _BREAKS.search(text, self._comments[-1][1])
        return [Splice(len(text), len(text), end + rendered if is_open else rendered + end)]

    def _insert(self, box: _Box, key: str | None, value: Any) -> list[Splice]:
        text, end = self.text, line_break(self.text)
        outer, _ = indentation(text, box.open)
        unit = self._unit(box)
        indent = outer + unit
        if box.items:
            own, is_first = indentation(text, box.items[-1].start)
            indent = own if is_first else indent
        at = self._before(box.close, box.open + 1)
        commas = self._ends_with_comma(box)
        rendered = ("" if key is None else f"{_text(key)}: ") + self._render(value, indent, unit, commas)
        splices = []
        if box.items and not commas:
            splices.append(Splice(box.items[-1].end, box.items[-1].end, ","))
        # In an object with nothing in it, the closing bracket needs a line of its own; behind a comment it has one.
        closing = end + outer if not box.items and at == box.open + 1 else ""
        splices.append(Splice(at, at, f"{end}{indent}{rendered}{',' if commas else ''}{closing}"))
        return splices

    def _remove(self, boxes: list[_Box], items: list[_Item], levels: int) -> list[Splice]:
        text = self.text
        last = len(boxes) - 1
        while levels > 0 and len(boxes[last].items) == 1 and not self._has_comments_beside(boxes[last], items[last]):
            if last == 0:
                return self._end(boxes[0])
            last, levels = last - 1, levels - 1
        box, item = boxes[last], items[last]
        index = box.items.index(item)
        before = box.items[index - 1] if index else None
        splices = []
        cut, end = self._before(item.start, box.open + 1), item.end
        if item.comma is not None:
            if self._before(item.comma, end) == end:
                end = item.comma + 1
            else:
                splices.append(Splice(item.comma, item.comma + 1))
        elif before is not None and before.comma is not None:
            # The last element of a list without a comma at its end goes, so the comma before it goes too.
            if self._before(item.start, before.comma + 1) == before.comma + 1 == cut:
                cut = before.comma
            else:
                splices.append(Splice(before.comma, before.comma + 1))
        if before is None and len(box.items) == 1 and cut == box.open + 1:
            outer, _ = indentation(text, box.open)
            closing = line_break(text) + outer
            end += len(closing) if text.startswith(closing, end) else 0
        if self._is_line_comment(cut) and text[end : end + 1] not in ("\n", "\r"):
            # A line comment ends here, and what follows on the line must not become part of it.
            cut = item.start
        return [*splices, Splice(cut, end)]

    def _has_comments_beside(self, box: _Box, item: _Item) -> bool:
        return any(box.open < start < box.close and not item.start <= start < item.end for start, _ in self._comments)

    def _end(self, box: _Box) -> list[Splice]:
        """The outermost object goes, as `_begin` brought it."""
        text, start, end = self.text, box.open, box.close + 1
        after = _BREAKS.match(text, end)
        if after:
            return [Splice(start, after.end())]
        before = _BREAKS_AT_END.search(text, 0, start)
        return [Splice(before.start() if before else start, end)]


def _nested(path: KeyPath, value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _text(value: Any) -> str:
    # A lone surrogate cannot be written in UTF-8, so it stays an escape.
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text) else json.dumps(value)
