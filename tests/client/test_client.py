"""The blocking client against a daemon in another thread."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from parlerd import process
from parlerd.client import Client, connect
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import Home
from parlerd.wire import codec
from parlerd.wire.frames import frame
from parlerd.wire.messages import PROTOCOL, Welcome
from parlerd.wire.peer import DaemonPeer
from tests.support.small_daemon import ThreadDaemon, daemon_in_a_thread
from tests.support.wire_client import short_home


@pytest.fixture
def home() -> Iterator[Home]:
    with short_home() as home:
        yield home


@pytest.fixture
def daemon(home: Home) -> Iterator[ThreadDaemon]:
    with daemon_in_a_thread(home) as daemon:
        yield daemon


@pytest.fixture
def client(home: Home, daemon: ThreadDaemon) -> Iterator[Client]:
    with connect(home, start=False) as client:
        yield client


def error_of(action: Any, *args: Any, **kwargs: Any) -> ParlerError:
    with pytest.raises(ParlerError) as caught:
        action(*args, **kwargs)
    return caught.value


def test_a_call_gives_the_result_that_the_registry_names(client: Client) -> None:
    sent = client.call("message.send", t.Send(text="hello", idempotency_key="k"))
    assert isinstance(sent, t.Sent)
    assert (sent.seq, sent.idempotency_key) == (5, "k")


def test_the_hello_carries_who_and_where(home: Home, daemon: ThreadDaemon, tmp_path: Any) -> None:
    with connect(home, as_name="bob", host="cli", project_dir=str(tmp_path), start=False) as client:
        me = client.call("agent.whoami", t.WhoAmI())
    assert isinstance(me, t.Me)
    assert (me.name, me.host, me.workspace) == ("bob", "cli", str(tmp_path.resolve()))
    assert client.daemon_version == ""


def test_a_caller_says_how_long_the_daemon_may_take_for_its_hello(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(os.fspath(home.socket))
        silent.listen()
        error = error_of(connect, home, start=False, hello_s=0.01)
    assert error.code == "unreachable"
    assert error.message == "The daemon did not answer within 0.01 s."


def test_a_current_folder_that_is_no_text_hinders_nothing(
    home: Home, daemon: ThreadDaemon, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "caf\udce9"
    odd.mkdir()
    monkeypatch.chdir(odd)
    with connect(home, as_name="bob", start=False) as client:
        me = client.call("agent.whoami", t.WhoAmI())
    assert isinstance(me, t.Me)
    assert me.name == "bob"


def test_the_daemons_version_and_process_are_known_while_connected(client: Client) -> None:
    assert client.daemon_version == "0.1.0"
    assert client.daemon_pid > 0


def test_an_error_of_the_engine_is_raised_with_its_code_hint_and_details(client: Client, daemon: ThreadDaemon) -> None:
    daemon.engine.failing["message.send"] = ParlerError("ambiguous_name", hint="Say which.", candidates=["a", "b"])
    error = error_of(client.call, "message.send", t.Send(text="x"))
    assert (error.code, error.hint, error.details) == ("ambiguous_name", "Say which.", {"candidates": ["a", "b"]})


def test_a_directory_that_was_removed_under_the_caller_is_no_obstacle(
    home: Home, daemon: ThreadDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    with connect(home, start=False) as client:
        me = client.call("agent.whoami", t.WhoAmI())
    assert isinstance(me, t.Me)
    assert me.workspace == ""


def test_without_a_daemon_and_without_leave_to_start_one_it_is_unreachable(home: Home) -> None:
    assert error_of(connect, home, start=False).code == "unreachable"


def test_the_socket_is_the_one_that_the_endpoint_file_names(home: Home, daemon: ThreadDaemon) -> None:
    elsewhere = home.root / "s"
    home.socket.rename(elsewhere)
    assert error_of(connect, home, start=False).code == "unreachable"
    home.endpoint.write_text(f"{elsewhere}\n")
    with connect(home, start=False) as client:
        client.call("message.send", t.Send(text="x"))
    elsewhere.rename(home.socket)


def test_a_socket_that_another_user_serves_is_told_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "peer_of", lambda _: process.Peer(pid=1, uid=65_534))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.bind(str(home.socket))
        stranger.listen()
        assert error_of(connect, home, start=False).code == "not_permitted"
        accepted, _ = stranger.accept()
        with accepted:
            assert accepted.recv(100) == b""


def test_an_unanswered_call_gives_up_in_time_and_the_connection_goes_on(client: Client, daemon: ThreadDaemon) -> None:
    error = error_of(client.call, "message.recv", t.Recv(wait_ms=3_000_000), timeout=0.01)
    assert (error.code, error.spec.retryable) == ("unreachable", True)
    for _ in range(1_000):
        client.call("message.send", t.Send(text="x"))
        if daemon.engine.cancelled["message.recv"]:
            break
    assert daemon.engine.cancelled["message.recv"] == 1


def test_a_call_that_waits_is_given_that_time_on_top(client: Client) -> None:
    received = client.call("message.recv", t.Recv(wait_ms=5))
    assert isinstance(received, t.Received)


def test_a_daemon_that_goes_away_under_a_call_is_connection_lost_and_is_not_asked_twice(
    home: Home, client: Client, daemon: ThreadDaemon
) -> None:
    error = error_of(client.call, "rooms.list", t.ListRooms())
    assert (error.code, error.spec.retryable) == ("connection_lost", True)
    assert error_of(client.call, "message.send", t.Send(text="x")).code == "unreachable"


def test_a_daemon_that_was_restarted_between_two_calls_is_not_noticed(home: Home) -> None:
    with daemon_in_a_thread(home) as first:
        client = connect(home, start=False)
        client.call("message.send", t.Send(text="x"))
    with daemon_in_a_thread(home) as second, client:
        client.call("message.send", t.Send(text="x"))
        assert first.engine.answered["message.send"] == second.engine.answered["message.send"] == 1


def test_a_goodbye_instead_of_a_welcome_is_raised_as_what_it_says(home: Home) -> None:
    with listener(home) as sock:
        goodbye = DaemonPeer().goodbye(ParlerError("busy"))
        thread = serve_once(sock, goodbye, close_first=True)
        error = error_of(connect, home, start=False)
        thread.join()
    assert (error.code, error.spec.retryable) == ("busy", True)


@pytest.mark.parametrize("said", [b"\xff\xff\xff\xff", frame(b"nonsense"), frame(codec.encode(b"a line"))])
def test_a_daemon_that_speaks_nonsense_is_a_coded_error(home: Home, said: bytes) -> None:
    with listener(home) as sock:
        thread = serve_once(sock, said)
        error = error_of(connect, home, start=False)
        thread.join()
    assert error.code in ("bad_frame", "frame_too_large")


def test_nonsense_in_place_of_an_answer_ends_the_call(home: Home) -> None:
    with listener(home) as sock:
        thread = serve_once(
            sock, frame(codec.encode(Welcome(protocol=PROTOCOL, version="0.1.0", pid=1))), then=b"\0\0\0\0"
        )
        with connect(home, start=False) as client:
            error = error_of(client.call, "message.send", t.Send(text="x"))
        thread.join()
    assert error.code == "bad_frame"


def listener(home: Home) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(home.socket))
    sock.listen()
    return sock


def serve_once(sock: socket.socket, said: bytes, *, then: bytes = b"", close_first: bool = False) -> threading.Thread:
    """Answer one connection with given bytes, in a thread."""

    def serve() -> None:
        accepted, _ = sock.accept()
        with accepted:
            if not close_first:
                accepted.recv(1 << 16)
            accepted.sendall(said)
            if then:
                accepted.recv(1 << 16)
                accepted.sendall(then)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


# -- streams ---------------------------------------------------------------------------------------------------


def test_a_stream_gives_every_item_in_order_and_ends(client: Client, daemon: ThreadDaemon) -> None:
    daemon.engine.items = 300
    seen = []
    for item in client.stream("room.watch", t.WatchRoom()):
        assert isinstance(item, t.WatchItem)
        seen.append(item.at)
    assert seen == list(range(300))


def test_calls_can_be_made_between_the_items_of_a_stream(client: Client, daemon: ThreadDaemon) -> None:
    daemon.engine.items = 200
    with client.stream("room.watch", t.WatchRoom()) as stream:
        for number, item in enumerate(stream):
            assert isinstance(item, t.WatchItem)
            assert item.at == number
            if number % 20 == 0:
                client.call("message.send", t.Send(text="x"))
        assert stream.ended
        assert stream.poll(0) is None


def test_polling_a_quiet_stream_gives_nothing_and_it_can_be_selected_on(client: Client, daemon: ThreadDaemon) -> None:
    daemon.engine.endless = True
    stream = client.stream("room.watch", t.WatchRoom())
    assert stream.poll(0) is None
    assert stream.fileno() >= 0
    stream.close()
    stream.close()
    # The cancel arrives before these calls; the stream has let go a few turns of the daemon's loop later.
    assert any(call_and_look(client, daemon) for _ in range(1_000))


def call_and_look(client: Client, daemon: ThreadDaemon) -> bool:
    client.call("message.send", t.Send(text="x"))
    return daemon.engine.under_way["room.watch"] == 0


def test_a_stream_that_breaks_off_says_so(client: Client, daemon: ThreadDaemon) -> None:
    daemon.engine.endless = True
    stream = client.stream("room.watch", t.WatchRoom())
    assert stream.poll(0) is None
    daemon.stop()
    error = error_of(next, stream)
    assert error.code in ("draining", "connection_lost")
    assert error.spec.retryable
    assert stream.ended


# -- what a one-shot command pays ------------------------------------------------------------------------------


def test_importing_the_client_imports_nothing_that_only_other_programs_need() -> None:
    heavy = ["trio", "anyio", "rich", "mcp", "nacl", "sqlite3", "asyncio", "platformdirs", "subprocess", "tempfile"]
    heavy += ["difflib", "parlerd.core.events", "parlerd.core.facets", "parlerd.core.gates"]
    program = (
        "import sys, parlerd.client; import typing_extensions as later\n"
        f"print([name for name in {heavy} if name in sys.modules], 'parlerd.engine' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


def test_msgspec_is_imported_without_typing_extensions_which_can_be_imported_later() -> None:
    program = (
        "import sys, parlerd.client; print('typing_extensions' in sys.modules)\n"
        "import typing_extensions; print(typing_extensions is not None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
