"""Regular expressions whose matching takes a bounded time: what `matches` asks.

A pattern is read into positions, and a text goes through all positions at once, character by character, so no pattern
makes a text be looked at twice (Thompson's construction). Python's own `re` tries one way after another, and takes for
ever on some patterns of ten characters. The syntax is that of RE2, which CEL names, without classes of Unicode
properties (`\\pL`), `\\Q...\\E` and `\\C`.

Not here: where a pattern may stand. Above: `gates`, and `parlerd.expr`, which reads each pattern when its expression is
registered. Below: `values`, for the meter. Invariant: reading a pattern takes a time that its length bounds, and
matching pays a meter for every position that it looks at, whatever was matched before.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from parlerd.core.values import Meter

MAX_PATTERN: Final = 256
"""Bytes of a pattern."""
MAX_POSITIONS: Final = 1_000
"""Positions of a pattern, and of all patterns of one expression, with counted repetitions written out."""
MAX_GROUPS: Final = 32
"""Groups that stand inside each other."""
VISITS: Final = 4
"""Positions that are looked at for one step."""
EACH: Final = 2
"""What a character costs beside the positions that are looked at for it, in positions."""
BEGIN: Final = 4
"""Steps of a match, beside those for its characters."""
_MOST_CASES: Final = 256
"""Characters of a range for which small and capital letters are made one. A longer one is of no alphabet."""
_LAST: Final = 0x10FFFF


class BadPattern(Exception):
    """The text is no pattern, or one that is too large. Its argument says why, as a part of a sentence."""


# -- what a pattern is made of ---------------------------------------------------------------------------------


class Chars(NamedTuple):
    """One character out of sorted ranges, given by their first characters and their last ones."""

    firsts: tuple[int, ...]
    lasts: tuple[int, ...]

    def has(self, code: int) -> bool:
        """Whether the character is one of these."""
        place = bisect_right(self.firsts, code) - 1
        return place >= 0 and code <= self.lasts[place]


class Edge(NamedTuple):
    """A place between two characters: `^`, `$`, `\\b` and their like."""

    kind: str


class Sequence(NamedTuple):
    """One after the other."""

    parts: tuple[Part, ...]


class Choice(NamedTuple):
    """One of them."""

    ways: tuple[Part, ...]


class Repeat(NamedTuple):
    """The same again and again. Without `most` there is no end to it."""

    part: Part
    least: int
    most: int | None


Part: TypeAlias = Chars | Edge | Sequence | Choice | Repeat


def _cases(pairs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The other forms of letters: K, k and the sign for kelvin are one."""
    for first, last in pairs:
        if last - first < _MOST_CASES:
            for letter in map(chr, range(first, last + 1)):
                for other in (letter.lower(), letter.upper(), letter.casefold(), letter.casefold().upper()):
                    if len(other) == 1:
                        yield ord(other), ord(other)
    if any(first <= ord(letter) <= last for first, last in pairs for letter in "kK"):
        yield ord("\u212a"), ord("\u212a")
    if any(first <= ord(letter) <= last for first, last in pairs for letter in "sS"):
        yield ord("\u017f"), ord("\u017f")


def _chars(pairs: list[tuple[int, int]], folds: bool, is_negated: bool = False) -> Chars:
    merged: list[tuple[int, int]] = []
    for first, last in sorted([*pairs, *(_cases(pairs) if folds else ())]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    if is_negated:
        merged = _others(merged)
    return Chars(tuple([first for first, _ in merged]), tuple([last for _, last in merged]))


def _others(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges of all other characters. The pairs are sorted and do not touch."""
    ends = [-1, *[last for _, last in pairs]]
    starts = [*[first for first, _ in pairs], _LAST + 1]
    return [(end + 1, start - 1) for end, start in zip(ends, starts, strict=True) if end + 1 < start]


# -- reading ---------------------------------------------------------------------------------------------------


def _pairs(*ranges: str) -> list[tuple[int, int]]:
    return [(ord(each[0]), ord(each[-1])) for each in ranges]


_DIGIT: Final = _pairs("09")
_WORD: Final = _pairs("09", "AZ", "_", "az")
_SPACE: Final = _pairs("\t\n", "\f\r", " ")
_CLASSES: Final = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_NAMED: Final = {
    "alnum": _pairs("09", "AZ", "az"),
    "alpha": _pairs("AZ", "az"),
    "ascii": _pairs("\0\x7f"),
    "blank": _pairs("\t", " "),
    "cntrl": _pairs("\0\x1f", "\x7f"),
    "digit": _DIGIT,
    "graph": _pairs("!~"),
    "lower": _pairs("az"),
    "print": _pairs(" ~"),
    "punct": _pairs("!/", ":@", "[`", "{~"),
    "space": _pairs("\t\r", " "),
    "upper": _pairs("AZ"),
    "word": _WORD,
    "xdigit": _pairs("09", "AF", "af"),
}
_ESCAPES: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_EDGES: Final = {"A": "start", "z": "end", "b": "word", "B": "no word"}
_COUNT: Final = re.compile(r"\{(\d+)(?:(,)(\d*))?\}", re.ASCII)
_HEX: Final = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\})", re.ASCII)
_FLAGS: Final = re.compile(r"\?([ims]*)(?:-([ims]+))?([:)])", re.ASCII)
_GROUP_NAME: Final = re.compile(r"\?P?<[A-Za-z_]\w*>", re.ASCII)
_CLASS_NAME: Final = re.compile(r"\[:(\^?)([a-z]+):\]")


class _Reader:
    """Reads one pattern."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._flags = frozenset[str]()
        self._groups = 0

    def read(self) -> Part:
        part = self._choice()
        if self._at < len(self._text):
            raise BadPattern("a ) has no ( before it")
        return part

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _choice(self) -> Part:
        ways = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else Choice(tuple(ways))

    def _sequence(self) -> Part:
        parts: list[Part] = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._repeated())
        return Sequence(tuple(parts))

    def _repeated(self) -> Part:
        if self._next() in ("*", "+", "?") or _COUNT.match(self._text, self._at) is not None:
            raise BadPattern(f"nothing stands before {self._next()} to be repeated")
        start = self._at
        part = self._one()
        if part is None:  # flags, which change what follows
            return Sequence(())
        counted = self._counted(part)
        if counted is None:
            return part
        if self._next() == "?":  # fewest first: whether there is a match is the same
            self._at += 1
        before = self._at
        if self._counted(part) is not None:
            raise BadPattern(f"{self._text[start:before]} is repeated already: put it into brackets")
        return counted

    def _counted(self, part: Part) -> Part | None:
        """The part with the repetition that stands here, if one does."""
        sign = self._next()
        if sign in ("*", "+", "?"):
            self._at += 1
            return Repeat(part, int(sign == "+"), 1 if sign == "?" else None)
        found = self._take(_COUNT)
        if found is None:
            return None
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if least > MAX_POSITIONS or (most is not None and not least <= most <= MAX_POSITIONS):
            raise BadPattern(f"{found[0]} is no count of repetitions")
        return Repeat(part, least, most)

    def _one(self) -> Part | None:
        sign = self._next()
        self._at += 1
        folds = "i" in self._flags
        if sign == "(":
            return self._group()
        if sign == "[":
            return self._class()
        if sign == "\\":
            return self._escape()
        if sign == "^":
            return Edge("line start" if "m" in self._flags else "start")
        if sign == "$":
            return Edge("line end" if "m" in self._flags else "end")
        if sign == ".":
            return _chars([] if "s" in self._flags else _pairs("\n"), folds=False, is_negated=True)
        return _chars(_pairs(sign), folds)

    def _group(self) -> Part | None:
        if self._groups == MAX_GROUPS:
            raise BadPattern(f"more than {MAX_GROUPS} groups stand inside each other")
        outer = self._flags
        flags = self._take(_FLAGS)
        if flags is not None:
            self._flags = (self._flags | set(flags[1])) - set(flags[2] or "")
            if flags[3] == ")":  # for the rest of the group around
                return None
        elif self._next() == "?" and self._take(_GROUP_NAME) is None:
            raise BadPattern("after (? stand :, <name> or the flags i, m and s")
        self._groups += 1
        part = self._choice()
        self._groups -= 1
        self._flags = outer
        if self._next() != ")":
            raise BadPattern("a ( has no ) after it")
        self._at += 1
        return part

    def _escape(self) -> Part:
        sign = self._next()
        if sign in _EDGES:
            self._at += 1
            return Edge(_EDGES[sign])
        if sign.lower() in _CLASSES:
            self._at += 1
            return _chars(_CLASSES[sign.lower()], "i" in self._flags, is_negated=sign.isupper())
        return _chars(_pairs(self._escaped()), "i" in self._flags)

    def _escaped(self) -> str:
        """The character that an escape stands for. The backslash was taken."""
        found = self._take(_HEX)
        if found is not None:
            code = int(found[1] or found[2], 16)
            if code > _LAST:
                raise BadPattern("there is no such character")
            return chr(code)
        sign = self._next()
        self._at += 1
        if sign in _ESCAPES:
            return _ESCAPES[sign]
        if not sign:
            raise BadPattern("a \\ ends it")
        if not sign.isascii() or sign.isalnum():
            raise BadPattern(f"there is no \\{sign}")
        return sign

    def _class(self) -> Part:
        is_negated = self._next() == "^"
        self._at += is_negated
        pairs: list[tuple[int, int]] = []
        is_first = True
        while self._next() != "]" or is_first:
            is_first = False
            pairs += self._member()
        self._at += 1
        return _chars(pairs, "i" in self._flags, is_negated)

    def _member(self) -> list[tuple[int, int]]:
        """One member of a class: a character, a range, or a class of its own."""
        named = self._take(_CLASS_NAME)
        if named is not None:
            if named[2] not in _NAMED:
                raise BadPattern(f"there is no class {named[0]}")
            return self._pairs_of(_NAMED[named[2]], is_negated=bool(named[1]))
        sign = self._text[self._at + 1 : self._at + 2] if self._next() == "\\" else ""
        if sign.lower() in _CLASSES:
            self._at += 2
            return self._pairs_of(_CLASSES[sign.lower()], is_negated=sign.isupper())
        first = self._member_character()
        if self._next() != "-" or self._text[self._at + 1 : self._at + 2] in ("]", ""):
            return _pairs(first)
        self._at += 1
        last = self._member_character()
        if last < first:
            raise BadPattern("the range of a class ends before it begins")
        return _pairs(first + last)

    def _pairs_of(self, pairs: list[tuple[int, int]], is_negated: bool) -> list[tuple[int, int]]:
        chars = _chars(pairs, "i" in self._flags, is_negated)
        return list(zip(chars.firsts, chars.lasts, strict=True))

    def _member_character(self) -> str:
        sign = self._next()
        self._at += 1
        if not sign:
            raise BadPattern("a [ has no ] after it")
        return self._escaped() if sign == "\\" else sign


# -- positions -------------------------------------------------------------------------------------------------

# A position is a character to be taken, an edge to be passed, a fork of two ways, or the end.
_Character: TypeAlias = "tuple[Chars, int]"
_Passed: TypeAlias = "tuple[str, int]"
_Fork: TypeAlias = "tuple[int, int]"
_END: Final = None
_Position: TypeAlias = "_Character | _Passed | _Fork | None"


class Pattern:
    """A pattern that was read."""

    __slots__ = ("_bounds", "_has_edges", "_parts", "_positions", "_start")

    def __init__(self, text: str) -> None:
        """Raises `BadPattern`."""
        size = len(text.encode())
        if size > MAX_PATTERN:
            raise BadPattern(f"it has {size} bytes, and {MAX_PATTERN} are the most")
        self._positions: list[_Position] = [_END]
        self._parts = 0
        """Parts that were put, with their repetitions. A repetition of nothing makes no position."""
        self._start = self._put(_Reader(text).read(), 0)
        self._has_edges = any(position is not None and isinstance(position[0], str) for position in self._positions)
        chars = {position[0] for position in self._positions if position is not None and isinstance(position[0], Chars)}
        self._bounds = sorted({bound for each in chars for ends in zip(each.firsts, each.lasts, strict=True)
                               for bound in (ends[0], ends[1] + 1)})  # fmt: skip
        """Where ranges begin and end: characters between two bounds are the same to this pattern."""

    def found_in(self, text: str, meter: Meter) -> bool:
        """Whether some part of the text matches. Raises `Spent`."""
        # What was worked out is kept for this text: most texts lead to few sets of positions and few kinds of
        # characters. It costs the same steps each time, so what an evaluation costs does not rest on another.
        known: dict[tuple[frozenset[int], tuple[bool, ...], int], tuple[frozenset[int], bool, int]] = {}
        current = frozenset((self._start,))
        visits = 0
        meter.spend(BEGIN)
        for place in range(len(text) + 1):
            around = self._around(text, place) if self._has_edges else ()
            kind = bisect_right(self._bounds, ord(text[place])) if place < len(text) else -1
            key = (current, around, kind)
            step = known.get(key)
            if step is None:
                step = known[key] = self._step(*key)
            current, is_found, visited = step
            visits += visited + EACH
            if visits >= VISITS:
                meter.spend(visits // VISITS)
                visits %= VISITS
            if is_found:
                return True
        return False

    def __len__(self) -> int:
        """Its positions."""
        return len(self._positions)

    @staticmethod
    def _around(text: str, place: int) -> tuple[bool, ...]:
        """What edges ask of the place between two characters: is it the start, the end, after a line's end, before
        one, after a letter, before one."""
        before = text[place - 1] if place else ""
        after = text[place : place + 1]
        return (not before, not after, before == "\n", after == "\n", _is_word(before), _is_word(after))

    def _step(self, current: frozenset[int], around: tuple[bool, ...], kind: int) -> tuple[frozenset[int], bool, int]:
        """Where one character leads from these positions, whether one of them is the end, and how many were looked
        at. A match may begin at each character, so the start is always among the positions."""
        # One character of its kind. Before the first bound there is none that the pattern tells from others.
        code = self._bounds[kind - 1] if kind > 0 else _LAST + 1
        open_ = list(current)
        seen = set(current)
        following = {self._start}
        is_found = False
        while open_:
            position = self._positions[open_.pop()]
            if position is _END:
                is_found = True
                continue
            what, then = position
            if isinstance(what, Chars):
                if what.has(code):
                    following.add(then)
                continue
            ways = (what, then) if isinstance(what, int) else (then,) if _passes(what, around) else ()
            for way in ways:
                if way not in seen:
                    seen.add(way)
                    open_.append(way)
        return frozenset(following), is_found, len(seen)

    def _put(self, part: Part, then: int) -> int:
        """Put a part before a position, and answer where it begins."""
        self._parts += 1
        if self._parts > 4 * MAX_POSITIONS:
            raise BadPattern("its repetitions make it too large")
        if isinstance(part, Chars):
            return self._add((part, then))
        if isinstance(part, Edge):
            return self._add((part.kind, then))
        if isinstance(part, Sequence):
            for each in reversed(part.parts):
                then = self._put(each, then)
            return self._add((then, then)) if not part.parts else then
        if isinstance(part, Choice):
            begins = [self._put(way, then) for way in part.ways]
            first = begins.pop()
            while begins:
                first = self._add((begins.pop(), first))
            return first
        return self._put_repeat(part, then)

    def _put_repeat(self, part: Repeat, then: int) -> int:
        if part.most is None:
            loop = self._add(_END)  # its place is needed before what it leads to is known
            self._positions[loop] = (self._put(part.part, loop), then)
            then = loop
        else:
            after = then
            for _ in range(part.most - part.least):
                then = self._add((self._put(part.part, then), after))
        for _ in range(part.least):
            then = self._put(part.part, then)
        return then

    def _add(self, position: _Position) -> int:
        if len(self._positions) > MAX_POSITIONS:
            raise BadPattern("its repetitions make it too large")
        self._positions.append(position)
        return len(self._positions) - 1


def _is_word(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")


def _passes(edge: str, around: tuple[bool, ...]) -> bool:
    is_start, is_end, after_line, before_line, after_word, before_word = around
    if edge == "start":
        return is_start
    if edge == "end":
        return is_end
    if edge == "line start":
        return is_start or after_line
    if edge == "line end":
        return is_end or before_line
    return (after_word != before_word) is (edge == "word")
