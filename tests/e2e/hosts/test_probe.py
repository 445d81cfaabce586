"""`parler doctor --probe` with real programs, to its end: their model is given a message, and says the word in it."""

from __future__ import annotations

import json
import re
from typing import Final

import pytest

from mcp_server.heard import hear
from tests.e2e.hosts.drivers import DRIVERS, Driver
from tests.e2e.hosts.seat import LIMIT_S, Talk, seated
from tests.e2e.hosts.test_bring import installed
from tests.support.dialects.blocks import calls, says
from tests.support.processes import Somebody, skip_where_nobody_may_decide

pytestmark = pytest.mark.e2e

PROBED: Final = ("claude", "gemini", "grok")
"""One for each way to say yes beforehand: a list of tools, a rule, and a permission of a tool by its server."""


def says_the_word() -> Talk:
    text = yield calls("parler_recv")
    (recap,) = hear(text).texts
    word = re.search(r"plum-[0-9a-f]{8}", recap)
    assert word is not None, recap
    yield says(word[0])


@pytest.mark.parametrize("driver", [pytest.param(each, id=each.program) for each in DRIVERS if each.program in PROBED])
def test_a_probe_gets_through_the_model_and_leaves_no_session(somebody: Somebody, driver: Driver) -> None:
    skip_where_nobody_may_decide(["bring"])
    with seated(somebody, driver) as seat:
        somebody.asks("connect", "--sight", driver.host, "--yes")
        words = ("doctor", "--probe", driver.host, "--yes", "--json")
        with seat.runs(says_the_word(), brings=words, path=installed(somebody, driver)) as run:
            # Its model has nothing to say after the word, so the talk is not asked again.
            assert run.ends_within(LIMIT_S), run
        document = json.loads(run.printed)
    assert document["reached"] == "shown", document["checks"][-1]
    assert somebody.asks("session", "list")["sessions"] == []
