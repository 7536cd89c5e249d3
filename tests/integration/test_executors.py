"""Test user code in executors: whatever it does, its attempt ends once, with the right outcome, and the worker lives."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw, structs

from taskd.dev.process import identity
from taskd.domain.errors import ConfigurationError
from taskd.domain.job import AttemptId
from taskd.domain.outcome import Completed, Crashed, Failed, Outcome, Released, Snoozed, TimedOut
from taskd.worker.pool.guard import clock
from taskd.worker.pool.protocol import NoteMessage
from tests.integration.executor_bench import APP, NOW, Bench
from tests.servers import wait_until, wait_until_async


def plain(outcome: Outcome) -> Outcome:
    """Return the outcome without its traceback."""
    return structs.replace(outcome, traceback=None) if isinstance(outcome, Failed | TimedOut) else outcome


@pytest.fixture
async def make_bench() -> AsyncIterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(**options: int) -> Bench:
        benches.append(bench := Bench(**options))  # type: ignore[arg-type]  # the tests pass numbers only
        return bench

    yield make
    for bench in benches:
        await bench.executors.close()
        assert all(len(outcomes) == 1 for outcomes in bench.ends.values() if outcomes)


@pytest.fixture
async def bench(make_bench: Callable[..., Bench]) -> Bench:
    new_bench = make_bench()
    await new_bench.executors.start()
    return new_bench


async def test_async_and_plain_tasks_return_json(bench: Bench) -> None:
    for task in ("add", "thread_add"):
        outcome = await bench.run(task, '{"a": 1, "b": 2}')
        assert isinstance(outcome, Completed)
        assert bytes(outcome.result) == b"3"
    assert "add" in bench.executors.tasks


async def test_the_context_has_the_job_and_the_attempt(bench: Bench) -> None:
    outcome = await bench.run("whoami")
    assert isinstance(outcome, Completed)
    assert bytes(outcome.result).startswith(b"[1,7,")
    assert str(os.getpid()).encode() not in bytes(outcome.result)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ('{"a": "x", "b": 2}', ['argument a: must be a whole number, not "x"']),
        ('{"a": 1}', ["b"]),
        ('{"a": 1, "b": 2, "c": 3}', ["c"]),
        ("[1, 2]", ["array"]),
    ],
)
async def test_a_payload_that_does_not_fit_fails_for_good_naming_the_field(
    bench: Bench, payload: str, words: list[str]
) -> None:
    outcome = await bench.run("add", payload)
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert all(word in outcome.error for word in words), outcome.error


@pytest.mark.parametrize(
    ("task", "word"),
    [
        ("nan", "NaN"),
        ("nul", "NUL"),
        ("surrogate", "surrogate"),
        ("raw", "bytes"),
        ("thing", "object"),
        ("deep", "deep"),
        ("large", "100000"),
    ],
)
async def test_a_result_that_cannot_be_stored_fails_the_job_for_good_and_says_why(
    bench: Bench, task: str, word: str
) -> None:
    outcome = await bench.run(task)
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert word in outcome.error


async def test_an_exception_of_a_task_is_shown_with_its_own_frames(bench: Bench) -> None:
    outcome = await bench.run("raises")
    assert isinstance(outcome, Failed)
    assert outcome.error == "ValueError: boom \\x00 \\ud800"
    assert outcome.traceback is not None
    assert "executor_tasks.py" in outcome.traceback
    assert "src/taskd" not in outcome.traceback
    assert "\x00" not in outcome.error
    outcome.error.encode()
    for task in ("exits", "interrupts"):
        assert isinstance(await bench.run(task), Failed)
    assert bench.executors.restarts == 0


async def test_fail_is_for_good_and_retry_at_names_its_time(bench: Bench) -> None:
    assert plain(await bench.run("gives_up")) == Failed("never mind", permanent=True)
    outcome = await bench.run("later")
    assert isinstance(outcome, Failed)
    assert outcome.again_at is not None
    assert outcome.again_at > NOW


async def test_the_error_for_an_unknown_task_names_the_known_ones(bench: Bench) -> None:
    outcome = await bench.run("ad")
    assert isinstance(outcome, Failed)
    assert not outcome.permanent  # a newer worker may know it
    assert all(word in outcome.error for word in ("'ad'", APP, "thread_add"))


@pytest.mark.parametrize(("task", "word"), [("segfault", "SIGSEGV"), ("leave", "3"), ("shot", "SIGKILL")])
async def test_a_dead_executor_fails_its_attempts_and_is_replaced(bench: Bench, task: str, word: str) -> None:
    outcome = await bench.run(task)
    assert isinstance(outcome, Crashed)
    assert word in outcome.error
    assert isinstance(await bench.run("add", '{"a": 1, "b": 2}'), Completed)
    assert bench.executors.restarts == 1


async def test_other_executors_do_not_notice(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(processes=2, slots=2)
    await bench.executors.start()
    innocent, guilty = bench.order("naps"), bench.order("segfault")
    await bench.begin(innocent, guilty)
    (outcome,) = await bench.ended(guilty)
    assert isinstance(outcome, Crashed)
    assert not bench.ends[innocent.job_id]
    bench.executors.stop(AttemptId(innocent.job_id, 7), Released("over"))
    assert await bench.ended(innocent) == [Released("over")]


@pytest.mark.parametrize("task", ["naps", "thread_spins"])
async def test_a_timeout_stops_what_can_be_stopped_without_a_kill(bench: Bench, task: str) -> None:
    assert plain(await bench.run(task, timeout=0.2)) == TimedOut(0.2)
    assert bench.executors.restarts == 0


async def test_a_definitions_timeout_counts_where_the_job_has_none(bench: Bench) -> None:
    assert plain(await bench.run("naps_briefly")) == TimedOut(0.2)
    assert plain(await bench.run("naps_briefly", timeout=0.1)) == TimedOut(0.1)
    for timeout, effective in ((None, b"30.0"), (7.0, b"7.0")):
        outcome = await bench.run("tells_its_timeout", timeout=timeout)
        assert isinstance(outcome, Completed)
        assert bytes(outcome.result) == effective


@pytest.mark.parametrize("task", ["thread_naps", "spins", "holds_the_gil"])
async def test_a_timeout_kills_what_will_not_stop_and_releases_its_neighbours(bench: Bench, task: str) -> None:
    neighbour, stuck = bench.order("naps"), bench.order(task, timeout=0.2)
    await bench.begin(neighbour, stuck)
    outcomes = await bench.ended(neighbour, stuck)
    assert isinstance(outcomes[0], Released)
    assert outcomes[1] == TimedOut(0.2)
    assert isinstance(await bench.run("add", '{"a": 1, "b": 2}'), Completed)


async def test_a_stopped_attempt_ends_with_the_outcome_it_was_stopped_with(bench: Bench) -> None:
    orders = [bench.order("naps"), bench.order("thread_naps")]
    await bench.begin(*orders)
    for order in orders:
        bench.executors.stop(order.attempt_id, Released("the worker shut down"))
    assert await bench.ended(*orders) == [Released("the worker shut down")] * 2


async def test_tasks_that_an_attempt_leaves_behind_have_ended_when_its_end_is_reported(bench: Bench) -> None:
    outcome = await bench.run("leaves_tasks_behind")
    assert isinstance(outcome, Completed)
    assert bytes(outcome.result) == b'"returned"'
    marks = await bench.run("tells_its_marks")
    assert isinstance(marks, Completed)
    # The one that was started late is cancelled before its first step.
    assert bytes(marks.result) == b'["child"]'


async def test_a_task_in_a_context_of_its_own_is_left_alone(bench: Bench) -> None:
    assert isinstance(await bench.run("shares_a_task"), Completed)
    marks = await bench.run("tells_its_marks")
    assert isinstance(marks, Completed)
    assert bytes(marks.result) == b'["alive"]'


async def test_an_attempt_is_not_over_while_a_task_of_its_own_runs_on(bench: Bench) -> None:
    assert plain(await bench.run("leaves_a_stubborn_task_behind", timeout=1.5)) == TimedOut(1.5)
    assert isinstance(await bench.run("add", '{"a": 1, "b": 2}'), Completed)
    assert bench.executors.restarts == 1


async def test_an_exit_in_a_task_of_an_attempt_is_that_attempts_failure_alone(bench: Bench) -> None:
    neighbour, guilty = bench.order("naps"), bench.order("starts_one_that_exits")
    await bench.begin(neighbour, guilty)
    (outcome,) = await bench.ended(guilty)
    assert isinstance(outcome, Failed)
    assert outcome.error.endswith("SystemExit: 3")
    assert not bench.ends[neighbour.job_id]
    assert isinstance(await bench.run("add", '{"a": 1, "b": 2}'), Completed)
    assert bench.executors.restarts == 0


async def test_killing_everything_releases_every_attempt(bench: Bench) -> None:
    orders = [bench.order("naps"), bench.order("spins")]
    await bench.begin(*orders)
    bench.executors.kill()
    assert all(isinstance(outcome, Released) for outcome in await bench.ended(*orders))
    assert isinstance(await bench.run("add", '{"a": 1, "b": 2}'), Completed)


async def test_nothing_runs_on_after_the_lease(bench: Bench) -> None:
    orders = [bench.order("naps"), bench.order("spins")]
    await bench.begin(*orders)
    bench.executors.lease(clock() + 0.3)
    assert await bench.ended(*orders) == [Released("lease ran out")] * 2
    bench.executors.lease(float("inf"))
    assert isinstance(await bench.run("add", '{"a": 1, "b": 2}'), Completed)


FROZEN_PARENT = """
import asyncio, sys
from tests.integration.executor_bench import Bench
from taskd.worker.pool.guard import clock
async def main():
    bench = Bench()
    await bench.executors.start()
    await bench.begin(bench.order("spins"))
    bench.executors.lease(clock() + float(sys.argv[1]))
    with open("/proc/self/task/%d/children" % __import__("os").getpid()) as children:
        print(children.read(), flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
def test_user_code_does_not_outlive_the_lease_of_a_worker_that_is(number: int) -> None:
    lease = "1.0" if number == signal.SIGSTOP else "600"
    with subprocess.Popen(
        [sys.executable, "-c", FROZEN_PARENT, lease], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        executors = [pid for pid in children if b"taskd.executor.main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert executors
        parent.send_signal(number)
        wait_until(lambda: not any(identity(pid) for pid in executors))
        parent.kill()
    wait_until(lambda: not any(identity(pid) for pid in children))


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("no.such.module", ["no.such.module"]),
        (f"{APP}:nothing", ["nothing"]),
        ("tests.integration.broken_app", ["broken_app", "this module is broken"]),
        ("taskd.worker.pool.guard", ["app"]),
    ],
)
async def test_an_app_that_cannot_be_used_is_one_line(app: str, words: list[str]) -> None:
    bench = Bench(app=app)
    with pytest.raises(ConfigurationError) as caught:
        await bench.executors.start()
    await bench.executors.close()
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


async def test_ten_thousand_attempts_of_all_sorts_end_exactly_once(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(processes=2, slots=200)
    await bench.executors.start()
    draw = random.Random(7)
    orders = [bench.order("add", '{"a": 1, "b": 2}') for _ in range(10_000)]
    for n in draw.sample(range(10_000), 4):
        orders[n] = bench.order("leave")
    waiting = list(orders)
    while waiting:
        await bench.executors.available()
        chunk, waiting = waiting[: bench.executors.free], waiting[bench.executors.free :]
        bench.executors.begin(chunk)
    outcomes = await bench.ended(*orders, timeout=60)
    kinds = {type(outcome) for outcome in outcomes}
    assert kinds <= {Completed, Crashed, Released}
    assert sum(isinstance(outcome, Completed) for outcome in outcomes) > 5_000
    assert bench.executors.running == 0


async def test_more_orders_than_slots_are_released_not_lost(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(slots=2)
    await bench.executors.start()
    orders = [bench.order("naps") for _ in range(5)]
    await bench.begin(*orders)
    await wait_until_async(lambda: sum(bool(bench.ends[o.job_id]) for o in orders) == 3)
    bench.executors.kill()
    assert all(isinstance(outcome, Released) for outcome in await bench.ended(*orders))


async def test_more_results_at_once_than_fit_a_frame_all_arrive(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(slots=80, max_result_bytes=2**20)
    await bench.executors.start()
    orders = [bench.order("fills", str(2**20 - 2)) for _ in range(80)]
    await bench.begin(*orders)
    outcomes = await bench.ended(*orders)
    assert {len(bytes(outcome.result)) for outcome in outcomes if isinstance(outcome, Completed)} == {2**20}
    assert len({type(outcome) for outcome in outcomes}) == 1


async def test_an_executor_that_receives_nonsense_ends(bench: Bench) -> None:
    waits = bench.order("naps")
    await bench.begin(waits)
    (child,) = bench.executors._supervisor.live
    child._send(b"\xff" * 16)
    (outcome,) = await bench.ended(waits)
    assert isinstance(outcome, Crashed)
    assert isinstance(await bench.run("add", '{"a": 1, "b": 2}'), Completed)


OUTSIDE = """
import asyncio
from tests.integration.executor_bench import Bench
async def main():
    bench = Bench(app="jobs_of_mine.mail")
    await bench.executors.start()
    print(bench.executors.tasks, bytes((await bench.run("send", "\\"you\\"")).result))
    await bench.executors.close()
asyncio.run(main())
"""


def test_an_app_is_found_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "jobs_of_mine").mkdir()
    (tmp_path / "jobs_of_mine" / "words.py").write_text("GREETING = 'hello '\n")
    (tmp_path / "jobs_of_mine" / "mail.py").write_text(
        "import taskd\n"
        "from jobs_of_mine.words import GREETING\n"
        "app = taskd.App()\n"
        "@app.task\n"
        "def send(to: str) -> str:\n"
        "    return GREETING + to\n"
    )
    here = f"import sys; sys.path.append({str(Path(__file__).parents[2])!r})\n"  # for the tests' own modules
    done = subprocess.run(
        [sys.executable, "-P", "-c", here + OUTSIDE], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "('send',)" in done.stdout, done.stderr
    assert "hello you" in done.stdout


async def test_slots_change_while_attempts_run(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(processes=2, slots=2)
    await bench.executors.start()
    assert bench.executors.free == 2
    bench.executors.resize(5)
    assert bench.executors.free == 5
    running = [bench.order("naps") for _ in range(5)]
    bench.executors.begin(running)
    assert (bench.executors.running, bench.executors.free) == (5, 0)
    bench.executors.resize(1)  # running attempts continue
    assert (bench.executors.running, bench.executors.free) == (5, 0)
    for order in running[:4]:
        bench.executors.stop(order.attempt_id, Released("enough"))
    await bench.ended(*running[:4])
    assert bench.executors.free == 0
    bench.executors.resize(3)
    assert bench.executors.free == 2


def progress(notes: Sequence[NoteMessage]) -> list[dict[str, object]]:
    return [msgspec.json.decode(note.progress) for note in notes if note.progress is not None]


@pytest.mark.parametrize("task", ["tells", "thread_tells"])
async def test_of_much_progress_the_last_is_sent_and_before_the_end(bench: Bench, task: str) -> None:
    assert isinstance(await bench.run(task), Completed)
    reports = progress(bench.notes)
    assert len(reports) <= 2
    assert reports[-1].pop("message", "100 of 100\\x00") == "100 of 100\\x00"
    assert reports[-1] == {"attempt": 7, "fraction": 1.0}


async def test_progress_is_sent_at_once_and_then_once_a_second(bench: Bench) -> None:
    order = bench.order("tells", '{"pause": 0.02}')
    await bench.begin(order)
    await wait_until_async(lambda: bench.notes != [])
    assert not bench.ends[order.job_id]
    await bench.ended(order)
    fractions = [float(str(report["fraction"])) for report in progress(bench.notes)]
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert len(fractions) <= 5
    assert fractions == sorted(fractions)


@pytest.mark.parametrize("task", ["saves", "thread_saves"])
async def test_a_checkpoint_is_handed_over_and_the_one_before_is_given(bench: Bench, task: str) -> None:
    order = structs.replace(bench.order(task, '{"value": {"row": 2}}'), checkpoint=b'{"row": 1}')
    await bench.begin(order)
    assert await bench.ended(order) == [Completed(Raw(b'{"row":1}'))]
    assert [(note.number, note.checkpoint) for note in bench.notes] == [(1, b'{"row":2}')]

    bench.keep = False
    outcome = await bench.run(task, '{"value": 3}')
    assert isinstance(outcome, Failed)
    assert "ClaimLost: not yours" in outcome.error


@pytest.mark.parametrize("task", ["saves", "thread_saves"])
async def test_an_attempt_that_waits_for_its_checkpoint_can_be_stopped(bench: Bench, task: str) -> None:
    bench.keep = None
    (pid,) = await executor_of(bench)
    order = bench.order(task, '{"value": 3}')
    await bench.begin(order)
    await wait_until_async(lambda: bench.notes != [])
    bench.executors.stop(order.attempt_id, Released("enough"))
    assert await bench.ended(order) == [Released("enough")]
    assert await executor_of(bench) == [pid]


async def executor_of(bench: Bench) -> list[int]:
    outcome = await bench.run("whoami")
    assert isinstance(outcome, Completed)
    return [int(msgspec.json.decode(outcome.result)[2])]


async def test_a_request_that_cannot_be_sent_is_an_error_with_the_reason(bench: Bench) -> None:
    outcome = await bench.run("saves_nonsense", '{"size": 100000}')
    assert isinstance(outcome, Completed)
    errors = msgspec.json.decode(outcome.result)
    assert [error.split(":")[0] for error in errors] == [
        "the checkpoint is not JSON",
        "the checkpoint has 100002 bytes, but at most 100000 are stored (worker.max_result_bytes)",
        "the checkpoint is not JSON",
        "progress is a number from 0 to 1, not 1.5",
        "progress is a number from 0 to 1, not nan",
    ]
    assert bench.notes == []


async def test_a_plain_function_that_looks_at_the_flag_has_time_to_stop_by_itself(bench: Bench) -> None:
    (pid,) = await executor_of(bench)
    order = bench.order("polls", timeout=0.1)
    await bench.begin(order)
    assert await bench.ended(order) == [TimedOut(0.1)]
    assert [report.get("message") for report in progress(bench.notes)][-1] == "tidied up"
    assert await executor_of(bench) == [pid]


async def test_a_task_snoozes(bench: Bench) -> None:
    assert await bench.run("snoozes", '{"seconds": 60}') == Snoozed(60.0, "not yet")
    outcome = await bench.run("snoozes", '{"seconds": -1}')
    assert isinstance(outcome, Failed)
    assert "Snooze needs a number of seconds from 0 to 315360000, not -1" in outcome.error


async def test_an_executor_starts_before_its_first_attempt_and_stops_when_it_ends_in_good_order(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STOPPED_FILE", str(tmp_path / "stopped"))
    bench = make_bench()
    await bench.executors.start()
    assert await bench.run("pool") == Completed(Raw(b'["started","started more"]'))
    await bench.executors.close()
    assert (tmp_path / "stopped").read_text() == "more\npool\n"


async def test_a_start_that_fails_is_one_line(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(app="tests.integration.startless_app")
    with pytest.raises(
        ConfigurationError, match=r"app '.*startless_app' does not start: RuntimeError: no pool \(.*:\d+\)"
    ):
        await bench.executors.start()


@pytest.mark.parametrize("task", ["last_words", "thread_last_words"])
async def test_an_attempt_that_is_to_stop_may_store_a_last_checkpoint(bench: Bench, task: str) -> None:
    order = bench.order(task)
    await bench.begin(order)
    await wait_until_async(lambda: bench.notes != [])
    bench.executors.stop(order.attempt_id, Released("enough"))
    assert await bench.ended(order) == [Released("enough")]
    assert [note.checkpoint for note in bench.notes][-1] == b'"last"'
    assert bench.executors.restarts == 0


async def test_what_would_wait_for_itself_is_an_error(bench: Bench) -> None:
    outcome = await bench.run("waits_for_itself")
    assert isinstance(outcome, Failed)
    assert "ctx.checkpoint_sync is for plain functions: an async one uses ctx.checkpoint" in outcome.error


@pytest.fixture
async def listening() -> AsyncIterator[Bench]:
    new_bench = Bench(max_log_bytes=20_000)
    await new_bench.executors.start()
    yield new_bench
    await new_bench.executors.close()


async def test_output_of_a_task_is_sent_before_its_end_and_that_of_its_child_processes_is_not(listening: Bench) -> None:
    order = listening.order("says", '{"text": "x y"}')
    assert isinstance(await listening.finish(order), Completed)
    assert listening.heard[order.job_id] == ["printed x y", "to stderr x y", "shop: logged x y", "by ctx text='x y'"]
    assert isinstance(await listening.run("add", '{"a": 1, "b": 2}'), Completed)
    assert {chunk.job_id for chunk in listening.chunks} == {order.job_id}


@pytest.mark.parametrize("how", ["segfault", "kill"])
async def test_output_before_a_crash_is_kept(listening: Bench, how: str) -> None:
    order = listening.order("says_and_dies", f'{{"how": "{how}"}}')
    outcome = await listening.finish(order)
    assert isinstance(outcome, Crashed)
    assert ("SIGSEGV (a fault in native code?" if how == "segfault" else "SIGKILL (out of memory?") in outcome.error
    assert listening.heard[order.job_id] == ["last words"]


async def test_a_stopped_task_leaves_its_traceback_and_its_output(listening: Bench) -> None:
    order = listening.order("dawdles")
    outcome = await listening.finish(order)
    assert isinstance(outcome, TimedOut)
    assert outcome.traceback is not None
    assert "in dawdles" in outcome.traceback
    assert listening.heard[order.job_id] == ["dawdling"]


async def test_output_of_a_running_task_is_sent_while_it_runs_within_its_limit(listening: Bench) -> None:
    order = listening.order("talks_for_ever")
    await listening.begin(order)
    await wait_until_async(lambda: sum(chunk.tail for chunk in listening.chunks) > 3)
    listening.executors.stop(order.attempt_id, Released("enough"))
    await wait_until_async(lambda: listening.ends[order.job_id])
    texts = listening.texts(order.job_id)
    assert texts[:50] == [f"line {number}" for number in range(1, 51)]
    assert all(chunk.line > listening.chunks[0].line for chunk in listening.chunks[1:])


async def test_without_a_limit_nothing_is_caught(bench: Bench) -> None:
    assert isinstance(await bench.run("says", '{"text": "x"}'), Completed)
    assert bench.chunks == []
