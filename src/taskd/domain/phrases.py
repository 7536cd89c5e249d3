"""Moments, durations and numbers in the sentences that people read."""

from __future__ import annotations

from datetime import UTC, datetime

from taskd.domain.errors import error_line

#: Characters of an error that a sentence quotes.
MAX_QUOTE = 300
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def moment(when: datetime) -> str:
    """Return the instant in UTC, to the second."""
    return when.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def span(seconds: float) -> str:
    """Return the duration in its two largest units, as in `2 h 5 min`; less than ten seconds with a decimal."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    left, parts = round(seconds), list[tuple[int, str]]()
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append((number, unit))
    return " ".join(f"{number} {unit}" for number, unit in parts[:2] if number)


def are_jobs(number: int, *, at_least: bool = False) -> str:
    """Return a number of jobs with its verb: `1 job is`, `At least 10,000 jobs are`."""
    return f"{'At least ' * at_least}{number:,} job{' is' if number == 1 else 's are'}"


def times(number: int) -> str:
    """Return a number of times in words: `once`, `twice`, `3 times`."""
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def main_line(text: str | None) -> str:
    """Return the line of an error that says what it is, cut to MAX_QUOTE characters."""
    line = error_line(text)
    if not line:
        return "it left no error"
    return line if len(line) <= MAX_QUOTE else f"{line[:MAX_QUOTE]}…"
