"""Files and code for the agent of a window, which has no shell of Parler's: shared from its workspace, and taken there.

Only the door of a window reaches these, because the daemon reads and writes in that window's workspace. A command does
the same in its own shell, with the operations of `files`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from parlerd.core.model import PeerText
from parlerd.operations import samples
from parlerd.operations.entry import (
    AWAY,
    IDEMPOTENT,
    IN_ROOM,
    SENDS_AWAY,
    Argument,
    Family,
    IdempotencyKey,
    Offer,
    Operation,
    Params,
    Result,
    Short,
    ToolEntry,
)
from parlerd.operations.shared import Author, BlobInfo, SharedFile

_Path = Annotated[str, Meta(min_length=1, max_length=4096)]


class SendFile(Params, frozen=True, kw_only=True):
    """`path` is below the workspace of the window; `note` is what is said of the file."""

    path: _Path
    note: str = ""
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class PushCode(Params, frozen=True, kw_only=True):
    """Without a `ref`, HEAD; with `worktree`, uncommitted changes go along. `base` is what the others have, and `note`
    what is said of the commits."""

    ref: Short | None = None
    base: Short | None = None
    worktree: bool = False
    note: str = ""
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class LeftOutPath(Result, frozen=True, kw_only=True):
    """What is not in a bundle, and why not."""

    path: PeerText
    why: Literal["uncommitted", "ignored", "nested", "too_large", "submodule", "lfs", "unreadable"]


class SharedCode(SharedFile, frozen=True, kw_only=True):
    """`more` counts what was left out beyond the list."""

    ref: PeerText
    tip: str
    base: str | None
    left_out: list[LeftOutPath]
    more: int = 0


class FetchFile(Params, frozen=True, kw_only=True):
    """`blob` is the id of a file, or the number of the message that brings it; `path` is below the workspace."""

    blob: Short
    path: _Path | None = None
    room: Short | None = None


class FetchedFile(Result, frozen=True, kw_only=True):
    """`path` is where the file is, in the workspace."""

    path: str
    brings: BlobInfo
    author: Author


class ApplyCode(Params, frozen=True, kw_only=True):
    blob: Short
    room: Short | None = None


class AppliedCode(Result, frozen=True, kw_only=True):
    """`new` is false where the ref held this commit before."""

    ref: str
    tip: str
    new: bool
    brings: BlobInfo
    author: Author


_BLOB: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_TIP: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_SHARED: Final = {
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
}
_AUTHOR: Final = {"id": "U", "name": samples.BOB, "role": "member", "host": ""}
_SHARING: Final = (
    *IN_ROOM,
    *SENDS_AWAY,
    "agent_disabled",
    *IDEMPOTENT,
    "invalid_param",
    "text_too_long",
    "room_closed",
    "throttled",
    "blob_too_large",
    "too_many_blobs",
    "upload_unfinished",
    "blob_mismatch",
)
_GIT: Final = ("no_repository", "shallow_repository", "git_failed")
_TAKING: Final = (*IN_ROOM, *AWAY, "draining", "no_such_blob", "no_such_message", "blob_mismatch")

FAMILY: Final = Family(
    operations=(
        Operation(
            name="share.send",
            summary="Share a file of your workspace.",
            params=SendFile,
            result=SharedFile,
            plane="window",
            effect="write",
            needs_idempotency_key=True,
            errors=(*_SHARING, "draining", "file_refused"),
            facts=("message_posted",),
            example={"path": "docs/report.md"},
            answers=({**_SHARED, "secrets": [{"path": "report.md", "kind": "AWS key"}]},),
            tool=Offer(tool="parler_share", verb="send"),
        ),
        Operation(
            name="share.push",
            summary="Share commits of your workspace.",
            params=PushCode,
            result=SharedCode,
            plane="window",
            effect="write",
            needs_idempotency_key=True,
            errors=(*_SHARING, *_GIT, "draining", "no_such_ref", "nothing_to_push"),
            facts=("message_posted",),
            example={"ref": "main"},
            answers=(
                {
                    **_SHARED,
                    "ref": "main",
                    "tip": _TIP,
                    "base": None,
                    "secrets": [],
                    "left_out": [{"path": "notes.txt", "why": "uncommitted"}],
                },
            ),
            tool=Offer(
                tool="parler_share",
                verb="push",
                arguments=(
                    Argument(name="ref"),
                    Argument(name="base"),
                    Argument(name="worktree", kind="boolean"),
                ),
            ),
        ),
        Operation(
            name="share.fetch",
            summary="Write a shared file into your workspace.",
            params=FetchFile,
            result=FetchedFile,
            plane="window",
            effect="write",
            errors=(*_TAKING, "file_refused", "target_exists"),
            example={"blob": "12", "path": "docs/report.md"},
            answers=(
                {
                    "path": "docs/report.md",
                    "brings": {"blob": _BLOB, "size": 4, "name": "report.md"},
                    "author": _AUTHOR,
                },
            ),
            tool=Offer(tool="parler_share", verb="fetch"),
        ),
        Operation(
            name="share.apply",
            summary="Take shared commits into your repository, as a ref.",
            params=ApplyCode,
            result=AppliedCode,
            plane="window",
            effect="write",
            errors=(*_TAKING, *_GIT, "bundle_refused", "missing_base", "target_exists"),
            example={"blob": "12"},
            answers=(
                {
                    "ref": "refs/parler/9f86d081884c7d65",
                    "tip": _TIP,
                    "new": True,
                    "brings": {"blob": _BLOB, "size": 4, "name": "main", "tip": _TIP},
                    "author": _AUTHOR,
                },
            ),
            tool=Offer(tool="parler_share", verb="apply"),
        ),
    ),
    tools=(
        ToolEntry(
            name="parler_share",
            title="Files",
            does="push, send a file, fetch or apply #blob.",
            arguments=(
                Argument(name="path"),
                Argument(name="note"),
                Argument(name="blob", is_number=True),
                Argument(name="room"),
            ),
            default="fetch",
            example={"blob": "12"},
            is_core=False,
        ),
    ),
)
