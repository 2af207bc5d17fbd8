"""The gradebook and the ledger: one writer, one transaction for each submission.

What it is: all that `jaxgrader autograde` reads and writes in a course's database and
in autograded/. The ledger is a table of its own in the gradebook's database, so that a
score and the record of where it comes from are written together or not at all.

Guarantees: `kill -9` at any moment leaves a submission as it was, or graded: its files
are written beside autograded/ and made durable, the transaction names them, and only
then they are moved into place; `recover` does that for whoever was killed in between.
The rows are what nbgrader's own autograde writes.
"""

import contextlib
import datetime
import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from nbgrader.api import Gradebook, new_uuid
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from jaxgrader.archives import make_durable, move, unpack
from jaxgrader.errors import GraderError
from jaxgrader.lock import Lock
from jaxgrader.results import SubmissionResult
from jaxgrader.rows import Cells, Submission, Writer, read_cells


class State(StrEnum):
    """Where a submission stands."""

    QUEUED = "queued"
    RUNNING = "running"
    GRADED = "graded"
    #: Graded by tests, points or settings that are no longer the course's.
    STALE = "stale"
    #: It cannot be read, or could not be graded here.
    FAILED = "failed"
    MANUAL = "needs manual grading"


LEDGER = sql.Table(
    "jaxgrader_ledger",
    sql.MetaData(),
    sql.Column("assignment", sql.String(128), primary_key=True),
    sql.Column("student", sql.String(128), primary_key=True),
    sql.Column("state", sql.String(32), nullable=False),
    #: What a batch does with it at present: "queued", "running" or nothing.
    sql.Column("activity", sql.String(32)),
    #: Whether the result comes of tests or settings that are no longer the course's.
    sql.Column("stale", sql.Boolean, nullable=False, default=False),
    #: What the result was made of, see `course.py`; None where there is no result.
    sql.Column("submitted", sql.String(64)),
    sql.Column("tests", sql.String(64)),
    sql.Column("sentence", sql.Text),
    #: JSON: by notebook, the verdicts on its tests.
    sql.Column("results", sql.Text),
    sql.Column("seconds", sql.Float),
    sql.Column("host", sql.String(255)),
    sql.Column("log", sql.Text),
    sql.Column("changed", sql.String(32)),
    #: The folder beside autograded/ that is still to be moved into place.
    sql.Column("staged", sql.String(64)),
)


@dataclass(frozen=True)
class Entry:
    """What the ledger says of a submission."""

    state: State
    submitted: str | None
    tests: str | None
    seconds: float | None
    #: These two whatever is being done about it: there is nothing to show; there is,
    #: but of other tests or settings.
    failed: bool = False
    stale: bool = False


class Store:
    """A course's database and its autograded/, held by one process at a time."""

    def __init__(self, course: CourseDirectory, permissions: int = 0o444) -> None:
        self.course, self.permissions = course, permissions
        with explained(course.db_url):
            self.gradebook = Gradebook(course.db_url, course.course_id)
            self.engine = self.gradebook.engine
            self.prepare()
        self.autograded = Path(course.root, course.autograded_directory)
        self.beside = self.autograded / ".staged"
        self._cells: dict[str, dict[str, Cells]] = {}

    def prepare(self) -> None:
        """Add the ledger; let others read a SQLite gradebook while one writes."""
        LEDGER.create(self.engine, checkfirst=True)
        if self.engine.dialect.name != "sqlite":
            return

        def on_connect(connection: sqlite3.Connection, record: object) -> None:
            connection.execute("PRAGMA busy_timeout = 60000")

        sql.event.listen(self.engine, "connect", on_connect)
        file = self.engine.url.database
        if file and not on_network(Path(file)):
            self.engine.dispose()  # its connections did not hear of the listener
            with self.engine.connect() as database:
                database.exec_driver_sql("PRAGMA journal_mode = WAL")

    def close(self) -> None:
        self.gradebook.close()

    def lock(self) -> Lock:
        """Return what keeps a second grader away."""
        return Lock(Path(self.course.root), self.engine, batch=True)

    # ---- reading -------------------------------------------------------------------

    def cells(self, assignment: str) -> dict[str, Cells]:
        """Return the notebooks of an assignment by name; none if it is unknown."""
        if assignment not in self._cells:
            with self.engine.connect() as database:
                self._cells[assignment] = read_cells(database, assignment)
        return self._cells[assignment]

    def entries(self) -> dict[tuple[str, str], Entry]:
        """Return the whole ledger by assignment and student."""
        table = LEDGER.c
        with self.engine.connect() as database:
            rows = database.execute(
                sql.select(
                    table.assignment,
                    table.student,
                    table.state,
                    table.activity,
                    table.stale,
                    table.submitted,
                    table.tests,
                    table.seconds,
                )
            ).all()
        return {
            (row.assignment, row.student): Entry(
                state_of(row),
                row.submitted,
                row.tests,
                row.seconds,
                row.state == State.FAILED,
                row.stale,
            )
            for row in rows
        }

    # ---- writing -------------------------------------------------------------------

    def queue(self, submissions: Iterable[Submission]) -> None:
        """Let the ledger show what a batch is going to grade."""
        known = self.entries()
        fresh = [
            {
                "assignment": each.assignment,
                "student": each.student,
                "state": State.QUEUED,
                "activity": State.QUEUED,
                "changed": now(),
            }
            for each in submissions
            if each.key not in known
        ]
        again = [bind(each) for each in submissions if each.key in known]
        with explained(self.course.db_url), self.engine.begin() as database:
            if fresh:
                database.execute(LEDGER.insert(), fresh)
            if again:
                database.execute(SET_ACTIVITY.values(activity=State.QUEUED), again)

    def start(self, submission: Submission) -> None:
        """Let the ledger show that a submission is being graded."""
        with explained(self.course.db_url), self.engine.begin() as database:
            change = SET_ACTIVITY.values(activity=State.RUNNING)
            database.execute(change, [bind(submission)])

    def mark_stale(
        self, stale: Iterable[Submission], current: Iterable[Submission]
    ) -> None:
        """Let the ledger show which results have become stale, or current again."""
        with explained(self.course.db_url), self.engine.begin() as database:
            for value, submissions in ((True, stale), (False, current)):
                if rows := list(map(bind, submissions)):
                    database.execute(SET_ACTIVITY.values(stale=value), rows)

    def save(
        self, submission: Submission, result: SubmissionResult, penalty: Any
    ) -> State:
        """Write one finished submission; return where it stands now.

        `penalty` tells what lateness costs: (student, score, seconds late) -> points.
        """
        try:
            staged = self.stage(submission, result)
        except OSError as error:
            where = self.destination(submission)
            raise GraderError(NO_FILES.format(where=where, why=error)) from error
        with explained(self.course.db_url), self.engine.begin() as database:
            writer = Writer(database, self.cells(submission.assignment), submission)
            waits = writer.write(result.notebooks, penalty)
            state = State.MANUAL if waits else State.GRADED
            write_entry(database, submission, state, result, staged=staged.name)
        self.place(submission, staged)
        return state

    def save_failure(self, submission: Submission, result: SubmissionResult) -> State:
        """Record that there is no result; no older score is left to look like one."""
        with explained(self.course.db_url), self.engine.begin() as database:
            writer = Writer(database, self.cells(submission.assignment), submission)
            writer.flag(withdraw=bool(result.internal))
            state = State.MANUAL if result.internal else State.FAILED
            write_entry(database, submission, state, result, staged=None)
        return state

    def stage(self, submission: Submission, result: SubmissionResult) -> Path:
        """Write what belongs into autograded/ beside it, and make it durable."""
        staged: Path = self.beside / new_uuid()
        self.beside.mkdir(parents=True, exist_ok=True)
        unpack(result.files, staged)
        current = self.destination(submission)
        if current.is_dir():
            # With --notebook, the others stay what they were.
            for path in current.glob("*.ipynb"):
                other = path.stem not in result.notebooks
                if other and path.stem in self.cells(submission.assignment):
                    shutil.copy(path, staged / path.name)
        for name in submission.missing:
            (staged / f"{name}.ipynb").unlink(missing_ok=True)
        make_durable(staged, self.permissions)
        return staged

    def destination(self, submission: Submission) -> Path:
        """Return the submission's folder in autograded/."""
        step = self.course.autograded_directory
        ids = submission.student, submission.assignment
        return Path(str(self.course.format_path(step, *ids)))

    def place(self, submission: Submission, staged: Path) -> None:
        """Move a staged folder to where it belongs, and say so in the ledger."""
        if staged.is_dir():
            move(staged, self.destination(submission))
        with self.engine.begin() as database:
            where = row_of(submission.assignment, submission.student)
            database.execute(LEDGER.update().where(*where).values(staged=None))

    def recover(self) -> None:
        """Finish what a coordinator that was killed had begun. Needs the lock."""
        table = LEDGER.c
        with explained(self.course.db_url), self.engine.connect() as database:
            rows = database.execute(
                sql.select(table.assignment, table.student, table.staged).where(
                    table.staged.is_not(None)
                )
            ).all()
        for row in rows:
            submission = Submission(row.student, row.assignment, Path(), "", "")
            self.place(submission, self.beside / row.staged)
        shutil.rmtree(self.beside, ignore_errors=True)
        self.end_batch()

    def end_batch(self) -> None:
        """Let the ledger show that nothing is queued or running any more."""
        table = LEDGER.c
        with explained(self.course.db_url), self.engine.begin() as database:
            never = table.state.in_([State.QUEUED, State.RUNNING])
            database.execute(LEDGER.delete().where(never))
            # What is staged stays so: the next batch moves it into place.
            database.execute(LEDGER.update().values(activity=None))
        with contextlib.suppress(OSError):
            self.beside.rmdir()  # unless something waits in it


def forget(engine: sql.Engine, assignment: str, student: str) -> None:
    """Forget a batch's result that nbgrader's own command is about to replace."""
    if sql.inspect(engine).has_table(LEDGER.name):
        with engine.begin() as database:
            database.execute(LEDGER.delete().where(*row_of(assignment, student)))


def state_of(row: Any) -> State:
    """Return where a row of the ledger stands."""
    if row.activity:
        return State(row.activity)
    return State.STALE if row.stale else State(row.state)


def bind(submission: Submission) -> dict[str, str]:
    """Return the parameters of `SET_ACTIVITY`."""
    return {"b_assignment": submission.assignment, "b_student": submission.student}


def write_entry(
    database: Connection,
    submission: Submission,
    state: State,
    result: SubmissionResult,
    staged: str | None,
) -> None:
    """Write what is known of a submission's result into the ledger."""
    # What we could not grade has no result: the next batch tries again.
    values = {
        "state": state,
        "activity": None,
        "stale": False,
        "submitted": None if result.internal else submission.submitted,
        "tests": None if result.internal else submission.tests,
        "sentence": storable(result.unreadable or result.internal),
        "results": json.dumps(
            {
                name: [asdict(test) for test in notebook.tests]
                for name, notebook in result.notebooks.items()
            }
        ),
        "seconds": result.seconds,
        "host": result.host,
        "log": storable(result.log[-MOST_LOG:]),
        "changed": now(),
        "staged": staged,
    }
    where = row_of(submission.assignment, submission.student)
    changed = database.execute(LEDGER.update().where(*where).values(**values))
    if changed.rowcount == 0:
        ids = {"assignment": submission.assignment, "student": submission.student}
        database.execute(LEDGER.insert().values(**ids, **values))


def storable(text: str) -> str:
    """Return a text without what databases refuse: halves of characters, zeros."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def row_of(assignment: str, student: str) -> tuple[Any, Any]:
    """Return the conditions for a submission's row in the ledger."""
    return LEDGER.c.assignment == assignment, LEDGER.c.student == student


def now() -> str:
    """Return the time, for people to read: nothing is decided by it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def on_network(path: Path) -> bool:
    """Whether a file is on a network disk, where SQLite's WAL does not work."""
    best, kind = Path("/"), ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text().splitlines():
            where, what = line.split()[1:3]
            if path.resolve().is_relative_to(where) and len(where) >= len(str(best)):
                best, kind = Path(where), what
    return kind.startswith(("nfs", "cifs", "smb", "fuse", "9p", "lustre", "afs"))


@contextlib.contextmanager
def explained(db_url: str) -> Iterator[None]:
    """Turn a database's error into a sentence.

    Raises:
        GraderError: for any; the transaction in it has not happened.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        url = db_url if "@" not in db_url else db_url.split("@")[-1]
        why = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise GraderError(NO_DATABASE.format(url=url, why=why)) from error


SET_ACTIVITY = LEDGER.update().where(
    LEDGER.c.assignment == sql.bindparam("b_assignment"),
    LEDGER.c.student == sql.bindparam("b_student"),
)
#: Characters of a submission's log that are kept.
MOST_LOG = 100_000

NO_FILES = (
    "{where} cannot be written ({why}). Nothing of this submission was; what was "
    "graded before stands. Mend it (disk full? read-only?), then run the same command "
    "again."
)
NO_DATABASE = (
    "The gradebook {url} cannot be used ({why}). Nothing of the submission at hand was "
    "written; what was graded before stands. Mend it (disk full? read-only? held by "
    "another program? restore a backup?), then run the same command again."
)
