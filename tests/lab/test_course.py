"""The course as the panel reads it: never writing, from both kinds of gradebook."""

import os
import sys
from pathlib import Path

import pytest
import sqlalchemy as sql
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import OperationalError

from jaxgrader.lab.course import Gradebook, Snapshot
from jaxgrader.rows import Submission
from jaxgrader.store import LEDGER, Store
from tests import postgres

ADA = Submission("ada", "ps", Path(), "", "")


@pytest.fixture(autouse=True)
def _alembic(monkeypatch: pytest.MonkeyPatch) -> None:
    """nbgrader starts it by its bare name when it makes a gradebook."""
    programs = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", programs, prepend=os.pathsep)


def course_at(root: Path, db_url: str) -> CourseDirectory:
    return CourseDirectory(root=str(root), db_url=db_url, course_id="jax")


def test_a_gradebook_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    book = Gradebook(course_at(tmp_path, f"sqlite:///{tmp_path}/gradebook.db"))
    assert book.ledger() == []
    assert not list(tmp_path.iterdir())


def test_sqlite_is_opened_for_reading(tmp_path: Path) -> None:
    folder = tmp_path / "a? b#c"
    folder.mkdir()
    course = course_at(folder, f"sqlite:///{folder}/gradebook.db")
    store = Store(course)
    store.queue([ADA])
    book = Gradebook(course)
    assert [row.student for row in book.ledger()] == ["ada"]
    with book.engine.begin() as database, pytest.raises(OperationalError):
        database.execute(sql.delete(LEDGER))
    # Nobody holds the course: what is queued is left of a batch that was killed.
    snapshot = Snapshot(book, {("ps", "ada"): "missing"}, "2026")
    assert snapshot.submissions["ps"]["ada"]["state"] == "not graded"
    assert snapshot.batch() is None
    store.close()


def test_postgresql_may_be_graded_from_a_machine_whose_lock_is_not_seen(
    tmp_path: Path,
) -> None:
    with postgres.server() as url:
        course = course_at(tmp_path, url)
        book = Gradebook(course)
        assert book.ledger() == []
        store = Store(course)
        store.queue([ADA])
        snapshot = Snapshot(book, {}, "")
        assert snapshot.submissions["ps"]["ada"]["state"] == "queued"
        batch = snapshot.batch()
        assert batch is not None
        assert (batch["holder"], batch["total"]) == (None, 1)
        store.close()
