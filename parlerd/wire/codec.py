"""Typed msgpack: a payload becomes a frozen message, or one documented error.

Not here: which message may come when (`peer`). Above: `peer`, and both ends of the socket for parameters and results.
Below: `messages`. Invariant: for any bytes, `Shape.decode` gives a value of its type or raises `ParlerError` with the
code of the shape, and nothing else.
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
"""A message, parameters or a result as msgpack. Raises TypeError, OverflowError or RecursionError for a value that
msgpack cannot carry; only fields of the type `Any` can hold such a value."""


def uncollected(decode: Callable[[Any], T], payload: bytes | msgspec.Raw) -> T:
    """What `decode` makes of `payload`, with the garbage collector off. While decoding makes many small values, the
    collector would look through all of them again and again, which takes far longer than the decoding; and none of them
    can be garbage yet."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return decode(payload)
    finally:
        if was_enabled:
            gc.enable()


class Shape(Generic[T]):
    """What a payload must look like. `code` is the code of the error for any other payload: `invalid_param` for
    parameters.

    The decoder is made when the first payload comes, because a command meets only two of the shapes below.
    """

    __slots__ = ("_code", "_decoder", "_type")
    _decoder: msgspec.msgpack.Decoder[T]

    def __init__(self, type: Any, code: str = "bad_frame") -> None:
        self._type = type
        self._code = code

    def __getattr__(self, name: str) -> Any:
        # Python calls this only while the slot is empty, so every message after the first pays nothing for it.
        if name != "_decoder":
            raise AttributeError(name)
        self._decoder = msgspec.msgpack.Decoder(self._type)
        return self._decoder

    def decode(self, payload: bytes | msgspec.Raw) -> T:
        """`payload` as a value. Raises `ParlerError`, whose message names the wrong field, for example `$.id`."""
        try:
            return uncollected(self._decoder.decode, payload)
        except RecursionError:
            raise ParlerError(self._code, "The data is nested too deeply.") from None
        # msgspec wraps every error that bytes can cause, except those for text that is not UTF-8 and for deep nesting.
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
