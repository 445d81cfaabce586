"""Actions: writes that have a name, which an agent invokes that may not make them itself.

    _shared      any member registers, changes and deletes the action
    a handle     only the agent with this handle here does, or the one that registered the module of this name, and the
                 action carries its authority

Who invokes an action writes what it says: to the room's own scopes, to the scope in which the action is registered, and
to its own. An invocation is decided once, over what there was before its first write: what its writes change does not
undo it. Afterwards the action may have to cool down, which registering it again does not end. The room is told of each
invocation by a message (`invocations`), which stands last among its facts.

Not here: what an action consists of (`templates`), what a write leads to (`state.Draft`), and what there is for whom
(`resolver`). Above: `room`. Below: those. Invariants: what `may_invoke` allows is refused for nothing but its
parameters; nothing of a secret parameter is kept, but for what the action itself writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import invocations, topics
from parlerd.core.decision import Decision, replayed
from parlerd.core.entries import EntriesState, Entry
from parlerd.core.errors import Refused
from parlerd.core.expressions import Expression, Failed, Spent
from parlerd.core.expressions import refusal as came_to_nothing
from parlerd.core.facets import Facet, applies, decides, touches
from parlerd.core.json_values import Value, text_of
from parlerd.core.lifecycle import LifecycleState
from parlerd.core.membership import Member, MembershipState, present
from parlerd.core.model import ACTIONS, AGENTS, COOLDOWNS, OWN_SCOPES, SHARED, By, Ids, Millis, key_label
from parlerd.core.refusals import refusal
from parlerd.core.resolver import Resolver
from parlerd.core.scrub import scrub
from parlerd.core.state import IN_HEADER, MAX_BYTES, Draft, Entries, Look, encode_text, nearest
from parlerd.core.templates import Action, check, filled, filled_name, given, params_in, redacted
from parlerd.core.timers import Timer, started
from parlerd.core.topics import Topic
from parlerd.core.values import Meter, plain

MAX_ACTIONS: Final = 200
"""Actions that one agent may have registered in one room. Source: coordination spec, Quotas."""


class Invocation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of an invocation: the parameters, the secret ones redacted, and what the invoker was told; nothing
    for an action that gives nothing."""

    params: dict[str, Any]
    result: Any = msgspec.UNSET


class Actions(Facet[EntriesState]):
    """Registers actions, and carries them out."""

    __slots__ = ("_entries", "_lifecycle", "_look", "_membership")

    def __init__(self, entries: Entries, lifecycle: LifecycleState, membership: MembershipState, look: Look) -> None:
        super().__init__(entries.state)
        self._entries = entries
        """Where actions stand too."""
        self._lifecycle = lifecycle
        self._membership = membership
        self._look = look

    # -- asking --------------------------------------------------------------------------------------------

    def entry(self, id: str) -> Entry | None:
        """What stands under a name, whether it is there now or not."""
        return self._entries.table.entry(ACTIONS, id)

    def cooldown(self, id: str) -> Entry | None:
        """What has the timer after which an action may be invoked again; None where it may be now."""
        return self._entries.table.entry(COOLDOWNS, id)

    def why_not(self, resolver: Resolver, id: str, params: Mapping[str, Value] | None = None) -> str:
        """Why the asker may not invoke an action that is there: a code, or `needs_params` where that depends on
        parameters that are not among these and have no default. Empty where it may. Raises `Spent`."""
        entry = self.entry(id)
        assert entry is not None
        assert entry.action is not None
        action = entry.action
        known = {**given(action, {}, is_complete=False), **(params or {})}
        author = present(self._membership.members, resolver.asker.agent)
        try:
            self._entries.require_writable(author, resolver)
            self._require_cool(id)
            if not _needed(action) <= known.keys():
                return "needs_params"
            self._require_allowed(action, known, author, resolver)
        except Refused as refused:
            return refused.code
        return ""

    def may_invoke(self, resolver: Resolver, id: str) -> bool:
        """Whether the asker may invoke an action that is there. Raises `Spent`."""
        return not self.why_not(resolver, id)

    # -- deciding ------------------------------------------------------------------------------------------

    def _register(self, command: c.RegisterAction, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        self._entries.require_writable(author, self._look(by.actor, now, command.presence))
        id, action = key_label(command.id), command.action
        if action.owner != SHARED and not self._entries.table.owns(author.handle, action.owner):
            raise refusal("scope_denied", {"write_scope": action.owner, "invoker": author.handle})
        entry = self.entry(id)
        self._require_owned(entry, author)
        self._require_version(id, entry, command.if_version)
        check(action)
        for spec in (command.timer, action.on_invoke, *(write.timer for write in action.writes)):
            if spec is not None:
                started(spec, now)
        self._require_room(id, entry, author, len(msgspec.msgpack.encode(action)))
        if command.reset_cooldown and self.cooldown(id) is not None:
            self._require_may_reset(entry, author)
        table = self._entries.table
        registered = e.ActionRegistered(
            id=id,
            version=1 + (table.last_version(ACTIONS, id) if entry is None else entry.version),
            action=action,
            enabled=command.enabled,
            timer=None if command.timer is None else started(command.timer, now),
            resets=command.reset_cooldown,
        )
        return Decision((registered,), authority="member")

    def _delete(self, command: c.DeleteAction, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        self._entries.require_writable(author, self._look(by.actor, now, command.presence))
        id, entry = self._owned(command.id, author)
        self._require_version(id, entry, command.if_version)
        return Decision((e.ActionDeleted(id=id, version=entry.version),), authority="member")

    def _renew(self, command: c.RenewAction, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        self._entries.require_writable(author, self._look(by.actor, now, command.presence))
        id, entry = self._owned(command.id, author)
        return self._entries.renewal(ACTIONS, id, entry, now)

    def _invoke(self, command: c.InvokeAction, by: By, now: Millis, ids: Ids) -> Decision:
        author = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        resolver = self._look(by.actor, now, command.presence)
        self._entries.require_writable(author, resolver)
        id = key_label(command.id)
        entry = self._require_there(id, resolver)
        action = entry.action
        assert action is not None
        self._require_cool(id)
        params = given(action, command.params)
        self._require_allowed(action, params, author, resolver)
        _require_no_secret({name: value for name, value in params.items() if name not in action.secrets})
        draft = Draft(self._entries, author, now, resolver, _Authority(action))
        for number, write in enumerate(action.writes):
            try:
                value = filled(write.value, params, author.handle)
                if write.computed is not None:
                    value = self._worth(write.computed, params, resolver)
                _require_no_secret(value)
                draft.write(
                    c.StateWrite(
                        scope=filled_name(write.scope, params, author.handle),
                        key=filled_name(write.key, params, author.handle),
                        act=write.act,
                        value=value,
                        expr=write.expr,
                        enabled=write.enabled,
                        timer=write.timer,
                    )
                )
            except Refused as refused:
                refused.details["index"] = number
                raise
        result = msgspec.UNSET if action.result is None else self._worth(action.result, params, resolver)
        kept = redacted(action, params)
        text = text_of(msgspec.to_builtins(Invocation(kept, result)), param="params")
        events, bodies = draft.finish(ids)
        after = None if action.on_invoke is None else started(action.on_invoke, now)
        short = text if len(text) <= IN_HEADER else b""
        invoked = e.ActionInvoked(
            id=id,
            version=entry.version,
            owner=action.owner,
            writes=len(action.writes),
            text=short,
            # The cooldown is what goes away when its timer runs out.
            cooldown=msgspec.structs.replace(after, effect="delete") if after and after.is_dormant else None,
            life=after if after and not after.is_dormant else None,
        )
        body = None if short else encode_text(text, ids)
        said = invocations.Invoked(id, kept)
        posted, words = invocations.told(self._lifecycle.room, by, now, ids, said)
        return Decision((invoked, *events, posted), bodies=(body, *bodies, words), authority="member")

    def missing(self, id: str) -> Refused:
        """What is said of an action that there is not, with the nearest one."""
        near = nearest(id, self._entries.table.scope(ACTIONS))
        return refusal("no_such_action", {"action": id, "near": near})

    def _require_there(self, id: str, resolver: Resolver) -> Entry:
        entry = self.entry(id)
        if entry is None or entry.is_dormant:
            raise self.missing(id)
        assert entry.action is not None
        if not resolver.stands(entry.action.owner):
            owner = self._entries.table.entry(AGENTS, entry.action.owner)
            if owner is None:
                raise self.missing(id)
            assert owner.enabled is not None
            raise refusal("action_disabled", {"action": id, "enabled": resolver.source(owner.enabled)})
        try:
            if resolver.action(id) is None:
                assert entry.enabled is not None
                raise refusal("action_disabled", {"action": id, "enabled": resolver.source(entry.enabled)})
        except Spent as spent:
            assert entry.enabled is not None
            raise _nothing(entry.enabled, spent, resolver) from None
        return entry

    def _require_cool(self, id: str) -> None:
        cooling = self.cooldown(id)
        if cooling is None or cooling.timer is None:
            return
        left = {"ticks_left": cooling.ticks} if cooling.timer.watch is not None else {"available_at": cooling.timer.due}
        raise refusal("action_cooldown", {"action": id, **left})

    def _require_allowed(self, action: Action, params: Mapping[str, Value], author: Member, resolver: Resolver) -> None:
        """Raise `Refused` where this member may not invoke an action with these parameters now."""
        if action.gate is not None and self._worth(action.gate, params, resolver) is not True:
            raise refusal("precondition_failed", {"expression": resolver.source(action.gate), "evaluated": False})
        may_write = _Authority(action)
        for write in action.writes:
            may_write(self._entries.scope(filled_name(write.scope, params, author.handle)), author)

    def _worth(self, expression: Expression, params: Mapping[str, Value], resolver: Resolver) -> Value:
        """What an expression of an action is worth, as JSON. Raises `Refused` where it comes to nothing, and `Spent`
        where an expression around it takes too long with it."""
        try:
            return plain(resolver.evaluate(self._entries.table.program(expression), params), Meter())
        except Spent as spent:
            if resolver.is_running:
                raise
            raise _nothing(expression, spent, resolver) from None
        except Failed as failed:
            raise _nothing(expression, failed, resolver) from None

    def _owned(self, named: str, author: Member) -> tuple[str, Entry]:
        """The action of this name, which this member may change. Raises `Refused`."""
        id = key_label(named)
        entry = self.entry(id)
        if entry is None:
            raise self.missing(id)
        self._require_owned(entry, author)
        return id, entry

    def _require_owned(self, entry: Entry | None, author: Member) -> None:
        owner = SHARED if entry is None or entry.action is None else entry.action.owner
        if owner != SHARED and not self._entries.table.owns(author.handle, owner):
            raise refusal("action_owned", {"owner": owner})

    def _require_may_reset(self, entry: Entry | None, author: Member) -> None:
        """The owner ends a cooldown: of an action that is everybody's, who registered it, or the room's owner."""
        owner = SHARED if entry is None or entry.action is None else entry.action.owner
        registered = "" if entry is None else entry.by
        if owner == SHARED and author.agent not in (registered, self._lifecycle.owner):
            raise refusal("action_owned", {"owner": self._entries.handle(entry.by) if entry is not None else ""})

    def _require_version(self, id: str, entry: Entry | None, if_version: int | None) -> None:
        current = 0 if entry is None else entry.version
        if if_version is not None and if_version != current:
            shown = None if entry is None else {"version": entry.version}
            raise refusal("version_conflict", {"key": id, "scope": ACTIONS, "current": shown})

    def _require_room(self, id: str, entry: Entry | None, author: Member, size: int) -> None:
        """Raise `Refused(state_full)` where the room, or the author, would have more than it may have."""
        table = self._entries.table
        mine = sum(each.by == author.agent for name, each in table.scope(ACTIONS).items() if name != id)
        if mine >= MAX_ACTIONS:
            raise Refused("state_full", limit=MAX_ACTIONS, what="actions")
        if table.size + size - (0 if entry is None else entry.size) > max(MAX_BYTES, table.size):
            raise Refused("state_full", limit=MAX_BYTES, what="bytes")

    # -- folding -------------------------------------------------------------------------------------------

    def _registered(self, event: e.ActionRegistered, header: e.Header) -> None:
        table, timer = self._entries.table, event.timer
        entry = Entry(
            event.version,
            b"",
            len(msgspec.msgpack.encode(event.action)),
            header.by.actor,
            header.at,
            header.position,
            enabled=event.enabled,
            timer=timer,
            ticks=0 if timer is None else timer.ticks,
            action=event.action,
        )
        table.put(ACTIONS, event.id, entry)
        if event.resets and (cooling := self.cooldown(event.id)) is not None:
            table.drop(COOLDOWNS, event.id, cooling.version)

    def _gone(self, event: e.ActionDeleted, header: e.Header) -> None:
        # How long it still has to cool down stays: else who deletes it and registers it again would not have to wait.
        self._entries.table.drop(ACTIONS, event.id, event.version)

    def _invoked(self, event: e.ActionInvoked, header: e.Header) -> None:
        table, entry = self._entries.table, self.entry(event.id)
        if entry is None:
            return
        if event.cooldown is not None:
            cooling = Entry(entry.version, b"", 0, entry.by, header.at, header.position)
            table.put(COOLDOWNS, event.id, _timed(cooling, event.cooldown))
        if event.life is not None:
            moved = msgspec.structs.replace(entry, position=header.position)
            table.put(ACTIONS, event.id, _timed(moved, event.life))

    def _changed(
        self, event: e.ActionRegistered | e.ActionDeleted | e.ActionInvoked, header: e.Header
    ) -> tuple[Topic, ...]:
        return (topics.actions(self._lifecycle.room, event.id),)

    DECIDES = (
        decides(c.RegisterAction, _register),
        decides(c.DeleteAction, _delete),
        decides(c.RenewAction, _renew),
        decides(c.InvokeAction, _invoke),
    )
    APPLIES = (
        applies(e.ActionRegistered, _registered),
        applies(e.ActionDeleted, _gone),
        applies(e.ActionInvoked, _invoked),
    )
    TOUCHES = (
        touches(e.ActionRegistered, _changed),
        touches(e.ActionDeleted, _changed),
        touches(e.ActionInvoked, _changed),
    )


class _Authority:
    """Which scopes an action may write."""

    def __init__(self, action: Action) -> None:
        self._owner = action.owner

    def __call__(self, scope: str, invoker: Member) -> None:
        """Raise `Refused(scope_denied)` for a scope that is neither the room's, nor the action's, nor the invoker's."""
        if scope not in OWN_SCOPES and scope not in (self._owner, invoker.handle):
            details = {"write_scope": scope, "action_scope": self._owner, "invoker": invoker.handle}
            raise refusal("scope_denied", details)


def _needed(action: Action) -> frozenset[str]:
    """The parameters on which it depends whether the action may be invoked."""
    needed = {name for write in action.writes for name in params_in(write.scope)}
    for read in () if action.gate is None else action.gate.reads:
        if read.root == "params":
            needed |= set(action.params) if not read.path or read.path[0] is None else {read.path[0]}
    return frozenset(needed)


def _nothing(expression: Expression, error: Failed | Spent, resolver: Resolver) -> Refused:
    """The refusal of what depends on an expression of somebody else that came to no value. Where the asker may not know
    the expression, nothing of the error is told either."""
    refused = came_to_nothing(expression.source, error)
    source = resolver.source(expression)
    return refused if source == expression.source else refusal(refused.code, {"expression": source})


def _require_no_secret(value: Value) -> None:
    """Raise `Refused(secret_refused)` for a value with what looks like a credential: everybody would be shown it."""
    found = scrub(text_of(value).decode())[1]
    if found:
        raise refusal("secret_refused", {"kinds": sorted(found)})


def _timed(entry: Entry, timer: Timer) -> Entry:
    """An entry with a timer that begins now."""
    return msgspec.structs.replace(entry, timer=timer, ticks=timer.ticks)
