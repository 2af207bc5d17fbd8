"""One grader at a time: who holds a course, and how the next one is told."""

import contextlib
import fcntl
import getpass
import hashlib
import json
import os
import socket
import sys
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

    def __init__(self, root: Path, engine: sql.Engine | None = None) -> None:
        self.path = root / ".jaxgrader" / "lock"
        self.engine = engine
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
        json.dump(myself(), self.file)
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
    return {"pid": os.getpid(), "host": host, "user": user, "command": command}


HOLDER = "`{command}` by {user} (process {pid} on {host})"
TAKEN = (
    "This course is being graded by {holder}. Nothing was changed. Wait until it is "
    "done, or stop it, then run this again."
)
READ_ONLY = (
    "{path} cannot be written ({why}). Grading writes into the course: run it as a "
    "user who may, or free some disk space."
)
