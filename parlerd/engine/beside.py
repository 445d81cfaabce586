"""Beside which agent a host's hook runs: hooks name no window, so the window is found by what the two have in common.

Not here: what the hook is told (`waking`). Above: `waking`. Below: the seats and the connected windows. Invariant:
nothing is leased or created, and where more than one agent may be meant, none is.
"""

from __future__ import annotations

from parlerd.core.identities import AgentRecord
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk


def beside(desk: Desk, hook: Caller) -> tuple[AgentRecord | None, list[Caller], bool]:
    """The agent that a host's hook runs beside, the windows that act as that agent, and whether it is sure that the
    hook is that host's own.

    The window is one of the same host: below a process that the hook descends from too, which at the furthest is
    the host itself. Where there is such a window, no other one counts, whatever conversation the hook names; of
    several, the conversation picks, else the workspace. Where there is none, the window is the one in the same
    conversation, else the one in the same workspace. Where no window has become an agent yet, it is the agent that
    the next one in this place would be. None when that leaves more than one: the wrong one must not be told.

    It is sure of a hook below the process that started the window, and of one below a program of its host, for a
    host may run its servers elsewhere. Whoever else names a conversation or stands in a workspace may be anything.
    """
    windows = [window for window in desk.connected.windows() if window.facts.host == hook.facts.host]
    below_one = [window for window in windows if not hook.facts.parents.isdisjoint(window.facts.parents)]
    likeness = {window: _likeness(hook, window) for window in below_one or windows if not _is_elsewhere(hook, window)}
    best = max(likeness.values(), default=(False, False))
    near = [window for window, like in likeness.items() if like == best] if below_one or any(best) else []
    # A hook whose process cannot be seen, as from another pid namespace, is believed: no kernel says otherwise.
    sure = (
        bool(below_one) or not hook.facts.peer.pid or (hook.facts.below != "" and hook.facts.below == hook.facts.host)
    )
    agents = {agent for window in near if (agent := desk.seats.acts_as(window)) is not None}
    if len(agents) > 1:
        return None, [], False
    if agents:
        agent = agents.pop()
        mine = [window for window in desk.connected.windows() if desk.seats.acts_as(window) == agent]
        return desk.rooms.home.aggregate.state.agents[agent], mine, sure
    return desk.seats.next_in_place(hook), [], sure


def _is_elsewhere(hook: Caller, window: Caller) -> bool:
    """Whether a window is for certain another conversation than the hook's: where calls name their conversations, one
    process has several, and a common parent process says nothing."""
    return (
        window.facts.is_exact and bool(hook.facts.conversation) and window.facts.conversation != hook.facts.conversation
    )


def _likeness(hook: Caller, window: Caller) -> tuple[bool, bool]:
    """What a hook and a window have in common, the surest first. A host gives its processes new conversations while
    they run, and two windows can stand in one workspace."""
    return (
        bool(hook.facts.conversation) and hook.facts.conversation == window.facts.conversation,
        bool(hook.facts.workspace) and hook.facts.workspace == window.facts.workspace,
    )
