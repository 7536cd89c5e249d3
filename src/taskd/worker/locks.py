"""The named locks that running attempts hold: the worker's session with etcd holds them for its executors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from taskd.domain.errors import CoordinatorUnavailable
from taskd.domain.explain.situation import Holder
from taskd.runtime.log import logger
from taskd.seams import Coordinator
from taskd.worker.pool.protocol import Answer, Denial, LockRelease, LockRequest

#: Seconds between looks whether a lock can still be relied on.
EVERY = 0.25
#: The most locks that one attempt holds and waits for at once.
MOST = 1000

Key = tuple[int, int]
Reply = Callable[[Answer], None]


class AttemptLocks:
    """1. Waits for a lock and tells its fence. 2. Holds it until the attempt lets go of it or has ended. 3. Says if it is lost.

    Who holds a lock that was lost may still believe in it for a moment: the fence is for that.
    """

    def __init__(self, coordinator: Coordinator, lost: Callable[[Key, str], None], worker_id: str = "") -> None:
        self._coordinator = coordinator
        self._worker_id = worker_id
        self._waiting: dict[tuple[Key, int], str] = {}
        self._lost = lost
        self._holds: dict[Key, dict[int, asyncio.Task[None]]] = {}
        #: All that have not ended, also those that are letting go: the event loop itself holds them weakly.
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waits(self) -> dict[int, str]:
        """The locks that are waited for, by job."""
        return {job_id: name for ((job_id, _), _), name in self._waiting.items()}

    def take(self, wanted: LockRequest, reply: Reply) -> None:
        """An attempt wants a lock."""
        key = wanted.job_id, wanted.attempt
        holds = self._holds.setdefault(key, {})
        if wanted.number in holds or len(holds) >= MOST:
            text = f"the lock {wanted.name!r} is not asked for: an attempt has at most {MOST} locks, each with its own number"
            reply(Answer(*key, wanted.number, 0, Denial.NO_ETCD, text))
            return
        task = asyncio.create_task(self._hold(key, wanted, reply))
        holds[wanted.number] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def drop(self, unwanted: LockRelease) -> None:
        """An attempt lets go of a lock, or waits for it no longer."""
        hold = self._holds.get((unwanted.job_id, unwanted.attempt), {}).pop(unwanted.number, None)
        if hold is not None:
            hold.cancel()

    def end(self, key: Key) -> None:
        """The attempt's code has certainly stopped."""
        for hold in self._holds.pop(key, {}).values():
            hold.cancel()

    async def _hold(self, key: Key, wanted: LockRequest, reply: Reply) -> None:
        """Hold one lock until cancelled, or until it is lost."""

        def tell(fence: int = 0, trouble: Denial | None = None, text: str = "") -> None:
            reply(Answer(*key, wanted.number, fence, trouble, text))

        place = key, wanted.number
        self._waiting[place] = wanted.name
        holder = Holder(job_id=key[0], attempt=key[1], worker_id=self._worker_id)
        try:
            async with self._coordinator.lock(wanted.name, wanted.wait, holder) as hold:
                del self._waiting[place]
                tell(hold.fence)
                while hold.held:  # noqa: ASYNC110 - time itself may end it
                    await asyncio.sleep(EVERY)
                # Here and not below: to let go of it may fail, and takes time.
                logger().warning("stopping an attempt: its lock was lost", job=key[0], attempt=key[1], lock=wanted.name)
                self._lost(key, wanted.name)
        except TimeoutError:
            tell(trouble=Denial.TOO_LATE, text=f"the lock {wanted.name!r} was not free within {wanted.wait:g} s")
        except CoordinatorUnavailable as error:
            tell(trouble=Denial.NO_ETCD, text=f"the lock {wanted.name!r} cannot be had: {error}")
        finally:
            self._waiting.pop(place, None)
