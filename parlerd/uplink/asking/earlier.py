"""Pages of the past that the mirror of a room leaves out, as the room's home tells them to one reader.

Not here: what is believed of a page (`history`), who was in a sealed room then (`rosters`), the secrets of then
(`walking`). Above: `remote_room`. Below: those, `room_home`. Invariant: a page is shown once it was judged, and never
stored.
"""

from __future__ import annotations

from typing import Final

import msgspec

from parlerd.bounded import Bounded
from parlerd.core.errors import Refused
from parlerd.core.lifecycle import owners_of
from parlerd.core.membership import last_at_home, number_at_home, shift_after, shifts_of
from parlerd.core.model import AgentId, Seq
from parlerd.core.room import Room
from parlerd.engine.handles import Earlier
from parlerd.engine.look_back import gaps_of
from parlerd.operations import types as t
from parlerd.uplink.arriving.items import wanted
from parlerd.uplink.asking.room_home import RoomHome
from parlerd.uplink.history import Contradicted, judge
from parlerd.uplink.rosters import Inside, Rosters, records_of
from parlerd.uplink.walking import unknown

MAX_ENDS: Final = 256
"""Of how many pages of the past the line at their end is kept."""


class EarlierPages:
    """The past of one room."""

    def __init__(self, home: RoomHome, rosters: Rosters) -> None:
        self._home = home
        self._rosters = rosters
        """Who was in the room under earlier records, for what was said then."""
        self._ends: Bounded[int, bytes] = Bounded(MAX_ENDS)
        """The public line where pages of the past ended, by numbers of the room: a later page goes on from there."""
        self._read_to: Bounded[tuple[AgentId, int, int], int] = Bounded(MAX_ENDS)
        """Up to which epoch of a sealed room such pages went, by their reader, how often the room was rewound, and the
        reader's number at their end."""

    async def after(self, agent: AgentId, after: Seq, limit: int) -> Earlier:
        """This reader's messages after its own number `after`, at most `limit`. Raises as `RoomHandle.earlier` does."""
        home = self._home
        link, shifts = home.link, shifts_of(home.mirror.state.membership, agent)
        there, shift = Seq(number_at_home(shifts, after)), shift_after(shifts, after)
        # What follows in the home's log was said after the room was rewound, and is here under other numbers.
        limit = min(limit, t.MAX_PAGE, last_at_home(shifts, after) - there)
        if limit <= 0:
            raise Refused("relay_rolled_back")
        if link.calls is None:
            raise Refused("home_unreachable", home=home.name)
        params = t.PullHistory(room=home.room, agent=agent, after=there, limit=limit)
        page = await link.call("link.pull", params, by=agent)
        assert isinstance(page, t.LinkPage)
        mirror = await home.quiet()
        shown = mirror.state.shown
        asked = wanted(t.LinkItem(room=home.room, page=page), shown)
        lines, _ = await home.desk.library.mirrored(home.room, asked.numbers, ())
        if home.is_sealed and (wants := unknown(home.secrets, home.room, page.messages)):
            owners = owners_of(mirror.state.lifecycle)
            await link.mirrors.look_back(home.room, wants, agent, owners, link.pull_epochs)
        inside: Inside = {}
        if home.is_sealed:
            inside = await self._rosters.of(mirror, records_of(page.messages), agent=agent, pull=link.pull_epochs)
        try:
            known = {**self._ends, **lines, shown.number: shown.line}
            epoch = await self._epoch_after(mirror, agent, after, there)
            judged = judge(page, mirror.state, agent, there, known, link.mirrors.opener, inside, epoch)
        except Contradicted as lie:
            await link.mirrors.contradict(home.room, lie.what)
            raise Refused("relay_equivocation", what=lie.what) from None
        self._ends[judged.end.number] = judged.end.line
        messages, upto = judged.earlier
        self._read_to[agent, mirror.state.epoch, upto] = judged.epoch
        shifted = tuple(msgspec.structs.replace(each, seq=Seq(each.seq + shift)) for each in messages)
        return Earlier(shifted, Seq(upto + shift))

    async def _epoch_after(self, mirror: Room, agent: AgentId, after: Seq, there: Seq) -> int:
        """The number of a record that was in force before what follows a reader's number, by which its home is not to
        tell anything that was sealed under an older one. `there` is that number at the home. 0 where nothing is known.
        """
        home = self._home
        known, state = self._read_to.get((agent, mirror.state.epoch, there), 0), mirror.state
        for gap in await gaps_of(home.desk.library, mirror, mirror.view(agent)):
            if 0 < gap.low <= after < gap.high:
                # What the log holds of before the gap was said under the record that was in force there.
                before = await home.desk.library.position_of(home.room, mirror.view(agent), gap.low)
                turned = [number for number, at in state.epochs.turned if at <= before]
                return max(known, turned[-1] if turned else 0)
        return known
