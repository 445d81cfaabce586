"""A room of another home, as handlers come to it: read from its mirror, changed by its home.

Not here: reading (the mirror does that), how something is asked of the room's home (`asking`), messages under way
(`lanes`), the link (`link`). Above: the engine's handlers. Below: `asking`. Invariant: of a room that is not sealed,
its home's word about codes, hosts and keys counts; of a sealed one, what this home itself knows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from parlerd.core import commands as c
from parlerd.core.approvals import Request
from parlerd.core.envelope import Envelope
from parlerd.core.errors import Refused
from parlerd.core.lifecycle import DELETED
from parlerd.core.model import AgentId, By, MessageId, Millis, RequestId, Seq
from parlerd.core.room import Room
from parlerd.core.sealing import sealed_part
from parlerd.core.statements import Grant
from parlerd.engine.authors import Attested, Words, request_digest
from parlerd.engine.handles import Earlier, MirrorRoom, Present, Question, RoomHandle, SpentKey
from parlerd.engine.submissions import Settled, Submission
from parlerd.operations import types as t
from parlerd.uplink.arriving.messages import sealed_of
from parlerd.uplink.asking import going_on, granting
from parlerd.uplink.asking.earlier import EarlierPages
from parlerd.uplink.asking.ladder import ladders_of
from parlerd.uplink.asking.line import RoomLine
from parlerd.uplink.asking.questions import Questions
from parlerd.uplink.asking.room_home import RoomHome
from parlerd.uplink.composing import Composer
from parlerd.uplink.remote_shelf import RemoteShelf
from parlerd.uplink.rosters import Rosters


class RemoteRoom(MirrorRoom):
    """One room, at its home."""

    def __init__(self, home: RoomHome, composer: Composer) -> None:
        super().__init__(home.actor, home.name)
        self._home = home
        self._line = RoomLine(home, composer)
        self._rosters = Rosters(home.desk.library)
        """Who was in the room under earlier records, for what was said then."""
        self._past = EarlierPages(home, self._rosters)
        self._questions = Questions(home)
        self.shelf = RemoteShelf(home.actor, home.link)
        """The files of the room, at its home."""

    # -- what is asked of the room -------------------------------------------------------------------------

    async def submit(self, command: c.Command, by: By, words: Words | None = None) -> Settled:
        return await self.place(command, by, words).result()

    def place(self, command: c.Command, by: By, words: Words | None = None) -> Submission:
        return self._line.place(command, by, words)

    async def ask(self, question: Question, here: Callable[[RoomHandle], Awaitable[t.Result]]) -> t.Result:
        return await self._questions.ask(question)

    async def grant(self, by: By, command: c.AdmitGranted, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        return await granting.grant(self._home, by, command, signed, token)

    async def grant_many(self, by: By, grant: Grant, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
        return await granting.grant_many(self._home, by, grant, signed, token)

    async def ungrant(self, by: By, agent: AgentId) -> None:
        await granting.ungrant(self._home, by, agent)

    async def rewind(self, by: By, *, confirmed: bool) -> t.RewoundRoom:
        return await going_on.rewind(self._home, by, confirmed=confirmed)

    async def delete(self, by: By) -> None:
        if self.aggregate.state.contradicted == DELETED:
            return
        try:
            await self._home.link.call("link.delete", t.DeleteAtRoom(room=self.room))
        except Refused as error:
            # It was deleted there before, by an answer that was lost.
            if error.code != "room_deleted":
                raise

    # -- what is read --------------------------------------------------------------------------------------

    async def quiet(self) -> Room:
        return await self._home.quiet()

    async def catch_up(self) -> bool:
        return await self._home.link.catch_up(self.room)

    def begin_to_catch_up(self) -> None:
        self._home.link.need()

    def silent_since(self) -> Millis | None:
        link = self._home.link
        return None if link.is_level(self.room) else link.heard_at

    async def earlier(self, agent: AgentId, after: Seq, limit: int) -> Earlier:
        return await self._past.after(agent, after, limit)

    def presence(self, agent: AgentId) -> Present | None:
        mirrors = self._home.link.mirrors
        return None if mirrors.is_ours(agent) else mirrors.presence(self.room, agent)

    async def ladders(self, agent: AgentId, message: MessageId) -> t.LaddersAtRoom:
        return await ladders_of(self._home, agent, message)

    def tell_sights(self, words: Sequence[t.SightAtRoom]) -> None:
        self._home.link.tell_sights(words)

    # -- what a sealed room's home is told, and what opens a message ----------------------------------------

    def told_key(self, key: str) -> str:
        return self._home.hidden(key)

    async def told(self, composed: Envelope, author: AgentId) -> Envelope:
        home = self._home
        if not home.is_sealed:
            return composed
        await home.secrets.prepare(home.id, self.room)
        request = home.secrets.request_digest(self.room, request_digest(composed))
        return home.secrets.seal(home.mirror.state, author, request, composed)

    async def message_key(self, body: bytes, author: AgentId) -> bytes | None:
        home, sealed = self._home, sealed_of(body)
        if sealed is None:
            return None
        await home.secrets.prepare(home.id, self.room)
        envelope, part = sealed[0], sealed_part(sealed[0])
        seats = (await self._rosters.held(await self.quiet(), (part.record,))).get(part.record)
        asks = seats is not None and seats.inside.get(author, False)
        return home.secrets.message_key(home.id, envelope, author, asks=asks)

    # -- who knocks ----------------------------------------------------------------------------------------

    async def check_code(self, request: Request, code: str, door: str) -> None:
        home = self._home
        if home.is_sealed:
            await home.exchanges.prepare(self.room)
            right = home.exchanges.asked_code(self.room, request)
            if right is None:
                raise Refused("knock_unfinished")
            # The relay knows no code of a sealed room, so this home keeps account of the tries.
            await home.desk.codes.check(request.id, code, door=door, code=right)
            return
        await home.link.call(
            "link.check_code", t.CheckCode(room=self.room, request=request.id, join_code=code, door=cast(t.Door, door))
        )

    def join_code(self, request: RequestId) -> str | None:
        home = self._home
        known = home.mirror.state.requests.get(request)
        if not home.is_sealed or known is None:
            return home.doors.code(request)
        return home.exchanges.code(self.room, known)

    def host_of(self, request: Request) -> str:
        home = self._home
        return home.exchanges.host(self.room, request) if home.is_sealed else request.host

    def standing(self, request: Request) -> str:
        home = self._home
        if not home.is_sealed or request.state != "pending":
            return ""
        if home.exchanges.has_failed(self.room, request):
            return "failed"
        return "unanswered" if home.exchanges.is_under_way(self.room, request) else ""

    def spent_keys(self) -> Sequence[SpentKey]:
        home = self._home
        return home.exchanges.spent(home.mirror.state) if home.is_sealed else ()

    def owner_heard(self, agent: AgentId) -> Millis:
        return self._home.doors.heard(self.room, agent)
