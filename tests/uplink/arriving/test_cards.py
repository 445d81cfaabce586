"""How a room stands, as its home says: what it was opened as, and whether it is over."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core.errors import Refused
from parlerd.core.grants import agent_of, digest_of
from parlerd.core.model import Millis, RoomId
from parlerd.core.statements import MayOpen, room_id_of
from parlerd.engine.audit import Audited, is_signed
from parlerd.identity.signatures import SigningKey
from parlerd.operations import types as t
from tests.support.honest_home import ANN, BEN, RELAY_KEY, START, Granted, HonestHome, Moved, Within
from tests.support.told import Daemon, busy, verdicts_of


def test_a_closed_room_is_closed_in_the_mirror_once() -> None:
    home = busy()
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    home.closed = True
    daemon.hear(home.items([BEN], len(home.log))).hear(home.items([BEN], len(home.log)))
    assert daemon.room.state.closed


def test_a_mirror_does_not_begin_with_an_opening_that_is_not_the_rooms() -> None:
    home = HonestHome()
    other = HonestHome(owner=BEN)
    card = home.card([ANN], 1)
    wrong = [
        msgspec.structs.replace(card, opening=other.opening, opening_signature=other.opening_signature),
        msgspec.structs.replace(card, opening_signature=other.opening_signature),
        msgspec.structs.replace(card, title=b"other"),
        msgspec.structs.replace(card, opening=b""),
    ]
    for each in wrong:
        daemon = Daemon(home, (ANN,))
        with pytest.raises(Refused) as refused:
            daemon.hear([t.LinkItem(room=home.room, card=each)])
        assert refused.value.code == "relay_equivocation"
        assert daemon.room.position == 0


def _opened(within: Within) -> HonestHome:
    home = HonestHome(within=within)
    home.join(BEN)
    home.post(home.opener, "begun")
    home.post(ANN, "seen")
    return home


def test_a_room_that_was_opened_within_a_grant_is_the_persons_and_every_reader_finds_so() -> None:
    home = _opened(Within())
    for eyes in ([ANN], [BEN]):
        daemon = Daemon(home, tuple(eyes), opened=1).hear(home.items(eyes))
        assert daemon.contradicted == ""
        assert verdicts_of(daemon) == {"begun": "home", "seen": "valid"}
        state = daemon.room.state
        assert (state.owner, state.owner_principal) == (ANN.agent, ANN.principal)
        assert [member.handle for member in state.members.values()] == ["ann", "ci", "ben"]
        about = Audited.of(state, daemon.facts[0].body)
        assert all(is_signed(fact, about) for fact in daemon.facts)
        late = about._replace(room=replace(about.room, opened_at=Millis(home.now + 10**9)))
        assert not is_signed(daemon.facts[0], late)


MAY_OPEN = MayOpen(rooms=2, owner=ANN.agent, handle="ann")


NOT_OPENED: dict[str, Within] = {
    "without the scope": Within(grant={"scopes": ("read", "post"), "opens": msgspec.UNSET}),
    "with the scope and no rooms": Within(grant={"opens": msgspec.UNSET}),
    "for another relay": Within(grant={"home": "N" + "A" * 55}),
    "of another person": Within(grant={"principal": BEN.principal}),
    "signed by another person": Within(granted_by=BEN.person),
    "signed by the relay": Within(granted_by=RELAY_KEY),
    "for another owner": Within(grant={"opens": replace(MAY_OPEN, owner=BEN.agent)}),
    "for an owner of another name": Within(grant={"opens": replace(MAY_OPEN, handle="ben")}),
    "that is over": Within(grant={"not_after": Millis(START)}),
    "for several agents": Within(grant={"names": ("ci", "cd")}),
    "that asks": Within(grant={"approval": True}),
    "in the name of another person": Within(opening={"principal": BEN.principal, "owner": BEN.agent}),
    "where newcomers are not asked about": Within(opening={"approval": False}),
    "where an agent decides": Within(opening={"approver": "agent"}),
    "as another kind of room": Within(opening={"kind": "channel"}),
    "with a host": Within(opening={"host": "codex"}),
    "at another relay": Within(opening={"home": "N" + "A" * 55}),
    "opened by another relay": Within(opened_by=SigningKey("relay", bytes([8]) * 32)),
    "signed as words are": Within(domain="parler/admitted"),
    "signed as a person signs, by the relay": Within(domain="parler/opening"),
    "signed by the owner": Within(opened_by=ANN.key),
    "bearing no grant": Within(opening={"granted": msgspec.UNSET}),
    "bearing no grant, and signed as a person signs": Within(
        opening={"granted": msgspec.UNSET}, domain="parler/opening"
    ),
}


@pytest.mark.parametrize("lie", NOT_OPENED)
def test_a_relay_opens_no_room_in_a_persons_name_but_within_what_the_person_signed(lie: str) -> None:
    home = _opened(NOT_OPENED[lie])
    for eyes in ([ANN], [BEN]):
        daemon = Daemon(home, tuple(eyes))
        with pytest.raises(Refused) as refused:
            daemon.hear(home.items(eyes))
        assert refused.value.code == "relay_equivocation"
        assert (daemon.facts, daemon.room.position) == ([], 0)


def test_a_reader_takes_in_as_many_rooms_of_a_grant_as_it_says_and_no_more() -> None:
    home = _opened(Within())
    for opened in (0, 1):
        assert Daemon(home, (BEN,), opened=opened).hear(home.items([BEN])).contradicted == ""
    for opened in (2, 3):
        with pytest.raises(Refused) as refused:
            Daemon(home, (BEN,), opened=opened).hear(home.items([BEN]))
        assert refused.value.details["what"] == "grant"


def test_in_a_room_of_a_grant_nobody_else_comes_in_by_it() -> None:
    home = _opened(Within())
    entry = home.members[home.opener.agent]
    other = Granted("cd", agent_of(digest_of(entry.grant), "cd"), ANN)
    home.members[other.agent] = replace(entry, agent=other.agent, handle="cd", granted_as="cd")
    home.log.append(Moved(home.members[other.agent]))
    home.post(other, "x")
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert other.agent not in daemon.room.state.members
    assert "x" not in verdicts_of(daemon)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_every_byte_of_such_an_opening_and_of_its_grant_counts(at: int, flip: int) -> None:
    home = _opened(Within())
    body = bytearray(home.opening)
    body[at % len(body)] ^= flip
    home.opening = bytes(body)
    # Under the id of the changed bytes, too: only the signatures are wrong then.
    home.room = RoomId(room_id_of(home.opening))
    with pytest.raises(Refused):
        Daemon(home, (BEN,)).hear(home.items([BEN]))
