"""Open-loop load: a client that repeats a submit under the same key until its outcome is known, and records each step.

Open loop means that jobs arrive at their rate whatever the cluster does; jobs that cannot be sent yet wait here. The steps
(invoke, ok, fail, unknown) go to `clients.ndjson`, as in etcd's robustness tests and Jepsen. The checker holds the cluster to
the promises in that file, and to nothing else.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec

from taskd.torture.workload import TrafficPlan, Workload

#: The default number of concurrent requests.
CONNECTIONS = 32
#: Seconds that a request may take: longer than a scheduler may take to respond.
REQUEST = 6.0
#: Seconds between two tries of the same submit.
AGAIN = (0.1, 0.5)
#: Seconds that the last submits may take when the load ends.
LAST = 30.0

ACCEPTED = (200, 201)


class Traffic:
    """Submits jobs of a mix at `rate` per second, from its own thread. The figures may be read at any time.

    The jobs go to the `queues` in turn. At most `connections` requests are under way. There must be more of them than jobs
    arrive while one request times out at a frozen scheduler; otherwise the load itself would stop.
    """

    def __init__(
        self,
        urls: Sequence[str],
        log: Path,
        *,
        rate: float,
        mix: Workload,
        seed: int,
        queues: Sequence[str] = ("default",),
        connections: int = CONNECTIONS,
    ) -> None:
        self.urls = list(urls)
        self.rate = rate
        self._clients: list[httpx.AsyncClient] = []
        self._random = random.Random(seed)  # noqa: S311  a seed that repeats the load is what is wanted
        self._plans = mix.plans(self._random)
        self._log = log.open("ab")
        self._queues = queues
        self._connections = connections
        self._encoder = msgspec.json.Encoder()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._slots = asyncio.Semaphore(connections)
        self._patience = LAST
        #: The id of each key that was accepted.
        self.accepted: dict[str, int] = {}
        self.invoked = 0
        #: The number of responses by status; 0 stands for no response.
        self.answers: Counter[int] = Counter()
        #: (Unix time, status, seconds) of each response to a submit.
        self.latencies: list[tuple[float, int, float]] = []

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def remix(self, mix: Workload) -> None:
        """Submit jobs of this mix from now on."""
        self._plans = mix.plans(self._random)

    def stop(self, patience: float = LAST) -> None:
        """Submit nothing new, and return when every submit is decided, or after `patience` seconds."""
        self.begin_stop(patience)
        self._thread.join(patience + 2 * REQUEST)
        self._log.close()

    def begin_stop(self, patience: float = LAST) -> None:
        """Begin to stop. After `patience` seconds at most, `over` is true."""
        self._patience = patience
        self._stop.set()

    @property
    def thread(self) -> int | None:
        """The system's number of the thread, with which its priority can be changed."""
        return self._thread.native_id

    @property
    def over(self) -> bool:
        """True when every submit is decided or given up."""
        return not self._thread.is_alive()

    # ------------------------------------------------------------ the thread

    async def _run(self) -> None:
        # One client for each scheduler: httpx's work for a request grows with the connections of its pool. A pool full of
        # requests to a frozen scheduler would delay the requests to the others, and in the end all of them.
        share = max(1, self._connections // len(self.urls))
        limits = httpx.Limits(max_connections=share, max_keepalive_connections=min(share, CONNECTIONS))
        token = os.environ.get("TASKD_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with AsyncExitStack() as stack:
            for url in self.urls:
                client = httpx.AsyncClient(base_url=url, timeout=REQUEST, limits=limits, headers=headers)
                self._clients.append(await stack.enter_async_context(client))
            submits: set[asyncio.Task[None]] = set()
            begun, due = time.monotonic(), 0.0
            for number in count():
                due += 1.0 / self.rate
                if await self._stopped_within(begun + due - time.monotonic()):
                    break
                submits |= self._begin(number, next(self._plans))
                submits -= {task for task in submits if task.done()}
            await self._finish(submits)

    async def _stopped_within(self, seconds: float) -> bool:
        """Wait `seconds`, or until a stop is requested. Return True if it was."""
        end = time.monotonic() + seconds
        for _ in count():
            left = end - time.monotonic()
            if self._stop.is_set() or left <= 0:
                break
            await asyncio.sleep(min(left, 0.1))
        return self._stop.is_set()

    def _begin(self, number: int, plan: TrafficPlan) -> set[asyncio.Task[None]]:
        self.invoked += 1
        queue = self._queues[number % len(self._queues)]
        return {
            asyncio.create_task(self._submit(number + twin, f"torture-{number}", queue, plan))
            for twin in range(plan.twins)
        }

    async def _finish(self, submits: set[asyncio.Task[None]]) -> None:
        if submits:
            _, late = await asyncio.wait(submits, timeout=self._patience)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _submit(self, turn: int, key: str, queue: str, plan: TrafficPlan) -> None:
        fields = {"task": plan.task, "payload": plan.payload, "dedupe_key": key}
        body = self._encoder.encode({"queue": queue, **plan.fields, **fields})
        tried = False
        while True:
            client = self._clients[turn % len(self._clients)]
            async with self._slots:
                if self._stop.is_set() and not tried:
                    return  # it was never sent, so no promise exists
                tried = True
                self._record("invoke", key, task=plan.task, kind=plan.kind)
                job = await self._post(client, key, body)
            if job is not None:
                break
            turn += 1
            await asyncio.sleep(self._random.uniform(*AGAIN))
        if job and plan.cancel_after is not None:
            await asyncio.sleep(plan.cancel_after)
            await self._cancel(turn, key, job)

    async def _post(self, client: httpx.AsyncClient, key: str, body: bytes) -> int | None:
        """Return the job's id; 0 if it will never be accepted; None if the submit must be repeated."""
        began = time.monotonic()
        try:
            response = await client.post("/jobs", content=body, headers={"Content-Type": "application/json"})
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            self._answered(0, began)
            self._record("fail", key, status=0, detail=type(error).__name__)
            return None
        except httpx.HTTPError as error:
            self._answered(0, began)
            self._record("unknown", key, reason=type(error).__name__)
            return None
        self._answered(response.status_code, began)
        document = response.json()
        if response.status_code in ACCEPTED:
            job = int(document["id"])
            self.accepted[key] = job
            self._record("ok", key, id=job, duplicate=bool(document.get("duplicate", False)))
            return job
        if response.status_code >= 500:
            op = "unknown" if document.get("outcome_unknown", response.status_code != 503) else "fail"
            self._record(op, key, status=response.status_code, reason=str(document.get("detail")))
            return None
        self._record("fail", key, status=response.status_code, detail=str(document.get("detail")))
        return 0

    async def _cancel(self, turn: int, key: str, job: int) -> None:
        for tries in count(turn):
            try:
                async with self._slots:
                    self._record("cancel", key, id=job)
                    response = await self._clients[tries % len(self._clients)].post(f"/jobs/{job}/cancel")
            except httpx.HTTPError:
                self._record("cancel_unknown", key, id=job)
            else:
                if response.status_code in (200, 409):
                    op = "cancel_ok" if response.status_code == 200 else "cancel_late"
                    document = response.json()
                    self._record(op, key, id=job, status=str(document.get("job_status", document.get("status"))))
                    return
                self._record("cancel_unknown", key, id=job)
            await asyncio.sleep(self._random.uniform(*AGAIN))

    def _answered(self, status: int, began: float) -> None:
        self.answers[status] += 1
        self.latencies.append((time.time(), status, time.monotonic() - began))

    def _record(self, op: str, key: str, **fields: Any) -> None:
        self._log.write(self._encoder.encode({"at": time.time(), "op": op, "key": key, **fields}) + b"\n")
        self._log.flush()
