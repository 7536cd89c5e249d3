"""Plain HTTP requests of the tests, by one client.

A new client with its TLS context takes 20 ms of processor time, which is much for tests that poll a process. The client
keeps no connections, since tests kill and freeze the processes at the other end.
"""

from __future__ import annotations

import httpx

_client = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))

request, get, post = _client.request, _client.get, _client.post
