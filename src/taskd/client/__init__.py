"""The HTTP clients: `Client` for the command line and for threads, `AsyncClient` for event loops.

They take several addresses and outlive a scheduler: what one address cannot answer, the next one may. A request is sent
again only where that is safe: reads, cancels, retries, submits (each has a key, its own or one made up), and batches that have
a key, or whose jobs all have one, or that certainly were not taken.

`Client` is built on http.client, which loads in a quarter of the time that a bigger HTTP library takes: `taskd status` should
feel instant. So `AsyncClient`, which needs one, is imported from `taskd.client.asynchronous`.
"""

from taskd.client.blocking import Client
from taskd.client.failures import ClientError, OutcomeUnknown

__all__ = ["Client", "ClientError", "OutcomeUnknown"]
