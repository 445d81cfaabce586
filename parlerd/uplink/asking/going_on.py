"""A room goes on from where it stands at its home, which lost a part of it, as the room's person decides.

Not here: where the mirror and the home part (`rewinding`), what a rewind means (`core.rewinds`). Above: `remote_room`.
Below: those, `room_home`. Invariant: nothing is signed where what the home holds is no beginning of what is here, and
nothing before the person saw what would be lost.
"""

from __future__ import annotations

import msgspec

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.grants import joiner_of
from parlerd.core.lifecycle import OLDER_COPY, require_open, require_sound
from parlerd.core.model import AgentId, By, Millis, Shown
from parlerd.core.public_line import epoch_of, first_number
from parlerd.core.room import Room
from parlerd.core.statements import Rewind
from parlerd.engine.reading import handle_of
from parlerd.operations import types as t
from parlerd.uplink.asking.room_home import DECIDE_TRIES, RoomHome
from parlerd.uplink.rewinding import FACTS, Fork, find_fork


async def rewind(home: RoomHome, by: By, *, confirmed: bool) -> t.RewoundRoom:
    """Let the room go on; unless `confirmed`, only say what would be lost (`RoomHandle.rewind`). Raises `Refused`."""
    for left in reversed(range(DECIDE_TRIES)):
        try:
            return await _rewind(home, by, confirmed=confirmed)
        except Refused as error:
            # Somebody wrote there since it said where it stands: it is asked again.
            if error.code != "statement_refused" or not left:
                raise
    raise AssertionError("the last try ends it")


async def _rewind(home: RoomHome, by: By, *, confirmed: bool) -> t.RewoundRoom:
    head = await home.link.call("link.head", t.AskHead(room=home.room))
    assert isinstance(head, t.RoomHead)
    shown, before = Shown(head.public, head.line), {AgentId(agent): n for agent, n in head.before.items()}
    if not home.mirror.state.contradicted:
        await home.shown(lambda room: room.state.contradicted != "" or room.state.shown.number >= shown.number)
    mirror = await home.quiet()
    state = mirror.state
    require_open(state.lifecycle)
    if state.contradicted != OLDER_COPY:
        require_sound(state.lifecycle)
    fork = await find_fork(home.desk.library, mirror, shown, before)
    if not fork.fits:
        raise Refused("rewind_refused")
    answer = await _would_lose(home, mirror, fork)
    if state.epoch and shown == state.shown and shown.number == first_number(state.epoch):
        await _revoke_again(home)
        return msgspec.structs.replace(answer, status="nothing")
    if not confirmed:
        return answer
    epoch = max(state.epoch, epoch_of(shown.number)) + 1
    statement = Rewind(
        home=home.id,
        room=home.room,
        epoch=epoch,
        public=shown.number,
        line=shown.line,
        at=Millis(max(home.desk.clock.now(), mirror.last_at)),
        nonce=b"",
    )
    signed = home.attest(statement, by)
    await home.link.call(
        "link.rewind", t.RewindAtRoom(room=home.room, statement=signed.body, signature=signed.signature)
    )
    await home.shown(lambda room: room.state.epoch >= epoch)
    await _revoke_again(home)
    await home.link.sealed.send_lost(home.room)
    return msgspec.structs.replace(answer, status="rewound")


async def _revoke_again(home: RoomHome) -> None:
    """End the session keys and tokens again that were revoked: of some the home may have lost that."""
    held = {token.agent for token in home.desk.rooms.home.aggregate.tokens.all()}
    for member in list(home.mirror.state.members.values()):
        is_ours = member.given is not None and member.principal == home.mirror.state.owner_principal
        came_with = None if member.given is None else joiner_of(member.given.grant)
        if is_ours and member.agent not in held and came_with not in held:
            await home.link.call("link.ungrant", t.UngrantAtRoom(room=home.room, agent=member.agent))
    for key in list(home.mirror.state.keys.values()):
        if key.revoked:
            try:
                await home.link.call("link.revoke", t.RevokeKeyOfRoom(room=home.room, ref=key.ref))
            except Refused as error:
                # A key that the home lost lets nobody in.
                if error.code != "unknown_key":
                    raise


async def _would_lose(home: RoomHome, mirror: Room, fork: Fork) -> t.RewoundRoom:
    """What the home has no more, of what is here."""
    said: dict[str, int] = {}
    at = fork.upto
    while at < mirror.position:
        for header in await home.desk.library.facts(home.room, at, FACTS):
            at = header.position
            if isinstance(header.event, e.MessagePosted) and not mirror.state.rewinds.is_lost(at):
                author = handle_of(mirror.state, header.by.actor)
                said[author] = said.get(author, 0) + 1
    newest = fork.newest
    return t.RewoundRoom(
        room=home.room,
        name=mirror.state.name,
        home=home.name,
        status="asked",
        lost=[t.LostWords(author=author, messages=count) for author, count in sorted(said.items())],
        newest="" if newest is None else handle_of(mirror.state, newest.by.actor),
        newest_at=0 if newest is None else newest.at,
    )
