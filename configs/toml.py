"""TOML: where tables and keys stand, and the splices that change one of them.

The standard library says what the text means; a scan over statements says where. Nothing is written again but our own
lines, so comments, order and line breaks of the rest cannot change. A new table comes after the last one beside it,
with an empty line between; inside an inline table it becomes an inline table. Not here: checks of the result. Above:
`document`. Invariant: `unset` of what `set` wrote, and `drop` of what `add` wrote, gives the same text again.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any, Final

from configs.edit import (
    MAX_DEPTH,
    EditRefused,
    Rules,
    Splice,
    line_break,
    refuse,
    refuse_twice,
    too_deep,
    unverified,
)
from configs.model import KeyPath
from configs.render import toml_inline, toml_key, toml_pair, toml_table

_STRING: Final = (
    r'"""[^"\\]*(?:(?:\\.|"{1,2}(?!"))[^"\\]*)*"{3,5}'
    r"|'''[^']*(?:'{1,2}(?!')[^']*)*'{3,5}"
    r'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
    r"|'[^'\n]*'"
)
_TOKEN: Final = re.compile(_STRING + r"|#[^\r\n]*|[\[\]{}=,\n]", re.DOTALL)
_MAX_DOTS: Final = 64
"""Dots that one key may have. The standard library takes time with the square of their number (measured: 14 s for a key
of 64 KiB); up to this many it takes no longer than for the same bytes without dots. No host's own file has ten."""
_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
"""A backslash in a string with what it escapes: of two backslashes the second one escapes nothing."""
_BLANKS: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+(?:[ \t]*\.[ \t]*[A-Za-z0-9_-]+)*")
_WHERE: Final = re.compile(r"\(at line (\d+), column (\d+)\)")
_TWICE: Final = re.compile(r"twice|[Oo]verwrite|Cannot (?:mutate|declare|redefine)")


def parse(text: str, rules: Rules) -> Text:
    """A text without byte order mark. Raises `EditRefused`.

    Where `rules` let a comma stand before a closing bracket, the text is TOML 1.1: inline tables may take several
    lines, and there are two more escapes.
    """
    comments = []
    depth = dots = at = 0
    for match in _TOKEN.finditer(text):
        first = match[0][0]
        dots += text.count(".", at, match.start())
        if dots > _MAX_DOTS:
            refuse("too_deep", f"The file has a key of more than {_MAX_DOTS} parts at {{where}}.", text, at)
        at = match.end()
        if first not in "\"'":
            dots = 0
        if first == "#":
            comments.append(match.span())
        elif first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                _refuse_depth(text, match.start())
        elif first in "]}":
            depth -= 1
    if dots + text.count(".", at) > _MAX_DOTS:
        refuse("too_deep", f"The file has a key of more than {_MAX_DOTS} parts at {{where}}.", text, at)
    try:
        value = _meaning(text, rules)
    except tomllib.TOMLDecodeError as error:
        found = _WHERE.search(str(error))
        at = _offset(text, int(found[1]), int(found[2])) if found else len(text)
        if _TWICE.search(str(error)):
            _refuse_duplicate(text, at)
        refuse("unreadable", "The file is not valid TOML at {where}.", text, at)
    except ValueError:
        raise EditRefused("unreadable", "The file has a number or a date that cannot be read.") from None
    except RecursionError:
        raise EditRefused("too_deep", f"The file has more than {MAX_DEPTH} levels.") from None
    if too_deep(value):
        raise EditRefused("too_deep", f"The file has more than {MAX_DEPTH} levels.")
    return Text(text, value, comments)


def _meaning(text: str, rules: Rules) -> dict[str, Any]:
    """What the text says. Raises what `tomllib.loads` raises, with the places of this text."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        older = _in_1_0(text) if rules.trailing_commas else text
        if older == text:
            raise
        try:
            return tomllib.loads(older)
        except tomllib.TOMLDecodeError:
            pass
        raise


def _in_1_0(text: str) -> str:
    """The same in the words of TOML 1.0, which is what the standard library reads; only for its meaning."""
    pieces: list[str] = []
    open: list[str] = []
    at = 0
    has_pair = False
    """Whether something stands before this place since the table began, or since its last comma."""
    for match in _TOKEN.finditer(text):
        mark, gap = match[0], text[at : match.start()]
        at = match.end()
        in_table = bool(open) and open[-1] == "{"
        # A carriage return that stood before the line break becomes a blank with it.
        pieces.append(gap.replace("\r", " ") if in_table else gap)
        is_break = mark == "\n" or mark[0] == "#"
        ends = in_table and mark == "," and (has_pair or bool(gap.strip())) and text.startswith("}", _skipped(text, at))
        has_pair = mark not in ("{", ",") and (has_pair or bool(gap.strip()) or not is_break)
        if mark in ("[", "{"):
            open.append(mark)
        elif mark in ("]", "}"):
            del open[-1:]
        elif ends or (in_table and is_break):
            mark = " "
        elif mark[0] == '"':
            mark = _ESCAPE.sub(_escaped, mark)
        pieces.append(mark)
    return "".join([*pieces, text[at:]])


def _escaped(match: re.Match[str]) -> str:
    kind = match[1]
    if kind == "e":
        return "\\u001b"
    return f"\\u00{kind[1:]}" if kind[0] == "x" and len(kind) > 1 else match[0]


def _refuse_depth(text: str, at: int) -> None:
    refuse("too_deep", f"The file has more than {MAX_DEPTH} levels of brackets at {{where}}.", text, at)


def _offset(text: str, line: int, column: int) -> int:
    at = 0
    for _ in range(line - 1):
        at = text.find("\n", at) + 1
    return min(at + column - 1, len(text))


def _refuse_duplicate(text: str, at: int) -> None:
    """Raise with both lines, when they can be told."""
    try:
        statements = _statements(text)
    except (ValueError, IndexError, RecursionError):
        return
    second = next((each for each in reversed(statements) if each.start <= at), None)
    if second is not None:
        for each in statements:
            if each is not second and each.path == second.path and each.start < second.start:
                refuse_twice(text, each.start, second.start)


@dataclass(frozen=True, slots=True)
class _Statement:
    """A header or a pair: its whole path, its table's path, and its places to the end of its value and of its line."""

    kind: str
    path: KeyPath
    table: KeyPath
    start: int
    value: int
    end: int
    line: int
    line_end: int


def _statements(text: str) -> list[_Statement]:
    found = []
    table: KeyPath = ()
    at = _skipped(text, 0)
    while at < len(text):
        start, equals, depth, end = at, -1, 0, len(text)
        for match in _TOKEN.finditer(text, at):
            mark = match[0]
            if mark in ("[", "{"):
                depth += 1
            elif mark in ("]", "}"):
                depth -= 1
            elif mark == "=" and equals < 0:
                equals = match.start()
            elif depth <= 0 and (mark == "\n" or mark[0] == "#"):
                end = match.start()
                break
        stop = start + len(text[start:end].rstrip(" \t\r"))
        after = text.find("\n", end)
        line_end = len(text) if after < 0 else after + 1
        line = text.rfind("\n", 0, start) + 1
        if text[start] == "[":
            kind = "array" if text.startswith("[[", start) else "table"
            width = 2 if kind == "array" else 1
            table = _key(text[start + width : stop - width])
            found.append(_Statement(kind, table, table, start, stop, stop, line, line_end))
        else:
            value = equals + 1 + len(text[equals + 1 : stop]) - len(text[equals + 1 : stop].lstrip(" \t"))
            path = (*table, *_key(text[start:equals]))
            found.append(_Statement("pair", path, table, start, value, stop, line, line_end))
        at = _skipped(text, end)
    return found


def _skipped(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


def _key(text: str) -> KeyPath:
    text = text.strip(" \t")
    if _BARE.fullmatch(text):
        return tuple(part.strip(" \t") for part in text.split("."))
    parts = []
    value: Any = tomllib.loads(text + " = 0")
    while isinstance(value, dict):
        ((key, value),) = value.items()
        parts.append(key)
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class _Item:
    start: int
    key: KeyPath
    value: int
    end: int


def _items(text: str, open: int) -> tuple[list[_Item], int]:
    """What is in an inline table or list, and where its closing bracket stands."""
    items: list[_Item] = []
    start = at = _skipped(text, open + 1)
    depth, equals = 0, -1
    for match in _TOKEN.finditer(text, at):
        mark = match[0]
        if mark[0] == "#" or mark == "\n":
            if match.start() == start:
                start = _skipped(text, match.end())
            continue
        if mark in ("[", "{"):
            depth += 1
        elif mark == "=" and depth == 0 and text[open] == "{":
            equals = match.start()
        elif depth == 0 and mark in (",", "]", "}"):
            if match.start() > start:
                value = _skipped(text, equals + 1) if equals >= 0 else start
                key = _key(text[start:equals]) if equals >= 0 else ()
                end = _value_end(text, value, match.start())
                items.append(_Item(start, key, value, end))
            if mark != ",":
                return items, match.start()
            start, equals = _skipped(text, match.end()), -1
        elif mark in ("]", "}"):
            depth -= 1
    raise EditRefused("unverified", "The file has a list or table whose end cannot be found.")


def _value_end(text: str, start: int, limit: int) -> int:
    """Where a value ends that has nothing but blanks and comments between it and `limit`."""
    depth = 0
    for match in _TOKEN.finditer(text, start, limit):
        mark = match[0]
        if mark in ("[", "{"):
            depth += 1
        elif mark in ("]", "}"):
            depth -= 1
        elif depth == 0 and (mark[0] == "#" or mark == "\n"):
            limit = match.start()
            break
    return start + len(text[start:limit].rstrip(" \t\r\n"))


@dataclass(frozen=True)
class Text:
    """See `configs.edit.Parsed`."""

    text: str
    value: dict[str, Any]
    _comments: list[tuple[int, int]]

    @property
    def has_root(self) -> bool:
        return True

    def comments(self) -> list[tuple[int, int]]:
        return self._comments

    def place(self, path: KeyPath) -> None:
        """Nothing to do: the language itself refuses a key that is there twice."""

    def set(self, path: KeyPath, value: Any) -> list[Splice]:
        statements = _statements(self.text)
        holder = _holder(statements, path)
        if holder is not None:
            return self._set_inline(holder, path, value)
        header = next((each for each in statements if each.kind == "table" and each.path == path), None)
        if header is not None:
            if not isinstance(value, dict):
                raise unverified()
            return [
                Splice(
                    *self._line_after(
                        header, line_break(self.text).join(toml_pair((key,), each) for key, each in value.items())
                    )
                )
            ]
        parent = path[:-1]
        is_table = isinstance(value, dict)
        if not is_table:
            inside = [each for each in statements if each.table == parent and each.kind != "array"]
            if parent == () and not inside and statements:
                return [Splice(0, 0, toml_pair(path, value) + line_break(self.text))]
            if inside:
                return [Splice(*self._line_after(inside[-1], toml_pair(path[-1:], value)))]
        under = [each for each in statements if parent and each.path[: len(parent)] == parent]
        if under and all(each.kind == "pair" and each.table != parent for each in under):
            # The tables beside the new one are made by dotted keys, so the new one is made so too.
            key = path[len(under[-1].table) :]
            return [Splice(*self._line_after(under[-1], toml_pair(key, value)))]
        if not is_table:
            if not parent:
                return [Splice(*self._at_end(toml_pair(path, value)))]
            return self._new_block(statements, parent, toml_table(parent, {path[-1]: value}, line_break(self.text)))
        return self._new_block(statements, parent, toml_table(path, value, line_break(self.text)))

    def unset(self, path: KeyPath, levels: int) -> list[Splice]:
        # The tables around this one that only its header made go with it. A table with a header of its own goes where
        # `levels` allow it.
        statements = _statements(self.text)
        while levels and self._stands_alone(statements, path):
            path, levels = path[:-1], levels - 1
        holder = _holder(statements, path)
        if holder is not None and holder.path != path:
            items, index = self._inline_place(holder, path)
            return [_without(items, index)]
        lines = [
            self._line_of(each)
            for each in statements
            if each.kind == "pair" and _is_under(each.path, path) and not _is_under(each.table, path)
        ]
        return [*lines, *self._without_sections(statements, [_is_under(each.table, path) for each in statements])]

    def _stands_alone(self, statements: list[_Statement], path: KeyPath) -> bool:
        """Whether the table around a key has a header of its own, and nothing in it but that key."""
        header = next((each for each in statements if each.kind == "table" and each.path == path[:-1]), None)
        if header is None or any(
            _is_under(each.path, path[:-1]) and not _is_under(each.path, path)
            for each in statements
            if each is not header
        ):
            return False
        last = max(each.line_end for each in statements if _is_under(each.path, path))
        return not any(header.start < start < last for start, _ in self.comments())

    def add(self, path: KeyPath, value: Any) -> list[Splice]:
        statements = _statements(self.text)
        holder = _holder(statements, path)
        if holder is not None:
            return self._add_inline(holder, path, value)
        if not isinstance(value, dict):
            return self.set(path, [value])
        end = line_break(self.text)
        lines = [f"[[{toml_key(path)}]]", *(toml_pair((key,), each) for key, each in value.items())]
        return self._new_block(statements, path, end.join(lines))

    def drop(self, path: KeyPath, index: int, levels: int) -> list[Splice]:
        statements = _statements(self.text)
        holder = _holder(statements, path)
        if holder is not None:
            open = holder.value if holder.path == path else self._inline_value(holder, path)
            items, _ = _items(self.text, open)
            if len(items) == 1 and levels > 0:
                return self.unset(path, levels - 1)
            return [_without(items, index)]
        count = -1
        chosen = []
        for each in statements:
            if each.kind == "array" and each.path == path:
                count += 1
            chosen.append(count == index and _is_under(each.table, path))
        return self._without_sections(statements, chosen)

    # -- inline ----------------------------------------------------------------------------------------------------

    def _set_inline(self, holder: _Statement, path: KeyPath, value: Any) -> list[Splice]:
        at, end, rest = holder.value, holder.end, path[len(holder.path) :]
        while rest:
            if self.text[at] != "{":
                raise unverified()
            items, _ = _items(self.text, at)
            item = next((each for each in items if rest[: len(each.key)] == each.key), None)
            if item is None:
                return [_inserted(at, items, f"{toml_key(rest)} = {toml_inline(value)}")]
            at, end, rest = item.value, item.end, rest[len(item.key) :]
        return [Splice(at, end, toml_inline(value))]

    def _add_inline(self, holder: _Statement, path: KeyPath, value: Any) -> list[Splice]:
        try:
            at = holder.value if holder.path == path else self._inline_value(holder, path)
        except KeyError:
            return self._set_inline(holder, path, [value])
        items, _ = _items(self.text, at)
        return [_inserted(at, items, toml_inline(value))]

    def _inline_value(self, holder: _Statement, path: KeyPath) -> int:
        items, index = self._inline_place(holder, path)
        return items[index].value

    def _inline_place(self, holder: _Statement, path: KeyPath) -> tuple[list[_Item], int]:
        """What is in the inline table with the last key of a path, and which of it that key is. Raises `KeyError`."""
        at, rest = holder.value, path[len(holder.path) :]
        while self.text[at] == "{":
            items, _ = _items(self.text, at)
            index = next((n for n, each in enumerate(items) if rest[: len(each.key)] == each.key), None)
            if index is None:
                break
            if rest == items[index].key:
                return items, index
            at, rest = items[index].value, rest[len(items[index].key) :]
        raise KeyError(path)

    # -- lines -----------------------------------------------------------------------------------------------------

    def _line_after(self, statement: _Statement, lines: str) -> tuple[int, int, str]:
        end, at = line_break(self.text), statement.line_end
        is_ended = self.text[at - 1 : at] == "\n"
        return at, at, lines + end if is_ended else end + lines

    def _at_end(self, line: str) -> tuple[int, int, str]:
        end, at = line_break(self.text), len(self.text)
        return at, at, end + line if at and self.text[-1] != "\n" else line + end

    def _line_of(self, statement: _Statement) -> Splice:
        start, end = statement.line, statement.line_end
        if self.text[end - 1] != "\n":
            start = self._without_break(start)
        return Splice(start, end)

    def _without_break(self, at: int) -> int:
        """A place without the line break that is right before it."""
        if at and self.text[at - 1] == "\n":
            return at - 2 if self.text[:at].endswith("\r\n") else at - 1
        return at

    def _new_block(self, statements: list[_Statement], beside: KeyPath, block: str) -> list[Splice]:
        """Lines for a table after the last of those that share the most of `beside`, with an empty line between.

        Where tables follow each other without one, the empty line goes behind: so `_without_sections` can tell them
        apart and leave what was there.
        """
        text, end = self.text, line_break(self.text)
        at = len(text)
        for length in range(len(beside), 0, -1):
            near = [each for each in statements if each.table[:length] == beside[:length]]
            if near:
                at = self._after_comments(near[-1].line_end)
                break
        else:
            at = len(text.rstrip())
            after = text.find("\n", at)
            at = (len(text) if after < 0 else after + 1) if at else 0
        if not text:
            return [Splice(0, 0, block + end)]
        if at and text[at - 1] != "\n":
            return [Splice(at, at, end + end + block)]
        is_followed = text[at : at + 1].strip() != "" or (at < len(text) and not _is_blank_line(text, at))
        return [Splice(at, at, block + end + end if is_followed else end + block + end)]

    def _after_comments(self, at: int) -> int:
        """Behind comments that follow a line directly and are followed by nothing: they speak of what is before."""
        end = at
        while end < len(self.text):
            stop = self.text.find("\n", end)
            stop = len(self.text) if stop < 0 else stop + 1
            line = self.text[end:stop].strip()
            if not line:
                return end
            if line[0] != "#":
                return at
            end = stop
        return end

    def _without_sections(self, statements: list[_Statement], chosen: list[bool]) -> list[Splice]:
        text = self.text
        splices = []
        index = 0
        while index < len(statements):
            if not chosen[index]:
                index += 1
                continue
            last = index
            while last + 1 < len(statements) and chosen[last + 1]:
                last += 1
            start, end = statements[index].line, statements[last].line_end
            before = self._without_break(start)
            if text[end - 1] != "\n":
                start = self._without_break(before)
            elif before < start and (before == 0 or text[before - 1] == "\n"):
                start = before
            else:
                blank = re.compile(r"\r?\n").match(text, end)
                end = blank.end() if blank else end
            splices.append(Splice(start, end))
            index = last + 1
        return splices


def _is_blank_line(text: str, at: int) -> bool:
    stop = text.find("\n", at)
    return not text[at : len(text) if stop < 0 else stop].strip()


def _is_under(path: KeyPath, above: KeyPath) -> bool:
    return path[: len(above)] == above


def _holder(statements: list[_Statement], path: KeyPath) -> _Statement | None:
    """The pair whose value is at `path` or around it."""
    return next((each for each in statements if each.kind == "pair" and _is_under(path, each.path)), None)


def _inserted(open: int, items: list[_Item], text: str) -> Splice:
    at = items[-1].end if items else open + 1
    return Splice(at, at, f", {text}" if items else text)


def _without(items: list[_Item], index: int) -> Splice:
    if index:
        return Splice(items[index - 1].end, items[index].end)
    if len(items) > 1:
        return Splice(items[0].start, items[1].start)
    return Splice(items[0].start, items[0].end)
