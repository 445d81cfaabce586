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
from websockets.protocol import State
from websockets.uri import WebSocketURI

from parlerd.connections.stream import MessageStream
from parlerd.connections.transport import Transport
from parlerd.connections.websocket import QUIET, WebSocketStream
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
        stream = await _open(parse(address))
        try:
            yield stream
        finally:
            await stream.close()


async def _open(where: Address) -> WebSocketStream:
    """A WebSocket that is open. Raises `ParlerError` `home_unreachable`."""
    said = "The relay did not answer in time."
    with trio.move_on_after(DIAL_SECONDS):
        try:
            transport = Transport(await trio.open_tcp_stream(where.host, where.port))
            try:
                certificate = b""
                if where.is_secure:
                    shown = await transport.secure(_context(), is_server=False)
                    certificate = hashlib.sha256(shown).digest()
                return await _upgraded(transport, where, certificate)
            except BaseException:
                transport.close()
                raise
        except OSError as error:
            said = _why(error)
        except (WebSocketException, EOFError):
            said = "What answers at this address is no relay."
    raise ParlerError("home_unreachable", said)


def _why(error: OSError) -> str:
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


async def _upgraded(transport: Transport, where: Address, certificate: bytes) -> WebSocketStream:
    # Made by hand and not by `websockets.connect`, which follows redirects and asks the environment for a proxy.
    protocol = ClientProtocol(
        WebSocketURI(where.is_secure, where.host, where.port, LINK_PATH, ""),
        max_size=FIRST_FRAME_LIMIT + PREFIX,
        logger=QUIET,
    )
    protocol.send_request(protocol.connect())
    for data in protocol.data_to_send():
        transport.write(data)
    await transport.flushed()
    while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        if data := await transport.receive():
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
    if protocol.handshake_exc is not None:
        raise protocol.handshake_exc
    return WebSocketStream(transport, protocol, certificate, protocol.events_received())
