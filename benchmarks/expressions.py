"""What the evaluation of an expression costs, in checks of a signature (V), in a room of 1,000 keys and 200 agents.

A gate that compares a key is what stands before a write, and a macro over all agents is the most that a usual condition
does. Both are measured in turn with V. Their context is looked up name by name, as that of a room. Growth shows that a
gate costs the same in a room of any size, and the last figures what an expression costs that is stopped at its bounds.
With --compare, the library that reads the text evaluates too, with the whole room as its context, as a program that
uses the library alone has to give it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from cel_expr_python import cel

from benchmarks import common
from parlerd.core.expressions import ABSENT, Absent, Branch, Spent, Value
from parlerd.core.gates import PlainContext, Program
from parlerd.expr import parse

GATE: Final = "a gate on one key, in a room of 1,000 keys and 200 agents"
MACRO: Final = "a macro over 200 agents"
EXPRESSIONS: Final = {
    GATE: 'state._shared.k5 == "planning"',
    "a gate on a view and a key": 'state._view.ready == true && state._shared.k5 == "planning"',
    MACRO: 'agents.all(a, agents[a].status == "active")',
}
FLOORS: Final = {GATE: 0.5, MACRO: 4.0}
"""In V. Source: performance spec."""
STOPPED: Final = {
    "macros in macros": "agents.all(a, agents.all(b, agents.all(c, true)))",
    "parts that are shared, compared": "[[1]]{0} == [[1]]{0}".format(".map(x, [x, x])" * 16),
    "a large body": f"agents.all(a, agents.all(b, {' && '.join(['!(size(a) < 0)'] * 11)}))",
}
_BATCH_MS: Final = 0.1
"""What is timed together: longer than the clock is exact, and shorter than the turns that others get."""


class Names(Branch):
    """A map that is looked up name by name."""

    __slots__ = ("_sorted", "_values")

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values
        self._sorted = sorted(values)

    def find(self, name: str) -> Value | Absent:
        return self._values.get(name, ABSENT)

    def names(self) -> Sequence[str]:
        return self._sorted

    def __len__(self) -> int:
        return len(self._values)


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=60, keys=1_000, agents=200)
    report = common.Report("expressions")
    state, agents = _room(given.keys, given.agents)
    context = _context(state, agents)
    library = cel.NewEnv()
    for figure, text in EXPRESSIONS.items():
        times = _in_v(partial(Program(parse(text, "gate")).evaluate, context), given.runs)
        report.add(common.spread(figure, "V", times, floor=FLOORS.get(figure)))
        if given.compare:
            compiled = library.compile(text, disable_check=True)
            times = _in_v(partial(compiled.eval, data={"state": state, "agents": agents}), given.runs)
            report.add(common.spread(figure, "V", times, who="cel-expr-python", note="evaluates without our bounds"))
    report.add(common.spread("reading a text", "V", _in_v(partial(parse, EXPRESSIONS[MACRO], "gate"), given.runs)))
    gate = Program(parse(EXPRESSIONS[GATE], "gate"))
    sizes = {}
    for keys in (10, 1_000, 10_000):
        times = _in_v(partial(gate.evaluate, _context(*_room(keys, given.agents))), given.runs)
        sizes[f"{keys:,}"] = float(f"{statistics.median(times):.3g}")
    report.growth.append({"what": "a gate on one key: V, by keys in the room", **sizes})
    for what, text in STOPPED.items():
        act = partial(_stopped, Program(parse(text, "gate")), context)
        report.add(common.spread(f"stopped at its bound: {what}", "V", _in_v(act, given.runs)))
    report.print()


def _room(keys: int, agents: int) -> tuple[dict[str, Value], dict[str, Value]]:
    shared: dict[str, Value] = {f"k{number}": "planning" for number in range(keys)}
    each: Value = {"status": "active", "role": "worker", "waiting_on": None}
    return {"_shared": shared, "_view": {"ready": True}}, {f"agent-{number:03}": each for number in range(agents)}


def _context(state: dict[str, Value], agents: dict[str, Value]) -> PlainContext:
    scopes: dict[str, Value] = {name: Names(scope) for name, scope in state.items() if isinstance(scope, dict)}
    return PlainContext({"state": Names(scopes), "agents": Names(agents), "self": "agent-000"})


def _in_v(act: Callable[[], object], runs: int) -> list[float]:
    """How long it takes each time, in signature checks of the same moment."""
    times = max(1, int(_BATCH_MS / max(common.milliseconds(act), common.milliseconds(act), 0.001)))

    def batch() -> None:
        for _ in range(times):
            act()

    return [common.milliseconds(batch) / times / common.verification_ms(10) for _ in range(runs)]


def _stopped(program: Program, context: PlainContext) -> None:
    try:
        program.evaluate(context)
    except Spent:
        return
    raise AssertionError(f"{program.expression.source} reached no bound")


if __name__ == "__main__":
    main()
