"""What a room's home itself says in a room: that a member invoked an action. Nobody signs such a message.

    an invocation   ->  an envelope of version 0, without a signature  ->  each reader's own sentence about it

Only the home decides an invocation, and the writes of one are the home's word too, so the message is no more than that:
each reader is told that it is unsigned. It is the only message that has no author's signature. It stands in no thread
of the invoker, uses up no counter, and is in the public line like every public message. Its envelope holds the invoker,
the action and the parameters, and no sentence, so no home can put words into a member's mouth. The invoker is in it
because no signature says who that was: readers with the same public line were told of the same invoker.

A Parler from before this message reads version 0 as a version that it does not know, and leaves the message out. One
that has more to say in a message that nobody signs gives the envelope another version.

Not here: what an invocation does (`actions`), and which parameters are secret (`templates`). Above: `actions`, whoever
shows a message, and whoever takes in another home's. Below: `envelope`, `words`. Invariant: what `told` makes, `read`
reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, get_args

import msgspec

from parlerd.core import events as e
from parlerd.core.envelope import UNSIGNED, DataPart, Envelope, encode_envelope, root_chain
from parlerd.core.errors import Refused
from parlerd.core.json_values import Value
from parlerd.core.model import INVOCATION, AgentId, By, Ids, MessageId, Millis, RoomId, Via, is_label
from parlerd.core.words import check_data, check_frame

_NONCE: Final = 16


class Invoked(NamedTuple):
    """Which action was invoked, with which parameters: in place of a secret one stands `templates.REDACTED`."""

    action: str
    params: Mapping[str, Value]


def told(room: RoomId, by: By, now: Millis, ids: Ids, said: Invoked) -> tuple[e.MessagePosted, bytes]:
    """The message that says that `by` invoked an action, and its body. `said` was found to be JSON."""
    id = MessageId(ids.new("m"))
    body = encode_envelope(
        Envelope(
            v=UNSIGNED,
            id=id,
            room=room,
            key="",
            kind=INVOCATION,
            chain=root_chain(id),
            hops=0,
            authored_at=now,
            counter=0,
            previous=b"",
            nonce=hashlib.sha256(ids.new("n").encode()).digest()[:_NONCE],
            host=by.host,
            via=by.via,
            parts=(DataPart({"agent": by.actor, **data_of(said)}),),
        )
    )
    posted = e.MessagePosted(
        id=id,
        kind=INVOCATION,
        chain=root_chain(id),
        counter=0,
        envelope=hashlib.sha256(body).digest(),
        envelope_v=UNSIGNED,
    )
    return posted, body


def read(envelope: Envelope, invoker: AgentId) -> Invoked:
    """What an envelope of version 0 says of this invoker. What a later Parler says beside that is left out.

    Raises `Refused`, with the wrong field as `what` where one is named: no home says anything else that nobody signed.
    """
    check_frame(envelope)
    sound = {
        "v": envelope.v == UNSIGNED,
        "kind": envelope.kind == INVOCATION,
        "key": envelope.key == "",
        "counter": envelope.counter == 0 and envelope.previous == b"",
        "line": envelope.shown == 0 and envelope.line == b"",
        "via": _is_door(envelope.via),
        "to": not envelope.to and not envelope.role,
        "visibility": envelope.visibility is None,
        "reply_to": envelope.reply_to is None,
    }
    for what, is_sound in sound.items():
        if not is_sound:
            raise Refused("envelope_refused", what=what)
    match envelope.parts:
        case (DataPart(data={"agent": agent, "action": str(action), "params": dict(params)}),) if is_label(action):
            if agent != invoker:
                raise Refused("envelope_refused", what="agent")
            check_data(params)
            return Invoked(action, params)
        case _:
            raise Refused("envelope_refused", what="parts")


def sentence(invoker: str, said: Invoked) -> str:
    """The line that tells a reader of an invocation; `invoker` is the handle of the agent."""
    told_with = f" {_text(said.params)}" if said.params else ""
    return f"{invoker} invoked {said.action}{told_with}"


def data_of(said: Invoked) -> dict[str, Any]:
    """The same for a program, which knows the invoker as the author of the message."""
    return {"action": said.action, "params": dict(said.params)}


def _is_door(text: str) -> bool:
    """Whether this is a door, a link too: an invoker elsewhere asks the home over one."""
    return text in get_args(Via)


def _text(params: Mapping[str, Value]) -> str:
    return msgspec.json.encode(params).decode()
