"""Files and code: the bytes of one go to the room's home, and a message brings them to the others.

A client opens the file, and hands it over; the daemon reads or writes it. No byte of a file is in a call.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from parlerd.core.model import PeerText
from parlerd.operations import samples
from parlerd.operations.entry import (
    AWAY,
    IDEMPOTENT,
    IN_ROOM,
    SENDS_AWAY,
    Agents,
    Family,
    IdempotencyKey,
    Operation,
    Params,
    Result,
    Route,
    Short,
)
from parlerd.operations.shared import Author, BlobAt, BlobInfo, SharedBlob

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""The SHA-256 of the whole file, in hex."""
_Commit = Annotated[str, Meta(pattern=r"^(?:[0-9a-f]{40}|[0-9a-f]{64})?\Z")]
"""The id of a commit, or nothing."""
Size = Annotated[int, Meta(ge=0, lt=2**53)]
_Handed = Annotated[int, Meta(ge=0, lt=2**31)]
"""Which of the files that the caller handed over on its connection: the first is 0."""


class PutBlob(Params, frozen=True, kw_only=True):
    """`file` is open for reading. It is closed here once it is there whole, and where something is refused."""

    file: _Handed
    room: Short | None = None


class BlobPut(Result, frozen=True, kw_only=True):
    """So many bytes are at the room's home. `blob` is the file's id once all of them are, and empty before."""

    room: str
    offset: int
    size: int
    blob: str


class ShareBlob(Params, frozen=True, kw_only=True):
    """`blob` was uploaded by the caller, or is brought by a message that the caller may see in a room of the same home.
    With a `tip` it is a bundle of commits, which `base` says on what it stands."""

    blob: Digest
    size: Size
    name: Short = ""
    tip: _Commit = ""
    base: _Commit = ""
    left_out: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    text: str = ""
    room: Short | None = None
    to: Agents = ()
    visible_to: Agents = ()
    reply_to: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class FindBlob(Params, frozen=True, kw_only=True):
    """`blob` is the id of a file, or the number or the id of the message that brings it. Without a room every room of
    the caller is looked at, and a number is one of the active session."""

    blob: Short
    room: Short | None = None


class FoundBlob(Result, frozen=True, kw_only=True):
    """What a message brings, and which message that is."""

    brings: BlobInfo
    room: str
    name: str
    id: str
    seq: int
    at: int
    author: Author
    note: PeerText


class GetBlob(Params, frozen=True, kw_only=True):
    """`file` is open for reading and for writing, and empty, or holds the beginning of what is fetched. `size` is what
    the message says. It is closed here once it is whole, and where something is refused."""

    file: _Handed
    room: Short
    blob: Digest
    size: Size


_BLOB: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

FAMILY: Final = Family(
    operations=(
        Operation(
            name="blob.put",
            summary="Bring the next piece of a file that was handed over to a room's home.",
            params=PutBlob,
            result=BlobPut,
            plane="agent",
            http=Route("PUT /rooms/{room}/blobs", "files"),
            effect="write",
            errors=(
                *IN_ROOM,
                *AWAY,
                "invalid_param",
                "file_refused",
                "room_closed",
                "blob_too_large",
                "too_many_blobs",
                "throttled",
                "upload_unfinished",
                "blob_mismatch",
            ),
            example={"file": 0},
            answers=({"room": samples.ROOM, "offset": 4, "size": 4, "blob": _BLOB},),
        ),
        Operation(
            name="blob.share",
            summary="Post a message that brings a file or code.",
            params=ShareBlob,
            result=SharedBlob,
            plane="agent",
            http=Route("POST /rooms/{room}/files", "files"),
            effect="write",
            needs_idempotency_key=True,
            errors=(
                *IN_ROOM,
                *SENDS_AWAY,
                "agent_disabled",
                *IDEMPOTENT,
                "invalid_param",
                "text_too_long",
                "no_such_agent",
                "no_such_message",
                "too_many_audiences",
                "room_closed",
                "throttled",
                "upload_unfinished",
            ),
            facts=("message_posted",),
            example={"blob": _BLOB, "size": 4, "name": "report.txt"},
            answers=(
                {
                    "blob": _BLOB,
                    "size": 4,
                    "sha256": _BLOB,
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "id": "m_9",
                    "seq": 9,
                    "at": samples.AT,
                    "replayed": False,
                    "key": "k",
                },
            ),
        ),
        Operation(
            name="blob.find",
            summary="Say what a file is, and which message brings it.",
            params=FindBlob,
            result=FoundBlob,
            plane="agent",
            http=Route("GET /rooms/{room}/files/{blob}", "files"),
            effect="read",
            errors=(*IN_ROOM, "no_such_blob", "no_such_message"),
            example={"blob": _BLOB},
            answers=(
                {
                    "brings": {"blob": _BLOB, "size": 4, "name": "report.txt"},
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "id": "m_9",
                    "seq": 9,
                    "at": samples.AT,
                    "author": {"id": "U", "name": samples.BOB, "role": "member", "host": ""},
                    "note": "the report",
                },
            ),
        ),
        Operation(
            name="blob.get",
            summary="Fetch the next piece of a file that a message brings, into a file that was handed over.",
            params=GetBlob,
            result=BlobAt,
            plane="agent",
            http=Route("GET /rooms/{room}/blobs/{blob}", "files"),
            effect="read",
            errors=(*IN_ROOM, *AWAY, "invalid_param", "file_refused", "no_such_blob", "blob_mismatch"),
            example={"file": 0, "room": samples.ROOM, "blob": _BLOB, "size": 4},
            answers=({"room": samples.ROOM, "offset": 4},),
        ),
    ),
)
