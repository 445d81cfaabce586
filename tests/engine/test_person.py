"""Who counts as the person, and what a decision of theirs asks of the process behind it."""

from __future__ import annotations

import pytest

from parlerd.engine.person import is_person
from tests.support.engine import engine_world, run


@pytest.mark.parametrize("via", ["mcp", "hook", "http"])
def test_no_other_door_is_the_persons(via: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            party = await served.connect(via)  # type: ignore[arg-type]
            assert not is_person(party.caller)

    run(main)
