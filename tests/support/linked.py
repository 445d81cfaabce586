"""A person of another home, and the links that their daemon opens: what a test needs to stand on the other end.

`Elsewhere` holds keys and agents as another home would, and signs what its agents say; `LinkParty` is one link with the
calls that a test makes. Both know nothing of the engine beyond its face. Verified by `tests/engine/test_linking.py` and
`tests/engine/test_admitting.py`: a home takes what they sign.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import trio

from parlerd.core import statements as st
from parlerd.core.envelope import Envelope, TextPart, encode_envelope
from parlerd.core.errors import ParlerError
from parlerd.core.model import AgentId, HomeId, MessageId, Millis, PrincipalId, RoomId
from parlerd.core.public_line import first_line
from parlerd.engine.callers import Caller
from parlerd.engine.face import Outlet
from parlerd.identity import codes
from parlerd.identity.delegation import issue
from parlerd.identity.nkeys import Kind
from parlerd.identity.signatures import Domain, SigningKey
from parlerd.identity.transcript import attach_bytes
from parlerd.operations import types as t
from tests.support.callers import caller_of
from tests.support.engine import Served, settle

R = TypeVar("R", bound=t.Result)


class Elsewhere:
    """A person with a home of their own, named so that their keys are the same in every run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._keys: dict[str, SigningKey] = {}
        self._named: dict[str, AgentId] = {}
        self.principal = PrincipalId(self._make("principal", "person"))
        self._threads: dict[tuple[str, AgentId, tuple[AgentId, ...] | None], tuple[int, bytes]] = {}
        """The counter and the hash of the newest envelope, by room, author and readers."""
        self._messages = 0
        self._home = HomeId("")
        """The home that a link of this person's leads to: its key begins the public line of its rooms."""

    def _make(self, kind: Kind, name: str) -> str:
        key = SigningKey(kind, hashlib.sha256(f"{self.name}/{name}".encode()).digest())
        self._keys[key.id] = key
        return key.id

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        return self._keys[id].sign(domain, data)

    def agent(self, name: str) -> AgentId:
        """The agent of this name, made where there is none yet."""
        if name not in self._named:
            self._named[name] = AgentId(self._make("agent", name))
        return self._named[name]

    def adopt(self, name: str, other: Elsewhere) -> None:
        """Hold the key of another person's agent too: its holder lets two persons delegate to it."""
        self._named[name] = other.agent(name)
        self._keys[other.agent(name)] = other._keys[other.agent(name)]

    def attachment(self, name: str, channel: bytes, now: int, *, days: float = 30) -> t.Attachment:
        """What attaches an agent to a link."""
        agent = self.agent(name)
        delegation, signed = issue(self, agent, Millis(now), Millis(int(days * 86_400_000)))
        return t.Attachment(
            agent=agent,
            delegation=delegation,
            delegation_signature=signed,
            signature=self.sign(agent, "parler/link", attach_bytes(channel, agent, self.principal)),
        )

    def envelope(
        self, name: str, room: str, text: str, *, to: Sequence[str] = (), visible_to: Sequence[str] = (), **rest: Any
    ) -> t.PostEnvelope:
        """A message that an agent signs, as the next of its thread; `seal` is done to it before it is signed."""
        agent = self.agent(name)
        self._messages += 1
        readers = tuple(AgentId(each) for each in sorted({agent, *visible_to})) if visible_to else None
        thread = (room, agent, readers)
        counter, previous = self._threads.get(thread, (0, b""))
        id = MessageId(rest.pop("id", f"m_{self.name}{self._messages:06}"))
        fields: dict[str, Any] = {
            "v": 2,
            "id": id,
            "room": RoomId(room),
            "key": f"k{id[1:]}",
            "kind": "text",
            "chain": f"c{id[1:]}",
            "hops": 0,
            "authored_at": Millis(0),
            "counter": counter + 1,
            "previous": previous,
            "line": first_line(RoomId(room), self._home),
            "via": "mcp",
            "nonce": hashlib.sha256(id.encode()).digest()[:16],
            "parts": (TextPart(text),),
            "to": tuple(map(AgentId, to)),
            "visibility": readers,
        }
        seal: Callable[[Envelope], Envelope] = rest.pop("seal", lambda composed: composed)
        body = encode_envelope(seal(Envelope(**(fields | rest))))
        self._threads[thread] = (counter + 1, hashlib.sha256(body).digest())
        signature = self.sign(agent, "parler/message", body)
        return t.PostEnvelope(room=room, agent=agent, id=id, body=body, signature=signature)

    async def link(self, served: Served, *agents: str) -> LinkParty:
        """A link of this person's daemon to a home, with these agents attached."""
        self._home = served.engine._desk.keys.id
        served.world.connections += 1
        session = f"link{served.world.connections}"
        channel = hashlib.sha256(session.encode()).digest()
        caller = caller_of("link", session=session, principal=self.principal, channel=channel)
        await served.engine.connect(caller)
        party = LinkParty(self, served, caller)
        if agents:
            await party.attach(*agents)
        return party


@dataclass
class LinkParty:
    """One link."""

    person: Elsewhere
    served: Served
    caller: Caller

    async def call(self, op: str, params: t.Params) -> t.Result:
        return await self.served.engine.call(op, params, self.caller)

    async def ask(self, op: str, params: t.Params, result: type[R]) -> R:
        answer = await self.call(op, params)
        assert isinstance(answer, result)
        return answer

    async def refused(self, op: str, params: t.Params) -> ParlerError:
        """The error this call is answered with; a test fails when it is not."""
        try:
            await self.call(op, params)
        except ParlerError as error:
            return error
        raise AssertionError(f"{op} was not refused")

    async def attach(self, *agents: str, days: float = 30) -> t.Attached:
        channel, now = self.caller.facts.channel, self.served.world.clock.now()
        attachments = tuple(self.person.attachment(name, channel, now, days=days) for name in agents)
        return await self.ask("link.attach", t.Attach(agents=attachments), t.Attached)

    async def post(self, name: str, room: str, text: str, **rest: Any) -> t.Posted:
        return await self.ask("link.post", self.person.envelope(name, room, text, **rest), t.Posted)

    async def enter(self, name: str, opened: t.OpenedSession) -> None:
        """Knock with a key, and be let in by the home's person."""
        if (await self.knock(name, opened)).status == "pending":
            await (await self.served.person()).approve(self.person.agent(name), room=opened.room)

    async def find(self, session_key: str | None) -> t.FoundKey:
        assert session_key is not None
        return await self.ask("link.find", t.FindKey(session_key=session_key), t.FoundKey)

    async def knock(self, who: str, opened: t.OpenedSession) -> t.Knocked:
        return await self.ask("link.knock", await self.knocking(who, opened), t.Knocked)

    async def knocking(self, who: str, opened: t.OpenedSession, **said: Any) -> t.KnockAtRoom:
        """What an agent signs that knocks with a key; `said` are fields of the statement that say something else."""
        found = await self.find(opened.session_key)
        agent = self.person.agent(who)
        fields: dict[str, Any] = {
            "home": st.check(found.opening, st.Opening).home,
            "room": RoomId(found.room),
            "ref": found.ref,
            "agent": agent,
            "principal": self.person.principal,
            "name": who,
            "host": "claude-code",
            "at": self.served.world.clock.now(),
            "nonce": bytes(st.NONCE),
        }
        statement = st.encode(st.KnockStatement(**(fields | said)))
        assert opened.session_key is not None
        return t.KnockAtRoom(
            session_key=opened.session_key,
            statement=statement,
            signature=self.person.sign(agent, "parler/knock", statement),
        )

    async def open(self, name: str, topic: str = "auth redesign", **how: Any) -> t.OpenedSession:
        """Open a room at the other end, as a daemon does for its agent."""
        params, key = self.opening(name, topic, **how)
        opened = await self.ask("link.open", params, t.OpenedRemoteRoom)
        return t.OpenedSession(
            room=opened.room,
            name=topic,
            session_key=key,
            line=None,
            join_command=None,
            mcp_command=None,
            expires=0,
            approval=True,
            replayed=opened.replayed,
            idempotency_key=params.idempotency_key,
        )

    def opening(self, name: str, topic: str = "auth redesign", **how: Any) -> tuple[t.OpenRemoteRoom, str]:
        """What opens a room, and its session key. `how` says what the opening and the key are to say otherwise. A room
        that is `sealed` is not told its title, and its first epoch is put in afterwards."""
        person, agent = self.person, self.person.agent(name)
        home = self.served.engine._desk.keys.id
        gated, approver = how.pop("approval", True), how.pop("approver", "person")
        drawn = hashlib.sha256(f"{person.name}/{name}/{topic}".encode()).digest()
        title = st.encode(st.Title(salt=drawn[:16], name=how.pop("called", "auth-redesign"), topic=topic))
        opening = st.Opening(
            home=how.pop("home", home),
            kind="session",
            history=how.pop("history", "full"),
            owner=agent,
            principal=person.principal,
            handle=name,
            host="codex",
            approval=gated,
            approver=approver,
            title=st.title_digest(title),
            sealed=how.pop("sealed", msgspec.UNSET),
            nonce=drawn[16:32],
        )
        body = st.encode(opening)
        key = how.pop("session_key", None) or codes.spell(drawn, 8 if gated else 16)
        terms = st.KeyTerms(
            home=home,
            room=st.room_id_of(body),
            ref=f"k_{name}",
            gated=gated,
            expires_at=Millis(self.served.world.clock.now() + how.pop("ttl_ms", 86_400_000)),
            max_uses=50,
            preapproved=tuple(how.pop("preapproved", ())),
            nonce=bytes(st.NONCE),
        )
        assert not how
        signed = st.encode(terms)
        params = t.OpenRemoteRoom(
            opening=body,
            opening_signature=person.sign(person.principal, "parler/opening", body),
            title=title if opening.sealed is msgspec.UNSET else b"",
            session_key=key,
            terms=signed,
            terms_signature=person.sign(person.principal, "parler/key", signed),
            idempotency_key=f"open-{name}-{key}",
        )
        return params, key

    def deciding(
        self, room: str, card: t.Card, entry: t.RequestEntry, *, admit: bool = True, **said: Any
    ) -> t.DecideAtRoom:
        """A decision that this link's person signs, or with the proof `none` the owner; `said` are fields of the
        statement that say something else."""
        fields: dict[str, Any] = {
            "home": card.home,
            "room": RoomId(room),
            "request": entry.request,
            "agent": entry.agent,
            "principal": entry.principal,
            "handle": entry.name if admit else "",
            "admit": admit,
            "proof": "cli",
            "at": self.served.world.clock.now(),
            "nonce": bytes(st.NONCE),
        }
        by = said.pop("by", self.person.principal)
        statement = st.encode(st.DecisionStatement(**(fields | said)))
        return t.DecideAtRoom(
            room=room, statement=statement, signature=self.person.sign(by, "parler/decision", statement)
        )

    async def leave(self, name: str, room: str) -> t.LeftRoom:
        return await self.ask("link.close", t.LeaveRoom(room=room, agent=self.person.agent(name)), t.LeftRoom)

    @asynccontextmanager
    async def following(self, *rooms: str, newest: int = 100, directly: bool = True) -> AsyncIterator[Told]:
        """What this link is told of rooms, from their newest messages on."""
        async with self.resuming(*(t.Resume(room=room, newest=newest) for room in rooms), directly=directly) as told:
            yield told

    @asynccontextmanager
    async def resuming(self, *resumes: t.Resume, directly: bool = True) -> AsyncIterator[Told]:
        """What this link is told of rooms, from where it was told of them; `directly` too, past the stream's task."""
        told = Told()
        async with trio.open_nursery() as nursery:

            async def follow() -> None:
                params = t.FollowRooms(rooms=resumes)
                outlet = told if directly else None
                async with self.served.engine.stream("link.follow", params, self.caller, outlet) as items:
                    async for item in items:
                        assert isinstance(item, t.LinkItem)
                        told.items.append(item)

            nursery.start_soon(follow)
            await settle()
            yield told
            nursery.cancel_scope.cancel()


@dataclass
class Told(Outlet):
    """The items of a stream so far."""

    items: list[t.LinkItem] = field(default_factory=list)
    given: int = 0
    """How many of them came past the stream's task."""
    takes_more: bool = True
    """Whether the reader takes items past the task."""

    @property
    def is_ready(self) -> bool:
        return self.takes_more

    def give(self, item: bytes) -> None:
        self.items.append(msgspec.msgpack.decode(item, type=t.LinkItem))
        self.given += 1

    def of(self, room: str) -> list[t.LinkItem]:
        return [item for item in self.items if item.room == room and not item.presence]

    @property
    def cards(self) -> list[t.Card]:
        return [item.card for item in self.items if item.card is not None]

    @property
    def pages(self) -> list[t.LinkPage]:
        return [item.page for item in self.items if item.page is not None]

    @property
    def messages(self) -> list[t.LinkMessage]:
        return [message for page in self.pages for message in page.messages]
