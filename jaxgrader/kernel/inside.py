"""What client, fork server and kernel agree on: where things are inside, and limits.

What it is: paths as seen from inside the sandbox, and the two records that travel
there. What it is not: anything that acts. It imports nothing of Linux's own, so that
authors on other systems can load the client's side of this room.
"""

from dataclasses import dataclass, field
from pathlib import Path

#: The user that a kernel sees itself as.
USER_ID = 1000

# Where things are, seen from inside.
RUN = Path("/run/jaxgrader")  # the fork server's; hidden from kernels
SOCKETS = Path("/run/kernel")  # this kernel's sockets
CACHE = Path("/var/cache/jaxgrader")  # the compilation cache: part of JAX's key
HOME = Path("/home/student")
SCRATCH = Path("/scratch")
TMP = Path("/tmp")  # noqa: S108
#: What is writable, and where it lies on the kernel's one private file system.
WRITABLE = {
    TMP: "tmp",
    HOME: "home",
    SCRATCH: "scratch",
    CACHE: "cache",
    Path("/dev/shm"): "shm",  # noqa: S108
}


@dataclass(frozen=True)
class Jail:
    """What one kernel gets. It travels to the fork server as JSON.

    Sizes are bytes, times seconds; None means no limit.
    """

    level: str = "strict"
    wall: float | None = None
    cpu: int | None = None
    memory: int | None = None
    processes: int | None = None
    open_files: int | None = None
    disk: int | None = None
    output: int | None = None
    #: Seconds that a cell may take; the client's own limit comes first.
    cell: float | None = None
    #: It runs no code of a student's.
    trusted: bool = False
    #: The processors that it runs on; empty for all.
    processors: list[int] = field(default_factory=list)
    #: Shown to the kernel read-only, beside the system's own folders.
    readable: list[str] = field(default_factory=list)
    #: The folder of a student's own files; None for a scratch copy.
    writable: str | None = None
    #: Device files that the platform needs.
    devices: list[str] = field(default_factory=list)
    #: The folders that belong to this kernel alone; they end with it.
    private: list[str] = field(default_factory=lambda: [str(p) for p in WRITABLE])
    #: The folder of its sockets.
    sockets: str = str(SOCKETS)


@dataclass(frozen=True)
class Settings:
    """How a fork server is set up. It travels from the client as JSON."""

    level: str
    preload: list[str]
    #: Seconds without a kernel after which the server ends.
    idle: float
    #: The folder in which each kernel gets one for its sockets, as seen from here.
    sockets: str
    #: The listening socket.
    listener: int
    #: Whether kernels write to the compilation cache: the instructor's, nobody else's.
    fill: bool = False
    #: As root: the first and the number of user ids that kernels may run as.
    user_ids: tuple[int, int] | None = None
