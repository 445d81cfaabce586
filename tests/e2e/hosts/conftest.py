"""What the tests with real agent hosts share, and the record of what they proved.

A test says with `@pytest.mark.proves(host, promise, ...)` what its success shows. With `PARLER_HOSTS_RECORD=FILE` the
run writes there which promises of which release held, for the table in docs/hosts.md: a promise holds when at least one
test that says so ran and none failed.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from docs.hosts import PROMISES
from tests.e2e.hosts.programs import PROGRAMS, version

_PASSED: Final = pytest.StashKey[dict[str, dict[str, bool]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "proves(host, *promises): what the success of this test shows of a real host")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    if report.skipped or (report.passed and report.when != "call"):
        return
    passed = item.config.stash.setdefault(_PASSED, {})
    for mark in item.iter_markers("proves"):
        host, *promises = mark.args
        for promise in promises:
            assert promise in PROMISES, promise
            passed.setdefault(host, {})[promise] = report.passed and passed.get(host, {}).get(promise, True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    file = os.environ.get("PARLER_HOSTS_RECORD")
    passed = session.config.stash.get(_PASSED, {})
    if not file or not passed:
        return
    names = {program.host or program.name: program.name for program in PROGRAMS}
    record = {
        "day": datetime.now(UTC).date().isoformat(),
        "system": f"{platform.system()} {platform.machine()}",
        "hosts": {
            host: {
                "version": version(names[host]),
                "proved": [promise for promise in PROMISES if held.get(promise)],
            }
            for host, held in sorted(passed.items())
        },
    }
    Path(file).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
