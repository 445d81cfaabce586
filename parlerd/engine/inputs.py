"""What a caller may hand in to be stored: text and data within bounds, and the digest of a request.

Not here: what a room allows (`core.room`), how much one agent may write (`quota`). Above: the handlers that store what
a caller wrote. Invariant: what passes can be written down and taken apart again by every surface.
"""

from __future__ import annotations

import hashlib
import math
from itertools import chain
from typing import Any, Final

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.model import MAX_TEXT
from parlerd.operations import types as t

MAX_DEPTH: Final = 64
"""Levels of `data`. Decoders stop at a depth that depends on who calls them; this is far below all of them."""
_JSON: Final = frozenset({dict, list, tuple, str, int, float, bool, type(None)})


def input_digest(params: t.Params) -> bytes:
    """The digest of a request's decoded parameters, its idempotency key left out.

    Raises `Refused(invalid_param)` for text that is no UTF-8.
    """
    fields = {
        name: value
        for name in params.__struct_fields__
        if name != "idempotency_key" and (value := getattr(params, name)) is not None
    }
    try:
        return hashlib.sha256(msgspec.msgpack.encode(fields, order="sorted")).digest()
    except UnicodeEncodeError as error:
        raise Refused("invalid_param", "A parameter is not valid text.") from error


def check_text(text: str, param: str) -> int:
    """The size of a text in bytes. Raises `Refused(text_too_long)` for more than 256 KiB: never a cut."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT:
        raise Refused(
            "text_too_long", f"`{param}` has {size} bytes; a message holds {MAX_TEXT}.", param=param, limit=MAX_TEXT
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused("invalid_param", f"`{param}` is not valid text.", param=param) from error
    return size


def check_data(data: Any) -> int:
    """The size of `data` in bytes. Raises `Refused`: `invalid_param` for anything but JSON of at most 64 levels,
    `text_too_long` past 256 KiB.

    Every reader of the room must be able to take it apart again: what one surface cannot show would stop a reader there
    for good. The loop waits meanwhile, so the size is looked at first, and then whole levels at a time.
    """
    try:
        size = len(msgspec.msgpack.encode(data))
    except UnicodeEncodeError as error:
        raise Refused("invalid_param", "`data` holds text that is not valid.", param="data") from error
    except (TypeError, OverflowError, RecursionError, ValueError) as error:
        raise _no_json() from error
    if size > MAX_TEXT:
        raise Refused("text_too_long", f"`data` is larger than {MAX_TEXT} bytes.", param="data", limit=MAX_TEXT)
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        kinds = set(map(type, level))
        if not kinds <= _JSON:
            raise _no_json()
        if float in kinds and not all(map(math.isfinite, [value for value in level if type(value) is float])):
            raise _no_json()
        maps = level if kinds == {dict} else [value for value in level if type(value) is dict] if dict in kinds else []
        if not set(map(type, chain.from_iterable(maps))) <= {str}:
            raise _no_json()
        nested = kinds & {list, tuple}
        lists = level if kinds == nested else [value for value in level if type(value) in nested] if nested else []
        level = list(chain(chain.from_iterable(map(dict.values, maps)), chain.from_iterable(lists)))
        if not level:
            return size
    raise _no_json()


def _no_json() -> Refused:
    return Refused("invalid_param", f"`data` is not JSON of at most {MAX_DEPTH} levels.", param="data")
