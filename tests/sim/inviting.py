"""An act: a channel that is entered with a code, and what becomes of its members and of it.

    stays        everybody stays, and the code is revoked
    left         a guest leaves, and comes again with the code
    kicked       a guest is put out, and knocks again with the code, where nobody says yes
    given        the room gets another owner, who puts the owner before out
    deleted      the owner deletes the room while others write

The model is plain: a code lets in as many as it says, and nobody else; whoever is out is told nothing that was said
after; the owner is whom the room was given to; of a deleted room its home has nothing but that it was there. Above:
`world`. Below: `acts`.
"""

from __future__ import annotations

from typing import Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.events import MemberLeft, MessagePosted
from parlerd.core.model import MessageId, RoomId
from parlerd.operations import types as t
from tests.sim import promises
from tests.sim.acts import Act
from tests.sim.broken import Broken
from tests.sim.people import KNOCK_S, Agent
from tests.sim.stored import facts_of, state_of

ENDINGS: Final = ("stays", "left", "kicked", "given", "deleted", "named")
"""What becomes of the last guest: the owner lets nobody in after it, it leaves and comes again, is put out, is given
the room, finds it deleted, or is given a role that is locked, and says another when it comes again."""


ROLE: Final = "reviewer"


class Inviting(Act):
    """A channel of some of those who met."""

    names = "channel"

    async def play(self) -> None:
        names = [agent.name for agent in self.stage.agents]
        self.random.shuffle(names)
        self.owner, *guests = map(self.person, names[:3])
        self.uses = self.random.choice((1, 2, 5))
        self.ending = self.random.choice(ENDINGS)
        self.is_given = False
        self.is_deleted = False
        self.role_of = ""
        """Whose role is locked."""
        self.turned_away: set[str] = set()
        """Who was told that the code is no good."""
        invite = t.Invite(group="corner", max_uses=self.uses, clear=True, idempotency_key="corner")
        self.invited = await self.owner.want("room.invite", invite, t.Invited)
        self.owner.room = self.invited.room
        self.people = [self.owner]
        async with trio.open_nursery() as coming:
            for guest in guests:
                coming.start_soon(self._come, guest)
        self.count("channels")
        async with trio.open_nursery() as storm:
            for each in self.people:
                storm.start_soon(self._talk, each)
            if len(self.people) > 1:
                storm.start_soon(getattr(self, f"_{self.ending}"), self.people[-1])

    async def _come(self, guest: Agent) -> None:
        join = t.JoinSession(session_key=self.invited.code)
        page = await guest.may("session.join", join, t.JoinedSession, "unknown_key")
        if isinstance(page, ParlerError):
            self.turned_away.add(guest.name)
            return
        if page.status not in ("joined", "already_member"):
            raise Broken(f"{guest.name} has a code that lets whoever has it in, and was told {page.status}")
        guest.room = page.room
        self.people.append(guest)
        self.count("guests of channels")

    async def _talk(self, who: Agent) -> None:
        for _ in range(2):
            await trio.sleep(self.random.expovariate(1.0))
            if who.name in self.record.left or self.is_deleted:
                return
            await who.say(in_public=True)

    # -- what becomes of it --------------------------------------------------------------------------------

    async def _stays(self, guest: Agent) -> None:
        revoke = t.RevokeSessionKey(session_key=self.invited.code)
        await self.owner.want("session.revoke", revoke, t.RevokedKey)
        code = await self._code_of(self._outsider(), self.invited.code)
        if code != "unknown_key":
            raise Broken(f"a code that was revoked is answered with {code or 'a place in the room'}")

    async def _left(self, guest: Agent) -> None:
        self.record.left.add(guest.name)
        await self._until_gone(guest, "room.leave", t.LeaveAsMember(room=guest.room), guest)
        self.count("guests that came again")
        await guest.insist(lambda party: party.join(self.invited.code))
        self.record.left.discard(guest.name)
        self.record.came_again.add(guest.name)
        await guest.say(in_public=True)

    async def _known(self, guest: Agent) -> None:
        """The owner's home was told that the guest came in."""
        until = trio.current_time() + KNOCK_S
        while guest.name not in await self.owner.insist(lambda party: party.roster(self.invited.room)):
            if trio.current_time() > until:
                raise Broken(f"{self.owner.name} is never told that {guest.name} came in")
            await trio.sleep(1.0)

    async def _kicked(self, guest: Agent) -> None:
        await self._known(guest)
        self.record.left.add(guest.name)
        kick = t.KickMember(agent=guest.name, room=self.invited.room)
        await self._until_gone(self.owner, "room.kick", kick, guest)
        self.count("guests put out")
        await self.owner.say(in_public=True)
        until = trio.current_time() + KNOCK_S
        while (page := await guest.insist(lambda party: party.join(self.invited.code))).status != "pending":
            # Its own home may not have heard yet that it was put out. The relay has.
            members = state_of(self.stage.relay.store, self.invited.room).members.values()
            if any(each.handle == guest.name and each.present for each in members) or trio.current_time() > until:
                raise Broken(f"{guest.name} was put out, and comes in again without a yes: {page.status}")
            await trio.sleep(1.0)

    async def _until_gone(self, who: Agent, op: str, params: t.Params, guest: Agent) -> None:
        # The guest may have gone before, and the answer was lost.
        await who.may(op, params, t.MemberGone, "no_such_room", "no_such_agent")

    async def _given(self, guest: Agent) -> None:
        await self._known(guest)
        give = t.TransferRoom(agent=guest.name, room=self.invited.room)
        await self.owner.may("room.transfer", give, t.OwnedRoom, "not_owner")
        self.is_given = True
        self.count("rooms given away")

    async def _named(self, guest: Agent) -> None:
        await self._known(guest)
        give = t.GiveRole(agent=guest.name, role=ROLE, lock=True, room=self.invited.room)
        given = await self.owner.want("room.role", give, t.RoleOfMember)
        if (given.name, given.role, given.locked) != (guest.name, ROLE, True):
            raise Broken(f"{guest.name} was to be {ROLE}, and is said to be {given.role}")
        self.role_of = guest.name
        self.record.left.add(guest.name)
        await self._until_gone(guest, "room.leave", t.LeaveAsMember(room=guest.room), guest)
        await guest.insist(lambda party: party.join(self.invited.code, role="admin"))
        self.record.left.discard(guest.name)
        self.record.came_again.add(guest.name)
        await guest.say(in_public=True)
        self.count("roles that were locked")

    async def _deleted(self, guest: Agent) -> None:
        self.is_deleted = True
        self.record.left.update(each.name for each in self.people)
        delete = t.DeleteRoom(room=self.invited.room, confirmed=True)
        await self.owner.may("room.delete", delete, t.DeletedRoom, "room_deleted", "no_such_room")
        self.count("rooms deleted")

    def _outsider(self) -> Agent:
        """Somebody of the owner's machine who was never in the room."""
        return self.person(f"{self.owner.name}-outside")

    async def _code_of(self, who: Agent, code: str) -> str:
        try:
            await who.insist(lambda party: party.join(code))
        except ParlerError as error:
            return error.code
        return ""

    # -- what has to hold ----------------------------------------------------------------------------------

    async def look(self) -> None:
        if not self.is_deleted:
            return
        for each in self.people:
            send = t.Send(text="still there?", room=self.invited.room)
            if isinstance(await each.may("message.send", send, t.Sent, "room_deleted", "no_such_room"), t.Sent):
                raise Broken(f"{each.name} could write to a room that was deleted")

    def check(self) -> None:
        relay, room = self.stage.relay.store, self.invited.room
        if self.turned_away and len(self.people) - 1 < self.uses:
            raise Broken(f"{sorted(self.turned_away)} were told that a code is no good that had uses left")
        if len(self.people) - 1 > self.uses:
            raise Broken(f"a code for {self.uses} let in {len(self.people) - 1}")
        if self.is_deleted:
            self._check_deleted()
            return
        super().check()
        state = state_of(relay, room)
        known = {each.name for each in self.people}
        if strangers := {member.handle for member in state.members.values()} - known:
            raise Broken(f"{sorted(strangers)} are in a room that nobody let them into")
        out = {member.handle for member in state.members.values() if not member.present}
        if out != self.record.left:
            raise Broken(f"{sorted(self.record.left)} are out of the room, and by the relay {sorted(out)}")
        owner = self.people[-1] if self.is_given else self.owner
        if state.members[state.owner].handle != owner.name:
            raise Broken(f"{owner.name} owns the room, and by the relay {state.members[state.owner].handle}")
        for each in self.people:
            if each.name in self.record.left:
                self._check_out(each)
        stores = [relay, *(self.stage.home_of(each.name).world.store for each in self.people)]
        for store in stores if self.role_of else ():
            found = {member.handle: member for member in state_of(store, room).members.values()}[self.role_of]
            if (found.role, found.locked) != (ROLE, True):
                raise Broken(f"{self.role_of} is {ROLE} for good, and somewhere {found.role or 'nothing'}")

    def _check_out(self, gone: Agent) -> None:
        """Whoever is out was told nothing that came after, and nor was its home if nobody else of it is in."""
        relay, room = self.stage.relay.store, self.invited.room
        home = self.stage.home_of(gone.name)
        shown = {text for _, text in self.record.shown[gone.name]}
        texts = {said.id: said.text for said in self.record.said}
        is_alone = all(self.stage.home_of(each.name) is not home for each in self.people if each is not gone)
        is_out = False
        for header in facts_of(relay, room):
            event = header.event
            if isinstance(event, MemberLeft):
                is_out = True
            if is_out and isinstance(event, MessagePosted):
                if texts.get(event.id) in shown:
                    raise Broken(f"{gone.name} was put out, and was shown what was said after")
                if is_alone and home.world.store.find_message(event.id) is not None:
                    raise Broken(f"the home of {gone.name}, who was put out, was told what was said after")

    def _check_deleted(self) -> None:
        promises.nothing_is_shown_twice(self.record, [each.name for each in self.people])
        room = RoomId(self.invited.room)
        for store in (self.stage.relay.store, self.stage.home_of(self.owner.name).world.store):
            if not store.is_deleted(room) or room in store.rooms() or room in store.uncleared():
                raise Broken("a room was deleted, and something of it is left")
            if facts_of(store, room) or any(store.find_message(MessageId(said.id)) for said in self.record.said):
                raise Broken("a room was deleted, and its words are left")
