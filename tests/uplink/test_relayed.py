"""People on different machines in one room: what the relay is for, from the first key to the last message."""

from __future__ import annotations

from pathlib import Path

from tests.support.engine import run
from tests.support.relayed import homes_of


def test_two_people_meet_on_a_relay_and_talk(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        async with relay.serving(), home("ann").serving() as ann, home("ben").serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            opened = await alice.open("auth redesign", "Chose PKCE.")
            assert opened.session_key is not None
            waits = await bob.join(f"{opened.session_key}")
            assert waits.status == "pending"

    run(main)
