"""The text of an expression becomes the tree of the CEL library, as plain tuples, or a refusal that says where and why.

The library reads the text without expanding macros and without checking types, so `has` and `exists` are calls like any
other. It hands its tree over as the bytes of a protobuf message (`cel.expr.ParsedExpr`), which are read here by number:
the few messages that there are do not need a library of their own.

Not here: what names and functions mean (`checks`). Above: `checks`. Below: the CEL library, imported nowhere else.
Invariant: every text is either read or refused with `expression_invalid`; no other exception escapes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from parlerd.core.expressions import MAX_SOURCE, invalid

if TYPE_CHECKING:
    from cel_expr_python import cel


class Constant(NamedTuple):
    """A value in the text."""

    at: int
    value: bool | int | float | str | None


class Unusable(NamedTuple):
    """Something that CEL has and Parler does not: bytes, unsigned numbers, messages."""

    at: int
    what: str


class Name(NamedTuple):
    """A name that stands alone."""

    at: int
    name: str


class Member(NamedTuple):
    """`of.name`."""

    at: int
    of: Parsed
    name: str


class Called(NamedTuple):
    """A function, an operator or a macro. `target` is what stands before the dot."""

    at: int
    function: str
    target: Parsed | None
    args: list[Parsed]


class Items(NamedTuple):
    """A list."""

    at: int
    items: list[Parsed]


class Entries(NamedTuple):
    """A map."""

    at: int
    entries: list[tuple[Parsed, Parsed]]


Parsed: TypeAlias = Constant | Unusable | Name | Member | Called | Items | Entries


def read(source: str) -> Parsed:
    """The tree of a text. Raises `expression_invalid`."""
    try:
        size = len(source.encode())
    except UnicodeEncodeError as error:
        raise invalid("", "the text is not Unicode", 0) from error
    if size > MAX_SOURCE:
        raise invalid(
            source[:MAX_SOURCE],
            f"it has {size} bytes, and {MAX_SOURCE} are the most: keep a part of it as a view",
            0,
        )
    if not source.strip():
        raise invalid(source, "it is empty", 0)
    try:
        # The type check would refuse what is friendly here, because it knows one type for each operator.
        serialized = _library().compile(source, disable_check=True).serialize()
    except RuntimeError as error:
        raise _refused(source, str(error)) from None
    return _tree(serialized)


@cache
def _library() -> cel.Env:
    # Imported here: it is 14 MB, and most daemons never see an expression.
    from cel_expr_python import cel

    return cel.NewEnv(config=cel.NewEnvConfigFromYaml("stdlib: {disable_macros: true}\n"))


# -- what the library says is wrong ----------------------------------------------------------------------------

_ERROR: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_TOKEN: Final = re.compile(
    r"(?:mismatched input|extraneous input|no viable alternative at input) '(.*?)'(?: expecting|$)"
)
_WORDS: Final = {"and": "&&", "or": "||", "not": "!", "is": "==", "AND": "&&", "OR": "||", "NOT": "!"}
_NESTED: Final = "it is nested deeper than 32 levels: keep a part of it as a view"
_CUT: Final = 40
"""Characters of a token that an error repeats."""


def _refused(source: str, said: str) -> Exception:
    """The refusal of what the library could not read. Its first complaint is the one that helps."""
    found = _ERROR.search(said)
    if found is None or "recursion" in said:
        # A chain of + is as deep as it is long. One of && is not, because the library balances it.
        return invalid(source, _NESTED, 0)
    at = _offset(source, int(found[1]), int(found[2]))
    return invalid(source, _reason(source, at, found[3]), at)


def _offset(source: str, line: int, column: int) -> int:
    """The place of a line and a column, of which the library counts both from 1."""
    start = 0
    for _ in range(line - 1):
        start = source.find("\n", start) + 1
    return min(max(start + column - 1, 0), len(source))


def _reason(source: str, at: int, said: str) -> str:
    """What is wrong and, where that is known, what to do: the library's parser speaks in the words of its grammar."""
    here = source[at : at + 1]
    if here == "=":
        return "one = stands alone: two compare, =="
    if here in ("&", "|"):
        return f"one {here} stands alone: write {here}{here}"
    word = re.match(r"\w*", source[at:], re.ASCII)
    found = word[0] if word else ""
    if found in _WORDS:
        return f"`{found}` is no operator: write {_WORDS[found]}"
    if said.startswith("reserved identifier"):
        if found == "if":
            return "`if` is a reserved word: choose with CONDITION ? THIS : THAT"
        return f'`{found}` is a reserved word: write such a name as a key, state._shared["{found}"]'
    if "int literal" in said:
        return "the whole number does not fit in 64 bits"
    if "literal" in said:
        return "the text in quotes has an escape that there is not: write a backslash twice, or r before the quotes"
    if "token recognition error" in said:
        if here in ("'", '"'):
            return "the text in quotes does not end, or has an escape that there is not"
        return f'the character {here!r} has no meaning here: write other names as a key, state["agent-a"]'
    token = _TOKEN.search(said)
    if "<EOF>" in said and (token is None or token[1] == "<EOF>"):
        return "it ends too early"
    shown = token[1][:_CUT] if token else here
    return f"{shown} is not expected here" if shown else "something is missing here"


# -- the library's tree ----------------------------------------------------------------------------------------

# The numbers of fields. Source: cel/expr/syntax.proto and google/protobuf/any.proto of the CEL specification.
_Field: TypeAlias = "int | bytes"


def _fields(data: bytes) -> Iterator[tuple[int, _Field]]:
    """The fields of a protobuf message, in their order."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        if tag & 7 == 0:
            value, position = _varint(data, position)
            yield tag >> 3, value
        elif tag & 7 == 1:
            yield tag >> 3, data[position : position + 8]
            position += 8
        else:
            assert tag & 7 == 2, "the messages of a parsed expression have no other kind of field"
            size, position = _varint(data, position)
            yield tag >> 3, data[position : position + size]
            position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _message(data: bytes) -> dict[int, list[_Field]]:
    found: dict[int, list[_Field]] = {}
    for number, value in _fields(data):
        found.setdefault(number, []).append(value)
    return found


def _number(message: dict[int, list[_Field]], field: int) -> int:
    value = message[field][0] if field in message else 0
    assert isinstance(value, int)
    return value


def _bytes(message: dict[int, list[_Field]], field: int) -> bytes:
    value = message[field][0] if field in message else b""
    assert isinstance(value, bytes)
    return value


def _text(message: dict[int, list[_Field]], field: int) -> str:
    return _bytes(message, field).decode()


def _messages(message: dict[int, list[_Field]], field: int) -> list[bytes]:
    return [value for value in message.get(field, []) if isinstance(value, bytes)]


def _tree(serialized: bytes) -> Parsed:
    parsed = _message(_bytes(_message(serialized), 2))  # Any.value: ParsedExpr
    places: dict[int, int] = {}
    for each in _messages(_message(_bytes(parsed, 3)), 4):  # SourceInfo.positions
        entry = _message(each)
        places[_number(entry, 1)] = _number(entry, 2)
    return _Reader(places).node(_bytes(parsed, 2))


class _Reader:
    """Reads `Expr` messages, whose places stand in a table beside them."""

    def __init__(self, places: dict[int, int]) -> None:
        self._places = places

    def node(self, data: bytes) -> Parsed:
        """One node, with all below it."""
        message = _message(data)
        at = self._places.get(_number(message, 2), 0)
        if 3 in message:
            return self._constant(at, _bytes(message, 3))
        if 4 in message:
            return Name(at, _text(_message(_bytes(message, 4)), 1))
        if 5 in message:
            select = _message(_bytes(message, 5))
            return Member(at, self.node(_bytes(select, 1)), _text(select, 2))
        if 6 in message:
            call = _message(_bytes(message, 6))
            target = self.node(_bytes(call, 1)) if 1 in call else None
            return Called(at, _text(call, 2), target, [self.node(each) for each in _messages(call, 3)])
        if 7 in message:
            return Items(at, [self.node(each) for each in _messages(_message(_bytes(message, 7)), 1)])
        assert 8 in message, "without macros there is no other kind of node"
        struct_ = _message(_bytes(message, 8))
        if _text(struct_, 1):
            return Unusable(at, "a message")
        entries = [_message(each) for each in _messages(struct_, 2)]
        return Entries(at, [(self.node(_bytes(entry, 3)), self.node(_bytes(entry, 4))) for entry in entries])

    def _constant(self, at: int, data: bytes) -> Parsed:
        ((kind, value),) = _fields(data)
        if kind == 1:
            return Constant(at, None)
        if kind == 2:
            return Constant(at, value != 0)
        if kind == 3:
            assert isinstance(value, int)
            return Constant(at, value - (1 << 64) if value >= 1 << 63 else value)
        if kind == 5:
            assert isinstance(value, bytes)
            (double,) = struct.unpack("<d", value)
            return Constant(at, double)
        if kind == 6:
            assert isinstance(value, bytes)
            return Constant(at, value.decode())
        return Unusable(at, "an unsigned number" if kind == 4 else "a text of bytes")
