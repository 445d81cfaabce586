"""What can change, by name: a change is published under its topics, and whoever waits names the topics to wait for.

A topic is (room, root, scope, key). The root says what sort of thing changed. Scope and key narrow the topic down; each
is open (`ANY`) where it does not apply or is not known beforehand. An expression that reads `state.bob.build` would
wait for (room, state, bob, build), and one that reads `state.bob[params.x]` for (room, state, bob, ANY). A change that
belongs to no single room (something waits for a person, an agent should hear of something) has `ANY` as its room, and
the person or the agent as its scope.

Not here: who waits (`parlerd.engine.notifier`), and which topics an event touches, which each facet says beside its
rules (`facets.touches`). Invariant: a change is published under the narrowest topic, and `wider` gives every topic
under which somebody may wait for that change.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

ANY: Final = "*"
"""An open part of a topic. No id, handle or key is written like this."""
EVERYONE: Final = ""
"""The scope of a message that everyone in the room may see."""

Root = Literal[
    "messages",
    "quiet",
    "life",
    "keys",
    "decision",
    "claims",
    "state",
    "waiting",
    "scopes",
    "actions",
    "requests",
    "concerns",
    "memberships",
    "presence",
    "seats",
    "log",
    "link",
    "pairs",
    "wakes",
]


class Topic(NamedTuple):
    room: str
    root: Root
    scope: str = ANY
    key: str = ANY

    def wider(self) -> tuple[Topic, ...]:
        """This topic, and the topics that hold it: with the key open, then with the scope open as well."""
        if self.key != ANY:
            return self, Topic(self.room, self.root, self.scope), Topic(self.room, self.root)
        return (self,) if self.scope == ANY else (self, Topic(self.room, self.root))


# -- of one room -------------------------------------------------------------------------------------------


def messages(room: str, reader: str = EVERYONE) -> Topic:
    """A message in `room`: one that everyone in the room may see, or (with `reader`) one with a `visibility` that names
    this reader."""
    return Topic(room, "messages", reader)


def quiet(room: str, reader: str = EVERYONE) -> Topic:
    """The same for a message that ends nobody's wait for messages: it only changes how many there are."""
    return Topic(room, "quiet", reader)


def life(room: str) -> Topic:
    """Members came or went or were given another role, or the room closed."""
    return Topic(room, "life")


def keys(room: str, key: str = ANY) -> Topic:
    """A session key of `room` was made, was revoked or expired: any key, or the one that is named."""
    return Topic(room, "keys", ANY, key)


def decision(room: str, agent: str) -> Topic:
    """An answer to `agent`'s knock on `room`."""
    return Topic(room, "decision", agent)


def claims(room: str, task: str = ANY) -> Topic:
    """A task of `room` was posted, claimed, given back or ended: any task, or what became of the one that is named."""
    return Topic(room, "claims", ANY, task)


def state(room: str, scope: str = ANY, key: str = ANY) -> Topic:
    """The state of `room` changed: anywhere, in one scope, or under one key."""
    return Topic(room, "state", scope, key)


def waiting(room: str, agent: str = ANY) -> Topic:
    """An agent of `room` (this one, or any) began or ended to wait for a condition there."""
    return Topic(room, "waiting", agent)


def scopes(room: str) -> Topic:
    """Who reads which scope of the state of `room` changed."""
    return Topic(room, "scopes")


def actions(room: str, id: str = ANY) -> Topic:
    """An action of `room` (this one, or any) was registered or deleted, came or went with its timer, or may be invoked
    now or no more."""
    return Topic(room, "actions", id)


def log(room: str) -> Topic:
    """Anything at all was stored in the room: for whoever passes the room on to another home, and looks what of it may
    go there. It says nothing to a reader, who may not see all that happens."""
    return Topic(room, "log")


# -- of a person, an agent, a home -------------------------------------------------------------------------


def requests(principal: str) -> Topic:
    """A change in what waits for this person."""
    return Topic(ANY, "requests", principal)


def concerns(agent: str) -> Topic:
    """Somebody knocks at a room of `agent` or came into it, or the person decided on its own request."""
    return Topic(ANY, "concerns", agent)


def memberships(agent: str) -> Topic:
    """`agent` came into a room."""
    return Topic(ANY, "memberships", agent)


def presence(agent: str = ANY) -> Topic:
    """An agent (this one, or any) became active, idle or offline. The beginning and the end of a wait are not told."""
    return Topic(ANY, "presence", agent)


def seats() -> Topic:
    """A window took the identity of an agent."""
    return Topic(ANY, "seats")


def pairs(agent: str = ANY) -> Topic:
    """Something happened in a direct room that names an agent (this one, or any) which is not in the room; or a room
    was opened of which the agent is the owner, by another agent of its person's."""
    return Topic(ANY, "pairs", agent)


def wakes() -> Topic:
    """The person let agents of this home go on that had woken each other too often."""
    return Topic(ANY, "wakes")


def link(session: str) -> Topic:
    """Which agents speak over this link changed, or which rooms it follows."""
    return Topic(ANY, "link", session)
