"""How tasks stand, as their room's home says."""

from __future__ import annotations

from parlerd.core.envelope import decode_envelope
from parlerd.operations import types as t
from tests.support.honest_home import ANN, BEN, CAT, HonestHome
from tests.support.told import Daemon


def test_what_a_home_says_of_tasks_is_taken_in_once_and_nothing_of_what_the_mirror_does_not_know() -> None:
    home = HonestHome()
    home.join(BEN)
    body = home.envelope(ANN, "review PR #42", kind="task")
    home.admit(ANN, body)
    id = decode_envelope(body).id
    daemon = Daemon(home, (ANN, BEN)).hear(home.items((ANN, BEN)))

    def told(state: t.TaskStatus, worker: str = "", fence: int = 0, task: str = id) -> None:
        entry = t.TaskAtRoom(task=task, state=state, worker=worker, until=9, lease_ms=5, fence=fence)
        daemon.hear([t.LinkItem(room=home.room, tasks=[entry])])

    def stands() -> tuple[str, str, int]:
        task = daemon.room.claims.get(id)
        assert task is not None
        return task.state, task.worker, task.fence

    told("claimed", BEN.agent, 7)
    assert stands() == ("claimed", BEN.agent, 7)
    before = daemon.room.position
    told("claimed", BEN.agent, 7)
    told("claimed", CAT.agent, 8)
    told("claimed", BEN.agent, 3, "m_nowhere")
    assert (stands(), daemon.room.position) == (("claimed", BEN.agent, 7), before)
    told("open")
    assert stands() == ("open", "", 7)
    told("done", BEN.agent, 7)
    told("claimed", BEN.agent, 11)
    assert stands() == ("done", BEN.agent, 7)
    assert daemon.contradicted == ""
