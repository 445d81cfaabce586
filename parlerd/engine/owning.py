"""What happens in a process where rooms become its own, or another's: several of them may share one store.

    rooms came   their moments are read from the store, and for a while no claim in them ends: its worker may be on its
                 way here
    rooms went   they are closed here, with all that memory knows of them
    cut off      they are as they were, and nobody is shown them until it is known whose they are
    the home     every process has the home's own room open, and takes in what the others stored there

Not here: which rooms are whose (`ports.Ownership`), and who tells (`relay.holding`). Above: the engine. Below: the
rooms, their deadlines and claims. Invariant: whoever asks for a room that went hears `room_moved`, and no moment of it
is acted upon here.
"""

from __future__ import annotations

from parlerd.engine.deadlines import RoomDeadlines
from parlerd.engine.ports import Notifier
from parlerd.engine.rooms import Rooms
from parlerd.engine.tending import Tending


class Owning:
    """Follows what `ports.Ownership` says."""

    def __init__(self, rooms: Rooms, deadlines: RoomDeadlines, tending: Tending, notifier: Notifier) -> None:
        self._notifier = notifier
        self._rooms = rooms
        self._deadlines = deadlines
        self._tending = tending

    async def took(self) -> None:
        """Rooms became this process's."""
        self._tending.begin_grace()
        await self._deadlines.load()

    async def let_go(self) -> None:
        """Rooms are this process's no longer. Returns once what waited in them was answered."""
        await self._rooms.let_go()
        # Whoever waits for something in them asks again, and hears that they are another's: also of rooms that were not
        # open.
        self._notifier.wake_all()

    def cut_off(self) -> None:
        """Rooms may be others' by now: whoever waits for something in them asks again, and hears so."""
        self._notifier.wake_all()

    async def take_in(self) -> None:
        """Take in what the others stored in the home's own room. Raises `StoreError`."""
        await self._rooms.home.take_in()
