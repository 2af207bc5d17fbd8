"""The jail's own cost: kernels that end at once, with a jail and without one.

Both go the product's own way, in a fork server inside bubblewrap: helper, guard,
kernel. For one of the two the functions that make the jail do nothing. As a program
this module is that fork server, with a measurement in the place of its loop.
"""

import asyncio
import json
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.figures import Cost, Figure, median
from benchmarks.kernels import Kernel
from jaxgrader.kernel import app, jail, servers, wire, zygote
from jaxgrader.kernel.sandbox import Sandbox

ALTERNATIONS, WARM_UP = 50, 3
#: The variable that tells the program which jail to make.
REQUEST = "BENCHMARK_REQUEST"
#: What a jail consists of.
STEPS = {
    jail: (
        "mount_private",
        "drop_privileges",
        "hide",
        "set_limits",
        "confine_files",
    ),
    zygote: ("map_user",),
    os: ("setgroups", "setresgid", "setresuid"),
}


@dataclass(frozen=True)
class Measuring(servers.Server):
    """The fork server that measures and ends."""

    def command(self, settings: int, passwd: int) -> list[str]:
        *words, _, descriptor = super().command(settings, passwd)
        return [*words, __name__, descriptor]


def jails(runtime: Path) -> list[Figure]:
    """Compare a kernel's forks with and without a jail around them."""
    server = make_server()
    with server.locked():
        server.start()
        servers._started[-1].wait()
    said = server.last_words()
    if not said.endswith("}"):
        raise RuntimeError(said)
    costs = json.loads(said.splitlines()[-1])
    ours, stock = (Cost(*costs[name]) for name in ("jailed", "plain"))
    name = "the jail's own cost per kernel"
    return [
        Figure(f"{name}, CPU", "s", ours.cpu, stock.cpu, "difference", 0.020),
        # Whoever else wants the processor is in this one, too: no bar.
        Figure(f"{name}, wall", "s", ours.wall, stock.wall, "difference"),
    ]


def make_server() -> Measuring:
    """Return a fork server that sees these modules, too."""
    sandbox = Sandbox(readable=[str(Path(__file__).parent)])
    found = servers.server_for(sandbox)
    # Without entries to link, both do the same but for the jail.
    request = {**asyncio.run(request_of_a_kernel()), "cache": "/nonexistent"}
    environment = {**found.environment, REQUEST: json.dumps(request)}
    return Measuring(found.folder, found.settings, found.view, environment)


async def request_of_a_kernel() -> dict[str, Any]:
    """Return what a client asks of the fork server for an ordinary kernel."""
    with mock.patch.object(wire, "send_request", wraps=wire.send_request) as send:
        await (await Kernel.start(ours=True)).shut_down()
    request: dict[str, Any] = send.call_args.args[1]
    return request


def measure(server: zygote.Server) -> None:
    """Print what both cost, in seconds; takes the place of the fork server's loop."""
    costs: dict[str, list[Cost]] = {"jailed": [], "plain": []}
    for _ in range(WARM_UP + ALTERNATIONS):
        costs["jailed"].append(one(server))
        with without_jail(server):
            costs["plain"].append(one(server))
    medians = {name: median(all_[WARM_UP:]) for name, all_ in costs.items()}
    print(json.dumps({name: [c.wall, c.cpu] for name, c in medians.items()}))


def one(server: zygote.Server) -> Cost:
    """Return what a kernel costs that ends at once."""
    client, connection = socket.socketpair()
    with client:
        wire.send_request(client, json.loads(os.environ[REQUEST]), [])
        began, before = time.perf_counter(), cpu()
        server.start(connection)
        while server.kernels:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            server.reap()
        cost = Cost(time.perf_counter() - began, cpu() - before)
        check(client)
    return cost


def check(client: socket.socket) -> None:
    """Raise RuntimeError unless the kernel has started and ended well."""
    events = []
    while message := wire.receive(client):
        events.append((message["event"], message.get("status")))
    if events != [("accepted", None), ("started", None), ("ended", 0)]:
        raise RuntimeError(f"a kernel did not start: {events}")


def cpu() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@contextmanager
def without_jail(server: zygote.Server) -> Iterator[None]:
    """Let the steps that make a jail do nothing."""
    with ExitStack() as patches:
        for module, names in STEPS.items():
            for name in names:
                patches.enter_context(mock.patch.object(module, name, do_nothing))
        patches.enter_context(mock.patch.object(jail, "fork_into_namespaces", os.fork))
        patches.enter_context(mock.patch.object(server, "seccomp", NoFilter))
        yield


def do_nothing(*args: Any, **kwargs: Any) -> None:
    """Take the place of a step."""


class NoFilter:
    """Takes the place of the seccomp filter."""

    load = do_nothing


def end_at_once(request: dict[str, Any], tell: Callable[[bytes], object]) -> None:
    """Take the place of the kernel."""
    tell(app.BOUND)


if __name__ == "__main__":
    mock.patch.object(app, "serve", end_at_once).start()
    mock.patch.object(zygote.Server, "serve", measure).start()
    zygote.main()
