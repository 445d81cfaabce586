"""Whose a room is: nobody goes on in it whom the owner before did not name."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from parlerd.core.model import Millis
from parlerd.core.statements import Transfer, encode
from parlerd.operations import types as t
from tests.support.honest_home import ANN, BEN, CAT, DAN, RELAY, HonestHome, Party
from tests.support.told import Daemon


def transferred(told: HonestHome, to: Party, *, by: Party, **more: object) -> t.LinkItem:
    """A card that tells of a transfer of the room, signed by the person of `by`."""
    fields: dict[str, object] = {
        "home": RELAY,
        "room": told.room,
        "number": 1,
        "owner": to.agent,
        "principal": to.principal,
        "taken": False,
        "at": Millis(told.now),
        "nonce": bytes(16),
    }
    body = encode(Transfer(**{**fields, **more}))  # type: ignore[arg-type]
    entry = t.TransferEntry(statement=body, signature=by.person.sign("parler/transfer", body))
    return t.LinkItem(room=told.room, card=t.Card(whole=False, home=RELAY, transfers=[entry]))


def of_three() -> tuple[HonestHome, Daemon]:
    """A room of Ann's with Ben and Cat in it, as Ben's daemon knows it."""
    home = HonestHome()
    home.join(BEN)
    home.join(CAT)
    return home, Daemon(home, (BEN,)).hear(home.items([BEN]))


def test_who_was_let_in_by_the_next_owners_person_is_a_member_and_nobody_before() -> None:
    home, daemon = of_three()
    proof, signature = home.decision(DAN, "q_9", by=CAT)
    entry = home._entry(DAN, proof=proof, proof_signature=signature)
    came = t.LinkItem(room=home.room, card=t.Card(whole=False, home=RELAY, members=[entry]))
    assert "dan" not in daemon.hear([came]).handles
    daemon.hear([transferred(home, CAT, by=ANN), came])
    assert daemon.contradicted == ""
    assert daemon.handles == {"ann": True, "ben": True, "cat": True, "dan": True}
    assert daemon.room.state.owner == CAT.agent
    assert daemon.room.state.owner_principal == CAT.principal


def test_a_transfer_that_is_told_again_changes_nothing() -> None:
    home, daemon = of_three()
    item = transferred(home, CAT, by=ANN)
    stood = daemon.hear([item]).room.position
    daemon.hear([item])
    assert (daemon.room.position, daemon.contradicted) == (stood, "")


@pytest.mark.parametrize(
    ("to", "by", "more"),
    [
        (CAT, CAT, {}),
        (CAT, ANN, {"number": 2}),
        (CAT, ANN, {"room": "r_other"}),
        (CAT, ANN, {"home": ANN.principal}),
        (CAT, DAN, {"taken": True}),
        (CAT, DAN, {"taken": True, "principal": DAN.principal}),
    ],
)
def test_a_transfer_that_nobody_could_sign_shows(to: Party, by: Party, more: dict[str, object]) -> None:
    home, daemon = of_three()
    daemon.hear([transferred(home, to, by=by, **more)])
    assert daemon.contradicted == "transfer"
    assert daemon.room.state.owner == ANN.agent


def test_whoever_is_no_member_took_nothing_over_on_a_card_of_the_members() -> None:
    home, daemon = of_three()
    item = transferred(home, DAN, by=DAN, taken=True)
    assert item.card is not None
    card = replace(item.card, members=list(home.members.values()))
    daemon.hear([replace(item, card=card)])
    assert daemon.contradicted == "transfer"


def test_a_room_that_a_member_took_over_is_that_members_and_the_log_says_so() -> None:
    home, daemon = of_three()
    daemon.hear([transferred(home, CAT, by=CAT, taken=True)])
    assert daemon.contradicted == ""
    assert daemon.room.state.lifecycle.owners[-1].taken
    assert daemon.room.state.owner == CAT.agent
