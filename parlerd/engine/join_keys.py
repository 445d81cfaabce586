"""The key of a room that stands behind a token which joins: made when the token is minted, and ended with it; or the
key of an invite, which neither is.

    token mint --join --> a key of the room, good for as many and as long --> the token
    POST /v1/joins --> the newcomer knocks with that key, as everybody knocks with one

So a room is asked about newcomers in one way, counts them in one way, and its owner's person signs what they come in
with. The key follows from the digest of the token's text (`key_text.JOINS`), and nobody is told it.

Not here: who may mint (`bearers`), coming in (`joins`). Above: those two. Below: the rooms' own lines. Invariant: there
is no such key that lets in whoever a person should be asked about.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Final

from parlerd.core import commands as c
from parlerd.core.approvals import standing_request
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import By, KeyId, Millis, RoomId
from parlerd.core.statements import KeyTerms
from parlerd.core.tokens import Join, Token
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.key_text import JOINS, spelled
from parlerd.engine.lookup import owned_rooms, room_of

_REF_CHARACTERS: Final = 24


async def room_to_join(desk: Desk, me: AgentRecord, wanted: str | None, *, person: bool) -> RoomHandle:
    """The room that a token is to lead to: one that the agent owns or, for the person, that one of their agents owns.
    Raises `Refused`: `not_owner`, `room_closed`, `invalid_param`, and as a lookup does."""
    if wanted is None:
        handle, _ = await room_of(desk, me, None)
        wanted = handle.room
    [room] = await owned_rooms(desk, me, wanted, person=person)
    handle = await desk.rooms.get(room)
    state = (await handle.quiet()).state
    if state.kind not in ("session", "channel"):
        raise Refused("invalid_param", "Nobody joins this room with a token.", param="room")
    if state.closed:
        raise Refused("room_closed")
    return handle


async def make_key(
    desk: Desk, me: AgentRecord, handle: RoomHandle, by: By, *, digest: bytes, until: Millis, uses: int, person: bool
) -> None:
    """Make the key for the token whose text has this digest, good until then by this machine's clock."""
    state, here = handle.aggregate.state, desk.keys.id
    if state.home != here:
        await desk.homes.meet(state.home)
    ref, gated = ref_of(digest), state.lifecycle.approval
    command = c.MintKey(
        operation="token.mint",
        mint=desk.keys.key_id(spelled(desk, handle.room, ref, gated=gated, is_sealed=state.is_sealed).key),
        terms=KeyTerms(
            home=state.home,
            room=handle.room,
            ref=ref,
            gated=gated,
            expires_at=Millis(until + desk.now_at(state.home) - desk.clock.now()),
            max_uses=uses,
            preapproved=(),
            nonce=b"",
        ),
        principal=me.principal if person else None,
    )
    await handle.submit(command, by)


async def end_key(desk: Desk, by: By, room: RoomId, digest: bytes) -> None:
    """End the key of a token that is no more. A room that cannot be reached keeps it: nobody is told it."""
    try:
        handle = await desk.rooms.get(room)
        revoke = c.RevokeKey(operation="token.revoke", revoke=key_of(desk, handle, digest), principal=by.principal)
        await handle.submit(revoke, by)
    except ParlerError:
        return


async def end_joins(desk: Desk, by: By, token: Token, joins: Iterable[Join]) -> None:
    """Refuse those who wait to come in with a token that the person took back, and end its key. `joins` are the joins
    that it had."""
    for join in joins:
        if join.minted or join.is_ended:
            continue
        try:
            handle = await desk.rooms.get(join.room)
            request = standing_request(handle.aggregate.state.requests, join.agent)
            if request is not None and request.state == "pending":
                denied = c.DecideRequest(
                    operation="token.revoke",
                    request=request.id,
                    admit=False,
                    proof="cli",
                    principal=by.principal,
                )
                await handle.submit(denied, by)
        except ParlerError:
            continue  # whoever lets it in lets in an agent that nobody acts as
    if not token.key:
        await end_key(desk, by, token.room, token.digest)


def key_behind(desk: Desk, handle: RoomHandle, token: Token) -> KeyId:
    """The key with which those knock who come with a token."""
    return token.key or key_of(desk, handle, token.digest)


def key_of(desk: Desk, handle: RoomHandle, digest: bytes) -> KeyId:
    """The key that was made for the token whose text has this digest."""
    state = handle.aggregate.state
    gated = state.lifecycle.approval
    return desk.keys.key_id(spelled(desk, handle.room, ref_of(digest), gated=gated, is_sealed=state.is_sealed).key)


def ref_of(digest: bytes) -> str:
    """The name of that key in what is signed."""
    drawn = hashlib.sha256(b"join " + digest).digest()
    return JOINS + base64.b32encode(drawn).decode().lower()[:_REF_CHARACTERS]
