"""Sharing and fetching for the agent of a window: the daemon reads and writes in the window's own workspace.

    push:  the work tree --> git, in a thread --> a bundle --> the shelf --> a message
    send:  a file of the workspace --> the shelf --> a message
    fetch: a message --> the shelf --> a new file of the workspace
    apply: a message --> the shelf --> git, in a thread --> one ref of the repository

A command does the same in its person's shell (`parlerd.cli.files`). Here the daemon does it, so there are bounds that a
shell has not: only files below the workspace (`workspace_files`), only the repository that the workspace is of.

Not here: messages and who may have a file (`files`). Above: the engine's face, for windows alone. Below: `files`,
`parlerd.git`. Invariant: nothing outside of the workspace is read or written.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import msgspec

from parlerd.core import searching
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import BlobId, PeerText
from parlerd.core.searching import Search, Searched
from parlerd.engine.callers import Caller
from parlerd.engine.carrying import Download
from parlerd.engine.desk import Desk
from parlerd.engine.files import Files, Found
from parlerd.engine.handed import OpenFile
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.workspace_files import Source, Target
from parlerd.git.applying import Applied, apply
from parlerd.git.pushing import Bundled, bundled
from parlerd.git.repository import Repository, find
from parlerd.git.running import Runner
from parlerd.operations import types as t

T = TypeVar("T")

DIGITS = 16
"""Of a blob's id, in the name of the ref or the file that is made of it."""


class Sharing:
    """The handlers of `share.push`, `share.send`, `share.fetch` and `share.apply`."""

    def __init__(self, desk: Desk, files: Files) -> None:
        self._desk = desk
        self._files = files

    # -- sharing -------------------------------------------------------------------------------------------

    @handles("share.send")
    async def send(self, caller: Caller, params: t.SendFile) -> t.SharedFile:
        workspace, home = caller.facts.workspace, self._desk.home_path
        me, handle = await self._files.writable(caller, params.room)
        with await self._aside(lambda _: Source(workspace, params.path, home)) as source:
            blob, size = await self._bring(me, handle, source)
            searched = await self._aside(lambda wanted: _searched(source, size, wanted))
        shared = t.ShareBlob(
            blob=blob, size=size, name=source.name, text=params.note, idempotency_key=params.idempotency_key
        )
        sent = await self._files.post(caller, me, handle, shared, input_digest(params))
        return t.SharedFile(**msgspec.structs.asdict(sent), **_secrets(searched))

    @handles("share.push")
    async def push(self, caller: Caller, params: t.PushCode) -> t.SharedCode:
        me, handle = await self._files.writable(caller, params.room)
        with ExitStack() as made:

            def make(wanted: Callable[[], None]) -> tuple[Bundled, Searched]:
                repository = _repository(caller.facts.workspace, wanted)
                bundle = made.enter_context(
                    bundled(repository, params.ref or "HEAD", params.base or "", changes=params.worktree)
                )
                return bundle, bundle.search()

            try:
                bundle, searched = await self._aside(make)
                folder, name = os.path.split(bundle.path)
                with await self._aside(lambda _: Source(folder, name, "")) as source:
                    blob, size = await self._bring(me, handle, source)
            finally:
                await self._aside(lambda _: made.close())
        left = len(bundle.left_out) + bundle.more
        shared = t.ShareBlob(
            blob=blob,
            size=size,
            name=bundle.ref,
            tip=bundle.tip,
            base=bundle.base,
            left_out=left,
            text=params.note,
            idempotency_key=params.idempotency_key,
        )
        sent = await self._files.post(caller, me, handle, shared, input_digest(params))
        return t.SharedCode(
            **msgspec.structs.asdict(sent),
            **_secrets(searched),
            ref=PeerText(bundle.ref),
            tip=bundle.tip,
            base=bundle.base or None,
            left_out=[t.LeftOutPath(path=PeerText(each.path), why=each.why) for each in bundle.left_out],
            more=bundle.more,
        )

    async def _bring(self, me: AgentRecord, handle: RoomHandle, source: Source) -> tuple[BlobId, int]:
        """Bring a file to the room's home; its id and its size."""
        upload = self._files.upload(me, handle, source)
        return await upload.whole(handle.shelf), upload.size

    # -- taking --------------------------------------------------------------------------------------------

    @handles("share.fetch")
    async def fetch(self, caller: Caller, params: t.FetchFile) -> t.FetchedFile:
        me = await self._desk.me(caller)
        found = await self._files.found(me, params.blob, params.room)
        info = self._files.info(me, found)
        path = params.path or f"parler-{info.brings.blob[:DIGITS]}"
        workspace, home = caller.facts.workspace, self._desk.home_path
        target = await self._aside(lambda _: Target(workspace, path, home))
        try:
            await self._read(me, found, target)
            await self._aside(lambda _: target.finish())
        finally:
            await self._aside(lambda _: target.close())
        return t.FetchedFile(path=target.path, brings=info.brings, author=info.author)

    @handles("share.apply")
    async def apply(self, caller: Caller, params: t.ApplyCode) -> t.AppliedCode:
        me = await self._desk.me(caller)
        found = await self._files.found(me, params.blob, params.room)
        info = self._files.info(me, found)
        tip = info.brings.tip
        if isinstance(tip, msgspec.UnsetType):
            raise Refused("bundle_refused", "That is a file, and no code: fetch it.", what="kind")
        repository = await self._aside(lambda wanted: _repository(caller.facts.workspace, wanted))
        with tempfile.NamedTemporaryFile(prefix="parler-bundle-") as file:
            await self._read(me, found, OpenFile(file.fileno()))

            def take(wanted: Callable[[], None]) -> Applied:
                its = msgspec.structs.replace(repository, runner=Runner(wanted))
                return apply(its, file.name, info.brings.blob[:DIGITS], tip=tip)

            applied = await self._aside(take)
        return t.AppliedCode(
            ref=applied.ref, tip=applied.tip, new=applied.is_new, brings=info.brings, author=info.author
        )

    async def _read(self, me: AgentRecord, found: Found, target: OpenFile) -> None:
        """Write every byte of what a message brings to `target`. Raises `Refused(blob_mismatch)` afterwards where they
        do not have their digest."""
        handle, part = found.handle, self._files.part(found)
        download = Download(handle.room, me.id, part.blob, part.size, target.write, self._aside, seal=part.seal)
        await download.whole(handle.shelf)

    async def _aside(self, work: Callable[[Callable[[], None]], T]) -> T:
        return await self._desk.shelf.aside(work)


def _searched(source: Source, size: int, wanted: Callable[[], None]) -> Searched:
    """What is recognised as a secret in a file."""
    search = Search(searching.in_time(time.monotonic))

    def pieces() -> Iterator[bytes]:
        for at in range(0, size, searching.PIECE):
            wanted()
            yield source.read(at, searching.PIECE)

    search.file(source.name, pieces())
    return search.result()


def _secrets(searched: Searched) -> dict[str, Any]:
    """What a search found, as fields of an answer."""
    return {
        "secrets": [t.SecretFound(path=PeerText(each.path), kind=each.kind) for each in searched.found],
        "more_secrets": searched.more,
        "secrets_complete": searched.is_whole,
    }


def _repository(workspace: str, wanted: Callable[[], None]) -> Repository:
    """The repository that the workspace is a work tree of. Raises `Refused(no_repository)`."""
    repository = find(workspace, Runner(wanted)) if workspace else None
    if repository is None or repository.is_bare or os.path.realpath(repository.top) != os.path.realpath(workspace):
        raise Refused("no_repository")
    return repository
