"""Tokens, and the door over HTTP that they are for."""

from __future__ import annotations

from typing import Annotated, Final, get_args

from msgspec import Meta

from parlerd.core.model import TokenKind
from parlerd.operations import samples
from parlerd.operations.entry import AWAY, IN_ROOM, Access, Family, Operation, Params, Result, Route, Short

DEFAULT_DAYS: Final = 30
"""For how many days a token holds that names no time. Source: contract spec, Tokens."""
ACCESSES: Final[tuple[Access, ...]] = get_args(Access)
Uses = Annotated[int, Meta(ge=1, le=100)]
"""How many agents come in with a token; one where nothing is said."""
Opens = Annotated[int, Meta(ge=0, le=32)]
"""How many rooms are opened with a token."""
DEFAULT_ACCESS: Final[tuple[Access, ...]] = ("read", "post", "state", "work", "files")


class MintToken(Params, frozen=True, kw_only=True):
    """The token acts as the agent that mints it, in one room, or in the several `rooms` that are named. `access` is
    what it may be used for.

    With `join` it only joins: with it `uses` new agents may come into the room, of which the person who mints it lets
    all in beforehand; `access` is then what each of them gets a token for.

    With `approval` the person decides on each all the same, where the room, or the invite, asks.

    With an `invite` as well, which is a code or a session key, they come in with that: into its room, as many and as
    long as it lets in. In a room of another person that one decides on each, where the invite asks.

    With it so many rooms may be opened as `opens` says, which are its rooms from then on, beside those that are named
    here, if any. It is for `open` then, too. With one room of a relay they are opened there, with nobody in them but
    that agent and the one that mints, which owns them.

    In a room of a relay it acts there, as a new agent for which the relay speaks; `name` is what that one is called,
    and else it is called like the agent that mints. One that joins lets the relay speak for so many, 64 at most. With
    `here` it is for this home's own door instead, where the agent that mints it acts, and newcomers have keys."""

    room: Short | None = None
    rooms: Annotated[tuple[Short, ...], Meta(max_length=32)] = ()
    join: bool = False
    invite: Short = ""
    uses: Uses | None = None
    approval: bool = False
    name: Annotated[str, Meta(max_length=64)] = ""
    here: bool = False
    opens: Opens = 0
    access: Annotated[tuple[Access, ...], Meta(min_length=1)] = DEFAULT_ACCESS
    days: Annotated[int, Meta(ge=1, le=180)] = DEFAULT_DAYS
    label: Annotated[str, Meta(max_length=64)] = ""


class NarrowToken(Params, frozen=True, kw_only=True):
    """Another token, made of the one that is shown, for the same agent and room: for no more than that one, and no
    longer. It ends with that one. Where that one is of several rooms, `room` narrows it to one of them. What `opens`
    says are some of the rooms that may be opened with that one, and both are of each.

    With `join` it only joins: with it `uses` new agents may come into the room, which the agent of the token owns.
    Where a person decides who comes in, a person decides on each."""

    room: Short | None = None
    join: bool = False
    uses: Uses | None = None
    opens: Opens = 0
    access: Annotated[tuple[Access, ...], Meta(min_length=1)]
    days: Annotated[int, Meta(ge=1, le=180)] = DEFAULT_DAYS
    label: Annotated[str, Meta(max_length=64)] = ""


class RotateToken(Params, frozen=True, kw_only=True):
    """Of the token that is shown. The new one is for the same, and holds for as long as the old one was minted for."""


class TokenInfo(Result, frozen=True, kw_only=True):
    """A token by its id, as `agent` in `room`; with a `parent` it was made of that token, and ends with it.
    `used_at` is when it was last shown; 0 is not since the daemon began. `kind` is what its text begins with: `as` acts
    as the agent, and with `aj`, which the agent minted, `uses_left` of `uses` new agents may still come in; `ah` acts
    in all `rooms`, of which `room` is the first, and with it `opens_left` of `opens` rooms may still be opened. Before
    the first, `room` may be empty. `invite` is the key reference of the invite of one that joins with
    an invite."""

    id: str
    agent: str
    room: str
    access: list[Access]
    minted_at: int
    expires_at: int
    label: str = ""
    parent: str = ""
    used_at: int = 0
    name: str = ""
    kind: TokenKind = "as"
    rooms: list[str] = []
    uses: int = 0
    uses_left: int = 0
    invite: str = ""
    opens: int = 0
    opens_left: int = 0


class MintedToken(Result, frozen=True, kw_only=True):
    """`token` is the text, which is told this once and kept nowhere. `url` is where this home answers over HTTP, or the
    relay whose room it is; null where that does not. A client trusts the certificate in `authority_file` to find the
    relay there."""

    token: str
    info: TokenInfo
    url: str | None = None
    authority_file: str = ""


class ListTokens(Params, frozen=True, kw_only=True):
    pass


class TokenList(Result, frozen=True, kw_only=True):
    tokens: list[TokenInfo]


class RevokeToken(Params, frozen=True, kw_only=True):
    id: Short


class RevokedToken(Result, frozen=True, kw_only=True):
    id: str


class ServeHttp(Params, frozen=True, kw_only=True):
    """With `stop` the door is closed. `port` 0 lets the system choose one. With `open` a program that has no token may
    open a room for programs, and come into one as a new agent."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    stop: bool = False
    open: bool = False


class ServesHttp(Result, frozen=True, kw_only=True):
    """`url` is where the home answers over HTTP; null where it does not."""

    url: str | None
    open: bool = False


_TOKEN: Final = {
    "id": "tk_0123456789abcdefghij",
    "agent": samples.ANN,
    "room": samples.ROOM,
    "access": list(DEFAULT_ACCESS),
    "minted_at": samples.AT,
    "expires_at": samples.AT + DEFAULT_DAYS * 24 * 3600 * 1000,
    "name": samples.NAME,
}

_JOIN_ERRORS: Final = ("not_owner", "room_closed", "too_many_keys", "statement_refused", *AWAY)

FAMILY: Final = Family(
    operations=(
        Operation(
            name="token.mint",
            summary="Mint a token, with which a program acts as an agent over HTTP.",
            params=MintToken,
            result=MintedToken,
            plane="person",
            effect="write",
            errors=(
                *IN_ROOM,
                *_JOIN_ERRORS,
                "too_many_tokens",
                "invalid_param",
                "throttled",
                "home_not_writable",
                "unknown_key",
                "wrong_room",
            ),
            facts=("token_minted", "token_revoked", "key_minted", "key_revoked"),
            example={"room": "auth-redesign"},
            answers=({"token": "as_...", "info": _TOKEN, "url": "http://127.0.0.1:8756"},),
            command="parler token mint",
        ),
        Operation(
            name="token.narrow",
            summary="Mint a token of the one that is shown: for no more than that, and no longer.",
            params=NarrowToken,
            result=MintedToken,
            plane="agent",
            effect="write",
            errors=("no_such_token", "too_many_tokens", "no_such_room", "room_deleted", "invalid_param", *_JOIN_ERRORS),
            facts=("token_minted", "key_minted", "key_revoked"),
            example={"access": ["read"]},
            answers=({"token": "as_...", "info": _TOKEN, "url": "http://127.0.0.1:8756"},),
            http=Route("POST /tokens", "mint"),
        ),
        Operation(
            name="token.rotate",
            summary="Take another token in the place of the one that is shown, which ends.",
            params=RotateToken,
            result=MintedToken,
            plane="agent",
            effect="destructive",
            errors=("no_such_token",),
            facts=("token_minted", "token_revoked"),
            answers=({"token": "as_...", "info": _TOKEN, "url": "http://127.0.0.1:8756"},),
            http=Route("POST /tokens/rotate", "read"),
        ),
        Operation(
            name="token.list",
            summary="List the tokens that were minted and not revoked.",
            params=ListTokens,
            result=TokenList,
            plane="person",
            effect="read",
            answers=({"tokens": [_TOKEN]},),
            command="parler token list",
        ),
        Operation(
            name="token.revoke",
            summary="Revoke a token: its calls and streams end.",
            params=RevokeToken,
            result=RevokedToken,
            plane="person",
            effect="destructive",
            errors=("no_such_token", *AWAY),
            facts=("token_revoked", "key_revoked", "join_denied"),
            example={"id": "tk_0123456789abcdefghij"},
            answers=({"id": "tk_0123456789abcdefghij"},),
            command="parler token revoke",
        ),
        Operation(
            name="http.serve",
            summary="Answer over HTTP on this machine, for programs that have a token.",
            params=ServeHttp,
            result=ServesHttp,
            plane="person",
            effect="write",
            errors=("port_taken",),
            answers=({"url": "http://127.0.0.1:8756", "open": False},),
            command="parler serve-http",
        ),
    ),
)
