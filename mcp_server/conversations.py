"""The conversations of one connection: the window's own, and a further one for each that the host's calls name.

    session -> Conversations.of_call(_meta) -> Window     introduced -> which host, and which conversation this is

Some hosts keep several conversations in one process and name the conversation in each call. Each has a `Window` of its
own and acts as an agent of its own. Not here: JSON-RPC (`session`), what a window does (`window`). Above: `session`.
Invariants: which host a window is of, and which conversation, is settled before it acts as anybody; of a server that
several windows share, the environment is not believed, because it is that of the first window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import trio

from mcp_server.forms import Forms
from mcp_server.repeats import REPLAY_SECONDS, CallId, lost_writes
from mcp_server.ringing import NO_BELLS, Bell, watch
from mcp_server.sighting import Lookout, Lookouts
from mcp_server.window import LONGEST, Window, as_named
from parlerd.core.model import Millis, label, slug
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t
from parlerd.operations.traits import UNMEASURED, HostTraits
from parlerd.wire.messages import Hello

MAX_CONVERSATIONS: Final = 64
"""Further conversations of one window that are kept at once."""
_NO_TRAITS: Final[Mapping[str, HostTraits]] = {}


def _no_words(pid: int) -> Sequence[str]:
    """For hosts of which nobody looks at the command line."""
    del pid
    return ()


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sessions of a daemon share."""

    engine: EngineFace
    workspace_of: Callable[[str], Awaitable[str]] = as_named
    """Finds the work tree around a directory."""
    bells: Mapping[str, Bell] = field(default_factory=lambda: NO_BELLS)
    """Wake idle conversations, by host."""
    wait_max_ms: Millis = LONGEST
    """What one call waits at most."""
    traits: Mapping[str, HostTraits] = field(default_factory=lambda: _NO_TRAITS)
    """What each known host does with our answers."""
    words_of: Callable[[int], Sequence[str]] = _no_words
    """Gives the command line of a process."""
    lookouts: Lookouts | None = None
    """Watches the records of the hosts for which the person asked for it."""
    forms: Forms = field(default_factory=Forms)
    """The forms that are open in all windows."""

    def host_named(self, client: str) -> str | None:
        """The host whose client calls itself that, if it is a known one."""
        for host, traits in self.traits.items():
            for name in traits.clients:
                if client == name or (name.endswith("*") and client.startswith(name[:-1])):
                    return host
        return None


class Conversations:
    """The windows of one connection. `caller` and `hello` are the connection's."""

    def __init__(self, shared: Shared, caller: Caller, hello: Hello) -> None:
        self._shared = shared
        self._caller = caller
        self._hello = hello
        # Which version of the host the client says it is.
        self._version = ""
        # When the connection began: lost calls are remembered from here on.
        self._began = trio.current_time()
        # The connection's own conversation, and those that calls named besides, the one that was used last at the end.
        self.own = self._window_for(caller, session_key=hello.session_key)
        self._further: dict[str, Window] = {}
        # Held while a further conversation is opened.
        self._opening = trio.Lock()
        # The conversations for which somebody listens whether the host's bell is to ring.
        self._watched: set[Window] = set()

    @property
    def traits(self) -> HostTraits:
        """What the connection's host does with our answers."""
        return self._shared.traits.get(self._caller.facts.host, UNMEASURED)

    async def end(self) -> None:
        """The further conversations end with their connection, and the host writes down nothing more."""
        for window in (self.own, *self._further.values()):
            if window.lookout is not None:
                window.lookout.ended()
        with trio.CancelScope(shield=True):
            for window in self._further.values():
                await self._shared.engine.disconnect(window.caller)

    def settled(self, request: CallId, *, written: bool) -> None:
        """A call was answered or withdrawn, in whichever conversation it was made."""
        for window in (self.own, *self._further.values()):
            window.settled(request, written=written)

    async def knock(self) -> None:
        """Come in by the start or with the key that the window came with. Where calls name their conversation, the
        first of them says who comes, so nobody does before that call."""
        if not self.traits.conversation_meta:
            await self.own.knock()

    # -- whose it is -------------------------------------------------------------------------------------------

    async def introduced(self, client: object) -> None:
        """Take what the client says of itself. It wins over the `--host` of the file that started the shim, which may
        be another host's, because hosts read each other's files; without `--host` the client's name is the host's.
        Source: hosts spec."""
        name = client.get("name") if isinstance(client, dict) else None
        if not isinstance(name, str):
            return
        host = self._shared.host_named(name)
        if host is None and not self._caller.facts.host:
            host = slug(name, fallback="unknown")
        if host is not None:
            await self._shared.engine.call("window.introduce", t.Introduce(host=host), self._caller)
        version = client.get("version") if isinstance(client, dict) else None
        self._version = version if isinstance(version, str) else ""
        self._place()
        self.own.traits = self.traits
        self.own.lookout = lookout = self._lookout_for(self.own.caller)
        if lookout is not None:
            lookout.prepare()

    def _place(self) -> None:
        """Settle which conversation this is, where the host tells by a variable of its own."""
        traits, caller, hello = self.traits, self._caller, self._hello
        if traits.conversation_env:
            caller.facts = replace(
                caller.facts, conversation=hello.conversations.get(traits.conversation_env, "")[:128]
            )
        if caller.facts.conversation and traits.throwaway_with:
            words = self._shared.words_of(hello.ppid)
            if all(any(word in words for word in group) for group in traits.throwaway_with):
                caller.facts = replace(caller.facts, conversation="", continues=True)
        if traits.shares_servers and not traits.conversation_meta:
            caller.facts = replace(caller.facts, as_name="")
            self.own.forget_key()

    # -- which one a call is of --------------------------------------------------------------------------------

    async def of_call(self, params: Mapping[str, Any]) -> Window:
        """The conversation that a call belongs to; one that was not seen before is connected."""
        field = self.traits.conversation_meta
        named = _conversation(params, field) if field else ""
        caller = self._caller
        if named and not caller.facts.conversation and caller.agent is None:
            # The first conversation that calls of a process name is the connection's own.
            caller.facts = replace(caller.facts, conversation=named, is_exact=True)
            self.own.repeats(self._lost_of(named))
        if not named or named == caller.facts.conversation:
            return self.own
        async with self._opening:
            known = self._further.get(named)
            if known is not None:
                self._further[named] = self._further.pop(named)
                return known
            if len(self._further) >= MAX_CONVERSATIONS:
                # Nobody keeps that many at work in one process: the one that was used longest ago is let go.
                gone = self._further.pop(next(iter(self._further))).caller
                caller.siblings.remove(gone)
                await self._shared.engine.disconnect(gone)
            further = self._caller_for(named)
            await self._shared.engine.connect(further)
            caller.siblings.append(further)
            window = self._further[named] = self._window_for(further)
            window.lookout = self._lookout_for(further)
            return window

    def _caller_for(self, conversation: str) -> Caller:
        base = self._caller
        digest = hashlib.sha256(conversation.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        facts = replace(
            base.facts,
            window=label(f"{base.facts.window[:40]}.{digest}") if base.facts.window else "",
            conversation=conversation,
            is_exact=True,
            continues=False,
            below="",
        )
        return Caller(facts)

    def _window_for(self, caller: Caller, session_key: str = "") -> Window:
        return Window(
            self._shared.engine,
            caller,
            self._shared.workspace_of,
            traits=self.traits,
            lost=self._lost_of(caller.facts.conversation),
            lost_until=self._began + REPLAY_SECONDS,
            session_key=session_key,
            wait_max_ms=self._shared.wait_max_ms,
        )

    def _lookout_for(self, caller: Caller) -> Lookout | None:
        shared = self._shared.lookouts
        return None if shared is None else Lookout(shared, caller, self._version, self._hello.places)

    def _lost_of(self, conversation: str) -> dict[tuple[str, bytes], str]:
        """The calls of a conversation whose answer was lost with the last connection; all, where calls name none."""
        field, hello = self.traits.conversation_meta, self._hello
        return lost_writes(
            hello.window,
            hello.unanswered,
            lambda params: not field or _conversation(params, field) in ("", conversation),
        )

    # -- waking ------------------------------------------------------------------------------------------------

    def watch(self, window: Window, nursery: trio.Nursery) -> None:
        """Begin to watch for what the host's bell is to ring for, at the first call after which the bell knows where to
        ring, if the person set one up."""
        caller = window.caller
        bell = self._shared.bells.get(caller.facts.host)
        if bell is not None and window not in self._watched and bell.address(caller, self._hello.cwd):
            self._watched.add(window)
            nursery.start_soon(watch, self._shared.engine, caller, self._hello.cwd, bell)


def _conversation(params: Mapping[str, Any], field: str) -> str:
    """The conversation that a call names, as its host's file says where; empty when it names none."""
    meta = params.get("_meta")
    named = meta.get(field) if isinstance(meta, dict) else None
    return named[:128] if isinstance(named, str) else ""
