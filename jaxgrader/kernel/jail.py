"""Enter the jail: what a fork does to itself before it runs anything of a student's.

What it is: the inner layer. The fork server forks the guard into new namespaces; the
guard mounts what is private, and forks the kernel, which confines itself. What it is
not: the outer layer, which is bubblewrap's (`sandbox.py`), nor the limits over time,
which `guard.py` watches.

Guarantees, at level strict: own user, pid, mount, network, ipc, uts and cgroup
namespaces, no capability, no new privileges, a seccomp filter, Landlock, rlimits. Each
step that fails raises; nothing is skipped. Assumes: one thread, and that the view of
the file system is the one that bubblewrap gave the fork server.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import signal
import socket
import stat
from pathlib import Path

import landlockpy as landlock
import pyseccomp as seccomp

from jaxgrader.kernel.inside import CACHE, RUN, SOCKETS, WRITABLE, Jail

_libc = ctypes.CDLL(None, use_errno=True)
#: Keeps the interpreter's lock, which the child of a fork must hold.
_python_libc = ctypes.PyDLL(None, use_errno=True)
_python_libc.syscall.restype = ctypes.c_long

#: The number of the system call; its first argument is the flags. (It is the
#: second one on s390, for which there is no jaxlib.)
CLONE = seccomp.resolve_syscall(seccomp.Arch.NATIVE, "clone")

#: <sched.h>
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
NAMESPACES = (
    CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
)
#: <sys/mount.h>
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
#: <linux/prctl.h>
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
#: <linux/capability.h>
CAPABILITY_VERSION_3 = 0x20080522
CAP_CHOWN, CAP_SETGID, CAP_SETUID, CAP_SETFCAP = 0, 6, 7, 31
#: <asm-generic/ioctls.h>: type into a terminal
TIOCSTI, TIOCLINUX = 0x5412, 0x541C


def fork_into_namespaces() -> int:
    """Fork, as `os.fork` does; the child is the first process of new namespaces.

    Of the fork server's it keeps the view of the file system alone. It can do what it
    likes in its own, and is nobody until its user ids are mapped. `unshare` and a
    second fork would do the same, and copy the page tables twice.

    Raises:
        OSError: if the machine does not let it.
    """
    python = ctypes.pythonapi
    arguments = [ctypes.c_long(n) for n in (CLONE, NAMESPACES | signal.SIGCHLD)]
    nothing = [ctypes.c_long(0)] * 4  # the same stack, no places for its number
    python.PyOS_BeforeFork()
    pid: int = _python_libc.syscall(*arguments, *nothing)
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        code = ctypes.get_errno()
        python.PyOS_AfterFork_Parent()
        if pid < 0:
            raise OSError(code, f"clone: {os.strerror(code)}")
    return pid


def mount_private(jail: Jail, sockets: Path, *, own_cache: bool = True) -> None:
    """Give this process its own /tmp, home, scratch, /proc, /dev/pts and sockets.

    Mounts that lie under these are not reachable any more, and cannot be uncovered
    without capabilities, which `drop_privileges` takes away.
    """
    _mount(None, Path("/"), flags=MS_REC | MS_PRIVATE)
    shown = [path for path in (*jail.readable, jail.writable) if path]
    covered = {path: os.open(path, os.O_PATH) for path in shown if is_covered(path)}
    private = RUN / "private"
    size = f"size={jail.disk},nr_inodes=65536," if jail.disk else ""
    _mount("tmpfs", private, "tmpfs", MS_NOSUID | MS_NODEV, f"{size}mode=0755")
    for target, name in WRITABLE.items():
        if target != CACHE or own_cache:
            (private / name).mkdir(mode=0o700)
            _mount(private / name, target, flags=MS_BIND)
    for path, descriptor in covered.items():
        os.makedirs(path, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", Path(path), flags=MS_BIND | MS_REC)
        os.close(descriptor)
    _mount(sockets, SOCKETS, flags=MS_BIND)
    mount_proc(Path("/proc"))
    options = "newinstance,ptmxmode=0666,mode=0620"
    _mount("devpts", Path("/dev/pts"), "devpts", MS_NOSUID | MS_NOEXEC, options)
    _mount("tmpfs", RUN, "tmpfs", MS_RDONLY, "size=4096,mode=0700")


def is_covered(path: str) -> bool:
    """Whether a folder that the kernel must see lies where a private one will be."""
    return any(Path(path).is_relative_to(target) for target in WRITABLE)


def mount_proc(target: Path) -> None:
    """Mount this pid namespace's /proc at `target`."""
    _mount("proc", target, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def keep_only(*capabilities: int) -> None:
    """Give up all capabilities but these; forbid to gain any by running a program."""
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    kept = sum(1 << number for number in capabilities)
    low = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    _call("capset", header, low)


def drop_privileges() -> None:
    """Give up all capabilities for good."""
    keep_only()


def hide(*, hidden: bool = True) -> None:
    """Make this process unreadable to others of the same user."""
    _call("prctl", PR_SET_DUMPABLE, 0 if hidden else 1, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent ends."""
    _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def set_limits(jail: Jail) -> None:
    """Set the limits that the operating system enforces per process."""
    unlimited = resource.RLIM_INFINITY
    processes = jail.processes
    if processes is not None and jail.level == "basic":
        processes += others_of_this_user()
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 1 << 20,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 1024,  # the user's other processes want some, too
        resource.RLIMIT_DATA: jail.memory and jail.memory + inherited_memory(),
        resource.RLIMIT_FSIZE: jail.disk,
        resource.RLIMIT_NPROC: processes,
        resource.RLIMIT_NOFILE: jail.open_files,
    }
    if jail.cpu is not None:
        # First SIGXCPU, which says what happened; then SIGKILL.
        resource.setrlimit(resource.RLIMIT_CPU, (jail.cpu, jail.cpu + 5))
    for name, limit in limits.items():
        hard = resource.getrlimit(name)[1]
        if limit is not None:
            limit = limit if hard == unlimited else min(limit, hard)
            resource.setrlimit(name, (limit, limit))


def inherited_memory() -> int:
    """Return the bytes of data that this process has from the fork server.

    It shares them with all kernels, and they are no part of what it may use.
    """
    try:
        pages = Path("/proc/self/statm").read_text().split()[5]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def others_of_this_user() -> int:
    """Return how many threads this user has beside this one, and some that may come.

    Without a user namespace the operating system counts all of them together. The
    guard counts a kernel's own; this is to stop a bomb that is faster than the guard.
    """
    threads = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid():
                threads += len(os.listdir(folder / "task"))
    return threads + (ROOM_FOR_OTHERS if threads > 1 else 0)


#: Threads that a user may still start elsewhere while a kernel of level basic runs.
ROOM_FOR_OTHERS = 256


def confine_files(jail: Jail) -> None:
    """Landlock: read the system and what is named, write the private folders only.

    TCP, abstract sockets and signals that leave the jail are refused, too, as far as
    this machine's Landlock knows them (ABI 4 and 6).
    """
    everything = landlock.fs_for_abi(landlock.abi_version())
    access = landlock.AccessFS
    read = access.READ_FILE | access.READ_DIR | access.EXECUTE
    files = access.READ_FILE | access.WRITE_FILE | access.TRUNCATE | access.IOCTL_DEV
    scope = landlock.Scope.ABSTRACT_UNIX_SOCKET | landlock.Scope.SIGNAL
    with landlock.Ruleset(scoped=scope) as rules:
        for path in [*SYSTEM, *(PROC if jail.level == "strict" else OPEN_PROC)]:
            _allow(rules, path, read)
        _allow(rules, f"/proc/{os.getpid()}", read)
        for path in jail.readable:
            _allow(rules, path, read)
        for path in jail.private:
            _allow(rules, path, everything)
        if jail.writable:
            _allow(rules, jail.writable, everything)
        # No link, and no removal: the client follows what lies here.
        _allow(rules, jail.sockets, read | access.MAKE_SOCK | files)
        for name in DEVICES:
            _allow(rules, f"/dev/{name}", files | access.READ_DIR)
        for path in jail.devices:
            _allow(rules, path, files | access.READ_DIR)
        rules.restrict()


SYSTEM = ["/bin", "/etc", "/lib", "/lib32", "/lib64", "/sbin", "/sys", "/usr"]
#: Not /dev/zero: mapped and shared, it is memory that no limit counts.
DEVICES = ["full", "null", "ptmx", "pts", "random", "tty", "urandom"]
PROC = ["/proc"]
#: Of the machine's own /proc, where the kernel has none of its own.
OPEN_PROC = [f"/proc/{name}" for name in ("cpuinfo", "filesystems", "meminfo", "stat")]


def _allow(rules: landlock.Ruleset, path: str, rights: landlock.AccessFS) -> None:
    if not os.path.exists(path):
        return
    if not stat.S_ISDIR(os.stat(path).st_mode):
        rights &= ~(_FOLDER_RIGHTS)
    rules.allow_path(path, rights)


_FOLDER_RIGHTS = (
    landlock.AccessFS.READ_DIR
    | landlock.AccessFS.REMOVE_DIR
    | landlock.AccessFS.REMOVE_FILE
    | landlock.AccessFS.MAKE_CHAR
    | landlock.AccessFS.MAKE_DIR
    | landlock.AccessFS.MAKE_REG
    | landlock.AccessFS.MAKE_SOCK
    | landlock.AccessFS.MAKE_FIFO
    | landlock.AccessFS.MAKE_BLOCK
    | landlock.AccessFS.MAKE_SYM
    | landlock.AccessFS.REFER
)

#: System calls that a notebook has no use for and that widen what it can reach:
#: namespaces and mounts, modules, other processes, keys, tracing, clocks, and memory
#: that no limit counts. Names of other architectures are skipped by libseccomp.
FORBIDDEN = """
    acct add_key bpf chroot clock_adjtime clock_settime delete_module fanotify_init
    finit_module fsconfig fsmount fsopen fspick init_module inotify_init
    inotify_init1 io_uring_enter
    io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl
    lookup_dcookie lsm_set_self_attr mbind memfd_create memfd_secret migrate_pages mknod
    mknodat modify_ldt mount mount_setattr move_mount move_pages mq_open msgget
    name_to_handle_at
    open_by_handle_at open_tree perf_event_open personality pidfd_getfd pivot_root
    process_madvise process_vm_readv process_vm_writev ptrace quotactl quotactl_fd
    reboot request_key semget set_mempolicy setdomainname sethostname setns
    settimeofday shmget stime swapoff swapon syslog umount umount2 unshare userfaultfd
    vhangup vmsplice
""".split()  # noqa: SIM905


def build_filter(level: str) -> seccomp.SyscallFilter:
    """Build the seccomp filter; load it later, with its `load`.

    Allowed is what is not named here. Sockets are of the Unix family only, `clone`
    makes no namespaces, `clone3` (whose flags a filter cannot see) does not exist, and
    nobody sets the limits or the priority of another process. At level basic, which
    shows the machine's own sockets, nobody connects to any.

    Raises:
        RuntimeError: if libseccomp is not installed.
    """
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    # On the processor's other interfaces. Without one thread, the others would wait.
    rules.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    refuse = seccomp.ERRNO(errno.EPERM)
    for name in FORBIDDEN:
        try:
            rules.add_rule(refuse, name)
        except (FileNotFoundError, OSError) as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):
                raise
    # CLONE_NEWTIME shares its bit with clone's exit signal, and unshare is refused.
    for flag in _bits(NAMESPACES):
        rules.add_rule(refuse, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    family = seccomp.ERRNO(errno.EAFNOSUPPORT)
    rules.add_rule(family, "socket", seccomp.Arg(0, seccomp.NE, 1))  # AF_UNIX
    # Shared memory without a file outlives its mapping, and no limit counts it.
    hidden = seccomp.Arg(
        3, seccomp.MASKED_EQ, *[mmap.MAP_SHARED | mmap.MAP_ANONYMOUS] * 2
    )
    rules.add_rule(seccomp.ERRNO(errno.ENOMEM), "mmap", hidden)
    for name, number in OF_A_PROCESS:
        rules.add_rule(refuse, name, seccomp.Arg(number, seccomp.NE, 0))
    rules.add_rule(refuse, "ioprio_set", seccomp.Arg(0, seccomp.NE, 1))  # a process
    # ZeroMQ sets it for each of its threads, by number, and aborts if that fails.
    for name in ("sched_setscheduler", "sched_setparam"):
        rules.add_rule(seccomp.ERRNO(0), name, seccomp.Arg(0, seccomp.NE, 0))
    if level == "basic":
        forbid_connecting(rules)
    for request in (TIOCSTI, TIOCLINUX):
        low = seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request)
        rules.add_rule(refuse, "ioctl", low)
    return rules


#: System calls that change a process, and which argument names it: 0 is the caller.
#: For setpriority, 0 is also the kind of a single process.
OF_A_PROCESS = [
    ("prlimit64", 0),
    ("sched_setaffinity", 0),
    ("sched_setattr", 0),
    ("setpriority", 0),
    ("setpriority", 1),
    ("ioprio_set", 1),
]


def forbid_connecting(rules: seccomp.SyscallFilter) -> None:
    """Refuse every way to reach a socket by its name; Landlock knows no such right.

    A datagram's address is out of a filter's sight, so there are no such sockets.
    """
    refuse = seccomp.ERRNO(errno.EACCES)
    rules.add_rule(refuse, "connect")
    rules.add_rule(refuse, "sendto", seccomp.Arg(4, seccomp.NE, 0))
    for name in ("socket", "socketpair"):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
            same = seccomp.Arg(1, seccomp.MASKED_EQ, SOCK_TYPE_MASK, int(kind))
            rules.add_rule(refuse, name, same)


#: <linux/net.h>: the rest of a socket's type are flags
SOCK_TYPE_MASK = 0xF


def _bits(flags: int) -> list[int]:
    return [1 << n for n in range(32) if flags >> n & 1]


def _mount(
    source: str | Path | None,
    target: Path,
    kind: str | None = None,
    flags: int = 0,
    options: str | None = None,
) -> None:
    arguments = [text.encode() if text else None for text in (kind, options)]
    _call(
        "mount",
        str(source).encode() if source else None,
        str(target).encode(),
        arguments[0],
        ctypes.c_ulong(flags),
        arguments[1],
        what=f"mount {kind or 'bind'} at {target}",
    )


def _call(name: str, *arguments: object, what: str | None = None) -> None:
    """Call libc's `name`; raise OSError, with what was tried, where it fails."""
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what or name}: {os.strerror(code)}")
