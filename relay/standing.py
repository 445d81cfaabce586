"""Where a relay stands while it runs: its address, its certificate and its door.

A machine that gets its address from the network may get another one. The relay then takes the new address, with a
certificate for it and another door over the same links. It also listens at the loopback, where the daemons of its own
machine find it whatever becomes of the network. Not here: which address a place means (`place`), and links. Above: the
relay's program. Below: `door`, `certificate`. Invariant: what is told as an address is one that the relay listens at
and that is not of this machine alone.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import Millis
from parlerd.engine.ports import SharedCounts
from parlerd.paths import Home
from relay import certificate as certificates
from relay import place as places
from relay.door import Answers, Door, Secured, Serves
from relay.network import HERE, Network, spelled
from relay.place import Place
from relay.turnstile import Limits

log = logging.getLogger("relay")

LOOK_S: Final = 10.0
"""How often the relay looks whether its address is still there and its certificate due. A look takes under a
millisecond."""


class Standing:
    """Where the relay stands now: its address, its certificate and its door, which change while it runs."""

    def __init__(
        self,
        home: Home,
        place: Place,
        network: Network,
        now: Callable[[], Millis],
        *,
        limits: Limits | None = None,
        is_ready: Callable[[], bool] = lambda: True,
        web: Answers | None = None,
        counts: SharedCounts | None = None,
    ) -> None:
        self._home = home
        self._place = place
        self._network = network
        self._now = now
        self._address = ""
        """The address that the relay listens at; empty while this machine has none for it."""
        self._listeners: list[trio.SocketListener] = []
        self._certificate: certificates.Certificate | None = None
        self._secured: Secured | None = None
        self._limits = limits
        self._is_ready = is_ready
        self._web = web
        """What answers over HTTP."""
        self._counts = counts
        """What is counted together with other relays, where there may be some."""
        self._door: Door | None = None
        """Takes connections in at the address; None while there is none."""

    def addresses(self) -> list[str]:
        return [spelled(self._address, self._place.port)] if self._address else []

    def secured(self) -> Secured | None:
        """The certificate that is served now."""
        return self._secured

    @property
    def authority(self) -> bytes:
        """The certificate of the relay's own authority, as PEM, for clients that want to trust it; nothing before the
        relay has one."""
        return b"" if self._certificate is None else self._certificate.authority

    @property
    def unproven(self) -> int:
        """How many connections are not proven yet."""
        return 0 if self._door is None else self._door.unproven

    async def open(self) -> None:
        """Listen at the address of this moment. Raises `ParlerError`: `no_address`, `port_taken`."""
        address = places.resolve(self._network, self._place)
        self._certify(address)
        self._listeners = await listen(address, self._place.port)
        self._address = address
        if address != HERE:
            self._listeners += await self._listen_here()

    async def _listen_here(self) -> list[trio.SocketListener]:
        """Listen for this machine alone; nothing where another program has that port of the loopback."""
        try:
            return await listen(HERE, self._place.port)
        except ParlerError as error:
            log.warning("the loopback: %s", error.code)
            return []

    async def serve(self, links: Serves) -> None:
        """Serve at the address, and at another one when it changes, until cancelled or drained."""
        while True:
            self._door = Door(
                links,
                self._web,
                secured=lambda: self._secured,
                is_ready=self._is_ready,
                limits=self._limits,
                counts=self._counts,
            )
            with trio.CancelScope() as moved:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, moved)
                    await self._door.serve(self._listeners)
                    nursery.cancel_scope.cancel()
                    return  # drained
            log.warning("the address is another one now")
            self._address, self._door = "", None
            await self._open_somewhere()

    async def _open_somewhere(self) -> None:
        """Listen at the address of this moment, or else for this machine alone; wait while neither can be."""
        while True:
            try:
                return await self.open()
            except ParlerError as error:
                log.warning("no address now: %s", error.code)
            if listeners := await self._listen_here():
                self._listeners = listeners
                return None
            await trio.sleep(LOOK_S)

    async def drain(self, links: Serves) -> None:
        if self._door is not None:
            await self._door.drain()
        else:
            await links.drain()

    async def _watch(self, moved: trio.CancelScope) -> None:
        while True:
            await trio.sleep(LOOK_S)
            try:
                now = places.resolve(self._network, self._place)
            except ParlerError:
                now = ""
            if now != self._address:
                moved.cancel()
                return
            if self._certificate is not None and self._now() >= self._certificate.renew_at:
                self._certify(now or HERE)

    def _certify(self, address: str) -> None:
        made = certificates.keep(self._home.root / "tls", {address, HERE}, self._now())
        self._certificate = made
        self._secured = Secured(made.context(), made.digest)


async def listen(address: str, port: int) -> list[trio.SocketListener]:
    """Listen at an address. Raises `ParlerError`: `port_taken`, `no_address`."""
    try:
        return await trio.open_tcp_listeners(port, host=address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ParlerError("port_taken", f"Another program has the port {spelled(address, port)}.") from None
        if error.errno == errno.EACCES:
            raise ParlerError("port_taken", f"This user may not listen on port {port}.") from None
        raise ParlerError("no_address", f"{address} cannot be used: {error.strerror}.") from error
