"""The gradebook's rows of one submission: what nbgrader's own autograde writes.

nbgrader opens the gradebook a dozen times for a notebook, and commits for each cell.
Here it is a handful of statements in the caller's transaction.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from nbgrader import api
from nbgrader.api import new_uuid
from sqlalchemy.engine import Connection

from jaxgrader.results import NotebookResult


@dataclass(frozen=True)
class Submission:
    """A folder in submitted/, and what tells it from an earlier one."""

    student: str
    assignment: str
    folder: Path
    #: Digests: of the files, and of everything else that its result depends on.
    submitted: str
    tests: str
    timestamp: datetime.datetime | None = None
    #: Notebooks of the assignment that are not there: they score zero.
    missing: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return self.assignment, self.student


@dataclass(frozen=True)
class Cells:
    """A notebook of an assignment in the gradebook: its cells by name."""

    id: str
    #: name -> id of cells that have a grade, and of those that have a comment
    grades: Mapping[str, str]
    comments: Mapping[str, str]


class Writer:
    """One submission's rows in the gradebook, in one transaction."""

    def __init__(
        self,
        database: Connection,
        cells: Mapping[str, Cells],
        submission: Submission,
    ) -> None:
        self.database, self.cells, self.submission = database, cells, submission

    def write(self, notebooks: Mapping[str, NotebookResult], penalty: Any) -> bool:
        """Write all rows; return whether a score waits for a human."""
        late, rows = self.ensure_submission()
        for name, notebook_id in rows.items():
            if name in notebooks:
                result = notebooks[name]
                score = self.write_notebook(name, notebook_id, result)
                points = penalty(self.submission.student, score, late) if late else None
                self.write_penalty(notebook_id, points)
            elif name in self.submission.missing:
                self.set_grades(notebook_id, auto_score=0.0, needs_manual_grade=False)
        waiting = sql.select(sql.func.count()).where(
            GRADE.c.cell_id.in_(self.cell_ids("grades")),
            GRADE.c.notebook_id.in_(rows.values()),
            GRADE.c.needs_manual_grade,
        )
        return bool(self.database.execute(waiting).scalar())

    def flag(self, *, withdraw: bool) -> None:
        """Let the scores of an earlier result wait for a human; `withdraw` them."""
        if withdraw:
            _, rows = self.ensure_submission()
        else:
            rows = self.notebooks(self.find_submission())
        for notebook_id in rows.values():
            values: dict[str, Any] = {"auto_score": None} if withdraw else {}
            self.set_grades(notebook_id, needs_manual_grade=True, **values)

    def find_submission(self) -> Any:
        """Return the submission's row with its assignment's deadline, or None."""
        table = SUBMITTED.c
        return self.database.execute(
            sql.select(table.id, table.timestamp, table.extension, ASSIGNMENT.c.duedate)
            .join(ASSIGNMENT, ASSIGNMENT.c.id == table.assignment_id)
            .where(
                ASSIGNMENT.c.name == self.submission.assignment,
                table.student_id == self.submission.student,
            )
        ).one_or_none()

    def notebooks(self, row: Any) -> dict[str, str]:
        """Return the ids of a submission's notebooks by name."""
        if row is None:
            return {}
        table = NOTEBOOK.c
        query = sql.select(table.id, table.notebook_id).where(
            table.notebook_id.in_([cells.id for cells in self.cells.values()]),
            table.assignment_id == row.id,
        )
        ids = {each.notebook_id: each.id for each in self.database.execute(query)}
        return {
            name: ids[cells.id] for name, cells in self.cells.items() if cells.id in ids
        }

    def ensure_submission(self) -> tuple[float, dict[str, str]]:
        """Make what rows are missing; return the seconds late, and the notebooks."""
        submission, database = self.submission, self.database
        row = self.find_submission()
        if row is None:
            self.ensure_student()
            assignment = sql.select(ASSIGNMENT.c.id).where(
                ASSIGNMENT.c.name == submission.assignment
            )
            values = {
                "id": new_uuid(),
                "assignment_id": assignment.scalar_subquery(),
                "student_id": submission.student,
                "timestamp": submission.timestamp,
            }
            database.execute(SUBMITTED.insert().values(**values))
            row = self.find_submission()
        elif submission.timestamp is not None:
            database.execute(
                SUBMITTED.update()
                .where(SUBMITTED.c.id == row.id)
                .values(timestamp=submission.timestamp)
            )
        rows = self.notebooks(row)
        for name in self.cells.keys() - rows.keys():
            rows[name] = new_uuid()
            values = {
                "id": rows[name],
                "assignment_id": row.id,
                "notebook_id": self.cells[name].id,
                "flagged": False,
            }
            database.execute(NOTEBOOK.insert().values(**values))
        self.ensure_cells(rows)
        return seconds_late(row, submission.timestamp or row.timestamp), rows

    def ensure_student(self) -> None:
        """Make the student's row, if it is missing."""
        student = self.submission.student
        query = sql.select(STUDENT.c.id).where(STUDENT.c.id == student)
        if self.database.execute(query).one_or_none() is None:
            self.database.execute(STUDENT.insert().values(id=student))

    def ensure_cells(self, rows: Mapping[str, str]) -> None:
        """Make a grade and a comment for each cell that has none yet."""
        for table, kind, values in (
            (GRADE, "grades", {"needs_manual_grade": True}),
            (COMMENT, "comments", {}),
        ):
            query = sql.select(table.c.notebook_id, table.c.cell_id).where(
                table.c.cell_id.in_(self.cell_ids(kind)),
                table.c.notebook_id.in_(rows.values()),
            )
            there = {tuple(row) for row in self.database.execute(query)}
            missing = [
                {"id": new_uuid(), "notebook_id": row, "cell_id": cell, **values}
                for name, row in rows.items()
                for cell in getattr(self.cells[name], kind).values()
                if (row, cell) not in there
            ]
            if missing:
                self.database.execute(table.insert(), missing)

    def cell_ids(self, kind: str) -> list[str]:
        """Return the ids of all cells with "grades" or "comments".

        nbgrader's indexes begin with the cell: without it a query reads all rows of
        the class.
        """
        return [
            cell
            for each in self.cells.values()
            for cell in getattr(each, kind).values()
        ]

    def set_grades(self, notebook_id: str, **values: Any) -> None:
        """Change all grades of a notebook."""
        change = GRADE.update().where(
            GRADE.c.cell_id.in_(self.cell_ids("grades")),
            GRADE.c.notebook_id == notebook_id,
        )
        self.database.execute(change.values(**values))

    def write_notebook(
        self, name: str, notebook_id: str, result: NotebookResult
    ) -> float:
        """Write the scores and comments of a notebook; return its score."""
        names = {cell: name for name, cell in self.cells[name].grades.items()}
        table = GRADE.c
        query = sql.select(
            table.id, table.cell_id, table.manual_score, table.extra_credit
        ).where(
            table.cell_id.in_(list(names)),
            table.notebook_id == notebook_id,
        )
        changes, total = [], 0.0
        for row in self.database.execute(query).all():
            auto = result.scores.get(names.get(row.cell_id, ""))
            score = row.manual_score if row.manual_score is not None else auto
            if score is not None:
                total += score + (row.extra_credit or 0.0)
            waits = row.manual_score is not None or auto is None
            changes.append({"b_id": row.id, "b_auto": auto, "b_waits": waits})
        if changes:
            self.database.execute(SET_GRADE, changes)
        comments = [
            {"b_cell": cell, "b_notebook": notebook_id, "b_text": result.comments[name]}
            for name, cell in self.cells[name].comments.items()
            if name in result.comments
        ]
        if comments:
            self.database.execute(SET_COMMENT, comments)
        return total

    def write_penalty(self, notebook_id: str, points: float | None) -> None:
        """Write what lateness costs, None for nothing."""
        change = NOTEBOOK.update().where(NOTEBOOK.c.id == notebook_id)
        self.database.execute(change.values(late_submission_penalty=points))


def read_cells(database: Connection, assignment: str) -> dict[str, Cells]:
    """Return an assignment's notebooks with the ids of their cells."""
    source, cell = api.Notebook.__table__, api.BaseCell.__table__
    query = (
        sql.select(source.c.id, source.c.name)
        .join(ASSIGNMENT, ASSIGNMENT.c.id == source.c.assignment_id)
        .where(ASSIGNMENT.c.name == assignment)
        .order_by(source.c.name)
    )
    found = {}
    for row in database.execute(query).all():
        query = sql.select(cell.c.name, cell.c.id, cell.c.type).where(
            cell.c.notebook_id == row.id
        )
        cells = database.execute(query).all()
        found[row.name] = Cells(
            row.id,
            {each.name: each.id for each in cells if each.type in GRADED},
            {each.name: each.id for each in cells if each.type in COMMENTED},
        )
    return found


def seconds_late(row: Any, timestamp: datetime.datetime | None) -> float:
    """Return by how many seconds a submission came after its deadline."""
    if timestamp is None or row.duedate is None:
        return 0.0
    due = row.duedate + (row.extension or datetime.timedelta())
    return float(max(0.0, (timestamp - due).total_seconds()))


STUDENT = api.Student.__table__
ASSIGNMENT = api.Assignment.__table__
SUBMITTED = api.SubmittedAssignment.__table__
NOTEBOOK = api.SubmittedNotebook.__table__
GRADE = api.Grade.__table__
COMMENT = api.Comment.__table__
GRADED = {"GradeCell", "TaskCell"}
COMMENTED = {"SolutionCell", "TaskCell"}
SET_GRADE = (
    GRADE.update()
    .where(GRADE.c.id == sql.bindparam("b_id"))
    .values(
        auto_score=sql.bindparam("b_auto"),
        needs_manual_grade=sql.bindparam("b_waits"),
    )
)
SET_COMMENT = (
    COMMENT.update()
    .where(
        COMMENT.c.notebook_id == sql.bindparam("b_notebook"),
        COMMENT.c.cell_id == sql.bindparam("b_cell"),
    )
    .values(auto_comment=sql.bindparam("b_text"))
)
