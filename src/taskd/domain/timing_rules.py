"""Relations that must hold between settings of time, so that a wait that one setting promises fits into another.

The rules compare the settings of one process. Different processes may still differ: `taskd doctor` compares the
sessions of live workers with its own settings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

#: Returns the seconds of a setting, as in value("worker", "heartbeat").
Value = Callable[[str, str], float]


class TimingRule(NamedTuple):
    """`left` times `left_times` must be less than (`strict`) or at most `right` times `right_times`. Times: 1 or 2."""

    left: tuple[str, str]
    left_times: int
    right: tuple[str, str]
    right_times: int
    strict: bool
    reason: str

    def broken_by(self, value: Value) -> str | None:
        """Return one line with both keys, their values and the rule; None if the rule holds."""
        left, right = value(*self.left), value(*self.right)
        product, limit = left * self.left_times, right * self.right_times
        if product < limit or (product == limit and not self.strict):
            return None
        relation = "less than" if self.strict else "at most"
        return (
            f"{_term(self.left, left, self.left_times)} must be {relation}"
            f" {_term(self.right, right, self.right_times)}: {self.reason}"
        )


RULES = (
    TimingRule(
        ("worker", "heartbeat"), 2, ("worker", "session_ttl"), 1,
        strict=True, reason="a session must survive a lost heartbeat",
    ),
    TimingRule(
        ("scheduler", "leader_renew"), 2, ("scheduler", "leader_stale"), 1,
        strict=True, reason="leadership must survive a lost renewal",
    ),
    TimingRule(
        ("worker", "stop_grace"), 1, ("worker", "grace"), 1,
        strict=False, reason="a worker that ends gives its tasks grace seconds, the time to stop included",
    ),
    # While etcd answers, a dead leader's key keeps others from leading for etcd.ttl, however stale its row is.
    TimingRule(
        ("etcd", "ttl"), 1, ("scheduler", "leader_stale"), 2,
        strict=False, reason="while etcd answers, a dead leader is replaced only after etcd.ttl",
    ),
)  # fmt: skip


def broken(value: Value) -> list[str]:
    """Return one line for each rule that does not hold."""
    return [line for rule in RULES if (line := rule.broken_by(value)) is not None]


def _term(key: tuple[str, str], seconds: float, times: int) -> str:
    return f"{'twice ' if times > 1 else ''}{'.'.join(key)} ({seconds:.15g} s)"
