"""The records are of one moment, and cost the same number of statements."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql
from sqlalchemy.engine import Engine

from jaxgrader.reporting.records import moment, read_records
from jaxgrader.rows import STUDENT, SUBMITTED
from tests import postgres
from tests.reporting.classes import RIGHT, Answer, Class


@pytest.fixture(params=["sqlite", "postgresql"])
def a_class(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Class]:
    if request.param == "sqlite":
        yield Class(tmp_path)
        return
    with postgres.server() as url:
        yield Class(tmp_path, db_url=url)


def open_engine(a_class: Class) -> Engine:
    return sql.create_engine(a_class.url, poolclass=sql.NullPool)


def test_what_a_batch_writes_meanwhile_is_not_seen(a_class: Class) -> None:
    a_class.add_assignment()
    a_class.record([Answer("ada", RIGHT)])
    engine = open_engine(a_class)
    students = sql.select(STUDENT.c.id)
    submitted = sql.select(SUBMITTED.c.student_id)
    with moment(engine) as database:
        assert len(database.execute(students).all()) == 1
        a_class.record([Answer("bob", RIGHT)])
        assert len(database.execute(students).all()) == 1
        assert len(database.execute(submitted).all()) == 1
    with moment(engine) as database:
        assert len(database.execute(submitted).all()) == 2


def test_a_larger_class_takes_no_more_statements(tmp_path: Path) -> None:
    a_class = Class(tmp_path)
    a_class.add_assignment()
    a_class.record([Answer("ada", RIGHT)])
    engine, statements = open_engine(a_class), []
    sql.event.listen(
        engine, "before_cursor_execute", lambda *call: statements.append(call[2])
    )
    read_records(engine)
    few = len(statements)
    for name in ("second", "third"):
        a_class.add_assignment(name)
    a_class.record(
        Answer(f"s{number}", RIGHT, assignment=name)
        for number in range(20)
        for name in ("ps", "second", "third")
    )
    statements.clear()
    records = read_records(engine)
    assert len(statements) == few
    assert len(records.submissions) == 3 * 21
