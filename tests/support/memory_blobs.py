"""Blobs without a disk, for an engine under virtual time. Verified by `tests/contract/test_blobs.py`."""

from __future__ import annotations

import hashlib

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, BlobId, Millis


class MemoryBlobs:
    """The plainest reading of the contract in `parlerd.store.blobs`."""

    def __init__(self) -> None:
        self.whole: dict[BlobId, bytes] = {}
        self._held: dict[tuple[AgentId, BlobId], Millis] = {}
        self._uploads: dict[tuple[AgentId, BlobId], tuple[bytes, Millis]] = {}

    def begin(self, owner: AgentId, blob: BlobId, size: int) -> int:
        if self.holds(owner, blob) and len(self.whole[blob]) == size:
            return size
        here = len(self._upload(owner, blob))
        if here > size:
            del self._uploads[owner, blob]
            return 0
        return here

    def write(self, owner: AgentId, blob: BlobId, at: int, data: bytes, now: Millis) -> int:
        known = self._upload(owner, blob)
        if at > len(known):
            raise Refused("upload_unfinished", offset=len(known))
        if new := data[len(known) - at :]:
            known += new
            self._uploads[owner, blob] = (known, now)
        return len(known)

    def finish(self, owner: AgentId, blob: BlobId, size: int, now: Millis) -> None:
        known = self._upload(owner, blob)
        if not known and size and self.holds(owner, blob) and len(self.whole[blob]) == size:
            return
        if len(known) != size:
            raise Refused("upload_unfinished", offset=len(known))
        self._uploads.pop((owner, blob), None)
        if hashlib.sha256(known).hexdigest() != blob:
            raise Refused("blob_mismatch")
        self.whole[blob] = known
        self._held[owner, blob] = now

    def settle(self, owner: AgentId, name: BlobId, size: int, now: Millis) -> BlobId:
        known = self._upload(owner, name)
        if len(known) != size:
            raise Refused("upload_unfinished", offset=len(known))
        self._uploads.pop((owner, name), None)
        blob = BlobId(hashlib.sha256(known).hexdigest())
        self.whole[blob] = known
        self._held[owner, blob] = now
        return blob

    def forget(self, owner: AgentId, blob: BlobId) -> None:
        self._uploads.pop((owner, blob), None)

    def holds(self, owner: AgentId, blob: BlobId) -> bool:
        return (owner, blob) in self._held and blob in self.whole

    def hold(self, owner: AgentId, blob: BlobId, now: Millis) -> None:
        if blob not in self.whole:
            raise Refused("no_such_blob")
        self._held[owner, blob] = now

    def read(self, blob: BlobId, at: int, length: int) -> bytes:
        if blob not in self.whole:
            raise Refused("no_such_blob")
        return self.whole[blob][at : at + length]

    def size(self, blob: BlobId) -> int:
        return len(self.whole.get(blob, b""))

    def used(self) -> int:
        return sum(map(len, self.whole.values())) + sum(len(data) for data, _ in self._uploads.values())

    def idle(self, shelf: str, before: Millis) -> list[BlobId]:
        self._held = {key: at for key, at in self._held.items() if at >= before or not key[1].startswith(shelf)}
        self._uploads = {key: kept for key, kept in self._uploads.items() if kept[1] >= before or key[1][:2] != shelf}
        held = {blob for _, blob in (*self._held, *self._uploads)}
        return sorted(blob for blob in self.whole if blob.startswith(shelf) and blob not in held)

    def drop(self, blob: BlobId, before: Millis) -> bool:
        if any(each == blob and at >= before for (_, each), at in self._held.items()):
            return False
        self.whole.pop(blob, None)
        return True

    def _upload(self, owner: AgentId, blob: BlobId) -> bytes:
        return self._uploads.get((owner, blob), (b"", Millis(0)))[0]
