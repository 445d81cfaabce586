"""Tokens of a home: how they come to be, until when they hold, how many there are, and that a replay gives the same."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import tokens
from parlerd.core.home import HomeRoom
from parlerd.core.model import Millis, RoomId
from parlerd.core.tokens import DAY_MS, MAX_DAYS, Token
from tests.support.core import HomeDriver, agent, outcome, refused, types

ANN, BEN = agent("ann"), agent("ben")
ACCESSES = ["read", "post", "state", "mint"]
FEW = 3
"""How many tokens may hold where a test is about their number."""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(tokens, "MAX_TOKENS", FEW)
    return FEW


def found(home: HomeDriver, text: str = "a token", *, later: int = 0) -> Token | None:
    """The token with this text as it is found `later` milliseconds from now."""
    return home.aggregate.tokens.find(text.encode(), Millis(home.now + later))


def kept(home: HomeDriver) -> list[str]:
    """The ids of the tokens that the home still knows."""
    return [token.id for token in home.aggregate.tokens.all()]


def test_a_token_is_found_by_the_digest_of_its_text_with_all_that_was_minted() -> None:
    home = HomeDriver()
    id = home.mint(ANN, days=30, room="r_a")
    assert found(home) == Token(
        id=id,
        digest=b"a token",
        agent=ANN.id,
        room=RoomId("r_a"),
        access=("read", "post"),
        minted_at=Millis(home.now),
        expires_at=Millis(home.now + 30 * DAY_MS),
        label="a script",
    )
    assert found(home) == home.aggregate.tokens.holding(id, Millis(home.now))
    for other in ("", "a toke", "a token ", "another"):
        assert found(home, other) is None, other
    assert home.aggregate.tokens.holding("tk_none", Millis(home.now)) is None
    home.verify()


def test_each_token_has_an_id_of_its_own_and_they_stand_in_the_order_in_which_they_came() -> None:
    home = HomeDriver()
    ids = [home.mint(who, text=text, room=room) for who, text, room in ((ANN, "1", "r_a"), (BEN, "2", "r_b"))]
    ids.append(home.mint(ANN, text="3", room="r_a"))
    assert len(set(ids)) == 3
    assert all(id.startswith("tk_") for id in ids)
    assert kept(home) == ids
    second = found(home, "2")
    assert second is not None
    assert (second.agent, second.room) == (BEN.id, "r_b")
    home.verify()


def test_a_token_holds_until_its_last_millisecond_and_not_in_the_next() -> None:
    home = HomeDriver()
    id = home.mint(ANN, days=1)
    assert found(home, later=DAY_MS - 1) is not None
    assert found(home, later=DAY_MS) is None
    assert home.aggregate.tokens.holding(id, Millis(home.now + DAY_MS - 1)) is not None
    assert home.aggregate.tokens.holding(id, Millis(home.now + DAY_MS)) is None
    # That it expired is no fact: only the clock went on.
    assert kept(home) == [id]


def test_a_token_that_was_revoked_is_found_no_more_and_the_others_are() -> None:
    home = HomeDriver()
    one, two = home.mint(ANN, text="one"), home.mint(ANN, text="two")
    assert types(home.revoke_token(ANN, one)) == ["TokenRevoked"]
    assert (found(home, "one"), kept(home)) == (None, [two])
    assert home.aggregate.tokens.holding(one, Millis(home.now)) is None
    assert found(home, "two") is not None
    home.verify()


def test_what_is_no_token_any_more_or_never_was_one_cannot_be_revoked() -> None:
    home = HomeDriver()
    id = home.mint(ANN)
    home.revoke_token(ANN, id)
    for unknown in (id, "tk_none", ""):
        with refused("no_such_token"):
            home.revoke_token(ANN, unknown)
    home.verify()


def test_a_token_that_expired_and_was_not_forgotten_can_still_be_revoked() -> None:
    home = HomeDriver()
    id = home.mint(ANN, days=1)
    home.now += DAY_MS
    home.revoke_token(ANN, id)
    assert kept(home) == []
    home.verify()


@pytest.mark.parametrize("days", [-1, 0, MAX_DAYS + 1, 10_000])
def test_a_token_holds_for_as_many_days_as_one_may_and_at_least_one(days: int) -> None:
    home = HomeDriver()
    with refused("invalid_param") as caught:
        home.mint(ANN, days=days)
    assert caught.value.details == {"param": "days"}
    assert kept(home) == []


@pytest.mark.parametrize(
    ("after", "is_valid"), [(0, False), (1, True), (MAX_DAYS * DAY_MS, True), (MAX_DAYS * DAY_MS + 1, False)]
)
def test_the_bounds_of_an_expiry_are_to_the_millisecond_and_by_the_wall_clock(after: int, is_valid: bool) -> None:
    home = HomeDriver()
    wall = Millis(home.now - DAY_MS)
    command = c.MintToken(
        digest=b"d", agent=ANN.id, room=RoomId("r_a"), access=(), wall=wall, expires_at=Millis(wall + after)
    )
    assert outcome(lambda: home.run(command, ANN)) == ("ok" if is_valid else "invalid_param")


def test_so_many_tokens_hold_and_no_more_until_one_is_revoked(few: int) -> None:
    home = HomeDriver()
    ids = [home.mint(ANN, text=str(n)) for n in range(few)]
    with refused("too_many_tokens") as caught:
        home.mint(BEN, text="one more")
    assert caught.value.details == {"limit": few}
    home.revoke_token(ANN, ids[0])
    home.mint(BEN, text="one more")
    assert found(home, "one more") is not None
    home.verify()


def test_tokens_that_expired_do_not_count(few: int) -> None:
    home = HomeDriver()
    for n in range(few):
        home.mint(ANN, text=str(n), days=1)
    home.now += DAY_MS - 1
    with refused("too_many_tokens"):
        home.mint(ANN, text="a millisecond too early")
    home.now += 1
    assert home.mint(ANN, text="in time") in kept(home)
    home.verify()


def test_those_that_expired_are_forgotten_when_there_are_many_and_none_that_holds(few: int) -> None:
    home = HomeDriver()
    lasting = home.mint(ANN, text="lasting")
    lapsed: list[str] = []
    while len(kept(home)) < 2 * few:
        lapsed.append(home.mint(ANN, text=f"brief {len(lapsed)}", days=1))
        if len(lapsed) % (few - 1) == 0:
            home.now += DAY_MS
    home.now += DAY_MS
    assert kept(home) == [lasting, *lapsed]
    newest = home.mint(ANN, text="newest")
    assert kept(home) == [lasting, newest]
    assert (found(home, "lasting"), found(home, "newest")) != (None, None)
    with refused("no_such_token"):
        home.revoke_token(ANN, lapsed[0])
    home.verify()


def test_a_home_that_comes_back_from_its_snapshot_finds_the_same_tokens() -> None:
    home = HomeDriver()
    one, two = home.mint(ANN, text="one", days=1), home.mint(BEN, text="two", days=2)
    home.revoke_token(ANN, home.mint(ANN, text="gone"))
    again = HomeRoom.restore(home.aggregate.snapshot()).tokens
    now = Millis(home.now)
    found_again = [again.find(text.encode(), now) for text in ("one", "two", "gone")]
    assert found_again == [found(home, text) for text in ("one", "two", "gone")]
    assert [token and token.id for token in found_again] == [one, two, None]
    assert again.find(b"one", Millis(now + DAY_MS)) is None


def test_nobody_who_waits_is_woken_by_what_becomes_of_a_token() -> None:
    home = HomeDriver()
    home.revoke_token(ANN, home.mint(ANN))
    for header in home.log:
        assert list(home.aggregate.topics(header)) == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("mint"), st.integers(0, 3)),
            st.tuples(st.just("revoke"), st.integers(0, 12)),
            st.tuples(st.just("pass"), st.integers(0, 2)),
        ),
        max_size=30,
    )
)
def test_tokens_are_as_a_table_of_when_each_expires(acts: list[tuple[str, int]]) -> None:
    home = HomeDriver()
    expires: dict[str, int] = {}
    minted: list[str] = []

    def holding() -> set[str]:
        return {id for id, at in expires.items() if home.now < at}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "MAX_TOKENS", FEW)
        for act, number in acts:
            before = holding()
            match act:
                case "mint":
                    is_full, text = len(before) == FEW, f"text {len(minted)}"
                    done = outcome(lambda number=number, text=text: home.mint(ANN, days=number, text=text))  # type: ignore[misc]
                    assert done == ("too_many_tokens" if is_full else "invalid_param" if number == 0 else "ok")
                    if done == "ok":
                        minted.append(kept(home)[-1])
                        expires[minted[-1]] = home.now + number * DAY_MS
                case "revoke":
                    id = minted[number] if number < len(minted) else "tk_none"
                    revoked = outcome(lambda id=id: home.revoke_token(ANN, id))  # type: ignore[misc]
                    if id in before:
                        assert revoked == "ok"
                    elif id not in expires:
                        assert revoked == "no_such_token"
                    else:
                        # It expired: the home may have forgotten it.
                        assert revoked in ("ok", "no_such_token")
                    expires.pop(id, None)
                case _:
                    home.now += number * DAY_MS
            now = Millis(home.now)
            texts = {id: f"text {n}" for n, id in enumerate(minted)}
            assert {id for id, text in texts.items() if found(home, text) is not None} == holding()
            assert {id for id in minted if home.aggregate.tokens.holding(id, now) is not None} == holding()
            assert holding() <= set(kept(home)) <= set(expires)
            assert len(kept(home)) <= 2 * FEW
        home.verify()


# -- narrower ones -----------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.sets(st.sampled_from(["read", "post", "state", "mint"]), min_size=1),
            st.integers(1, 30),
        ),
        max_size=12,
    ),
    st.integers(0, 9),
)
def test_no_token_is_wider_than_the_one_that_it_was_made_of_and_all_end_with_it(
    made: list[tuple[int, set[str], int]], ended: int
) -> None:
    home, who = HomeDriver(), agent("alice")
    home.create(who)
    known: list[Token] = []
    for number, (of, access, days) in enumerate(made):
        parent = known[of] if of < len(known) else None
        command = c.MintToken(
            digest=b"%d" % number,
            agent=who.id,
            room=RoomId("r_a"),
            access=tuple(sorted(access)),
            wall=Millis(home.now),
            expires_at=Millis(home.now + days * DAY_MS),
            parent="" if parent is None else parent.id,
        )
        fits = parent is None or (access <= set(parent.access) and command.expires_at <= parent.expires_at)
        answer = outcome(partial(home.run, command, who))
        assert answer == "ok" if fits else answer in ("not_permitted", "invalid_param")
        if not fits:
            continue
        known.append(list(home.aggregate.tokens.all())[-1])
    if ended < len(known):
        gone = {known[ended].id}
        for token in known:
            if token.parent in gone:
                gone.add(token.id)
        assert set(home.aggregate.tokens.tree(known[ended].id)) == gone
        home.revoke_token(who, known[ended].id)
        assert {token.id for token in home.aggregate.tokens.all()} == {token.id for token in known} - gone
    home.verify()


@pytest.mark.parametrize(("own", "parents"), [(10, 0), (10, 4), (3, 30)])
def test_a_token_that_takes_the_place_of_another_holds_as_long_as_that_and_no_longer_than_its_parent(
    own: int, parents: int
) -> None:
    home = HomeDriver()
    home.create(ANN)
    parent = home.mint(ANN, days=parents, text="parent") if parents else ""
    days = min(own, parents) if parents else own
    command = c.MintToken(
        digest=b"child",
        agent=ANN.id,
        room=RoomId("r_a"),
        access=("read",),
        wall=Millis(home.now),
        expires_at=Millis(home.now + days * DAY_MS),
        parent=parent,
    )
    home.run(command, ANN)
    began = home.now
    home.now += DAY_MS
    child = found(home, "child")
    assert child is not None
    rotate = c.RotateToken(token=child.id, digest=b"another", wall=Millis(home.now))
    home.run(rotate, ANN)
    assert found(home, "child") is None
    another = found(home, "another")
    assert another is not None
    assert (another.access, another.parent) == (("read",), parent)
    until = home.now + days * DAY_MS
    assert another.expires_at == (min(until, began + parents * DAY_MS) if parents else until)
    with refused("no_such_token"):
        home.run(rotate, ANN)
    if parents:
        home.revoke_token(ANN, parent)
        assert found(home, "another") is None
    home.verify()


# -- tokens that open rooms --------------------------------------------------------------------------------


def opening(home: HomeDriver, *, text: str = "opens", opens: int = 2, rooms: tuple[str, ...] = (), **more: Any) -> str:
    said = {"digest": text.encode(), "agent": ANN.id, "room": RoomId(rooms[0] if rooms else ""), "access": ("open",)}
    command = c.MintToken(
        **{
            **said,
            "wall": Millis(home.now),
            "expires_at": Millis(home.now + 30 * DAY_MS),
            "kind": "ah",
            "rooms": tuple(map(RoomId, rooms)),
            "opens": opens,
            **more,
        }
    )
    [minted] = home.run(command, ANN).events
    assert isinstance(minted, e.TokenMinted)
    return minted.token


def opened(home: HomeDriver, token: str, room: str, *, key: str | None = None, name: str = "") -> str:
    command = c.NameRoom(
        operation="session.open",
        idempotency_key=key,
        input=b"input",
        owner=ANN.id,
        room=RoomId(room),
        name=name or room,
        activates=False,
        token=token,
        wall=Millis(home.now),
    )
    return outcome(lambda: home.run(command, ANN))


def within(home: HomeDriver, token: str) -> set[str]:
    held = home.aggregate.tokens.holding(token, Millis(home.now))
    return set() if held is None else set(held.within)


def test_a_token_is_of_each_room_that_is_opened_with_it_and_opens_as_many_as_it_says() -> None:
    home = HomeDriver()
    token = opening(home)
    assert within(home, token) == set()
    assert [opened(home, token, room) for room in ("r_1", "r_2", "r_3")] == ["ok", "ok", "token_used_up"]
    assert within(home, token) == {"r_1", "r_2"}
    assert "r_3" not in home.aggregate.state.room_names[ANN.id]
    held = home.aggregate.tokens.holding(token, Millis(home.now))
    assert held is not None
    assert (held.room, held.opens, held.opened, home.aggregate.tokens.opens_left(held)) == ("r_1", 2, 2, 0)
    home.verify()


def test_a_request_that_is_repeated_opens_no_second_room_also_when_no_room_is_left() -> None:
    home = HomeDriver()
    token = opening(home, opens=1)
    assert [opened(home, token, room, key="k") for room in ("r_1", "r_1")] == ["ok", "ok"]
    # A name that is taken is no room either.
    another = opening(home, text="another", opens=1)
    assert opened(home, another, "r_9", name="r_1") == "ok"
    assert (within(home, token), within(home, another)) == ({"r_1"}, set())
    home.verify()


def test_a_token_that_was_revoked_or_expired_or_opens_none_opens_no_room() -> None:
    home = HomeDriver()
    plain, gone, brief = home.mint(ANN), opening(home), opening(home, text="brief")
    home.revoke_token(ANN, gone)
    assert [opened(home, each, "r_1") for each in (plain, gone, "tk_none")] == [
        "not_permitted",
        "token_invalid",
        "token_invalid",
    ]
    home.now += 30 * DAY_MS
    assert opened(home, brief, "r_1") == "token_invalid"
    home.verify()


@pytest.mark.parametrize(
    "wrong", [{"kind": "as"}, {"kind": "aj"}, {"access": ("read",)}, {"opens": tokens.MAX_ROOMS}, {"opens": 33}]
)
def test_only_a_token_that_is_for_it_opens_rooms_and_it_is_of_no_more_than_one_may_be(wrong: dict[str, Any]) -> None:
    with refused("invalid_param") as caught:
        opening(HomeDriver(), rooms=("r_a",), **wrong)
    assert caught.value.details == {"param": "opens"}


def test_what_takes_the_place_of_a_token_opens_as_many_as_were_left_and_is_of_the_rooms_that_were_opened() -> None:
    home = HomeDriver()
    token = opening(home, rooms=("r_a",))
    assert opened(home, token, "r_1") == "ok"
    home.run(c.RotateToken(token=token, digest=b"another", wall=Millis(home.now)), ANN)
    held = found(home, "another")
    assert held is not None
    assert (held.kind, set(held.within), held.opens) == ("ah", {"r_a", "r_1"}, 1)
    assert [opened(home, held.id, room) for room in ("r_2", "r_3")] == ["ok", "token_used_up"]
    assert opened(home, token, "r_3") == "token_invalid"
    home.verify()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("mint"), st.integers(0, 5), st.integers(0, 3), st.booleans()),
            st.tuples(st.just("open"), st.integers(0, 5), st.just(0), st.just(False)),
            st.tuples(st.just("rotate"), st.integers(0, 5), st.just(0), st.just(False)),
            st.tuples(st.just("revoke"), st.integers(0, 5), st.just(0), st.just(False)),
        ),
        max_size=25,
    )
)
def test_no_token_opens_more_or_is_of_another_room_than_the_one_that_it_was_made_of(
    acts: list[tuple[str, int, int, bool]],
) -> None:
    home = HomeDriver()
    home.create(ANN)
    opening(home, text="0", opens=3)
    for number, (act, of, opens, is_for) in enumerate(acts, 1):
        held = list(home.aggregate.tokens.all())
        if of >= len(held):
            continue
        token, now = held[of], Millis(home.now)
        match act:
            case "mint":
                access = ("open",) if is_for else ("read",)
                more: dict[str, Any] = {"parent": token.id, "room": token.room, "rooms": token.rooms}
                done = outcome(lambda: opening(home, text=f"{number}", opens=opens, access=access, **more))  # noqa: B023
                fits = "open" in token.access and is_for and opens <= home.aggregate.tokens.opens_left(token)
                if opens == 0:
                    fits = set(access) <= set(token.access)
                assert (done == "ok") == fits, done
            case "open":
                before = {each.id: set(each.within) for each in held}
                left, done = home.aggregate.tokens.opens_left(token), opened(home, token.id, f"r_{number}")
                assert (done == "ok") == (left > 0)
                line, at = set(), token.id
                while at:
                    line.add(at)
                    at = home.aggregate.tokens.state.tokens[at].parent
                # The room is one of each token in the line, and of no other.
                for each in home.aggregate.tokens.all():
                    gained = {f"r_{number}"} if done == "ok" and each.id in line else set()
                    assert set(each.within) - before[each.id] == gained
            case "rotate":
                home.run(c.RotateToken(token=token.id, digest=b"%d" % number, wall=now), ANN)
            case _:
                home.revoke_token(ANN, token.id)
        known = {token.id: token for token in home.aggregate.tokens.all()}
        for each in known.values():
            assert home.aggregate.tokens.opens_left(each) >= 0
            assert each.opened <= each.opens
            if each.parent:
                parent = known[each.parent]
                assert each.within <= parent.within
                assert set(each.access) <= set(parent.access)
                assert home.aggregate.tokens.opens_left(each) <= home.aggregate.tokens.opens_left(parent)
    home.verify()


# -- tokens that join --------------------------------------------------------------------------------------


def joining(home: HomeDriver, *, uses: int = 2, days: int = 30, **more: Any) -> str:
    home.create(ANN)
    return home.mint(ANN, text="a token that joins", days=days, kind="aj", uses=uses, **more)


def given_token(home: HomeDriver, token: str, join: str, **more: Any) -> c.MintToken:
    """The command that mints the token of a join."""
    begun = home.aggregate.tokens.join(join)
    assert begun is not None
    said: dict[str, Any] = {
        "digest": join.encode(),
        "agent": begun.agent,
        "room": begun.room,
        "access": ("read",),
        "wall": Millis(home.now),
        "expires_at": Millis(home.now + DAY_MS),
        "parent": token,
        "join": join,
    }
    return c.MintToken(**{**said, **more})


def test_each_join_takes_a_use_and_the_last_is_the_last() -> None:
    home = HomeDriver()
    token = joining(home, uses=2, admits=True)
    minted = home.aggregate.tokens.holding(token, Millis(home.now))
    assert minted is not None
    assert (minted.kind, minted.uses, minted.admits) == ("aj", 2, True)
    one = home.join(BEN, token, request="k1")
    home.join(agent("cat"), token, request="k2")
    assert home.aggregate.tokens.uses_left(minted) == 0
    with refused("token_used_up"):
        home.join(agent("dan"), token, request="k3")
    # A repetition is no further use, also of a token that is used up; another request with its key is refused.
    assert home.join(BEN, token, request="k1") == one
    with refused("idempotency_conflict"):
        home.join(BEN, token, request="k1", name="another")
    home.verify()


def test_a_join_that_came_to_nothing_gives_its_use_back_once() -> None:
    home = HomeDriver()
    token = joining(home, uses=1)
    minted = home.aggregate.tokens.holding(token, Millis(home.now))
    assert minted is not None
    failed = home.join(BEN, token, request="k1")
    home.end_join(BEN, failed, denied=False)
    assert (home.aggregate.tokens.uses_left(minted), home.aggregate.tokens.join(failed)) == (1, None)
    # What the room refused may be asked again with the same key, and is another join.
    again = home.join(BEN, token, request="k1")
    assert again != failed
    home.end_join(BEN, again)
    assert home.end_join(BEN, again).events == ()
    assert home.end_join(BEN, "jn_none").events == ()
    denied = home.aggregate.tokens.join(again)
    assert denied is not None
    assert (denied.is_ended, home.aggregate.tokens.uses_left(minted)) == (True, 1)
    home.join(agent("cat"), token, request="k2")
    home.verify()


def test_of_those_that_came_to_nothing_the_newest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_ENDED", 2)
    home = HomeDriver()
    token = joining(home, uses=1)
    ended = []
    for number in range(4):
        ended.append(home.join(BEN, token, request=f"k{number}"))
        home.end_join(BEN, ended[-1])
    assert [join.id for join in home.aggregate.tokens.joins_of(token)] == ended[-2:]


def test_a_join_has_one_token_which_is_no_wider_and_ends_with_the_one_it_came_of() -> None:
    home = HomeDriver()
    token = joining(home, uses=2, days=3)
    home.create(BEN)
    join = home.join(BEN, token)
    for wrong, code in (
        ({"access": ("read", "open")}, "not_permitted"),
        ({"expires_at": Millis(home.now + 4 * DAY_MS)}, "invalid_param"),
        ({"room": RoomId("r_other")}, "no_such_token"),
        ({"admits": True}, "not_permitted"),
        ({"agent": ANN.id}, "no_such_join"),
        ({"join": "jn_none"}, "no_such_join"),
        # Without a join nothing is made of a token that joins, and with one nothing of another token.
        ({"join": ""}, "no_such_token"),
    ):
        with refused(code):
            home.run(msgspec.structs.replace(given_token(home, token, join), **wrong), BEN)
    other = home.mint(ANN, text="another")
    with refused("no_such_join"):
        home.run(given_token(home, token, join, parent=other), BEN)
    home.run(given_token(home, token, join), BEN)
    held = found(home, join)
    assert held is not None
    assert (held.agent, held.parent, held.kind, held.access) == (BEN.id, token, "as", ("read",))
    stands = home.aggregate.tokens.join(join)
    assert stands is not None
    assert stands.minted == held.id
    # A second one is not made, and a join that has one does not come to nothing.
    assert home.run(given_token(home, token, join, digest=b"again"), BEN).events == ()
    assert home.end_join(BEN, join).events == ()
    assert set(home.aggregate.tokens.tree(token)) == {token, held.id}
    home.revoke_token(ANN, token)
    assert (found(home, join), home.aggregate.tokens.join(join)) == (None, None)
    home.verify()


def test_nobody_joins_with_a_token_of_another_kind_or_one_that_holds_no_more() -> None:
    home = HomeDriver()
    token = joining(home, days=1)
    acting = home.mint(ANN, text="acts")
    for other in (acting, "tk_none"):
        with refused("no_such_token"):
            home.join(BEN, other)
    with refused("no_such_token"):
        home.run(c.RotateToken(token=token, digest=b"x", wall=Millis(home.now)), ANN)
    home.now += DAY_MS
    with refused("no_such_token"):
        home.join(BEN, token)


@given(st.lists(st.tuples(st.sampled_from(["join", "deny", "fail", "mint"]), st.integers(0, 5)), max_size=25))
def test_never_more_come_in_than_a_token_is_for(acts: list[tuple[str, int]]) -> None:
    home, uses = HomeDriver(), 3
    token = joining(home, uses=uses)
    home.create(BEN)
    minted = home.aggregate.tokens.holding(token, Millis(home.now))
    assert minted is not None
    open_, inside = list[str](), set[str]()
    for number, (act, which) in enumerate(acts):
        if act == "join":
            done = outcome(lambda number=number: home.join(BEN, token, request=f"k{number}"))  # type: ignore[misc]
            assert done == ("token_used_up" if len(open_) + len(inside) == uses else "ok")
            if done == "ok":
                open_.append(home.aggregate.tokens.joins_of(token)[-1].id)
        elif which < len(open_):
            join = open_.pop(which)
            if act == "mint":
                home.run(given_token(home, token, join), BEN)
                inside.add(join)
            else:
                home.end_join(BEN, join, denied=act == "deny")
        assert home.aggregate.tokens.uses_left(minted) == uses - len(open_) - len(inside)
    home.verify()


# -- tokens of several rooms -------------------------------------------------------------------------------


def test_a_token_of_several_rooms_is_within_them_and_what_is_made_of_it_in_some_of_them() -> None:
    home = HomeDriver()
    home.create(ANN)
    rooms = (RoomId("r_a"), RoomId("r_b"))
    parent = home.mint(ANN, text="several", kind="ah", rooms=rooms)
    held = found(home, "several")
    assert held is not None
    assert held.within == frozenset(rooms)
    assert home.mint(ANN, text="one", room="r_b", parent=parent, days=30) in kept(home)
    assert home.mint(ANN, text="all", kind="ah", rooms=rooms, parent=parent, days=30) in kept(home)
    for wider in ((RoomId("r_c"),), (RoomId("r_a"), RoomId("r_c"))):
        with refused("no_such_token"):
            home.mint(ANN, text="elsewhere", room=wider[0], parent=parent, rooms=wider)
    home.run(c.RotateToken(token=parent, digest=b"again", wall=Millis(home.now)), ANN)
    again = found(home, "again")
    assert again is not None
    assert (again.kind, again.within) == ("ah", frozenset(rooms))
    assert kept(home) == [again.id]
    home.verify()


def test_nothing_is_made_of_a_token_that_expired() -> None:
    home = HomeDriver()
    home.create(ANN)
    parent = home.mint(ANN, text="parent", days=1)
    home.now += DAY_MS
    kinds: tuple[dict[str, Any], ...] = ({}, {"kind": "aj", "uses": 1})
    for more in kinds:
        with refused("no_such_token"):
            home.mint(ANN, text="child", parent=parent, **more)
    home.verify()
