"""The gradebook in PostgreSQL: a real server, with a Unix socket of its own."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql

from jaxgrader.lock import Lock
from tests.conftest import DOUBLE, Course
from tests.postgres import server
from tests.test_autograde import RIGHT, records, write_answer
from tests.test_cli import jaxgrader

ANSWERS = {"ada": RIGHT, "bob": "def double(x):\n    return 4", "cleo": "1/0"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as address:
        yield address


@pytest.fixture(scope="module")
def course(url: str, new_course: Callable[[], Course]) -> Course:
    """A graded class."""
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    (done,) = course.nbgrader("generate_assignment ps", env={"JAXGRADER_DB_URL": url})
    assert done.status == 0, done.log
    for student, answer in ANSWERS.items():
        write_answer(course.hand_out("ps", student) / "p.ipynb", answer)
    graded = jaxgrader("autograde", "--json", cwd=course.root, JAXGRADER_DB_URL=url)
    assert graded.returncode == 0, graded.stderr
    assert records(graded).keys() == ANSWERS.keys()
    return course


def scores(url: str) -> dict[tuple[str, str], float | None]:
    engine = sql.create_engine(url, poolclass=sql.NullPool)
    with engine.connect() as database:
        rows = database.execute(
            sql.text(
                "SELECT s.student_id, c.name, g.auto_score FROM grade g"
                " JOIN base_cell c ON c.id = g.cell_id"
                " JOIN submitted_notebook n ON n.id = g.notebook_id"
                " JOIN submitted_assignment s ON s.id = n.assignment_id"
            )
        ).all()
    return {(student, cell): score for student, cell, score in rows}


def test_scores_are_those_of_sqlite(url: str, course: Course) -> None:
    assert not (course.root / "gradebook.db").exists()
    assert scores(url) == {
        ("ada", "test_visible"): 2,
        ("ada", "test_hidden"): 3,
        ("bob", "test_visible"): 2,
        ("bob", "test_hidden"): 0,
        ("cleo", "test_visible"): 0,
        ("cleo", "test_hidden"): 0,
    }


def test_a_rerun_has_nothing_to_do(url: str, course: Course) -> None:
    again = jaxgrader("autograde", "--json", cwd=course.root, JAXGRADER_DB_URL=url)
    assert again.returncode == 0, again.stderr
    assert not records(again)


def test_nbgraders_commands_go_on_from_there(url: str, course: Course) -> None:
    env = {"JAXGRADER_DB_URL": url}
    for done in course.nbgrader("generate_feedback ps", "export", env=env):
        assert done.status == 0, done.log
    assert "ada" in (course.root / "grades.csv").read_text()


def test_another_machine_is_told_that_the_course_is_held(
    url: str, course: Course, tmp_path: Path
) -> None:
    """Its file is another one: it is the database that both of them see."""
    engine = sql.create_engine(url, poolclass=sql.NullPool)
    shutil.rmtree(course.root / "autograded" / "ada")
    with Lock(tmp_path, engine):
        done = jaxgrader("autograde", cwd=course.root, JAXGRADER_DB_URL=url)
        env = {"JAXGRADER_DB_URL": url}
        (stock,) = course.nbgrader("autograde ps", env=env)
    assert done.returncode == stock.status == 1
    assert "This course is being graded by another grader" in done.stderr
    assert "This course is being graded by another grader" in stock.log
