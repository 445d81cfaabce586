"""Answers that are made outside of the routing.

    routing --> a route is found, and its answer is noted --> the routing ends --> the answer is made, and sent

Whoever waits for an answer holds the frames of all calls that lead to it, and the request. Of the routing that is
eight calls and their exception handlers, 4 KB for each reader.

Above: `app`, `pages`. Below: ASGI. Invariant: what fails is answered as it would be within the routing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

_ANSWER: Final = "parler.answer"
"""Where a scope holds how it is answered."""


def route(method: str, path: str, answer: Callable[[Request], Awaitable[ASGIApp]]) -> Route:
    """A route whose answer is made outside of the routing."""

    async def found(request: Request) -> ASGIApp:
        # No turn of the loop for this: the answer takes those that it needs.
        request.scope[_ANSWER] = partial(answer, request)
        return _nothing_yet

    return Route(path, found, methods=[method])


async def _nothing_yet(scope: Scope, receive: Receive, send: Send) -> None:
    """What the routing sends."""


def answered_outside(routing: ASGIApp, failed: ASGIApp) -> ASGIApp:
    """An application of these routes. `failed` answers where an answer could not be made."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        await routing(scope, receive, send)
        if _ANSWER not in scope:
            return
        answer = await _made(scope, receive, send, failed)
        # An answer knows who asks; what was asked is not kept while it goes on.
        scope = {"type": "http", "path": scope["path"]}
        await answer(scope, receive, send)

    return answered


async def _made(scope: Scope, receive: Receive, send: Send, failed: ASGIApp) -> ASGIApp:
    make: Callable[[], Awaitable[ASGIApp]] = scope.pop(_ANSWER)
    try:
        return await make()
    except Exception:
        await failed(scope, receive, send)
        raise
