"""The guide by which the state of a room was asked for, block by block: at its own paths over HTTP, by command words
and by tool calls.

The guide is of a service over HTTP. Each test has one of its blocks, with the bodies as they stand there, and asserts
what the guide says that they give: on one machine, and over a relay, where whoever opens the room is of one home and
the others are of another. Where Parler differs on purpose, the test says so.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlencode, urlsplit

import pytest

from examples.agents import Agent, Refused
from parlerd.operations import types as t
from tests.e2e.test_view import ask as browse
from tests.support import processes
from tests.support.processes import Somebody, put_program, skip_where_nobody_may_decide, until
from tests.support.team import free_port, skip_below_an_agent_host

pytestmark = pytest.mark.e2e

Body = dict[str, Any]
"""The body of a request as the guide has it."""


@pytest.mark.e2e
def test_a_person_looks_at_a_room(somebody: Somebody) -> None:
    """https://sync.parc.land/?room=<ROOM_ID>: here the address is that of one's own machine, and opens once."""
    skip_where_nobody_may_decide(["view"])
    room = somebody.opens("alice", topic="my-room").room
    somebody.asks("state", "set", "phase", '"planning"', "--room", room, "--as", "alice")
    view = somebody.asks("view", "--room", room)
    status, headers, _ = browse(view["url"], "POST /view", {"code": view["watch_code"]})
    assert status == 303
    cookie, path = headers["set-cookie"].partition(";")[0], headers["location"].partition("#")[0]
    status, _, page = browse(view["url"], f"GET {path}", cookie=cookie)
    assert status == 200
    assert "phase" in page
    assert "planning" in page


Room = Callable[..., None]


# -- two doors -------------------------------------------------------------------------------------------------


class Door(Protocol):
    """How agents do what the guide says. What is refused raises `Refused`."""

    def put(self, agent: str, body: Body) -> int:
        """PUT .../state: the version."""
        ...

    def batch(self, agent: str, body: Body) -> dict[str, Any]:
        """PUT .../state/batch: the values by their keys."""
        ...

    def renew(self, agent: str, body: Body) -> None:
        """PATCH .../state/timer."""
        ...

    def value(self, agent: str, expr: str) -> Any:
        """POST .../eval."""
        ...

    def wait(self, agent: str, condition: str, *include: str) -> dict[str, Any]:
        """GET .../wait: what was included."""
        ...

    def register(self, agent: str, body: Body) -> None:
        """PUT .../actions."""
        ...

    def invoke(self, agent: str, action: str, **params: Any) -> dict[str, Any]:
        """POST .../actions/ID/invoke: the values that were written, by their keys."""
        ...

    def actions(self, agent: str) -> dict[str, bool]:
        """GET .../actions: which are listed, and whether each is available."""
        ...

    def by_param(self, agent: str, action: str) -> dict[str, dict[str, bool]]:
        """GET .../actions?expand_params=true: for which values of its parameters an action is available."""
        ...

    def unregister(self, agent: str, action: str) -> None:
        """DELETE .../actions/ID."""
        ...

    def post(self, agent: str, body: Body) -> int:
        """POST .../messages: the number of the message; 0 for one that nobody is shown yet."""
        ...

    def messages(self, agent: str) -> list[str]:
        """GET .../messages: the texts of what is new."""
        ...

    def unclaimed(self, agent: str) -> list[str]:
        """GET .../messages?unclaimed=true&kind=task: the texts."""
        ...

    def claim(self, agent: str, number: int) -> None:
        """POST .../messages/N/claim."""
        ...

    def state_presence(self, agent: str, status: str) -> None:
        """POST .../agents/ID/heartbeat."""
        ...


class People:
    """Whose agents the agents of a test are: whoever comes first is of one home, and the others are of another, or of
    the same."""

    def __init__(self, first: Somebody, others: Somebody) -> None:
        self.first, self.others = first, others
        self._guests: set[str] = set()

    def of(self, agent: str) -> Somebody:
        return self.others if agent in self._guests else self.first

    def come_together(self, first: str, *others: str, clear: bool = False) -> None:
        """A room of theirs, which is the active one of each then; with `clear` its relay can read it, where it is on
        one."""
        self._guests = set(others)
        opened = self.first.opens(first, topic="guide", clear=clear)
        for name in others:
            self.of(name).enters(opened.session_key, name)


class Commands:
    """The shell's door: words, and one JSON document."""

    def __init__(self, people: People, folder: Path) -> None:
        self._people = people
        self._file = folder / "body.json"

    def _run(self, agent: str, *words: str) -> Any:
        ran = self._people.of(agent).runs("--as", agent, *words, "--json", expect=None)
        if ran.code:
            raise Refused(f"{ran.error['code']}: {json.dumps(ran.error)}")
        return ran.document

    def _written(self, body: Body) -> str:
        self._file.write_text(json.dumps(body))
        return str(self._file)

    def put(self, agent: str, body: Body) -> int:
        flags = [f"--{name.replace('_', '-')}" for name in ("increment", "merge", "append") if body.get(name)]
        for name in ("if", "if_version", "enabled", "timer", "scope"):
            if name in body and not ("expr" in body and name == "scope"):
                given = body[name]
                flags += [f"--{name.replace('_', '-')}", given if isinstance(given, str) else json.dumps(given)]
        act = ["view", "set", body["key"], body["expr"]] if "expr" in body else None
        version: int = self._run(agent, *(act or ["state", "set", body["key"], json.dumps(body["value"])]), *flags)[
            "version"
        ]
        return version

    def batch(self, agent: str, body: Body) -> dict[str, Any]:
        done = self._run(agent, "state", "batch", "--file", self._written(body))
        return {each["key"]: each["value"] for each in done["writes"]}

    def renew(self, agent: str, body: Body) -> None:
        self._run(agent, "timer", "renew", body["key"], "--scope", body["scope"])

    def value(self, agent: str, expr: str) -> Any:
        return self._run(agent, "eval", expr)["value"]

    def wait(self, agent: str, condition: str, *include: str) -> dict[str, Any]:
        more = ["--include", ",".join(include)] if include else []
        ended = self._run(agent, "wait", condition, "--timeout", "30", *more)
        assert (ended["triggered"], ended["value"], ended["condition"]) == (True, True, condition)
        return {name: ended[name] for name in include}

    def register(self, agent: str, body: Body) -> None:
        self._run(agent, "action", "register", "--file", self._written(body))

    def invoke(self, agent: str, action: str, **params: Any) -> dict[str, Any]:
        done = self._run(agent, "action", "invoke", action, "--params", json.dumps(params))
        assert (done["invoked"], done["action"]) == (True, action)
        return {each["key"]: each["value"] for each in done["writes"]}

    def actions(self, agent: str) -> dict[str, bool]:
        return {each["id"]: each["available"] for each in self._run(agent, "action", "list")["actions"]}

    def by_param(self, agent: str, action: str) -> dict[str, dict[str, bool]]:
        (shown,) = self._run(agent, "action", "list", action, "--expand-params")["actions"]
        return available_in(shown)

    def unregister(self, agent: str, action: str) -> None:
        self._run(agent, "action", "delete", action, "--yes")

    def post(self, agent: str, body: Body) -> int:
        more = ["--reply-to", str(body["reply_to"])] if "reply_to" in body else []
        more += ["--timer", json.dumps(body["timer"])] if "timer" in body else []
        more += ["--enabled", body["enabled"]] if "enabled" in body else []
        sent = self._run(agent, "send", "--kind", body.get("kind", "text"), *more, body["body"])
        assert sent["gated"] is (sent["seq"] is None)
        return sent["seq"] or 0

    def messages(self, agent: str) -> list[str]:
        return [message["text"] for message in self._run(agent, "recv")["messages"]]

    def unclaimed(self, agent: str) -> list[str]:
        return [message["text"] for message in self._run(agent, "recv", "--unclaimed")["messages"]]

    def claim(self, agent: str, number: int) -> None:
        self._run(agent, "claim", str(number))

    def state_presence(self, agent: str, status: str) -> None:
        self._run(agent, "presence", status)


class Http:
    """The guide's own door: its paths and bodies. Every agent has a token for the room that is its active one."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._urls: dict[Somebody, str] = {}
        self._tokens: dict[tuple[str, str], str] = {}
        """By the agent and its room."""
        self._read: dict[tuple[str, str], int] = {}
        """How far each agent read each room."""

    def _room(self, agent: str) -> str:
        with self._people.of(agent).client(agent) as client:
            found = client.call("rooms.list", t.ListRooms())
        assert isinstance(found, t.RoomList)
        (room,) = [each.room for each in found.rooms if each.active]
        return room

    def _ask(self, agent: str, line: str, body: Any = None, /, **query: Any) -> Any:
        somebody, room = self._people.of(agent), self._room(agent)
        if somebody not in self._urls:
            self._urls[somebody] = somebody.asks("serve-http")["url"]
        if (agent, room) not in self._tokens:
            minted = somebody.asks("token", "mint", "--here", "--room", room, "--as", agent)
            self._tokens[agent, room] = minted["token"]
        method, _, path = line.partition(" ")
        target = f"/rooms/{room}{path}" + (f"?{urlencode(query)}" if query else "")
        with closing(HTTPConnection(urlsplit(self._urls[somebody]).netloc, timeout=processes.PATIENCE_S)) as http:
            headers = {"Authorization": f"Bearer {self._tokens[agent, room]}"}
            http.request(method, target, None if body is None else json.dumps(body), headers)
            with http.getresponse() as answer:
                status, found = answer.status, json.loads(answer.read())
        if status >= 400:
            raise Refused(f"{found['error']}: {json.dumps(found)}")
        return found

    def put(self, agent: str, body: Body) -> int:
        version: int = self._ask(agent, "PUT /state", body)["version"]
        return version

    def batch(self, agent: str, body: Body) -> dict[str, Any]:
        return {each["key"]: each["value"] for each in self._ask(agent, "PUT /state/batch", body)["state"]}

    def renew(self, agent: str, body: Body) -> None:
        self._ask(agent, "PATCH /state/timer", body)

    def value(self, agent: str, expr: str) -> Any:
        return self._ask(agent, "POST /eval", {"expr": expr})["value"]

    def wait(self, agent: str, condition: str, *include: str) -> dict[str, Any]:
        more = {"include": ",".join(include)} if include else {}
        ended = self._ask(agent, "GET /wait", condition=condition, agent=agent, timeout=25000, **more)
        assert (ended["triggered"], ended["value"], ended["condition"]) == (True, True, condition)
        return {name: ended[name] for name in include}

    def register(self, agent: str, body: Body) -> None:
        self._ask(agent, "PUT /actions", body)

    def invoke(self, agent: str, action: str, **params: Any) -> dict[str, Any]:
        done = self._ask(agent, f"POST /actions/{action}/invoke", {"agent": agent, "params": params})
        assert (done["invoked"], done["action"]) == (True, action)
        return {each["key"]: each["value"] for each in done["writes"]}

    def actions(self, agent: str) -> dict[str, bool]:
        return {each["id"]: each["available"] for each in self._ask(agent, "GET /actions")}

    def by_param(self, agent: str, action: str) -> dict[str, dict[str, bool]]:
        listed = self._ask(agent, "GET /actions", expand_params="true")
        (shown,) = [each for each in listed if each["id"] == action]
        return available_in(shown)

    def unregister(self, agent: str, action: str) -> None:
        self._ask(agent, f"DELETE /actions/{action}")

    def post(self, agent: str, body: Body) -> int:
        posted = self._ask(agent, "POST /messages", {"from": agent, **body})
        assert posted["gated"] is (posted["id"] is None)
        return posted["id"] or 0

    def messages(self, agent: str) -> list[str]:
        room = self._room(agent)
        new = self._ask(agent, "GET /messages", after=self._read.get((agent, room), 0))
        if new:
            self._read[agent, room] = new[-1]["id"]
        # The guide's rooms open with nothing, and ours with what whoever opens them says.
        return [each["body"] for each in new if each["body"] != "the recap"]

    def unclaimed(self, agent: str) -> list[str]:
        return [each["body"] for each in self._ask(agent, "GET /messages", unclaimed="true", kind="task")]

    def claim(self, agent: str, number: int) -> None:
        assert self._ask(agent, f"POST /messages/{number}/claim", {"agent": agent})["claimed"] is True

    def state_presence(self, agent: str, status: str) -> None:
        stated = {"status": "active" if status == "none" else status}
        assert self._ask(agent, f"POST /agents/{agent}/heartbeat", stated)["ok"] is True


class Tools:
    """A model's door: tool calls, and texts. Every agent has a window of its own, which opens with its first call."""

    def __init__(self, people: People, windows: ExitStack, programs: Path) -> None:
        self._people = people
        self._windows = windows
        self._programs = programs
        """A folder in which there is `parler`."""
        self._agents: dict[str, Agent] = {}

    def _call(self, agent: str, tool: str, action: str | None, **arguments: Any) -> str:
        if agent not in self._agents:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in self._people.of(agent).environment().items():
                    patch.setenv(name, f"{self._programs}:{value}" if name == "PATH" else value)
                self._agents[agent] = Agent(agent)
            self._windows.callback(self._agents[agent].close)
        verb = {} if action is None else {"action": action}
        return self._agents[agent].call(tool, **verb, **arguments)

    def put(self, agent: str, body: Body) -> int:
        answer = self._call(agent, "parler_state", "set", **body)
        found = re.search(r" is at version (\d+) now", answer)
        assert found is not None, answer
        return int(found[1])

    def batch(self, agent: str, body: Body) -> dict[str, Any]:
        return written_in(self._call(agent, "parler_state", "batch", **body))

    def renew(self, agent: str, body: Body) -> None:
        self._call(agent, "parler_state", "renew", **body)

    def value(self, agent: str, expr: str) -> Any:
        answer = self._call(agent, "parler_state", "eval", expr=expr)
        return json.loads(fenced(answer) or answer.partition("\n")[0].removeprefix("It is worth:"))

    def wait(self, agent: str, condition: str, *include: str) -> dict[str, Any]:
        answer = self._call(agent, "parler_state", "wait", expr=condition, include=list(include), wait_secs=30)
        assert answer.startswith("It is true"), answer
        return {name: json.loads(fenced(answer, f"\n{name}:\n")) for name in include}

    def register(self, agent: str, body: Body) -> None:
        self._call(agent, "parler_act", "register", define=body)

    def invoke(self, agent: str, action: str, **params: Any) -> dict[str, Any]:
        answer = self._call(agent, "parler_act", "invoke", id=action, params=params)
        assert answer.startswith(f"Invoked: {action}, "), answer
        return written_in(answer)

    def actions(self, agent: str) -> dict[str, bool]:
        listed = re.findall(r"^([\w.-]+); (not )?available", self._call(agent, "parler_act", "actions"), re.MULTILINE)
        return {id: not is_not for id, is_not in listed}

    def by_param(self, agent: str, action: str) -> dict[str, dict[str, bool]]:
        return available_in(json.loads(fenced(self._call(agent, "parler_act", "actions", id=action), "All of it:")))

    def unregister(self, agent: str, action: str) -> None:
        self._call(agent, "parler_state", "delete_action", key=action)

    def post(self, agent: str, body: Body) -> int:
        more = {"reply_to": str(body["reply_to"])} if "reply_to" in body else {}
        more |= {name: body[name] for name in ("timer", "enabled", "kind") if name in body}
        answer = self._call(agent, "parler_send", None, text=body["body"], **more)
        if re.match(r"Posted in \S+\. Nobody is shown it yet", answer):
            return 0
        found = re.match(r"Sent #(\d+) ", answer)
        assert found is not None, answer
        return int(found[1])

    def unclaimed(self, agent: str) -> list[str]:
        answer = self._call(agent, "parler_recv", None, unclaimed=True)
        return re.findall(r"; task[^\n]*\]\n(.*)$", answer, re.MULTILINE)

    def messages(self, agent: str) -> list[str]:
        answer = self._call(agent, "parler_recv", None)
        return re.findall(r"^\[peer \w+ #[^\n]*\]\n(.*)$", answer, re.MULTILINE)

    def claim(self, agent: str, number: int) -> None:
        self._call(agent, "parler_act", "claim", id=str(number))

    def state_presence(self, agent: str, status: str) -> None:
        self._call(agent, "parler_act", "presence", status=status)


def fenced(answer: str, lead: str = "") -> str:
    """The text in the first fence of an answer, or in the first one after `lead`; empty where there is none."""
    _, _, after = answer.partition(lead) if lead else ("", "", answer)
    found = re.search(r"^\[peer [^\n]*\]\n(.*?)\n\[end ", after, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def written_in(answer: str) -> dict[str, Any]:
    """The values that an answer says were written, by their keys."""
    lines = re.findall(r"^[\w-]+\.(\S+) v\d+ by \S+: (.*)$", fenced(answer), re.MULTILINE)
    return {key: json.loads(value) for key, value in lines}


def available_in(shown: Body) -> dict[str, dict[str, bool]]:
    return {
        param: {value: about["available"] for value, about in values.items()}
        for param, values in shown["availability_by_param"].items()
    }


# -- rooms -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["one machine", "over a relay"])
def people(request: pytest.FixtureRequest) -> Iterator[People]:
    """Those whose daemons serve all blocks."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        ann = stack.enter_context(processes.somebody(patch))
        ann.trusts_everyone()
        if request.param == "one machine":
            yield People(ann, ann)
            return
        skip_below_an_agent_host()
        ben = stack.enter_context(processes.somebody(patch))
        ann.asks("connect", "--team", "--bind", "127.0.0.1", "--port", str(free_port()))
        relay = ann.asks("relay", "status")
        ben.asks("connect", "--relay", relay["join_line"], "--join-secret-file", relay["join_secret_file"])
        yield People(ann, ben)


@pytest.fixture(params=["http", "commands", "tools"])
def door(request: pytest.FixtureRequest, people: People, tmp_path: Path) -> Iterator[Door]:
    if request.param == "http":
        skip_below_an_agent_host()
        yield Http(people)
        return
    if request.param == "commands":
        yield Commands(people, tmp_path)
        return
    put_program(tmp_path)
    with ExitStack() as windows:
        yield Tools(people, windows, tmp_path)


@pytest.fixture
def room(people: People) -> Room:
    """Let agents come together in a room of their own, which is the active one of each then.

    The guide: POST /rooms, POST /rooms/my-room/agents, and a token for each agent. Here the session has a key, and who
    an agent is follows from its connection: there is no token to save, and no request without an identity."""
    return people.come_together


@contextmanager
def waiting(door: Door, people: People, agent: str, condition: str, *include: str) -> Iterator[list[Body]]:
    """While the block runs, an agent waits. After it, the wait has ended, and its answer is in the list."""
    ended: list[Any] = []

    def wait() -> None:
        try:
            ended.append(door.wait(agent, condition, *include))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()

    def is_seen() -> bool:
        with people.of(agent).client(agent) as client:
            found = client.call("state.evaluate", t.Evaluate(expr='agents[self].status == "waiting"'))
        assert isinstance(found, t.Evaluated)
        return found.value is True

    until(is_seen, f"wait of {agent}")
    yield ended
    thread.join(processes.PATIENCE_S)
    assert isinstance(ended[0], dict), ended


@contextmanager
def refused(code: str, *parts: str) -> Iterator[None]:
    """What is done in the block is refused with this code, and the answer has these parts."""
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.code == code
    assert [part for part in parts if part not in caught.value.text] == []


# -- the loop: wait, read, act, advance ------------------------------------------------------------------------


def test_the_fundamental_loop(door: Door, room: Room, people: People) -> None:
    room("agent-a", "agent-b")
    first = {
        "writes": [
            {"key": "phase", "value": "planning"},
            {"key": "turn", "value": 0},
            {"key": "currentPlayer", "value": "agent-a"},
        ]
    }
    assert door.batch("agent-a", first) == {"phase": "planning", "turn": 0, "currentPlayer": "agent-a"}
    mine = 'state._shared.currentPlayer == "agent-a"'
    got = door.wait("agent-a", mine, "state", "agents")
    assert got["state"]["_shared"] == {"phase": "planning", "turn": 0, "currentPlayer": "agent-a"}
    # The guide has `turn: 0, ...` of `_shared` and says of the rest only that it is there: empty scopes are, too.
    assert got["state"].keys() == {"_shared", "_view", "agent-a", "agent-b"}
    assert got["agents"]["agent-a"]["status"] == "active"

    for version in (1, 2, 3):
        assert door.put("agent-a", {"key": "move", "value": f"draft {version}"}) == version
    move = {"key": "move", "value": "e2e4", "if": mine, "if_version": 3}
    assert door.put("agent-a", move) == 4
    # `current` has the value to try again with.
    with refused("version_conflict", "current", "e2e4"):
        door.put("agent-a", move)

    theirs = 'state._shared.currentPlayer == "agent-b"'
    advance = {"writes": [{"key": "currentPlayer", "value": "agent-b"}, {"key": "turn", "value": 1, "increment": True}]}
    with waiting(door, people, "agent-b", theirs, "state", "agents") as ended:
        assert door.value("agent-a", 'agents["agent-b"].status') == "waiting"
        assert door.value("agent-a", 'agents["agent-b"].waiting_on') == theirs
        assert door.batch("agent-a", advance) == {"currentPlayer": "agent-b", "turn": 1}
    assert ended[0]["state"]["_shared"]["turn"] == 1
    assert ended[0]["agents"]["agent-b"]["status"] == "active"
    # Both at once: the guide asks the gate first, and so does Parler.
    with refused("precondition_failed", "state._shared.currentPlayer"):
        door.put("agent-a", move)


def test_every_path_that_expressions_reference(door: Door, room: Room, people: People) -> None:
    room("agent-a", "agent-b")
    door.batch("agent-a", {"writes": [{"key": "phase", "value": "executing"}, {"key": "turn", "value": 3}]})
    door.put("agent-a", {"scope": "agent-a", "key": "score", "value": 42})
    door.put("agent-a", {"scope": "_view", "key": "ready", "expr": "state._shared.turn > 2"})
    door.register("agent-a", {"id": "stoke_fire", "writes": []})
    door.post("agent-a", {"kind": "task", "body": "analyze X"})
    for expr in (
        'state._shared.phase == "executing"',
        'state["agent-a"].score > 40',
        "messages.unclaimed > 0",
        "state._view.ready == true",
        "has(actions.stoke_fire)",
        "actions.stoke_fire.enabled",
        'self == "agent-b"',
        'agents["agent-a"].waiting_on == null',
        # Numbers are friendly here, where the service's were all fractions.
        "state._shared.turn + 1 == 4 && state._shared.turn / 2 == 1",
    ):
        assert door.value("agent-b", expr) is True, expr
    # A missing key is an error that names it and the nearest one, and not a value that is true by accident.
    with refused("expression_failed", "state._shared.phase"):
        door.value("agent-b", "state._shared.phaze")


def test_a_role_is_what_an_agent_says_of_itself(door: Door, people: People) -> None:
    people.come_together("boss", "agent-b")
    opened = people.first.asks("session", "open", "--topic", "roles", "--as", "boss")
    people.others.asks("session", "join", opened["key"], "--role", "admin", "--as", "agent-b")
    assert door.value("agent-b", 'agents[self].role == "admin"') is True
    # So it guards nothing, unless the room's owner locks it.
    people.first.asks("role", "agent-b", "worker", "--lock", "--as", "boss")
    assert door.value("agent-b", 'agents[self].role == "admin"') is False


# -- timers, enabled -------------------------------------------------------------------------------------------


def test_a_fire_that_burns_out(door: Door, room: Room) -> None:
    room("agent-a")
    fire = {"key": "fire_lit", "value": True, "timer": {"ms": 60000, "effect": "delete"}}
    assert door.put("agent-a", fire) == 1
    door.renew("agent-a", {"scope": "_shared", "key": "fire_lit"})
    assert door.value("agent-a", "state._shared.fire_lit") is True
    # Writing the key again sets its timer anew. Renewing changes no version.
    assert door.put("agent-a", {**fire, "timer": {"ms": 50, "effect": "delete"}}) == 2
    door.wait("agent-a", "!has(state._shared.fire_lit)")
    with refused("no_such_key"):
        door.renew("agent-a", {"scope": "_shared", "key": "fire_lit"})


def test_a_compass_that_appears_after_three_turns(door: Door, room: Room) -> None:
    room("agent-a")
    compass = {"ticks": 3, "tick_on": "state._shared.turn", "effect": "enable"}
    door.put("agent-a", {"key": "compass", "value": True, "timer": compass})
    for turn in range(3):
        assert door.value("agent-a", "has(state._shared.compass)") is False
        # The same value ticks too.
        door.put("agent-a", {"key": "turn", "value": turn // 2})
    assert door.value("agent-a", "state._shared.compass") is True


def test_an_absolute_time(door: Door, room: Room) -> None:
    room("agent-a")
    tomorrow = door.value("agent-a", 'string(now + duration("24h"))')
    for key, at in (("past", "2026-03-01T00:00:00Z"), ("future", tomorrow)):
        door.put("agent-a", {"key": key, "value": 1, "timer": {"at": at, "effect": "enable"}})
    assert door.value("agent-a", "[has(state._shared.past), has(state._shared.future)]") == [True, False]


def test_a_market_that_opens_with_the_population(door: Door, room: Room) -> None:
    room("agent-a")
    door.put("agent-a", {"key": "market_open", "value": True, "enabled": "state._shared.population > 5"})
    for population, is_open in ((5, False), (6, True), (4, False)):
        door.put("agent-a", {"key": "population", "value": population})
        assert door.value("agent-a", "has(state._shared.market_open)") is is_open


def test_a_message_that_only_admins_see(door: Door, people: People) -> None:
    # In the guide the author is called system, which is nobody's name here.
    people.come_together("narrator", "agent-b", "player")
    debug = {"body": "debug info", "enabled": 'agents[self].role == "admin"'}
    assert door.post("narrator", debug) == 0
    assert door.messages("agent-b") == []
    people.first.asks("role", "agent-b", "admin", "--as", "narrator")
    assert until(lambda: door.messages("agent-b"), "message for the admins") == ["debug info"]
    assert door.messages("player") == []
    with refused("expression_invalid", "roles and self only"):
        door.post("narrator", {**debug, "enabled": "messages.count > 1"})


def test_messages_have_timers_like_all_resources(door: Door, room: Room) -> None:
    room("agent-a", "agent-b")
    before = door.value("agent-b", "messages.count")
    door.post("agent-a", {"body": "for a moment", "timer": {"ms": 50, "effect": "delete"}})
    turns = {"ticks": 2, "tick_on": "state._shared.turn", "effect": "enable"}
    assert door.post("agent-a", {"body": "after two turns", "timer": turns}) == 0
    assert door.post("agent-a", {"body": "on with it", "timer": {"ms": 50, "effect": "enable"}}) == 0
    door.wait("agent-b", f"messages.count >= {before + 2}")
    for turn in range(2):
        door.put("agent-a", {"key": "turn", "value": turn})
    door.wait("agent-b", f"messages.count >= {before + 3}")
    # A number stays a number: what was there before the reader came to it is told as gone, and its words are.
    seen = list[str]()

    def all_came() -> bool:
        seen.extend(door.messages("agent-b"))
        return "after two turns" in seen

    until(all_came, "messages that waited")
    assert "on with it" in seen
    assert "for a moment" not in seen


def test_a_task_is_work_while_it_is_there(door: Door, room: Room) -> None:
    room("coord", "worker-1")
    door.post("coord", {"kind": "task", "body": "mine the ore", "enabled": "state._shared.day == true"})
    assert door.unclaimed("worker-1") == []
    door.put("coord", {"key": "day", "value": True})
    assert until(lambda: door.unclaimed("worker-1"), "task of the day") == ["mine the ore"]
    door.put("coord", {"key": "day", "value": False})
    door.wait("worker-1", "messages.unclaimed == 0")


# -- actions ---------------------------------------------------------------------------------------------------


STOKE: Final[Body] = {
    "id": "stoke_fire",
    "if": "state._shared.wood > 0",
    "enabled": "has(state._shared.fire_lit)",
    "writes": [
        {"key": "wood", "value": -1, "increment": True},
        {"key": "fire_lit", "value": True, "timer": {"ms": 60000, "effect": "delete"}},
    ],
}


def test_an_action_is_registered_listed_and_invoked(door: Door, room: Room, people: People) -> None:
    room("agent-a", "player")
    door.register("agent-a", STOKE)
    assert door.actions("player") == {}
    # What is not there cannot be invoked. The guide has no answer for this.
    with refused("action_disabled", "has(state._shared.fire_lit)"):
        door.invoke("player", "stoke_fire")
    door.batch("player", {"writes": [{"key": "fire_lit", "value": True}, {"key": "wood", "value": 1}]})
    assert door.actions("player") == {"stoke_fire": True}
    assert door.invoke("player", "stoke_fire") == {"wood": 0, "fire_lit": True}
    # Visible and not available: the player sees what could be done.
    assert door.actions("player") == {"stoke_fire": False}
    with refused("precondition_failed"):
        door.invoke("player", "stoke_fire")

    # Invocations are logged as messages.
    def logged() -> int:
        return [message.kind for message in people.first.reads("agent-a")].count("action_invocation")

    assert until(logged, "log of the invocation") == 1


def test_a_scoped_action_carries_the_authority_of_its_registrar(door: Door, room: Room) -> None:
    room("narrator", "player")
    stoke = {
        "id": "stoke_fire",
        "scope": "narrator",
        "writes": [
            {"scope": "narrator", "key": "fire_lit", "value": True},
            {"key": "wood", "value": -1, "increment": True},
        ],
    }
    door.register("narrator", stoke)
    with refused("scope_denied"):
        door.put("player", {"scope": "narrator", "key": "fire_lit", "value": True})
    # The guide's invocation counts wood that nobody set: a counter begins at 0.
    assert door.invoke("player", "stoke_fire") == {"fire_lit": True, "wood": -1}
    assert door.value("player", "state.narrator.fire_lit") is True
    for change in (partial(door.register, "player", stoke), partial(door.unregister, "player", "stoke_fire")):
        with refused("action_owned" if change.func == door.unregister else "scope_denied"):
            change()
    # A shared action has no authority of its own: it writes where whoever invokes it may write.
    door.register("player", {**stoke, "id": "cheat", "scope": "_shared"})
    with refused("scope_denied", "narrator"):
        door.invoke("player", "cheat")
    assert door.invoke("narrator", "cheat") == {"fire_lit": True, "wood": -2}


def test_parameters_and_which_of_their_values_can_be_had(door: Door, room: Room) -> None:
    room("agent-a", "player")
    door.batch("agent-a", {"writes": [{"key": "wood", "value": 5}, {"key": "costs", "value": {"trap": 3, "hut": 9}}]})
    craft: Body = {
        "id": "craft",
        "params": {"item": {"type": "string", "enum": ["trap", "hut", "cart"]}},
        "if": "state._shared.wood >= 3",
        "writes": [
            {"key": "wood", "value": -3, "increment": True},
            {"key": "inventory_${params.item}", "value": 1, "increment": True},
        ],
    }
    door.register("agent-a", craft)
    assert door.invoke("player", "craft", item="trap") == {"wood": 2, "inventory_trap": 1}
    with refused("invalid_param", "trap", "hut", "cart"):
        door.invoke("player", "craft", item="boat")
    # A value that is an expression, and the availability of each value.
    by_cost = {
        **craft,
        "if": "state._shared.wood >= state._shared.costs[params.item]",
        "writes": [{"key": "wood", "value": "0 - state._shared.costs[params.item]", "expr": True, "increment": True}],
    }
    door.put("agent-a", {"key": "wood", "value": 5})
    door.register("agent-a", by_cost)
    assert door.by_param("player", "craft") == {"item": {"trap": True, "hut": False, "cart": False}}
    # The guide lists craft itself as available. Here that depends on a parameter without a default (`needs_params`).
    assert door.actions("player") == {"craft": False}
    assert door.invoke("player", "craft", item="trap") == {"wood": 2}


def test_a_cooldown(door: Door, room: Room) -> None:
    room("agent-a", "player")
    forage = {
        "id": "forage",
        "on_invoke": {"timer": {"ms": 10000, "effect": "enable"}},
        "writes": [{"key": "food", "value": 1, "increment": True}],
    }
    door.register("agent-a", forage)
    assert door.invoke("player", "forage") == {"food": 1}
    # The guide lets the action vanish while it is dormant. Here it stays listed, and says when it is there again.
    assert door.actions("player") == {"forage": False}
    with refused("action_cooldown", "available_at"):
        door.invoke("agent-a", "forage")
    door.register("agent-a", {**forage, "on_invoke": {"timer": {"ms": 50, "effect": "enable"}}, "reset_cooldown": True})
    door.invoke("player", "forage")
    door.wait("player", "actions.forage.available")
    assert door.invoke("player", "forage") == {"food": 3}


# -- work, views, presence, counters ---------------------------------------------------------------------------


def test_a_task_that_workers_race_for(door: Door, room: Room) -> None:
    room("coord", "worker-1", "worker-2")
    number = door.post("coord", {"kind": "task", "body": "analyze X"})
    assert door.unclaimed("worker-1") == door.unclaimed("worker-2") == ["analyze X"]
    door.claim("worker-1", number)
    with refused("already_claimed", "worker-1"):
        door.claim("worker-2", number)
    assert door.unclaimed("worker-2") == []
    door.post("worker-1", {"kind": "result", "reply_to": number, "body": "analysis: ..."})
    # The guide says no more of it. Here a result in reply to a claimed task ends the task.
    with refused("task_over"):
        door.claim("worker-2", number)
    assert door.value("coord", "messages.unclaimed") == 0


def test_a_task_that_nobody_claims_in_its_time(door: Door, room: Room) -> None:
    room("coord", "worker-1")
    urgent = {"kind": "task", "body": "urgent review", "timer": {"ms": 60000, "effect": "delete"}}
    assert door.unclaimed("worker-1") == []
    door.post("coord", urgent)
    number = door.post("coord", {**urgent, "body": "too late", "timer": {"ms": 50, "effect": "delete"}})
    # The guide waits on nothing for this. A wait on the count sees both the message and its end.
    door.wait("worker-1", "messages.unclaimed == 1")
    assert door.unclaimed("worker-1") == ["urgent review"]
    with refused("task_over"):
        door.claim("worker-1", number)


def test_a_view_is_waited_for_and_guards(door: Door, room: Room, people: People) -> None:
    # A relay is not told what an agent states of itself that is in a sealed room there, so these two never are.
    room("agent-c", "agent-d", clear=True)
    ready = 'agents["agent-c"].status == "active" && agents["agent-d"].status == "active"'
    door.put("agent-c", {"scope": "_view", "key": "all_ready", "expr": ready})
    door.wait("agent-d", "state._view.all_ready == true")
    door.put("agent-d", {"key": "phase", "value": "go", "if": "state._view.all_ready == true"})
    door.state_presence("agent-d", "busy")
    # Over a relay it takes a moment until others know.
    door.wait("agent-c", 'agents["agent-d"].status == "busy"')
    with refused("precondition_failed"):
        door.put("agent-c", {"key": "phase", "value": "on", "if": "state._view.all_ready == true"})
    with waiting(door, people, "agent-c", 'agents["agent-d"].status == "active"'):
        # A stated status is taken back with none. The guide writes another one.
        door.state_presence("agent-d", "none")
    # A view that cannot be found out is an error and opens nothing, where the service had a map that is true.
    door.put("agent-c", {"scope": "_view", "key": "broken", "expr": "state._shared.nothing == 1"})
    with refused("expression_failed"):
        door.put("agent-c", {"key": "phase", "value": "on", "if": "state._view.broken"})
    # Views support timer and enabled like all resources.
    timer = {"ms": 50, "effect": "delete"}
    door.put("agent-c", {"scope": "_view", "key": "brief", "expr": "true", "enabled": "true", "timer": timer})
    door.wait("agent-c", "!has(state._view.brief)")


def test_agents_observe_each_other(door: Door, room: Room, people: People) -> None:
    # A relay is not told what an agent states of itself that is in a sealed room there, so these two never are.
    room("agent-c", "agent-d", clear=True)
    door.put("agent-c", {"key": "phase", "value": "bidding"})
    condition = 'state._shared.phase == "scoring"'
    with waiting(door, people, "agent-d", condition):
        assert door.value("agent-c", 'agents["agent-d"].status') == "waiting"
        assert door.value("agent-c", 'agents["agent-d"].waiting_on') == condition
        door.put("agent-c", {"key": "phase", "value": "scoring"})
    # The earlier status comes back after the wait: the service set `active` whatever it had been.
    door.state_presence("agent-d", "busy")
    door.wait("agent-d", condition)
    door.wait("agent-c", 'agents["agent-d"].status == "busy"')


def test_a_counter_that_many_update(door: Door, room: Room) -> None:
    room("agent-a", "agent-b")
    for agent in ("agent-a", "agent-b", "agent-a"):
        door.put(agent, {"key": "tasks_done", "value": 1, "increment": True})
    assert door.value("agent-b", "state._shared.tasks_done") == 3


def test_an_expression_that_is_none_is_shown_with_its_place(door: Door, room: Room) -> None:
    room("agent-a")
    with refused("expression_invalid", "it ends too early"):
        door.value("agent-a", "1 +")
