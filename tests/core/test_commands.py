"""Commands: each has its place, none can be changed once made."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.home import HomeRoom
from parlerd.core.model import HomeId, Millis, WordsOf
from parlerd.core.room import Room
from parlerd.core.statements import NONCE, AgentCard, Claim, SealingKey
from tests.support.core import OWNER, CountedIds, open_room, refused
from tests.support.sealed import SealedDriver, sealing_key

ROOM_COMMANDS: tuple[type[c.Command], ...] = get_args(c.RoomCommand)
HOME_COMMANDS: tuple[type[c.Command], ...] = get_args(c.HomeCommand)
_PLAIN: dict[object, Any] = {
    bool: True,
    int: 1,
    tuple[WordsOf, ...]: (),
    c.NewEpoch: SealedDriver().record(add=[Claim(OWNER.id, OWNER.principal, OWNER.name)]),
    SealingKey: sealing_key(OWNER.id),
    AgentCard: AgentCard(
        home=HomeId(OWNER.principal),
        agent=OWNER.id,
        principal=OWNER.principal,
        name="ann",
        visibility="public",
        revision=1,
        at=Millis(0),
        nonce=bytes(NONCE),
    ),
}


def made(cls: type[c.Command]) -> c.Command:
    """A command with something in every field that must have one."""
    if cls is c.OpenRoom:
        return open_room(OWNER)
    fields = {
        field.name: _PLAIN.get(getattr(field.type, "__supertype__", field.type), "x")
        for field in msgspec.structs.fields(cls)
        if field.required
    }
    return cls(**fields)


def answer(aggregate: Room | HomeRoom, command: c.Command) -> str:
    try:
        aggregate.decide(command, by=OWNER.by, now=Millis(0), ids=CountedIds())
    except Refused as error:
        return error.code
    return "accepted"


@pytest.mark.parametrize("cls", ROOM_COMMANDS, ids=lambda cls: cls.__name__)
def test_a_room_answers_every_command_of_a_room_and_the_home_none(cls: type[c.Command]) -> None:
    assert answer(Room(), made(cls)) != "unknown_operation"
    assert answer(HomeRoom(), made(cls)) == "unknown_operation"


@pytest.mark.parametrize("cls", HOME_COMMANDS, ids=lambda cls: cls.__name__)
def test_the_home_answers_every_command_of_a_home_and_a_room_none(cls: type[c.Command]) -> None:
    assert answer(HomeRoom(), made(cls)) != "unknown_operation"
    assert answer(Room(), made(cls)) == "unknown_operation"


def test_every_command_belongs_to_a_room_or_to_the_home() -> None:
    commands = {
        cls
        for cls in vars(c).values()
        if isinstance(cls, type) and issubclass(cls, c.Command) and cls not in (c.Command, c.Coordination)
    }
    assert commands == {*ROOM_COMMANDS, *HOME_COMMANDS}
    assert not set(ROOM_COMMANDS) & set(HOME_COMMANDS)


@pytest.mark.parametrize("cls", [*ROOM_COMMANDS, *HOME_COMMANDS], ids=lambda cls: cls.__name__)
def test_a_command_cannot_be_changed_once_made(cls: type[c.Command]) -> None:
    with pytest.raises(AttributeError):
        made(cls).operation = "other"  # type: ignore[misc]


def test_a_command_that_is_none_of_them_is_refused() -> None:
    for aggregate in (Room(), HomeRoom()):
        with refused("unknown_operation"):
            aggregate.decide(c.Command(), by=OWNER.by, now=Millis(0), ids=CountedIds())
