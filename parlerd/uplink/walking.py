"""The walk back over the epochs of a sealed room whose history everybody may read.

    newest record -> a wrap for one of ours -> its secret -> the link in it -> the secret before -> ...

Whoever comes into such a room is wrapped the newest secret alone, and each record seals the secret before it under its
own. The records are asked of the room's home, which can make none up: each names the one before by its hash, and the
newest is signed by the person who owned the room then.

Not here: what arrives in the order of the log (`arriving`), where secrets are kept (`secrets`). Above: `link`,
`asking.earlier`. Below: `secrets`, `identity.epochs`. Invariant: a secret is taken for that of a record only where the
record names its digest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final

from parlerd.core.epoch_record import EpochRecord, check_record, read_wraps, record_digest
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, RoomId
from parlerd.core.sealing import sealed_part
from parlerd.core.statements import Owner, signer_at
from parlerd.identity import epochs
from parlerd.operations import types as t
from parlerd.store.port import EpochSecretRow
from parlerd.uplink.arriving.messages import sealed_of
from parlerd.uplink.secrets import Secrets

NEWEST: Final = 2**53 - 1
"""No epoch has this number. A home that is asked for it says which is the newest."""

Pull = Callable[[t.PullEpochs], Awaitable[t.PulledEpochs]]
"""Asks the room's home for records."""


def unknown(secrets: Secrets, room: RoomId, messages: Iterable[t.LinkMessage]) -> set[bytes]:
    """The records that messages for everyone name and of which this home has no secret."""
    found: set[bytes] = set()
    for message in messages:
        sealed = sealed_of(message.body)
        if sealed is None or sealed[0].visibility is not None:
            continue
        try:
            record = sealed_part(sealed[0]).record
        except Refused:
            continue
        if secrets.epoch(room, record) is None:
            found.add(record)
    return found


async def walk(
    secrets: Secrets,
    room: RoomId,
    wanted: Collection[bytes],
    *,
    agent: AgentId,
    owners: Sequence[Owner],
    pull: Pull,
) -> set[bytes]:
    """Learn the secrets of the epochs that began with these records, as far as `agent` of this home may read them.
    `owners` are all that owned the room, in order.

    What was learned is on the disk when this returns. Gives those of these records to which no link leads back from the
    newest: their secrets are learned in no other way either. Raises what `pull` raises, and
    `Refused(relay_equivocation)` for records that do not belong together.
    """
    left = set(wanted)
    number = await _newest(room, agent, pull)
    newest = await pull(t.PullEpochs(room=room, agent=agent, upto=number, limit=1, wraps=True))
    if not newest.epochs:
        return set()
    told = newest.epochs[-1]
    try:
        # One who owned the room before signs no newest record: it would bring secrets of its own.
        owner = signer_at(owners, check_record(told.record).number)
        record = epochs.read(told.record, told.signature, owners=[owner.principal])
        digest, wraps = record_digest(told.record), read_wraps(told.wraps, record)
        row = secrets.learn(record, digest, wraps) if record.room == room else None
    except Refused:
        raise Refused("relay_equivocation", what="epoch") from None
    if row is None:
        return set()
    secrets.card(record, digest)
    left.discard(digest)
    before: list[EpochRecord] = []
    while left and record.link:
        if not before:
            before = await _before(room, agent, record, pull)
        earlier = before.pop()
        digest = record.previous
        row = secrets.note(
            EpochSecretRow(room, earlier.number, digest, epochs.secret_before(record, row.secret, earlier))
        )
        left.discard(digest)
        record = earlier
    await secrets.store()
    return left


async def _newest(room: RoomId, agent: AgentId, pull: Pull) -> int:
    """The number of the newest epoch, as the room's home says."""
    try:
        await pull(t.PullEpochs(room=room, agent=agent, upto=NEWEST, limit=1))
    except Refused as error:
        number = error.details.get("number")
        if error.code == "stale_epoch" and type(number) is int and 0 < number < NEWEST:
            return number
        raise
    raise Refused("relay_refused", what="number")


async def _before(room: RoomId, agent: AgentId, record: EpochRecord, pull: Pull) -> list[EpochRecord]:
    """Records before this one, in order without a gap, the last of which is the one that it names. Raises
    `Refused(relay_equivocation)` for others."""
    pulled = await pull(t.PullEpochs(room=room, agent=agent, upto=record.number - 1))
    found: list[EpochRecord] = []
    named, number = record.previous, record.number - 1
    for told in reversed(pulled.epochs):
        try:
            earlier = check_record(told.record)
        except Refused:
            raise Refused("relay_equivocation", what="epoch") from None
        if record_digest(told.record) != named or (earlier.room, earlier.number) != (room, number):
            raise Refused("relay_equivocation", what="epoch")
        found.append(earlier)
        named, number = earlier.previous, number - 1
    if not found:
        raise Refused("relay_refused", what="epochs")
    return found[::-1]
