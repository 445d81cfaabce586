"""Wrong codes: they decide nothing, and a few of them stop codes for a while."""

from __future__ import annotations

import pytest
import trio

from parlerd.engine import join_codes
from parlerd.operations import types as t
from tests.support.engine import (
    engine_world,
    run,
)
from tests.support.sessions import (
    knocking,
)


def test_a_wrong_code_decides_nothing_and_a_few_of_them_stop_codes_for_a_while() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, opened, (bob, _) = await knocking(served, "bob", "carol")
            codes = {
                name: (await (await served.agent(name)).join(opened.session_key)).join_code for name in ("bob", "carol")
            }
            assert codes["bob"] != codes["carol"]
            for typed in (codes["carol"], "", "0000", "\u202e", "x" * 100):
                error = await alice.refused("session.approve", t.DecideJoin(agent="bob", join_code=typed))
                assert error.code == "code_mismatch"
            error = await alice.refused("session.approve", t.DecideJoin(agent="bob", join_code=codes["bob"]))
            assert error.code == "throttled"
            assert (await alice.approve("carol", join_code=codes["carol"])).status == "approved"
            assert (await bob.join(opened.session_key)).status == "pending"
            await trio.sleep(join_codes.CODE_PAUSE_S)
            assert (await alice.approve("bob", join_code=codes["bob"])).status == "approved"

    run(main)


def test_what_is_remembered_of_wrong_codes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_codes, "MAX_COUNTED", 2)

    async def main() -> None:
        async with engine_world() as served:
            alice, _, _ = await knocking(served, "b1", "b2", "b3")
            for who in ("b1", "b2", "b3"):
                await alice.refused("session.approve", t.DecideJoin(agent=who, join_code="0000"))
            assert len(served.engine._desk.codes._wrong) == 2

    run(main)
