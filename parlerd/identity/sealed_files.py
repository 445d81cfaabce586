"""Files of sealed rooms: sealed in pieces by whoever shares one, and opened in pieces, so that none is ever whole in
memory.

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
from typing import Final

import nacl.exceptions
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_aead_xchacha20poly1305_ietf_encrypt

from parlerd.core.envelope import BlobSeal
from parlerd.core.sealing import CHUNK, TAG, unreadable
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

    def __init__(self, seal: BlobSeal) -> None:
        if (len(seal.key), len(seal.prefix)) != (KEY, PREFIX):
            raise unreadable("file")
        self._seal = seal
        # How many pieces were opened.
        self._index = 0
        # What belongs to the next piece. A full piece waits here too, since it may be the last.
        self._rest = bytearray()
        self._digest = hashlib.sha256()

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


def _nonce(prefix: bytes, index: int, is_last: bool) -> bytes:
    if index >= MAX_PIECES:
        raise unreadable("file")
    return prefix + index.to_bytes(4, "big") + bytes([is_last])
