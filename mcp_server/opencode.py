"""Wakes an idle session of OpenCode or Kilo through the server that the person runs: `POST /session/ID/prompt_async`.

    ring -> sessions of the window's directory -> the root that was updated last -> is it idle -> one line as a prompt

Not here: when to ring (`ringing.watch`), whether a turn may begin (`parlerd.engine.waking`). Above: `ringing`. Below:
`http.client` in a thread, which follows no redirect and knows no proxy. Invariants: nothing but the line is put into a
session, and none of another directory gets it; whatever the server does costs one wake, a bounded time and a bounded
amount of memory.

Source: `GET /doc` of OpenCode 1.18.33. Kilo 7.7.9 came from its code and answers the same.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
import trio

from parlerd.engine.callers import Caller

log = logging.getLogger("parlerd.mcp")

RING_S: Final = 20.0
"""For all that is asked of the server for one wake."""
MAX_ANSWER: Final = 4 * 1024 * 1024
"""Bytes of one answer. Ten sessions are some kilobytes; a session may carry a summary of its changes."""
LISTED: Final = 10
"""Sessions that are asked for, last updated first: archived ones may stand before the one that is looked for."""
_LOCALHOST: Final = ("127.0.0.1", "::1")


class _Time(msgspec.Struct, frozen=True):
    updated: int
    archived: float | None = None


class _Model(msgspec.Struct, frozen=True):
    id: str
    provider: str = msgspec.field(name="providerID")
    variant: str | None = None


class _Session(msgspec.Struct, frozen=True):
    id: Annotated[str, msgspec.Meta(pattern=r"\Ases[A-Za-z0-9_-]{1,128}\Z")]
    directory: str
    time: _Time
    parent: str | None = msgspec.field(name="parentID", default=None)
    agent: str | None = None
    model: _Model | None = None


class _Status(msgspec.Struct, frozen=True):
    type: str


class _StatusError(Exception):
    """The server answered with another status than the one that means yes."""


class OpenCodeServer:
    """The server at `url`, `http://` and a loopback address with a port, as `parlerd.settings` lets it be."""

    def __init__(self, url: str, name: str = "OpenCode") -> None:
        self._url = url
        self._name = name

    def address(self, window: Caller, directory: str) -> str:
        """OpenCode starts its MCP servers once for each directory, and in it."""
        return directory if window.facts.workspace else ""

    async def ring(self, address: str, line: str) -> bool:
        """Prompt the session of the directory `address` that was updated last. False: it is at work, ask later."""
        visit = _Visit(self._url, address)
        try:
            with trio.fail_after(RING_S):
                return await trio.to_thread.run_sync(visit.prompt, line, abandon_on_cancel=True)
        except trio.TooSlowError:
            log.warning("%s's server did not answer within %.0f s", self._name, RING_S)
        except _StatusError as error:
            log.warning("%s's server answered with status %s", self._name, error)
        except (OSError, http.client.HTTPException, msgspec.MsgspecError, ValueError, RecursionError) as error:
            # Only the name of the error is logged: its text may hold words of the server.
            log.warning("%s's server cannot be asked: %s", self._name, type(error).__name__)
        finally:
            visit.stop()
        return True


class _Visit:
    """What is asked of the server for one wake, in a thread of its own."""

    def __init__(self, url: str, directory: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host = parts.hostname
        self._port = parts.port
        self._directory = directory
        self._socket: socket.socket | None = None
        self._stopped = False

    def stop(self) -> None:
        """End the thread's wait. The thread looks at the flag after it has set the socket, so one of both ends it."""
        self._stopped = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it has ended already
                self._socket.shutdown(socket.SHUT_RDWR)

    def prompt(self, line: str) -> bool:
        """Whether this wake is over."""
        listed = self._ask("GET", "/session", {"roots": "true", "limit": str(LISTED)})
        fitting = [
            session
            for session in msgspec.json.decode(listed, type=list[_Session])
            if session.directory == self._directory and session.parent is None and session.time.archived is None
        ]
        if not fitting:
            return True
        session = max(fitting, key=lambda each: each.time.updated)
        # The server lists the sessions that are at work; one that is idle is not among them.
        states = msgspec.json.decode(self._ask("GET", "/session/status"), type=dict[str, _Status])
        if session.id in states and states[session.id].type != "idle":
            return False
        self._ask("POST", f"/session/{session.id}/prompt_async", body=msgspec.json.encode(_prompt(session, line)))
        return True

    def _ask(self, method: str, path: str, query: dict[str, str] | None = None, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.sock = self._connected()
        self._socket = connection.sock
        try:
            if self._stopped:
                raise ConnectionAbortedError
            words = urlencode({"directory": self._directory, **(query or {})})
            headers = {"Accept": "application/json", "Content-Type": "application/json", "Connection": "close"}
            connection.request(method, f"{path}?{words}", body, headers)
            answer = connection.getresponse()
            if answer.status != (200 if method == "GET" else 204):
                raise _StatusError(answer.status)
            data = answer.read(MAX_ANSWER + 1)
            if len(data) > MAX_ANSWER:
                raise http.client.HTTPException
            return data
        finally:
            connection.close()

    def _connected(self) -> socket.socket:
        """A connection to the loopback, whatever `localhost` is made to mean. From here on `stop` is the time limit: a
        timeout of the socket's would begin anew with each byte."""
        *others, last = _LOCALHOST if self._host == "localhost" else (self._host,)
        for host in others:
            with contextlib.suppress(ConnectionRefusedError):
                return self._connected_to(host)
        return self._connected_to(last)

    def _connected_to(self, host: str) -> socket.socket:
        connected = socket.create_connection((host, self._port), RING_S)
        connected.settimeout(None)
        return connected


def _prompt(session: _Session, line: str) -> dict[str, Any]:
    """The line, for the agent and model that the session has: another agent of OpenCode may be allowed more."""
    prompt: dict[str, Any] = {"parts": [{"type": "text", "text": line}]}
    if session.agent is not None:
        prompt["agent"] = session.agent
    if session.model is not None:
        prompt["model"] = {"providerID": session.model.provider, "modelID": session.model.id}
        if session.model.variant is not None:
            prompt["variant"] = session.model.variant
    return prompt
