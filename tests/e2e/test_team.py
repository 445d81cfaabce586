"""A team on several machines, by the command line alone: three homes, and a relay that one of them runs."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from parlerd import process
from parlerd.paths import relay_home
from tests.support.processes import kill, until
from tests.support.team import Team, enters, texts

pytestmark = pytest.mark.e2e

CONTEXT = "Chose PKCE. Left: token rotation."


def test_three_people_on_three_machines_meet_talk_and_hand_over(team: Team) -> None:
    for one in (team.ben, team.cara):
        joined = team.joins(one)
        assert joined["home"] == team.relay["name"]
        assert joined["relay"]["status"] == "added"
    opened = team.ann.asks("--as", "alice", "session", "open", "--topic", "auth", "--context", CONTEXT)
    assert opened["key"].endswith(f"@{team.relay['name']}")
    assert team.relay["join_line"] in opened["connect_command"]
    for one, name in ((team.ben, "bob"), (team.cara, "carol")):
        enters(team, one, name, opened)
        recap = one.asks("--as", name, "recv", "--wait", "60")["messages"][0]
        assert (recap["text"], recap["verified"]) == (CONTEXT, "valid")
    team.ben.asks("--as", "bob", "send", "from bob")
    assert texts(team.ann.asks("--as", "alice", "recv", "--wait", "60")) == ["from bob"]
    assert texts(team.cara.asks("--as", "carol", "recv", "--wait", "60")) == ["from bob"]
    team.cara.asks("--as", "carol", "handoff", "--next", "rotate the tokens", "--for", "bob")
    handed = team.ben.asks("--as", "bob", "recv", "--wait", "60")
    assert [message["kind"] for message in handed["messages"]] == ["handoff"]
    status = team.ann.asks("relay", "status")
    assert (status["people"], status["rooms"]) == (3, 1)
    assert {home["state"] for home in team.ben.asks("homes")["homes"]} == {"local", "connected"}


def test_what_is_said_while_the_relay_is_dead_arrives_once_and_in_order(team: Team) -> None:
    team.joins(team.ben)
    opened = team.ann.asks("--as", "alice", "session", "open", "--topic", "auth")
    enters(team, team.ben, "bob", opened)
    until(lambda: team.ben.asks("--as", "bob", "rooms")["rooms"], "room")
    team.ben.asks("--as", "bob", "send", "one")
    kill(team.relay_pid())
    for text in ("two", "three"):
        sent = team.ben.asks("--as", "bob", "send", text)
        assert (sent["queued"], sent["seq"]) == (True, None)
    waiting = until(lambda: team.ben.asks("homes")["homes"][1]["waiting"], "messages that wait")
    assert waiting == 2
    refused = team.ben.fails("homes", "remove", team.relay["name"], code="needs_yes")
    assert "--yes" in refused["hint"]
    team.ann.asks("relay", "start")
    got: list[str] = []
    while got != ["one", "two", "three"]:
        got += texts(until(lambda: team.ann.asks("--as", "alice", "recv", "--wait", "10"), "page"))
        assert got == ["one", "two", "three"][: len(got)]
    assert team.ben.asks("homes")["homes"][1]["waiting"] == 0


def test_a_line_of_another_relay_and_a_wrong_secret_are_two_errors_and_nothing_is_stored(
    team: Team, tmp_path: Path
) -> None:
    line, file = team.relay["join_line"], team.relay["join_secret_file"]
    wrong = line.partition("#")[0] + "#" + "a" * 32
    team.ben.fails("connect", "--relay", wrong, "--join-secret-file", file, code="wrong_relay")
    other = tmp_path / "secret"
    other.write_text("A3KE7-DJRQ2-9FHT4-WXC6M-0BNV50\n")
    other.chmod(0o600)
    team.ben.fails("connect", "--relay", line, "--join-secret-file", str(other), code="wrong_secret")
    team.ben.fails("connect", "--relay", line, code="not_enrolled")
    team.ben.fails("connect", "--relay", "wss://127.0.0.1:1/", code="invalid_param")
    nobody = line.replace(f":{team.port}/", ":1/")
    team.ben.fails("connect", "--relay", nobody, "--join-secret-file", file, code="home_unreachable", expect=3)
    assert not (team.ben.home.root / "homes.json").exists()
    assert [home["name"] for home in team.ben.asks("homes")["homes"]] == ["local"]
    refused = team.ben.fails(
        "--as", "bob", "session", "join", f"A3KE7DJR@{team.relay['name']}", code="home_not_trusted"
    )
    assert "parler connect --relay" in refused["hint"]


def test_whoever_is_put_out_is_told_and_comes_back_only_by_the_new_secret(team: Team) -> None:
    team.joins(team.ben)
    file = Path(team.relay["join_secret_file"])
    before = file.read_text()
    (member,) = [each for each in team.ann.asks("relay", "members")["members"] if each["person"] != ""][1:]
    kicked = team.ann.asks("relay", "kick", member["fingerprint"], "--yes")
    assert kicked["person"] == member["person"]
    assert file.read_text() != before
    until(lambda: team.ben.asks("homes")["homes"][1]["reason"] == "kicked" or None, "word that ben is out")
    old = team.ben.user / "old"
    old.write_text(before)
    old.chmod(0o600)
    line = team.relay["join_line"]
    team.ben.fails("connect", "--relay", line, "--join-secret-file", str(old), code="wrong_secret")
    assert team.joins(team.ben)["relay"]["status"] == "unchanged"


def test_a_relay_comes_back_from_a_backup_in_an_empty_folder(team: Team) -> None:
    team.joins(team.ben)
    folder, file = relay_home(team.ann.home).root, team.ann.user / "relay.tar"
    team.ann.asks("relay", "backup", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    team.ann.asks("relay", "stop")
    folder.rename(folder.with_name("lost"))
    folder.mkdir(mode=0o700)
    with tarfile.open(file) as archive:
        archive.extractall(folder, filter="tar")
    assert team.ann.asks("relay", "start")["join_line"] == team.relay["join_line"]
    assert len(team.ann.asks("relay", "members")["members"]) == 2
    until(lambda: team.ben.asks("homes")["homes"][1]["state"] == "connected" or None, "link that is back")


def test_a_relay_is_stopped_started_and_taken_out_and_its_rooms_stay(team: Team) -> None:
    again = team.ann.asks("connect", "--team")["relay"]
    assert (again["status"], again["join_line"]) == ("unchanged", team.relay["join_line"])
    pid = team.relay_pid()
    assert team.ann.asks("relay", "stop")["stopped"] == pid
    assert team.ann.asks("relay", "status", expect=3) == {"running": False, "pid": None}
    assert team.ann.asks("relay", "stop")["stopped"] is None
    started = team.ann.asks("relay", "start")
    assert started["join_line"] == team.relay["join_line"]
    removed = team.ann.asks("connect", "--remove")
    assert removed["service"]["status"] == "removed"
    assert not process.is_alive(started["pid"])
    assert (relay_home(team.ann.home).root / "parler.db").exists()
    assert not (relay_home(team.ann.home).root / "service.json").exists()
