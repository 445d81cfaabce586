"""The numbers of agents: one each, whoever asks first, and only what was committed is remembered."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from parlerd.core.model import AgentId
from parlerd.store.postgres import PostgresStore
from parlerd.store.postgres import agents as module
from parlerd.store.postgres.agents import NOBODY, Agents
from parlerd.store.postgres.connections import Server
from tests.support.facts import ANN, BEN, ROOM, append, everything, message, opened
from tests.support.postgres import Database


def test_an_agent_has_no_number_until_a_row_needs_one_and_then_always_the_same(store: PostgresStore) -> None:
    assert store._agents.number(ANN) == NOBODY
    store.transact([[append(opened(), message(2))]])
    number = store._agents.number(ANN)
    assert number > NOBODY
    store.transact([[append(message(3), message(4, BEN))]])
    assert store._agents.number(ANN) == number != store._agents.number(BEN) > NOBODY


def test_a_number_that_was_not_committed_is_not_remembered(store: PostgresStore) -> None:
    with pytest.raises(ZeroDivisionError):
        store._writer.alone(lambda connection: store._agents.numbers(connection, [ANN])[ANN] // 0)
    assert store._agents.number(ANN) == NOBODY
    store.transact([[append(opened(), message(2))]])
    assert store.seq_at(ROOM, everything(ANN), message(2).header.position) == 1


def test_two_who_give_numbers_to_the_same_agents_at_once_give_the_same(prepared: Database) -> None:
    ids = [AgentId(f"U{number}") for number in range(200)]
    together, found = threading.Barrier(2), []

    def ask(order: list[AgentId]) -> None:
        with closing(Server(prepared.relay)) as server:
            connection = server.writer
            together.wait(60)
            with connection.transaction():
                found.append(Agents(server).numbers(connection, order))

    threads = [threading.Thread(target=ask, args=(order,)) for order in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found[0] == found[1]
    assert len(set(found[0].values())) == len(ids)


def test_what_is_remembered_is_bounded(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 2)
    for number in range(5):
        store._agents.remember({AgentId(f"U{number}"): number})
        assert len(store._agents._known) <= 2
