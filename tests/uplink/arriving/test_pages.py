"""What is said in a room: words in their author's thread and on the public line, and what is left out of both."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from msgspec.structs import replace

from parlerd.core import events as e
from parlerd.core import messages
from parlerd.core.envelope import RELEASED, UNSIGNED, decode_envelope
from parlerd.core.membership import newest_seq
from parlerd.core.model import INVOCATION, MessageId
from parlerd.core.public_line import next_line
from parlerd.engine.audit import Audited, is_signed
from parlerd.uplink.counters import Signed
from tests.support.honest_home import ANN, BEN, CAT, DAN, RELAY, HonestHome
from tests.support.told import Daemon, busy, page_of, texts_told


def test_a_mirror_holds_who_is_in_the_room_and_what_its_agents_may_read() -> None:
    home = busy()
    daemon = Daemon(home, (BEN, CAT)).hear(home.items([BEN, CAT]))
    assert daemon.contradicted == ""
    assert daemon.room.state.name == "plan"
    assert daemon.room.state.topic == "what next"
    assert daemon.room.state.home == RELAY
    assert daemon.room.state.owner == ANN.agent
    assert daemon.handles == {"ann": True, "ben": True, "cat": True, "dan": False}
    for party in (BEN, CAT):
        assert daemon.texts(party) == texts_told(home, party)
        assert daemon.room.newest_seq(party.agent) == len(home.visible(party))
    assert daemon.room.state.shown == (5, home.line[5])


def test_what_was_left_out_counts_in_each_readers_numbers() -> None:
    home = busy()
    daemon = Daemon(home, (BEN, CAT)).hear(home.items([BEN, CAT], after=9, jumped=True))
    assert daemon.contradicted == ""
    for party in (BEN, CAT):
        missed = len(home.visible(party, 9))
        assert daemon.texts(party) == texts_told(home, party)[missed:]
        assert daemon.room.newest_seq(party.agent) == len(home.visible(party))


def test_erased_words_leave_their_number_and_accuse_nobody() -> None:
    home = busy()
    erased = next(each for each in home.visible(BEN) if each.visibility is None and b"four" in each.message.body)
    home.erase(erased)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    home.post(DAN, "nine")
    home.post(BEN, "ten")
    daemon.hear(home.items([BEN], len(home.log) - 2))
    assert daemon.contradicted == ""
    assert daemon.texts(BEN) == texts_told(home, BEN)
    assert daemon.room.newest_seq(BEN.agent) == len(home.visible(BEN))


def test_of_a_message_that_is_known_it_is_said_that_its_words_were_erased_and_no_number_changes() -> None:
    home = busy()
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.erased == []
    public = [each for each in home.visible(BEN) if each.visibility is None]
    number = next(n for n, each in enumerate(public, 1) if b"four" in each.message.body)
    texts = daemon.texts(BEN)
    home.erase(public[number - 1])
    daemon.hear(home.items([BEN]))
    assert (daemon.erased, daemon.contradicted) == ([number], "")
    assert daemon.texts(BEN) == texts
    assert daemon.room.newest_seq(BEN.agent) == len(home.visible(BEN))


def test_a_home_that_says_of_other_words_that_they_were_erased_lies_and_nothing_is_erased() -> None:
    home = busy()
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    said = next(each for each in home.visible(BEN) if each.visibility is None and b"four" in each.message.body)
    said.message = msgspec.structs.replace(said.message, body=b"", signature=b"", digest=bytes(32))
    daemon.hear(home.items([BEN]))
    assert (daemon.erased, daemon.contradicted) == ([], "line")


def test_private_words_that_were_erased_before_they_were_told_accuse_nobody() -> None:
    """Nothing is told of them but that the reader's number goes on: nothing public is missing by that."""
    home = busy()
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    after = len(home.log)
    home.erase(home.post(ANN, "for ben alone", [BEN]))
    daemon.hear(home.items([BEN], after))
    after = len(home.log)
    home.post(ANN, "for all")
    home.post(ANN, "for ben again", [BEN])
    home.post(CAT, "for all too")
    daemon.hear(home.items([BEN], after))
    assert daemon.contradicted == ""
    assert daemon.texts(BEN)[-3:] == ["for all", "for ben again", "for all too"]
    assert newest_seq(daemon.room.state.membership, BEN.agent) == len(home.visible(BEN))


def test_a_mirror_that_lacks_private_words_still_finds_out_what_is_withheld_of_the_public_ones() -> None:
    home = busy()
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    after = len(home.log)
    home.erase(home.post(ANN, "for ben alone", [BEN]))
    daemon.hear(home.items([BEN], after))
    after, line = len(home.log), list(home.line)
    withheld = home.post(ANN, "withheld")
    home.post(ANN, "told")
    home.log.remove(withheld)
    home.line = [*line, next_line(line[-1], home.log[-1].digest)]  # type: ignore[union-attr]
    daemon.hear(home.items([BEN], after))
    assert daemon.contradicted in ("thread", "fork", "shown")


def test_what_a_home_says_of_an_invocation_is_taken_in_as_unsigned_and_in_no_thread() -> None:
    home = busy()
    home.tell(BEN, "craft")
    home.post(BEN, "and now", back=1)
    home.tell(ANN, "go")
    daemon = Daemon(home, (BEN, CAT)).hear(home.items([BEN, CAT]))
    assert daemon.contradicted == ""
    assert daemon.texts(CAT) == texts_told(home, CAT)
    assert daemon.room.state.shown == (len(home.line) - 1, home.line[-1])
    posted = [(header, header.event) for header, _ in daemon.messages if isinstance(header.event, e.MessagePosted)]
    said = [(header, event) for header, event in posted if event.envelope_v == UNSIGNED]
    assert [(header.by.actor, header.key, header.operation) for header, _ in said] == [
        (BEN.agent, None, ""), (ANN.agent, None, ""),
    ]  # fmt: skip
    assert all(event.verified == "unsigned" for _, event in said)
    about = Audited.of(daemon.room.state, daemon.facts[0].body)
    assert all(is_signed(fact, about) for fact in daemon.facts)


def test_what_a_home_releases_is_taken_in_as_signed_and_in_no_thread() -> None:
    home = busy()
    home.release(BEN, "for all")
    home.release(BEN, "for those two", [CAT, DAN], readers=[CAT])
    home.release(ANN, "for cat", readers=[CAT])
    home.post(BEN, "and now", back=1)
    daemon = Daemon(home, (BEN, CAT)).hear(home.items([BEN, CAT]))
    assert daemon.contradicted == ""
    assert daemon.texts(CAT) == texts_told(home, CAT)
    assert daemon.texts(CAT)[-4:] == ["for all", "for those two", "for cat", "and now"]
    posted = [header.event for header, _ in daemon.messages if isinstance(header.event, e.MessagePosted)]
    assert {event.verified for event in posted if event.envelope_v == RELEASED} == {"valid"}
    about = Audited.of(daemon.room.state, daemon.facts[0].body)
    assert all(is_signed(fact, about) for fact in daemon.facts)


def test_a_member_who_signed_that_it_invoked_something_speaks_for_itself() -> None:
    """An older home admits such a message. It is no lie, and shown as what its author signed."""
    home = busy()
    home.admit(BEN, home.envelope(BEN, "ben invoked craft", kind=INVOCATION))
    daemon = Daemon(home, (CAT,)).hear(home.items([CAT]))
    assert daemon.contradicted == ""
    header, _ = daemon.messages[-1]
    assert isinstance(header.event, e.MessagePosted)
    assert (header.event.kind, header.event.verified) == (INVOCATION, "valid")


def test_an_envelope_of_version_1_is_left_out_and_is_no_lie() -> None:
    home = busy()
    old = home.envelope(BEN, "old", v=1, shown=0, line=b"", seen=bytes(32), host="", via="", id=MessageId(""))
    home.admit(BEN, old)
    home.threads.pop((BEN.agent, ""))
    home.post(ANN, "new")
    daemon = Daemon(home, (CAT,)).hear(home.items([CAT]))
    assert daemon.contradicted == ""
    assert "old" not in daemon.texts(CAT)
    assert daemon.texts(CAT)[-1] == "new"


def test_an_id_that_a_message_of_another_room_has_here_is_its_authors_fault_and_no_lie_of_the_home() -> None:
    home = busy()
    taken = home.post(CAT, "taken")
    home.post(CAT, "after")
    daemon = Daemon(home, (BEN,), elsewhere={decode_envelope(taken.message.body).id}).hear(home.items([BEN]))
    assert daemon.contradicted == ""
    assert daemon.texts(BEN) == [text for text in texts_told(home, BEN) if text != "taken"]
    assert daemon.room.newest_seq(BEN.agent) == len(home.visible(BEN))


def test_a_mirror_that_forgot_a_thread_still_finds_out_what_is_withheld_in_those_that_it_keeps() -> None:
    home = HonestHome()
    for party in (BEN, CAT, DAN):
        home.join(party)
    home.post(BEN, "first", [CAT])
    home.post(BEN, "first", [DAN])
    withheld = home.post(BEN, "second", [DAN])
    home.post(BEN, "third", [DAN])
    items = home.items([CAT, DAN], 0)
    page_of(items).messages.remove(withheld.message)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "KEPT_AUDIENCES", 1)
        daemon = Daemon(home, (CAT, DAN)).hear(items)
    assert daemon.contradicted == "thread"
    assert len(daemon.room.state.messages.threads[BEN.agent]) == 1


def test_a_signature_that_this_daemon_made_itself_is_not_checked_again() -> None:
    home = HonestHome()
    home.join(BEN)
    home.post(BEN, "mine")
    items = home.items([BEN])
    [message] = [message for item in items if item.page is not None for message in item.page.messages]
    # No key made this signature, so a check would fail.
    told = msgspec.structs.replace(message, signature=bytes(64))
    for item in items:
        if item.page is not None and item.page.messages:
            item.page.messages[:] = [told]
    assert Daemon(home, (BEN,)).hear(items).contradicted == "signature"
    daemon = Daemon(home, (BEN,))
    daemon.signed.add(Signed(hashlib.sha256(told.body).digest(), told.signature))
    assert daemon.hear(items).contradicted == ""
    assert daemon.texts(BEN) == ["mine"]


def test_a_private_message_that_is_withheld_shows_at_the_next_one_of_its_thread() -> None:
    home = HonestHome()
    home.join(BEN)
    home.post(ANN, "first", [BEN])
    withheld = home.post(ANN, "second", [BEN])
    home.post(ANN, "third", [BEN])
    items = home.items([BEN])
    page_of(items).messages.remove(withheld.message)
    daemon = Daemon(home, (BEN,)).hear(items)
    assert daemon.contradicted == "thread"
    assert daemon.texts(BEN) == ["first"]


def test_a_fork_shows_at_the_first_message_that_crosses() -> None:
    """Two sides of a room are told different messages. The envelope of one side names a line that the other never
    had."""
    home = HonestHome()
    home.join(BEN)
    home.join(CAT)
    home.post(ANN, "for all")
    other_line = home.line[:]
    home.post(ANN, "for one side")
    forked = home.envelope(CAT, "seen the other side", shown=2, line=hashlib.sha256(other_line[-1]).digest())
    home.admit(CAT, forked)
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.contradicted == "fork"


def test_an_author_that_was_shown_more_than_there_is_shows_what_is_withheld() -> None:
    home = HonestHome()
    home.join(BEN)
    home.join(CAT)
    home.post(ANN, "one")
    home.admit(CAT, home.envelope(CAT, "answer", shown=7))
    daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
    assert daemon.contradicted == "shown"


def test_a_message_of_another_room_and_a_message_twice_are_no_messages_of_this_room() -> None:
    home = HonestHome()
    home.join(BEN)
    home.admit(ANN, home.envelope(ANN, "elsewhere", room="r_other"))
    assert Daemon(home, (BEN,)).hear(home.items([BEN])).contradicted == "room"
    again = HonestHome()
    again.join(BEN)
    said = again.post(ANN, "once")
    again.admit(ANN, said.message.body)
    assert Daemon(again, (BEN,)).hear(again.items([BEN])).contradicted == "id"


def test_only_words_that_their_author_gave_as_context_are_a_recap() -> None:
    for kind, is_recap in (("context", True), ("text", False)):
        home = HonestHome()
        said = home.admit(ANN, home.envelope(ANN, "first", kind=kind))
        said.message = replace(said.message, opening=True)
        home.join(BEN)
        daemon = Daemon(home, (BEN,)).hear(home.items([BEN]))
        [(header, _)] = daemon.messages
        assert isinstance(header.event, e.MessagePosted)
        assert header.event.opening is is_recap
