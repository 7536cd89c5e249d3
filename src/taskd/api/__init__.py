"""The HTTP API of a scheduler.

Model: a resource parses a request, calls a seam and renders the result. It names its routes beside its handlers
(`routes.Route`); `resources.build` lists the resources, and the ASGI application and the OpenAPI document are made of
their routes. Every scheduler serves every route, leader or not.

Guarantees: a submit is answered with 201 only after PostgreSQL has committed it. Input that is refused gets a 4xx as
`application/problem+json` that names the field; a 5xx for bad input is a bug. A token sees the jobs of its queues only.

Failure handling: without PostgreSQL the response is 503 with Retry-After, within about two seconds. It has
`outcome_unknown` if the change may have been made all the same. Redis and etcd are needed by no route: `explain`,
/workers and /leader answer without what those servers would add. Tokens that were read last stay valid during an outage.

Limits: a body is read up to its route's limit and must arrive within 30 seconds. All large bodies together hold at most
128 MiB (`body_budget`); a request beyond that gets a 503. Large JSON is checked in slices, so that it does not delay other
requests. A few large pages are read at a time. Concurrent readers of one counter share one query,
and all long polls share one query per round.
"""

from __future__ import annotations

from taskd.api.application import Api
from taskd.api.resources import build

__all__ = ["Api", "build"]
