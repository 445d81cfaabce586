"""Wakes idle conversations of hosts that offer a way: Codex through `codex queue`, OpenCode and Kilo through their
servers, Qwen Code through its inbox.

    window called a tool -> watch --wake.check--> engine -> a bell rings: one line of counts and ids

Not here: whether a turn may begin and for what (`parlerd.engine.waking`, with its budget), hooks (`hook`), how OpenCode
is asked (`opencode`), and Qwen Code (`qwen`). Above: `session`, which has one watch for each window whose host has a
bell. Below: the host's program or server. Invariants: which program or server that is, is what the person set, never
what a window or a message says; a bell that fails or hangs costs its one wake and nothing else.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

import msgspec
import trio

from mcp_server.stdio.hook import line_of
from parlerd import controller
from parlerd.core.errors import ParlerError
from parlerd.engine.authority import of_hook
from parlerd.engine.callers import Caller, PeerProcess
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t
from parlerd.paths import Home
from parlerd.settings import Settings

log = logging.getLogger("parlerd.mcp")

SLICE_MS: Final = 50_000
PAUSE_S: Final = 10.0
"""Before the engine is asked again after it refused, and a host again whose agent was at work."""
RING_S: Final = 30.0
"""For the host's program to pass a line on."""
_THREAD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")


class Bell(Protocol):
    """A host's own way of beginning a turn in a conversation that nobody looks at."""

    def address(self, window: Caller, directory: str) -> str:
        """Where to ring for a window that was started in `directory`. Empty: nowhere, as far as is known now."""
        ...

    async def ring(self, address: str, line: str) -> bool:
        """Begin one with `line`. False: the agent is at work and cannot be told now. True also when it went wrong."""
        ...


class CodexQueue:
    """`codex queue --thread ID --message LINE --resume --remote ADDRESS`, with a running app-server at the address."""

    def __init__(self, program: str, remote: str) -> None:
        self._program = program
        self._remote = remote

    def address(self, window: Caller, directory: str) -> str:
        """The thread that the window is in."""
        del directory
        return window.facts.conversation

    async def ring(self, address: str, line: str) -> bool:
        """Queue the line for the thread `address`; Codex itself keeps it while the thread is at work."""
        if _THREAD.match(address) is not None:
            await self._queue(address, line)
        return True

    async def _queue(self, thread: str, line: str) -> None:
        command = [
            self._program,
            *("queue", "--thread", thread, "--message", line, "--resume", "--remote", self._remote),
        ]
        environment = {name: os.environ[name] for name in ("HOME", "PATH", "LANG") if name in os.environ}
        with trio.move_on_after(RING_S) as limit:
            try:
                done = await trio.run_process(
                    command,
                    stdin=b"",
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                    cwd="/",
                    env=environment,
                )
            except OSError as error:
                log.warning("codex queue does not start: %s", error.strerror)
                return
            if done.returncode:
                log.warning("codex queue ended with status %d", done.returncode)
        if limit.cancelled_caught:
            log.warning("codex queue did not end within %.0f s", RING_S)


def bells(settings: Settings, home: Home | None = None) -> dict[str, Bell]:
    """The bells that the person set up, by host: in the settings, and in the home."""
    found: dict[str, Bell] = {}
    if settings.wake_codex_program and settings.wake_codex_remote:
        found["codex"] = CodexQueue(settings.wake_codex_program, settings.wake_codex_remote)
    if settings.wake_opencode_server:
        # The HTTP library is imported for those who set this up, because it stays in memory and few people do.
        from mcp_server.opencode import OpenCodeServer

        found["opencode"] = OpenCodeServer(settings.wake_opencode_server)
    if settings.wake_kilo_server:
        from mcp_server.opencode import OpenCodeServer

        found["kilo"] = OpenCodeServer(settings.wake_kilo_server, name="Kilo")
    if home is not None and controller.load(home) is not None:
        from mcp_server.qwen import QwenInbox

        found["qwen"] = QwenInbox(partial(controller.load, home))
    return found


NO_BELLS: Final[Mapping[str, Bell]] = {}


async def watch(engine: EngineFace, window: Caller, directory: str, bell: Bell) -> None:
    """Ring for news of this window's agent, for as long as the window is there: cancelled when it goes."""
    while True:
        found = await _check(engine, window, turn=True)
        if found is None or not found.wake:
            continue
        while not await bell.ring(bell.address(window, directory), line_of(msgspec.to_builtins(found))):
            # The engine counts the news as told by now. If the agent has read it meanwhile, there is nothing to ring
            # for.
            await trio.sleep(PAUSE_S)
            found = await _check(engine, window, turn=False) or found
            if not found.unread and not found.requests:
                break


async def _check(engine: EngineFace, window: Caller, *, turn: bool) -> t.Waiting | None:
    """What waits, for a turn as soon as one may begin; None, after a pause, when the engine refused."""
    facts = replace(
        window.facts,
        via="hook",
        authority=of_hook(window.facts.authority.principal),
        window="",
        is_exact=False,
        continues=False,
        peer=PeerProcess(),
    )
    try:
        found = await engine.call("wake.check", t.WakeCheck(turn=turn, wait_ms=SLICE_MS if turn else 0), Caller(facts))
    except ParlerError as error:
        log.info("a watch pauses: %s", error.code)
        await trio.sleep(PAUSE_S)
        return None
    assert isinstance(found, t.Waiting)
    return found
