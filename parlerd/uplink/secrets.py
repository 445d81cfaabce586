"""What opens the sealed rooms of other homes here: the sealing keys of this home's agents, and the secrets of epochs.

    key        drawn for an agent and a home, durable before anybody hears of it -> signed -> in the owner's next record
    record     names its wraps -> one of them is for an agent of this home -> the epoch's secret -> durable
               in a queue, for an agent that only asks for work -> two keys of its own -> durable
    message    names its record -> the secret, or a wrap of its own -> its words

Not here: the encryption (`identity.sealing`, `identity.epochs`), and which record is in force (the mirror says so).
Above: `mirrors`, which opens what arrives, `composing`, which seals what leaves, `turning`, which makes records. Below:
the library's rows. Invariants: nothing is wrapped to a key that is not on the disk, and nothing is stored as opened
under a secret that is not; no secret is in a `repr`, a log or an error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import trio

from parlerd.core.envelope import Envelope
from parlerd.core.epoch_record import EpochCard, EpochRecord, Wraps, record_digest, requesters_of
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, By, HomeId, RoomId
from parlerd.core.room import RoomState
from parlerd.core.sealing import check_composed, sealed_part
from parlerd.core.statements import SealingKey
from parlerd.engine.authors import Attested, Author
from parlerd.engine.desk import Desk
from parlerd.engine.ports import Signers
from parlerd.identity import epochs, sealing
from parlerd.identity.signatures import verify
from parlerd.store.port import (
    DropEpochSecrets,
    DropSealingKeys,
    EpochSecretRow,
    MadeRecordRow,
    PutEpochSecret,
    PutMadeRecord,
    PutSealingKey,
    SealingKeyRow,
)

log = logging.getLogger(__name__)

FRESH_MS: Final = 24 * 3600 * 1000
"""After how long an agent makes a fresh key, where the one before is in use. Source: sealed spec, Epochs."""


FOLLOWED_MS: Final = 30 * 24 * 3600 * 1000
"""How long a key stays at least after another one followed it. A relay may show it for some time yet to those who open
direct rooms."""


class Secrets:
    """What this daemon can open and seal with. `prepare` has to be awaited once for a room before the methods that do
    not wait are asked about the room."""

    def __init__(self, desk: Desk, signers: Signers, author: Author) -> None:
        self._desk = desk
        self._signers = signers
        self._author = author
        self._keys: dict[HomeId, dict[AgentId, list[SealingKeyRow]]] = {}
        """The sealing keys of this home's agents for each home that was asked about, the newest last."""
        self._epochs: dict[RoomId, dict[bytes, EpochSecretRow]] = {}
        """The secrets of each room that was asked about, by the hashes of their records."""
        self._asking: dict[RoomId, dict[tuple[bytes, AgentId], EpochSecretRow]] = {}
        """What agents of this home that only ask for work have of each queue that was asked about, by the hashes of its
        records."""
        self._made: dict[RoomId, set[bytes]] = {}
        """The hashes of the records that this home signed, of each room that was asked about."""
        self._unstored: list[EpochSecretRow] = []
        """Those among them that are not on the disk yet."""
        self._recaps: dict[RoomId, tuple[str, bytes]] = {}
        """The id of the message that opened a room, and the key of that message alone, as far as a card told them."""
        self._making = trio.Lock()
        """Held while a key is made, so that two tasks do not make two."""

    def __repr__(self) -> str:
        return f"Secrets(of {len(self._epochs)} rooms)"

    # -- what is kept --------------------------------------------------------------------------------------

    async def prepare(self, home: HomeId, room: RoomId) -> None:
        """Have at hand what is kept for a room of this home."""
        await self._load_keys(home)
        if room not in self._epochs:
            rows = await self._desk.library.epoch_secrets(room)
            made = await self._desk.library.made_records(room)
            self._epochs.setdefault(room, {row.record: row for row in rows if not row.requester})
            asking = {(row.record, AgentId(row.requester)): row for row in rows if row.requester}
            self._asking.setdefault(room, asking)
            self._made.setdefault(room, set()).update(row.record for row in made)

    async def note_made(self, room: RoomId, number: int, record: bytes) -> None:
        """Keep that this home signs a record, before the record leaves. Raises `StoreError`."""
        await self._desk.library.record([PutMadeRecord(MadeRecordRow(room, number, record))])
        self._made.setdefault(room, set()).add(record)

    def is_copied(self, record: EpochRecord, body: bytes, signature: bytes) -> bool:
        """Whether a record bears the signature of this home's person, and this home did not make it."""
        is_made = record_digest(body) in self._made.get(record.room, ())
        return not is_made and verify(self._signers.principal, EpochRecord.TAG, body, signature)

    async def _load_keys(self, home: HomeId) -> None:
        if home not in self._keys:
            found: dict[AgentId, list[SealingKeyRow]] = {}
            for row in await self._desk.library.sealing_keys(home):
                found.setdefault(row.agent, []).append(row)
            # Another task may have asked meanwhile, and a key may have been made since.
            self._keys.setdefault(home, found)

    async def store(self) -> None:
        """Put the secrets on the disk that were learned since. Raises `StoreError`."""
        if self._unstored:
            rows, self._unstored = self._unstored, []
            try:
                await self._desk.library.record([PutEpochSecret(row) for row in rows])
            except BaseException:
                self._unstored = rows + self._unstored
                raise

    async def told_key(self, home: HomeId, agent: AgentId, counter: int = 0) -> Attested:
        """The newest sealing key of an agent of this home for the sealed rooms of another one, or the one with this
        `counter` where that is here, signed by the agent. The first is made when it is asked for. Raises
        `Refused(no_such_agent)` for a lost key, and `StoreError`."""
        newest = await self._key(home, agent)
        row = next((each for each in self._keys[home][agent] if each.counter == counter), newest)
        statement = SealingKey(
            home=home,
            agent=agent,
            key=sealing.key_pair(row.private).public,
            counter=row.counter,
            at=row.made_at,
            nonce=b"",
        )
        return self._author.attest(statement, By(agent, self._signers.principal, "", "", "link"))

    async def fresh(self, home: HomeId, agent: AgentId, used: int) -> int:
        """The counter of the newest sealing key of an agent of this home. Where that is `used`, which is the one that a
        roster holds, and is a day old, another key is made: whoever took this home's keys can read nothing that is
        sealed after the next record. Raises `StoreError`."""
        newest = await self._key(home, agent)
        # One that was made while this machine's clock was ahead is of no known age.
        is_old = newest.counter == used and abs(self._desk.clock.now() - newest.made_at) >= FRESH_MS
        if is_old or newest.counter < used:
            # In the second case an older copy of this machine's database was put in place: the key that is used is
            # lost, and nothing that is wrapped to it can be read here.
            newest = await self._key(home, agent, after=used)
        return newest.counter

    async def newest(self, home: HomeId, agent: AgentId) -> int:
        """The counter of the newest sealing key of an agent of this home. Raises `StoreError`."""
        return (await self._key(home, agent)).counter

    async def newer_key(self, home: HomeId, agent: AgentId, used: int) -> Attested:
        """A sealing key of an agent of this home with a higher counter than `used`, signed by the agent. Raises as
        `told_key` does."""
        await self._key(home, agent, after=used)
        return await self.told_key(home, agent)

    async def drop_keys(self, home: HomeId, agent: AgentId, below: int) -> None:
        """Let the sealing keys of an agent of this home go whose counters are below this one; the newest stays, and so
        does one that was followed lately, with which somebody may have opened a direct room that nobody here heard of
        yet. Raises `StoreError`."""
        async with self._making:
            await self._load_keys(home)
            known, now = self._keys[home].get(agent, []), self._desk.clock.now()
            followed = pairwise(known)
            old = [row for row, by in followed if row.counter < below and now >= by.made_at + FOLLOWED_MS]
            if old:
                await self._desk.library.record([DropSealingKeys(home, agent, old[-1].counter + 1)])
                self._keys[home][agent] = known[len(old) :]

    async def agents_with_old_keys(self, home: HomeId) -> list[AgentId]:
        """The agents of this home that have more than one sealing key there."""
        await self._load_keys(home)
        return sorted(agent for agent, rows in self._keys[home].items() if len(rows) > 1)

    async def renew(self, home: HomeId, agent: AgentId) -> None:
        """Make another sealing key for an agent, because the home knows a later one than is here: an older copy of this
        machine's database was put in place. Raises `StoreError`."""
        newest = await self._key(home, agent)
        await self._key(home, agent, after=newest.counter)

    async def _key(self, home: HomeId, agent: AgentId, after: int = 0) -> SealingKeyRow:
        """The newest key of an agent, whose counter is greater than `after`. A new one's counter is the time at which
        it is made: so it is later than those that were made after the copy of a database from which this one comes."""
        async with self._making:
            await self._load_keys(home)
            known = self._keys[home].setdefault(agent, [])
            if not known or known[-1].counter <= after:
                private = sealing.new_key(self._desk.random.bytes).private
                now = self._desk.clock.now()
                row = SealingKeyRow(home, agent, max(after + 1, now), now, private)
                await self._desk.library.record([PutSealingKey(row)])
                known.append(row)
            return known[-1]

    # -- epochs --------------------------------------------------------------------------------------------

    def epoch(self, room: RoomId, record: bytes) -> EpochSecretRow | None:
        """The secret of the epoch that began with this record, if this home has it."""
        return self._epochs.get(room, {}).get(record)

    def oldest_epoch(self, room: RoomId) -> int:
        """The number of the oldest epoch of a room whose secret this home has; 0 where it has none."""
        rows = [*self._epochs.get(room, {}).values(), *self._asking.get(room, {}).values()]
        return min((row.number for row in rows), default=0)

    def learn(self, record: EpochRecord, digest: bytes, wraps: Wraps) -> EpochSecretRow | None:
        """The secret of the epoch that begins with a record whose signature was checked, if a wrap brings it to an
        agent of this home. Nothing that one of them was given before is asked for again. What the record gives to those
        that only ask for work is kept beside it.

        Raises `Refused(sealed_unreadable)` where the wrap for an agent of this home does not bring the secret that the
        record names: its maker gave something else to this member than to others.
        """
        keys, failed, requesters = self._keys.get(record.home, {}), None, requesters_of(record)
        for agent in requesters:
            if agent in keys:
                failed = self._learn_asking(record, digest, wraps, agent) or failed
        known = self.epoch(record.room, digest)
        if known is not None:
            return known
        for agent, _ in wraps:
            for key in reversed(() if agent in requesters else keys.get(agent, ())):
                try:
                    secret = epochs.secret_of(record, wraps, agent, sealing.key_pair(key.private))
                except Refused as error:
                    failed = error
                else:
                    return self.note(EpochSecretRow(record.room, record.number, digest, secret))
        if failed is not None:
            raise failed
        return None

    def _learn_asking(self, record: EpochRecord, digest: bytes, wraps: Wraps, agent: AgentId) -> Refused | None:
        """Keep what a record gives to an agent of this home that only asks for work; gives why nothing was found."""
        known, failed = self._asking.setdefault(record.room, {}), None
        if (digest, agent) in known:
            return None
        for key in reversed(self._keys[record.home][agent]):
            try:
                found = epochs.asking_of(record, wraps, agent, sealing.key_pair(key.private))
            except Refused as error:
                failed = error
            else:
                row = EpochSecretRow(record.room, record.number, digest, found.secret + found.card, agent)
                known[digest, agent] = row
                self._unstored.append(row)
                return None
        return failed

    async def forget(self, room: RoomId, below: int) -> None:
        """Let the secrets go of a room's epochs with numbers below this one. Raises `StoreError`."""
        known, asking = self._epochs.get(room, {}), self._asking.get(room, {})
        old = [row for row in (*known.values(), *asking.values()) if row.number < below]
        if old:
            await self._desk.library.record([DropEpochSecrets(room, below)])
            for row in old:
                if row.requester:
                    asking.pop((row.record, AgentId(row.requester)), None)
                else:
                    known.pop(row.record, None)

    def note(self, row: EpochSecretRow) -> EpochSecretRow:
        """Keep a secret that was found to be that of its record. `store` makes it durable."""
        found = self._epochs.setdefault(row.room, {})
        if row.record not in found:
            found[row.record] = row
            self._unstored.append(row)
        return found[row.record]

    def card(self, record: EpochRecord, digest: bytes) -> EpochCard | None:
        """What a record says to those who can read its epoch, if this home can: what `learn` found."""
        row, room = self.epoch(record.room, digest), record.room
        asking = next((each for (name, _), each in self._asking.get(room, {}).items() if name == digest), None)
        try:
            if row is not None:
                card = epochs.card(record, row.secret)
            elif asking is not None:
                card = epochs.card_by_key(record, asking.secret[sealing.KEY :])
            else:
                return None
        except Refused:
            # Its maker sealed something else. The epoch can be read all the same.
            return None
        if card.recap and card.key:
            self._recaps[record.room] = card.recap, card.key
        return card

    # -- messages ------------------------------------------------------------------------------------------

    def hidden_key(self, room: RoomId, key: str) -> str:
        """What a sealed room and its home are told in the place of an idempotency key that somebody chose."""
        return sealing.hidden_key(self._desk.keys.hiding_key(), room, key)

    def request_digest(self, room: RoomId, digest: bytes) -> bytes:
        """What the home of a sealed room is told in the place of the digest of a request."""
        return sealing.hidden_digest(self._desk.keys.hiding_key(), room, digest)

    def seal(self, room: RoomState, author: AgentId, input: bytes, composed: Envelope) -> Envelope:
        """A message as it leaves for a sealed room, whose mirror stands as `room`: what the author signs. `input` is
        what `request_digest` gave.

        Raises `Refused`: `not_sealed_in` where no record holds the author, or a reader of a private message, or this
        home does not have the secret yet; and what `core.sealing.check_composed` raises.
        """
        check_composed(composed)
        state = room.epochs
        epoch = None if author not in state.roster else self._sealing_epoch(room, author)
        readers: Mapping[AgentId, bytes] | None = None
        if composed.visibility is not None:
            named = {*composed.visibility, author}
            if not named <= state.roster.keys():
                raise Refused("not_sealed_in")
            readers = {agent: state.roster[agent].key for agent in sorted(named)}
        if epoch is None:
            raise Refused("not_sealed_in")
        return sealing.seal(
            composed,
            author=author,
            epoch=epoch,
            readers=readers,
            input=input,
            random=self._desk.random.bytes,
        )

    def _sealing_epoch(self, room: RoomState, author: AgentId) -> sealing.Epoch | None:
        """The epoch in force as this author seals with it, if this home has that."""
        state = room.epochs
        row = self.epoch(room.room, state.record)
        if not state.roster[author].requester:
            return None if row is None else _epoch(row)
        asking = self._asking_epoch(room.room, state.record, author)
        if asking is not None:
            return asking
        return None if row is None else asking_epoch(_epoch(row), room.room, author)

    def _asking_epoch(self, room: RoomId, record: bytes, author: AgentId) -> sealing.Epoch | None:
        """An epoch of a queue as this agent of this home, which only asks for work, seals with it; None for all
        others."""
        asking = self._asking.get(room, {}).get((record, author))
        return None if asking is None else _epoch(asking)._replace(secret=asking.secret[: sealing.KEY])

    def words(
        self, home: HomeId, envelope: Envelope, body: bytes, author: AgentId, *, asks: bool = False
    ) -> bytes | None:
        """What is sealed in an envelope of version 4 of this author, which was found sound and came in these bytes;
        None where this home cannot read it. `asks` says that the record which the message names holds the author as one
        that only asks for work."""
        key = self.message_key(home, envelope, author, asks=asks)
        try:
            return None if key is None else sealing.open_with_key(body, key)
        except Refused:
            return None

    def message_key(self, home: HomeId, envelope: Envelope, author: AgentId, *, asks: bool) -> bytes | None:
        """The key of this message of this author, which opens no other; None where this home has no such key. `asks` is
        as for `words`."""
        part = sealed_part(envelope)
        if envelope.visibility is None:
            row, recap = self.epoch(envelope.room, part.record), self._recaps.get(envelope.room)
            # What an agent of this home asked for itself is opened with what that agent has, and needs no secret.
            epoch = self._asking_epoch(envelope.room, part.record, author)
            if row is not None:
                epoch = asking_epoch(_epoch(row), envelope.room, author) if asks else _epoch(row)
            if epoch is not None:
                with suppress(Refused):
                    return sealing.key_of(envelope, author=author, epoch=epoch)
                return None
            return recap[1] if recap is not None and recap[0] == envelope.id else None
        keys = self._keys.get(home, {})
        for agent, _ in part.wraps:
            for key in reversed(keys.get(agent, ())):
                # It may have been wrapped to an older key of the agent, or be not what it should be.
                with suppress(Refused):
                    return sealing.key_of(envelope, author=author, me=(agent, sealing.key_pair(key.private)))
        return None


@dataclass(frozen=True, slots=True)
class HomeOpener:
    """What opens the sealed rooms of one home (`arriving.opener`)."""

    home: HomeId
    secrets: Secrets

    def learn(self, record: EpochRecord, digest: bytes, wraps: Wraps) -> EpochCard | None:
        try:
            self.secrets.learn(record, digest, wraps)
        except Refused:
            # The owner's home made it so, and everybody else may read on: what follows is unreadable here.
            log.warning("epoch %d of room %s cannot be read by those of this home", record.number, record.room)
            return None
        return self.secrets.card(record, digest)

    def is_copied(self, record: EpochRecord, body: bytes, signature: bytes) -> bool:
        return self.secrets.is_copied(record, body, signature)

    def words(self, envelope: Envelope, body: bytes, author: AgentId, *, asks: bool = False) -> bytes | None:
        return self.secrets.words(self.home, envelope, body, author, asks=asks)


def _epoch(row: EpochSecretRow) -> sealing.Epoch:
    return sealing.Epoch(row.number, row.record, row.secret)


def asking_epoch(epoch: sealing.Epoch, room: RoomId, author: AgentId) -> sealing.Epoch:
    """An epoch of a queue as what a requester says there is sealed, for whoever has the epoch's secret."""
    return epoch._replace(secret=epochs.asking_secret(epoch.secret, room, epoch.number, author))
