"""Makes tokens: draws their texts and has the home room keep what they are.

The text of a token is told once and kept nowhere; the home room keeps its digest. Where a request for a token may come
twice, the text follows from a secret of this home, so that both get the same. Not here: who may ask for one
(`token_handlers`, `joins`, `visitors`), and who shows one (`bearers`). Below: the home room's line, `join_keys`.
Invariant: no token is left whose key in its room did not come to be, and no such key whose token did not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core.errors import ParlerError
from parlerd.core.identities import AgentRecord
from parlerd.core.model import HOME_ROOM, AgentId, By, KeyId, Millis, RoomId, TokenKind
from parlerd.core.tokens import DAY_MS, Join, Token
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.join_keys import end_key, make_key
from parlerd.identity import tokens
from parlerd.operations import types as t
from parlerd.operations.contracts import CONTRACT


class Tokens:
    """Makes tokens."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def mint(
        self,
        by: By,
        agent: AgentRecord,
        room: RoomId,
        *,
        access: Iterable[t.Access],
        days: int,
        label: str,
        parent: str = "",
        authority: str = "person",
        join: str = "",
        rooms: Sequence[RoomId] = (),
        opens: int = 0,
    ) -> tuple[str, Token]:
        """A token of an agent in a room, or in several `rooms`, of which the room is the first, with which so many more
        may be opened: its text, which is nowhere else, and its record. One that is made of a
        `parent` holds no longer than that; that of a `join` is made once, and the same each time. Raises `Refused`:
        `too_many_tokens`, `no_such_token`, `not_permitted`, `invalid_param`."""
        now, kind = self._desk.clock.now(), _kind_of(rooms, opens)
        text = self._secret(agent.id, join) if join else self._drawn(kind)
        digest = tokens.digest_of(text)
        command = self._command(agent, room, digest, access=access, days=days, label=label, parent=parent)
        command = msgspec.structs.replace(
            command, authority=authority, join=join, kind=kind, rooms=tuple(rooms), opens=opens
        )
        await self._desk.rooms.home.submit(command, by)
        return text, self._found(digest, now)

    async def mint_joining(
        self,
        caller: Caller,
        me: AgentRecord,
        handle: RoomHandle,
        *,
        access: Iterable[t.Access],
        days: int,
        label: str,
        uses: int,
        parent: str = "",
        approval: bool = False,
    ) -> tuple[str, Token]:
        """A token with which new agents come into a room: the person's, who with `approval` is asked about each all the
        same, or made of a `parent` by its agent. The key of
        the room that stands behind it is there before it, and ends where it does not come to be. Raises `Refused` as
        `mint` does, and as the room refuses a key."""
        desk, text, is_person = self._desk, self._drawn("aj"), not parent
        now, by, digest = desk.clock.now(), desk.by(caller, me), tokens.digest_of(text)
        command = self._command(me, handle.room, digest, access=access, days=days, label=label, parent=parent)
        command = msgspec.structs.replace(
            command,
            authority="person" if is_person else "token",
            kind="aj",
            uses=uses,
            admits=is_person and not approval,
        )
        await make_key(desk, me, handle, by, digest=digest, until=command.expires_at, uses=uses, person=is_person)
        with trio.CancelScope(shield=True):
            try:
                await desk.rooms.home.submit(command, by)
            except ParlerError:
                # By the home itself: the token of whoever asked may be why, and nothing is done with that any more.
                home = msgspec.structs.replace(by, session=HOME_ROOM)
                await end_key(desk, home, handle.room, digest)
                raise
        return text, self._found(digest, now)

    def _command(
        self,
        agent: AgentRecord,
        room: RoomId,
        digest: bytes,
        *,
        access: Iterable[t.Access],
        days: int,
        label: str,
        parent: str,
    ) -> c.MintToken:
        now = self._desk.clock.now()
        until = Millis(now + days * DAY_MS)
        if parent and (of := self._desk.rooms.home.aggregate.tokens.holding(parent, now)) is not None:
            until = min(until, of.expires_at)
        return c.MintToken(
            operation="token.mint",
            digest=digest,
            agent=agent.id,
            room=room,
            access=tuple(dict.fromkeys(access)),
            wall=now,
            expires_at=until,
            label=label,
            parent=parent,
            contract=CONTRACT,
        )

    async def mint_for_invite(
        self,
        by: By,
        me: AgentRecord,
        handle: RoomHandle,
        key: KeyId,
        *,
        access: Iterable[t.Access],
        days: int,
        label: str,
        uses: int,
        approval: bool,
    ) -> tuple[str, Token]:
        """The person's token with which new agents knock with the key of an invite. They are let in by the person's
        word where the room is that person's, who does not want to be asked all the same (`approval`). Where it is
        another's, that one decides as about every knock. Raises `Refused` as `mint` does."""
        text = self._drawn("aj")
        is_own = handle.aggregate.state.owner_principal == me.principal
        digest = tokens.digest_of(text)
        command = self._command(me, handle.room, digest, access=access, days=days, label=label, parent="")
        command = msgspec.structs.replace(command, kind="aj", uses=uses, admits=is_own and not approval, key=key)
        await self._desk.rooms.home.submit(command, by)
        return text, self._found(digest, command.wall)

    async def mint_for_key(self, by: By, me: AgentRecord, room: RoomId, text: str, *, authority: str) -> Token:
        """The token of this text with which one new agent comes in that knocks with a session key."""
        command = self._command(
            me, room, tokens.digest_of(text), access=t.DEFAULT_ACCESS, days=t.DEFAULT_DAYS, label="", parent=""
        )
        command = msgspec.structs.replace(command, authority=authority, kind="aj", uses=1)
        await self._desk.rooms.home.submit(command, by)
        return self._found(command.digest, command.wall)

    def text_for(self, key: KeyId, request: str) -> str:
        """The text of the token that a session key is exchanged for by this request."""
        secret = self._desk.keys.opening_secret(AgentId(key), f"knock {request}")
        return tokens.made_of(secret, "aj")

    def text_of(self, join: Join) -> str:
        """The text of the token that a join came to."""
        return self._secret(join.agent, join.id)

    async def revoke(self, by: By, token: str) -> None:
        """Take a token back that nobody was told."""
        await self._desk.rooms.home.submit(c.RevokeToken(operation="token.revoke", token=token, authority="door"), by)

    async def rotate(self, by: By, token: str) -> tuple[str, Token]:
        """Another token in the place of this one. Raises `Refused`: `no_such_token`."""
        now = self._desk.clock.now()
        held = self._desk.rooms.home.aggregate.tokens.holding(token, now)
        text = self._drawn("as" if held is None else held.kind)
        digest = tokens.digest_of(text)
        command = c.RotateToken(operation="token.rotate", token=token, digest=digest, wall=now, contract=CONTRACT)
        await self._desk.rooms.home.submit(command, by)
        return text, self._found(digest, now)

    def _drawn(self, kind: TokenKind) -> str:
        return tokens.made_of(self._desk.random.bytes(tokens.SECRET_BYTES), kind)

    def _secret(self, agent: AgentId, join: str) -> str:
        """The text that follows from a join and from this home's secret. No idempotency key has a space in it."""
        return tokens.made_of(self._desk.keys.opening_secret(agent, f"join {join}"))

    def _found(self, digest: bytes, now: Millis) -> Token:
        token = self._desk.rooms.home.aggregate.tokens.find(digest, now)
        assert token is not None
        return token


def _kind_of(rooms: Sequence[RoomId], opens: int) -> TokenKind:
    """The kind of a token that acts: `rooms` are those of one of several, or of one with which so many are opened."""
    return "ah" if rooms or opens else "as"
