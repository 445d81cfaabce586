"""The messages of the socket protocol, as typed msgpack maps. Source: docs/protocol.md.

A connection begins with one `Hello`, answered by `Welcome` or `Goodbye`. After it a `client` connection carries calls,
cancels, replies, failures and stream items; a `stdio` connection carries only msgpack `bin` frames, each one line of
the host's JSON-RPC in one direction or the other, except the shim's `Note` frames.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.errors import ErrorBody

PROTOCOL: Final = 2
"""The version in the hello of a client that makes calls. The daemon serves this one and says so. An older client gets
`unsupported_version`; a newer one may stop the daemon and nothing else, so `Hello`, `Welcome`, `Goodbye` and the call,
reply and failure of `daemon.stop` keep their shape in every version to come."""
HOST_PROTOCOL: Final = 1
"""The version in the hello of what an agent host starts: the shim of a window, and a hook. A window outlives an upgrade
of Parler, and its shim stays the one that it was opened with. Therefore these two have a version of their own, which
does not rise when only the operations of clients change: a shim carries lines and calls no operation, and a hook calls
`wake.check` alone."""

CallId = Annotated[int, Meta(ge=0)]
"""Chosen by the caller, unique among the calls under way on its connection; at most 2^64 - 1."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="hello", omit_defaults=True):
    """Who connects. The whole frame is at most 64 KiB.

    `window` is random per shim and sent again on reconnect. From the environment come only `as_name`, `session_key`,
    `project_dir` and `conversations`: those variables in which hosts name what goes on in a window, by their names. A
    `hook` runs once beside a window; it names the processes it descends from, and with `conversation` what its event
    says.
    """

    protocol: int
    version: str
    role: Literal["client", "stdio"]
    host: str = ""
    window: str = ""
    cwd: str = ""
    pid: int = 0
    ppid: int = 0
    as_name: str = ""
    session_key: str = ""
    project_dir: str = ""
    conversation: str = ""
    conversations: Annotated[dict[str, str], Meta(max_length=16)] = {}
    hook: bool = False
    ancestors: tuple[int, ...] = ()
    reconnect: bool = False
    unanswered: tuple[bytes, ...] = ()
    """Request lines whose reply was lost and that were not repeated with success; newest last, as many as fit."""


def spoken_by(hello: Hello) -> int:
    """The protocol version that the daemon serves to whoever says this hello."""
    return HOST_PROTOCOL if hello.role == "stdio" or hello.hook else PROTOCOL


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="welcome", omit_defaults=True):
    """The hello is accepted. `version` and `pid` are the daemon's; a newer client uses them to replace it."""

    protocol: int
    version: str
    pid: int


class Goodbye(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="goodbye"):
    """The connection ends, and why. Sent once, last."""

    error: ErrorBody


class Call(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="call", omit_defaults=True):
    """Run an operation. `id` is the caller's, unique among those under way on this connection."""

    id: CallId
    op: str
    params: msgspec.Raw = msgspec.Raw(b"\x80")


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="cancel"):
    """Stop a call or a stream. It is still answered once: with `cancelled`, or with what crossed this."""

    id: CallId


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="reply"):
    """The result; for a stream, its orderly end."""

    id: CallId
    result: msgspec.Raw = msgspec.Raw(b"\x80")


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="failure"):
    """The call did not work, or the stream ended before its time, and why."""

    id: CallId
    error: ErrorBody


class Item(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="item"):
    """One element of a stream. The daemon sends as many as it has credit for: 64 at first, then what `Credit` adds."""

    id: CallId
    item: msgspec.Raw


class Credit(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="credit"):
    """The caller can take `more` further items of a stream."""

    id: CallId
    more: Annotated[int, Meta(ge=1, le=65_536)]


class Note(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="note", omit_defaults=True):
    """From the shim on a stdio connection. `eof`: the host closed stdin in order.

    `written` says that every reply the shim received reached the host's stdout and no request is unanswered: only then
    is the last page acknowledged.
    """

    what: Literal["eof"]
    written: bool = True
