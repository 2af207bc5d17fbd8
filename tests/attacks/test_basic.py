"""The level without namespaces: Landlock, seccomp and limits keep what they can."""

import signal
from pathlib import Path

import pytest

from tests.attacks.persons import CANARY, Kernel, Kernels, Person, calling
from tests.attacks.test_bombs import forks
from tests.attacks.test_endings import daemon
from tests.attacks.test_files import SECRETS, append, read
from tests.attacks.test_network import UNIX, baits, reach, send_from_pair
from tests.attacks.test_processes import PRIORITIES, is_there, send, set_priority
from tests.attacks.test_syscalls import calls, unprivileged


@pytest.fixture
def basic(pool: Kernels) -> Kernel:
    return pool.share("basic", "copy", Sandbox={"level": "basic"})


def test_files(person: Person, basic: Kernel) -> None:
    paths = [(str(person.root / secret),) for secret in SECRETS]
    mine = (str(person.submission / "mine.txt"),)
    assert {person.call(read, *path) for path in paths} == {CANARY}
    person.can(append, [*paths, mine])
    basic.cannot(read, paths)
    basic.cannot(read, [(f"/proc/{person.pid}/root{path}",) for (path,) in paths])
    basic.cannot(append, [*paths, mine])


def test_other_processes(person: Person, basic: Kernel) -> None:
    pids = (person.pid, basic.guard)
    files = ("environ", "mem", "maps", "fd/0")
    basic.cannot(read, [(f"/proc/{pid}/{name}",) for pid in pids for name in files])
    person.call(is_there, person.pid)
    numbers = (0, int(signal.SIGKILL), int(signal.SIGSTOP))
    basic.cannot(send, [(pid, number) for pid in pids for number in numbers])
    basic.cannot(set_priority, [(pid, how) for pid in pids for how in PRIORITIES])
    person.call(is_there, person.pid)


def test_connecting(person: Person, basic: Kernel) -> None:
    for bait in baits():
        person.call(reach, *bait.arguments())
        assert bait.was_reached()
        basic.refuses(reach, *bait.arguments())
        assert not bait.was_reached()


def test_connecting_to_other_kernels(
    start: Kernels, person: Person, basic: Kernel
) -> None:
    """Their output needs no key; and the fork server gives other folders and limits."""
    other = start(Sandbox={"level": "basic"})
    control = str(basic.sockets.parent.parent / "control")
    cases = [(*UNIX, control), (*UNIX, str(other.sockets / "s-2"))]
    person.can(reach, cases)
    basic.cannot(reach, cases)
    basic.cannot(send_from_pair, [(control,)])


def test_calls(basic: Kernel) -> None:
    found = basic.call(calls, unprivileged())
    assert {name for name, result in found.items() if result != "EPERM"} == set()


def test_daemons(start: Kernels) -> None:
    """Without a namespace to end, the guard must find them."""
    kernel = start(Sandbox={"level": "basic"})
    kernel.call(daemon)
    (left,) = (pid for pid in children_of(kernel.guard) if pid != kernel.pid)
    assert kernel.run("import os; os._exit(0)").status == "dead"
    kernel.wait()
    assert not Path(f"/proc/{left}").exists()
    assert not kernel.sockets.exists()


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_endless_work(start: Kernels) -> None:
    kernel = start(Sandbox={"level": "basic"}, Limits={"cpu": 1})
    assert kernel.run("while True: pass").status == "dead"
    assert kernel.wait().startswith("The kernel was stopped: it used more than 1 s")


def test_too_many_processes(start: Kernels) -> None:
    """The user's other processes are not counted as the kernel's."""
    kernel = start(Sandbox={"level": "basic"})
    kernel.run(calling(forks, 150))
    assert "processes and threads" in kernel.wait()
    assert not kernel.sockets.exists()


def nest(depth: int) -> None:
    """Make folders that a recursive program cannot follow, and nobody can enter."""
    import os

    os.chdir(os.environ["TMPDIR"])
    os.mkdir("closed", 0)
    for _ in range(depth):
        os.mkdir("deep")
        os.chdir("deep")
    os.chmod(".", 0)


def test_no_folder_is_left(start: Kernels) -> None:
    kernel = start(Sandbox={"level": "basic"})
    kernel.call(nest, 2000)
    assert kernel.run("import os; os._exit(0)").status == "dead"
    kernel.wait()
    assert not kernel.sockets.exists()
