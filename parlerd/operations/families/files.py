"""Files and code: the bytes of one go to the room's home in pieces, and a message brings them to the others."""

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
    Short,
)
from parlerd.operations.shared import Author, BlobAt, BlobInfo, BlobPiece, SharedBlob

MAX_PIECE: Final = 256 * 1024
"""Bytes of one piece: other calls go between two of them."""

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""The SHA-256 of the whole file, in hex."""
_Commit = Annotated[str, Meta(pattern=r"^(?:[0-9a-f]{40}|[0-9a-f]{64})?\Z")]
"""The id of a commit, or nothing."""
Size = Annotated[int, Meta(ge=0, lt=2**53)]
Piece = Annotated[bytes, Meta(max_length=MAX_PIECE)]


class BeginBlob(Params, frozen=True, kw_only=True):
    blob: Digest
    size: Size
    room: Short | None = None


class WriteBlob(Params, frozen=True, kw_only=True):
    room: Short
    blob: Digest
    offset: Size
    data: Piece


class FinishBlob(Params, frozen=True, kw_only=True):
    room: Short
    blob: Digest
    size: Size


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


class ReadBlob(Params, frozen=True, kw_only=True):
    room: Short
    blob: Digest
    offset: Size
    length: Annotated[int, Meta(ge=1, le=MAX_PIECE)]


_BLOB: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_UPLOADING: Final = (*IN_ROOM, *AWAY, "invalid_param", "room_closed", "blob_too_large", "too_many_blobs", "throttled")

FAMILY: Final = Family(
    operations=(
        Operation(
            name="blob.begin",
            summary="Begin to bring a file to a room's home, or go on with it.",
            params=BeginBlob,
            result=BlobAt,
            plane="agent",
            effect="write",
            errors=_UPLOADING,
            example={"blob": _BLOB, "size": 4},
            answers=({"room": samples.ROOM, "offset": 0},),
        ),
        Operation(
            name="blob.write",
            summary="Bring the next piece of a file.",
            params=WriteBlob,
            result=BlobAt,
            plane="agent",
            effect="write",
            errors=(*_UPLOADING, "upload_unfinished"),
            example={"room": samples.ROOM, "blob": _BLOB, "offset": 0, "data": b"test"},
            answers=({"room": samples.ROOM, "offset": 4},),
        ),
        Operation(
            name="blob.finish",
            summary="Say that a file is there whole; the room's home compares its digest.",
            params=FinishBlob,
            result=BlobAt,
            plane="agent",
            effect="write",
            errors=(*_UPLOADING, "upload_unfinished", "blob_mismatch"),
            example={"room": samples.ROOM, "blob": _BLOB, "size": 4},
            answers=({"room": samples.ROOM, "offset": 4},),
        ),
        Operation(
            name="blob.share",
            summary="Post a message that brings a file or code.",
            params=ShareBlob,
            result=SharedBlob,
            plane="agent",
            effect="write",
            needs_idempotency_key=True,
            errors=(
                *IN_ROOM,
                *SENDS_AWAY,
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
            name="blob.read",
            summary="Fetch a piece of a file that a message brings.",
            params=ReadBlob,
            result=BlobPiece,
            plane="agent",
            effect="read",
            errors=(*IN_ROOM, *AWAY, "invalid_param", "no_such_blob"),
            example={"room": samples.ROOM, "blob": _BLOB, "offset": 0, "length": 4},
            answers=({"data": "dGVzdA=="},),
        ),
    ),
)
