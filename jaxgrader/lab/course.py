"""The formgrader's course, as its gradebook, its lock and its files say.

It only reads: the gradebook is opened for reading, and what is not there is not made.
All methods may wait for a disk or a database, and belong into a thread.
"""

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from nbgrader import api
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.engine import make_url

from jaxgrader.lock import Holder
from jaxgrader.results import log_of
from jaxgrader.store import LEDGER, State, explained, row_of

NOT_GRADED = "not graded"
AT_WORK = (State.QUEUED, State.RUNNING)
#: What is shown of a submission, for its place in the ledger.
COLUMNS = [
    LEDGER.c.assignment,
    LEDGER.c.student,
    LEDGER.c.state,
    LEDGER.c.activity,
    LEDGER.c.stale,
    LEDGER.c.seconds,
    LEDGER.c.sentence,
    LEDGER.c.changed,
]


class Gradebook:
    """A course's gradebook, read-only."""

    def __init__(self, course: CourseDirectory) -> None:
        self.course = course
        self.root = Path(course.root).resolve()
        url = make_url(course.db_url)
        self.sqlite = url.get_backend_name() == "sqlite"
        self.file = Path(url.database or "")
        if self.sqlite:
            database = f"file:{self.file.absolute().as_uri()[len('file://') :]}"
            url = url.set(database=database, query={"mode": "ro", "uri": "true"})
        self.engine = sql.create_engine(url, poolclass=sql.NullPool)

    def ledger(self) -> list[Any]:
        """Return the ledger's rows; none where nobody has graded yet."""
        if self.sqlite and not self.file.is_file():
            return []
        with explained(self.course.db_url), self.engine.connect() as database:
            if not sql.inspect(database).has_table(LEDGER.name):
                return []
            return list(database.execute(sql.select(*COLUMNS)).all())

    def log(self, assignment: str, student: str) -> str:
        """Return how a submission was graded: its verdicts, and what it wrote."""
        query = sql.select(LEDGER).where(*row_of(assignment, student))
        with explained(self.course.db_url), self.engine.connect() as database:
            row = database.execute(query).one_or_none()
        if row is None or row.results is None:
            return ""
        head = f"{row.changed}, {row.seconds or 0:.1f} s on {row.host}\n{row.sentence}"
        return log_of(head, json.loads(row.results), row.log or "")

    def pages(self, assignment: str) -> dict[str, dict[str, str]]:
        """Return by student and notebook what the formgrader calls a submission."""
        query = (
            sql.select(
                api.SubmittedAssignment.__table__.c.student_id,
                api.Notebook.__table__.c.name,
                api.SubmittedNotebook.__table__.c.id,
            )
            .join_from(
                api.SubmittedNotebook.__table__, api.SubmittedAssignment.__table__
            )
            .join(
                api.Notebook.__table__,
                api.Notebook.__table__.c.id
                == api.SubmittedNotebook.__table__.c.notebook_id,
            )
            .join(
                api.Assignment.__table__,
                api.Assignment.__table__.c.id == api.Notebook.__table__.c.assignment_id,
            )
            .where(api.Assignment.__table__.c.name == assignment)
            .order_by(api.Notebook.__table__.c.name)
        )
        found: dict[str, dict[str, str]] = {}
        with explained(self.course.db_url), self.engine.connect() as database:
            for student, name, key in database.execute(query):
                found.setdefault(student, {})[name] = key
        return found

    def file_of(
        self, top: Path, assignment: str, student: str, name: str
    ) -> str | None:
        """Return an autograded notebook's path below `top`, the server's folder.

        None if there is none, or if it is not where autograded notebooks are.
        """
        step = self.course.autograded_directory
        folder = self.course.format_path(step, student, assignment)
        path = Path(folder, f"{name}.ipynb").resolve()
        home = (self.root / step).resolve()
        if path.is_relative_to(home) and path.is_relative_to(top) and path.is_file():
            return path.relative_to(top).as_posix()
        return None


class Snapshot:
    """Where all submissions of a course stand, at one moment."""

    def __init__(
        self, gradebook: Gradebook, needs: dict[tuple[str, str], str], surveyed: str
    ) -> None:
        self.holder = Holder.of(gradebook.root)
        # A PostgreSQL gradebook may be graded from a machine whose lock is not seen.
        self.live = self.holder is not None or not gradebook.sqlite
        self.needs, self.surveyed = needs, surveyed
        rows = {(row.assignment, row.student): row for row in gradebook.ledger()}
        self.submissions: dict[str, dict[str, dict[str, Any]]] = {}
        for key in sorted(
            needs.keys() | {key for key in rows if self.counts(rows[key])}
        ):
            here = self.submissions.setdefault(key[0], {})
            here[key[1]] = self.submission(key, rows.get(key))

    def counts(self, row: Any) -> bool:
        """Whether a row of the ledger is of a submission, though no survey knows it."""
        return not self.surveyed or bool(self.live and row.activity)

    def submission(self, key: tuple[str, str], row: Any) -> dict[str, Any]:
        """Return what the panel shows of a submission."""
        state = self.standing(row, self.needs.get(key))
        known = row is not None and row.state not in AT_WORK and state != NOT_GRADED
        return {
            "student": key[1],
            "state": state,
            "seconds": row.seconds if known else None,
            "sentence": (row.sentence or "") if known else "",
            "changed": row.changed if known else None,
        }

    def standing(self, row: Any, need: str | None) -> str:
        """Return where a submission stands: the ledger, and what was seen of files."""
        if row is None:
            return NOT_GRADED
        if self.live and row.activity:
            return str(row.activity)
        if row.state in AT_WORK:
            return NOT_GRADED  # a batch was killed before it came to it
        if need is None or (row.changed or "") >= self.surveyed:
            return State.STALE if row.stale else str(row.state)
        if need == "none":
            return str(row.state)
        return State.STALE if need == "stale" else NOT_GRADED

    def assignments(self) -> Iterator[dict[str, Any]]:
        """Return how many submissions of each assignment stand where."""
        for name, submissions in self.submissions.items():
            text = repr(sorted(map(repr, submissions.values())))
            yield {
                "name": name,
                "counts": Counter(each["state"] for each in submissions.values()),
                "version": zlib.crc32(text.encode()),
            }

    def batch(self) -> dict[str, Any] | None:
        """Return what is known of the batch that runs, None if there is none."""
        everything = [
            (name, each)
            for name, group in self.submissions.items()
            for each in group.values()
        ]
        counts = Counter(each["state"] for _, each in everything)
        waiting = counts[State.QUEUED] + counts[State.RUNNING]
        if self.holder is None and not waiting:
            return None
        since = self.holder.since if self.holder else ""
        ended = [each for _, each in everything if each["state"] not in AT_WORK]
        done = sum(bool(since) and (each["changed"] or "") >= since for each in ended)
        return {
            "holder": self.holder and vars(self.holder) | {"mine": self.holder.mine},
            "done": done,
            "total": done + waiting,
            "running": [
                [name, each["student"]]
                for name, each in everything
                if each["state"] == State.RUNNING
            ],
        }
