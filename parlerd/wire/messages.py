"""The messages of the socket protocol, as typed msgpack maps. Source: docs/protocol.md.

A connection begins with one `Hello`, answered by `Welcome` or `Goodbye`. After the welcome a `client` connection
carries calls, cancels, replies, failures and stream items. A `stdio` connection carries msgpack `bin` frames, each with
one line of the host's JSON-RPC, and the shim's `Note`. Not here: the order of messages (`peer`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.errors import ErrorBody

PROTOCOL: Final = 2
"""The version in the hello of a client that makes calls. The daemon serves this version and names it in its welcome. An
older client gets `unsupported_version`. A newer client may stop the daemon and nothing else, so `Hello`, `Welcome`,
`Goodbye` and the call, reply and failure of `daemon.stop` keep their shape in every version to come."""
HOST_PROTOCOL: Final = 1
"""The version in the hello of a program that an agent host starts: the shim of a window, or a hook. A window outlives
an upgrade of Parler, and keeps the shim with which it was opened. Therefore these two programs have a version of their
own, which does not rise when only the operations of clients change: a shim carries lines and calls no operation, and a
hook calls only `wake.check`."""

CallId = Annotated[int, Meta(ge=0)]
"""The caller chooses the id, unique among the calls under way on its connection; at most 2^64 - 1."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="hello", omit_defaults=True):
    """Who connects, in the words of whoever connects. The whole frame is at most 64 KiB.

    Of the environment a hello holds only `as_name`, `session_key`, `project_dir`, `conversations` and
    `places`.
    """

    protocol: int
    version: str
    """The version of the program that connects."""
    role: Literal["client", "stdio"]
    """`client` makes calls; `stdio` carries the lines of an agent host's window."""
    host: str = ""
    """The agent host, by its id."""
    window: str = ""
    """A random name that a shim draws once and sends again when it connects again."""
    cwd: str = ""
    pid: int = 0
    ppid: int = 0
    as_name: str = ""
    """The agent to act as."""
    session_key: str = ""
    """The key of a session to join."""
    project_dir: str = ""
    """The folder that the person works in, where it is another than `cwd`."""
    conversation: str = ""
    """For a hook: the conversation that its event names."""
    conversations: Annotated[dict[str, str], Meta(max_length=16)] = {}
    """For a shim: the variables in which hosts name the conversation of a window, and their values."""
    places: Annotated[dict[str, str], Meta(max_length=16)] = {}
    """For a shim: the variables by which hosts say where their records are, and their values."""
    hook: bool = False
    """Whether this is a hook, which runs once beside a window."""
    ancestors: tuple[int, ...] = ()
    """For a hook: the processes that it descends from."""
    reconnect: bool = False
    """Whether the shim was connected before, to this daemon or to one before it."""
    unanswered: tuple[bytes, ...] = ()
    """Request lines whose reply was lost and that were not repeated with success: the newest last, as many as fit."""


def spoken_by(hello: Hello) -> int:
    """The protocol version that the daemon serves to whoever says this hello."""
    return HOST_PROTOCOL if hello.role == "stdio" or hello.hook else PROTOCOL


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="welcome", omit_defaults=True):
    """The hello is accepted. `version` and `pid` are the daemon's; a newer client needs them to replace the daemon."""

    protocol: int
    version: str
    pid: int


class Goodbye(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="goodbye"):
    """The connection ends, for this reason. A goodbye is the last frame of a connection."""

    error: ErrorBody


class Call(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="call", omit_defaults=True):
    """Run an operation. `params` is the msgpack of its parameters; `80` is an empty map."""

    id: CallId
    op: str
    params: msgspec.Raw = msgspec.Raw(b"\x80")


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="cancel"):
    """Stop a call or a stream. The call is still answered once: with `cancelled`, or with the answer that was on its
    way already."""

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
    """One element of a stream. The daemon sends as many as it has credit for: 64 at first, and what each `Credit`
    adds."""

    id: CallId
    item: msgspec.Raw


class Credit(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="credit"):
    """The caller can take this many items of a stream beyond those it gave credit for before."""

    id: CallId
    more: Annotated[int, Meta(ge=1, le=65_536)]


class Note(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag="note", omit_defaults=True):
    """What a shim tells on a stdio connection. `eof`: the host closed the shim's stdin in order.

    `written` says that every reply that the shim received reached the host's stdout, and that no request is unanswered.
    Only then is the last page acknowledged.
    """

    what: Literal["eof"]
    written: bool = True
