"""What the person who runs a relay asks of it: the answers to the operations of the plane `relay`.

Not here: the socket over which they come (`admin`), and the parts that are asked. Above: the relay's program. Below:
`enrolment`, `backup`, `link`, the engine. Invariant: somebody who is put out is unknown to the relay
before their links end, so that none of them comes back in between.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from parlerd import __version__
from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.model import HomeId, Label, Millis, PrincipalId
from parlerd.engine.engine import Engine
from parlerd.identity import codes, join_line
from parlerd.operations import types as t
from parlerd.paths import Home
from relay.backup import back_up
from relay.enrolment import Enrolment
from relay.link import Links
from relay.together import Together


@dataclass(slots=True)
class RelayControl:
    """The relay, as `admin.Control` has it."""

    home: Home
    """The relay's own home."""
    id: HomeId
    """Its key."""
    name: Label
    """What people call it."""
    engine: Engine
    enrolment: Enrolment
    links: Links
    kept: str
    """Where the rooms are kept, for people."""
    copy_store: Callable[[Path], None] | None
    """Writes a copy of the store to a file; None for a database of a server."""
    is_sound: Callable[[], bool]
    """Whether the store takes what is written."""
    addresses: Callable[[], list[str]]
    """Where the relay listens now, each as `host:port`."""
    begin_stop: Callable[[], None]
    """Begins to stop, and returns at once."""
    now: Callable[[], Millis]
    started_at: float
    """When the relay began, by the event loop's clock."""
    together: Together | None = None
    """What makes it one of several relays, where its rooms are in a database."""

    async def status(self) -> t.RelayInfo:
        addresses = self.addresses()
        url = f"wss://{addresses[0]}/" if addresses else ""
        return t.RelayInfo(
            running=True,
            pid=os.getpid(),
            version=__version__,
            home=self.id,
            name=self.name,
            url=url,
            fingerprint=join_line.fingerprint(self.id),
            join_line=join_line.write(url, self.id) if url else "",
            join_secret_file=str(self.enrolment.secret_file),
            addresses=addresses,
            rooms=await self._rooms(),
            daemons=self.links.proven,
            people=len(self.enrolment.members()),
            uptime_ms=int((trio.current_time() - self.started_at) * 1000),
            store=self.kept,
            store_ok=self.is_sound(),
            relays=self._relays(),
            term=0 if self.together is None else self.together.holding.newest_term,
        )

    def _relays(self) -> list[t.RelayOfHome]:
        if self.together is None:
            return []
        holding, unreached = self.together.holding, self.together.peers.unreached
        return [
            t.RelayOfHome(
                relay=row.relay,
                address=row.address,
                version=row.version,
                shards=holding.shards_of(row.relay),
                reached=row.relay not in unreached,
                older=holding.knows_less(row),
            )
            for row in holding.living
        ]

    async def _rooms(self) -> int | None:
        """How many rooms there are; None while the store cannot be read."""
        try:
            return len(await self.engine.desk.library.all_rooms())
        except StoreError:
            return None

    async def members(self) -> t.RelayMemberList:
        await trio.lowlevel.checkpoint()
        return t.RelayMemberList(
            members=[
                t.RelayMember(
                    person=person.principal,
                    name=person.name,
                    fingerprint=codes.fingerprint(person.principal),
                    enrolled_at=person.since,
                    connected=self.links.of(person.principal) > 0,
                )
                for person in self.enrolment.members()
            ]
        )

    async def kick(self, person: str) -> t.KickedFromRelay:
        found = self.enrolment.find(person)
        principal: PrincipalId = found.principal
        await self.enrolment.put_out(principal)
        links = self.links.of(principal)
        self.links.end(principal)
        ended = await self.engine.people.take_away(principal)
        return t.KickedFromRelay(
            person=principal,
            name=found.name,
            links=links,
            memberships=ended.memberships,
            keys=ended.keys,
            join_secret_file=str(self.enrolment.secret_file),
        )

    async def backup(self, file: str) -> t.RelayBackedUp:
        if self.copy_store is None:
            raise ParlerError(
                "backup_elsewhere",
                f"The rooms of this relay are in {self.kept}, which is backed up with PostgreSQL's own tools.",
                folder=str(self.home.root),
            )
        size = await trio.to_thread.run_sync(back_up, self.home, self.copy_store, Path(file))
        return t.RelayBackedUp(file=file, bytes=size)

    async def stop(self) -> t.RelayStopping:
        await trio.lowlevel.checkpoint()
        self.begin_stop()
        return t.RelayStopping(pid=os.getpid())
