"""Tokens for rooms of other homes, as their person asks for them: `token.mint` and `token.revoke` where the room's home
speaks for the agent.

    token.mint --> a grant, signed by the person --> link.grant --> the relay knows the digest of the token
               --> text, base URL and the file of the relay's own authority

The token's text is drawn here and told once; the relay is given its digest, so an answer that was lost loses no token,
and the relay never reads the text before its program shows it. What was minted is also a fact of this home, by which it
is listed and revoked; here the token opens nothing, because its agent is none of this home's.

Not here: what a relay does with a grant (`granting`). Above: `bearers`. Below: the room's handle, the home room.
Invariant: what a relay says is kept and shown only where it has the form of what it should be.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from parlerd.core import commands as c
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.grants import SCOPES, agent_of, digest_of, given, joiner_of
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, By, Millis, TokenKind, agent_name, is_granted_id, label
from parlerd.core.statements import MAX_GRANTED, NONCE, OPEN, Grant, MayOpen
from parlerd.core.tokens import DAY_MS, MAX_DAYS, Token
from parlerd.engine.authors import Attested, Author
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.identity import tokens
from parlerd.operations import types as t

FOLDER: Final = "authorities"
"""The folder in Parler's home with the certificates that clients of relays trust."""
_ADDRESS: Final = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}\Z")
_CERTIFICATE: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/=]{1,76}\n){1,200}-----END CERTIFICATE-----\n\Z"
)
_MOST_MS: Final = MAX_DAYS * DAY_MS - 600_000
"""How long a grant holds at most: a little less than a relay takes, whose clock is known only about."""
_UNKNOWN: Final = frozenset({"home_unreachable", "offline", "draining", "connection_lost"})
"""Errors after which nobody knows what the relay did."""


class Made(NamedTuple):
    """A token for a room of another home: its text, its record here, and where and how its program finds that home."""

    text: str
    token: Token
    url: str | None
    authority_file: str


class TokensThere:
    """Mints tokens at other homes, and revokes them."""

    def __init__(self, desk: Desk, author: Author) -> None:
        self._desk = desk
        self._author = author

    async def mint(
        self,
        by: By,
        me: AgentRecord,
        handle: RoomHandle,
        *,
        access: Iterable[str],
        days: int,
        name: str,
        called: str,
        opens: int = 0,
    ) -> Made:
        """A token that acts as a new agent of this name in a room of another home, and may open so many rooms there, of
        which `me` is the owner; `called` is what the person calls the token. Raises `Refused`: `not_owner`,
        `invalid_param`, `invalid_name`, `too_many_tokens`, what the room's home refuses, or that it does not answer."""
        wanted = agent_name(label(name or me.name))
        grant, signed = await self._granted(by, me, handle, access=access, days=days, names=(wanted,), opens=opens)
        text = self._drawn("ah" if opens else "as")
        command = c.AdmitGranted(
            operation="token.mint",
            agent=agent_of(digest_of(signed.body), wanted),
            name=wanted,
            grant=grant,
            gives=given(signed.body, grant, wanted),
            principal=me.principal,
        )
        mine = self._mine(command.agent, handle, text, grant, days=days, called=called)
        if opens:
            mine = msgspec.structs.replace(mine, kind="ah", rooms=(handle.room,), opens=opens)
        return await self._asked(by, handle, text, mine, lambda: handle.grant(by, command, signed, mine))

    async def mint_joining(
        self,
        by: By,
        me: AgentRecord,
        handle: RoomHandle,
        *,
        access: Iterable[str],
        days: int,
        uses: int,
        approval: bool,
        called: str,
    ) -> Made:
        """A token with which so many new agents come into a room of another home, which speaks for each; with
        `approval` the person decides about each. Raises as `mint` does."""
        grant, signed = await self._granted(by, me, handle, access=access, days=days, count=uses, approval=approval)
        text = self._drawn("aj")
        mine = self._mine(joiner_of(digest_of(signed.body)), handle, text, grant, days=days, called=called)
        mine = msgspec.structs.replace(mine, kind="aj", uses=uses, admits=not approval)
        return await self._asked(by, handle, text, mine, lambda: handle.grant_many(by, grant, signed, mine))

    async def _granted(
        self,
        by: By,
        me: AgentRecord,
        handle: RoomHandle,
        *,
        access: Iterable[str],
        days: int,
        names: tuple[str, ...] = (),
        count: int = 0,
        approval: bool = False,
        opens: int = 0,
    ) -> tuple[Grant, Attested]:
        """A grant for a room, and the person's signature."""
        desk, state = self._desk, (await handle.quiet()).state
        if state.owner_principal != me.principal:
            said = "Only the person of a room's owner lets its relay speak for an agent."
            raise Refused("not_owner", said, hint="A token for this machine's own door: parler token mint --here")
        scopes = tuple(dict.fromkeys((*access, OPEN) if opens else access))
        if more := sorted(set(scopes) - (SCOPES if opens else SCOPES - {OPEN})):
            raise Refused("invalid_param", f"No token at a relay is for {', '.join(more)}.", param="access")
        if count > MAX_GRANTED:
            raise Refused(
                "invalid_param", f"With one token {MAX_GRANTED} agents come to a relay at most.", param="uses"
            )
        grant = Grant(
            home=state.home,
            rooms=(handle.room,),
            principal=me.principal,
            names=names,
            count=count,
            approval=approval,
            scopes=scopes,
            not_after=Millis(desk.now_at(state.home) + min(days * DAY_MS, _MOST_MS)),
            opens=MayOpen(rooms=opens, owner=me.id, handle=agent_name(me.name)) if opens else msgspec.UNSET,
            nonce=desk.random.bytes(NONCE),
        )
        return grant, self._author.attest(grant, by)

    def _drawn(self, kind: TokenKind) -> str:
        return tokens.made_of(self._desk.random.bytes(tokens.SECRET_BYTES), kind)

    def _mine(
        self, agent: AgentId, handle: RoomHandle, text: str, grant: Grant, *, days: int, called: str
    ) -> c.MintToken:
        """The record of a token here."""
        now = self._desk.clock.now()
        return c.MintToken(
            operation="token.mint",
            digest=tokens.digest_of(text),
            agent=agent,
            room=handle.room,
            access=grant.scopes,
            wall=now,
            expires_at=Millis(now + days * DAY_MS),
            label=called,
        )

    async def _asked(
        self,
        by: By,
        handle: RoomHandle,
        text: str,
        mine: c.MintToken,
        ask: Callable[[], Awaitable[t.GrantedAtRoom]],
    ) -> Made:
        desk = self._desk
        # Before it is asked for there: what is not listed here could not be revoked.
        await desk.rooms.home.submit(mine, by)
        token = desk.rooms.home.aggregate.tokens.find(mine.digest, mine.wall)
        assert token is not None
        try:
            granted = await ask()
        except ParlerError as error:
            if error.code not in _UNKNOWN:
                await desk.rooms.home.submit(c.RevokeToken(operation="token.revoke", token=token.id), by)
            raise
        url = f"https://{granted.address}" if _ADDRESS.match(granted.address) else None
        return Made(text, token, url, await self._keep(handle.home_name, granted.authority))

    async def revoke(self, by: By, token: Token) -> None:
        """End a token at the home of its room, and its agent with it. That home is asked also where nothing here shows
        that it ever knew the token: an answer may have been lost. Raises `Refused`: `home_unreachable`, `offline`."""
        rooms = [token.room, *[each.room for each in await self._desk.library.memberships(token.agent)]]
        for room in dict.fromkeys(rooms):
            try:
                handle = await self._desk.rooms.get(room)
                await self._deny(by, handle, token.agent)
                await handle.ungrant(by, token.agent)
            except Refused as error:
                # There is no such room any more, and nobody is in it; but it may have opened others.
                if error.code not in ("no_such_room", "room_deleted"):
                    raise

    async def _deny(self, by: By, handle: RoomHandle, joiner: AgentId) -> None:
        """Refuse those who wait to come in with a token that joins: nobody but the person can."""
        for request in list(handle.aggregate.state.requests.values()):
            gives = request.given
            if gives is None or request.state != "pending" or joiner_of(gives.grant) != joiner:
                continue
            denied = c.DecideRequest(
                operation="token.revoke", request=request.id, admit=False, proof="cli", principal=by.principal
            )
            try:
                await handle.submit(denied, by)
            except Refused as error:
                if error.code != "already_decided":
                    raise

    async def _keep(self, home: str, certificate: str) -> str:
        """Keep what clients of a relay trust: the file, or nothing where there is none."""
        folder = self._desk.home_path
        if not folder or _CERTIFICATE.match(certificate) is None:
            return ""
        path = Path(folder) / FOLDER / f"{home}.pem"
        await self._desk.library.aside(partial(_replace, path, certificate.encode("ascii")))
        return str(path)


def is_there(agent: AgentId) -> bool:
    """Whether a token's agent acts at the home of its room, and not here."""
    return is_granted_id(agent)


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all. Raises `ParlerError(home_not_writable)`."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError as error:
        raise ParlerError("home_not_writable", f"{path} cannot be written: {error.strerror}.") from error
