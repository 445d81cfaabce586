"""A load for a synapse hub, run by the Python of its own environment.

`peer_synapse_load.py PORT SENDERS SECONDS ROUNDS PAUSE_S TEXT` prints JSON. With ROUNDS it sends one message at a time,
with a pause before each, and measures the latency of each. With SECONDS it sends as many messages as the senders can,
and counts those that arrive.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from typing import Any

WARM = 20
PER_SECOND = 1_000
PATIENCE_S = 30.0


async def send(client: Any, count: int, text: str) -> None:
    """Send `count` messages as fast as the client takes them."""
    for _ in range(count):
        await client.chat(text, target="load/reader")


async def load(port: str, senders: int, seconds: int, rounds: int, pause_s: float, text: str) -> dict[str, Any]:
    """Run it."""
    agent: Any = importlib.import_module("synapse_channel.client.agent").SynapseAgent
    arrived = 0
    woken = asyncio.Event()

    async def on_message(message: dict[str, Any]) -> None:
        nonlocal arrived
        if message.get("type") == "chat":
            arrived += 1
            woken.set()

    async def ignore(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        clients = []
        for name, callback in (("reader", on_message), *((f"sender{number}", ignore) for number in range(senders))):
            client = agent(
                f"load/{name}", callback, uri=f"ws://127.0.0.1:{port}", verbose=False, machine_identity=False
            )
            clients.append((client, group.create_task(client.connect())))
            if not await client.wait_until_ready(10.0):
                raise RuntimeError("the hub did not welcome a client")
        froms = [client for client, _ in clients[1:]]
        latencies = []
        for round in range(rounds + WARM if rounds else 0):
            woken.clear()
            if pause_s:
                await asyncio.sleep(pause_s)
            begun = time.perf_counter()
            await froms[0].chat(text, target="load/reader")
            await woken.wait()
            if round >= WARM:
                latencies.append((time.perf_counter() - begun) * 1000)
        rate = 0.0
        if seconds:
            # One sender waits for each message to arrive, as Parler's client waits for each answer. Many senders send
            # as fast as they can.
            base, total, begun = arrived, PER_SECOND * seconds, time.perf_counter()
            if senders == 1:
                while time.perf_counter() < begun + seconds:
                    woken.clear()
                    await froms[0].chat(text, target="load/reader")
                    await asyncio.wait_for(woken.wait(), PATIENCE_S)
            else:
                async with asyncio.TaskGroup() as sending:
                    for client in froms:
                        sending.create_task(send(client, total // senders, text))
                while arrived - base < total // senders * senders:
                    woken.clear()
                    await asyncio.wait_for(woken.wait(), PATIENCE_S)
            rate = (arrived - base) / (time.perf_counter() - begun)
        for _, task in clients:
            task.cancel()
    return {"latencies_ms": latencies, "rate": rate}


if __name__ == "__main__":
    senders, seconds, rounds = map(int, sys.argv[2:5])
    print(json.dumps(asyncio.run(load(sys.argv[1], senders, seconds, rounds, float(sys.argv[5]), sys.argv[6]))))
