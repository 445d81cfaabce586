"""What stored headers say, of any version, to those who need a little of each and would not know the whole of some.

Above: the stores. Below: nothing of ours but names. Each function raises `msgspec.DecodeError` for what is no header.
"""

from __future__ import annotations

from typing import Final

import msgspec

from parlerd.core.model import PrincipalId


class _Event(msgspec.Struct):
    event: msgspec.Raw


class _Enveloped(msgspec.Struct):
    envelope: bytes = b""


class _Said(msgspec.Struct):
    event: _Enveloped


class _By(msgspec.Struct, array_like=True):
    """The beginning of a `By`."""

    actor: str
    principal: PrincipalId


class _Acted(msgspec.Struct):
    by: _By


_EVENT: Final = msgspec.msgpack.Decoder(_Event)
_ENVELOPE: Final = msgspec.msgpack.Decoder(_Said)
_ACTED: Final = msgspec.msgpack.Decoder(_Acted)


def event_in(header: bytes) -> bytes:
    """The fact's own part of a header, as it is stored."""
    return bytes(_EVENT.decode(header).event)


def envelope_in(header: bytes) -> bytes:
    """The hash of a message's envelope; empty for another fact."""
    return _ENVELOPE.decode(header).event.envelope


def principal_in(header: bytes) -> PrincipalId:
    """The person whose agent acted."""
    return _ACTED.decode(header).by.principal
