"""A fork into new namespaces, as good as Python's own; and the memory of both."""

import subprocess
import sys
import textwrap


def run(code: str) -> str:
    """Run code in a process with one thread; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_child_is_the_first_process_of_its_namespaces() -> None:
    kinds = "cgroup ipc mnt net pid user uts"
    code = f"""
        import os
        from jaxgrader.kernel import jail

        def spaces():
            kinds = {kinds!r}.split()
            return [os.readlink(f"/proc/self/ns/{{kind}}") for kind in kinds]

        before = spaces()
        out, into = os.pipe()
        pid = jail.fork_into_namespaces()
        if pid == 0:
            pairs = zip(before, spaces(), strict=True)
            same = [old for old, new in pairs if old == new]
            os.write(into, f"{{os.getpid()}} {{same}}".encode())
            os._exit(7)
        assert os.waitpid(pid, 0) == (pid, 7 << 8)
        print(os.read(out, 1000).decode())
    """
    # /proc is still the parent's: it is mounted anew when the jail is made ready.
    assert run(code).strip() == "1 []"


def test_python_goes_on_in_both() -> None:
    code = """
        import os, signal, threading
        from jaxgrader.kernel import jail

        told = []
        os.register_at_fork(
            before=lambda: told.append("before"),
            after_in_parent=lambda: told.append("parent"),
            after_in_child=lambda: told.append("child"),
        )
        pid = jail.fork_into_namespaces()
        if pid == 0:
            assert told == ["before", "child"], told
            assert threading.current_thread() is threading.main_thread()
            thread = threading.Thread(target=told.clear)
            thread.start()
            thread.join()
            signal.signal(signal.SIGUSR1, lambda *_: told.append("heard"))
            signal.raise_signal(signal.SIGUSR1)
            assert told == ["heard"]
            if os.fork() == 0:
                os._exit(0)
            assert os.wait()[1] == 0
            os._exit(0)
        assert told == ["before", "parent"], told
        assert os.waitpid(pid, 0)[1] == 0
    """
    run(code)


def test_a_refusal_is_an_error_and_no_child() -> None:
    code = """
        import errno, os
        from jaxgrader.kernel import jail

        jail.NAMESPACES |= 0x00010000  # CLONE_THREAD, which cannot be had alone
        try:
            jail.fork_into_namespaces()
        except OSError as error:
            assert error.errno == errno.EINVAL and "clone" in str(error)
            print("refused")
        if os.fork() == 0:
            os._exit(0)
        assert os.wait()[1] == 0
    """
    assert run(code).strip() == "refused"


def test_memory_is_gathered_where_the_system_can() -> None:
    code = """
        import ctypes, mmap, re
        from pathlib import Path
        from jaxgrader.kernel import zygote

        def in_huge_pages():
            rollup = Path("/proc/self/smaps_rollup").read_text()
            return int(re.search(r"AnonHugePages: *(\\d+) kB", rollup)[1]) << 10

        held = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        held.write(b"x" * len(held))
        empty = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        first = ctypes.addressof(ctypes.c_char.from_buffer(held))
        page = zygote.HUGE_PAGE
        at = -(-first // page) * page
        libc = ctypes.CDLL(None)
        one = ctypes.c_void_p(at), ctypes.c_size_t(page)
        before = in_huge_pages()  # some, where the system gives them to everybody
        can = libc.madvise(*one, zygote.MADV_COLLAPSE) == 0
        zygote.gather_memory()
        assert held[:] == b"x" * len(held)
        gathered = in_huge_pages()
        assert gathered >= (14 << 20 if can else before), gathered
        assert gathered < 64 << 20, "what is empty stays empty"
    """
    run(code)
