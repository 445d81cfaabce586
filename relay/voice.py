"""What this relay has for agents that have no key: its own signature over what they say and the rooms
that they open, and where it answers them.

Not here: whom it may speak for, which the rooms decide (`engine.granting`). Above: the relay's program. Below: the
relay's key, and where it stands. Invariant: the key signs envelopes under `parler/admitted` and openings
of rooms under `parler/opened`, and nothing else here.
"""

from __future__ import annotations

import trio

from parlerd.core.errors import Refused
from parlerd.identity.relay_keys import RelayKeys
from relay.standing import Standing


class Voice:
    """One relay's. It stands nowhere until the program says where."""

    lets_in = False
    """Whether a program that has no token may open a room, and come into one."""

    def __init__(self, keys: RelayKeys) -> None:
        self._keys = keys
        self.standing: Standing | None = None
        """Where the relay stands; None before it does."""

    def admit(self, body: bytes) -> bytes:
        return self._keys.sign("parler/admitted", body)

    def admit_room(self, body: bytes) -> bytes:
        return self._keys.sign("parler/opened", body)

    @property
    def address(self) -> str:
        addresses = [] if self.standing is None else self.standing.addresses()
        return addresses[0] if addresses else ""

    @property
    def authority(self) -> str:
        return "" if self.standing is None else self.standing.authority.decode("ascii")

    @property
    def url(self) -> str | None:
        """Where it answers over HTTP; None where it does not now."""
        return f"https://{self.address}" if self.address else None

    async def open(self, port: int, *, lets_in: bool) -> str:
        raise Refused("unknown_operation", operation="http.serve")

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
