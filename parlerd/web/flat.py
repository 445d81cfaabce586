"""The same operations at paths without a version, for whoever knows rooms, agents and keys and nothing of Parler.

    POST /rooms {"id": "team"}                        a room: of the agent of the token, which opens rooms, or without
                                                      one a room that every program of this machine may come into
    POST /rooms/team/agents {"id": "agent-a"}         a new agent of it, with a token that joins or none; and its token
    PUT  /rooms/team/state {"key": "turn", "value": 1}

Names are shorter here and answers are flat: an agent's `id` is its handle, a message's `id` its number, a list is a
bare list, and an error is `{"error": CODE, ...}` with what it tells beside that. Whoever names itself in a body has to
name the agent of its token.

Not here: what an operation does, and its checks (the engine). Above: `app`. Below: nothing; each answer is made of the
operations that it names. Invariant: nothing is there that has no path below `/v1`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.tokens import Token

Given = dict[str, Any]
Answer = tuple[int, Any]
"""A status and what is answered."""
_SELF: Final = ("agent", "from")
"""The names under which a request may say who asks."""


class Asked:
    """One request. `token` is what it shows, and `me` the handle of the agent of that one; empty for none. With
    `is_open` the home lets programs in that show none."""

    def __init__(
        self,
        token: Token | None,
        me: str,
        is_open: bool,
        path: dict[str, str],
        given: Given,
        call: Callable[[str, Given], Awaitable[Any]],
    ) -> None:
        self.token = token
        self.me = me
        self.is_open = is_open
        self.path = path
        self._call = call
        for name in _SELF:
            if name in given and me and given.pop(name) != me:
                raise Refused("identity_mismatch", you=me)
        self.given = given
        """What was sent, without who sends it."""

    def take(self, name: str, default: Any = None) -> Any:
        """A parameter that has another name in the operation."""
        return self.given.pop(name, default)

    def refuse(self, *names: str) -> None:
        """Refuse parameters that the operation has, and this call has not."""
        for name in names:
            if name in self.given:
                raise _invalid(name, f"`{name}` is no parameter of this call.")

    async def call(self, operation: str, **more: Any) -> Any:
        """What an operation answers, with what was sent and `more`, in the room of the path. Raises `ParlerError`."""
        own = {**({"room": self.path["room"]} if "room" in self.path else {}), **more}
        self.refuse(*own)
        return await self._call(operation, {**self.given, **own})

    async def ask(self, operation: str, **params: Any) -> Any:
        """What another operation answers, with these parameters alone."""
        return await self._call(operation, params)


class Flat(NamedTuple):
    """A path, and what answers there."""

    method: str
    path: str
    answer: Callable[[Asked], Awaitable[Answer]]
    is_for_visitors: bool = False
    """Whether a token may be missing, where the person let every program in."""


def flat_error(error: ParlerError, hint: str) -> Given:
    """An error as it is told at these paths."""
    told = {name: value for name, value in error.details.items() if name not in ("error", "message", "hint")}
    if error.code == "already_claimed":
        told |= {"claimed": False, "claimed_by": error.details.get("holder")}
    return {"error": error.code, "message": error.message, "hint": hint, **told}


# -- rooms and agents --------------------------------------------------------------------------------------


async def _begin(at: Asked) -> Answer:
    name = _text(at, "id")
    if at.token is not None and ("open" in at.token.access or not at.is_open):
        opened = await at.call("session.open", name=name)
        told = {"id": opened["name"], "room": opened["room"], "key": opened["key"], "approval": opened["approval"]}
        return (200 if opened["replayed"] else 201), told
    begun = await at.call("room.begin", name=name)
    return 201, {"id": begun["name"], "room": begun["room"]}


async def _rooms(at: Asked) -> Answer:
    found = await at.call("rooms.list")
    return 200, [{"id": room["name"], "room": room["room"], "topic": room["topic"]} for room in found["rooms"]]


async def _enter(at: Asked) -> Answer:
    id, name, role = _text(at, "id"), at.take("name"), at.take("role")
    if name is not None and not isinstance(name, str):
        raise _invalid("name", "`name` is text.")
    said = {} if role is None else {"role": role}
    if at.token is not None and at.token.kind == "aj":
        joined = await at.call("join.begin", name=id, label=(name or "")[:64], **said)
        return (200 if joined["replayed"] else 201), {**_joined(joined), "name": name or id}
    if at.token is not None:
        return 201, {**await _again(at, id, role), "name": name or id, "status": "active"}
    came = await at.call("room.enter", name=id, label=(name or "")[:64], **said)
    told = {"id": came["agent"], "role": came["role"], "token": came["token"], "room": came["room"]}
    return 201, {**told, "name": name or id, "status": "active"}


def _joined(join: Given) -> Given:
    """How a join stands. Who has to wait is told its id, with which to ask at `/v1/joins/ID`."""
    status = "active" if join["status"] == "joined" else join["status"]
    told = {"id": join["agent"], "role": join["role"], "token": join["token"], "room": join["room"], "status": status}
    return told if status == "active" else {**told, "join": join["id"], "code": join["code"], "hint": join["hint"]}


async def _again(at: Asked, id: str, wanted: Any) -> Given:
    """Whoever comes again goes on as it was, with another token. The old one ends."""
    if at.me != id:
        # With the token of another agent nobody comes in as this one.
        said = "Send the token of that agent, or none to come in as a new one."
        raise Refused("token_invalid", "This token is another agent's.", tool_hint=said)
    # Refused where this is not the room of the token, and where its agent is not in it.
    there = await at.ask("rooms.roster", room=at.path["room"])
    (role,) = [member["role"] for member in there["members"] if member["name"] == at.me]
    if wanted not in (None, role):
        raise _invalid("role", "An agent that is in the room keeps its role; its owner gives another.")
    if at.given.keys() - {"enabled"}:
        raise _invalid(min(at.given.keys() - {"enabled"}), "An agent has `id`, `name`, `role` and `enabled`.")
    if at.given:
        await at.call("agent.enable")
    minted = await at.ask("token.rotate")
    return {"id": id, "role": role, "token": minted["token"], "room": there["room"]}


async def _agents(at: Asked) -> Answer:
    found = await at.call("state.evaluate", expr="agents")
    return 200, [{"id": id, **about} for id, about in found["value"].items()]


async def _heartbeat(at: Asked) -> Answer:
    if at.path.pop("agent") != at.me:
        raise Refused("identity_mismatch", you=at.me)
    status = at.take("status", "active")
    # Refused where this is not the room of the token, and where its agent is not in it.
    there = await at.ask("rooms.roster", room=at.path.pop("room"))
    # Who is active is found out by itself: to state it is to state nothing else any more.
    told = await at.call("agent.presence", status="none" if status == "active" else status)
    return 200, {"ok": True, "agent": at.me, "status": status, "room": there["room"], "since": told["since"]}


# -- state -------------------------------------------------------------------------------------------------


async def _put(at: Asked) -> Answer:
    return 200, await at.call("state.set")


async def _batch(at: Asked) -> Answer:
    done = await at.call("state.batch")
    return 200, {"ok": True, "count": len(done["writes"]), "state": done["writes"], "replayed": done["replayed"]}


async def _get(at: Asked) -> Answer:
    if "key" in at.given:
        return 200, await at.call("state.get")
    at.refuse("after", "limit")
    found: list[Any] = []
    more: Given = {}
    while True:
        page = await at.call("state.list", **more)
        found += page["entries"]
        if not page["more"]:
            return 200, found
        more = {"after": (found[-1]["scope"], found[-1]["key"])}


async def _delete(at: Asked) -> Answer:
    return 200, {**await at.call("state.delete"), "deleted": True}


async def _renew(at: Asked) -> Answer:
    return 200, await at.call("timer.renew")


async def _wait(at: Asked) -> Answer:
    more: Given = {"wait_ms": at.take("timeout", 25_000)}
    include = at.take("include")
    if include:
        more["include"] = tuple(word for word in include.split(",") if word)
    ended = await at.call("state.wait", **more)
    if not ended["triggered"]:
        ended = {"timeout": True, **ended}
    return 200, ended


async def _eval(at: Asked) -> Answer:
    expression = at.given.get("expr")
    return 200, {"expression": expression, **await at.call("state.evaluate")}


# -- actions -----------------------------------------------------------------------------------------------


async def _register(at: Asked) -> Answer:
    done = await at.call("action.register")
    return (200 if done["replayed"] else 201), done


async def _actions(at: Asked) -> Answer:
    at.refuse("after")
    found: list[Any] = []
    more: Given = {}
    while True:
        page = await at.call("action.list", **more)
        found += page["actions"]
        if not page["more"]:
            return 200, found
        more = {"after": found[-1]["id"]}


async def _invoke(at: Asked) -> Answer:
    return 200, {**await at.call("action.invoke", id=at.path.pop("id")), "agent": at.me}


async def _unregister(at: Asked) -> Answer:
    return 200, {**await at.call("action.delete", id=at.path.pop("id")), "deleted": True}


# -- messages ----------------------------------------------------------------------------------------------


async def _post(at: Asked) -> Answer:
    body, to, reply_to = at.take("body"), at.take("to"), at.take("reply_to")
    at.refuse("data")
    if body is None:
        raise _invalid("body", "A message has a body: text, or any JSON.")
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    more: Given = {"text": text} if isinstance(body, str) else {"text": text, "data": body}
    if to is not None:
        more["to"] = [to] if isinstance(to, str) else to
    if reply_to is not None:
        more["reply_to"] = str(reply_to)
    sent = await at.call("message.send", **more)
    told = {"id": sent["seq"], "message": sent["id"], "from": at.me, "kind": at.given.get("kind", "text"), "body": body}
    return (200 if sent["replayed"] else 201), {**told, "at": sent["at"], "gated": sent["gated"]}


async def _messages(at: Asked) -> Answer:
    """From the beginning, or after a number. Nothing is acknowledged."""
    after, more = at.take("after"), {}
    if after is not None and not (after.isascii() and after.isdigit()):
        raise _invalid("after", "`after` is the number of a message.")
    if at.given.get("unclaimed") != "true":
        more["since"] = after or 0
    elif after is not None:
        raise _invalid("after", "What can be claimed has no beginning: leave `after` out.")
    page = await at.call("message.recv", **more)
    return 200, [_message(each) for each in page["messages"]]


def _message(said: Given) -> Given:
    told = {"id": said["seq"], "message": said["id"], "from": said["author"]["name"], "kind": said["kind"]}
    told |= {"body": said.get("data", said["text"]), "at": said["at"], "verified": said["verified"]}
    more = {"to": said.get("to"), "reply_to": said.get("reply_seq", said.get("reply_to")), "erased": said.get("erased")}
    return told | {name: value for name, value in more.items() if value is not None}


async def _claim(at: Asked) -> Answer:
    number = at.path.pop("id")
    held = await at.call("task.claim", id=number)
    told = {"claimed": True, "claimed_by": at.me, "message_id": int(number) if number.isdigit() else number}
    return 200, {**told, "lease_until": held["lease_until"], "fence": held["fence"], "message": held["id"]}


def _text(at: Asked, name: str) -> str:
    """A parameter that has to be there, and text."""
    value = at.take(name)
    if not isinstance(value, str) or not value:
        raise _invalid(name, f"`{name}` is text, and has to be there.")
    return value


def _invalid(param: str, said: str) -> Refused:
    return Refused("invalid_param", said, param=param)


FLAT: Final = (
    Flat("POST", "/rooms", _begin, is_for_visitors=True),
    Flat("GET", "/rooms", _rooms),
    Flat("POST", "/rooms/{room}/agents", _enter, is_for_visitors=True),
    Flat("GET", "/rooms/{room}/agents", _agents),
    Flat("POST", "/rooms/{room}/agents/{agent}/heartbeat", _heartbeat),
    Flat("GET", "/rooms/{room}/state", _get),
    Flat("PUT", "/rooms/{room}/state", _put),
    Flat("DELETE", "/rooms/{room}/state", _delete),
    Flat("PUT", "/rooms/{room}/state/batch", _batch),
    Flat("PATCH", "/rooms/{room}/state/timer", _renew),
    Flat("GET", "/rooms/{room}/wait", _wait),
    Flat("POST", "/rooms/{room}/eval", _eval),
    Flat("GET", "/rooms/{room}/actions", _actions),
    Flat("PUT", "/rooms/{room}/actions", _register),
    Flat("DELETE", "/rooms/{room}/actions/{id}", _unregister),
    Flat("POST", "/rooms/{room}/actions/{id}/invoke", _invoke),
    Flat("GET", "/rooms/{room}/messages", _messages),
    Flat("POST", "/rooms/{room}/messages", _post),
    Flat("POST", "/rooms/{room}/messages/{id}/claim", _claim),
)
