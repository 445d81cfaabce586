"""Sharing files and code, and fetching them: the handlers of what is asked on this machine.

    put       --> the shelf of the room's home     the bytes of a file that was handed over
    share     --> a message that names the blob    who may have them
    find, get --> a message that names the blob, which the reader may see --> the shelf

A blob is read by way of a message alone: whoever may see none that brings it is answered as if there were no such blob.

Not here: bytes on the disk (`shelf`), homes elsewhere (`uplink`, by way of the handle), which file is shared (the
command, or `workspace_files`). Above: the engine's face. Below: `carrying`, `sending`, the library. Invariant: no
answer tells of a blob that the asker may not read.
"""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import BlobPart, BlobSeal, Part, TextPart
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.lifecycle import require_open
from parlerd.core.model import NO_BLOB, BlobId, MessageId, blob_id
from parlerd.core.room import Room
from parlerd.core.sealing import CHUNK
from parlerd.core.visibility import can_see
from parlerd.core.words import CODE, FILE, MAX_NAME, check_text
from parlerd.engine.brought import BlobFinder, brought_by
from parlerd.engine.callers import Caller
from parlerd.engine.carrying import Download, Readable, Upload
from parlerd.engine.desk import Desk
from parlerd.engine.file_seals import FileSeals
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.lookup import member_room, room_of
from parlerd.engine.observers import observed_room
from parlerd.engine.person import is_person
from parlerd.engine.reading import Reading, number_of, render_message
from parlerd.engine.sending import Sending
from parlerd.identity.sealed_files import whole_pieces
from parlerd.operations import types as t
from parlerd.store.port import StoredMessage

_SHARE_FIRST: Final = "Share it with this room first, and name the message that brings it."
_NO_FILE: Final = "A hand-off pins code that was pushed. Name a file by its path, among the files that matter."


class Found(NamedTuple):
    """A message that brings a blob, with its room."""

    handle: RoomHandle
    room: Room
    message: StoredMessage


class Files:
    """The handlers of `blob.put`, `blob.share`, `blob.find` and `blob.get`."""

    def __init__(self, desk: Desk, reading: Reading, sending: Sending) -> None:
        self._desk = desk
        self._reading = reading
        self._sending = sending
        self._finder = BlobFinder(desk.library)
        self._seals = FileSeals(desk)

    # -- bringing bytes ------------------------------------------------------------------------------------

    @handles("blob.put")
    async def put(self, caller: Caller, params: t.PutBlob) -> t.BlobPut:
        me, handle = await self.writable(caller, params.room)
        with caller.handed.using(params.file) as file:
            upload = file.carried
            if not isinstance(upload, Upload) or upload.room != handle.room:
                upload = file.carried = self.upload(me, handle, file)
            await upload.step(handle.shelf)
            file.is_done = upload.blob is not None
        return t.BlobPut(room=handle.room, offset=upload.at, size=upload.size, blob=upload.blob or "")

    def upload(self, me: AgentRecord, handle: RoomHandle, file: Readable) -> Upload:
        """A file of the agent on its way to a room's home, which gets ciphertext where the room is sealed."""
        is_sealed = handle.aggregate.state.lifecycle.sealed
        sealing = partial(self._seals.sealed, handle.room, me.id) if is_sealed else None
        return Upload(handle.room, me.id, file, self._desk.shelf.aside, sealing)

    async def writable(self, caller: Caller, wanted: str | None) -> tuple[AgentRecord, RoomHandle]:
        """Who asks, and the room that it means, which is open."""
        me = await self._desk.me(caller)
        handle, room = await room_of(self._desk, me, wanted)
        require_open(room.state.lifecycle)
        return me, handle

    # -- sharing -------------------------------------------------------------------------------------------

    @handles("blob.share")
    async def share(self, caller: Caller, params: t.ShareBlob) -> t.SharedBlob:
        me, handle = await self.writable(caller, params.room)
        return await self.post(caller, me, handle, params, input_digest(params))

    async def post(
        self, caller: Caller, me: AgentRecord, handle: RoomHandle, params: t.ShareBlob, input: bytes
    ) -> t.SharedBlob:
        """Post the message that brings a blob. `input` is the digest of what was asked for: a bundle that is made again
        may have other bytes. A repeated request is answered with what it brought then."""
        if len(params.name.encode("utf-8", "surrogatepass")) > MAX_NAME:
            raise Refused("invalid_param", f"A name has at most {MAX_NAME} bytes.", param="name")
        if (params.base or params.left_out) and not params.tip:
            raise Refused("invalid_param", "Only code has a base and something left out: name its tip.", param="tip")
        blob, size = blob_id(params.blob), check_text(params.text, "text")
        known = await self._known(me, blob, handle.home_name)
        seal = await self._seal(me, handle, blob, params.size, known)
        part = BlobPart(
            blob=blob,
            size=params.size,
            name=params.name,
            tip=params.tip,
            base=params.base,
            left_out=params.left_out,
            seal=seal,
        )
        reply_to = None
        if params.reply_to is not None:
            reply_to = await self._reading.message_id(handle.aggregate, me.id, params.reply_to)
        await handle.shelf.require(me.id, blob, may_read=known is not None)
        command = c.PostMessage(
            operation="blob.share",
            idempotency_key=params.idempotency_key,
            input=input,
            kind=CODE if params.tip else FILE,
            to=params.to,
            visibility=params.visible_to or None,
            reply_to=reply_to,
            blob=blob,
        )
        parts: tuple[Part, ...] = (TextPart(params.text), part) if params.text else (part,)
        posting = await self._sending.post(caller, me, handle, command, parts, size)
        sent = await posting.result()
        then = posting.posted[0].event if posting.posted else None
        if isinstance(then, e.MessagePosted) and then.blob not in (NO_BLOB, blob):
            blob = then.blob
            brought = await self._finder.part(handle.aggregate, me.id, blob)
            seal = None if brought is None else brought.seal
        return t.SharedBlob(
            blob=blob,
            size=params.size,
            sha256=blob if seal is None else seal.digest.hex(),
            room=sent.room,
            name=sent.name,
            id=sent.id,
            seq=sent.seq,
            at=sent.at,
            replayed=sent.replayed,
            idempotency_key=sent.idempotency_key,
            queued=sent.queued,
            warning=sent.warning,
        )

    async def _seal(
        self, me: AgentRecord, handle: RoomHandle, blob: BlobId, size: int, known: BlobPart | None
    ) -> BlobSeal | None:
        """How the readers of a message open the blob that it brings; None in a room that is not sealed. `known` is what
        another message says of the blob. Raises `Refused(upload_unfinished)` for ciphertext whose key this agent does
        not have, for a file that was uploaded in clear, and for ciphertext in a room that is not sealed."""
        if not handle.aggregate.state.lifecycle.sealed:
            if known is not None and known.seal is not None:
                raise Refused("upload_unfinished", offset=0)
            return None
        found = await self._seals.of(handle.room, me.id, blob)
        if found is None and known is not None and known.seal is not None:
            found = known.size, known.seal
        if found is None:
            raise Refused("upload_unfinished", offset=0)
        if found[0] != size:
            raise Refused("invalid_param", f"The file has {found[0]} bytes.", param="size")
        return found[1]

    async def _known(self, me: AgentRecord, blob: BlobId, home: str) -> BlobPart | None:
        """What a message says of this blob that brings it to the agent in some room of that home: then another room of
        the same home may be brought it too."""
        for name in await self._desk.library.my_rooms(me.id):
            try:
                handle, room = await member_room(self._desk, me, name)
            except Refused:
                continue  # it left meanwhile
            if handle.home_name == home and (part := await self._finder.part(room, me.id, blob)) is not None:
                return part
        return None

    async def again(self, me: AgentRecord, handle: RoomHandle, meant: str, *, code: bool = False) -> BlobPart:
        """The part with which a message of the agent brings once more what a message of the same room brings: `meant`
        is the blob's id, or the number or id of that message. Whoever sees the new message may then have the blob, also
        where it does not see the first. Raises `Refused`: `no_such_blob` and `no_such_message`, and `bundle_refused`
        for a file where only `code` will do."""
        try:
            found = await self.found(me, meant, handle.room)
        except Refused as error:
            if error.code not in ("no_such_blob", "no_such_message"):
                raise
            raise Refused(error.code, hint=_SHARE_FIRST, tool_hint=_SHARE_FIRST, **error.details) from None
        part = self.part(found)
        if code and not part.tip:
            raise Refused(
                "bundle_refused", "That is a file, and no code.", hint=_NO_FILE, tool_hint=_NO_FILE, what="kind"
            )
        await handle.shelf.require(me.id, part.blob, may_read=True)
        return part

    @staticmethod
    def part(found: Found) -> BlobPart:
        """What the author of a message says of what it brings. Raises `Refused(no_such_blob)` where the words are not
        here any more, or cannot be read here."""
        part = brought_by(found.message)
        if part is None:
            raise Refused("no_such_blob")
        blob_id(part.blob)
        return part

    # -- finding and reading -------------------------------------------------------------------------------

    @handles("blob.find")
    async def find(self, caller: Caller, params: t.FindBlob) -> t.FoundBlob:
        me = await self._desk.me(caller)
        if is_person(caller) and params.room is not None:
            # A person, who is in no room, looks with the eyes of an agent of theirs.
            return await self._observed(caller, me, params.room, params.blob)
        return self.info(me, await self.found(me, params.blob, params.room))

    async def _observed(self, caller: Caller, me: AgentRecord, wanted: str, meant: str) -> t.FoundBlob:
        """What a message brings that one of this person's agents may see. Raises as `found` does."""
        handle, _, inside = await observed_room(self._desk, caller, me, wanted)
        for record in inside[:-1]:
            try:
                return self.info(record, await self.found(record, meant, handle.room))
            except Refused as error:
                if error.code not in ("no_such_blob", "no_such_message"):
                    raise
        return self.info(inside[-1], await self.found(inside[-1], meant, handle.room))

    def info(self, me: AgentRecord, found: Found) -> t.FoundBlob:
        """What a message brings, as its reader is told."""
        room = found.room
        message = render_message(room.state, me.id, found.message, self._reading.now_in(room.state))
        if isinstance(message.brings, msgspec.UnsetType):
            # The words are not here any more, and with them what the author said of the file.
            raise Refused("no_such_blob")
        return t.FoundBlob(
            brings=message.brings,
            room=room.state.room,
            name=room.state.name,
            id=message.id,
            seq=message.seq,
            at=message.at,
            author=message.author,
            note=message.text,
        )

    async def found(self, me: AgentRecord, meant: str, wanted: str | None) -> Found:
        """The message that brings a blob: by the blob's id, or by the message's own number or id. Raises `Refused`:
        `no_such_blob`, `no_such_message`."""
        if number_of(meant) is not None or meant.startswith("m_"):
            handle, room = await self._caught_up(me, wanted)
            return await self._by_message(me, handle, room, meant)
        try:
            blob = blob_id(meant)
        except Refused:
            raise Refused("no_such_blob") from None
        places = [await self._caught_up(me, wanted)] if wanted is not None else await self._places(me)
        for is_patient in (False, True):
            for handle, known in places:
                room = known
                if is_patient and not await handle.catch_up():
                    continue
                if is_patient:
                    room = (await member_room(self._desk, me, handle.room))[1]
                message = await self._finder.message(room, me.id, blob)
                if message is not None:
                    return Found(handle, room, message)
        raise Refused("no_such_blob")

    async def _reader(
        self, caller: Caller, me: AgentRecord, wanted: str | None, blob: BlobId
    ) -> tuple[RoomHandle, AgentRecord]:
        """A room, and the agent that may have this blob of it: the caller's own, or for the person any of theirs.
        Raises `Refused(no_such_blob)`."""
        if not is_person(caller) or wanted is None:
            handle, room = await room_of(self._desk, me, wanted)
            await self._finder.require(room, me.id, blob)
            return handle, me
        handle, room, inside = await observed_room(self._desk, caller, me, wanted)
        for record in inside:
            if await self._finder.message(room, record.id, blob) is not None:
                return handle, record
        raise Refused("no_such_blob")

    async def _by_message(self, me: AgentRecord, handle: RoomHandle, room: Room, meant: str) -> Found:
        message = await self._reading.message_id(room, me.id, meant)
        traced = await self._desk.library.trace(MessageId(message))
        if traced is None or traced.room != room.state.room:
            raise Refused("no_such_message", id=meant)
        event, at = traced.header.event, traced.header.position
        assert isinstance(event, e.MessagePosted)
        if not can_see(room.view(me.id), position=at, visibility=event.visibility):
            raise Refused("no_such_message", id=meant)
        stored = await self._desk.library.message_at(room, room.view(me.id), at)
        if not event.blob or stored is None:
            raise Refused("no_such_blob")
        return Found(handle, room, stored)

    async def _caught_up(self, me: AgentRecord, wanted: str | None) -> tuple[RoomHandle, Room]:
        handle, room = await room_of(self._desk, me, wanted)
        return await member_room(self._desk, me, handle.room) if await handle.catch_up() else (handle, room)

    async def _places(self, me: AgentRecord) -> list[tuple[RoomHandle, Room]]:
        """Every room of the agent."""
        found: list[tuple[RoomHandle, Room]] = []
        for name in await self._desk.library.my_rooms(me.id):
            try:
                found.append(await member_room(self._desk, me, name))
            except Refused:
                continue  # it left meanwhile
        return found

    @handles("blob.get")
    async def get(self, caller: Caller, params: t.GetBlob) -> t.BlobAt:
        me = await self._desk.me(caller)
        blob, size, aside = blob_id(params.blob), params.size, self._desk.shelf.aside
        handle, me = await self._reader(caller, me, params.room, blob)
        with caller.handed.using(params.file) as file:
            download = file.carried
            if not isinstance(download, Download) or (download.room, download.blob) != (handle.room, blob):
                had = min(await aside(lambda _: file.size()), size)
                seal = None
                if handle.aggregate.state.lifecycle.sealed:
                    part = await self._finder.part(handle.aggregate, me.id, blob)
                    if part is None or part.seal is None:
                        raise Refused("no_such_blob")
                    seal, had = part.seal, whole_pieces(had, size) * CHUNK
                digest = await aside(lambda _: file.digest(had))
                download = file.carried = Download(
                    handle.room, me.id, blob, size, file.write, aside, (had, digest), seal
                )
            file.is_done = await download.step(handle.shelf)
        return t.BlobAt(room=handle.room, offset=download.at)
