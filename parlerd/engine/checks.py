"""Whether what is stored is sound, and whether anything else needs the person: the handler of `daemon.check`.

Not here: how the daemon is (`status`), what each check of a signature means (`audit`). Above: the engine. Below: the
store, read away from the loop. Invariant: a check changes nothing, and each that fails says what to do about it.
"""

from __future__ import annotations

from typing import Final

import trio

from parlerd.core import events as e
from parlerd.core.errors import ERRORS, Refused
from parlerd.core.loops import WAKES_AN_HOUR
from parlerd.core.model import Millis, Position
from parlerd.engine.auditing import SLICE, audited
from parlerd.engine.callers import Caller
from parlerd.engine.continuing import said_of, spent_in
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.sightings import LATE_MS
from parlerd.operations import types as t
from parlerd.text.sight import sentence_of

SIGNATURES_S: Final = 10.0
"""How long `daemon.check` verifies signatures, in seconds; a client waits 30 for the whole answer. Enough for some
80,000 messages."""
AHEAD_MS: Final = 60_000
"""A fact that is dated later than this is no matter of two clocks that differ a little."""
AHEAD_FIX: Final = (
    "if the clock is wrong, set it right. If it was: nothing is lost and keys expire by the clock, but what is said "
    "there is dated later still; go on in a new session, and close this one:"
)
REFUSED: Final = {
    "kicked": "ask whoever runs the relay why; to take the relay out here: parler homes remove NAME",
    "not_enrolled": "ask whoever runs the relay for its line and secret, then: parler connect --relay LINE",
    "unsupported_version": "upgrade the older one of the two, here or where the relay runs",
    "wrong_relay": "another key than the relay's answers at its address, and nothing was sent there; ask whoever runs "
    "the relay whether its key is another now, and add it anew: parler connect --relay LINE",
}
"""What to do about a relay that refused the link for good, by the code of the refusal."""
_CONTRADICTS: Final = {
    "relay_equivocation": "contradicts itself",
    "relay_rolled_back": "holds less than it told before",
}
"""What is the matter with a room's home, by the code of the room's alarm. About an archive there is nothing to do."""
DAY_MS: Final = 86_400_000
"""How long a message that no model was shown is named, in milliseconds."""
MAX_NAMED: Final = 10
"""Facts that a check names: where there are more, the file as a whole is to be restored."""


class Checks:
    """The handler of `daemon.check`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("daemon.check")
    async def check(self, caller: Caller, params: t.CheckStore) -> t.CheckList:
        """The store's own structures, every room's chain, and who signed. It reads everything, so it runs away from the
        loop."""
        desk = self._desk
        problems = await desk.library.problems()
        checks = [
            t.Check(
                name="store",
                ok=not problems,
                detail="; ".join(problems) or "the database's structures are sound",
                fix="" if not problems else "stop the daemon and restore the newest backup (see docs/operations.md)",
            )
        ]
        for room in await desk.library.logs():
            broken = await desk.library.first_broken(room)
            if broken is not None:
                checks.append(
                    t.Check(
                        name="chain",
                        ok=False,
                        detail=f"room {room}: fact {broken} does not match its digest",
                        fix="the file was changed from outside; restore the newest backup (see docs/operations.md)",
                    )
                )
        if len(checks) == 1:
            checks.append(t.Check(name="chain", ok=True, detail="every room's digests match", fix=""))
        checks += await self._signatures()
        checks += await self._rooms()
        checks += await self._wakes()
        checks += await self._sights()
        checks.append(_kept(desk.retaining.total.bytes, desk.settings.retention_total_bytes))
        checks += [_home(home) for home in desk.home_book.listed()]
        for detail, fix in desk.host_files.failures():
            checks.append(t.Check(name="host files", ok=False, detail=detail, fix=fix))
        return t.CheckList(checks=checks)

    async def _rooms(self) -> list[t.Check]:
        """Open rooms of this home whose newest fact is dated later than now: the clock stood ahead, and was set back.
        The home room is none of them, for nobody is shown when something in it was. And rooms of other homes that
        contradict themselves; when something was there is their home's to say."""
        desk = self._desk
        now = desk.clock.now()
        checks: list[t.Check] = []
        for name in await desk.library.all_rooms():
            handle = await desk.rooms.get(name)
            room = handle.aggregate
            alarm = room.state.alarm or ""
            if alarm in _CONTRADICTS:
                detail = f"room {name}: {handle.home_name} {_CONTRADICTS[alarm]} ({room.state.contradicted})"
                fix = ERRORS[alarm].hint
                checks.append(t.Check(name="relay", ok=False, detail=detail, fix=fix))
            if not desk.rooms.is_here(room):
                continue
            ahead = room.last_at - now
            if ahead > AHEAD_MS and not room.state.closed:
                detail = f"room {name}: messages are dated up to {ahead / 86_400_000:.1f} days ahead of the clock"
                fix = f"{AHEAD_FIX} parler session close --room {name}"
                checks.append(t.Check(name="clock", ok=False, detail=detail, fix=fix))
        return checks[:MAX_NAMED]

    async def _wakes(self) -> list[t.Check]:
        """Where agents have woken each other so often that they begin no more turns."""
        desk = self._desk
        checks: list[t.Check] = []
        if desk.rooms.home.aggregate.loops.free_in(desk.clock.now()):
            detail = f"paused: agents began {WAKES_AN_HOUR} turns without a person in the last hour; reading goes on"
            fix = "look at what they keep sending each other; to let them go on at once: parler room continue ROOM"
            checks.append(t.Check(name="wakes", ok=False, detail=detail, fix=fix))
        for room in desk.rooms.home.aggregate.loops.rooms():
            try:
                state = (await desk.rooms.get(room)).aggregate.state
            except Refused:
                continue  # a room that no agent of this home is in any more
            for pair in spent_in(desk, state):
                detail = f"room {room}: {said_of(pair)}"
                fix = f"read what they wrote, then: parler room continue {room}"
                checks.append(t.Check(name="wakes", ok=False, detail=detail, fix=fix))
        return checks[:MAX_NAMED]

    async def _sights(self) -> list[t.Check]:
        """Which hosts' records are watched, and the messages of the last day that were read and shown to no model."""
        desk = self._desk
        if not desk.sightings.hosts:
            return []
        names = ", ".join(sorted(desk.sightings.hosts))
        checks = [t.Check(name="sight", ok=True, detail=f"watches what {names} records, as the person chose", fix="")]
        now = desk.clock.now()
        found = await desk.library.sights_of_nobody(Millis(now - DAY_MS), Millis(now - LATE_MS), MAX_NAMED)
        for row, header in found:
            if not isinstance(header.event, e.MessagePosted):
                continue
            word = desk.sightings.as_known(row)
            elsewhere = word.reader not in desk.rooms.home.aggregate.state.agents
            said = sentence_of(word.verdict, word.reason, word.host, word.again, elsewhere=elsewhere)
            detail = f"room {row.room}: no model is known to have been shown message {header.event.id}: {said}"
            fix = f"parler why {header.event.id}; if it still matters, say it again"
            checks.append(t.Check(name="sight", ok=False, detail=detail, fix=fix))
        return checks

    async def _signatures(self) -> list[t.Check]:
        """Whether facts are what their authors signed: each room's newest first, as many as there is time for."""
        desk = self._desk
        deadline = trio.current_time() + SIGNATURES_S
        checks: list[t.Check] = []
        looked = skipped = 0
        for room, upto in (await desk.library.logs()).items():
            about = await audited(desk, room)
            while upto > 0 and trio.current_time() < deadline:
                after = Position(max(0, upto - SLICE))
                unsigned = await desk.library.unsigned(room, after, upto, about)
                looked += upto - after
                upto = after
                checks += [
                    t.Check(
                        name="signatures",
                        ok=False,
                        detail=f"room {room}: fact {position} is not what its author signed",
                        fix="the file was changed from outside; restore the newest backup (see docs/operations.md)",
                    )
                    for position in unsigned[:MAX_NAMED]
                ]
            skipped += upto
        if checks:
            return checks[:MAX_NAMED]
        detail = f"{looked} facts are what their authors signed"
        if skipped:
            detail += f"; {skipped} older ones were not looked at, because checking all of them takes too long"
        return [t.Check(name="signatures", ok=True, detail=detail, fix="")]


def _kept(held: int, limit: int) -> t.Check:
    """Whether the rooms of this home hold more words than they may: what they need, and what somebody has not read,
    stays above the limit."""
    detail = f"the rooms of this home hold {held} bytes of words"
    if not limit or held <= limit:
        return t.Check(name="retention", ok=True, detail=detail, fix="")
    fix = (
        "let agents read what they have not read, delete rooms (parler rooms --size shows how much each holds), or "
        "raise [retention] total_bytes in the settings"
    )
    return t.Check(name="retention", ok=False, detail=f"{detail}, more than the {limit} that they may", fix=fix)


def _home(home: t.HomeEntry) -> t.Check:
    """How a relay is, and what waits here to be sent there."""
    name = f"home {home.name}"
    what = "1 message waits" if home.waiting == 1 else f"{home.waiting} messages wait"
    waits = f"; {what} to be sent there" if home.waiting else ""
    match home.state:
        case "refused":
            return t.Check(
                name=name,
                ok=False,
                detail=f"the relay refused the link ({home.reason}){waits}",
                fix=REFUSED.get(home.reason, "look at the relay's own log with whoever runs it").replace(
                    "NAME", home.name
                ),
            )
        case "unreachable":
            return t.Check(
                name=name,
                ok=False,
                detail=f"{home.url} does not answer{waits}",
                fix="look whether that machine is on and in the same network; its own person asks: parler relay status",
            )
        case _:
            detail = f"{home.state}: {home.url}{waits}"
    if abs(home.clock_ahead_ms) > AHEAD_MS:
        way = "ahead of" if home.clock_ahead_ms > 0 else "behind"
        apart = f"its clock is {abs(home.clock_ahead_ms) / 60_000:.0f} minutes {way} this machine's"
        return t.Check(name=name, ok=False, detail=f"{detail}; {apart}", fix="set the clock that is wrong")
    return t.Check(name=name, ok=True, detail=detail, fix="")
