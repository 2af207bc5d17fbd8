"""Sandboxed kernels for tests: real fork servers, in a runtime folder of their own."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from traitlets.config import Config

from jaxgrader.doctor import kernel_spec
from jaxgrader.kernel.provisioner import SandboxProvisioner

#: Seconds after which a test gives up on an answer; nothing here takes that long.
PATIENCE = 120


@dataclass
class Result:
    """What a cell gave: the reply's status, and all its output as one text."""

    status: str
    text: str
    messages: list[dict[str, Any]] = field(default_factory=list)


class Kernel:
    """A sandboxed kernel, driven from synchronous tests."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, config: Config, cwd: Path | None
    ):
        self.loop = loop
        self.manager = AsyncKernelManager(config=config)
        self.manager._kernel_spec = KernelSpec(**kernel_spec())
        start = {"cwd": str(cwd)} if cwd else {}
        self.do(self.manager.start_kernel(**start))
        self.client: AsyncKernelClient = self.manager.client()
        self.client.start_channels()
        self.do(self.client.wait_for_ready(timeout=PATIENCE))

    def do(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, PATIENCE))

    @property
    def provisioner(self) -> SandboxProvisioner:
        assert isinstance(self.manager.provisioner, SandboxProvisioner)
        return self.manager.provisioner

    def run(self, code: str) -> Result:
        """Run a cell to its end, or to the kernel's: status "dead"."""
        return self.do(self._run(code))  # type: ignore[no-any-return]

    async def _run(self, code: str) -> Result:
        messages: list[dict[str, Any]] = []
        cell = asyncio.ensure_future(
            self.client.execute_interactive(code, output_hook=messages.append)
        )
        end = asyncio.ensure_future(self.provisioner_ended())
        await asyncio.wait({cell, end}, return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        status = "dead"
        if cell.done():
            status = cell.result()["content"]["status"]
        else:
            cell.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await cell
        return Result(status, "".join(map(text_of, messages)), messages)

    async def provisioner_ended(self) -> None:
        while await self.provisioner.poll() is None:
            await asyncio.sleep(0.05)

    def wait(self) -> str:
        """Wait for the kernel's end; return how it ended, in a sentence."""
        self.do(self.provisioner_ended())
        return self.provisioner.sentence

    def stop(self) -> None:
        self.client.stop_channels()
        self.do(self.manager.shutdown_kernel(now=True))


def text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    if message["msg_type"] == "stream":
        return str(content["text"])
    if message["msg_type"] == "error":
        return "\n".join([content["ename"], content["evalue"], *content["traceback"]])
    return str(content.get("data", {}).get("text/plain", ""))


@pytest.fixture(scope="session")
def runtime() -> Iterator[Path]:
    """A folder for fork servers: they end when it goes. Its path must be short."""
    with tempfile.TemporaryDirectory(prefix="jg-") as folder:
        os.environ["JAXGRADER_RUNTIME_DIR"] = folder
        yield Path(folder)
        del os.environ["JAXGRADER_RUNTIME_DIR"]


@pytest.fixture
def start(runtime: Path) -> Iterator[Callable[..., Kernel]]:
    """Return a function that starts a kernel: ``start(cwd=…, Limits={…})``."""
    loop = asyncio.new_event_loop()
    kernels: list[Kernel] = []

    def start(cwd: Path | None = None, **settings: dict[str, Any]) -> Kernel:
        settings = {
            "Sandbox": {"files": "copy"} | settings.pop("Sandbox", {}),
            **settings,
        }
        kernels.append(Kernel(loop, Config(settings), cwd))
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.stop()
    loop.close()
