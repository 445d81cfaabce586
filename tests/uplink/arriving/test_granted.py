"""Agents that have no key: what a relay says within a grant is shown as its word, and nothing beyond that counts."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core.model import AgentId, Millis, RoomId
from parlerd.engine.audit import Audited, is_signed
from parlerd.identity.signatures import Domain, SigningKey
from tests.support.honest_home import ANN, BEN, CAT, RELAY_KEY, Asked, HonestHome, Moved, Party
from tests.support.told import Daemon, busy, verdicts_of


def test_what_a_relay_says_within_a_grant_is_shown_as_its_word_and_as_nothing_more() -> None:
    home = busy()
    ci = home.grant("ci")
    home.post(ci, "built")
    home.post(BEN, "thanks")
    home.post(ci, "for ben", [BEN])
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.contradicted == ""
    verdicts = verdicts_of(daemon)
    assert (verdicts["built"], verdicts["thanks"], verdicts["for ben"]) == ("home", "valid", "home")
    assert {verdict for text, verdict in verdicts.items() if text not in ("built", "for ben")} == {"valid"}
    member = daemon.room.state.members[ci.agent]
    assert (member.handle, member.principal, member.present) == ("ci", ANN.principal, True)
    about = Audited.of(daemon.room.state, daemon.facts[0].body)
    assert all(is_signed(fact, about) for fact in daemon.facts)


@settings(max_examples=40)
@given(st.integers(0, 12), st.booleans())
def test_two_homes_that_read_the_same_messages_agree_on_what_bears_them(begins: int, leaves: bool) -> None:
    home = busy()
    ci = home.grant("ci", count=2)
    cd = home.grant("cd", count=2)
    for number in range(3):
        home.post(ci, f"ci {number}")
        home.post(BEN, f"ben {number}")
        home.post(cd, f"cd {number}")
    if leaves:
        home.leave(ci)
        home.post(CAT, "ci is gone")
    one = Daemon(home, (BEN,)).hear(home.items([BEN]))
    other = Daemon(home, (CAT,)).hear(home.items([CAT], begins, jumped=begins > 0))
    assert (one.contradicted, other.contradicted) == ("", "")
    ours, theirs = verdicts_of(one), verdicts_of(other)
    shared = ours.keys() & theirs.keys()
    assert {text for text in shared if text.startswith(("ci ", "cd ")) and not text.endswith("gone")}
    assert all(ours[text] == theirs[text] for text in shared)


def _another_room() -> RoomId:
    return RoomId("r_" + "a" * 32)


NOT_LET_IN: dict[str, Callable[[HonestHome], Party]] = {
    "for another room": lambda home: home.grant("ci", rooms=(_another_room(),)),
    "for another relay": lambda home: home.grant("ci", home="N" + "A" * 55),
    "for another name": lambda home: home.grant("ci", names=("cd",)),
    "with a person's yes beside it": lambda home: home.grant("ci", approval=True),
    "signed by another person": lambda home: home.grant("ci", by=BEN),
    "in the name of the owner, signed by another": lambda home: home.grant("ci", by=BEN, principal=ANN.principal),
    "whose id does not name it": lambda home: home.grant("ci", agent=AgentId("T" + "A" * 52)),
    "that names a key": lambda home: home.grant("ci", agent=AgentId("U" + "A" * 55)),
    "of another version": lambda home: home.grant("ci", v=2),
}


@pytest.mark.parametrize("grant", NOT_LET_IN)
def test_by_a_grant_that_is_not_good_nobody_is_a_member_and_nothing_is_shown(grant: str) -> None:
    home = busy()
    ci = NOT_LET_IN[grant](home)
    home.post(ci, "built")
    home.post(BEN, "after")
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert ci.agent not in daemon.room.state.members
    assert "built" not in verdicts_of(daemon)
    assert daemon.texts(BEN)[-1] == "after"


def test_by_a_grant_that_asks_and_the_persons_decision_an_agent_comes_in() -> None:
    home = busy()
    ci = home.grant_asking("ci")
    home.post(ci, "built")
    for eyes in ([ANN], [BEN], [CAT]):
        daemon = Daemon(home, tuple(eyes)).hear(home.items(eyes))
        assert daemon.contradicted == ""
        assert verdicts_of(daemon)["built"] == "home"
        assert daemon.room.state.members[ci.agent].given is not None
        about = Audited.of(daemon.room.state, daemon.facts[0].body)
        assert all(is_signed(fact, about) for fact in daemon.facts)


def _of_another(home: HonestHome) -> Party:
    other = home.grant_asking("cd")
    return home.grant_asking("ci", decision=lambda party, request: home.decision(other, request))


def _by_the_relay(home: HonestHome, party: Party, request: str) -> tuple[bytes, bytes]:
    body, _ = home.decision(party, request)
    return body, RELAY_KEY.sign("parler/decision", body)


UNDECIDED: dict[str, Callable[[HonestHome], Party]] = {
    "without one": lambda home: home.grant_asking("ci", decision=lambda party, request: (b"", b"")),
    "about another agent": _of_another,
    "by another person": lambda home: home.grant_asking(
        "ci", decision=lambda party, request: home.decision(party, request, by=BEN)
    ),
    "by the relay": lambda home: home.grant_asking(
        "ci", decision=lambda party, request: _by_the_relay(home, party, request)
    ),
    "that denies": lambda home: home.grant_asking(
        "ci", decision=lambda party, request: home.decision(party, request, admit=False)
    ),
    "on a grant of another person": lambda home: home.grant_asking("ci", by=BEN),
}


@pytest.mark.parametrize("decision", UNDECIDED)
def test_by_a_grant_that_asks_nobody_comes_in_but_by_the_persons_decision(decision: str) -> None:
    home = busy()
    ci = UNDECIDED[decision](home)
    home.post(ci, "built")
    home.post(BEN, "after")
    for eyes in ([ANN], [BEN]):
        daemon = Daemon(home, tuple(eyes)).hear(home.items(eyes))
        assert ci.agent not in daemon.room.state.members
        assert "built" not in verdicts_of(daemon)
        assert daemon.texts(eyes[0])[-1] == "after"


@pytest.mark.parametrize("lie", ["name", "agent", "principal", "host", "ref", "no approval", "no signature"])
def test_who_asks_by_a_grant_that_is_not_good_is_asked_about_nobody(lie: str) -> None:
    home = busy()
    before = len(home.log)
    home.grant_asking("ci")
    asked = next(each for each in home.log[before:] if isinstance(each, Asked)).entry
    del home.log[before:]
    if lie == "no approval":
        plain = home.members[home.grant("ci", count=2).agent]
        home.log.pop()
        asked = replace(asked, agent=plain.agent, grant=plain.grant, grant_signature=plain.grant_signature)
    elif lie == "no signature":
        asked = replace(asked, grant_signature=bytes(64))
    else:
        value = {"name": "cd", "agent": "T" + "A" * 52, "principal": BEN.principal, "host": "codex", "ref": "k_gated"}
        asked = replace(asked, **{lie: value[lie]})
    home.log.append(Asked(asked))
    home.post(BEN, "after")
    daemon = Daemon(home, (ANN,)).hear(home.items([ANN]))
    assert asked.request not in daemon.room.state.requests
    assert daemon.texts(ANN)[-1] == "after"


@pytest.mark.parametrize("field", ["grant", "grant_signature", "granted_as"])
def test_a_grant_that_was_changed_lets_nobody_in(field: str) -> None:
    home = busy()
    ci = home.grant("ci")
    entry = home.members[ci.agent]
    for change in (b"", bytes(64), entry.grant + b"x") if field != "granted_as" else ("", "cd", "ci-2"):
        home.log[-1] = Moved(replace(entry, **{field: change}))
        daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
        assert ci.agent not in daemon.room.state.members


def test_an_agent_without_a_key_comes_in_by_nothing_but_a_grant() -> None:
    home = busy()
    ci = home.grant("ci")
    body, signature = home.decision(ci, "q_1")
    terms, terms_signature = home.open
    knock, _ = home.knock(ci, "k_open")
    shown = {"proof": body, "proof_signature": signature, "terms": terms, "terms_signature": terms_signature}
    shown |= {"knock": knock, "knock_signature": home.owner.key.sign("parler/knock", knock)}
    entry = replace(home.members[ci.agent], grant=b"", grant_signature=b"", granted_as="", **shown)
    home.log[-1] = Moved(entry)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert ci.agent not in daemon.room.state.members


def _signed_by(party: Party, key: SigningKey, domain: Domain) -> Party:
    """The same agent, whose words another key signs, or for another purpose."""
    found = copy.copy(party)
    found.key, found.domain = key, domain
    return found


OTHER_RELAY = SigningKey("relay", bytes([8]) * 32)


BEYOND: dict[str, tuple[Callable[[HonestHome], object], str]] = {
    "after its end": (lambda home: home.post(home.grant("ci", not_after=Millis(home.now)), "x"), "grant"),
    "by one that only reads": (lambda home: home.post(home.grant("ci", scopes=("read", "state")), "x"), "grant"),
    "by more than it counts": (
        lambda home: [home.post(home.grant(name, count=1), name) for name in ("ci", "cd")],
        "grant",
    ),
    "signed by another relay": (
        lambda home: home.post(_signed_by(home.grant("ci"), OTHER_RELAY, "parler/admitted"), "x"),
        "signature",
    ),
    "signed as an author signs, by the relay": (
        lambda home: home.post(_signed_by(home.grant("ci"), RELAY_KEY, "parler/message"), "x"),
        "signature",
    ),
    "signed as an author signs, by an agent": (
        lambda home: home.post(_signed_by(home.grant("ci"), ANN.key, "parler/message"), "x"),
        "signature",
    ),
    "admitted for a member that has a key": (
        lambda home: home.post(_signed_by(BEN, RELAY_KEY, "parler/admitted"), "x"),
        "signature",
    ),
    "signed as to be shown later": (lambda home: home.release(home.grant("ci"), "x"), "unsigned"),
}


@pytest.mark.parametrize("lie", BEYOND)
def test_a_relay_that_speaks_beyond_a_grant_shows(lie: str) -> None:
    home = busy()
    tells, what = BEYOND[lie]
    tells(home)
    for eyes in ([BEN], [BEN, CAT]):
        daemon = Daemon(home, tuple(eyes)).hear(home.items(eyes))
        assert daemon.contradicted == what
        assert "x" not in verdicts_of(daemon)
