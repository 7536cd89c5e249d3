"""A small site to crawl: `python site.py PORT`.

Page n links to pages 2n+1 and 2n+2, and every seventh page to one that does not exist. The site has two names,
localhost and 127.0.0.1. It counts the most requests to each at once, which /most returns.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGES = 15
#: Seconds that a page takes: long enough for requests to overlap.
SLOW = 0.02
current: Counter[str] = Counter()
most: Counter[str] = Counter()
guard = threading.Lock()


class Site(BaseHTTPRequestHandler):
    """Handler of one request."""

    def do_GET(self) -> None:
        """Answer a page, or /most."""
        if self.path == "/most":
            self._answer(200, json.dumps(most))
            return
        host = self.headers["Host"]
        with guard:
            current[host] += 1
            most[host] = max(most[host], current[host])
        time.sleep(SLOW)
        number = int(self.path[1:]) if self.path[1:].isdigit() else PAGES
        self._answer(200 if number < PAGES else 404, self._page(number))
        with guard:
            current[host] -= 1

    def _page(self, number: int) -> str:
        names = [f"{name}:{self.server.server_port}" for name in ("localhost", "127.0.0.1")]  # type: ignore[attr-defined]  # an HTTPServer has it
        links = [n for n in (2 * number + 1, 2 * number + 2) if n < PAGES] + ([99] if number % 7 == 0 else [])
        anchors = "".join(f'<a href="http://{names[n % 2]}/{n}">{n}</a> ' for n in links)
        return f"<html><title>Page {number}</title>{anchors}</html>"

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Site).serve_forever()
