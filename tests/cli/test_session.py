"""The session commands: what a person and a script see while a conversation is opened, joined and decided on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from parlerd.cli.session import CLEAR, SEALED
from parlerd.core.errors import ParlerError
from parlerd.core.model import PeerText
from parlerd.operations import types as t
from tests.support.answers import BOB, ROOM, joined, message, opened, request, room_info
from tests.support.cli import Shell

COMMITTED = t.Committed(room=ROOM, cursor="1")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home-of-a-person")


# -- open --------------------------------------------------------------------------------------------------


def test_open_prints_the_key_the_room_and_each_command_alone_on_its_line(shell: Shell) -> None:
    shell.daemon.answers("session.open", opened())
    ran = shell.run("session", "open", "--topic", "auth-redesign", "--context", "Designing auth. TODO: rotation.")
    assert ran.code == 0
    lines = ran.stdout.splitlines()
    assert lines[0] == "KEY: A3KE7DJR"
    assert lines[1].startswith("room 'auth-redesign'")
    assert "parler session join A3KE7DJR" in lines
    assert len(lines) == 5
    (params,) = shell.daemon.params_of("session.open")
    assert isinstance(params, t.OpenSession)
    assert (params.topic, params.context) == ("auth-redesign", "Designing auth. TODO: rotation.")
    assert params.approval is None
    assert params.idempotency_key


def test_open_says_who_can_read_what_opens_on_a_relay(shell: Shell) -> None:
    there = "parler homes add parler:relay"
    shell.daemon.answers(
        "session.open", opened(sealed=True, connect_command=there), opened(connect_command=there), opened()
    )
    assert SEALED in " ".join(shell.run("session", "open", "--at", "team").stdout.split())
    assert CLEAR in shell.run("session", "open", "--at", "team", "--clear").stdout
    here = shell.run("session", "open").stdout
    assert "Sealed:" not in here
    assert CLEAR not in here
    asked = shell.daemon.params_of("session.open")
    assert [isinstance(params, t.OpenSession) and params.clear for params in asked] == [False, True, False]


@pytest.mark.parametrize("mcp_command", [None, "claude mcp add parler"])
@pytest.mark.parametrize("approval", [True, False])
def test_open_says_in_five_lines_of_80_columns_what_to_do_with_the_key(
    shell: Shell, mcp_command: str | None, approval: bool
) -> None:
    expires = round(time.time() * 1000) + 86_400_000
    answer = opened(mcp_command=mcp_command, approval=approval, expires=expires)
    shell.daemon.answers("session.open", answer)
    lines = shell.run("session", "open", terminal=True, width=80).stdout.splitlines()
    assert len(lines) <= 5
    assert lines[0] == "KEY: A3KE7DJR"
    next_line = "Join the Parler session A3KE7DJR." if mcp_command is None else "parler session join A3KE7DJR"
    assert lines[3] == next_line
    assert lines[-1].endswith("parler approvals") is approval


def test_open_on_a_relay_prints_the_line_that_adds_the_relay_alone_on_its_line(shell: Shell) -> None:
    command = "parler connect --relay wss://192.0.2.7:7777/#abc"
    answer = opened(session_key="A3KE7DJR-4MWX2B9Q@team-abc123", mcp_command=None, connect_command=command)
    shell.daemon.answers("session.open", answer)
    ran = shell.run("session", "open", "--at", "team-abc123")
    assert ran.stdout.splitlines()[0] == "KEY: A3KE7DJR-4MWX2B9Q@team-abc123"
    assert command in ran.stdout.splitlines()
    (params,) = shell.daemon.params_of("session.open")
    assert isinstance(params, t.OpenSession)
    assert params.home == "team-abc123"


def test_open_as_json_is_the_result(shell: Shell) -> None:
    shell.daemon.answers("session.open", opened())
    document = shell.run("session", "open", "--json").document
    assert document == msgspec.to_builtins(opened())
    assert set(document) >= {"room", "key", "join_command", "mcp_command", "expires", "approval"}


def test_open_passes_every_flag(shell: Shell) -> None:
    shell.daemon.answers("session.open", opened())
    flags = (
        "--no-approval --approver agent --preapprove U1 --preapprove U2 --ttl 90 --max-uses 3 --history none --key k1"
    )
    assert shell.run("session", "open", *flags.split()).code == 0
    assert shell.daemon.params_of("session.open") == [
        t.OpenSession(
            approval=False,
            approver="agent",
            preapprove=("U1", "U2"),
            ttl_ms=90_000,
            max_uses=3,
            history="none",
            idempotency_key="k1",
        )
    ]


@pytest.mark.parametrize(("flags", "approval"), [([], None), (["--approval"], True), (["--no-approval"], False)])
def test_the_gate_is_asked_for_refused_or_left_to_the_settings(
    shell: Shell, flags: list[str], approval: bool | None
) -> None:
    shell.daemon.answers("session.open", opened())
    assert shell.run("session", "open", *flags).code == 0
    (params,) = shell.daemon.params_of("session.open")
    assert isinstance(params, t.OpenSession)
    assert params.approval is approval


@pytest.mark.parametrize("ttl", ["1", "59.9", "2592001"])
def test_a_lifetime_out_of_bounds_is_refused_in_the_words_that_were_typed(shell: Shell, ttl: str) -> None:
    ran = shell.run("session", "open", "--ttl", ttl)
    assert ran.code == 2
    assert f"from 60 seconds to 30 days, not {ttl} seconds" in ran.stderr
    assert "$." not in ran.stderr
    assert shell.daemon.ops() == []


def test_an_ungated_key_comes_with_a_warning(shell: Shell) -> None:
    shell.daemon.answers("session.open", opened(approval=False, mcp_command=None, warning="Keep this key secret."))
    ran = shell.run("session", "open", "--no-approval")
    assert "Keep it secret" in ran.stdout
    assert "Keep this key secret." in ran.stdout


def test_the_recap_can_come_from_a_file_or_from_stdin(shell: Shell, tmp_path: Path) -> None:
    recap = tmp_path / "recap.md"
    recap.write_text("# where we are\nrotation is left\n")
    shell.daemon.answers("session.open", opened())
    shell.run("session", "open", "--context-file", str(recap))
    shell.run("session", "open", "--context-file", "-", stdin=b"piped\n")
    contexts = [
        params.context for params in shell.daemon.params_of("session.open") if isinstance(params, t.OpenSession)
    ]
    assert contexts == ["# where we are\nrotation is left", "piped"]


def test_a_recap_file_that_is_not_there_is_an_error_that_names_it(shell: Shell) -> None:
    ran = shell.run("session", "open", "--context-file", "/nowhere/recap.md", "--json")
    assert ran.code == 1
    assert "/nowhere/recap.md" in ran.document["error"]["message"]


def test_opening_again_by_the_same_request_prints_the_key_again_and_says_so(shell: Shell) -> None:
    shell.daemon.answers("session.open", opened(replayed=True))
    ran = shell.run("session", "open", "--key", "k1")
    assert ran.code == 0
    assert ran.stdout.startswith("KEY: A3KE7DJR\n")
    assert "opened before" in ran.stderr


def test_a_key_of_an_earlier_version_is_said_to_be_gone(shell: Shell) -> None:
    gone = opened(session_key=None, line=None, join_command=None, mcp_command=None, replayed=True)
    shell.daemon.answers("session.open", gone)
    ran = shell.run("session", "open", "--key", "k1")
    assert ran.code == 0
    assert "earlier version" in ran.stdout
    assert "KEY:" not in ran.stdout


def test_where_a_host_is_connected_no_command_to_paste_into_one_is_shown(shell: Shell) -> None:
    shell.daemon.answers("session.open", opened(mcp_command=None))
    ran = shell.run("session", "open")
    assert "Join the Parler session A3KE7DJR." in ran.stdout.splitlines()
    assert "parler connect" not in ran.stdout
    assert "mcp add" not in ran.stdout


def test_opening_survives_a_daemon_that_goes_away(shell: Shell) -> None:
    shell.daemon.answers("session.open", ParlerError("connection_lost"), opened())
    assert shell.run("session", "open").code == 0
    first, second = shell.daemon.params_of("session.open")
    assert first == second


# -- join --------------------------------------------------------------------------------------------------


def test_off_a_terminal_a_join_does_not_wait_and_a_pending_one_exits_4(shell: Shell) -> None:
    shell.daemon.answers("session.join", joined("pending"))
    ran = shell.run("session", "join", "A3KE7DJR", "--json")
    assert ran.code == 4
    assert ran.document["status"] == "pending"
    assert ran.document["messages"] == []
    assert shell.daemon.params_of("session.join") == [t.JoinSession(session_key="A3KE7DJR")]


def test_the_pending_notice_shows_the_code_alone_on_its_line(shell: Shell) -> None:
    shell.daemon.answers("session.join", joined("pending"))
    ran = shell.run("session", "join", "A3KE7DJR")
    assert ran.code == 4
    assert ran.stdout.startswith("Pending approval: ")
    assert "K7QM" in ran.stdout.splitlines()


def test_a_join_whose_code_is_withheld_says_where_it_is_seen(shell: Shell) -> None:
    shell.daemon.answers("session.join", joined("pending", join_code=None, hint="See it in a terminal of your own."))
    ran = shell.run("session", "join", "A3KE7DJR")
    assert ran.code == 4
    assert "See it in a terminal of your own." in ran.stdout
    assert "this code" not in ran.stdout
    assert "the person who owns this session" not in ran.stdout


def test_a_denied_join_exits_1_with_the_join_document(shell: Shell) -> None:
    shell.daemon.answers("session.join", joined("denied"))
    ran = shell.run("session", "join", "A3KE7DJR", "--json")
    assert ran.code == 1
    assert ran.document == msgspec.to_builtins(joined("denied"))
    assert shell.run("session", "join", "A3KE7DJR").code == 1


def test_an_admitted_joiner_gets_the_context_and_acknowledges_what_it_was_shown(shell: Shell) -> None:
    shell.daemon.answers("session.join", joined(name="auth-redesign", messages=[message("the recap")], cursor="1"))
    shell.daemon.answers("message.commit", COMMITTED)
    ran = shell.run("session", "join", "A3KE7DJR")
    assert ran.code == 0
    assert "the recap" in ran.stdout
    assert shell.daemon.params_of("message.commit") == [t.Commit(room=ROOM, cursor="1")]


def test_a_cut_join_says_what_it_left_out_and_how_to_read_it(shell: Shell) -> None:
    cut = joined(messages=[message("recap")], truncated=True, first_unshown=2, last_unshown=900)
    shell.daemon.answers("session.join", cut)
    ran = shell.run("session", "join", "A3KE7DJR")
    assert "Messages 2 to 900" in ran.stdout
    assert f"parler recv --room {ROOM} --since 1" in ran.stdout.splitlines()


def test_at_a_terminal_a_join_waits_for_the_person(shell: Shell) -> None:
    shell.daemon.answers("session.join", joined("pending"), joined("pending"), joined(messages=[message("recap")]))
    ran = shell.run("session", "join", "A3KE7DJR", terminal=True)
    assert ran.code == 0
    assert "K7QM" in ran.stdout
    assert "recap" in ran.stdout
    waits = [params.wait_ms for params in shell.daemon.params_of("session.join") if isinstance(params, t.JoinSession)]
    assert waits == [0, 50_000, 50_000]


def test_no_wait_returns_at_once_at_a_terminal_too(shell: Shell) -> None:
    shell.daemon.answers("session.join", joined("pending"))
    assert shell.run("session", "join", "A3KE7DJR", "--no-wait", terminal=True).code == 4
    assert len(shell.daemon.asked) == 1


def test_wait_waits_off_a_terminal_and_prints_the_last_answer_only(shell: Shell) -> None:
    shell.daemon.answers("session.join", joined("pending"), joined())
    ran = shell.run("session", "join", "A3KE7DJR", "--wait", "20", "--json")
    assert ran.code == 0
    assert ran.document["status"] == "joined"
    _, second = shell.daemon.params_of("session.join")
    assert isinstance(second, t.JoinSession)
    assert 19_000 < second.wait_ms <= 20_000


def test_a_wait_that_runs_out_is_still_pending(shell: Shell) -> None:
    shell.daemon.answers("session.join", joined("pending"))
    ran = shell.run("session", "join", "A3KE7DJR", "--wait", "0", "--json")
    assert ran.code == 4
    assert ran.document["status"] == "pending"


def test_an_unknown_key_in_another_home_says_that_it_is_another_home(shell: Shell, tmp_path: Path) -> None:
    shell.daemon.answers("session.join", ParlerError("unknown_key"))
    other = shell.run("session", "join", "NOPE", "--json", env={"PARLER_HOME": str(tmp_path / "second")})
    assert str(tmp_path / "second") in other.document["error"]["hint"]
    assert "--as NAME" in other.document["error"]["hint"]
    usual = shell.run("session", "join", "NOPE", "--json")
    assert "mistyped" in usual.document["error"]["hint"]


def test_joining_where_one_is_already_says_so(shell: Shell) -> None:
    again = joined("already_member", name="auth-redesign", messages=[message("the recap")], cursor="1")
    shell.daemon.answers("session.join", again, again)
    shell.daemon.answers("message.commit", COMMITTED, COMMITTED)
    ran = shell.run("session", "join", "A3KE7DJR")
    assert ran.code == 0
    assert ran.stdout.startswith("You are already in 'auth-redesign'")
    assert "the recap" in ran.stdout
    assert shell.daemon.params_of("message.commit") == [t.Commit(room=ROOM, cursor="1")]
    assert shell.run("session", "join", "A3KE7DJR", "--json").document["status"] == "already_member"


def test_a_context_that_is_shown_again_and_acknowledges_nothing_is_not_committed(shell: Shell) -> None:
    shell.daemon.answers("session.join", joined("already_member", messages=[message("the recap")], cursor=""))
    assert shell.run("session", "join", "A3KE7DJR").code == 0
    assert shell.daemon.params_of("message.commit") == []


# -- decide ------------------------------------------------------------------------------------------------


def test_requests_lists_who_knocks(shell: Shell) -> None:
    shell.daemon.answers("session.requests", t.RequestList(room=ROOM, requests=[request()]))
    document = shell.run("session", "requests", "--room", "auth-redesign", "--json").document
    assert document["room"] == ROOM
    assert set(document["requests"][0]) >= {"agent", "name", "host", "requested", "fingerprint", "room"}


def test_requests_shows_names_as_claims_and_the_approving_command_alone(shell: Shell) -> None:
    shell.daemon.answers("session.requests", t.RequestList(room=ROOM, requests=[request("admin")]))
    lines = shell.run("session", "requests").stdout.splitlines()
    assert lines[0].startswith("admin (says: codex) wants to join 'auth-redesign', ")
    assert "parler session approve --room auth-redesign admin" in lines
    assert "ABCD-EFGH-IJKL" in lines[1]


@pytest.mark.parametrize("names", [["bob", "bob"], ["--all"]])
def test_where_a_name_does_not_say_who_is_meant_the_approving_command_names_the_id(
    shell: Shell, names: list[str]
) -> None:
    requests = [request(name) for name in names]
    shell.daemon.answers("session.requests", t.RequestList(room=ROOM, requests=requests))
    lines = shell.run("session", "requests").stdout.splitlines()
    assert lines.count(f"parler session approve --room auth-redesign {BOB}") == len(names)


def test_a_request_says_the_role_that_it_asks_for_as_a_claim(shell: Shell) -> None:
    found = t.RequestList(room=ROOM, requests=[request("bob", role="reviewer")])
    shell.daemon.answers("session.requests", found)
    assert shell.run("session", "requests").stdout.startswith("bob (says: codex, reviewer) wants to join")


@pytest.mark.parametrize("command", [["session", "join"], ["join"]])
def test_who_joins_may_say_a_role(shell: Shell, command: list[str]) -> None:
    shell.daemon.answers("session.join", joined("pending"))
    assert shell.run(*command, "A3KE7DJR", "--role", "reviewer").code == 4
    (params,) = shell.daemon.params_of("session.join")
    assert isinstance(params, t.JoinSession)
    assert (params.session_key, params.role) == ("A3KE7DJR", "reviewer")


def test_a_name_is_quoted_where_a_shell_would_read_more_in_it(shell: Shell) -> None:
    shell.daemon.answers("session.requests", t.RequestList(room=ROOM, requests=[request("codex@repo#2")]))
    lines = shell.run("session", "requests").stdout.splitlines()
    assert "parler session approve --room auth-redesign 'codex@repo#2'" in lines


def test_a_name_with_escapes_cannot_draw_on_the_approvers_terminal(shell: Shell) -> None:
    nasty = request("\x1b[2Kadmin\u202e", host="\x1b]0;x\x07", room_name="\x9b", fingerprint="\x1b[1m")
    shell.daemon.answers("session.requests", t.RequestList(room=None, requests=[nasty]))
    shell.daemon.answers("approvals.list", t.RequestList(room=None, requests=[nasty]))
    for words in (["session", "requests"], ["approvals", "--once"]):
        ran = shell.run(*words)
        assert "\x1b" not in ran.stdout
        assert "\u202e" not in ran.stdout
        assert "\x9b" not in ran.stdout


def test_a_request_to_write_directly_is_shown_and_decided_as_what_it_is(shell: Shell) -> None:
    asks = request("ann", direct_to="ben", room_name="dm/ann/ben")
    shell.daemon.answers("session.requests", t.RequestList(room=None, requests=[asks]))
    lines = shell.run("session", "requests").stdout.splitlines()
    assert lines[0].startswith("ann (says: codex) wants to write to ben, ")
    assert "parler session approve --room dm/ann/ben ann" in lines
    decided = t.Decided(room=ROOM, agent=BOB, status="approved", proof="cli", name="ann", direct_to="ben")
    shell.daemon.answers("session.approve", decided)
    assert shell.run("session", "approve", "ann").stdout == "Approved: ann may write to ben.\n"
    shell.daemon.answers("session.deny", msgspec.structs.replace(decided, status="denied"))
    said = "Denied: ann does not reach ben until you approve that agent after all.\n"
    assert shell.run("session", "deny", "ann").stdout == said


def test_approve_decides_and_prints_the_proof(shell: Shell) -> None:
    decided = t.Decided(room=ROOM, agent=BOB, status="approved", proof="cli", name="bob", room_name="auth-redesign")
    shell.daemon.answers("session.approve", decided)
    ran = shell.run("session", "approve", "--room", "auth-redesign", BOB, "--json")
    assert ran.document == msgspec.to_builtins(decided)
    assert {"room": ROOM, "agent": BOB, "status": "approved", "proof": "cli"}.items() <= ran.document.items()
    assert shell.daemon.params_of("session.approve") == [t.DecideJoin(agent=BOB, room="auth-redesign")]
    assert shell.run("session", "approve", BOB).stdout == "Approved: bob is now in 'auth-redesign'.\n"


@pytest.mark.parametrize(
    ("terminal", "code", "claimed"), [(True, "K7QM", True), (False, "K7QM", False), (True, None, False)]
)
def test_only_the_code_typed_at_a_terminal_claims_the_terminal_proof(
    shell: Shell, terminal: bool, code: str | None, claimed: bool
) -> None:
    shell.daemon.answers("session.approve", t.Decided(room=ROOM, agent=BOB, status="approved", proof="terminal"))
    shell.run("session", "approve", BOB, *(["--code", code] if code else []), terminal=terminal)
    assert shell.daemon.params_of("session.approve") == [t.DecideJoin(agent=BOB, join_code=code, terminal=claimed)]


def test_deny_asks_nothing(shell: Shell) -> None:
    shell.daemon.answers("session.deny", t.Decided(room=ROOM, agent=BOB, status="denied", proof="cli"))
    ran = shell.run("session", "deny", BOB, terminal=True)
    assert ran.code == 0
    assert "Denied" in ran.stdout


def test_an_ambiguous_name_lists_the_candidates(shell: Shell) -> None:
    shell.daemon.answers("session.approve", ParlerError("ambiguous_name", candidates=["U1", "U2"]))
    assert shell.run("session", "approve", "codex", "--json").document["error"]["details"]["candidates"] == ["U1", "U2"]
    ran = shell.run("session", "approve", "codex")
    assert ran.code == 1
    assert {"  U1", "  U2"} <= set(ran.stderr.splitlines())


# -- look after --------------------------------------------------------------------------------------------


def session_key(**more: Any) -> t.SessionKey:
    fields: dict[str, Any] = {
        "key_ref": "1f0c9a77",
        "session_key": "A3KE7DJR",
        "begins": "A3KE",
        "approval": True,
        "expires": 4_000_000_000_000,
        "uses": 1,
        "max_uses": 50,
        "state": "live",
    }
    return t.SessionKey(**{**fields, **more})


@pytest.mark.parametrize(
    ("more", "shown", "hidden"),
    [
        ({}, "A3KE7DJR live, 1/50 used", "1f0c9a77"),
        ({"session_key": ""}, "A3KE... live", "1f0c9a77"),
        ({"approval": False, "session_key": "A3KE7DJRA3KE7DJR"}, "A3KE... live", "A3KE7DJR"),
        ({"session_key": "", "begins": "", "state": "used_up"}, "1f0c9a77 used up", "..."),
    ],
)
def test_the_list_shows_of_a_key_what_a_person_knows_it_by(
    shell: Shell, more: dict[str, Any], shown: str, hidden: str
) -> None:
    session = t.SessionInfo(
        room=ROOM, name="auth", topic=PeerText("x"), owner="UA", state="open", active=True, keys=[session_key(**more)]
    )
    shell.daemon.answers("session.list", t.SessionList(sessions=[session]))
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room_info("auth")]))
    ran = shell.run("session", "list", "--wide")
    assert shown in ran.stdout
    assert hidden not in ran.stdout


def test_the_list_fits_80_columns_and_leaves_out_what_is_closed_unless_it_is_wide(shell: Shell) -> None:
    fields: dict[str, Any] = {"room": ROOM, "topic": PeerText("x"), "owner": "UA", "active": False}
    listed = [
        t.SessionInfo(name="auth-redesign", state="open", keys=[session_key(), session_key()], **fields),
        t.SessionInfo(name="over", state="closed", keys=[session_key(state="revoked")], **fields | {"room": "r_2"}),
    ]
    shell.daemon.answers("session.list", t.SessionList(sessions=listed))
    rooms = [room_info("auth-redesign", agents=["claude@web"]), room_info("over", room="r_2", state="closed")]
    shell.daemon.answers("rooms.list", t.RoomList(rooms=rooms))
    ran = shell.run("session", "list", terminal=True, width=80)
    assert "auth-redesign" in ran.stdout
    assert "over" not in ran.stdout
    assert "1 closed room is not shown" in ran.stderr
    assert len(ran.stdout.splitlines()) == 2
    assert "A3KE7DJR +1" in ran.stdout
    assert all(len(line) <= 80 for line in ran.stdout.splitlines())
    assert ROOM not in ran.stdout
    assert shell.run("session", "list", "--wide").stdout.count(ROOM) == 1
    everything = shell.run("session", "list", "--all").stdout
    assert "over" in everything
    assert "revoked" in everything


def test_the_list_shows_of_each_session_what_waits_there(shell: Shell) -> None:
    session = t.SessionInfo(
        room=ROOM, name="auth", topic=PeerText("x"), owner="UA", state="open", active=True, keys=[session_key()]
    )
    shell.daemon.answers("session.list", t.SessionList(sessions=[session]))
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room_info("auth", unread=3, pending=1, active=True)]))
    shell.daemon.answers("approvals.list", t.RequestList(room=None, requests=[request("bob")]))
    head, line = shell.run("session", "list", terminal=True, width=80).stdout.splitlines()
    assert head.split() == ["room", "unread", "who", "knocks", "last", "key"]
    assert line.split() == ["*", "auth", "3", "bob", "2023-11-14", "A3KE7DJR"]


def test_a_key_is_named_in_json_as_it_is_everywhere(shell: Shell) -> None:
    session = t.SessionInfo(
        room=ROOM, name="auth", topic=PeerText("x"), owner="UA", state="open", active=True, keys=[session_key()]
    )
    shell.daemon.answers("session.list", t.SessionList(sessions=[session]))
    shell.daemon.answers("session.open", opened())
    ((listed,),) = [each["keys"] for each in shell.run("session", "list", "--json").document["sessions"]]
    assert listed["key"] == shell.run("session", "open", "--json").document["key"]
    assert "code" not in listed


def test_taking_a_request_back_says_which(shell: Shell) -> None:
    withdrawn = t.WithdrawnKnock(room=ROOM, begins="A3KE")
    shell.daemon.answers("session.withdraw", withdrawn)
    ran = shell.run("session", "withdraw")
    assert (ran.code, ran.stdout.splitlines()[0]) == (0, "Your request to come in with the key A3KE... is taken back.")
    assert shell.run("session", "withdraw", "A3KE7DJR", "--json").document == msgspec.to_builtins(withdrawn)
    asked = shell.daemon.params_of("session.withdraw")
    assert [isinstance(each, t.WithdrawKnock) and each.session_key for each in asked] == ["", "A3KE7DJR"]


def test_revoking_says_which_key_of_which_session(shell: Shell) -> None:
    shell.daemon.answers(
        "session.revoke", t.RevokedKey(room=ROOM, key_ref="1f0c9a77", status="revoked", name="auth", begins="A3KE")
    )
    assert shell.run("session", "revoke", "A3KE").stdout.startswith("The key A3KE... of 'auth' is revoked.")


def test_close_list_and_revoke_print_their_results(shell: Shell) -> None:
    key = session_key()
    session = t.SessionInfo(
        room=ROOM, name="auth-redesign", topic=PeerText("x"), owner="UA", state="open", active=True, keys=[key]
    )
    closed = t.ClosedSession(room=ROOM, name="auth-redesign", status="closed")
    revoked = t.RevokedKey(room=ROOM, key_ref="1f0c9a77", status="revoked", name="auth-redesign", begins="A3KE")
    listed = t.SessionList(sessions=[session])
    shell.daemon.answers("session.close", closed)
    shell.daemon.answers("session.list", listed)
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room_info("auth-redesign")]))
    shell.daemon.answers("session.revoke", revoked)
    for words, result in (
        (["session", "close", "--room", "auth-redesign"], closed),
        (["session", "list"], listed),
        (["session", "revoke", "A3KE7DJR"], revoked),
    ):
        for terminal in (False, True):
            assert shell.run(*words, terminal=terminal).code == 0
        assert shell.run(*words, "--json").document == msgspec.to_builtins(result)


# -- interrupted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "command"), [([], "parler session join A3KE7DJR"), (["--as", "bob"], "")])
def test_an_interrupted_wait_says_what_stays_and_how_to_go_on(shell: Shell, words: list[str], command: str) -> None:
    def interrupted(_params: t.Params) -> t.Result:
        raise KeyboardInterrupt

    shell.daemon.answers("session.join", joined("pending"), interrupted)
    ran = shell.run("session", "join", "A3KE7DJR", *words, terminal=True)
    assert ran.code == 130
    assert "your request stays" in ran.stderr
    assert (command or "parler --as bob session join A3KE7DJR") in ran.stderr.splitlines()
