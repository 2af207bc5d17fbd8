# ruff: noqa: S108 - what kernels share, or should not, includes /tmp
"""Attacks on other processes: the grader's, the guard, other students' kernels."""

import os
import platform
import signal

from tests.attacks import persons
from tests.attacks.persons import CANARY, GAVE, Kernel, Kernels, Person, trying


def command_lines() -> list[str]:
    """Return the command lines of all processes that can be seen."""
    import os

    found = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            with open(f"/proc/{pid}/cmdline") as file:
                found.append(file.read(200))
    return found


def test_listing(person: Person, either: Kernel) -> None:
    assert any("tests.attacks.driver" in line for line in person.call(command_lines))
    # The guard and the kernel: two forks of the fork server.
    lines = either.call(command_lines)
    assert len(lines) == 2, lines
    assert all("jaxgrader.kernel.zygote" in line for line in lines)


def is_there(pid: int) -> None:
    import os

    os.kill(pid, 0)


def send(pid: int, number: int) -> None:
    import os

    os.kill(pid, number)


def test_signals_to_the_grader(person: Person, either: Kernel) -> None:
    person.call(is_there, person.pid)
    numbers = (signal.SIGKILL, signal.SIGSTOP, signal.SIGUSR1)
    either.cannot(send, [(person.pid, int(number)) for number in numbers])
    assert person.call(is_there, person.pid) is None


def test_signals_to_everybody(start: Kernels, person: Person) -> None:
    """The kernel itself is spared: it is the sender."""
    one, other = start(), start()
    one.run("import os, signal; os.kill(-1, signal.SIGKILL); print('done')")
    assert other.run("print('alive')").text == "alive\n"


def send_everything() -> list[int]:
    """Send process 1 all signals; return those that are not refused."""
    import os
    import signal

    sent = []
    guard = os.pidfd_open(1)
    for number in set(range(1, 65)) - {32, 33}:
        for send in (os.kill, lambda _, x: signal.pidfd_send_signal(guard, x)):
            try:
                send(1, number)
            except PermissionError:
                continue
            sent.append(number)
    return sent


def test_signals_to_the_guard(start: Kernels) -> None:
    kernel = start(Limits={"cpu": 2})
    assert kernel.call(send_everything) == []
    # It watches on.
    assert kernel.run("while True: pass").status == "dead"
    assert kernel.wait().startswith("The kernel was stopped: it used more than 2 s")
    assert kernel.remains() == []


GUARD = {
    "environ": "open(path + 'environ').read()",
    "memory": "open(path + 'mem', 'rb').read(1)",
    "maps": "open(path + 'maps').read()",
    "smaps": "open(path + 'smaps').read()",
    "files": "[os.readlink(path + 'fd/' + x) for x in os.listdir(path + 'fd')]",
    "a file": "os.open(path + 'fd/3', os.O_RDONLY)",
    "stderr": "os.open(path + 'fd/2', os.O_WRONLY)",
    "root": "os.listdir(path + 'root')",
    "cwd": "os.listdir(path + 'cwd')",
    "exe": "os.readlink(path + 'exe')",
    "namespace": "os.readlink(path + 'ns/mnt')",
    "io": "open(path + 'io').read()",
    "stack": "open(path + 'stack').read()",
    "syscall": "open(path + 'syscall').read()",
    "limits": "resource.prlimit(pid, resource.RLIMIT_NOFILE)",
    "new limits": "resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0))",
    "group": "os.setpgid(pid, os.getpgid(0))",
}


def attempt(code: str, pid: int) -> None:
    import os
    import resource

    path = f"/proc/{pid}/"
    exec(code, {"os": os, "resource": resource, "pid": pid, "path": path})  # noqa: S102


def test_the_guard(either: Kernel) -> None:
    either.cannot(attempt, [(code, 1) for code in GUARD.values()])


#: What of the above works on a process of one's own: the attempts are real.
OWN = ["environ", "maps", "files", "exe", "namespace", "io"]


def test_a_process_of_its_own(kernel: Kernel) -> None:
    child = kernel.call(spawn, "own")
    results = kernel.run(trying(attempt, [(GUARD[name], child) for name in OWN])).value
    assert [one for one in results if not one.startswith(GAVE)] == []


def set_priority(pid: int, how: str) -> None:
    """Make a process wait for others; raise if that is refused."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    if how == "nice":
        os.setpriority(os.PRIO_PROCESS, pid, 19)
    elif how == "group":
        os.setpriority(os.PRIO_PGRP, pid, 19)
    elif how == "user":
        os.setpriority(os.PRIO_USER, os.getuid(), 19)
    elif how == "processors":
        os.sched_setaffinity(pid, {0})
    elif how == "ioprio":  # of a process, idle
        if libc.syscall(251, 1, pid, 3 << 13) == -1:
            raise OSError(ctypes.get_errno(), "ioprio_set")
    elif how == "large":  # the kernel looks at the low half of a pid only
        words = [ctypes.c_long(n) for n in (141, 0, 1 << 32 | pid, 19)]
        if libc.syscall(*words) == -1:
            raise OSError(ctypes.get_errno(), "setpriority")


PRIORITIES = ["nice", "group", "user", "processors", "large"]
if platform.machine() == "x86_64":
    PRIORITIES.append("ioprio")


def test_the_priority_of_the_guard(either: Kernel) -> None:
    either.cannot(set_priority, [(1, how) for how in PRIORITIES])
    # ZeroMQ would abort if this were refused: it does nothing.
    either.run("import os; os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))")
    assert os.sched_getscheduler(either.guard) == os.SCHED_OTHER
    assert os.getpriority(os.PRIO_PROCESS, either.guard) == 0
    # Its own is its own.
    assert either.run("os.sched_setaffinity(0, {0}); os.nice(0)").status == "ok"


def test_the_environment(person: Person, either: Kernel) -> None:
    environ = f"/proc/{person.pid}/environ"
    code = f"print(open({environ!r}).read())"
    assert CANARY in person.outside(code).text
    assert either.run(code).status == "error"
    everything = (
        "import os\nfor pid in os.listdir('/proc'):\n"
        "    if pid.isdigit() and pid != '1':\n"
        "        print(open(f'/proc/{pid}/environ').read())\n"
        "print(dict(os.environ))"
    )
    text = either.run(everything).text
    assert "MPLBACKEND" in text
    assert CANARY not in text
    assert str(person.home) not in text


def in_memory(needles: list[list[str]]) -> list[int]:
    """Count how often each needle is in this process's memory; they come in pieces."""
    import os
    import re

    heads = "|".join(needle[0] for needle in needles)
    tails = {n[0].encode(): (k, n[1:]) for k, n in enumerate(needles)}
    counts = [0] * len(needles)
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    with open("/proc/self/maps") as maps:
        regions = [line.split() for line in maps if line.split()[1][0] == "r"]
    for start, end in ([int(x, 16) for x in r[0].split("-")] for r in regions):
        try:
            block = os.pread(memory, end - start, start)
        except (OSError, OverflowError):
            continue
        for hit in re.finditer(heads.encode(), block):
            number, rest = tails[hit[0]]
            tail = block[hit.end() : hit.end() + 100]
            if all(
                tail[2 * k : 2 * k + len(x)] == x.encode() for k, x in enumerate(rest)
            ):
                counts[number] += 1
    os.close(memory)
    return counts


def pieces(text: str) -> list[str]:
    """Cut up what is searched for: the search itself must not be a hit."""
    return [text[:6], *(text[n : n + 2] for n in range(6, len(text), 2))]


def test_secrets_in_inherited_memory(person: Person, start: Kernels) -> None:
    """A fork has a copy of all that its parents have ever read."""
    one, other = start(), start(cwd=person.submission)
    secrets = [other.key, one.key, CANARY, f"{person.home}"]
    found = other.call(in_memory, [pieces(secret) for secret in secrets])
    assert found[0] > 0
    assert found[1:] == [0, 0, 0]


def open_files() -> dict[str, str]:
    import os

    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def test_inherited_files(either: Kernel) -> None:
    known = ("pipe:", "socket:", "anon_inode:[event", "/dev/null", "/dev/urandom")
    found = either.call(open_files)
    assert [path for path in found.values() if not path.startswith(known)] == []


def peers() -> list[int]:
    """Return the pids of the processes at the other end of every socket here."""
    import os
    import socket
    import stat
    import struct

    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                continue
        except FileNotFoundError:
            continue
        with socket.socket(fileno=os.dup(int(name))) as one:
            option = one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            found.add(struct.unpack("3i", option)[0])
    return sorted(found)


def test_inherited_sockets(either: Kernel) -> None:
    """None leads to the guard (1); 0 is the client, which is not to be seen here."""
    me = either.run("import os; print(os.getpid())").text
    assert set(either.call(peers)) <= {0, int(me)}


def spawn(argument: str) -> int:
    import subprocess

    global child
    command = ["/bin/sh", "-c", "read x", argument]
    child = subprocess.Popen(command, stdin=subprocess.PIPE)  # type: ignore[name-defined]
    return int(child.pid)  # type: ignore[name-defined]


def test_another_kernel_s_processes(start: Kernels) -> None:
    one, other = start(), start()
    inside = one.call(spawn, "of-the-one")
    assert any("of-the-one" in line for line in one.call(command_lines))
    assert not any("of-the-one" in line for line in other.call(command_lines))
    one.call(is_there, inside)
    pids = {inside, *one.processes()} - {1, int(numbers_inside(other))}
    other.cannot(send, [(pid, int(signal.SIGKILL)) for pid in pids])
    one.call(is_there, inside)


def numbers_inside(kernel: Kernel) -> str:
    return kernel.run("import os; print(os.getpid())").text


FILES = [
    "/tmp/m",
    "/dev/shm/m",
    "/home/student/m",
    "/scratch/m",
    "/var/cache/jaxgrader/m",
]


def leave(path: str) -> None:
    with open(path, "w") as file:
        file.write("left by mallory")


def look(path: str) -> bool:
    import os

    return os.path.exists(path)


def test_another_kernel_s_files(pool: Kernels, kernel: Kernel) -> None:
    other = pool.share("other")
    for path in FILES:
        kernel.call(leave, path)
        assert kernel.call(look, path)
        assert not other.call(look, path)


def make_terminal() -> str:
    import os

    global terminal
    terminal = os.openpty()  # type: ignore[name-defined]
    return os.ttyname(terminal[1])  # type: ignore[name-defined]


def test_another_kernel_s_terminal(pool: Kernels, kernel: Kernel) -> None:
    path = kernel.call(make_terminal)
    kernel.call(leave, path)
    pool.share("other").refuses(leave, path)


def test_a_kernel_ends_while_another_lives(start: Kernels) -> None:
    """The other one's guard was forked later, and holds nothing of the first."""
    one, other = start(), start()
    assert one.run("import os; os._exit(3)").status == "dead"
    assert one.wait() == "The kernel ended itself with exit status 3."
    assert one.remains() == []
    assert other.run("print('alive')").text == "alive\n"


LEFT = {
    "files": [
        f"open({path!r}, 'w').write('left')"
        for path in (
            *FILES,
            "/tmp/.ipython/profile_default/startup/00.py",
            "/home/student/.bashrc",
            "/home/student/.config/pip.conf",
            "mine.txt",
        )
    ],
    "modules": [
        "import builtins; builtins.mallory = True",
        "import jax, numpy; jax.numpy.sum = numpy.sum = None",
        "import sys; sys.modules['math'] = None",
        "import sys; sys.path.insert(0, '/tmp')",
    ],
    "process": [
        "import os; os.environ['MALLORY'] = '1'",
        "import os; os.umask(0o777)",
        "import os; os.nice(5)",
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (70, 70))",
    ],
}


def leave_all(lines: list[str]) -> None:
    import os

    os.makedirs("/tmp/.ipython/profile_default/startup", exist_ok=True)
    os.makedirs("/home/student/.config", exist_ok=True)
    for line in lines:
        exec(line)  # noqa: S102


def state() -> dict[str, object]:
    """Return what a kernel might inherit of another one."""
    import builtins
    import os
    import resource
    import sys

    import jax
    import numpy

    files = [
        os.path.join(folder, name)
        for top in ("/tmp", "/dev/shm", "/home/student", "/scratch")
        for folder, _, names in os.walk(top)
        for name in names
        if not folder.startswith((sys.prefix, *filter(None, sys.path)))
        if not name.startswith(".iopub") and "history" not in name
    ]
    return {
        "files": sorted(files),
        "builtins": len(dir(builtins)),
        "works": [bool(jax.numpy.sum), bool(numpy.sum), bool(sys.modules["math"])],
        "path": sys.path,
        "environ": sorted(os.environ),
        "umask": [os.umask(0o22), os.umask(0o22)],
        "nice": os.nice(0),
        "files_limit": resource.getrlimit(resource.RLIMIT_NOFILE),
        "flags": sys.flags.optimize,
    }


def test_the_next_kernel_is_clean(start: Kernels, person: Person) -> None:
    one = start(cwd=person.submission)
    before = one.call(state)
    one.call(leave_all, [line for lines in LEFT.values() for line in lines])
    beside = start(cwd=person.submission)
    assert beside.call(state) == before
    one.stop()
    after = start(cwd=person.submission)
    assert after.call(state) == before


def test_a_kernel_ends_when_its_client_is_killed(person: Person) -> None:
    with persons.person(person.name) as other:
        kernel = Kernels(other)()
        kernel.call(spawn, "orphan")
        other.process.kill()
        other.process.wait()
        assert kernel.vanishes()


def test_other_users_of_this_machine(either: Kernel) -> None:
    """They cannot talk to a kernel, nor to its fork server."""
    assert not either.sockets.stat().st_mode & 0o077
    control = either.sockets.parent.parent / "control"
    closed = [folder for folder in control.parents if not folder.stat().st_mode & 0o001]
    assert closed or not control.stat().st_mode & 0o002
