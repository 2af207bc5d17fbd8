# ruff: noqa: S108 - /tmp is one of the places that can be filled
"""Bombs: memory, processes, disk, files, output. All are bounded, in case one goes off.

A bomb that has gone off waits, so that the guard has every chance; then the limit over
time ends the kernel, and the sentence is the wrong one.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.attacks.persons import Kernel, Kernels, Person, calling

MIB = 1 << 20
TOO_MUCH_MEMORY = "The kernel was stopped: it used more than 512 MiB of memory."
OUT_OF_MEMORY = "Its last words were of a lack of memory"


def private() -> None:
    blocks: list[Any] = []
    while len(blocks) < 32:
        blocks.append(b"x" * (64 << 20))


def array() -> None:
    import jax.numpy as jnp

    (jnp.ones((1 << 14, 1 << 14)) + 1).block_until_ready()


def shared_and_hidden() -> None:
    """Memory that is not in any page table, and all the same there."""
    import mmap
    import signal

    blocks: list[Any] = []
    while len(blocks) < 80:
        blocks.append(mmap.mmap(-1, 16 << 20))
        blocks[-1].write(b"x" * (16 << 20))
        blocks[-1].madvise(mmap.MADV_DONTNEED)
    assert all(block[12345] == ord("x") for block in blocks)
    signal.pause()


def zeros_and_hidden() -> None:
    """The same, of a device that is memory."""
    import mmap
    import signal

    blocks: list[Any] = []
    with open("/dev/zero", "r+b") as device:
        while len(blocks) < 80:
            blocks.append(mmap.mmap(device.fileno(), 16 << 20))
            blocks[-1].write(b"x" * (16 << 20))
            blocks[-1].madvise(mmap.MADV_DONTNEED)
    assert all(block[12345] == ord("x") for block in blocks)
    signal.pause()


def many_processes() -> None:
    import os
    import signal

    for _ in range(6):
        if os.fork() == 0:
            block = b"x" * (200 << 20)
            signal.pause()
            os._exit(len(block))
    signal.pause()


def unreadable() -> None:
    """As many processes, of which the guard must not read what they use."""
    import ctypes
    import os
    import signal

    for _ in range(6):
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE
            block = b"x" * (200 << 20)
            signal.pause()
            os._exit(len(block))
    signal.pause()


def page_tables() -> None:
    """Half a page of memory in tables for each page that is only looked at."""
    import ctypes
    import signal

    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 4]
    size = 400 << 30
    # PROT_READ; MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    address = libc.mmap(None, size, 1, 0x4022, -1, 0)
    assert address not in (None, ctypes.c_void_p(-1).value)
    for offset in range(0, size, 2 << 20):
        ctypes.c_byte.from_address(address + offset).value  # noqa: B018
    signal.pause()


def stacks() -> None:
    import signal
    import threading

    def down(depth: int) -> None:
        block = bytearray(1 << 20)
        if depth:
            down(depth - 1)
        signal.pause() if not block else threading.Event().wait()

    threads = [threading.Thread(target=down, args=[40], daemon=True) for _ in range(30)]
    for thread in threads:
        thread.start()
    signal.pause()


MEMORY = [
    private,
    array,
    shared_and_hidden,
    zeros_and_hidden,
    many_processes,
    unreadable,
    page_tables,
    stacks,
]


@pytest.mark.parametrize("bomb", MEMORY)
def test_memory(start: Kernels, bomb: Callable[[], None]) -> None:
    # Threads that were refused memory give theirs back. Where what is left fits, and
    # nothing can be said any more, it is the time that ends the kernel.
    kernel = start(Limits={"wall": 40})
    result = kernel.run(calling(bomb))
    if result.status == "error":
        refusals = ("memory", "permission denied: '/dev/zero'")
        assert any(text in result.text.lower() for text in refusals), result.text
        return
    assert result.status == "dead", result
    sentence = kernel.wait()  # C++ may give up before the guard looks
    late = bomb is stacks and sentence.startswith("The kernel was stopped after 40 s")
    assert late or sentence == TOO_MUCH_MEMORY or OUT_OF_MEMORY in sentence
    assert kernel.remains() == []


def forks(count: int) -> int:
    """Fork; return how many processes there are."""
    import os
    import signal

    for number in range(count):
        try:
            pid = os.fork()
        except BlockingIOError:
            return number
        if pid == 0:
            signal.pause()
            os._exit(0)
    return count


def grows(depth: int) -> int:
    """Every process forks, and so do those; only the first one returns."""
    import os
    import signal

    first = os.getpid()
    for _ in range(depth):
        try:
            os.fork()
        except BlockingIOError:
            continue
    if os.getpid() != first:
        signal.pause()
        os._exit(0)
    return depth


def threads(count: int) -> int:
    import threading

    for number in range(count):
        try:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        except RuntimeError:
            return number
    return count


@pytest.mark.parametrize(
    ("bomb", "files"),
    [(forks, "copy"), (forks, "own"), (threads, "copy"), (grows, "copy")],
)
def test_processes(start: Kernels, bomb: Callable[[int], int], files: str) -> None:
    kernel = start(files=files, Limits={"memory": 2 << 30})
    result = kernel.run(calling(bomb, 8 if bomb is grows else 150))
    if kernel.person.name == "root" and files == "own":
        # Root's own user id is exempt from the rlimit, not from the guard.
        assert "processes and threads" in kernel.wait()
    else:
        assert 0 < result.value < 96
        assert 64 < sum(map(threads_of, kernel.processes())) <= 97  # with the guard
        kernel.stop()
    assert kernel.vanishes()


def threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


WRITABLE = ["/scratch", "/tmp", "/dev/shm", "/home/student", "/var/cache/jaxgrader"]


def fill(folder: str, count: int, size: int) -> int:
    """Write files; return how many bytes fitted."""
    import os

    written = 0
    block = b"x" * size
    for number in range(count):
        try:
            descriptor = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT)
            written += os.write(descriptor, block)
            os.close(descriptor)
        except OSError:
            break
    return written


def empty(folder: str) -> None:
    import contextlib
    import os

    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            os.unlink(f"{folder}/{name}")


def test_disk(pool: Kernels, kernel: Kernel) -> None:
    for folder in WRITABLE:
        for size in (64 * MIB, MIB):  # one file, or many
            fitted = kernel.call(fill, folder, 64 * MIB // size, size)
            assert 8 * MIB < fitted <= 16 * MIB, folder
            # It has used up its own; others have theirs.
            other = pool.share("other")
            assert other.call(fill, folder, 4, MIB) == 4 * MIB
            kernel.call(empty, folder)
            other.call(empty, folder)


def fill_all(folders: list[str], size: int) -> int:
    """Write to all folders, to files that have no name any more, too."""
    import os

    global kept
    kept = []  # type: ignore[name-defined]
    written = 0
    for folder in folders:
        for number in range(64):
            try:
                path = f"{folder}/{number}"
                kept.append(os.open(path, os.O_WRONLY | os.O_CREAT))  # type: ignore[name-defined]
                os.unlink(path)
                written += os.write(kept[-1], b"x" * size)  # type: ignore[name-defined]
            except OSError:
                break
    return written


def test_all_folders_count_together(start: Kernels) -> None:
    kernel = start(Limits={"open_files": 1024})
    assert kernel.call(fill_all, [*WRITABLE, "/dev", "/run/kernel"], MIB) <= 16 * MIB


def crumbs(folder: str, count: int, kind: str) -> int:
    """Make files without content; return how many there are."""
    import os
    import socket

    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    for number in range(count):
        try:
            if kind == "file":
                os.close(os.open(str(number), os.O_WRONLY | os.O_CREAT))
            elif kind == "folder":
                os.mkdir(str(number))
            elif kind == "link":
                os.symlink("x" * 1000, str(number))
            else:
                with socket.socket(socket.AF_UNIX) as one:
                    one.bind(str(number))
        except OSError:
            return number
    return count


def test_inodes(start: Kernels) -> None:
    kernel = start()
    kinds = ("file", "folder", "link", "socket")
    made = [kernel.call(crumbs, f"/scratch/{k}", 20_000, k) for k in kinds]
    assert 32_000 < sum(made) < 66_000
    kernel.stop()
    assert kernel.vanishes()


def test_inodes_in_the_folder_of_sockets(start: Kernels) -> None:
    """It lies on a disk of this machine, and is not the kernel's."""
    kernel = start()
    kernel.run(calling(crumbs, "/run/kernel", 5000, "socket"))
    assert "files that are too large, or too many" in kernel.wait()
    assert not kernel.sockets.exists()


def depth(count: int) -> int:
    import os

    os.chdir("/scratch")
    for number in range(count):
        try:
            os.mkdir("deep")
        except OSError:
            return number
        os.chdir("deep")
    return count


def test_folders_in_folders(start: Kernels) -> None:
    kernel = start()
    kernel.call(depth, 3000)
    kernel.stop()
    assert kernel.vanishes()


def open_many(count: int) -> int:
    import os

    global opened
    opened = []  # type: ignore[name-defined]
    for number in range(count):
        try:
            opened.append(os.open("/dev/null", os.O_RDONLY))  # type: ignore[name-defined]
        except OSError:
            for descriptor in opened[:20]:  # type: ignore[name-defined]
                os.close(descriptor)
            return number
    return count


def test_file_descriptors(start: Kernels, kernel: Kernel) -> None:
    assert start().call(open_many, 2000) < 256
    assert kernel.run("print('alive')").text == "alive\n"


def test_all_file_descriptors(start: Kernels) -> None:
    """The kernel cannot answer any more; it must end."""
    kernel = start()
    kernel.run("import os\nwhile True: os.dup(0)")
    kernel.run("import os\nkept = []\nwhile True: kept.append(os.open('/', 0))")
    kernel.stop()
    assert kernel.vanishes()


GIB, LARGE = 1 << 30, 20 << 20
OUTPUT = {
    "lines": "for _ in range(100_000): print('x' * 100)",
    "errors": "import sys\nfor _ in range(100_000): print('x' * 100, file=sys.stderr)",
    "one line": f"print('x' * {GIB})",
    "one line without an end": f"import sys; sys.stdout.write('x' * {LARGE})",
    "value": f"'x' * {LARGE}",
    "display": f"display({{'text/plain': 'x' * {LARGE}}}, raw=True)",
    "displays": "for _ in range(5000): display({'text/plain': 'x' * 100}, raw=True)",
    "updates": "for _ in range(5000): "
    "display({'text/plain': 'x' * 100}, raw=True, display_id='1', update=True)",
    "error": f"raise ValueError('x' * {LARGE})",
    "name of an error": f"raise type('x' * {LARGE}, (Exception,), {{}})",
    "write": "import os; rest = memoryview(b'x' * 2_000_000)\n"
    "while rest: rest = rest[os.write(1, rest):]",
    "write to stderr": "import os; rest = memoryview(b'x' * 2_000_000)\n"
    "while rest: rest = rest[os.write(2, rest):]",
    "puts": "import ctypes; libc = ctypes.CDLL(None)\n"
    "for _ in range(2000): libc.puts(b'x' * 1000)\nlibc.fflush(None)",
    "a program": "!head -c 2M /dev/zero | tr '\\\\0' x",
    "a program's errors": "!head -c 2M /dev/zero | tr '\\\\0' x >&2",
    "clear": "from IPython.display import clear_output\n"
    "for _ in range(2000): clear_output()",
    "carriage returns": "for _ in range(100_000): print('x' * 100, end='\\r')",
    "a forked child": "import os\nif os.fork() == 0:\n"
    "    for _ in range(100_000): print('x' * 100)\n    os._exit(0)\nos.wait()",
    "a thread": "import threading\n"
    "def flood():\n    for _ in range(100_000): print('x' * 100)\n"
    "thread = threading.Thread(target=flood); thread.start(); thread.join()",
    "a payload": "get_ipython().set_next_input('x' * 50_000_000)",
    "a page": "from IPython.core import page; page.page('x' * 50_000_000)",
    "a comm": "import comm\n"
    "one = comm.create_comm('x', data={'x': 'x' * 10_000_000})\n"
    "for _ in range(100): one.send({'x': 'x' * 1_000_000})",
    "an expression": "raise SystemExit('x' * 50_000_000)",
}
#: Bytes: three streams of 10,000 each, and what surrounds them.
LARGEST = 200_000


def test_output(pool: Kernels) -> None:
    """The kernel lives on, or ends for a reason that is said."""
    limits = {"memory": 3 << 29}
    for name, code in OUTPUT.items():
        kernel = pool.share("output", Limits=limits)
        result = kernel.run(code)
        assert result.size < LARGEST, name
        if result.status == "dead":
            assert kernel.wait().startswith("The kernel was stopped"), name
        elif result.status == "error":
            kernel.stop()  # with all that the error holds on to
        else:
            # What came past Python's streams may arrive with the next cell's output.
            assert "alive\n" in kernel.run("print('alive')").text, name


ENDLESS = {
    "lines": "while True: print('x' * 1000)",
    "writes": "import os\nwhile True: os.write(1, b'x' * 1000)",
    "programs": "!yes",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_output(start: Kernels, name: str) -> None:
    kernel = start(Limits={"cpu": 1, "wall": 5})
    # A program has the kernel's limit for itself, too: where it ends of that before the
    # guard looks, its cell ends well, and the kernel with the guard's next look.
    result = kernel.run(ENDLESS[name])
    assert result.status == "dead" or name == "programs"
    assert kernel.wait().startswith("The kernel was stopped")
    assert result.size < LARGEST


def grade(code: str) -> tuple[int, int]:
    """Execute a notebook as autograde does; return the sizes of its outputs."""
    import json

    import nbformat.v4
    from traitlets.config import Config

    from jaxgrader.preprocessors import KERNEL, Execute

    cells = [nbformat.v4.new_code_cell(text) for text in (code, "print('alive')")]
    spec = {"name": KERNEL, "display_name": KERNEL, "language": "python"}
    nb = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec})
    config = Config(Limits={"memory": 1 << 30, "output": 10_000, "cell": 5})
    nb, _ = Execute(config=config).preprocess(nb, {"metadata": {"path": "."}})
    first, second = (len(json.dumps(cell.outputs)) for cell in nb.cells)
    return first, second


def test_one_message_without_a_limit(person: Person) -> None:
    """The limiter runs in the student's process, which may take it out.

    Who grades drops what comes then; a JupyterLab shows it, to its own student.
    """
    code = (
        "from jaxgrader.kernel import app\n"
        "app.LimitedStream.budget = app.LimitedSession.budget = None\n"
        "display({'text/plain': 'x' * 64_000_000}, raw=True)"
    )
    assert max(person.call(grade, code)) < LARGEST


def test_the_log_of_the_fork_server(start: Kernels, person: Person) -> None:
    """What goes past all limits ends on this machine's disk."""
    kernel: Kernel = start()
    log = kernel.sockets.parent.parent / "log"
    before = log.stat().st_size
    code = (
        "import os\n"
        "for name in os.listdir('/proc/self/fd'):\n"
        "    if int(name) > 2 and 'log' in os.readlink(f'/proc/self/fd/{name}'):\n"
        "        os.write(int(name), b'x' * 100_000)\n"
        "        break"
    )
    kernel.run(code)
    assert log.stat().st_size - before < 100_000


def test_the_next_kernel(start: Kernels, person: Person) -> None:
    """From the same fork server, after all this."""
    kernel = start(cwd=person.submission)
    assert kernel.run("import jax; jax.numpy.arange(3).sum()").status == "ok"
    assert kernel.call(fill, "/tmp", 8, MIB) == 8 * MIB
