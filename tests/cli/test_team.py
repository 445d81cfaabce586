"""`parler connect --team`, `--relay` and `--local`: where new sessions live, and what is said of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import parlerd
from configs.outcome import Outcome
from mcp_server.stdio import COPIES
from parlerd.cli import team
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import Home, relay_home
from relay import place as places
from relay.place import Place
from tests.support.answers import relay_info
from tests.support.cli import Ran, Shell
from tests.support.fake_client import FakeClient, FakeDaemon
from tests.support.fake_home_book import LINE, SECRET, entry
from tests.support.fake_network import FakeNetwork
from tests.support.service_manager import FakeSystem

HERE = LINE.replace("192.168.1.20", "127.0.0.1")
"""The line by which the relay's own machine reaches it."""
NO_PROCESS = 4_100_000
"""No system gives a process this number."""


@dataclass
class Machine(FakeDaemon):
    """A daemon, and beside it the relay of the same person, which runs while its service does."""

    system: FakeSystem = field(default_factory=lambda: FakeSystem("systemd", Path("/nowhere")))
    home: Home = field(default_factory=lambda: Home("/nowhere"))
    dies: str = ""
    """What a relay that cannot serve writes into its log before it ends."""
    stopped: bool = False
    refused: list[t.Params] = field(default_factory=list)
    """What the daemon was asked and could not do."""

    @property
    def runs(self) -> bool:
        return bool(self.system.running or self.system.detached) and not self.stopped

    def connect(
        self, home: Home, *, as_name: str, host: str, start: bool = True, hello_s: float | None = None
    ) -> FakeClient:
        if home != self.home:
            return super().connect(home, as_name=as_name, host=host, start=start, hello_s=hello_s)
        if self.system.starts and self.dies:
            self.home.log.write_text(f"{self.dies}\n")
        if not self.runs or self.dies:
            raise ParlerError("unreachable")
        places.secret_of(self.home).write_text(SECRET + "\n")
        return FakeClient(self, 0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    system = FakeSystem("systemd", tmp_path / ".config/systemd/user", lingers=True)
    home = relay_home(Home(tmp_path / ".parler"))
    found = Machine(system=system, home=home)
    monkeypatch.setattr(team, "SystemRunner", lambda env: system)
    monkeypatch.setattr(team, "SystemNetwork", FakeNetwork)
    monkeypatch.setattr(team, "POLL_S", 0)
    monkeypatch.setattr(team, "agent_host_above", lambda: "")
    # What is bound here is the loopback: the addresses of the fake network are not this machine's.
    monkeypatch.setattr(team, "refuse_taken_port", lambda address, port: None)
    monkeypatch.setattr("configs.connect.connect", lambda *_args, **_how: iter(()))
    monkeypatch.setattr("configs.remove.remove", lambda *_args, **_how: iter(()))
    found.answers("hosts.seen", t.SeenHostList(hosts=[]))
    found.answers(
        "relay.status",
        lambda _params: relay_info(
            pid=NO_PROCESS,
            join_secret_file=str(places.secret_of(home)),
            people=len(
                [asked for asked in found.asked if asked.op == "homes.add" and asked.params not in found.refused]
            ),
        ),
    )
    found.answers("homes.add", lambda _params: t.HomeAdded(home=entry(default=True), status="added"))
    return found


@pytest.fixture
def shell(tmp_path: Path, machine: Machine) -> Shell:
    run = tmp_path / ".parler" / "run"
    run.mkdir(parents=True, mode=0o700)
    (tmp_path / ".parler").chmod(0o700)
    (run / "stdio").mkdir(mode=0o700)
    for name in COPIES:
        (run / name).write_text("")
    return Shell(tmp_path, machine)


# -- the relay of this person ------------------------------------------------------------------------------


def test_a_team_relay_is_made_added_and_named_with_its_line_alone(shell: Shell, machine: Machine) -> None:
    ran = shell.run("connect", "--team", terminal=True)
    assert ran.code == 0, ran.stderr
    assert places.load(machine.home) == Place(interface="eth0")
    assert machine.system.running == {"parler-relay.service"}
    assert machine.params_of("homes.add") == [t.AddHome(line=line, secret=SECRET) for line in (HERE, LINE)]
    assert f"\nparler connect --relay {LINE}\n" in ran.stdout
    assert ran.stdout.rstrip().splitlines()[-1] == f"parler connect --relay {LINE}"
    assert f"\n{SECRET}\n" in ran.stdout


@pytest.mark.parametrize("code", ["home_unreachable", "wrong_relay"])
def test_a_relay_whose_port_of_the_loopback_is_another_programs_is_added_by_its_address_alone(
    code: str, shell: Shell, machine: Machine
) -> None:
    machine.refused = [t.AddHome(line=HERE, secret=SECRET)]
    machine._answers.pop("homes.add")
    machine.answers("homes.add", ParlerError(code), t.HomeAdded(home=entry(default=True), status="added"))
    ran = shell.run("connect", "--team", terminal=True)
    assert ran.code == 0, ran.stderr
    assert ran.stdout.rstrip().splitlines()[-1] == f"parler connect --relay {LINE}"


def test_a_relay_whose_machine_is_in_no_network_is_added_here_and_gives_no_line(shell: Shell, machine: Machine) -> None:
    shell.run("connect", "--team")
    info = relay_info(addresses=[], url="", join_line="", join_secret_file=str(places.secret_of(machine.home)))
    machine._answers.pop("relay.status")
    machine.answers("relay.status", lambda _params: info)
    machine.asked.clear()
    ran = shell.run("connect", "--team", terminal=True)
    assert ran.code == 0, ran.stderr
    assert machine.params_of("homes.add") == [t.AddHome(line=HERE, secret=SECRET)]
    assert "which has no address in a network now" in ran.stdout
    assert "parler relay status" in ran.stdout
    assert "connect --relay" not in ran.stdout
    shown = shell.run("relay", "status", terminal=True)
    assert "nobody else reaches the relay" in shown.stdout
    assert "connect --relay" not in shown.stdout


def test_run_again_after_an_upgrade_it_begins_the_relay_anew_where_it_is(shell: Shell, machine: Machine) -> None:
    shell.run("connect", "--team")
    place = places.load(machine.home)
    secret = str(places.secret_of(machine.home))
    machine._answers.pop("relay.status")
    # The first relay is older, and the network is away just now.
    older = relay_info(version="0.0.1", pid=NO_PROCESS, join_secret_file=secret, addresses=[], url="", join_line="")
    machine.answers("relay.status", older, older, relay_info(join_secret_file=secret))
    shown = shell.run("relay", "status", terminal=True)
    assert f"version 0.0.1. To put {parlerd.__version__} in its place: parler connect --team" in shown.stdout
    ran = shell.run("connect", "--team", terminal=True)
    assert ran.code == 0, ran.stderr
    assert (machine.system.starts, places.load(machine.home)) == (2, place)


def test_run_again_it_changes_nothing_shows_the_line_and_not_the_secret(shell: Shell, machine: Machine) -> None:
    shell.run("connect", "--team", terminal=True)
    before = (machine.system.starts, places.load(machine.home))
    machine.answers("homes.add", t.HomeAdded(home=entry(default=True), status="unchanged"))
    ran = shell.run("connect", "--team", terminal=True)
    assert ran.code == 0
    assert (machine.system.starts, places.load(machine.home)) == before
    assert f"\nparler connect --relay {LINE}\n" in ran.stdout
    assert SECRET not in ran.stdout


def test_the_secret_is_shown_once_it_let_somebody_in_and_not_lost_to_a_first_try_that_failed(
    shell: Shell, machine: Machine
) -> None:
    params = t.AddHome(line=HERE, secret=SECRET)
    machine.refused = [params]
    machine._answers.pop("homes.add")
    machine.answers("homes.add", ParlerError("connection_lost"), t.HomeAdded(home=entry(), status="added"))
    assert shell.run("connect", "--team", terminal=True).code == 3
    ran = shell.run("connect", "--team", terminal=True)
    assert f"\n{SECRET}\n" in ran.stdout


def test_the_secret_is_never_shown_where_no_person_looks(shell: Shell, machine: Machine) -> None:
    ran = shell.run("connect", "--team")
    assert SECRET not in ran.stdout + ran.stderr
    assert "join-secret" in ran.stdout


def test_a_script_gets_the_relay_and_the_file_of_the_secret(shell: Shell, machine: Machine) -> None:
    document = shell.run("connect", "--team", "--json").document
    assert document["home"] == "team-7f3k2q"
    relay = document["relay"]
    assert relay["join_line"] == f"{relay['url']}#{relay['fingerprint']}" == LINE
    assert relay["status"] == "added"
    assert Path(relay["join_secret_file"]).read_text() == SECRET + "\n"
    assert shell.run("connect", "--team", "--json").document["relay"]["status"] == "unchanged"


def test_another_place_moves_the_relay_and_begins_it_anew(shell: Shell, machine: Machine) -> None:
    shell.run("connect", "--team")
    machine.answers("relay.stop", t.RelayStopping(pid=NO_PROCESS))
    ran = shell.run("connect", "--team", "--port", "9000", "--name", "crew", "--bind", "10.0.0.7")
    assert ran.code == 0, ran.stderr
    assert places.load(machine.home) == Place(name="crew", address="10.0.0.7", port=9000)
    assert machine.system.starts == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--bind", "0.0.0.0"], "invalid_param"),
        (["--bind", "203.0.113.9"], "invalid_param"),
        (["--name", "local"], "invalid_name"),
    ],
)
def test_what_cannot_be_a_place_is_refused_before_anything_is_written(
    shell: Shell, machine: Machine, words: list[str], code: str
) -> None:
    ran = shell.run("connect", "--team", *words, "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, code)
    assert not machine.home.root.exists()
    assert machine.system.asked == []


def test_a_port_that_another_program_has_is_said_before_anything_is_written(
    shell: Shell, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ParlerError) as refused:
        team.refuse_taken_port("127.0.0.1", taken.getsockname()[1])
    assert refused.value.code == "port_taken"
    team.refuse_taken_port("127.0.0.1", 0)
    with pytest.raises(ParlerError) as refused:
        team.refuse_taken_port("192.0.2.77", 7777)
    assert refused.value.code == "no_address"


def test_a_relay_that_cannot_serve_says_why_and_leaves_nothing(shell: Shell, machine: Machine) -> None:
    machine.dies = "relay: port_taken: Another program has the port 192.168.1.20:7777. Choose another."
    ran = shell.run("connect", "--team", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "port_taken")
    assert "The relay could not start" in ran.document["error"]["message"]
    assert places.load(machine.home) is None
    assert (machine.system.running, machine.system.loaded, machine.system.enabled) == (set(), {}, set())
    assert machine.params_of("homes.add") == []


def test_a_move_that_fails_leaves_the_place_as_it_was(shell: Shell, machine: Machine) -> None:
    shell.run("connect", "--team")
    machine.answers("relay.stop", t.RelayStopping(pid=NO_PROCESS))
    machine.system.refuses = "restart"
    ran = shell.run("connect", "--team", "--port", "9000", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (3, "relay_not_running")
    assert places.load(machine.home) == Place(interface="eth0")


def test_no_agent_makes_a_relay(shell: Shell, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "agent_host_above", lambda: "codex")
    ran = shell.run("connect", "--team", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "needs_person")
    assert not machine.home.root.exists()
    assert machine.system.asked == []


def test_a_person_whose_relay_ends_with_the_session_gets_the_command(shell: Shell, machine: Machine) -> None:
    machine.system.lingers = False
    assert "\nloginctl enable-linger\n" in shell.run("connect", "--team").stdout
    machine.system.lingers = True
    assert "enable-linger" not in shell.run("connect", "--team").stdout


def test_without_a_service_manager_the_relay_is_detached(shell: Shell, machine: Machine) -> None:
    machine.system.kind = "detached"
    assert shell.run("connect", "--team").code == 0
    assert len(machine.system.detached) == 1


def test_taking_parler_out_takes_the_service_out_and_keeps_the_rooms(shell: Shell, machine: Machine) -> None:
    shell.run("connect", "--team")
    machine.answers("relay.stop", t.RelayStopping(pid=NO_PROCESS))
    assert shell.run("connect", "--remove", "codex", "--json").document.get("service") is None
    assert machine.system.running
    dry = shell.run("connect", "--remove", "--dry-run", "--json").document
    assert dry["service"] == {"kind": "systemd", "status": "unchanged"}
    assert machine.system.running
    ran = shell.run("connect", "--remove")
    assert ran.code == 0
    assert "Its rooms and keys stay in ~/.parler/relay" in ran.stdout
    assert (machine.system.running, machine.system.loaded) == (set(), {})
    assert places.load(machine.home) == Place(interface="eth0")
    assert "service" not in shell.run("connect", "--remove", "--json").document


# -- the relay of somebody else ----------------------------------------------------------------------------


def refusing(machine: Machine, *answers: Any) -> None:
    machine._answers.pop("homes.add", None)
    machine.answers("homes.add", *answers)


def test_a_person_types_the_secret_which_is_not_shown(shell: Shell, machine: Machine) -> None:
    added = t.HomeAdded(home=entry(default=True), status="added")
    refusing(machine, ParlerError("not_enrolled"), ParlerError("wrong_secret"), added)
    ran = shell.run("connect", "--relay", LINE, terminal=True, stdin=f"nonsense\n{SECRET}\n".encode())
    assert ran.code == 0, ran.stderr
    assert [params.secret for params in machine.params_of("homes.add") if isinstance(params, t.AddHome)] == [
        "",
        "nonsense",
        SECRET,
    ]
    assert SECRET not in ran.stdout + ran.stderr
    assert "does not take this join secret" in ran.stderr
    assert "team-7f3k2q is added, at wss://192.168.1.20:7777" in ran.stdout
    assert "7f3k2qabcdefghijklmnopqrstuvwxyz" in ran.stdout


def test_three_wrong_secrets_end_the_command(shell: Shell, machine: Machine) -> None:
    refusing(machine, ParlerError("not_enrolled"), ParlerError("wrong_secret"))
    ran = shell.run("connect", "--relay", LINE, terminal=True, stdin=b"a\nb\nc\nd\n")
    assert ran.code == 1
    assert len(machine.params_of("homes.add")) == 1 + team.TRIES


def test_whoever_the_relay_knows_is_asked_for_nothing(shell: Shell, machine: Machine) -> None:
    refusing(machine, t.HomeAdded(home=entry(default=True), status="unchanged"))
    ran = shell.run("connect", "--relay", LINE, "--json", stdin=b"")
    assert ran.code == 0
    assert ran.document["home"] == "team-7f3k2q"
    assert ran.document["relay"] == {
        "name": "team-7f3k2q",
        "status": "unchanged",
        "url": "wss://192.168.1.20:7777",
        "fingerprint": LINE.partition("#")[2],
    }


@pytest.mark.parametrize("from_stdin", [True, False])
def test_a_script_hands_the_secret_over_in_a_file_or_on_stdin(
    shell: Shell, machine: Machine, tmp_path: Path, from_stdin: bool
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    ran = shell.run(
        "connect",
        "--relay",
        LINE,
        "--join-secret-file",
        "-" if from_stdin else str(file),
        stdin=SECRET.encode() + b"\n",
    )
    assert ran.code == 0, ran.stderr
    assert machine.params_of("homes.add") == [t.AddHome(line=LINE, secret=SECRET)]
    assert "Other users" not in ran.stderr
    file.chmod(0o644)
    if not from_stdin:
        assert "chmod 600" in shell.run("connect", "--relay", LINE, "--join-secret-file", str(file)).stderr


def test_without_a_terminal_the_file_is_asked_for(shell: Shell, machine: Machine) -> None:
    refusing(machine, ParlerError("not_enrolled"))
    ran = shell.run("connect", "--relay", LINE)
    assert ran.code == 1
    assert "--join-secret-file FILE" in ran.stderr


@pytest.mark.parametrize(
    ("code", "exit_code"), [("wrong_relay", 1), ("wrong_secret", 1), ("kicked", 1), ("invalid_param", 1)]
)
def test_a_relay_that_is_not_the_right_one_ends_the_command_before_a_host_is_touched(
    shell: Shell, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, exit_code: int
) -> None:
    touched: list[object] = []

    def touch(*args: object, **_how: object) -> Iterator[Outcome]:
        touched.append(args)
        return iter(())

    monkeypatch.setattr("configs.connect.connect", touch)
    refusing(machine, ParlerError(code))
    (tmp_path / "secret").write_text(SECRET)
    ran = shell.run("connect", "--relay", LINE, "--join-secret-file", str(tmp_path / "secret"), "--json")
    assert (ran.code, ran.document["error"]["code"], touched) == (exit_code, code, [])
    assert len(machine.params_of("homes.add")) == 1


def test_a_relay_that_nobody_reaches_is_said_with_what_to_look_at(shell: Shell, machine: Machine) -> None:
    machine._answers.pop("homes.add")
    machine.answers("homes.add", ParlerError("home_unreachable", "No machine answers at this address."))
    error = shell.run("connect", "--relay", LINE, "--json").document["error"]
    assert (error["code"], error["message"]) == ("home_unreachable", "No machine answers at this address.")
    assert error["hint"].startswith("Nothing was stored. Look whether the relay runs")


def test_a_file_that_is_not_there_is_a_usage_error(shell: Shell) -> None:
    ran = shell.run("connect", "--relay", LINE, "--join-secret-file", "/nowhere/secret")
    assert ran.code == 2
    assert "/nowhere/secret cannot be read" in ran.stderr


# -- this machine ------------------------------------------------------------------------------------------


def test_sessions_live_on_this_machine_again_when_the_person_says_so(
    shell: Shell, machine: Machine, tmp_path: Path
) -> None:
    assert shell.run("connect", "--local", "--json").document["home"] == "local"
    assert machine.params_of("homes.default") == []
    (tmp_path / ".parler" / "homes.json").write_text("{}")
    local = t.HomeEntry(name="local", id="A1", url="", fingerprint="", state="local", default=True)
    machine.answers("homes.default", local)
    document = shell.run("connect", "--local", "--json").document
    assert document["home"] == "local"
    assert machine.params_of("homes.default") == [t.ChooseHome(name="local")]


def test_connecting_says_where_sessions_live_and_asks_the_daemon_only_where_a_relay_was_added(
    shell: Shell, machine: Machine, tmp_path: Path
) -> None:
    assert shell.run("connect", "--json").document["home"] == "local"
    assert "homes.list" not in machine.ops()
    (tmp_path / ".parler" / "homes.json").write_text("{}")
    machine.answers("homes.list", t.HomeList(homes=[entry(default=True)]))
    assert shell.run("connect", "--json").document["home"] == "team-7f3k2q"


@pytest.mark.parametrize(
    "words",
    [
        ["--team", "--local"],
        ["--team", "--relay", LINE],
        ["--list", "--team"],
        ["--print", "--relay", LINE],
        ["--remove", "--local"],
        ["--dry-run", "--team"],
        ["--bind", "127.0.0.1"],
        ["--port", "9000"],
        ["--name", "crew", "--local"],
        ["--join-secret-file", "f", "--team"],
        ["--team", "--port", "0"],
        ["--team", "--port", "65536"],
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(shell: Shell, machine: Machine, words: list[str]) -> None:
    ran: Ran = shell.run("connect", *words)
    assert ran.code == 2
    assert machine.asked == []
