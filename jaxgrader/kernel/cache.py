"""The compilation cache: filled by the instructor's solutions, read by every kernel.

What it is: where the entries lie on disk, how a kernel gets to read them, and how new
ones are published. What it is not: something that a student's kernel can write to; it
reads the entries where they are, and its own stay in a folder of its own.

Guarantees: an entry appears whole or not at all. A poisoned entry would silently change
results, so only `publish` writes, and only what the instructor's kernel has compiled.
Assumes JAX's file cache: one file per entry, named by its key. The folder's path would
be part of that key; every kernel sees the cache at `inside.CACHE`. The entries of
`lowered.py` lie beside JAX's own.
"""

import contextlib
import hashlib
import importlib.metadata
import inspect
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxgrader.kernel.lowered import PREFIX

#: How entries are named: changed where `lowered.py` names them otherwise.
KEYS = "2"
#: JAX stores only what took long to compile and is large; small kernels need it all.
#: Without XLA's own caches the key does not depend on where the folder is.
ENVIRONMENT = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
}


def folder(root: Path, jax_platforms: str) -> Path:
    """Make and return the cache's folder for this machine's jaxlib and processor.

    Compiled programs use what the processor offers, so a home directory that several
    machines share holds one cache for each kind. Only this user can enter `root`; in
    the jail, kernels of another user id read the folder itself.
    """
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib")]
    facts = [KEYS, *versions, jax_platforms, platform.machine(), processor()]
    digest = hashlib.sha256("\0".join(facts).encode()).hexdigest()[:12]
    shared = root / f"jaxlib-{versions[1]}-{digest}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    shared.mkdir(mode=0o755, exist_ok=True)
    return shared


def processor() -> str:
    """Return the processor's model and what it can do, as far as Linux tells."""
    wanted = ("model name", "flags", "Features", "CPU part")
    lines: set[str] = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(wanted):
                lines.add(line)
    return "\n".join(sorted(lines))


def for_tests(shared: Path, assignment: str) -> Path:
    """Return the folder for what the tests of an assignment compile.

    It is in no view of a fork server: checkers get copies, and nobody else.
    """
    folder = shared.with_name(f"{shared.name}.tests") / assignment
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def unpublished(shared: Path) -> Path:
    """Return the folder in which `filling` collects new entries for `shared`."""
    return shared.with_name(f"{shared.name}.new")


def read_also(shared: Path, own: str) -> None:
    """Let JAX, in this process, find the entries in `shared` before those in `own`.

    A folder that somebody else names is left alone. Another JAX, which has no such file
    cache, compiles what its own folder lacks.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src.lru_cache import _CACHE_SUFFIX, LRUCache

        get_own = LRUCache.get

        def get(self: LRUCache, key: str) -> bytes | None:
            if str(self.path) == own:
                with contextlib.suppress(OSError):
                    return Path(f"{shared}/{key}{_CACHE_SUFFIX}").read_bytes()
            return get_own(self, key)

        if list(inspect.signature(get_own).parameters) == ["self", "key"]:
            LRUCache.get = get  # type: ignore[method-assign]


def compiled(shared: Path) -> int:
    """Return how many compiled programs there are."""
    return sum(not name.startswith(PREFIX) for name in os.listdir(shared))


def publish(new: Path, shared: Path) -> int:
    """Move the entries in `new` to `shared`, each at once; return how many were new."""
    count = 0
    for entry in list(os.scandir(new)):
        target = shared / entry.name
        if entry.is_file(follow_symlinks=False) and not target.exists():
            # A temporary name first: the two folders may be on different disks.
            with tempfile.NamedTemporaryFile(dir=shared, delete=False) as copy:
                shutil.copyfile(entry.path, copy.name)
            os.chmod(copy.name, 0o644)
            os.replace(copy.name, target)
            count += 1
    return count


@contextmanager
def filling(shared: Path) -> Iterator[Path]:
    """Yield an empty folder for new entries; publish them when the block is done.

    One at a time: the folder's path is the same each time, so that one fork server
    serves all who fill this cache.
    """
    from fcntl import LOCK_EX, flock  # not on Windows, where nothing is jailed

    new = unpublished(shared)
    with shared.with_name(f"{shared.name}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        new.mkdir(mode=0o700, exist_ok=True)
        for left_over in list(new.iterdir()):
            left_over.unlink()
        yield new
        publish(new, shared)
