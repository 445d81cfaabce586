"""Rooms with a long history, made in a minute instead of an hour: copies of one real message, straight into the store.

A daemon makes the room, its members and the first message. While the daemon is stopped, the store's own code writes the
facts that follow, so digests, chain and indexes are as in a real room. Two things are not real: every copy has the body
and the signature of the first message, and no client ever waited for one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from benchmarks import common
from parlerd.cli.demo_home import DemoHome
from parlerd.core.events import Header, MessagePosted
from parlerd.core.model import AgentId, MessageId, Millis, Position, RoomId
from parlerd.operations import types as t
from parlerd.store.port import Append, NewFact
from parlerd.store.sqlite import SqliteStore

AUTHOR: Final = "ann"
READER: Final = "ben"
MARKED: Final = "task"
_CHUNK: Final = 5_000
_TELL_EVERY: Final = 200_000


class LongRoom(NamedTuple):
    """A long room: its id, the session key that lets anyone in, and the id of `READER`."""

    id: RoomId
    session_key: str
    reader: AgentId


def long_room(made: DemoHome, messages: int, *, marked: int = 0) -> LongRoom:
    """A room of `messages` messages by `AUTHOR`, with `READER` in it; `marked` of them, evenly spread and ending with
    the last, are of the kind `MARKED` and for the reader. Leaves the daemon stopped."""
    made.start()
    with common.RawConnection(made, as_name=AUTHOR) as author, common.RawConnection(made, as_name=READER) as reader:
        opened = author.call("session.open", t.OpenSession(context="benchmark", topic="bench", max_uses=10_000))
        reader.call("session.join", t.JoinSession(session_key=opened.session_key))
        author.call("message.send", t.Send(text=common.TEXT, room=opened.room, idempotency_key="first"))
        room = LongRoom(RoomId(opened.room), opened.session_key, AgentId(reader.call("agent.whoami", t.WhoAmI()).id))
    made.end(keep=True)
    with opened_store(made) as store:
        _fill(store, room, messages, marked)
    return room


@contextmanager
def opened_store(made: DemoHome) -> Iterator[SqliteStore]:
    """The store of a home whose daemon does not run."""
    store = SqliteStore(made.home.database, backups=made.home.backups)
    try:
        yield store
    finally:
        store.close()


def _fill(store: SqliteStore, filled: LongRoom, messages: int, marked: int) -> None:
    room = filled.id
    head = store.head(room)
    (last,) = store.facts(room, Position(head.position - 1), 1)
    found = store.body(room, last.position)
    assert isinstance(last.event, MessagePosted)
    assert found is not None
    body, signature = found
    begun = time.perf_counter()
    done = 2  # the recap and the first message
    while done < messages:
        count = min(_CHUNK, messages - done)
        copies = [
            NewFact(
                _copy(
                    last,
                    done - 1 + number,
                    filled.reader if _is_marked(messages - done - number, messages, marked) else None,
                ),
                body,
                signature,
            )
            for number in range(count)
        ]
        (outcome,) = store.transact([[Append(room, Position(copies[0].header.position - 1), copies)]])
        if outcome.error is not None:
            raise outcome.error
        done += count
        if done % _TELL_EVERY == 0:
            print(f"filling: {done:,} messages after {time.perf_counter() - begun:.0f} s", file=sys.stderr)


def _is_marked(left: int, messages: int, marked: int) -> bool:
    """Whether the message after which `left - 1` follow is one of those that are marked. The last message is one."""
    return marked > 0 and (left - 1) % (messages // marked) == 0


def _copy(last: Header, number: int, marked_for: AgentId | None) -> Header:
    event = last.event
    assert isinstance(event, MessagePosted)
    posted = msgspec.structs.replace(event, id=MessageId(f"{event.id}{number:08x}"), counter=event.counter + number)
    if marked_for is not None:
        posted = msgspec.structs.replace(posted, kind=MARKED, to=(marked_for,))
    return msgspec.structs.replace(
        last,
        position=Position(last.position + number),
        at=Millis(last.at + number // 10),
        event=posted,
        key=f"copy-{number}",
    )
