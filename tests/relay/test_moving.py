"""A relay's rooms carried into a database and back: one of the two is in charge whatever breaks off, and the same
command goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing

import pytest

from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.store.port import START
from parlerd.store.postgres import moving as stores
from parlerd.store.sqlite import SqliteStore
from relay import moving, seen, store_url
from relay import place as places
from tests.relay.test_program import Running, running
from tests.support import facts as f
from tests.support.postgres import Database

__all__ = ["running"]
"""A relay in a process of its own."""


def wanted(database: Database) -> str:
    return json.dumps({"url": database.relay, "owner": database.owner})


BACK = json.dumps({})


@pytest.fixture
def made(running: Running) -> Running:
    """A relay that ran, and has a room in its file."""
    stopped(running)
    with closing(SqliteStore(running.relay.database, backups=running.relay.backups)) as store:
        (outcome,) = store.transact([[f.append(f.opened(), f.joined(2, f.ANN), f.message(3))]])
        assert outcome.error is None
    return running


def stopped(running: Running) -> t.RelayInfo:
    """Let a relay run once; how it was."""
    info = running.up()
    running.ask("relay.stop", t.StopRelay())
    assert running.ended() == 0
    return info


def kind(running: Running) -> str:
    place = places.load(running.relay)
    assert place is not None
    return place.store


def refused(running: Running, asked: str) -> ParlerError:
    with pytest.raises(ParlerError) as error:
        moving.move(running.relay, asked, lambda line: None)
    return error.value


@pytest.mark.e2e
def test_a_relay_goes_on_over_a_database_and_over_a_file_again_with_its_key_rooms_and_log(
    made: Running, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = made.relay
    before = stopped(made)
    log_id = (home.root / "log.id").read_text()
    said: list[str] = []
    monkeypatch.setattr(moving, "SAY_S", 0.0)
    moving.move(home, wanted(database), said.append)
    assert said[0] == "rows of facts that are copied: 3"
    assert said[-1] == "rooms that are checked: 1"
    assert kind(made) == "postgresql"
    assert not home.database.exists()
    assert (home.root / moving.LEFT).exists()
    over = stopped(made)
    assert (over.home, over.rooms, over.store) == (before.home, 1, store_url.shown(database.relay))
    assert refused(made, wanted(database)).code == "invalid_param"

    (home.root / "log.id").unlink()
    moving.move(home, BACK, said.append)
    assert kind(made) == "file"
    assert (home.root / "log.id").read_text() == log_id
    assert not store_url.file_of(home).exists()
    again = stopped(made)
    assert (again.home, again.rooms) == (before.home, 1)
    with closing(SqliteStore(home.database, backups=home.backups)) as store:
        assert [fact.header.position for fact in store.whole_facts(f.ROOM, START, 10)] == [1, 2, 3]
    assert refused(made, BACK).code == "invalid_param"


class Broken(Exception):
    """The machine failed."""


def breaking(*_: object) -> None:
    raise Broken


@pytest.mark.e2e
@pytest.mark.parametrize("where", ["copy", "index", "look", "seen", "switch", "rename"])
def test_whatever_breaks_off_one_store_is_in_charge_and_the_same_command_goes_on(
    made: Running, database: Database, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with monkeypatch.context() as patched:
        breaks: dict[str, Callable[[], None]] = {
            "copy": lambda: patched.setattr(stores, "_heads_of_file", breaking),
            "index": lambda: patched.setattr("parlerd.store.postgres.PostgresStore.rebuild_index", breaking),
            "look": lambda: patched.setattr(stores, "check", breaking),
            "seen": lambda: patched.setattr(seen, "store", breaking),
            "switch": lambda: patched.setattr(places, "store", breaking),
            "rename": lambda: patched.setattr(moving, "_leave_file", breaking),
        }
        breaks[where]()
        with pytest.raises(Broken):
            moving.move(made.relay, wanted(database), lambda line: None)
    is_switched = where == "rename"
    assert kind(made) == ("postgresql" if is_switched else "file")
    if not is_switched:
        moving.move(made.relay, wanted(database), lambda line: None)
    assert kind(made) == "postgresql"
    assert stopped(made).rooms == 1


@pytest.mark.e2e
def test_on_the_way_back_the_database_is_in_charge_until_the_last_step(
    made: Running, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving.move(made.relay, wanted(database), lambda line: None)
    with monkeypatch.context() as patched:
        patched.setattr(places, "store", breaking)
        with pytest.raises(Broken):
            moving.move(made.relay, BACK, lambda line: None)
    assert kind(made) == "postgresql"
    assert stopped(made).store == store_url.shown(database.relay)
    moving.move(made.relay, BACK, lambda line: None)
    assert kind(made) == "file"
    assert stopped(made).rooms == 1


@pytest.mark.e2e
def test_rooms_that_were_written_since_do_not_go_over_a_copy(made: Running, database: Database) -> None:
    moving.move(made.relay, wanted(database), lambda line: None)
    moving.move(made.relay, BACK, lambda line: None)
    with closing(SqliteStore(made.relay.database, backups=made.relay.backups)) as store:
        store.transact([[f.append(f.message(4))]])
    error = refused(made, wanted(database))
    assert "holds rooms already" in error.message
    assert kind(made) == "file"


def test_what_is_no_request_and_a_folder_without_a_relay_are_refused(running: Running, database: Database) -> None:
    for asked in ("", "[]", "{", '{"to": 1}', json.dumps({"url": "mysql://db/x", "owner": database.owner})):
        assert refused(running, asked).code == "invalid_param"
    assert "no rooms to carry" in refused(running, wanted(database)).message
    places.file_of(running.relay).unlink()
    assert refused(running, wanted(database)).code == "relay_not_running"
