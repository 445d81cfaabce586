"""Who gets which task, until when, and what follows from what is said of a task."""

from __future__ import annotations

import pytest

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.claims import (
    ENDS,
    KEPT_OVER,
    MAX_TASKS,
    QUIET_KINDS,
    Renewal,
    Task,
)
from parlerd.core.errors import Refused
from parlerd.core.membership import REQUESTER
from parlerd.core.model import DEFAULT_LEASE_MS, INVOCATION, MessageId, Millis, Position
from parlerd.core.room import Room
from parlerd.core.words import LATE, Said
from tests.support.core import BEN, CAT, DAN, OWNER, Agent, RoomDriver, agent, opened, refused

LEASE = int(DEFAULT_LEASE_MS)


def room() -> RoomDriver:
    made = opened()
    made.admit(BEN, CAT, DAN)
    return made


def queue() -> RoomDriver:
    """A queue, which its own key lets agents into."""
    return opened(kind="service", approval=False, recap=False)


def held(at: RoomDriver, who: Agent) -> list[MessageId]:
    now = Millis(max(at.now, at.aggregate.last_at))
    return [task.id for task in at.aggregate.claims.held_by(who.id, now)]


def open_to(at: RoomDriver, who: Agent) -> list[MessageId]:
    now = Millis(max(at.now, at.aggregate.last_at))
    return [task.id for task in at.aggregate.claims.open_to(who.id, now)]


def claimed(at: RoomDriver, who: Agent, task: MessageId | None = None) -> Task:
    answer, found = at.claim(who, task)
    assert (answer, found is not None) == ("claimed", True)
    assert found is not None
    return found


def code(act: object) -> str:
    assert callable(act)
    try:
        act()
    except Refused as error:
        return error.code
    return ""


def test_tasks_are_given_in_the_order_in_which_they_were_posted_each_to_one_worker() -> None:
    made = room()
    tasks = [made.task(OWNER) for _ in range(3)]
    got = [claimed(made, who).id for who in (BEN, CAT, DAN)]
    assert got == tasks
    assert made.claim(BEN)[0] == "none"
    assert [held(made, who) for who in (BEN, CAT, DAN)] == [[task] for task in tasks]
    made.verify()


def test_a_claim_has_its_own_position_as_its_number_and_a_later_claim_a_greater_one() -> None:
    made = room()
    task = made.task(OWNER)
    first = claimed(made, BEN, task)
    assert first.fence == made.aggregate.position
    made.release(BEN, task)
    again = claimed(made, CAT, task)
    assert again.fence == made.aggregate.position > first.fence


def test_who_claims_what_another_holds_hears_who_has_it_and_until_when() -> None:
    made = room()
    task = made.task(OWNER)
    claimed(made, BEN, task)
    with refused("already_claimed") as caught:
        made.claim(CAT, task)
    assert caught.value.details == {"holder": "ben", "until": made.now + LEASE}


def test_a_second_claim_of_the_holder_changes_nothing() -> None:
    made = room()
    task = made.task(OWNER)
    first = claimed(made, BEN, task)
    before = len(made.log)
    assert made.claim(BEN, task) == ("already_yours", first)
    assert len(made.log) == before


def test_a_repeated_claim_is_the_same_claim() -> None:
    made = room()
    made.task(OWNER), made.task(OWNER)
    made.claim(BEN, key="k")
    before = len(made.log)
    decision = made.run(
        c.ClaimTask(operation="task.claim", lease_ms=DEFAULT_LEASE_MS, idempotency_key="k", input=b"claim"), BEN
    )
    assert (decision.replay, len(made.log)) == (Position(before), before)
    assert len(held(made, BEN)) == 1


def test_a_task_that_names_somebody_is_for_nobody_else() -> None:
    made = room()
    mine, hidden = made.task(OWNER, to=("ben",)), made.task(OWNER, visible_to=("cat",))
    assert open_to(made, BEN) == [mine]
    assert open_to(made, CAT) == [hidden]
    assert made.claim(DAN)[0] == "none"
    with refused("task_not_yours"):
        made.claim(CAT, mine)
    with refused("no_such_task"):
        made.claim(BEN, hidden)
    assert claimed(made, BEN).id == mine
    assert claimed(made, CAT).id == hidden
    made.verify()


def test_the_oldest_task_comes_first_whether_it_names_somebody_or_not() -> None:
    made = room()
    first = made.task(OWNER)
    named = made.task(OWNER, to=("ben",))
    third = made.task(OWNER)
    assert [claimed(made, BEN).id for _ in range(3)] == [first, named, third]


def test_a_lease_that_ended_gives_the_task_to_whoever_claims_next() -> None:
    made = room()
    task = made.task(OWNER)
    first = claimed(made, BEN, task)
    made.now += LEASE - 1
    assert made.claim(CAT)[0] == "none"
    made.now += 1
    assert held(made, BEN) == []
    again = claimed(made, CAT)
    assert (again.id, again.worker) == (task, CAT.id)
    assert again.fence > first.fence
    made.verify()


def test_the_home_that_looks_says_which_leases_ended_and_wakes_whoever_waits_for_work() -> None:
    made = room()
    tasks = [made.task(OWNER) for _ in range(3)]
    for task in tasks[:2]:
        claimed(made, BEN, task)
    made.now += LEASE
    assert made.lapse() == tasks[:2]
    assert made.lapse() == []
    assert topics.claims(made.aggregate.state.room, tasks[1]) in made.aggregate.topics(made.log[-1])
    assert open_to(made, CAT) == tasks
    made.verify()


def test_the_next_moment_of_a_room_is_the_end_of_the_first_lease() -> None:
    made = opened(ttl_ms=10**9)
    made.admit(BEN)
    first, second = made.task(OWNER), made.task(OWNER)
    made.claim(BEN, first, lease_ms=60_000)
    made.claim(BEN, second, lease_ms=30_000)
    assert made.aggregate.claims.next_deadline(Millis(made.now)) == made.now + 30_000
    made.release(BEN, second)
    assert made.aggregate.claims.next_deadline(Millis(made.now)) == made.now + 60_000
    made.say(BEN, "done", first)
    assert made.aggregate.claims.next_deadline(Millis(made.now)) is None


def test_a_lease_that_ended_while_nobody_looked_is_looked_at_at_once() -> None:
    made = room()
    claimed(made, BEN, made.task(OWNER))
    late = Millis(made.now + 2 * LEASE)
    assert made.aggregate.claims.next_deadline(late) == late + 1


def test_a_task_that_nobody_takes_in_its_time_is_over_as_if_its_author_had_taken_it_back() -> None:
    made = room()
    task, other = made.task(OWNER, open_ms=60_000), made.task(OWNER)
    assert made.aggregate.claims.next_deadline(Millis(made.now)) == made.now + 60_000
    made.now += 59_999
    assert open_to(made, BEN) == [task, other]
    made.now += 1
    # Nobody looked yet, and it is open to nobody all the same.
    assert open_to(made, BEN) == [other]
    assert code(lambda: made.claim(BEN, task)) == "task_over"
    assert claimed(made, BEN).id == other
    [over] = made.look_at_tasks()
    assert over == e.TaskCompleted(task=task, worker=OWNER.id, outcome="cancelled", fence=Position(0))
    assert made.look_at_tasks() == []
    kept = made.aggregate.claims.get(task)
    assert kept is not None
    assert (kept.state, kept.worker, kept.open_until) == ("cancelled", OWNER.id, made.now)
    assert code(lambda: made.claim(CAT, task)) == "task_over"
    made.verify()


def test_the_time_of_a_task_takes_nothing_from_its_holder_and_counts_once_that_let_it_go() -> None:
    made = room()
    kept, given, lost = (made.task(OWNER, open_ms=10_000) for _ in range(3))
    for who, task in ((BEN, kept), (CAT, given), (DAN, lost)):
        claimed(made, who, task)
    made.now += 20_000
    assert made.look_at_tasks() == []
    assert made.aggregate.claims.next_deadline(Millis(made.now)) == made.now + LEASE - 20_000
    released = made.release(CAT, given)
    assert [type(event) for event in released.events] == [e.TaskReleased, e.TaskCompleted]
    assert open_to(made, DAN) == []
    assert made.look_at_tasks() == []
    made.say(BEN, "done", kept)
    ended = made.aggregate.claims.get(kept)
    assert ended is not None
    assert (ended.state, ended.open_until) == ("done", 0)
    made.now += LEASE
    assert [(type(event), event.task) for event in made.look_at_tasks()] == [
        (e.TaskLapsed, lost),
        (e.TaskCompleted, lost),
    ]
    made.verify()


def test_a_task_that_comes_and_goes_is_kept_once_among_those_whose_time_ends() -> None:
    made = room()
    task = made.task(OWNER, open_ms=10_000_000)
    for _ in range(20):
        claimed(made, BEN, task)
        made.release(BEN, task)
    assert len(made.aggregate.claims._closing) == 1
    made.verify()


def test_a_clock_that_is_set_back_opens_a_task_again_whose_end_nobody_noted() -> None:
    made = room()
    task = made.task(OWNER, open_ms=10_000)
    made.now += 10_000
    assert made.claim(BEN)[0] == "none"
    other = made.task(OWNER)
    assert claimed(made, BEN).id == other
    decided = made.aggregate.decide(
        c.ClaimTask(operation="task.claim", lease_ms=Millis(LEASE)),
        by=CAT.by,
        now=Millis(made.now - 5_000),
        ids=made.ids,
    )
    [event] = decided.events
    assert isinstance(event, e.TaskClaimed)
    assert event.task == task


def test_a_room_that_was_restored_knows_until_when_its_tasks_are_open() -> None:
    made = room()
    task = made.task(OWNER, open_ms=10_000)
    restored = Room.restore(made.aggregate.snapshot())
    assert restored.claims.next_deadline(Millis(made.now)) == made.now + 10_000
    assert [each.id for each in restored.claims.run_out(Millis(made.now + 10_000))] == [task]


def test_a_renewal_moves_the_end_of_its_own_claim_and_of_no_other() -> None:
    made = room()
    task = made.task(OWNER)
    first = claimed(made, BEN, task)
    claims = made.aggregate.claims
    claims.renew(task, Renewal(first.fence, Millis(made.now + 2 * LEASE)))
    claims.renew(task, Renewal(first.fence, Millis(made.now + 10)))
    claims.renew(task, Renewal(Position(1), Millis(made.now + 9 * LEASE)))
    assert claims.until(first) == made.now + 2 * LEASE
    made.now += 2 * LEASE - 1
    assert held(made, BEN) == [task]
    assert made.lapse() == []
    made.now += 1
    assert made.lapse() == [task]
    again = claimed(made, CAT, task)
    assert claims.until(again) == made.now + LEASE


@pytest.mark.parametrize("said", ["done", "failed", "cancelled"])
def test_the_holder_ends_a_task_for_good(said: Said) -> None:
    made = room()
    task = made.task(OWNER)
    fence = claimed(made, BEN, task).fence
    made.say(BEN, said, task, fence=fence)
    assert isinstance(made.log[-1].event, e.TaskCompleted)
    over = made.aggregate.claims.get(task)
    assert over is not None
    assert (over.state, over.worker) == (ENDS[said], BEN.id)
    assert made.claim(CAT)[0] == "none"
    with refused("task_over"):
        made.claim(CAT, task)
    made.verify()


@pytest.mark.parametrize("said", ["accepted", "working", "awaiting"])
def test_how_a_task_goes_on_is_known_of_the_holder_alone_and_wakes_nobody(said: Said) -> None:
    made = room()
    task = made.task(OWNER)
    claimed(made, BEN, task)
    with refused("claim_lost"):
        made.say(CAT, said, task)
    made.say(CAT, said, task, plainly=True)
    found = made.aggregate.claims.get(task)
    assert found is not None
    assert found.state == "claimed"
    made.say(BEN, said, task)
    found = made.aggregate.claims.get(task)
    assert found is not None
    assert found.state == said
    assert made.aggregate.topics(made.log[-1]) == [topics.quiet(made.aggregate.state.room)]
    made.verify()


def test_a_result_by_the_holder_ends_the_task_also_as_a_message_like_any_other() -> None:
    made = room()
    task = made.task(OWNER)
    claimed(made, BEN, task)
    made.say(CAT, "done", task, plainly=True)
    assert held(made, BEN) == [task]
    made.say(BEN, "done", task, plainly=True)
    assert held(made, BEN) == []
    made.verify()


def test_a_result_that_comes_too_late_is_kept_without_effect_and_says_who_has_the_task() -> None:
    made = room()
    task = made.task(OWNER)
    first = claimed(made, BEN, task)
    made.now += LEASE
    again = claimed(made, CAT, task)
    decision = made.say(BEN, "done", task, fence=first.fence)
    [posted] = decision.events
    assert isinstance(posted, e.MessagePosted)
    assert (decision.answer, posted.kind, posted.reply_to) == ("claim_lost", LATE, task)
    assert made.seen_by(CAT)[-1] == posted.id
    assert held(made, CAT) == [task]
    lost = made.aggregate.claims.lost(again, Millis(made.now))
    assert (lost.code, lost.details) == ("claim_lost", {"holder": "cat", "fence": again.fence})
    made.verify()


def test_a_result_after_the_lease_comes_too_late_also_where_nobody_claimed_the_task_since() -> None:
    made = room()
    task = made.task(OWNER)
    claimed(made, BEN, task)
    made.now += LEASE
    decision = made.say(BEN, "done", task)
    assert decision.answer == "claim_lost"
    assert isinstance(made.log[-1].event, e.TaskLapsed)
    assert open_to(made, CAT) == [task]


def test_an_older_number_of_a_claim_is_refused_although_the_same_worker_has_the_task_again() -> None:
    made = room()
    task = made.task(OWNER)
    first = claimed(made, BEN, task)
    made.release(BEN, task)
    again = claimed(made, BEN, task)
    assert made.say(BEN, "done", task, fence=first.fence).answer == "claim_lost"
    assert held(made, BEN) == [task]
    made.say(BEN, "done", task, fence=again.fence)
    assert held(made, BEN) == []


def test_who_ended_a_task_is_told_so_and_another_hears_who_did() -> None:
    made = room()
    task = made.task(OWNER)
    claimed(made, BEN, task)
    made.say(BEN, "done", task)
    with refused("task_over"):
        made.say(BEN, "done", task)
    with refused("claim_lost") as caught:
        made.release(CAT, task)
    assert (caught.value.details["holder"], caught.value.details["status"]) == ("ben", "done")


def test_whoever_posted_a_task_takes_it_back_while_nobody_has_it() -> None:
    made = room()
    task = made.task(OWNER)
    claimed(made, BEN, task)
    assert made.say(OWNER, "cancelled", task).answer == "claim_lost"
    made.release(BEN, task)
    assert made.say(CAT, "cancelled", task).answer == "claim_lost"
    made.say(OWNER, "cancelled", task)
    over = made.aggregate.claims.get(task)
    assert over is not None
    assert over.state == "cancelled"
    assert made.claim(CAT)[0] == "none"


def test_what_is_no_task_is_claimed_by_nobody() -> None:
    made = room()
    note = made.post(OWNER).id
    for act in (
        lambda: made.claim(BEN, note),
        lambda: made.release(BEN, note),
        lambda: made.say(BEN, "done", note),
        lambda: made.claim(BEN, MessageId("m_nowhere")),
    ):
        assert code(act) == "no_such_task"


def test_nobody_from_outside_claims_and_nothing_is_claimed_in_a_closed_room() -> None:
    made = room()
    task = made.task(OWNER)
    made.leave(BEN)
    with refused("no_such_room"):
        made.claim(BEN, task)
    made.close()
    with refused("room_closed"):
        made.claim(CAT, task)
    made.verify()


def test_a_task_of_a_worker_who_left_returns_when_its_lease_ends() -> None:
    made = room()
    task = made.task(OWNER)
    claimed(made, BEN, task)
    made.leave(BEN)
    made.now += LEASE
    assert claimed(made, CAT).id == task


def test_a_room_takes_a_bounded_number_of_tasks() -> None:
    made = room()
    made.task(OWNER)
    claims = made.aggregate.claims
    [first] = claims.state.tasks.values()
    claims.state.tasks.update({MessageId(f"m_{n}"): first for n in range(MAX_TASKS - 1)})
    with refused("too_many_tasks"):
        made.task(OWNER)
    made.post(OWNER)


def test_of_tasks_that_are_over_the_newest_are_remembered() -> None:
    made = room()
    first = made.task(OWNER)
    claimed(made, BEN, first)
    made.say(BEN, "done", first)
    claims = made.aggregate.claims
    over = claims.state.over[first]
    claims.state.over.update({MessageId(f"m_{n}"): over for n in range(KEPT_OVER - 1)})
    last = made.task(OWNER)
    claimed(made, BEN, last)
    made.say(BEN, "done", last)
    assert (claims.get(first), claims.get(last) is None, len(claims.state.over)) == (None, False, KEPT_OVER)


# -- requesters --------------------------------------------------------------------------------------------


def test_a_requester_sees_what_names_it_and_nothing_else_of_a_queue() -> None:
    made = queue()
    made.task(OWNER)
    assert made.knock(BEN, role=REQUESTER) == "joined"
    made.knock(CAT)
    asked = made.task(BEN)
    made.task(CAT)
    assert made.seen_by(BEN) == []
    claimed(made, CAT, asked)
    [result, _] = made.say(CAT, "done", asked).events
    assert isinstance(result, e.MessagePosted)
    assert result.visibility == tuple(sorted((BEN.id, CAT.id)))
    assert made.seen_by(BEN) == [result.id]
    assert len(made.seen_by(CAT)) == 4
    made.verify()


def test_a_worker_asks_back_and_the_requester_answers_both_for_these_two_alone() -> None:
    made = queue()
    made.knock(BEN, role=REQUESTER)
    made.knock(CAT)
    made.knock(DAN, role=REQUESTER)
    asked = made.task(BEN)
    question = made.post(CAT, reply_to=asked)
    answer = made.post(BEN, reply_to=question.id)
    assert made.seen_by(BEN) == [question.id, answer.id]
    assert made.seen_by(DAN) == []


def test_a_requester_claims_nothing_until_it_serves_and_then_sees_the_whole_queue() -> None:
    made = queue()
    older = made.task(OWNER)
    made.knock(BEN, role=REQUESTER)
    with refused("not_a_worker"):
        made.claim(BEN)
    assert open_to(made, BEN) == []
    assert made.knock(BEN) == "member"
    made.run(c.Leave(operation="queue.serve"), BEN)
    assert made.knock(BEN) == "joined"
    assert made.seen_by(BEN) == [older]
    assert claimed(made, BEN).id == older
    made.verify()


def test_a_worker_stays_one_that_comes_as_a_requester() -> None:
    made = queue()
    made.knock(BEN)
    task = made.task(OWNER)
    assert made.knock(BEN, role=REQUESTER) == "member"
    assert made.seen_by(BEN) == [task]


def test_in_a_session_the_role_hides_nothing() -> None:
    made = opened(approval=False, recap=False)
    made.knock(BEN, role=REQUESTER)
    said = made.post(OWNER).id
    assert made.seen_by(BEN) == [said]


def test_late_words_are_for_the_workers_and_not_for_who_asked() -> None:
    made = queue()
    made.knock(BEN, role=REQUESTER)
    made.knock(CAT)
    made.knock(DAN)
    asked = made.task(BEN)
    claimed(made, CAT, asked)
    [late] = made.say(DAN, "done", asked).events
    assert isinstance(late, e.MessagePosted)
    assert (late.kind, late.to, late.visibility) == (LATE, (), None)


# -- mirrors -----------------------------------------------------------------------------------------------


def test_a_mirror_takes_the_number_of_a_claim_and_the_end_of_a_lease_from_the_rooms_home() -> None:
    made = room()
    task = made.task(OWNER)
    made.commit(e.MirrorPlaced(public=0, line=bytes(32)), OWNER)
    until = Millis(made.now + LEASE)
    told = e.TaskClaimed(task=task, worker=BEN.id, until=until, lease_ms=DEFAULT_LEASE_MS, fence=Position(99))
    made.commit(told, BEN)
    made.now += 2 * LEASE
    assert held(made, BEN) == [task]
    assert made.lapse() == []
    assert made.aggregate.claims.next_deadline(Millis(made.now)) is None
    found = made.aggregate.claims.get(task)
    assert found is not None
    assert found.fence == 99
    made.commit(e.TaskLapsed(task=task, worker=BEN.id, fence=Position(98)), OWNER)
    assert held(made, BEN) == [task]
    made.commit(e.TaskLapsed(task=task, worker=BEN.id, fence=Position(99)), OWNER)
    assert held(made, BEN) == []
    made.verify()


def test_a_mirror_forgets_the_tasks_that_the_rooms_home_lost() -> None:
    made = room()
    kept = made.task(OWNER)
    made.leave_out(0, OWNER)
    upto = made.aggregate.position
    made.task(OWNER)
    made.commit(
        e.RoomRewound(epoch=1, public=1, line=bytes(32), upto=upto, numbers=(), threads=()), OWNER, body=b"rewind"
    )
    assert open_to(made, BEN) == [kept]
    made.verify()


def test_facts_about_a_task_that_a_log_does_not_hold_change_nothing() -> None:
    made = room()
    id = MessageId("m_elsewhere")
    facts: list[e.RoomEvent] = [
        e.TaskClaimed(task=id, worker=BEN.id, until=Millis(1), lease_ms=Millis(1)),
        e.TaskReleased(task=id, fence=Position(1)),
        e.TaskLapsed(task=id, worker=BEN.id, fence=Position(1)),
        e.TaskCompleted(task=id, worker=BEN.id, outcome="done", fence=Position(1)),
    ]
    for fact in facts:
        made.commit(fact, BEN)
    assert made.aggregate.claims.state.tasks == {}
    assert made.aggregate.claims.state.over == {}
    made.verify()


def test_what_says_how_a_task_goes_on_has_kinds_of_its_own() -> None:
    assert {"task-accepted", "task-working", "task-awaiting", INVOCATION} == QUIET_KINDS


def test_agents_of_any_name_hold_tasks_side_by_side() -> None:
    made = room()
    workers = [agent(f"worker{letter}") for letter in "abcdefgh"]
    made.admit(*workers)
    tasks = [made.task(OWNER) for _ in workers]
    assert [claimed(made, who).id for who in workers] == tasks
