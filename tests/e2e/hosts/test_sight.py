"""Each real host in one small case: what its model was shown is said to be shown, and what was in a request that failed
is not. The long run over all that can happen is `python -m tests.e2e.hosts.sight`."""

from __future__ import annotations

import queue
from typing import Final

import pytest

from configs.hosts import find_host
from tests.e2e.hosts.drivers import DRIVERS, Driver
from tests.e2e.hosts.seat import Talk
from tests.e2e.hosts.sight.bench import bench
from tests.support.dialects.blocks import calls, says
from tests.support.model_server import Refusal
from tests.support.processes import Somebody

pytestmark = pytest.mark.e2e

WRITES_S: Final = 1.5
"""For a host that does not end when its request failed, to write down what it writes of that."""
WATCHED = [
    pytest.param(each, id=each.program)
    for each in DRIVERS
    if (record := find_host(each.host).sight) is not None and not record.anonymous
]


@pytest.mark.parametrize("driver", WATCHED)
def test_what_a_model_was_shown_is_said_and_what_a_failed_request_held_is_not(
    somebody: Somebody, driver: Driver
) -> None:
    with bench(somebody, driver) as one:
        one.sends(200, 300)
        given: queue.Queue[None] = queue.Queue()

        def talk() -> Talk:
            yield from one.joins()
            one.sends(400)
            yield calls("parler_recv")
            given.put(None)
            yield Refusal()
            yield says("I go on.")

        with one.seat.runs(talk()) as run:
            run.gets(given)
            # Of what it was shown before, the record of a host that is busy says so later.
            assert one.waits_for(lambda: one.is_shown(2)), run
            # Most hosts write the failure down and end; the others would ask again for minutes.
            run.ends_within(WRITES_S)
            run.kill()
        read, also, refused = one.outcomes("small", one.told())
    assert (read.true, also.true, refused.true) == (True, True, False)
    assert (read.said, also.said) == ("shown", "shown")
    assert refused.said != "shown"
