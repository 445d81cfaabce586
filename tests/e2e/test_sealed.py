"""A sealed session over a relay, with everything real: what its members read, and what the relay has of it."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from parlerd.paths import relay_home
from tests.support.processes import kill, until
from tests.support.team import Team, enters, texts

pytestmark = pytest.mark.e2e

SECRETS = ("marlin-topic", "barracuda-recap", "swordfish-said", "halibut-private", "pollock-key", "sturgeon-fact")
SEEN = "anchovy-value"
"""A value of the room's state, which the relay enforces and therefore sees: the search has to find it."""


def forms(word: str) -> Iterator[bytes]:
    """How a word may stand in a file."""
    raw = word.encode()
    yield from (raw, raw.hex().encode(), zlib.compress(raw)[2:-4])
    for before in range(3):
        coded = base64.b64encode(bytes(before) + raw)
        # The characters that what stands beside the word does not change.
        yield coded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]


def found_in(folder: Path, word: str) -> list[Path]:
    """The files below a folder in which a word stands."""
    wanted = list(forms(word))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 3
    return [path for path in files if any(form in path.read_bytes() for form in wanted)]


def test_members_of_a_sealed_session_read_it_and_the_relay_has_nothing_of_it(team: Team) -> None:
    team.joins(team.ben)
    words = ("--topic", "marlin-topic", "--context", "barracuda-recap")
    opened = team.ann.asks("--as", "alice", "session", "open", *words)
    assert (opened["sealed"], opened["name"]) == (True, "marlin-topic")
    enters(team, team.ben, "bob", opened)
    assert texts(team.ben.asks("--as", "bob", "recv", "--wait", "60")) == ["barracuda-recap"]

    team.ben.asks("--as", "bob", "send", "swordfish-said", "--key", "pollock-key")
    assert texts(team.ann.asks("--as", "alice", "recv", "--wait", "60")) == ["swordfish-said"]
    team.ann.asks("--as", "alice", "send", "halibut-private", "--visible-to", "bob")
    assert texts(team.ben.asks("--as", "bob", "recv", "--wait", "60")) == ["halibut-private"]
    team.ben.asks("--as", "bob", "remember", "sturgeon-fact")
    team.ann.asks("--as", "alice", "state", "set", "fish", f'"{SEEN}"')
    assert texts(team.ann.asks("--as", "alice", "recv", "--wait", "60")) == ["sturgeon-fact"]

    # The relay is killed, and so is a daemon: what was said meanwhile arrives, once.
    kill(team.relay_pid())
    assert team.ben.asks("--as", "bob", "send", "swordfish-said again")["queued"]
    team.ben.kills_daemon()
    team.ann.asks("relay", "start")
    team.ben.asks("--as", "bob", "recv")
    assert texts(team.ann.asks("--as", "alice", "recv", "--wait", "60")) == ["swordfish-said again"]

    # Bob is out, and what follows is sealed without him; in again, he reads on.
    team.ann.asks("room", "kick", "bob")
    team.ann.asks("--as", "alice", "send", "swordfish-said without bob")
    enters(team, team.ben, "bob", opened)
    team.ann.asks("--as", "alice", "send", "swordfish-said to all")

    def read_by_bob() -> bool:
        return "swordfish-said to all" in texts(team.ben.asks("--as", "bob", "recv", "--all", "--wait", "5"))

    until(read_by_bob, "what was said after bob came in again")

    # Somebody is named who goes on once the owner is gone. While she is there he does not, and asked without a name,
    # he opens another room, of which everybody is told in the old one.
    assert team.ann.asks("room", "successor", "bob")["names"] == ["bob"]
    assert team.ann.asks("room", "verify")["successor"] == ["bob"]

    def bob_is_told() -> bool:
        return bool(team.ben.asks("room", "verify").get("successor") == ["bob"])

    until(bob_is_told, "the record that names bob")
    team.ben.fails("room", "continue", "--without-owner", code="owner_is_there")
    assert team.ann.asks("room", "successor", "--none")["status"] == "nobody"
    until(lambda: "successor" not in team.ben.asks("room", "verify"), "the record that names nobody")
    other = team.ben.asks("room", "continue", "marlin-topic", "--without-owner")
    assert other["status"] == "reopened"
    told = texts(team.ann.asks("--as", "alice", "recv", "--wait", "60"))
    assert any(other["key"] in text for text in told)
    for one in (team.ann, team.ben):
        one.asks("audit")

    folder = relay_home(team.ann.home).root
    for word in SECRETS:
        assert found_in(folder, word) == [], word
    assert found_in(folder, SEEN) != []
