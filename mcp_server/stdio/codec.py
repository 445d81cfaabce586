"""JSON and msgpack in a few lines: what the pipe and the hook read and write.

JSON is read by the C scanner of the `json` package, without that package: importing it would take longer than all the
other imports of a shim. Of msgpack, everything that the daemon may send is read, and what a hello, a note and a call
need is written.

Not here: what the messages mean (`pipe`, `hook`), the daemon's own codec (`parlerd.wire.codec`). Invariant: for what is
no JSON, and for what is no msgpack, the caller gets the errors that the functions name and no other.
"""

import _json

MYPY = False
if MYPY:
    from typing import Any
else:
    Any = object

MAX_DEPTH = 128
"""Levels of one message: twice what the daemon takes of `data`, and far below where any reader of JSON gives up."""


class NotJson(Exception):
    """A line that is no JSON."""


# -- JSON ------------------------------------------------------------------------------------------------------


def _no_constant(name):  # type: ignore[no-untyped-def]
    raise ValueError(name)


class _Context:
    """What the `json` package would hand to the scanner. `make_scanner` is a private name of that package; the tests
    of this module pass with the Pythons 3.11 to 3.13."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)


_scan = _json.make_scanner(_Context())  # type: ignore[arg-type]  # any object with these attributes will do
quote = _json.encode_basestring_ascii
"""The JSON of a string."""


def loads(line: bytes) -> Any:
    """The value of a line. Raises `NotJson`."""
    try:
        text = line.decode("utf-8").strip(" \t\r\n")
        value, end = _scan(text, 0)
    except (ValueError, StopIteration, RecursionError, SystemError):
        # SystemError: the scanner wants to raise an exception of the `json` package, which nobody imported here.
        raise NotJson from None
    if end != len(text):
        raise NotJson
    return value


def dumps(value: Any) -> str:
    """The JSON of what `loads` gave, of at most `MAX_DEPTH` levels."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        return "{" + ",".join([quote(name) + ":" + dumps(item) for name, item in value.items()]) + "}"
    if isinstance(value, list):
        return "[" + ",".join([dumps(item) for item in value]) + "]"
    return repr(value)


def is_too_deep(line: bytes, value: Any) -> bool:
    """Whether a line that says `value` has more than `MAX_DEPTH` levels."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        if not inner:
            return False
        level = inner
    return True


# -- msgpack ---------------------------------------------------------------------------------------------------


def pack(value: Any) -> bytes:
    """A value as msgpack, as far as a hello and a note need it."""
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return bytes((value,)) if value < 128 else b"\xce" + value.to_bytes(4, "big")
    if isinstance(value, str):
        data = value.encode("utf-8", "replace")
        size = len(data)
        head = bytes((0xA0 | size,)) if size < 32 else b"\xdb" + size.to_bytes(4, "big")
        return head + data
    if isinstance(value, bytes):
        return b"\xc6" + len(value).to_bytes(4, "big") + value
    if isinstance(value, list):
        return b"\xdc" + len(value).to_bytes(2, "big") + b"".join([pack(item) for item in value])
    size = len(value)
    head = bytes((0x80 | size,)) if size < 16 else b"\xde" + size.to_bytes(2, "big")
    return head + b"".join([pack(name) + pack(item) for name, item in value.items()])


def unpack(data: bytes, at: int = 0, depth: int = 0) -> tuple[Any, int]:
    """(value, end) of msgpack at `at`. Raises IndexError or ValueError for what is none."""
    if depth > 16:
        raise ValueError("too deep")
    head = data[at]
    at += 1
    if head < 0x80:
        return head, at
    if head < 0x90:
        return _unpack_map(data, at, head & 0x0F, depth)
    if head < 0xA0:
        return _unpack_list(data, at, head & 0x0F, depth)
    if head < 0xC0:
        return _unpack_text(data, at, head & 0x1F)
    if head >= 0xE0:
        return head - 256, at
    if head in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[head], at
    width = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}.get(head)
    if width is None:
        width = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}[head]
        return int.from_bytes(data[at : at + width], "big", signed=head >= 0xD0), at + width
    size = int.from_bytes(data[at : at + width], "big")
    at += width
    if head in (0xDE, 0xDF):
        return _unpack_map(data, at, size, depth)
    if head in (0xDC, 0xDD):
        return _unpack_list(data, at, size, depth)
    if head in (0xC4, 0xC5, 0xC6):
        if at + size > len(data):
            raise ValueError("cut short")
        return data[at : at + size], at + size
    return _unpack_text(data, at, size)


def _unpack_map(data: bytes, at: int, size: int, depth: int) -> tuple[Any, int]:
    value = {}
    for _ in range(size):
        name, at = unpack(data, at, depth + 1)
        item, at = unpack(data, at, depth + 1)
        if isinstance(name, str):
            value[name] = item
    return value, at


def _unpack_list(data: bytes, at: int, size: int, depth: int) -> tuple[Any, int]:
    value = []
    for _ in range(size):
        item, at = unpack(data, at, depth + 1)
        value.append(item)
    return value, at


def _unpack_text(data: bytes, at: int, size: int) -> tuple[Any, int]:
    if at + size > len(data):
        raise ValueError("cut short")
    return data[at : at + size].decode("utf-8", "replace"), at + size


def frame(payload: bytes) -> bytes:
    """A payload with its length in front."""
    return len(payload).to_bytes(4, "big") + payload
