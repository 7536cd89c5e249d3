"""Tests of the command line on a real terminal: the alternate screen, signals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

DEADLINE = 30.0
ROWS, COLUMNS = 10, 80
ENTER, LEAVE, HIDE, SHOW = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25l", b"\x1b[?25h"
WORKER = {"id": "w", "slots": 8, "queues": ["default"], "host": "h", "pid": 1}
ANSWERS = {
    "/health": {"status": "healthy", "instance_id": "s1", "components": {}},
    "/leader": {"current_leader": "s1", "epoch": 1},
    "/schedulers": {"schedulers": []},
    "/workers": {"workers": [{**WORKER, "id": f"worker-{n}"} for n in range(50)]},
    "/queues": {"queues": []},
    "/metrics": {f"{n}_jobs": 0 for n in ("pending", "queued", "running", "completed", "failed", "cancelled")},
    "/jobs": {"id": 79, "status": "pending"},
}


@pytest.fixture
def server() -> Iterator[str]:
    """Fake scheduler with many workers, whose jobs never end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.startswith("/jobs/"):
                over.wait()
            body = json.dumps(ANSWERS.get(self.path, {})).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _reply

        def log_message(self, *_: object) -> None:
            """Write no log."""

    over = threading.Event()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_address[1]}"
    over.set()
    listening.shutdown()
    thread.join()
    listening.server_close()


class TerminalSession:
    """A command on a terminal of ROWS and COLUMNS, and everything that it wrote there."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self.text = b""

    def read_until(self, wanted: bytes) -> None:
        """Read until the command has written `wanted`."""
        end = time.monotonic() + DEADLINE
        while wanted not in self.text:
            assert select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))[0], self.text
            self.text += os.read(self._terminal, 65536)

    def end(self, number: int | None = None) -> int:
        """Send the signal, read to the end, and return the exit status."""
        if number is not None:
            self.process.send_signal(number)
        end = time.monotonic() + DEADLINE
        while select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))[0]:
            try:
                more = os.read(self._terminal, 65536)
            except OSError:  # Linux: the other side is closed
                break
            if not more:
                break
            self.text += more
        return self.process.wait(DEADLINE)


@contextmanager
def on_terminal(server: str, *arguments: str) -> Iterator[TerminalSession]:
    """Run a command on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TASKD_SERVER": server, "TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-m", "taskd", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        try:
            yield TerminalSession(process, ours)
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_watch_uses_the_alternate_screen_and_gives_the_terminal_back(server: str, number: int, status: int) -> None:
    with on_terminal(server, "status", "--watch") as command:
        command.read_until(b"a higher terminal shows them")
        assert command.end(number) == status
    before, _, rest = command.text.partition(ENTER)
    inside, left, after = rest.partition(LEAVE)
    assert left == LEAVE
    assert before.strip() == b""
    assert command.text.count(HIDE) == command.text.count(SHOW)
    assert b"Traceback" not in after
    frames = [frame for frame in re.split(rb"\x1b\[H", inside) if b"cluster" in frame]
    assert frames
    assert all(frame.count(b"\n") < ROWS for frame in frames), "a frame that is higher than the terminal scrolls it"


def test_an_interrupted_wait_names_the_job_that_goes_on(server: str) -> None:
    with on_terminal(server, "submit", "1", "--wait") as command:
        command.read_until(b"waiting for its end")
        assert command.end(signal.SIGINT) == 130
    assert b"job 79 goes on: taskd status 79" in command.text
    assert b"Traceback" not in command.text


def test_an_interrupt_while_modules_are_loaded_is_quiet() -> None:
    program = (
        "import os, signal, sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'taskd.cli.main': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "sys.argv = ['taskd', 'status']\n"
        "from taskd.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=DEADLINE)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
