"""A class's records as frames: the gradebook and the ledger, each table read once.

What it is: the one reader behind exports and report. What it is not: a writer.

Guarantees: one moment of the course, also while a batch writes; scores as nbgrader
computes them; students who handed nothing in are there, with score 0, as in nbgrader's
own export. The number of statements does not depend on the size of the class.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import polars as pl
import sqlalchemy as sql
from nbgrader import api
from sqlalchemy.engine import Connection, Engine

from jaxgrader.errors import CourseError
from jaxgrader.results import Outcome
from jaxgrader.rows import ASSIGNMENT, GRADE, NOTEBOOK, STUDENT, SUBMITTED
from jaxgrader.store import LEDGER, State, state_of

#: nbgrader's columns, in the order of its own export.
STOCK = (
    "assignment",
    "duedate",
    "timestamp",
    "student_id",
    "last_name",
    "first_name",
    "email",
    "raw_score",
    "late_submission_penalty",
    "score",
    "max_score",
)
#: Ours, of a submission, of a notebook and of a test cell.
SUBMISSION = (
    "state",
    "outcome",
    "late_seconds",
    "tests",
    "tests_passed",
    "needs_manual_grade",
    "seconds",
    "memory",
    "host",
    "sentence",
)
PART = (
    "notebook",
    "outcome",
    "tests",
    "tests_passed",
    "needs_manual_grade",
    "seconds",
    "memory",
)
CELL = (
    "notebook",
    "grade_id",
    "cell_type",
    "outcome",
    "auto_score",
    "manual_score",
    "extra_credit",
    "needs_manual_grade",
    "protected",
    "seconds",
    "sentence",
)
#: Where nothing was handed in.
NOT_SUBMITTED = "not submitted"


@dataclass(frozen=True)
class Records:
    """One moment of a course; each frame begins with nbgrader's columns."""

    assignments: tuple[str, ...]
    #: By student and assignment; then by notebook; then by cell that has points.
    submissions: pl.DataFrame
    notebooks: pl.DataFrame
    cells: pl.DataFrame
    #: The author's text of each cell that has points: assignment, notebook, grade_id.
    sources: pl.DataFrame


@dataclass(frozen=True)
class Tables:
    """The database's tables as they are, of the assignments that were asked for."""

    assignments: pl.DataFrame
    notebooks: pl.DataFrame
    cells: pl.DataFrame
    students: pl.DataFrame
    submitted: pl.DataFrame
    parts: pl.DataFrame
    grades: pl.DataFrame
    ledger: pl.DataFrame
    verdicts: pl.DataFrame


def read_records(engine: Engine, names: Sequence[str] = ()) -> Records:
    """Read the named assignments, all if none is named.

    Raises:
        CourseError: for an assignment that the gradebook does not know.
    """
    with moment(engine) as database:
        tables = read_tables(database, names)
    cells = cell_frame(tables)
    notebooks = notebook_frame(tables, cells)
    sources = tables.cells.join(tables.notebooks, on="book")
    sources = sources.join(tables.assignments, on="task")
    return Records(
        tuple(tables.assignments["assignment"]),
        submissions=submission_frame(tables, cells, notebooks),
        notebooks=notebooks.select(*STOCK, *PART),
        cells=cells.select(*STOCK, *CELL),
        sources=sources.select("assignment", "notebook", "grade_id", "source"),
    )


@contextmanager
def moment(engine: Engine) -> Iterator[Connection]:
    """Yield a connection that sees the database as it is now, whoever writes."""
    lite = engine.dialect.name == "sqlite"
    with engine.connect() as database:
        if lite:  # whose driver begins no transaction for reading
            database.exec_driver_sql("BEGIN")
        else:
            database.execution_options(isolation_level="REPEATABLE READ")
        yield database
        database.rollback()


# ---- The database's tables ----------------------------------------------------------

TEXT, REAL, WHOLE, YES, TIME = (
    pl.String,
    pl.Float64,
    pl.Int64,
    pl.Boolean,
    pl.Datetime("us"),
)
SPAN = pl.Duration("us")
SOURCE = api.SourceCell.__table__
BASE = api.BaseCell.__table__
BOOK = api.Notebook.__table__
#: The two kinds of cells that have points.
POINTS = (api.GradeCell.__table__, api.TaskCell.__table__)


def read_tables(database: Connection, names: Sequence[str]) -> Tables:
    """Read what there is of the named assignments, of all if none is named."""
    table = ASSIGNMENT.c
    query = sql.select(table.id, table.name, table.duedate)
    query = query.order_by(table.duedate, table.name)
    schema = {"task": TEXT, "assignment": TEXT, "duedate": TIME}
    assignments = frame(database, query, schema)
    known = assignments["assignment"].to_list()
    if unknown := [name for name in names if name not in known]:
        message = UNKNOWN.format(names=", ".join(unknown), known=", ".join(known))
        raise CourseError(message)
    if names:
        assignments = assignments.filter(pl.col("assignment").is_in(list(names)))
    tasks = assignments["task"].to_list()
    cells = read_cells(database, tasks)
    ledger, verdicts = read_ledger(database, assignments["assignment"].to_list())
    return Tables(
        assignments.with_row_index("order"),
        frame(
            database,
            sql.select(BOOK.c.id, BOOK.c.assignment_id, BOOK.c.name)
            .where(BOOK.c.assignment_id.in_(tasks))
            .order_by(BOOK.c.name),
            {"book": TEXT, "task": TEXT, "notebook": TEXT},
        ).with_row_index("place"),
        cells,
        read_students(database),
        frame(
            database,
            sql.select(
                SUBMITTED.c.id,
                SUBMITTED.c.assignment_id,
                SUBMITTED.c.student_id,
                SUBMITTED.c.timestamp,
                SUBMITTED.c.extension,
            ).where(SUBMITTED.c.assignment_id.in_(tasks)),
            {
                "submission": TEXT,
                "task": TEXT,
                "student_id": TEXT,
                "timestamp": TIME,
                "extension": SPAN,
            },
        ),
        read_parts(database, tasks),
        read_grades(database, cells["cell"].to_list()),
        ledger,
        verdicts,
    )


def read_cells(database: Connection, tasks: list[str]) -> pl.DataFrame:
    """Read all cells that have points, with the author's text."""
    found = [
        sql.select(
            BASE.c.id,
            BASE.c.notebook_id,
            BASE.c.name,
            table.c.cell_type,
            table.c.max_score,
            SOURCE.c.source,
        )
        .join(BASE, BASE.c.id == table.c.id)
        .join(BOOK, BOOK.c.id == BASE.c.notebook_id)
        .outerjoin(
            SOURCE,
            sql.and_(
                SOURCE.c.notebook_id == BASE.c.notebook_id, SOURCE.c.name == BASE.c.name
            ),
        )
        .where(BOOK.c.assignment_id.in_(tasks))
        for table in POINTS
    ]
    schema = {
        "cell": TEXT,
        "book": TEXT,
        "grade_id": TEXT,
        "cell_type": TEXT,
        "points": REAL,
        "source": TEXT,
    }
    return frame(database, sql.union_all(*found), schema)


def read_students(database: Connection) -> pl.DataFrame:
    """Read the class, in the order of nbgrader's export."""
    table = STUDENT.c
    names = ("last_name", "first_name", "id")
    query = sql.select(table.id, table.last_name, table.first_name, table.email)
    query = query.order_by(*(table[name] for name in names))
    schema = dict.fromkeys(("student_id", "last_name", "first_name", "email"), TEXT)
    return frame(database, query, schema).with_row_index("rank")


def read_parts(database: Connection, tasks: list[str]) -> pl.DataFrame:
    """Read the submitted notebooks, with what lateness costs."""
    table = NOTEBOOK.c
    query = (
        sql.select(
            table.id, table.assignment_id, table.notebook_id, PENALTY.label("penalty")
        )
        .join(BOOK, BOOK.c.id == table.notebook_id)
        .where(BOOK.c.assignment_id.in_(tasks))
    )
    schema = {"part": TEXT, "submission": TEXT, "book": TEXT, "penalty": REAL}
    return frame(database, query, schema)


PENALTY = NOTEBOOK.c.late_submission_penalty


def read_grades(database: Connection, cells: list[str]) -> pl.DataFrame:
    """Read the grades of some cells: nbgrader's indexes begin with the cell."""
    table = GRADE.c
    query = sql.select(
        table.notebook_id,
        table.cell_id,
        table.auto_score,
        table.manual_score,
        table.extra_credit,
        table.needs_manual_grade,
    ).where(table.cell_id.in_(cells))
    schema = {
        "part": TEXT,
        "cell": TEXT,
        "auto_score": REAL,
        "manual_score": REAL,
        "extra_credit": REAL,
        "needs_manual_grade": YES,
    }
    return frame(database, query, schema)


def read_ledger(
    database: Connection, names: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read what the batch recorded: of submissions, and of their tests."""
    table = LEDGER.c
    query = sql.select(LEDGER).where(table.assignment.in_(names))
    there = sql.inspect(database).has_table(LEDGER.name)
    rows = database.execute(query).all() if there else []
    entries, verdicts = [], []
    for row in rows:
        key = row.assignment, row.student
        entries.append((*key, str(state_of(row)), row.seconds, row.host, row.sentence))
        for notebook, tests in json.loads(row.results or "{}").items():
            verdicts += [
                (*key, notebook, *(test.get(name) for name in VERDICT))
                for test in tests
            ]
    ids = {"assignment": TEXT, "student_id": TEXT}
    ledger = {"recorded": TEXT, "seconds": REAL, "host": TEXT, "sentence": TEXT}
    return (
        pl.DataFrame(entries, schema={**ids, **ledger}, orient="row"),
        pl.DataFrame(
            verdicts, schema={**ids, "notebook": TEXT, **VERDICT}, orient="row"
        ),
    )


#: What is read of a `TestResult`.
VERDICT = {
    "grade_id": TEXT,
    "outcome": TEXT,
    "protected": YES,
    "seconds": REAL,
    "memory": WHOLE,
    "sentence": TEXT,
}


def frame(database: Connection, query: Any, schema: dict[str, Any]) -> pl.DataFrame:
    """Return what a query finds, under names of ours."""
    rows = list(map(tuple, database.execute(query).all()))
    return pl.DataFrame(rows, schema=schema, orient="row")


# ---- Frames by student ------------------------------------------------------------

RANK = ("order", "rank")


def all_pairs(tables: Tables) -> pl.DataFrame:
    """Return each assignment with each student, and what was handed in of it."""
    pairs = tables.assignments.join(tables.students, how="cross")
    return pairs.join(tables.submitted, on=["task", "student_id"], how="left")


def cell_frame(tables: Tables) -> pl.DataFrame:
    """Return each student's score for each cell that has points."""
    auto, manual = pl.col("auto_score"), pl.col("manual_score")
    score = pl.coalesce(manual, auto) + pl.col("extra_credit").fill_null(0.0)
    return (
        all_pairs(tables)
        .join(tables.notebooks, on="task")
        .join(tables.cells, on="book")
        .join(tables.parts, on=["submission", "book"], how="left")
        .join(tables.grades, on=["part", "cell"], how="left")
        .join(
            tables.verdicts,
            on=["assignment", "student_id", "notebook", "grade_id"],
            how="left",
        )
        .with_columns(
            raw_score=score.fill_null(0.0),
            score=score.fill_null(0.0),
            # Lateness is a matter of the whole notebook.
            late_submission_penalty=pl.lit(None, REAL),
            max_score=pl.col("points"),
        )
        .sort(*RANK, "place", "grade_id")
    )


def notebook_frame(tables: Tables, cells: pl.DataFrame) -> pl.DataFrame:
    """Return each student's score for each notebook."""
    points = tables.cells.group_by("book").agg(max_score=pl.col("points").sum())
    return (
        all_pairs(tables)
        .join(tables.notebooks, on="task")
        .join(tables.parts, on=["submission", "book"], how="left")
        .join(points, on="book", how="left")
        .join(totals(cells, "book"), on=["task", "student_id", "book"], how="left")
        .with_columns(
            pl.col("raw_score", "max_score").fill_null(0.0),
            late_submission_penalty=pl.col("penalty").fill_null(0.0),
        )
        .with_columns(score=NET)
        .sort(*RANK, "place")
    )


def submission_frame(
    tables: Tables, cells: pl.DataFrame, notebooks: pl.DataFrame
) -> pl.DataFrame:
    """Return each student's score for each assignment."""
    due = pl.col("duedate") + pl.col("extension").fill_null(pl.duration())
    late = (pl.col("timestamp") - due).dt.total_microseconds() / 1e6
    here = pl.col("submission").is_not_null()
    wanting = pl.when(pl.col("needs_manual_grade")).then(pl.lit(State.MANUAL.value))
    derived = pl.when(here).then(wanting.otherwise(pl.lit(State.GRADED.value)))
    pair = ["task", "student_id"]
    points = notebooks.group_by(pair).agg(
        pl.col("late_submission_penalty", "max_score").sum()
    )
    return (
        all_pairs(tables)
        .join(points, on=pair, how="left")
        .join(totals(cells).drop("seconds"), on=pair, how="left")
        .join(tables.ledger, on=["assignment", "student_id"], how="left")
        .with_columns(
            pl.col("raw_score", "max_score", "late_submission_penalty").fill_null(0.0),
            late_seconds=late.clip(lower_bound=0.0),
            state=pl.coalesce("recorded", derived, pl.lit(NOT_SUBMITTED)),
        )
        .with_columns(score=NET)
        .sort(*RANK)
        .select(*STOCK, *SUBMISSION)
    )


def totals(cells: pl.DataFrame, *more: str) -> pl.DataFrame:
    """Add up cells by student and assignment, and by what else is named."""
    outcome = pl.col("outcome")
    return cells.group_by("task", "student_id", *more).agg(
        raw_score=pl.col("raw_score").sum(),
        tests=outcome.count(),
        tests_passed=(outcome == Outcome.PASSED.value).sum(),
        # What a human should look at first.
        outcome=outcome.cast(pl.Enum(WORST), strict=False).max().cast(TEXT),
        needs_manual_grade=pl.col("needs_manual_grade").fill_null(False).any(),
        seconds=pl.col("seconds").sum(),
        # Each test of a notebook tells of the one kernel; 0 is not known.
        memory=pl.col("memory").replace(0, None).max(),
    )


#: As nbgrader has it: lateness takes no more than there is.
NET = pl.max_horizontal(
    pl.lit(0.0), pl.col("raw_score") - pl.col("late_submission_penalty")
)
#: The outcomes, from good to bad.
WORST = [
    each.value
    for each in (
        Outcome.PASSED,
        Outcome.FAILED,
        Outcome.ERROR,
        Outcome.TIMEOUT,
        Outcome.MEMORY,
        Outcome.CRASHED,
        Outcome.INTERNAL,
    )
]

UNKNOWN = (
    "The gradebook has no assignment {names}. It has: {known}. Check the name, or run "
    "`nbgrader generate_assignment` first."
)
