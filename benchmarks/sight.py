"""What it costs to watch the record of an agent host, and how soon a verdict comes.

A process of its own plays the host: ten lines of ten kilobytes a second, into one record. This process watches it as
the daemon does and measures its own processor time, as a share of a processor and for each line in checks of a
signature (V): while nothing is waited for, while an answer waits whose result does not come, and while one waits whose
result stands in the record, so that every line is decoded. The time to the verdict is from before the host's write of
the reply until whoever waits is told. Then: what the first and a later answer wait in a folder with many records.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from benchmarks import common
from parlerd.core.records import Chain, Kind, Record, Reply, Result, Test
from parlerd.core.sight import Found, expected, marker_of
from parlerd.sight.watching import HostSight

RECORD: Final = Record(
    versions=("1",),
    folders=("~/records",),
    files=("*/*.jsonl",),
    chain=Chain(id="id", parent="up"),
    results=(Result(name="result", has=(Test("type", ("result",)),), text="text"),),
    replies=(Reply(name="reply", has=(Test("type", ("reply",)),)),),
    harmless=(Kind(name="noise", has=(Test("type", ("noise",)),)),),
)
LINES_A_SECOND: Final = 10
LINE: Final = 10_000
HOST: Final = """
import json, sys, time
path, lines, rate, size = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
with open(path, "ab", buffering=0) as file:
    for number in range(lines):
        entry = {"type": "noise", "id": f"n{number}", "up": f"n{number - 1}", "text": "x" * size}
        file.write(json.dumps(entry).encode() + b"\\n")
        time.sleep(1 / rate)
"""


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, seconds=20, runs=50, files=10_000)
    report = common.Report("sight", given.place)
    yardstick = common.verification_ms(taken=common.cpu_milliseconds)
    with tempfile.TemporaryDirectory(dir=given.place) as made:
        folder = Path(made).resolve()

        async def play() -> None:
            sight = HostSight({"host": RECORD}, lambda *_: folder, {})
            async with trio.open_nursery() as nursery:
                await nursery.start(sight.run)
                scene = _Scene(sight, folder)
                for what, prepare in (
                    ("nothing is waited for", scene.rests),
                    ("an answer waits for its result", scene.waits),
                    ("an answer waits for its reply", scene.stands),
                ):
                    await _stream(report, scene, what, prepare, given.seconds, yardstick)
                await _verdicts(report, scene, given.runs)
                await _folder(report, scene, given.files)
                nursery.cancel_scope.cancel()

        trio.run(play)
    report.print()


class _Scene:
    """A folder of records, one of which a host writes."""

    def __init__(self, sight: HostSight, folder: Path) -> None:
        self.sight = sight
        self.folder = folder
        self.path = folder / "project" / "a.jsonl"
        self.path.parent.mkdir()
        self.path.write_bytes(b"")
        self.numbers = 0
        self.told = trio.Event()

    def tell(self, found: Found) -> None:
        del found
        self.told.set()

    async def answer(self) -> str:
        """An answer that waits; the text of its one message."""
        self.numbers += 1
        text = f"some words\n{marker_of(self.numbers.to_bytes(8, 'big'))}"
        self.told = trio.Event()
        watch = await self.sight.begin("host", "1", {}, "", self.tell)
        watch.expect([expected(text)])
        return text

    def write(self, **entry: object) -> None:
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps(entry).encode() + b"\n")

    async def rests(self) -> None:
        (await self.sight.begin("host", "1", {}, "", self.tell)).drop()

    async def waits(self) -> None:
        await self.answer()

    async def stands(self) -> None:
        self.write(type="result", id="r", text=await self.answer())


async def _stream(
    report: common.Report,
    scene: _Scene,
    what: str,
    prepare: Callable[[], Awaitable[None]],
    seconds: int,
    yardstick_ms: float,
) -> None:
    await prepare()
    await trio.sleep(1)
    lines = seconds * LINES_A_SECOND
    words = [sys.executable, "-c", HOST, str(scene.path), str(lines), str(LINES_A_SECOND), str(LINE)]
    began, busy = time.monotonic(), time.process_time()
    await trio.run_process(words, stdin=subprocess.DEVNULL)
    busy, took = time.process_time() - busy, time.monotonic() - began
    figure = f"share of a processor while a host streams and {what}"
    report.add(common.Figure(figure, "%", float(f"{100 * busy / took:.3g}"), 1, floor=1.0))
    figure = f"processor time for each line while a host streams and {what}"
    report.add(common.Figure(figure, "V", float(f"{1000 * busy / lines / yardstick_ms:.3g}"), 1))


async def _verdicts(report: common.Report, scene: _Scene, runs: int) -> None:
    found: list[float] = []
    for number in range(runs):
        scene.write(type="result", id=f"r{number}", text=await scene.answer())
        await trio.sleep(0.3)
        began = time.monotonic()
        scene.write(type="reply", id=f"b{number}", up=f"r{number}")
        await scene.told.wait()
        found.append(1000 * (time.monotonic() - began))
    report.add(common.spread("from the host's write of a reply to the verdict", "ms", found, floor=500.0))


async def _folder(report: common.Report, scene: _Scene, files: int) -> None:
    for number in range(files):
        (scene.folder / "project" / f"{number}.jsonl").write_bytes(b"x\n")
    sight = HostSight({"host": RECORD}, lambda *_: scene.folder, {})
    async with trio.open_nursery() as nursery:
        await nursery.start(sight.run)
        for what in ("the first answer", "a later answer"):
            began = time.monotonic()
            (await sight.begin("host", "1", {}, "", scene.tell)).drop()
            figure = f"what {what} waits in a folder with {files:,} records"
            report.add(common.Figure(figure, "ms", float(f"{1000 * (time.monotonic() - began):.3g}"), 1))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    main()
