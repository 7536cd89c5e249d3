"""A pytest plugin: the fixture `taskd_cluster` gives tests a private cluster of real servers (needs `taskd[dev]`).

pytest loads this module in every project that has taskd installed, so it imports nothing that costs time before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from taskd.dev.sandbox import Sandbox


@pytest.fixture(scope="session")
def _taskd_sandbox() -> Iterator[Sandbox]:
    """The servers of this session."""
    # Here, so that projects without such tests do not pay for it.
    from taskd.domain.errors import TaskdError  # noqa: PLC0415

    try:
        from taskd.dev.sandbox import Sandbox  # noqa: PLC0415

        sandbox = Sandbox().__enter__()
    except (TaskdError, ImportError) as error:
        pytest.fail(
            f"taskd_cluster: {error} (it needs the servers of the extra: pip install 'taskd[dev]')", pytrace=False
        )
    try:
        yield sandbox
    finally:
        sandbox.__exit__()


@pytest.fixture
def taskd_cluster(_taskd_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A private taskd cluster: `.worker(app)` starts a worker, then `task.submit_sync(...)` and its like reach it.

    PostgreSQL, Redis, etcd and a scheduler are started once a session. Each test finds the cluster empty, with TASKD_SERVER set
    to it. What scheduler and workers log during a test is shown if the test fails.
    """
    monkeypatch.setenv("TASKD_SERVER", _taskd_sandbox.url)
    monkeypatch.delenv("TASKD_TOKEN", raising=False)
    _taskd_sandbox.begin()
    _taskd_sandbox.said()
    yield _taskd_sandbox
    print(_taskd_sandbox.said(), end="")  # noqa: T201  pytest shows it with a failed test, and only then
    _taskd_sandbox.empty()
