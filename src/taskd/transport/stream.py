"""Implements `taskd.seams.Transport` on Redis Streams, each operation one round trip for a whole batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from redis.exceptions import ResponseError

from taskd.domain.band import BANDS, Band, band_of
from taskd.domain.errors import TransportUnavailable
from taskd.domain.explain.situation import EntryLocation
from taskd.domain.fencing import Delivery, Dispatch
from taskd.runtime.discards import discard, shown
from taskd.runtime.log import logger
from taskd.seams import LeaderView
from taskd.settings import RedisSettings
from taskd.transport.connection import connect, translated
from taskd.transport.keys import RedisKeys
from taskd.transport.wire import (
    MAX_MESSAGE,
    MAX_VIEW,
    decode,
    decode_found,
    decode_ids,
    decode_view,
    encode,
    encode_ids,
    is_incarnation,
)

T = TypeVar("T")

#: The longest wait of one fetch, in seconds: a worker that is asked to stop waits no longer than this.
BLOCK = 1.0
#: Seconds of silence after which a consumer that holds nothing is forgotten. A live worker reads every second.
SILENCE = 3600.0
#: The most entries of a stream that are searched for one. Credit keeps streams shorter.
LOOK = 20_000
#: Redis's error for a command on a key of another type.
WRONG_TYPE = "WRONGTYPE"
#: The advice about a key of another type.
REMEDY = "delete it (DEL): its queue waits until then"


def _lua(name: str) -> str:
    folder = files("taskd.transport") / "lua"
    return "".join((folder / f"{part}.lua").read_text("utf-8") for part in ("common", name))


class RedisTransport:
    """Implements `taskd.seams.Transport`; `consumer` is the worker's id (schedulers need none)."""

    def __init__(self, settings: RedisSettings, *, consumer: str = "") -> None:
        self._settings = settings
        self._keys = RedisKeys(settings.stream)
        self._group = settings.group
        self._consumer = consumer
        self._client = connect(settings, deadline=settings.deadline)
        # A blocking read may be silent for BLOCK seconds, so its connection has a longer deadline.
        self._blocking = connect(settings, deadline=settings.deadline + BLOCK)
        self._scripts: dict[str, Any] = {}
        #: Streams that could not be used at the last look, since their keys have another type.
        self._spoilt: set[str] = set()
        self._swept = False

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        await self._blocking.aclose()

    async def ping(self) -> None:
        """Return if Redis answers and accepts writes. A server that is out of memory answers a PING, too."""
        async with translated("probe"):
            await self._client.set(self._keys.probe, "", px=60_000)

    async def policy(self) -> str:
        """Return the server's maxmemory-policy; any but `noeviction` may delete entries. Empty if this user may not ask."""
        async with translated("config get"):
            try:
                return str((await self._client.config_get("maxmemory-policy")).get("maxmemory-policy", ""))
            except ResponseError:
                return ""

    # ------------------------------------------------------------ the leader's side

    async def ring(self, dispatches: Sequence[Dispatch]) -> None:
        streams: dict[str, int] = {}
        places: dict[tuple[str, int], int] = {}
        arguments: list[str | int] = []
        for dispatch in dispatches:
            place = places.get((dispatch.queue, dispatch.priority))
            if place is None:
                key = self._keys.stream(dispatch.queue, band_of(dispatch.priority))
                place = places[dispatch.queue, dispatch.priority] = streams.setdefault(key, len(streams) + 1)
            arguments += (place, encode(dispatch.job_id, dispatch.seq))
        await self._run("ring", list(streams), arguments)

    async def depths(self, queues: Collection[str]) -> dict[tuple[str, Band], int]:
        places = [(queue, band) for queue in queues for band in BANDS]
        keys = [self._keys.stream(queue, band) for queue, band in places]
        async with translated("xlen"):
            async with self._client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.xlen(key)
                lengths = await pipe.execute(raise_on_error=False)
            spoilt = {key for key, length in zip(keys, lengths, strict=True) if _is_wrong_type(length)}
            for length in lengths:
                if isinstance(length, Exception) and not _is_wrong_type(length):
                    raise length
        self._report_spoilt(spoilt)
        unusable = {queue for (queue, _), key in zip(places, keys, strict=True) if key in spoilt}
        return {place: length for place, length in zip(places, lengths, strict=True) if place[0] not in unusable}

    async def missing(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        streams = {self._keys.stream(d.queue, band_of(d.priority)) for d in dispatches}
        values, repaired = await self._run("survey", sorted(streams), [self._group])
        for key in repaired:
            discard("redis", "a group that stands beyond the end of its stream", key)
        alive = set(values)
        return [d for d in dispatches if encode(d.job_id, d.seq) not in alive]

    async def locate(self, dispatch: Dispatch) -> EntryLocation:
        band = band_of(dispatch.priority)
        streams = [self._keys.stream(dispatch.queue, other) for other in BANDS if other.low >= band.low]
        location = await self._run("locate", streams, [self._group, encode(dispatch.job_id, dispatch.seq), LOOK])
        match location:
            case ["held", consumer, idle]:
                return EntryLocation(worker_id=shown(consumer), idle=int(idle) / 1000)
            case ["waiting", ahead]:
                return EntryLocation(ahead=max(0, int(ahead)))
        return EntryLocation(gone=True)

    async def incarnation(self) -> str:
        name, replaced = await self._run("incarnation", [self._keys.incarnation], [fresh := str(uuid4())])
        if replaced or not is_incarnation(name):
            discard("redis", "a value that is no incarnation", self._keys.incarnation)
        return name if is_incarnation(name) else fresh

    async def wake(self) -> None:
        async with translated("wake"):
            await self._client.publish(self._keys.wake, "")

    async def wakes(self) -> AsyncIterator[None]:
        async for _ in self._messages(self._keys.wake):
            yield None

    async def tell_cancelled(self, job_ids: Collection[int]) -> None:
        async with translated("cancel"):
            for message in encode_ids(job_ids):
                await self._client.publish(self._keys.cancel, message)

    async def cancellations(self) -> AsyncIterator[frozenset[int] | None]:
        async for text in self._messages(self._keys.cancel):
            if text is None:
                yield None
                continue
            named = decode_ids(text)
            if named.malformed:
                discard("redis", "parts of a message that are no job ids", self._keys.cancel, named.malformed)
            if named.ids:
                yield named.ids

    async def _messages(self, channel: str) -> AsyncIterator[str | None]:
        """Yield the messages of a channel; None after every (re)connect, since messages may have been missed."""
        pause = 0.1
        while True:
            listener = self._client.pubsub(ignore_subscribe_messages=True)
            try:
                # One `translated` for each call: it notices a cancellation that the library forgot (ADR 13).
                async with translated("subscribe"):
                    await listener.subscribe(channel)
                pause = 0.1
                yield None
                while True:
                    async with translated("listen"):
                        message = await listener.get_message(timeout=30.0)
                    if message is not None:
                        yield str(message["data"])[: MAX_MESSAGE + 1]
            except TransportUnavailable:
                # Other users of Redis in this process meet the same outage and report it; here it only has to end.
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)
            finally:
                await listener.aclose()  # type: ignore[no-untyped-call]  # the library leaves it untyped

    async def publish_view(self, view: LeaderView, ttl: float) -> None:
        await self._run("publish_view", [self._keys.view], [msgspec.json.encode(view), view.epoch, int(ttl * 1000)])

    async def view(self) -> LeaderView | None:
        async with translated("leader view"):
            try:
                text = await self._client.getrange(self._keys.view, 0, MAX_VIEW)
            except ResponseError as error:
                if not _is_wrong_type(error):
                    raise
                text = WRONG_TYPE
        if not text:
            return None
        view = decode_view(text)
        if view is None:
            discard("redis", "a value that is no leader's view", self._keys.view)
        return view

    # ------------------------------------------------------------ the worker's side

    async def fetch(self, queues: Sequence[str], slots: int, block: float) -> list[Delivery]:
        streams = self._keys.streams(queues)
        arguments = [self._group, self._consumer, slots]
        found = await self._grouped(streams, lambda: self._run("fetch", streams, arguments))
        if not found and block > 0:
            # After a wait, the first entry starts at once: asking for more would delay it, and the next fetch asks anyway.
            found = await self._grouped(streams, lambda: self._wait(streams, block))
        return await self._deliveries(found, slots)

    async def decided(self, deliveries: Sequence[Delivery]) -> None:
        entries: dict[str, list[str]] = {}
        for delivery in deliveries:
            entries.setdefault(delivery.stream, []).append(delivery.entry)
        if entries:
            counted = [part for of_stream in entries.values() for part in (len(of_stream), *of_stream)]
            await self._run("decide", list(entries), [self._group, *counted])

    async def hold(self, deliveries: Sequence[Delivery]) -> None:
        async with translated("hold"), self._client.pipeline(transaction=False) as pipe:
            for delivery in deliveries:
                pipe.xclaim(delivery.stream, self._group, self._consumer, 0, [delivery.entry], justid=True)
            await pipe.execute(raise_on_error=False)  # an entry that Redis has lost needs no holding

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        streams = _numbered(d.stream for d in deliveries)
        triples = [part for d in deliveries for part in (streams[d.stream], d.entry, encode(d.job_id, d.seq))]
        if triples:
            await self._run("give_back", list(streams), [self._group, *triples])

    async def adopt(self, queues: Sequence[str], slots: int, idle: float) -> list[Delivery]:
        streams = self._keys.streams(queues)
        arguments = [self._group, self._consumer, slots, int(idle * 1000)]
        if not self._swept:  # once a process: each start may leave a consumer behind, and each start removes old ones
            self._swept = True
            with suppress(TransportUnavailable):
                await self._run("forget", streams, [self._group, int(SILENCE * 1000)])
        found = await self._grouped(streams, lambda: self._run("adopt", streams, arguments))
        return await self._deliveries(found, slots)

    async def leave(self, queues: Sequence[str]) -> None:
        await self._run("leave", self._keys.streams(queues), [self._group, self._consumer])

    async def _wait(self, streams: Sequence[str], block: float) -> list[tuple[str, str, str]]:
        """Wait for one entry. One spoilt key would fail the whole read, so those of the last look are left out of it."""
        block = min(block, BLOCK)
        usable = [stream for stream in streams if stream not in self._spoilt]
        if not usable:
            await asyncio.sleep(block)
            return []
        async with translated("xreadgroup"):
            try:
                reply: Any = await self._blocking.xreadgroup(
                    self._group, self._consumer, dict.fromkeys(usable, ">"), count=1, block=int(block * 1000)
                )
            except ResponseError as error:
                if not _is_wrong_type(error):
                    raise
                return []  # a key was spoilt since the last look; the next look finds it
        return decode_found(reply)

    async def _deliveries(self, found: Iterable[Sequence[str]], slots: int) -> list[Delivery]:
        deliveries: list[Delivery] = []
        unreadable: list[Delivery] = []
        for stream, entry, value in found:
            job = decode(value)
            delivery = Delivery(*(job or (0, 0)), stream, entry)
            (deliveries if job else unreadable).append(delivery)
        if unreadable:
            discard("redis", "stream entries that this version cannot read", unreadable[0].stream, len(unreadable))
            await self.decided(unreadable)
        # A blocking read may return one entry for each stream: entries beyond the slots are given back at once.
        if len(deliveries) > slots:
            await self.give_back(deliveries[slots:])
        return deliveries[:slots]

    # ------------------------------------------------------------ shared

    async def _run(self, name: str, streams: Sequence[str], arguments: Sequence[Any]) -> list[Any]:
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self._client.register_script(_lua(name))
        async with translated(name):
            result, spoilt = await script(keys=streams, args=arguments)
        self._spoilt.difference_update(streams)
        self._report_spoilt(spoilt)
        return list(result)

    def _report_spoilt(self, keys: Collection[str]) -> None:
        """Remember and report streams whose keys have another type."""
        self._spoilt.update(keys)
        for key in keys:
            discard("redis", "a key that is no usable stream", key, remedy=REMEDY)

    async def _grouped(self, streams: Sequence[str], read: Callable[[], Awaitable[list[T]]]) -> list[T]:
        """Run `read`. If a group is gone (a wipe, a deleted stream), create the groups again and run it once more."""
        try:
            return await read()
        except TransportUnavailable as error:
            if not any(sign in str(error) for sign in ("NOGROUP", "UNBLOCKED")):
                raise
        await self._make_groups(streams)
        return await read()

    async def _make_groups(self, streams: Sequence[str]) -> None:
        async with translated("xgroup create"):
            for stream in streams:
                try:
                    await self._client.xgroup_create(stream, self._group, id="0", mkstream=True)
                except ResponseError as error:
                    if _is_wrong_type(error):
                        self._report_spoilt([stream])
                    elif "BUSYGROUP" not in str(error):
                        raise
        logger().info("made consumer groups", streams=len(streams), group=self._group)


def _is_wrong_type(reply: object) -> bool:
    return isinstance(reply, ResponseError) and WRONG_TYPE in str(reply)


def _numbered(streams: Iterable[str]) -> dict[str, int]:
    """Return each stream once, with its place among a script's KEYS."""
    return {stream: place for place, stream in enumerate(dict.fromkeys(streams), start=1)}
