"""Files and code in a sealed session over a relay, with everything real: both sides have them, the relay nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from parlerd.paths import relay_home
from tests.e2e.test_sealed import found_in
from tests.support.git import work_in
from tests.support.processes import kill
from tests.support.team import Team, enters

pytestmark = pytest.mark.e2e

NAME, INSIDE, NOTE, BRANCH = "marlin-report.txt", "swordfish-inside", "barracuda-note", "halibut-branch"


def test_a_file_and_commits_come_whole_and_the_relay_has_neither_their_bytes_nor_their_names(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.joins(team.ben)
    opened = team.ann.asks("--as", "alice", "session", "open", "--topic", "files")
    enters(team, team.ben, "bob", opened)
    team.ben.asks("--as", "bob", "recv", "--wait", "60")

    shared, target = tmp_path / NAME, tmp_path / "fetched"
    data = f"{INSIDE} ".encode() * 40_000
    shared.write_bytes(data)
    sent = team.ann.asks("--as", "alice", "send-file", str(shared), "--note", NOTE)
    assert sent["sha256"] != sent["blob"]
    [message] = team.ben.asks("--as", "bob", "recv", "--wait", "60")["messages"]
    assert (message["text"], message["brings"]["name"]) == (NOTE, NAME)
    # Both daemons and the relay begin anew; what is asked for again is the same.
    kill(team.relay_pid())
    team.ann.kills_daemon()
    team.ben.kills_daemon()
    team.ann.asks("relay", "start")
    fetched = team.ben.asks("--as", "bob", "fetch", sent["blob"], "-o", str(target))
    assert fetched["sha256"] == sent["sha256"]
    assert target.read_bytes() == data

    mine, other = work_in(tmp_path / "mine"), work_in(tmp_path / "other")
    mine.git("checkout", "-q", "-b", BRANCH)
    tip = mine.commit(f=f"{INSIDE} in a commit")
    monkeypatch.chdir(mine.folder)
    pushed = team.ann.asks("--as", "alice", "push")
    monkeypatch.chdir(other.folder)
    applied = team.ben.asks("--as", "bob", "apply", pushed["blob"])
    assert applied["tip"] == tip
    assert other.git("rev-parse", applied["ref"]) == tip

    folder = relay_home(team.ann.home).root
    for word in (NAME, INSIDE, NOTE, BRANCH, sent["sha256"]):
        assert found_in(folder, word) == [], word
    # What the relay keeps is found: the ids of both are the names of their files there.
    names = {path.name for path in folder.rglob("*")}
    assert {sent["blob"], pushed["blob"]} <= names
