"""Kill the batch's processes at random points: `python -m tests.kills [KILLS [SEED]]`.

A class of 40 is graded again and again while the coordinator, a worker, a checker or
kernel, or the fork server is killed. Afterwards the class is graded without; then every
score, file and record must be what it is without any kill, and no process be left.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxgrader.kernel.usage import descendants
from tests.conftest import BARE, DOUBLE, Course
from tests.test_autograde import RIGHT, rows, tree, write_answer
from tests.test_cli import PROGRAM

ANSWERS = [RIGHT, "def double(x):\n    return 4", "1/0", "def double(x): return x"]


class Battle:
    """A class whose batch is being shot at."""

    def __init__(self, root: Path, students: int, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.runtime = root / "run"
        self.runtime.mkdir()
        self.temporary = root / "tmp"
        self.temporary.mkdir()
        self.env = {
            **BARE,
            "HOME": str(root),
            "TMPDIR": str(self.temporary),
            "JAXGRADER_RUNTIME_DIR": str(self.runtime),
        }
        self.course = Course(root / "course")
        self.course.write_source("ps", "p", DOUBLE)
        (done,) = self.course.nbgrader("generate_assignment ps", env=self.env)
        assert done.status == 0, done.log
        for number in range(students):
            folder = self.course.hand_out("ps", f"s{number:02}")
            write_answer(folder / "p.ipynb", ANSWERS[number % len(ANSWERS)])

    def batch(self, *more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [PROGRAM, "autograde", "--json", "--workers=2", *more],
            cwd=self.course.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def undisturbed(self, *more: str) -> None:
        """Grade, and nobody is killed."""
        with self.batch(*more) as running:
            _, log = running.communicate()
        assert running.returncode == 0, log

    def disturbed(self, kills: int) -> list[str]:
        """Grade all again; kill something every few submissions; return what."""
        killed: list[str] = []
        force = ["--force"]
        while len(killed) < kills:
            with self.batch(*force) as running:
                last = self.shoot_at(running, killed, kills)
                running.communicate()
            # Whoever lost the coordinator goes on where it was stopped.
            force = [] if last == "coordinator" else ["--force"]
        return killed

    def shoot_at(
        self, running: "subprocess.Popen[str]", killed: list[str], kills: int
    ) -> str:
        """Kill something every few submissions; return what it was last."""
        name = ""
        for _ in self.some_lines(running):
            name = self.shoot(running.pid)
            killed += [name] if name else []
            if name == "coordinator" or len(killed) >= kills:
                break
        return name

    def some_lines(self, running: "subprocess.Popen[str]") -> Iterator[None]:
        """Yield after every few of the submissions that are reported."""
        assert running.stdout is not None
        yield  # while it starts
        for _ in running.stdout:
            if self.random.random() < 0.3:
                yield

    def shoot(self, coordinator: int) -> str:
        """Kill a process of the batch; return which."""
        workers = descendants(str(coordinator))
        servers, guards = self.servers()
        targets = {
            "coordinator": [str(coordinator)],
            "worker": workers,
            "fork server": servers,
            "checker or kernel": guards,
        }
        name = self.random.choice(list(targets))
        if not targets[name]:
            return ""
        pid = int(self.random.choice(targets[name]))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return name
        return ""

    def servers(self) -> tuple[list[str], list[str]]:
        """Return the fork server's processes, and the guards of its kernels.

        Not the kernels themselves: one that is killed looks like one that a student's
        code has killed.
        """
        pids = list(filter(str.isdigit, os.listdir("/proc")))
        outer = [pid for pid in pids if str(self.runtime) in command_of(pid)]
        servers = [pid for pid in pids if parent_of(pid) in outer and pid not in outer]
        guards = [pid for pid in pids if parent_of(pid) in servers]
        return outer + servers, guards

    def left(self) -> list[str]:
        """Return what is left of processes and folders that should not be."""
        workers = [
            command_of(pid)
            for pid in filter(str.isdigit, os.listdir("/proc"))
            if str(self.course.root) in environment_of(pid)
            and "zygote" not in command_of(pid)
        ]
        staged = list((self.course.root / "autograded").glob(".staged/*"))
        folders = list(self.temporary.glob("jaxgrader-worker-*"))
        return [*workers, *map(str, staged), *map(str, folders)]


def command_of(pid: str) -> str:
    return read(f"/proc/{pid}/cmdline")


def parent_of(pid: str) -> str:
    return (read(f"/proc/{pid}/stat").rpartition(")")[2].split() or ["", ""])[1]


def environment_of(pid: str) -> str:
    return read(f"/proc/{pid}/environ")


def read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except OSError:
        return ""


def fight(kills: int, seed: int, students: int) -> list[str]:
    """Shoot at a batch `kills` times; raise AssertionError unless nothing was lost."""
    with tempfile.TemporaryDirectory(prefix="jgk-") as folder:
        battle = Battle(Path(folder), students, seed)
        battle.undisturbed()
        scores, files = rows(battle.course), tree(battle.course)
        killed = battle.disturbed(kills)
        battle.undisturbed()
        assert rows(battle.course) == scores, killed
        assert tree(battle.course) == files, killed
        states = battle.course.query(
            "SELECT DISTINCT state, activity FROM jaxgrader_ledger"
        )
        assert states == [("graded", None)], (states, killed)
        assert not battle.left(), (battle.left(), killed)
    return killed


if __name__ == "__main__":
    kills, seed = [*map(int, sys.argv[1:]), *(100, 0)[len(sys.argv) - 1 :]]
    shots = fight(kills, seed, 40)
    counts = {name: shots.count(name) for name in sorted(set(shots))}
    print(f"{len(shots)} kills {counts}: every score, file and record is as without.")
