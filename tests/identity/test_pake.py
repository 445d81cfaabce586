"""Two ends with one short secret have one key, and any difference between what they were told shows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.model import HomeId
from parlerd.identity import pake
from parlerd.identity.codes import ALPHABET
from parlerd.identity.pake import SHARE, Agreed, Confirmed, Joiner
from tests.support.sealing import BEN, CAT, OLIVE, RELAY, Repeating

SECRET = "4MWX2B9Q"
TOLD: dict[str, Any] = {"home": RELAY, "route": "A3KE7D", "card": b"ben's card"}


def exchanged(
    secret: str = SECRET, theirs: str = SECRET, owner_is_told: dict[str, Any] | None = None, named: Any = OLIVE
) -> tuple[Agreed, Agreed]:
    """Both ends after the two shares; a joiner was told that `named` owns the room."""
    joiner = Joiner.begin(secret, **TOLD, random=Repeating("joiner"))
    told = {**TOLD, **(owner_is_told or {})}
    share, owner = pake.answer(theirs, **told, share=joiner.share, owner=OLIVE.principal, random=Repeating("owner"))
    return joiner.finish(share, named.principal), owner


def confirmed() -> tuple[Confirmed, Confirmed]:
    joiner, owner = exchanged()
    theirs = owner.confirmed(joiner.proof)
    return joiner.confirmed(theirs.proof), theirs


def test_two_ends_with_one_secret_have_one_key_and_show_it_to_each_other() -> None:
    joiner, owner = confirmed()
    assert joiner.code == owner.code
    assert len(owner.code) == 4
    assert set(owner.code) <= set(ALPHABET)
    sealed = owner.seal_answer(b"which room", Repeating())
    assert joiner.open_answer(sealed) == b"which room"
    with pytest.raises(Refused, match="sealed_unreadable"):
        joiner.open_answer(sealed[:-1] + bytes([sealed[-1] ^ 1]))


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"theirs": "4MWX2B9R"}, id="another secret"),
        pytest.param({"owner_is_told": {"card": b"another card"}}, id="another card"),
        pytest.param({"owner_is_told": {"route": "A3KE7E"}}, id="another route"),
        pytest.param({"owner_is_told": {"home": HomeId("N" + "A" * 55)}}, id="another relay"),
        pytest.param({"named": CAT}, id="another owner"),
    ],
)
def test_whatever_the_two_were_told_differently_shows_before_anything_counts(how: dict[str, Any]) -> None:
    """The package itself raises nothing: without the proofs both ends would go on, each with a key of its own."""
    joiner, owner = exchanged(**how)
    with pytest.raises(Refused, match="unknown_key"):
        owner.confirmed(joiner.proof)
    with pytest.raises(Refused, match="unknown_key"):
        joiner.confirmed(Confirmed.restored(owner.state).proof)


def test_the_joiner_confirms_first() -> None:
    joiner, owner = exchanged()
    with pytest.raises(ValueError, match="joiner confirms first"):
        _ = owner.proof
    with pytest.raises(Refused, match="unknown_key"):
        joiner.confirmed(joiner.proof)
    with pytest.raises(Refused, match="unknown_key"):
        owner.confirmed(Confirmed.restored(owner.state).proof)


@given(st.binary(max_size=40))
def test_no_bytes_at_all_are_a_proof(proof: bytes) -> None:
    with pytest.raises(Refused, match="unknown_key"):
        Agreed("owner", bytes(32)).confirmed(proof)


def test_all_states_survive_a_restart() -> None:
    begun = Joiner.begin(SECRET, **TOLD, random=Repeating("joiner"))
    again = Joiner.restored(begun.state)
    assert again.share == begun.share
    share, owner = pake.answer(SECRET, **TOLD, share=again.share, owner=OLIVE.principal, random=Repeating("owner"))
    joiner = Agreed.restored(again.finish(share, OLIVE.principal).state)
    theirs = Confirmed.restored(Agreed.restored(owner.state).confirmed(joiner.proof).state)
    mine = Confirmed.restored(joiner.confirmed(theirs.proof).state)
    assert mine.code == theirs.code == confirmed()[0].code


@given(st.binary(max_size=80))
def test_no_bytes_at_all_are_a_state(data: bytes) -> None:
    for kind in (Joiner, Agreed, Confirmed):
        with pytest.raises(ValueError, match="no state"):
            kind.restored(data)


@settings(max_examples=30, deadline=None)
@given(st.one_of(st.binary(max_size=40), st.binary(min_size=32, max_size=32).map(lambda point: b"B" + point)))
def test_no_bytes_at_all_are_a_share_that_confirms(share: bytes) -> None:
    """A point that somebody drew without the secret is taken, and the proof that it cannot give is missing."""
    joiner = Joiner.begin(SECRET, **TOLD, random=Repeating("joiner"))
    with pytest.raises(Refused, match="unknown_key"):
        joiner.finish(share, OLIVE.principal).confirmed(bytes(32))


def test_shares_that_nobody_can_have_made_are_refused() -> None:
    joiner = Joiner.begin(SECRET, **TOLD, random=Repeating("joiner"))
    identity = (1).to_bytes(32, "little")
    low_order = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    not_on_curve = (2).to_bytes(32, "little")
    for side in (b"A", b"B", b"S"):
        for point in (identity, low_order, not_on_curve, joiner.share[1:]):
            with pytest.raises(Refused, match="unknown_key"):
                Joiner.restored(joiner.state).finish(side + point, OLIVE.principal)
    for size in (0, SHARE - 1, SHARE + 1):
        with pytest.raises(Refused, match="unknown_key"):
            Joiner.restored(joiner.state).finish((b"B" + bytes(64))[:size], OLIVE.principal)


def test_a_secret_never_shows_itself() -> None:
    joiner, owner = exchanged()
    mine, _ = confirmed()
    begun = Joiner.begin(SECRET, **TOLD, random=Repeating("joiner"))
    for shown in (repr(begun), repr(joiner), repr(owner), repr(mine)):
        assert SECRET not in shown
        assert joiner.state.hex() not in shown
    # What travels says nothing of it either.
    assert SECRET.encode() not in begun.share
    assert len(begun.share) == SHARE


def test_each_exchange_has_a_key_of_its_own() -> None:
    shares = {Joiner.begin(SECRET, **TOLD, random=Repeating(f"{n}")).share for n in range(4)}
    assert len(shares) == 4
    assert BEN.principal != OLIVE.principal
