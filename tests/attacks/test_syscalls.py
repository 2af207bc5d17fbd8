"""Attacks on the operating system: calls that widen what a process can reach."""

import platform
import signal
import subprocess
from pathlib import Path
from typing import Any

import pyseccomp
import pytest

from tests.attacks.persons import Kernel, Kernels, Person
from tests.attacks.test_files import append


def calls(attempts: dict[str, tuple[int, list[int]]]) -> dict[str, str]:
    """Make system calls, each in a process of its own; return errors' names, or ''."""
    import ctypes
    import errno
    import os

    def call(number: int, arguments: list[int]) -> str:
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            libc = ctypes.CDLL(None, use_errno=True)
            failed = libc.syscall(number, *map(ctypes.c_long, arguments)) == -1
            code = ctypes.get_errno() if failed else 0
            os.write(theirs, errno.errorcode.get(code, f"{code}").encode())
            os._exit(0)
        os.close(theirs)
        with open(ours) as file:
            name = file.read()
        status = os.waitpid(pid, 0)[1]
        return f"signal {status}" if status else name.strip("0")

    return {name: call(*attempt) for name, attempt in attempts.items()}


def number_of(name: str) -> int:
    """Return a system call's number, a negative one where there is no such call."""
    return int(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name))


#: With arguments that do no harm where the call is allowed: no such file, no such
#: process, no such address.
NOTHING = [-1, -1, -1, -1, -1, -1]
NAMES = """
    acct add_key bpf chroot clock_adjtime clock_settime delete_module fanotify_init
    finit_module fsconfig fsmount fsopen fspick init_module inotify_init1
    io_uring_enter
    io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load
    keyctl lookup_dcookie mbind memfd_create memfd_secret migrate_pages mknod
    mknodat modify_ldt mount mount_setattr move_mount move_pages mq_open
    name_to_handle_at open_by_handle_at open_tree perf_event_open pidfd_getfd
    pivot_root process_madvise process_vm_readv process_vm_writev ptrace quotactl
    quotactl_fd reboot request_key semget set_mempolicy setdomainname sethostname
    setns settimeofday shmget swapoff swapon syslog umount2 unshare userfaultfd
    vmsplice
""".split()  # noqa: SIM905 - a list of words
SYSCALLS: dict[str, list[int]] = {
    **dict.fromkeys(NAMES, NOTHING),
    "msgget": [12345, 0],
    "personality": [0x40000],  # ADDR_NO_RANDOMIZE
}


def test_forbidden_calls(person: Person, either: Kernel) -> None:
    numbers = {name: number_of(name) for name in SYSCALLS}
    attempts = {
        name: (number, SYSCALLS[name]) for name, number in numbers.items() if number > 0
    }
    assert len(attempts) > 60
    if person.name == "root":
        allowed = person.call(calls, attempts)
        assert {name for name in allowed if allowed[name] == "EPERM"} == set()
    found = either.call(calls, attempts)
    refusals = ("EPERM", "ENOSYS", "EACCES")
    assert {n: result for n, result in found.items() if result not in refusals} == {}


#: What an ordinary user may do outside; a kernel may not.
UNPRIVILEGED: dict[str, tuple[str, list[int]]] = {
    "a user namespace": ("unshare", [0x10000000]),
    "ptrace me": ("ptrace", [0, 0, 0, 0]),
    "a session keyring": ("keyctl", [1, 0]),
    "another layout": ("personality", [0x40000]),
    "the memory of a process": ("process_vm_readv", [1, 0, 0, 0, 0, 0]),
    "memory without a file": ("memfd_create", [0, 0]),
    "a set of semaphores": ("semget", [0x6D616C, 1, 0]),
    "a name for a file": ("name_to_handle_at", [-100, 0, 0, 0, 0]),
}
FINE = ("", "EFAULT", "ENOENT", "EINVAL")


def unprivileged() -> dict[str, tuple[int, list[int]]]:
    return {
        name: (number_of(syscall), arguments)
        for name, (syscall, arguments) in UNPRIVILEGED.items()
    }


def test_what_others_may(person: Person, either: Kernel) -> None:
    allowed = person.call(calls, unprivileged())
    allowed.pop("the memory of a process")  # that one is another user's
    assert {n: result for n, result in allowed.items() if result not in FINE} == {}
    found = either.call(calls, unprivileged())
    assert {n: result for n, result in found.items() if result != "EPERM"} == {}


NAMESPACES = {
    "time": 0x80,
    "mnt": 0x20000,
    "cgroup": 0x2000000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}


def new_namespaces(*, user: bool) -> dict[str, tuple[int, list[int]]]:
    """Return every way to make a namespace, with or without one for users."""
    attempts: dict[str, tuple[int, list[int]]] = {}
    for name, flag in NAMESPACES.items():
        flags = flag | NAMESPACES["user"] if user else flag
        attempts[f"unshare {name}"] = number_of("unshare"), [flags]
        if name != "time":  # clone has no bit for it
            attempts[f"clone {name}"] = number_of("clone"), [flags | 17, 0, 0, 0, 0]
    attempts["clone3"] = number_of("clone3"), [0, 0]
    return attempts


def test_a_new_namespace(person: Person, either: Kernel) -> None:
    allowed = person.call(calls, new_namespaces(user=True))
    assert {n: result for n, result in allowed.items() if result not in FINE} == {}
    for user in (True, False):
        found = either.call(calls, new_namespaces(user=user))
        assert found.pop("clone3") == "ENOSYS"
        assert {n: result for n, result in found.items() if result != "EPERM"} == {}


def enter(pid: str, kind: str) -> str:
    """Enter another process's namespace."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
    if libc.setns(descriptor, 0) == -1:
        raise OSError(ctypes.get_errno(), "setns")
    return "entered"


def test_entering_a_namespace(either: Kernel) -> None:
    kinds = ("user", "mnt", "pid", "net")
    either.cannot(enter, [(pid, kind) for pid in ("self", "1") for kind in kinds])


PROGRAMS = [
    "su -c id",
    "mount -t tmpfs tmpfs /scratch",
    "unshare --user id",
    "nsenter --target 1 --all id",
    "chroot / id",
    "bwrap --ro-bind / / id",
    "newgrp root",
    "passwd root",
    "chsh -s /bin/sh",
    "strace -p 1",
    "setpriv --reuid=0 whoami",
]


def succeeding(commands: list[str]) -> list[str]:
    """Run programs; return those that succeed."""
    import subprocess

    def run(command: str) -> int:
        try:
            null = subprocess.DEVNULL
            return subprocess.run(
                command.split(), stdin=null, stdout=null, stderr=null
            ).returncode
        except OSError:
            return 1

    return [command for command in commands if run(command) == 0]


def test_programs_that_give_privileges(either: Kernel) -> None:
    assert either.call(succeeding, ["id", *PROGRAMS]) == ["id"]


def test_no_setuid_program_changes_the_user(either: Kernel) -> None:
    """Those of the system, and one of the student's making."""
    setuid = [str(p) for p in Path("/usr/bin").iterdir() if p.stat().st_mode & 0o6000]
    code = (
        "import os, shutil, subprocess\n"
        "shutil.copy('/usr/bin/id', '/scratch/id'); os.chmod('/scratch/id', 0o6755)\n"
        "print(subprocess.check_output(['/scratch/id'], text=True))\n"
        "print(open('/proc/self/status').read())\n"
        f"print([os.statvfs(path).f_flag & os.ST_NOSUID for path in {setuid!r}])"
    )
    text = either.run(code).text
    assert "euid" not in text
    assert "NoNewPrivs:\t1" in text
    assert "Seccomp:\t2" in text
    assert set(text.splitlines()[-1].strip("[]").split(", ")) <= {"2", ""}


def test_no_capabilities(either: Kernel) -> None:
    """What the bounding set holds can never be had without new privileges."""
    text = either.run("print(open('/proc/self/status').read())").text
    values = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    sets = [int(values[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")]
    assert sets == [0, 0, 0, 0]
    assert values["NoNewPrivs"] == "1"


def other_user(name: str) -> None:
    import os

    getattr(os, name)(*[0] * {"setresuid": 3, "setresgid": 3}.get(name, 1))


def test_becoming_root(either: Kernel) -> None:
    names = ("setuid", "setgid", "seteuid", "setresuid", "setresgid")
    either.cannot(other_user, [(name,) for name in names])


def test_taking_groups(either: Kernel) -> None:
    result = either.run("import os; os.setgroups([0])")
    assert result.text.startswith("PermissionError")


def type_into_terminal(high: int) -> None:
    """Put a character into a terminal's input, as if it had been typed."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.openpty()[1]
    request = ctypes.c_ulong(0x5412 | high)  # the kernel looks at the low half only
    if libc.syscall(16, descriptor, request, ctypes.c_char_p(b"x")) == -1:
        raise OSError(ctypes.get_errno(), "TIOCSTI")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="ioctl's number")
def test_typing_into_a_terminal(person: Person, either: Kernel) -> None:
    highs = [(0,), (1 << 32,), (0xFFFFFFFF << 32,)]
    if person.name == "root":
        person.can(type_into_terminal, highs)
    either.cannot(type_into_terminal, highs)


#: Machine code: a function that makes system call `number` in another way than glibc.
INT_80 = "b8{number}bb{argument}cd80c3"  # mov eax; mov ebx; int 0x80; ret
SYSCALL = "b8{number}bf{argument}0f05c3"  # mov eax; mov edi; syscall; ret


def run_code(code: str) -> dict[str, int]:
    """Run machine code in a process of its own; return what it gives, or its end."""
    import ctypes
    import mmap
    import os

    memory = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
    memory.write(bytes.fromhex(code))
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    function = ctypes.CFUNCTYPE(ctypes.c_int)(address)
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.write(theirs, str(function()).encode())
        os._exit(0)
    os.close(theirs)
    with open(ours) as file:
        text = file.read()
    status = os.wait()[1]
    return {"value": int(text)} if text else {"signal": status & 0x7F}


def machine_code(template: str, number: int, argument: int) -> str:
    values = {"number": number, "argument": argument}
    return template.format(
        **{k: v.to_bytes(4, "little").hex() for k, v in values.items()}
    )


#: By interface: how to call, and the numbers there of getpid and of unshare.
INTERFACES = {
    "the native one": (SYSCALL, 39, 272),
    "32 bits": (INT_80, 20, 310),
    "x32": (SYSCALL, 0x40000000 + 39, 0x40000000 + 272),
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86's machine code")
def test_other_ways_into_the_system(person: Person, either: Kernel) -> None:
    """The filter must know every interface: each has numbers of its own.

    On the other interfaces it makes no difference between calls: all end the process.
    """
    for name, (template, getpid, unshare) in INTERFACES.items():
        new_user = machine_code(template, unshare, NAMESPACES["user"])
        harmless = machine_code(template, getpid, 0)
        if name == "the native one":
            assert person.call(run_code, harmless)["value"] > 1
            assert person.call(run_code, new_user) == {"value": 0}
            assert either.call(run_code, harmless)["value"] > 1
            assert either.call(run_code, new_user) == {"value": -1}  # EPERM
        else:
            assert either.call(run_code, new_user) == {"signal": signal.SIGSYS}
            assert either.call(run_code, harmless) == {"signal": signal.SIGSYS}


def test_its_own_filter_cannot_open_the_other(either: Kernel) -> None:
    """A filter that allows everything is added, and changes nothing."""
    result = either.run(
        "import pyseccomp\n"
        "import os\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        pyseccomp.SyscallFilter(pyseccomp.ALLOW).load()\n"
        "        import ctypes\n"
        "        os._exit(ctypes.CDLL(None).unshare(0x10000000) & 1)\n"
        "    finally:\n"
        "        os._exit(2)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    assert result.text.strip() in ("1", "2"), result.text


CGROUPS = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"]


def test_leaving_the_control_group(either: Kernel) -> None:
    either.cannot(append, [(f"{folder}/cgroup.procs",) for folder in CGROUPS])


#: What the machine has only so much of for each user, and the kernels are the
#: instructor's processes: they must leave some.
def watch(count: int) -> int:
    """Make inotify instances until it is refused."""
    import ctypes
    import os

    global held
    libc, held = ctypes.CDLL(None), []  # type: ignore[name-defined]
    while len(held) < count:  # type: ignore[name-defined]
        if (descriptor := libc.inotify_init1(os.O_CLOEXEC)) < 0:
            break
        held.append(descriptor)  # type: ignore[name-defined]
    return len(held)  # type: ignore[name-defined]


def queue_signals(count: int) -> int:
    """Send a process signals that stay pending, until it is refused."""
    import ctypes
    import os
    import signal

    libc = ctypes.CDLL(None)
    libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    ours, theirs = os.pipe()
    if os.fork() == 0:  # as long as the kernel lives, with one thread
        os.close(ours)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
        sent = 0
        while sent < count and libc.sigqueue(os.getpid(), signal.SIGRTMIN, None) == 0:
            sent += 1
        os.write(theirs, str(sent).encode())
        os.close(theirs)
        os.read(os.pipe()[0], 1) if count > 1 else None
        os._exit(0)
    os.close(theirs)
    with open(ours) as file:
        return int(file.read())


def send_files(count: int) -> int:
    """Put open files on their way, and never receive them."""
    import os
    import socket

    global sockets
    sockets = []  # type: ignore[name-defined]
    null = os.open("/dev/null", os.O_RDONLY)
    sent = 0
    while sent < count:
        sockets += socket.socketpair()  # type: ignore[name-defined]
        try:
            socket.send_fds(sockets[-1], [b"x"], [null] * 250)  # type: ignore[name-defined]
        except OSError:
            break
        sent += 250
    return sent


SHARED: dict[str, tuple[Any, int, int]] = {
    "inotify": (watch, 250, 1),
    "signals": (queue_signals, 150_000, 1),
    "files on their way": (send_files, 20_000, 250),
}


@pytest.mark.parametrize("name", SHARED)
def test_using_up_what_users_share(start: Kernels, person: Person, name: str) -> None:
    attack, many, some = SHARED[name]
    assert person.call(attack, some) == some
    kernel = start(Limits={"open_files": 1024})
    kernel.call(attack, many)
    assert person.call(attack, some) == some
    # A submission's files come through a socket.
    assert start(cwd=person.submission).run("print('alive')").text == "alive\n"


def test_the_machine_is_as_before(person: Person, kernel: Kernel) -> None:
    """None of this has changed what it was aimed at."""
    kernel.run("import os; os.system('hostname mallory; date -s 2001-01-01')")
    assert subprocess.check_output(["hostname"], text=True).strip() != "mallory"
    assert Path("/proc/uptime").read_text()
