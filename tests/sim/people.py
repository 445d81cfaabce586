"""Who takes part in a simulation: agents that say and read things on their own, over whatever their daemon answers.

An agent says one thing after the other: it goes on when the last was acknowledged, and asks again with the same
idempotency key until then. It reads as a command does, which takes a page and acknowledges it, or as a window does,
whose page is acknowledged by its next call and may get lost on its way to the window. What an agent was acknowledged,
and which pages reached it, is what the promises are about (`promises`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol, TypeVar

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import RoomId
from parlerd.operations import types as t
from tests.sim.broken import Broken
from tests.support.engine import Party

R = TypeVar("R")
S = TypeVar("S", bound=t.Result)

PATIENCE_S: Final = 3_600.0
"""Virtual seconds after which an agent that is never answered is a fault: each wait ends."""
KNOCK_S: Final = 600.0
"""Virtual seconds after which whoever asks for something of a relay has to be done: a storm takes some of them."""
QUIET_S: Final = 10.0
"""How long nothing has to come before an agent has read what there is."""
LOCAL_S: Final = 1.0
"""Virtual seconds that a call about what is on this machine may take, however it is with the relay."""
DEAD: Final = frozenset({"store_failed", "draining"})
"""What somebody hears of a daemon that dies meanwhile."""


class Gone(Exception):
    """The daemon died before it answered."""


@dataclass(frozen=True, slots=True)
class Said:
    """Something that an agent was acknowledged."""

    author: str
    text: str
    readers: frozenset[str] | None
    """The only agents that may read it, by name; None for everyone in the room."""
    queued: bool
    """Whether the daemon had it, and not yet the relay."""
    id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that an agent was told nobody will ever read."""

    author: str
    text: str
    readers: frozenset[str] | None
    code: str


@dataclass
class Record:
    """What everyone was told, in the order in which it happened."""

    said: list[Said] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    """What was refused for good."""
    shown: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """For each agent the (author, text) of the pages that reached it."""
    left: set[str] = field(default_factory=set)
    """Who left the room."""
    came_again: set[str] = field(default_factory=set)
    """Who left the room for a while: what they were saying then may have been refused."""
    codes: set[str] = field(default_factory=set)
    """Every code that anybody heard."""
    repeats: int = 0
    """How often somebody asked again who was not answered."""
    local_calls: int = 0
    """How often somebody did something of their own machine."""
    sentences: list[tuple[str, str]] = field(default_factory=list)
    """Who was told what in words of nobody in the room: of errors, hints and notices."""


class Place(Protocol):
    """The daemon of an agent, while it runs."""

    async def ask(self, name: str, call: Callable[[Party], Awaitable[R]], *, in_window: bool = False) -> R:
        """Ask the daemon that runs, or the next one, as this agent: by a command, or in the agent's window. Raises what
        it answers, and `Gone` when it dies meanwhile."""
        ...

    async def hang_up(self, name: str) -> None:
        """The last command of this agent ends, and nobody is connected as it until the next."""
        ...


class Agent:
    """One agent in one room."""

    def __init__(self, name: str, place: Place, record: Record, random: Random) -> None:
        self.name = name
        self.room = ""
        self.others: list[str] = []
        """The other agents of the room, by name."""
        self.leaves_after: int | None = None
        """After how many things it leaves the room; None for one that stays."""
        self.has_window = random.random() < 0.3
        """Whether it reads in a window."""
        self._place = place
        self._record = record
        self._random = random
        self._count = 0
        self._answers = 0
        """How many calls its window made."""
        self._unsure: set[tuple[str, str]] = set()
        """What its window was shown that no later call has acknowledged: shown again where the daemon dies."""
        self._written: tuple[Party | None, set[tuple[str, str]]] = None, set()
        """What of that the next call on the same connection acknowledges."""
        self.own_room = ""
        """A room of its own on this machine, once it has one."""
        self.mark = ""
        """What tells what it says in this room from what it says in others."""
        record.shown[name] = []

    async def ask(self, call: Callable[[Party], Awaitable[R]], *, in_window: bool = False) -> R:
        """Ask until the daemon answers with anything but that it is not there. Raises what it answers."""
        with trio.move_on_after(PATIENCE_S):
            while True:
                try:
                    return await self._place.ask(self.name, call, in_window=in_window)
                except Gone:
                    pass
                except ParlerError as error:
                    self._record.codes.add(error.code)
                    self._heard(error.message, error.hint, *map(str, error.details.values()))
                    if error.code not in DEAD:
                        raise
                self._record.repeats += 1
                await trio.sleep(0.5)
        raise Broken(f"{self.name} waited {PATIENCE_S:.0f} s for an answer")

    async def insist(self, call: Callable[[Party], Awaitable[R]]) -> R:
        """Ask until somebody who can decide it says yes or no: also while the relay cannot be reached. Raises what that
        is refused with."""
        until = trio.current_time() + KNOCK_S
        while True:
            try:
                return await self.ask(call)
            except ParlerError as error:
                if not error.spec.retryable:
                    raise
                if trio.current_time() > until:
                    raise Broken(f"{self.name} asks for {KNOCK_S:.0f} s, and hears only {error.code}") from error
                await trio.sleep(1.0)

    async def want(self, op: str, params: t.Params, result: type[S]) -> S:
        """`insist` on one operation."""
        return await self.insist(lambda party: party.ask(op, params, result))

    async def may(self, op: str, params: t.Params, result: type[S], *refusals: str) -> S | ParlerError:
        """`want`, where one of these refusals is right too: the answer, or the error of such a refusal."""
        try:
            return await self.want(op, params, result)
        except ParlerError as error:
            if error.code not in refusals:
                raise Broken(f"{self.name} is refused {op}: {error.code}") from error
            return error

    def _heard(self, *sentences: str) -> None:
        self._record.sentences += [(self.name, each) for each in sentences if each]

    async def live(self, things: int) -> None:
        """Say and read so many things, with pauses."""
        for number in range(things):
            await trio.sleep(self._random.expovariate(1.0))
            if number == self.leaves_after:
                await self.leave()
                return
            what = self._random.random()
            if what < 0.55:
                await self.say()
            elif what < 0.9:
                await self.read(wait_s=self._random.choice((0.0, 0.0, 5.0)))
            else:
                await self.stay_here()

    async def knock(self, session_key: str) -> bool:
        """Ask to be let in, and wait for whoever decides. Whether it is in: then it was shown what was said before."""
        until = trio.current_time() + KNOCK_S
        while True:
            if trio.current_time() > until:
                raise Broken(f"{self.name} knocks for {KNOCK_S:.0f} s, and hears nothing of what was decided")
            try:
                page = await self.ask(lambda party: party.join(session_key, wait=20.0))
            except ParlerError as error:
                if not error.spec.retryable:
                    raise Broken(f"{self.name} could not knock: {error.code}") from error
                await trio.sleep(1.0)
                continue
            if page.status == "denied":
                return False
            if page.status != "pending":
                break
        self.room = page.room
        if page.cursor:
            params = t.Commit(room=page.room, cursor=page.cursor)
            await self.ask(lambda party: party.call("message.commit", params))
            self._record.shown[self.name] += [(each.author.name, str(each.text)) for each in page.messages]
        return True

    # -- saying --------------------------------------------------------------------------------------------

    async def say(self, *, in_public: bool = False, to: str = "") -> None:
        """Say something: to everybody, to `to` alone, or to whom it happens to be for."""
        self._count += 1
        text, key = f"{self.name} says {self.mark}{self._count}", f"{self.name}-{self.mark}{self._count}"
        readers = frozenset({to}) if to else None
        if not to and self.others and not in_public and self._random.random() < 0.3:
            readers = frozenset({self._random.choice(self.others)})
        params = self._saying(text, key, readers)
        seen_by = None if readers is None else readers | {self.name}
        while True:
            try:
                sent = await self.ask(lambda party: party.ask("message.send", params, t.Sent))
            except ParlerError as error:
                if not error.spec.retryable:
                    self._record.refused.append(Refused(self.name, text, seen_by, error.code))
                    return
                await trio.sleep(1.0)
                continue
            self._was_sent(sent)
            self._record.said.append(Said(self.name, text, seen_by, sent.queued, sent.id))
            return

    def _saying(self, text: str, key: str, readers: frozenset[str] | None) -> t.Send:
        """How it says something: where, and to whom alone."""
        visible_to = tuple(sorted(readers)) if readers else ()
        return t.Send(text=text, room=self.room, idempotency_key=key, visible_to=visible_to)

    def _was_sent(self, sent: t.Sent) -> None:
        """What it said was taken in."""

    async def leave(self) -> None:
        """Leave the room, as soon as its home can be asked."""
        # It may have left before, and the answer was lost.
        await self.may("session.close", t.CloseSession(room=self.room), t.ClosedSession, "no_such_room")
        self._record.left.add(self.name)

    # -- reading -------------------------------------------------------------------------------------------

    async def read(self, *, wait_s: float = 0.0) -> bool:
        """Take a page. Whether there was anything."""
        try:
            page = await self._in_window(wait_s) if self.has_window else await self._by_command(wait_s)
            while page is None:
                page = await self._in_window(0.0)
        except ParlerError as error:
            if not error.spec.retryable:
                raise Broken(f"{self.name} could not read: {error.code}") from error
            return False
        self._heard(page.notice)
        return bool(page.messages)

    def _take(self, room: str, wait_s: float) -> t.Recv:
        return t.Recv(room=room, wait_ms=int(wait_s * 1000), limit=7)

    async def _by_command(self, wait_s: float) -> t.Received:
        params = self._take(self.room, wait_s)
        page = await self.ask(lambda party: party.ask("message.recv", params, t.Received))
        if page.messages:
            # The page counts once it is acknowledged; who is not answered asks again: a cursor never moves back.
            await self.ask(lambda party: party.commit(page))
            self._show(page)
        return page

    async def _in_window(self, wait_s: float) -> t.Received | None:
        """A window's next call acknowledges what it was shown before. None for an answer that never reached it."""

        async def look(party: Party) -> t.Received | None:
            await party.call("window.acknowledge", t.AcknowledgeShown())
            by, written = self._written
            self._unsure -= written if by is party else set()
            self._written = party, set()
            self._answers += 1
            shown, number = party.caller.reader.shown, self._answers
            answer = shown.begin(number, lambda: None)
            try:
                page = await party.ask("message.recv", self._take(self.room, wait_s), t.Received)
            except BaseException:
                shown.failed(number)
                raise
            answer.shows(RoomId(self.room), shown.laid_out(RoomId(self.room)))
            notice = await party.ask("window.notice", t.AskNotice(), t.Notice)
            self._heard(notice.line)
            shown.ended(number)
            if page.messages and self._random.random() < 0.25:
                shown.withdrawn(number, even_written=False)
                return None
            shown.written(number)
            self._written[1].update(self._show(page))
            return page

        return await self.ask(look, in_window=True)

    def _show(self, page: t.Received) -> list[tuple[str, str]]:
        found = [(each.author.name, str(each.text)) for each in page.messages]
        self._record.shown[self.name] += [each for each in found if each not in self._unsure]
        if self.has_window:
            self._unsure.update(found)
        return found

    async def read_everything(self) -> None:
        """Read until nothing has come for a while: a daemon that was just started reaches its relay first. A wait ends
        also where something else concerns the agent, and then nothing has come by itself."""
        quiet_since = trio.current_time()
        while trio.current_time() < quiet_since + QUIET_S:
            if await self.read(wait_s=QUIET_S):
                quiet_since = trio.current_time()
            else:
                await trio.sleep(QUIET_S / 10)

    async def look_around(self) -> None:
        """Look at who is in the room, and in which rooms one is."""
        roster = await self.ask(lambda party: party.roster(self.room))
        self._heard(*(word for each in roster.values() for word in (each.name, each.role, each.host, each.presence)))
        self._heard(*(each.alarm for each in await self.ask(lambda party: party.rooms())))

    # -- on this machine -----------------------------------------------------------------------------------

    async def stay_here(self) -> None:
        """Do something that is nobody's business but this machine's, which no relay may delay."""
        self._record.local_calls += 1
        if not self.own_room:
            opened = await self._here(
                lambda party: party.open("at home", "Mine.", home="local", idempotency_key=f"{self.name}-here")
            )
            self.own_room = opened.room
        await self._here(lambda party: party.rooms())
        await self._here(lambda party: party.send("a note", room=self.own_room))
        await self._here(lambda party: party.recv(room=self.own_room))

    async def _here(self, call: Callable[[Party], Awaitable[R]]) -> R:
        async def in_time(party: Party) -> R:
            with trio.move_on_after(LOCAL_S):
                return await call(party)
            raise Broken(f"{self.name} waited more than {LOCAL_S:.0f} s for something of its own machine")

        try:
            return await self.ask(in_time)
        except ParlerError as error:
            raise Broken(f"{self.name} was refused something of its own machine: {error.code}") from error
