"""Whom the relay knows, and the secret by which it comes to know somebody.

The people stand in the relay's own log (`engine.people`), and the secret in the file `join-secret` of the relay's home:
one line that people type. Not here: the proof of the secret (`link`), what else ends when somebody is put out. Above:
`link`, `control`. Below: `engine.people`, `identity.codes`. Invariants: what is told is on the disk first; the secret
is never what lets a known key in; whoever was put out comes back only by a secret that was made after that.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio

from parlerd.core.enrolment import Person
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import Label, PrincipalId
from parlerd.engine.people import People
from parlerd.engine.ports import SharedCounts
from parlerd.engine.throttle import Bucket, draw
from parlerd.identity import codes
from parlerd.paths import Home, replace_private
from parlerd.settings import Settings
from parlerd.store.counts import Ask
from relay.place import secret_of

_MAX_BYTES: Final = 4096
TOO_MANY: Final = "Too many people came within an hour."


class SharedSecret:
    """The secret of relays that share a database: it follows from an epoch that all of them read there, and from a
    secret of the home that none of them tells. `begin` lets another epoch begin, for all of them."""

    def __init__(self, epoch: str, begin: Callable[[], str], secret_of: Callable[[str], bytes]) -> None:
        self.epoch = epoch
        self._begin = begin
        self._secret_of = secret_of

    def now(self) -> bytes:
        """The secret of the epoch that is known."""
        return self._secret_of(self.epoch)

    def renew(self) -> None:
        """Let another epoch begin. Raises `StoreError`."""
        self.epoch = self._begin()


class Enrolment:
    """The people of the relay whose home this is; `paths.prepare(home)` comes first. A secret is made where there is
    none. Raises `ParlerError`: `invalid_settings`, `home_unsafe`, `home_not_writable`.

    Only tests pass `random_bytes`.
    """

    def __init__(
        self,
        home: Home,
        people: People,
        settings: Settings,
        *,
        shared: SharedSecret | None = None,
        counts: SharedCounts | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._shared = shared
        self._people = people
        self._most = settings.relay_people
        # How many may be new: each brings a budget of wrong guesses of its own, so whoever has the secret would buy
        # guesses with new keys.
        self._new = Bucket(settings.relay_enrolments / 3600, settings.relay_enrolments)
        self._counts = counts
        self._one_more = Ask("enrolments", settings.relay_enrolments / 3600, settings.relay_enrolments)
        """The same, where other relays let people in as well."""
        self._random_bytes = random_bytes
        self.secret_file = secret_of(home)
        """The file with the join secret."""
        self._secret = self._keep_secret()

    # -- what a link asks ----------------------------------------------------------------------------------

    def is_enrolled(self, principal: PrincipalId) -> bool:
        person = self._people.find(principal)
        return person is not None and not person.kicked

    def is_kicked(self, principal: PrincipalId) -> bool:
        person = self._people.find(principal)
        return person is not None and person.kicked

    def secret(self) -> bytes:
        """The secret as it is now."""
        return self._secret

    async def enrol(self, principal: PrincipalId, name: Label) -> None:
        """Know this person from now on. Raises `Refused`: `busy` where there are too many, `throttled` where too many
        came within an hour, at all relays of the home together. Raises `StoreError`."""
        if self._people.find(principal) is None:
            if len(self._people.all()) >= self._most:
                raise Refused("busy", "This relay knows as many people as it may.", limit=self._most)
            await self._count_one()
        await self._people.enrol(principal, name)

    async def _count_one(self) -> None:
        if self._counts is not None:
            await draw(self._counts, [self._one_more], TOO_MANY)
            return
        if self._new.refill() < 1.0:
            wait = int(self._new.seconds_until(1.0) * 1000) + 1
            raise Refused("throttled", TOO_MANY, retry_after_ms=wait)
        self._new.tokens -= 1.0

    # -- what the relay's person asks ----------------------------------------------------------------------

    def members(self) -> Sequence[Person]:
        """Who is enrolled, the first to come first."""
        return [person for person in self._people.all() if not person.kicked]

    def find(self, text: str) -> Person:
        """The person of this key or fingerprint, or the enrolled one of this name. Raises `Refused`: `no_such_agent`,
        `ambiguous_name`."""
        found = [
            person
            for person in self._people.all()
            if text in (person.principal, codes.fingerprint(person.principal))
            or (not person.kicked and text.casefold() == person.name.casefold())
        ]
        if not found:
            raise Refused("no_such_agent", "Nobody of this name is enrolled here.", hint="See: parler relay members")
        if len(found) > 1:
            candidates = [f"{codes.fingerprint(person.principal)}  {person.name}" for person in found]
            raise Refused("ambiguous_name", hint="Give a fingerprint.", candidates=candidates)
        return found[0]

    async def put_out(self, principal: PrincipalId) -> None:
        """Know this person no longer, and change the secret: whoever has only the old one does not come in with it."""
        await trio.to_thread.run_sync(self._renew_secret)
        await self._people.put_out(principal)

    def begun(self, epoch: str) -> None:
        """Another relay of this home put somebody out. Raises `ParlerError(home_not_writable)`."""
        if self._shared is not None and epoch and epoch != self._shared.epoch:
            self._shared.epoch = epoch
            self._write(self._shared.now())

    # -- files ---------------------------------------------------------------------------------------------

    def _keep_secret(self) -> bytes:
        if self._shared is not None:
            return self._write(self._shared.now())
        data = _read(self.secret_file, others=0o077)
        if data is None:
            return self._renew_secret()
        try:
            return codes.secret_bytes(data.decode("ascii", "replace"))
        except Refused:
            raise ParlerError(
                "invalid_settings",
                f"{self.secret_file} does not hold a join secret.",
                hint="Move the file away: a new secret is made.",
            ) from None

    def _renew_secret(self) -> bytes:
        if self._shared is None:
            return self._write(self._random_bytes(codes.SECRET_BYTES))
        self._shared.renew()
        return self._write(self._shared.now())

    def _write(self, secret: bytes) -> bytes:
        replace_private(self.secret_file, codes.secret_text(secret).encode() + b"\n")
        self._secret = secret
        return secret


def _read(path: Path, *, others: int) -> bytes | None:
    """A file that others may do nothing of `others` with; None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error.strerror or "it cannot be opened") from error
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & others:
            raise ParlerError("home_unsafe", f"{path} is open to others.", hint=f"Run: chmod 600 {path}")
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise _unusable(path, "it is larger than it can be")
    return data


def _unusable(path: Path, why: str) -> ParlerError:
    return ParlerError("invalid_settings", f"{path} cannot be used: {why}.", hint="Restore it from a backup.")
