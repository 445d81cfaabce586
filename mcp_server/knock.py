"""The session key that a window came with in its environment: the window knocks with it, once.

Above: `window`. Below: the engine's `session.join`. Invariant: the key is never said, and no refusal is raised: what
becomes of it stands in notices and in the answers of calls that need a session.
"""

from __future__ import annotations

import trio

from parlerd.core.errors import ParlerError
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t


class Knock:
    """The key of one window; '' for none."""

    def __init__(self, engine: EngineFace, caller: Caller, session_key: str) -> None:
        self._engine = engine
        self._caller = caller
        # The key, until it was tried or proved to be another window's.
        self._key = session_key
        # Held while the key is being tried.
        self._trying = trio.Lock()
        # Why the key was not accepted, until the reader was told.
        self.refusal = ""

    def forget(self) -> None:
        """The key is not this window's: its process has the environment of another one."""
        self._key = ""

    async def knock(self) -> None:
        """Try the key, if there is one. It asks for no page: nobody would see it, and the context comes with the first
        read."""
        if not self._key:
            return
        async with self._trying:
            if not self._key:
                return
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
