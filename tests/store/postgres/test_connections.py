"""Connections to a PostgreSQL server: how each is set, how many there are, and what breaks and errors lead to."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psutil
import psycopg
import pytest

from parlerd.core.errors import StoreError
from parlerd.store.postgres import connections
from parlerd.store.postgres.connections import READERS, Connection, LostAnswer, Server, commit
from tests.support.postgres import Database, Postgres
from tests.tools.postgres.server import Server as ServerOfTest
from tests.tools.postgres.server import throwaway

SECRET = "hunter2"
WORDS = "what an agent wrote"


@pytest.fixture
def server(database: Database) -> Iterator[Server]:
    with closing(Server(database.owner)) as made:
        yield made


def by_hand(database: Database, *statements: str) -> None:
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


# -- how each is set ---------------------------------------------------------------------------------------


def test_what_a_role_or_a_database_sets_for_itself_does_not_weaken_a_commit(database: Database) -> None:
    by_hand(
        database,
        f"ALTER DATABASE {database.name} SET synchronous_commit = off",
        f"ALTER DATABASE {database.name} SET statement_timeout = 0",
        f"ALTER DATABASE {database.name} SET client_min_messages = 'error'",
        f"ALTER DATABASE {database.name} SET default_transaction_isolation = 'serializable'",
        f"ALTER ROLE parler_owner IN DATABASE {database.name} SET synchronous_commit = local",
    )
    with closing(Server(database.owner)) as server:

        def settings(connection: Connection) -> dict[str, str]:
            return dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())

        for found in (settings(server.writer), server.ask(settings)):
            assert found["synchronous_commit"] == "on"
            assert found["default_transaction_isolation"] == "read committed"
            assert found["application_name"] == "parler"
            assert found["client_min_messages"] == "warning"
            milliseconds = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
            assert [found[name] for name in milliseconds] == ["10000", "3000", "1000"]


def test_a_url_says_where_and_may_add_what_the_driver_knows(database: Database) -> None:
    with closing(Server(f"{database.owner}&options=-csearch_path%3Dpg_catalog")) as server:
        assert server.row("SELECT current_schema()") == ("pg_catalog",)
        assert server.name == f"{database.name} at {database.server.folder}"


# -- secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "code"),
    [
        (f"postgresql://parler:{SECRET}@/parler?host=/nowhere", "store_unreachable"),
        (f"postgresql://parler:{SECRET}@nowhere.invalid/parler", "store_unreachable"),
        (f"postgresql://parler:{SECRET}@here:{SECRET}/parler", "store_unreachable"),
        (f"postgresql://parler@here/parler?{SECRET}", "invalid_settings"),
        (f"host=here password={SECRET}", "invalid_settings"),
        (f"mysql://parler:{SECRET}@here/parler", "invalid_settings"),
    ],
)
def test_a_password_stands_in_no_error_and_no_representation(url: str, code: str) -> None:
    with pytest.raises(StoreError) as caught:
        _ = Server(url).writer
    assert caught.value.code == code
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)
    assert SECRET not in shown
    with suppress(StoreError):
        assert SECRET not in repr(Server(url))


def test_a_server_says_nothing_of_the_rows_in_an_error(server: Server) -> None:
    server.writer.execute("CREATE TABLE words (word text CHECK (word = 'none'))")
    with pytest.raises(StoreError) as caught:
        server.rows("INSERT INTO words VALUES (%s)", (WORDS,))
    assert WORDS not in "".join(traceback.format_exception(caught.value))
    assert caught.value.details["sqlstate"] == "23514"


# -- what errors mean --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("53100", "store_full"),
        ("53300", "store_unreachable"),
        ("25006", "store_readonly"),
        ("42501", "store_readonly"),
        ("40001", "store_locked"),
        ("55P03", "store_locked"),
        ("57014", "store_failed"),
        ("57P01", "store_unreachable"),
        ("XX001", "store_corrupt"),
        ("XX002", "store_corrupt"),
        ("22012", "store_failed"),
    ],
)
def test_each_error_of_the_server_has_a_code_and_a_plain_sentence(server: Server, state: str, code: str) -> None:
    with pytest.raises(StoreError) as caught:
        server.rows(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")
    assert caught.value.code == code
    assert caught.value.message.endswith(".")
    assert server.damaged is (code == "store_corrupt")


def test_why_a_server_lets_nobody_in_is_said(database: Database) -> None:
    def refusal(url: str) -> tuple[str, str]:
        with pytest.raises(StoreError) as caught:
            _ = Server(url).writer
        return caught.value.code, caught.value.message

    code, message = refusal(database.owner.replace(database.name, "nothing"))
    assert (code, "no database of that name" in message) == ("store_failed", True)
    code, message = refusal(database.owner.replace("parler_owner", "nobody_here"))
    assert (code, "refuses the role" in message) == ("store_failed", True)
    by_hand(database, f"ALTER DATABASE {database.name} CONNECTION LIMIT 0")
    code, message = refusal(database.owner)
    assert (code, "no free connection" in message) == ("store_unreachable", True)


# -- breaks ------------------------------------------------------------------------------------------------


def test_a_connection_that_broke_while_nobody_used_it_is_opened_again(database: Database, server: Server) -> None:
    def pid(connection: Connection) -> object:
        return connection.execute("SELECT pg_backend_pid()").fetchone()

    _ = server.writer
    before = server.ask(pid)
    assert server.ask(pid) == before
    by_hand(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'parler'")
    assert server.ask(pid) != before


def test_what_breaks_its_own_connection_is_not_done_again(server: Server) -> None:
    done: list[int] = []

    def end(connection: Connection) -> None:
        done.append(1)
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(StoreError) as caught:
        server.ask(end)
    assert (caught.value.code, len(done)) == ("store_unreachable", 1)
    assert server.row("SELECT 1") == (1,)


def test_a_server_that_goes_away_while_a_connection_is_opened_cannot_be_reached(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_BACKEND", "SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(StoreError) as caught:
        _ = server.writer
    assert caught.value.code == "store_unreachable"
    monkeypatch.undo()
    assert server.writer.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("before", [0, 1])
def test_a_question_that_fails_leaves_nothing_that_others_stumble_over(before: int, server: Server) -> None:
    """A driver prepares what it is asked often, also in a pipeline of which the server passes over the rest."""
    asked: tuple[str, dict[str, object]] = ("SELECT %(n)s::bigint + 1", {"n": 1})
    for number in range(20):
        if number % 2 == before:
            with pytest.raises(StoreError):
                server.together([("SELECT 1 / 0", {}), asked])
        assert server.together([asked]) == [[(2,)]]


def test_no_more_than_four_read_at_the_same_time(server: Server) -> None:
    inside, most, lock, together = 0, 0, threading.Lock(), threading.Barrier(READERS)

    def work(connection: Connection) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        # Four are needed to go on, and a fifth would be counted.
        together.wait(60)
        with lock:
            inside -= 1

    threads = [threading.Thread(target=server.ask, args=(work,)) for _ in range(3 * READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (inside, most) == (0, READERS)
    assert server.row("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'parler'") == (READERS,)


def test_nothing_is_asked_of_a_store_that_was_closed(database: Database) -> None:
    server = Server(database.owner)
    assert server.row("SELECT 1") == (1,)
    server.close()
    with pytest.raises(StoreError) as caught:
        server.row("SELECT 1")
    assert caught.value.code == "store_failed"


# -- commits -----------------------------------------------------------------------------------------------


def test_a_commit_of_what_had_failed_is_an_error(server: Server) -> None:
    connection = server.writer
    connection.execute("BEGIN")
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1 / 0")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        commit(connection)


def test_what_is_refused_only_when_a_transaction_commits_is_an_error_of_its_kind(server: Server) -> None:
    connection = server.writer
    connection.execute("CREATE TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        commit(connection)
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_commit_that_waits_for_a_standby_too_long_is_one_that_nobody_knows_of(postgres: Postgres) -> None:
    with throwaway(postgres.server.version, settings={"synchronous_standby_names": "nobody"}) as waiting:
        with closing(Server(waiting.url())) as server:
            connection = server.writer
            # Nobody waits for a standby here, so that there is something to commit.
            connection.execute("SET synchronous_commit = local; CREATE TABLE t (n int)")
            connection.execute("SET synchronous_commit = on")
            connection.execute("BEGIN")
            connection.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(LostAnswer):
                commit(connection, within_ms=200)
            server.lose_writer()
            # The process that waited was ended, and what it had written stands.
            assert server.row("SELECT n FROM t") == (1,)
            assert server.row("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == (0,)
        waiting.stop()
        with closing(Server(waiting.url())) as gone, pytest.raises(StoreError) as caught:
            gone.row("SELECT 1")
        assert (caught.value.code, caught.value.spec.retryable) == ("store_unreachable", True)
        waiting.start()


# -- a server that says nothing ----------------------------------------------------------------------------


@contextmanager
def standing_still(own: ServerOfTest) -> Iterator[None]:
    """Every process of a server is stopped meanwhile. The kernel keeps its connections."""
    assert own.pid is not None
    first = psutil.Process(own.pid)
    stopped = [first, *first.children(recursive=True)]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            process.resume()


def test_a_server_that_stands_still_is_not_waited_for_without_end(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "patience_s", 0.3)
    with throwaway(postgres.server.version) as own, closing(Server(own.url())) as server:
        server.writer.execute("SELECT 1")
        reader = server.ask(lambda connection: connection)
        with standing_still(own):
            for connection in (server.writer, reader):
                with pytest.raises(psycopg.OperationalError):
                    connection.execute("SELECT 1")
                # What was asked may be answered yet, so nothing else is asked over this connection.
                assert connection.closed
        assert server.row("SELECT 1") == (1,)


def test_what_may_take_as_long_as_tables_are_large_is_waited_for(
    database: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "patience_s", 0.1)
    slow = "SELECT 7 FROM pg_sleep(0.3)"
    connection = server.writer
    with connection.transaction(), connection.unhurried():
        assert connection.execute(slow.encode()).fetchone() == (7,)
    with pytest.raises(psycopg.OperationalError):
        connection.execute(slow.encode())


def test_nothing_is_asked_while_the_process_of_a_lost_commit_is_there(
    database: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database.owner, autocommit=True) as lost:
        _ = server.writer
        monkeypatch.setattr(server, "_backend", lost.execute(connections._BACKEND).fetchone())
        server.lose_writer()
        # It is told to end, and does not: it may be waiting for a disk that hangs.
        monkeypatch.setattr(connections, "_END", "SELECT false WHERE %s::bigint > 0 AND %s::text <> ''")
        for ask in (lambda: server.row("SELECT 1"), lambda: server.writer):
            with pytest.raises(StoreError) as caught:
                ask()
            assert (caught.value.code, caught.value.spec.retryable) == ("store_locked", True)
    with psycopg.connect(database.superuser, autocommit=True) as watching:
        while watching.execute("SELECT FROM pg_stat_activity WHERE usename = 'parler_owner'").fetchone() is not None:
            pass
    # It cannot be told any more, because it has ended.
    assert server.row("SELECT 1") == (1,)
