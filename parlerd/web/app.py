"""The operations of agents over HTTP: routes, parameters and answers made from the registry.

    GET /v1/rooms/{room}/messages?limit=5   Authorization: Bearer as_...
      --> the route of `message.recv`, whose parameters come from the path and the query
      --> Bearers: as whom, where, for what; then the engine, as at any other door
      --> the result as the command line's JSON, or its error with the error's status

Whoever has only a base URL finds the rest without a token: `/llms.txt`, `/openapi.json` and `/v1/errors`.

Not here: HTTP itself (`door`), what stands in the descriptions (`description`), what is at the paths without `/v1`
(`flat`), streams (`events`) and files (`files`). Above: the daemon. Below: Starlette's requests and routing, the
registry, `Bearers`. Invariants: no operation is written a second time; without a token nothing of any room is answered
but whether a name is taken in a room for programs; a token in an address is refused before it is used.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, get_origin
from urllib.parse import unquote

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parlerd.core.errors import ERRORS, ParlerError, Refused
from parlerd.core.tokens import Token
from parlerd.engine.bearers import UNSEEN
from parlerd.engine.callers import Caller, PeerProcess
from parlerd.identity.tokens import TOKEN
from parlerd.operations import types as t
from parlerd.operations.contracts import CONTRACT, CONTRACTS, UNNOTED
from parlerd.operations.registry import OPERATIONS
from parlerd.web import description
from parlerd.web.calls import MAX_WAIT_MS, error_of, over_http, with_calls
from parlerd.web.events import Events, Items, Waiting
from parlerd.web.files import Download, upload
from parlerd.web.flat import FLAT, Asked, Flat, flat_error
from parlerd.web.ports import Asker, Serving, TokenBook
from parlerd.web.routing import answered_outside, route
from parlerd.web.streaming import MEDIA

MAX_CALLS: Final = 32
"""Calls that may be under way with one token. Source: contract spec, The door."""
RECEIPT_S: Final = 5.0
"""How long an answer waits for the receipt that is to come with it. What was done is done, and its author is told."""
_VERSION: Final = "Parler-Version"
_SETTLED: Final = "parler.contract"
"""Where a scope holds by which contract its request is answered, in a list that outlives the scope."""
_KEY: Final = "Idempotency-Key"
_NEW: Final = (t.MintedToken, t.RoomBegun, t.RoomEntered)
"""Answers that always tell of a new fact."""
_COMMON: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def is_upload(scope: Scope) -> bool:
    """Whether the body of a request is a file, which is read piece by piece and may be large."""
    parts: list[str] = scope["path"].split("/")
    return scope["method"] == "PUT" and parts[1:3] == ["v1", "rooms"] and parts[4:] == ["blobs"]


Peer = tuple[str, int]


class Web:
    """The application. `stranger` makes the caller that somebody is who shows no token, by the address of the other end
    of the connection; None where it does not matter. `guesser` makes the caller for which wrong tokens are counted, one
    for everybody where it is left out. `folder` is for files of no name. `process` finds the process at the other end,
    by its address; 0 where it cannot be seen. It may take a while. `way_in` is what somebody without a token may do."""

    def __init__(
        self,
        engine: Serving,
        tokens: TokenBook,
        stranger: Callable[[Peer | None], Caller],
        folder: Path | None = None,
        process: Callable[[Peer], int] = lambda peer: 0,
        *,
        guesser: Callable[[Peer | None], Caller] | None = None,
        way_in: str = "Ask the person for a token.",
    ) -> None:
        self._way_in = way_in
        self._folder = folder
        self._process = process
        self._guesser = guesser or (lambda peer: stranger(None))
        self._engine = engine
        self._tokens = tokens
        self._stranger = stranger
        routes = [
            route("GET", "/llms.txt", _page("text/plain; charset=utf-8", lambda _: description.guide().encode())),
            route("GET", "/openapi.json", _page("application/json", description.openapi)),
            route("GET", "/v1/errors", _page("application/json", lambda _: msgspec.json.encode(description.errors()))),
        ]
        for operation in OPERATIONS.values():
            if operation.http is None:
                continue
            path, method = f"/v1{operation.http.path}", operation.http.method
            routes.append(route(method, path, self._answering(operation)))
        routes.append(route("GET", "/v1/rooms/{room}/llms.txt", self._guide))
        routes += [route(flat.method, flat.path, self._answering_flat(flat)) for flat in FLAT]
        routing = Starlette(
            routes=routes,
            exception_handlers={404: _no_such_page, 405: _no_such_page, Exception: _failed},
        )
        routing.router.redirect_slashes = False
        self.app: Final = _by_contract(_without_tokens_in_addresses(answered_outside(routing, _failed_outside)))

    def _answering(self, operation: t.Operation) -> Callable[[Request], Awaitable[ASGIApp]]:
        async def answer(request: Request) -> ASGIApp:
            try:
                return await self._answer(operation, request)
            except ParlerError as error:
                return _refused(error)

        return answer

    def _answering_flat(self, flat: Flat) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                status, found = await flat.answer(await self._asked(flat, request))
            except ParlerError as error:
                hint = over_http(error.tool_hint)
                return _json(_status_of(error), msgspec.json.encode(flat_error(error, hint)), _headers_of(error))
            return _json(status, msgspec.json.encode(found), {})

        return answer

    async def _guide(self, request: Request) -> Response:
        """The page for a model, with what it may do in a room."""
        try:
            asker = await self._bearer(request)
            _settle_contract(request, asker.token)
            if request.url.query:
                raise _invalid("query", "This page has no parameters.")
            given: dict[str, Any] = {**_path_params(request)}
            found, _ = await self._called(OPERATIONS["room.affordances"], given, asker, request, is_text=True)
        except ParlerError as error:
            return _refused(error)
        assert isinstance(found, t.Affordances)
        assert asker.token is not None
        page = description.guide(with_calls(found, asker.token.access))
        return Response(page, 200, _COMMON, "text/plain; charset=utf-8")

    async def _answer(self, operation: t.Operation, request: Request) -> ASGIApp:
        assert operation.http is not None
        asker = await self._asker(operation, request)
        _settle_contract(request, asker.token)
        self._engine.admit(operation.name, asker.caller)
        if operation.name == "blob.put":
            return await self._uploaded(operation, asker, request)
        given, is_text = await _given(operation, request)
        if operation.name == "blob.get":
            found, _ = await self._called(OPERATIONS["blob.find"], given, asker, request, is_text=is_text)
            assert isinstance(found, t.FoundBlob)
            assert asker.token is not None
            using = partial(self._tokens.using, asker.token)
            return Download(self._engine, asker.caller, using, found, _refused, _COMMON, self._folder)
        if operation.stream:
            if request.method == "HEAD":
                raise Refused("unknown_operation", "A stream has no head alone.", tool_hint="Ask with GET.")
            return self._streamed(operation, asker, given, request)
        if operation.params is t.WaitUntil and MEDIA in request.headers.get("Accept", ""):
            return self._streamed(operation, asker, given, request)
        if operation.waits and asker.token is not None:
            brings_receipt = _wants_receipt(operation, given)
            params, key = _params(operation, given, request, is_text=is_text)
            return _Waited(partial(self._waited, operation, params, asker, key, brings_receipt))
        result, key = await self._called(operation, given, asker, request, is_text=is_text)
        if isinstance(result, t.Affordances):
            assert asker.token is not None, "nobody is told what they may do without a token"
            result = with_calls(result, asker.token.access)
        return _answered(result, key)

    async def _waited(
        self,
        operation: t.Operation,
        params: t.Params,
        asker: Asker,
        key: str | None,
        brings_receipt: bool,
        receive: Receive,
    ) -> Response:
        """The answer of a call that waits."""
        try:
            result = await self._until_answered(operation, params, asker, receive)
            return _answered(await self._with_receipt(result, asker) if brings_receipt else result, key)
        except ParlerError as error:
            return _refused(error)

    def _streamed(
        self, operation: t.Operation, asker: Asker, given: dict[str, Any], request: Request
    ) -> Events | Items | Waiting:
        """What an operation tells as a stream."""
        params, _ = _params(operation, given, request, is_text=True)
        assert asker.token is not None, "nobody follows anything without a token"
        self._require_room(asker.token)
        follower = self._engine, self._tokens, asker, _COMMON, request.headers.get("Last-Event-ID", "")
        match params:
            case t.WatchRoom(room=str(room)):
                return Events(*follower, room=room)
            case t.WaitUntil():
                return Waiting(*follower, params=params)
            case _:
                return Items(*follower, name=operation.name, params=params)

    async def _asked(self, flat: Flat, request: Request) -> Asked:
        """A request at a path of `flat`. Raises `Refused`."""
        bearer, me = None, ""
        if "Authorization" in request.headers or not flat.is_for_visitors:
            bearer = await self._bearer(request, is_seen=flat.is_for_visitors)
            assert bearer.token is not None
            if bearer.token.kind != "aj":
                me = await self._tokens.handle_of(bearer.token, _path_params(request).get("room", ""))
        _settle_contract(request, None if bearer is None else bearer.token)
        body = await request.body()
        is_text = flat.method == "GET" or (flat.method == "DELETE" and not body)
        if not is_text and request.url.query:
            raise _invalid("query", "The parameters of this call stand in its body.")
        if is_text and body:
            raise _invalid("body", "The parameters of this call stand in its query.")
        given = _queried(request, {}) if is_text else _object_of(body)

        async def call(name: str, params: dict[str, Any]) -> Any:
            operation = OPERATIONS[name]
            if operation.plane == "visitor":
                asker = self._visitor(request)
            else:
                if bearer is None:
                    raise Refused("token_required")
                asker = bearer
            result, _ = await self._called(operation, params, asker, request, is_text=is_text)
            return msgspec.to_builtins(result)

        is_open = "visitor" in self._stranger(_peer_of(request)).facts.authority.planes
        return Asked(None if bearer is None else bearer.token, me, is_open, _path_params(request), given, call)

    # -- who asks ------------------------------------------------------------------------------------------

    async def _asker(self, operation: t.Operation, request: Request) -> Asker:
        """Who asks for an operation. Raises `Refused`."""
        if operation.plane == "joiner":
            if "Authorization" in request.headers:
                return await self._bearer(request, is_seen=True)
            return await self._knocker(request)
        if operation.plane == "visitor":
            if "Authorization" in request.headers:
                bearer = await self._bearer(request)
                if "joiner" in bearer.caller.facts.authority.planes:
                    return bearer
            return self._visitor(request)
        return await self._bearer(request)

    async def _bearer(self, request: Request, *, is_seen: bool = False) -> Asker:
        """Whose token a request shows; with `is_seen` the process that sent it is looked for. Raises `Refused`."""
        shown = request.headers.getlist("Authorization")
        if len(shown) > 1:
            raise _invalid("Authorization", "One token is shown, and not two.")
        kind, _, text = "".join(shown).partition(" ")
        if kind.lower() != "bearer" or not text:
            raise Refused("token_required")
        seen = await self._seen(request) if is_seen else UNSEEN
        return Asker(*await self._tokens.caller_of(text.strip(), self._guesser(_peer_of(request)), seen))

    async def _knocker(self, request: Request) -> Asker:
        """Whoever wants to come in and shows no token. It sends JSON, as every visitor does."""
        stranger = self._stranger(_peer_of(request))
        if "joiner" not in stranger.facts.authority.planes or request.method != "POST":
            raise Refused("token_required")
        _require_json(request)
        seen = await self._seen(request)
        authority = replace(stranger.facts.authority, planes=frozenset({"joiner"}), is_shown_codes=bool(seen.pid))
        return Asker(None, Caller(replace(stranger.facts, authority=authority, peer=seen)))

    async def _seen(self, request: Request) -> PeerProcess:
        """The process that sent a request, as far as it can be found."""
        peer = _peer_of(request)
        pid = 0 if peer is None else await self._engine.aside(lambda beat: self._process(peer))
        return PeerProcess(pid=pid) if pid else UNSEEN

    def _visitor(self, request: Request) -> Asker:
        """Whoever shows no token, or none that matters. A page in a browser can send a form here without asking, and no
        JSON."""
        stranger = self._stranger(_peer_of(request))
        if "visitor" not in stranger.facts.authority.planes and "Authorization" not in request.headers:
            raise Refused("token_required", hint=self._way_in)
        _require_json(request)
        return Asker(None, stranger)

    # -- what is asked -------------------------------------------------------------------------------------

    async def _called(
        self, operation: t.Operation, given: dict[str, Any], asker: Asker, request: Request, *, is_text: bool
    ) -> tuple[t.Result, str | None]:
        """What the engine answers, and the idempotency key of the call if it has one. The call ends when its token
        does, and when whoever asked is gone. Raises `ParlerError`."""
        brings_receipt = _wants_receipt(operation, given)
        params, key = _params(operation, given, request, is_text=is_text)
        if asker.token is None:
            return await self._engine.call(operation.name, params, asker.caller), key
        if operation.waits:
            return await self._until_answered(operation, params, asker, request.receive), key
        self._require_room(asker.token)
        found: list[t.Result] = []
        with self._tokens.using(asker.token):
            found.append(await self._engine.call(operation.name, params, asker.caller))
            if brings_receipt:
                found[0] = await self._with_receipt(found[0], asker)
        # What was done is answered, also where the token ended a moment later.
        if found:
            return found[0], key
        raise Refused("token_invalid")

    async def _until_answered(
        self, operation: t.Operation, params: t.Params, asker: Asker, receive: Receive
    ) -> t.Result:
        """What the engine answers at the end of a wait, which ends before where whoever asked is gone. Raises
        `ParlerError`."""
        assert asker.token is not None, "nobody waits without a token"
        self._require_room(asker.token)
        found: list[t.Result] = []
        failed: list[ParlerError] = []
        with self._tokens.using(asker.token) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                try:
                    found.append(await self._engine.call(operation.name, params, asker.caller))
                except ParlerError as error:
                    failed.append(error)
                nursery.cancel_scope.cancel()
        if found:
            return found[0]
        if failed:
            raise failed[0]
        raise Refused("token_invalid" if scope.cancelled_caught else "cancelled")

    async def _with_receipt(self, result: t.Result, asker: Asker) -> t.Result:
        """The answer of a write with its receipt. What was done is answered, also where no receipt can be had now."""
        named = getattr(result, "receipt", None)
        if not isinstance(named, t.ReceiptRef):
            return result
        params = t.GetReceipt(id=named.fact, room=getattr(result, "room", None))
        with trio.move_on_after(RECEIPT_S), suppress(ParlerError):
            given = await self._engine.call("receipt.get", params, asker.caller)
            assert isinstance(given, t.ReceiptGiven)
            return msgspec.structs.replace(result, receipt=msgspec.structs.replace(named, text=given.receipt))
        return result

    async def _uploaded(self, operation: t.Operation, asker: Asker, request: Request) -> Response:
        """A file that comes as the body of a request. Whoever may bring none is told before its body is read."""
        if request.url.query:
            raise _invalid("query", "This call has no parameters but those of its path.")
        assert asker.token is not None
        self._require_room(asker.token)
        with self._tokens.using(asker.token):
            put = await upload(self._engine, asker, _path_params(request)["room"], request, self._folder)
            return _json(201, msgspec.json.encode(put), {})
        raise Refused("token_invalid")

    def _require_room(self, token: Token) -> None:
        """Refuse one call more than a token may have under way."""
        if self._tokens.count(token) >= MAX_CALLS:
            raise Refused("busy", f"{MAX_CALLS} calls are under way with this token.", retry_after_ms=1000)


def _peer_of(request: Request) -> Peer | None:
    """The other end of the connection of a request."""
    return None if request.client is None else (request.client.host, request.client.port)


def _require_json(request: Request) -> None:
    """Refuse a body that is not said to be JSON. Raises `Refused(not_json)`."""
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused("not_json")


def _settle_contract(request: Request, token: Token | None) -> None:
    """Note by which contract a request is answered: the one that it names, or else the one of its token. Raises
    `Refused(unsupported_version)` where that is served no more, or not yet."""
    named = request.headers.get(_VERSION)
    if named is None and token is not None:
        named = token.contract or UNNOTED
    contract = CONTRACT if named is None else named
    if contract not in CONTRACTS:
        raise Refused(
            "unsupported_version",
            f"This home serves the contracts of {' and '.join(CONTRACTS)}.",
            tool_hint=f"Send `{_VERSION}: {CONTRACT}`.",
            versions=list(CONTRACTS),
        )
    request.scope[_SETTLED][0] = contract


def _path_params(request: Request) -> dict[str, str]:
    """What stands in the path: ids, handles and rooms. The segments were told apart before, so a slash in a name is one
    that was escaped."""
    return {name: unquote(value) for name, value in request.path_params.items()}


async def _given(operation: t.Operation, request: Request) -> tuple[dict[str, Any], bool]:
    """The parameters of a call as they were sent, and whether all of them are text. Raises `Refused`."""
    assert operation.http is not None
    is_text = operation.http.method in ("GET", "DELETE")
    if is_text:
        if await request.body():
            raise _invalid("body", "The parameters of this call stand in its path and its query.")
        given = _queried(request, {field.encode_name: field for field in msgspec.structs.fields(operation.params)})
    elif request.url.query:
        raise _invalid("query", "The parameters of this call stand in its body.")
    else:
        given = _object_of(await request.body())
    for name, value in _path_params(request).items():
        if name in given:
            raise _invalid(name, f"`{name}` stands in the path.")
        given[name] = value
    return given, is_text


def _wants_receipt(operation: t.Operation, given: dict[str, Any]) -> bool:
    """Whether the receipt of a write is to come along. This is no parameter of the operation, so it is taken out: the
    same request with it and without is the same."""
    if not operation.has_receipt or "receipt" not in given:
        return False
    if given.pop("receipt") != "text":
        raise _invalid("receipt", "`receipt` is `text`, or is left out.")
    return True


def _params(
    operation: t.Operation, given: dict[str, Any], request: Request, *, is_text: bool
) -> tuple[t.Params, str | None]:
    """The parameters of a call, and its idempotency key where it may have one. Raises `Refused`."""
    key: str | None = None
    if "idempotency_key" in operation.params.__struct_fields__:
        if "idempotency_key" in given:
            raise _invalid("idempotency_key", f"The key stands in the header `{_KEY}`.")
        shown = request.headers.get(_KEY)
        key = secrets.token_urlsafe(16) if shown is None else shown.strip('"')
        given = {**given, "idempotency_key": key}
    try:
        params = msgspec.convert(given, operation.params, strict=not is_text)
        msgspec.msgpack.encode(params)
    except msgspec.ValidationError as error:
        raise _invalid("params", str(error)) from None
    except OverflowError:
        raise _invalid("params", "A number has more than 64 bits.") from None
    if isinstance(wait_ms := getattr(params, "wait_ms", None), int) and wait_ms > MAX_WAIT_MS:
        params = msgspec.structs.replace(params, wait_ms=MAX_WAIT_MS)
    return params, key


def _queried(request: Request, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in a query: lists repeat, and nothing else does."""
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        field = fields.get(name)
        is_list = field is not None and get_origin(_bare(field.type)) in (tuple, list)
        if is_list:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise _invalid(name, f"`{name}` is there twice.")
        else:
            given[name] = value
    return given


def _bare(kind: Any) -> Any:
    """A type without what `Annotated` says beside it."""
    return getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind


def _object_of(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; an empty body is one without members. Raises `Refused`."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name is there twice")
        return found

    def no_number(text: str) -> float:
        raise ValueError(f"{text} is no JSON")

    if not body:
        return {}
    try:
        found = json.loads(body, object_pairs_hook=once, parse_constant=no_number)
    except (ValueError, RecursionError):
        raise _invalid("body", "The body is no JSON object, or has a name twice.") from None
    if not isinstance(found, dict):
        raise _invalid("body", "The body is no JSON object.")
    try:
        # What the socket could not carry, the engine does not know: lone surrogates, numbers beyond 64 bits.
        msgspec.msgpack.encode(found)
    except (UnicodeEncodeError, OverflowError):
        raise _invalid("body", "A text is no Unicode, or a number has more than 64 bits.") from None
    return found


def _invalid(param: str, said: str) -> Refused:
    return Refused("invalid_param", said, param=param)


# -- answers -----------------------------------------------------------------------------------------------


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    """Cancel a scope once whoever asked is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class _Waited:
    """The answer of a call that waits. Whoever waits holds the parameters of the call, and nothing of its request."""

    def __init__(self, answer: Callable[[Receive], Awaitable[Response]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(receive)
        except Exception:
            await _failed_outside(scope, receive, send)
            raise
        await response(scope, receive, send)


def _answered(result: t.Result, key: str | None) -> Response:
    is_new = getattr(result, "replayed", None) is False or isinstance(result, _NEW)
    return _json(201 if is_new else 200, msgspec.json.encode(result), {} if key is None else {_KEY: key})


def _refused(error: ParlerError) -> Response:
    return _json(_status_of(error), error_of(error), _headers_of(error))


def _status_of(error: ParlerError) -> int:
    return ERRORS.get(error.code, ERRORS["internal"]).status


def _headers_of(error: ParlerError) -> dict[str, str]:
    """What the headers of an answer with an error say of it."""
    status = _status_of(error)
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if status in (429, 503):
        return {"Retry-After": str(max(1, -(-(error.retry_after_ms or 1000) // 1000)))}
    return {}


def _json(status: int, body: bytes, headers: Mapping[str, str]) -> Response:
    return Response(body, status, {**_COMMON, **headers}, "application/json")


async def _no_such_page(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    nothing = Refused("unknown_operation", "There is nothing here.", tool_hint="GET /llms.txt lists what there is.")
    await trio.lowlevel.checkpoint()
    matching = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in matching for method in route.methods}
    headers = {"Allow": ", ".join(sorted(methods))} if methods else {}
    return _json(status, _body_at(request.url.path, nothing), headers)


async def _failed(request: Request, error: Exception) -> Response:
    await trio.lowlevel.checkpoint()
    return _failure(request.url.path)


async def _failed_outside(scope: Scope, receive: Receive, send: Send) -> None:
    await _failure(scope["path"])(scope, receive, send)


def _failure(path: str) -> Response:
    """The answer where something failed that nobody expected."""
    failed = ParlerError("internal")
    return _json(_status_of(failed), _body_at(path, failed), {})


def _body_at(path: str, error: ParlerError) -> bytes:
    """An error as it is told at a path that no call has answered."""
    if path.startswith("/rooms"):
        return msgspec.json.encode(flat_error(error, over_http(error.tool_hint)))
    return error_of(error)


def _without_tokens_in_addresses(app: ASGIApp) -> ASGIApp:
    """Refuse a request whose address has a token in it, wherever it stands, before anything looks at the address."""

    def checked(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        address = unquote(f"{scope['path']}?{scope['query_string'].decode('ascii')}")
        if TOKEN.search(address) is None:
            return app(scope, receive, send)
        refused = Refused("token_in_url")
        return _json(_status_of(refused), _body_at(scope["path"], refused), {})(scope, receive, send)

    return checked


def _by_contract(app: ASGIApp) -> ASGIApp:
    """Say in each answer by which contract it is one: the contract of today where the request settled none."""

    def answered(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        settled = scope[_SETTLED] = [CONTRACT]

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = (_VERSION.lower().encode(), settled[0].encode())
                message = {**message, "headers": [*message["headers"], said]}
            await send(message)

        return app(scope, receive, say)

    return answered


def _page(media: str, body_of: Callable[[str], bytes]) -> Callable[[Request], Awaitable[Response]]:
    """A page that is the same for everybody who asks by one contract, until another version of Parler answers."""
    bodies = {contract: body_of(contract) for contract in CONTRACTS}
    tags = {contract: f'"{hashlib.sha256(body).hexdigest()[:32]}"' for contract, body in bodies.items()}

    async def answer(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        try:
            _settle_contract(request, None)
        except Refused as error:
            return _refused(error)
        contract = request.scope[_SETTLED][0]
        headers = {
            "ETag": tags[contract],
            "Vary": _VERSION,
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
        }
        if request.headers.get("If-None-Match") == tags[contract]:
            return Response(None, 304, headers)
        return Response(bodies[contract], 200, headers, media)

    return answer
