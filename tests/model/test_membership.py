"""Coming, going and what each sees, against a model that remembers who was in the room when each message was posted.

The room keeps spans of positions, counters and one view per member, never messages. The model keeps every message with
everything that was true at the time, and asks it all again for each reader.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from parlerd.core.events import MessagePosted
from parlerd.core.model import AgentId, History, MessageId
from tests.support.core import OWNER, Agent, RoomDriver, agent, refused

AGENTS = [
    OWNER,
    agent("ben"),
    agent("ben", key="second"),
    agent("ben-2", key="third"),
    agent("cat"),
    agent("olive", of="stranger", key="fourth"),
]


@dataclass
class Message:
    id: MessageId
    author: AgentId
    named: set[AgentId] | None
    inside: set[AgentId]
    """Who was in when it was posted."""
    came_before: set[AgentId]
    """Who had come in at least once by then."""
    opening: bool = False


class Membership(RuleBasedStateMachine):
    """An open key, so that coming in is one step."""

    def __init__(self) -> None:
        super().__init__()
        self.room = RoomDriver()
        self.history: History = "full"
        self.messages: list[Message] = []
        self.inside: set[AgentId] = set()
        self.ever: list[Agent] = []
        self.handles: dict[AgentId, str] = {}
        self.closed = False

    @initialize(history=st.sampled_from(["full", "from-join", "none"]), recap=st.booleans())
    def open(self, history: History, recap: bool) -> None:
        self.history = history
        self.room.open(approval=False, history=history, recap=recap)
        self.inside, self.ever = {OWNER.id}, [OWNER]
        self.handles[OWNER.id] = "olive"
        if recap:
            self.remember(self.room.posted()[0][1], opening=True)

    def remember(self, event: MessagePosted, *, opening: bool = False) -> None:
        named = None if event.visibility is None else set(event.visibility)
        author = self.room.log[-1].by.actor
        came = {who.id for who in self.ever}
        self.messages.append(Message(event.id, author, named, set(self.inside), came, opening))

    # -- the model's answers -------------------------------------------------------------------------------

    def sees(self, who: AgentId, message: Message) -> bool:
        if message.named is not None:
            return who in message.named
        if message.opening or self.history == "full":
            return True
        return who in (message.came_before if self.history == "from-join" else message.inside)

    def means(self, address: str) -> AgentId | None:
        for who in self.inside:
            if address in (who, self.handles[who]):
                return who
        return None

    def expected_handle(self, who: Agent) -> str:
        if who.id in self.handles:
            return self.handles[who.id]
        taken = list(self.handles.values())
        for handle in [who.name, *(f"{who.name}-{n}" for n in range(2, 20))]:
            if handle not in taken:
                return handle
        raise AssertionError

    def post_answer(
        self, who: Agent, to: list[str], named: list[str] | None, replied: Message | None
    ) -> str | set[AgentId] | None:
        """A refusal's code, or who may see the message: None is everyone."""
        if who.id not in self.inside:
            return "no_such_room"
        if self.closed:
            return "room_closed"
        if any(self.means(address) is None for address in [*to, *(named or [])]):
            return "no_such_agent"
        if replied is not None and not self.sees(who.id, replied):
            return "no_such_message"
        readers: set[AgentId] | None = None
        if named is not None:
            readers = {who.id, *(agent for address in named if (agent := self.means(address)) is not None)}
            if replied is not None and replied.named is not None and not readers <= replied.named:
                return "invalid_param"
        elif replied is not None:
            readers = replied.named
        if readers is not None and any(self.means(address) not in readers for address in to):
            return "invalid_param"
        return readers

    # -- acts ----------------------------------------------------------------------------------------------

    @rule(who=st.sampled_from(AGENTS[1:]))
    def come(self, who: Agent) -> None:
        if who.id in self.inside:
            assert self.room.knock(who) == "member"
        elif self.closed:
            with refused("unknown_key"):
                self.room.knock(who)
        else:
            expected = self.expected_handle(who)
            assert self.room.knock(who) == "joined"
            assert self.room.handle(who) == expected
            self.handles[who.id] = expected
            self.inside.add(who.id)
            if who not in self.ever:
                self.ever.append(who)

    @rule(who=st.sampled_from(AGENTS[1:]))
    def go(self, who: Agent) -> None:
        if who.id not in self.inside:
            with refused("no_such_room"):
                self.room.leave(who)
        elif self.closed:
            with refused("room_closed"):
                self.room.leave(who)
        else:
            self.room.leave(who)
            self.inside.discard(who.id)

    addresses = st.lists(
        st.sampled_from([name for who in AGENTS for name in (who.id, who.name)] + ["ben-3", "olive-2"]),
        max_size=3,
    )

    @rule(
        who=st.sampled_from(AGENTS),
        to=addresses,
        named=st.none() | addresses,
        replied=st.none() | st.integers(0, 1_000),
    )
    def post(self, who: Agent, to: list[str], named: list[str] | None, replied: int | None) -> None:
        target = None if replied is None or not self.messages else self.messages[replied % len(self.messages)]
        expected = self.post_answer(who, to, named, target)
        visible_to = None if named is None else tuple(named)
        reply_to = None if target is None else target.id
        if isinstance(expected, str):
            with refused(expected):
                self.room.post(who, to=tuple(to), visible_to=visible_to, reply_to=reply_to)
            return
        event = self.room.post(who, to=tuple(to), visible_to=visible_to, reply_to=reply_to)
        assert (None if event.visibility is None else set(event.visibility)) == expected
        assert set(event.to) == {self.means(address) for address in to}
        self.remember(event)

    @rule(who=st.sampled_from(AGENTS))
    def post_to_the_room(self, who: Agent) -> None:
        self.post(who, [], None, None)

    @precondition(lambda self: len(self.messages) > 10)
    @rule()
    def close(self) -> None:
        if not self.closed:
            self.room.close()
            self.closed = True

    # -- what must hold ------------------------------------------------------------------------------------

    @invariant()
    def everyone_who_is_in_sees_what_the_model_says(self) -> None:
        for who in AGENTS:
            if who.id in self.inside:
                expected = [message.id for message in self.messages if self.sees(who.id, message)]
                assert self.room.seen_by(who) == expected
            elif self.room.log:
                with refused("no_such_room"):
                    self.room.aggregate.view(who.id)

    @invariant()
    def a_handle_belongs_to_one_agent_for_good(self) -> None:
        members = self.room.aggregate.state.members.values()
        assert {member.agent: member.handle for member in members} == self.handles
        assert len(set(self.handles.values())) == len(self.handles)

    @invariant()
    def spans_are_in_order_and_never_overlap(self) -> None:
        for member in self.room.aggregate.state.members.values():
            edges = [edge for span in member.spans for edge in span]
            closed = [edge for edge in edges if edge is not None]
            assert None not in edges[:-1]
            assert closed == sorted(closed)

    def teardown(self) -> None:
        self.room.verify()


Membership.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestMembership = Membership.TestCase
