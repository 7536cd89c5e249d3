"""Plain HTTP requests of the tests, by one client: to make one, with its TLS context, takes 20 ms of processor time, which is
much for those who ask again and again whether a process answers yet.

It keeps no connection, since tests kill and freeze whoever is at the other end.
"""

from __future__ import annotations

import httpx

_client = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))

request, get, post = _client.request, _client.get, _client.post
