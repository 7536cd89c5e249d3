"""I19: an attempt's output is stored only while its claim holds."""

from __future__ import annotations

from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import History

#: Seconds by which a statement's beginning and another one's commit may be recorded in the wrong order.
SLACK = 0.05


def check(history: History, ledger: Ledger) -> None:
    """Check each time that output was stored. A cancelled attempt may add its last lines."""
    for output in history.outputs:
        ledger.count("I19")
        events = history.events_of.get(output.job_id, [])
        ended = next((e for e in events if e.from_status == "running" and e.attempt == output.attempt), None)
        if ended is None or ended.to_status == "cancelled":
            continue
        late = output.statement_at - ended.effective_at
        message = f"attempt {output.attempt} added to its output {late:.3f} s after its end, which {ended.by} wrote"
        ledger.require("I19", output.job_id, late <= SLACK, message)
