"""Tokens: what lets somebody act as one agent in one room over HTTP, who has no key and no connection of this machine.

A token is known by the digest of its text, and the text is nowhere. Whoever shows the text may do what the token is for
(`access`) until the token expires or is revoked; what the agent itself may not do, the token may not. Whoever has one
that is for it (`mint`) may make another of it, which is no wider and ends with it.

Not here: what a text looks like (`identity.tokens`), and what becomes of calls under way (the engine). Above: `home`.
Below: the shapes. Invariants: a token that was revoked never holds again; one that expired does not hold by the wall
clock as it is then; the number of tokens is bounded.
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
from parlerd.core.model import AgentId, By, Ids, Millis, RoomId

MAX_TOKENS: Final = 1_000
"""Tokens of one home that hold: each is about 200 bytes of every snapshot."""
MAX_DAYS: Final = 180
"""For how many days a token may hold. Source: contract spec, Tokens."""
DAY_MS: Final = 24 * 3600 * 1000


class Token(msgspec.Struct, frozen=True, array_like=True):
    """A token that was minted: as whom, where and for what it lets somebody act, and until when. `label` is what its
    person calls it, `parent` the token of which it was made."""

    id: str
    digest: bytes
    agent: AgentId
    room: RoomId
    access: tuple[str, ...]
    minted_at: Millis
    expires_at: Millis
    label: str = ""
    parent: str = ""


class TokensState(msgspec.Struct):
    """The tokens that were minted and not revoked, in the order in which they came; expired ones until there are new
    ones."""

    tokens: dict[str, Token] = {}


class Tokens(Facet[TokensState]):
    """Mints tokens, and revokes them."""

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

    # -- deciding ------------------------------------------------------------------------------------------

    def _mint(self, command: c.MintToken, by: By, now: Millis, ids: Ids) -> Decision:
        if sum(command.wall < token.expires_at for token in self.state.tokens.values()) >= MAX_TOKENS:
            raise Refused("too_many_tokens", limit=MAX_TOKENS)
        if not command.wall < command.expires_at <= command.wall + MAX_DAYS * DAY_MS:
            raise Refused("invalid_param", f"A token holds for 1 to {MAX_DAYS} days.", param="days")
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
        )
        return Decision((minted,), authority=command.authority)

    def _require_no_wider(self, command: c.MintToken) -> None:
        """Refuse what is to be made of a token and would be for more, or for longer, or for another agent or room."""
        parent = self.holding(command.parent, command.wall)
        if parent is None or (parent.agent, parent.room) != (command.agent, command.room):
            raise Refused("no_such_token")
        if more := sorted(set(command.access) - set(parent.access)):
            raise Refused("not_permitted", f"Your token is not for {', '.join(more)}, so none that is made of it is.")
        if command.expires_at > parent.expires_at:
            raise Refused("invalid_param", "It cannot hold for longer than your token.", param="days")

    def _rotate(self, command: c.RotateToken, by: By, now: Millis, ids: Ids) -> Decision:
        old = self.holding(command.token, command.wall)
        if old is None or old.agent != by.actor:
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
        )
        return Decision((e.TokenRevoked(token=old.id), minted), authority="token")

    def _revoke(self, command: c.RevokeToken, by: By, now: Millis, ids: Ids) -> Decision:
        if command.token not in self.state.tokens:
            raise Refused("no_such_token")
        return Decision((e.TokenRevoked(token=command.token),), authority=command.authority)

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
        )
        self._by_digest[event.digest] = event.token

    def _revoked(self, event: e.TokenRevoked, header: e.Header) -> None:
        for id in self.tree(event.token):
            self._forget(id)

    def _forget(self, id: str) -> None:
        token = self.state.tokens.pop(id, None)
        if token is not None:
            self._by_digest.pop(token.digest, None)

    DECIDES = (decides(c.MintToken, _mint), decides(c.RotateToken, _rotate), decides(c.RevokeToken, _revoke))
    APPLIES = (applies(e.TokenMinted, _minted), applies(e.TokenRevoked, _revoked))
    TOUCHES = (touches(e.TokenMinted, nobody), touches(e.TokenRevoked, nobody))
