"""`parler relay ...`: the relay that this person runs, looked at, started, stopped, and somebody put out of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from parlerd.cli import team
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import Home, prepare, relay_home
from relay import place as places
from relay import store_url
from relay.place import Place
from tests.cli.test_team import NO_PROCESS, Machine
from tests.support.answers import daemon_info, relay_info
from tests.support.cli import Shell
from tests.support.fake_network import FakeNetwork
from tests.support.service_manager import FakeSystem

MEMBERS = [
    t.RelayMember(person="AANN", name="ann", fingerprint="AAAA-BBBB-CCCC", enrolled_at=1, connected=True),
    t.RelayMember(person="ABEN", name="ben", fingerprint="DDDD-EEEE-FFFF", enrolled_at=1, connected=False),
]
KICKED = t.KickedFromRelay(person="ABEN", name="ben", links=1, memberships=2, keys=0, join_secret_file="/r/join-secret")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    outer = Home(tmp_path / ".parler", explicit=True)
    prepare(outer)
    prepare(relay_home(outer))
    system = FakeSystem("systemd", tmp_path / ".config/systemd/user")
    found = Machine(system=system, home=relay_home(outer))
    monkeypatch.setattr(team, "SystemRunner", lambda env: system)
    monkeypatch.setattr(team, "SystemNetwork", FakeNetwork)
    monkeypatch.setattr(team, "POLL_S", 0)
    monkeypatch.setattr(team, "agent_host_above", lambda: "")
    found.answers("relay.status", relay_info(pid=NO_PROCESS))
    found.answers("relay.members", t.RelayMemberList(members=MEMBERS))
    return found


@pytest.fixture
def shell(tmp_path: Path, machine: Machine) -> Shell:
    return Shell(tmp_path, machine)


@pytest.fixture
def running(machine: Machine) -> Machine:
    places.store(machine.home, Place(interface="eth0"))
    machine.system.running.add("parler-relay.service")
    return machine


def test_where_no_relay_runs_status_says_so_and_starts_none(shell: Shell, machine: Machine) -> None:
    ran = shell.run("relay", "status", "--json")
    assert (ran.code, ran.document) == (3, {"running": False, "pid": None})
    ran = shell.run("relay", "status")
    assert (ran.code, ran.stdout) == (3, "No relay is running here. Make one: parler connect --team\n")
    places.store(machine.home, Place(interface="eth0"))
    assert shell.run("relay", "status").stdout == "No relay is running here. Start it: parler relay start\n"
    assert machine.system.asked == []


@pytest.mark.parametrize("width", [80, 120])
def test_the_status_ends_with_the_line_for_others(shell: Shell, running: Machine, width: int) -> None:
    ran = shell.run("relay", "status", terminal=True, width=width)
    assert ran.code == 0
    lines = ran.stdout.splitlines()
    assert lines[-1] == f"parler connect --relay {relay_info().join_line}"
    assert max(map(len, lines[:-1])) <= width
    assert "3 people are enrolled, 2 connected now, 1 room" in ran.stdout
    document = shell.run("relay", "status", "--json").document
    assert {"running", "pid", "url", "fingerprint", "rooms", "daemons"} <= set(document)


def test_a_relay_that_was_made_is_started_again(shell: Shell, machine: Machine) -> None:
    ran = shell.run("relay", "start", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (3, "relay_not_running")
    assert "connect --team" in ran.document["error"]["hint"]
    places.store(machine.home, Place(interface="eth0"))
    assert shell.run("relay", "start", "--json").document["running"]
    assert machine.system.running == {"parler-relay.service"}
    starts = machine.system.starts
    assert shell.run("relay", "start").code == 0
    assert machine.system.starts == starts


@pytest.mark.parametrize("words", [["start"], []])
def test_no_agent_starts_a_relay(
    shell: Shell, machine: Machine, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    places.store(machine.home, Place(interface="eth0"))
    monkeypatch.setattr(team, "agent_host_above", lambda: "codex")
    ran = shell.run("relay", *words, "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "needs_person")
    assert machine.system.asked == []


def test_the_checkup_says_whether_a_relay_that_was_made_runs(shell: Shell, machine: Machine) -> None:
    def check() -> list[dict[str, object]]:
        checks = shell.run("doctor", "--json").document["checks"]
        return [each for each in checks if each["name"] == "relay"]

    machine.answers("daemon.check", t.CheckList(checks=[]))
    machine.answers("daemon.status", daemon_info())
    machine.answers("hosts.seen", t.SeenHostList(hosts=[]))
    assert check() == []
    places.store(machine.home, Place(interface="eth0"))
    shell.run("relay", "start")
    (running,) = check()
    assert (running["ok"], running["detail"]) == (True, "team-7f3k2q at wss://192.168.1.20:7777/")
    machine.system.running.clear()
    (stopped,) = check()
    assert stopped["ok"] is False
    assert "parler relay start" in str(stopped["fix"])


def test_stopping_works_where_nothing_runs_and_names_what_ended(shell: Shell, machine: Machine) -> None:
    ran = shell.run("relay", "stop", "--json")
    assert (ran.code, ran.document) == (0, {"running": False, "pid": None, "stopped": None})
    places.store(machine.home, Place(interface="eth0"))
    shell.run("relay", "start")
    ran = shell.run("relay", "stop")
    assert ran.code == 0
    assert f"pid {NO_PROCESS}" in ran.stdout
    assert "parler relay start" in ran.stdout
    assert machine.system.running == set()


def test_members_are_listed_with_what_a_person_compares(shell: Shell, running: Machine) -> None:
    ran = shell.run("relay", "members", terminal=True, width=80)
    assert [line.split()[:2] for line in ran.stdout.splitlines()[1:]] == [
        ["ann", "AAAA-BBBB-CCCC"],
        ["ben", "DDDD-EEEE-FFFF"],
    ]
    document = shell.run("relay", "members", "--json").document
    assert [member["person"] for member in document["members"]] == ["AANN", "ABEN"]


@pytest.mark.parametrize("word", ["ben", "Ben", "DDDD-EEEE-FFFF", "ABEN"])
def test_somebody_is_put_out_only_after_a_yes_to_their_fingerprint(shell: Shell, running: Machine, word: str) -> None:
    running.answers("relay.kick", KICKED)
    ran = shell.run("relay", "kick", word, "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "needs_yes")
    ran = shell.run("relay", "kick", word, terminal=True, stdin=b"\n")
    assert ran.code == 1
    assert "of ben, fingerprint DDDD-EEEE-FFFF" in ran.stderr.replace("\n", " ")
    assert running.params_of("relay.kick") == []
    ran = shell.run("relay", "kick", word, terminal=True, stdin=b"yes\n")
    assert ran.code == 0
    assert "ben is out: 1 link, 2 memberships, 0 session keys ended." in ran.stdout
    assert "/r/join-secret" in ran.stdout
    assert shell.run("relay", "kick", word, "--yes", "--json").document["memberships"] == 2
    assert running.params_of("relay.kick") == [t.KickFromRelay(person=word)] * 2


def test_a_name_of_two_or_of_nobody_is_said_before_anything_is_asked(shell: Shell, running: Machine) -> None:
    running._answers.pop("relay.members")
    twins = [msgspec.structs.replace(member, name="root") for member in MEMBERS]
    running.answers("relay.members", t.RelayMemberList(members=twins))
    ran = shell.run("relay", "kick", "root", terminal=True, stdin=b"y\n")
    assert ran.code == 1
    assert "AAAA-BBBB-CCCC  root" in ran.stderr
    assert "DDDD-EEEE-FFFF  root" in ran.stderr
    assert "Go on?" not in ran.stderr
    ran = shell.run("relay", "kick", "zoe", "--json")
    assert ran.document["error"]["code"] == "no_such_agent"
    assert running.params_of("relay.kick") == []


def test_a_backup_goes_where_the_person_says(shell: Shell, running: Machine, tmp_path: Path) -> None:
    running.answers("relay.backup", lambda params: t.RelayBackedUp(file=getattr(params, "file"), bytes=7))  # noqa: B009
    ran = shell.run("relay", "backup", str(tmp_path / "b.tar"), "--json")
    assert ran.document == {"file": str(tmp_path / "b.tar"), "bytes": 7}
    assert shell.run("relay", "backup", "b.tar").code == 0
    (_, relative) = running.params_of("relay.backup")
    assert isinstance(relative, t.BackUpRelay)
    assert relative.file == str(Path.cwd() / "b.tar")


@pytest.mark.parametrize("words", [["members"], ["kick", "ben", "--yes"], ["backup", "b.tar"]])
def test_what_needs_a_relay_says_how_to_have_one(shell: Shell, words: list[str]) -> None:
    ran = shell.run("relay", *words, "--json")
    assert (ran.code, ran.document["error"]["code"]) == (3, "relay_not_running")


def test_what_the_relay_refuses_is_told(shell: Shell, running: Machine) -> None:
    running.answers("relay.kick", ParlerError("no_such_agent"))
    assert shell.run("relay", "kick", "zoe", "--yes", "--json").document["error"]["code"] == "no_such_agent"


def test_the_log_is_the_relays_own(shell: Shell, machine: Machine) -> None:
    ran = shell.run("relay", "logs", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (3, "relay_not_running")
    machine.home.log.write_text("one\ntwo\nthree\n")
    assert shell.run("relay", "logs", "-n", "2").stdout == "two\nthree\n"
    assert shell.run("relay", "logs", "--json").document == {
        "path": str(machine.home.log),
        "lines": ["one", "two", "three"],
    }


def test_the_relay_in_a_terminal_takes_the_place_of_the_command(
    shell: Shell, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[list[str]] = []

    def become(program: str, words: list[str], env: object) -> None:
        became.append(words)
        raise SystemExit

    monkeypatch.setattr("os.execve", become)
    with pytest.raises(SystemExit):
        shell.run("relay", "--bind", "10.0.0.7", "--port", "9000")
    assert became[0][1:] == ["-I", "-m", "_parler", "relay", "--home", str(machine.home.root.parent)]
    assert places.load(machine.home) == Place(address="10.0.0.7", port=9000)
    with pytest.raises(SystemExit):
        shell.run("relay")
    assert places.load(machine.home) == Place(address="10.0.0.7", port=9000)


def test_the_name_is_a_command_and_the_first_word_of_others(shell: Shell) -> None:
    text = shell.run("help", "relay").stdout
    assert "--bind ADDR" in text
    assert "relay members" in text
    assert "homes remove" in shell.run("help", "homes").stdout
    assert shell.run("relay", "paint").code == 2


# -- a relay over a database -------------------------------------------------------------------------------

SECRET = "hunter2"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that took this one's place."""
    found: list[list[str]] = []
    monkeypatch.setattr("os.execve", lambda program, words, env: found.append(list(words)))
    return found


def test_a_database_is_named_once_and_kept_where_nobody_else_reads(
    shell: Shell, machine: Machine, begun: list[list[str]]
) -> None:
    shell.run("relay", "--store", "postgresql://parler@db/parler")
    assert len(begun) == 1
    assert store_url.load(machine.home) == "postgresql://parler@db/parler"
    place = places.load(machine.home)
    assert place is not None
    assert place.store == "postgresql"
    # Whoever starts it again names nothing, and it is at another port over the same database.
    shell.run("relay", "--port", "9000")
    again = places.load(machine.home)
    assert again is not None
    assert (again.store, again.port) == ("postgresql", 9000)
    assert store_url.load(machine.home) == "postgresql://parler@db/parler"
    assert SECRET not in str(begun)


def test_a_password_on_the_command_line_is_refused_and_told_nowhere(
    shell: Shell, machine: Machine, begun: list[list[str]]
) -> None:
    for url in (f"postgresql://ann:{SECRET}@db/parler", f"postgresql://db/parler?password={SECRET}"):
        ran = shell.run("relay", "--store", url)
        assert ran.code == 1
        assert "--store-file" in ran.stderr
        assert SECRET not in ran.stdout + ran.stderr
    assert begun == []
    assert places.load(machine.home) is None


def test_a_url_with_a_password_comes_by_a_private_file_or_by_stdin(
    shell: Shell, machine: Machine, begun: list[list[str]], tmp_path: Path
) -> None:
    url = f"postgresql://ann:{SECRET}@db/parler"
    file = tmp_path / "url"
    file.write_text(url + "\n")
    file.chmod(0o640)
    ran = shell.run("relay", "--store-file", str(file), "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "invalid_param")
    assert ran.document["error"]["hint"] == f"chmod 600 {file}"
    assert begun == []
    file.chmod(0o600)
    ran = shell.run("relay", "--store-file", str(file))
    assert SECRET not in ran.stdout + ran.stderr
    assert store_url.load(machine.home) == url
    shell.run("relay", "--store-file", "-", stdin=f"postgresql://ann:{SECRET}@other/parler".encode())
    assert store_url.load(machine.home) == f"postgresql://ann:{SECRET}@other/parler"
    assert len(begun) == 2
    assert SECRET not in str(begun)
    assert shell.run("relay", "--store-file", str(tmp_path / "none")).code == 2
    assert shell.run("relay", "--store-file", str(file), "--store", "postgresql://db/parler").code == 2


def test_a_relay_with_rooms_in_a_file_does_not_leave_them_for_a_database(
    shell: Shell, machine: Machine, begun: list[list[str]]
) -> None:
    machine.home.database.write_bytes(b"rooms")
    ran = shell.run("relay", "--store", "postgresql://db/parler", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "invalid_param")
    assert begun == []
    assert places.load(machine.home) is None
    assert not store_url.file_of(machine.home).exists()


def test_status_and_checkup_say_where_the_rooms_are_and_whether_that_takes_them(shell: Shell, machine: Machine) -> None:
    def check() -> list[dict[str, object]]:
        checks = shell.run("doctor", "--json").document["checks"]
        return [each for each in checks if each["name"] == "relay's store"]

    machine.answers("daemon.check", t.CheckList(checks=[]))
    machine.answers("daemon.status", daemon_info())
    machine.answers("hosts.seen", t.SeenHostList(hosts=[]))
    now = relay_info(pid=NO_PROCESS, store="postgresql://db/parler")
    machine.answers("relay.status", lambda params: now)
    places.store(machine.home, Place(interface="eth0"))
    shell.run("relay", "start")
    assert "postgresql://db/parler" in shell.run("relay", "status").stdout
    assert [(each["ok"], each["fix"]) for each in check()] == [(True, "")]
    now = relay_info(pid=NO_PROCESS, store="postgresql://db/parler", store_ok=False, rooms=None)
    shown = shell.run("relay", "status").stdout
    assert "Nothing can be stored there now" in shown
    assert " room" not in shown.partition("connected now")[2].splitlines()[0]
    [checked] = check()
    assert checked["ok"] is False
    assert "parler relay logs" in str(checked["fix"])


def test_status_lists_the_relays_that_share_the_rooms(shell: Shell, machine: Machine) -> None:
    relays = [
        t.RelayOfHome(relay="a", address="10.0.0.1:7777", version="1.0", shards=524, reached=True),
        t.RelayOfHome(relay="b", address="", version="1.1", shards=500, reached=False, older=True),
    ]
    # The order in which a relay names them says nothing.
    now = relay_info(pid=NO_PROCESS, store="postgresql://db/parler", relays=relays, term=3)
    machine.answers("relay.status", lambda params: now)
    places.store(machine.home, Place(interface="eth0"))
    shell.run("relay", "start")
    lines = shell.run("relay", "status").stdout.splitlines()
    assert [line for line in lines if line.startswith("relay   ")] == [
        "relay   no address now, version 1.1, 500 of 1024 shards, not reached from here",
        "relay   10.0.0.1:7777, version 1.0, 524 of 1024 shards",
    ]
    assert [line for line in lines if "takes no rooms" in line] == [
        "Newer relays wrote what version 1.1 does not know, so it takes no rooms. Upgrade Parler on that machine."
    ]
    now = relay_info(pid=NO_PROCESS, store="postgresql://db/parler", relays=relays[:1], term=1)
    # Of one alone there is nothing to compare.
    assert "shards" not in shell.run("relay", "status").stdout
    now = relay_info(pid=NO_PROCESS, store="postgresql://db/parler", relays=relays[1:], term=1)
    assert "takes no rooms" in shell.run("relay", "status").stdout
