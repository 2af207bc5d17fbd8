"""`jaxgrader export`: nbgrader's columns as nbgrader writes them, ours, round trips."""

import csv
import datetime
import io
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from jaxgrader.reporting.records import CELL, PART, STOCK, SUBMISSION
from jaxgrader.results import Outcome
from tests import postgres
from tests.conftest import Course
from tests.reporting.classes import RIGHT, UNROLLED, Answer, Class, wrong
from tests.test_autograde import change
from tests.test_cli import jaxgrader

#: What a name may be; a database holds any of it.
NAMES = {
    "comma": "Lovelace, Ada",
    "quote": 'Robert "Bobby" Tables',
    "newline": "two\nlines",
    "return": "carriage\rreturn",
    "formula": "=HYPERLINK(A1)",
    "plus": "+1",
    "tab": "\t=1+1",
    "apostrophe": "'=1",
    "blank": " =1 ",
    "semicolon": "x;=1+1",
    "greek": "Ἀριστοτέλης",
    "chinese": "李小龍",
    "arabic": "محمد",
    "emoji": "👩🏽‍🔬",
    "nul": "NULL",
    "nan": "NaN",
    "number": "007",
    "empty": "",
}
LATE = datetime.timedelta(hours=1, seconds=1.5)


def write_class(course: Course, db_url: str = "") -> Class:
    """Write a class of every kind of name, and of some answers."""
    a_class = Class(course.root, db_url=db_url)
    for assignment in ("ps", "other", "untouched"):
        a_class.add_assignment(assignment)
    for student, name in NAMES.items():
        a_class.add_student(student, last_name=name, first_name=name, email=name)
    a_class.record(
        [
            Answer("comma", RIGHT, memory=2**40),
            Answer("quote", UNROLLED, late=LATE),
            Answer("newline", wrong("AssertionError: a, \"b\"\n'c'")),
            Answer("formula", wrong("=1+1", Outcome.ERROR)),
            Answer("plus", {**RIGHT, "test_values": (Outcome.INTERNAL, None, "ours")}),
            Answer("tab", {}, unreadable="it is no notebook"),
            Answer("comma", RIGHT, assignment="other"),
        ]
    )
    return a_class


@pytest.fixture(scope="module")
def course(new_course: Callable[[], Course]) -> Course:
    course = new_course()
    write_class(course)
    return course


def export(course: Course, *more: str, **env: str) -> str:
    done = jaxgrader("export", *more, cwd=course.root, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def files(course: Course) -> Path:
    printed = export(course)
    assert printed.split() == [
        f"exports/{name}.csv" for name in ("assignments", "notebooks", "cells")
    ]
    return course.root / "exports"


def test_nbgraders_columns_are_nbgraders_own(course: Course, files: Path) -> None:
    """Stock's rows, of the students whose names stock does not break."""
    (done,) = course.nbgrader("export")
    assert done.status == 0, done.log
    stock = (course.root / "grades.csv").read_text().split("\n")
    ours = (files / "assignments.csv").read_text()
    assert stock[0] == ",".join(STOCK)
    assert ours.startswith(stock[0] + ",")
    for student in ("greek", "chinese", "arabic", "emoji", "nan", "formula", "plus"):
        lines = [line for line in stock if f",{student}," in line]
        assert len(lines) == 3
        for line in lines:
            assert f"\n{line}," in ours
    # The rest of stock's is no table; what it says of a student is the same.
    rows = [row for row in read(files / "assignments.csv")]
    assert len(rows) == 3 * len(NAMES)
    (row,) = (r for r in rows if (r["student_id"], r["assignment"]) == ("quote", "ps"))
    assert [row[name] for name in ("raw_score", "late_submission_penalty")] == [
        "2.0",
        "0.25",
    ]
    assert (row["score"], row["max_score"]) == ("1.75", "3.0")
    assert row["timestamp"] == "2026-01-31 13:00:01.500000"


def test_columns(files: Path) -> None:
    for name, ours in (
        ("assignments", SUBMISSION),
        ("notebooks", PART),
        ("cells", CELL),
    ):
        with (files / f"{name}.csv").open(newline="") as file:
            assert next(csv.reader(file)) == [*STOCK, *ours]


def test_our_columns(files: Path) -> None:
    rows = {
        row["student_id"]: row
        for row in read(files / "assignments.csv")
        if row["assignment"] == "ps"
    }
    told = {
        name: (row["state"], row["outcome"], row["tests"], row["tests_passed"])
        for name, row in rows.items()
    }
    assert told["comma"] == ("graded", "passed", "2", "2")
    assert told["quote"] == ("graded", "failed", "2", "1")
    assert told["formula"] == ("graded", "error", "2", "1")
    assert told["plus"] == ("needs manual grading", "internal", "2", "1")
    assert told["tab"] == ("failed", "", "0", "0")
    assert told["greek"] == ("not submitted", "", "0", "0")
    assert rows["quote"]["late_seconds"] == "3601.5"
    assert rows["comma"]["late_seconds"] == "0.0"
    assert rows["greek"]["late_seconds"] == ""
    assert rows["comma"]["seconds"] == "4.0"
    assert (rows["comma"]["memory"], rows["quote"]["memory"]) == (str(2**40), "")
    assert rows["tab"]["sentence"] == "it is no notebook"


def test_cells(files: Path) -> None:
    rows = [row for row in read(files / "cells.csv") if row["assignment"] == "ps"]
    assert len(rows) == 2 * len(NAMES)
    mine = {row["grade_id"]: row for row in rows if row["student_id"] == "newline"}
    assert mine["test_values"]["sentence"] == "AssertionError: a, \"b\"\n'c'"
    assert mine["test_values"]["outcome"] == "failed"
    assert (mine["test_values"]["score"], mine["test_values"]["max_score"]) == (
        "0.0",
        "2.0",
    )
    assert mine["test_structure"]["score"] == "1.0"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_names_survive_a_round_trip(course: Course, files: Path, kind: str) -> None:
    if kind == "csv":
        rows: list[dict[str, Any]] = list(read(files / "assignments.csv"))
    else:
        export(course, "--format=parquet")
        rows = pl.read_parquet(files / "assignments.parquet").to_dicts()
    for column in ("last_name", "first_name", "email"):
        found = {row["student_id"]: row[column] for row in rows}
        assert found == NAMES


def test_parquet_has_types(course: Course, files: Path) -> None:
    export(course, "--format=parquet", "ps")
    table = pl.read_parquet(files / "assignments.parquet")
    assert table.columns == [*STOCK, *SUBMISSION]
    assert table.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert table.schema["score"] == pl.Float64
    assert table["assignment"].unique().to_list() == ["ps"]
    assert len(pl.read_parquet(files / "cells.parquet")) == 2 * len(NAMES)


def test_a_spreadsheet_sees_no_formula(course: Course, tmp_path: Path) -> None:
    """On demand: the price is that such a name has an apostrophe more."""
    export(course, f"--to={tmp_path}", "--spreadsheet")
    path = tmp_path / "assignments.csv"
    text = path.read_bytes().decode("utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    for row in csv.reader(io.StringIO(text, newline="")):
        for cell in row:
            assert not cell.lstrip().startswith(("=", "+", "-", "@"))
            assert not cell.startswith(("\t", "\r", "\n"))
    # A program that takes semicolons for separators must find the cells closed.
    assert '"x;=1+1"' in text
    names = {
        r["student_id"]: r["last_name"]
        for r in csv.DictReader(io.StringIO(text, newline=""))
    }
    assert names["formula"] == "'=HYPERLINK(A1)"
    assert names["comma"] == NAMES["comma"]


def test_one_table_on_the_standard_output(course: Course) -> None:
    text = export(course, "--to=-", "--table=notebooks", "other")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {row["notebook"] for row in rows} == {"p"}
    assert {row["assignment"] for row in rows} == {"other"}
    assert math.isclose(sum(float(row["score"]) for row in rows), 3.0)
    done = jaxgrader(
        "export", "--to=-", "--table=cells", "--table=notebooks", cwd=course.root
    )
    assert done.returncode == 1
    assert "takes one table" in done.stderr


def test_an_unknown_assignment(course: Course, tmp_path: Path) -> None:
    done = jaxgrader("export", "nothing", f"--to={tmp_path}", cwd=course.root)
    assert done.returncode == 1
    assert "no assignment nothing. It has: other, ps, untouched." in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(course: Course, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = jaxgrader("export", f"--to={tmp_path}/file", cwd=course.root)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "--to" in done.stderr


def test_a_gradebook_that_only_nbgrader_knows(
    course: Course, files: Path, tmp_path: Path
) -> None:
    """No ledger: the scores are there, our columns say what the gradebook says."""
    other = Course(tmp_path)
    shutil.copy(course.root / "gradebook.db", tmp_path)
    change(other, "DROP TABLE jaxgrader_ledger")
    export(other)
    rows = read(tmp_path / "exports" / "assignments.csv")
    before = read(files / "assignments.csv")
    assert [row["score"] for row in rows] == [row["score"] for row in before]
    states = {r["student_id"]: r["state"] for r in rows if r["assignment"] == "ps"}
    assert states["comma"] == "graded"
    assert states["plus"] == "needs manual grading"


def test_postgresql_gives_the_same(
    new_course: Callable[[], Course], files: Path
) -> None:
    course = new_course()
    with postgres.server() as url:
        write_class(course, url)
        export(course, JAXGRADER_DB_URL=url)
        for name in ("assignments", "notebooks", "cells"):
            mine = read(course.root / "exports" / f"{name}.csv")
            key = "student_id", "assignment", "grade_id"
            assert ordered(mine, *key) == ordered(read(files / f"{name}.csv"), *key)


def ordered(rows: list[dict[str, str]], *keys: str) -> list[dict[str, str]]:
    """Databases order names by their own rules."""
    return sorted(rows, key=lambda row: [row.get(key, "") for key in keys])
