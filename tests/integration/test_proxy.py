"""Test each mode of the fault tests' proxy with real connections."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from taskd.dev.servers.ports import free_port, is_free
from tests.chaos.proxy import Proxy
from tests.chaos.relay import MOST
from tests.servers import wait_until

#: Seconds after which a socket call fails its test.
PATIENCE = 20.0
#: More bytes than the proxy and the kernel hold together.
MUCH = bytes(range(256)) * 256 * 1024


class Target:
    """Listening socket whose connections the test accepts itself."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        self.listener.settimeout(PATIENCE)
        self.port: int = self.listener.getsockname()[1]

    def accept(self) -> socket.socket:
        far = self._stack.enter_context(self.listener.accept()[0])
        far.settimeout(PATIENCE)
        return far

    @property
    def is_called(self) -> bool:
        """Return True if a connection waits, and accept it."""
        self.listener.setblocking(False)
        try:
            self.accept()
        except BlockingIOError:
            return False
        finally:
            self.listener.settimeout(PATIENCE)
        return True


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as exit_stack:
        yield exit_stack


@pytest.fixture
def target(stack: ExitStack) -> Target:
    return Target(stack)


@pytest.fixture
def proxy(stack: ExitStack, target: Target) -> Proxy:
    return stack.enter_context(Proxy(target.port))


@pytest.fixture
def connect(stack: ExitStack, proxy: Proxy) -> Callable[[], socket.socket]:
    return lambda: stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), PATIENCE))


Connect = Callable[[], socket.socket]


def receive(end: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes, or those before the end of the stream."""
    received = bytearray()
    while len(received) < size and (data := end.recv(min(65536, size - len(received)))):
        received += data
    return bytes(received)


def stuff(end: socket.socket, data: bytes) -> int:
    """Send until no more bytes are accepted for a while; return the number of accepted bytes."""
    sent = 0
    while sent < len(data) and select.select([], [end], [], 0.5)[1]:
        sent += end.send(data[sent : sent + 65536], socket.MSG_DONTWAIT)
    return sent


def kill(end: socket.socket) -> None:
    """Close with a RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def has_nothing(end: socket.socket) -> bool:
    """Return True if neither bytes nor the end of the stream have arrived."""
    return not select.select([end], [], [], 0)[0]


def test_bytes_and_ends_pass_each_way_alone(target: Target, proxy: Proxy, connect: Connect) -> None:
    near, far = connect(), target.accept()
    sender = threading.Thread(target=near.sendall, args=(MUCH,))
    sender.start()
    assert receive(far, len(MUCH)) == MUCH
    near.shutdown(socket.SHUT_WR)
    assert far.recv(1) == b""
    sender.join()
    far.sendall(b"still open this way")
    far.close()
    assert receive(near, 100) == b"still open this way"
    wait_until(lambda: proxy.connections == 0)


def test_a_reset_by_the_target_reaches_the_client(target: Target, connect: Connect) -> None:
    near, far = connect(), target.accept()
    kill(far)
    with pytest.raises(ConnectionResetError):
        near.recv(1)


def test_a_client_that_writes_to_a_closed_target_hears_of_it(target: Target, connect: Connect) -> None:
    near, far = connect(), target.accept()
    far.close()
    assert near.recv(1) == b""

    def write() -> bool:
        near.send(b"x")
        return False

    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        wait_until(write)


def test_a_target_that_refuses_resets_the_client(proxy: Proxy, connect: Connect) -> None:
    proxy.retarget(free_port())
    with pytest.raises(ConnectionResetError):
        connect().recv(1)


def test_a_cut_resets_what_is_connected_and_refuses_what_comes_until_it_is_healed(
    target: Target, proxy: Proxy, connect: Connect
) -> None:
    near, far = connect(), target.accept()
    proxy.cut()
    assert proxy.connections == 0
    for end in (near, far):
        with pytest.raises(ConnectionResetError):
            end.recv(1)
    for _ in range(20):
        with pytest.raises(ConnectionRefusedError):
            connect()
    assert not is_free(proxy.port)
    proxy.cut()
    proxy.heal()
    connect().sendall(b"again")
    assert receive(target.accept(), 5) == b"again"


def test_a_reset_lets_new_connections_in(target: Target, proxy: Proxy, connect: Connect) -> None:
    near, far = connect(), target.accept()
    proxy.reset()
    for end in (near, far):
        with pytest.raises(ConnectionResetError):
            end.recv(1)
    connect().sendall(b"new")
    assert receive(target.accept(), 3) == b"new"


@pytest.mark.parametrize("up", [True, False])
def test_a_black_hole_one_way_holds_that_way_only_and_loses_nothing(
    target: Target, proxy: Proxy, connect: Connect, up: bool
) -> None:
    near, far = connect(), target.accept()
    swallowed, passing = (near, far) if up else (far, near)
    proxy.hole(up=up, down=not up)
    swallowed.sendall(b"held")
    wait_until(lambda: proxy.held == 4)
    passing.sendall(b"passed")
    assert receive(swallowed, 6) == b"passed"
    assert has_nothing(passing)
    proxy.heal()
    swallowed.sendall(b" and more")
    assert receive(passing, 13) == b"held and more"


def test_an_end_does_not_get_through_a_black_hole(target: Target, proxy: Proxy, connect: Connect) -> None:
    (gone, killed), ends = (connect(), connect()), (target.accept(), target.accept())
    proxy.hole(up=True, down=True)
    gone.sendall(b"x")
    gone.close()
    kill(killed)
    late = connect()
    late.sendall(b"yy")  # when the loop has seen this, it has seen the ends of the others
    wait_until(lambda: proxy.held == 3)
    assert all(has_nothing(end) for end in ends)
    proxy.heal()
    received = []
    for end in ends:
        try:
            received.append(receive(end, 2))
        except ConnectionResetError:
            received.append(b"reset")
    assert sorted(received) == [b"reset", b"x"]


def test_a_connection_made_during_a_black_hole_is_silent_until_it_is_healed(
    target: Target, proxy: Proxy, connect: Connect
) -> None:
    proxy.hole(up=False, down=True)
    given_up, patient = connect(), connect()
    patient.sendall(b"hello")
    wait_until(lambda: proxy.held == 5)
    given_up.close()
    wait_until(lambda: proxy.connections == 1)
    assert not target.is_called
    proxy.heal()
    assert receive(target.accept(), 5) == b"hello"
    assert not target.is_called


@pytest.mark.parametrize("hole", [True, False])
def test_what_is_not_delivered_is_bounded_and_the_client_waits(
    target: Target, proxy: Proxy, connect: Connect, hole: bool
) -> None:
    near, far = connect(), target.accept()
    proxy.hole(up=hole)
    sent = stuff(near, MUCH)
    assert sent < len(MUCH)
    assert MOST // 2 < proxy.held < 2 * MOST
    proxy.heal()
    rest = threading.Thread(target=near.sendall, args=(MUCH[sent:],))
    rest.start()
    assert receive(far, len(MUCH)) == MUCH
    rest.join()


def test_latency_keeps_the_order(target: Target, proxy: Proxy, connect: Connect) -> None:
    near, far = connect(), target.accept()
    proxy.delay(0.0, 0.02)
    words = [b"%03d" % n for n in range(100)]
    for word in words:
        near.sendall(word)
    assert receive(far, 300) == b"".join(words)


def test_latency_is_that_of_each_way(target: Target, proxy: Proxy, connect: Connect) -> None:
    near, far = connect(), target.accept()
    proxy.delay(0.4, 0.5, up=False)
    begun = time.monotonic()
    near.sendall(b"x")
    far.sendall(receive(far, 1))
    assert receive(near, 1) == b"x"
    assert time.monotonic() - begun >= 0.4
    proxy.delay(3600, 3600, down=False)
    far.sendall(b"y")
    assert receive(near, 1) == b"y"
    near.sendall(b"z")
    wait_until(lambda: proxy.held == 1)
    proxy.heal()
    assert receive(far, 1) == b"z"


def test_a_thin_line_is_shared_by_its_connections(target: Target, proxy: Proxy, connect: Connect) -> None:
    ends = [(connect(), target.accept()) for _ in range(2)]
    proxy.slow(400_000)
    begun = time.monotonic()
    for near, _ in ends:
        near.sendall(MUCH[:100_000])
    # The order of the accepted connections does not matter: both clients sent the same.
    assert all(receive(far, 100_000) == MUCH[:100_000] for _, far in ends)
    assert time.monotonic() - begun >= 0.4  # 200 kB at 400 kB/s, less the first tick


def test_a_new_target_is_for_new_connections(stack: ExitStack, target: Target, proxy: Proxy, connect: Connect) -> None:
    old, far = connect(), target.accept()
    other = Target(stack)
    proxy.retarget(other.port)
    connect().sendall(b"new")
    assert receive(other.accept(), 3) == b"new"
    old.sendall(b"old")
    assert receive(far, 3) == b"old"


def test_hundreds_of_connections_through_several_proxies_share_one_thread(stack: ExitStack, target: Target) -> None:
    proxies = [stack.enter_context(Proxy(target.port)) for _ in range(3)]
    threads = threading.active_count()
    clients = []
    for number in range(300):
        client = stack.enter_context(socket.create_connection(("127.0.0.1", proxies[number % 3].port), PATIENCE))
        client.sendall(b"%03d" % number)
        clients.append(client)
    for _ in clients:
        far = target.accept()
        far.sendall(receive(far, 3))
    assert [receive(client, 3) for client in clients] == [b"%03d" % number for number in range(300)]
    assert threading.active_count() == threads
