"""A relay over a PostgreSQL database: whose it is and which state it is in, one relay at a time, and a server that
comes and goes while the relay serves."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from parlerd.client.launch import last_failure
from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.model import HomeId
from parlerd.operations import types as t
from parlerd.paths import Home, prepare
from parlerd.store.postgres import PostgresStore
from relay import database as database_module
from relay import place as places
from relay import seen as seen_file
from relay import store_url
from relay.database import Database, open_database
from tests.relay.test_program import PATIENCE_S, Running, get, until
from tests.support import postgres as pg
from tests.support.postgres import Postgres
from tests.support.team import free_port
from tests.support.wire_client import short_home

KEY = HomeId("RELAY")
CODES = "c" * 64
"""What tells the secret behind this relay's codes from another."""


@pytest.fixture
def made(postgres: Postgres) -> Iterator[pg.Database]:
    """A database with Parler's tables."""
    with postgres.database(pg.with_tables) as database:
        yield database


def folder(path: Path, url: str) -> Home:
    home = Home(path, explicit=True)
    prepare(home)
    store_url.keep(home, url)
    return home


@pytest.fixture
def home(tmp_path: Path, made: pg.Database) -> Home:
    return folder(tmp_path / "relay", made.relay)


def opened(home: Home, key: HomeId = KEY) -> Database:
    return open_database(home, key, CODES, wait=lambda seconds: None)


def ended(database: Database) -> None:
    database.store.close()
    trio.run(database.leave)


def refused(home: Home, key: HomeId = KEY) -> StoreError:
    with pytest.raises(StoreError) as error:
        opened(home, key)
    return error.value


# -- opening -----------------------------------------------------------------------------------------------


def test_a_database_keeps_the_name_of_its_log_and_shows_no_password(home: Home) -> None:
    first = opened(home)
    ended(first)
    again = opened(home)
    ended(again)
    assert first.log_id == again.log_id
    assert len(first.log_id) == 32
    assert first.shown.startswith("postgresql://")


def test_the_database_of_another_relay_is_left_alone(home: Home, made: pg.Database, tmp_path: Path) -> None:
    first = opened(home)
    ended(first)
    other = folder(tmp_path / "other", made.relay)
    error = refused(other, HomeId("ANOTHER"))
    assert (error.code, "belongs to another relay" in error.message) == ("store_of_another_relay", True)
    assert seen_file.load(other) is None
    again = opened(home)
    ended(again)
    assert again.log_id == first.log_id


def test_several_relays_serve_a_database_and_each_leaves_by_itself(
    home: Home, made: pg.Database, tmp_path: Path
) -> None:
    first, second = opened(home), opened(folder(tmp_path / "second", made.relay))
    assert first.log_id == second.log_id
    trio.run(second.holding.look)
    assert {row.relay for row in second.holding.living} == {first.beats.row.relay, second.beats.row.relay}
    ended(first)
    second.beats.inner = "127.0.0.1:7778"
    trio.run(second.beats.beat)
    trio.run(second.holding.look)
    assert [row.relay for row in second.holding.living] == [second.beats.row.relay]
    assert second.holding.shards == 1024
    ended(second)


def test_a_relay_with_the_key_of_the_others_and_not_all_of_their_secrets_is_refused(
    home: Home, made: pg.Database, tmp_path: Path
) -> None:
    first = opened(home)
    second = folder(tmp_path / "second", made.relay)
    with pytest.raises(StoreError) as error:
        open_database(second, KEY, "d" * 64, wait=lambda seconds: None)
    assert error.value.code == "store_of_another_relay"
    assert "`keys`" in error.value.hint
    assert [row.relay for row in first.holding._shared.look().living] == [first.beats.row.relay]
    ended(first)


def test_who_takes_every_room_is_refused_where_another_relay_lives_and_keeps_others_from_deciding(
    home: Home, made: pg.Database, tmp_path: Path
) -> None:
    first, second = opened(home), opened(folder(tmp_path / "second", made.relay))
    with pytest.raises(StoreError, match="store_in_use"):
        first.take_all()
    ended(second)
    first.take_all()
    late = opened(folder(tmp_path / "late", made.relay))
    late.beats.inner = "127.0.0.1:7778"
    trio.run(late.beats.beat)
    trio.run(late.holding.look)
    assert late.holding.shards == 0
    ended(late)
    ended(first)


def test_a_relay_that_was_killed_takes_its_own_place_again_at_once(home: Home) -> None:
    first = opened(home)
    again = opened(home)
    assert again.beats.may_decide()
    ended(again)
    ended(first)


def test_another_database_behind_the_same_url_is_served_only_after_a_persons_word(
    home: Home, made: pg.Database, postgres: Postgres
) -> None:
    first = opened(home)
    ended(first)
    with postgres.database(pg.with_tables) as other:
        store_url.keep(home, other.relay)
        error = refused(home)
        assert error.code == "store_went_back"
        assert "parler relay accept-restore" in error.hint
        # It stays so, and nothing was put in that lets another relay wait.
        assert refused(home).code == "store_went_back"
        places.accept_restore(home)
        accepted = opened(home)
        ended(accepted)
        assert accepted.log_id != first.log_id
        assert not places.accepted_file(home).exists()
        again = opened(home)
        ended(again)
        assert again.log_id == accepted.log_id
    store_url.keep(home, made.relay)
    assert refused(home).code == "store_went_back"


def test_a_database_that_is_nobodys_stays_so_where_it_is_refused(
    home: Home, postgres: Postgres, tmp_path: Path
) -> None:
    ended(opened(home))
    with postgres.database(pg.with_tables) as other:
        store_url.keep(home, other.relay)
        assert refused(home).code == "store_went_back"
        # Whose it is meant to be may begin.
        ended(opened(folder(tmp_path / "another", other.relay), HomeId("ANOTHER")))


def test_a_database_that_was_brought_back_to_an_earlier_state_is_not_served(home: Home) -> None:
    first = opened(home)
    ended(first)
    path = seen_file.file_of(home)
    seen = json.loads(path.read_bytes())
    seen["mark"]["position"] += 1_000_000_000
    path.write_text(json.dumps(seen))
    error = refused(home)
    assert (error.code, "brought back" in error.message) == ("store_went_back", True)
    places.accept_restore(home)
    accepted = opened(home)
    ended(accepted)
    # It is the same log with less in it, which each machine finds out room by room.
    assert accepted.log_id == first.log_id
    assert not places.accepted_file(home).exists()
    ended(opened(home))


def test_a_server_that_is_down_is_waited_for_and_then_said(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    attempts = iter([True, True, False])

    def late(url: str) -> PostgresStore:
        if next(attempts):
            raise StoreError("store_unreachable")
        return PostgresStore(url)

    with monkeypatch.context() as patched:
        patched.setattr(database_module, "PostgresStore", late)
        ended(open_database(home, KEY, CODES, wait=waits.append))
    assert len(waits) == 2
    store_url.keep(home, "postgresql://parler@127.0.0.1:1/parler")
    monkeypatch.setattr(database_module, "REACHED_WITHIN_S", 0.0)
    assert refused(home).code == "store_unreachable"


# -- a relay that runs -------------------------------------------------------------------------------------


@pytest.fixture(params=pg.majors(), ids=lambda version: f"postgres-{version.major if version else 'missing'}")
def own(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A server of this test alone, which it may stop."""
    with pg.serving(request.param) as found:
        yield found


@pytest.fixture
def relays() -> Iterator[Callable[[str], Running]]:
    """Makes relays over the database at a URL, each in a folder of its own."""
    with ExitStack() as stack:

        def make(url: str) -> Running:
            made = Running(stack.enter_context(short_home()), free_port())
            place = places.load(made.relay)
            assert place is not None
            store_url.keep(made.relay, url)
            places.store(made.relay, places.in_database(made.relay, place))
            stack.callback(end, made)
            return made

        yield make


def end(running: Running) -> None:
    if running.process is not None:
        running.process.kill()
        running.process.wait(PATIENCE_S)


def is_ready(running: Running) -> bool:
    return get(running.port, "/readyz").startswith(b"HTTP/1.1 200 ")


def soon(look: Callable[[], bool], what: str) -> None:
    """Wait until `look` says yes. Its door takes in some connections a second of one address, so it is asked now and
    then."""

    def paced() -> bool | None:
        time.sleep(0.3)
        return look() or None

    until(paced, what)


def shards_of(running: Running) -> list[int]:
    """How many shards each relay has, as one of them says."""
    found = running.status()
    return [] if found is None else [each.shards for each in found.relays]


def failure_of(running: Running) -> ParlerError:
    assert running.ended() == 1
    failure = last_failure(running.relay, program="relay")
    assert failure is not None
    return failure


@pytest.mark.e2e
def test_a_relay_serves_over_a_database_and_says_so(own: Postgres, relays: Callable[[str], Running]) -> None:
    with own.database(pg.with_tables) as database:
        running = relays(database.relay)
        info = running.up()
        assert info.store_ok
        assert info.store == store_url.shown(database.relay)
        assert info.rooms == 0
        assert not running.relay.database.exists()
        assert is_ready(running)
        with pytest.raises(ParlerError) as error:
            running.ask("relay.backup", t.BackUpRelay(file=str(running.home.root / "b.tar")))
        assert error.value.code == "backup_elsewhere"
        assert "PostgreSQL's own tools" in error.value.message
        assert not (running.home.root / "b.tar").exists()
        running.ask("relay.stop", t.StopRelay())
        assert running.ended() == 0
        assert running.up().home == info.home


@pytest.mark.e2e
def test_numbers_of_a_relay_over_a_database_tell_of_its_beats(own: Postgres, relays: Callable[[str], Running]) -> None:
    with own.database(pg.with_tables) as database:
        running = relays(database.relay)
        port = free_port()
        running.relay.settings.write_text(f"[relay]\nmetrics_port = {port}\n")
        running.up()

        def page() -> dict[str, float]:
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                lines = sock.makefile("rb").read().decode().partition("\r\n\r\n")[2].splitlines()
            return {name: float(value) for name, value in (each.split() for each in lines if not each.startswith("#"))}

        soon(lambda: page()["parler_relay_beats_total"] > 0, "beat")
        numbers = page()
        assert numbers["parler_relay_decides"] == 1
        assert (numbers["parler_relay_relays"], numbers["parler_relay_shards"]) == (1, 1024)
        assert numbers["parler_relay_shards_unowned"] == numbers["parler_relay_relays_unreached"] == 0
        assert numbers["parler_relay_beats_missed_total"] == 0
        assert numbers["parler_relay_commits_stale_total"] == 0
        assert numbers["parler_relay_beat_seconds"] < 6
        soon(lambda: "parler_relay_store_connections" in page(), "numbers of the database")
        assert 2 <= page()["parler_relay_store_connections"] <= 6


@pytest.mark.e2e
def test_a_server_that_goes_away_makes_a_relay_wait_and_it_comes_back_by_itself(
    own: Postgres, relays: Callable[[str], Running]
) -> None:
    with own.database(pg.with_tables) as database:
        running = relays(database.relay)
        info = running.up()
        own.server.stop(at_once=True)
        soon(lambda: not is_ready(running), "readyz that says no")
        lost = running.status()
        assert lost is not None
        assert (lost.pid, lost.store_ok, lost.rooms) == (info.pid, False, None)
        own.server.start()
        soon(lambda: is_ready(running), "readyz that says yes again")
        back = running.status()
        assert back is not None
        assert (back.pid, back.store_ok, back.rooms) == (info.pid, True, 0)


@pytest.mark.e2e
def test_a_server_that_is_down_at_the_start_is_the_last_line_of_the_log(
    own: Postgres, relays: Callable[[str], Running]
) -> None:
    with own.database(pg.with_tables) as database:
        running = relays(database.relay)
        own.server.stop(at_once=True)
        running.start()
        failure = failure_of(running)
        own.server.start()
        assert failure.code == "store_unreachable"
        assert "cannot be reached" in failure.message


@pytest.mark.e2e
def test_two_relays_share_a_database_and_one_that_stands_still_comes_back(
    own: Postgres, relays: Callable[[str], Running]
) -> None:
    with own.database(pg.with_tables) as database:
        first, second = relays(database.relay), relays(database.relay)
        first.up()
        # The second has the same key, as one that was copied to another machine has.
        for file in first.relay.keys.iterdir():
            (second.relay.keys / file.name).write_bytes(file.read_bytes())
            (second.relay.keys / file.name).chmod(0o600)
        second.up()
        soon(lambda: is_ready(first) and is_ready(second), "two relays that reach each other")
        assert first.process is not None
        os.kill(first.process.pid, signal.SIGSTOP)
        soon(lambda: shards_of(second) == [1024], "relay that has the rooms of the one that stands still")
        os.kill(first.process.pid, signal.SIGCONT)
        soon(lambda: len(shards_of(first)) == 2 and 0 not in shards_of(first), "relay that has its rooms again")
        soon(lambda: is_ready(first) and is_ready(second), "two relays that reach each other again")
