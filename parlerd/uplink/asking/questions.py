"""What the home of a room answers by itself, whole: operations on its state, and views of it.

Not here: which operations cross (`operations`), the shapes of answers (`answers`). Above: `remote_room`. Below:
`answers`, `room_home`. Invariant: what an answer warns of is said here, whatever the home says.
"""

from __future__ import annotations

from typing import Final, cast

import msgspec

from parlerd.bounded import Bounded
from parlerd.engine.handles import Question
from parlerd.operations import types as t
from parlerd.uplink import answers
from parlerd.uplink.asking.room_home import RoomHome

LONGEST_MS: Final = 20_000
"""How long one question waits at a room's home; a longer wait is asked again, so that a link that broke is noticed."""
MAX_WARNED: Final = 1_000
"""Of how many sessions is kept that they were warned."""
STATE_WRITES: Final = frozenset(
    {"state.set", "state.batch", "action.register", "action.invoke", "agent.enable", "module.register"}
)
"""What brings words of an agent into the state of a room."""
STATE_IS_SEEN: Final = (
    "This room is sealed, but the relay sees its state: keys, values and expressions. Do not write secrets there."
)
"""Source: sealed spec, What the relay sees."""


class Questions:
    """Questions to one room's home."""

    def __init__(self, home: RoomHome) -> None:
        self._home = home
        self._warned: Bounded[str, bool] = Bounded(MAX_WARNED)
        """The sessions that were told who sees what they write into the state of a sealed room."""

    async def ask(self, question: Question) -> t.Result:
        """What the room's home answers. Raises `Refused` (`RoomHandle.ask`)."""
        home = self._home
        asked = question.params
        if isinstance(key := getattr(asked, "idempotency_key", None), str):
            asked = msgspec.structs.replace(asked, idempotency_key=home.hidden(key))
        params = t.AskAtRoom(
            room=home.room,
            agent=question.by.actor,
            operation=cast(t.Crossing, question.name),
            params=msgspec.msgpack.encode(asked),
        )
        wait_ms = question.params.wait_ms if isinstance(question.params, t.WaitingParams) else 0
        if wait_ms > LONGEST_MS:
            shorter = msgspec.structs.replace(asked, wait_ms=LONGEST_MS)
            params = msgspec.structs.replace(params, params=msgspec.msgpack.encode(shorter))
        longer = min(wait_ms, LONGEST_MS) / 1000
        answer = await home.link.call("link.ask", params, by=question.by.actor, longer=longer)
        assert isinstance(answer, t.AnsweredAtRoom)
        if answer.code:
            raise answers.refused(question.name, answer.code, answer.details)
        return self._with_warning(question, answers.answered(question.name, answer.answer, home.name))

    def _with_warning(self, question: Question, answer: t.Result) -> t.Result:
        """An answer with what is said here of it, whatever the home says: whoever writes for the first time into the
        state of a sealed room is told who sees that."""
        if "warning" not in answer.__struct_fields__:
            return answer
        is_first = self._home.is_sealed and question.name in STATE_WRITES and question.by.session not in self._warned
        if is_first:
            self._warned[question.by.session] = True
        return msgspec.structs.replace(answer, warning=STATE_IS_SEEN if is_first else msgspec.UNSET)
