"""A figure and its bar, and what processes have used: from /proc, so Linux only."""

import os
import resource
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxgrader.kernel.usage import descendants

TICKS = os.sysconf("SC_CLK_TCK")
MB = 1_000_000


@dataclass(frozen=True)
class Figure:
    """Medians of one run, ours and stock, in `unit`, and the most that they may be.

    `bar` is for ours / stock, for ours - stock or for ours alone, as `kind` says; it
    is None where nothing was promised.
    """

    name: str
    unit: str
    ours: float
    stock: float | None = None
    kind: Literal["ratio", "difference", "ours"] = "ratio"
    bar: float | None = None

    @property
    def value(self) -> float:
        """What the bar is for."""
        if self.stock is None or self.kind == "ours":
            return self.ours
        if self.kind == "difference":
            return self.ours - self.stock
        return self.ours / self.stock

    @property
    def missed(self) -> bool:
        return self.bar is not None and self.value > self.bar


@dataclass(frozen=True)
class Cost:
    """What something took: seconds by the clock, and of processor time."""

    wall: float
    cpu: float


def mean(costs: Sequence[Cost]) -> Cost:
    """Return the mean of each."""
    return Cost(*(statistics.fmean(values) for values in columns(costs)))


def median(costs: Sequence[Cost]) -> Cost:
    """Return the median of each."""
    return Cost(*(statistics.median(values) for values in columns(costs)))


def columns(costs: Sequence[Cost]) -> tuple[list[float], list[float]]:
    return [cost.wall for cost in costs], [cost.cpu for cost in costs]


@contextmanager
def private_folders() -> Iterator[Path]:
    """Yield a folder for fork servers; they end when it goes.

    Caches and settings go there too: nothing of this user's is read or written.
    """
    with tempfile.TemporaryDirectory(prefix="jgb-") as name:
        folders = {
            "JAXGRADER_RUNTIME_DIR": name,
            "JAXGRADER_CACHE_DIR": f"{name}/cache",
            "IPYTHONDIR": f"{name}/ipython",
            "JUPYTER_CONFIG_DIR": f"{name}/jupyter",
            "JUPYTER_RUNTIME_DIR": f"{name}/run",
            "JAX_PLATFORMS": "cpu",
        }
        before = dict(os.environ)
        os.environ.update(folders)
        try:
            yield Path(name)
        finally:
            os.environ.clear()
            os.environ.update(before)


def fork_servers(runtime: Path) -> list[str]:
    """Return the pids of the fork servers below `runtime` and of all their kernels."""
    found: dict[str, None] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"jaxgrader.kernel.zygote" in command and bytes(runtime) in command:
                found |= dict.fromkeys([pid, *descendants(pid)])
    return list(found)


def fork_server(runtime: Path) -> str:
    """Return the pid of the one fork server itself, while it has no kernel."""
    *_, last = fork_servers(runtime)
    return last


def cpu_of(pids: Sequence[str]) -> float:
    """Return the CPU seconds of processes and of their children that have ended."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, words[11:15]))
    return total / TICKS


def cpu_of_children() -> float:
    """Return the CPU seconds of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_of(pids: Sequence[str], kind: str = "Pss") -> int:
    """Return the memory of processes in bytes: "Pss" counts shared pages in parts."""
    return sum(
        int(line.split()[1]) * 1024
        for pid in pids
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        if line.startswith(f"{kind}:")
    )


def open_files(pid: str) -> int:
    """Return how many file descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def machine() -> float:
    """Return the CPU seconds that this machine has spent: nothing else is to run.

    Kernels that were graded are killed, and what a killed one has used is in nobody's
    account.
    """
    words = Path("/proc/stat").read_text().split("\n")[0].split()
    return sum(int(words[n]) for n in (1, 2, 3)) / TICKS
