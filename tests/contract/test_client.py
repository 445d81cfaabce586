"""A client of the daemon: what commands lean on holds of the real one before a real server, and of the scripted one.

The real client speaks to a server in a thread, behind which stands a `FakeEngine`; that engine is held to the real one
in `test_engine_face`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from parlerd.cli.context import ClientLike, OpenClient
from parlerd.client import connect
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import Home
from tests.support.fake_client import FakeDaemon
from tests.support.fake_engine import watch_item
from tests.support.small_daemon import daemon_in_a_thread
from tests.support.wire_client import short_home

BLOB = "ab" * 32
PUT = t.BlobPut(room="r_1", offset=0, size=2, blob="")
SENT = t.Sent(room="r_1", id="m_1", seq=5, at=1, replayed=False, idempotency_key="k")


@dataclass
class Far:
    """A daemon as a test sets it up, and how a client of it is opened."""

    home: Home
    opens: OpenClient
    fails: Callable[[str, ParlerError], object]
    """Let an operation raise this from now on."""
    shows: Callable[[int, ParlerError | None], object]
    """Let the next watcher be shown so many items, and then the end or this error."""

    @contextlib.contextmanager
    def client(self) -> Iterator[ClientLike]:
        with contextlib.closing(self.opens(self.home, as_name="ann", host="cli", start=False)) as client:
            yield client


@contextlib.contextmanager
def scripted() -> Iterator[Far]:
    daemon = FakeDaemon().answers("message.send", SENT).answers("blob.put", PUT)

    def shows(count: int, then: ParlerError | None) -> None:
        items = [watch_item(number, "x") for number in range(count)]
        daemon.streams("room.watch", *items, *(() if then is None else (then,)))

    with short_home() as home:
        yield Far(home, daemon.connect, lambda op, error: daemon.answers(op, error, error), shows)


@contextlib.contextmanager
def real() -> Iterator[Far]:
    with short_home() as home, daemon_in_a_thread(home) as daemon:
        failing = daemon.engine.failing

        def shows(count: int, then: ParlerError | None) -> None:
            daemon.engine.items = count
            if then is not None:
                failing["room.watch"] = then

        yield Far(home, connect, failing.__setitem__, shows)


@pytest.fixture(params=[scripted, real])
def far(request: pytest.FixtureRequest) -> Iterator[Far]:
    with request.param() as made:
        yield made


@pytest.fixture
def client(far: Far) -> Iterator[ClientLike]:
    with far.client() as client:
        yield client


def test_a_call_gives_the_result_that_the_registry_names(client: ClientLike) -> None:
    assert client.call("message.send", t.Send(text="hello", idempotency_key="k")) == SENT


def test_an_error_is_raised_with_its_code_and_its_details(far: Far, client: ClientLike) -> None:
    far.fails("rooms.roster", ParlerError("ambiguous_name", "Which one?", candidates=["a", "b"]))
    with pytest.raises(ParlerError) as caught:
        client.call("rooms.roster", t.Roster())
    error = caught.value
    assert (error.code, error.message, error.details) == ("ambiguous_name", "Which one?", {"candidates": ["a", "b"]})


def test_parameters_that_their_type_refuses_do_not_get_through(client: ClientLike) -> None:
    with pytest.raises(ParlerError) as caught:
        client.call("message.recv", t.Recv(limit=-1))
    assert caught.value.code == "invalid_param"


def test_a_stream_gives_its_items_in_order_and_ends(far: Far, client: ClientLike) -> None:
    far.shows(3, None)
    items = list(client.stream("room.watch", t.WatchRoom()))
    assert items == [watch_item(number, "x") for number in range(3)]


def test_a_stream_that_breaks_off_gives_what_came_and_then_the_error(far: Far, client: ClientLike) -> None:
    far.shows(2, ParlerError("draining"))
    items = client.stream("room.watch", t.WatchRoom())
    assert [next(items), next(items)] == [watch_item(0, "x"), watch_item(1, "x")]
    with pytest.raises(ParlerError) as caught:
        next(items)
    assert caught.value.code == "draining"


def test_a_client_that_was_closed_calls_again(client: ClientLike) -> None:
    client.call("message.send", t.Send(text="hello", idempotency_key="k"))
    client.close()
    client.close()
    assert client.call("message.send", t.Send(text="hello", idempotency_key="k")) == SENT


def test_a_daemon_that_is_not_there_and_may_not_be_started_is_unreachable() -> None:
    daemon = FakeDaemon(down=True)
    with short_home() as home:
        for opens in (daemon.connect, connect):
            with pytest.raises(ParlerError) as caught:
                opens(home, as_name="", host="cli", start=False)
            assert caught.value.code == "unreachable"


def test_a_file_that_is_handed_over_has_one_number_for_all_calls_and_the_next_file_another(
    far: Far, client: ClientLike
) -> None:
    numbers: list[int] = []

    def params(number: int) -> t.PutBlob:
        numbers.append(number)
        return t.PutBlob(file=number)

    with tempfile.TemporaryFile() as file:
        file.write(b"ab")
        file.flush()
        for _ in range(2):
            answers = client.carry("blob.put", params, file.fileno())
            assert [next(answers), next(answers)] == [PUT, PUT]
    assert numbers == [0, 0, 1, 1]


def test_what_is_refused_of_a_file_is_raised(far: Far, client: ClientLike) -> None:
    far.fails("blob.get", ParlerError("no_such_blob"))
    with open(os.devnull, "rb") as null, pytest.raises(ParlerError, match="no_such_blob"):
        next(
            client.carry(
                "blob.get", lambda number: t.GetBlob(file=number, room="r_1", blob=BLOB, size=1), null.fileno()
            )
        )
