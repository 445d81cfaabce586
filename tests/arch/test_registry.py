"""The registry of operations: complete in itself, and the engine runs exactly what it lists.

That commands and MCP tools are those of the registry is shown where they are made: tests/cli/test_main.py and
tests/operations/test_tools.py.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

import msgspec
import pytest
import trio

from parlerd.core import events
from parlerd.core.errors import ERRORS
from parlerd.engine.driver import InlineDriver
from parlerd.engine.engine import Engine, open_engine
from parlerd.engine.ports import SystemRandomness, WallClock
from parlerd.engine.shelf import InlineBlobs
from parlerd.identity.keyring import KeyRing
from parlerd.operations import entry, families, shared
from parlerd.operations import types as t
from parlerd.operations.registry import FAMILIES, OPERATIONS, operations_of
from parlerd.operations.tools import TOOLS
from parlerd.settings import Settings
from parlerd.store.memory import MemoryStore
from tests.support.memory_blobs import MemoryBlobs

ROOT: Final = Path(__file__).resolve().parents[2]
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def engine_handlers(keys: KeyRing) -> tuple[set[str], set[str]]:
    """What an engine runs: calls, and streams."""
    found: list[Engine] = []

    async def main() -> None:
        async with open_engine(
            driver=InlineDriver(MemoryStore()),
            blobs=InlineBlobs(MemoryBlobs()),
            clock=WallClock(),
            random=SystemRandomness(),
            keys=keys,
            signers=keys,
            settings=Settings(),
            user="somebody",
        ) as engine:
            found.append(engine)

    trio.run(main)
    return set(found[0].handlers), set(found[0].stream_handlers)


@pytest.fixture
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing(tmp_path_factory.mktemp("keys"))


def test_the_engine_runs_every_operation_and_no_other(keys: KeyRing) -> None:
    calls, streams = engine_handlers(keys)
    of_engine = {name for name, operation in OPERATIONS.items() if operation.plane not in t.ELSEWHERE}
    assert streams == {name for name in of_engine if OPERATIONS[name].stream}
    assert calls == of_engine - streams


@EVERY_OPERATION
def test_every_error_and_fact_of_an_operation_is_known(operation: t.Operation) -> None:
    assert set(operation.errors) <= set(ERRORS)
    assert set(operation.facts) <= set(events.CURRENT_V)


def test_two_operations_of_one_name_are_refused() -> None:
    send = OPERATIONS["message.send"]
    with pytest.raises(ValueError, match=r"message\.send"):
        operations_of((t.Family(operations=(send,)), t.Family(operations=(send,))))


def test_a_name_of_a_shape_means_one_shape() -> None:
    modules = [
        entry,
        shared,
        *(import_module(f"{families.__name__}.{info.name}") for info in iter_modules(families.__path__)),
    ]
    named = [
        name
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]
    assert sorted(named) == sorted(set(named))
    assert set(named) <= set(vars(t))


def test_every_family_is_composed() -> None:
    declared = [import_module(f"{families.__name__}.{info.name}").FAMILY for info in iter_modules(families.__path__)]
    assert sorted(map(id, FAMILIES)) == sorted(map(id, declared))


@EVERY_OPERATION
def test_the_answers_of_an_operation_are_valid_results_and_one_with_a_tool_has_some(operation: t.Operation) -> None:
    for answer in operation.answers:
        msgspec.convert(answer, operation.result)
    if operation.tool is not None:
        assert operation.answers


@EVERY_OPERATION
def test_the_example_of_an_operation_is_valid_parameters(operation: t.Operation) -> None:
    msgspec.convert(operation.example, operation.params)


@EVERY_OPERATION
def test_an_operation_that_needs_an_idempotency_key_takes_one_and_can_refuse_it(operation: t.Operation) -> None:
    takes = any(field.encode_name == "idempotency_key" for field in msgspec.structs.fields(operation.params))
    if operation.needs_idempotency_key:
        assert takes
        assert {"idempotency_conflict", "idempotency_expired"} <= set(operation.errors)


@EVERY_OPERATION
def test_an_operation_that_leaves_facts_is_no_read_and_can_fail_in_the_store(operation: t.Operation) -> None:
    # A wait that ends with the person's answer says which session the agent is in now, if nobody said so before.
    if set(operation.facts) - {"session_activated", "timer_fired"}:
        assert operation.effect != "read"
        assert "store_failed" in operation.every_error


@EVERY_OPERATION
def test_an_operation_that_waits_lets_its_caller_say_how_long(operation: t.Operation) -> None:
    names = {field.encode_name for field in msgspec.structs.fields(operation.params)}
    assert ("wait_ms" in names) is operation.waits


def test_what_belongs_to_the_person_has_a_command_and_no_tool() -> None:
    of_the_person = {name for name, operation in OPERATIONS.items() if operation.plane == "person"}
    assert of_the_person
    for name in of_the_person:
        assert OPERATIONS[name].command
        assert OPERATIONS[name].tool is None
    offered = {
        operation.name for tool in TOOLS.values() if tool.name != t.APPROVE for operation in tool.operations.values()
    }
    assert not offered & of_the_person


def test_every_fact_is_left_by_an_operation_or_by_what_happens_beside_all_operations() -> None:
    by_operations = {fact for operation in OPERATIONS.values() for fact in operation.facts}
    of_agents = {"conversation_bound", "delegation_issued"}
    of_mirrors = {"mirror_placed", "room_titled", "home_contradicted"}
    of_relays = {"person_enrolled", "person_kicked"}
    of_homes = {"message_released", "task_offered"}
    of_pages = {"watch_code_used"}
    assert set(events.CURRENT_V) - by_operations == of_agents | of_mirrors | of_relays | of_homes | of_pages


def test_every_code_is_one_that_something_can_give() -> None:
    """A code that nothing gives is a promise on the error page that nothing keeps."""
    sources = [
        path for package in ("parlerd", "mcp_server", "relay", "configs") for path in (ROOT / package).rglob("*.py")
    ]
    operations = ROOT / "parlerd" / "operations"
    declared = {ROOT / "parlerd" / "core" / "errors.py", *operations.rglob("*.py")} - {operations / "tools.py"}
    given = "\n".join(path.read_text(encoding="utf-8") for path in sources if path not in declared)
    assert [code for code in ERRORS if f'"{code}"' not in given] == []
