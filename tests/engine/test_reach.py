"""A caller that there are certain rooms for, over every operation: another room is one that does not exist.

The callers are made as two doors that come later would make them: a token over HTTP, which acts as one agent in one
room, and a link between two homes, which brings another person's agents.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

import msgspec
import pytest
import trio

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, MessageId, PrincipalId, RoomId
from parlerd.engine.authority import Authority
from parlerd.engine.reach import FILTERED, NOT_ASKED, OF_ONE_ROOM, RoomsWithin, StoreWithin
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.store.port import Store
from tests.support.engine import Party, Served, engine_world, run, settle, texts
from tests.support.files import find, share

BLOB: Final = "ab" * 32
IN_A_ROOM: Final[Mapping[str, Callable[[str], t.Params]]] = {
    "session.requests": lambda room: t.SessionRequests(room=room),
    "room.invite": lambda room: t.Invite(room=room, idempotency_key="k1"),
    "room.leave": lambda room: t.LeaveAsMember(room=room),
    "room.kick": lambda room: t.KickMember(agent="alice", room=room),
    "room.role": lambda room: t.GiveRole(agent="alice", role="lead", room=room),
    "room.archive": lambda room: t.ArchiveRoom(room=room),
    "session.close": lambda room: t.CloseSession(room=room),
    "message.send": lambda room: t.Send(text="x", room=room),
    "message.withdraw": lambda room: t.WithdrawMessage(id="m_1", room=room),
    "message.gated": lambda room: t.AboutGated(id="m_1", room=room),
    "message.recv": lambda room: t.Recv(room=room),
    "message.commit": lambda room: t.Commit(room=room, cursor="1"),
    "message.disclosures": lambda room: t.ListDisclosures(room=room),
    "receipt.get": lambda room: t.GetReceipt(id="1", room=room),
    "receipt.list": lambda room: t.ListReceipts(room=room),
    "message.why": lambda room: t.Why(id="1", room=room),
    "memory.remember": lambda room: t.Remember(text="x", room=room),
    "memory.recall": lambda room: t.Recall(query="x", room=room),
    "memory.forget": lambda room: t.Forget(key="x", room=room),
    "blob.put": lambda room: t.PutBlob(file=0, room=room),
    "blob.share": lambda room: t.ShareBlob(blob=BLOB, size=1, room=room),
    "blob.find": lambda room: t.FindBlob(blob=BLOB, room=room),
    "blob.get": lambda room: t.GetBlob(file=0, blob=BLOB, size=1, room=room),
    "handoff.give": lambda room: t.GiveHandoff(next="x", room=room),
    "handoff.accept": lambda room: t.AcceptHandoff(id="1", room=room),
    "handoff.decline": lambda room: t.DeclineHandoff(id="1", room=room),
    "handoff.withdraw": lambda room: t.WithdrawHandoff(id="1", room=room),
    "handoff.show": lambda room: t.ShowHandoffs(room=room),
    "task.claim": lambda room: t.ClaimTask(room=room),
    "task.renew": lambda room: t.RenewTask(id="1", room=room),
    "task.release": lambda room: t.ReleaseTask(id="1", room=room),
    "task.complete": lambda room: t.CompleteTask(id="1", room=room),
    "task.say": lambda room: t.SayOfTask(status="done", id="1", room=room),
    "rooms.roster": lambda room: t.Roster(room=room),
    "rooms.requests": lambda room: t.SessionRequests(room=room),
    "room.watch": lambda room: t.WatchRoom(room=room),
    "agent.attention": lambda room: t.SetAttention(mode="quiet", room=room),
    "state.get": lambda room: t.GetState(key="x", room=room),
    "state.list": lambda room: t.ListState(room=room),
    "state.set": lambda room: t.SetState(key="x", value=1, room=room),
    "state.delete": lambda room: t.DeleteState(key="x", room=room),
    "state.batch": lambda room: t.BatchState(writes=(t.BatchedWrite(key="x", value=1),), room=room),
    "state.history": lambda room: t.HistoryOfState(key="x", room=room),
    "state.hide": lambda room: t.HideScope(hidden=True, room=room),
    "state.evaluate": lambda room: t.Evaluate(expr="1", room=room),
    "state.wait": lambda room: t.WaitUntil(condition="true", wait_ms=0, room=room),
    "state.changes": lambda room: t.FollowState(wait_ms=0, room=room),
    "room.board": lambda room: t.LookAtBoard(wait_ms=0, room=room),
    "timer.renew": lambda room: t.RenewTimer(key="x", room=room),
    "room.affordances": lambda room: t.ListAffordances(room=room),
    "action.register": lambda room: t.RegisterAction(id="x", room=room),
    "action.list": lambda room: t.ListActions(room=room),
    "action.invoke": lambda room: t.InvokeAction(id="x", room=room),
    "action.delete": lambda room: t.DeleteAction(id="x", room=room),
    "agent.enable": lambda room: t.EnableAgent(room=room),
    "module.register": lambda room: t.RegisterModule(id="x", room=room),
    "module.list": lambda room: t.ListModules(room=room),
    "module.delete": lambda room: t.DeleteModule(id="x", room=room),
}
"""Operations of the agents' plane that name a room."""
OTHERWISE: Final = {
    "session.open", "session.join", "session.withdraw", "session.list", "session.revoke", "message.recv_all",
    "rooms.list", "approvals.list", "approvals.watch",
    "agent.whoami", "agent.presence", "directory.register", "directory.discover", "directory.card",
    "queue.serve", "token.narrow", "token.rotate",
}  # fmt: skip
"""Those that do not. Each has a test below."""


@dataclass
class House:
    """Bob is in two rooms, and `token` is a token of his for the first."""

    served: Served
    alice: Party
    bob: Party
    token: Party
    here: t.OpenedSession
    there: t.OpenedSession
    secret: t.Sent
    """A message that alice posted in the other room."""


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    async with engine_world() as served:
        alice, bob = await served.agent("alice"), await served.agent("bob")
        here, there = await alice.open("first", ""), await alice.open("annex", "")
        for opened in (here, there):
            await served.admit(opened, bob)
        await alice.send("this room's", room=here.room)
        await bob.read(room=here.room)
        secret = await alice.send("the other room's", room=there.room)
        rights = Authority(
            served.world.keys.principal,
            frozenset({"agent"}),
            agent=AgentId((await bob.whoami()).id),
            rooms=frozenset({RoomId(here.room)}),
        )
        token = await served.connect("http", authority=rights)
        yield House(served, alice, bob, token, here, there, secret)


async def answer(served: Served, party: Party, op: str, params: t.Params) -> bytes:
    """What an operation answers, as bytes; a stream's first item."""
    try:
        if not OPERATIONS[op].stream:
            return msgspec.json.encode(await party.call(op, params))
        async with served.engine.stream(op, params, party.caller) as items:
            return msgspec.json.encode(await anext(items))
    except Refused as error:
        return msgspec.json.encode(error.body())


# -- a token of one room -----------------------------------------------------------------------------------


def test_every_operation_of_the_agents_plane_is_looked_at_here() -> None:
    assert {name for name, operation in OPERATIONS.items() if operation.plane == "agent"} == {*IN_A_ROOM, *OTHERWISE}


@pytest.mark.parametrize("op", sorted(IN_A_ROOM))
def test_another_room_is_one_that_does_not_exist(op: str) -> None:
    async def main() -> None:
        async with house() as home:
            make = IN_A_ROOM[op]
            nowhere = await answer(home.served, home.token, op, make("r_" + "0" * 20))
            assert b'"no_such_room"' in nowhere
            for wanted in (home.there.room, home.there.name):
                assert await answer(home.served, home.token, op, make(wanted)) == nowhere
            # Bob himself is in that room, so what is refused is the token's to hear.
            assert await answer(home.served, home.bob, op, make(home.there.room)) != nowhere
            assert await answer(home.served, home.token, op, make(home.here.room)) != nowhere

    run(main)


def test_a_message_of_another_room_and_a_key_that_leads_there_are_none() -> None:
    async def main() -> None:
        async with house() as home:
            for op, there, never in (
                ("message.why", t.Why(id=home.secret.id), t.Why(id="m_" + "0" * 20)),
                ("message.send", t.Send(text="x", reply_to=home.secret.id), t.Send(text="x", reply_to="m_" + "0" * 20)),
                (
                    "session.join",
                    t.JoinSession(session_key=str(home.there.session_key)),
                    t.JoinSession(session_key="A" * 8),
                ),
                (
                    "session.revoke",
                    t.RevokeSessionKey(session_key=str(home.there.session_key)),
                    t.RevokeSessionKey(session_key="A" * 8),
                ),
            ):
                assert await answer(home.served, home.token, op, there) == await answer(
                    home.served, home.token, op, never
                ), op

    run(main)


def test_a_request_at_another_room_is_not_taken_back() -> None:
    async def main() -> None:
        async with house() as home:
            third = await home.alice.open("third", "")
            assert (await home.bob.join(third.session_key)).status == "pending"
            for key in ("", str(third.session_key)):
                error = await home.token.refused("session.withdraw", t.WithdrawKnock(session_key=key))
                assert error.code == "no_such_request"
            assert len(await home.alice.requests()) == 1

    run(main)


def test_a_file_of_another_room_is_none() -> None:
    async def main() -> None:
        async with house() as home:
            shared = await share(home.alice, b"there", room=home.there.room)
            assert (await find(home.bob, shared.blob)).id == shared.id
            for blob in (shared.blob, BLOB):
                assert (await home.token.refused("blob.find", t.FindBlob(blob=blob))).code == "no_such_blob"
                params = t.ShareBlob(blob=blob, size=5, room=home.here.room)
                assert (await home.token.refused("blob.share", params)).code == "upload_unfinished"

    run(main)


def test_who_waits_with_a_token_is_seen_to_wait_by_those_without_one() -> None:
    async def main() -> None:
        async with house() as home:
            condition = t.WaitUntil(condition="state._shared.turn == 1", wait_ms=60_000, room=home.here.room)
            seen = t.Evaluate(expr="agents.bob.status", room=home.here.room)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(home.token.call, "state.wait", condition)
                await settle()
                found = await home.alice.ask("state.evaluate", seen, t.Evaluated)
                assert found.value == "waiting"
                await home.alice.call("state.set", t.SetState(key="turn", value=1, room=home.here.room))

    run(main)


def test_lists_name_the_tokens_rooms_alone() -> None:
    async def main() -> None:
        async with house() as home:
            token, elsewhere = home.token, (home.there.room, "annex", home.secret.id)
            assert [room.name for room in await token.rooms()] == ["first"]
            for op, params in (
                ("rooms.list", t.ListRooms()),
                ("session.list", t.ListSessions()),
                ("message.recv_all", t.Recv()),
                ("agent.whoami", t.WhoAmI()),
                ("approvals.list", t.ListApprovals()),
                ("approvals.watch", t.WatchApprovals()),
            ):
                said = (await answer(home.served, token, op, params)).decode()
                assert '"error"' not in said
                assert not [name for name in elsewhere if f'"{name}"' in said], op
            # The agent's active session is in the other room.
            assert (await home.bob.whoami()).active == home.there.room
            assert (await token.whoami()).active is None
            assert (await token.refused("message.recv", t.Recv())).code == "no_active_session"

    run(main)


def test_a_token_finds_who_is_in_its_room_and_publishes_no_card() -> None:
    async def main() -> None:
        async with house() as home:
            carol, dora = await home.served.agent("carol"), await home.served.agent("dora")
            await home.served.admit(home.there, carol)
            for party in (home.alice, carol, dora):
                await party.call("directory.register", t.Register(visibility="public"))
            everybody = await home.bob.ask("directory.discover", t.Discover(), t.FoundAgents)
            assert [agent.name for agent in everybody.agents] == ["alice", "carol", "dora"]
            found = await home.token.ask("directory.discover", t.Discover(), t.FoundAgents)
            assert [agent.name for agent in found.agents] == ["alice"]
            assert (await home.token.refused("directory.card", t.ShowCard(agent="dora"))).code == "no_card"
            assert (await home.token.refused("directory.register", t.Register())).code == "not_permitted"

    run(main)


def test_a_token_hears_of_its_rooms_attention_and_sets_none_beyond() -> None:
    async def main() -> None:
        async with house() as home:
            for room, mode in ((home.here.room, "quiet"), (home.there.room, "muted")):
                params = msgspec.convert({"mode": mode, "room": room}, t.SetAttention)
                await home.bob.call("agent.attention", params)
            told = await home.token.ask("agent.attention", t.SetAttention(), t.AttentionIs)
            assert [each.name for each in told.rooms] == ["first"]
            assert (await home.token.refused("agent.attention", t.SetAttention(mode="dnd"))).code == "not_permitted"
            # What an agent does is one word, which all its rooms see; no text goes there with it.
            said = t.StatePresence(status="busy", text="with the other room's matter")
            assert (await home.token.refused("agent.presence", said)).code == "not_permitted"
            assert (await home.token.ask("agent.presence", t.StatePresence(), t.PresenceIs)).stated is msgspec.UNSET
            stated = (await home.token.ask("agent.presence", t.StatePresence(status="busy"), t.PresenceIs)).stated
            assert isinstance(stated, t.StatedStatus)
            assert (stated.status, stated.text) == ("busy", "")

    run(main)


def test_a_name_that_is_nearly_another_rooms_is_not_put_right() -> None:
    async def main() -> None:
        async with house() as home:
            error = await home.token.refused("message.recv", t.Recv(room="anex"))
            assert "annex" not in error.message
            assert "annex" in (await home.bob.refused("message.recv", t.Recv(room="anex"))).message

    run(main)


def test_a_token_takes_the_place_of_itself_alone() -> None:
    async def main() -> None:
        async with house() as home:
            # This caller has the rights of a token, and came with none.
            assert (await home.token.refused("token.rotate", t.RotateToken())).code == "no_such_token"
            assert (await home.bob.refused("token.rotate", t.RotateToken())).code == "no_such_token"
            narrowed = t.NarrowToken(access=("read",))
            assert (await home.token.refused("token.narrow", narrowed)).code == "no_such_token"

    run(main)


def test_a_token_opens_no_room() -> None:
    async def main() -> None:
        async with house() as home:
            before = len(home.served.world.store.rooms())
            assert (await home.token.refused("session.open", t.OpenSession())).code == "person_only"
            assert (await home.token.refused("queue.serve", t.Serve(service="review"))).code == "person_only"
            work = t.Send(text="x", service="review")
            assert (await home.token.refused("message.send", work)).code == "person_only"
            assert len(home.served.world.store.rooms()) == before

    run(main)


def test_in_its_room_a_token_does_all_that_its_agent_does() -> None:
    async def main() -> None:
        async with house() as home:
            room = home.here.room
            sent = await home.token.send("from the token", room=room)
            assert await home.alice.read(room=room) == ["from the token"]
            await home.alice.send("for bob", room=room)
            page = await home.token.recv(room=room, wait=30)
            assert texts(page) == ["for bob"]
            await home.token.commit(page)
            assert await home.bob.read(room=room) == []
            assert sorted(await home.token.roster(room)) == ["alice", "bob"]
            assert set(await home.token.why(sent.id)) == {"alice"}
            assert await home.token.close(room) == "left"
            assert await home.token.rooms() == []

    run(main)


def test_what_happens_in_another_room_wakes_no_wait_of_a_token() -> None:
    async def main() -> None:
        async with house() as home:
            began = trio.current_time()
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    assert (await home.token.ask("message.recv_all", t.Recv(wait_ms=60_000), t.ReceivedAll)).rooms == []

                nursery.start_soon(wait)
                await trio.sleep(10)
                await home.alice.send("more", room=home.there.room)
            assert trio.current_time() == began + 60

    run(main)


def test_a_knock_at_another_room_shows_in_nothing_that_a_token_follows() -> None:
    async def main() -> None:
        async with (
            house() as home,
            home.served.engine.stream("approvals.watch", t.WatchApprovals(), home.token.caller) as lists,
        ):
            await anext(lists)
            carol = await home.served.agent("carol")
            await carol.join(home.there.session_key)
            with trio.move_on_after(60) as waited:
                await anext(lists)
            assert waited.cancelled_caught

    run(main)


REFUSED = {
    "person": "person_only",
    "local": "person_only",
    "hook": "hook_only",
    "window": "window_only",
    "link": "unknown_operation",
    "relay": "unknown_operation",
    "visitor": "not_permitted",
    "page": "unknown_operation",
    "joiner": "not_permitted",
}
"""What a token is told of each plane but its own."""


@pytest.mark.parametrize(
    "op", sorted(name for name, operation in OPERATIONS.items() if operation.plane != "agent" and not operation.stream)
)
def test_a_token_calls_nothing_of_the_person_of_this_machine_of_hooks_or_of_windows(op: str) -> None:
    async def main() -> None:
        async with house() as home:
            operation = OPERATIONS[op]
            params = msgspec.convert(operation.example, operation.params)
            assert (await home.token.refused(op, params)).code == REFUSED[operation.plane]

    run(main)


def test_a_token_follows_nothing_that_windows_follow() -> None:
    async def main() -> None:
        async with house() as home:
            with pytest.raises(ParlerError) as refused:
                home.served.engine.stream("window.changes", t.WatchChanges(), home.token.caller)
            assert refused.value.code == "window_only"

    run(main)


def test_a_token_reads_beside_a_window_of_its_agent_and_moves_nothing_of_the_windows() -> None:
    async def main() -> None:
        async with house() as home:
            window = await home.served.window("w", as_name="bob")
            await window.whoami()
            await home.alice.send("one", room=home.here.room)
            page = await home.token.recv(room=home.here.room)
            assert (texts(page), page.acknowledges) == (["one"], False)
            assert texts(await window.recv(room=home.here.room)) == ["one"]

    run(main)


# -- a link between two homes ------------------------------------------------------------------------------


def test_a_link_brings_its_own_persons_agents_and_no_others() -> None:
    """The agents of a link act where they are members, whoever else is there: its door names each agent, and its
    person."""

    async def main() -> None:
        async with house() as home:
            alice, bob = [AgentId((await party.whoami()).id) for party in (home.alice, home.bob)]
            ours, theirs = home.served.world.keys.principal, PrincipalId("A" + "T" * 55)
            attached = await home.served.connect("http", authority=Authority(ours, frozenset({"agent"}), agent=bob))
            assert sorted(room.name for room in await attached.rooms()) == ["annex", "first"]
            await attached.send("over the link", room=home.there.room)
            stranger = await home.served.connect("http", authority=Authority(theirs, frozenset({"agent"}), agent=alice))
            for op, make in IN_A_ROOM.items():
                said = await answer(home.served, stranger, op, make(home.here.room))
                assert b'"not_permitted"' in said, op
            # The link's own person decides nothing about rooms of others.
            person = await home.served.connect(
                "http",
                authority=Authority(
                    theirs, frozenset({"agent", "person"}), speaks_as_person=True, proof_ceiling="sealed"
                ),
            )
            assert (await person.refused("approvals.list", t.ListApprovals())).code == "not_permitted"

    run(main)


# -- the store and the rooms -------------------------------------------------------------------------------


def test_every_question_to_a_store_is_of_one_room_or_filtered_or_not_asked() -> None:
    questions = {name for name in vars(Store) if not name.startswith("_")}
    assert questions == OF_ONE_ROOM | FILTERED | NOT_ASKED
    assert len(questions) == len(OF_ONE_ROOM) + len(FILTERED) + len(NOT_ASKED)


def test_a_store_within_some_rooms_knows_no_others_and_answers_nothing_about_the_home_as_a_whole() -> None:
    async def main() -> None:
        async with house() as home:
            store, here, there = home.served.world.store, RoomId(home.here.room), RoomId(home.there.room)
            within = cast(Store, StoreWithin(store, frozenset({here})))
            bob = AgentId((await home.bob.whoami()).id)
            assert within.rooms() == [here]
            assert [each.room for each in within.memberships(bob)] == [here]
            assert within.owned(home.served.world.keys.principal) == [here]
            assert within.find_message(MessageId(home.secret.id)) is None
            assert within.openings([here, there]) == store.openings([here])
            for opened, expected in ((home.here, here), (home.there, None)):
                key = home.served.world.keys.key_id(str(opened.session_key))
                assert within.room_of_key(key) == expected
            assert within.head(here) == store.head(here)
            for name in sorted(OF_ONE_ROOM):
                with pytest.raises(Refused, match="no_such_room"):
                    getattr(within, name)(there)
            for name in sorted(NOT_ASKED):
                with pytest.raises(AttributeError):
                    getattr(within, name)

    run(main)


def test_the_open_rooms_within_some_are_these_and_whoever_comes_to_another_comes_to_none() -> None:
    async def main() -> None:
        async with house() as home:
            rooms = home.served.engine._desk.rooms
            here, there = RoomId(home.here.room), RoomId(home.there.room)
            within = RoomsWithin(rooms, frozenset({here}))
            assert within.home is rooms.home
            assert await within.get(here) is await within.create(here) is within.open_actor(here)
            assert (within.reaches(here), within.reaches(there)) == (True, False)
            assert rooms.open_actor(there) is not None
            assert within.open_actor(there) is None
            for come_to in (within.get, within.create):
                with pytest.raises(Refused, match="no_such_room"):
                    await come_to(there)

    run(main)
