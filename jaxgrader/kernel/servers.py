"""Find this user's fork server for an environment, or start one.

What it is: the client's side of `zygote.py`. What it is not: a daemon of its own; the
first client that needs a server starts it, and it ends when nobody does.

Guarantees: one server per user and environment, whoever asks at once; a server that
died is replaced; a changed environment or setting gets another server. Assumes a
runtime folder that only this user can enter.
"""

import errno
import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from jaxgrader.errors import SandboxError
from jaxgrader.kernel import cache, devices, wire
from jaxgrader.kernel.folders import remove
from jaxgrader.kernel.inside import HOME, Settings
from jaxgrader.kernel.sandbox import (
    ACCOUNTS,
    KERNELS,
    USER_IDS,
    Sandbox,
    View,
    bubblewrap,
    python_folders,
    require,
)

#: Seconds that a client waits for a server's answer; importing JAX takes two.
PATIENCE = 120.0
_started: list["subprocess.Popen[bytes]"] = []
#: What kernels inherit of their client's environment; nothing else.
INHERITED = ("LANG", "LC_ALL", "PYTHONPATH", "TZ")


@dataclass(frozen=True)
class Server:
    """A fork server that may or may not run yet: its folder and how to start it."""

    folder: Path
    settings: Settings
    view: View
    environment: dict[str, str]

    @property
    def address(self) -> str:
        """The path of its listening socket."""
        return str(self.folder / "control")

    def connect(self) -> tuple[socket.socket, Path]:
        """Return a connection for one kernel, and the folder of the kernel's sockets.

        Raises:
            SandboxError: if no jail can be made here; says why.
        """
        for _ in range(3):
            try:
                connection = self.open()
            except ConnectionRefusedError:  # it ended as soon as it had started
                continue
            connection.settimeout(PATIENCE)
            message = wire.receive(connection)
            if message is not None and message["event"] == "accepted":
                connection.settimeout(None)
                return connection, self.folder / "k" / message["sockets"]
            connection.close()
            if message is not None:
                raise SandboxError(REFUSED.format(why=message["sentence"]))
        raise SandboxError(NO_SERVER.format(log=self.last_words()))

    def open(self) -> socket.socket:
        """Connect to the running server; start one where there is none."""
        with self.locked():
            try:
                return self.dial()
            except (FileNotFoundError, ConnectionRefusedError):
                self.start()
                return self.dial()

    def dial(self) -> socket.socket:
        """Connect to the running server."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self.address)
        except OSError:
            connection.close()
            raise
        return connection

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other clients of this server waiting."""
        import fcntl  # not on Windows, where nothing is jailed

        while True:
            (self.folder / "k").mkdir(mode=0o711, parents=True, exist_ok=True)
            with (self.folder / "lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if is_still(file, self.folder / "lock"):
                    yield
                    return

    def start(self) -> None:
        """Start the server; it accepts connections at once, and answers when it can."""
        require(self.settings.level)
        sweep(self.folder.parent, self.folder)
        Path(self.address).unlink(missing_ok=True)
        with ExitStack() as files:
            listener = files.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(self.address)
            os.chmod(self.address, 0o600)
            listener.listen(128)
            given = {**asdict(self.settings), "listener": listener.fileno()}
            settings = files.enter_context(in_memory(json.dumps(given)))
            passwd = files.enter_context(in_memory(ACCOUNTS))
            log = files.enter_context((self.folder / "log").open("wb"))
            process = subprocess.Popen(
                self.command(settings, passwd),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(listener.fileno(), settings, passwd),
                start_new_session=True,
            )
        # It outlives this client; a dead one is collected when the next one starts.
        _started[:] = [old for old in _started if old.poll() is None] + [process]

    def command(self, settings: int, passwd: int) -> list[str]:
        """Return the command line of the server."""
        python = [sys.executable, "-P", "-m", "jaxgrader.kernel.zygote", str(settings)]
        if self.settings.level == "basic":
            return python
        return [*bubblewrap(self.view, self.environment, passwd), *python]

    def last_words(self) -> str:
        """Return the end of the server's log."""
        try:
            return (self.folder / "log").read_text(errors="replace")[-2000:].strip()
        except OSError:
            return "(no log)"


def sweep(runtime: Path, mine: Path) -> None:
    """Remove what servers that have ended left behind, other than in `mine`."""
    import fcntl

    for lock in runtime.glob("*/lock"):
        with suppress(OSError), lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.parent != mine and not is_served(lock.parent / "control"):
                remove(lock.parent)
    for link in runtime.glob("k-*"):
        if not link.exists():
            link.unlink(missing_ok=True)


def is_still(file: IO[str], path: Path) -> bool:
    """Whether an open file is the one at `path`; a sweep may have removed that."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def is_served(address: Path) -> bool:
    """Whether a server listens at `address`. The wrong type tells, without a call."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(str(address)) == errno.EPROTOTYPE


@contextmanager
def in_memory(text: str) -> Iterator[int]:
    """Yield the descriptor of an open file that holds `text`."""
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        yield file.fileno()


def server_for(
    sandbox: Sandbox, writable: str | None = None, fill: Path | None = None
) -> Server:
    """Return the fork server for these settings, whether it runs or not.

    `writable` is a folder that kernels may write to; `fill` one for what they compile
    (the instructor's only), in the place of the shared compilation cache.
    """
    inventory = devices.Inventory.of(sandbox.platform)
    shared = shared_cache(sandbox.platform)
    strict = sandbox.level == "strict"
    folders = (*python_folders(), *map(os.path.abspath, sandbox.readable))
    # Who works on their own files is who they are. Without a mount namespace, another
    # user may not be able to reach this Python.
    separate = os.geteuid() == 0 and not writable
    runtime = runtime_folder()
    open_to_all = all(map(is_open_to_all, [*folders, str(runtime)]))
    separate = separate and (strict or open_to_all)
    settings = Settings(
        level=sandbox.level,
        preload=list(sandbox.preload),
        idle=sandbox.idle,
        sockets=str(KERNELS),
        listener=-1,
        fill=fill is not None,
        user_ids=user_ids() if separate else None,
    )
    view = View(
        readable=folders,
        kernels=Path(),
        cache=fill or shared,
        fill=fill is not None,
        # Who works on their own files is who they are.
        writable=writable,
        devices=tuple(map(str, inventory.nodes)),
    )
    environment = {**variables(sandbox.platform), **inherited()}
    facts = [asdict(settings), asdict(view), environment, fingerprint()]
    digest = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:12]
    folder = runtime / digest
    view = View(**{**vars(view), "kernels": folder / "k"})
    if not strict:
        settings = Settings(**{**vars(settings), "sockets": str(folder / "k")})
    return Server(folder, settings, view, environment)


def is_open_to_all(folder: str) -> bool:
    """Whether every user of this machine can read a folder."""
    entries = [Path(folder), *Path(folder).resolve().parents]
    return all(path.stat().st_mode & stat.S_IXOTH for path in entries)


def variables(platform: str) -> dict[str, str]:
    """Return the environment of a fork server, which all its kernels start from."""
    programs = [os.path.join(sys.prefix, "bin"), "/usr/local/bin", "/usr/bin", "/bin"]
    return {
        "PATH": ":".join(programs),
        "HOME": str(HOME),
        "USER": "student",
        "LOGNAME": "student",
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",  # else NumPy starts threads before the fork
        **cache.ENVIRONMENT,
        **devices.environment("cpu", None, 1.0),
        "JAX_PLATFORMS": devices.PLATFORMS[platform],
    }


def inherited() -> dict[str, str]:
    """Return what a server takes over from its first client's environment."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def fingerprint() -> list[object]:
    """Return what changes when packages are installed, or this one is edited."""
    folders = [Path(path) for path in sys.path if path.endswith("-packages")]
    code = list(Path(__file__).parent.glob("*.py"))
    times = [path.stat().st_mtime_ns for path in [*folders, *code] if path.exists()]
    return [sys.executable, sys.version, *times]


def user_ids() -> tuple[int, int]:
    """Return the user ids that root gives to kernels; fewer exist in containers.

    Raises:
        SandboxError: if this container has none of them.
    """
    first, count = USER_IDS
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, _, length = map(int, line.split())
        if inside <= first < inside + length:
            return first, min(count, inside + length - first)
    raise SandboxError(NO_USER_IDS.format(first=first))


def runtime_folder() -> Path:
    """Return this user's folder for sockets; its path must be short.

    Raises:
        SandboxError: if somebody else made a folder of this name in /tmp.
    """
    base = os.environ.get("JAXGRADER_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK | os.X_OK) and len(base) < 50:
        folder = Path(base, "jaxgrader")
    else:
        folder = Path(f"/tmp/jaxgrader-{os.geteuid()}")  # noqa: S108
    # Root's kernels of level basic, which are other users, must find their own folder.
    folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
    status = folder.lstat()
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o066
    if status.st_uid != os.geteuid() or not private:
        raise SandboxError(NOT_OURS.format(folder=folder))
    return folder


def shared_cache(platform: str) -> Path:
    """Return the folder of this user's compilation cache for a platform."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    root = Path(os.environ.get("JAXGRADER_CACHE_DIR") or Path(home, "jaxgrader"))
    return cache.folder(root, devices.PLATFORMS[platform])


REFUSED = "No kernel can be started: {why}"
NO_SERVER = (
    "The fork server for kernels does not start. Run `jaxgrader doctor`, which checks "
    "what it needs. Its last words:\n{log}"
)
NOT_OURS = (
    "{folder} is not a private folder of this user. Remove it, or set "
    "JAXGRADER_RUNTIME_DIR to a folder that only you can enter."
)
NO_USER_IDS = (
    "Root cannot give kernels a user of their own here: this container has no user id "
    "{first}. Run the grader as an ordinary user, or give the container more ids."
)
