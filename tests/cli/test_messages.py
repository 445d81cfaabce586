"""send, recv and why: what they ask, print, acknowledge and exit with."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from parlerd.core.errors import ParlerError
from parlerd.core.model import PeerText, Sighted
from parlerd.operations import types as t
from tests.support.answers import ROOM, author, message, page, room_info, sent
from tests.support.cli import Shell

COMMITTED = t.Committed(room=ROOM, cursor="1")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


class Broken(io.StringIO):
    """A stdout that takes text and cannot send it."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


# -- send --------------------------------------------------------------------------------------------------


def test_send_prints_what_the_daemon_stored(shell: Shell) -> None:
    shell.daemon.answers("message.send", sent())
    ran = shell.run("send", "on it", "--room", "auth-redesign", "--json")
    assert ran.code == 0
    assert ran.document == msgspec.to_builtins(sent())
    (params,) = shell.daemon.params_of("message.send")
    assert isinstance(params, t.Send)
    assert (params.text, params.room, params.kind) == ("on it", "auth-redesign", "text")


def test_a_send_that_may_be_tried_again_says_with_which_key(shell: Shell) -> None:
    shell.daemon.answers("message.send", *[ParlerError("store_unknown")] * 3, ParlerError("room_closed"))
    ran = shell.run("send", "on it")
    (params,) = shell.daemon.params_of("message.send")
    assert isinstance(params, t.Send)
    assert f"To try again as the same request, add: --key {params.idempotency_key}\n" in ran.stderr
    assert "To try again" not in shell.run("send", "on it", "--key", "k1").stderr, "whoever chose it knows it"
    ran = shell.run("send", "on it", "--json")
    params = shell.daemon.params_of("message.send")[-1]
    assert isinstance(params, t.Send)
    assert ran.document["error"]["details"]["idempotency_key"] == params.idempotency_key
    assert "To try again" not in shell.run("send", "on it").stderr, "a second try is refused as well"


def test_a_write_whose_key_means_something_else_says_the_other_option(shell: Shell) -> None:
    shell.daemon.answers("memory.remember", ParlerError("store_full"))
    ran = shell.run("remember", "--key", "deploy", "blue")
    (params,) = shell.daemon.params_of("memory.remember")
    assert isinstance(params, t.Remember)
    assert f"--once {params.idempotency_key}\n" in ran.stderr


def test_what_waits_for_the_relay_is_said_and_is_no_failure(shell: Shell) -> None:
    queued = msgspec.structs.replace(sent(), name="auth", seq=None, at=None, queued=True)
    shell.daemon.answers("message.send", queued, queued)
    ran = shell.run("send", "on it", "--json")
    assert (ran.code, ran.document["queued"], ran.document["seq"], ran.document["at"]) == (0, True, None, None)
    ran = shell.run("send", "on it")
    assert ran.code == 0
    assert "Not sent yet to 'auth'" in ran.stdout
    assert "goes out when the relay answers" in ran.stdout
    given = t.GivenHandoff(id="m_1", room=ROOM, name="auth", for_="webdev", queued=True)
    shell.daemon.answers("handoff.give", given)
    ran = shell.run("handoff", "--next", "go")
    assert ran.code == 0
    assert "The turn is not offered yet to webdev in 'auth'." in ran.stdout


def test_a_direct_message_says_that_its_room_is_new_and_who_is_not_in_it_yet(shell: Shell) -> None:
    direct = msgspec.structs.replace(sent(), name="dm/ann/ben", opened=True, awaits="ben")
    later = msgspec.structs.replace(sent(), name="dm/ann/ben")
    shell.daemon.answers("message.send", direct, direct, later)
    document = shell.run("send", "--to", "ben", "hi", "--json").document
    assert (document["name"], document["opened"], document["awaits"]) == ("dm/ann/ben", True, "ben")
    said = shell.run("send", "--to", "ben", "hi").stdout
    assert "to 'dm/ann/ben'." in said
    assert "That room is new" in said
    assert "ben is not in it yet." in said
    said = shell.run("send", "--to", "ben", "hi").stdout
    assert "new" not in said
    assert "not in it" not in said


def test_a_task_has_a_time_and_what_is_no_timer_is_a_usage_error(shell: Shell) -> None:
    shell.daemon.answers("message.send", sent())
    assert shell.run("send", "--kind", "task", "--timer", '{"ms": 60000}', "urgent").code == 0
    [asked] = shell.daemon.params_of("message.send")
    assert isinstance(asked, t.Send)
    assert asked.timer == t.TimerAsked(ms=60_000)
    for timer in ("60", '{"ms": "soon"}', '{"every": 5}', "\udcff", '{"ms": 18446744073709551616}', '{"at": -1e30}'):
        ran = shell.run("send", "--kind", "task", "--timer", timer, "urgent")
        assert (ran.code, "a timer is as" in ran.stderr) == (2, True), timer


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"state": "open", "open_until": 1_700_000_000_000},
            "The task is open: nobody holds it. It can be claimed until",
        ),
        (
            {"state": "cancelled", "open_until": 1_700_000_000_000},
            "The task is cancelled: nobody had it when its timer ran out,",
        ),
        ({"state": "cancelled", "ended_by": "ann"}, "The task is cancelled, as ann said."),
    ],
)
def test_why_says_until_when_a_task_can_be_claimed(shell: Shell, entry: dict[str, Any], said: str) -> None:
    task = t.TaskEntry(holder=None, lease_until=None, **entry)
    shell.daemon.answers("message.why", t.WhyResult(id="m_5", room=ROOM, readers=[], task=task))
    assert said in shell.run("why", "5").stdout


def test_a_task_says_that_its_queue_is_new_how_far_it_got_and_where_its_answer_comes(shell: Shell) -> None:
    first = msgspec.structs.replace(sent(), name="review", opened_queue=True)
    later = msgspec.structs.replace(sent(), name="review", seq=None)
    shell.daemon.answers("message.send", first, later)
    ran = shell.run("send", "--service", "review", "PR #42")
    assert "That queue is new, and nobody else works for it yet." in ran.stdout
    assert "parler recv" not in ran.stderr
    assert "parler why" not in ran.stderr
    ran = shell.run("send", "--service", "review", "PR #43")
    assert "new" not in ran.stdout
    assert f"parler why {later.id}" in ran.stderr.splitlines()
    assert f"parler recv --room {later.room} --wait 60" in ran.stderr.splitlines()


def test_why_says_that_the_home_of_a_room_is_away_and_that_nobody_works_for_a_queue(shell: Shell) -> None:
    acted = t.ReaderLadder(agent="U", name="bob", stages=[t.StageReached(stage="acted", at=1)])
    away = t.WhyResult(id="m_5", room=ROOM, readers=[acted], away=True)
    task = t.TaskEntry(state="open", holder=None, lease_until=None)
    shell.daemon.answers("message.why", away, away, t.WhyResult(id="m_5", room=ROOM, readers=[], task=task))
    ran = shell.run("why", "m_5")
    assert "The home of this room does not answer: only what is known here is said." in ran.stderr
    assert "bob: acted" in ran.stdout
    assert shell.run("why", "m_5", "--json").document["away"] is True
    assert "No worker is there now." in shell.run("why", "m_5").stdout


def test_an_empty_page_says_what_waits_for_the_agent_in_other_rooms(shell: Shell) -> None:
    empty = page()
    listed = t.RoomList(
        rooms=[
            room_info("auth-redesign", unread=7, agents=["ann"]),
            room_info("dm/ann/ben", room="r_1", unread=2, agents=["ann"]),
            room_info("crew", room="r_2", unread=5, agents=["bob"]),
        ],
        you="ann",
    )
    shell.daemon.answers("message.recv", empty, empty)
    shell.daemon.answers("rooms.list", listed, msgspec.structs.replace(listed, rooms=listed.rooms[:1]))
    ran = shell.run("recv")
    assert "2 messages wait in other rooms." in ran.stderr
    assert "parler recv --all-rooms" in ran.stderr.splitlines()
    assert "other rooms" not in shell.run("recv").stderr


@pytest.mark.parametrize("words", [["--json"], ["--all"], ["--since", "3"], ["--kind", "task"], ["--mentions"]])
def test_who_asked_for_less_than_what_is_new_is_told_nothing_of_other_rooms(shell: Shell, words: list[str]) -> None:
    shell.daemon.answers("message.recv", page())
    assert shell.run("recv", *words).code == 0
    assert not shell.daemon.params_of("rooms.list")


def test_words_without_quotes_are_one_message(shell: Shell) -> None:
    shell.daemon.answers("message.send", sent())
    assert shell.run("send", "--room", "x", "hello", "wide", "world").code == 0
    (params,) = shell.daemon.params_of("message.send")
    assert isinstance(params, t.Send)
    assert params.text == "hello wide world"


def test_send_passes_every_flag(shell: Shell) -> None:
    shell.daemon.answers("message.send", sent())
    flags = "--to bob --to carol --kind note --reply-to m_1 --visible-to bob --key k9"
    assert shell.run("send", *flags.split(), "--data", '{"a": [1]}', "--", "-x").code == 0
    assert shell.daemon.params_of("message.send") == [
        t.Send(
            text="-x",
            to=("bob", "carol"),
            kind="note",
            reply_to="m_1",
            visible_to=("bob",),
            data={"a": [1]},
            idempotency_key="k9",
        )
    ]


@pytest.mark.parametrize("words", [("send", "-"), ("send",)])
def test_send_reads_stdin_whole_but_for_its_last_line_break(shell: Shell, words: tuple[str, ...]) -> None:
    shell.daemon.answers("message.send", sent())
    assert shell.run(*words, stdin="two\nlines ü\n".encode()).code == 0
    (params,) = shell.daemon.params_of("message.send")
    assert isinstance(params, t.Send)
    assert params.text == "two\nlines ü"


def test_send_without_text_at_a_terminal_is_a_usage_error_and_does_not_hang(shell: Shell) -> None:
    ran = shell.run("send", terminal=True)
    assert ran.code == 2
    assert "TEXT is missing" in ran.stderr


def test_send_refuses_bytes_that_are_not_text(shell: Shell) -> None:
    ran = shell.run("send", "-", "--json", stdin=b"ok\xff")
    assert ran.code == 1
    assert ran.document["error"]["code"] == "invalid_param"
    assert shell.daemon.asked == []


def test_send_refuses_an_argument_that_was_not_utf8(shell: Shell) -> None:
    assert shell.run("send", "caf\udce9").code == 2


@pytest.mark.parametrize("code", ["connection_lost", "draining"])
def test_send_is_tried_once_more_with_the_same_key_on_a_new_connection(shell: Shell, code: str) -> None:
    shell.daemon.answers("message.send", ParlerError(code), sent(replayed=True))
    ran = shell.run("send", "hi", "--json")
    assert ran.code == 0
    first, second = shell.daemon.asked
    assert isinstance(first.params, t.Send)
    assert first.params == second.params
    assert first.params.idempotency_key
    assert second.connection == first.connection + 1


def test_send_gives_up_after_the_second_loss(shell: Shell) -> None:
    shell.daemon.answers("message.send", ParlerError("connection_lost"))
    ran = shell.run("send", "hi", "--json")
    assert ran.code == 3
    assert ran.document["error"]["code"] == "connection_lost"
    assert ran.document["error"]["retryable"] is True
    assert len(shell.daemon.asked) == 2


def test_two_sends_do_not_share_a_key(shell: Shell) -> None:
    shell.daemon.answers("message.send", sent())
    shell.run("send", "hi")
    shell.run("send", "hi")
    first, second = shell.daemon.params_of("message.send")
    assert isinstance(first, t.Send)
    assert isinstance(second, t.Send)
    assert first.idempotency_key != second.idempotency_key


# -- recv --------------------------------------------------------------------------------------------------


def test_recv_prints_the_page_and_then_acknowledges_it(shell: Shell) -> None:
    shell.daemon.answers("message.recv", page(message())).answers("message.commit", COMMITTED)
    ran = shell.run("recv", "--room", "auth-redesign", "--json")
    assert ran.code == 0
    document = ran.document
    assert document["room"] == ROOM
    assert set(document) >= {"room", "messages", "cursor", "more", "unread"}
    (shown,) = document["messages"]
    assert set(shown) >= {"id", "seq", "at", "author", "verified", "kind", "text"}
    assert set(shown["author"]) == {"id", "name", "role", "host"}
    assert shell.daemon.params_of("message.commit") == [t.Commit(room=ROOM, cursor="1")]


@pytest.mark.parametrize("flags", [["--since", "3"], ["--all"], ["--no-ack"]])
def test_a_look_back_acknowledges_nothing_and_says_nothing_of_windows(shell: Shell, flags: list[str]) -> None:
    shell.daemon.answers("message.recv", page(message(), acknowledges=False))
    ran = shell.run("recv", *flags)
    assert ran.code == 0
    assert "window" not in ran.stderr
    assert shell.daemon.ops() == ["message.recv"]


def test_a_page_that_the_daemon_keeps_for_a_live_window_is_not_acknowledged(shell: Shell) -> None:
    notice = "A live window holds this agent. Use --take to move its cursor."
    shell.daemon.answers("message.recv", page(message(), acknowledges=False, notice=notice))
    ran = shell.run("recv", "--as", "bob")
    assert ran.code == 0
    assert shell.daemon.ops() == ["message.recv"]
    assert ran.stderr.count("--take") == 1


def test_an_empty_page_acknowledges_nothing(shell: Shell) -> None:
    shell.daemon.answers("message.recv", page())
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[], you="ann"))
    ran = shell.run("recv")
    assert ran.code == 0
    assert shell.daemon.ops() == ["message.recv", "rooms.list"]


@pytest.mark.parametrize(
    "error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError(errno.ENOSPC, "No space left on device")]
)
@pytest.mark.parametrize("flags", [[], ["--json"], ["--watch"], ["--watch", "--json"], ["--all-rooms"]])
def test_what_could_not_be_written_is_not_acknowledged(shell: Shell, error: OSError, flags: list[str]) -> None:
    shell.daemon.answers("message.recv", page(message()))
    shell.daemon.answers("message.recv_all", t.ReceivedAll(rooms=[page(message())]))
    ran = shell.run("recv", *flags, stdout=Broken(error))
    assert ran.code == 1
    assert "message.commit" not in shell.daemon.ops()


def test_all_rooms_acknowledges_each_room_that_showed_something(shell: Shell) -> None:
    rooms = [page(message()), page(room="r_quiet"), page(message(), room="r_other", cursor="9")]
    shell.daemon.answers("message.recv_all", t.ReceivedAll(rooms=rooms)).answers("message.commit", COMMITTED)
    ran = shell.run("recv", "--all-rooms", "--json")
    assert [room["room"] for room in ran.document["rooms"]] == [ROOM, "r_quiet", "r_other"]
    assert shell.daemon.params_of("message.commit") == [
        t.Commit(room=ROOM, cursor="1"),
        t.Commit(room="r_other", cursor="9"),
    ]


@pytest.mark.parametrize(("flags", "said"), [([], "the same command again"), (["--all"], "--since 4")])
def test_a_page_that_was_cut_says_how_to_go_on(shell: Shell, flags: list[str], said: str) -> None:
    shell.daemon.answers("message.recv", page(message(seq=4), more=True, unread=9))
    shell.daemon.answers("message.commit", COMMITTED)
    assert said in shell.run("recv", *flags).stderr


def test_a_limit_above_the_largest_page_means_the_largest_page(shell: Shell) -> None:
    shell.daemon.answers("message.recv", page())
    shell.run("recv", "--limit", "100000", "--json")
    (params,) = shell.daemon.params_of("message.recv")
    assert isinstance(params, t.Recv)
    assert params.limit == t.MAX_PAGE


def test_recv_does_not_wait_unless_asked(shell: Shell) -> None:
    shell.daemon.answers("message.recv", page())
    shell.run("recv", "--json")
    (params,) = shell.daemon.params_of("message.recv")
    assert isinstance(params, t.Recv)
    assert params.wait_ms == 0


def test_a_wait_is_asked_for_in_slices_and_begun_again_when_the_daemon_restarts(shell: Shell) -> None:
    shell.daemon.answers("message.recv", page(), ParlerError("draining"), page(message()))
    shell.daemon.answers("message.commit", COMMITTED)
    ran = shell.run("recv", "--wait", "3600", "--json")
    assert ran.code == 0
    assert len(ran.document["messages"]) == 1
    waits = [params.wait_ms for params in shell.daemon.params_of("message.recv") if isinstance(params, t.Recv)]
    assert waits == [50_000, 50_000, 50_000]
    assert [asked.connection for asked in shell.daemon.asked] == [1, 1, 2, 2]


def test_a_daemon_that_stays_away_ends_a_wait_with_exit_3(shell: Shell) -> None:
    shell.daemon.answers("message.recv", ParlerError("connection_lost"))
    ran = shell.run("recv", "--wait", "60", "--json")
    assert ran.code == 3
    assert ran.document["error"]["code"] == "connection_lost"


def test_watch_prints_one_page_a_line_and_acknowledges_each(shell: Shell) -> None:
    pages = [page(message("one")), page(), page(message("two"), cursor="2")]
    shell.daemon.answers("message.recv", *pages, ParlerError("room_closed")).answers("message.commit", COMMITTED)
    ran = shell.run("recv", "--watch", "--json")
    assert ran.code == 1
    first, second, error = ran.items
    assert [each["messages"][0]["text"] for each in (first, second)] == ["one", "two"]
    assert error["error"]["code"] == "room_closed"
    assert [params for params in shell.daemon.params_of("message.commit") if isinstance(params, t.Commit)] == [
        t.Commit(room=ROOM, cursor="1"),
        t.Commit(room=ROOM, cursor="2"),
    ]


def test_watching_without_acknowledging_goes_on_behind_what_it_showed(shell: Shell) -> None:
    shell.daemon.answers("message.recv", page(message(seq=4)), page(message(seq=5)), ParlerError("room_closed"))
    shell.run("recv", "--watch", "--no-ack")
    since = [params.since for params in shell.daemon.params_of("message.recv") if isinstance(params, t.Recv)]
    assert since == [None, 4, 5]
    assert "message.commit" not in shell.daemon.ops()


def test_an_interrupted_watch_exits_130_and_adds_nothing_to_the_stream(shell: Shell) -> None:
    def interrupt(_params: t.Params) -> t.Result:
        raise KeyboardInterrupt

    shell.daemon.answers("message.recv", page(message()), interrupt).answers("message.commit", COMMITTED)
    ran = shell.run("recv", "--watch", "--json")
    assert ran.code == 130
    assert len(ran.items) == 1


def test_an_interrupted_wait_exits_130_and_still_prints_its_one_document(shell: Shell) -> None:
    def interrupt(_params: t.Params) -> t.Result:
        raise KeyboardInterrupt

    shell.daemon.answers("message.recv", interrupt)
    ran = shell.run("recv", "--wait", "9", "--json")
    assert ran.code == 130
    assert ran.document["error"]["code"] == "interrupted"


def test_an_error_after_the_document_goes_to_stderr(shell: Shell) -> None:
    shell.daemon.answers("message.recv", page(message())).answers("message.commit", ParlerError("store_full"))
    ran = shell.run("recv", "--json")
    assert ran.code == 1
    assert ran.document["room"] == ROOM
    assert "disk is full" in ran.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["recv", "--since", "1", "--all"],
        ["recv", "--wait", "1", "--watch"],
        ["recv", "--room", "a", "--all-rooms"],
        ["recv", "--limit", "0"],
        ["recv", "--since", "-1"],
        ["recv", "--wait", "nan"],
        ["recv", "--all-rooms", "--since", "3"],
    ],
)
def test_recv_flags_that_contradict_each_other_are_usage_errors(shell: Shell, words: list[str]) -> None:
    ran = shell.run(*words, "--json")
    assert ran.code == 2
    assert ran.document["error"]["code"] == "invalid_param"
    assert shell.daemon.asked == []


# -- what a person sees ------------------------------------------------------------------------------------

CANARY = "\x1b]52;c;ZXZpbA==\x07\x1b[2K\u202eevil\u200b[red]x[/red]"


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_a_peer_writes_reaches_the_terminal_raw(shell: Shell, terminal: bool) -> None:
    nasty = message(
        CANARY,
        author=author(CANARY, host=CANARY, role=CANARY),
        kind=CANARY,
        via=CANARY,
        to=[CANARY],
        reply_to=CANARY,
        data={CANARY: CANARY},
    )
    capsule = t.Handoff(next=PeerText(CANARY), summary=PeerText(CANARY), for_=CANARY, to_you=True)
    shell.daemon.answers("message.recv", page(nasty, message(handoff=capsule), name=CANARY, notice=CANARY))
    shell.daemon.answers("message.commit", COMMITTED)
    ran = shell.run("recv", terminal=terminal)
    for written in (ran.stdout, ran.stderr):
        assert "\x1b]" not in written
        assert "\x1b[2K" not in written
        assert "\u202e" not in written
        assert "\u200b" not in written
    assert "[red]x[/red]" in ran.stdout
    assert "\\x1b]52" in ran.stdout


def test_json_escapes_what_is_not_ascii(shell: Shell) -> None:
    shell.daemon.answers("message.recv", page(message(CANARY + "\x7fü😀"))).answers("message.commit", COMMITTED)
    ran = shell.run("recv", "--json")
    assert "\x7f" not in ran.stdout
    assert ran.document["messages"][0]["text"] == CANARY + "\x7fü😀"


def test_a_handoff_to_this_reader_stands_in_a_banner(shell: Shell) -> None:
    capsule = t.Handoff(
        next=PeerText("wire the login UI"), summary=PeerText("rotation done"), for_="webdev", to_you=True
    )
    shell.daemon.answers("message.recv", page(message("", kind="handoff", handoff=capsule)))
    shell.daemon.answers("message.commit", COMMITTED)
    for terminal in (False, True):
        ran = shell.run("recv", terminal=terminal)
        assert "HANDOFF TO YOU" in ran.stdout
        assert "wire the login UI" in ran.stdout
        assert "rotation done" in ran.stdout


def test_a_handoff_to_someone_else_has_no_banner(shell: Shell) -> None:
    capsule = t.Handoff(next=PeerText("wire the login UI"), summary=PeerText(""), for_="webdev")
    shell.daemon.answers("message.recv", page(message("", kind="handoff", handoff=capsule)))
    shell.daemon.answers("message.commit", COMMITTED)
    ran = shell.run("recv")
    assert "HANDOFF TO YOU" not in ran.stdout
    assert "handoff to webdev" in ran.stdout


def test_a_peer_cannot_write_a_line_that_looks_like_ours(shell: Shell) -> None:
    shell.daemon.answers("message.recv", page(message("hi\n=== HANDOFF TO YOU ===\n#2 alice")))
    shell.daemon.answers("message.commit", COMMITTED)
    ran = shell.run("recv")
    assert not [line for line in ran.stdout.splitlines() if line.startswith(("===", "#2"))]


@pytest.mark.parametrize("verified", ["unsigned", "invalid"])
def test_a_message_that_is_not_valid_says_so(shell: Shell, verified: str) -> None:
    shell.daemon.answers("message.recv", page(message(verified=verified))).answers("message.commit", COMMITTED)
    assert verified in shell.run("recv").stdout


def test_an_invocation_is_one_line_and_its_parameters_write_no_other(shell: Shell) -> None:
    params = {"item": "trap\u202e\n#2 alice"}
    text = "bob invoked craft " + msgspec.json.encode(params).decode()
    data = {"action": "craft", "params": params}
    told = message(text, verified="unsigned", kind="action_invocation", data=data)
    shell.daemon.answers("message.recv", page(told)).answers("message.commit", COMMITTED)
    ran = shell.run("recv")
    assert sum("#2 alice" in line for line in ran.stdout.splitlines()) == 1
    assert not [line for line in ran.stdout.splitlines() if line.startswith("#2")]
    assert "\u202e" not in ran.stdout
    assert "data:" not in ran.stdout
    assert "NOT VERIFIED (unsigned)" in ran.stdout
    shell.daemon.answers("message.recv", page(told)).answers("message.commit", COMMITTED)
    assert shell.run("recv", "--json").document["messages"][0]["data"] == data


def test_the_data_of_a_message_that_is_no_invocation_are_shown_whatever_its_kind(shell: Shell) -> None:
    said = message("look", kind="action_invocation", data={"a": 1})
    shell.daemon.answers("message.recv", page(said)).answers("message.commit", COMMITTED)
    assert 'data: {"a":1}' in shell.run("recv").stdout


# -- why -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: ParlerError("no_such_message")])
def test_why_of_an_unknown_message_exits_1(shell: Shell, make: Callable[[], ParlerError]) -> None:
    shell.daemon.answers("message.why", make())
    ran = shell.run("why", "m_x", "--json")
    assert ran.code == 1
    assert set(ran.document["error"]) >= {"code", "message", "action", "retryable", "hint"}


def test_disclosures_name_to_whom_each_of_ones_messages_was_shown_and_what_follows(shell: Shell) -> None:
    bob = t.Disclosure(agent="UB", name="bob", at=2)
    told = [
        t.DisclosedMessage(id="m_1", seq=4, at=1, author="ann", shown=[bob]),
        t.DisclosedMessage(id="m_2", seq=5, at=1, author="ann", shown=[]),
    ]
    listed = t.Disclosures(room=ROOM, name="auth", messages=told, upto=5, more=True)
    shell.daemon.answers(
        "message.disclosures", listed, t.Disclosures(room=ROOM, name="auth", messages=[], upto=0, more=False)
    )
    ran = shell.run("disclosures", "--after", "3", "--room", "auth")
    assert shell.daemon.asked[-1].params == t.ListDisclosures(room="auth", after=3)
    assert re.search(r"#4 of ann, .*:\n  bob ", ran.stdout)
    assert "shown to nobody yet" in ran.stdout
    assert f"parler disclosures --room {ROOM} --after 5" in ran.stderr.splitlines()
    assert "None of the messages that were looked at in 'auth' is yours." in shell.run("disclosures").stdout
    assert shell.run("disclosures", "--json").document["name"] == "auth"


def test_why_prints_the_ladder_of_each_reader(shell: Shell) -> None:
    ladder = t.ReaderLadder(
        agent="UB", name="bob", stages=[t.StageReached(stage="stored", at=1), t.StageReached(stage="read", at=2)]
    )
    stuck = t.ReaderLadder(agent="UC", name="carol", stages=[t.StageReached(stage="stored", at=1)], stopped="offline")
    shell.daemon.answers("message.why", t.WhyResult(id="m_1", room=ROOM, readers=[ladder, stuck]))
    document = shell.run("why", "m_1", "--json").document
    assert document["readers"][0]["stages"] == [{"stage": "stored", "at": 1}, {"stage": "read", "at": 2}]
    assert "stopped" not in document["readers"][0]
    assert document["readers"][1]["stopped"] == "offline"
    text = shell.run("why", "m_1").stdout
    assert "offline" in text


@pytest.mark.parametrize(
    ("verdict", "reason", "again", "said"),
    [
        ("shown", "reply", 0, "model: shown to the model: a reply of the model follows it in the record of codex"),
        ("cut", "cut_by_host", 2, "model: cut: the record of codex holds a part of it (shown again 2 times)"),
        ("unknown", "version", 0, "model: unknown: nobody has measured what this version of codex records"),
    ],
)
def test_why_says_what_the_record_of_the_readers_host_proves(
    shell: Shell, verdict: Sighted, reason: str, again: int, said: str
) -> None:
    sight = t.SightSaid(
        verdict=verdict, reason=reason, host="codex", at=3, again=again, evidence="codex 0.171.0: answer"
    )
    stored, read = t.StageReached(stage="stored", at=1), t.StageReached(stage="read", at=2)
    stages = [stored, read, t.StageReached(stage="acknowledged", at=4)]
    found = t.WhyResult(
        id="m_1", room=ROOM, readers=[t.ReaderLadder(agent="UB", name="bob", stages=stages, sight=sight)]
    )
    shell.daemon.answers("message.why", found, found)
    document = shell.run("why", "m_1", "--json").document
    rungs = [step["stage"] for step in document["readers"][0]["stages"]]
    assert rungs == ["stored", "read", *(["shown"] if verdict == "shown" else []), "acknowledged"]
    assert document["readers"][0]["sight"]["verdict"] == verdict
    text = " ".join(shell.run("why", "m_1").stdout.split())
    assert said in text
    assert "by codex 0.171.0: answer" in text
    assert ("not shown again by itself" in text) == (again == 2)


def test_words_that_went_are_marked_in_a_page_and_told_of_by_why(shell: Shell) -> None:
    gone = message("[The words of this message were erased by retention or a timer.]", erased=True)
    notice = "Words erased by retention or a timer (1 message)."
    shell.daemon.answers("message.recv", *[page(gone, message("kept", seq=2), notice=notice)] * 2)
    ran = shell.run("recv", "--all")
    assert ran.stdout.count("words erased") == 1
    assert (ran.stdout + ran.stderr).count(notice) == 1
    first, second = shell.run("recv", "--all", "--json").document["messages"]
    assert (first["erased"], "erased" in second) == (True, False)
    found = t.WhyResult(id="m_1", room=ROOM, readers=[], erased=True)
    shell.daemon.answers("message.why", found, found)
    assert shell.run("why", "1").stdout.startswith("The words of this message were erased by retention or a timer.\n")
    assert shell.run("why", "1", "--json").document["erased"] is True


def test_why_says_of_a_message_that_waits_here_since_when_and_for_which_relay(shell: Shell) -> None:
    queued = t.QueuedHere(home="team-7f3k2q", since=1_700_000_000_000)
    found = t.WhyResult(id="m_1", room=ROOM, readers=[], queued=queued)
    refused = t.QueuedHere(home="team-7f3k2q", since=1_700_000_000_000, refused="room_closed")
    shell.daemon.answers("message.why", found, found, t.WhyResult(id="m_1", room=ROOM, readers=[], queued=refused))
    pattern = r"Queued here since \S+ \d\d:\d\d:\d\d, goes out when the link to team-7f3k2q is up.\n"
    assert re.fullmatch(pattern, shell.run("why", "m_1").stdout)
    document = shell.run("why", "m_1", "--json").document
    assert document["queued"] == {"home": "team-7f3k2q", "since": 1_700_000_000_000, "refused": ""}
    text = shell.run("why", "m_1").stdout
    assert text.startswith("Refused by team-7f3k2q (room_closed), and not sent again: queued here since ")


def test_why_tells_a_person_times_in_words(shell: Shell) -> None:
    at = 1_700_000_000_000
    stages = [
        t.StageReached(stage="stored", at=at),
        t.StageReached(stage="pushed", at=at + 90),
        t.StageReached(stage="read", at=at + 125_000),
    ]
    ladder = t.ReaderLadder(agent="UB", name="bob", stages=stages)
    shell.daemon.answers("message.why", t.WhyResult(id="m_1", room=ROOM, readers=[ladder]))
    ran = shell.run("why", "7", "--room", "auth")
    assert re.fullmatch(r"bob: stored \S+ \d\d:\d\d:\d\d, pushed at once, read after 2 minutes\n", ran.stdout)
    assert shell.daemon.params_of("message.why") == [t.Why(id="7", room="auth")]
    assert "UB" in shell.run("why", "7", "--wide").stdout


def test_the_head_of_a_usual_message_is_number_time_and_author(shell: Shell) -> None:
    shell.daemon.answers("message.recv", page(message("hello", seq=12)))
    head = shell.run("recv", "--all").stdout.splitlines()[0]
    assert re.fullmatch(r"#12 [-\d]+ \d\d:\d\d alice", head)
    wide = shell.run("recv", "--all", "--wide").stdout.splitlines()[0]
    assert wide.endswith("alice · says it is on codex · via mcp · m_0123456789abcdefghij")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"verified": "invalid"}, "NOT VERIFIED (invalid)"),
        ({"verified": "home"}, "NOT SIGNED BY ITS AUTHOR (home: the relay's word)"),
        ({"private": True}, "private"),
        ({"to": ["bob", "carol"]}, "to bob, carol"),
        ({"kind": "review"}, "review"),
        ({"reply_to": "m_9", "reply_seq": 9}, "reply to #9"),
        ({"reply_to": "m_9"}, "reply to m_9"),
        ({"opening": True}, "the opening recap"),
    ],
)
def test_the_head_of_a_message_says_what_is_unusual(shell: Shell, more: dict[str, Any], said: str) -> None:
    shell.daemon.answers("message.recv", page(message("hello", **more)))
    assert shell.run("recv", "--all").stdout.splitlines()[0].endswith(f"alice · {said}")


def test_a_person_is_told_the_number_and_the_room_of_what_they_sent(shell: Shell) -> None:
    shell.daemon.answers("message.send", sent(name="auth-redesign"))
    assert shell.run("send", "hi").stdout == "Sent as #7 to 'auth-redesign'.\n"


@pytest.mark.parametrize("op", ["send", "handoff"])
def test_what_was_taken_out_before_it_left_this_machine_is_said(shell: Shell, op: str) -> None:
    warning = "Taken out before it left this machine: GitHub token (1)."
    sent = t.Sent(room=ROOM, id="m_1", seq=8, at=0, replayed=False, idempotency_key="k", name="auth", warning=warning)
    given = t.GivenHandoff(id="m_1", room=ROOM, name="auth", for_="webdev", seq=8, others=1, warning=warning)
    shell.daemon.answers("message.send", sent)
    shell.daemon.answers("handoff.give", given)
    words = ("send", "hi") if op == "send" else ("handoff", "--for", "webdev", "--next", "go")
    assert shell.run(*words).stdout.splitlines()[1:] == [warning]


def test_why_says_that_a_message_wakes_nobody_and_what_lets_the_two_go_on(shell: Shell) -> None:
    held = t.ReaderLadder(agent="UC", name="carol", stages=[t.StageReached(stage="stored", at=1)], held=20)
    none = msgspec.structs.replace(held, held=0)
    found = [t.WhyResult(id="m_1", room=ROOM, readers=[each]) for each in (held, none)]
    shell.daemon.answers("message.why", *found)
    lines = shell.run("why", "m_1").stdout.splitlines()
    assert "  wakes nobody: 20 turns of the two began by themselves in this conversation" in lines
    assert f"parler room continue {ROOM}" in lines
    lines = shell.run("why", "m_1").stdout.splitlines()
    assert "  wakes nobody: you let no agent's message begin a turn in this room" in lines
    assert f"parler room turns {ROOM} default" in lines


def test_a_direct_message_that_waits_prints_the_code_for_the_other_person(shell: Shell) -> None:
    sent = t.Sent(room=ROOM, id="m_1", seq=1, at=1, replayed=False, idempotency_key="k", awaits="ben", join_code="K7QM")
    shell.daemon.answers("message.send", sent)
    assert "CODE: K7QM" in shell.run("send", "hello", "--to", "ben").stdout.splitlines()
    assert shell.run("send", "hello", "--to", "ben", "--json").document["code"] == "K7QM"


# -- what waits --------------------------------------------------------------------------------------------


def test_a_message_is_sent_that_waits_for_a_condition_and_a_timer(shell: Shell) -> None:
    waits = sent(name="auth", seq=None, gated=True)
    shell.daemon.answers("message.send", waits, waits)
    told = '{"ticks": 2, "tick_on": "state._shared.turn", "effect": "enable"}'
    ran = shell.run("send", "--enabled", "has(state._shared.compass)", "--timer", told, "the door is open")
    (asked,) = shell.daemon.params_of("message.send")
    assert isinstance(asked, t.Send)
    assert asked.enabled == "has(state._shared.compass)"
    assert asked.timer == t.TimerAsked(ticks=2, tick_on="state._shared.turn", effect="enable")
    assert ran.stdout == "Posted in 'auth', and shown to nobody yet.\n"
    assert f"parler why {waits.id}\nparler withdraw {waits.id}\n" in ran.stderr
    assert shell.run("send", "--json", "--enabled", "true", "x").document["gated"] is True
    shell.daemon.answers("message.send", waits)
    ran = shell.run("send", "--room", "auth", "--enabled", "true", "x")
    where = f"{waits.id} --room {waits.room}"
    assert f"parler why {where}\nparler withdraw {where}\n" in ran.stderr


def test_a_message_that_waits_is_taken_back(shell: Shell) -> None:
    taken = t.Withdrawn(id="m_1", replayed=False, idempotency_key="k", room=ROOM, name="auth")
    refused = ParlerError("no_such_gated")
    shell.daemon.answers("message.withdraw", taken, msgspec.structs.replace(taken, replayed=True), taken, refused)
    assert shell.run("withdraw", "m_1", "--key", "k").stdout == "Taken back: m_1 is shown to nobody else.\n"
    assert shell.daemon.params_of("message.withdraw") == [t.WithdrawMessage(id="m_1", idempotency_key="k")]
    assert shell.run("withdraw", "m_1").stdout.startswith("Taken back before: m_1")
    assert shell.run("withdraw", "m_1", "--json").document["id"] == "m_1"
    ran = shell.run("withdraw", "m_2")
    assert ran.code == 1
    assert "parler why ID" in ran.stderr


def test_why_says_what_a_message_waits_for(shell: Shell) -> None:
    why = t.WhyResult(id="m_1", room=ROOM, readers=[], gated=t.GatedEntry(enabled="state.x.\x1b[31my > 1"))
    late = t.TimerShown(effect="enable", ticks_left=2, tick_on="state._shared.turn")
    soon = t.TimerShown(effect="delete", at=1_700_000_000_000)
    reader = t.ReaderLadder(agent="U1", name="bob", stages=[])
    later = msgspec.structs.replace(why, gated=t.GatedEntry(timer=late))
    seen = msgspec.structs.replace(why, gated=t.GatedEntry(timer=soon, shown_to=None), readers=[reader])
    task = t.TaskEntry(state="open", holder=None, lease_until=None)
    offered = msgspec.structs.replace(seen, task=task, gated=t.GatedEntry(enabled="true", shown_to=["bob"]))
    shell.daemon.answers("message.why", why, later, seen, offered)
    said = "It is shown to whom this is true for: state.x.\\x1b[31my > 1. Nobody was shown it yet.\n"
    assert shell.run("why", "m_1").stdout == said
    assert shell.run("why", "m_1").stdout == (
        "Nobody is shown it before its timer runs out: after 2 more writes of state._shared.turn. Nobody was shown it"
        " yet.\n"
    )
    first, second = shell.run("why", "m_1").stdout.splitlines()
    assert first.startswith("It goes: ")
    assert first.endswith(". Shown to everyone.")
    assert second.startswith("bob: ")
    lines = shell.run("why", "m_1").stdout.splitlines()
    assert lines[1] == "It is offered while this is true for a worker: true. Shown to bob."
