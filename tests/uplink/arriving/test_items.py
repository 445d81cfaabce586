"""What a home told, judged whole: an honest home is never accused, and a lie shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core import messages
from parlerd.core.envelope import TextPart, decode_envelope, encode_envelope, gated_part, root_chain
from parlerd.core.model import MessageId, RoomId
from parlerd.operations import types as t
from tests.support.honest_home import ANN, BEN, CAT, DAN, HonestHome, Party
from tests.support.told import Daemon, busy, page_of, texts_told

_PARTIES = (ANN, BEN, CAT, DAN)


_ACTS = st.lists(
    st.tuples(
        st.sampled_from(["post", "post", "private", "join", "leave", "erase", "role", "invoke", "release", "apart"]),
        st.integers(0, 3),
        st.integers(1, 15),
        st.integers(0, 3),
    ),
    max_size=40,
)


def _acted(acts: Sequence[tuple[str, int, int, int]]) -> HonestHome:
    home = HonestHome()
    home.post(ANN, "recap")
    for number, (act, who, readers, back) in enumerate(acts):
        party = _PARTIES[who]
        inside = party.agent in home.members and home.members[party.agent].present
        if act == "join" and not inside:
            home.join(party)
        elif act == "leave" and inside and party is not ANN:
            home.leave(party)
        elif act == "role" and inside:
            home.give_role(party, ("", "reviewer", "tester")[readers % 3], lock=back > 1)
        elif act == "post" and inside:
            home.post(party, f"t{number}", back=back)
        elif act == "invoke" and inside:
            home.tell(party, f"a{number}")
        elif act == "release" and inside:
            home.release(party, f"r{number}")
        elif act == "apart" and inside:
            to = [each for bit, each in enumerate(_PARTIES) if readers >> bit & 1 and each.agent in home.members]
            home.release(party, f"r{number}", readers=to)
        elif act == "private" and inside:
            to = [each for bit, each in enumerate(_PARTIES) if readers >> bit & 1 and each.agent in home.members]
            home.post(party, f"t{number}", to, back=back)
        elif act == "erase":
            said = [each for each in home.visible(ANN) if each.visibility is None and each.message.body]
            if said[1:]:
                home.erase(said[1:][readers % len(said[1:])])
    return home


@settings(max_examples=150, deadline=None)
@given(acts=_ACTS, cuts=st.lists(st.integers(0, 45), max_size=4), page=st.integers(1, 5), repeat=st.integers(0, 5))
def test_an_honest_home_is_never_accused(
    acts: list[tuple[str, int, int, int]], cuts: list[int], page: int, repeat: int
) -> None:
    """Whatever happens in the room, wherever the link breaks, and however much is told again after it."""
    home = _acted(acts)
    for eyes in ((ANN,), (BEN,), (BEN, CAT), (DAN, ANN)):
        daemon = Daemon(home, eyes)
        joined = [place for place, entry in enumerate(home.log, 1) if any(home._is_in(each, place) for each in eyes)]
        if not joined:
            continue
        places = sorted({0, *(cut for cut in cuts if joined[0] <= cut < len(home.log)), len(home.log)})
        for after, upto in pairwise(places):
            daemon.hear(home.items(eyes, max(0, after - repeat), upto, page=page))
        assert daemon.contradicted == ""
        for party in eyes:
            if home._is_in(party, len(home.log)):
                assert daemon.texts(party) == texts_told(home, party)
                assert daemon.room.state.shown == (len(home.line) - 1, home.line[-1])
                assert daemon.roles == home.roles
        _check_threads(home, daemon)


def _check_threads(home: HonestHome, daemon: Daemon) -> None:
    told = {MessageId(decode_envelope(each.message.body).id) for each in home.visible(ANN) if each.message.body}
    assert len(daemon.ids) == len(daemon.messages)
    assert {id for id in daemon.ids if id in told} <= told


@settings(max_examples=60, deadline=None)
@given(acts=_ACTS, start=st.integers(1, 40), page=st.integers(1, 5))
def test_an_honest_home_that_leaves_out_a_stretch_is_never_accused(
    acts: list[tuple[str, int, int, int]], start: int, page: int
) -> None:
    home = _acted(acts)
    start = min(start, len(home.log))
    for eyes in ((ANN,), (ANN, BEN)):
        daemon = Daemon(home, eyes)
        daemon.hear(home.items(eyes, 0, min(2, start), page=page))
        daemon.hear(home.items(eyes, start, page=page, jumped=True))
        assert daemon.contradicted == ""
        missed = len(home.visible(ANN, start))
        assert daemon.texts(ANN)[-1:] == texts_told(home, ANN)[missed:][-1:] or not texts_told(home, ANN)[missed:]
        assert daemon.room.newest_seq(ANN.agent) >= len(texts_told(home, ANN))


@settings(max_examples=80, deadline=None)
@given(acts=_ACTS, cuts=st.lists(st.integers(0, 45), max_size=4), kept=st.integers(1, 3))
def test_an_honest_home_that_keeps_more_threads_than_the_mirror_is_never_accused(
    acts: list[tuple[str, int, int, int]], cuts: list[int], kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "KEPT_AUDIENCES", kept)
        test_an_honest_home_is_never_accused.hypothesis.inner_test(acts, cuts, 3, 1)  # type: ignore[attr-defined]


def _drop(number: int) -> Callable[[HonestHome, list[t.LinkItem]], None]:
    """Withhold one public message."""

    def lie(home: HonestHome, items: list[t.LinkItem]) -> None:
        for item in items:
            if item.page is not None:
                item.page.messages[:] = [m for m in item.page.messages if m.body != _public(home)[number]]

    return lie


def _public(home: HonestHome) -> list[bytes]:
    return [each.message.body for each in home.visible(ANN) if each.visibility is None]


def _swap(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Show two messages in the other order."""
    page = page_of(items)
    page.messages[0], page.messages[1] = page.messages[1], page.messages[0]


def _alter(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Put other words into a message."""
    page = page_of(items)
    page.messages[-1] = msgspec.structs.replace(page.messages[-1], body=home.envelope(CAT, "forged"))


def _attribute(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Say that a message is somebody else's."""
    page = page_of(items)
    page.messages[-1] = msgspec.structs.replace(page.messages[-1], agent=ANN.agent)


def _garble(home: HonestHome, items: list[t.LinkItem]) -> None:
    page = page_of(items)
    page.messages[-1] = msgspec.structs.replace(page.messages[-1], body=b"\xc1")


def _unsigned(what: str) -> Callable[[HonestHome, list[t.LinkItem]], None]:
    """Say that a member said something that it did not sign, as if the home could say it itself."""

    def tamper(home: HonestHome, items: list[t.LinkItem]) -> None:
        changes: dict[str, dict[str, object]] = {
            "words": {"kind": "text", "parts": (TextPart("I agree."),)},
            "another kind": {"kind": "task"},
            "words under its kind": {"parts": (TextPart("I agree."),)},
            "a reply": {"reply_to": MessageId("m_1"), "chain": "c_1", "hops": 1},
            "to one alone": {"visibility": (BEN.agent,)},
            "of another room": {"room": RoomId("r_other")},
            "with a signature": {},
        }
        after = len(home.log)
        home.tell(CAT, "craft", by=CAT if what == "with a signature" else None, **changes[what])
        items += home.items([BEN], after)

    return tamper


def _released(what: str) -> Callable[[HonestHome, list[t.LinkItem]], None]:
    """Show something else than what its author signed to be shown later."""

    def tamper(home: HonestHome, items: list[t.LinkItem]) -> None:
        after = len(home.log)
        match what:
            case "signed by another":
                home.release(CAT, "four", by=ANN)
            case "in another room":
                home.release(CAT, "four", signed={"room": RoomId("r_other")})
            case "that is no gated message":
                home.release(CAT, "four", signed={"parts": (TextPart("four"),)})
            case "to somebody else":
                home.release(CAT, "four", [ANN], readers=[BEN])
            case "to everyone":
                home.release(CAT, "four", [ANN], visibility=None)
            case "as a task":
                home.release(CAT, "four", kind="task")
            case "as a reply":
                home.release(CAT, "four", reply_to=MessageId("m_1"), hops=1)
            case _:
                said = home.release(CAT, "four")
                said.message = msgspec.structs.replace(said.message, signature=bytes(64))
        items += home.items([BEN], after)

    return tamper


def _release_twice(home: HonestHome, items: list[t.LinkItem], readers: list[Party] | None = None) -> None:
    """Show a reader the same words as two messages."""
    after = len(home.log)
    said = home.release(CAT, "four", readers=readers)
    envelope = decode_envelope(said.message.body)
    body = encode_envelope(
        msgspec.structs.replace(
            envelope, id=MessageId("m_other"), parts=(gated_part(said.message.body),), nonce=bytes(range(16))
        )
    )
    again = home.admit(CAT, body, envelope.visibility)
    again.message = msgspec.structs.replace(again.message, signature=b"")
    items += home.items([BEN], after)


def _tell_of_another(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Say that another agent invoked an action than what others are told."""
    after = len(home.log)
    home.tell(CAT, "craft")
    items += home.items([BEN], after)
    page = page_of(items)
    page.messages[-1] = msgspec.structs.replace(page.messages[-1], agent=ANN.agent)


def _tell_twice(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Say of an invocation that it is a message that there is already."""
    after = len(home.log)
    said = home.tell(CAT, "craft")
    id = decode_envelope(said.message.body).id
    home.tell(CAT, "craft", id=id, chain=root_chain(id))
    items += home.items([BEN], after)


def _swap_for_digest(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Say that the words were erased, and name the digest of other words."""
    page = page_of(items)
    page.messages[1] = msgspec.structs.replace(page.messages[1], body=b"", signature=b"", digest=bytes(32))


def _rename(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Give a member another handle."""
    card = home.card([BEN], len(home.log))
    at = next(n for n, entry in enumerate(card.members) if entry.agent == CAT.agent)
    card.members[at] = msgspec.structs.replace(card.members[at], handle="cat-2")
    items.append(t.LinkItem(room=home.room, card=card))


def _restart(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Tell of a line that was never there."""
    items.append(
        t.LinkItem(room=home.room, page=t.LinkPage(public=1, line=bytes(32), before={}, jumped=False, messages=[]))
    )


def _skip(home: HonestHome, items: list[t.LinkItem]) -> None:
    """Go on further along, without a word."""
    items.append(
        t.LinkItem(room=home.room, page=t.LinkPage(public=50, line=bytes(32), before={}, jumped=False, messages=[]))
    )


def _other_opening(home: HonestHome, items: list[t.LinkItem]) -> None:
    items.append(t.LinkItem(room=home.room, card=msgspec.structs.replace(home.card([BEN], 3), opening=b"other")))


LIES: dict[str, tuple[Callable[[HonestHome, list[t.LinkItem]], None], str]] = {
    "a message withheld in the middle": (_drop(1), "thread"),
    "the first message withheld": (_drop(0), "line"),
    "two messages swapped": (_swap, "thread"),
    "words that nobody signed": (_alter, "signature"),
    "another author": (_attribute, "signature"),
    "bytes that are no envelope": (_garble, "form"),
    "a body swapped for the digest of another": (_swap_for_digest, "fork"),
    "a handle that moves": (_rename, "handle"),
    "another line": (_restart, "line"),
    "a stretch skipped without a word": (_skip, "line"),
    "another opening": (_other_opening, "opening"),
    "words as if nobody had to sign them": (_unsigned("words"), "unsigned"),
    "a task as if nobody had to sign it": (_unsigned("another kind"), "unsigned"),
    "words under the kind of an invocation": (_unsigned("words under its kind"), "unsigned"),
    "an invocation that answers something": (_unsigned("a reply"), "unsigned"),
    "an invocation that is told to one": (_unsigned("to one alone"), "unsigned"),
    "an invocation in another room": (_unsigned("of another room"), "unsigned"),
    "an invocation that somebody signed": (_unsigned("with a signature"), "unsigned"),
    "an invocation with the id of another": (_tell_twice, "id"),
    **{
        f"a message released {what}": (_released(what), "unsigned")
        for what in (
            "signed by another",
            "in another room",
            "that is no gated message",
            "to somebody else",
            "to everyone",
            "as a task",
            "as a reply",
            "with a signature",
        )
    },
    "the same words released to everyone twice": (_release_twice, "id"),
    "the same words released to somebody twice": (partial(_release_twice, readers=[BEN]), "id"),
    "an invocation that others are told of another agent": (_tell_of_another, "unsigned"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_shows(lie: str) -> None:
    tamper, what = LIES[lie]
    home = HonestHome()
    home.post(ANN, "recap")
    home.join(BEN)
    home.join(CAT)
    for text in ("one", "two", "three"):
        home.post(CAT, text)
    items = home.items([BEN])
    tamper(home, items)
    daemon = Daemon(home, (BEN,)).hear(items)
    assert daemon.contradicted == what


@pytest.mark.parametrize("to", [None, [BEN]], ids=["public", "private"])
def test_a_home_that_holds_less_than_it_told_is_found_out_once_it_told_all(to: list[Party] | None) -> None:
    """An older copy of it was put in place. A link that breaks before everything was told says nothing of that."""
    home = HonestHome()
    home.join(BEN)
    home.post(ANN, "kept")
    items = home.items([BEN])
    home.post(ANN, "lost", to)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.hear(items[:-1]).contradicted == ""
    assert daemon.hear(items[-1:]).contradicted == "behind"
    assert daemon.texts(BEN) == ["kept", "lost"]


def test_after_a_lie_nothing_more_is_taken_in() -> None:
    home = busy()
    items = home.items([BEN])
    _restart(home, items)
    daemon = Daemon(home, (BEN,)).hear(items)
    position = daemon.room.position
    home.post(ANN, "more")
    daemon.hear(home.items([BEN], len(home.log) - 1))
    assert daemon.room.position == position
