"""How a window comes in before its model asks for anything: by the start that the person made with `parler bring`, or
with the session key in its environment. Each is tried once.

Above: `window`. Below: the engine's `window.arrive` and `session.join`. Invariant: the key is never said, and no
refusal is raised: what becomes of it stands in notices and in the answers of calls that need a session.
"""

from __future__ import annotations

import trio

from parlerd.core.errors import ParlerError
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t


class Knock:
    """The way in of one window. Its key is '' for none."""

    def __init__(self, engine: EngineFace, caller: Caller, session_key: str) -> None:
        self._engine = engine
        self._caller = caller
        # The key, until it was tried or proved to be another window's.
        self._key = session_key
        # Whether the engine may still know of a start that led to this window.
        self._may_arrive = True
        # Held while a way in is being tried.
        self._trying = trio.Lock()
        # Why the way in was refused, until the reader was told.
        self.refusal = ""

    def forget(self) -> None:
        """The key is not this window's: its process has the environment of another one."""
        self._key = ""

    async def knock(self) -> None:
        """Try what was not tried yet. A knock with the key asks for no page: nobody would see it, and the context comes
        with the first read."""
        if not (self._key or self._may_arrive):
            return
        async with self._trying:
            if self._may_arrive:
                await self._arrive()
            if self._key:
                await self._knock()

    async def _arrive(self) -> None:
        try:
            await self._engine.call("window.arrive", t.Arrive(), self._caller)
            self._may_arrive = False
        except ParlerError as error:
            self._may_arrive = error.spec.retryable
            self.refusal = f"Your user's `parler bring` could not let you in: {error.code}: {error.message}"

    async def _knock(self) -> None:
        try:
            await self._engine.call("session.join", t.JoinSession(session_key=self._key, limit=0), self._caller)
            self._key = ""
        except ParlerError as error:
            if not error.spec.retryable:
                # What may work later is tried again at the next call.
                self._key = ""
            self.refusal = f"PARLER_SESSION_KEY was not accepted: {error.code}: {error.message}"
            if error.code == "needs_person":
                self.refusal += f" {error.hint}"
