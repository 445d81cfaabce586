"""Dials a relay: TCP, TLS, then a WebSocket, as one message stream.

The name and the issuer of the relay's certificate are not looked at: a link trusts the relay's key alone, and the
handshake (`connection`) finds out whether that key stands behind the certificate that was shown. The environment's
proxy is not asked and no redirect is followed, because a link goes where the person said and nowhere else. Not here:
which address to dial and when. Above: `connection` and the rest of this package. Below: `identity.join_line` for the
spelling of an address, `connections.websocket`, and the client of `websockets`. Invariant: whatever fails here is
`home_unreachable`, and leaves no task and no socket.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import trio
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.trio.client import ClientConnection
from websockets.uri import WebSocketURI

from parlerd.connections.stream import MessageStream
from parlerd.connections.websocket import KEEPING, QUIET, WebSocketStream
from parlerd.core.errors import ParlerError, Refused
from parlerd.identity import join_line
from parlerd.wire.frames import FIRST_FRAME_LIMIT, PREFIX

DIAL_SECONDS: Final = 10.0
"""How long it may take until the WebSocket is open."""
LINK_PATH: Final = "/link"


class Dialer(Protocol):
    """How to come to a relay. `WebSocketDialer` is the real one; tests hand out streams in memory."""

    def dial(self, address: str) -> AbstractAsyncContextManager[MessageStream]:
        """A stream to the relay at `address` (`host:port`, with or without `wss://` in front), until the block ends.
        Raises `ParlerError` `home_unreachable`."""
        ...


class Address(NamedTuple):
    """Where a relay is."""

    host: str
    port: int
    is_secure: bool


def parse(text: str) -> Address:
    """An address as it is stored and told. Raises `ParlerError` `home_unreachable` for what is none."""
    try:
        parts = urlsplit(join_line.parse_address(text if "://" in text else f"wss://{text}"))
    except Refused:
        raise ParlerError("home_unreachable", "That is not an address of a relay.") from None
    assert parts.hostname is not None
    assert parts.port is not None
    return Address(parts.hostname, parts.port, parts.scheme == "wss")


class WebSocketDialer:
    """Dials over the network."""

    @asynccontextmanager
    async def dial(self, address: str) -> AsyncIterator[MessageStream]:
        """See `Dialer`."""
        where = parse(address)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            try:
                stream = await _open(nursery, where)
                try:
                    yield stream
                finally:
                    await stream.close()
            except Exception as error:
                # Raised again outside the nursery, which would wrap it in a group.
                failure = error
            finally:
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


async def _open(nursery: trio.Nursery, where: Address) -> WebSocketStream:
    """A WebSocket that is open, whose tasks run in `nursery`. Raises `ParlerError` `home_unreachable`."""
    said = "The relay did not answer in time."
    with trio.move_on_after(DIAL_SECONDS):
        try:
            transport: trio.abc.Stream = await trio.open_tcp_stream(where.host, where.port)
            certificate = b""
            try:
                if where.is_secure:
                    transport, certificate = await _secured(transport)
                return await _upgraded(nursery, transport, where, certificate)
            except BaseException:
                await trio.aclose_forcefully(transport)
                raise
        except (OSError, trio.BrokenResourceError) as error:
            said = _why(error)
        except (WebSocketException, EOFError):
            said = "What answers at this address is no relay."
    raise ParlerError("home_unreachable", said)


async def _secured(transport: trio.abc.Stream) -> tuple[trio.abc.Stream, bytes]:
    """TLS over a stream, and the digest of the certificate that was shown."""
    secured = trio.SSLStream(transport, _context(), https_compatible=True)
    await secured.do_handshake()
    shown = secured.getpeercert(binary_form=True)
    assert shown is not None  # a TLS server always shows one
    return secured, hashlib.sha256(shown).digest()


def _why(error: Exception) -> str:
    """Why nobody was reached. The text of such an error may hold what the other side sent, so its kind alone counts."""
    cause = error.__cause__
    # One attempt for each address that a name stands for.
    attempts = cause.exceptions if isinstance(cause, ExceptionGroup) else (error,)
    numbers = {each.errno for each in attempts if isinstance(each, OSError)}
    if any(isinstance(each, socket.gaierror) for each in attempts):
        return "No machine of this name is known here."
    if numbers == {errno.ECONNREFUSED}:
        return "The machine at this address answers, and no relay runs there on this port."
    if numbers <= {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}:
        return "No machine answers at this address."
    return "The relay could not be reached."


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The relay's key is checked, and not the name or the issuer of its certificate: see the head of this module.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


async def _upgraded(
    nursery: trio.Nursery, transport: trio.abc.Stream, where: Address, certificate: bytes
) -> WebSocketStream:
    # Made by hand and not by `websockets.connect`, which follows redirects and asks the environment for a proxy.
    protocol = ClientProtocol(
        WebSocketURI(where.is_secure, where.host, where.port, LINK_PATH, ""),
        max_size=FIRST_FRAME_LIMIT + PREFIX,
        logger=QUIET,
    )
    connection = ClientConnection(nursery, transport, protocol, **KEEPING)
    await connection.handshake(user_agent_header=None)
    connection.start_keepalive()
    return WebSocketStream(connection, certificate)
