"""Levels, limits and what is said where a machine cannot give them."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxgrader.errors import PlatformError, SandboxError
from jaxgrader.kernel import sandbox
from tests.kernel.conftest import Kernel

Start = Callable[..., Kernel]


def test_without_bubblewrap_nothing_runs(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="sudo apt-get install bubblewrap"):
        start(Sandbox={"preload": ["json"]})


def test_bubblewrap_that_fails_says_why(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SandboxError, match=r"doctor.*(\n.*)*No permissions to create"):
        start(Sandbox={"preload": ["math"]})


def test_a_platform_that_is_not_there_is_an_error_at_once(start: Start) -> None:
    with pytest.raises(PlatformError, match="platform is 'tpu'"):
        start(Sandbox={"platform": "tpu"})


def test_basic_keeps_files_signals_and_sockets_out(
    start: Start, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    kernel = start(Sandbox={"level": "basic"})
    for code in (
        f"open({str(secret)!r})",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        "import os; os.kill(os.getppid(), 0)",
        "import os; os.listdir('/proc')",
        "import ctypes, os; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    ):
        assert kernel.run(code).status == "error", code
    assert "EAFNOSUPPORT" in kernel.run(
        "import socket, errno; socket.socket()"
    ).text or ("not supported" in kernel.run("import socket; socket.socket()").text)
    kernel.run("import subprocess; subprocess.Popen(['setsid', 'sleep', '600'])")
    kernel.do(kernel.manager.shutdown_kernel(now=True))
    assert not any("sleep\0600" in command_line(path) for path in processes())


def test_none_is_a_stock_kernel(start: Start, tmp_path: Path) -> None:
    kernel = start(cwd=tmp_path, Sandbox={"level": "none"})
    kernel.run("open('x', 'w').close()")
    assert (tmp_path / "x").exists()


def processes() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*"))


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("limits", "code", "sentence"),
    [
        ({"wall": 1}, "while True: pass", "The kernel was stopped after 1 s"),
        ({"cell": 1}, "import signal; signal.signal(2, lambda *a: 0)\nwhile True: pass",
         "a cell took longer than 1 s"),
        ({"cpu": 2}, "while True: pass", "more than 2 s of processor time"),
        ({"memory": 512 << 20}, "import os, signal\nfor _ in range(6):\n"
         "    if os.fork() == 0: x = b'x' * (150 << 20); signal.pause()\n"
         "signal.pause()",
         "more than 512 MiB of memory"),
        ({}, "import os; os._exit(3)", "ended itself with exit status 3"),
        ({}, "import ctypes; ctypes.string_at(0)", "died of SIGSEGV"),
        ({"disk": 1 << 20}, "x = open('x', 'wb'); x.write(bytes(2 << 20)); x.close()",
         None),
    ],
)  # fmt: skip
def test_what_a_limit_does_reads_as_a_sentence(
    start: Start, limits: dict[str, int], code: str, sentence: str | None
) -> None:
    kernel = start(Limits=limits)
    result = kernel.run(code)
    if sentence is None:
        assert result.status == "error"
        assert "File too large" in result.text or "No space left" in result.text
    else:
        assert result.status == "dead"
        assert sentence in kernel.wait()


@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("print('x' * 10_000_000)", 1000),
        ("for _ in range(1000): print('x' * 1000)", 1000),
        ("import os; os.write(1, b'x' * 10_000_000)", 1000),
        ("'x' * 10_000_000", 0),
        (
            "from IPython.display import *; display(HTML('x' * 10_000_000))",
            0,
        ),
    ],
)
def test_output_is_cut_where_it_is_produced(start: Start, code: str, size: int) -> None:
    kernel = start(Limits={"output": 1000})
    result = kernel.run(code)
    assert result.status == "ok", result.text
    assert "[output beyond 1000 bytes was dropped]" in result.text
    assert result.text.count("x") == size
    assert kernel.run("print('next')").text == "next\n"


def test_a_long_error_keeps_its_name(start: Start) -> None:
    result = start(Limits={"output": 1000}).run("raise ValueError('x' * 10_000_000)")
    assert result.text.startswith("ValueError\nxxx")
    assert len(result.text) < 3000


def test_outermost_folders() -> None:
    folders = ["/usr/lib/x", "/opt/a/b", "/opt/a", "/home/me/.venv/"]
    assert sandbox.outermost(folders) == ["/home/me/.venv", "/opt/a"]


def test_python_of_this_environment_is_shown() -> None:
    shown = [*map(Path, sandbox.python_folders()), Path("/usr")]
    for path in (sys.prefix, sys.base_prefix, sandbox.__file__):
        assert any(Path(path).is_relative_to(folder) for folder in shown), path
