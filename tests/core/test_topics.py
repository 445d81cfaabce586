"""Topics: what can change, and the wider topics that hold it."""

from __future__ import annotations

from typing import get_args

from parlerd.core import topics
from parlerd.core.topics import ANY, Root, Topic

MADE = [
    topics.messages("x"),
    topics.messages("x", "x"),
    topics.quiet("x"),
    topics.quiet("x", "x"),
    topics.life("x"),
    topics.keys("x"),
    topics.keys("x", "x"),
    topics.decision("x", "x"),
    topics.claims("x"),
    topics.state("x"),
    topics.state("x", "x"),
    topics.state("x", "x", "x"),
    topics.waiting("x"),
    topics.waiting("x", "x"),
    topics.scopes("x"),
    topics.actions("x"),
    topics.actions("x", "x"),
    topics.pairs("U1"),
    topics.claims("x", "x"),
    topics.requests("x"),
    topics.concerns("x"),
    topics.memberships("x"),
    topics.presence("x"),
    topics.presence(),
    topics.seats(),
    topics.wakes(),
    topics.log("x"),
    topics.link("x"),
]


def test_topics_of_different_kinds_never_meet() -> None:
    assert len(set(MADE)) == len(MADE)
    assert {topic.root for topic in MADE} == set(get_args(Root))


def test_a_topic_is_held_by_itself_and_by_those_that_leave_open_its_key_and_its_scope() -> None:
    narrow = Topic("r", "keys", "scope", "key")
    assert narrow.wider() == (narrow, Topic("r", "keys", "scope"), Topic("r", "keys"))
    assert Topic("r", "keys", "scope").wider() == (Topic("r", "keys", "scope"), Topic("r", "keys"))
    assert Topic("r", "keys").wider() == (Topic("r", "keys", ANY, ANY),)


def test_a_message_for_one_reader_is_not_one_for_everyone() -> None:
    assert topics.messages("r") not in topics.messages("r", "U1").wider()
    assert topics.messages("r", "U1") not in topics.messages("r").wider()
