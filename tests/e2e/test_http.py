"""A program that speaks only HTTP, and a daemon that a person lets answer it: with real processes and a real socket."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

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

    def __enter__(self) -> Program:
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


def test_without_a_door_nobody_listens(somebody: Somebody) -> None:
    somebody.runs("daemon", "start")
    (pid,) = somebody.daemons()
    assert listens(pid) == set()
