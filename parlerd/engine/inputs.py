"""The digest of what a caller asked for, by which a request with a used idempotency key is told from a repetition.

Not here: what may be said (`core.words`). Above: the handlers that write. Invariant: two requests with the same
parameters have the same digest, whatever their key.
"""

from __future__ import annotations

import hashlib

import msgspec

from parlerd.core.errors import Refused
from parlerd.operations import types as t


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
