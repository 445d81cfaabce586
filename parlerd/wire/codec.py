"""Typed msgpack: a payload in, a frozen message out, and one documented error for everything else.

Not here: which message may come when (`peer`). Invariant: whatever the bytes, `Shape.decode` gives a value of its type
or raises `ParlerError` with its code; nothing else escapes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

from parlerd.core.errors import ParlerError
from parlerd.wire.messages import Call, Cancel, Credit, Failure, Goodbye, Hello, Item, Note, Reply, Welcome

T = TypeVar("T")

_encoder: Final = msgspec.msgpack.Encoder()
encode: Final = _encoder.encode
"""A message, parameters or a result as msgpack. Raises TypeError, OverflowError or RecursionError for what msgpack
cannot carry; only `Any` fields can hold such a thing."""


def uncollected(decode: Callable[[Any], T], payload: bytes | msgspec.Raw) -> T:
    """What `decode` makes of `payload`. The collector would look through many small values again and again while they
    are made, which takes far longer than making them, and none of them can be garbage yet."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return decode(payload)
    finally:
        if was_enabled:
            gc.enable()


class Shape(Generic[T]):
    """What a payload must look like. `code` is the error when it does not: `invalid_param` for parameters.

    The decoder is made when the first payload comes: a command meets two of the shapes below.
    """

    __slots__ = ("_code", "_decoder", "_type")
    _decoder: msgspec.msgpack.Decoder[T]

    def __init__(self, type: Any, code: str = "bad_frame") -> None:
        self._type = type
        self._code = code

    def __getattr__(self, name: str) -> Any:
        # Asked only while the slot is empty, so a decode of every message after the first pays nothing for it.
        if name != "_decoder":
            raise AttributeError(name)
        self._decoder = msgspec.msgpack.Decoder(self._type)
        return self._decoder

    def decode(self, payload: bytes | msgspec.Raw) -> T:
        """`payload` as a value. Raises `ParlerError`; its message names the path that is wrong, e.g. `$.id`."""
        try:
            return uncollected(self._decoder.decode, payload)
        except RecursionError:
            raise ParlerError(self._code, "The data is nested too deeply.") from None
        # UnicodeDecodeError comes from text that is not UTF-8; msgspec wraps everything else that bytes can cause.
        except UnicodeDecodeError:
            raise ParlerError(self._code, "Text is not UTF-8.") from None
        except msgspec.MsgspecError as error:
            raise ParlerError(self._code, str(error)) from None


HELLO: Final = Shape[Hello](Hello)
WELCOME: Final = Shape[Welcome | Goodbye](Welcome | Goodbye)
FROM_CLIENT: Final = Shape[Call | Cancel | Credit](Call | Cancel | Credit)
FROM_DAEMON: Final = Shape[Reply | Failure | Item | Goodbye](Reply | Failure | Item | Goodbye)
FROM_SHIM: Final = Shape[bytes | Note](bytes | Note)
TO_SHIM: Final = Shape[bytes | Goodbye](bytes | Goodbye)
