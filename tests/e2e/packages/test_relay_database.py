"""Relays beside a server of PostgreSQL, by the words of the file for Compose (the roles, the tables, both relays) and
by those of the unit.

Docker itself is not run: the commands of the file are, against a server that asks for passwords as the image of
PostgreSQL does. What both containers mount is mounted for both relays here.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from configs.package import systems
from configs.package.about import about
from parlerd.paths import relay_home
from tests.support import postgres as pg
from tests.support.processes import PATIENCE_S, Somebody, put_program, somebody, until
from tests.support.team import free_port
from tests.tools.postgres import server

pytestmark = pytest.mark.e2e

SECRETS: Final = ("postgres", "owner", "relay")
PASSWORD: Final = "0123456789abcdef"
SHARED: Final = ("keys", "files")


@dataclass
class Server:
    """A server with a port, which asks for passwords there."""

    port: int
    superuser: str
    psql: Path


@pytest.fixture
def database() -> Iterator[Server]:
    version = pg.majors()[-1]
    if version is None:
        pg.go_without("no PostgreSQL 15 or newer is installed here")
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": str(port)}
    with server.throwaway(version, settings=settings) as made:
        rules = made.data / "pg_hba.conf"
        rules.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        found = Server(port, f"host={made.folder} port={port} user=postgres", version.programs / "psql")
        subprocess.run([found.psql, found.superuser, "-c", "SELECT pg_reload_conf()"], check=True, capture_output=True)
        yield found


@dataclass
class Composed:
    """What the file for Compose says, with the ports and the folders of this machine."""

    services: dict[str, Any]
    secrets: Path
    port: int

    def words(self, name: str, port: int) -> list[str]:
        """The command line of a service."""
        service = self.services[name]
        (script,) = service["command"]
        assert {*service["secrets"]} <= {*SECRETS}
        # Compose takes two dollars for one.
        script = self.here(script).replace("@127.0.0.1/", f"@127.0.0.1:{self.port}/").replace("$$", "$")
        return [*service["entrypoint"], script.replace("$PORT", str(port))]

    def here(self, text: str) -> str:
        """A text of the packages, with the folder of this machine that has the secrets."""
        return text.replace("/run/secrets/", f"{self.secrets}/")


def mounting(service: dict[str, Any], shared: Mapping[str, Path], own: Path) -> list[str]:
    """What to put before a command line, so that it sees the folders that both services share where they mount them."""
    places = dict(each.split(":") for each in service["volumes"])
    script = []
    for volume, folder in shared.items():
        place = own / Path(places[volume]).relative_to("/srv/relay/parler/relay")
        place.mkdir(mode=0o700)
        script.append(f"mount --bind {folder} {place}")
    unshare = ["unshare", "--mount", *(("--map-root-user",) if os.geteuid() else ())]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    return [*unshare, "/bin/sh", "-euc", f'{" && ".join(script)} && exec "$@"', "sh"]


def starts(
    one: Somebody, words: Sequence[str], programs: Path, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        words,
        env=one.environment(PATH=f"{programs}:{os.environ['PATH']}"),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    one.children.append(child)
    return child


def until_it_runs(one: Somebody, child: subprocess.Popen[str]) -> None:
    def runs() -> bool:
        assert child.poll() is None, child.communicate()
        return bool(one.asks("relay", "status", expect=None).get("running"))

    until(runs, "relay that runs")


@pytest.fixture
def composed(database: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Composed:
    """The server with the roles and the tables, and `parler` beside the secrets."""
    texts = systems.relay(about(), "wheel.whl", "")
    services = YAML(typ="safe").load(texts["compose.postgres.yaml"])["services"]
    found = Composed(services, tmp_path / "secrets", database.port)
    found.secrets.mkdir()
    for name in SECRETS:
        (found.secrets / name).write_text(f"{name}{PASSWORD}\n")
    subprocess.run(
        [database.psql, database.superuser, "-v", "ON_ERROR_STOP=1", "--no-psqlrc"],
        input=found.here(texts["roles.sql"]),
        check=True,
        capture_output=True,
        text=True,
    )
    put_program(tmp_path)
    with somebody(monkeypatch) as owner:
        ran = starts(owner, found.words("migrate", 0), tmp_path)
        said, _ = ran.communicate(timeout=2 * PATIENCE_S)
        assert ran.returncode == 0, said
    return found


def test_the_services_of_the_file_are_two_relays_of_one_home_over_the_server(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {name: tmp_path / name for name in SHARED}
    for folder in shared.values():
        folder.mkdir(mode=0o700)
    with ExitStack() as stack:
        first, second = (stack.enter_context(somebody(monkeypatch)) for _ in range(2))
        for one, name in ((first, "relay-1"), (second, "relay-2")):
            own = relay_home(one.home)
            for folder in (one.home.root, own.root):
                folder.mkdir(mode=0o700)
            before = mounting(composed.services[name], shared, own.root)
            until_it_runs(one, starts(one, [*before, *composed.words(name, free_port())], tmp_path))

        def are_two() -> bool:
            found = [each for one in (first, second) for each in one.asks("relay", "status")["relays"]]
            return len(found) == 4 and all(each["shards"] and each["reached"] for each in found)

        until(are_two, "two relays that share the rooms")
        shown = [one.asks("relay", "status") for one in (first, second)]
        assert shown[0]["home"] == shown[1]["home"]
        assert PASSWORD not in str(shown)


def test_the_unit_takes_the_url_with_its_password_from_a_file_that_is_not_the_relays(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = systems.relay(about(), "wheel.whl", "")["parler-relay-database.conf"]
    (line,) = re.findall(r"^ExecStart=/usr/bin/parler (.+)$", text, re.MULTILINE)
    assert re.findall(r"^StandardInput=(.+)$", text, re.MULTILINE) == ["file:/etc/parler/store-url"]
    words = [word.replace("7777", str(free_port())) for word in shlex.split(line)]
    url = tmp_path / "store-url"
    url.write_text(f"postgresql://parler:relay{PASSWORD}@127.0.0.1:{composed.port}/parler\n")
    with somebody(monkeypatch) as one:
        # The second time the relay knows its database already, as it does when the machine starts again.
        for _ in range(2):
            with url.open() as file:
                child = starts(one, [str(tmp_path / "parler"), *words], tmp_path, file.fileno())
            until_it_runs(one, child)
            assert one.asks("relay", "status")["store"] == f"postgresql://parler@127.0.0.1:{composed.port}/parler"
            child.terminate()
            child.communicate(timeout=2 * PATIENCE_S)
            assert child.returncode == 0
