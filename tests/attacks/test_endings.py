# ruff: noqa: SIM105, SIM115 - attacks are short
"""Attacks on the end: outliving the kernel, never ending, blinding the guard."""

from collections.abc import Callable

import pytest

from tests.attacks.persons import Kernel, Kernels, Person, calling


def daemon() -> None:
    """The textbook's: two forks, a session, and no signal hurts."""
    import os
    import signal

    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            os.closerange(0, 1000)
            while True:
                signal.pause()
        os._exit(0)
    os.wait()


def stopped() -> None:
    import os
    import signal
    import subprocess

    child = subprocess.Popen(["/bin/sh", "-c", "kill -STOP $$"])
    os.waitpid(child.pid, os.WUNTRACED)
    for _ in range(3):
        if os.fork() == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            signal.pause()


def program() -> None:
    import subprocess

    subprocess.Popen(
        [
            "/usr/bin/nohup",
            "/bin/sh",
            "-c",
            "trap '' HUP TERM INT; read x < /tmp/never",
        ],
        start_new_session=True,
    )
    subprocess.Popen(["/usr/bin/setsid", "-f", "/bin/cat", "/dev/tty"])


def spinning() -> None:
    """Threads in C that never look up, one in a child that is being waited for."""
    import ctypes
    import hashlib
    import os
    import threading

    work = ("sha256", b"", b"", 1 << 30)
    for _ in range(3):
        threading.Thread(target=hashlib.pbkdf2_hmac, args=work, daemon=True).start()
    if os.fork() == 0:
        ctypes.PyDLL(None).pause()  # with the GIL


def zombies() -> None:
    import os

    for _ in range(40):
        if os.fork() == 0:
            os._exit(0)


def uninterruptible() -> None:
    """The parent of a `vfork` waits for its child, and no signal but one wakes it."""
    import subprocess

    code = "import ctypes, signal; ctypes.CDLL(None).vfork() or signal.pause()"
    subprocess.Popen(["python", "-c", code])


SURVIVORS = [daemon, stopped, program, zombies, uninterruptible, spinning]


@pytest.fixture
def haunted(start: Kernels) -> Kernel:
    """A kernel full of what wants to outlive it."""
    kernel = start()
    for attack in SURVIVORS:
        kernel.call(attack)
    assert len(kernel.processes()) > 40
    return kernel


def test_outliving_a_stop(haunted: Kernel) -> None:
    haunted.stop()
    assert haunted.vanishes()


def test_outliving_the_kernel(haunted: Kernel) -> None:
    assert haunted.run("import os; os._exit(7)").status == "dead"
    assert haunted.wait() == "The kernel ended itself with exit status 7."
    assert haunted.remains() == []


DEATHS = {
    "a segmentation fault": (
        "import ctypes; ctypes.string_at(0)",
        "The kernel died of SIGSEGV (Segmentation fault).",
    ),
    "an abort": ("import os; os.abort()", "The kernel died of SIGABRT (Aborted)."),
    "a kill": (
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "The kernel died of SIGKILL (Killed).",
    ),
    "a real-time signal": (
        "import os; os.kill(os.getpid(), 40)",
        "The kernel died of signal 40",
    ),
    "a bad instruction": (
        "import ctypes, mmap\n"
        "m = mmap.mmap(-1, 4096, 34, prot=7); m.write(b'\\x0f\\x0b')\n"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()",
        "The kernel died of SIGILL",
    ),
    "a stack without an end": (
        "import sys; sys.setrecursionlimit(10**9)\n"
        "f = lambda: max([0], key=lambda _: f()); f()",
        "The kernel died of SIGSEGV (Segmentation fault).",
    ),
    "an exit": (
        "import os; os._exit(3)",
        "The kernel ended itself with exit status 3.",
    ),
    "a success": (
        "import os; os._exit(0)",
        "The kernel ended itself with exit status 0.",
    ),
    "a system call of 32 bits": (
        "import ctypes, mmap\n"
        "m = mmap.mmap(-1, 4096, 34, prot=7)\n"
        "m.write(bytes.fromhex('b814000000cd80c3'))\n"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()",
        "The kernel died of SIGSYS",
    ),
}


@pytest.mark.parametrize("name", DEATHS)
def test_a_sudden_death(start: Kernels, name: str) -> None:
    code, sentence = DEATHS[name]
    kernel = start(Limits={"wall": 1})
    assert kernel.run(code).status == "dead"
    assert kernel.wait().startswith(sentence)
    assert kernel.remains() == []


def test_stopping_itself(start: Kernels) -> None:
    """Somebody must wake it; else all wait until the limit."""
    kernel = start()
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP); print('awake')"
    assert kernel.run(code).text == "awake\n"
    code = "os.killpg(0, signal.SIGSTOP); os.kill(0, signal.SIGTSTP); print('awake')"
    assert kernel.run(code).text == "awake\n"


TOO_MUCH_WORK = "The kernel was stopped: it used more than {} s of processor time."
LOOPS = {
    "except": "while True:\n    try:\n        while True: pass\n"
    "    except BaseException: pass",
    "JAX": "import jax\n"
    "spin = jax.jit(lambda x: jax.lax.while_loop(lambda _: True, lambda y: y + 1, x))\n"
    "spin(0).block_until_ready()",
    "threads": "import threading\n"
    "threads = [threading.Thread(target=max, args=[iter(int, 1)]) for _ in range(3)]\n"
    "[t.start() for t in threads]; [t.join() for t in threads]",
    "children": "while True: get_ipython().system('while :; do :; done')",
    "ignored signals": "import signal\n"
    "for n in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(n, signal.SIG_IGN)\n"
    "while True: pass",
}


@pytest.mark.parametrize("name", LOOPS)
def test_endless_work(start: Kernels, name: str) -> None:
    limit = 3 if name == "JAX" else 1
    kernel = start(Limits={"cpu": limit})
    assert kernel.run(LOOPS[name]).status == "dead"
    assert kernel.wait() == TOO_MUCH_WORK.format(limit)
    assert kernel.remains() == []


def hidden_work() -> None:
    """One child after the other works a little; nobody collects their times."""
    import os
    import signal
    import time

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(30):
        pid = os.fork()
        if pid == 0:
            while time.process_time() < 0.3:
                pass
            os._exit(0)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass
    signal.pause()


def orphans_work() -> None:
    """The same, and each child is the child of the one before."""
    import os
    import signal
    import time

    if os.fork() == 0:
        for _ in range(30):
            start = time.process_time()
            while time.process_time() < start + 0.3:
                pass
            if os.fork():
                os._exit(0)
    signal.pause()


@pytest.mark.parametrize("work", [hidden_work, orphans_work])
def test_work_that_nobody_counts(start: Kernels, work: Callable[[], None]) -> None:
    kernel = start(Limits={"cpu": 1, "wall": 5})
    assert kernel.run(calling(work)).status == "dead"
    assert kernel.wait() == TOO_MUCH_WORK.format(1)


def odd_names() -> None:
    """What is in /proc is text, but whose?"""
    import ctypes
    import signal

    libc = ctypes.CDLL(None)
    for name in (b"\xff\xfe\xfd", b"a) R 1 1 1", b"\n\n\nRssAnon: x", b"\x00"):
        libc.prctl(15, name)  # PR_SET_NAME
    libc.prctl(15, b"\xff\xfe)\n(")
    signal.pause()


def no_descriptors() -> None:
    """The guard opens files to look."""
    import os
    import signal

    for _ in range(80):
        if os.fork() == 0:
            try:
                while True:
                    os.open("/dev/null", os.O_RDONLY)
            except OSError:
                signal.pause()
    signal.pause()


IDLE = {
    "a wait": "import threading; threading.Event().wait()",
    "a read": "import os; os.read(os.pipe()[0], 1)",
    "input from a child": "!cat /dev/ptmx",
    "a pause": "import signal; signal.pause()",
    "a lock": "import threading; l = threading.Lock(); l.acquire(); l.acquire()",
    "a stop again and again": "import os, signal\n"
    "while True: os.kill(os.getpid(), signal.SIGSTOP)",
    "odd names": calling(odd_names),
    "no descriptors": calling(no_descriptors),
    "closed files": "import os; os.closerange(0, 10_000)",
}


@pytest.fixture(scope="module")
def idle(pool: Kernels) -> dict[str, Kernel]:
    """Kernels that do nothing, all at the same time."""
    kernels = {name: pool(Limits={"wall": 1}) for name in IDLE}
    for name, kernel in kernels.items():
        kernel.begin(IDLE[name])
    return kernels


@pytest.mark.parametrize("name", IDLE)
def test_endless_idling(idle: dict[str, Kernel], name: str) -> None:
    sentence = idle[name].wait()
    if name == "closed files":  # it may notice
        assert sentence.startswith("The kernel ")
    else:
        assert sentence.startswith("The kernel was stopped after 1 s: all cells")
    assert idle[name].remains() == []


# What follows keeps the guard from looking: each ends by itself after a while, in case
# it succeeds.


def flood_stderr() -> None:
    """Writers keep the pipe full that the guard reads until it is empty."""
    import os
    import resource
    import signal

    pipes = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            writable = open(f"/proc/self/fdinfo/{name}").read().split()[3][-1] != "0"
        except OSError:
            continue
        if target.startswith("pipe:") and writable:
            pipes.append(int(name))
    for pipe in pipes:
        for _ in range(40 // len(pipes)):
            if os.fork() == 0:
                resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
                while True:
                    os.write(pipe, b"x" * 65536)
    signal.pause()


def storm_of_stops() -> None:
    """The guard wakes who has stopped, and looks whether somebody else has."""
    import os
    import resource
    import signal

    for _ in range(40):
        if os.fork() == 0:
            if os.fork():
                os._exit(0)  # the guard's child now
            resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
            while True:
                os.kill(os.getpid(), signal.SIGSTOP)
    signal.pause()


def storm_of_ends() -> None:
    """The guard collects orphans while there are any."""
    import os
    import resource
    import signal

    for _ in range(20):
        if os.fork() == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
            while True:
                try:
                    if os.fork() == 0:
                        os.fork()
                        os._exit(0)
                    os.wait()
                except OSError:
                    pass
    signal.pause()


def false_signs() -> None:
    """Tell the guard, on whatever pipe it listens, that no cell runs."""
    import os

    while True:
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                    os.set_blocking(int(name), False)
                    os.write(int(name), b")!()")
            except OSError:
                continue


BLINDFOLDS = [
    flood_stderr,
    storm_of_stops,
    storm_of_ends,
    false_signs,
]


@pytest.mark.parametrize("attack", BLINDFOLDS)
def test_blinding_the_guard(start: Kernels, attack: Callable[[], None]) -> None:
    kernel = start(Limits={"cpu": 1, "wall": 1})
    assert kernel.run(calling(attack)).status == "dead"
    assert kernel.wait().startswith("The kernel was stopped")
    assert kernel.remains() == []


def test_a_blind_guard_obeys(start: Kernels) -> None:
    """What the client says is heard whatever the kernel does."""
    kernel = start()
    kernel.run(calling(flood_stderr).replace("signal.pause()", "None"))
    kernel.stop()
    assert kernel.vanishes()


def lie_and_exit(text: str) -> None:
    """Write to wherever the guard may read from."""
    import os

    for name in os.listdir("/proc/self/fd"):
        try:
            os.set_blocking(int(name), False)
            os.write(int(name), text.encode())
        except OSError:
            continue
    os._exit(3)


FALSE_REASONS = {
    "MemoryError std::bad_alloc": " Its last words were of a lack of memory; it may "
    "use 512 MiB.",
    "\x1b]0;mallory\x07": "",
}


@pytest.mark.parametrize("text", FALSE_REASONS)
def test_false_reasons(start: Kernels, text: str) -> None:
    """What a student writes is no evidence, and is not called so."""
    kernel = start()
    assert kernel.run(calling(lie_and_exit, text)).status == "dead"
    exited = "The kernel ended itself with exit status 3."
    assert kernel.wait() == exited + FALSE_REASONS[text]


def test_false_signals(start: Kernels) -> None:
    kernel = start(Limits={"cpu": 30})
    code = "import os, signal; os.kill(os.getpid(), signal.SIGXCPU)"
    assert kernel.run(code).status == "dead"
    assert kernel.wait() == "The kernel died of SIGXCPU (CPU time limit exceeded)."


#: Modules that a kernel imports late: a file of this name in the folder comes first.
SHADOWS = ["comm", "decorator", "psutil", "debugpy", "stack_data", "random", "numpy"]


HANG = "import os, signal\nwhile True:\n    signal.pause()\n"


def test_a_submission_that_shadows_modules(start: Kernels, person: Person) -> None:
    """Whatever is imported while the kernel starts comes from where it always does."""
    kernel = start(Limits={"wall": 5})
    names = kernel.run("import sys; print(*{x.partition('.')[0] for x in sys.modules})")
    folder = person.course / "submitted/mallory/shadows"
    folder.mkdir()
    missing = {"sys", "builtins", "__main__", "os", "signal", "posix"}
    tops = {name for name in names.text.split() if name.isidentifier()} - missing
    for name in {*tops, *SHADOWS, "pydevd", "ipywidgets", "sitecustomize"}:
        (folder / f"{name}.py").write_text(HANG)
    (folder / "ipykernel_config.py").write_text(HANG)
    (folder / "ipython_config.py").write_text(HANG)
    (folder / "ipython_kernel_config.py").write_text(HANG)
    kernel = start(cwd=folder, Limits={"wall": 5})
    assert kernel.run("print('alive')").text == "alive\n"


def test_the_folder_of_sockets_is_gone_whatever_is_in_it(start: Kernels) -> None:
    kernel = start()
    code = (
        "import os, socket\n"
        "for n in range(50):\n"
        "    with socket.socket(socket.AF_UNIX) as one:\n"
        "        one.bind(f'/run/kernel/{n}')\n"
        "    os.chmod(f'/run/kernel/{n}', 0)\n"
        "os.chmod('/run/kernel', 0)\n"
        "os._exit(0)"
    )
    kernel.run(code)
    kernel.wait()
    assert kernel.remains() == []


def test_the_next_kernel(start: Kernels, person: Person) -> None:
    """From the same fork server, after all this."""
    kernel = start(cwd=person.submission)
    assert kernel.run("import jax; jax.numpy.arange(3).sum()").status == "ok"
