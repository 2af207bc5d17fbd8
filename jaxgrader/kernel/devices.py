"""The accelerators of this machine, and which kernel has which.

JAX does not see to that: without ``JAX_PLATFORMS`` it falls back to the CPU and says
nothing, a second kernel on a GPU finds its memory taken, and libtpu's lock file is not
seen from a private /tmp.
"""

import asyncio
import importlib.util
import itertools
import os
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from jaxgrader.errors import CourseError, GraderError, PlatformError

if sys.platform != "win32":
    import fcntl

#: The words of ``c.Sandbox.platform``, and what JAX calls them in ``JAX_PLATFORMS``.
#: With "tpu,cpu" JAX still raises where it finds no TPU [jax 0.10.2].
PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "tpu": "tpu,cpu"}

#: Variables of the grader's that must not reach a kernel: other names, mostly old ones,
#: for what `environment` sets. jaxlib refuses the first beside its successor.
CONFLICTING = (
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "JAX_PLATFORM_NAME",
    "TPU_VISIBLE_DEVICES",
    "TPU_VISIBLE_DEVICE_PATHS",
    "TPU_CHIPS_PER_HOST_BOUNDS",
    "TPU_HOST_BOUNDS",
    "TPU_PROCESS_ADDRESSES",
    "TPU_MESH_CONTROLLER_ADDRESS",
    "TPU_MESH_CONTROLLER_PORT",
    "CLOUD_TPU_TASK_ID",
)

TPU_PORT = 8476  #: libtpu's own choice; chip i gets the i-th from here
POLL = 0.1  #: seconds from one look of a waiter at its turn to the next


class Kind(NamedTuple):
    """How the devices of one platform show on a machine."""

    files: tuple[str, ...]  #: numbered files in /dev; the first that exist count
    shared: tuple[str, ...]  #: what else in /dev each of them needs
    visible: str  #: the variable that leaves a process only some devices
    plugins: tuple[str, ...]  #: JAX needs one of these packages
    extra: str  #: pip's word for them


GPU_SHARED = (
    "nvidiactl",
    "nvidia-uvm",
    "nvidia-uvm-tools",
    "nvidia-modeset",
    "nvidia-caps",
)
GPU_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
KINDS = {
    "cuda": Kind(
        ("nvidia",), GPU_SHARED, "CUDA_VISIBLE_DEVICES", GPU_PLUGINS, "cuda13"
    ),
    "tpu": Kind(("accel", "vfio/"), ("vfio",), "TPU_VISIBLE_CHIPS", ("libtpu",), "tpu"),
}


@dataclass(frozen=True)
class Inventory:
    """The devices of a platform ("cpu", "cuda", "tpu") that this process may use.

    They are called what `Kind.visible` calls them: the first file is device 0 even if
    it is /dev/nvidia3, as in a container that was given one GPU of four. So a sandbox
    must let all `nodes` through, or the numbers change.
    """

    platform: str
    devices: tuple[str, ...]
    nodes: tuple[Path, ...]

    @classmethod
    def of(
        cls,
        platform: str,
        dev: Path = Path("/dev"),
        environ: Mapping[str, str] = os.environ,
        find: Callable[[str], object] = importlib.util.find_spec,
    ) -> "Inventory":
        """List the devices for a word of `PLATFORMS`; for "cpu" there are none.

        `find` returns None for a package that is not installed. Raises `PlatformError`
        where there is no device or no JAX for it, `CourseError` for any other word.
        """
        name = jax_name(platform)
        if name == "cpu":
            return cls("cpu", (), ())
        kind = KINDS[name]
        files = numbered(dev, kind)
        devices = visible(len(files), environ.get(kind.visible))
        if not files:
            places = " or ".join(f"{dev}/{prefix}<number>" for prefix in kind.files)
            raise PlatformError(NO_DEVICE.format(platform=platform, places=places))
        if not devices:
            value = f"{kind.visible}={environ[kind.visible]}"
            raise PlatformError(NONE_VISIBLE.format(platform=platform, value=value))
        if not any(map(find, kind.plugins)):
            plugins = " or ".join(kind.plugins)
            where = {"plugins": plugins, "prefix": sys.prefix, "extra": kind.extra}
            raise PlatformError(NO_PLUGIN.format(platform=platform, **where))
        shared = (dev / name for name in kind.shared)
        return cls(name, devices, (*files, *filter(Path.exists, shared)))


def jax_name(platform: str) -> str:
    """Return "cpu", "cuda" or "tpu"; raise `CourseError` for an unknown word."""
    if platform not in PLATFORMS:
        words = ", ".join(PLATFORMS)
        raise CourseError(NO_SUCH.format(platform=platform, words=words))
    return PLATFORMS[platform].split(",")[0]


def numbered(dev: Path, kind: Kind) -> list[Path]:
    """Return the files of the first prefix in `kind` that has any, by number."""
    for prefix in kind.files:
        names = (path.relative_to(dev).as_posix() for path in dev.glob(prefix + "*"))
        found = [name for name in names if re.fullmatch(prefix + r"\d+", name)]
        if found:
            return [dev / n for n in sorted(found, key=lambda n: int(n[len(prefix) :]))]
    return []


def visible(count: int, value: str | None) -> tuple[str, ...]:
    """Return the devices that CUDA_VISIBLE_DEVICES or its like leaves; None: all.

    As in CUDA, the list ends with its first entry that is no device; a UUID passes.
    """
    every = tuple(map(str, range(count)))
    if value is None:
        return every
    known = itertools.takewhile(
        lambda entry: entry in every or entry.startswith(("GPU-", "MIG-")),
        map(str.strip, value.split(",")),
    )
    return tuple(dict.fromkeys(known))


def environment(
    platform: str, device: str | None, memory_fraction: float
) -> dict[str, str]:
    """Return the variables of one kernel; `CONFLICTING` must not stand beside them.

    `memory_fraction` is the most that a kernel may take of its GPU's memory, 0 to 1.
    `device` is from an `Inventory`; `ValueError` unless it is None for "cpu" only.
    """
    name = jax_name(platform)
    if (device is None) != (name == "cpu"):
        raise ValueError(f"platform {platform!r} does not go with device {device!r}")
    # Float32 products at full precision: a test means the same on every platform.
    variables = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    variables["JAX_PLATFORMS"] = PLATFORMS[platform]
    if device is not None and name == "cuda":
        variables |= {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the numbers of nvidia-smi
            "CUDA_VISIBLE_DEVICES": device,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "XLA_CLIENT_MEM_FRACTION": str(memory_fraction),
        }
    elif device is not None:
        variables |= {
            "TPU_VISIBLE_CHIPS": device,
            "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
            "TPU_PROCESS_BOUNDS": "1,1,1",
            "TPU_PROCESS_PORT": str(TPU_PORT + int(device)),
        }
    return variables


@dataclass
class Lease:
    """The use of one device, as long as any process has a copy of `fd` open.

    So a lease can be sent over a socket, and ends when its holders die. A fork copies
    it, too. Unlocking `fd` would end it for all; closing is for one.
    """

    device: str
    file: FileIO

    @property
    def fd(self) -> int:
        """The file descriptor that holds the lease."""
        return self.file.fileno()

    def close(self) -> None:
        """Close this copy; may be called twice."""
        self.file.close()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Leases:
    """One lock file per device, in a folder that all users of the machine share.

    The folder is on a local disk that nobody sweeps (/run/lock, /dev/shm; not /tmp),
    for its files are never written nor removed. Methods raise `GraderError` where one
    cannot be opened; a platform without devices is a `ValueError` at once.

    First come, first served: whoever waits has locked, in the file of every device, the
    byte whose offset is the time of arrival, and takes a device when no earlier byte is
    locked. That is fcntl's lock; the lease is flock's, and neither minds the other.
    Both end with the process, but a fork (without exec) while waiting copies the place.
    """

    def __init__(self, folder: Path, inventory: Inventory) -> None:
        if not inventory.devices:
            raise ValueError(f"there is no device to lease on {inventory.platform}")
        self.folder = folder
        self.inventory = inventory

    def try_acquire(self) -> Lease | None:
        """Return a lease at once, None if all are taken or waited for."""
        with self._files() as files:
            return take(files, time.monotonic_ns())

    def acquire(self) -> Lease:
        """Return a lease as soon as a device is free and it is our turn."""
        with self._files() as files:
            arrival = stand_in_line(files)
            while not (lease := take(files, arrival)):
                time.sleep(POLL)
            return lease

    async def wait(self) -> Lease:
        """As `acquire`, in an event loop; cancelled, it leaves nothing behind."""
        with self._files() as files:
            arrival = stand_in_line(files)
            while not (lease := take(files, arrival)):
                await asyncio.sleep(POLL)
            return lease

    @contextmanager
    def _files(self) -> Iterator[dict[str, FileIO]]:
        """Yield the open file of each device; close those that are not taken out."""
        files: dict[str, FileIO] = {}
        try:
            for device in self.inventory.devices:
                name = f"{self.inventory.platform}-{quote(device, safe='')}.lock"
                files[device] = open_lock(self.folder, name)
            yield files
        finally:
            for file in files.values():
                file.close()


def open_lock(folder: Path, name: str) -> FileIO:
    """Open a lock file for everyone's use, made if need be; raise `GraderError`."""
    try:
        with suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(0o1777)
        parent = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            return FileIO(open_or_create(parent, name))
        finally:
            os.close(parent)
    except OSError as error:
        why = error.strerror
        raise GraderError(BAD_LOCK.format(path=folder / name, why=why)) from error


def open_or_create(folder: int, name: str) -> int:
    """Return a descriptor of the file; follow no symlink and wait for no pipe.

    In a sticky folder Linux refuses ``O_CREAT`` for an existing file of another user
    (fs.protected_regular), hence the two steps.
    """
    try:
        fd = os.open(name, os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    except FileExistsError:
        return os.open(name, os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    os.fchmod(fd, 0o666)
    return fd


def take(files: dict[str, FileIO], arrival: int) -> Lease | None:
    """Lease a free device that nobody waits for since before `arrival`, if any.

    Its file leaves `files`.
    """
    for device, file in files.items():
        with suppress(BlockingIOError):
            if is_first(file, arrival):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return Lease(device, files.pop(device))
    return None


def stand_in_line(files: dict[str, FileIO]) -> int:
    """Lock the byte of our arrival in each file; return it, in ns of the machine."""
    arrival = time.monotonic_ns()
    place = struct.pack(FLOCK, fcntl.F_RDLCK, os.SEEK_SET, arrival, 1, 0)
    for file in files.values():
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, place)
    return arrival


def is_first(file: FileIO, arrival: int) -> bool:
    """Whether nobody has locked a byte before that of `arrival`."""
    before = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, arrival, 0)
    answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, before)
    return bool(struct.unpack(FLOCK, answer)[0] == fcntl.F_UNLCK)


#: Linux's struct flock: type, whence, start, length, pid (0), padding.
FLOCK = "hhqqi0q"

NO_SUCH = (
    "c.Sandbox.platform is {platform!r}, which is none of {words}. No kernel was "
    "started. Correct it in nbgrader_config.py."
)
INSTEAD = 'or set `c.Sandbox.platform = "cpu"` in nbgrader_config.py.'
NO_DEVICE = (
    "c.Sandbox.platform is {platform!r}, but this machine has no {places}. No kernel "
    "was started. Look for the device and its driver, " + INSTEAD
)
NONE_VISIBLE = (
    "c.Sandbox.platform is {platform!r}, but {value} hides every device. No kernel was "
    "started. Change or unset that variable, " + INSTEAD
)
NO_PLUGIN = (
    "c.Sandbox.platform is {platform!r}, but JAX cannot use it: there is no {plugins} "
    "in {prefix}. No kernel was started. Run there "
    '`pip install "jax[{extra}]"`, ' + INSTEAD
)
BAD_LOCK = (
    "No device can be leased: {path} cannot be opened ({why}). It should be a plain "
    "file in a folder of mode 1777; jaxgrader makes both. Remove what stands there "
    "while no kernel runs, then start the kernel again."
)
