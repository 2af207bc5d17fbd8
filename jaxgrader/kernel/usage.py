"""What the processes of a jail use together, read from /proc.

What it is: the guard's arithmetic. What it is not: a decision; that is `guard.py`'s.

Guarantees: a process that ends while it is looked at counts as gone; no name that a
student gives a process breaks a line. Assumes a /proc that shows the jail's processes.
"""

import contextlib
import os
import re
import resource
from dataclasses import dataclass, field
from pathlib import Path

#: The most that Linux queues in a Unix socket, in bytes (net.core.wmem_max, doubled).
QUEUE = 425_984
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """What the processes of the jail use together: CPU seconds, bytes, threads."""

    cpu: float = 0.0
    memory: int = 0
    threads: int = 0
    #: Each process's own CPU seconds; a pid may be used again, with another start.
    own: dict[tuple[str, str], float] = field(default_factory=dict)


@dataclass
class Clock:
    """Counts the CPU seconds of processes that nobody waits for, as far as seen.

    The times of children reach their parent when it waits for them. A parent that
    ignores their end makes them vanish; what was last seen of them is kept here.
    """

    running: dict[tuple[str, str], float] = field(default_factory=dict)
    ended: float = 0.0

    def count(self, own: dict[tuple[str, str], float]) -> float:
        """Return the CPU seconds of all processes up to now, given the living ones."""
        gone = self.running.keys() - own.keys()
        self.ended += sum(self.running[process] for process in gone)
        self.running = own
        return self.ended + sum(own.values())


def usage(processes: list[str], *, proportional: bool) -> Usage:
    """Add up what `processes` use; what they share once where `proportional`."""
    used = Usage(cpu=waited_for())
    for pid in processes:
        with contextlib.suppress(OSError):  # it has just ended
            numbers = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            used.own[pid, numbers[19]] = sum(map(int, numbers[11:13])) / TICKS
            used.cpu += sum(map(int, numbers[11:15])) / TICKS
            used.threads += int(numbers[17])
            used.memory += memory_of(pid, proportional=proportional)
    return used


def waited_for() -> float:
    """Return the CPU seconds of the children that this process has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def memory_of(pid: str, *, proportional: bool) -> int:
    """Return the bytes that a process holds and that no file backs."""
    status = kilobytes(f"/proc/{pid}/status")
    own = status.get("RssAnon", 0) + status.get("RssShmem", 0)
    if proportional:
        # A process can forbid this look; then it pays for what it shares.
        with contextlib.suppress(PermissionError):
            shares = kilobytes(f"/proc/{pid}/smaps_rollup")
            own = shares.get("Pss_Anon", 0) + shares.get("Pss_Shmem", 0)
    return (own + status.get("VmPTE", 0)) * 1024


def kilobytes(path: str) -> dict[str, int]:
    """Return the sizes in a file of /proc, by name."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", read(path), re.MULTILINE)
    return {name: int(count) for name, count in found}


def read(path: str) -> str:
    """Return a file of /proc; students name their processes as they like."""
    return Path(path).read_bytes().decode("latin-1")


def queued_in_sockets() -> int:
    """Return the bytes that the jail's sockets can hold, which belong to no process."""
    with open("/proc/self/net/unix", "rb") as file:
        return sum(1 for _ in file) * QUEUE


def descendants(pid: str) -> list[str]:
    """Return the pids of all descendants of a process."""
    found, unseen = [], children_of(pid)
    while unseen:
        child = unseen.pop()
        found.append(child)
        unseen += children_of(child)
    return found


def children_of(pid: str) -> list[str]:
    """Return the pids of a process's children; none if it has just ended."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += read(f"/proc/{pid}/task/{task}/children").split()
    return found
