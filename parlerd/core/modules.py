"""Who is there while something is true: agents that say so of themselves, and modules.

    an agent     says what has to be true for it to be there. While that is not true, others see neither it in `agents`,
                 nor its scope's keys, nor its actions, and it does nothing but read, wait and say how present it is
    a module     is somebody without a key, whom a member registered: a name with a role, a scope and actions, all of
                 which its registrar alone writes. Nothing is signed in its name, it is never present and never waits

Each stands in the table of the state, beside its scopes, as an action does. A name stays the registrar's after its
module was deleted, because what stands in that scope stays too.

Not here: who is there for whom (`resolver`), and who is in (`membership`). Above: `room`. Below: `state`. Invariants:
an agent can always take back what it said of itself; no member has a module's name.
"""

from __future__ import annotations

from typing import Final

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.decision import Decision, replayed
from parlerd.core.entries import EntriesState, Entry
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, touches
from parlerd.core.lifecycle import LifecycleState
from parlerd.core.membership import MembershipState, present
from parlerd.core.model import AGENTS, By, Ids, Millis, agent_name, role_name
from parlerd.core.refusals import refusal
from parlerd.core.state import Entries, Look, nearest
from parlerd.core.topics import Topic

MAX_MODULES: Final = 100
"""Names of modules that one agent may have in one room, with those that it deleted."""


class Modules(Facet[EntriesState]):
    """Takes what agents say of themselves, and registers modules."""

    __slots__ = ("_entries", "_lifecycle", "_look", "_membership")

    def __init__(self, entries: Entries, lifecycle: LifecycleState, membership: MembershipState, look: Look) -> None:
        super().__init__(entries.state)
        self._entries = entries
        """Where they stand too."""
        self._lifecycle = lifecycle
        self._membership = membership
        self._look = look

    # -- asking --------------------------------------------------------------------------------------------

    def entry(self, handle: str) -> Entry | None:
        """What stands under a name: a module, or what an agent said of itself."""
        return self._entries.table.entry(AGENTS, handle)

    def module(self, name: str) -> Entry | None:
        """The module of a name, whether it is there now or not."""
        return self.entry(name) if name in self.state.modules else None

    def missing(self, name: str) -> Refused:
        """What is said of a module that there is not, with the nearest one."""
        near = nearest(name, [each for each in self.state.modules if self.entry(each) is not None])
        return refusal("no_such_agent", {"agent": name, "candidates": [near] if near else []})

    # -- deciding ------------------------------------------------------------------------------------------

    def _enable(self, command: c.EnableAgent, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        # Not whether it is there: it has to be able to come back.
        self._entries.require_open(author)
        entry = self.entry(author.handle)
        if command.enabled is None and entry is None:
            return Decision(answer="unchanged")
        said = e.AgentEnabled(handle=author.handle, version=self._version(author.handle), enabled=command.enabled)
        return Decision((said,), authority="member")

    def _register(self, command: c.RegisterModule, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        self._entries.require_writable(author, self._look(by.actor, now, command.presence))
        name, role = agent_name(command.name), role_name(command.role)
        if any(member.handle == name for member in self._membership.members.values()):
            raise Refused("invalid_name", f"{name!r} is an agent of this room, and no module's name.")
        modules = self.state.modules
        if modules.get(name, author.handle) != author.handle:
            raise refusal("scope_denied", {"write_scope": name, "invoker": author.handle})
        if name not in modules and sum(owner == author.handle for owner in modules.values()) >= MAX_MODULES:
            raise Refused("state_full", limit=MAX_MODULES, what="modules")
        registered = e.ModuleRegistered(
            name=name, version=self._version(name), owner=author.handle, role=role, enabled=command.enabled
        )
        return Decision((registered,), authority="member")

    def _delete(self, command: c.DeleteModule, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        self._entries.require_writable(author, self._look(by.actor, now, command.presence))
        entry = self.module(command.name)
        if entry is None:
            raise self.missing(command.name)
        if self.state.modules[command.name] != author.handle and by.actor != self._lifecycle.owner:
            raise refusal("scope_denied", {"write_scope": command.name, "invoker": author.handle})
        return Decision((e.ModuleDeleted(name=command.name, version=entry.version),), authority="member")

    def _version(self, handle: str) -> int:
        """The version that what stands under a name has next."""
        entry = self.entry(handle)
        return 1 + (self._entries.table.last_version(AGENTS, handle) if entry is None else entry.version)

    # -- folding -------------------------------------------------------------------------------------------

    def _enabled(self, event: e.AgentEnabled, header: e.Header) -> None:
        table = self._entries.table
        if event.enabled is None:
            table.drop(AGENTS, event.handle, event.version)
        else:
            entry = Entry(event.version, b"", 0, header.by.actor, header.at, header.position, enabled=event.enabled)
            table.put(AGENTS, event.handle, entry)

    def _registered(self, event: e.ModuleRegistered, header: e.Header) -> None:
        self.state.modules[event.name] = event.owner
        entry = Entry(
            event.version,
            b"",
            0,
            header.by.actor,
            header.at,
            header.position,
            enabled=event.enabled,
            role=event.role,
        )
        self._entries.table.put(AGENTS, event.name, entry)

    def _gone(self, event: e.ModuleDeleted, header: e.Header) -> None:
        self._entries.table.drop(AGENTS, event.name, event.version)

    def _changed(
        self, event: e.AgentEnabled | e.ModuleRegistered | e.ModuleDeleted, header: e.Header
    ) -> tuple[Topic, ...]:
        """Whoever looks at the room: somebody came or went, with a scope and with actions."""
        return (topics.life(self._lifecycle.room),)

    DECIDES = (
        decides(c.EnableAgent, _enable),
        decides(c.RegisterModule, _register),
        decides(c.DeleteModule, _delete),
    )
    APPLIES = (
        applies(e.AgentEnabled, _enabled),
        applies(e.ModuleRegistered, _registered),
        applies(e.ModuleDeleted, _gone),
    )
    TOUCHES = (
        touches(e.AgentEnabled, _changed),
        touches(e.ModuleRegistered, _changed),
        touches(e.ModuleDeleted, _changed),
    )
