"""The key files of one user: the person's key, one key per agent, and the secret from which codes are made.

Not here: which agent a window acts as (the engine), and the keys of a relay, which has neither person nor agents
(`relay_keys`). Above: `parlerd.engine`. Below: `nkeys`, `signatures`, `home_secret`, `keyfiles`. Invariant: a private
key is in no `repr`, error or log.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, HomeId, PrincipalId
from parlerd.identity import nkeys
from parlerd.identity.home_secret import HomeSecret
from parlerd.identity.keyfiles import damaged, open_directory, read_private, write_private
from parlerd.identity.notes import signed_note
from parlerd.identity.signatures import Domain, SigningKey

_SUFFIX: Final = ".seed"


class KeyRing(HomeSecret):
    """Keys in `directory`, which is private (0700) and is made if it is missing. Safe to use from several threads.

    Raises `ParlerError` `home_unsafe` for files that others may read or that were tampered with, `home_not_writable`
    when a new key cannot be written. Only tests pass `random_bytes`.
    """

    def __init__(self, directory: Path, *, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        super().__init__(directory, random_bytes=random_bytes)
        self._directory = directory
        self._random = random_bytes
        # Held while a key is made, so that two threads do not make two.
        self._lock = threading.Lock()
        # Every key of the directory by its id, the person's and the agents'.
        self._keys: dict[str, SigningKey] = {}
        # The person's id; None until the person's key is first asked for, when the key is made.
        self._principal: PrincipalId | None = None
        for name in open_directory(directory):
            if name.endswith(_SUFFIX) and not name.startswith("."):
                id = self._load(directory / name)
                if self._keys[id].kind == "principal":
                    self._principal = PrincipalId(id)

    def __repr__(self) -> str:
        return f"KeyRing({str(self._directory)!r})"

    @property
    def id(self) -> HomeId:
        """This home's name among homes: its person's."""
        return HomeId(self.principal)

    @property
    def principal(self) -> PrincipalId:
        """The person's id. The person's key is made at the first use."""
        with self._lock:
            if self._principal is None:
                try:
                    self._principal = PrincipalId(self._create("principal"))
                except FileExistsError:
                    # Another process was faster, and the key that it made is the person's.
                    self._principal = PrincipalId(self._load(self._path("principal", "")))
            return self._principal

    def create_agent(self) -> AgentId:
        """A new agent, whose key is on the disk when this returns."""
        with self._lock:
            return AgentId(self._create("agent"))

    def agents(self) -> list[AgentId]:
        """Every agent this home has a key for, sorted by id."""
        with self._lock:
            return sorted(AgentId(key.id) for key in self._keys.values() if key.kind == "agent")

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        """The signature of `data` by an agent of this home or by the principal. Raises `Refused(no_such_agent)`."""
        key = self._keys.get(id)
        if key is None:
            raise Refused("no_such_agent", "This home has no key for that agent.", agent=id)
        return key.sign(domain, data)

    def sign_note(self, text: str) -> str:
        """The note of a receipt with the home's own signature, which is the person's."""
        return signed_note(self._keys[self.principal], text)

    def _create(self, kind: nkeys.Kind) -> str:
        seed = self._random(32)
        key = SigningKey(kind, seed)
        write_private(self._path(kind, key.id), nkeys.encode_seed(kind, seed).encode() + b"\n")
        self._keys[key.id] = key
        return key.id

    def _path(self, kind: nkeys.Kind, id: str) -> Path:
        # The person's file has a fixed name, so there can never be two of them.
        return self._directory / (f"principal{_SUFFIX}" if kind == "principal" else f"{id}{_SUFFIX}")

    def _load(self, path: Path) -> str:
        try:
            kind, seed = nkeys.decode_seed(read_private(path).decode("ascii", "replace").strip())
        except Refused:
            raise damaged(path) from None
        key = SigningKey(kind, seed)
        if kind == "relay" or self._path(kind, key.id) != path:
            raise damaged(path)
        self._keys[key.id] = key
        return key.id
