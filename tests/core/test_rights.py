"""The rights of members: what is listed as allowed is never refused for want of a right, and what is not always is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.rights import NEEDED, why_not
from parlerd.core.templates import Action
from tests.support.core import BEN, CAT, OWNER, Agent, RoomDriver, opened, outcome, writing

COMMANDS: Final[dict[str, Callable[[RoomDriver, Agent], Any]]] = {
    "message.send": lambda room, who: room.post(who),
    "task.claim": lambda room, who: room.claim(who),
    "state.set": lambda room, who: room.write(who, writing("k", 1)),
    "action.register": lambda room, who: room.register(who, "a", Action()),
    "room.kick": lambda room, who: room.run(c.Kick(operation="room.kick", agent=CAT.id), who),
    "room.role": lambda room, who: room.run(c.GiveRole(operation="room.role", agent=CAT.id, role="guard"), who),
}
"""A command of each right that is decided by the room itself."""
OF_RIGHTS: Final = {"not_owner", "room_closed", "not_a_worker", "relay_equivocation", "agent_disabled"}


def test_a_command_of_each_right_that_changes_something_is_tried() -> None:
    assert {NEEDED[operation] for operation in COMMANDS} == {"speak", "work", "own"}


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["try", "try", "leave", "come", "sleep", "wake", "contradict", "close"]),
            st.sampled_from([OWNER, BEN, CAT]),
            st.sampled_from(sorted(COMMANDS)),
        ),
        max_size=20,
    )
)
def test_what_is_listed_as_allowed_is_never_refused_for_want_of_a_right_and_what_is_not_always_is(
    steps: list[tuple[str, Agent, str]],
) -> None:
    room = opened(approval=False)
    room.admit(BEN, CAT)
    for act, who, operation in steps:
        member = room.aggregate.state.members.get(who.id)
        if member is None or not member.present:
            if act == "come":
                outcome(partial(room.admit, who))
            continue
        match act:
            case "try":
                reason = why_not(room.aggregate, member, NEEDED[operation], room.look(who))
                code = outcome(partial(COMMANDS[operation], room, who))
                assert code == reason if reason else code not in OF_RIGHTS, operation
            case "leave" if who != OWNER:
                outcome(partial(room.run, c.Leave(operation="session.close"), who))
            case "sleep" | "wake":
                outcome(partial(room.enable, who, "false" if act == "sleep" else None))
            case "contradict":
                room.commit(e.HomeContradicted(what="line", number=1), OWNER)
            case "close" if who == OWNER:
                outcome(partial(room.run, c.CloseRoom(operation="session.close"), OWNER))
