"""What keeps a relay running, asked of the fake systems and of the real one of this machine where it answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from parlerd.paths import Home, prepare, relay_home
from relay.service import Service, SystemRunner
from tests.support.service_manager import FakeSystem


class Sleeper(Service):
    """A service whose program only stays, so that no relay is needed."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-I", "-c", "import signal; signal.pause()", "--home", os.fspath(self._home.root)]


@dataclass
class System:
    """A service on some system, and whether that system says that it runs."""

    service: Service
    runs: Callable[[], bool]


@pytest.fixture(params=["fake systemd", "fake launchd", "real"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    home = Home(tmp_path / "home", explicit=True)
    prepare(home)
    prepare(relay_home(home))
    if request.param != "real":
        is_macos = request.param == "fake launchd"
        told = FakeSystem("launchd" if is_macos else "systemd", tmp_path / ".config/systemd/user")
        service = Sleeper(home, relay_home(home), told, {"HOME": str(tmp_path)}, is_macos=is_macos)
        yield System(service, lambda: bool(told.running))
        return
    runner = SystemRunner(os.environ)
    is_macos = sys.platform == "darwin"
    service = Sleeper(home, relay_home(home), runner, os.environ, is_macos=is_macos)
    if service._offered() == "detached":
        pytest.skip("this machine has no service manager for this user")

    def runs() -> bool:
        if is_macos:
            return runner.run(["launchctl", "print", f"{service._domain}/{service._label}"]).status == 0
        return runner.run(["systemctl", "--user", "is-active", service._unit]).output == "active"

    try:
        yield System(service, runs)
    finally:
        service.remove()


def test_a_service_runs_from_its_start_to_its_stop_and_is_gone_once_it_is_taken_out(system: System) -> None:
    service = system.service
    assert service.make().changed
    assert not service.make().changed
    assert not system.runs()
    service.start()
    assert system.runs()
    service.start()
    service.start(again=True)
    assert system.runs()
    service.stop()
    assert not system.runs()
    service.start()
    record = service.record
    assert record is not None
    service.remove()
    assert not system.runs()
    assert not Path(record.file).exists()
    assert service.remove() is None
