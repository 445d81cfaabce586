"""A relay between people whose network fails under them: cables that are pulled, wires that break, stall and are slow,
addresses that change. Everything is real.

Machines of their own (`apart`) are what people have, and not every system lets a test make them. Wires on the loopback
(`wired`) run everywhere, and break in ways in which a cable does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import listens, until
from tests.support.senders import Sender, all_that, met
from tests.support.team import Apart, Team, apart, texts, wired

pytestmark = pytest.mark.e2e


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Apart]:
    with apart(monkeypatch) as people:
        yield people


@pytest.fixture
def wires(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Team]:
    with wired(monkeypatch, tmp_path) as team:
        yield team


def both_talk(team: Team) -> tuple[Sender, Sender]:
    """Ann's alice and Ben's bob have met, and go on talking."""
    room = met(team)["room"]
    senders = Sender(team.ann, "alice", room), Sender(team.ben, "bob", room)
    for sender in senders:
        sender.goes_on()
    return senders


def until_queued(sender: Sender) -> None:
    until(lambda: sender.failed or sender.sent[-1].queued, "message that waits")


def until_sent(sender: Sender) -> None:
    until(lambda: sender.failed or not sender.sent[-1].queued, "message that went")


def both_heard_everything(team: Team, alice: Sender, bob: Sender) -> None:
    for sender in (alice, bob):
        sender.stops()
    all_that(team.ann, "alice", bob)
    all_that(team.ben, "bob", alice)
    for one in (team.ann, team.ben):
        until(lambda one=one: one.asks("homes")["homes"][1]["waiting"] == 0, "empty outbox")  # type: ignore[misc]


def test_a_relay_is_made_at_the_address_that_leads_to_others_and_three_machines_meet(machines: Apart) -> None:
    team = machines.team
    assert team.relay["addresses"] == [f"{machines.ann.address}:7777"]
    assert listens(team.relay_pid()) == {(machines.ann.address, 7777), ("127.0.0.1", 7777)}
    for one in (team.ben, team.cara):
        joined = team.joins(one)
        assert joined["home"] == team.relay["name"]
    opened = met(team)
    waits = team.cara.asks("--as", "carol", "session", "join", opened["key"], "--no-wait", expect=4)
    team.ann.asks("session", "approve", "carol", "--code", waits["code"])
    until(lambda: team.cara.asks("--as", "carol", "rooms")["rooms"], "room")
    team.cara.asks("--as", "carol", "send", "from carol")
    for one, name in ((team.ann, "alice"), (team.ben, "bob")):
        assert texts(one.asks("--as", name, "recv", "--wait", "60")) == ["from carol"]


def test_nothing_is_lost_or_doubled_when_a_cable_is_pulled_in_the_middle_of_what_both_say(machines: Apart) -> None:
    team = machines.team
    alice, bob = both_talk(team)
    machines.ben.pull()
    until_queued(bob)
    bob.goes_on()
    alice.goes_on()
    assert not alice.sent[-1].queued, "her cable is in"
    machines.ben.plug()
    until_sent(bob)
    bob.goes_on()
    both_heard_everything(team, alice, bob)


def test_a_relay_that_gets_another_address_goes_on_there_and_on_its_own_machine_without_a_word(machines: Apart) -> None:
    team = machines.team
    alice, bob = both_talk(team)
    for sender in (alice, bob):
        sender.stops()
    machines.ann.gets("10.177.0.77")
    until(lambda: team.ann.asks("relay", "status")["addresses"] == ["10.177.0.77:7777"], "other address of the relay")
    until(lambda: team.ann.asks("homes")["homes"][1]["state"] == "connected", "link of the relay's own machine")
    opened = team.ann.asks("--as", "alice", "session", "open", "--topic", "later")
    new = team.ann.asks("relay", "status")["join_line"]
    assert new in opened["connect_command"], "the line for others has the new address"

    said = "from before the new line"
    sent = team.ben.asks("--as", "bob", "send", said)
    assert sent["queued"] is True
    joined = team.ben.asks("connect", "--relay", new)
    assert joined["relay"]["status"] == "unchanged", "no secret is needed"
    heard = ("--as", "alice", "recv", "--room", sent["room"], "--wait", "10")
    until(lambda: said in texts(team.ann.asks(*heard)), "message that had waited")
    assert team.ben.asks("homes")["homes"][1]["url"] == "wss://10.177.0.77:7777/"


def test_nothing_is_lost_or_doubled_when_wires_break_stall_and_are_slow(wires: Team) -> None:
    alice, bob = both_talk(wires)
    of_ann, of_ben = wires.wires[wires.ann], wires.wires[wires.ben]

    of_ben.cut()
    until_queued(bob)
    bob.goes_on()
    alice.goes_on()
    of_ben.mend()
    until_sent(bob)

    of_ann.slow(0.2)
    alice.goes_on()
    bob.goes_on()
    of_ann.mend()

    # What was under way when the wire went silent goes on when it speaks again.
    of_ben.stall()
    until_queued(bob)
    bob.goes_on()
    of_ben.mend()
    until_sent(bob)

    # And this time it is lost.
    of_ann.stall()
    of_ben.stall()
    for sender in (alice, bob):
        until_queued(sender)
        sender.goes_on()
    of_ann.mend(lost=True)
    of_ben.mend(lost=True)
    for sender in (alice, bob):
        until_sent(sender)
        sender.goes_on()
    both_heard_everything(wires, alice, bob)
