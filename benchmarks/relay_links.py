"""What links cost a relay: the memory of an idle one over TLS, and the processor time of one message to many.

An idle link is one whose person is proven, whose agent is attached and which follows its rooms, as a daemon does that
nobody uses. This process holds the other ends. The relay's private memory is read before and after; the bodies of its
data do not grow with links. Then members on so many links follow one room, and the relay's processor time for one
message is compared with that for the same room where the author's link alone follows it.
"""

from __future__ import annotations

import os
import resource
import statistics
from dataclasses import dataclass, field

import trio

from benchmarks import common, relays
from parlerd.cli.demo_home import DemoHome
from parlerd.core import statements as st
from parlerd.core.model import AgentId, HomeId, PrincipalId, RoomId
from parlerd.identity import codes
from parlerd.identity.delegation import issue
from parlerd.identity.signatures import Domain, SigningKey
from parlerd.identity.transcript import attach_bytes
from parlerd.operations import types as t
from parlerd.uplink.connection import LinkConnection

SUBSCRIBERS = 50


@dataclass
class Person:
    """Somebody elsewhere, with one agent."""

    key: SigningKey = field(default_factory=lambda: SigningKey("principal", os.urandom(32)))
    agent: SigningKey = field(default_factory=lambda: SigningKey("agent", os.urandom(32)))

    @property
    def principal(self) -> PrincipalId:
        return PrincipalId(self.key.id)

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        return (self.key if id == self.key.id else self.agent).sign(domain, data)

    async def attach(self, link: LinkConnection) -> None:
        agent = AgentId(self.agent.id)
        delegation, signed = issue(self, agent, relays.now())
        attachment = t.Attachment(
            agent=agent,
            delegation=delegation,
            delegation_signature=signed,
            signature=self.sign(agent, "parler/link", attach_bytes(link.channel, agent, self.principal)),
        )
        await link.call("link.attach", t.Attach(agents=(attachment,)))

    async def come_in(self, link: LinkConnection, session_key: str) -> str:
        """Join with a key that asks nobody. Gives the room."""
        found = await link.call("link.find", t.FindKey(session_key=session_key))
        assert isinstance(found, t.FoundKey)
        statement = st.encode(
            st.KnockStatement(
                home=HomeId(link.home),
                room=RoomId(found.room),
                ref=found.ref,
                agent=AgentId(self.agent.id),
                principal=self.principal,
                name="sub",
                host="bench",
                at=relays.now(),
                nonce=os.urandom(st.NONCE),
            )
        )
        signature = self.sign(self.agent.id, st.KnockStatement.TAG, statement)
        knock = t.KnockAtRoom(session_key=session_key, statement=statement, signature=signature)
        knocked = await link.call("link.knock", knock)
        assert isinstance(knocked, t.Knocked)
        assert knocked.status == "joined"
        return found.room


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, links=100, messages=200, runs=3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * given.links + 200)), hard))
    report = common.Report("relay_links", given.place)
    with relays.running(given.place) as relay:
        trio.run(idle, report, relay, given.links)
    with relays.running(given.place) as relay, relays.home(relay, given.place) as made:
        trio.run(fan_out, report, relay, made, given.messages, given.runs)
    report.print()


async def idle(report: common.Report, relay: relays.Relay, count: int) -> None:
    """Memory of links that do nothing."""
    async with trio.open_nursery() as nursery:
        # The first links load code and fill tables that all of them share.
        await open_links(nursery, relay, 10)
        before = common.memory(relay.pid)["private"]
        await open_links(nursery, relay, count)
        after = common.memory(relay.pid)["private"]
        each = (after - before) * 1024 / count
        name = f"private memory of the relay for an idle link over TLS, {count} links"
        report.add(common.Figure(name, "KB", round(each, 1), count, floor=60.0))
        nursery.cancel_scope.cancel()


async def open_links(nursery: trio.Nursery, relay: relays.Relay, count: int, session_key: str | None = None) -> None:
    """Open so many links, and keep them until the nursery ends."""
    for _ in range(count):
        await nursery.start(keep, relay, session_key)


async def keep(
    relay: relays.Relay, session_key: str | None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """One link of somebody new, which follows the room that a key leads to, or none."""
    person = Person()
    async with relay.link(person, enrol=True) as link:
        await person.attach(link)
        rooms: tuple[t.Resume, ...] = ()
        if session_key is not None:
            rooms = (t.Resume(room=await person.come_in(link, session_key)),)
        async with link.stream("link.follow", t.FollowRooms(rooms=rooms)) as items:
            task_status.started()
            async for _ in items:
                pass


async def fan_out(report: common.Report, relay: relays.Relay, made: DemoHome, messages: int, runs: int) -> None:
    """Processor time of the relay for one message to many links."""
    with common.RawConnection(made, as_name="ann") as ann:
        opened = ann.call("session.open", t.OpenSession(context="benchmark", topic="bench", max_uses=1_000))
        alone = [await cost(relay, ann, opened.room, messages) for _ in range(runs)]
        session_key = codes.read_key(opened.session_key).key
        async with trio.open_nursery() as nursery:
            await open_links(nursery, relay, SUBSCRIBERS, session_key)
            await cost(relay, ann, opened.room, 20)
            many = [await cost(relay, ann, opened.room, messages) for _ in range(runs)]
            nursery.cancel_scope.cancel()
    base = statistics.median(alone)
    name = f"processor time of the relay for one message, each of {SUBSCRIBERS} links that follow the room"
    note = f"{base:.0f} us with the author's link alone, {statistics.median(many):.0f} us with all"
    report.add(common.spread(name, "us", [(found - base) / SUBSCRIBERS for found in many], floor=20.0, note=note))


async def cost(relay: relays.Relay, ann: common.RawConnection, room: str, messages: int) -> float:
    """Microseconds of the relay's processor time for one message, with all who follow it served."""
    before = common.cpu_seconds(relay.pid)

    def send() -> None:
        for _ in range(messages):
            ann.call("message.send", t.Send(text=common.TEXT, room=room))

    await trio.to_thread.run_sync(send)
    await trio.sleep(0.5)
    return (common.cpu_seconds(relay.pid) - before) * 1_000_000 / messages


if __name__ == "__main__":
    main()
