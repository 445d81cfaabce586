"""The relay as a service: made once, started, stopped, taken out, over every kind of system."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError
from parlerd.paths import Home, prepare, relay_home
from relay.service import Kind, Runner, Service, SystemRunner
from tests.support.service_manager import FakeSystem

KINDS: tuple[Kind, ...] = ("systemd", "launchd", "detached")
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
MANAGED = pytest.mark.parametrize("kind", ["systemd", "launchd"])


def system_of(kind: Kind, tmp_path: Path) -> FakeSystem:
    return FakeSystem(kind, tmp_path / ".config" / "systemd" / "user")


def service_of(system: Runner, tmp_path: Path, kind: Kind, home: Home | None = None) -> Service:
    home = home or Home(tmp_path / ".parler", explicit=True)
    prepare(home)
    prepare(relay_home(home))
    return Service(home, relay_home(home), system, {"HOME": str(tmp_path)}, is_macos=kind == "launchd")


def files(tmp_path: Path) -> list[str]:
    """What the service manager would find."""
    found = [*(tmp_path / ".config").rglob("*"), *(tmp_path / "Library").rglob("*")]
    return sorted(path.name for path in found if path.is_file())


@EVERY_KIND
def test_a_service_is_made_once_and_made_again_changes_nothing(kind: Kind, tmp_path: Path) -> None:
    system = system_of(kind, tmp_path)
    service = service_of(system, tmp_path, kind)
    assert service.make() == (kind, True)
    before, asked = files(tmp_path), len(system.asked)
    assert service.make() == (kind, False)
    assert files(tmp_path) == before
    assert system.asked[asked:] == []
    record = service.record
    assert record is not None
    assert record.kind == kind


@MANAGED
def test_a_service_that_runs_is_left_alone_and_begun_anew_when_asked(kind: Kind, tmp_path: Path) -> None:
    system = system_of(kind, tmp_path)
    service = service_of(system, tmp_path, kind)
    service.make()
    service.start()
    assert (len(system.running), system.starts) == (1, 1)
    service.start()
    assert system.starts == 1
    service.start(again=True)
    assert (len(system.running), system.starts) == (1, 2)
    service.stop()
    assert system.running == set()
    service.start()
    assert len(system.running) == 1


@EVERY_KIND
def test_a_service_that_is_taken_out_leaves_nothing_and_taking_out_nothing_does_nothing(
    kind: Kind, tmp_path: Path
) -> None:
    system = system_of(kind, tmp_path)
    service = service_of(system, tmp_path, kind)
    assert service.remove() is None
    service.make()
    service.start()
    removed = service.remove()
    assert removed is not None
    assert removed.kind == kind
    assert (system.running, system.enabled, system.loaded, files(tmp_path)) == (set(), set(), {}, [])
    assert service.record is None
    assert relay_home(Home(tmp_path / ".parler")).keys.is_dir()


def test_without_a_service_manager_the_relay_is_a_process_of_its_own(tmp_path: Path) -> None:
    system = system_of("detached", tmp_path)
    service = service_of(system, tmp_path, "detached")
    service.make()
    service.start()
    assert system.detached == [[sys.executable, "-I", "-m", "_parler", "relay", "--home", str(tmp_path / ".parler")]]
    assert files(tmp_path) == []
    system.refuses = "detach"
    with pytest.raises(ParlerError) as failed:
        service.start()
    assert failed.value.code == "relay_not_running"
    assert "Cannot allocate memory" in failed.value.message


def test_a_unit_comes_back_with_the_users_session(tmp_path: Path) -> None:
    system = system_of("systemd", tmp_path)
    service = service_of(system, tmp_path, "systemd")
    service.make()
    service.start()
    assert system.enabled == system.running == {"parler-relay.service"}
    text = system.loaded["parler-relay.service"]
    assert f"ExecStart={sys.executable} -I -m _parler relay --home {tmp_path}/.parler\n" in text
    assert "Restart=on-failure" in text
    assert "UMask=0077" in text


def test_a_unit_that_an_upgrade_changes_is_read_again(tmp_path: Path) -> None:
    system = system_of("systemd", tmp_path)
    service = service_of(system, tmp_path, "systemd")
    service.make()
    unit = tmp_path / ".config" / "systemd" / "user" / "parler-relay.service"
    wanted = unit.read_text()
    unit.write_text("[Service]\nExecStart=/old/python -m relay\n")
    assert service.make().changed
    assert unit.read_text() == wanted
    assert system.loaded["parler-relay.service"] == wanted


@MANAGED
def test_two_homes_of_one_user_have_two_services(kind: Kind, tmp_path: Path) -> None:
    system = system_of(kind, tmp_path)
    usual = service_of(system, tmp_path, kind)
    other = service_of(system, tmp_path, kind, Home(tmp_path / "other", explicit=True))
    for service in (usual, other):
        service.make()
        service.start()
    assert len(system.running) == len(files(tmp_path)) == 2
    usual.remove()
    assert len(system.running) == len(files(tmp_path)) == 1


def test_words_that_systemd_would_read_in_another_way_are_quoted(tmp_path: Path) -> None:
    system = system_of("systemd", tmp_path)
    home = Home(tmp_path / 'a b%h$HOME"x', explicit=True)
    service_of(system, tmp_path, "systemd", home).make()
    (text,) = system.loaded.values()
    assert f'--home "{tmp_path}/a b%%h$$HOME\\"x"\n' in text
    assert f'append:{tmp_path}/a b%%h$HOME"x/relay/log/' in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize("folder", [".parler", "a b%h$HOME"])
def test_systemd_itself_finds_nothing_wrong_with_the_unit(folder: str, tmp_path: Path) -> None:
    system = system_of("systemd", tmp_path)
    service_of(system, tmp_path, "systemd", Home(tmp_path / folder, explicit=True)).make()
    (unit,) = (tmp_path / ".config" / "systemd" / "user").iterdir()
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    about = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    assert about == []


def test_an_agent_of_launchd_says_what_is_started_and_when(tmp_path: Path) -> None:
    system = system_of("launchd", tmp_path)
    service = service_of(system, tmp_path, "launchd")
    service.make()
    with (tmp_path / "Library" / "LaunchAgents" / "app.parler.relay.plist").open("rb") as file:
        said = plistlib.load(file)
    assert said["ProgramArguments"] == service.command
    assert (said["Label"], said["RunAtLoad"], said["KeepAlive"]) == (
        "app.parler.relay",
        True,
        {"SuccessfulExit": False},
    )
    assert said["Umask"] == 0o077


def test_what_the_system_refuses_is_said_with_the_way_around_it(tmp_path: Path) -> None:
    system = system_of("systemd", tmp_path)
    system.refuses = "start"
    service = service_of(system, tmp_path, "systemd")
    service.make()
    with pytest.raises(ParlerError) as failed:
        service.start()
    assert failed.value.code == "relay_not_running"
    assert "systemctl --user start parler-relay.service failed: start is refused here" in failed.value.message


def test_a_user_whose_services_end_with_the_session_is_told(tmp_path: Path) -> None:
    system = system_of("systemd", tmp_path)
    service = service_of(system, tmp_path, "systemd")
    assert service.lingers()
    service.make()
    assert not service.lingers()
    system.lingers = True
    assert service.lingers()
    detached = service_of(system_of("detached", tmp_path), tmp_path, "detached", Home(tmp_path / "o", explicit=True))
    detached.make()
    assert detached.lingers()


def test_what_was_made_is_taken_out_although_the_system_offers_something_else_by_then(tmp_path: Path) -> None:
    system = system_of("systemd", tmp_path)
    service_of(system, tmp_path, "systemd").make()
    later = service_of(system_of("detached", tmp_path), tmp_path, "detached")
    removed = later.remove()
    assert removed is not None
    assert removed.kind == "systemd"
    assert files(tmp_path) == []


def test_a_service_that_was_never_made_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(ParlerError) as failed:
        service_of(system_of("detached", tmp_path), tmp_path, "detached").start()
    assert failed.value.code == "relay_not_running"


@pytest.mark.parametrize("text", ["", "{}", '{"v":1,"kind":"cron"}', "\xff"])
def test_a_record_that_parler_did_not_write_is_named(text: str, tmp_path: Path) -> None:
    service = service_of(system_of("detached", tmp_path), tmp_path, "detached")
    path = relay_home(Home(tmp_path / ".parler")).root / "service.json"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(ParlerError) as failed:
        service.remove()
    assert failed.value.code == "invalid_settings"
    path.chmod(0o666)
    with pytest.raises(ParlerError, match="others can write"):
        service.remove()


def test_a_real_program_is_run_and_a_missing_one_is_told_apart(tmp_path: Path) -> None:
    runner = SystemRunner({"PATH": "/usr/bin:/bin"})
    assert runner.run(["sh", "-c", "echo said; echo too >&2; exit 3"]) == (3, "said\ntoo")
    assert runner.run(["parler-no-such-program"]).status == 127
