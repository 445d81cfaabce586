"""What sealing costs in processor time, in checks of a signature (V) of the same moment: messages, epochs, old secrets.

Each figure is the work of one process without a disk: a clear message is checked, encoded and signed, and a sealed one
is checked, sealed, encoded and signed, in turns. An epoch is everything that the owner's home computes for a record of
a room with so many members, the signature included; the growth says what it is for others. A walk goes from the newest
secret of a room to its first by the links of 1,001 records, whose signatures were checked when they came.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks import common
from parlerd.core.envelope import Envelope, TextPart, encode_envelope
from parlerd.core.epoch_record import Added
from parlerd.core.model import AgentId
from parlerd.core.sealing import check_composed, joined
from parlerd.core.words import check_envelope
from parlerd.identity import epochs, sealing
from parlerd.identity.epochs import Before, Made
from tests.support.sealing import BEN, CARD, CAT, DAN, OLIVE, RELAY, ROOM, Person, composed, open_sealed, turned

FLOORS: Final = {"send": 0.4, "epoch": 300.0, "private": 10.0, "walk": 400.0}
"""In V. Source: sealed spec, How it is proved."""
MEMBERS: Final = (2, 10, 50, 200, 1_000)
EPOCHS: Final = 1_000
READERS: Final = 5
_BATCH_MS: Final = 2.0
"""What is timed together: as long as 20 checks of a signature take, or longer."""
_INPUT: Final = bytes(32)


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=40)
    report = common.Report("sealed", given.place)
    alone = turned(None, [OLIVE], random=os.urandom)
    message = composed(TextPart(common.TEXT))
    clear, sealed = ([] for _ in range(2))
    for _ in range(given.runs):
        clear.append(in_v(lambda: send_clear(message)))
        sealed.append(in_v(lambda: send_sealed(message, alone)))
    beyond = [one - other for one, other in zip(sealed, clear, strict=True)]
    note = f"clear {statistics.median(clear):.2g} V, sealed {statistics.median(sealed):.2g} V, each with its signature"
    report.add(common.spread("a sealed message beyond a clear one", "V", beyond, floor=FLOORS["send"], note=note))
    envelope = sealing.seal(message, author=_AUTHOR, epoch=alone.epoch, input=_INPUT, random=os.urandom)
    body = encode_envelope(envelope)
    opening = [in_v(lambda: open_message(body, envelope, alone)) for _ in range(given.runs)]
    report.add(common.spread("opening and checking a sealed message, its signature aside", "V", opening))

    readers = {each.id: each.pair().public for each in (OLIVE, BEN, CAT, DAN, Person("eve"), Person("fay"))}
    private = composed(TextPart(common.TEXT), visibility=(BEN, CAT, DAN, Person("eve"), Person("fay")))
    whole = [in_v(lambda: send_private(private, alone, readers)) for _ in range(given.runs)]
    report.add(common.spread(f"a private message to {READERS}", "V", whole, floor=FLOORS["private"]))

    report.growth.append({"what": "V of a record of a room with so many members, in which one goes"})
    for members in MEMBERS:
        full, leaver = room_of(members)
        runs = max(5, given.runs // 4)
        found = [in_v(partial(turn, full, leaver)) for _ in range(runs)]
        report.growth[-1][f"{members:,}"] = float(f"{statistics.median(found):.3g}")
        if members == 200:
            made = turn(full, leaver)
            note = f"the record has {len(made.body):,} bytes, and its wraps {len(made.wraps) // 199} a member"
            report.add(common.spread("an epoch for 200 members", "V", found, floor=FLOORS["epoch"], note=note))
    chain = [alone]
    while len(chain) <= EPOCHS:
        chain.append(turned(chain[-1], random=os.urandom))
    walks = [in_v(lambda: walk(chain)) for _ in range(max(5, given.runs // 4))]
    report.add(common.spread(f"a walk over {EPOCHS:,} epochs", "V", walks, floor=FLOORS["walk"]))
    report.print()


def in_v(act: Callable[[], object]) -> float:
    """The processor time that it takes, in signature checks of the same moment."""
    times = max(1, int(_BATCH_MS / max(common.cpu_milliseconds(act), 0.001)))

    def batch() -> None:
        for _ in range(times):
            act()

    before = common.verification_ms(15, common.cpu_milliseconds)
    found = common.cpu_milliseconds(batch) / times
    return found / statistics.mean((before, common.verification_ms(15, common.cpu_milliseconds)))


def send_clear(message: Envelope) -> bytes:
    """What an author's home does for the words of a message in a room that is not sealed."""
    check_envelope(message)
    return _KEY.sign("parler/message", encode_envelope(message))


def send_sealed(message: Envelope, made: Made) -> bytes:
    """The same in a sealed room."""
    check_composed(message)
    sealed = sealing.seal(message, author=_AUTHOR, epoch=made.epoch, input=_INPUT, random=os.urandom)
    return _KEY.sign("parler/message", encode_envelope(sealed))


def send_private(message: Envelope, made: Made, readers: dict[AgentId, bytes]) -> bytes:
    """The same for a private message."""
    check_composed(message)
    sealed = sealing.seal(message, author=_AUTHOR, epoch=made.epoch, readers=readers, input=_INPUT, random=os.urandom)
    return _KEY.sign("parler/message", encode_envelope(sealed))


def open_message(body: bytes, envelope: Envelope, made: Made) -> Envelope:
    """What a reader's home does for the words."""
    return joined(envelope, open_sealed(body, author=_AUTHOR, epoch=made.epoch))


def room_of(members: int) -> tuple[Made, AgentId]:
    """The newest record of a room with so many members, and one of these."""
    people = [Person(f"agent-{number}") for number in range(members - 1)]
    print(f"filling a room of {members}", file=sys.stderr)
    made = turned(None, [OLIVE], random=os.urandom)
    while people:
        # As many as one record takes.
        some, people = people[:256], people[256:]
        made = turned(made, some, random=os.urandom)
    return made, next(agent for agent in made.roster if agent != _AUTHOR)


def turn(made: Made, leaver: AgentId) -> Made:
    """A record in which one goes, made and signed."""
    nobody: list[Added] = []
    after = epochs.make(
        home=RELAY,
        room=ROOM,
        before=Before(made.epoch, made.roster),
        added=nobody,
        removed=[leaver],
        history="full",
        card=CARD,
        at=made.record.at,
        random=os.urandom,
    )
    _PERSON.sign("parler/epoch", after.body)
    return after


def walk(chain: list[Made]) -> bytes:
    """The first secret of a chain of records, from the newest one."""
    secret = chain[-1].epoch.secret
    for made, previous in zip(reversed(chain), reversed(chain[:-1]), strict=False):
        secret = epochs.secret_before(made.record, secret, previous.record)
    if secret != chain[0].epoch.secret:
        raise AssertionError("the walk came to another secret")
    return secret


_AUTHOR: Final = OLIVE.id
_KEY: Final = OLIVE.signing
_PERSON: Final = OLIVE.person

if __name__ == "__main__":
    main()
