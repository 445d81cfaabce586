"""The key of a relay, by which homes know it, and the secret from which its codes are made.

A relay signs that it is this relay, what it took in (receipts), and what agents say that have a token and no key; it
holds no key of an agent or a person. Above: `relay`, and the engine, for codes, receipts and those agents. Below:
`home_secret`, `keyfiles`, `signatures`, `notes`. Invariant: the private key is in no `repr`, error or log, and a relay
has one key for ever: another key is another relay.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from parlerd.core.errors import Refused
from parlerd.core.model import HomeId
from parlerd.identity import nkeys
from parlerd.identity.home_secret import HomeSecret
from parlerd.identity.keyfiles import damaged, open_directory, read_private, write_private
from parlerd.identity.notes import signed_note
from parlerd.identity.signatures import Domain, SigningKey

_FILE: Final = "relay.seed"


class RelayKeys(HomeSecret):
    """The keys in `directory`, which is private (0700) and is made if it is missing, with a new key in it.

    Raises `ParlerError` `home_unsafe` for files that others may read or that were tampered with, `home_not_writable`
    when a new key cannot be written. Only tests pass `random_bytes`.
    """

    def __init__(self, directory: Path, *, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        super().__init__(directory, random_bytes=random_bytes)
        open_directory(directory)
        path = directory / _FILE
        if not path.exists():
            with contextlib.suppress(FileExistsError):
                write_private(path, nkeys.encode_seed("relay", random_bytes(32)).encode() + b"\n")
        try:
            kind, seed = nkeys.decode_seed(read_private(path).decode("ascii", "replace").strip())
        except Refused:
            raise damaged(path) from None
        if kind != "relay":
            raise damaged(path)
        self._key = SigningKey(kind, seed)

    def __repr__(self) -> str:
        return f"RelayKeys({self.id})"

    @property
    def id(self) -> HomeId:
        """The relay's name among homes."""
        return HomeId(self._key.id)

    def sign_note(self, text: str) -> str:
        """The note of a receipt with the relay's own signature."""
        return signed_note(self._key, text)

    def sign(self, domain: Domain, data: bytes) -> bytes:
        """The relay's own signature."""
        return self._key.sign(domain, data)
