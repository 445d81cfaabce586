"""What links cost a relay: the memory of idle ones over TLS, and the processor time of one message to many.

An idle link is one whose person is proven, whose agent is attached and which follows its rooms, as a daemon does that
nobody uses. This process holds the other ends. The relay's private memory is read before and after; the bodies of its
data do not grow with links. Then members on so many links follow one room, and the relay's processor time for one
message is compared with that for the same room where the author's link alone follows it: what each link adds is told in
bare TLS sends (`peer_tls_send`), of which it needs one. At the end the same is looked at while links, rooms and readers
grow by tens.

A thousand links need three thousand open files between the two processes, so the soft limit is raised as far as the
hard one allows; the relay's own bounds of links are wide (`relays.WIDE`).
"""

from __future__ import annotations

import resource
import statistics

import trio

from benchmarks import common, relays
from parlerd.cli.demo_home import DemoHome
from parlerd.identity import codes
from parlerd.operations import types as t

SUBSCRIBERS = 50
SEND_FLOOR = 2.2
"""20 us where a bare TLS send takes 9. Source: performance spec, and the machine for which it says 20 us."""
LINKS_STEPS = (1, 10, 100)
ROOMS_STEPS = (1, 10, 100)
READERS_STEPS = (1, 10, 100)
GROWTH_LINKS = 5
"""Links that follow the rooms while rooms grow."""


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, links=1_000, messages=100, runs=3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * given.links + 200)), hard))
    report = common.Report("relay_links", given.place)
    with relays.running(given.place) as relay:
        trio.run(idle, report, relay, given.links)
    with relays.running(given.place) as relay, relays.home(relay, given.place) as made:
        trio.run(fan_out, report, relay, made, given.messages, given.runs)
        trio.run(grow, report, relay, made, given.messages // 2)
    report.print()


async def idle(report: common.Report, relay: relays.Relay, count: int) -> None:
    """Memory of links that do nothing."""
    each: dict[str, float] = {}
    async with trio.open_nursery() as nursery:
        # The first links load code and fill tables that all of them share.
        await relays.open_links(nursery, relay, 10)
        before = common.memory(relay.pid)["private"]
        opened = 0
        for step in (10, 100, count):
            if opened < step <= count:
                await relays.open_links(nursery, relay, step - opened)
                opened = step
                grown = common.memory(relay.pid)["private"] - before
                each[f"{step} links"] = round(grown * 1024 / step, 1)
        name = f"private memory of the relay for an idle link over TLS, {count} links"
        report.add(common.Figure(name, "KB", each[f"{count} links"], count, floor=60.0))
        report.growth.append({"what": "KB of the relay for each idle link", **each})
        nursery.cancel_scope.cancel()


def opened_room(ann: common.RawConnection) -> tuple[str, str]:
    """A new room at the relay and the key to it, as a link says it."""
    opened = ann.call("session.open", t.OpenSession(context="benchmark", topic="bench", max_uses=1_000, clear=True))
    return opened.room, codes.read_key(opened.session_key).key


async def fan_out(report: common.Report, relay: relays.Relay, made: DemoHome, messages: int, runs: int) -> None:
    """Processor time of the relay for one message to many links."""
    with common.RawConnection(made, as_name="ann") as ann:
        room, session_key = opened_room(ann)
        alone = [await cost(relay, ann, room, messages) for _ in range(runs)]
        async with trio.open_nursery() as nursery:
            await relays.open_links(nursery, relay, SUBSCRIBERS, session_key)
            await cost(relay, ann, room, 20)
            many = [await cost(relay, ann, room, messages) for _ in range(runs)]
            nursery.cancel_scope.cancel()
    base = statistics.median(alone)
    bare = statistics.median([relays.bare_send(SUBSCRIBERS, messages) for _ in range(runs)])
    name = f"processor time of the relay for one message, each of {SUBSCRIBERS} links that follow the room"
    note = (
        f"{base:.0f} us with the author's link alone, {statistics.median(many):.0f} us with all; "
        f"a bare TLS send takes {bare:.1f} us"
    )
    each = [(found - base) / SUBSCRIBERS / bare for found in many]
    report.add(common.spread(name, "bare TLS sends", each, floor=SEND_FLOOR, note=note))


async def grow(report: common.Report, relay: relays.Relay, made: DemoHome, messages: int) -> None:
    """The relay's processor time for one message, while links, rooms and readers grow."""
    with common.RawConnection(made, as_name="ann") as ann:
        grown: dict[str, float] = {}
        for links in LINKS_STEPS:
            room, session_key = opened_room(ann)
            async with trio.open_nursery() as nursery:
                await relays.open_links(nursery, relay, links, session_key)
                grown[f"{links} links"] = await cost(relay, ann, room, messages)
                nursery.cancel_scope.cancel()
        report.growth.append({"what": "us a message, by links that follow its room", **grown})

        grown, opened = {}, [opened_room(ann) for _ in range(ROOMS_STEPS[-1])]
        for rooms in ROOMS_STEPS:
            async with trio.open_nursery() as nursery:
                await relays.open_links(nursery, relay, GROWTH_LINKS, *[key for _, key in opened[:rooms]])
                grown[f"{rooms} rooms"] = await cost(relay, ann, opened[0][0], messages)
                nursery.cancel_scope.cancel()
        report.growth.append({"what": f"us a message in one room, by rooms that {GROWTH_LINKS} links follow", **grown})

        grown = {}
        for readers in READERS_STEPS:
            room, session_key = opened_room(ann)
            async with trio.open_nursery() as nursery:
                await relays.open_links(nursery, relay, 1, session_key, agents=readers)
                grown[f"{readers} readers"] = await cost(relay, ann, room, messages)
                nursery.cancel_scope.cancel()
        report.growth.append({"what": "us a message, by readers on one link", **grown})


async def cost(relay: relays.Relay, ann: common.RawConnection, room: str, messages: int) -> float:
    """Microseconds of the relay's processor time for one message, with all who follow it served."""
    before = common.cpu_seconds(relay.pid)

    def send() -> None:
        for _ in range(messages):
            ann.call("message.send", t.Send(text=common.TEXT, room=room))

    await trio.to_thread.run_sync(send)
    await trio.sleep(0.5)
    return round((common.cpu_seconds(relay.pid) - before) * 1_000_000 / messages, 1)


if __name__ == "__main__":
    main()
