"""serve, claim, renew, release, complete and task: what they ask, print and exit with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parlerd.cli.output import moment
from parlerd.core.errors import ParlerError, Refused
from parlerd.operations import types as t
from tests.support.answers import ROOM, message
from tests.support.cli import Shell

UNTIL = 1_795_860_300_000


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def held(**about: Any) -> t.TaskHeld:
    said: dict[str, Any] = {
        "id": "m_7",
        "lease_until": UNTIL,
        "fence": 12,
        "message": None,
        "status": "claimed",
        "room": ROOM,
        "name": "review",
    }
    return t.TaskHeld(**{**said, **about})


NOTHING = held(id=None, lease_until=None, fence=None, status="none")


def served(**about: Any) -> t.Served:
    return t.Served(**{"room": ROOM, "name": "review", "status": "serving", **about})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (served(opened=True), "The queue 'review' is open, and you are its first worker.\n"),
        (served(), "You are a worker of 'review' now.\n"),
        (served(status="already_serving"), "You are a worker of 'review' already.\n"),
    ],
)
def test_serving_says_what_came_of_it_and_returns(shell: Shell, answer: t.Served, said: str) -> None:
    shell.daemon.answers("queue.serve", answer)
    ran = shell.run("serve", "review")
    assert (ran.code, ran.stdout) == (0, said)
    assert shell.daemon.params_of("queue.serve") == [t.Serve(service="review")]


def test_serving_says_how_many_tasks_wait(shell: Shell) -> None:
    shell.daemon.answers("queue.serve", served(open=2), served(open=1))
    assert "2 tasks wait there." in shell.run("serve", "review").stderr
    assert "1 task waits there." in shell.run("serve", "review").stderr


def test_a_claim_shows_the_task_and_how_to_end_it(shell: Shell) -> None:
    shell.daemon.answers("task.claim", held(message=message("review PR #42", kind="task")))
    ran = shell.run("claim", "--service", "review", "--wait", "60", "--lease", "900", "--key", "k")
    assert ran.code == 0
    assert "You hold this task in 'review' until " in ran.stdout
    assert "review PR #42" in ran.stdout
    assert "parler complete m_7 --fence 12 --result TEXT" in ran.stderr
    (asked,) = shell.daemon.params_of("task.claim")
    assert isinstance(asked, t.ClaimTask)
    assert (asked.service, asked.lease_ms, asked.idempotency_key) == ("review", 900_000, "k")
    assert 0 < asked.wait_ms <= 60_000


def test_a_claim_as_json_has_the_four_fields_and_without_a_task_they_are_null(shell: Shell) -> None:
    shell.daemon.answers("task.claim", held(message=message("review PR #42", kind="task")), NOTHING)
    ran = shell.run("--json", "claim")
    document = json.loads(ran.stdout)
    assert (document["id"], document["lease_until"], document["fence"]) == ("m_7", UNTIL, 12)
    assert document["message"]["text"] == "review PR #42"
    ran = shell.run("--json", "claim")
    document = json.loads(ran.stdout)
    assert ran.code == 0
    assert [document[name] for name in ("id", "lease_until", "fence", "message")] == [None] * 4


def test_nothing_to_claim_is_no_failure(shell: Shell) -> None:
    shell.daemon.answers("task.claim", NOTHING)
    ran = shell.run("claim", "--room", "review")
    assert (ran.code, ran.stdout) == (0, "There is nothing to claim in 'review'.\n")


@pytest.mark.parametrize("lease", ["14", "3601", "x", "-1", "nan"])
def test_a_lease_out_of_bounds_is_a_usage_error(shell: Shell, lease: str) -> None:
    assert shell.run("claim", f"--lease={lease}").code == 2


def test_a_queue_and_a_room_together_are_a_usage_error(shell: Shell) -> None:
    assert shell.run("claim", "--service", "review", "--room", "team").code == 2
    assert shell.run("send", "--service", "review", "--room", "team", "x").code == 2


def test_what_is_sent_to_a_queue_may_have_no_number(shell: Shell) -> None:
    sent = t.Sent(room=ROOM, id="m_7", seq=None, at=5, replayed=False, idempotency_key="k", name="review")
    shell.daemon.answers("message.send", sent)
    ran = shell.run("send", "--service", "review", "review", "PR")
    assert (ran.code, ran.stdout) == (0, "Sent to 'review'.\n")
    (asked,) = shell.daemon.params_of("message.send")
    assert isinstance(asked, t.Send)
    assert (asked.service, asked.room, asked.text) == ("review", None, "review PR")


def test_renewing_and_giving_back_pass_what_was_said(shell: Shell) -> None:
    shell.daemon.answers("task.renew", held())
    ran = shell.run("renew", "7", "--room", "team", "--lease", "60")
    assert ran.stdout.startswith("You hold it until ")
    assert shell.daemon.params_of("task.renew") == [t.RenewTask(id="7", room="team", lease_ms=60_000)]
    shell.daemon.answers("task.release", held(status="open", lease_until=None, fence=None))
    ran = shell.run("release", "m_7", "--key", "k")
    assert ran.stdout == "Given back: another worker of 'review' can take it.\n"
    assert shell.daemon.params_of("task.release") == [t.ReleaseTask(id="m_7", idempotency_key="k")]


def test_a_result_is_passed_or_read_from_stdin(shell: Shell) -> None:
    done = held(status="done", lease_until=None, fence=None, result="m_8")
    shell.daemon.answers("task.complete", done, done)
    ran = shell.run("complete", "m_7", "--fence", "12", "--result", "approved", "--key", "k")
    assert (ran.code, ran.stdout) == (0, "Done in 'review': whoever asked for it is told.\n")
    shell.run("complete", "m_7", "--result", "-", "--key", "k", stdin=b"from a pipe\n")
    asked = shell.daemon.params_of("task.complete")
    assert asked[0] == t.CompleteTask(id="m_7", fence=12, text="approved", idempotency_key="k")
    assert asked[1] == t.CompleteTask(id="m_7", text="from a pipe", idempotency_key="k")


def test_a_file_of_the_room_goes_along_with_a_result_and_with_a_status(shell: Shell) -> None:
    done = held(status="done", lease_until=None, fence=None, result="m_9")
    shell.daemon.answers("task.complete", done)
    shell.daemon.answers("task.say", done, Refused("no_such_blob"))
    shell.run("complete", "m_7", "--blob", "8", "--key", "k")
    assert shell.daemon.params_of("task.complete") == [t.CompleteTask(id="m_7", blob="8", idempotency_key="k")]
    assert shell.run("task", "done", "--blob", "ab" * 32, "--key", "k").code == 0
    params = shell.daemon.params_of("task.say")
    assert params == [t.SayOfTask(status="done", blob="ab" * 32, idempotency_key="k")]
    ran = shell.run("task", "done", "--blob", "nothing", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "no_such_blob")


def test_a_lost_claim_exits_with_1_and_the_code(shell: Shell) -> None:
    shell.daemon.answers("task.complete", ParlerError("claim_lost", "cat holds this task now.", holder="cat", fence=20))
    ran = shell.run("--json", "complete", "m_7")
    assert ran.code == 1
    error = json.loads(ran.stdout or ran.stderr)["error"]
    assert (error["code"], error["details"]) == ("claim_lost", {"holder": "cat", "fence": 20})


def test_a_status_is_passed_and_said(shell: Shell) -> None:
    shell.daemon.answers("task.say", held(status="working"), held(status="failed", lease_until=None, fence=None))
    ran = shell.run("task", "working", "--note", "reading", "--key", "k")
    assert ran.stdout.startswith("Noted: working. You hold it until ")
    ran = shell.run("task", "failed", "--task", "7", "--service", "review", "--key", "k")
    assert ran.stdout == "Ended as failed in 'review': whoever asked for it is told.\n"
    assert shell.daemon.params_of("task.say") == [
        t.SayOfTask(status="working", text="reading", idempotency_key="k"),
        t.SayOfTask(status="failed", id="7", service="review", idempotency_key="k"),
    ]
    assert shell.run("task", "asleep").code == 2


def test_a_worker_that_stays_claims_one_task_after_another_and_holds_each_until_it_is_over(shell: Shell) -> None:
    shell.daemon.answers("queue.serve", served())
    first = held(message=message("one", kind="task"))
    second = held(id="m_9", fence=20, message=message("two", kind="task"))

    def interrupted(params: t.Params) -> t.Result:
        raise KeyboardInterrupt

    shell.daemon.answers("task.claim", first, second, interrupted)
    over = held(status="done", lease_until=None, fence=None)
    shell.daemon.answers("task.renew", held(), over, ParlerError("claim_lost"))
    ran = shell.run("--json", "serve", "review", "--watch", "--lease", "30")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(line["id"], line["fence"], line["message"]["text"]) for line in lines] == [
        ("m_7", 12, "one"),
        ("m_9", 20, "two"),
    ]
    renewals = shell.daemon.params_of("task.renew")
    assert [each.id for each in renewals if isinstance(each, t.RenewTask)] == ["m_7", "m_7", "m_9"]
    assert all(isinstance(each, t.RenewTask) and 0 < each.wait_ms <= 10_000 for each in renewals)


def test_the_open_tasks_are_asked_for_with_nothing_beside(shell: Shell) -> None:
    page = t.Received(room=ROOM, name="review", messages=[], cursor="", more=False, unread=0, acknowledges=False)
    shell.daemon.answers("message.recv", page)
    assert shell.run("recv", "--unclaimed", "--room", "review").code == 0
    (asked,) = shell.daemon.params_of("message.recv")
    assert isinstance(asked, t.Recv)
    assert asked.unclaimed
    for beside in (["--watch"], ["--since", "3"], ["--all"], ["--kind", "task"], ["--mentions"]):
        assert shell.run("recv", "--unclaimed", *beside).code == 2


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (t.TaskEntry(state="open", holder=None, lease_until=None), "The task is open: nobody holds it.\n"),
        (t.TaskEntry(state="done", holder=None, lease_until=None, ended_by="bob"), "The task is done, as bob said.\n"),
    ],
)
def test_where_a_message_got_to_says_how_its_task_stands(shell: Shell, task: t.TaskEntry, said: str) -> None:
    shell.daemon.answers("message.why", t.WhyResult(id="m_7", room=ROOM, readers=[], task=task))
    assert shell.run("why", "m_7").stdout.startswith(said)


def test_who_is_told_that_another_holds_the_task_is_told_until_when(shell: Shell) -> None:
    until = 1_795_916_790_322
    held = [Refused("already_claimed", "bob holds this task.", holder="bob", until=at) for at in (until, 10**30)]
    shell.daemon.answers("task.claim", *held)
    ran = shell.run("claim", "7")
    assert ran.code == 1
    assert f"until {moment(until)}" in ran.stderr
    ran = shell.run("claim", "7")
    assert (ran.code, "until" in ran.stderr.replace("wait until", "")) == (1, False)
