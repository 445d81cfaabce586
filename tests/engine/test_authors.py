"""Who writes a message's words: what the envelope of a local author says, and whose signature it bears."""

from __future__ import annotations

import hashlib

import pytest

from parlerd.core import events as e
from parlerd.core.envelope import DataPart, TextPart, decode_envelope
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, By, MessageId, Millis, PrincipalId, RoomId, Shown
from parlerd.engine.authors import Draft, LocalAuthor, Place
from parlerd.identity.signatures import verify
from tests.support.engine import CountedKeys, CountedRandomness

ROOM = RoomId("r_1")
WORDS = Draft((TextPart("hello"), DataPart({"n": 1})), Shown(9, b"c" * 32))


def place(author: AgentId, *, previous: bytes = b"") -> Place:
    return Place(ROOM, "k1", By(author, PrincipalId("A"), "s", "codex", "mcp"), previous, at=Millis(5))


def posted(author: AgentId, *, counter: int = 1) -> e.MessagePosted:
    return e.MessagePosted(
        id=MessageId("m_1"),
        kind="text",
        to=(author,),
        role="reviewer",
        visibility=(author,),
        reply_to=MessageId("m_0"),
        chain="c_1",
        hops=3,
        counter=counter,
    )


def test_a_local_author_signs_what_the_room_decided_and_what_it_says_itself() -> None:
    keys = CountedKeys()
    author = keys.create_agent()
    signed = LocalAuthor(keys, CountedRandomness()).sign(
        WORDS, posted(author, counter=7), place(author, previous=b"p" * 32)
    )
    assert verify(author, "parler/message", signed.body, signed.signature)
    assert signed.verified == "valid"
    said = decode_envelope(signed.body)
    assert (said.v, said.id, said.room, said.key, said.authored_at) == (2, "m_1", ROOM, "k1", 5)
    assert (said.counter, said.previous, said.shown, said.line) == (7, b"p" * 32, 9, b"c" * 32)
    assert (said.host, said.via, said.seen) == ("codex", "mcp", b"")
    assert (said.kind, said.to, said.role, said.visibility) == ("text", (author,), "reviewer", (author,))
    assert (said.reply_to, said.chain, said.hops) == ("m_0", "c_1", 3)
    assert said.parts == WORDS.parts


def test_equal_words_make_different_envelopes_so_that_a_hash_gives_nothing_away() -> None:
    keys = CountedKeys()
    author = keys.create_agent()
    local = LocalAuthor(keys, CountedRandomness())
    hashes = {hashlib.sha256(local.sign(WORDS, posted(author), place(author)).body).digest() for _ in range(3)}
    assert len(hashes) == 3


def test_an_author_whose_key_is_lost_writes_nothing() -> None:
    keys = CountedKeys()
    author = keys.create_agent()
    keys.forget(author)
    with pytest.raises(Refused) as caught:
        LocalAuthor(keys, CountedRandomness()).sign(WORDS, posted(author), place(author))
    assert caught.value.code == "no_such_agent"
