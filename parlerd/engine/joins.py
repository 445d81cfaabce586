"""Coming in over HTTP as a new agent, with a token that joins or a session key: the handlers of `join.begin` and
`join.find`.

    POST /v1/joins {name}  --> a new agent, a use of the token, a knock
                               let in: its own token   waits for the person: an id, and the code that is typed
    GET /v1/joins/{id}     --> once it is in, its own token
    without a token, a session key is exchanged for one that joins, for one agent, and the agent knocks with the key

A join is a fact of the home room, and each step after it can be taken again: whoever repeats the request, or asks what
became of it, takes the steps that were not taken yet. What the room says of the newcomer is asked of the room. The text
of the newcomer's token follows from the join, so it can be told again to whoever shows the token with which it came.

Not here: how a new agent comes to be (`newcomers`), what stands in a room for such a token (`join_keys`), how tokens
are counted (`core.tokens`), how a person decides (`approving`). Above: the engine. Below: those. Invariants: without
the person's word nobody comes into a room that asks the person, and whoever minted the token gave it, or gives it on
each; a join that the room refused leaves its use; a newcomer has one token of a join.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, NamedTuple

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core import topics
from parlerd.core.approvals import standing_request
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import By, KeyId, Label, RoomId, role_name
from parlerd.core.tokens import MAX_DAYS, Join, Token
from parlerd.engine.approving import Approving, require_proof
from parlerd.engine.callers import Caller, PeerProcess
from parlerd.engine.desk import Desk
from parlerd.engine.granting import Granting
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.join_keys import key_behind
from parlerd.engine.knocks import denied_hint, end_of, over_hint, shows_code, would_knock
from parlerd.engine.minting import Tokens
from parlerd.engine.newcomers import HOST, Newcomers, name_of, require_free
from parlerd.engine.reading import handle_of
from parlerd.engine.session_keys import SessionKeys
from parlerd.engine.waits import Wait
from parlerd.identity import tokens
from parlerd.operations import types as t

OF_TOKEN: Final = KeyId("")
"""The key with which a newcomer knocks: the one behind its token."""
_UNKNOWN: Final = frozenset({"home_unreachable", "offline", "draining"})
"""Errors of a knock after which it may have been heard: the link may have been lost behind it."""
BY_NAME: Final = (
    "A person has to approve this: in a terminal of their own, with `parler approvals` or `parler session approve`."
)


class Asking(NamedTuple):
    """Who asks to come in, under which name and as what; by which key a repetition is known, and the digest of what was
    asked."""

    caller: Caller
    name: Label
    role: str
    request: str
    asked: bytes


class Joins:
    """The handlers of joins."""

    def __init__(
        self,
        desk: Desk,
        tokens: Tokens,
        newcomers: Newcomers,
        approving: Approving,
        keys: SessionKeys,
        granting: Granting,
    ) -> None:
        self._desk = desk
        self._granting = granting
        """For tokens of a grant, whose agents have no key."""
        self._keys = keys
        self._tokens = tokens
        self._newcomers = newcomers
        self._approving = approving

    @handles("join.begin")
    async def begin(self, caller: Caller, params: t.BeginJoin) -> t.BegunJoin:
        request = params.idempotency_key or self._desk.random.new("k")
        asking = Asking(
            caller,
            name_of(params.name),
            role_name(params.role) if params.role else "",
            request,
            # Neither how long somebody waits nor the key is what is asked: whoever comes with another key comes with
            # another token.
            input_digest(msgspec.structs.replace(params, wait_ms=0, session_key="")),
        )
        if not caller.facts.authority.token:
            return await self._knocked(asking, params)
        if params.session_key:
            raise Refused("invalid_param", "Show a token or a session key, and not both.", param="session_key")
        token = self._shown(caller)
        await self._require_meant(token.room, params.room)
        join = self._known(token, asking)
        replayed = join is not None
        if join is None:
            join = await self._begun(asking, token)
        stands = await self._settled(caller, token, join, params.label, params.wait_ms)
        return t.BegunJoin(**msgspec.structs.asdict(stands), replayed=replayed, idempotency_key=request)

    async def _knocked(self, asking: Asking, params: t.BeginJoin) -> t.BegunJoin:
        """A join with a session key and no token: it is exchanged for a token that joins, for this one agent, and the
        agent knocks with it. Wrong keys count as guesses, of one guesser however many connections they come on. A key
        that lets in unasked, or leads to another home, needs a token: somebody has to have asked for it. Raises
        `Refused`: `unknown_key`, `throttled`, `needs_person`, and as a join does."""
        desk = self._desk
        if not params.session_key:
            raise Refused("token_required")
        guesser = Caller(replace(asking.caller.facts, peer=PeerProcess()))
        key_id, room = await self._keys.find(guesser, None, params.session_key, is_typed=False)
        handle = await desk.rooms.get(room)
        text = self._tokens.text_for(key_id, asking.request)
        token = desk.rooms.home.aggregate.tokens.find(tokens.digest_of(text), desk.clock.now())
        join = None if token is None else self._known(token, asking)
        replayed = join is not None
        if token is None or join is None:
            # A key that is no more is answered as one that never was, before anything is said of its room.
            try:
                would_knock(desk, guesser.facts, await handle.quiet(), key_id)
            except Refused as error:
                if error.code == "unknown_key":
                    raise self._keys.unknown(guesser) from error
                raise
            state = handle.aggregate.state
            if state.kind not in ("session", "channel") or not state.keys[key_id].gated:
                said = "Nobody would be asked about who comes with this key, and no token says that somebody may."
                raise Refused("needs_person", said, hint="Ask the person for a token: parler token mint --join")
            await self._require_meant(room, params.room)
            token, join = await self._begun_with(asking, handle, key_id, text)
        stands = await self._settled(asking.caller, token, join, params.label, 0)
        return t.BegunJoin(
            **msgspec.structs.asdict(stands), replayed=replayed, idempotency_key=asking.request, join_token=text
        )

    @handles("join.find")
    async def find(self, caller: Caller, params: t.FindJoin) -> t.JoinInfo:
        token = self._shown(caller)
        join = self._desk.rooms.home.aggregate.tokens.join(params.id)
        if join is None or join.token != token.id:
            raise Refused("no_such_join")
        return await self._settled(caller, token, join, "", params.wait_ms)

    # -- beginning -----------------------------------------------------------------------------------------

    def _shown(self, caller: Caller) -> Token:
        """The token with which somebody joins. Raises `Refused(token_invalid)`."""
        shown = caller.facts.authority.token
        token = self._desk.rooms.home.aggregate.tokens.holding(shown, self._desk.clock.now())
        if token is None:
            raise Refused("token_invalid")
        return token

    async def _require_meant(self, room: RoomId, wanted: str | None) -> None:
        """Refuse whoever means another room than it comes to. Raises `Refused(no_such_room)`."""
        if wanted in (None, room):
            return
        if (await self._desk.rooms.get(room)).aggregate.state.name != wanted:
            raise Refused("no_such_room", "What was shown leads to another room.")

    def _known(self, token: Token, asking: Asking) -> Join | None:
        """The join that this request led to before. Raises `Refused(idempotency_conflict)` where that was another."""
        known = self._desk.rooms.home.aggregate.tokens.asked(token.id, asking.request)
        if known is not None and known.asked != asking.asked:
            raise Refused("idempotency_conflict", key=asking.request)
        return known

    async def _begun(self, asking: Asking, token: Token) -> Join:
        """A new join: its agent, its fact, its knock. Raises `Refused`, and then it left no use."""
        desk = self._desk
        async with self._newcomers.one_at_a_time(token.room):
            known = self._known(token, asking)
            if known is not None:
                return known
            handle = await desk.rooms.get(token.room)
            await self._require_use(asking.caller, token)
            if not token.grant:
                await self._require_welcome(asking, handle, key_behind(desk, handle, token))
            # What is begun is done, also where whoever asked is gone meanwhile.
            with trio.CancelScope(shield=True):
                me = await self._created(asking.name, handle, token)
                return await self._begin(asking, handle, token, me)
            raise AssertionError("nobody cancels what is shielded")

    async def _created(self, name: Label, handle: RoomHandle, token: Token) -> AgentRecord:
        """A new agent that comes with a token."""
        if not token.grant:
            return await self._newcomers.create(name, token.room)
        room = await handle.quiet()
        if room.state.closed:
            raise Refused("room_closed")
        require_free(room.state, name)
        return await self._granting.create(token, name, room)

    async def _begun_with(self, asking: Asking, handle: RoomHandle, key: KeyId, text: str) -> tuple[Token, Join]:
        """The same with a session key, and a token of this text that is for this one join."""
        desk = self._desk
        async with self._newcomers.one_at_a_time(handle.room):
            now = desk.clock.now()
            token = desk.rooms.home.aggregate.tokens.find(tokens.digest_of(text), now)
            known = None if token is None else self._known(token, asking)
            if token is not None and known is not None:
                return token, known
            await self._require_welcome(asking, handle, key)
            with trio.CancelScope(shield=True):
                if token is None:
                    me = await self._newcomers.create(asking.name, handle.room)
                    token = await self._tokens.mint_for_key(
                        self._newcomers.by(asking.caller, me), me, handle.room, text, authority=f"key:{key[:8]}"
                    )
                me = desk.rooms.home.aggregate.state.agents[token.agent]
                return token, await self._begin(asking, handle, token, me, key)
            raise AssertionError("nobody cancels what is shielded")

    async def _require_welcome(self, asking: Asking, handle: RoomHandle, key: KeyId) -> None:
        """Refuse whoever could not knock, before an agent, and its key, is made for it. Raises `Refused`: `offline`
        among others."""
        if (home := handle.aggregate.state.home) != self._desk.keys.id:
            await self._desk.homes.meet(home)
        state = (await handle.quiet()).state
        if state.closed:
            raise Refused("room_closed")
        require_free(state, asking.name)
        self._newcomers.require_space()
        would_knock(self._desk, asking.caller.facts, handle.aggregate, key)

    async def _begin(
        self, asking: Asking, handle: RoomHandle, token: Token, me: AgentRecord, key: KeyId = OF_TOKEN
    ) -> Join:
        """The fact of a join, and its knock. A join that the room refuses ends at once. One of which nobody knows
        whether the room heard of it stands, and whoever asks again knocks again."""
        desk, by = self._desk, self._newcomers.by(asking.caller, me)
        begin = c.BeginJoin(
            operation="join.begin",
            token=token.id,
            agent=me.id,
            name=asking.name,
            role=asking.role,
            request=asking.request,
            asked=asking.asked,
            wall=desk.clock.now(),
            key=key,
        )
        await desk.rooms.home.submit(begin, by)
        join = desk.rooms.home.aggregate.tokens.asked(token.id, asking.request)
        if join is None:
            raise Refused("token_invalid")  # it was revoked in the same moment
        try:
            await self._knock(handle, token, join, by)
        except Refused as error:
            if error.code not in _UNKNOWN:
                await desk.rooms.home.submit(c.EndJoin(operation="join.begin", join=join.id, denied=False), by)
            raise
        return join

    async def _require_use(self, caller: Caller, token: Token) -> None:
        """Refuse one join more than a token is for. What came to nothing since somebody asked about it counts no more.
        Raises `Refused(token_used_up)`."""
        home = self._desk.rooms.home.aggregate
        if home.tokens.uses_left(token) > 0:
            return
        for join in home.tokens.joins_of(token.id):
            if not (join.minted or join.is_ended):
                await self._end_if_over(caller, join)
        if self._desk.rooms.home.aggregate.tokens.uses_left(token) <= 0:
            raise Refused("token_used_up")

    async def _end_if_over(self, caller: Caller, join: Join) -> None:
        """Give the use of a join back that came to nothing."""
        handle = await self._desk.rooms.get(join.room)
        request = standing_request((await handle.quiet()).state.requests, join.agent)
        if request is not None and (request.state in ("denied", "closed") or end_of(handle, request)):
            await self._end_join(caller, join)

    async def _end_join(self, caller: Caller, join: Join) -> None:
        by = self._newcomers.by(caller, self._agent(join))
        await self._desk.rooms.home.submit(c.EndJoin(operation="join.find", join=join.id, denied=True), by)

    async def _knock(self, handle: RoomHandle, token: Token, join: Join, by: By) -> str:
        """What the room says to the newcomer: a repeated knock is answered as the standing one."""
        if token.grant:
            return await self._granting.come_in(handle, token, join)
        knock = c.Knock(
            operation="join.begin",
            key_id=join.key or key_behind(self._desk, handle, token),
            name=join.name,
            host=HOST,
            wall=self._desk.now_at(handle.aggregate.state.home),
            role=join.role,
        )
        return (await handle.submit(knock, by)).decision.answer

    # -- how it stands -------------------------------------------------------------------------------------

    async def _settled(self, caller: Caller, token: Token, join: Join, label: str, wait_ms: int) -> t.JoinInfo:
        """How a join stands: at once, or once it is decided."""

        async def look(wait: Wait) -> t.JoinInfo | None:
            wait.on(topics.decision(join.room, join.agent), topics.life(join.room))
            stands = await self._look(caller, token, join.id, label)
            return stands if stands.status != "pending" or wait.over else None

        return await self._desk.waits.until(caller, look, trio.current_time() + wait_ms / 1000)

    async def _look(self, caller: Caller, token: Token, id: str, label: str) -> t.JoinInfo:
        """How a join stands now, once the steps are taken that could be: the person's word, where the token has it,
        and the newcomer's own token."""
        desk = self._desk
        join = desk.rooms.home.aggregate.tokens.join(id)
        if join is None:
            raise Refused("token_invalid")  # its token was revoked meanwhile
        if join.minted:
            return await self._joined(join)
        if join.is_ended:
            return await self._ended(token, join)
        handle = await desk.rooms.get(join.room)
        me = self._agent(join)
        by = self._newcomers.by(caller, me)
        if end_of(handle, standing_request((await handle.quiet()).state.requests, join.agent)):
            # With a wrong key another knock would be another try.
            await self._end_join(caller, join)
            return await self._ended(token, join)
        with trio.CancelScope(shield=True):
            answer = await self._asked(handle, token, join, by)
            if answer == "pending" and token.admits and await self._admitted(handle, token, join):
                answer = "member"
            if answer in ("member", "joined"):
                await self._tokens.mint(
                    by,
                    me,
                    token.room,
                    access=_access(token),
                    days=MAX_DAYS,
                    label=label or join.name,
                    parent=token.id,
                    authority="token",
                    join=join.id,
                )
                join = desk.rooms.home.aggregate.tokens.join(id)
        if join is None:
            raise Refused("token_invalid")
        if join.minted:
            return await self._joined(join)
        if answer != "pending":
            # Also without a request of its own: a denial covers the other agents of a person.
            await self._end_join(caller, join)
            return await self._ended(token, join)
        return await self._pending(caller, handle, join)

    async def _asked(self, handle: RoomHandle, token: Token, join: Join, by: By) -> str:
        """What the room says: a daemon that died between the join and its knock goes on here."""
        try:
            return await self._knock(handle, token, join, by)
        except Refused as error:
            if error.code == "room_closed":
                return "closed"
            raise

    async def _admitted(self, handle: RoomHandle, token: Token, join: Join) -> bool:
        """Let a newcomer in by the word that the person gave beforehand: they typed the command that minted the token.
        Where this home asks for a stronger proof than a command, a person is asked on each."""
        desk = self._desk
        try:
            require_proof(desk, "cli", admit=True)
        except Refused:
            return False
        request = standing_request((await handle.quiet()).state.requests, join.agent)
        minter = desk.rooms.home.aggregate.state.agents[token.agent]
        by = By(actor=minter.id, principal=minter.principal, session=token.id, host=HOST, via="http")
        if request is not None and request.state == "pending":
            try:
                await self._approving.decide(by, handle, request, admit=True, proof="cli", operation="join.begin")
            except Refused as error:
                if error.code in ("not_owner", "no_such_room"):
                    return False  # the room is another person's by now, who decides on each
                if error.code == "knock_unfinished":
                    return False  # the owner's machine goes on with the exchange, and whoever asks again comes here
                if error.code != "already_decided":
                    raise
        state = (await handle.quiet()).state
        member = state.members.get(join.agent)
        return member is not None and member.present

    async def _joined(self, join: Join) -> t.JoinInfo:
        """The newcomer's own token, as long as it is the one that was minted for the join."""
        text = self._tokens.text_of(join)
        token = self._desk.rooms.home.aggregate.tokens.holding(join.minted, self._desk.clock.now())
        agent, role, name = join.name, "", None
        try:
            state = (await (await self._desk.rooms.get(join.room)).quiet()).state
            agent, name = handle_of(state, join.agent), state.name
            role = state.members[join.agent].role
        except ParlerError:
            pass  # the room is gone, and the token with it soon
        return t.JoinInfo(
            id=join.id,
            status="joined",
            room=join.room,
            agent=agent,
            name=name,
            role=role,
            token=None if token is None else text,
            token_id=None if token is None else token.id,
            expires_at=None if token is None else token.expires_at,
            hint="" if token is not None else "Its token was told before, and was replaced or revoked since.",
        )

    async def _ended(self, token: Token, join: Join) -> t.JoinInfo:
        handle = await self._desk.rooms.get(join.room)
        state = (await handle.quiet()).state
        end = end_of(handle, standing_request(state.requests, join.agent))
        if state.closed:
            hint = "The room was closed."
        elif end:
            hint = over_hint(end)
        else:
            hint = denied_hint(state, self._agent(join), join.key or key_behind(self._desk, handle, token))
        status: Literal["closed", "denied"] = "closed" if state.closed else "denied"
        return t.JoinInfo(id=join.id, status=status, room=join.room, agent=join.name, hint=hint)

    async def _pending(self, caller: Caller, handle: RoomHandle, join: Join) -> t.JoinInfo:
        request = standing_request((await handle.quiet()).state.requests, join.agent)
        shown = request is not None and shows_code(self._desk, caller)
        code = handle.join_code(request.id) if shown and request is not None else None
        return t.JoinInfo(
            id=join.id,
            status="pending",
            room=join.room,
            agent=join.name,
            role=join.role,
            join_code=code,
            hint=BY_NAME if code is None else f"A person has to approve this. Tell them this code: {code}",
        )

    def _agent(self, join: Join) -> AgentRecord:
        return self._desk.rooms.home.aggregate.state.agents[join.agent]


def _access(token: Token) -> tuple[t.Access, ...]:
    return tuple(access for access in t.ACCESSES if access in token.access)
