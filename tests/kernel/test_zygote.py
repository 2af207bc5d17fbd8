"""The fork server: one for all, safe to fork, replaced when it is gone."""

import asyncio
import os
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from traitlets.config import Config

from jaxgrader.errors import SandboxError
from jaxgrader.kernel.sandbox import Sandbox
from jaxgrader.kernel.servers import Server, server_for
from tests.kernel.conftest import Kernel

Start = Callable[..., Kernel]


def server_pid(kernel: Kernel) -> int:
    """Return the pid of a kernel's fork server, as this machine sees it."""
    # Another worker of pytest's has servers of the same name, elsewhere.
    folder = "/".join(kernel.provisioner.server.folder.parts[-3:])
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            mounts = (process / "mountinfo").read_text()
        except OSError:
            continue
        ours = b"jaxgrader.kernel.zygote" in words and b"bwrap" not in words[0]
        if ours and folder in mounts and parent_is_bwrap(process):
            return int(process.name)
    raise AssertionError(f"no fork server for {folder}")


def parent_is_bwrap(process: Path) -> bool:
    parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
    return b"bwrap" in Path(f"/proc/{parent}/cmdline").read_bytes()


def test_all_kernels_of_an_environment_share_a_server(start: Start) -> None:
    assert server_pid(start()) == server_pid(start())


def test_a_server_that_died_is_replaced(start: Start) -> None:
    kernel = start()
    dead = server_pid(kernel)
    os.kill(dead, signal.SIGKILL)
    assert kernel.wait() == "The kernel was stopped from outside."
    other = start()
    assert other.run("6 * 7").text == "42"
    assert server_pid(other) != dead


def test_another_preload_list_gets_another_server(start: Start) -> None:
    kernel, other = start(), start(Sandbox={"preload": ["json"]})
    assert server_pid(kernel) != server_pid(other)
    assert other.run("import sys; 'jax' in sys.modules").text == "False"


def test_a_server_ends_when_it_is_idle(start: Start) -> None:
    kernel = start(Sandbox={"idle": 1.0, "preload": []})
    pid = os.pidfd_open(server_pid(kernel))
    kernel.stop()
    # Readable when the process has ended.
    ended = asyncio.Event()
    kernel.loop.add_reader(pid, ended.set)
    kernel.do(ended.wait())
    kernel.loop.remove_reader(pid)
    os.close(pid)


def test_what_an_ended_server_left_is_swept(start: Start, tmp_path: Path) -> None:
    kernel, alive = start(Sandbox={"preload": ["json"]}), start()
    folder = kernel.provisioner.server.folder
    pid = os.pidfd_open(server_pid(kernel))
    signal.pidfd_send_signal(pid, signal.SIGKILL)
    kernel.wait()
    os.close(pid)
    start(Sandbox={"preload": ["csv"]})
    assert not folder.exists()
    assert alive.run("1").text == "1"


@pytest.mark.parametrize(
    ("module", "body", "reason"),
    [
        (
            "threaded",
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            "2 threads",
        ),
        ("computes", "import jax; jax.numpy.ones(3)", "threads"),
        ("broken", "1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_module_that_makes_forks_unsafe_is_named(
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    body: str,
    reason: str,
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / f"{module}.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(package))
    with pytest.raises(SandboxError, match=rf"preloading {module} .*{reason}"):
        start(Sandbox={"preload": ["json", module], "readable": [str(package)]})


def test_a_module_that_is_not_installed_is_skipped(start: Start) -> None:
    kernel = start(Sandbox={"preload": ["no_such_module", "csv"]})
    assert kernel.run("import sys; 'csv' in sys.modules").text == "True"


def test_many_kernels_at_once(start: Start, runtime: Path) -> None:
    first = start()
    server: Server = first.provisioner.server

    async def connect() -> tuple[object, Path]:
        return await asyncio.to_thread(server.connect)

    async def all_at_once() -> list[tuple[object, Path]]:
        return await asyncio.gather(*[connect() for _ in range(20)])

    places = first.do(all_at_once())
    assert len({folder for _, folder in places}) == 20
    for connection, _ in places:
        connection.close()


def test_the_settings_name_the_server(runtime: Path) -> None:
    plain = server_for(Sandbox())
    assert plain.folder == server_for(Sandbox()).folder
    for name, value in {"level": "basic", "readable": ["/srv"], "preload": []}.items():
        other = server_for(Sandbox(config=Config({"Sandbox": {name: value}})))
        assert other.folder != plain.folder


def test_kernels_look_for_cycles_less_often_than_python_does(start: Start) -> None:
    """Each look of a kernel's costs what its tracing of a small function does."""
    code = """
    import gc
    looks = []
    gc.collect()
    gc.callbacks.append(lambda phase, info: looks.append(phase))
    kept = [[] for _ in range(1500)]
    print(gc.get_freeze_count() > 100_000, looks)
    kept = [[] for _ in range(3000)]
    print(len(looks) > 0)
    """
    lines = start().run(textwrap.dedent(code)).text.splitlines()
    assert lines == ["True []", "True"]
