"""Tokens: what lets somebody act as an agent over HTTP, who has no key and no connection of this machine.

    aj  --(a name)-->  a join  --(let in)-->  as      who shows an `aj` comes in as a new agent, and is given an `as`
    as  --(mint)-->  as, aj                           what is made of a token is no wider, and ends with it
    ah  --(open)-->  a room, in which it acts too     and so does each token that it was made of

A token is known by the digest of its text, and the text is nowhere. Whoever shows the text may do what the token is for
(`access`) until the token expires or is revoked; what the agent itself may not do, the token may not. Whoever has one
that is for it (`mint`) may make another of it, which is no wider and ends with it. A token that joins has so many uses;
each join takes one at once, and gives it back where it came to nothing.

Not here: what a text looks like (`identity.tokens`), how an agent comes into a room (the room's own rules), and what
becomes of calls under way (the engine). Above: `home`. Below: the shapes. Invariants: a token that was revoked never
holds again; one that expired does not hold by the wall clock as it is then; the number of tokens is bounded; nobody
joins with a token that is used up, or opens one room more than it is for; what came of a token ends with it, holds no
longer and is of no other rooms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.model import AgentId, By, Ids, KeyId, Millis, RoomId, TokenKind

MAX_TOKENS: Final = 1_000
"""Tokens of one home that hold: each is about 200 bytes of every snapshot."""
MAX_DAYS: Final = 180
"""For how many days a token may hold. Source: contract spec, Tokens."""
DAY_MS: Final = 24 * 3600 * 1000
MAX_ROOMS: Final = 32
"""Rooms of one token, with those that it may open: each is about 30 bytes of every snapshot, and the handlers for a set
of rooms are kept."""
MAX_USES: Final = 100
"""Agents that may come in with one token."""
MAX_ENDED: Final = 64
"""Joins of one token that came to nothing and are remembered, for whoever asks what became of them."""
_WHO_OPENS: Final = "Ask the person for one that does: parler token mint --opens N"


class Token(msgspec.Struct, frozen=True, array_like=True):
    """A token that was minted: as whom, where and for what it lets somebody act, and until when. `label` is what its
    person calls it, `parent` the token of which it was made.

    One that joins (`aj`) was minted by `agent`, and `access` is what those get a token for who come with it: `uses` of
    them. `admits` says that the person let all of them in beforehand. They knock with the `key` of an invite, or where
    it has none with one that stands behind this token alone; at a relay they come in by a signed `grant` instead.

    One of several rooms (`ah`) acts in `rooms`, of which `room` is the first. It opens so many (`opens`), of which so
    many were `opened` and are among its rooms; before the first it may be of no room. At a relay it opens them within
    its `grant`.

    `contract` is the version of what is promised over HTTP by which those of its requests are answered that name none;
    empty for one from before that was noted.
    """

    id: str
    digest: bytes
    agent: AgentId
    room: RoomId
    access: tuple[str, ...]
    minted_at: Millis
    expires_at: Millis
    label: str = ""
    parent: str = ""
    kind: TokenKind = "as"
    uses: int = 0
    admits: bool = False
    rooms: tuple[RoomId, ...] = ()
    contract: str = ""
    opens: int = 0
    opened: int = 0
    key: KeyId = KeyId("")
    grant: bytes = b""
    grant_signature: bytes = b""

    @property
    def within(self) -> frozenset[RoomId]:
        """The rooms that there are for whoever shows it."""
        return _rooms_of(self.room, self.rooms)


class Join(msgspec.Struct, frozen=True, array_like=True):
    """A new agent that asked to come into a room with a token. `request` is the key of its request and `asked` the
    digest of what it asked. `key` is the key of the room with which it knocks, where that is not the one behind the
    token. `minted` is the token that it got once it was in; `is_ended` says that it came to nothing.
    What the room said to it the room knows."""

    id: str
    token: str
    agent: AgentId
    room: RoomId
    name: str
    role: str
    request: str
    asked: bytes
    begun_at: Millis
    key: KeyId = KeyId("")
    minted: str = ""
    is_ended: bool = False


class TokensState(msgspec.Struct):
    """The tokens that were minted and not revoked, in the order in which they came, expired ones until there are new
    ones; and the joins of those tokens."""

    tokens: dict[str, Token] = {}
    joins: dict[str, Join] = {}


class Tokens(Facet[TokensState]):
    """Mints tokens, and revokes them; and lets new agents begin to join."""

    __slots__ = ("_by_digest",)

    def __init__(self, state: TokensState) -> None:
        super().__init__(state)
        self._by_digest = {token.digest: token.id for token in state.tokens.values()}
        """The tokens by the digests of their texts."""

    # -- asking --------------------------------------------------------------------------------------------

    def find(self, digest: bytes, now: Millis) -> Token | None:
        """The token with a text of this digest, if it holds at `now`, by the wall clock."""
        id = self._by_digest.get(digest)
        return None if id is None else self.holding(id, now)

    def holding(self, id: str, now: Millis) -> Token | None:
        """The token of this id, if it holds at `now`, by the wall clock."""
        token = self.state.tokens.get(id)
        return token if token is not None and now < token.expires_at else None

    def tree(self, id: str) -> list[str]:
        """A token and all that were made of it, by their ids."""
        # Whatever is made of a token comes after it.
        found = {id: None}
        for token in self.state.tokens.values():
            if token.parent in found:
                found[token.id] = None
        return list(found)

    def all(self) -> Iterator[Token]:
        """Every token that was not revoked, the oldest first."""
        return iter(self.state.tokens.values())

    def join(self, id: str) -> Join | None:
        """The join of this id, while its token was not revoked."""
        return self.state.joins.get(id)

    def joins_of(self, token: str) -> list[Join]:
        """The joins of a token, the oldest first."""
        return [join for join in self.state.joins.values() if join.token == token]

    def asked(self, token: str, request: str) -> Join | None:
        """The join of a token that was asked for with this key."""
        return next((join for join in self.joins_of(token) if join.request == request), None)

    def uses_left(self, token: Token) -> int:
        """How many agents may still join with a token."""
        return token.uses - sum(not join.is_ended for join in self.joins_of(token.id))

    def require_opens(self, id: str, now: Millis) -> Token:
        """The token of this id, with which some rooms may be opened, or were. Raises `Refused`: `not_permitted`,
        `token_invalid`."""
        token = self.holding(id, now)
        if token is None:
            raise Refused("token_invalid")
        if not token.opens:
            raise Refused("not_permitted", "This token opens no room.", hint=_WHO_OPENS)
        return token

    def require_opening(self, id: str, now: Millis) -> None:
        """Refuse to open one room more than a token, and each that it was made of, is for. Raises `Refused`:
        `token_used_up`, and as `require_opens` does."""
        token = self.require_opens(id, now)
        if self.opens_left(token) <= 0:
            raise Refused("token_used_up", "As many rooms were opened with this token as it is for.", hint=_WHO_OPENS)

    def opens_left(self, token: Token) -> int:
        """How many rooms may still be opened with a token: as many as with each that it was made of, and none with one
        that was revoked."""
        return max(0, min((each.opens - each.opened for each in self._line(token.id)), default=0))

    def _line(self, id: str) -> Iterator[Token]:
        """A token, and those that it was made of."""
        while (token := self.state.tokens.get(id)) is not None:
            yield token
            id = token.parent

    # -- deciding ------------------------------------------------------------------------------------------

    def _mint(self, command: c.MintToken, by: By, now: Millis, ids: Ids) -> Decision:
        if sum(command.wall < token.expires_at for token in self.state.tokens.values()) >= MAX_TOKENS:
            raise Refused("too_many_tokens", limit=MAX_TOKENS)
        if not command.wall < command.expires_at <= command.wall + MAX_DAYS * DAY_MS:
            raise Refused("invalid_param", f"A token holds for 1 to {MAX_DAYS} days.", param="days")
        if command.join and self._is_minted(command):
            return Decision(answer="minted")
        if command.opens and (command.kind != "ah" or "open" not in command.access):
            raise Refused(
                "invalid_param", "Only a token that is for `open`, and joins no room, opens some.", param="opens"
            )
        if len(command.rooms) + command.opens > MAX_ROOMS:
            raise Refused(
                "invalid_param", f"A token is of {MAX_ROOMS} rooms at most, with those it opens.", param="opens"
            )
        if command.parent:
            self._require_no_wider(command)
        minted = e.TokenMinted(
            token=ids.new("tk"),
            digest=command.digest,
            agent=command.agent,
            room=command.room,
            access=command.access,
            expires_at=command.expires_at,
            label=command.label,
            parent=command.parent,
            kind=command.kind,
            uses=command.uses,
            admits=command.admits,
            rooms=command.rooms,
            join=command.join,
            contract=command.contract,
            opens=command.opens,
            key=command.key,
            grant=command.grant,
            grant_signature=command.grant_signature,
        )
        return Decision((minted,), authority=command.authority)

    def _is_minted(self, command: c.MintToken) -> bool:
        """Whether the token of a join was minted before. Refuses one of a join that there is not, or that ended."""
        join = self.state.joins.get(command.join)
        if join is None or join.is_ended or (join.token, join.agent) != (command.parent, command.agent):
            raise Refused("no_such_join")
        return bool(join.minted)

    def _require_no_wider(self, command: c.MintToken) -> None:
        """Refuse what is to be made of a token and would be for more, or for longer, or for another agent or room."""
        parent = self.holding(command.parent, command.wall)
        # Only a join makes something of a token that joins, and it makes nothing of any other.
        if parent is None or (parent.kind == "aj") != bool(command.join):
            raise Refused("no_such_token")
        if not _rooms_of(command.room, command.rooms) <= parent.within:
            raise Refused("no_such_token")
        if command.opens > (left := self.opens_left(parent)):
            raise Refused(
                "not_permitted", f"Your token opens {left} rooms more, and none that is made of it opens more."
            )
        if parent.agent != command.agent and not command.join:
            raise Refused("no_such_token")
        if command.admits:
            raise Refused("not_permitted", "Only the person lets agents in beforehand.")
        if more := sorted(set(command.access) - set(parent.access)):
            raise Refused("not_permitted", f"Your token is not for {', '.join(more)}, so none that is made of it is.")
        if command.expires_at > parent.expires_at:
            raise Refused("invalid_param", "It cannot hold for longer than your token.", param="days")

    def _rotate(self, command: c.RotateToken, by: By, now: Millis, ids: Ids) -> Decision:
        old = self.holding(command.token, command.wall)
        if old is None or old.agent != by.actor or old.kind == "aj":
            raise Refused("no_such_token")
        # As long as the old one was minted for, and no longer than the one that it was made of.
        until = command.wall + min(old.expires_at - old.minted_at, MAX_DAYS * DAY_MS)
        if old.parent:
            parent = self.holding(old.parent, command.wall)
            if parent is None:
                raise Refused("no_such_token")
            until = min(until, parent.expires_at)
        minted = e.TokenMinted(
            token=ids.new("tk"),
            digest=command.digest,
            agent=old.agent,
            room=old.room,
            access=old.access,
            expires_at=Millis(until),
            label=old.label,
            parent=old.parent,
            kind=old.kind,
            rooms=old.rooms,
            contract=command.contract,
            opens=max(0, old.opens - old.opened),
            grant=old.grant,
            grant_signature=old.grant_signature,
        )
        return Decision((e.TokenRevoked(token=old.id), minted), authority="token")

    def _revoke(self, command: c.RevokeToken, by: By, now: Millis, ids: Ids) -> Decision:
        if command.token not in self.state.tokens:
            raise Refused("no_such_token")
        return Decision((e.TokenRevoked(token=command.token),), authority=command.authority)

    def _begin_join(self, command: c.BeginJoin, by: By, now: Millis, ids: Ids) -> Decision:
        token = self.holding(command.token, command.wall)
        if token is None or token.kind != "aj":
            raise Refused("no_such_token")
        known = self.asked(token.id, command.request)
        if known is not None:
            if known.asked != command.asked:
                raise Refused("idempotency_conflict", key=command.request)
            return Decision(answer="begun")
        if self.uses_left(token) <= 0:
            raise Refused("token_used_up")
        begun = e.JoinBegun(
            join=ids.new("jn"),
            token=token.id,
            agent=command.agent,
            room=token.room,
            name=command.name,
            role=command.role,
            request=command.request,
            asked=command.asked,
            key=command.key,
        )
        return Decision((begun,), authority="token")

    def _end_join(self, command: c.EndJoin, by: By, now: Millis, ids: Ids) -> Decision:
        join = self.state.joins.get(command.join)
        if join is None or join.is_ended or join.minted:
            return Decision(answer="ended")
        return Decision((e.JoinEnded(join=join.id, denied=command.denied),), authority="token")

    # -- becoming ------------------------------------------------------------------------------------------

    def _minted(self, event: e.TokenMinted, header: e.Header) -> None:
        tokens = self.state.tokens
        if len(tokens) >= 2 * MAX_TOKENS:
            # So many that most of them have expired.
            for old in [token for token in tokens.values() if token.expires_at <= header.at]:
                self._forget(old.id)
        tokens[event.token] = Token(
            event.token,
            event.digest,
            event.agent,
            event.room,
            event.access,
            header.at,
            event.expires_at,
            event.label,
            event.parent,
            event.kind,
            event.uses,
            event.admits,
            event.rooms,
            event.contract,
            event.opens,
            key=event.key,
            grant=event.grant,
            grant_signature=event.grant_signature,
        )
        self._by_digest[event.digest] = event.token
        join = self.state.joins.get(event.join)
        if join is not None:
            self.state.joins[join.id] = msgspec.structs.replace(join, minted=event.token)

    def _opened(self, event: e.RoomNamed, header: e.Header) -> None:
        for token in list(self._line(event.token)):
            self.state.tokens[token.id] = msgspec.structs.replace(
                token, room=token.room or event.room, rooms=(*token.rooms, event.room), opened=token.opened + 1
            )

    def _revoked(self, event: e.TokenRevoked, header: e.Header) -> None:
        for id in self.tree(event.token):
            self._forget(id)

    def _forget(self, id: str) -> None:
        token = self.state.tokens.pop(id, None)
        if token is not None:
            self._by_digest.pop(token.digest, None)
            for join in self.joins_of(id):
                del self.state.joins[join.id]

    def _begun(self, event: e.JoinBegun, header: e.Header) -> None:
        self.state.joins[event.join] = Join(
            event.join,
            event.token,
            event.agent,
            event.room,
            event.name,
            event.role,
            event.request,
            event.asked,
            header.at,
            event.key,
        )

    def _ended(self, event: e.JoinEnded, header: e.Header) -> None:
        join = self.state.joins.pop(event.join, None)
        if join is None or not event.denied:
            return  # what was refused may be asked again
        self.state.joins[join.id] = msgspec.structs.replace(join, is_ended=True)
        ended = [each for each in self.joins_of(join.token) if each.is_ended]
        for old in ended[:-MAX_ENDED]:
            del self.state.joins[old.id]

    DECIDES = (
        decides(c.MintToken, _mint),
        decides(c.RotateToken, _rotate),
        decides(c.RevokeToken, _revoke),
        decides(c.BeginJoin, _begin_join),
        decides(c.EndJoin, _end_join),
    )
    APPLIES = (
        applies(e.TokenMinted, _minted),
        applies(e.RoomNamed, _opened),
        applies(e.TokenRevoked, _revoked),
        applies(e.JoinBegun, _begun),
        applies(e.JoinEnded, _ended),
    )
    TOUCHES = (
        touches(e.TokenMinted, nobody),
        touches(e.TokenRevoked, nobody),
        touches(e.JoinBegun, nobody),
        touches(e.JoinEnded, nobody),
    )


def _rooms_of(room: RoomId, rooms: tuple[RoomId, ...]) -> frozenset[RoomId]:
    """The rooms of a token: one, several, or none yet."""
    return frozenset(rooms or ((room,) if room else ()))
