"""OpenCode's server: the right session gets the line and nothing else, and a server that misbehaves costs one wake."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
import trio.testing

from mcp_server import opencode
from mcp_server.opencode import MAX_ANSWER, OpenCodeServer
from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from tests.mcp_server.test_ringing import LINE, ROOM, Checked, waiting
from tests.support.fake_mcp_engine import FakeMcpEngine, caller, hello
from tests.support.mcp_lines import hosted, run

HERE: Final = "/home/u/a project"
CANARY: Final = "CANARY"
Answer = bytes | None
"""All that the server says before it hangs up; None: nothing, and it does not hang up."""


class Asked:
    """One request that arrived."""

    def __init__(self, head: str, body: bytes) -> None:
        self.method, target, _ = head.split("\r\n", 1)[0].split(" ")
        self.head = head
        self.path = urlsplit(target).path
        self.query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        self.body = json.loads(body) if body else None


class FakeOpenCode:
    """A server whose answers are given by `answer`, on one connection each."""

    def __init__(self, listener: socket.socket, answer: Callable[[Asked], Answer]) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.asked: list[Asked] = []
        self._listener = listener
        self._answer = answer

    @property
    def prompts(self) -> list[tuple[str, Any]]:
        return [(asked.path, asked.body) for asked in self.asked if asked.method == "POST"]

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        lines: list[str] = []
        while (line := stream.readline().decode()).strip():
            lines.append(line)
        head = "".join(lines)
        if not head:
            return
        length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")), 0)
        asked = Asked(head, stream.read(length))
        self.asked.append(asked)
        answer = self._answer(asked)
        if answer is None:
            stream.read()  # until the other side has enough
        else:
            connection.sendall(answer)


@contextlib.contextmanager
def server(answer: Callable[[Asked], Answer]) -> Iterator[FakeOpenCode]:
    listener = socket.create_server(("127.0.0.1", 0))
    fake = FakeOpenCode(listener, answer)
    thread = threading.Thread(target=fake.serve)
    thread.start()
    try:
        yield fake
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def http(data: Any, status: str = "200 OK") -> bytes:
    body = json.dumps(data).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def session(id: str, updated: int, **more: Any) -> dict[str, Any]:
    """A session as the server describes it."""
    times = {"created": 1, "updated": updated, **more.pop("time", {})}
    return {"id": f"ses_{id}", "slug": "s", "directory": HERE, "title": CANARY, "version": "1", "time": times, **more}


def answering(sessions: Any, states: Any = None, accepted: str = "204 No Content") -> Callable[[Asked], Answer]:
    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            return f"HTTP/1.1 {accepted}\r\nContent-Length: 0\r\n\r\n".encode()
        return http(sessions if asked.path == "/session" else states or {})

    return answer


def ring(fake: FakeOpenCode) -> bool:
    return trio.run(OpenCodeServer(fake.url).ring, HERE, LINE)


def test_the_session_of_the_directory_that_was_updated_last_is_prompted_with_the_line_alone() -> None:
    sessions = [session("old", 1), session("new", 3), session("mid", 2)]
    with server(answering(sessions)) as fake:
        assert ring(fake)
    assert fake.prompts == [("/session/ses_new/prompt_async", {"parts": [{"type": "text", "text": LINE}]})]
    assert [(asked.method, asked.path) for asked in fake.asked[:2]] == [("GET", "/session"), ("GET", "/session/status")]
    assert {asked.query["directory"] for asked in fake.asked} == {HERE}
    assert CANARY not in "".join(asked.head + json.dumps(asked.body) for asked in fake.asked)


@pytest.mark.parametrize(
    "other",
    [
        session("x", 9, directory="/home/u"),
        session("x", 9, directory=f"{HERE}/below"),
        session("x", 9, parentID="ses_new"),
        session("x", 9, time={"archived": 8}),
    ],
    ids=["elsewhere", "below", "child", "archived"],
)
def test_a_session_of_another_directory_or_agent_or_one_put_away_gets_nothing(other: dict[str, Any]) -> None:
    with server(answering([other, session("new", 2)])) as fake:
        assert ring(fake)
    assert [path for path, _ in fake.prompts] == ["/session/ses_new/prompt_async"]
    with server(answering([other])) as fake:
        assert ring(fake), "there is none, and nothing to come back for"
    assert fake.prompts == []


def test_the_agent_and_the_model_of_the_session_stay_what_they_are() -> None:
    model = {"id": "m", "providerID": "p", "variant": "high"}
    with server(answering([session("a", 1, agent="plan", model=model)])) as fake:
        ring(fake)
    ((_, body),) = fake.prompts
    assert {name: body[name] for name in ("agent", "model", "variant")} == {
        "agent": "plan",
        "model": {"providerID": "p", "modelID": "m"},
        "variant": "high",
    }


@pytest.mark.parametrize(
    ("state", "over"),
    [({"type": "idle"}, True), ({"type": "busy"}, False), ({"type": "retry", "attempt": 1}, False)],
)
def test_a_session_at_work_is_left_alone_and_asked_about_again(state: dict[str, Any], over: bool) -> None:
    with server(answering([session("a", 2), session("idle", 1)], {"ses_a": state})) as fake:
        assert ring(fake) is over
    assert len(fake.prompts) == over


def test_an_answer_in_chunks_is_put_together() -> None:
    body = json.dumps([session("a", 1)]).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:]))
    usual = answering([])

    def answer(asked: Asked) -> Answer:
        if asked.path != "/session":
            return usual(asked)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    with server(answer) as fake:
        ring(fake)
    assert len(fake.prompts) == 1


HUGE: Final = json.dumps([session("a", 1)]).encode() + b" " * MAX_ANSWER
"""An answer that would do, if it were not for its size."""
BAD: Final[dict[str, bytes]] = {
    "redirect": http([], "302 Found\r\nLocation: /session?elsewhere"),
    "unauthorised": http({"message": CANARY}, "401 Unauthorized"),
    "huge": f"HTTP/1.1 200 OK\r\nContent-Length: {len(HUGE)}\r\n\r\n".encode() + HUGE,
    "huge chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len(HUGE):x}\r\n".encode() + HUGE,
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[{",
    "no http": CANARY.encode() + b"\r\n\r\n",
    "nothing": b"",
    "no json": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nCANARY",
    "no text": b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"\xff"',
    "deep": b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
    "other json": http({"sessions": [CANARY]}),
    "no time": http([{"id": "ses_a", "directory": HERE}]),
    "id that is a path": http([session("a/../../config", 1)]),
    "id that is a head": http([session("a HTTP/1.1\r\nX: y", 1)]),
}


@pytest.mark.parametrize("said", BAD.values(), ids=BAD.keys())
def test_an_answer_that_is_none_costs_one_wake_and_a_line_in_the_log_without_its_words(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with server(lambda _: said) as fake:
        assert ring(fake)
    assert len(fake.asked) == 1, "it followed a redirect, or asked again"
    (record,) = caplog.records
    assert "OpenCode's server" in record.getMessage()
    assert CANARY not in caplog.text
    assert ROOM not in caplog.text


def test_a_prompt_that_is_refused_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    with server(answering([session("a", 1)], accepted="404 Not Found")) as fake:
        assert ring(fake)
    assert len(fake.prompts) == 1
    assert "status 404" in caplog.text


def test_a_server_that_never_answers_is_left_and_its_thread_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opencode, "RING_S", 0.2)
    # Leaving waits for the fake server, and that for the end of our connection.
    with server(lambda _: None) as fake:
        assert ring(fake)
    assert "did not answer" in caplog.text


def test_no_server_costs_one_wake(caplog: pytest.LogCaptureFixture) -> None:
    with server(answering([])) as fake:
        url = fake.url
    assert trio.run(OpenCodeServer(url).ring, HERE, LINE)
    assert "ConnectionRefusedError" in caplog.text


def test_localhost_is_this_machine_and_the_environments_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with server(answering([session("a", 1)])) as fake:
        assert trio.run(OpenCodeServer(fake.url.replace("127.0.0.1", "localhost")).ring, HERE, LINE)
    assert len(fake.prompts) == 1


class HeardServer(OpenCodeServer):
    """One that only writes down where it would have rung."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.rings: list[tuple[str, str]] = []

    async def ring(self, address: str, line: str) -> bool:
        await trio.lowlevel.checkpoint()
        self.rings.append((address, line))
        return True


@pytest.mark.parametrize(
    ("who", "rung"), [(caller(host="opencode", workspace="/home/u"), True), (caller(host="opencode"), False)]
)
def test_a_window_with_a_workspace_is_watched_from_its_first_call_and_rung_for_in_its_directory(
    who: Caller, rung: bool
) -> None:
    async def main(_: FakeMcpEngine) -> None:
        engine, bell = Checked(waiting(wake=True)), HeardServer()
        async with hosted(engine, hello(cwd=HERE), who, bells={"opencode": bell}) as window:
            await window.begin()
            await trio.testing.wait_all_tasks_blocked()
            assert engine.checks == []
            for _call in range(2):
                await window.get("tools/call", {"name": "parler_rooms", "arguments": {}})
                await trio.testing.wait_all_tasks_blocked()
        assert bell.rings == ([(HERE, LINE)] if rung else [])
        assert [params for params, _, _ in engine.checks] == [t.WakeCheck(turn=True, wait_ms=50_000)] * 2 * rung

    run(main)
