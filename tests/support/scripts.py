"""Seeded scripts over a room and a home: one seed, one log, anywhere, with every type of fact in it.

What the drivers of `tests.support.core` do in these scripts is random, apart from the scenes: one for each type of
fact, which no earlier act can keep from leaving it. That a log has every type follows from that and from no seed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.epoch_record import encode_turned
from parlerd.core.errors import Refused
from parlerd.core.model import History, KeyId, Millis, Position, RoomId, RoomLimit, RosterEntry
from parlerd.core.statements import NONCE, Title, encode, encode_opened
from parlerd.core.templates import Param
from parlerd.core.timers import TimerSpec
from parlerd.core.words import TASK
from tests.support.core import (
    BEN,
    CAT,
    DAN,
    EVE,
    HOUR,
    KEY,
    OWNER,
    STRANGER,
    Agent,
    HomeDriver,
    RoomDriver,
    agent,
    an_action,
    doing,
    opened,
    writing,
)

TITLE = encode(Title(salt=bytes(NONCE), name="told-later", topic="Told later"))
RoomScene = Callable[[RoomDriver, Agent], object]
HomeScene = Callable[[HomeDriver, Agent], object]


def _mint(room: RoomDriver, who: Agent) -> KeyId:
    key = KeyId(f"key of {who.name}")
    room.mint(key)
    return key


def _revoke(room: RoomDriver, who: Agent) -> None:
    room.revoke(_mint(room, who))


def _knock(room: RoomDriver, who: Agent) -> None:
    room.knock(who, _mint(room, who))


def _exchange(room: RoomDriver, who: Agent) -> None:
    """A key exchange, which only sealed rooms have; in the log of another it holds a request back."""
    _knock(room, who)
    request = room.request_of(who)
    room.commit(e.KeyExchanged(request=request, agent=who.id, step="begun", text=b"A" * 33), who)


def _end_knock(room: RoomDriver, who: Agent) -> None:
    _knock(room, who)
    room.commit(e.KnockEnded(request=room.request_of(who), agent=who.id, how="lapsed"), who)


def _let_in(room: RoomDriver, who: Agent) -> None:
    _knock(room, who)
    room.approve(who)


def _turn(room: RoomDriver, who: Agent) -> None:
    """An epoch, which only sealed rooms have; in the log of another it changes nothing that somebody may see."""
    _let_in(room, who)
    state = room.aggregate.state.epochs
    handle = room.aggregate.state.members[who.id].handle
    added = ((who.id, RosterEntry(who.principal, handle, b"k" * 32, 1)),)
    number = state.number + 1
    event = e.EpochTurned(number=number, record=number.to_bytes(32), added=added, removed=tuple(state.roster))
    room.commit(event, OWNER, authority="person", body=encode_turned(b"record", b"wraps"))


def _turn_away(room: RoomDriver, who: Agent) -> None:
    _knock(room, who)
    room.deny(who)


def _come_and_go(room: RoomDriver, who: Agent) -> None:
    _let_in(room, who)
    room.leave(who)


def _give_role(room: RoomDriver, who: Agent) -> None:
    _let_in(room, who)
    room.give_role(who, "reviewer", lock=True)
    room.leave(who)
    room.knock(who, role="admin")
    room.approve(who)
    room.give_role(OWNER, "lead")
    room.give_role(OWNER, "")


def _say_it_is_there(room: RoomDriver, who: Agent) -> None:
    _turn(room, who)
    number = room.aggregate.state.epochs.number
    room.commit(e.OwnerLineTold(record=number, public=1, made_at=Millis(room.now)), OWNER, authority="person")


def _change_hands(room: RoomDriver, who: Agent) -> None:
    _let_in(room, who)
    room.run(c.ChangeOwner(owner=who.id, principal=OWNER.principal), OWNER)
    room.run(c.ChangeOwner(owner=OWNER.id, principal=who.principal), who)


def _go_back(room: RoomDriver, who: Agent) -> None:
    room.post(OWNER)
    room.go_back(OWNER)


def _talk(room: RoomDriver, who: Agent) -> None:
    room.post(OWNER)
    room.post(OWNER, visible_to=(OWNER.id,))
    _let_in(room, who)
    room.answer(who, "accepted", room.offer(OWNER))
    room.answer(who, "declined", room.offer(OWNER, taker=who.id))
    room.answer(OWNER, "withdrawn", room.offer(OWNER))
    room.offer(who)
    for key in ("deploy", "deploy", "login"):
        room.remember(OWNER, key)
    room.forget(OWNER, "login")


def _work(room: RoomDriver, who: Agent) -> None:
    _let_in(room, who)
    tasks = [room.task(OWNER) for _ in range(4)]
    room.task(OWNER, to=(who.id,))
    for task in tasks:
        room.claim(who, task)
    room.say(who, "working", tasks[0])
    room.say(who, "done", tasks[0])
    room.release(who, tasks[1])
    room.say(OWNER, "done", tasks[2])
    room.now += HOUR
    room.lapse()
    room.claim(OWNER, tasks[3])


def _keep_state(room: RoomDriver, who: Agent) -> None:
    _let_in(room, who)
    mine, soon = room.handle(who), TimerSpec(effect="delete", ms=50)
    turn = writing("turn", 0, timer=TimerSpec(effect="delete", ms=HOUR))
    room.write(who, turn, writing("turn", 1.5, act="increment"), writing("notes", "x" * 2_000))
    room.put(who, "plan", {"a": [1, None]}, scope=mine, enabled="has(state._shared.turn)")
    room.put(who, "ready", expr=f'state["{mine}"].plan.a.exists(x, x == 1) && agents[self].status != ""')
    room.put(who, "compass", True, timer=TimerSpec(effect="enable", ticks=2, watch=("_shared", "turn")))
    room.write(who, writing("turn", 1, act="increment"), writing("lamp", True, timer=soon), writing("turn", 2))
    room.put(who, "door", "shut", timer=TimerSpec(effect="enable", ticks=9, watch=("_shared", "turn")))
    room.put(who, "turn", 3)
    room.put(who, "fire", 1, timer=TimerSpec(effect="delete", ms=HOUR))
    room.now += 40
    room.renew_timer(who, "fire")
    room.put(who, "notes", act="delete")
    room.hide(who, who.id)
    room.now += 20
    room.run_due()


def _act(room: RoomDriver, who: Agent) -> None:
    _let_in(room, who)
    mine = room.handle(who)
    item = Param(type="string", enum=("trap", "hut"), default=b'"trap"')
    room.register(
        who,
        "craft",
        an_action(
            doing("wood", -1, act="increment"),
            doing("has_${params.item}", True, timer=TimerSpec(effect="delete", ms=HOUR)),
            doing("made", ["${params.item}", "${params.word}"], scope=mine),
            doing("sum", computed="1 + 1"),
            owner=mine,
            gate='params.item != "boat"',
            params={"item": item, "word": Param(secret=True, required=True)},
            on_invoke=TimerSpec(effect="enable", ms=50),
            result="params.item",
        ),
        enabled="!has(state._shared.shut)",
    )
    room.invoke(who, "craft", word="xyzzy")
    room.register(who, "once", an_action(on_invoke=TimerSpec(effect="delete", ms=50)))
    room.invoke(who, "once")
    room.now += 100
    room.run_due()
    room.delete_action(who, "craft")


def _come_into_being(room: RoomDriver, who: Agent) -> None:
    _let_in(room, who)
    room.enable(who, "has(state._shared.lamp)")
    room.enable(who, "!has(state._shared.lamp)")
    path, tide = f"path-{room.handle(who)}", f"tide-{room.handle(who)}"
    room.module(who, path, enabled="has(state._shared.compass)")
    room.put(who, "steps", 3, scope=path)
    walk = an_action(doing("steps", 1, act="increment", scope=path), owner=path)
    room.register(who, f"walk-{room.handle(who)}", walk)
    room.module(who, tide, "clock")
    room.enable(who, None)
    room.delete_module(who, tide)


def _hold_back(room: RoomDriver, who: Agent) -> None:
    _let_in(room, who)
    mine = room.handle(who)
    is_open = f'state["{mine}"].open == true'
    task = room.gate(who, is_open, kind=TASK)
    room.gate(OWNER, f'self == "{mine}"', to=(who.id,))
    room.gate(who, f'agents[self].role == "{mine}"', kind=TASK, timer=TimerSpec(effect="delete", ms=HOUR))
    room.put(who, "open", True, scope=mine)
    room.put(who, "open", False, scope=mine)
    room.put(who, "open", True, scope=mine)
    room.claim(OWNER, task)
    room.withdraw(who, room.gate(who, f"{is_open} && self == 1"))
    room.gate(who, timer=TimerSpec(effect="delete", ms=50))
    room.gate(who, timer=TimerSpec(effect="enable", ticks=1, watch=(mine, "open")))
    room.gate(who, f'has(state["{mine}"].never)', timer=TimerSpec(effect="enable", ms=50))
    room.give_role(OWNER, mine)
    room.put(who, "open", 1, scope=mine)
    room.now += 100
    room.run_due()
    room.give_role(OWNER, "")


def _prune(room: RoomDriver, who: Agent) -> None:
    room.post(OWNER)
    room.task(OWNER)
    room.post(OWNER)
    room.prune()


ROOM_SCENES: dict[type[e.RoomEvent], RoomScene] = {
    e.MemberJoined: _let_in,
    e.MemberLeft: _come_and_go,
    e.RoleGiven: _give_role,
    e.KeyMinted: _mint,
    e.KeyRevoked: _revoke,
    e.JoinRequested: _knock,
    e.KeyExchanged: _exchange,
    e.KnockEnded: _end_knock,
    e.JoinApproved: _let_in,
    e.JoinDenied: _turn_away,
    e.SealingKeyTold: lambda room, who: room.commit(e.SealingKeyTold(agent=who.id, key=b"k" * 32, counter=1), who),
    e.EpochTurned: _turn,
    e.OwnerLineTold: _say_it_is_there,
    e.OwnerChanged: _change_hands,
    e.MessagePosted: _talk,
    e.MessageGated: _hold_back,
    e.MessageReleased: _hold_back,
    e.MessageWithdrawn: _hold_back,
    e.TaskOffered: _hold_back,
    e.TaskClaimed: _work,
    e.TaskReleased: _work,
    e.TaskCompleted: _work,
    e.TaskLapsed: _work,
    e.StateWritten: _keep_state,
    e.StateDeleted: _keep_state,
    e.TimerRenewed: _keep_state,
    e.TimersTicked: _keep_state,
    e.TimerFired: _keep_state,
    e.ScopeHidden: _keep_state,
    e.ActionRegistered: _act,
    e.ActionDeleted: _act,
    e.ActionInvoked: _act,
    e.AgentEnabled: _come_into_being,
    e.ModuleRegistered: _come_into_being,
    e.ModuleDeleted: _come_into_being,
    e.BodiesErased: _prune,
}
"""What leaves a fact of this type in any open room, whatever happened before: it takes an agent who was never there."""
MIRROR_SCENES: dict[type[e.RoomEvent], RoomScene] = {
    e.MirrorPlaced: lambda room, who: room.leave_out(3, OWNER),
    e.RoomTitled: lambda room, who: room.commit(e.RoomTitled(), OWNER, body=encode_opened(b"", TITLE)),
    e.RoomRewound: _go_back,
    e.HomeContradicted: lambda room, who: room.commit(e.HomeContradicted(what="line", number=2), OWNER),
}
"""What leaves a fact of this type in the log of a room: facts that only mirrors hold. Their order matters, because
after the last nothing more is posted."""


def _delete(home: HomeDriver, who: Agent) -> None:
    home.create(who)
    home.delete(home.name_room(who, "notes"), who)


HOME_SCENES: dict[type[e.HomeEvent], HomeScene] = {
    e.AgentCreated: lambda home, who: home.create(who),
    e.ConversationBound: lambda home, who: (home.create(who), home.bind(who, "t-0")),
    e.DelegationIssued: lambda home, who: (home.create(who), home.renew(who)),
    e.CardPublished: lambda home, who: (home.create(who), home.publish(who)),
    e.DirectKeyTold: lambda home, who: home.tell_direct_key(who),
    e.AttentionSet: lambda home, who: (home.create(who), home.attend(who, mode="dnd")),
    e.RoomNamed: lambda home, who: (home.create(who), home.name_room(who, "notes")),
    e.SessionActivated: lambda home, who: (home.create(who), home.activate(who, RoomId("r_a"))),
    e.AgentsPaired: lambda home, who: home.pair(who, OWNER, "r_a"),
    e.DirectAsked: lambda home, who: (home.create(who), home.ask(OWNER, who)),
    e.DirectDecided: lambda home, who: (home.create(who), home.ask(OWNER, who), home.answer(who, OWNER)),
    e.AgentWoken: lambda home, who: (home.create(who), home.wake(who, OWNER)),
    e.WakesContinued: lambda home, who: (home.create(who), home.wake(who, OWNER), home.let_go_on(who)),
    e.WakesBounded: lambda home, who: (home.create(who), home.bound(who, 5)),
    e.RoomLimited: lambda home, who: (home.create(who), home.limit(who, RoomLimit(messages=5))),
    e.RoomDeleted: _delete,
    e.PersonEnrolled: lambda home, who: home.enrol(who),
    e.PersonKicked: lambda home, who: (home.enrol(who), home.kick(who)),
    e.TokenMinted: lambda home, who: (home.create(who), home.mint(who)),
    e.TokenRevoked: lambda home, who: (home.create(who), home.revoke_token(who, home.mint(who))),
    e.WatchCodeMinted: lambda home, who: (home.create(who), home.mint_watch_code(who)),
    e.WatchCodeUsed: lambda home, who: (home.create(who), home.use_watch_code(who, home.mint_watch_code(who))),
    e.WatchCodeRevoked: lambda home, who: (home.create(who), home.revoke_watch_code(who, home.mint_watch_code(who))),
    e.JoinBegun: lambda home, who: (home.create(who), home.join(who, home.mint(who, kind="aj", uses=2))),
    e.JoinEnded: lambda home, who: (
        home.create(who),
        home.end_join(who, home.join(who, home.mint(who, kind="aj", uses=2))),
    ),
}
"""What leaves a fact of this type in any home."""


def scene_log(fact: type[e.Event]) -> tuple[list[e.Header], dict[Position, bytes]]:
    """The log of a room or a home in which nothing happened but the scene of this type of fact, and the bodies of its
    facts by position. A room's first fact needs no scene."""
    room, home, who = opened(), HomeDriver(), agent("newcomer")
    if fact is e.RoomOpened:
        return room.log, room.bodies
    for event, of_room in {**ROOM_SCENES, **MIRROR_SCENES}.items():
        if event is fact:
            of_room(room, who)
            return room.log, room.bodies
    for other, of_home in HOME_SCENES.items():
        if other is fact:
            of_home(home, who)
            return home.log, home.bodies
    raise LookupError(f"no scene leads to {fact.__name__}: write one in ROOM_SCENES or HOME_SCENES")


def scripted_room(seed: int, steps: int) -> RoomDriver:
    """A room after a seeded script: one seed, one log, anywhere.

    The script is so many steps of a random act each, the refused ones among them, and every scene once at some moment.
    So a log of any seed and length has every type of fact, those that only mirrors hold among them: they come last.
    """
    draw = random.Random(seed)
    histories: list[History] = ["full", "from-join", "none"]
    room = opened(history=draw.choice(histories), max_uses=1_000)
    people = [OWNER, BEN, CAT, DAN, EVE, STRANGER, agent("ben", of="stranger", key="benjamin")]
    keys = [KEY, KeyId("open"), KeyId("brief")]
    room.mint(keys[1], gated=False, preapproved=(DAN.id,))
    room.mint(keys[2], ttl_ms=HOUR, max_uses=2)

    def step() -> None:
        who = draw.choice(people)
        names = tuple(draw.choice(people).id for _ in range(draw.randrange(3)))
        replied = draw.choice(room.posted())[1].id if draw.random() < 0.3 else None
        key = f"k{draw.randrange(40)}" if draw.random() < 0.3 else None
        act = draw.choices(["knock", "decide", "leave", "revoke", "post"], [6, 5, 1, 0.02, 12])[0]
        match act:
            case "knock":
                room.knock(who, draw.choice(keys))
            case "decide":
                room.decide(draw.choice([who.id, who.name]), admit=draw.random() < 0.7)
            case "leave":
                room.leave(who if who is not OWNER else BEN)
            case "revoke":
                room.revoke(keys[1], by=who)
            case "post":
                visible = names if names and draw.random() < 0.4 else None
                to = names[:1] if draw.random() < 0.6 else ()
                room.post(who, to=to, visible_to=visible, reply_to=replied, key=key, input=bytes(len(names)))

    _play(draw, room, steps, step, ROOM_SCENES, lambda: draw.randrange(-1_000, 60_000))
    for scene in MIRROR_SCENES.values():
        room.post(OWNER)
        scene(room, OWNER)
    room.close()
    return room


def scripted_home(seed: int, steps: int) -> HomeDriver:
    """A home after a seeded script of steps and scenes, as of a room."""
    draw = random.Random(seed)
    home = HomeDriver()
    people = [agent(name) for name in ("ann", "ben", "cat", "dan")]

    def step() -> None:
        who = draw.choice(people)
        match draw.randrange(5):
            case 4:
                home.bind(who, draw.choice(["t-1", "t-2"]), place=draw.randrange(2))
            case 0:
                home.create(who, workspace=f"/w/{draw.randrange(3)}", slot=draw.randrange(2))
            case 1:
                home.renew(who)
            case 2:
                home.name_room(who, draw.choice(["auth", "docs"]), key=f"k{draw.randrange(10)}")
            case _:
                home.activate(who, draw.choice([None, RoomId("r_a"), RoomId("r_b")]))

    _play(draw, home, steps, step, HOME_SCENES, lambda: draw.randrange(1_000))
    return home


D = TypeVar("D", RoomDriver, HomeDriver)
F = TypeVar("F", bound=e.Event)


def _play(
    draw: random.Random,
    driver: D,
    steps: int,
    step: Callable[[], None],
    scenes: Mapping[type[F], Callable[[D, Agent], object]],
    pause: Callable[[], int],
) -> None:
    """So many steps, of which some are refused, and each scene once after some of them, which must come off."""
    moments = [draw.randrange(steps + 1) for _ in scenes]
    for n in range(steps + 1):
        for moment, (fact, scene) in zip(moments, scenes.items(), strict=True):
            if moment == n:
                before = len(driver.log)
                scene(driver, agent(f"newcomer-{fact.__name__.lower()}"))
                assert fact in {type(header.event) for header in driver.log[before:]}, f"no {fact.__name__}"
        if n < steps:
            driver.now += pause()
            with suppress(Refused):
                step()


def script_digest(seed: int) -> str:
    """A digest of all that the scripts of this seed put into logs and snapshots, for another process to compare."""
    digest = hashlib.sha256()
    room, home = scripted_room(seed, 400), scripted_home(seed, 100)
    for data in (*room.saved(), room.aggregate.snapshot(), *home.saved(), home.aggregate.snapshot()):
        digest.update(hashlib.sha256(data).digest())
    return f"{digest.hexdigest()} {len(room.log)} {len(home.log)}"
