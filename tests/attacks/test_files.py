# ruff: noqa: S103, S108 - what attacks go for is open, and lies in /tmp, too
"""Attacks on files: reading them, writing them, links to them."""

import contextlib
import os
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks.persons import CANARY, DriverError, Kernel, Kernels, Person


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def append(path: str) -> None:
    """Open for writing, and write nothing: who may do this, may write."""
    with open(path, "a"):
        pass


def new_file(folder: str) -> None:
    import os

    path = os.path.join(folder, "from-mallory")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(path)


def change_mode(path: str) -> None:
    """Set the mode that it has: who may do this, may set any."""
    import os

    os.chmod(path, os.stat(path).st_mode & 0o7777)


SECRETS = [
    "course/gradebook.db",
    "course/source/hw1/hw1.ipynb",
    "course/submitted/alice/hw1/hw1.py",
    "home/.ssh/id_ed25519",
]
WAYS = ["", "/proc/self/root", "/proc/1/root", "/proc/self/cwd/../../../../../../.."]


def test_secrets(person: Person, either: Kernel) -> None:
    paths = [str(person.root / secret) for secret in SECRETS]
    assert {person.call(read, path) for path in paths} == {CANARY}
    either.cannot(read, [(way + path,) for way in WAYS for path in paths])
    person.can(append, [(path,) for path in paths])
    either.cannot(append, [(path,) for path in paths])


def test_reading_what_is_the_system_s(person: Person, either: Kernel) -> None:
    paths = ("/etc/shadow", "/etc/machine-id", os.path.expanduser("~root/.bashrc"))
    if person.name == "root":
        person.can(read, [(path,) for path in paths if os.path.exists(path)])
    either.cannot(read, [(path,) for path in paths])


@contextlib.contextmanager
def left_in(folder: str) -> Iterator[str]:
    """Yield a file that somebody else on this machine has left where all may."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="left-") as file:
        file.write(CANARY.encode())
        file.flush()
        os.chmod(file.name, 0o666)
        yield file.name


def test_reading_what_others_left(person: Person, either: Kernel) -> None:
    for folder in ("/tmp", "/dev/shm", "/var/tmp"):
        with left_in(folder) as path:
            assert person.call(read, path) == CANARY
            either.refuses(read, path)


def test_a_copy_is_not_the_submission(person: Person, kernel: Kernel) -> None:
    path = person.submission / "mine.txt"
    kernel.refuses(append, str(path))
    kernel.call(append, "mine.txt")
    assert path.read_text() == "mine"


def names(folders: list[str], known: list[str]) -> list[str]:
    """Walk through `folders`, but not through `known` ones; return what is there."""
    import os

    found = []
    for top in folders:
        for folder, inner, files in os.walk(top):
            inner[:] = [x for x in inner if os.path.join(folder, x) not in known]
            found += [os.path.join(folder, name) for name in files]
    return found


def test_nothing_else_exists(person: Person, either: Kernel) -> None:
    """What is not the system's, Python's or the kernel's own cannot even be listed."""
    tops = ["/", "/boot", "/home", "/mnt", "/opt", "/root", "/run", "/srv", "/var"]
    tops += [str(parent) for parent in person.submission.parents]
    known = ["/dev", "/etc", "/proc", "/sys", "/usr", "/bin", "/lib", "/sbin"]
    known += ["/home/student", "/scratch", "/tmp", "/var/cache/jaxgrader"]
    known += ["/var/lib/jaxgrader", "/run/kernel", str(person.submission)]
    prefixes = {sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)}
    assert either.call(names, tops, [*known, *prefixes]) == []
    # It does list what may be seen.
    assert len(either.call(names, ["/run/kernel"], [])) == 5


def openings(tops: list[str]) -> list[str]:
    """Return what can be changed below `tops`; change none of it.

    Of files that are no folders and no devices, one in each folder is tried.
    """
    import os
    import stat

    def may(change: str, path: str) -> bool:
        mode = os.lstat(path).st_mode
        try:
            if change == "mode":
                os.chmod(path, mode & 0o7777)
            elif change == "times":
                os.utime(
                    path, ns=(os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns)
                )
            elif stat.S_ISDIR(mode):
                probe = os.path.join(path, "from-mallory")
                os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
                os.unlink(probe)
            elif not stat.S_ISCHR(mode):
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))
            else:
                return False
        except OSError:
            return False
        return True

    paths = []
    for top in tops:
        for folder, _, files in os.walk(top):
            paths.append(folder)
            full = [os.path.join(folder, name) for name in files]
            real = [path for path in full if not os.path.islink(path)]
            paths += real if folder.startswith("/dev") else real[:1]
    changes = ("content", "mode", "times")
    return [
        f"{change} of {path}"
        for path in paths
        for change in changes
        if may(change, path)
    ]


def test_writing_where_the_system_and_python_are(own: Kernel) -> None:
    tops = ["/", "/etc", "/usr", "/var/lib/jaxgrader", "/run/jaxgrader"]
    tops += [sys.prefix, os.path.realpath(sys.base_prefix)]
    assert own.call(openings, tops) == []
    assert "content of /scratch" in own.call(openings, ["/scratch"])


def test_changing_devices(either: Kernel) -> None:
    """/dev is everybody's: whoever takes /dev/null away, takes it from all."""
    found = either.call(openings, ["/dev"])
    private = ("/dev/shm", "/dev/pts")
    assert [one for one in found if not one.split(" of ")[1].startswith(private)] == []


SITE = site.getsitepackages()[0]
TARGETS = [
    f"{SITE}/sitecustomize.py",  # site-packages
    f"{SITE}/zzz.pth",  # a .pth file
    f"{Path(__file__).parents[2]}/jaxgrader/kernel/guard.py",  # this package
    os.path.realpath(sys.executable),  # the interpreter
    "/lib/x86_64-linux-gnu/libc.so.6",  # the C library
    "/usr/bin/env",  # a program
    "/etc/passwd",  # who is who
    "/var/lib/jaxgrader/cache/entry",  # the cache
    "/run/jaxgrader/kernels/entry",  # the fork server
    "/run/kernel/entry",  # a socket folder
]


def test_writing_for_others(either: Kernel) -> None:
    either.cannot(append, [(target,) for target in TARGETS])


PROC = [
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/drop_caches",
    "/proc/irq/default_smp_affinity",
    "/proc/self/oom_score_adj",
    "/proc/self/uid_map",
    "/proc/self/loginuid",
    "/proc/1/oom_score_adj",
    "/proc/1/timerslack_ns",
]


def open_to_write(path: str) -> None:
    import os

    os.close(os.open(path, os.O_WRONLY))


def test_writing_settings(person: Person, either: Kernel) -> None:
    if person.name == "root":
        person.can(open_to_write, [(path,) for path in PROC if Path(path).exists()])
    either.cannot(open_to_write, [(path,) for path in PROC])


def test_sys_is_not_there(either: Kernel) -> None:
    paths = [("/sys/kernel",), ("/sys/fs/cgroup",), ("/sys/class/net",)]
    either.cannot(new_file, paths)
    either.cannot(change_mode, paths)


def link_and_read(target: str, how: str) -> str:
    import os

    os.chdir("/scratch")
    if os.path.lexists("link"):
        os.unlink("link")
    (os.symlink if how == "symlink" else os.link)(target, "link")
    with open("link") as file:
        return file.read()


def test_links_in_scratch(person: Person, either: Kernel) -> None:
    paths = ["/etc/shadow", *[str(person.root / secret) for secret in SECRETS]]
    hows = ("symlink", "link")
    either.cannot(link_and_read, [(path, how) for path in paths for how in hows])


def test_hard_links_to_what_may_be_read(either: Kernel) -> None:
    """They would outlive the file's removal, and share its mode."""
    paths = ("/etc/passwd", "/proc/self/exe")
    either.cannot(link_and_read, [(path, "link") for path in paths])


def test_a_link_in_an_own_folder(person: Person, own: Kernel) -> None:
    link = person.submission / "up"
    link.symlink_to(person.course)
    try:
        assert person.call(read, f"{link}/gradebook.db") == CANARY
        own.refuses(read, f"{link}/gradebook.db")
        own.refuses(append, f"{link}/gradebook.db")
        own.refuses(new_file, f"{link}")
    finally:
        link.unlink()


@pytest.fixture
def submission(person: Person, tmp_path: Path) -> Iterator[Path]:
    """A submission that a test may fill."""
    folder = person.course / "submitted/mallory/hw2"
    folder.mkdir()
    yield folder
    subprocess.run(["/bin/rm", "-rf", folder], check=True)  # however deep it is


LINKS = [
    "{course}/gradebook.db",
    "../../../gradebook.db",
    "../../alice",
    "/etc/shadow",
    "/proc/self/environ",
]


def test_odd_files_among_the_submitted_ones(
    start: Kernels, person: Person, submission: Path
) -> None:
    """Links lead elsewhere; whoever opens a pipe waits forever."""
    (submission / "good.txt").write_text("good")
    for number, target in enumerate(LINKS):
        link = submission / f"evil{number}"
        link.symlink_to(target.format(course=person.course))
        assert link.exists()
    os.mkfifo(submission / "pipe", 0o666)
    kernel = start(cwd=submission)
    assert kernel.call(names, ["."], []) == ["./good.txt"]


def test_a_link_in_the_place_of_the_submission(
    start: Kernels, person: Person, submission: Path
) -> None:
    (submission / "hw").symlink_to(person.course / "submitted/alice/hw1")
    kernel = start(cwd=submission / "hw")
    assert kernel.call(names, ["."], []) == []


def test_two_names_of_one_submitted_file(start: Kernels, submission: Path) -> None:
    """Nothing evil: a file system may hold equal files once."""
    (submission / "a.txt").write_text("good")
    (submission / "b.txt").hardlink_to(submission / "a.txt")
    kernel = start(cwd=submission)
    assert kernel.call(read, "a.txt") == kernel.call(read, "b.txt") == "good"


def test_odd_names_of_submitted_files(start: Kernels, submission: Path) -> None:
    odd = [b"\xff\xfe", b"new\nline", b"-rf", b" ", "ü".encode(), b"a" * 255]
    for name in odd:
        Path(os.fsdecode(os.path.join(os.fsencode(submission), name))).write_text("x")
    kernel = start(cwd=submission)
    assert kernel.run("import os; assert len(os.listdir()) == 6").status == "ok"


def holes(folder: Path) -> None:
    """One file of a terabyte, in no space at all."""
    with (folder / "hole").open("wb") as file:
        file.truncate(1 << 40)


def crumbs(folder: Path) -> None:
    """Files of a byte each: a page each in memory, more than what is allowed."""
    for number in range(300):
        (folder / str(number)).write_bytes(b"x")


def names_only(folder: Path) -> None:
    """Files of no byte at all, but so many."""
    (folder / "first").touch()
    for number in range(10_001):
        os.link(folder / "first", folder / str(number))


def depths(folder: Path) -> None:
    """More folders in each other than a recursive program can follow."""
    os.chdir(folder)
    for _ in range(1000):
        os.mkdir("deep")
        os.chdir("deep")


FILLS: dict[Callable[[Path], None], str] = {
    holes: "larger than",
    crumbs: "larger than",
    names_only: "more than 10000 files",
    depths: "more than 64 deep",
}


@pytest.mark.parametrize("fill", FILLS)
def test_a_submission_that_is_too_large(
    start: Kernels, submission: Path, fill: Callable[[Path], None]
) -> None:
    """It is this submission's fault, and is said to be: other ones go on."""
    with contextlib.chdir(submission):
        fill(submission)
    with pytest.raises(DriverError, match=f"SubmissionError: .*{FILLS[fill]}"):
        start(cwd=submission, Limits={"disk": 1 << 20})
    assert start().run("1").status == "ok"
