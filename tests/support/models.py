"""A model at one window of the real engine: what a test makes it call, and every text that reached it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import trio
import trio.testing

from mcp_server.window import Window
from parlerd.operations import types as t
from parlerd.operations.traits import UNMEASURED, HostTraits
from tests.support.engine import Party, Served

_FENCED: Final = re.compile(r"\[peer (\w+)[^\]\n]*\]\n.*?\n\[end \1\]", re.DOTALL)


def outside(text: str) -> str:
    """What stands outside every fence."""
    return _FENCED.sub("", text)


class NoForm:
    """A host without forms: asking its person is a fault of the test."""

    offered = False

    async def ask_code(self, about: str, message: str) -> str | None:
        raise AssertionError(message)


class Model:
    """Makes calls one after the other. `seen` is each answer's text, all of which reached the model."""

    def __init__(self, served: Served, party: Party, traits: HostTraits = UNMEASURED) -> None:
        self.party = party
        self.window = Window(served.engine, party.caller, traits=traits)
        self.seen: list[str] = []
        self._requests = 0

    async def call(self, tool: str, **arguments: Any) -> str:
        self._requests += 1
        request = self._requests
        answer = await self.window.call_tool(request, tool, arguments, NoForm())
        self.window.settled(request, written=True)
        self.seen.append(answer.text)
        return answer.text


async def model(served: Served, name: str, traits: HostTraits = UNMEASURED) -> Model:
    """A model in a window of its own, in a workspace of that name."""
    return Model(served, await served.window(name, workspace=f"/home/sam/{name}"), traits)


async def let_in(served: Served, opened: t.OpenedSession, joiner: Model) -> str:
    """It knocks, the person lets it in, and it joins: the text of that join."""
    await joiner.call("parler_join_session", key=opened.session_key)
    await (await served.person()).approve((await joiner.party.whoami()).id, room=opened.room)
    return await joiner.call("parler_join_session", key=opened.session_key)


@dataclass(frozen=True, slots=True)
class Pair:
    """A room that alice opened, and bob's window."""

    alice: Party
    bob: Model
    opened: t.OpenedSession


async def pair(served: Served) -> Pair:
    """Alice opens `auth` without a recap, and bob is let in."""
    two = await at_the_door(served)
    await let_in(served, two.opened, two.bob)
    return two


async def at_the_door(served: Served) -> Pair:
    """Alice opens `auth` without a recap, and bob knocks."""
    alice = await served.agent("alice")
    opened = await alice.open("auth", context="")
    bob = await model(served, "bob")
    await bob.call("parler_join_session", key=opened.session_key)
    return Pair(alice, bob, opened)


@asynccontextmanager
async def waits(waiter: Model, **arguments: Any) -> AsyncIterator[trio.Event]:
    """It waits in `parler_recv`; the event is set at once when an act inside of the block ends the wait. At the end of
    the block the wait is over."""
    answered = trio.Event()

    async def wait() -> None:
        await waiter.call("parler_recv", wait_secs=40, **arguments)
        answered.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        yield answered
        nursery.cancel_scope.cancel()


async def ended(answered: trio.Event) -> bool:
    """Whether the wait ended by what was done until now."""
    await trio.testing.wait_all_tasks_blocked()
    return answered.is_set()
