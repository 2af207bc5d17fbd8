"""A sandboxed kernel is a kernel: what every Jupyter client expects of one."""

from collections.abc import Callable
from pathlib import Path

from tests.kernel.conftest import Kernel

Start = Callable[..., Kernel]


def test_jax_and_flax_are_there_and_work(start: Start) -> None:
    kernel = start()
    result = kernel.run(
        "import sys; assert 'flax.nnx' in sys.modules\n"
        "import jax.numpy as jnp; jnp.arange(3).sum()"
    )
    assert (result.status, result.text) == ("ok", "Array(3, dtype=int32)")


def test_the_files_are_a_copy(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("42")
    kernel = start(cwd=tmp_path)
    result = kernel.run("x = open('data.txt').read(); open('data.txt', 'w'); print(x)")
    assert (result.status, result.text) == ("ok", "42\n")
    assert (tmp_path / "data.txt").read_text() == "42"


def test_own_files_are_writable(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("42")
    kernel = start(cwd=tmp_path, Sandbox={"files": "own"})
    result = kernel.run("open('new.txt', 'w').write(open('data.txt').read())")
    assert result.status == "ok", result.text
    assert (tmp_path / "new.txt").read_text() == "42"
    kernel.run("open('../other.txt', 'w')")
    assert not (tmp_path.parent / "other.txt").exists()


def test_an_interrupt_stops_a_cell_not_the_kernel(start: Start) -> None:
    kernel = start()
    code = "x = 1\nprint('go', flush=True)\nwhile True: pass"
    message = kernel.client.execute(code, stop_on_error=False)
    while kernel.do(kernel.client.get_iopub_msg())["msg_type"] != "stream":
        pass
    kernel.do(kernel.manager.interrupt_kernel())
    reply = kernel.do(kernel.client.get_shell_msg())
    while reply["parent_header"]["msg_id"] != message:  # an answer to wait_for_ready
        reply = kernel.do(kernel.client.get_shell_msg())
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert kernel.run("print(x)").text == "1\n"


def test_a_restart_forgets_and_keeps_the_address(start: Start) -> None:
    kernel = start()
    kernel.run("x = 1")
    address = kernel.manager.ip
    kernel.do(kernel.manager.restart_kernel(now=True))
    kernel.do(kernel.client.wait_for_ready(timeout=60))
    assert kernel.run("x").status == "error"
    assert kernel.manager.ip == address


def test_the_shell_escape_and_subprocesses_work(start: Start) -> None:
    assert start().run("!echo one; id -un").text.split() == ["one", "student"]


def test_forked_children_print(start: Start) -> None:
    code = (
        "import os, time\npid = os.fork()\n"
        "if pid == 0:\n    print('child', flush=True)\n"
        "    time.sleep(1); os._exit(0)\nos.waitpid(pid, 0)"
    )
    assert "child" in start().run(code).text


def test_every_kernel_draws_its_own_random_numbers(start: Start) -> None:
    code = "import numpy, random, uuid; print(numpy.random.rand(), random.random())"
    assert start().run(code).text != start().run(code).text


def test_a_shutdown_removes_the_sockets(start: Start, runtime: Path) -> None:
    kernel = start()
    folder = Path(kernel.manager.ip).parent.resolve()
    assert folder.is_dir()
    kernel.do(kernel.manager.shutdown_kernel())
    assert not folder.exists()
    assert not Path(kernel.manager.ip).parent.is_symlink()


def test_ipykernel_lists_no_modules_for_a_debugger(start: Start) -> None:
    """The list would cost each kernel a copy of two thousand pages."""
    kernel = start()
    code = (
        "import sys, ipykernel.ipkernel\n"
        "print(get_ipython().kernel._kernel_modules, ipykernel.ipkernel.sys is sys)"
    )
    assert kernel.run(code).text == "[] True\n"
