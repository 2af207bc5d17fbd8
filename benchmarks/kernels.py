"""Starts of kernels: one, ten at once, five hundred in a row.

Ours and stock ones are started in turn, through the same jupyter_client manager, and
asked to import JAX and Flax. A client has only the shell channel; nothing sleeps
between the request and the reply.
"""

import asyncio
import subprocess
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from benchmarks.figures import (
    MB,
    Cost,
    Figure,
    cpu_of,
    cpu_of_children,
    fork_server,
    fork_servers,
    mean,
    median,
    memory_of,
    open_files,
)

IMPORTS = "import jax, flax.nnx, flax.linen, jax.numpy"
SPEC = KernelSpec(
    argv=["python"],
    display_name="JAX (sandboxed)",
    language="python",
    metadata={"kernel_provisioner": {"provisioner_name": "jaxgrader"}},
)
#: /proc tells processor time in hundredths of a second: measure a few starts together.
ROUNDS, STARTS = 7, 5
#: Seconds after which a reply is missing; nothing here takes that long.
PATIENCE = 120


class Kernel:
    """A kernel, ours or a stock one, and a client of its shell channel."""

    def __init__(self, manager: AsyncKernelManager) -> None:
        self.manager = manager
        self.client: AsyncKernelClient = manager.client()
        self.client.start_channels(iopub=False, stdin=False, hb=False, control=False)

    @classmethod
    async def start(cls, ours: bool) -> "Kernel":
        """Start a kernel."""
        manager = AsyncKernelManager(kernel_name="python3")
        if ours:
            manager._kernel_spec = SPEC
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        await manager.start_kernel(**quiet)
        # A stock kernel's port is not open yet, and ZeroMQ would look every 100 ms.
        manager.context.setsockopt(zmq.RECONNECT_IVL, 5)
        return cls(manager)

    async def run(self, code: str) -> None:
        """Run a cell to its end; raise RuntimeError unless the reply is "ok"."""
        request = self.client.execute(code)
        reply: dict[str, Any] = {"parent_header": {}}
        while reply["parent_header"].get("msg_id") != request:
            reply = await self.client.get_shell_msg(timeout=PATIENCE)
        if reply["content"]["status"] != "ok":
            raise RuntimeError(f"{code!r} failed: {reply['content']}")

    async def end(self) -> None:
        """Let the kernel end itself.

        Its processor time then shows in its parent's; that of a killed one may not.
        """
        self.client.execute("import os; os._exit(0)")
        while await self.manager.is_alive():
            await asyncio.sleep(0.01)
        await self.shut_down()

    async def shut_down(self, *, now: bool = True) -> None:
        """Kill the kernel, or ask it to end."""
        self.client.stop_channels()
        await self.manager.shutdown_kernel(now=now)


async def first_reply(ours: bool, runtime: Path) -> Cost:
    """Return what a kernel costs from the request to the first reply, and its end."""
    before = spent(ours, runtime)
    began = time.perf_counter()
    kernel = await Kernel.start(ours)
    await kernel.run(IMPORTS)
    wall = time.perf_counter() - began
    await kernel.end()
    return Cost(wall, spent(ours, runtime) - before)


def spent(ours: bool, runtime: Path) -> float:
    """Return the CPU seconds of all kernels so far; of ours with the fork server's."""
    return cpu_of(fork_servers(runtime)) if ours else cpu_of_children()


async def start(runtime: Path) -> list[Figure]:
    """Compare starts, one after the other, ours and stock in turn."""
    server = await first_reply(True, runtime)
    await first_reply(False, runtime)
    costs: dict[bool, list[Cost]] = {True: [], False: []}
    for _ in range(ROUNDS):
        turn: dict[bool, list[Cost]] = {True: [], False: []}
        for _ in range(STARTS):
            for ours in turn:
                turn[ours].append(await first_reply(ours, runtime))
        for ours in turn:
            costs[ours].append(mean(turn[ours]))
    warm, stock = median(costs[True]), median(costs[False])
    own = server.cpu - warm.cpu
    return [
        Figure("start to first reply", "s", warm.wall, stock.wall, bar=1 / 8),
        Figure("start to first reply, CPU", "s", warm.cpu, stock.cpu, bar=1 / 8),
        Figure("the fork server's own start, once, CPU", "s", own, stock.cpu),
    ]


async def ten(runtime: Path) -> list[Figure]:
    """Compare ten kernels at once: time until all have replied, and memory."""
    await (await Kernel.start(True)).shut_down()  # the fork server runs
    walls, memory = {}, {}
    for ours in (True, False):
        began = time.perf_counter()
        kernels = await asyncio.gather(*(Kernel.start(ours) for _ in range(10)))
        await asyncio.gather(*(kernel.run(IMPORTS) for kernel in kernels))
        walls[ours] = time.perf_counter() - began
        memory[ours] = [memory_per_kernel(kernels, ours, runtime)]
        for kernel in kernels:
            await kernel.run("jax.numpy.ones(3) + 1")
        memory[ours].append(memory_per_kernel(kernels, ours, runtime))
        await asyncio.gather(*(kernel.shut_down() for kernel in kernels))
    (idle, used), (stock_idle, stock_used) = memory[True], memory[False]
    return [
        Figure("ten at once, until the last reply", "s", walls[True], walls[False]),
        Figure("memory per idle kernel of ten", "MB", idle, stock_idle, "ours", 150),
        Figure("memory after one jnp operation", "MB", used, stock_used),
    ]


def memory_per_kernel(kernels: Sequence[Kernel], ours: bool, runtime: Path) -> float:
    """Return the proportional set size of a kernel in MB, with all that serves it."""
    pids = fork_servers(runtime) if ours else [str(pid_of(k)) for k in kernels]
    return memory_of(pids) / len(kernels) / MB


def pid_of(kernel: Kernel) -> int:
    """Return the pid of a stock kernel."""
    assert kernel.manager.provisioner is not None
    pid: int = kernel.manager.provisioner.pid  # type: ignore[attr-defined]
    return pid


@dataclass(frozen=True)
class Census:
    """What there is while no kernel runs."""

    server_memory: float  #: MB that the fork server holds
    client_memory: float  #: MB that this process holds
    server_files: int
    client_files: int
    processes: int
    entries: int  #: in the runtime folder

    @classmethod
    def take(cls, runtime: Path) -> "Census":
        server = fork_server(runtime)
        return cls(
            memory_of([server], "Rss") / MB,
            memory_of(["self"], "Rss") / MB,
            open_files(server),
            open_files("self"),
            len(fork_servers(runtime)),
            sum(1 for _ in runtime.rglob("*")),
        )


async def row(runtime: Path, first: int = 50, last: int = 500) -> list[Figure]:
    """Start kernels in a row; compare what there is after `first` and after `last`.

    Every other one is asked to end, the others are killed.
    """
    for number in range(1, last + 1):
        kernel = await Kernel.start(True)
        await kernel.run("1 + 1")
        await kernel.shut_down(now=number % 2 == 0)
        if number == first:
            before = Census.take(runtime)
    names = (
        ("the fork server's memory", "MB", 2),
        ("the client's memory", "MB", None),
        ("the fork server's open files", "", 0),
        ("the client's open files", "", 0),
        ("processes", "", 0),
        ("entries in the runtime folder", "", 0),
    )
    growth = zip(names, astuple(before), astuple(Census.take(runtime)), strict=True)
    return [
        Figure(
            f"growth, {first} to {last}: {name}", unit, after - then, None, "ours", b
        )
        for (name, unit, b), then, after in growth
    ]
