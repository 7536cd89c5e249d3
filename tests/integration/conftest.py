"""Fixtures of several files: a store with a term and a session, and a file for the executors' stderr."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskd.domain.fencing import Session, Term
from taskd.store.migrations import apply_audit
from tests.integration.storage import Storage


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[Storage]:
    """Return a store on an empty database."""
    storage = Storage(postgres_dsn)
    yield storage
    await storage.close()


@pytest.fixture
async def audited_store(postgres_dsn: str) -> AsyncIterator[Storage]:
    """Return a store on an empty database with the audit's tables and triggers."""
    apply_audit(postgres_dsn)
    storage = Storage(postgres_dsn)
    yield storage
    await storage.close()


@pytest.fixture
async def term(store: Storage) -> Term:
    """Return the term of a leader of shard 0."""
    return await store.lead()


@pytest.fixture
async def session(store: Storage) -> Session:
    """Return the session of a worker."""
    return await store.work()


@pytest.fixture
def stderr(tmp_path: Path) -> Path:
    """Return the path of a file for the executors' stderr."""
    return tmp_path / "stderr"
