"""A model that says what a test wants, on the loopback: for hosts that let themselves be pointed at another server.

It speaks as much of Anthropic's Messages API as Claude Code needs: one request a turn, an answer as a stream of events
with text and tool calls in it. `requests` are what the host sent, so a test sees what a real model would have been
shown. Not a model: the turns are given before, and a turn beyond them says only that it is done.

Source: the public description of the Messages API and its streaming events.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

Block = Mapping[str, Any]
Turn = Sequence[Block] | Callable[[Mapping[str, Any]], Sequence[Block]]
"""What the model says, or how it makes that from the request."""
DONE: Final[Sequence[Block]] = ({"type": "text", "text": "done"},)


def says(text: str) -> Block:
    """A piece of text."""
    return {"type": "text", "text": text}


def calls(tool: str, **arguments: Any) -> Block:
    """A call of a tool by the name that the host gives it."""
    return {"type": "tool_use", "name": tool, "input": arguments}


class ModelServer:
    """The server, while it runs. `requests` holds the bodies of those turns that offered tools, in order."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.requests: list[dict[str, Any]] = []
        self._turns = list(turns)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes Claude Code ask here."""
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": "of-no-use"}

    def offered(self, turn: int = 0) -> dict[str, dict[str, Any]]:
        """The tools in the request of a turn, by name."""
        return {tool["name"]: tool for tool in self.requests[turn].get("tools", ())}

    def tool_results(self, turn: int) -> list[str]:
        """The text of the results that came with the request of a turn."""
        content = self.requests[turn]["messages"][-1]["content"]
        return [_text(block) for block in content if isinstance(block, dict) and block.get("type") == "tool_result"]

    def _next(self, request: dict[str, Any]) -> Sequence[Block]:
        # A host also asks for titles and summaries, without tools: those take no turn.
        with self._lock:
            if not request.get("tools"):
                return DONE
            self.requests.append(request)
            turn = self._turns.pop(0) if self._turns else DONE
        return turn(request) if callable(turn) else turn

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer("text/plain", b"")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                if "count_tokens" in self.path:
                    self._answer("application/json", b'{"input_tokens":1}')
                    return
                blocks = model._next(body)
                if body.get("stream"):
                    self._answer("text/event-stream", b"".join(_events(blocks)))
                else:
                    self._answer("application/json", json.dumps(_message(blocks, _finished(blocks))).encode())

            def _answer(self, kind: str, data: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: Any) -> None:
                del format, arguments

        return Handler

    def _run(self) -> None:
        self._server.serve_forever(poll_interval=0.05)


@contextmanager
def model_server(*turns: Turn) -> Iterator[ModelServer]:
    """A server that says these turns, one for each request that offers tools."""
    model = ModelServer(turns)
    thread = threading.Thread(target=model._run)
    thread.start()
    try:
        yield model
    finally:
        model._server.shutdown()
        thread.join()
        model._server.server_close()


def _finished(blocks: Sequence[Block]) -> str:
    return "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"


def _message(blocks: Sequence[Block], reason: str | None) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [_named(number, block) for number, block in enumerate(blocks)],
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _named(number: int, block: Block) -> dict[str, Any]:
    # The id of a call has to differ from those of the turns before, or the host takes it for one of them.
    return {**block, "id": f"toolu_{id(block):x}_{number}"} if block["type"] == "tool_use" else dict(block)


def _events(blocks: Sequence[Block]) -> Iterator[bytes]:
    yield _event({"type": "message_start", "message": _message((), None)})
    for index, block in enumerate(_named(number, each) for number, each in enumerate(blocks)):
        if block["type"] == "tool_use":
            start = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        else:
            start = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        yield _event({"type": "content_block_start", "index": index, "content_block": start})
        yield _event({"type": "content_block_delta", "index": index, "delta": delta})
        yield _event({"type": "content_block_stop", "index": index})
    end = {"stop_reason": _finished(blocks), "stop_sequence": None}
    yield _event({"type": "message_delta", "delta": end, "usage": {"output_tokens": 1}})
    yield _event({"type": "message_stop"})


def _event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def _text(result: Mapping[str, Any]) -> str:
    content = result.get("content", "")
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
