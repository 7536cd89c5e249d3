"""Test the locks that a worker holds for its attempts, on a real etcd."""

from __future__ import annotations

import asyncio
import os

from taskd.dev.servers.etcd import EtcdServer
from taskd.domain.job import AttemptId
from taskd.worker.locks import AttemptLocks
from taskd.worker.pool.protocol import Answer, Denial, LockRelease, LockRequest
from tests.integration.etcd_world import coordinator, has_keys
from tests.servers import wait_until_async

FOLDER = "/taskd/locks/"


class LockBench:
    """Keeps the answers to attempts, and the locks that were lost."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.lost: list[tuple[AttemptId, str]] = []

    def tell(self, attempt_id: AttemptId, name: str) -> None:
        self.lost.append((attempt_id, name))

    async def answered(self, count: int) -> Answer:
        await wait_until_async(lambda: len(self.answers) == count)
        return self.answers[-1]


async def test_a_lock_ends_when_it_is_dropped_with_its_attempt_and_when_it_is_lost(private_etcd: EtcdServer) -> None:
    bench = LockBench()
    async with coordinator(private_etcd.endpoint) as one:
        locks = AttemptLocks(one, bench.tell, "w1")
        locks.take(LockRequest(1, 1, 1, "a"), bench.answers.append)
        first = await bench.answered(1)
        assert (first.number, first.denial) == (1, None)
        locks.take(LockRequest(2, 1, 1, "a", 0.1), bench.answers.append)
        assert (await bench.answered(2)).denial is Denial.TOO_LATE
        locks.take(LockRequest(2, 1, 2, "a"), bench.answers.append)
        locks.release(LockRelease(1, 1, 1))
        second = await bench.answered(3)
        assert second.fence > first.fence
        locks.take(LockRequest(3, 1, 1, "a"), bench.answers.append)
        locks.take(LockRequest(4, 1, 1, "a"), bench.answers.append)
        await has_keys(private_etcd.endpoint, FOLDER, 3)
        assert locks.waits == {3: "a", 4: "a"}
        holder = await one.holder("a")
        assert holder is not None
        assert (holder.job_id, holder.attempt, holder.worker_id, holder.pid) == (2, 1, "w1", os.getpid())
        assert await one.holder("free") is None
        locks.end(AttemptId(3, 1))  # it was still waiting
        await has_keys(private_etcd.endpoint, FOLDER, 2)
        locks.end(AttemptId(2, 1))
        assert (await bench.answered(4)).job_id == 4
        assert bench.lost == []
        assert locks.waits == {}

        private_etcd.suspend()
        await wait_until_async(lambda: bench.lost == [((4, 1), "a")])
        locks.take(LockRequest(5, 1, 1, "b"), bench.answers.append)
        assert (await bench.answered(5)).denial is Denial.NO_ETCD
        private_etcd.resume()
        await asyncio.sleep(0)
