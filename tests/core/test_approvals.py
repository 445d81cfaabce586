"""Keys, requests and how a person's answer finds the one it means."""

from __future__ import annotations

import pytest

from parlerd.core import approvals
from parlerd.core.approvals import KeyState
from parlerd.core.commands import Request
from parlerd.core.model import MAX_PENDING_PER_KEY, KeyId, Millis, RequestId
from tests.support.core import BEN, CAT, DAN, OWNER, STRANGER, Agent, agent, refused

KEY, OTHER = KeyId("key"), KeyId("other")
Requests = dict[RequestId, Request]


def key(*, uses: int = 0, max_uses: int = 2, revoked: bool = False) -> KeyState:
    users = [agent(f"user{letter}").id for letter in "abcdefgh"[:uses]]
    return KeyState(
        id=KEY,
        gated=True,
        expires_at=Millis(100),
        max_uses=max_uses,
        minted_at=Millis(0),
        users=users,
        revoked=revoked,
    )


def asked(*entries: tuple[Agent, str], key: KeyId = KEY) -> Requests:
    return {
        RequestId(f"q_{n}"): Request(
            id=RequestId(f"q_{n}"),
            key_id=key,
            agent=who.id,
            principal=who.principal,
            name=who.name,
            host="codex",
            at=Millis(n),
            state=state,
        )
        for n, (who, state) in enumerate(entries)
    }


# -- keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "now", "state"),
    [
        (key(), 99, "live"),
        (key(), 100, "expired"),
        (key(uses=1), 99, "live"),
        (key(uses=2), 99, "used_up"),
        (key(uses=2, revoked=True), 100, "revoked"),
    ],
)
def test_an_owner_is_told_what_became_of_a_key_and_only_a_live_one_can_be_used(
    known: KeyState, now: int, state: str
) -> None:
    assert known.state(Millis(now)) == state
    if state == "live":
        assert approvals.usable_key({KEY: known}, KEY, BEN.id, Millis(now)) is known
    else:
        with refused("unknown_key"):
            approvals.usable_key({KEY: known}, KEY, BEN.id, Millis(now))


def test_a_key_that_cannot_be_used_looks_like_one_that_never_was() -> None:
    bodies = []
    for keys, now in (({}, 0), ({KEY: key()}, 100), ({KEY: key(uses=2)}, 0), ({KEY: key(revoked=True)}, 0)):
        with refused("unknown_key") as caught:
            approvals.usable_key(keys, KEY, BEN.id, Millis(now))
        bodies.append(caught.value.body())
    assert all(body == bodies[0] for body in bodies)
    assert bodies[0].details == {}


def test_a_key_counts_each_agent_once() -> None:
    known = key()
    for who in (BEN, BEN, CAT, BEN):
        known.use(who.id)
    assert known.uses == 2


def test_a_used_up_key_still_serves_those_who_used_it() -> None:
    known = key()
    known.use(BEN.id)
    known.use(CAT.id)
    assert approvals.usable_key({KEY: known}, KEY, CAT.id, Millis(0)) is known
    with refused("unknown_key"):
        approvals.usable_key({KEY: known}, KEY, DAN.id, Millis(0))


def test_a_sixth_request_on_one_key_has_to_wait_until_one_is_decided() -> None:
    crowd = [agent(f"a{letter}") for letter in "bcdef"]
    assert len(crowd) == MAX_PENDING_PER_KEY
    requests = asked(*((who, "pending") for who in crowd))
    with refused("too_many_pending") as caught:
        approvals.check_queue(requests, KEY)
    assert caught.value.details == {"limit": 5}
    approvals.check_queue(requests, OTHER)
    requests[RequestId("q_3")].state = "denied"
    approvals.check_queue(requests, KEY)


# -- denials -----------------------------------------------------------------------------------------------


def test_only_the_newest_request_of_an_agent_stands() -> None:
    requests = asked((BEN, "approved"), (CAT, "denied"), (BEN, "pending"))
    standing = approvals.standing_request(requests, BEN.id)
    assert standing is not None
    assert standing.id == "q_2"
    assert approvals.standing_request(requests, DAN.id) is None


def test_a_denial_covers_its_agent_on_every_key() -> None:
    requests = asked((BEN, "denied"))
    for which in (KEY, OTHER):
        assert approvals.is_denied(requests, which, BEN.by, OWNER.principal)


def test_a_denial_of_one_of_the_owners_agents_says_nothing_of_the_rest() -> None:
    assert not approvals.is_denied(asked((BEN, "denied")), KEY, CAT.by, OWNER.principal)


def test_a_denial_of_another_persons_agent_covers_that_persons_agents_on_that_key() -> None:
    sibling = agent("sibling", of="stranger")
    requests = asked((STRANGER, "denied"))
    assert approvals.is_denied(requests, KEY, sibling.by, OWNER.principal)
    assert not approvals.is_denied(requests, OTHER, sibling.by, OWNER.principal)
    assert not approvals.is_denied(requests, KEY, agent("third", of="third").by, OWNER.principal)


@pytest.mark.parametrize("state", ["pending", "approved"])
def test_an_agent_that_was_asked_about_itself_is_not_covered_by_the_denial_of_another(state: str) -> None:
    sibling = agent("sibling", of="stranger")
    requests = asked((sibling, state), (STRANGER, "denied"))
    assert not approvals.is_denied(requests, KEY, sibling.by, OWNER.principal)


# -- whom the person means ---------------------------------------------------------------------------------


def test_a_request_is_found_by_its_id_its_agents_id_or_a_name_that_only_it_has() -> None:
    requests = asked((BEN, "pending"), (CAT, "pending"))
    for who in ("q_1", CAT.id, "cat"):
        assert approvals.find_request(requests, who).id == "q_1"


def test_nobody_by_that_name_is_no_request() -> None:
    for who in ("ben", BEN.id, "q_9", ""):
        with refused("no_such_request"):
            approvals.find_request(asked((CAT, "pending")), who)


def test_a_name_that_two_of_those_who_wait_gave_is_ambiguous_and_both_are_listed() -> None:
    other = agent("ben", key="other")
    with refused("ambiguous_name") as caught:
        approvals.find_request(asked((BEN, "pending"), (other, "pending"), (CAT, "pending")), "ben")
    assert caught.value.details["candidates"] == [
        {"id": BEN.id, "name": "ben", "host": "codex"},
        {"id": other.id, "name": "ben", "host": "codex"},
    ]


def test_a_name_means_who_waits_before_who_was_decided_on() -> None:
    other = agent("ben", key="other")
    assert approvals.find_request(asked((BEN, "pending"), (other, "denied")), "ben").agent == BEN.id
    assert approvals.find_request(asked((BEN, "denied"), (BEN, "pending"), (BEN, "denied")), BEN.id).id == "q_1"


def test_the_newest_decided_request_is_found_if_one_agent_alone_is_meant() -> None:
    other = agent("ben", key="other")
    requests = asked((BEN, "approved"), (BEN, "denied"))
    for who in ("ben", BEN.id):
        assert approvals.find_request(requests, who).id == "q_1"
    with refused("no_such_request"):
        approvals.find_request(asked((BEN, "denied"), (other, "denied")), "ben")
