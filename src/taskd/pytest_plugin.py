"""Pytest plugin with the fixture `taskd_cluster`: a private cluster of real servers for tests (needs `taskd[dev]`).

pytest loads this module in every project that has taskd installed, so modules that take time to load are imported at their
first use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from taskd.dev.sandbox import Sandbox


@pytest.fixture(scope="session")
def _taskd_sandbox() -> Iterator[Sandbox]:
    """Start the servers for the tests of this session."""
    # Imported here: projects without such tests do without it.
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
    """A private taskd cluster: `.worker(app)` starts a worker, then `task.submit_sync(...)` and the other methods reach it.

    PostgreSQL, Redis, etcd and a scheduler are started once a session. Each test gets an empty cluster, with its address in
    TASKD_SERVER. The log lines of schedulers and workers during a test are shown if the test fails.
    """
    monkeypatch.setenv("TASKD_SERVER", _taskd_sandbox.url)
    monkeypatch.delenv("TASKD_TOKEN", raising=False)
    _taskd_sandbox.begin()
    _taskd_sandbox.said()
    yield _taskd_sandbox
    print(_taskd_sandbox.said(), end="")  # noqa: T201  pytest shows it with a failed test, and only then
    _taskd_sandbox.empty()
