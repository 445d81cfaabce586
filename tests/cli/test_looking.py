"""rooms, roster, whoami and watch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from parlerd.core.errors import ERRORS, ParlerError
from parlerd.core.model import PeerText
from parlerd.operations import types as t
from tests.support.answers import ALICE, ROOM, message, request
from tests.support.cli import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def room(name: str = "auth-redesign", **more: object) -> t.RoomInfo:
    fields = {
        "room": ROOM,
        "name": name,
        "topic": PeerText("auth"),
        "kind": "session",
        "home": "local",
        "owner": "alice",
        "members": 2,
        "unread": 3,
        "last_at": 1_700_000_000_000,
        "active": True,
        "state": "open",
    }
    return msgspec.convert({**fields, **more}, t.RoomInfo)


def test_rooms_prints_every_room_with_what_is_unread(shell: Shell) -> None:
    listed = t.RoomList(rooms=[room(pending=2), room("other", active=False, unread=0)])
    shell.daemon.answers("rooms.list", listed)
    shell.daemon.answers("approvals.list", t.RequestList(room=None, requests=[request("bob"), request("carol")]))
    document = shell.run("rooms", "--json").document
    assert document == msgspec.to_builtins(listed)
    assert set(document["rooms"][0]) >= {"room", "kind", "home", "owner", "members", "unread", "last_at", "active"}
    for terminal in (False, True):
        ran = shell.run("rooms", terminal=terminal)
        assert "* auth-redesign" in ran.stdout
        assert "bob +1" in ran.stdout


def test_rooms_with_sizes_shows_what_is_kept_of_each_and_of_all_together(shell: Shell) -> None:
    limits = t.KeptLimits(messages=100_000, bytes=1 << 30)
    kept = t.KeptSize(messages=128, bytes=61_440, limits=limits, files=2, file_bytes=3_000_000, erased=17)
    total = t.KeptSize(messages=500, bytes=7_300_000, limits=t.KeptLimits(bytes=16 << 30), file_bytes=4_000_000)
    few = t.KeptSize(messages=1, bytes=9, limits=t.KeptLimits(days=1), files=0, file_bytes=0, erased=0)
    own = t.KeptSize(messages=3, bytes=9, limits=t.KeptLimits(messages=50), file_bytes=0, has_own=True)
    rooms = [room(kept=kept), room("other", home="team", kept=few), room("short", kept=own)]
    listed = t.RoomList(rooms=rooms, kept=total)
    shell.daemon.answers("rooms.list", listed, listed, t.RoomList(rooms=[room()]))
    ran = shell.run("rooms", "--size")
    header, row, other, _, *said = ran.stdout.splitlines()
    assert header.split()[-6:] == ["messages", "size", "files", "of", "size", "erased"]
    assert row.split()[-7:] == ["128", "61", "kB", "2", "3.0", "MB", "17"]
    assert other.split()[-3:] == ["1", "9", "bytes"]
    assert said == [
        "This machine keeps 500 messages in all rooms together, which take 7.3 MB, and files that take 4.0 MB.",
        "Of a room that lives here it keeps the newest 100000 messages and at most 1.1 GB of words.",
        "Of a room that lives elsewhere it keeps what is no older than 1 day.",
        "Of 'short' it keeps the newest 50 messages, as you set for this room.",
        "Of all rooms that live here it keeps at most 17.2 GB of words.",
    ]
    assert shell.run("rooms", "--size", "--json").document == msgspec.to_builtins(listed)
    assert "messages" not in shell.run("rooms").stdout
    asked = [params.size for params in shell.daemon.params_of("rooms.list") if isinstance(params, t.ListRooms)]
    assert asked == [True, True, False]


def test_rooms_says_of_a_room_to_which_nothing_can_be_sent_why_and_what_to_do(shell: Shell) -> None:
    listed = t.RoomList(rooms=[room(alarm="relay_rolled_back"), room("other"), room("newer", alarm="made_up_later")])
    shell.daemon.answers("rooms.list", listed)
    said = shell.run("rooms").stdout
    spec = ERRORS["relay_rolled_back"]
    assert f"auth-redesign: {spec.message} {spec.hint}" in said
    assert "\nother: " not in said
    assert "\nnewer: " not in said


def test_rooms_says_where_the_agent_waits_to_be_let_in(shell: Shell) -> None:
    coded = t.Knocking(room=ROOM, join_code="K7QM", begins="A3KE")
    waits = [coded, t.Knocking(room="r_other", join_code=None)]
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[], waits=waits), t.RoomList(rooms=[room()], waits=[coded]))
    said = shell.run("rooms").stdout
    assert "with the key that begins A3KE: your code is K7QM" in said
    assert "let into a session; there is no code yet." in said
    assert "There is no room yet" not in said
    said = shell.run("rooms").stdout
    assert "K7QM" in said
    assert "auth-redesign" in said


def test_whether_its_relay_can_read_a_room_is_said(shell: Shell) -> None:
    listed = t.RoomList(rooms=[room(sealed=True, home="team"), room("other", home="team"), room("here")])
    shell.daemon.answers("rooms.list", listed, listed)
    for words in ((), ("--wide",)):
        header, *rows = shell.run("rooms", *words).stdout.splitlines()
        assert "kind" in header
        said = [{"sealed", "clear"} & set(row.split()) for row in rows[:3]]
        assert said == [{"sealed"}, {"clear"}, set()]
    pending = "Key change pending since 2026-11-30 20:00 UTC."
    members = t.RosterResult(room=ROOM, name="auth-redesign", members=[], home="team", sealed=True, notice=pending)
    clear, here = (msgspec.structs.replace(members, sealed=False, home=home, notice="") for home in ("team", "local"))
    shell.daemon.answers("rooms.roster", members, clear, here)
    ran = shell.run("roster")
    assert "'auth-redesign'  sealed" in ran.stdout
    assert " ".join(ran.stderr.split()) == pending
    assert "'auth-redesign'  clear: the relay can read this room" in shell.run("roster").stdout
    assert "clear" not in shell.run("roster").stdout


COMPARED = t.RoomCompared(
    room=ROOM,
    name="auth-redesign",
    home="team-7f3k2q",
    characters="A3KE-7DJR-V4Q7-M2XC-9PHT",
    epoch=3,
    since=1_795_860_000_000,
    readers=[
        t.Reader(id="U1", name="alice", fingerprint="ABCD-EFGH-IJKL", principal="A1", owner=True),
        t.Reader(id="U2", name="bob", fingerprint="MNPQ-RSTV-WXYZ", principal="A2"),
    ],
)


def test_what_members_of_a_sealed_room_compare_stands_alone_on_its_line_with_how_to_compare(shell: Shell) -> None:
    shell.daemon.answers("room.verify", COMPARED, COMPARED, COMPARED)
    ran = shell.run("room", "verify", "auth-redesign")
    first, characters, *_ = ran.stdout.splitlines()
    assert (first, characters) == ("'auth-redesign'  sealed, on team-7f3k2q", COMPARED.characters)
    said = " ".join(ran.stdout.split())
    assert "Epoch 3, since" in said
    assert "alice ABCD-EFGH-IJKL owner bob MNPQ-RSTV-WXYZ member" in said
    assert "reads the characters aloud over a channel that is not Parler" in said
    assert ran.stderr == ""
    assert "A2" not in ran.stdout
    assert {"U1", "U2", "A1", "A2"} <= {*shell.run("room", "verify", "--wide").stdout.split()}
    assert shell.run("room", "verify", "--json").document == msgspec.to_builtins(COMPARED)
    asked = shell.daemon.params_of("room.verify")
    assert asked == [t.CompareRoom(room="auth-redesign"), t.CompareRoom(), t.CompareRoom()]


def test_a_sealed_room_shows_when_its_owner_was_heard_of_and_who_goes_on(shell: Shell) -> None:
    said: dict[str, Any] = {"owner_heard": round(time.time() * 1000), "successor": ["bob", "bobby"]}
    roster = t.RosterResult(room=ROOM, name="auth-redesign", members=[], sealed=True, **said)
    shell.daemon.answers("room.verify", msgspec.structs.replace(COMPARED, **said), COMPARED)
    shell.daemon.answers("rooms.roster", roster)
    for command in (("room", "verify"), ("roster",)):
        words = " ".join(shell.run(*command).stdout.split())
        assert "The machine of the owner last signed something here: " in words
        assert "Once the owner is gone, the person of bob, bobby may go on." in words
    words = shell.run("room", "verify").stdout
    assert "machine of the owner" not in words
    assert "may go on" not in words


def test_who_compares_is_told_that_a_key_change_is_pending_and_what_is_wrong_with_the_room(shell: Shell) -> None:
    pending = "Key change pending since 2026-11-30 20:00 UTC."
    found = msgspec.structs.replace(COMPARED, notice=pending, alarm="relay_equivocation")
    shell.daemon.answers("room.verify", found)
    said = " ".join(shell.run("room", "verify").stderr.split())
    spec = ERRORS["relay_equivocation"]
    assert pending in said
    assert spec.message in said


SILENT = "Nothing was heard from team-7f3k2q for 5 min: its sessions may look different by now."


def test_a_list_says_which_homes_were_not_heard_from(shell: Shell) -> None:
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room(silent_since=7)], notice=SILENT))
    assert " ".join(shell.run("rooms").stderr.split()) == SILENT
    document = shell.run("rooms", "--json").document
    assert (document["notice"], document["rooms"][0]["silent_since"]) == (SILENT, 7)
    roster = t.RosterResult(room=ROOM, name="auth-redesign", members=[], silent_since=0, notice=SILENT)
    shell.daemon.answers("rooms.roster", roster)
    assert " ".join(shell.run("roster").stderr.split()) == SILENT
    assert shell.run("roster", "--json").document["silent_since"] == 0
    asked = t.RequestList(room=None, requests=[], notice=SILENT)
    shell.daemon.answers("approvals.list", asked)
    assert " ".join(shell.run("approvals", "--once").stderr.split()) == SILENT
    shell.daemon.answers("session.requests", asked)
    assert " ".join(shell.run("session", "requests").stderr.split()) == SILENT


def test_a_list_of_homes_that_are_heard_from_says_nothing_of_it(shell: Shell) -> None:
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room()]))
    assert shell.run("rooms").stderr == ""
    assert "silent_since" not in shell.run("rooms", "--json").document["rooms"][0]


def test_rooms_says_which_of_ones_agents_is_in_each_where_that_differs(shell: Shell) -> None:
    shell.daemon.answers(
        "rooms.list", t.RoomList(rooms=[room(agents=["sam"]), room("b", agents=["codex@repo", "bob"])])
    )
    assert "codex@repo +1" in shell.run("rooms").stdout
    ran = shell.run("rooms", "--wide")
    assert ran.stdout.count(ROOM) == 2
    assert "your agents" in ran.stdout
    assert "codex@repo, bob" in ran.stdout


def test_rooms_does_not_repeat_the_one_agent_that_is_in_all_of_them(shell: Shell) -> None:
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room(agents=["sam"]), room("b", agents=["sam"])]))
    assert "your agents" not in shell.run("rooms", terminal=True).stdout


def test_rooms_fits_80_columns_with_what_wants_attention_first_and_without_what_is_closed(shell: Shell) -> None:
    rooms = [
        room("quiet", unread=0, active=False, last_at=3),
        room("old-and-over", state="closed", active=False),
        room("auth-redesign-of-the-whole-service", unread=2, agents=["claude-code@webshop", "codex@webshop"]),
    ]
    shell.daemon.answers("rooms.list", t.RoomList(rooms=rooms))
    ran = shell.run("rooms", terminal=True, width=80)
    lines = ran.stdout.splitlines()
    assert ran.stdout.index("auth-redesign-of-the-whole-service") < ran.stdout.index("quiet")
    assert "old-and-over" not in ran.stdout
    assert ROOM not in ran.stdout
    assert "1 closed room is not shown; --all shows all." in ran.stderr
    assert all(len(line) <= 80 for line in lines)
    assert len(lines) == 3


def test_where_everything_is_closed_the_list_says_so(shell: Shell) -> None:
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room(state="closed"), room("b", state="closed")]))
    ran = shell.run("rooms")
    assert ran.stdout == ""
    assert "2 closed rooms are not shown" in ran.stderr


def test_rooms_all_shows_what_is_closed_and_wide_the_ids(shell: Shell) -> None:
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room(), room("over", state="closed")]))
    ran = shell.run("rooms", "--all")
    assert "over" in ran.stdout
    assert "closed" in ran.stdout
    assert ROOM not in ran.stdout
    assert ran.stderr == ""
    assert shell.run("rooms", "--wide").stdout.count(ROOM) == 1
    assert shell.run("rooms", "--wide", "--all").stdout.count(ROOM) == 2


@pytest.mark.parametrize("width", [50, 80, 120])
def test_a_room_takes_one_line_however_long_its_name(shell: Shell, width: int) -> None:
    names = ["auth-redesign-of-the-whole-service-and-all-its-clients-by-friday", "b"]
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room(name, pending=1) for name in names]))
    knocking = [request("claude-code@the-other-checkout-of-the-shop-of-a-friend") for _ in range(3)]
    shell.daemon.answers("approvals.list", t.RequestList(room=None, requests=knocking))
    lines = shell.run("rooms", terminal=True, width=width).stdout.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert lines[0].split() == ["room", "unread", "who", "knocks", "last"]
    assert lines[1].split()[-1] == lines[2].split()[-1] == "2023-11-14"


def test_a_topic_that_the_name_cannot_say_is_shown_beside_it(shell: Shell) -> None:
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room("session", topic=PeerText("авторизация"))]))
    assert "авторизация" in shell.run("rooms").stdout


def test_a_table_off_a_terminal_is_whole_and_aligned(shell: Shell) -> None:
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[room("x" * 120, topic=PeerText("日本")), room("b")]))
    lines = shell.run("rooms", "--wide").stdout.splitlines()
    assert "x" * 120 in lines[1]
    assert lines[2].index("session") == lines[0].index("kind")


def test_being_in_no_room_says_what_to_do(shell: Shell) -> None:
    shell.daemon.answers("rooms.list", t.RoomList(rooms=[]))
    assert "parler session open --topic TOPIC" in shell.run("rooms").stdout.splitlines()


def test_roster_shows_hosts_as_claims(shell: Shell) -> None:
    member = t.RosterMember(
        id=ALICE,
        name="alice",
        role="",
        host="codex",
        owner=True,
        state="member",
        presence="idle",
        since=1_700_000_000_000,
    )
    shell.daemon.answers("rooms.roster", t.RosterResult(room=ROOM, name="auth-redesign", members=[member]))
    assert shell.run("roster", "--json").document["members"][0]["name"] == "alice"
    assert ALICE in shell.run("roster", "--wide").stdout
    ran = shell.run("roster", "--room", "auth-redesign")
    assert ALICE not in ran.stdout
    assert "says it is on" in ran.stdout
    assert "owner" in ran.stdout
    assert "turn" not in ran.stdout
    assert shell.daemon.params_of("rooms.roster")[-1] == t.Roster(room="auth-redesign")


def test_the_roster_says_how_many_turns_the_person_lets_two_agents_begin_where_a_number_was_set(shell: Shell) -> None:
    shell.daemon.answers("rooms.roster", msgspec.structs.replace(roster("alice"), turns=3))
    said = "Two agents begin at most 3 turns by their messages in one conversation here."
    assert shell.run("roster").stdout.splitlines()[-1] == said


def test_whoami_is_who_acts(shell: Shell) -> None:
    me = t.Me(id=ALICE, name="alice", host="", home="/h", principal="AX", fingerprint="ABCD-EFGH-IJKL")
    shell.daemon.answers("agent.whoami", me)
    assert set(shell.run("whoami", "--json").document) >= {"id", "name", "host", "home"}
    assert shell.run("whoami").stdout.splitlines()[0] == "alice"
    assert "fingerprint ABCD-EFGH-IJKL\n" in shell.run("whoami").stdout
    assert "AX" not in shell.run("whoami").stdout
    assert "AX" in shell.run("whoami", "--wide").stdout


def test_whoami_names_the_session(shell: Shell) -> None:
    shell.daemon.answers(
        "agent.whoami", t.Me(id=ALICE, name="alice", host="", home="local", principal="AX", active=ROOM)
    )
    shell.daemon.answers("rooms.roster", roster("alice"))
    said = shell.run("whoami").stdout
    assert "session     auth\n" in said
    assert ROOM not in said
    assert shell.daemon.params_of("rooms.roster") == [t.Roster(room=ROOM)]


def item(text: str, id: str) -> t.WatchItem:
    return t.WatchItem(room=ROOM, name="auth", event="message", message=message(text, id=id), at=1)


def roster(*names: str) -> t.RosterResult:
    members = [
        t.RosterMember(
            id=ALICE, name=name, role="", host="codex", owner=False, state="member", presence="idle", since=1
        )
        for name in names
    ]
    return t.RosterResult(room=ROOM, name="auth", members=members)


def test_watch_says_at_once_which_room_it_follows(shell: Shell) -> None:
    shell.daemon.answers("rooms.roster", roster("alice", "bob\x1b[2K", *(f"c{n}" for n in range(8))))
    shell.daemon.streams("room.watch", KeyboardInterrupt())
    ran = shell.run("watch", "--room", "auth")
    assert ran.code == 130
    assert ran.stderr.startswith(
        "This command follows 'auth', with alice, bob\\x1b[2K, c0, c1, c2, c3, c4, c5 and 2 more in it. "
    )
    assert shell.daemon.params_of("rooms.roster") == [t.Roster(room="auth")]


def test_watch_prints_one_object_a_line(shell: Shell) -> None:
    joined = t.WatchItem(room=ROOM, name="auth", event="joined", agent="bob", at=2)
    shell.daemon.streams("room.watch", item("one", "m_1"), joined)
    ran = shell.run("watch", "--json")
    assert ran.code == 0
    first, second = ran.items
    assert first["message"]["text"] == "one"
    assert second["agent"] == "bob"
    assert "message" not in second


def test_watch_goes_on_after_a_restart_and_shows_nothing_twice(shell: Shell) -> None:
    shell.daemon.streams("room.watch", item("one", "m_1"), ParlerError("connection_lost"))
    shell.daemon.streams("room.watch", item("one", "m_1"), item("two", "m_2"))
    ran = shell.run("watch", "--room", "auth", "--tail", "3", "--json")
    assert ran.code == 0
    assert [each["message"]["text"] for each in ran.items] == ["one", "two"]
    assert [(each["number"], each["message"]["seq"]) for each in ran.items] == [(1, 1), (2, 2)]
    first, second = shell.daemon.params_of("room.watch")
    assert first == t.WatchRoom(room="auth", tail=3)
    assert isinstance(second, t.WatchRoom)
    assert second.tail > 3


def test_watch_says_what_a_member_is_now(shell: Shell) -> None:
    shell.daemon.streams(
        "room.watch",
        *(t.WatchItem(room=ROOM, name="auth", event="role", agent="bob", role=role, at=2) for role in ("a\x1b[2K", "")),
    )
    shell.daemon.answers("rooms.roster", roster("alice", "bob"))
    given, taken = shell.run("watch").stdout.splitlines()
    assert given.endswith("bob is a\\x1b[2K now")
    assert taken.endswith("bob has no role any more")


def test_the_roster_says_which_roles_are_the_owners_word(shell: Shell) -> None:
    found = roster("alice", "bob")
    found.members[1] = msgspec.structs.replace(found.members[1], role="reviewer", locked=True)
    shell.daemon.answers("rooms.roster", found)
    alice, bob = shell.run("roster").stdout.splitlines()[-2:]
    assert ("reviewer (locked)" in bob, "locked" in alice) == (True, False)


def test_watch_for_a_person_names_who_came(shell: Shell) -> None:
    shell.daemon.streams(
        "room.watch",
        t.WatchItem(room=ROOM, name="auth", event="joined", agent="bob\x1b[2K", at=2),
        item("hello", "m_1"),
        t.WatchItem(room=ROOM, name="auth", event="knocked", agent="dan", at=2),
        t.WatchItem(room=ROOM, name="auth", event="left", agent="bob", at=2),
        t.WatchItem(room=ROOM, name="auth", event="closed", at=2),
    )
    shell.daemon.answers("rooms.roster", roster("alice", "bob"))
    ran = shell.run("watch")
    assert "bob\\x1b[2K came in" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert "hello" in ran.stdout
    assert "who says it is dan knocks" in ran.stdout
    assert "parler approvals" in ran.stdout
    assert "bob left" in ran.stdout
    assert "'auth' is closed" in ran.stdout
    heads = [line for line in ran.stdout.splitlines() if line.startswith("#")]
    assert [head.split()[0] for head in heads] == ["#1", "#2", "#3", "#4", "#5"]


def test_watch_shows_a_turn_that_goes_over_as_a_turn_of_others(shell: Shell) -> None:
    given = t.Handoff(next=PeerText("wire the UI"), summary=PeerText("done"), for_="bob", to_you=True)
    shell.daemon.streams(
        "room.watch",
        t.WatchItem(room=ROOM, name="auth", event="message", message=message(kind="handoff", handoff=given), at=1),
    )
    shell.daemon.answers("rooms.roster", roster("alice", "bob"))
    said = shell.run("watch").stdout
    assert "alice · handoff to bob" in said
    assert "wire the UI" in said
    assert "TO YOU" not in said


def test_watch_of_no_room_of_ours_is_an_error_line(shell: Shell) -> None:
    shell.daemon.streams("room.watch", ParlerError("no_such_room"))
    ran = shell.run("watch", "--room", "x", "--json")
    assert ran.code == 1
    assert ran.items[0]["error"]["code"] == "no_such_room"


def test_watch_that_is_interrupted_exits_130(shell: Shell) -> None:
    shell.daemon.streams("room.watch", item("one", "m_1"), KeyboardInterrupt())
    ran = shell.run("watch", "--json")
    assert ran.code == 130
    assert len(ran.items) == 1


REWOUND = t.RewoundRoom(
    room=ROOM,
    name="auth-redesign",
    home="team-7f3k2q",
    status="asked",
    lost=[t.LostWords(author="ann", messages=2), t.LostWords(author="bob", messages=1)],
    newest="bob",
    newest_at=1_700_000_000_000,
)


def test_a_room_is_rewound_only_after_a_person_saw_what_is_lost_and_said_yes(shell: Shell) -> None:
    shell.daemon.answers("room.rewind", REWOUND)
    ran = shell.run("room", "rewind", "auth-redesign", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "needs_yes")
    assert "parler room rewind auth-redesign --json --yes" in ran.document["error"]["hint"]
    ran = shell.run("room", "rewind", "auth-redesign", terminal=True, stdin=b"n\n")
    assert ran.code == 1
    said = " ".join(ran.stderr.split())
    assert "2 messages of ann, 1 message of bob" in said
    assert "The newest that stays is bob's" in said
    look = t.RewindRoom(room="auth-redesign")
    assert shell.daemon.params_of("room.rewind") == [look, look]
    ran = shell.run("room", "rewind", "auth-redesign", terminal=True, stdin=b"y\n")
    assert ran.code == 0
    assert "3 messages stay here as lost" in ran.stdout
    assert shell.daemon.params_of("room.rewind")[2:] == [look, t.RewindRoom(room="auth-redesign", confirmed=True)]


def test_a_room_of_which_this_machine_misses_nothing_is_rewound_for_others(shell: Shell) -> None:
    shell.daemon.answers("room.rewind", msgspec.structs.replace(REWOUND, lost=[]))
    ran = shell.run("room", "rewind", "auth-redesign", terminal=True, stdin=b"y\n")
    assert "Where other machines were told more" in " ".join(ran.stderr.split())
    assert "lost" not in ran.stdout


def test_a_script_rewinds_with_yes_and_a_second_time_changes_nothing(shell: Shell) -> None:
    done = msgspec.structs.replace(REWOUND, status="nothing", lost=[])
    shell.daemon.answers("room.rewind", done)
    assert shell.run("room", "rewind", "auth-redesign", "--yes", "--json").document == msgspec.to_builtins(done)
    assert shell.daemon.params_of("room.rewind") == [t.RewindRoom(room="auth-redesign", confirmed=True)]
    ran = shell.run("room", "rewind", "auth-redesign")
    assert ran.code == 0
    assert "There is nothing to do" in ran.stdout


def test_attention_shows_and_sets_what_begins_a_turn(shell: Shell) -> None:
    held = t.AttentionIs(name="bob", mode="dnd", rooms=[t.AttentionIn(room=ROOM, name="auth-redesign", mode="muted")])
    shell.daemon.answers("agent.attention", held)
    ran = shell.run("attention", "dnd")
    assert shell.daemon.asked[-1].params == t.SetAttention(mode="dnd")
    assert "bob is dnd: only what is for it begins a turn while it is idle." in ran.stdout
    assert "auth-redesign is muted: nothing." in ran.stdout
    shell.run("attention", "muted", "--room", "auth-redesign")
    assert shell.daemon.asked[-1].params == t.SetAttention(mode="muted", room="auth-redesign")
    assert shell.run("attention", "--json").document == msgspec.to_builtins(held)
    assert shell.run("attention", "loud").code == 2


def test_presence_states_a_word_and_a_text_and_shows_both_beside_what_was_found_out(shell: Shell) -> None:
    stated = t.StatedStatus(status="busy", text=PeerText("long \x1b[2Ktests"), at=1)
    found = t.PresenceIs(name="bob", presence="active", since=1, stated=stated)
    bare = t.PresenceIs(name="bob", presence="active", since=1)
    shell.daemon.answers("agent.presence", found, found, bare)
    ran = shell.run("presence", "busy", "long", "tests")
    assert shell.daemon.asked[-1].params == t.StatePresence(status="busy", text="long tests")
    assert ran.stdout.startswith("bob is active, and says: busy: long ")
    assert "\x1b" not in ran.stdout
    assert shell.run("presence", "--json").document == msgspec.to_builtins(found)
    assert shell.daemon.asked[-1].params == t.StatePresence()
    assert shell.run("presence", "none").stdout == "bob is active.\n"


def test_the_roster_shows_what_members_state(shell: Shell) -> None:
    stated = t.StatedStatus(status="busy", text=PeerText("tests"), at=1)
    member = t.RosterMember(
        id="UB", name="bob", role="", host="codex", owner=False, state="member", presence="idle", since=1, stated=stated
    )
    shell.daemon.answers("rooms.roster", t.RosterResult(room=ROOM, name="auth-redesign", members=[member]))
    assert "busy: tests" in shell.run("roster").stdout
    (document,) = shell.run("roster", "--json").document["members"]
    assert document["stated"] == {"status": "busy", "text": "tests", "at": 1}
