"""Jobs on real workers that die, hang and raise."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jaxgrader.batch.jobs import Slots, Task, WorkerLost, in_order, run_jobs
from jaxgrader.batch.local import local, serial
from tests.batch import work

CLONE = Path(__file__).parent.parent.parent


@pytest.fixture(params=["serial", "local"])
def slots(request: pytest.FixtureRequest) -> Iterator[Slots]:
    made = serial() if request.param == "serial" else local(2, 60, [])
    yield made
    made.stop()


@pytest.fixture
def two() -> Iterator[Slots]:
    made = local(2, 60, [])
    yield made
    made.stop()


def task(key: Any, value: Any, expected: float = 1, group: str = "") -> Task:
    return Task(key, lambda: value, expected, group)


def results(function: Callable[[Any], Any], tasks: list[Task], slots: Slots) -> Any:
    return {done.key: result for done, result in run_jobs(function, tasks, slots)}


def test_the_longest_first_and_groups_in_turn() -> None:
    tasks = [task(i, None, 1, "easy") for i in range(3)]
    tasks += [task(i, None, 30, "bad") for i in range(3, 5)]
    tasks += [task(i, None, 1.1, "other") for i in range(5, 8)]
    assert [each.key for each in in_order(tasks)] == [3, 4, 0, 5, 1, 6, 2, 7]


def test_all_results_come_back(slots: Slots) -> None:
    found = results(work.double, [task(i, i) for i in range(20)], slots)
    assert found == {i: 2 * i for i in range(20)}


def test_an_exception_is_a_result_and_is_not_tried_again(
    slots: Slots, tmp_path: Path
) -> None:
    path = tmp_path / "tries"
    (error,) = results(work.fail, [task(1, str(path))], slots).values()
    assert isinstance(error, ValueError)
    assert str(error) == "not this one"
    assert len(path.read_text().splitlines()) == 1


def test_a_task_that_cannot_be_made_is_a_result(slots: Slots) -> None:
    def refuse() -> None:
        raise ValueError("no such file")

    tasks = [Task(1, refuse), task(2, 4)]
    found = results(work.double, tasks, slots)
    assert found[2] == 8
    assert str(found[1]) == "no such file"


def test_workers_are_processes_of_their_own(two: Slots) -> None:
    found = set(results(work.who, [task(i, i) for i in range(8)], two).values())
    assert os.getpid() not in found
    assert len(found) <= 2, "and they are kept"


def test_a_job_whose_worker_dies_is_tried_again(two: Slots, tmp_path: Path) -> None:
    path = str(tmp_path / "tries")
    assert results(work.die_once, [task(1, path)], two) == {1: "alive"}


def test_a_job_that_kills_its_workers_takes_no_other_along(
    two: Slots, tmp_path: Path
) -> None:
    killers = [tmp_path / f"killer-{i}" for i in range(3)]
    tasks = [task(path.name, ("die", str(path))) for path in killers]
    for i in range(20):
        tasks.insert(3 * i, task(i, ("double", str(i))))
    found = results(work.mixed, tasks, two)
    assert [found[i] for i in range(20)] == [2 * i for i in range(20)]
    for path in killers:
        assert isinstance(found[path.name], WorkerLost)
        assert "3 times" in str(found[path.name])
        assert "signal 9" in str(found[path.name])
        assert len(path.read_text().splitlines()) == 3, "tried twice more, no oftener"


def test_a_worker_that_does_not_return_is_killed(tmp_path: Path) -> None:
    slots = local(1, 1, [])
    path = tmp_path / "tries"
    try:
        tasks = [task(1, str(path))]
        (lost,) = results(work.run_for_ever, tasks, slots).values()
        assert "did not return within 1 s" in str(lost)
        assert results(work.double, [task(1, 3)], slots) == {1: 6}, "a new worker"
    finally:
        slots.stop()
    assert_gone(path)


def test_workers_end_with_a_coordinator_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    os.mkfifo(path)
    program = (
        "from jaxgrader.batch.jobs import Task, run_jobs\n"
        "from jaxgrader.batch.local import local\n"
        "from tests.batch.work import run_for_ever\n"
        f"tasks = [Task(i, lambda: {str(path)!r}) for i in range(2)]\n"
        "if __name__ == '__main__':\n"
        "    list(run_jobs(run_for_ever, tasks, local(2, 600, [])))\n"
    )
    script = tmp_path / "coordinator.py"
    script.write_text(program)
    env = {**os.environ, "PYTHONPATH": str(CLONE)}
    with subprocess.Popen([sys.executable, script], env=env) as coordinator:
        pids = read_pids(path, 2)
        coordinator.send_signal(signal.SIGKILL)
    for pid in pids:
        wait_for_end(pid)


def test_workers_are_forked_with_what_they_need(tmp_path: Path) -> None:
    """Without the grammar that the program keeps away: it takes longer than the rest.

    What they are forked from starts beside the program, before its settings are read,
    and whoever interrupts the program then does not interrupt that.
    """
    program = """
        import os, signal, sys
        from multiprocessing import forkserver
        from jaxgrader.batch import local
        def look():
            names = "jaxgrader.worker", "jsonschema", "rfc3987_syntax"
            loaded = [sys.modules.get(name) is not None for name in names]
            return loaded, os.environ.get("COLOUR"), "TASTE" in os.environ, os.getppid()
        if __name__ == "__main__":
            os.environ["TASTE"] = "sweet"
            local.preload()
            started = forkserver._forkserver._forkserver_pid
            os.kill(started, signal.SIGINT)
            os.environ["COLOUR"] = "green"
            del os.environ["TASTE"]
            slots = local.local(1, 60, local.PRELOAD)
            *found, parent = slots.executor.submit(look).result()
            print(*found, parent == started)
            print(signal.getsignal(signal.SIGINT).__name__)
            slots.stop()
        """
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(CLONE)},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = "[True, True, False] green False True\ndefault_int_handler\n"
    assert (done.stdout, done.stderr) == (expected, "")


def test_stopping_ends_jobs_that_run(tmp_path: Path) -> None:
    slots = local(1, 600, [])
    path = tmp_path / "pid"
    os.mkfifo(path)
    future = slots.executor.submit(work.run_for_ever, str(path))
    (pid,) = read_pids(path, 1)
    slots.stop()
    wait_for_end(pid)
    assert isinstance(future.exception(), WorkerLost)


def read_pids(fifo: Path, count: int) -> list[int]:
    """Wait for what `count` workers write."""
    found: list[int] = []
    while len(found) < count:
        found += map(int, fifo.read_text().split())
    return found


def assert_gone(path: Path) -> None:
    for pid in path.read_text().splitlines():
        wait_for_end(int(pid))


def wait_for_end(pid: int) -> None:
    """Wait until a process is gone, at most a minute."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([descriptor], [], [], 60)
        assert ended, f"process {pid} lives on"
    finally:
        os.close(descriptor)
