"""The HTTP clients of the schedulers: `Client` for the command line and for threads, `AsyncClient` for event loops.

Model: both clients run the same flows (`flows`), generators that yield requests and are sent responses. The clients differ
only in how they wait.

Guarantees: a request is repeated only where that is safe. Safe are reads, cancels, retries, and submits, which have a key:
their own or a generated one. A batch is repeated if it has a key, if each of its jobs has a dedupe_key, or if it was
certainly not stored. A change of which no server says whether it was made raises OutcomeUnknown.

Failure handling: a client takes several addresses and tries the one first that responded last. A request that no server
answers is retried with growing pauses for `patience` seconds. If no server has ever responded, the error comes at once.

Limits: responses are read whole. A wait for a job is a series of long polls of at most 30 seconds each.

`Client` uses http.client, which loads in a quarter of the time of a larger HTTP library, so that commands start quickly.
`AsyncClient` needs such a library, so it is imported from `taskd.client.asynchronous`.
"""

from taskd.client.blocking import Client
from taskd.client.failures import ClientError, OutcomeUnknown

__all__ = ["Client", "ClientError", "OutcomeUnknown"]
