"""The client of etcd: the only importer of gRPC and of etcd's generated messages.

Model: one channel per endpoint and one endpoint in use; every call has a deadline. A call that finds the endpoint
unreachable moves all later calls and the open watches to the next one. Watches are streams without a deadline, so the channel
pings: a silent server is noticed after about 10 s at the latest, and sooner when a call notices it first.

Limit: no passwords; etcd knows the client by a certificate, or trusts its network.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from operator import attrgetter
from typing import Any

# Child processes exec at once and never use gRPC, so its fork handlers would only warn. gRPC reads this when it is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Nor may it write to stderr by itself: failures come as errors.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from aetcd import rpc

from taskd.coordination.endpoints import Endpoint, Pems
from taskd.coordination.records import (
    EndpointStatus,
    EtcdRefused,
    HistoryGone,
    KeyValue,
    LeaseGone,
    Listing,
    WatchEvent,
    why,
)
from taskd.domain.errors import CoordinatorUnavailable

DEADLINE = 2.0

#: The four about pings go together: with fewer of them a waiting watch notices a hung server only after a minute or more.
OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The default backs off to two minutes: far too long after an outage.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)
#: A watch on a member that has lost its cluster must break instead of falling silent.
HAS_LEADER = (("hasleader", "true"),)

_Code = rpc.StatusCode
_UNREACHABLE = frozenset({_Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED, _Code.CANCELLED})


class EtcdClient:
    """Leases, keys and watches. Every method raises CoordinatorUnavailable when no endpoint answers in time."""

    def __init__(self, endpoints: list[Endpoint], pems: Pems | None = None) -> None:
        """`pems` are for the secure endpoints."""
        credentials = grpc.ssl_channel_credentials(*pems) if pems is not None else None
        self._servers = [_Server(endpoint, credentials) for endpoint in endpoints]
        self._current = 0
        self._streams: dict[Any, _Server] = {}
        self._renewals: Any = None

    async def close(self) -> None:
        """Close all channels. Waiting calls fail."""
        for server in self._servers:
            await server.channel.close()

    async def grant(self, ttl: int, timeout: float) -> tuple[int, int]:
        """Create a lease. Return its id, and the seconds that etcd gives it."""
        reply = await self._call("lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=ttl), timeout)
        return reply.ID, reply.TTL

    async def keep_alive(self, lease: int, timeout: float) -> int:
        """Renew a lease on the endpoint in use, in one attempt. Return its new seconds; 0 if it is gone.

        The stream stays open for the next renewal, since a new one costs etcd more than the renewal. A failure ends the stream,
        so an answer never belongs to an earlier request.
        """
        server, call = self._servers[self._current], self._renewals
        if call is None or self._streams.get(call) is not server:
            self._end_renewals()
            call = self._renewals = server.lease.LeaseKeepAlive()
            self._streams[call] = server
        answered = False
        try:
            async with asyncio.timeout(timeout):
                await call.write(rpc.LeaseKeepAliveRequest(ID=lease))
                reply = await call.read()
            answered = reply is not grpc.aio.EOF
        except TimeoutError:
            self._rotate(server)
            message = f"etcd at {server.endpoint} did not answer in time"
            raise CoordinatorUnavailable(message, outcome_unknown=True) from None
        except (grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError) as error:
            raise await self._broken(call, server, error) from None
        finally:
            if not answered:
                self._end_renewals()
        if not answered:
            raise await self._broken(call, server, None)
        return int(reply.TTL)

    def _end_renewals(self) -> None:
        call, self._renewals = self._renewals, None
        if call is not None:
            self._streams.pop(call, None)
            call.cancel()

    async def revoke(self, lease: int, timeout: float) -> None:
        """End a lease; all its keys vanish. Does nothing if it is gone already."""
        try:
            await self._call("lease.LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease), timeout)
        except LeaseGone:
            return

    async def create(self, key: str, value: bytes, lease: int = 0) -> KeyValue:
        """Put a key that must not exist yet; return the key that is there. Repeating it is harmless. Raises LeaseGone."""
        name = raw(key)
        request = rpc.TxnRequest(
            compare=[_created(name, 0)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=name, value=value, lease=lease))],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=name))],
        )
        reply = await self._call("kv.Txn", request)
        if reply.succeeded:
            return KeyValue(key, value, reply.header.revision, reply.header.revision, lease)
        return _key_value(reply.responses[0].response_range.kvs[0])

    async def update(self, key: str, value: bytes, lease: int, create_revision: int) -> bool:
        """Change a key's value if it is still the key that was created at that revision. Raises LeaseGone."""
        name = raw(key)
        put = rpc.PutRequest(key=name, value=value, lease=lease)
        request = rpc.TxnRequest(
            compare=[_created(name, create_revision)], success=[rpc.RequestOp(request_put=put)], failure=[]
        )
        return bool((await self._call("kv.Txn", request)).succeeded)

    async def replace(self, standing: KeyValue, value: bytes) -> None:
        """Change the value of a key unless the key was changed since `standing` was read."""
        name = raw(standing.key)
        unchanged = rpc.Compare(
            key=name, target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=standing.mod_revision
        )
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=name, value=value))
        await self._call("kv.Txn", rpc.TxnRequest(compare=[unchanged], success=[put], failure=[]))

    async def put(self, key: str, value: bytes) -> None:
        """Put a key without a lease, whatever is there."""
        await self._call("kv.Put", rpc.PutRequest(key=raw(key), value=value))

    async def delete(self, key: str) -> None:
        """Delete a key, if it is there. Nothing is compared: keys are never used twice (see keys.py)."""
        await self._call("kv.DeleteRange", rpc.DeleteRangeRequest(key=raw(key)))

    async def listing(self, prefix: str, revision: int = 0) -> Listing:
        """Return the keys under a prefix, now or at an earlier revision. Raises HistoryGone if etcd lacks that revision."""
        start, end = _span(prefix)
        reply = await self._call("kv.Range", rpc.RangeRequest(key=start, range_end=end, revision=revision))
        return Listing(reply.header.revision, [_key_value(kv) for kv in reply.kvs])

    async def oldest(self, folder: str) -> KeyValue | None:
        """Return the oldest key of a folder, or None."""
        start, end = _span(folder)
        request = rpc.RangeRequest(
            key=start, range_end=end, sort_target=rpc.RangeRequest.CREATE, sort_order=rpc.RangeRequest.ASCEND, limit=1
        )
        reply = await self._call("kv.Range", request)
        return _key_value(reply.kvs[0]) if reply.kvs else None

    async def queue(self, folder: str, own: KeyValue) -> tuple[int, KeyValue | None, bool]:
        """For a key that waits in a folder, return the revision, the next older key, and True if the key still exists."""
        start, end = _span(folder)
        older = rpc.RangeRequest(
            key=start,
            range_end=end,
            max_create_revision=own.create_revision - 1,
            sort_target=rpc.RangeRequest.CREATE,
            sort_order=rpc.RangeRequest.DESCEND,
            limit=1,
        )
        request = rpc.TxnRequest(
            compare=[_created(raw(own.key), own.create_revision)],
            success=[rpc.RequestOp(request_range=older)],
            failure=[],
        )
        reply = await self._call("kv.Txn", request)
        kvs = reply.responses[0].response_range.kvs if reply.succeeded else []
        return reply.header.revision, _key_value(kvs[0]) if kvs else None, bool(reply.succeeded)

    async def status(self) -> EndpointStatus:
        """Return the status of the endpoint in use, with the alarms of its cluster."""
        reply = await self._call("maintenance.Status", rpc.StatusRequest())
        request = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
        alarms = await self._call("maintenance.Alarm", request)
        return EndpointStatus(
            endpoint=self._servers[self._current].endpoint,
            version=reply.version,
            size=reply.dbSize,
            has_leader=reply.leader != 0,
            errors=list(reply.errors),
            alarms=[rpc.AlarmType.Name(member.alarm) for member in alarms.alarms],
        )

    async def watch(self, key: str, start: int, *, prefix: bool = True) -> AsyncGenerator[list[WatchEvent], None]:
        """Yield the changes from revision `start` on, one etcd response at a time, until the stream breaks.

        The first item is empty: the watch is open. Resume after the last event's mod_revision, never after a
        part of a response. Raises HistoryGone if `start` was compacted.
        """
        first, last = _span(key) if prefix else (raw(key), b"")
        server = self._servers[self._current]
        call = server.watch.Watch(metadata=HAS_LEADER)
        self._streams[call] = server
        created = rpc.WatchCreateRequest(key=first, range_end=last, start_revision=start)
        try:
            async with asyncio.timeout(DEADLINE):
                await call.write(rpc.WatchRequest(create_request=created))
                reply = await call.read()
            while True:
                yield self._events(reply)
                reply = await call.read()
        except TimeoutError:
            self._rotate(server)
            raise CoordinatorUnavailable(f"etcd at {server.endpoint} did not start a watch in {DEADLINE:g} s") from None
        except (grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError) as error:
            raise await self._broken(call, server, error) from None
        finally:
            del self._streams[call]
            call.cancel()

    def _events(self, reply: Any) -> list[WatchEvent]:
        if reply is grpc.aio.EOF:
            raise CoordinatorUnavailable("etcd ended a watch")
        if reply.canceled:  # before `created`: a refused watch sets both
            if reply.compact_revision:
                raise HistoryGone(f"compacted up to revision {reply.compact_revision}")
            raise CoordinatorUnavailable(f"etcd cancelled a watch: {reply.cancel_reason}")
        return [WatchEvent(event.type == rpc.Event.DELETE, _key_value(event.kv)) for event in reply.events]

    async def _call(self, method: str, request: Any, timeout: float = DEADLINE) -> Any:
        """Call a method, once on each endpoint until one answers; `timeout` is for each attempt."""
        invoke, failure = attrgetter(method), None
        for _ in self._servers:
            server = self._servers[self._current]
            try:
                return await invoke(server)(request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                failure = _translate(error, server)
                if error.code() not in _UNREACHABLE:
                    break
                self._rotate(server)
        assert failure is not None
        raise failure

    async def _broken(self, call: Any, server: _Server, error: BaseException | None) -> BaseException:
        """Return the error to raise for a broken stream. A CancelledError is the task's own, or comes from `_rotate`."""
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            return error
        if not isinstance(error, grpc.aio.AioRpcError):
            call.cancel()
            return CoordinatorUnavailable(f"etcd at {server.endpoint}: the stream ended")
        if error.code() in _UNREACHABLE:
            self._rotate(server)
        return _translate(error, server)

    def _rotate(self, failed: _Server) -> None:
        """Leave an endpoint, together with the watches on it. Several calls that fail at once rotate once."""
        if self._servers[self._current] is failed:
            self._current = (self._current + 1) % len(self._servers)
        for call, server in self._streams.items():
            if server is failed:
                call.cancel()


class _Server:
    """One endpoint: its channel and its services."""

    def __init__(self, endpoint: Endpoint, credentials: grpc.ChannelCredentials | None) -> None:
        self.endpoint = endpoint.address
        self.secure = endpoint.secure
        if endpoint.secure:
            self.channel = grpc.aio.secure_channel(endpoint.address, credentials, options=OPTIONS)
        else:
            self.channel = grpc.aio.insecure_channel(endpoint.address, options=OPTIONS)
        self.kv = rpc.KVStub(self.channel)
        self.lease = rpc.LeaseStub(self.channel)
        self.watch = rpc.WatchStub(self.channel)
        self.maintenance = rpc.MaintenanceStub(self.channel)


def raw(key: str) -> bytes:
    """Return a key as etcd's bytes: the inverse of the decoding in `KeyValue`."""
    return key.encode("utf-8", "surrogateescape")


def _created(key: bytes, revision: int) -> Any:
    """Return the condition that a key was created at `revision`; 0: that it does not exist."""
    return rpc.Compare(key=key, target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=revision)


def _span(prefix: str) -> tuple[bytes, bytes]:
    """Return the range of the keys that start with `prefix`, which ends with a slash, so that its last byte can be raised."""
    start = raw(prefix)
    return start, start[:-1] + bytes([start[-1] + 1])


def _key_value(kv: Any) -> KeyValue:
    return KeyValue(kv.key.decode("utf-8", "surrogateescape"), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


def _translate(error: grpc.aio.AioRpcError, server: _Server) -> Exception:
    endpoint = server.endpoint
    code, details = error.code(), error.details() or ""
    if code == _Code.NOT_FOUND and "lease not found" in details:
        return LeaseGone(details)
    if code == _Code.OUT_OF_RANGE:
        return HistoryGone(details)
    if code == _Code.DEADLINE_EXCEEDED:
        return CoordinatorUnavailable(f"etcd at {endpoint} did not answer in time", outcome_unknown=True)
    if code in _UNREACHABLE:
        return CoordinatorUnavailable(f"etcd at {endpoint} {why(details, secure=server.secure)}", outcome_unknown=True)
    if "user name is empty" in details or "invalid auth token" in details or "permission denied" in details:
        return EtcdRefused(
            f"etcd at {endpoint} asks for a user with rights ({details}): grant them to taskd's client certificate"
        )
    return EtcdRefused(f"etcd at {endpoint} refuses: {details}")
