"""A model that says what a test wants, on the loopback: for hosts that let themselves be pointed at another server.

It speaks the dialects of four makers (`dialects`), each where that maker's own server has it, so one address serves any
host. `requests` are what the host sent, so a test sees what a real model would have been shown; `exchanges` say of each
request what became of it. Not a model: what it says was given before, as turns or as a script that is shown each
request, and beyond its end it says only that it is done. Verified by `tests/e2e/hosts`, where real hosts take it for
their maker's server.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tests.support import dialects
from tests.support.dialects.blocks import JSON, Block, Reply, Request, calls, says

__all__ = [
    "Block",
    "Exchange",
    "ModelServer",
    "Refusal",
    "Request",
    "Script",
    "Turn",
    "calls",
    "model_server",
    "says",
    "scripted_model",
]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Instead of an answer: the request is refused with this HTTP status, as a maker's server does it."""

    status: int = 400
    text: str = "the request is refused"


Turn = Sequence[Block] | Callable[[Request], Sequence[Block]]
"""What the model says, or how it makes that from the request."""
Script = Generator[Sequence[Block] | Refusal, Request, None]
"""A model as a generator: it gives what it says, or how it refuses, and gets the next request."""
DONE: Final = (says("done"),)


@dataclass(slots=True)
class Exchange:
    """One request and what became of it.

    `turn` says that it was one of the conversation. `replied` is set when an answer was written to a host that still
    listened; a refusal is none.
    """

    request: Request
    turn: bool
    replied: bool = False


MODELS: Final = {"object": "list", "data": [{"id": "scripted", "object": "model", "created": 1, "owned_by": "tests"}]}


def _offers_tools(request: Request) -> bool:
    return bool(request.tools)


def _done(request: Request) -> Sequence[Block]:
    del request
    return DONE


class _Voice:
    """What is said in some conversations, one request after the other."""

    def __init__(self, answer: Callable[[Request], Sequence[Block] | Refusal]) -> None:
        self.answer = answer
        self.said: tuple[Any, Sequence[Block] | Refusal] = (None, DONE)
        """What was asked last, and what was said to it."""
        self.lock = threading.Lock()


class ModelServer:
    """The server, while it runs.

    `requests` holds those requests that were turns, in order, `beside` those that were none; a turn that is asked again
    stands there once. `exchanges` holds every request, asked again or not. `failures` is what a script raised, for the
    test to raise again; `others` the paths that nobody here serves.
    """

    def __init__(
        self,
        answer: Callable[[Request], Sequence[Block] | Refusal],
        is_turn: Callable[[Request], bool] = _offers_tools,
        beside: Turn = DONE,
    ) -> None:
        self.requests: list[Request] = []
        self.exchanges: list[Exchange] = []
        self.failures: list[BaseException] = []
        self.beside: list[Request] = []
        self.others: list[str] = []
        self._is_turn = is_turn
        self.aside = beside
        """What is said to a request that is no turn."""
        self._voices = {"": _Voice(answer)}
        """Who answers, by a word that the user said; the empty word stands in every request."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes Claude Code ask here."""
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": "of-no-use"}

    def play(self, script: Callable[[Request], Script], word: str = "") -> None:
        """From the next request on, say what this script says; that request begins it. With a `word`, to those
        conversations alone in which the user said it: so several windows have a model each."""
        running: list[Script] = []

        def answer(request: Request) -> Sequence[Block] | Refusal:
            try:
                if not running:
                    running.append(script(request))
                    return next(running[0])
                return running[0].send(request)
            except StopIteration:
                return DONE

        self._voices[word] = _Voice(answer)

    def offered(self, turn: int = 0) -> dict[str, str]:
        """The tools in the request of a turn: their descriptions by name."""
        return dict(self.requests[turn].tools)

    def tool_results(self, turn: int) -> list[str]:
        """The text of the results that came with the request of a turn and with none before."""
        return list(self.requests[turn].results[len(self.requests[turn - 1].results) if turn else 0 :])

    def _next(self, exchange: Exchange) -> Sequence[Block] | Refusal:
        request = exchange.request
        # A host also asks for titles and summaries: those take no turn.
        if not exchange.turn:
            self.beside.append(request)
            return self.aside(request) if callable(self.aside) else self.aside
        said = "\n".join(request.users)
        voice = next(self._voices[word] for word in sorted(self._voices, key=len, reverse=True) if word in said)
        with voice.lock:
            # Asked again, after an answer that the host could not use or did not wait for: that is no new turn.
            asked = (request.users, request.results)
            if asked == voice.said[0]:
                return voice.said[1]
            self.requests.append(request)
            blocks: Sequence[Block] | Refusal
            try:
                blocks = voice.answer(request)
            except BaseException as error:
                self.failures.append(error)
                blocks = DONE
            voice.said = (asked, blocks)
            return blocks

    def _comes(self, request: Request) -> Exchange:
        exchange = Exchange(request, self._is_turn(request))
        self.exchanges.append(exchange)
        return exchange

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._send(Reply("text/plain", b""))

            def do_GET(self) -> None:
                if self.path.partition("?")[0].endswith("/models"):
                    self._send(Reply(JSON, json.dumps(MODELS).encode()))
                else:
                    self._unknown()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                path = self.path.partition("?")[0]
                if path.endswith("/count_tokens"):
                    self._send(Reply(JSON, b'{"input_tokens":1}'))
                elif path.endswith(":countTokens"):
                    self._send(Reply(JSON, b'{"totalTokens":1}'))
                elif dialect := dialects.of(path):
                    exchange = model._comes(dialect.read(body))
                    answer = model._next(exchange)
                    if isinstance(answer, Refusal):
                        error = {"type": "invalid_request_error", "message": answer.text, "code": answer.status}
                        said = Reply(JSON, json.dumps({"type": "error", "error": error}).encode())
                        self._send(said, answer.status)
                    else:
                        # Before the bytes leave, because the host may record the reply before this thread goes on.
                        exchange.replied = self._is_listened_to()
                        self._send(dialect.render(answer, body, path))
                else:
                    self._unknown()

            def _unknown(self) -> None:
                model.others.append(f"{self.command} {self.path}")
                self.send_error(404)

            def _is_listened_to(self) -> bool:
                try:
                    return bool(self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
                except BlockingIOError:
                    return True
                except ConnectionError:
                    return False

            def _send(self, reply: Reply, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("Content-Type", reply.kind)
                self.send_header("Content-Length", str(len(reply.data)))
                # The host may be gone: killed, or tired of waiting.
                with suppress(ConnectionError):
                    self.end_headers()
                    self.wfile.write(reply.data)

            def log_message(self, format: str, *arguments: Any) -> None:
                del format, arguments

        return Handler

    def _run(self) -> None:
        self._server.serve_forever(poll_interval=0.05)


@contextmanager
def model_server(*turns: Turn) -> Iterator[ModelServer]:
    """A server that says these turns, one for each request that offers tools."""
    left = list(turns)

    def answer(request: Request) -> Sequence[Block]:
        turn = left.pop(0) if left else DONE
        return turn(request) if callable(turn) else turn

    with _serving(ModelServer(answer)) as model:
        yield model


@contextmanager
def scripted_model(is_turn: Callable[[Request], bool] = _offers_tools, beside: Turn = DONE) -> Iterator[ModelServer]:
    """A server without anything to say until it is given a script (`play`), for the requests that are turns. To others
    it says `beside`."""
    with _serving(ModelServer(_done, is_turn, beside)) as model:
        yield model


@contextmanager
def _serving(model: ModelServer) -> Iterator[ModelServer]:
    thread = threading.Thread(target=model._run)
    thread.start()
    try:
        yield model
    finally:
        model._server.shutdown()
        thread.join()
        model._server.server_close()
