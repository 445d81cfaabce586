"""The server that tests run: who reaches it, that tests share nothing, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.support import postgres as support
from tests.support.postgres import OWNER, RELAY, Database, Postgres, majors, serving
from tests.support.processes import ROOT, until
from tests.tools.postgres import server
from tests.tools.postgres.installing import NotInstalled, install, without_main_cluster
from tests.tools.postgres.server import ServerFailed


def _ask(url: str, statement: str) -> object:
    with closing(psycopg.connect(url)) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def test_nobody_reaches_it_over_a_network(postgres: Postgres) -> None:
    pid = postgres.server.pid
    assert pid is not None
    assert [one for one in psutil.Process(pid).net_connections() if one.family != socket.AF_UNIX] == []
    assert _ask(postgres.server.url(), "SHOW listen_addresses") == ""


def test_nobody_else_gets_to_its_files(postgres: Postgres) -> None:
    assert postgres.server.folder.stat().st_mode & 0o077 == 0


def test_it_does_not_run_as_root(postgres: Postgres) -> None:
    assert postgres.server.pid is not None
    assert psutil.Process(postgres.server.pid).uids().real != 0


def test_it_keeps_what_it_said_was_committed(postgres: Postgres) -> None:
    settings = ("fsync", "full_page_writes", "synchronous_commit")
    assert {_ask(postgres.server.url(), f"SHOW {name}") for name in settings} == {"on"}


def test_text_is_not_ordered_by_bytes(database: Database) -> None:
    if not database.server.version.has_icu:
        pytest.skip("this PostgreSQL was built without ICU")
    assert _ask(database.relay, "SELECT 'a' < 'B'") is True
    assert _ask(database.relay, """SELECT 'a' < 'B' COLLATE "C" """) is False


def test_each_role_is_who_it_says(database: Database) -> None:
    for url, role in ((database.owner, OWNER), (database.relay, RELAY)):
        assert _ask(url, "SELECT current_user") == role
        assert _ask(url, "SELECT bool_or(rolsuper) FROM pg_roles WHERE rolname = current_user") is False


def test_a_database_is_of_one_test(postgres: Postgres) -> None:
    calls = []

    def prepare(database: Database) -> None:
        calls.append(database.name)
        with closing(psycopg.connect(database.owner, autocommit=True)) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")

    with postgres.database(prepare) as first, postgres.database(prepare) as second, postgres.database() as empty:
        with closing(psycopg.connect(first.owner, autocommit=True)) as connection:
            connection.execute("UPDATE kept SET number = 8")
        assert _ask(second.owner, "SELECT number FROM kept") == 7
        assert _ask(empty.owner, "SELECT to_regclass('kept')") is None
    assert len(calls) == 1
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        _ask(first.owner, "SELECT 1")


def test_it_answers_again_with_what_it_had(postgres: Postgres) -> None:
    with serving(postgres.server.version, on_disk=True) as other, other.database() as database:
        with closing(psycopg.connect(database.owner, autocommit=True)) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        ends: list[Callable[[], None]] = [
            other.server.stop,
            lambda: other.server.stop(at_once=True),
            other.server.kill,
        ]
        for end in ends:
            end()
            assert other.server.pid is None
            with pytest.raises(psycopg.OperationalError):
                _ask(database.owner, "SELECT 1")
            other.server.start()
            assert _ask(database.owner, "SELECT number FROM kept") == 7


def test_a_setting_is_what_a_test_asks_for(postgres: Postgres) -> None:
    with serving(postgres.server.version, settings={"fsync": "off"}) as other:
        assert _ask(other.server.url(), "SHOW fsync") == "off"


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(server, "_MEMORY", Path(folder))
        with (
            pytest.raises(ServerFailed, match="no_such_setting"),
            serving(postgres.server.version, settings={"no_such_setting": "1"}),
        ):
            pass
        assert list(Path(folder).iterdir()) == []


@pytest.mark.usefixtures("postgres")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_goes_with_whoever_started_it(how: signal.Signals) -> None:
    """However that dies: a run of tests is killed where it takes too long."""
    with _program("run", "--", "sh", "-c", "echo $PARLER_POSTGRES_URL; exec sleep 600") as started:
        assert started.stdout is not None
        url = started.stdout.readline().strip()
        folder = Path(str(_ask(url, "SHOW unix_socket_directories")))
        (sleeping,) = (child for child in psutil.Process(started.pid).children() if child.name() == "sleep")
        started.send_signal(how)
        started.wait()
        sleeping.kill()
    until(lambda: not _processes_of(folder), "end of the server")
    assert not folder.exists()


@pytest.mark.usefixtures("postgres")
def test_a_server_that_stays_is_ended_by_its_folder() -> None:
    with _program("start") as started:
        said, _ = started.communicate(timeout=120)
    folder, url = said.splitlines()
    assert _ask(url, "SELECT 1") == 1
    with _program("stop", folder) as stopped:
        stopped.communicate(timeout=120)
    assert stopped.returncode == 0
    assert not Path(folder).exists()
    assert _processes_of(Path(folder)) == []


def test_only_a_folder_of_a_server_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="no server"):
        server.remove(tmp_path)
    assert tmp_path.is_dir()


def test_a_test_without_a_server_is_skipped_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(support.VARIABLE, raising=False)
    monkeypatch.setattr(server, "versions", list)
    (missing,) = majors()
    with pytest.raises(pytest.skip.Exception, match=r"python -m tests\.tools\.postgres install"), serving(missing):
        pass
    monkeypatch.setenv(support.VARIABLE, "0")
    with pytest.raises(pytest.skip.Exception, match="left out"), serving(missing):
        pass


def test_how_many_went_without_is_told_in_one_line() -> None:
    one, other = ("tests/x.py", 7, f"Skipped: {support._MISSING}"), ("tests/x.py", 9, "Skipped: there is no browser")
    assert support.told([one, other, one]) == [f"2 tests with PostgreSQL did not run: {support._MISSING}"]
    assert support.told([other]) == []


def test_and_fails_where_nothing_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(support.VARIABLE, "required")
    monkeypatch.setattr(server, "versions", list)
    (missing,) = majors()
    with pytest.raises(pytest.fail.Exception, match=r"python -m tests\.tools\.postgres install"), serving(missing):
        pass


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "create_main_cluster = false\n"),
        ("#create_main_cluster = true\nssl = on\n", None),
        ("create_main_cluster = true\nssl = on\n", "ssl = on\ncreate_main_cluster = false\n"),
        ("  create_main_cluster=true\n", "create_main_cluster = false\n"),
    ],
)
def test_an_install_makes_no_cluster(before: str, after: str | None) -> None:
    assert without_main_cluster(before) == (f"{before}create_main_cluster = false\n" if after is None else after)
    assert without_main_cluster(without_main_cluster(before)) == without_main_cluster(before)


def test_who_cannot_install_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalled, match="your system's own packages"):
        install((99,), clusters=tmp_path / "createcluster.conf")
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def _program(*words: str) -> Iterator[subprocess.Popen[str]]:
    """The tool, as somebody types it."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.tools.postgres", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def _processes_of(folder: Path) -> list[int]:
    return [one.pid for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or ())]
