"""Inviting and leaving: what a person and a script see."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from parlerd.cli.session import CLEAR, SEALED
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.support.answers import BOB, ROOM, joined
from tests.support.cli import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home-of-a-person")


def invited(**more: Any) -> t.Invited:
    fields: dict[str, Any] = {
        "code": "A3KE7DJRA3KE7DJR",
        "link": "parler:join/A3KE7DJRA3KE7DJR",
        "room": ROOM,
        "name": "team",
        "kind": "channel",
        "expires": round(time.time() * 1000) + 86_400_000,
        "max_uses": 50,
        "approval": False,
        "opened": True,
    }
    return t.Invited(**{**fields, **more})


def test_invite_prints_the_code_and_the_command_that_takes_it_each_alone_on_its_line(shell: Shell) -> None:
    shell.daemon.answers("room.invite", invited())
    ran = shell.run("invite", "--group", "team")
    assert ran.code == 0
    lines = ran.stdout.splitlines()
    assert "CODE: A3KE7DJRA3KE7DJR" in lines
    assert "parler join A3KE7DJRA3KE7DJR" in lines
    assert "'team': for 1 day 50 agents may come in with this code. Keep it secret." in lines
    (params,) = shell.daemon.params_of("room.invite")
    assert isinstance(params, t.Invite)
    assert (params.group, params.room, params.approval, params.home) == ("team", None, None, "")
    assert params.idempotency_key


def test_an_invite_of_a_gated_room_elsewhere_says_who_decides_and_how_its_relay_is_added(shell: Shell) -> None:
    connect = "parler connect --relay wss://192.0.2.7:7777/#abc"
    shell.daemon.answers("room.invite", invited(approval=True, opened=False, max_uses=1, connect_command=connect))
    ran = shell.run(
        "invite", "--room", "auth-redesign", "--approval", "--ttl", "3600", "--max-uses", "1", "--key", "k1"
    )
    lines = ran.stdout.splitlines()
    assert "'team': for 1 day 1 agent may knock with this code; you decide about each." in lines
    assert connect in lines
    assert "is open" not in ran.stdout
    (params,) = shell.daemon.params_of("room.invite")
    assert params == t.Invite(room="auth-redesign", approval=True, ttl_ms=3_600_000, max_uses=1, idempotency_key="k1")


@pytest.mark.parametrize("clear", [False, True])
def test_an_invite_that_opens_a_channel_on_a_relay_says_who_can_read_it(shell: Shell, clear: bool) -> None:
    connect = "parler connect --relay wss://192.0.2.7:7777/#abc"
    shell.daemon.answers("room.invite", invited(sealed=not clear, connect_command=connect), invited())
    said = " ".join(shell.run("invite", "--group", "team", *(["--clear"] if clear else [])).stdout.split())
    assert (SEALED in said, CLEAR in said) == (not clear, clear)
    assert "the relay" not in shell.run("invite", "--group", "team").stdout
    (params, _) = shell.daemon.params_of("room.invite")
    assert isinstance(params, t.Invite)
    assert params.clear is clear


def test_invite_as_json_is_the_result(shell: Shell) -> None:
    answer = invited()
    shell.daemon.answers("room.invite", answer)
    document = shell.run("invite", "--group", "team", "--json").document
    assert document == msgspec.to_builtins(answer)
    assert set(document) >= {"code", "link", "room", "kind"}


def test_an_invite_that_names_nothing_is_for_one_agent(shell: Shell) -> None:
    shell.daemon.answers("room.invite", invited(name="dm/ann", kind="dm", max_uses=1))
    lines = shell.run("invite").stdout.splitlines()
    assert "CODE: A3KE7DJRA3KE7DJR" in lines
    assert "'dm/ann': for 1 day 1 agent may come in with this code. Keep it secret." in lines
    assert not any("channel" in line for line in lines)
    (params,) = shell.daemon.params_of("room.invite")
    assert isinstance(params, t.Invite)
    assert (params.group, params.room, params.max_uses) == ("", None, None)


@pytest.mark.parametrize("words", [("--group", "team", "--room", "x"), ("--group", "team", "--ttl", "5")])
def test_an_invite_to_two_things_is_a_mistake_of_usage(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.run("invite", *words).code == 2


def test_join_takes_a_link_as_session_join_does(shell: Shell) -> None:
    shell.daemon.answers("session.join", joined(name="team", you="bob"))
    ran = shell.run("join", "parler:join/A3KE7DJRA3KE7DJR")
    assert ran.code == 0
    assert "Joined 'team' as bob." in ran.stdout
    (params,) = shell.daemon.params_of("session.join")
    assert isinstance(params, t.JoinSession)
    assert params.session_key == "parler:join/A3KE7DJRA3KE7DJR"


def gone(status: str) -> t.MemberGone:
    return t.MemberGone(room=ROOM, room_name="team", agent=BOB, name="bob", status=status)


def test_leave_kick_and_archive_say_what_happened(shell: Shell) -> None:
    shell.daemon.answers("room.leave", gone("left"))
    shell.daemon.answers("room.kick", gone("kicked"))
    shell.daemon.answers("room.archive", t.ArchivedRoom(room=ROOM, name="team", status="archived"))
    assert shell.run("room", "leave", "--room", "team").stdout == "bob left 'team'.\n"
    assert shell.run("room", "kick", "bob", "--room", "team").stdout.splitlines()[0] == "bob is out of 'team'."
    assert "'team' is over for everyone." in shell.run("room", "archive", "team").stdout
    assert shell.daemon.params_of("room.kick") == [t.KickMember(agent="bob", room="team")]
    assert shell.daemon.params_of("room.leave") == [t.LeaveAsMember(room="team")]
    assert shell.daemon.params_of("room.archive") == [t.ArchiveRoom(room="team")]


def test_leave_kick_and_archive_as_json_are_the_results(shell: Shell) -> None:
    shell.daemon.answers("room.leave", gone("left"))
    shell.daemon.answers("room.kick", gone("kicked"))
    archived = t.ArchivedRoom(room=ROOM, name="team", status="archived")
    shell.daemon.answers("room.archive", archived)
    assert shell.run("room", "leave", "--json").document == msgspec.to_builtins(gone("left"))
    assert shell.run("room", "kick", "bob", "--json").document == msgspec.to_builtins(gone("kicked"))
    assert shell.run("room", "archive", "team", "--json").document == msgspec.to_builtins(archived)


def given(role: str, *, locked: bool = False) -> t.RoleOfMember:
    return t.RoleOfMember(room=ROOM, room_name="team", agent=BOB, name="bob", role=role, locked=locked)


def test_role_says_what_a_member_is_now_and_whether_it_stays_so(shell: Shell) -> None:
    shell.daemon.answers("room.role", given("reviewer"), given("admin", locked=True), given(""))
    assert shell.run("role", "bob", "reviewer", "--room", "team").stdout == "bob is reviewer in 'team'.\n"
    assert shell.run("role", "bob", "admin", "--lock").stdout.splitlines() == [
        "bob is admin in 'team'.",
        "It stays so until you say otherwise, whatever the agent says.",
    ]
    assert shell.run("role", "bob", "").stdout == "bob has no role in 'team'.\n"
    assert shell.daemon.params_of("room.role") == [
        t.GiveRole(agent="bob", role="reviewer", room="team"),
        t.GiveRole(agent="bob", role="admin", lock=True),
        t.GiveRole(agent="bob", role=""),
    ]


def test_role_as_json_is_the_result_and_without_a_role_it_is_a_usage_error(shell: Shell) -> None:
    shell.daemon.answers("room.role", given("reviewer", locked=True), ParlerError("not_owner"))
    ran = shell.run("role", "bob", "reviewer", "--lock", "--json")
    assert ran.document == msgspec.to_builtins(given("reviewer", locked=True))
    assert shell.run("role", "bob").code == 2
    assert shell.run("role", "bob", "admin").code == 1


def deleted(status: Any, **more: Any) -> t.DeletedRoom:
    fields: dict[str, Any] = {"home": "local", "members": 2, "messages": 128, "bytes": 61_440}
    return t.DeletedRoom(room=ROOM, name="team", status=status, **{**fields, **more})


def test_a_room_is_deleted_after_the_person_saw_what_goes_and_said_yes(shell: Shell) -> None:
    shell.daemon.answers("room.delete", deleted("asked"), deleted("deleted"))
    ran = shell.run("room", "delete", "team", stdin=b"y\n", terminal=True)
    assert ran.code == 0
    assert "This deletes 'team' for everyone: 2 members and 128 messages (61 kB)." in ran.stderr
    assert "'team' is deleted: 128 messages (61 kB) are gone." in ran.stdout
    assert shell.daemon.params_of("room.delete") == [
        t.DeleteRoom(room="team"),
        t.DeleteRoom(room="team", confirmed=True),
    ]


def test_without_a_yes_nothing_is_deleted(shell: Shell) -> None:
    shell.daemon.answers("room.delete", deleted("asked", home="team-7f3k2q"))
    ran = shell.run("room", "delete", "team")
    assert ran.code != 0
    assert "This deletes 'team' on team-7f3k2q for everyone" in ran.stderr
    assert "parler room delete team --yes" in ran.stderr
    assert shell.daemon.params_of("room.delete") == [t.DeleteRoom(room="team")]


def test_what_a_deletion_does_not_reach_is_named(shell: Shell) -> None:
    done = deleted("clearing", copies=["/home/ann/.parler/backups/parler-schema-7.db"])
    shell.daemon.answers("room.delete", done, done)
    ran = shell.run("room", "delete", "team", "--yes")
    assert "still being taken out of the database" in ran.stdout
    assert "/home/ann/.parler/backups/parler-schema-7.db" in ran.stderr
    assert shell.run("room", "delete", "team", "--yes", "--json").document == msgspec.to_builtins(done)


def test_who_lets_agents_go_on_is_told_which_and_how_often_they_woke_each_other(shell: Shell) -> None:
    pair = t.WokenPair(one="alice", other="bob", turns=20)
    done = t.ContinuedRoom(room=ROOM, name="team", status="continued", turns=20, pairs=[pair], was_paused=True)
    shell.daemon.answers("room.continue", done, done)
    ran = shell.run("room", "continue", "team")
    assert ran.code == 0
    assert ran.stdout.splitlines() == [
        "Your agents go on in 'team'.",
        "  alice and bob: 20 turns before this",
        "The turns of this hour were used up, in all rooms together; they begin anew.",
    ]
    assert shell.daemon.params_of("room.continue") == [t.ContinueRoom(room="team")]
    assert shell.run("room", "continue", "--json").document == msgspec.to_builtins(done)
    assert shell.daemon.params_of("room.continue")[-1] == t.ContinueRoom()
    shell.daemon.answers("room.continue", done)
    assert shell.run("room", "continue", "team", "--message", "m_1").code == 0
    assert shell.daemon.params_of("room.continue")[-1] == t.ContinueRoom(room="team", message="m_1")


def test_who_lets_agents_go_on_where_no_message_begins_a_turn_is_told_so(shell: Shell) -> None:
    done = t.ContinuedRoom(room=ROOM, name="team", status="continued", turns=0)
    shell.daemon.answers("room.continue", done)
    ran = shell.run("room", "continue", "team")
    assert "no agent's message begins a turn there" in ran.stdout
    assert "go on" not in ran.stdout
    assert f"parler room turns {ROOM} default" in ran.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "sent", "answer", "said"),
    [
        ((), None, (20, True), "at most 20 turns by their messages in one conversation here. That is the default."),
        (("1",), 1, (1, False), "at most 1 turn by their messages in one conversation here."),
        (("0",), 0, (0, False), "No agent's message begins a turn of your agents here."),
        (("default",), "default", (20, True), "That is the default."),
    ],
)
def test_how_many_turns_two_agents_may_begin_is_set_and_shown(
    shell: Shell, words: tuple[str, ...], sent: int | Literal["default"] | None, answer: tuple[int, bool], said: str
) -> None:
    done = t.RoomTurns(room=ROOM, name="team", turns=answer[0], is_default=answer[1])
    shell.daemon.answers("room.turns", done, done)
    ran = shell.run("room", "turns", "team", *words)
    assert ran.code == 0
    assert ran.stdout.endswith(f"{said}\n")
    assert shell.daemon.params_of("room.turns") == [t.TurnsInRoom(room="team", turns=sent)]
    assert shell.run("room", "turns", "team", *words, "--json").document == msgspec.to_builtins(done)


@pytest.mark.parametrize(
    ("words", "sent", "own", "said"),
    [
        (
            (),
            {},
            {},
            "This machine keeps the newest 100000 messages and at most 1.1 GB of words.\n"
            "That is the same for every room that lives here and has no limit of its own.\n",
        ),
        (
            ("--messages", "500", "--days", "1"),
            {"messages": 500, "days": 1},
            {"messages": 500, "days": 1},
            "Set for this room alone: the newest 500 messages and what is no older than 1 day. To leave it to the "
            f"settings again:\nparler room retention {ROOM} --messages default --days default\n",
        ),
        (("--bytes", "default"), {"bytes": "default"}, {}, "has no limit of its own.\n"),
    ],
)
def test_how_much_is_kept_of_a_room_is_set_and_shown(
    shell: Shell, words: tuple[str, ...], sent: dict[str, Any], own: dict[str, int], said: str
) -> None:
    limits = {"messages": 100_000, "bytes": 1024**3, **own}
    done = t.KeptOfRoom(room=ROOM, name="team", own=t.KeptLimits(**own), limits=t.KeptLimits(**limits))
    shell.daemon.answers("room.retention", done, done)
    ran = shell.run("room", "retention", "team", *words)
    assert ran.code == 0
    assert said in ran.stdout
    assert shell.daemon.params_of("room.retention") == [t.KeepOfRoom(room="team", **sent)]
    assert shell.run("room", "retention", "team", *words, "--json").document == msgspec.to_builtins(done)


@pytest.mark.parametrize("number", ["-1", "0", "many", "1.5", ""])
def test_a_limit_that_makes_no_sense_is_refused_before_anything_is_sent(shell: Shell, number: str) -> None:
    for option in ("--messages", "--bytes", "--days"):
        assert shell.run("room", "retention", "team", option, number).code == 2
    assert shell.daemon.params_of("room.retention") == []


@pytest.mark.parametrize("number", ["-1", "1001", "many", "1.5", ""])
def test_a_number_of_turns_that_makes_no_sense_is_refused_before_anything_is_sent(shell: Shell, number: str) -> None:
    ran = shell.run("room", "turns", "team", number)
    assert ran.code == 2
    assert shell.daemon.params_of("room.turns") == []


def test_where_nobody_was_held_back_continuing_says_so(shell: Shell) -> None:
    shell.daemon.answers("room.continue", t.ContinuedRoom(room=ROOM, name="team", status="nothing", turns=20))
    ran = shell.run("room", "continue", "team")
    assert (ran.code, ran.stdout) == (0, "No agent of yours was woken in 'team': nothing was held back.\n")


# -- a sealed room without its owner -----------------------------------------------------------------------


def test_who_may_go_on_is_named_and_told_how(shell: Shell) -> None:
    named = t.SuccessorNamed(room=ROOM, room_name="team", status="named", principal="A2", names=["bob"])
    shell.daemon.answers("room.successor", named, named)
    ran = shell.run("room", "successor", "bob", "--room", "team")
    assert ran.code == 0
    assert "The person of bob may take 'team' over once you are gone." in ran.stdout
    assert f"parler room continue {ROOM} --without-owner" in ran.stdout.splitlines()
    assert shell.run("room", "successor", "bob", "--json").document == msgspec.to_builtins(named)
    asked = shell.daemon.params_of("room.successor")
    assert asked == [t.NameSuccessor(room="team", person="bob"), t.NameSuccessor(person="bob")]


def test_that_nobody_goes_on_is_said_by_a_word_of_its_own(shell: Shell) -> None:
    shell.daemon.answers("room.successor", t.SuccessorNamed(room=ROOM, room_name="team", status="nobody"))
    ran = shell.run("room", "successor", "--none")
    assert "Nobody may take 'team' over once you are gone." in ran.stdout
    assert shell.daemon.params_of("room.successor") == [t.NameSuccessor(nobody=True)]
    for wrong in ((), ("bob", "--none")):
        ran = shell.run("room", "successor", *wrong)
        assert ran.code == 2
        assert "name a person, or say --none" in ran.stderr


def test_a_room_goes_on_without_its_owner_as_another_s_or_as_another_room(shell: Shell) -> None:
    taken = t.ContinuedRoom(room=ROOM, name="team", status="taken_over", turns=20, owner="bob")
    other = t.ContinuedRoom(
        room="r_2", name="team-2", status="reopened", turns=20, owner="bob", session_key="A3KE7DJR@relay"
    )
    shell.daemon.answers("room.continue", taken, other)
    ran = shell.run("room", "continue", "team", "--without-owner")
    assert "bob owns 'team' now, as its owner before had named you." in ran.stdout
    ran = shell.run("room", "continue", "team", "--without-owner")
    assert "The other session is called 'team-2', and bob owns it." in ran.stdout
    assert "A3KE7DJR@relay" in ran.stdout.splitlines()
    assert shell.daemon.params_of("room.continue") == [t.ContinueRoom(room="team", without_owner=True)] * 2
