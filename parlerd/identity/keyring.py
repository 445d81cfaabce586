"""The key files of one user: the person's key, one key per agent, and the secret from which codes are made.

A file that other users can read is refused, because its key may have been read. Not here: which agent a window acts as
(the engine). Above: `parlerd.engine`. Below: `nkeys`, `signatures`, `codes`. Invariant: every file is 0600, is written
whole or not at all, and its content is in no `repr`, error or log.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, KeyId, PrincipalId, RequestId, RoomId
from parlerd.identity import codes, nkeys
from parlerd.identity.signatures import Domain, SigningKey

_SUFFIX: Final = ".seed"
_CODES: Final = "codes.secret"
_SECRET_LENGTH: Final = 32
_JOIN_CODE_LENGTH: Final = 4


class KeyRing:
    """Keys in `directory`, which is private (0700) and is made if it is missing. Safe to use from several threads.

    Raises `ParlerError` `home_unsafe` for files that others may read or that were tampered with, `home_not_writable`
    when a new key cannot be written. Only tests pass `random_bytes`.
    """

    def __init__(self, directory: Path, *, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._directory = directory
        self._random = random_bytes
        # Held while a key or the secret is made, so that two threads do not make two.
        self._lock = threading.Lock()
        # Every key of the directory by its id, the person's and the agents'.
        self._keys: dict[str, SigningKey] = {}
        # The secret from which codes are made; None until the first code, when it is read or made.
        self._secret: bytes | None = None
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            names = sorted(os.listdir(directory))
        except OSError as error:
            raise _not_writable(directory, error) from error
        # The person's id; None until the person's key is first asked for, when the key is made.
        self._principal: PrincipalId | None = None
        for name in names:
            if name.endswith(_SUFFIX) and not name.startswith("."):
                id = self._load(directory / name)
                if self._keys[id].kind == "principal":
                    self._principal = PrincipalId(id)

    def __repr__(self) -> str:
        return f"KeyRing({str(self._directory)!r})"

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

    def key_id(self, session_key: str) -> KeyId:
        """The id under which a session key is kept. The id is an HMAC, so the database alone opens nothing.

        Raises `Refused(unknown_key)` for text that cannot be a session key.
        """
        return KeyId(self._hmac(b"key", codes.normalise(session_key).encode()).hex())

    def session_key(self, room: RoomId, length: int) -> str:
        """A room's session key as people type it. It follows from the room's id and this home's secret, and so can be
        told again without being stored: a retried opening gives the key that a lost answer held.
        """
        return codes.spell(self._hmac(b"session", f"{length} {room}".encode()), length)

    def join_code(self, request: RequestId) -> str:
        """The four characters that a joiner is shown and the person types back. They follow from the request's id."""
        return codes.spell(self._hmac(b"join", request.encode()), _JOIN_CODE_LENGTH)

    def _hmac(self, purpose: bytes, data: bytes) -> bytes:
        with self._lock:
            if self._secret is None:
                self._secret = self._open_secret()
            secret = self._secret
        return hmac.digest(secret, b"parler/code/" + purpose + b"\0" + data, hashlib.sha256)

    def _open_secret(self) -> bytes:
        path = self._directory / _CODES
        try:
            secret = _read_private(path)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                _write_private(path, self._random(_SECRET_LENGTH))
            secret = _read_private(path)
        if len(secret) != _SECRET_LENGTH:
            raise _damaged(path)
        return secret

    def _create(self, kind: nkeys.Kind) -> str:
        seed = self._random(32)
        key = SigningKey(kind, seed)
        _write_private(self._path(kind, key.id), nkeys.encode_seed(kind, seed).encode() + b"\n")
        self._keys[key.id] = key
        return key.id

    def _path(self, kind: nkeys.Kind, id: str) -> Path:
        # The person's file has a fixed name, so there can never be two of them.
        return self._directory / (f"principal{_SUFFIX}" if kind == "principal" else f"{id}{_SUFFIX}")

    def _load(self, path: Path) -> str:
        try:
            kind, seed = nkeys.decode_seed(_read_private(path).decode("ascii", "replace").strip())
        except Refused:
            raise _damaged(path) from None
        key = SigningKey(kind, seed)
        if self._path(kind, key.id) != path:
            raise _damaged(path)
        self._keys[key.id] = key
        return key.id


def _read_private(path: Path) -> bytes:
    try:
        # With O_NOFOLLOW and fstat the file that is checked is the file that is read. With O_NONBLOCK a pipe in the
        # place of the file does not make this process wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ParlerError("home_unsafe", f"The key file {path} cannot be read: {error.strerror}.") from error
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ParlerError(
                "home_unsafe",
                f"The key file {path} can be read by others, so its key may be known to them.",
                hint=f"If it was only ever yours, run: chmod 600 {path}. Otherwise move it away; a new key is made.",
                path=str(path),
            )
        return file.read(4096)


def _write_private(path: Path, data: bytes) -> None:
    """Put `data` at `path`, 0600 and on the disk, whole or not at all. Raises `FileExistsError` rather than replace."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # A link fails where a rename would replace: a key that another process made meanwhile must survive.
            os.link(temporary, path, follow_symlinks=False)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        raise
    except OSError as error:
        raise _not_writable(path.parent, error) from error


def _damaged(path: Path) -> ParlerError:
    return ParlerError(
        "home_unsafe",
        f"The key file {path} does not hold the key it should.",
        hint="Restore it from a copy, or move it away.",
        path=str(path),
    )


def _not_writable(path: Path, error: OSError) -> ParlerError:
    return ParlerError("home_not_writable", f"{path} cannot be used: {error.strerror}.", path=str(path))
