"""Planted faults of sealed rooms: mistakes by which somebody reads, or a relay sees, what they may not. `faults` says
how they are played; this module enters them in its list."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec
import trio

from parlerd.core import epoch_record, messages
from parlerd.core import sealing as core_sealing
from parlerd.core import turning as core_turning
from parlerd.core.epoch_record import check_wraps, read_wraps, roster_after
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, HomeId, RoomId
from parlerd.core.sealing import check_sealed
from parlerd.core.statements import SealingKey, check
from parlerd.engine import opening, pair_rooms
from parlerd.engine.library import Library
from parlerd.engine.pair_rooms import PairRooms
from parlerd.identity import direct_keys, epochs
from parlerd.identity.sealing import derive
from parlerd.store.port import PutSealingKey, SealingKeyRow
from parlerd.uplink.arriving import items, pages, records, statements
from parlerd.uplink.arriving import messages as arriving_messages
from parlerd.uplink.arriving.hearing import Contradiction, Hearing
from parlerd.uplink.arriving.pages import Page
from parlerd.uplink.asking import opening as asking_to_open
from parlerd.uplink.asking.room_home import RoomHome
from parlerd.uplink.sealed_rooms import SealedRooms
from parlerd.uplink.secrets import Secrets
from parlerd.uplink.turning import Turning
from tests.sim.direct_lies import KnownOlder, OfAnother, Older, OtherReader, Substituted, ThirdReader, Withheld
from tests.sim.direct_stories import OpenerWentBack, ReaderCameRound, ReaderWentBack, TwoRooms, WriterWentBack
from tests.sim.faults import Patch, fault
from tests.sim.queue_lies import (
    KeyOfBefore,
    RequesterDropped,
    RequesterLeftOut,
    RequestOfAnother,
    ResultMoved,
    ResultOfAnother,
    WrapsOfBefore,
)
from tests.sim.sealed_lies import Overtaken
from tests.sim.sealed_stories import Away, KeptBack, OfAnotherRoom, OfOthers, OtherKey, PutOut, PutOutAndShown, WentBack
from tests.sim.vault import Vault
from tests.sim.world import Plan, Simulation


def _sealed(seed: int) -> Simulation:
    """A story in a sealed room."""
    return Simulation(seed, Plan(sealed=1.0, acts=(), newcomers=1.0))


def _in_vault(seed: int) -> Simulation:
    """A story with a sealed room into which people come, and which they leave."""
    return Simulation(seed, Plan(homes=(3,), acts=(Vault,), act=1.0))


@fault("old-epoch-accepted", "a home takes a message under an epoch that is over", Overtaken)
def _(patch: Patch) -> None:
    patch.setattr(messages, "require_in_force", lambda state, finished: None)


@fault("joiner-gets-current-secret", "whoever joins is given the secret of what was said before", _in_vault)
def _(patch: Patch) -> None:
    make, fresh = epochs.make, vars(epochs)["epoch_secret"]

    def with_old_secret(*, before: epochs.Before | None, **rest: Any) -> epochs.Made:
        patch.setattr(epochs, "epoch_secret", fresh if before is None else lambda random: before.epoch.secret)
        return make(before=before, **rest)

    patch.setattr(epochs, "make", with_old_secret)


@fault("wrap-outside-its-record", "a secret is wrapped to who is not in the roster, and that counts", _in_vault)
def _(patch: Patch) -> None:
    wraps = epochs._wraps
    known: dict[RoomId, dict[AgentId, Any]] = {}

    def to_all(secret: bytes, roster: Any, ephemeral: Any, room: RoomId, number: int) -> Any:
        everybody = known.setdefault(room, {})
        everybody.update(roster)
        return wraps(secret, everybody, ephemeral, room, number)

    patch.setattr(epochs, "_wraps", to_all)
    for module in (core_turning, records):
        patch.setattr(module, "check_wraps", lambda data, record, roster: read_wraps(data, record))


@fault("one-key-for-all-who-ask", "those who only ask a queue for work are all given one key", RequestOfAnother)
def _(patch: Patch) -> None:
    def of_nobody(secret: bytes, room: RoomId, number: int, agent: AgentId) -> bytes:
        return derive(secret, b"sealed/requester", room.encode(), number.to_bytes(8, "big"))

    patch.setattr(epochs, "asking_secret", of_nobody)


@fault("request-key-in-clear", "the idempotency key that an agent chose is told to the relay", _sealed)
def _(patch: Patch) -> None:
    patch.setattr(Secrets, "hidden_key", lambda self, room, key: key)


@fault("request-digest-in-clear", "the digest of what was asked for is told to the relay", _sealed)
def _(patch: Patch) -> None:
    patch.setattr(Secrets, "request_digest", lambda self, room, digest: digest)


@fault("opened-in-clear", "a room that was to be sealed is opened in clear, and nobody is told", _in_vault)
def _(patch: Patch) -> None:
    wanted = opening.Wanted
    patch.setattr(opening, "Wanted", lambda **asked: wanted(**{**asked, "clear": True}))


@fault("record-of-an-older-copy", "an owner's home goes on from a record before the newest one", _in_vault)
def _(patch: Patch) -> None:
    make = epochs.make
    made: dict[RoomId, list[epochs.Before]] = {}

    def restored(*, before: epochs.Before | None, room: RoomId, **rest: Any) -> epochs.Made:
        earlier = made.setdefault(room, [])
        if before is not None:
            earlier.append(before)
        return make(before=earlier[0] if earlier else None, room=room, **rest)

    patch.setattr(epochs, "make", restored)


@fault("padding-forgotten", "what is sealed is as long as its words", _sealed)
def _(patch: Patch) -> None:
    patch.setattr(core_sealing, "padded_length", lambda length: length + 1)


def _takes_any_record(patch: Patch) -> None:
    patch.setattr(Page, "_require_sealed", lambda self, envelope, author: check_sealed(envelope))


@fault("heard-though-put-out", "a member takes a message of somebody who was put out before it came", PutOut)
def _(patch: Patch) -> None:
    _takes_any_record(patch)


@fault("shown-though-put-out", "a member is shown what somebody wrote to wait who was put out since", PutOutAndShown)
def _(patch: Patch) -> None:
    patch.setattr(Page, "_require_released", lambda self, *args: None)


@fault("record-that-is-over", "a member takes a message under a record that is over where the message stands", KeptBack)
def _(patch: Patch) -> None:
    _takes_any_record(patch)


@fault("message-of-another-room", "a member takes a message that was signed for another sealed room", OfAnotherRoom)
def _(patch: Patch) -> None:
    _takes_any_record(patch)
    require = Page._require_sound

    def of_any_room(self: Any, message: Any, envelope: Any, *rest: Any) -> None:
        with suppress(Contradiction):
            require(self, message, envelope, *rest)

    patch.setattr(Page, "_require_sound", of_any_room)


@fault("private-shown-to-all", "a private message is shown to whoever was told it, and opens for them", OfOthers)
def _(patch: Patch) -> None:
    post = Page._post

    def to_all(self: Any, message: Any, envelope: Any, *rest: Any) -> None:
        post(self, message, msgspec.structs.replace(envelope, visibility=None), *rest)

    patch.setattr(Page, "_post", to_all)


@fault("key-of-the-relay's", "a sealing key counts that the agent did not sign", OtherKey)
def _(patch: Patch) -> None:
    signed = statements.signed_statement

    def unsigned(kind: Any, body: bytes, signature: bytes, signer: str) -> Any:
        return check(body, SealingKey) if kind is SealingKey else signed(kind, body, signature, signer)

    patch.setattr(records, "signed_statement", unsigned)
    patch.setattr(epochs, "is_own_key", lambda agent, statement, signature: True)


@fault("leaver-stays-in-the-roster", "who left while the owner was away is in the roster from then on", Away)
def _(patch: Patch) -> None:
    patch.setattr(Turning, "is_due", lambda self, room, now: False)


@fault("no-record-behind-a-rewind", "no record is made for a room that was rewound", WentBack)
def _(patch: Patch) -> None:
    async def sends_none(self: SealedRooms, room: RoomId) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(Turning, "_is_over", lambda self, room, now: self._is_used_up(room, now))
    patch.setattr(SealedRooms, "send_lost", sends_none)


# -- rooms of two --------------------------------------------------------------------------------------------


@fault("shown-key-not-checked", "a key counts that a relay shows, whoever signed it", Substituted)
def _(patch: Patch) -> None:
    patch.setattr(direct_keys, "signed", lambda kind, body, signature, signer: check(body, kind))
    patch.setattr(epochs, "is_own_key", lambda agent, statement, signature: True)


@fault("key-of-another-agent", "a key counts that a relay shows, whichever agent told it", OfAnother)
def _(patch: Patch) -> None:
    read = direct_keys.read

    def of_whoever(body: bytes, signature: bytes) -> Any:
        told = read(body, signature)
        key: Any = SimpleNamespace(home=told.key.home, agent=mock.ANY, counter=told.key.counter)
        return told._replace(key=key)

    patch.setattr(asking_to_open, "direct_keys", SimpleNamespace(read=of_whoever))
    patch.setattr(epoch_record, "_key_of", lambda record, added: check(added.statement, SealingKey))
    patch.setattr(epochs, "is_own_key", lambda agent, statement, signature: True)


@fault("key-of-before", "a key counts that a relay shows, though a later one is known", KnownOlder)
def _(patch: Patch) -> None:
    async def of_nobody(home: RoomHome, other: AgentId, me: AgentId) -> int:
        await trio.lowlevel.checkpoint()
        return 0

    patch.setattr(asking_to_open, "_newest_of", of_nobody)


@fault("newest-key-alone", "what is wrapped to a key that was followed by another is opened by nobody", Older)
def _(patch: Patch) -> None:
    learn = Secrets.learn

    def by_newest(self: Secrets, record: Any, digest: bytes, wraps: Any) -> Any:
        kept = self._keys
        self._keys = {home: {agent: rows[-1:] for agent, rows in keys.items()} for home, keys in kept.items()}
        try:
            return learn(self, record, digest, wraps)
        finally:
            self._keys = kept

    patch.setattr(Secrets, "learn", by_newest)


@fault("waits-and-is-told-nothing", "who writes is not told that no key of the other is known", Withheld)
def _(patch: Patch) -> None:
    patch.setattr(pair_rooms, "needs_both", lambda room, agent: False)


@fault("no-record-for-the-other", "no record is made for whoever came into a room of two without a key", Withheld)
def _(patch: Patch) -> None:
    patch.setattr(Turning, "is_due", lambda self, room, now: False)


def _may_hold_anybody(patch: Patch) -> None:
    patch.setattr(records, "_may_read", lambda hearing, roster, *, is_first: True)


@fault("third-in-a-room-of-two", "a member takes a record of a room of two that holds a third", ThirdReader)
def _(patch: Patch) -> None:
    _may_hold_anybody(patch)


@fault("another-in-a-room-of-two", "a member takes a first record that holds another than is written to", OtherReader)
def _(patch: Patch) -> None:
    _may_hold_anybody(patch)


@fault("two-rooms-of-one-pair", "each of two goes on in a room of its own", TwoRooms)
def _(patch: Patch) -> None:
    pair = PairRooms._pair

    async def never_gives_way(self: PairRooms, by: Any, one: AgentId, other: AgentId, room: RoomId, **_: Any) -> None:
        await pair(self, by, one, other, room, instead=None)

    patch.setattr(PairRooms, "_pair", never_gives_way)


@fault("lost-key-told-on", "who lost its newest sealing key tells one of before", ReaderWentBack)
def _(patch: Patch) -> None:
    _renews_nothing(patch)


def _renews_nothing(patch: Patch) -> None:
    async def renew(self: Secrets, home: Any, agent: AgentId) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(Secrets, "renew", renew)


@fault("lost-key-not-followed", "who lost its newest sealing key draws none behind that", ReaderCameRound)
def _(patch: Patch) -> None:
    key = Secrets._key

    async def of_mine(self: Secrets, home: HomeId, agent: AgentId, after: int = 0) -> SealingKeyRow:
        newest = await key(self, home, agent)
        return newest if after > newest.counter else await key(self, home, agent, after)

    patch.setattr(Secrets, "_key", of_mine)


@fault("key-in-memory-alone", "an agent tells a key that is on no disk", Older)
def _(patch: Patch) -> None:
    _keeps_no_key(patch)


@fault("own-key-in-memory-alone", "who opens a room has the key for it on no disk", WriterWentBack)
def _(patch: Patch) -> None:
    _keeps_no_key(patch)


def _keeps_no_key(patch: Patch) -> None:
    record = Library.record

    async def but_keys(self: Library, writes: Any) -> Any:
        return await record(self, [each for each in writes if not isinstance(each, PutSealingKey)])

    patch.setattr(Library, "record", but_keys)


@fault(
    "own-record-taken-for-a-copy", "who lost a record of its own takes its key for one used elsewhere", OpenerWentBack
)
def _(patch: Patch) -> None:
    hear_record = records.hear_record

    def at_once(hearing: Hearing, told: Any) -> None:
        hearing.grounds = replace(hearing.grounds, is_live=True)
        hear_record(hearing, told)

    for where in (items, records):
        patch.setattr(where, "hear_record", at_once)


# -- queues --------------------------------------------------------------------------------------------------


@fault("wraps-of-another-epoch", "wraps count that the record does not name", WrapsOfBefore)
def _(patch: Patch) -> None:
    def unchecked(data: bytes, record: Any, *_: Any) -> Any:
        return read_wraps(data, msgspec.structs.replace(record, wraps=hashlib.sha256(data).digest()))

    patch.setattr(records, "check_wraps", unchecked)


@fault(
    "requester-of-no-record",
    "who only asks a queue for work is whoever the record says, not its roster",
    RequesterDropped,
)
def _(patch: Patch) -> None:
    def as_said(before: Any, record: Any) -> Any:
        with mock.patch.object(epoch_record, "roster_digest", return_value=record.roster):
            return roster_after(before, record)

    def or_none(data: bytes, record: Any, roster: Any) -> Any:
        try:
            return check_wraps(data, record, roster)
        except Refused:
            return ()

    patch.setattr(records, "roster_after", as_said)
    patch.setattr(records, "check_wraps", or_none)


@fault("record-with-one-left-out", "who asks takes a result under another record than it was told", RequesterLeftOut)
def _(patch: Patch) -> None:
    _takes_any_record(patch)


@fault("one-request-ends-it", "a request that nobody who works can read ends the queue for them", KeyOfBefore)
def _(patch: Patch) -> None:
    read = arriving_messages.read_sealed

    def or_nothing(message: Any, envelope: Any, opener: Any, *, asks: bool) -> Any:
        found = read(message, envelope, opener, asks=asks)
        if asks and found[0] is envelope and opener.words(envelope, message.body, message.agent) is None:
            raise Contradiction("form")
        return found

    patch.setattr(pages, "read_sealed", or_nothing)


def _shows_whoever_is_told(patch: Patch) -> None:
    post = Page._post

    def to_those_told(self: Page, message: Any, envelope: Any, *rest: Any) -> None:
        hearing, readers = self._hearing, envelope.visibility or ()
        is_theirs = any(hearing.grounds.ours(each) for each in (message.agent, *readers))
        if not is_theirs and not any(map(self._reads_on, hearing.numbers)):
            envelope = msgspec.structs.replace(envelope, visibility=tuple(sorted({*readers, *hearing.numbers})))
        post(self, message, envelope, *rest)

    patch.setattr(Page, "_post", to_those_told)


@fault("requests-shown-to-all", "who only asks for work is shown what others ask for", RequestOfAnother)
def _(patch: Patch) -> None:
    _shows_whoever_is_told(patch)


@fault("result-signed-by-anybody", "a result counts whoever signed it as it stands", ResultMoved)
def _(patch: Patch) -> None:
    patch.setattr(pages, "bears", lambda author, home, body, signature: "valid")


@fault("result-shown-to-all", "a result is shown to everybody who asks for work", ResultOfAnother)
def _(patch: Patch) -> None:
    _shows_whoever_is_told(patch)
