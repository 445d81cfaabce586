"""A program that speaks only HTTP, and a daemon that a person lets answer it: with real processes and a real socket."""

from __future__ import annotations

import json
import subprocess
import threading
from http.client import HTTPConnection
from typing import Any, Self
from urllib.parse import quote, urlsplit

import pytest

from tests.support.processes import Somebody, listens, skip_where_nobody_may_decide

pytestmark = pytest.mark.e2e


class Program:
    """Knows a base URL and a token, and nothing else."""

    def __init__(self, url: str, token: str) -> None:
        at = urlsplit(url)
        assert at.hostname is not None
        self._http = HTTPConnection(at.hostname, at.port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def asks(self, line: str, body: object = None) -> tuple[int, Any]:
        method, _, path = line.partition(" ")
        self._http.request(method, path, None if body is None else json.dumps(body), self._headers)
        with self._http.getresponse() as answer:
            text = answer.read()
            is_json = answer.headers["Content-Type"] == "application/json"
            return answer.status, json.loads(text) if is_json else text.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()


def test_a_program_with_a_token_does_what_an_agent_does(somebody: Somebody) -> None:
    skip_where_nobody_may_decide(["token", "mint"])
    somebody.trusts_everyone()
    opened = somebody.opens("alice", topic="team")
    somebody.enters(opened.session_key, "bob")
    token = somebody.runs("--as", "bob", "token", "mint", "--room", "team", "--json").document
    assert token["url"] is None
    url = somebody.runs("serve-http", "--json").document["url"]
    (pid,) = somebody.daemons()
    assert listens(pid) == {("127.0.0.1", urlsplit(url).port)}
    with Program(url, token["token"]) as program, Program(url, token["token"]) as waiting:
        assert program.asks("GET /v1/me")[1]["name"] == "bob"
        (room,) = program.asks("GET /v1/rooms")[1]["rooms"]
        messages = f"/v1/rooms/{room['room']}/messages"
        heard: list[Any] = []
        waiter = threading.Thread(target=lambda: heard.append(waiting.asks(f"GET {messages}?wait_ms=30000")))
        waiter.start()
        somebody.sends("alice", "hello bob", room="team")
        waiter.join(60)
        assert "hello bob" in json.dumps(heard)
        assert program.asks(f"POST {messages}", {"text": "hello alice"})[0] == 201
        assert "hello alice" in [message.text for message in somebody.reads("alice", "team")]
        # What was given to one program is in no list and no log, and is taken back at once.
        assert token["token"] not in somebody.log()
        assert token["token"] not in somebody.runs("token", "list", "--json").stdout
        somebody.runs("token", "revoke", token["info"]["id"])
        status, answer = program.asks("GET /v1/me")
        assert (status, answer["error"]["code"]) == (401, "token_invalid")
    somebody.runs("serve-http", "--stop")
    assert listens(pid) == set()


def test_programs_open_a_room_and_come_into_it_with_nothing_but_curl(somebody: Somebody) -> None:
    skip_where_nobody_may_decide(["serve-http"])
    url = somebody.runs("serve-http", "--open", "--json").document["url"]

    def curl(line: str, body: object = None, token: str = "") -> Any:
        method, _, path = line.partition(" ")
        words = ["curl", "--silent", "--show-error", "--request", method, "--globoff", f"{url}{path}"]
        if body is not None:
            words += ["--header", "Content-Type: application/json", "--data", json.dumps(body)]
        if token:
            words += ["--header", f"Authorization: Bearer {token}"]
        return json.loads(subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout)

    assert curl("POST /rooms", {"id": "my-room"})["id"] == "my-room"
    tokens = {}
    for id, name, role in (("agent-a", "Alice", "coordinator"), ("agent-b", "Bob", "worker")):
        came = curl("POST /rooms/my-room/agents", {"id": id, "name": name, "role": role})
        assert (came["id"], came["role"]) == (id, role)
        tokens[id] = came["token"]
    writes = [{"key": "phase", "value": "planning"}, {"key": "currentPlayer", "value": "agent-a"}]
    assert curl("PUT /rooms/my-room/state/batch", {"writes": writes}, tokens["agent-a"])["ok"] is True
    condition = quote('state._shared.currentPlayer == "agent-a"')
    query = f"condition={condition}&agent=agent-a&timeout=25000&include=state,agents"
    ended = curl(f"GET /rooms/my-room/wait?{query}", token=tokens["agent-a"])
    assert (ended["triggered"], ended["value"], ended["agents"]["agent-a"]["status"]) == (True, True, "active")
    assert ended["agents"].keys() == {"agent-a", "agent-b"}
    assert curl("POST /rooms/my-room/agents", {"id": "agent-a"})["error"] == "agent_exists"
    assert curl("PUT /rooms/my-room/state", {"key": "phase", "value": "x"})["error"] == "token_required"
    # A file goes there and back.
    file = somebody.home.root.parent / "report.bin"
    file.write_bytes(bytes(range(256)) * 8_192)
    bearer = ["--header", f"Authorization: Bearer {tokens['agent-a']}"]
    (there,) = [room["room"] for room in curl("GET /rooms", token=tokens["agent-a"])]
    blobs = f"{url}/v1/rooms/{there}/blobs"
    put = subprocess.run(["curl", "-sS", "-T", str(file), *bearer, blobs], capture_output=True, check=True, timeout=60)
    brought = json.loads(put.stdout)
    said = {"blob": brought["blob"], "size": brought["size"], "name": "report.bin"}
    curl(f"POST /v1/rooms/{there}/files", said, tokens["agent-a"])
    words = ["curl", "-sS", *bearer, f"{blobs}/{brought['blob']}"]
    assert subprocess.run(words, capture_output=True, check=True, timeout=60).stdout == file.read_bytes()
    # The person sees the room among their own.
    (room,) = somebody.runs("rooms", "--json").document["rooms"]
    assert (room["name"], room["topic"]) == ("my-room", "open to every program of this machine")


def test_without_a_door_nobody_listens(somebody: Somebody) -> None:
    somebody.runs("daemon", "start")
    (pid,) = somebody.daemons()
    assert listens(pid) == set()
