"""The client of the attacked kernels: a process of its own, so that it can be anybody.

It reads commands from its stdin and answers on its stdout, one JSON object a line. Run
by `persons.py` as ``python -m tests.attacks.driver``.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from traitlets.config import Config

from tests.kernel.conftest import Kernel

#: Seconds after which an attack counts as not having ended; no limit is that high.
PATIENCE = 90
#: Characters of a cell's output that are passed on.
TEXT = 100_000


class Attacked(Kernel):
    """A sandboxed kernel for which nobody waits forever."""

    def do(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, PATIENCE))


class Driver:
    """What it can be asked for: one method per command."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.kernels: dict[int, Attacked] = {}

    def identity(self) -> tuple[int, str]:
        """Return who this is: the user id, and the effective capabilities."""
        status = Path("/proc/self/status").read_text()
        return os.geteuid(), status.partition("CapEff:")[2].split()[0]

    def start(self, cwd: str | None, settings: dict[str, Any]) -> dict[str, Any]:
        """Start a kernel; return its number and the folder of its sockets."""
        folder = Path(cwd) if cwd else None
        kernel = Attacked(self.loop, Config(settings), folder)
        number = len(self.kernels)
        self.kernels[number] = kernel
        sockets = Path(kernel.manager.ip).parent.resolve()
        key = kernel.manager.session.key.decode()
        return {"kernel": number, "sockets": str(sockets), "key": key}

    def run(self, kernel: int, code: str) -> dict[str, Any]:
        """Run a cell to its end or the kernel's."""
        result = self.kernels[kernel].run(code)
        size = sum(len(json.dumps(one["content"])) for one in result.messages)
        return {"status": result.status, "text": result.text[:TEXT], "size": size}

    def begin(self, kernel: int, code: str) -> None:
        """Begin to run a cell that will not end."""
        self.kernels[kernel].client.execute(code)

    def wait(self, kernel: int) -> str:
        """Wait for the kernel's end; return the sentence about it."""
        return self.kernels[kernel].wait()

    def stop(self, kernel: int) -> None:
        """End the kernel."""
        self.kernels[kernel].stop()

    def outside(self, code: str) -> dict[str, Any]:
        """Run Python outside of any sandbox: what an attack would do without one."""
        command = [sys.executable, "-P", "-c", code]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        text = done.stdout + done.stderr
        status = "error" if done.returncode else "ok"
        return {"status": status, "text": text[-TEXT:], "size": len(text)}


def main() -> None:
    """Answer commands until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # As most people have it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
    driver = Driver()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            value = getattr(driver, command.pop("op"))(**command)
            answer = {"value": value}
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
