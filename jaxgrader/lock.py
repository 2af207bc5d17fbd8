"""One grader at a time: who holds a course, and how the next one is told."""

import contextlib
import datetime
import fcntl
import getpass
import hashlib
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import sqlalchemy as sql
from nbgrader.coursedir import CourseDirectory

from jaxgrader.errors import GraderError


class Lock:
    """A context in which nobody else grades a course.

    It ends with the process, however that ends. A gradebook in PostgreSQL is held for
    all machines; a file in the course for those that see it.
    """

    def __init__(
        self, root: Path, engine: sql.Engine | None = None, *, batch: bool = False
    ) -> None:
        self.path = root / FILE
        self.engine = engine
        #: Whether who takes it is a batch, which Ctrl-C stops and nothing else.
        self.batch = batch
        self.file: IO[str] | None = None
        self.session: Any = None

    @classmethod
    def of(cls, course: CourseDirectory) -> "Lock":
        """Return a course's lock, for those who have not opened its gradebook."""
        engine = None
        if course.db_url.startswith("postgresql"):
            engine = sql.create_engine(course.db_url, poolclass=sql.NullPool)
        return cls(Path(course.root), engine)

    def __enter__(self) -> "Lock":
        """Take it. Raises `GraderError`, which names the holder, if it is taken."""
        try:
            self.path.parent.mkdir(exist_ok=True)
            self.file = self.path.open("a+")
        except OSError as error:
            raise GraderError(READ_ONLY.format(path=self.path, why=error)) from None
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.hold_database()
        except (BlockingIOError, GraderError):
            holder = self.holder()
            self.file.close()
            raise GraderError(TAKEN.format(holder=holder)) from None
        self.file.truncate(0)
        json.dump({**myself(), "batch": self.batch}, self.file)
        self.file.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.session is not None:
            self.session.close()
        if self.file is not None:
            self.file.truncate(0)
            self.file.close()

    def hold_database(self) -> None:
        """Hold a PostgreSQL gradebook, which several machines may use."""
        if self.engine is None or self.engine.dialect.name != "postgresql":
            return
        number = int.from_bytes(hashlib.sha256(b"jaxgrader").digest()[:7], "big")
        self.session = self.engine.connect()
        query = sql.text("SELECT pg_try_advisory_lock(:number)")
        if not self.session.execute(query, {"number": number}).scalar():
            self.session.close()
            self.session = None
            raise GraderError("held")

    def holder(self) -> str:
        """Return who has it, in words."""
        assert self.file is not None
        with contextlib.suppress(ValueError, KeyError, TypeError):
            self.file.seek(0)
            return HOLDER.format(**json.load(self.file))
        return "another grader"


def myself() -> dict[str, Any]:
    """Return what others are told about this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    command = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    host = socket.gethostname()
    return {
        "pid": os.getpid(),
        "host": host,
        "user": user,
        "command": command,
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "born": born(os.getpid()),
    }


def born(pid: int) -> str:
    """Return what tells a process from all others that had its id; "" if it is gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if stat[0] == "Z" else f"{boot} {stat[19]}"


@dataclass(frozen=True)
class Holder:
    """Who holds a course, as the lock's file says it."""

    pid: int
    host: str
    user: str
    command: str
    since: str
    born: str
    batch: bool

    @classmethod
    def of(cls, root: Path) -> "Holder | None":
        """Return who holds a course, None if nobody does.

        Of another host's process only its word is known: it may have been killed.
        """
        try:
            said = json.loads((root / FILE).read_text())
            found = cls(**{each.name: said[each.name] for each in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return None if found.here and born(found.pid) != found.born else found

    @property
    def here(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def mine(self) -> bool:
        """Whether `interrupt` may stop it: a batch of this user's, on this host."""
        if not (self.batch and self.here):
            return False
        try:
            return os.stat(f"/proc/{self.pid}").st_uid == os.getuid()
        except OSError:
            return False

    def interrupt(self, root: Path) -> None:
        """Stop a batch as Ctrl-C does. No other process is ever signalled.

        Raises:
            GraderError: if it is not for this user to stop.
        """
        if not self.mine:
            raise GraderError(NOT_MINE.format(holder=HOLDER.format(**vars(self))))
        with contextlib.suppress(ProcessLookupError):
            # The id is this process's own for as long as the descriptor is open.
            process = os.pidfd_open(self.pid)
            try:
                if born(self.pid) == self.born and has_open(self.pid, root / FILE):
                    signal.pidfd_send_signal(process, signal.SIGINT)
            finally:
                os.close(process)


def has_open(pid: int, path: Path) -> bool:
    """Whether a process of this user's has a file open."""
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if file.samefile(path):
                return True
    return False


#: The lock's file in the course.
FILE = Path(".jaxgrader", "lock")
HOLDER = "`{command}` by {user} (process {pid} on {host})"
TAKEN = (
    "This course is being graded by {holder}. Nothing was changed. Wait until it is "
    "done, or stop it, then run this again."
)
NOT_MINE = (
    "It cannot be stopped from here: {holder} holds the course. Stop it there, or ask "
    "who started it."
)
READ_ONLY = (
    "{path} cannot be written ({why}). Grading writes into the course: run it as a "
    "user who may, or free some disk space."
)
