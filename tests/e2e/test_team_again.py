"""A team's relay over time: made again, by two commands at once, after a restart of the machine, by each service
manager, and taken out; and what a machine that sleeps, or whose clock is wrong, makes of it. Everything is real.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import trio

from parlerd import process
from parlerd.paths import relay_home
from tests.support import machines
from tests.support.managers import Managers
from tests.support.mcp_windows import window
from tests.support.processes import Somebody, kill, listens, somebody, until
from tests.support.releases import Change, Release
from tests.support.senders import met
from tests.support.team import Team, free_port, skip_below_an_agent_host, texts, wired

pytestmark = pytest.mark.e2e


@pytest.fixture
def ann(monkeypatch: pytest.MonkeyPatch) -> Iterator[Somebody]:
    """Somebody with an empty HOME who may make a relay."""
    skip_below_an_agent_host()
    with somebody(monkeypatch) as one:
        yield one


def here() -> list[str]:
    """Where a relay of a test listens."""
    return ["--bind", "127.0.0.1", "--port", str(free_port())]


def is_open(port: int) -> bool:
    """Whether anybody takes connections at this port of the loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def test_two_commands_that_make_the_relay_at_once_make_one(ann: Somebody) -> None:
    words = ("connect", "--team", *here(), "--json")
    made = [ann.ends(child).document["relay"] for child in [ann.starts(*words) for _ in range(3)]]
    assert len({relay["join_line"] for relay in made}) == 1
    assert len(ann.processes("relay")) == 1
    assert ann.asks("relay", "status")["people"] == 1


@pytest.mark.parametrize("file", ["place.json", "keys/relay.seed", "parler.db", "tls/certificate.pem"])
def test_a_command_that_is_killed_while_it_makes_the_relay_is_just_run_again(
    file: str, ann: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = here()
    killed = ann.starts("connect", "--team", *words)
    path = relay_home(ann.home).root / file
    until(lambda: path.exists() or killed.poll() is not None, file)
    killed.kill()
    for pid in ann.processes():
        kill(pid)
    ann.ends(killed, None)

    ann.asks("connect", "--team", *words)
    relay = ann.asks("relay", "status")
    assert relay["people"] == 1
    assert len(ann.processes("relay")) == 1
    with somebody(monkeypatch) as ben:
        assert Team(ann, ben, ben).joins(ben)["relay"]["status"] == "added"
    assert ann.asks("connect", "--team", *words)["relay"]["join_line"] == relay["join_line"]


def test_after_a_restart_of_the_machine_the_relay_is_the_same_one(team: Team) -> None:
    opened = met(team)
    for one in (team.ann, team.ben):
        one.kills_daemon()
    kill(team.relay_pid())
    # What stands there is gone with the machine's memory.
    for run in (team.ann.home.run, relay_home(team.ann.home).run):
        shutil.rmtree(run)
    assert (
        team.ann.runs("relay", "status", expect=3).stdout == "No relay is running here. Start it: parler relay start\n"
    )
    again = team.ann.asks("connect", "--team")["relay"]
    assert again["join_line"] == team.relay["join_line"]
    team.ben.asks("--as", "bob", "send", "after the restart", "--room", opened["room"])
    assert texts(team.ann.asks("--as", "alice", "recv", "--wait", "60")) == ["after the restart"]


def test_a_port_that_is_taken_is_said_with_the_way_around_and_leaves_nothing(ann: Somebody) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = ann.fails("connect", "--team", "--bind", "127.0.0.1", "--port", str(port), code="port_taken")
        assert f"127.0.0.1:{port}" in error["message"]
        assert "--port" in error["hint"]
        assert not relay_home(ann.home).root.exists()
        assert (
            ann.runs("relay", "status", expect=3).stdout
            == "No relay is running here. Make one: parler connect --team\n"
        )
        ann.asks("connect", "--team", *here())


def test_systemd_is_asked_for_exactly_what_is_to_happen(ann: Somebody, tmp_path: Path) -> None:
    managers = Managers(tmp_path / "bin")
    path = {"PATH": f"{managers.folder}:{os.environ['PATH']}"}
    words = here()
    port = int(words[-1])
    unit = "parler-relay.service"

    ann.asks("connect", "--team", *words, variables=path)
    look, linger = "systemctl --user show --property=Version", f"loginctl show-user {os.getuid()} --property=Linger"
    begin = [f"systemctl --user enable {unit}", f"systemctl --user reset-failed {unit}"]
    assert managers.asked() == [
        look,
        "systemctl --user daemon-reload",
        *begin,
        f"systemctl --user start {unit}",
        linger,
    ]
    first = ann.asks("relay", "status")["pid"]
    assert is_open(port)

    ann.asks("connect", "--team", variables=path)
    assert managers.asked() == [linger]
    ann.asks("connect", "--team", "--name", "crew", variables=path)
    assert managers.asked() == [f"systemctl --user stop {unit}", *begin, f"systemctl --user restart {unit}", linger]
    second = ann.asks("relay", "status")
    assert second["pid"] != first
    assert second["name"].startswith("crew-")

    ann.asks("relay", "stop", variables=path)
    assert managers.asked() == [f"systemctl --user stop {unit}"]
    assert not is_open(port)
    ann.asks("relay", "start", variables=path)
    assert managers.asked() == [*begin, f"systemctl --user start {unit}"]

    removed = ann.asks("connect", "--remove", variables=path)["service"]
    assert (removed["kind"], removed["status"]) == ("systemd", "removed")
    asked = [line for line in managers.asked() if line != f"systemctl --user stop {unit}"]
    assert asked == [f"systemctl --user disable {unit}", "systemctl --user daemon-reload"]
    assert not is_open(port)
    assert list((ann.user / ".config/systemd/user").iterdir()) == []


def test_launchd_is_asked_for_exactly_what_is_to_happen(ann: Somebody, tmp_path: Path) -> None:
    managers = Managers(tmp_path / "bin")
    path = {"PATH": f"{managers.folder}:{os.environ['PATH']}"}
    ann.program = Release(
        tmp_path / "release", Change("parlerd/cli/team.py", 'is_macos=sys.platform == "darwin"', "is_macos=True")
    ).parler
    words = here()
    port = int(words[-1])
    domain = f"gui/{os.getuid()}"
    service = f"{domain}/app.parler.relay"
    file = ann.user / "Library/LaunchAgents/app.parler.relay.plist"

    ann.asks("connect", "--team", *words, variables=path)
    begin = [f"launchctl bootstrap {domain} {file}", f"launchctl kickstart {service}"]
    assert managers.asked() == [f"launchctl print {domain}", f"launchctl print {service}", *begin]
    assert is_open(port)
    ann.asks("connect", "--team", variables=path)
    assert managers.asked() == []
    ann.asks("relay", "stop", variables=path)
    assert managers.asked() == [f"launchctl bootout {service}"]
    assert not is_open(port)
    ann.asks("relay", "start", variables=path)
    assert managers.asked() == [f"launchctl print {service}", *begin]
    ann.asks("connect", "--remove", variables=path)
    assert set(managers.asked()) == {f"launchctl bootout {service}"}
    assert not is_open(port)
    assert not file.exists()


def test_taking_parler_out_closes_the_port_of_a_detached_relay(team: Team) -> None:
    assert is_open(int(team.port))
    removed = team.ann.asks("connect", "--remove")["service"]
    assert (removed["kind"], removed["status"]) == ("detached", "removed")
    assert not is_open(int(team.port))


def test_a_laptop_that_slept_is_told_everything_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with wired(monkeypatch, tmp_path) as team:
        room = met(team)["room"]
        daemon = team.ben.status().pid
        said = [f"while you slept {number}" for number in range(5)]
        os.kill(daemon, signal.SIGSTOP)
        try:
            # The network forgets the connection of somebody who sleeps.
            team.wires[team.ben].cut()
            for text in said:
                assert team.ann.asks("--as", "alice", "send", text, "--room", room)["queued"] is False
            team.wires[team.ben].mend()
        finally:
            os.kill(daemon, signal.SIGCONT)
        heard: list[str] = []
        while len(heard) < len(said):
            heard += texts(team.ben.asks("--as", "bob", "recv", "--room", room, "--wait", "60"))
        assert heard == said
        assert team.ben.status().pid == daemon


def test_a_relay_whose_disk_is_full_says_so_and_everything_arrives_once_there_is_space(
    ann: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := machines.missing():
        pytest.skip(reason)
    folder = relay_home(ann.home).root
    folder.mkdir(parents=True)
    ann.home.root.chmod(0o700)
    with somebody(monkeypatch) as ben, machines.small_disk(folder, 3) as disk:
        ann.machine = disk.words
        disk.fill()
        words = here()
        full = ann.runs("connect", "--team", *words, "--json", expect=1)
        assert "No space left on device" in full.error["message"]
        disk.free()
        ann.asks("connect", "--team", *words)
        team = Team(ann, ben, ben)
        secret = ben.user / "secret"
        secret.write_text(disk.reads(Path(team.relay["join_secret_file"])))
        secret.chmod(0o600)
        team.relay["join_secret_file"] = str(secret)
        room = met(team)["room"]

        disk.fill()
        said = [f"{number} {'x' * 20_000}" for number in range(3)]
        for text in said:
            assert ben.asks("--as", "bob", "send", text, "--room", room)["queued"] is True
        refused = ben.fails("--as", "bob", "session", "open", "--topic", "new", code="relay_failed")
        assert refused["details"]["said"] == "store_full"
        ann.fails("relay", "backup", str(ann.user / "b.tar"), code="store_full")
        disk.free()
        heard: list[str] = []
        while len(heard) < len(said):
            heard += texts(ann.asks("--as", "alice", "recv", "--room", room, "--wait", "60"))
        assert heard == said
        until(lambda: ben.asks("homes")["homes"][1]["waiting"] == 0, "empty outbox")


@pytest.mark.parametrize("days", [3, -3])
def test_clocks_that_differ_by_days_change_no_order_and_are_told(
    days: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, team: Team
) -> None:
    clock = "time.time_ns() // 1_000_000)"
    off = Change("parlerd/engine/ports.py", clock, f"{clock[:-1]} + {days * 86_400_000})")
    team.ben.program = Release(tmp_path / "release", off).parler
    room = met(team)["room"]
    team.ben.asks("--as", "bob", "send", "from another day", "--room", room)
    (heard,) = team.ann.asks("--as", "alice", "recv", "--room", room, "--wait", "60")["messages"]
    team.ann.asks("--as", "alice", "send", "from today", "--room", room)
    (answer,) = team.ben.asks("--as", "bob", "recv", "--room", room, "--wait", "60")["messages"]
    assert (heard["text"], answer["text"]) == ("from another day", "from today")
    assert heard["verified"] == answer["verified"] == "valid"
    assert heard["at"] < answer["at"], "the times are the relay's"
    way = "behind" if days > 0 else "ahead of"
    assert f"its clock is {3 * 24 * 60} minutes {way} this machine's" in " ".join(team.ben.runs("homes").stdout.split())
    opened = team.ben.asks("--as", "bob", "session", "open", "--topic", "of-bob")
    waits = team.ann.asks("--as", "alice", "session", "join", opened["key"], "--no-wait", expect=4)
    team.ben.asks("session", "approve", "alice", "--code", waits["code"])
    until(lambda: len(team.ann.asks("--as", "alice", "rooms")["rooms"]) == 2, "room of bob")


def reachable(one: Somebody) -> set[tuple[str, int]]:
    """Where anything that runs for this person can be reached over a network, children included."""
    pids = set(one.processes())
    for pid in list(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            pids |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    assert pids
    return {end for pid in pids if process.is_alive(pid) for end in listens(pid)}


def test_where_sessions_live_on_this_machine_nothing_can_be_reached_over_a_network(ann: Somebody) -> None:
    (ann.user / ".codex").mkdir()
    (ann.user / ".codex" / "config.toml").write_text('model = "x"\n')

    async def looks() -> set[tuple[str, int]]:
        async with window(ann, "codex") as agent:
            await agent.call("parler_open_session", topic="auth", context="the recap")
            assert ann.shims("codex")
            return await trio.to_thread.run_sync(reachable, ann)

    ann.asks("connect", "--local")
    assert trio.run(looks) == set()
    words = here()
    ann.asks("connect", "--team", *words)
    assert trio.run(looks) == {("127.0.0.1", int(words[-1]))}, "the relay, and no daemon"
    ann.asks("connect", "--local")
    ann.asks("connect", "--remove")
    assert trio.run(looks) == set()
    assert ann.asks("homes")["homes"][0]["default"] is True
