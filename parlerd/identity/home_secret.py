"""The secret of one home, from which its codes follow, and the ids under which it keeps session keys.

What follows from a secret needs no place to be stored: a code is spelled again when it is needed. Not here: keys that
sign (`keyring`, `relay_keys`). Above: those two. Below: `codes`, `key_binding`, `keyfiles`. Invariant: what is derived
for one purpose is no use for another.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from parlerd.core.model import AgentId, KeyId, RequestId, RoomId
from parlerd.identity import codes
from parlerd.identity.key_binding import key_binding
from parlerd.identity.keyfiles import damaged, read_private, write_private

_CODES: Final = "codes.secret"
_SECRET_LENGTH: Final = 32


class HomeSecret:
    """The secret in `directory`, which is made at the first use. Safe to use from several threads.

    Raises `ParlerError` `home_unsafe` for a file that others may read or that was tampered with, `home_not_writable`
    when a new secret cannot be written. Only tests pass `random_bytes`.
    """

    def __init__(self, directory: Path, *, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._file = directory / _CODES
        self._random_bytes = random_bytes
        # Held while the secret is read or made, so that two threads do not make two.
        self._secret_lock = threading.Lock()
        # None until the first use.
        self._secret: bytes | None = None

    def key_id(self, session_key: str) -> KeyId:
        """The id under which a session key is kept. The id is an HMAC, so the database alone opens nothing.

        Raises `Refused(unknown_key)` for text that cannot be a session key.
        """
        return KeyId(self._hmac(b"key", codes.normalise(session_key).encode()).hex())

    def session_key(self, room: RoomId, length: int, invite: str = "") -> str:
        """A session key of a room as people type it: the room's first, or that of an invite, by its ref. It follows
        from the room's id, the ref and this home's secret, and so can be told again without being stored: a retried
        opening gives the key that a lost answer held.
        """
        asked = f"{length} {room} {invite}" if invite else f"{length} {room}"
        return codes.spell(self._hmac(b"session", asked.encode()), length)

    def binding(self, room: RoomId, session_key: str) -> str:
        """What binds a session key of a room on a relay to that room. No secret goes into it: whoever has the key
        computes the same. Slow on purpose, so call it away from an event loop."""
        return key_binding(room, codes.normalise(session_key))

    def join_code(self, request: RequestId) -> str:
        """The four characters that a joiner is shown and the person types back. They follow from the request's id."""
        return codes.spell(self._hmac(b"join", request.encode()), codes.JOIN_CODE_LENGTH)

    def opening_secret(self, owner: AgentId, idempotency_key: str) -> bytes:
        """32 bytes that are random to everybody else, and the same for the same request: so a retried opening is the
        same bytes, and the same room."""
        return self._hmac(b"opening", f"{owner} {idempotency_key}".encode())

    def join_secret(self, epoch: str) -> bytes:
        """The secret that enrols people at any relay of this home, until there is another epoch: each of them finds
        the same one."""
        return self._hmac(b"join secret", epoch.encode())[: codes.SECRET_BYTES]

    def mark(self) -> str:
        """What tells this secret from another and shows nothing of it."""
        return self._hmac(b"mark", b"").hex()

    def cursor_key(self) -> bytes:
        """The 32 bytes under which places in logs are told to readers."""
        return self._hmac(b"cursor", b"")

    def hiding_key(self) -> bytes:
        """The 32 bytes that hide from the homes of sealed rooms what requests of this home said (`sealing`)."""
        return self._hmac(b"hiding", b"")

    def _hmac(self, purpose: bytes, data: bytes) -> bytes:
        with self._secret_lock:
            if self._secret is None:
                self._secret = self._open_secret()
            secret = self._secret
        return hmac.digest(secret, b"parler/code/" + purpose + b"\0" + data, hashlib.sha256)

    def _open_secret(self) -> bytes:
        try:
            secret = read_private(self._file)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                write_private(self._file, self._random_bytes(_SECRET_LENGTH))
            secret = read_private(self._file)
        if len(secret) != _SECRET_LENGTH:
            raise damaged(self._file)
        return secret
