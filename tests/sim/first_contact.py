"""The first that a home hears of a room: a relay tells it something else of how the room was opened.

Ann's home opened a session on the relay, and Bob, of Ben's home, types its key. The home has nothing yet to compare the
answer with but what was signed, and what Bob typed. Whatever the relay tells, Bob's knock goes nowhere and the home
begins no mirror; and once the relay tells the truth Bob knocks.

Above: `faults`, the tests. Below: the homes and the relay of `tests.support.relayed`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from parlerd.core.errors import ParlerError
from parlerd.core.model import AgentId, PrincipalId
from parlerd.core.statements import KeyTerms, Opening, check, encode, room_id_of
from parlerd.engine.callers import Caller
from parlerd.engine.engine import Engine
from parlerd.operations import types as t
from tests.sim.broken import Broken, first_broken
from tests.sim.loop import play
from tests.sim.tales import GHOST, GHOSTS_PERSON
from tests.support.faces import PassingFace
from tests.support.relayed import homes_of

S = TypeVar("S", bound=msgspec.Struct)

Lie = Callable[[t.FoundKey], t.FoundKey]


def signed_by_another(found: t.FoundKey) -> t.FoundKey:
    """Somebody else signed the opening than the person whom it names."""
    return _with(found, opening_signature=GHOSTS_PERSON.sign("parler/opening", found.opening))


def unsigned(found: t.FoundKey) -> t.FoundKey:
    """Nobody signed the opening."""
    return _with(found, opening_signature=bytes(64))


def of_another_owner(found: t.FoundKey) -> t.FoundKey:
    """Somebody else opened the room, and signed that."""
    opening = _ghosts(found)
    return _with(found, opening=opening, opening_signature=GHOSTS_PERSON.sign("parler/opening", opening))


def another_room(found: t.FoundKey) -> t.FoundKey:
    """The key is one of another room, and everything about that room is signed as it has to be."""
    other = of_another_owner(found)
    room = room_id_of(other.opening)
    terms = encode(_with(check(found.terms, KeyTerms), room=room))
    return _with(other, room=room, terms=terms, terms_signature=GHOSTS_PERSON.sign("parler/key", terms))


LIES: Final[tuple[Lie, ...]] = (signed_by_another, unsigned, of_another_owner, another_room)


def _ghosts(found: t.FoundKey) -> bytes:
    opening = check(found.opening, Opening)
    return encode(_with(opening, owner=AgentId(GHOST.id), principal=PrincipalId(GHOSTS_PERSON.id)))


def _with(of: S, **fields: object) -> S:
    return msgspec.structs.replace(of, **fields)


class _Telling(PassingFace):
    """Stands before the relay's engine, and answers whoever asks what a key opens."""

    def __init__(self, engine: Engine, lie: Lie) -> None:
        super().__init__(engine)
        self.lie: Lie | None = lie
        """None once it tells the truth."""

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        answer = await super().call(op, params, caller)
        return self.lie(answer) if self.lie is not None and isinstance(answer, t.FoundKey) else answer


class FirstContact:
    """One story with one lie. `run` raises `Broken`."""

    def __init__(self, seed: int, lie: Lie) -> None:
        self.seed = seed
        self.lie = lie

    def meet(self) -> None:
        """Nobody has met."""

    def run(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                play(self.seed, partial(self._play, Path(folder)))
            except BaseException as error:
                broken = first_broken(error)
                if broken is None:
                    raise
                broken.step = "the first contact"
                raise broken from None

    async def _play(self, folder: Path) -> None:
        _, relay, home = homes_of(folder)
        ann, ben = home("ann"), home("ben")
        tellers: list[_Telling] = []

        def telling(engine: Engine) -> _Telling:
            tellers.append(_Telling(engine, self.lie))
            return tellers[-1]

        relay.face = telling
        async with relay.serving(), ann.serving() as anns, ben.serving() as bens:
            alice, bob = await anns.agent("alice"), await bens.agent("bob")
            opened = await alice.open(clear=True)
            try:
                joined = await bob.join(opened.session_key)
            except ParlerError as error:
                if error.code not in ("relay_equivocation", "wrong_room"):
                    raise Broken(f"{self._name} is answered with {error.code}") from error
            else:
                raise Broken(f"{self._name} was believed: somebody {joined.status} there")
            store = ben.world.store
            if begun := [room for room in store.rooms() if room != "home" and store.head(room).position]:
                raise Broken(f"{self._name} was believed: a home holds {begun}")
            [teller] = tellers
            teller.lie = None
            if (await bob.join(opened.session_key)).status != "pending":
                raise Broken(f"after {self._name} the room cannot be reached any more")

    @property
    def _name(self) -> str:
        return self.lie.__name__.replace("_", " ")
