"""Bad input through the real commands: each gets its own clear message."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.commands import Finished
from tests.conftest import BARE, DOUBLE, Course

RIGHT = "def double(x):\n    return 2 * x"


#: student -> what they hand in, given their folder and the release's text.
BAD: dict[str, Callable[[Path, str], object]] = {
    "half": lambda folder, text: (folder / "p.ipynb").write_text(text[:300]),
    "latin": lambda folder, text: (folder / "p.ipynb").write_bytes(
        b'{"cells": "\xe9"}'
    ),
    "list": lambda folder, text: (folder / "p.ipynb").write_text("[1, 2]"),
    "zero": lambda folder, text: (folder / "p.ipynb").write_text(""),
    "renamed": lambda folder, text: (folder / "p.ipynb").rename(folder / "mine.ipynb"),
    "empty": lambda folder, text: (folder / "p.ipynb").unlink(),
    "folder": lambda folder, text: (folder / "p.ipynb").rename(folder / "q"),
    "linked": lambda folder, text: (folder / "data").symlink_to("/etc/passwd"),
    "dangling": lambda folder, text: (folder / "data").symlink_to("nowhere"),
    "stamped": lambda folder, text: (folder / "timestamp.txt").write_text("yesterday"),
}


def write_answer(notebook: Path, text: str, answer: str = RIGHT) -> None:
    nb = json.loads(text)
    nb["cells"][1]["source"] = answer
    notebook.write_text(json.dumps(nb))


@pytest.fixture(scope="module")
def graded(new_course: Callable[[], Course]) -> tuple[Course, Finished]:
    """A class of bad submissions, and the log of one `nbgrader autograde` of it."""
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps")
    text = (course.root / "release" / "ps" / "p.ipynb").read_text()
    for student, spoil in BAD.items():
        spoil(course.hand_out("ps", student), text)
    (course.root / "submitted" / "folder" / "ps" / "p.ipynb").mkdir()
    for student in ("a-first", "zz-last"):
        write_answer(course.hand_out("ps", student) / "p.ipynb", text)
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


@pytest.mark.parametrize("student", ["a-first", "zz-last"])
def test_the_rest_of_the_class_is_graded(
    graded: tuple[Course, Finished], student: str
) -> None:
    course, done = graded
    assert course.scores(student, "ps") == {"test_visible": 2, "test_hidden": 3}
    assert done.status == 1, "nbgrader's own status for a batch with failures"


@pytest.mark.parametrize(
    ("student", "what"),
    [
        ("half", "p.ipynb cannot be read as a notebook (NotJSONError"),
        ("latin", "p.ipynb cannot be read as a notebook (UnicodeDecodeError"),
        ("list", "p.ipynb cannot be read as a notebook ("),
        ("zero", "p.ipynb cannot be read as a notebook (NotJSONError"),
        ("renamed", "it lacks p.ipynb, but has mine.ipynb"),
        ("empty", "is empty: p.ipynb is missing"),
        ("folder", "p.ipynb cannot be read as a notebook (IsADirectoryError"),
        ("linked", "data is a symbolic link"),
        ("dangling", "data is a symbolic link"),
        ("stamped", "timestamp.txt holds no time (ParserError"),
    ],
)
def test_bad_submission(
    graded: tuple[Course, Finished], student: str, what: str
) -> None:
    course, done = graded
    where = f"submitted/{student}/ps"
    (line,) = (line for line in done.log.splitlines() if where in line and what in line)
    assert f"`nbgrader autograde ps --student={student}`" in line, "says what next"
    assert "earlier submission" not in line
    assert not course.scores(student, "ps"), "no verdict, no score"
    assert not (course.root / "autograded" / student / "ps" / "p.ipynb").exists()


def test_no_traceback_hides_the_messages(graded: tuple[Course, Finished]) -> None:
    _, done = graded
    assert "Traceback" not in done.log
    assert "Not graded, see the messages above: submitted/dangling/ps, " in done.log


def test_unreadable_resubmission_loses_nothing(
    new_course: Callable[[], Course],
) -> None:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps")
    folder = course.hand_out("ps", "someone")
    write_answer(folder / "p.ipynb", (folder / "p.ipynb").read_text())
    (folder / "timestamp.txt").write_text("2026-01-01 10:00:00 UTC")
    course.nbgrader("autograde ps")
    result = course.root / "autograded" / "someone" / "ps" / "p.ipynb"
    before = result.read_bytes()
    (folder / "timestamp.txt").write_text("2026-01-02 10:00:00 UTC")
    (folder / "p.ipynb").write_text("{")
    (done,) = course.nbgrader("autograde ps")
    assert done.status == 1
    assert "The result and the score of an earlier submission still stand" in done.log
    assert result.read_bytes() == before
    assert course.scores("someone", "ps") == {"test_visible": 2, "test_hidden": 3}


def test_configuration_that_does_not_load_grades_nothing(
    new_course: Callable[[], Course],
) -> None:
    course = new_course()
    course.write_source("ps", "p", DOUBLE)
    course.nbgrader("generate_assignment ps")
    course.hand_out("ps", "someone")
    config = course.root / "nbgrader_config.py"
    course_part, kernels, rest = config.read_text().partition("# ---- Kernels")
    config.write_text(f"{course_part}1 / 0\n{kernels}{rest}")
    (done,) = course.nbgrader("autograde ps")
    assert done.status == 1
    assert "Nothing is graded: nbgrader_config.py did not load to its end" in done.log
    assert not (course.root / "autograded").exists()


def test_button_of_the_formgrader_says_the_same(
    graded: tuple[Course, Finished],
) -> None:
    course, _ = graded
    program = (
        "import json; from nbgrader.apps import NbGrader; "
        "from nbgrader.apps.api import NbGraderAPI; from nbgrader.coursedir import "
        "CourseDirectory; app = NbGrader(); app.load_config_file(); "
        "api = NbGraderAPI(CourseDirectory(parent=app), parent=app); "
        "print(json.dumps(api.autograde('ps', 'half')))"
    )
    python = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(
        python, cwd=course.root, env=BARE, capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["success"] is False
    assert "submitted/half/ps: p.ipynb cannot be read as a notebook" in answer["log"]


def test_mended_submission_is_graded_on_the_next_run(
    graded: tuple[Course, Finished],
) -> None:
    course, _ = graded
    good = course.root / "submitted" / "a-first" / "ps" / "p.ipynb"
    mended = course.root / "submitted" / "list" / "ps" / "p.ipynb"
    mended.write_bytes(good.read_bytes())
    course.nbgrader("autograde ps --student=list")
    assert course.scores("list", "ps") == {"test_visible": 2, "test_hidden": 3}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("autograde nosuch", "Its assignments: ps."),
        (
            "autograde ps --student=nobody",
            "Submissions are there from: a-first, dangling",
        ),
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
