"""Offers of the turn against a small, slow, obvious model.

The model keeps a list of everything that was said and reads the whole list each time. It knows nothing of facts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.model import MessageId, Millis, Turn
from tests.support.core import OWNER, Agent, RoomDriver, agent, opened

AGENTS = [OWNER, agent("ben"), agent("cat"), agent("dan")]
ROLE = "webdev"
WEBDEV = agent("eve")
EVERYONE = [*AGENTS, WEBDEV]
NAMES = {who.id: name for who, name in zip(EVERYONE, ["owner", "ben", "cat", "dan", "eve"], strict=True)}


@dataclass
class Said:
    """An offer, and all that was said of it: (who, what, when)."""

    giver: Agent
    taker: str
    until: int
    answers: list[tuple[Agent, str]] = field(default_factory=list)

    def may_answer(self, who: Agent, what: str) -> bool:
        if what == "withdrawn":
            return who is self.giver
        if who is self.giver:
            return False
        if self.taker in ("", NAMES[who.id]):
            return True
        return self.taker == ROLE and who is WEBDEV

    def ended(self) -> tuple[Agent, str] | None:
        for who, what in self.answers:
            if what in ("accepted", "withdrawn") or self.taker not in ("", ROLE):
                return who, what
        return None

    def status(self, now: int) -> str:
        ended = self.ended()
        return ended[1] if ended is not None else "offered" if now < self.until else "expired"

    def answer(self, who: Agent, what: str, now: int) -> str:
        """What `who` must hear: `said`, `again`, or the code of a refusal."""
        if not self.may_answer(who, what):
            return "handoff_not_yours"
        ended = self.ended()
        if ended is not None and ended[0] is who:
            if ended[1] == what:
                return "again"
        elif (who, what) in self.answers:
            return "again"
        status = self.status(now)
        if status == "offered":
            self.answers.append((who, what))
            return "said"
        return {"accepted": "handoff_taken", "expired": "handoff_expired"}.get(status, "handoff_over")


class Turns(RuleBasedStateMachine):
    offers: Bundle[MessageId] = Bundle("offers")

    @initialize()
    def begin(self) -> None:
        self.room: RoomDriver = opened()
        self.room.admit(*AGENTS[1:])
        by = WEBDEV.by
        joined = e.MemberJoined(agent=WEBDEV.id, principal=by.principal, handle="eve", host="codex", role=ROLE)
        self.room.commit(joined, WEBDEV)
        self.said: dict[MessageId, Said] = {}

    @rule(
        target=offers,
        giver=st.sampled_from(AGENTS),
        taker=st.sampled_from(["", "ben", "cat", ROLE]),
        ttl_ms=st.integers(1, 5),
    )
    def offer(self, giver: Agent, taker: str, ttl_ms: int) -> MessageId:
        command = c.PostMessage(kind="handoff", taker=taker, turn="offered", ttl_ms=Millis(ttl_ms))
        if taker == NAMES[giver.id]:
            command = c.PostMessage(kind="handoff", turn="offered", ttl_ms=Millis(ttl_ms))
            taker = ""
        [event] = self.room.run(command, giver).events
        assert isinstance(event, e.MessagePosted)
        self.said[event.id] = Said(giver, taker, self.room.now + ttl_ms)
        return event.id

    @rule(who=st.sampled_from(EVERYONE), what=st.sampled_from(["accepted", "declined", "withdrawn"]), id=offers)
    def answer(self, who: Agent, what: Turn, id: MessageId) -> None:
        expected = self.said[id].answer(who, what, self.room.now)
        command = c.PostMessage(kind=f"handoff-{what}", turn=what, reply_to=id, reply=self.room.target(id))
        holder = ""
        try:
            decision = self.room.run(command, who)
            heard = "said" if decision.events else "again"
        except Refused as error:
            heard, holder = error.code, error.details.get("agent", "")
        assert heard == expected
        ended = self.said[id].ended()
        assert holder == (self.room.handle(ended[0]) if heard == "handoff_taken" and ended is not None else "")

    @rule(ms=st.integers(1, 3))
    def time_passes(self, ms: int) -> None:
        self.room.now += ms

    @rule(id=offers, who=st.sampled_from(EVERYONE))
    def merely_reply(self, id: MessageId, who: Agent) -> None:
        self.room.post(who, reply_to=id)

    @invariant()
    def everybody_sees_the_same(self) -> None:
        if not hasattr(self, "room"):
            return
        offers, now = self.room.aggregate.state.offers, Millis(self.room.now)
        assert {each.id: offers.standing(each, now).status for each in offers} == {
            id: said.status(now) for id, said in self.said.items()
        }
        open = [said.until for said in self.said.values() if said.status(now) == "offered"]
        keys = self.room.aggregate.state.approvals.keys.values()
        dying = [key.expires_at for key in keys if key.state(now) == "live"]
        assert self.room.aggregate.next_deadline(now) == min([*open, *dying], default=None)

    def teardown(self) -> None:
        if hasattr(self, "room"):
            self.room.verify()


TestTurns = Turns.TestCase
TestTurns.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
