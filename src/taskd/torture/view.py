"""The display of a run: a live board on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskd.runtime.console import styled
from taskd.torture.observer import Observation, ObservedLeader

#: Seconds between two drawings on a terminal, and between two lines of figures elsewhere.
DRAWN, SAID = 0.25, 10.0
BAR = 40


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a run. `left` are the seconds of faults still to come, of `seconds`; `phase` is the current step."""

    phase: str
    left: float
    seconds: float
    accepted: int
    observation: Observation
    faults: Counter[str]
    latest: Sequence[tuple[float, str]]


class View:
    """The display. Use it with `with`, and call `show` with each scene."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._live = Live(console=out, auto_refresh=False) if out.is_terminal else None
        self._drawn = 0.0
        self._phase = ""
        self._printed = 0.0

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def show(self, scene: Scene) -> None:
        """Draw the scene, or print the changes."""
        now = time.monotonic()
        if self._live is None:
            self._say(scene, now)
        elif now - self._drawn >= DRAWN or scene.phase != self._phase:
            self._drawn = now
            self._live.update(board(scene), refresh=True)
        self._phase = scene.phase

    def _say(self, scene: Scene, now: float) -> None:
        for at, what in scene.latest:
            if at > self._printed:
                self._out.print(styled(f"{_clock(at)}  {what}"))
                self._printed = at
        if scene.phase != self._phase or now - self._drawn >= SAID:
            self._drawn = now
            self._out.print(styled(f"{_clock(time.time())}  {scene.phase}: {_figures(scene)}"))


def board(scene: Scene) -> Group:
    """Return the board of a scene, in 80 columns."""
    observation = scene.observation
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_row("jobs", _jobs(scene))
    for leader in observation.leaders or (ObservedLeader(0, None, 0),):
        title = "leader" if len(observation.leaders) <= 1 else f"leader of shard {leader.shard}"
        led = styled(f"{leader.name} (epoch {leader.epoch})") if leader.name is not None else Text("none", "yellow")
        grid.add_row(title, led)
    grid.add_row("repeated", f"{observation.repeated:,} attempts that faults cut short were made again")
    grid.add_row("faults", _faults(scene.faults))
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        ProgressBar(total=scene.seconds, completed=scene.seconds - scene.left, width=BAR),
        f"{_left(scene.left)} left" if scene.left > 0 else "no more faults",
    )
    lines = [styled(f"  {_clock(at)}  {what}") for at, what in scene.latest]
    away = [] if observation.fresh else [Text("PostgreSQL does not answer; the figures are old", style="yellow")]
    return Group(Text(scene.phase, style="bold"), bar, "", grid, "", *lines, *away)


def _jobs(scene: Scene) -> str:
    observation = scene.observation
    counts = f"{observation.finished:,} finished   {observation.running:,} running   {observation.waiting:,} waiting"
    return f"{scene.accepted:,} accepted   {counts}"


def _faults(faults: Counter[str]) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in faults.most_common())
    return f"{sum(faults.values())}: {counts}" if counts else "none yet"


def _figures(scene: Scene) -> str:
    observation = scene.observation
    left = f"{_left(scene.left)} left, " if scene.left > 0 else ""
    away = "" if observation.fresh else " (PostgreSQL does not answer)"
    jobs = _jobs(scene).replace("   ", ", ")
    return f"{left}{jobs}, {observation.repeated} repeated, {_leaders(observation)}{away}"


def _leaders(observation: Observation) -> str:
    names = [leader.name or "none" for leader in observation.leaders] or ["none"]
    return f"leader{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _left(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02}"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
