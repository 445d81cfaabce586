"""Two releases on one home: who replaces whom, who is told to upgrade, and a database from the future."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import trio

import parlerd
from parlerd.core.errors import ERRORS
from parlerd.operations import types as t
from parlerd.wire.messages import HOST_PROTOCOL, PROTOCOL
from tests.support.mcp_windows import texts, window
from tests.support.processes import PATIENCE_S, Somebody, other, until

pytestmark = pytest.mark.e2e

OLDER, NEWER = "0.0.1", "99.0.0"


def test_a_newer_command_replaces_an_older_daemon_and_nothing_is_lost(somebody: Somebody) -> None:
    old = somebody.daemon(release=(OLDER, PROTOCOL))
    assert somebody.asks("daemon", "status")["version"] == OLDER, "a look replaces nobody"
    room = somebody.asks("session", "open", "--topic", "auth", "--context", "the recap")["room"]
    assert old.wait(PATIENCE_S) == 0
    status = somebody.asks("daemon", "status")
    assert status["version"] == parlerd.__version__
    assert status["pid"] != old.pid
    assert [each["room"] for each in somebody.asks("rooms")["rooms"]] == [room]
    assert "stopping" in somebody.log()


def test_a_call_that_waits_at_an_older_daemon_goes_on_at_the_newer_one(somebody: Somebody) -> None:
    somebody.trusts_everyone()
    old = somebody.daemon(release=(OLDER, PROTOCOL))
    with somebody.client("bob", start=False) as bob, somebody.client("alice", start=False) as alice:
        opened = alice.call("session.open", t.OpenSession(topic="auth"))
        assert isinstance(opened, t.OpenedSession)
        assert opened.session_key is not None
        bob.call("session.join", t.JoinSession(session_key=opened.session_key))
    # This command is as old as the daemon it waits at, so it leaves it in its place.
    waiting = somebody.starts(
        "recv", "--wait", "60", "--as", "bob", "--json", program=[*other(OLDER, PROTOCOL), "parler"]
    )

    def waits() -> bool:
        with somebody.client("alice", start=False) as client:
            roster = client.call("rooms.roster", t.Roster())
        assert isinstance(roster, t.RosterResult)
        return any(member.presence == "waiting" for member in roster.members)

    until(waits, "waiting bob")
    somebody.runs("send", "now", "--as", "alice")
    assert old.wait(PATIENCE_S) == 0
    assert [message["text"] for message in somebody.ends(waiting).document["messages"]] == ["now"]


def test_an_older_command_and_window_are_served_by_a_newer_daemon_and_never_replace_it(somebody: Somebody) -> None:
    somebody.trusts_everyone()
    new = somebody.daemon(release=(NEWER, PROTOCOL))
    key = somebody.asks("session", "open", "--topic", "auth", "--context", "the recap")["key"]

    async def main() -> None:
        async with window(somebody, "codex") as agent:
            assert texts(await agent.call("parler_join_session", key=key)) == ["the recap"]

    trio.run(main)
    status = somebody.asks("daemon", "status")
    assert (status["pid"], status["version"]) == (new.pid, NEWER)
    (wrong,) = (check for check in somebody.asks("doctor", expect=1)["checks"] if check["name"] == "version")
    assert wrong["ok"] is False
    assert NEWER in wrong["detail"]


def test_a_daemon_of_a_newer_protocol_tells_older_clients_to_upgrade(somebody: Somebody) -> None:
    new = somebody.daemon(release=(NEWER, PROTOCOL + 1, HOST_PROTOCOL + 1))
    error = somebody.fails("rooms", code="unsupported_version")
    assert error["action"] == "stop"
    assert "upgrade the older one" in error["hint"]
    checkup = somebody.asks("doctor", expect=1)
    assert error["message"] in [check["detail"] for check in checkup["checks"] if check["name"] == "daemon"]

    async def main() -> None:
        async with window(somebody, "codex") as agent:
            said = await agent.refused("parler_rooms")
            assert said.error == "unreachable"
            assert ERRORS["unsupported_version"].message in said.said
            assert ERRORS["unsupported_version"].hint in said.said

    trio.run(main)
    assert new.poll() is None


def test_a_client_of_a_newer_protocol_replaces_an_older_daemon_by_asking(somebody: Somebody) -> None:
    old = somebody.daemon()
    newer = [*other(NEWER, PROTOCOL + 1), "parler"]
    assert somebody.runs("rooms", "--json", program=newer).document["rooms"] == []
    assert old.wait(PATIENCE_S) == 0
    assert somebody.runs("daemon", "status", "--json", program=newer).document["version"] == NEWER


def test_a_daemon_of_an_older_protocol_is_replaced_also_where_it_says_the_same_version(somebody: Somebody) -> None:
    old = somebody.daemon(release=(parlerd.__version__, PROTOCOL - 1))
    assert somebody.asks("rooms")["rooms"] == []
    assert old.wait(PATIENCE_S) == 0


def test_a_window_that_is_open_goes_on_when_the_calls_of_clients_change(somebody: Somebody) -> None:
    somebody.trusts_everyone()
    old = somebody.daemon(release=(OLDER, PROTOCOL - 1))

    async def main() -> None:
        async with window(somebody, "codex") as agent:
            await agent.call("parler_open_session", topic="auth", context="the recap")
            key = (await trio.to_thread.run_sync(somebody.asks, "session", "list"))["sessions"][0]["keys"][0]["key"]
            assert old.wait(PATIENCE_S) == 0
            await trio.to_thread.run_sync(lambda: somebody.runs("session", "join", key, "--as", "bob"))
            await trio.to_thread.run_sync(lambda: somebody.runs("send", "hello", "--as", "bob"))
            assert texts(await agent.insist("parler_recv")) == ["hello"]

    trio.run(main)


def test_a_database_of_a_newer_schema_is_refused_and_left_alone(somebody: Somebody) -> None:
    somebody.runs("session", "open", "--topic", "auth")
    somebody.leaves_one_file()
    with closing(sqlite3.connect(somebody.home.database)) as database:
        with database:
            database.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'schema'")
            database.execute("UPDATE meta SET value = ? WHERE key = 'written_by'", (NEWER,))
        # A killed daemon may take a moment to let go of the file, and then closing it moves nothing into it.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = somebody.home.database.read_bytes()

    error = somebody.fails("rooms", code="newer_store")
    assert f"Upgrade this install to Parler {NEWER} or newer." in error["hint"]
    assert error["retryable"] is False
    (wrong,) = (check for check in somebody.asks("doctor", expect=1)["checks"] if not check["ok"])
    assert NEWER in wrong["detail"]

    async def main() -> None:
        async with window(somebody, "codex") as agent:
            said = await agent.refused("parler_rooms")
            assert f"Upgrade this install to Parler {NEWER} or newer." in said.said

    trio.run(main)
    assert somebody.home.database.read_bytes() == before
    assert list(somebody.home.backups.iterdir()) == []
