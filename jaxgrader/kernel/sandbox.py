"""What a kernel may see and use, and the outer layer that holds it: bubblewrap.

What it is: the settings of people (`Sandbox`, `Limits`), the command line that puts the
fork server into bubblewrap, and the check that this machine can do it. What it is not:
the inner layer, which each fork builds for itself (`jail.py`).

Guarantees: what is not listed in `view` does not exist inside, not even for the fork
server; a level that this machine cannot give is an error that names the missing layer
and the command that provides it. Assumes Linux for every level but ``none``.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traitlets import Enum, Float, Integer, List, Unicode
from traitlets.config import Configurable

from jaxgrader.errors import SandboxError
from jaxgrader.kernel import devices
from jaxgrader.kernel.inside import (
    CACHE,
    HOME,
    RUN,
    SCRATCH,
    SOCKETS,
    TMP,
    WRITABLE,
    Jail,
)

LEVELS = ("strict", "basic", "none")
#: Where the fork server sees the cache that all kernels read, and its kernels' folders.
SHARED_CACHE = Path("/var/lib/jaxgrader/cache")
KERNELS = RUN / "kernels"
#: What programs in /usr need of /etc; the rest of it is not there.
ETC = ["alternatives", "fonts", "ld.so.cache", "localtime", "mime.types", "ssl/certs"]
#: As root each kernel gets a user id of its own: those that systemd hands out to
#: services for a while, which nobody's files belong to.
USER_IDS = (61184, 4096)


class Limits(Configurable):
    """What a kernel may use. None, where allowed, means no limit."""

    cell = Integer(
        None, allow_none=True, min=1, help="Seconds that a cell may take."
    ).tag(config=True)
    wall = Float(
        None,
        allow_none=True,
        min=1,
        help="Seconds that a kernel may live: all cells of a notebook together.",
    ).tag(config=True)
    cpu = Integer(
        None,
        allow_none=True,
        min=1,
        help="Seconds of processor time, all threads and processes together.",
    ).tag(config=True)
    memory = Integer(
        4 << 30,
        min=256 << 20,
        help="Bytes of memory, all processes of the kernel together.",
    ).tag(config=True)
    processes = Integer(
        512,
        min=64,
        help="Processes and threads. JAX itself starts a few per processor core.",
    ).tag(config=True)
    open_files = Integer(
        1024,
        min=64,
        help="Open files per process; never more than the client may open, less 256.",
    ).tag(config=True)
    disk = Integer(
        512 << 20,
        min=1 << 20,
        help="Bytes in the scratch folder, /tmp, /dev/shm and the home together.",
    ).tag(config=True)
    output = Integer(
        1_000_000,
        min=1000,
        help="Bytes of output per cell: as many on stdout, on stderr, and for values, "
        "displays and errors.",
    ).tag(config=True)


class Sandbox(Configurable):
    """How kernels are confined."""

    level = Enum(
        LEVELS,
        default_value="strict",
        help="strict: bubblewrap, namespaces, Landlock, seccomp, limits. basic: the "
        "last three, for containers that allow no namespaces. none: no sandbox at all, "
        "for authors on macOS or Windows; every result says so.",
    ).tag(config=True)
    platform = Enum(
        sorted(devices.PLATFORMS),
        default_value="cpu",
        help="Where JAX runs: cpu, gpu (or cuda), tpu. There is no silent fallback.",
    ).tag(config=True)
    processors = List(
        Integer(min=0),
        help="The numbers of the processors that kernels run on, empty for all. XLA "
        "starts as many threads; a batch gives each of its slots a share.",
    ).tag(config=True)
    memory_fraction = Float(
        0.75,
        min=0.01,
        max=1.0,
        help="The share of a GPU's memory that one kernel may take.",
    ).tag(config=True)
    files = Enum(
        ("own", "copy"),
        default_value="own",
        help="own: the kernel works in the notebook's folder, and may write there. "
        "copy: it gets a copy, which ends with it. Grading always makes a copy.",
    ).tag(config=True)
    preload = List(
        Unicode(),
        [
            "numpy",
            "jax",
            "jax.numpy",
            "flax.nnx",
            "flax.linen",
            # What JAX imports when it lowers a first program, and a first jnp.linalg.
            "jax.experimental.multihost_utils",
            "jaxlib.mlir.dialects.builtin",
            "jaxlib.mlir.dialects.mhlo",
            "scipy.linalg",
            "IPython.core.completerlib",
            "IPython.core.debugger",
            "IPython.core.logger",
            "IPython.core.oinspect",
            "IPython.extensions.storemagic",
            "matplotlib_inline.backend_inline",
            "tornado.platform.asyncio",
            "jaxgrader.grading.client",
            "jaxgrader.grading.inspector",
            "jaxgrader.grading.server",
            "jaxgrader.testing",
        ],
        help="Modules that are imported once, for all kernels. None of them may start "
        "a thread or an XLA backend.",
    ).tag(config=True)
    readable = List(
        Unicode(), help="Further folders that kernels may read: data sets, for example."
    ).tag(config=True)
    idle = Float(
        120.0, min=1, help="Seconds without a kernel after which a fork server ends."
    ).tag(config=True)


@dataclass(frozen=True)
class View:
    """What exists inside: folders of this machine, by the way they are shown."""

    #: Read-only: the Python environment and what was asked for.
    readable: tuple[str, ...]
    #: The kernels' folder of this server, on this machine.
    kernels: Path
    #: The compilation cache on this machine; read-only unless `fill`.
    cache: Path
    fill: bool = False
    writable: str | None = None
    devices: tuple[str, ...] = ()


def python_folders() -> list[str]:
    """Return what this Python needs beside /usr: environment, base, package."""
    package = Path(__file__).resolve().parent.parent
    prefixes = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    # An environment's python may be a chain of links through further folders.
    link = Path(sys.executable)
    while link.is_symlink():
        link = link.parent / os.readlink(link)
        prefixes.append(str(link.parent.parent))
    return outermost([*prefixes, os.path.realpath(sys.base_prefix), str(package)])


def outermost(folders: list[str]) -> list[str]:
    """Return `folders` without those that lie in /usr or in another one of them."""
    kept: list[str] = []
    for folder in sorted({os.path.normpath(folder) for folder in folders}):
        if not any(Path(folder).is_relative_to(outer) for outer in ["/usr", *kept]):
            kept.append(folder)
    return kept


def bubblewrap(view: View, environment: dict[str, str], descriptors: int) -> list[str]:
    """Return the command line that runs a program in the outer layer.

    `descriptors` is the file descriptor from which bubblewrap reads /etc/passwd.
    """
    command = [require_bubblewrap(), "--new-session"]
    for namespace in ("pid", "net", "ipc", "uts"):
        command.append(f"--unshare-{namespace}")
    command += ["--unshare-cgroup-try", "--hostname", "jaxgrader"]
    if os.geteuid() == 0:
        command += ["--cap-drop", "ALL"]
        for capability in ("CHOWN", "SETFCAP", "SETGID", "SETUID", "SYS_ADMIN"):
            command += ["--cap-add", f"CAP_{capability}"]
    else:
        command.append("--unshare-user")
    command += [*system(), "--proc", "/proc", "--dev", "/dev"]
    for folder in [*WRITABLE, SOCKETS, RUN / "private", RUN / "proc", KERNELS]:
        command += _folder(folder)
    command += ["--tmpfs", "/tmp"]  # noqa: S108
    for path in view.readable:
        command += [*_folder(Path(path)), "--ro-bind", path, path]
    command += ["--bind", str(view.kernels), str(KERNELS)]
    command += [*_folder(SHARED_CACHE), *_cache(view)]
    for path in view.devices:
        command += ["--dev-bind-try", path, path]
    if view.devices:
        command += ["--ro-bind", "/sys", "/sys"]
    if view.writable:
        command += [*_folder(Path(view.writable)), "--bind", *[view.writable] * 2]
    command += ["--perms", "0444", "--ro-bind-data", str(descriptors), "/etc/passwd"]
    command += ["--remount-ro", "/", "--chdir", "/", "--clearenv"]
    for name, value in environment.items():
        command += ["--setenv", name, value]
    return command


def system() -> list[str]:
    """Return the options that show this machine's programs and libraries, read-only."""
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib32", "lib64", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            options += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            options += ["--ro-bind", str(path), str(path)]
    options += ["--dir", "/etc", "--dir", "/etc/ssl"]
    for name in ETC:
        options += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return options


def _folder(path: Path) -> list[str]:
    """Make a folder and its parents: bubblewrap's own would be closed to others."""
    parents = [parent for parent in reversed(path.parents) if parent != Path("/")]
    return [word for folder in [*parents, path] for word in ("--dir", str(folder))]


def _cache(view: View) -> list[str]:
    if view.fill:
        return ["--bind", str(view.cache), str(CACHE)]
    return ["--ro-bind", str(view.cache), str(SHARED_CACHE)]


ACCOUNTS = "student:x:1000:1000:student:/home/student:/bin/sh\n"


def jail_for(
    sandbox: Sandbox, limits: Limits, view: View, sockets: Path
) -> tuple[Jail, dict[str, str]]:
    """Return what a fork needs to know, and the environment that goes with it.

    `sockets` is the kernel's folder on this machine; without namespaces all that is
    the kernel's own lies below it, and every path is a path of this machine.
    """
    strict = sandbox.level == "strict"
    places = {path: str(path) for path in WRITABLE}
    if not strict:
        places = {path: str(sockets / "own" / name) for path, name in WRITABLE.items()}
    if view.fill:
        places[CACHE] = str(CACHE) if strict else str(view.cache)
    jail = Jail(
        level=sandbox.level,
        processors=list(sandbox.processors),
        cell=limits.cell,
        wall=limits.wall,
        cpu=limits.cpu,
        memory=limits.memory,
        processes=limits.processes,
        open_files=min(limits.open_files, spare_files()),
        disk=limits.disk,
        output=limits.output,
        readable=[*view.readable, str(SHARED_CACHE if strict else view.cache)],
        writable=view.writable,
        devices=list(view.devices),
        private=list(places.values()),
        sockets=str(SOCKETS if strict else sockets),
    )
    variables = {
        "HOME": places[HOME],
        "TMPDIR": places[TMP],
        "IPYTHONDIR": f"{places[TMP]}/.ipython",
        "MPLCONFIGDIR": f"{places[TMP]}/.matplotlib",
        "JAX_COMPILATION_CACHE_DIR": places[CACHE],
        "JAXGRADER_SCRATCH": places[SCRATCH],
    }
    return jail, variables


def spare_files() -> int:
    """Return how many open files a kernel may have so that its client can send some.

    A user's processes together may have as many open files on their way through
    sockets as the sender may open; one message takes up to 253 more.
    """
    import resource  # not on Windows, where nothing is jailed

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(64, soft - 256)


def require_bubblewrap() -> str:
    """Return the path of bubblewrap.

    Raises:
        SandboxError: if it is not installed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError(MISSING.format(level="strict", **LAYERS["bubblewrap"]))
    return program


def require(level: str) -> None:
    """Raise `SandboxError` unless this machine has what `level` is made of."""
    for name in missing_layers(level):
        raise SandboxError(MISSING.format(level=level, **LAYERS[name]))


def missing_layers(level: str) -> list[str]:
    """Return the names of the layers that `level` needs and this machine lacks.

    Whether bubblewrap and the namespaces work shows when they are used.
    """
    if level == "none":
        return []
    if not sys.platform.startswith("linux"):
        return ["linux"]
    missing = [] if level == "basic" or shutil.which("bwrap") else ["bubblewrap"]
    missing += [] if has_seccomp() else ["seccomp"]
    abi = landlock_abi()
    return missing + ([] if abi >= LANDLOCK_ABI[level] else [f"landlock {level}"])


def has_seccomp() -> bool:
    """Whether libseccomp is installed."""
    try:
        import pyseccomp
    except (ImportError, RuntimeError):
        return False
    return bool(pyseccomp.get_api() > 0)


def landlock_abi() -> int:
    """Return the version of the kernel's Landlock interface, 0 where it has none."""
    import landlockpy

    return landlockpy.abi_version()


#: Without namespaces, only Landlock keeps a kernel from sending signals (ABI 6).
LANDLOCK_ABI = {"strict": 1, "basic": 6}

#: By layer: what is missing, and how to get it.
LAYERS: dict[str, dict[str, Any]] = {
    "linux": {
        "layer": "Linux",
        "how": "Grade on a Linux machine.",
    },
    "bubblewrap": {
        "layer": "bubblewrap (the program bwrap)",
        "how": "Install it: sudo apt-get install bubblewrap",
    },
    "seccomp": {
        "layer": "libseccomp",
        "how": "Install it: sudo apt-get install libseccomp2",
    },
    "landlock strict": {
        "layer": "Landlock",
        "how": "Start a Linux kernel of at least 5.13 with landlock in its lsm= list.",
    },
    "landlock basic": {
        "layer": "Landlock with scoped signals (ABI 6)",
        "how": "Start a Linux kernel of at least 6.12 with landlock in its lsm= list.",
    },
}
MISSING = (
    "This machine cannot give the sandbox level {level!r}: {layer} is missing. {how} "
    "(`jaxgrader doctor` checks all layers. c.Sandbox.level can ask for less, and then "
    "every result says so.)"
)
