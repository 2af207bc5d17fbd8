"""What this machine gives, layer by layer: what `jaxgrader doctor` prints.

Each check tries the thing itself; a line says what was seen and, where something is
missing, how to get it.
"""

import asyncio
import importlib.metadata
import logging
import os
import platform
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from traitlets.config import Config

from jaxgrader.errors import GraderError
from jaxgrader.kernel import cache, devices, sandbox
from jaxgrader.kernel.servers import shared_cache

#: Seconds that a check may take.
PATIENCE = 120
PACKAGES = [
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "nbgrader",
    "jupyterlab",
    "ipykernel",
    "jupyter_client",
    "pyzmq",
    "landlockpy",
    "pyseccomp",
]


@dataclass(frozen=True)
class Line:
    """One line of the report; `how` says what to do where `good` is False."""

    name: str
    good: bool
    seen: str
    how: str = ""
    #: Whether the level that was asked for needs it.
    needed: bool = True


def examine(config: Config) -> Iterator[Line]:
    """Yield the lines of the report for the settings in `config`."""
    level = sandbox.Sandbox(config=config).level
    yield linux()
    yield bubblewrap(level)
    yield seccomp()
    yield landlock(level)
    yield cgroups()
    for name in ("strict", "basic"):
        yield kernel(config, name, asked=name == level)
    if level != "none":
        yield compilation_cache(config)
    for name in ("gpu", "tpu"):
        yield accelerator(name, config)
    yield versions()


def linux() -> Line:
    system = platform.system()
    return Line(
        "Linux",
        system == "Linux",
        f"{system} {platform.release()}, {platform.machine()}",
        sandbox.LAYERS["linux"]["how"],
    )


def bubblewrap(level: str) -> Line:
    try:
        program = sandbox.require_bubblewrap()
    except GraderError:
        how = sandbox.LAYERS["bubblewrap"]["how"]
        return Line("bubblewrap", False, "not installed", how, level == "strict")
    version = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False
    )
    return Line("bubblewrap", True, f"{version.stdout.strip()} ({program})")


def seccomp() -> Line:
    good = sandbox.has_seccomp()
    seen = "libseccomp found" if good else "libseccomp not found"
    return Line("seccomp", good, seen, sandbox.LAYERS["seccomp"]["how"])


def landlock(level: str) -> Line:
    abi, wanted = sandbox.landlock_abi(), sandbox.LANDLOCK_ABI.get(level, 0)
    how = sandbox.LAYERS[f"landlock {level}"]["how"] if level != "none" else ""
    return Line("Landlock", abi >= wanted, f"ABI {abi}; {level} needs {wanted}", how)


def cgroups() -> Line:
    """Say whether this user may make cgroups; the guard enforces limits anyway."""
    mine = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
    folder = Path("/sys/fs/cgroup") / mine.lstrip("/")
    good = (folder / "cgroup.procs").exists() and os.access(folder, os.W_OK)
    seen = f"{folder} is {'' if good else 'not '}delegated"
    return Line("cgroups", good, seen, "Not used: the guard counts.", needed=False)


def kernel(config: Config, level: str, *, asked: bool) -> Line:
    """Start a kernel at `level` and let it answer."""
    config = Config({**config, "Sandbox": {**config.Sandbox, "level": level}})
    try:
        answer = run(config, "6 * 7")
    except GraderError as error:
        lines = str(error).splitlines()
        seen = " … ".join(dict.fromkeys([lines[0], lines[-1]]))
        return Line(f"level {level}", False, seen, NAMESPACES, needed=asked)
    return Line(f"level {level}", answer == "42", "a kernel started and answered")


def compilation_cache(config: Config) -> Line:
    """Compile in one kernel, and see whether another one reads it back."""
    name = "jaxgrader compilation cache"
    shared = shared_cache(sandbox.Sandbox(config=config).platform)
    code = PROBE.format(name=f"probe_{uuid.uuid4().hex}")
    try:
        with cache.filling(shared) as new:
            fill = Config({**config, "SandboxProvisioner": {"fill": str(new)}})
            run(fill, code)
        hits = run(config, code)
    except GraderError as error:
        return Line(name, False, str(error), needed=False)
    finally:
        for entry in shared.glob("*probe_*"):
            entry.unlink()
    count = sum(1 for _ in shared.iterdir())
    seen = f"{count} entries in {shared}; read back: {'yes' if hits == '1' else 'no'}"
    return Line("compilation cache", hits == "1", seen, REJECTED, needed=False)


def accelerator(name: str, config: Config) -> Line:
    """List the devices of a platform; say what is missing where it was asked for."""
    asked = sandbox.Sandbox(config=config).platform == name
    try:
        inventory = devices.Inventory.of(name)
    except GraderError as error:
        seen = str(error) if asked else "none that JAX could use"
        return Line(name.upper(), False, seen, needed=asked)
    return Line(name.upper(), True, f"devices {', '.join(inventory.devices)}")


def versions() -> Line:
    """Return the versions of everything that matters."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return Line("versions", True, ", ".join(found))


def run(config: Config, code: str) -> str:
    """Run one cell in a sandboxed kernel of its own; return its value as text.

    Raises:
        GraderError: if the kernel does not start or does not answer.
    """
    return asyncio.run(asyncio.wait_for(_run(config, code), PATIENCE))


async def _run(config: Config, code: str) -> str:
    manager = AsyncKernelManager(config=config, log=SILENT)
    manager._kernel_spec = KernelSpec(**kernel_spec())
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    values: list[str] = []

    def take(message: dict[str, Any]) -> None:
        if message["msg_type"] == "execute_result":
            values.append(message["content"]["data"]["text/plain"])

    try:
        await client.wait_for_ready(timeout=PATIENCE)
        await client.execute_interactive(code, output_hook=take)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
    return "".join(values)


def kernel_spec() -> dict[str, Any]:
    """Return the kernelspec "JAX (sandboxed)", as kernel.json has it."""
    return {
        "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "JAX (sandboxed)",
        "language": "python",
        "metadata": {
            "debugger": False,
            "kernel_provisioner": {"provisioner_name": "jaxgrader"},
        },
    }


#: jupyter_client logs a traceback for what the report says in a line.
SILENT = logging.Logger("jaxgrader.doctor", level=logging.CRITICAL)
#: Its value is the number of compiled programs that came from the cache.
PROBE = """
import jax
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None
)
def {name}(x):
    return x * 2 + 1
zero = jax.numpy.float32(0)
del hits[:]
_ = jax.jit({name})(zero).block_until_ready()
len(hits)
"""
REJECTED = (
    "Grading works, and compiles everything again. Some processors reject every entry "
    "(jax issue 38445); try another jaxlib."
)
NAMESPACES = (
    "Namespaces may be switched off here. Ubuntu: sudo sysctl "
    "kernel.apparmor_restrict_unprivileged_userns=0. Docker: --security-opt "
    "seccomp=unconfined --security-opt systempaths=unconfined. Else use level basic."
)
