"""What the engine needs from outside: a clock, fresh ids, random bytes, signatures, somebody who wakes those that wait,
an eye on the settings of agent hosts, the homes elsewhere, and the frames of the socket.

The real ones are built by `parlerd.daemon` and `engine`; tests pass counted and frozen ones. Two ports stand where what
they need stands: the store with its driver (`driver`), and who writes a message's envelope (`authors`). Every port has
a contract suite.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import trio

from parlerd.core.errors import Refused
from parlerd.core.model import LOCAL_HOME, AgentId, HomeId, KeyId, Millis, PrincipalId, RequestId, RoomId
from parlerd.core.topics import Topic
from parlerd.identity.signatures import Domain
from parlerd.operations import types as t
from parlerd.store.counts import Ask, Drawn, KeptBytes
from parlerd.store.relays import Tenure

_TIME_MASK = (1 << 40) - 1
_RANDOM_BYTES = 7
_POOL_BYTES = 4096


class Clock(Protocol):
    def now(self) -> Millis:
        """The wall clock, in epoch milliseconds. It may step; room time never goes back."""
        ...


class Ownership(Protocol):
    """Which rooms are decided in by this process, where several share one store. The home's own room is an exception:
    each of them may decide there, because that is seldom, and the position of its log says who was faster."""

    def has(self, room: RoomId) -> bool:
        """Whether the room is this process's."""
        ...

    def tenure(self, room: RoomId) -> Tenure | None:
        """The right with which it decides there; None where none is asked for. Raises `Refused(room_moved)` for a room
        that is another's."""
        ...


class AllRooms:
    """A process that has its store for itself."""

    def has(self, room: RoomId) -> bool:
        return True

    def tenure(self, room: RoomId) -> Tenure | None:
        return None


class SharedCounts(Protocol):
    """What is counted once for all processes that share a store (`parlerd.store.counts`). Every method raises
    `StoreError`."""

    async def draw(self, asks: Sequence[Ask]) -> Drawn: ...

    async def give(self, asks: Sequence[Ask]) -> None: ...

    async def forget(self, names: Sequence[str]) -> None: ...

    async def keep(self, changes: Mapping[PrincipalId, int], since: float) -> KeptBytes: ...

    async def correct(self, changes: Mapping[PrincipalId, int], counting: int) -> bool: ...


class Randomness(Protocol):
    """Fresh ids for the core, and raw bytes for nonces and codes."""

    def new(self, prefix: str) -> str: ...

    def bytes(self, count: int) -> bytes: ...


class Waiter(Protocol):
    """Waits for topics. Use it as a context manager; `clear`, look, then `wait`: what is published between the look and
    the wait is not missed."""

    def __enter__(self) -> Waiter: ...

    def __exit__(self, *_: object) -> None: ...

    def add(self, topics: Iterable[Topic]) -> None:
        """Wait for these topics too. Only while it is entered."""
        ...

    def keep(self, topics: AbstractSet[Topic]) -> None:
        """Wait for nothing but these, of the topics that were named before."""
        ...

    def wake(self) -> None:
        """Wake this waiter as if one of its topics had been published."""
        ...

    def clear(self) -> None:
        """Forget earlier wakes. Look at the state after this, not before."""
        ...

    @property
    def woken(self) -> bool:
        """Whether something was published since the last `clear`."""
        ...

    async def wait(self) -> None:
        """Until one of the topics is published; at once if one was since the last `clear`."""
        ...


class Notifier(Protocol):
    """Wakes whoever waits for something that changed. `notifier.LocalNotifier` does so within one process; where
    several processes serve one store, each has to be told what the others stored."""

    def listen(self, *topics: Topic) -> Waiter:
        """A waiter for any of `topics`."""
        ...

    def hear(self, topic: Topic, told: Callable[[], None]) -> Callable[[], None]:
        """Call `told` whenever `topic` is published, in that turn of the loop, until what this gives is called. `told`
        raises nothing and publishes nothing."""
        ...

    def publish(self, topics: Iterable[Topic]) -> None:
        """Wake every waiter of these topics."""
        ...

    def wake_all(self) -> None:
        """Wake everyone: the daemon drains, or rooms became another process's."""
        ...


class HomeKeys(Protocol):
    """What a home needs to keep rooms: its name among homes, and the secrets from which its codes follow. A relay has
    these and no key of an agent or a person (`parlerd.identity.relay_keys.RelayKeys`)."""

    @property
    def id(self) -> HomeId: ...

    def key_id(self, session_key: str) -> KeyId: ...

    def session_key(self, room: RoomId, length: int, invite: str = "") -> str: ...

    def binding(self, room: RoomId, session_key: str) -> str:
        """What binds a key to its room on a relay. Takes a fifth of a second on purpose: see `engine.bindings`."""
        ...

    def join_code(self, request: RequestId) -> str: ...

    def opening_secret(self, owner: AgentId, idempotency_key: str) -> bytes:
        """32 bytes that nobody else can guess, the same for the same request: the nonce and the salt of an opening, so
        that a retried opening is the same room."""
        ...

    def hiding_key(self) -> bytes:
        """32 bytes that are this home's alone, under which requests are told apart where the room is sealed."""
        ...

    def sign_note(self, text: str) -> str:
        """The note of a receipt (`identity.notes`), with the home's own signature."""
        ...

    def cursor_key(self) -> bytes:
        """The 32 bytes under which places in logs are told to readers (`engine.cursors`)."""
        ...


class Signers(Protocol):
    """The keys of the person and of the person's agents."""

    @property
    def principal(self) -> PrincipalId: ...

    def create_agent(self) -> AgentId: ...

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes: ...


class Keys(HomeKeys, Signers, Protocol):
    """The keys of a person's home. `parlerd.identity.keyring.KeyRing` is the real one."""


class HostFiles(Protocol):
    """What keeps an eye on the settings files of agent hosts."""

    def look(self) -> None:
        """Somebody changed which hosts are connected: read their settings anew, soon."""
        ...

    def is_connected(self) -> bool:
        """Whether any agent host on this machine starts Parler. Where one does, an answer tells a person to hand a key
        over in words alone."""
        ...

    def notice(self) -> str:
        """One line when an entry of ours is gone, else ''. Names of hosts only."""
        ...

    def failures(self) -> list[tuple[str, str]]:
        """What the watcher tried without success, and what the person can do about it: sentences for `doctor`."""
        ...


class Frames(Protocol):
    """The frames of the local socket, for a person to follow."""

    def follow(self) -> AbstractContextManager[AsyncIterator[t.FrameInfo]]:
        """The frames from now on, as long as the block lasts."""
        ...


class NoSigners:
    """For a home where nobody acts who has a key there: a relay."""

    @property
    def principal(self) -> PrincipalId:
        raise Refused("no_such_agent", "This home has no person.")

    def create_agent(self) -> AgentId:
        raise Refused("no_such_agent", "This home makes no agents.")

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        raise Refused("no_such_agent", "This home has no key for that agent.", agent=id)


class HomeBook(Protocol):
    """The relays that the person added, and how the link to each is. Only these are ever dialled."""

    def listed(self) -> list[t.HomeEntry]:
        """Every relay, in the order in which it was added. None is `local`."""
        ...

    async def add(self, line: str, secret: str) -> t.HomeAdded:
        """Dial the relay that a line names, check its key and the secret, store it and make it the default. Nothing is
        stored where anything does not hold. Raises `Refused`: `invalid_param`, `wrong_relay`, `wrong_secret`,
        `not_enrolled`, `kicked`, `home_unreachable`."""
        ...

    async def remove(self, name: str) -> t.HomeRemoved:
        """End the link and forget the relay of this name or id, with what waits to be sent there. Raises
        `Refused(no_such_home)`."""
        ...

    def choose(self, name: str) -> t.HomeEntry | None:
        """Make a relay the default; None for this machine, which is `local`. Raises `Refused(no_such_home)`."""
        ...


class NoHomeBook:
    """For an engine that reaches no other home."""

    def listed(self) -> list[t.HomeEntry]:
        return []

    async def add(self, line: str, secret: str) -> t.HomeAdded:
        await trio.lowlevel.checkpoint()
        raise Refused("home_not_trusted", "This program reaches no other home.")

    async def remove(self, name: str) -> t.HomeRemoved:
        await trio.lowlevel.checkpoint()
        raise Refused("no_such_home", home=name)

    def choose(self, name: str) -> t.HomeEntry | None:
        if name != LOCAL_HOME:
            raise Refused("no_such_home", home=name)
        return None


class NoFrames:
    """For an engine without a socket."""

    @contextmanager
    def follow(self) -> Iterator[AsyncIterator[t.FrameInfo]]:
        send, receive = trio.open_memory_channel[t.FrameInfo](0)
        with send:
            yield receive


class NoHostFiles:
    """For an engine beside which no host is connected."""

    def look(self) -> None:
        """There is nothing to look at."""

    def is_connected(self) -> bool:
        return False

    def notice(self) -> str:
        return ""

    def failures(self) -> list[tuple[str, str]]:
        return []


class WallClock:
    """The machine's clock."""

    def now(self) -> Millis:
        return Millis(time.time_ns() // 1_000_000)


class SystemRandomness:
    """The operating system's randomness, asked for a page at a time: a message takes four small pieces, and a call
    each costs as much as deciding it. Used on the loop's thread alone."""

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0

    def new(self, prefix: str) -> str:
        # The time comes first: ids that sort by age land on the same pages of an index, and a commit writes half as
        # much (measured: 189 to 116 pages for 50 messages). An id tells when it was drawn, and everyone who may see the
        # id is told that anyway.
        age = time.time_ns() // 1_000_000 & _TIME_MASK
        return f"{prefix}_{age:010x}{self.bytes(_RANDOM_BYTES).hex()}"

    def bytes(self, count: int) -> bytes:
        if count > _POOL_BYTES:
            return secrets.token_bytes(count)
        if self._used + count > len(self._pool):
            self._pool, self._used = secrets.token_bytes(_POOL_BYTES), 0
        drawn = self._pool[self._used : self._used + count]
        self._used += count
        return drawn
