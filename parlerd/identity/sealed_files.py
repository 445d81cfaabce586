"""Files of sealed rooms: sealed in pieces by whoever shares one, and opened in pieces, so that none is ever whole in
memory. An author's daemon reads the ciphertext by a `SealedView`, from wherever its upload stopped.

    nonce of a piece = prefix (19 bytes) | index (4 bytes, big-endian, from 0) | 1 for the last piece, else 0

Each file has a random key and prefix of its own, which stand in the words of the message that brings it. A piece that
is missing, doubled, swapped, cut off at the end or added there is one under another nonce, and does not open. Source:
STREAM, in "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (Hoang, Reyhanitabar, Rogaway and
Vizar, 2015), in the form that is known as StreamBE32.

Not here: where the ciphertext is kept, under its own SHA-256. Above: the engine. Below: PyNaCl. Invariant: of a file
that is not whole nobody is given the last piece.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import nacl.exceptions
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_aead_xchacha20poly1305_ietf_encrypt

from parlerd.core.envelope import BlobSeal
from parlerd.core.errors import ParlerError
from parlerd.core.model import BlobId
from parlerd.core.sealing import CHUNK, TAG, sealed_size, unreadable
from parlerd.identity.sealing import KEY, Random

PREFIX: Final = 19
MAX_PIECES: Final = 2**32
"""256 TiB: as many pieces as the index counts."""


class FileSealer:
    """Seals one file: `update` with all of its bytes in order, then `finish`. What the two give, in order, is the
    ciphertext. Its `repr` shows no key."""

    def __init__(self, random: Random) -> None:
        self._key, self._prefix = random(KEY), random(PREFIX)
        # How many pieces were sealed.
        self._index = 0
        # What belongs to the next piece. A full piece waits here too, since it may be the last.
        self._rest = bytearray()
        self._digest = hashlib.sha256()

    def update(self, data: bytes) -> bytes:
        """The pieces that are whole now; may be empty."""
        self._digest.update(data)
        self._rest += data
        sealed = bytearray()
        while len(self._rest) > CHUNK:
            sealed += self._piece(bytes(self._rest[:CHUNK]), is_last=False)
            del self._rest[:CHUNK]
        return bytes(sealed)

    def finish(self) -> tuple[bytes, BlobSeal]:
        """The last piece, and how the file is read. Call this once."""
        return self._piece(bytes(self._rest), is_last=True), BlobSeal(self._key, self._prefix, self._digest.digest())

    def _piece(self, data: bytes, *, is_last: bool) -> bytes:
        nonce = _nonce(self._prefix, self._index, is_last)
        self._index += 1
        return crypto_aead_xchacha20poly1305_ietf_encrypt(data, None, nonce, self._key)


class FileOpener:
    """Opens one file: `update` with all of its ciphertext in order, then `finish`. What the two give, in order, is the
    file. Nothing of it counts before `finish` has returned.

    Both raise `Refused(sealed_unreadable)` for a ciphertext that is not whole, or that is of another file.
    """

    def __init__(self, seal: BlobSeal, begun: tuple[int, hashlib._Hash] | None = None) -> None:
        """With `begun` the first pieces, so many of them, are left out, and the file's bytes in them have this running
        digest."""
        if (len(seal.key), len(seal.prefix)) != (KEY, PREFIX):
            raise unreadable("file")
        self._seal = seal
        # How many pieces were opened.
        self._index, self._digest = begun or (0, hashlib.sha256())
        # What belongs to the next piece. A full piece waits here too, since it may be the last.
        self._rest = bytearray()

    def update(self, data: bytes) -> bytes:
        """What the pieces hold that are whole now; may be empty."""
        self._rest += data
        opened = bytearray()
        while len(self._rest) > CHUNK + TAG:
            opened += self._piece(bytes(self._rest[: CHUNK + TAG]), is_last=False)
            del self._rest[: CHUNK + TAG]
        return bytes(opened)

    def finish(self) -> bytes:
        """What the last piece holds. Call this once."""
        data = self._piece(bytes(self._rest), is_last=True)
        if self._digest.digest() != self._seal.digest:
            raise unreadable("file")
        return data

    def _piece(self, sealed: bytes, *, is_last: bool) -> bytes:
        if len(sealed) < TAG:
            raise unreadable("file")
        nonce = _nonce(self._seal.prefix, self._index, is_last)
        try:
            data = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, None, nonce, self._seal.key)
        except nacl.exceptions.CryptoError:
            raise unreadable("file") from None
        self._index += 1
        self._digest.update(data)
        return data


class SealedView:
    """The ciphertext of a file that is open, to be read from anywhere as if it were a file: see `carrying.Readable`.
    `survey` has to be called once before. None of it is kept but the tag of each piece, a 4096th of the file.

    Under one key and nonce no two texts may ever be sealed and shown: together they would tell of both. So each piece
    has to be the one that it was at the survey, or nothing of it is given: `ParlerError(file_refused)`. The same key
    and prefix are for the same bytes of a file alone, which whoever keeps them for another time has to compare. The
    `repr` shows no key.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, key: bytes, prefix: bytes) -> None:
        """`read` gives at most so many bytes of the file from a place on, and none where it ends."""
        self._read = read
        self._size = size
        self._key, self._prefix = key, prefix
        # How many pieces there are: one of an empty file.
        self._pieces = max(1, -(-size // CHUNK))
        # The tags of the pieces, one after the other.
        self._tags = bytearray()
        # Of all of the ciphertext; None before the survey.
        self._whole: hashlib._Hash | None = None

    def survey(self, still_wanted: Callable[[], None]) -> tuple[bytes, BlobId]:
        """Look at all of the file: its own SHA-256, and what its ciphertext is called. `still_wanted` is called before
        each piece, and may raise."""
        own, whole = hashlib.sha256(), hashlib.sha256()
        self._tags.clear()
        for index in range(self._pieces):
            still_wanted()
            data = self._data(index)
            sealed = self._seal(index, data)
            own.update(data)
            whole.update(sealed)
            self._tags += sealed[-TAG:]
        self._whole = whole
        return own.digest(), BlobId(whole.hexdigest())

    def size(self) -> int:
        return sealed_size(self._size)

    def digest(self, size: int) -> hashlib._Hash:
        """The digest of all of it: `size` is how long it is."""
        assert self._whole is not None
        assert size == self.size()
        return self._whole.copy()

    def read(self, at: int, length: int) -> bytes:
        """The bytes from there on; fewer where it ends."""
        first, skipped = divmod(at, CHUNK + TAG)
        found = bytearray()
        for index in range(first, self._pieces):
            if len(found) >= skipped + length:
                break
            sealed = self._seal(index, self._data(index))
            if sealed[-TAG:] != self._tags[index * TAG : (index + 1) * TAG]:
                raise changed()
            found += sealed
        return bytes(found[skipped : skipped + length])

    def _data(self, index: int) -> bytes:
        """What a piece holds."""
        at, end = index * CHUNK, min((index + 1) * CHUNK, self._size)
        found = bytearray()
        while at + len(found) < end:
            more = self._read(at + len(found), end - at - len(found))
            if not more:
                raise ParlerError("file_refused", "The file became shorter while it was shared.")
            found += more
        return bytes(found)

    def _seal(self, index: int, data: bytes) -> bytes:
        nonce = _nonce(self._prefix, index, index == self._pieces - 1)
        return crypto_aead_xchacha20poly1305_ietf_encrypt(data, None, nonce, self._key)


def changed() -> ParlerError:
    """What is answered where a file is not any more what was looked at before."""
    return ParlerError("file_refused", "The file changed while it was shared.")


def whole_pieces(had: int, size: int) -> int:
    """With how many pieces fetching a file of `size` bytes need not begin again where its first `had` bytes are here.
    The last piece is always opened: by it alone shows that the file is whole."""
    return min(had // CHUNK, max(0, -(-size // CHUNK) - 1))


def _nonce(prefix: bytes, index: int, is_last: bool) -> bytes:
    if index >= MAX_PIECES:
        raise unreadable("file")
    return prefix + index.to_bytes(4, "big") + bytes([is_last])
