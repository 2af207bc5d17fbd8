"""Bad input through the real commands: each gets its own clear message."""

import json
from collections.abc import Callable

import pytest

from demo.commands import Finished
from tests.conftest import DOUBLE, Course

RIGHT = "def double(x):\n    return 2 * x"


@pytest.fixture(scope="module")
def graded(new_course: Callable[[], Course]) -> tuple[Course, Finished]:
    """A class of bad submissions, and the log of one `nbgrader autograde` of it."""
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps")
    for student in ("good", "half", "latin", "list", "renamed", "empty", "zero"):
        folder = course.hand_out("ps", student)
        notebook = folder / "p.ipynb"
        text = notebook.read_text()
        if student == "good":
            nb = json.loads(text)
            nb["cells"][1]["source"] = RIGHT
            notebook.write_text(json.dumps(nb))
        elif student == "half":
            notebook.write_text(text[: len(text) // 2])
        elif student == "latin":
            notebook.write_bytes('{"cells": "é"}'.encode("latin-1"))
        elif student == "list":
            notebook.write_text("[1, 2]")
        elif student == "renamed":
            notebook.rename(folder / "p-final.ipynb")
        elif student == "empty":
            notebook.unlink()
        elif student == "zero":
            notebook.write_text("")
    before = snapshot(course)
    (done,) = course.nbgrader("autograde ps")
    assert snapshot(course) == before, "submitted files are never modified"
    return course, done


def snapshot(course: Course) -> dict[str, bytes]:
    submitted = course.root / "submitted"
    return {
        str(path.relative_to(submitted)): path.read_bytes()
        for path in submitted.rglob("*")
        if path.is_file()
    }


def test_the_rest_of_the_class_is_graded(graded: tuple[Course, Finished]) -> None:
    course, done = graded
    assert course.scores("good", "ps") == {"test_visible": 2, "test_hidden": 3}
    assert done.status == 1, "nbgrader's own status for a batch with failures"


@pytest.mark.parametrize(
    ("student", "what"),
    [
        ("half", "cannot be read as a notebook (NotJSONError"),
        ("latin", "cannot be read as a notebook (UnicodeDecodeError"),
        ("list", "cannot be read as a notebook ("),
        ("zero", "cannot be read as a notebook (NotJSONError"),
        ("renamed", "lacks p.ipynb, but has p-final.ipynb"),
        ("empty", "is empty: p.ipynb is missing"),
    ],
)
def test_bad_submission(
    graded: tuple[Course, Finished], student: str, what: str
) -> None:
    course, done = graded
    where = f"submitted/{student}/ps"
    (line,) = (line for line in done.log.splitlines() if where in line and what in line)
    assert f"`nbgrader autograde ps --student={student}`" in line, "says what next"
    assert not any(course.scores(student, "ps").values()), "no verdict, no score"
    assert not (course.root / "autograded" / student / "ps" / "p.ipynb").exists()


def test_mended_submission_is_graded_on_the_next_run(
    graded: tuple[Course, Finished],
) -> None:
    course, _ = graded
    good = course.root / "submitted" / "good" / "ps" / "p.ipynb"
    mended = course.root / "submitted" / "half" / "ps" / "p.ipynb"
    mended.write_bytes(good.read_bytes())
    course.nbgrader("autograde ps --student=half")
    assert course.scores("half", "ps") == {"test_visible": 2, "test_hidden": 3}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("autograde nosuch", "The assignments of this course are: ps."),
        ("autograde ps --student=nobody", "Submissions are there from: empty, good"),
    ],
)
def test_unknown_name(graded: tuple[Course, Finished], line: str, what: str) -> None:
    course, _ = graded
    (done,) = course.nbgrader(line)
    assert done.status == 1
    assert what in done.log
    assert "Traceback" not in done.log


def test_assignment_nobody_submitted(new_course: Callable[[], Course]) -> None:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    (_, done) = course.nbgrader("generate_assignment ps", "autograde ps")
    assert done.status == 1
    assert "Run `nbgrader collect ps` first" in done.log


def test_first_gradebook_has_its_version_without_an_activated_environment(
    graded: tuple[Course, Finished],
) -> None:
    # BARE's PATH does not lead to alembic; stock nbgrader leaves no version here.
    course, _ = graded
    assert len(course.query("SELECT version_num FROM alembic_version")) == 1


def test_log_has_no_noise_about_sessions(graded: tuple[Course, Finished]) -> None:
    _, done = graded
    assert "SAWarning" not in done.log
