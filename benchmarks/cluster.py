"""`jaxgrader autograde` on a cluster on one machine: what the cluster itself costs.

A scheduler and two workers, each a process here, over mutual TLS; beside them the same
class with two local processes. The machine's processor time counts, so nothing else is
to run; the two take turns, for this machine's speed changes.
"""

import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.batch import KEPT, prepare, run
from benchmarks.figures import Figure, machine
from benchmarks.notebooks import CLONE, Course
from demo.students import NOTEBOOKS
from tests.batch.test_dask import wait_for

STUDENTS, TURNS, WORKERS = 12, 3, 2
PROGRAMS = Path(sys.executable).parent


def cluster(runtime: Path) -> list[Figure]:
    """Grade a class with local processes and with a cluster's, in turns."""
    course = Course(runtime / "course")
    prepare(course, (CLONE / "nbgrader_config.py").read_text() + KEPT, STUDENTS)
    command = [PROGRAMS / "jaxgrader", "autograde", "--force"]
    costs: dict[str, list[float]] = {"local": [], "dask": []}
    with started(runtime) as options:
        ways = {"local": [f"--workers={WORKERS}"], "dask": options}
        for more in ways.values():
            run([*command, *more, "--student=s0[01]"], course.root)
        for _ in range(TURNS):
            for way, more in ways.items():
                before = machine()
                run([*command, *more], course.root)
                cost = (machine() - before) / STUDENTS / len(NOTEBOOKS)
                costs[way].append(cost)
    if os.environ.get("RAW"):
        print(costs)
    ours, alone = (statistics.median(costs[way]) for way in ("dask", "local"))
    name = "a notebook on a cluster, CPU (without, in the place of stock)"
    return [Figure(name, "s", ours, alone, bar=1.05)]


@contextmanager
def started(runtime: Path) -> Iterator[list[str]]:
    """Start a scheduler and its workers; yield the command line's part about them."""
    tls, config = runtime / "tls", runtime / "dask.yaml"
    subprocess.run(
        [CLONE / "deploy" / "certificates", tls], check=True, capture_output=True
    )
    text = (CLONE / "deploy" / "dask.yaml").read_text()
    config.write_text(text.replace("/etc/jaxgrader/tls", str(tls)))
    here = ("--host", "127.0.0.1", "--no-dashboard")
    with ExitStack() as stack:
        scheduler = start(
            stack, config, "scheduler", *here, "--protocol=tls", "--port=0"
        )
        address = ready(scheduler, "Scheduler at:").split()[-1]
        alone = ("--nthreads=1", "--no-nanny")
        for _ in range(WORKERS):
            worker = start(stack, config, "worker", address, *here, *alone)
            ready(worker, "Registered to:")
        files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
        keys = [f"--tls-{name}={tls / file}" for name, file in files.items()]
        yield ["--executor=dask", f"--scheduler={address}", *keys]


def start(stack: ExitStack, config: Path, *words: str) -> "subprocess.Popen[str]":
    """Start one of Dask's programs; it ends with `stack`."""
    process = subprocess.Popen(
        [str(PROGRAMS / "dask"), *words],
        env={**os.environ, "DASK_CONFIG": str(config)},
        cwd=config.parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def ready(process: "subprocess.Popen[str]", words: str) -> str:
    """Wait until a program logs some words; return the line."""
    line = wait_for(process, words)
    assert process.stderr is not None
    # What it says later must not fill the pipe.
    threading.Thread(target=process.stderr.read, daemon=True).start()
    return line
