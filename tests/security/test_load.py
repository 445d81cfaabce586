"""Section E of the security spec, lines 18 to 20: the price of guessing, answers to repeated requests, loops."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.loops import WAKES_AN_HOUR
from parlerd.core.model import MAX_PENDING_PER_KEY, Position, RoomId
from parlerd.engine.callers import PeerProcess
from parlerd.engine.throttle import HOME_BURST, HOME_PER_SECOND
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.store.memory import MemoryStore
from tests.support.engine import Party, engine_world, run


async def guess(party: Party, n: int) -> str:
    return (await party.refused("session.join", t.JoinSession(session_key=f"ZZZZ{n:04d}"))).code


def test_e18_the_whole_home_has_one_budget_of_wrong_guesses_however_many_guess() -> None:
    """E18: ten a second for the home. A new name or connection for each guess buys nothing."""

    async def main() -> None:
        async with engine_world() as served:
            began, looked_up = trio.current_time(), 0
            while trio.current_time() - began < 20:
                party = await served.agent(f"m{looked_up}")
                looked_up += await guess(party, looked_up) == "unknown_key"
                await served.leave(party)
            assert looked_up <= HOME_BURST + 20 * HOME_PER_SECOND + 1

    run(main)


def test_e18_when_the_budget_is_spent_a_right_key_takes_as_long_as_a_wrong_one() -> None:
    """E18: a faster answer for a right key would be the oracle."""

    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()

            async def spent() -> None:
                for n in range(int(HOME_BURST)):
                    party = await served.agent(f"m{n}-{trio.current_time()}"[:60])
                    await guess(party, n)
                    await served.leave(party)

            times = []
            for key in ("ZZZZZZZZ", str(opened.session_key)):
                party = await served.agent(f"late-{key[:4]}")
                await party.whoami()
                await spent()
                began = trio.current_time()
                with suppress(Refused):
                    await party.join(key)
                times.append(trio.current_time() - began)
                await trio.sleep(60)
            assert times[0] > 0
            assert times[1] == pytest.approx(times[0])

    run(main)


def test_e18_guesses_make_no_agent_and_no_key_of_one() -> None:
    """E18: an agent is made by its first success. A dead key and a full queue are no success either."""

    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened, dead = await alice.open(), await alice.open()
            await alice.call("session.revoke", t.RevokeSessionKey(session_key=str(dead.session_key)))
            for n in range(MAX_PENDING_PER_KEY):
                await (await served.agent(f"agent{n}")).join(opened.session_key)
            before = len(served.world.keys.ids)
            for n, key in enumerate(["ZZZZZZZZ", "no key", str(dead.session_key), str(opened.session_key)]):
                for party in (await served.agent(f"mallory{n}"), await served.window(f"w{n}", workspace=f"/w{n}")):
                    await party.refused("session.join", t.JoinSession(session_key=key))
            await (await served.agent("mallory")).refused("session.revoke", t.RevokeSessionKey(session_key="ZZZZZZZZ"))
            assert len(served.world.keys.ids) == before

    run(main)


def test_e18_one_process_that_guesses_holds_back_neither_joins_nor_revoking_of_others() -> None:
    """E18: it has a budget of its own, under whatever names; who knows a key is answered at once."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = (
                await served.agent("alice"),
                await served.connect(as_name="bob", peer=PeerProcess(pid=9, group=9)),
            )
            opened = await alice.open()
            for n in range(300):
                mallory = await served.connect(as_name=f"m{n}", peer=PeerProcess(pid=7, group=7))
                await guess(mallory, n)
                await served.leave(mallory)
            began = trio.current_time()
            assert (await bob.join(opened.session_key)).status == "pending"
            await (await served.person()).call(
                "session.revoke", t.RevokeSessionKey(session_key=str(opened.session_key))
            )
            assert trio.current_time() == began

    run(main)


def test_e18_who_waits_at_a_door_may_ask_again_while_others_spent_the_homes_budget() -> None:
    """E18: with the key it came with. Another key of the same room would be a guess."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await bob.join(opened.session_key)
            for n in range(int(HOME_BURST)):
                await guess(await served.agent(f"m{n}"), n)
            began = trio.current_time()
            assert (await bob.join(opened.session_key)).status == "pending"
            assert trio.current_time() == began
            await (await served.agent("carol")).join(opened.session_key)
            assert trio.current_time() > began

    run(main)


def test_e18_a_denial_covers_its_requester_with_every_key_and_connection() -> None:
    """E18: and the owner's other agents are asked about one by one."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = [await served.agent(name) for name in ("alice", "bob", "carol")]
            opened = await alice.open()
            await bob.join(opened.session_key)
            await alice.deny("bob")
            for _ in range(3):
                again = await served.agent("bob")
                assert (await again.join(opened.session_key)).status == "denied"
                await served.leave(again)
            assert (await carol.join(opened.session_key)).status == "pending"

    run(main)


def test_e18_an_ungated_key_is_long_and_no_code_is_in_the_database() -> None:
    """E18: 16 characters; codes are stored as an HMAC under a key that is not in the database."""

    async def main() -> None:
        async with engine_world(settings=Settings(approval_default=False)) as served:
            alice = await served.agent("alice")
            ungated, gated = await alice.open(), await alice.open(approval=True)
            assert ungated.session_key is not None
            assert gated.session_key is not None
            assert (len(ungated.session_key), len(gated.session_key)) == (16, 8)
            store = served.world.store
            assert isinstance(store, MemoryStore)
            stored = b"".join(row.header for log in store._logs.values() for row in log.facts)
            for code in (ungated.session_key, gated.session_key):
                assert code.encode() not in stored
                # Nor what anyone could compute from the code alone.
                assert hashlib.sha256(code.encode()).hexdigest().encode() not in stored

    run(main)


def test_e19_a_repeated_request_is_authorised_before_it_is_looked_up() -> None:
    """E19: whoever left is answered as a stranger, with the key of what it once did too."""

    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            room = (await bob.rooms())[0].room
            await bob.send("x", idempotency_key="k1", room=room)
            await bob.close()
            gone = await bob.refused("message.send", t.Send(text="x", idempotency_key="k1", room=room))
            never = await (await served.agent("dan")).refused(
                "message.send", t.Send(text="x", idempotency_key="k1", room=room)
            )
            assert msgspec.json.encode(gone.body()) == msgspec.json.encode(never.body())
            assert gone.code == "no_such_room"
            # Another's key is no key of mine.
            assert not (await alice.send("x", idempotency_key="k1")).replayed

    run(main)


def test_e19_a_key_whose_answer_is_gone_is_expired_and_never_runs_again() -> None:
    """E19: when the fact behind a key can no longer be given, that is the answer."""

    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            room = (await alice.rooms())[0].room
            requests: dict[str, t.Params] = {
                "message.send": t.Send(text="x", idempotency_key="k1", room=room),
                "handoff.give": t.GiveHandoff(next="x", idempotency_key="k2", room=room),
                "session.open": t.OpenSession(topic="x", idempotency_key="k3"),
            }
            for op, params in requests.items():
                await alice.call(op, params)
            store = served.world.store
            found, facts = store.message, store.facts

            def pruned(room: RoomId, position: Position) -> e.Header | None:
                return None

            def later(room: RoomId, after: Position, limit: int) -> list[e.Header]:
                return facts(room, Position(after + 1), limit)

            store.message, store.facts = pruned, later  # type: ignore[method-assign]
            for op, params in requests.items():
                assert (await alice.refused(op, params)).code == "idempotency_expired", op
            store.message, store.facts = found, facts  # type: ignore[method-assign]
            assert len((await alice.recv(room=room, all=True)).messages) == 3
            assert len(await alice.rooms()) == 2

    run(main)


def test_e20_two_agents_that_keep_waking_each_other_stop_at_the_budget_and_can_still_read() -> None:
    """E20: each answers whatever wakes it, which wakes the other. A third name or another window buys nothing."""

    async def main() -> None:
        async with engine_world() as served:
            windows = [
                await served.connect("mcp", window=f"w{n}", host="claude-code", conversation=f"c{n}") for n in range(2)
            ]
            opened = await windows[0].open()
            await served.admit(opened, windows[1])
            await served.acknowledge(windows[1])
            hooks = [await served.connect("hook", host="claude-code", conversation=f"c{n}") for n in range(2)]
            await windows[0].send("begin")
            turns, me = 0, 1
            while (found := await hooks[me].ask("wake.check", t.WakeCheck(turn=True), t.Waiting)).wake:
                turns += 1
                assert turns <= WAKES_AN_HOUR
                await windows[me].recv()
                await served.acknowledge(windows[me])
                await windows[me].send("and you?")
                me = 1 - me
            assert turns == WAKES_AN_HOUR
            assert (found.paused, found.unread) == (True, 1)
            assert len((await windows[me].recv()).messages) == 1

    run(main)
