"""The named locks of running attempts. The worker's session with etcd holds them for its executors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from taskd.domain.errors import CoordinatorUnavailable
from taskd.domain.explain.situation import Holder
from taskd.domain.job import AttemptId
from taskd.runtime.log import logger
from taskd.seams import Coordinator
from taskd.worker.pool.protocol import Answer, Denial, LockRelease, LockRequest

#: Seconds between checks that a lock is still held.
EVERY = 0.25
#: The most locks that one attempt holds and waits for at once.
MAX_LOCKS = 1000

Reply = Callable[[Answer], None]


class AttemptLocks:
    """1. Waits for a lock and answers with its fence. 2. Holds it until the attempt releases it or has ended. 3. Reports a lock
    that is lost.

    An attempt may rely on a lost lock for a moment more. The fence is for that.
    """

    def __init__(
        self, coordinator: Coordinator, on_lost: Callable[[AttemptId, str], None], worker_id: str = ""
    ) -> None:
        self._coordinator = coordinator
        self._worker_id = worker_id
        #: By attempt and number of the request: the lock's name.
        self._waiting: dict[tuple[AttemptId, int], str] = {}
        self._on_lost = on_lost
        self._holds: dict[AttemptId, dict[int, asyncio.Task[None]]] = {}
        #: All tasks that have not ended, also those that release a lock: the event loop itself holds them weakly.
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waits(self) -> dict[int, str]:
        """The locks that attempts wait for, by job."""
        return {attempt_id.job_id: name for (attempt_id, _), name in self._waiting.items()}

    def take(self, request: LockRequest, reply: Reply) -> None:
        """Take a lock for an attempt, and hold it. `reply` gets the answer."""
        attempt_id = request.attempt_id
        holds = self._holds.setdefault(attempt_id, {})
        if request.number in holds or len(holds) >= MAX_LOCKS:
            text = f"the lock {request.name!r} is denied: an attempt has at most {MAX_LOCKS} locks, each with its own number"
            reply(Answer(*attempt_id, request.number, 0, Denial.NO_ETCD, text))
            return
        task = asyncio.create_task(self._hold(attempt_id, request, reply))
        holds[request.number] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def release(self, release: LockRelease) -> None:
        """Release a lock of an attempt, or end its wait for it."""
        hold = self._holds.get(release.attempt_id, {}).pop(release.number, None)
        if hold is not None:
            hold.cancel()

    def end(self, attempt_id: AttemptId) -> None:
        """Release all locks of an attempt whose code has certainly stopped."""
        for hold in self._holds.pop(attempt_id, {}).values():
            hold.cancel()

    async def _hold(self, attempt_id: AttemptId, request: LockRequest, reply: Reply) -> None:
        """Hold one lock until cancelled, or until it is lost."""

        def answer(fence: int = 0, denial: Denial | None = None, text: str = "") -> None:
            reply(Answer(*attempt_id, request.number, fence, denial, text))

        waiting = attempt_id, request.number
        self._waiting[waiting] = request.name
        job_id, attempt = attempt_id
        holder = Holder(job_id=job_id, attempt=attempt, worker_id=self._worker_id)
        try:
            async with self._coordinator.lock(request.name, request.wait, holder) as hold:
                del self._waiting[waiting]
                answer(hold.fence)
                while hold.held:  # noqa: ASYNC110 - the passing of time may end it
                    await asyncio.sleep(EVERY)
                # Before the release, which takes time and may fail.
                logger().warning(
                    "stopping an attempt: its lock was lost", job=job_id, attempt=attempt, lock=request.name
                )
                self._on_lost(attempt_id, request.name)
        except TimeoutError:
            answer(denial=Denial.TOO_LATE, text=f"the lock {request.name!r} was not free within {request.wait:g} s")
        except CoordinatorUnavailable as error:
            answer(denial=Denial.NO_ETCD, text=f"the lock {request.name!r} cannot be had: {error}")
        finally:
            self._waiting.pop(waiting, None)
