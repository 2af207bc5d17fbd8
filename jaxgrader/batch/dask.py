"""A cluster: the workers of a Dask scheduler that an administrator has started.

What it is: one job for each worker at a time, over mutual TLS. What it is not: a
cluster manager; hosts over SSH, Slurm and Kubernetes start workers each in their way
(docs/cluster.md). Needs the extra `jaxgrader[cluster]`.

A plain Dask cluster runs what anybody who reaches it sends: so an address without TLS
is refused, other than on this machine.
"""

import ipaddress
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from jaxgrader.batch.jobs import Slots, WorkerLost
from jaxgrader.batch.local import allowed, take_share
from jaxgrader.errors import GraderError

#: Seconds: to find the scheduler, and to do without a worker.
CONNECT, NO_WORKERS = 30, 60


def dask(
    address: str,
    tls: dict[str, str],
    prepare: Callable[[], object],
    patience: float,
    log: logging.Logger,
) -> Slots:
    """Return the slots of a cluster: one for each worker.

    `tls` names the files "ca", "cert" and "key". `prepare` is called on each worker,
    also on those that join later; where it raises, the worker is not used. A job that
    has not returned after `patience` seconds is lost.

    Raises:
        GraderError: without the extra, without TLS, without a scheduler there, or
            without a worker that may be used.
    """
    require_safe(address)
    client = connect(address, tls)
    client.run_on_scheduler(set_rules)
    refuse_workers(client, prepare, log)
    client.register_plugin(plugin(prepare))
    share_hosts(client)
    if not workers(client):
        client.close()
        raise GraderError(NO_WORKER.format(address=address))
    return Slots(
        client.get_executor(pure=False, retries=0),
        count=lambda: max(1, len(workers(client))),
        lost=losses(),
        stop=lambda: client.close(),
        patience=patience,
    )


def connect(address: str, tls: dict[str, str]) -> Any:
    """Return a client of the scheduler. Raises `GraderError`."""
    try:
        from distributed import Client, Security
    except ImportError:
        raise GraderError(NO_EXTRA) from None
    try:
        security = None
        if address.startswith("tls:"):
            security = Security(
                tls_ca_file=tls["ca"],
                tls_client_cert=tls["cert"],
                tls_client_key=tls["key"],
                require_encryption=True,
            )
        return Client(address, security=security, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise GraderError(NO_SCHEDULER.format(address=address, why=error)) from None


def plugin(prepare: Callable[[], object]) -> Any:
    """Return what refuses a worker that joins and must not grade."""
    from distributed import WorkerPlugin

    class Prepare(WorkerPlugin):
        name = "jaxgrader-prepare"

        def setup(self, worker: Any) -> None:
            prepare()

    return Prepare()


def losses() -> tuple[type[BaseException], ...]:
    """Return what a future raises when it is not the job's fault."""
    from distributed import CancelledError, KilledWorker
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import NoWorkerError

    return (
        CancelledError,
        CommClosedError,
        FutureCancelledError,
        KilledWorker,
        NoWorkerError,
        WorkerLost,
    )


def require_safe(address: str) -> None:
    """Raise `GraderError` for an address at which anybody could send us code."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if parts.scheme != "tls" and not here:
        raise GraderError(NOT_SAFE.format(address=address))


def set_rules(dask_scheduler: Any) -> None:
    """Called on the scheduler: a lost worker is ours to judge, and nobody waits."""
    dask_scheduler.allowed_failures = 0
    dask_scheduler.no_workers_timeout = NO_WORKERS


def workers(client: Any) -> list[str]:
    """Return the addresses of the workers that are there."""
    return list(client.scheduler_info(n_workers=-1)["workers"])


def share_hosts(client: Any) -> None:
    """Let the workers of one host divide its processors, as local processes do.

    One that joins later uses what it may until the next batch.
    """
    # Whoever started them may have divided a host's processors already.
    found = client.run(allowed, on_error="ignore")
    hosts: dict[tuple[str, ...], list[str]] = {}
    for address, facts in client.scheduler_info(n_workers=-1)["workers"].items():
        place = facts["host"], *map(str, found.get(address, ()))
        hosts.setdefault(place, []).append(address)
    for addresses in hosts.values():
        for index, address in enumerate(sorted(addresses)):
            share = index, len(addresses)
            # One that has just left is no reason to stop.
            client.run(take_share, *share, workers=[address], on_error="return")


def refuse_workers(
    client: Any, prepare: Callable[[], object], log: logging.Logger
) -> None:
    """Prepare all workers that are there; send those away that must not grade."""
    threads = {
        address: facts["nthreads"]
        for address, facts in client.scheduler_info(n_workers=-1)["workers"].items()
    }
    found = client.run(prepare, on_error="return")
    for address, answer in found.items():
        why = str(answer) if isinstance(answer, BaseException) else ""
        if threads.get(address, 1) != 1:
            why = THREADS.format(count=threads[address])
        if why:
            log.error(REFUSED.format(address=address, why=why))
            client.retire_workers([address], close_workers=True)


NO_EXTRA = (
    "The executor 'dask' needs Dask: run `pip install 'jaxgrader[cluster]'` here and "
    "on the workers, then try again."
)
NOT_SAFE = (
    "{address} is not used: without TLS, whoever reaches a Dask scheduler runs code on "
    "all of the cluster. Start it with TLS (docs/cluster.md), and name it tls://…"
)
NO_SCHEDULER = (
    "There is no Dask scheduler at {address} ({why}). Start it, check the certificates "
    "(c.BatchApp.tls_ca, tls_cert, tls_key), then try again."
)
NO_WORKER = (
    "The cluster at {address} has no worker that may grade. Start some (see the "
    "messages above for those that were refused), then try again."
)
REFUSED = "The worker at {address} is not used: {why}"
THREADS = "it has {count} threads and needs one: start it with --nthreads=1"
